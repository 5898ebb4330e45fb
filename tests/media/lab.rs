//! Sessions to test with: one of a browser and a trunk, one of two trunks, and what goes between.

#[path = "agreed.rs"]
mod agreed;

pub(crate) use agreed::agreed;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
pub(crate) use webtrunk::chance::Chance;
use webtrunk::codec::opus::COMPLEXITY;
use webtrunk::codec::{Codec, Decoder, MAX_FRAME};
use webtrunk::media::dtls::{DtlsIdentity, DtlsKeys, Handshake};
use webtrunk::media::endpoint::EndpointKind;
use webtrunk::media::session::SessionEvent;
use webtrunk::media::stun::binding_request;
use webtrunk::media::{Digits, EndpointSettings, LegId, MediaWatch, Port, Session, Sink};
use webtrunk::rtp::Packet;
use webtrunk::rtp::packet::write_header;
use webtrunk::sdp::offer_answer::{Ice, Negotiated, Remote, TelephoneEvents};

pub(crate) const BROWSER: LegId = LegId(0);
pub(crate) const TRUNK: LegId = LegId(1);

pub(crate) fn identities() -> &'static (Arc<DtlsIdentity>, Arc<DtlsIdentity>) {
    static BOTH: OnceLock<(Arc<DtlsIdentity>, Arc<DtlsIdentity>)> = OnceLock::new();
    BOTH.get_or_init(|| {
        let make = || Arc::new(DtlsIdentity::generate().expect("a certificate"));
        (make(), make())
    })
}

pub(crate) fn fingerprint(identity: &DtlsIdentity) -> [u8; 32] {
    let bytes: Vec<u8> =
        identity.fingerprint.split(':').map(|b| u8::from_str_radix(b, 16).expect("hex")).collect();
    bytes.try_into().expect("sha-256")
}

pub(crate) fn addr(last: u8, port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, last], port))
}

#[derive(Default)]
pub(crate) struct Log {
    pub sent: Vec<(Port, SocketAddr, Vec<u8>)>,
    pub events: Vec<SessionEvent>,
}

impl Sink for Log {
    fn send(&mut self, port: Port, to: SocketAddr, datagram: &[u8]) {
        self.sent.push((port, to, datagram.to_vec()));
    }
    fn event(&mut self, event: SessionEvent) {
        self.events.push(event);
    }
}

pub(crate) fn ice(name: &str) -> Ice {
    Ice { ufrag: name.into(), pwd: format!("{name}-password-of-22-chars") }
}

pub(crate) fn settings(codec: Codec, remote: Remote) -> EndpointSettings {
    let event = if codec == Codec::Opus { 110 } else { 101 };
    let mut settings = agreed(codec, remote, COMPLEXITY);
    settings.negotiated.events = TelephoneEvents::both_ways(event, codec.clock());
    settings
}

pub(crate) fn negotiated(codec: Codec, remote: Remote) -> Negotiated {
    settings(codec, remote).negotiated
}

/// Time passes; everything due is done when it is due.
fn pass(session: &mut Session, log: &mut Log, now: &mut Instant, time: Duration) {
    let end = *now + time;
    while let Some(due) = session.next_timeout().filter(|due| *due <= end) {
        *now = due.max(*now);
        session.fire(*now, log);
    }
    *now = end;
}

/// A session with a browser end and a trunk end, bridged, and the browser's side of the crypto.
pub(crate) struct Call {
    pub session: Session,
    pub log: Log,
    pub now: Instant,
    pub browser: SocketAddr,
    pub keys: Option<DtlsKeys>,
    pub client: Handshake,
    pub sequence: u16,
}

pub(crate) const TRUNK_ADDRESS: (u8, u16) = (10, 4_000);

pub(crate) fn trunk_remote() -> Remote {
    let (last, port) = TRUNK_ADDRESS;
    Remote::Rtp { rtp: addr(last, port), rtcp: addr(last, port + 1), sdes: None }
}

