//! The telephones of `interop/run.sh chaos` and `cluster`: browsers with real ICE and DTLS-SRTP,
//! and the trunk at their other end. They are commanded by lines on the standard input, each of
//! which is answered by one JSON object; `interop/chaos/run.py` has the other hand.

mod arrival;
mod ear;
mod evidence;
mod media;
mod phone;
#[path = "../../hostile/attacker/texts.rs"]
mod texts;
mod trunk;

use clap::Parser;
use media::Media;
use phone::{Line, Order, Place, State};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::mpsc;
use tokio::time::sleep;
use trunk::Trunk;
use webtrunk::codec::Codec;
use webtrunk::media::dtls::DtlsIdentity;

#[derive(Parser)]
struct Args {
    /// The gateway's web port; several, and a phone that is cut off tries one after the other
    #[arg(long, value_delimiter = ',')]
    web: Vec<SocketAddr>,
    /// The first phone's address; each next one has the next
    #[arg(long, default_value = "127.1.0.1")]
    homes: Ipv4Addr,
    /// Milliseconds between the beginnings of two calls
    #[arg(long, default_value_t = 25)]
    pace: u64,
    /// A call may be told of another transport: another gateway goes on with it
    #[arg(long)]
    moves: bool,
    /// The gateway's SIP port for the trunk
    #[arg(long)]
    sip: SocketAddr,
    /// Where the trunk is
    #[arg(long)]
    trunk: SocketAddr,
    /// Where the browsers' media is
    #[arg(long)]
    media: IpAddr,
    #[arg(long, default_value = "wt.test")]
    domain: String,
}

/// Each n-th phone is called by the trunk, and each n-th speaks Opus.
const CALLED: u32 = 3;
const OPUS: u32 = 5;
/// Between two looks, and two calls that end.
const LOOK: Duration = Duration::from_millis(25);
const PATIENCE: Duration = Duration::from_secs(60);

/// What the Call-IDs, tags and branches of this run have, so that a gateway that remembers those of
/// an earlier one takes nothing of ours for a repetition.
fn run() -> u64 {
    static RUN: OnceLock<u64> = OnceLock::new();
    let since = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    *RUN.get_or_init(|| since().as_micros() as u64)
}

/// Milliseconds.
fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e4).round() / 10.0
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, serve(args))
}

struct Party {
    args: Args,
    identity: Arc<DtlsIdentity>,
    lines: BTreeMap<u32, Line>,
    trunk: Rc<RefCell<Trunk>>,
}

async fn serve(args: Args) -> anyhow::Result<()> {
    let trunk = Rc::new(RefCell::new(Trunk::new(args.trunk, args.sip).await?));
    tokio::task::spawn_local(trunk::run(trunk.clone()));
    let identity = Arc::new(DtlsIdentity::generate()?);
    let mut party = Party { args, identity, lines: BTreeMap::new(), trunk };
    let (sender, mut orders) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    while let Some(order) = orders.recv().await {
        let words: Vec<&str> = order.split_whitespace().collect();
        let number = |at: usize| words.get(at).and_then(|w| w.parse::<u32>().ok()).unwrap_or(0);
        let answer = match words.first().copied() {
            Some("call") => party.call(number(1)).await?,
            Some("gaps") => party.gaps(),
            Some("drop") => party.drop_one(number(1), Duration::from_millis(number(2).into())),
            Some("hasten") => party.hasten(number(1), number(2), number(3)),
            Some("ending") => {
                party.trunk.borrow_mut().ending = true;
                json!({})
            }
            Some("end") => party.end().await,
            _ => json!({ "error": order }),
        };
        println!("{answer}");
    }
    Ok(())
}

