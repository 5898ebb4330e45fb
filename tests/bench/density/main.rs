//! The media plane beside rtpengine, side by side in one run: the same calls, packets and speech
//! through both.
//!
//! A call is a browser leg of SRTP (AES-128-GCM) and a trunk leg of plain RTP, 50 packets a second
//! each way over loopback. Each peer is a process of its own; its CPU is what the scheduler counts
//! for its threads. First at few calls, then at as many as make four fifths of a core by those
//! figures. Usage: `density SPEECH.wav [--quick | --storm | --quality=FOLDER |
//! --only=PEER:LOAD:CALLS,...]`, the speech as 8 kHz 16-bit mono (`interop/run.sh bench-media`
//! brings it). With `--quality`, what both make of it is left in FOLDER instead; with `--storm`,
//! calls are only set up, as fast as a worker takes them; `--only` is for a profiler.
//! `WEBTRUNK_COMPLEXITY` is libopus's complexity for our encoders, where it is not to be the
//! default.

mod drive;
mod peers;
mod quality;
mod report;
mod speech;

use drive::Load;
use report::Row;
use speech::Speech;
use std::time::Duration;

/// Calls of one run by kind: few enough that the driver, on the other core, keeps its time.
const RELAYED: usize = 500;
const TRANSCODED: usize = 40;
/// The share of a core of the second table, and most calls the driver keeps time for.
const FULL: f64 = 0.8;
const MOST: usize = 900;

/// As in the gateway itself.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    if args.first().is_some_and(|a| a == peers::WORKER) {
        return peers::worker::serve();
    }
    if args.first().is_some_and(|a| a == peers::FLOOR) {
        return peers::floor::serve();
    }
    let Some(wav) = args.iter().find(|a| !a.starts_with("--")) else {
        return println!("density SPEECH.wav [--quick]: see interop/run.sh bench-media");
    };
    if let Some(folder) = args.iter().find_map(|a| a.strip_prefix("--quality=")) {
        let spoken = |loss| Load::transcoded(1, &Speech::read(wav, loss));
        for start in peers::ALL {
            quality::record(start().as_mut(), spoken, "", folder.as_ref());
        }
        let asked = |loss| Load::asked(1, &Speech::read(wav, loss));
        return quality::record(
            &mut peers::worker::Node::start(),
            asked,
            "-asked",
            folder.as_ref(),
        );
    }
    let speech = Speech::read(wav, 0);
    if args.iter().any(|a| a == "--storm") {
        return report::storm(&mut peers::worker::Node::start());
    }
    if let Some(only) = args.iter().find_map(|a| a.strip_prefix("--only=")) {
        let rows: Vec<Row> = only.split(',').map(|run| one(run, &speech)).collect();
        return report::print(&rows);
    }
    let (seconds, rounds) = if args.iter().any(|a| a == "--quick") { (3, 1) } else { (10, 3) };
    let loads = [
        Load::relayed(RELAYED, &speech),
        Load::transcoded(TRANSCODED, &speech),
        Load::asked(TRANSCODED, &speech),
    ];
    let floor = drive::floor(&loads[0], Duration::from_secs(3));
    let time = Duration::from_secs(seconds);
    let mut rows: Vec<Row> = Vec::new();
    for round in 0..rounds {
        for load in &loads {
            let below = (!load.transcoded).then_some(peers::floor as peers::Start);
            for start in peers::ALL.into_iter().chain(below) {
                rows.push(measure(round, start, load, time));
            }
        }
    }
    report::print(&rows);
    report::delay(&floor);
    let mut full: Vec<Row> = Vec::new();
    for round in 0..rounds {
        for load in &loads {
            for start in peers::ALL {
                let name = start().name();
                let calls = (FULL * report::calls_per_core(&rows, load.name, name)) as usize;
                full.push(measure(round, start, &load.of(calls.min(MOST)), time));
            }
        }
    }
    println!();
    report::storm(&mut peers::worker::Node::start());
    println!(
        "\nAt four fifths of a core by those figures, or {MOST} calls, which is what the driver can do:\n"
    );
    report::print(&full);
    for load in &loads {
        let calls = report::calls(&full, load.name, peers::OURS);
        report::delay(&drive::floor(&load.of(calls), Duration::from_secs(3)));
    }
}

/// `PEER:relayed:CALLS`, `PEER:transcoded:CALLS` or `PEER:asked:CALLS`.
fn one(run: &str, speech: &Speech) -> Row {
    let [peer, load, calls] = run.split(':').collect::<Vec<_>>()[..] else {
        panic!("--only=PEER:relayed:CALLS")
    };
    let calls = calls.parse().expect("a number of calls");
    let load = match load {
        "relayed" => Load::relayed(calls, speech),
        "transcoded" => Load::transcoded(calls, speech),
        "asked" => Load::asked(calls, speech),
        other => panic!("{other} is not a load: relayed, transcoded or asked"),
    };
    let start = peers::ALL
        .into_iter()
        .chain([peers::floor as peers::Start])
        .find(|start| start().name() == peer);
    measure(0, start.expect("rtpengine, webtrunk or recv + send"), &load, Duration::from_secs(10))
}

fn measure(round: usize, start: peers::Start, load: &Load, time: Duration) -> Row {
    let mut peer = start();
    eprintln!("round {}: {} calls {} through {}", round + 1, load.calls, load.name, peer.name());
    Row::measure(peer.as_mut(), load, time)
}
