//! A browser's media: a controlling ICE agent with one candidate, DTLS-SRTP, a tone out and an ear.

use crate::arrival::{self, receive};
use crate::ear::{Ear, FRAME, FROM_BROWSER, FROM_TRUNK, TICK, tone};
use crate::evidence::{Counts, Evidence};
use anyhow::Context;
use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::UdpSocket;
use webtrunk::codec::opus::COMPLEXITY;
use webtrunk::codec::{Codec, Decoder, Encoder, MAX_FRAME, NARROW};
use webtrunk::media::dtls::{DtlsIdentity, DtlsKeys, Handshake};
use webtrunk::media::stun::binding_request;
use webtrunk::rtp::packet::{DatagramKind, Packet, write_header};
use webtrunk::rtp::report::{ReceiverStats, SenderStats, compose};

/// Between two checks once one was answered, as Chromium paces them.
const CONSENT: Duration = Duration::from_millis(2_500);
const REPORT: Duration = Duration::from_secs(2);

struct Peer {
    address: SocketAddr,
    username: String,
    password: String,
    payload_type: u8,
}

pub(crate) struct Media {
    socket: Rc<UdpSocket>,
    identity: Arc<DtlsIdentity>,
    codec: Codec,
    ufrag: String,
    password: String,
    peer: Option<Peer>,
    handshake: Option<Handshake>,
    keys: Option<DtlsKeys>,
    evidence: Option<Evidence>,
    started: bool,
    /// A check was answered since the gateway last described itself.
    answered: bool,
    /// Whether a later description may name another transport.
    pub(crate) moves: bool,
    next_check: Instant,
    next_report: Instant,
    encoder: Encoder,
    said: [i16; FRAME],
    decoder: Decoder,
    reception: Option<ReceiverStats>,
    sent: SenderStats,
    sequence: u16,
    began: Instant,
    /// Packets it sends in the place of one, and until when.
    haste: Option<(u32, Instant)>,
    pub(crate) ear: Ear,
    pub(crate) counts: Counts,
    pub(crate) failed: Option<String>,
}

fn line<'a>(sdp: &'a str, start: &str) -> Option<&'a str> {
    sdp.lines().find_map(|l| l.trim_end().strip_prefix(start))
}

fn fingerprint(sdp: &str) -> Option<[u8; 32]> {
    let digits = line(sdp, "a=fingerprint:sha-256 ")?.split(':');
    let bytes: Option<Vec<u8>> = digits.map(|d| u8::from_str_radix(d, 16).ok()).collect();
    bytes?.try_into().ok()
}

fn candidate(sdp: &str) -> Option<SocketAddr> {
    let lines = sdp.lines().filter_map(|l| l.strip_prefix("a=candidate:"));
    lines.map(|l| l.split(' ').collect::<Vec<_>>()).find_map(|words| {
        let is_host = words.get(2)?.eq_ignore_ascii_case("udp") && words.get(7) == Some(&"host");
        let at = SocketAddr::new(words.get(4)?.parse().ok()?, words.get(5)?.parse().ok()?);
        is_host.then_some(at)
    })
}

impl Media {
    pub(crate) async fn new(
        at: IpAddr,
        number: u32,
        codec: Codec,
        identity: Arc<DtlsIdentity>,
    ) -> anyhow::Result<Media> {
        let socket = arrival::bind(SocketAddr::new(at, 0)).await?;
        let now = Instant::now();
        // The first packets' numbers are near the rollover for every second phone.
        let sequence = if number.is_multiple_of(2) { 65_000 } else { 100 };
        Ok(Media {
            socket: Rc::new(socket),
            identity,
            codec,
            ufrag: format!("u{number:07}"),
            password: format!("password-of-the-phone-{number:07}"),
            peer: None,
            handshake: None,
            keys: None,
            evidence: None,
            started: false,
            answered: false,
            moves: false,
            next_check: now,
            next_report: now + REPORT,
            encoder: Encoder::new(codec, NARROW, COMPLEXITY),
            said: tone(FROM_BROWSER),
            decoder: Decoder::new(codec, NARROW),
            reception: None,
            sent: SenderStats { ssrc: number + 1, packets: 0, octets: 0, timestamp: 0 },
            sequence,
            began: now,
            haste: None,
            ear: Ear::new(FROM_TRUNK),
            counts: Counts::default(),
            failed: None,
        })
    }

