//! The files as written: serde shapes with spans, every key known, no meaning checked yet.
//!
//! The comment on a key here is what its user reads: `webtrunk schema` and the reference in the
//! book are made of it.

mod cluster;
mod dialplan;
mod peers;
mod spanned;

pub(crate) use cluster::Cluster;
pub(crate) use dialplan::{Case, Dialplan, Echo, Hours, OneOrMany, Route, RouteAnswer, Step};
pub(crate) use peers::{Certificate, Nat, Register, Trunk, TrunkTls, User};
pub(crate) use spanned::Spanned;

use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;

type Text = Spanned<String>;

/// webtrunk.toml: everything except the dialplans. Durations are written "30s", "5m" or "1h 30m".
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
#[schemars(title = "webtrunk configuration")]
pub(crate) struct File {
    /// The gateway itself.
    pub server: Server,
    /// The web port: page, API and SIP over WebSocket.
    pub web: Web,
    /// SIP on the trunk side, and settings of SIP as a whole.
    pub sip: Sip,
    /// Several gateways as one, with a store.
    pub cluster: Option<Spanned<Cluster>>,
    /// Codecs, ports and threads of the media.
    pub media: Media,
    /// Limits on calls, texts and connections. A refusal names the limit it is for.
    pub limits: Limits,
    /// The brake on toll fraud: what the calls of one user to trunks may come to.
    pub fraud: Fraud,
    /// Records, webhooks and captures: what is reported, and to whom.
    pub events: Events,
    /// The flight recorder: calls remembered in memory.
    pub recorder: RecorderSettings,
    /// The local control socket, and tokens for the API on the web port.
    pub api: Api,
    /// Logins for users who are not in this file.
    pub auth: Auth,
    /// Short-lived passwords for visitors of a web page, made by `POST /api/v1/credentials`.
    pub credentials: Option<Spanned<Credentials>>,
    /// The listener for Prometheus.
    pub metrics: Metrics,
    /// Traces for OpenTelemetry.
    pub telemetry: Telemetry,
    /// Users who register, by name.
    pub user: BTreeMap<String, Spanned<User>>,
    /// Trunks, by name.
    pub trunk: BTreeMap<String, Spanned<Trunk>>,
}

/// The gateway itself.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Server {
    /// The SIP domain users register in, such as "calls.example.com". The only key without a
    /// default.
    pub domain: Option<Text>,
    /// The IP address at which peers reach the gateway, such as "203.0.113.7". Default: "auto": for
    /// browsers the addresses of this machine and the one that `stun` finds, for a trunk the
    /// address that leads to it.
    pub public_ip: Option<Text>,
    /// A STUN server that is asked for the public address every 30 s, such as
    /// "stun.example.com:3478"; needs `public_ip = "auto"`. Default: none.
    pub stun: Option<Text>,
    /// How long a stop waits for active calls. Default: "15m".
    pub drain_timeout: Option<Text>,
    /// The folder of what must outlive the process: active calls, which continue when it is started
    /// again within 20 s, the DTLS certificate, and records that could not be written yet. It holds
    /// keys. Made (mode 0700) if there is none. Default: "state" beside this file.
    pub state_dir: Option<Text>,
}

/// The web port.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Web {
    /// The TCP address of the web port, such as ":443". Default: ":8088".
    pub listen: Option<Text>,
    /// "off" (the default), "local" (an authority of its own, made beside this file), { cert = "…",
    /// key = "…" } with PEM files, which are read again when they change, or "acme" (the gateway
    /// gets a certificate from Let's Encrypt and renews it), in full { acme = { email = "…" } }.
    pub tls: Option<Spanned<Tls>>,
    /// Where browsers reach the page, if not at server.domain and the port of `listen`: behind a
    /// proxy such as "https://calls.example.com", or "https://example.com/phone" below a path.
    /// Credentials name the WebSocket by it, and its name is served.
    pub public_url: Option<Text>,
    /// Addresses and networks of reverse proxies, such as "10.0.0.5", whose `X-Forwarded-For` and
    /// `X-Forwarded-Proto` are believed: limits, log and events are then of the browser behind
    /// them. Default: nobody's are.
    pub trusted_proxies: Vec<Text>,
    /// Addresses and networks of load balancers, such as "10.0.0.5", whose connections begin with a
    /// PROXY header of version 2, and must. Default: none do.
    pub proxy_protocol: Vec<Text>,
    /// Origins of other pages that may connect, such as "https://shop.example.com". Their names are
    /// served too, besides `domain`, names below it, and IP addresses. Default: only the gateway's
    /// own page.
    pub origins: Vec<Text>,
}

