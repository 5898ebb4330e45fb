//! What a number costs on one node: each figure at n and at ten times n, each in a process of its
//! own. `cargo bench --bench growth [-- NAME…]` prints the table of the book's report.

mod cluster;
mod core;
mod node;
#[path = "../trunk.rs"]
mod trunk;

use std::process::Command;
use std::time::{Duration, Instant};

/// How a figure should grow when its number does.
#[derive(Clone, Copy)]
enum Growth {
    /// Ten times as much: it is about all of them.
    Tenfold,
    /// Not at all: it is about one among them.
    None,
}

/// One figure of a row.
struct Figure {
    what: &'static str,
    growth: Growth,
    value: f64,
    unit: &'static str,
}

impl Figure {
    /// The time for all of them.
    fn all(what: &'static str, time: Duration) -> Figure {
        Figure { what, growth: Growth::Tenfold, value: time.as_secs_f64() * 1e3, unit: "ms" }
    }

    /// The time for one among them.
    fn one(what: &'static str, time: Duration) -> Figure {
        Figure { what, growth: Growth::None, value: time.as_secs_f64() * 1e6, unit: "µs" }
    }

    /// The longest time that nobody else was served.
    fn stop(what: &'static str, time: Duration) -> Figure {
        Figure { what, growth: Growth::None, value: time.as_secs_f64() * 1e3, unit: "ms" }
    }

    /// Megabytes for all of them.
    fn memory(what: &'static str, bytes: u64) -> Figure {
        Figure { what, growth: Growth::Tenfold, value: bytes as f64 / 1e6, unit: "MB" }
    }
}

/// A row: its name, what it is a number of, n, and how it is measured.
type Row = (&'static str, &'static str, usize, fn(usize) -> Vec<Figure>);

const ROWS: &[Row] = &[
    ("check", "routes", 1_000, core::check),
    ("users", "users", 10_000, node::users),
    ("trunks", "trunks", 1_000, node::trunks),
    ("probes", "trunks", 1_000, core::among_trunks),
    ("bindings", "bindings", 10_000, core::bindings),
    ("held", "calls held", 1_000, core::among_calls),
    ("bound", "users bound", 10_000, core::among_bound),
    ("cluster", "registrations", 10_000, cluster::registrations),
    ("million", "registrations", 100_000, cluster::registrations),
    ("listeners", "listeners", 300, node::listeners),
    ("live", "live calls", 500, node::live_calls),
];

/// How long `work` takes.
fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let began = Instant::now();
    let done = work();
    (began.elapsed(), done)
}

/// The middle of an odd number of measurements.
fn middle(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// Measures a row in a process of its own; a line is one figure.
fn measure(name: &str, n: usize) -> Vec<(String, f64, String, String)> {
    let exe = std::env::current_exe().expect("this program");
    let done = Command::new(exe).args(["--row", name, &n.to_string()]).output().expect("it runs");
    let text = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success(), "{name} {n}: {}", String::from_utf8_lossy(&done.stderr));
    let figure = |line: &str| {
        let fields: Vec<&str> = line.split('\t').collect();
        let [what, value, unit, growth] = fields[..] else { panic!("{line}") };
        (what.to_owned(), value.parse().expect("a number"), unit.to_owned(), growth.to_owned())
    };
    text.lines().map(figure).collect()
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    if let [flag, name, n] = &args[..]
        && flag == "--row"
    {
        let (.., work) = ROWS.iter().find(|r| r.0 == name).expect("a row");
        for f in work(n.parse().expect("a number")) {
            let growth = if matches!(f.growth, Growth::Tenfold) { "10" } else { "1" };
            println!("{}\t{}\t{}\t{growth}", f.what, f.value, f.unit);
        }
        return;
    }
    println!("| | n | at n | at 10 n | ratio | linear is |");
    println!("| --- | --- | --- | --- | --- | --- |");
    for (name, of, n, _) in ROWS.iter().filter(|r| args.is_empty() || args.iter().any(|a| a == r.0))
    {
        let (one, ten) = (measure(name, *n), measure(name, 10 * n));
        for ((what, a, unit, growth), (_, b, ..)) in one.iter().zip(&ten) {
            let ratio = b / a;
            println!(
                "| {what} | {n} {of} | {a:.1} {unit} | {b:.1} {unit} | {ratio:.1} | {growth} |"
            );
        }
    }
}
