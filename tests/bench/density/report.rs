//! Figures of each run, and the table of their medians.

use crate::drive::{self, Load, Outcome};
use crate::peers::worker::Node;
use crate::peers::{FLOOR_NAME, OURS, Peer};
use std::time::Duration;

/// One load through one peer.
pub(crate) struct Row {
    load: &'static str,
    peer: &'static str,
    calls: usize,
    /// Milliseconds of CPU per call and second.
    cpu: f64,
    /// Packets that did not come out, of a thousand.
    lost: f64,
    p50: Duration,
    p99: Duration,
    /// Of the middle second.
    second: Duration,
    /// kB per call.
    memory: f64,
    /// CPU milliseconds per call set up.
    set_up: f64,
}

impl Row {
    /// Sets the calls up, runs them, and looks at what it cost.
    pub(crate) fn measure(peer: &mut dyn Peer, load: &Load, time: Duration) -> Row {
        let load = &load.through(peer.name());
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
        let keys = fresh.iter().any(|c| c.unprotect.is_some());
        assert!(
            load.transcoded || !keys || outcome.checked > 0,
            "the browser got something it could read"
        );
        Row {
            load: load.name,
            peer: peer.name(),
            calls: fresh.len(),
            cpu: (peer.cpu() - before) * 1_000.0 / call_seconds,
            lost: (outcome.sent as f64 - outcome.received as f64) * 1_000.0 / outcome.sent as f64,
            p50: outcome.delay(0.5),
            p99: outcome.delay(0.99),
            second: outcome.delay_of_a_second(0.99),
            memory: (peer.memory() - idle) / fresh.len() as f64,
            set_up: set_up * 1_000.0,
        }
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn of(rows: &[Row], load: &str, peer: &str, value: fn(&Row) -> f64) -> f64 {
    median(rows.iter().filter(|r| r.load == load && r.peer == peer).map(value).collect())
}

/// Calls one core carries, by a peer's CPU per call.
pub(crate) fn calls_per_core(rows: &[Row], load: &str, peer: &str) -> f64 {
    1_000.0 / of(rows, load, peer, |r| r.cpu)
}

/// Calls of a peer's runs.
pub(crate) fn calls(rows: &[Row], load: &str, peer: &str) -> usize {
    of(rows, load, peer, |r| r.calls as f64) as usize
}

/// The table, a line per load and peer, and each load's ratio of calls per core.
pub(crate) fn print(rows: &[Row]) {
    println!(
        "| load | peer | calls | CPU per call-second | calls per core | lost | delay p50 | p99 of the middle second | p99 of all | memory per call | CPU per set-up |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    let mut loads: Vec<&str> = rows.iter().map(|r| r.load).collect();
    loads.sort_unstable();
    loads.dedup();
    for load in loads {
        for peer in ["rtpengine", OURS, FLOOR_NAME] {
            if !rows.iter().any(|r| r.load == load && r.peer == peer) {
                continue;
            }
            let of = |value: fn(&Row) -> f64| of(rows, load, peer, value);
            println!(
                "| {load} | {peer} | {} | {:.3} ms | {:.0} | {:.2} ‰ | {:.0} µs | {:.0} µs | {:.0} µs | {:.0} kB | {:.2} ms |",
                of(|r| r.calls as f64),
                of(|r| r.cpu),
                calls_per_core(rows, load, peer),
                of(|r| r.lost),
                of(|r| r.p50.as_secs_f64() * 1e6),
                of(|r| r.second.as_secs_f64() * 1e6),
                of(|r| r.p99.as_secs_f64() * 1e6),
                of(|r| r.memory),
                of(|r| r.set_up),
            );
        }
        let ratio = calls_per_core(rows, load, OURS) / calls_per_core(rows, load, "rtpengine");
        println!("| {load} | **ratio** | | | **{ratio:.2}** | | | | | | |");
    }
}

/// Sets up as many calls as fast as a worker takes them, and says how fast that was.
pub(crate) fn storm(node: &mut Node) {
    const CALLS: usize = 3_000;
    const AT_ONCE: usize = 64;
    let storm = node.storm(CALLS, AT_ONCE);
    let (taken, each) = (storm.taken.as_secs_f64(), storm.cpu * 1_000.0 / storm.calls as f64);
    println!(
        "Set up flat out, ICE and DTLS, {AT_ONCE} under way at any time: {} of {CALLS} calls in {taken:.2} s, {:.0} a second, {each:.2} ms of CPU each: {:.0} a second on a whole core.",
        storm.calls,
        storm.calls as f64 / taken,
        1_000.0 / each
    );
}

/// What the driver itself adds.
pub(crate) fn delay(floor: &Outcome) {
    let us = |share| floor.delay(share).as_secs_f64() * 1e6;
    println!(
        "\nThe driver's own delay at this load, socket to socket: p50 {:.0} µs, p99 {:.0} µs.",
        us(0.5),
        us(0.99)
    );
}
