//! The command line, and nothing else.

#![forbid(unsafe_code)]
// What is printed is made safe in `cli::print`.
#![warn(clippy::print_stdout, clippy::print_stderr)]

mod cli;

use anyhow::anyhow;
use clap::{CommandFactory, Parser};
use cli::client::{ApiAddress, ApiClient, ApiRefusal, NotReachable};
use cli::command::{Command, DialplanCommand};
use cli::signals::{HeldSignals, Signals, Wish};
use cli::{
    call, dialplan, doctor, guard, local, log, look, peers, print, records, signals, steer, trace,
    users,
};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use webtrunk::config::{self, Config, Problems};
use webtrunk::errors::Code;
use webtrunk::gateway::Gauges;
use webtrunk::handover::sockets::Sockets;
use webtrunk::log_queue;
use webtrunk::node::demo::{Demo, Options};
use webtrunk::node::{Control, CoreEnd, Node, Origin, Predecessor, Successor};
use webtrunk::supervisor;

/// Some 8 % less CPU a call than with the system's, and it gives back what a burst of calls took.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const EXIT_CONFIG: u8 = 3;
const EXIT_NOT_REACHABLE: u8 = 4;

/// A SIP-to-WebRTC gateway: browsers place and receive telephone calls.
///
/// Browsers register with it by SIP over WebSocket, and it bridges their calls to SIP trunks.
#[derive(Parser)]
#[command(
    version,
    after_help = "Examples:\n  webtrunk demo                          a phone in the browser, no configuration\n  \
                                 webtrunk check-config -c webtrunk.toml every mistake, with its line and its fix"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    reach: ApiAddress,
    /// Log lines: "text", "json", or "auto" (text on a terminal)
    #[arg(
        long,
        global = true,
        default_value = "auto",
        env = "WEBTRUNK_LOG",
        value_parser = ["text", "json", "auto"],
        hide_possible_values = true
    )]
    log: String,
    /// What to log, such as "info" or "info,webtrunk=debug"
    #[arg(
        long,
        global = true,
        default_value = "info",
        env = "WEBTRUNK_LOG_LEVEL",
        value_parser = log::level
    )]
    log_level: String,
}

fn main() -> ExitCode {
    let held = signals::hold();
    let cli = Cli::parse();
    let serves = matches!(cli.command, Command::Serve { .. } | Command::Demo { .. });
    // Before there is another thread.
    let sockets = match cli.command {
        Command::Serve { .. } => supervisor::kept(),
        _ => Sockets::default(),
    };
    log::start(&cli.log, &cli.log_level, serves);
    let code = match run(cli.command, &cli.reach, (held, sockets)) {
        Ok(code) => code,
        Err(e) => {
            print::note(&format!("webtrunk: {e:#}"));
            match e.downcast_ref::<NotReachable>() {
                Some(_) => ExitCode::from(EXIT_NOT_REACHABLE),
                None if e
                    .downcast_ref::<ApiRefusal>()
                    .is_some_and(|r| r.status == hyper::StatusCode::UNPROCESSABLE_ENTITY) =>
                {
                    ExitCode::from(EXIT_CONFIG)
                }
                None => ExitCode::FAILURE,
            }
        }
    };
    log_queue::flush();
    code
}

/// Runs a command; one that serves takes the signals and the sockets that were held for it.
fn run(
    command: Command,
    reach: &ApiAddress,
    (held, sockets): (HeldSignals, Sockets),
) -> anyhow::Result<ExitCode> {
    match command {
        Command::Serve { config, take_over } => {
            start(config, take_over.as_deref(), reach, (held, sockets))
        }
        Command::Demo { port, listen, ip, cdr } => {
            let control = reach.control.clone();
            let options = Options { listen, port, ip, cdr_file: cdr, control };
            runtime()?.block_on(demo(options, held))
        }
        Command::Guard => runtime()?.block_on(guard::guard(held)),
        other => {
            held.release();
            run_once(other, reach)
        }
    }
}

