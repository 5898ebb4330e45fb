//! Gateway and media sessions together in virtual time, with a browser and a trunk that can
//! misbehave.

use crate::lab::{ALICE, Lab, OFFER, Peer, T1, TRUNK_SDP};
use crate::media::{Chance, fingerprint, identities, rtp};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;
use webtrunk::codec::{Codec, Encoder, NARROW};
use webtrunk::gateway::Input;
use webtrunk::media::dtls::{DtlsKeys, Handshake};
use webtrunk::media::endpoint::EndpointKind;
use webtrunk::media::session::SessionEvent;
use webtrunk::media::stun::binding_request;
use webtrunk::media::{LegId, Port, Session, Sink};
use webtrunk::sip::Message;
use webtrunk::worker::{Notice, OpenKind, WorkerCommand};

/// What a side of a call sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Audio {
    Nothing,
    Speech,
    /// Packets of digital silence.
    Muted,
    /// Speech under a number nobody agreed to.
    WrongPayload,
    /// Speech from an address nobody announced.
    Elsewhere,
}

/// How the two sides behave; all well, as it begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Behaviour {
    pub checks: bool,
    pub honest_certificate: bool,
    pub dtls: bool,
    pub browser: Audio,
    pub trunk: Audio,
    /// The trunk answers OPTIONS.
    pub trunk_lives: bool,
}

impl Default for Behaviour {
    fn default() -> Behaviour {
        Behaviour {
            checks: true,
            honest_certificate: true,
            dtls: true,
            browser: Audio::Speech,
            trunk: Audio::Speech,
            trunk_lives: true,
        }
    }
}

#[derive(Default)]
struct Out {
    sent: Vec<Vec<u8>>,
    events: Vec<SessionEvent>,
}

impl Sink for Out {
    fn send(&mut self, port: Port, _: SocketAddr, datagram: &[u8]) {
        if port == Port::Browser {
            self.sent.push(datagram.to_vec());
        }
    }
    fn event(&mut self, event: SessionEvent) {
        self.events.push(event);
    }
}

pub(crate) struct World {
    pub lab: Lab,
    pub behaviour: Behaviour,
    pub alice: Peer,
    sessions: HashMap<u64, Session>,
    trunk_end: Option<LegId>,
    client: Handshake,
    started: bool,
    keys: Option<DtlsKeys>,
    /// Our ICE credentials, from our answer.
    ours: Option<(String, String)>,
    encoders: (Encoder, Encoder),
    ticks: u64,
    chance: Chance,
}

const STEP: Duration = Duration::from_millis(20);

/// Chromium's offer with the credentials of this world's browser.
pub(crate) fn offer() -> String {
    OFFER
        .lines()
        .map(|line| match line.split_once(':') {
            Some(("a=ice-ufrag", _)) => "a=ice-ufrag:theirs\r\n".to_owned(),
            Some(("a=ice-pwd", _)) => "a=ice-pwd:theirs-password-of-22-chars\r\n".to_owned(),
            Some(("a=fingerprint", _)) => {
                format!("a=fingerprint:sha-256 {}\r\n", identities().1.fingerprint)
            }
            _ => format!("{line}\r\n"),
        })
        .collect()
}

impl World {
    pub(crate) fn new(lab: Lab, alice: Peer, behaviour: Behaviour) -> World {
        let mut lab = lab;
        lab.media_answers = false;
        let identity = if behaviour.honest_certificate {
            identities().1.clone()
        } else {
            identities().0.clone()
        };
        World {
            lab,
            behaviour,
            alice,
            sessions: HashMap::new(),
            trunk_end: None,
            client: Handshake::new(identity, vec![fingerprint(&identities().0)]),
            started: false,
            keys: None,
            ours: None,
            encoders: (Encoder::new(Codec::Opus, NARROW, 3), Encoder::new(Codec::Pcmu, NARROW, 0)),
            ticks: 0,
            chance: Chance::new(5),
        }
    }

    pub(crate) fn usual(behaviour: Behaviour) -> World {
        World::new(Lab::with_phones(), ALICE, behaviour)
    }

    /// Does what the gateway asked of media, and tells it what came of that.
    pub(crate) fn pump(&mut self) {
        while !self.lab.media.is_empty() {
            for command in std::mem::take(&mut self.lab.media) {
                self.command(command);
            }
        }
    }

