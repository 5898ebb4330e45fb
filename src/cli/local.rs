//! Commands that need no running gateway: ports, doctor, tokens, words for codes.

use super::{hex, print, random};
use serde_json::json;
use std::process::ExitCode;
use webtrunk::api::schemas::{NAMES, named};
use webtrunk::config::Config;
use webtrunk::config::ports::ports_of;
use webtrunk::errors::Code;

#[derive(clap::Args)]
#[group(id = "ports-format")]
pub(crate) struct Ports {
    /// Print commands for ufw
    #[arg(long)]
    ufw: bool,
    /// Print rules for nftables
    #[arg(long, conflicts_with = "ufw")]
    nft: bool,
    #[arg(long, short, value_enum, default_value_t)]
    output: print::OutputFormat,
}

pub(crate) fn ports(config: &Config, args: &Ports) -> ExitCode {
    let range = |a: u16, b: u16, between: &str| {
        if a == b { a.to_string() } else { format!("{a}{between}{b}") }
    };
    let all = ports_of(config);
    if !args.ufw && !args.nft {
        let item = |(protocol, first, last, what)| {
            let ports = range(first, last, "-");
            json!({ "protocol": protocol, "ports": ports, "for": what })
        };
        let items = all.into_iter().map(item).collect();
        print::list(
            &items,
            args.output,
            &[
                print::Column::new("protocol", |i| print::text(i, "protocol")),
                print::Column::new("ports", |i| print::text(i, "ports")),
                print::Column::new("for", |i| print::text(i, "for")),
            ],
            "",
        );
        return ExitCode::SUCCESS;
    }
    if args.nft {
        // What is there already stays; before its rules, lest one of them refuse everything.
        print::line("add table inet filter\nadd chain inet filter input");
    }
    for (protocol, first, last, what) in all {
        print::line(&if args.ufw {
            format!("ufw allow {}/{protocol} comment 'webtrunk: {what}'", range(first, last, ":"))
        } else {
            format!(
                "insert rule inet filter input {protocol} dport {} accept comment \"webtrunk: \
                    {what}\"",
                range(first, last, "-")
            )
        });
    }
    ExitCode::SUCCESS
}

/// A new token and the lines of the configuration that let it in.
///
/// # Errors
/// The system gives no random bytes.
pub(crate) fn api_token(name: &str, scope: &str) -> anyhow::Result<ExitCode> {
    let token =
        base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, random::<24>()?);
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.as_bytes());
    let hex = hex(hash.as_ref());
    print::note("The token, shown only once:");
    print::line(&token);
    print::note(&format!(
        "\nAdd this to the configuration, then run `webtrunk \
            reload`:\n\n[api.token.{name}]\nsha256 = \"{hex}\"\nscope  = \"{scope}\""
    ));
    Ok(ExitCode::SUCCESS)
}

/// The JSON Schema called `name`, or their names.
///
/// # Errors
/// There is no such schema.
pub(crate) fn schema(name: Option<&str>, output: print::OutputFormat) -> anyhow::Result<ExitCode> {
    let Some(name) = name else {
        let all = NAMES.iter().map(|(name, what)| json!({ "name": name, "of": what })).collect();
        print::list(
            &all,
            output,
            &[
                print::Column::new("name", |i| print::text(i, "name")),
                print::Column::new("of", |i| print::text(i, "of")),
            ],
            "",
        );
        return Ok(ExitCode::SUCCESS);
    };
    let known = || NAMES.map(|(name, _)| name).join(", ");
    print::object(
        &named(name)
            .ok_or_else(|| anyhow::anyhow!("there is no schema {name:?}; known: {}", known()))?,
    );
    Ok(ExitCode::SUCCESS)
}

/// What a code of the registry means.
///
/// # Errors
/// There is no such code.
pub(crate) fn explain(code: Option<&str>, output: print::OutputFormat) -> anyhow::Result<ExitCode> {
    let Some(code) = code else {
        let one = |(code, entry): (Code, &webtrunk::errors::ErrorEntry)| {
            json!({
                "code": code.to_string(),
                "title": entry.title,
                "likely": entry.likely,
                "fix": entry.fix,
            })
        };
        print::list(
            &Code::all().map(one).collect(),
            output,
            &[
                print::Column::new("code", |i| print::text(i, "code")),
                print::Column::new("title", |i| print::text(i, "title")),
            ],
            "",
        );
        return Ok(ExitCode::SUCCESS);
    };
    let code: Code = code.parse().map_err(anyhow::Error::msg)?;
    let entry = code
        .entry()
        .ok_or_else(|| anyhow::anyhow!("there is no {code}; `webtrunk explain` lists all"))?;
    print::line(&format!(
        "{code}  {}\n  Likely: {}\n  Fix:    {}",
        entry.title, entry.likely, entry.fix
    ));
    Ok(ExitCode::SUCCESS)
}
