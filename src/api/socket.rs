//! The local door: a UNIX socket whose file rights are its only guard; and the metrics' own
//! listener.

use super::access::ByControlSocket;
use super::metrics::TrunkReading;
use super::metrics::plain::plain;
use super::{ApiState, slices};
use crate::call::Call;
use crate::handover::{self, Link};
use crate::private;
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
use tokio::io::Interest;
use tokio::net::{TcpListener, UnixListener};

/// Something must come of a connection in this time.
const HEAD_DEADLINE: Duration = Duration::from_secs(10);
/// The folder of the system's own gateway, which only root can make.
const SYSTEM: &str = "/run/webtrunk";

/// Where the control socket is, unless the configuration says: the system's place where there is
/// one for us, else the user's own.
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
    let router = super::router(api).layer(axum::Extension(ByControlSocket));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let (router, links) = (router.clone(), links.clone());
        tokio::spawn(async move {
            let first = stream.async_io(Interest::READABLE, || handover::is_link(&stream));
            match tokio::time::timeout(HEAD_DEADLINE, first).await {
                Ok(Ok(false)) => connection(TokioIo::new(stream), router).await,
                Ok(Ok(true)) => {
                    let link = stream.into_std().and_then(Link::new);
                    link.into_iter().for_each(|link| links(link));
                }
                _ => {}
            }
        });
    }
}

/// Serves `/metrics` until the task is dropped.
pub(crate) async fn serve_metrics(listener: TcpListener, api: ApiState) {
    let router = Router::new().route("/metrics", get(metrics)).with_state(api);
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        tokio::spawn(connection(TokioIo::new(stream), router.clone()));
    }
}

async fn connection<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static>(
    stream: TokioIo<S>,
    router: Router,
) {
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_DEADLINE).max_buf_size(64 * 1024);
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
    use tokio::io::AsyncWriteExt;

    #[tokio::test(start_paused = true)]
    async fn half_a_question_has_ten_seconds() {
        let (ours, mut theirs) = tokio::io::duplex(4_096);
        let began = tokio::time::Instant::now();
        theirs.write_all(b"GET /api/v1/calls HTT").await.expect("sent");
        connection(TokioIo::new(ours), Router::new()).await;
        assert_eq!(began.elapsed(), HEAD_DEADLINE);
    }
}
