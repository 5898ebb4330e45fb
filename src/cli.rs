//! What the command line does besides serving; part of the binary only.

pub mod call;
pub mod client;
pub mod dialplan;
pub mod local;
pub mod look;
pub mod peers;
pub mod print;
pub mod steer;
pub mod stun;
pub mod top;

/// Bytes nobody can guess.
///
/// # Errors
/// The system gives none.
pub fn random<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    rand_core::TryRngCore::try_fill_bytes(&mut rand_core::OsRng, &mut bytes)?;
    Ok(bytes)
}

/// Two digits a byte.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
