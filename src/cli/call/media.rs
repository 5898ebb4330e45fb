//! The media of a test call: a controlling ICE agent with one candidate, DTLS-SRTP, and a sound
//! both ways.

use super::sdp::{Offered, SdpAnswer, SdpFormat};
use super::speech;
use super::voice::Voice;
use crate::cli::{hex, random};
use anyhow::{Context, anyhow};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::net::UdpSocket;
use webtrunk::chance::Chance;
use webtrunk::codec::opus::COMPLEXITY;
use webtrunk::codec::{Codec, Decoder, Encoder, MAX_FRAME, NARROW};
use webtrunk::media::dtls::{DtlsIdentity, DtlsKeys, Handshake};
use webtrunk::media::stun::binding_request;
use webtrunk::rtp::event::{TelephoneEvent, event_of};
use webtrunk::rtp::packet::{DatagramKind, Packet, write_header};
use webtrunk::rtp::quality::{ENOUGH, Impairment};
use webtrunk::rtp::report::{ReceiverStats, RemoteReport, SenderStats, compose, read};

pub(super) const FRAME: Duration = Duration::from_millis(20);
/// Samples of a frame at 8 kHz, the rate all sound here has.
pub(super) const SAMPLES: usize = 160;
const EVENTS: [(u8, u32); 2] = [(110, 48_000), (126, 8_000)];
/// An RTP packet that will leave, or has been lost on purpose.
const MAX_DATAGRAM: usize = 1_500;

/// What the answer settled.
struct MediaPeer {
    address: SocketAddr,
    username: String,
    password: String,
    codec: Codec,
    payload_type: u8,
    /// Payload type and clock of telephone-events.
    events: Option<(u8, u32)>,
}

/// A worse network than there is, towards the gateway.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Network {
    /// Share of packets that are lost, 0 to 1.
    pub loss: f32,
    /// Each packet is held back by anything up to this.
    pub jitter: Duration,
}

/// A digit on its way out.
struct Pressing {
    event: u8,
    frames: u32,
    timestamp: u32,
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Figures {
    /// RTP packets that were sent.
    pub sent: u64,
    /// RTP packets that came.
    pub received: u64,
    /// RTP packets that should have come, by their numbers.
    pub expected: u64,
    /// Share of packets that did not come, 0 to 1.
    pub loss: f32,
    /// Interarrival jitter (RFC 3550 §6.4.1).
    pub jitter: Duration,
    /// Round trip to the gateway by RTCP.
    pub round_trip: Option<Duration>,
    /// Loss the gateway reports of what was sent, 0 to 1.
    pub reported_loss: Option<f32>,
    /// Jitter the gateway reports of what was sent.
    pub reported_jitter: Option<Duration>,
    /// Estimated opinion score of what came, 1 to 4.41 (G.107).
    pub mos_in: Option<f32>,
    /// Estimated opinion score of what was sent, 1 to 4.41 (G.107).
    pub mos_out: Option<f32>,
    /// Of what was heard, dBFS.
    pub level: Option<f32>,
    /// Share of frames that were silent, 0 to 1.
    pub silence: f32,
}

impl Figures {
    /// Whether anything came that could be heard.
    pub(super) fn was_heard(&self) -> bool {
        self.received > 0 && self.level.is_some() && self.silence < 1.0
    }
}

pub(super) struct PhoneMedia {
    socket: UdpSocket,
    local: SocketAddr,
    ufrag: String,
    password: String,
    identity: Arc<DtlsIdentity>,
    handshake: Option<Handshake>,
    peer: Option<MediaPeer>,
    keys: Option<DtlsKeys>,
    /// When ICE had a path.
    pub connected: Option<Instant>,
    /// When DTLS had given keys.
    pub secured: Option<Instant>,
    next_check: Instant,
    next_report: Instant,
    started: Instant,
    ntp: u64,
    voice: Voice,
    encoder: Option<Encoder>,
    decoder: Option<(Codec, Decoder)>,
    reception: Option<ReceiverStats>,
    feedback: Option<RemoteReport>,
    sequence: u16,
    timestamp: u32,
    sent: SenderStats,
    said: usize,
    digits: VecDeque<u8>,
    pressing: Option<Pressing>,
    pause: u32,
    chance: Chance,
    network: Network,
    /// What is held back, by when it leaves.
    late: BinaryHeap<Reverse<(Instant, Vec<u8>)>>,
    /// When the first frame was said, and the first was heard.
    said_at: Option<Instant>,
    heard_at: Option<Instant>,
    power: f64,
    samples: u64,
    frames: u64,
    silent: u64,
    /// Both sides, frame by frame, if they are kept: us, them.
    pub record: Option<(Vec<i16>, Vec<i16>)>,
    /// Why media cannot continue.
    pub failed: Option<String>,
}

impl PhoneMedia {
    /// A socket towards `gateway` and everything unconnected.
    ///
    /// # Errors
    /// No socket, or no certificate.
    pub(super) async fn new(
        gateway: SocketAddr,
        voice: Voice,
        network: Network,
        keep: bool,
    ) -> anyhow::Result<PhoneMedia> {
        let socket = UdpSocket::bind(SocketAddr::new(local_address(gateway)?, 0)).await?;
        let now = Instant::now();
        let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let seed = u64::from_be_bytes(random()?);
        let sent = SenderStats { ssrc: seed as u32 | 1, packets: 0, octets: 0, timestamp: 0 };
        Ok(PhoneMedia {
            local: socket.local_addr()?,
            socket,
            ufrag: hex(&random::<4>()?),
            password: hex(&random::<12>()?),
            identity: Arc::new(DtlsIdentity::generate().context("no certificate")?),
            handshake: None,
            peer: None,
            keys: None,
            connected: None,
            secured: None,
            next_check: now,
            next_report: now + Duration::from_secs(2),
            started: now,
            ntp: (unix.as_secs() + 2_208_988_800) << 32,
            voice,
            encoder: None,
            decoder: None,
            reception: None,
            feedback: None,
            sequence: seed as u16,
            timestamp: (seed >> 16) as u32,
            sent,
            said: 0,
            digits: VecDeque::new(),
            pressing: None,
            pause: 0,
            chance: Chance::new(seed),
            network,
            late: BinaryHeap::new(),
            said_at: None,
            heard_at: None,
            power: 0.0,
            samples: 0,
            frames: 0,
            silent: 0,
            record: keep.then(Default::default),
            failed: None,
        })
    }

