//! Locating SIP servers (RFC 3263, RFC 2782, RFC 7984): from a URI to an ordered list of hops.
//!
//! The walk NAPTR, SRV, address runs on the cache alone; what it lacks it names as the next
//! [`Query`]. So a lookup is `locate` again after each answer, and many waiters share one query.
//! Not here: DNS itself, and who waits.

use crate::config::{Trunk, TrunkUri};
use crate::egress::EgressPolicy;
use crate::errors::Code;
use crate::sip::transaction::{Hop, TrunkNumber};
use crate::sip::uri::UriTransport;
use ipnet::IpNet;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// One question to DNS.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum DnsQuery {
    /// Which transports a domain has.
    Naptr(String),
    /// Which hosts a service has.
    Srv(String),
    /// A and AAAA.
    Address(String),
}

impl DnsQuery {
    /// The name asked for.
    pub(crate) fn name(&self) -> &str {
        match self {
            DnsQuery::Naptr(name) | DnsQuery::Srv(name) | DnsQuery::Address(name) => name,
        }
    }
}

/// One NAPTR record (RFC 3263 §4.1).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Naptr {
    /// The lowest first.
    pub order: u16,
    /// Among equal orders, the lowest first.
    pub preference: u16,
    /// `s` leads to SRV.
    pub flags: String,
    /// `SIP+D2U` and so on.
    pub service: String,
    /// The name to ask for next.
    pub replacement: String,
}

/// One SRV record (RFC 2782).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Srv {
    /// The lowest first.
    pub priority: u16,
    /// Share among equal priorities.
    pub weight: u16,
    /// Of the service there.
    pub port: u16,
    /// A host's name.
    pub target: String,
}

/// What DNS said; an empty list is an answer too.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Records {
    /// What it found.
    Naptr(Vec<Naptr>),
    /// What it found.
    Srv(Vec<Srv>),
    /// A and AAAA.
    Address(Vec<IpAddr>),
}

/// Records and for how many seconds they hold, or why there is no answer.
pub type DnsAnswer = Result<(Records, u32), String>;

/// What is to be reached.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Destination {
    /// A host name or an address.
    pub host: String,
    /// The port, if it is written; 1 to 65535.
    pub port: Option<u16>,
    /// The transport, if it is written.
    pub transport: Option<UriTransport>,
    /// `sips:`, or TLS by the configuration.
    pub secure: bool,
    /// Whose certificate a TLS connection must show.
    pub trunk: TrunkNumber,
    /// Networks in which DNS may say that it is, whatever they are.
    pub listed: Vec<IpNet>,
}

impl Destination {
    /// The target a trunk's URI, or its registrar's, names.
    pub(crate) fn of(uri: &TrunkUri, trunk: &Trunk) -> Destination {
        Destination {
            host: uri.host.clone(),
            port: uri.port,
            transport: uri.transport,
            secure: uri.secure,
            trunk: trunk.number,
            listed: trunk.allow.clone(),
        }
    }
}

/// Where a lookup stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Located {
    /// Best first; never empty.
    Ready(Vec<Hop>),
    Waiting(DnsQuery),
    Failed(String),
}

/// Most hops of one target, and most records of one answer that are looked at.
const MAX_HOPS: usize = 8;
const MAX_RECORDS: usize = 32;
/// Names remembered; the oldest goes first.
const MAX_NAMES: usize = 1_024;
const TTL_FLOOR: u32 = 5;
const TTL_CEILING: u32 = 3_600;
/// How long a failure to answer is remembered.
const NEGATIVE: u32 = 5;
/// A hop that did not answer is tried last for this long (RFC 3263 §4.3).
const DEAD: Duration = Duration::from_secs(30);

struct Cached {
    answer: Result<Records, String>,
    until: Instant,
}

/// A hop that did not answer, until when that is believed, and what is known of why.
struct Dead {
    until: Instant,
    why: Option<(Code, String)>,
}

/// The cache, and which hops are dead.
#[derive(Default)]
pub struct Resolver {
    cache: HashMap<DnsQuery, Cached>,
    dead: HashMap<Hop, Dead>,
    ipv6: bool,
}

impl Resolver {
    /// An empty cache; `ipv6`: hops of both families are of use.
    pub(crate) fn new(ipv6: bool) -> Resolver {
        Resolver { ipv6, ..Resolver::default() }
    }

    /// Takes DNS's answer.
    pub(crate) fn answered(&mut self, now: Instant, query: DnsQuery, answer: DnsAnswer) {
        if self.cache.len() >= MAX_NAMES {
            self.cache.retain(|_, c| c.until > now);
            let oldest = self.cache.iter().min_by_key(|(_, c)| c.until).map(|(q, _)| q.clone());
            if let Some(oldest) = oldest.filter(|_| self.cache.len() >= MAX_NAMES) {
                self.cache.remove(&oldest);
            }
        }
        let (answer, ttl) = match answer {
            Ok((records, ttl)) => (Ok(records), ttl.clamp(TTL_FLOOR, TTL_CEILING)),
            Err(why) => (Err(why), NEGATIVE),
        };
        self.cache
            .insert(query, Cached { answer, until: now + Duration::from_secs(u64::from(ttl)) });
    }

