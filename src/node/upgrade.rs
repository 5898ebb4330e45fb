//! The predecessor's side of an upgrade: it starts its successor, gives it its sockets and calls,
//! and continues if the successor does not come up.
//!
//! Until the successor has read every call, nothing is lost by its failure: core and workers only
//! stand still. Then there is one moment, [`LinkMessage::Go`], after which they never send again.

use super::RECORDS;
use super::core::Core;
use crate::api::ApiState;
use crate::api::socket::LinkDoor;
use crate::errors::Code;
use crate::gateway::restore::LateRequest;
use crate::gateway::{Gateway, Input};
use crate::handover::{HandOver, HandedCalls, HandedOver, Link, LinkFrame, LinkMessage, PROTOCOL};
use crate::transport::{Arrival, Queued};
use crate::worker::{FrozenSessions, HandedStream, Kept, Worker};
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// What tells a successor whose place it takes.
const TAKE_OVER: &str = "--take-over";
/// Set for a process whose parent stays only to wait for it.
pub const GUARDED: &str = "WEBTRUNK_GUARDED";
/// For a process to come up so far that it says its name.
const HELLO: Duration = Duration::from_secs(15);
/// For it to check its configuration, and to bind what it does not get from us.
const READY: Duration = Duration::from_secs(60);
/// For a worker to write down its sessions.
const FREEZE: Duration = Duration::from_secs(1);
/// For the successor to read all calls, while nobody hears anything.
const TAKEN: Duration = Duration::from_secs(2);
/// The longest time the core is stopped for that.
const STILL: Duration = Duration::from_secs(3);
/// For the successor to serve; the calls are its own by then.
const SERVING: Duration = Duration::from_secs(30);
/// Between two looks whether a call still rings.
const LOOK: Duration = Duration::from_millis(50);
/// How long calls that ring are waited for, unless somebody says.
const SETTLE: Duration = Duration::from_secs(10);

/// The process that has the calls now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Successor {
    /// The process id.
    pub pid: u32,
    /// It was started by this process.
    pub child: bool,
}

/// How far an upgrade has come; it only goes forward.
#[derive(Clone, PartialEq, Eq, Debug)]
enum UpgradeProgress {
    Serving,
    /// The calls are the successor's; this process is to let go of the rest, and to end.
    Gone(Successor),
    Released,
    /// The successor serves, or why it does not.
    Over(Result<(), String>),
}

/// A link of the process that was started, once it comes.
type Expected = (u32, oneshot::Sender<(Link, LinkMessage)>);

const UNDER_WAY: &str = "another upgrade is under way";

