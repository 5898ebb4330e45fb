//! `webtrunk call`: a browser without a browser. It logs in over WebSocket, calls, speaks and
//! listens, and says how it was.

pub(crate) mod bench;
mod media;
mod phone;
mod report;
mod sdp;
mod sip;
mod speech;
mod voice;

use super::client::{ApiClient, Stream, encrypt};
use super::{hex, print, random};
use anyhow::{Context, anyhow};
use hyper::Method as Http;
use media::{Figures, Network, PhoneMedia};
use phone::{Phone, PhoneOutcome};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use voice::Voice;
use webtrunk::config::wav;

const EXIT_CALL_FAILED: u8 = 5;
const EXIT_BELOW_MOS: u8 = 6;

#[derive(clap::Args)]
pub(crate) struct CallArgs {
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
    output: print::OutputFormat,
}

/// The phone's account at the gateway.
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

async fn login(client: &ApiClient, args: &CallArgs) -> anyhow::Result<Login> {
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
    // A gateway of before wrote it with a capital.
    let secure = !config["web"]["tls"].as_str().is_some_and(|tls| tls.eq_ignore_ascii_case("off"));
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
    let minted = client.call(Http::POST, "/credentials", Some(&wish)).await.context(
        "no way to log in: give --password, or set [credentials] secret, so that the \
            gateway can make credentials",
    )?;
    let text = |key: &str| minted[key].as_str().unwrap_or_default().to_owned();
    Ok(Login { domain, user, name: text("username"), password: text("password"), jwt: None, ws })
}

/// Makes the call, and prints how it was.
///
/// # Errors
/// The gateway cannot be reached, or media has no socket.
pub(crate) async fn call(client: &ApiClient, args: &CallArgs) -> anyhow::Result<ExitCode> {
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
    let network = Network { loss: args.loss / 100.0, jitter: args.jitter };
    let media =
        PhoneMedia::new(gateway, voice, network, args.record.is_some() || args.speech).await?;
    let quiet = args.output != print::OutputFormat::Table;
    let mut phone = Phone::new(socket, login, media, args, quiet)?;
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
    figures.reported_jitter =
        figures.reported_jitter.or_else(|| leg["jitter_ms"].as_u64().map(Duration::from_millis));
    if let (Some(path), Some(sides)) = (&args.record, &phone.media.record) {
        write_wav(path, sides)?;
    }
    if quiet {
        print::object(&report::as_json(&phone, &outcome, &figures, &seen));
    } else {
        report::print(&phone, &outcome, &figures);
        report::print_verdict(&seen);
    }
    Ok(ExitCode::from(exit_code(&outcome, &figures, leg, args.min_mos)))
}

/// A call that nobody answered, or on which one of the two heard nothing, has failed.
fn exit_code(outcome: &PhoneOutcome, figures: &Figures, leg: &Value, min_mos: Option<f32>) -> u8 {
    let good_enough = |min: f32| {
        figures.mos_in.is_some_and(|m| m >= min) && figures.mos_out.is_none_or(|m| m >= min)
    };
    let unheard = leg["packets_in"].as_u64() == Some(0);
    match min_mos {
        _ if outcome.answered.is_none() || !figures.was_heard() || unheard => EXIT_CALL_FAILED,
        Some(min) if !good_enough(min) => EXIT_BELOW_MOS,
        _ => 0,
    }
}

/// The gateway's record of the call, if it can be asked; nothing else may be taken for it.
async fn gateway_saw(client: &ApiClient, call_id: &str) -> Value {
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
        encrypt(stream, &host).await.with_context(|| {
            format!(
                "{ws}: the certificate is not accepted (SSL_CERT_FILE names another authority, \
                 --ws another name)"
            )
        })?
    } else {
        Box::new(stream)
    };
    let (socket, _) = tokio_tungstenite::client_async(request, stream)
        .await
        .with_context(|| format!("{ws} does not accept SIP"))?;
    Ok((socket, gateway))
}

fn write_wav(path: &std::path::Path, sides: &(Vec<i16>, Vec<i16>)) -> anyhow::Result<()> {
    let spec = hound::WavSpec {
        channels: 2,
        sample_rate: 8_000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let shown = || format!("{} cannot be written", path.display());
    let file = std::io::BufWriter::new(webtrunk::private::create(path).with_context(shown)?);
    let mut writer = hound::WavWriter::new(file, spec).with_context(shown)?;
    for n in 0..sides.0.len().max(sides.1.len()) {
        writer.write_sample(sides.0.get(n).copied().unwrap_or(0))?;
        writer.write_sample(sides.1.get(n).copied().unwrap_or(0))?;
    }
    Ok(writer.finalize()?)
}
