//! The keys for those who watch and steer: recorder, API tokens, metrics.

use super::Check;
use super::times::{SESSION_IDLE, SESSION_LONGEST};
use crate::config::password::{PasswordHash, is_user_name};
use crate::config::problem::ConfigProblem;
use crate::config::schema::Spanned;
use crate::config::{
    Api, ApiToken, ApiUser, Auth, Credentials, JwtSettings, KeySet, OidcSettings, RecorderLimits,
    Scope, SessionTimes, TurnServer, Webhook, schema,
};
use crate::dialplan::Plan;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// A secret others' credentials hang on.
const SHORTEST_SECRET: usize = 16;

impl Check {
    pub(super) fn recorder(&mut self, r: &schema::RecorderSettings) -> RecorderLimits {
        let default = RecorderLimits::default();
        let memory = r.memory.as_ref().and_then(|at| {
            let size = size(at.as_ref()).filter(|size| (64_000..=64_000_000_000).contains(size));
            if size.is_none() {
                self.error(
                    at,
                    "config::size",
                    format!(
                        "recorder.memory = {:?} is not a size from 64 kB to 64 GB",
                        at.as_ref()
                    ),
                    "write \"64MB\" or \"512kB\"",
                );
            }
            size
        });
        RecorderLimits {
            calls: r.calls.as_ref().map_or(default.calls, |c| *c.as_ref()),
            memory: memory.unwrap_or(default.memory),
            messages: r.messages.unwrap_or(true),
        }
    }

    /// The longest text, in bytes.
    pub(super) fn text_size(&mut self, at: Option<&Spanned<String>>) -> Option<usize> {
        let at = at?;
        let size = size(at.as_ref()).filter(|size| (1..=60_000).contains(size));
        if size.is_none() {
            let message = format!("limits.text_size = {:?} is not a size up to 60 kB", at.as_ref());
            self.error(at, "config::size", message, "write \"8kB\" or \"1300B\"");
        }
        size
    }

    /// `udp:ADDRESS:PORT`.
    pub(super) fn hep(&mut self, at: Option<&Spanned<String>>) -> Option<SocketAddr> {
        let at = at?;
        let parsed = at.as_ref().strip_prefix("udp:").and_then(|a| a.parse().ok());
        if parsed.is_none() {
            self.error(
                at,
                "config::hep",
                format!("events.hep = {:?} is not the address of a collector", at.as_ref()),
                "write \"udp:10.0.0.9:9060\"",
            );
        }
        parsed
    }

    /// Files of records: lines, a database.
    pub(super) fn cdr(
        &mut self,
        at: Option<&Spanned<schema::CdrSettings>>,
    ) -> (Option<PathBuf>, Option<PathBuf>) {
        let Some(at) = at else { return (None, None) };
        let cdr = at.as_ref();
        if cdr.file.is_none() && cdr.sqlite.is_none() {
            self.error(
                at,
                "config::cdr",
                "events.cdr names neither a file nor a database",
                "write cdr = { file = \"cdr.jsonl\" }, { sqlite = \"cdr.db\" }, or both",
            );
        }
        let place = |name: &Option<String>| name.as_ref().map(|n| self.folder.join(n));
        (place(&cdr.file), place(&cdr.sqlite))
    }

    pub(super) fn auth(&mut self, auth: schema::Auth, plan: &Plan) -> Auth {
        let webhook = auth.webhook.map(|w| self.webhook(&w.url, &w.secret, w.allow_private));
        let jwt = auth.jwt.map(|j| {
            if let Some(at) = j.context.as_ref().filter(|at| plan.context(at.as_ref()).is_none()) {
                self.no_context(at, plan);
            }
            JwtSettings {
                jwks: self.key_set(&j.jwks, j.allow_private),
                audience: j.audience.into_inner(),
                issuer: j.issuer,
                context: j.context.map(Spanned::into_inner),
                single_use: j.single_use,
                allow_private: j.allow_private,
            }
        });
        Auth { jwt, webhook }
    }

    fn key_set(&mut self, at: &Spanned<String>, allow_private: bool) -> KeySet {
        let text = at.as_ref();
        if is_url(text) && (text.starts_with("https://") || allow_private) {
            return KeySet::Url(text.clone());
        }
        let file = self.folder.join(text);
        let read = if text.contains("://") {
            Err("it is not an https URL".to_owned())
        } else {
            std::fs::read_to_string(&file)
                .map_err(|e| format!("{} cannot be read: {e}", file.display()))
                .and_then(|text| match serde_json::from_str::<serde_json::Value>(&text) {
                    Ok(set) if set["keys"].as_array().is_some_and(|k| !k.is_empty()) => Ok(()),
                    _ => Err(format!("{} holds no set of keys", file.display())),
                })
        };
        if let Err(why) = read {
            self.error(
                at,
                "config::jwks",
                format!("jwks = {text:?}: {why}"),
                "name an https URL (http with allow_private = true), or a file with a JWK set",
            );
        }
        KeySet::File(file)
    }

