//! What is done of lost nodes, without a network.

use super::*;

fn member(n: u64) -> Member {
    Member::named(&format!("n{n}"), n, SocketAddr::from(([127, 0, 1, 1], 5071)))
}

/// Nothing is known but this process and the store.
fn around(own: Process) -> Surroundings<'static> {
    let at = SocketAddr::from(([127, 0, 1, 9], 5071));
    Surroundings { own, at, connection: 3, before: 0, has: &|_| false, awaits: &|_, _| false }
}

/// Has the calls of one be claimed, and told of what came of it.
fn take(nodes: &mut LostNodes, now: Instant, n: u64, names: usize) {
    nodes.lost(now, member(n), now);
    let id = 1_000 + n;
    let lost = nodes.lost.get_mut(&member(n).process()).expect("there is room");
    lost.stage = Stage::Claims { id, until: now };
    let names = (0..names).map(|name| format!("{name:016x}")).collect();
    nodes.claimed(now, "here", id, Ok(Claim::Granted { names }));
}

#[test]
fn what_another_node_says_it_took_is_not_looked_for_while_it_could_be_found() {
    let now = Instant::now();
    let mut nodes = LostNodes::new(now);
    let process = member(1).process();
    nodes.lost(now, member(1), now);
    assert!(nodes.learns_of(now, &process));
    assert!(!nodes.learns_of(now + CALLS, &process), "by then there is nothing to learn");
    nodes.told_taken(now, std::slice::from_ref(&process));
    assert!(!nodes.learns_of(now, &process));
    nodes.lost(now, member(1), now);
    assert!(nodes.lost.is_empty());
    nodes.lost(now + CALLS, member(1), now);
    assert_eq!(nodes.lost.len(), 1);
    // What is this process's already stays so, whoever says something else.
    take(&mut nodes, now, 2, 3);
    nodes.told_taken(now, &[member(2).process()]);
    assert!(nodes.lost.contains_key(&member(2).process()));
}

#[test]
fn a_store_that_may_have_lost_who_took_what_is_told_again_at_once() {
    let now = Instant::now();
    let mut nodes = LostNodes::new(now);
    take(&mut nodes, now, 1, 2);
    // Another claim is under way.
    nodes.lost(now, member(2), now);
    let lost = nodes.lost.get_mut(&member(2).process()).expect("there is room");
    lost.stage = Stage::Claims { id: 7, until: now };
    nodes.store_changed(now);
    nodes.claimed(now, "here", 7, Ok(Claim::Granted { names: vec!["00".into()] }));
    assert_eq!(nodes.taken(), [member(1).process()], "what the store before said is lost, too");
    let around = around(Process { node: "here".into(), epoch: 9 });
    let turn = |nodes: &mut LostNodes, at: Instant, mut next: u64| {
        let mut work = SuccessionWork::default();
        nodes.turn(at, &around, &mut next, &mut work);
        let of = |command| match command {
            StoreCommand::Claim { id, of, again, .. } => (id, of, again),
            other => panic!("{other:?}"),
        };
        work.commands.into_iter().map(of).collect::<Vec<_>>()
    };
    assert_eq!(turn(&mut nodes, now, 20), [(21, member(1).process(), false)]);
    nodes.claimed(now, "here", 21, Err("away".into()));
    assert_eq!(turn(&mut nodes, now, 30), []);
    assert_eq!(nodes.next_timeout(), Some(now + AGAIN));
    nodes.postpone(now + AGAIN);
    assert_eq!(nodes.next_timeout(), Some(now + 2 * AGAIN));
    let later = now + 2 * AGAIN;
    nodes.lost.remove(&member(1).process());
    assert_eq!(turn(&mut nodes, later, 40), [(41, member(1).process(), true)]);
    nodes.claimed(later, "here", 41, Ok(Claim::Granted { names: Vec::new() }));
    assert_eq!(nodes.next_timeout(), Some(now + SETTLED), "then the others, in their turn");
}

