//! Info packages (RFC 6086): what one side takes is announced to the other, whose INFO is then
//! passed on. `trickle-ice` (RFC 8840) ends here, as ICE does.

use super::context::InDialogRequest;
use super::leg::Composed;
use super::{Call, CallContext, Leg};
use crate::cdr::Party;
use crate::media::LegId;
use crate::sip::build::MessageWriter;
use crate::sip::message::Message;
use crate::sip::parse::HeaderName;
use crate::sip::status::{Method, Refusal, SUPPORTED, TRICKLE};
use crate::sip::transaction::ServerId;

/// The body a `trickle-ice` INFO carries (RFC 8840 §9).
const FRAGMENT: &str = "application/trickle-ice-sdpfrag";

impl Leg {
    /// Whether ICE ends on this leg.
    fn trickles(&self) -> bool {
        matches!(self.party, Party::User { .. })
    }

    /// The extensions we serve on this leg, for `Supported`.
    pub(crate) fn supported(&self) -> String {
        if self.trickles() { format!("{SUPPORTED}, {TRICKLE}") } else { SUPPORTED.to_owned() }
    }

    /// Tells this leg's peer which packages it may send: those of the other side, and candidates if
    /// ICE ends here.
    pub(crate) fn invite_packages(&self, message: &mut MessageWriter) {
        let own = self.trickles().then_some(TRICKLE);
        let taken: Vec<&str> = self.passes.iter().map(String::as_str).chain(own).collect();
        if !taken.is_empty() {
            message.put(HeaderName::RecvInfo, taken.join(", "));
        }
    }
}

impl Call {
    /// An INFO of `package` from `end`: passed to the other side if that asked for it; 469
    /// otherwise.
    pub(super) fn info_package(
        &mut self,
        cx: &mut CallContext<'_>,
        end: LegId,
        server: ServerId,
        message: &Message,
        package: &str,
    ) {
        if package.eq_ignore_ascii_case(TRICKLE) && self.leg_of(end).is_some_and(Leg::trickles) {
            return trickled(cx, server, message);
        }
        let call = self.id;
        let most = cx.config.limits.text_size;
        if message.body().len() > most {
            let why = format!("a package passed on has at most {most} bytes");
            return cx.refuse(server, message, &Refusal::new(513, why));
        }
        let again = self.was_taken_before(end, message);
        let to = self.opposite(end).and_then(|to| self.leg_mut(to));
        let known: Vec<String> =
            to.as_ref().map(|leg| passed(&leg.peer.info_packages)).unwrap_or_default();
        let Some(leg) = to.filter(|_| known.iter().any(|p| p.eq_ignore_ascii_case(package))) else {
            let mut response = MessageWriter::refusal(
                message,
                &Refusal::new(469, format!("nobody asked for the info package {package}")),
                "",
                &cx.config.domain,
            );
            response.put(HeaderName::RecvInfo, known.join(", "));
            return cx.respond(server, 469, response.end());
        };
        if again {
            return cx.respond(server, 200, MessageWriter::response(message, 200, None).end());
        }
        if let Err(why) = leg.takes_more() {
            return cx.refuse_with(server, message, &why);
        }
        cx.respond(server, 200, MessageWriter::response(message, 200, None).end());
        if let Some((mut info, branch, _)) = leg.begin(cx, Method::Info) {
            info.put(HeaderName::InfoPackage, package);
            let bytes = info.end_carrying(message, "application/octet-stream");
            leg.ask(
                cx,
                call,
                Composed { method: Method::Info, branch: &branch, bytes },
                InDialogRequest::Info,
            );
        }
    }
}

/// What goes across: a peer's candidates are for us, never for the other side.
pub(super) fn passed(packages: &[String]) -> Vec<String> {
    packages.iter().filter(|p| !p.eq_ignore_ascii_case(TRICKLE)).cloned().collect()
}

/// Candidates of a browser: taken note of by the answer alone. We are ICE-lite (RFC 8445 §2.5): we
/// send no checks, and the address a browser's own check comes from is the one that counts.
fn trickled(cx: &mut CallContext<'_>, server: ServerId, message: &Message) {
    if message.body_of(FRAGMENT).is_none() {
        let mut response = MessageWriter::refusal(
            message,
            &Refusal::new(415, format!("{TRICKLE} carries {FRAGMENT}")),
            "",
            &cx.config.domain,
        );
        response.put(HeaderName::Accept, FRAGMENT);
        return cx.respond(server, 415, response.end());
    }
    cx.respond(server, 200, MessageWriter::response(message, 200, None).end());
}
