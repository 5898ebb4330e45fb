//! What reached this node, and is of a dialog or a transaction of another: it goes to each node
//! that may have that, known by the mark of its tags, or to all where nothing says which; who has
//! it answers.

use super::edge_proxy::{
    ASKED, HAS, PassedFor, Passing, TELL, for_user, own_hop_off, passed_for, says,
};
use super::node_queries::IfNobody;
use super::turn::RequestSource;
use super::{Gateway, Turn};
use crate::call::Output;
use crate::call::transfer_state::Replaces;
use crate::hex::token;
use crate::sip::build::MessageWriter;
use crate::sip::message::Message;
use crate::sip::parse::HeaderName;
use crate::sip::status::{Method, Refusal};
use crate::sip::transaction::{Hop, ServerId, Transmit};
use std::net::SocketAddr;

impl Gateway {
    /// Whether several nodes were asked, and this one has no such call.
    pub(super) fn is_for_another(&self, hop: Hop, message: &Message) -> bool {
        matches!(hop, Hop::Node(_))
            && says(message, ASKED)
            && !named_tags(message).any(|tag| {
                self.services.dialogs.contains_key(&*tag) || self.services.owed_goodbyes.has(&tag)
            })
            && !self.services.transactions.knows(message)
    }

    /// Tells the node that passed a message on, if it wants to know, that this one has not what it
    /// is of.
    pub(super) fn has_not(&mut self, turn: &mut Turn<'_>, hop: Hop, message: &Message) {
        if says(message, TELL) && message.method() != Method::Ack {
            self.tell_asker(turn, hop, message, false);
        } else {
            self.dropped += 1;
        }
    }

    /// Tells the node that passed a message on whether this one answers whoever sent it.
    pub(super) fn tell_asker(
        &mut self,
        turn: &mut Turn<'_>,
        hop: Hop,
        message: &Message,
        has: bool,
    ) {
        let (status, word) = if has { (100, "yes") } else { (481, "no") };
        let tag = token::<8>(&mut self.services.random);
        let mut told = MessageWriter::response(message, status, Some(&tag));
        told.put_named(HeaderName::Other, HAS, word);
        turn.push(Output::Send(Transmit { hop, bytes: told.end() }));
    }

    /// A request within a dialog of another node, of somebody known here: to that node.
    pub(super) fn pass_to_bearer(
        &mut self,
        turn: &mut Turn<'_>,
        hop: Hop,
        message: &Message,
    ) -> bool {
        if matches!(hop, Hop::Node(_)) {
            return false;
        }
        let Some(cluster) = &self.services.cluster else { return false };
        let tag = message.to().and_then(|to| to.tag()).unwrap_or_default();
        let peers = cluster.bearers(tag).to_vec();
        if self.services.dialogs.contains_key(tag) {
            return false;
        }
        if peers.is_empty() {
            // Who goes on with the call of a lost node is known in a moment.
            return cluster.may_be_of_lost(turn.now, tag)
                && message.method() != Method::Ack
                && self.known(turn, hop).is_some()
                && self.note_asked(turn.now, hop, message, &[], IfNobody::Refuse);
        }
        let Some(all) = self.named_to(turn, hop, &peers) else { return false };
        if let Err(why) = self.ask_bearers(turn, hop, message, all)
            && message.method() != Method::Ack
        {
            self.respond_stateless(hop, message, &why, turn.out);
        }
        true
    }

    /// An INVITE whose Replaces names a dialog of another node goes there, and is none of this one.
    /// Returns false if it names none, or one of this node.
    pub(super) fn pass_replacement(
        &mut self,
        turn: &mut Turn<'_>,
        id: ServerId,
        hop: Hop,
        message: &Message,
    ) -> bool {
        let Some(cluster) = &self.services.cluster else { return false };
        let Ok(Some(replaces)) = Replaces::of(message) else { return false };
        let tags = [&replaces.to_tag, &replaces.from_tag];
        if tags.iter().any(|tag| self.services.dialogs.contains_key(*tag)) {
            return false;
        }
        let bearers = tags.into_iter().map(|tag| cluster.bearers(tag)).find(|b| !b.is_empty());
        let Some(peers) = bearers.map(<[SocketAddr]>::to_vec) else { return false };
        let Some(all) = self.named_to(turn, hop, &peers) else { return false };
        match self.ask_bearers(turn, hop, message, all) {
            Ok(()) => self.services.transactions.forget_server(id),
            Err(why) => self.refuse(turn, id, message, &why),
        }
        true
    }

