//! Who hands a call over is set aside meanwhile, and whatever becomes of its leg then is no matter
//! of the others.

use crate::lab::*;
use crate::transfers::refer;
use std::time::Duration;
use webtrunk::gateway::Input;

const TARGET: &str = "<sip:+12065550177@wt.test>";

/// The call goes on without its transferor, who gets a BYE; the target answers, and talks.
fn goes_on_without(mut lab: Lab, transferor: Peer, target: Peer) {
    let bye = lab.take(transferor, "BYE");
    lab.reply(transferor, &bye, 200, "");
    assert!(lab.ended().is_empty(), "{}", lab.picture());
    lab.answers(target);
    lab.take(target, "ACK");
    lab.advance(Duration::from_secs(40));
    assert!(lab.ended().is_empty(), "{}", lab.picture());
    assert_eq!(lab.gateway.gauges().calls, 1);
    lab.handle(Input::HangUpAll);
    lab.expect_idle();
}

#[test]
fn a_transferor_that_never_acknowledged_its_answer_goes_alone() {
    let mut lab = Lab::with_phones();
    lab.calls(ALICE, "+12065550123");
    lab.answers(T1);
    let ok = lab.take(ALICE, "200 INVITE");
    lab.advance(Duration::from_secs(20));
    lab.inbox.clear();
    refer(&mut lab, ALICE, &ok, 90, TARGET, "");
    lab.take(ALICE, "202");
    lab.take(T1, "INVITE");
    lab.rings(T1);
    lab.advance(Duration::from_millis(11_900));
    assert!(!lab.got(ALICE, "BYE"));
    lab.advance(Duration::from_millis(200));
    assert!(!lab.got(T1, "BYE"), "{}", lab.picture());
    goes_on_without(lab, ALICE, T1);
}

#[test]
fn a_transferor_that_lets_its_session_expire_goes_alone() {
    let executes = "realm = \"carrier\"\nrefer = \"execute\"";
    let mut lab = Lab::changed(&[("realm = \"carrier\"", executes)], "");
    lab.adds(T1, "200 INVITE", "Session-Expires: 300;refresher=uas\r\nRequire: timer\r\n");
    let (_, invite) = lab.talk("+12065550123");
    lab.advance(Duration::from_secs(260));
    refer(&mut lab, T1, &invite, 900, "<sip:+12065550112@127.0.0.1>", "");
    lab.take(T1, "202");
    let notify = lab.take(T1, "NOTIFY");
    lab.reply(T1, &notify, 200, "");
    lab.take(BOB, "INVITE");
    lab.advance(Duration::from_secs(9));
    assert!(!lab.got(ALICE, "BYE"), "{}", lab.picture());
    goes_on_without(lab, T1, BOB);
}

/// What it says at last cannot be used, and nobody hears it any more.
#[test]
fn a_transferor_whose_late_answer_is_unusable_goes_alone() {
    let mut lab = Lab::with_phones();
    lab.invite(ALICE, "+12065550123", "");
    lab.answers(T1);
    let ok = lab.take(ALICE, "200 INVITE");
    refer(&mut lab, ALICE, &ok, 90, TARGET, "");
    lab.take(ALICE, "202");
    lab.take(T1, "INVITE");
    let number = ok.cseq().expect("a CSeq").number;
    let ack = lab.in_dialog(ALICE, &ok, "ACK", number, "", "v=0\r\n");
    lab.says(ALICE, &ack);
    assert!(!lab.got(T1, "BYE"), "{}", lab.picture());
    goes_on_without(lab, ALICE, T1);
}
