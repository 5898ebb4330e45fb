//! Certificates of an ACME authority (RFC 8555): got at the first start, renewed while connections
//! continue, kept in the state directory with the account.

use super::certificate::{self, ShownCertificate, Validity, certified};
use crate::config::{AcmeSettings, Config, WebTls};
use crate::errors::Code;
use crate::private;
use crate::state::replace;
use anyhow::{Context, anyhow};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use instant_acme::{
    Account, AccountCredentials, AuthorizationHandle, AuthorizationStatus, BodyWrapper,
    BytesResponse, ChallengeType, HttpClient, Identifier, KeyAuthorization, NewAccount, NewOrder,
    Order, OrderStatus, RetryPolicy,
};
use rand_core::{OsRng, TryRngCore};
use rcgen::{CertificateParams, CustomExtension, DnType, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::{sleep, timeout};

mod http01;

const ACCOUNT: &str = "account.json";
/// Private key and chain.
const CERTIFICATE: &str = "certificate.pem";
/// An order that has taken this long is given up.
const ORDER_DEADLINE: Duration = Duration::from_secs(300);
const REQUEST_DEADLINE: Duration = Duration::from_secs(30);
/// The clock is looked at this often, which may be set meanwhile.
const LOOKS: Duration = Duration::from_secs(3600);
/// After the first failure, doubled with each further one: authorities let few fail in an hour.
const FIRST_RETRY: Duration = Duration::from_secs(300);
const LAST_RETRY: Duration = Duration::from_secs(12 * 3600);
/// Longest response of an authority, bytes.
const MAX_RESPONSE: usize = 256 * 1024;

/// A certificate is renewed when a third of its life is left.
fn due(valid: Validity) -> i64 {
    valid.until - (valid.until - valid.from) / 3
}

/// How long to wait after so many failures, and up to a tenth more by `chance`.
fn retry_after(failures: u32, chance: u8) -> Duration {
    let wait = FIRST_RETRY.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(LAST_RETRY);
    wait + wait * u32::from(chance) / 2_560
}

/// Where what an authority gave is kept: each has a folder of its own, so that a trial's
/// certificate is not shown once the real one is asked for.
fn folder(settings: &AcmeSettings, state: &Path) -> PathBuf {
    let host = reqwest::Url::parse(&settings.directory).ok();
    let host = host.as_ref().and_then(|url| url.host_str()).unwrap_or("authority");
    state.join("acme").join(host)
}

/// The file of the certificate that was got last, with its key.
pub fn kept_at(settings: &AcmeSettings, state: &Path) -> PathBuf {
    folder(settings, state).join(CERTIFICATE)
}

/// What is shown until the authority gives another: the certificate it gave an earlier process, or
/// one that nobody believes.
///
/// # Errors
/// There is no state directory, or it cannot be written.
pub(super) fn kept_or_placeholder(
    settings: &AcmeSettings,
    state: Option<&Path>,
) -> anyhow::Result<ShownCertificate> {
    let state = state.context("web.tls by ACME keeps its account in server.state_dir")?;
    let folder = folder(settings, state);
    private::folder(&folder).with_context(|| folder.display().to_string())?;
    let certificate = match kept(&folder, &settings.names) {
        Some(kept) => kept,
        None => placeholder(&settings.names)?,
    };
    Ok(ShownCertificate::new("web.tls", certificate))
}

/// What was got for these names, if it can be read.
fn kept(folder: &Path, names: &[String]) -> Option<CertifiedKey> {
    let pem = std::fs::read(folder.join(CERTIFICATE)).ok()?;
    let kept = read(&pem).ok()?;
    let (_, leaf) = x509_parser::parse_x509_certificate(kept.cert.first()?).ok()?;
    let alternatives = leaf.subject_alternative_name().ok()??;
    let named = |wanted: &String| {
        alternatives.value.general_names.iter().any(|name| match name {
            x509_parser::extensions::GeneralName::DNSName(name) => name == wanted,
            _ => false,
        })
    };
    names.iter().all(named).then_some(kept)
}

fn read(pem: &[u8]) -> anyhow::Result<CertifiedKey> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let key = PrivateKeyDer::from_pem_slice(pem).map_err(|e| anyhow!("its key: {e}"))?;
    certified(chain.map_err(|e| anyhow!("its chain: {e}"))?, key)
}

