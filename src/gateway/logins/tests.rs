use super::*;
use crate::call::context::NodeIdentity;
use crate::config::check::parse_embedded;
use crate::sip::parse::Framing;

fn gateway(now: Instant) -> Gateway {
    let text = "[server]\ndomain = \"x\"\npublic_ip = \"127.0.0.1\"\n";
    let (config, _) = parse_embedded(text, &[]).unwrap_or_else(|p| panic!("{p}"));
    Gateway::new(now, Arc::new(config), NodeIdentity::without_a_host(), [3; 32])
}

#[test]
fn so_many_names_are_remembered_and_no_more() {
    let now = Instant::now();
    let mut logins = Logins::default();
    for n in 0..2 * MAX_REMEMBERED + 2 {
        logins.remember(now, format!("u{n}"), None, Duration::from_secs(60));
        assert!(logins.remembered() <= MAX_REMEMBERED);
    }
    assert!(logins.user(now, &format!("u{}", 2 * MAX_REMEMBERED + 1)).is_some());
    // Those whose time is over make room before others do.
    let later = now + Duration::from_secs(61);
    for n in 0..MAX_REMEMBERED {
        logins.remember(later, format!("v{n}"), None, Duration::from_secs(60));
    }
    assert!(logins.user(later, "v0").is_some() && logins.user(later, "u0").is_none());
}

#[test]
fn so_many_requests_wait_for_an_answer_and_no_more() {
    let now = Instant::now();
    let mut gateway = gateway(now);
    let text = "REGISTER sip:x SIP/2.0\r\nCSeq: 1 REGISTER\r\n\r\n";
    let message = Message::parse(text.into(), Framing::WebSocket).expect("sound");
    let mut out = Vec::new();
    for n in 0..=MAX_HELD {
        let remote = SocketAddr::from(([127, 0, 0, 1], 4_000));
        let held = HeldRequest { flow: Flow(n as u64), remote, message: message.clone() };
        let screening = gateway.hold(Awaited::User(format!("u{}", n % 7)), None, held, &mut out);
        assert_eq!(matches!(screening, Screening::Handled), n < MAX_HELD, "{n}");
    }
    assert_eq!(gateway.logins.remembered(), MAX_HELD);
}
