//! The certificate a listener shows. It may become another while connections continue: its files
//! were renewed, or an ACME authority gave a new one.

use super::tls::{self, read_chain, read_key};
use crate::config::Config;
use crate::errors::Code;
use anyhow::Context;
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};
use x509_parser::extensions::GeneralName;

/// The protocol by which an ACME authority asks for its proof (RFC 8737 §3).
pub(crate) const ACME_TLS: &[u8] = b"acme-tls/1";
/// How often files are looked at.
const LOOKS: Duration = Duration::from_secs(60);

/// What a listener shows at the moment.
pub(crate) struct ShownCertificate {
    /// The setting it comes from, for the log.
    key: &'static str,
    files: Option<(PathBuf, PathBuf)>,
    shown: RwLock<Shown>,
    /// Shown instead to an ACME authority that asks for it, by name.
    proofs: RwLock<HashMap<String, Arc<CertifiedKey>>>,
}

struct Shown {
    certificate: Arc<CertifiedKey>,
    /// When certificate and key were last written.
    written: Option<[SystemTime; 2]>,
}

/// A chain and its key, fit to be shown.
///
/// # Errors
/// They do not belong together, or the key is of a kind that cannot be used.
pub(super) fn certified(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> anyhow::Result<CertifiedKey> {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    CertifiedKey::from_der(chain, key, &provider).context("certificate and key do not fit together")
}

impl ShownCertificate {
    /// One that stays until it is [replaced](Self::replace).
    pub(super) fn new(key: &'static str, certificate: CertifiedKey) -> ShownCertificate {
        let shown = Shown { certificate: Arc::new(certificate), written: None };
        ShownCertificate { key, files: None, shown: RwLock::new(shown), proofs: RwLock::default() }
    }

    /// The certificate in a file, with the key in another, of the setting `key`.
    ///
    /// # Errors
    /// Files that cannot be read or do not fit together.
    pub(super) fn of_files(
        key: &'static str,
        cert: PathBuf,
        key_file: PathBuf,
    ) -> anyhow::Result<ShownCertificate> {
        let files = (cert, key_file);
        // Before they are read: what is written meanwhile is read again.
        let written = written(&files);
        let certificate = certified(read_chain(&files.0)?, read_key(&files.1)?)?;
        let shown = RwLock::new(Shown { certificate: Arc::new(certificate), written });
        Ok(ShownCertificate { key, files: Some(files), shown, proofs: RwLock::default() })
    }

    /// How connections are secured with it, without clients' certificates and protocols.
    pub(super) fn config(self: &Arc<Self>) -> ServerConfig {
        ServerConfig::builder().with_no_client_auth().with_cert_resolver(self.clone())
    }

    /// The setting it comes from.
    pub(crate) fn setting(&self) -> &'static str {
        self.key
    }

    /// The DNS names it is for.
    pub(crate) fn names(&self) -> Vec<String> {
        let now = self.now();
        let leaf = now.cert.first().and_then(|der| x509_parser::parse_x509_certificate(der).ok());
        let names = leaf.as_ref().and_then(|(_, leaf)| leaf.subject_alternative_name().ok()?);
        let names = names.map(|names| names.value.general_names.as_slice()).unwrap_or_default();
        let dns = names.iter().filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            _ => None,
        });
        dns.collect()
    }

    /// When it ends, seconds since 1970.
    pub(crate) fn ends(&self) -> Option<i64> {
        ends_of(&self.now())
    }

    fn now(&self) -> Arc<CertifiedKey> {
        self.shown.read().unwrap_or_else(PoisonError::into_inner).certificate.clone()
    }

    /// Shows another from the next handshake on.
    pub(super) fn replace(&self, certificate: CertifiedKey) {
        let mut shown = self.shown.write().unwrap_or_else(PoisonError::into_inner);
        shown.certificate = Arc::new(certificate);
    }

    /// Shows an ACME authority its proof of `name`.
    pub(super) fn prove(&self, name: String, proof: CertifiedKey) {
        let mut proofs = self.proofs.write().unwrap_or_else(PoisonError::into_inner);
        proofs.insert(name, Arc::new(proof));
    }

    pub(super) fn forget_proofs(&self) {
        self.proofs.write().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Shows what is in the files now, if they were written since. What cannot be used is only
    /// reported, once: what was shown before is shown still.
    pub(crate) fn read_again(&self) {
        let Some(files) = &self.files else { return };
        let fresh = written(files);
        {
            let mut shown = self.shown.write().unwrap_or_else(PoisonError::into_inner);
            if fresh.is_none() || shown.written == fresh {
                return;
            }
            shown.written = fresh;
        }
        let read = || certified(read_chain(&files.0)?, read_key(&files.1)?);
        match read() {
            Ok(certificate) => {
                tracing::info!(
                    "{}: the certificate in {} was read again{}",
                    self.key,
                    files.0.display(),
                    until(ends_of(&certificate))
                );
                self.replace(certificate);
            }
            Err(e) => tracing::warn!(
                code = %Code::OWN_CERTIFICATE,
                "{}: the certificate written to {} cannot be used, the one before is shown: {e:#}",
                self.key,
                files.0.display()
            ),
        }
    }
}

