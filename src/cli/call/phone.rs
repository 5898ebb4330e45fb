//! The SIP half of a test call: its INVITE, what comes back, and the goodbye.

use super::media::{FRAME, PhoneMedia};
use super::sip::{self, ReceivedMessage};
use super::{CallArgs, Login, open, token};
use crate::cli::client::{Stream, escape};
use crate::cli::print;
use anyhow::{Context, anyhow};
use futures_util::{SinkExt, StreamExt};
use rsip::{Header, Headers, Method};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message as Frame;
use webtrunk::codec::Codec;

/// What a call came to.
#[derive(Default)]
pub(super) struct PhoneOutcome {
    /// The final status of the INVITE; 0 if none came.
    pub(super) status: u16,
    /// Why it ended, as text.
    pub(super) why: String,
    /// Time from the INVITE until it rang.
    pub(super) rang: Option<Duration>,
    /// Time from the INVITE until it was answered.
    pub(super) answered: Option<Duration>,
    /// Who hung up.
    pub(super) ended_by: &'static str,
    /// Time from the answer to the end.
    pub(super) talked: Duration,
}

type Socket = WebSocketStream<Box<dyn Stream>>;

/// Between two tries to open a connection again that was lost in mid-call.
const AGAIN: Duration = Duration::from_millis(250);
/// How long that is tried.
const TRIED: Duration = Duration::from_secs(60);
/// How long a goodbye waits for its answer.
const GOODBYE: Duration = Duration::from_secs(5);

/// Until the connection is open again: `None` if it could not be; for ever if it is not lost.
async fn reopened(reopening: &mut Option<oneshot::Receiver<Socket>>) -> Option<Socket> {
    match reopening {
        Some(reopening) => reopening.await.ok(),
        None => std::future::pending().await,
    }
}

/// Until then; for ever if there is nothing to wait for.
async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

/// A call from the other side of the gateway's WebSocket.
pub(super) struct Phone<'a> {
    socket: Socket,
    /// The connection is lost; this brings the next one.
    reopening: Option<oneshot::Receiver<Socket>>,
    /// Who logs in, and where.
    pub(super) login: Login,
    /// Its media.
    pub(super) media: PhoneMedia,
    /// The arguments of the command.
    pub(super) args: &'a CallArgs,
    quiet: bool,
    /// The Call-ID of its call.
    pub(super) call_id: String,
    tag: String,
    cseq: u32,
    began: Instant,
    /// To of the dialog, and where its requests go.
    to: Option<String>,
    target: Option<String>,
    /// What was done already.
    media_told: bool,
    pressed: bool,
}

