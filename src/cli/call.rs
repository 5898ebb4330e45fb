//! `webtrunk call`: a browser without a browser. It logs in over WebSocket, calls, speaks and
//! listens, and says how it was.

pub(crate) mod bench;
mod media;
mod speech;

use super::client::{Client, Stream, encrypt, escape};
use super::{hex, print, random};
use anyhow::{Context, anyhow};
use futures_util::{SinkExt, StreamExt};
use hyper::Method as Http;
use media::{FRAME, Figures, Media, Network, Voice};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use webtrunk::codec::Codec;
use webtrunk::config::wav;
use webtrunk::sip::build::Writer;
use webtrunk::sip::parse::{Framing, HeaderName};
use webtrunk::sip::{Message, Method, digest};

const EXIT_CALL_FAILED: u8 = 5;
const EXIT_BELOW_MOS: u8 = 6;

#[derive(clap::Args)]
pub(crate) struct Call {
    /// The number, or a user
    target: String,
    /// Call as this user [default: the first user of the configuration]
    #[arg(long = "as")]
    user: Option<String>,
    /// The user's password; not needed if the gateway has [credentials]
    #[arg(long, env = "WEBTRUNK_PASSWORD", hide_env_values = true, allow_hyphen_values = true)]
    password: Option<String>,
    /// The gateway's WebSocket [default: that of this machine]
    #[arg(long, value_name = "ws://HOST:PORT/sip")]
    ws: Option<String>,
    /// Send a WAV file (8 kHz, mono, 16 bit)
    #[arg(long, conflicts_with = "tone")]
    play: Option<PathBuf>,
    /// Send a tone of this frequency, Hz
    #[arg(long, default_value_t = 440.0)]
    tone: f32,
    /// Send sweeps and syllables; with an echo at the far end, this measures the round trip
    #[arg(long, conflicts_with_all = ["play", "tone"])]
    speech: bool,
    /// Record both sides into a WAV file: left this side, right the far end
    #[arg(long)]
    record: Option<PathBuf>,
    /// Press these keys one second after the answer
    #[arg(long)]
    dtmf: Option<String>,
    /// How long to talk
    #[arg(long = "for", default_value = "10s", value_parser = humantime::parse_duration)]
    length: Duration,
    /// How long to wait for an answer
    #[arg(long, default_value = "60s", value_parser = humantime::parse_duration)]
    ring: Duration,
    /// Offer only this codec
    #[arg(long, value_parser = ["opus", "g722", "pcmu", "pcma"])]
    codec: Option<String>,
    /// Drop this share of the packets sent, percent
    #[arg(long, default_value_t = 0.0, value_name = "PERCENT")]
    loss: f32,
    /// Delay each packet sent by a random time up to this
    #[arg(long, default_value = "0ms", value_parser = humantime::parse_duration)]
    jitter: Duration,
    /// Call straight to a trunk, past the dialplan
    #[arg(long, value_name = "trunk:NAME", conflicts_with_all = ["password", "jwt"])]
    via: Option<String>,
    /// Log in with a JSON Web Token (RFC 8898); --as is its sub
    #[arg(long, env = "WEBTRUNK_JWT", hide_env_values = true, conflicts_with = "password")]
    jwt: Option<String>,
    /// Fail if the estimated score of either direction is lower, 1 to 4.5
    #[arg(long)]
    min_mos: Option<f32>,
    #[arg(long, short, value_enum, default_value_t)]
    output: print::Output,
}

/// Who we are to the gateway.
#[derive(Clone)]
struct Login {
    domain: String,
    user: String,
    /// The name of the digest, which a minted one has of its own.
    name: String,
    password: String,
    jwt: Option<String>,
    ws: String,
}

/// What a call came to.
#[derive(Default)]
struct Outcome {
    status: u16,
    why: String,
    rang: Option<Duration>,
    answered: Option<Duration>,
    ended_by: &'static str,
    talked: Duration,
}

