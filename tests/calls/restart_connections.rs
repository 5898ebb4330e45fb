//! Trunks that had connected to a gateway which is killed and started again.

use crate::lab::*;
use crate::restart::{AWAY, BACK, comes_back, knows_its_call};
use std::net::SocketAddr;
use std::time::Duration;
use webtrunk::errors::Code;
use webtrunk::gateway::{FlowKind, Input};
use webtrunk::sip::Message;
use webtrunk::sip::parse::Framing;
use webtrunk::sip::transaction::{Flow, Hop, TrunkNumber};

/// A call from t1 to alice by a connection that t1 opened, answered or not: the INVITE alice got.
fn called_by_connection(lab: &mut Lab, kind: FlowKind, answers: bool) -> Message {
    let remote = SocketAddr::from(([127, 0, 0, 10], 41_000));
    lab.handle(Input::FlowOpened { flow: Flow(9), kind, remote });
    let hop = Hop::Flow(Flow(9));
    let receive = |lab: &mut Lab, text: String| {
        let message = Message::parse(text.into_bytes(), Framing::WebSocket).expect("sound");
        lab.handle(Input::Received { hop, remote, message });
    };
    let invite = lab.request(T1, "INVITE", "sip:+12065550111@127.0.0.1", "", TRUNK_SDP);
    receive(lab, invite);
    let ringing = lab.take(ALICE, "INVITE");
    if answers {
        lab.reply(ALICE, &ringing, 200, ANSWER);
        let ok = lab.inbox.iter().find(|(h, m)| *h == hop && m.status() == 200);
        let ok = ok.expect("the 200").1.clone();
        let number = ok.cseq().expect("a CSeq").number;
        let ack = lab.in_dialog(T1, &ok, "ACK", number, "", "");
        receive(lab, ack);
    }
    if !answers {
        lab.reply(ALICE, &ringing, 180, "");
    }
    lab.inbox.clear();
    ringing
}

/// What the gateway said by `hop`.
fn said_by(lab: &Lab, hop: Hop) -> Vec<String> {
    let to = lab.inbox.iter().filter(|(to, _)| *to == hop).map(|(_, message)| message);
    let name = |m: &Message| match m.status() {
        0 => m.method_token().to_owned(),
        status => status.to_string(),
    };
    to.map(name).collect()
}

#[test]
fn a_trunk_whose_connection_died_with_the_process_is_connected_to() {
    for (kind, port) in [(FlowKind::Tcp, 5_060), (FlowKind::Tls, 5_061)] {
        let mut lab = Lab::with_phones();
        let ringing = called_by_connection(&mut lab, kind, true);
        lab.restart(AWAY);
        comes_back(&mut lab);
        knows_its_call(&mut lab, BACK);
        // It is not waited for as a browser is.
        lab.advance(Duration::from_secs(600));
        assert_eq!(lab.gateway.gauges().calls, 1, "{kind:?}: the call goes on");
        let bye = lab.in_dialog(BACK, &ringing, "BYE", 5, "peer", "");
        lab.says(BACK, &bye);
        let to = SocketAddr::from(([127, 0, 0, 10], port));
        let hop = match kind {
            FlowKind::Tls => Hop::Tls(to, TrunkNumber(0)),
            FlowKind::Tcp | FlowKind::WebSocket => Hop::Tcp(to),
        };
        assert_eq!(said_by(&lab, hop), ["BYE"], "{kind:?}");
        assert_eq!(lab.ended()[0].code, Code::FINE);
        lab.expect_idle();
    }
}

#[test]
fn a_trunk_that_called_by_a_connection_is_refused_by_another_after_a_restart() {
    let mut lab = Lab::with_phones();
    let ringing = called_by_connection(&mut lab, FlowKind::Tcp, false);
    lab.restart(AWAY);
    let hop = Hop::Tcp(SocketAddr::from(([127, 0, 0, 10], 5_060)));
    assert_eq!(said_by(&lab, hop), ["503"]);
    comes_back(&mut lab);
    let cancel = lab.take(BACK, "CANCEL");
    lab.reply(BACK, &cancel, 200, "");
    lab.reply(BACK, &ringing, 487, "");
    lab.expect_idle();
}

