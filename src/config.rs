//! Settings: one TOML file and a folder of dialplans, checked whole before anything is bound.

pub mod check;
pub mod problem;
pub mod schema;
pub mod wav;

pub use check::load;
pub use problem::{Problem, Problems};

use crate::codec::Codec;
use crate::dialplan::Plan;
use crate::sip::digest::Secret;
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How the web port is protected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WebTls {
    Off,
    /// An own certificate authority, kept in this folder.
    Local(PathBuf),
    Files { cert: PathBuf, key: PathBuf },
}

/// What a trunk call prefers where both are possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prefer {
    /// Opus to the browser, transcoded where the trunk has none.
    Opus,
    /// No transcoding: the browser speaks the trunk's codec.
    Passthrough,
}

/// A user who registers.
#[derive(Clone, Debug)]
pub struct User {
    pub name: String,
    pub password: Secret,
    pub did: Option<String>,
    pub display_name: Option<String>,
    pub context: String,
}

/// Where a trunk is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrunkUri {
    pub host: String,
    pub port: u16,
    pub tcp: bool,
}

/// A trunk.
#[derive(Clone, Debug)]
pub struct Trunk {
    pub name: String,
    pub uri: TrunkUri,
    pub username: Option<String>,
    pub password: Option<Secret>,
    pub realm: Option<String>,
    pub codecs: Vec<Codec>,
    pub prefer: Prefer,
    pub max_calls: Option<usize>,
    /// Source addresses of calls from this trunk.
    pub allow: Vec<IpNet>,
    /// Context of calls from this trunk; without one they are refused.
    pub context: Option<String>,
    pub nat: bool,
    /// Networks its media may be in besides its own address and the public internet.
    pub media: Vec<IpNet>,
}

/// Limits on calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    pub calls: usize,
    pub calls_per_user: usize,
    pub new_calls_per_second: u32,
    pub max_duration: Duration,
}

/// Media addresses and policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Media {
    pub ports: (u16, u16),
    pub browser_port: u16,
    pub workers: usize,
    pub codecs: Vec<Codec>,
    pub complexity: u8,
}

/// Everything, checked.
#[derive(Clone, Debug)]
pub struct Config {
    pub domain: String,
    /// Addresses put into descriptions and Contacts; the first is the main one.
    pub public_ips: Vec<IpAddr>,
    pub web_listen: SocketAddr,
    pub web_tls: WebTls,
    /// Empty: only the page's own origin.
    pub origins: Vec<String>,
    pub udp: Option<SocketAddr>,
    pub tcp: Option<SocketAddr>,
    pub media: Media,
    pub limits: Limits,
    pub users: BTreeMap<String, User>,
    pub trunks: BTreeMap<String, Trunk>,
    pub plan: Arc<Plan>,
    /// Prompts by the name the dialplan uses, at 8 kHz.
    pub prompts: BTreeMap<String, Arc<[i16]>>,
    pub cdr_file: Option<PathBuf>,
    pub drain_timeout: Duration,
    /// What the page is told to log in with by itself; the demo alone sets it.
    pub page_login: Option<(String, String)>,
    /// MD5 challenges are offered too: JsSIP knows nothing else.
    pub allow_md5: bool,
}
