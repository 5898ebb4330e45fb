//! The command line, and nothing else.

use anyhow::anyhow;
use clap::{Parser, Subcommand};
use std::io::IsTerminal;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use webtrunk::config::{self, Config};
use webtrunk::dialplan::Attempt;
use webtrunk::gateway::Gauges;
use webtrunk::node::Node;
use webtrunk::node::demo::{Demo, Options};

const EXIT_CONFIG: u8 = 3;

/// A SIP-to-WebRTC gateway: a web page can telephone.
///
/// Browsers speak SIP over WebSocket to it and register; it bridges their calls to SIP trunks.
#[derive(Parser)]
#[command(version, after_help = "Examples:\n  webtrunk demo                          a phone in the browser, no configuration\n  \
                                 webtrunk check-config -c webtrunk.toml every mistake, with its place and its fix")]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Log lines: "text", "json", or "auto" (text on a terminal)
    #[arg(long, global = true, default_value = "auto", env = "WEBTRUNK_LOG")]
    log: String,
    /// What to log, such as "info" or "info,webtrunk=debug"
    #[arg(long, global = true, default_value = "info", env = "WEBTRUNK_LOG_LEVEL")]
    log_level: String,
}

#[derive(Subcommand)]
enum Command {
    /// Run the gateway
    #[command(after_help = "Examples:\n  webtrunk serve -c /etc/webtrunk/webtrunk.toml\n  webtrunk serve --log json\n\n\
        SIGTERM drains: new calls get 503 with Retry-After, calls in progress finish; a second\nsignal, or server.drain_timeout, ends them with BYE.")]
    Serve {
        /// The configuration; dialplans are read from the folder `dialplans` beside it
        #[arg(short, long, default_value = "webtrunk.toml", env = "WEBTRUNK_CONFIG")]
        config: PathBuf,
    },
    /// A phone in the browser with no configuration: echo, tones, and a real trunk on this machine
    #[command(after_help = "Examples:\n  webtrunk demo\n  webtrunk demo --port 9000 --ip 192.168.1.5")]
    Demo {
        /// Port of the page (TCP) and of the browsers' media (UDP)
        #[arg(long, default_value_t = 8088)]
        port: u16,
        /// Address the page listens on; in a container 0.0.0.0
        #[arg(long, default_value = "127.0.0.1")]
        listen: String,
        /// A further address to offer to browsers, such as this machine's in the local network
        #[arg(long)]
        ip: Option<IpAddr>,
        /// Write call records to this file
        #[arg(long)]
        cdr: Option<PathBuf>,
    },
    /// Check the configuration and every dialplan; touches no port
    #[command(after_help = "Examples:\n  webtrunk check-config\n  webtrunk check-config -c /etc/webtrunk/webtrunk.toml && systemctl restart webtrunk")]
    CheckConfig {
        #[arg(short, long, default_value = "webtrunk.toml", env = "WEBTRUNK_CONFIG")]
        config: PathBuf,
    },
    /// Ask the dialplan what it would do
    #[command(subcommand)]
    Dialplan(Dialplan),
}

