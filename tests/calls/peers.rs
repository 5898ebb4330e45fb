//! What the peers of the laboratory say: requests, responses, logins.

use crate::lab::*;
use webtrunk::gateway::{FlowKind, Input};
use webtrunk::sip::digest;
use webtrunk::sip::parse::{Framing, HeaderName};
use webtrunk::sip::transaction::Flow;
use webtrunk::sip::{Message, Method};

impl Lab {
    /// A request outside a dialog.
    pub(crate) fn request(
        &mut self,
        peer: Peer,
        method: &str,
        uri: &str,
        extra: &str,
        body: &str,
    ) -> String {
        let n = self.token();
        let (via, contact) = match peer {
            Peer::Browser(name, _) => {
                ("WS x.invalid".to_owned(), format!("<sip:{name}@x.invalid;transport=ws>"))
            }
            Peer::Trunk(_, n) => {
                (format!("UDP 127.0.0.{n}:5060"), format!("<sip:trunk@127.0.0.{n}>"))
            }
        };
        let from = match peer {
            Peer::Browser(name, _) => format!("<sip:{name}@wt.test>"),
            Peer::Trunk(..) => "\"Anna\" <sip:+4930123456@carrier>".to_owned(),
        };
        let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        let contact = if extra.contains("Contact:") {
            String::new()
        } else {
            format!("Contact: {contact}\r\n")
        };
        format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/{via};branch=z9hG4bK-{n}\r\nMax-Forwards: 70\r\nFrom: {from};tag=f{n}\r\n\
             To: <{uri}>\r\nCall-ID: c{n}@lab\r\nCSeq: {n} {method}\r\n{contact}{extra}{kind}Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    }

    /// Opens a flow and registers with digest.
    pub(crate) fn log_in(&mut self, peer: Peer, password: &str, instance: &str) {
        let Peer::Browser(name, _) = peer else { panic!("only browsers register") };
        let contact = format!(
            "Contact: <sip:{name}@x.invalid;transport=ws>;reg-id=1;+sip.instance=\"<urn:{instance}>\";expires=600\r\nSupported: outbound, path\r\n"
        );
        self.log_in_with(peer, password, &contact);
    }

    /// As [`log_in`](Self::log_in) with the REGISTER's lines given, Contact among them; the 200.
    pub(crate) fn log_in_with(&mut self, peer: Peer, password: &str, contact: &str) -> Message {
        let Peer::Browser(name, _) = peer else { panic!("only browsers register") };
        self.phones.push(peer);
        self.connects(peer);
        let register = self.register_of(peer, name, contact);
        self.proves(peer, &register, name, password);
        self.take(peer, "200")
    }

    /// Opens a browser's WebSocket.
    pub(crate) fn connects(&mut self, peer: Peer) {
        let Peer::Browser(_, flow) = peer else { panic!("only browsers have flows") };
        let (flow, kind, remote) = (Flow(flow), FlowKind::WebSocket, peer.remote());
        self.handle(Input::FlowOpened { flow, kind, remote });
    }

    /// A REGISTER of `user` with these header lines.
    pub(crate) fn register_of(&mut self, peer: Peer, user: &str, lines: &str) -> String {
        let text = self.request(peer, "REGISTER", "sip:wt.test", lines, "");
        text.replace("To: <sip:wt.test>", &format!("To: <sip:{user}@wt.test>"))
    }

    /// Says a request, and once more with the answer to its challenge, which is returned.
    pub(crate) fn proves(
        &mut self,
        peer: Peer,
        request: &str,
        user: &str,
        password: &str,
    ) -> String {
        self.says(peer, request);
        let challenge = self.take(peer, "401");
        let answer = self.answer_challenge(&challenge, request, user, password);
        self.says(peer, &answer);
        answer
    }

    /// The request again with credentials.
    pub(crate) fn answer_challenge(
        &mut self,
        challenge: &Message,
        request: &str,
        user: &str,
        password: &str,
    ) -> String {
        let message =
            Message::parse(request.as_bytes().to_vec(), Framing::WebSocket).expect("own request");
        let method = Method::from_token(message.method_token());
        let (name, value) =
            digest::answer(challenge, user, password, message.request_uri(), method, "cn0")
                .expect("a challenge we can answer");
        let n = self.token();
        let branch = message.via().and_then(|v| v.branch().map(str::to_owned)).expect("own via");
        request.replace(&branch, &format!("z9hG4bK-{n}")).replacen(
            "Content-Length",
            &format!("{name}: {value}\r\nContent-Length"),
            1,
        )
    }

    /// A response of a peer to a request it got.
    pub(crate) fn reply(&mut self, peer: Peer, request: &Message, status: u16, body: &str) {
        self.reply_as(peer, request, status, body, "peer");
    }

