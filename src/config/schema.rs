//! The files as written: serde shapes with spans, every key known, no meaning checked yet.
//!
//! What is said of a key here is what its user reads: `webtrunk schema` and the reference in the
//! book are made of it.

mod dialplan;
mod peers;
mod spanned;

pub use dialplan::{Case, Dialplan, Echo, Hours, OneOrMany, Route, RouteAnswer, RouteLimit, Step};
pub use peers::{Certificate, Register, Trunk, TrunkTls, User};
pub use spanned::Spanned;

use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;

type Text = Spanned<String>;

/// webtrunk.toml: everything but the dialplans. Durations are written "30s", "5m" or "1h 30m".
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
#[schemars(title = "webtrunk configuration")]
pub struct File {
    /// The gateway itself.
    pub server: Server,
    /// The web port: page, API and SIP over WebSocket.
    pub web: Web,
    /// SIP on the trunk side.
    pub sip: Sip,
    /// Sound.
    pub media: Media,
    /// How much is too much.
    pub limits: Limits,
    /// Who is told what happened.
    pub events: Events,
    /// What is remembered of calls, in memory.
    pub recorder: Recorder,
    /// The local control socket, and tokens for the API on the web port.
    pub api: Api,
    /// Ways for browsers to log in besides passwords written here.
    pub auth: Auth,
    /// Short-lived passwords for visitors of a web page, made by `POST /api/v1/credentials`.
    pub credentials: Option<Spanned<Credentials>>,
    /// Where Prometheus reads.
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
pub struct Server {
    /// The SIP domain users register in. The only key that must be there.
    pub domain: Option<Text>,
    /// The address peers reach us at, such as "203.0.113.7". "auto", the default: the one the
    /// default route leaves by.
    pub public_ip: Option<Text>,
    /// How long a stop waits for the calls that go on; "15m" where left out.
    pub drain_timeout: Option<Text>,
}

/// The web port.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Web {
    /// Where it listens, such as ":443"; ":8088" where left out.
    pub listen: Option<Text>,
    /// "off" (the default), "local" (an own authority beside this file) or { cert = "…", key = "…"
    /// }.
    pub tls: Option<Spanned<Tls>>,
    /// Pages of other origins that may connect, such as "https://shop.example.com".
    pub origins: Vec<Text>,
}

/// How the web port is protected.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged, expecting = "\"off\", \"local\" or { cert = \"…\", key = \"…\" }")]
pub enum Tls {
    /// "off" or "local".
    Word(String),
    /// PEM files, relative to this one.
    Files {
        /// The chain, leaf first.
        cert: String,
        /// Its key.
        key: String,
    },
}

/// SIP on the trunk side.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Sip {
    /// Where UDP listens, such as ":5060"; "[::]:5060" serves both families. Left out: no UDP.
    pub udp: Option<Text>,
    /// Where TCP listens.
    pub tcp: Option<Text>,
    /// Where TLS listens; needs `certificate`. Ours to trunks needs no listener.
    pub tls: Option<Text>,
    /// What the TLS listener shows.
    pub certificate: Option<Spanned<Certificate>>,
    /// PEM file of authorities: clients of the TLS listener must show a certificate of one of them.
    pub client_ca: Option<Text>,
    /// Offer MD5 challenges, which JsSIP and SIP.js need; true where left out.
    pub md5: Option<bool>,
    /// Offer SHA-256 challenges, first; true where left out.
    pub sha256: Option<bool>,
    /// Session timer asked for from browsers that know it (RFC 4028), such as "30m"; "off".
    pub session_timer: Option<Text>,
    /// How long a call waits for a browser whose connection is gone; "30s" where left out.
    pub flow_grace: Option<Text>,
}

/// Sound.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Media {
    /// UDP ports of the trunk side; "20000-29999" where left out. A call takes two.
    pub ports: Option<Text>,
    /// UDP port of all browsers; one for each worker, counted up. 8088 where left out.
    pub browser_port: Option<u16>,
    /// Browsers whose network lets no UDP out may come to the same port number over TCP (RFC 6544);
    /// true where left out.
    pub ice_tcp: Option<bool>,
    /// Media threads; one for each core, 8 at most, where left out.
    pub workers: Option<Spanned<usize>>,
    /// Codecs of browsers in order of preference: "opus", "g722", "pcmu", "pcma".
    pub codecs: Vec<Text>,
    /// Opus encoder's complexity, 0 to 10; 1 where left out, for more is hardly heard and costs two
    /// to five times as much CPU. Load lowers it by itself.
    pub complexity: Option<Spanned<u8>>,
}

