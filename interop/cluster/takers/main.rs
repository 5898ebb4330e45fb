//! What nodes ask of the store, asked of a real Redis: at random and compared with the model that
//! the simulated cluster has, and several at once, which no model can. `interop/cluster/store.py`
//! starts it: `takers all URL`, or `takers lost URL URL`, where the second is the replica of the
//! first.

mod at_once;
mod beside;
mod lost;
#[allow(dead_code, reason = "the simulation uses all of it")]
#[path = "../../../tests/cluster/store.rs"]
mod model;

use anyhow::{Context, bail};
use std::sync::Arc;
use webtrunk::cluster::store::{
    CallValue, CallWrite, Claim, Keeping, Process, StoreAnswer, StoreCommand,
};
use webtrunk::config::Config;
use webtrunk::config::check::parse_embedded;
use webtrunk::store::StoreClient;

const KEY: &str = "a key of the whole cluster, for a test only";

/// The configuration of a node whose store is at `url`.
pub(crate) fn config(node: &str, url: &str, key: &str) -> anyhow::Result<Arc<Config>> {
    let text = format!(
        "[server]\ndomain = \"wt.test\"\npublic_ip = \"127.0.0.1\"\n[cluster]\nnode = \"{node}\"\n\
         store = \"{url}\"\nkey = \"{key}\"\nadvertise = \"127.0.0.1:5071\"\n"
    );
    let (config, _) = parse_embedded(&text, &[]).map_err(|e| anyhow::anyhow!("{e}"))?;
    Ok(Arc::new(config))
}

/// A connection of a node.
pub(crate) async fn client(url: &str, number: u64) -> anyhow::Result<StoreClient> {
    StoreClient::connect(&config("a", url, KEY)?, number).await
}

pub(crate) fn process(node: &str, epoch: u64) -> Process {
    Process { node: node.to_owned(), epoch }
}

pub(crate) fn value(n: u8) -> Option<CallValue> {
    Some(CallValue { taken: u64::from(n), bytes: Arc::from([n; 3]) })
}

/// Renews the lease of a process. Returns whether it was deposed.
pub(crate) async fn renew(store: &mut StoreClient, own: &Process) -> anyhow::Result<bool> {
    let beat = StoreCommand::Beat {
        id: 1,
        node: own.node.clone(),
        epoch: own.epoch,
        instead: None,
        value: format!("{:016x} lease", own.epoch),
        unrenewed: Vec::new(),
        wishes: Vec::new(),
    };
    match store.carry_out(beat).await {
        StoreAnswer::Beat { answer: Ok(answer), .. } => Ok(answer.deposed),
        other => bail!("{other:?}"),
    }
}

/// Writes a value of each name.
pub(crate) async fn keep(
    store: &mut StoreClient,
    own: &Process,
    names: &[&str],
) -> anyhow::Result<Keeping> {
    let write = |name: &&str| CallWrite { name: (*name).to_owned(), value: value(1) };
    let writes = names.iter().map(write).collect();
    let (owner, connection) = (own.clone(), store.number());
    let keep = StoreCommand::Keep { id: 1, owner, connection, anew: false, writes };
    match store.carry_out(keep).await {
        StoreAnswer::Kept { answer: Ok(kept), .. } => Ok(kept),
        other => bail!("{other:?}"),
    }
}

/// Claims the calls of a process by a connection of that number.
///
/// # Errors
/// Also where the store refuses it.
pub(crate) async fn claim(
    store: &mut StoreClient,
    of: &Process,
    by: &Process,
    connection: u64,
) -> anyhow::Result<Claim> {
    let claim =
        StoreCommand::Claim { id: 1, of: of.clone(), by: by.clone(), connection, again: false };
    match store.carry_out(claim).await {
        StoreAnswer::Claimed { answer, .. } => answer.map_err(|why| anyhow::anyhow!(why)),
        other => bail!("{other:?}"),
    }
}

/// Tells the store again that the calls of a process were claimed.
pub(crate) async fn again(
    store: &mut StoreClient,
    of: &Process,
    by: &Process,
) -> anyhow::Result<()> {
    let (of, by, connection) = (of.clone(), by.clone(), store.number());
    let claim = StoreCommand::Claim { id: 1, of, by, connection, again: true };
    match store.carry_out(claim).await {
        StoreAnswer::Claimed { answer: Ok(Claim::Granted { .. }), .. } => Ok(()),
        other => bail!("{other:?}"),
    }
}

fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match words[..] {
            ["all", url] => {
                beside::run(url).await.context("beside the model")?;
                at_once::run(url).await.context("several at once")
            }
            ["lost", primary, replica] => lost::run(primary, replica).await,
            _ => bail!("takers all URL, or takers lost PRIMARY REPLICA"),
        }
    })
}
