//! A dialog's state (RFC 3261 §12): identifiers, sequence numbers, route set, remote target.
//!
//! Not here: which call it serves, what travels in it, when its 2xx is acknowledged.

use super::build::MessageWriter;
use super::header::NameAddr;
use super::message::Message;
use super::parse::HeaderName;
use super::status::Method;
use super::transaction::{Hop, TrunkNumber};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// Call-ID and both tags, ours first.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub(crate) struct DialogId {
    /// The Call-ID.
    pub call_id: String,
    /// Our tag.
    pub local_tag: String,
    /// The peer's tag; empty for a peer of RFC 2543.
    pub remote_tag: String,
}

/// A request within the dialog that may not be served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum OutOfOrder {
    /// CSeq lower than one already seen: 500 (§12.2.2).
    Stale,
}

/// One dialog, early or confirmed.
#[derive(Clone, Debug)]
pub(crate) struct Dialog {
    /// What names it.
    pub id: DialogId,
    /// Our address header value, tag included.
    pub local: String,
    /// The peer's address header value, tag included.
    pub remote: String,
    /// The URI of the peer's newest Contact.
    pub remote_target: String,
    /// Route values, the first hop first.
    pub route_set: Vec<String>,
    /// The CSeq of our newest request, up to 2^31 - 1.
    pub local_cseq: u32,
    /// The CSeq of the peer's newest request.
    pub remote_cseq: Option<u32>,
    /// The CSeq of the last request of the peer's that an earlier process took.
    taken_before: Option<u32>,
    /// Where requests go: the flow, or the trunk's address.
    pub hop: Hop,
}

/// Where a dialog's requests go, as it outlives the process. A connection does not: what went by
/// one waits for its peer to come back.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum HopSnapshot {
    Lost,
    Udp(SocketAddr),
    UdpFrom(SocketAddr, IpAddr),
    Tcp(SocketAddr),
    Tls(SocketAddr),
    Node(SocketAddr),
}

impl HopSnapshot {
    /// What is kept of a hop.
    pub(crate) fn of(hop: Hop) -> HopSnapshot {
        match hop {
            Hop::Flow(_) | Hop::Suspended => HopSnapshot::Lost,
            Hop::Udp(to) => HopSnapshot::Udp(to),
            Hop::UdpFrom(to, from) => HopSnapshot::UdpFrom(to, from),
            Hop::Tcp(to) => HopSnapshot::Tcp(to),
            Hop::Tls(to, _) => HopSnapshot::Tls(to),
            Hop::Node(to) => HopSnapshot::Node(to),
        }
    }

    /// The hop again. `trunk` is the place the peer has among the trunks now: its certificate is
    /// checked by it, and without one a TLS hop is lost.
    pub(crate) fn restore(self, trunk: Option<TrunkNumber>) -> Hop {
        match (self, trunk) {
            (HopSnapshot::Udp(to), _) => Hop::Udp(to),
            (HopSnapshot::UdpFrom(to, from), _) => Hop::UdpFrom(to, from),
            (HopSnapshot::Tcp(to), _) => Hop::Tcp(to),
            (HopSnapshot::Tls(to), Some(trunk)) => Hop::Tls(to, trunk),
            (HopSnapshot::Node(to), _) => Hop::Node(to),
            (HopSnapshot::Lost, _) | (HopSnapshot::Tls(_), None) => Hop::Suspended,
        }
    }
}

/// A dialog as a value that outlives the process.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct DialogSnapshot {
    /// What names it.
    pub id: DialogId,
    /// As [`Dialog::local`].
    pub local: String,
    /// As [`Dialog::remote`].
    pub remote: String,
    /// As [`Dialog::remote_target`].
    pub remote_target: String,
    /// As [`Dialog::route_set`].
    pub route_set: Vec<String>,
    /// As [`Dialog::local_cseq`].
    pub local_cseq: u32,
    /// As [`Dialog::remote_cseq`].
    pub remote_cseq: Option<u32>,
    /// As [`Dialog::hop`].
    pub hop: HopSnapshot,
}

