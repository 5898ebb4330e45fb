//! Commands that change a running gateway: kick, drain, reload, upgrade.

use super::client::{ApiAddress, ApiClient, escape, not_there};
use super::print::{self, clock};
use anyhow::anyhow;
use hyper::Method;
use std::io::IsTerminal;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tokio::time::Instant;
use webtrunk::handover::{Link, LinkMessage};

/// For an upgrade to be done, besides waiting for calls that ring.
const UPGRADED: Duration = Duration::from_secs(150);

#[derive(clap::Args)]
pub(crate) struct KickArgs {
    /// A call as `webtrunk calls` shows it, or user:NAME to close that user's connections
    what: String,
    /// The SIP status for a caller whose call is not answered yet
    #[arg(long, default_value_t = 480)]
    code: u16,
    /// The reason sent to both sides
    #[arg(long)]
    reason: Option<String>,
}

/// Hangs a call up.
///
/// # Errors
/// As `ApiClient::get`.
pub(crate) async fn kick(client: &ApiClient, args: &KickArgs) -> anyhow::Result<ExitCode> {
    if let Some(user) = args.what.strip_prefix("user:") {
        let closed =
            client.call(Method::DELETE, &format!("/registrations/{}", escape(user)), None).await?;
        print::line(&format!("closed {} connection(s) of {user}", closed["closed"]));
        return Ok(ExitCode::SUCCESS);
    }
    let reason = args.reason.as_ref().map(|r| format!("&reason={}", escape(r))).unwrap_or_default();
    let ended = client
        .call(
            Method::DELETE,
            &format!("/calls/{}?code={}{reason}", escape(&args.what), args.code),
            None,
        )
        .await?;
    print::line(&format!("call {} is ended", ended["call"].as_str().unwrap_or_default()));
    Ok(ExitCode::SUCCESS)
}

#[derive(clap::Args)]
pub(crate) struct Drain {
    /// How long to wait for active calls to end
    #[arg(long, default_value = "15m", value_parser = humantime::parse_duration)]
    timeout: Duration,
    /// Do not wait
    #[arg(long)]
    no_wait: bool,
    /// Accept new calls again
    #[arg(long)]
    cancel: bool,
    /// Another node of the cluster [default: the one that is asked]
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
}

