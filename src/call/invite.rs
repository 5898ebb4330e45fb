//! The INVITE of a branch: its addresses, who the callee sees, credentials.

use super::branch::{BranchState, BranchTarget};
use super::leg::Party;
use super::{Call, CallTimer, Desk};
use crate::sip::build::{Writer, name_addr};
use crate::sip::parse::HeaderName;
use crate::sip::status::Method;
use crate::sip::transaction::Hop;
use crate::sip::uri::escape_user;

impl Call {
    pub(super) fn send_invite(&mut self, desk: &mut Desk<'_>, id: u16, credentials: Option<(HeaderName, String)>) {
        let (call, max_forwards) = (self.id, self.max_forwards);
        let (from_display, from_user) = self.caller_identity(desk, id);
        let silent = self.route.as_ref().and_then(|r| r.silent_after());
        let Some(branch) = self.branches.iter_mut().find(|b| b.id == id) else { return };
        let hop = branch.leg.hop;
        let (via_branch, via) = desk.via(hop);
        let domain = desk.config.domain.clone();
        let (uri, to) = match (&branch.target, hop) {
            (BranchTarget::User { name, contact }, _) => (contact.clone(), format!("<sip:{}@{domain}>", escape_user(name))),
            (BranchTarget::Trunk { name, number }, _) => {
                let uri = desk.config.trunks.get(name).map(|t| (t.uri.host.clone(), t.uri.port, t.uri.tcp));
                let (host, port, tcp) = uri.unwrap_or_default();
                let host = if host.contains(':') { format!("[{host}]") } else { host };
                let port = if port == 5060 { String::new() } else { format!(":{port}") };
                let uri = format!("sip:{}@{host}{port}", escape_user(number));
                (if tcp { format!("{uri};transport=tcp") } else { uri.clone() }, format!("<{uri}>"))
            }
        };
        branch.cseq += 1;
        let mut invite = Writer::request(Method::Invite, &uri);
        invite.put(HeaderName::Via, via);
        invite.put(HeaderName::MaxForwards, max_forwards);
        let host = match hop {
            Hop::Udp(to) | Hop::Tcp(to) => desk.local_ip(to.ip()).to_string(),
            Hop::Flow(_) => domain,
        };
        let from = name_addr(&from_display, &format!("sip:{}@{host}", escape_user(&from_user)));
        invite.put(HeaderName::From, format_args!("{from};tag={}", branch.leg.local_tag));
        invite.put(HeaderName::To, to);
        invite.put(HeaderName::CallId, &branch.call_id);
        invite.put(HeaderName::CSeq, format_args!("{} INVITE", branch.cseq));
        invite.put(HeaderName::Contact, desk.contact(hop, "call"));
        invite.put(HeaderName::Allow, crate::sip::status::ALLOW);
        invite.put(HeaderName::UserAgent, concat!("webtrunk/", env!("CARGO_PKG_VERSION")));
        if let Some((name, value)) = credentials {
            invite.put(name, value);
        }
        branch.invite = invite.end_with("application/sdp", branch.offer.as_bytes());
        branch.state = BranchState::Calling;
        let client = desk.request(Method::Invite, &via_branch, hop, branch.invite.clone());
        if let Some(old) = branch.client.replace(client) {
            desk.clients.remove(&old);
        }
        desk.clients.insert(client, (call, id));
        desk.dialogs.insert(branch.leg.local_tag.clone(), (call, branch.leg.end));
        if let (BranchTarget::Trunk { .. }, Some(after)) = (&branch.target, silent) {
            desk.arm(call, CallTimer::Silent(id), after);
        }
    }

    /// Who the callee sees: the route's caller id towards a trunk, the caller's own name towards a user.
    fn caller_identity(&self, desk: &Desk<'_>, id: u16) -> (String, String) {
        let to_trunk = self.branches.iter().any(|b| b.id == id && matches!(b.target, BranchTarget::Trunk { .. }));
        let user = match &self.a.party {
            Party::User { name, .. } => desk.config.users.get(name),
            Party::Trunk(_) => None,
        };
        let from = self.invite.from();
        let own = from.as_ref().map(|f| f.uri.user_unescaped().into_owned()).unwrap_or_default();
        let display = match user {
            Some(user) => user.display_name.clone().unwrap_or_default(),
            None => from.map(|f| f.display_name().into_owned()).unwrap_or_default(),
        };
        if !to_trunk {
            return (display, if own.is_empty() { "anonymous".into() } else { own });
        }
        let did = user.and_then(|u| u.did.clone());
        let template = self.route.as_ref().and_then(|r| r.caller_id.clone());
        let shown = match template {
            Some(t) => t.replace("{user.did}", did.as_deref().unwrap_or("anonymous")).replace("{user.name}", &own),
            None => did.unwrap_or(own),
        };
        (display, if shown.is_empty() { "anonymous".into() } else { shown })
    }
}
