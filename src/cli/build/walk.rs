//! What of a folder is sent: its files, directories and links, in one order, without what `.dockerignore` leaves out.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use whittle_build::request::SCRATCH_BYTES;
use whittle_build::runner::ENTRIES;
use whittle_dockerfile::advice::{Above, Ignore};
use whittle_image::display_size;

use crate::cluster::Failed;

/// The largest ignore file that is read, in bytes.
const IGNORE_LIMIT: u64 = 1 << 20;
/// Warnings that are said one by one.
const WARNINGS: usize = 5;
/// Directories in one another.
const DEEP: usize = 255;
/// What leaves files out.
pub(super) const DOCKERIGNORE: &str = ".dockerignore";

/// One thing that is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its path within the folder.
    pub(super) path: PathBuf,
    /// What it is.
    pub(super) kind: Kind,
}

/// What it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A directory.
    Directory,
    /// A file.
    File {
        /// Its bytes.
        size: u64,
        /// True where its owner may run it.
        runs: bool,
    },
    /// A symbolic link, and what it says: it may lead nowhere.
    Link(PathBuf),
}

impl Entry {
    /// Bytes of its contents.
    pub(super) fn size(&self) -> u64 {
        match self.kind {
            Kind::File { size, .. } => size,
            _ => 0,
        }
    }
}

/// All that is sent.
#[derive(Clone, Debug, Default)]
pub(super) struct Tree {
    /// By path.
    pub(super) entries: Vec<Entry>,
    /// What was left out though nothing said so, and why.
    pub(super) warnings: Vec<String>,
    left: usize,
}

impl Tree {
    /// Bytes of all files.
    pub(super) fn bytes(&self) -> u64 {
        self.entries
            .iter()
            .fold(0, |sum, entry| sum.saturating_add(entry.size()))
    }

    /// Nothing, or why it is more than a build may have.
    pub(super) fn fits(&self) -> Result<(), Failed> {
        if self.bytes() <= SCRATCH_BYTES {
            return Ok(());
        }
        let largest: Vec<String> = (self.largest().into_iter())
            .map(|(name, size)| format!("{name} ({})", display_size(size)))
            .collect();
        Err(Failed::Use(format!(
            "the folder is too large: {}, and a build may unpack {}: the largest are {}: leave out with .dockerignore what the \
             image does not need",
            display_size(self.bytes().try_into().unwrap_or(i64::MAX)),
            display_size(SCRATCH_BYTES as i64),
            largest.join(", ")
        )))
    }

    /// The three largest of what lies right within the folder.
    fn largest(&self) -> Vec<(String, i64)> {
        let mut sizes = std::collections::BTreeMap::new();
        for entry in &self.entries {
            let mut parts = entry.path.components();
            let Some(first) = parts.next() else { continue };
            let mut name = first.as_os_str().to_string_lossy().into_owned();
            if parts.next().is_some() {
                name.push('/');
            }
            let sum: &mut u64 = sizes.entry(name).or_default();
            *sum = sum.saturating_add(entry.size());
        }
        let mut sizes: Vec<(String, u64)> = sizes.into_iter().collect();
        sizes.sort_by_key(|(_, size)| std::cmp::Reverse(*size));
        sizes.truncate(3);
        sizes
            .into_iter()
            .map(|(name, size)| (name, size.try_into().unwrap_or(i64::MAX)))
            .collect()
    }

    fn warn(&mut self, text: impl FnOnce() -> String) {
        self.left += 1;
        if self.left <= WARNINGS {
            self.warnings.push(text());
        }
    }
}

/// Walks through a folder. `dockerfile`: its path within it; it and the ignore files are sent whatever they say.
pub(super) fn walk(folder: &Path, dockerfile: &str) -> Result<Tree, Failed> {
    let own = format!("{dockerfile}{DOCKERIGNORE}");
    let text = match text(&folder.join(&own))? {
        Some(text) => Some(text),
        None => text(&folder.join(DOCKERIGNORE))?,
    };
    let ignore = Ignore::parse(text.as_deref().unwrap_or_default());
    let always = [dockerfile, &own, DOCKERIGNORE].into_iter().map(Path::new);
    let mut walk = Walk {
        folder,
        prunes: ignore.is_final(),
        above: always
            .clone()
            .flat_map(|path| path.ancestors().skip(1).map(Path::to_owned))
            .collect(),
        always: always.map(Path::to_owned).collect(),
        ignore,
        tree: Tree::default(),
    };
    let root = walk.ignore.root();
    walk.directory(Path::new(""), &root, 0)?;
    let mut tree = walk.tree;
    tree.entries
        .sort_by(|a, b| (a.path.as_os_str().as_bytes()).cmp(b.path.as_os_str().as_bytes()));
    if tree.left > WARNINGS {
        let more = tree.left - WARNINGS;
        tree.warnings.push(format!("{more} more are left out"));
    }
    Ok(tree)
}