#[derive(Subcommand)]
enum Dialplan {
    /// Show every route considered for a number, and why
    #[command(after_help = "Examples:\n  webtrunk dialplan test \"(206) 555-0123\" --as user:alice\n  webtrunk dialplan test +12065550111 --as trunk:telnyx -c webtrunk.toml")]
    Test {
        /// The number as dialled
        number: String,
        /// Who calls: user:NAME or trunk:NAME; the first user where left out
        #[arg(long = "as")]
        caller: Option<String>,
        #[arg(short, long, default_value = "webtrunk.toml", env = "WEBTRUNK_CONFIG")]
        config: PathBuf,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    log_to(&cli.log, &cli.log_level);
    match run(cli.command) {
        Ok(code) => code,
        Err(e) => {
            eprintln!("webtrunk: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn log_to(format: &str, level: &str) {
    let filter = tracing_subscriber::EnvFilter::try_new(level).unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    // The crates below us speak of their own matters; only their warnings are ours to show.
    let quiet = ["rtc_dtls=error", "rtc_rtcp=error", "rtc_sdp=error"];
    let filter = quiet.iter().filter_map(|d| d.parse().ok()).fold(filter, tracing_subscriber::EnvFilter::add_directive);
    let terminal = std::io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false).with_ansi(terminal);
    if format == "json" || (format == "auto" && !terminal) {
        builder.json().flatten_event(true).init();
    } else {
        builder.init();
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Serve { config } => match load(&config) {
            Some(config) => runtime()?.block_on(serve(config)),
            None => Ok(ExitCode::from(EXIT_CONFIG)),
        },
        Command::Demo { port, listen, ip, cdr } => runtime()?.block_on(demo(Options { listen, port, ip, cdr_file: cdr })),
        Command::CheckConfig { config } => Ok(match load(&config) {
            Some(c) => {
                let routes: usize = c.plan.contexts.iter().map(|x| x.routes.len()).sum();
                let (users, trunks, contexts) = (c.users.len(), c.trunks.len(), c.plan.contexts.len());
                println!("{}: fine. {users} users, {trunks} trunks, {contexts} dialplans with {routes} routes", config.display());
                ExitCode::SUCCESS
            }
            None => ExitCode::from(EXIT_CONFIG),
        }),
        Command::Dialplan(Dialplan::Test { number, caller, config }) => match load(&config) {
            Some(config) => dialplan_test(&config, &number, caller.as_deref()),
            None => Ok(ExitCode::from(EXIT_CONFIG)),
        },
    }
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    // Signalling needs a fraction of what media does. One thread wakes nobody else for its work, which on a
    // small machine is worth a tenth of a call's cost; a large one shares the connections' TLS out.
    let mut builder = match cores / 4 {
        0 | 1 => tokio::runtime::Builder::new_current_thread(),
        threads => {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            builder.worker_threads(threads);
            builder
        }
    };
    Ok(builder.enable_all().build()?)
}

fn load(path: &std::path::Path) -> Option<Config> {
    match config::load(path) {
        Ok((config, warnings)) => {
            eprint!("{warnings}");
            Some(config)
        }
        Err(problems) => {
            eprint!("{problems}");
            None
        }
    }
}

async fn serve(config: Config) -> anyhow::Result<ExitCode> {
    let drain_timeout = config.drain_timeout;
    let node = Node::start(config).await?;
    let sip = [node.udp.map(|a| format!("udp {a}")), node.tcp.map(|a| format!("tcp {a}"))];
    let sip: Vec<String> = sip.into_iter().flatten().collect();
    tracing::info!("webtrunk {} serves the page and /sip on {}, SIP on {}", env!("CARGO_PKG_VERSION"), node.web, sip.join(", "));
    until_stopped(node, drain_timeout).await
}

async fn demo(options: Options) -> anyhow::Result<ExitCode> {
    let demo = Demo::start(&options).await?;
    let shown = if options.listen == "127.0.0.1" { "this machine only" } else { "reachable from the network: everybody there can use it" };
    let port = demo.phone.web.port();
    eprintln!(
        "\n  webtrunk {}   demo mode: {shown}, nothing is saved\n\n  \
         ➜  Phone page   http://localhost:{port}\n  \
         ➜  Dial 9196    hear yourself (echo)\n          \
         9195    hear yourself 5 s later        9197   1 kHz tone\n          \
         9198    a tune                         9101   a second page: open it twice and ring each other\n          \
         +1 206 555 0123, or any number         out over a real SIP trunk on this machine, and back\n\n  \
         Ctrl+C stops it.\n",
        env!("CARGO_PKG_VERSION")
    );
    let code = until_stopped(demo.phone, Duration::from_secs(2)).await;
    demo.far_end.stop().await;
    code
}

/// Serves until a signal, then drains: calls finish, until a second signal or the deadline.
async fn until_stopped(mut node: Node, drain_timeout: Duration) -> anyhow::Result<ExitCode> {
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
    node.drain().await;
    tokio::select! {
        () = node.until(|g: &Gauges| g.draining && g.calls == 0) => {}
        _ = term.recv() => {}
        _ = int.recv() => {}
        () = tokio::time::sleep(drain_timeout) => {}
    }
    node.hang_up_all().await;
    // Time for the BYEs to be answered, or at least sent.
    let _ = tokio::time::timeout(Duration::from_secs(3), node.until(|g: &Gauges| g.calls == 0)).await;
    node.stop().await;
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

fn dialplan_test(config: &Config, number: &str, caller: Option<&str>) -> anyhow::Result<ExitCode> {
    let first = config.users.keys().next().map(|u| format!("user:{u}"));
    let caller = caller.map(str::to_owned).or(first).ok_or_else(|| anyhow!("there is no user; say who calls with --as trunk:NAME"))?;
    let (context, did) = match caller.split_once(':') {
        Some(("user", name)) => {
            let user = config.users.get(name).ok_or_else(|| anyhow!("there is no [user.{name}]"))?;
            (user.context.clone(), user.did.clone())
        }
        Some(("trunk", name)) => {
            let trunk = config.trunks.get(name).ok_or_else(|| anyhow!("there is no [trunk.{name}]"))?;
            (trunk.context.clone().ok_or_else(|| anyhow!("trunk {name} has no context: its calls are refused with 403"))?, None)
        }
        _ => return Err(anyhow!("--as takes user:NAME or trunk:NAME")),
    };
    let verdict = config.plan.route(&Attempt { context: &context, dialled: number });
    let verdict = verdict.ok_or_else(|| anyhow!("there is no dialplans/{context}.toml"))?;
    println!("dialled   {number}\nnumber    {}\ncaller    {caller}\ncontext   {context}\n", verdict.number);
    for considered in &verdict.trace {
        match &considered.why_not {
            Some(why) => println!("  ✗ {:<18} {:<16} {why}", considered.route, considered.pattern),
            None => println!("  ✓ {:<18} {}", considered.route, considered.pattern),
        }
    }
    let Some(route) = verdict.route else {
        println!("\nno route: the caller gets 404");
        return Ok(ExitCode::FAILURE);
    };
    for (n, step) in route.steps.iter().enumerate() {
        println!("      {}. {step}", n + 1);
    }
    let shown = route.caller_id.as_deref().unwrap_or("{user.did}").replace("{user.did}", did.as_deref().unwrap_or("anonymous"));
    println!("\ncaller id {shown}");
    Ok(ExitCode::SUCCESS)
}
