//! Whose a browser's datagram is: by the address it comes from, by the credentials a check names,
//! and by the source of media that comes from elsewhere than before.

use super::{LiveSession, Running};
use crate::ids::IdMap;
use crate::media::session::LegRoutes;
use crate::media::stun::BindingRequest;
use crate::media::{LegId, Port};
use crate::rtp::packet::{DatagramKind as PacketKind, ssrc_of};
use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

/// Keyed by what peers choose: seeded at random, so that they cannot choose what collides.
type SessionRoutes<K> = HashMap<K, (u64, LegId), foldhash::quality::RandomState>;

/// All that leads to sessions.
#[derive(Default)]
pub(super) struct RouteTable {
    by_address: SessionRoutes<SocketAddr>,
    by_ufrag: SessionRoutes<String>,
    by_ssrc: SessionRoutes<u32>,
}

/// What of it leads to one session.
#[derive(Default)]
pub(super) struct OwnRoutes {
    ufrags: Vec<(LegId, String)>,
    /// Its addresses, by end.
    pub(super) addresses: Vec<(LegId, SocketAddr)>,
    ssrcs: Vec<(LegId, u32)>,
}

impl OwnRoutes {
    /// Takes out what leads to one end.
    pub(super) fn take_of(&mut self, end: LegId) -> OwnRoutes {
        OwnRoutes {
            ufrags: self.ufrags.extract_if(.., |(e, _)| *e == end).collect(),
            addresses: self.addresses.extract_if(.., |(e, _)| *e == end).collect(),
            ssrcs: self.ssrcs.extract_if(.., |(e, _)| *e == end).collect(),
        }
    }
}

impl RouteTable {
    /// Whose datagrams from there are.
    pub(super) fn of(&self, address: SocketAddr) -> Option<(u64, LegId)> {
        self.by_address.get(&address).copied()
    }

    /// Has what leads to an end be just this, except for what is another's. Returns what no longer
    /// does.
    fn refresh(
        &mut self,
        (now, id, end): (Instant, u64, LegId),
        sessions: &mut IdMap<u64, LiveSession>,
    ) -> OwnRoutes {
        let Some(live) = sessions.get(&id) else { return OwnRoutes::default() };
        let LegRoutes { ufrags, mut addresses, ssrc } = live.session.routes(end);
        // A check from an address that another session's media comes from takes nothing from it.
        addresses.retain(|address| {
            let other = self.of(*address).filter(|route| *route != (id, end));
            let other = other.and_then(|(id, end)| Some((sessions.get(&id)?, end)));
            !other.is_some_and(|(live, end)| live.session.holds(now, end, *address))
        });
        // Nor does who sends with another's source.
        let ssrc = ssrc.filter(|ssrc| *self.by_ssrc.entry(*ssrc).or_insert((id, end)) == (id, end));
        let Some(live) = sessions.get_mut(&id) else { return OwnRoutes::default() };
        let mut before = live.routes.take_of(end);
        for ufrag in ufrags {
            self.by_ufrag.insert(ufrag.clone(), (id, end));
            live.routes.ufrags.push((end, ufrag));
        }
        for address in addresses {
            self.by_address.insert(address, (id, end));
            live.routes.addresses.push((end, address));
        }
        live.routes.ssrcs.extend(ssrc.map(|ssrc| (end, ssrc)));
        before.ufrags.retain(|own| !live.routes.ufrags.contains(own));
        before.addresses.retain(|own| !live.routes.addresses.contains(own));
        before.ssrcs.retain(|own| !live.routes.ssrcs.contains(own));
        before
    }
}

/// Forgets routes of a session's ends, unless one leads to another end by now, as a browser's
/// address may.
fn drop_of<K: Hash + Eq>(routes: &mut SessionRoutes<K>, id: u64, gone: Vec<(LegId, K)>) {
    for (end, key) in gone {
        if routes.get(&key) == Some(&(id, end)) {
            routes.remove(&key);
        }
    }
}

impl Running {
    /// Finds an end by all that leads to it now.
    pub(super) fn refresh_routes(&mut self, now: Instant, id: u64, end: LegId) {
        let gone = self.routes.refresh((now, id, end), &mut self.sessions);
        self.drop_routes(id, gone);
    }

