//! A phone over WebSocket: it registers, and gives the INVITE that comes the answer it was given.

use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use webtrunk::sip::build::MessageWriter;
use webtrunk::sip::parse::{Framing, HeaderName};
use webtrunk::sip::{Message, Method, digest};

/// What each phone says it is, and what no terminal may do for that.
pub(crate) const AGENT: &str = "Phone 1.0 \u{202e}%1b]0;owned%07";

pub(crate) struct Phone {
    runtime: tokio::runtime::Runtime,
    socket: WebSocketStream<TcpStream>,
}

impl Phone {
    /// Connects to the web port.
    pub(crate) fn connect(web: u16) -> Phone {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let socket = runtime.block_on(async {
            let mut request =
                format!("ws://127.0.0.1:{web}/sip").into_client_request().expect("a request");
            request.headers_mut().insert("Sec-WebSocket-Protocol", "sip".parse().expect("a value"));
            let stream = TcpStream::connect(("127.0.0.1", web)).await.expect("it listens");
            tokio_tungstenite::client_async(request, stream).await.expect("it takes SIP").0
        });
        Phone { runtime, socket }
    }

    /// Connects to the web port and registers `user`.
    pub(crate) fn register(web: u16, domain: &str, user: &str, password: &str) -> Phone {
        let mut phone = Phone::connect(web);
        let uri = format!("sip:{domain}");
        phone.say(&register(domain, user, 1, None));
        let challenge = phone.hear("401");
        let credentials =
            digest::answer(&challenge, user, password, &uri, Method::Register, "c0ffee");
        phone.say(&register(domain, user, 2, credentials));
        phone.hear("200");
        phone
    }

    /// Gives a wrong password so many times.
    pub(crate) fn guess(&mut self, domain: &str, user: &str, times: u32) {
        let uri = format!("sip:{domain}");
        for n in 0..times {
            self.say(&register(domain, user, 2 * n + 1, None));
            let challenge = self.hear("401");
            let wrong = digest::answer(&challenge, user, "wrong", &uri, Method::Register, "c0ffee");
            self.say(&register(domain, user, 2 * n + 2, wrong));
            self.hear("403");
        }
    }

    /// Sends so many logins, the next ones when the ones before are answered; the number of
    /// refusals.
    pub(crate) fn flood(&mut self, domain: &str, user: &str, logins: u64) -> u64 {
        const AT_ONCE: u64 = 50;
        let value = format!(
            "Digest username=\"{user}\", realm=\"{domain}\", nonce=\"x\", \
             uri=\"sip:{domain}\", response=\"{}\"",
            "0".repeat(32)
        );
        let socket = &mut self.socket;
        self.runtime.block_on(async {
            let (mut sent, mut refused) = (0, 0);
            while sent < logins {
                let now = AT_ONCE.min(logins - sent);
                for n in sent..sent + now {
                    let credentials = Some((HeaderName::Authorization, value.clone()));
                    let bytes = register(domain, user, n as u32 + 1_000, credentials);
                    let text = String::from_utf8(bytes.to_vec()).expect("UTF-8");
                    socket.feed(Frame::text(text)).await.expect("sent");
                }
                socket.flush().await.expect("sent");
                sent += now;
                let mut waits = now;
                while waits > 0 {
                    let frame = socket.next().await.expect("open").expect("a frame");
                    // On a slow machine the gateway pings meanwhile.
                    let Frame::Text(answer) = frame else { continue };
                    waits -= 1;
                    refused += u64::from(answer.starts_with("SIP/2.0 403"));
                }
            }
            refused
        })
    }

    fn say(&mut self, bytes: &[u8]) {
        let text = String::from_utf8(bytes.to_vec()).expect("UTF-8");
        self.runtime.block_on(self.socket.send(Frame::text(text))).expect("sent");
    }

    /// The next message of this method or status.
    pub(crate) fn hear(&mut self, what: &str) -> Message {
        loop {
            let socket = &mut self.socket;
            let frame = self.runtime.block_on(async {
                tokio::time::timeout(std::time::Duration::from_secs(20), socket.next()).await
            });
            let Frame::Text(text) =
                frame.unwrap_or_else(|_| panic!("no {what} came")).expect("open").expect("a frame")
            else {
                continue;
            };
            let message =
                Message::parse(text.as_bytes().to_vec(), Framing::WebSocket).expect("SIP");
            if message.method_token() == what || message.status().to_string() == what {
                return message;
            }
        }
    }

    /// Waits until the other side closes the connection, and returns the code it gives.
    pub(crate) fn closed(&mut self) -> Option<u16> {
        let socket = &mut self.socket;
        self.runtime.block_on(async {
            loop {
                let frame = tokio::time::timeout(std::time::Duration::from_secs(20), socket.next());
                match frame.await.expect("it is closed") {
                    Some(Ok(Frame::Close(why))) => return why.map(|why| why.code.into()),
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return None,
                }
            }
        })
    }

    /// Answers an INVITE with a description nobody stands behind.
    pub(crate) fn answer(&mut self, invite: &Message) {
        let offer = String::from_utf8_lossy(invite.body()).into_owned();
        let opus = offer
            .lines()
            .find_map(|l| l.strip_prefix("a=rtpmap:")?.split_once(" opus"))
            .expect("Opus is offered")
            .0;
        let mid = offer.lines().find_map(|l| l.strip_prefix("a=mid:")).expect("a mid");
        let fingerprint = ["AA"; 32].join(":");
        let sdp = format!(
            "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE {mid}\r\nm=audio 9 UDP/TLS/RTP/SAVPF {opus}\r\nc=IN IP4 0.0.0.0\r\na=mid:{mid}\r\n\
             a=rtpmap:{opus} opus/48000/2\r\na=ice-ufrag:them\r\na=ice-pwd:their-password-of-24-chars\r\na=fingerprint:sha-256 {fingerprint}\r\na=setup:active\r\na=rtcp-mux\r\na=sendrecv\r\n"
        );
        let mut response = MessageWriter::response(invite, 200, Some("phone"));
        response.put(HeaderName::Contact, "<sip:alice@phone.invalid;transport=ws>");
        let bytes = response.end_with("application/sdp", sdp.as_bytes());
        self.say(&bytes);
    }

    /// Answers a request without a body.
    pub(crate) fn reply(&mut self, request: &Message, status: u16) {
        let response = MessageWriter::response(request, status, Some("phone")).end();
        self.say(&response);
    }
}

/// A REGISTER of one connection of `user`.
fn register(
    domain: &str,
    user: &str,
    cseq: u32,
    credentials: Option<(HeaderName, String)>,
) -> bytes::Bytes {
    let mut request = MessageWriter::request(Method::Register, &format!("sip:{domain}"));
    let branch = format_args!("SIP/2.0/WS phone.invalid;branch=z9hG4bK{cseq}{user}");
    request.put(HeaderName::Via, branch);
    request.put(HeaderName::MaxForwards, 70);
    request.put(HeaderName::From, format_args!("<sip:{user}@{domain}>;tag=phone"));
    request.put(HeaderName::To, format_args!("<sip:{user}@{domain}>"));
    request.put(HeaderName::CallId, format_args!("phone-{user}"));
    request.put(HeaderName::CSeq, format_args!("{cseq} REGISTER"));
    let contact = format_args!("<sip:{user}@phone.invalid;transport=ws>;expires=300");
    request.put(HeaderName::Contact, contact);
    request.put(HeaderName::UserAgent, AGENT);
    credentials.into_iter().for_each(|(name, value)| request.put(name, value));
    request.end()
}
