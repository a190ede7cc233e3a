//! A source in the layers of an OCI artifact or image: fetched, checked and unpacked by the runner.

use std::cell::Cell;
use std::fs;
use std::io::{self, BufReader, Read, Seek};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};
use tar::{Archive, Entry, EntryType};

use super::files::{Prepared, broken};
use super::finish::{Trouble, client};
use super::registry_secret::docker_config;
use crate::failure::plain;
use crate::report::scratch_full;
use crate::request::BuildRequest;
use whittle_api::{Failure, FailureReason, OciSource};
use whittle_image::{Compression, Decompressed, Layer, Reference, normal_platform};
use whittle_registry::answer::{Kind, told};
use whittle_registry::{Client, DockerConfig, Pointed, RegistryError, causes};

/// The most that one layer may hold, as stored, in bytes.
pub const LAYER_LIMIT: u64 = 4 << 30;
/// The most entries that a source may have.
pub const ENTRIES: usize = 500_000;
/// Bytes that the paths of all folders may have: they are kept until all is unpacked.
const NAMES: usize = 32 << 20;
/// Bytes of window that a zstd frame may ask for: what `zstd --long` asks for, which a source may well be packed with.
const WINDOW: u64 = 128 << 20;

/// Fetches and unpacks a source; its revision, `oci@sha256:…`.
pub(super) async fn fetch(
    request: &BuildRequest,
    source: &OciSource,
    output: &DockerConfig,
    prepared: &mut Prepared,
) -> Result<String, Failure> {
    let secret = source.secret_ref.as_ref().map(|it| it.name.as_str());
    let own = docker_config(&request.place.source_auth, "oci.secretRef", secret)?;
    let config = match &source.secret_ref {
        Some(_) => &own,
        None => output,
    };
    let reference = Reference::parse(&source.image);
    let failed = |error: Trouble| failure(source, error);
    let client = client(request, &reference.repository, config, false).map_err(failed)?;
    let (digest, layers) = resolve(&client, &reference, request)
        .await
        .map_err(failed)?;
    let said = format!("source {}@{digest}", source.image);
    request.place.say(&said);
    let folder = PathBuf::from(prepared.path("artifact"));
    fs::create_dir_all(&folder).map_err(broken)?;
    let mut archived = Archived::within(request.scratch_bytes);
    for layer in &layers {
        let packed = PathBuf::from(prepared.path("layer"));
        if u64::try_from(layer.size).is_ok_and(|size| size > archived.room.bytes) {
            return Err(too_large(source, request));
        }
        let got = client.blob_into(&layer.digest, LAYER_LIMIT.min(archived.room.bytes), &packed);
        got.await.map_err(Trouble::from).map_err(failed)?;
        archived = unpacked(archived, packed, layer.clone(), folder.clone())
            .await
            .map_err(|error| match error.kind() {
                io::ErrorKind::FileTooLarge => too_large(source, request),
                _ => not_a_source(source, &causes(&error)),
            })?;
    }
    let context = archived.context(&folder, source.sub_path.as_deref());
    let context = context.ok_or_else(|| {
        let folder = source.sub_path.as_deref().unwrap_or_default();
        plain(
            FailureReason::SourceNotFound,
            format!(
                "directory {folder} not found in {}: check oci.subPath",
                source.image
            ),
        )
    })?;
    prepared.files.context = Some(context.to_string_lossy().into_owned());
    Ok(format!("oci@{digest}"))
}

/// What has been unpacked into a folder, and what may still be.
pub(super) struct Archived {
    room: Room,
    looks: Looks,
}

impl Archived {
    /// Nothing yet; so many bytes at most, packed and unpacked.
    pub(super) fn within(bytes: u64) -> Self {
        Self {
            room: Room {
                bytes,
                entries: ENTRIES,
            },
            looks: Looks::default(),
        }
    }

    /// The folder `sub_path` of it, once all is unpacked; none where it is not a folder.
    pub(super) fn context(&self, folder: &Path, sub_path: Option<&str>) -> Option<PathBuf> {
        self.looks.apply(folder);
        within(folder, sub_path)
    }
}