/// How the web port is protected.
#[derive(Deserialize, JsonSchema)]
#[serde(
    untagged,
    expecting = "\"off\", \"local\", \"acme\", { cert = \"…\", key = \"…\" } or { acme = { … } }"
)]
pub(crate) enum Tls {
    /// "off", "local" or "acme".
    Word(String),
    /// PEM files, relative to this one.
    Files {
        /// The chain, leaf first.
        cert: String,
        /// Its key.
        key: String,
    },
    /// From an ACME authority (RFC 8555).
    Acme {
        /// Which, and for what.
        acme: Acme,
    },
}

/// A certificate that the gateway gets and renews itself. The account and the certificate are kept
/// in server.state_dir.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Acme {
    /// Where the authority may write to. Default: it cannot.
    pub email: Option<String>,
    /// The names in the certificate. Default: that of web.public_url, or else server.domain.
    pub names: Vec<String>,
    /// The authority's directory. Default: that of Let's Encrypt; its staging environment for
    /// trials is "https://acme-staging-v02.api.letsencrypt.org/directory".
    pub directory: Option<String>,
    /// A PEM file with the authority that signs the directory's own certificate, relative to this
    /// one. Default: the system's authorities.
    pub ca: Option<String>,
    /// The TCP address that port 80 of the names leads to, such as ":80": the authority looks for
    /// its proof there (HTTP-01), and browsers are sent to https. Default: the proof is looked for
    /// at the web port (TLS-ALPN-01), which port 443 of the names must lead to.
    pub http: Option<String>,
}

/// SIP on the trunk side, and settings of SIP as a whole.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Sip {
    /// The IP address given to all trunks, in SIP and SDP. Default: server.public_ip, or for trunks
    /// in a private network the address of this machine that leads to them.
    pub public_ip: Option<Text>,
    /// The UDP address for trunks, such as ":5060"; "[::]:5060" serves IPv6 and IPv4. Default: no
    /// UDP.
    pub udp: Option<Text>,
    /// The TCP address for trunks, such as ":5060". Default: no TCP.
    pub tcp: Option<Text>,
    /// The TLS address for trunks, such as ":5061"; needs `certificate`. Default: none. Connections
    /// to trunks need no listener.
    pub tls: Option<Text>,
    /// The certificate that the TLS listener presents.
    pub certificate: Option<Spanned<Certificate>>,
    /// A PEM file of authorities: clients of the TLS listener must present a certificate of one of
    /// them. Default: no client certificate is required.
    pub client_ca: Option<Text>,
    /// Offer MD5 challenges, which JsSIP and SIP.js need. Default: true.
    pub md5: Option<bool>,
    /// Offer SHA-256 challenges, before MD5. Default: true.
    pub sha256: Option<bool>,
    /// The session timer requested from browsers that support it (RFC 4028), at least "90s", or
    /// "off". Default: "30m".
    pub session_timer: Option<Text>,
    /// How long a call waits for a browser that lost its connection. Default: "30s".
    pub flow_grace: Option<Text>,
    /// How long it waits while the browser's media is alive, which proves that it is there, at
    /// least as long as `flow_grace`. Default: "5m".
    pub flow_grace_media: Option<Text>,
}

