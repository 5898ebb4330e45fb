//! The INVITE of a branch: its addresses, what it asks for, credentials.

use super::branch::{BranchState, BranchTarget};
use super::caller_id::Caller;
use super::context::TransactionUser;
use super::outgoing::for_length;
use super::packages::passed;
use super::{Call, CallContext};
use crate::config::{Reliable, Trunk};
use crate::sip::build::{MessageWriter, name_addr};
use crate::sip::message::Message;
use crate::sip::multipart::mixed;
use crate::sip::parse::HeaderName;
use crate::sip::session_timer::MIN_SE;
use crate::sip::status::{ALLOW, Method, TRICKLE};
use crate::sip::transaction::Hop;
use crate::sip::uri::{escape_user, host_of};
use bytes::Bytes;

/// A location (RFC 4119).
const PIDF: &str = "application/pidf+xml";
/// Longest location that is carried.
const MAX_LOCATION: usize = 4_096;

impl Call {
    /// Sends the branch's INVITE to its current hop; with credentials once a challenge was taken.
    pub(super) fn send_invite(&mut self, cx: &mut CallContext<'_>, id: u16) {
        let call = self.id;
        let Some(branch) = self.branches.get_mut(id) else { return };
        branch.cseq += 1;
        branch.refused = false;
        let hop = branch.leg.hop;
        let (via, bytes) = self.compose_invite(cx, id, hop);
        let trunk = self.branches.get(id).and_then(|b| match &b.target {
            BranchTarget::Trunk { name, .. } => Some(name.clone()),
            _ => None,
        });
        let moved = self.branches.get(id).is_some_and(|b| b.moved_to_tcp);
        let better = if moved { hop } else { for_length(cx, trunk.as_deref(), hop, bytes.len()) };
        let (hop, via, bytes) = if better == hop {
            (hop, via, bytes)
        } else {
            let (via, bytes) = self.compose_invite(cx, id, better);
            (better, via, bytes)
        };
        let Some(branch) = self.branches.get_mut(id) else { return };
        if branch.leg.hop != hop {
            // Where TCP is refused, the datagram is tried after all (§18.1.1).
            branch.hops.push_front(branch.leg.hop);
            branch.moved_to_tcp = true;
            branch.leg.hop = hop;
        }
        branch.invite = bytes.clone();
        branch.state = BranchState::Calling;
        let client = cx.request(Method::Invite, &via, hop, bytes);
        if let Some(old) = branch.client.replace(client) {
            cx.services.transaction_users.remove(&old);
        }
        cx.services.transaction_users.insert(client, TransactionUser::Branch(call, id));
        cx.services.dialogs.insert(branch.leg.local_tag.clone(), (call, branch.leg.end));
    }

    /// The INVITE for `hop`: its branch and its bytes.
    fn compose_invite(
        &mut self,
        cx: &mut CallContext<'_>,
        id: u16,
        hop: Hop,
    ) -> (String, bytes::Bytes) {
        let caller = self.identity_for(cx, id);
        let cnonce = cx.token();
        let (via_branch, via) = cx.via(hop);
        let max_forwards = self.route.max_forwards();
        let domain = cx.config.domain.clone();
        let Some(branch) = self.branches.get_mut(id) else {
            return (via_branch, bytes::Bytes::new());
        };
        let trunk = match &branch.target {
            BranchTarget::Trunk { name, .. } => cx.config.trunks.get(name),
            _ => None,
        };
        let (uri, to) = addressed(cx, &branch.target, trunk);
        let mut invite = MessageWriter::request(Method::Invite, &uri);
        invite.put(HeaderName::Via, via);
        put_routes(cx, &branch.target, trunk, &mut invite);
        invite.put(HeaderName::MaxForwards, max_forwards);
        invite.put(HeaderName::MaxBreadth, branch.breadth);
        let own_host = match hop {
            Hop::Flow(_) if trunk.is_none() => domain,
            _ => cx.remote_ip(hop).map_or(domain, |ip| host_of(cx.local_ip(hop, ip))),
        };
        invite.put(
            HeaderName::From,
            format_args!("{};tag={}", caller.from(&own_host, trunk), branch.leg.local_tag),
        );
        invite.put(HeaderName::To, to);
        invite.put(HeaderName::CallId, &branch.call_id);
        invite.put(HeaderName::CSeq, format_args!("{} INVITE", branch.cseq));
        invite.put(HeaderName::Contact, cx.contact(hop, "call"));
        invite.put(HeaderName::Allow, ALLOW);
        invite.put(HeaderName::UserAgent, concat!("webtrunk/", env!("CARGO_PKG_VERSION")));
        branch.leg.passes = passed(&self.caller.peer.info_packages);
        branch.leg.invite_packages(&mut invite);
        extensions(&mut invite, trunk, branch.session_wish.or(branch.leg.session_wish(cx)));
        if let (Some(user), true) = (self.transfer.referred_by(), self.transfer.is_under_way()) {
            // RFC 3892: on whose word this call is made.
            let number = user.did.as_ref().unwrap_or(&user.name);
            invite.put(
                HeaderName::ReferredBy,
                name_addr("", &format!("sip:{}@{}", escape_user(number), cx.config.domain)),
            );
        }
        caller.assert(&mut invite, &own_host, trunk);
        if let Some(trunk) = trunk
            && let (Some(user), Some(password)) = (&trunk.username, &trunk.password)
        {
            let answering = &mut branch.answering;
            answering
                .credentials(user, password.reveal(), &uri, Method::Invite, &cnonce)
                .into_iter()
                .for_each(|(name, value)| invite.put(name, value));
        }
        let offer = branch.offer.as_bytes();
        let location = location(self.uas.invite())
            .filter(|_| !self.transfer.is_under_way() && trunk.is_some_and(|trunk| trunk.location));
        let bytes = match location {
            Some(location) => with_location(invite, offer, location, &cx.config.domain),
            None if offer.is_empty() => invite.end(),
            None => invite.end_with("application/sdp", offer),
        };
        (via_branch, bytes)
    }
}