impl Dialog {
    /// The dialog as a value.
    pub(crate) fn snapshot(&self) -> DialogSnapshot {
        DialogSnapshot {
            id: self.id.clone(),
            local: self.local.clone(),
            remote: self.remote.clone(),
            remote_target: self.remote_target.clone(),
            route_set: self.route_set.clone(),
            local_cseq: self.local_cseq,
            remote_cseq: self.remote_cseq,
            hop: HopSnapshot::of(self.hop),
        }
    }

    /// The dialog of a value; `trunk` is its peer's place among the trunks now.
    pub(crate) fn restore(snapshot: DialogSnapshot, trunk: Option<TrunkNumber>) -> Dialog {
        Dialog {
            id: snapshot.id,
            local: snapshot.local,
            remote: snapshot.remote,
            remote_target: snapshot.remote_target,
            route_set: snapshot.route_set,
            local_cseq: snapshot.local_cseq,
            remote_cseq: snapshot.remote_cseq,
            taken_before: snapshot.remote_cseq,
            hop: snapshot.hop.restore(trunk),
        }
    }

    /// Returns the callee's dialog from the INVITE it received (§12.1.1), or `None` if the INVITE
    /// lacks what a dialog needs.
    pub(crate) fn uas(
        invite: &Message,
        local_tag: &str,
        hop: Hop,
        first_cseq: u32,
    ) -> Option<Dialog> {
        let (from, contact) = (invite.from()?, invite.contact()?);
        let local = with_tag(invite.header(HeaderName::To)?, local_tag);
        Some(Dialog {
            id: DialogId {
                call_id: invite.call_id().to_owned(),
                local_tag: local_tag.to_owned(),
                remote_tag: from.tag().unwrap_or_default().to_owned(),
            },
            local,
            remote: invite.header(HeaderName::From)?.to_owned(),
            remote_target: contact.uri.text.to_owned(),
            route_set: record_routes(invite),
            local_cseq: first_cseq,
            remote_cseq: invite.cseq().map(|c| c.number),
            taken_before: None,
            hop,
        })
    }

    /// The caller's dialog from a response to the INVITE we sent (§12.1.2).
    pub(crate) fn uac(response: &Message, hop: Hop) -> Option<Dialog> {
        let (from, to) = (response.from()?, response.to()?);
        let mut route_set = record_routes(response);
        route_set.reverse();
        let call_id = Some(response.call_id()).filter(|id| !id.is_empty())?;
        Some(Dialog {
            id: DialogId {
                call_id: call_id.to_owned(),
                local_tag: from.tag()?.to_owned(),
                remote_tag: to.tag().unwrap_or_default().to_owned(),
            },
            local: response.header(HeaderName::From)?.to_owned(),
            remote: response.header(HeaderName::To)?.to_owned(),
            remote_target: response.contact().map_or(to.uri.text, |c| c.uri.text).to_owned(),
            route_set,
            local_cseq: response.cseq()?.number,
            remote_cseq: None,
            taken_before: None,
            hop,
        })
    }

    /// As [`uac`](Self::uac), for a response that does not echo what it must: our own INVITE has
    /// it, and its To stands for one that cannot be read, which counts as one without a tag.
    pub(crate) fn uac_by_invite(invite: &Message, response: &Message, hop: Hop) -> Option<Dialog> {
        let mut route_set = record_routes(response);
        route_set.reverse();
        let to = response.to();
        let written = if to.is_some() { response } else { invite }.header(HeaderName::To)?;
        let contact = response.contact().map(|c| c.uri.text);
        Some(Dialog {
            id: DialogId {
                call_id: invite.call_id().to_owned(),
                local_tag: invite.from()?.tag()?.to_owned(),
                remote_tag: to.and_then(|t| t.tag()).unwrap_or_default().to_owned(),
            },
            local: invite.header(HeaderName::From)?.to_owned(),
            remote: written.to_owned(),
            remote_target: contact.unwrap_or(invite.request_uri()).to_owned(),
            route_set,
            local_cseq: invite.cseq()?.number,
            remote_cseq: None,
            taken_before: None,
            hop,
        })
    }

    /// Whether an in-dialog message from the peer names this dialog.
    pub(crate) fn matches(&self, message: &Message) -> bool {
        self.is_of(message.call_id(), message.to(), message.from())
    }

