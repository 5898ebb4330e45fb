//! A call's media session: where it is, and what the caller hears before somebody talks to it.
//!
//! What holds of it:
//! - The caller hears one thing: a prompt, our ringback, or the early media of one early dialog.
//! - Ringback begins once, and ends when an end is bridged.
//! - All commands for the session go to its worker, in the order they are given.

use super::{CallContext, CallId};
use crate::media::LegId;
use crate::media::player::PlaySource;
use crate::sdp::Local;
use crate::worker::{OpenKind, WorkerCommand};

/// A call's media.
pub(crate) struct CallMedia {
    session: u64,
    worker: usize,
    /// The branch, and the To tag of its early dialog, whose early media the caller hears.
    early_source: Option<(u16, String)>,
    /// An answered caller is played ringing.
    ringback: bool,
    /// A prompt is what the caller hears; the route continues at its end.
    prompt: bool,
    /// An operator has separated the two.
    held_by_operator: bool,
}

impl CallMedia {
    /// The session of `call`, on this worker.
    pub(crate) fn new(call: CallId, worker: usize) -> CallMedia {
        CallMedia {
            session: call.0,
            worker,
            early_source: None,
            ringback: false,
            prompt: false,
            held_by_operator: false,
        }
    }

    /// The session of a call of an earlier process, whose two an operator may have separated.
    pub(super) fn restore(call: CallId, worker: usize, apart: bool) -> CallMedia {
        CallMedia { held_by_operator: apart, ..CallMedia::new(call, worker) }
    }

    /// Whether an operator has separated the two.
    pub(super) fn is_held_by_operator(&self) -> bool {
        self.held_by_operator
    }

    /// The worker that has the session.
    pub(crate) fn worker(&self) -> usize {
        self.worker
    }

    /// Where an end is: worker, session, end.
    pub(super) fn place(&self, end: LegId) -> (usize, u64, LegId) {
        (self.worker, self.session, end)
    }

    /// Opens an end; its SSRC and CNAME are those its description names.
    pub(super) fn open(&self, cx: &mut CallContext<'_>, end: LegId, kind: OpenKind, local: &Local) {
        let (session, seed) = (self.session, cx.random_u64());
        let (ssrc, cname) = (local.ssrc, local.cname.clone());
        cx.media(self.worker, WorkerCommand::Open { session, end, kind, ssrc, cname, seed });
    }

    /// Joins two ends: what was played to them stops.
    pub(super) fn bridge(&mut self, cx: &mut CallContext<'_>, a: LegId, b: LegId) {
        self.ringback = false;
        cx.media(self.worker, WorkerCommand::Bridge { session: self.session, a, b });
    }

    /// Takes an end off the one it is joined to.
    pub(super) fn unbridge(&self, cx: &mut CallContext<'_>, end: LegId) {
        cx.media(self.worker, WorkerCommand::Unbridge { session: self.session, end });
    }

    /// The page of an end is away for a while, or is back.
    pub(super) fn away(&self, cx: &mut CallContext<'_>, end: LegId, away: bool) {
        cx.media(self.worker, WorkerCommand::Away { session: self.session, end, away });
    }

    /// Closes an end.
    pub(super) fn close_end(&self, cx: &mut CallContext<'_>, end: LegId) {
        cx.media(self.worker, WorkerCommand::CloseEnd { session: self.session, end });
    }

    /// Closes the session.
    pub(super) fn close(&self, cx: &mut CallContext<'_>) {
        cx.media(self.worker, WorkerCommand::Close { session: self.session });
    }

    /// Presses a digit towards an end.
    pub(super) fn digit(
        &self,
        cx: &mut CallContext<'_>,
        end: LegId,
        (event, length): (u8, std::time::Duration),
    ) {
        let session = self.session;
        cx.media(self.worker, WorkerCommand::Digit { session, end, event, length });
    }

    /// A far end of our own.
    pub(super) fn far_end(
        &self,
        cx: &mut CallContext<'_>,
        end: LegId,
        command: impl FnOnce(u64, LegId) -> WorkerCommand,
    ) {
        cx.media(self.worker, command(self.session, end));
    }

    fn play(&self, cx: &mut CallContext<'_>, end: LegId, source: PlaySource) {
        cx.media(self.worker, WorkerCommand::Play { session: self.session, end, source });
    }

    /// Plays a prompt to an end: [`take_prompt_end`](Self::take_prompt_end) hears of its end.
    pub(super) fn prompt(&mut self, cx: &mut CallContext<'_>, end: LegId, source: PlaySource) {
        self.prompt = true;
        self.play(cx, end, source);
    }

    /// Whether something that came to its end was a prompt the route waits for.
    pub(super) fn take_prompt_end(&mut self) -> bool {
        std::mem::take(&mut self.prompt)
    }

