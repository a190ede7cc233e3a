//! Throws the daemon's state away: where a database of it is broken, or where it was asked to.
//!
//! What is thrown away is renamed first, so that it is out of the way in no time however large it is, and deleted while the
//! daemon runs.

use std::ffi::OsString;
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

use super::{bolt, settle};

/// Holds the key of the last time that the state was thrown away because somebody asked.
const MARKER: &str = "whittle-emptied";
/// The end of a name whose folder is being deleted.
const OLD: &str = ".whittle-old";
/// The daemon's own lock on its state.
const LOCK: &str = "buildkitd.lock";
/// How long the daemon waits for room to be made: within what its startup probe allows.
const PATIENCE: Duration = Duration::from_secs(60);

/// What stays: another mode's state, which is of other users, and what belongs to the file system.
const STAYS: [&str; 3] = ["userns", "lost+found", MARKER];

/// Throws the state in `root` away, unless that was done for `key` before; true where it was. The daemon's lock must be held.
///
/// # Errors
/// Where a file cannot be renamed or written.
pub(super) fn empty_once(root: &Path, key: &str) -> std::io::Result<bool> {
    let marker = root.join(MARKER);
    if std::fs::read_to_string(&marker).is_ok_and(|done| done == key) {
        return Ok(false);
    }
    empty(root)?;
    with_room(root, || std::fs::write(&marker, key))?;
    Ok(true)
}

/// Throws away what the daemon could not start with; what was broken, where something was. The daemon's lock must be held.
///
/// # Errors
/// Where a database cannot be read, or a file cannot be renamed.
pub(super) fn mend(root: &Path) -> std::io::Result<Option<String>> {
    for path in databases(root)? {
        let Some(why) = bolt::broken(&path)? else {
            continue;
        };
        let name = path.strip_prefix(root).unwrap_or(&path).display();
        let said = format!("{name} is broken: {why}");
        if path.parent() == Some(root) {
            // Of what was built before alone; the daemon would make it anew, too, if it did not end by a signal.
            std::fs::remove_file(&path)?;
            eprintln!("whittle: {said}: it is removed, and the daemon makes it anew");
        } else {
            empty(root)?;
            return Ok(Some(said));
        }
    }
    Ok(None)
}

/// Names of BuildKit's databases, and of its snapshotter's; all are bbolt's.
const DATABASES: [&str; 5] = [
    "cache.db",
    "history.db",
    "metadata_v2.db",
    "containerdmeta.db",
    "metadata.db",
];

/// The daemon's databases, in its folder and two levels below.
fn databases(root: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = vec![];
    let mut folders = vec![(root.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        for entry in entries(&folder)? {
            let (path, kind) = (entry.path(), entry.file_type()?);
            let name = entry.file_name();
            if kind.is_file() && DATABASES.iter().any(|it| name == *it) {
                found.push(path);
            } else if kind.is_dir() && depth < 2 && !is_kept(&name) && !is_old(&name) {
                folders.push((path, depth + 1));
            }
        }
    }
    // Those of which more is lost come last: which of them is said does not matter then.
    found.sort();
    Ok(found)
}

fn entries(folder: &Path) -> std::io::Result<Vec<std::fs::DirEntry>> {
    match std::fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(vec![]),
        // What is of another user is none of the daemon's.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(vec![]),
        other => other?.collect(),
    }
}

fn is_kept(name: &std::ffi::OsStr) -> bool {
    STAYS.iter().any(|stays| name == *stays)
}

fn is_old(name: &std::ffi::OsStr) -> bool {
    Path::new(name)
        .extension()
        .is_some_and(|it| it == &OLD[1..])
}

/// The daemon's own lock on its state, held as long as what is returned: none where a daemon runs on it.
///
/// # Errors
/// Where the file cannot be made.
pub(super) fn lock(root: &Path) -> std::io::Result<Option<File>> {
    std::fs::create_dir_all(root)?;
    let mut options = File::options();
    let options = options.create(true).truncate(false).write(true);
    let lock = with_room(root, || options.open(root.join(LOCK)))?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        other => other.map(|()| Some(lock)).map_err(Into::into),
    }
}

/// Puts all of the state out of the way, and makes what a new one begins with. The daemon's lock must be held.
fn empty(root: &Path) -> std::io::Result<()> {
    let stamp = std::time::UNIX_EPOCH
        .elapsed()
        .unwrap_or_default()
        .as_nanos();
    for entry in entries(root)? {
        let name = entry.file_name();
        if is_kept(&name) || is_old(&name) || name == LOCK {
            continue;
        }
        let mut old: OsString = name;
        old.push(format!(".{stamp}{OLD}"));
        std::fs::rename(entry.path(), root.join(old))?;
    }
    with_room(root, || settle(root))
}

/// A full volume takes no new folder: some of the old has to go first.
fn with_room<T>(root: &Path, make: impl Fn() -> std::io::Result<T>) -> std::io::Result<T> {
    let begun = Instant::now();
    let is_full = |error: &std::io::Error| {
        matches!(
            error.kind(),
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded
        )
    };
    loop {
        match make() {
            Err(error) if is_full(&error) && begun.elapsed() < PATIENCE => {
                let old = old(root)?;
                let Some(first) = old.first() else {
                    return Err(error);
                };
                remove(first);
            }
            other => return other,
        }
    }
}

