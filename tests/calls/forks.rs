//! Forks on both sides of us: several early dialogs of one INVITE, several phones, redirections,
//! loops, breadth.

use crate::lab::*;
use webtrunk::sip::HeaderName;
use webtrunk::worker::WorkerCommand;

fn body(message: &webtrunk::sip::Message) -> Vec<u8> {
    message.body().to_vec()
}

fn target_of_last_configure(lab: &Lab, end: u16) -> String {
    let of = |c: &WorkerCommand| match c {
        WorkerCommand::Configure { end: e, settings, .. } if e.0 == end => {
            Some(format!("{:?}", settings.negotiated.remote))
        }
        _ => None,
    };
    lab.media.iter().rev().find_map(of).expect("configured")
}

#[test]
fn early_media_of_several_forks_is_one_stable_answer_and_the_answering_fork_is_heard() {
    let mut lab = Lab::with_phones();
    lab.plays("0.0s alice calls +12065550123 at t1");
    let invite = lab.last(T1, "INVITE");
    let other = TRUNK_SDP.replace("audio 4000", "audio 5000");
    lab.reply_as(T1, &invite, 183, TRUNK_SDP, "one");
    lab.plays(
        "0.0s t1 → 183 INVITE sdp
         0.0s alice ← 183 INVITE sdp",
    );
    let first = lab.last(ALICE, "183 INVITE");
    lab.reply_as(T1, &invite, 183, &other, "two");
    assert!(
        target_of_last_configure(&lab, 1).contains("4000"),
        "the first fork stays the one heard"
    );
    lab.reply_as(T1, &invite, 200, &other, "two");
    lab.plays(
        "0.0s t1 → 183 INVITE sdp
         0.0s alice ← 180 INVITE
         0.0s t1 → 200 INVITE sdp
         0.0s t1 ← ACK
         0.0s alice ← 200 INVITE sdp",
    );
    let ok = lab.last(ALICE, "200 INVITE");
    assert_eq!(body(&ok), body(&first), "the browser has one answer, whoever answers");
    assert!(
        target_of_last_configure(&lab, 1).contains("5000"),
        "the fork that answered is the one that is heard"
    );
    let ack = lab.last(T1, "ACK");
    assert!(ack.to().unwrap().tag() == Some("two"));
    lab.plays("0.0s alice → ACK");
    // The other fork answers too: acknowledged and hung up.
    lab.reply_as(T1, &invite, 200, TRUNK_SDP, "one");
    assert_eq!(lab.take(T1, "ACK").to().unwrap().tag(), Some("one"));
    assert_eq!(lab.take(T1, "BYE").to().unwrap().tag(), Some("one"));
    assert_eq!(lab.gateway.gauges().calls, 1);
    lab.plays(
        "0.0s t1 → 200 INVITE sdp
         0.0s t1 ← ACK
         0.0s t1 ← BYE
         0.0s alice hangs up on t1",
    );
    assert_eq!(lab.take(T1, "BYE").to().unwrap().tag(), Some("two"));
    lab.expect_idle();
}

#[test]
fn a_thousand_early_dialogs_of_one_invite_are_not_kept() {
    let mut lab = Lab::with_phones();
    lab.plays("0.0s alice calls +12065550123 at t1");
    let invite = lab.last(T1, "INVITE");
    for n in 0..1_000 {
        lab.reply_with(T1, &invite, 180, "", &format!("f{n}"), "Require: 100rel\r\nRSeq: 1\r\n");
    }
    let pracks = lab.inbox.iter().filter(|(_, m)| m.method_token() == "PRACK").count();
    assert_eq!(pracks, 16);
    lab.reply_as(T1, &invite, 486, "", "f0");
    lab.expect_idle();
}

const FOLLOW: &str = "[[route]]\nname = \"Follow\"\nmatch = \"+5X.\"\nredirect = true\ndo = [{ dial = [\"trunk:t1\", \"trunk:t2\"] }]\n";

