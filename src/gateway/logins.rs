//! Authentication of browsers: digest with a configured password, a credential with a time in it, a
//! password a web application knows, or a token. What has to be asked for first holds the request
//! until the answer is there.

mod by_token;
mod held;
mod remembered;

use self::by_token::{Bearer, bearer};
use self::held::{Awaited, HeldRequest, HeldRequests};
pub(super) use self::remembered::RememberedNames;
use super::admission::{Admitted, KnownCredentials, LoginSource};
use super::credential::{Credential, credential_fits};
use super::token::{TokenId, TokenKeys};
use super::turn::Screening;
use super::{Gateway, Turn};
use crate::address::network_of;
use crate::call::context::{Output, Question};
use crate::config::grant::Grant;
use crate::config::{Config, User};
use crate::errors::Code;
use crate::event::Event;
use crate::sip::digest::{Fresh, Secret};
use crate::sip::message::Message;
use crate::sip::parse::HeaderName;
use crate::sip::status::{Method, Refusal};
use crate::sip::transaction::{Flow, Hop, Transmit};
use rand_core::RngCore;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The key set is read again after this; after a failure sooner.
const KEYS_FRESH: Duration = Duration::from_secs(600);
const KEYS_AGAIN: Duration = Duration::from_secs(30);
/// What a web application said of a user is believed so long, unless it says for how long.
const REMEMBER: Duration = Duration::from_secs(60);
/// What it is believed for at least, and at most: the login that waits for it comes at once.
const REMEMBER_AT_LEAST: Duration = Duration::from_secs(1);
const REMEMBER_AT_MOST: Duration = Duration::from_secs(3_600);
/// Names a web application does not know are not asked again so soon.
const REMEMBER_NOBODY: Duration = Duration::from_secs(10);
/// What a web application has for its answer.
pub(crate) const ASK_LIMIT: Duration = Duration::from_secs(3);

/// The answer of a web application for a user it knows.
#[derive(Clone, PartialEq, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Answer to auth.user")]
pub struct Answered {
    /// The password the browser must log in with; it may be made for this visit.
    pub password: String,
    /// How long the answer is valid, "1s" to "1h". Default: "1m".
    pub ttl: Option<String>,
    /// What the user may do.
    #[serde(default)]
    pub grant: Grant,
}

/// The account that a login authenticated.
struct Proved {
    user: String,
    /// What it may do, if a grant beyond the configuration decides it.
    account: Option<Arc<User>>,
    /// Until when, seconds since 1970.
    until: Option<u64>,
    /// The token it was proved by, if that is good for one login.
    token: Option<TokenId>,
}

/// What is known of logins beyond the configuration.
#[derive(Default)]
pub(super) struct Logins {
    keys: Option<Arc<TokenKeys>>,
    /// When the key set is to be read again; `None`: it is being read, or no tokens are taken.
    keys_due: Option<Instant>,
    keys_asked: Option<Instant>,
    remembered: RememberedNames,
    held: HeldRequests,
}

impl Logins {
    pub(super) fn new(now: Instant, config: &Config) -> Logins {
        Logins { keys_due: config.auth.jwt.as_ref().map(|_| now), ..Logins::default() }
    }

    /// Names that were asked for, and requests that wait for the answer.
    pub(super) fn remembered(&self) -> usize {
        self.remembered.len() + self.held.len()
    }

    /// Another configuration: what was said of users is asked again, a key set of another place is
    /// read.
    pub(super) fn reload(
        &mut self,
        now: Instant,
        before: &Config,
        after: &Config,
    ) -> RememberedNames {
        if before.auth.jwt != after.auth.jwt {
            (self.keys, self.keys_asked, self.keys_due) =
                (None, None, after.auth.jwt.as_ref().map(|_| now));
        }
        std::mem::take(&mut self.remembered)
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.keys_due
    }

    /// Whether the key set may be asked for now: not while it is, nor right after.
    fn may_ask_keys(&self, now: Instant) -> bool {
        self.keys_asked.is_none_or(|at| now.saturating_duration_since(at) >= KEYS_AGAIN)
    }
}

