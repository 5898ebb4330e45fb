//! Transfers: blind and attended, executed here or passed to the trunk; calls that take another's
//! place.

use crate::lab::*;
use webtrunk::sip::{HeaderName, Message};
use webtrunk::worker::WorkerCommand;

/// What a NOTIFY of a transfer says.
fn progress(message: &Message) -> String {
    assert!(Lab::header(message, HeaderName::Event).starts_with("refer"));
    String::from_utf8_lossy(message.body()).trim().to_owned()
}

pub(crate) fn refer(lab: &mut Lab, peer: Peer, seen: &Message, cseq: u32, to: &str, extra: &str) {
    let text =
        lab.in_dialog_with(peer, seen, "REFER", cseq, &format!("Refer-To: {to}\r\n{extra}"), "");
    lab.says(peer, &text);
}

/// Takes the next NOTIFY, answers it, and returns what it says.
pub(crate) fn notified(lab: &mut Lab, peer: Peer) -> String {
    let notify = lab.take(peer, "NOTIFY");
    lab.reply(peer, &notify, 200, "");
    progress(&notify)
}

/// The pairs joined by media, the last command last.
pub(crate) fn bridges(lab: &Lab) -> Vec<(u64, u16, u16)> {
    lab.media
        .iter()
        .filter_map(|c| {
            if let WorkerCommand::Bridge { session, a, b } = c {
                Some((*session, a.0, b.0))
            } else {
                None
            }
        })
        .collect()
}

#[test]
fn a_browser_hands_its_callee_over_to_a_number_and_leaves() {
    let mut lab = Lab::with_phones();
    lab.talk("+12065550123");
    lab.plays(
        "0.0s alice transfers to 201 at bob
         0.0s alice → 200 NOTIFY
         0.0s bob → 180 INVITE
         0.0s alice ← NOTIFY 180
         0.0s alice → 200 NOTIFY",
    );
    let invite = lab.last(BOB, "INVITE");
    assert_eq!(
        invite.from().unwrap().uri.user,
        Some("+12065550123"),
        "bob sees who is handed over"
    );
    assert!(Lab::header(&invite, HeaderName::ReferredBy).contains("+12065550111"));
    assert!(
        matches!(lab.media.last(), Some(WorkerCommand::Play { .. })),
        "who waits hears ringing: {:?}",
        lab.media.last()
    );
    lab.plays(
        "0.0s bob → 200 INVITE sdp recvonly
         0.0s bob ← ACK
         0.0s alice ← NOTIFY 200
         0.0s alice → 200 NOTIFY",
    );
    let done = lab.last(ALICE, "NOTIFY");
    assert_eq!(progress(&done), "SIP/2.0 200 OK");
    assert!(Lab::header(&done, HeaderName::SubscriptionState).starts_with("terminated"));
    assert_eq!(bridges(&lab).last().map(|b| (b.1, b.2)), Some((1, 2)), "the trunk and bob");
    lab.plays(
        "0.0s alice → BYE
         0.0s alice ← 200 BYE
         30.0s    // the two talk on
         30.0s t1 hangs up on bob",
    );
    assert_eq!(lab.ended()[0].transfers, ["201"]);
    lab.expect_idle();
}

#[test]
fn a_callee_hands_its_caller_over_and_one_that_stays_on_the_line_is_helped_off_it() {
    let mut lab = Lab::with_phones();
    lab.plays(
        "0.0s t1 calls +12065550111 at alice
         0.0s alice answers t1
         0.0s alice transfers to 201 at bob",
    );
    notified(&mut lab, ALICE);
    lab.plays(
        "0.0s alice → 200 NOTIFY
         0.0s bob → 200 INVITE sdp recvonly
         0.0s bob ← ACK
         0.0s alice ← NOTIFY 200
         0.0s alice → 200 NOTIFY
         5.0s alice ← BYE
         6.0s alice → 200 BYE
         6.0s bob hangs up on t1",
    );
    let invite = lab.last(BOB, "INVITE");
    assert_eq!(invite.from().unwrap().uri.user, Some("+4930123456"), "the caller's own number");
    lab.expect_idle();
}

