//! What comes again after a death of the process, for its answer was lost with it: what was done is
//! answered, and not done again.

use crate::lab::*;
use crate::restart::{AWAY, BACK, comes_back, knows_its_call};
use crate::transfers::refer;
use webtrunk::gateway::Input;
use webtrunk::worker::WorkerCommand;

/// A digit by INFO was passed on; its 200 was lost with the process.
#[test]
fn a_digit_that_is_signalled_again_after_a_restart_is_pressed_once() {
    let mut lab = Lab::with_phones();
    let (_, invite) = lab.talk("+12065550123");
    let body = "Signal=5\r\nDuration=160\r\n";
    let info = lab.in_dialog_with(T1, &invite, "INFO", 900, "", body);
    let info = info.replace("application/sdp", "application/dtmf-relay");
    lab.says(T1, &info);
    lab.take(T1, "200 INFO");
    let pressed = |lab: &Lab| {
        lab.media.iter().filter(|c| matches!(c, WorkerCommand::Digit { event: 5, .. })).count()
    };
    assert_eq!(pressed(&lab), 1);
    lab.restart(AWAY);
    lab.says(T1, &info);
    assert_eq!(pressed(&lab), 1, "{}", lab.picture());
    // The next one is new.
    lab.says(T1, &info.replace("CSeq: 900", "CSeq: 901").replace("branch=", "branch=z9hG4bKnext"));
    assert_eq!(pressed(&lab), 2, "{}", lab.picture());
    lab.handle(Input::HangUpAll);
    lab.expect_idle();
}

/// A call of alice, who takes texts and a package, by t1: its INVITE.
fn talks_of_tides(lab: &mut Lab) -> webtrunk::sip::Message {
    let takes = "Allow: INVITE, ACK, BYE, MESSAGE, INFO\r\nRecv-Info: tides\r\n";
    let text = lab.request(ALICE, "INVITE", "sip:+12065550123@wt.test", takes, OFFER);
    lab.says(ALICE, &text);
    let invite = lab.take(T1, "INVITE");
    lab.reply(T1, &invite, 200, TRUNK_SDP);
    let ok = lab.take(ALICE, "200");
    lab.ack(ALICE, &ok);
    invite
}

#[test]
fn what_was_passed_on_is_not_passed_on_again_after_a_restart() {
    for (method, extra, status) in
        [("MESSAGE", "", "202 MESSAGE"), ("INFO", "Info-Package: tides\r\n", "200 INFO")]
    {
        let mut lab = Lab::with_phones();
        let invite = talks_of_tides(&mut lab);
        let text = lab.in_dialog_with(T1, &invite, method, 900, extra, "high");
        let text = text.replace("application/sdp", "text/plain");
        lab.says(T1, &text);
        lab.take(T1, status);
        let passed = lab.take(ALICE, method);
        lab.reply(ALICE, &passed, 200, "");
        lab.restart(AWAY);
        comes_back(&mut lab);
        knows_its_call(&mut lab, BACK);
        lab.says(T1, &text);
        lab.take(T1, status);
        assert!(!lab.got(BACK, method), "{}", lab.picture());
        // The next one is new, and what is refused is refused again.
        let next = text.replace("CSeq: 900", "CSeq: 901").replace("branch=", "branch=z9hG4bKnext");
        lab.says(T1, &next);
        let passed = lab.take(BACK, method);
        lab.reply(BACK, &passed, 200, "");
        lab.handle(Input::HangUpAll);
        lab.expect_idle();
    }
}

#[test]
fn what_was_refused_is_refused_again_after_a_restart() {
    let mut lab = Lab::with_phones();
    let invite = talks_of_tides(&mut lab);
    let long = "x".repeat(9_000);
    for (n, (method, extra, body, status)) in [
        ("INFO", "Info-Package: moons\r\n", "full", "469 INFO"),
        ("MESSAGE", "", long.as_str(), "513 MESSAGE"),
        ("INFO", "", "no digit", "415 INFO"),
    ]
    .into_iter()
    .enumerate()
    {
        let text = lab.in_dialog_with(T1, &invite, method, 900 + n as u32, extra, body);
        let text = text.replace("application/sdp", "text/plain");
        lab.says(T1, &text);
        lab.take(T1, status);
        lab.restart(AWAY);
        lab.says(T1, &text);
        lab.take(T1, status);
    }
    lab.handle(Input::HangUpAll);
    lab.expect_idle();
}

/// The transfer was taken back, and its transferor was told.
#[test]
fn a_transfer_that_was_asked_for_before_a_restart_is_not_begun_again() {
    let executes = "realm = \"carrier\"\nrefer = \"execute\"";
    let mut lab = Lab::changed(&[("realm = \"carrier\"", executes)], "");
    let (_, invite) = lab.talk("+12065550123");
    refer(&mut lab, T1, &invite, 900, "<sip:+12065550112@127.0.0.1>", "");
    lab.take(T1, "202");
    let asked = lab.said.last().expect("the REFER").2.clone();
    let notify = lab.take(T1, "NOTIFY");
    lab.reply(T1, &notify, 200, "");
    lab.take(BOB, "INVITE");
    lab.rings(BOB);
    let notify = lab.take(T1, "NOTIFY");
    lab.reply(T1, &notify, 200, "");
    lab.restart(AWAY);
    let told = lab.take(T1, "NOTIFY");
    lab.reply(T1, &told, 200, "");
    assert!(String::from_utf8_lossy(told.body()).contains("503"));
    lab.log_in(BOB, "secret-b", "uuid-b");
    let cancel = lab.take(BOB, "CANCEL");
    lab.reply(BOB, &cancel, 200, "");
    lab.inbox.clear();
    lab.says(T1, &asked);
    lab.take(T1, "202 REFER");
    assert!(!lab.got(BOB, "INVITE") && !lab.got(T1, "NOTIFY"), "{}", lab.picture());
    lab.handle(Input::HangUpAll);
    lab.expect_idle();
}
