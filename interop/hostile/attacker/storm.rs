//! Registered phones that are all cut off at once, and come back.

use crate::dice::Dice;
use crate::phone::Phone;
use crate::place::{Place, nth};
use crate::spread;
use serde_json::{Value, json};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

#[derive(clap::Args, Clone)]
pub(crate) struct Storm {
    #[command(flatten)]
    place: Place,
    /// The first of their addresses, 50 phones each
    #[arg(long)]
    from: IpAddr,
    /// Phones; the users are u0, u1, …
    #[arg(long)]
    count: usize,
    /// They come back within this, each at a random time, s
    #[arg(long, default_value_t = 5.0)]
    within: f64,
    /// How long they stay once all are back, s
    #[arg(long, default_value_t = 1.0)]
    stay: f64,
    #[arg(long)]
    seed: u64,
}

const PER_SOURCE: usize = 50;
/// Logins at once before the storm.
const AT_ONCE: usize = 16;
/// Beyond this a phone is counted as not back.
const PATIENCE: Duration = Duration::from_secs(120);

impl Storm {
    pub(crate) async fn run(&self) -> anyhow::Result<Value> {
        let phones = self.calm().await;
        let before = phones.len();
        // No farewell: the connections are reset.
        drop(phones);
        let began = Instant::now();
        let at = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64();
        let mut all = JoinSet::new();
        for n in 0..self.count {
            let storm = self.clone();
            all.spawn(async move { timeout(PATIENCE, storm.back(n)).await });
        }
        let (mut back, mut tries, mut phones) = (Vec::new(), 0, Vec::new());
        while let Some(done) = all.join_next().await {
            if let Ok((phone, tried)) = done? {
                back.push(began.elapsed());
                tries += tried;
                phones.push(phone);
            }
        }
        sleep(Duration::from_secs_f64(self.stay)).await;
        let all_back = back.iter().max().copied().unwrap_or_default();
        Ok(json!({
            "at": at, "before": before, "back": phones.len(), "tries": tries,
            "seconds": all_back.as_secs_f64(), "times": spread(back),
        }))
    }

    fn who(&self, n: usize) -> (IpAddr, String) {
        (nth(self.from, n / PER_SOURCE), format!("u{n}"))
    }

    async fn login(&self, n: usize, turn: u64) -> anyhow::Result<Phone> {
        let (home, user) = self.who(n);
        let mut dice = Dice::new(self.seed ^ (n as u64) << 8 ^ turn);
        let who = (user.as_str(), "storm-secret");
        let mut phone = Phone::connect(&self.place, home, who, &mut dice).await?;
        match phone.register().await? {
            200 => Ok(phone),
            status => anyhow::bail!("{status}"),
        }
    }

    /// Everybody registers, a few at a time.
    async fn calm(&self) -> Vec<Phone> {
        let places = Arc::new(Semaphore::new(AT_ONCE));
        let mut all = JoinSet::new();
        for n in 0..self.count {
            let (storm, places) = (self.clone(), places.clone());
            all.spawn(async move {
                let _place = places.acquire().await;
                for turn in 0..5 {
                    if let Ok(phone) = storm.login(n, turn).await {
                        return Some(phone);
                    }
                    sleep(Duration::from_millis(500)).await;
                }
                None
            });
        }
        all.join_all().await.into_iter().flatten().collect()
    }

    /// One phone comes back, as JsSIP does: 2 s after a failure, then 4, with chance.
    async fn back(&self, n: usize) -> (Phone, u64) {
        let mut dice = Dice::new(self.seed + n as u64);
        let at = self.within * dice.below(10_000) as f64 / 1e4;
        sleep(Duration::from_secs_f64(at)).await;
        let mut wait = 2.0;
        for turn in 1.. {
            if let Ok(phone) = self.login(n, 100 + turn).await {
                return (phone, turn);
            }
            sleep(Duration::from_secs_f64(wait * (0.5 + dice.below(1_000) as f64 / 1e3))).await;
            wait = (wait * 2.0_f64).min(30.0);
        }
        unreachable!()
    }
}