/// Gives the place of this process to another.
pub(super) struct Upgrader {
    /// Leads to the core.
    pub(super) api: ApiState,
    /// The path of the control socket.
    pub(super) control: PathBuf,
    /// What the process listens on, by name.
    pub(super) listening: Vec<(String, OwnedFd)>,
    /// The workers' sockets, by the workers' names.
    pub(super) workers: Vec<(String, Kept)>,
    /// The certificate that browsers are shown, and its key, in PEM.
    pub(super) certificate: String,
    busy: tokio::sync::Mutex<()>,
    expected: Mutex<Option<Expected>>,
    progress: watch::Sender<UpgradeProgress>,
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, String> {
    spawn_blocking(work).await.map_err(|e| e.to_string())?.map_err(|e| e.to_string())
}

async fn receive(link: &Link, patience: Duration) -> Result<LinkFrame, String> {
    let link = link.try_clone().map_err(|e| e.to_string())?;
    blocking(move || link.receive(patience)).await
}

/// What was received, if it is what was waited for.
async fn expect(link: &Link, wanted: &LinkMessage, patience: Duration) -> Result<(), String> {
    match receive(link, patience).await {
        Ok(LinkFrame { message, .. }) if message == *wanted => Ok(()),
        Ok(LinkFrame { message: LinkMessage::Refused { why }, .. }) => Err(why),
        Ok(LinkFrame { message, .. }) => Err(format!("the new process says {message}")),
        Err(why) => Err(format!("the new process is gone or hangs ({why})")),
    }
}

/// The binary that is at the place of ours now: this one may have been replaced.
fn own_binary() -> io::Result<PathBuf> {
    let running = std::env::current_exe()?;
    Ok(binary(std::env::args_os().next(), &running))
}

/// What is to be started in the place of `running`, which was started by this name. Where the name
/// is a link, it may lead to another version now.
fn binary(started_as: Option<OsString>, running: &Path) -> PathBuf {
    let named = started_as.map(PathBuf::from).filter(|path| path.is_absolute() && path.is_file());
    named.unwrap_or_else(|| {
        let text = running.to_string_lossy();
        text.strip_suffix(" (deleted)").map_or_else(|| running.to_owned(), PathBuf::from)
    })
}

/// The arguments of this process, for one that takes its place.
fn arguments(own: impl Iterator<Item = OsString>, control: &Path) -> Vec<OsString> {
    let (mut arguments, mut own) = (Vec::new(), own);
    while let Some(argument) = own.next() {
        if argument == TAKE_OVER {
            own.next();
        } else if !argument.to_string_lossy().starts_with(&format!("{TAKE_OVER}=")) {
            arguments.push(argument);
        }
    }
    arguments.extend([TAKE_OVER.into(), control.into()]);
    arguments
}

/// What answers on links of the control socket.
pub(super) fn door(upgrader: Option<Arc<Upgrader>>) -> LinkDoor {
    Arc::new(move |link: Link| match upgrader.clone() {
        Some(upgrader) => drop(tokio::spawn(upgrader.meet(link))),
        None => link.refuse("this gateway was started without a configuration file"),
    })
}

impl Upgrader {
    pub(super) fn new(
        api: ApiState,
        control: PathBuf,
        listening: Vec<(String, OwnedFd)>,
        workers: Vec<(String, Kept)>,
        certificate: String,
    ) -> Upgrader {
        let (busy, expected) = (tokio::sync::Mutex::default(), Mutex::default());
        let (progress, _) = watch::channel(UpgradeProgress::Serving);
        Upgrader { api, control, listening, workers, certificate, busy, expected, progress }
    }

    /// Answers on a link until it is done with.
    pub(super) async fn meet(self: Arc<Self>, link: Link) {
        let first = receive(&link, HELLO).await;
        match first.map(|delivery| delivery.message) {
            Ok(LinkMessage::Hello { .. } | LinkMessage::Upgrade { binary: Some(_), .. })
                if !link.is_trusted() =>
            {
                link.refuse("only root and the gateway's own user may do that");
            }
            Ok(LinkMessage::Upgrade { binary, wait_ms }) => {
                let wait = Duration::from_millis(wait_ms);
                // To its end, whoever goes away meanwhile.
                let own = self.clone();
                let done = tokio::spawn(async move { own.upgrade(binary, wait).await }).await;
                let done = done.map_err(|e| e.to_string()).and_then(|done| done);
                match &done {
                    Ok(upgraded) => drop(link.say(upgraded)),
                    Err(why) => link.refuse(why),
                }
                self.over(done.map(drop));
            }
            Ok(hello @ LinkMessage::Hello { .. }) => self.meet_successor(link, hello).await,
            Ok(other) => link.refuse(&format!("{other} is not understood")),
            Err(why) => link.refuse(&why),
        }
    }

    async fn meet_successor(self: Arc<Self>, link: Link, hello: LinkMessage) {
        let expected = self.expect(None);
        if let Some((pid, came)) = expected {
            if link.peer() == Some(pid) {
                // Whoever started it does the rest.
                return drop(came.send((link, hello)));
            }
            self.expect(Some((pid, came)));
        }
        let Ok(_busy) = self.busy.try_lock() else { return link.refuse(UNDER_WAY) };
        let Some(pid) = link.peer() else { return link.refuse("nobody knows its process") };
        let who = Successor { pid, child: false };
        let given = self.give(&link, hello, SETTLE, who).await;
        if let Err(why) = &given {
            tracing::warn!(code = %Code::UPGRADE, "no upgrade: {why}");
            link.refuse(why);
        }
        self.over(given.map(drop));
    }