#[test]
fn a_redirection_is_followed_through_the_callers_own_dialplan_with_a_diversion() {
    let mut lab = Lab::changed(&[], FOLLOW);
    lab.plays("0.0s alice calls +5100 at t1");
    let invite = lab.last(T1, "INVITE");
    lab.reply_with(
        T1,
        &invite,
        302,
        "",
        "x",
        "Contact: <sip:201@evil.example:6000>;q=0.5, <sip:777@nowhere>;q=0.9\r\n",
    );
    lab.plays(
        "0.0s t1 → 302 INVITE
         0.0s t1 ← ACK
         0.0s bob ← INVITE sdp    // the next trunk is not tried: the callee said where",
    );
    let ringing = lab.last(BOB, "INVITE");
    assert!(ringing.header(HeaderName::Diversion).is_none(), "a browser does not see it");
    assert!(
        lab.inbox.iter().all(|(hop, _)| hop.address().is_none_or(|a| a.ip().is_loopback())),
        "never to a host a callee names"
    );
    lab.plays("0.0s bob refuses alice with 486");
    lab.expect_idle();
    let mut lab = Lab::changed(&[], FOLLOW);
    lab.plays("0.0s alice calls +5100 at t1");
    let invite = lab.last(T1, "INVITE");
    lab.reply_with(T1, &invite, 302, "", "x", "Contact: <sip:+2999@whatever>\r\n");
    lab.plays(
        "0.0s t1 → 302 INVITE
         0.0s t1 ← ACK
         0.0s t1 ← INVITE sdp
         0.0s t1 refuses alice with 486",
    );
    let second = lab.last(T1, "INVITE");
    assert!(second.request_uri().starts_with("sip:+2999@127.0.0.10"), "{}", second.request_uri());
    assert_eq!(
        Lab::header(&second, HeaderName::Diversion),
        "<sip:+5100@127.0.0.1>;reason=unconditional"
    );
    lab.expect_idle();
}

#[test]
fn a_redirection_is_not_followed_unless_the_route_says_so_and_a_circle_of_them_ends() {
    let mut lab = Lab::with_phones();
    lab.plays("0.0s alice calls +12065550123 at t1");
    let invite = lab.last(T1, "INVITE");
    lab.reply_with(T1, &invite, 302, "", "x", "Contact: <sip:+2999@whatever>\r\n");
    lab.take(ALICE, "480");
    lab.expect_idle();
    let mut lab = Lab::changed(&[], FOLLOW);
    lab.invite(ALICE, "+5100", OFFER);
    let mut times = 0;
    while lab.got(T1, "INVITE") {
        let invite = lab.take(T1, "INVITE");
        lab.reply_with(T1, &invite, 302, "", "x", "Contact: <sip:+5100@whatever>\r\n");
        times += 1;
        assert!(times < 20, "no end");
    }
    assert_eq!(times, 6, "five redirections, then no more");
    lab.take(ALICE, "480");
    lab.expect_idle();
}

/// A further phone of bob with this q and reg-id.
fn add_phone(lab: &mut Lab, flow: u64, instance: &str, q: &str, reg_id: u32) -> Peer {
    let peer = Peer::Browser("bob", flow);
    lab.log_in_with(peer, "secret-b", &format!("Contact: <sip:bob{flow}@x.invalid;transport=ws>;q={q};reg-id={reg_id};+sip.instance=\"<urn:{instance}>\"\r\nSupported: outbound, path\r\n"));
    peer
}

#[test]
fn phones_of_a_higher_q_ring_first_and_those_of_one_q_together() {
    let mut lab = Lab::with_phones();
    add_phone(&mut lab, 5, "uuid-low", "0.2", 1);
    add_phone(&mut lab, 6, "uuid-high", "1.0", 1);
    lab.plays(
        "0.0s alice calls 201 at bob
         0.0s bob-6 ← INVITE sdp",
    );
    lab.plays(
        "0.0s bob → 486 INVITE
         0.0s bob ← ACK
         0.0s bob-6 → 480 INVITE
         0.0s bob-6 ← ACK
         0.0s bob-5 ← INVITE sdp
         0.0s bob-5 answers alice
         0.0s alice hangs up on bob-5",
    );
    lab.expect_idle();
}

#[test]
fn a_phone_with_two_flows_rings_once_and_by_its_second_flow_when_the_first_is_dead() {
    for closed in [false, true] {
        let mut lab = Lab::with_phones();
        add_phone(&mut lab, 5, "uuid-b", "1.0", 2);
        lab.plays("0.0s alice calls 201 at bob-5");
        if closed {
            lab.handle(webtrunk::gateway::Input::FlowClosed {
                flow: webtrunk::sip::transaction::Flow(5),
            });
            lab.plays("0.0s bob ← INVITE sdp");
        } else {
            lab.plays(
                "0.0s bob-5 → 430 INVITE
                 0.0s bob-5 ← ACK
                 0.0s bob ← INVITE sdp",
            );
        }
        lab.plays(
            "0.0s bob answers alice
             0.0s alice hangs up on bob",
        );
        lab.expect_idle();
    }
}