/// Unpacks one layer into a folder, and removes what was packed.
pub(super) async fn unpacked(
    mut archived: Archived,
    packed: PathBuf,
    layer: Layer,
    into: PathBuf,
) -> io::Result<Archived> {
    let unpacked = tokio::task::spawn_blocking(move || {
        let Archived { room, looks } = &mut archived;
        // Both lie there until all is unpacked.
        let size = fs::metadata(&packed)?.len();
        room.bytes = room.bytes.saturating_sub(size);
        unpack(&packed, &layer, &into, room, looks)?;
        fs::remove_file(&packed)?;
        room.bytes += size;
        Ok(archived)
    });
    unpacked.await.map_err(io::Error::other).flatten()
}

fn failure(source: &OciSource, error: Trouble) -> Failure {
    let image = &source.image;
    match error {
        Trouble::Registry(RegistryError::NotFound(said)) => plain(
            FailureReason::SourceNotFound,
            format!("{image} not found in its registry ({said}): check oci.image"),
        ),
        Trouble::Registry(RegistryError::Denied(said)) => plain(
            FailureReason::SourceDenied,
            format!(
                "access to {image} is denied ({said}): name a Secret of type \
                    kubernetes.io/dockerconfigjson that may pull in oci.secretRef"
            ),
        ),
        Trouble::Registry(RegistryError::Transient { message, .. }) => plain(
            FailureReason::SourceUnreachable,
            format!("cannot pull {image}: its registry is unreachable or unavailable: {message}"),
        ),
        Trouble::Registry(RegistryError::Other(said)) if told(&said).kind == Kind::NoRegistry => {
            plain(
                FailureReason::SourceNotFound,
                format!(
                    "cannot pull {image}: {said}; the server there is a web server, not a \
                        registry: check oci.image"
                ),
            )
        }
        other => not_a_source(source, &other.to_string()),
    }
}

fn too_large(source: &OciSource, request: &BuildRequest) -> Failure {
    let said = format!(
        "{} has more than {} bytes, compressed and unpacked together",
        source.image, request.scratch_bytes
    );
    plain(FailureReason::SourceTooLarge, scratch_full(&said))
}

fn not_a_source(source: &OciSource, said: &str) -> Failure {
    plain(
        FailureReason::SourceNotFound,
        format!(
            "{} is not a valid source: {said}; its layers must be tar archives, plain or \
                compressed with gzip or zstd",
            source.image
        ),
    )
}

/// The digest of what the reference stands for, and the layers of its manifest; of an index, those for
/// the build's first platform, or else the first ones.
async fn resolve(
    client: &Client,
    reference: &Reference,
    request: &BuildRequest,
) -> Result<(String, Vec<Layer>), Trouble> {
    match client.pointed(reference).await? {
        Pointed::Image(manifest) => Ok((manifest.digest, manifest.layers)),
        Pointed::Index {
            digest, entries, ..
        } => {
            let asked = request
                .inputs
                .platforms
                .first()
                .map(|platform| platform.0.as_str());
            let entry = entries
                .iter()
                .find(|entry| {
                    let stated = entry.platform.as_deref().map(normal_platform);
                    asked.is_some() && stated == asked.map(normal_platform)
                })
                .or(entries.first())
                .ok_or(Trouble::Empty)?;
            let manifest = client.platform_manifest(&entry.digest).await?;
            Ok((digest, manifest.layers))
        }
    }
}

/// Mode and time of an entry, as an archive states them. What a build makes of a folder on disk has both, and belongs to
/// root; extended attributes are left out.
#[derive(Clone, Copy)]
struct Look {
    mode: u32,
    seconds: i64,
}

impl Look {
    fn of(entry: &Entry<impl Read>) -> io::Result<Self> {
        let header = entry.header();
        Ok(Self {
            mode: header.mode()? & 0o7777,
            seconds: i64::try_from(header.mtime()?).unwrap_or(i64::MAX),
        })
    }

