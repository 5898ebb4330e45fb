//! A media worker of ours in a process of its own: commanded by lines on its standard input, as a
//! call commands it.

#[path = "../../../media/agreed.rs"]
mod agreed;

use super::{Own, Peer, WORKER, Wired, at};
use crate::drive::{self, Load};
use agreed::agreed;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};
use webtrunk::codec::Codec;
use webtrunk::media::dtls::{DtlsIdentity, DtlsKeys, Handshake};
use webtrunk::media::stun::binding_request;
use webtrunk::media::{EndpointSettings, LegId};
use webtrunk::sdp::description::Fingerprint;
use webtrunk::sdp::offer_answer::{Ice, Remote};
use webtrunk::worker::ports::PortRange;
use webtrunk::worker::{Notice, OpenKind, Streamed, Worker, WorkerCommand, WorkerSetup};

const BROWSER: LegId = LegId(0);
const TRUNK: LegId = LegId(1);
const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

const PASSWORD: &str = "a-password-of-enough-bytes";

fn ice(ufrag: String) -> Ice {
    Ice { ufrag, pwd: PASSWORD.into() }
}

/// The bytes of `AB:CD:…`.
fn fingerprint(text: &str) -> Fingerprint {
    let bytes: Vec<u8> = text.split(':').map(|b| u8::from_str_radix(b, 16).expect("hex")).collect();
    bytes.try_into().expect("sha-256")
}

fn settings(codec: Codec, remote: Remote) -> Box<EndpointSettings> {
    // media.complexity as it is where nobody sets it.
    let complexity = std::env::var("WEBTRUNK_COMPLEXITY")
        .map_or(webtrunk::codec::opus::COMPLEXITY, |c| c.parse().expect("a number"));
    Box::new(agreed(codec, remote, complexity))
}

/// The child: `transcoded session trunk-port fingerprint` in, `browser-port trunk-port fingerprint`
/// out.
pub(crate) fn serve() {
    let identity = Arc::new(DtlsIdentity::generate().expect("a certificate"));
    let ports = Arc::new(PortRange::new(LOCAL, 40_000..=49_999, 7));
    let browser = SocketAddr::new(LOCAL, 0);
    let setup = WorkerSetup::new("media-0", browser, Streamed::No, ports, identity.clone());
    let worker = Worker::start(setup, |_, _| {}).expect("a worker");
    for line in std::io::stdin().lines() {
        let line = line.expect("a line");
        let words: Vec<&str> = line.split(' ').collect();
        let [transcoded, session, trunk, theirs] = words.as_slice() else { return };
        let session: u64 = session.parse().expect("a number");
        let open = |end, kind| {
            let opened = worker.command(WorkerCommand::Open {
                session,
                end,
                kind,
                ssrc: 5,
                cname: "density".into(),
                seed: session,
            });
            let Ok(Some(Notice::Opened { address, .. })) = opened else { panic!("{opened:?}") };
            address.port()
        };
        let ours = ice(format!("us{session}"));
        let browser_port = open(BROWSER, OpenKind::Browser { ice: ours.clone() });
        let trunk_port = open(TRUNK, OpenKind::Trunk { nat: false });
        let trunk = SocketAddr::new(LOCAL, trunk.parse().expect("a port"));
        let remote = Remote::Dtls {
            ice: ice("them".into()),
            local_ice: ours,
            fingerprints: vec![fingerprint(theirs)],
            active: false,
            tls_id: None,
        };
        let codec = if *transcoded == "1" { Codec::Opus } else { Codec::Pcmu };
        let commands = [
            WorkerCommand::Configure { session, end: BROWSER, settings: settings(codec, remote) },
            WorkerCommand::Configure {
                session,
                end: TRUNK,
                settings: settings(
                    Codec::Pcmu,
                    Remote::Rtp { rtp: trunk, rtcp: SocketAddr::new(LOCAL, 9), sdes: None },
                ),
            },
            WorkerCommand::Bridge { session, a: BROWSER, b: TRUNK },
        ];
        commands.into_iter().for_each(|c| drop(worker.command(c).expect("it keeps up")));
        worker.wake();
        println!("{browser_port} {trunk_port} {}", identity.fingerprint);
    }
}

/// The child in the driver's hands.
pub(crate) struct Node {
    child: Own,
    identity: Arc<DtlsIdentity>,
}