/// Codecs, ports and threads of the media.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Media {
    /// The only local IP address of media, such as "192.0.2.7". Default: all addresses of this
    /// machine; what comes to one is answered from it.
    pub bind: Option<Text>,
    /// The IP address that browsers are offered before those of this machine. Default:
    /// server.public_ip.
    pub public_ip: Option<Text>,
    /// UDP ports of the trunk side, from 1024 to 65535; a call uses two. Default: "20000-29999".
    pub ports: Option<Text>,
    /// The UDP port of all browsers; each further worker uses the next port. Default: 8088.
    pub browser_port: Option<Spanned<u16>>,
    /// Accept browsers whose network blocks UDP on the same port numbers over TCP (RFC 6544).
    /// Default: true.
    pub ice_tcp: Option<bool>,
    /// Media threads, 1 to 64. Default: one per core, at most 8.
    pub workers: Option<Spanned<usize>>,
    /// Codecs of browsers in order of preference: "opus", "g722", "pcmu", "pcma". Default: all of
    /// them, in this order.
    pub codecs: Vec<Text>,
    /// Complexity of the Opus encoder, 0 to 10. Default: 1; more is hardly audible and costs two to
    /// five times the CPU. Under load it is lowered automatically.
    pub complexity: Option<Spanned<u8>>,
    /// How long a call may be without a sign of either side, RTCP and ICE checks included, before
    /// it is ended: 5s to 1h, or "off". Default: "30s".
    pub timeout: Option<Text>,
    /// The same for a call on hold: 30s to 1d, or "off". Default: "off".
    pub hold_timeout: Option<Text>,
    /// How long a trunk's media may stop, RTCP included, before it is asked by OPTIONS within the
    /// dialog whether it still knows the call: 1s to 5m, or "off". Default: "5s".
    pub stopped_after: Option<Text>,
    /// How often it is asked for as long as that lasts: 5s to 1h. Default: "30s".
    pub ask_every: Option<Text>,
    /// How long its answer is waited for before the call is ended: 1s to 32s. Default: "8s", time
    /// for five copies over UDP.
    pub answer_within: Option<Text>,
}

/// Limits on calls, texts and connections. A refusal names the limit it is for.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Limits {
    /// Calls at once. Default: 500.
    pub calls: Option<Spanned<usize>>,
    /// Calls at once of one user. Default: 4.
    pub calls_per_user: Option<Spanned<usize>>,
    /// New calls per second. Default: 20.
    pub new_calls_per_second: Option<Spanned<u32>>,
    /// New calls and transfers per second of one user, unless its calls_per_second says otherwise.
    /// Default: a fifth of new_calls_per_second.
    pub new_calls_per_second_per_user: Option<Spanned<u32>>,
    /// The longest duration of a call, which is then ended. Default: "4h".
    pub max_duration: Option<Text>,
    /// Texts (MESSAGE) of one user per minute, within calls and outside. Default: 30.
    pub texts_per_minute: Option<Spanned<u32>>,
    /// Texts of one address (of IPv6 one /64) or one trunk per minute. Default: 600.
    pub texts_per_minute_of_source: Option<Spanned<u32>>,
    /// The longest text, up to "60kB"; over UDP it is 1300 bytes. Default: "8kB".
    pub text_size: Option<Text>,
    /// Connections of the web port at once; a registered browser has one. Default: 12000.
    pub connections: Option<Spanned<usize>>,
    /// The same, of one address, or of one /64 of IPv6: an office or a provider's NAT is one
    /// address. Default: 1000.
    pub connections_per_source: Option<Spanned<usize>>,
    /// TLS handshakes of one address, or of one /64 of IPv6, that may wait for their answer at
    /// once; more connections are closed. They are answered one at a time of an address, so this is
    /// how many of an office's browsers may come back in the same moment. At most 2048, which is as
    /// many as may wait of all addresses. Default: 256.
    pub handshakes_per_source: Option<Spanned<usize>>,
}

