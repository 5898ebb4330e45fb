//! What a test call tells who made it: as lines, and as JSON.

use super::media::Figures;
use super::phone::{Phone, PhoneOutcome};
use crate::cli::print;
use serde_json::{Value, json};
use std::time::Duration;
use webtrunk::codec::Codec;

fn word(mos: f32) -> &'static str {
    match mos {
        m if m >= 4.0 => "good",
        m if m >= 3.6 => "fair",
        m if m >= 3.1 => "poor",
        _ => "bad",
    }
}

/// Prints how it sounded.
pub(super) fn print(phone: &Phone<'_>, outcome: &PhoneOutcome, f: &Figures) {
    if outcome.answered.is_none() {
        return;
    }
    if outcome.ended_by == "them" {
        phone.say(&format!("  ✓ hung up       by the far end: {}", outcome.why));
    }
    print_figures(phone, f);
    if phone.args.speech {
        match phone.media.echo() {
            Some(e) => phone.say(&format!(
                "  echo             {:.0} ms from mouth to ear and back, likeness {:.2}, \
                 {} of {} sweeps",
                e.delay.as_secs_f64() * 1e3,
                e.likeness,
                e.came_back,
                e.said
            )),
            None => phone.say("  echo             our speech did not come back"),
        }
    }
    if let Some(path) = &phone.args.record {
        phone.say(&format!("recorded {} (8 kHz, stereo: left us, right them)", path.display()));
    }
}

fn print_figures(phone: &Phone<'_>, f: &Figures) {
    let percent =
        |share: Option<f32>| share.map_or("-".to_owned(), |s| format!("{:.1} %", 100.0 * s));
    let mos = |m: Option<f32>| m.map_or("-".to_owned(), |m| format!("{m:.2} {}", word(m)));
    let ms = |d: Option<Duration>| {
        d.map_or("-".to_owned(), |d| format!("{:.1} ms", d.as_secs_f64() * 1e3))
    };
    let heard = f.was_heard();
    phone.say(&format!("\n  quality          {:<16} out (by their RTCP)", "in"));
    let came = format!("{} of {}", f.received, f.expected);
    phone.say(&format!("  packets          {came:<16} {}", f.sent));
    let (lost, reported) = (percent(heard.then_some(f.loss)), percent(f.reported_loss));
    phone.say(&format!("  loss             {lost:<16} {reported}"));
    let (jitter, reported) = (ms(heard.then_some(f.jitter)), ms(f.reported_jitter));
    phone.say(&format!("  jitter           {jitter:<16} {reported}"));
    phone.say(&format!("  round trip       {}", ms(f.round_trip)));
    phone.say(&format!(
        "  MOS              {:<16} {:<12} E-model G.107, estimated from the network",
        mos(f.mos_in),
        mos(f.mos_out)
    ));
    match f.level.filter(|_| heard) {
        Some(level) => phone.say(&format!(
            "  level            {:<16} silence {:.0} %",
            format!("{level:.0} dBFS"),
            100.0 * f.silence
        )),
        None => phone.say("  level            nothing was heard: one-way audio"),
    }
}

/// Prints what the gateway says of it.
pub(super) fn print_verdict(seen: &Value) {
    let Some(call) = seen["call"].as_str() else { return };
    let verdict = &seen["verdict"];
    let text = |key: &str| verdict[key].as_str().unwrap_or_default();
    match verdict["code"].as_str() {
        Some(code) => print::line(&format!(
            "\n{code}  {}\n         Likely: {}\n         Fix:    {}\n         webtrunk trace \
                {call}",
            text("sentence"),
            text("likely"),
            text("fix")
        )),
        None => print::line(&format!("\nwebtrunk trace {call} shows all of it")),
    }
}

/// All of it, for a program.
pub(super) fn as_json(
    phone: &Phone<'_>,
    outcome: &PhoneOutcome,
    f: &Figures,
    seen: &Value,
) -> Value {
    let ms = |d: Option<Duration>| d.map(|d| d.as_millis() as u64);
    let exact = |d: Duration| d.as_secs_f64() * 1e3;
    let echo = phone.media.echo();
    json!({
        "target": phone.args.target,
        "as": phone.login.user,
        "sip_code": outcome.status,
        "why": outcome.why,
        "ringing_ms": ms(outcome.rang),
        "answered_ms": ms(outcome.answered),
        "talked_s": outcome.talked.as_secs_f64(),
        "hung_up_by": outcome.answered.map(|_| outcome.ended_by),
        "heard": outcome.answered.map(|_| f.was_heard()),
        "codec": phone.media.codec().map(Codec::name),
        "packets_in": f.received,
        "packets_expected": f.expected,
        "packets_out": f.sent,
        "loss_in": f.was_heard().then_some(f.loss),
        "loss_out": f.reported_loss,
        "jitter_ms": f.was_heard().then(|| exact(f.jitter)),
        "jitter_out_ms": f.reported_jitter.map(exact),
        "rtt_ms": f.round_trip.map(exact),
        "mos_in_estimated": f.mos_in,
        "mos_out_estimated": f.mos_out,
        "echo_ms": echo.as_ref().map(|e| exact(e.delay)),
        "echo_likeness": echo.as_ref().map(|e| e.likeness),
        "level_dbfs": f.level,
        "silence": f.silence,
        "call": seen["call"],
        "verdict": seen["verdict"],
    })
}
