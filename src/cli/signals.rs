//! What a served gateway does with signals: from its first moment on, none ends it but those that
//! are to.

use nix::sys::signal::{self as posix, SigSet};
use std::io;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Signals wait until somebody says what is done with them.
pub(crate) struct HeldSignals(SigSet);

/// Has signals wait that would end the process. For the first line of `main`: threads that are
/// started meanwhile leave them to this one.
pub(crate) fn hold() -> HeldSignals {
    use posix::Signal::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
    let held = SigSet::from_iter([SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2]);
    // Where that cannot be, it is as it would be without.
    let _ = held.thread_block();
    HeldSignals(held)
}

impl HeldSignals {
    /// They do what they do, those that wait at once.
    pub(crate) fn release(self) {
        let _ = self.0.thread_unblock();
    }
}

/// What an operator wants by a signal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wish {
    Stop,
    Reload,
    /// It has no meaning here.
    Nothing,
}

/// The signals of a process that serves.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    user: [Signal; 2],
}

impl Signals {
    /// Receives signals from now on, those that were held first. To be asked within a runtime.
    ///
    /// # Errors
    /// The system refuses it.
    pub(crate) fn receive(held: HeldSignals) -> io::Result<Signals> {
        let signals = Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            user: [signal(SignalKind::user_defined1())?, signal(SignalKind::user_defined2())?],
        };
        // A file that may not grow is a full disk: writing fails, and the process lives.
        drop(signal(SignalKind::from_raw(posix::Signal::SIGXFSZ as i32))?);
        held.release();
        Ok(signals)
    }

    /// Waits for the next one.
    pub(crate) async fn next(&mut self) -> Wish {
        let [one, two] = &mut self.user;
        tokio::select! {
            _ = self.terminate.recv() => Wish::Stop,
            _ = self.interrupt.recv() => Wish::Stop,
            _ = self.hangup.recv() => Wish::Reload,
            _ = one.recv() => Wish::Nothing,
            _ = two.recv() => Wish::Nothing,
        }
    }

    /// Waits for one that wants the end; the others wait on.
    pub(crate) async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
