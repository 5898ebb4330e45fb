//! Packet indices reserved before they are used, so that who continues from a record of a stream
//! uses none of them a second time.
//!
//! A record says from which index on a successor may send; no packet with that index or a later one
//! is sent while a process that starts now could continue from that record. It stops being able to
//! once a newer record is known to have taken its place, or when the lease is over: a record that
//! old is refused. So a store that cannot write costs the record and not the stream.

use serde::{Deserialize, Serialize};
use smallvec::{SmallVec, smallvec};
use std::time::{Duration, Instant};

/// Indices a record reserves: 24 s of packets of 20 ms, and far below the 3,000 that RFC 3550's
/// receivers take for a loss (appendix A.1). They last for a lease and longer, so that a store that
/// confirms late, or not at all, holds no packet back.
pub const RESERVE: u64 = 1_200;
/// Where packets are shorter.
const LARGE_RESERVE: u64 = 2 * RESERVE;
/// Packets a second from which on the larger reserve is needed to last as long as a lease.
const FAST: u64 = RESERVE / LEASE.as_secs();
/// Reserves that differ by no more are one.
const SLACK: u64 = RESERVE / 12;
/// A record may be continued from for this long.
pub const LEASE: Duration = Duration::from_secs(20);
/// Records kept apart; in a lease there are two, or a few more if much changes.
const MOST: usize = 8;

/// A record that a successor may find.
#[derive(Clone, Copy, Debug)]
struct Reservation {
    number: u64,
    /// The first index that is the successor's.
    until: u64,
    taken: Instant,
}

/// The records that hold a stream back, for a successor that continues with its very next index:
/// number, first index that is not to be used, and age in milliseconds.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ReserveHold(Vec<(u64, u64, u64)>);

/// The reserve of one stream of indices.
#[derive(Debug, Default)]
pub struct Reserve {
    /// Indices are used below this.
    next: u64,
    /// Oldest first: neither `until` nor `taken` ever goes back.
    records: SmallVec<[Reservation; 2]>,
    /// When the newest record was made, and what was next then.
    made: Option<(Instant, u64)>,
}

impl Reserve {
    /// What a successor continues with from a record of this number, taken then: until it has made
    /// one of its own, the next successor could find the same.
    pub fn resume(number: u64, taken: Instant, next: u64) -> Reserve {
        let record = Reservation { number, until: next, taken };
        Reserve { next, records: smallvec![record], made: None }
    }

    /// What a successor continues with that uses the very next index: it is held back by the same
    /// records.
    pub(crate) fn take_over(held: ReserveHold, now: Instant, next: u64) -> Reserve {
        let record = |(number, until, age)| {
            let taken = now.checked_sub(Duration::from_millis(age)).unwrap_or(now);
            Reservation { number, until, taken }
        };
        let records = held.0.into_iter().take(MOST).map(record).collect();
        Reserve { next, records, made: None }
    }

    /// What holds it back now.
    pub(crate) fn held_back(&self, now: Instant) -> ReserveHold {
        // An age that is rounded down makes the lease last longer, never shorter.
        let age = |taken| now.saturating_duration_since(taken).as_millis() as u64;
        ReserveHold(self.records.iter().map(|r| (r.number, r.until, age(r.taken))).collect())
    }

    /// Whether a packet with this index repeats nothing that a successor sends.
    pub fn allows(&self, index: u64) -> bool {
        self.records.first().is_none_or(|record| index < record.until)
    }

    /// An index was used.
    pub fn used(&mut self, index: u64) {
        self.next = self.next.max(index + 1);
    }

    /// Whether a newer record is wanted soon: half of the newest reserve is used.
    pub fn is_low(&self) -> bool {
        self.records.last().is_some_and(|r| r.until < self.next + RESERVE / 2)
    }

    /// The first index of a successor, by a record of this number that is taken now; `next`: what
    /// is used next.
    pub fn record(&mut self, now: Instant, number: u64, next: u64) -> u64 {
        self.next = self.next.max(next);
        let newest = self.records.last().map_or(0, |r| r.until);
        let until = newest.max(self.next + self.size(now));
        self.made = Some((now, self.next));
        let record = Reservation { number, until, taken: now };
        let full = self.records.len() == MOST;
        match self.records.last_mut() {
            // The older reserve with the newer name and lease promises less, so it holds for both.
            Some(last) if until - last.until <= SLACK || full => {
                *last = Reservation { until: last.until, ..record };
                last.until
            }
            _ => {
                self.records.push(record);
                until
            }
        }
    }

