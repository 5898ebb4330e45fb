//! One side of a call: its dialog, its negotiation, its media end.

mod pace;

use super::context::{InDialogRequest, TransactionUser};
use super::media_path::MediaPath;
use super::owed_goodbyes::{LegOwner, OwedGoodbye};
use super::retries::Retries;
use super::transfer_state::ReferSubscription;
use super::{CallContext, CallId, CallTimer, codec_policy};
use crate::cdr::Party;
use crate::codec::Codec;
use crate::config::{Trunk, User};
use crate::dialplan::Permits;
use crate::flow::FlowKind;
use crate::media::endpoint::{Digits, EndpointSettings};
use crate::media::{LegId, MediaWatch};
use crate::pace::Pace;
use crate::sdp::crypto::{LocalKeys, Policy};
use crate::sdp::offer_answer::{Ice, LegKind, Local, Negotiated, Negotiation};
use crate::sip::build::MessageWriter;
use crate::sip::capabilities::Capabilities;
use crate::sip::dialog::{Dialog, DialogId};
use crate::sip::header::NameAddr;
use crate::sip::message::Message;
use crate::sip::parse::HeaderName;
use crate::sip::session_timer::{Granted, SessionTimer};
use crate::sip::status::{Method, Reason};
use crate::sip::transaction::{ClientId, Flow, Hop, ServerId, T1, T1X64};
use crate::timers::Timers;
use crate::worker::{OpenKind, WorkerCommand};
use bytes::Bytes;
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A 2xx of ours that waits for its ACK (RFC 3261 §13.3.1.4).
#[derive(Debug)]
pub(crate) struct AckWait {
    /// The transaction of the INVITE.
    pub server: ServerId,
    /// The 2xx as it was sent.
    pub bytes: Bytes,
    /// The CSeq that the ACK must have.
    pub cseq: u32,
    /// The time until it is sent again: 500 ms, doubled each time, 4 s at most.
    pub interval: Duration,
    /// When the ACK is no longer waited for.
    pub deadline: Instant,
    /// The 2xx carried our offer: the ACK brings the answer.
    pub expects_answer: bool,
}

/// A request within the dialog, ready to be sent.
#[derive(Debug)]
pub(super) struct Composed<'a> {
    /// Its method.
    pub(super) method: Method,
    /// The branch of its Via.
    pub(super) branch: &'a str,
    /// The request as it is sent.
    pub(super) bytes: Bytes,
}

/// What a request of ours that refreshes a session is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum RefreshKind {
    /// Nothing else.
    KeepAlive,
    /// The browser is to restart ICE.
    RestartIce,
    /// A trunk is to send its media elsewhere.
    Relocate,
}

/// A re-INVITE or UPDATE of ours that is open.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PendingOffer {
    /// INVITE or UPDATE.
    pub method: Method,
    /// Its CSeq.
    pub cseq: u32,
    /// It carries an offer.
    pub offers: bool,
    /// What it is for.
    pub kind: RefreshKind,
    /// Its transaction.
    pub client: ClientId,
}

/// A leg.
pub(crate) struct Leg {
    /// Who it is.
    pub party: Party,
    /// What a user of it may do, as it was when the leg began.
    pub account: Option<Arc<User>>,
    /// Its media endpoint.
    pub end: LegId,
    /// Where its requests are sent.
    pub hop: Hop,
    /// Where its signalling comes from, for legs whose hop is a connection.
    pub signalling: Option<IpAddr>,
    /// Our tag.
    pub local_tag: String,
    /// Its dialog, once there is one.
    pub dialog: Option<Dialog>,
    /// Dialogs that were replaced, the oldest first, while a Replaces may still name them.
    pub former: Vec<DialogId>,
    /// The first request of ours that may have been made in its dialog.
    pub first_client: ClientId,
    /// Offers and answers of this leg.
    pub negotiation: Negotiation,
    /// Our 2xx that waits for its ACK.
    pub ack_wait: Option<AckWait>,
    /// Its WebSocket is gone; nothing can be sent until it is back.
    pub flow_lost: bool,
    /// The way its media takes, if it is a browser's.
    pub path: MediaPath,
    /// It went as a page does that is closed or reloaded.
    pub page_left: bool,
    /// The flow its browser has registered by since, while nobody knows whether its own still
    /// lives: two tabs may share one instance.
    pub successor: Option<Flow>,
    /// The probe whose answer counts.
    pub probe: Option<ClientId>,
    /// Its media has stopped, or never began, though it is not on hold.
    pub silent: bool,
    /// It has been notified that nobody hears it.
    pub unheard: bool,
    /// What its peer can do.
    pub peer: Capabilities,
    /// Info packages the other side takes.
    pub passes: Vec<String>,
    /// The session timer that was agreed (RFC 4028).
    pub session: Option<SessionTimer>,
    /// When the session ends unless it is refreshed.
    pub session_ends: Option<Instant>,
    /// The re-INVITE or UPDATE of ours that is open.
    pub open: Option<PendingOffer>,
    /// Since a refresh was last accepted.
    pub retries: Retries,
    /// We sent the INVITE that made the dialog, so the Call-ID is ours (RFC 3261 §14.1).
    pub owns_call_id: bool,
    /// The realms whose challenges to its INVITE we answered; only theirs are answered later.
    pub proved_realms: Vec<String>,
    /// Transfer progress that is still to be sent; one NOTIFY is open at a time, so that they
    /// arrive in order.
    pub(super) to_tell: VecDeque<(ReferSubscription, u16)>,
    /// A NOTIFY is open.
    pub notifying: bool,
    /// The ACK of our last re-INVITE's 2xx, repeated when that is.
    pub last_ack: Option<(u32, Bytes)>,
    /// Requests of its peer's in this second.
    requests: Pace,
    /// What was passed on to its peer and not answered yet.
    unanswered: usize,
}

