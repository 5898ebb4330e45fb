//! A gateway that is killed while more than one party has to do with an INVITE of its: forks that
//! answered both, phones that another's answer silenced, trunks that were given up.

use crate::lab::*;
use crate::restart::{AWAY, BACK, comes_back, knows_its_call};
use webtrunk::errors::Code;
use webtrunk::sip::Message;

/// alice is back, and hangs up on `at`.
fn ends_well(lab: &mut Lab, ok: &Message, at: Peer) {
    comes_back(lab);
    knows_its_call(lab, BACK);
    let bye = lab.in_dialog(BACK, ok, "BYE", 9_000, "", "");
    lab.says(BACK, &bye);
    let bye = lab.take(at, "BYE");
    lab.reply(at, &bye, 200, "");
    assert_eq!(lab.ended().iter().map(|r| r.code).collect::<Vec<_>>(), [Code::FINE]);
    lab.expect_idle();
}

/// A proxy behind the trunk forked, and two phones were picked up at once.
#[test]
fn a_goodbye_to_one_fork_does_not_end_the_call_with_the_other() {
    let mut lab = Lab::with_phones();
    lab.plays("0.0s alice calls +12065550123 at t1");
    let invite = lab.last(T1, "INVITE");
    lab.reply_as(T1, &invite, 200, TRUNK_SDP, "one");
    lab.take(T1, "ACK");
    let ok = lab.take(ALICE, "200");
    lab.ack(ALICE, &ok);
    lab.reply_as(T1, &invite, 200, TRUNK_SDP, "two");
    lab.take(T1, "ACK");
    let first = lab.take(T1, "BYE");
    assert_eq!(first.to().and_then(|to| to.tag()), Some("two"));
    lab.inbox.clear();
    lab.restart(AWAY);
    let again = lab.take(T1, "BYE");
    assert_eq!(again.to_bytes(), first.to_bytes(), "{}", lab.picture());
    lab.reply(T1, &again, 200, "");
    assert!(lab.ended().is_empty(), "{}", lab.picture());
    ends_well(&mut lab, &ok, T1);
}