#[test]
fn a_connection_that_broke_is_no_sign_that_a_node_is_dead_and_one_that_cannot_be_made_is() {
    let (now, at) = (Instant::now(), member(1).advertise);
    let mut nodes = LostNodes::new(now);
    nodes.lost(now, member(1), now);
    let around = around(Process { node: "here".into(), epoch: 9 });
    let turn = |nodes: &mut LostNodes, mut next: u64| {
        let mut work = SuccessionWork::default();
        nodes.turn(now, &around, &mut next, &mut work);
        (work.probes.len(), work.commands.len())
    };
    for number in [10, 20] {
        assert_eq!(turn(&mut nodes, number), (1, 0));
        nodes.unreachable(now, at);
        assert_eq!(turn(&mut nodes, number + 1), (1, 0), "by another connection");
        nodes.probed(now, number + 2, ProbeAnswer::Lives);
        nodes.lost.values_mut().for_each(|lost| lost.stage = Stage::Waits(now));
    }
    assert_eq!(turn(&mut nodes, 30), (1, 0));
    nodes.unreachable(now, at);
    assert_eq!(turn(&mut nodes, 31), (1, 0));
    nodes.unreachable(now, at);
    assert_eq!(turn(&mut nodes, 32), (0, 1), "it is claimed");
}

#[test]
fn a_node_that_starts_where_it_was_says_whose_calls_its_earlier_process_had_taken() {
    let (now, before, other) = (Instant::now(), member(1), member(2).process());
    let names = vec![name_of_taken(&other), "00000000000000aa".to_owned()];
    for (node, by, says) in [
        ("n1", closed_by("n1"), vec![other.clone()]),
        ("n3", closed_by("n1"), Vec::new()),
        ("n1", Process { node: "n3".into(), epoch: 3 }, Vec::new()),
    ] {
        let mut nodes = LostNodes::new(now);
        nodes.lost(now, before.clone(), now);
        let lost = nodes.lost.get_mut(&before.process()).expect("there is room");
        lost.stage = Stage::Claims { id: 1, until: now };
        let (by, names) = (by.mark(), Some(names.clone()));
        nodes.claimed(now, node, 1, Ok(Claim::Taken { by, names }));
        assert_eq!(nodes.taken(), says, "at {node}");
        assert!(!nodes.learns_of(now, &before.process()));
    }
}

#[test]
fn nodes_that_are_gone_and_what_is_taken_of_them_are_bounded() {
    let now = Instant::now();
    let mut nodes = LostNodes::new(now);
    (0..MAX_LOST as u64 + 9).for_each(|n| nodes.lost(now, member(n), now));
    assert_eq!(nodes.lost.len(), MAX_LOST);
    let mut nodes = LostNodes::new(now);
    take(&mut nodes, now, 99, 0);
    assert_eq!(nodes.taken(), [], "nothing was found, so nothing was taken");
    for n in 0..MAX_TAKEN as u64 + 4 {
        take(&mut nodes, now, n, 1);
    }
    assert_eq!(nodes.taken().len(), MAX_TAKEN);
    assert_eq!(nodes.taken().first(), Some(&member(4).process()), "the oldest are forgotten");
    for n in 0..MAX_KNOWN as u64 + 9 {
        nodes.told_taken(now, &[member(1_000 + n).process()]);
    }
    assert_eq!(nodes.known.len(), MAX_KNOWN);
    take(&mut nodes, now, 50, MAX_NAMES + 1);
    let stage = &nodes.lost[&member(50).process()].stage;
    assert!(matches!(stage, Stage::Pauses { left, .. } if left.len() == MAX_NAMES));
}

