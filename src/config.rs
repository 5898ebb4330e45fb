//! Settings: one TOML file and a folder of dialplans, checked whole before anything is bound.

#[allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a configuration names files and addresses"
)]
pub mod check;
pub(crate) mod grant;
mod operators;
pub mod password;
pub mod ports;
pub mod problem;
pub mod schema;
pub(crate) mod tables;
pub mod wav;

pub use self::operators::{Api, ApiToken, ApiUser, OidcSettings, Scope, SessionTimes};
pub use check::load;
pub use problem::{ConfigProblem, Problems};
pub use tables::{TrunkTable, Users};

use crate::codec::Codec;
pub(crate) use crate::dialplan::Webhook;
use crate::dialplan::{Hours, Permits, Plan};
use crate::media::{Digits, MediaWatch};
use crate::sdp::crypto::Policy;
use crate::sip::digest::Secret;
use crate::sip::transaction::TrunkNumber;
use crate::sip::uri::UriTransport;
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How the web port is protected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WebTls {
    /// No TLS: `http` and `ws`.
    Off,
    /// An own certificate authority, kept in this folder.
    Local(PathBuf),
    /// A certificate of the operator's.
    Files {
        /// PEM, the chain with the host's own first.
        cert: PathBuf,
        /// PEM.
        key: PathBuf,
    },
    /// From an ACME authority.
    Acme(AcmeSettings),
}

/// A certificate that the gateway gets and renews itself (RFC 8555).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AcmeSettings {
    /// The URL of the authority's directory.
    pub directory: String,
    /// Where the authority may write to.
    pub email: Option<String>,
    /// DNS names, at least one.
    pub names: Vec<String>,
    /// The authority of the directory's own certificate (PEM); the system's authorities if `None`.
    pub ca: Option<PathBuf>,
    /// Where the authority looks for its proof by HTTP-01; by TLS-ALPN-01 if `None`.
    pub http: Option<SocketAddr>,
}

/// What a trunk call prefers if both are possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prefer {
    /// Opus to the browser, transcoded if the trunk has none.
    Opus,
    /// No transcoding: the browser speaks the trunk's codec.
    Passthrough,
}

/// Reliable provisional responses (RFC 3262).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reliable {
    /// Never said; a peer that requires it gets 420.
    Off,
    /// Used if the peer offers it.
    Supported,
    /// Required of the peer in each INVITE to it.
    Required,
}

/// What becomes of a party's REFER.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refer {
    /// 405 to each REFER.
    Refuse,
    /// The gateway makes the new call, under the rules of one the party makes itself.
    Execute,
    /// The other party's trunk is asked to do it.
    Pass,
}

/// A user who registers.
#[derive(Clone, PartialEq, Debug)]
pub struct User {
    /// As in `[user.NAME]`, and the user part of the address of record.
    pub name: String,
    /// For digest.
    pub password: Secret,
    /// The number calls to which ring this user, in E.164.
    pub did: Option<String>,
    /// Caller ids the user may choose from by P-Preferred-Identity; the did is always one.
    pub numbers: Vec<String>,
    /// Shown to who is called.
    pub display_name: Option<String>,
    /// The dialplan of the user's calls.
    pub context: String,
    /// Calls at one time; `limits.calls_per_user` if `None`.
    pub max_calls: Option<usize>,
    /// New calls in a second; no limit of its own if `None`.
    pub calls_per_second: Option<u32>,
    /// May hand calls over by REFER.
    pub refer: bool,
    /// The limits of `fraud` hold for its calls.
    pub fraud_brake: bool,
    /// What its calls may do beyond the dialplan.
    pub permits: Permits,
    /// Put into the record of each call.
    pub tags: BTreeMap<String, String>,
    /// The network of a visitor: its name is another with each credential it is given.
    pub network: Option<IpAddr>,
}

