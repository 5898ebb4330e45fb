//! SIP and SDP.

use crate::codec::Codec;
use crate::sdp::crypto::{Crypto, LocalKeys, Policy};
use crate::sdp::offer_answer::{LegKind, Local, Negotiation};
use crate::sdp::{Description, Direction};
use crate::sip::build::MessageWriter;
use crate::sip::digest::{Algorithm, Answering, Authenticator, Secret};
use crate::sip::header::{NameAddr, Via, comma_list, delta_seconds};
use crate::sip::multipart::{is_optional, media_type, parts};
use crate::sip::parse::Framing;
use crate::sip::preferences::{Preferences, features_of};
use crate::sip::remarks::remarks;
use crate::sip::salvage::salvage;
use crate::sip::session_timer::{SessionExpires, min_se};
use crate::sip::status::Method;
use crate::sip::stream::Framer;
use crate::sip::{Message, Uri};
use std::hint::black_box;

/// A message of one header of these bytes.
fn with(start: &str, header: &str, value: &[u8]) -> Option<Message> {
    let head = format!(
        "{start}\r\nVia: SIP/2.0/UDP h;branch=z9hG4bKf\r\nFrom: <sip:a@b>;tag=1\r\n\
         To: <sip:a@b>\r\nCall-ID: f\r\nCSeq: 1 INVITE\r\nMax-Forwards: 70\r\n{header}"
    );
    let bytes = [head.as_bytes(), value, b"\r\nContent-Length: 0\r\n\r\n"].concat();
    Message::parse(bytes, Framing::Datagram).ok()
}

const INVITE: &str = "INVITE sip:a@b SIP/2.0";

/// Datagrams, WebSocket frames and streams. What is sound is answered, and the answer is read as
/// it was meant; a stream in two pieces has the same messages as in one.
pub(super) fn sip(bytes: &[u8]) {
    black_box(salvage(bytes));
    black_box(Message::parse(bytes.to_vec(), Framing::WebSocket).is_ok());
    if let Ok(message) = Message::parse(bytes.to_vec(), Framing::Datagram) {
        black_box(remarks(&message));
        black_box(message.to_bytes());
        if message.check().is_ok() && message.is_request() {
            let response = MessageWriter::response(&message, 200, Some("t")).end();
            let back =
                Message::parse(response.to_vec(), Framing::WebSocket).expect("ours is sound");
            assert_eq!(back.call_id(), message.call_id());
        }
    }
    let count = |pieces: &[&[u8]]| {
        let (mut framer, mut count) = (Framer::default(), 0);
        for piece in pieces {
            framer.push(piece);
            while let Ok(Some(_)) = framer.next_frame() {
                count += 1;
                assert!(count <= bytes.len(), "a stream without end");
            }
        }
        count
    };
    let (head, tail) = bytes.split_at(bytes.len() / 2);
    assert!(count(&[head, tail]) >= usize::from(count(&[bytes]) > 0), "pieces are lost");
}

/// From, To, Contact, Route and their like, alone and in lists.
pub(super) fn address(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for value in comma_list(&text) {
        if let Ok(address) = NameAddr::parse(value) {
            black_box((address.display_name(), address.tag(), address.uri.number()));
            black_box(features_of(&address));
        }
    }
    if let Some(message) = with(INVITE, "Contact: ", bytes) {
        black_box((message.contact().is_some(), message.check().is_ok()));
    }
}

/// Via, and where a response to it goes.
pub(super) fn via(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(via) = Via::parse(&text) {
        black_box((via.branch(), via.host, via.port));
    }
    let head = [
        b"OPTIONS sip:a SIP/2.0\r\nVia: ",
        bytes,
        b"\r\nFrom: <sip:a@b>;tag=1\r\n\
        To: <sip:a@b>\r\nCall-ID: f\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n",
    ];
    if let Ok(message) = Message::parse(head.concat(), Framing::Datagram) {
        let message = message.with_source(([192, 0, 2, 1], 5060).into());
        black_box(message.response_vias().count());
        if message.check().is_ok() {
            let response = MessageWriter::response(&message, 200, Some("t")).end();
            Message::parse(response.to_vec(), Framing::Datagram).expect("ours is sound");
        }
    }
}

