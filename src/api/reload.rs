//! What a reload of the configuration changes, and which keys need a restart.

use super::{ApiResult, ApiState, Problem};
use crate::config::{ApiUser, Config, SipSettings};
use crate::dialplan::Context;
use crate::media::MediaWatch;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// Reads the configuration anew and puts it in force: what changed and what waits for a restart, or
/// why not.
pub(crate) type Reload =
    Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Result<Changes, String>> + Send>> + Send + Sync>;

/// What a reload came to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Changes {
    /// Keys whose new value is in use.
    pub changed: Vec<String>,
    /// Keys whose new value needs a restart.
    pub restart: Vec<String>,
    /// Warnings about the configuration, one a line.
    pub warnings: String,
}

/// POST /reload
pub(crate) async fn reload(State(api): State<ApiState>) -> ApiResult<Json<Value>> {
    let Some(reload) = api.reload else {
        return Err(Problem::new(
            StatusCode::CONFLICT,
            "this gateway was started without a configuration file",
        )
        .fix("the demo has none to read again"));
    };
    match reload().await {
        Ok(changes) => Ok(Json(json!({
            "changed": changes.changed,
            "needs_restart": changes.restart,
            "warnings": changes.warnings
        }))),
        Err(why) => Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, why)
            .fix("correct the file; nothing was changed, and calls continue")),
    }
}

/// What visitors' credentials hang on, to be compared.
fn secrets(config: &Config) -> Option<(String, Duration, Vec<String>)> {
    let c = config.credentials.as_ref()?;
    let turn =
        c.turn.iter().flat_map(|t| t.uris.iter().cloned().chain([t.secret.reveal().to_owned()]));
    Some((c.secret.reveal().to_owned(), c.longest, turn.collect()))
}

/// What changed from `before` to `after`, whose trunks are numbered alike, and which of it waits
/// for a restart.
pub(crate) fn compare(before: &Config, after: &Config) -> Changes {
    let mut changes = Changes::default();
    changes.named("user", before.users.iter(), after.users.iter());
    changes.named("trunk", before.trunks.iter(), after.trunks.iter());
    fn plan(config: &Config) -> impl Iterator<Item = (&String, &Context)> {
        config.plan.written().map(|c| (&c.name, c))
    }
    changes.named("dialplan", plan(before), plan(after));
    fn console(config: &Config) -> BTreeMap<&String, &ApiUser> {
        config.api.users.iter().map(|u| (&u.name, u)).collect()
    }
    changes.named("console user", console(before).into_iter(), console(after).into_iter());
    changes.changed.extend(differing(&live(before, after)).map(|key| format!("{key} changed")));
    changes.restart.extend(differing(&bound(before, after)).map(str::to_owned));
    changes
}

/// Most users, and likewise trunks and dialplans, that a reload names; the others are counted.
const MOST_NAMED: usize = 20;

