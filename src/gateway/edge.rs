//! The edge of a call that another node has (RFC 5626 §5.3): requests of that node go down a
//! browser's flow, the browser's go to that node, and responses the way they came.
//!
//! Nothing is kept of it: a signed token in the route says down which flow and to which node, and
//! one in our Via where the response goes. Bodies pass as they are: the media is the other node's.
//! A request comes from a node and leaves by a flow, or the other way round, so none goes in a
//! circle.

use super::{Gateway, Turn};
use crate::call::Output;
use crate::cluster::token::{EdgeToken, short};
use crate::errors::Code;
use crate::sip::build::MessageWriter;
use crate::sip::header::NameAddr;
use crate::sip::message::Message;
use crate::sip::parse::HeaderName;
use crate::sip::status::{Method, Refusal};
use crate::sip::transaction::{Flow, Hop, Transmit};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// What our branches begin with.
const BRANCH: &str = "z9hG4bKwte.";

/// Where the response to a request goes that was passed on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct ViaToken {
    flow: u64,
    /// The process the flow's number is of.
    epoch: u64,
    peer: SocketAddr,
    /// The response comes from the flow, and goes to the node; else the other way round.
    to_node: bool,
    /// Of the branch it came with: a CANCEL and an ACK get the one their INVITE got.
    of: u64,
}

/// What is changed in a message that is passed on.
struct Changes {
    /// Our Via, in front.
    via: Option<String>,
    record_route: Option<String>,
    max_forwards: Option<u32>,
}

impl Gateway {
    /// Passes a message on, if it only passes through this node. False: it is ours.
    pub(super) fn pass_through(
        &mut self,
        turn: &mut Turn<'_>,
        hop: Hop,
        message: &Message,
    ) -> bool {
        if self.services.cluster.is_none() {
            return false;
        }
        if !message.is_request() {
            return self.pass_response(turn, hop, message);
        }
        let Some(token) = self.route_token(message) else { return false };
        let passed = match hop {
            Hop::Node(peer) => self.pass_down(turn, peer, &token, message),
            Hop::Flow(flow) => self.pass_to_owner(turn, flow, &token, message),
            _ => return false,
        };
        match passed {
            Ok(()) => {}
            Err(_) if message.method() == Method::Ack => self.dropped += 1,
            Err(why) => self.respond_stateless(hop, message, &why, turn.out),
        }
        true
    }

    /// What the topmost route names, if it is one of ours.
    fn route_token(&self, message: &Message) -> Option<EdgeToken> {
        let route = NameAddr::parse(message.values(HeaderName::Route).next()?).ok()?;
        let cluster = self.services.cluster.as_ref()?;
        cluster.open_edge_token(route.uri.user_unescaped().as_ref())
    }

    /// The flow a token names, or the one its phone has registered by since.
    fn flow_of(&self, turn: &Turn<'_>, token: &EdgeToken) -> Option<Flow> {
        let cluster = self.services.cluster.as_ref()?;
        let flow = Flow(token.flow);
        let lives = |flow: &Flow| {
            let state = self.services.flows.get(flow);
            state.is_some_and(|f| f.user.as_ref() == Some(&token.user))
        };
        if cluster.is_own_epoch(token.epoch) && lives(&flow) {
            return Some(flow);
        }
        let bindings = self.services.registrar.bindings(turn.now, &token.user);
        let same = |i: &(String, u32)| short(Some(&i.0)) == token.instance;
        let again = bindings.into_iter().find(|b| b.instance.as_ref().is_some_and(same));
        again.map(|b| b.flow).filter(lives)
    }

    /// A request of the node that has the call, to a phone here.
    fn pass_down(
        &mut self,
        turn: &mut Turn<'_>,
        peer: SocketAddr,
        token: &EdgeToken,
        message: &Message,
    ) -> Result<(), Refusal> {
        message.check().map_err(|e| Refusal::new(e.status, e.to_string()))?;
        let begins = message.to().is_some_and(|to| to.tag().is_none());
        if begins
            && message.method() == Method::Invite
            && let Some(why) = self.overload.of_core()
        {
            let why = format!("the node of {} is overloaded: {}", token.user, why.as_str());
            return Err(Refusal::new(503, why).code(Code::OVERLOADED));
        }
        if begins && message.method() == Method::Invite {
            // Whether this node lives is known before the phone answers.
            let trying = MessageWriter::response(message, 100, None).end();
            turn.push(Output::Send(Transmit { hop: Hop::Node(peer), bytes: trying }));
        }
        let flow = self.flow_of(turn, token).ok_or_else(|| {
            Refusal::new(430, format!("{} has no connection here any more", token.user))
                .code(Code::FLOW_DEAD)
        })?;
        let record_route = begins.then(|| {
            let owned = EdgeToken {
                flow: flow.0,
                epoch: self.services.cluster.as_ref().map_or(0, |c| c.epoch()),
                owner: Some(peer),
                ..token.clone()
            };
            self.own_route(&owned)
        });
        let via = format!(
            "SIP/2.0/{} {};branch={}",
            if self.services.identity.web_secure { "WSS" } else { "WS" },
            self.config.domain,
            self.branch(flow, peer, true, message)?
        );
        self.send_on(turn, Hop::Flow(flow), message, Some(via), record_route.flatten())
    }