/// It was hung up on, and others were tried: what becomes of its connection is all the same.
#[test]
fn a_phone_whose_answer_was_of_no_use_ends_no_call_when_it_goes_away() {
    let mut lab = Lab::with_phones();
    lab.invite(ALICE, "200", OFFER);
    let invite = lab.take(BOB, "INVITE");
    lab.reply(BOB, &invite, 200, "");
    lab.take(BOB, "ACK");
    let bye = lab.take(BOB, "BYE");
    lab.reply(BOB, &bye, 200, "");
    let next = lab.take(T2, "INVITE");
    lab.reply(T2, &next, 200, &TRUNK_SDP.replace("127.0.0.10", "127.0.0.11"));
    lab.take(T2, "ACK");
    let ok = lab.take(ALICE, "200");
    lab.ack(ALICE, &ok);
    lab.handle(webtrunk::gateway::Input::FlowClosed { flow: webtrunk::sip::transaction::Flow(2) });
    lab.advance(std::time::Duration::from_secs(600));
    assert!(lab.ended().is_empty(), "{}", lab.picture());
    let bye = lab.in_dialog(ALICE, &ok, "BYE", 900, "", "");
    lab.says(ALICE, &bye);
    let bye = lab.take(T2, "BYE");
    lab.reply(T2, &bye, 200, "");
    lab.expect_idle();
}

#[test]
fn a_request_disposition_is_honoured() {
    for (wish, at_once) in [("no-fork", 1), ("sequential", 1), ("parallel", 2), ("queue", 1)] {
        let mut lab = Lab::with_phones();
        let other = add_phone(&mut lab, 5, "uuid-2", "0.3", 1);
        let text = lab.request(
            ALICE,
            "INVITE",
            "sip:201@wt.test",
            &format!("Request-Disposition: {wish}\r\n"),
            OFFER,
        );
        lab.says(ALICE, &text);
        let ringing = [BOB, other].into_iter().filter(|p| lab.got(*p, "INVITE")).count();
        assert_eq!(ringing, at_once, "{wish}");
        let first = lab.take(BOB, "INVITE");
        lab.reply(BOB, &first, 480, "");
        assert_eq!(lab.got(other, "INVITE"), wish != "no-fork", "{wish}");
        lab.cancel(ALICE, &text);
        lab.expect_idle();
    }
}

#[test]
fn a_callers_wishes_choose_among_the_phones() {
    // The compact names of Accept-Contact and Reject-Contact.
    for (wish, desk_rings, mobile_rings) in [
        ("a: *;mobility=\"mobile\";require", false, true),
        ("j: *;mobility=\"mobile\"", true, false),
        ("a: *;mobility=\"mobile\"", true, true),
        ("a: *;video;require;explicit", false, false),
    ] {
        let mut lab = Lab::with_phones();
        let mut phone = |flow: u64, mobility: &str| {
            let peer = Peer::Browser("bob", flow);
            lab.log_in_with(
                peer,
                "secret-b",
                &format!(
                    "Contact: <sip:bob{flow}@x.invalid;transport=ws>;mobility=\"{mobility}\"\r\n"
                ),
            );
            peer
        };
        let (desk, mobile) = (phone(5, "fixed"), phone(6, "mobile"));
        let text = lab.request(ALICE, "INVITE", "sip:201@wt.test", &format!("{wish}\r\n"), OFFER);
        lab.says(ALICE, &text);
        assert_eq!(
            (lab.got(desk, "INVITE"), lab.got(mobile, "INVITE")),
            (desk_rings, mobile_rings),
            "{wish}"
        );
        if lab.got(BOB, "INVITE") {
            lab.cancel(ALICE, &text);
        } else {
            lab.take(ALICE, "480");
        }
        lab.expect_idle();
    }
}

