//! What a node of a cluster makes of what the store says.

use super::*;
use crate::config::StoreSettings;
use crate::registrar::RegisterContext;
use crate::sip::Message;
use crate::sip::digest::Secret;
use crate::sip::parse::Framing;
use crate::sip::transaction::Flow;
use lease::LeaseEvent;
use store::{BeatAnswer, PointerWrite};

const UNIX: u64 = 1_700_000_000;

fn settings(node: &str, key: &str) -> ClusterSettings {
    let store = StoreSettings {
        urls: vec!["redis://127.0.0.1".into()],
        sentinel: None,
        sentinel_username: None,
        sentinel_password: None,
        username: None,
        password: None,
        ca: None,
    };
    let port = u16::from(node.as_bytes()[0]);
    ClusterSettings {
        node: node.into(),
        store,
        key: Secret::new(key),
        listen: SocketAddr::from(([127, 0, 0, 1], port)),
        advertise: SocketAddr::from(([127, 0, 0, 1], port)),
        address: None,
    }
}

const KEY: &str = "the key of the cluster, long enough";

fn register(registrar: &mut Registrar, now: Instant, user: &str, contact: &str) {
    let text = format!(
        "REGISTER sip:x SIP/2.0\r\nTo: <sip:{user}@x>\r\nCall-ID: {user}\r\nCSeq: 1 REGISTER\r\n\
         Contact: <sip:{contact}@a.invalid>;+sip.instance=\"<urn:uuid:{user}>\"\r\n\r\n"
    );
    let message = Message::parse(text.into_bytes(), Framing::WebSocket).expect("sound");
    let by = RegisterContext { flow: Flow(1), chance: 0, longest: None, token: user.into() };
    registrar.register(now, user, &message, &by).expect("it may");
}

/// A node that has its lease, and the value of that.
fn joined(now: Instant, node: &str, epoch: u64, registrar: &Registrar) -> (Cluster, String) {
    let mut cluster = Cluster::new(now, &settings(node, KEY), epoch);
    let value = beat(&mut cluster, now, registrar, None, Vec::new());
    (cluster, value)
}

/// A renewal that the store confirms: what it wrote.
fn beat(
    cluster: &mut Cluster,
    now: Instant,
    registrar: &Registrar,
    held: Option<String>,
    leases: Vec<(String, String)>,
) -> String {
    let at = Moment { now, unix: UNIX };
    let work = cluster.turn(at, Census::default, registrar, &|_| false);
    let beat = work.commands.into_iter().find_map(|command| match command {
        StoreCommand::Beat { id, value, .. } => Some((id, value)),
        _ => None,
    });
    let (id, value) = beat.expect("it is due");
    let answer = BeatAnswer {
        held,
        leases,
        millis: UNIX * 1_000,
        connection: 1,
        deposed: false,
        grants: Vec::new(),
    };
    cluster.answered(at, StoreAnswer::Beat { id, answer: Ok(answer) });
    value
}

fn writes(
    cluster: &mut Cluster,
    now: Instant,
    registrar: &Registrar,
) -> Vec<(u64, Vec<PointerWrite>)> {
    let at = Moment { now, unix: UNIX };
    let work = cluster.turn(at, Census::default, registrar, &|_| false);
    let writes = work.commands.into_iter().filter_map(|command| match command {
        StoreCommand::Write { id, writes } => Some((id, writes)),
        _ => None,
    });
    writes.collect()
}

#[test]
fn beyond_the_bound_of_waiting_users_everything_is_written_again() {
    let (now, mut registrar) = (Instant::now(), Registrar::default());
    (0..300).for_each(|n| register(&mut registrar, now, &format!("u{n:03}"), "c"));
    let (mut cluster, _) = joined(now, "a", 1, &registrar);
    for n in 0..20_000 {
        cluster.touch(&format!("nobody{n}"));
    }
    assert!(cluster.waiting() <= 10_000, "{}", cluster.waiting());
    let (mut written, mut open) = (std::collections::BTreeSet::new(), Vec::new());
    loop {
        open.extend(writes(&mut cluster, now, &registrar));
        assert!(open.len() <= 4, "the window");
        let Some((id, writes)) = open.pop() else { break };
        assert!(writes.len() <= 32);
        written.extend(writes.into_iter().filter(|w| w.value.is_some()).map(|w| w.user));
        let at = Moment { now, unix: UNIX };
        cluster.answered(at, StoreAnswer::Written { id, answer: Ok(()) });
    }
    assert_eq!((written.len(), cluster.waiting()), (300, 0));
}

