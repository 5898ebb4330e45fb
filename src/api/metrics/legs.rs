//! What became of the packets of calls that have ended, by leg; every series is there from the
//! start, so that counting a call looks nothing up.

use super::{Label, Times, small_times};
use crate::call::Cdr;
use crate::media::Statistics;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// The series of one leg.
struct LegMetrics {
    received: Counter,
    sent: Counter,
    lost: Counter,
    reordered: Counter,
    duplicate: Counter,
    overdue: Counter,
    jitter: Histogram,
    round_trip: Histogram,
}

pub(super) struct Legs {
    packets: Family<Label, Counter>,
    lost: Family<Label, Counter>,
    reordered: Family<Label, Counter>,
    duplicate: Family<Label, Counter>,
    overdue: Family<Label, Counter>,
    jitter: Times,
    round_trip: Times,
    legs: [LegMetrics; 2],
}

impl Default for Legs {
    fn default() -> Legs {
        let [packets, lost, reordered, duplicate, overdue] =
            std::array::from_fn(|_| Family::<Label, Counter>::default());
        let [jitter, round_trip] =
            std::array::from_fn(|_| Times::new_with_constructor(small_times));
        let legs = ["a", "b"].map(|leg| {
            let of_leg = vec![("leg", leg.to_owned())];
            let by = |direction: &str| {
                packets
                    .get_or_create(&vec![
                        ("leg", leg.to_owned()),
                        ("direction", direction.to_owned()),
                    ])
                    .clone()
            };
            let one = |family: &Family<Label, Counter>| family.get_or_create(&of_leg).clone();
            let times = |family: &Times| family.get_or_create(&of_leg).clone();
            LegMetrics {
                received: by("in"),
                sent: by("out"),
                lost: one(&lost),
                reordered: one(&reordered),
                duplicate: one(&duplicate),
                overdue: one(&overdue),
                jitter: times(&jitter),
                round_trip: times(&round_trip),
            }
        });
        Legs { packets, lost, reordered, duplicate, overdue, jitter, round_trip, legs }
    }
}

impl Legs {
    pub(super) fn register(&self, r: &mut Registry) {
        r.register_with_unit(
            "rtp_jitter",
            "Interarrival jitter at the end of a call",
            Unit::Seconds,
            self.jitter.clone(),
        );
        r.register_with_unit(
            "rtp_round_trip",
            "Round trip by RTCP at the end of a call",
            Unit::Seconds,
            self.round_trip.clone(),
        );
        r.register(
            "rtp_packets",
            "RTP packets of ended calls, by leg and direction",
            self.packets.clone(),
        );
        r.register(
            "rtp_lost",
            "RTP packets of ended calls lost on the way to the gateway",
            self.lost.clone(),
        );
        r.register(
            "rtp_reordered",
            "RTP packets of ended calls that arrived after a later one",
            self.reordered.clone(),
        );
        r.register(
            "rtp_duplicate",
            "RTP packets of ended calls that arrived twice",
            self.duplicate.clone(),
        );
        r.register(
            "rtp_late",
            "Reordered packets that arrived too late to be decoded",
            self.overdue.clone(),
        );
    }

    /// Counts a call that has ended.
    pub(super) fn count(&self, cdr: &Cdr) {
        for (leg, figures) in self.legs.iter().zip([&cdr.caller_media, &cdr.callee_media]) {
            figures.iter().for_each(|figures| leg.count(figures));
        }
    }
}

impl LegMetrics {
    fn count(&self, figures: &Statistics) {
        self.received.inc_by(figures.received);
        self.sent.inc_by(u64::from(figures.sent));
        let order = [
            (&self.lost, figures.lost),
            (&self.reordered, figures.reordered),
            (&self.duplicate, figures.duplicate),
            (&self.overdue, figures.late),
        ];
        for (counter, n) in order {
            counter.inc_by(n);
        }
        figures.jitter.iter().for_each(|jitter| self.jitter.observe(jitter.as_secs_f64()));
        figures
            .round_trip
            .iter()
            .for_each(|round_trip| self.round_trip.observe(round_trip.as_secs_f64()));
    }
}