async fn login(client: &Client, args: &Call) -> anyhow::Result<Login> {
    let status = client.get("/status").await;
    let secret = args.password.clone().or_else(|| args.jwt.as_ref().map(|_| String::new()));
    if let (Some(ws), Some(user), Some(password)) = (&args.ws, &args.user, &secret) {
        let host =
            ws.split("://").nth(1).and_then(|r| r.split(['/', ':']).next()).unwrap_or_default();
        let domain = status
            .ok()
            .and_then(|s| s["domain"].as_str().map(str::to_owned))
            .unwrap_or_else(|| host.to_owned());
        return Ok(Login {
            domain,
            user: user.clone(),
            name: user.clone(),
            password: password.clone(),
            jwt: args.jwt.clone(),
            ws: ws.clone(),
        });
    }
    let domain = status?["domain"].as_str().unwrap_or_default().to_owned();
    let config = client.get("/config").await?;
    let first = || config["user"].as_object().and_then(|u| u.keys().next().cloned());
    let user = args
        .user
        .clone()
        .or_else(first)
        .ok_or_else(|| anyhow!("there is no user to call as: add a [user.…]"))?;
    let listen = config["web"]["listen"].as_str().unwrap_or_default();
    let at: SocketAddr =
        listen.parse().with_context(|| format!("the gateway's web.listen {listen:?}"))?;
    let here =
        if at.ip().is_unspecified() { SocketAddr::from(([127, 0, 0, 1], at.port())) } else { at };
    let secure = config["web"]["tls"] != "Off";
    // A certificate names the domain, not the loopback.
    let ws = args.ws.clone().unwrap_or_else(|| {
        if secure {
            format!("wss://{domain}:{}/sip", at.port())
        } else {
            format!("ws://{here}/sip")
        }
    });
    if let Some(password) = &secret {
        return Ok(Login {
            domain,
            name: user.clone(),
            user,
            password: password.clone(),
            jwt: args.jwt.clone(),
            ws,
        });
    }
    let mut wish = json!({ "user": user, "ttl": "5m" });
    if let Some(via) = &args.via {
        let trunk = via.strip_prefix("trunk:").ok_or_else(|| anyhow!("--via takes trunk:NAME"))?;
        wish["context"] = json!(format!("@{trunk}"));
    }
    let minted = client.call(Http::POST, "/credentials", Some(&wish)).await
        .context("no way to log in: give --password, or set [credentials] secret, so that the gateway can make credentials")?;
    let text = |key: &str| minted[key].as_str().unwrap_or_default().to_owned();
    Ok(Login { domain, user, name: text("username"), password: text("password"), jwt: None, ws })
}

/// Makes the call, and prints how it was.
pub(crate) async fn call(client: &Client, args: &Call) -> anyhow::Result<ExitCode> {
    let login = login(client, args).await?;
    let voice = match &args.play {
        Some(path) => Voice::File {
            pcm: wav::read(path).map_err(|e| anyhow!("{}: {e}", path.display()))?,
            at: 0,
        },
        None if args.speech => Voice::Speech,
        None => Voice::Tone(args.tone),
    };
    let (socket, gateway) = open(&login.ws).await?;
    let media = Media::new(
        gateway,
        voice,
        Network { loss: args.loss / 100.0, jitter: args.jitter },
        args.record.is_some() || args.speech,
    )
    .await?;
    let quiet = args.output != print::Output::Table;
    let mut phone = Phone {
        socket,
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
    };
    if !quiet {
        print::line(&format!("call {} as {}", args.target, phone.login.user));
    }
    let outcome = phone.run().await?;
    let mut figures = phone.media.figures();
    let seen = gateway_saw(client, &phone.call_id).await;
    let leg = &seen["legs"][0];
    // A short call ends before their first RTCP report; the gateway's own record knows what it
    // received.
    figures.mos_out = figures.mos_out.or(leg["mos_in_estimated"].as_f64().map(|m| m as f32));
    figures.reported_loss = figures
        .reported_loss
        .or_else(|| Some(leg["packets_lost"].as_f64()? as f32 / figures.sent.max(1) as f32));
    if let (Some(path), Some(sides)) = (&args.record, &phone.media.record) {
        write_wav(path, sides)?;
    }
    let good_enough = |min: f32| {
        figures.mos_in.is_some_and(|m| m >= min) && figures.mos_out.is_none_or(|m| m >= min)
    };
    let code = match (outcome.answered, args.min_mos) {
        (None, _) => EXIT_CALL_FAILED,
        (Some(_), Some(min)) if !good_enough(min) => EXIT_BELOW_MOS,
        _ => 0,
    };
    if quiet {
        print::object(&as_json(&phone, &outcome, &figures, &seen));
    } else {
        report(&phone, &outcome, &figures);
        if let Some(call) = seen["call"].as_str() {
            let verdict = &seen["verdict"];
            let text = |key: &str| verdict[key].as_str().unwrap_or_default().to_owned();
            match verdict["code"].as_str() {
                Some(code) => print::line(&format!(
                    "\n{code}  {}\n         Likely: {}\n         Fix:    {}\n         webtrunk trace {call}",
                    text("sentence"),
                    text("likely"),
                    text("fix")
                )),
                None => print::line(&format!("\nwebtrunk trace {call} shows all of it")),
            }
        }
    }
    Ok(ExitCode::from(code))
}