/// The Route values towards `target`: its path (RFC 3327), or the route that the trunk's registrar
/// gave us (RFC 3608 §6.3).
fn put_routes(
    cx: &CallContext<'_>,
    target: &BranchTarget,
    trunk: Option<&Trunk>,
    invite: &mut MessageWriter,
) {
    if let BranchTarget::User { path, .. } = target {
        path.iter().for_each(|p| invite.put(HeaderName::Route, p));
    }
    if let Some(state) = trunk.and_then(|t| cx.services.trunks.get(&t.name)) {
        let routes = state.registrations.iter().flat_map(|r| &r.service_route);
        routes.for_each(|r| invite.put(HeaderName::Route, r));
    }
}

/// Where a caller says it is; `None` if it does not, or at length.
fn location(invite: &Message) -> Option<&[u8]> {
    invite.body_of(PIDF).filter(|document| document.len() <= MAX_LOCATION)
}

/// Ends an INVITE with the offer, if any, and the caller's location (RFC 6442 §4.1). No other part
/// of a caller's body crosses: what ISUP and session metadata say is of another call than ours.
fn with_location(mut invite: MessageWriter, offer: &[u8], location: &[u8], domain: &str) -> Bytes {
    let id = format!("location@{domain}");
    invite.put(HeaderName::Geolocation, format_args!("<cid:{id}>"));
    let of_location =
        format!("Content-ID: <{id}>\r\nContent-Disposition: render;handling=optional");
    let parts = [
        ("application/sdp", "Content-Disposition: session", offer),
        (PIDF, &*of_location, location),
    ];
    let (kind, body) = mixed(parts.into_iter().filter(|(.., bytes)| !bytes.is_empty()));
    invite.put(HeaderName::MimeVersion, "1.0");
    invite.end_with(&kind, &body)
}

/// Request-URI and To of a branch.
fn addressed(
    cx: &CallContext<'_>,
    target: &BranchTarget,
    trunk: Option<&Trunk>,
) -> (String, String) {
    match target {
        BranchTarget::User { name, contact, .. } => {
            (contact.clone(), format!("<sip:{}@{}>", escape_user(name), cx.config.domain))
        }
        BranchTarget::Trunk { number, .. } => request_uri(cx, trunk, number),
        BranchTarget::Joined => (String::new(), String::new()),
    }
}

/// Request-URI and To towards a trunk.
fn request_uri(cx: &CallContext<'_>, trunk: Option<&Trunk>, number: &str) -> (String, String) {
    let user = escape_user(number);
    let Some(trunk) = trunk else { return (String::new(), String::new()) };
    match &trunk.uri {
        Some(uri) => {
            let scheme = if uri.secure { "sips" } else { "sip" };
            (
                format!("{scheme}:{user}@{}", uri.address()),
                format!("<{scheme}:{user}@{}>", uri.host_port()),
            )
        }
        None => {
            // A trunk that registered is asked for at the Contact it gave, the number in place of
            // its user.
            let contact = cx
                .services
                .trunks
                .get(&trunk.name)
                .and_then(|t| t.bound.as_ref())
                .map(|b| b.contact.clone())
                .unwrap_or_default();
            let host = contact
                .split_once(':')
                .map_or("", |(_, rest)| rest.rsplit_once('@').map_or(rest, |(_, host)| host));
            (format!("sip:{user}@{host}"), format!("<sip:{user}@{}>", cx.config.domain))
        }
    }
}

fn extensions(invite: &mut MessageWriter, trunk: Option<&Trunk>, session: Option<u32>) {
    let reliable = trunk.map_or(Reliable::Off, |t| t.reliable);
    let mut supported = vec!["replaces", "norefersub"];
    if reliable != Reliable::Off {
        supported.insert(0, "100rel");
    }
    if let Some(seconds) = session {
        supported.push("timer");
        invite.put(HeaderName::SessionExpires, seconds);
        invite.put(HeaderName::MinSe, MIN_SE);
    }
    if trunk.is_none() {
        supported.push(TRICKLE);
    }
    invite.put(HeaderName::Supported, supported.join(", "));
    if reliable == Reliable::Required {
        invite.put(HeaderName::Require, "100rel");
    }
}

impl Call {
    pub(super) fn identity_for(&self, cx: &CallContext<'_>, id: u16) -> Caller {
        let to_trunk = self.branches.get(id).and_then(|b| match &b.target {
            BranchTarget::Trunk { name, .. } => cx.config.trunks.get(name),
            _ => None,
        });
        Caller::of(self, cx.config, to_trunk)
    }
}
