use super::*;

fn srv(priority: u16, weight: u16, port: u16, target: &str) -> Srv {
    Srv { priority, weight, port, target: target.into() }
}
fn target(host: &str) -> Destination {
    Destination {
        host: host.into(),
        port: None,
        transport: None,
        secure: false,
        trunk: TrunkNumber(3),
        listed: Vec::new(),
    }
}
/// Answers every query from `zone` and returns the end of the walk.
fn run(
    locator: &mut Resolver,
    now: Instant,
    target: &Destination,
    zone: &dyn Fn(&DnsQuery) -> DnsAnswer,
) -> (Located, Vec<DnsQuery>) {
    let mut asked = Vec::new();
    for _ in 0..40 {
        match locator.locate(now, target, &mut || 0) {
            Located::Waiting(query) => {
                asked.push(query.clone());
                let answer = zone(&query);
                locator.answered(now, query, answer);
            }
            done => return (done, asked),
        }
    }
    panic!("no end: {asked:?}");
}
fn none(query: &DnsQuery) -> DnsAnswer {
    Ok((
        match query {
            DnsQuery::Naptr(_) => Records::Naptr(vec![]),
            DnsQuery::Srv(_) => Records::Srv(vec![]),
            DnsQuery::Address(_) => Records::Address(vec![]),
        },
        60,
    ))
}
fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

#[test]
fn naptr_then_srv_then_address_in_their_order() {
    let zone = |q: &DnsQuery| match q {
        DnsQuery::Naptr(_) => Ok((
            Records::Naptr(vec![
                Naptr {
                    order: 20,
                    preference: 1,
                    flags: "s".into(),
                    service: "SIP+D2U".into(),
                    replacement: "_sip._udp.x.".into(),
                },
                Naptr {
                    order: 10,
                    preference: 1,
                    flags: "S".into(),
                    service: "SIPS+D2T".into(),
                    replacement: "_sips._tcp.x.".into(),
                },
                Naptr {
                    order: 1,
                    preference: 1,
                    flags: "s".into(),
                    service: "SIP+D2S".into(),
                    replacement: "_sip._sctp.x.".into(),
                },
            ]),
            60,
        )),
        DnsQuery::Srv(name) if name == "_sips._tcp.x" => {
            Ok((Records::Srv(vec![srv(2, 0, 5071, "b.x"), srv(1, 0, 5061, "a.x")]), 60))
        }
        DnsQuery::Srv(_) => Ok((Records::Srv(vec![srv(1, 0, 5060, "a.x")]), 60)),
        DnsQuery::Address(name) => Ok((
            Records::Address(vec![
                if name == "a.x" { "100.128.0.1" } else { "100.128.0.2" }.parse().unwrap(),
            ]),
            60,
        )),
    };
    let (found, _) = run(&mut Resolver::default(), Instant::now(), &target("x"), &zone);
    let tls = |a| Hop::Tls(address(a), TrunkNumber(3));
    assert_eq!(
        found,
        Located::Ready(vec![
            tls("100.128.0.1:5061"),
            tls("100.128.0.2:5071"),
            Hop::Udp(address("100.128.0.1:5060"))
        ])
    );
}

#[test]
fn a_port_or_a_number_asks_for_less() {
    let now = Instant::now();
    let zone = |q: &DnsQuery| match q {
        DnsQuery::Address(_) => Ok((
            Records::Address(vec!["100.128.0.7".parse().unwrap(), "2620:1::7".parse().unwrap()]),
            60,
        )),
        q => none(q),
    };
    let with_port = Destination { port: Some(5080), ..target("x") };
    let (found, asked) = run(&mut Resolver::default(), now, &with_port, &zone);
    assert_eq!(
        (found, asked.len()),
        (Located::Ready(vec![Hop::Udp(address("100.128.0.7:5080"))]), 1)
    );
    let mut both = Resolver { ipv6: true, ..Resolver::default() };
    let (found, _) = run(&mut both, now, &with_port, &zone);
    assert_eq!(
        found,
        Located::Ready(vec![
            Hop::Udp(address("100.128.0.7:5080")),
            Hop::Udp(address("[2620:1::7]:5080"))
        ])
    );
    let number =
        Destination { secure: true, transport: Some(UriTransport::Tls), ..target("2620:1::1") };
    let (found, asked) = run(&mut Resolver::default(), now, &number, &zone);
    assert_eq!(
        (found, asked),
        (Located::Ready(vec![Hop::Tls(address("[2620:1::1]:5061"), TrunkNumber(3))]), vec![])
    );
    // Nothing but an address: UDP at 5060, after NAPTR and the three SRV names.
    let (found, asked) = run(&mut Resolver::default(), now, &target("x"), &zone);
    assert_eq!(
        (found, asked.len()),
        (Located::Ready(vec![Hop::Udp(address("100.128.0.7:5060"))]), 5)
    );
}

