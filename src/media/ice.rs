//! An ICE-lite responder for one end (RFC 8445 §2.5): it answers authenticated checks and follows
//! nomination.
//!
//! ```text
//!   any address --authentic check--> validated --USE-CANDIDATE--> nominated --SRTP--> selected
//! ```
//! Only validated addresses may send DTLS or SRTP; media goes to the selected one. The first
//! nominated address is selected at once, for DTLS must begin. Once there are keys, an address
//! that is nominated later is selected when authentic SRTP or SRTCP comes from it, which is how a
//! browser roams: a check proves its sender, but not its address, so a forged source would turn
//! the media against a third host (RFC 8445 §19.5.1).
//!
//! A NAT that forgets a browser's mapping gives it another address, which the browser does not
//! know: it checks again only with its next consent check, up to five seconds later, and hears
//! nothing until then. Its media tells at once. So authentic, fresh media from an unknown address
//! is asked back by one check of ours, a [`StrayProbe`]; the answer needs the browser's password,
//! and comes from where it is now. A lite agent need not do that, and nothing forbids it (RFC 8445
//! §2.5 has it send no checks to find a path; this one is in use).
//!
//! So is media from a validated address that is not nominated: Chromium speaks by a pair as soon as
//! it is checked, and nominates it by the next check, up to 3 s later.

use super::budget::PacketBudget;
use super::snapshot::{IceSnapshot, Resumed, offset};
use super::stun::{BindingRequest, BindingResponse, probe};
use crate::sdp::offer_answer::Ice;
use aws_lc_rs::hmac;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Consent: no authentic check for this long and the path is gone (RFC 7675 §5.1).
pub(crate) const CONSENT: Duration = Duration::from_secs(30);
/// An address that brought media within this time is its session's, whoever else checks from it.
const LIVE: Duration = Duration::from_secs(3);
/// Pairs of our credentials that serve at a time.
const GENERATIONS: usize = 2;
/// Addresses kept per end.
const MAX_VALIDATED: usize = 8;
/// Between two checks of ours to an address that media came from, and how many it gets.
const PROBE_AGAIN: Duration = Duration::from_millis(100);
const MOST_PROBES: usize = 10;

/// An address that authentic media came from, which is asked whether the browser is there.
#[derive(Debug)]
struct StrayProbe {
    address: SocketAddr,
    /// The checks it got: any may be answered yet, however far it is.
    sent: Vec<SentCheck>,
    last: Instant,
}

/// A check of ours.
#[derive(Debug)]
struct SentCheck {
    transaction: [u8; 12],
    /// The password that answers it.
    password: String,
}

/// The responder's state.
#[derive(Debug)]
pub(crate) struct IceLiteAgent {
    /// Our credentials, newest first; the older pair serves until the restart has settled.
    local: Vec<Ice>,
    /// Offered for a restart, and not answered yet.
    offered: Option<Ice>,
    remote: Option<Ice>,
    /// Ours and the peer's before the last restart: on a network that is back, a browser continues
    /// with a pair that it made under them.
    former: Option<(Ice, Ice)>,
    validated: Vec<(SocketAddr, Instant)>,
    selected: Option<SocketAddr>,
    /// Nominated since, and to be selected by what comes from it.
    nominated: Option<SocketAddr>,
    /// When authentic media last came from the selected address.
    heard: Option<Instant>,
    last_check: Option<Instant>,
    /// Consent has run out: nothing is sent until it is renewed.
    lapsed: bool,
    /// Where the browser may be by now.
    probe: Option<StrayProbe>,
    /// Checks of ours so far.
    probes: u32,
    /// Checks that are looked at from where the browser is known to be, and authentic ones that are
    /// answered elsewhere: each costs more than a packet.
    looked_at: PacketBudget,
    newcomers: PacketBudget,
}

/// What a check led to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Checked {
    /// Not for us or not authentic: no reply.
    Drop,
    /// Send this back; `selected` tells whether the media address changed.
    Reply { bytes: Vec<u8>, selected: bool },
}

