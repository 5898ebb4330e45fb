//! Calls with one thing wrong each, and the verdict on them.

use crate::lab::{ALICE, BOB, Lab, OFFER, Peer, T1, TRUNK_SDP};
use crate::world::{self, Audio, Behaviour, World};
use std::time::Duration;
use webtrunk::cdr::Diagnosis;
use webtrunk::errors::Code;
use webtrunk::gateway::Input;
use webtrunk::resolver::Records;
use webtrunk::sip::parse::HeaderName;
use webtrunk::sip::transaction::{Flow, Hop};
use webtrunk::transport::Arrival;
use webtrunk::transport::udp::arrival;

pub(crate) const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// The verdict on the newest call, from the flight recorder as the API reads it.
pub(crate) fn said(lab: &Lab) -> Diagnosis {
    let flight = lab.gateway.recorder.find("last").expect("it is recorded");
    let cdr =
        flight.cdr.as_ref().unwrap_or_else(|| panic!("the call has not ended\n{}", lab.picture()));
    cdr.verdict.clone().expect("every call that has ended is judged")
}

/// A call that is answered, runs for ten seconds and is hung up, with this behaviour.
pub(crate) fn call(behaviour: Behaviour) -> Diagnosis {
    let mut world = World::usual(behaviour);
    let (ok, _) = world.talk();
    world.pass(secs(10));
    world.hang_up(&ok);
    world.pump();
    said(&world.lab)
}

pub(crate) fn from_outside(public_ip: &str) -> Diagnosis {
    let lab =
        Lab::changed(&[("public_ip = \"192.0.2.1\"", &format!("public_ip = \"{public_ip}\""))], "");
    let far = Peer::Browser("alice", 100);
    let mut world = World::new(lab, far, Behaviour { checks: false, ..Behaviour::default() });
    world.lab.log_in(far, "secret-a", "uuid-far");
    let (ok, _) = world.talk();
    world.pass(secs(10));
    world.hang_up(&ok);
    world.pump();
    said(&world.lab)
}

pub(crate) fn refused_by_trunk(status: u16) -> Diagnosis {
    let mut lab = Lab::with_phones();
    lab.invite(ALICE, "+12065550123", OFFER);
    let invite = lab.take(T1, "INVITE");
    lab.reply(T1, &invite, status, "");
    said(&lab)
}

pub(crate) const CHALLENGE: &str =
    "Proxy-Authenticate: Digest realm=\"carrier\", nonce=\"n1\", qop=\"auth\", algorithm=MD5\r\n";

pub(crate) fn digest(then: u16) -> Diagnosis {
    let mut lab = Lab::with_phones();
    lab.invite(ALICE, "+12065550123", OFFER);
    let invite = lab.take(T1, "INVITE");
    lab.reply_with(T1, &invite, 407, "", "x", CHALLENGE);
    lab.take(T1, "ACK");
    let again = lab.take(T1, "INVITE");
    lab.reply_with(T1, &again, then, "", "y", if then == 407 { CHALLENGE } else { "" });
    said(&lab)
}

pub(crate) fn trunk_down() -> Diagnosis {
    let mut lab =
        Lab::changed(&[("realm = \"carrier\"", "realm = \"carrier\"\nprobe = \"5s\"")], "");
    lab.advance(secs(200));
    lab.invite(ALICE, "+12065550123", OFFER);
    said(&lab)
}

pub(crate) fn dns() -> Diagnosis {
    let mut lab =
        Lab::changed(&[("uri = \"sip:127.0.0.10\"", "uri = \"sip:no-such-carrier.example\"")], "");
    lab.zone = Some(|_| Err("no such name (NXDOMAIN)".to_owned()));
    lab.invite(ALICE, "+12065550123", OFFER);
    said(&lab)
}

/// A PBX that has to register by itself, and has not.
pub(crate) fn trunk_away() -> Diagnosis {
    let registers = "accepts_registration = true";
    let mut lab = Lab::changed(&[("uri = \"sip:127.0.0.10\"", registers)], "");
    lab.invite(ALICE, "+12065550123", OFFER);
    said(&lab)
}

/// What the TLS shell says of an expired certificate; its own words are tested where it is.
pub(crate) fn certificate() -> Diagnosis {
    let mut lab = Lab::with_phones();
    lab.invite(ALICE, "+32065550123", OFFER);
    let hop = Hop::Tcp("127.0.0.12:5060".parse().expect("an address"));
    let why =
        "TLS with 127.0.0.12:5061 failed: invalid peer certificate: certificate expired".to_owned();
    lab.handle(Input::Unreachable { hop, code: Code::CERTIFICATE, why });
    said(&lab)
}

