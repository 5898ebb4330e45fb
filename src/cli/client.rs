//! A client of the API: over the control socket, or over HTTP with a token.

use anyhow::{Context, anyhow};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use webtrunk::api::socket;

/// The gateway that a command is for.
#[derive(clap::Args, Clone, Debug, Default)]
pub(crate) struct ApiAddress {
    /// The control socket of a gateway on this machine
    #[arg(long, global = true, env = "WEBTRUNK_CONTROL", value_name = "PATH")]
    pub control: Option<PathBuf>,
    /// The API of a gateway on another machine, such as https://calls.example.com
    #[arg(long, global = true, env = "WEBTRUNK_API", value_name = "URL")]
    pub api: Option<String>,
    /// The token for --api
    #[arg(
        long,
        global = true,
        env = "WEBTRUNK_TOKEN",
        hide_env_values = true,
        allow_hyphen_values = true
    )]
    pub token: Option<String>,
}

impl ApiAddress {
    /// Where the control socket is.
    ///
    /// # Errors
    /// Nobody named it, and its usual place may be somebody else's.
    pub(crate) fn control_path(&self) -> anyhow::Result<PathBuf> {
        if let Some(path) = &self.control {
            return Ok(path.clone());
        }
        let path = socket::default_path();
        socket::trusted(&path)?;
        Ok(path)
    }
}

/// The error if no gateway listens at `path`.
pub(crate) fn not_there(path: &Path, e: &std::io::Error) -> NotReachable {
    NotReachable(format!(
        "no gateway answers on {}: {e}\n  fix: start one with `webtrunk serve`, name its socket \
         with --control, or the API of another machine with --api",
        path.display()
    ))
}

/// The gateway is not there.
#[derive(Debug)]
pub(crate) struct NotReachable(pub String);

impl fmt::Display for NotReachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotReachable {}

/// An answer other than success: RFC 9457's words.
#[derive(Debug)]
pub(crate) struct ApiRefusal {
    /// The status of the answer.
    pub status: StatusCode,
    detail: String,
    code: Option<String>,
    fix: Option<String>,
}

impl fmt::Display for ApiRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = self.code.as_ref().map(|c| format!("{c}  ")).unwrap_or_default();
        write!(f, "{code}{}", self.detail.trim_end())?;
        self.fix.iter().try_for_each(|fix| write!(f, "\n  fix: {fix}"))
    }
}

impl std::error::Error for ApiRefusal {}

/// A way to a gateway.
pub(crate) struct ApiClient {
    reach: ApiAddress,
}

/// A connection, encrypted or not.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// TLS over `stream` with a server of this name, verified by this machine's authorities.
///
/// # Errors
/// The handshake failed, or the certificate is not accepted.
pub(crate) async fn encrypt(
    stream: tokio::net::TcpStream,
    host: &str,
) -> std::io::Result<Box<dyn Stream>> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let config =
        rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let name = rustls::pki_types::ServerName::try_from(host.trim_matches(['[', ']']).to_owned())
        .map_err(std::io::Error::other)?;
    Ok(Box::new(tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await?))
}

impl ApiClient {
    /// A client for `reach`; it connects with each request.
    pub(crate) fn new(reach: &ApiAddress) -> ApiClient {
        ApiClient { reach: reach.clone() }
    }

    async fn connect(&self) -> anyhow::Result<(Box<dyn Stream>, String)> {
        let Some(url) = &self.reach.api else {
            let path = self.reach.control_path()?;
            let stream = tokio::net::UnixStream::connect(&path);
            let stream = stream.await.map_err(|e| not_there(&path, &e))?;
            return Ok((Box::new(stream), "localhost".to_owned()));
        };
        let uri: hyper::Uri = url
            .parse()
            .with_context(|| format!("{url:?} is not a URL such as https://calls.example.com"))?;
        let host = uri.host().ok_or_else(|| anyhow!("{url:?} names no host"))?.to_owned();
        let secure = uri.scheme_str() != Some("http");
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let far = |e: std::io::Error| NotReachable(format!("no gateway answers at {url}: {e}"));
        let stream = tokio::net::TcpStream::connect((host.as_str(), port)).await.map_err(far)?;
        let authority = format!("{host}:{port}");
        if !secure {
            return Ok((Box::new(stream), authority));
        }
        Ok((encrypt(stream, &host).await.map_err(far)?, authority))
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        accept: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<Response<Incoming>> {
        let (stream, host) = self.connect().await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let mut request = Request::builder()
            .method(method)
            .uri(format!("/api/v1{path}"))
            .header(header::HOST, host)
            .header(header::ACCEPT, accept);
        if let Some(token) = &self.reach.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let bytes = match body {
            Some(body) => {
                request = request.header(header::CONTENT_TYPE, "application/json");
                Bytes::from(body.to_string())
            }
            None => Bytes::new(),
        };
        let response = sender.send_request(request.body(Full::new(bytes))?).await?;
        if response.status().is_success() {
            let unanswered = response.headers().get("x-webtrunk-unanswered");
            if let Some(nodes) = unanswered.and_then(|names| names.to_str().ok()) {
                crate::print::note(&format!("without these nodes, which did not answer: {nodes}"));
            }
            return Ok(response);
        }
        let status = response.status();
        let bytes = response.into_body().collect().await?.to_bytes();
        let problem: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let text = |key: &str| problem[key].as_str().map(str::to_owned);
        let detail = text("detail")
            .unwrap_or_else(|| format!("{status}: {}", String::from_utf8_lossy(&bytes)));
        Err(ApiRefusal { status, detail, code: text("code"), fix: text("fix") }.into())
    }

    /// The JSON at `path`.
    ///
    /// # Errors
    /// [`NotReachable`], [`Refused`], or a broken connection.
    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.call(Method::GET, path, None).await
    }