impl User {
    /// What tells accounts of one name from each other: the dialplan, and the number.
    pub(crate) fn place(&self) -> (String, Option<String>) {
        (self.context.clone(), self.did.clone())
    }

    /// What all visitors of its network count as together, if it is one.
    pub(crate) fn crowd(&self) -> Option<String> {
        self.network.map(|network| format!("visitors at {network}"))
    }
}

/// Where a key set is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySet {
    /// Fetched, and fetched again when a token names a key it has not.
    Url(String),
    /// Read at start and reload.
    File(PathBuf),
}

/// How tokens are judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtSettings {
    /// The keys that tokens are signed with.
    pub jwks: KeySet,
    /// What `aud` must name.
    pub audience: String,
    /// What `iss` must be; not checked if `None`.
    pub issuer: Option<String>,
    /// Dialplan of users whose token names none.
    pub context: Option<String>,
    /// Each is good for one login.
    pub single_use: bool,
    /// The URL may be of a private address.
    pub allow_private: bool,
}

/// Ways to log in besides passwords written in the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Auth {
    /// Users by JSON Web Tokens.
    pub jwt: Option<JwtSettings>,
    /// Asked for users that are not written here.
    pub webhook: Option<Webhook>,
}

/// Where a trunk is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrunkUri {
    /// A domain to be resolved, or a literal address.
    pub host: String,
    /// 1 to 65535; `None` means what DNS says, or else the transport's own.
    pub port: Option<u16>,
    /// Nothing: DNS chooses (RFC 3263 §4.1).
    pub transport: Option<UriTransport>,
    /// A `sips:` URI: TLS, whatever DNS offers.
    pub secure: bool,
}

impl TrunkUri {
    /// `host[:port]` with brackets if needed.
    pub(crate) fn host_port(&self) -> String {
        let host =
            if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        self.port.map_or(host.clone(), |port| format!("{host}:{port}"))
    }

    /// `host[:port][;transport=…]`.
    pub fn address(&self) -> String {
        let transport = self
            .transport
            .filter(|t| *t != UriTransport::Udp)
            .map(|t| format!(";transport={}", t.as_str()));
        format!("{}{}", self.host_port(), transport.unwrap_or_default())
    }
}

/// How a trunk's TLS certificate is judged, and what we show.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct TrunkTls {
    /// PEM file of trusted authorities; `None`: the system's.
    pub ca: Option<PathBuf>,
    /// The name the certificate must have; `None`: the URI's host (RFC 5922 §4).
    pub name: Option<String>,
    /// Certificate and key (PEM) that the gateway shows to the trunk.
    pub cert: Option<(PathBuf, PathBuf)>,
}

/// The caller's identity as a trunk sees it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct CallerIdPolicy {
    /// Write P-Asserted-Identity (RFC 3325); a trusted trunk gets it even if the caller is
    /// anonymous.
    pub asserted: bool,
    /// User part of From; `None`: the caller's number.
    pub from_user: Option<String>,
    /// The host of From; the gateway's own domain if `None`.
    pub from_domain: Option<String>,
    /// Display name; `None`: the caller's, empty: none.
    pub display_name: Option<String>,
}