pub(crate) fn unreachable() -> Diagnosis {
    let mut lab = Lab::with_phones();
    lab.invite(ALICE, "+12065550123", OFFER);
    lab.advance(secs(60));
    said(&lab)
}

pub(crate) fn lost_flow() -> Diagnosis {
    let mut world = World::usual(Behaviour::default());
    world.talk();
    world.pass(secs(5));
    world.lab.handle(Input::FlowClosed { flow: Flow(1) });
    // Its media is alive: it is waited for for longer.
    world.pass(secs(310));
    said(&world.lab)
}

pub(crate) fn closed_page() -> Diagnosis {
    let mut world = World::usual(Behaviour::default());
    world.talk();
    world.pass(secs(5));
    world.lab.handle(Input::PageLeft { flow: Flow(1) });
    world.lab.handle(Input::FlowClosed { flow: Flow(1) });
    world.pass(secs(60));
    said(&world.lab)
}

pub(crate) fn dead_flow() -> Diagnosis {
    let mut lab = Lab::changed(
        &[],
        "[[route]]\nname = \"Only Bob\"\nmatch = \"777\"\ndo = [{ ring = [\"user:bob\"], timeout = \"60s\" }]\n",
    );
    lab.invite(ALICE, "777", OFFER);
    lab.take(BOB, "INVITE");
    lab.advance(secs(70));
    said(&lab)
}

pub(crate) fn no_route() -> Diagnosis {
    let mut lab = Lab::with_phones();
    lab.invite(ALICE, "99999", OFFER);
    said(&lab)
}

pub(crate) fn limit() -> Diagnosis {
    let mut lab = Lab::changed(&[("calls_per_user = 4", "calls_per_user = 0")], "");
    lab.invite(ALICE, "9196", OFFER);
    said(&lab)
}

pub(crate) fn dear() -> Diagnosis {
    let mut lab = Lab::changed(&[], "");
    lab.invite(ALICE, "+19005550123", OFFER);
    said(&lab)
}

pub(crate) fn no_ports() -> Diagnosis {
    let mut lab = Lab::changed(&[], "");
    lab.no_ports = true;
    lab.invite(ALICE, "+12065550123", OFFER);
    said(&lab)
}

pub(crate) fn braked() -> Diagnosis {
    let mut lab = Lab::changed(&[("[limits]", "[fraud]\ncalls_per_hour = 1\n[limits]")], "");
    lab.invite(ALICE, "+12065550123", OFFER);
    let invite = lab.take(T1, "INVITE");
    lab.reply(T1, &invite, 486, "");
    lab.advance(secs(2));
    lab.invite(ALICE, "+12065550123", OFFER);
    said(&lab)
}

pub(crate) fn trunk_full() -> Diagnosis {
    let mut lab = Lab::changed(&[("max_calls = 3", "max_calls = 0")], "");
    lab.invite(ALICE, "+12065550123", OFFER);
    said(&lab)
}

pub(crate) fn session_timer() -> Diagnosis {
    let mut world = World::usual(Behaviour::default());
    world.lab.invite(ALICE, "+12065550123", &world::offer());
    world.pump();
    let invite = world.lab.take(T1, "INVITE");
    world.lab.reply_with(
        T1,
        &invite,
        200,
        TRUNK_SDP,
        "peer",
        "Session-Expires: 90;refresher=uas\r\nRequire: timer\r\n",
    );
    world.pump();
    let ok = world.lab.take(ALICE, "200");
    world.learn(&ok);
    world.lab.ack(ALICE, &ok);
    world.pass(secs(100));
    said(&world.lab)
}

pub(crate) fn lost_ack() -> Diagnosis {
    let mut world = World::usual(Behaviour::default());
    world.lab.invite(T1, "+12065550111", TRUNK_SDP);
    world.pump();
    let invite = world.lab.take(ALICE, "INVITE");
    world.lab.reply(ALICE, &invite, 180, "");
    let answer = include_str!("../corpus/chromium/answer-opus.sdp");
    world.lab.reply(ALICE, &invite, 200, answer);
    world.pump();
    world.pass(secs(40));
    said(&world.lab)
}

pub(crate) fn hung_up_on_hold() -> Diagnosis {
    let mut world = World::usual(Behaviour::default());
    let (ok, _) = world.talk();
    world.pass(secs(5));
    let hold =
        world::offer().replace("a=sendrecv", "a=sendonly").replacen(" 2 IN IP4", " 3 IN IP4", 1);
    let text = world.lab.in_dialog(ALICE, &ok, "INVITE", 91, "", &hold);
    world.lab.says(ALICE, &text);
    world.pump();
    world.behaviour = Behaviour {
        checks: false,
        browser: Audio::Nothing,
        trunk: Audio::Nothing,
        ..world.behaviour
    };
    world.pass(secs(60));
    said(&world.lab)
}