struct Walk<'a> {
    folder: &'a Path,
    ignore: Ignore,
    /// What is left out need not be walked through.
    prunes: bool,
    always: BTreeSet<PathBuf>,
    /// The directories of these.
    above: BTreeSet<PathBuf>,
    tree: Tree,
}

impl Walk<'_> {
    /// True where something of it is sent.
    fn directory(&mut self, path: &Path, above: &Above, depth: usize) -> Result<bool, Failed> {
        let place = self.folder.join(path);
        let failed = |error: io::Error| unreadable(&place, &error);
        let mut sent = false;
        for found in fs::read_dir(&place).map_err(failed)? {
            let found = found.map_err(failed)?;
            let kind = found.file_type().map_err(failed)?;
            sent |= self.one(&path.join(found.file_name()), kind, above, depth)?;
        }
        Ok(sent)
    }

    fn one(
        &mut self,
        path: &Path,
        kind: fs::FileType,
        above: &Above,
        depth: usize,
    ) -> Result<bool, Failed> {
        let shown = path.display();
        let here = self.ignore.within(above, &path.to_string_lossy());
        let out = here.is_out() && !self.always.contains(path);
        let place = self.folder.join(path);
        let pruned = out && self.prunes && !self.above.contains(path);
        if pruned || out && !kind.is_dir() {
            return Ok(false);
        }
        let name = path.file_name().unwrap_or_default().as_bytes();
        if name.starts_with(b".wh.") {
            self.tree.warn(|| {
                format!("{shown} is left out: in the layers of an image such a name deletes a file")
            });
            return Ok(false);
        }
        if kind.is_dir() {
            if depth >= DEEP {
                let text =
                    format!("{shown}: too many directories in one another: more than {DEEP}");
                return Err(Failed::Use(text));
            }
            // What is left out need not be readable.
            if out && fs::read_dir(&place).is_err() {
                return Ok(false);
            }
            let sent = self.directory(path, &here, depth + 1)?;
            return match sent || !out {
                true => self.send(path, Kind::Directory),
                false => Ok(false),
            };
        }
        if kind.is_symlink() {
            let target = fs::read_link(&place).map_err(|error| unreadable(&place, &error))?;
            return self.send(path, Kind::Link(target));
        }
        if kind.is_file() {
            let meta = fs::symlink_metadata(&place).map_err(|error| unreadable(&place, &error))?;
            let runs = meta.permissions().mode() & 0o100 != 0;
            let size = meta.len();
            return self.send(path, Kind::File { size, runs });
        }
        let what = match kind {
            kind if kind.is_socket() => "a socket",
            kind if kind.is_fifo() => "a FIFO",
            _ => "a device",
        };
        self.tree
            .warn(|| format!("{shown} is left out: it is {what}, and not a file"));
        Ok(false)
    }

    fn send(&mut self, path: &Path, kind: Kind) -> Result<bool, Failed> {
        if self.tree.entries.len() >= ENTRIES {
            return Err(Failed::Use(format!(
                "{}: too many entries: more than {ENTRIES}: leave out with .dockerignore what the image does not need, for \
                 example node_modules or .git",
                self.folder.display()
            )));
        }
        let path = path.to_owned();
        self.tree.entries.push(Entry { path, kind });
        Ok(true)
    }
}

/// What cannot be read.
pub(super) fn unreadable(path: &Path, error: &io::Error) -> Failed {
    Failed::Use(format!(
        "{} cannot be read: {error}: allow it (chmod), or leave it out with .dockerignore",
        path.display()
    ))
}

/// The text of an ignore file; none where there is none.
fn text(path: &Path) -> Result<Option<String>, Failed> {
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(path, &error)),
        Ok(meta) if !meta.is_file() || meta.len() > IGNORE_LIMIT => {
            let text = format!(
                "{} is not a file of at most {IGNORE_LIMIT} bytes",
                path.display()
            );
            return Err(Failed::Use(text));
        }
        Ok(_) => {}
    }
    let bytes = fs::read(path).map_err(|error| unreadable(path, &error))?;
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

#[cfg(test)]
#[path = "walk_tests.rs"]
mod tests;
