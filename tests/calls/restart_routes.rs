//! A gateway that is killed while a caller whom it has answered is being connected: the caller
//! stays, and the step of its route that was under way is taken again.

use crate::lab::*;
use crate::restart::{AWAY, BACK, comes_back, knows_its_call};
use std::collections::BTreeMap;
use std::time::Duration;
use webtrunk::cdr::{Cdr, Party};
use webtrunk::errors::Code;
use webtrunk::event::Event;
use webtrunk::gateway::Input;
use webtrunk::gateway::originate::OriginateRequest;
use webtrunk::media::player::PlaySource;
use webtrunk::media::session::SessionEvent;
use webtrunk::sip::{HeaderName, Message};
use webtrunk::worker::{Notice, WorkerCommand};

const ROUTES: &str = r#"
[[route]]
name = "Answered, then bob"
match = "301"
do = [{ answer = true }, { ring = ["user:bob"], timeout = "20s" }, { dial = ["trunk:t2"], to = "+4999" }]
[[route]]
name = "Answered, then two trunks"
match = "302"
do = [{ answer = true }, { dial = ["trunk:t2", "trunk:t1"] }]
[[route]]
name = "Answered, then an announcement"
match = "303"
do = [{ answer = true }, { play = "builtin:chime" }, { dial = ["trunk:t1"], to = "+1777" }]
[[route]]
name = "Answered, then a question"
match = "304"
do = [{ answer = true }, { webhook = "https://shop.example/route", secret = "0123456789abcdef" }]
"#;

/// bob, by the WebSocket he comes back with.
const BOB_BACK: Peer = Peer::Browser("bob", 8);

fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// alice calls `number`, which answers her; her 200.
fn answered(number: &str) -> (Lab, Message) {
    let mut lab = Lab::changed(&[], ROUTES);
    lab.invite(ALICE, number, OFFER);
    let ok = lab.take(ALICE, "200");
    lab.ack(ALICE, &ok);
    (lab, ok)
}

/// What was rung for her is cancelled at a trunk, which says so.
fn is_cancelled(lab: &mut Lab, peer: Peer, rang: &Message) {
    let cancel = lab.take(peer, "CANCEL");
    assert_eq!(cancel.call_id(), rang.call_id());
    lab.reply(peer, &cancel, 200, "");
    lab.reply(peer, rang, 487, "");
    lab.inbox.clear();
}

/// alice is back, and hangs up on whom she was connected with. The one record.
pub(crate) fn ends_well(lab: &mut Lab, ok: &Message, at: Peer) -> Cdr {
    comes_back(lab);
    knows_its_call(lab, BACK);
    let bye = lab.in_dialog(BACK, ok, "BYE", 9_000, "", "");
    lab.says(BACK, &bye);
    let bye = lab.take(at, "BYE");
    lab.reply(at, &bye, 200, "");
    let record = one_record(lab);
    assert_eq!(record.code, Code::FINE, "{record:?}");
    record
}

fn one_record(lab: &mut Lab) -> Cdr {
    lab.expect_idle();
    let records: Vec<Cdr> = lab.ended().into_iter().cloned().collect();
    let [record] = &*records else { panic!("one call is one record: {records:?}") };
    record.clone()
}

/// What is played by a command, if anything is.
fn source(command: &WorkerCommand) -> Option<&PlaySource> {
    if let WorkerCommand::Play { source, .. } = command { Some(source) } else { None }
}

/// What was played to alice after the first `known` commands, the newest last.
fn played(lab: &Lab, known: usize) -> Vec<&PlaySource> {
    lab.media[known..].iter().filter_map(source).collect()
}

