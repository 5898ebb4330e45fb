//! `webtrunk trace`: the ladder of a call, and what two legs of it differ in.

use super::client::{ApiClient, escape};
use super::print::{self, OutputFormat, text};
use serde_json::Value;
use std::path::PathBuf;
use std::process::ExitCode;
use webtrunk::private;

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
    output: OutputFormat,
}

/// Draws the ladder of a call.
///
/// # Errors
/// As `ApiClient::get`.
pub(crate) async fn trace(client: &ApiClient, args: &Trace) -> anyhow::Result<ExitCode> {
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
    if args.output != OutputFormat::Table {
        print::object(&client.get(&format!("/calls/{call}/ladder")).await?);
        return Ok(ExitCode::SUCCESS);
    }
    let format = if args.mermaid { "mermaid" } else { "text" };
    let drawn =
        client.bytes(&format!("/calls/{call}/ladder?format={format}&full={}", args.full)).await?;
    print::line(String::from_utf8_lossy(&drawn).trim_end());
    Ok(ExitCode::SUCCESS)
}

async fn follow(client: &ApiClient, full: bool) -> anyhow::Result<ExitCode> {
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
async fn diff(client: &ApiClient, call: &str, pair: &str) -> anyhow::Result<ExitCode> {
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
