//! The web port: the page, liveness, and the door to SIP over WebSocket. All files are in the
//! binary.

pub(crate) mod docs;
mod edge;
mod origin;
mod served;

use self::edge::{Client, Edge};
use self::origin::{host_of, misdirected, origin_allowed, page_of};
use crate::address::network_of;
use crate::api::access::{Access, PageOrigin, Visit};
use crate::config::Config;
use crate::errors::Code;
use crate::gateway::Gauges;
use crate::gateway::overload::Overloaded;
use crate::log_limit::{self, Level, LineClass};
use crate::printable::brief;
use crate::refused::{Full as Used, RefusedConnections, RefusedPort};
use crate::transport::handshakes::{self, Handshakes};
use crate::transport::proved::ProvedSources;
use crate::transport::seats::{Seat, Seats};
use crate::transport::{Inbox, with_write_deadline, ws};
use crate::worker::Streams;
use axum::Router;
use axum::body::Body;
use base64::Engine as _;
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{self, HeaderValue};
use hyper::service::{Service as _, service_fn};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rand_core::{OsRng, TryRngCore};
use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;

/// Addresses that browsers with calls may come back from.
const MAX_AWAITED: usize = 10_000;
/// A connection over the limit must send its request, and gets its answer, within this.
const STANDING_DEADLINE: Duration = Duration::from_secs(3);
const HEAD_DEADLINE: Duration = Duration::from_secs(10);

const CSP: &str = "default-src 'self'; connect-src 'self' ws: wss:; style-src 'self'; img-src 'self' data:; media-src 'self' blob:; \
                   frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/// What the web port knows of the node.
pub(crate) struct WebPort {
    /// Inputs of the core.
    pub inbox: Inbox,
    /// Origins whose pages may open a WebSocket.
    pub origins: Mutex<Vec<String>>,
    edge: Mutex<Arc<Edge>>,
    /// The SIP domain.
    pub domain: String,
    /// The demo's login, given to pages of this machine only.
    pub login: Option<(String, String)>,
    /// The newest gauges of the core.
    pub gauges: watch::Receiver<Gauges>,
    /// The API and, for pages of this machine in the demo, a token for it.
    pub api: Router,
    /// A token of the API for pages of this machine, in the demo.
    pub page_token: Option<String>,
    /// Where people may log in besides, which the page names.
    pub access: Option<Arc<Access>>,
    /// Secures connections; `None` if the port is plain.
    pub tls: Option<tokio_rustls::TlsAcceptor>,
    /// Bounds connections, together and per source.
    pub seats: Arc<Seats>,
    /// Bounds TLS handshakes.
    pub handshakes: Handshakes,
    /// Counts connections that were refused.
    pub refused: Arc<RefusedConnections>,
    /// Addresses from which a browser is expected back.
    pub awaited: Arc<AwaitedAddresses>,
    /// Addresses that have proved who they are.
    pub proved: Arc<ProvedSources>,
    /// Where browsers' media goes that came over TCP, by this port's number (RFC 6544).
    pub streams: Option<Streams>,
}

impl WebPort {
    /// A web port with nothing connected.
    pub(crate) fn new(
        inbox: Inbox,
        config: &Config,
        tls: Option<tokio_rustls::TlsAcceptor>,
        gauges: watch::Receiver<Gauges>,
        api: Router,
        refused: Arc<RefusedConnections>,
    ) -> WebPort {
        let proved = Arc::new(ProvedSources::new(Instant::now()));
        let (origins, domain, login) =
            (Mutex::new(config.origins.clone()), config.domain.clone(), config.page_login.clone());
        WebPort {
            inbox,
            origins,
            edge: Mutex::new(Arc::new(Edge::new(config))),
            domain,
            login,
            gauges,
            api,
            page_token: None,
            access: None,
            tls,
            seats: Seats::new(
                RefusedPort::Web,
                (config.limits.connections, config.limits.connections_per_source),
                refused.clone(),
                proved.clone(),
            ),
            handshakes: Handshakes::new(
                RefusedPort::Web,
                config.limits.handshakes_per_source,
                refused.clone(),
                proved.clone(),
            ),
            refused,
            awaited: Arc::default(),
            proved,
            streams: None,
        }
    }