    /// Waits for the link of another process; returns whose was waited for before.
    fn expect(&self, expected: Option<Expected>) -> Option<Expected> {
        std::mem::replace(
            &mut *self.expected.lock().unwrap_or_else(PoisonError::into_inner),
            expected,
        )
    }

    /// Whoever asked for an upgrade knows its outcome; if the calls are gone, this process may end.
    fn over(&self, served: Result<(), String>) {
        self.progress.send_if_modified(|progress| {
            let released = *progress == UpgradeProgress::Released;
            if released {
                *progress = UpgradeProgress::Over(served);
            }
            released
        });
    }

    /// Starts a successor and gives it our place.
    async fn upgrade(
        self: Arc<Self>,
        binary: Option<PathBuf>,
        wait: Duration,
    ) -> Result<LinkMessage, String> {
        let Ok(_busy) = self.busy.try_lock() else { return Err(UNDER_WAY.to_owned()) };
        let done = self.start_and_give(binary, wait).await;
        self.expect(None);
        done.inspect_err(|why| tracing::warn!(code = %Code::UPGRADE, "no upgrade: {why}"))
    }

    async fn start_and_give(
        &self,
        binary: Option<PathBuf>,
        wait: Duration,
    ) -> Result<LinkMessage, String> {
        let binary = binary.map_or_else(own_binary, Ok).map_err(|e| e.to_string())?;
        let cannot = |e: io::Error| format!("{} cannot be started: {e}", binary.display());
        let mut child = Command::new(&binary)
            .args(arguments(std::env::args_os().skip(1), &self.control))
            .env(GUARDED, "1")
            .env_remove("LISTEN_FDNAMES")
            .stdin(Stdio::null())
            .spawn()
            .map_err(cannot)?;
        let (came, coming) = oneshot::channel();
        let who = Successor { pid: child.id(), child: true };
        self.expect(Some((child.id(), came)));
        let met = tokio::select! {
            met = timeout(HELLO, coming) => met.map_err(|_| "it says nothing".to_owned()),
            why = ended(&mut child) => Err(why),
        };
        let given = match met {
            Ok(Ok((link, hello))) => match self.give(&link, hello, wait, who).await {
                Err(why) => {
                    link.refuse(&why);
                    Err(why)
                }
                given => given,
            },
            Ok(Err(_)) => Err("it is no longer waited for".to_owned()),
            Err(why) => Err(format!("{} does not come up: {why}", binary.display())),
        };
        if given.is_err() {
            // Most have ended on their own, with the reason in the log.
            let _ = spawn_blocking(move || child.kill().and_then(|()| child.wait())).await;
        }
        given
    }

    /// What the process listens on, once more and by name.
    pub(super) fn sockets(&self) -> Vec<(String, OwnedFd)> {
        let again = |(name, socket): &(String, OwnedFd)| {
            Some((name.clone(), socket.as_fd().try_clone_to_owned().ok()?))
        };
        let mut sockets: Vec<_> = self.listening.iter().filter_map(again).collect();
        for (name, kept) in &self.workers {
            let listener = kept.listener().map(|l| (format!("{name}-tcp"), OwnedFd::from(l)));
            sockets.extend(kept.browsers().map(|s| (name.clone(), OwnedFd::from(s))));
            sockets.extend(listener);
        }
        sockets
    }

