//! The same commands to Redis and to the model, at random: both say the same.

use crate::model::StoreModel;
use crate::{KEY, again, claim, client, config, keep, process, renew, value};
use anyhow::{Context, ensure};
use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore, SeedableRng};
use std::time::{Duration, Instant};
use webtrunk::cluster::store::{
    CallWrite, Claim, LEASE, PointerWrite, ShareWish, StoreAnswer, StoreCommand, UnrenewedLease,
};
use webtrunk::store::StoreClient;

const RUNS: u64 = 200;
const STEPS: u32 = 60;
/// A run that took longer is none: leases ran out by themselves.
const LONGEST: Duration = Duration::from_secs(2);
/// Times that leases run out in a run: far from what calls are kept for.
const LAPSES: u32 = 6;
const NODES: [&str; 3] = ["a", "b", "c"];

/// Both, and what was done to them.
struct Beside {
    random: ChaCha20Rng,
    redis: StoreClient,
    model: StoreModel,
    now: Instant,
    epochs: [u64; 3],
    /// Of the connection.
    number: u64,
    lapses: u32,
    steps: Vec<String>,
}

impl Beside {
    fn below(&mut self, n: u64) -> u64 {
        self.random.next_u64() % n
    }

    fn name(&mut self) -> String {
        let call = self.below(6);
        format!("{call:016x}{}", if self.below(2) == 0 { "" } else { ".media" })
    }

    /// The connection that a command is meant for: mostly this one.
    fn by(&mut self) -> u64 {
        self.number - u64::from(self.below(6) == 0)
    }

    /// A lease that somebody takes for one that is over; it may have been renewed since.
    fn unrenewed(&mut self) -> UnrenewedLease {
        let (n, said) = (self.below(3) as usize, self.below(3));
        let value = format!("{:016x} {said}", self.epochs[n]);
        UnrenewedLease { node: NODES[n].to_owned(), value }
    }

    fn command(&mut self) -> StoreCommand {
        let (n, other) = (self.below(3) as usize, self.below(3) as usize);
        let (own, theirs) =
            (process(NODES[n], self.epochs[n]), process(NODES[other], self.epochs[other]));
        match self.below(12) {
            0..=2 => StoreCommand::Beat {
                id: 1,
                node: own.node,
                epoch: own.epoch,
                instead: (self.below(4) == 0).then(|| own.epoch - 1),
                value: format!("{:016x} {}", own.epoch, self.below(3)),
                unrenewed: (0..self.below(3)).map(|_| self.unrenewed()).collect(),
                wishes: vec![ShareWish {
                    name: "calls far".into(),
                    limit: 4 + self.below(9),
                    used: self.below(5),
                }],
            },
            3..=6 => {
                let writes = (0..1 + self.below(4)).map(|_| {
                    let value = value(self.below(200) as u8).filter(|_| self.below(3) > 0);
                    CallWrite { name: self.name(), value }
                });
                let writes: Vec<CallWrite> = writes.collect();
                // Of one name only once, as the gateway's are.
                let mut named = std::collections::BTreeMap::new();
                named.extend(writes.into_iter().map(|w| (w.name.clone(), w)));
                let writes = named.into_values().collect();
                let (connection, anew) = (self.by(), self.below(8) == 0);
                StoreCommand::Keep { id: 1, owner: own, connection, anew, writes }
            }
            7 | 8 => {
                let connection = self.by();
                StoreCommand::Claim {
                    id: 1,
                    of: theirs,
                    by: own,
                    connection,
                    again: self.below(3) == 0,
                }
            }
            9 => {
                let names = (0..3).map(|_| self.name()).collect();
                StoreCommand::Take { id: 1, of: theirs, connection: self.by(), names }
            }
            _ => {
                let user = format!("u{}", self.below(3));
                let value = (self.below(3) > 0).then(|| format!("value {}", self.below(9)));
                let write = PointerWrite { user, node: own.node, value };
                StoreCommand::Write { id: 1, writes: vec![write] }
            }
        }
    }

    async fn leases_run_out(&mut self) -> anyhow::Result<()> {
        self.lapses += 1;
        self.now += LEASE;
        for node in NODES {
            self.redis.expire_lease(node).await?;
        }
        self.steps.push("leases run out".into());
        Ok(())
    }