impl IceLiteAgent {
    /// A responder with our credentials.
    pub(crate) fn new(local: Ice) -> IceLiteAgent {
        IceLiteAgent {
            local: vec![local],
            offered: None,
            remote: None,
            former: None,
            validated: Vec::new(),
            selected: None,
            nominated: None,
            heard: None,
            last_check: None,
            lapsed: false,
            probe: None,
            probes: 0,
            looked_at: PacketBudget::default(),
            newcomers: PacketBudget::default(),
        }
    }

    /// Returns it as a value, with times relative to `taken`.
    pub(super) fn snapshot(&self, taken: Instant) -> IceSnapshot {
        let at = |at: Option<Instant>| at.map(|at| offset(taken, at));
        IceSnapshot {
            local: self.local.clone(),
            remote: self.remote.clone(),
            validated: self.validated.iter().map(|(a, at)| (*a, offset(taken, *at))).collect(),
            selected: self.selected,
            nominated: self.nominated,
            heard: at(self.heard),
            last_check: at(self.last_check),
        }
    }

    /// From a value.
    pub(super) fn resume(from: IceSnapshot, times: Resumed) -> IceLiteAgent {
        let at = |at: Option<i64>| at.map(|at| times.at(at));
        let validated = from.validated.into_iter().take(MAX_VALIDATED);
        IceLiteAgent {
            local: from.local.into_iter().take(GENERATIONS).collect(),
            offered: None,
            remote: from.remote,
            former: None,
            validated: validated.map(|(a, at)| (a, times.at(at))).collect(),
            selected: from.selected,
            nominated: from.nominated,
            heard: at(from.heard),
            // Checks that came after it was written down are forgotten; killed again and again, a
            // process would remember none of the last half minute.
            last_check: at(from.last_check).map(|at| pardoned(at, times.age(), times.now)),
            lapsed: false,
            probe: None,
            probes: 0,
            looked_at: PacketBudget::default(),
            newcomers: PacketBudget::default(),
        }
    }

    /// Credentials of ours that an offer asks to restart with. The browser may check with them
    /// before its answer is here; those in use continue.
    pub(crate) fn offer(&mut self, restart: Ice) {
        self.offered = Some(restart);
    }

    /// New credentials of ours and the peer's (an answer, or a restart).
    pub(crate) fn set(&mut self, local: &Ice, remote: &Ice) {
        let before = self.local.first().cloned();
        if before.as_ref() != Some(local) {
            self.local.insert(0, local.clone());
            self.local.truncate(GENERATIONS);
        }
        self.offered.take_if(|offered| offered == local);
        if self.remote.as_ref() != Some(remote) {
            self.former = before.zip(self.remote.replace(remote.clone()));
            // A peer that did not answer under the earlier ones is checked again.
            self.probe = None;
        }
    }

    /// All our current ufrags, for the demultiplexer.
    pub(crate) fn ufrags(&self) -> impl Iterator<Item = &str> {
        self.local.iter().chain(&self.offered).map(|i| i.ufrag.as_str())
    }

    /// Takes a binding request; `secured` tells whether there are keys to prove an address by.
    pub(crate) fn check(
        &mut self,
        now: Instant,
        from: SocketAddr,
        request: &BindingRequest<'_>,
        secured: bool,
    ) -> Checked {
        let mut known = self.local.iter().chain(&self.offered);
        let Some(ours) = known.find(|i| i.ufrag == request.local_ufrag()) else {
            return Checked::Drop;
        };
        let known_here = self.validated.iter().any(|(a, _)| *a == from);
        if known_here && !self.looked_at.take(now) {
            return Checked::Drop;
        }
        if !request.is_authentic(&ours.pwd) || !known_here && !self.newcomers.take(now) {
            return Checked::Drop;
        }
        // Before the peer's description is known, our own password is proof enough (early checks).
        let current = self.local.first().is_some_and(|i| i.ufrag == ours.ufrag);
        if current && self.remote.as_ref().is_some_and(|r| r.ufrag != request.remote_ufrag()) {
            return Checked::Drop;
        }
        if request.controlled {
            return Checked::Reply { bytes: request.role_conflict(&ours.pwd), selected: false };
        }
        let bytes = request.success(from, &ours.pwd);
        self.last_check = Some(now);
        self.lapsed &= self.selected != Some(from);
        self.validate(now, from);
        let moved = self.selected != Some(from)
            && match self.selected {
                None => true,
                Some(_) => request.use_candidate && !secured,
            };
        if moved {
            (self.selected, self.nominated) = (Some(from), None);
        } else if request.use_candidate {
            self.nominated = Some(from).filter(|_| self.selected != Some(from));
        }
        Checked::Reply { bytes, selected: moved }
    }