/// How much is too much. What is refused for a limit says which.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Calls at once; 500 where left out.
    pub calls: Option<Spanned<usize>>,
    /// Calls of one user at once; 4 where left out.
    pub calls_per_user: Option<usize>,
    /// New calls in one second; 20 where left out.
    pub new_calls_per_second: Option<u32>,
    /// A call is ended after this; "4h" where left out.
    pub max_duration: Option<Text>,
}

/// What is remembered of calls, in memory.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Recorder {
    /// Ended calls that are kept; 1000 where left out, 0 switches the recorder off.
    pub calls: Option<usize>,
    /// Memory of all of them, such as "64MB", the default.
    pub memory: Option<Text>,
    /// Keep whole messages; false keeps their first lines.
    pub messages: Option<bool>,
}

/// Ways to steer a running gateway.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Api {
    /// File of the local control socket; where the system keeps such, if left out.
    pub control: Option<String>,
    /// Bearer tokens, by name. `webtrunk api-token NAME` makes one.
    pub token: BTreeMap<String, Spanned<Token>>,
}

/// A bearer token; only its hash is written down.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// SHA-256 of the token, 64 hexadecimal digits.
    pub sha256: Text,
    /// "read" (the default), "write" (end and start calls, make credentials) or "admin"
    /// (everything).
    pub scope: Option<Text>,
}

/// Ways for browsers to log in besides passwords written here.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Auth {
    /// JSON Web Tokens in an Authorization header of the Bearer scheme (RFC 8898).
    pub jwt: Option<Jwt>,
    /// A web application that is asked for users not written here.
    pub webhook: Option<Webhook>,
}

/// JSON Web Tokens and who may sign them.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Jwt {
    /// The keys (RFC 7517): an https URL, read again every ten minutes and whenever an unknown key
    /// is named; or a file.
    pub jwks: Text,
    /// What the token's `aud` must name.
    pub audience: String,
    /// What its `iss` must be; any where left out.
    pub issuer: Option<String>,
    /// Dialplan of users who are not written here and whose token names none.
    pub context: Option<Text>,
    /// The JWKS may be within this network, and by http.
    #[serde(default)]
    pub allow_private: bool,
}

/// Short-lived passwords for visitors of a web page.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Credentials {
    /// What the passwords are made of; at least 16 characters.
    pub secret: Spanned<SecretText>,
    /// They last at most this long; "1h" where left out.
    pub longest: Option<Text>,
    /// A TURN server that takes time-limited credentials (coturn's use-auth-secret).
    pub turn: Option<Turn>,
}

/// A TURN server.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Turn {
    /// Such as "turn:turn.example.com:3478?transport=udp".
    pub uris: Vec<Text>,
    /// Its static-auth-secret.
    pub secret: Spanned<SecretText>,
}

/// Where Prometheus reads.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Metrics {
    /// Such as "127.0.0.1:9090"; left out: nowhere.
    pub listen: Option<Text>,
}

/// Traces for OpenTelemetry: one a call, sent when it has ended. Needs a build with the feature
/// `otlp`.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Telemetry {
    /// A collector's OTLP/HTTP endpoint, such as "http://127.0.0.1:4318".
    pub otlp: Option<Text>,
}

/// Who is told what happened.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Events {
    /// One record a call, whatever way it ended.
    pub cdr: Option<Spanned<Cdr>>,
    /// A web application that is told of every event.
    pub webhook: Option<Webhook>,
    /// Homer, or what else takes HEP3: "udp:10.0.0.9:9060".
    pub hep: Option<Text>,
}

/// A web application that is told, or asked. Signed by the Standard Webhooks scheme.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// An https URL.
    pub url: Text,
    /// What its signature is made with; at least 16 characters.
    pub secret: Spanned<SecretText>,
    /// The target may be within this network, and by http.
    #[serde(default)]
    pub allow_private: bool,
}

/// Where records go: a file of lines, a database, or both.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Cdr {
    /// One JSON object a line, relative to this file.
    pub file: Option<String>,
    /// A SQLite database, for searching.
    pub sqlite: Option<String>,
}

/// A secret: a text, or where to find it.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged, expecting = "a text, { env = \"NAME\" } or { file = \"path\" }")]
pub enum SecretText {
    /// The secret itself.
    Text(String),
    /// In the environment.
    Env {
        /// The variable's name.
        env: String,
    },
    /// In a file.
    File {
        /// Its path, relative to this file.
        file: String,
    },
}
