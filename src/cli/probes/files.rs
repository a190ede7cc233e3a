//! Files and directories.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use super::Error;

/// The name that stands for standard input.
pub(super) const STDIN: &str = "-";
/// Bytes of a file that are read.
const MOST: u64 = 64 << 20;

/// A file itself; of a directory all files below it that end in one of `extensions`, in order. Hidden
/// directories are left out.
pub(super) fn list(path: &Path, extensions: &[&str]) -> Result<Vec<PathBuf>, Error> {
    let told = |error: std::io::Error| {
        Error::new(
            path.display().to_string(),
            format!("cannot be read: {error}"),
        )
    };
    if !std::fs::metadata(path).map_err(told)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    let mut entries: Vec<std::fs::DirEntry> = std::fs::read_dir(path)
        .and_then(Iterator::collect)
        .map_err(told)?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        // Links to directories are not followed: they may lead round in a circle.
        let kind = entry.file_type().map_err(told)?;
        if kind.is_dir() && !hidden {
            found.extend(list(&path, extensions)?);
        } else if !kind.is_dir()
            && path.is_file()
            && path
                .extension()
                .and_then(|extension| extension.to_str())
                .is_some_and(|extension| extensions.contains(&extension))
        {
            found.push(path);
        }
    }
    Ok(found)
}

/// The text of a file, or of standard input for `-`.
pub(super) fn text(path: &Path) -> Result<String, Error> {
    let name = path.display().to_string();
    let told = |error: std::io::Error| Error::new(name.clone(), format!("cannot be read: {error}"));
    let mut bytes = Vec::new();
    if name == STDIN {
        std::io::stdin()
            .lock()
            .take(MOST + 1)
            .read_to_end(&mut bytes)
            .map_err(told)?;
    } else {
        std::fs::File::open(path)
            .map_err(told)?
            .take(MOST + 1)
            .read_to_end(&mut bytes)
            .map_err(told)?;
    }
    if bytes.len() as u64 > MOST {
        return Err(Error::new(
            name,
            format!("is too large: more than {} MiB", MOST >> 20),
        ));
    }
    String::from_utf8(bytes).map_err(|_| Error::new(name, "is not valid UTF-8"))
}

/// Puts a new text in a file's place, whole or not at all, with the file's permissions.
pub(super) fn replace(path: &Path, text: &str) -> Result<(), Error> {
    let told = |error: std::io::Error| {
        Error::new(
            path.display().to_string(),
            format!("cannot be written: {error}; it is unchanged"),
        )
    };
    // Behind a link, the file itself.
    let target = path.canonicalize().map_err(told)?;
    let mut name = target.file_name().unwrap_or_default().to_owned();
    name.push(format!(".whittle-{}", std::process::id()));
    let beside = target.with_file_name(name);
    let write = || {
        let permissions = std::fs::metadata(&target)?.permissions();
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&beside)?;
        file.set_permissions(permissions)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&beside, &target)
    };
    write().map_err(|error| {
        // What was begun is of no use to anybody.
        let _ = std::fs::remove_file(&beside);
        told(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_walked_in_order_and_files_are_replaced_whole() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir_all(at("b/.git")).unwrap();
        for name in ["b/2.yaml", "b/1.yml", "a.json", "c.txt", "b/.git/x.yaml"] {
            std::fs::write(at(name), "old").unwrap();
        }
        let found = list(folder.path(), &["yaml", "yml", "json"]).unwrap();
        assert_eq!(found, [at("a.json"), at("b/1.yml"), at("b/2.yaml")]);
        assert_eq!(list(&at("c.txt"), &["yaml"]).unwrap(), [at("c.txt")]);
        assert!(list(&at("none"), &[]).is_err());

        std::fs::set_permissions(at("a.json"), std::fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink(at("a.json"), at("link.json")).unwrap();
        replace(&at("link.json"), "new").unwrap();
        assert_eq!(text(&at("a.json")).unwrap(), "new");
        assert!(at("link.json").is_symlink());
        let mode = std::fs::metadata(at("a.json"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o640);
        assert_eq!(list(folder.path(), &["json"]).unwrap().len(), 2);
        std::fs::write(at("c.txt"), b"\xff").unwrap();
        assert!(text(&at("c.txt")).is_err());
    }
}
