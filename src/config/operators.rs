//! Who may view and operate the gateway, and how they authenticate.

use super::password::PasswordHash;
use crate::sip::digest::Secret;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// What a bearer of a token, or a user of the console, may do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Scope {
    /// Look at calls, trunks and registrations.
    Read,
    /// End calls, make credentials for browsers.
    Write,
    /// Everything: drain, reload, trunks.
    Admin,
}

impl Scope {
    /// The word for it in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Scope::Read => "read",
            Scope::Write => "write",
            Scope::Admin => "admin",
        }
    }
}

/// A token, known by its SHA-256 only.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ApiToken {
    /// As in `[api.token.NAME]`.
    pub name: String,
    /// Of the token: it is not kept itself.
    pub sha256: [u8; 32],
    /// What it may do.
    pub scope: Scope,
}

/// Somebody who logs in to the console.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ApiUser {
    /// As in `[api.user.NAME]`.
    pub name: String,
    /// Argon2id.
    pub hash: PasswordHash,
    /// What it may do.
    pub scope: Scope,
}

/// A provider at which people log in to the console (OpenID Connect).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OidcSettings {
    /// Its URL, as its tokens name it.
    pub issuer: String,
    /// Our client id there.
    pub client_id: String,
    /// How we prove it; `None`: as a public client, by PKCE alone.
    pub client_secret: Option<Secret>,
    /// What is asked for.
    pub scopes: Vec<String>,
    /// The claim that has roles; a dot leads into an object.
    pub roles_claim: String,
    /// What each of its values allows.
    pub roles: Vec<(String, Scope)>,
    /// What the page calls it.
    pub label: String,
    /// `web.public_url`, where it sends people back to.
    pub page: String,
    /// It is within this network, or speaks plain http.
    pub allow_private: bool,
}

/// How long a session of the console lasts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SessionTimes {
    /// Time without a request after which a session ends.
    pub idle: Duration,
    /// Time after which a session ends, whatever is done in it.
    pub longest: Duration,
}

impl Default for SessionTimes {
    fn default() -> SessionTimes {
        SessionTimes { idle: Duration::from_secs(3_600), longest: Duration::from_secs(12 * 3_600) }
    }
}

/// The ways to the API.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Api {
    /// The local control socket; `None`: where the system keeps such.
    pub control: Option<PathBuf>,
    /// For programs.
    pub tokens: Vec<ApiToken>,
    /// For people.
    pub users: Vec<ApiUser>,
    /// Where people log in besides.
    pub oidc: Option<Arc<OidcSettings>>,
    /// How long these stay logged in.
    pub sessions: SessionTimes,
    /// Where `/metrics` is served; `None`: nowhere.
    pub metrics: Option<SocketAddr>,
}