impl Gateway {
    /// Proves the sender of an initial request on a WebSocket to be a user of ours.
    pub(super) fn admit(
        &mut self,
        turn: &mut Turn<'_>,
        flow: Flow,
        remote: SocketAddr,
        message: &Message,
    ) -> Screening {
        let claimed =
            message.from().map(|f| f.uri.user_unescaped().into_owned()).unwrap_or_default();
        self.admit_as(turn, flow, remote, message, &claimed)
    }

    /// As [`admit`](Self::admit), for a sender who must be `claimed`.
    pub(super) fn admit_as(
        &mut self,
        turn: &mut Turn<'_>,
        flow: Flow,
        remote: SocketAddr,
        message: &Message,
        claimed: &str,
    ) -> Screening {
        if message.method() != Method::Register && self.has_proved(turn.now, flow, claimed) {
            return Screening::Proceed;
        }
        let config = self.config.clone();
        match (bearer(message), &config.auth.jwt) {
            (Some(token), Some(settings)) => {
                let bearer = Bearer { claimed, token, settings };
                self.admit_token(turn, flow, remote, message, bearer)
            }
            _ => self.admit_digest(turn, flow, remote, message, claimed),
        }
    }

    /// Whether a flow has proved to be of this user, and still counts as that.
    fn has_proved(&self, now: Instant, flow: Flow, claimed: &str) -> bool {
        self.identity_of(now, flow).is_some_and(|f| f.user.as_deref() == Some(claimed))
    }

    fn admit_digest(
        &mut self,
        turn: &mut Turn<'_>,
        flow: Flow,
        remote: SocketAddr,
        message: &Message,
        claimed: &str,
    ) -> Screening {
        let (config, unix) = (self.config.clone(), self.unix(turn.now));
        let logins = &self.logins;
        let trunk_test_secret = &self.trunk_test_secret;
        let secret = |credential: &Credential| {
            credential.secret(trunk_test_secret, config.credentials.as_ref())
        };
        // A flow that proved to be this user continues, whatever others at its address guess; a
        // wrong password on it is refused like any other.
        let proved = self.has_proved(turn.now, flow, claimed);
        let named = self.admission.claimed(message);
        let own = named == claimed || Credential::parse(named).is_some_and(|c| c.user == claimed);
        let known = |name: &str| match Credential::parse(name).and_then(|c| Some((secret(&c)?, c)))
        {
            Some((secret, credential)) => match credential_fits(&config, &credential, unix) {
                Ok(()) => KnownCredentials::Password(credential.password(&secret)),
                Err(_) => KnownCredentials::Nobody,
            },
            None => match (config.users.get(name), logins.remembered.get(turn.now, name)) {
                (Some(user), _) | (None, Some(Some(user))) => {
                    KnownCredentials::Password(user.password.clone())
                }
                (None, None) if config.auth.webhook.is_some() && Credential::is_name(name) => {
                    KnownCredentials::Unasked
                }
                _ => KnownCredentials::Nobody,
            },
        };
        let from = LoginSource { ip: remote.ip(), proved: proved && own, forgeable: false };
        match self.admission.judge(turn.now, from, message, known) {
            Admitted::User(name) => match self.proved(turn.now, &name, remote.ip()) {
                Ok(proved) => self.prove(flow, claimed, proved),
                Err(why) => Screening::Refuse(Refusal::new(403, why).code(Code::LOGIN_REFUSED)),
            },
            Admitted::Unasked(name) => self.hold_for_user(
                turn,
                name,
                HeldRequest { flow, remote, message: message.clone() },
            ),
            Admitted::Refused(why) => {
                let name = self.admission.claimed(message);
                // Their time is no secret, and the only thing a page can do something about.
                let why = match Credential::parse(name).map(|c| credential_fits(&config, &c, unix))
                {
                    Some(Err(validate)) if why.code == Code::LOGIN_REFUSED => validate,
                    _ => why,
                };
                turn.push(Output::Event(Event::LoginRefused {
                    user: self.admission.claimed_briefly(message),
                    remote,
                    code: why.code,
                    why: why.why.clone(),
                }));
                Screening::Refuse(why)
            }
            Admitted::Challenge { stale } => {
                let random = self.services.random.next_u64();
                let fresh = Fresh { random, stale, only_for: None };
                let bytes = self.challenge(turn.now, message, fresh);
                turn.push(Output::Send(Transmit { hop: Hop::Flow(flow), bytes }));
                Screening::Handled
            }
        }
    }

