//! What used to be a fault and is a call that works now. The verdict says that it was fine, and
//! may: both parties were heard throughout, which each of these checks on its own. Beside those
//! that turn on media stands the same call where it did go wrong, so that "fine" is no habit.

use crate::faults::Fault;
use crate::lab::{ALICE, Lab, Peer, T1, TRUNK_SDP, ok_of_trunk};
use crate::scenarios::{said, secs};
use crate::world::{self, Behaviour, World};
use webtrunk::cdr::{Blame, Diagnosis};
use webtrunk::errors::Code;
use webtrunk::gateway::Input;
use webtrunk::media::endpoint::Statistics;
use webtrunk::sip::Message;
use webtrunk::sip::parse::Framing;

pub(crate) const WORKS: &[Fault] = &[
    fine("the 200's description differs from the 183's", || differing(4_100, 4_000)),
    Fault {
        name: "it differs, and the trunk sends as its 183 said",
        expected: Code::OTHER_SOURCE,
        side: Blame::Callee,
        run: || differing(4_000, 4_100),
    },
    fine("keys in RTP/AVP are refused (488), and the call is made without", keys_refused),
    fine("two tabs of one instance register in turn during the call", two_tabs),
    fine("the 200 holds lines nobody needs that cannot be read", broken_lines),
    fine("the 200 is written in Latin-1", || {
        answered_by(|ok| {
            [&ok[..12], b" D'accord \xe9\r\nServer: T\xe9l\xe9com", &ok[14..]].concat()
        })
    }),
    fine("the 200's description is a part of a multipart body", || answered_by(multipart)),
    fine("digits by INFO, as numbers", || during(digits)),
    fine("a proxy asks (407), and then the server (401)", challenged_twice),
    fine("a hold and a resume under an unchanged version", || during(held)),
];

const fn fine(name: &'static str, run: fn() -> Diagnosis) -> Fault {
    Fault { name, expected: Code::FINE, side: Blame::Nobody, run }
}

fn with(changes: &[(&str, &str)]) -> World {
    World::new(Lab::changed(changes, ""), ALICE, Behaviour::default())
}

/// The INVITE a trunk gets of alice.
fn invited(world: &mut World) -> Message {
    world.lab.invite(ALICE, "+12065550123", &world::offer());
    world.pump();
    world.lab.take(T1, "INVITE")
}

/// Alice's 200, acknowledged; both talk for ten seconds, do `more`, and talk for another ten.
fn talk(mut world: World, more: impl Fn(&mut World, &Message)) -> Diagnosis {
    world.pump();
    let ok = world.lab.take(ALICE, "200 INVITE");
    world.learn(&ok);
    world.lab.ack(ALICE, &ok);
    world.pass(secs(10));
    more(&mut world, &ok);
    world.pass(secs(10));
    world.hang_up(&ok);
    world.pump();
    let said = said(&world.lab);
    if said.code == Code::FINE {
        expect_both_heard(&world.lab, &said);
    }
    said
}

/// Nearly all of what either sent in twenty seconds came, was sound, and went to the other.
fn expect_both_heard(lab: &Lab, said: &Diagnosis) {
    let flight = lab.gateway.recorder.find("last").expect("it is recorded");
    let cdr = flight.cdr.as_ref().expect("it has ended");
    let of = |s: &Option<Statistics>| {
        let s = s.as_ref().expect("it had media");
        (s.non_silent_packets, s.sent)
    };
    for (heard, sent) in [of(&cdr.caller_media), of(&cdr.callee_media)] {
        assert!(heard > 900 && sent > 900, "{heard} heard, {sent} sent: {said:?}");
    }
    assert!(cdr.score().is_some_and(|score| score > 4.0), "{:?}: {said:?}", cdr.score());
}

fn differing(early: u16, answered: u16) -> Diagnosis {
    let mut world = World::usual(Behaviour::default());
    let at = |port: u16, version: u32| {
        let sdp = TRUNK_SDP.replace("audio 4000", &format!("audio {port}"));
        sdp.replace("o=- 1 1", &format!("o=- 1 {version}"))
    };
    let invite = invited(&mut world);
    world.lab.reply(T1, &invite, 183, &at(early, 1));
    world.pump();
    let progress = world.lab.take(ALICE, "183");
    world.learn(&progress);
    world.lab.advance(secs(2));
    world.lab.reply(T1, &invite, 200, &at(answered, 2));
    talk(world, |_, _| {})
}

