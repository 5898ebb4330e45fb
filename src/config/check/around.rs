//! What `serve`, or the first call, would stumble over: names, ports, folders, numbers.

use super::Check;
use super::cluster::CLUSTER_LISTEN;
use crate::config::problem::ConfigProblem;
use crate::config::schema::{self, Spanned};
use ipnet::IpNet;
use nix::unistd::{AccessFlags, eaccess};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// What is lost without a state directory.
pub const WITHOUT_STATE: &str = "a restart ends active calls, and call records that could not be \
                                 written yet are lost with the process";

/// Why nothing could be kept in a directory, without making anything; `None` if it can.
pub fn unusable(path: &Path) -> Option<String> {
    let (folder, is_there) = match path.metadata() {
        Ok(found) if found.is_dir() => (path, true),
        Ok(_) => return Some(format!("{} is not a folder", path.display())),
        Err(_) => (path.parent().unwrap_or(Path::new("/")), false),
    };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    // Only the system knows: owners, groups, lists and mounts decide.
    let why = eaccess(folder, AccessFlags::W_OK | AccessFlags::X_OK).err()?;
    let what = if is_there { "written" } else { "made" };
    Some(format!("{} cannot be {what}: {}", path.display(), why.desc()))
}

/// A place where the gateway listens.
struct NamedListener {
    key: &'static str,
    /// UDP, or TCP.
    udp: bool,
    ip: IpAddr,
    ports: (u16, u16),
    at: Option<Range<usize>>,
}

/// The name of a host, or an address as it stands in a URI.
pub fn is_domain(text: &str) -> bool {
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let ipv6 = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
    ipv6.is_some_and(|t| t.parse::<std::net::Ipv6Addr>().is_ok())
        || (!text.is_empty() && text.len() <= 253 && text.chars().all(is_name))
}

/// The port after a host, if there is one.
///
/// # Errors
/// What stands there is none.
fn port_of(host: &str) -> Result<Option<u16>, ()> {
    let after = host.rsplit_once(']').map_or(host, |(_, after)| after);
    let Some((_, port)) = after.split_once(':') else { return Ok(None) };
    port.parse().ok().filter(|port| *port > 0).map(Some).ok_or(())
}

/// Where a listener is: without an address before the port, at all of IPv4.
pub(super) fn listener_address(text: &str) -> Option<SocketAddr> {
    let full = if text.starts_with(':') { format!("0.0.0.0{text}") } else { text.to_owned() };
    full.parse().ok()
}

impl NamedListener {
    fn clashes(&self, other: &NamedListener) -> bool {
        let both = self.ip == other.ip || self.ip.is_unspecified() || other.ip.is_unspecified();
        self.udp == other.udp
            && both
            && self.ports.0 <= other.ports.1
            && other.ports.0 <= self.ports.1
    }
}

impl Check {
    /// Looks at the file as written, before it is taken apart.
    pub(super) fn around(&mut self, f: &schema::File) {
        if let Some(at) = &f.server.domain {
            self.domain(at);
        }
        f.web.origins.iter().for_each(|at| self.origin(at));
        if let Some(at) = &f.web.public_url {
            self.public_url(at);
        }
        self.listeners(f);
        self.numbers_of_users(f);
        self.allow_lists(f);
        if let Some(cdr) = &f.events.cdr {
            for file in [&cdr.get_ref().file, &cdr.get_ref().sqlite].into_iter().flatten() {
                self.writable(cdr, "events.cdr", &self.folder.join(file));
            }
        }
        self.all_certificates(f);
        self.values(f);
    }

    pub(super) fn warn(
        &mut self,
        at: Range<usize>,
        code: &'static str,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        let problem = ConfigProblem::at(&self.source, at, code, message);
        self.problems.push(problem.help(help).warning());
    }

