//! TLS handshakes, let in so that those who do not finish theirs delay nobody.
//!
//! A handshake costs a processor once, when the ClientHello is answered. Only for that moment does
//! it hold one of a few permits, and a source waits for one at a time; while either side is silent
//! it holds nothing but its own connection, until the deadline. All together have a budget of time,
//! so that ten thousand browsers that come back at once harm no call.

use super::budget::Budget;
use super::proved::ProvedSources;
use crate::address::network_of;
use crate::refused::{Full, RefusedConnections, RefusedPort};
use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::server::TlsStream;
use tokio_rustls::{LazyConfigAcceptor, TlsAcceptor};

/// From the first byte to the last of a handshake.
pub(crate) const DEADLINE: Duration = Duration::from_secs(5);
/// Handshakes that may wait for their answer; further connections stay in the kernel's queue.
const MOST_WAITING: usize = 2_048;

/// The handshakes of one port.
#[derive(Debug)]
pub(crate) struct Handshakes {
    processors: Semaphore,
    /// For sources of users: they do not wait behind strangers, nor for the budget.
    processors_of_proved: Semaphore,
    proved: Arc<ProvedSources>,
    room: Semaphore,
    budget: Mutex<Budget>,
    sources: Mutex<HashMap<IpAddr, WaitingHandshakes>>,
    /// Of one source that may wait; further ones are closed.
    per_source: AtomicUsize,
    port: RefusedPort,
    refused: Arc<RefusedConnections>,
}

/// Those of one source: one at a time, in order.
#[derive(Debug)]
struct WaitingHandshakes {
    turn: Arc<Semaphore>,
    holders: usize,
}

/// A source's place in the table; the entry goes with its last holder.
struct HandshakeTurn<'a> {
    handshakes: &'a Handshakes,
    source: IpAddr,
    turn: Arc<Semaphore>,
}

impl Handshakes {
    /// As many at once as there are processors. Of one source (an IPv4 address, an IPv6 /64) so
    /// many may wait.
    pub(crate) fn new(
        port: RefusedPort,
        per_source: usize,
        refused: Arc<RefusedConnections>,
        proved: Arc<ProvedSources>,
    ) -> Handshakes {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Handshakes {
            processors: Semaphore::new(processors),
            processors_of_proved: Semaphore::new(processors),
            proved,
            room: Semaphore::new(MOST_WAITING),
            budget: Mutex::new(Budget::new(processors)),
            sources: Mutex::default(),
            per_source: AtomicUsize::new(per_source),
            port,
            refused,
        }
    }

    /// Another bound of one source from now on; those that wait already stay.
    pub(crate) fn limit(&self, per_source: usize) {
        self.per_source.store(per_source, Relaxed);
    }

    /// Waits until another connection can be taken out of the kernel's queue.
    pub(crate) async fn has_room(&self) {
        let _ = self.room.acquire().await;
    }

    /// A second is over, with or without harm to calls in progress: handshakes get less time, or
    /// more.
    pub(crate) fn judge(&self, harmed: bool) {
        self.budget().judge(Instant::now().into_std(), harmed);
    }

