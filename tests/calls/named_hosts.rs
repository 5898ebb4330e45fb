//! Descriptions of trunks that name a host where others have an address (RFC 8866 §5.7).

use crate::lab::*;
use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use webtrunk::errors::Code;
use webtrunk::gateway::Input;
use webtrunk::resolver::{DnsAnswer, DnsQuery, Records};
use webtrunk::sdp::offer_answer::Remote;
use webtrunk::sip::parse::HeaderName;
use webtrunk::worker::WorkerCommand;

const NAME: &str = "media.pbx.example";

/// The trunk's description, with a host's name where its address was.
fn named() -> String {
    TRUNK_SDP.replace("c=IN IP4 127.0.0.10", &format!("c=IN IP4 {NAME}"))
}

/// Where the newest description sent media.
fn target(lab: &Lab) -> Option<SocketAddr> {
    lab.media.iter().rev().find_map(|command| match command {
        WorkerCommand::Configure { settings, .. } => match &settings.negotiated.remote {
            Remote::Rtp { rtp, .. } => Some(*rtp),
            _ => None,
        },
        _ => None,
    })
}

fn found(ips: &[[u8; 4]]) -> DnsAnswer {
    Ok((Records::Address(ips.iter().map(|ip| IpAddr::from(*ip)).collect()), 60))
}

fn dns(lab: &mut Lab, answer: DnsAnswer) {
    assert_eq!(lab.asked, [DnsQuery::Address(NAME.into())], "one question\n{}", lab.picture());
    let query = lab.asked.remove(0);
    lab.handle(Input::Dns { query, answer });
}

/// The callee's answer to a call of the trunk, and its end.
fn answered_and_ended(lab: &mut Lab) {
    let invite = lab.take(ALICE, "INVITE");
    lab.reply(ALICE, &invite, 200, ANSWER);
    let ok = lab.take(T1, "200 INVITE");
    lab.ack(T1, &ok);
    let bye = lab.in_dialog(T1, &ok, "BYE", 90, "peer", "");
    lab.says(T1, &bye);
    lab.take(T1, "200 BYE");
    let bye = lab.take(ALICE, "BYE");
    lab.reply(ALICE, &bye, 200, "");
}

#[test]
fn an_offer_that_names_a_host_proceeds_with_its_address() {
    let mut lab = Lab::with_phones();
    let invite = lab.invite(T1, "+12065550111", &named());
    lab.take(T1, "100");
    // Sent again, it is the same INVITE, and the same question.
    lab.says(T1, &invite);
    assert!(!lab.got(ALICE, "INVITE") && lab.asked.len() == 1);
    // Of several, the one the trunk signals from.
    dns(&mut lab, found(&[[8, 8, 8, 8], [127, 0, 0, 10]]));
    answered_and_ended(&mut lab);
    assert_eq!(target(&lab), Some(([127, 0, 0, 10], 4000).into()));
    // It is known now: the next call asks nobody.
    lab.invite(T1, "+12065550111", &named());
    assert!(lab.asked.is_empty());
    answered_and_ended(&mut lab);
    lab.expect_idle();
}

#[test]
fn an_answer_that_names_a_host_proceeds_with_its_address() {
    for status in [183, 200] {
        let mut lab = Lab::with_phones();
        lab.plays("0.0s alice calls +12065550123 at t1");
        let invite = lab.last(T1, "INVITE");
        lab.reply(T1, &invite, status, &named());
        if status == 183 {
            // What comes behind it waits behind it.
            lab.reply(T1, &invite, 200, &named());
        }
        assert!(!lab.got(ALICE, "200") && !lab.got(T1, "ACK"));
        dns(&mut lab, found(&[[8, 8, 8, 8]]));
        let ok = lab.take(ALICE, "200");
        lab.ack(ALICE, &ok);
        lab.take(T1, "ACK");
        assert_eq!(target(&lab), Some(([8, 8, 8, 8], 4000).into()));
        // A hold by re-INVITE names it too, after the name's time is over, and a BYE is behind it.
        lab.advance(Duration::from_secs(61));
        let held = format!("{}a=sendonly\r\n", named().replace("- 1 1", "- 1 2"));
        let reinvite = lab.in_dialog(T1, &invite, "INVITE", 90, "peer", &held);
        lab.says(T1, &reinvite);
        let bye = lab.in_dialog(T1, &invite, "BYE", 91, "peer", "");
        lab.says(T1, &bye);
        assert!(!lab.got(T1, "200"));
        dns(&mut lab, found(&[[8, 8, 4, 4]]));
        lab.take(T1, "200 INVITE");
        lab.take(T1, "200 BYE");
        let bye = lab.take(ALICE, "BYE");
        lab.reply(ALICE, &bye, 200, "");
        lab.expect_idle();
    }
}

fn refused(lab: &mut Lab) -> String {
    let refusal = lab.take(T1, "488");
    let warning = Lab::header(&refusal, HeaderName::Warning).to_owned();
    assert!(!lab.got(ALICE, "INVITE"));
    warning
}

