//! Where the smaller image goes: a registry, or an OCI layout in a directory or a tar archive.
//!
//! No name in files comes from the image: blobs are called by the digests of what was written. Nothing that exists is written to.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde_json::json;
use tar_core::EntryType;
use tar_core::builder::EntryBuilder;

use crate::inspect::InspectError;
use crate::inspect::error::file;
use crate::inspect::location::Location;
use whittle_image::smaller::Packed;
use whittle_image::{Descriptor, IndexDocument, OCI_INDEX, Reference, digest_of};

/// What can be written.
const SUPPORTED: &str = "write host/repository:tag for a registry, oci:DIRECTORY[:TAG] or oci-archive:FILE[:TAG] for an OCI layout";

/// What others write, and we do not.
const OTHERS: [&str; 6] = [
    "docker-archive:",
    "docker-daemon:",
    "podman:",
    "containers-storage:",
    "dir:",
    "docker-image:",
];

/// What --to says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// A tag in a registry.
    Registry(Reference),
    /// An OCI layout.
    Layout(Place),
}

/// Where an OCI layout is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) path: PathBuf,
    /// One tar archive, and not a directory.
    pub(super) archive: bool,
    /// The name that the image has in it.
    pub(super) name: Option<String>,
}

impl Target {
    /// Reads --to.
    pub(super) fn parse(text: &str) -> Result<Self, InspectError> {
        let bad = |why: String| InspectError::Name(format!("--to {text}: {why}"));
        for (prefix, archive) in [("oci:", false), ("oci-archive:", true)] {
            let Some(rest) = text.strip_prefix(prefix) else {
                continue;
            };
            let (path, name) = match rest.split_once(':') {
                Some((path, name)) => (path, Some(name.to_owned())),
                None => (rest, None),
            };
            if path.is_empty() || name.as_deref() == Some("") {
                return Err(bad(format!("a path or a tag is missing: {SUPPORTED}")));
            }
            return Ok(Self::Layout(Place {
                path: path.into(),
                archive,
                name,
            }));
        }
        if OTHERS.iter().any(|prefix| text.starts_with(prefix)) {
            return Err(bad(format!("unsupported target: {SUPPORTED}")));
        }
        let packed = [".tar.gz", ".tgz", ".tar.zst", ".tar.xz", ".tar.bz2"];
        let is_path = text.starts_with(['/', '.']);
        if is_path && packed.iter().any(|end| text.ends_with(end)) {
            return Err(bad(
                "unsupported compression: layers are compressed already, so name a file that ends in .tar".into(),
            ));
        }
        if is_path {
            return Ok(Self::Layout(Place {
                path: text.into(),
                archive: text.ends_with(".tar"),
                name: None,
            }));
        }
        let reference = match Location::parse(text, |_| false)? {
            Location::Registry(reference) => reference,
            Location::Files { .. } | Location::Daemon { .. } => {
                return Err(bad(format!("unsupported target: {SUPPORTED}")));
            }
        };
        if reference.tag.is_none() || reference.digest.is_some() {
            return Err(bad(
                "a tag is missing: write host/repository:tag, which is then moved to the smaller image; for a \
                 directory or a file start with ./ or oci:"
                    .into(),
            ));
        }
        Ok(Self::Registry(reference))
    }
}

/// An OCI layout that is being written, beside the place where it will be. It goes away where it is not ended.
pub(super) struct Staging {
    place: Place,
    folder: PathBuf,
    blobs: BTreeMap<String, u64>,
    parts: u32,
}

impl Staging {
    /// Begins: fails where something is there already.
    pub(super) fn new(place: Place) -> Result<Self, InspectError> {
        place.check()?;
        let parent = match place.path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        let folder = parent.join(format!(".whittle-minimize-{}", std::process::id()));
        fs::create_dir(&folder).map_err(file(&folder))?;
        let staging = Self {
            place,
            folder,
            blobs: BTreeMap::new(),
            parts: 0,
        };
        let blobs = staging.layout().join("blobs/sha256");
        fs::create_dir_all(&blobs).map_err(file(&blobs))?;
        Ok(staging)
    }

