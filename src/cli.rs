//! What the command line does besides serving; part of the binary only.

mod ask;
pub(crate) mod call;
pub(crate) mod client;
pub(crate) mod command;
mod countries;
pub(crate) mod dialplan;
pub(crate) mod doctor;
pub(crate) mod guard;
pub(crate) mod local;
pub(crate) mod log;
pub(crate) mod look;
pub(crate) mod peers;
pub(crate) mod print;
pub(crate) mod records;
pub(crate) mod signals;
pub(crate) mod steer;
#[cfg(feature = "top")]
pub(crate) mod top;
pub(crate) mod trace;
pub(crate) mod users;

/// Bytes nobody can guess.
///
/// # Errors
/// The system gives none.
pub(crate) fn random<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    rand_core::TryRngCore::try_fill_bytes(&mut rand_core::OsRng, &mut bytes)?;
    Ok(bytes)
}

/// Two digits a byte.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
