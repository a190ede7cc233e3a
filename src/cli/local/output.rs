//! `--output`: where an image goes that is not pushed.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde_json::json;
use whittle_image::{Manifest, parse};
use whittle_registry::layout;

use super::Error;

/// A place for an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// The folder of an OCI layout.
    Oci(PathBuf),
    /// One in a tar archive.
    OciArchive(PathBuf),
    /// What `docker load` reads.
    DockerArchive(PathBuf),
}

/// `oci:DIR`, `oci-archive:FILE` or `docker-archive:FILE`.
pub fn output(text: &str) -> Result<Output, String> {
    type Make = fn(PathBuf) -> Output;
    let kinds: [(&str, Make); 3] = [
        ("oci:", Output::Oci),
        ("oci-archive:", Output::OciArchive),
        ("docker-archive:", Output::DockerArchive),
    ];
    kinds
        .iter()
        .find_map(|(kind, make)| {
            Some(make(
                text.strip_prefix(kind).filter(|it| !it.is_empty())?.into(),
            ))
        })
        .ok_or_else(|| "write oci:DIRECTORY, oci-archive:FILE or docker-archive:FILE".into())
}

impl Output {
    /// Why nothing can be written there, before anything is built.
    pub fn check(&self, platforms: usize) -> Result<(), Error> {
        let path = self.path();
        if matches!(self, Self::DockerArchive(_)) && platforms > 1 {
            return Err(Error::new(
                "--output docker-archive: holds one platform: name one with --platform, or write oci-archive:",
            ));
        }
        if matches!(self, Self::Oci(_)) {
            let used = path.read_dir().is_ok_and(|mut it| it.next().is_some());
            if path.is_file() || used && !path.join("oci-layout").is_file() {
                return Err(Error::new(format!(
                    "--output: {} is not an OCI layout and not empty: name another directory",
                    path.display()
                )));
            }
            return Ok(());
        }
        let folder = path.parent().filter(|it| !it.as_os_str().is_empty());
        match path.is_dir() || folder.is_some_and(|folder| !folder.is_dir()) {
            true => Err(Error::new(format!(
                "--output: {} cannot be written: it is a directory, or its directory does not exist",
                path.display()
            ))),
            false => Ok(()),
        }
    }

    fn path(&self) -> &Path {
        match self {
            Self::Oci(path) | Self::OciArchive(path) | Self::DockerArchive(path) => path,
        }
    }

    /// Writes what the layout has. `image`: the repository.
    pub fn write(&self, from: &Path, image: &str) -> Result<(), Error> {
        let written = match self {
            Self::Oci(to) => copy(from, to),
            Self::OciArchive(file) => archive(from, file, None),
            Self::DockerArchive(file) => {
                docker_manifest(from, image).and_then(|text| archive(from, file, Some(&text)))
            }
        };
        written.map_err(|error| {
            let path = self.path().display();
            Error::new(format!("--output: {path} cannot be written: {error}"))
        })
    }
}

/// Copies the blobs, and enters the tags.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    for (name, path) in blobs(from)? {
        let target = to.join(&name);
        if let Some(folder) = target.parent() {
            fs::create_dir_all(folder)?;
        }
        if !target.exists() {
            let part = target.with_extension("part");
            fs::copy(path, &part)?;
            fs::rename(part, target)?;
        }
    }
    layout::merge(from, to)
}

/// The blobs of a layout, by their names within it, in order.
fn blobs(layout: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let mut found = vec![];
    for algorithm in fs::read_dir(layout.join("blobs"))? {
        let algorithm = algorithm?;
        for blob in fs::read_dir(algorithm.path())? {
            let blob = blob?;
            let (kind, hex) = (algorithm.file_name(), blob.file_name());
            let name = format!("blobs/{}/{}", kind.to_string_lossy(), hex.to_string_lossy());
            found.push((name, blob.path()));
        }
    }
    found.sort();
    Ok(found)
}

/// Writes a tar archive of a layout, with what Docker reads of it.
fn archive(from: &Path, file: &Path, docker: Option<&str>) -> io::Result<()> {
    // The list without what has no tag.
    let list = from.with_extension("tagged");
    fs::create_dir_all(&list)?;
    layout::merge(from, &list)?;
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    let part = file.with_file_name(name);
    let written = || -> io::Result<()> {
        let mut tar = tar::Builder::new(BufWriter::new(fs::File::create(&part)?));
        for name in ["oci-layout", "index.json"] {
            add(&mut tar, name, &fs::read(list.join(name))?)?;
        }
        if let Some(text) = docker {
            add(&mut tar, "manifest.json", text.as_bytes())?;
        }
        for (name, path) in blobs(from)? {
            let mut blob = fs::File::open(path)?;
            let mut header = header(blob.metadata()?.len());
            tar.append_data(&mut header, name, &mut blob)?;
        }
        tar.into_inner()?.flush()?;
        fs::rename(&part, file)
    };
    let result = written();
    if result.is_err() {
        let _ = fs::remove_file(&part);
    }
    result
}

fn add<W: Write>(tar: &mut tar::Builder<W>, name: &str, bytes: &[u8]) -> io::Result<()> {
    tar.append_data(&mut header(bytes.len() as u64), name, bytes)
}

/// The same for the same bytes: no time, no user.
fn header(size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_size(size);
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_entry_type(tar::EntryType::Regular);
    header
}

/// What `docker load` looks for: config, layers and names of each image
/// (<https://github.com/moby/docker-image-spec/blob/v1.3.1/spec.md>).
fn docker_manifest(layout: &Path, image: &str) -> io::Result<String> {
    let path = |digest: &str| format!("blobs/{}", digest.replacen(':', "/", 1));
    let mut all = vec![];
    for (tag, digest) in layout::tagged(layout)? {
        let bytes = fs::read(layout.join(path(&digest)))?;
        let Manifest::Image { config, layers, .. } = parse(&bytes).map_err(io::Error::other)?
        else {
            return Err(io::Error::other(
                "it has several platforms: write oci-archive:",
            ));
        };
        let layers: Vec<String> = layers.iter().map(|layer| path(&layer.digest)).collect();
        all.push(json!({
            "Config": path(&config),
            "RepoTags": [format!("{image}:{tag}")],
            "Layers": layers,
        }));
    }
    Ok(json!(all).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_has_a_kind_and_a_path() {
        assert_eq!(output("oci:a/b"), Ok(Output::Oci("a/b".into())));
        assert_eq!(
            output("oci-archive:x.tar"),
            Ok(Output::OciArchive("x.tar".into()))
        );
        assert_eq!(
            output("docker-archive:x"),
            Ok(Output::DockerArchive("x".into()))
        );
        for wrong in ["x.tar", "oci:", "docker:x", ""] {
            assert!(output(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_no_place_for_it_is_told_before_the_build() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("used")).unwrap();
        fs::write(path("used/file"), "").unwrap();
        fs::create_dir(path("empty")).unwrap();
        let fails = |output: Output| output.check(1).is_err();
        assert!(fails(Output::Oci(path("used"))));
        assert!(fails(Output::Oci(path("used/file"))));
        assert!(!fails(Output::Oci(path("empty"))));
        assert!(!fails(Output::Oci(path("new"))));
        fs::write(path("used/oci-layout"), "{}").unwrap();
        assert!(!fails(Output::Oci(path("used"))));
        assert!(fails(Output::OciArchive(path("empty"))));
        assert!(fails(Output::OciArchive(path("none/x.tar"))));
        assert!(!fails(Output::OciArchive(path("x.tar"))));
        assert!(Output::DockerArchive(path("x.tar")).check(2).is_err());
    }
}
