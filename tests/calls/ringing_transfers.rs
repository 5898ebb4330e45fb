//! Transfers to a party that still rings: it keeps ringing, now for the transferee.

use crate::lab::*;
use crate::transfers::{bridges, notified, refer, replaces};
use webtrunk::sip::Message;
use webtrunk::worker::WorkerCommand;

/// alice talks with t1, and bob rings for her; her 200 and 180, and the INVITEs of t1 and bob.
fn one_call_and_one_that_rings(lab: &mut Lab) -> [Message; 4] {
    let (ok, first) = lab.talk("+12065550123");
    lab.invite(ALICE, "201", OFFER);
    let ringing = lab.take(BOB, "INVITE");
    lab.reply(BOB, &ringing, 180, "");
    let heard = lab.take(ALICE, "180");
    lab.plays(
        "0.0s alice → INVITE 201 sdp
         0.0s alice ← 100 INVITE
         0.0s bob ← INVITE sdp
         0.0s bob → 180 INVITE
         0.0s alice ← 180 INVITE",
    );
    [ok, heard, first, ringing]
}

/// alice hands t1 over to who rings for her.
fn hands_over(lab: &mut Lab, ok: &Message, ringing: &Message) {
    let to = format!("<sip:201@wt.test?Replaces={}>", replaces(ringing));
    refer(lab, ALICE, ok, 90, &to, "");
}

#[test]
fn a_transferee_hears_the_target_ring_and_then_its_answer() {
    let mut lab = Lab::with_phones();
    let [ok, heard, ..] = one_call_and_one_that_rings(&mut lab);
    lab.media.clear();
    hands_over(&mut lab, &ok, &heard);
    lab.plays(
        "0.0s alice → REFER 201
         0.0s alice ← 202 REFER
         0.0s alice ← 487 INVITE
         0.0s alice ← NOTIFY 180
         0.0s alice → 200 NOTIFY",
    );
    // bob's phone keeps ringing, and nobody else gets a message: t1 hears it over the inner legs.
    let rings = lab.media.iter().filter(|c| matches!(c, WorkerCommand::Play { .. })).count();
    assert_eq!(rings, 1, "{:?}", lab.media);
    lab.plays(
        "4.0s bob → 200 INVITE sdp recvonly
         4.0s bob ← ACK
         4.0s alice ← NOTIFY 200
         4.0s alice → 200 NOTIFY
         4.0s alice → BYE
         4.0s alice ← 200 BYE
         30.0s    // the two talk on
         30.0s bob → BYE
         30.0s bob ← 200 BYE
         30.0s t1 ← BYE
         30.0s t1 → 200 BYE",
    );
    let joined = bridges(&lab);
    let sessions: std::collections::BTreeSet<u64> = joined.iter().map(|b| b.0).collect();
    assert_eq!(sessions.len(), 2, "each session joins its party and its inner end: {joined:?}");
    let mut ended = lab.ended();
    // Both began at once; the one that was talking is the one handed over.
    ended.sort_by_key(|cdr| cdr.transfers.is_empty());
    assert_eq!(ended[0].transfers, ["201"]);
    let answered = ended[1].answered.map(|at| at.duration_since(ended[1].start).as_secs());
    assert_eq!(answered, Some(4), "its time begins with the answer");
    lab.expect_idle();
}

