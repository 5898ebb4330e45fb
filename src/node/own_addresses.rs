//! What the machine's own addresses are, asked of the system again and again: they change.

use crate::address::is_public;
use crate::call::reach::Routing;
use crate::config::Config;
use crate::config::check::own_address;
use crate::datagrams::local::KernelRoutes;
use crate::errors::Code;
use crate::gateway::Input;
use crate::transport::{Inbox, stun};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::time::{MissedTickBehavior, interval, sleep};

/// How often the default route's address is looked at, and the STUN server asked; sooner if it did
/// not answer.
const LOOK: Duration = Duration::from_secs(10);
const ASK: Duration = Duration::from_secs(30);
const ASK_AGAIN: Duration = Duration::from_secs(10);

/// The system's routing, as media's sockets see it.
pub(super) struct System {
    routes: Mutex<KernelRoutes>,
    /// The only addresses of SIP over UDP and of media.
    sip: Option<IpAddr>,
    bind: Option<IpAddr>,
    /// Media's sockets are of IPv4 alone.
    ipv4_only: bool,
}

impl System {
    /// `media`: where media's sockets are bound.
    pub(super) fn new(config: &Config, media: IpAddr) -> System {
        System {
            routes: Mutex::default(),
            sip: config.udp.map(|at| at.ip()).filter(|ip| !ip.is_unspecified()),
            bind: config.media.bind,
            ipv4_only: media.is_ipv4(),
        }
    }

    fn routes(&self) -> std::sync::MutexGuard<'_, KernelRoutes> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a browser elsewhere may reach it.
fn is_offered(ip: IpAddr) -> bool {
    let link_local = match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !ip.is_loopback() && !link_local && !ip.is_multicast() && !ip.is_unspecified()
}

impl Routing for System {
    fn towards(&self, remote: IpAddr) -> Option<IpAddr> {
        let bound = self.sip.filter(|ip| ip.is_ipv4() == remote.is_ipv4());
        bound.or_else(|| self.routes().towards(Instant::now(), remote))
    }

    fn is_own(&self, ip: IpAddr) -> bool {
        (self.sip, self.bind) == (None, None) && self.routes().is_own(Instant::now(), ip)
    }

    fn has(&self, ip: IpAddr) -> bool {
        self.routes().is_own(Instant::now(), ip)
    }

    fn candidates(&self) -> Vec<IpAddr> {
        if let Some(bind) = self.bind {
            return vec![bind];
        }
        let mut all = self.routes().own(Instant::now()).to_vec();
        all.retain(|ip| is_offered(*ip) && !(self.ipv4_only && ip.is_ipv6()));
        all.sort_by_key(|ip| !is_public(*ip));
        all
    }
}

/// Tells the core of addresses that were found, until it stops.
pub(super) async fn watch(stun: Option<String>, inbox: Inbox) {
    if let Some(server) = stun {
        return discover(server, inbox).await;
    }
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let found = Input::PublicAddresses { found: vec![own_address()], why: "the default route" };
        if !inbox.input(found).await {
            return;
        }
    }
}

async fn discover(server: String, inbox: Inbox) {
    let mut failing = false;
    loop {
        let seen = stun::seen_from(&server, 0).await.and_then(|(seen, _)| {
            let ip = seen.ip().to_canonical();
            anyhow::ensure!(is_offered(ip), "{server} says it is {ip}, which nobody can reach");
            Ok(ip)
        });
        let wait = match seen {
            Ok(ip) => {
                failing = false;
                let found = vec![ip];
                if !inbox.input(Input::PublicAddresses { found, why: "STUN" }).await {
                    return;
                }
                ASK
            }
            Err(e) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(
                        code = %Code::ADDRESS_UNKNOWN,
                        "the public address is not known, so browsers elsewhere may hear nothing: \
                         {e:#}"
                    );
                }
                ASK_AGAIN
            }
        };
        sleep(wait).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browsers_are_offered_what_they_can_reach() {
        let offered = |text: &str| is_offered(text.parse().expect("an address"));
        assert!(["10.0.0.2", "203.0.113.7", "fd00::2", "2001:db8::2"].into_iter().all(offered));
        let useless = ["127.0.0.1", "::1", "169.254.1.1", "fe80::1", "0.0.0.0", "224.0.0.1"];
        assert!(!useless.into_iter().any(offered));
        let bind = IpAddr::from([192, 0, 2, 7]);
        let (routes, sip) = (Mutex::default(), None);
        let bound = System { routes, sip, bind: Some(bind), ipv4_only: true };
        assert_eq!(bound.candidates(), [bind]);
        assert!(!bound.is_own(IpAddr::from([127, 0, 0, 1])), "its sockets cannot send from there");
    }
}