#[test]
fn a_write_that_fails_or_is_never_answered_is_written_again_and_no_answer_counts_twice() {
    let (now, mut registrar) = (Instant::now(), Registrar::default());
    let (mut cluster, _) = joined(now, "a", 1, &registrar);
    register(&mut registrar, now, "ada", "c");
    cluster.touch("ada");
    let at = Moment { now, unix: UNIX };
    let (first, _) = writes(&mut cluster, now, &registrar).remove(0);
    cluster.touch("ada");
    assert!(writes(&mut cluster, now, &registrar).is_empty(), "one write of a user at a time");
    cluster.answered(at, StoreAnswer::Written { id: first, answer: Err("gone".into()) });
    assert!(writes(&mut cluster, now, &registrar).is_empty(), "the next would fail at once");
    let now = now + Duration::from_millis(100);
    let (second, _) = writes(&mut cluster, now, &registrar).remove(0);
    cluster.answered(at, StoreAnswer::Written { id: first, answer: Ok(()) });
    assert_eq!(cluster.waiting(), 1, "an old answer is none");
    let later = now + Duration::from_millis(800);
    assert!(writes(&mut cluster, later, &registrar).is_empty());
    cluster.answered(at, StoreAnswer::Written { id: second, answer: Ok(()) });
    assert_eq!(cluster.waiting(), 0);
}

#[test]
fn what_a_node_tells_of_busy_users_is_bounded() {
    let (now, registrar) = (Instant::now(), Registrar::default());
    let busy: Vec<(u64, u32)> =
        (0..400).map(|n| (token::short(Some(&format!("u{n}"))), 2)).collect();
    let newer = include_str!("../../tests/fuzz/seeds/store/newer");
    let busy = serde_json::to_string(&busy).expect("JSON");
    let text = newer.replacen('{', &format!("{{\"busy\":{busy},"), 1);
    let lease = format!("{:016x}{}", 7, ClusterKeys::new(KEY).seal("node b", &text));
    assert!(lease.len() < store::MAX_VALUE, "all of it is read");
    let (mut here, mine) = joined(now, "a", 1, &registrar);
    let second = Duration::from_secs(1);
    beat(&mut here, now + second, &registrar, Some(mine), vec![("b".into(), lease)]);
    let calls = |n: usize| here.calls_elsewhere(now + second, &format!("u{n}"));
    assert_eq!(
        (calls(0), calls(other_nodes::MAX_BUSY - 1), calls(other_nodes::MAX_BUSY)),
        (2, 2, 0)
    );
}

#[test]
fn what_a_newer_version_wrote_is_read_as_far_as_it_is_known_and_left_where_it_is_not() {
    let newer = include_str!("../../tests/fuzz/seeds/store/newer");
    let keys = ClusterKeys::new(KEY);
    let (now, mut registrar) = (Instant::now(), Registrar::default());
    let lease = |text: &str| format!("{:016x}{}", 7, keys.seal("node b", text));
    let (mut here, mine) = joined(now, "a", 1, &registrar);
    let second = Duration::from_secs(1);
    let known = vec![("b".to_owned(), lease(newer))];
    let mine = beat(&mut here, now + second, &registrar, Some(mine), known);
    let other = here.members().find(|m| m.node == "b").expect("its lease is read");
    assert_eq!(other.version, "9.0.0");
    // Of a version after that nothing is understood: it is no node for this one, and no stranger.
    let at = Moment { now: now + 2 * second, unix: UNIX };
    let work = here.turn(at, Census::default, &registrar, &|_| false);
    let id = work.commands.iter().find_map(|c| match c {
        StoreCommand::Beat { id, .. } => Some(*id),
        _ => None,
    });
    let answer = BeatAnswer {
        held: Some(mine),
        leases: vec![("b".to_owned(), lease("{\"format\":2}"))],
        millis: UNIX * 1_000,
        connection: 1,
        deposed: false,
        grants: Vec::new(),
    };
    let id = id.expect("it is due");
    let told = here.answered(at, StoreAnswer::Beat { id, answer: Ok(answer) });
    assert_eq!(told.events, [LeaseEvent::NodeDown { node: "b".into() }]);
    // What a user has there is left as it is: a node writes its own field and no other.
    register(&mut registrar, now, "ada", "c");
    here.touch("ada");
    let record = keys.seal("user b ada", "{\"format\":2}");
    let found = vec![("b".to_owned(), record)];
    assert!(here.ways(Moment { now, unix: UNIX }, "ada", &found).is_empty());
    let written = writes(&mut here, now + 2 * second, &registrar);
    let fields = written.iter().flat_map(|(_, writes)| writes);
    assert!(fields.into_iter().all(|w| w.node == "a"));
}

