//! The client of the cluster's store: commands in, answers out, by the Redis protocol.
//!
//! One task has the connection, and opens another when it fails. While there is none, each command
//! fails at once; its caller decides what that means. Nothing waits here.

mod calls;
mod certificate;
mod client;
mod earlier;
mod faults;
mod survey;

use crate::call::context::Seeker;
use crate::cluster::keys::derive;
use crate::cluster::store::{
    BeatAnswer, CALLS, FoundPointers, LEASE, POINTERS, PointerWrite, Process, ShareGrant,
    ShareWish, StoreAnswer, StoreCommand, UnrenewedLease,
};
use crate::config::{ClusterSettings, StoreSettings};
use crate::gateway::Input;
use crate::state::seal::Sealer;
use crate::transport::{Inbox, tls};
use anyhow::{Context, anyhow};
use faults::said;
use redis::aio::MultiplexedConnection;
use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, ConnectionInfo, IntoConnectionInfo, RedisError, TlsCertificates,
    TlsMode,
};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Commands that may wait for the store; further ones are lost, and their timers tell.
const STORE_QUEUE: usize = 1_024;
/// Commands under way at once.
const MOST_UNDER_WAY: usize = 64;
/// A connection is given up after this long, and an answer.
const CONNECT: Duration = Duration::from_secs(1);
const ANSWER: Duration = Duration::from_millis(500);
/// Between two attempts to connect.
const AGAIN: Duration = Duration::from_millis(300);
/// How long a stop waits for the lease to be given back.
const LEAVING: Duration = Duration::from_millis(500);

/// Removes ARGV[8] leases, each by its node, which are still of the value after that. Renews the
/// lease KEYS[1], unless another epoch than ARGV[1] or ARGV[7] has it, by the value
/// ARGV[2] for ARGV[3] milliseconds, and notes the node ARGV[4] in KEYS[2]; lists all leases, whose
/// keys begin with ARGV[5]. Its calls, KEYS[3], are kept for ARGV[6] more milliseconds; if they
/// were claimed by another process, nothing is renewed. Then there are limits, each with its key,
/// how many there are, and how many the node has: `cluster::store::grant` says what it is granted.
const BEAT: &str = r"
local wishes = 9 + 2 * ARGV[8]
for i = 9, wishes - 1, 2 do
  local lease = ARGV[5] .. ARGV[i]
  if redis.call('GET', lease) == ARGV[i + 1] then redis.call('DEL', lease) end
end
local held = redis.call('GET', KEYS[1])
local deposed = redis.call('TYPE', KEYS[3])['ok'] == 'string'
local epoch = held and string.sub(held, 1, 16)
local ours = not deposed and (not held or epoch == ARGV[1] or epoch == ARGV[7])
if ours then
  redis.call('PEXPIRE', KEYS[3], ARGV[6])
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
  redis.call('SADD', KEYS[2], ARGV[4])