    /// The state directory. One that cannot be used costs what it would keep, and no start.
    pub(super) fn state_dir(&mut self, at: Option<&Spanned<String>>) -> Option<PathBuf> {
        if at.is_none() && self.embedded.is_some() {
            return None;
        }
        let path = self.folder.join(at.map_or("state", |at| at.as_ref()));
        if let Some(why) = unusable(&path) {
            let message = format!("server.state_dir: {why}; {WITHOUT_STATE}");
            let help = "let the user the gateway runs as write there, or name another folder";
            let problem = match at {
                Some(at) => {
                    ConfigProblem::at(&self.source, at.span(), "config::state_dir", message)
                }
                None => ConfigProblem::plain("config::state_dir", message),
            };
            self.problems.push(problem.help(help).warning());
        }
        Some(path)
    }

    fn domain(&mut self, at: &Spanned<String>) {
        let text = at.as_ref();
        if !is_domain(text) {
            let message = format!("server.domain = {text:?} is not a domain");
            let help = "write the name alone, such as \"calls.example.com\": no scheme, no port, \
                        no path";
            self.error(at, "config::domain", message, help);
        }
    }

    /// Browsers send `scheme://host[:port]`, and it is compared letter for letter.
    fn origin(&mut self, at: &Spanned<String>) {
        let text = at.as_ref();
        let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        let why = match host {
            None => "has no scheme",
            Some("") => "names no host",
            Some(host) if host.contains(['/', '?', '#']) => "has a slash or a path after the host",
            Some(host) if host.contains(['*', '@', ' ']) => "has a character no origin has",
            Some(host) if host.chars().any(|c| c.is_ascii_uppercase()) => "has capital letters",
            Some(host) if !host.is_ascii() => "has letters that are written as xn--… there",
            Some(host) => match port_of(host) {
                Ok(None) => return,
                Ok(Some(443)) if text.starts_with("https:") => "names the port that https has",
                Ok(Some(80)) if text.starts_with("http:") => "names the port that http has",
                Ok(Some(_)) => return,
                Err(()) => "has a port that is none",
            },
        };
        let message = format!("the origin {text:?} {why}: no browser sends it so");
        let help = "write scheme, host and port only, such as \"https://shop.example.com\"";
        self.error(at, "config::origin", message, help);
    }

    fn public_url(&mut self, at: &Spanned<String>) {
        let text = at.as_ref();
        let url: Option<hyper::Uri> = text.parse().ok();
        let sound = url.is_some_and(|url| {
            matches!(url.scheme_str(), Some("http" | "https"))
                && url.host().is_some_and(|host| !host.is_empty())
                && url.query().is_none()
                && url.authority().is_some_and(|at| port_of(at.as_str()).is_ok())
                && !url.path().contains("//")
                && !url.path().split('/').any(|part| matches!(part, "." | ".."))
        });
        if !sound || text.contains(['@', '#', '*']) {
            let message = format!("web.public_url = {text:?} is not where a page can be");
            let help = "write it as browsers do, such as \"https://calls.example.com\"";
            self.error(at, "config::public_url", message, help);
        }
    }

    fn listener(
        &self,
        key: &'static str,
        udp: bool,
        at: Option<&Spanned<String>>,
    ) -> Option<NamedListener> {
        self.listener_of(key, udp, at?.as_ref(), at?.span())
    }

    fn listener_of(
        &self,
        key: &'static str,
        udp: bool,
        text: &str,
        span: Range<usize>,
    ) -> Option<NamedListener> {
        let address = listener_address(text)?;
        let ports = (address.port(), address.port());
        (address.port() > 0).then(|| NamedListener {
            key,
            udp,
            ip: address.ip(),
            ports,
            at: Some(span),
        })
    }