impl Party {
    /// So many phones register and have a call each; returns how many talk and hear.
    async fn call(&mut self, phones: u32) -> anyhow::Result<Value> {
        let place = Place { web: self.args.web.clone(), domain: self.args.domain.clone() };
        let pace = Duration::from_millis(self.args.pace);
        let home = u32::from(self.args.homes);
        for n in 0..phones {
            let codec = if n % OPUS == 0 { Codec::Opus } else { Codec::Pcmu };
            let mut media = Media::new(self.args.media, n, codec, self.identity.clone()).await?;
            media.moves = self.args.moves;
            // A home of its own, as limits are by address.
            let source = Ipv4Addr::from(home + n);
            self.lines.insert(n, phone::start(place.clone(), n, source.into(), media));
            sleep(pace / 2).await;
        }
        let began = Instant::now();
        while self.count(|s| *s == State::Idle) > 0 && began.elapsed() < PATIENCE {
            sleep(LOOK).await;
        }
        for (n, line) in &self.lines {
            if n % CALLED == 1 {
                Trunk::call(&self.trunk, &format!("+49307{n:04}")).await?;
            } else {
                line.orders.send(Order::Call)?;
            }
            sleep(pace).await;
        }
        let began = Instant::now();
        while self.heard() < phones as usize && began.elapsed() < PATIENCE {
            sleep(LOOK).await;
        }
        // What was heard so far is the beginning.
        let unheard = self.gaps();
        let unheard = if self.heard() < phones as usize { unheard } else { Value::Null };
        let states = self.states();
        Ok(json!({ "talking": self.heard(), "states": states, "unheard": unheard }))
    }

    fn count(&self, wanted: impl Fn(&State) -> bool) -> usize {
        self.lines.values().filter(|l| wanted(&l.state.borrow())).count()
    }

    fn heard(&self) -> usize {
        let heard =
            |l: &&Line| *l.state.borrow() == State::Talking && l.media.borrow().ear.has_heard();
        self.lines.values().filter(heard).count().min(self.trunk.borrow().heard())
    }

    fn states(&self) -> BTreeMap<String, u32> {
        let mut states = BTreeMap::new();
        for line in self.lines.values() {
            let failed = line.media.borrow().failed.clone();
            let state = format!("{:?} {}", line.state.borrow(), failed.unwrap_or_default());
            *states.entry(state.trim_end().to_owned()).or_default() += 1;
        }
        states
    }

    /// The longest silences since the last call of this, at both ends.
    fn gaps(&self) -> Value {
        let now = Instant::now();
        let phones: BTreeMap<_, _> = self
            .lines
            .iter()
            .map(|(n, line)| {
                let gap = line.media.borrow_mut().ear.gap(now).map(ms);
                let alive = *line.state.borrow() == State::Talking;
                (format!("p{n}"), json!({ "gap": gap, "alive": alive }))
            })
            .collect();
        json!({ "phones": phones, "trunk": self.trunk.borrow().gaps(now) })
    }

    fn drop_one(&self, n: u32, away: Duration) -> Value {
        let told = self.lines.get(&n).map(|l| l.orders.send(Order::Drop(away)).is_ok());
        json!({ "dropped": told })
    }

    /// A phone sends so many packets in the place of each one, for so many seconds.
    fn hasten(&self, n: u32, packets: u32, seconds: u32) -> Value {
        let time = Duration::from_secs(seconds.into());
        let found = self.lines.get(&n);
        found.iter().for_each(|line| line.media.borrow_mut().hasten(packets, time));
        json!({ "hastened": found.is_some() })
    }

    /// Everybody hangs up; what came of it.
    async fn end(&mut self) -> Value {
        let talking = self.count(|s| *s == State::Talking);
        let states = self.states();
        for line in self.lines.values() {
            let _ = line.orders.send(Order::HangUp);
            sleep(LOOK / 5).await;
        }
        let began = Instant::now();
        while self.count(|s| *s == State::Talking) > 0 && began.elapsed() < PATIENCE / 3 {
            sleep(LOOK).await;
        }
        let sum = |of: fn(&evidence::Counts) -> u64| -> u64 {
            self.lines.values().map(|l| of(&l.media.borrow().counts)).sum()
        };
        let jump = self.lines.values().map(|l| l.media.borrow().counts.jump).max();
        let mut asked = BTreeMap::<String, u64>::new();
        for (method, times) in self.lines.values().flat_map(|l| l.asked.borrow().clone()) {
            *asked.entry(method).or_default() += times;
        }
        let refreshed = |l: &Line| l.asked.borrow().iter().filter(|(m, _)| *m != "BYE").count();
        let least = self.lines.values().map(refreshed).min();
        json!({
            "talking": talking, "states": states, "after": self.states(),
            "keys": sum(|c| c.keys), "packets": sum(|c| c.packets),
            "repeated": sum(|c| c.repeated), "unauthentic": sum(|c| c.unauthentic),
            "jump": jump, "asked": asked, "least": least, "trunk": self.trunk.borrow().totals(),
        })
    }
}