pub(crate) fn dtls_remote() -> Remote {
    Remote::Dtls {
        ice: ice("theirs"),
        local_ice: ice("ours"),
        fingerprints: vec![fingerprint(&identities().1)],
        active: false,
        tls_id: None,
    }
}

impl Call {
    pub(crate) fn new(browser_codec: Codec, trunk_codec: Codec, nat: bool) -> Call {
        Call::seeded(browser_codec, trunk_codec, nat, [7, 9])
    }

    /// Its streams begin where the seeds say.
    pub(crate) fn seeded(
        browser_codec: Codec,
        trunk_codec: Codec,
        nat: bool,
        seeds: [u64; 2],
    ) -> Call {
        let (ours, theirs) = identities();
        let now = Instant::now();
        let mut session = Session::new(now, Duration::from_secs(1_700_000_000));
        let mut log = Log::default();
        session.open(
            BROWSER,
            EndpointKind::Browser { identity: ours.clone(), ice: ice("ours") },
            0x1111,
            "us",
            seeds[0],
        );
        session.open(TRUNK, EndpointKind::Trunk { nat }, 0x2222, "us", seeds[1]);
        session.configure(now, BROWSER, settings(browser_codec, dtls_remote()), &mut log);
        session.configure(now, TRUNK, settings(trunk_codec, trunk_remote()), &mut log);
        session.bridge(now, BROWSER, TRUNK);
        let client = Handshake::new(theirs.clone(), vec![fingerprint(ours)]);
        Call { session, log, now, browser: addr(20, 5_000), keys: None, client, sequence: 100 }
    }

    pub(crate) fn connected(browser_codec: Codec, trunk_codec: Codec) -> Call {
        let mut call = Call::new(browser_codec, trunk_codec, false);
        call.check(call.browser, true);
        call.secure();
        call.log = Log::default();
        call
    }

    /// Time passes.
    pub(crate) fn pass(&mut self, time: Duration) {
        pass(&mut self.session, &mut self.log, &mut self.now, time);
    }

    pub(crate) fn check(&mut self, from: SocketAddr, nominate: bool) {
        let mut request = binding_request([3; 12], "ours:theirs", &ice("ours").pwd, nominate);
        self.session.receive(self.now, Port::Browser, BROWSER, from, &mut request, &mut self.log);
    }

    pub(crate) fn secure(&mut self) {
        let mut to_server = Vec::new();
        self.client.start(self.now, &mut |d| to_server.push(d.to_vec()));
        for _ in 0..20 {
            for mut datagram in std::mem::take(&mut to_server) {
                self.session.receive(
                    self.now,
                    Port::Browser,
                    BROWSER,
                    self.browser,
                    &mut datagram,
                    &mut self.log,
                );
            }
            for (_, _, datagram) in std::mem::take(&mut self.log.sent) {
                if (20..64).contains(&datagram[0])
                    && let Some(keys) = self
                        .client
                        .receive(self.now, &datagram, &mut |d| to_server.push(d.to_vec()))
                        .expect("sound")
                {
                    self.keys = Some(keys);
                }
            }
        }
        assert!(
            self.keys.is_some()
                && self
                    .log
                    .events
                    .iter()
                    .any(|e| matches!(e, SessionEvent::Secured { end: BROWSER, .. }))
        );
    }

    pub(crate) fn sealed(&mut self, payload_type: u8, timestamp: u32, payload: &[u8]) -> Vec<u8> {
        let mut buf = rtp(payload_type, false, (self.sequence, timestamp, 77), payload, 32);
        self.sequence = self.sequence.wrapping_add(1);
        let len = self
            .keys
            .as_mut()
            .expect("secured")
            .protect
            .rtp(&mut buf, 12 + payload.len())
            .expect("room");
        buf.truncate(len);
        buf
    }

    pub(crate) fn browser_sends(&mut self, payload_type: u8, timestamp: u32, payload: &[u8]) {
        let mut datagram = self.sealed(payload_type, timestamp, payload);
        self.session.receive(
            self.now,
            Port::Browser,
            BROWSER,
            self.browser,
            &mut datagram,
            &mut self.log,
        );
    }