/// For the log: when it ends.
pub(super) fn until(ends: Option<i64>) -> String {
    ends.and_then(|at| jiff::Timestamp::from_second(at).ok())
        .map(|at| format!("; it is valid until {}", at.strftime("%Y-%m-%d")))
        .unwrap_or_default()
}

/// When a certificate is valid, seconds since 1970.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Validity {
    /// The first second.
    pub from: i64,
    /// The last second.
    pub until: i64,
}

impl Validity {
    /// That of the leaf, if it can be read.
    pub(super) fn of(certificate: &CertifiedKey) -> Option<Validity> {
        let (_, leaf) = x509_parser::parse_x509_certificate(certificate.cert.first()?).ok()?;
        let validity = leaf.validity();
        Some(Validity {
            from: validity.not_before.timestamp(),
            until: validity.not_after.timestamp(),
        })
    }
}

fn ends_of(certificate: &CertifiedKey) -> Option<i64> {
    Validity::of(certificate).map(|valid| valid.until)
}

fn written((cert, key): &(PathBuf, PathBuf)) -> Option<[SystemTime; 2]> {
    let at = |path| std::fs::metadata(path).and_then(|m| m.modified()).ok();
    Some([at(cert)?, at(key)?])
}

/// What the listeners of a node show.
#[derive(Clone, Default, Debug)]
pub(crate) struct Certificates {
    /// That of the web port.
    pub web: Option<Arc<ShownCertificate>>,
    /// That of SIP over TLS.
    pub sip: Option<Arc<ShownCertificate>>,
}

impl Certificates {
    /// Opens what `config` names.
    ///
    /// # Errors
    /// Files that cannot be read or do not fit together; a folder for ACME that cannot be made.
    pub(crate) fn open(config: &Config) -> anyhow::Result<Certificates> {
        let sip = config.sip.certificate.as_ref().filter(|_| config.sip.tls.is_some());
        let sip = sip.map(|(cert, key)| {
            ShownCertificate::of_files("sip.certificate", cert.clone(), key.clone())
        });
        Ok(Certificates { web: tls::certificate(config)?, sip: sip.transpose()?.map(Arc::new) })
    }

    /// Shows what was written to files since.
    pub(crate) fn read_again(&self) {
        self.web.iter().chain(&self.sip).for_each(|shown| shown.read_again());
    }
}

/// Looks at the files of all of them again and again: what certbot and its like renew is shown
/// without anybody's doing.
pub(crate) async fn watch(all: Certificates) {
    loop {
        tokio::time::sleep(LOOKS).await;
        let all = all.clone();
        let _ = tokio::task::spawn_blocking(move || all.read_again()).await;
    }
}

impl ResolvesServerCert for ShownCertificate {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // RFC 8737 §3: the authority offers nothing else.
        if hello.alpn().is_some_and(|mut offered| offered.any(|name| name == ACME_TLS)) {
            let proofs = self.proofs.read().unwrap_or_else(PoisonError::into_inner);
            return proofs.get(hello.server_name()?).cloned();
        }
        Some(self.now())
    }
}

impl std::fmt::Debug for ShownCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ShownCertificate").field("key", &self.key).finish_non_exhaustive()
    }
}