    /// Gives a successor everything, in turn.
    async fn give(
        &self,
        link: &Link,
        hello: LinkMessage,
        wait: Duration,
        who: Successor,
    ) -> Result<LinkMessage, String> {
        let version = understood(hello)?;
        let sockets = self.sockets();
        let names = sockets.iter().map(|(name, _)| name.clone()).collect();
        let all: Vec<BorrowedFd<'_>> = sockets.iter().map(|(_, socket)| socket.as_fd()).collect();
        let own = env!("CARGO_PKG_VERSION").to_owned();
        let node = self.api.ask(|gateway, _| gateway.cluster().map(|c| c.node().to_owned()));
        let node = node.await.map_err(|e| e.detail)?;
        let offer = LinkMessage::Sockets { version: own, names, node };
        link.send(&offer, self.certificate.as_bytes(), &all)
            .map_err(|e| format!("the new process is gone: {e}"))?;
        expect(link, &LinkMessage::Ready, READY).await?;
        let calls = match self.settle_and_give(link, wait, &who).await {
            Ok(calls) => calls,
            Err(why) => {
                let _ = self.api.ask(|gateway, _| gateway.refuse_for_upgrade(false)).await;
                return Err(why);
            }
        };
        // The successor's from here on. This process lets go of its files before the successor gets
        // the message.
        let mut progress = self.progress.subscribe();
        self.progress.send_replace(UpgradeProgress::Gone(who.clone()));
        let _ = progress.wait_for(|p| *p == UpgradeProgress::Released).await;
        let served = match link.say(&LinkMessage::Released) {
            Ok(()) => expect(link, &LinkMessage::Serving, SERVING).await,
            Err(e) => Err(e.to_string()),
        };
        served.map_err(|why| format!("it has the calls, but does not serve: {why}"))?;
        Ok(LinkMessage::Upgraded { version, pid: who.pid, calls })
    }

    /// Waits for calls that ring, and gives the successor all of them. An error: all continues
    /// here.
    async fn settle_and_give(
        &self,
        link: &Link,
        wait: Duration,
        who: &Successor,
    ) -> Result<usize, String> {
        let asked = |e: crate::api::Problem| e.detail;
        self.api.ask(|gateway, _| gateway.refuse_for_upgrade(true)).await.map_err(asked)?;
        let until = Instant::now() + wait;
        let waits = |gateway: &Gateway| gateway.unsettled() > 0 || gateway.keeps_back();
        while self.api.ask(move |gateway, _| waits(&*gateway)).await.map_err(asked)?
            && Instant::now() < until
        {
            tokio::time::sleep(LOOK).await;
        }
        let may = self.api.ask(|gateway, turn| gateway.may_hand_over(turn.now)).await;
        may.map_err(asked)??;
        let (tell, answer) = oneshot::channel();
        let (taken, commit) = oneshot::channel();
        let began = Instant::now();
        let asks = HandOver { tell, taken: commit };
        self.api.inbox.give(Arrival::HandOver(asks)).await;
        let stopped = |_| "the gateway is stopping".to_owned();
        let given: HandedOver = answer
            .await
            .map_err(stopped)?
            .map_err(|e| format!("the calls cannot be given: {e}"))?;
        let count = given.calls.calls.len();
        let sending = link.try_clone().map_err(|e| e.to_string())?;
        // Closing what was sent takes as long as sending it: not before the successor may begin.
        let sent = blocking(move || {
            send_calls(&sending, &given)?;
            Ok(given)
        });
        let sent = sent.await?;
        expect(link, &LinkMessage::Taken, TAKEN).await?;
        let (ack, acked) = oneshot::channel();
        let late = "the new process took too long to read the calls".to_owned();
        taken.send(ack).map_err(|_| late.clone())?;
        let late: Vec<LateRequest> = acked.await.map_err(|_| late)?;
        // Whether this arrives or not: nothing is ever sent from here again.
        let _ = link.send(&LinkMessage::Go, &super::checkpoint::encoded(&late), &[]);
        let stood = began.elapsed();
        drop(spawn_blocking(move || drop(sent)));
        tracing::info!("{count} calls go to process {} after {stood:.1?}", who.pid);
        Ok(count)
    }

