//! REGISTER: browsers over their flows, and trunks that come to us from addresses we cannot know.

use super::admission::{Admitted, KnownCredentials, LoginSource};
use super::turn::Screening;
use super::{Gateway, Turn};
use crate::call::Output;
use crate::cluster::token::TemporaryGruu;
use crate::cluster::token::short;
use crate::errors::Code;
use crate::event::Event;
use crate::hex::token;
use crate::registrar::{Binding, FLOW_TIMER, MAX_EXPIRES, MIN_EXPIRES, RegisterContext};
use crate::sip::build::{MessageWriter, quoted};
use crate::sip::digest::{Algorithm, Fresh};
use crate::sip::header::delta_seconds;
use crate::sip::message::Message;
use crate::sip::parse::HeaderName;
use crate::sip::status::Refusal;
use crate::sip::transaction::{Flow, Hop, ServerId, Transmit};
use crate::trunk::TrunkBinding;
use rand_core::RngCore;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Clients that give up at a challenge they do not know, even if the next one is for them (seen
/// with baresip 1.1.0: "Function not implemented"); RFC 8760 §2.4 would have them continue.
const MD5_ONLY: [&str; 2] = ["baresip v1.", "baresip v0."];

/// What the user part of a temporary GRUU begins with.
pub(super) const TEMPORARY: &str = "tgruu.";

impl Gateway {
    pub(super) fn register(
        &mut self,
        turn: &mut Turn<'_>,
        id: ServerId,
        message: &Message,
        user: &str,
        flow: Flow,
    ) {
        let temp_gruu = self.temporary_gruu(user, message);
        let unix = self.unix(turn.now);
        let until = self.services.flows.get(&flow).and_then(|f| f.until);
        let longest = until.map(|until| until.saturating_sub(unix) as u32);
        let by = RegisterContext {
            flow,
            chance: self.services.random.next_u32() as u8,
            token: temp_gruu,
            longest,
        };
        // RFC 3261 §10.3 step 4: the address-of-record is in To, and must be the user's own.
        let own = message.to().is_some_and(|t| t.uri.user_unescaped() == user);
        let done = if own {
            let paced = self.services.brakes.registration(turn.now, user);
            paced.and_then(|()| self.services.registrar.register(turn.now, user, message, &by))
        } else {
            Err(Refusal::new(403, format!("{user} may register only itself")))
        };
        let done = match done {
            Ok(done) => done,
            Err(why) => return self.refuse(turn, id, message, &why),
        };
        if !done.bindings.is_empty() {
            self.proved = self.services.flows.get(&flow).map(|f| f.remote.ip());
        }
        let tag = token::<8>(&mut self.services.random);
        let mut response = MessageWriter::response(message, 200, Some(&tag));
        let gruu = message.lists(HeaderName::Supported, "gruu");
        for binding in &done.bindings {
            response.put(HeaderName::Contact, self.contact_value(turn.now, user, binding, gruu));
        }
        if message.lists(HeaderName::Supported, "path") {
            // RFC 3327 §5.3.
            message
                .values(HeaderName::Path)
                .take(8)
                .for_each(|p| response.put(HeaderName::Path, p));
        }
        if done.outbound && done.added {
            response.put(HeaderName::Require, "outbound");
            response.put(HeaderName::FlowTimer, FLOW_TIMER);
        }
        self.respond(turn, id, 200, response);
        if done.added || done.removed {
            self.registration_changed(turn, user);
        }
        if done.added {
            let user_agent = message.header(HeaderName::UserAgent).unwrap_or_default().to_owned();
            turn.push(Output::Event(Event::Registered {
                user: user.to_owned(),
                flows: done.bindings.len(),
                user_agent,
            }));
            let here: Vec<Binding> =
                done.bindings.iter().filter(|b| b.flow == flow).cloned().collect();
            here.iter().for_each(|b| self.browser_back(turn, user, b, &done.replaced));
        } else if done.removed {
            turn.push(Output::Event(Event::Unregistered {
                user: user.to_owned(),
                why: crate::event::UnregisterReason::Asked,
            }));
        }
    }

    /// The user part of a temporary GRUU for the phone that registers; in a cluster, each node can
    /// read it.
    fn temporary_gruu(&mut self, user: &str, message: &Message) -> String {
        let instance = message.contact().and_then(|contact| {
            contact.params.get("+sip.instance").map(str::to_owned).filter(|i| i.len() <= 256)
        });
        let sealed =
            self.services.cluster.as_ref().zip(instance).and_then(|(cluster, instance)| {
                let registered = short(Some(message.call_id()));
                let mut chance = [0; 12];
                self.services.random.fill_bytes(&mut chance);
                let names = TemporaryGruu { user: user.to_owned(), instance, registered };
                cluster.temporary_gruu(&names, chance)
            });
        sealed.unwrap_or_else(|| token::<16>(&mut self.services.random))
    }

    fn contact_value(&self, now: Instant, user: &str, binding: &Binding, gruu: bool) -> String {
        let left = binding.expires.saturating_duration_since(now).as_secs();
        let mut value = format!("<{}>;expires={left}", binding.contact);
        if let Some((instance, reg_id)) = &binding.instance {
            value.push_str(&format!(";+sip.instance=\"{instance}\";reg-id={reg_id}"));
            if gruu {
                // RFC 5627 §5.3 and §3.2.
                let urn = instance.trim_matches(['<', '>']);
                let (user, domain) = (crate::sip::uri::escape_user(user), &self.config.domain);
                value.push_str(&format!(";pub-gruu=\"sip:{user}@{domain};gr={urn}\""));
                if let Some(token) = &binding.temp_gruu {
                    value.push_str(&format!(";temp-gruu=\"sip:{TEMPORARY}{token}@{domain};gr\""));
                }
            }
        }
        value
    }

    /// Whether some trunk may register from anywhere, so that strangers are asked for credentials.
    pub(super) fn accepts_strangers(&self) -> bool {
        self.config.trunks.accept_registrations()
    }

    /// REGISTER of a trunk from an address that says nothing: digest decides. The 401 is stateless.
    pub(super) fn admit_trunk(
        &mut self,
        turn: &mut Turn<'_>,
        hop: Hop,
        remote: SocketAddr,
        message: &Message,
    ) -> Screening {
        let config = self.config.clone();
        let secret = |name: &str| config.trunks.of_login(name).and_then(|t| t.password.clone());
        let claimed = message.to().map(|t| t.uri.user_unescaped().into_owned()).unwrap_or_default();
        let bound =
            config.trunks.of_login(&claimed).and_then(|t| self.services.trunks.get(&t.name));
        let proved = bound.and_then(|t| t.bound.as_ref()).is_some_and(|b| b.hop == hop);
        let own = self.admission.claimed(message) == claimed;
        let from = LoginSource { ip: remote.ip(), proved: proved && own, forgeable: hop.is_udp() };
        match self.admission.judge(turn.now, from, message, |name: &str| {
            secret(name).map_or(KnownCredentials::Nobody, KnownCredentials::Password)
        }) {
            Admitted::User(user) if user == claimed => Screening::Proceed,
            Admitted::User(user) => Screening::Refuse(Refusal::new(
                403,
                format!("{user} may not register another name"),
            )),
            // Trunks are all written here.
            Admitted::Unasked(_) => Screening::Refuse(
                Refusal::new(403, "wrong user or password").code(Code::LOGIN_REFUSED),
            ),
            Admitted::Refused(why) => {
                turn.push(Output::Event(Event::LoginRefused {
                    user: self.admission.claimed_briefly(message),
                    remote,
                    code: why.code,
                    why: why.why.clone(),
                }));
                Screening::Refuse(why)
            }
            Admitted::Challenge { stale } => {
                let only_for = hop.is_udp().then(|| remote.ip());
                let fresh = Fresh { random: self.services.random.next_u64(), stale, only_for };
                let challenge = self.challenge(turn.now, message, fresh);
                if self.is_unproved(hop) {
                    self.challenge_unproved(turn, hop, message, fresh, challenge);
                } else {
                    turn.push(Output::Send(Transmit { hop, bytes: challenge }));
                }
                Screening::Handled
            }
        }
    }

    /// A 401 with our challenges.
    pub(super) fn challenge(
        &mut self,
        now: Instant,
        message: &Message,
        fresh: Fresh,
    ) -> bytes::Bytes {
        let tag = format!("{:016x}", fresh.random);
        let mut response = MessageWriter::response(message, 401, Some(&tag));
        let agent = message.header(HeaderName::UserAgent).unwrap_or_default();
        let confused =
            MD5_ONLY.iter().any(|known| agent.starts_with(known)) && self.config.allow_md5;
        for (algorithm, value) in self.admission.challenges(now, fresh) {
            if !confused || algorithm == Algorithm::Md5 {
                response.put(HeaderName::WwwAuthenticate, &value);
            }
        }
        if self.config.auth.jwt.is_some() {
            // Last: clients that read one challenge only know Digest.
            response.put(
                HeaderName::WwwAuthenticate,
                format_args!("Bearer realm={}", quoted(&self.config.domain)),
            );
        }
        response.end()
    }

    /// A 401 that says what is wrong with a token (RFC 8898 section 2.1.3, RFC 6750 section 3.1).
    pub(super) fn token_challenge(&mut self, message: &Message, why: &str) -> bytes::Bytes {
        let tag = token::<8>(&mut self.services.random);
        let mut response = MessageWriter::refusal(
            message,
            &Refusal::new(401, format!("token: {why}")).code(Code::TOKEN),
            &tag,
            &self.config.domain,
        );
        // RFC 6750 section 3: no quotes, backslashes or characters beyond ASCII in a description.
        let plain: String = why
            .chars()
            .map(|c| if (' '..='~').contains(&c) && c != '"' && c != '\\' { c } else { '\'' })
            .collect();
        response.put(
            HeaderName::WwwAuthenticate,
            format_args!(
                "Bearer realm={}, error=\"invalid_token\", error_description=\"{plain}\"",
                quoted(&self.config.domain)
            ),
        );
        response.end()
    }

    /// A proved trunk registers: it is where it came from, whatever its Contact says.
    pub(super) fn register_trunk(
        &mut self,
        turn: &mut Turn<'_>,
        id: ServerId,
        hop: Hop,
        remote: SocketAddr,
        message: &Message,
    ) {
        let user = message.to().map(|t| t.uri.user_unescaped().into_owned()).unwrap_or_default();
        let name = self.config.trunks.of_login(&user).map(|t| t.name.clone());
        let Some(name) = name else {
            return self.refuse(
                turn,
                id,
                message,
                &Refusal::new(403, "no trunk registers by this name"),
            );
        };
        let header = message.header(HeaderName::Expires).and_then(delta_seconds);
        let contact = message.contact();
        let asked = contact
            .as_ref()
            .and_then(|c| c.params.get("expires").and_then(delta_seconds))
            .or(header)
            .unwrap_or(MAX_EXPIRES);
        if asked > 0 && asked < MIN_EXPIRES {
            return self.refuse(
                turn,
                id,
                message,
                &Refusal::new(423, format!("registrations last at least {MIN_EXPIRES} s")),
            );
        }
        let star = message.header(HeaderName::Contact) == Some("*");
        let granted = asked.min(MAX_EXPIRES);
        match contact.map(|c| c.uri.text.to_owned()) {
            Some(contact) if granted > 0 && !star => {
                let expires = turn.now + Duration::from_secs(u64::from(granted));
                if self.services.trunks.bind(&name, TrunkBinding { hop, remote, contact, expires })
                {
                    turn.push(Output::Event(Event::TrunkArrived {
                        trunk: name.clone(),
                        remote,
                        expires: granted,
                    }));
                }
            }
            None if !star => {}
            _ => {
                if self.services.trunks.unbind(&name) {
                    turn.push(Output::Event(Event::TrunkGone { trunk: name.clone() }));
                }
            }
        }
        let tag = token::<8>(&mut self.services.random);
        let mut response = MessageWriter::response(message, 200, Some(&tag));
        if let Some(bound) = self.services.trunks.get(&name).and_then(|t| t.bound.as_ref()) {
            let left = bound.expires.saturating_duration_since(turn.now).as_secs();
            response.put(HeaderName::Contact, format_args!("<{}>;expires={left}", bound.contact));
        }
        self.respond(turn, id, 200, response);
        if let Hop::Flow(flow) = hop {
            self.unproved.clear(&flow);
        }
        if granted > 0 && !star {
            let calls = self.calls.of_trunk(&name);
            self.trunk_came_by(turn, (&name, hop), calls);
        }
        self.trunk_lives(turn, &name);
    }

    /// The connection a trunk registered over is gone.
    pub(super) fn trunk_flow_closed(&mut self, flow: Flow, out: &mut Vec<Output>) {
        for name in self.services.trunks.bound_on(flow) {
            self.services.trunks.unbind(&name);
            out.push(Output::Event(Event::TrunkGone { trunk: name }));
        }
    }
}