/// The brake on toll fraud: what the calls of one user to trunks may come to, whatever leads them
/// there (dialling, transfers, redirections, the API, texts). Beyond it they are refused with 403
/// and WT-1113, and the event `fraud.braked` is sent. Emergency routes are exempt, and what a
/// restart forgets is counted anew.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Fraud {
    /// Calls per hour, and texts. Default: 120.
    pub calls_per_hour: Option<Spanned<u32>>,
    /// Minutes talked per hour: those of active calls, and of calls that ended within the hour, at
    /// most 60 of each. Default: 180.
    pub minutes_per_hour: Option<Spanned<u32>>,
    /// Countries abroad per hour, 0 to 30. Default: 5.
    pub countries_per_hour: Option<Spanned<u32>>,
    /// Countries that are not abroad, such as ["US", "CA"]. The `country` of the user's dialplan
    /// and that of its `did` never are. Default: none but these.
    pub home: Vec<Text>,
    /// Business hours, such as { tz = "America/New_York", open = ["daily 06:00-22:00"] }. Outside
    /// these hours a user reaches only the foreign countries that it called during them in the last
    /// 30 days. A number that a route's `match` spells out counts as domestic. Default: hours make
    /// no difference.
    pub hours: Option<Spanned<Hours>>,
}

/// The flight recorder: calls remembered in memory.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RecorderSettings {
    /// Ended calls to keep; 0 turns the recorder off. Default: 1000.
    pub calls: Option<Spanned<usize>>,
    /// Memory for all of them, such as "512kB". Default: "64MB".
    pub memory: Option<Text>,
    /// Keep whole messages; false keeps only their first lines. Default: true.
    pub messages: Option<bool>,
}

/// Access to a running gateway.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Api {
    /// The path of the local control socket. Default: the system's folder for such files.
    pub control: Option<Text>,
    /// Bearer tokens, by name. `webtrunk api-token NAME` makes one.
    pub token: BTreeMap<String, Spanned<ApiToken>>,
    /// People who log in to the page's views of calls, trunks and settings, by name. `webtrunk user
    /// add NAME` makes one. They have no telephone: that is `[user.…]`.
    pub user: BTreeMap<String, Spanned<ApiUser>>,
    /// An OpenID provider at which people log in to the page besides.
    pub oidc: Option<Spanned<Oidc>>,
    /// How long a session of such a user lasts without a request, from 1m to 30d. Default: "1h".
    pub session_idle: Option<Text>,
    /// How long it lasts at most, from 1m to 30d. Default: "12h".
    pub session_longest: Option<Text>,
}

/// Somebody who logs in to the page; only the hash of the password is stored.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ApiUser {
    /// The argon2id hash of the password, as `webtrunk user` writes it.
    pub hash: Text,
    /// As of a token: "read" (the default), "write" or "admin".
    pub scope: Option<Text>,
}

/// An OpenID provider: Authorization Code Flow with PKCE. It sends people back to
/// `/api/v1/session/oidc/callback` below web.public_url, which is to be registered there.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Oidc {
    /// Its https URL; what it says of itself is read from /.well-known/openid-configuration below
    /// it.
    pub issuer: Text,
    /// The client it knows this gateway as.
    pub client_id: Text,
    /// The secret of that client. Default: none, for a public client.
    pub client_secret: Option<Spanned<SecretText>>,
    /// What is asked for. Default: ["openid", "profile", "email"].
    pub scopes: Option<Vec<String>>,
    /// The claim of the ID token that has a person's roles or groups; a dot leads into an object,
    /// as in "realm_access.roles". Default: "groups".
    pub roles_claim: Option<String>,
    /// Which of its values allow what: admin, write and read, as of a token. Whoever has none is
    /// not let in.
    pub roles: Spanned<OidcRoles>,
    /// What the page calls the provider. Default: the issuer's host.
    pub label: Option<String>,
    /// Allow a provider within this network, and plain http. Default: false.
    #[serde(default)]
    pub allow_private: bool,
}

/// The values of the roles' claim, by what they allow.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct OidcRoles {
    /// These look at everything.
    pub read: Vec<String>,
    /// These also start and end calls and make credentials.
    pub write: Vec<String>,
    /// These may do everything.
    pub admin: Vec<String>,
}

