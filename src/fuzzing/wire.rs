//! What comes to media ports.

use crate::media::dtls::{DtlsIdentity, Handshake};
use crate::media::session::SessionEvent;
use crate::media::stun::BindingRequest;
use crate::media::{Port, Session, SessionSnapshot, Sink};
use crate::rtp::Packet;
use crate::rtp::event::TelephoneEvent;
use crate::rtp::report::{ReceiverStats, read};
use crate::rtp::srtp::{Profile, Unprotect};
use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

/// Binding requests of browsers, and the answer of a public STUN server.
pub(super) fn stun(bytes: &[u8]) {
    if let Some(request) = BindingRequest::parse(bytes) {
        black_box((
            request.local_ufrag(),
            request.remote_ufrag(),
            request.is_authentic("password"),
        ));
        black_box(request.success(([192, 0, 2, 1], 1).into(), "password"));
    }
    let id = bytes.get(8..).and_then(|rest| rest.first_chunk()).unwrap_or(&[0; 12]);
    black_box(crate::transport::stun::mapped(bytes, id));
}

/// RTP headers, and SRTP of a stranger.
pub(super) fn rtp(bytes: &[u8]) {
    if let Some(packet) = Packet::parse(bytes, true) {
        assert!(packet.payload(bytes).len() <= bytes.len());
        for number in 1..=15 {
            assert!(packet.audio_level(bytes, number).is_none_or(|level| level < 128));
        }
    }
    for profile in [Profile::AeadAes128Gcm, Profile::Aes128CmHmacSha1_80] {
        let mut context = Unprotect::new(profile, &[1; 16], &[2; 14][..profile.salt_len()]);
        assert!(context.rtp(&mut bytes.to_vec()).is_err(), "nobody guesses a tag");
        black_box(context.rtcp(&mut bytes.to_vec()).is_err());
    }
}

/// Compound RTCP.
pub(super) fn rtcp(bytes: &[u8]) {
    let mut reception = ReceiverStats::new(1);
    black_box(read(Instant::now(), 1 << 40, bytes, 7, Some(&mut reception)).is_some());
}

/// Telephone events.
pub(super) fn event(bytes: &[u8]) {
    let Some(event) = TelephoneEvent::parse(bytes) else { return };
    assert_eq!(TelephoneEvent::parse(&event.to_bytes()), Some(event), "as it was written");
    black_box(crate::rtp::event::digit_of(bytes[0]));
}

/// Datagrams on a connection (RFC 4571).
pub(super) fn framing(bytes: &[u8]) {
    let total: usize = crate::worker::streams::datagrams(bytes).iter().map(Vec::len).sum();
    assert!(total <= bytes.len(), "more comes out than came in");
}

static IDENTITY: LazyLock<Arc<DtlsIdentity>> =
    LazyLock::new(|| Arc::new(DtlsIdentity::generate().expect("a certificate")));

/// Datagrams of a DTLS client, each behind two bytes of length, to an end that nobody spoke to.
pub(super) fn dtls(bytes: &[u8]) {
    let mut handshake = Handshake::new(Arc::clone(&IDENTITY), vec![[7; 32]]);
    let now = Instant::now();
    for datagram in crate::worker::streams::datagrams(bytes).iter().take(8) {
        let keys = handshake.receive(now, datagram, &mut |_| {});
        assert!(!matches!(keys, Ok(Some(_))), "nobody has the key of that certificate");
    }
    black_box(handshake.fire(now + Duration::from_secs(1), &mut |_| {}).is_ok());
}

struct Nowhere;

impl Sink for Nowhere {
    fn send(&mut self, _: Port, _: SocketAddr, _: &[u8]) {}
    fn event(&mut self, _: SessionEvent) {}
}

/// A media record that is torn, bent or foreign.
pub(super) fn snapshot(bytes: &[u8]) {
    let Ok(snapshot) = SessionSnapshot::from_bytes(bytes) else { return };
    let (now, taken) = (Instant::now(), snapshot.taken);
    let Ok(mut session) = Session::restore(snapshot, now, taken, &IDENTITY) else { return };
    for n in 0..50 {
        session.fire(now + Duration::from_millis(20) * n, &mut Nowhere);
    }
    let again = session.checkpoint(now, taken).to_bytes();
    assert!(SessionSnapshot::from_bytes(&again).is_ok());
}
