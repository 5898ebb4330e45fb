//! `[cluster]`: this node's name, where the others reach it, and the store they share.

use super::Check;
use crate::config::schema::{self, Spanned};
use crate::config::{ClusterSettings, StoreSettings};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Where the other nodes connect unless the file says otherwise.
pub(super) const CLUSTER_LISTEN: SocketAddr =
    SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 5_071);
/// Whoever has the key is a node.
const SHORTEST_KEY: usize = 32;
/// Names stand in keys of the store and in log lines.
const LONGEST_NAME: usize = 63;

/// A URL of the store, taken apart.
struct StoreUrl<'a> {
    tls: bool,
    credentials: Option<&'a str>,
    host: &'a str,
}

/// Reads `redis://[user[:password]@]HOST[:PORT][/DATABASE]`.
fn store_url(text: &str) -> Option<StoreUrl<'_>> {
    let (scheme, rest) = text.split_once("://")?;
    let tls = match scheme {
        "redis" => false,
        "rediss" => true,
        _ => return None,
    };
    let (address, database) = rest.split_once('/').unwrap_or((rest, ""));
    let (credentials, address) = match address.rsplit_once('@') {
        Some((credentials, address)) => (Some(credentials), address),
        None => (None, address),
    };
    let (host, port) = match address.strip_prefix('[') {
        Some(v6) => v6.split_once(']').map(|(host, port)| (host, port.strip_prefix(':')))?,
        // Without brackets the colons of an address are not told from that of its port.
        None => match address.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (address, None),
        },
    };
    let sound = !host.is_empty()
        && !text.contains(char::is_whitespace)
        && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
        && (database.is_empty() || database.parse::<u16>().is_ok());
    sound.then_some(StoreUrl { tls, credentials, host })
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Why nobody who connects to `advertise` comes to `listen`, whatever forwards it.
fn unreachable(listen: SocketAddr, advertise: SocketAddr) -> Option<String> {
    if listen.ip().is_loopback() && !advertise.ip().is_loopback() {
        return Some(format!("is {listen}, of this machine only"));
    }
    (listen.is_ipv4() && advertise.is_ipv6()).then(|| format!("is {listen}, of IPv4 only"))
}

impl Check {
    pub(super) fn cluster(
        &mut self,
        at: Option<Spanned<schema::Cluster>>,
    ) -> Option<ClusterSettings> {
        let at = at?;
        let span = at.span();
        let written = at.into_inner();
        let node = self.text_of(&written.node);
        self.node_name(&written.node, &node);
        let (store, elsewhere) = self.store(&written);
        let key = self.secret(&written.key);
        if (1..SHORTEST_KEY).contains(&key.reveal().len()) {
            let message = format!("cluster.key has fewer than {SHORTEST_KEY} characters");
            let help = "make one, the same for all nodes: `openssl rand -base64 32`";
            self.error(&written.key, "config::secret", message, help);
        }
        let listen = self.listen(written.listen.as_ref(), "cluster.listen");
        let listen = listen.unwrap_or(CLUSTER_LISTEN);
        let advertise = self.advertise(written.advertise.as_ref(), listen, span.clone())?;
        if advertise.ip().is_loopback() && elsewhere {
            let message = format!("the other nodes would try to reach this one at {advertise}");
            let help = "set cluster.advertise to an address they reach, such as \"192.0.2.1:5071\"";
            self.warn(span.clone(), "config::cluster", message, help);
        }
        if let Some(why) = unreachable(listen, advertise) {
            let message = format!("the other nodes are told {advertise}, and cluster.listen {why}");
            let help = "set cluster.listen to an address that they reach, \":5071\" for all of \
                        IPv4, or \"[::]:5071\"";
            self.warn(span, "config::cluster", message, help);
        }
        let address = self.floating(written.address.as_ref());
        Some(ClusterSettings { node, store, key, listen, advertise, address })
    }

    fn floating(&mut self, at: Option<&Spanned<String>>) -> Option<IpAddr> {
        let at = at?;
        let parsed = at.as_ref().parse().ok().filter(|ip: &IpAddr| !ip.is_unspecified());
        if parsed.is_none() {
            let message = format!("cluster.address = {:?} is not an IP address", at.as_ref());
            let help = "write the address that keepalived moves, without a port, such as \
                        \"192.0.2.10\"";
            self.error(at, "config::address", message, help);
        }
        parsed
    }

    fn node_name(&mut self, at: &Spanned<schema::SecretText>, name: &str) {
        let sound = (1..=LONGEST_NAME).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        if !sound {
            let message = format!("cluster.node = {name:?} is not a name of a node");
            let help = format!("use 1 to {LONGEST_NAME} letters, digits and - _ .");
            self.error(at, "config::name", message, help);
        }
    }