#[test]
fn a_transfer_that_fails_leaves_the_old_call_as_it_was() {
    let mut lab = Lab::with_phones();
    lab.talk("+12065550123");
    lab.plays(
        "0.0s alice transfers to 201 at bob
         0.0s alice → 200 NOTIFY
         0.0s bob → 486 INVITE
         0.0s bob ← ACK
         0.0s alice ← NOTIFY 486
         0.0s alice → 200 NOTIFY",
    );
    assert_eq!(progress(&lab.last(ALICE, "NOTIFY")), "SIP/2.0 486 Busy Here");
    assert_eq!(bridges(&lab).last().map(|b| (b.1, b.2)), Some((0, 1)), "alice and the trunk again");
    lab.plays(
        "0.0s alice transfers to 201 at bob    // once more, now with success
         0.0s alice → 200 NOTIFY
         0.0s bob → 200 INVITE sdp recvonly
         0.0s bob ← ACK
         0.0s alice ← NOTIFY 200
         0.0s alice → 200 NOTIFY",
    );
    let done = lab.last(ALICE, "NOTIFY");
    assert_eq!(progress(&done), "SIP/2.0 200 OK");
    let second = lab.last(ALICE, "202 REFER").cseq().expect("a CSeq").number;
    let event = format!("refer;id={second}");
    assert_eq!(Lab::header(&done, HeaderName::Event), event, "it names the second REFER");
    lab.plays(
        "0.0s alice → BYE
         0.0s alice ← 200 BYE
         0.0s bob hangs up on t1",
    );
    lab.expect_idle();
}

#[test]
fn a_transferor_that_leaves_at_once_is_not_waited_for_and_a_failure_then_ends_the_call() {
    let mut lab = Lab::with_phones();
    lab.talk("+12065550123");
    lab.plays(
        "0.0s alice transfers to 201 at bob
         0.0s alice → BYE
         0.0s alice ← 200 BYE
         0.0s bob → 180 INVITE
         0.0s bob → 603 INVITE
         0.0s bob ← ACK
         0.0s t1 ← BYE",
    );
    lab.expect_idle();
}

#[test]
fn a_transferee_may_hang_up_while_the_target_rings() {
    let mut lab = Lab::with_phones();
    lab.talk("+12065550123");
    lab.plays(
        "0.0s alice transfers to 201 at bob
         0.0s bob → 180 INVITE
         0.0s t1 → BYE
         0.0s t1 ← 200 BYE
         0.0s alice ← BYE
         0.0s bob ← CANCEL
         0.0s bob → 487 INVITE
         0.0s bob ← ACK",
    );
    lab.expect_idle();
}

