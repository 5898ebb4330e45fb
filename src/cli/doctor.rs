//! `webtrunk doctor`: checks what usually goes wrong around a gateway; each finding has its
//! code and its fix.

use super::print;
use std::fmt::{self, Display, Formatter};
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, SystemTime};
use webtrunk::address::is_public;
use webtrunk::config::check::{WITHOUT_STATE, unusable};
use webtrunk::config::ports::ports_of;
use webtrunk::config::{ClusterSettings, Config, WebTls};
use webtrunk::private;
use webtrunk::store::{self, SurveyedNode, UnreadLease};
use webtrunk::transport::dns::{TrunkServers, servers_of};
use webtrunk::transport::stun;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Grade {
    Good,
    /// Harms a busy gateway, or some gateways; the exit code is that of success.
    Warning,
    Fault,
}

/// One finding of `doctor`.
#[derive(Debug)]
struct Finding {
    grade: Grade,
    /// What it is about; `doctor::ports` and such.
    code: &'static str,
    what: String,
    fix: String,
}

impl Display for Finding {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let word = match self.grade {
            Grade::Good => return write!(f, "  ok   {}", self.what),
            Grade::Warning => "warn",
            Grade::Fault => "FIX ",
        };
        write!(f, "  {word} {}  {}\n       {}", self.code, self.what, self.fix)
    }
}

fn fine(what: impl Into<String>) -> Finding {
    Finding { grade: Grade::Good, code: "", what: what.into(), fix: String::new() }
}

fn bad(code: &'static str, what: impl Into<String>, fix: impl Into<String>) -> Finding {
    Finding { grade: Grade::Fault, code, what: what.into(), fix: fix.into() }
}

fn odd(code: &'static str, what: impl Into<String>, fix: impl Into<String>) -> Finding {
    Finding { grade: Grade::Warning, ..bad(code, what, fix) }
}