fn self_signed(mut params: CertificateParams) -> anyhow::Result<CertifiedKey> {
    params.distinguished_name.push(DnType::CommonName, "webtrunk, until ACME gives another");
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(|e| anyhow!("{e}"))?;
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key)?;
    // Not `from_der`, which refuses to look into a certificate with a proof in it.
    Ok(CertifiedKey::new(vec![certificate.der().clone()], key))
}

fn placeholder(names: &[String]) -> anyhow::Result<CertifiedKey> {
    self_signed(CertificateParams::new(names.to_vec())?)
}

/// What the authority looks for at the web port (RFC 8737 §3).
fn tls_proof(name: &str, proof: &KeyAuthorization) -> anyhow::Result<CertifiedKey> {
    let mut params = CertificateParams::new(vec![name.to_owned()])?;
    let extension = CustomExtension::new_acme_identifier(proof.digest().as_ref());
    params.custom_extensions.push(extension);
    self_signed(params)
}

/// Gets the web port's certificate and renews it until it is dropped, if the configuration asks for
/// it.
pub(crate) async fn run(config: Arc<Config>, shown: Arc<ShownCertificate>) {
    let (WebTls::Acme(settings), Some(state)) = (&config.web_tls, &config.state_dir) else {
        return;
    };
    let host = settings.names.first().map_or("", String::as_str);
    let site = match config.web_listen.port() {
        443 => host.to_owned(),
        port => format!("{host}:{port}"),
    };
    let public = config.public_url.as_ref().and_then(|url| url.strip_prefix("https://"));
    let site = public.map_or(site, str::to_owned);
    AcmeClient::new(settings.clone(), state, shown).run(site).await;
}

/// Gets a certificate and renews it.
struct AcmeClient {
    settings: AcmeSettings,
    folder: PathBuf,
    shown: Arc<ShownCertificate>,
    http: Arc<http01::Proofs>,
}

impl AcmeClient {
    /// A client that has `shown` show what it gets. `state` is the state directory.
    fn new(settings: AcmeSettings, state: &Path, shown: Arc<ShownCertificate>) -> AcmeClient {
        let folder = folder(&settings, state);
        AcmeClient { settings, folder, shown, http: Arc::default() }
    }

    /// Works until it is dropped. `site` is the host, and the port if need be, of the page.
    async fn run(self, site: String) {
        let server =
            self.settings.http.map(|at| tokio::spawn(http01::serve(at, site, self.http.clone())));
        let _server = server.map(AbortOnDrop);
        let mut valid = kept(&self.folder, &self.settings.names).and_then(|c| Validity::of(&c));
        let mut failures = 0;
        loop {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let left = valid.map_or(0, |v| due(v) - now.as_secs() as i64);
            if left > 0 {
                sleep(LOOKS.min(Duration::from_secs(left as u64))).await;
                continue;
            }
            match self.renew().await {
                Ok(fresh) => {
                    failures = 0;
                    valid = Some(fresh);
                }
                Err(e) => {
                    failures += 1;
                    let mut chance = [0];
                    let _ = OsRng.try_fill_bytes(&mut chance);
                    let wait = retry_after(failures, chance[0]);
                    tracing::warn!(
                        code = %Code::ACME,
                        "no certificate for {} was given by {}: {e:#}; the next try is in {} min",
                        self.settings.names.join(", "),
                        self.settings.directory,
                        wait.as_secs() / 60
                    );
                    sleep(wait).await;
                }
            }
        }
    }

    async fn renew(&self) -> anyhow::Result<Validity> {
        let got = in_time(self.order()).await;
        self.shown.forget_proofs();
        self.http.forget();
        let pem = got?;
        let certificate = read(pem.as_bytes())?;
        let valid = Validity::of(&certificate).context("what it gave is no certificate")?;
        tracing::info!(
            "a certificate for {} was given by {}{}",
            self.settings.names.join(", "),
            self.settings.directory,
            certificate::until(Some(valid.until))
        );
        self.shown.replace(certificate);
        let path = self.folder.join(CERTIFICATE);
        if let Err(e) = replace(&path, pem.as_bytes()) {
            tracing::warn!(code = %Code::STATE, "{} cannot be written: {e}", path.display());
        }
        Ok(valid)
    }

