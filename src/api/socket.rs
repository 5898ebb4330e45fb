//! The local door: a UNIX socket whose file rights are its only guard; and the metrics' own
//! listener.

use super::access::ByControlSocket;
use super::metrics::TrunkReading;
use super::metrics::plain::plain;
use super::{ApiState, slices};
use crate::call::Call;
use crate::handover::{self, Link};
use crate::private;
use crate::refused::RefusedPort;
use crate::transport::proved::ProvedSources;
use crate::transport::seats::Seats;
use crate::transport::with_write_deadline;
use anyhow::Context;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::IntoResponse;
use axum::routing::get;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, Interest};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;

/// Something must come of a connection in this time.
const HEAD_DEADLINE: Duration = Duration::from_secs(10);
/// Connections to the control socket at one time.
const MAX_LOCAL: usize = 256;
/// Connections to `/metrics` at one time.
const MAX_SCRAPERS: usize = 64;
/// Those of one source.
const MAX_SCRAPERS_OF_SOURCE: usize = 8;
/// The folder of the system's own gateway, which only root can make.
const SYSTEM: &str = "/run/webtrunk";

/// Where the control socket is, unless the configuration says: the system's place if there is one
/// for us, else the user's own.
pub fn default_path() -> PathBuf {
    let system = Path::new(SYSTEM);
    if system.is_dir() {
        return system.join("control.sock");
    }
    match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(folder) => Path::new(&folder).join("webtrunk").join("control.sock"),
        None => std::env::temp_dir()
            .join(format!("webtrunk-{}", nix::unistd::getuid()))
            .join("control.sock"),
    }
}

/// Checks the folder of a socket that nobody named: anybody can make one of its name in the
/// temporary directory, and listen there in our place.
///
/// # Errors
/// It is not this user's own.
pub fn trusted(path: &Path) -> anyhow::Result<()> {
    let Some(folder) = path.parent().filter(|f| *f != Path::new(SYSTEM)) else { return Ok(()) };
    match private::fault_of(folder) {
        None => Ok(()),
        Some(why) => anyhow::bail!(
            "{} is not used, for {why}: remove it, or name the socket with --control or \
             api.control",
            folder.display()
        ),
    }
}

/// The socket, open to its owner and group only. One that a dead process left behind is taken over.
///
/// # Errors
/// It cannot be made, or another gateway listens on it.
pub(crate) async fn bind(path: &Path) -> anyhow::Result<UnixListener> {
    let show = || format!("the control socket {} cannot be made", path.display());
    let folder = path.parent().filter(|f| !f.as_os_str().is_empty()).unwrap_or(Path::new("."));
    private::folder(folder).with_context(show)?;
    if path.exists() {
        if tokio::net::UnixStream::connect(path).await.is_ok() {
            anyhow::bail!(
                "another gateway listens on {}: set api.control for one of them",
                path.display()
            );
        }
        std::fs::remove_file(path).with_context(show)?;
    }
    // Nobody gets in before its rights are set: it is made where only we can go.
    let closed = folder.join(format!(".{}", std::process::id()));
    private::folder(&closed).with_context(show)?;
    let made = closed.join("s");
    let listener = UnixListener::bind(&made)
        .and_then(|listener| {
            std::fs::set_permissions(&made, std::fs::Permissions::from_mode(0o660))?;
            std::fs::rename(&made, path)?;
            Ok(listener)
        })
        .with_context(show);
    let _ = std::fs::remove_dir_all(&closed);
    listener
}

/// Takes what is no HTTP: another process that is to take the place of this one, or who wants one.
pub(crate) type LinkDoor = Arc<dyn Fn(Link) + Send + Sync>;

/// Serves the API on the control socket until the task is dropped; `links` takes what is no HTTP.
pub(crate) async fn serve(listener: UnixListener, api: ApiState, links: LinkDoor) {
    at_the_socket(listener, super::router(api).layer(axum::Extension(ByControlSocket)), links)
        .await;
}

async fn at_the_socket(listener: UnixListener, router: Router, links: LinkDoor) {
    let places = Arc::new(Semaphore::new(MAX_LOCAL));
    // Closed by nobody.
    while let Ok(place) = places.clone().acquire_owned().await {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let (router, links) = (router.clone(), links.clone());
        tokio::spawn(async move {
            let first = stream.async_io(Interest::READABLE, || handover::is_link(&stream));
            match tokio::time::timeout(HEAD_DEADLINE, first).await {
                Ok(Ok(false)) => connection(stream, router).await,
                Ok(Ok(true)) => {
                    let link = stream.into_std().and_then(Link::new);
                    link.into_iter().for_each(|link| links(link));
                }
                _ => {}
            }
            drop(place);
        });
    }
}

/// Serves `/metrics` until the task is dropped.
pub(crate) async fn serve_metrics(
    listener: TcpListener,
    api: ApiState,
    proved: Arc<ProvedSources>,
) {
    let refused = api.metrics.refused_connections.clone();
    let most = (MAX_SCRAPERS, MAX_SCRAPERS_OF_SOURCE);
    let seats = Seats::new(RefusedPort::Metrics, most, refused, proved);
    at_the_seats(listener, Router::new().route("/metrics", get(metrics)).with_state(api), seats)
        .await;
}

async fn at_the_seats(listener: TcpListener, router: Router, seats: Arc<Seats>) {
    loop {
        let (stream, _, seat) = seats.accept(&listener).await;
        let router = router.clone();
        tokio::spawn(async move {
            connection(stream, router).await;
            drop(seat);
        });
    }
}

