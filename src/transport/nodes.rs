//! Connections between the nodes of a cluster: TLS, on which both prove that they have its key.
//!
//! The key makes an authority, the same on all nodes, and each node signs a certificate of its own
//! by it that names the node and its address. A node sends over connections it opened itself, and
//! reads from those it accepted.

use super::handshakes::Handshakes;
use super::proved::ProvedSources;
use super::seats::Seats;
use super::{Arrival, CONNECTION_QUEUE, Inbox, tcp, tune};
use crate::cluster::keys::derive;
use crate::config::ClusterSettings;
use crate::errors::Code;
use crate::gateway::Input;
use crate::log_limit::{self, Level, LineClass};
use crate::refused::{RefusedConnections, RefusedPort};
use crate::sip::transaction::Hop;
use anyhow::{Context, anyhow};
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::signature::Ed25519KeyPair;
use bytes::Bytes;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// What every node's certificate is for.
const NAME: &str = "node.webtrunk.internal";
/// What a connection is for that is not of SIP: another node asks for a list (RFC 7301).
const ASKING: &[u8] = b"webtrunk-lists";
/// A connection is given up after this long.
const CONNECT: Duration = Duration::from_secs(2);
/// Accepted connections at once, and of one address.
const MAX_CONNECTIONS: usize = 256;
const MAX_PER_SOURCE: usize = 64;

/// What proves this node to the others, and them to it.
#[derive(Clone)]
pub(crate) struct NodeTls {
    acceptor: TlsAcceptor,
    connector: TlsConnector,
    asking: TlsConnector,
}

/// Takes the connection of a node that asks.
pub(crate) type AskingDoor = Arc<dyn Fn(TlsStream<TcpStream>) -> ServedAsking + Send + Sync>;
/// It is served.
pub(crate) type ServedAsking = Pin<Box<dyn Future<Output = ()> + Send>>;

impl NodeTls {
    /// Made of the cluster's key.
    ///
    /// # Errors
    /// The cryptography refuses, which it does not.
    pub(crate) fn new(settings: &ClusterSettings) -> anyhow::Result<NodeTls> {
        let seed = derive(settings.key.reveal(), "authority");
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|e| anyhow!("{e}"))?;
        let der: aws_lc_rs::encoding::Pkcs8V1Der<'_> = pair.as_der().map_err(|e| anyhow!("{e}"))?;
        let key = KeyPair::try_from(der.as_ref()).context("the authority of the cluster")?;
        let mut params = CertificateParams::new(Vec::<String>::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.distinguished_name.push(DnType::CommonName, "webtrunk cluster");
        let authority = params.clone().self_signed(&key)?.der().clone();
        let issuer = Issuer::new(params, key);
        let mut leaf = CertificateParams::new(vec![NAME.to_owned()])?;
        let own = format!("sip:{}@{}", settings.node, settings.advertise);
        leaf.subject_alt_names.push(SanType::URI(own.try_into()?));
        leaf.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let leaf_key = KeyPair::generate()?;
        let chain = vec![leaf.signed_by(&leaf_key, &issuer)?.der().clone()];
        let key = || PrivateKeyDer::try_from(leaf_key.serialize_der()).map_err(|e| anyhow!("{e}"));
        let mut roots = RootCertStore::empty();
        roots.add(authority)?;
        let roots = Arc::new(roots);
        let versions = &[&rustls::version::TLS13];
        let mut server = ServerConfig::builder_with_protocol_versions(versions)
            .with_client_cert_verifier(WebPkiClientVerifier::builder(roots.clone()).build()?)
            .with_single_cert(chain.clone(), key()?)?;
        // A peer that names no protocol speaks SIP.
        server.alpn_protocols = vec![ASKING.to_vec()];
        let client = ClientConfig::builder_with_protocol_versions(versions)
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key()?)?;
        let mut asking = client.clone();
        asking.alpn_protocols = vec![ASKING.to_vec()];
        Ok(NodeTls {
            acceptor: TlsAcceptor::from(Arc::new(server)),
            connector: TlsConnector::from(Arc::new(client)),
            asking: TlsConnector::from(Arc::new(asking)),
        })
    }

    /// A connection to the node at `to`, which has proved to be that.
    ///
    /// # Errors
    /// Nobody answers there, or somebody else.
    pub(crate) async fn connected(
        &self,
        to: SocketAddr,
    ) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        proved(&self.connector, to).await
    }

    /// A connection to ask the node at `to` by.
    ///
    /// # Errors
    /// As [`connected`](Self::connected), or its version knows no questions.
    pub(crate) async fn asking(
        &self,
        to: SocketAddr,
    ) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let stream = proved(&self.asking, to).await?;
        if stream.get_ref().1.alpn_protocol() != Some(ASKING) {
            return Err(io::Error::other("its version cannot be asked"));
        }
        Ok(stream)
    }
}