    /// Our offer, with `codec` alone or with all we speak.
    pub(super) fn offer(&self, codec: Option<Codec>) -> String {
        let chosen: Vec<Codec> =
            Codec::BROWSERS.into_iter().filter(|c| codec.is_none_or(|only| *c == only)).collect();
        let events = EVENTS
            .into_iter()
            .filter(|(_, clock)| *clock == 8_000 || chosen.iter().any(|c| c.clock() == *clock));
        let codecs = chosen.iter().map(|c| SdpFormat {
            payload_type: c.default_payload_type(),
            name: c.name().to_owned(),
            clock: c.clock(),
            channels: c.channels() as u16,
        });
        let events = events.map(|(payload_type, clock)| SdpFormat {
            payload_type,
            name: "telephone-event".to_owned(),
            clock,
            channels: 1,
        });
        Offered {
            address: self.local,
            ssrc: self.sent.ssrc,
            ufrag: &self.ufrag,
            password: &self.password,
            fingerprint: &self.identity.fingerprint,
            formats: codecs.chain(events).collect(),
        }
        .compose()
    }

    /// Takes an answer, early media included; a newer one changes the sound, and nothing of how
    /// it gets there.
    ///
    /// # Errors
    /// What it lacks.
    pub(super) fn answer(&mut self, sdp: &str) -> anyhow::Result<()> {
        let answer = SdpAnswer::parse(sdp)?;
        let ours = |f: &SdpFormat| {
            let codec = Codec::from_name(&f.name).filter(|c| c.clock() == f.clock);
            Some((f.payload_type, codec.filter(|c| Codec::BROWSERS.contains(c))?))
        };
        let (payload_type, codec) = answer
            .formats
            .iter()
            .find_map(ours)
            .ok_or_else(|| anyhow!("the answer has no codec of ours"))?;
        let is_events =
            |f: &&SdpFormat| f.name.eq_ignore_ascii_case("telephone-event") && f.clock > 0;
        let events = answer.formats.iter().filter(is_events);
        // RFC 4733 §2.1: of the clock of the sound, if there is one.
        let events =
            events.min_by_key(|f| f.clock != codec.clock()).map(|f| (f.payload_type, f.clock));
        if let Some(peer) = &mut self.peer {
            (peer.codec, peer.payload_type, peer.events) = (codec, payload_type, events);
            return Ok(());
        }
        let address = self.address_of(&answer.candidates)?;
        let ufrag = answer.ufrag.context("the answer has no a=ice-ufrag:")?;
        let password = answer.password.context("the answer has no a=ice-pwd:")?;
        if answer.fingerprints.is_empty() {
            anyhow::bail!("the answer has no fingerprint of SHA-256");
        }
        self.handshake = Some(Handshake::new(self.identity.clone(), answer.fingerprints));
        let username = format!("{ufrag}:{}", self.ufrag);
        self.peer = Some(MediaPeer { address, username, password, codec, payload_type, events });
        self.next_check = Instant::now();
        Ok(())
    }

