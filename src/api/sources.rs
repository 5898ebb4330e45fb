//! `/config/sources`: where the settings in force come from, what a reload would change, and what
//! the gateway listens on and shows.

use super::reload::{Changes, bound, compare};
use super::{ApiResult, ApiState, Problem};
use crate::config::ports::ports_of;
use crate::config::{self, Config};
use crate::transport::certificate::{Certificates, ShownCertificate};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use toml::de::{DeTable, DeValue};

/// GET /config/sources
pub(crate) async fn sources(State(api): State<ApiState>) -> ApiResult<Json<Value>> {
    let before = api.ask(|gateway, _| gateway.config().clone()).await?;
    let (file, certificates) = (api.file.clone(), api.certificates.clone());
    let work = move || sources_of(&before, file.as_deref(), &certificates);
    tokio::task::spawn_blocking(work)
        .await
        .map(Json)
        .map_err(|e| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, e.to_string()))
}

fn sources_of(before: &Config, file: Option<&Path>, certificates: &Certificates) -> Value {
    let text = file.and_then(|file| std::fs::read_to_string(file).ok()).unwrap_or_default();
    let (changes, problem) = match file.map(config::load) {
        Some(Ok((mut fresh, _))) => {
            fresh.renumber(before);
            (compare(before, &fresh), None)
        }
        Some(Err(problems)) => (Changes::default(), Some(problems.to_string())),
        None => (Changes::default(), None),
    };
    // A list of several keys is one entry there.
    let restart = bound(before, before);
    let restart = restart.iter().flat_map(|(keys, _)| keys.split(", "));
    let shown = certificates.web.iter().chain(&certificates.sip);
    let ports = ports_of(before).into_iter().map(|(protocol, first, last, what)| {
        json!({ "protocol": protocol, "first": first, "last": last, "for": what })
    });
    json!({
        "file": file.map(|file| file.display().to_string()),
        "lines": lines_of(&text),
        "restart_keys": restart.collect::<Vec<_>>(),
        "reload": {
            "changed": changes.changed,
            "needs_restart": changes.restart,
            "problem": problem,
        },
        "ports": ports.collect::<Vec<_>>(),
        "certificates": shown.map(|shown| certificate(shown)).collect::<Vec<_>>(),
    })
}

fn certificate(shown: &ShownCertificate) -> Value {
    let ends = shown.ends().and_then(|at| Timestamp::from_second(at).ok());
    json!({
        "setting": shown.setting(),
        "names": shown.names(),
        "ends": ends.map(|at| at.to_string()),
    })
}

/// The line of each key of a file, by its whole name: `web.listen`. Empty if it is no TOML.
fn lines_of(text: &str) -> BTreeMap<String, usize> {
    let mut lines = BTreeMap::new();
    if let Ok(table) = DeTable::parse(text) {
        let newlines: Vec<usize> = memchr::memchr_iter(b'\n', text.as_bytes()).collect();
        collect("", table.get_ref(), &newlines, &mut lines);
    }
    lines
}

fn collect(
    within: &str,
    table: &DeTable<'_>,
    newlines: &[usize],
    lines: &mut BTreeMap<String, usize>,
) {
    for (key, value) in table {
        let name = if within.is_empty() {
            key.get_ref().to_string()
        } else {
            format!("{within}.{}", key.get_ref())
        };
        let line = newlines.partition_point(|at| *at < key.span().start) + 1;
        if let DeValue::Table(inner) = value.get_ref() {
            collect(&name, inner, newlines, lines);
        }
        lines.insert(name, line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# a\n[server]\ndomain = \"x\"\npublic_ip = \"127.0.0.1\"\n\n[sip]\n\
        udp = \":5060\"\n[user.\"a.b\"]\npassword = { env = \"P\" }\n[web]\ntls.cert = \"c\"\n";

    #[test]
    fn each_key_of_a_file_has_its_line() {
        let lines = lines_of(FILE);
        let at = |key: &str| lines.get(key).copied();
        for (key, line) in [
            ("server", 2),
            ("server.domain", 3),
            ("sip.udp", 7),
            ("user.a.b.password", 9),
            ("user.a.b.password.env", 9),
            ("web.tls.cert", 11),
        ] {
            assert_eq!(at(key), Some(line), "{key}");
        }
        assert_eq!(at("sip.tcp"), None, "it is the default");
        assert!(lines_of("no = [toml").is_empty());
    }

    #[test]
    fn a_reload_is_previewed_and_so_is_a_mistake_in_the_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("webtrunk.toml");
        let of = |text: &str| {
            std::fs::write(&file, text).expect("written");
            text.to_owned()
        };
        let first =
            of("[server]\ndomain = \"x\"\npublic_ip = \"127.0.0.1\"\n[sip]\nudp = \":5060\"\n");
        let (before, _) = config::load(&file).unwrap_or_else(|p| panic!("{p}"));
        let now = || sources_of(&before, Some(&file), &Certificates::default());
        assert_eq!(now()["reload"]["changed"], json!([]), "nothing was written");
        of(&(first.replace(":5060", ":5062") + "[limits]\ncalls = 7\n"));
        let view = now();
        assert_eq!(view["reload"]["changed"], json!(["limits changed"]));
        assert_eq!(view["reload"]["needs_restart"], json!(["sip.udp"]));
        assert_eq!(view["lines"]["limits.calls"], 7);
        let restart = view["restart_keys"].as_array().expect("a list");
        assert!(restart.contains(&json!("sip.sha256")) && !restart.contains(&json!("limits")));
        assert!(view["ports"].as_array().is_some_and(|all| all.iter().any(|p| p["for"] == "SIP")));
        of("[server]\ndomian = \"x\"\n");
        let problem = now()["reload"]["problem"].as_str().map(str::to_owned);
        assert!(problem.is_some_and(|text| text.contains("domian")));
    }
}
