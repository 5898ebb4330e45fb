//! Trunks found by DNS: failover, late answers, and none.

use crate::lab::*;
use webtrunk::gateway::Input;
use webtrunk::resolver::{DnsAnswer, DnsQuery, Records, Srv};
use webtrunk::sip::HeaderName;

fn zone(query: &DnsQuery) -> DnsAnswer {
    let srv =
        |priority, port, target: &str| Srv { priority, weight: 1, port, target: target.into() };
    Ok(match query {
        DnsQuery::Naptr(_) => (Records::Naptr(Vec::new()), 60),
        DnsQuery::Srv(name) if name == "_sip._udp.carrier.example" => (
            Records::Srv(vec![
                srv(1, 5060, "a.carrier.example"),
                srv(2, 5060, "b.carrier.example"),
                srv(3, 5060, "c.carrier.example"),
            ]),
            60,
        ),
        DnsQuery::Srv(_) => (Records::Srv(Vec::new()), 60),
        DnsQuery::Address(name) => {
            let last = match name.as_str() {
                "a.carrier.example" => 10,
                "b.carrier.example" => 11,
                _ => 12,
            };
            (Records::Address(vec![[127, 0, 0, last].into()]), 60)
        }
    })
}

const BY_NAME: (&str, &str) =
    ("uri = \"sip:127.0.0.10\"", "uri = \"sip:carrier.example\"\nallow = [\"127.0.0.0/28\"]");

#[test]
fn a_dead_server_is_passed_over_within_one_transactions_time_and_remembered_as_dead() {
    let mut lab = Lab::changed(&[BY_NAME], "");
    lab.zone = Some(zone);
    lab.plays(
        "0.0s alice calls +12065550123 at t1
         0.5s t1 ← INVITE sdp
         1.5s t1 ← INVITE sdp
         3.5s t1 ← INVITE sdp
         6.0s t2 ← INVITE sdp
         6.0s t2 → 503 INVITE
         6.0s t2 ← ACK
         6.0s 127.0.0.12 ← INVITE sdp
         6.0s 127.0.0.12 rings alice
         6.0s 127.0.0.12 answers alice
         6.0s alice hangs up on 127.0.0.12",
    );
    // The next call begins with the one that answered.
    lab.plays(
        "6.0s alice calls +12065550124 at 127.0.0.12
         6.0s 127.0.0.12 refuses alice with 486
         6.0s alice → ACK
         7.5s t1 ← INVITE sdp
         15.5s t1 ← INVITE sdp
         31.5s t1 ← INVITE sdp
         46.0s alice calls +12065550125 at t1
         46.0s t1 refuses alice with 486
         46.0s alice → ACK",
    );
    lab.expect_idle();
}

#[test]
fn dns_that_answers_late_never_or_with_nothing_fails_the_call_with_a_reason() {
    let mut lab = Lab::changed(&[BY_NAME], "");
    lab.invite(ALICE, "+12065550123", OFFER);
    assert_eq!(lab.asked, [DnsQuery::Naptr("carrier.example".into())]);
    lab.invite(ALICE, "+12065550124", OFFER);
    assert_eq!(lab.asked.len(), 1, "one question for both calls");
    while let Some(query) = lab.asked.pop() {
        let answer = match &query {
            DnsQuery::Address(name) => Err(format!("{name} cannot be resolved: SERVFAIL")),
            _ => Err("timeout".to_owned()),
        };
        lab.handle(Input::Dns { query, answer });
    }
    for _ in 0..2 {
        assert!(Lab::header(&lab.take(ALICE, "500"), HeaderName::Reason).contains("SERVFAIL"));
    }
    lab.handle(Input::Dns {
        query: DnsQuery::Naptr("nobody.asked".into()),
        answer: Ok((Records::Naptr(Vec::new()), 1)),
    });
    lab.expect_idle();
}

#[test]
fn a_caller_who_hangs_up_during_a_dns_query_leaves_nothing_behind() {
    let mut lab = Lab::changed(&[BY_NAME], "");
    lab.plays(
        "0.0s alice → INVITE +12065550123 sdp
         0.0s alice ← 100 INVITE
         0.0s alice → CANCEL
         0.0s alice ← 200 CANCEL
         0.0s alice ← 487 INVITE",
    );
    lab.handle(Input::Dns {
        query: DnsQuery::Naptr("carrier.example".into()),
        answer: Err("late".into()),
    });
    lab.expect_idle();
}
