//! `webtrunk cdr`: the records of calls.

use super::client::ApiClient;
use super::look::{Filter, began, caller, today};
use super::print::{self, Column, OutputFormat, clock, text};
use serde_json::Value;
use std::process::ExitCode;
use webtrunk::printable::cell;

#[derive(clap::Args)]
pub(crate) struct CdrArgs {
    #[command(subcommand)]
    what: CdrWhat,
}

#[derive(clap::Subcommand)]
enum CdrWhat {
    /// Show the newest records
    Tail {
        /// How many
        #[arg(long, short, default_value_t = 10)]
        #[arg(value_parser = clap::value_parser!(u32).range(1..))]
        n: u32,
        #[command(flatten)]
        filter: Filter,
        #[arg(long, short, value_enum, default_value_t)]
        output: OutputFormat,
    },
    /// Export records as CSV or JSON lines, the newest first
    Export {
        #[command(flatten)]
        filter: Filter,
        #[arg(long, default_value = "csv", value_parser = ["csv", "jsonl"])]
        format: String,
    },
}

/// A field of a record, as a column of a spreadsheet.
type RecordField = (&'static str, fn(&Value) -> String);

const FIELDS: [RecordField; 12] = [
    ("start", |r| text(r, "start")),
    ("call", |r| text(r, "call")),
    ("from", |r| text(&r["from"], "user")),
    ("from_number", |r| text(&r["from"], "number")),
    ("from_name", |r| text(&r["from"], "name")),
    ("to", number_called),
    ("outcome", |r| text(r, "outcome")),
    ("sip_code", |r| text(r, "sip_code")),
    ("code", code_of),
    ("billable_s", |r| text(r, "billable_s")),
    ("answered_by", |r| text(r, "answered_by")),
    ("hangup_by", |r| text(r, "hangup_by")),
];

fn number_called(record: &Value) -> String {
    match text(&record["to"], "number") {
        none if none == "-" => text(&record["to"], "dialled"),
        number => number,
    }
}

/// Records of older versions have the code in their verdict only.
fn code_of(record: &Value) -> String {
    match text(record, "code") {
        none if none == "-" => text(&record["verdict"], "code"),
        code => code,
    }
}

fn record_columns() -> Vec<Column> {
    let today = today();
    vec![
        Column::new("CALL", |r| text(r, "call")),
        Column::new("START UTC", move |r| began(&text(r, "start"), &today)),
        Column::new("FROM", |r| {
            let from = &r["from"];
            caller(&serde_json::json!({
                "from": from["user"],
                "from_number": from["number"],
                "from_name": from["name"]
            }))
        })
        .cut_to(15),
        Column::new("TO", number_called).cut_to(12),
        Column::new("OUTCOME", |r| text(r, "outcome").replace('_', " ")),
        Column::new("SIP", |r| text(r, "sip_code")).optional(3),
        Column::new("CODE", code_of),
        Column::new("TALKED", |r| {
            clock(r["billable_s"].as_f64().unwrap_or_default().round() as u64)
        }),
        Column::new("ANSWERED BY", |r| text(r, "answered_by")).optional(2),
        Column::new("ENDED BY", |r| text(r, "hangup_by")).optional(1),
    ]
}

/// Prints records.
///
/// # Errors
/// As `ApiClient::get`.
pub(crate) async fn cdr(client: &ApiClient, args: &CdrArgs) -> anyhow::Result<ExitCode> {
    match &args.what {
        CdrWhat::Tail { n, filter, output } => {
            let query = format!("/cdr?limit={}{}", (*n).clamp(1, 1_000), filter.query());
            let mut records = Vec::new();
            client.pages(&query, Some(*n as usize), |page| records.extend(page)).await?;
            let empty = "no record fits; a call has one once it has ended";
            print::list(&Value::Array(records), *output, &record_columns(), empty);
        }
        CdrWhat::Export { filter, format } => {
            let csv = format == "csv";
            if csv {
                print::line(&FIELDS.map(|(name, _)| name).join(","));
            }
            let query = format!("/cdr?limit=1000{}", filter.query());
            let line = |record: &Value| match csv {
                true => FIELDS
                    .map(|(_, show)| match show(record).as_str() {
                        "-" => String::new(),
                        text => cell(text).to_string(),
                    })
                    .join(","),
                false => record.to_string(),
            };
            client
                .pages(&query, None, |page| page.iter().for_each(|r| print::line(&line(r))))
                .await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
