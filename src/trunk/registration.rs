//! Our registration with a carrier (RFC 3261 §10.2, RFC 3608): when to register, refresh, back off.
//!
//! ```text
//!   Idle --due--> Trying --200--> Registered --due--> Trying
//!                   | --401/407--> Trying (digest; once, or again if stale)
//!                   | --423--> Trying (longer) ; other --> Waiting --due--> Trying
//! ```

use crate::config::TrunkUri;
use crate::sip::digest::Answering;
use crate::sip::header::{NameAddr, delta_seconds};
use crate::sip::message::Message;
use crate::sip::parse::HeaderName;
use crate::sip::uri::Uri;
use std::fmt;
use std::time::{Duration, Instant};

/// First pause after a failure, and the longest (RFC 5626 §4.5's figures).
const BACK_OFF: Duration = Duration::from_secs(30);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(1_800);
/// A refusal of our credentials is not tried again soon: it would lock the account.
const REFUSED: Duration = Duration::from_secs(600);

/// How soon it is looked at again whether another node still registers.
const LEFT: Duration = Duration::from_secs(1);

/// A registration that is granted for less is refreshed no more often than this one would be,
/// seconds.
const SHORTEST: u32 = 20;
/// Longer times a registrar may ask for, one after the other.
const MAX_TOO_BRIEF: u8 = 3;

/// Where it stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum RegistrationState {
    Idle,
    Trying,
    Registered { until: Instant },
    Waiting { why: String },
}

/// One registrar of one trunk.
#[derive(Debug)]
pub(crate) struct Registration {
    /// The registrar.
    pub registrar: TrunkUri,
    /// How far it has come.
    pub state: RegistrationState,
    expires: u32,
    next: Option<Instant>,
    failures: u32,
    /// Nobody was heard there: until it is tried again, another node may do better.
    gives_way_until: Option<Instant>,
    /// 423s in a row.
    too_brief: u8,
    /// The same for all its REGISTERs (§10.2): Call-ID, and a CSeq that grows.
    pub call_id: String,
    /// The CSeq of the newest REGISTER.
    pub cseq: u32,
    /// Credentials for its challenges.
    pub answering: Answering,
    /// RFC 3608: the route of requests to this carrier.
    pub service_route: Vec<String>,
}

/// What a response asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum NextRegistration {
    /// Nothing until it falls due again.
    Nothing,
    /// Send again at once: with credentials, or a longer time.
    Again,
    Registered {
        expires: u32,
        first: bool,
    },
    Failed {
        why: String,
        again_in: Duration,
    },
}

impl Registration {
    /// Due at once.
    pub(crate) fn new(now: Instant, registrar: TrunkUri, expires: u32) -> Registration {
        let answering = Answering::default();
        Registration {
            registrar,
            state: RegistrationState::Idle,
            expires,
            next: Some(now),
            failures: 0,
            gives_way_until: None,
            too_brief: 0,
            call_id: String::new(),
            cseq: 0,
            answering,
            service_route: Vec::new(),
        }
    }

    /// Whether it must be sent now; said once.
    pub(crate) fn is_due(&mut self, now: Instant) -> bool {
        let due = self.next.is_some_and(|at| at <= now);
        if due {
            self.next = None;
        }
        due
    }

