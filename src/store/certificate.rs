//! The cluster's DTLS certificate, sealed in its store: a browser whose call another node takes
//! over knows it already, and no handshake is due.

use super::{Dialler, StoreKeys};
use crate::cluster::keys::derive;
use crate::config::ClusterSettings;
use crate::state::seal::Sealer;
use anyhow::{Context, anyhow};

/// What the certificate is sealed as.
const NAME: &str = "certificate";

/// The certificate with its key, as PEM, that all nodes show: `own`, if there is none yet.
///
/// # Errors
/// The store cannot be asked, or what it has is not sealed by the cluster's key.
pub(crate) async fn certificate(
    settings: &ClusterSettings,
    domain: &str,
    own: &str,
) -> anyhow::Result<String> {
    let mut dialler = Dialler::new(&settings.store)?;
    let mut connection = dialler.connect().await.map_err(|why| anyhow!("{why}"))?;
    let mut sealer = Sealer::new(derive(settings.key.reveal(), NAME))?;
    let sealed = sealer.seal(NAME, own.as_bytes()).context("it cannot be sealed")?;
    let key = StoreKeys::new(domain).certificate();
    let mut pipe = redis::pipe();
    pipe.cmd("SETNX").arg(&key).arg(sealed).ignore().cmd("GET").arg(&key);
    let (kept,): (Vec<u8>,) = pipe.query_async(&mut connection).await?;
    let pem = sealer.open(NAME, &kept).context("it is sealed by another key")?;
    String::from_utf8(pem).context("it is no text")
}
