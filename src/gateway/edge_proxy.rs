//! The edge of a call that another node has (RFC 5626 §5.3): requests of that node go down a
//! browser's flow, the browser's go to that node, and responses the way they came.
//!
//! Nothing is kept of it: a signed token in the route says down which flow and to which node, and
//! one in our Via where the response goes. Bodies pass as they are: the media is the other node's.
//! What belongs to another node and reached this one (a trunk behind a balancer, a browser that
//! came back elsewhere) is passed to its owner likewise (`dialog_owner`). What comes from a node
//! never leaves to a node, so nothing goes in a circle.

use super::node_queries::AskedKey;
use super::{Gateway, Turn};
use crate::call::Output;
use crate::call::transfer_state::Replaces;
use crate::cluster::token::{EdgeToken, short};
use crate::errors::Code;
use crate::sip::build::MessageWriter;
use crate::sip::header::{NameAddr, Via};
use crate::sip::message::Message;
use crate::sip::parse::{Framing, HeaderName};
use crate::sip::status::{Method, Refusal};
use crate::sip::transaction::{Flow, Hop, PASSED_ON, Transmit, TrunkNumber};
use crate::sip::uri::{escape_user, unescape};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};

/// Where the response to a request goes that was passed on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct ViaToken {
    origin: ForeignHop,
    /// The process whose flows these are.
    epoch: u64,
    peer: SocketAddr,
    /// The response comes from the flow, and goes to the node; else the other way round.
    to_node: bool,
    /// Of the branch it came with: a CANCEL and an ACK get the one their INVITE got.
    of: u64,
}

/// The hop that is not a node's.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub(super) enum ForeignHop {
    Flow(u64),
    Udp(SocketAddr),
    UdpFrom(SocketAddr, IpAddr),
    Tcp(SocketAddr),
    Tls(SocketAddr, u32),
}

impl ForeignHop {
    pub(super) fn of(hop: Hop) -> Option<ForeignHop> {
        Some(match hop {
            Hop::Flow(flow) => ForeignHop::Flow(flow.0),
            Hop::Udp(to) => ForeignHop::Udp(to),
            Hop::UdpFrom(to, from) => ForeignHop::UdpFrom(to, from),
            Hop::Tcp(to) => ForeignHop::Tcp(to),
            Hop::Tls(to, trunk) => ForeignHop::Tls(to, trunk.0),
            Hop::Node(_) | Hop::Suspended => return None,
        })
    }

    fn hop(self) -> Hop {
        match self {
            ForeignHop::Flow(flow) => Hop::Flow(Flow(flow)),
            ForeignHop::Udp(to) => Hop::Udp(to),
            ForeignHop::UdpFrom(to, from) => Hop::UdpFrom(to, from),
            ForeignHop::Tcp(to) => Hop::Tcp(to),
            ForeignHop::Tls(to, trunk) => Hop::Tls(to, TrunkNumber(trunk)),
        }
    }
}

/// Whose message another node passed to the one that has its call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum PassedFor {
    Trunk(String),
    /// `route` leads to its flow at that node.
    User {
        user: String,
        route: String,
    },
}

/// What such a message says of that; between nodes only.
const PASSED_FOR: &str = "X-Webtrunk-Passed-For";
/// What a message says that several nodes are asked; likewise. Who has its call answers, nobody
/// else.
pub(super) const ASKED: &str = "X-Webtrunk-Asked";
/// What a message says whose sender is to be told by who has not what it is of.
pub(super) const TELL: &str = "X-Webtrunk-Tell";
/// What a node says then: `no`, or `yes` if it answers whoever sent the message by another way.
pub(super) const HAS: &str = "X-Webtrunk-Has";

pub(super) fn says(message: &Message, what: &str) -> bool {
    message.header_named(what).is_some()
}

/// Whether it is an INVITE with Replaces that a node passed on.
pub(super) fn is_passed_replacement(message: &Message) -> bool {
    message.method() == Method::Invite
        && passed_for(message).is_some()
        && !matches!(Replaces::of(message), Ok(None))
}

pub(super) fn for_user(user: &str, route: &str) -> String {
    format!("user:{} {route}", escape_user(user))
}