#[test]
fn a_store_that_renews_leases_and_takes_no_writes_is_told_of_once_and_when_it_does_again() {
    let (now, mut registrar) = (Instant::now(), Registrar::default());
    register(&mut registrar, now, "ada", "c");
    let (mut here, mut mine) = joined(now, "a", 1, &registrar);
    let ms = |n: u64| now + Duration::from_millis(n);
    let mut answer = |here: &mut Cluster, at: u64, why: Option<&str>| -> Vec<LeaseEvent> {
        if at.is_multiple_of(1_000) {
            mine = beat(here, ms(at), &registrar, Some(mine.clone()), Vec::new());
        }
        here.touch("ada");
        let due = writes(here, ms(at), &registrar);
        let answered = |(id, _)| {
            let answer = why.map_or(Ok(()), |why| Err(why.to_owned()));
            let moment = Moment { now: ms(at), unix: UNIX };
            here.answered(moment, StoreAnswer::Written { id, answer }).events
        };
        due.into_iter().flat_map(answered).collect()
    };
    let full = Some("OOM command not allowed");
    // A moment of it is nothing.
    assert_eq!(answer(&mut here, 100, full), []);
    assert_eq!(answer(&mut here, 300, None), []);
    let told: Vec<_> = (4..40).flat_map(|n| answer(&mut here, n * 250, full)).collect();
    let why = "it refuses what this node writes: OOM command not allowed".to_owned();
    assert_eq!(told, [LeaseEvent::StoreAway { why }]);
    let back = answer(&mut here, 10_250, None);
    assert_eq!(back, [LeaseEvent::StoreBack { away: Duration::from_millis(9_250) }]);
    assert_eq!(answer(&mut here, 10_500, None), []);
}

#[test]
fn nodes_that_renew_their_leases_once_the_store_is_back_were_never_gone() {
    let (now, registrar) = (Instant::now(), Registrar::default());
    let (mut here, mut mine) = joined(now, "a", 1, &registrar);
    let keys = ClusterKeys::new(KEY);
    let renewed = |node: &str, beat: u64| {
        let mut there = Cluster::new(now, &settings(node, KEY), 7);
        let work = there.turn(Moment { now, unix: UNIX }, Census::default, &registrar, &|_| false);
        let Some(StoreCommand::Beat { value, .. }) = work.commands.into_iter().next() else {
            unreachable!("a node begins with its lease")
        };
        let text = keys.open(&format!("node {node}"), &value[16..]).expect("its own").to_owned();
        let text = text.replace("\"beat\":1", &format!("\"beat\":{beat}"));
        let sealed = keys.seal(&format!("node {node}"), &text);
        (node.to_owned(), format!("{:016x}{sealed}", 7))
    };
    let mut told = |at: u64, leases: Vec<(String, String)>| -> Vec<LeaseEvent> {
        let moment = Moment { now: now + Duration::from_secs(at), unix: UNIX };
        let work = here.turn(moment, Census::default, &registrar, &|_| false);
        let due = work.commands.into_iter().find_map(|command| match command {
            StoreCommand::Beat { id, value, .. } => Some((id, value)),
            _ => None,
        });
        let (id, value) = due.expect("it is due");
        let held = Some(std::mem::replace(&mut mine, value));
        let (connection, deposed, grants) = (1, false, Vec::new());
        let millis = UNIX * 1_000;
        let answer = BeatAnswer { held, leases, millis, connection, deposed, grants };
        here.answered(moment, StoreAnswer::Beat { id, answer: Ok(answer) }).events
    };
    let up = |node: &str| LeaseEvent::NodeUp { node: node.into() };
    let down = |node: &str| LeaseEvent::NodeDown { node: node.into() };
    assert_eq!(told(1, vec![renewed("b", 1), renewed("c", 1)]), [up("b"), up("c")]);
    assert_eq!(told(2, vec![renewed("b", 2), renewed("c", 2)]), []);
    // Nothing is heard of the store for ten seconds. Then b is late by one renewal, and c is gone.
    assert_eq!(told(12, Vec::new()), []);
    assert_eq!(told(13, vec![renewed("b", 3)]), []);
    assert_eq!(told(14, vec![renewed("b", 4)]), []);
    assert_eq!(told(15, vec![renewed("b", 5)]), [down("c")]);
    assert_eq!(told(16, vec![renewed("b", 6), renewed("c", 3)]), [up("c")]);
    // While the store answers, who does not renew is gone.
    assert_eq!(told(17, vec![renewed("c", 4)]), [down("b")]);
}