    /// Which page makes a request, and whether its own connection is encrypted.
    fn visit<T>(&self, request: &Request<T>, client: Client) -> Visit {
        let page = page_of(request, self, client);
        let https = request.headers().get(header::ORIGIN);
        let https = https.is_some_and(|o| o.as_bytes().starts_with(b"https:"));
        let secure = self.tls.is_some() || (page == PageOrigin::Own && https);
        let secure = client.secure.unwrap_or(secure);
        Visit { source: client.address.ip(), secure, page }
    }

    /// Lets in those that another configuration names, from now on.
    pub(crate) fn set(&self, config: &Config) {
        self.origins.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&config.origins);
        let limits = &config.limits;
        self.seats.limit(limits.connections, limits.connections_per_source);
        self.handshakes.limit(limits.handshakes_per_source);
        let edge = Arc::new(Edge::new(config));
        *self.edge.lock().unwrap_or_else(PoisonError::into_inner) = edge;
    }

    fn edge(&self) -> Arc<Edge> {
        self.edge.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Addresses whose browsers lost their connection during a call, and until when they may come back
/// whatever the load.
#[derive(Debug, Default)]
pub(crate) struct AwaitedAddresses(Mutex<HashMap<IpAddr, Instant>>);

impl AwaitedAddresses {
    /// A browser of this address is waited for.
    pub(crate) fn expect(&self, address: IpAddr, until: Instant) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MAX_AWAITED {
            let now = Instant::now();
            all.retain(|_, until| *until > now);
        }
        if all.len() < MAX_AWAITED {
            all.insert(network_of(address), until);
        }
    }

    fn has(&self, address: IpAddr) -> bool {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(&network_of(address)).is_some_and(|until| *until > Instant::now())
    }
}

/// A connection's place at the web port.
struct Visitor {
    web: Arc<WebPort>,
    seat: Seat,
}

/// Accepts until the task is dropped.
pub(crate) async fn serve(listener: TcpListener, web: Arc<WebPort>) {
    loop {
        web.handshakes.has_room().await;
        let Ok((stream, remote)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let edge = web.edge();
        // Other people's connections are not the proxy's own.
        let through = edge.expects_header(remote.ip());
        let is_proxy = through || edge.trusts(remote.ip());
        let Some(seat) = web.seats.take_or_stand(remote.ip(), is_proxy) else { continue };
        crate::transport::tune(&stream);
        let (stands, web) = (seat.stands.is_some(), web.clone());
        let served = async move {
            match through {
                true => visit_through(stream, remote, seat, web).await,
                false => visit(stream, remote, Arc::new(Visitor { web, seat })).await,
            }
        };
        if stands {
            tokio::spawn(timeout(STANDING_DEADLINE, served));
        } else {
            tokio::spawn(served);
        }
    }
}

/// As [`visit`], of whom the PROXY header names.
async fn visit_through(mut stream: TcpStream, proxy: SocketAddr, seat: Seat, web: Arc<WebPort>) {
    let read = timeout(HEAD_DEADLINE, edge::header(&mut stream)).await;
    let client = match read.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into())) {
        Ok(client) => client,
        Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => return,
        Err(e) => {
            let class = LineClass::new("connections without a PROXY header", Code::PROXY_HEADER);
            return log_limit::tell(Level::Warn, class, || {
                format!("web port: a connection of the proxy {proxy} is refused: {e}")
            });
        }
    };
    let Some(remote) = client else {
        let visitor = Arc::new(Visitor { web, seat });
        return Box::pin(secured(stream, proxy, visitor)).await;
    };
    drop(seat);
    let is_proxy = web.edge().trusts(remote.ip());
    let Some(seat) = web.seats.take_or_stand(remote.ip(), is_proxy) else { return };
    let stands = seat.stands.is_some();
    let served = Box::pin(secured(stream, remote, Arc::new(Visitor { web, seat })));
    if stands {
        let _ = timeout(STANDING_DEADLINE, served).await;
    } else {
        served.await;
    }
}