/// Runs a command that does not serve.
fn run_once(command: Command, reach: &ApiAddress) -> anyhow::Result<ExitCode> {
    match command {
        Command::Upgrade(args) => steer::upgrade(reach, &args),
        Command::CheckConfig { config, online, stun } => Ok(match load_counting(&config) {
            Ok((c, warnings)) => {
                let routes: usize = c.plan.written().map(|x| x.routes.len()).sum();
                let (users, trunks, contexts) =
                    (c.users.len(), c.trunks.len(), c.plan.written().count());
                let judged = match warnings {
                    0 => "fine".to_owned(),
                    n => format!("usable, with {}", counted(n, "warning")),
                };
                print::line(&format!(
                    "{}: {judged}. {}, {}, {} with {}",
                    config.display(),
                    counted(users, "user"),
                    counted(trunks, "trunk"),
                    counted(contexts, "dialplan"),
                    counted(routes, "route")
                ));
                if online {
                    examine((&config, &c), reach, stun.as_deref())?
                } else {
                    ExitCode::SUCCESS
                }
            }
            Err(_) => ExitCode::from(EXIT_CONFIG),
        }),
        Command::Dialplan(DialplanCommand::Test { number, caller, at, config }) => {
            match load(&config) {
                Some(config) => dialplan::test(&config, &number, caller.as_deref(), at.as_deref()),
                None => Ok(ExitCode::from(EXIT_CONFIG)),
            }
        }
        Command::Bench(args) => {
            runtime()?.block_on(tokio::task::LocalSet::new().run_until(call::bench::bench(&args)))
        }
        Command::Ports { args, config } => {
            Ok(load(&config).map_or(ExitCode::from(EXIT_CONFIG), |c| local::ports(&c, &args)))
        }
        Command::Doctor { config: file, stun } => match load(&file) {
            Some(config) => examine((&file, &config), reach, stun.as_deref()),
            None => Ok(ExitCode::from(EXIT_CONFIG)),
        },
        Command::Init(args) => peers::init(&args),
        Command::User(args) => runtime()?.block_on(users::user(&args, reach)),
        Command::ApiToken { name, scope } => local::api_token(&name, &scope),
        Command::Explain { code, output } => local::explain(code.as_deref(), output),
        Command::Openapi => {
            print::object(&webtrunk::api::openapi::generate());
            Ok(ExitCode::SUCCESS)
        }
        Command::Schema { name, output } => local::schema(name.as_deref(), output),
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "webtrunk", &mut text);
            print::line(String::from_utf8_lossy(&text).trim_end());
            Ok(ExitCode::SUCCESS)
        }
        Command::Man { dir } => manual(dir.as_deref()),
        other => runtime()?.block_on(ask(other, &ApiClient::new(reach))),
    }
}