#[test]
fn a_refer_is_judged_like_a_new_call_and_nothing_embedded_in_it_counts() {
    let mut lab = Lab::with_phones();
    let (ok, _) = lab.talk("+12065550123");
    for (n, (to, status)) in [
        ("<sip:7777@wt.test>", "404"),
        ("<mailto:a@b>", "416"),
        ("<sip:201@wt.test;method=BYE>", "403"),
        ("<sip:201@wt.test>, <sip:202@wt.test>", "400"),
        ("<sip:201@wt.test?Replaces=nothing>", "400"),
        ("<sip:201@wt.test?Replaces=a%3Bto-tag%3Db%3Bfrom-tag%3Dc>", "481"),
        ("\"x", "400"),
    ]
    .into_iter()
    .enumerate()
    {
        refer(&mut lab, ALICE, &ok, 100 + n as u32, to, "");
        lab.take(ALICE, status);
    }
    refer(
        &mut lab,
        ALICE,
        &ok,
        120,
        "<sip:201@evil.example:9999;maddr=10.0.0.1?X-Evil=1&Route=%3Csip:evil%3E>",
        "",
    );
    lab.plays(
        "0.0s alice → REFER 7777
         0.0s alice ← 404 REFER
         0.0s alice → REFER
         0.0s alice ← 416 REFER
         0.0s alice → REFER 201
         0.0s alice ← 403 REFER
         0.0s alice → REFER 201
         0.0s alice ← 400 REFER
         0.0s alice → REFER 201
         0.0s alice ← 400 REFER
         0.0s alice → REFER 201
         0.0s alice ← 481 REFER
         0.0s alice → REFER
         0.0s alice ← 400 REFER
         0.0s alice transfers to 201 at bob
         0.0s alice → REFER 201
         0.0s alice ← 491 REFER
         0.0s bob → 486 INVITE
         0.0s bob ← ACK
         0.0s alice hangs up on t1",
    );
    let invite = lab.last(BOB, "INVITE");
    assert!(
        !String::from_utf8_lossy(&invite.to_bytes()).contains("vil"),
        "{}",
        String::from_utf8_lossy(&invite.to_bytes())
    );
    lab.expect_idle();
}

#[test]
fn a_trunk_and_a_user_without_the_right_may_not_transfer() {
    let mut lab =
        Lab::changed(&[("password = \"secret-a\"", "password = \"secret-a\"\nrefer = false")], "");
    lab.talk("+12065550123");
    lab.plays(
        "0.0s alice → REFER 201
         0.0s alice ← 403 REFER
         0.0s t1 → REFER 201
         0.0s t1 ← 403 REFER
         0.0s alice hangs up on t1",
    );
    lab.expect_idle();
}

#[test]
fn a_trunk_that_may_hands_the_browser_over() {
    let mut lab =
        Lab::changed(&[("realm = \"carrier\"", "realm = \"carrier\"\nrefer = \"execute\"")], "");
    lab.talk("+12065550123");
    lab.plays(
        "0.0s t1 transfers to +12065550112 at bob
         0.0s t1 → 200 NOTIFY
         0.0s bob → 200 INVITE sdp recvonly
         0.0s bob ← ACK
         0.0s t1 ← NOTIFY 200
         0.0s t1 → 200 NOTIFY
         0.0s t1 → BYE
         0.0s t1 ← 200 BYE
         10.0s
         10.0s alice hangs up on bob",
    );
    lab.expect_idle();
}

#[test]
fn refer_sub_false_asks_for_silence_and_gets_it() {
    let mut lab = Lab::with_phones();
    let (ok, _) = lab.talk("+12065550123");
    refer(
        &mut lab,
        ALICE,
        &ok,
        90,
        "<sip:201@wt.test>",
        "Refer-Sub: false\r\nSupported: norefersub\r\n",
    );
    assert_eq!(lab.take(ALICE, "202").header(HeaderName::ReferSub), Some("false"));
    lab.plays(
        "0.0s alice → REFER 201
         0.0s alice ← 202 REFER
         0.0s bob ← INVITE sdp
         0.0s bob → 200 INVITE sdp recvonly
         0.0s bob ← ACK
         5.0s alice ← BYE
         6.0s bob hangs up on t1",
    );
    lab.expect_idle();
}

/// alice talks with t1 and, in a second call, with t2; her 200s and the trunks' INVITEs.
fn two_calls(lab: &mut Lab) -> ((Message, Message), (Message, Message)) {
    let one = lab.talk("+12065550123");
    lab.invite(ALICE, "200", OFFER);
    let ringing = lab.take(BOB, "INVITE");
    lab.reply(BOB, &ringing, 200, ANSWER);
    let ok = lab.take(ALICE, "200");
    lab.ack(ALICE, &ok);
    lab.take(BOB, "ACK");
    (one, (ok, ringing))
}

