//! What people read of the calls of a lab.

use crate::lab::Lab;
use webtrunk::event::Event;
use webtrunk::recorder::ladder::{RowKind, rows};

/// All of it: events as the log writes them, ladders, verdicts.
pub(crate) fn read_of(lab: &Lab) -> Vec<String> {
    let mut texts: Vec<String> = lab.notes.iter().map(Event::to_string).collect();
    for cdr in lab.ended() {
        texts.push(cdr.why.clone());
        texts.extend(cdr.transfer_failed.clone());
        texts.extend(cdr.verdict.iter().map(|verdict| verdict.sentence.clone()));
        texts.extend(cdr.transfers.iter().cloned());
        for row in lab.gateway.recorder.get(cdr.call).map(rows).unwrap_or_default() {
            texts.push(match row.kind {
                RowKind::Message { summary, .. } => summary,
                RowKind::Route { route, why_not, .. } => route + &why_not.unwrap_or_default(),
                RowKind::Event { text, .. } => text,
            });
        }
    }
    texts
}