impl<'a> Phone<'a> {
    /// One that has not dialled yet.
    ///
    /// # Errors
    /// The gateway cannot be reached.
    pub(super) fn new(
        socket: Socket,
        login: Login,
        media: PhoneMedia,
        args: &'a CallArgs,
        quiet: bool,
    ) -> anyhow::Result<Phone<'a>> {
        Ok(Phone {
            socket,
            reopening: None,
            login,
            media,
            args,
            quiet,
            call_id: token()?,
            tag: token()?,
            cseq: 1,
            began: Instant::now(),
            to: None,
            target: None,
            media_told: false,
            pressed: false,
        })
    }

    pub(super) fn say(&self, text: &str) {
        if !self.quiet {
            print::line(text);
        }
    }

    fn uri(&self) -> String {
        let target = &self.args.target;
        if target.starts_with("sip:") {
            target.clone()
        } else {
            format!("sip:{}@{}", escape(target).replace("%2B", "+"), self.login.domain)
        }
    }

    fn headers(&self, method: Method, cseq: u32) -> anyhow::Result<Headers> {
        let Login { user, domain, .. } = &self.login;
        let to = self.to.clone().unwrap_or_else(|| format!("<{}>", self.uri()));
        let via = format!("SIP/2.0/WS call.invalid;branch=z9hG4bK{}", token()?);
        let agent = concat!("webtrunk-call/", env!("CARGO_PKG_VERSION"));
        Ok(vec![
            Header::Via(via.into()),
            Header::MaxForwards(70.into()),
            Header::From(format!("<sip:{user}@{domain}>;tag={}", self.tag).into()),
            Header::To(to.into()),
            Header::CallId(self.call_id.clone().into()),
            Header::CSeq(format!("{cseq} {method}").into()),
            Header::Contact(format!("<sip:{user}@call.invalid;transport=ws>").into()),
            Header::UserAgent(agent.into()),
        ]
        .into())
    }

    /// A request without a body.
    fn request(&self, method: Method, cseq: u32) -> anyhow::Result<String> {
        let uri = self.target.clone().unwrap_or_else(|| self.uri());
        sip::request(method, &uri, self.headers(method, cseq)?, None)
    }

    async fn send(&mut self, text: String) -> anyhow::Result<()> {
        let sent = self.socket.send(Frame::text(text)).await;
        sent.context("the gateway has closed the connection")
    }

    fn invite(&self, credentials: Option<Header>) -> anyhow::Result<String> {
        let mut headers = self.headers(Method::Invite, self.cseq)?;
        headers.extend(credentials.into_iter().collect());
        if let Some(jwt) = &self.login.jwt {
            headers.push(Header::Authorization(format!("Bearer {jwt}").into()));
        }
        let codec = self.args.codec.as_deref().and_then(Codec::from_name);
        sip::request(Method::Invite, &self.uri(), headers, Some(self.media.offer(codec)))
    }

    /// Makes the call, speaks and listens, and hangs up when it is time.
    ///
    /// # Errors
    /// The connection broke, or what came cannot be read.
    pub(super) async fn run(&mut self) -> anyhow::Result<PhoneOutcome> {
        let mut outcome = PhoneOutcome { ended_by: "us", ..PhoneOutcome::default() };
        let first = self.invite(None)?;
        self.send(first).await?;
        let mut pace = interval(FRAME);
        pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut buf = vec![0u8; 2_048];
        let mut since = None::<Instant>;
        loop {
            tokio::select! {
                _ = pace.tick() => self.media.tick(),
                () = until(self.media.due()) => {
                    self.media.release();
                    continue;
                }
                got = self.media.receive(&mut buf) => {
                    if let Some((n, from)) = got {
                        self.media.take(from, &mut buf[..n]);
                    }
                    continue;
                }
                socket = reopened(&mut self.reopening) => {
                    self.socket = socket.ok_or_else(closed)?;
                    self.reopening = None;
                    continue;
                }
                frame = self.socket.next(), if self.reopening.is_none() => {
                    if since.is_some() && !matches!(frame, Some(Ok(_))) {
                        self.reopen();
                        continue;
                    }
                    let Some(message) = message_of(frame)? else { continue };
                    if self.heard(&message, &mut outcome).await? {
                        outcome.talked = since.map(|s| s.elapsed()).unwrap_or_default();
                        return Ok(outcome);
                    }
                    if outcome.answered.is_some() && since.is_none() {
                        since = Some(Instant::now());
                    }
                    continue;
                }
            }
            if self.tick(since, &mut outcome).await? {
                return Ok(outcome);
            }
        }
    }

    /// What is due, 50 times a second; true: the call is over.
    async fn tick(
        &mut self,
        since: Option<Instant>,
        outcome: &mut PhoneOutcome,
    ) -> anyhow::Result<bool> {
        self.tell_of_media();
        let talked = since.map(|s| s.elapsed());
        if !self.pressed && talked.is_some_and(|t| t >= Duration::from_secs(1)) {
            self.pressed = true;
            self.media.press(self.args.dtmf.as_deref().unwrap_or_default());
        }
        if talked.is_some_and(|t| t >= self.args.length) && !self.media.is_pressing() {
            outcome.talked = talked.unwrap_or_default();
            self.hang_up().await?;
            return Ok(true);
        }
        if since.is_none() && self.began.elapsed() >= self.args.ring {
            (outcome.status, outcome.why) =
                (408, format!("nobody answered within {} s", self.args.ring.as_secs()));
            self.cancel().await?;
            return Ok(true);
        }
        Ok(false)
    }

    /// Opens the connection again. A call is not its connection: it continues meanwhile.
    fn reopen(&mut self) {
        let (tell, reopening) = oneshot::channel();
        let ws = self.login.ws.clone();
        tokio::spawn(async move {
            let began = Instant::now();
            while began.elapsed() < TRIED {
                if let Ok((socket, _)) = open(&ws).await {
                    let _ = tell.send(socket);
                    return;
                }
                tokio::time::sleep(AGAIN).await;
            }
        });
        self.reopening = Some(reopening);
    }

    fn tell_of_media(&mut self) {
        if !self.media_told
            && let (Some(secured), Some(codec)) = (self.media.secured, self.media.codec())
        {
            self.media_told = true;
            let connected = self.media.connected;
            let ice = connected.map_or(0, |c| c.saturating_duration_since(self.began).as_millis());
            let dtls = secured.saturating_duration_since(connected.unwrap_or(secured)).as_millis();
            self.say(&format!(
                "  ✓ media         {}, ICE after {ice} ms, DTLS {dtls} ms later",
                codec.name()
            ));
        }
        if let Some(why) = self.media.failed.take() {
            self.say(&format!("  ✗ media         {why}"));
        }
    }

    /// A message of the gateway; true: the call is over.
    async fn heard(
        &mut self,
        message: &ReceivedMessage,
        outcome: &mut PhoneOutcome,
    ) -> anyhow::Result<bool> {
        if let Some(method) = message.method() {
            self.send(message.ok()).await?;
            if method == Method::Bye {
                (outcome.ended_by, outcome.why) = ("them", message.reason());
                return Ok(true);
            }
            return Ok(false);
        }
        if !message.answers(Method::Invite, self.cseq) {
            return Ok(false);
        }
        if let Some(sdp) = message.sdp() {
            self.media.answer(&sdp)?;
        }
        let after = self.began.elapsed();
        match message.status() {
            100 => {}
            status @ 101..=199 => {
                if outcome.rang.replace(after).is_none() {
                    self.print_after("✓ ringing ", status, after, "");
                }
            }
            200..=299 => self.answered(message, outcome, after).await?,
            401 | 407 => self.log_in(message).await?,
            status => {
                self.acknowledge_refusal(message).await?;
                (outcome.status, outcome.why) = (status, message.reason());
                self.print_after("✗ refused ", status, after, &format!(": {}", outcome.why));
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn print_after(&self, what: &str, status: u16, after: Duration, more: &str) {
        self.say(&format!("  {what:<15} {status} after {:.2} s{more}", after.as_secs_f32()));
    }

    async fn answered(
        &mut self,
        ok: &ReceivedMessage,
        outcome: &mut PhoneOutcome,
        after: Duration,
    ) -> anyhow::Result<()> {
        self.to = ok.to();
        self.target = ok.contact();
        let ack = self.request(Method::Ack, self.cseq)?;
        self.send(ack).await?;
        if outcome.answered.replace(after).is_none() {
            outcome.status = ok.status();
            self.print_after("✓ answered", outcome.status, after, "");
        }
        Ok(())
    }

    /// Answers the challenge, once.
    async fn log_in(&mut self, challenge: &ReceivedMessage) -> anyhow::Result<()> {
        self.acknowledge_refusal(challenge).await?;
        let Login { name, password, .. } = &self.login;
        let credentials = challenge
            .credentials(Method::Invite, (name, password), &self.uri(), &token()?)
            .filter(|_| self.cseq == 1 && self.login.jwt.is_none())
            .ok_or_else(|| anyhow!("the gateway does not accept the credentials"))?;
        self.cseq += 1;
        let again = self.invite(Some(credentials))?;
        self.send(again).await
    }

    async fn acknowledge_refusal(&mut self, refusal: &ReceivedMessage) -> anyhow::Result<()> {
        let ack = refusal.ack(&self.uri(), self.cseq)?;
        self.send(ack).await
    }

    async fn hang_up(&mut self) -> anyhow::Result<()> {
        if self.reopening.is_some()
            && let Ok(socket) = timeout(GOODBYE, reopened(&mut self.reopening)).await
        {
            (self.socket, self.reopening) = (socket.ok_or_else(closed)?, None);
        }
        let done = matches!(timeout(GOODBYE, self.say_goodbye()).await, Ok(Ok(())));
        self.say(if done {
            "  ✓ hung up       by this side"
        } else {
            "  ✗ hung up       by this side; the BYE was not answered"
        });
        Ok(())
    }

    /// BYE until it is answered; by a connection the gateway does not know yet it is challenged.
    async fn say_goodbye(&mut self) -> anyhow::Result<()> {
        let bye = self.request(Method::Bye, self.cseq + 1)?;
        self.send(bye).await?;
        loop {
            let Some(message) = message_of(self.socket.next().await)? else { continue };
            if message.answers(Method::Bye, self.cseq + 2) {
                return Ok(());
            }
            if !message.answers(Method::Bye, self.cseq + 1) {
                continue;
            }
            let uri = self.target.clone().unwrap_or_else(|| self.uri());
            let Login { name, password, .. } = &self.login;
            let login = (name.as_str(), password.as_str());
            let credentials = message.credentials(Method::Bye, login, &uri, &token()?);
            let Some(credentials) = credentials else { return Ok(()) };
            let mut headers = self.headers(Method::Bye, self.cseq + 2)?;
            headers.push(credentials);
            let again = sip::request(Method::Bye, &uri, headers, None)?;
            self.send(again).await?;
        }
    }

    /// Closing the connection would do; saying goodbye is better.
    async fn cancel(&mut self) -> anyhow::Result<()> {
        self.say(&format!("  ✗ no answer     within {} s", self.args.ring.as_secs()));
        self.socket.close(None).await.ok();
        Ok(())
    }
}

fn closed() -> anyhow::Error {
    anyhow!("the gateway has closed the connection")
}

/// Returns the SIP message in a frame, or `None` if it holds something else.
fn message_of<E>(frame: Option<Result<Frame, E>>) -> anyhow::Result<Option<ReceivedMessage>> {
    let text = match frame {
        Some(Ok(Frame::Text(text))) => text,
        Some(Ok(_)) => return Ok(None),
        _ => return Err(closed()),
    };
    ReceivedMessage::parse(&text).map(Some)
}