#[test]
fn a_target_that_does_not_answer_gives_the_transferor_its_call_back() {
    for status in [486, 603] {
        let mut lab = Lab::with_phones();
        let [ok, heard, ..] = one_call_and_one_that_rings(&mut lab);
        hands_over(&mut lab, &ok, &heard);
        lab.plays(&format!(
            "0.0s alice → REFER 201
             0.0s alice ← 202 REFER
             0.0s alice ← 487 INVITE
             0.0s alice ← NOTIFY 180
             0.0s alice → 200 NOTIFY
             0.0s bob → {status} INVITE
             0.0s bob ← ACK
             0.0s alice ← NOTIFY {status}
             0.0s alice → 200 NOTIFY"
        ));
        assert_eq!(lab.gateway.gauges().calls, 1, "what rang is over");
        let last = bridges(&lab).last().copied().expect("a bridge");
        assert_eq!((last.1, last.2), (0, 1), "alice and the trunk again");
        // The transferor that was brought back is in an ordinary call, and may try again.
        refer(&mut lab, ALICE, &ok, 91, "<sip:201@wt.test>", "");
        lab.plays(
            "0.0s alice transfers to 201 at bob
             0.0s alice → 200 NOTIFY
             0.0s bob → 486 INVITE
             0.0s bob ← ACK
             0.0s alice ← NOTIFY 486
             0.0s alice → 200 NOTIFY
             0.0s t1 hangs up on alice",
        );
        let failed = lab.ended().into_iter().filter(|cdr| cdr.transfer_failed.is_some());
        assert_eq!(failed.count(), 1);
        lab.expect_idle();
    }
}

#[test]
fn a_target_that_rings_for_too_long_gives_the_transferor_its_call_back() {
    let mut lab = Lab::with_phones();
    let [ok, heard, ..] = one_call_and_one_that_rings(&mut lab);
    hands_over(&mut lab, &ok, &heard);
    lab.plays(
        "0.0s alice → REFER 201
         0.0s alice ← 202 REFER
         0.0s alice ← 487 INVITE
         0.0s alice ← NOTIFY 180
         0.0s alice → 200 NOTIFY
         10.0s bob ← CANCEL
         10.0s alice ← NOTIFY 480     // nobody answered
         10.0s alice → 200 NOTIFY",
    );
    assert_eq!(lab.gateway.gauges().calls, 1);
    lab.handle(webtrunk::gateway::Input::HangUpAll);
    lab.expect_idle();
}

#[test]
fn transferee_and_transferor_may_hang_up_while_the_target_rings() {
    let mut lab = Lab::with_phones();
    let [ok, heard, ..] = one_call_and_one_that_rings(&mut lab);
    hands_over(&mut lab, &ok, &heard);
    lab.plays(
        "0.0s alice → REFER 201
         0.0s alice ← 202 REFER
         0.0s alice ← 487 INVITE
         0.0s alice ← NOTIFY 180
         0.0s alice → 200 NOTIFY
         2.0s alice → BYE            // the referrer does not wait for the end
         2.0s alice ← 200 BYE
         4.0s t1 → BYE
         4.0s t1 ← 200 BYE
         4.0s bob ← CANCEL",
    );
    lab.expect_idle();
}

#[test]
fn one_that_rings_in_vain_ends_the_call_whose_referrer_has_left() {
    let mut lab = Lab::with_phones();
    let [ok, heard, ..] = one_call_and_one_that_rings(&mut lab);
    hands_over(&mut lab, &ok, &heard);
    lab.plays(
        "0.0s alice → REFER 201
         0.0s alice ← 202 REFER
         0.0s alice ← 487 INVITE
         0.0s alice ← NOTIFY 180
         0.0s alice → 200 NOTIFY
         2.0s alice → BYE
         2.0s alice ← 200 BYE
         4.0s bob → 486 INVITE
         4.0s bob ← ACK
         4.0s t1 ← BYE
         4.0s t1 → 200 BYE",
    );
    lab.expect_idle();
}

#[test]
fn of_a_target_that_rings_without_end_the_newest_is_told() {
    let mut lab = Lab::with_phones();
    lab.talk("+12065550123");
    lab.plays("0.0s alice transfers to 201 at bob");
    let (first, invite) = (lab.last(ALICE, "NOTIFY"), lab.last(BOB, "INVITE"));
    (0..10).for_each(|n| lab.reply(BOB, &invite, 180 + 3 * (n % 2), ""));
    assert!(!lab.got(ALICE, "NOTIFY"), "she has not answered the first");
    lab.reply(ALICE, &first, 200, "");
    assert!(notified(&mut lab, ALICE).starts_with("SIP/2.0 183"));
    assert!(!lab.got(ALICE, "NOTIFY"));
    lab.handle(webtrunk::gateway::Input::HangUpAll);
    lab.expect_idle();
}
