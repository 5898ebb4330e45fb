//! The web port: the page, liveness, and the door to SIP over WebSocket. All files are in the
//! binary.

pub mod docs;

use crate::config::Config;
use crate::gateway::Gauges;
use crate::transport::{Inbox, ws};
use crate::worker::Streams;
use axum::Router;
use axum::body::Body;
use base64::Engine as _;
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{self, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tower::ServiceExt;

/// Connections at once; each costs a few kilobytes.
const MAX_CONNECTIONS: usize = 12_000;
/// Connections of one address at once. This machine itself is excepted: a proxy in front of us is
/// one address.
const MAX_PER_SOURCE: usize = 100;
/// TLS handshakes at once: the rest waits, so that registered users are not starved.
const MAX_HANDSHAKES: usize = 64;
const TLS_DEADLINE: Duration = Duration::from_secs(5);
const HEAD_DEADLINE: Duration = Duration::from_secs(10);

const CSP: &str = "default-src 'self'; connect-src 'self' ws: wss:; style-src 'self'; img-src 'self' data:; media-src 'self' blob:; \
                   frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/// What the web port knows of the node.
pub struct Web {
    pub inbox: Inbox,
    pub origins: Mutex<Vec<String>>,
    pub domain: String,
    /// The demo's login, given to pages of this machine only.
    pub login: Option<(String, String)>,
    pub gauges: watch::Receiver<Gauges>,
    /// The API and, for pages of this machine in the demo, a token for it.
    pub api: Router,
    pub page_token: Option<String>,
    pub tls: Option<tokio_rustls::TlsAcceptor>,
    pub connections: AtomicUsize,
    pub sources: Mutex<HashMap<IpAddr, usize>>,
    pub handshakes: Semaphore,
    /// Where browsers' media goes that came over TCP, by this port's number (RFC 6544).
    pub streams: Option<Streams>,
}

impl Web {
    /// A web port with nothing connected.
    pub fn new(
        inbox: Inbox,
        config: &Config,
        tls: Option<tokio_rustls::TlsAcceptor>,
        gauges: watch::Receiver<Gauges>,
        api: Router,
        page_token: Option<String>,
    ) -> Web {
        let handshakes = Semaphore::new(MAX_HANDSHAKES);
        let (origins, domain, login) =
            (Mutex::new(config.origins.clone()), config.domain.clone(), config.page_login.clone());
        Web {
            inbox,
            origins,
            domain,
            login,
            gauges,
            api,
            page_token,
            tls,
            connections: AtomicUsize::new(0),
            sources: Mutex::default(),
            handshakes,
            streams: None,
        }
    }

    /// Lets pages of these origins in from now on.
    pub fn set_origins(&self, origins: &[String]) {
        *self.origins.lock().unwrap_or_else(PoisonError::into_inner) = origins.to_vec();
    }

    /// Counts a connection in; false where it is one too many, and then nothing is counted.
    fn enter(&self, source: IpAddr) -> bool {
        // The counts are sound after every statement, so a panic elsewhere does not spoil them.
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let own = sources.get(&source).copied().unwrap_or(0);
        let full = self.connections.load(Ordering::Relaxed) >= MAX_CONNECTIONS;
        if full || (own >= MAX_PER_SOURCE && !source.is_loopback()) {
            return false;
        }
        sources.insert(source, own + 1);
        self.connections.fetch_add(1, Ordering::Relaxed);
        true
    }

    fn leave(&self, source: IpAddr) {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        self.connections.fetch_sub(1, Ordering::Relaxed);
        match sources.get_mut(&source) {
            Some(n) if *n > 1 => *n -= 1,
            _ => drop(sources.remove(&source)),
        }
    }
}

/// A counted connection; it is given back when the last who holds it lets go.
struct Seat {
    web: Arc<Web>,
    source: IpAddr,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.web.leave(self.source);
    }
}

