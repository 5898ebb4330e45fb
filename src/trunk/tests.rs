use super::*;

#[test]
fn the_last_changes_of_a_trunks_health_are_remembered() {
    let (now, mut trunk) = (Instant::now(), TrunkState::default());
    trunk.on_request_answered(now);
    for _ in 0..MISSES {
        trunk.on_probe_missed(now, "no answer to OPTIONS".into());
    }
    assert!(trunk.switch(now, false) && !trunk.switch(now, false), "it is off already");
    let past = |trunk: &TrunkState| -> Vec<_> { trunk.past().map(|c| c.state).collect() };
    assert_eq!(past(&trunk), ["disabled", "down", "up"], "the newest first");
    assert_eq!(trunk.past().nth(1).and_then(|c| c.why.as_deref()), Some("no answer to OPTIONS"));
    for on in 0..2 * MOST_CHANGES {
        trunk.switch(now, on % 2 == 0);
    }
    assert_eq!(past(&trunk).len(), MOST_CHANGES);
}

#[test]
fn three_misses_take_it_out_and_two_answers_bring_it_back() {
    let start = Instant::now();
    let at = |s| start + Duration::from_secs(s);
    let mut trunk = TrunkState::default();
    assert_eq!(trunk.on_request_answered(at(0)), Some(TrunkChange::Up { was_down_for: None }));
    for n in 1..3 {
        assert_eq!(trunk.on_probe_missed(at(n), "silence".into()), None);
    }
    trunk.on_request_answered(at(3));
    assert!(
        (4..6).all(|n| trunk.on_probe_missed(at(n), "silence".into()).is_none()),
        "counting began again"
    );
    assert_eq!(
        trunk.on_probe_missed(at(6), "silence".into()),
        Some(TrunkChange::Down { why: "silence".into() })
    );
    assert!(trunk.usable(at(6)).is_err());
    assert_eq!(trunk.on_probe_missed(at(7), "silence".into()), None, "said once");
    assert_eq!(trunk.on_request_answered(at(8)), None, "one answer is no recovery");
    assert_eq!(
        trunk.on_request_answered(at(9)),
        Some(TrunkChange::Up { was_down_for: Some(Duration::from_secs(3)) })
    );
    assert!(trunk.usable(at(9)).is_ok());
}

#[test]
fn the_pace_is_kept_by_the_second() {
    let now = Instant::now();
    let mut pace = Pace::default();
    assert_eq!((0..5).filter(|_| pace.take(now, Some(2))).count(), 2);
    assert!(pace.take(now + Duration::from_secs(1), Some(2)));
    assert!((0..1_000).all(|_| pace.take(now, None)));
}

/// A configuration with these trunks, each probed.
fn config(trunks: &[(String, &str)]) -> Config {
    let trunks: String = trunks
        .iter()
        .map(|(name, rest)| {
            format!("[trunk.{name}]\nuri = \"sip:{name}.example\"\nprobe = \"1m\"\n{rest}\n")
        })
        .collect();
    let text = format!(
        "[server]\ndomain = \"x\"\npublic_ip = \"127.0.0.1\"\n[sip]\nudp = \":5060\"\n{trunks}"
    );
    let read = crate::config::check::parse_embedded(&text, &[]);
    read.unwrap_or_else(|p| panic!("{p}")).0
}

fn many(n: usize, rest: &'static str) -> Vec<(String, &'static str)> {
    (0..n).map(|n| (format!("t{n:05}"), rest)).collect()
}

/// Entries looked at by `work`.
fn looked<T>(work: impl FnOnce() -> T) -> (usize, T) {
    let before = crate::ids::LOOKED_AT.get();
    let done = work();
    (crate::ids::LOOKED_AT.get() - before, done)
}

