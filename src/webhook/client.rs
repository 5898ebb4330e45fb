//! Requests to web applications: targets within this network are refused unless allowed, answers
//! are bounded.

use crate::egress::EgressPolicy;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Client, RequestBuilder, StatusCode, Url, redirect};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Longest answer read, bytes.
const MAX_ANSWER: usize = 64 * 1024;

/// Why there is no answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Failure {
    /// What it answered, if it did.
    pub status: Option<StatusCode>,
    /// What went wrong, as text.
    pub why: String,
}

impl Failure {
    fn new(why: impl Into<String>) -> Failure {
        Failure { status: None, why: why.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

/// Names that lead out of this network only (SSRF).
struct PublicResolver;

impl Resolve for PublicResolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0))
                .await?
                .filter(|a| EgressPolicy::default().admits(a.ip()))
                .collect();
            if found.is_empty() {
                return Err(format!(
                    "{} leads into this network, which allow_private = true would allow",
                    name.as_str()
                )
                .into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// A client that follows no redirects, and leaves this network unless `allow_private`.
///
/// # Errors
/// The TLS roots cannot be read.
pub(crate) fn client(allow_private: bool) -> anyhow::Result<Client> {
    // A command, which has no node, has nothing installed yet.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut builder = Client::builder()
        .redirect(redirect::Policy::none())
        .no_proxy()
        .user_agent(concat!("webtrunk/", env!("CARGO_PKG_VERSION")));
    if !allow_private {
        builder = builder.dns_resolver(Arc::new(PublicResolver));
    }
    Ok(builder.build()?)
}

/// `url` if it may be asked; a literal address needs no name, so it is judged here.
///
/// # Errors
/// Why not.
pub(crate) fn allowed(url: &str, allow_private: bool) -> Result<Url, Failure> {
    let url: Url = url.parse().map_err(|e| Failure::new(format!("{url}: {e}")))?;
    let literal = url.host_str().and_then(|h| h.trim_matches(['[', ']']).parse::<IpAddr>().ok());
    match literal.filter(|ip| !allow_private && !EgressPolicy::default().admits(*ip)) {
        Some(ip) => Err(Failure::new(format!(
            "{ip} is within this network: allow_private = true allows it"
        ))),
        None => Ok(url),
    }
}

/// Sends it; the body of a success.
///
/// # Errors
/// Why there is no answer.
pub(crate) async fn send(request: RequestBuilder) -> Result<String, Failure> {
    // The URL may hold a secret, and is known: only the cause is logged.
    let mut response = request.send().await.map_err(|e| Failure::new(cause(&e)))?;
    if !response.status().is_success() {
        return Err(Failure {
            status: Some(response.status()),
            why: format!("it answered {}", response.status()),
        });
    }
    let mut answer = Vec::new();
    while let Some(part) = response.chunk().await.map_err(|e| Failure::new(cause(&e)))? {
        answer.extend_from_slice(&part);
        if answer.len() > MAX_ANSWER {
            return Err(Failure::new(format!("its answer is longer than {MAX_ANSWER} bytes")));
        }
    }
    String::from_utf8(answer).map_err(|_| Failure::new("its answer is not UTF-8"))
}

/// The innermost cause of a client's error, without the URL.
fn cause(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    let mut inner: &dyn std::error::Error = error;
    while let Some(next) = inner.source() {
        inner = next;
    }
    inner.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_url_leads_into_this_network_in_any_spelling() {
        let table = include_str!("../../tests/corpus/addresses.txt").split_whitespace();
        let literal = |ip: &str| if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
        let spelled = ["2130706433", "0x7f.1", "0177.0.0.1", "127.1", "0", "[::ffff:7f00:1]"];
        for host in table.map(literal).chain(spelled.map(str::to_owned)) {
            let url = format!("https://{host}:8443/hook");
            assert!(allowed(&url, false).is_err(), "{url}");
            assert!(allowed(&url, true).is_ok(), "{url}");
        }
        assert!(allowed("https://8.8.8.8/hook", false).is_ok());
    }

    #[tokio::test]
    async fn no_name_leads_into_this_network() {
        let name: Name = "localhost".parse().expect("a name");
        let Err(why) = PublicResolver.resolve(name).await else { panic!("it resolved") };
        assert!(why.to_string().contains("allow_private"), "{why}");
    }

    #[tokio::test]
    async fn an_answer_is_read_up_to_its_bound() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let at = listener.local_addr().expect("bound");
        let client = client(true).expect("a client");
        for (length, read_well) in [(MAX_ANSWER, true), (MAX_ANSWER + 1, false)] {
            let answering = async {
                let (mut stream, _) = listener.accept().await.expect("a connection");
                let mut asked = [0; 1_024];
                let _ = stream.read(&mut asked).await;
                let head = format!(
                    "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
                );
                let _ = stream.write_all(head.as_bytes()).await;
                let _ = stream.write_all(&vec![b'x'; length]).await;
            };
            let asking = send(client.get(format!("http://{at}/hook")));
            let (answer, ()) = tokio::join!(asking, answering);
            assert_eq!(answer.is_ok(), read_well, "{length}");
        }
    }
}
