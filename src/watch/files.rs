//! What is mounted, and whether it has changed.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use whittle_image::digest_of;

use crate::wire::{List, paths};

/// The most that is read of the list, in bytes: a ConfigMap holds less.
const LIST: u64 = 2 << 20;
/// The most that is read of any other file, in bytes.
const OTHER: u64 = 1 << 20;

/// Where things are.
#[derive(Clone, Debug)]
pub struct Places {
    /// The file with the list.
    pub list: PathBuf,
    /// Directory with one directory for each Secret.
    pub secrets: PathBuf,
    /// Directory with certificate, key and the controller's authority.
    pub tls: PathBuf,
    /// File with the credential.
    pub token: PathBuf,
    /// Directory with the certificates of registries.
    pub registry_ca: PathBuf,
}

impl Places {
    /// As in the watcher's Pod, below this folder.
    pub fn below(folder: &Path) -> Self {
        let at =
            |path: &str| folder.join(path.trim_start_matches(paths::ALL).trim_start_matches('/'));
        Self {
            list: at(paths::LIST).join(paths::LIST_KEY),
            secrets: at(paths::SECRETS),
            tls: at(paths::TLS),
            token: at(paths::TOKEN),
            registry_ca: at(paths::REGISTRY_CA),
        }
    }
}

/// Another number where a file, or what is in a directory, has changed: what the kubelet mounts changes by other links.
/// The same for all that is missing.
pub(crate) fn mark(path: &Path) -> u64 {
    let mut hasher = DefaultHasher::new();
    mark_into(path, 0, &mut hasher);
    hasher.finish()
}

fn mark_into(path: &Path, depth: u8, hasher: &mut DefaultHasher) {
    let Ok(found) = fs::metadata(path) else {
        return;
    };
    (found.ino(), found.mtime(), found.mtime_nsec(), found.len()).hash(hasher);
    if !found.is_dir() || depth > 1 {
        return;
    }
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name()).collect();
    names.sort();
    for name in names {
        name.hash(hasher);
        mark_into(&path.join(name), depth + 1, hasher);
    }
}

/// The list that is mounted, and the digest of its text; none where it is not mounted yet.
pub(crate) fn list(path: &Path) -> io::Result<Option<(List, String)>> {
    let bytes = match bounded(path, LIST) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    Ok(Some((serde_json::from_slice(&bytes)?, digest_of(&bytes))))
}

pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    bounded(path, OTHER)
}

fn bounded(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    if fs::metadata(path)?.len() > most {
        return Err(io::Error::other(format!(
            "too large: more than {most} bytes"
        )));
    }
    fs::read(path)
}

/// What has this name in a directory; none where it is a path.
pub(crate) fn within(folder: &Path, name: &str) -> Option<PathBuf> {
    let plain = !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\0']);
    plain.then(|| folder.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kubelet_writes_anew_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("pull");
        let nothing = mark(&secret);
        assert_eq!(nothing, mark(&folder.path().join("other")));
        // As the kubelet does it: a directory of its own, and a link that is renamed.
        for (at, text) in ["one", "two"].into_iter().enumerate() {
            let before = mark(&secret);
            let data = secret.join(format!("..{at}"));
            fs::create_dir_all(&data).unwrap();
            fs::write(data.join("token"), text).unwrap();
            std::os::unix::fs::symlink(format!("..{at}"), secret.join("..new")).unwrap();
            fs::rename(secret.join("..new"), secret.join("..data")).unwrap();
            if at == 0 {
                std::os::unix::fs::symlink("..data/token", secret.join("token")).unwrap();
            }
            assert_ne!(before, mark(&secret));
            assert_eq!(mark(&secret), mark(&secret));
        }
    }

    #[test]
    fn a_list_that_is_missing_is_none_and_one_that_is_invalid_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("list.json");
        assert!(list(&path).unwrap().is_none());
        fs::write(&path, "{").unwrap();
        assert!(list(&path).is_err());
        let text = r#"{"callback":"https://c","sources":[]}"#;
        fs::write(&path, text).unwrap();
        let (list, digest) = list(&path).unwrap().unwrap();
        assert_eq!(list.callback, "https://c");
        assert_eq!(digest, digest_of(text.as_bytes()));
    }

    #[test]
    fn a_name_is_no_path() {
        let folder = Path::new("/secrets");
        assert_eq!(within(folder, "pull"), Some("/secrets/pull".into()));
        for name in ["", "..", ".", "../tls", "a/b", "/etc"] {
            assert_eq!(within(folder, name), None, "{name}");
        }
    }
}