/// A trunk that is gone from the configuration can still be told by datagrams that its call ends.
#[test]
fn a_call_of_a_trunk_that_is_not_configured_any_more_goes_on_or_ends_at_once() {
    for (secure, goes_on) in [(false, true), (true, false)] {
        let uri = if secure { "sip:127.0.0.12;transport=tls" } else { "sip:127.0.0.12" };
        let mut lab = Lab::changed(&[("sip:127.0.0.12;transport=tcp", uri)], "");
        lab.invite(ALICE, "+3206555", OFFER);
        let far = SocketAddr::from(([127, 0, 0, 12], if secure { 5_061 } else { 5_060 }));
        let hop = if secure { Hop::Tls(far, TrunkNumber(2)) } else { Hop::Udp(far) };
        let invite = lab.inbox.iter().find(|(to, m)| *to == hop && m.method_token() == "INVITE");
        let invite = invite.expect("an INVITE").1.clone();
        let ok = ok_of_trunk(&invite).replace("127.0.0.10", "127.0.0.12");
        let ok = Message::parse(ok.into_bytes(), Framing::WebSocket);
        lab.handle(Input::Received { hop, remote: far, message: ok.expect("sound") });
        let ok = lab.take(ALICE, "200 INVITE");
        lab.ack(ALICE, &ok);
        lab.inbox.clear();
        lab.configure_next(&[("trunk.t3", "trunk.t9"), ("trunk:t3", "trunk:t9")]);
        lab.restart(AWAY);
        comes_back(&mut lab);
        if goes_on {
            knows_its_call(&mut lab, BACK);
            let bye = lab.in_dialog(BACK, &ok, "BYE", 5, "", "");
            lab.says(BACK, &bye);
            assert_eq!(said_by(&lab, hop), ["BYE"]);
        }
        let records = lab.ended();
        let wanted = if goes_on { Code::FINE } else { Code::RESTARTED };
        assert_eq!(records.iter().map(|r| r.code).collect::<Vec<_>>(), [wanted], "{secure}");
        lab.expect_idle();
    }
}

const OFFICE: &str = "[trunk.office]\naccepts_registration = true\nusername = \"office\"\n\
    password = \"office-secret\"\ncontext = \"incoming\"\n[trunk.t2]\n";

/// A message of a PBX behind a NAT, by a connection it made from this port: the answer.
fn pbx_says(lab: &mut Lab, (flow, port): (u64, u16), text: &str) -> Message {
    let remote = SocketAddr::from(([127, 0, 0, 77], port));
    let message = Message::parse(text.as_bytes().to_vec(), Framing::WebSocket).expect("sound");
    lab.handle(Input::Received { hop: Hop::Flow(Flow(flow)), remote, message });
    let by = |(to, _): &(Hop, Message)| *to == Hop::Flow(Flow(flow));
    let at = lab.inbox.iter().rposition(by).expect("an answer");
    lab.inbox.remove(at).expect("it is there").1
}

fn pbx_connects(lab: &mut Lab, (flow, port): (u64, u16), kind: FlowKind) {
    let remote = SocketAddr::from(([127, 0, 0, 77], port));
    lab.handle(Input::FlowOpened { flow: Flow(flow), kind, remote });
}

fn pbx_registers(lab: &mut Lab, by: (u64, u16)) {
    let n = lab.token();
    let text = format!(
        "REGISTER sip:wt.test SIP/2.0\r\nVia: SIP/2.0/TCP 10.9.9.9;branch=z9hG4bK-{n}\r\n\
         Max-Forwards: 70\r\nFrom: <sip:office@wt.test>;tag=f\r\nTo: <sip:office@wt.test>\r\n\
         Call-ID: reg\r\nCSeq: {n} REGISTER\r\nContact: <sip:office@10.9.9.9;transport=tcp>\r\n\
         Expires: 300\r\nContent-Length: 0\r\n\r\n"
    );
    let challenge = pbx_says(lab, by, &text);
    let answer = lab.answer_challenge(&challenge, &text, "office", "office-secret");
    assert_eq!(pbx_says(lab, by, &answer).status(), 200);
}

/// A PBX connects so, registers, and calls alice, who answers: the INVITE she got, and the 200.
fn pbx_calls(lab: &mut Lab, by: (u64, u16), kind: FlowKind) -> (Message, Message) {
    pbx_connects(lab, by, kind);
    pbx_registers(lab, by);
    let sdp = TRUNK_SDP.replace("127.0.0.10", "127.0.0.77");
    let invite = lab.request(PBX, "INVITE", "sip:+12065550111@127.0.0.1", "", &sdp);
    pbx_says(lab, by, &invite);
    let ringing = lab.take(ALICE, "INVITE");
    lab.reply(ALICE, &ringing, 200, ANSWER);
    let flow = Hop::Flow(Flow(by.0));
    let ok = lab.inbox.iter().find(|(to, m)| *to == flow && m.status() == 200);
    let ok = ok.expect("the 200").1.clone();
    let ack = lab.in_dialog(PBX, &ok, "ACK", ok.cseq().expect("a CSeq").number, "", "");
    let message = Message::parse(ack.into_bytes(), Framing::WebSocket).expect("sound");
    lab.handle(Input::Received { hop: flow, remote: PBX.remote(), message });
    lab.inbox.clear();
    (ringing, ok)
}