    fn command(&mut self, command: WorkerCommand) {
        let (now, mut out) = (self.lab.now, Out::default());
        let mut notices = Vec::new();
        let Some(of) = session_of(&command) else { return };
        let session = self
            .sessions
            .entry(of)
            .or_insert_with(|| Session::new(now, Duration::from_secs(1_700_000_000)));
        match command {
            WorkerCommand::Open { end, kind, ssrc, cname, seed, .. } => {
                let kind = match kind {
                    OpenKind::Browser { ice } => {
                        EndpointKind::Browser { identity: identities().0.clone(), ice }
                    }
                    OpenKind::Trunk { nat } => {
                        self.trunk_end = Some(end);
                        EndpointKind::Trunk { nat }
                    }
                };
                session.open(end, kind, ssrc, &cname, seed);
                notices.push(Notice::Opened {
                    end,
                    address: SocketAddr::from(([0, 0, 0, 0], 21_000 + 2 * end.0)),
                    tcp: false,
                });
            }
            WorkerCommand::Configure { end, settings, .. } => {
                session.configure(now, end, *settings, &mut out)
            }
            WorkerCommand::Bridge { a, b, .. } => session.bridge(now, a, b),
            WorkerCommand::Unbridge { end, .. } => session.unbridge(end),
            // The lab's packets have no source of ours.
            WorkerCommand::Source { .. } => {}
            WorkerCommand::Answered { end, .. } => session.on_answered(now, end),
            WorkerCommand::Natted { end, signalling, .. } => {
                session.mark_behind_nat(end, signalling)
            }
            WorkerCommand::Play { end, source, .. } => session.play(now, end, source),
            WorkerCommand::Echo { end, delay, .. } => session.echo(end, delay),
            WorkerCommand::Digit { end, event, length, .. } => session.digit(end, event, length),
            WorkerCommand::OfferIce { end, ice, .. } => session.offer_ice(end, ice),
            WorkerCommand::Renew { end, ice, .. } => {
                let identity = identities().0.clone();
                session.renew(now, end, EndpointKind::Browser { identity, ice });
            }
            WorkerCommand::Away { end, away, .. } => session.set_away(end, away),
            // The lab's process does not end.
            WorkerCommand::Journal { .. }
            | WorkerCommand::Confirm { .. }
            | WorkerCommand::Forgotten { .. }
            | WorkerCommand::Vouch { .. } => {}
            WorkerCommand::CloseEnd { end, .. } => notices.extend(
                session
                    .close_end(end)
                    .map(|statistics| Notice::EndClosed { end, statistics: Box::new(statistics) }),
            ),
            WorkerCommand::Close { .. } => {
                let statistics = session.ends().iter().map(|e| (e.id, e.statistics())).collect();
                notices.push(Notice::Closed { statistics });
                self.sessions.remove(&of);
            }
        }
        notices
            .into_iter()
            .for_each(|notice| self.lab.handle(Input::Media { session: of, notice }));
        self.deliver(of, out);
    }

    /// Hands the gateway a session's news, and the browser its packets.
    fn deliver(&mut self, of: u64, out: Out) {
        for event in out.events {
            self.lab.handle(Input::Media { session: of, notice: Notice::Media(event) });
        }
        let mut back = Vec::new();
        for datagram in out.sent {
            if (20..64).contains(&datagram[0])
                && let Ok(Some(keys)) =
                    self.client.receive(self.lab.now, &datagram, &mut |d| back.push(d.to_vec()))
            {
                self.keys = Some(keys);
            }
        }
        back.into_iter().for_each(|datagram| self.browser_sends(datagram));
    }