    /// This hop did not answer, or refused with 503.
    pub(crate) fn failed(&mut self, now: Instant, hop: Hop) {
        self.failed_because(now, hop, None);
    }

    /// As [`failed`](Self::failed); a reason once given stays.
    pub(crate) fn failed_because(&mut self, now: Instant, hop: Hop, why: Option<(Code, String)>) {
        let hop = hop.plain();
        if matches!(hop, Hop::Flow(_)) {
            return;
        }
        self.dead.retain(|_, dead| dead.until > now);
        let why = why.or_else(|| self.dead.get(&hop).and_then(|d| d.why.clone()));
        if self.dead.len() < MAX_NAMES || self.dead.contains_key(&hop) {
            self.dead.insert(hop, Dead { until: now + DEAD, why });
        }
    }

    /// Why a hop could not be reached, if its transport reported it.
    pub(crate) fn why(&self, hop: Hop) -> Option<(Code, String)> {
        self.dead.get(&hop)?.why.clone()
    }

    /// This hop answered.
    pub(crate) fn alive(&mut self, hop: Hop) {
        self.dead.remove(&hop);
    }

    /// Walks towards `target` as far as the cache goes. `chance` orders SRV records of one
    /// priority.
    pub(crate) fn locate(
        &self,
        now: Instant,
        target: &Destination,
        chance: &mut dyn FnMut() -> u64,
    ) -> Located {
        match self.walk(now, target, chance) {
            Ok(hops) if hops.is_empty() => {
                Located::Failed(format!("{} has no address we can reach", target.host))
            }
            Ok(mut hops) => {
                hops.sort_by_key(|h| self.dead.get(h).is_some_and(|dead| dead.until > now));
                hops.truncate(MAX_HOPS);
                Located::Ready(hops)
            }
            Err(stop) => stop,
        }
    }

    /// Returns the addresses of a host as far as they are known; empty if DNS has none, or gives no
    /// answer.
    ///
    /// # Errors
    /// The question that DNS is to be asked first.
    pub(crate) fn known(&self, now: Instant, host: &str) -> Result<&[IpAddr], DnsQuery> {
        match self.ask(now, DnsQuery::Address(host.trim_end_matches('.').to_owned())) {
            Ok(Some(Records::Address(ips))) => Ok(&ips[..ips.len().min(MAX_RECORDS)]),
            Err(Located::Waiting(query)) => Err(query),
            Ok(_) | Err(_) => Ok(&[]),
        }
    }

    fn ask(&self, now: Instant, query: DnsQuery) -> Result<Option<&Records>, Located> {
        match self.cache.get(&query).filter(|c| c.until > now) {
            Some(Cached { answer: Ok(records), .. }) => Ok(Some(records)),
            Some(Cached { answer: Err(why), .. }) if matches!(query, DnsQuery::Address(_)) => {
                Err(Located::Failed(why.clone()))
            }
            // No answer to NAPTR or SRV: continue as if there were none (§4.1, §4.2).
            Some(_) => Ok(None),
            None => Err(Located::Waiting(query)),
        }
    }

    fn walk(
        &self,
        now: Instant,
        target: &Destination,
        chance: &mut dyn FnMut() -> u64,
    ) -> Result<Vec<Hop>, Located> {
        let default = if target.secure { UriTransport::Tls } else { UriTransport::Udp };
        let fixed = target.transport.unwrap_or(default);
        if let Ok(ip) = target.host.parse::<IpAddr>() {
            return Ok(vec![hop(
                SocketAddr::new(ip, target.port.unwrap_or(fixed.default_port())),
                fixed,
                target,
            )]);
        }
        if let Some(port) = target.port {
            return self.addresses(now, &target.host, port, fixed, target);
        }
        let mut services = match target.transport {
            Some(transport) => vec![(service_name(&target.host, transport), transport)],
            None => self.services(now, target)?,
        };
        if services.is_empty() {
            let all = if target.secure {
                &[UriTransport::Tls][..]
            } else {
                &[UriTransport::Udp, UriTransport::Tcp, UriTransport::Tls][..]
            };
            services = all.iter().map(|t| (service_name(&target.host, *t), *t)).collect();
        }
        let mut hops = Vec::new();
        let mut any = false;
        for (name, transport) in services {
            let Some(Records::Srv(records)) = self.ask(now, DnsQuery::Srv(name))? else { continue };
            // RFC 2782: a lone "." says that the service is decidedly not there.
            for record in ordered(records, chance)
                .into_iter()
                .filter(|r| !matches!(r.target.as_str(), "." | ""))
            {
                any = true;
                match self.addresses(now, &record.target, record.port, transport, target) {
                    Ok(found) => hops.extend(found),
                    Err(Located::Failed(_)) => {}
                    Err(wait) => return Err(wait),
                }
                if hops.len() >= MAX_HOPS {
                    return Ok(hops);
                }
            }
        }
        if any {
            Ok(hops)
        } else {
            self.addresses(now, &target.host, fixed.default_port(), fixed, target)
        }
    }

