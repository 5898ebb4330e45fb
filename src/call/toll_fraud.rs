//! What a call costs and whom: the brake on toll fraud looks before any trunk is tried.

use super::{Call, CallContext, CallId};
use crate::config::User;
use crate::dialplan::country_of;
use crate::event::Event;
use crate::fraud::{DialledNumber, Expense};
use crate::sip::status::Refusal;

impl Call {
    /// Judges where the dial step leads, and charges it to the transferor of the call, or
    /// had it begun, else who dialled, else whose phone redirected it.
    ///
    /// # Errors
    /// The brake on toll fraud holds who pays.
    pub(super) fn may_spend(&self, cx: &mut CallContext<'_>) -> Result<(), Refusal> {
        if self.route.is_exempt() {
            return Ok(());
        }
        let dialled = self.caller.account.as_ref().filter(|_| !self.transfer.is_under_way());
        let diverted = self.route.diverted_by();
        let payer = self.transfer.referred_by().or(dialled).or(diverted).cloned();
        let Some(account) = payer else { return Ok(()) };
        cx.may_spend(Some(self.id), &account, self.route.dialled())
    }

    /// Judges a transfer that `account` asks for, as a new call of its.
    ///
    /// # Errors
    /// The brake on toll fraud holds the user.
    pub(super) fn may_transfer(
        &self,
        cx: &mut CallContext<'_>,
        account: Option<&User>,
        route: &crate::dialplan::Route,
    ) -> Result<(), Refusal> {
        let Some(user) = account else { return Ok(()) };
        let pace = cx.config.limits.new_calls_per_second_per_user;
        let pace = user.calls_per_second.unwrap_or(pace);
        cx.services.brakes.call(cx.now, &user.name, pace)?;
        cx.services.brakes.route(cx.now, user, route)
    }
}

impl CallContext<'_> {
    /// Judges a call, or a text, of `account` by a trunk, and counts it.
    ///
    /// # Errors
    /// The brake on toll fraud holds the user.
    pub(crate) fn may_spend(
        &mut self,
        call: Option<CallId>,
        account: &User,
        to: DialledNumber<'_>,
    ) -> Result<(), Refusal> {
        if !account.fraud_brake {
            return Ok(());
        }
        let country = self.config.plan.context(&account.context).and_then(|c| c.country.clone());
        let home = country.into_iter().chain(account.did.as_deref().and_then(country_of));
        let unix = self.unix();
        // Where the dialplan leaves a number to visitors, those of a network pay together: each of
        // their names has no past.
        let crowd = account.crowd().filter(|_| !to.spelled);
        let user = crowd.as_deref().unwrap_or(&account.name);
        let expense = Expense { call, user, to, home: home.collect(), unix };
        let admitted = self.services.brakes.fraud.admit(self.now, &expense, &self.config.fraud);
        admitted.map_err(|tripped| {
            if tripped.news {
                let (user, why) = (user.to_owned(), tripped.why.why.clone());
                self.note(Event::FraudBraked { user, why });
            }
            tripped.why
        })
    }
}