pub(crate) fn replaces(ok: &Message) -> String {
    let ours = ok.to().expect("a To").tag().expect("its tag").to_owned();
    let theirs = ok.from().expect("a From").tag().expect("its tag").to_owned();
    format!("{}%3Bto-tag%3D{ours}%3Bfrom-tag%3D{theirs}", ok.call_id())
}

/// Their browsers lose a proxy at once, say: each half is told that the other one is over.
#[test]
fn however_many_joined_calls_end_in_one_moment_both_halves_of_each_do() {
    let mut lab = Lab::changed(
        &[
            ("calls = 50\ncalls_per_user = 4", "calls_per_user = 80\nmax_duration = \"60s\""),
            ("max_calls = 3", "max_calls = 60"),
        ],
        "",
    );
    let pause = std::time::Duration::from_millis(300);
    let mut first = Vec::new();
    for _ in 0..20 {
        lab.advance(pause);
        first.push(lab.talk("+12065550123").0);
    }
    lab.advance(16 * pause);
    for ok1 in first {
        lab.advance(pause);
        lab.invite(ALICE, "200", OFFER);
        let invite = lab.take(BOB, "INVITE");
        lab.reply(BOB, &invite, 200, ANSWER);
        let ok2 = lab.take(ALICE, "200 INVITE");
        lab.ack(ALICE, &ok2);
        refer(
            &mut lab,
            ALICE,
            &ok1,
            90,
            &format!("<sip:200@wt.test?Replaces={}>", replaces(&ok2)),
            "",
        );
        notified(&mut lab, ALICE);
    }
    assert_eq!(lab.gateway.gauges().calls, 40);
    // Whom alice called first are over together, and nobody else by itself.
    lab.now += std::time::Duration::from_secs(52);
    lab.handle(webtrunk::gateway::Input::Tick);
    assert_eq!(lab.gateway.gauges().calls, 0);
    lab.expect_idle();
}

#[test]
fn an_attended_transfer_joins_the_two_other_parties_and_lets_the_referrer_go() {
    let mut lab = Lab::with_phones();
    let ((ok1, invite1), (ok2, _invite2)) = two_calls(&mut lab);
    lab.media.clear();
    refer(&mut lab, ALICE, &ok1, 90, &format!("<sip:200@wt.test?Replaces={}>", replaces(&ok2)), "");
    lab.plays(
        "0.0s alice calls 200 at bob
         0.0s bob answers alice
         0.0s alice → REFER 200
         0.0s alice ← 202 REFER
         0.0s alice ← BYE
         0.0s alice ← NOTIFY 200
         0.0s alice → 200 NOTIFY
         0.0s alice → 200 BYE",
    );
    let bye = lab.last(ALICE, "BYE");
    assert_eq!(bye.call_id(), ok2.call_id(), "the call that was replaced ends at once");
    // Each session has an inner leg with the other's address, joined to the party that stays.
    let opened: Vec<u64> = lab
        .media
        .iter()
        .filter_map(
            |c| if let WorkerCommand::Open { session, .. } = c { Some(*session) } else { None },
        )
        .collect();
    assert_eq!(opened.len(), 2);
    let joined = bridges(&lab);
    assert_eq!(joined.len(), 2, "{joined:?}");
    assert!(opened.iter().all(|s| joined.iter().any(|b| b.0 == *s)));
    lab.plays(
        "0.0s alice → BYE
         0.0s alice ← 200 BYE
         40.0s    // the two talk on
         40.0s bob hangs up on t1",
    );
    drop(invite1);
    assert_eq!(lab.ended().len(), 2);
    lab.expect_idle();
}

