//! The caller's identity as the callee sees it (RFC 3261 §8.1.1.3, RFC 3323, RFC 3325, RFC 5806,
//! RFC 7044).
//!
//! What a browser writes about itself is a wish; what a trunk writes counts if the trunk is
//! trusted. Everything is rebuilt from parts: no header of one leg reaches the other as it came.

use super::Call;
use crate::cdr::Party;
use crate::config::{Config, Trunk};
use crate::sip::build::{MessageWriter, name_addr};
use crate::sip::header::NameAddr;
use crate::sip::message::Message;
use crate::sip::parse::HeaderName;
use crate::sip::uri::escape_user;

/// The caller, as one callee may know it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Caller {
    display: String,
    number: String,
    /// The caller asked not to be shown.
    anonymous: bool,
    /// Redirections this gateway followed, the newest first: number, reason.
    followed: Vec<(String, String)>,
    /// Diversion values of a trusted trunk.
    diversions: Vec<(String, String)>,
    /// History-Info values: URI, index.
    history: Vec<(String, String)>,
}

/// Most Diversion or History-Info entries passed on.
const MAX_HISTORY: usize = 10;

fn wants_privacy(message: &Message) -> bool {
    let asks = message.all(HeaderName::Privacy).flat_map(|v| v.split([';', ','])).any(|p| {
        ["id", "user", "header", "session", "critical"]
            .iter()
            .any(|w| p.trim().eq_ignore_ascii_case(w))
    });
    let hidden = message.from().is_some_and(|f| {
        f.uri.user.is_some_and(|u| u.eq_ignore_ascii_case("anonymous"))
            || f.uri.host.eq_ignore_ascii_case("anonymous.invalid")
    });
    // What came before RFC 3325 says it in a parameter.
    let party =
        message.values(HeaderName::RemotePartyId).find_map(|v| NameAddr::parse_lenient(v).ok());
    let restricted = party.and_then(|p| p.params.get("privacy")).is_some_and(|p| {
        ["full", "uri", "name"].iter().any(|word| p.trim().eq_ignore_ascii_case(word))
    });
    asks || hidden || restricted
}

fn user_of(value: &str) -> Option<(String, String)> {
    let addr = NameAddr::parse_lenient(value).ok()?;
    Some((addr.display_name().into_owned(), addr.uri.number()))
}

impl Caller {
    /// The caller of `call` as `to` (a trunk), or a user, may know it.
    pub(crate) fn of(call: &Call, config: &Config, to: Option<&Trunk>) -> Caller {
        let invite = call.uas.invite();
        let mut caller = match &call.caller.party {
            Party::User { name, .. } => Caller::user(call, name, to.is_some()),
            _ => Caller::trunk(call, config),
        };
        if let (Some(presented_number), Party::Trunk(_) | Party::Internal(_)) =
            (call.transfer.presented_number(), &call.caller.party)
        {
            // The first callee is now the caller, known by the number that reached it. So is
            // whoever left what rings to another.
            (caller.number, caller.display) = (presented_number.to_owned(), String::new());
        }
        let template = call.route.caller_id().map(str::to_owned).filter(|_| to.is_some());
        if let Some(template) = template {
            // A transfer is made in the name of who asked for it: its numbers are the ones the
            // route may show.
            let user = call.transfer.referred_by().or(call.caller.account.as_ref());
            let did = user.and_then(|u| u.did.clone());
            let name = user.map(|u| u.name.clone()).unwrap_or_default();
            let filled = template.replace("{user.did}", did.as_deref().unwrap_or("anonymous"));
            caller.number =
                filled.replace("{user.name}", &name).replace("{caller}", &caller.number);
        }
        if caller.number.is_empty() {
            caller.number = "anonymous".into();
        }
        caller.anonymous |= wants_privacy(invite) || caller.number == "anonymous";
        caller.followed = call
            .route
            .diversions()
            .iter()
            .rev()
            .map(|d| (d.number.clone(), d.reason.to_owned()))
            .collect();
        caller
    }

    /// Number and name of the caller of `call` for its record, whoever may know them.
    pub(crate) fn recorded(call: &Call, config: &Config) -> (String, String) {
        let Party::User { name, .. } = &call.caller.party else {
            let caller = Caller::trunk(call, config);
            return (caller.number, caller.display);
        };
        let caller = Caller::user(call, name, true);
        let claimed = || call.uas.invite().from().map(|f| f.display_name().into_owned());
        let display = Some(caller.display).filter(|d| !d.is_empty()).or_else(claimed);
        (caller.number, display.unwrap_or_default())
    }

