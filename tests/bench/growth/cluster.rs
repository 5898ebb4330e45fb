//! Three nodes and a store: what a registration costs on its node and there.

use super::core::{World, user_text};
use super::{Figure, Growth, timed};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use webtrunk::cluster::store::{BeatAnswer, StoreAnswer, StoreCommand, grant};
use webtrunk::gateway::Input;

/// What Redis would hold, and how often it was asked.
#[derive(Default)]
pub(super) struct StoreMap {
    leases: HashMap<String, String>,
    users: HashMap<String, HashMap<String, String>>,
    operations: usize,
    millis: u64,
}

impl StoreMap {
    pub(super) fn carry_out(&mut self, command: StoreCommand) -> StoreAnswer {
        match command {
            StoreCommand::Beat { id, node, value, wishes, .. } => {
                let held = self.leases.insert(node, value);
                let leases: Vec<_> =
                    self.leases.iter().map(|(n, v)| (n.clone(), v.clone())).collect();
                let nodes = leases.len() as u64;
                let grants = wishes.iter().map(|wish| grant(wish, 0, 0, nodes)).collect();
                let (millis, connection) = (self.millis, 1);
                let deposed = false;
                let answer = BeatAnswer { held, leases, millis, connection, deposed, grants };
                StoreAnswer::Beat { id, answer: Ok(answer) }
            }
            StoreCommand::Write { id, writes } => {
                for write in writes {
                    let fields = self.users.entry(write.user).or_default();
                    match write.value {
                        // HSET, PEXPIRE.
                        Some(value) => {
                            self.operations += 2;
                            fields.insert(write.node, value);
                        }
                        None => {
                            self.operations += 1;
                            fields.remove(&write.node);
                        }
                    }
                }
                StoreAnswer::Written { id, answer: Ok(()) }
            }
            // Call ownership is not part of the cost of registrations.
            other => other.refused("there is no such thing here"),
        }
    }

    /// Bytes of all keys, fields and values of users.
    fn bytes(&self) -> usize {
        let key = |user: &String| "webtrunk:x:user:".len() + user.len();
        let all = self.users.iter().flat_map(|(user, fields)| {
            fields.iter().map(move |(node, value)| key(user) + node.len() + value.len())
        });
        all.sum()
    }
}

fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages: u64 = text.split(' ').nth(1).and_then(|n| n.parse().ok()).expect("a number");
    pages * 4_096
}

fn settings(node: usize) -> String {
    format!(
        "[cluster]\nnode = \"n{node}\"\nstore = \"redis://127.0.0.1\"\n\
         key = \"the key of the cluster, long enough\"\nadvertise = \"127.0.1.{node}:5071\"\n"
    )
}

/// `n` users register, a third of them at each of three nodes, and again.
pub(super) fn registrations(n: usize) -> Vec<Figure> {
    let store = Rc::new(RefCell::new(StoreMap::default()));
    let users = user_text(n);
    let mut worlds: Vec<World> = (0..3)
        .map(|node| World::with_store(&format!("{users}{}", settings(node)), store.clone()))
        .collect();
    worlds.iter_mut().for_each(|world| world.handle(Input::Tick));
    let before = resident();
    let each = |worlds: &mut Vec<World>| {
        for user in 0..n {
            let world = &mut worlds[user % 3];
            world.now += std::time::Duration::from_millis(5);
            world.log_in(user);
        }
    };
    let (time, ()) = timed(|| each(&mut worlds));
    let at_node = resident().saturating_sub(before) as usize - store.borrow().bytes();
    let (written, first) = (store.borrow().bytes(), store.borrow().operations);
    assert_eq!(store.borrow().users.len(), n);
    for user in 0..n {
        let world = &mut worlds[user % 3];
        world.now += std::time::Duration::from_millis(5);
        world.refresh(user);
    }
    let again = store.borrow().operations - first;
    let one = |what, value: f64, unit| Figure { what, growth: Growth::None, value, unit };
    let share = |value: usize| value as f64 / n as f64;
    vec![
        Figure::one("a REGISTER, its challenge and its write", time / n as u32),
        one("resident memory of a registration", share(at_node), "bytes"),
        one("keys and values of a registration in the store", share(written), "bytes"),
        one("operations of a first REGISTER", share(first), "operations"),
        one("operations of a refreshing REGISTER", share(again), "operations"),
    ]
}
