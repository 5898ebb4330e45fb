//! What an operator may do to a running gateway, and look at: the API's side of the core.

use super::credential::Credential;
use super::logins::RememberedNames;
use super::{Gateway, Turn};
use crate::call::operator::PartyRole;
use crate::call::{Call, CallId, CallPhase, EndReason, HangupBy, Output};
use crate::config::Config;
use crate::errors::Code;
use crate::event::Event;
use crate::flow::{FlowState, Transport};
use crate::ids::CallKey;
use crate::registrar::Registrar;
use crate::sip::digest::Secret;
use crate::sip::status::Refusal;
use crate::sip::transaction::{Flow, Hop};
use crate::trunk::{Revision, TrunkState, Trunks};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

/// An operator's command; each is an [`Input`](super::Input) like any other.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "named for what is done")]
pub enum OperatorCommand {
    /// End a call with BYE, or refuse it with `status`.
    Kick { call: CallId, status: u16, why: String },
    /// Close every connection of a user; its calls wait for it as for any lost connection.
    Disconnect { user: String },
    /// Take new calls again.
    EndDrain,
    /// A trunk gets no calls any more, or gets them again.
    Switch { trunk: String, enabled: bool },
    /// Send OPTIONS now.
    Probe { trunk: String },
}

/// What is done to a call's two parties.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "named for what is done")]
pub enum CallAction {
    /// Digits towards one side.
    Press { side: PartyRole, digits: String },
    /// This side is connected with a number, the other let go.
    HandOver { side: PartyRole, to: String },
    /// The two are separated, or joined again.
    Separate(bool),
}

/// Another configuration, and what leads to it from the one in force: made where it holds nobody
/// up.
#[derive(Debug)]
pub struct Revised {
    config: Arc<Config>,
    trunks: Vec<Revision>,
    /// What changed, for the log.
    changes: String,
}

impl Revised {
    /// What leads from `before` to `after`.
    pub(crate) fn new(now: Instant, before: &Config, after: Config, changes: String) -> Revised {
        let trunks = Revision::between(now, before, &after);
        Revised { config: Arc::new(after), trunks, changes }
    }

    /// The configuration that will be in force.
    pub(crate) fn config(&self) -> &Config {
        &self.config
    }
}

/// What a reload left.
pub(crate) struct Replaced {
    _config: Arc<Config>,
    _logins: RememberedNames,
}

impl Gateway {
    /// Applies an action to a live call; `None` if there is none.
    ///
    /// # Errors
    /// Why it cannot be done now.
    pub fn act_on_call(
        &mut self,
        now: Instant,
        call: CallId,
        action: &CallAction,
        out: &mut Vec<Output>,
    ) -> Option<Result<(), Refusal>> {
        let turn = &mut Turn::new(now, out);

        let before = turn.out.len();
        let done = self.with_call(turn, call, |call, cx| match action {
            CallAction::Press { side, digits } => call.press(cx, *side, digits),
            CallAction::HandOver { side, to } => call.hand_over(cx, *side, to),
            CallAction::Separate(apart) => call.separate(cx, *apart),
        });
        self.follow_up(turn);
        self.sweep(turn.out);
        self.record_turn(turn.now, None, &turn.out[before.min(turn.out.len())..]);
        done
    }

    pub(super) fn operate(&mut self, turn: &mut Turn<'_>, command: OperatorCommand) {
        match command {
            OperatorCommand::Kick { call, status, why } => {
                if !self.is_active(call) {
                    return;
                }
                turn.push(Output::Event(Event::Kicked { call }));
                let why = Refusal::new(status, why).code(Code::KICKED);
                self.with_call(turn, call, |call, cx| {
                    call.finish(cx, EndReason::refused(HangupBy::Us, why))
                });
            }
            OperatorCommand::Disconnect { user } => {
                let flows =
                    self.services.registrar.bindings(turn.now, &user).into_iter().map(|b| b.flow);
                let proved = self
                    .services
                    .flows
                    .iter()
                    .filter(|(_, s)| s.user.as_deref() == Some(user.as_str()))
                    .map(|(f, _)| *f);
                let mut all: Vec<Flow> = flows.chain(proved).collect();
                all.sort_unstable();
                all.dedup();
                turn.out.extend(all.into_iter().map(Output::CloseFlow));
            }
            OperatorCommand::EndDrain => {
                if std::mem::take(&mut self.draining) {
                    turn.push(Output::Event(Event::DrainEnded {}));
                }
            }
            OperatorCommand::Switch { trunk, enabled } => {
                let Some(state) = self.services.trunks.get_mut(&trunk) else { return };
                if state.switch(turn.now, enabled) {
                    turn.push(Output::Event(Event::TrunkSwitched { trunk, enabled }));
                }
            }
            OperatorCommand::Probe { trunk } => {
                if let Some(state) = self.services.trunks.get_mut(&trunk) {
                    state.probe_now(turn.now);
                }
                self.trunks_due(turn);
            }
        }
    }