#[test]
fn users_in_turn_ring_one_after_the_other() {
    let route = "[[route]]\nname = \"Turn\"\nmatch = \"400\"\ndo = [{ ring = [\"user:bob\", \"user:alice\"], order = \"in-turn\", timeout = \"5s\" }]\n";
    let mut lab = Lab::changed(&[], route);
    lab.plays("0.0s t1 calls +12065550111 at alice");
    let second = Peer::Browser("alice", 8);
    lab.log_in(second, "secret-a", "uuid-a2");
    lab.plays(
        "0.0s alice calls 400 at bob
         5.0s alice-8 ← INVITE sdp
         10.0s alice ← 480 INVITE
         15.0s t1 ← 480 INVITE
         15.5s t1 ← 480 INVITE
         16.5s t1 ← 480 INVITE
         18.5s t1 ← 480 INVITE
         22.5s t1 ← 480 INVITE
         26.5s t1 ← 480 INVITE
         30.5s t1 ← 480 INVITE
         34.5s t1 ← 480 INVITE
         38.5s t1 ← 480 INVITE
         42.5s t1 ← 480 INVITE
         46.5s t1 ← 480 INVITE
         52.0s",
    );
    lab.expect_idle();
}

#[test]
fn max_breadth_limits_a_fork_and_is_shared_among_its_branches() {
    let mut lab = Lab::with_phones();
    let other = add_phone(&mut lab, 5, "uuid-2", "1.0", 1);
    let invite = |lab: &mut Lab, breadth: &str| {
        let text = lab.request(
            ALICE,
            "INVITE",
            "sip:201@wt.test",
            &format!("Max-Breadth: {breadth}\r\n"),
            OFFER,
        );
        lab.says(ALICE, &text);
        text
    };
    invite(&mut lab, "7");
    for peer in [BOB, other] {
        assert_eq!(Lab::header(&lab.take(peer, "INVITE"), HeaderName::MaxBreadth), "3");
    }
    lab.plays(
        "0.0s alice calls 201 at bob
         0.0s bob-5 ← INVITE sdp
         0.0s alice → CANCEL
         0.0s alice ← 200 CANCEL
         0.0s alice ← 487 INVITE
         40.0s",
    );
    invite(&mut lab, "1");
    let ringing: Vec<Peer> = [BOB, other].into_iter().filter(|p| lab.got(*p, "INVITE")).collect();
    assert_eq!(ringing.len(), 1, "one branch at a time");
    let first = lab.take(ringing[0], "INVITE");
    lab.reply(ringing[0], &first, 486, "");
    assert!([BOB, other].into_iter().any(|p| lab.got(p, "INVITE")), "then the next");
    lab.plays(
        "40.0s alice calls 201 at bob
         40.0s bob → 486 INVITE
         40.0s bob ← ACK
         40.0s bob-5 ← INVITE sdp
         40.0s alice → CANCEL
         40.0s alice ← 200 CANCEL
         40.0s alice ← 487 INVITE
         80.0s",
    );
    invite(&mut lab, "0");
    lab.plays(
        "80.0s alice → INVITE 201 sdp
         80.0s alice ← 100 INVITE
         80.0s alice ← 440 INVITE",
    );
    lab.expect_idle();
}

#[test]
fn our_own_invite_come_back_is_482() {
    let mut lab = Lab::with_phones();
    lab.plays("0.0s alice calls +12065550123 at t1");
    let ours = lab.last(T1, "INVITE");
    let text = lab.request(T1, "INVITE", "sip:+12065550111@127.0.0.1", "", TRUNK_SDP);
    let own = text.lines().find(|l| l.starts_with("Call-ID:")).unwrap().to_owned();
    lab.says(T1, &text.replace(&own, &format!("Call-ID: {}", ours.call_id())));
    assert!(Lab::header(&lab.take(T1, "482"), HeaderName::Reason).contains("loop"));
    lab.plays(
        "0.0s t1 → INVITE +12065550111 sdp
         0.0s t1 ← 482 INVITE
         0.0s t1 refuses alice with 486",
    );
    lab.expect_idle();
}

