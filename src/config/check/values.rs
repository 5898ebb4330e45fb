//! Values that are of the right kind and yet of no use: numbers and times nothing works with, names
//! no message can carry, secrets anybody guesses.

use super::Check;
use crate::codec::Codec;
use crate::config::problem::ConfigProblem;
use crate::config::schema::{self, Spanned};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

const SECOND: u64 = 1;
const MINUTE: u64 = 60;
const DAY: u64 = 86_400;

/// Longest path of a socket, bytes: `sun_path` without its last.
const LONGEST_SOCKET: usize = 107;
/// SHA-256 of nothing at all.
const NOTHING: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

impl Check {
    /// Looks at the file as written, before it is taken apart.
    pub(super) fn values(&mut self, f: &schema::File) {
        self.times(f);
        self.numbers(f);
        self.names(f);
        self.users(f);
        self.keys_and_secrets(f);
        self.places(f);
        self.codec_lists(f);
        f.trunk.values().for_each(|trunk| self.trunk_values(trunk.get_ref(), f));
    }

    fn times(&mut self, f: &schema::File) {
        let credentials = f.credentials.as_ref().and_then(|c| c.get_ref().longest.as_ref());
        for (at, key, range) in [
            (f.server.drain_timeout.as_ref(), "server.drain_timeout", 0..=7 * DAY),
            (f.sip.flow_grace.as_ref(), "sip.flow_grace", SECOND..=10 * MINUTE),
            (f.sip.flow_grace_media.as_ref(), "sip.flow_grace_media", SECOND..=DAY),
            (f.limits.max_duration.as_ref(), "limits.max_duration", SECOND..=30 * DAY),
            (credentials, "credentials.longest", 10 * SECOND..=366 * DAY),
        ] {
            self.time_within(at, key, range);
        }
        // Its least has a message of its own.
        let off = |at: &&Spanned<String>| at.as_ref().as_str() != "off";
        self.time_within(f.sip.session_timer.as_ref().filter(off), "sip.session_timer", 0..=DAY);
        for trunk in f.trunk.values().map(Spanned::get_ref) {
            let timer = trunk.session_timer.as_ref().filter(off);
            self.time_within(timer, "session_timer", 0..=DAY);
            self.time_within(trunk.register_expires.as_ref(), "register_expires", MINUTE..=DAY);
            self.time_within(trunk.probe.as_ref(), "probe", SECOND..=DAY);
        }
    }

    fn numbers(&mut self, f: &schema::File) {
        let l = &f.limits;
        self.within(l.calls.as_ref(), "limits.calls", 1..=100_000);
        self.within(l.calls_per_user.as_ref(), "limits.calls_per_user", 0..=10_000);
        self.within(l.connections.as_ref(), "limits.connections", 1..=1_000_000);
        let per_source = l.connections_per_source.as_ref();
        self.within(per_source, "limits.connections_per_source", 1..=1_000_000);
        let handshakes = l.handshakes_per_source.as_ref();
        self.within(handshakes, "limits.handshakes_per_source", 1..=2_048);
        let pace = l.new_calls_per_second.as_ref();
        self.within(pace, "limits.new_calls_per_second", 1..=100_000);
        let pace = l.new_calls_per_second_per_user.as_ref();
        self.within(pace, "limits.new_calls_per_second_per_user", 1..=100_000);
        let texts = l.texts_per_minute.as_ref();
        self.within(texts, "limits.texts_per_minute", 0..=100_000);
        let texts = l.texts_per_minute_of_source.as_ref();
        self.within(texts, "limits.texts_per_minute_of_source", 0..=1_000_000);
        self.within(f.recorder.calls.as_ref(), "recorder.calls", 0..=1_000_000);
        for user in f.user.values().map(Spanned::get_ref) {
            self.within(user.max_calls.as_ref(), "max_calls", 0..=10_000);
            self.within(user.calls_per_second.as_ref(), "calls_per_second", 1..=10_000);
        }
        for trunk in f.trunk.values().map(Spanned::get_ref) {
            self.within(trunk.max_calls.as_ref(), "max_calls", 0..=100_000);
            self.within(trunk.calls_per_second.as_ref(), "calls_per_second", 1..=10_000);
        }
    }

    /// A number within these.
    pub(super) fn within<T: PartialOrd + Display>(
        &mut self,
        at: Option<&Spanned<T>>,
        key: &str,
        range: RangeInclusive<T>,
    ) {
        let Some(at) = at.filter(|at| !range.contains(at.as_ref())) else { return };
        let message = format!("{key} = {} is out of range", at.as_ref());
        let help = format!("use {} to {}", range.start(), range.end());
        self.error(at, "config::range", message, help);
    }