/// A trunk.
#[derive(Clone, PartialEq, Debug)]
pub struct Trunk {
    /// As in `[trunk.NAME]`.
    pub name: String,
    /// Its place among the trunks, by name.
    pub number: TrunkNumber,
    /// Nothing: it is where it registered from.
    pub uri: Option<TrunkUri>,
    /// Registrars we register with.
    pub registrars: Vec<TrunkUri>,
    /// Seconds asked for by REGISTER.
    pub register_expires: u32,
    /// It may register with us, with its username and password.
    pub accepts_registration: bool,
    /// For `transport=tls`.
    pub tls: TrunkTls,
    /// Interval of OPTIONS probes.
    pub probe: Option<Duration>,
    /// New calls to it in a second.
    pub calls_per_second: Option<u32>,
    /// Its P-Asserted-Identity, Diversion and History-Info are believed, and it is given ours (RFC
    /// 3324).
    pub trusted: bool,
    /// How the caller is written to it.
    pub identity: CallerIdPolicy,
    /// Seconds of the session timer we ask for.
    pub session_timer: Option<u32>,
    /// Provisional responses (RFC 3262).
    pub reliable: Reliable,
    /// One node of the cluster registers with it.
    pub register_once: bool,
    /// INVITE to it without an offer; its 200 brings one.
    pub delayed_offer: bool,
    /// How digits go to it.
    pub dtmf: Digits,
    /// What of its media is encrypted, with keys in the signalling (RFC 4568).
    pub srtp: Policy,
    /// Comfort noise is offered to it; if it offers, it is agreed to anyway.
    pub comfort_noise: bool,
    /// It gets packets without a pause.
    pub continuous: bool,
    /// Time after which its media counts as stopped; `None`: never.
    pub stopped_after: Option<Duration>,
    /// It gets its callers' locations.
    pub location: bool,
    /// What a REFER of its gets.
    pub refer: Refer,
    /// MESSAGE may go to it and come from it.
    pub messages: bool,
    /// For digest, of its challenges.
    pub username: Option<String>,
    /// For digest, of its challenges.
    pub password: Option<Secret>,
    /// The realm these are for; any if `None`.
    pub realm: Option<String>,
    /// Offered to it, the best first.
    pub codecs: Vec<Codec>,
    /// Whose order of codecs decides.
    pub prefer: Prefer,
    /// Calls in both directions, at one time.
    pub max_calls: Option<usize>,
    /// Source addresses of calls from this trunk.
    pub allow: Vec<IpNet>,
    /// Context of calls from this trunk; without one they are refused.
    pub context: Option<String>,
    /// Its media comes from another port than its SDP says.
    pub nat: bool,
    /// It is behind NAT: its media may come from where its signalling does.
    pub nat_signalling: bool,
    /// The address given to this trunk.
    pub public_ip: Option<IpAddr>,
    /// Networks its media may be in besides its own address and the public internet.
    pub media: Vec<IpNet>,
}

/// Limits on calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections of the web port, at one time.
    pub connections: usize,
    /// Connections of one address (IPv6: /64), at one time: WebSockets, TCP and TLS.
    pub connections_per_source: usize,
    /// TLS handshakes of one address (IPv6: /64) that may wait for their answer.
    pub handshakes_per_source: usize,
    /// Calls of this node, at one time.
    pub calls: usize,
    /// Calls of one user, at one time, unless the user has a number of its own.
    pub calls_per_user: usize,
    /// New calls of this node in a second.
    pub new_calls_per_second: u32,
    /// New calls of one user in a second, unless its account says otherwise.
    pub new_calls_per_second_per_user: u32,
    /// Time after which a call is ended.
    pub max_duration: Duration,
    /// Texts of one user in a minute.
    pub texts_per_minute: u32,
    /// Texts of one address, or one trunk, in a minute.
    pub texts_per_minute_of_source: u32,
    /// Bytes of one text.
    pub text_size: usize,
}

/// What the calls of one user to trunks may come to.
#[derive(Clone, Debug, PartialEq)]
pub struct FraudLimits {
    /// Calls of one user to trunks in an hour.
    pub calls_per_hour: u32,
    /// Minutes of one user's calls to trunks in an hour.
    pub minutes_per_hour: u32,
    /// Countries one user calls by trunks in an hour.
    pub countries_per_hour: u32,
    /// Countries that are abroad to nobody.
    pub home: Vec<String>,
    /// Outside them only usual destinations are called.
    pub hours: Option<Hours>,
}

