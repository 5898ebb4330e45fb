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
    pub host: String,
    pub port: Option<u16>,
    pub transport: Option<UriTransport>,
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

    /// Why a hop could not be reached, where its transport said so.
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

    /// The addresses of a host as far as they are known: none where DNS has none, or gives no
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
            // No answer to NAPTR or SRV: go on as if there were none (§4.1, §4.2).
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
        // RFC 7984 §3: both families are candidates, where we can speak both.
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
mod tests {
    use super::*;

    fn srv(priority: u16, weight: u16, port: u16, target: &str) -> Srv {
        Srv { priority, weight, port, target: target.into() }
    }
    fn target(host: &str) -> Destination {
        Destination {
            host: host.into(),
            port: None,
            transport: None,
            secure: false,
            trunk: TrunkNumber(3),
            listed: Vec::new(),
        }
    }
    /// Answers every query from `zone` and returns the end of the walk.
    fn run(
        locator: &mut Resolver,
        now: Instant,
        target: &Destination,
        zone: &dyn Fn(&DnsQuery) -> DnsAnswer,
    ) -> (Located, Vec<DnsQuery>) {
        let mut asked = Vec::new();
        for _ in 0..40 {
            match locator.locate(now, target, &mut || 0) {
                Located::Waiting(query) => {
                    asked.push(query.clone());
                    let answer = zone(&query);
                    locator.answered(now, query, answer);
                }
                done => return (done, asked),
            }
        }
        panic!("no end: {asked:?}");
    }
    fn none(query: &DnsQuery) -> DnsAnswer {
        Ok((
            match query {
                DnsQuery::Naptr(_) => Records::Naptr(vec![]),
                DnsQuery::Srv(_) => Records::Srv(vec![]),
                DnsQuery::Address(_) => Records::Address(vec![]),
            },
            60,
        ))
    }
    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn naptr_then_srv_then_address_in_their_order() {
        let zone = |q: &DnsQuery| match q {
            DnsQuery::Naptr(_) => Ok((
                Records::Naptr(vec![
                    Naptr {
                        order: 20,
                        preference: 1,
                        flags: "s".into(),
                        service: "SIP+D2U".into(),
                        replacement: "_sip._udp.x.".into(),
                    },
                    Naptr {
                        order: 10,
                        preference: 1,
                        flags: "S".into(),
                        service: "SIPS+D2T".into(),
                        replacement: "_sips._tcp.x.".into(),
                    },
                    Naptr {
                        order: 1,
                        preference: 1,
                        flags: "s".into(),
                        service: "SIP+D2S".into(),
                        replacement: "_sip._sctp.x.".into(),
                    },
                ]),
                60,
            )),
            DnsQuery::Srv(name) if name == "_sips._tcp.x" => {
                Ok((Records::Srv(vec![srv(2, 0, 5071, "b.x"), srv(1, 0, 5061, "a.x")]), 60))
            }
            DnsQuery::Srv(_) => Ok((Records::Srv(vec![srv(1, 0, 5060, "a.x")]), 60)),
            DnsQuery::Address(name) => Ok((
                Records::Address(vec![
                    if name == "a.x" { "100.128.0.1" } else { "100.128.0.2" }.parse().unwrap(),
                ]),
                60,
            )),
        };
        let (found, _) = run(&mut Resolver::default(), Instant::now(), &target("x"), &zone);
        let tls = |a| Hop::Tls(address(a), TrunkNumber(3));
        assert_eq!(
            found,
            Located::Ready(vec![
                tls("100.128.0.1:5061"),
                tls("100.128.0.2:5071"),
                Hop::Udp(address("100.128.0.1:5060"))
            ])
        );
    }

    #[test]
    fn a_port_or_a_number_asks_for_less() {
        let now = Instant::now();
        let zone = |q: &DnsQuery| match q {
            DnsQuery::Address(_) => Ok((
                Records::Address(vec![
                    "100.128.0.7".parse().unwrap(),
                    "2620:1::7".parse().unwrap(),
                ]),
                60,
            )),
            q => none(q),
        };
        let with_port = Destination { port: Some(5080), ..target("x") };
        let (found, asked) = run(&mut Resolver::default(), now, &with_port, &zone);
        assert_eq!(
            (found, asked.len()),
            (Located::Ready(vec![Hop::Udp(address("100.128.0.7:5080"))]), 1)
        );
        let mut both = Resolver { ipv6: true, ..Resolver::default() };
        let (found, _) = run(&mut both, now, &with_port, &zone);
        assert_eq!(
            found,
            Located::Ready(vec![
                Hop::Udp(address("100.128.0.7:5080")),
                Hop::Udp(address("[2620:1::7]:5080"))
            ])
        );
        let number =
            Destination { secure: true, transport: Some(UriTransport::Tls), ..target("2620:1::1") };
        let (found, asked) = run(&mut Resolver::default(), now, &number, &zone);
        assert_eq!(
            (found, asked),
            (Located::Ready(vec![Hop::Tls(address("[2620:1::1]:5061"), TrunkNumber(3))]), vec![])
        );
        // Nothing but an address: UDP at 5060, after NAPTR and the three SRV names.
        let (found, asked) = run(&mut Resolver::default(), now, &target("x"), &zone);
        assert_eq!(
            (found, asked.len()),
            (Located::Ready(vec![Hop::Udp(address("100.128.0.7:5060"))]), 5)
        );
    }

