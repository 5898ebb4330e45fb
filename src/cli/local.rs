//! Commands that need no running gateway: ports, doctor, tokens, words for codes.

use super::{hex, print, random};
use serde_json::json;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, SystemTime};
use webtrunk::address::is_public;
use webtrunk::api::schemas::{NAMES, named};
use webtrunk::config::check::{WITHOUT_STATE, unusable};
use webtrunk::config::{Config, WebTls};
use webtrunk::errors::Code;
use webtrunk::transport::stun;

/// A port a firewall must let in: protocol, first, last, what for.
fn ports_of(config: &Config) -> Vec<(&'static str, u16, u16, &'static str)> {
    let mut ports = vec![(
        "tcp",
        config.web_listen.port(),
        config.web_listen.port(),
        "page, API and SIP over WebSocket",
    )];
    let (first, workers) = (config.media.browser_port, config.media.workers as u16);
    if first != 0 {
        ports.push(("udp", first, first + workers.max(1) - 1, "media of browsers"));
        let own = if first == config.web_listen.port() { first + 1 } else { first };
        if config.media.ice_tcp && own < first + workers.max(1) {
            ports.push(("tcp", own, first + workers.max(1) - 1, "media of browsers without UDP"));
        }
    }
    ports.push(("udp", config.media.ports.0, config.media.ports.1, "media of trunks"));
    ports.extend(config.udp.map(|a| ("udp", a.port(), a.port(), "SIP")));
    ports.extend(config.tcp.map(|a| ("tcp", a.port(), a.port(), "SIP")));
    ports.extend(config.sip.tls.map(|a| ("tcp", a.port(), a.port(), "SIP over TLS")));
    ports
}

#[derive(clap::Args)]
#[group(id = "ports-format")]
pub(crate) struct Ports {
    /// Print commands for ufw
    #[arg(long)]
    ufw: bool,
    /// Print rules for nftables
    #[arg(long, conflicts_with = "ufw")]
    nft: bool,
    #[arg(long, short, value_enum, default_value_t)]
    output: print::Output,
}

pub(crate) fn ports(config: &Config, args: &Ports) -> ExitCode {
    let range = |a: u16, b: u16, between: &str| {
        if a == b { a.to_string() } else { format!("{a}{between}{b}") }
    };
    let all = ports_of(config);
    if !args.ufw && !args.nft {
        let items = all.into_iter().map(|(protocol, first, last, what)| json!({ "protocol": protocol, "ports": range(first, last, "-"), "for": what })).collect();
        print::list(
            &items,
            args.output,
            &[
                ("protocol", |i| print::text(i, "protocol")),
                ("ports", |i| print::text(i, "ports")),
                ("for", |i| print::text(i, "for")),
            ],
            "",
        );
        return ExitCode::SUCCESS;
    }
    if args.nft {
        // What is there already stays; before its rules, lest one of them refuse everything.
        print::line("add table inet filter\nadd chain inet filter input");
    }
    for (protocol, first, last, what) in all {
        print::line(&if args.ufw {
            format!("ufw allow {}/{protocol} comment 'webtrunk: {what}'", range(first, last, ":"))
        } else {
            format!(
                "insert rule inet filter input {protocol} dport {} accept comment \"webtrunk: {what}\"",
                range(first, last, "-")
            )
        });
    }
    ExitCode::SUCCESS
}

/// One finding of `doctor`.
struct Finding {
    good: bool,
    what: String,
    fix: String,
}

fn fine(what: impl Into<String>) -> Finding {
    Finding { good: true, what: what.into(), fix: String::new() }
}

fn bad(what: impl Into<String>, fix: impl Into<String>) -> Finding {
    Finding { good: false, what: what.into(), fix: fix.into() }
}

