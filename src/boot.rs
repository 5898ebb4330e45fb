//! This boot of the host: its name, and a clock that nobody sets.

use nix::time::{ClockId, clock_gettime};
use std::sync::OnceLock;
use std::time::Duration;

/// Tells this boot from any other.
pub(crate) fn id() -> u128 {
    static ID: OnceLock<u128> = OnceLock::new();
    *ID.get_or_init(|| {
        let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        u128::from_str_radix(&text.trim().replace('-', ""), 16).unwrap_or_default()
    })
}

/// Time since the host started, its sleep among it: a clock that continues across processes.
pub(crate) fn uptime() -> Duration {
    // No system we run on lacks it; at zero, whatever was kept is of another boot.
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
}
