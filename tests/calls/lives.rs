//! Random lives: both sides do anything at any time, and still nothing is left and nothing is sent
//! wrongly.

use crate::lab::*;
use std::collections::BTreeMap;
use std::collections::HashSet;
use std::time::Duration;
use webtrunk::call::operator::PartyRole;
use webtrunk::event::Event;
use webtrunk::gateway::operate::CallAction;
use webtrunk::gateway::originate::OriginateRequest;
use webtrunk::gateway::{FlowKind, Gauges, Input};
use webtrunk::media::dtls;
use webtrunk::media::session::SessionEvent;
use webtrunk::sip::Message;
use webtrunk::sip::transaction::Flow;
use webtrunk::worker::{Notice, WorkerCommand};

struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

const PEERS: [Peer; 4] = [ALICE, BOB, T1, T2];
const NUMBERS: [&str; 9] =
    ["+12065550123", "+22065550123", "200", "201", "9196", "9198", "+12065550111", "777", "300"];

/// What is sent within a dialog, the likelier the more often it stands here.
const IN_DIALOG: [&str; 14] = [
    "ACK",
    "ACK",
    "ACK",
    "BYE",
    "INVITE",
    "INFO",
    "OPTIONS",
    "UPDATE",
    "PRACK",
    "REFER",
    "REFER",
    "NOTIFY",
    "MESSAGE",
    "SUBSCRIBE",
];

struct Life {
    lab: Lab,
    chance: Chance,
    /// INVITEs peers sent, and messages they got.
    sent: Vec<(Peer, String)>,
    seen: Vec<(Peer, Message)>,
    cseq: u32,
    /// Branches of the trunks' requests, each of which must get a final answer, and of the answers.
    asked: HashSet<String>,
    answered: HashSet<String>,
    /// Of things that may happen; with 22, the gateway is started again too.
    kinds: usize,
}

impl Life {
    fn new(seed: u64) -> Life {
        Life {
            lab: Lab::with_phones(),
            chance: Chance(seed | 1 << 60),
            sent: Vec::new(),
            seen: Vec::new(),
            cseq: 100_000,
            asked: HashSet::new(),
            answered: HashSet::new(),
            kinds: 21,
        }
    }

    fn body(&mut self, peer: Peer, offer: bool) -> String {
        let text = match (peer, offer) {
            (Peer::Browser(..), true) => OFFER.to_owned(),
            (Peer::Browser(..), false) => ANSWER.to_owned(),
            (Peer::Trunk(_, n), _) => TRUNK_SDP.replace("127.0.0.10", &format!("127.0.0.{n}")),
        };
        match self.chance.below(12) {
            0 => String::new(),
            1 => text.replace("a=sendrecv", "a=sendonly"),
            2 => text
                .replace("PCMU", "G729")
                .replace("opus", "speex")
                .replace("RTP/AVP 0", "RTP/AVP 96"),
            _ => text,
        }
    }

    /// A request that must be answered: a trunk's, whose way back is always there.
    fn asks(&mut self, peer: Peer, text: &str) {
        if let (Peer::Trunk(..), Some(branch)) = (peer, text.split("branch=").nth(1)) {
            self.asked.insert(branch.split("\r\n").next().unwrap_or_default().to_owned());
        }
        self.lab.says(peer, text);
    }

    fn collect(&mut self) {
        for (hop, message) in self.lab.inbox.drain(..).collect::<Vec<_>>() {
            if !message.is_request() && message.status() >= 200 {
                self.answered.extend(message.via().and_then(|v| v.branch()).map(str::to_owned));
            }
            if let Some(peer) = PEERS.into_iter().find(|p| p.hop() == hop) {
                self.seen.push((peer, message));
            }
        }
    }

