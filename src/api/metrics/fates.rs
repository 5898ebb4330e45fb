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
    /// The network did its part ([`Tried::is_effective`]).
    effective: u64,
    /// The newest times to ring, milliseconds, as a ring.
    delays: Vec<u32>,
    next: usize,
    mos: f32,
    last_failure: Option<(u16, Instant)>,
}

const DELAYS: usize = 256;

impl Fate {
    fn note_delay(&mut self, ms: u32) {
        if self.delays.len() < DELAYS {
            self.delays.push(ms);
        } else {
            self.delays[self.next % DELAYS] = ms;
        }
        self.next += 1;
    }
}

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
            fate.effective += u64::from(tried.is_effective());
            let rang = tried.rang.map(|rang| rang.as_millis() as u64);
            if let Some(delay) = rang.or(answered.then_some(tried.ms)) {
                fate.note_delay(delay.min(u64::from(u32::MAX)) as u32);
            }
            if !answered {
                // A caller that hung up before the answer is no failure of the trunk.
                if tried.status != Some(487) || tried.refused {
                    fate.last_failure = Some((tried.status.unwrap_or(0), now));
                }
                continue;
            }
            if let Some(mos) = cdr.callee_media.as_ref().and_then(|b| b.mos.0) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::CallId;
    use crate::cdr::Party;
    use crate::cdr::Tried;
    use crate::media::Statistics;
    use crate::sip::message::Message;
    use crate::sip::parse::Framing;
    use std::time::Duration;

    fn figures(tries: &[(u16, Option<u64>, bool)], mos: Option<f32>) -> Value {
        let invite = "INVITE sip:1@b SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\n\
                      To: <sip:1@b>\r\nCall-ID: 1\r\nCSeq: 1 INVITE\r\n\r\n";
        let invite = Message::parse(invite.into(), Framing::Datagram).expect("read");
        let (fates, now) = (Fates::default(), Instant::now());
        for &(status, rang, refused) in tries {
            let mut cdr = Cdr::new(CallId(1), now, Party::Number("1".into()), &invite);
            cdr.tried.push(Tried {
                target: Party::Trunk("t".into()),
                status: (status != 0).then_some(status),
                ms: 5_000,
                rang: rang.map(Duration::from_millis),
                refused,
            });
            cdr.callee_media = Some(Statistics { mos: (mos, Some(4.4)), ..Statistics::default() });
            fates.count(&cdr, now);
        }
        let mut trunk = json!({ "trunk": "t" });
        fates.describe(&mut trunk);
        trunk
    }

    #[test]
    fn a_trunk_that_never_answers_has_a_ratio_of_nought_and_no_delay() {
        // Silence, silence until the ring time, and a caller who gave up in it.
        let trunk = figures(&[(408, None, false), (0, None, false), (487, None, false)], None);
        assert_eq!((&trunk["asr"], &trunk["ner"]), (&json!(0.0), &json!(0.0)));
        assert_eq!((&trunk["pdd_ms_p50"], &trunk["mos_estimated"]), (&json!(null), &json!(null)));
        assert_eq!(trunk["last_call_failure"]["sip_code"], 0, "who hung up failed nobody");
    }

    #[test]
    fn what_people_do_is_no_fault_of_the_network() {
        for people in [
            (200, Some(10), false),
            (486, None, true),
            (603, Some(10), true),
            (404, None, true),
            (487, Some(10), false),
            (0, Some(10), false),
        ] {
            assert_eq!(figures(&[people], None)["ner"], 1.0, "{people:?}");
        }
        for network in [(503, None, true), (500, Some(10), true), (488, Some(10), false)] {
            assert_eq!(figures(&[network], None)["ner"], 0.0, "{network:?}");
        }
    }

    #[test]
    fn the_delay_is_the_trunks_own_and_the_score_that_of_what_it_said() {
        let trunk = figures(&[(200, Some(700), false), (200, None, false)], None);
        assert_eq!((&trunk["pdd_ms_p50"], &trunk["pdd_ms_p95"]), (&json!(5_000), &json!(5_000)));
        assert_eq!(trunk["mos_estimated"], json!(null), "nobody was heard");
        assert_eq!(figures(&[(200, None, false)], Some(3.9))["mos_estimated"], 3.9);
    }
}