/// Refuses new calls, and waits for those there are.
///
/// # Errors
/// As `ApiClient::get`.
pub(crate) async fn drain(client: &ApiClient, args: &Drain) -> anyhow::Result<ExitCode> {
    let of_node = |path: &str| match &args.node {
        Some(node) => format!("{path}?node={}", escape(node)),
        None => path.to_owned(),
    };
    if args.cancel {
        client.call(Method::DELETE, &of_node("/drain"), None).await?;
        print::line("new calls are accepted again");
        return Ok(ExitCode::SUCCESS);
    }
    client.call(Method::POST, &of_node("/drain"), None).await?;
    let (deadline, bar) = (Instant::now() + args.timeout, std::io::stderr().is_terminal());
    let mut most = 0;
    loop {
        let status = client.get(&of_node("/status")).await?;
        let calls = status["calls"].as_u64().unwrap_or(0);
        most = most.max(calls);
        if calls == 0 || args.no_wait || Instant::now() >= deadline {
            if bar {
                print::progress("");
            }
            print::line(&match calls {
                0 => "drained: no call is left".to_owned(),
                n => format!("draining: {n} calls left"),
            });
            return Ok(if calls > 0 && !args.no_wait {
                ExitCode::FAILURE
            } else {
                ExitCode::SUCCESS
            });
        }
        if bar {
            let done = ((most - calls) * 30 / most) as usize;
            let longest = clock(status["longest_call_s"].as_u64().unwrap_or(0));
            print::progress(&format!(
                "[{}{}] {calls} calls left, longest {longest}",
                "█".repeat(done),
                "·".repeat(30 - done)
            ));
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

#[derive(clap::Args)]
pub(crate) struct UpgradeArgs {
    /// The binary to start [default: the one at the place of the running gateway's]
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
    /// How long to wait for calls that ring; new calls get 503 meanwhile, and what rings then ends
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration)]
    wait: Duration,
}

/// Has the running gateway give its place to another process.
///
/// # Errors
/// As `ApiClient::get`.
pub(crate) fn upgrade(reach: &ApiAddress, args: &UpgradeArgs) -> anyhow::Result<ExitCode> {
    let path = reach.control_path()?;
    let stream = UnixStream::connect(&path).map_err(|e| not_there(&path, &e))?;
    let link = Link::new(stream)?;
    // The process that is asked may have another working directory.
    let binary = args.binary.as_deref().map(std::path::absolute).transpose()?;
    link.say(&LinkMessage::Upgrade { binary, wait_ms: args.wait.as_millis() as u64 })?;
    match link.receive(args.wait + UPGRADED).map(|delivery| delivery.message) {
        Ok(LinkMessage::Upgraded { version, pid, calls }) => {
            print::line(&format!(
                "upgraded: version {version}, process {pid}, {calls} calls continue"
            ));
            Ok(ExitCode::SUCCESS)
        }
        Ok(LinkMessage::Refused { why }) => Err(anyhow!("not upgraded, calls continue: {why}")),
        Ok(other) => Err(anyhow!("the gateway says {other}, which is not expected")),
        Err(e) => Err(anyhow!("the gateway has not said what came of it: {e}")),
    }
}

/// Has the configuration read again.
///
/// # Errors
/// As `ApiClient::get`.
pub(crate) async fn reload(client: &ApiClient) -> anyhow::Result<ExitCode> {
    let changes = client.call(Method::POST, "/reload", None).await?;
    let list = |key: &str| {
        changes[key]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|v| v.as_str())
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let (changed, restart) = (list("changed"), list("needs_restart"));
    if let Some(warnings) = changes["warnings"].as_str().filter(|w| !w.is_empty()) {
        print::note(warnings.trim_end());
    }
    match changed.as_slice() {
        [] if restart.is_empty() => print::line("reloaded: nothing has changed"),
        [] => {}
        all => print::line(&format!("reloaded: {}", all.join(", "))),
    }
    if !restart.is_empty() {
        print::line(&format!("unchanged until a restart: {}", restart.join(", ")));
    }
    Ok(ExitCode::SUCCESS)
}

/// Exits with 0 if the gateway accepts calls.
///
/// # Errors
/// As `ApiClient::get`.
pub(crate) async fn readyz(client: &ApiClient) -> anyhow::Result<ExitCode> {
    let status = client.get("/status").await?;
    let draining = status["draining"] == true;
    print::line(match (draining, status["overloaded"].is_string()) {
        (true, _) => "draining",
        (false, true) => "overloaded",
        (false, false) => "ok",
    });
    print::line(&format!("calls left: {}", status["calls_left"]));
    Ok(if draining { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

#[derive(clap::Args)]
pub(crate) struct TokenArgs {
    /// The user; with --context, any name
    user: String,
    /// How long the credentials are valid
    #[arg(long, default_value = "10m")]
    ttl: String,
    /// The dialplan of a visitor who is not a user of the configuration
    #[arg(long)]
    context: Option<String>,
}

/// Credentials for a browser.
///
/// # Errors
/// As `ApiClient::get`.
pub(crate) async fn token(client: &ApiClient, args: &TokenArgs) -> anyhow::Result<ExitCode> {
    let mut wanted = serde_json::json!({ "user": args.user, "ttl": args.ttl });
    if let Some(context) = &args.context {
        wanted["context"] = context.clone().into();
    }
    print::object(&client.call(Method::POST, "/credentials", Some(&wanted)).await?);
    Ok(ExitCode::SUCCESS)
}
