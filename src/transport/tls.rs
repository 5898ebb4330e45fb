//! TLS for the web port: certificate files, or an own certificate authority for a laboratory.

use super::acme;
use super::certificate::{ACME_TLS, ShownCertificate, certified};
use super::tickets::SharedTickets;
use crate::config::{ClusterSettings, Config, TrunkTls, WebTls};
use crate::private;
use anyhow::{Context, anyhow};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::collections::HashMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_rustls::TlsConnector;

/// What the web port shows, or `None` if TLS is off.
///
/// # Errors
/// Files that cannot be read or do not fit together; a folder for ACME that cannot be made.
pub(super) fn certificate(config: &Config) -> anyhow::Result<Option<Arc<ShownCertificate>>> {
    let shown = match &config.web_tls {
        WebTls::Off => return Ok(None),
        WebTls::Files { cert, key } => {
            ShownCertificate::of_files("web.tls", cert.clone(), key.clone())?
        }
        WebTls::Local(folder) => {
            let (chain, key) = local(folder, &config.domain, &config.public_ips)?;
            ShownCertificate::new("web.tls", certified(chain, key)?)
        }
        WebTls::Acme(settings) => acme::kept_or_placeholder(settings, config.state_dir.as_deref())?,
    };
    Ok(Some(Arc::new(shown)))
}

/// The acceptor of the web port; nodes of one cluster read one another's tickets by its key.
///
/// # Errors
/// The system gives no random bytes.
pub(crate) fn acceptor(
    certificate: &Arc<ShownCertificate>,
    cluster: Option<&ClusterSettings>,
) -> anyhow::Result<tokio_rustls::TlsAcceptor> {
    let mut config = certificate.config();
    config.alpn_protocols = vec![b"http/1.1".to_vec(), ACME_TLS.to_vec()];
    // A returning client costs no signature, however many there are.
    config.ticketer = match cluster {
        Some(cluster) => Arc::new(SharedTickets::new(cluster.key.reveal())),
        None => rustls::crypto::aws_lc_rs::Ticketer::new().context("TLS tickets")?,
    };
    Ok(tokio_rustls::TlsAcceptor::from(Arc::new(config)))
}

/// When the first certificate of a PEM file ends, seconds since 1970.
pub fn file_ends(path: &Path) -> Option<i64> {
    let pem = std::fs::read(path).ok()?;
    let (_, pem) = x509_parser::pem::parse_x509_pem(&pem).ok()?;
    Some(pem.parse_x509().ok()?.validity().not_after.timestamp())
}

/// Reads a certificate with its chain.
///
/// # Errors
/// The file cannot be read, or holds none.
pub(super) fn read_chain(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let chain: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).with_context(|| path.display().to_string())?.collect();
    chain.map_err(|e| anyhow!("{}: {e}", path.display()))
}

/// Reads a private key.
///
/// # Errors
/// The file cannot be read, or holds none.
pub(super) fn read_key(path: &Path) -> anyhow::Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_file(path).map_err(|e| anyhow!("{}: {e}", path.display()))
}

/// The acceptor of the SIP listener, which shows `certificate`; with `client_ca`, peers must show a
/// certificate of it.
///
/// # Errors
/// A file of authorities that cannot be read.
pub(crate) fn sip_acceptor(
    certificate: &Arc<ShownCertificate>,
    client_ca: Option<&Path>,
) -> anyhow::Result<tokio_rustls::TlsAcceptor> {
    let config = match client_ca {
        None => certificate.config(),
        Some(ca) => {
            let verifier =
                rustls::server::WebPkiClientVerifier::builder(Arc::new(roots(Some(ca))?)).build();
            ServerConfig::builder()
                .with_client_cert_verifier(verifier.context("sip.client_ca")?)
                .with_cert_resolver(certificate.clone())
        }
    };
    Ok(tokio_rustls::TlsAcceptor::from(Arc::new(config)))
}

