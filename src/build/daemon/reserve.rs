//! Room on the daemon's volume that a step cannot fill.
//!
//! To throw away anything, the daemon has to write to its databases first: a volume without a free byte can never be pruned
//! again. So a file takes some of the room while there is plenty, and is removed once the volume was full.

use std::fs::{File, remove_file};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate, statvfs};

/// The most that is kept, in bytes; of a small volume a part.
const MOST: u64 = 32 << 20;
const PART: u64 = 64;
/// It is kept where so many times as much is free.
const PLENTY: u64 = 4;

/// The file.
pub(super) struct Reserve(PathBuf);

impl Reserve {
    /// Where the description of a container in `bundle` lies: in a directory of the daemon's own state.
    pub(super) fn beside(bundle: &Path) -> Option<Self> {
        bundle.parent()?.parent().map(Self::of)
    }

    /// In the directory of one way to keep layers, within the daemon's state.
    pub(super) fn of(state: &Path) -> Self {
        Self(state.join("whittle-reserve"))
    }

    /// Keeps it, where there is plenty of room and it is not kept yet.
    pub(super) fn keep(&self) {
        let Some(size) = self.0.parent().and_then(wanted) else {
            return;
        };
        let Ok(file) = File::create_new(&self.0) else {
            return;
        };
        if fallocate(&file, FallocateFlags::empty(), 0, size).is_err() {
            self.give();
        }
    }

    /// Gives the room to whoever needs it.
    pub(super) fn give(&self) {
        let _ = remove_file(&self.0);
    }
}

fn wanted(folder: &Path) -> Option<u64> {
    let found = statvfs(folder).ok()?;
    size(
        found.f_blocks.saturating_mul(found.f_frsize),
        found.f_bavail.saturating_mul(found.f_frsize),
    )
}

fn size(all: u64, free: u64) -> Option<u64> {
    let size = (all / PART).min(MOST);
    (size > 0 && free / PLENTY >= size).then_some(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn it_is_a_small_part_of_the_volume_and_kept_only_where_there_is_plenty() {
        assert_eq!(size(64 << 30, 1 << 30), Some(32 * MIB));
        assert_eq!(size(128 * MIB, 100 * MIB), Some(2 * MIB));
        assert_eq!(size(128 * MIB, 7 * MIB), None);
        assert_eq!(size(0, 0), None);
    }

    #[test]
    fn it_takes_room_until_it_is_given() {
        let state = tempfile::tempdir().unwrap();
        let reserve = Reserve::beside(&state.path().join("executor/a")).unwrap();
        let file = state.path().join("whittle-reserve");
        reserve.keep();
        let kept = std::fs::metadata(&file).unwrap().len();
        assert_eq!(Some(kept), wanted(state.path()));
        // Once more changes nothing, nor does it to give what is gone.
        reserve.keep();
        reserve.give();
        reserve.give();
        assert!(!file.exists());
    }
}
