//! Figures of each run, and the table of their medians.

use crate::drive::{self, Load, Outcome};
use crate::peers::Peer;
use std::time::Duration;

/// One load through one peer.
pub struct Row {
    load: &'static str,
    peer: &'static str,
    /// Milliseconds of CPU per call and second.
    cpu: f64,
    /// Packets that did not come out, of a thousand.
    lost: f64,
    p50: Duration,
    p99: Duration,
    /// kB per call.
    memory: f64,
    /// CPU milliseconds per call set up.
    set_up: f64,
}

impl Row {
    /// Sets the calls up, runs them, and looks at what it cost.
    pub fn measure(peer: &mut dyn Peer, load: &Load, time: Duration) -> Row {
        // The first call brings what a process needs once.
        let mut calls = vec![peer.call(0, load)];
        drive::run(load, &mut calls, Duration::from_millis(200));
        let (idle, before) = (peer.memory(), peer.cpu());
        calls.extend((1..load.calls).map(|n| peer.call(n, load)));
        let set_up = (peer.cpu() - before) / (load.calls - 1).max(1) as f64;
        let mut fresh = calls.split_off(1);
        drive::run(load, &mut fresh, Duration::from_millis(500));
        let before = peer.cpu();
        let outcome: Outcome = drive::run(load, &mut fresh, time);
        let call_seconds = fresh.len() as f64 * time.as_secs_f64();
        assert!(load.transcoded || outcome.checked > 0, "the browser got something it could read");
        Row {
            load: load.name,
            peer: peer.name(),
            cpu: (peer.cpu() - before) * 1_000.0 / call_seconds,
            lost: (outcome.sent as f64 - outcome.received as f64) * 1_000.0 / outcome.sent as f64,
            p50: outcome.delay(0.5),
            p99: outcome.delay(0.99),
            memory: (peer.memory() - idle) / fresh.len() as f64,
            set_up: set_up * 1_000.0,
        }
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The table, a line per load and peer, and each load's ratio of calls per core.
pub fn print(rows: &[Row], floor: &Outcome) {
    println!("| load | peer | CPU per call-second | calls per core | lost | delay p50 | delay p99 | memory per call | CPU per set-up |");
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    let mut loads: Vec<&str> = rows.iter().map(|r| r.load).collect();
    loads.dedup();
    loads.sort();
    loads.dedup();
    for load in loads {
        let mut density = Vec::new();
        for peer in ["rtpengine", "webtrunk"] {
            let of = |value: fn(&Row) -> f64| median(rows.iter().filter(|r| r.load == load && r.peer == peer).map(value).collect());
            let cpu = of(|r| r.cpu);
            density.push(1_000.0 / cpu);
            println!(
                "| {load} | {peer} | {cpu:.3} ms | {:.0} | {:.2} ‰ | {:.0} µs | {:.0} µs | {:.0} kB | {:.2} ms |",
                1_000.0 / cpu,
                of(|r| r.lost),
                of(|r| r.p50.as_secs_f64() * 1e6),
                of(|r| r.p99.as_secs_f64() * 1e6),
                of(|r| r.memory),
                of(|r| r.set_up),
            );
        }
        println!("| {load} | **ratio** | | **{:.2}** | | | | | |", density[1] / density[0]);
    }
    println!("\nThe driver's own delay, socket to socket: p50 {:.0} µs, p99 {:.0} µs.", floor.delay(0.5).as_secs_f64() * 1e6, floor.delay(0.99).as_secs_f64() * 1e6);
}