#[test]
fn weights_share_the_load_and_a_service_that_is_not_there_is_believed() {
    let records =
        [srv(1, 10, 1, "a"), srv(1, 30, 1, "b"), srv(1, 0, 1, "c"), srv(0, 0, 1, "first")];
    let mut wins = HashMap::new();
    let mut state = 1u64;
    let mut chance = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    };
    for _ in 0..4_100 {
        let order = ordered(&records, &mut chance);
        assert_eq!((order[0].target.as_str(), order.len()), ("first", 4));
        *wins.entry(order[1].target.clone()).or_insert(0) += 1;
    }
    assert!(
        (850..1_150).contains(&wins["a"]) && (2_800..3_200).contains(&wins["b"]) && wins["c"] < 220,
        "{wins:?}"
    );
    let zone = |q: &DnsQuery| {
        if matches!(q, DnsQuery::Srv(_)) {
            Ok((Records::Srv(vec![srv(0, 0, 0, ".")]), 60))
        } else {
            none(q)
        }
    };
    let (found, _) = run(&mut Resolver::default(), Instant::now(), &target("x"), &zone);
    assert!(matches!(found, Located::Failed(_)), "{found:?}");
}

#[test]
fn the_cache_ages_is_bounded_and_remembers_the_dead() {
    let start = Instant::now();
    let mut locator = Resolver::default();
    let t = Destination { port: Some(5060), ..target("x") };
    let zone = |q: &DnsQuery| match q {
        DnsQuery::Address(_) => Ok((
            Records::Address(vec!["100.128.0.1".parse().unwrap(), "100.128.0.2".parse().unwrap()]),
            0,
        )),
        q => none(q),
    };
    let (one, two) = (Hop::Udp(address("100.128.0.1:5060")), Hop::Udp(address("100.128.0.2:5060")));
    assert_eq!(run(&mut locator, start, &t, &zone).1.len(), 1);
    assert_eq!(run(&mut locator, start, &t, &zone).1.len(), 0, "a TTL of 0 still holds for 5 s");
    assert_eq!(run(&mut locator, start + Duration::from_secs(6), &t, &zone).1.len(), 1);
    locator.failed(start, one);
    assert_eq!(run(&mut locator, start, &t, &zone).0, Located::Ready(vec![two, one]));
    let later = start + DEAD + Duration::from_secs(1);
    assert_eq!(
        run(&mut locator, later, &t, &zone).0,
        Located::Ready(vec![one, two]),
        "probed again"
    );
    for n in 0..3_000u32 {
        locator.answered(later, DnsQuery::Address(format!("h{n}")), Err("no".into()));
        locator.failed(later, Hop::Udp(SocketAddr::from(([10, 0, (n >> 8) as u8, n as u8], 5060))));
    }
    assert!(
        locator.sizes().0 <= MAX_NAMES && locator.sizes().1 <= MAX_NAMES,
        "{:?}",
        locator.sizes()
    );
}

#[test]
fn a_thousand_records_and_a_dead_server_end_quickly() {
    let zone = |q: &DnsQuery| match q {
        DnsQuery::Srv(_) => {
            Ok((Records::Srv((0..1_000).map(|n| srv(0, 1, 5060, &format!("h{n}"))).collect()), 60))
        }
        DnsQuery::Address(_) => Err("SERVFAIL".into()),
        q => none(q),
    };
    let mut locator = Resolver::default();
    let t = Destination { transport: Some(UriTransport::Udp), ..target("x") };
    let mut asked = 0;
    loop {
        match locator.locate(Instant::now(), &t, &mut || 0) {
            Located::Waiting(query) => {
                asked += 1;
                let answer = zone(&query);
                locator.answered(Instant::now(), query, answer);
            }
            done => {
                assert!(matches!(done, Located::Failed(_)), "{done:?}");
                break;
            }
        }
    }
    assert!(asked <= 1 + MAX_RECORDS, "{asked}");
}

#[test]
fn dns_leads_nowhere_it_has_no_business() {
    let denied = include_str!("../../tests/corpus/addresses.txt").split_whitespace();
    let now = Instant::now();
    let private = |ip: &str| crate::address::is_private(ip.parse().unwrap());
    let found = |host: &str, ip: &str, listed: &[&str]| {
        let ip: IpAddr = ip.parse().unwrap();
        let listed = listed.iter().map(|net| net.parse().unwrap()).collect();
        let wanted = Destination { port: Some(5060), listed, ..target(host) };
        let mut locator = Resolver::new(true);
        let zone = |_: &DnsQuery| Ok((Records::Address(vec![ip]), 60));
        run(&mut locator, now, &wanted, &zone).0
    };
    for ip in denied.filter(|ip| !private(ip)) {
        let Located::Failed(why) = found("sip.carrier.example", ip, &[]) else {
            panic!("{ip} is a hop");
        };
        assert!(why.contains("allow"), "{why}");
    }
    // A PBX in the same network, this machine by the hosts file, and what was written down.
    assert!(matches!(found("pbx.example", "10.1.2.3", &[]), Located::Ready(_)));
    assert!(matches!(found("localhost", "127.0.0.1", &[]), Located::Ready(_)));
    assert!(matches!(found("asterisk", "127.0.0.1", &[]), Located::Ready(_)));
    let listed = found("lab.example", "192.0.2.1", &["192.0.2.0/24"]);
    assert!(matches!(listed, Located::Ready(_)));
}