fn trunk_of<'a>(cx: &CallContext<'a>, party: &Party) -> Option<&'a Trunk> {
    match party {
        Party::Trunk(name) => cx.config.trunks.get(name),
        Party::User { .. } | Party::Number(_) | Party::Internal(_) => None,
    }
}

/// What a new leg's descriptions say of us; the port is filled in when media has opened.
pub(crate) fn local(cx: &mut CallContext<'_>, side: LegKind, hop: Hop, remote_ip: IpAddr) -> Local {
    let ice = (side == LegKind::Browser)
        .then(|| Ice { ufrag: cx.token()[..8].to_owned(), pwd: cx.token()[..24].to_owned() });
    let offered = match side {
        LegKind::Browser => cx.services.identity.reach.for_browsers(cx.config),
        LegKind::Trunk => vec![cx.media_ip(hop, remote_ip)],
    };
    let ip = offered.first().copied().unwrap_or(remote_ip);
    let more = offered.iter().skip(1).map(|ip| SocketAddr::new(*ip, 0));
    Local {
        side,
        address: SocketAddr::new(ip, 0),
        tcp: false,
        more_addresses: more.collect(),
        ice,
        fingerprint: cx.services.identity.fingerprint.clone(),
        // RFC 8829 §5.2.1: 63 random bits.
        session_id: cx.random_u64() >> 2,
        ssrc: cx.random_u64() as u32,
        cname: cx.token()[..16].to_owned(),
        comfort_noise: false,
        srtp: Policy::Off,
        srtp_keys: LocalKeys::default(),
    }
}

/// What a 2xx to an INVITE says.
pub(crate) struct Acceptance<'a> {
    /// The description in its body.
    pub sdp: Option<&'a str>,
    /// The description is an offer, so the ACK brings the answer.
    pub expects_answer: bool,
    /// The session timer that was agreed.
    pub granted: Option<Granted>,
}

impl Leg {
    /// A leg without a dialog.
    pub(crate) fn new(
        cx: &mut CallContext<'_>,
        party: Party,
        end: LegId,
        hop: Hop,
        remote_ip: IpAddr,
    ) -> Leg {
        let side =
            if matches!(party, Party::User { .. }) { LegKind::Browser } else { LegKind::Trunk };
        let mut local = local(cx, side, hop, remote_ip);
        if let Some(trunk) = trunk_of(cx, &party) {
            (local.comfort_noise, local.srtp) = (trunk.comfort_noise, trunk.srtp);
        }
        if local.srtp != Policy::Off {
            local.srtp_keys = LocalKeys::generate(|| cx.random_u64());
        }
        let negotiation = Negotiation::new(local);
        Leg {
            account: cx.account(&party, hop),
            party,
            end,
            hop,
            signalling: cx.remote_ip(hop).or(Some(remote_ip)),
            local_tag: cx.marked_token(),
            dialog: None,
            former: Vec::new(),
            first_client: ClientId(0),
            negotiation,
            ack_wait: None,
            flow_lost: false,
            path: MediaPath::default(),
            page_left: false,
            successor: None,
            probe: None,
            silent: false,
            unheard: false,
            peer: Capabilities::default(),
            passes: Vec::new(),
            session: None,
            session_ends: None,
            open: None,
            retries: Retries::default(),
            owns_call_id: false,
            proved_realms: Vec::new(),
            to_tell: VecDeque::new(),
            notifying: false,
            last_ack: None,
            requests: Pace::default(),
            unanswered: 0,
        }
    }