    pub(crate) fn trunk_sends(&mut self, from: SocketAddr, sequence: u16, payload: &[u8]) {
        let mut datagram = rtp(0, false, (sequence, u32::from(sequence) * 160, 88), payload, 0);
        self.session.receive(self.now, Port::Rtp(TRUNK), TRUNK, from, &mut datagram, &mut self.log);
    }

    pub(crate) fn trunk_gets(&mut self) -> Vec<(SocketAddr, Packet, Vec<u8>)> {
        let sent = std::mem::take(&mut self.log.sent);
        let rtp = sent.into_iter().filter(|(port, ..)| *port == Port::Rtp(TRUNK));
        rtp.map(|(_, to, d)| (to, Packet::parse(&d, true).expect("RTP"), d[12..].to_vec()))
            .collect()
    }

    pub(crate) fn browser_gets(&mut self) -> Vec<(Packet, Vec<u8>)> {
        let sent = std::mem::take(&mut self.log.sent);
        let mut out = Vec::new();
        for (port, _, mut datagram) in sent {
            if port == Port::Browser
                && webtrunk::rtp::packet::DatagramKind::of(&datagram)
                    == webtrunk::rtp::packet::DatagramKind::Rtp
            {
                let len = self
                    .keys
                    .as_mut()
                    .expect("secured")
                    .unprotect
                    .rtp(&mut datagram)
                    .expect("authentic");
                out.push((
                    Packet::parse(&datagram[..len], true).expect("RTP"),
                    datagram[12..len].to_vec(),
                ));
            }
        }
        out
    }
}

/// Share of `hz` in the power of a signal of this rate, 0 to 1, and the level in dBFS.
pub(crate) fn tone(rate: u32, pcm: &[i16], hz: f32) -> (f64, f64) {
    let (mut re, mut im, mut power) = (0f64, 0f64, 0f64);
    for (n, s) in pcm.iter().enumerate() {
        let x = f64::from(*s) / 32_768.0;
        let phase = std::f64::consts::TAU * f64::from(hz) * n as f64 / f64::from(rate);
        re += x * phase.cos();
        im += x * phase.sin();
        power += x * x;
    }
    let n = pcm.len() as f64;
    ((re * re + im * im) * 2.0 / n / power.max(1e-9), 10.0 * (power / n).log10())
}

/// A sine of 8000 at this rate, and its level in dBFS.
pub(crate) fn sine(rate: u32, hz: f32, from: usize, samples: usize) -> Vec<i16> {
    (from..from + samples)
        .map(|n| (8_000.0 * (std::f32::consts::TAU * hz * n as f32 / rate as f32).sin()) as i16)
        .collect()
}
pub(crate) const SINE_LEVEL: f64 = -15.26;

/// What was got, as PCM of `rate`.
pub(crate) fn decode(codec: Codec, rate: u32, got: &[Got]) -> Vec<i16> {
    let (mut decoder, mut out) = (Decoder::new(codec, rate), Vec::new());
    let mut pcm = [0; MAX_FRAME];
    for (_, payload) in got {
        let n = decoder.decode(payload, &mut pcm).expect("sound");
        out.extend_from_slice(&pcm[..n]);
    }
    out
}

/// An RTP packet, with `room` for a tag behind it.
pub(crate) fn rtp(
    payload_type: u8,
    marker: bool,
    numbers: (u16, u32, u32),
    payload: &[u8],
    room: usize,
) -> Vec<u8> {
    let (sequence, timestamp, ssrc) = numbers;
    let mut datagram = vec![0u8; 12 + payload.len() + room];
    write_header(
        datagram.first_chunk_mut().expect("room"),
        marker,
        payload_type,
        sequence,
        timestamp,
        ssrc,
    );
    datagram[12..12 + payload.len()].copy_from_slice(payload);
    datagram
}

/// One packet a side got: its header, its payload.
pub(crate) type Got = (Packet, Vec<u8>);

/// Two trunk ends, bridged: what one side sends, the other gets, in virtual time.
pub(crate) struct Line {
    pub session: Session,
    pub log: Log,
    pub now: Instant,
    pub start: Instant,
    /// Sequence number of each side's next packet.
    pub sequence: [u16; 2],
    pub(crate) settings: [EndpointSettings; 2],
}

