//! DNS for the core: one query, one answer, never later than two seconds. The core has the cache.

use crate::config::Trunk;
use crate::resolver::{Destination, DnsAnswer, DnsQuery, Located, Naptr, Records, Resolver, Srv};
use crate::sip::transaction::Hop;
use hickory_resolver::TokioResolver;
use hickory_resolver::proto::rr::{RData, RecordType};
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// Longest an answer may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// Seconds that a name without such records is believed to have none.
const ABSENT: u32 = 60;

/// The system's resolvers.
#[derive(Clone)]
pub(crate) struct Dns {
    resolver: Option<TokioResolver>,
}

impl Dns {
    /// As the system's configuration says; if it cannot be read, every question fails with that
    /// reason.
    pub(crate) fn new() -> Dns {
        let build = || {
            let mut builder = TokioResolver::builder_tokio().ok()?;
            let options = builder.options_mut();
            options.cache_size = 0;
            options.timeout = Duration::from_millis(900);
            options.attempts = 2;
            builder.build().ok()
        };
        Dns { resolver: build() }
    }

    /// Asks one question.
    ///
    /// # Errors
    /// The text says which name, and why; a name without such records is an empty answer.
    pub(crate) async fn ask(&self, query: &DnsQuery) -> DnsAnswer {
        let name = query.name().to_owned();
        match timeout(PATIENCE, self.look_up(query)).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("{name} was not resolved within 2 s")),
        }
    }

    async fn look_up(&self, query: &DnsQuery) -> DnsAnswer {
        let Some(resolver) = &self.resolver else {
            return Err("the system names no DNS server (/etc/resolv.conf)".into());
        };
        // A trailing dot: the name as it is, no search list.
        let full = format!("{}.", query.name().trim_end_matches('.'));
        match query {
            DnsQuery::Address(name) => self.addresses(name, &full).await,
            DnsQuery::Srv(_) => {
                let (found, ttl) = records(resolver, &full, RecordType::SRV, |data| match data {
                    RData::SRV(srv) => Some(Srv {
                        priority: srv.priority,
                        weight: srv.weight,
                        port: srv.port,
                        target: srv.target.to_string(),
                    }),
                    _ => None,
                })
                .await?;
                Ok((Records::Srv(found), ttl))
            }
            DnsQuery::Naptr(_) => {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                let (found, ttl) = records(resolver, &full, RecordType::NAPTR, |data| match data {
                    RData::NAPTR(naptr) => Some(Naptr {
                        order: naptr.order,
                        preference: naptr.preference,
                        flags: text(&naptr.flags),
                        service: text(&naptr.services),
                        replacement: naptr.replacement.to_string(),
                    }),
                    _ => None,
                })
                .await?;
                Ok((Records::Naptr(found), ttl))
            }
        }
    }

    /// A and AAAA, both; a short name (`pbx`) goes by the hosts file and search list.
    async fn addresses(&self, name: &str, full: &str) -> DnsAnswer {
        let Some(resolver) = &self.resolver else {
            return Err(format!("{name} cannot be resolved"));
        };
        let asked = if name.contains('.') { full } else { name };
        match resolver.lookup_ip(asked).await {
            Ok(found) => {
                let ttl = found.as_lookup().answers().iter().map(|r| r.ttl).min().unwrap_or(60);
                Ok((Records::Address(found.iter().collect()), ttl))
            }
            Err(e) if e.is_no_records_found() => Ok((Records::Address(Vec::new()), ABSENT)),
            Err(e) => Err(format!("{name} cannot be resolved: {e}")),
        }
    }
}

/// Where DNS leads a trunk's calls.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TrunkServers {
    /// Best first; never empty.
    Found(Vec<Hop>),
    /// DNS answered, and nothing of it can be called: why.
    Nothing(String),
    /// DNS did not answer: why.
    NoAnswer(String),
}

/// Looks up the servers of a trunk as its next call would; `ipv6`: SIP is spoken over both
/// families.
/// `None` for a trunk that has no URI.
pub async fn servers_of(trunk: &Trunk, ipv6: bool) -> Option<TrunkServers> {
    let dns = Dns::new();
    let target = Destination::of(trunk.uri.as_ref()?, trunk);
    Some(walk(&target, ipv6, async |query| dns.ask(query).await).await)
}

/// Most questions for one target: NAPTR, SRV for each transport, and the addresses of their hosts.
const MAX_QUESTIONS: usize = 16;

async fn walk(
    target: &Destination,
    ipv6: bool,
    ask: impl AsyncFn(&DnsQuery) -> DnsAnswer,
) -> TrunkServers {
    let (now, mut known, mut failed) = (Instant::now(), Resolver::new(ipv6), None);
    for _ in 0..MAX_QUESTIONS {
        match known.locate(now, target, &mut || 0) {
            Located::Ready(hops) => return TrunkServers::Found(hops),
            Located::Failed(_) if failed.is_some() => break,
            Located::Failed(why) => return TrunkServers::Nothing(why),
            Located::Waiting(query) => {
                let answer = ask(&query).await;
                failed = failed.or_else(|| answer.as_ref().err().cloned());
                known.answered(now, query, answer);
            }
        }
    }
    failed.map_or_else(
        || TrunkServers::Nothing(format!("{} leads from name to name", target.host)),
        TrunkServers::NoAnswer,
    )
}

