//! What others notice of an attack: logins, a registered phone, set-up of calls, delay of media.

use crate::calls::Calls;
use crate::dice::Dice;
use crate::phone::Phone;
use crate::place::{Place, nth};
use crate::{ms, spread};
use serde_json::{Value, json};
use std::net::IpAddr;
use std::time::{Duration, Instant};
use tokio::time::{interval, sleep};

#[derive(clap::Args)]
pub(crate) struct Victim {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    calls: Calls,
    /// The first of the addresses logins come from, one after the other
    #[arg(long)]
    homes: IpAddr,
    /// Time between two logins, ms
    #[arg(long, default_value_t = 200)]
    every: u64,
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Addresses that logins come from.
const HOMES: usize = 50;
/// People who come to work, clerk_a and so on: one of them would log in more often in a minute than
/// any user may.
const CLERKS: usize = 10;

#[derive(Default)]
struct Tries {
    good: Vec<Duration>,
    failed: u64,
    why: Option<String>,
}

impl Tries {
    fn note(&mut self, began: Instant, what: anyhow::Result<u16>) {
        match what {
            Ok(200) => self.good.push(began.elapsed()),
            other => {
                self.failed += 1;
                self.why = Some(match other {
                    Ok(status) => format!("{status} after {} ms", ms(began.elapsed())),
                    Err(e) => format!("{e:#} after {} ms", ms(began.elapsed())),
                });
            }
        }
    }

    fn json(self) -> Value {
        let mut found = spread(self.good);
        found["failed"] = json!(self.failed);
        found["why"] = json!(self.why);
        found
    }
}

impl Victim {
    pub(crate) async fn run(&self) -> anyhow::Result<Value> {
        let end = Instant::now() + Duration::from_secs_f64(self.calls.seconds);
        let calls = self.calls.clone();
        let calls = tokio::task::spawn_blocking(move || calls.run());
        let (logins, proved) = tokio::join!(self.logins(end), self.registered(end));
        let mut found = calls.await??;
        found["login"] = logins.json();
        found["proved"] = proved.json();
        Ok(found)
    }

    /// Somebody comes to work: a connection, TLS, a WebSocket, and a login.
    async fn logins(&self, end: Instant) -> Tries {
        let mut tries = Tries::default();
        let mut dice = Dice::new(self.seed);
        let mut pace = interval(Duration::from_millis(self.every));
        for n in 0.. {
            pace.tick().await;
            if Instant::now() >= end {
                break;
            }
            let began = Instant::now();
            let home = nth(self.homes, n % HOMES);
            let clerk = format!("clerk_{}", (b'a' + (n % CLERKS) as u8) as char);
            tries.note(began, self.login(home, &clerk, &mut dice).await);
        }
        tries
    }

    async fn login(&self, home: IpAddr, clerk: &str, dice: &mut Dice) -> anyhow::Result<u16> {
        let who = (clerk, "clerk-secret");
        let mut phone = Phone::connect(&self.place, home, who, dice).await?;
        let status = phone.register().await?;
        // The binding ends with its connection.
        let _ = phone.socket.close(None).await;
        Ok(status)
    }

    /// A phone that has been there before the attack, and says so again and again.
    async fn registered(&self, end: Instant) -> Tries {
        let mut tries = Tries::default();
        let mut dice = Dice::new(self.seed + 1);
        let who = ("bob", "bob-secret");
        let home = nth(self.homes, HOMES);
        let mut phone = match Phone::connect(&self.place, home, who, &mut dice).await {
            Ok(phone) => phone,
            Err(e) => {
                tries.note(Instant::now(), Err(e));
                return tries;
            }
        };
        while Instant::now() < end {
            let began = Instant::now();
            let answer = phone.register().await;
            let lost = answer.is_err();
            tries.note(began, answer);
            if lost {
                break;
            }
            // A user registers 120 times in a minute at most.
            sleep(Duration::from_millis(3 * self.every)).await;
        }
        tries
    }
}