#[test]
fn the_trunk_that_rang_for_an_answered_caller_is_dialled_again() {
    let (mut lab, ok) = answered("300");
    let rang = lab.take(T1, "INVITE");
    lab.reply(T1, &rang, 180, "");
    lab.advance(Duration::from_secs(3));
    lab.inbox.clear();
    let known = lab.media.len();
    lab.restart(AWAY);
    assert!(matches!(*played(&lab, known), [PlaySource::Ringback]), "she hears that it rings on");
    is_cancelled(&mut lab, T1, &rang);
    lab.advance(millis(600));
    let again = lab.take(T1, "INVITE");
    assert_ne!(again.call_id(), rang.call_id());
    assert_eq!(again.request_uri(), rang.request_uri());
    assert_eq!(
        again.header(HeaderName::From).map(|f| f.split(';').next()),
        rang.header(HeaderName::From).map(|f| f.split(';').next())
    );
    lab.reply(T1, &again, 200, TRUNK_SDP);
    lab.take(T1, "ACK");
    let lines: Vec<String> = lab.notes.iter().map(ToString::to_string).collect();
    for line in [
        "gateway restarted; 0.4 s without media",
        "takes the step \"dial  trunk:t1 to +1777\" again",
    ] {
        assert!(lines.iter().any(|l| l == line), "{line}: {lines:?}");
    }
    let record = ends_well(&mut lab, &ok, T1);
    let tried: Vec<_> = record.tried.iter().map(|tried| tried.status).collect();
    assert_eq!(tried, [None, Some(200)]);
    assert_eq!(record.interruptions.len(), 1);
    assert_eq!(record.answered_by, Some(Party::Trunk("t1".into())));
}

/// One line is busy until its cancelled call is gone.
#[test]
fn a_phone_that_is_being_cancelled_is_waited_for_but_not_for_ever() {
    for says_so in [true, false] {
        let (mut lab, ok) = answered("300");
        let rang = lab.take(T1, "INVITE");
        lab.reply(T1, &rang, 180, "");
        lab.restart(AWAY);
        lab.take(T1, "CANCEL");
        lab.advance(millis(1_500));
        // The INVITE of before, and its CANCEL, are repeated.
        lab.inbox.retain(|(_, m)| m.call_id() != rang.call_id());
        assert!(!lab.got(T1, "INVITE"), "{}", lab.picture());
        if says_so {
            lab.reply(T1, &rang, 487, "");
        } else {
            lab.advance(millis(600));
        }
        lab.inbox.retain(|(_, m)| m.call_id() != rang.call_id());
        let again = lab.take(T1, "INVITE");
        lab.reply(T1, &again, 200, TRUNK_SDP);
        lab.take(T1, "ACK");
        ends_well(&mut lab, &ok, T1);
    }
}

#[test]
fn whoever_answered_while_nobody_listened_is_hung_up_and_dialled_again() {
    let (mut lab, ok) = answered("300");
    let rang = lab.take(T1, "INVITE");
    lab.reply(T1, &rang, 180, "");
    lab.restart(AWAY);
    let cancel = lab.take(T1, "CANCEL");
    lab.reply(T1, &cancel, 200, "");
    lab.inbox.clear();
    lab.reply(T1, &rang, 200, TRUNK_SDP);
    lab.take(T1, "ACK");
    let bye = lab.take(T1, "BYE");
    lab.reply(T1, &bye, 200, "");
    lab.advance(millis(600));
    let again = lab.take(T1, "INVITE");
    lab.reply(T1, &again, 200, TRUNK_SDP);
    lab.take(T1, "ACK");
    ends_well(&mut lab, &ok, T1);
}

#[test]
fn a_trunk_that_had_refused_is_not_dialled_again() {
    let (mut lab, ok) = answered("302");
    let refused = lab.take(T2, "INVITE");
    lab.reply(T2, &refused, 503, "");
    let rang = lab.take(T1, "INVITE");
    lab.reply(T1, &rang, 180, "");
    lab.inbox.clear();
    lab.restart(AWAY);
    is_cancelled(&mut lab, T1, &rang);
    lab.advance(millis(600));
    assert!(!lab.got(T2, "INVITE"), "{}", lab.picture());
    let again = lab.take(T1, "INVITE");
    lab.reply(T1, &again, 200, TRUNK_SDP);
    lab.take(T1, "ACK");
    ends_well(&mut lab, &ok, T1);
}