#[test]
fn an_attended_transfer_of_anothers_call_is_403_rung_or_answered() {
    let mut lab = Lab::with_phones();
    let (ok, _) = lab.talk("+12065550123");
    lab.plays(
        "0.0s bob calls +12065550124 at t1
         0.0s t1 rings bob",
    );
    let named = |of: &Message| format!("<sip:200@wt.test?Replaces={}>", replaces(of));
    let ringing = named(&lab.last(BOB, "180 INVITE"));
    refer(&mut lab, ALICE, &ok, 90, &ringing, "");
    lab.plays(
        "0.0s alice → REFER 200
         0.0s alice ← 202 REFER
         0.0s alice ← NOTIFY 403
         0.0s alice → 200 NOTIFY
         0.0s t1 answers bob",
    );
    let talking = named(&lab.last(BOB, "200 INVITE"));
    refer(&mut lab, ALICE, &ok, 91, &talking, "");
    lab.plays(
        "0.0s alice → REFER 200
         0.0s alice ← 202 REFER
         0.0s alice ← NOTIFY 403
         0.0s alice → 200 NOTIFY",
    );
    assert_eq!(lab.gateway.gauges().calls, 2);
    lab.handle(webtrunk::gateway::Input::HangUpAll);
    lab.expect_idle();
}

#[test]
fn an_invite_with_replaces_takes_the_place_of_its_senders_own_call() {
    let mut lab = Lab::with_phones();
    let (ok, _) = lab.talk("+12065550123");
    let header = |to: &str, from: &str| {
        format!("Replaces: {};to-tag={to};from-tag={from}\r\n", ok.call_id())
    };
    let ours = ok.to().expect("a To").tag().expect("its tag").to_owned();
    let theirs = ok.from().expect("a From").tag().expect("its tag").to_owned();
    for (sender, extra, status) in [
        (BOB, header(&ours, &theirs), "403"),
        (ALICE, header(&ours, "wrong"), "481"),
        (ALICE, "Replaces: unreadable\r\n".to_owned(), "400"),
        (ALICE, header(&ours, &theirs).replace("\r\n", ";early-only\r\n"), "486"),
    ] {
        let text = lab.request(sender, "INVITE", "sip:anyone@wt.test", &extra, OFFER);
        lab.says(sender, &text);
        if ["403", "481", "486"].contains(&status) && lab.got(sender, "200") {
            // Checked once its media is open: answered, given the reason, and hung up.
            lab.take(sender, "200");
            lab.take(sender, "BYE");
        } else {
            lab.take(sender, status);
        }
    }
    let second = Peer::Browser("alice", 9);
    lab.log_in(second, "secret-a", "uuid-a2");
    let text = lab.request(second, "INVITE", "sip:anyone@wt.test", &header(&ours, &theirs), OFFER);
    lab.says(second, &text);
    lab.plays(
        "0.0s bob → INVITE anyone sdp
         0.0s bob ← 403 INVITE
         0.0s alice → INVITE anyone sdp
         0.0s alice ← 481 INVITE
         0.0s alice → INVITE anyone sdp
         0.0s alice ← 400 INVITE
         0.0s alice → INVITE anyone sdp
         0.0s alice ← 486 INVITE
         0.0s alice-9 → INVITE anyone sdp
         0.0s alice ← BYE
         0.0s alice-9 ← 200 INVITE sdp
         0.0s alice-9 → ACK",
    );
    let bye = lab.last(ALICE, "BYE");
    assert_eq!(bye.call_id(), ok.call_id());
    lab.plays(
        "0.0s alice → 200 BYE
         0.0s t1 hangs up on alice-9",
    );
    lab.expect_idle();
}