    /// The successor, once the calls are its own.
    pub(super) fn successor(&self) -> Option<Successor> {
        match &*self.progress.borrow() {
            UpgradeProgress::Gone(who) => Some(who.clone()),
            _ => None,
        }
    }

    /// Waits until the calls are a successor's.
    pub(super) async fn gone(&self) -> Option<Successor> {
        let mut progress = self.progress.subscribe();
        let gone = progress.wait_for(|p| matches!(p, UpgradeProgress::Gone(_))).await;
        drop(gone);
        self.successor()
    }

    /// This process has let go of its files. Waits until the successor serves.
    ///
    /// # Errors
    /// It does not serve, and why.
    pub(super) async fn released(&self) -> Result<(), String> {
        self.progress.send_replace(UpgradeProgress::Released);
        let mut progress = self.progress.subscribe();
        match progress.wait_for(|p| matches!(p, UpgradeProgress::Over(_))).await.as_deref() {
            Ok(UpgradeProgress::Over(served)) => served.clone(),
            _ => Err("nobody waits for it".to_owned()),
        }
    }
}

/// What version a successor has, if it can take our place.
fn understood(hello: LinkMessage) -> Result<String, String> {
    let LinkMessage::Hello { protocol, version, reads } = hello else {
        return Err(format!("the new process says {hello}"));
    };
    if protocol != PROTOCOL {
        return Err(format!(
            "version {version} hands over by protocol {protocol}, this one by {PROTOCOL}: drain \
             and restart instead"
        ));
    }
    if !reads.contains(&RECORDS) {
        let reads = reads.iter().map(u16::to_string).collect::<Vec<_>>().join(", ");
        return Err(format!(
            "version {version} reads calls of format {reads}, and this one writes {RECORDS}: \
             drain and restart instead"
        ));
    }
    Ok(version)
}

/// How a process ended, once it has.
async fn ended(child: &mut Child) -> String {
    loop {
        match child.try_wait() {
            Ok(None) => tokio::time::sleep(LOOK).await,
            Ok(Some(status)) => return format!("it ended with {status}; its log says why"),
            Err(e) => return e.to_string(),
        }
    }
}

fn send_calls(link: &Link, given: &HandedOver) -> io::Result<()> {
    let bytes = postcard::to_stdvec(&given.calls).map_err(io::Error::other)?;
    let pairs = given.pairs.iter().flat_map(|pair| [pair.rtp.as_fd(), pair.rtcp.as_fd()]);
    let sockets: Vec<BorrowedFd<'_>> =
        pairs.chain(given.streams.iter().map(OwnedFd::as_fd)).collect();
    let ports = given.pairs.iter().map(|pair| pair.port).collect();
    let (taken, former) = (given.taken.clone(), given.former.clone());
    let message = LinkMessage::Calls { draining: given.draining, ports, taken, former };
    link.send(&message, &bytes, &sockets)
}

impl Core {
    /// Gives all calls to a successor. Returns false if nobody took them, and all continues.
    pub(super) async fn hand_over(
        &mut self,
        asked: HandOver,
        arrivals: &mut mpsc::Receiver<Queued>,
    ) -> bool {
        let mut out = Vec::new();
        self.take_waiting(super::start::CORE_QUEUE, arrivals, &mut out);
        // Most are the same when nobody hears anything any more.
        let before = self.gateway.all_calls(Instant::now(), Vec::new());
        let frozen = self.freeze();
        // What workers said last, and what has come by connections.
        self.take_waiting(super::start::CORE_QUEUE, arrivals, &mut out);
        let given = frozen.map(|FrozenSessions { sessions, pairs, streams }| {
            let calls = self.gateway.all_calls(Instant::now(), before);
            let (streams, sockets) = streams.into_iter().unzip();
            let taken = crate::boot::uptime();
            let calls = HandedCalls { taken, calls, media: sessions, streams };
            let draining = self.gateway.gauges().draining;
            let taken = self.gateway.taken_processes();
            let former = self.gateway.former_processes();
            HandedOver { calls, draining, taken, former, pairs, streams: sockets }
        });
        let possible = given.is_ok();
        // It may have waited for a worker, and waits for the successor now.
        self.pulse.beat(Instant::now());
        if asked.tell.send(given).is_ok()
            && possible
            && let Ok(Ok(ack)) = timeout(STILL, asked.taken).await
        {
            let late = self.late_requests(arrivals);
            // Before the successor may read what is there.
            self.put_last();
            if ack.send(late).is_ok() {
                self.inbox.leave();
                return true;
            }
        }
        self.workers.iter().for_each(Worker::thaw);
        false
    }