    fn layout(&self) -> PathBuf {
        self.folder.join("layout")
    }

    fn blob(&self, digest: &str) -> PathBuf {
        self.layout().join("blobs").join(digest.replace(':', "/"))
    }

    /// Files for two layers, whose digests are known at their end alone.
    pub(super) fn layers(&mut self) -> Result<[Part; 2], InspectError> {
        let mut part = || {
            self.parts += 1;
            let path = self.folder.join(format!("layer-{}", self.parts));
            let open = File::create_new(&path).map_err(file(&path))?;
            Ok::<_, InspectError>(Part { path, open })
        };
        Ok([part()?, part()?])
    }

    /// Takes a layer that was written.
    pub(super) fn take(&mut self, packed: &Packed, part: &Part) -> Result<(), InspectError> {
        // A layer of nothing is in no manifest.
        if packed.entries == 0 {
            return fs::remove_file(&part.path).map_err(file(&part.path));
        }
        let path = self.blob(&packed.digest);
        fs::rename(&part.path, &path).map_err(file(&path))?;
        self.blobs.insert(packed.digest.clone(), packed.size);
        Ok(())
    }

    /// Writes a config, a manifest, an index.
    pub(super) fn put(&mut self, bytes: &[u8]) -> Result<String, InspectError> {
        let digest = digest_of(bytes);
        let path = self.blob(&digest);
        fs::write(&path, bytes).map_err(file(&path))?;
        self.blobs.insert(digest.clone(), bytes.len() as u64);
        Ok(digest)
    }

    /// Puts all in its place. `top`: what the layout's index names.
    pub(super) fn finish(self, mut top: Descriptor) -> Result<(), InspectError> {
        if let Some(name) = &self.place.name {
            let mut note =
                |key: &str, value: &str| top.annotations.insert(key.into(), value.into());
            note("org.opencontainers.image.ref.name", name);
            // A whole name: by this one containerd and Docker know it.
            if name.contains('/') || name.contains(':') {
                note("io.containerd.image.name", name);
            }
        }
        let index = IndexDocument {
            schema_version: 2,
            media_type: OCI_INDEX.into(),
            manifests: vec![top],
            ..IndexDocument::default()
        };
        let index = serde_json::to_vec(&index).expect("string keys only");
        let mark = json!({"imageLayoutVersion": "1.0.0"}).to_string();
        for (name, bytes) in [("oci-layout", mark.as_bytes()), ("index.json", &index)] {
            let path = self.layout().join(name);
            fs::write(&path, bytes).map_err(file(&path))?;
        }
        let path = self.place.path.clone();
        if !self.place.archive {
            self.place.check()?;
            return fs::rename(self.layout(), &path).map_err(file(&path));
        }
        let written = File::create_new(&path).and_then(|open| {
            let result = self.tar(io::BufWriter::with_capacity(64 << 10, open));
            if result.is_err() {
                // Half an archive is of no use.
                let _ = fs::remove_file(&path);
            }
            result
        });
        written.map_err(file(&path))
    }