#[test]
fn a_browser_that_rang_for_an_answered_caller_rings_again_once_it_is_back() {
    let (mut lab, ok) = answered("301");
    let rang = lab.take(BOB, "INVITE");
    lab.reply(BOB, &rang, 180, "");
    lab.inbox.clear();
    lab.restart(AWAY);
    lab.advance(Duration::from_secs(3));
    assert!(!lab.got(T2, "INVITE"), "bob may come back: {}", lab.picture());
    lab.log_in(BOB_BACK, "secret-b", "uuid-b");
    let cancel = lab.take(BOB_BACK, "CANCEL");
    assert_eq!(cancel.call_id(), rang.call_id());
    // Its page has forgotten that call.
    lab.reply(BOB_BACK, &cancel, 481, "");
    lab.advance(millis(100));
    let again = lab.take(BOB_BACK, "INVITE");
    lab.reply(BOB_BACK, &again, 200, ANSWER);
    lab.take(BOB_BACK, "ACK");
    let record = ends_well(&mut lab, &ok, BOB_BACK);
    assert_eq!(record.tried.len(), 2, "{:?}", record.tried);
}

#[test]
fn a_browser_that_rang_and_does_not_come_back_is_followed_by_the_next_step() {
    let (mut lab, ok) = answered("301");
    let rang = lab.take(BOB, "INVITE");
    lab.reply(BOB, &rang, 180, "");
    lab.inbox.clear();
    lab.restart(AWAY);
    lab.advance(millis(9_900));
    assert!(!lab.got(T2, "INVITE"), "{}", lab.picture());
    lab.advance(millis(200));
    let next = lab.take(T2, "INVITE");
    lab.reply(T2, &next, 200, &TRUNK_SDP.replace("127.0.0.10", "127.0.0.11"));
    lab.take(T2, "ACK");
    ends_well(&mut lab, &ok, T2);
}

#[test]
fn an_announcement_is_played_again_from_its_beginning() {
    let (mut lab, ok) = answered("303");
    let call = lab.on_disk()[0].id();
    let ended = |lab: &mut Lab| {
        let played = SessionEvent::Played { end: webtrunk::media::LegId(0) };
        lab.handle(Input::Media { session: call.0, notice: Notice::Media(played) });
    };
    let known = lab.media.len();
    lab.restart(AWAY);
    // What media has of the clip from before ends at once.
    ended(&mut lab);
    assert!(!lab.got(T1, "INVITE"), "{}", lab.picture());
    lab.advance(millis(600));
    assert!(matches!(*played(&lab, known), [PlaySource::Clip(_)]), "{:?}", played(&lab, known));
    ended(&mut lab);
    let invite = lab.take(T1, "INVITE");
    lab.reply(T1, &invite, 200, TRUNK_SDP);
    lab.take(T1, "ACK");
    ends_well(&mut lab, &ok, T1);
}

#[test]
fn a_web_application_is_asked_again() {
    let (mut lab, _) = answered("304");
    let (call, _) = lab.routes_asked.pop().expect("it was asked");
    lab.restart(AWAY);
    lab.advance(millis(600));
    let (again, _) = lab.routes_asked.pop().expect("it is asked again");
    assert_eq!(again, call);
    lab.handle(Input::HangUpAll);
    one_record(&mut lab);
}

/// Most phones hang up as soon as their REFER was taken.
#[test]
fn a_transfer_whose_transferor_has_left_goes_on() {
    let mut lab = Lab::with_phones();
    lab.plays(
        "0.0s alice calls +12065550123 at t1
         0.0s t1 answers alice",
    );
    let talks = lab.last(T1, "INVITE");
    lab.plays(
        "0.0s alice transfers to 201 at bob
         0.0s alice → 200 NOTIFY
         0.0s alice → BYE
         0.0s alice ← 200 BYE
         0.0s bob → 180 INVITE",
    );
    let rang = lab.last(BOB, "INVITE");
    lab.inbox.clear();
    lab.restart(AWAY);
    lab.advance(Duration::from_secs(2));
    assert!(!lab.got(T1, "BYE"), "{}", lab.picture());
    lab.log_in(BOB_BACK, "secret-b", "uuid-b");
    let cancel = lab.take(BOB_BACK, "CANCEL");
    lab.reply(BOB_BACK, &cancel, 200, "");
    lab.reply(BOB_BACK, &rang, 487, "");
    let again = lab.take(BOB_BACK, "INVITE");
    lab.reply(BOB_BACK, &again, 200, ANSWER);
    lab.take(BOB_BACK, "ACK");
    let bye = lab.in_dialog(T1, &talks, "BYE", 50, "peer", "");
    lab.says(T1, &bye);
    let bye = lab.take(BOB_BACK, "BYE");
    lab.reply(BOB_BACK, &bye, 200, "");
    let record = one_record(&mut lab);
    assert_eq!((record.code, record.transfers.len()), (Code::FINE, 1), "{record:?}");
}

