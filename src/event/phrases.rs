//! Phrases that rows of the table share.

use crate::cdr::{Cdr, HangupBy, Party};
use crate::printable::brief;
use std::fmt::{self, Formatter};
use std::net::{IpAddr, SocketAddr};

pub(super) fn listed(ips: &[IpAddr]) -> String {
    ips.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// What came to the core, and from where if from a network.
pub(super) fn input_of(from: Option<SocketAddr>) -> String {
    from.map_or_else(|| "an input".to_owned(), |from| format!("what came from {from}"))
}

/// Who answered, as a record writes it.
pub(super) fn answerer(by: Option<&Party>) -> String {
    by.map_or_else(|| "a built-in far end".to_owned(), Party::as_callee)
}

/// What a record says in one line.
pub(super) fn ended(cdr: &Cdr, f: &mut Formatter<'_>) -> fmt::Result {
    let Some(talked) = cdr.talked() else {
        return write!(f, "not answered ({}): {}", cdr.status, brief(&cdr.why));
    };
    let by = cdr.by.map_or("?", HangupBy::as_str);
    write!(f, "ended by {by}  {:.1} s  {}{}", talked.as_secs_f32(), quality(cdr), brief(&cdr.why))?;
    match cdr.fault().filter(|verdict| verdict.sentence != cdr.why) {
        Some(verdict) => write!(f, "  {}", brief(&verdict.sentence)),
        None => Ok(()),
    }
}

/// The worst of both legs and directions: what the people on the call had to live with.
fn quality(cdr: &Cdr) -> String {
    let known = [&cdr.caller_media, &cdr.callee_media].into_iter().flatten();
    let loss = known
        .filter_map(|s| Some(s.packets_lost()? as f32 / (s.lost + s.received) as f32))
        .max_by(f32::total_cmp);
    let mos = cdr.score().map(|mos| format!("MOS {mos:.1} (estimated)  "));
    let loss = loss.map(|loss| format!("loss {:.1} %  ", 100.0 * loss));
    [mos, loss].into_iter().flatten().collect()
}