    /// Our description; `setup` is `actpass` in an offer, `active` in an answer.
    pub(crate) fn describe(&self, setup: &str) -> anyhow::Result<String> {
        let at = self.socket.local_addr()?;
        let (ip, port) = (at.ip(), at.port());
        let (kind, name, clock) =
            (self.codec.default_payload_type(), self.codec.name(), self.codec.clock());
        let channels = if self.codec == Codec::Opus { "/2" } else { "" };
        let (ufrag, password, print) = (&self.ufrag, &self.password, &self.identity.fingerprint);
        let ssrc = self.sent.ssrc;
        Ok(format!(
            "v=0\r\no=- {ssrc} 2 IN IP4 {ip}\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n\
             m=audio {port} UDP/TLS/RTP/SAVPF {kind}\r\nc=IN IP4 {ip}\r\n\
             a=rtpmap:{kind} {name}/{clock}{channels}\r\na=ice-ufrag:{ufrag}\r\n\
             a=ice-pwd:{password}\r\na=fingerprint:sha-256 {print}\r\na=setup:{setup}\r\n\
             a=mid:0\r\na=sendrecv\r\na=rtcp-mux\r\na=ssrc:{ssrc} cname:chaos\r\n\
             a=candidate:1 1 udp 2130706431 {ip} {port} typ host\r\n"
        ))
    }

    /// Takes the gateway's description; a later one has to name the same transport.
    pub(crate) fn take_description(&mut self, sdp: &str) -> anyhow::Result<()> {
        let ufrag = line(sdp, "a=ice-ufrag:").context("no ufrag")?;
        if let Some(peer) = &mut self.peer {
            if peer.username.split(':').next() != Some(ufrag) {
                anyhow::ensure!(self.moves, "another transport was named");
                // An ICE restart: our own credentials are new, too (RFC 8839 §4.4.1.1.1).
                self.ufrag.push('r');
                peer.username = format!("{ufrag}:{}", self.ufrag);
                peer.address = candidate(sdp).context("no candidate")?;
                line(sdp, "a=ice-pwd:").context("no password")?.clone_into(&mut peer.password);
                (self.answered, self.next_check) = (false, Instant::now());
            }
            return Ok(());
        }
        let username = format!("{ufrag}:{}", self.ufrag);
        let kind = self.codec.default_payload_type();
        let formats = line(sdp, "m=audio ").context("no audio")?;
        let has = formats.split(' ').skip(2).any(|f| f.parse() == Ok(kind));
        anyhow::ensure!(has, "{} is not among {formats}", self.codec.name());
        self.peer = Some(Peer {
            address: candidate(sdp).context("no candidate")?,
            username,
            password: line(sdp, "a=ice-pwd:").context("no password")?.to_owned(),
            payload_type: kind,
        });
        let print = fingerprint(sdp).context("no fingerprint")?;
        self.handshake = Some(Handshake::new(self.identity.clone(), vec![print]));
        self.next_check = Instant::now();
        Ok(())
    }

    /// Sends so many authentic packets in the place of one from now on.
    pub(crate) fn hasten(&mut self, packets: u32, time: Duration) {
        self.haste = Some((packets, Instant::now() + time));
    }

    fn put(&self, bytes: &[u8]) {
        if let Some(peer) = &self.peer {
            let _ = self.socket.try_send_to(bytes, peer.address);
        }
    }

    fn take(&mut self, came: Instant, datagram: &[u8]) {
        let now = Instant::now();
        match DatagramKind::of(datagram) {
            // A success response: the gateway is ICE-lite and asks nothing.
            DatagramKind::Stun if datagram.starts_with(&[1, 1]) => {
                self.answered = true;
                if std::mem::replace(&mut self.started, true) {
                    return;
                }
                self.shake(|handshake, send| {
                    handshake.start(now, &mut |bytes: &[u8]| send(bytes));
                    Ok(None)
                });
            }
            DatagramKind::Dtls => self.shake(|handshake, send| {
                let send = &mut |bytes: &[u8]| send(bytes);
                handshake.receive(now, datagram, send).map_err(|e| e.to_string())
            }),
            DatagramKind::Rtp => {
                let opened = self.evidence.as_mut().and_then(|e| e.rtp(datagram, &mut self.counts));
                if let Some(packet) = opened {
                    self.hear(came, &packet);
                }
            }
            DatagramKind::Rtcp => {
                if let Some(evidence) = &mut self.evidence {
                    evidence.rtcp(datagram, &mut self.counts);
                }
            }
            _ => {}
        }
    }

