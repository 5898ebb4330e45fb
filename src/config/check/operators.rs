//! The keys for those who watch and steer: recorder, API tokens, metrics.

use super::Check;
use crate::config::{Api, ApiToken, Credentials, RecorderLimits, Scope, Turn, Webhook, schema};
use std::net::SocketAddr;
use std::time::Duration;
use toml::Spanned;

/// A secret others' credentials hang on.
const SHORTEST_SECRET: usize = 16;

impl Check {
    pub(super) fn recorder(&mut self, r: &schema::Recorder) -> RecorderLimits {
        let default = RecorderLimits::default();
        let memory = r.memory.as_ref().and_then(|at| {
            let size = size(at.as_ref());
            if size.is_none() {
                self.error(at, "config::size", format!("{:?} is not a size", at.as_ref()), "write \"64MB\" or \"512kB\"");
            }
            size
        });
        RecorderLimits { calls: r.calls.unwrap_or(default.calls), memory: memory.unwrap_or(default.memory), messages: r.messages.unwrap_or(true) }
    }

    /// `udp:ADDRESS:PORT`.
    pub(super) fn hep(&mut self, at: Option<&Spanned<String>>) -> Option<SocketAddr> {
        let at = at?;
        let parsed = at.as_ref().strip_prefix("udp:").and_then(|a| a.parse().ok());
        if parsed.is_none() {
            self.error(at, "config::hep", format!("events.hep = {:?} is no collector", at.as_ref()), "write \"udp:10.0.0.9:9060\"");
        }
        parsed
    }

    /// Where a webhook goes; https, unless it stays within this network.
    pub(super) fn webhook(&mut self, url: &Spanned<String>, secret: &Spanned<schema::SecretText>, allow_private: bool) -> Webhook {
        let text = url.as_ref();
        let host = text.split_once("://").filter(|(scheme, rest)| (*scheme == "https" || (*scheme == "http" && allow_private)) && !rest.is_empty());
        if host.is_none() {
            self.error(url, "config::webhook", format!("{text:?} is no https URL"), "write \"https://shop.example.com/voice\"; http is allowed with allow_private = true");
        }
        let key = self.secret(secret);
        if key.reveal().len() < SHORTEST_SECRET {
            self.error(secret, "config::secret", format!("the webhook's secret has fewer than {SHORTEST_SECRET} characters"), "make one: `openssl rand -base64 24`");
        }
        Webhook { url: text.clone(), secret: key, allow_private }
    }

    pub(super) fn credentials(&mut self, c: schema::Credentials) -> Credentials {
        let secret = self.secret(&c.secret);
        if secret.reveal().len() < SHORTEST_SECRET {
            let message = format!("credentials.secret has fewer than {SHORTEST_SECRET} characters");
            self.error(&c.secret, "config::secret", message, "use 32 random ones: `openssl rand -base64 24`");
        }
        let longest = self.duration(c.longest.as_ref()).unwrap_or(Duration::from_secs(3_600));
        let turn = c.turn.map(|t| {
            for uri in t.uris.iter().filter(|u| !u.as_ref().starts_with("turn:") && !u.as_ref().starts_with("turns:")) {
                self.error(uri, "config::turn", format!("{:?} is not a TURN URI", uri.as_ref()), "write \"turn:turn.example.com:3478?transport=udp\"");
            }
            Turn { uris: t.uris.into_iter().map(Spanned::into_inner).collect(), secret: self.secret(&t.secret) }
        });
        Credentials { secret, longest, turn }
    }

    pub(super) fn api(&mut self, api: schema::Api, metrics: Option<&Spanned<String>>) -> Api {
        let mut tokens = Vec::new();
        for (name, token) in api.token {
            let token = token.into_inner();
            let Some(sha256) = hash(token.sha256.as_ref()) else {
                let help = format!("`webtrunk api-token {name}` makes a token and prints this line for it");
                self.error(&token.sha256, "config::token", format!("api.token.{name}: sha256 is 64 hexadecimal digits"), help);
                continue;
            };
            let scope = match token.scope.as_ref().map(|s| s.as_ref().as_str()) {
                None | Some("read") => Scope::Read,
                Some("write") => Scope::Write,
                Some("admin") => Scope::Admin,
                Some(other) => {
                    let message = format!("{other:?} is not a scope");
                    self.error(token.scope.as_ref().unwrap_or(&token.sha256), "config::scope", message, "known: \"read\", \"write\", \"admin\"");
                    continue;
                }
            };
            tokens.push(ApiToken { name, sha256, scope });
        }
        let metrics: Option<SocketAddr> = self.listen(metrics, "metrics.listen");
        Api { control: api.control.map(|c| self.folder.join(c)), tokens, metrics }
    }
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
