//! A browser: it registers, rings and is rung, and comes back when its connection is gone.

use std::collections::{BTreeMap, BTreeSet};
use webtrunk::sip::parse::HeaderName;
use webtrunk::sip::{Message, Method, digest};

pub(crate) const OFFER: &str = include_str!("../corpus/chromium/loop_audio_full.sdp");
pub(crate) const ANSWER: &str = include_str!("../corpus/chromium/answer-opus.sdp");

/// A call as a phone sees it.
#[derive(Clone)]
struct PhoneCall {
    /// What the dialog is made of: the INVITE it got, or the 200.
    made_by: Option<Message>,
    incoming: bool,
    answered: bool,
    over: bool,
    cseq: u32,
}

pub(crate) struct Phone {
    pub(crate) name: String,
    /// Its phone's own name: a user may have several.
    pub(crate) instance: String,
    /// Its connection: the node, and the flow there.
    pub(crate) at: Option<(usize, u64)>,
    /// Of the connection that is being opened.
    pub(crate) attempts: u64,
    pub(crate) registered: usize,
    register: String,
    calls: BTreeMap<String, PhoneCall>,
    /// BYEs it was sent, by Call-ID: the branches.
    byes: BTreeMap<String, BTreeSet<String>>,
    /// How often it was in a call that it had been told is over.
    pub(crate) hung_up_twice: usize,
    next: u64,
    /// Re-INVITEs it was sent.
    pub(crate) moved: usize,
    /// The final status of its newest INVITE.
    pub(crate) status: Option<u16>,
    /// What its newest OPTIONS within a call was answered with.
    pub(crate) asked: Option<u16>,
    /// Rings and is not answered.
    pub(crate) lets_ring: bool,
    /// What it says of the session's length when it answers.
    pub(crate) session: &'static str,
    /// Requests outside calls that it was sent.
    pub(crate) got: Vec<Message>,
    /// What its own were answered with.
    pub(crate) answers: Vec<Message>,
    /// The credentials of its last REGISTER that was challenged.
    pub(crate) credentials: String,
}

/// What a phone does about a message.
#[derive(Default)]
pub(crate) struct Reaction {
    /// Sent at once.
    pub(crate) now: Vec<String>,
    /// Sent once somebody has picked up.
    pub(crate) later: Vec<String>,
}

impl Phone {
    pub(crate) fn new(name: String) -> Phone {
        let instance = name.clone();
        Phone::of(name, instance)
    }

    /// One of several phones of a user.
    pub(crate) fn of(name: String, instance: String) -> Phone {
        Phone {
            name,
            instance,
            at: None,
            attempts: 0,
            registered: 0,
            register: String::new(),
            calls: BTreeMap::new(),
            byes: BTreeMap::new(),
            hung_up_twice: 0,
            next: 0,
            moved: 0,
            status: None,
            asked: None,
            lets_ring: false,
            session: "",
            got: Vec::new(),
            answers: Vec::new(),
            credentials: String::new(),
        }
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn contact(&self) -> String {
        format!("<sip:{}@x.invalid;transport=ws>", self.name)
    }

    pub(crate) fn register(&mut self) -> String {
        let (n, name, instance) = (self.number(), &self.name, &self.instance);
        self.register = format!(
            "REGISTER sip:wt.test SIP/2.0\r\nVia: SIP/2.0/WS x.invalid;branch=z9hG4bK{name}r{n}\r\nMax-Forwards: 70\r\n\
             From: <sip:{name}@wt.test>;tag=r\r\nTo: <sip:{name}@wt.test>\r\nCall-ID: r-{instance}-{}\r\nCSeq: {n} REGISTER\r\n\
             Contact: {};reg-id=1;+sip.instance=\"<urn:uuid:{instance}>\";expires=600\r\nSupported: outbound, path, gruu\r\n\
             Content-Length: 0\r\n\r\n",
            self.attempts,
            self.contact()
        );
        self.register.clone()
    }

    /// As [`register`](Self::register), by a token.
    pub(crate) fn register_by(&mut self, token: &str) -> String {
        let bearer = format!("Authorization: Bearer {token}\r\nContent-Length");
        self.register().replacen("Content-Length", &bearer, 1)
    }

    /// A request outside calls, to a URI of the domain; `more` are whole header lines.
    pub(crate) fn outside(&mut self, method: &str, uri: &str, more: &str, body: &str) -> String {
        let (n, name) = (self.number(), self.name.clone());
        format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/WS x.invalid;branch=z9hG4bK{name}o{n}\r\nMax-Forwards: 70\r\n\
             From: <sip:{name}@wt.test>;tag=o{n}\r\nTo: <{uri}>\r\nCall-ID: {name}-o{n}\r\nCSeq: 1 {method}\r\n\
             Contact: {}\r\n{more}Content-Length: {}\r\n\r\n{body}",
            self.contact(),
            body.len()
        )
    }