#[test]
fn a_host_that_dns_does_not_know_is_reported_by_name() {
    for answer in [Some(found(&[])), Some(Err("SERVFAIL".to_owned())), None] {
        let mut lab = Lab::with_phones();
        lab.invite(T1, "+12065550111", &named());
        match answer {
            Some(answer) => dns(&mut lab, answer),
            None => lab.advance(Duration::from_secs(2)),
        }
        assert!(refused(&mut lab).contains(NAME));
        while let Some(query) = lab.asked.pop() {
            lab.handle(Input::Dns { query, answer: found(&[[8, 8, 8, 8]]) });
        }
        lab.expect_idle();
    }
    let mut lab = Lab::with_phones();
    lab.plays("0.0s alice calls +12065550123 at t1");
    let invite = lab.last(T1, "INVITE");
    lab.reply(T1, &invite, 200, &named());
    dns(&mut lab, found(&[]));
    lab.take(T1, "ACK");
    let bye = lab.take(T1, "BYE");
    lab.reply(T1, &bye, 200, "");
    lab.take(ALICE, "488");
    assert_eq!(lab.ended()[0].code, Code::DNS);
    lab.expect_idle();
}

#[test]
fn an_address_of_dns_is_held_to_the_policy_of_one_that_was_written() {
    for text in include_str!("../corpus/addresses.txt").split_whitespace() {
        let ip: IpAddr = text.parse().expect("an address");
        if ip.is_unspecified() {
            continue;
        }
        let mut lab = Lab::with_phones();
        lab.invite(T1, "+12065550111", &named());
        dns(&mut lab, Ok((Records::Address(vec![ip]), 60)));
        refused(&mut lab);
        assert_eq!(target(&lab), None, "{text}");
        lab.expect_idle();
    }
}

#[test]
fn a_caller_who_gives_up_during_a_dns_query_leaves_nothing_behind() {
    let mut lab = Lab::with_phones();
    lab.invite(T1, "+12065550111", &named());
    lab.plays(
        "0.0s t1 → INVITE +12065550111 sdp
         0.0s t1 ← 100 INVITE
         0.0s t1 → CANCEL
         0.0s t1 ← 487 INVITE
         0.0s t1 ← 200 CANCEL",
    );
    dns(&mut lab, found(&[[8, 8, 8, 8]]));
    lab.plays("");
    lab.expect_idle();
    // The caller of a trunk that answers so.
    let mut lab = Lab::with_phones();
    lab.plays("0.0s alice calls +12065550123 at t1");
    let invite = lab.last(T1, "INVITE");
    lab.reply(T1, &invite, 200, &named());
    lab.plays(
        "0.0s t1 → 200 INVITE sdp
         0.0s alice → CANCEL
         0.0s alice ← 200 CANCEL
         0.0s alice ← 487 INVITE",
    );
    dns(&mut lab, found(&[[8, 8, 8, 8]]));
    lab.plays(
        "0.0s t1 ← ACK
         0.0s t1 ← BYE
         0.0s t1 → 200 BYE",
    );
    lab.expect_idle();
}

/// What a browser names is no reason to ask DNS, and nor is a host's name beside ICE.
#[test]
fn only_a_trunk_has_its_names_looked_up() {
    let mut lab = Lab::with_phones();
    lab.invite(ALICE, "+12065550123", &named());
    lab.invite(T1, "+12065550112", &format!("{}a=ice-ufrag:x\r\n", named()));
    lab.invite(ALICE, "+12065550124", OFFER);
    let invite = lab.take(T1, "INVITE");
    lab.reply(T1, &invite, 486, "");
    lab.invite(T1, "+12065550111", TRUNK_SDP);
    let invite = lab.take(ALICE, "INVITE");
    lab.reply(ALICE, &invite, 200, &named());
    assert!(lab.asked.is_empty(), "{:?}", lab.asked);
    lab.advance(Duration::from_secs(40));
    lab.expect_idle();
}

/// Beyond the bound a description is read as it came.
#[test]
fn so_many_messages_of_a_trunk_wait_for_names_and_no_more() {
    let mut lab = Lab::with_phones();
    for _ in 0..32 {
        lab.invite(T1, "+12065550111", &named());
        assert!(!lab.got(T1, "488"));
    }
    lab.invite(T1, "+12065550111", &named());
    lab.take(T1, "488");
    assert_eq!(lab.asked.len(), 1, "one question for all");
    // None of them costs more than two seconds.
    lab.advance(Duration::from_secs(2));
    let refusals = lab.inbox.iter().filter(|(hop, m)| *hop == T1.hop() && m.status() >= 400);
    let refusals: HashSet<&str> = refusals.map(|(_, m)| m.call_id()).collect();
    assert_eq!(refusals.len(), 33, "{}", lab.picture());
    while let Some(query) = lab.asked.pop() {
        lab.handle(Input::Dns { query, answer: found(&[]) });
    }
    lab.expect_idle();
}
