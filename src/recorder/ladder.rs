//! A call as rows: messages with their sender, receiver and time, and the events between.
//!
//! [`rows`] makes them, `draw` prints them as text, Mermaid or SVG.

use super::mask::{readable, readable_body, readable_message, shown};
use super::sdp_rules::{LineRule, rules};
use super::{CallTrace, TraceEvent};
use crate::call::CallTimer;
use crate::media::LegId;
use crate::media::session::SessionEvent;
use crate::sdp::named_hosts::named_hosts;
use crate::sip::message::Message;
use crate::sip::parse::Framing;
use crate::sip::remarks::remarks;
use std::collections::HashSet;
use std::time::Duration;

/// One row.
#[derive(Clone, PartialEq, Debug)]
pub struct Row {
    /// Since the call began.
    pub at: Duration,
    /// What it shows.
    pub kind: RowKind,
}

#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs, reason = "as the page and the command line show it")]
pub enum RowKind {
    /// `lane`: 0 is the caller's; `sent`: by us. `text` is the whole message, secrets masked;
    /// `rules` are those by which a description in it was made of the other side's.
    Message {
        lane: usize,
        sent: bool,
        summary: String,
        repeated: bool,
        text: String,
        rules: Vec<LineRule>,
    },
    /// A route that was looked at; `why_not` if it did not take the call.
    Route { route: String, pattern: String, why_not: Option<String> },
    /// Something that is no message.
    Event { text: String, code: Option<String> },
}

/// The rows of a call.
pub fn rows(flight: &CallTrace) -> Vec<Row> {
    let mut talk = Talk::default();
    let mut out = Vec::with_capacity(flight.entries.len());
    let caller = flight.cdr.as_ref().map_or(crate::media::endpoint::CALLER_LEG, |c| c.caller_end);
    let name = |end: LegId| if end == caller { "caller" } else { "callee" };
    let mut last = Duration::ZERO;
    for (n, entry) in flight.entries.iter().enumerate() {
        let at = entry.at.saturating_duration_since(flight.started);
        if let TraceEvent::Routed(all) = &entry.what {
            out.extend(all.iter().map(|c| Row {
                at,
                kind: RowKind::Route {
                    route: shown(&c.route),
                    pattern: shown(&c.pattern),
                    why_not: c.why_not.as_deref().map(shown),
                },
            }));
            continue;
        }
        if n == super::HEAD && flight.skipped > 0 {
            let text = format!("… {} entries left out …", flight.skipped);
            out.push(Row { at: last, kind: RowKind::Event { text, code: None } });
        }
        last = at;
        let mut past = Vec::new();
        let kind = match &entry.what {
            TraceEvent::Message { lane, sent, whole: false, text } => {
                first_line(*lane, *sent, flight.text(*text))
            }
            TraceEvent::Message { lane, sent, whole: true, text } => {
                let (kind, remarks) = talk.row(*lane, *sent, flight.text(*text));
                past = remarks;
                kind
            }
            TraceEvent::Said { code, text } => RowKind::Event {
                text: String::from_utf8_lossy(flight.text(*text)).into_owned(),
                code: code.is_fault().then(|| code.to_string()),
            },
            TraceEvent::Routed(_) => continue,
            TraceEvent::Timer(timer) => match ran_out(*timer, &name) {
                Some(text) => RowKind::Event { text, code: None },
                None => continue,
            },
            TraceEvent::Media(event) => match words(event, &name) {
                Some(text) => RowKind::Event { text, code: None },
                None => continue,
            },
        };
        out.push(Row { at, kind });
        out.extend(past.into_iter().map(|what| {
            let text = format!("in that message: {}", shown(&what));
            Row { at, kind: RowKind::Event { text, code: None } }
        }));
    }
    out
}

/// A message of which only the first line was kept.
fn first_line(lane: usize, sent: bool, line: &[u8]) -> RowKind {
    let text = shown(&String::from_utf8_lossy(line));
    let summary = text.replace(" SIP/2.0", "").replace("SIP/2.0 ", "");
    RowKind::Message { lane, sent, summary, repeated: false, text, rules: Vec::new() }
}

