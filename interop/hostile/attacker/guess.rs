//! Guesses at passwords; and the time that answers take, by which a name might be told.

use crate::dice::Dice;
use crate::phone::{Answer, Phone};
use crate::place::{Place, nth};
use crate::{spread, texts};
use anyhow::Context;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

#[derive(clap::Args, Clone)]
pub(crate) struct Guess {
    #[command(flatten)]
    place: Place,
    /// The first of its addresses
    #[arg(long)]
    from: IpAddr,
    #[arg(long, default_value_t = 5)]
    sources: usize,
    #[arg(long)]
    count: usize,
    #[arg(long, default_value = "alice")]
    user: String,
    /// Ask as a known name and as an unknown one in turn, each from a new address
    #[arg(long)]
    compare: bool,
    #[arg(long)]
    seed: u64,
}

impl Guess {
    pub(crate) async fn run(&self) -> anyhow::Result<Value> {
        if self.compare {
            return self.compared().await;
        }
        let all = (0..self.sources).map(|n| self.clone().source(n));
        let mut statuses: BTreeMap<String, u64> = BTreeMap::new();
        for one in futures_util::future::join_all(all).await {
            for (status, count) in one {
                *statuses.entry(status).or_default() += count;
            }
        }
        Ok(json!({ "statuses": statuses }))
    }

    /// One source's guesses by what came of them: a status, "braked" or "closed".
    async fn source(self, n: usize) -> BTreeMap<String, u64> {
        let mut statuses = BTreeMap::new();
        let mut dice = Dice::new(self.seed + n as u64);
        let mut phone = None;
        for guess in 0..self.count / self.sources {
            let status = self.one(nth(self.from, n), guess, &mut phone, &mut dice).await;
            let word = status.as_ref().map_or("closed", String::as_str);
            *statuses.entry(word.to_owned()).or_default() += 1;
            if status.is_err() {
                phone = None;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        statuses
    }

    async fn one(
        &self,
        source: IpAddr,
        guess: usize,
        phone: &mut Option<Phone>,
        dice: &mut Dice,
    ) -> anyhow::Result<String> {
        if phone.is_none() {
            let who = (self.user.as_str(), "wrong");
            let mut new = Phone::connect(&self.place, source, who, dice).await?;
            new.ask().await?;
            *phone = Some(new);
        }
        let phone = phone.as_mut().context("no connection")?;
        phone.password(&format!("guess-{guess}"));
        let answer = phone.ask().await?;
        let braked = texts::header(&answer.text, "Retry-After").is_some();
        Ok(if braked { "braked".into() } else { answer.status.to_string() })
    }

    /// The time from a guess to its refusal.
    async fn compared(&self) -> anyhow::Result<Value> {
        let mut dice = Dice::new(self.seed);
        let mut times: [Vec<Duration>; 2] = Default::default();
        let mut answers: [BTreeMap<String, u64>; 2] = Default::default();
        let mut failed = 0;
        for n in 0..self.count {
            // Each is first as often as the other: known, unknown, unknown, known.
            let unknown = n.div_ceil(2) % 2;
            let user = [self.user.as_str(), "nobody"][unknown];
            // Few guesses a source, so that no brake answers.
            let source = nth(self.from, n / 10);
            let Ok((took, answer)) = self.refused(source, (user, "wrong"), &mut dice).await else {
                failed += 1;
                continue;
            };
            times[unknown].push(took);
            let shape: Vec<&str> =
                answer.text.lines().filter_map(|l| l.split_once(':')).map(|(n, _)| n).collect();
            *answers[unknown]
                .entry(format!("{} {}", answer.status, shape.join(",")))
                .or_default() += 1;
        }
        let [known, unknown] = times;
        let same = answers[0].keys().eq(answers[1].keys());
        Ok(json!({
            "known": spread(known), "unknown": spread(unknown),
            "same_answers": same, "failed": failed,
        }))
    }

    /// The refusal of a wrong password, and the time it takes.
    async fn refused(
        &self,
        source: IpAddr,
        who: (&str, &str),
        dice: &mut Dice,
    ) -> anyhow::Result<(Duration, Answer)> {
        let mut phone = Phone::connect(&self.place, source, who, dice).await?;
        phone.ask().await?;
        let began = Instant::now();
        let answer = phone.ask().await?;
        Ok((began.elapsed(), answer))
    }
}