    /// The account kept, or a new one.
    async fn account(&self) -> anyhow::Result<Account> {
        let path = self.folder.join(ACCOUNT);
        let client = AuthorityClient::new(self.settings.ca.as_deref())?;
        let builder = Account::builder_with_http(Box::new(client));
        let kept = std::fs::read(&path).ok();
        let kept: Option<AccountCredentials> =
            kept.and_then(|json| serde_json::from_slice(&json).ok());
        if let Some(credentials) = kept {
            return Ok(builder.from_credentials(credentials).await?);
        }
        let mail = self.settings.email.as_ref().map(|email| format!("mailto:{email}"));
        let contact: Vec<&str> = mail.as_deref().into_iter().collect();
        let account = NewAccount {
            contact: &contact,
            terms_of_service_agreed: true,
            only_return_existing: false,
        };
        let (account, credentials) =
            builder.create(&account, self.settings.directory.clone(), None).await?;
        replace(&path, &serde_json::to_vec(&credentials)?)
            .with_context(|| format!("{} cannot be written", path.display()))?;
        Ok(account)
    }

    /// Private key and chain.
    async fn order(&self) -> anyhow::Result<String> {
        let account = self.account().await?;
        let names: Vec<Identifier> =
            self.settings.names.iter().cloned().map(Identifier::Dns).collect();
        let mut order = account.new_order(&NewOrder::new(&names)).await?;
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            self.prove(authorization?).await?;
        }
        if order.poll_ready(&RetryPolicy::default()).await? != OrderStatus::Ready {
            return Err(refusal(&mut order).await);
        }
        let key = KeyPair::generate()?;
        let request =
            CertificateParams::new(self.settings.names.clone())?.serialize_request(&key)?;
        order.finalize_csr(request.der()).await?;
        let chain = order.poll_certificate(&RetryPolicy::default()).await?;
        Ok(format!("{}{chain}", key.serialize_pem()))
    }

    /// Publishes the proof for the authority, and announces it.
    async fn prove(&self, mut authorization: AuthorizationHandle<'_>) -> anyhow::Result<()> {
        if authorization.status == AuthorizationStatus::Valid {
            return Ok(());
        }
        let kind = match self.settings.http {
            Some(_) => ChallengeType::Http01,
            None => ChallengeType::TlsAlpn01,
        };
        let mut challenge = authorization
            .challenge(kind.clone())
            .with_context(|| format!("the authority does not offer {kind:?}"))?;
        let proof = challenge.key_authorization();
        if self.settings.http.is_some() {
            self.http.prove(challenge.token.clone(), proof.as_str().to_owned());
        } else {
            let name = challenge.identifier().to_string();
            let certificate = tls_proof(&name, &proof)?;
            self.shown.prove(name, certificate);
        }
        Ok(challenge.set_ready().await?)
    }
}

/// What `work` comes to, unless it takes too long.
async fn in_time<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let late = |_| anyhow!("it took longer than {} min", ORDER_DEADLINE.as_secs() / 60);
    timeout(ORDER_DEADLINE, work).await.map_err(late)?
}

/// Why the authority does not give a certificate, in its words.
async fn refusal(order: &mut Order) -> anyhow::Error {
    let mut authorizations = order.authorizations();
    while let Some(Ok(authorization)) = authorizations.next().await {
        let error = authorization.challenges.iter().find_map(|c| c.error.as_ref());
        if let Some(problem) = error {
            return anyhow!("{}: {problem}", authorization.identifier());
        }
    }
    anyhow!("the authority refuses the order, and does not say why")
}

/// Ends a task with what it belongs to.
struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// How the authority is asked. The operator names it, so its address may be private.
struct AuthorityClient(reqwest::Client);

impl AuthorityClient {
    fn new(ca: Option<&Path>) -> anyhow::Result<AuthorityClient> {
        let mut builder = reqwest::Client::builder()
            .timeout(REQUEST_DEADLINE)
            .https_only(true)
            .user_agent(concat!("webtrunk/", env!("CARGO_PKG_VERSION")));
        if let Some(path) = ca {
            let pem = std::fs::read(path).with_context(|| path.display().to_string())?;
            builder = builder.tls_certs_only(reqwest::Certificate::from_pem_bundle(&pem)?);
        }
        Ok(AuthorityClient(builder.build()?))
    }
}