async fn connection<S: AsyncRead + AsyncWrite + Send + 'static>(stream: S, router: Router) {
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_DEADLINE).max_buf_size(64 * 1024);
    let stream = TokioIo::new(Box::pin(with_write_deadline(stream)));
    let _ = http.serve_connection(stream, TowerToHyperService::new(router)).await;
}

const OPEN_METRICS: &str = "application/openmetrics-text";

/// Whether who asks prefers OpenMetrics to the older text: both are named by what `Accept` says.
fn wants_open_metrics(accept: &str) -> bool {
    let quality = |media: &str| {
        let named = accept.split(',').find(|range| {
            range.split(';').next().is_some_and(|r| r.trim().eq_ignore_ascii_case(media))
        })?;
        let q = named.split(';').find_map(|p| p.trim().strip_prefix("q="));
        Some(q.map_or(1.0, |q| q.trim().parse().unwrap_or(0.0)))
    };
    let open = quality(OPEN_METRICS).unwrap_or(0.0);
    open > 0.0 && open >= quality("text/plain").unwrap_or(0.0)
}

async fn metrics(State(api): State<ApiState>, headers: HeaderMap) -> impl IntoResponse {
    let counted = api.metrics.clone();
    let _scrape = api.metrics.scrape.lock().await;
    // A core that has stopped leaves the last figures.
    let _ = api.ask(move |gateway, turn| counted.read(gateway, turn.now)).await;
    if let Ok(codecs) = slices::calls(&api, Call::codecs).await {
        api.metrics.read_calls(codecs.into_iter().flatten());
    }
    let trunks = slices::trunks(&api, |gateway, _, (name, state, calls)| {
        TrunkReading::of(gateway, name, state, calls)
    });
    if let Ok(trunks) = trunks.await {
        api.metrics.read_trunks(trunks);
    }
    let free = api.ports.free();
    let resting = api.ports.resting();
    api.metrics.read_shell(
        [api.ports.all().saturating_sub(free), free.saturating_sub(resting), resting],
        api.certificates.web.as_ref().and_then(|shown| shown.ends()?.try_into().ok()),
    );
    let accept = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let (kind, text) = if wants_open_metrics(accept) {
        ("application/openmetrics-text; version=1.0.0; charset=utf-8", api.metrics.text())
    } else {
        ("text/plain; version=0.0.4; charset=utf-8", plain(&api.metrics.text()))
    };
    ([(header::CONTENT_TYPE, kind), (header::VARY, "accept")], text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::WRITE_STALL;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpStream, UnixStream};

    #[tokio::test(start_paused = true)]
    async fn half_a_question_has_ten_seconds() {
        let (ours, mut theirs) = tokio::io::duplex(4_096);
        let began = tokio::time::Instant::now();
        theirs.write_all(b"GET /api/v1/calls HTT").await.expect("sent");
        connection(ours, Router::new()).await;
        assert_eq!(began.elapsed(), HEAD_DEADLINE);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_nobody_reads_is_let_go() {
        let (ours, mut theirs) = tokio::io::duplex(4_096);
        let router = Router::new().route("/metrics", get(|| async { "#".repeat(1 << 20) }));
        let began = tokio::time::Instant::now();
        theirs.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("sent");
        connection(ours, router).await;
        assert_eq!(began.elapsed(), WRITE_STALL);
    }

    /// What is asked at `/` is answered with `served`.
    fn door() -> Router {
        Router::new().route("/", get(|| async { "served" }))
    }

    async fn asked<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) -> String {
        let asked = stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await;
        let mut answer = String::new();
        match asked.and(stream.read_to_string(&mut answer).await) {
            Ok(_) => answer,
            Err(e) => e.to_string(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_are_served_at_the_socket_and_the_others_wait() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("made/control.sock");
        let listener = bind(&path).await.expect("bound");
        let serving = tokio::spawn(at_the_socket(listener, door(), Arc::new(|_| ())));
        let mut silent = Vec::new();
        for _ in 0..MAX_LOCAL {
            silent.push(UnixStream::connect(&path).await.expect("it listens"));
        }
        let began = tokio::time::Instant::now();
        let answer = asked(UnixStream::connect(&path).await.expect("it listens")).await;
        assert!(answer.ends_with("served"), "{answer}");
        assert!(began.elapsed() >= HEAD_DEADLINE, "{:?}", began.elapsed());
        serving.abort();
    }

    #[tokio::test]
    async fn so_many_read_the_metrics_and_no_more() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let at = listener.local_addr().expect("bound");
        let proved = Arc::new(ProvedSources::new(std::time::Instant::now()));
        // One place for strangers; this machine itself has others, which its proxies need.
        let seats = Seats::new(RefusedPort::Metrics, (MAX_SCRAPERS, 1), Arc::default(), proved);
        let serving = tokio::spawn(at_the_seats(listener, door(), seats.clone()));
        let mut silent = Vec::new();
        while seats.take([192, 0, 2, 1].into(), false).is_ok() {
            silent.push(TcpStream::connect(at).await.expect("it listens"));
            let answer = asked(TcpStream::connect(at).await.expect("it listens")).await;
            assert!(answer.ends_with("served"), "{answer}");
        }
        assert_eq!(silent.len(), MAX_SCRAPERS);
        serving.abort();
    }
}