    fn validate(&mut self, now: Instant, from: SocketAddr) {
        if let Some(entry) = self.validated.iter_mut().find(|(a, _)| *a == from) {
            entry.1 = now;
            return;
        }
        if self.validated.len() == MAX_VALIDATED {
            let oldest = (0..MAX_VALIDATED).min_by_key(|n| self.validated[*n].1).unwrap_or(0);
            self.validated.swap_remove(oldest);
        }
        self.validated.push((from, now));
    }

    /// Authentic, fresh SRTP came from an address that is not selected. Returns what to send there,
    /// which asks whether the browser is there; nothing moves by it.
    pub(crate) fn ask_back(&mut self, now: Instant, from: SocketAddr) -> Option<Vec<u8>> {
        if self.selected == Some(from) {
            return None;
        }
        let current = (self.local.first()?, self.remote.as_ref()?);
        let asked = self.probe.as_ref().filter(|probe| probe.address == from);
        let sent = asked.map_or(0, |probe| probe.sent.len());
        let soon = |probe: &StrayProbe| now.saturating_duration_since(probe.last) < PROBE_AGAIN;
        if self.probe.as_ref().is_some_and(soon) || sent == MOST_PROBES {
            return None;
        }
        // It may be there by a pair of either.
        let former = self.former.as_ref().filter(|_| !sent.is_multiple_of(2));
        let (ours, theirs) = former.map_or(current, |(ours, theirs)| (ours, theirs));
        self.probes = self.probes.wrapping_add(1);
        // Nobody else can tell it beforehand.
        let key = hmac::Key::new(hmac::HMAC_SHA256, ours.pwd.as_bytes());
        let name = hmac::sign(&key, format!("{from} {}", self.probes).as_bytes());
        let transaction = *name.as_ref().first_chunk()?;
        let check = probe(transaction, &ours.ufrag, theirs);
        let asked = SentCheck { transaction, password: theirs.pwd.clone() };
        match self.probe.as_mut().filter(|probe| probe.address == from) {
            Some(probe) => {
                probe.sent.push(asked);
                probe.last = now;
            }
            None => self.probe = Some(StrayProbe { address: from, sent: vec![asked], last: now }),
        }
        Some(check)
    }

    /// A response to a check of ours. Returns true if the browser is there, and media goes there
    /// from now on.
    pub(crate) fn on_response(
        &mut self,
        now: Instant,
        from: SocketAddr,
        response: &BindingResponse<'_>,
    ) -> bool {
        let Some(probe) = self.probe.as_ref().filter(|probe| probe.address == from) else {
            return false;
        };
        if !probe.sent.iter().any(|sent| response.answers(sent.transaction, &sent.password)) {
            return false;
        }
        self.probe = None;
        self.validate(now, from);
        (self.selected, self.nominated, self.lapsed) = (Some(from), None, false);
        (self.heard, self.last_check) = (Some(now), Some(now));
        true
    }

    /// Authentic SRTP or SRTCP came from a validated address: if it was nominated last, media goes
    /// there from now on. Returns true if it goes elsewhere than before.
    pub(crate) fn on_media(&mut self, now: Instant, from: SocketAddr) -> bool {
        let moves = self.nominated == Some(from);
        if moves {
            (self.selected, self.nominated, self.lapsed) = (Some(from), None, false);
        }
        if self.selected == Some(from) {
            self.heard = Some(now);
        }
        moves
    }