    fn step(&mut self) {
        self.collect();
        match self.chance.below(self.kinds) {
            0..=2 => {
                let (peer, number) = (self.chance.pick(&PEERS), self.chance.pick(&NUMBERS));
                let body = self.body(peer, true);
                let host = if matches!(peer, Peer::Browser(..)) { "wt.test" } else { "127.0.0.1" };
                let extra = self.chance.pick(&[
                    "",
                    "",
                    "Require: 100rel\r\n",
                    "Supported: 100rel, timer\r\nSession-Expires: 120\r\n",
                    "Request-Disposition: sequential\r\n",
                ]);
                let text =
                    self.lab.request(peer, "INVITE", &format!("sip:{number}@{host}"), extra, &body);
                self.asks(peer, &text);
                self.sent.push((peer, text));
            }
            3..=11 => self.respond(),
            12 if !self.sent.is_empty() => {
                let (peer, text) = self.sent[self.chance.below(self.sent.len())].clone();
                self.lab.cancel(peer, &text);
            }
            13 if !self.sent.is_empty() => {
                let (peer, text) = self.sent[self.chance.below(self.sent.len())].clone();
                self.lab.says(peer, &text);
            }
            14..=16 => self.in_dialog(),
            17 => self.media(),
            18 if self.chance.below(6) == 0 => self.flow(),
            19 => self.operate(),
            20 => self.reload(),
            21 => self.restart(),
            _ => {
                let ms = self.chance.pick(&[1u64, 200, 500, 1_000, 4_000, 11_000, 40_000]);
                self.lab.advance(Duration::from_millis(ms));
            }
        }
    }

    /// A page takes up, or tries to, what some dialog names.
    fn reload(&mut self) {
        let named = |(_, m): &&(Peer, Message)| m.to().is_some_and(|t| t.tag().is_some());
        let named: Vec<Message> = self.seen.iter().filter(named).map(|(_, m)| m.clone()).collect();
        if named.is_empty() {
            return;
        }
        let seen = &named[self.chance.below(named.len())];
        let (peer, header) = (self.chance.pick(&PEERS), crate::reload::replaces(seen));
        let body = self.body(peer, true);
        let text = self.lab.request(peer, "INVITE", "sip:call@wt.test", &header, &body);
        self.asks(peer, &text);
        self.sent.push((peer, text));
    }

    fn respond(&mut self) {
        let requests: Vec<usize> = (0..self.seen.len())
            .filter(|n| self.seen[*n].1.is_request() && self.seen[*n].1.method_token() != "ACK")
            .collect();
        if requests.is_empty() {
            return;
        }
        // Mostly the newest: a peer that answers only old requests never gets anywhere.
        let at = if self.chance.below(3) > 0 {
            *requests.last().expect("not empty")
        } else {
            self.chance.pick(&requests)
        };
        let (peer, request) = self.seen[at].clone();
        let status = match request.method_token() {
            "INVITE" => self
                .chance
                .pick(&[100, 180, 180, 183, 200, 200, 200, 302, 401, 404, 486, 487, 500, 503, 603]),
            _ => self.chance.pick(&[200, 200, 200, 481, 500]),
        };
        let body = if request.method_token() == "INVITE" && (status == 183 || status == 200) {
            self.body(peer, false)
        } else {
            String::new()
        };
        let tag = self.chance.pick(&["peer", "peer", "peer", "fork"]);
        let extra = match (request.method_token(), status) {
            ("INVITE", 101..=199) => self.chance.pick(&[
                "",
                "Require: 100rel\r\nRSeq: 1\r\n",
                "Require: 100rel\r\nRSeq: 2\r\n",
            ]),
            ("INVITE", 200) => self.chance.pick(&[
                "",
                "Session-Expires: 90;refresher=uac\r\nRequire: timer\r\n",
                "Session-Expires: 90;refresher=uas\r\nAllow: UPDATE, MESSAGE\r\n",
            ]),
            ("INVITE", 302) => "Contact: <sip:201@x>\r\n",
            _ => "",
        };
        self.lab.reply_with(peer, &request, status, &body, tag, extra);
    }

    fn in_dialog(&mut self) {
        let dialogs: Vec<usize> = (0..self.seen.len())
            .filter(|n| {
                let m = &self.seen[*n].1;
                (m.is_request() && m.method_token() == "INVITE")
                    || (!m.is_request()
                        && (101..300).contains(&m.status())
                        && m.to().is_some_and(|t| t.tag().is_some()))
            })
            .collect();
        if dialogs.is_empty() {
            return;
        }
        let (peer, seen) = self.seen[self.chance.pick(&dialogs)].clone();
        let method = self.chance.pick(&IN_DIALOG);
        self.cseq += 1;
        let cseq = match method {
            "ACK" => seen.cseq().map_or(1, |c| c.number),
            _ => self.cseq + u32::from(self.chance.below(2) == 0) * 1_000,
        };
        let body = if matches!(method, "INVITE" | "UPDATE" | "PRACK") {
            self.body(peer, true)
        } else {
            String::new()
        };
        let extra = match method {
            "PRACK" => format!(
                "RAck: {} {} INVITE\r\n",
                seen.header(webtrunk::sip::HeaderName::RSeq).unwrap_or("1"),
                seen.cseq().map_or(1, |c| c.number)
            ),
            "REFER" => self.refer_to(&dialogs),
            "NOTIFY" => "Event: refer\r\nSubscription-State: terminated\r\n".to_owned(),
            _ => String::new(),
        };
        let text = self.lab.in_dialog(peer, &seen, method, cseq, "peer", &body).replacen(
            "Max-Forwards",
            &format!("{extra}Max-Forwards"),
            1,
        );
        if method == "ACK" {
            self.lab.says(peer, &text);
        } else {
            self.asks(peer, &text);
        }
    }