    fn budget(&self) -> std::sync::MutexGuard<'_, Budget> {
        self.budget.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers the handshake of a client at `remote`.
    ///
    /// # Errors
    /// What rustls or the connection says, or that the deadline passed.
    pub(crate) async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        acceptor: &TlsAcceptor,
        stream: S,
        remote: IpAddr,
    ) -> io::Result<TlsStream<S>> {
        // Whether it waits for us, and not for its peer.
        let waits = AtomicBool::new(false);
        let handshake = async {
            let hello = rustls::server::Acceptor::default();
            let begun = LazyConfigAcceptor::new(hello, stream).await?;
            let mut answering = pin!(begun.into_stream(acceptor.config().clone()));
            {
                let turn = self.turn(network_of(remote)).ok_or_else(|| {
                    io::Error::new(io::ErrorKind::ConnectionRefused, "too many handshakes wait")
                })?;
                waits.store(true, Relaxed);
                let proved = self.proved.has(remote);
                let _room = self.room.acquire().await;
                let _own = turn.turn.acquire().await;
                let _processor = match proved {
                    true => self.processors_of_proved.acquire().await,
                    false => self.processors.acquire().await,
                };
                if !proved {
                    self.wait_for_budget().await;
                }
                waits.store(false, Relaxed);
                let began = Instant::now();
                let polled = futures_util::poll!(answering.as_mut());
                self.budget().spent(began.elapsed());
                if let std::task::Poll::Ready(done) = polled {
                    return done;
                }
            }
            answering.await
        };
        let done = timeout(DEADLINE, handshake).await;
        let late = || Err(io::Error::new(io::ErrorKind::TimedOut, "not done within 5 s"));
        let done = done.unwrap_or_else(|_| late());
        let crowded =
            |e: &io::Error| e.kind() == io::ErrorKind::ConnectionRefused || waits.load(Relaxed);
        if done.as_ref().is_err_and(crowded) {
            self.refused.tell(self.port, Full::Handshakes, remote);
        }
        done
    }

    async fn wait_for_budget(&self) {
        loop {
            let wait = self.budget().wait(Instant::now().into_std());
            if wait.is_zero() {
                return;
            }
            sleep(wait).await;
        }
    }

    /// A place among those of a source; `None` if it has too many waiting.
    fn turn(&self, source: IpAddr) -> Option<HandshakeTurn<'_>> {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = sources
            .entry(source)
            .or_insert_with(|| WaitingHandshakes { turn: Arc::new(Semaphore::new(1)), holders: 0 });
        if waiting.holders >= self.per_source.load(Relaxed) {
            return None;
        }
        waiting.holders += 1;
        Some(HandshakeTurn { handshakes: self, source, turn: waiting.turn.clone() })
    }
}