/// Nothing but the connection and its place is held before its first byte has come: what TLS and
/// HTTP need is much more, and thousands may say nothing.
async fn visit(stream: TcpStream, remote: SocketAddr, visitor: Arc<Visitor>) {
    if let Some(stream) = spoken(stream, &visitor.web).await {
        Box::pin(secured(stream, remote, visitor)).await;
    }
}

async fn secured(stream: TcpStream, remote: SocketAddr, visitor: Arc<Visitor>) {
    let web = &visitor.web;
    let Some(tls) = &web.tls else { return connection(stream, remote, visitor).await };
    match web.handshakes.accept(tls, stream, remote.ip()).await {
        Ok(stream) => connection(stream, remote, visitor).await,
        Err(e) => tracing::debug!("TLS with {remote} failed: {e}"),
    }
}

/// The connection once it has sent something, unless its first byte is that of a framed STUN check:
/// neither HTTP nor TLS begins with nought. Such a one is a browser's media, and a worker's.
async fn spoken(stream: TcpStream, web: &WebPort) -> Option<TcpStream> {
    let deadline = if web.tls.is_some() { handshakes::DEADLINE } else { HEAD_DEADLINE };
    let mut first = [0];
    match (timeout(deadline, stream.peek(&mut first)).await, &web.streams) {
        (Ok(Ok(1)), Some(streams)) if first[0] == 0 => {
            stream.into_std().ok().into_iter().for_each(|s| streams.give(s));
            None
        }
        (Ok(Ok(n)), _) if n > 0 => Some(stream),
        _ => None,
    }
}