    /// The header that names whom to call: half of the time instead of one of `dialogs`.
    fn refer_to(&mut self, dialogs: &[usize]) -> String {
        let (_, other) = &self.seen[self.chance.pick(dialogs)];
        let tag = |a: Option<webtrunk::sip::header::NameAddr<'_>>| {
            a.and_then(|a| a.tag()).unwrap_or("none").to_owned()
        };
        let replaces = format!(
            "{}%3Bto-tag%3D{}%3Bfrom-tag%3D{}",
            other.call_id(),
            tag(other.to()),
            tag(other.from())
        );
        let number = self.chance.pick(&NUMBERS);
        let attended = self.chance.below(2) == 0;
        format!(
            "Refer-To: <sip:{number}@wt.test{}>\r\n",
            if attended { format!("?Replaces={replaces}") } else { String::new() }
        )
    }

    fn media(&mut self) {
        let sessions: Vec<(u64, webtrunk::media::LegId)> = self
            .lab
            .media
            .iter()
            .filter_map(|c| {
                if let WorkerCommand::Open { session, end, .. } = c {
                    Some((*session, *end))
                } else {
                    None
                }
            })
            .collect();
        if sessions.is_empty() {
            return;
        }
        let (session, end) = self.chance.pick(&sessions);
        let event = match self.chance.below(8) {
            0 if self.chance.below(2) == 0 => {
                SessionEvent::DtlsFailed { end, why: dtls::Failed::Fingerprint }
            }
            0 => SessionEvent::DtlsFailed { end, why: dtls::Failed::TimedOut },
            1 => SessionEvent::ConsentLost { end },
            2 => SessionEvent::NoMedia { since: Duration::from_secs(30) },
            3 => SessionEvent::Connected { end, address: ALICE.remote() },
            4 | 5 => SessionEvent::Faded { end, since: Duration::from_secs(1) },
            6 => SessionEvent::Regained { end },
            _ => SessionEvent::Played { end },
        };
        self.lab.handle(Input::Media { session, notice: Notice::Media(event) });
    }

    /// The API: a call nobody dialled, or an action on an active one.
    fn operate(&mut self) {
        if self.chance.below(2) == 0 {
            let from = self.chance.pick(&["alice", "bob", "+12065550100"]);
            let wish = OriginateRequest {
                from: from.into(),
                to: self.chance.pick(&NUMBERS).into(),
                context: Some("phones".into()),
                tags: BTreeMap::new(),
            };
            if let Ok(plan) = self.lab.gateway.plan_call(self.lab.now, &wish) {
                self.lab.handle(Input::Originate(Box::new(plan)));
            }
            return;
        }
        let calls: Vec<_> = self.lab.gateway.live_calls().map(|c| c.id()).collect();
        if calls.is_empty() {
            return;
        }
        let call = calls[self.chance.below(calls.len())];
        let side = self.chance.pick(&[PartyRole::Caller, PartyRole::Callee]);
        let action = match self.chance.below(4) {
            0 => CallAction::Press { side, digits: "1#".into() },
            1 => CallAction::HandOver { side, to: self.chance.pick(&NUMBERS).into() },
            2 => CallAction::Separate(true),
            _ => CallAction::Separate(false),
        };
        let mut out = Vec::new();
        let _ = self.lab.gateway.act_on_call(self.lab.now, call, &action, &mut out);
        self.lab.perform(out);
    }

    /// The gateway is killed and started again. What it was asked just before is not answered:
    /// the sender retries, which no peer does here.
    fn restart(&mut self) {
        self.collect();
        self.asked.clear();
        self.lab.restart(Duration::from_millis(400));
        for (peer, password, instance) in
            [(ALICE, "secret-a", "uuid-a"), (BOB, "secret-b", "uuid-b")]
        {
            self.collect();
            self.lab.log_in(peer, password, instance);
        }
    }

    fn flow(&mut self) {
        let peer = self.chance.pick(&[ALICE, BOB]);
        self.comes_again(peer);
    }

    /// The page of `peer` is loaded again.
    fn comes_again(&mut self, peer: Peer) {
        let Peer::Browser(name, flow) = peer else { return };
        self.lab.handle(Input::FlowClosed { flow: Flow(flow) });
        let (password, instance) =
            if name == "alice" { ("secret-a", "uuid-a") } else { ("secret-b", "uuid-b") };
        self.collect();
        self.lab.log_in(Peer::Browser(name, flow), password, instance);
    }
}