    /// Names stand in SIP addresses, in URLs of the API and in logs.
    fn names(&mut self, f: &schema::File) {
        let users = f.user.iter().map(|(n, at)| ("user", n, at.span()));
        let trunks = f.trunk.iter().map(|(n, at)| ("trunk", n, at.span()));
        for (kind, name, span) in users.chain(trunks) {
            let sound = (1..=64).contains(&name.len())
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.+@".contains(&b));
            if !sound {
                let message = format!("{name:?} is not a name of a {kind}");
                let place = span.start..span.start + 1;
                let problem = ConfigProblem::at(&self.source, place, "config::name", message);
                self.problems.push(
                    problem.help("use 1 to 64 letters, digits and - _ . + @, without spaces"),
                );
            }
        }
    }

    /// A number that is somebody's is nobody else's name, with or without its +.
    fn users(&mut self, f: &schema::File) {
        fn bare(text: &str) -> &str {
            text.trim_start_matches('+')
        }
        let mut named: BTreeMap<&str, Vec<&String>> = BTreeMap::new();
        f.user.keys().for_each(|name| named.entry(bare(name)).or_default().push(name));
        for (owner, user) in &f.user {
            let user = user.get_ref();
            for at in user.did.iter().chain(&user.numbers) {
                let others = named.get(bare(at.as_ref())).into_iter().flatten();
                if let Some(other) = others.copied().find(|name| *name != owner) {
                    let message = format!(
                        "{} is a number of {owner}, and {other} is the name of another user",
                        at.as_ref()
                    );
                    let help = "calls to it reach one of them: rename the user";
                    self.error(at, "config::did", message, help);
                }
            }
            self.shown(user.display_name.as_ref(), "display_name");
        }
    }

    /// A text that people are shown, on the other side too.
    fn shown(&mut self, at: Option<&Spanned<String>>, key: &str) {
        let Some(at) = at.filter(|at| at.as_ref().contains(crate::printable::is_unsafe)) else {
            return;
        };
        let message = format!("{key} has characters that cannot be shown");
        self.error(at, "config::text", message, "use letters, digits, spaces and punctuation");
    }

    fn keys_and_secrets(&mut self, f: &schema::File) {
        for (name, token) in &f.api.token {
            let at = &token.get_ref().sha256;
            if at.as_ref().eq_ignore_ascii_case(NOTHING) {
                let message = format!("api.token.{name} is the hash of an empty token");
                let help = format!("`webtrunk api-token {name}` makes a token");
                self.error(at, "config::token", message, help);
            }
        }
        if let Some(jwt) = &f.auth.jwt
            && jwt.audience.as_ref().is_empty()
        {
            let help = "write what the tokens' `aud` holds, such as \"webtrunk\"";
            self.error(&jwt.audience, "config::jwt", "auth.jwt.audience is empty", help);
        }
        let turn = f.credentials.as_ref().and_then(|c| c.get_ref().turn.as_ref());
        for at in turn.iter().flat_map(|t| &t.uris) {
            let text = at.as_ref();
            let host = text.strip_prefix("turns:").or_else(|| text.strip_prefix("turn:"));
            let host = host.map(|h| h.split(['?', ':']).next().unwrap_or_default());
            if host == Some("") || text.contains(char::is_whitespace) {
                let help = "write \"turn:turn.example.com:3478?transport=udp\"";
                self.error(at, "config::turn", format!("{text:?} names no host"), help);
            }
        }
        if let (Some(at), Some([])) = (&f.credentials, turn.map(|t| t.uris.as_slice())) {
            let help = "add uris = [\"turn:turn.example.com:3478\"], or remove turn";
            self.error(at, "config::turn", "credentials.turn has no uris", help);
        }
    }

    /// Files that `serve` makes, and addresses it sends to.
    fn places(&mut self, f: &schema::File) {
        if let Some(at) = &f.events.cdr {
            let cdr = at.get_ref();
            if cdr.file.is_some() && cdr.file == cdr.sqlite {
                let message = "events.cdr: lines and database are one file";
                self.error(at, "config::cdr", message, "give each a file of its own");
            }
        }
        if let Some(at) = &f.events.webhook
            && f.events.cdr.is_none()
        {
            // Dead letters are kept beside the records, or where the gateway runs.
            let letters = std::path::Path::new("webhook-dead.jsonl").to_owned();
            self.writable(&at.url, "events that cannot be delivered", &letters);
        }
        if let Some(at) = &f.api.control {
            let path = self.folder.join(at.as_ref());
            if path.as_os_str().len() > LONGEST_SOCKET || path.is_dir() {
                let message = format!("api.control: {} cannot be a socket", path.display());
                let help = "name a file that is not there yet, in at most 107 characters";
                self.error(at, "config::control", message, help);
            }
        }
        if let Some(at) = &f.web.tls
            && matches!(at.get_ref(), schema::Tls::Word(word) if word == "local")
            && !self.folder.join("local-ca").is_dir()
        {
            self.writable(at, "web.tls", &self.folder.join("local-ca"));
        }
        let collector = f.events.hep.as_ref().and_then(|at| {
            let address: SocketAddr = at.as_ref().strip_prefix("udp:")?.parse().ok()?;
            Some((at, address))
        });
        if let Some((at, address)) = collector
            && (address.port() == 0 || address.ip().is_unspecified())
        {
            let message = format!("nothing can be sent to {address}");
            self.error(at, "config::hep", message, "write \"udp:10.0.0.9:9060\"");
        }
    }