/// Whose message it is, as the node says that passed it on.
pub(super) fn passed_for(message: &Message) -> Option<PassedFor> {
    let value = message.header_named(PASSED_FOR)?;
    match value.split_once(' ') {
        Some((user, route)) => {
            let user = unescape(user.strip_prefix("user:")?).into_owned();
            Some(PassedFor::User { user, route: route.to_owned() })
        }
        None => Some(PassedFor::Trunk(value.strip_prefix("trunk:")?.to_owned())),
    }
}

/// What is changed in a message that is passed on.
#[derive(Default)]
struct HopChanges {
    /// Our Via, in front.
    via: Option<String>,
    record_route: Option<String>,
    max_forwards: Option<u32>,
    passed_for: Option<String>,
    /// Several nodes are asked.
    several: bool,
    /// Who has not what it is of is to say so.
    tell: bool,
}

/// What is passed on to a node: whence it came, whether other nodes are asked too so that nobody
/// else answers, and whether those are to say so.
#[derive(Clone, Copy)]
pub(super) struct Passing {
    /// Where the message came from.
    pub(super) hop: Hop,
    /// Other nodes get it too.
    pub(super) several: bool,
    /// Nodes that have nothing of it are to say so.
    pub(super) tell: bool,
}

impl HopChanges {
    fn of(via: String) -> HopChanges {
        HopChanges { via: Some(via), ..HopChanges::default() }
    }
}

impl Gateway {
    /// Passes a message on, if it only passes through this node. Returns false if it is ours.
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
        let Some(token) = self.route_token(message) else {
            if self.is_for_another(hop, message) {
                self.has_not(turn, hop, message);
                return true;
            }
            let asked_whether = says(message, TELL) && !says(message, ASKED);
            return match (message.method(), hop) {
                (Method::Cancel, Hop::Node(_)) => self.take_cancel(turn, hop, message),
                (Method::Ack, Hop::Node(_)) => self.take_ack(turn, hop, message),
                (Method::Invite | Method::Message, Hop::Node(_)) if asked_whether => {
                    self.take_again(turn, hop, message)
                }
                (Method::Cancel, _) => self.pass_cancel(turn, hop, message),
                (Method::Invite | Method::Message, _) if self.pass_again(turn, hop, message) => {
                    true
                }
                _ => self.pass_to_bearer(turn, hop, message),
            };
        };
        if matches!(hop, Hop::Flow(_)) && self.is_taken_here(&token, message) {
            return false;
        }
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

