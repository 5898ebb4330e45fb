//! The media plane beside rtpengine, side by side in one run: the same calls, packets and speech through both.
//!
//! A call is a browser leg of SRTP (AES-128-GCM) and a trunk leg of plain RTP, 50 packets a second each way over
//! loopback. Each peer is a process of its own; its CPU is what the scheduler counts for its threads. Usage:
//! `density SPEECH.wav [--quick | --quality=FOLDER]`, the speech as 8 kHz 16-bit
//! mono (`interop/run.sh bench-media` brings it). With `--quality`, what both make of it is left in FOLDER instead.

mod drive;
mod peers;
mod quality;
mod report;
mod speech;

use drive::Load;
use report::Row;
use std::time::Duration;

/// Calls of one run by kind: few enough that the driver, on the other core, keeps its time.
const RELAYED: usize = 500;
const TRANSCODED: usize = 40;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    if args.first().is_some_and(|a| a == peers::WORKER) {
        return peers::worker::serve();
    }
    let Some(wav) = args.iter().find(|a| !a.starts_with("--")) else {
        return println!("density SPEECH.wav [--quick]: see interop/run.sh bench-media");
    };
    let speech = speech::Speech::read(wav);
    if let Some(folder) = args.iter().find_map(|a| a.strip_prefix("--quality=")) {
        let load = Load::transcoded(1, &speech);
        for start in peers::ALL {
            quality::record(start().as_mut(), &load, folder.as_ref());
        }
        return;
    }
    let (seconds, rounds) = if args.iter().any(|a| a == "--quick") { (3, 1) } else { (10, 3) };
    let loads = [Load::relayed(RELAYED, &speech), Load::transcoded(TRANSCODED, &speech)];
    let floor = drive::floor(&loads[0], Duration::from_secs(3));
    let mut rows: Vec<Row> = Vec::new();
    for round in 0..rounds {
        for load in &loads {
            for start in peers::ALL {
                let mut peer = start();
                eprintln!("round {} of {rounds}: {} calls {} through {}", round + 1, load.calls, load.name, peer.name());
                rows.push(Row::measure(peer.as_mut(), load, Duration::from_secs(seconds)));
            }
        }
    }
    report::print(&rows, &floor);
}
