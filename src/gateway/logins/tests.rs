use super::*;
use crate::call::context::NodeIdentity;
use crate::config::check::parse_embedded;
use crate::sip::parse::Framing;

fn gateway(now: Instant) -> Gateway {
    let text = "[server]\ndomain = \"x\"\npublic_ip = \"127.0.0.1\"\n\
                [user.ada]\npassword = \"secret\"\ncontext = \"in\"\n";
    let plan = "[[route]]\nname = \"e\"\nmatch = \".\"\ndo = [{ echo = true }]\n";
    let (config, _) = parse_embedded(text, &[("in", plan)]).unwrap_or_else(|p| panic!("{p}"));
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
    let mut holds = |n: usize, source: u8| {
        let remote = SocketAddr::from(([192, 0, 2, source], 4_000));
        let held = HeldRequest { flow: Flow(n as u64), remote, message: message.clone() };
        let awaited = Awaited::User(format!("u{}", n % 7));
        matches!(gateway.hold(awaited, None, held, &mut out), Screening::Handled)
    };
    // However many a stranger sends, whoever is elsewhere is asked for.
    let stranger = (0..MAX_HELD).filter(|n| holds(*n, 1)).count();
    assert_eq!(stranger, MAX_HELD_OF_SOURCE);
    let others = (0..MAX_HELD).filter(|n| holds(MAX_HELD + n, 2 + (n / 100) as u8)).count();
    assert_eq!(others, MAX_HELD - MAX_HELD_OF_SOURCE);
    assert!(!holds(9_999, 99));
    assert_eq!(gateway.logins.remembered(), MAX_HELD);
}

#[test]
fn names_that_nobody_has_make_nobody_forgotten() {
    let (now, mut logins) = (Instant::now(), Logins::default());
    let user = gateway(now).config.users.values().next().cloned();
    let minute = Duration::from_secs(60);
    logins.remember(now, "ada".to_owned(), user.clone(), minute);
    for n in 0..3 * MAX_REMEMBERED {
        logins.remember(now, format!("u{n}"), None, minute);
        assert!(logins.remembered() <= MAX_REMEMBERED);
    }
    assert!(logins.user(now, "ada").is_some_and(Option::is_some));
    // Where all are somebody, nobody takes no place.
    (1..MAX_REMEMBERED).for_each(|n| logins.remember(now, format!("v{n}"), user.clone(), minute));
    logins.remember(now, "nobody".to_owned(), None, minute);
    assert!(logins.user(now, "nobody").is_none() && logins.user(now, "v1").is_some());
}