    /// No two of them want the same port of the same address.
    fn listeners(&mut self, f: &schema::File) {
        let any = IpAddr::from([0, 0, 0, 0]);
        let web_default = NamedListener {
            key: "web.listen",
            udp: false,
            ip: any,
            ports: (8_088, 8_088),
            at: None,
        };
        let media = |key, udp, ports, at| NamedListener { key, udp, ip: any, ports, at };
        let browser = f.media.browser_port.as_ref().map_or(8_088, |at| *at.as_ref());
        let workers = f.media.workers.as_ref().map_or(1, |at| *at.as_ref()).clamp(1, 64);
        let last = browser.saturating_add(workers as u16 - 1);
        if let Some(at) = &f.media.browser_port
            && usize::from(browser) + workers - 1 > usize::from(u16::MAX)
        {
            let message = format!("{workers} workers from port {browser} on need more ports");
            let help = format!("set media.browser_port = {}", 65_536 - workers);
            self.error(at, "config::range", message, help);
        }
        let range = f.media.ports.as_ref().map_or(Some((20_000, 29_999)), |at| {
            let (a, b) = at.as_ref().split_once('-')?;
            Some((a.trim().parse().ok()?, b.trim().parse().ok()?))
        });
        let web = match &f.web.listen {
            Some(at) => self.listener("web.listen", false, Some(at)),
            None => Some(web_default),
        };
        // The page's port and the browsers' media over TCP share one if they are the same.
        let over_tcp =
            f.media.ice_tcp.unwrap_or(true) && web.as_ref().is_none_or(|w| w.ports.0 != browser);
        let all: Vec<NamedListener> = [
            self.listener("sip.udp", true, f.sip.udp.as_ref()),
            self.listener("sip.tcp", false, f.sip.tcp.as_ref()),
            self.listener("sip.tls", false, f.sip.tls.as_ref()),
            web,
            self.listener("metrics.listen", false, f.metrics.listen.as_ref()),
            self.cluster_listener(f),
            f.web.tls.as_ref().and_then(|tls| match tls.as_ref() {
                schema::Tls::Acme { acme } => {
                    self.listener_of("web.tls.acme.http", false, acme.http.as_ref()?, tls.span())
                }
                schema::Tls::Word(_) | schema::Tls::Files { .. } => None,
            }),
            (browser > 0).then(|| media("media.browser_port", true, (browser, last), None)),
            (browser > 0 && over_tcp)
                .then(|| media("media.browser_port (ICE over TCP)", false, (browser, last), None)),
            range.map(|ports| {
                media("media.ports", true, ports, f.media.ports.as_ref().map(Spanned::span))
            }),
        ]
        .into_iter()
        .flatten()
        .collect();
        for (n, one) in all.iter().enumerate() {
            self.own_address(one);
            for other in all[n + 1..].iter().filter(|o| one.clashes(o)) {
                self.clash(one, other);
            }
        }
    }

    /// Where the other nodes of a cluster connect.
    fn cluster_listener(&mut self, f: &schema::File) -> Option<NamedListener> {
        let at = f.cluster.as_ref()?.get_ref().listen.as_ref();
        let any = |at: SocketAddr| NamedListener {
            key: "cluster.listen",
            udp: false,
            ip: at.ip(),
            ports: (at.port(), at.port()),
            at: None,
        };
        match at {
            Some(at) => self.listener("cluster.listen", false, Some(at)),
            None => Some(any(CLUSTER_LISTEN)),
        }
    }

    fn clash(&mut self, one: &NamedListener, other: &NamedListener) {
        let port = one.ports.0.max(other.ports.0);
        let protocol = if one.udp { "UDP" } else { "TCP" };
        let message = format!("{} and {} both want {protocol} port {port}", one.key, other.key);
        let help = format!("give {} another port", other.key);
        let at = other.at.clone().or_else(|| one.at.clone());
        self.problems.push(match at {
            Some(at) => ConfigProblem::at(&self.source, at, "config::port", message).help(help),
            None => ConfigProblem::plain("config::port", message).help(help),
        });
    }

    fn own_address(&mut self, listener: &NamedListener) {
        let Some(at) = listener.at.clone().filter(|_| !listener.ip.is_unspecified()) else {
            return;
        };
        if UdpSocket::bind(SocketAddr::new(listener.ip, 0)).is_err() {
            let message = format!("{} is not an address of this machine now", listener.ip);
            let help = format!("{} can listen on \":PORT\", which is every address", listener.key);
            self.warn(at, "config::address", message, help);
        }
    }