    /// Nothing finds the session by these any more.
    pub(super) fn drop_routes(&mut self, id: u64, gone: OwnRoutes) {
        let OwnRoutes { ufrags, addresses, ssrcs } = gone;
        drop_of(&mut self.routes.by_ufrag, id, ufrags);
        drop_of(&mut self.routes.by_ssrc, id, ssrcs);
        let remotes: Vec<SocketAddr> = addresses.iter().map(|(_, address)| *address).collect();
        drop_of(&mut self.routes.by_address, id, addresses);
        // A connection is of one call; its place is another's once the call is over.
        for remote in remotes.into_iter().filter(|r| self.routes.of(*r).is_none()) {
            self.streams.end(self.poll.registry(), remote);
            self.sources.forget(remote);
        }
    }

    /// Returns false if nobody here knows what to do with it.
    pub(super) fn browser_sent(
        &mut self,
        now: Instant,
        from: SocketAddr,
        local: Option<IpAddr>,
        datagram: &mut [u8],
    ) -> bool {
        if PacketKind::of(datagram) == PacketKind::Stun {
            return self.checked(now, from, local, datagram);
        }
        let Some((id, end)) = self.routes.of(from) else { return false };
        self.on_session(id, now, |s, now, sink| {
            s.receive(now, Port::Browser, end, from, datagram, sink)
        });
        true
    }

    /// A connectivity check is answered from where it was sent to, and where it nominates its path,
    /// all else goes by that path too.
    fn checked(
        &mut self,
        now: Instant,
        from: SocketAddr,
        local: Option<IpAddr>,
        datagram: &mut [u8],
    ) -> bool {
        let Some(request) = BindingRequest::parse(datagram) else {
            return self.responded(now, from, local, datagram);
        };
        let nominates = request.use_candidate;
        let Some(&route) = self.routes.by_ufrag.get(request.local_ufrag()) else { return false };
        let (id, end) = route;
        self.answer(now, route, (from, local), datagram);
        let fresh = self.routes.of(from) != Some(route);
        if fresh || self.is_new_source(id, end) {
            self.refresh_routes(now, id, end);
        }
        if self.answered && (nominates || fresh) {
            self.learn_source(now, route, (from, local));
        }
        true
    }

    /// What answers a check of ours; false: nothing was asked there.
    fn responded(
        &mut self,
        now: Instant,
        from: SocketAddr,
        local: Option<IpAddr>,
        datagram: &mut [u8],
    ) -> bool {
        let Some(route) = self.routes.of(from) else { return false };
        self.answer(now, route, (from, local), datagram);
        let (id, end) = route;
        if self.sessions.get(&id).is_some_and(|live| live.session.holds(now, end, from)) {
            self.learn_source(now, route, (from, local));
        }
        true
    }

    /// Media from an unknown address: its SSRC may be that of a browser that a NAT has moved. The
    /// browser is asked back, from the address the media came to.
    pub(super) fn strayed(
        &mut self,
        now: Instant,
        from: SocketAddr,
        local: Option<IpAddr>,
        datagram: &mut [u8],
    ) {
        let route = (PacketKind::of(datagram) == PacketKind::Rtp)
            .then(|| self.routes.by_ssrc.get(&ssrc_of(datagram)?).copied());
        let Some((id, end)) = route.flatten() else { return };
        self.answer(now, (id, end), (from, local), datagram);
        if self.answered || local.is_none() {
            self.refresh_routes(now, id, end);
        }
    }

    /// Gives a datagram to a session; the reply leaves from the address the datagram came to.
    fn answer(
        &mut self,
        now: Instant,
        (id, end): (u64, LegId),
        (from, local): (SocketAddr, Option<IpAddr>),
        datagram: &mut [u8],
    ) {
        self.answering = local.map(|local| (from, self.sources.answer(local)));
        self.on_session(id, now, |s, now, sink| {
            s.receive(now, Port::Browser, end, from, datagram, sink)
        });
        self.answering = None;
    }

    /// All that goes there leaves by where its path leads to.
    fn learn_source(
        &mut self,
        now: Instant,
        route: (u64, LegId),
        (from, local): (SocketAddr, Option<IpAddr>),
    ) {
        if self.routes.of(from) == Some(route)
            && local.is_some_and(|local| self.sources.learn(now, from, local))
        {
            self.on_session(route.0, now, |session, now, sink| {
                session.mark_changed();
                session.fire(now, sink);
            });
        }
    }

    /// Whether an end's media has another source than what is known.
    fn is_new_source(&self, id: u64, end: LegId) -> bool {
        let Some(live) = self.sessions.get(&id) else { return false };
        let ssrc = live.session.ssrc_heard(end);
        ssrc.is_some_and(|ssrc| !live.routes.ssrcs.contains(&(end, ssrc)))
    }
}
