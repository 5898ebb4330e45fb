//! Texts (MESSAGE): how long and how frequent they may be, and how they cross within a call.

use super::context::InDialogRequest;
use super::leg::Composed;
use super::{Call, CallContext};
use crate::brakes::Source;
use crate::cdr::Party;
use crate::media::LegId;
use crate::sip::build::MessageWriter;
use crate::sip::message::{Message, TEXT};
use crate::sip::status::{Method, Refusal};
use crate::sip::transaction::ServerId;
use std::net::{IpAddr, Ipv4Addr};

impl CallContext<'_> {
    /// Judges a text of `size` bytes, of `user` if it is a user's, and counts it.
    ///
    /// # Errors
    /// 513: it is too long; 503: too many were sent.
    pub(crate) fn may_text(
        &mut self,
        user: Option<&str>,
        source: Source,
        size: usize,
    ) -> Result<(), Refusal> {
        let limits = &self.config.limits;
        if size > limits.text_size {
            let why = format!("limits.text_size is {} bytes", limits.text_size);
            return Err(Refusal::new(513, why));
        }
        self.services.brakes.text(self.now, user, source, limits)
    }
}

impl Call {
    /// A text within the call is passed to the other side, if it takes texts.
    pub(super) fn message(
        &mut self,
        cx: &mut CallContext<'_>,
        end: LegId,
        server: ServerId,
        message: &Message,
    ) {
        let call = self.id;
        if let Err(why) = self.text_allowed(cx, end, message) {
            return cx.refuse(server, message, &why);
        }
        let again = self.was_taken_before(end, message);
        let other = self
            .opposite(end)
            .and_then(|to| self.leg_mut(to))
            .filter(|leg| leg.peer.message && leg.takes_messages(cx));
        let Some(leg) = other else {
            return cx.refuse(server, message, &Refusal::new(405, "the other side takes no texts"));
        };
        if again {
            return cx.respond(server, 202, MessageWriter::response(message, 202, None).end());
        }
        if let Err(why) = leg.takes_more() {
            return cx.refuse_with(server, message, &why);
        }
        cx.respond(server, 202, MessageWriter::response(message, 202, None).end());
        if let Some((text, branch, _)) = leg.begin(cx, Method::Message) {
            let bytes = text.end_carrying(message, TEXT);
            leg.ask(
                cx,
                call,
                Composed { method: Method::Message, branch: &branch, bytes },
                InDialogRequest::Info,
            );
        }
    }

    fn text_allowed(
        &self,
        cx: &mut CallContext<'_>,
        end: LegId,
        message: &Message,
    ) -> Result<(), Refusal> {
        let Some(leg) = self.leg_of(end) else { return Ok(()) };
        let size = message.body().len();
        match &leg.party {
            Party::User { name, .. } => {
                let ip = cx.remote_ip(leg.hop).unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
                cx.may_text(Some(name), Source::Address(ip), size)
            }
            Party::Trunk(name) => cx.may_text(None, Source::Trunk(name.clone()), size),
            Party::Number(_) | Party::Internal(_) => Ok(()),
        }
    }
}
