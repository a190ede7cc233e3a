//! Files in a folder, or in a tar that is read as if it were one. Nothing is unpacked.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::error::{InspectError, file};
use super::tarball::Tarball;

/// A folder, or a tar.
pub(super) enum Files {
    /// A folder.
    Folder(PathBuf),
    /// A tar, also compressed with gzip.
    Tar(Tarball),
}

/// One file, open.
pub(super) struct Opened<'a> {
    /// Its bytes.
    pub(super) bytes: Box<dyn Read + 'a>,
    /// How many they are.
    pub(super) size: u64,
}

impl Files {
    /// Opens a folder or a tar. All headers of a tar are read, its contents only where it is compressed.
    pub(super) fn open(path: &Path) -> Result<Self, InspectError> {
        let metadata = std::fs::metadata(path).map_err(file(path))?;
        if metadata.is_dir() {
            return Ok(Self::Folder(path.to_owned()));
        }
        Ok(Self::Tar(Tarball::open(path)?))
    }

    /// A tar in a file without a name. `shown`: what errors call it.
    pub(super) fn spooled(spool: File, shown: &Path) -> Result<Self, InspectError> {
        Ok(Self::Tar(Tarball::spooled(spool, shown)?))
    }

    /// Where the files lie.
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Folder(path) => path,
            Self::Tar(tar) => tar.path(),
        }
    }

    /// True where there is a file of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.size(name).is_some()
    }

    /// Bytes of the file of this name; none where there is no such file.
    pub(super) fn size(&self, name: &str) -> Option<u64> {
        let name = normal(name)?;
        match self {
            Self::Folder(path) => {
                let found = std::fs::metadata(path.join(name)).ok()?;
                found.is_file().then_some(found.len())
            }
            Self::Tar(tar) => tar.size(&name),
        }
    }

    /// Opens the file of a name, which is relative and has slashes; none where there is no such file.
    pub(super) fn stream(&mut self, name: &str) -> Result<Option<Opened<'_>>, InspectError> {
        let Some(name) = normal(name) else {
            return Ok(None);
        };
        match self {
            Self::Folder(path) => {
                let path = path.join(name);
                // Also through symbolic links a plain file: a pipe or a device would never end.
                match std::fs::metadata(&path) {
                    Ok(found) if found.is_file() => {}
                    Ok(_) => return Ok(None),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                    Err(cause) => return Err(InspectError::File { path, cause }),
                }
                let open = File::open(&path).map_err(file(&path))?;
                let size = open.metadata().map_err(file(&path))?.len();
                Ok(Some(Opened {
                    bytes: Box::new(open),
                    size,
                }))
            }
            Self::Tar(tar) => tar.stream(&name),
        }
    }

    /// The bytes of a file of at most `most` bytes; none where there is no such file.
    pub(super) fn read(&mut self, name: &str, most: u64) -> Result<Option<Vec<u8>>, InspectError> {
        let path = self.path().to_owned();
        let Some(opened) = self.stream(name)? else {
            return Ok(None);
        };
        let refuse = |why: String| InspectError::NoImage {
            path: path.clone(),
            why,
        };
        if opened.size > most {
            return Err(refuse(format!(
                "its {name} is too large: {} bytes, and at most {most} are read",
                opened.size
            )));
        }
        let mut bytes = Vec::new();
        let size = opened.size;
        opened
            .bytes
            .take(most)
            .read_to_end(&mut bytes)
            .map_err(file(&path))?;
        if (bytes.len() as u64) < size {
            return Err(refuse(format!(
                "truncated: it ends in the middle of its {name}"
            )));
        }
        Ok(Some(bytes))
    }
}

/// A relative name without `.` and `..`; none where it leads out, or to nothing.
pub(super) fn normal(name: &str) -> Option<String> {
    if name.starts_with('/') {
        return None;
    }
    let mut parts = Vec::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_within_its_folder() {
        for (name, expected) in [
            ("a/b", Some("a/b")),
            ("./a//b/", Some("a/b")),
            ("a/../b", Some("b")),
            ("../a", None),
            ("a/../../b", None),
            ("/etc/passwd", None),
            (".", None),
        ] {
            assert_eq!(normal(name).as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn a_folder_gives_plain_files_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a"), "12").unwrap();
        std::fs::create_dir(folder.path().join("b")).unwrap();
        std::os::unix::fs::symlink("/dev/zero", folder.path().join("c")).unwrap();
        let mut files = Files::open(folder.path()).unwrap();
        assert_eq!(files.read("./a", 2).unwrap().unwrap(), b"12");
        for name in ["b", "c", "d", "../a"] {
            assert!(files.read(name, 10).unwrap().is_none(), "{name}");
            assert!(!files.has(name), "{name}");
        }
        let said = files.read("a", 1).unwrap_err().to_string();
        assert!(
            said.contains("its a is too large: 2 bytes, and at most 1"),
            "{said}"
        );
    }
}