/// Signalling's own settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SipSettings {
    /// The address given to trunks; `None`: found for each.
    pub public_ip: Option<IpAddr>,
    /// SIP over TLS.
    pub tls: Option<SocketAddr>,
    /// Certificate and key of the TLS listener.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// PEM file of authorities whose certificates clients of the TLS listener must have.
    pub client_ca: Option<PathBuf>,
    /// Seconds of the session timer asked for from browsers.
    pub session_timer: Option<u32>,
    /// How long a call waits for a browser whose connection is gone.
    pub flow_grace: Duration,
    /// The same while its media is alive; no shorter.
    pub flow_grace_media: Duration,
}

/// Media addresses and policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Media {
    /// The address that media sockets are bound to; `None`: all of this machine's.
    pub bind: Option<IpAddr>,
    /// The addresses that browsers are offered; empty: the public ones.
    pub public_ips: Vec<IpAddr>,
    /// First and last UDP port of trunks' media.
    pub ports: (u16, u16),
    /// UDP, one for all browsers; 0 for any.
    pub browser_port: u16,
    /// Browsers may come to that port over TCP too.
    pub ice_tcp: bool,
    /// Media threads.
    pub workers: usize,
    /// Offered to browsers, the best first.
    pub codecs: Vec<Codec>,
    /// libopus's complexity, 0 to 10.
    pub complexity: u8,
    /// How long silence lasts before something is done about it.
    pub watch: MediaWatch,
    /// How long a trunk may take to answer whether it still knows a call.
    pub answer_within: Duration,
    /// How long a held call may be without a sign of either side; `None`: for ever.
    pub hold_timeout: Option<Duration>,
}

/// How much of past calls is kept in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecorderLimits {
    /// Ended calls; 0 switches the recorder off.
    pub calls: usize,
    /// Bytes of all calls together.
    pub memory: usize,
    /// Whether messages keep more than their first line.
    pub messages: bool,
}

impl Default for RecorderLimits {
    fn default() -> RecorderLimits {
        RecorderLimits { calls: 1_000, memory: 64 << 20, messages: true }
    }
}

/// How credentials for visitors are made.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// Signs the names of users that live for a while.
    pub secret: Secret,
    /// The longest they may last.
    pub longest: Duration,
    /// Handed out beside them.
    pub turn: Option<TurnServer>,
}

/// A TURN server that takes time-limited credentials.
#[derive(Clone, Debug)]
pub struct TurnServer {
    /// `turn:` and `turns:`, as browsers take them.
    pub uris: Vec<String>,
    /// Shared with the TURN server (its REST scheme).
    pub secret: Secret,
}

/// Several gateways as one: this node's name, and how to find the others.
#[derive(Clone, PartialEq, Debug)]
pub struct ClusterSettings {
    /// Its own name.
    pub node: String,
    /// Where leases and pointers are.
    pub store: StoreSettings,
    /// What all nodes share.
    pub key: Secret,
    /// Where the others connect.
    pub listen: SocketAddr,
    /// Where the others reach us.
    pub advertise: SocketAddr,
    /// The address that moves to the node that continues with our calls.
    pub address: Option<IpAddr>,
}

/// A store of the Redis protocol.
#[derive(Clone, PartialEq, Debug)]
pub struct StoreSettings {
    /// Its URL, or those of its sentinels.
    pub urls: Vec<String>,
    /// What the sentinels call the primary.
    pub sentinel: Option<String>,
    /// Whom to log in as at the sentinels.
    pub sentinel_username: Option<String>,
    /// And with what.
    pub sentinel_password: Option<Secret>,
    /// Whom to log in as.
    pub username: Option<String>,
    /// And with what.
    pub password: Option<Secret>,
    /// The authority of its certificate; `None`: those of the system.
    pub ca: Option<PathBuf>,
}

impl Config {
    /// Keeps the numbers trunks had under `before`, by name; a new trunk gets one nobody had.
    /// Connections are known by these numbers.
    pub(crate) fn renumber(&mut self, before: &Config) {
        self.trunks.renumber(&before.trunks);
    }

