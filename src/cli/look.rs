//! Commands that look at a running gateway: calls, trunks, registrations, traces, events.

use super::client::{ApiClient, escape, given};
use super::print::{self, Column, OutputFormat, clock, text};
use serde_json::Value;
use std::process::ExitCode;
use std::time::Duration;

fn share(item: &Value, key: &str) -> String {
    item[key].as_f64().map_or("-".to_owned(), |s| format!("{:.0} %", s * 100.0))
}

/// Who calls: a user by its name, anybody else by number; and how that is called.
pub(crate) fn caller(call: &Value) -> String {
    let (number, name) = (text(call, "from_number"), text(call, "from_name"));
    let from = text(call, "from");
    let known = if from.starts_with("trunk:") && number != "-" { number } else { from };
    if name == "-" || name == known { known } else { format!("{known} {name}") }
}

/// When it began, UTC: the time of day, and the date if that is not today.
pub(crate) fn began(start: &str, today: &str) -> String {
    match start.split_once('T') {
        Some((date, time)) if date == today => time.chars().take(8).collect(),
        Some((date, time)) => {
            format!("{} {}", date.get(5..).unwrap_or(date), time.get(..5).unwrap_or(time))
        }
        None => start.to_owned(),
    }
}

/// Today's date, UTC, as records begin with it.
pub(crate) fn today() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%d").to_string()
}

/// What a call does, or how it ended.
pub(crate) fn state(call: &Value) -> String {
    match call["outcome"].as_str() {
        Some("success") => "ended".to_owned(),
        Some(outcome) => outcome.replace('_', " "),
        None => text(call, "state"),
    }
}

/// The trunk or user the call came from or went to: its other end, as the gateway sees it.
pub(crate) fn with(call: &Value) -> String {
    let (from, by) = (text(call, "from"), text(call, "with"));
    match (from.starts_with("trunk:"), by.strip_prefix("user:").unwrap_or(&by)) {
        (true, "-") => from,
        (true, by) => format!("{from} → {by}"),
        (false, _) => by,
    }
}

/// The code and the sentence of a fault.
pub(crate) fn happened(call: &Value) -> String {
    match (call["code"].as_str(), call["verdict"].as_str()) {
        (Some(code), Some(verdict)) => format!("{code} {}", print::printable(verdict)),
        (None, Some(_)) => "fine".to_owned(),
        _ => String::new(),
    }
}

/// The columns of a list of calls; those that may be omitted are the last to be missed.
fn call_columns() -> Vec<Column> {
    let today = today();
    vec![
        Column::new("CALL", |c| text(c, "call")),
        Column::new("START UTC", move |c| began(&text(c, "start"), &today)),
        Column::new("FROM", caller).cut_to(15),
        Column::new("TO", |c| text(c, "to")).cut_to(12),
        Column::new("WITH", with).optional(2),
        Column::new("STATE", state),
        Column::new("TIME", |c| {
            clock(c["talked_s"].as_u64().or(c["seconds"].as_u64()).unwrap_or(0))
        }),
        Column::new("CODECS", |c| {
            c["codecs"].as_array().filter(|a| !a.is_empty()).map_or("-".into(), |a| {
                a.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" ↔ ")
            })
        })
        .optional(1),
        Column::new("MOS", |c| text(c, "mos_estimated")).optional(3),
        Column::new("WHAT HAPPENED", happened).cut_to(13),
    ]
}