end
local leases, live, count = {}, {}, 0
for _, node in ipairs(redis.call('SMEMBERS', KEYS[2])) do
  local lease = redis.call('GET', ARGV[5] .. node)
  if lease then
    leases[#leases + 1] = node
    leases[#leases + 1] = lease
    live[node] = true
    count = count + 1
  else
    redis.call('SREM', KEYS[2], node)
  end
end
local grants = {}
if ours then
  for i = wishes, #ARGV, 3 do
    local key, limit, used = ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
    local has, claims = 0, 0
    local all = redis.call('HGETALL', key)
    for j = 1, #all, 2 do
      local claim, of = string.match(all[j + 1], '^(%d+) (%d+)$')
      if not live[all[j]] then
        redis.call('HDEL', key, all[j])
      elseif claim and all[j] ~= ARGV[4] then
        has, claims = has + tonumber(of), claims + tonumber(claim)
      end
    end
    local free = math.max(limit - claims - used, 0)
    local claim = used + math.ceil(free / math.max(count, 1))
    redis.call('HSET', key, ARGV[4], string.format('%d %d', claim, used))
    redis.call('PEXPIRE', key, 60000)
    grants[#grants + 1] = claim
    grants[#grants + 1] = has
  end
end
local time = redis.call('TIME')
return {
  held or '', leases, time[1] * 1000 + math.floor(time[2] / 1000), deposed and 1 or 0, grants
}
";

/// Gives the lease KEYS[1] back, if it is of the epoch ARGV[1].
const LEAVE: &str = r"
local held = redis.call('GET', KEYS[1])
if held and string.sub(held, 1, 16) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return 1
";

pub(crate) use certificate::certificate;
pub use client::StoreClient;
pub(crate) use earlier::{TakenCallNames, taken_of_earlier};
pub use survey::{Survey, SurveyedNode, UnreadLease, survey};

/// What the store's task receives.
enum StoreJob {
    Command(StoreCommand),
    Locate {
        seeker: Seeker,
        ask: u32,
        users: Vec<String>,
    },
    /// Give the lease back; nothing comes after it.
    Leave(oneshot::Sender<()>),
}

/// The way to the store.
#[derive(Clone)]
pub(crate) struct Store(mpsc::Sender<StoreJob>);

impl Store {
    /// Starts the task that has the connection.
    ///
    /// # Errors
    /// Settings that name no store, a certificate that cannot be read.
    pub(crate) fn start(
        settings: &ClusterSettings,
        domain: &str,
        inbox: Inbox,
    ) -> anyhow::Result<Store> {
        let (send, jobs) = mpsc::channel(STORE_QUEUE);
        let dialler = Dialler::new(&settings.store)?;
        let names = Arc::new(StoreKeys::new(domain));
        let seal = Arc::new(Mutex::new(Sealer::new(derive(settings.key.reveal(), "calls"))?));
        let (dialled, connection, lease) = (false, 0, None);
        let task = StoreTask { dialler, names, seal, inbox, jobs, dialled, connection, lease };
        tokio::spawn(task.run());
        Ok(Store(send))
    }

    pub(crate) fn command(&self, command: StoreCommand) {
        let _ = self.0.try_send(StoreJob::Command(command));
    }

    pub(crate) fn locate(&self, seeker: Seeker, ask: u32, users: Vec<String>) {
        let _ = self.0.try_send(StoreJob::Locate { seeker, ask, users });
    }

    /// Gives the lease back, so that the others need not wait until it has run out.
    pub(crate) async fn leave(&self) {
        let (done, left) = oneshot::channel();
        if self.0.try_send(StoreJob::Leave(done)).is_ok() {
            let _ = timeout(LEAVING, left).await;
        }
    }
}

/// The keys of this cluster.
struct StoreKeys {
    prefix: String,
}

impl StoreKeys {
    fn new(domain: &str) -> StoreKeys {
        StoreKeys { prefix: format!("webtrunk:{domain}:") }
    }

    fn lease(&self, node: &str) -> String {
        format!("{}node:{node}", self.prefix)
    }

    fn nodes(&self) -> String {
        format!("{}nodes", self.prefix)
    }

    /// What a process keeps of its calls; once these are claimed, by whom.
    fn calls(&self, of: &Process) -> String {
        format!("{}{:016x}", self.calls_of_node(&of.node), of.epoch)
    }

    fn calls_of_node(&self, node: &str) -> String {
        format!("{}calls:{node}:", self.prefix)
    }

    /// What another process took of them.
    fn taken(&self, of: &Process) -> String {
        format!("{}taken:{}:{:016x}", self.prefix, of.node, of.epoch)
    }

    /// Says that there were none to be taken.
    fn none_taken(&self, of: &Process) -> String {
        format!("{}none:{}:{:016x}", self.prefix, of.node, of.epoch)
    }

    fn certificate(&self) -> String {
        format!("{}certificate", self.prefix)
    }

    fn share(&self, name: &str) -> String {
        format!("{}share:{name}", self.prefix)
    }

    fn user(&self, user: &str) -> String {
        format!("{}user:{user}", self.prefix)
    }

    /// A value that `doctor` tries the store with.
    fn trial(&self) -> String {
        format!("{}trial:{}", self.prefix, std::process::id())
    }

    /// A token that was used.
    fn token(&self, token: u128) -> String {
        format!("{}token:{token:032x}", self.prefix)
    }
}

/// How the store is found.
enum Dialler {
    Direct(Box<Client>),
    Sentinel(Box<SentinelClient>),
}

impl Dialler {
    fn new(settings: &StoreSettings) -> anyhow::Result<Dialler> {
        let root_cert = match &settings.ca {
            Some(ca) => {
                std::fs::read(ca).with_context(|| format!("{} cannot be read", ca.display()))?
            }
            // Left to itself the client reads them anew for each connection, and fails by the first
            // one that it cannot read.
            None => tls::authorities_of_the_machine(),
        };
        let certificates =
            || TlsCertificates { client_tls: None, root_cert: Some(root_cert.clone()) };
        let infos: Result<Vec<ConnectionInfo>, RedisError> =
            settings.urls.iter().map(|url| url.as_str().into_connection_info()).collect();
        let infos = infos.context("cluster.store")?;
        let first = infos.first().ok_or_else(|| anyhow!("cluster.store names no store"))?;
        let tls = settings.urls.iter().any(|url| url.starts_with("rediss:"));
        let Some(primary) = &settings.sentinel else {
            let mut login = first.redis_settings().clone();
            if let Some(username) = &settings.username {
                login = login.set_username(username);
            }
            if let Some(password) = &settings.password {
                login = login.set_password(password.reveal());
            }
            let info = first.clone().set_redis_settings(login);
            let client =
                if tls { Client::build_with_tls(info, certificates()) } else { Client::open(info) };
            return Ok(Dialler::Direct(Box::new(client.context("cluster.store")?)));
        };
        let addresses: Vec<_> = infos.iter().map(|info| info.addr().clone()).collect();
        let mut builder =
            SentinelClientBuilder::new(addresses, primary, SentinelServerType::Master)?
                .set_client_to_redis_db(first.redis_settings().db());
        if let Some(username) = &settings.username {
            builder = builder.set_client_to_redis_username(username);
        }
        if let Some(password) = &settings.password {
            builder = builder.set_client_to_redis_password(password.reveal());
        }
        if let Some(username) = &settings.sentinel_username {
            builder = builder.set_client_to_sentinel_username(username);
        }
        if let Some(password) = &settings.sentinel_password {
            builder = builder.set_client_to_sentinel_password(password.reveal());
        }
        if tls {
            builder = builder
                .set_client_to_redis_tls_mode(TlsMode::Secure)
                .set_client_to_redis_certificates(certificates())
                .set_client_to_sentinel_tls_mode(TlsMode::Secure)
                .set_client_to_sentinel_certificates(certificates());
        }
        Ok(Dialler::Sentinel(Box::new(builder.build().context("cluster.store")?)))
    }

    async fn connect(&mut self) -> Result<MultiplexedConnection, String> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(Some(ANSWER));
        let connected = async {
            match self {
                Dialler::Direct(client) => {
                    client.get_multiplexed_async_connection_with_config(&config).await
                }
                Dialler::Sentinel(client) => client.get_async_connection_with_config(&config).await,
            }
        };
        match timeout(2 * CONNECT, connected).await {
            Ok(connected) => connected.map_err(|e| said(&e)),
            Err(_) => Err("it does not answer".to_owned()),
        }
    }
}

/// The task that has the connection.
struct StoreTask {
    dialler: Dialler,
    names: Arc<StoreKeys>,
    /// Seals what is kept of calls, for all nodes.
    seal: Arc<Mutex<Sealer>>,
    inbox: Inbox,
    jobs: mpsc::Receiver<StoreJob>,
    /// Whether it was tried to connect before.
    dialled: bool,
    /// Connections so far.
    connection: u64,
    /// The lease that was renewed last: its node and epoch.
    lease: Option<(String, u64)>,
}

impl StoreTask {
    async fn run(mut self) {
        let mut why = "it was not reached yet".to_owned();
        loop {
            match self.dialled(&why).await {
                Some(Ok(connection)) => {
                    self.connection += 1;
                    match self.serve(connection).await {
                        Some(failed) => why = failed,
                        None => return,
                    }
                }
                Some(Err(failed)) => why = failed,
                None => return,
            }
        }
    }

    /// The next connection; what is asked meanwhile is answered with `why`. `None`: nobody can ask
    /// any more.
    async fn dialled(&mut self, why: &str) -> Option<Result<MultiplexedConnection, String>> {
        let StoreTask { dialler, inbox, jobs, dialled, .. } = self;
        let mut dialling = std::pin::pin!(async {
            let connected = dialler.connect().await;
            if connected.is_err() {
                sleep(AGAIN).await;
            }
            connected
        });
        // A node that starts beside its store was never away from it: until the first attempt has
        // ended what is asked waits, and its timers tell if that takes long.
        if !std::mem::replace(dialled, true) {
            return Some(dialling.await);
        }
        loop {
            tokio::select! {
                connected = &mut dialling => return Some(connected),
                job = jobs.recv() => answer_away(inbox, job?, why).await,
            }
        }
    }

    /// Carries commands out until the connection fails, and returns why. `None`: nobody can ask any
    /// more.
    async fn serve(&mut self, connection: MultiplexedConnection) -> Option<String> {
        let mut under_way = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                Some(done) = under_way.join_next() => {
                    if let Ok(Err(why)) = done {
                        return Some(why);
                    }
                }
                job = self.jobs.recv(), if under_way.len() < MOST_UNDER_WAY => {
                    let job = job?;
                    if let StoreJob::Command(StoreCommand::Beat { node, epoch, .. }) = &job {
                        self.lease = Some((node.clone(), *epoch));
                    }
                    let leaves = matches!(job, StoreJob::Leave(_));
                    let work = StoreWork {
                        connection: connection.clone(),
                        number: self.connection,
                        names: self.names.clone(),
                        seal: self.seal.clone(),
                    };
                    let done = work.carry_out(job, self.lease.clone(), self.inbox.clone());
                    if leaves {
                        let _ = done.await;
                        return None;
                    }
                    under_way.spawn(done);
                }
            }
        }
    }
}

/// Says that the store cannot be asked.
async fn answer_away(inbox: &Inbox, job: StoreJob, why: &str) {
    let input = match job {
        StoreJob::Command(command) => Input::Store(command.refused(why)),
        StoreJob::Locate { seeker, ask, .. } => {
            Input::Located { seeker, ask, answer: Err(format!("the store is away: {why}")) }
        }
        StoreJob::Leave(_) => return,
    };
    inbox.input(input).await;
}

/// One command and what it needs.
struct StoreWork {
    connection: MultiplexedConnection,
    number: u64,
    names: Arc<StoreKeys>,
    seal: Arc<Mutex<Sealer>>,
}

impl StoreWork {
    /// Carries a command out and tells what came of it.
    ///
    /// # Errors
    /// Why the connection is of no use any more.
    async fn carry_out(
        mut self,
        job: StoreJob,
        lease: Option<(String, u64)>,
        inbox: Inbox,
    ) -> Result<(), String> {
        let (input, failed) = match job {
            StoreJob::Command(command) => {
                let (answer, failed) = self.answer(command).await;
                (Input::Store(answer), failed)
            }
            StoreJob::Locate { seeker, ask, users } => {
                let (answer, failed) = split(self.locate(users).await);
                (Input::Located { seeker, ask, answer }, failed)
            }
            StoreJob::Leave(done) => {
                if let Some((node, epoch)) = lease {
                    let _ = self.leave(&Process { node, epoch }).await;
                }
                let _ = done.send(());
                return Ok(());
            }
        };
        inbox.input(input).await;
        failed.map_or(Ok(()), Err)
    }

    /// Carries a command out. Returns the answer, and why the connection is of no use any more.
    async fn answer(&mut self, command: StoreCommand) -> (StoreAnswer, Option<String>) {
        if command.only_by().is_some_and(|connection| connection != self.number) {
            return (command.refused("the connection is another"), None);
        }
        match command {
            StoreCommand::Beat { id, node, epoch, instead, value, unrenewed, wishes } => {
                let own = Process { node, epoch };
                let what = (&*unrenewed, &*wishes);
                let (answer, failed) = split(self.beat(&own, instead, &value, what).await);
                (StoreAnswer::Beat { id, answer }, failed)
            }
            StoreCommand::Write { id, writes } => {
                let (answer, failed) = split(self.write(&writes).await);
                (StoreAnswer::Written { id, answer }, failed)
            }
            StoreCommand::Keep { id, owner, anew, writes, .. } => {
                let (answer, failed) = split(self.keep(&owner, anew, writes).await);
                (StoreAnswer::Kept { id, answer }, failed)
            }
            StoreCommand::Claim { id, of, by, again, .. } => {
                let (answer, failed) = split(self.claim(&of, &by, again).await);
                (StoreAnswer::Claimed { id, answer }, failed)
            }
            StoreCommand::Take { id, of, names, .. } => {
                let (answer, failed) = split(self.take(&of, names).await);
                (StoreAnswer::Taken { id, answer }, failed)
            }
            StoreCommand::Spend { id, token, mark, lasts } => {
                let (answer, failed) = split(self.spend(token, mark, lasts).await);
                (StoreAnswer::Spent { id, answer }, failed)
            }
        }
    }

    /// Gives the lease of a process back.
    async fn leave(&mut self, own: &Process) -> Result<(), RedisError> {
        redis::cmd("EVAL")
            .arg(LEAVE)
            .arg(1)
            .arg(self.names.lease(&own.node))
            .arg(format!("{:016x}", own.epoch))
            .query_async::<u8>(&mut self.connection)
            .await
            .map(drop)
    }

    async fn beat(
        &mut self,
        own: &Process,
        instead: Option<u64>,
        value: &str,
        (unrenewed, wishes): (&[UnrenewedLease], &[ShareWish]),
    ) -> Result<BeatAnswer, RedisError> {
        let mut script = redis::cmd("EVAL");
        script
            .arg(BEAT)
            .arg(3)
            .arg(self.names.lease(&own.node))
            .arg(self.names.nodes())
            .arg(self.names.calls(own))
            .arg(format!("{:016x}", own.epoch))
            .arg(value)
            .arg(LEASE.as_millis() as u64)
            .arg(&own.node)
            .arg(self.names.lease(""))
            .arg(CALLS.as_millis() as u64)
            .arg(instead.map(|epoch| format!("{epoch:016x}")).unwrap_or_default())
            .arg(unrenewed.len());
        for UnrenewedLease { node, value } in unrenewed {
            script.arg(node).arg(value);
        }
        for ShareWish { name, limit, used } in wishes {
            script.arg(self.names.share(name)).arg(*limit).arg(*used);
        }
        type Answer = (Vec<u8>, Vec<Vec<u8>>, u64, u8, Vec<u64>);
        let (held, leases, millis, deposed, grants): Answer =
            script.query_async(&mut self.connection).await?;
        let held = text(held).filter(|held| !held.is_empty());
        let pairs = leases.chunks_exact(2);
        let leases = pairs.filter_map(|p| Some((text(p[0].clone())?, text(p[1].clone())?)));
        let grants = grants.chunks_exact(2).map(|g| ShareGrant { claim: g[0], others: g[1] });
        Ok(BeatAnswer {
            held,
            leases: leases.collect(),
            millis,
            connection: self.number,
            deposed: deposed == 1,
            grants: grants.collect(),
        })
    }

    async fn write(&mut self, writes: &[PointerWrite]) -> Result<(), RedisError> {
        let mut pipe = redis::pipe();
        for PointerWrite { user, node, value } in writes {
            let key = self.names.user(user);
            match value {
                Some(value) => {
                    pipe.cmd("HSET").arg(&key).arg(node).arg(value).ignore();
                    pipe.cmd("PEXPIRE").arg(&key).arg(POINTERS.as_millis() as u64).ignore();
                }
                None => {
                    pipe.cmd("HDEL").arg(&key).arg(node).ignore();
                }
            }
        }
        pipe.query_async(&mut self.connection).await
    }

    /// Whether a token was nobody else's until now.
    async fn spend(&mut self, token: u128, mark: u64, lasts: Duration) -> Result<bool, RedisError> {
        let (key, mark) = (self.names.token(token), format!("{mark:016x}"));
        let mut pipe = redis::pipe();
        pipe.cmd("SET").arg(&key).arg(&mark).arg("NX").arg("PX");
        pipe.arg(lasts.as_millis().max(1) as u64).ignore().cmd("GET").arg(&key);
        let (held,): (Option<Vec<u8>>,) = pipe.query_async(&mut self.connection).await?;
        Ok(held.is_some_and(|held| held == mark.as_bytes()))
    }

    async fn locate(
        &mut self,
        users: Vec<String>,
    ) -> Result<Vec<(String, FoundPointers)>, RedisError> {
        let mut pipe = redis::pipe();
        users.iter().for_each(|user| {
            pipe.cmd("HGETALL").arg(self.names.user(user));
        });
        let found: Vec<HashMap<Vec<u8>, Vec<u8>>> = pipe.query_async(&mut self.connection).await?;
        let readable = |fields: HashMap<Vec<u8>, Vec<u8>>| -> FoundPointers {
            fields.into_iter().filter_map(|(k, v)| Some((text(k)?, text(v)?))).collect()
        };
        Ok(users.into_iter().zip(found.into_iter().map(readable)).collect())
    }
}

fn text(bytes: Vec<u8>) -> Option<String> {
    String::from_utf8(bytes).ok()
}

/// The answer for who asked, and why the connection is of no use any more, if it is not. A key that
/// holds something else is no reason to connect again.
fn split<T>(result: Result<T, RedisError>) -> (Result<T, String>, Option<String>) {
    match result {
        Ok(value) => (Ok(value), None),
        Err(e) => {
            let why = said(&e);
            let stays = matches!(e.code(), Some("WRONGTYPE" | "NOPERM" | "OOM" | "BUSY"));
            (Err(why.clone()), (!stays).then_some(why))
        }
    }
}

#[cfg(test)]
mod tests;