pub(crate) fn media_stopped() -> Diagnosis {
    let lab = Lab::changed(&[("[limits]", "[media]\ntimeout = \"10s\"\n[limits]")], "");
    let mut world = World::new(lab, ALICE, Behaviour::default());
    world.talk();
    world.pass(secs(5));
    world.behaviour = Behaviour {
        checks: false,
        browser: Audio::Nothing,
        trunk: Audio::Nothing,
        ..world.behaviour
    };
    world.pass(secs(60));
    said(&world.lab)
}

pub(crate) fn trunk_died(knows: Option<u16>) -> Diagnosis {
    let mut world = World::usual(Behaviour::default());
    world.talk();
    world.pass(secs(5));
    world.behaviour = Behaviour { trunk: Audio::Nothing, trunk_lives: false, ..world.behaviour };
    world.pass(secs(6));
    if let Some(status) = knows {
        let options = world.lab.take(T1, "OPTIONS");
        world.lab.reply(T1, &options, status, "");
    }
    world.pass(secs(9));
    said(&world.lab)
}

pub(crate) fn digits() -> Diagnosis {
    let lab = Lab::changed(&[("realm = \"carrier\"", "realm = \"carrier\"\ndtmf = \"info\"")], "");
    let mut world = World::new(lab, ALICE, Behaviour::default());
    let (ok, _) = world.talk();
    world.pass(secs(5));
    let info = "Content-Type: application/dtmf-relay\r\n";
    let text = world
        .lab
        .in_dialog_with(ALICE, &ok, "INFO", 80, info, "Signal=5\r\nDuration=160\r\n")
        .replacen("Content-Type: application/sdp\r\n", "", 1);
    world.lab.says(ALICE, &text);
    world.pump();
    world.pass(secs(1));
    let asked = world.lab.take(T1, "INFO");
    world.lab.reply(T1, &asked, 415, "");
    world.pass(secs(5));
    world.hang_up(&ok);
    world.pump();
    said(&world.lab)
}

pub(crate) fn private_trunk() -> Diagnosis {
    let mut world = World::usual(Behaviour::default());
    world.lab.invite(ALICE, "+12065550123", &world::offer());
    world.pump();
    let invite = world.lab.take(T1, "INVITE");
    world.lab.reply(
        T1,
        &invite,
        200,
        &TRUNK_SDP.replace("c=IN IP4 127.0.0.10", "c=IN IP4 10.1.4.2"),
    );
    world.pump();
    said(&world.lab)
}

/// The trunk's answer names a host that DNS does not know.
pub(crate) fn nameless_trunk() -> Diagnosis {
    let mut world = World::usual(Behaviour::default());
    world.lab.zone = Some(|_| Ok((Records::Address(Vec::new()), 60)));
    world.lab.invite(ALICE, "+12065550123", &world::offer());
    world.pump();
    let invite = world.lab.take(T1, "INVITE");
    let named = TRUNK_SDP.replace("c=IN IP4 127.0.0.10", "c=IN IP4 media.pbx.example");
    world.lab.reply(T1, &invite, 200, &named);
    world.pump();
    said(&world.lab)
}

pub(crate) fn kicked() -> Diagnosis {
    let mut world = World::usual(Behaviour::default());
    world.talk();
    world.pass(secs(5));
    let call = world.lab.gateway.recorder.find("last").expect("it is there").call;
    let command = webtrunk::gateway::operate::OperatorCommand::Kick {
        call,
        status: 480,
        why: "ended by an operator".into(),
    };
    world.lab.handle(Input::Operate(command));
    world.pump();
    said(&world.lab)
}

pub(crate) fn cancelled() -> Diagnosis {
    let mut lab = Lab::with_phones();
    let text = lab.invite(ALICE, "+12065550123", OFFER);
    let invite = lab.take(T1, "INVITE");
    lab.reply(T1, &invite, 180, "");
    lab.advance(secs(7));
    lab.cancel(ALICE, &text);
    said(&lab)
}

/// A call that is answered, hung up after `time`, and behaved like this meanwhile.
pub(crate) fn short(behaviour: Behaviour, time: Duration) -> Diagnosis {
    let mut world = World::usual(behaviour);
    let (ok, _) = world.talk();
    world.pass(time);
    world.hang_up(&ok);
    world.pump();
    said(&world.lab)
}

