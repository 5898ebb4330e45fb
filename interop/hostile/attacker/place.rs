//! Where the gateway is, and connections to it from addresses of one's own.

use anyhow::Context;
use futures_util::{SinkExt, StreamExt};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;

#[derive(clap::Args, Clone)]
pub(crate) struct Place {
    /// The web port, wss
    #[arg(long)]
    pub(crate) web: SocketAddr,
    /// The domain, which is the certificate's name too
    #[arg(long, default_value = "hostile.test")]
    pub(crate) domain: String,
}

pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

pub(crate) type Socket = WebSocketStream<Box<dyn Stream>>;

/// The time after which an answer is counted as none.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

thread_local! {
    static TLS: TlsConnector = {
        let mut roots = rustls::RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let config =
            rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        TlsConnector::from(Arc::new(config))
    };
}

impl Place {
    /// A connection from `source`.
    pub(crate) async fn tcp(&self, source: IpAddr) -> anyhow::Result<TcpStream> {
        tcp(source, self.web).await
    }

    /// A connection from `source`, its TLS handshake done.
    pub(crate) async fn tls(&self, source: IpAddr) -> anyhow::Result<Box<dyn Stream>> {
        let stream = self.tcp(source).await?;
        let name = rustls::pki_types::ServerName::try_from(self.domain.clone())?;
        let connector = TLS.with(Clone::clone);
        Ok(Box::new(connector.connect(name, stream).await?))
    }

    /// A WebSocket for SIP from `source`.
    pub(crate) async fn websocket(&self, source: IpAddr) -> anyhow::Result<Socket> {
        let stream = self.tls(source).await?;
        let url = format!("wss://{}:{}/sip", self.domain, self.web.port());
        let mut request = url.into_client_request()?;
        request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static("sip"));
        let (socket, _) = tokio_tungstenite::client_async(request, stream).await?;
        Ok(socket)
    }
}

pub(crate) async fn tcp(source: IpAddr, to: SocketAddr) -> anyhow::Result<TcpStream> {
    let socket = if source.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::new(source, 0)).context("a source of one's own")?;
    let stream = socket.connect(to).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Sends one SIP message.
pub(crate) async fn say(socket: &mut Socket, text: String) -> anyhow::Result<()> {
    Ok(socket.send(Message::text(text)).await?)
}

/// The next SIP message.
pub(crate) async fn hear(socket: &mut Socket) -> anyhow::Result<String> {
    loop {
        let next = tokio::time::timeout(PATIENCE, socket.next()).await.context("no answer")?;
        match next.context("closed")?? {
            Message::Text(text) if !text.trim().is_empty() => return Ok(text.to_string()),
            Message::Close(why) => anyhow::bail!("closed: {why:?}"),
            _ => {}
        }
    }
}

/// The address after `first` by `n`.
pub(crate) fn nth(first: IpAddr, n: usize) -> IpAddr {
    match first {
        IpAddr::V4(first) => IpAddr::V4((u32::from(first) + n as u32).into()),
        // Another /64 each.
        IpAddr::V6(first) => IpAddr::V6((u128::from(first) + ((n as u128) << 64)).into()),
    }
}