    /// Whether media comes from `address` at this time, so that no other session may have it.
    pub(crate) fn holds(&self, now: Instant, address: SocketAddr) -> bool {
        let lives = |heard: Instant| now.saturating_duration_since(heard) < LIVE;
        self.selected == Some(address) && self.heard.is_some_and(lives)
    }

    /// Whether DTLS and SRTP from `from` may be looked at.
    pub(crate) fn is_validated(&self, from: SocketAddr) -> bool {
        self.validated.iter().any(|(a, _)| *a == from)
    }

    /// Where media goes; nowhere without consent.
    pub(crate) fn selected(&self) -> Option<SocketAddr> {
        self.selected.filter(|_| !self.lapsed)
    }

    /// The validated addresses, and the one that is asked.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        let asked = self.probe.iter().map(|probe| probe.address);
        self.validated.iter().map(|(a, _)| *a).chain(asked)
    }

    /// Nobody read checks for `stall`.
    pub(crate) fn overslept(&mut self, now: Instant, stall: Duration) {
        self.last_check = self.last_check.map(|at| pardoned(at, stall, now));
    }

    /// When consent runs out, once any check has come.
    pub(crate) fn consent_ends(&self) -> Option<Instant> {
        self.last_check.filter(|_| !self.lapsed).map(|at| at + CONSENT)
    }

    /// When the last authentic check came.
    pub(crate) fn last_check(&self) -> Option<Instant> {
        self.last_check
    }

    /// Whether consent has run out, and was not renewed.
    pub(crate) fn is_lapsed(&self) -> bool {
        self.lapsed
    }

    /// Consent has run out: nothing may be sent (RFC 7675 §5.1).
    pub(crate) fn lapse(&mut self) {
        self.lapsed = true;
    }
}