    fn tar(&self, mut out: impl Write) -> io::Result<()> {
        let mut names = vec!["oci-layout".to_owned(), "index.json".to_owned()];
        let blobs = self.blobs.keys();
        names.extend(blobs.map(|digest| format!("blobs/{}", digest.replace(':', "/"))));
        for name in names {
            let mut from = File::open(self.layout().join(&name))?;
            let size = from.metadata()?.len();
            let mut header = EntryBuilder::new_ustar();
            header.path(name.as_bytes());
            header.entry_type(EntryType::Regular);
            header
                .mode(0o644)
                .and_then(|header| header.uid(0))
                .and_then(|header| header.gid(0))
                .and_then(|header| header.mtime(0))
                .and_then(|header| header.size(size))
                .map_err(|error| io::Error::other(error.to_string()))?;
            out.write_all(&header.finish_bytes())?;
            let copied = io::copy(&mut from, &mut out)?;
            if copied != size {
                return Err(io::Error::other("a file has changed while it was read"));
            }
            let padding = size.next_multiple_of(512) - size;
            out.write_all(&[0; 512][..padding as usize])?;
        }
        out.write_all(&[0; 1024])?;
        out.flush()
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Place {
    /// Fails where something is there that would be lost.
    fn check(&self) -> Result<(), InspectError> {
        let path = &self.path;
        let found = match fs::symlink_metadata(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            found => found.map_err(file(path))?,
        };
        let empty = !self.archive
            && found.is_dir()
            && fs::read_dir(path).map_err(file(path))?.next().is_none();
        if empty {
            return Ok(());
        }
        Err(InspectError::Name(format!(
            "--to: {} already exists: delete it, or use another path",
            path.display()
        )))
    }

    /// For people.
    pub(super) fn shown(&self) -> String {
        let kind = match self.archive {
            true => "oci-archive:",
            false => "oci:",
        };
        let name = self.name.as_ref();
        let name = name.map(|name| format!(":{name}")).unwrap_or_default();
        format!("{kind}{}{name}", self.path.display())
    }
}

/// A layer as it is written.
pub(super) struct Part {
    path: PathBuf,
    open: File,
}

impl Write for Part {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.open.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.open.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(path: &str, archive: bool, name: Option<&str>) -> Target {
        Target::Layout(Place {
            path: path.into(),
            archive,
            name: name.map(str::to_owned),
        })
    }

    #[test]
    fn a_target_is_a_tag_in_a_registry_or_a_layout_in_a_directory_or_a_tar() {
        for (text, expected) in [
            ("oci:out", layout("out", false, None)),
            ("oci:./a/b:1.2", layout("./a/b", false, Some("1.2"))),
            (
                "oci-archive:out.tar:example.com:5000/a:1",
                layout("out.tar", true, Some("example.com:5000/a:1")),
            ),
            ("./out", layout("./out", false, None)),
            ("/tmp/out.tar", layout("/tmp/out.tar", true, None)),
            (
                "localhost:5000/a:1",
                Target::Registry(Reference::parse("localhost:5000/a:1")),
            ),
        ] {
            assert_eq!(Target::parse(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn another_target_says_what_is_supported() {
        for (text, why) in [
            ("docker-archive:x.tar", "oci-archive:FILE[:TAG]"),
            ("docker-daemon:x:1", "unsupported target"),
            ("./x.tar.gz", "a file that ends in .tar"),
            ("oci:", "a path or a tag is missing"),
            ("oci:x:", "a path or a tag is missing"),
            ("example.com/a", "a tag is missing"),
            ("out.tar", "start with ./ or oci:"),
            ("example.com/A:1", "lowercase"),
        ] {
            let said = Target::parse(text).unwrap_err().to_string();
            assert!(said.contains(why), "{text}: {said}");
        }
    }

    #[test]
    fn nothing_that_exists_is_written_to_and_nothing_is_left_behind() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("file.tar"), "mine").unwrap();
        fs::create_dir_all(at("full/x")).unwrap();
        fs::create_dir(at("empty")).unwrap();
        std::os::unix::fs::symlink("/nowhere", at("dangling")).unwrap();
        std::os::unix::fs::symlink(at("empty"), at("link")).unwrap();
        for (name, archive) in [
            ("file.tar", true),
            ("file.tar", false),
            ("full", false),
            ("dangling", false),
            ("dangling", true),
            ("link", false),
            ("empty", true),
        ] {
            let place = Place {
                path: at(name),
                archive,
                name: None,
            };
            let said = Staging::new(place).err().expect("it is there").to_string();
            assert!(said.contains("already exists"), "{name}: {said}");
        }
        let place = Place {
            path: at("empty"),
            archive: false,
            name: None,
        };
        let mut staging = Staging::new(place).unwrap();
        staging.put(b"{}").unwrap();
        drop(staging);
        let mut left: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, ["dangling", "empty", "file.tar", "full", "link"]);
        assert_eq!(fs::read(at("file.tar")).unwrap(), b"mine");
    }
}