    /// Whether `ip` is an address that the settings give to peers.
    pub(crate) fn tells(&self, ip: IpAddr) -> bool {
        let sides = self.public_ips.iter().chain(&self.media.public_ips);
        sides.chain(&self.sip.public_ip).chain(&self.media.bind).any(|named| *named == ip)
            || self.trunks.public_ips().contains(&ip)
    }

    /// The addresses that are set for browsers.
    pub fn browser_ips(&self) -> &[IpAddr] {
        if self.media.public_ips.is_empty() { &self.public_ips } else { &self.media.public_ips }
    }

    /// The user of this name, else the number's owner.
    pub(crate) fn user_called(&self, dialled: &str) -> Option<&Arc<User>> {
        self.users.get(dialled).or_else(|| self.users.owner_of(dialled))
    }
}

/// Everything, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// What stands after `@` in users' addresses.
    pub domain: String,
    /// Files that hold a secret and nothing else, for `doctor` to look at.
    pub secret_files: Vec<PathBuf>,
    /// Addresses put into descriptions and Contacts; the first is the main one.
    pub public_ips: Vec<IpAddr>,
    /// Nobody wrote them down: they are found, and found again.
    pub public_auto: bool,
    /// The STUN server that finds our public address: HOST:PORT.
    pub stun: Option<String>,
    /// Page, API and SIP over WebSocket.
    pub web_listen: SocketAddr,
    /// Of the same port.
    pub web_tls: WebTls,
    /// Where browsers reach it, without a slash at the end.
    pub public_url: Option<String>,
    /// Empty: only the page's own origin.
    pub origins: Vec<String>,
    /// Whose X-Forwarded-For is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Whose connections begin with a PROXY header.
    pub proxy_protocol: Vec<IpNet>,
    /// SIP over UDP.
    pub udp: Option<SocketAddr>,
    /// SIP over TCP.
    pub tcp: Option<SocketAddr>,
    /// Timers and limits of signalling.
    pub sip: SipSettings,
    /// The other nodes, and the store they are found by.
    pub cluster: Option<ClusterSettings>,
    /// All nodes of a cluster that are configured alike have the same number here.
    pub common: u64,
    /// Ports, codecs and threads.
    pub media: Media,
    /// What one source, user or node may use.
    pub limits: Limits,
    /// Where a user's dear calls end.
    pub fraud: FraudLimits,
    /// By name and by DID.
    pub users: Users,
    /// By name.
    pub trunks: TrunkTable,
    /// All contexts of the dialplans.
    pub plan: Arc<Plan>,
    /// Prompts by the name the dialplan uses, at 8 kHz.
    pub prompts: BTreeMap<String, Arc<[i16]>>,
    /// One JSON object a line.
    pub cdr_file: Option<PathBuf>,
    /// A SQLite database of records.
    pub cdr_sqlite: Option<PathBuf>,
    /// Users that are not in this file.
    pub auth: Auth,
    /// An OpenTelemetry collector's OTLP/HTTP endpoint.
    pub otlp: Option<String>,
    /// Homer, or what else takes HEP3.
    pub hep: Option<SocketAddr>,
    /// The receiver of events.
    pub webhook: Option<Webhook>,
    /// What the flight recorder keeps.
    pub recorder: RecorderLimits,
    /// Where the API may be used, and by whom.
    pub api: Api,
    /// Credentials with a time in them; `None`: none are taken.
    pub credentials: Option<Credentials>,
    /// How long `drain` waits for calls to end.
    pub drain_timeout: Duration,
    /// Where what outlives the process is kept; `None` in the demo.
    pub state_dir: Option<PathBuf>,
    /// Credentials the page logs in with on its own; only the demo sets them.
    pub page_login: Option<(String, String)>,
    /// MD5 challenges are offered too: JsSIP knows nothing else.
    pub allow_md5: bool,
    /// SHA-256 challenges are offered, first; some old clients read only the first challenge.
    pub allow_sha256: bool,
}