    #[test]
    fn weights_share_the_load_and_a_service_that_is_not_there_is_believed() {
        let records =
            [srv(1, 10, 1, "a"), srv(1, 30, 1, "b"), srv(1, 0, 1, "c"), srv(0, 0, 1, "first")];
        let mut wins = HashMap::new();
        let mut state = 1u64;
        let mut chance = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            state >> 33
        };
        for _ in 0..4_100 {
            let order = ordered(&records, &mut chance);
            assert_eq!((order[0].target.as_str(), order.len()), ("first", 4));
            *wins.entry(order[1].target.clone()).or_insert(0) += 1;
        }
        assert!(
            (850..1_150).contains(&wins["a"])
                && (2_800..3_200).contains(&wins["b"])
                && wins["c"] < 220,
            "{wins:?}"
        );
        let zone = |q: &DnsQuery| {
            if matches!(q, DnsQuery::Srv(_)) {
                Ok((Records::Srv(vec![srv(0, 0, 0, ".")]), 60))
            } else {
                none(q)
            }
        };
        let (found, _) = run(&mut Resolver::default(), Instant::now(), &target("x"), &zone);
        assert!(matches!(found, Located::Failed(_)), "{found:?}");
    }

    #[test]
    fn the_cache_ages_is_bounded_and_remembers_the_dead() {
        let start = Instant::now();
        let mut locator = Resolver::default();
        let t = Destination { port: Some(5060), ..target("x") };
        let zone = |q: &DnsQuery| match q {
            DnsQuery::Address(_) => Ok((
                Records::Address(vec![
                    "100.128.0.1".parse().unwrap(),
                    "100.128.0.2".parse().unwrap(),
                ]),
                0,
            )),
            q => none(q),
        };
        let (one, two) =
            (Hop::Udp(address("100.128.0.1:5060")), Hop::Udp(address("100.128.0.2:5060")));
        assert_eq!(run(&mut locator, start, &t, &zone).1.len(), 1);
        assert_eq!(
            run(&mut locator, start, &t, &zone).1.len(),
            0,
            "a TTL of 0 still holds for 5 s"
        );
        assert_eq!(run(&mut locator, start + Duration::from_secs(6), &t, &zone).1.len(), 1);
        locator.failed(start, one);
        assert_eq!(run(&mut locator, start, &t, &zone).0, Located::Ready(vec![two, one]));
        let later = start + DEAD + Duration::from_secs(1);
        assert_eq!(
            run(&mut locator, later, &t, &zone).0,
            Located::Ready(vec![one, two]),
            "probed again"
        );
        for n in 0..3_000u32 {
            locator.answered(later, DnsQuery::Address(format!("h{n}")), Err("no".into()));
            locator.failed(
                later,
                Hop::Udp(SocketAddr::from(([10, 0, (n >> 8) as u8, n as u8], 5060))),
            );
        }
        assert!(
            locator.sizes().0 <= MAX_NAMES && locator.sizes().1 <= MAX_NAMES,
            "{:?}",
            locator.sizes()
        );
    }

    #[test]
    fn a_thousand_records_and_a_dead_server_end_quickly() {
        let zone = |q: &DnsQuery| match q {
            DnsQuery::Srv(_) => Ok((
                Records::Srv((0..1_000).map(|n| srv(0, 1, 5060, &format!("h{n}"))).collect()),
                60,
            )),
            DnsQuery::Address(_) => Err("SERVFAIL".into()),
            q => none(q),
        };
        let mut locator = Resolver::default();
        let t = Destination { transport: Some(UriTransport::Udp), ..target("x") };
        let mut asked = 0;
        loop {
            match locator.locate(Instant::now(), &t, &mut || 0) {
                Located::Waiting(query) => {
                    asked += 1;
                    let answer = zone(&query);
                    locator.answered(Instant::now(), query, answer);
                }
                done => {
                    assert!(matches!(done, Located::Failed(_)), "{done:?}");
                    break;
                }
            }
        }
        assert!(asked <= 1 + MAX_RECORDS, "{asked}");
    }

    #[test]
    fn dns_leads_nowhere_it_has_no_business() {
        let denied = include_str!("../tests/corpus/addresses.txt").split_whitespace();
        let now = Instant::now();
        let private = |ip: &str| crate::address::is_private(ip.parse().unwrap());
        let found = |host: &str, ip: &str, listed: &[&str]| {
            let ip: IpAddr = ip.parse().unwrap();
            let listed = listed.iter().map(|net| net.parse().unwrap()).collect();
            let wanted = Destination { port: Some(5060), listed, ..target(host) };
            let mut locator = Resolver::new(true);
            let zone = |_: &DnsQuery| Ok((Records::Address(vec![ip]), 60));
            run(&mut locator, now, &wanted, &zone).0
        };
        for ip in denied.filter(|ip| !private(ip)) {
            let Located::Failed(why) = found("sip.carrier.example", ip, &[]) else {
                panic!("{ip} is a hop");
            };
            assert!(why.contains("allow"), "{why}");
        }
        // A PBX in the same network, this machine by the hosts file, and what was written down.
        assert!(matches!(found("pbx.example", "10.1.2.3", &[]), Located::Ready(_)));
        assert!(matches!(found("localhost", "127.0.0.1", &[]), Located::Ready(_)));
        assert!(matches!(found("asterisk", "127.0.0.1", &[]), Located::Ready(_)));
        let listed = found("lab.example", "192.0.2.1", &["192.0.2.0/24"]);
        assert!(matches!(listed, Located::Ready(_)));
    }
}
