//! The DTLS certificate, the same across starts: browsers of calls that continue know its
//! fingerprint.

use super::seal::Sealer;
use super::{Directory, move_aside};
use crate::errors::Code;
use crate::media::dtls::{self, DtlsIdentity};
use anyhow::Context;
use std::time::{Duration, SystemTime};

const FILE: &str = "dtls";
/// After that a new one is made, at a start without calls. Its own dates say nothing: browsers
/// compare the fingerprint only (RFC 8827 §6.5).
const LIFE: Duration = Duration::from_secs(365 * 86_400);

/// The certificate kept in `directory`; made if there is none, and replaced after a year if no
/// calls continue under it (`in_use`).
///
/// # Errors
/// None could be made. What cannot be read or kept is only reported.
pub(crate) fn load(
    directory: &Directory,
    in_use: bool,
    now: SystemTime,
) -> anyhow::Result<DtlsIdentity> {
    let path = directory.file(FILE);
    if path.exists() {
        match read(directory) {
            Ok((identity, made)) => {
                let age = now.duration_since(made).unwrap_or_default();
                if in_use || age < LIFE {
                    return Ok(identity);
                }
            }
            Err(e) => {
                let aside = move_aside(&path);
                tracing::warn!(
                    code = %Code::STATE,
                    "the DTLS certificate in {} cannot be read, and a new one is made: {e:#}{}",
                    path.display(),
                    aside.map(|a| format!("; it was moved to {}", a.display())).unwrap_or_default()
                );
            }
        }
    }
    let pem = dtls::new_certificate().context("no DTLS certificate could be made")?;
    let identity = DtlsIdentity::from_pem(&pem).context("no DTLS certificate could be made")?;
    show(directory, &pem, now);
    Ok(identity)
}

/// Keeps this certificate for the next start. That it cannot is only reported.
pub(crate) fn show(directory: &Directory, pem: &str, now: SystemTime) {
    if let Err(e) = keep(directory, pem, now) {
        tracing::warn!(
            code = %Code::STATE,
            "the DTLS certificate cannot be kept in {}: {e:#}",
            directory.file(FILE).display()
        );
    }
}

fn read(directory: &Directory) -> anyhow::Result<(DtlsIdentity, SystemTime)> {
    let sealed = std::fs::read(directory.file(FILE))?;
    let plain = Sealer::new(directory.key)?
        .open(FILE, &sealed)
        .context("it is not intact, or sealed under another key")?;
    directory.note(FILE, &sealed);
    let (made, pem) = plain.split_first_chunk::<8>().context("it is too short")?;
    let made = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::from_be_bytes(*made));
    Ok((DtlsIdentity::from_pem(std::str::from_utf8(pem)?)?, made))
}

fn keep(directory: &Directory, pem: &str, now: SystemTime) -> anyhow::Result<()> {
    let made = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let plain = [&made.to_be_bytes(), pem.as_bytes()].concat();
    let sealed = Sealer::new(directory.key)?.seal(FILE, &plain).context("it cannot be sealed")?;
    Ok(directory.keep(FILE, &sealed)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::tests::Scratch;
    use std::os::unix::fs::PermissionsExt as _;

    fn fingerprint(scratch: &Scratch, in_use: bool, after: Duration) -> String {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000) + after;
        let directory = Directory::open(&scratch.0).expect("a directory");
        load(&directory, in_use, now).expect("a certificate").fingerprint
    }

    #[test]
    fn a_certificate_is_the_same_at_the_next_start() {
        let scratch = Scratch::new("certificate");
        let first = fingerprint(&scratch, false, Duration::ZERO);
        assert_eq!(fingerprint(&scratch, false, LIFE / 2), first);
        let file = scratch.0.join(FILE);
        assert_eq!(file.metadata().expect("a file").permissions().mode() & 0o777, 0o600);
        let text = std::fs::read(&file).expect("read");
        assert!(!text.windows(5).any(|w| w == b"BEGIN"), "it is sealed");
    }

    #[test]
    fn an_old_certificate_is_replaced_once_no_call_needs_it() {
        let scratch = Scratch::new("old-certificate");
        let first = fingerprint(&scratch, false, Duration::ZERO);
        assert_eq!(fingerprint(&scratch, true, LIFE), first);
        let second = fingerprint(&scratch, false, LIFE);
        assert_ne!(second, first);
        assert_eq!(fingerprint(&scratch, false, LIFE), second);
    }

    #[test]
    fn a_certificate_that_cannot_be_read_costs_nothing_but_itself() {
        let scratch = Scratch::new("torn-certificate");
        let first = fingerprint(&scratch, false, Duration::ZERO);
        std::fs::write(scratch.0.join(FILE), "foreign").expect("written");
        let second = fingerprint(&scratch, false, Duration::ZERO);
        assert_ne!(second, first);
        // Another key file: nothing of before can be opened.
        std::fs::write(scratch.0.join("key"), [9; 32]).expect("written");
        let third = fingerprint(&scratch, false, Duration::ZERO);
        assert_ne!(third, second);
        assert_eq!(fingerprint(&scratch, false, Duration::ZERO), third);
    }
}
