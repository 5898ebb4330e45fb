//! What the other nodes say of this node's calls while the store may not know whose they are.
//!
//! A process answers for itself. For the one before it a process answers once it knows what that
//! one had taken: somebody has that by then, and says so when asked next. So where a process is
//! over, the others' answers count from the round after that.

use super::member::Member;
use super::store::Process;
use super::succession::{Probe, ProbeAnswer};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// How often the others are asked.
pub(super) const ASK: Duration = Duration::from_secs(1);
/// How long their answers count.
const ANSWERED: Duration = Duration::from_millis(2_500);

/// What one of them said last. It was so when it was asked, not when that came.
struct Answer {
    from: SocketAddr,
    /// It had not taken this node's calls when this was asked.
    at: Instant,
    /// Another process of its node said so: when it was asked that first.
    over: Option<Instant>,
    /// It said so itself: what the process before it sent, the next one of a node does not know.
    /// Packets are vouched for by these alone.
    lives: Option<Instant>,
}

/// Whether the others took this node's calls.
#[derive(Default)]
pub(super) struct Inquiry {
    asked: Option<Instant>,
    /// Somebody is about to know more.
    soon: bool,
    /// Who is asked in this round, by the number of the probe.
    asking: BTreeMap<u64, Process>,
    /// No more than were asked.
    answers: BTreeMap<Process, Answer>,
    /// Who has taken this process's calls.
    denied: Option<SocketAddr>,
    /// Probes of lower numbers were another process's, which this one was.
    first: u64,
}

impl Inquiry {
    /// Of a process that begins now, whose first probe has this number or a later one.
    pub(super) fn from(first: u64) -> Inquiry {
        Inquiry { first, ..Inquiry::default() }
    }

    /// It is known whose this node's calls are.
    pub(super) fn rest(&mut self) {
        self.asked = None;
        self.asking.clear();
        self.answers.clear();
    }

