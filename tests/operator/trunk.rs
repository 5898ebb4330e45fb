//! A trunk that speaks SIP over UDP to a served gateway.

use crate::server::Server;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

/// What it says of its media; nobody listens there.
const SDP: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n";

/// The trunk `peer`: one dialog at a time.
pub(crate) struct Trunk {
    socket: Arc<UdpSocket>,
    sip: SocketAddr,
    pub own: SocketAddr,
    call: String,
    to: String,
    from: String,
}

impl Trunk {
    pub(crate) fn new(server: &Server) -> Trunk {
        server.socket.set_read_timeout(Some(Duration::from_secs(10))).expect("set");
        let sip = SocketAddr::from(([127, 0, 0, 1], server.sip));
        Trunk {
            socket: server.socket.clone(),
            sip,
            own: server.trunk,
            call: String::new(),
            to: String::new(),
            from: String::new(),
        }
    }

    /// Sends an INVITE and waits for nothing.
    pub(crate) fn ring(&mut self, number: &str) {
        self.call = "op-ring".to_owned();
        self.to.clear();
        self.from = format!("<sip:+4930@{}>", self.own);
        self.send(&self.request("INVITE", number, 1, SDP));
    }

    pub(crate) fn send(&self, text: &str) {
        self.socket.send_to(text.as_bytes(), self.sip).expect("sent");
    }

    /// The next message that begins so, or a request of this method; ours to ignore are skipped.
    pub(crate) fn expect(&self, start: &str) -> String {
        let mut buf = [0; 65_536];
        loop {
            let n =
                self.socket.recv(&mut buf).unwrap_or_else(|e| panic!("{start} never came: {e}"));
            let text = String::from_utf8_lossy(&buf[..n]).into_owned();
            if text.starts_with("BYE") {
                self.send(&reply(&text));
            }
            if text.starts_with(start) {
                return text;
            }
        }
    }

    fn request(&self, method: &str, number: &str, cseq: u32, body: &str) -> String {
        let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        let branch = format!("z9hG4bK{}{method}{cseq}", self.call);
        format!(
            "{method} sip:{number}@{0} SIP/2.0\r\nVia: SIP/2.0/UDP {1};branch={branch}\r\nMax-Forwards: 70\r\nFrom: {5};tag=f\r\nTo: <sip:{number}@{0}>{2}\r\n\
             Call-ID: {3}\r\nCSeq: {cseq} {method}\r\nContact: <sip:peer@{1}>\r\n{kind}Content-Length: {4}\r\n\r\n{body}",
            self.sip,
            self.own,
            self.to,
            self.call,
            body.len(),
            self.from
        )
    }

    /// Sends an INVITE; its final status.
    pub(crate) fn invite(&mut self, number: &str) -> u16 {
        let from = format!("\"Ada Lovelace\" <sip:+4930@{}>", self.own);
        self.invite_as(number, &from)
    }

