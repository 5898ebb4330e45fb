//! Files and folders of ours, closed to others from the moment they exist, whatever the umask.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown,
};
use std::path::Path;

/// What holds calls, for the owner and its group to read: records, databases, letters.
const SHARED: u32 = 0o640;
/// What is for the owner alone: keys, captures.
const OWN: u32 = 0o600;

/// Opens a file to append to; a new one may be read by the owner's group.
///
/// # Errors
/// As for any file.
pub fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(SHARED).open(path)
}

/// As [`append`]; what is in it can be read too.
///
/// # Errors
/// As for any file.
pub(crate) fn append_and_read(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).read(true).append(true).mode(SHARED).open(path)
}

/// Makes a file that may be read by the owner's group, unless there is one.
///
/// # Errors
/// As for any file.
pub(crate) fn touch(path: &Path) -> io::Result<()> {
    append(path).map(drop)
}

/// Writes a whole file for the owner alone.
///
/// # Errors
/// As for any file.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    create(path)?.write_all(bytes)
}

/// Writes a whole configuration file for the owner alone. One that root writes into a folder of
/// another group is for that group to read, too: it is the group of the service.
///
/// # Errors
/// As for any file or folder.
pub fn write_configuration(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = create(path)?;
    file.write_all(bytes)?;
    share_with_group_above(path, &file, SHARED)
}

/// As [`folder`], for the files of [`write_configuration`].
///
/// # Errors
/// As for any folder.
pub fn folder_of_configuration(path: &Path) -> io::Result<()> {
    if path.as_os_str().is_empty() || path.is_dir() {
        return Ok(());
    }
    if let Some(above) = path.parent() {
        folder_of_configuration(above)?;
    }
    folder(path)?;
    share_with_group_above(path, &File::open(path)?, 0o750)
}

/// Gives what root has made the group of the folder it is in, with `mode`.
fn share_with_group_above(path: &Path, fresh: &File, mode: u32) -> io::Result<()> {
    let above = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let group = std::fs::metadata(above)?.gid();
    if fresh.metadata()?.gid() == group || !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    fchown(fresh, None, Some(group))?;
    fresh.set_permissions(std::fs::Permissions::from_mode(mode))
}

/// Opens a file to write for the owner alone; what is in it goes.
///
/// # Errors
/// As for any file.
pub fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).write(true).truncate(true).mode(OWN).open(path)
}

/// Makes a folder for the owner alone, with those above it, unless there is one.
///
/// # Errors
/// As for any folder.
pub fn folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Returns what is wrong with a folder that only we may have made: it is somebody else's, a link,
/// or others may write there. Whoever can, puts a gateway of their own in the place of ours.
pub(crate) fn fault_of(path: &Path) -> Option<String> {
    let found = match std::fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return None,
        Err(e) => return Some(e.to_string()),
    };
    let (owner, us) = (found.uid(), nix::unistd::getuid().as_raw());
    if !found.is_dir() {
        Some("it is no folder of its own".to_owned())
    } else if owner != us {
        Some(format!("it belongs to the user {owner}, not to {us}"))
    } else if found.mode() & 0o022 != 0 {
        Some(format!("others may write there (mode {:o})", found.mode() & 0o777))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_is_closed_to_others() {
        let scratch = tempfile::tempdir().expect("a folder");
        let place = scratch.path();
        let mode =
            |name: &str| std::fs::metadata(place.join(name)).expect("it is there").mode() & 0o777;
        touch(&place.join("a")).expect("made");
        write(&place.join("b"), b"x").expect("made");
        folder(&place.join("c/d")).expect("made");
        assert!(mode("a") & 0o137 == 0 && mode("b") & 0o177 == 0);
        assert!(mode("c") & 0o077 == 0 && mode("c/d") & 0o077 == 0);
    }

    #[test]
    fn what_root_configures_is_for_the_service_to_read() {
        let scratch = tempfile::tempdir().expect("a folder");
        let place = scratch.path();
        if nix::unistd::geteuid().is_root() {
            std::os::unix::fs::chown(place, None, Some(12_345)).expect("given away");
        }
        folder_of_configuration(&place.join("dialplans")).expect("made");
        let file = place.join("dialplans/in.toml");
        write_configuration(&file, b"x").expect("made");
        let found = |path: &Path| {
            let found = std::fs::metadata(path).expect("it is there");
            (found.gid(), found.mode() & 0o777)
        };
        let group = found(place).0;
        let modes = if nix::unistd::geteuid().is_root() { (0o750, 0o640) } else { (0o700, 0o600) };
        assert_eq!(found(&place.join("dialplans")), (group, modes.0));
        assert_eq!(found(&file), (group, modes.1));
    }

    #[test]
    fn a_folder_of_others_is_not_ours() {
        let scratch = tempfile::tempdir().expect("a folder");
        let place = scratch.path();
        let fault = |path: &Path| fault_of(path).unwrap_or_default();
        assert_eq!(fault(&place.join("none")), "");
        let own = place.join("own");
        folder(&own).expect("made");
        assert_eq!(fault(&own), "");
        for mode in [0o770, 0o777, 0o1777] {
            std::fs::set_permissions(&own, std::fs::Permissions::from_mode(mode)).expect("set");
            assert!(fault(&own).contains("others may write"), "{mode:o}");
        }
        std::os::unix::fs::symlink(place, place.join("link")).expect("a link");
        assert!(fault(&place.join("link")).contains("no folder of its own"));
        // Only root's folders are certain to be somebody else's.
        if !nix::unistd::getuid().is_root() {
            assert!(fault(Path::new("/usr")).contains("belongs to"));
        } else {
            let theirs = place.join("theirs");
            folder(&theirs).expect("made");
            std::os::unix::fs::chown(&theirs, Some(12_345), None).expect("given away");
            assert!(fault(&theirs).contains("belongs to the user 12345"));
        }
    }
}
