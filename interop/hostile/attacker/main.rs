//! The attackers of `make hostile`, and the trunks and the phone that say what an attack does to
//! others. Each command ends by itself and prints one JSON object; `interop/hostile/run.py` starts
//! them in a namespace beside the gateway's.

mod calls;
mod dice;
mod far;
mod flood;
mod forge;
mod guess;
mod phone;
mod place;
mod seats;
mod storm;
mod texts;
mod victim;

use clap::Parser;
use serde_json::Value;
use std::time::Duration;

#[derive(Parser)]
enum Command {
    /// Logs in, calls and talks, and says how that was
    Victim(victim::Victim),
    /// A trunk that answers each call with an echo, until its standard input ends
    Far(far::Far),
    /// Trunk calls at a rate, whatever comes of them
    Calls(calls::Calls),
    /// Requests of strangers, as fast as a number of them is sent
    Flood(flood::Flood),
    /// Connections that take and do not give
    Seats(seats::Seats),
    /// Registered phones that are all cut off, and come back
    Storm(storm::Storm),
    /// Guesses at passwords, or the time an answer takes
    Guess(guess::Guess),
    /// Datagrams at the ports of media, from a stranger's address or a forged one
    Forge(forge::Forge),
}

fn main() -> anyhow::Result<()> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let found: Value = match Command::parse() {
        Command::Far(far) => far.run()?,
        Command::Forge(forge) => forge.run()?,
        Command::Calls(calls) => calls.run()?,
        other => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                match other {
                    Command::Victim(victim) => victim.run().await,
                    Command::Flood(flood) => flood.run().await,
                    Command::Seats(seats) => seats.run().await,
                    Command::Storm(storm) => storm.run().await,
                    Command::Guess(guess) => guess.run().await,
                    Command::Far(_) | Command::Forge(_) | Command::Calls(_) => unreachable!(),
                }
            })?
        }
    };
    println!("{found}");
    Ok(())
}

/// Milliseconds.
fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e5).round() / 100.0
}

/// Number, median, 99th percentile and maximum of what took time, in ms.
fn spread(mut times: Vec<Duration>) -> Value {
    times.sort_unstable();
    let at = |p: usize| times.get((times.len() * p / 100).min(times.len().saturating_sub(1)));
    let at = |p| at(p).copied().map(ms);
    serde_json::json!({ "n": times.len(), "p50": at(50), "p99": at(99), "max": at(100) })
}
