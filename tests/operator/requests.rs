//! What is asked of a served gateway over HTTP: by its socket, its web port and its metrics port.

use crate::server::Server;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

impl Server {
    fn exchange(mut stream: impl Read + Write, request: &str) -> String {
        stream.write_all(request.as_bytes()).expect("sent");
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// GET with more headers, over this connection.
    pub(crate) fn get_with(stream: TcpStream, path: &str, headers: &str) -> String {
        Server::exchange(
            stream,
            &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n"),
        )
    }

    fn request(method: &str, path: &str, token: &str, body: &str) -> String {
        let bearer = if token.is_empty() {
            String::new()
        } else {
            format!("Authorization: Bearer {token}\r\n")
        };
        let kind = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
        format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{bearer}{kind}Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    }

    pub(crate) fn control(&self, method: &str, path: &str, body: &str) -> String {
        Server::exchange(
            UnixStream::connect(self.socket()).expect("it listens"),
            &Server::request(method, path, "", body),
        )
    }

    pub(crate) fn control_with(
        &self,
        method: &str,
        path: &str,
        headers: &str,
        body: &str,
    ) -> String {
        let request =
            Server::request(method, path, "", body).replacen("\r\n", &format!("\r\n{headers}"), 1);
        Server::exchange(UnixStream::connect(self.socket()).expect("it listens"), &request)
    }

    pub(crate) fn http(&self, method: &str, path: &str, token: &str) -> String {
        Server::exchange(
            TcpStream::connect(("127.0.0.1", self.web)).expect("it listens"),
            &Server::request(method, path, token, ""),
        )
    }

    pub(crate) fn http_with(&self, method: &str, path: &str, token: &str, body: &str) -> String {
        Server::exchange(
            TcpStream::connect(("127.0.0.1", self.web)).expect("it listens"),
            &Server::request(method, path, token, body),
        )
    }

    /// As [`http`](Self::http), with these headers and a body.
    pub(crate) fn web_with(&self, method: &str, path: &str, headers: &str, body: &str) -> String {
        let request =
            Server::request(method, path, "", body).replacen("\r\n", &format!("\r\n{headers}"), 1);
        let stream = TcpStream::connect(("127.0.0.1", self.web)).expect("it listens");
        Server::exchange(stream, &request)
    }

    /// As [`web_with`](Self::web_with), over TLS.
    pub(crate) fn https_with(&self, method: &str, path: &str, headers: &str, body: &str) -> String {
        let ca = self.folder.join("local-ca/ca.pem");
        let ca = CertificateDer::from_pem_file(ca).expect("an authority");
        let request =
            Server::request(method, path, "", body).replacen("\r\n", &format!("\r\n{headers}"), 1);
        Server::exchange(self.connect_trusting(ca), &request)
    }

    /// A connection to `localhost` over TLS, by whom believes `authority` alone.
    pub(crate) fn connect_trusting(
        &self,
        authority: CertificateDer<'static>,
    ) -> rustls::StreamOwned<rustls::ClientConnection, TcpStream> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(authority).expect("a root");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").expect("a name");
        let tls = rustls::ClientConnection::new(Arc::new(config), name).expect("a client");
        let stream = TcpStream::connect(("127.0.0.1", self.web)).expect("it listens");
        rustls::StreamOwned::new(tls, stream)
    }

    pub(crate) fn get(&self, path: &str) -> String {
        self.http("GET", path, "")
    }

    /// The head of a streaming response.
    pub(crate) fn head(&self, path: &str) -> String {
        let mut stream = UnixStream::connect(self.socket()).expect("it listens");
        stream.write_all(Server::request("GET", path, "", "").as_bytes()).expect("sent");
        let mut bytes = Vec::new();
        let mut byte = [0];
        while !bytes.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n > 0) {
            bytes.extend_from_slice(&byte);
        }
        String::from_utf8(bytes).expect("UTF-8")
    }

    /// The metrics for who accepts this.
    pub(crate) fn metrics_as(&self, accept: &str) -> String {
        let request = Server::request("GET", "/metrics", "", "").replacen(
            "\r\n",
            &format!("\r\nAccept: {accept}\r\n"),
            1,
        );
        let stream = TcpStream::connect(("127.0.0.1", self.metrics)).expect("it listens");
        Server::exchange(stream, &request)
    }

    /// The metrics, as Prometheus asks for them.
    pub(crate) fn metrics(&self) -> String {
        self.metrics_as("application/openmetrics-text")
    }

    /// Waits until each of these is in the metrics.
    pub(crate) fn counts(&self, series: &[&str]) {
        for wanted in series {
            let found =
                self.comes_true(|| self.metrics().lines().any(|line| line.starts_with(wanted)));
            assert!(found, "{wanted} is not in\n{}", self.metrics());
        }
    }
}