    /// Whether it is half of two joined calls, with no signalling of its own.
    pub(crate) fn is_internal(&self) -> bool {
        matches!(self.party, Party::Internal(_))
    }

    /// The number its user is known by to others; the name of a user without one.
    pub(crate) fn number(&self) -> Option<String> {
        let Party::User { name, .. } = &self.party else { return None };
        Some(self.account.as_ref().and_then(|u| u.did.clone()).unwrap_or_else(|| name.clone()))
    }

    /// What its party may call, and the dialplan it calls by.
    pub(crate) fn permits(&self) -> &Permits {
        self.account.as_ref().map_or(Permits::NONE, |u| &u.permits)
    }

    /// How media opens its end.
    pub(crate) fn open_kind(&self, cx: &CallContext<'_>) -> OpenKind {
        match &self.party {
            Party::User { .. } => {
                OpenKind::Browser { ice: self.negotiation.local.ice.clone().unwrap_or_default() }
            }
            Party::Trunk(_) | Party::Number(_) | Party::Internal(_) => {
                OpenKind::Trunk { nat: self.trunk(cx).is_some_and(|t| t.nat) }
            }
        }
    }

    /// The codecs to describe this leg with, best first, once the other side has settled on one;
    /// and how much of its sound that side hears.
    pub(crate) fn codecs_beside(
        &mut self,
        cx: &CallContext<'_>,
        other: Option<(Party, Codec)>,
    ) -> Vec<Codec> {
        let other = other.as_ref().map(|(party, codec)| (party, *codec));
        self.negotiation.playback_rate = other
            .and_then(|(party, codec)| codec_policy::playback_rate(cx.config, party, &[codec]));
        codec_policy::answer(cx.config, &self.party, other)
    }

    /// Whether its peer is one that texts may be sent to.
    pub(crate) fn takes_messages(&self, cx: &CallContext<'_>) -> bool {
        match &self.party {
            Party::Trunk(_) => self.trunk(cx).is_some_and(|t| t.messages),
            Party::User { .. } => true,
            Party::Number(_) | Party::Internal(_) => false,
        }
    }