fn keys_refused() -> Diagnosis {
    let mut world = with(&[("realm = \"carrier\"", "realm = \"carrier\"\nsrtp = \"optional\"")]);
    let invite = invited(&mut world);
    let has_keys = |m: &Message| String::from_utf8_lossy(m.body()).contains("a=crypto");
    assert!(has_keys(&invite));
    world.lab.reply(T1, &invite, 488, "");
    let again = world.lab.take(T1, "INVITE");
    assert!(!has_keys(&again));
    world.lab.reply(T1, &again, 200, TRUNK_SDP);
    talk(world, |_, _| {})
}

fn two_tabs() -> Diagnosis {
    let mut world = World::usual(Behaviour::default());
    let invite = invited(&mut world);
    world.lab.reply(T1, &invite, 200, TRUNK_SDP);
    talk(world, |world, _| {
        for _ in 0..3 {
            world.lab.log_in(Peer::Browser("alice", 8), "secret-a", "uuid-a");
            let probe = world.lab.take(ALICE, "OPTIONS");
            world.lab.reply(ALICE, &probe, 200, "");
            world.pass(secs(1));
            world.lab.log_in(ALICE, "secret-a", "uuid-a");
        }
    })
}

/// What the trunk says to the INVITE, its 200 changed.
fn answered_by(change: fn(&[u8]) -> Vec<u8>) -> Diagnosis {
    let mut world = World::usual(Behaviour::default());
    let invite = invited(&mut world);
    let ok = ok_of_trunk(&invite);
    let message = Message::parse(change(ok.as_bytes()), Framing::Datagram).expect("read");
    let remote = T1.remote();
    world.lab.handle(Input::Received { hop: T1.hop(), remote, message });
    talk(world, |_, _| {})
}

fn broken_lines() -> Diagnosis {
    answered_by(|ok| {
        let odd = b"this is no header\r\nDate: yesterday\r\nSession-Expires: soon\r\nContact";
        let at = ok.windows(9).position(|w| w == b"\r\nContact").expect("its place");
        [&ok[..at], b"\r\n", odd, &ok[at + 9..]].concat()
    })
}

fn multipart(ok: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(ok);
    let (head, sdp) = text.split_once("\r\n\r\n").expect("a body");
    let head: Vec<&str> = head.lines().filter(|l| !l.starts_with("Content-")).collect();
    let body = format!(
        "--b\r\nContent-Type: application/isup\r\n\r\n\u{1}\r\n--b\r\n\
         Content-Type: application/sdp\r\n\r\n{sdp}\r\n--b--\r\n"
    );
    let head = head.join("\r\n");
    let length = body.len();
    format!(
        "{head}\r\nContent-Type: multipart/mixed;boundary=b\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// What alice does in the middle of a call.
fn during(what: fn(&mut World, &Message)) -> Diagnosis {
    let mut world = World::usual(Behaviour::default());
    let invite = invited(&mut world);
    world.lab.reply(T1, &invite, 200, TRUNK_SDP);
    talk(world, what)
}

fn digits(world: &mut World, ok: &Message) {
    for (cseq, signal) in (70..).zip(["10", "11", "5", "*"]) {
        let body = format!("Signal={signal}\r\nDuration=160\r\n");
        let text = world
            .lab
            .in_dialog_with(ALICE, ok, "INFO", cseq, "", &body)
            .replace("application/sdp", "application/dtmf-relay");
        world.lab.says(ALICE, &text);
        world.lab.take(ALICE, "200 INFO");
        world.pump();
        world.pass(secs(1));
    }
}

fn challenged_twice() -> Diagnosis {
    let mut world = World::usual(Behaviour::default());
    let mut invite = invited(&mut world);
    for (status, kind, nonce) in [(407, "Proxy", "p"), (401, "WWW", "s")] {
        let challenge = format!(
            "{kind}-Authenticate: Digest realm=\"carrier\", nonce=\"{nonce}\", algorithm=MD5\r\n"
        );
        world.lab.reply_with(T1, &invite, status, "", nonce, &challenge);
        invite = world.lab.take(T1, "INVITE");
    }
    world.lab.reply(T1, &invite, 200, TRUNK_SDP);
    talk(world, |_, _| {})
}

fn held(world: &mut World, ok: &Message) {
    let hold = world::offer().replace("a=sendrecv", "a=sendonly");
    for (cseq, sdp, answered) in
        [(70, hold.as_str(), "a=recvonly"), (71, &world::offer(), "a=sendrecv")]
    {
        let text = world.lab.in_dialog(ALICE, ok, "INVITE", cseq, "", sdp);
        world.lab.says(ALICE, &text);
        world.pump();
        let taken = world.lab.take(ALICE, "200 INVITE");
        assert!(String::from_utf8_lossy(taken.body()).contains(answered), "{taken}");
        world.lab.ack(ALICE, &taken);
        world.pass(secs(2));
    }
}
