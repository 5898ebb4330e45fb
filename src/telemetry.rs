//! Traces for OpenTelemetry, one a call, made of its record when it has ended. Behind the feature
//! `otlp`.
//!
//! No convention for SIP exists; attributes follow Elastic's `sip.*` and OpenTelemetry's own if it
//! has some.

#[cfg(feature = "otlp")]
mod spans;

use crate::call::Cdr;
use crate::journal::WallClock;

/// The way to a collector. Dropping it sends what still waits.
pub(crate) struct Exporter {
    #[cfg(feature = "otlp")]
    inner: spans::Spans,
}

impl Exporter {
    /// Begins to send to a collector's OTLP/HTTP endpoint; no connection is made yet.
    ///
    /// # Errors
    /// This build has no OpenTelemetry, or the endpoint is no URL.
    #[cfg(feature = "otlp")]
    pub(crate) fn start(endpoint: &str) -> anyhow::Result<Exporter> {
        Ok(Exporter { inner: spans::Spans::start(endpoint)? })
    }

    /// As with the feature.
    ///
    /// # Errors
    /// Always: this build has no OpenTelemetry.
    #[cfg(not(feature = "otlp"))]
    pub(crate) fn start(_: &str) -> anyhow::Result<Exporter> {
        anyhow::bail!(
            "this webtrunk was built without OpenTelemetry: build it with --features otlp"
        )
    }

    /// Tells one call.
    #[cfg_attr(not(feature = "otlp"), allow(unused_variables))]
    pub(crate) fn tell(&self, cdr: &Cdr, clock: &WallClock) {
        #[cfg(feature = "otlp")]
        self.inner.tell(cdr, clock);
    }
}