    /// `and`: what buildctl needs to read it as this user.
    fn apply(self, place: &Path, and: u32) -> io::Result<()> {
        fs::set_permissions(place, fs::Permissions::from_mode(self.mode | and))?;
        self.times(place)
    }

    fn times(self, place: &Path) -> io::Result<()> {
        // BuildKit takes a file of the same size and time for the one that it has from an earlier context, and archives
        // may give all their files one time. Layers hold whole seconds: the rest tells the contents apart.
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let at = Timespec {
            tv_sec: self.seconds,
            tv_nsec: now.map_or(0, |now| now.subsec_nanos()).into(),
        };
        let times = Timestamps {
            last_access: at,
            last_modification: at,
        };
        utimensat(CWD, place, &times, AtFlags::SYMLINK_NOFOLLOW).map_err(io::Error::from)
    }
}

/// How folders are to look once all of them are filled.
#[derive(Default)]
struct Looks {
    folders: Vec<(PathBuf, Look)>,
    bytes: usize,
}

impl Looks {
    fn later(&mut self, path: PathBuf, look: Look) -> io::Result<()> {
        self.bytes += path.as_os_str().len();
        if self.bytes > NAMES {
            let said =
                format!("too large: the names of its directories have more than {NAMES} bytes");
            return Err(io::Error::other(said));
        }
        self.folders.push((path, look));
        Ok(())
    }

    /// What has gone since, or has become something else, is left alone.
    fn apply(&self, root: &Path) {
        for (path, look) in &self.folders {
            if let Ok(place) = folder(root, path)
                && fs::symlink_metadata(&place).is_ok_and(|found| found.is_dir())
            {
                let _ = look.apply(&place, 0o500);
            }
        }
    }
}

/// What may still be unpacked.
struct Room {
    bytes: u64,
    entries: usize,
}

/// Unpacks one layer into `root`: a tar archive, or one file where its title names it.
fn unpack(
    packed: &Path,
    layer: &Layer,
    root: &Path,
    room: &mut Room,
    looks: &mut Looks,
) -> io::Result<()> {
    let mut file = BufReader::new(fs::File::open(packed)?);
    let mut head = Vec::with_capacity(4);
    (&mut file).take(4).read_to_end(&mut head)?;
    file.rewind()?;
    match (Compression::sniff(&head), &layer.title) {
        (Compression::None, Some(title)) if !is_tar(packed)? => {
            let place = place(root, Path::new(title))?;
            fs::create_dir_all(place.parent().unwrap_or(root))?;
            let size = file.get_ref().metadata()?.len();
            room.bytes = room.bytes.checked_sub(size).ok_or_else(full)?;
            fs::copy(packed, &place)?;
            fs::set_permissions(place, fs::Permissions::from_mode(0o644))
        }
        (compression, _) => {
            let stream = Decompressed::new(file, compression, WINDOW);
            unpack_tar(stream, compression, root, room, looks)
        }
    }
}

/// True where `ustar` stands at its place (POSIX.1-1988 and all that came after).
fn is_tar(path: &Path) -> io::Result<bool> {
    let mut head = vec![];
    fs::File::open(path)?.take(512).read_to_end(&mut head)?;
    Ok(head.get(257..262) == Some(b"ustar"))
}

fn unpack_tar(
    stream: impl Read,
    compression: Compression,
    root: &Path,
    room: &mut Room,
    looks: &mut Looks,
) -> io::Result<()> {
    let left = Cell::new(room.bytes);
    let mut archive = Archive::new(Limited {
        stream,
        left: &left,
    });
    archive.set_preserve_mtime(false);
    for entry in archive.entries()? {
        room.entries = room
            .entries
            .checked_sub(1)
            .ok_or_else(|| io::Error::other(format!("too many entries: more than {ENTRIES}")))?;
        let mut entry = entry?;
        // What is not in the archive is written out all the same, as zeros.
        if entry.header().entry_type() == EntryType::GNUSparse {
            take(&left, entry.size())?;
        }
        unpack_entry(&mut entry, root, looks)?;
    }
    // What follows an archive's end is packed data as well, and damage or an early end there shows that not all came.
    if compression != Compression::None {
        io::copy(&mut archive.into_inner(), &mut io::sink())?;
    }
    room.bytes = left.get();
    Ok(())
}