#[test]
fn what_a_node_was_before_it_lost_its_calls_is_bounded() {
    let (mut now, registrar) = (Instant::now(), Registrar::default());
    let (mut here, mine) = joined(now, "a", 1, &registrar);
    for _ in 0..ownership::MAX_FORMER + 3 {
        now += Duration::from_secs(1);
        let at = Moment { now, unix: UNIX };
        let work = here.turn(at, Census::default, &registrar, &|_| false);
        let beat = work.commands.into_iter().find_map(|command| match command {
            StoreCommand::Beat { id, .. } => Some(id),
            _ => None,
        });
        let id = beat.expect("it is due");
        let answer = BeatAnswer {
            // One that was deposed renews nothing.
            held: Some(mine.clone()),
            leases: Vec::new(),
            millis: UNIX * 1_000,
            connection: 1,
            deposed: true,
            grants: Vec::new(),
        };
        here.answered(at, StoreAnswer::Beat { id, answer: Ok(answer) });
        let work = here.turn(at, Census::default, &registrar, &|_| false);
        let claim = work.commands.iter().find_map(|command| match command {
            StoreCommand::Claim { id, .. } => Some(*id),
            _ => None,
        });
        let id = claim.expect("it asks who has its calls");
        let taken = Claim::Taken { by: format!("{:016x}b", 7), names: Some(Vec::new()) };
        let work = here.answered(at, StoreAnswer::Claimed { id, answer: Ok(taken) });
        assert_eq!(work.deposed, Some(("b".to_owned(), Vec::new())));
    }
    assert_eq!(here.ownership.former.len(), ownership::MAX_FORMER);
}

/// A node that has told the store of a call, and what it asks once it was answered by `says`.
fn asks_whose_its_calls_are(says: impl FnOnce(&mut BeatAnswer)) -> (Cluster, Instant, u64) {
    let (now, registrar) = (Instant::now(), Registrar::default());
    let (mut here, mine) = joined(now, "a", 1, &registrar);
    here.keep(now, CALL, Some([1].into()), Duration::ZERO);
    let turn = |here: &mut Cluster, now| {
        here.turn(Moment { now, unix: UNIX }, Census::default, &registrar, &|_| false).commands
    };
    let kept = turn(&mut here, now).into_iter().find_map(|command| match command {
        StoreCommand::Keep { id, .. } => Some(id),
        _ => None,
    });
    let kept = StoreAnswer::Kept { id: kept.expect("it is told"), answer: Ok(Keeping::Kept) };
    here.answered(Moment { now, unix: UNIX }, kept);
    let now = now + Duration::from_secs(1);
    let beat = turn(&mut here, now).into_iter().find_map(|command| match command {
        StoreCommand::Beat { id, .. } => Some(id),
        _ => None,
    });
    let mut answer = BeatAnswer {
        held: Some(mine),
        leases: Vec::new(),
        millis: UNIX * 1_000,
        connection: 1,
        deposed: false,
        grants: Vec::new(),
    };
    says(&mut answer);
    let answer = StoreAnswer::Beat { id: beat.expect("it is due"), answer: Ok(answer) };
    here.answered(Moment { now, unix: UNIX }, answer);
    assert!(here.is_unsure(now), "it does not know");
    let claim = turn(&mut here, now).into_iter().find_map(|command| match command {
        StoreCommand::Claim { id, of, by, .. } if of == by => Some(id),
        _ => None,
    });
    (here, now, claim.expect("it asks"))
}

const CALL: &str = "00000000000000aa";

#[test]
fn calls_that_a_process_of_this_name_closed_at_its_start_are_still_this_one_s() {
    let (mut here, now, id) = asks_whose_its_calls_are(|answer| answer.deposed = true);
    let (by, names) = (succession::closed_by("a").mark(), Some(vec![CALL.to_owned()]));
    let answer = StoreAnswer::Claimed { id, answer: Ok(Claim::Taken { by, names }) };
    let work = here.answered(Moment { now, unix: UNIX }, answer);
    assert_eq!((work.events, work.deposed), (vec![], None), "nobody has them");
    assert!(!here.is_unsure(now));
    let at = Moment { now, unix: UNIX };
    let work = here.turn(at, Census::default, &Registrar::default(), &|_| false);
    let keeps = |command: &StoreCommand| match command {
        StoreCommand::Keep { owner, writes, .. } => owner.epoch == 2 && writes[0].name == CALL,
        _ => false,
    };
    assert!(work.commands.iter().any(keeps), "it is told to the store as the next process's");
}

