//! Whole tables of the core, read some entries a turn: what is read may change meanwhile, and
//! nobody waits for it.

use super::{ApiResult, ApiState};
use crate::call::Call;
use crate::gateway::Gateway;
use crate::ids::CallKey;
use crate::transport::WorkTurn;
use crate::trunk::TrunkState;

/// Entries of a table that are read in one turn at most.
const SLICE: usize = 200;

/// What one turn reads of a table, and the key after which the next continues, unless it is done.
type TableSlice<K, T> = (Vec<T>, Option<K>);

/// Takes one slice of entries, and what `pick` makes of each.
fn slice<E, K, T>(
    mut entries: impl Iterator<Item = E>,
    key: impl Fn(&E) -> K,
    pick: impl Fn(E) -> T,
) -> TableSlice<K, T> {
    let (mut found, mut last) = (Vec::new(), None);
    for entry in entries.by_ref().take(SLICE) {
        last = Some(key(&entry));
        found.push(pick(entry));
    }
    let more = entries.next().is_some();
    (found, last.filter(|_| more))
}

/// All slices of a table; `next` takes the one after a key, or the first.
async fn read<K, T>(
    api: &ApiState,
    next: impl Fn(&Gateway, &WorkTurn<'_>, Option<&K>) -> TableSlice<K, T> + Clone + Send + 'static,
) -> ApiResult<Vec<T>>
where
    K: Send + 'static,
    T: Send + 'static,
{
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let next = next.clone();
        let work = move |gateway: &mut Gateway, turn: &mut WorkTurn<'_>| {
            next(gateway, turn, after.as_ref())
        };
        let (found, last) = api.ask(work).await?;
        all.extend(found);
        if last.is_none() {
            return Ok(all);
        }
        after = last;
    }
}

/// What `pick` makes of every trunk: its name, state and calls.
pub(crate) async fn trunks<T, P>(api: &ApiState, pick: P) -> ApiResult<Vec<T>>
where
    T: Send + 'static,
    P: Fn(&Gateway, &WorkTurn<'_>, (&String, &TrunkState, usize)) -> T + Clone + Send + 'static,
{
    read(api, move |gateway, turn, after: Option<&String>| {
        let trunks = gateway.trunk_states_after(after.map(String::as_str));
        slice(trunks, |trunk| trunk.0.clone(), |trunk| pick(gateway, turn, trunk))
    })
    .await
}

/// What `pick` makes of every registered user.
pub(crate) async fn users<T: Send + 'static>(
    api: &ApiState,
    pick: impl Fn(&Gateway, &WorkTurn<'_>, &str) -> T + Clone + Send + 'static,
) -> ApiResult<Vec<T>> {
    read(api, move |gateway, turn, after: Option<&String>| {
        let users = gateway.registrar().users_after(after.map(String::as_str));
        slice(users, |user| (*user).to_owned(), |user| pick(gateway, turn, user))
    })
    .await
}

/// What `pick` makes of every call that lives, the newest first.
pub(crate) async fn calls<T: Send + 'static>(
    api: &ApiState,
    pick: impl Fn(&Call) -> T + Clone + Send + 'static,
) -> ApiResult<Vec<T>> {
    read(api, move |gateway, _, before: Option<&CallKey>| {
        let calls = gateway.live_before(before.copied());
        slice(calls, |call| (call.cdr().start, call.id()), &pick)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::ops::Bound;

    #[test]
    fn slices_hold_each_entry_once_and_none_is_longer_than_a_turn_takes() {
        for n in [0, 1, SLICE - 1, SLICE, SLICE + 1, 5 * SLICE] {
            let table: BTreeSet<usize> = (0..n).collect();
            let (mut all, mut after, mut turns) = (Vec::new(), None, 0);
            loop {
                let from = after.map_or(Bound::Unbounded, Bound::Excluded);
                let entries = table.range((from, Bound::Unbounded));
                let (found, last) = slice(entries, |n| **n, |n| *n);
                assert!(found.len() <= SLICE);
                all.extend(found);
                turns += 1;
                after = last;
                if after.is_none() {
                    break;
                }
            }
            assert_eq!(all, table.into_iter().collect::<Vec<_>>());
            assert_eq!(turns, n.div_ceil(SLICE).max(1));
        }
    }
}