    fn hear(&mut self, came: Instant, datagram: &[u8]) {
        let Some(packet) = Packet::parse(datagram, true) else { return };
        if self.reception.is_none_or(|r| r.ssrc != packet.ssrc) {
            self.reception = Some(ReceiverStats::new(packet.ssrc));
        }
        let arrived = came.saturating_duration_since(self.began).as_millis() as u32;
        let arrived = arrived.wrapping_mul(self.codec.clock() / 1_000);
        if let Some(reception) = &mut self.reception {
            reception.receive(&packet, Some((arrived, self.codec.clock())));
        }
        if self.peer.as_ref().is_some_and(|p| p.payload_type == packet.payload_type) {
            let mut pcm = [0; MAX_FRAME];
            let len = self.decoder.decode(packet.payload(datagram), &mut pcm).unwrap_or(0);
            self.ear.hear(came, &pcm[..len]);
        }
    }

    fn shake<W>(&mut self, work: W)
    where
        W: FnOnce(&mut Handshake, &mut dyn FnMut(&[u8])) -> Result<Option<DtlsKeys>, String>,
    {
        let Some(mut handshake) = self.handshake.take() else { return };
        let done = work(&mut handshake, &mut |bytes: &[u8]| self.put(bytes));
        self.handshake = Some(handshake);
        match done {
            Ok(Some(keys)) => {
                match Evidence::new(keys.unprotect.master(), &mut self.counts) {
                    Ok(evidence) => self.evidence = Some(evidence),
                    Err(e) => self.failed = Some(e.to_string()),
                }
                self.keys = Some(keys);
            }
            Ok(None) => {}
            Err(why) => self.failed = Some(why),
        }
    }

    fn tick(&mut self) {
        let now = Instant::now();
        let Some(peer) = &self.peer else { return };
        if now >= self.next_check {
            let transaction = std::array::from_fn(|n| {
                (self.sent.packets >> (n % 4 * 8)) as u8 ^ self.sent.ssrc as u8
            });
            let check = binding_request(transaction, &peer.username, &peer.password, true);
            self.put(&check);
            let pause = if self.answered { CONSENT } else { Duration::from_millis(100) };
            self.next_check = now + pause;
        }
        self.shake(|handshake, send| {
            let send = &mut |bytes: &[u8]| send(bytes);
            handshake.fire(now, send).map(|()| None).map_err(|e| e.to_string())
        });
        if self.keys.is_none() {
            return;
        }
        self.haste = self.haste.filter(|(_, until)| now < *until);
        for _ in 0..self.haste.map_or(1, |(packets, _)| packets) {
            self.say();
        }
        if now >= self.next_report {
            self.next_report = now + REPORT;
            let (sent, ntp) = (self.sent, u64::from(self.sent.packets) << 32);
            let report = compose(now, ntp, sent, "chaos", self.reception.as_mut(), None);
            let sealed = self.keys.as_mut().and_then(|keys| keys.protect.rtcp(&report));
            sealed.iter().for_each(|sealed| self.put(sealed));
        }
    }

    fn say(&mut self) {
        let (Some(peer), Some(keys)) = (&self.peer, &mut self.keys) else { return };
        let mut datagram = [0u8; 600];
        let len = self.encoder.encode(&self.said, &mut datagram[12..500]);
        let (kind, sequence, sent) = (peer.payload_type, self.sequence, &mut self.sent);
        if let Some(header) = datagram.first_chunk_mut() {
            write_header(header, sent.packets == 0, kind, sequence, sent.timestamp, sent.ssrc);
        }
        self.sequence = self.sequence.wrapping_add(1);
        sent.timestamp = sent.timestamp.wrapping_add(self.codec.clock() / 50);
        sent.packets += 1;
        sent.octets = sent.octets.wrapping_add(len as u32);
        if let Some(len) = keys.protect.rtp(&mut datagram, 12 + len) {
            self.put(&datagram[..len]);
        }
    }
}

/// Sends and receives until the task is dropped.
pub(crate) async fn run(media: Rc<RefCell<Media>>) {
    let socket = media.borrow().socket.clone();
    let mut buf = [0; 2_048];
    let mut ticks = tokio::time::interval(TICK);
    loop {
        tokio::select! {
            got = receive(&socket, &mut buf) => {
                // A closed port is told as an error, which changes nothing.
                if let Ok((len, _, came)) = got {
                    media.borrow_mut().take(came, &buf[..len]);
                }
            }
            _ = ticks.tick() => media.borrow_mut().tick(),
        }
    }
}
