use super::*;
use crate::sip::parse::Framing;

#[test]
fn a_user_named_like_a_trunk_is_none() {
    let user = Party::User { name: "trunk:t1".into(), instance: None };
    assert_eq!((user.trunk(), user.as_callee().as_str()), (None, "user:trunk:t1"));
    let trunk = Party::Trunk("t1".into());
    assert_eq!((trunk.trunk(), trunk.as_caller().as_str()), (Some("t1"), "trunk:t1"));
}

#[test]
fn a_record_outlives_the_process_and_its_clock() {
    let invite = b"INVITE sip:1@x SIP/2.0\r\nCall-ID: c\r\n\r\n".to_vec();
    let invite = Message::parse(invite, Framing::WebSocket).expect("a message");
    let (began, second) = (Instant::now(), Duration::from_secs(1));
    let mut cdr = Cdr::new(CallId(7), began, Party::Number("1".into()), &invite);
    cdr.answered = Some(began + 3 * second);
    cdr.tried.push(Tried {
        target: Party::Trunk("a".into()),
        status: Some(503),
        ms: 9,
        rang: None,
        refused: true,
    });
    let text = serde_json::to_string(&cdr.snapshot(began + 5 * second)).expect("a value");
    let later = began + 60 * second;
    let again = Cdr::restore(serde_json::from_str(&text).expect("the value"), later);
    assert_eq!((again.call, &again.tried, &*again.caller_call_id), (cdr.call, &cdr.tried, "c"));
    let ago = |at: Instant| later - at;
    assert_eq!((ago(again.start), again.answered.map(ago)), (5 * second, Some(2 * second)));
}