    /// Asks all of these again, if it is time.
    pub(super) fn ask<'a>(
        &mut self,
        now: Instant,
        met: impl Iterator<Item = &'a Member>,
        next_id: &mut u64,
        probes: &mut Vec<Probe>,
    ) {
        if self.next_timeout().is_some_and(|at| now < at) {
            return;
        }
        (self.asked, self.soon) = (Some(now), false);
        self.asking.clear();
        for other in met {
            *next_id += 1;
            let of = other.process();
            self.asking.insert(*next_id, of.clone());
            probes.push(Probe { number: *next_id, to: other.advertise, of });
        }
        let asking = &self.asking;
        self.answers.retain(|process, _| asking.values().any(|asked| asked == process));
    }

    /// When they are to be asked next.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let wait = if self.soon { ASK / 4 } else { ASK };
        self.asked.map(|at| at + wait)
    }

    /// One of them has answered, or one that was probed for another reason.
    pub(super) fn answered(&mut self, from: SocketAddr, number: u64, answer: ProbeAnswer) {
        if answer == ProbeAnswer::Deposed {
            if number >= self.first {
                self.deny(from);
            }
            return;
        }
        let (Some(of), Some(at)) = (self.asking.get(&number), self.asked) else { return };
        let before = self.answers.get(of);
        let (over, lives) = match answer {
            ProbeAnswer::Lives => (None, Some(at)),
            ProbeAnswer::Succeeded => (before.and_then(|b| b.over).or(Some(at)), None),
            ProbeAnswer::Learns | ProbeAnswer::Deposed => {
                self.soon = true;
                return;
            }
        };
        self.soon |= over == Some(at);
        let lives = lives.or(before.and_then(|b| b.lives));
        self.answers.insert(of.clone(), Answer { from, at, over, lives });
    }

    /// The node there has this process's calls.
    pub(super) fn deny(&mut self, from: SocketAddr) {
        self.answers.retain(|_, answer| answer.from != from);
        self.denied = Some(from);
    }

    /// Who has them.
    pub(super) fn denied(&self) -> Option<SocketAddr> {
        self.denied
    }

    /// Nobody answers there.
    pub(super) fn unreachable(&mut self, at: SocketAddr) {
        self.answers.retain(|_, answer| answer.from != at);
    }

    /// Whether all of these have said lately that they did not take this node's calls.
    pub(super) fn is_cleared<'a>(
        &self,
        now: Instant,
        mut met: impl Iterator<Item = &'a Member>,
    ) -> bool {
        let over = self.answers.values().filter_map(|answer| answer.over).max();
        let counts = |a: &Answer| now < a.at + ANSWERED && over.is_none_or(|over| over < a.at);
        met.all(|other| self.answers.get(&other.process()).is_some_and(counts))
    }

    /// By when none of these had sent anything of this node's calls; `None`: one has not said so.
    pub(super) fn vouched<'a>(&self, met: impl Iterator<Item = &'a Member>) -> Option<Instant> {
        let lives = |other: &Member| self.answers.get(&other.process())?.lives;
        let all: Option<Vec<Instant>> = met.map(lives).collect();
        all?.into_iter().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(node: u16, epoch: u64) -> Member {
        Member::named(&format!("n{node}"), epoch, SocketAddr::from(([127, 0, 1, 1], node)))
    }

    /// A round of questions, and these answers.
    fn round(inquiry: &mut Inquiry, now: Instant, met: &[Member], answers: &[ProbeAnswer]) {
        let (mut next, mut probes) = (100, Vec::new());
        inquiry.ask(now, met.iter(), &mut next, &mut probes);
        assert_eq!(probes.len(), met.len());
        for (probe, answer) in probes.iter().zip(answers) {
            inquiry.answered(probe.to, probe.number, *answer);
        }
    }

    #[test]
    fn a_node_s_next_process_clears_once_it_knows_what_the_one_before_took_and_others_after_it() {
        use ProbeAnswer::{Learns, Lives, Succeeded};
        let (start, mut inquiry) = (Instant::now(), Inquiry::default());
        let at = |n: u32| start + n * ASK;
        let met = [member(1, 1), member(1, 2), member(2, 1)];
        round(&mut inquiry, at(0), &met, &[Learns, Lives, Lives]);
        assert!(!inquiry.is_cleared(at(0), met.iter()));
        assert!(inquiry.is_cleared(at(0), met[1..].iter()));
        assert_eq!(inquiry.next_timeout(), Some(at(0) + ASK / 4), "it will know soon");
        round(&mut inquiry, at(1), &met, &[Succeeded, Lives, Lives]);
        assert!(!inquiry.is_cleared(at(1), met.iter()), "the third may just have taken it");
        round(&mut inquiry, at(2), &met, &[Succeeded, Lives, Lives]);
        assert!(inquiry.is_cleared(at(2), met.iter()));
        assert!(!inquiry.is_cleared(at(2) + ANSWERED, met.iter()), "no answer counts for ever");
        assert_eq!(inquiry.vouched(met.iter()), None, "of packets it knows nothing");
        assert_eq!(inquiry.vouched(met[1..].iter()), Some(at(2)));
    }

    #[test]
    fn who_denies_is_believed_unless_another_process_had_asked() {
        let (now, met) = (Instant::now(), [member(1, 1)]);
        let mut inquiry = Inquiry::from(7);
        inquiry.answered(met[0].advertise, 6, ProbeAnswer::Deposed);
        assert_eq!(inquiry.denied(), None);
        round(&mut inquiry, now, &met, &[ProbeAnswer::Lives]);
        assert!(inquiry.is_cleared(now, met.iter()));
        inquiry.answered(met[0].advertise, u64::MAX, ProbeAnswer::Deposed);
        assert_eq!(inquiry.denied(), Some(met[0].advertise));
        assert!(!inquiry.is_cleared(now, met.iter()));
    }
}
