use super::super::testing::{CALL, CallBench, response};
use super::*;

struct BranchBench {
    bench: CallBench,
    branch: Branch,
    caller: Leg,
    media: CallMedia,
}

impl BranchBench {
    /// A branch whose INVITE was sent.
    fn new() -> BranchBench {
        let mut bench = CallBench::new();
        let branch = bench.branch(1, BranchState::Calling);
        let caller = bench.leg();
        BranchBench { bench, branch, caller, media: CallMedia::new(CALL, 0) }
    }

    fn takes(&mut self, status: u16, headers: &str, awaits_answer: bool) -> BranchOutcome {
        let side = CallSide {
            call: CALL,
            caller: &mut self.caller,
            media: &mut self.media,
            awaits_answer,
            routes: awaits_answer,
            takes_early_media: true,
            follows: true,
            rang: false,
        };
        let message = response(status, headers);
        self.branch.on_response(&mut self.bench.cx(), side, &message)
    }
}

#[test]
fn few_targets_of_one_redirection_are_looked_at() {
    let mut tried = BranchBench::new();
    let contacts: String = (0..100).map(|n| format!("Contact: <sip:{n}@x>\r\n")).collect();
    let BranchOutcome::Redirected { numbers, .. } = tried.takes(302, &contacts, true) else {
        panic!("it is a redirection");
    };
    assert_eq!(numbers, ["0", "1", "2", "3", "4"]);
}

#[test]
fn ringing_is_progress_while_the_route_is_taken() {
    let mut tried = BranchBench::new();
    let tag = "callee".to_owned();
    assert_eq!(
        tried.takes(180, "", true),
        BranchOutcome::Progress { status: 180, tag, early: None }
    );
    assert_eq!(tried.takes(100, "", true), BranchOutcome::Pending);
    assert_eq!(tried.takes(180, "", false), BranchOutcome::Pending);
}

#[test]
fn an_answer_nobody_waits_for_is_acknowledged_and_hung_up_once() {
    let mut tried = BranchBench::new();
    assert_eq!(tried.takes(200, "", false), BranchOutcome::Late);
    let methods = |bench: &mut CallBench| -> Vec<String> {
        let first = |text: &String| text.split(' ').next().map(str::to_owned);
        bench.sent().iter().filter_map(first).collect()
    };
    assert_eq!(methods(&mut tried.bench), ["ACK", "BYE"]);
    assert_eq!(tried.takes(200, "", false), BranchOutcome::Pending);
    assert_eq!(methods(&mut tried.bench), ["ACK"], "its ACK was lost");
}

#[test]
fn an_answer_without_a_description_is_a_failure_of_an_answered_branch() {
    let mut tried = BranchBench::new();
    let outcome = tried.takes(200, "", true);
    assert!(matches!(outcome, BranchOutcome::Failed(why) if why.code == Code::NO_CODEC));
    assert_eq!(tried.branch.state, BranchState::Answered, "so it is hung up");
}

#[test]
fn a_refusal_is_what_it_says_or_what_its_cause_says() {
    for (status, reason, passed_on, code) in [
        (486, "", 486, Code::BUSY),
        (500, "Reason: Q.850;cause=17\r\n", 486, Code::BUSY),
        (480, "", 480, Code::NOT_AVAILABLE),
        (407, "", 407, Code::CREDENTIALS),
        (422, "", 422, Code::TARGET_FAILED),
    ] {
        let outcome = BranchBench::new().takes(status, reason, true);
        let BranchOutcome::Failed(why) = outcome else { panic!("{status}: {outcome:?}") };
        assert_eq!((why.status, why.code), (passed_on, code), "{status}");
    }
}

#[test]
fn a_longer_session_is_granted_a_few_times() {
    let mut tried = BranchBench::new();
    let longer =
        |tried: &mut BranchBench, n: u32| tried.takes(422, &format!("Min-SE: {n}\r\n"), true);
    assert_eq!(longer(&mut tried, 100), BranchOutcome::SendAgain);
    assert!(matches!(longer(&mut tried, 100), BranchOutcome::Failed(_)), "no longer than that");
    assert!(matches!(longer(&mut tried, 86_401), BranchOutcome::Failed(_)));
    let again = (200..220).take_while(|n| longer(&mut tried, *n) == BranchOutcome::SendAgain);
    assert!(again.count() < 4);
}

#[test]
fn a_redirection_names_the_best_first() {
    let contacts = "Contact: <sip:1@a>;q=0.5, <sip:2@a>\r\n";
    let outcome = BranchBench::new().takes(302, contacts, true);
    let BranchOutcome::Redirected { status: 302, numbers, otherwise } = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!((numbers, otherwise.status), (vec!["2".to_owned(), "1".to_owned()], 302));
}

#[test]
fn who_says_nothing_is_followed_by_the_next_address() {
    let mut tried = BranchBench::new();
    tried.branch.hops.push_back(super::super::testing::hop());
    let outcome = tried.branch.on_silence(&mut tried.bench.cx(), CALL);
    assert_eq!(outcome, BranchOutcome::NextHop);
    assert_eq!(tried.takes(503, "", true), BranchOutcome::NextHop);
    tried.branch.hops.clear();
    let outcome = tried.branch.on_silence(&mut tried.bench.cx(), CALL);
    assert!(matches!(outcome, BranchOutcome::GivenUp(why) if why.code == Code::UNREACHABLE));
    assert_eq!(tried.branch.state, BranchState::Cancelling);
}