    /// The candidate to send to. One socket, one family; loopback reaches loopback only.
    fn address_of(&self, candidates: &[SocketAddr]) -> anyhow::Result<SocketAddr> {
        let reachable = |a: &&SocketAddr| {
            a.is_ipv4() == self.local.is_ipv4()
                && a.ip().is_loopback() == self.local.ip().is_loopback()
        };
        let mut all = candidates.iter();
        let address = all.clone().find(reachable).or(all.next());
        address.copied().ok_or_else(|| anyhow!("the answer has no UDP candidate"))
    }

    /// The codec the answer settled.
    pub(super) fn codec(&self) -> Option<Codec> {
        self.peer.as_ref().map(|p| p.codec)
    }

    /// Presses keys, one after the other.
    pub(super) fn press(&mut self, digits: &str) {
        self.digits.extend(digits.chars().filter_map(event_of));
    }

    pub(super) fn is_pressing(&self) -> bool {
        self.pressing.is_some() || !self.digits.is_empty()
    }

    /// The next datagram.
    pub(super) async fn receive(&self, buf: &mut [u8]) -> Option<(usize, SocketAddr)> {
        self.socket.recv_from(buf).await.ok()
    }

    fn put(&self, bytes: &[u8]) {
        if let Some(peer) = &self.peer {
            let _ = self.socket.try_send_to(bytes, peer.address);
        }
    }

    /// Takes a datagram that came in.
    pub(super) fn take(&mut self, from: SocketAddr, datagram: &mut [u8]) {
        if self.peer.as_ref().is_none_or(|p| p.address != from) {
            return;
        }
        let now = Instant::now();
        match DatagramKind::of(datagram) {
            DatagramKind::Stun => {
                // Only a success response to our own check; the gateway is ICE-lite and sends none
                // itself.
                if datagram.starts_with(&[1, 1]) && self.connected.is_none() {
                    self.connected = Some(now);
                    self.shake(|handshake, mut send| {
                        handshake.start(now, &mut send);
                        Ok(None)
                    });
                }
            }
            DatagramKind::Dtls => {
                let datagram = datagram.to_vec();
                self.shake(|handshake, mut send| {
                    handshake.receive(now, &datagram, &mut send).map_err(|e| e.to_string())
                });
            }
            DatagramKind::Rtp => {
                let opened = self.keys.as_mut().map(|k| k.unprotect.rtp(datagram));
                if let Some(Ok(len)) = opened {
                    self.hear(now, &datagram[..len]);
                }
            }
            DatagramKind::Rtcp => {
                let ntp = self.ntp(now);
                if let Some(Ok(len)) = self.keys.as_mut().map(|k| k.unprotect.rtcp(datagram)) {
                    self.feedback =
                        read(now, ntp, &datagram[..len], self.sent.ssrc, self.reception.as_mut())
                            .or(self.feedback);
                }
            }
            DatagramKind::Unknown => {}
        }
    }

    fn ntp(&self, now: Instant) -> u64 {
        self.ntp.wrapping_add(
            ((now.saturating_duration_since(self.started).as_nanos() << 32) / 1_000_000_000) as u64,
        )
    }

    fn shake<W>(&mut self, work: W)
    where
        W: FnOnce(&mut Handshake, &mut dyn FnMut(&[u8])) -> Result<Option<DtlsKeys>, String>,
    {
        let Some(mut handshake) = self.handshake.take() else { return };
        let mut out = Vec::new();
        let done = work(&mut handshake, &mut |bytes: &[u8]| out.push(bytes.to_vec()));
        out.iter().for_each(|bytes| self.put(bytes));
        self.handshake = Some(handshake);
        match done {
            Ok(Some(keys)) => {
                self.keys = Some(keys);
                self.secured = Some(Instant::now());
            }
            Ok(None) => {}
            Err(why) => self.failed = Some(why),
        }
    }