/// A connection to the node at `to`, which has proved to be that.
async fn proved(
    connector: &TlsConnector,
    to: SocketAddr,
) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let stream = TcpStream::connect(to).await?;
    tune(&stream);
    let name = ServerName::try_from(NAME).map_err(io::Error::other)?;
    let stream = connector.connect(name, stream).await?;
    let at = address_of(stream.get_ref().1.peer_certificates());
    if at != Some(to) {
        return Err(io::Error::other("another node answers there"));
    }
    Ok(stream)
}

/// Where the node that showed this chain says it is reached.
fn address_of(chain: Option<&[CertificateDer<'_>]>) -> Option<SocketAddr> {
    let (_, leaf) = X509Certificate::from_der(chain?.first()?).ok()?;
    let names = leaf.subject_alternative_name().ok()??;
    let mut uris = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => uri.rsplit_once('@')?.1.parse().ok(),
        _ => None,
    });
    uris.next()
}

/// Accepts the connections of other nodes until the core stops.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: NodeTls,
    inbox: Inbox,
    refused: Arc<RefusedConnections>,
    asking: AskingDoor,
) {
    let proved = Arc::new(ProvedSources::new(Instant::now()));
    let handshakes =
        Handshakes::new(RefusedPort::Sip, MAX_PER_SOURCE, refused.clone(), proved.clone());
    let handshakes = Arc::new(handshakes);
    let bounds = (MAX_CONNECTIONS, MAX_PER_SOURCE);
    let seats = Seats::new(RefusedPort::Sip, bounds, refused, proved.clone());
    loop {
        let (stream, remote, seat) = seats.accept(&listener).await;
        let (inbox, tls) = (inbox.clone(), tls.clone());
        let (handshakes, proved) = (handshakes.clone(), proved.clone());
        let asking = asking.clone();
        tokio::spawn(async move {
            let _seat = seat;
            let stream = match handshakes.accept(&tls.acceptor, stream, remote.ip()).await {
                Ok(stream) => stream,
                Err(e) => {
                    let class = LineClass::new("nodes refused", Code::CLUSTER_KEY);
                    let line = || format!("{remote} is no node of this cluster: {e}");
                    return log_limit::tell(Level::Warn, class, line);
                }
            };
            let Some(at) = address_of(stream.get_ref().1.peer_certificates()) else { return };
            proved.prove(Instant::now(), remote.ip());
            if stream.get_ref().1.alpn_protocol() == Some(ASKING) {
                return asking(stream).await;
            }
            // Nothing is sent this way, and the connection lives for as long as the node wants.
            let (_keep, outbox) = mpsc::channel(1);
            tcp::run(stream, Hop::Node(at), remote, outbox, &inbox).await;
        });
    }
}

/// Opens the connection to the node at `to`; what waits in `outbox` is sent once it stands.
pub(crate) fn connect(to: SocketAddr, tls: NodeTls, outbox: mpsc::Receiver<Bytes>, inbox: Inbox) {
    tokio::spawn(async move {
        let hop = Hop::Node(to);
        let failed = match timeout(CONNECT, tls.connected(to)).await {
            Ok(Ok(stream)) => {
                tcp::run(stream, hop, to, outbox, &inbox).await;
                None
            }
            Ok(Err(e)) => Some(format!("no connection to the node at {to}: {e}")),
            Err(_) => Some(format!("no connection to the node at {to} within 2 s")),
        };
        if let Some(why) = &failed {
            let class = LineClass::new("connections to nodes that failed", Code::NODE_AWAY);
            log_limit::tell(Level::Warn, class, || why.clone());
        }
        inbox.give(Arrival::Disconnected { hop }).await;
        let code = if failed.is_some() { Code::NODE_AWAY } else { Code::FINE };
        let why = failed.unwrap_or_default();
        inbox.input(Input::Unreachable { hop, code, why }).await;
    });
}

/// The queue of a connection to a node.
pub(crate) fn outbox() -> (mpsc::Sender<Bytes>, mpsc::Receiver<Bytes>) {
    mpsc::channel(CONNECTION_QUEUE)
}