    /// As [`get`](Self::get), for any method.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<Value> {
        let response = self.send(method, path, "application/json", body).await?;
        Ok(serde_json::from_slice(&response.into_body().collect().await?.to_bytes())?)
    }

    /// A page of the list at `path`, and the path of the next.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub(crate) async fn page(&self, path: &str) -> anyhow::Result<(Vec<Value>, Option<String>)> {
        let response = self.send(Method::GET, path, "application/json", None).await?;
        let link = response.headers().get(header::LINK).and_then(|l| l.to_str().ok());
        // RFC 8288: a reference relative to what was asked for.
        let query =
            link.and_then(|l| l.strip_prefix('<')?.split_once(">; rel=\"next\"")).map(|l| l.0);
        let base = path.split('?').next().unwrap_or_default();
        let next = query.map(|query| format!("{base}{query}"));
        let bytes = response.into_body().collect().await?.to_bytes();
        Ok((serde_json::from_slice(&bytes)?, next))
    }

    /// Each page of the list at `path`, one after the other; returns whether items were omitted
    /// because there are `most` already.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub(crate) async fn pages(
        &self,
        path: &str,
        most: Option<usize>,
        mut each: impl FnMut(Vec<Value>),
    ) -> anyhow::Result<bool> {
        let (mut next, mut left) = (Some(path.to_owned()), most.unwrap_or(usize::MAX));
        while let Some(path) = next.take() {
            let (mut items, more) = self.page(&path).await?;
            let cut = items.len() > left;
            items.truncate(left);
            left -= items.len();
            each(items);
            if cut || (left == 0 && more.is_some()) {
                return Ok(true);
            }
            next = more;
        }
        Ok(false)
    }

    /// What is at `path`, as it comes.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub(crate) async fn bytes(&self, path: &str) -> anyhow::Result<Bytes> {
        let response = self.send(Method::GET, path, "*/*", None).await?;
        Ok(response.into_body().collect().await?.to_bytes())
    }

    /// Events from now on, until `each` returns false or the gateway stops.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub(crate) async fn events(
        &self,
        path: &str,
        mut each: impl FnMut(Value) -> bool,
    ) -> anyhow::Result<()> {
        let mut body = self.send(Method::GET, path, "text/event-stream", None).await?.into_body();
        let mut text = String::new();
        while let Some(frame) = body.frame().await {
            if let Some(data) = frame?.data_ref() {
                text.push_str(&String::from_utf8_lossy(data));
            }
            while let Some(end) = text.find("\n\n") {
                let event: String = text.drain(..end + 2).collect();
                let data = event.lines().find_map(|l| l.strip_prefix("data:"));
                if let Some(value) = data.and_then(|d| serde_json::from_str(d.trim()).ok())
                    && !each(value)
                {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// `name=value` of those that are given, each after `&`, as they follow a path and its first
/// parameter.
pub(crate) fn given(parameters: &[(&str, &Option<String>)]) -> String {
    parameters
        .iter()
        .filter_map(|(name, value)| Some(format!("&{name}={}", escape(value.as_ref()?))))
        .collect()
}

/// `text` as it may stand in a path or query.
pub(crate) fn escape(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, b| {
        if b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~') {
            out.push(char::from(b));
        } else {
            out.push_str(&format!("%{b:02X}"));
        }
        out
    })
}
