//! A browser's signalling: one call over a WebSocket that comes back when it is lost, as JsSIP's
//! does.

use crate::media::{self, Media};
use crate::texts;
use anyhow::Context;
use futures_util::{SinkExt, StreamExt};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;

type Socket = WebSocketStream<TcpStream>;

/// After which JsSIP connects again.
const AWAY: Duration = Duration::from_secs(2);
/// A gateway that does not answer is given up after this long.
const CONNECT: Duration = Duration::from_secs(1);

/// What a phone is told.
#[derive(Clone, Copy)]
pub(crate) enum Order {
    Call,
    /// Its connection is reset, and another made after this time.
    Drop(Duration),
    HangUp,
}

/// How its call is.
#[derive(Clone, PartialEq, Default, Debug)]
pub(crate) enum State {
    #[default]
    Idle,
    Registered,
    Calling,
    Talking,
    Over(String),
}

#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) web: Vec<SocketAddr>,
    pub(crate) domain: String,
}

/// The dialog of the call.
struct Dialog {
    call_id: String,
    local: String,
    remote: String,
    target: String,
    cseq: u32,
}

pub(crate) struct Phone {
    place: Place,
    number: u32,
    source: IpAddr,
    orders: mpsc::UnboundedReceiver<Order>,
    state: Rc<RefCell<State>>,
    asked: Rc<RefCell<BTreeMap<String, u64>>>,
    media: Rc<RefCell<Media>>,
    dialog: Option<Dialog>,
    /// The last challenge, and how often it was answered.
    challenge: Option<(String, u32)>,
    cseq: u32,
    away: Duration,
    /// Connections so far.
    tried: usize,
}

/// One that others look at.
pub(crate) struct Line {
    pub(crate) orders: mpsc::UnboundedSender<Order>,
    pub(crate) state: Rc<RefCell<State>>,
    /// Requests of the gateway's within the call, by method.
    pub(crate) asked: Rc<RefCell<BTreeMap<String, u64>>>,
    pub(crate) media: Rc<RefCell<Media>>,
}

/// Starts a phone, which registers.
pub(crate) fn start(place: Place, number: u32, source: IpAddr, media: Media) -> Line {
    let (orders, received) = mpsc::unbounded_channel();
    let media = Rc::new(RefCell::new(media));
    let line = Line { orders, state: Rc::default(), asked: Rc::default(), media: media.clone() };
    let mut phone = Phone {
        place,
        number,
        source,
        orders: received,
        state: line.state.clone(),
        asked: line.asked.clone(),
        media: media.clone(),
        dialog: None,
        challenge: None,
        cseq: 0,
        away: AWAY,
        tried: 0,
    };
    tokio::task::spawn_local(media::run(media));
    tokio::task::spawn_local(async move {
        loop {
            if phone.connection().await.is_ok() {
                return;
            }
            let away = std::mem::replace(&mut phone.away, AWAY);
            tokio::time::sleep(away).await;
        }
    });
    line
}

impl Phone {
    fn user(&self) -> String {
        format!("p{}", self.number)
    }

    fn aor(&self) -> String {
        format!("sip:{}@{}", self.user(), self.place.domain)
    }