/// The header that the first byte chooses.
pub(super) fn headers(bytes: &[u8]) {
    const NAMES: [&str; 24] = [
        "Session-Expires",
        "Min-SE",
        "RAck",
        "RSeq",
        "Accept-Contact",
        "Reject-Contact",
        "Request-Disposition",
        "Require",
        "Supported",
        "Allow",
        "Replaces",
        "Refer-To",
        "Referred-By",
        "P-Asserted-Identity",
        "P-Preferred-Identity",
        "Privacy",
        "Diversion",
        "History-Info",
        "Reason",
        "Warning",
        "Retry-After",
        "Event",
        "Subscription-State",
        "Recv-Info",
    ];
    let Some((first, value)) = bytes.split_first() else { return };
    let name = NAMES[usize::from(*first) % NAMES.len()];
    let Some(message) = with(INVITE, &format!("{name}: "), value) else { return };
    black_box(remarks(&message));
    black_box((SessionExpires::of(&message).is_some(), min_se(&message)));
    black_box(Preferences::of(&message).allow(";audio;methods=\"INVITE,BYE\""));
    black_box(message.check().is_ok());
    for (header, ..) in message.headers() {
        black_box(message.lists(header, "timer"));
        for value in message.values(header) {
            black_box(delta_seconds(value));
            if let Ok(address) = NameAddr::parse(value) {
                black_box(address.display_name());
            }
        }
    }
}

/// Credentials, and challenges of a trunk.
pub(super) fn digest(bytes: &[u8]) {
    let algorithms = [Algorithm::Sha256, Algorithm::Md5];
    let mut ours = Authenticator::new("wt.test", 1, &[7; 32], &algorithms);
    if let Some(message) = with(INVITE, "Authorization: ", bytes) {
        let proved = ours.verify(1, &message, None, |_| Some(Secret::new("secret"))).is_ok();
        assert!(!proved, "nobody guesses a nonce");
    }
    if let Some(response) = with("SIP/2.0 401 No", "WWW-Authenticate: ", bytes) {
        let mut answering = Answering::for_realm(None);
        if answering.take(&response) {
            let written = answering.credentials("a", "b", "sip:a@b", Method::Invite, "7");
            let unsafe_one = written.iter().find(|(_, value)| value.contains(char::is_control));
            assert_eq!(unsafe_one, None, "a header of its own could follow");
        }
    }
}

/// A Content-Type on the first line, and the body after it.
pub(super) fn multipart(bytes: &[u8]) {
    let at = memchr::memchr(b'\n', bytes).unwrap_or(bytes.len());
    let (kind, body) = bytes.split_at(at);
    let kind = String::from_utf8_lossy(kind);
    black_box((media_type(&kind), is_optional(&kind)));
    let read = parts(&kind, body.get(1..).unwrap_or_default());
    let total: usize = read.iter().map(|part| part.bytes.len()).sum();
    assert!(total <= bytes.len(), "parts are larger than their whole");
}

/// URIs; what is escaped means what it meant.
pub(super) fn uri(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let Ok(uri) = Uri::parse(&text) else { return };
    black_box((uri.number(), uri.ip(), uri.same_address(&uri)));
    let user = uri.user_unescaped();
    let written = format!("sip:{}@h", crate::sip::uri::escape_user(&user));
    // Escapes are three times as long as what they stand for.
    if !user.is_empty() && written.len() <= crate::sip::uri::MAX_URI {
        let back = Uri::parse(&written).expect("what we escape can be read");
        assert_eq!(back.user_unescaped(), user);
    }
}

/// Any offer is answered soundly or refused.
pub(super) fn sdp(bytes: &[u8]) {
    let local = Local {
        side: if bytes.len().is_multiple_of(2) { LegKind::Browser } else { LegKind::Trunk },
        address: ([192, 0, 2, 1], 4000).into(),
        more_addresses: vec![],
        tcp: false,
        ice: Some(Default::default()),
        fingerprint: "AB".into(),
        session_id: 1,
        ssrc: 1,
        cname: "c".into(),
        comfort_noise: bytes.len().is_multiple_of(3),
        srtp: if bytes.len().is_multiple_of(5) { Policy::Optional } else { Policy::Off },
        srtp_keys: LocalKeys::generate(|| 7),
    };
    let mut leg = Negotiation::new(local);
    if leg.receive_offer(bytes).is_ok()
        && let Ok((answer, _)) = leg.answer(&Codec::ALL, Direction::SendRecv)
    {
        Description::parse(answer.as_bytes()).expect("our answer can be read");
    }
}

/// A value of `a=crypto`; one that is read is written the same.
pub(super) fn crypto(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Some(read) = Crypto::read(&text) {
        let written = read.to_string();
        assert_eq!(Crypto::read(&written).map(|c| c.to_string()), Some(written));
    }
}
