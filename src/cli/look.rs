//! Commands that look at a running gateway: calls, trunks, registrations, traces, events.

use super::client::{Client, escape, given};
use super::print::{self, Column, Output, clock, text};
use serde_json::Value;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use webtrunk::printable::cell;
use webtrunk::private;

fn share(item: &Value, key: &str) -> String {
    item[key].as_f64().map_or("-".to_owned(), |s| format!("{:.0} %", s * 100.0))
}

const CALLS: [Column; 9] = [
    ("CALL", |c| text(c, "call")),
    ("STATE", |c| text(c, "state")),
    ("FROM", |c| text(c, "from")),
    ("TO", |c| text(c, "to")),
    ("WITH", |c| text(c, "with")),
    ("TIME", |c| clock(c["talked_s"].as_u64().or(c["seconds"].as_u64()).unwrap_or(0))),
    ("CODECS", |c| {
        c["codecs"].as_array().filter(|a| !a.is_empty()).map_or("-".into(), |a| {
            a.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" ↔ ")
        })
    }),
    ("MOS", |c| text(c, "mos_estimated")),
    ("WHAT HAPPENED", |c| match (c["code"].as_str(), c["verdict"].as_str()) {
        (Some(code), Some(verdict)) => format!("{code} {verdict}"),
        (None, Some(_)) => "fine".to_owned(),
        _ => String::new(),
    }),
];

