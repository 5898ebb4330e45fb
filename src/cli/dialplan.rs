//! `webtrunk dialplan test`: every route considered and why, what would be sent, and the caller id.

use super::print;
use anyhow::anyhow;
use std::process::ExitCode;
use webtrunk::config::Config;
use webtrunk::dialplan::{Attempt, Permits, Step};

/// What a dial step sends to each of its trunks.
fn sent(config: &Config, step: &Step, number: &str) -> Vec<String> {
    let Step::Dial { trunks, to, .. } = step.inner() else { return Vec::new() };
    let number = to.as_ref().map_or_else(|| number.to_owned(), |to| to.replace("{number}", number));
    let uri = |name: &String| match config.trunks.get(name).and_then(|t| t.uri.as_ref()) {
        Some(uri) => format!("INVITE sip:{number}@{}", uri.address()),
        None => format!("INVITE sip:{number}@… where trunk {name} registers from"),
    };
    trunks.iter().map(uri).collect()
}

/// Shows where a number leads.
///
/// # Errors
/// The configuration cannot be read, or the gateway not be reached.
pub(crate) fn test(
    config: &Config,
    number: &str,
    caller: Option<&str>,
    at: Option<&str>,
) -> anyhow::Result<ExitCode> {
    let first = config.users.keys().next().map(|u| format!("user:{u}"));
    let caller = caller
        .map(str::to_owned)
        .or(first)
        .ok_or_else(|| anyhow!("there is no user; name the caller with --as trunk:NAME"))?;
    let (context, did, permits) = rights_of(config, &caller)?;
    let unix = match at {
        Some(at) => at
            .parse::<jiff::Timestamp>()
            .map_err(|e| anyhow!("--at {at:?}: {e}; write 2026-12-25T10:00:00Z"))?,
        None => jiff::Timestamp::now(),
    };
    let verdict = config.plan.route(&Attempt {
        context: &context,
        dialled: number,
        unix: unix.as_second() as u64,
        permits: &permits,
    });
    let verdict = verdict.ok_or_else(|| anyhow!("there is no dialplans/{context}.toml"))?;
    let region = webtrunk::dialplan::region_of(&verdict.number)
        .map(|r| format!("   ({r})"))
        .unwrap_or_default();
    print::line(&format!(
        "dialled   {number}\nnumber    {}{region}\ncaller    {caller}\ncontext   {context}\n",
        verdict.number
    ));
    for considered in &verdict.trace {
        let (route, pattern) = (&considered.route, &considered.pattern);
        print::line(&match &considered.why_not {
            Some(why) => format!("  ✗ {route:<18} {pattern:<16} {why}"),
            None => format!("  ✓ {route:<18} {pattern}"),
        });
    }
    let Some(route) = verdict.route else {
        print::line(&match verdict.barred {
            Some((_, why)) => format!("\nno route: the caller gets 403: {why}"),
            None => "\nno route: the caller gets 404".to_owned(),
        });
        return Ok(ExitCode::FAILURE);
    };
    for (n, step) in route.steps.iter().enumerate() {
        print::line(&format!("      {}. {step}", n + 1));
        let lines = sent(config, step, &verdict.number);
        lines.iter().for_each(|line| print::line(&format!("         {line}")));
    }
    let shown = route
        .caller_id
        .as_deref()
        .unwrap_or("{user.did}")
        .replace("{user.did}", did.as_deref().unwrap_or("anonymous"));
    print::line(&format!("\ncaller id {shown}"));
    Ok(ExitCode::SUCCESS)
}

/// The dialplan, the number and the rights of `caller`, `user:NAME` or `trunk:NAME`.
///
/// # Errors
/// There is no user of that name, or it may not call.
fn rights_of(config: &Config, caller: &str) -> anyhow::Result<(String, Option<String>, Permits)> {
    match caller.split_once(':') {
        Some(("user", name)) => {
            let user =
                config.users.get(name).ok_or_else(|| anyhow!("there is no [user.{name}]"))?;
            Ok((user.context.clone(), user.did.clone(), user.permits.clone()))
        }
        Some(("trunk", name)) => {
            let trunk =
                config.trunks.get(name).ok_or_else(|| anyhow!("there is no [trunk.{name}]"))?;
            let context = trunk.context.clone().ok_or_else(|| {
                anyhow!("trunk {name} has no context: its calls are refused with 403")
            })?;
            Ok((context, None, Permits::default()))
        }
        _ => Err(anyhow!("--as takes user:NAME or trunk:NAME")),
    }
}