fn unpack_entry(entry: &mut Entry<impl Read>, root: &Path, looks: &mut Looks) -> io::Result<()> {
    let path = entry.path()?.into_owned();
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    // Layers of an image mark what they take away
    // (https://github.com/opencontainers/image-spec/blob/main/layer.md#whiteouts).
    if let Some(gone) = name.strip_prefix(".wh.") {
        let folder = folder(root, path.parent().unwrap_or(Path::new("")))?;
        return if gone == ".wh..opq" {
            remove(&folder).and_then(|()| fs::create_dir_all(&folder))
        } else if matches!(gone, "" | "." | "..") {
            // The folder itself, or what it lies in.
            Err(outside(&path))
        } else {
            remove(&folder.join(gone))
        };
    }
    match entry.header().entry_type() {
        EntryType::Directory => {
            let place = place(root, &path)?;
            // Not under its own mode yet: a folder that we may not write could not be filled.
            fs::create_dir_all(&place)?;
            if place == root {
                return Ok(());
            }
            looks.later(path, Look::of(entry)?)
        }
        EntryType::Regular
        | EntryType::Continuous
        | EntryType::GNUSparse
        | EntryType::Symlink
        | EntryType::Link => {
            let place = place(root, &path)?;
            if fs::symlink_metadata(&place).is_ok() {
                remove(&place)?;
            }
            // Refuses names and links that lead out of the root.
            if !entry.unpack_in(root)? {
                return Err(outside(&path));
            }
            match entry.header().entry_type() {
                // The file's own look stands already.
                EntryType::Link => Ok(()),
                EntryType::Symlink => Look::of(entry)?.times(&place),
                _ => Look::of(entry)?.apply(&place, 0o400),
            }
        }
        _ => Ok(()),
    }
}

/// Where `path` lies within `root`. No folder on the way may be a link: nothing is written through one.
fn place(root: &Path, path: &Path) -> io::Result<PathBuf> {
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => Ok(folder(root, parent)?.join(name)),
        _ => folder(root, path),
    }
}

/// As [`place`], for a folder: it may be no link itself.
fn folder(root: &Path, path: &Path) -> io::Result<PathBuf> {
    let mut place = root.to_owned();
    for part in path.components() {
        match part {
            Component::Normal(name) => place.push(name),
            Component::CurDir | Component::RootDir => continue,
            _ => return Err(outside(path)),
        }
        if fs::symlink_metadata(&place).is_ok_and(|found| found.file_type().is_symlink()) {
            return Err(outside(path));
        }
    }
    Ok(place)
}

fn outside(path: &Path) -> io::Error {
    io::Error::other(format!(
        "its entry {} escapes the archive (path traversal)",
        path.display()
    ))
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(_) => Ok(()),
    }
}

/// The folder `sub_path` of `root`; none where it is no folder, or a link.
fn within(root: &Path, sub_path: Option<&str>) -> Option<PathBuf> {
    let place = folder(root, Path::new(sub_path.unwrap_or_default())).ok()?;
    fs::symlink_metadata(&place).ok()?.is_dir().then_some(place)
}

/// Fails once more than `left` bytes have come.
struct Limited<'a, R> {
    stream: R,
    left: &'a Cell<u64>,
}

/// Takes so many bytes out of what is left.
fn take(left: &Cell<u64>, bytes: u64) -> io::Result<()> {
    left.set(left.get().checked_sub(bytes).ok_or_else(full)?);
    Ok(())
}

fn full() -> io::Error {
    io::Error::new(
        io::ErrorKind::FileTooLarge,
        "too large for the scratch directory",
    )
}

impl<R: Read> Read for Limited<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.stream.read(buffer)?;
        take(self.left, read as u64)?;
        Ok(read)
    }
}

#[cfg(test)]
#[path = "oci_tests.rs"]
mod tests;