#[test]
fn a_trunk_that_transfers_itself_gets_the_refer_and_its_progress_is_notified() {
    let mut lab =
        Lab::changed(&[("realm = \"carrier\"", "realm = \"carrier\"\nrefer = \"pass\"")], "");
    lab.talk("+12065550123");
    lab.plays(
        "0.0s alice → REFER +1777
         0.0s alice ← 202 REFER
         0.0s t1 ← REFER +1777
         0.0s alice ← NOTIFY 100
         0.0s alice → 200 NOTIFY
         0.0s t1 → 202 REFER",
    );
    let passed = lab.last(T1, "REFER");
    assert_eq!(Lab::header(&passed, HeaderName::ReferTo), "<sip:+1777@127.0.0.10>");
    assert!(Lab::header(&passed, HeaderName::ReferredBy).contains("+12065550111"));
    for (n, (frag, state, said)) in [
        ("SIP/2.0 180 Ringing", "active", "SIP/2.0 180 Ringing"),
        ("SIP/2.0 200 OK", "terminated", "SIP/2.0 200 OK"),
    ]
    .into_iter()
    .enumerate()
    {
        let extra = format!("Event: refer\r\nSubscription-State: {state}\r\n");
        let text = lab
            .in_dialog_with(T1, &passed, "NOTIFY", 2 + n as u32, &extra, frag)
            .replace("application/sdp", "message/sipfrag");
        let text = text.replace(";tag=peer;tag=peer", ";tag=peer");
        lab.says(T1, &text);
        lab.take(T1, "200 NOTIFY");
        assert_eq!(notified(&mut lab, ALICE), said);
    }
    lab.plays(
        "0.0s t1 → NOTIFY 180
         0.0s t1 ← 200 NOTIFY
         0.0s alice ← NOTIFY 180
         0.0s alice → 200 NOTIFY
         0.0s t1 → NOTIFY 200
         0.0s t1 ← 200 NOTIFY
         0.0s alice ← NOTIFY 200
         0.0s alice ← BYE
         0.0s t1 ← BYE
         0.0s alice → 200 NOTIFY",
    );
    lab.expect_idle();
}

#[test]
fn an_attended_transfer_within_one_trunk_is_passed_with_replaces() {
    let mut lab =
        Lab::changed(&[("realm = \"carrier\"", "realm = \"carrier\"\nrefer = \"pass\"")], "");
    let (ok1, _) = lab.talk("+12065550123");
    let (ok2, invite2) = lab.talk("+12065550124");
    refer(&mut lab, ALICE, &ok1, 90, &format!("<sip:x@wt.test?Replaces={}>", replaces(&ok2)), "");
    lab.plays(
        "0.0s alice → REFER x
         0.0s alice ← 202 REFER
         0.0s t1 ← REFER +12065550124
         0.0s alice ← NOTIFY 100
         0.0s t1 → 603 REFER
         0.0s alice → 200 NOTIFY
         0.0s alice ← NOTIFY 603
         0.0s alice → 200 NOTIFY",
    );
    let passed = lab.last(T1, "REFER");
    let to = Lab::header(&passed, HeaderName::ReferTo).to_owned();
    let own = invite2.from().unwrap().tag().unwrap().to_owned();
    assert!(
        to.contains("+12065550124") && to.contains(&format!("to-tag%3Dpeer%3Bfrom-tag%3D{own}")),
        "{to}"
    );
    assert_eq!(lab.gateway.gauges().calls, 2, "both calls continue");
    lab.handle(webtrunk::gateway::Input::HangUpAll);
    lab.plays(
        "0.0s alice ← BYE
         0.0s t1 ← BYE
         0.0s alice ← BYE
         0.0s t1 ← BYE",
    );
    lab.expect_idle();
}

#[test]
fn the_third_party_may_be_a_built_in_one_and_be_transferred_to_again() {
    let mut lab = Lab::with_phones();
    lab.talk("+12065550123");
    lab.plays(
        "0.0s alice → REFER 9196
         0.0s alice ← 202 REFER
         0.0s alice ← NOTIFY 100
         0.0s alice → 200 NOTIFY
         0.0s alice ← NOTIFY 200
         0.0s alice → 200 NOTIFY",
    );
    assert!(lab.media.iter().any(|c| matches!(c, WorkerCommand::Echo { .. })));
    lab.plays("0.0s t1 hangs up on alice");
    lab.expect_idle();
}
