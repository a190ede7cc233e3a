//! Whether the daemon's volume was full while a step ran.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::fs::{StatVfs, statvfs};

/// Fewer free bytes than this are none: what a program writes at once is more.
const NONE: u64 = 256 * 1024;
/// Between two looks: a step that fails may first throw away what it has written.
const PAUSE: Duration = Duration::from_millis(100);

/// Looks at a volume again and again.
pub(super) struct Volume {
    folder: PathBuf,
    over: Arc<AtomicBool>,
    looks: JoinHandle<bool>,
}

impl Volume {
    /// Begins to look at the volume that `folder` lies on.
    pub(super) fn watch(folder: PathBuf) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let looks = std::thread::spawn({
            let (folder, over) = (folder.clone(), over.clone());
            move || {
                while !over.load(Ordering::Relaxed) {
                    if is_full(&folder) {
                        return true;
                    }
                    std::thread::park_timeout(PAUSE);
                }
                false
            }
        });
        Self {
            folder,
            over,
            looks,
        }
    }

    /// Ends that: true where it was full at any look, the last one now.
    pub(super) fn was_full(self) -> bool {
        let now = is_full(&self.folder);
        self.over.store(true, Ordering::Relaxed);
        self.looks.thread().unpark();
        self.looks.join().unwrap_or(false) || now
    }
}

fn is_full(folder: &Path) -> bool {
    statvfs(folder).is_ok_and(|found| has_none(&found))
}

/// True where there is neither room nor, where the file system counts them, a file left.
fn has_none(found: &StatVfs) -> bool {
    let bytes = found.f_bavail.saturating_mul(found.f_frsize);
    bytes < NONE || found.f_files > 0 && found.f_favail == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(free: u64, files: u64, free_files: u64) -> StatVfs {
        StatVfs {
            f_bsize: 4096,
            f_frsize: 4096,
            f_blocks: 1000,
            f_bfree: free,
            f_bavail: free,
            f_files: files,
            f_ffree: free_files,
            f_favail: free_files,
            ..statvfs("/").unwrap()
        }
    }

    #[test]
    fn a_volume_without_room_or_without_files_is_full() {
        for (found, full) in [
            (volume(500, 100, 50), false),
            (volume(10, 100, 50), true),
            (volume(500, 100, 0), true),
            // btrfs counts none.
            (volume(500, 0, 0), false),
        ] {
            assert_eq!(has_none(&found), full, "{}", found.f_bavail);
        }
    }

    #[test]
    fn a_volume_with_room_was_never_full() {
        let volume = Volume::watch("/".into());
        assert!(!volume.was_full());
        let volume = Volume::watch("/no/such/folder".into());
        assert!(!volume.was_full());
    }
}
