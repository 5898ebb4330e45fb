//! DNS for the core: one query, one answer, never later than two seconds. The core has the cache.

use crate::resolver::{DnsAnswer, DnsQuery, Naptr, Records, Srv};
use hickory_resolver::TokioResolver;
use hickory_resolver::proto::rr::{RData, RecordType};
use std::time::Duration;
use tokio::time::timeout;

/// Longest an answer may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// The system's resolvers.
#[derive(Clone)]
pub(crate) struct Dns {
    resolver: Option<TokioResolver>,
}

impl Dns {
    /// As the system's configuration says; where it cannot be read, every question fails with that
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
            Err(e) => Err(format!("{name} cannot be resolved: {e}")),
        }
    }
}

impl Default for Dns {
    fn default() -> Self {
        Dns::new()
    }
}

/// The records of one kind and their shortest TTL; none where there are none.
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
        Err(e) if e.is_no_records_found() => Ok((Vec::new(), 60)),
        Err(e) => Err(format!("{name} cannot be resolved: {e}")),
    }
}
