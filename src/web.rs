//! The web port: the page, liveness, and the door to SIP over WebSocket. All files are in the
//! binary.

pub(crate) mod docs;

use crate::api::guesses::Source;
use crate::config::Config;
use crate::errors::Code;
use crate::gateway::Gauges;
use crate::log_limit::{self, Class, Level};
use crate::printable::brief;
use crate::transport::handshakes::Handshakes;
use crate::transport::seats::{Seat, Seats};
use crate::transport::{Inbox, WRITE_STALL, ws};
use crate::worker::Streams;
use axum::Router;
use axum::body::Body;
use base64::Engine as _;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{self, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Version};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_io_timeout::TimeoutStream;
use tower::ServiceExt;

/// Connections at once; each costs a few kilobytes.
const MAX_CONNECTIONS: usize = 12_000;
/// Connections of one address at once. This machine itself is excepted: a proxy in front of us is
/// one address.
const MAX_PER_SOURCE: usize = 100;
const HEAD_DEADLINE: Duration = Duration::from_secs(10);
/// A request's body must be whole this long after its head.
const BODY_DEADLINE: Duration = Duration::from_secs(10);
/// Longest body of a request to the API, bytes.
const MAX_BODY: usize = 2 * 1024 * 1024;

const CSP: &str = "default-src 'self'; connect-src 'self' ws: wss:; style-src 'self'; img-src 'self' data:; media-src 'self' blob:; \
                   frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/// What the web port knows of the node.
pub(crate) struct Web {
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
    pub seats: Arc<Seats>,
    pub handshakes: Handshakes,
    /// Where browsers' media goes that came over TCP, by this port's number (RFC 6544).
    pub streams: Option<Streams>,
}

impl Web {
    /// A web port with nothing connected.
    pub(crate) fn new(
        inbox: Inbox,
        config: &Config,
        tls: Option<tokio_rustls::TlsAcceptor>,
        gauges: watch::Receiver<Gauges>,
        api: Router,
        page_token: Option<String>,
    ) -> Web {
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
            seats: Seats::new(MAX_CONNECTIONS, MAX_PER_SOURCE),
            handshakes: Handshakes::new(),
            streams: None,
        }
    }

    /// Lets pages of these origins in from now on.
    pub(crate) fn set_origins(&self, origins: &[String]) {
        *self.origins.lock().unwrap_or_else(PoisonError::into_inner) = origins.to_vec();
    }
}

/// A connection's place at the web port.
struct Visitor {
    web: Arc<Web>,
    _seat: Seat,
}

/// Accepts until the task is dropped.
pub(crate) async fn serve(listener: TcpListener, web: Arc<Web>) {
    loop {
        let Ok((stream, remote)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let Some(seat) = web.seats.take_or_tell(remote.ip(), "web port") else { continue };
        let visitor = Arc::new(Visitor { web: web.clone(), _seat: seat });
        crate::transport::tune(&stream);
        tokio::spawn(visit(stream, remote, visitor));
    }
}

async fn visit(stream: TcpStream, remote: SocketAddr, visitor: Arc<Visitor>) {
    let web = &visitor.web;
    let Some(stream) = spoken(stream, web).await else { return };
    let Some(tls) = &web.tls else { return connection(stream, remote, visitor).await };
    match web.handshakes.accept(tls, stream, remote.ip()).await {
        Ok(stream) => connection(stream, remote, visitor).await,
        Err(e) => tracing::debug!("TLS with {remote} failed: {e}"),
    }
}

/// The connection, unless its first byte is that of a framed STUN check: neither HTTP nor TLS
/// begins with nought. Such a one is a browser's media, and a worker's.
async fn spoken(stream: TcpStream, web: &Web) -> Option<TcpStream> {
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

async fn connection<S: AsyncRead + AsyncWrite + Send + 'static>(
    stream: S,
    remote: SocketAddr,
    visitor: Arc<Visitor>,
) {
    let service = service_fn(move |request| {
        let visitor = visitor.clone();
        async move {
            if let Some(refused) = misdirected(&request, &visitor.web) {
                return Ok::<_, Infallible>(refused.map(Body::new));
            }
            // The API has its own guard; everything else is a file or the WebSocket's door.
            if request.uri().path().starts_with("/api/") {
                return ask_api(request, remote, &visitor.web).await;
            }
            Ok(respond(request, remote, &visitor).map(Body::new))
        }
    });
    // A client that does not read its answer keeps neither the answer nor the place.
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(WRITE_STALL));
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .max_headers(64)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(Box::pin(stream)), service)
        .with_upgrades();
    let _ = served.await;
}