    pub(crate) fn reply_as(
        &mut self,
        peer: Peer,
        request: &Message,
        status: u16,
        body: &str,
        tag: &str,
    ) {
        self.reply_with(peer, request, status, body, tag, "");
    }

    pub(crate) fn reply_with(
        &mut self,
        peer: Peer,
        request: &Message,
        status: u16,
        body: &str,
        tag: &str,
        extra: &str,
    ) {
        let header = |name| request.header(name).unwrap_or_default().to_owned();
        let to = header(HeaderName::To);
        let to = if to.contains(";tag=") || status == 100 { to } else { format!("{to};tag={tag}") };
        let contact = match peer {
            Peer::Browser(name, _) => format!("<sip:{name}@x.invalid;transport=ws>"),
            Peer::Trunk(_, n) => format!("<sip:far@127.0.0.{n}>"),
        };
        let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        let text = format!(
            "SIP/2.0 {status} {}\r\nVia: {}\r\nFrom: {}\r\nTo: {to}\r\nCall-ID: {}\r\nCSeq: {}\r\nContact: {contact}\r\n{extra}{kind}Content-Length: {}\r\n\r\n{body}",
            webtrunk::sip::status::reason_phrase(status),
            header(HeaderName::Via),
            header(HeaderName::From),
            header(HeaderName::CallId),
            header(HeaderName::CSeq),
            body.len()
        );
        self.says(peer, &text);
    }

    /// A request of a peer within the dialog that `seen` belongs to: a request it received, or a
    /// response it got.
    pub(crate) fn in_dialog(
        &mut self,
        peer: Peer,
        seen: &Message,
        method: &str,
        cseq: u32,
        tag: &str,
        body: &str,
    ) -> String {
        let header = |name| seen.header(name).unwrap_or_default().to_owned();
        let (from, to) = if seen.is_request() {
            (format!("{};tag={tag}", header(HeaderName::To)), header(HeaderName::From))
        } else {
            (header(HeaderName::From), header(HeaderName::To))
        };
        let uri = seen
            .contact()
            .map(|c| c.uri.text.to_owned())
            .unwrap_or_else(|| "sip:call@wt.test".into());
        let n = self.token();
        let via = match peer {
            Peer::Browser(..) => "WS x.invalid".to_owned(),
            Peer::Trunk(_, n) => format!("UDP 127.0.0.{n}:5060"),
        };
        let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/{via};branch=z9hG4bK-d{n}\r\nMax-Forwards: 70\r\nFrom: {from}\r\nTo: {to}\r\nCall-ID: {}\r\n\
             CSeq: {cseq} {method}\r\n{kind}Content-Length: {}\r\n\r\n{body}",
            header(HeaderName::CallId),
            body.len()
        )
    }

    /// Sends an INVITE of `peer`; returns it as text.
    pub(crate) fn invite(&mut self, peer: Peer, number: &str, body: &str) -> String {
        let host = if matches!(peer, Peer::Browser(..)) { "wt.test" } else { "127.0.0.1" };
        let text = self.request(peer, "INVITE", &format!("sip:{number}@{host}"), "", body);
        self.says(peer, &text);
        text
    }

    pub(crate) fn ack(&mut self, peer: Peer, ok: &Message) {
        let cseq = ok.cseq().expect("a 200 has a CSeq").number;
        let text = self.in_dialog(peer, ok, "ACK", cseq, "", "");
        self.says(peer, &text);
    }

    /// CANCEL for an INVITE sent as text.
    pub(crate) fn cancel(&mut self, peer: Peer, invite: &str) {
        self.cancel_as(peer, invite, str::to_owned);
    }

    /// As [`cancel`](Self::cancel), changed before it is sent.
    pub(crate) fn cancel_as(&mut self, peer: Peer, invite: &str, change: impl Fn(&str) -> String) {
        let head = invite.split("\r\n\r\n").next().expect("a head");
        let lines: Vec<&str> = head
            .lines()
            .filter(|l| {
                !["Content-Type", "Content-Length", "Contact"].iter().any(|p| l.starts_with(p))
            })
            .collect();
        let text = lines.join("\r\n").replacen("INVITE", "CANCEL", 1).replace(" INVITE", " CANCEL");
        self.says(peer, &change(&format!("{text}\r\nContent-Length: 0\r\n\r\n")));
    }

    /// A call of alice to a trunk, answered and acknowledged: her 200, and the trunk's INVITE.
    pub(crate) fn talk(&mut self, number: &str) -> (Message, Message) {
        self.calls(ALICE, number);
        let invite = self.take(T1, "INVITE");
        self.answers(T1);
        let ok = self.take(ALICE, "200");
        self.ack(ALICE, &ok);
        self.take(T1, "ACK");
        self.played = self.ladder.lines().count();
        (ok, invite)
    }
}