    pub(super) fn otlp(&mut self, at: Option<&Spanned<String>>) -> Option<String> {
        let at = at?;
        if !is_url(at.as_ref()) {
            self.error(
                at,
                "config::otlp",
                format!("telemetry.otlp = {:?} is not a URL", at.as_ref()),
                "write \"http://127.0.0.1:4318\"",
            );
        }
        if !cfg!(feature = "otlp") {
            self.error(
                at,
                "config::otlp",
                "this webtrunk was built without OpenTelemetry",
                "build it with --features otlp, or remove telemetry.otlp",
            );
        }
        Some(at.as_ref().clone())
    }

    /// Where a webhook goes; https, unless it stays within this network.
    pub(super) fn webhook(
        &mut self,
        url: &Spanned<String>,
        secret: &Spanned<schema::SecretText>,
        allow_private: bool,
    ) -> Webhook {
        let text = url.as_ref();
        let host = text.split_once("://").filter(|(scheme, rest)| {
            (*scheme == "https" || (*scheme == "http" && allow_private)) && !rest.is_empty()
        });
        if host.is_none() || !is_url(text) {
            self.error(
                url,
                "config::webhook",
                format!("{text:?} is not an https URL"),
                "write \"https://shop.example.com/voice\"; http is allowed with \
                 allow_private = true",
            );
        }
        let key = self.secret(secret);
        if (1..SHORTEST_SECRET).contains(&key.reveal().len()) {
            self.error(
                secret,
                "config::secret",
                format!("the webhook's secret has fewer than {SHORTEST_SECRET} characters"),
                "make one: `openssl rand -base64 24`",
            );
        }
        Webhook { url: text.clone(), secret: key, allow_private }
    }

    pub(super) fn credentials(&mut self, c: schema::Credentials) -> Credentials {
        let secret = self.secret(&c.secret);
        if (1..SHORTEST_SECRET).contains(&secret.reveal().len()) {
            let message = format!("credentials.secret has fewer than {SHORTEST_SECRET} characters");
            self.error(
                &c.secret,
                "config::secret",
                message,
                "use 32 random ones: `openssl rand -base64 24`",
            );
        }
        let longest = self.duration(c.longest.as_ref()).unwrap_or(Duration::from_secs(3_600));
        let turn =
            c.turn.map(|t| {
                for uri in t.uris.iter().filter(|u| {
                    !u.as_ref().starts_with("turn:") && !u.as_ref().starts_with("turns:")
                }) {
                    self.error(
                        uri,
                        "config::turn",
                        format!("{:?} is not a TURN URI", uri.as_ref()),
                        "write \"turn:turn.example.com:3478?transport=udp\"",
                    );
                }
                TurnServer {
                    uris: t.uris.into_iter().map(Spanned::into_inner).collect(),
                    secret: self.secret(&t.secret),
                }
            });
        Credentials { secret, longest, turn }
    }

    pub(super) fn api(
        &mut self,
        api: schema::Api,
        metrics: Option<&Spanned<String>>,
        page: Option<&Spanned<String>>,
    ) -> Api {
        let mut tokens = Vec::new();
        for (name, token) in api.token {
            let token = token.into_inner();
            let Some(sha256) = hash(token.sha256.as_ref()) else {
                let help = format!(
                    "`webtrunk api-token {name}` makes a token and prints this line for it"
                );
                self.error(
                    &token.sha256,
                    "config::token",
                    format!("api.token.{name}: sha256 is 64 hexadecimal digits"),
                    help,
                );
                continue;
            };
            let Some(scope) = self.scope(token.scope.as_ref()) else { continue };
            tokens.push(ApiToken { name, sha256, scope });
        }
        let users = api.user.into_iter().filter_map(|(name, user)| self.api_user(name, user));
        let users = users.collect();
        let oidc = api.oidc.and_then(|oidc| {
            self.oidc(oidc, page.map(|url| url.as_ref().trim_end_matches('/').to_owned()))
        });
        Api {
            tokens,
            users,
            oidc: oidc.map(Arc::new),
            sessions: SessionTimes {
                idle: self.time(api.session_idle.as_ref(), "api.session_idle", SESSION_IDLE),
                longest: self.time(
                    api.session_longest.as_ref(),
                    "api.session_longest",
                    SESSION_LONGEST,
                ),
            },
            metrics: self.listen(metrics, "metrics.listen"),
            control: api.control.map(|c| self.folder.join(c.as_ref())),
        }
    }