#[test]
fn what_falls_due_of_many_trunks_falls_due_some_in_each_turn_and_nobody_else_is_looked_at() {
    let now = Instant::now();
    let mut trunks = Trunks::new(now, &config(&many(300, "")));
    let mut probed = Vec::new();
    while trunks.next_timeout().is_some_and(|at| at <= now) {
        let due = trunks.due(now);
        assert!((1..=MOST_DUE).contains(&due.len()));
        for due in due {
            let Due::Probe(name) = due else { panic!("none registers") };
            trunks.get_mut(&name).expect("it is there").probing(now, Some(Duration::from_secs(60)));
            probed.push(name);
        }
    }
    assert_eq!(probed, many(300, "").into_iter().map(|t| t.0).collect::<Vec<_>>());
    trunks.get_mut("t00007").expect("it is there").probe_now(now);
    let (looked, due) = looked(|| trunks.due(now));
    assert_eq!(due, [Due::Probe("t00007".into())]);
    assert!(looked < 5, "{looked} of 300");
    assert_eq!(trunks.next_timeout(), Some(now + Duration::from_secs(60)));
}

#[test]
fn a_reload_touches_what_it_changes_some_in_each_turn() {
    let now = Instant::now();
    let before = config(&many(1_000, ""));
    assert!(Revision::between(now, &before, &config(&many(1_000, ""))).is_empty());
    let mut after = many(1_000, "");
    after[7] = ("fresh".into(), "");
    let one = Revision::between(now, &before, &config(&after));
    let [Revision::Gone(gone), Revision::New(new, _)] = &one[..] else { panic!("{}", one.len()) };
    assert_eq!((gone.as_str(), new.as_str()), ("t00007", "fresh"));
    // All of them are replaced, in turns.
    let others: Vec<_> = (0..1_000).map(|n| (format!("s{n:05}"), "")).collect();
    let mut trunks = Trunks::new(now, &before);
    while !trunks.due(now).is_empty() {}
    trunks.revise(now, Revision::between(now, &before, &config(&others)));
    let mut turns = 0;
    while trunks.next_timeout() == Some(now) {
        let (looked, _) = looked(|| trunks.due(now));
        assert!(looked <= 2 * (MOST_REVISED + MOST_DUE), "{looked} in one turn");
        turns += 1;
    }
    assert!(turns >= 2_000 / MOST_REVISED, "{turns}");
    assert!(trunks.after(None).map(|(name, _)| name).eq(others.iter().map(|o| &o.0)));
}

#[test]
fn a_reload_keeps_what_is_known_of_a_trunk_that_stays() {
    let now = Instant::now();
    let login = "username = \"u\"\npassword = \"p\"\nregister = true";
    let (before, after) =
        (config(&many(2, "")), config(&[("t00000".into(), login), ("t00001".into(), "")]));
    let mut trunks = Trunks::new(now, &before);
    for name in ["t00000", "t00001"] {
        trunks.get_mut(name).expect("it is there").on_request_answered(now);
    }
    trunks.revise(now, Revision::between(now, &before, &after));
    trunks.due(now);
    let of = |name: &str| {
        let state = trunks.get(name).expect("it is there");
        (state.health, state.registrations.len())
    };
    assert_eq!((of("t00000"), of("t00001")), ((Health::Up, 1), (Health::Up, 0)));
}

#[test]
fn a_trunk_that_registered_is_found_by_where_it_came_from() {
    let now = Instant::now();
    let mut trunks = Trunks::new(now, &config(&many(100, "")));
    let remote = SocketAddr::from(([192, 0, 2, 1], 5060));
    let bound =
        |expires| TrunkBinding { hop: Hop::Flow(Flow(7)), remote, contact: String::new(), expires };
    assert!(trunks.bind("t00042", bound(now + Duration::from_secs(60))));
    assert!(!trunks.bind("t00042", bound(now + Duration::from_secs(90))), "it is still registered");
    assert_eq!(trunks.bound_from(remote), Some("t00042"));
    assert_eq!(trunks.bound_on(Flow(7)), ["t00042"]);
    while !trunks.due(now + Duration::from_secs(90)).is_empty() {}
    assert_eq!((trunks.bound_from(remote), trunks.bound_on(Flow(7))), (None, Vec::new()));
}