    /// A number reaches one user, and is written as calls to it come.
    fn numbers_of_users(&mut self, f: &schema::File) {
        let mut owners: BTreeMap<&str, (&str, Range<usize>)> = BTreeMap::new();
        for (name, user) in &f.user {
            for at in user.get_ref().did.iter().chain(&user.get_ref().numbers) {
                let number = at.as_ref().as_str();
                self.number(name, at);
                match owners.get(number) {
                    Some((owner, place)) if *owner != name.as_str() => {
                        let message = format!("{number} belongs to {owner} and to {name}");
                        let problem =
                            ConfigProblem::at(&self.source, at.span(), "config::did", message)
                                .also(place.clone(), format!("{owner} has it"));
                        self.problems.push(
                            problem.help("a number reaches one user: take it from one of the two"),
                        );
                    }
                    Some(_) => {}
                    None => drop(owners.insert(number, (name, at.span()))),
                }
            }
        }
    }

    fn number(&mut self, user: &str, at: &Spanned<String>) {
        let text = at.as_ref();
        let digits = text.strip_prefix('+').unwrap_or(text);
        let help = "write it as E.164: + and country code, such as \"+12065550123\"";
        if digits.is_empty() || !digits.chars().all(|c| c.is_ascii_digit()) {
            let message = format!("{text:?} of user {user} is not a telephone number");
            self.error(at, "config::did", message, help);
        } else if !text.starts_with('+')
            || digits.starts_with('0')
            || !(7..=15).contains(&digits.len())
        {
            let message =
                format!("{text:?} of user {user} is not E.164: calls to +{digits} do not reach it");
            self.warn(at.span(), "config::did", message, help);
        }
    }

    /// A call from an address that two trunks name is taken for the first one's.
    fn allow_lists(&mut self, f: &schema::File) {
        let mut nets: Vec<(IpNet, &str, Range<usize>)> = Vec::new();
        for (name, trunk) in &f.trunk {
            nets.extend(trunk.get_ref().allow.iter().filter_map(|at| {
                let text = at.as_ref();
                let net = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).ok()?;
                Some((net, name.as_str(), at.span()))
            }));
        }
        // Sorted, a network comes right after one that contains it, or after others that do.
        nets.sort_by_key(|(net, ..)| (net.network(), net.prefix_len()));
        let mut widest: Option<(IpNet, String, Range<usize>)> = None;
        for (net, name, at) in nets {
            match &widest {
                Some((wide, owner, place)) if wide.contains(&net) => {
                    if owner.as_str() != name {
                        let message = format!(
                            "calls from {net} may be trunk {owner}'s or trunk {name}'s: both \
                                allow it"
                        );
                        let problem = ConfigProblem::at(&self.source, at, "config::allow", message)
                            .also(place.clone(), format!("{owner} allows it here"))
                            .help("give each trunk addresses of its own")
                            .warning();
                        self.problems.push(problem);
                    }
                }
                _ => widest = Some((net, name.to_owned(), at)),
            }
        }
    }

    /// A file is there and may be written, or its folder is there.
    pub(super) fn writable<T>(&mut self, at: &Spanned<T>, key: &str, path: &Path) {
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let why = if path.exists() {
            std::fs::OpenOptions::new().append(true).open(path).err().map(|e| e.to_string())
        } else {
            match std::fs::metadata(folder) {
                Err(e) => Some(format!("{}: {e}", folder.display())),
                Ok(found) if !found.is_dir() => {
                    Some(format!("{} is not a folder", folder.display()))
                }
                // What this user may, whatever the mode says.
                Ok(_) => nix::unistd::access(folder, AccessFlags::W_OK | AccessFlags::X_OK)
                    .err()
                    .map(|e| format!("{}: {}", folder.display(), e.desc())),
            }
        };
        if let Some(why) = why {
            let message = format!("{key}: {} cannot be written: {why}", path.display());
            let help = "make the folder, and let the user the gateway runs as write in it";
            self.error(at, "config::folder", message, help);
        }
    }
}
