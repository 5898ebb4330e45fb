//! What trunks' calls came to, for `webtrunk trunks`: ASR, NER, post-dial delay (RFC 6076).

use crate::call::Cdr;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

#[derive(Clone, Debug, Default)]
struct Fate {
    attempts: u64,
    answered: u64,
    /// Answered, busy, not answered, declined: the network did its part (RFC 6076, NER).
    effective: u64,
    /// The newest times to ring, milliseconds, as a ring.
    delays: Vec<u32>,
    next: usize,
    mos: f32,
    last_failure: Option<(u16, Instant)>,
}

const DELAYS: usize = 256;

/// By trunk.
#[derive(Debug, Default)]
pub(super) struct Fates(Mutex<BTreeMap<String, Fate>>);

impl Fates {
    /// What became of each try at a trunk.
    pub(super) fn count(&self, cdr: &Cdr, now: Instant) {
        let mut fates = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for tried in &cdr.tried {
            let Some(name) = tried.target.trunk() else { continue };
            let fate = fates.entry(name.to_owned()).or_default();
            fate.attempts += 1;
            let answered = tried.status == Some(200);
            fate.answered += u64::from(answered);
            fate.effective += u64::from(
                answered
                    || matches!(
                        tried.status,
                        Some(404 | 408 | 410 | 480 | 484 | 486 | 487 | 600 | 603 | 604)
                    ),
            );
            if !answered {
                fate.last_failure = Some((tried.status.unwrap_or(0), now));
                continue;
            }
            let rang = cdr
                .ringing
                .or(cdr.answered)
                .map_or(0, |r| r.saturating_duration_since(cdr.start).as_millis() as u32);
            if fate.delays.len() < DELAYS {
                fate.delays.push(rang);
            } else {
                fate.delays[fate.next % DELAYS] = rang;
            }
            fate.next += 1;
            if let Some(mos) = cdr.b.as_ref().and_then(|b| b.mos.0) {
                fate.mos = if fate.mos == 0.0 { mos } else { fate.mos * 0.9 + mos * 0.1 };
            }
        }
    }

    /// Adds them to a trunk of the API.
    pub(super) fn describe(&self, trunk: &mut Value) {
        let fates = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(fate) = trunk["trunk"].as_str().and_then(|name| fates.get(name)) else { return };
        let mut delays = fate.delays.clone();
        delays.sort_unstable();
        let percentile = |p: usize| {
            delays.get((delays.len() * p / 100).min(delays.len().saturating_sub(1))).copied()
        };
        let share = |n: u64| (fate.attempts > 0).then(|| n as f64 / fate.attempts as f64);
        trunk["attempts"] = json!(fate.attempts);
        trunk["asr"] = json!(share(fate.answered));
        trunk["ner"] = json!(share(fate.effective));
        trunk["pdd_ms_p50"] = json!(percentile(50));
        trunk["pdd_ms_p95"] = json!(percentile(95));
        trunk["mos_estimated"] =
            json!((fate.mos > 0.0).then(|| (f64::from(fate.mos) * 10.0).round() / 10.0));
        trunk["last_call_failure"] = json!(
            fate.last_failure
                .map(|(status, at)| json!({ "sip_code": status, "ago_s": at.elapsed().as_secs() }))
        );
    }
}