    /// What its newest request outside calls was answered with.
    pub(crate) fn answered(&self) -> Option<u16> {
        self.answers.last().map(Message::status)
    }

    /// The temporary GRUU of its last registration.
    pub(crate) fn temporary_gruu(&self) -> String {
        let registered = |m: &&Message| m.method() == Method::Register && m.status() == 200;
        let ok = self.answers.iter().rev().find(registered).expect("it registered");
        let own = format!("urn:uuid:{}>", self.instance);
        let contact = ok.all(HeaderName::Contact).find(|c| c.contains(&own)).expect("its own");
        let (_, gruu) = contact.split_once("temp-gruu=\"").expect("a temporary GRUU");
        gruu.split('"').next().expect("its end").to_owned()
    }

    pub(crate) fn invite(&mut self, number: usize) -> String {
        self.invite_to(&format!("sip:{number}@wt.test"))
    }

    pub(crate) fn invite_to(&mut self, uri: &str) -> String {
        let (n, name) = (self.number(), self.name.clone());
        let call_id = format!("{name}-c{n}");
        let call =
            PhoneCall { made_by: None, incoming: false, answered: false, over: false, cseq: 1 };
        self.calls.insert(call_id.clone(), call);
        self.status = None;
        format!(
            "INVITE {uri} SIP/2.0\r\nVia: SIP/2.0/WS x.invalid;branch=z9hG4bK{name}i{n}\r\nMax-Forwards: 70\r\n\
             From: <sip:{name}@wt.test>;tag=f{n}\r\nTo: <{uri}>\r\nCall-ID: {call_id}\r\nCSeq: 1 INVITE\r\n\
             Contact: {}\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{OFFER}",
            self.contact(),
            OFFER.len()
        )
    }

    /// Whether it is in a call that was answered.
    pub(crate) fn talks(&self) -> bool {
        self.calls.values().any(|c| c.answered && !c.over)
    }

    /// How many calls ring it, or rang it and were answered, and are not over.
    pub(crate) fn incoming(&self) -> usize {
        self.calls.values().filter(|c| c.incoming && !c.over).count()
    }

    /// How many calls have rung it.
    pub(crate) fn rung(&self) -> usize {
        self.calls.values().filter(|c| c.incoming).count()
    }

    /// Its page was reloaded: the INVITE that takes its newest call up.
    pub(crate) fn replace(&mut self) -> String {
        let mut talking = self.calls.iter().filter(|(_, c)| c.answered && !c.over);
        let id = talking.next_back().expect("it talks").0.clone();
        let (to, from) = self.tags_of(&id);
        let call = self.calls.get_mut(&id).expect("it talks");
        call.over = true;
        let replaces = format!("Replaces: {id};to-tag={to};from-tag={from}\r\nContent-Type");
        self.invite_to("sip:resume@wt.test").replacen("Content-Type", &replaces, 1)
    }

