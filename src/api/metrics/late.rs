//! The workers' lateness as a histogram, read when somebody scrapes.

use crate::worker::lateness::{BOUNDS_MS, Lateness};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct Late(pub Arc<Lateness>);

impl Collector for Late {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let (counts, sum) = self.0.read();
        let bounds = BOUNDS_MS.iter().map(|ms| *ms as f64 / 1_000.0).chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(counts).collect();
        let mut metric = encoder.encode_descriptor(
            "media_tick_late",
            "How late the timers of the media workers fire.",
            Some(&Unit::Seconds),
            MetricType::Histogram,
        )?;
        metric.encode_histogram::<NoLabelSet>(sum, counts.iter().sum(), &buckets, None)
    }
}