#[test]
fn q850_says_more_than_a_500_and_is_carried_across() {
    let mut lab = Lab::with_phones();
    lab.plays("0.0s alice calls +12065550123 at t1");
    let invite = lab.last(T1, "INVITE");
    lab.reply_with(T1, &invite, 500, "", "x", "Reason: Q.850;cause=17;text=\"User busy\"\r\n");
    lab.plays(
        "0.0s t1 → 500 INVITE
         0.0s t1 ← ACK
         0.0s alice ← 486 INVITE",
    );
    let busy = lab.last(ALICE, "486 INVITE");
    let reasons: Vec<&str> = busy.all(HeaderName::Reason).collect();
    assert!(reasons.iter().any(|r| r.starts_with("Q.850;cause=17")), "{reasons:?}");
    lab.expect_idle();
    let mut lab = Lab::with_phones();
    let (ok, invite) = lab.talk("+12065550123");
    let text = lab.in_dialog_with(T1, &invite, "BYE", 2, "Reason: Q.850;cause=34\r\n", "");
    lab.says(T1, &text);
    lab.plays("0.0s t1 hangs up on alice");
    let bye = lab.last(ALICE, "BYE");
    assert!(
        bye.all(HeaderName::Reason).any(|r| r.starts_with("Q.850;cause=34")),
        "{:?}",
        bye.all(HeaderName::Reason).collect::<Vec<_>>()
    );
    drop(ok);
    lab.expect_idle();
    let mut lab = Lab::with_phones();
    let text = lab.invite(ALICE, "+12065550123", OFFER);
    lab.plays(
        "0.0s alice calls +12065550123 at t1
         0.0s t1 rings alice",
    );
    let head = text.split("\r\n\r\n").next().unwrap();
    let lines: Vec<&str> = head
        .lines()
        .filter(|l| !["Content-Type", "Content-Length", "Contact"].iter().any(|p| l.starts_with(p)))
        .collect();
    let cancel = lines.join("\r\n").replacen("INVITE", "CANCEL", 1).replace(" INVITE", " CANCEL");
    lab.says(ALICE, &format!("{cancel}\r\nReason: SIP;cause=200;text=\"Call completed elsewhere\"\r\nContent-Length: 0\r\n\r\n"));
    assert!(
        Lab::header(&lab.take(T1, "CANCEL"), HeaderName::Reason).contains("completed elsewhere")
    );
    lab.plays(
        "0.0s alice → CANCEL
         0.0s alice ← 200 CANCEL
         0.0s alice ← 487 INVITE
         0.0s t1 ← CANCEL",
    );
    lab.expect_idle();
}

/// In a dialog that has ended nothing is asked, and nothing done: 481, whatever else the call does.
#[test]
fn a_phone_that_was_hung_up_is_told_that_its_dialog_is_gone() {
    let gone = |lab: &mut Lab, by: Peer, seen: &webtrunk::sip::Message, tag: &str| {
        let media = lab.media.len();
        for (n, method) in ["INVITE", "UPDATE", "INFO", "OPTIONS"].into_iter().enumerate() {
            let digits = method == "INFO";
            let body = if digits { "Signal=5\r\n" } else { TRUNK_SDP };
            let text = lab.in_dialog(by, seen, method, 900 + n as u32, tag, body);
            let kind = if digits { "application/dtmf-relay" } else { "application/sdp" };
            lab.says(by, &text.replace("application/sdp", kind));
            let answer = lab.inbox.pop_back().expect("an answer").1;
            assert_eq!(answer.status(), 481, "{method}: {}", lab.picture());
        }
        assert_eq!(lab.media.len(), media, "{}", lab.picture());
    };
    // Another fork of the INVITE that was answered.
    let mut lab = Lab::with_phones();
    lab.plays("0.0s alice calls +12065550123 at t1");
    let invite = lab.last(T1, "INVITE");
    lab.reply_as(T1, &invite, 180, "", "one");
    lab.reply_as(T1, &invite, 200, TRUNK_SDP, "two");
    lab.reply_as(T1, &invite, 180, "", "one");
    let ok = lab.take(ALICE, "200");
    lab.ack(ALICE, &ok);
    gone(&mut lab, T1, &invite, "one");
    lab.reply_as(T1, &invite, 200, TRUNK_SDP, "one");
    gone(&mut lab, T1, &invite, "one");
    lab.handle(webtrunk::gateway::Input::HangUpAll);
    lab.expect_idle();
    // A phone that answers as it is given up, while the next one rings.
    let mut lab = Lab::with_phones();
    lab.plays(
        "0.0s alice calls 200 at bob
         0.0s bob rings alice
         10.0s bob ← CANCEL
         10.0s t2 ← INVITE sdp
         10.0s bob → 200 INVITE sdp recvonly
         10.0s bob ← ACK
         10.0s bob ← BYE",
    );
    let rang = lab.last(BOB, "INVITE");
    gone(&mut lab, BOB, &rang, "peer");
    // It hangs up itself, too.
    let bye = lab.in_dialog(BOB, &rang, "BYE", 950, "peer", "");
    lab.says(BOB, &bye);
    lab.take(BOB, "200 BYE");
    lab.handle(webtrunk::gateway::Input::HangUpAll);
    lab.expect_idle();
}