impl Node {
    pub(crate) fn start() -> Node {
        Node {
            child: Own::start(WORKER),
            identity: Arc::new(DtlsIdentity::generate().expect("a certificate")),
        }
    }
}

impl Peer for Node {
    fn name(&self) -> &'static str {
        super::OURS
    }

    fn pid(&self) -> u32 {
        self.child.pid()
    }

    fn call(&mut self, n: usize, load: &Load) -> Wired {
        let mut shaking = self.begin(n, load.transcoded);
        shaking.browser.set_nonblocking(false).expect("blocking");
        shaking.browser.set_read_timeout(Some(Duration::from_millis(1))).expect("a timeout");
        while !shaking.is_done() {}
        shaking.browser.set_nonblocking(true).expect("non-blocking again");
        shaking.wired()
    }
}

/// What came of many calls set up at once.
pub(crate) struct Storm {
    pub calls: usize,
    pub taken: Duration,
    /// Seconds of the worker's CPU.
    pub cpu: f64,
}

impl Node {
    /// Opens call `n` and sends its first check.
    fn begin(&mut self, n: usize, transcoded: bool) -> Shaking {
        let (browser, trunk) = (drive::socket(), drive::socket());
        let port = trunk.local_addr().expect("bound").port();
        let words = self.child.ask(&format!(
            "{} {n} {port} {}",
            u8::from(transcoded),
            self.identity.fingerprint
        ));
        browser.connect(at(&words[0])).expect("connected");
        trunk.connect(at(&words[1])).expect("connected");
        let check = binding_request([n as u8; 12], &format!("us{n}:them"), PASSWORD, true);
        let client = Handshake::new(self.identity.clone(), vec![fingerprint(&words[2])]);
        let now = Instant::now();
        Shaking {
            client,
            browser,
            trunk,
            check,
            begun: now,
            next_check: now,
            started: false,
            keys: None,
        }
    }

    /// Sets up `calls` calls as fast as it takes them, `at_once` under way at any time.
    pub(crate) fn storm(&mut self, calls: usize, at_once: usize) -> Storm {
        let (start, before) = (Instant::now(), self.cpu());
        let (mut begun, mut under_way, mut done) = (0, Vec::new(), Vec::new());
        while done.len() < calls {
            while under_way.len() < at_once && begun < calls {
                under_way.push(self.begin(begun, false));
                begun += 1;
            }
            done.extend(under_way.extract_if(.., Shaking::is_done).map(Shaking::wired));
        }
        Storm { calls, taken: start.elapsed(), cpu: self.cpu() - before }
    }
}

/// When a check that was not answered is sent again.
const AGAIN: Duration = Duration::from_millis(20);

/// A call whose ICE has begun: DTLS as the browser does it, until there are keys.
struct Shaking {
    client: Handshake,
    browser: UdpSocket,
    trunk: UdpSocket,
    check: Vec<u8>,
    begun: Instant,
    /// A check that comes before the worker knows the call is lost, as any may be.
    next_check: Instant,
    started: bool,
    keys: Option<DtlsKeys>,
}

impl Shaking {
    /// Takes one datagram, if there is one. Whether there are keys.
    fn is_done(&mut self) -> bool {
        let now = Instant::now();
        assert!(now < self.begun + Duration::from_secs(5), "DTLS does not finish");
        let browser = &self.browser;
        let mut send = |bytes: &[u8]| drop(browser.send(bytes));
        if !self.started && now >= self.next_check {
            send(&self.check);
            self.next_check = now + AGAIN;
        }
        let mut buf = [0u8; 2_048];
        match browser.recv(&mut buf) {
            // The answer to the check: the address is validated, so DTLS is heard.
            Ok(_) if buf[0] < 2 && !self.started => {
                self.started = true;
                self.client.start(now, &mut send);
            }
            Ok(len) if (20..64).contains(&buf[0]) => {
                self.keys =
                    self.client.receive(now, &buf[..len], &mut send).expect("a sound handshake");
                if self.keys.is_some() {
                    return true;
                }
            }
            Ok(_) => {}
            // Nothing yet: a retransmission may be due.
            Err(_) => {}
        }
        self.client.fire(now, &mut send).expect("time is left");
        false
    }

    fn wired(self) -> Wired {
        let keys = self.keys.expect("it is done");
        Wired {
            browser: self.browser,
            trunk: self.trunk,
            protect: keys.protect,
            ticks: 0,
            unprotect: Some(keys.unprotect),
        }
    }
}