    /// A provider that can be asked, and can send people back.
    fn oidc(&mut self, at: Spanned<schema::Oidc>, page: Option<String>) -> Option<OidcSettings> {
        let span = at.span();
        let oidc = at.into_inner();
        let issuer = oidc.issuer.as_ref().trim_end_matches('/').to_owned();
        if !is_url(&issuer) || !(issuer.starts_with("https://") || oidc.allow_private) {
            let message =
                format!("api.oidc.issuer = {:?} is not an https URL", oidc.issuer.as_ref());
            let help = "write it as its tokens name it; http with allow_private = true";
            self.error(&oidc.issuer, "config::oidc", message, help);
        }
        let roles: Vec<(String, Scope)> = {
            let roles = oidc.roles.get_ref();
            let of = |names: &[String], scope| {
                names.iter().map(move |name| (name.clone(), scope)).collect::<Vec<_>>()
            };
            [(&roles.read, Scope::Read), (&roles.write, Scope::Write), (&roles.admin, Scope::Admin)]
                .into_iter()
                .flat_map(|(names, scope)| of(names, scope))
                .collect()
        };
        if roles.is_empty() {
            let message = "api.oidc.roles names nobody: nobody could log in";
            let help = "such as roles = { admin = [\"voice-admins\"], read = [\"staff\"] }";
            self.error(&oidc.roles, "config::oidc", message, help);
        }
        let client_secret = oidc.client_secret.as_ref().map(|s| self.secret(s));
        let Some(page) = page else {
            let problem = ConfigProblem::at(
                &self.source,
                span.start..span.start + 1,
                "config::oidc",
                "api.oidc needs web.public_url: the provider sends people back to it".to_owned(),
            );
            self.problems.push(problem.help("such as public_url = \"https://calls.example.com\""));
            return None;
        };
        let host = reqwest::Url::parse(&issuer).ok();
        let host = host.as_ref().and_then(reqwest::Url::host_str).unwrap_or_default().to_owned();
        let mut scopes = oidc
            .scopes
            .unwrap_or_else(|| ["openid", "profile", "email"].map(str::to_owned).to_vec());
        // Without it there is no ID token.
        if !scopes.iter().any(|scope| scope == "openid") {
            scopes.insert(0, "openid".to_owned());
        }
        Some(OidcSettings {
            issuer,
            client_id: oidc.client_id.into_inner(),
            client_secret,
            scopes,
            roles_claim: oidc.roles_claim.unwrap_or_else(|| "groups".to_owned()),
            roles,
            label: oidc.label.unwrap_or(host),
            page,
            allow_private: oidc.allow_private,
        })
    }

    fn scope(&mut self, at: Option<&Spanned<String>>) -> Option<Scope> {
        let Some(at) = at else { return Some(Scope::Read) };
        let scopes = [Scope::Read, Scope::Write, Scope::Admin];
        let scope = scopes.into_iter().find(|s| s.as_str() == at.as_ref());
        if scope.is_none() {
            let message = format!("{:?} is not a scope", at.as_ref());
            let help = "known: \"read\", \"write\", \"admin\"";
            self.error(at, "config::scope", message, help);
        }
        scope
    }

    fn api_user(&mut self, name: String, user: Spanned<schema::ApiUser>) -> Option<ApiUser> {
        let at = user.span();
        let user = user.into_inner();
        if !is_user_name(&name) {
            let help = "use letters, digits and - _ . + @, at most 64";
            let message = format!("api.user: {name:?} cannot be a name here");
            let problem =
                ConfigProblem::at(&self.source, at.start..at.start + 1, "config::user", message);
            self.problems.push(problem.help(help));
            return None;
        }
        match PasswordHash::parse(user.hash.as_ref()) {
            Ok(hash) => Some(ApiUser { name, hash, scope: self.scope(user.scope.as_ref())? }),
            Err(why) => {
                let message =
                    format!("api.user.{name}: hash is not of a password by argon2id: {why}");
                let help = format!("`webtrunk user password {name}` asks for one and writes it");
                self.error(&user.hash, "config::hash", message, help);
                None
            }
        }
    }
}

/// An http or https URL with a host.
fn is_url(text: &str) -> bool {
    let url = reqwest::Url::parse(text).ok().filter(|url| url.has_host());
    url.is_some_and(|url| matches!(url.scheme(), "http" | "https")) && !text.contains(' ')
}

fn hash(text: &str) -> Option<[u8; 32]> {
    let mut out = [0; 32];
    if text.len() != 64 {
        return None;
    }
    for (n, byte) in out.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * n..2 * n + 2)?, 16).ok()?;
    }
    Some(out)
}

fn size(text: &str) -> Option<usize> {
    let text = text.trim();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == ' ');
    let factor = match text[digits.len()..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" | "k" => 1_000,
        "mb" | "m" => 1_000_000,
        "gb" | "g" => 1_000_000_000,
        _ => return None,
    };
    digits.parse::<usize>().ok()?.checked_mul(factor)
}