    async fn open(&mut self) -> anyhow::Result<Socket> {
        let web = self.place.web[self.tried % self.place.web.len()];
        self.tried += 1;
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(self.source, 0))?;
        let stream = socket.connect(web).await?;
        stream.set_nodelay(true)?;
        let mut request = format!("ws://{web}/sip").into_client_request()?;
        request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static("sip"));
        Ok(tokio_tungstenite::client_async(request, stream).await?.0)
    }

    /// One connection, from its beginning to the end of the call.
    ///
    /// # Errors
    /// It was lost before that.
    async fn connection(&mut self) -> anyhow::Result<()> {
        let mut socket = tokio::time::timeout(CONNECT, self.open()).await??;
        let register = self.register(false);
        say(&mut socket, register).await?;
        loop {
            tokio::select! {
                came = socket.next() => {
                    let Message::Text(text) = came.context("closed")?? else { continue };
                    if self.take(&mut socket, &text).await? {
                        return Ok(());
                    }
                }
                order = self.orders.recv() => match order.context("over")? {
                    Order::Call => {
                        self.state.replace(State::Calling);
                        let invite = self.invite(false)?;
                        say(&mut socket, invite).await?;
                    }
                    Order::Drop(away) => {
                        socket.get_ref().set_zero_linger()?;
                        self.away = away;
                        anyhow::bail!("reset");
                    }
                    Order::HangUp => {
                        let bye = self.bye(false)?;
                        say(&mut socket, bye).await?;
                    }
                },
            }
        }
    }

    fn credentials(&mut self, method: &str, uri: &str) -> String {
        let user = self.user();
        self.challenge.as_mut().map_or(String::new(), |(challenge, count)| {
            *count += 1;
            let login = (user.as_str(), "chaos-secret");
            let value = texts::credentials(challenge, login, (method, uri), *count);
            format!("Authorization: {value}\r\n")
        })
    }

    fn register(&mut self, proved: bool) -> String {
        self.cseq += 1;
        let (n, cseq, aor, run) = (self.number, self.cseq, self.aor(), crate::run());
        let uri = format!("sip:{}", self.place.domain);
        let proof = if proved { self.credentials("REGISTER", &uri) } else { String::new() };
        format!(
            "REGISTER {uri} SIP/2.0\r\nVia: SIP/2.0/WS c{n}.invalid;branch=z9hG4bKr{n}x{cseq}x{run}\r\n\
             Max-Forwards: 70\r\nFrom: <{aor}>;tag=r{n}\r\nTo: <{aor}>\r\nCall-ID: r{n}x{run}@chaos\r\n\
             CSeq: {cseq} REGISTER\r\nContact: {};expires=600\r\nSupported: path, outbound\r\n\
             {proof}Content-Length: 0\r\n\r\n",
            contact(self.number)
        )
    }

    fn invite(&mut self, proved: bool) -> anyhow::Result<String> {
        let (n, aor, run) = (self.number, self.aor(), crate::run());
        let uri = format!("sip:7{n:04}@{}", self.place.domain);
        let proof = if proved { self.credentials("INVITE", &uri) } else { String::new() };
        let dialog = self.dialog.get_or_insert_with(|| Dialog {
            call_id: format!("i{n}x{run}@chaos"),
            local: format!("<{aor}>;tag=i{n}x{run}"),
            remote: format!("<{uri}>"),
            target: uri.clone(),
            cseq: 0,
        });
        dialog.cseq += 1;
        let (cseq, call_id, local) = (dialog.cseq, &dialog.call_id, &dialog.local);
        let body = self.media.borrow().describe("actpass")?;
        let contact = contact(n);
        Ok(format!(
            "INVITE {uri} SIP/2.0\r\nVia: SIP/2.0/WS c{n}.invalid;branch=z9hG4bKi{n}x{cseq}x{run}\r\n\
             Max-Forwards: 70\r\nFrom: {local}\r\nTo: <{uri}>\r\nCall-ID: {call_id}\r\n\
             CSeq: {cseq} INVITE\r\nContact: {contact}\r\nSession-Expires: 90\r\n\
             Supported: timer, outbound\r\nAllow: INVITE, ACK, CANCEL, BYE, UPDATE, OPTIONS\r\n\
             {proof}Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ))
    }

    /// A request within the dialog without a body.
    fn within(&self, method: &str, cseq: u32, proof: &str) -> anyhow::Result<String> {
        let dialog = self.dialog.as_ref().context("no call")?;
        let (n, run) = (self.number, crate::run());
        let (target, call_id) = (&dialog.target, &dialog.call_id);
        let (local, remote) = (&dialog.local, &dialog.remote);
        Ok(format!(
            "{method} {target} SIP/2.0\r\n\
             Via: SIP/2.0/WS c{n}.invalid;branch=z9hG4bK{method}{n}x{cseq}x{run}\r\n\
             Max-Forwards: 70\r\nFrom: {local}\r\nTo: {remote}\r\nCall-ID: {call_id}\r\n\
             CSeq: {cseq} {method}\r\n{proof}Content-Length: 0\r\n\r\n"
        ))
    }

    fn bye(&mut self, proved: bool) -> anyhow::Result<String> {
        let target = self.dialog.as_ref().context("no call")?.target.clone();
        let proof = if proved { self.credentials("BYE", &target) } else { String::new() };
        let dialog = self.dialog.as_mut().context("no call")?;
        dialog.cseq += 1;
        let cseq = dialog.cseq;
        self.within("BYE", cseq, &proof)
    }

    /// A message came; whether the call is over.
    async fn take(&mut self, socket: &mut Socket, text: &str) -> anyhow::Result<bool> {
        match texts::status(text) {
            Some(status) => self.answer(socket, text, status).await,
            None => self.request(socket, text).await,
        }
    }

    async fn answer(
        &mut self,
        socket: &mut Socket,
        text: &str,
        status: u16,
    ) -> anyhow::Result<bool> {
        let method = texts::method(text);
        if status == 401 || status == 407 {
            let name = if status == 401 { "WWW-Authenticate" } else { "Proxy-Authenticate" };
            let challenge = texts::header(text, name).context("no challenge")?;
            self.challenge = Some((challenge.to_owned(), 0));
            let again = match method {
                "REGISTER" => self.register(true),
                "INVITE" => {
                    say(socket, self.refused(text)?).await?;
                    self.invite(true)?
                }
                _ => self.bye(true)?,
            };
            say(socket, again).await?;
            return Ok(false);
        }
        match (method, status) {
            ("REGISTER", 200) => {
                let idle = *self.state.borrow() == State::Idle;
                if idle {
                    self.state.replace(State::Registered);
                }
            }
            ("INVITE", 200..=299) => {
                self.media.borrow_mut().take_description(text)?;
                let dialog = self.dialog.as_mut().context("no call")?;
                dialog.remote = texts::header(text, "To").unwrap_or_default().to_owned();
                dialog.target = target(text);
                let cseq = dialog.cseq;
                say(socket, self.within("ACK", cseq, "")?).await?;
                self.state.replace(State::Talking);
            }
            ("INVITE", 300..) => {
                say(socket, self.refused(text)?).await?;
                self.state.replace(State::Over(format!("{status}")));
                return Ok(true);
            }
            ("BYE", 200..) => {
                self.state.replace(State::Over("hung up".to_owned()));
                return Ok(true);
            }
            _ => {}
        }
        Ok(false)
    }

    /// The ACK of a refused INVITE: of its own transaction.
    fn refused(&self, text: &str) -> anyhow::Result<String> {
        let dialog = self.dialog.as_ref().context("no call")?;
        let via = texts::header(text, "Via").unwrap_or_default();
        let (target, call_id, cseq) = (&dialog.target, &dialog.call_id, dialog.cseq);
        let (local, to) = (&dialog.local, texts::header(text, "To").unwrap_or_default());
        Ok(format!(
            "ACK {target} SIP/2.0\r\nVia: {via}\r\nMax-Forwards: 70\r\nFrom: {local}\r\n\
             To: {to}\r\nCall-ID: {call_id}\r\nCSeq: {cseq} ACK\r\nContent-Length: 0\r\n\r\n"
        ))
    }

    /// A request of the gateway's.
    async fn request(&mut self, socket: &mut Socket, text: &str) -> anyhow::Result<bool> {
        let method = text.split(' ').next().unwrap_or_default();
        let known = self.dialog.as_ref().is_some_and(|d| {
            texts::header(text, "Call-ID").is_some_and(|call_id| call_id == d.call_id)
        });
        match method {
            "ACK" => return Ok(false),
            "INVITE" if !known => self.called(text)?,
            _ if known => *self.asked.borrow_mut().entry(method.to_owned()).or_default() += 1,
            _ => {}
        }
        let described = text.contains("m=audio");
        if described {
            self.media.borrow_mut().take_description(text)?;
        }
        let answer = self.ok(text, described || method == "INVITE")?;
        say(socket, answer).await?;
        if method == "BYE" {
            let why = texts::header(text, "Reason").unwrap_or_default();
            self.state.replace(State::Over(format!("BYE {why}")));
        }
        Ok(method == "BYE")
    }

    /// The gateway brings a call.
    fn called(&mut self, text: &str) -> anyhow::Result<()> {
        anyhow::ensure!(self.dialog.is_none(), "one call is enough");
        let to = texts::header(text, "To").unwrap_or_default();
        self.dialog = Some(Dialog {
            call_id: texts::header(text, "Call-ID").unwrap_or_default().to_owned(),
            local: format!("{to};tag=c{}", self.number),
            remote: texts::header(text, "From").unwrap_or_default().to_owned(),
            target: target(text),
            cseq: 100,
        });
        self.state.replace(State::Talking);
        Ok(())
    }

    /// The 200 to a request, with a description if it had one.
    fn ok(&self, request: &str, described: bool) -> anyhow::Result<String> {
        let head = request.split("\r\n\r\n").next().unwrap_or_default();
        let copied = ["Via:", "From:", "Call-ID:", "CSeq:", "Record-Route:"];
        let copied = head.lines().filter(|l| copied.iter().any(|name| l.starts_with(name)));
        let copied: String = copied.map(|l| format!("{l}\r\n")).collect();
        let local = self.dialog.as_ref().map(|d| d.local.clone());
        let to = local.or_else(|| texts::header(request, "To").map(str::to_owned));
        let asked = texts::header(request, "Session-Expires");
        // Whoever asked goes on to refresh.
        let timer = asked.map_or(String::new(), |asked| {
            let seconds = asked.split(';').next().unwrap_or("90");
            format!("Session-Expires: {seconds};refresher=uac\r\nRequire: timer\r\n")
        });
        let body = if described { self.media.borrow().describe("active")? } else { String::new() };
        let kind = if described { "Content-Type: application/sdp\r\n" } else { "" };
        Ok(format!(
            "SIP/2.0 200 OK\r\n{copied}To: {}\r\nContact: {}\r\nSupported: timer\r\n{timer}{kind}\
             Content-Length: {}\r\n\r\n{body}",
            to.unwrap_or_default(),
            contact(self.number),
            body.len()
        ))
    }
}

fn contact(n: u32) -> String {
    format!(
        "<sip:p{n}@c{n}.invalid;transport=ws>;+sip.instance=\"<urn:uuid:00000000-0000-4000-8000-\
         {n:012}>\";reg-id=1"
    )
}

/// The URI in Contact.
fn target(text: &str) -> String {
    let contact = texts::header(text, "Contact").unwrap_or_default();
    contact.split(['<', '>']).nth(1).unwrap_or(contact).to_owned()
}

async fn say(socket: &mut Socket, text: String) -> anyhow::Result<()> {
    Ok(socket.send(Message::text(text)).await?)
}