    /// Another configuration from now on. Calls that live continue under what they began with, but
    /// for limits; trunks that stay keep their health and registrations. `changes` is for the log.
    ///
    /// Returns what is of no use any more: it may be large, and is dropped elsewhere.
    pub(crate) fn reload(
        &mut self,
        now: Instant,
        revised: Revised,
        out: &mut Vec<Output>,
    ) -> Replaced {
        let Revised { config, trunks, changes } = revised;
        self.services.trunks.revise(now, trunks);
        self.recorder.limit(config.recorder);
        let logins = self.logins.reload(now, &self.config, &config);
        let config = std::mem::replace(&mut self.config, config);
        out.push(Output::Event(Event::Reloaded { changes }));
        Replaced { _config: config, _logins: logins }
    }

    /// New calls use the addresses that were found.
    pub(super) fn public_addresses(
        &mut self,
        found: Vec<IpAddr>,
        why: &'static str,
        out: &mut Vec<Output>,
    ) {
        if !self.config.public_auto || found.is_empty() || found == self.config.public_ips {
            return;
        }
        let mut config = (*self.config).clone();
        let before = std::mem::replace(&mut config.public_ips, found.clone());
        self.config = Arc::new(config);
        out.push(Output::Event(Event::AddressesChanged { before, now: found, why }));
    }

    /// Calls that have no record yet.
    pub fn live_calls(&self) -> impl Iterator<Item = &Call> {
        self.calls.all_unrecorded()
    }

    /// The calls that live and began before `key`, or all of them, the newest first.
    pub(crate) fn live_before(&self, key: Option<CallKey>) -> impl Iterator<Item = &Call> {
        self.calls.unrecorded_before(key)
    }

    /// When the oldest call that lives began.
    pub(crate) fn oldest_live(&self) -> Option<Instant> {
        self.calls.oldest()
    }

    /// A call that lives.
    pub(crate) fn live_call(&self, call: CallId) -> Option<&Call> {
        self.calls.unrecorded(call)
    }

    /// Whether something can still be done to a call: it lives, and has not been ended.
    pub(crate) fn is_active(&self, call: CallId) -> bool {
        self.live_call(call).is_some_and(|call| call.state() != CallPhase::Over)
    }

    /// The registrar.
    pub(crate) fn registrar(&self) -> &Registrar {
        &self.services.registrar
    }

    /// What carries a message on `hop`.
    pub(crate) fn transport(&self, hop: Hop) -> Transport {
        Transport::of(hop, &self.services.flows)
    }

    /// The connection behind a flow.
    pub(crate) fn flow(&self, flow: Flow) -> Option<&FlowState> {
        self.services.flows.get(&flow)
    }

    /// Trunks that come after `name`, or all, by name, with the calls each has.
    pub(crate) fn trunk_states_after(
        &self,
        name: Option<&str>,
    ) -> impl Iterator<Item = (&String, &TrunkState, usize)> {
        self.services.trunks.after(name).map(|(name, state)| (name, state, self.calls_of(name)))
    }

    /// How many calls a trunk has.
    pub(crate) fn calls_of(&self, trunk: &str) -> usize {
        self.services.trunk_calls.of(trunk)
    }

    /// All of trunks' state.
    pub(crate) fn trunks(&self) -> &Trunks {
        &self.services.trunks
    }

    /// What it runs on now.
    pub fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// The wall clock, seconds since 1970.
    pub(crate) fn unix(&self, now: Instant) -> u64 {
        self.services.unix(now)
    }

    /// What a credential's password is made of: of those that lead past the dialplans nobody else
    /// knows it. `None` if such are not taken.
    pub(crate) fn secret_of(&self, credential: &Credential) -> Option<Secret> {
        credential.secret(&self.trunk_test_secret, self.config.credentials.as_ref())
    }

    /// INVITEs that became no call.
    pub(crate) fn refused(&self) -> u64 {
        self.refused
    }
}