/// Hands a request to the API once its body is whole.
async fn ask_api(
    request: Request<hyper::body::Incoming>,
    remote: SocketAddr,
    web: &Web,
) -> Result<Response<Body>, Infallible> {
    let (mut head, body) = request.into_parts();
    head.extensions.insert(Source(remote.ip()));
    let whole = timeout(BODY_DEADLINE, Limited::new(body, MAX_BODY).collect()).await;
    let body = match whole {
        Ok(Ok(body)) => Body::from(body.to_bytes()),
        Ok(Err(_)) => {
            let refused = text(StatusCode::PAYLOAD_TOO_LARGE, "the body is longer than 2 MiB\n");
            return Ok(refused.map(Body::new));
        }
        Err(_) => {
            let refused = text(StatusCode::REQUEST_TIMEOUT, "the body did not come within 10 s\n");
            return Ok(refused.map(Body::new));
        }
    };
    web.api.clone().oneshot(Request::from_parts(head, body)).await
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
    visitor: &Arc<Visitor>,
) -> Response<Full<Bytes>> {
    let web = &visitor.web;
    if request.method() != Method::GET {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET is served here\n");
    }
    let upgrades = request.headers().get(header::UPGRADE).is_some();
    match request.uri().path() {
        // Clients that know no path ask at the root: baresip does.
        "/" if upgrades => upgrade(request, remote, visitor),
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
        // The core holds the other end of the gauges as long as it lives.
        "/livez" | "/readyz" if web.gauges.has_changed().is_err() => {
            text(StatusCode::SERVICE_UNAVAILABLE, "the core has ended\n")
        }
        "/livez" => text(StatusCode::OK, "ok\n"),
        "/readyz" if web.gauges.borrow().draining => {
            text(StatusCode::SERVICE_UNAVAILABLE, "draining\n")
        }
        "/readyz" => text(StatusCode::OK, "ok\n"),
        "/sip" => upgrade(request, remote, visitor),
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

fn host_of<T>(request: &Request<T>) -> Option<String> {
    request.headers().get(header::HOST)?.to_str().ok().map(str::to_ascii_lowercase)
}

/// The refusal of a request to a name that is not served. A page elsewhere whose name was led to
/// this address would otherwise be a page of ours (DNS rebinding); only names with a dot can be.
fn misdirected<T>(request: &Request<T>, web: &Web) -> Option<Response<Full<Bytes>>> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let (first, more) = (hosts.next(), hosts.next());
    // Probes of load balancers speak HTTP/1.0, which asks for none.
    if first.is_none() && request.version() == Version::HTTP_10 {
        return None;
    }
    let Some(host) = first.and_then(|h| h.to_str().ok()).filter(|_| more.is_none()) else {
        return Some(text(StatusCode::BAD_REQUEST, "one Host, and a readable one\n"));
    };
    let host = host.to_ascii_lowercase();
    let literal = host.parse::<SocketAddr>().is_ok()
        || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok();
    let name = host.rsplit_once(':').map_or(host.as_str(), |(name, _)| name);
    let domain = web.domain.to_ascii_lowercase();
    let below = name.strip_suffix(domain.as_str());
    let served = below.is_some_and(|below| below.is_empty() || below.ends_with('.'));
    let local = !name.contains('.') || name.ends_with(".localhost");
    let listed = || {
        let origins = web.origins.lock().unwrap_or_else(PoisonError::into_inner);
        let exact = |o: &String| {
            let at = o.split_once("://").map_or("", |(_, at)| at);
            at.rsplit_once(':').map_or(at, |(name, _)| name).eq_ignore_ascii_case(name)
        };
        origins.iter().any(exact)
    };
    (!literal && !served && !local && !listed()).then(|| {
        let why = format!(
            "{name} is not served here: the names of [server] domain and below it are, and those \
             of web.origins\n"
        );
        text(StatusCode::MISDIRECTED_REQUEST, why)
    })
}

/// Exact scheme, host and port: the page's own, or one on the list. A client without Origin is no
/// browser.
fn origin_allowed(request: &Request<hyper::body::Incoming>, web: &Web) -> bool {
    let mut all = request.headers().get_all(header::ORIGIN).iter();
    let Some(origin) = all.next() else { return true };
    let Some(origin) = origin.to_str().ok().filter(|_| all.next().is_none()) else { return false };
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
    visitor: &Arc<Visitor>,
) -> Response<Full<Bytes>> {
    let web = &visitor.web;
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
        let origin = request.headers().get(header::ORIGIN).map(|o| o.as_bytes());
        log_limit::tell(Level::Warn, Class::new("origins refused", Code::ORIGIN), || {
            let origin = String::from_utf8_lossy(origin.unwrap_or_default());
            format!("the page of {} may not connect from {remote}", brief(&origin))
        });
        return text(StatusCode::FORBIDDEN, "this origin is not in web.origins\n");
    }
    let Some(key) = request.headers().get(header::SEC_WEBSOCKET_KEY).cloned() else {
        return text(StatusCode::BAD_REQUEST, "no Sec-WebSocket-Key\n");
    };
    let upgrading = hyper::upgrade::on(&mut request);
    let (inbox, visitor) = (web.inbox.clone(), visitor.clone());
    tokio::spawn(async move {
        // The place is held until the WebSocket ends, not only its handshake.
        let _visitor = visitor;
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
