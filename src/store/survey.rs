//! What `webtrunk doctor` asks of a cluster: whether the store answers, and what stands in it.

use super::faults::said;
use super::{Dialler, StoreKeys, text};
use crate::cluster::keys::ClusterKeys;
use crate::cluster::member::{LeaseFault, Member, read};
use crate::config::ClusterSettings;
use crate::transport::nodes::NodeTls;
use redis::Pipeline;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::timeout;

/// How long another node has to answer.
const CONNECT: Duration = Duration::from_secs(2);

/// How long the value of a trial lasts at most, milliseconds.
const LASTS: u64 = 1_000;

/// What the scripts of a node do, each once.
const TRIAL: &str = r"
redis.call('DEL', KEYS[1])
redis.call('SADD', KEYS[1], 'a')
redis.call('SMEMBERS', KEYS[1])
redis.call('SREM', KEYS[1], 'a')
redis.call('HSET', KEYS[1], 'a', 1)
redis.call('HGETALL', KEYS[1])
redis.call('HKEYS', KEYS[1])
redis.call('RENAME', KEYS[1], KEYS[1])
redis.call('HDEL', KEYS[1], 'a')
redis.call('SET', KEYS[1], 1, 'PX', ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[1])
redis.call('PTTL', KEYS[1])
redis.call('TYPE', KEYS[1])
redis.call('GET', KEYS[1])
redis.call('DEL', KEYS[1])
return 1
";

/// The cluster as it is found.
#[derive(Debug)]
pub struct Survey {
    /// How far this machine's clock is from the store's, seconds.
    pub skew: u64,
    /// The primary that Sentinel names takes writes also while no replica hears of them.
    pub writes_alone: bool,
    /// Why it does not do what a node asks of it, if it does not: a replica writes nothing, a full
    /// store nothing more, and one whose user may do little not everything.
    pub refuses: Option<String>,
    /// Its nodes, this one too if it runs.
    pub nodes: Vec<SurveyedNode>,
}

/// A node as it is found.
#[derive(Debug)]
pub struct SurveyedNode {
    /// By the key of its lease.
    pub name: String,
    /// The node, or why its lease is not read.
    pub lease: Result<Member, UnreadLease>,
    /// Why it cannot be reached, if it cannot.
    pub unreachable: Option<String>,
}

/// Why a node's lease says nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UnreadLease {
    /// It is not signed by our key.
    OtherKey,
    /// A newer version wrote it in a way that this one does not know.
    Newer,
}

/// Looks at the store of `settings`, and calls at each node that has a lease there.
///
/// # Errors
/// The store cannot be asked: why.
pub async fn survey(settings: &ClusterSettings, domain: &str) -> Result<Survey, String> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut dialler = Dialler::new(&settings.store).map_err(|e| format!("{e:#}"))?;
    let mut connection = dialler.connect().await?;
    let names = StoreKeys::new(domain);
    let mut first = redis::pipe();
    first.cmd("TIME").cmd("SMEMBERS").arg(names.nodes());
    let asked = first.query_async(&mut connection).await;
    let ((seconds, _), found): ((u64, u64), Vec<Vec<u8>>) = asked.map_err(|e| said(&e))?;
    // At once: nodes that do not answer are waited for below.
    let own = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let found: Vec<String> = found.into_iter().filter_map(text).collect();
    let mut second = redis::pipe();
    found.iter().for_each(|node| {
        second.cmd("GET").arg(names.lease(node));
    });
    let leases: Vec<Option<Vec<u8>>> = match found.is_empty() {
        true => Vec::new(),
        false => second.query_async(&mut connection).await.map_err(|e| said(&e))?,
    };
    let mut writes_alone = false;
    if settings.store.sentinel.is_some() {
        let info = redis::cmd("INFO").arg("replication").query_async(&mut connection).await;
        writes_alone = info.is_ok_and(|info: String| takes_writes_alone(&info));
    }
    let tried = trial(&names).query_async::<()>(&mut connection).await;
    let refuses = tried.err().map(|e| said(&e));
    let keys = ClusterKeys::new(settings.key.reveal());
    let tls = NodeTls::new(settings).map_err(|e| format!("{e:#}"))?;
    let mut nodes = Vec::new();
    for (name, lease) in found.into_iter().zip(leases) {
        let Some(lease) = lease.and_then(text) else { continue };
        let member = read(&keys, &name, &lease);
        let unreachable = match &member {
            Ok(member) if member.node != settings.node => {
                match timeout(CONNECT, tls.connected(member.advertise)).await {
                    Ok(Ok(_)) => None,
                    Ok(Err(e)) => Some(e.to_string()),
                    Err(_) => Some("no answer within 2 s".to_owned()),
                }
            }
            _ => None,
        };
        let lease = member.map_err(|fault| match fault {
            LeaseFault::OtherKey => UnreadLease::OtherKey,
            LeaseFault::Newer => UnreadLease::Newer,
        });
        nodes.push(SurveyedNode { name, lease, unreachable });
    }
    Ok(Survey { skew: own.abs_diff(seconds), writes_alone, refuses, nodes })
}

/// Every command that a node has for the store, done to a value of its own, which is gone at the
/// end.
fn trial(names: &StoreKeys) -> Pipeline {
    let mut pipe = redis::pipe();
    let key = names.trial();
    pipe.cmd("HSET").arg(&key).arg("a").arg(1).ignore();
    pipe.cmd("PEXPIRE").arg(&key).arg(LASTS).ignore();
    pipe.cmd("HGETALL").arg(&key).ignore();
    pipe.cmd("HMGET").arg(&key).arg("a").ignore();
    pipe.cmd("HDEL").arg(&key).arg("a").ignore();
    pipe.cmd("SETNX").arg(&key).arg(1).ignore();
    pipe.cmd("SET").arg(&key).arg(1).arg("NX").arg("PX").arg(LASTS).ignore();
    pipe.cmd("SCAN").arg(0).arg("COUNT").arg(1).ignore();
    pipe.cmd("EVAL").arg(TRIAL).arg(1).arg(&key).arg(LASTS).ignore();
    pipe
}

/// Whether that is what Redis says of its replication: it has replicas, and needs none of them.
fn takes_writes_alone(info: &str) -> bool {
    let says = |what: &str| info.lines().any(|line| line.starts_with(what));
    says("role:master") && says("slave0:") && !says("min_slaves_good_slaves:")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_primary_with_replicas_is_to_need_one() {
        let replica = "slave0:ip=192.0.2.2,port=6379,state=online,offset=1,lag=0\r\n";
        for (info, alone) in [
            (format!("# Replication\r\nrole:master\r\nconnected_slaves:1\r\n{replica}"), true),
            (format!("role:master\r\nmin_slaves_good_slaves:1\r\n{replica}"), false),
            ("role:master\r\nconnected_slaves:0\r\n".to_owned(), false),
            ("role:slave\r\n".to_owned(), false),
            (String::new(), false),
        ] {
            assert_eq!(takes_writes_alone(&info), alone, "{info}");
        }
    }
}