/// A web application connects alice with a number: she has answered. Her INVITE.
fn connecting() -> (Lab, Message) {
    let mut lab = Lab::with_phones();
    let (from, to, tags) = ("alice".into(), "+12065550123".into(), BTreeMap::new());
    let wish = OriginateRequest { from, to, context: None, tags };
    let plan = lab.gateway.plan_call(lab.now, &wish).expect("it may begin");
    lab.handle(Input::Originate(Box::new(plan)));
    let first = lab.take(ALICE, "INVITE");
    lab.reply(ALICE, &first, 200, ANSWER);
    lab.take(ALICE, "ACK");
    (lab, first)
}

#[test]
fn a_call_that_nobody_dialled_continues_while_its_second_party_rings_and_later() {
    for rings in [true, false] {
        let (mut lab, first) = connecting();
        let mut second = lab.take(T1, "INVITE");
        if rings {
            lab.reply(T1, &second, 180, "");
        } else {
            lab.reply(T1, &second, 200, TRUNK_SDP);
            lab.take(T1, "ACK");
        }
        lab.inbox.clear();
        lab.restart(AWAY);
        if rings {
            is_cancelled(&mut lab, T1, &second);
            lab.advance(millis(600));
            second = lab.take(T1, "INVITE");
            lab.reply(T1, &second, 200, TRUNK_SDP);
            lab.take(T1, "ACK");
        }
        assert!(lab.inbox.is_empty(), "rings {rings}: {}", lab.picture());
        let record = ends_well_of(&mut lab, &first);
        assert_eq!(record.answered_by, Some(Party::Trunk("t1".into())), "rings {rings}");
    }
}

/// As [`ends_well`] for who was called herself.
fn ends_well_of(lab: &mut Lab, invite: &Message) -> Cdr {
    comes_back(lab);
    knows_its_call(lab, BACK);
    let bye = lab.in_dialog(BACK, invite, "BYE", 9_000, "peer", "");
    lab.says(BACK, &bye);
    let bye = lab.take(T1, "BYE");
    lab.reply(T1, &bye, 200, "");
    let record = one_record(lab);
    assert_eq!(record.code, Code::FINE, "{record:?}");
    record
}

#[test]
fn a_process_that_dies_before_the_step_is_taken_again_leaves_that_to_the_next() {
    let (mut lab, ok) = answered("302");
    let rang = lab.take(T2, "INVITE");
    lab.reply(T2, &rang, 180, "");
    lab.inbox.clear();
    for _ in 0..3 {
        lab.restart(millis(100));
        lab.advance(millis(200));
    }
    assert!(lab.inbox.iter().all(|(_, m)| m.call_id() == rang.call_id()), "{}", lab.picture());
    lab.reply(T2, &rang, 487, "");
    lab.inbox.clear();
    lab.advance(millis(2_000));
    let again = lab.take(T2, "INVITE");
    lab.reply(T2, &again, 503, "");
    let next = lab.take(T1, "INVITE");
    lab.reply(T1, &next, 200, TRUNK_SDP);
    lab.take(T1, "ACK");
    let record = ends_well(&mut lab, &ok, T1);
    assert_eq!(record.interruptions.len(), 3);
}

#[test]
fn a_caller_who_hangs_up_before_the_step_is_taken_again_is_rung_for_no_more() {
    let (mut lab, ok) = answered("300");
    let rang = lab.take(T1, "INVITE");
    lab.reply(T1, &rang, 180, "");
    lab.restart(AWAY);
    is_cancelled(&mut lab, T1, &rang);
    comes_back(&mut lab);
    knows_its_call(&mut lab, BACK);
    let bye = lab.in_dialog(BACK, &ok, "BYE", 9_000, "", "");
    lab.says(BACK, &bye);
    lab.advance(Duration::from_secs(20));
    assert!(!lab.got(T1, "INVITE"), "{}", lab.picture());
    assert!(!lab.notes.iter().any(|note| matches!(note, Event::StepRepeated { .. })));
    one_record(&mut lab);
}