    fn advertise(
        &mut self,
        at: Option<&Spanned<schema::SecretText>>,
        listen: SocketAddr,
        cluster: std::ops::Range<usize>,
    ) -> Option<SocketAddr> {
        let help = "write the IP address and port at which the other nodes reach this one, such as \
                    \"192.0.2.1:5071\"";
        let Some(at) = at else {
            if listen.ip().is_unspecified() || listen.port() == 0 {
                let message = "cluster.advertise is missing, and cluster.listen names no address";
                let problem = crate::config::problem::ConfigProblem::at(
                    &self.source,
                    cluster,
                    "config::cluster",
                    message,
                );
                self.problems.push(problem.help(help));
                return None;
            }
            return Some(listen);
        };
        let text = self.text_of(at);
        let alone = || Some(SocketAddr::new(text.parse().ok()?, listen.port()));
        let parsed: Option<SocketAddr> = text.parse().ok().or_else(alone);
        let parsed = parsed.filter(|a| !a.ip().is_unspecified() && a.port() != 0);
        if parsed.is_none() {
            let message = format!("cluster.advertise = {text:?} is not an address");
            self.error(at, "config::address", message, help);
        }
        parsed
    }

    /// The store, and whether it is on another machine.
    fn store(&mut self, written: &schema::Cluster) -> (StoreSettings, bool) {
        let at = &written.store;
        let urls = at.as_ref().list().to_vec();
        let (mut elsewhere, mut plain) = (false, false);
        for text in &urls {
            let Some(url) = store_url(text) else {
                let message = format!("cluster.store = {text:?} is not a URL of a store");
                let help = "write \"redis://HOST:6379\", or \"rediss://HOST:6379\" for TLS";
                self.error(at, "config::cluster", message, help);
                continue;
            };
            elsewhere |= !is_loopback(url.host);
            plain |= !url.tls && !is_loopback(url.host);
            if url.credentials.is_some() {
                let help = "write cluster.username and cluster.password instead: a password of \
                            its own is never shown, and can come from a file";
                self.error(at, "config::cluster", "cluster.store holds a login", help);
            }
        }
        match (&written.sentinel, urls.len()) {
            (None, 0) | (Some(_), 0) => {
                let help = "write \"redis://HOST:6379\", or name the sentinels";
                self.error(at, "config::cluster", "cluster.store names no store", help);
            }
            (None, 2..) => {
                let help = "name one store, or with Sentinel set cluster.sentinel to the name of \
                            the primary; Redis Cluster is not supported";
                self.error(at, "config::cluster", "cluster.store names several stores", help);
            }
            _ => {}
        }
        let encrypted = |url: &&String| url.starts_with("rediss:");
        if urls.iter().any(|url| encrypted(&url)) && !urls.iter().all(|url| encrypted(&url)) {
            let help = "write redis:// or rediss:// for all of them: the primary is spoken to in \
                        the same way";
            let message = "some of cluster.store are with TLS, some without";
            self.error(at, "config::cluster", message, help);
        }
        if plain {
            let message = "the connection to the store is not encrypted";
            let help = "use rediss://, or a tunnel: the password and who is registered where can \
                        be read on the way";
            self.warn(at.span(), "config::cluster", message, help);
        }
        self.authority_of_store(written, &urls);
        let password = written.password.as_ref().map(|at| self.secret(at));
        let sentinel_password = written.sentinel_password.as_ref().map(|at| self.secret(at));
        if let (None, Some(at)) = (&written.sentinel, &written.sentinel_password) {
            let help = "set cluster.sentinel to the name of the primary, or remove it";
            let message = "cluster.sentinel_password is of no use without cluster.sentinel";
            self.warn(at.span(), "config::cluster", message, help);
        }
        let store = StoreSettings {
            urls,
            sentinel: written.sentinel.as_ref().map(|s| s.as_ref().clone()),
            sentinel_username: written.sentinel_username.as_ref().map(|u| u.as_ref().clone()),
            sentinel_password,
            username: written.username.as_ref().map(|u| u.as_ref().clone()),
            password,
            ca: written.ca.as_ref().map(|ca| self.folder.join(ca.as_ref())),
        };
        (store, elsewhere)
    }

    fn authority_of_store(&mut self, written: &schema::Cluster, urls: &[String]) {
        if let Some(ca) = &written.ca {
            let file = self.folder.join(ca.as_ref());
            if let Err(e) = std::fs::read(&file) {
                let message = format!("{} cannot be read: {e}", file.display());
                self.error(ca, "config::tls", message, "name a PEM file that this user may read");
            }
            self.authority(ca, ca.as_ref());
            if !urls.iter().any(|url| url.starts_with("rediss:")) {
                let help = "write rediss:// in cluster.store, or remove ca";
                let message = "cluster.ca is of no use without TLS";
                self.warn(ca.span(), "config::cluster", message, help);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_stores_are_taken_apart() {
        for (text, tls, credentials, host) in [
            ("redis://localhost", false, None, "localhost"),
            ("rediss://redis.example:6380/1", true, None, "redis.example"),
            ("redis://user:p@ss@10.0.0.1:6379", false, Some("user:p@ss"), "10.0.0.1"),
            ("redis://[::1]:6379", false, None, "::1"),
        ] {
            let url = store_url(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!((url.tls, url.credentials, url.host), (tls, credentials, host), "{text}");
        }
        for text in [
            "redis",
            "http://x",
            "redis://",
            "redis://x:port",
            "redis://x/y",
            "redis://a b",
            "redis://::1:6379",
            "redis://x:0",
            "redis://x:1:2",
        ] {
            assert!(store_url(text).is_none(), "{text}");
        }
    }
}