/// Accepts until the task is dropped.
pub async fn serve(listener: TcpListener, web: Arc<Web>) {
    loop {
        let Ok((stream, remote)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let source = remote.ip().to_canonical();
        if !web.enter(source) {
            continue;
        }
        let seat = Arc::new(Seat { web: web.clone(), source });
        let _ = stream.set_nodelay(true);
        let web = web.clone();
        tokio::spawn(async move {
            let Some(stream) = spoken(stream, &web).await else { return };
            match &web.tls {
                None => connection(stream, remote, seat).await,
                Some(tls) => {
                    let permit = web.handshakes.acquire().await;
                    let accepted = timeout(TLS_DEADLINE, tls.accept(stream)).await;
                    drop(permit);
                    if let Ok(Ok(stream)) = accepted {
                        connection(stream, remote, seat).await;
                    }
                }
            }
        });
    }
}

/// The connection, unless its first byte is that of a framed STUN check: neither HTTP nor TLS
/// begins with nought. Such a one is a browser's media, and a worker's.
async fn spoken(stream: tokio::net::TcpStream, web: &Web) -> Option<tokio::net::TcpStream> {
    let Some(streams) = &web.streams else { return Some(stream) };
    let mut first = [0];
    match timeout(HEAD_DEADLINE, stream.peek(&mut first)).await {
        Ok(Ok(1)) if first[0] == 0 => {
            stream.into_std().ok().into_iter().for_each(|s| streams.give(s));
            None
        }
        Ok(Ok(_)) => Some(stream),
        _ => None,
    }
}

async fn connection<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    remote: SocketAddr,
    seat: Arc<Seat>,
) {
    let service = service_fn(move |request| {
        let seat = seat.clone();
        async move {
            // The API has its own guard; everything else is a file or the WebSocket's door.
            if request.uri().path().starts_with("/api/") {
                return seat.web.api.clone().oneshot(request.map(Body::new)).await;
            }
            Ok::<_, Infallible>(respond(request, remote, &seat).map(Body::new))
        }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .max_headers(64)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let _ = served.await;
}

fn text(status: StatusCode, body: impl Into<String>) -> Response<Full<Bytes>> {
    file(status, "text/plain; charset=utf-8", body.into())
}

fn file(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, CSP),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-cache"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// A script for pages of other origins.
fn embeddable(mut response: Response<Full<Bytes>>) -> Response<Full<Bytes>> {
    response
        .headers_mut()
        .insert("cross-origin-resource-policy", HeaderValue::from_static("cross-origin"));
    response
}

fn respond(
    request: Request<hyper::body::Incoming>,
    remote: SocketAddr,
    seat: &Arc<Seat>,
) -> Response<Full<Bytes>> {
    let web = &seat.web;
    if request.method() != Method::GET {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET is served here\n");
    }
    let upgrades = request.headers().get(header::UPGRADE).is_some();
    match request.uri().path() {
        // Clients that know no path ask at the root: baresip does.
        "/" if upgrades => upgrade(request, remote, seat),
        "/" => file(StatusCode::OK, "text/html; charset=utf-8", include_str!("web/index.html")),
        "/phone.js" => {
            file(StatusCode::OK, "text/javascript; charset=utf-8", include_str!("web/phone.js"))
        }
        "/button.html" => {
            file(StatusCode::OK, "text/html; charset=utf-8", include_str!("web/button.html"))
        }
        // Other origins' pages embed it; which of them may connect is for web.origins to say.
        "/call-button.js" => embeddable(file(
            StatusCode::OK,
            "text/javascript; charset=utf-8",
            include_str!("web/call-button.js"),
        )),
        "/console.js" => {
            file(StatusCode::OK, "text/javascript; charset=utf-8", include_str!("web/console.js"))
        }
        "/console.css" => {
            file(StatusCode::OK, "text/css; charset=utf-8", include_str!("web/console.css"))
        }
        "/phone.css" => {
            file(StatusCode::OK, "text/css; charset=utf-8", include_str!("web/phone.css"))
        }
        "/jssip.js" => embeddable(file(
            StatusCode::OK,
            "text/javascript; charset=utf-8",
            include_str!("web/dist/jssip.js"),
        )),
        "/docs.css" => {
            file(StatusCode::OK, "text/css; charset=utf-8", include_str!("web/docs.css"))
        }
        path if path == "/docs" || path.starts_with("/docs/") => {
            match docs::page(path.trim_start_matches("/docs")) {
                Some(page) => file(StatusCode::OK, "text/html; charset=utf-8", page),
                None => text(StatusCode::NOT_FOUND, "no such page of the book\n"),
            }
        }
        "/settings.json" => settings(&request, remote, web),
        "/livez" => text(StatusCode::OK, "ok\n"),
        "/readyz" if web.gauges.borrow().draining => {
            text(StatusCode::SERVICE_UNAVAILABLE, "draining\n")
        }
        "/readyz" => text(StatusCode::OK, "ok\n"),
        "/sip" => upgrade(request, remote, seat),
        _ => text(StatusCode::NOT_FOUND, "no such page\n"),
    }
}

/// What the page needs to know; the demo's login goes to pages opened on this machine by its own
/// name only.
fn settings(
    request: &Request<hyper::body::Incoming>,
    remote: SocketAddr,
    web: &Web,
) -> Response<Full<Bytes>> {
    let host = host_of(request).unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host.as_str(), |(name, _)| name);
    // The name guards against a foreign page that rebinds its DNS name to this address.
    let own = matches!(name, "localhost" | "127.0.0.1" | "[::1]")
        && remote.ip().to_canonical().is_loopback();
    let login = web
        .login
        .as_ref()
        .filter(|_| own)
        .map(|(user, password)| serde_json::json!({ "user": user, "password": password }));
    let token = web.page_token.as_ref().filter(|_| own);
    let body = serde_json::json!({ "domain": web.domain, "login": login, "token": token, "version": env!("CARGO_PKG_VERSION") });
    file(StatusCode::OK, "application/json", body.to_string())
}

fn host_of(request: &Request<hyper::body::Incoming>) -> Option<String> {
    request.headers().get(header::HOST)?.to_str().ok().map(str::to_ascii_lowercase)
}

/// Exact scheme, host and port: the page's own, or one on the list. A client without Origin is no
/// browser.
fn origin_allowed(request: &Request<hyper::body::Incoming>, web: &Web) -> bool {
    let Some(origin) = request.headers().get(header::ORIGIN) else { return true };
    let Ok(origin) = origin.to_str() else { return false };
    let scheme = if web.tls.is_some() { "https" } else { "http" };
    let own =
        host_of(request).is_some_and(|h| origin.eq_ignore_ascii_case(&format!("{scheme}://{h}")));
    own || web
        .origins
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .iter()
        .any(|o| o.eq_ignore_ascii_case(origin))
}

/// RFC 6455 §4.2, RFC 7118 §4: the handshake, with subprotocol `sip` required.
fn upgrade(
    mut request: Request<hyper::body::Incoming>,
    remote: SocketAddr,
    seat: &Arc<Seat>,
) -> Response<Full<Bytes>> {
    let web = &seat.web;
    let lists = |name: header::HeaderName, wanted: &str| {
        let values = request.headers().get_all(name);
        let mut words = values.iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(','));
        words.any(|w| w.trim().eq_ignore_ascii_case(wanted))
    };
    if !lists(header::UPGRADE, "websocket") || !lists(header::CONNECTION, "upgrade") {
        return text(StatusCode::BAD_REQUEST, "this is the door for SIP over WebSocket\n");
    }
    if !lists(header::SEC_WEBSOCKET_VERSION, "13") {
        let mut response =
            text(StatusCode::UPGRADE_REQUIRED, "WebSocket version 13 is spoken here\n");
        response
            .headers_mut()
            .insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        return response;
    }
    if !lists(header::SEC_WEBSOCKET_PROTOCOL, "sip") {
        return text(
            StatusCode::BAD_REQUEST,
            "Sec-WebSocket-Protocol: sip is required (RFC 7118)\n",
        );
    }
    if !origin_allowed(&request, web) {
        return text(StatusCode::FORBIDDEN, "this origin is not in web.origins\n");
    }
    let Some(key) = request.headers().get(header::SEC_WEBSOCKET_KEY).cloned() else {
        return text(StatusCode::BAD_REQUEST, "no Sec-WebSocket-Key\n");
    };
    let upgrading = hyper::upgrade::on(&mut request);
    let (inbox, seat) = (web.inbox.clone(), seat.clone());
    tokio::spawn(async move {
        // The seat is held until the WebSocket ends, not only its handshake.
        let _seat = seat;
        if let Ok(Ok(upgraded)) = timeout(HEAD_DEADLINE, upgrading).await {
            ws::serve(TokioIo::new(upgraded), remote, inbox).await;
        }
    });
    let mut response = Response::new(Full::new(Bytes::new()));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("sip"));
    if let Ok(accept) = HeaderValue::from_str(&accept_key(key.as_bytes())) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    response
}

fn accept_key(key: &[u8]) -> String {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY);
    context.update(key);
    context.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    base64::engine::general_purpose::STANDARD.encode(context.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_holds_a_hundred_connections_and_gives_them_back() {
        let (core, _inbox) = tokio::sync::mpsc::channel(1);
        let plan = "[[route]]\nname = \"e\"\nmatch = \".\"\ndo = [{ echo = true }]\n";
        let (config, _) = crate::config::check::parse_embedded(
            "[server]\ndomain = \"x\"\n",
            &[("default", plan)],
        )
        .unwrap_or_else(|p| panic!("{p}"));
        let web = Web::new(
            Inbox::new(core),
            &config,
            None,
            watch::channel(Gauges::default()).1,
            Router::new(),
            None,
        );
        let (one, other) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        assert_eq!((0..150).filter(|_| web.enter(one)).count(), 100);
        assert!(web.enter(other));
        (0..100).for_each(|_| web.leave(one));
        web.leave(other);
        assert!(web.sources.lock().expect("sound").is_empty());
        assert_eq!(web.connections.load(Ordering::Relaxed), 0);
    }
}