/// One life; whether some page took a call up in it.
fn live(seed: u64, kinds: usize) -> bool {
    let mut life = Life { kinds, ..Life::new(seed) };
    for _ in 0..120 {
        life.step();
    }
    life.lab.handle(Input::HangUpAll);
    life.lab.expect_idle();
    life.collect();
    let silent: Vec<&String> = life.asked.difference(&life.answered).collect();
    assert!(silent.is_empty(), "never answered: {silent:?}");
    assert!(!life.lab.notes.iter().any(|n| matches!(n, Event::CallPanicked { .. })));
    life.lab.notes.iter().any(|n| matches!(n, Event::PageReplaced { .. }))
}

fn live_all(fewest: u64, kinds: usize) {
    // WEBTRUNK_LIVES raises the number; two thousand passed when this was written.
    let lives = std::env::var("WEBTRUNK_LIVES").ok().and_then(|n| n.parse().ok()).unwrap_or(fewest);
    let mut taken_up = 0;
    for seed in 1..=lives {
        let lived =
            std::panic::catch_unwind(|| live(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15), kinds));
        match lived {
            Ok(reloaded) => taken_up += u64::from(reloaded),
            Err(cause) => {
                eprintln!("seed {seed}");
                std::panic::resume_unwind(cause);
            }
        }
    }
    assert!(taken_up * 20 > lives, "of {lives} lives pages took calls up in {taken_up}");
}

#[test]
fn random_lives_leave_nothing_behind() {
    live_all(1_000, 21);
}

#[test]
fn random_lives_with_restarts_leave_nothing_behind() {
    live_all(300, 22);
}

/// What is in the gateway's tables; what only ever grows are counters, and no memory.
fn held(lab: &mut Lab) -> Gauges {
    lab.handle(Input::HangUpAll);
    lab.expect_idle();
    Gauges { dropped: 0, repeated: [0; 4], ..lab.gateway.gauges() }
}

#[test]
fn a_day_of_calls_leaves_what_its_first_hour_left() {
    let mut life = Life::new(0x24);
    let (mut first, mut calls) = (None, 0);
    for hour in 0..24 {
        for _ in 0..6 {
            [ALICE, BOB].into_iter().for_each(|peer| life.comes_again(peer));
            for _ in 0..40 {
                life.step();
            }
            // A stranger guesses, at another name each time.
            life.cseq += 1;
            let name = format!("guess-{}", life.cseq);
            let stranger = Peer::Browser("stranger", 9);
            let open = Input::FlowOpened {
                flow: Flow(9),
                kind: FlowKind::WebSocket,
                remote: stranger.remote(),
            };
            life.lab.handle(open);
            let uri = "sip:wt.test";
            let guess = life.lab.request(stranger, "REGISTER", uri, "Expires: 600\r\n", "");
            life.lab.says(stranger, &guess);
            let challenge = life.lab.take(stranger, "401");
            let guess = life.lab.answer_challenge(&challenge, &guess, &name, "password");
            life.lab.says(stranger, &guess);
            life.lab.handle(Input::FlowClosed { flow: Flow(9) });
            life.lab.advance(Duration::from_secs(400));
            calls += life.lab.ended().len();
            // What the peers remember is theirs.
            life.lab.clear();
            life.lab.media.clear();
            life.lab.inbox.clear();
            (life.sent, life.seen) = (Vec::new(), Vec::new());
        }
        let now = held(&mut life.lab);
        let then = *first.get_or_insert(now);
        assert_eq!(now, then, "after hour {}", hour + 1);
        life.lab.quiet = false;
    }
    assert!(calls > 500, "{calls} calls make no day");
}