    fn codec_lists(&mut self, f: &schema::File) {
        for at in &f.media.codecs {
            if Codec::from_name(at.as_ref()).is_some_and(|c| !Codec::BROWSERS.contains(&c)) {
                let message = format!("no browser speaks {:?}", at.as_ref());
                self.error(at, "config::codec", message, "known: opus, g722, pcmu, pcma");
            }
        }
        let lists = f.trunk.values().map(|t| &t.get_ref().codecs);
        for list in std::iter::once(&f.media.codecs).chain(lists) {
            let mut seen = BTreeSet::new();
            for at in list {
                if !seen.insert(at.as_ref().as_str()) {
                    let message = format!("{:?} is named twice", at.as_ref());
                    self.error(at, "config::codec", message, "name each codec once, in order");
                }
            }
        }
    }

    fn trunk_values(&mut self, trunk: &schema::Trunk, f: &schema::File) {
        self.shown(trunk.display_name.as_ref(), "display_name");
        for (at, key) in [(&trunk.username, "username"), (&trunk.realm, "realm")] {
            if let Some(at) = at.as_ref().filter(|at| at.as_ref().is_empty()) {
                self.error(
                    at,
                    "config::digest",
                    format!("{key} is empty"),
                    "write it, or leave it out",
                );
            }
        }
        if let Some(at) = &trunk.from_domain
            && !super::around::is_domain(at.as_ref())
        {
            let message = format!("from_domain = {:?} is not a domain", at.as_ref());
            self.error(at, "config::domain", message, "write the name alone: no scheme, no port");
        }
        let odd = |c: char| c.is_whitespace() || c.is_control() || "@<>\":;?/[]".contains(c);
        if let Some(at) = &trunk.from_user
            && (at.as_ref().is_empty() || at.as_ref().contains(odd))
        {
            let message = format!("from_user = {:?} is no user of an address", at.as_ref());
            self.error(at, "config::from", message, "write a number or a name, without its domain");
        }
        if let Some(at) = &trunk.uri {
            self.trunk_target(at, f);
        }
        if let Some(tls) = &trunk.tls
            && let Some(name) = &tls.get_ref().name
            && rustls::pki_types::ServerName::try_from(name.as_str()).is_err()
        {
            let message = format!("tls.name = {name:?} is no name that a certificate can have");
            self.error(tls, "config::tls", message, "write a host such as \"sip.example.com\"");
        }
    }

    /// A trunk is somewhere else, at a port and a name that can be.
    fn trunk_target(&mut self, at: &Spanned<String>, f: &schema::File) {
        let Ok(uri) = crate::sip::uri::Uri::parse_strict(at.as_ref()) else { return };
        if uri.port == Some(0) {
            let message = format!("{:?} has the port 0", at.as_ref());
            self.error(at, "config::uri", message, "write \"sip:192.0.2.20:5060\"");
        }
        if rustls::pki_types::ServerName::try_from(uri.host.trim_matches(['[', ']'])).is_err() {
            let message = format!("{:?} is not the name of a host", uri.host);
            self.error(at, "config::uri", message, "write \"sip:192.0.2.20:5060\" or \"sip:host\"");
        }
        let Ok(ip) = uri.host.trim_matches(['[', ']']).parse::<IpAddr>() else { return };
        let tls = uri.params.get("transport").is_some_and(|t| t.eq_ignore_ascii_case("tls"));
        let port = uri.port.unwrap_or(if tls { 5_061 } else { 5_060 });
        let here = [&f.sip.udp, &f.sip.tcp, &f.sip.tls].into_iter().flatten().any(|listen| {
            let text = listen.as_ref().rsplit_once(':');
            let Some((host, own)) = text else { return false };
            let own_ip = host.trim_matches(['[', ']']).parse::<IpAddr>().ok();
            let same = own_ip == Some(ip)
                || (ip.is_loopback() && own_ip.is_none_or(|own| own.is_unspecified()));
            own.parse() == Ok(port) && same
        });
        if here {
            let message = format!("{:?} is this gateway itself", at.as_ref());
            self.warn(at.span(), "config::uri", message, "name the trunk's host and port");
        } else if ip.is_unspecified() || ip.is_multicast() {
            let message = format!("{ip} is no address that a trunk can have");
            self.error(at, "config::uri", message, "write \"sip:192.0.2.20:5060\"");
        }
    }
}