    /// Whether it is the peer's response to a request of ours within this dialog.
    pub(crate) fn is_answered_by(&self, response: &Message) -> bool {
        self.is_of(response.call_id(), response.from(), response.to())
    }

    fn is_of(
        &self,
        call_id: &str,
        ours: Option<NameAddr<'_>>,
        theirs: Option<NameAddr<'_>>,
    ) -> bool {
        fn tag<'a>(address: Option<NameAddr<'a>>) -> &'a str {
            address.and_then(|a| a.tag()).unwrap_or_default()
        }
        self.id.call_id == call_id
            && self.id.local_tag == tag(ours)
            && self.id.remote_tag == tag(theirs)
    }

    /// Takes the CSeq of a request from the peer (§12.2.2).
    ///
    /// # Errors
    /// The number is lower than one already seen.
    pub(crate) fn accept(&mut self, request: &Message) -> Result<(), OutOfOrder> {
        let number = request.cseq().map_or(0, |c| c.number);
        if self.remote_cseq.is_some_and(|seen| number < seen) {
            return Err(OutOfOrder::Stale);
        }
        if request.method() != Method::Ack {
            self.remote_cseq = Some(number);
        }
        Ok(())
    }

    /// Whether a request of the peer's is one that an earlier process took: it comes again, for the
    /// answer was lost with that.
    pub(crate) fn was_taken_before(&self, request: &Message) -> bool {
        self.taken_before.is_some() && self.taken_before == request.cseq().map(|cseq| cseq.number)
    }

    /// Refreshes the target from a request or 2xx that carries a Contact (§12.2.1.2).
    pub(crate) fn refresh_target(&mut self, message: &Message) {
        if let Some(contact) = message.contact() {
            self.remote_target = contact.uri.text.to_owned();
        }
    }

    /// Starts an in-dialog request with a new CSeq; the caller adds Contact and ends it.
    pub(crate) fn request(&mut self, method: Method, via: &str) -> MessageWriter {
        self.local_cseq += 1;
        self.request_with(method, self.local_cseq, via)
    }

    /// Starts an in-dialog request with the CSeq of an earlier one (ACK for a 2xx).
    pub(crate) fn request_with(&self, method: Method, cseq: u32, via: &str) -> MessageWriter {
        // A strict router's URI leads the route set; §12.2.1.1 then swaps it with the target.
        let strict = self
            .route_set
            .first()
            .and_then(|r| NameAddr::parse(r).ok())
            .filter(|r| !r.uri.params.has("lr"));
        let target = strict.map_or(self.remote_target.as_str(), |r| r.uri.text);
        let mut request = MessageWriter::request(method, target);
        request.put(HeaderName::Via, via);
        self.route_set
            .iter()
            .skip(usize::from(strict.is_some()))
            .for_each(|r| request.put(HeaderName::Route, r));
        if strict.is_some() {
            request.put(HeaderName::Route, format_args!("<{}>", self.remote_target));
        }
        request.put(HeaderName::MaxForwards, 70);
        request.put(HeaderName::From, &self.local);
        request.put(HeaderName::To, &self.remote);
        request.put(HeaderName::CallId, &self.id.call_id);
        request.put(HeaderName::CSeq, format_args!("{cseq} {method}"));
        request
    }
}

/// Most proxies of a route set.
const MAX_ROUTES: usize = 64;

/// The Record-Route values that can be read: no request is sent by one that cannot. One without its
/// brackets gets them, for what follows in it is of its URI: `lr` first of all.
fn record_routes(message: &Message) -> Vec<String> {
    let routes = message.values(HeaderName::RecordRoute);
    let whole = |r: &str| if r.contains('<') { r.to_owned() } else { format!("<{r}>") };
    routes.filter(|r| NameAddr::parse(r).is_ok()).take(MAX_ROUTES).map(whole).collect()
}

fn with_tag(value: &str, tag: &str) -> String {
    match NameAddr::parse(value) {
        Ok(addr) if addr.tag().is_some() => value.to_owned(),
        _ => format!("{value};tag={tag}"),
    }
}

impl fmt::Display for Dialog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} local={} remote={}", self.id.call_id, self.id.local_tag, self.id.remote_tag)
    }
}