    /// The account of a name whose password was right, which came from there.
    fn proved(&self, now: Instant, name: &str, ip: IpAddr) -> Result<Proved, String> {
        if let Some(credential) = Credential::parse(name).filter(|c| self.secret_of(c).is_some()) {
            let grant = Grant { context: credential.context.clone(), ..Grant::default() };
            let account = credential
                .context
                .is_some()
                .then(|| grant.user(&credential.user, Secret::new(""), None, &self.config))
                .transpose()?;
            let known = self.config.users.contains_key(&credential.user);
            // This machine itself is a proxy in front of us, or a test: others' address.
            let own = ip.to_canonical().is_loopback();
            let visits = !known && !own && !credential.is_direct_to_trunk();
            let network = visits.then(|| network_of(ip));
            let account = account.map(|user| User { network, ..Arc::unwrap_or_clone(user) });
            let account = account.map(Arc::new);
            let until = Some(credential.expires);
            return Ok(Proved { user: credential.user, account, until, token: None });
        }
        let account = if self.config.users.contains_key(name) {
            None
        } else {
            self.logins.remembered.get(now, name).flatten().cloned()
        };
        Ok(Proved { user: name.to_owned(), account, until: None, token: None })
    }

    /// The flow is this user's from now on, if that is who it claims to be.
    fn prove(&mut self, flow: Flow, claimed: &str, proved: Proved) -> Screening {
        if proved.user != claimed {
            return Screening::Refuse(Refusal::new(
                403,
                format!("{} may not speak for another user", proved.user),
            ));
        }
        if let Some(state) = self.services.flows.get_mut(&flow) {
            (state.user, state.account) = (Some(proved.user), proved.account);
            (state.until, state.token) = (proved.until, proved.token);
        }
        Screening::Proceed
    }

    /// It is known whether a token was used, or is not to be known.
    pub(super) fn replay_token(&mut self, turn: &mut Turn<'_>, token: TokenId) {
        self.replay(turn, &Awaited::Token(token));
    }

    /// Keeps a request until its question is answered; asks it if nobody has yet.
    fn hold(
        &mut self,
        awaited: Awaited,
        question: Option<Question>,
        held: HeldRequest,
        out: &mut Vec<Output>,
    ) -> Screening {
        match self.logins.held.keep(awaited, held) {
            None => return Screening::Refuse(unchecked()),
            Some(first) if first => out.extend(question.map(Output::Ask)),
            Some(_) => {}
        }
        Screening::Handled
    }

    /// Keeps a request until the web application has said who its user is.
    fn hold_for_user(&mut self, turn: &mut Turn<'_>, name: String, held: HeldRequest) -> Screening {
        let id = self.services.random.next_u64();
        let data = json!({
            "user": name,
            "remote": held.remote.ip().to_string(),
            "user_agent": held.message.header(HeaderName::UserAgent),
        });
        let timestamp = self.timestamp(turn.now);
        let body = json!({ "type": "auth.user", "timestamp": timestamp, "data": data }).to_string();
        let hook = self.config.auth.webhook.clone();
        let question = hook.map(|hook| Question::Login { id, name: name.clone(), hook, body });
        self.hold(Awaited::User(name), question, held, turn.out)
    }

    fn hold_for_keys(&mut self, turn: &mut Turn<'_>, held: HeldRequest) -> Screening {
        self.ask_keys(turn);
        self.hold(Awaited::Keys, None, held, turn.out)
    }

