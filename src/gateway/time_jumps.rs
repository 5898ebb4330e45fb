//! A process that was suspended: no peer is judged by what could not arrive in that time. And a
//! wall clock that was set.

use super::Gateway;
use std::time::{Duration, Instant};

/// What waits in sockets when the process runs again has been read after this.
const READ: Duration = Duration::from_secs(1);

impl Gateway {
    /// The wall clock says `unix`, seconds since 1970, and was set. Credentials and opening hours
    /// go by it; nothing that lasts for a time does.
    pub fn set_clock(&mut self, now: Instant, unix: u64) {
        self.services.wall = (now, unix);
    }

    /// Nobody listened for `stall` until `now`, since the process or its host was stopped. What
    /// would end something because a peer was not heard waits for that much longer, and until what
    /// has come meanwhile is read. What is owed to peers (a refresh, a repeated message) is due as
    /// it was.
    pub fn overslept(&mut self, now: Instant, stall: Duration) {
        let by = stall + READ;
        let (calls, timers) = (&mut self.calls, &mut self.services.timers);
        timers.put_off(by, |(_, timer)| timer.judges());
        calls.for_each_mut(|call| call.put_off(timers, now, by));
        self.services.transactions.put_off(by);
        self.services.registrar.put_off(by);
        self.services.trunks.put_off(by);
        self.out_of_dialog.put_off(by);
        self.unproved.put_off(by, |_| true);
    }
}