    /// Passes a request on to the nodes that may have its call; the strings say who sent it.
    ///
    /// # Errors
    /// The first refusal, though other nodes may have got it.
    pub(super) fn ask_bearers(
        &mut self,
        turn: &mut Turn<'_>,
        hop: Hop,
        message: &Message,
        peers: Vec<(SocketAddr, String)>,
    ) -> Result<(), Refusal> {
        let several = peers.len() > 1;
        let tell = several
            && message.method() != Method::Ack
            && self.note_asked(turn.now, hop, message, &peers, IfNobody::Refuse);
        self.send_to_all(turn, Passing { hop, several, tell }, message, peers)
    }

    /// Sends a request to nodes; the strings say who sent it.
    ///
    /// # Errors
    /// The first refusal, though other nodes may have got it.
    pub(super) fn send_to_all(
        &mut self,
        turn: &mut Turn<'_>,
        from: Passing,
        message: &Message,
        peers: Vec<(SocketAddr, String)>,
    ) -> Result<(), Refusal> {
        let mut sent = Ok(());
        for (peer, passed_for) in peers {
            sent = sent.and(self.send_to_bearer(turn, from, peer, message, passed_for));
        }
        sent
    }

    /// Nodes, and what each of them is told about who sent what came by `hop`, if that is known.
    pub(super) fn named_to(
        &self,
        turn: &Turn<'_>,
        hop: Hop,
        peers: &[SocketAddr],
    ) -> Option<Vec<(SocketAddr, String)>> {
        let sender = |peer: &SocketAddr| Some((*peer, self.known_sender(turn, hop, *peer)?));
        peers.iter().map(sender).collect()
    }

    /// Who sends what comes by this way, if that is known.
    fn known(&self, turn: &Turn<'_>, hop: Hop) -> Option<RequestSource> {
        self.sender(hop).filter(|sender| match sender {
            RequestSource::Trunk(_) => true,
            RequestSource::User(_, flow) => self.identity_of(turn.now, *flow).is_some(),
        })
    }

    /// Who sent what continues to `peer`, if that is known here.
    fn known_sender(&self, turn: &Turn<'_>, hop: Hop, peer: SocketAddr) -> Option<String> {
        match self.known(turn, hop)? {
            RequestSource::Trunk(name) => Some(format!("trunk:{name}")),
            RequestSource::User(user, flow) => {
                Some(for_user(&user, &self.route_of(turn, &user, flow, peer)?))
            }
        }
    }

    /// A CANCEL of an INVITE that is not here: nothing in it says which node has that, so each is
    /// asked, once, and the one that has it answers.
    pub(super) fn pass_cancel(&mut self, turn: &mut Turn<'_>, hop: Hop, message: &Message) -> bool {
        if self.services.transactions.cancelled_by(message).is_some() {
            return false;
        }
        if message.to().is_some_and(|to| to.tag().is_some()) {
            return self.pass_to_bearer(turn, hop, message);
        }
        let Some(cluster) = &self.services.cluster else { return false };
        let others: Vec<SocketAddr> = cluster.others().collect();
        if others.is_empty() && !cluster.has_lost(turn.now) {
            return false;
        }
        let Some(all) = self.named_to(turn, hop, &others) else { return false };
        let tell = self.note_asked(turn.now, hop, message, &all, IfNobody::Refuse);
        if let Err(why) = self.send_to_all(turn, Passing::whether(hop, tell), message, all) {
            self.forget_asked(hop, message);
            self.respond_stateless(hop, message, &why, turn.out);
        }
        true
    }