/// What was thrown away and is still there.
fn old(root: &Path) -> std::io::Result<Vec<PathBuf>> {
    let all = entries(root)?.into_iter();
    Ok(all
        .filter(|entry| is_old(&entry.file_name()))
        .map(|entry| entry.path())
        .collect())
}

/// Deletes it in a process of its own, which goes on beside the daemon; a start that finds some left goes on with it.
pub(super) fn delete_old(root: &Path) {
    if !old(root).is_ok_and(|old| !old.is_empty()) {
        return;
    }
    let Ok(own) = std::env::current_exe() else {
        return;
    };
    let started = Command::new(own)
        .arg("delete-old")
        .arg(root)
        .stdin(Stdio::null())
        .spawn();
    if let Err(error) = started {
        eprintln!("whittle: what was thrown away is not deleted: {error}");
    }
}

/// What that process does.
pub fn delete(root: &Path) {
    for path in old(root).unwrap_or_default() {
        remove(&path);
    }
}

fn remove(path: &Path) {
    let removed = match std::fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => remove_folder(path),
        _ => std::fs::remove_file(path),
    };
    if let Err(error) = removed {
        eprintln!("whittle: {} cannot be deleted: {error}", path.display());
    }
}

/// Folders of images may be such that their owner may not write into them.
fn remove_folder(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            let mut folders = vec![path.to_owned()];
            while let Some(folder) = folders.pop() {
                let _ = std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o700));
                let below = entries(&folder)?.into_iter();
                let below = below.filter(|it| it.file_type().is_ok_and(|kind| kind.is_dir()));
                folders.extend(below.map(|entry| entry.path()));
            }
            std::fs::remove_dir_all(path)
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &[u8] = include_bytes!("../testdata/pages.db");

    fn state() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        settle(root.path()).unwrap();
        let layer = root.path().join("runc-overlayfs/snapshots/snapshots/1/fs");
        std::fs::create_dir_all(&layer).unwrap();
        std::fs::write(layer.join("file"), "x").unwrap();
        std::fs::create_dir_all(root.path().join("userns/runc-overlayfs")).unwrap();
        for name in [
            "cache.db",
            "history.db",
            "runc-overlayfs/metadata_v2.db",
            "runc-overlayfs/snapshots/metadata.db",
            "userns/cache.db",
        ] {
            std::fs::write(root.path().join(name), WHOLE).unwrap();
        }
        root
    }

    fn is_emptied(root: &Path) -> bool {
        assert!(root.join("userns/cache.db").exists());
        assert!(root.join("runc-overlayfs").exists());
        !root.join("runc-overlayfs/snapshots").exists()
    }

    #[test]
    fn the_state_is_thrown_away_once_for_each_key() {
        let state = state();
        let root = state.path();
        assert!(empty_once(root, "a").unwrap());
        assert!(is_emptied(root));
        std::fs::create_dir_all(root.join("runc-overlayfs/snapshots")).unwrap();
        assert!(!empty_once(root, "a").unwrap());
        assert!(!is_emptied(root));
        assert!(empty_once(root, "b").unwrap());
        assert!(is_emptied(root));
        assert!(!old(root).unwrap().is_empty());
        delete(root);
        assert!(old(root).unwrap().is_empty());
        assert!(is_emptied(root));
    }

    #[test]
    fn a_whole_state_stays() {
        let state = state();
        assert_eq!(mend(state.path()).unwrap(), None);
        assert!(!is_emptied(state.path()));
        // A new volume.
        assert_eq!(mend(&state.path().join("none")).unwrap(), None);
    }

    #[test]
    fn a_broken_database_of_layers_costs_all_and_is_named() {
        for name in [
            "runc-overlayfs/metadata_v2.db",
            "runc-overlayfs/snapshots/metadata.db",
        ] {
            let state = state();
            std::fs::write(state.path().join(name), &WHOLE[..5000]).unwrap();
            let said = mend(state.path()).unwrap();
            assert_eq!(said, Some(format!("{name} is broken: it is cut off")));
            assert!(is_emptied(state.path()));
            assert_eq!(mend(state.path()).unwrap(), None);
        }
    }

    #[test]
    fn a_broken_database_of_what_was_built_costs_itself_alone() {
        let state = state();
        std::fs::write(state.path().join("history.db"), &WHOLE[..5000]).unwrap();
        assert_eq!(mend(state.path()).unwrap(), None);
        assert!(!state.path().join("history.db").exists());
        assert!(!is_emptied(state.path()));
    }

    #[test]
    fn a_state_that_a_daemon_runs_on_is_locked() {
        let state = state();
        let held = lock(state.path()).unwrap();
        assert!(held.is_some());
        assert!(lock(state.path()).unwrap().is_none());
        drop(held);
        assert!(lock(state.path()).unwrap().is_some());
    }

    #[test]
    fn folders_that_their_owner_may_not_write_go_too() {
        use std::os::unix::fs::PermissionsExt;
        let state = state();
        let folder = state.path().join("runc-overlayfs/snapshots/snapshots/1/fs");
        std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o500)).unwrap();
        assert!(empty_once(state.path(), "a").unwrap());
        delete(state.path());
        assert!(old(state.path()).unwrap().is_empty());
    }
}