pub(crate) const SIDES: [LegId; 2] = [LegId(1), LegId(2)];

fn side_address(side: usize) -> SocketAddr {
    addr(40 + side as u8, 6_000)
}

impl Line {
    /// As [`new`](Self::new), with what was settled for a side changed.
    pub(crate) fn changed(
        ends: [(Codec, Digits); 2],
        change: impl Fn(usize, &mut EndpointSettings),
    ) -> Line {
        let line = Line::new(ends);
        Line::with([0, 1].map(|side| {
            let mut settings = line.settings(side);
            change(side, &mut settings);
            settings
        }))
    }

    /// What was settled for a side.
    pub(crate) fn settings(&self, side: usize) -> EndpointSettings {
        self.settings[side].clone()
    }

    /// A line between ends of these codecs, whose digits go these ways.
    pub(crate) fn new(ends: [(Codec, Digits); 2]) -> Line {
        let remote = |side| Remote::Rtp {
            rtp: side_address(side),
            rtcp: addr(40 + side as u8, 6_001),
            sdes: None,
        };
        let settings = [0, 1].map(|side| {
            let (codec, digits) = ends[side];
            EndpointSettings {
                negotiated: negotiated(codec, remote(side)),
                complexity: 0,
                digits,
                continuous: false,
                watch: MediaWatch::default(),
            }
        });
        Line::with(settings)
    }

    pub(crate) fn with(settings: [EndpointSettings; 2]) -> Line {
        let now = Instant::now();
        let (mut session, mut log) =
            (Session::new(now, Duration::from_secs(1_700_000_000)), Log::default());
        for (id, settings) in SIDES.into_iter().zip(settings.clone()) {
            session.open(id, EndpointKind::Trunk { nat: false }, u32::from(id.0), "us", 77);
            session.configure(now, id, settings, &mut log);
        }
        session.bridge(now, SIDES[0], SIDES[1]);
        Line { session, log, now, start: now, sequence: [100, 200], settings }
    }

    /// Opens a side anew, as `kind`.
    pub(crate) fn reopen(&mut self, side: usize, kind: EndpointKind) {
        self.session.close_end(SIDES[side]);
        self.session.open(SIDES[side], kind, 7, "us", 78);
        self.session.configure(self.now, SIDES[side], self.settings[side].clone(), &mut self.log);
        self.session.bridge(self.now, SIDES[0], SIDES[1]);
    }

    /// Time passes.
    pub(crate) fn pass(&mut self, time: Duration) {
        pass(&mut self.session, &mut self.log, &mut self.now, time);
    }

    /// A packet of this side; `lost`: it uses its number, and never comes.
    pub(crate) fn send(
        &mut self,
        side: usize,
        payload_type: u8,
        marker: bool,
        timestamp: u32,
        payload: &[u8],
        lost: bool,
    ) {
        let sequence = self.sequence[side];
        self.sequence[side] = sequence.wrapping_add(1);
        if !lost {
            self.arrive(side, payload_type, marker, sequence, timestamp, payload);
        }
    }

    pub(crate) fn arrive(
        &mut self,
        side: usize,
        payload_type: u8,
        marker: bool,
        sequence: u16,
        timestamp: u32,
        payload: &[u8],
    ) {
        let mut datagram =
            rtp(payload_type, marker, (sequence, timestamp, 500 + side as u32), payload, 0);
        self.session.receive(
            self.now,
            Port::Rtp(SIDES[side]),
            SIDES[side],
            side_address(side),
            &mut datagram,
            &mut self.log,
        );
    }

    /// What this side has got since the last time, RTP only.
    pub(crate) fn got(&mut self, side: usize) -> Vec<Got> {
        let mine = self.log.sent.extract_if(.., |(port, ..)| *port == Port::Rtp(SIDES[side]));
        mine.map(|(_, _, d)| (Packet::parse(&d, true).expect("RTP"), d[12..].to_vec())).collect()
    }
}