    /// The trunk this leg is on.
    fn trunk<'a>(&self, cx: &CallContext<'a>) -> Option<&'a Trunk> {
        trunk_of(cx, &self.party)
    }

    /// How digits are sent to this leg's peer.
    pub(crate) fn dtmf(&self, cx: &CallContext<'_>) -> Digits {
        self.trunk(cx).map_or(Digits::Events, |t| t.dtmf)
    }

    /// Media is open at this address; its port goes into our descriptions.
    pub(crate) fn on_media_opened(&mut self, address: SocketAddr, tcp: bool) {
        let local = &mut self.negotiation.local;
        local.tcp = tcp;
        local.address.set_port(address.port());
        local.more_addresses.iter_mut().for_each(|a| a.set_port(address.port()));
    }

    /// Tells media what was agreed.
    pub(crate) fn configure(
        &self,
        cx: &mut CallContext<'_>,
        call: CallId,
        worker: usize,
        negotiated: &Negotiated,
    ) {
        let settings = EndpointSettings {
            negotiated: cx.media_policy().with_checked_rtcp(self, negotiated.clone()),
            complexity: cx.config.media.complexity,
            digits: self.dtmf(cx),
            continuous: self.trunk(cx).is_some_and(|t| t.continuous),
            watch: self.watch(cx),
        };
        cx.media(
            worker,
            WorkerCommand::Configure {
                session: call.0,
                end: self.end,
                settings: Box::new(settings),
            },
        );
    }

    /// Tells media that the leg is answered, if the peer's source address may be learned.
    pub(super) fn answered(&self, cx: &mut CallContext<'_>, call: CallId, worker: usize) {
        if self.trunk(cx).is_some_and(|t| t.nat || t.nat_signalling) {
            cx.media(worker, WorkerCommand::Answered { session: call.0, end: self.end });
        }
    }

    /// How long its media may be silent; a trunk may have a time of its own.
    fn watch(&self, cx: &CallContext<'_>) -> MediaWatch {
        let media = &cx.config.media;
        MediaWatch {
            stopped: self.trunk(cx).map_or(media.watch.stopped, |t| t.stopped_after),
            again: media.watch.again,
            // Reported as soon as either may matter; the call decides which one does.
            silent: [media.watch.silent, media.hold_timeout].into_iter().flatten().min(),
        }
    }

    /// The seconds of the session timer we ask for on this leg.
    pub(crate) fn session_wish(&self, cx: &CallContext<'_>) -> Option<u32> {
        match &self.party {
            Party::Trunk(_) => self.trunk(cx).and_then(|t| t.session_timer),
            Party::User { .. } => cx.config.sip.session_timer,
            Party::Number(_) | Party::Internal(_) => None,
        }
    }

    /// Starts, or starts again, the session timer.
    pub(crate) fn run_session(
        &mut self,
        cx: &mut CallContext<'_>,
        call: CallId,
        timer: Option<SessionTimer>,
    ) {
        self.session = timer;
        match timer {
            Some(timer) => {
                self.session_ends = Some(cx.now + timer.expiry());
                cx.arm(call, CallTimer::Session(self.end), timer.due());
            }
            None => {
                self.session_ends = None;
                cx.disarm(call, CallTimer::Session(self.end));
            }
        }
    }

    /// Nobody could be heard for `by`: the session, and the wait for an ACK, end that much later. A
    /// refresh that we owe is due as it was.
    pub(super) fn put_off(
        &mut self,
        call: CallId,
        timers: &mut Timers<(CallId, CallTimer)>,
        now: Instant,
        by: Duration,
    ) {
        self.put_session_off(call, timers, by);
        self.ack_wait.iter_mut().for_each(|wait| wait.deadline += by);
        self.path.put_off(now, by);
    }

    /// The session ends `by` later; a refresh that we owe is due as it was.
    pub(super) fn put_session_off(
        &mut self,
        call: CallId,
        timers: &mut Timers<(CallId, CallTimer)>,
        by: Duration,
    ) {
        let Some(ends) = &mut self.session_ends else { return };
        let timer = (call, CallTimer::Session(self.end));
        let judges = timers.deadline(&timer).is_some_and(|at| at >= *ends);
        *ends += by;
        if judges {
            timers.set(timer, *ends);
        }
    }

    /// A 2xx to a request within the dialog, with what every one carries.
    pub(crate) fn success(
        &self,
        cx: &CallContext<'_>,
        request: &Message,
        granted: Option<&Granted>,
    ) -> MessageWriter {
        let mut response = MessageWriter::response(request, 200, Some(&self.local_tag));
        if request.method() == Method::Invite {
            request
                .values(HeaderName::RecordRoute)
                .filter(|r| NameAddr::parse(r).is_ok())
                .for_each(|r| response.put(HeaderName::RecordRoute, r));
        }
        response.put(HeaderName::Contact, cx.contact(self.hop, "call"));
        response.put(HeaderName::Allow, crate::sip::status::ALLOW);
        response.put(HeaderName::Supported, self.supported());
        self.invite_packages(&mut response);
        if let Some(granted) = granted {
            if granted.header.refresher_uac == Some(true) {
                response.put(HeaderName::Require, "timer");
            }
            response.put(HeaderName::SessionExpires, granted.header);
        }
        response
    }

    /// Sends a 2xx to an INVITE and keeps it until its ACK comes.
    pub(crate) fn accept(
        &mut self,
        cx: &mut CallContext<'_>,
        call: CallId,
        server: ServerId,
        request: &Message,
        with: Acceptance<'_>,
    ) {
        let Acceptance { sdp, expects_answer, granted } = with;
        let response = self.success(cx, request, granted.as_ref());
        let bytes = response.end_described(sdp);
        cx.respond(server, 200, bytes.clone());
        let cseq = request.cseq().map_or(0, |c| c.number);
        self.ack_wait = Some(AckWait {
            server,
            bytes,
            cseq,
            interval: T1,
            deadline: cx.now + T1X64,
            expects_answer,
        });
        cx.arm(call, CallTimer::Ack(self.end), T1);
        self.run_session(cx, call, granted.map(|g| g.timer));
    }

    /// Whether its signalling comes and goes by another node, and its media does not.
    pub(super) fn is_elsewhere(&self) -> bool {
        matches!((&self.party, self.hop), (Party::User { .. }, Hop::Node(_)))
    }

    /// Starts a request of ours within the dialog: its writer, branch and CSeq. `None` if there is
    /// no dialog, or no way to send.
    pub(crate) fn begin(
        &mut self,
        cx: &mut CallContext<'_>,
        method: Method,
    ) -> Option<(MessageWriter, String, u32)> {
        if self.flow_lost {
            return None;
        }
        let hop = self.hop;
        let dialog = self.dialog.as_mut()?;
        let (branch, via) = cx.via(hop);
        let request = dialog.request(method, &via);
        Some((request, branch, dialog.local_cseq))
    }

    /// Sends a request begun with [`begin`](Self::begin); its response comes back as `asked`.
    pub(super) fn ask(
        &mut self,
        cx: &mut CallContext<'_>,
        call: CallId,
        request: Composed<'_>,
        asked: InDialogRequest,
    ) -> ClientId {
        let client = cx.request(request.method, request.branch, self.hop, request.bytes);
        cx.services.transaction_users.insert(client, TransactionUser::Leg(call, self.end, asked));
        self.unanswered += usize::from(asked == InDialogRequest::Info);
        client
    }

    /// Stops everything that runs for this leg but its dialog.
    pub(crate) fn stop_timers(&mut self, cx: &mut CallContext<'_>, call: CallId) {
        for timer in [
            CallTimer::Ack(self.end),
            CallTimer::Session(self.end),
            CallTimer::Glare(self.end),
            CallTimer::FlowGrace(self.end),
            CallTimer::Path(self.end),
            CallTimer::Probe(self.end),
        ] {
            cx.disarm(call, timer);
        }
        self.ack_wait = None;
        self.session = None;
        if let Some(open) = self.open.take().filter(|o| o.method == Method::Invite) {
            // Its final response matters no more; it is awaited for 64*T1 at most.
            cx.services.transactions.cancelled(cx.now, open.client);
        }
    }

    /// Sends BYE if there is a dialog and a way to send: its request.
    pub(super) fn bye(
        &mut self,
        cx: &mut CallContext<'_>,
        call: CallId,
        why: &Reason,
    ) -> Option<ClientId> {
        self.stop_timers(cx, call);
        let (bye, branch, _) = self.begin(cx, Method::Bye)?;
        Some(self.say_goodbye(cx, bye, &branch, why))
    }

    /// Sends BYE, which a browser gets once it is back if it is away, or if its connection turns
    /// out to be dead. A page that was left has nobody who waits for it.
    pub(super) fn hang_up(&mut self, cx: &mut CallContext<'_>, call: CallId, why: &Reason) {
        let said = self.bye(cx, call, why).map(|client| (client, self.hop));
        let (Party::User { name, instance }, Some(dialog)) = (&self.party, &self.dialog) else {
            return;
        };
        if self.page_left || !matches!(self.hop, Hop::Flow(_) | Hop::Suspended) {
            return;
        }
        let place = self.account.as_ref().map(|user| user.place());
        let to = LegOwner { user: name.clone(), instance: instance.clone(), place };
        let owed = OwedGoodbye { to, dialog: dialog.clone(), why: why.clone() };
        cx.services.owed_goodbyes.owe(owed, cx.now + T1X64, said);
    }

    /// Whether it is of this trunk, and the connection its trunk made is gone: one would have to be
    /// made to it, and it may go by one of this kind instead. What went over TLS never goes on in
    /// the clear.
    pub(super) fn may_follow(&self, trunk: &str, kind: FlowKind) -> bool {
        let follows = match self.hop {
            Hop::Tcp(_) => true,
            Hop::Tls(..) => kind == FlowKind::Tls,
            _ => false,
        };
        follows && matches!(&self.party, Party::Trunk(name) if name == trunk)
    }

    /// Our tags it is, and was, known by.
    pub(crate) fn tags(&self) -> impl Iterator<Item = &String> {
        std::iter::once(&self.local_tag).chain(self.former.iter().map(|id| &id.local_tag))
    }

    /// Whether what became of a request of ours says anything of its dialog: it was made in it.
    pub(super) fn asked_within(&self, client: ClientId) -> bool {
        client >= self.first_client
    }

    /// Remembers its dialog under our tag.
    pub(crate) fn enter(&mut self, cx: &mut CallContext<'_>, call: CallId, dialog: Dialog) {
        cx.services.dialogs.insert(dialog.id.local_tag.clone(), (call, self.end));
        self.dialog = Some(dialog);
    }
}