impl Default for Dns {
    fn default() -> Self {
        Dns::new()
    }
}

/// Returns the records of one kind, if any, and their shortest TTL.
async fn records<T>(
    resolver: &TokioResolver,
    name: &str,
    kind: RecordType,
    read: impl Fn(&RData) -> Option<T>,
) -> Result<(Vec<T>, u32), String> {
    match resolver.lookup(name, kind).await {
        Ok(found) => {
            let ttl = found.answers().iter().map(|r| r.ttl).min().unwrap_or(60);
            Ok((found.answers().iter().filter_map(|r| read(&r.data)).collect(), ttl))
        }
        Err(e) if e.is_no_records_found() => Ok((Vec::new(), ABSENT)),
        Err(e) => Err(format!("{name} cannot be resolved: {e}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::check::parse_embedded;

    fn trunk(uri: &str) -> Trunk {
        let text = format!(
            "[server]\ndomain = \"x\"\npublic_ip = \"192.0.2.1\"\n[sip]\nudp = \"0.0.0.0:5060\"\n[trunk.t]\nuri = \"{uri}\"\n"
        );
        let (config, _) = parse_embedded(&text, &[]).unwrap_or_else(|p| panic!("{p}"));
        config.trunks.get("t").expect("it is there").clone()
    }

    /// A zone with a name that has only SRV records, one with an address, one that is nowhere, and
    /// one that is not answered.
    fn zone(query: &DnsQuery) -> DnsAnswer {
        let srv =
            |target: &str| Srv { priority: 1, weight: 1, port: 5080, target: format!("{target}.") };
        match query {
            q if q.name().ends_with("silent.example") => Err("silent.example: no answer".into()),
            DnsQuery::Srv(name) if name == "_sip._udp.srv.example" => {
                Ok((Records::Srv(vec![srv("host.example")]), 60))
            }
            DnsQuery::Srv(_) => Ok((Records::Srv(Vec::new()), 60)),
            DnsQuery::Naptr(_) => Ok((Records::Naptr(Vec::new()), 60)),
            DnsQuery::Address(name) if name == "host.example" => {
                Ok((Records::Address(vec!["8.8.4.4".parse().expect("an address")]), 60))
            }
            DnsQuery::Address(name) if name == "loop.example" => {
                Ok((Records::Address(vec!["127.0.0.1".parse().expect("an address")]), 60))
            }
            DnsQuery::Address(_) => Ok((Records::Address(Vec::new()), 60)),
        }
    }

    #[tokio::test]
    async fn a_trunk_is_found_as_its_calls_find_it() {
        let find = async |uri: &str| {
            let trunk = trunk(uri);
            let target = Destination::of(trunk.uri.as_ref().expect("it has one"), &trunk);
            walk(&target, false, async |query| zone(query)).await
        };
        let at =
            |text: &str| TrunkServers::Found(vec![Hop::Udp(text.parse().expect("an address"))]);
        assert_eq!(find("sip:srv.example").await, at("8.8.4.4:5080"));
        assert_eq!(find("sip:host.example").await, at("8.8.4.4:5060"));
        assert_eq!(find("sip:host.example:5070").await, at("8.8.4.4:5070"));
        assert_eq!(find("sip:192.0.2.9").await, at("192.0.2.9:5060"));
        let nothing = |found: TrunkServers, said: &str| match found {
            TrunkServers::Nothing(why) => assert!(why.contains(said), "{why}"),
            other => panic!("{other:?}"),
        };
        nothing(find("sip:nowhere.example").await, "nowhere.example has no address");
        nothing(find("sip:loop.example").await, "127.0.0.1, where no peer can be");
        let silent = TrunkServers::NoAnswer("silent.example: no answer".into());
        assert_eq!(find("sip:silent.example").await, silent);
    }

    /// A service of a hundred hosts none of which has an address.
    #[tokio::test]
    async fn a_name_that_leads_to_ever_more_names_is_given_up() {
        let trunk = trunk("sip:many.example");
        let target = Destination::of(trunk.uri.as_ref().expect("it has one"), &trunk);
        let asked = std::cell::Cell::new(0);
        let found = walk(&target, false, async |query| {
            asked.set(asked.get() + 1);
            let host =
                |n| Srv { priority: n, weight: 1, port: 5060, target: format!("h{n}.example") };
            match query {
                DnsQuery::Srv(_) => Ok((Records::Srv((0..100).map(host).collect()), 60)),
                DnsQuery::Naptr(_) => Ok((Records::Naptr(Vec::new()), 60)),
                DnsQuery::Address(_) => Ok((Records::Address(Vec::new()), 60)),
            }
        });
        assert!(matches!(found.await, TrunkServers::Nothing(_)));
        assert_eq!(asked.get(), MAX_QUESTIONS);
    }
}