    /// Whether this node took the call over from the owner that a token names.
    fn is_taken_here(&self, token: &EdgeToken, message: &Message) -> bool {
        let tag = message.to().and_then(|to| to.tag()).unwrap_or_default();
        self.services.cluster.as_ref().is_some_and(|cluster| {
            let asks_nobody = || cluster.owners(token.owner, token.owner_epoch).is_empty();
            cluster.took(token.owner_epoch)
                && (self.services.dialogs.contains_key(tag) || asks_nobody())
        })
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
                owner_epoch: self.services.cluster.as_ref().map_or(0, |c| c.epoch_at(peer)),
                ..token.clone()
            };
            self.own_route(&owned)
        });
        let via = format!(
            "SIP/2.0/{} {};branch={}",
            if self.services.identity.web_secure { "WSS" } else { "WS" },
            self.config.domain,
            self.branch(Hop::Flow(flow), peer, true, message)?
        );
        let changes = HopChanges { record_route: record_route.flatten(), ..HopChanges::of(via) };
        self.send_on(turn, Hop::Flow(flow), message, changes)
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
        let cluster = self.services.cluster.as_ref().ok_or_else(no_call)?;
        let peers = cluster.owners(token.owner, token.owner_epoch);
        if message.to().is_none_or(|to| to.tag().is_none()) || peers.is_empty() {
            return Err(no_call());
        }
        let named = |peer: SocketAddr| {
            let route = self.route_of(turn, &user, flow, peer).ok_or_else(no_call)?;
            Ok((peer, for_user(&user, &route)))
        };
        let peers: Vec<_> = peers.into_iter().map(named).collect::<Result<_, Refusal>>()?;
        self.ask_bearers(turn, Hop::Flow(flow), message, peers)
    }

    /// Passes a request on to the node at `peer`.
    ///
    /// # Errors
    /// This node is in no cluster, or the message cannot be passed on.
    pub(super) fn send_to_node(
        &mut self,
        turn: &mut Turn<'_>,
        from: Passing,
        peer: SocketAddr,
        message: &Message,
        passed_for: String,
    ) -> Result<(), Refusal> {
        let none = || Refusal::new(481, "there is no such call");
        let advertise = self.services.cluster.as_ref().map(|c| c.advertise()).ok_or_else(none)?;
        let branch = self.branch(from.hop, peer, false, message)?;
        let via = format!("SIP/2.0/TLS {advertise};branch={branch}");
        // Who begins a dialog here is reached by this node in it.
        let begins =
            message.method() == Method::Invite && message.to().is_some_and(|to| to.tag().is_none());
        let route = passed_for.strip_prefix("user:").and_then(|user| Some(user.split_once(' ')?.1));
        let record_route = route.filter(|_| begins).map(str::to_owned);
        let (passed_for, several, tell) = (Some(passed_for), from.several, from.tell);
        let changes = HopChanges { passed_for, several, tell, record_route, ..HopChanges::of(via) };
        self.send_on(turn, Hop::Node(peer), message, changes)
    }

    /// The route by which `peer` reaches a flow here.
    pub(super) fn route_of(
        &self,
        turn: &Turn<'_>,
        user: &str,
        flow: Flow,
        peer: SocketAddr,
    ) -> Option<String> {
        let cluster = self.services.cluster.as_ref()?;
        let bindings = self.services.registrar.bindings(turn.now, user);
        let own = bindings.iter().find(|b| b.flow == flow);
        let instance = own.and_then(|b| b.instance.as_ref()).map(|i| i.0.as_str());
        self.own_route(&EdgeToken {
            node: cluster.node().to_owned(),
            epoch: cluster.epoch(),
            flow: flow.0,
            user: user.to_owned(),
            instance: short(instance),
            owner: Some(peer),
            owner_epoch: cluster.epoch_at(peer),
        })
    }

    fn send_on(
        &mut self,
        turn: &mut Turn<'_>,
        to: Hop,
        message: &Message,
        changes: HopChanges,
    ) -> Result<(), Refusal> {
        // Whoever ends a call has gone, and a message that passes a node ends at one: it continues.
        let floor = u32::from(message.ends_something());
        let left = message.max_forwards().max(floor).checked_sub(1).ok_or_else(|| {
            Refusal::new(483, "Max-Forwards is used up: a loop?").code(Code::LOOP)
        })?;
        let changes = HopChanges { max_forwards: Some(left), ..changes };
        turn.push(Output::Send(Transmit { hop: to, bytes: passed_on(message, &changes) }));
        Ok(())
    }

    /// A response to a request that was passed on.
    fn pass_response(&mut self, turn: &mut Turn<'_>, hop: Hop, message: &Message) -> bool {
        let Some(branch) = message.via().and_then(|via| via.branch().map(str::to_owned)) else {
            return false;
        };
        let Some(text) = branch.strip_prefix(PASSED_ON) else {
            return self.pass_response_to_bearer(turn, hop, message, &branch);
        };
        let token = self.read_branch(text);
        if let (Some(token), Hop::Node(peer)) = (&token, hop)
            && !token.to_node
            && peer == token.peer
        {
            let key = AskedKey::new(token.origin, token.of, message.method());
            if self.node_told(turn, key, peer, message.header_named(HAS)) {
                return true;
            }
        }
        let to = token.and_then(|token| match hop {
            Hop::Node(peer) if !token.to_node && peer == token.peer => {
                let flow = matches!(token.origin, ForeignHop::Flow(_));
                let own = self.services.cluster.as_ref()?.is_own_epoch(token.epoch);
                (own || !flow).then(|| token.origin.hop())
            }
            Hop::Flow(flow) if token.to_node && token.origin == ForeignHop::Flow(flow.0) => {
                Some(Hop::Node(token.peer))
            }
            _ => None,
        });
        match to {
            Some(to) => {
                let bytes = passed_on(message, &HopChanges::default());
                turn.push(Output::Send(Transmit { hop: to, bytes }));
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
        origin: Hop,
        peer: SocketAddr,
        to_node: bool,
        message: &Message,
    ) -> Result<String, Refusal> {
        let none = || Refusal::new(400, "a request needs a Via with a branch");
        let came = message.via().and_then(|via| via.branch()).ok_or_else(none)?;
        let cluster = self.services.cluster.as_ref().ok_or_else(none)?;
        let epoch = cluster.epoch();
        let origin = ForeignHop::of(origin).ok_or_else(none)?;
        let token = ViaToken { origin, epoch, peer, to_node, of: short(Some(came)) };
        let text = URL_SAFE_NO_PAD.encode(postcard::to_allocvec(&token).unwrap_or_default());
        Ok(format!("{PASSED_ON}{text}.{}", cluster.sign(&text)))
    }

    /// How a trunk is reached whose message another node passed on.
    pub(super) fn trunk_behind(&self, message: &Message, name: &str) -> Option<Hop> {
        let trunk = self.config.trunks.get(name)?;
        let token = self.read_branch(message.via()?.branch()?.strip_prefix(PASSED_ON)?)?;
        if !matches!(token.origin, ForeignHop::Flow(_)) {
            return Some(match token.origin.hop() {
                // Its place here, and by whatever address we have.
                Hop::Tls(to, _) => Hop::Tls(to, trunk.number),
                hop => hop.plain(),
            });
        }
        // It has a connection there: here it needs another.
        let via = Via::parse(message.values(HeaderName::Via).nth(1)?).ok()?;
        let secure = via.transport.eq_ignore_ascii_case("TLS");
        let ip: IpAddr = via.params.get("received").unwrap_or(via.host).parse().ok()?;
        let port = trunk.uri.as_ref().and_then(|uri| uri.port);
        let to = SocketAddr::new(ip, port.unwrap_or(if secure { 5061 } else { 5060 }));
        Some(if secure { Hop::Tls(to, trunk.number) } else { Hop::Tcp(to) })
    }

    fn read_branch(&self, text: &str) -> Option<ViaToken> {
        let (text, mac) = text.split_once('.')?;
        let own = self.services.cluster.as_ref()?.sign(text);
        verify_slices_are_equal(own.as_bytes(), mac.as_bytes()).ok()?;
        postcard::from_bytes(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()
    }
}

impl Passing {
    /// Nodes are asked whether they have what a request is of; who has answers it.
    pub(super) fn whether(hop: Hop, tell: bool) -> Passing {
        Passing { hop, several: false, tell }
    }
}

/// A request as it was before the node that passed it on put its Via in front.
pub(super) fn own_hop_off(message: &Message) -> Option<Message> {
    let bytes = passed_on(message, &HopChanges::default());
    Message::parse(bytes.to_vec(), Framing::WebSocket).ok()
}

/// The message as it continues. Of a request our route is taken off, of a response our Via.
fn passed_on(message: &Message, changes: &HopChanges) -> bytes::Bytes {
    let mut writer = MessageWriter::copy_of(message);
    if let Some(via) = &changes.via {
        writer.put(HeaderName::Via, via);
    }
    let skipped = usize::from(changes.via.is_none());
    message.response_vias().skip(skipped).for_each(|v| writer.put(HeaderName::Via, v));
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
    if let Some(whom) = &changes.passed_for {
        writer.put_named(HeaderName::Other, PASSED_FOR, whom);
    }
    if changes.several {
        writer.put_named(HeaderName::Other, ASKED, "several");
    }
    if changes.tell {
        writer.put_named(HeaderName::Other, TELL, "yes");
    }
    const BETWEEN_NODES: [&str; 4] = [PASSED_FOR, ASKED, TELL, HAS];
    let ours = |raw: &str| BETWEEN_NODES.iter().any(|own| raw.eq_ignore_ascii_case(own));
    let others = message.headers().filter(|(name, raw, _)| !OWN.contains(name) && !ours(raw));
    others.for_each(|(name, raw, value)| writer.put_named(name, raw, value));
    writer.end_copy(message.body())
}
