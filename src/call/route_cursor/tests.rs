use super::*;
use crate::sip::parse::Framing;

fn cursor(steps: Vec<Step>) -> RouteCursor {
    let mut cursor = RouteCursor::new(70, 60);
    cursor.begin(Route::of_steps("test", steps), "100".into());
    cursor
}

fn dial() -> Step {
    Step::Dial { trunks: vec!["a".into(), "b".into()], to: None, timeout: None }
}

fn on(outcome: Outcome, step: Step) -> Step {
    Step::On { outcomes: vec![outcome], step: Box::new(step) }
}

fn invite(disposition: &str) -> Message {
    let text = format!("INVITE sip:a SIP/2.0\r\nRequest-Disposition: {disposition}\r\n\r\n");
    Message::parse(text.into_bytes(), Framing::WebSocket).expect("a message")
}

fn phone(user: &str) -> RingTarget {
    (user.into(), Vec::new())
}

fn refusal(status: u16) -> Refusal {
    Refusal::new(status, "")
}

#[test]
fn the_best_refusal_is_kept_and_translated_at_the_end() {
    for (seen, sent) in [
        (&[503, 486, 404][..], 486),
        (&[486, 603], 603),
        (&[480, 404], 404),
        (&[503], 500),
        (&[407], 502),
        (&[302], 480),
        (&[], 480),
    ] {
        let mut cursor = cursor(Vec::new());
        seen.iter().for_each(|s| cursor.on_refused(Outcome::of_status(*s), refusal(*s)));
        let NextStep::End(why) = cursor.next_step() else { panic!("an end") };
        assert_eq!(why.status, sent, "{seen:?}");
    }
}

#[test]
fn a_trunk_we_skip_hides_no_refusal_of_a_callee() {
    let mut cursor = cursor(vec![dial()]);
    cursor.on_refused(Outcome::Busy, refusal(486));
    cursor.skip_trunk("a", Code::TRUNK_FULL, "it is full");
    assert!(matches!(cursor.next_step(), NextStep::Run(Step::Dial { .. })));
    assert!(matches!(cursor.next_step(), NextStep::End(why) if why.status == 486));
}

#[test]
fn a_step_is_for_what_came_of_the_last_attempt() {
    let mut cursor = cursor(vec![dial(), on(Outcome::Busy, Step::Answer), Step::Answer]);
    assert!(matches!(cursor.next_step(), NextStep::Run(Step::Dial { .. })));
    cursor.on_refused(Outcome::Failed, refusal(503));
    assert!(matches!(cursor.next_step(), NextStep::Skipped { .. }));
    assert_eq!(cursor.next_step(), NextStep::Run(Step::Answer));
}

#[test]
fn a_callees_no_ends_the_dial_step_but_for_steps_that_name_it() {
    let mut one = cursor(vec![dial(), on(Outcome::Busy, Step::Answer), Step::Tone(440)]);
    assert!(matches!(one.next_step(), NextStep::Run(_)));
    one.begin_dial(vec!["a".into(), "b".into()], Some("0{number}".into()), None);
    assert_eq!((one.next_trunk().as_deref(), one.dial_number().as_str()), (Some("a"), "0100"));
    one.on_refused(Outcome::Failed, refusal(503));
    assert_eq!(one.after_trunk(refusal(503)), AfterTrunk::Trunk);
    one.on_refused(Outcome::Busy, refusal(486));
    assert_eq!(one.after_trunk(refusal(486)), AfterTrunk::Step);
    assert_eq!(one.next_trunk(), None, "the step is over");
    assert!(matches!(one.next_step(), NextStep::Run(Step::On { .. })));
    assert!(matches!(one.after_trunk(refusal(486)), AfterTrunk::End(why) if why.status == 486));
}

#[test]
fn a_new_route_forgets_what_was_tried() {
    let mut cursor = cursor(vec![dial()]);
    cursor.begin_dial(vec!["a".into()], None, None);
    assert!(cursor.begin_ring(vec![vec![phone("bob")]], None, &invite("")));
    cursor.on_refused(Outcome::Busy, refusal(486));
    cursor.forward(Route::of_steps("next", Vec::new()), "200".into());
    assert_eq!((cursor.next_trunk(), cursor.next_round()), (None, NextRound::Done));
    assert!(matches!(cursor.next_step(), NextStep::End(why) if why.status == 480));
    assert_eq!((cursor.number(), cursor.max_forwards()), ("200", 69));
}

#[test]
fn rounds_are_as_wide_as_max_breadth_and_the_caller_allow() {
    let phones = || vec![vec![phone("a"), phone("b")], vec![phone("c")]];
    let widths = |breadth, wish: &str| {
        let mut cursor = RouteCursor::new(70, breadth);
        assert!(cursor.begin_ring(phones(), None, &invite(wish)));
        let mut widths = Vec::new();
        while let NextRound::Ring { phones, share } = cursor.next_round() {
            assert_eq!(share, (breadth / phones.len() as u32).max(1));
            widths.push(phones.len());
        }
        widths
    };
    assert_eq!(widths(60, ""), [2, 1]);
    assert_eq!(widths(1, ""), [1, 1, 1]);
    assert_eq!(widths(60, "sequential"), [1, 1, 1]);
    assert_eq!(widths(60, "parallel"), [3]);
    assert_eq!(widths(60, "no-fork"), [1]);
    let mut none = RouteCursor::new(70, 0);
    assert!(none.begin_ring(phones(), None, &invite("")));
    assert_eq!(none.next_round(), NextRound::TooBroad);
}