/// What the messages so far say about the next.
#[derive(Default)]
struct Talk {
    /// To know one that is sent again.
    seen: HashSet<Vec<u8>>,
    /// The newest description of each lane.
    described: Vec<(usize, String)>,
}

impl Talk {
    /// The row of a whole message, and what in it was passed over.
    fn row(&mut self, lane: usize, sent: bool, text: &[u8]) -> (RowKind, Vec<String>) {
        let Ok(message) = Message::parse(text.to_vec(), Framing::WebSocket) else {
            let row = RowKind::Message {
                lane,
                sent,
                summary: "?".into(),
                repeated: false,
                text: readable(text),
                rules: Vec::new(),
            };
            return (row, Vec::new());
        };
        let mut past = if sent { Vec::new() } else { remarks(&message) };
        if let Some(sdp) = message.body_of("application/sdp").filter(|_| !sent) {
            let asked = |name| format!("c= names {name}, whose address is taken from DNS");
            past.extend(named_hosts(sdp).into_iter().map(asked));
        }
        let rules = match readable_sdp(&message) {
            Some(sdp) if sent => rules(self.of_another(lane), &sdp),
            Some(sdp) => {
                self.described.retain(|(l, _)| *l != lane);
                self.described.push((lane, sdp));
                Vec::new()
            }
            None => Vec::new(),
        };
        (of_message(lane, sent, &message, &mut self.seen, rules), past)
    }

    /// The newest description that came on another lane.
    fn of_another(&self, lane: usize) -> Option<&str> {
        self.described.iter().rev().find(|(l, _)| *l != lane).map(|(_, sdp)| sdp.as_str())
    }
}

/// The description of a message, secrets masked.
fn readable_sdp(message: &Message) -> Option<String> {
    let sdp = message.body_of("application/sdp")?;
    Some(readable_body("application/sdp", sdp))
}

/// Returns what it means that a timer ran out, or `None` if its effect is visible anyway.
fn ran_out(timer: CallTimer, name: &impl Fn(LegId) -> &'static str) -> Option<String> {
    Some(match timer {
        CallTimer::Ring => {
            "timer: it rang, or was dialled, for as long as the route lets it".to_owned()
        }
        CallTimer::Locate => {
            "timer: the store did not say in time at which node the callee is".to_owned()
        }
        CallTimer::Silent(_) => {
            "timer: no sign of life from the trunk within next_on's silent:…".to_owned()
        }
        CallTimer::MaxDuration => "timer: limits.max_duration is reached".to_owned(),
        CallTimer::FlowGrace(end) => {
            format!("timer: the {} did not come back in time (sip.flow_grace)", name(end))
        }
        CallTimer::Probe(end) => {
            format!("timer: the {} did not answer whether it knows the call", name(end))
        }
        CallTimer::OtherHalf => "timer: the call it is joined with was not taken over".to_owned(),
        CallTimer::Where => "timer: the store is asked where the browser came back".to_owned(),
        CallTimer::Path(end) => format!(
            "timer: the {}'s browser is to be asked for new addresses (ICE restart)",
            name(end)
        ),
        CallTimer::Session(end) => format!(
            "timer: the session with the {} is to be refreshed, or was not (RFC 4028)",
            name(end)
        ),
        CallTimer::Glare(end) => format!(
            "timer: our re-INVITE to the {} met its own and is tried again (RFC 3261 section 14.1)",
            name(end)
        ),
        CallTimer::Transferred => "timer: the transferor has not hung up".to_owned(),
        // What they repeat is drawn as repeated.
        CallTimer::Ack(_) | CallTimer::Reliable => return None,
        // The step that is taken again has its own line.
        CallTimer::Again => return None,
    })
}

fn of_message(
    lane: usize,
    sent: bool,
    message: &Message,
    seen: &mut HashSet<Vec<u8>>,
    rules: Vec<LineRule>,
) -> RowKind {
    let repeated = !seen.insert(message.to_bytes());
    RowKind::Message {
        lane,
        sent,
        summary: summary(message),
        repeated,
        text: readable_message(message),
        rules,
    }
}