/// A bearer token; only its hash is stored.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ApiToken {
    /// SHA-256 of the token, 64 hexadecimal digits.
    pub sha256: Text,
    /// "read" (the default), "write" (also starts and ends calls and makes credentials) or "admin"
    /// (everything).
    pub scope: Option<Text>,
}

/// Logins for users who are not in this file.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Auth {
    /// JSON Web Tokens in an Authorization header of the Bearer scheme (RFC 8898).
    pub jwt: Option<Jwt>,
    /// A web application that is asked for users who are not in this file.
    pub webhook: Option<WebhookSettings>,
}

/// JSON Web Tokens, and who may sign them.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Jwt {
    /// The signing keys (RFC 7517): a file, or an https URL that is read every ten minutes and
    /// whenever a token names an unknown key.
    pub jwks: Text,
    /// The value that the token's `aud` must contain.
    pub audience: Text,
    /// The value that the token's `iss` must have. Default: any.
    pub issuer: Option<String>,
    /// The dialplan of users who are not in this file and whose token names none. Default: such a
    /// login is refused.
    pub context: Option<Text>,
    /// Each token is good for one login, and must have a `jti` and expire within a day: the
    /// connection that logged in by it may keep using it, any other is refused. Default: false, a
    /// token is good for as many logins as it lives.
    #[serde(default)]
    pub single_use: bool,
    /// Allow a key set within this network, and plain http. Default: false.
    #[serde(default)]
    pub allow_private: bool,
}

/// Short-lived passwords for visitors of a web page.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Credentials {
    /// The key the passwords are made with, at least 16 characters.
    pub secret: Spanned<SecretText>,
    /// The longest time a password may be valid. Default: "1h".
    pub longest: Option<Text>,
    /// A TURN server with time-limited credentials (coturn's use-auth-secret), which the page
    /// receives too.
    pub turn: Option<TurnServer>,
}

/// A TURN server.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TurnServer {
    /// Its URIs, such as "turn:turn.example.com:3478?transport=udp".
    pub uris: Vec<Text>,
    /// Its static-auth-secret.
    pub secret: Spanned<SecretText>,
}

/// The listener for Prometheus.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Metrics {
    /// The TCP address of /metrics, such as "127.0.0.1:9090". Default: none.
    pub listen: Option<Text>,
}

/// Traces for OpenTelemetry: one per call, sent when the call has ended. Needs a build with the
/// feature `otlp`.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Telemetry {
    /// The OTLP/HTTP endpoint of a collector, such as "http://127.0.0.1:4318". Default: none.
    pub otlp: Option<Text>,
}

/// Records, webhooks and captures: what is reported, and to whom.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Events {
    /// Call records: one per call, however it ended.
    pub cdr: Option<Spanned<CdrSettings>>,
    /// A web application that receives every event.
    pub webhook: Option<WebhookSettings>,
    /// A collector of HEP3, such as Homer: "udp:10.0.0.9:9060". Default: none.
    pub hep: Option<Text>,
}

/// A web application that receives events or answers questions. Requests are signed by the Standard
/// Webhooks scheme.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookSettings {
    /// Its https URL.
    pub url: Text,
    /// The key of the signature, at least 16 characters; `whsec_` and the base64 of the key, as
    /// the libraries of Standard Webhooks take it, or any other text as it is.
    pub secret: Spanned<SecretText>,
    /// Allow a target within this network, and plain http. Default: false.
    #[serde(default)]
    pub allow_private: bool,
}

/// The place of call records: a file of lines, a database, or both.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
pub struct CdrSettings {
    /// A file of one JSON object per line, relative to this file.
    pub file: Option<String>,
    /// A SQLite database, which can be searched, relative to this file.
    pub sqlite: Option<String>,
}

/// A secret: the text itself, or the place it is read from.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged, expecting = "a text, { env = \"NAME\" } or { file = \"path\" }")]
pub enum SecretText {
    /// The secret itself.
    Text(String),
    /// From the environment.
    Env {
        /// The variable's name.
        env: String,
    },
    /// From a file.
    File {
        /// Its path, relative to this file.
        file: String,
    },
}