impl Changes {
    /// What was added to, changed in or removed from a table; both are in the order of names.
    fn named<'a, V: PartialEq + 'a>(
        &mut self,
        what: &str,
        old: impl Iterator<Item = (&'a String, V)>,
        new: impl Iterator<Item = (&'a String, V)>,
    ) {
        let (mut old, mut new) = (old.peekable(), new.peekable());
        let (mut named, mut more) = (0, 0);
        loop {
            let order = match (old.peek(), new.peek()) {
                (Some((a, _)), Some((b, _))) => a.cmp(b),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => break,
            };
            let before = old.next_if(|_| order != Ordering::Greater);
            let after = new.next_if(|_| order != Ordering::Less);
            let (name, verb) = match (before, after) {
                (Some((name, before)), Some((_, after))) if before != after => (name, "changed"),
                (Some((name, _)), None) => (name, "removed"),
                (None, Some((name, _))) => (name, "added"),
                _ => continue,
            };
            if named < MOST_NAMED {
                self.changed.push(format!("{what} {name} {verb}"));
                named += 1;
            } else {
                more += 1;
            }
        }
        if more > 0 {
            self.changed.push(format!("{more} more {what}s changed"));
        }
    }
}

fn differing<'a>(keys: &'a [(&'static str, bool)]) -> impl Iterator<Item = &'static str> + 'a {
    keys.iter().filter(|(_, differs)| *differs).map(|(key, _)| *key)
}

/// Keys whose new value is in force at once, and whether it is another.
fn live(before: &Config, after: &Config) -> Vec<(&'static str, bool)> {
    vec![
        ("limits", before.limits != after.limits),
        ("fraud", before.fraud != after.fraud),
        ("recorder", before.recorder != after.recorder),
        ("api.token", before.api.tokens != after.api.tokens),
        ("api.session_idle, api.session_longest", before.api.sessions != after.api.sessions),
        ("credentials", secrets(before) != secrets(after)),
        ("auth.jwt", before.auth.jwt != after.auth.jwt),
        ("auth.webhook", before.auth.webhook != after.auth.webhook),
        (
            "server.public_ip",
            before.public_auto != after.public_auto
                || (!after.public_auto && before.public_ips != after.public_ips),
        ),
        ("sip.public_ip", before.sip.public_ip != after.sip.public_ip),
        ("media.public_ip", before.media.public_ips != after.media.public_ips),
        ("web.origins", before.origins != after.origins),
        ("web.public_url", before.public_url != after.public_url),
        ("web.trusted_proxies", before.trusted_proxies != after.trusted_proxies),
        ("web.proxy_protocol", before.proxy_protocol != after.proxy_protocol),
        ("media.codecs", before.media.codecs != after.media.codecs),
        ("media.complexity", before.media.complexity != after.media.complexity),
        ("media.timeout", times(before) != times(after)),
        ("sip.flow_grace", before.sip.flow_grace != after.sip.flow_grace),
        ("sip.flow_grace_media", before.sip.flow_grace_media != after.sip.flow_grace_media),
        ("sip.session_timer", before.sip.session_timer != after.sip.session_timer),
    ]
}

/// What is done about silence, and when.
fn times(c: &Config) -> (MediaWatch, Duration, Option<Duration>) {
    (c.media.watch, c.media.answer_within, c.media.hold_timeout)
}

/// Keys whose new value needs a restart, and whether it is another.
pub(super) fn bound(before: &Config, after: &Config) -> Vec<(&'static str, bool)> {
    let sip = |s: &SipSettings| (s.tls, s.certificate.clone(), s.client_ca.clone());
    vec![
        ("server.domain", before.domain != after.domain),
        ("server.state_dir", before.state_dir != after.state_dir),
        ("server.stun", before.stun != after.stun),
        ("cluster", before.cluster != after.cluster),
        ("media.bind", before.media.bind != after.media.bind),
        ("web.listen", before.web_listen != after.web_listen),
        ("web.tls", before.web_tls != after.web_tls),
        ("sip.udp", before.udp != after.udp),
        ("sip.tcp", before.tcp != after.tcp),
        ("sip.tls", sip(&before.sip) != sip(&after.sip)),
        ("media.ports", before.media.ports != after.media.ports),
        ("media.browser_port", before.media.browser_port != after.media.browser_port),
        ("media.ice_tcp", before.media.ice_tcp != after.media.ice_tcp),
        ("media.workers", before.media.workers != after.media.workers),
        (
            "events.cdr",
            (&before.cdr_file, &before.cdr_sqlite) != (&after.cdr_file, &after.cdr_sqlite),
        ),
        ("events.webhook", before.webhook != after.webhook),
        ("events.hep", before.hep != after.hep),
        ("telemetry.otlp", before.otlp != after.otlp),
        ("api.control", before.api.control != after.api.control),
        ("metrics.listen", before.api.metrics != after.api.metrics),
        (
            "sip.md5, sip.sha256",
            (before.allow_md5, before.allow_sha256) != (after.allow_md5, after.allow_sha256),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(old: &BTreeMap<String, u32>, new: &BTreeMap<String, u32>) -> Vec<String> {
        let mut changes = Changes::default();
        changes.named("user", old.iter(), new.iter());
        changes.changed
    }

    #[test]
    fn a_reload_names_some_of_many_and_counts_the_rest() {
        let table = |names: &[&str], value| -> BTreeMap<String, u32> {
            names.iter().map(|n| ((*n).to_owned(), value)).collect()
        };
        let (old, mut new) = (table(&["a", "b", "d"], 1), table(&["b", "c", "d"], 1));
        new.insert("d".into(), 2);
        assert_eq!(
            named(&old, &new),
            ["user a removed", "user c added", "user d changed"].map(str::to_owned)
        );
        let many: BTreeMap<String, u32> = (0..1_000).map(|n| (format!("u{n:03}"), n)).collect();
        assert!(named(&many, &many).is_empty());
        let listed = named(&BTreeMap::new(), &many);
        assert_eq!(listed.len(), MOST_NAMED + 1);
        assert_eq!(
            (listed[0].as_str(), listed[MOST_NAMED].as_str()),
            ("user u000 added", "980 more users changed")
        );
    }
}
