//! A file without a name, for what is read more than once.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

/// A bounded file that nobody else sees, and that is gone once it is closed.
pub(crate) struct Spool {
    file: File,
    left: u64,
}

impl Spool {
    /// In this directory, of at most so many bytes.
    pub(super) fn new(folder: &Path, most: u64) -> io::Result<Self> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let file = match rustix::fs::open(folder, flags, Mode::RUSR | Mode::WUSR) {
            Ok(file) => File::from(file),
            // Not every file system has files without a name.
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR) => unnamed(folder)?,
            Err(error) => return Err(error.into()),
        };
        Ok(Self { file, left: most })
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let size = bytes.len() as u64;
        self.left = (self.left.checked_sub(size)).ok_or(io::ErrorKind::FileTooLarge)?;
        self.file.write_all(bytes)
    }

    pub(super) fn finish(self) -> File {
        self.file
    }
}

/// A file whose name is taken away at once.
fn unnamed(folder: &Path) -> io::Result<File> {
    let number = std::process::id();
    for attempt in 0..100 {
        let path = folder.join(format!(".whittle-{number}-{attempt}"));
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path);
        match opened {
            Ok(file) => {
                std::fs::remove_file(&path)?;
                return Ok(file);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Seek};

    #[test]
    fn a_spool_is_in_no_directory_and_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::new(folder.path(), 5).unwrap();
        spool.write(b"123").unwrap();
        let error = spool.write(b"456").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        let mut file = unnamed(folder.path()).unwrap();
        file.write_all(b"x").unwrap();
        file.rewind().unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "x");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        assert!(Spool::new(&folder.path().join("none"), 5).is_err());
    }
}