    fn hear(&mut self, now: Instant, datagram: &[u8]) {
        let Some(peer) = &self.peer else { return };
        let Some(packet) = Packet::parse(datagram, true) else { return };
        let (codec, clock) = (peer.codec, peer.codec.clock());
        let sound = packet.payload_type == peer.payload_type;
        let arrived = (now.saturating_duration_since(self.started).as_micros() as u64
            * u64::from(clock)
            / 1_000_000) as u32;
        if self.reception.is_none_or(|r| r.ssrc != packet.ssrc) {
            self.reception = Some(ReceiverStats::new(packet.ssrc));
        }
        if let Some(reception) = &mut self.reception {
            reception.receive(&packet, sound.then_some((arrived, clock)));
        }
        // Digits that are echoed are packets, but no sound.
        if !sound {
            return;
        }
        if self.decoder.as_ref().is_none_or(|(c, _)| *c != codec) {
            self.decoder = Some((codec, Decoder::new(codec, NARROW)));
        }
        let mut pcm = [0i16; MAX_FRAME];
        let decoded = self
            .decoder
            .as_mut()
            .and_then(|(_, d)| d.decode(packet.payload(datagram), &mut pcm).ok());
        let heard = &pcm[..decoded.unwrap_or(0)];
        self.heard_at.get_or_insert(now);
        let power: f64 = heard.iter().map(|s| f64::from(*s).powi(2)).sum();
        self.power += power;
        self.samples += heard.len() as u64;
        self.frames += 1;
        self.silent += u64::from(power / (heard.len().max(1) as f64) < 100.0);
        if let Some((_, them)) = &mut self.record {
            them.extend_from_slice(heard);
        }
    }

    /// Twenty milliseconds have passed.
    pub(super) fn tick(&mut self) {
        let now = Instant::now();
        let Some(peer) = &self.peer else { return };
        if now >= self.next_check {
            let mut transaction = [0u8; 12];
            transaction.iter_mut().for_each(|b| *b = (self.chance.share() * 255.0) as u8);
            let check = binding_request(transaction, &peer.username, &peer.password, true);
            self.put(&check);
            self.next_check = now
                + if self.connected.is_some() {
                    Duration::from_secs(4)
                } else {
                    Duration::from_millis(100)
                };
        }
        self.shake(|handshake, mut send| {
            handshake.fire(now, &mut send).map(|()| None).map_err(|e| e.to_string())
        });
        if self.keys.is_some() {
            self.say();
        }
        if self.keys.is_some() && now >= self.next_report {
            self.next_report = now + Duration::from_secs(2);
            let (ntp, sent) =
                (self.ntp(now), SenderStats { timestamp: self.timestamp, ..self.sent });
            let report = compose(now, ntp, sent, "webtrunk-call", self.reception.as_mut(), None);
            let sealed = self.keys.as_mut().and_then(|keys| keys.protect.rtcp(&report));
            sealed.iter().for_each(|sealed| self.put(sealed));
        }
    }

    fn say(&mut self) {
        let Some((codec, payload_type, events)) =
            self.peer.as_ref().map(|p| (p.codec, p.payload_type, p.events))
        else {
            return;
        };
        let step = codec.clock() / 50;
        let event = events.and_then(|(pt, clock)| self.next_event(pt, clock / 50));
        if let Some(event) = event {
            let (pt, first, payload, timestamp) = event;
            self.send(pt, first, timestamp, &payload);
            self.timestamp = self.timestamp.wrapping_add(step);
            return;
        }
        let mut pcm = [0i16; SAMPLES];
        self.voice.fill(self.said, &mut pcm);
        self.said_at.get_or_insert_with(Instant::now);
        self.said += SAMPLES;
        if let Some((us, _)) = &mut self.record {
            us.extend_from_slice(&pcm);
        }
        if self.encoder.as_ref().is_some_and(|e| e.codec != codec) {
            self.encoder = None;
        }
        let encoder = self.encoder.get_or_insert_with(|| Encoder::new(codec, NARROW, COMPLEXITY));
        let mut payload = [0u8; 400];
        let len = encoder.encode(&pcm, &mut payload);
        let (first, timestamp) = (self.sent.packets == 0, self.timestamp);
        self.send(payload_type, first, timestamp, &payload[..len]);
        self.timestamp = self.timestamp.wrapping_add(step);
    }

    /// The frame of a digit that is being pressed: 100 ms, its end said three times, then a pause
    /// of 60 ms.
    fn next_event(&mut self, payload_type: u8, step: u32) -> Option<(u8, bool, [u8; 4], u32)> {
        if self.pressing.is_none() {
            if self.pause > 0 {
                self.pause -= 1;
                return None;
            }
            let event = self.digits.pop_front()?;
            self.pressing = Some(Pressing { event, frames: 0, timestamp: self.timestamp });
        }
        let pressing = self.pressing.as_mut()?;
        pressing.frames += 1;
        let report = TelephoneEvent {
            event: pressing.event,
            end: pressing.frames > 5,
            volume: 10,
            duration: (pressing.frames.min(5) * step) as u16,
        };
        let frame = (payload_type, pressing.frames == 1, report.to_bytes(), pressing.timestamp);
        if pressing.frames == 8 {
            (self.pressing, self.pause) = (None, 3);
        }
        Some(frame)
    }