    /// The SRV names NAPTR offers, in its order (§4.1).
    fn services(
        &self,
        now: Instant,
        target: &Destination,
    ) -> Result<Vec<(String, UriTransport)>, Located> {
        let Some(Records::Naptr(records)) = self.ask(now, DnsQuery::Naptr(target.host.clone()))?
        else {
            return Ok(Vec::new());
        };
        let mut records: Vec<_> = records
            .iter()
            .take(MAX_RECORDS)
            .filter(|r| r.flags.eq_ignore_ascii_case("s"))
            .collect();
        records.sort_by_key(|r| (r.order, r.preference));
        let transport = |service: &str| match service.to_ascii_uppercase().as_str() {
            "SIPS+D2T" => Some(UriTransport::Tls),
            "SIP+D2U" if !target.secure => Some(UriTransport::Udp),
            "SIP+D2T" if !target.secure => Some(UriTransport::Tcp),
            _ => None,
        };
        Ok(records
            .into_iter()
            .filter_map(|r| {
                Some((r.replacement.trim_end_matches('.').to_owned(), transport(&r.service)?))
            })
            .collect())
    }

    fn addresses(
        &self,
        now: Instant,
        host: &str,
        port: u16,
        transport: UriTransport,
        target: &Destination,
    ) -> Result<Vec<Hop>, Located> {
        let host = host.trim_end_matches('.');
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(vec![hop(SocketAddr::new(ip, port), transport, target)]);
        }
        let Some(Records::Address(ips)) = self.ask(now, DnsQuery::Address(host.to_owned()))? else {
            return Ok(Vec::new());
        };
        // RFC 7984 §3: both families are candidates, if we can speak both.
        let spoken = || ips.iter().take(MAX_RECORDS).filter(|ip| ip.is_ipv4() || self.ipv6);
        // A name of the hosts file may be this machine; DNS elsewhere has no business saying so.
        let loopback = !host.contains('.') || host.to_ascii_lowercase().ends_with(".localhost");
        let listed = [&target.listed[..], &[]];
        let policy = EgressPolicy { listed, signalling: None, private: true, loopback };
        let hops: Vec<Hop> = spoken()
            .filter(|ip| policy.admits(**ip))
            .map(|ip| hop(SocketAddr::new(*ip, port), transport, target))
            .collect();
        match spoken().next().filter(|_| hops.is_empty()) {
            Some(ip) => Err(Located::Failed(format!(
                "DNS leads {host} to {ip}, where no peer can be: allow = [\"{ip}\"] of the trunk \
                 overrules that"
            ))),
            None => Ok(hops),
        }
    }

    /// Names remembered and hops held dead, for bounds in tests.
    #[cfg(test)]
    pub(crate) fn sizes(&self) -> (usize, usize) {
        (self.cache.len(), self.dead.len())
    }
}

fn hop(to: SocketAddr, transport: UriTransport, target: &Destination) -> Hop {
    match transport {
        UriTransport::Udp => Hop::Udp(to),
        UriTransport::Tcp => Hop::Tcp(to),
        UriTransport::Tls => Hop::Tls(to, target.trunk),
    }
}

fn service_name(host: &str, transport: UriTransport) -> String {
    match transport {
        UriTransport::Udp => format!("_sip._udp.{host}"),
        UriTransport::Tcp => format!("_sip._tcp.{host}"),
        UriTransport::Tls => format!("_sips._tcp.{host}"),
    }
}

/// RFC 2782: lowest priority first; within one, drawn at random by weight, weight 0 almost never
/// first.
fn ordered<'a>(records: &'a [Srv], chance: &mut dyn FnMut() -> u64) -> Vec<&'a Srv> {
    let mut left: Vec<&Srv> = records.iter().take(MAX_RECORDS).collect();
    left.sort_by_key(|r| (r.priority, r.weight));
    let mut out = Vec::with_capacity(left.len());
    while let Some(first) = left.first() {
        let same = left.iter().take_while(|r| r.priority == first.priority).count();
        let total: u64 = left[..same].iter().map(|r| u64::from(r.weight)).sum();
        let mut draw = chance() % (total + 1);
        let at = left[..same].iter().position(|r| {
            let hit = draw <= u64::from(r.weight);
            draw = draw.saturating_sub(u64::from(r.weight));
            hit
        });
        out.push(left.remove(at.unwrap_or(0)));
    }
    out
}

#[cfg(test)]
mod tests;
