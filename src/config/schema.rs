//! The files as written: serde shapes with spans, every key known, no meaning checked yet.

use serde::Deserialize;
use std::collections::BTreeMap;
use toml::Spanned;

type Text = Spanned<String>;

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct File {
    pub server: Server,
    pub web: Web,
    pub sip: Sip,
    pub media: Media,
    pub limits: Limits,
    pub events: Events,
    pub recorder: Recorder,
    pub api: Api,
    pub credentials: Option<Spanned<Credentials>>,
    pub metrics: Metrics,
    pub user: BTreeMap<String, Spanned<User>>,
    pub trunk: BTreeMap<String, Spanned<Trunk>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Server {
    pub domain: Option<Text>,
    pub public_ip: Option<Text>,
    pub drain_timeout: Option<Text>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Web {
    pub listen: Option<Text>,
    pub tls: Option<Spanned<Tls>>,
    pub origins: Vec<Text>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "\"off\", \"local\" or { cert = \"…\", key = \"…\" }")]
pub enum Tls {
    Word(String),
    Files { cert: String, key: String },
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Sip {
    pub udp: Option<Text>,
    pub tcp: Option<Text>,
    pub tls: Option<Text>,
    pub certificate: Option<Spanned<Certificate>>,
    pub client_ca: Option<Text>,
    pub md5: Option<bool>,
    pub sha256: Option<bool>,
    pub session_timer: Option<Text>,
    pub flow_grace: Option<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    pub cert: String,
    pub key: String,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct TrunkTls {
    pub ca: Option<String>,
    pub name: Option<String>,
    pub cert: Option<String>,
    pub key: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "true or a list of registrars such as [\"sip:reg.example\"]")]
pub enum Register {
    Own(bool),
    With(Vec<String>),
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Media {
    pub ports: Option<Text>,
    pub browser_port: Option<u16>,
    pub workers: Option<Spanned<usize>>,
    pub codecs: Vec<Text>,
    pub complexity: Option<Spanned<u8>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    pub calls: Option<Spanned<usize>>,
    pub calls_per_user: Option<usize>,
    pub new_calls_per_second: Option<u32>,
    pub max_duration: Option<Text>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Recorder {
    pub calls: Option<usize>,
    pub memory: Option<Text>,
    pub messages: Option<bool>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Api {
    pub control: Option<String>,
    pub token: BTreeMap<String, Spanned<Token>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    pub sha256: Text,
    pub scope: Option<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credentials {
    pub secret: Spanned<SecretText>,
    pub longest: Option<Text>,
    pub turn: Option<Turn>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Turn {
    pub uris: Vec<Text>,
    pub secret: Spanned<SecretText>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Metrics {
    pub listen: Option<Text>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Events {
    pub cdr: Option<Cdr>,
    pub webhook: Option<Webhook>,
    pub hep: Option<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    pub url: Text,
    pub secret: Spanned<SecretText>,
    #[serde(default)]
    pub allow_private: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cdr {
    pub file: String,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a text, { env = \"NAME\" } or { file = \"path\" }")]
pub enum SecretText {
    Text(String),
    Env { env: String },
    File { file: String },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    pub password: Spanned<SecretText>,
    pub did: Option<Text>,
    #[serde(default)]
    pub numbers: Vec<Text>,
    pub display_name: Option<String>,
    pub context: Option<Text>,
    pub max_calls: Option<usize>,
    pub calls_per_second: Option<u32>,
    pub refer: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trunk {
    pub uri: Option<Text>,
    pub register: Option<Spanned<Register>>,
    pub register_expires: Option<Text>,
    #[serde(default)]
    pub accepts_registration: bool,
    pub tls: Option<Spanned<TrunkTls>>,
    pub probe: Option<Text>,
    pub calls_per_second: Option<u32>,
    #[serde(default)]
    pub trusted: bool,
    pub asserted_identity: Option<bool>,
    pub from_user: Option<String>,
    pub from_domain: Option<String>,
    pub display_name: Option<String>,
    pub session_timer: Option<Text>,
    #[serde(rename = "100rel")]
    pub reliable: Option<Text>,
    #[serde(default)]
    pub delayed_offer: bool,
    pub dtmf: Option<Text>,
    pub srtp: Option<Text>,
    #[serde(default)]
    pub comfort_noise: bool,
    #[serde(default)]
    pub continuous: bool,
    pub refer: Option<Text>,
    #[serde(default)]
    pub messages: bool,
    pub username: Option<String>,
    pub password: Option<Spanned<SecretText>>,
    pub realm: Option<String>,
    #[serde(default)]
    pub codecs: Vec<Text>,
    pub prefer: Option<Text>,
    pub max_calls: Option<usize>,
    #[serde(default)]
    pub allow: Vec<Text>,
    pub context: Option<Text>,
    #[serde(default)]
    pub nat: bool,
    #[serde(default)]
    pub media: Vec<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dialplan {
    pub country: Option<Text>,
    #[serde(default)]
    pub hours: BTreeMap<String, Spanned<Hours>>,
    #[serde(default)]
    pub route: Vec<Spanned<Route>>,
    #[serde(default)]
    pub case: Vec<Spanned<Case>>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a pattern or a list of patterns")]
pub enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    pub name: Text,
    #[serde(rename = "match")]
    pub patterns: Spanned<OneOrMany>,
    pub caller_id: Option<String>,
    pub timeout: Option<Text>,
    pub next_on: Option<Vec<Text>>,
    #[serde(default)]
    pub ignore_limits: bool,
    /// Follow a callee's 3xx through this dialplan.
    #[serde(default)]
    pub redirect: bool,
    /// Countries the number must lie in.
    #[serde(default)]
    pub region: Vec<Text>,
    /// One of the hours of this file.
    pub when: Option<Text>,
    pub limit: Option<RouteLimit>,
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    #[serde(rename = "do")]
    pub steps: Vec<Spanned<Step>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hours {
    pub tz: String,
    pub open: Vec<String>,
    #[serde(default)]
    pub closed: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteLimit {
    pub per_user_per_hour: Spanned<u32>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "true or a delay such as \"5s\"")]
pub enum Echo {
    Now(bool),
    After(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    pub dial: Option<Vec<Text>>,
    pub ring: Option<Vec<Text>>,
    pub play: Option<Text>,
    pub tone: Option<Spanned<u32>>,
    pub echo: Option<Spanned<Echo>>,
    pub hangup: Option<Spanned<u16>>,
    pub answer: Option<bool>,
    pub goto: Option<Text>,
    pub webhook: Option<Text>,
    pub secret: Option<Spanned<SecretText>>,
    #[serde(default)]
    pub allow_private: bool,
    pub to: Option<String>,
    pub timeout: Option<Text>,
    pub order: Option<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    pub dial: String,
    /// When, RFC 3339; noon of a working day where left out.
    pub at: Option<String>,
    /// Route expected; absent where none may match.
    pub route: Option<String>,
    /// Normalised number expected.
    pub number: Option<String>,
}