    /// A user shows its did, or the one of its numbers it prefers; towards other users its own
    /// name.
    fn user(call: &Call, name: &str, to_trunk: bool) -> Caller {
        let user = call.caller.account.as_ref();
        let display = user.and_then(|u| u.display_name.clone()).unwrap_or_default();
        let wish = call
            .uas
            .invite()
            .values(HeaderName::PPreferredIdentity)
            .find_map(user_of)
            .map(|(_, number)| number);
        let own =
            |n: &String| user.is_some_and(|u| u.did.as_ref() == Some(n) || u.numbers.contains(n));
        let number = match wish.filter(own) {
            Some(number) if to_trunk => number,
            _ if to_trunk => user.and_then(|u| u.did.clone()).unwrap_or_else(|| name.to_owned()),
            _ => name.to_owned(),
        };
        Caller {
            display,
            number,
            anonymous: false,
            followed: Vec::new(),
            diversions: Vec::new(),
            history: Vec::new(),
        }
    }

    fn trunk(call: &Call, config: &Config) -> Caller {
        let invite = call.uas.invite();
        let trunk = call.caller.party.trunk().and_then(|name| config.trunks.get(name));
        let trusted = trunk.is_some_and(|t| t.trusted);
        let from = invite.from();
        let from =
            from.map(|f| (f.display_name().into_owned(), f.uri.number())).unwrap_or_default();
        let asserted = invite
            .values(HeaderName::PAssertedIdentity)
            .chain(invite.values(HeaderName::RemotePartyId))
            .find_map(user_of)
            .filter(|_| trusted);
        let (display, number) = asserted.unwrap_or(from);
        let mut caller = Caller {
            display,
            number,
            anonymous: false,
            followed: Vec::new(),
            diversions: Vec::new(),
            history: Vec::new(),
        };
        if trusted {
            let diversion = |value: &str| {
                let addr = NameAddr::parse_lenient(value).ok()?;
                let reason = addr
                    .params
                    .get("reason")
                    .unwrap_or("unknown")
                    .chars()
                    .filter(|c| c.is_ascii_alphanumeric() || *c == '-')
                    .take(40)
                    .collect();
                Some((addr.uri.number(), reason))
            };
            caller.diversions = invite
                .values(HeaderName::Diversion)
                .filter_map(diversion)
                .take(MAX_HISTORY)
                .collect();
            let entry = |value: &str| {
                let addr = NameAddr::parse_lenient(value).ok()?;
                let index: String = addr
                    .params
                    .get("index")
                    .unwrap_or_default()
                    .chars()
                    .filter(|c| c.is_ascii_digit() || *c == '.')
                    .take(40)
                    .collect();
                Some((addr.uri.text.to_owned(), index))
            };
            caller.history = invite
                .values(HeaderName::HistoryInfo)
                .filter_map(entry)
                .take(MAX_HISTORY)
                .collect();
        }
        caller
    }

    /// The From value, without its tag.
    pub(crate) fn from(&self, host: &str, trunk: Option<&Trunk>) -> String {
        if self.anonymous {
            // RFC 3323 §4.1.1.3.
            return name_addr("Anonymous", "sip:anonymous@anonymous.invalid");
        }
        let rules = trunk.map(|t| &t.identity);
        let user = rules.and_then(|r| r.from_user.as_deref()).unwrap_or(&self.number);
        let host = rules.and_then(|r| r.from_domain.as_deref()).unwrap_or(host);
        let display = rules.and_then(|r| r.display_name.as_deref()).unwrap_or(&self.display);
        name_addr(display, &format!("sip:{}@{host}", escape_user(user)))
    }

    /// P-Asserted-Identity, Privacy, Diversion, History-Info towards a trunk.
    pub(crate) fn assert(&self, invite: &mut MessageWriter, host: &str, trunk: Option<&Trunk>) {
        let Some(trunk) = trunk else { return };
        let host = trunk.identity.from_domain.as_deref().unwrap_or(host);
        let address = |number: &str| format!("sip:{}@{host}", escape_user(number));
        // RFC 3325 §7: a caller that asked for privacy is named only within the trust domain.
        if trunk.identity.asserted
            && self.number != "anonymous"
            && (trunk.trusted || !self.anonymous)
        {
            let display = trunk.identity.display_name.as_deref().unwrap_or(&self.display);
            invite.put(HeaderName::PAssertedIdentity, name_addr(display, &address(&self.number)));
        }
        if self.anonymous {
            invite.put(HeaderName::Privacy, "id");
        }
        let theirs = self.diversions.iter().filter(|_| trunk.trusted);
        for (number, reason) in self.followed.iter().chain(theirs) {
            invite.put(
                HeaderName::Diversion,
                format_args!("{};reason={reason}", name_addr("", &address(number))),
            );
        }
        if trunk.trusted {
            for (uri, index) in &self.history {
                invite.put(
                    HeaderName::HistoryInfo,
                    format_args!("{};index={index}", name_addr("", uri)),
                );
            }
        }
    }
}