/// `INVITE (opus +3, 2 ICE)`, `407 Proxy Authentication Required`, `200 OK (INVITE, pcmu)`.
pub fn summary(message: &Message) -> String {
    let mut inside = Vec::new();
    let first = if message.is_request() {
        let digest = message
            .header(crate::sip::HeaderName::Authorization)
            .or(message.header(crate::sip::HeaderName::ProxyAuthorization))
            .is_some();
        format!("{}{}", shown(message.method_token()), if digest { " + digest" } else { "" })
    } else {
        let method = message.cseq().map(|c| shown(c.method)).unwrap_or_default();
        if method != "INVITE" {
            inside.push(method);
        }
        format!("{} {}", message.status(), shown(message.reason_phrase()))
    };
    inside.extend(message.body_of("application/sdp").map(media_words));
    if inside.is_empty() { first } else { format!("{first} ({})", inside.join(", ")) }
}

/// The codecs of the first audio section by name, ICE candidates, and its direction if it is not
/// both ways.
fn media_words(sdp: &[u8]) -> String {
    let text = String::from_utf8_lossy(sdp);
    let names: Vec<String> = text
        .lines()
        .filter_map(|l| l.strip_prefix("a=rtpmap:")?.split_once(' '))
        .map(|(_, format)| shown(format.split('/').next().unwrap_or_default()).to_ascii_lowercase())
        .filter(|name| !matches!(name.as_str(), "telephone-event" | "cn" | "red"))
        .collect();
    let fixed = |pt: &str| match pt {
        "0" => Some("pcmu"),
        "8" => Some("pcma"),
        "9" => Some("g722"),
        _ => None,
    };
    let line = text.lines().find(|l| l.starts_with("m=audio")).unwrap_or_default();
    let bare: Vec<String> = if names.is_empty() {
        line.split(' ').skip(3).filter_map(fixed).map(str::to_owned).collect()
    } else {
        Vec::new()
    };
    let mut words: Vec<String> =
        names.into_iter().chain(bare).fold(Vec::new(), |mut known, name| {
            if !known.contains(&name) {
                known.push(name);
            }
            known
        });
    if words.len() > 2 {
        let more = words.len() - 1;
        words.truncate(1);
        words.push(format!("+{more}"));
    }
    let candidates = text.lines().filter(|l| l.starts_with("a=candidate:")).count();
    if candidates > 0 {
        words.push(format!("{candidates} ICE"));
    }
    words.extend(
        ["sendonly", "recvonly", "inactive"]
            .into_iter()
            .filter(|d| text.lines().any(|l| l == format!("a={d}")))
            .map(str::to_owned),
    );
    words.join(" ")
}

/// Returns what a media event says to a person, or `None` if it is no news of its own.
fn words(event: &SessionEvent, name: &impl Fn(LegId) -> &'static str) -> Option<String> {
    Some(match event {
        SessionEvent::Connected { end, address } => {
            format!("{}: ICE connected, it is at {address}", name(*end))
        }
        SessionEvent::Secured { end, profile } => format!("{}: DTLS done, {profile}", name(*end)),
        SessionEvent::DtlsFailed { end, why } => {
            format!("{}: DTLS failed: {}", name(*end), shown(&why.to_string()))
        }
        SessionEvent::Flowing { end } => format!("{}: first packet of media", name(*end)),
        SessionEvent::Silent { end } => {
            format!("{}: nothing from it yet, though the other side sends", name(*end))
        }
        SessionEvent::Stopped { end } => {
            format!("nothing comes from the {} any more", name(*end))
        }
        SessionEvent::Resumed { end } => format!("{}: media again", name(*end)),
        SessionEvent::ConsentLost { end } => {
            format!("{}: no answer to consent checks for 30 s", name(*end))
        }
        SessionEvent::Faded { end, since } => {
            format!("{}: nothing from its browser for {} s", name(*end), since.as_secs())
        }
        SessionEvent::Regained { end } => format!("{}: its browser is heard again", name(*end)),
        SessionEvent::NoMedia { since } => {
            format!("no sign of either side for {} s", since.as_secs())
        }
        SessionEvent::Digit { end, .. } => format!("a digit for the {} by signalling", name(*end)),
        SessionEvent::Played { .. } | SessionEvent::Quality { .. } | SessionEvent::Checkpoint => {
            return None;
        }
    })
}