#[derive(clap::Args)]
pub(crate) struct Calls {
    /// Also list ended calls
    #[arg(long, short)]
    all: bool,
    /// Only calls of this user
    #[arg(long)]
    user: Option<String>,
    /// Only calls over this trunk
    #[arg(long)]
    trunk: Option<String>,
    /// Only calls whose number contains this
    #[arg(long)]
    number: Option<String>,
    /// Refresh the list every second
    #[arg(long, short)]
    watch: bool,
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

pub(crate) async fn calls(client: &Client, args: &Calls) -> anyhow::Result<ExitCode> {
    let wanted = given(&[("user", &args.user), ("trunk", &args.trunk), ("number", &args.number)]);
    let query =
        format!("/calls?limit=1000&state={}{wanted}", if args.all { "all" } else { "live" });
    loop {
        let calls = client.get(&query).await?;
        if args.watch {
            print::clear();
        }
        print::list(
            &calls,
            args.output,
            &CALLS,
            "no active call; `webtrunk calls --all` also lists ended ones",
        );
        if !args.watch {
            return Ok(ExitCode::SUCCESS);
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

pub(crate) async fn registrations(client: &Client, output: Output) -> anyhow::Result<ExitCode> {
    const COLUMNS: [Column; 6] = [
        ("USER", |r| text(r, "user")),
        ("REMOTE", |r| text(r, "remote")),
        ("EXPIRES", |r| r["expires_s"].as_u64().map_or("-".into(), clock)),
        ("Q", |r| text(r, "q")),
        ("INSTANCE", |r| text(r, "instance")),
        ("CONTACT", |r| text(r, "contact")),
    ];
    print::list(
        &client.get("/registrations").await?,
        output,
        &COLUMNS,
        "nobody is registered; open a page and log in",
    );
    Ok(ExitCode::SUCCESS)
}

#[derive(clap::Subcommand)]
pub(crate) enum Trunks {
    /// List their state (the default)
    Status,
    /// Send OPTIONS now and wait for the answer
    Probe { name: String },
    /// Stop sending calls to a trunk
    Disable { name: String },
    /// Use a disabled trunk again
    Enable { name: String },
}

const TRUNKS: [Column; 8] = [
    ("TRUNK", |t| text(t, "trunk")),
    ("STATE", |t| match t["state"].as_str() {
        Some("down") => "DOWN".to_owned(),
        _ => text(t, "state"),
    }),
    ("OPTIONS", |t| t["options_ms"].as_u64().map_or("-".into(), |ms| format!("{ms} ms"))),
    ("CALLS", |t| format!("{}/{}", t["calls"], text(t, "max_calls"))),
    ("ASR", |t| share(t, "asr")),
    ("NER", |t| share(t, "ner")),
    ("PDD p50/p95", |t| match (t["pdd_ms_p50"].as_f64(), t["pdd_ms_p95"].as_f64()) {
        (Some(a), Some(b)) => format!("{:.1} / {:.1} s", a / 1e3, b / 1e3),
        _ => "-".to_owned(),
    }),
    ("LAST FAILURE", |t| {
        match (t["why_not"].as_str(), t["last_call_failure"]["sip_code"].as_u64()) {
            (Some(why), _) => format!("{} {why}", t["code"].as_str().unwrap_or_default()),
            (None, Some(status)) => format!(
                "{status}, {} ago",
                clock(t["last_call_failure"]["ago_s"].as_u64().unwrap_or(0))
            ),
            _ => "-".to_owned(),
        }
    }),
];

pub(crate) async fn trunks(
    client: &Client,
    what: Option<&Trunks>,
    output: Output,
) -> anyhow::Result<ExitCode> {
    let (name, verb) = match what {
        None | Some(Trunks::Status) => {
            print::list(
                &client.get("/trunks").await?,
                output,
                &TRUNKS,
                "there is no trunk; `webtrunk init --trunk generic` writes an example",
            );
            return Ok(ExitCode::SUCCESS);
        }
        Some(Trunks::Probe { name }) => (name, "probe"),
        Some(Trunks::Disable { name }) => (name, "disable"),
        Some(Trunks::Enable { name }) => (name, "enable"),
    };
    let trunk =
        client.call(hyper::Method::POST, &format!("/trunks/{}/{verb}", escape(name)), None).await?;
    if output != Output::Table {
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
pub(crate) struct Trace {
    /// The call, as `webtrunk calls --all` shows it; its first four characters are enough
    call: Option<String>,
    /// The newest call
    #[arg(long)]
    last: bool,
    /// Draw each call when it ends
    #[arg(long)]
    follow: bool,
    /// Show whole messages; credentials, keys and digits are masked
    #[arg(long)]
    full: bool,
    /// Write a capture for Wireshark or sngrep
    #[arg(long, value_name = "FILE")]
    pcap: Option<PathBuf>,
    /// Write a picture (SVG)
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Print Mermaid, for a ticket
    #[arg(long)]
    mermaid: bool,
    /// Compare two messages by their numbers, such as 2,6
    #[arg(long, value_name = "A,B")]
    diff: Option<String>,
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

pub(crate) async fn trace(client: &Client, args: &Trace) -> anyhow::Result<ExitCode> {
    if args.follow {
        return follow(client, args.full).await;
    }
    let call = match (&args.call, args.last) {
        (Some(call), _) => escape(call),
        (None, true) => "last".to_owned(),
        (None, false) => anyhow::bail!("name a call, or use --last or --follow"),
    };
    if let Some(pair) = &args.diff {
        return diff(client, &call, pair).await;
    }
    for (file, format) in
        [(&args.pcap, "pcap".to_owned()), (&args.svg, "ladder?format=svg".to_owned())]
    {
        if let Some(file) = file {
            let bytes = client.bytes(&format!("/calls/{call}/{format}")).await?;
            private::write(file, &bytes)
                .map_err(|e| anyhow::anyhow!("{} cannot be written: {e}", file.display()))?;
            print::note(&format!("wrote {}", file.display()));
        }
    }
    if args.pcap.is_some() || args.svg.is_some() {
        return Ok(ExitCode::SUCCESS);
    }
    if args.output != Output::Table {
        print::object(&client.get(&format!("/calls/{call}/ladder")).await?);
        return Ok(ExitCode::SUCCESS);
    }
    let format = if args.mermaid { "mermaid" } else { "text" };
    let drawn =
        client.bytes(&format!("/calls/{call}/ladder?format={format}&full={}", args.full)).await?;
    print::line(String::from_utf8_lossy(&drawn).trim_end());
    Ok(ExitCode::SUCCESS)
}

async fn follow(client: &Client, full: bool) -> anyhow::Result<ExitCode> {
    let (tell, mut ended) = tokio::sync::mpsc::unbounded_channel();
    let drawing = async {
        while let Some(call) = ended.recv().await {
            let call: String = call;
            if let Ok(drawn) =
                client.bytes(&format!("/calls/{call}/ladder?format=text&full={full}")).await
            {
                print::line(&String::from_utf8_lossy(&drawn));
            }
        }
    };
    let listening = client.events("/events?types=call.ended,call.refused", move |event| {
        event["data"]["call"].as_str().is_none_or(|call| tell.send(call.to_owned()).is_ok())
    });
    let (listened, ()) = tokio::join!(listening, drawing);
    listened.map(|()| ExitCode::SUCCESS)
}

/// The lines of two messages that differ; messages are numbered from 1 in the order of the ladder.
async fn diff(client: &Client, call: &str, pair: &str) -> anyhow::Result<ExitCode> {
    let ladder = client.get(&format!("/calls/{call}/ladder")).await?;
    let none = Vec::new();
    let messages: Vec<&Value> = ladder["rows"]
        .as_array()
        .unwrap_or(&none)
        .iter()
        .filter(|r| r["kind"] == "message")
        .collect();
    let wanted = pair.split_once(',').and_then(|(a, b)| {
        Some((a.trim().parse::<usize>().ok()?, b.trim().parse::<usize>().ok()?))
    });
    let found = wanted.and_then(|(a, b)| {
        Some((*messages.get(a.checked_sub(1)?)?, *messages.get(b.checked_sub(1)?)?))
    });
    let Some((a, b)) = found else {
        let all = messages
            .iter()
            .enumerate()
            .map(|(n, m)| format!("  {:>3}  {}", n + 1, text(m, "summary")))
            .collect::<Vec<_>>()
            .join("\n");
        anyhow::bail!("--diff takes two of these numbers, such as 1,3:\n{all}");
    };
    print::line(&format!("--- {}\n+++ {}", text(a, "summary"), text(b, "summary")));
    let (a, b) = (text(a, "text"), text(b, "text"));
    let (a, b): (Vec<&str>, Vec<&str>) = (a.lines().collect(), b.lines().collect());
    a.iter().filter(|l| !b.contains(l)).for_each(|l| print::line(&format!("- {l}")));
    b.iter().filter(|l| !a.contains(l)).for_each(|l| print::line(&format!("+ {l}")));
    Ok(ExitCode::SUCCESS)
}

#[derive(clap::Args)]
pub(crate) struct Events {
    /// Only these kinds, separated by commas; `call.*` is every kind about calls
    #[arg(long = "type")]
    types: Option<String>,
    /// Only events of this call
    #[arg(long)]
    call: Option<String>,
}

pub(crate) async fn events(client: &Client, args: &Events) -> anyhow::Result<ExitCode> {
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
pub(crate) async fn logs(client: &Client, call: &str) -> anyhow::Result<ExitCode> {
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

#[derive(clap::Args)]
pub(crate) struct Cdr {
    #[command(subcommand)]
    what: CdrWhat,
}

#[derive(clap::Subcommand)]
enum CdrWhat {
    /// Show the newest records
    Tail {
        /// How many
        #[arg(long, short, default_value_t = 10)]
        n: usize,
        #[arg(long, short, value_enum, default_value_t)]
        output: Output,
    },
    /// Export records as CSV or JSON lines
    Export {
        /// Only records from this time on, RFC 3339 or its beginning, such as 2026-11-20
        #[arg(long)]
        from: Option<String>,
        /// Only records until this time
        #[arg(long)]
        to: Option<String>,
        #[arg(long, default_value = "csv", value_parser = ["csv", "jsonl"])]
        format: String,
    },
}

const RECORD: [Column; 10] = [
    ("start", |r| text(r, "start")),
    ("call", |r| text(r, "call")),
    ("from", |r| text(&r["from"], "user")),
    ("to", |r| text(&r["to"], "number")),
    ("outcome", |r| text(r, "outcome")),
    ("sip_code", |r| text(r, "sip_code")),
    ("billable_s", |r| text(r, "billable_s")),
    ("answered_by", |r| text(r, "answered_by")),
    ("hangup_by", |r| text(r, "hangup_by")),
    ("code", |r| text(&r["verdict"], "code")),
];

pub(crate) async fn cdr(client: &Client, args: &Cdr) -> anyhow::Result<ExitCode> {
    match &args.what {
        CdrWhat::Tail { n, output } => print::list(
            &client.get(&format!("/cdr?limit={n}")).await?,
            *output,
            &RECORD,
            "no call has ended yet",
        ),
        CdrWhat::Export { from, to, format } => {
            let records = client
                .get(&format!("/cdr?limit=10000{}", given(&[("from", from), ("to", to)])))
                .await?;
            if format == "jsonl" {
                print::list(&records, Output::Jsonl, &[], "");
            } else {
                print::line(&RECORD.iter().map(|c| c.0).collect::<Vec<_>>().join(","));
                for record in records.as_array().into_iter().flatten() {
                    let cells = RECORD.iter().map(|(_, show)| match show(record).as_str() {
                        "-" => String::new(),
                        text => cell(text),
                    });
                    print::line(&cells.collect::<Vec<_>>().join(","));
                }
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