/// The authorities of a file, or the system's.
fn roots(ca: Option<&Path>) -> anyhow::Result<rustls::RootCertStore> {
    let mut roots = rustls::RootCertStore::empty();
    match ca {
        Some(ca) => {
            for certificate in read_chain(ca)? {
                roots.add(certificate).with_context(|| ca.display().to_string())?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    Ok(roots)
}

/// The machine's authorities as PEM, but for those that rustls cannot use.
pub(crate) fn authorities_of_the_machine() -> Vec<u8> {
    let usable =
        |der: &CertificateDer<'static>| rustls::RootCertStore::empty().add(der.clone()).is_ok();
    let all = rustls_native_certs::load_native_certs().certs;
    let pem = |der: CertificateDer<'static>| {
        let text = STANDARD.encode(der);
        format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
    };
    all.into_iter().filter(usable).map(pem).collect::<String>().into_bytes()
}

/// What secures connections to trunks; trunks with the same files share it, for the system's
/// authorities alone take 150 kB and two milliseconds.
#[derive(Default)]
pub(crate) struct TrunkConnectors(HashMap<Files, TlsConnector>);

/// The authorities that are trusted, and the certificate and key that are shown.
type Files = (Option<PathBuf>, Option<(PathBuf, PathBuf)>);

impl TrunkConnectors {
    /// How connections to a trunk at `host` are secured: chain and name are always verified (RFC
    /// 5922).
    ///
    /// # Errors
    /// Files that cannot be read, an invalid name.
    pub(crate) fn secure(
        &mut self,
        settings: &TrunkTls,
        host: &str,
    ) -> anyhow::Result<super::tcp::Secure> {
        let name = settings.name.clone().unwrap_or_else(|| host.to_owned());
        let name = rustls::pki_types::ServerName::try_from(name.clone())
            .with_context(|| format!("{name:?} is no name a certificate can have"))?;
        let files = (settings.ca.clone(), settings.cert.clone());
        let connector = match self.0.get(&files) {
            Some(known) => known.clone(),
            None => {
                let made = trunk_connector(&files)?;
                self.0.insert(files, made.clone());
                made
            }
        };
        Ok(super::tcp::Secure { connector, name })
    }
}

fn trunk_connector((ca, cert): &Files) -> anyhow::Result<TlsConnector> {
    let verifier = super::sip_certificate::SipVerifier::new(roots(ca.as_deref())?)
        .context("no certificate authority is known")?;
    let builder = rustls::ClientConfig::builder()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let config = match cert {
        None => builder.with_no_client_auth(),
        Some((cert, key)) => builder
            .with_client_auth_cert(read_chain(cert)?, read_key(key)?)
            .context("client certificate and key do not fit together")?,
    };
    Ok(TlsConnector::from(Arc::new(config)))
}

/// A leaf for `domain` and `ips`, signed by a CA kept in `folder`; import its `ca.pem` into the
/// browser.
fn local(
    folder: &Path,
    domain: &str,
    ips: &[IpAddr],
) -> anyhow::Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let (ca_file, key_file) = (folder.join("ca.pem"), folder.join("ca.key"));
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name.push(DnType::CommonName, "webtrunk local CA");
    let key = if key_file.exists() {
        KeyPair::from_pem(&std::fs::read_to_string(&key_file)?)?
    } else {
        private::folder(folder).with_context(|| folder.display().to_string())?;
        let key = KeyPair::generate()?;
        private::write(&key_file, key.serialize_pem().as_bytes())?;
        std::fs::write(&ca_file, params.self_signed(&key)?.pem())?;
        key
    };
    let issuer = Issuer::new(params, key);
    let mut names = vec![domain.to_owned(), "localhost".to_owned(), "127.0.0.1".to_owned()];
    names.extend(ips.iter().map(IpAddr::to_string));
    names.dedup();
    let leaf_key = KeyPair::generate()?;
    let leaf = CertificateParams::new(names)?.signed_by(&leaf_key, &issuer)?;
    let key = PrivateKeyDer::try_from(leaf_key.serialize_der()).map_err(|e| anyhow!("{e}"))?;
    Ok((vec![leaf.der().clone()], key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trunks_with_the_same_files_share_what_secures_them_and_keep_their_names() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let mut connectors = TrunkConnectors::default();
        let settings = TrunkTls::default();
        let secured: Vec<_> = ["a.example", "b.example"]
            .map(|host| connectors.secure(&settings, host).expect("the system has authorities"))
            .into();
        assert_eq!(connectors.0.len(), 1);
        assert!(Arc::ptr_eq(secured[0].connector.config(), secured[1].connector.config()));
        assert_ne!(secured[0].name, secured[1].name);
        let own = TrunkTls { name: Some("c.example".into()), ..TrunkTls::default() };
        let named = connectors.secure(&own, "a.example").expect("a name");
        assert_eq!(named.name.to_str(), "c.example");
        let other = TrunkTls { ca: Some("/nowhere.pem".into()), ..TrunkTls::default() };
        assert!(connectors.secure(&other, "a.example").is_err());
    }
}