    fn browser_address() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 20], 5_000))
    }

    fn browser_sends(&mut self, mut datagram: Vec<u8>) {
        let Some((id, mut session)) = self.take_session() else { return };
        let mut out = Out::default();
        session.receive(
            self.lab.now,
            Port::Browser,
            LegId(0),
            World::browser_address(),
            &mut datagram,
            &mut out,
        );
        self.sessions.insert(id, session);
        self.deliver(id, out);
    }

    fn take_session(&mut self) -> Option<(u64, Session)> {
        let id = *self.sessions.keys().next()?;
        self.sessions.remove(&id).map(|s| (id, s))
    }

    /// Alice dials; the trunk answers with `answer`, and she hears of it. Her 200 and the trunk's
    /// INVITE.
    pub(crate) fn talk_with(&mut self, number: &str, answer: &str) -> (Message, Message) {
        self.lab.invite(self.alice, number, &offer());
        self.pump();
        let invite = self.lab.take(T1, "INVITE");
        self.lab.reply(T1, &invite, 200, answer);
        self.pump();
        let ok = self.lab.take(self.alice, "200");
        self.learn(&ok);
        self.lab.ack(self.alice, &ok);
        (ok, invite)
    }

    pub(crate) fn talk(&mut self) -> (Message, Message) {
        self.talk_with("+12065550123", TRUNK_SDP)
    }

    /// Takes our ICE credentials from our answer.
    pub(crate) fn learn(&mut self, ok: &Message) {
        let sdp = String::from_utf8_lossy(ok.body()).into_owned();
        let value = |name: &str| {
            sdp.lines().find_map(|l| l.strip_prefix(name)).expect("our answer has ICE").to_owned()
        };
        self.ours = Some((value("a=ice-ufrag:"), value("a=ice-pwd:")));
    }

    /// Time passes; the legs that should send do so.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.lab.now + time;
        while self.lab.now < end {
            self.lab.advance(STEP);
            self.pump();
            self.fire();
            self.browser_turn();
            self.trunk_turn();
            self.trunk_answers();
            self.ticks += 1;
        }
    }

    fn fire(&mut self) {
        for id in self.sessions.keys().copied().collect::<Vec<_>>() {
            let mut out = Out::default();
            if let Some(session) = self.sessions.get_mut(&id) {
                while session.next_timeout().is_some_and(|due| due <= self.lab.now) {
                    session.fire(self.lab.now, &mut out);
                }
            }
            self.deliver(id, out);
        }
        self.pump();
    }

    fn browser_turn(&mut self) {
        let Some((ufrag, pwd)) = self.ours.clone().filter(|_| self.behaviour.checks) else {
            return;
        };
        if self.ticks.is_multiple_of(100) {
            self.browser_sends(binding_request([3; 12], &format!("{ufrag}:theirs"), &pwd, true));
        }
        if self.behaviour.dtls && !std::mem::replace(&mut self.started, true) {
            let mut first = Vec::new();
            self.client.start(self.lab.now, &mut |d| first.push(d.to_vec()));
            first.into_iter().for_each(|d| self.browser_sends(d));
        }
        if self.keys.is_none() || self.behaviour.browser == Audio::Nothing {
            return;
        }
        let pcm = self.sound(self.behaviour.browser);
        let mut payload = [0; 400];
        let length = self.encoders.0.encode(&pcm, &mut payload);
        let payload_type = if self.behaviour.browser == Audio::WrongPayload { 97 } else { 111 };
        let mut datagram = rtp(
            payload_type,
            false,
            (self.ticks as u16, self.ticks as u32 * 960, 77),
            &payload[..length],
            32,
        );
        let Some(keys) = &mut self.keys else { return };
        let sealed = keys.protect.rtp(&mut datagram, 12 + length).expect("room");
        datagram.truncate(sealed);
        self.browser_sends(datagram);
    }

    fn trunk_turn(&mut self) {
        let Some(end) = self
            .trunk_end
            .filter(|_| self.behaviour.trunk != Audio::Nothing && self.ours.is_some())
        else {
            return;
        };
        let pcm = self.sound(self.behaviour.trunk);
        let mut payload = [0; 160];
        self.encoders.1.encode(&pcm, &mut payload);
        let payload_type = if self.behaviour.trunk == Audio::WrongPayload { 97 } else { 0 };
        let mut datagram =
            rtp(payload_type, false, (self.ticks as u16, self.ticks as u32 * 160, 88), &payload, 0);
        let from = SocketAddr::from((
            [127, 0, 0, 10],
            if self.behaviour.trunk == Audio::Elsewhere { 4_444 } else { 4_000 },
        ));
        let Some((id, mut session)) = self.take_session() else { return };
        let mut out = Out::default();
        session.receive(self.lab.now, Port::Rtp(end), end, from, &mut datagram, &mut out);
        self.sessions.insert(id, session);
        self.deliver(id, out);
    }

    fn trunk_answers(&mut self) {
        while self.behaviour.trunk_lives && self.lab.got(T1, "OPTIONS") {
            let options = self.lab.take(T1, "OPTIONS");
            self.lab.reply(T1, &options, 200, "");
        }
    }

    fn sound(&mut self, audio: Audio) -> Vec<i16> {
        if audio == Audio::Muted {
            return vec![0; 160];
        }
        (0..160).map(|_| ((self.chance.share() - 0.5) * 16_000.0) as i16).collect()
    }

    /// Alice hangs up, and the trunk agrees.
    pub(crate) fn hang_up(&mut self, ok: &Message) {
        let bye = self.lab.in_dialog(self.alice, ok, "BYE", 90, "", "");
        self.lab.says(self.alice, &bye);
        self.pump();
        if self.lab.got(T1, "BYE") {
            let bye = self.lab.take(T1, "BYE");
            self.lab.reply(T1, &bye, 200, "");
        }
    }
}

/// The session a command is for, if it is for one.
fn session_of(command: &WorkerCommand) -> Option<u64> {
    match command {
        WorkerCommand::Vouch { .. } => None,
        WorkerCommand::Open { session, .. }
        | WorkerCommand::Configure { session, .. }
        | WorkerCommand::Bridge { session, .. }
        | WorkerCommand::Unbridge { session, .. }
        | WorkerCommand::Source { session, .. }
        | WorkerCommand::Natted { session, .. }
        | WorkerCommand::Answered { session, .. }
        | WorkerCommand::Play { session, .. }
        | WorkerCommand::Echo { session, .. }
        | WorkerCommand::Digit { session, .. }
        | WorkerCommand::OfferIce { session, .. }
        | WorkerCommand::Renew { session, .. }
        | WorkerCommand::Away { session, .. }
        | WorkerCommand::CloseEnd { session, .. }
        | WorkerCommand::Confirm { session, .. }
        | WorkerCommand::Journal { session }
        | WorkerCommand::Forgotten { session }
        | WorkerCommand::Close { session } => Some(*session),
    }
}