    /// A CANCEL that another node passed on: of an INVITE here, or of nothing here. Returns false
    /// if it is of something else: with a tag of ours, nobody else was asked who could answer.
    pub(super) fn take_cancel(&mut self, turn: &mut Turn<'_>, hop: Hop, message: &Message) -> bool {
        let Some(passed) = passed_for(message) else { return false };
        let target = own_hop_off(message)
            .and_then(|cancel| self.services.transactions.cancelled_by(&cancel));
        if let (Some(target), PassedFor::Trunk(name)) = (target, &passed)
            && self.trunk_of_named(target) == Some(name.as_str())
            && self.cancel_named(turn, target)
        {
            accept(turn, hop, message, None);
            return true;
        }
        let call = target.and_then(|target| self.calls.of_transaction(target));
        if target.is_some() && call.is_none() {
            // It was refused, or cancelled before: that is not undone (RFC 3261 §9.2).
            accept(turn, hop, message, None);
            return true;
        }
        let Some(call) = call.filter(|call| self.is_caller(hop, *call, &passed)) else {
            let asked_alone = message.to().is_some_and(|to| to.tag().is_some());
            if !asked_alone {
                self.has_not(turn, hop, message);
            }
            return !asked_alone;
        };
        let tag = self.calls.get(call).map(|call| call.caller().local_tag.clone());
        accept(turn, hop, message, tag.as_deref());
        self.cancel_call(turn, call, message);
        true
    }

    /// An ACK of a refusal that another node passed on. Returns false if it is of something else.
    pub(super) fn take_ack(&mut self, turn: &mut Turn<'_>, hop: Hop, message: &Message) -> bool {
        let ack = passed_for(message).and_then(|_| own_hop_off(message));
        let Some(ack) = ack.filter(|ack| self.services.transactions.knows(ack)) else {
            return false;
        };
        self.give_transaction(turn, hop, ack);
        true
    }

    fn send_to_bearer(
        &mut self,
        turn: &mut Turn<'_>,
        from: Passing,
        peer: SocketAddr,
        message: &Message,
        passed_for: String,
    ) -> Result<(), Refusal> {
        message.check().map_err(|e| Refusal::new(e.status, e.to_string()))?;
        // A user by whatever connection, and to each node as much.
        let user = passed_for.split_once(' ').map(|(user, _)| format!("{user} to {peer}"));
        let who = user.as_deref().unwrap_or(&passed_for);
        self.services.brakes.passed_on(turn.now, who, user.is_none())?;
        self.send_to_node(turn, from, peer, message, passed_for)
    }

    /// A trunk's response to a request of another node: as it is, to that node.
    pub(super) fn pass_response_to_bearer(
        &mut self,
        turn: &mut Turn<'_>,
        hop: Hop,
        message: &Message,
        branch: &str,
    ) -> bool {
        let peers = self.services.cluster.as_ref().map_or(&[][..], |c| c.bearers(branch));
        if peers.is_empty() || !matches!(self.sender(hop), Some(RequestSource::Trunk(_))) {
            return false;
        }
        let bytes: bytes::Bytes = message.to_bytes().into();
        let to = |peer: &SocketAddr| Transmit { hop: Hop::Node(*peer), bytes: bytes.clone() };
        turn.out.extend(peers.iter().map(to).map(Output::Send));
        true
    }
}

/// Answers a node with 200.
fn accept(turn: &mut Turn<'_>, hop: Hop, message: &Message, tag: Option<&str>) {
    let bytes = MessageWriter::response(message, 200, tag).end();
    turn.push(Output::Send(Transmit { hop, bytes }));
}

/// The tags by which a request may name a dialog of a node.
fn named_tags(message: &Message) -> impl Iterator<Item = String> {
    let to = message.to().and_then(|to| to.tag().map(str::to_owned));
    let replaces = match message.method() {
        Method::Invite if to.is_none() => Replaces::of(message).ok().flatten(),
        _ => None,
    };
    let replaced = replaces.into_iter().flat_map(|r| [r.to_tag, r.from_tag]);
    to.into_iter().chain(replaced)
}