    /// The tags in a call: the other side's, and its own.
    fn tags_of(&self, id: &str) -> (String, String) {
        let call = &self.calls[id];
        let made_by = call.made_by.clone().expect("it was answered");
        let tag = |a: Option<webtrunk::sip::header::NameAddr<'_>>| {
            a.and_then(|a| a.tag().map(str::to_owned))
        };
        let (to, from) = (tag(made_by.to()), tag(made_by.from()));
        let (theirs, own) =
            if call.incoming { (from, Some(self.name.clone())) } else { (to, from) };
        (theirs.expect("a tag"), own.expect("a tag"))
    }

    /// Whether it rings.
    pub(crate) fn rings(&self) -> bool {
        self.calls.values().any(|c| c.incoming && !c.answered && !c.over)
    }

    /// Hangs its calls up.
    pub(crate) fn hang_up(&mut self) -> Vec<String> {
        let talking: Vec<String> = self
            .calls
            .iter()
            .filter(|(_, c)| c.answered && !c.over)
            .map(|(id, _)| id.clone())
            .collect();
        talking
            .into_iter()
            .filter_map(|id| {
                self.calls.get_mut(&id)?.over = true;
                self.in_dialog(&id, Method::Bye)
            })
            .collect()
    }

    /// The REFER that joins its two newest calls.
    pub(crate) fn refer(&mut self) -> String {
        let talking = self.calls.iter().filter(|(_, c)| c.answered && !c.over);
        let mut ids: Vec<String> = talking.map(|(id, _)| id.clone()).collect();
        ids.sort_by_key(|id| id.rsplit('c').next().and_then(|n| n.parse::<u64>().ok()));
        let (second, first) = (ids.pop().expect("two"), ids.pop().expect("two"));
        self.refer_of((&first, &second), "joined")
    }

    /// The REFER that joins a call that it was called by and one that it made, sent in the former,
    /// or in the latter; it names whom the other is with.
    pub(crate) fn refer_across(&mut self, in_incoming: bool, whom: &str) -> String {
        let of = |incoming: bool| {
            let fits = |c: &PhoneCall| c.answered && !c.over && c.incoming == incoming;
            self.calls.iter().find(|(_, c)| fits(c)).expect("one of each").0.clone()
        };
        let (first, second) = (of(in_incoming), of(!in_incoming));
        self.refer_of((&first, &second), whom)
    }

    fn refer_of(&mut self, (first, second): (&str, &str), whom: &str) -> String {
        let (to, from) = self.tags_of(second);
        let replaces = format!("{second}%3Bto-tag%3D{to}%3Bfrom-tag%3D{from}");
        let refer_to = format!("Refer-To: <sip:{whom}@wt.test?Replaces={replaces}>\r\n");
        let refer = self.in_dialog(first, Method::Refer).expect("it is in a dialog");
        let contact = format!("Contact: {}\r\n{refer_to}Content-Length", self.contact());
        refer.replacen("Content-Length", &contact, 1)
    }

    /// OPTIONS within its calls.
    pub(crate) fn options(&mut self) -> Vec<String> {
        self.asked = None;
        let talking = self.calls.iter().filter(|(_, c)| c.answered && !c.over);
        let talking: Vec<String> = talking.map(|(id, _)| id.clone()).collect();
        talking.iter().filter_map(|id| self.in_dialog(id, Method::Options)).collect()
    }

    fn in_dialog(&mut self, id: &str, method: Method) -> Option<String> {
        let n = self.number();
        let name = self.name.clone();
        let call = self.calls.get_mut(id)?;
        let made_by = call.made_by.clone()?;
        let header = |name| made_by.header(name).unwrap_or_default().to_owned();
        let routes: Vec<String> = made_by.all(HeaderName::RecordRoute).map(str::to_owned).collect();
        let (from, to, routes) = if call.incoming {
            (format!("{};tag={name}", header(HeaderName::To)), header(HeaderName::From), routes)
        } else {
            (header(HeaderName::From), header(HeaderName::To), routes.into_iter().rev().collect())
        };
        if method != Method::Ack {
            call.cseq += 1;
        }
        let routes: String = routes.iter().map(|r| format!("Route: {r}\r\n")).collect();
        let uri = made_by.contact()?.uri.text.to_owned();
        Some(format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/WS x.invalid;branch=z9hG4bK{name}d{n}\r\n{routes}Max-Forwards: 70\r\n\
             From: {from}\r\nTo: {to}\r\nCall-ID: {id}\r\nCSeq: {} {method}\r\nContent-Length: 0\r\n\r\n",
            call.cseq
        ))
    }

    pub(crate) fn takes(&mut self, message: &Message) -> Reaction {
        if message.is_request() { self.request(message) } else { self.response(message) }
    }

    fn request(&mut self, message: &Message) -> Reaction {
        let id = message.call_id().to_owned();
        match message.method() {
            Method::Invite if message.to().is_some_and(|t| t.tag().is_none()) => {
                let call = PhoneCall {
                    made_by: Some(message.clone()),
                    incoming: true,
                    answered: false,
                    over: false,
                    cseq: 10,
                };
                self.calls.insert(id, call);
                let now = vec![self.reply(message, 180, "")];
                let picks_up = (!self.lets_ring).then(|| self.reply(message, 200, ANSWER));
                Reaction { now, later: picks_up.into_iter().collect() }
            }
            Method::Ack => {
                if let Some(call) = self.calls.get_mut(&id) {
                    call.answered = true;
                }
                Reaction::default()
            }
            Method::Bye => {
                let branch = message.via().and_then(|v| v.branch()).unwrap_or_default().to_owned();
                let byes = self.byes.entry(id.clone()).or_default();
                byes.insert(branch);
                self.hung_up_twice += usize::from(byes.len() > 1);
                let known = self.calls.get_mut(&id).map(|call| call.over = true).is_some();
                let status = if known { 200 } else { 481 };
                Reaction { now: vec![self.reply(message, status, "")], ..Reaction::default() }
            }
            Method::Cancel => {
                let ringing = self.calls.get_mut(&id).filter(|c| !c.answered);
                let made_by = ringing.and_then(|c| {
                    c.over = true;
                    c.made_by.clone()
                });
                let mut now = vec![self.reply(message, 200, "")];
                now.extend(made_by.map(|invite| self.reply(&invite, 487, "")));
                Reaction { now, ..Reaction::default() }
            }
            Method::Invite => {
                self.moved += 1;
                Reaction { now: vec![self.reply(message, 200, ANSWER)], ..Reaction::default() }
            }
            method => {
                if matches!(method, Method::Message | Method::Notify) {
                    self.got.push(message.clone());
                }
                Reaction { now: vec![self.reply(message, 200, "")], ..Reaction::default() }
            }
        }
    }

    /// Whether a call it was about to answer was given up meanwhile.
    pub(crate) fn gave_up(&self, text: &str) -> bool {
        self.calls.iter().any(|(id, c)| c.over && text.contains(&format!("Call-ID: {id}\r\n")))
    }

    fn response(&mut self, message: &Message) -> Reaction {
        let id = message.call_id().to_owned();
        match (message.method(), message.status()) {
            (Method::Register, 401) => {
                let register = Message::parse(
                    self.register.clone().into_bytes(),
                    webtrunk::sip::parse::Framing::WebSocket,
                )
                .expect("own");
                let answer = digest::answer(
                    message,
                    &self.name,
                    "secret",
                    register.request_uri(),
                    Method::Register,
                    "cn",
                );
                self.answers.push(message.clone());
                // What is wrong with a token is no challenge for a password.
                let Some((name, value)) = answer else { return Reaction::default() };
                self.credentials = format!("{name}: {value}\r\n");
                let n = self.number();
                let branch = register.via().and_then(|v| v.branch()).expect("own").to_owned();
                let cseq = register.cseq().expect("own").number;
                let again = self
                    .register
                    .replace(&branch, &format!("{branch}a{n}"))
                    .replace(&format!("CSeq: {cseq} "), &format!("CSeq: {n} "))
                    .replacen("Content-Length", &format!("{name}: {value}\r\nContent-Length"), 1);
                Reaction { now: vec![again], ..Reaction::default() }
            }
            (Method::Options, status) => {
                self.asked = Some(status);
                Reaction::default()
            }
            (Method::Register, 200) => {
                self.registered += 1;
                self.answers.push(message.clone());
                Reaction::default()
            }
            (Method::Invite, status) if status >= 200 => {
                self.status = Some(status);
                let Some(call) = self.calls.get_mut(&id) else { return Reaction::default() };
                if status >= 300 {
                    call.over = true;
                    return Reaction::default();
                }
                let first = !call.answered;
                call.made_by = Some(message.clone());
                call.answered = true;
                let mut now: Vec<String> = self.in_dialog(&id, Method::Ack).into_iter().collect();
                // An answer to a call that is over here.
                if first && self.calls.get(&id).is_some_and(|c| c.over) {
                    now.extend(self.in_dialog(&id, Method::Bye));
                }
                Reaction { now, ..Reaction::default() }
            }
            (Method::Message | Method::Subscribe, _) => {
                self.answers.push(message.clone());
                Reaction::default()
            }
            _ => Reaction::default(),
        }
    }

    fn reply(&self, request: &Message, status: u16, body: &str) -> String {
        let header = |name| request.header(name).unwrap_or_default().to_owned();
        let to = header(HeaderName::To);
        let to = if to.contains(";tag=") { to } else { format!("{to};tag={}", self.name) };
        let lines = |name: HeaderName| -> String {
            request.all(name).map(|v| format!("{name}: {v}\r\n")).collect()
        };
        let kind = match body {
            "" if request.method() != Method::Invite && request.method() != Method::Update => "",
            "" if status < 200 => "",
            "" => self.session,
            _ => &format!("{}Content-Type: application/sdp\r\n", self.session),
        };
        format!(
            "SIP/2.0 {status} x\r\n{}{}From: {}\r\nTo: {to}\r\nCall-ID: {}\r\nCSeq: {}\r\nContact: {}\r\n{kind}Content-Length: {}\r\n\r\n{body}",
            lines(HeaderName::Via),
            lines(HeaderName::RecordRoute),
            header(HeaderName::From),
            header(HeaderName::CallId),
            header(HeaderName::CSeq),
            self.contact(),
            body.len()
        )
    }
}
