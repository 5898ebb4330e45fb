use super::held::{MAX_HELD, MAX_HELD_OF_SOURCE};
use super::*;
use crate::call::context::NodeIdentity;
use crate::config::check::parse_embedded;
use crate::sip::parse::Framing;

pub(super) fn gateway(now: Instant) -> Gateway {
    let text = "[server]\ndomain = \"x\"\npublic_ip = \"127.0.0.1\"\n\
                [user.ada]\npassword = \"secret\"\ncontext = \"in\"\n";
    let plan = "[[route]]\nname = \"e\"\nmatch = \".\"\ndo = [{ echo = true }]\n";
    let (config, _) = parse_embedded(text, &[("in", plan)]).unwrap_or_else(|p| panic!("{p}"));
    Gateway::new(now, Arc::new(config), NodeIdentity::without_a_host(), [3; 32])
}

#[test]
fn so_many_requests_wait_for_an_answer_and_no_more() {
    let now = Instant::now();
    let mut gateway = gateway(now);
    let text = "REGISTER sip:x SIP/2.0\r\nCSeq: 1 REGISTER\r\n\r\n";
    let message = Message::parse(text.into(), Framing::WebSocket).expect("sound");
    let mut out = Vec::new();
    let mut holds = |gateway: &mut Gateway, n: usize, source: u8| {
        let remote = SocketAddr::from(([192, 0, 2, source], 4_000));
        let held = HeldRequest { flow: Flow(n as u64), remote, message: message.clone() };
        let awaited = Awaited::User(format!("u{}", n % 7));
        matches!(gateway.hold(awaited, None, held, &mut out), Screening::Handled)
    };
    // However many a stranger sends, whoever is elsewhere is asked for.
    let stranger = (0..MAX_HELD).filter(|n| holds(&mut gateway, *n, 1)).count();
    assert_eq!(stranger, MAX_HELD_OF_SOURCE);
    let others =
        (0..MAX_HELD).filter(|n| holds(&mut gateway, MAX_HELD + n, 2 + (n / 100) as u8)).count();
    assert_eq!(others, MAX_HELD - MAX_HELD_OF_SOURCE);
    assert!(!holds(&mut gateway, 9_999, 99));
    assert_eq!(gateway.logins.remembered(), MAX_HELD);
    // What is answered leaves its places to others, the stranger too.
    let taken: Vec<usize> =
        (0..7).map(|n| gateway.logins.held.take(&Awaited::User(format!("u{n}"))).len()).collect();
    assert_eq!((taken.iter().sum(), gateway.logins.remembered()), (MAX_HELD, 0));
    assert!(holds(&mut gateway, 1, 1));
}