/// Looks at everything around a gateway that usually goes wrong; `running` where one answers
/// already, so that its ports are its own.
pub(crate) async fn doctor(config: &Config, running: bool, stun: Option<&str>) -> ExitCode {
    let mut found = vec![addresses(config)];
    if let Some(server) = stun {
        found.extend(from_outside(config, server, running).await);
    }
    if running {
        found.push(fine("a gateway runs here, and its ports are its own"));
    } else {
        found.extend(
            ports_of(config)
                .into_iter()
                .filter(|p| p.1 == p.2)
                .map(|(protocol, port, _, what)| bindable(config, protocol, port, what)),
        );
    }
    found.push(files());
    found.push(clock());
    found.push(fine(format!("Opus: {}", webtrunk::codec::opus::library_version())));
    found.extend(certificates(config));
    for trunk in config.trunks.values() {
        found.push(resolve(trunk).await);
    }
    found.push(match config.cdr_file.as_ref().or(config.cdr_sqlite.as_ref()) {
        Some(path) => writable(path),
        None => bad("call records are not written", "set [events] cdr = { file = \"cdr.jsonl\" }"),
    });
    found.extend(config.state_dir.as_deref().map(state));
    for finding in &found {
        print::line(&if finding.good {
            format!("  ok   {}", finding.what)
        } else {
            format!("  FIX  {}\n       {}", finding.what, finding.fix)
        });
    }
    if found.iter().all(|f| f.good) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn addresses(config: &Config) -> Finding {
    let list = config.public_ips.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let own = config.public_ips.iter().any(|ip| UdpSocket::bind(SocketAddr::new(*ip, 0)).is_ok());
    let private = !config.public_ips.iter().any(|ip| is_public(*ip));
    match (private, own) {
        (true, _) => bad(
            format!(
                "media is offered at {list}, which is private: browsers elsewhere cannot reach it"
            ),
            "set server.public_ip to the address at which people reach this machine, unless all of them are in this network",
        ),
        (false, true) => fine(format!("media is offered at {list}, an address of this machine")),
        (false, false) => fine(format!(
            "media is offered at {list}; this machine is behind 1:1 NAT, which must forward the UDP ports of `webtrunk ports`"
        )),
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
                format!("{e:#}"),
                "allow UDP out, and its answers in: media needs it",
            )];
        }
    };
    let address = if config.public_ips.contains(&seen.ip()) {
        fine(format!("{server} sees this machine at {}, as public_ip says", seen.ip()))
    } else {
        let ours = config.public_ips.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        bad(
            format!("{server} sees this machine at {}, but browsers are offered {ours}", seen.ip()),
            format!("set server.public_ip = \"{}\"", seen.ip()),
        )
    };
    let port = if seen.port() == asked_from {
        fine(format!("a NAT, if there is one, keeps UDP port {asked_from}"))
    } else {
        bad(
            format!("UDP port {asked_from} is seen as {}: a NAT changes port numbers", seen.port()),
            "forward the UDP ports of `webtrunk ports` one to one to this machine",
        )
    };
    vec![address, port]
}

fn bindable(config: &Config, protocol: &str, port: u16, what: &str) -> Finding {
    let ip =
        if what.starts_with("page") { config.web_listen.ip() } else { IpAddr::from([0, 0, 0, 0]) };
    let at = SocketAddr::new(ip, port);
    let result = if protocol == "udp" {
        UdpSocket::bind(at).map(drop)
    } else {
        TcpListener::bind(at).map(drop)
    };
    match result {
        Ok(()) => fine(format!("{protocol} {port} is free ({what})")),
        Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => bad(
            format!("{protocol} {port} may not be bound ({what}): {e}"),
            "run it from systemd with AmbientCapabilities=CAP_NET_BIND_SERVICE, or choose a port from 1024 up",
        ),
        Err(e) => bad(
            format!("{protocol} {port} cannot be bound ({what}): {e}"),
            format!("find the program that uses it: ss -lp 'sport = :{port}'"),
        ),
    }
}

fn files() -> Finding {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let soft = limits
        .lines()
        .find(|l| l.starts_with("Max open files"))
        .and_then(|l| l.split_whitespace().nth(3)?.parse::<u64>().ok());
    match soft {
        Some(n) if n < 16_384 => bad(
            format!("{n} open files are allowed; each call needs two, each browser one"),
            "LimitNOFILE=1048576 in the systemd unit, or `ulimit -n 1048576`",
        ),
        Some(n) => fine(format!("{n} open files are allowed")),
        None => fine("the limit of open files is unknown on this system"),
    }
}

fn clock() -> Finding {
    let synchronised = Command::new("timedatectl")
        .args(["show", "-p", "NTPSynchronized", "--value"])
        .output()
        .ok();
    match synchronised.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned()).as_deref() {
        Some("yes") => fine("the clock is synchronised"),
        Some("no") => bad(
            "the clock is not synchronised: short-lived credentials will be refused",
            "timedatectl set-ntp true",
        ),
        _ if SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO)
            < Duration::from_secs(1_750_000_000) =>
        {
            bad("the clock is in the past", "set it; short-lived credentials need it")
        }
        _ => fine("whether the clock is synchronised is unknown (no timedatectl)"),
    }
}

fn certificates(config: &Config) -> Vec<Finding> {
    let mut files = Vec::new();
    if let WebTls::Files { cert, .. } = &config.web_tls {
        files.push(("web.tls", cert.clone()));
    }
    files
        .extend(config.sip.certificate.as_ref().map(|(cert, _)| ("sip.certificate", cert.clone())));
    files.into_iter().map(|(key, path)| certificate(key, &path)).collect()
}