    /// How many indices last for a lease, by the rate at which the last were used.
    fn size(&self, now: Instant) -> u64 {
        let fast = self.made.is_some_and(|(at, from)| {
            let passed = now.saturating_duration_since(at).as_millis() as u64;
            (self.next - from) * 1_000 > passed.max(1_000) * FAST
        });
        if fast { LARGE_RESERVE } else { RESERVE }
    }

    /// A successor finds the record of this number or a newer one.
    pub fn confirm(&mut self, number: u64) {
        self.records.retain(|r| r.number >= number);
    }

    /// Forgets the records that are refused by now.
    pub fn expire(&mut self, now: Instant) {
        self.records.retain(|r| now < r.taken + LEASE);
    }

    /// When the oldest record is refused from then on.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.records.first().map(|r| r.taken + LEASE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn use_up(reserve: &mut Reserve, from: u64) -> u64 {
        let mut index = from;
        while reserve.allows(index) && index < from + 100_000 {
            reserve.used(index);
            index += 1;
        }
        index
    }

    #[test]
    fn nothing_at_or_after_an_unconfirmed_record_s_end_is_used_before_its_lease_is_over() {
        let (mut reserve, start) = (Reserve::default(), Instant::now());
        let first = reserve.record(start, 1, 20_000);
        assert_eq!(first, 20_000 + RESERVE);
        assert!(!reserve.is_low());
        (20_000..20_700).for_each(|n| reserve.used(n));
        assert!(reserve.is_low(), "long before it is used up");
        let later = start + Duration::from_secs(10);
        let second = reserve.record(later, 2, 0);
        assert!(second > first && !reserve.is_low());
        assert_eq!(use_up(&mut reserve, 20_700), first, "the first may still be what is found");
        reserve.confirm(2);
        assert_eq!(use_up(&mut reserve, first), second);
        reserve.expire(later + LEASE - Duration::from_millis(1));
        assert!(!reserve.allows(second));
        assert_eq!(reserve.next_timeout(), Some(later + LEASE));
        reserve.expire(later + LEASE);
        assert!(reserve.allows(second));
    }

    #[test]
    fn records_without_use_reserve_nothing_more_and_however_many_there_are_few_are_kept() {
        let (mut reserve, start) = (Reserve::default(), Instant::now());
        let first = reserve.record(start, 0, 5);
        for n in 1..SLACK {
            reserve.used(4 + n);
            assert_eq!(reserve.record(start + Duration::from_millis(n), n, 5), first);
        }
        assert_eq!(reserve.records.len(), 1);
        // Used up again and again, and nothing is ever confirmed.
        let mut least = first;
        for n in SLACK..200 {
            reserve.next = least;
            let until = reserve.record(start + Duration::from_millis(n), n, least);
            assert!(until >= least);
            least = until;
        }
        assert_eq!(reserve.records.len(), MOST);
        assert!(!reserve.allows(first));
        reserve.confirm(199);
        assert_eq!(reserve.records.len(), 1);
        assert!(reserve.allows(first) && !reserve.allows(reserve.records[0].until));
    }

    #[test]
    fn a_successor_that_cannot_write_sends_once_the_record_it_found_has_expired() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        // Found 3 s after it was taken.
        let mut reserve = Reserve::resume(7, start, 20_000);
        let (mut sent, mut number) = (Vec::new(), 7);
        for (index, ms) in (20_000..23_000).zip((3_000..63_000).step_by(20)) {
            reserve.expire(at(ms));
            if (ms - 3_000) % 10_000 == 0 {
                number += 1;
                reserve.record(at(ms), number, index);
            }
            if reserve.allows(index) {
                reserve.used(index);
                sent.push((index, ms));
            }
        }
        let (first, began) = *sent.first().expect("it sends");
        assert_eq!(began, 20_000, "the lease of the record it found is over");
        assert_eq!(sent.len() as u64, 23_000 - first, "and continues without a break");
    }

    #[test]
    fn short_packets_have_a_reserve_that_lasts_as_long() {
        let (mut reserve, start) = (Reserve::default(), Instant::now());
        reserve.record(start, 1, 0);
        (0..601).for_each(|n| reserve.used(n));
        let until = reserve.record(start + Duration::from_secs(6), 2, 0);
        assert_eq!(until, 601 + LARGE_RESERVE);
    }
}