#[test]
fn what_another_may_have_taken_is_left_to_it_until_it_has_said_so_or_nobody_could_go_on_with_it() {
    let now = Instant::now();
    let own = Process { node: "here".into(), epoch: 9 };
    let mut nodes = LostNodes::new(now);
    nodes.lost(now, member(1), now);
    let turn = |nodes: &mut LostNodes, at: Instant, awaits: bool| {
        let awaits = |gone: &Member, seen: Instant| awaits && gone.node == "n1" && seen == now;
        let around = Surroundings { awaits: &awaits, ..around(own.clone()) };
        let (mut next, mut work) = (50, SuccessionWork::default());
        nodes.turn(at, &around, &mut next, &mut work);
        work.probes.len() + work.commands.len()
    };
    assert_eq!(turn(&mut nodes, now, true), 0);
    assert_eq!(nodes.next_timeout(), Some(now + AGAIN), "it is looked at again");
    let nearly = now + AWAITED - AGAIN;
    assert_eq!(turn(&mut nodes, nearly, true), 0);
    assert_eq!(turn(&mut nodes, now + AWAITED, true), 1, "then it is nobody else's");
    let mut nodes = LostNodes::new(now);
    nodes.lost(now, member(1), now);
    assert_eq!(turn(&mut nodes, now, true), 0);
    assert_eq!(turn(&mut nodes, now + AGAIN, false), 1, "all have said what they took");
    // What was asked before the store lost something is asked anew, and so is that.
    nodes.store_changed(now + AGAIN);
    assert_eq!(turn(&mut nodes, now + AGAIN + SETTLED, true), 0);
}

#[test]
fn who_was_upgraded_while_it_was_cut_off_lets_go_of_what_another_node_has() {
    let (now, before) = (Instant::now(), member(1));
    let other = Process { node: "n3".into(), epoch: 3 };
    let claim = |nodes: &mut LostNodes| {
        nodes.lost(now, before.clone(), now);
        let lost = nodes.lost.get_mut(&before.process()).expect("there is room");
        lost.stage = Stage::Claims { id: 1, until: now };
        let names = Some(vec!["00000000000000aa".to_owned()]);
        nodes.claimed(now, "n1", 1, Ok(Claim::Taken { by: other.mark(), names }))
    };
    let theirs = Some(("n3".to_owned(), vec!["00000000000000aa".to_owned()]));
    assert_eq!(claim(&mut LostNodes::new(now)), theirs);
    // It may have taken what that node had.
    let mut nodes = LostNodes::new(now);
    nodes.take(vec![other.clone()]);
    assert_eq!(claim(&mut nodes), None);
}

#[test]
fn who_was_granted_calls_that_the_store_lost_before_they_were_read_has_none_of_them() {
    let now = Instant::now();
    let around = around(Process { node: "here".into(), epoch: 9 });
    for (kept, left) in [(Vec::new(), 0), (vec![format!("{:016x}", 1)], 1)] {
        let mut nodes = LostNodes::new(now);
        take(&mut nodes, now, 1, 2);
        nodes.store_changed(now);
        let (mut next, mut work) = (20, SuccessionWork::default());
        nodes.turn(now, &around, &mut next, &mut work);
        assert_eq!((next, work.commands.len()), (21, 1), "it is told again");
        nodes.claimed(now, "here", 21, Ok(Claim::Granted { names: kept }));
        assert_eq!((nodes.lost.len(), nodes.taken().len()), (left, left));
    }
}

#[test]
fn an_earlier_process_of_this_name_is_asked_unless_it_was_where_this_one_is() {
    for (port, is_asked) in [(5071, false), (5072, true)] {
        let now = Instant::now();
        let mut nodes = LostNodes::new(now);
        let at = SocketAddr::from(([127, 0, 1, 9], port));
        nodes.lost(now, Member::named("here", 1, at), now);
        let around = around(Process { node: "here".into(), epoch: 9 });
        let mut work = SuccessionWork::default();
        nodes.turn(now, &around, &mut 1, &mut work);
        let asks = (work.probes.len(), work.commands.len());
        assert_eq!(asks, if is_asked { (1, 0) } else { (0, 1) }, "at port {port}");
    }
}
