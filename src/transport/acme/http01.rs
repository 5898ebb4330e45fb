//! The port at which an ACME authority looks for its proof (RFC 8555 §8.3). Everything else that
//! comes there is sent to https.

use crate::refused::RefusedPort;
use crate::transport::proved::ProvedSources;
use crate::transport::seats::Seats;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue, LOCATION};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

const PATH: &str = "/.well-known/acme-challenge/";
/// Connections at one time, each of which is short; and of one source, so that no stranger keeps
/// the authority out until the certificate has expired.
const MAX_CONNECTIONS: usize = 256;
const MAX_PER_SOURCE: usize = 8;
const CONNECTION_DEADLINE: Duration = Duration::from_secs(10);
/// The port may be another process's for a moment, while it hands over to this one.
const BIND_AGAIN: Duration = Duration::from_secs(2);

/// What the authority looks for: by token.
#[derive(Default)]
pub(super) struct Proofs(Mutex<HashMap<String, String>>);

impl Proofs {
    pub(super) fn prove(&self, token: String, proof: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(token, proof);
    }

    pub(super) fn forget(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn of(&self, token: &str) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(token).cloned()
    }
}

/// Serves until the task is dropped. `to` is the host others are sent to.
pub(super) async fn serve(at: SocketAddr, to: String, proofs: Arc<Proofs>) {
    let mut reported = false;
    let listener = loop {
        match TcpListener::bind(at).await {
            Ok(listener) => break listener,
            Err(e) if !reported => {
                reported = true;
                tracing::warn!(
                    code = %crate::errors::Code::ACME,
                    "web.tls.acme.http = {at} cannot be bound, and is tried again: {e}"
                );
            }
            Err(_) => {}
        }
        sleep(BIND_AGAIN).await;
    };
    accept(listener, seats(), to, proofs).await;
}

fn seats() -> Arc<Seats> {
    let proved = Arc::new(ProvedSources::new(Instant::now()));
    let most = (MAX_CONNECTIONS, MAX_PER_SOURCE);
    Seats::new(RefusedPort::Web, most, Arc::default(), proved)
}

async fn accept(listener: TcpListener, seats: Arc<Seats>, to: String, proofs: Arc<Proofs>) {
    loop {
        let (stream, _, seat) = seats.accept(&listener).await;
        let served = connection(stream, to.clone(), proofs.clone());
        tokio::spawn(async move {
            let _seat = seat;
            let _ = timeout(CONNECTION_DEADLINE, served).await;
        });
    }
}

async fn connection(stream: TcpStream, to: String, proofs: Arc<Proofs>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let response = respond(request.uri().path(), request.uri().query(), &to, &proofs);
        async move { Ok::<_, Infallible>(response) }
    });
    let _ = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .keep_alive(false)
        .max_headers(64)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

fn respond(path: &str, query: Option<&str>, to: &str, proofs: &Proofs) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    if let Some(token) = path.strip_prefix(PATH) {
        let kind = HeaderValue::from_static("application/octet-stream");
        response.headers_mut().insert(CONTENT_TYPE, kind);
        match proofs.of(token) {
            Some(proof) => *response.body_mut() = Full::new(Bytes::from(proof)),
            None => *response.status_mut() = StatusCode::NOT_FOUND,
        }
        return response;
    }
    let query = query.map(|q| format!("?{q}")).unwrap_or_default();
    *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
    match HeaderValue::from_str(&format!("https://{to}{path}{query}")) {
        Ok(place) => drop(response.headers_mut().insert(LOCATION, place)),
        Err(_) => *response.status_mut() = StatusCode::BAD_REQUEST,
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_says_nothing_ends_and_gives_its_place_back() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let at = listener.local_addr().expect("its address");
        let seats = seats();
        let server = tokio::spawn(accept(listener, seats.clone(), "x".into(), Arc::default()));
        let mut silent = Vec::new();
        for _ in 0..64 {
            silent.push(TcpStream::connect(at).await.expect("connected"));
        }
        let mut last = TcpStream::connect(at).await.expect("connected");
        last.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("sent");
        let mut answer = String::new();
        last.read_to_string(&mut answer).await.expect("answered");
        assert!(answer.starts_with("HTTP/1.1 308 "), "{answer}");
        for mut silent in silent {
            let ended = silent.read(&mut [0]).await;
            assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
        }
        tokio::task::yield_now().await;
        assert_eq!(seats.taken(), 0);
        server.abort();
    }

    #[test]
    fn a_proof_is_found_by_its_token_and_everything_else_goes_to_https() {
        let proofs = Proofs::default();
        proofs.prove("token".into(), "token.thumb".into());
        let ask = |path, query| respond(path, query, "calls.example.com", &proofs);
        assert_eq!(ask("/.well-known/acme-challenge/token", None).status(), 200);
        assert_eq!(ask("/.well-known/acme-challenge/other", None).status(), 404);
        let sent = ask("/a", Some("b=c"));
        assert_eq!(sent.status(), 308);
        assert_eq!(sent.headers()[LOCATION], "https://calls.example.com/a?b=c");
        proofs.forget();
        assert_eq!(ask("/.well-known/acme-challenge/token", None).status(), 404);
    }
}