fn certificate(key: &str, path: &Path) -> Finding {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
        as i64;
    let days = webtrunk::transport::tls::file_ends(path).map(|until| (until - now) / 86_400);
    match days {
        None => bad(
            format!("{key}: {} is not a certificate that can be read", path.display()),
            "give a PEM file",
        ),
        Some(days) if days < 0 => {
            bad(format!("{key}: the certificate expired {} days ago", -days), "renew it and reload")
        }
        Some(days) if days < 14 => {
            bad(format!("{key}: the certificate expires in {days} days"), "renew it and restart")
        }
        Some(days) => fine(format!("{key}: the certificate is valid for {days} days")),
    }
}

async fn resolve(trunk: &webtrunk::config::Trunk) -> Finding {
    let Some(uri) = &trunk.uri else {
        return fine(format!("trunk {} registers here, so its address is known then", trunk.name));
    };
    if uri.host.parse::<IpAddr>().is_ok() {
        return fine(format!("trunk {} is at {}", trunk.name, uri.address()));
    }
    match tokio::time::timeout(
        Duration::from_secs(5),
        tokio::net::lookup_host((uri.host.as_str(), uri.port.unwrap_or(5060))),
    )
    .await
    {
        Ok(Ok(mut found)) => match found.next() {
            Some(at) => fine(format!("trunk {}: {} is {}", trunk.name, uri.host, at.ip())),
            None => bad(
                format!("trunk {}: {} has no address", trunk.name, uri.host),
                "correct its uri, unless the name has only SRV records",
            ),
        },
        Ok(Err(e)) => bad(
            format!("trunk {}: {} cannot be resolved: {e}", trunk.name, uri.host),
            "correct its uri or the resolver of this machine, unless the name has only SRV records",
        ),
        Err(_) => bad(
            format!("trunk {}: DNS did not answer for {} within 5 s", trunk.name, uri.host),
            "check /etc/resolv.conf",
        ),
    }
}

fn state(path: &Path) -> Finding {
    match unusable(path) {
        None => fine(format!("what outlives a restart is kept in {}", path.display())),
        Some(why) => bad(
            format!("{why}: {WITHOUT_STATE}"),
            "let the user the gateway runs as write there, or set server.state_dir",
        ),
    }
}

fn writable(path: &Path) -> Finding {
    match std::fs::OpenOptions::new().create(true).append(true).open(path) {
        Ok(_) => fine(format!("call records go to {}", path.display())),
        Err(e) => bad(
            format!("call records cannot go to {}: {e}", path.display()),
            "create its folder, and allow this user to write there",
        ),
    }
}

/// A new token and the lines of the configuration that let it in.
pub(crate) fn api_token(name: &str, scope: &str) -> anyhow::Result<ExitCode> {
    let token =
        base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, random::<24>()?);
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.as_bytes());
    let hex = hex(hash.as_ref());
    eprintln!("The token, shown only once:");
    print::line(&token);
    eprintln!(
        "\nAdd this to the configuration, then run `webtrunk reload`:\n\n[api.token.{name}]\nsha256 = \"{hex}\"\nscope  = \"{scope}\""
    );
    Ok(ExitCode::SUCCESS)
}

/// The JSON Schema called `name`, or their names.
pub(crate) fn schema(name: Option<&str>, output: print::Output) -> anyhow::Result<ExitCode> {
    let Some(name) = name else {
        let all = NAMES.iter().map(|(name, what)| json!({ "name": name, "of": what })).collect();
        print::list(
            &all,
            output,
            &[("name", |i| print::text(i, "name")), ("of", |i| print::text(i, "of"))],
            "",
        );
        return Ok(ExitCode::SUCCESS);
    };
    let known = || NAMES.map(|(name, _)| name).join(", ");
    print::object(
        &named(name)
            .ok_or_else(|| anyhow::anyhow!("there is no schema {name:?}; known: {}", known()))?,
    );
    Ok(ExitCode::SUCCESS)
}

/// What a code of the registry means.
pub(crate) fn explain(code: Option<&str>, output: print::Output) -> anyhow::Result<ExitCode> {
    let Some(code) = code else {
        let one = |(code, entry): (Code, &webtrunk::errors::Entry)| json!({ "code": code.to_string(), "title": entry.title, "likely": entry.likely, "fix": entry.fix });
        print::list(
            &Code::all().map(one).collect(),
            output,
            &[("code", |i| print::text(i, "code")), ("title", |i| print::text(i, "title"))],
            "",
        );
        return Ok(ExitCode::SUCCESS);
    };
    let code: Code = code.parse().map_err(anyhow::Error::msg)?;
    let entry = code
        .entry()
        .ok_or_else(|| anyhow::anyhow!("there is no {code}; `webtrunk explain` lists all"))?;
    print::line(&format!(
        "{code}  {}\n  Likely: {}\n  Fix:    {}",
        entry.title, entry.likely, entry.fix
    ));
    Ok(ExitCode::SUCCESS)
}