/// The gateway's record of the call, where it can be asked; nothing else may be taken for it.
async fn gateway_saw(client: &Client, call_id: &str) -> Value {
    for _ in 0..20 {
        let Ok(calls) = client.get("/calls?limit=20").await else { return Value::Null };
        for call in calls.as_array().into_iter().flatten().filter_map(|c| c["call"].as_str()) {
            if let Ok(detail) = client.get(&format!("/calls/{call}")).await
                && detail["legs"][0]["sip_call_id"] == call_id
                && detail["state"] == "ended"
            {
                return detail;
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Value::Null
}

fn token() -> anyhow::Result<String> {
    Ok(hex(&random::<8>()?))
}

async fn open(ws: &str) -> anyhow::Result<(WebSocketStream<Box<dyn Stream>>, SocketAddr)> {
    let mut request =
        ws.into_client_request().with_context(|| format!("{ws:?} is not a WebSocket URL"))?;
    request.headers_mut().insert("Sec-WebSocket-Protocol", "sip".parse()?);
    let host = request.uri().host().ok_or_else(|| anyhow!("{ws:?} names no host"))?.to_owned();
    let secure = ws.starts_with("wss:");
    let port = request.uri().port_u16().unwrap_or(if secure { 443 } else { 80 });
    let stream = TcpStream::connect((host.as_str(), port))
        .await
        .with_context(|| format!("{ws} cannot be reached"))?;
    // An ACK and the next INVITE are two small writes.
    stream.set_nodelay(true)?;
    let gateway = stream.peer_addr()?;
    let stream: Box<dyn Stream> = if secure {
        encrypt(stream, &host).await.with_context(|| format!("{ws}: the certificate is not accepted (SSL_CERT_FILE names another authority, --ws another name)"))?
    } else {
        Box::new(stream)
    };
    let (socket, _) = tokio_tungstenite::client_async(request, stream)
        .await
        .with_context(|| format!("{ws} does not accept SIP"))?;
    Ok((socket, gateway))
}

/// Until then; for ever where there is nothing to wait for.
async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

struct Phone<'a> {
    socket: WebSocketStream<Box<dyn Stream>>,
    login: Login,
    media: Media,
    args: &'a Call,
    quiet: bool,
    call_id: String,
    tag: String,
    cseq: u32,
    began: Instant,
    /// To of the dialog, and where its requests go.
    to: Option<String>,
    target: Option<String>,
}

impl Phone<'_> {
    fn say(&self, text: &str) {
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

    fn request(&self, method: Method, cseq: u32) -> anyhow::Result<Writer> {
        let uri = self.target.clone().unwrap_or_else(|| self.uri());
        let mut request = Writer::request(method, &uri);
        let own = format!("sip:{}@{}", self.login.user, self.login.domain);
        request.put(
            HeaderName::Via,
            format_args!("SIP/2.0/WS call.invalid;branch=z9hG4bK{}", token()?),
        );
        request.put(HeaderName::MaxForwards, 70);
        request.put(HeaderName::From, format_args!("<{own}>;tag={}", self.tag));
        request.put(HeaderName::To, self.to.clone().unwrap_or_else(|| format!("<{}>", self.uri())));
        request.put(HeaderName::CallId, &self.call_id);
        request.put(HeaderName::CSeq, format_args!("{cseq} {method}"));
        request.put(
            HeaderName::Contact,
            format_args!("<sip:{}@call.invalid;transport=ws>", self.login.user),
        );
        request.put(HeaderName::UserAgent, concat!("webtrunk-call/", env!("CARGO_PKG_VERSION")));
        Ok(request)
    }

    async fn send(&mut self, bytes: bytes::Bytes) -> anyhow::Result<()> {
        self.socket
            .send(Frame::text(String::from_utf8(bytes.to_vec())?))
            .await
            .context("the gateway has closed the connection")
    }

    fn invite(&self, credentials: Option<(HeaderName, String)>) -> anyhow::Result<bytes::Bytes> {
        let mut invite = self.request(Method::Invite, self.cseq)?;
        if let Some((name, value)) = credentials {
            invite.put(name, value);
        }
        if let Some(jwt) = &self.login.jwt {
            invite.put(HeaderName::Authorization, format_args!("Bearer {jwt}"));
        }
        let codec = self.args.codec.as_deref().and_then(Codec::from_name);
        Ok(invite.end_with("application/sdp", self.media.offer(codec).as_bytes()))
    }

    async fn run(&mut self) -> anyhow::Result<Outcome> {
        let mut outcome = Outcome { ended_by: "us", ..Outcome::default() };
        let first = self.invite(None)?;
        self.send(first).await?;
        let mut pace = interval(FRAME);
        pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut buf = vec![0u8; 2_048];
        let (mut media_told, mut pressed, mut since) = (false, false, None::<Instant>);
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
                frame = self.socket.next() => {
                    let text = match frame {
                        Some(Ok(Frame::Text(text))) => text,
                        Some(Ok(_)) => continue,
                        _ => return Err(anyhow!("the gateway has closed the connection")),
                    };
                    let message = Message::parse(text.as_bytes().to_vec(), Framing::WebSocket).map_err(|e| anyhow!("the gateway sent a message that cannot be read: {e}"))?;
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
            if !media_told
                && let (Some(secured), Some(codec)) = (self.media.secured, self.media.codec())
            {
                media_told = true;
                let ice = self
                    .media
                    .connected
                    .map_or(0, |c| c.saturating_duration_since(self.began).as_millis());
                self.say(&format!(
                    "  ✓ media         {}, ICE after {ice} ms, DTLS {} ms later",
                    codec.name(),
                    secured
                        .saturating_duration_since(self.media.connected.unwrap_or(secured))
                        .as_millis()
                ));
            }
            if let Some(why) = self.media.failed.take() {
                self.say(&format!("  ✗ media         {why}"));
            }
            let talked = since.map(|s| s.elapsed());
            if !pressed && talked.is_some_and(|t| t >= Duration::from_secs(1)) {
                pressed = true;
                self.media.press(self.args.dtmf.as_deref().unwrap_or_default());
            }
            if talked.is_some_and(|t| t >= self.args.length) && !self.media.is_pressing() {
                outcome.talked = talked.unwrap_or_default();
                self.hang_up().await?;
                return Ok(outcome);
            }
            if since.is_none() && self.began.elapsed() >= self.args.ring {
                (outcome.status, outcome.why) =
                    (408, format!("nobody answered within {} s", self.args.ring.as_secs()));
                self.cancel().await?;
                return Ok(outcome);
            }
        }
    }

    /// A message of the gateway; true: the call is over.
    async fn heard(&mut self, message: &Message, outcome: &mut Outcome) -> anyhow::Result<bool> {
        if message.is_request() {
            let ok = Writer::response(message, 200, None).end();
            self.send(ok).await?;
            if message.method() == Method::Bye {
                (outcome.ended_by, outcome.why) = ("them", reason(message));
                return Ok(true);
            }
            return Ok(false);
        }
        if message.method() != Method::Invite
            || message.cseq().is_none_or(|c| c.number != self.cseq)
        {
            return Ok(false);
        }
        let (status, after) = (message.status(), self.began.elapsed());
        if let Some(sdp) = message.body_of("application/sdp") {
            self.media.answer(&String::from_utf8_lossy(sdp))?;
        }
        match status {
            100 => {}
            101..=199 => {
                if outcome.rang.replace(after).is_none() {
                    self.say(&format!(
                        "  ✓ ringing       {status} after {:.2} s",
                        after.as_secs_f32()
                    ));
                }
            }
            200..=299 => {
                self.to = message.header(HeaderName::To).map(str::to_owned);
                self.target = message.contact().map(|c| c.uri.text.to_owned());
                let ack = self.request(Method::Ack, self.cseq)?.end();
                self.send(ack).await?;
                if outcome.answered.replace(after).is_none() {
                    outcome.status = status;
                    self.say(&format!(
                        "  ✓ answered      {status} after {:.2} s",
                        after.as_secs_f32()
                    ));
                }
            }
            401 | 407 => {
                self.acknowledge_refusal(message).await?;
                let cnonce = token()?;
                let credentials = digest::answer(
                    message,
                    None,
                    &self.login.name,
                    &self.login.password,
                    &self.uri(),
                    Method::Invite,
                    &cnonce,
                );
                let credentials = credentials
                    .filter(|_| self.cseq == 1 && self.login.jwt.is_none())
                    .ok_or_else(|| anyhow!("the gateway does not accept the credentials"))?;
                self.cseq += 1;
                let again = self.invite(Some(credentials))?;
                self.send(again).await?;
            }
            _ => {
                self.acknowledge_refusal(message).await?;
                (outcome.status, outcome.why) = (status, reason(message));
                self.say(&format!(
                    "  ✗ refused       {status} after {:.2} s: {}",
                    after.as_secs_f32(),
                    outcome.why
                ));
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// ACK of a final refusal: the INVITE's own Via and numbers (RFC 3261 §17.1.1.3).
    async fn acknowledge_refusal(&mut self, refusal: &Message) -> anyhow::Result<()> {
        let mut ack = Writer::request(Method::Ack, &self.uri());
        for name in [HeaderName::Via, HeaderName::From, HeaderName::To, HeaderName::CallId] {
            ack.put(name, refusal.header(name).unwrap_or_default());
        }
        ack.put(HeaderName::MaxForwards, 70);
        ack.put(HeaderName::CSeq, format_args!("{} ACK", self.cseq));
        self.send(ack.end()).await
    }

    async fn hang_up(&mut self) -> anyhow::Result<()> {
        let bye = self.request(Method::Bye, self.cseq + 1)?.end();
        self.send(bye).await?;
        let answered = timeout(Duration::from_secs(5), async {
            while let Some(Ok(frame)) = self.socket.next().await {
                if let Frame::Text(text) = frame
                    && text.contains("BYE")
                {
                    return;
                }
            }
        });
        let done = answered.await.is_ok();
        self.say(if done {
            "  ✓ hung up       by this side"
        } else {
            "  ✗ hung up       by this side; the BYE was not answered"
        });
        Ok(())
    }

    /// Closing the connection would do; saying goodbye is better.
    async fn cancel(&mut self) -> anyhow::Result<()> {
        self.say(&format!("  ✗ no answer     within {} s", self.args.ring.as_secs()));
        self.socket.close(None).await.ok();
        Ok(())
    }
}

/// The sentence in a Reason header.
fn reason(message: &Message) -> String {
    let said = webtrunk::sip::cause::reasons(message).text;
    said.unwrap_or_else(|| message.reason_phrase().to_owned())
}

fn word(mos: f32) -> &'static str {
    match mos {
        m if m >= 4.0 => "good",
        m if m >= 3.6 => "fair",
        m if m >= 3.1 => "poor",
        _ => "bad",
    }
}

fn report(phone: &Phone<'_>, outcome: &Outcome, f: &Figures) {
    if outcome.answered.is_none() {
        return;
    }
    if outcome.ended_by == "them" {
        phone.say(&format!("  ✓ hung up       by the far end: {}", outcome.why));
    }
    let percent =
        |share: Option<f32>| share.map_or("-".to_owned(), |s| format!("{:.1} %", 100.0 * s));
    let mos = |m: Option<f32>| m.map_or("-".to_owned(), |m| format!("{m:.2} {}", word(m)));
    let ms = |d: Option<Duration>| {
        d.map_or("-".to_owned(), |d| format!("{:.1} ms", d.as_secs_f64() * 1e3))
    };
    phone.say(&format!("\n  quality          {:<16} out (by the far end's RTCP)", "in"));
    phone.say(&format!(
        "  packets          {:<16} {}",
        format!("{} of {}", f.received, f.expected),
        f.sent
    ));
    phone.say(&format!(
        "  loss             {:<16} {}",
        percent((f.received > 0).then_some(f.loss)),
        percent(f.reported_loss)
    ));
    phone.say(&format!("  jitter           {}", ms((f.received > 0).then_some(f.jitter))));
    phone.say(&format!("  round trip       {}", ms(f.round_trip)));
    phone.say(&format!(
        "  MOS              {:<16} {:<12} E-model G.107, estimated from the network",
        mos(f.mos_in),
        mos(f.mos_out)
    ));
    match f.level {
        Some(level) => phone.say(&format!(
            "  level            {:<16} silence {:.0} %",
            format!("{level:.0} dBFS"),
            100.0 * f.silence
        )),
        None => phone.say("  level            nothing was heard: one-way audio"),
    }
    if phone.args.speech {
        match phone.media.echo() {
            Some(e) => phone.say(&format!("  echo             {:.0} ms from mouth to ear and back, likeness {:.2}, {} of {} sweeps", e.delay.as_secs_f64() * 1e3, e.likeness, e.came_back, e.said)),
            None => phone.say("  echo             the speech did not come back"),
        }
    }
    if let Some(path) = &phone.args.record {
        phone.say(&format!(
            "recorded {} (8 kHz, stereo: left this side, right the far end)",
            path.display()
        ));
    }
}

fn as_json(phone: &Phone<'_>, outcome: &Outcome, f: &Figures, seen: &Value) -> Value {
    let ms = |d: Option<Duration>| d.map(|d| d.as_millis() as u64);
    json!({
        "target": phone.args.target, "as": phone.login.user, "sip_code": outcome.status, "why": outcome.why,
        "ringing_ms": ms(outcome.rang), "answered_ms": ms(outcome.answered), "talked_s": outcome.talked.as_secs_f64(), "hung_up_by": outcome.answered.map(|_| outcome.ended_by),
        "codec": phone.media.codec().map(Codec::name), "packets_in": f.received, "packets_expected": f.expected, "packets_out": f.sent, "loss_in": f.loss, "loss_out": f.reported_loss,
        "jitter_ms": f.jitter.as_secs_f64() * 1e3, "rtt_ms": f.round_trip.map(|r| r.as_secs_f64() * 1e3), "mos_in_estimated": f.mos_in, "mos_out_estimated": f.mos_out,
        "echo_ms": phone.media.echo().map(|e| e.delay.as_secs_f64() * 1e3), "echo_likeness": phone.media.echo().map(|e| e.likeness),
        "level_dbfs": f.level, "silence": f.silence, "call": seen["call"], "verdict": seen["verdict"],
    })
}

fn write_wav(path: &PathBuf, sides: &(Vec<i16>, Vec<i16>)) -> anyhow::Result<()> {
    let spec = hound::WavSpec {
        channels: 2,
        sample_rate: 8_000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(path, spec)
        .with_context(|| format!("{} cannot be written", path.display()))?;
    for n in 0..sides.0.len().max(sides.1.len()) {
        writer.write_sample(sides.0.get(n).copied().unwrap_or(0))?;
        writer.write_sample(sides.1.get(n).copied().unwrap_or(0))?;
    }
    Ok(writer.finalize()?)
}