/// Both talk, and from the tenth second on one of them is somebody else.
pub(crate) fn later(then: Behaviour) -> Diagnosis {
    let mut world = World::usual(Behaviour::default());
    let (ok, _) = world.talk();
    world.pass(secs(10));
    world.behaviour = then;
    world.pass(secs(20));
    world.hang_up(&ok);
    world.pump();
    said(&world.lab)
}

/// A trunk calls somebody offline, and these steps follow the `ring`.
pub(crate) fn offline(steps: &str) -> Lab {
    let ring = "ring = [\"user:carol\"]";
    let changes = [("[user.bob]", "[user.carol]\npassword = \"secret-c\"\n[user.bob]")];
    let route =
        format!("[[route]]\nname = \"Carol\"\nmatch = \"202\"\ndo = [{{ {ring} }}{steps}]\n");
    let mut lab = Lab::changed(&changes, &route);
    lab.invite(ALICE, "202", OFFER);
    lab
}

pub(crate) fn offline_and_nothing_more() -> Diagnosis {
    said(&offline(""))
}

pub(crate) fn offline_and_hung_up() -> Diagnosis {
    said(&offline(", { hangup = 480 }"))
}

pub(crate) fn offline_and_busy() -> Diagnosis {
    said(&offline(", { hangup = 486 }"))
}

pub(crate) fn offline_and_announced() -> Diagnosis {
    let mut lab = offline(", { answer = true }, { play = \"builtin:chime\" }, { hangup = 480 }");
    let ok = lab.take(ALICE, "200");
    lab.ack(ALICE, &ok);
    lab.advance(secs(4));
    let bye = lab.in_dialog(ALICE, &ok, "BYE", 90, "", "");
    lab.says(ALICE, &bye);
    said(&lab)
}

pub(crate) fn offline_and_a_trunk_that_refuses() -> Diagnosis {
    let mut lab = offline(", { dial = [\"trunk:t1\"], to = \"+1777\" }");
    let invite = lab.take(T1, "INVITE");
    lab.reply(T1, &invite, 404, "");
    said(&lab)
}

/// The trunk says this, having rung or not.
pub(crate) fn trunk_says(rang: bool, status: u16) -> Diagnosis {
    let mut lab = Lab::with_phones();
    lab.invite(ALICE, "+12065550123", OFFER);
    let invite = lab.take(T1, "INVITE");
    if rang {
        lab.reply(T1, &invite, 180, "");
        lab.advance(secs(5));
    }
    lab.reply(T1, &invite, status, "");
    said(&lab)
}

/// The trunk takes the call; it rings, or not, until the route's timeout.
pub(crate) fn trunk_waits(first: u16) -> Diagnosis {
    let mut lab = Lab::with_phones();
    lab.invite(ALICE, "+12065550123", OFFER);
    let invite = lab.take(T1, "INVITE");
    lab.reply(T1, &invite, first, "");
    lab.advance(secs(21));
    let cancel = lab.take(T1, "CANCEL");
    lab.reply(T1, &cancel, 200, "");
    lab.reply(T1, &invite, 487, "");
    said(&lab)
}

/// The trunk answers with a 200 that is no SIP any more; the caller gives up.
pub(crate) fn unusable_answer(change: fn(&str) -> String) -> Diagnosis {
    let mut lab = Lab::with_phones();
    let text = lab.invite(ALICE, "+12065550123", OFFER);
    let invite = lab.take(T1, "INVITE");
    lab.reply(T1, &invite, 180, "");
    let header = |name| invite.header(name).unwrap_or_default();
    let ok = change(&format!(
        "SIP/2.0 200 OK\r\nVia: {}\r\nFrom: {}\r\nTo: {};tag=peer\r\nCall-ID: {}\r\n\
         CSeq: {}\r\nContact: <sip:far@127.0.0.10>\r\nContent-Length: 0\r\n\r\n",
        header(HeaderName::Via),
        header(HeaderName::From),
        header(HeaderName::To),
        header(HeaderName::CallId),
        header(HeaderName::CSeq),
    ));
    let remote = "127.0.0.10:5060".parse().expect("an address");
    match arrival(ok.as_bytes(), remote, None) {
        Some(Arrival::Malformed { remote, why, rest: Some(rest) }) => {
            lab.handle(Input::Unreadable { remote, rest, why: why.to_string() });
        }
        Some(Arrival::Input(input)) => lab.handle(input),
        other => panic!("{other:?}"),
    }
    lab.advance(secs(9));
    lab.cancel(ALICE, &text);
    said(&lab)
}
