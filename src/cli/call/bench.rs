//! `webtrunk bench`: more and more calls through a gateway of its own until one of them suffers.
//!
//! Two processes of this program are started, the gateway that is measured and a far end that
//! answers with an echo over plain RTP; the callers are in this one. The callers cost more than the
//! gateway does, so on a small machine the knee may be theirs: the gateway's own CPU, which is
//! measured separately, shows how far it would go.

mod overload;

use super::phone::{Phone, PhoneOutcome};
use super::voice::Voice;
use super::{CallArgs, Login, media};
use crate::cli::{hex, print, random};
use anyhow::{Context, anyhow};
use media::{Figures, Network, PhoneMedia};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;
use tokio::task::JoinSet;

#[derive(clap::Args)]
pub(crate) struct Bench {
    /// The most calls at once
    #[arg(long, default_value_t = 100)]
    calls: usize,
    /// New calls per second
    #[arg(long, default_value_t = 20.0)]
    rate: f64,
    /// How long the calls of each step talk
    #[arg(long = "for", default_value = "10s", value_parser = humantime::parse_duration)]
    length: Duration,
    /// The codec of the callers; the far end speaks G.711
    #[arg(long, default_value = "opus", value_parser = ["opus", "g722", "pcmu", "pcma"])]
    codec: String,
    /// Measure this gateway instead, calling NUMBER as USER; its CPU is then unknown
    #[arg(long, value_names = ["ws://HOST:PORT/sip", "USER", "PASSWORD", "NUMBER"], num_args = 4)]
    against: Option<Vec<String>>,
    /// Find how many calls a second its signalling takes, offer ten times that, and fail if fewer
    /// than 95 % of what it took before are answered and ended
    #[arg(long, conflicts_with = "against")]
    overload: bool,
    #[arg(long, short, value_enum, default_value_t)]
    output: print::OutputFormat,
}

/// Losses, late answers and scores beyond which a step is the knee.
const MOST_LOSS: f32 = 0.01;
const LATEST_ANSWER: Duration = Duration::from_secs(2);
const LEAST_MOS: f32 = 4.0;

/// A `webtrunk serve` of ours; ended when dropped.
struct Served {
    child: Child,
    folder: PathBuf,
}