/// What lists of calls and records are asked for by.
#[derive(clap::Args, Default)]
pub(crate) struct Filter {
    /// Began at this time or later: 2h (ago), 09:30 (UTC), 2026-11-20, 2026-11-20T09:30:00Z
    #[arg(long, visible_alias = "from", value_name = "TIME")]
    since: Option<String>,
    /// Began before this time
    #[arg(long, visible_alias = "to", value_name = "TIME")]
    until: Option<String>,
    /// Part of the caller's or the callee's number, however it is written
    #[arg(long)]
    number: Option<String>,
    /// Part of the caller's or a user's name
    #[arg(long)]
    name: Option<String>,
    /// Made, taken or missed by this user
    #[arg(long)]
    user: Option<String>,
    /// From this trunk, or tried over it
    #[arg(long)]
    trunk: Option<String>,
    /// How they ended
    #[arg(long, value_parser = webtrunk::cdr::search::OUTCOMES)]
    outcome: Option<String>,
    /// The code of what went wrong, such as WT-1310
    #[arg(long, value_name = "WT-NNNN")]
    code: Option<String>,
    /// Their worst estimated opinion score is below this, such as 3.6
    #[arg(long, value_name = "MOS")]
    mos_below: Option<String>,
}

impl Filter {
    /// As they follow a path and its first parameter.
    pub(super) fn query(&self) -> String {
        given(&[
            ("since", &self.since),
            ("until", &self.until),
            ("number", &self.number),
            ("name", &self.name),
            ("user", &self.user),
            ("trunk", &self.trunk),
            ("outcome", &self.outcome),
            ("code", &self.code),
            ("mos_below", &self.mos_below),
        ])
    }

    /// Whether only a call that has ended can fit.
    pub(super) fn wants_an_end(&self) -> bool {
        self.outcome.is_some() || self.code.is_some()
    }
}

#[derive(clap::Args)]
pub(crate) struct Calls {
    /// Also list ended calls; implied by --outcome and --code
    #[arg(long, short)]
    all: bool,
    #[command(flatten)]
    filter: Filter,
    /// List the newest only, at most this many [default: all]
    #[arg(long, short = 'n', value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// Of this node of the cluster, or of "all" [default: the gateway that is asked]
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// Refresh the list every second
    #[arg(long, short)]
    watch: bool,
    #[arg(long, short, value_enum, default_value_t)]
    output: OutputFormat,
}

/// A list of a node of the cluster, or of all.
fn of_node(path: &str, node: Option<&String>) -> String {
    let query = given(&[("node", &node.cloned())]);
    format!("{path}{}", query.replacen('&', "?", 1))
}

/// Which node an entry of a list of all nodes is of.
fn node_column(node: Option<&String>) -> Option<Column> {
    node.is_some_and(|node| node == "all").then(|| Column::new("NODE", |entry| text(entry, "node")))
}

const NO_CALL: &str = "no active call fits; `webtrunk calls --all` also lists ended ones";
const NO_CALL_AT_ALL: &str = "no call that is remembered fits; `webtrunk cdr tail` has the records";

