//! What is in force, as `GET /config` shows it: without secrets.

use crate::config::{
    Api, ClusterSettings, Config, KeySet, Limits, Media, Trunk, User, WebTls, Webhook,
};
use crate::media::endpoint::Digits;
use crate::sdp::crypto::Policy;
use serde_json::{Value, json};

/// How the configuration says it, as everything here.
fn tls_word(tls: &WebTls) -> String {
    match tls {
        WebTls::Off => "off".to_owned(),
        WebTls::Local(_) => "local".to_owned(),
        WebTls::Files { cert, .. } => cert.display().to_string(),
        WebTls::Acme(_) => "acme".to_owned(),
    }
}

fn texts(items: &[impl ToString]) -> Vec<String> {
    items.iter().map(ToString::to_string).collect()
}

fn key_set(keys: &KeySet) -> String {
    match keys {
        KeySet::Url(url) => url.clone(),
        KeySet::File(path) => path.display().to_string(),
    }
}

fn digits_word(digits: Digits) -> &'static str {
    match digits {
        Digits::Events => "rtp",
        Digits::Signalled => "info",
        Digits::Tones => "inband",
    }
}

fn srtp_word(policy: Policy) -> &'static str {
    match policy {
        Policy::Off => "off",
        Policy::Optional => "optional",
        Policy::Required => "required",
    }
}

pub(super) fn effective_settings(c: &Config) -> Value {
    let users = c.users.values().map(|u| (u.name.clone(), user_settings(u)));
    let trunks = c.trunks.values().map(|t| (t.name.clone(), trunk_settings(t)));
    json!({"server": {
                    "domain": c.domain,
                    "public_ip": c.public_ips,
                    "drain_timeout_s": c.drain_timeout.as_secs()
                },
    "web": {
                    "listen": c.web_listen,
                    "tls": tls_word(&c.web_tls),
                    "public_url": c.public_url,
                    "origins": c.origins,
                    "trusted_proxies": texts(&c.trusted_proxies),
                    "proxy_protocol": texts(&c.proxy_protocol),
                },
    "sip": {
                    "udp": c.udp,
                    "tcp": c.tcp,
                    "tls": c.sip.tls,
                    "flow_grace_s": c.sip.flow_grace.as_secs(),
                    "flow_grace_media_s": c.sip.flow_grace_media.as_secs(),
                    "session_timer_s": c.sip.session_timer,
                    "md5": c.allow_md5,
                    "sha256": c.allow_sha256
                },
    "cluster": c.cluster.as_ref().map(cluster_settings),
    "media": media_settings(&c.media),
    "limits": limits_settings(&c.limits),
    "fraud": {
                    "calls_per_hour": c.fraud.calls_per_hour,
                    "minutes_per_hour": c.fraud.minutes_per_hour,
                    "countries_per_hour": c.fraud.countries_per_hour,
                    "home": c.fraud.home
                },
    "recorder": {
                    "calls": c.recorder.calls,
                    "memory": c.recorder.memory,
                    "messages": c.recorder.messages
                },
    "api": api_settings(&c.api),
    "events": {
                    "cdr": { "file": c.cdr_file, "sqlite": c.cdr_sqlite },
                    "webhook": c.webhook.as_ref().map(Webhook::host),
                    "hep": c.hep
                },
    "auth": {
                    "jwt": c.auth.jwt.as_ref().map(|j| json!({
                        "jwks": key_set(&j.jwks),
                        "audience": j.audience,
                        "issuer": j.issuer,
                        "context": j.context,
                        "single_use": j.single_use
                    })),
                    "webhook": c.auth.webhook.as_ref().map(Webhook::host)
                },
    "credentials": c.credentials.as_ref().map(|k| json!({
                    "secret": "***",
                    "longest_s": k.longest.as_secs(),
                    "turn": k.turn.as_ref().map(|t| &t.uris)
                })),
    "telemetry": { "otlp": c.otlp },
    "user": users.collect::<serde_json::Map<_, _>>(),
    "trunk": trunks.collect::<serde_json::Map<_, _>>(),
    })
}

fn user_settings(u: &User) -> Value {
    json!({
        "did": u.did,
        "numbers": u.numbers,
        "display_name": u.display_name,
        "context": u.context,
        "max_calls": u.max_calls,
        "password": "***",
    })
}

fn trunk_settings(t: &Trunk) -> Value {
    json!({
        "uri": t.uri.as_ref().map(|u| format!("sip:{}", u.address())),
        "registrars": t.registrars.iter().map(|r| r.address()).collect::<Vec<_>>(),
        "username": t.username,
        "password": t.password.as_ref().map(|_| "***"),
        "codecs": t.codecs.iter().map(|c| c.name()).collect::<Vec<_>>(),
        "allow": t.allow.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "context": t.context,
        "max_calls": t.max_calls,
        "nat": t.nat,
        "dtmf": digits_word(t.dtmf),
        "srtp": srtp_word(t.srtp),
        "probe_s": t.probe.map(|p| p.as_secs()),
    })
}

fn cluster_settings(c: &ClusterSettings) -> Value {
    json!({
        "node": c.node,
        "store": c.store.urls,
        "sentinel": c.store.sentinel,
        "listen": c.listen,
        "advertise": c.advertise,
        "address": c.address,
    })
}

fn media_settings(c: &Media) -> Value {
    json!({
        "ports": [c.ports.0, c.ports.1],
        "browser_port": c.browser_port,
        "workers": c.workers,
        "codecs": c.codecs.iter().map(|c| c.name()).collect::<Vec<_>>(),
        "complexity": c.complexity,
        "timeout_s": c.watch.silent.map(|t| t.as_secs()),
        "hold_timeout_s": c.hold_timeout.map(|t| t.as_secs()),
        "stopped_after_s": c.watch.stopped.map(|t| t.as_secs()),
        "ask_every_s": c.watch.again.as_secs(),
        "answer_within_s": c.answer_within.as_secs()
    })
}

fn limits_settings(c: &Limits) -> Value {
    json!({
        "calls": c.calls,
        "calls_per_user": c.calls_per_user,
        "new_calls_per_second": c.new_calls_per_second,
        "new_calls_per_second_per_user": c.new_calls_per_second_per_user,
        "max_duration_s": c.max_duration.as_secs(),
        "texts_per_minute": c.texts_per_minute,
        "texts_per_minute_of_source": c.texts_per_minute_of_source,
        "text_size": c.text_size,
        "connections": c.connections,
        "connections_per_source": c.connections_per_source,
        "handshakes_per_source": c.handshakes_per_source
    })
}

fn api_settings(c: &Api) -> Value {
    json!({
        "tokens": c.tokens.iter().map(|t| json!({
            "name": t.name,
            "scope": t.scope.as_str()
        })).collect::<Vec<_>>(),
        "users": c.users.iter().map(|u| json!({
            "name": u.name,
            "scope": u.scope.as_str()
        })).collect::<Vec<_>>(),
        "oidc": c.oidc.as_ref().map(|o| json!({
            "issuer": o.issuer,
            "client_id": o.client_id,
            "scopes": o.scopes,
            "roles_claim": o.roles_claim,
            "roles": o.roles.iter().map(|(name, scope)| json!({
                "name": name,
                "scope": scope.as_str()
            })).collect::<Vec<_>>()
        })),
        "session_idle_s": c.sessions.idle.as_secs(),
        "session_longest_s": c.sessions.longest.as_secs(),
        "metrics": c.metrics
    })
}