const PBX: Peer = Peer::Trunk("office", 77);

/// It listens nowhere that could be connected to.
#[test]
fn a_call_of_a_pbx_behind_a_nat_goes_by_its_next_connection() {
    for registers in [true, false] {
        let mut lab = Lab::changed(&[("[trunk.t2]\n", OFFICE)], "");
        let (first, next) = ((9, 41_000), (10, 42_000));
        let (ringing, ok) = pbx_calls(&mut lab, first, FlowKind::Tcp);
        lab.restart(AWAY);
        comes_back(&mut lab);
        knows_its_call(&mut lab, BACK);
        pbx_connects(&mut lab, next, FlowKind::Tcp);
        if registers {
            pbx_registers(&mut lab, next);
        } else {
            let asks = lab.in_dialog(PBX, &ok, "OPTIONS", 900, "", "");
            assert_eq!(pbx_says(&mut lab, next, &asks).status(), 200);
        }
        lab.inbox.clear();
        let bye = lab.in_dialog(BACK, &ringing, "BYE", 5, "peer", "");
        lab.says(BACK, &bye);
        assert_eq!(said_by(&lab, Hop::Flow(Flow(next.0))), ["BYE"], "registers {registers}");
        assert_eq!(lab.ended()[0].code, Code::FINE);
        lab.handle(Input::FlowClosed { flow: Flow(next.0) });
        lab.expect_idle();
    }
}

/// What was said over TLS may hold keys of its media, and is nobody else's to read or to say.
#[test]
fn a_call_over_tls_never_goes_on_in_the_clear() {
    let (tls, tcp) = (FlowKind::Tls, FlowKind::Tcp);
    let back = Hop::Tls(SocketAddr::from(([127, 0, 0, 77], 5_061)), TrunkNumber(0));
    let there = Hop::Flow(Flow(10));
    for (before, after, goes_by) in [(tls, tcp, back), (tls, tls, there), (tcp, tls, there)] {
        for restarts in [true, false] {
            let what = format!("{before:?}, then {after:?}, restarts {restarts}");
            let mut lab = Lab::changed(&[("[trunk.t2]\n", OFFICE)], "");
            let (first, next) = ((9, 41_000), (10, 42_000));
            let (ringing, ok) = pbx_calls(&mut lab, first, before);
            let alice = if restarts {
                lab.restart(AWAY);
                comes_back(&mut lab);
                knows_its_call(&mut lab, BACK);
                BACK
            } else {
                lab.handle(Input::FlowClosed { flow: Flow(first.0) });
                ALICE
            };
            pbx_connects(&mut lab, next, after);
            pbx_registers(&mut lab, next);
            let clear = goes_by == back;
            for (n, method) in ["OPTIONS", "INFO", "UPDATE", "INVITE"].into_iter().enumerate() {
                let asks = lab.in_dialog(PBX, &ok, method, 900 + n as u32, "", "");
                let answer = pbx_says(&mut lab, next, &asks);
                assert_eq!(answer.status() == 403, clear, "{method} of {what}");
                let clues = String::from_utf8_lossy(&answer.to_bytes()).into_owned();
                assert_eq!(clues.contains("TLS"), clear, "it says why: {clues}");
            }
            lab.inbox.clear();
            let bye = lab.in_dialog(alice, &ringing, "BYE", 5, "peer", "");
            lab.says(alice, &bye);
            assert_eq!(said_by(&lab, goes_by), ["BYE"], "{what}");
            assert_eq!(lab.ended()[0].code, Code::FINE);
            lab.handle(Input::FlowClosed { flow: Flow(next.0) });
            lab.expect_idle();
        }
    }
}

/// Nothing in it is worth hiding, and its sender has gone.
#[test]
fn a_goodbye_in_the_clear_ends_a_call_over_tls() {
    let mut lab = Lab::changed(&[("[trunk.t2]\n", OFFICE)], "");
    let (_, ok) = pbx_calls(&mut lab, (9, 41_000), FlowKind::Tls);
    lab.handle(Input::FlowClosed { flow: Flow(9) });
    pbx_connects(&mut lab, (10, 42_000), FlowKind::Tcp);
    let bye = lab.in_dialog(PBX, &ok, "BYE", 900, "", "");
    assert_eq!(pbx_says(&mut lab, (10, 42_000), &bye).status(), 200);
    let bye = lab.take(ALICE, "BYE");
    lab.reply(ALICE, &bye, 200, "");
    assert_eq!(lab.ended()[0].code, Code::FINE);
    lab.handle(Input::FlowClosed { flow: Flow(10) });
    lab.expect_idle();
}