    async fn step(&mut self) -> anyhow::Result<()> {
        match self.below(20) {
            0 if self.lapses < LAPSES => self.leases_run_out().await?,
            3 if self.lapses < LAPSES => {
                // Of what is left, nothing lasts for so short a time that it matters when.
                self.leases_run_out().await?;
                let back = [3_600_000, -61_000][self.below(2) as usize];
                self.redis.put_clock_back(back).await?;
                self.model.set_clock(self.now, -back);
                self.steps.push(format!("the clock is put back by {back} ms"));
            }
            1 => {
                let n = self.below(3) as usize;
                self.epochs[n] += 1;
                self.steps.push(format!("{} starts again", NODES[n]));
            }
            2 if self.below(6) == 0 => {
                self.redis.forget_all().await?;
                self.model.forget();
                self.steps.push("all is lost".into());
            }
            _ => {
                let command = self.command();
                self.steps.push(format!("{command:?}"));
                let said = self.redis.carry_out(command.clone()).await;
                // What came of leaves of names that were never there is nobody's business.
                let model = self.model.carry_out(self.now, 0, self.number, command);
                let (said, model) = (comparable(said), comparable(model));
                ensure!(said == model, "Redis says {said:?}, the model {model:?}");
            }
        }
        let user = format!("u{}", self.below(3));
        let mut found = self.redis.find(&user).await?;
        found.sort();
        ensure!(found == self.model.find(&user), "{user}: {found:?}");
        Ok(())
    }
}

/// Without clocks, and in one order.
fn comparable(mut answer: StoreAnswer) -> StoreAnswer {
    match &mut answer {
        StoreAnswer::Beat { answer: Ok(answer), .. } => {
            answer.millis = 0;
            answer.leases.sort();
        }
        StoreAnswer::Claimed {
            answer: Ok(Claim::Granted { names } | Claim::Taken { names: Some(names), .. }),
            ..
        } => names.sort(),
        _ => {}
    }
    answer
}

async fn run_of(seed: u64, url: &str) -> anyhow::Result<bool> {
    let mut beside = Beside {
        random: ChaCha20Rng::seed_from_u64(seed),
        redis: client(url, 7).await?,
        model: StoreModel::default(),
        now: Instant::now(),
        epochs: [1, 101, 201],
        number: 7,
        lapses: 0,
        steps: Vec::new(),
    };
    beside.redis.forget_all().await?;
    let began = Instant::now();
    for _ in 0..STEPS {
        let done = beside.step().await;
        if began.elapsed() > LONGEST {
            return Ok(false);
        }
        done.with_context(|| format!("seed {seed}:\n{}", beside.steps.join("\n")))?;
    }
    Ok(true)
}

/// What the model does not have: one value for all, and a lease that is given back.
async fn rest(url: &str) -> anyhow::Result<()> {
    let mut store = client(url, 1).await?;
    store.forget_all().await?;
    ensure!(store.certificate("first").await? == "first");
    ensure!(store.certificate("second").await? == "first", "the first counts");
    let strange = config("a", url, "another key, which is of another cluster")?;
    let strange = StoreClient::connect(&strange, 2).await?;
    ensure!(strange.certificate("third").await.is_err(), "it is sealed by another key");
    println!("ok      all nodes have one certificate, and who has another key has none");

    let (old, own) = (process("a", 1), process("a", 2));
    renew(&mut store, &own).await?;
    store.leave(&old).await?;
    keep(&mut store, &own, &["aa"]).await?;
    let by = process("b", 9);
    ensure!(claim(&mut store, &own, &by, 1).await? == Claim::Lives, "its lease stands");
    store.leave(&own).await?;
    let granted = claim(&mut store, &own, &by, 1).await?;
    ensure!(granted == Claim::Granted { names: vec!["aa".into()] }, "{granted:?}");
    println!("ok      a lease is given back by the process that has it, and by no other");

    // The next process of that node asks what became of its calls. One had its own closed.
    let (later, closed) = (process("a", 3), process("a", 4));
    keep(&mut store, &later, &["bb"]).await?;
    keep(&mut store, &closed, &["cc"]).await?;
    claim(&mut store, &closed, &closed, 1).await?;
    let (names, all) = store.taken_of_earlier(None).await?;
    ensure!((names, all) == (vec!["aa".to_owned()], false), "what another took is named");
    let late = claim(&mut store, &later, &by, 1).await?;
    ensure!(matches!(late, Claim::Taken { .. }), "what was left is nobody's any more: {late:?}");
    println!("ok      who starts again learns what was taken, and keeps the rest");

    // One that began by a clock that was ahead, whose calls were taken so long ago that nobody
    // knows which these were: that says nothing of one that came after it.
    again(&mut store, &process("a", 8), &by).await?;
    for (last, all) in [(None, true), (Some(3), false), (Some(8), true), (Some(9), false)] {
        let (_, told) = store.taken_of_earlier(last).await?;
        ensure!(told == all, "{last:?}: all are another's: {told}");
    }
    println!("ok      what was taken of a process says nothing of another, whatever their numbers");
    Ok(())
}

pub(crate) async fn run(url: &str) -> anyhow::Result<()> {
    ensure!(KEY.len() > 32);
    let (mut done, mut slow) = (0, 0);
    for seed in 0..RUNS {
        while !run_of(seed, url).await? {
            slow += 1;
            ensure!(slow < RUNS, "this machine is too slow for leases of three seconds");
        }
        done += 1;
    }
    println!("ok      {done} runs of {STEPS} commands: Redis and the model say the same");
    rest(url).await
}