impl HttpClient for AuthorityClient {
    fn request(
        &self,
        request: hyper::Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, instant_acme::Error>> + Send>> {
        let client = self.0.clone();
        Box::pin(async move {
            ask(client, request).await.map_err(|e| instant_acme::Error::Other(e.into()))
        })
    }
}

async fn ask(
    client: reqwest::Client,
    request: hyper::Request<BodyWrapper<Bytes>>,
) -> anyhow::Result<BytesResponse> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let asked = client.request(head.method, head.uri.to_string()).headers(head.headers).body(body);
    let response = asked.send().await.map_err(reqwest::Error::without_url)?;
    let (head, body) = hyper::Response::from(response).into_parts();
    let whole = Limited::new(body, MAX_RESPONSE).collect().await;
    let whole = whole.map_err(|e| anyhow!("the authority's response: {e}"))?.to_bytes();
    Ok(BytesResponse::from(hyper::Response::from_parts(head, Full::new(whole))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[test]
    fn a_certificate_is_renewed_when_a_third_of_its_life_is_left() {
        let day = 86_400;
        assert_eq!(due(Validity { from: 0, until: 90 * day }), 60 * day);
        assert_eq!(due(Validity { from: 10 * day, until: 16 * day }), 14 * day);
    }

    #[test]
    fn failures_are_tried_again_ever_more_rarely() {
        let minutes: Vec<u64> = (1..12).map(|n| retry_after(n, 0).as_secs() / 60).collect();
        assert_eq!(minutes, [5, 10, 20, 40, 80, 160, 320, 640, 720, 720, 720]);
        assert!(retry_after(u32::MAX, 255) <= LAST_RETRY.mul_f64(1.1));
    }

    #[tokio::test(start_paused = true)]
    async fn an_authority_that_says_nothing_is_given_up() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let at = listener.local_addr().expect("its address");
        let client = AuthorityClient::new(None).expect("a client");
        let request = hyper::Request::get(format!("https://{at}/"));
        let request = request.body(BodyWrapper::default()).expect("a request");
        let began = tokio::time::Instant::now();
        assert!(client.request(request).await.is_err());
        assert_eq!(began.elapsed().as_secs(), REQUEST_DEADLINE.as_secs());
        let late = in_time(std::future::pending::<anyhow::Result<()>>()).await;
        assert_eq!(late.expect_err("late").to_string(), "it took longer than 5 min");
    }

    #[tokio::test]
    async fn a_response_of_the_authority_is_bounded() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let at = listener.local_addr().expect("its address");
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("asked");
            let _ = stream.read(&mut [0; 1_024]).await;
            let length = 10 * MAX_RESPONSE;
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
            let _ = stream.write_all(head.as_bytes()).await;
            let _ = stream.write_all(&vec![b' '; length]).await;
        });
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let request = hyper::Request::get(format!("http://{at}/"));
        let request = request.body(BodyWrapper::default()).expect("a request");
        let answer = ask(reqwest::Client::new(), request).await;
        let why = format!("{:#}", answer.err().expect("refused"));
        assert!(why.contains("length limit"), "{why}");
        let _ = server.await;
    }

    #[test]
    fn what_is_kept_is_shown_only_for_its_names() {
        let scratch = tempfile::tempdir().expect("a folder");
        let folder = scratch.path();
        let key = KeyPair::generate().expect("a key");
        let names = vec!["a.example".to_owned(), "b.example".to_owned()];
        let params = CertificateParams::new(names.clone()).expect("names");
        let pem = key.serialize_pem() + &params.self_signed(&key).expect("signed").pem();
        replace(&folder.join(CERTIFICATE), pem.as_bytes()).expect("written");
        assert!(kept(folder, &names).is_some());
        assert!(kept(folder, &names[1..]).is_some());
        assert!(kept(folder, &["c.example".to_owned()]).is_none());
        replace(&folder.join(CERTIFICATE), &pem.as_bytes()[..200]).expect("torn");
        assert!(kept(folder, &names).is_none());
    }
}