impl Served {
    async fn start(name: &str, config: &str, dialplan: &str) -> anyhow::Result<Served> {
        let folder =
            std::env::temp_dir().join(format!("webtrunk-bench-{name}-{}", hex(&random::<6>()?)));
        webtrunk::private::folder(&folder.join("dialplans"))
            .with_context(|| folder.display().to_string())?;
        std::fs::write(folder.join("webtrunk.toml"), config)?;
        std::fs::write(folder.join("dialplans/in.toml"), dialplan)?;
        let log = std::fs::File::create(folder.join("log"))?;
        let child = Command::new(std::env::current_exe()?)
            .args(["serve", "--log", "text", "--log-level", "warn", "-c"])
            .arg(folder.join("webtrunk.toml"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("a second webtrunk cannot be started")?;
        let mut served = Served { child, folder };
        for _ in 0..200 {
            if tokio::net::UnixStream::connect(served.folder.join("control.sock")).await.is_ok() {
                return Ok(served);
            }
            if served.child.try_wait()?.is_some() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Err(anyhow!(
            "the {name} does not start:\n{}",
            std::fs::read_to_string(served.folder.join("log")).unwrap_or_default()
        ))
    }

    /// CPU it has used, all threads.
    fn cpu(&self) -> Option<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).ok()?;
        let after = stat.rsplit_once(')')?.1;
        let ticks: u64 =
            after.split_whitespace().skip(11).take(2).filter_map(|t| t.parse::<u64>().ok()).sum();
        // USER_HZ is 100 on every Linux there is.
        Some(Duration::from_millis(ticks * 10))
    }

    fn memory(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        status
            .lines()
            .find_map(|l| l.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A port that nobody has at this moment, over TCP or UDP.
fn free_port() -> anyhow::Result<u16> {
    loop {
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        if std::net::UdpSocket::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
}

/// The gateway that is measured and its far end. A port may be taken between its choice and the
/// start, so there is another try.
async fn own(args: &Bench) -> anyhow::Result<(Served, Served, Login)> {
    match try_own(args).await {
        Err(_) => try_own(args).await,
        started => started,
    }
}

async fn try_own(args: &Bench) -> anyhow::Result<(Served, Served, Login)> {
    let (web, sip, far) = (free_port()?, free_port()?, free_port()?);
    let password = hex(&random::<16>()?);
    let limits = format!(
        "[limits]\ncalls = {n}\ncalls_per_user = {n}\nnew_calls_per_second = 10000\n",
        n = 2 * args.calls + 10
    );
    let far_end = format!(
        "[server]\ndomain = \"far.invalid\"\npublic_ip = \"127.0.0.1\"\n[web]\n\
         listen = \"127.0.0.1:0\"\n[sip]\nudp = \"127.0.0.1:{far}\"\n[media]\nbrowser_port = 0\n\
         ports = \"10000-19999\"\n{limits}[recorder]\ncalls = 0\n[api]\n\
         control = \"control.sock\"\n[trunk.near]\nuri = \"sip:127.0.0.1:{sip}\"\n\
         allow = [\"127.0.0.1\"]\ncontext = \"in\"\n"
    );
    let gateway = format!(
        "[server]\ndomain = \"bench.invalid\"\npublic_ip = \"127.0.0.1\"\n[web]\n\
         listen = \"127.0.0.1:{web}\"\n[sip]\nudp = \"127.0.0.1:{sip}\"\n[media]\n\
         browser_port = 0\nports = \"20000-29999\"\n{limits}[api]\ncontrol = \"control.sock\"\n\
         [user.bench]\npassword = \"{password}\"\nfraud_brake = false\ncontext = \"in\"\n\
         [trunk.far]\nuri = \"sip:127.0.0.1:{far}\"\ncodecs = [\"pcmu\", \"pcma\", \"g722\"]\n"
    );
    let far_end = Served::start(
        "far end",
        &far_end,
        "[[route]]\nname = \"Echo\"\nmatch = \".\"\ndo = [{ echo = true }]\n",
    )
    .await?;
    let gateway = Served::start(
        "gateway",
        &gateway,
        "[[route]]\nname = \"Far\"\nmatch = \".\"\ndo = [{ dial = [\"trunk:far\"] }]\n",
    )
    .await?;
    let login = Login {
        domain: "bench.invalid".into(),
        user: "bench".into(),
        name: "bench".into(),
        password,
        jwt: None,
        ws: format!("ws://127.0.0.1:{web}/sip"),
    };
    Ok((gateway, far_end, login))
}

/// One call, start to end.
async fn one(login: Login, args: CallArgs) -> anyhow::Result<(PhoneOutcome, Figures)> {
    let (socket, gateway) = super::open(&login.ws).await?;
    let media = PhoneMedia::new(gateway, Voice::Speech, Network::default(), false).await?;
    let mut phone = Phone::new(socket, login, media, &args, true)?;
    let outcome = phone.run().await?;
    Ok((outcome, phone.media.figures()))
}

fn call_of(target: &str, length: Duration, codec: &str) -> CallArgs {
    CallArgs {
        target: target.to_owned(),
        user: None,
        password: None,
        ws: None,
        play: None,
        tone: 440.0,
        speech: true,
        record: None,
        dtmf: None,
        length,
        ring: Duration::from_secs(20),
        codec: Some(codec.to_owned()),
        loss: 0.0,
        jitter: Duration::ZERO,
        via: None,
        jwt: None,
        min_mos: None,
        output: print::OutputFormat::Json,
    }
}

/// What one step came to.
#[derive(Debug, Default)]
struct BenchStep {
    calls: usize,
    answered: usize,
    setup: Vec<Duration>,
    loss: f32,
    jitter: Duration,
    mos: Vec<f32>,
    cpu: Option<Duration>,
    call_seconds: f64,
    memory_kb: Option<u64>,
    why: Option<String>,
}

impl BenchStep {
    fn percentile<T: Copy>(sorted: &[T], p: usize) -> Option<T> {
        sorted.get((sorted.len() * p / 100).min(sorted.len().saturating_sub(1))).copied()
    }

    /// Why it is the knee.
    fn suffers(&self) -> Option<String> {
        let late = BenchStep::percentile(&self.setup, 95).filter(|s| *s > LATEST_ANSWER);
        let poor = BenchStep::percentile(&self.mos, 5).filter(|m| *m < LEAST_MOS);
        match (late, poor) {
            _ if self.answered < self.calls => Some(format!(
                "{} of {} calls were not answered: {}",
                self.calls - self.answered,
                self.calls,
                self.why.as_deref().unwrap_or("?")
            )),
            _ if self.loss > MOST_LOSS => {
                Some(format!("{:.1} % of the packets were lost", 100.0 * self.loss))
            }
            (Some(late), _) => Some(format!(
                "one call in twenty was answered only after {:.1} s",
                late.as_secs_f32()
            )),
            (_, Some(poor)) => Some(format!("one call in twenty is estimated at {poor:.1}")),
            _ => None,
        }
    }

    /// The gateway's CPU of one call for one second.
    fn cpu_ms(&self) -> Option<f64> {
        Some(self.cpu?.as_secs_f64() * 1e3 / self.call_seconds)
            .filter(|ms| ms.is_finite() && *ms > 0.0)
    }

    fn json(&self) -> Value {
        let ms = |d: Option<Duration>| d.map(|d| d.as_secs_f64() * 1e3);
        json!({
            "calls": self.calls, "answered": self.answered,
            "setup_ms_p50": ms(BenchStep::percentile(&self.setup, 50)),
            "setup_ms_p95": ms(BenchStep::percentile(&self.setup, 95)),
            "loss": self.loss, "jitter_ms": self.jitter.as_secs_f64() * 1e3,
            "mos_p5_estimated": BenchStep::percentile(&self.mos, 5),
            "cpu_ms_per_call_second": self.cpu_ms(),
            "calls_per_core": self.cpu_ms().map(|ms| (1_000.0 / ms) as u64),
            "memory_kb": self.memory_kb, "suffers": self.suffers(),
        })
    }

    fn line(&self) -> String {
        let ms =
            |d: Option<Duration>| d.map_or("-".into(), |d| format!("{:.0}", d.as_secs_f64() * 1e3));
        let setup = format!(
            "{} / {}",
            ms(BenchStep::percentile(&self.setup, 50)),
            ms(BenchStep::percentile(&self.setup, 95))
        );
        let (mos, cpu) = (
            BenchStep::percentile(&self.mos, 5).map_or("-".into(), |m| format!("{m:.2}")),
            self.cpu_ms(),
        );
        format!(
            "{:>5}  {:>8}  {setup:>13}  {:>5.2} %  {:>6.1}  {mos:>6}  {:>11}  {:>10}",
            self.calls,
            self.answered,
            100.0 * self.loss,
            self.jitter.as_secs_f64() * 1e3,
            cpu.map_or("-".into(), |ms| format!("{ms:.2}")),
            cpu.map_or("-".into(), |ms| format!("{:.0}", 1_000.0 / ms)),
        )
    }
}

async fn step(
    calls: usize,
    args: &Bench,
    login: &Login,
    target: &str,
    gateway: Option<&Served>,
) -> anyhow::Result<BenchStep> {
    let before = gateway.and_then(Served::cpu);
    let mut running = JoinSet::new();
    let mut pace = tokio::time::interval(Duration::from_secs_f64(1.0 / args.rate.max(0.1)));
    for _ in 0..calls {
        pace.tick().await;
        let (login, call) = (login.clone(), call_of(target, args.length, &args.codec));
        running.spawn_local(one(login, call));
    }
    let mut step = BenchStep { calls, ..BenchStep::default() };
    let (mut lost, mut expected) = (0u64, 0u64);
    while let Some(done) = running.join_next().await {
        match done? {
            Ok((outcome, figures)) if outcome.answered.is_some() => {
                step.answered += 1;
                step.setup.extend(outcome.answered);
                step.call_seconds += outcome.talked.as_secs_f64();
                lost += figures.expected.saturating_sub(figures.received);
                expected += figures.expected;
                step.jitter = step.jitter.max(figures.jitter);
                step.mos.extend(figures.mos_in);
            }
            Ok((outcome, _)) => step.why = Some(format!("{} {}", outcome.status, outcome.why)),
            Err(e) => step.why = Some(format!("{e:#}")),
        }
    }
    step.loss = lost as f32 / expected.max(1) as f32;
    step.setup.sort_unstable();
    step.mos.sort_unstable_by(f32::total_cmp);
    step.cpu = gateway
        .and_then(Served::cpu)
        .zip(before)
        .map(|(after, before)| after.saturating_sub(before));
    step.memory_kb = gateway.and_then(Served::memory);
    Ok(step)
}

/// The login of a user of another gateway, whose domain is the host of its WebSocket.
fn login_at(ws: &str, user: &str, password: &str) -> Login {
    let host = ws.split("://").nth(1).and_then(|r| r.split(['/', ':']).next());
    Login {
        domain: host.unwrap_or_default().to_owned(),
        user: user.to_owned(),
        name: user.to_owned(),
        password: password.to_owned(),
        jwt: None,
        ws: ws.to_owned(),
    }
}

/// Doubles the calls until some suffer, then looks between.
///
/// # Errors
/// The gateway cannot be started or reached.
pub(crate) async fn bench(args: &Bench) -> anyhow::Result<ExitCode> {
    if args.overload {
        return overload::overload(args.output).await;
    }
    let table = args.output == print::OutputFormat::Table;
    let (served, login, target) = match args.against.as_deref() {
        Some([ws, user, password, number]) => (None, login_at(ws, user, password), number.clone()),
        _ => {
            let (gateway, far_end, login) = own(args).await?;
            (Some((gateway, far_end)), login, "9196".to_owned())
        }
    };
    let gateway = served.as_ref().map(|(gateway, _)| gateway);
    if table {
        print::line(
            "calls  answered  setup p50/p95     loss  jitter  MOS p5  CPU ms/call-s  \
                calls/core\n                          ms                  ms",
        );
    }
    let (mut fine, mut knee, mut next) = (0, None::<(usize, String)>, args.calls.min(10));
    let mut steps = Vec::new();
    loop {
        let done = step(next, args, &login, &target, gateway).await?;
        if table {
            print::line(&done.line());
        }
        match done.suffers() {
            None => fine = next,
            Some(why) => knee = Some((next, why)),
        }
        steps.push(done.json());
        next = match &knee {
            None if fine >= args.calls => break,
            None => (2 * fine).min(args.calls),
            // Close enough once a step is within a fifth of the last good one.
            Some((bad, _)) if bad - fine <= (fine / 5).max(1) => break,
            Some((bad, _)) => fine + (bad - fine) / 2,
        };
    }
    if table {
        print::line(&match &knee {
            None => format!("\nno knee up to {fine} calls"),
            Some((bad, why)) => format!("\nthe knee is between {fine} and {bad} calls: {why}"),
        });
        if gateway.is_some() {
            print::line(
                "callers, far end and gateway shared this machine; CPU is that of the gateway \
                    alone",
            );
        }
    } else {
        print::object(&json!({
            "codec": args.codec,
            "steps": steps,
            "fine_calls": fine,
            "knee_calls": knee.as_ref().map(|k| k.0),
            "why": knee.map(|k| k.1),
        }));
    }
    Ok(ExitCode::SUCCESS)
}