    /// A request of a phone here, to the node that has its call.
    fn pass_to_owner(
        &mut self,
        turn: &mut Turn<'_>,
        flow: Flow,
        token: &EdgeToken,
        message: &Message,
    ) -> Result<(), Refusal> {
        message.check().map_err(|e| Refusal::new(e.status, e.to_string()))?;
        let no_call = || Refusal::new(481, "there is no such call");
        let identity = self.identity_of(turn.now, flow).and_then(|f| f.user.clone());
        // Nobody else learns that there is such a call.
        let user = identity.filter(|user| *user == token.user).ok_or_else(no_call)?;
        let peer = token.owner.ok_or_else(no_call)?;
        if message.to().is_none_or(|to| to.tag().is_none()) {
            return Err(no_call());
        }
        self.services.brakes.passed_on(turn.now, &user)?;
        let advertise =
            self.services.cluster.as_ref().map(|c| c.advertise()).ok_or_else(no_call)?;
        let branch = self.branch(flow, peer, false, message)?;
        let via = format!("SIP/2.0/TLS {advertise};branch={branch}");
        self.send_on(turn, Hop::Node(peer), message, Some(via), None)
    }

    fn send_on(
        &mut self,
        turn: &mut Turn<'_>,
        to: Hop,
        message: &Message,
        via: Option<String>,
        record_route: Option<String>,
    ) -> Result<(), Refusal> {
        let left = message.max_forwards().checked_sub(1).ok_or_else(|| {
            Refusal::new(483, "Max-Forwards is used up: a loop?").code(Code::LOOP)
        })?;
        let changes = Changes { via, record_route, max_forwards: Some(left) };
        turn.push(Output::Send(Transmit { hop: to, bytes: passed_on(message, &changes) }));
        Ok(())
    }

    /// A response to a request that was passed on.
    fn pass_response(&mut self, turn: &mut Turn<'_>, hop: Hop, message: &Message) -> bool {
        let Some(branch) = message.via().and_then(|via| via.branch().map(str::to_owned)) else {
            return false;
        };
        let Some(text) = branch.strip_prefix(BRANCH) else { return false };
        let to = self.read_branch(text).and_then(|token| match hop {
            Hop::Flow(flow) if token.to_node && flow.0 == token.flow => Some(Hop::Node(token.peer)),
            Hop::Node(peer) if !token.to_node && peer == token.peer => {
                let own = self.services.cluster.as_ref()?.is_own_epoch(token.epoch);
                own.then_some(Hop::Flow(Flow(token.flow)))
            }
            _ => None,
        });
        match to {
            Some(to) => {
                let changes = Changes { via: None, record_route: None, max_forwards: None };
                turn.push(Output::Send(Transmit { hop: to, bytes: passed_on(message, &changes) }));
            }
            None => self.dropped += 1,
        }
        true
    }

    /// A route that leads a request through this node.
    fn own_route(&self, token: &EdgeToken) -> Option<String> {
        let cluster = self.services.cluster.as_ref()?;
        let user = cluster.edge_token(token);
        Some(format!("<sip:{user}@{};transport=tls;lr>", cluster.advertise()))
    }

    /// The branch of our Via for a request that is passed on: the same whenever it comes.
    fn branch(
        &self,
        flow: Flow,
        peer: SocketAddr,
        to_node: bool,
        message: &Message,
    ) -> Result<String, Refusal> {
        let none = || Refusal::new(400, "a request needs a Via with a branch");
        let came = message.via().and_then(|via| via.branch()).ok_or_else(none)?;
        let cluster = self.services.cluster.as_ref().ok_or_else(none)?;
        let epoch = cluster.epoch();
        let token = ViaToken { flow: flow.0, epoch, peer, to_node, of: short(Some(came)) };
        let text = URL_SAFE_NO_PAD.encode(postcard::to_allocvec(&token).unwrap_or_default());
        Ok(format!("{BRANCH}{text}.{}", cluster.sign(&text)))
    }

    fn read_branch(&self, text: &str) -> Option<ViaToken> {
        let (text, mac) = text.split_once('.')?;
        let own = self.services.cluster.as_ref()?.sign(text);
        let same: bool = subtle::ConstantTimeEq::ct_eq(own.as_bytes(), mac.as_bytes()).into();
        postcard::from_bytes(&URL_SAFE_NO_PAD.decode(text).ok().filter(|_| same)?).ok()
    }
}

/// The message as it goes on. Of a request our route is taken off, of a response our Via.
fn passed_on(message: &Message, changes: &Changes) -> bytes::Bytes {
    let mut writer = MessageWriter::copy_of(message);
    if let Some(via) = &changes.via {
        writer.put(HeaderName::Via, via);
    }
    let skipped = usize::from(changes.via.is_none());
    message.values(HeaderName::Via).skip(skipped).for_each(|v| writer.put(HeaderName::Via, v));
    if let Some(route) = &changes.record_route {
        writer.put(HeaderName::RecordRoute, route);
    }
    let skipped = usize::from(message.is_request());
    message.values(HeaderName::Route).skip(skipped).for_each(|r| writer.put(HeaderName::Route, r));
    if let Some(left) = changes.max_forwards {
        writer.put(HeaderName::MaxForwards, left);
    }
    const OWN: [HeaderName; 4] =
        [HeaderName::Via, HeaderName::Route, HeaderName::MaxForwards, HeaderName::ContentLength];
    for (name, raw, value) in message.headers().filter(|(name, ..)| !OWN.contains(name)) {
        writer.put_named(name, raw, value);
    }
    writer.end_copy(message.body())
}