impl Drop for HandshakeTurn<'_> {
    fn drop(&mut self) {
        let mut sources = self.handshakes.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(waiting) = sources.get_mut(&self.source) {
            waiting.holders -= 1;
            if waiting.holders == 0 {
                sources.remove(&self.source);
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use rustls::pki_types::{PrivateKeyDer, ServerName};
    use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig};
    use tokio::io::{AsyncWriteExt, DuplexStream, duplex};
    use tokio_rustls::TlsConnector;

    fn parties() -> (TlsAcceptor, Arc<ClientConfig>) {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let own = rcgen::generate_simple_self_signed(["wt.test".into()]).expect("a certificate");
        let key = PrivateKeyDer::try_from(own.signing_key.serialize_der()).expect("a key");
        let mut roots = RootCertStore::empty();
        roots.add(own.cert.der().clone()).expect("a root");
        let server = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![own.cert.der().clone()], key)
            .expect("fits");
        let client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        (TlsAcceptor::from(Arc::new(server)), Arc::new(client))
    }

    fn at_the_web_port() -> Handshakes {
        let proved = ProvedSources::new(std::time::Instant::now());
        Handshakes::new(RefusedPort::Web, OF_SOURCE, Arc::default(), Arc::new(proved))
    }

    /// Handshakes of one source that may wait in these tests.
    const OF_SOURCE: usize = 50;

    fn name() -> ServerName<'static> {
        ServerName::try_from("wt.test").expect("a name")
    }

    /// A client that says hello, or nothing, and never anything more.
    async fn silent(client: &Arc<ClientConfig>, says_hello: bool) -> (DuplexStream, DuplexStream) {
        let (mut far, near) = duplex(64 * 1024);
        if says_hello {
            let mut hello = Vec::new();
            let mut tls = ClientConnection::new(client.clone(), name()).expect("a client");
            tls.write_tls(&mut hello).expect("to memory");
            far.write_all(&hello).await.expect("room");
        }
        (far, near)
    }

    #[tokio::test(start_paused = true)]
    async fn the_port_waits_where_too_many_handshakes_do() {
        let handshakes = at_the_web_port();
        let room = || timeout(Duration::from_secs(1), handshakes.has_room());
        assert!(room().await.is_ok());
        let waiting = handshakes.room.acquire_many(MOST_WAITING as u32).await.expect("open");
        assert!(room().await.is_err());
        drop(waiting);
        assert!(room().await.is_ok());
    }

    /// Has so many handshakes of one source begin while nothing is answered: how many are refused
    /// at once, and how many wait until it is too late.
    pub(crate) async fn crowd(handshakes: &Handshakes, count: usize) -> (usize, usize) {
        let (acceptor, client) = parties();
        // Much is owed.
        handshakes.budget().spent(Duration::from_secs(3_600));
        let (mut far_ends, mut waiting) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let (far, near) = silent(&client, true).await;
            far_ends.push(far);
            waiting.push(handshakes.accept(&acceptor, near, IpAddr::from([192, 0, 2, 1])));
        }
        let ended = futures_util::future::join_all(waiting).await.into_iter();
        let kinds: Vec<_> = ended.map(|e| e.expect_err("nothing is answered").kind()).collect();
        let count = |kind| kinds.iter().filter(|k| **k == kind).count();
        (count(io::ErrorKind::ConnectionRefused), count(io::ErrorKind::TimedOut))
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_has_so_many_handshakes_waiting_and_no_more() {
        let handshakes = at_the_web_port();
        assert_eq!(crowd(&handshakes, OF_SOURCE + 10).await, (10, OF_SOURCE));
        let refusal = handshakes.refused.read().find(|(_, why, _)| *why == "handshakes");
        let all = OF_SOURCE as u64 + 10;
        assert_eq!(refusal, Some(("web", "handshakes", all)), "each is counted");
        assert!(handshakes.sources.lock().expect("sound").is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_user_does_not_wait_behind_a_crowd_of_strangers() {
        let (acceptor, client) = parties();
        let handshakes = Arc::new(at_the_web_port());
        // Much is owed: strangers wait for their deadline.
        handshakes.budget().spent(Duration::from_secs(3_600));
        let mut strangers = Vec::new();
        for n in 0..200u8 {
            let (far, near) = silent(&client, true).await;
            let (acceptor, handshakes) = (acceptor.clone(), handshakes.clone());
            let source = IpAddr::from([192, 0, 2, n]);
            let stalled = async move { handshakes.accept(&acceptor, near, source).await.map(drop) };
            strangers.push((far, tokio::spawn(stalled)));
        }
        tokio::task::yield_now().await;
        let user = IpAddr::from([198, 51, 100, 1]);
        handshakes.proved.prove(std::time::Instant::now(), user);
        let began = Instant::now();
        let (far, near) = duplex(64 * 1024);
        let connecting = TlsConnector::from(client).connect(name(), far);
        let (connected, accepted) =
            tokio::join!(connecting, handshakes.accept(&acceptor, near, user));
        assert!(connected.is_ok() && accepted.is_ok());
        assert_eq!(began.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn handshakes_nobody_finishes_delay_nobody() {
        let (acceptor, client) = parties();
        let handshakes = Arc::new(at_the_web_port());
        let mut strangers = Vec::new();
        for n in 0..200u8 {
            let (far, near) = silent(&client, n % 2 == 0).await;
            let (acceptor, handshakes) = (acceptor.clone(), handshakes.clone());
            let source = IpAddr::from([192, 0, 2, n % 10]);
            let stalled = async move { handshakes.accept(&acceptor, near, source).await.map(drop) };
            strangers.push((far, tokio::spawn(stalled)));
        }
        tokio::task::yield_now().await;

        let began = Instant::now();
        let (far, near) = duplex(64 * 1024);
        let connecting = TlsConnector::from(client).connect(name(), far);
        let same_source = IpAddr::from([192, 0, 2, 1]);
        let accepting = handshakes.accept(&acceptor, near, same_source);
        let (connected, accepted) = tokio::join!(connecting, accepting);
        assert!(connected.is_ok() && accepted.is_ok());
        assert_eq!(began.elapsed(), Duration::ZERO, "not a moment later for 200 that stall");

        for (_far, stalled) in strangers {
            let ended = stalled.await.expect("no panic");
            assert_eq!(ended.expect_err("nobody answered").kind(), io::ErrorKind::TimedOut);
        }
        assert_eq!(began.elapsed(), DEADLINE);
        assert!(handshakes.sources.lock().expect("sound").is_empty());
    }
}