#[test]
fn phones_ring_by_their_q() {
    let rounds = rounds(vec![(500, phone("b")), (1_000, phone("a")), (500, phone("c"))]);
    let names: Vec<Vec<String>> =
        rounds.into_iter().map(|r| r.into_iter().map(|p| p.0).collect()).collect();
    assert_eq!(names, [vec!["a"], vec!["b", "c"]]);
}

#[test]
fn circles_end() {
    let mut cursor = cursor(Vec::new());
    let most = (0..20).take_while(|_| cursor.count_goto().is_ok()).count();
    assert_eq!(most, usize::from(MAX_GOTOS));
    let mut route = Route::of_steps("redirects", Vec::new());
    assert!(!cursor.may_redirect(), "only a route that allows it follows");
    route.redirect = true;
    cursor.begin(route, "100".into());
    let by = || Diversion { number: "1".into(), reason: "unknown" };
    let followed = (0..20).take_while(|_| {
        let may = cursor.may_redirect();
        cursor.redirect(by(), None, vec![(Step::Answer, Some("7".into()))]);
        may
    });
    assert_eq!(followed.count(), MAX_REDIRECTS);
    assert!(cursor.is_redirected(302) && !cursor.is_redirected(404));
    assert_eq!(cursor.next_step(), NextStep::Run(Step::Answer));
    assert_eq!(cursor.number(), "7");
}

/// The cursor of a process that comes next.
fn outlives(cursor: &RouteCursor, under_way: bool) -> RouteCursor {
    let text = serde_json::to_string(&cursor.snapshot(under_way)).expect("a value");
    let config = "[server]\ndomain = \"x\"\npublic_ip = \"127.0.0.1\"\n\
        [sip]\nudp = \":5060\"\n[trunk.peer]\nuri = \"sip:127.0.0.10\"\n";
    let (config, _) = crate::config::check::parse_embedded(config, &[]).expect("a configuration");
    RouteCursor::restore(serde_json::from_str(&text).expect("the value"), &config)
}

#[test]
fn the_step_under_way_is_the_next_one_of_the_next_process() {
    let step = Step::Dial { trunks: vec!["b".into()], to: Some("1".into()), timeout: None };
    let both = Step::Dial { trunks: vec!["a".into(), "b".into()], to: None, timeout: None };
    let mut cursor = cursor(vec![both.clone(), on(Outcome::Busy, step.clone()), Step::Hangup(480)]);
    assert_eq!(cursor.next_step(), NextStep::Run(both.clone()));
    cursor.begin_dial(vec!["a".into(), "b".into()], None, None);
    assert_eq!(cursor.next_trunk().as_deref(), Some("a"));
    assert_eq!(outlives(&cursor, true).next_step(), NextStep::Run(both));
    assert_eq!(cursor.next_trunk().as_deref(), Some("b"));
    cursor.on_refused(Outcome::Busy, refusal(486).code(Code::BUSY));
    assert_eq!(
        outlives(&cursor, true).upcoming().map(ToString::to_string).as_deref(),
        Some("dial  trunk:b")
    );
    // A step that names outcomes is taken again whatever came of it so far.
    assert!(matches!(cursor.next_step(), NextStep::Run(Step::On { .. })));
    cursor.begin_dial(vec!["b".into()], Some("1".into()), None);
    cursor.next_trunk();
    let mut again = outlives(&cursor, true);
    assert_eq!(outlives(&again, true).snapshot(true), again.snapshot(true));
    assert_eq!(again.next_step(), NextStep::Run(step));
    let NextStep::Run(Step::Hangup(480)) = again.next_step() else { panic!("the last step") };
    let NextStep::End(why) = again.next_step() else { panic!("the end") };
    assert_eq!((why.status, why.code), (486, Code::BUSY), "the best refusal outlives it too");
}

#[test]
fn the_rules_of_a_route_outlive_the_process() {
    let mut cursor = cursor(vec![dial()]);
    let route = Route {
        patterns: vec![crate::dialplan::Pattern::parse("100").expect("a pattern")],
        caller_id: Some("+1".into()),
        timeout: Some(Duration::from_secs(7)),
        next_on: vec![crate::dialplan::NextOn::Status(404)],
        ignore_limits: true,
        redirect: true,
        ..Route::of_steps("rules", vec![dial()])
    };
    cursor.begin(route, "100".into());
    cursor.next_step();
    let again = outlives(&cursor, true);
    assert!(again.is_exempt() && again.may_redirect() && again.dialled().spelled);
    assert_eq!((again.caller_id(), again.step_time()), (Some("+1"), Duration::from_secs(7)));
    assert_eq!(again.silent_after(), None);
    let route = again.route.expect("a route");
    assert!(route.moves_on(404) && !route.moves_on(503));
}

#[test]
fn what_bounds_a_walk_outlives_the_process() {
    let mut cursor = cursor(vec![dial()]);
    let by = Diversion { number: "1".into(), reason: UNCONDITIONAL };
    cursor.redirect(by, None, Vec::new());
    assert!(cursor.count_goto().is_ok());
    let again = outlives(&cursor, false);
    assert_eq!(again.snapshot(false), cursor.snapshot(false));
    assert_eq!((again.diversions(), again.number()), (cursor.diversions(), "100"));
    assert_eq!((again.gotos, again.steps.len()), (1, 0));
}

#[test]
fn of_those_who_ring_together_ten_ring_at_once() {
    let mut cursor = cursor(Vec::new());
    let all = (0..25).map(|n| phone(&format!("u{n}"))).collect();
    assert!(cursor.begin_ring(vec![all], None, &invite("parallel")));
    let mut rung = Vec::new();
    while let NextRound::Ring { phones, .. } = cursor.next_round() {
        assert!(phones.len() <= MAX_FORKS);
        rung.push(phones.len());
    }
    assert_eq!(rung, [10, 10, 5], "the others follow");
}
