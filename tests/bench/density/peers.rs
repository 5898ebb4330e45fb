//! The media planes, each a process of its own, and how a call is wired through them.

pub(crate) mod floor;
mod rtpengine;
pub(crate) mod worker;

use crate::drive::{self, Load};
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use webtrunk::rtp::srtp::{Profile, Protect, Unprotect};

/// The argument that makes this program the process round a worker.
pub(crate) const WORKER: &str = "--worker";
/// And the one that makes it the floor.
pub(crate) const FLOOR: &str = "--floor";
/// What the floor is called in the tables.
pub(crate) const FLOOR_NAME: &str = "recv + send";
/// What ours is called.
pub(crate) const OURS: &str = "webtrunk";

/// A call's two ends in the driver's hands, connected to the peer's ports.
pub(crate) struct Wired {
    pub browser: UdpSocket,
    pub trunk: UdpSocket,
    pub protect: Protect,
    /// Packets sent so far, each way.
    pub ticks: usize,
    /// None where what comes is not encrypted.
    pub unprotect: Option<Unprotect>,
}

/// A media plane under test.
pub(crate) trait Peer {
    fn name(&self) -> &'static str;
    fn pid(&self) -> u32;
    /// Wires call number `n` for `load`.
    fn call(&mut self, n: usize, load: &Load) -> Wired;

    /// Seconds of CPU so far, of all its threads.
    fn cpu(&self) -> f64 {
        let of = |path: &Path| {
            std::fs::read_to_string(path.join("schedstat"))
                .ok()?
                .split(' ')
                .next()?
                .parse::<f64>()
                .ok()
        };
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.pid())).expect("it runs");
        threads.filter_map(|t| of(&t.ok()?.path())).sum::<f64>() / 1e9
    }

    /// Resident kB.
    fn memory(&self) -> f64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it runs");
        let line = status.lines().find(|l| l.starts_with("VmRSS")).expect("VmRSS");
        line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number")
    }
}

/// How a peer is started.
pub(crate) type Start = fn() -> Box<dyn Peer>;

/// Those compared.
pub(crate) const ALL: [Start; 2] = [rtpengine, webtrunk];

/// What is below both.
pub(crate) fn floor() -> Box<dyn Peer> {
    Box::new(floor::Floor::start())
}

fn rtpengine() -> Box<dyn Peer> {
    Box::new(rtpengine::Rtpengine::start())
}

fn webtrunk() -> Box<dyn Peer> {
    Box::new(worker::Node::start())
}

/// This program once more, as a peer that is commanded by lines.
pub(crate) struct Own {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Own {
    /// Starts it with `argument`.
    pub(crate) fn start(argument: &str) -> Own {
        let own = std::env::current_exe().expect("this program");
        let mut child = on_its_core(own)
            .arg(argument)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a child");
        let (orders, answers) = (
            child.stdin.take().expect("piped"),
            BufReader::new(child.stdout.take().expect("piped")),
        );
        Own { child, orders, answers }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Tells it a line; returns the words of its answer.
    pub(crate) fn ask(&mut self, order: &str) -> Vec<String> {
        writeln!(self.orders, "{order}").expect("written");
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("an answer");
        line.split_whitespace().map(str::to_owned).collect()
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port on loopback, as a word of an order or an answer.
pub(crate) fn at(port: &str) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port.parse::<u16>().expect("a port")))
}

/// A process held to the first core. The driver has the second (`bench.sh` sees to it): where the
/// scheduler may put both on one, packets pile up and are handled in bursts, and each run costs
/// something else.
fn on_its_core(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", "0"]).arg(program);
    command
}

/// A call from the driver to itself.
pub(crate) fn looped() -> Wired {
    let (browser, trunk) = (drive::socket(), drive::socket());
    browser.connect(trunk.local_addr().expect("bound")).expect("connected");
    trunk.connect(browser.local_addr().expect("bound")).expect("connected");
    Wired {
        browser,
        trunk,
        protect: Protect::new(Profile::AeadAes128Gcm, &[7; 16], &[7; 12]),
        ticks: 0,
        unprotect: None,
    }
}