    /// Sends an INVITE from somebody; its final status.
    pub(crate) fn invite_as(&mut self, number: &str, from: &str) -> u16 {
        self.from = from.to_owned();
        static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
        self.call = format!("op-{}", NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        self.to.clear();
        self.send(&self.request("INVITE", number, 1, SDP));
        loop {
            let response = self.expect("SIP/2.0 ");
            let status: u16 =
                response.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
            if status >= 200
                && response.contains(&format!("Call-ID: {}\r\n", self.call))
                && response.contains(" INVITE")
            {
                self.to = response
                    .lines()
                    .find_map(|l| l.strip_prefix("To: ")?.split_once(";tag="))
                    .map(|(_, tag)| format!(";tag={tag}"))
                    .unwrap_or_default();
                let ack = self.request("ACK", number, 1, "");
                // For a refusal the ACK belongs to the INVITE's own transaction.
                self.send(&if status < 300 { ack } else { ack.replacen("ACK1", "INVITE1", 1) });
                return status;
            }
        }
    }

    /// Makes a call with media at this port; the 200.
    pub(crate) fn call_with_media(&mut self, number: &str, port: u16) -> String {
        self.call = "op-media".to_owned();
        self.from = format!("<sip:+4930@{}>", self.own);
        self.send(&self.request("INVITE", number, 1, &sdp(port)));
        let ok = self.expect("SIP/2.0 200");
        let to = ok.lines().find_map(|l| l.strip_prefix("To: ")?.split_once(";tag="));
        self.to = to.map(|(_, tag)| format!(";tag={tag}")).expect("a tag");
        self.send(&self.request("ACK", number, 1, ""));
        ok
    }

    /// Answers the next call, with media at this port; its INVITE.
    pub(crate) fn answer_with_media(&mut self, port: u16) -> String {
        let invite = self.expect("INVITE");
        self.send(&accepted(&invite, self.own, &sdp(port)));
        self.expect("ACK");
        invite
    }

    /// Whether anything has come that is not a question outside all calls whether the trunk lives.
    pub(crate) fn got_a_message(&self) -> bool {
        let mut buf = [0; 65_536];
        self.socket.set_nonblocking(true).expect("set");
        let reported =
            std::iter::from_fn(|| self.socket.recv(&mut buf).ok().map(|n| buf[..n].to_vec()))
                .map(|message| String::from_utf8_lossy(&message).into_owned())
                .any(|message| {
                    let to = message.lines().find(|l| l.starts_with("To:"));
                    !message.starts_with("OPTIONS") || to.is_some_and(|to| to.contains(";tag="))
                });
        self.socket.set_nonblocking(false).expect("set");
        reported
    }

    pub(crate) fn call(&mut self, number: &str) {
        assert_eq!(self.invite(number), 200);
    }

    /// Sends an INFO with this body.
    pub(crate) fn inform(&mut self, kind: &str, body: &str) {
        let info = self.request("INFO", "x", 2, body).replace("application/sdp", kind);
        self.send(&info);
        self.expect("SIP/2.0 200");
    }

    pub(crate) fn hang_up(&mut self) {
        self.send(&self.request("BYE", "x", 3, ""));
        self.expect("SIP/2.0 200");
    }

    /// Takes the next call from a thread of its own, says nothing in it, and lets the other side
    /// end it.
    pub(crate) fn take_silently(self) -> std::thread::JoinHandle<()> {
        std::thread::spawn(move || {
            let invite = self.expect("INVITE");
            self.send(&accepted(&invite, self.own, SDP));
            self.expect("BYE");
        })
    }

    /// Answers the next OPTIONS from a thread of its own.
    pub(crate) fn answer_options(&self) -> std::thread::JoinHandle<()> {
        let socket = self.socket.clone();
        std::thread::spawn(move || {
            let mut buf = [0; 65_536];
            loop {
                let Ok((n, from)) = socket.recv_from(&mut buf) else { return };
                let text = String::from_utf8_lossy(&buf[..n]).into_owned();
                if text.starts_with("OPTIONS") {
                    socket.send_to(reply(&text).as_bytes(), from).expect("sent");
                    return;
                }
            }
        })
    }
}

/// A description with media at this port.
fn sdp(port: u16) -> String {
    format!(
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
         m=audio {port} RTP/AVP 0\r\n"
    )
}

/// 200 to an INVITE, with this description.
pub(crate) fn accepted(invite: &str, own: SocketAddr, sdp: &str) -> String {
    let to = invite.lines().find(|l| l.starts_with("To:")).expect("a To");
    let head = reply(invite).replace(to, &format!("{to};tag=silent"));
    let body = format!(
        "Contact: <sip:peer@{own}>\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{sdp}",
        sdp.len()
    );
    head.replace("Content-Length: 0\r\n\r\n", &body)
}

/// 200 to a request.
pub(crate) fn reply(request: &str) -> String {
    let kept = ["Via:", "From:", "To:", "Call-ID:", "CSeq:"];
    let lines: String = request
        .lines()
        .filter(|l| kept.iter().any(|k| l.starts_with(k)))
        .map(|l| format!("{l}\r\n"))
        .collect();
    format!("SIP/2.0 200 OK\r\n{lines}Content-Length: 0\r\n\r\n")
}
