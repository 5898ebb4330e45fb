//! What is left of a process whose place another has taken, if somebody waits for this one: a
//! supervisor that started it, or the kernel, for which it is a container's first process.

use super::signals::HeldSignals;
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, wait};
use nix::unistd::Pid;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use tokio::signal::unix::{SignalKind, signal};
use webtrunk::node::{GUARDED, Successor};

/// Stays as the parent of `successor` until it ends, unless nobody waits for this process: systemd
/// learns who has its place, and a process that was guarded itself has no one else.
pub(crate) fn stay(successor: &Successor) -> ExitCode {
    let supervised = webtrunk::supervisor::listens();
    if !successor.child || supervised || std::env::var_os(GUARDED).is_some() {
        return ExitCode::SUCCESS;
    }
    // The same process in a few megabytes.
    webtrunk::log_queue::flush();
    let why = Command::new("/proc/self/exe").arg("guard").exec();
    tracing::warn!("this process cannot stay as the parent of the new one: {why}");
    ExitCode::SUCCESS
}

/// Passes signals on to the processes below, and ends as the last of them does.
///
/// # Errors
/// No process can be started.
pub(crate) async fn guard(held: HeldSignals) -> anyhow::Result<ExitCode> {
    // Whoever is below when its own parent has ended is below this one.
    set_child_subreaper(true)?;
    let mut signals = Vec::new();
    for (kind, signal_) in [
        (SignalKind::terminate(), Signal::SIGTERM),
        (SignalKind::interrupt(), Signal::SIGINT),
        (SignalKind::hangup(), Signal::SIGHUP),
        (SignalKind::user_defined1(), Signal::SIGUSR1),
        (SignalKind::user_defined2(), Signal::SIGUSR2),
    ] {
        signals.push((signal(kind)?, signal_));
    }
    held.release();
    for (mut arrives, signal) in signals {
        tokio::spawn(async move {
            while arrives.recv().await.is_some() {
                for child in children() {
                    let _ = kill(child, signal);
                }
            }
        });
    }
    Ok(tokio::task::spawn_blocking(last_status).await?)
}

/// Waits for all processes below; returns how the last one ended.
fn last_status() -> ExitCode {
    let mut last = 0;
    loop {
        match wait() {
            Ok(WaitStatus::Exited(_, code)) => last = code as u8,
            Ok(WaitStatus::Signaled(_, signal, _)) => last = 128 + signal as u8,
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(_) => return ExitCode::from(last),
        }
    }
}

fn children() -> Vec<Pid> {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let lists = tasks.filter_map(|t| std::fs::read_to_string(t.path().join("children")).ok());
    let pids = |list: String| -> Vec<Pid> {
        list.split_ascii_whitespace().filter_map(|p| p.parse().ok()).map(Pid::from_raw).collect()
    };
    lists.flat_map(pids).collect()
}