    /// When it falls due.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.next
    }

    /// Somebody else registers: looked at again soon.
    pub(crate) fn leave(&mut self, now: Instant, why: String) {
        self.state = RegistrationState::Waiting { why };
        self.next = Some(now + LEFT);
    }

    /// Whether another node is to register, if one node does: from here nobody was heard.
    pub(crate) fn gives_way(&self, now: Instant) -> bool {
        self.gives_way_until.is_some_and(|until| now < until)
    }

    /// A REGISTER is about to be sent: its CSeq and the seconds asked for.
    pub(crate) fn sending(&mut self) -> (u32, u32) {
        if !matches!(self.state, RegistrationState::Registered { .. }) {
            self.state = RegistrationState::Trying;
        }
        self.cseq += 1;
        (self.cseq, self.expires)
    }

    /// The registrar answered. `contact` is what we registered; `chance` (0 to 255) is the jitter.
    pub(crate) fn answered(
        &mut self,
        now: Instant,
        response: &Message,
        contact: &str,
        chance: u8,
    ) -> NextRegistration {
        match response.status() {
            100..=199 => NextRegistration::Nothing,
            200..=299 => self.on_registered(now, response, contact, chance),
            401 | 407 if self.answering.take(response) => NextRegistration::Again,
            401 | 403 | 407 => self.fail(
                now,
                format!("{} refuses our credentials ({})", self.registrar.host, response.status()),
                REFUSED,
            ),
            423 => {
                let longer = response
                    .header(HeaderName::MinExpires)
                    .and_then(delta_seconds)
                    .filter(|m| *m > self.expires && *m <= 86_400);
                self.too_brief += 1;
                match longer.filter(|_| self.too_brief <= MAX_TOO_BRIEF) {
                    Some(longer) => {
                        self.expires = longer;
                        NextRegistration::Again
                    }
                    None => self.on_failure(now, "423 without a usable Min-Expires".into(), chance),
                }
            }
            status => {
                let asked = response
                    .header(HeaderName::RetryAfter)
                    .and_then(delta_seconds)
                    .map(|s| Duration::from_secs(u64::from(s.min(3_600))));
                let why =
                    format!("{} said {status} {}", self.registrar.host, response.reason_phrase());
                match asked {
                    Some(asked) => {
                        // However short it says, the pause grows while it fails.
                        let least = Duration::from_secs(1 << self.failures.min(5));
                        self.failures += 1;
                        self.fail(now, why, asked.max(least))
                    }
                    None => self.on_failure(now, why, chance),
                }
            }
        }
    }

    /// Nothing came back, or nothing could be sent.
    pub(crate) fn on_failure(&mut self, now: Instant, why: String, chance: u8) -> NextRegistration {
        let longest = (BACK_OFF * 2u32.saturating_pow(self.failures.min(8))).min(LONGEST_BACK_OFF);
        self.failures += 1;
        // RFC 5626 §4.5: between half and the whole of it, so that a fleet does not come back
        // together.
        let again_in = longest / 2 + longest / 2 * u32::from(chance) / 255;
        self.gives_way_until = Some(now + again_in);
        self.fail(now, why, again_in)
    }

    fn fail(&mut self, now: Instant, why: String, again_in: Duration) -> NextRegistration {
        self.answering.forget();
        self.next = Some(now + again_in);
        self.service_route.clear();
        self.state = RegistrationState::Waiting { why: why.clone() };
        NextRegistration::Failed { why, again_in }
    }

    fn on_registered(
        &mut self,
        now: Instant,
        response: &Message,
        contact: &str,
        chance: u8,
    ) -> NextRegistration {
        let ours = |value: &&str| match (NameAddr::parse(value), Uri::parse(contact)) {
            (Ok(said), Ok(ours)) => {
                said.uri.user == ours.user
                    && said.uri.host.eq_ignore_ascii_case(ours.host)
                    && said.uri.port == ours.port
            }
            _ => false,
        };
        let mut contacts = response.values(HeaderName::Contact);
        // A registrar behind a proxy may name our binding as it sees it: the only one is ours.
        let only = || response.values(HeaderName::Contact).take(2);
        let own = contacts.find(ours).or_else(|| only().next().filter(|_| only().count() == 1));
        let own = own.and_then(|v| NameAddr::parse_lenient(v).ok());
        let granted = own.and_then(|c| c.params.get("expires").and_then(delta_seconds));
        let granted = granted
            .or_else(|| response.header(HeaderName::Expires).and_then(delta_seconds))
            .unwrap_or(self.expires)
            .max(SHORTEST);
        let first = !matches!(self.state, RegistrationState::Registered { .. });
        (self.failures, self.too_brief, self.gives_way_until) = (0, 0, None);
        self.answering.accepted();
        self.state =
            RegistrationState::Registered { until: now + Duration::from_secs(u64::from(granted)) };
        // What cannot be read would be refused by whoever gets it as a Route.
        let routes = response.values(HeaderName::ServiceRoute);
        let routes = routes.filter(|r| NameAddr::parse(r).is_ok());
        self.service_route = routes.take(8).map(str::to_owned).collect();
        // Between 80 and 90 % of the time, and never later than 5 s before its end.
        let after = granted * 8 / 10 + granted / 10 * u32::from(chance) / 255;
        self.next =
            Some(now + Duration::from_secs(u64::from(after.min(granted.saturating_sub(5)).max(5))));
        NextRegistration::Registered { expires: granted, first }
    }
}

impl fmt::Display for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = &self.registrar.host;
        match &self.state {
            RegistrationState::Idle | RegistrationState::Trying => {
                write!(f, "registering with {host}")
            }
            RegistrationState::Registered { .. } => write!(f, "registered with {host}"),
            RegistrationState::Waiting { why } => write!(f, "not registered with {host}: {why}"),
        }
    }
}