/// Returns when the last check counts as come if nobody read any for `unread`: consent does not run
/// meanwhile (RFC 7675 §5.1 is about the browser's silence, not ours).
fn pardoned(last_check: Instant, unread: Duration, now: Instant) -> Instant {
    (last_check + unread).min(now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::stun::binding_request;

    fn ice(name: &str) -> Ice {
        Ice { ufrag: name.into(), pwd: format!("{name}-password-of-22-chars") }
    }

    fn addr(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn check(responder: &mut IceLiteAgent, now: Instant, port: u16, bytes: &[u8]) -> Checked {
        BindingRequest::parse(bytes)
            .map_or(Checked::Drop, |r| responder.check(now, addr(port), &r, false))
    }

    #[test]
    fn an_authentic_check_validates_and_nomination_selects_and_roams() {
        let now = Instant::now();
        let mut responder = IceLiteAgent::new(ice("ours"));
        responder.set(&ice("ours"), &ice("theirs"));
        let make = |nominate| binding_request([7; 12], "ours:theirs", &ice("ours").pwd, nominate);
        assert!(matches!(
            check(&mut responder, now, 1000, &make(false)),
            Checked::Reply { selected: true, .. }
        ));
        assert!(matches!(
            check(&mut responder, now, 2000, &make(false)),
            Checked::Reply { selected: false, .. }
        ));
        assert_eq!(responder.selected(), Some(addr(1000)));
        assert!(matches!(
            check(&mut responder, now, 2000, &make(true)),
            Checked::Reply { selected: true, .. }
        ));
        assert_eq!(responder.selected(), Some(addr(2000)));
        assert!(responder.is_validated(addr(1000)) && !responder.is_validated(addr(3000)));
    }

    #[test]
    fn with_keys_a_nominated_address_is_selected_by_its_media_only() {
        let now = Instant::now();
        let mut agent = IceLiteAgent::new(ice("ours"));
        agent.set(&ice("ours"), &ice("theirs"));
        let bytes = binding_request([7; 12], "ours:theirs", &ice("ours").pwd, true);
        let request = BindingRequest::parse(&bytes).expect("a check");
        agent.check(now, addr(1000), &request, false);
        agent.check(now, addr(2000), &request, true);
        assert_eq!(agent.selected(), Some(addr(1000)), "a check proves no address");
        agent.on_media(now, addr(1000));
        assert_eq!(agent.selected(), Some(addr(1000)));
        agent.on_media(now, addr(2000));
        assert_eq!(agent.selected(), Some(addr(2000)));
        assert!(agent.holds(now, addr(2000)) && !agent.holds(now, addr(1000)));
        assert!(!agent.holds(now + LIVE, addr(2000)));
        // Back at the old one: nominated again, and heard.
        agent.check(now, addr(1000), &request, true);
        agent.check(now, addr(2000), &request, true);
        agent.on_media(now, addr(1000));
        assert_eq!(agent.selected(), Some(addr(2000)), "the newest nomination counts");
    }

    #[test]
    fn forged_checks_get_no_reply_and_move_nothing() {
        let now = Instant::now();
        let mut responder = IceLiteAgent::new(ice("ours"));
        responder.set(&ice("ours"), &ice("theirs"));
        let good = binding_request([1; 12], "ours:theirs", &ice("ours").pwd, true);
        let mut forged = vec![
            binding_request([1; 12], "ours:theirs", "wrong-password", true),
            binding_request([1; 12], "ours:others", &ice("ours").pwd, true),
            binding_request([1; 12], "other:theirs", &ice("ours").pwd, true),
            binding_request([1; 12], "", &ice("ours").pwd, true),
            good[..good.len() - 1].to_vec(),
            good[..20].to_vec(),
            [&good[..], &[0, 0x25, 0, 0]].concat(),
        ];
        for at in [0usize, 2, 3, 5, 21, 30, good.len() - 3, good.len() - 20] {
            let mut bent = good.clone();
            bent[at] ^= 0x41;
            forged.push(bent);
        }
        for bytes in &forged {
            assert_eq!(check(&mut responder, now, 666, bytes), Checked::Drop, "{bytes:?}");
        }
        assert_eq!(responder.selected(), None);
        assert!(!responder.is_validated(addr(666)));
    }

    #[test]
    fn a_flood_of_authentic_checks_is_answered_as_a_calls_worth() {
        let start = Instant::now();
        let mut agent = IceLiteAgent::new(ice("ours"));
        agent.set(&ice("ours"), &ice("theirs"));
        let bytes = binding_request([7; 12], "ours:theirs", &ice("ours").pwd, false);
        let mut answered = |from: Instant, ports: fn(u16) -> u16| {
            let at = |n: u16| from + Duration::from_micros(100 * u64::from(n));
            let answers = |n: &u16| check(&mut agent, at(*n), ports(*n), &bytes) != Checked::Drop;
            (0..10_000).filter(answers).count()
        };
        let known = answered(start, |_| 1_000);
        assert!((590..=610).contains(&known), "{known} in a second");
        // From one port after the other it is no more, and keeps nobody from where it was.
        let news = answered(start + Duration::from_secs(2), |n| 2_000 + n);
        assert!((590..=610).contains(&news), "{news} in a second");
        assert!(answered(start + Duration::from_secs(4), |_| 11_999) > 500);
    }

    #[test]
    fn an_end_has_eight_validated_addresses_and_the_oldest_makes_room() {
        let now = Instant::now();
        let mut responder = IceLiteAgent::new(ice("ours"));
        responder.set(&ice("ours"), &ice("theirs"));
        let bytes = binding_request([7; 12], "ours:theirs", &ice("ours").pwd, false);
        for n in 0..3 * MAX_VALIDATED as u16 {
            let at = now + std::time::Duration::from_millis(u64::from(n));
            check(&mut responder, at, 1_000 + n, &bytes);
            assert!(responder.validated.len() <= MAX_VALIDATED);
            assert!(responder.is_validated(addr(1_000 + n)));
        }
        assert!(!responder.is_validated(addr(1_001)));
    }
}