async fn connection<S: AsyncRead + AsyncWrite + Send + 'static>(
    stream: S,
    remote: SocketAddr,
    visitor: Arc<Visitor>,
) {
    let stands = visitor.seat.stands;
    let service = service_fn(move |mut request: Request<hyper::body::Incoming>| {
        let visitor = visitor.clone();
        async move {
            let edge = visitor.web.edge();
            let client = edge.client(&request, remote);
            if let Some(moved) = below(&mut request, &edge) {
                return Ok::<_, Infallible>(moved.map(Body::new));
            }
            let probe = matches!(request.uri().path(), "/livez" | "/readyz");
            if let Some(why) = stands.filter(|_| !probe) {
                return Ok(come_back(why).map(Body::new));
            }
            if let Some(refused) = misdirected(&request, &visitor.web) {
                return Ok(refused.map(Body::new));
            }
            // The API has its own guard; everything else is a file or the WebSocket's door.
            if request.uri().path().starts_with("/api/") {
                return ask_api(request, client, &visitor.web).await;
            }
            Ok(respond(request, client, &visitor).map(Body::new))
        }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .keep_alive(stands.is_none())
        .max_headers(64)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(Box::pin(with_write_deadline(stream))), service)
        .with_upgrades();
    let _ = served.await;
}

/// Takes the path of `public_url` off a request, if a proxy left it there; returns the way to the
/// page, which ends with a slash, if a request has none.
fn below(
    request: &mut Request<hyper::body::Incoming>,
    edge: &Edge,
) -> Option<Response<Full<Bytes>>> {
    let path = &edge.public.as_ref().filter(|p| !p.path.is_empty())?.path;
    let rest = request.uri().path().strip_prefix(path.as_str())?;
    if rest.is_empty() {
        let mut response = text(StatusCode::PERMANENT_REDIRECT, "it ends with a slash\n");
        let to = HeaderValue::from_str(&format!("{path}/")).ok()?;
        response.headers_mut().insert(header::LOCATION, to);
        return Some(response);
    }
    if rest.starts_with('/') {
        let query = request.uri().query().map(|q| format!("?{q}")).unwrap_or_default();
        if let Ok(uri) = format!("{rest}{query}").parse() {
            *request.uri_mut() = uri;
        }
    }
    None
}

/// Hands a request to the API, and says to it who asks.
async fn ask_api(
    request: Request<hyper::body::Incoming>,
    client: Client,
    web: &WebPort,
) -> Result<Response<Body>, Infallible> {
    let mut request = request.map(Body::new);
    let visit = web.visit(&request, client);
    request.extensions_mut().insert(visit);
    TowerToHyperService::new(web.api.clone()).call(request).await
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

/// The response for a connection that finds no place, or whose login would be refused: it is to
/// come back, and not all at once.
fn come_back(why: Used) -> Response<Full<Bytes>> {
    let mut again = [0];
    // Without chance all come after the same time, which is still better than at once.
    let _ = OsRng.try_fill_bytes(&mut again);
    let again = 5 + u64::from(again[0]) * 26 / 256;
    let mut response =
        text(StatusCode::SERVICE_UNAVAILABLE, format!("{}: come back later\n", why.as_str()));
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(again));
    response
}

/// A script for pages of other origins.
fn embeddable(mut response: Response<Full<Bytes>>) -> Response<Full<Bytes>> {
    response
        .headers_mut()
        .insert("cross-origin-resource-policy", HeaderValue::from_static("cross-origin"));
    // A module of another origin is loaded by CORS; what is in it is no secret.
    response
        .headers_mut()
        .insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    response
}

fn respond(
    request: Request<hyper::body::Incoming>,
    client: Client,
    visitor: &Arc<Visitor>,
) -> Response<Full<Bytes>> {
    let web = &visitor.web;
    // What the answer to HEAD would hold is left out by the connection.
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET is served here\n");
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let upgrades =
        request.method() == Method::GET && request.headers().get(header::UPGRADE).is_some();
    match request.uri().path() {
        // Clients that know no path ask at the root: baresip does.
        "/" if upgrades => upgrade(request, client, visitor),
        path if path == "/docs" || path.starts_with("/docs/") => {
            let edge = web.edge();
            let root = edge.public.as_ref().map_or("", |p| p.path.as_str());
            match docs::page(path.trim_start_matches("/docs")) {
                Some(page) => {
                    let page = page.replace("href=\"/", &format!("href=\"{root}/"));
                    file(StatusCode::OK, "text/html; charset=utf-8", page)
                }
                None => text(StatusCode::NOT_FOUND, "no such page of the book\n"),
            }
        }
        "/settings.json" => settings(&request, client.address, web),
        // The core holds the other end of the gauges as long as it lives.
        "/livez" | "/readyz" if web.gauges.has_changed().is_err() => {
            text(StatusCode::SERVICE_UNAVAILABLE, "the core has ended\n")
        }
        "/livez" => text(StatusCode::OK, "ok\n"),
        "/readyz" if web.gauges.borrow().draining => {
            text(StatusCode::SERVICE_UNAVAILABLE, "draining\n")
        }
        // Overload makes nothing unready: if every node is, none would be left.
        "/readyz" => {
            let gauges = *web.gauges.borrow();
            let state = gauges.overloaded.map_or("ok", |_| "overloaded");
            text(StatusCode::OK, format!("{state}\ncalls left: {}\n", gauges.calls_left))
        }
        "/sip" if request.method() == Method::GET => upgrade(request, client, visitor),
        path => match asset(path) {
            Some((kind, body)) => {
                let mut response = file(StatusCode::OK, kind, Bytes::new());
                served::fill(&mut response, request.headers(), body);
                if EMBEDDABLE.contains(&path) { embeddable(response) } else { response }
            }
            None => text(StatusCode::NOT_FOUND, "no such page\n"),
        },
    }
}

/// Scripts that pages of other origins embed; which of them may connect is for web.origins to say.
const EMBEDDABLE: [&str; 3] = ["/call-button.js", "/jssip.js", "/resume.js"];

/// A file of the page: its kind and its bytes.
fn asset(path: &str) -> Option<(&'static str, &'static [u8])> {
    const HTML: &str = "text/html; charset=utf-8";
    const SCRIPT: &str = "text/javascript; charset=utf-8";
    const STYLE: &str = "text/css; charset=utf-8";
    Some(match path {
        "/" => (HTML, include_bytes!("web/index.html")),
        "/button.html" => (HTML, include_bytes!("web/button.html")),
        "/page.js" => (SCRIPT, include_bytes!("web/dist/page.js")),
        "/charts.js" => (SCRIPT, include_bytes!("web/dist/charts.js")),
        "/call-button.js" => (SCRIPT, include_bytes!("web/dist/call-button.js")),
        "/resume.js" => (SCRIPT, include_bytes!("web/dist/resume.js")),
        "/jssip.js" => (SCRIPT, include_bytes!("web/dist/jssip.js")),
        "/service-worker.js" => (SCRIPT, include_bytes!("web/service-worker.js")),
        "/page.css" => (STYLE, include_bytes!("web/dist/page.css")),
        "/tokens.css" => (STYLE, include_bytes!("web/console/tokens.css")),
        "/phone.css" => (STYLE, include_bytes!("web/phone.css")),
        "/docs.css" => (STYLE, include_bytes!("web/docs.css")),
        "/manifest.webmanifest" => {
            ("application/manifest+json", include_bytes!("web/manifest.webmanifest"))
        }
        "/icon.svg" => ("image/svg+xml", include_bytes!("web/icon.svg")),
        "/icon-192.png" => ("image/png", include_bytes!("web/icon-192.png")),
        "/icon-512.png" => ("image/png", include_bytes!("web/icon-512.png")),
        _ => return None,
    })
}

/// What the page needs to know; the demo's login goes to pages opened on this machine by its own
/// name only.
fn settings(
    request: &Request<hyper::body::Incoming>,
    remote: SocketAddr,
    web: &WebPort,
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
    let oidc = web.access.as_ref().and_then(|access| access.oidc());
    let body = serde_json::json!({
        "domain": web.domain, "login": login, "token": token,
        "oidc": oidc.map(|oidc| oidc.label.clone()), "version": env!("CARGO_PKG_VERSION"),
    });
    file(StatusCode::OK, "application/json", body.to_string())
}

/// RFC 6455 §4.2, RFC 7118 §4: the handshake, with subprotocol `sip` required.
fn upgrade(
    mut request: Request<hyper::body::Incoming>,
    client: Client,
    visitor: &Arc<Visitor>,
) -> Response<Full<Bytes>> {
    let (web, remote) = (&visitor.web, client.address);
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
    if !origin_allowed(&request, web, client) {
        let origin = request.headers().get(header::ORIGIN).map(|o| o.as_bytes());
        log_limit::tell(Level::Warn, LineClass::new("origins refused", Code::ORIGIN), || {
            let origin = String::from_utf8_lossy(origin.unwrap_or_default());
            format!("the page of {} may not connect from {remote}", brief(&origin))
        });
        return text(StatusCode::FORBIDDEN, "this origin is not in web.origins\n");
    }
    // A browser that is let in now would be refused its login, and not all try that again.
    let overloaded = web.gauges.borrow().overloaded.filter(|why| *why != Overloaded::Media);
    if overloaded.is_some() && !web.awaited.has(remote.ip()) {
        web.refused.tell(RefusedPort::Web, Used::Overload, remote.ip());
        return come_back(Used::Overload);
    }
    let Some(key) = request.headers().get(header::SEC_WEBSOCKET_KEY).cloned() else {
        return text(StatusCode::BAD_REQUEST, "no Sec-WebSocket-Key\n");
    };
    // The proxy's connection has its place; whoever is behind it must have one too.
    let own = client.is_proxied.then(|| web.seats.take_or_tell(remote.ip()));
    if matches!(own, Some(None)) {
        let why = "too many connections come from your address\n";
        return text(StatusCode::TOO_MANY_REQUESTS, why);
    }
    let upgrading = hyper::upgrade::on(&mut request);
    let (inbox, visitor) = (web.inbox.clone(), visitor.clone());
    tokio::spawn(async move {
        // The place is held until the WebSocket ends, not only its handshake.
        let (_visitor, _own) = (visitor, own);
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
mod tests;