    /// Requests within calls that came by connections meanwhile. A connection is not repeated on,
    /// so they would be lost.
    fn late_requests(&self, arrivals: &mut mpsc::Receiver<Queued>) -> Vec<LateRequest> {
        let mut late = Vec::new();
        for _ in 0..super::start::CORE_QUEUE {
            let Ok(queued) = arrivals.try_recv() else { break };
            if let Arrival::Input(Input::Received { hop, remote, message }) = queued.arrival {
                late.extend(self.gateway.late_request(hop, remote, &message));
            }
        }
        late
    }

    fn freeze(&self) -> io::Result<FrozenSessions> {
        let mut all = FrozenSessions::default();
        let silent = |_| io::Error::other("a media worker is silent");
        let workers: io::Result<Vec<_>> = self.workers.iter().map(Worker::freeze).collect();
        for (n, frozen) in workers?.into_iter().enumerate() {
            let frozen = frozen.recv_timeout(FREEZE).map_err(silent)??;
            all.sessions.extend(frozen.sessions);
            all.pairs.extend(frozen.pairs);
            let of_worker =
                |(stream, socket)| (HandedStream { worker: n as u16, ..stream }, socket);
            all.streams.extend(frozen.streams.into_iter().map(of_worker));
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_successor_gets_the_arguments_of_this_process() {
        let given = |own: &[&str]| {
            let own = own.iter().map(OsString::from);
            let all = arguments(own, Path::new("/run/c.sock"));
            all.iter().map(|a| a.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
        };
        let wanted = "serve -c a.toml --log json --take-over /run/c.sock";
        assert_eq!(given(&["serve", "-c", "a.toml", "--log", "json"]), wanted);
        let before = ["serve", "-c", "a.toml", "--take-over", "/x", "--log", "json"];
        assert_eq!(given(&before), wanted);
        assert_eq!(given(&["serve", "--take-over=/x"]), "serve --take-over /run/c.sock");
    }

    #[test]
    fn a_link_to_the_binary_is_followed_anew() {
        let scratch = crate::state::tests::Scratch::new("binary");
        let [old, new, link] = ["1.0", "1.1", "webtrunk"].map(|name| scratch.0.join(name));
        std::fs::write(&new, "").expect("written");
        std::os::unix::fs::symlink(&new, &link).expect("a link");
        assert_eq!(binary(Some(link.clone().into()), &old), link);
        // Not every process is named after its file.
        let deleted = PathBuf::from(format!("{} (deleted)", old.display()));
        for name in [None, Some("webtrunk".into()), Some(scratch.0.join("gone").into())] {
            assert_eq!(binary(name, &deleted), old);
        }
    }

    #[test]
    fn a_successor_must_read_what_is_written_here() {
        let hello = |protocol, reads: &[u16]| {
            let (version, reads) = ("9.9".to_owned(), reads.to_vec());
            understood(LinkMessage::Hello { protocol, version, reads })
        };
        assert_eq!(hello(PROTOCOL, &[7, RECORDS]), Ok("9.9".to_owned()));
        let why = hello(PROTOCOL, &[97, 98]).expect_err("another format");
        assert!(why.contains("9.9 reads calls of format 97, 98, and this one writes"), "{why}");
        assert!(hello(PROTOCOL + 1, &[RECORDS]).is_err());
    }
}