#[test]
fn a_process_whose_name_another_has_asks_which_of_its_calls_it_still_has() {
    let rival = {
        let (now, registrar) = (Instant::now(), Registrar::default());
        joined(now, "a", 7, &registrar).1
    };
    let ask = || asks_whose_its_calls_are(|answer| answer.held = Some(rival.clone()));
    let (mut here, now, id) = ask();
    let names = Some(vec![CALL.to_owned()]);
    let taken = Claim::Taken { by: format!("{:016x}b", 9), names };
    let answer = StoreAnswer::Claimed { id, answer: Ok(taken) };
    let work = here.answered(Moment { now, unix: UNIX }, answer);
    assert_eq!(work.deposed, Some(("b".to_owned(), vec![CALL.to_owned()])));
    assert!(!here.is_unsure(now) && here.waiting() == 0);
    // Or nobody took any, and nobody can any more.
    let (mut here, now, id) = ask();
    assert!(here.stores(now, 0xaa));
    let answer = StoreAnswer::Claimed { id, answer: Ok(Claim::Granted { names: Vec::new() }) };
    let work = here.answered(Moment { now, unix: UNIX }, answer);
    assert_eq!((work.events, work.deposed), (vec![], None));
    assert!(!here.is_unsure(now) && !here.stores(now, 0xaa), "its record need not wait");
    assert_eq!((here.epoch(), here.standing(now)), (2, "joining"));
}

#[test]
fn what_is_read_of_the_store_is_bounded_and_signed() {
    let (now, mut registrar) = (Instant::now(), Registrar::default());
    register(&mut registrar, now, "ada", "short");
    let (mut there, lease) = joined(now, "b", 7, &registrar);
    let written = writes(&mut there, now, &registrar).remove(0).1;
    let value = |user: &str| {
        let write = written.iter().find(|w| w.user == user);
        write.and_then(|w| w.value.clone())
    };
    let own = Registrar::default();
    let (mut here, mine) = joined(now, "a", 1, &own);
    let (other, strange) = {
        let mut other = Cluster::new(now, &settings("c", "another key of another cluster"), 3);
        let value = beat(&mut other, now, &own, None, Vec::new());
        (other, value)
    };
    drop(other);
    let mut leases = vec![
        ("b".to_owned(), lease.clone()),
        ("d".to_owned(), lease.clone()),
        ("c".to_owned(), strange),
        ("e".to_owned(), "garbage".to_owned()),
        ("f".to_owned(), format!("{lease}{}", " ".repeat(20_000))),
    ];
    leases.extend((0..200).map(|n| (format!("x{n}"), "garbage".to_owned())));
    beat(&mut here, now + Duration::from_secs(1), &own, Some(mine), leases);
    let nodes: Vec<&str> = here.members().map(|m| m.node.as_str()).collect();
    assert_eq!(nodes, ["a", "b"], "a lease counts as its own node's, whole and signed");
    let at = Moment { now, unix: UNIX };
    let found = |node: &str, value: String| vec![(node.to_owned(), value)];
    let ada = value("ada").expect("she is there");
    assert_eq!(here.ways(at, "ada", &found("b", ada.clone())).len(), 1);
    assert!(here.ways(at, "eve", &found("b", ada.clone())).is_empty(), "of another user");
    assert!(here.ways(at, "ada", &found("c", ada.clone())).is_empty(), "of another node");
    assert!(here.ways(at, "ada", &found("b", ada[1..].to_owned())).is_empty());
    let long = format!("{ada}{}", " ".repeat(20_000));
    assert!(here.ways(at, "ada", &found("b", long)).is_empty());
    let much: FoundPointers = (0..100).map(|_| ("b".to_owned(), ada.clone())).collect();
    assert_eq!(here.ways(at, "ada", &much).len(), 64);
    let over = Moment { now, unix: UNIX + 3_601 };
    assert!(here.ways(over, "ada", &found("b", ada)).is_empty(), "it has run out");
}