/// Looks at everything around a gateway that usually goes wrong; `running` if one answers already,
/// whose ports are then in use by right.
pub(crate) async fn doctor(
    (file, config): (&Path, &Config),
    running: bool,
    stun: Option<&str>,
) -> ExitCode {
    let mut found = vec![addresses(config)];
    if let Some(server) = stun {
        found.extend(from_outside(config, server, running).await);
    }
    if running {
        found.push(fine("a gateway runs here, and its ports are its own"));
    } else {
        for (protocol, first, last, what) in ports_of(config) {
            // Those of trunks are many, and bound as calls need them.
            if (first, last) != config.media.ports {
                found.extend((first..=last).map(|p| bindable(config, protocol, p, what)));
            }
        }
    }
    found.push(outgoing_ports(&proc("net/ipv4/ip_local_port_range"), config.media.ports));
    found.push(receive_buffer(&proc("net/core/rmem_max")));
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    found.push(files(&limits));
    found.push(clock(synchronised().as_deref()));
    found.push(fine(format!("Opus: {}", webtrunk::codec::opus::library_version())));
    found.extend(certificates(config));
    for trunk in config.trunks.values() {
        found.push(resolve(trunk, config).await);
    }
    if let Some(settings) = &config.api.oidc {
        found.push(match webtrunk::api::oidc::probe(settings).await {
            Ok(()) => fine(format!("{} is an OpenID provider with usable keys", settings.issuer)),
            Err(why) => bad(
                "doctor::oidc",
                format!("nobody can log in at {}: {why}", settings.issuer),
                "correct api.oidc.issuer, or open the way to it; allow_private = true if it is \
                 within this network",
            ),
        });
    }
    if let Some(settings) = &config.cluster {
        found.extend(cluster(settings, config).await);
    }
    found.push(match config.cdr_file.as_ref().or(config.cdr_sqlite.as_ref()) {
        Some(path) => writable(path),
        None => bad(
            "doctor::records",
            "call records are not written",
            "set [events] cdr = { file = \"cdr.jsonl\" }",
        ),
    });
    found.extend(config.state_dir.as_deref().map(state));
    found.extend(secrets(file, config.secret_files.iter().map(PathBuf::as_path)));
    for finding in &found {
        print::line(&finding.to_string());
    }
    if found.iter().all(|f| f.grade != Grade::Fault) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// The store, and the nodes that have a lease there.
async fn cluster(settings: &ClusterSettings, config: &Config) -> Vec<Finding> {
    let survey = match store::survey(settings, &config.domain).await {
        Ok(survey) => survey,
        Err(why) => {
            let fix = "start it, open its port, correct cluster.store, username and password";
            return vec![bad("doctor::store", format!("the cluster's store: {why}"), fix)];
        }
    };
    let mut found = vec![match survey.skew {
        0..=2 => fine("the cluster's store answers, and its clock is this machine's"),
        skew => bad(
            "doctor::clock",
            format!("this machine's clock is {skew} s from the store's"),
            "run NTP on both: `timedatectl set-ntp true`",
        ),
    }];
    found.extend(survey.refuses.map(|why| {
        bad(
            "doctor::store",
            format!("the cluster's store refuses what a node writes: {why}"),
            "name the primary and no replica, give it memory (maxmemory), and let its user run \
             +@read +@write +@scripting +@connection +time +info on ~webtrunk:*",
        )
    }));
    found.extend(survey.writes_alone.then(|| {
        odd(
            "doctor::store",
            "the store's primary takes writes while no replica hears of them: one that is cut off \
             from Sentinel goes on beside the next",
            "set min-replicas-to-write 1 and min-replicas-max-lag 2 on it and its replicas",
        )
    }));
    found.extend(survey.nodes.iter().map(|node| surveyed(settings, config.common, node)));
    found
}

fn surveyed(settings: &ClusterSettings, common: u64, node: &SurveyedNode) -> Finding {
    let code = "doctor::cluster";
    let name = &node.name;
    let member = match &node.lease {
        Ok(member) => member,
        Err(UnreadLease::OtherKey) => {
            let fix = "set the same cluster.key on all nodes";
            return bad(code, format!("node {name} has another key"), fix);
        }
        Err(UnreadLease::Newer) => {
            let what = format!("node {name} is of a version that this one does not understand");
            return bad(code, what, "update this gateway too");
        }
    };
    let (at, version) = (&member.advertise, &member.version);
    if *name == settings.node && *at != settings.advertise {
        let fix = "give each node a name of its own: cluster.node";
        return bad(code, format!("another machine, at {at}, is node {name} too"), fix);
    }
    if let Some(why) = &node.unreachable {
        let fix = "open its cluster.listen port to this machine, and correct its cluster.advertise";
        return bad(code, format!("node {name} cannot be reached at {at}: {why}"), fix);
    }
    if version != env!("CARGO_PKG_VERSION") {
        let fix = "two versions work side by side while they are updated; update the rest";
        return bad(code, format!("node {name} runs version {version}"), fix);
    }
    if member.differs(common) {
        let fix = "users, trunks, limits and dialplans are to be the same on all nodes: copy the \
                   files, then `webtrunk reload` there, or here if this file was not read yet";
        return bad(code, format!("node {name} has another configuration than this file"), fix);
    }
    fine(format!("node {name} is reached at {at}"))
}

fn listed(ips: &[IpAddr]) -> String {
    ips.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn addresses(config: &Config) -> Finding {
    let ips = &config.public_ips;
    let own = ips.iter().any(|ip| UdpSocket::bind(SocketAddr::new(*ip, 0)).is_ok());
    offered(ips, own)
}

/// Where media is offered; `own`: at an address of this machine.
fn offered(ips: &[IpAddr], own: bool) -> Finding {
    let code = "doctor::address";
    let list = listed(ips);
    if ips.iter().all(IpAddr::is_loopback) {
        return odd(
            code,
            format!("media is offered at {list}: programs of this machine only have sound"),
            "set server.public_ip to the address at which people reach this machine",
        );
    }
    match (ips.iter().any(|ip| is_public(*ip)), own) {
        (true, true) => fine(format!("media is offered at {list}, an address of this machine")),
        (true, false) => fine(format!(
            "media is offered at {list}; this machine is behind 1:1 NAT, which must forward the \
                UDP ports of `webtrunk ports`"
        )),
        (false, true) => odd(
            code,
            format!(
                "media is offered at {list}, a private address: right for people and trunks of \
                 that network, and out of reach for all others"
            ),
            "if some are elsewhere, set server.public_ip to the address at which they reach this \
                machine",
        ),
        (false, false) => odd(
            code,
            format!("media is offered at {list}, a private address that this machine has not"),
            "set server.public_ip to one of `ip address`, or forward the UDP ports of `webtrunk \
                ports` from there",
        ),
    }
}

/// What a STUN server sees of us: our address, whether UDP comes back, and whether a NAT keeps port
/// numbers.
async fn from_outside(config: &Config, server: &str, running: bool) -> Vec<Finding> {
    // A gateway that runs has the port; another is as good for the address.
    let port = if running { 0 } else { config.media.browser_port };
    let (seen, asked_from) = match stun::seen_from(server, port).await {
        Ok(found) => found,
        Err(e) => {
            return vec![bad(
                "doctor::nat",
                format!("{e:#}"),
                "allow UDP out, and its answers in: media needs it",
            )];
        }
    };
    let address = seen_at(server, seen.ip(), &config.public_ips);
    let port = if seen.port() == asked_from {
        fine(format!("a NAT, if there is one, keeps UDP port {asked_from}"))
    } else {
        bad(
            "doctor::nat",
            format!("UDP port {asked_from} is seen as {}: a NAT changes port numbers", seen.port()),
            "forward the UDP ports of `webtrunk ports` one to one to this machine",
        )
    };
    vec![address, port]
}

/// Whether `ours`, which browsers are offered, is the address at which `server` sees us.
fn seen_at(server: &str, seen: IpAddr, ours: &[IpAddr]) -> Finding {
    if ours.contains(&seen) {
        return fine(format!("{server} sees this machine at {seen}, as public_ip says"));
    }
    let what = format!("{server} sees this machine at {seen}, but browsers are offered ");
    if ours.iter().any(|ip| is_public(*ip)) {
        let fix = format!("set server.public_ip = \"{seen}\"");
        return bad("doctor::nat", what + &listed(ours), fix);
    }
    let fix = format!(
        "if some come from there, set server.public_ip = \"{seen}\", and public_ip of the trunks \
         that are near"
    );
    odd("doctor::nat", format!("{what}{}, of their own network", listed(ours)), fix)
}

fn bindable(config: &Config, protocol: &str, port: u16, what: &str) -> Finding {
    let any = IpAddr::from([0, 0, 0, 0]);
    let ip = match what {
        page if page.starts_with("page") => config.web_listen.ip(),
        media if media.starts_with("media") => config.media.bind.unwrap_or(any),
        _ => any,
    };
    let at = SocketAddr::new(ip, port);
    let result = if protocol == "udp" {
        UdpSocket::bind(at).map(drop)
    } else {
        TcpListener::bind(at).map(drop)
    };
    match result {
        Ok(()) => fine(format!(
            "{protocol} {port} is free ({what}); a firewall opens it by `ufw allow \
                {port}/{protocol}`"
        )),
        Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => bad(
            "doctor::port",
            format!("{protocol} {port} may not be bound ({what}): {e}"),
            "run it from systemd with AmbientCapabilities=CAP_NET_BIND_SERVICE, or choose a port \
                from 1024 up",
        ),
        Err(e) => bad(
            "doctor::port",
            format!("{protocol} {port} cannot be bound ({what}): {e}"),
            format!("find the program that uses it: ss -lp 'sport = :{port}'"),
        ),
    }
}

/// A setting of the kernel; empty if it has none.
fn proc(name: &str) -> String {
    std::fs::read_to_string(format!("/proc/sys/{name}")).unwrap_or_default()
}

/// The system takes ports for connections of its own: one of ours among them may be taken.
fn outgoing_ports(range: &str, (first, last): (u16, u16)) -> Finding {
    let mut bounds = range.split_whitespace().filter_map(|n| n.parse::<u16>().ok());
    match (bounds.next(), bounds.next()) {
        (Some(low), Some(high)) if low <= last && first <= high => odd(
            "doctor::outgoing_ports",
            format!("the system gives connections ports {low}-{high}, some of media.ports"),
            format!("sysctl -w net.ipv4.ip_local_reserved_ports={first}-{last}"),
        ),
        _ => fine(format!("media.ports {first}-{last} are not given to other connections")),
    }
}

/// The kernel's bound on what a worker may let wait while it does not run.
fn receive_buffer(rmem_max: &str) -> Finding {
    let wanted = webtrunk::worker::RECEIVE_BUFFER;
    match rmem_max.trim().parse::<usize>() {
        Ok(most) if most < wanted => odd(
            "doctor::rmem_max",
            format!(
                "net.core.rmem_max is {most} bytes: a busy moment loses media of browsers, for \
                 whose port {wanted} are asked"
            ),
            format!("sysctl -w net.core.rmem_max={wanted}, and the same line in /etc/sysctl.d"),
        ),
        Ok(most) => fine(format!("net.core.rmem_max is {most}, enough for the workers")),
        Err(_) => fine("net.core.rmem_max is unknown on this system"),
    }
}

fn files(limits: &str) -> Finding {
    let soft = limits
        .lines()
        .find(|l| l.starts_with("Max open files"))
        .and_then(|l| l.split_whitespace().nth(3)?.parse::<u64>().ok());
    match soft {
        Some(n) if n < 16_384 => bad(
            "doctor::files",
            format!("{n} open files are allowed; each call needs two, each browser one"),
            "LimitNOFILE=1048576 in the systemd unit, or `ulimit -n 1048576`",
        ),
        Some(n) => fine(format!("{n} open files are allowed")),
        None => fine("the limit of open files is unknown on this system"),
    }
}

/// What timedatectl says of the clock.
fn synchronised() -> Option<String> {
    let arguments = ["show", "-p", "NTPSynchronized", "--value"];
    let said = Command::new("timedatectl").args(arguments).output().ok()?;
    Some(String::from_utf8_lossy(&said.stdout).trim().to_owned())
}

fn clock(synchronised: Option<&str>) -> Finding {
    match synchronised {
        Some("yes") => fine("the clock is synchronised"),
        Some("no") => bad(
            "doctor::clock",
            "the clock is not synchronised: short-lived credentials will be refused",
            "timedatectl set-ntp true",
        ),
        _ if SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO)
            < Duration::from_secs(1_750_000_000) =>
        {
            bad(
                "doctor::clock",
                "the clock is in the past",
                "set it; short-lived credentials need it",
            )
        }
        _ => fine("whether the clock is synchronised is unknown (no timedatectl)"),
    }
}

/// The certificates browsers and trunks are shown. That key and certificate fit and are valid now
/// was checked with the configuration.
fn certificates(config: &Config) -> Vec<Finding> {
    let mut files = Vec::new();
    match (&config.web_tls, &config.state_dir) {
        (WebTls::Files { cert, .. }, _) => files.push(("web.tls", cert.clone())),
        (WebTls::Acme(settings), Some(state)) => {
            files.push(("web.tls", webtrunk::transport::acme::kept_at(settings, state)));
        }
        (WebTls::Off | WebTls::Local(_) | WebTls::Acme(_), _) => {}
    }
    files
        .extend(config.sip.certificate.as_ref().map(|(cert, _)| ("sip.certificate", cert.clone())));
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let mut found = Vec::new();
    for (key, path) in files {
        let ends = webtrunk::transport::tls::file_ends(&path);
        found.push(certificate(key, &path, ends.map(|until| until - now.as_secs() as i64)));
        let names = webtrunk::config::check::certificates::names_in(&path);
        found.push(names_of(key, &names, config));
    }
    found
}

/// `left`: seconds until it ends.
fn certificate(key: &str, path: &Path, left: Option<i64>) -> Finding {
    let code = "doctor::certificate";
    match left.map(|left| left.div_euclid(86_400)) {
        None => bad(
            code,
            format!("{key}: {} is not a certificate that can be read", path.display()),
            "give a PEM file",
        ),
        Some(days) if days < 0 => bad(
            code,
            format!("{key}: the certificate expired {} days ago", -days),
            "renew it and reload",
        ),
        Some(days) if days < 14 => bad(
            code,
            format!("{key}: the certificate expires in {days} days"),
            "renew it and restart",
        ),
        Some(days) => fine(format!("{key}: the certificate is valid for {days} days")),
    }
}

/// Whether the certificate is for this gateway, by its domain or an address it is reached at.
fn names_of(key: &str, names: &[String], config: &Config) -> Finding {
    let ours = config.public_ips.iter().map(ToString::to_string);
    let mut ours = std::iter::once(config.domain.clone()).chain(ours);
    let fits = |host: String| {
        names.iter().any(|n| webtrunk::config::check::certificates::is_named(n, &host))
    };
    if ours.any(fits) {
        fine(format!("{key}: the certificate names {}", config.domain))
    } else {
        bad(
            "doctor::certificate",
            format!(
                "{key}: the certificate is for {}, not for {}",
                names.join(", "),
                config.domain
            ),
            format!("get one for {}: browsers and trunks refuse this one", config.domain),
        )
    }
}

async fn resolve(trunk: &webtrunk::config::Trunk, config: &Config) -> Finding {
    let Some(uri) = &trunk.uri else {
        return fine(format!("trunk {} registers here, so its address is known then", trunk.name));
    };
    if uri.host.parse::<IpAddr>().is_ok() {
        return fine(format!("trunk {} is at {}", trunk.name, uri.address()));
    }
    let ipv6 = config.udp.is_some_and(|at| at.is_ipv6());
    match servers_of(trunk, ipv6).await {
        Some(found) => servers(&trunk.name, &uri.host, &found),
        None => fine(format!("trunk {} registers here", trunk.name)),
    }
}

/// What DNS says of a trunk's host.
fn servers(name: &str, host: &str, found: &TrunkServers) -> Finding {
    let code = "doctor::dns";
    match found {
        TrunkServers::Found(hops) => {
            let at: Vec<_> =
                hops.iter().filter_map(|h| h.address()).map(|a| a.to_string()).collect();
            fine(format!("trunk {name}: {host} is {}", at.join(", then ")))
        }
        TrunkServers::Nothing(why) => bad(
            code,
            format!("trunk {name}: {why}"),
            format!("correct its uri, or let DNS have SRV records or an address of {host}"),
        ),
        TrunkServers::NoAnswer(why) => bad(
            code,
            format!("trunk {name}: {why}"),
            "name a DNS server that answers in /etc/resolv.conf, and let UDP and TCP port 53 out",
        ),
    }
}

fn state(path: &Path) -> Finding {
    match unusable(path) {
        None => fine(format!("what outlives a restart is kept in {}", path.display())),
        Some(why) => bad(
            "doctor::state",
            format!("{why}: {WITHOUT_STATE}"),
            "let the user the gateway runs as write there, or set server.state_dir",
        ),
    }
}

/// The configuration, and files of secrets, are for their owner and its group. `file`: the
/// configuration.
fn secrets<'a>(file: &'a Path, own: impl Iterator<Item = &'a Path>) -> Vec<Finding> {
    let is_open = |path: &&Path| {
        std::fs::metadata(path).is_ok_and(|found| found.permissions().mode() & 0o007 != 0)
    };
    let open: Vec<_> = std::iter::once(file).chain(own).filter(is_open).collect();
    let of = |path: &&Path| {
        odd(
            "doctor::secrets",
            format!("every user of this machine may read {}", path.display()),
            format!(
                "chmod o= {}, and let the gateway's user own it or be of its group",
                path.display()
            ),
        )
    };
    match open.as_slice() {
        [] => vec![fine("the configuration and its secrets are closed to other users")],
        open => open.iter().map(of).collect(),
    }
}

fn writable(path: &Path) -> Finding {
    match private::append(path) {
        Ok(_) => fine(format!("call records go to {}", path.display())),
        Err(e) => bad(
            "doctor::records",
            format!("call records cannot go to {}: {e}", path.display()),
            "create its folder, and allow this user to write there",
        ),
    }
}

#[cfg(test)]
mod tests;