/// The manual page; those of the commands it names are written beside it.
fn manual(dir: Option<&std::path::Path>) -> anyhow::Result<ExitCode> {
    if let Some(dir) = dir {
        std::fs::create_dir_all(dir)?;
        clap_mangen::generate_to(Cli::command(), dir)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = Vec::new();
    clap_mangen::Man::new(Cli::command()).render(&mut text)?;
    print::line(String::from_utf8_lossy(&text).trim_end());
    Ok(ExitCode::SUCCESS)
}

fn examine(
    config: (&Path, &Config),
    reach: &ApiAddress,
    stun: Option<&str>,
) -> anyhow::Result<ExitCode> {
    runtime()?.block_on(async {
        let running = ApiClient::new(reach).get("/status").await.is_ok();
        Ok(doctor::doctor(config, running, stun).await)
    })
}

/// Commands for a running gateway.
async fn ask(command: Command, client: &ApiClient) -> anyhow::Result<ExitCode> {
    match command {
        Command::Call(args) => call::call(client, &args).await,
        Command::Calls(args) => look::calls(client, &args).await,
        #[cfg(feature = "top")]
        Command::Top => cli::top::top(client).await,
        #[cfg(not(feature = "top"))]
        Command::Top => anyhow::bail!("this build has no `top`: build it with `--features top`"),
        Command::Trace(args) => trace::trace(client, &args).await,
        Command::Registrations { node, output } => {
            look::registrations(client, node.as_ref(), output).await
        }
        Command::Nodes { output } => look::nodes(client, output).await,
        Command::Trunks { what, node, output } => {
            look::trunks(client, what.as_ref(), node.as_ref(), output).await
        }
        Command::Events(args) => look::events(client, &args).await,
        Command::Logs { call } => look::logs(client, &call).await,
        Command::Cdr(args) => records::cdr(client, &args).await,
        Command::Kick(args) => steer::kick(client, &args).await,
        Command::Drain(args) => steer::drain(client, &args).await,
        Command::Reload => steer::reload(client).await,
        Command::Readyz => steer::readyz(client).await,
        Command::Token(args) => steer::token(client, &args).await,
        _ => Err(anyhow!("this command needs no gateway")),
    }
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    // Signalling needs a fraction of what media does. One thread wakes nobody else for its work,
    // which on a small machine is worth a tenth of a call's cost; a large one shares the
    // connections' TLS out.
    let mut builder = match cores / 4 {
        0 | 1 => tokio::runtime::Builder::new_current_thread(),
        threads => {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            builder.worker_threads(threads);
            builder
        }
    };
    // Sockets are looked at after so many turns of tasks, though some have always something to do.
    Ok(builder.event_interval(16).enable_all().build()?)
}

/// `1 user`, `2 users`.
fn counted(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

fn load(path: &std::path::Path) -> Option<Config> {
    load_counting(path).ok().map(|(config, _)| config)
}

/// The configuration, and how many warnings were printed of it; or the mistakes that were.
fn load_counting(path: &std::path::Path) -> Result<(Config, usize), Problems> {
    match config::load(path) {
        Ok((config, warnings)) => {
            print::problems(&warnings);
            Ok((config, warnings.0.len()))
        }
        Err(problems) => {
            print::problems(&problems);
            Err(problems)
        }
    }
}

/// Reads the configuration and serves, in the place of another process if one is named.
fn start(
    config: PathBuf,
    take_over: Option<&std::path::Path>,
    reach: &ApiAddress,
    (held, sockets): (HeldSignals, Sockets),
) -> anyhow::Result<ExitCode> {
    let runtime = runtime()?;
    let signals = {
        let _inside = runtime.enter();
        Signals::receive(held)?
    };
    let predecessor = take_over.map(Predecessor::meet).transpose()?;
    match load_counting(&config) {
        Ok((checked, _)) => {
            let before = (predecessor, sockets);
            let served = runtime.block_on(serve(checked, config, before, (reach, signals)));
            // A disk that hangs has a thread for ever.
            runtime.shutdown_timeout(LAST);
            served
        }
        Err(problems) => {
            predecessor.iter().for_each(|p| p.refuse(&problems.to_string()));
            Ok(ExitCode::from(EXIT_CONFIG))
        }
    }
}

async fn serve(
    config: Config,
    file: PathBuf,
    before: (Option<Predecessor>, Sockets),
    (reach, mut signals): (&ApiAddress, Signals),
) -> anyhow::Result<ExitCode> {
    let drain_timeout = config.drain_timeout;
    let control = Control::Wanted(reach.control.clone());
    let (predecessor, sockets) = before;
    let alone = predecessor.is_none();
    let origin = Origin { file: Some(file), control, predecessor, sockets };
    let node = tokio::select! {
        node = Node::start_from(config, origin) => node?,
        // Nothing has begun. Who takes another's place has its calls, and drains first.
        () = signals.stop(), if alone => {
            tracing::info!("stopped before it served");
            return Ok(ExitCode::SUCCESS);
        }
    };
    let named =
        |kind: &str, at: Option<std::net::SocketAddr>| at.map(|at| format!(", SIP on {kind} {at}"));
    let sip = [named("udp", node.udp), named("tcp", node.tcp), named("tls", node.tls)];
    tracing::info!(
        "webtrunk {} serves the page and /sip on {}{}",
        env!("CARGO_PKG_VERSION"),
        node.web,
        sip.into_iter().flatten().collect::<String>()
    );
    supervisor::tell("READY=1");
    node.keep_sockets();
    until_stopped(node, drain_timeout, signals).await
}

async fn demo(options: Options, held: HeldSignals) -> anyhow::Result<ExitCode> {
    let signals = Signals::receive(held)?;
    let demo = Demo::start(&options).await?;
    let shown = if options.listen == "127.0.0.1" {
        "this machine only"
    } else {
        "reachable from the network: anybody there can use it"
    };
    let port = demo.phone.web.port();
    print::note(&format!(
        "\n  webtrunk {}   demo mode: {shown}, nothing is saved: a restart ends calls\n\n  \
         ➜  Phone page   http://localhost:{port}\n  \
         ➜  Dial 9196    hear yourself (echo)\n          \
         9195    hear yourself 5 s later        9197   1 kHz tone\n          \
         9198    a tune                         9101   a second page: open it twice and ring each other\n          \
         +1 206 555 0123, or any number         out over a real SIP trunk on this machine, and back\n\n  \
         Ctrl+C stops it.\n",
        env!("CARGO_PKG_VERSION")
    ));
    let code = until_stopped(demo.phone, Duration::from_secs(2), signals).await;
    demo.far_end.stop().await;
    code
}

/// What a supervisor sees of a process that ended because of a bug (sysexits.h, EX_SOFTWARE).
const SOFTWARE: u8 = 70;
/// How long the end waits for what is still read or looked up.
const LAST: Duration = Duration::from_secs(1);

/// Ends the process at once: nothing in it can be relied on any more.
fn exit_on_hang(thread: &str) {
    tracing::error!(code = %Code::STANDS_STILL, "{thread} hangs; the process exits");
    log_queue::flush();
    std::process::exit(SOFTWARE.into());
}

/// Another process has the calls: this one ends, or stays as its parent if somebody waits for it.
async fn handed_over(node: Node) -> anyhow::Result<ExitCode> {
    // From a process that systemd knows, before the other says that it is ready.
    let tell = |successor: &Successor| supervisor::tell(&format!("MAINPID={}", successor.pid));
    match node.leave(tell).await {
        Ok(successor) => {
            tracing::info!("upgraded: process {} serves", successor.pid);
            Ok(guard::stay(&successor))
        }
        Err(why) => {
            tracing::error!(code = %Code::UPGRADE, "{why}; the process ends");
            Ok(ExitCode::from(SOFTWARE))
        }
    }
}

/// Serves until a signal, then drains: calls finish, until a second signal or the deadline.
async fn until_stopped(
    mut node: Node,
    drain_timeout: Duration,
    mut signals: Signals,
) -> anyhow::Result<ExitCode> {
    let watchdog = node.watch(supervisor::tell_alive, exit_on_hang)?;
    loop {
        tokio::select! {
            end = node.core_ended() => {
                if end == Some(CoreEnd::HandedOver) {
                    drop(watchdog);
                    return handed_over(node).await;
                }
                tracing::error!(code = %Code::CORE_DIED, "the core died; the process ends");
                return Ok(ExitCode::from(SOFTWARE));
            }
            wish = signals.next() => match wish {
                Wish::Stop => break,
                Wish::Reload => match node.reload().await {
                    Ok(_) => {}
                    Err(why) => tracing::warn!("not reloaded, the old configuration stays \
                        active:\n{why}"),
                },
                Wish::Nothing => tracing::info!("SIGUSR1 and SIGUSR2 mean nothing here: SIGHUP \
                    reads the configuration and opens the files of records again"),
            }
        }
    }
    supervisor::tell("STOPPING=1");
    node.drain().await;
    tokio::select! {
        () = node.until(|g: &Gauges| g.draining && g.calls == 0) => {}
        () = signals.stop() => {}
        () = tokio::time::sleep(drain_timeout) => {}
    }
    node.hang_up_all().await;
    // Time for the BYEs to be answered, or at least sent.
    let _ =
        tokio::time::timeout(Duration::from_secs(3), node.until(|g: &Gauges| g.calls == 0)).await;
    // The core stops, and waits until all records are on disk.
    drop(watchdog);
    node.stop().await;
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}