    fn send(&mut self, payload_type: u8, marker: bool, timestamp: u32, payload: &[u8]) {
        let mut datagram = [0u8; MAX_DATAGRAM];
        if let Some(header) = datagram.first_chunk_mut() {
            write_header(header, marker, payload_type, self.sequence, timestamp, self.sent.ssrc);
        }
        datagram[12..12 + payload.len()].copy_from_slice(payload);
        self.sequence = self.sequence.wrapping_add(1);
        self.sent.packets += 1;
        self.sent.octets = self.sent.octets.wrapping_add(payload.len() as u32);
        let sealed =
            self.keys.as_mut().and_then(|k| k.protect.rtp(&mut datagram, 12 + payload.len()));
        // What is lost on purpose has been sent, and never arrives.
        let Some(len) = sealed.filter(|_| self.chance.share() >= self.network.loss) else { return };
        if self.network.jitter.is_zero() {
            return self.put(&datagram[..len]);
        }
        let leaves = Instant::now() + self.network.jitter.mul_f32(self.chance.share());
        self.late.push(Reverse((leaves, datagram[..len].to_vec())));
    }

    /// When something that is held back must leave.
    pub(super) fn due(&self) -> Option<Instant> {
        self.late.peek().map(|Reverse((at, _))| *at)
    }

    /// Sends what was held back long enough.
    pub(super) fn release(&mut self) {
        let now = Instant::now();
        while self.due().is_some_and(|at| at <= now) {
            if let Some(Reverse((_, datagram))) = self.late.pop() {
                self.put(&datagram);
            }
        }
    }

    /// Our own speech in what was heard, if both sides were kept.
    pub(super) fn echo(&self) -> Option<speech::SpeechEcho> {
        let (_, them) = self.record.as_ref()?;
        let late = self.heard_at?.saturating_duration_since(self.said_at?);
        speech::echo(self.said, them, late)
    }

    /// What came of it so far.
    pub(super) fn figures(&self) -> Figures {
        let clock = self.codec().map_or(8_000, |c| c.clock());
        let round_trip = self.feedback.and_then(|f| f.round_trip);
        let heard = self.reception.filter(|r| r.packets > 0);
        let mos_in = heard.filter(|r| r.packets >= ENOUGH).map(|r| {
            Impairment {
                loss: r.loss(),
                burst_ratio: r.burst_ratio(),
                jitter: r.jitter(clock),
                round_trip: round_trip.unwrap_or_default(),
            }
            .mos()
        });
        let out = self.feedback.map(|f| Impairment {
            loss: f.total_lost as f32 / self.sent.packets.max(1) as f32,
            burst_ratio: 1.0,
            jitter: webtrunk::rtp::packet::time_of(f.jitter, clock),
            round_trip: round_trip.unwrap_or_default(),
        });
        let rms = (self.power / self.samples.max(1) as f64).sqrt();
        Figures {
            sent: u64::from(self.sent.packets),
            received: heard.map_or(0, |r| r.packets),
            expected: heard.map_or(0, |r| r.expected()),
            loss: heard.map_or(0.0, |r| r.loss()),
            jitter: heard.map_or(Duration::ZERO, |r| r.jitter(clock)),
            round_trip,
            reported_loss: out.map(|o| o.loss),
            reported_jitter: out.map(|o| o.jitter),
            mos_in,
            mos_out: out.filter(|_| u64::from(self.sent.packets) >= ENOUGH).map(|o| o.mos()),
            level: (self.samples > 0 && rms > 0.0)
                .then(|| (20.0 * (rms / 32_768.0).log10()) as f32),
            silence: self.silent as f32 / self.frames.max(1) as f32,
        }
    }
}

/// Our address on the way to `gateway`; no packet is sent to find it.
fn local_address(gateway: SocketAddr) -> anyhow::Result<std::net::IpAddr> {
    let any: SocketAddr = if gateway.is_ipv4() {
        ([0, 0, 0, 0], 0).into()
    } else {
        (std::net::Ipv6Addr::UNSPECIFIED, 0).into()
    };
    let probe = std::net::UdpSocket::bind(any)?;
    probe.connect(gateway)?;
    Ok(probe.local_addr()?.ip())
}
