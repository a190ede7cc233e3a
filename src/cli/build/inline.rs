//! A small directory within the ImageBuild itself: where no registry can be reached from here.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::walk::{Entry, Kind, Tree, unreadable};
use crate::cluster::Failed;

/// Bytes of all files, and how many there may be: the rules of `source.inline`.
const BYTES: u64 = 256 << 10;
const FILES: usize = 256;

/// Why a directory cannot be sent so; nothing where it can, as far as names and sizes say.
pub(super) fn unfit(tree: &Tree) -> Option<String> {
    let files = tree
        .entries
        .iter()
        .filter(|it| matches!(it.kind, Kind::File { .. }));
    if tree.bytes() > BYTES {
        return Some("its files have more than 256 KiB".into());
    }
    if files.count() > FILES {
        return Some(format!("it has more than {FILES} files"));
    }
    let shown = |entry: &Entry, why: &str| Some(format!("{} {why}", entry.path.display()));
    for entry in &tree.entries {
        match entry.kind {
            Kind::Link(_) => return shown(entry, "is a link"),
            Kind::File { runs: true, .. } => {
                return shown(entry, "is executable, and would not be so afterwards");
            }
            Kind::Directory if is_empty(tree, &entry.path) => {
                return shown(entry, "is an empty directory");
            }
            Kind::Directory | Kind::File { .. } => {}
        }
    }
    None
}

fn is_empty(tree: &Tree, directory: &Path) -> bool {
    !tree
        .entries
        .iter()
        .any(|entry| entry.path.parent() == Some(directory))
}

/// `source.inline`.
pub(super) fn source(folder: &Path, tree: &Tree) -> Result<Value, Failed> {
    let refused = |why: String| {
        Failed::Use(format!(
            "{} cannot be sent within the ImageBuild: {why}: send it into a registry (--image, or --source-repository)",
            folder.display()
        ))
    };
    if let Some(why) = unfit(tree) {
        return Err(refused(why));
    }
    let mut files = Map::new();
    let mut bytes = 0;
    for entry in &tree.entries {
        if !matches!(entry.kind, Kind::File { .. }) {
            continue;
        }
        let place = folder.join(&entry.path);
        let read = fs::read(&place).map_err(|error| unreadable(&place, &error))?;
        bytes += read.len() as u64;
        let name = entry.path.to_str().map(str::to_owned);
        let text = String::from_utf8(read).ok();
        let (Some(name), Some(text)) = (name, text) else {
            return Err(refused(format!(
                "{} is not text (UTF-8)",
                entry.path.display()
            )));
        };
        files.insert(name, text.into());
    }
    match bytes <= BYTES {
        true => Ok(json!({"inline": {"files": files}})),
        false => Err(refused("its files have more than 256 KiB".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::super::walk::walk;
    use super::*;

    #[test]
    fn small_text_goes_and_what_would_be_lost_does_not() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("src")).unwrap();
        fs::write(at("Dockerfile"), "FROM scratch\n").unwrap();
        fs::write(at("src/a"), "a").unwrap();
        let source = || source(folder.path(), &walk(folder.path(), "Dockerfile").unwrap());
        assert_eq!(
            source().unwrap(),
            json!({"inline": {"files": {"Dockerfile": "FROM scratch\n", "src/a": "a"}}})
        );
        let refused = |why: &str| {
            let said = source().unwrap_err().to_string();
            assert!(said.contains(why), "{said}");
        };
        fs::write(at("src/b"), [0xff]).unwrap();
        refused("src/b is not text");
        fs::write(at("src/b"), vec![b'a'; 256 << 10]).unwrap();
        refused("more than 256 KiB");
        fs::write(at("src/b"), "").unwrap();
        fs::set_permissions(at("src/b"), fs::Permissions::from_mode(0o755)).unwrap();
        refused("src/b is executable");
        fs::remove_file(at("src/b")).unwrap();
        fs::create_dir(at("empty")).unwrap();
        refused("empty is an empty directory");
        fs::remove_dir(at("empty")).unwrap();
        std::os::unix::fs::symlink("nowhere", at("link")).unwrap();
        refused("link is a link");
    }
}
