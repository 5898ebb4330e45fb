//! Several nodes claim one node's calls at once, while that one writes: one of them has them.

use crate::{claim, client, keep, process, renew};
use anyhow::{bail, ensure};
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use webtrunk::cluster::store::{Claim, Keeping, Process, StoreAnswer, StoreCommand};
use webtrunk::store::StoreClient;

const ROUNDS: u64 = 100;
const TAKERS: usize = 8;

/// A taker's claim, begun with all others.
async fn one(
    mut store: StoreClient,
    of: Process,
    by: Process,
    start: Arc<Barrier>,
) -> anyhow::Result<(Process, Claim, StoreClient)> {
    start.wait().await;
    let claim = claim(&mut store, &of, &by, 1).await?;
    Ok((by, claim, store))
}

/// What the owner writes meanwhile: how much of it was kept.
async fn write_on(
    mut store: StoreClient,
    own: Process,
    start: Arc<Barrier>,
) -> anyhow::Result<(BTreeSet<String>, StoreClient)> {
    start.wait().await;
    let mut kept = BTreeSet::new();
    for n in 0..20 {
        let name = format!("{n:016x}");
        match keep(&mut store, &own, &[&name]).await? {
            Keeping::Kept => drop(kept.insert(name)),
            Keeping::Deposed => break,
        }
    }
    Ok((kept, store))
}

async fn round(
    n: u64,
    owner: StoreClient,
    takers: Vec<StoreClient>,
) -> anyhow::Result<(StoreClient, Vec<StoreClient>)> {
    let of = process("lost", 1_000 + n);
    let start = Arc::new(Barrier::new(TAKERS + 1));
    let mut claims = JoinSet::new();
    for (at, store) in takers.into_iter().enumerate() {
        let by = process(&format!("t{at}"), 50 + at as u64);
        claims.spawn(one(store, of.clone(), by, start.clone()));
    }
    let (kept, mut owner) = write_on(owner, of.clone(), start).await?;
    let (mut granted, mut others, mut stores) = (Vec::new(), Vec::new(), Vec::new());
    while let Some(done) = claims.join_next().await {
        let (by, claim, store) = done??;
        stores.push(store);
        match claim {
            Claim::Granted { names } => granted.push((by, names.into_iter().collect())),
            Claim::Taken { by, names } => {
                others.push((by, names.into_iter().flatten().collect()));
            }
            Claim::Lives => bail!("it has no lease"),
        }
    }
    let [(by, names)] = &granted[..] else { bail!("{} takers have its calls", granted.len()) };
    ensure!(names == &kept, "{by:?} has {names:?}, and {kept:?} was confirmed");
    let same = |(taker, seen): &(String, BTreeSet<String>)| *taker == by.mark() && seen == names;
    ensure!(others.len() == TAKERS - 1 && others.iter().all(same), "{others:?}");
    ensure!(renew(&mut owner, &of).await?, "the owner learns that it was deposed");
    ensure!(keep(&mut owner, &of, &["late"]).await? == Keeping::Deposed, "and writes nothing more");
    let names: Vec<String> = names.iter().cloned().collect();
    let connection = stores[0].number();
    let take = StoreCommand::Take { id: 1, of: of.clone(), connection, names: names.clone() };
    let StoreAnswer::Taken { answer: Ok(values), .. } = stores[0].carry_out(take).await else {
        bail!("nothing can be read");
    };
    ensure!(values.len() == names.len(), "what was confirmed can be read");
    // The answer was lost, and it asks again; nobody who asks later gets them.
    let again = claim(&mut stores[0], &of, by, 1).await?;
    ensure!(matches!(again, Claim::Granted { .. }), "{again:?}");
    let own = claim(&mut owner, &of, &of, 1).await?;
    ensure!(matches!(own, Claim::Taken { .. }), "not even the owner: {own:?}");
    Ok((owner, stores))
}

pub(crate) async fn run(url: &str) -> anyhow::Result<()> {
    let mut owner = client(url, 1).await?;
    owner.forget_all().await?;
    let mut takers = Vec::new();
    for _ in 0..TAKERS {
        takers.push(client(url, 1).await?);
    }
    for n in 0..ROUNDS {
        (owner, takers) = round(n, owner, takers).await?;
    }
    println!(
        "ok      {TAKERS} takers at once, {ROUNDS} times, while the owner writes: one has the calls, \
         the others are told who, and the owner is deposed"
    );
    Ok(())
}