/// Lists calls.
///
/// # Errors
/// As `ApiClient::get`.
pub(crate) async fn calls(client: &ApiClient, args: &Calls) -> anyhow::Result<ExitCode> {
    let all = args.all || args.filter.wants_an_end();
    let (state, empty) = if all { ("all", NO_CALL_AT_ALL) } else { ("live", NO_CALL) };
    let limit = args.limit.map(|n| n as usize);
    loop {
        // What scrolls away cannot be watched.
        let most = match print::terminal() {
            Some((_, rows)) if args.watch => Some(limit.unwrap_or(usize::MAX).min(rows.max(4) - 3)),
            _ => limit,
        };
        let page = most.unwrap_or(1_000).clamp(1, 1_000);
        let node = given(&[("node", &args.node)]);
        let query = format!("/calls?limit={page}&state={state}{node}{}", args.filter.query());
        let mut calls = Vec::new();
        let cut = client
            .pages(&query, most, |page| match args.output {
                OutputFormat::Jsonl => page.iter().for_each(|call| print::line(&call.to_string())),
                OutputFormat::Json | OutputFormat::Table => calls.extend(page),
            })
            .await?;
        if args.watch {
            print::clear();
        }
        if args.output != OutputFormat::Jsonl {
            let mut columns = call_columns();
            columns.extend(node_column(args.node.as_ref()));
            print::list(&Value::Array(calls), args.output, &columns, empty);
        }
        if cut {
            print::note(&print::cut(most));
        }
        if !args.watch {
            return Ok(ExitCode::SUCCESS);
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Lists who is registered.
///
/// # Errors
/// As `ApiClient::get`.
pub(crate) async fn registrations(
    client: &ApiClient,
    node: Option<&String>,
    output: OutputFormat,
) -> anyhow::Result<ExitCode> {
    let mut columns = vec![
        Column::new("USER", |r| text(r, "user")),
        Column::new("REMOTE", |r| text(r, "remote")),
        Column::new("EXPIRES", |r| r["expires_s"].as_u64().map_or("-".into(), clock)),
        Column::new("Q", |r| text(r, "q")),
        Column::new("USER AGENT", |r| text(r, "user_agent")).cut_to(12),
        Column::new("INSTANCE", |r| text(r, "instance")).optional(1),
        Column::new("CONTACT", |r| text(r, "contact")).cut_to(20),
    ];
    columns.extend(node_column(node));
    print::list(
        &client.get(&of_node("/registrations", node)).await?,
        output,
        &columns,
        "nobody is registered; open a page and log in",
    );
    Ok(ExitCode::SUCCESS)
}

/// Lists the nodes of the cluster.
///
/// # Errors
/// As `ApiClient::get`.
pub(crate) async fn nodes(client: &ApiClient, output: OutputFormat) -> anyhow::Result<ExitCode> {
    let yes = |n: &Value, key: &str| if n[key] == true { "yes" } else { "" }.to_owned();
    let columns = [
        Column::new("NODE", |n| text(n, "node")),
        Column::new("STATE", |n| text(n, "state")),
        Column::new("LEASE", |n| {
            n["lease_s"].as_f64().map_or("-".into(), |left| format!("{left:.1} s"))
        }),
        Column::new("CALLS", |n| text(n, "calls")),
        Column::new("LEFT", |n| text(n, "calls_left")),
        Column::new("REGISTRATIONS", |n| text(n, "registrations")),
        Column::new("DRAINING", move |n| yes(n, "draining")),
        Column::new("TOOK", |n| {
            let took = n["took"].as_array().into_iter().flatten();
            took.filter_map(Value::as_str).collect::<Vec<_>>().join(" ")
        }),
        Column::new("CONFIG", |n| {
            if n["config_differs"] == true { "differs" } else { "" }.to_owned()
        }),
        Column::new("THIS", move |n| yes(n, "this")),
        Column::new("VERSION", |n| text(n, "version")).optional(1),
        Column::new("ADDRESS", |n| text(n, "address")).cut_to(20),
    ];
    print::list(
        &client.get("/nodes").await?,
        output,
        &columns,
        "this gateway is alone; [cluster] makes it one of several",
    );
    Ok(ExitCode::SUCCESS)
}

#[derive(clap::Subcommand)]
pub(crate) enum TrunksCommand {
    /// List their state (the default)
    Status,
    /// Send OPTIONS now and wait for the answer
    Probe { name: String },
    /// Stop sending calls to a trunk
    Disable { name: String },
    /// Use a disabled trunk again
    Enable { name: String },
}

fn trunk_columns() -> Vec<Column> {
    vec![
        Column::new("TRUNK", |t| text(t, "trunk")),
        Column::new("STATE", |t| match t["state"].as_str() {
            Some("down") => "DOWN".to_owned(),
            _ => text(t, "state"),
        }),
        Column::new("OPTIONS", |t| {
            t["options_ms"].as_u64().map_or("-".into(), |ms| format!("{ms} ms"))
        }),
        Column::new("CALLS", |t| format!("{}/{}", t["calls"], text(t, "max_calls"))),
        Column::new("ASR", |t| share(t, "asr")),
        Column::new("NER", |t| share(t, "ner")),
        Column::new("PDD p50/p95", |t| {
            match (t["pdd_ms_p50"].as_f64(), t["pdd_ms_p95"].as_f64()) {
                (Some(a), Some(b)) => format!("{:.1} / {:.1} s", a / 1e3, b / 1e3),
                _ => "-".to_owned(),
            }
        })
        .optional(1),
        Column::new("LAST FAILURE", last_failure).cut_to(20),
    ]
}

fn last_failure(trunk: &Value) -> String {
    let last = &trunk["last_call_failure"];
    match (trunk["why_not"].as_str(), last["sip_code"].as_u64()) {
        (Some(why), _) => {
            format!("{} {}", text(trunk, "code"), print::printable(why))
        }
        (None, Some(status)) => {
            format!("{status}, {} ago", clock(last["ago_s"].as_u64().unwrap_or(0)))
        }
        _ => "-".to_owned(),
    }
}

/// Lists trunks.
///
/// # Errors
/// As `ApiClient::get`.
pub(crate) async fn trunks(
    client: &ApiClient,
    what: Option<&TrunksCommand>,
    node: Option<&String>,
    output: OutputFormat,
) -> anyhow::Result<ExitCode> {
    let (name, verb) = match what {
        None | Some(TrunksCommand::Status) => {
            let mut columns = trunk_columns();
            columns.extend(node_column(node));
            print::list(
                &client.get(&of_node("/trunks", node)).await?,
                output,
                &columns,
                "there is no trunk; `webtrunk init --trunk generic` writes an example",
            );
            return Ok(ExitCode::SUCCESS);
        }
        Some(TrunksCommand::Probe { name }) => (name, "probe"),
        Some(TrunksCommand::Disable { name }) => (name, "disable"),
        Some(TrunksCommand::Enable { name }) => (name, "enable"),
    };
    let trunk =
        client.call(hyper::Method::POST, &format!("/trunks/{}/{verb}", escape(name)), None).await?;
    if output != OutputFormat::Table {
        print::object(&trunk);
    } else if verb == "probe" {
        match trunk["answered"].as_bool() {
            Some(true) => {
                print::line(&format!("{name} answered OPTIONS in {} ms", trunk["options_ms"]))
            }
            _ => print::line(&format!(
                "{name} did not answer: {}",
                trunk["last_failure"]
                    .as_str()
                    .unwrap_or("no answer within 4 s; is its port reachable from this machine?")
            )),
        }
    } else {
        print::line(&format!("{name} is {}", text(&trunk, "state")));
    }
    Ok(if verb == "probe" && trunk["answered"] != true {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

#[derive(clap::Args)]
pub(crate) struct EventsArgs {
    /// Only these kinds, separated by commas; `call.*` is every kind about calls
    #[arg(long = "type")]
    types: Option<String>,
    /// Only events of this call
    #[arg(long)]
    call: Option<String>,
}

/// Prints events as they come.
///
/// # Errors
/// As `ApiClient::get`.
pub(crate) async fn events(client: &ApiClient, args: &EventsArgs) -> anyhow::Result<ExitCode> {
    let query = format!(
        "/events?{}",
        given(&[("types", &args.types), ("call", &args.call)]).trim_start_matches('&')
    );
    client
        .events(&query, |event| {
            print::json(&event.to_string());
            true
        })
        .await?;
    Ok(ExitCode::SUCCESS)
}

/// The log lines of one call, from its recorder.
///
/// # Errors
/// As `ApiClient::get`.
pub(crate) async fn logs(client: &ApiClient, call: &str) -> anyhow::Result<ExitCode> {
    let ladder = client.get(&format!("/calls/{}/ladder", escape(call))).await?;
    for row in ladder["rows"].as_array().into_iter().flatten().filter(|r| r["kind"] == "event") {
        let code = row["code"].as_str().map(|c| format!("  {c}")).unwrap_or_default();
        print::line(&format!(
            "{:>9.3}  {}{code}",
            row["at_s"].as_f64().unwrap_or_default(),
            text(row, "text")
        ));
    }
    Ok(ExitCode::SUCCESS)
}