    /// Plays ringing to an end, unless early media is heard, or it rings already.
    pub(super) fn ringback(&mut self, cx: &mut CallContext<'_>, end: LegId) {
        if self.early_source.is_none() && !self.ringback {
            self.ringback = true;
            self.play(cx, end, PlaySource::Ringback);
        }
    }

    /// Whether the caller hears no other early dialog than this one.
    pub(super) fn may_hear(&self, branch: u16, tag: &str) -> bool {
        self.early_source.as_ref().is_none_or(|(b, t)| *b == branch && t == tag)
    }

    /// Whether the caller hears this early dialog.
    pub(super) fn hears(&self, branch: u16, tag: &str) -> bool {
        self.early_source.is_some() && self.may_hear(branch, tag)
    }

    /// The branch whose early media the caller hears.
    pub(super) fn early_branch(&self) -> Option<u16> {
        self.early_source.as_ref().map(|(branch, _)| *branch)
    }

    /// The caller hears this early dialog from now on.
    pub(super) fn hear(&mut self, branch: u16, tag: String) {
        self.early_source = Some((branch, tag));
    }

    /// This branch is not heard any more.
    pub(super) fn unhear(&mut self, branch: u16) {
        self.early_source.take_if(|(b, _)| *b == branch);
    }

    /// Nothing is heard of a step that is over.
    pub(super) fn step_over(&mut self) {
        (self.early_source, self.prompt) = (None, false);
    }

    /// Whether a prompt is what the caller hears.
    pub(super) fn plays_prompt(&self) -> bool {
        self.prompt
    }

    /// Another end takes the caller's place: nothing is played to it yet.
    pub(super) fn forget_listener(&mut self) {
        self.ringback = false;
    }

    /// Another party is connected: nothing is heard of those before.
    pub(super) fn begin_anew(&mut self) {
        (self.early_source, self.ringback) = (None, false);
    }

    /// An operator separates the two ends, who hear a tune, or joins them again.
    pub(super) fn hold(&mut self, cx: &mut CallContext<'_>, (a, b): (LegId, LegId), apart: bool) {
        if std::mem::replace(&mut self.held_by_operator, apart) == apart {
            return;
        }
        if apart {
            [a, b].into_iter().for_each(|end| self.play(cx, end, PlaySource::Tune));
        } else {
            cx.media(self.worker, WorkerCommand::Bridge { session: self.session, a, b });
        }
    }

    /// Nobody is held by an operator any more.
    pub(super) fn forget_hold(&mut self) {
        self.held_by_operator = false;
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{CALL, CallBench};
    use super::*;

    const A: LegId = LegId(0);
    const B: LegId = LegId(1);

    fn commands(bench: &mut CallBench) -> Vec<String> {
        let name = |c: &WorkerCommand| format!("{c:?}").split([' ', '{']).next().map(str::to_owned);
        bench.commands().iter().filter_map(name).collect()
    }

    #[test]
    fn ringback_begins_once_and_ends_with_a_bridge() {
        let (mut bench, mut media) = (CallBench::new(), CallMedia::new(CALL, 0));
        media.ringback(&mut bench.cx(), A);
        media.ringback(&mut bench.cx(), A);
        media.bridge(&mut bench.cx(), A, B);
        media.ringback(&mut bench.cx(), A);
        assert_eq!(commands(&mut bench), ["Play", "Bridge", "Play"]);
    }

    #[test]
    fn one_early_dialog_is_heard() {
        let (mut bench, mut media) = (CallBench::new(), CallMedia::new(CALL, 0));
        assert!(media.may_hear(1, "x") && !media.hears(1, "x"));
        media.hear(1, "x".into());
        assert!(media.hears(1, "x") && !media.may_hear(1, "y") && !media.may_hear(2, "x"));
        media.ringback(&mut bench.cx(), A);
        assert!(commands(&mut bench).is_empty(), "who is heard rings itself");
        media.unhear(2);
        assert_eq!(media.early_branch(), Some(1));
        media.unhear(1);
        assert_eq!(media.early_branch(), None);
    }

    #[test]
    fn a_prompt_ends_once() {
        let (mut bench, mut media) = (CallBench::new(), CallMedia::new(CALL, 0));
        assert!(!media.take_prompt_end(), "a tone's end is nobody's");
        media.prompt(&mut bench.cx(), A, PlaySource::Tune);
        assert!(media.take_prompt_end() && !media.take_prompt_end());
        media.prompt(&mut bench.cx(), A, PlaySource::Tune);
        media.step_over();
        assert!(!media.take_prompt_end(), "the route continued without it");
    }

    #[test]
    fn an_operators_hold_is_done_once() {
        let (mut bench, mut media) = (CallBench::new(), CallMedia::new(CALL, 0));
        media.hold(&mut bench.cx(), (A, B), false);
        media.hold(&mut bench.cx(), (A, B), true);
        media.hold(&mut bench.cx(), (A, B), true);
        media.hold(&mut bench.cx(), (A, B), false);
        assert_eq!(commands(&mut bench), ["Play", "Play", "Bridge"]);
    }
}