    fn ask_keys(&mut self, turn: &mut Turn<'_>) {
        let due = self.logins.keys_due.take();
        if let (Some(settings), true) = (&self.config.auth.jwt, due.is_some()) {
            self.logins.keys_asked = Some(turn.now);
            turn.push(Output::Ask(Question::Keys(settings.clone())));
        }
    }

    /// Reads the key set again when it is time.
    pub(super) fn logins_due(&mut self, turn: &mut Turn<'_>) {
        if self.logins.keys_due.is_some_and(|due| due <= turn.now) {
            self.ask_keys(turn);
        }
    }

    /// The key set is there, or is not to be had.
    pub(super) fn keys_answered(
        &mut self,
        turn: &mut Turn<'_>,
        answer: Result<Arc<TokenKeys>, String>,
    ) {
        let again = match answer {
            Ok(keys) => {
                self.logins.keys = Some(keys);
                KEYS_FRESH
            }
            Err(why) => {
                turn.push(Output::Event(Event::LoginUnchecked {
                    what: "the key set of auth.jwt",
                    why,
                }));
                KEYS_AGAIN
            }
        };
        self.logins.keys_due = self.config.auth.jwt.as_ref().map(|_| turn.now + again);
        self.replay(turn, &Awaited::Keys);
    }

    /// A web application said who a user is, that it knows none, or nothing.
    pub(super) fn login_answered(
        &mut self,
        turn: &mut Turn<'_>,
        name: String,
        answer: Result<Option<Box<Answered>>, String>,
    ) {
        let granted = answer
            .and_then(|answered| answered.map(|a| remembered(&name, &a, &self.config)).transpose());
        match granted {
            Ok(Some((user, time))) => {
                self.logins.remembered.put(turn.now, name.clone(), Some(user), time);
            }
            Ok(None) => {
                self.logins.remembered.put(turn.now, name.clone(), None, REMEMBER_NOBODY);
            }
            Err(why) => {
                turn.push(Output::Event(Event::LoginUnchecked {
                    what: "the web application of auth.webhook",
                    why,
                }));
                for held in self.logins.held.take(&Awaited::User(name)) {
                    if !self.services.flows.contains_key(&held.flow) {
                        continue;
                    }
                    self.respond_stateless(
                        Hop::Flow(held.flow),
                        &held.message,
                        &unchecked(),
                        turn.out,
                    );
                }
                return;
            }
        }
        self.replay(turn, &Awaited::User(name));
    }

    fn replay(&mut self, turn: &mut Turn<'_>, awaited: &Awaited) {
        for held in self.logins.held.take(awaited) {
            let (hop, call_id) = (Hop::Flow(held.flow), held.message.call_id().to_owned());
            self.received(turn, hop, held.remote, held.message.clone());
            // The recorder hears what arrives in this turn; this arrived in another.
            if self.recorder.call_of(&call_id).is_some() {
                self.record_received(turn.now, hop, &held.message);
            }
        }
    }

    fn timestamp(&self, now: Instant) -> String {
        jiff::Timestamp::from_second(self.unix(now) as i64)
            .map(|t| t.to_string())
            .unwrap_or_default()
    }
}

fn unchecked() -> Refusal {
    Refusal::new(503, "logins cannot be checked just now")
        .code(Code::LOGIN_UNCHECKED)
        .retry_after(5)
}

fn remembered(
    name: &str,
    answered: &Answered,
    config: &Config,
) -> Result<(Arc<User>, Duration), String> {
    let ttl = answered
        .ttl
        .as_deref()
        .map(|t| humantime::parse_duration(t).map_err(|e| format!("ttl {t:?}: {e}")))
        .transpose()?;
    if answered.password.is_empty() {
        return Err(format!("{name} is given an empty password"));
    }
    let user =
        answered.grant.granted_user(name, Secret::new(answered.password.clone()), None, config)?;
    Ok((user, ttl.unwrap_or(REMEMBER).clamp(REMEMBER_AT_LEAST, REMEMBER_AT_MOST)))
}

#[cfg(test)]
mod tests;
