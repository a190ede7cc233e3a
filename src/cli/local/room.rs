//! A private folder that is laid out as the runner's Pod is, for as long as a build runs.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::process::{Pid, getuid, test_kill_process};
use whittle_api::{BuilderSpec, ConfigMapSource, SecretKeyRef};
use whittle_build::inputs::Inputs;
use whittle_build::place::Place;
use whittle_build::request::{BuildRequest, SCRATCH_BYTES, Tagging};
use whittle_registry::CONFIG_KEY;

use super::Error;
use super::checked::{checked, in_clear};
use super::credentials;
use super::manifest::Manifest;
use super::spec::{SecretFrom, SecretOption, Wanted, names};

/// The most that a build secret may have, in bytes: what a Secret of a cluster holds.
const SECRET: u64 = 1 << 20;
/// Names that are tried for the folder.
const TRIES: u32 = 16;

/// The folder. It is removed with this value.
#[derive(Debug)]
pub struct Room {
    folder: PathBuf,
    /// Held for as long as the build runs, also where others cannot see its process.
    _held: fs::File,
}

impl Room {
    /// Makes it, for nobody else to look into.
    pub fn make() -> Result<Self, Error> {
        let all = std::env::temp_dir();
        sweep(&all);
        let failed = |error| {
            Error::new(format!(
                "cannot create a directory in {}: {error}",
                all.display()
            ))
        };
        let mut last = io::Error::from(io::ErrorKind::AlreadyExists);
        for attempt in 0..TRIES {
            let nanos = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |it| it.subsec_nanos());
            let name = format!("{PREFIX}{}-{nanos:x}{attempt:x}", std::process::id());
            let folder = all.join(name);
            match fs::DirBuilder::new().mode(0o700).create(&folder) {
                Ok(()) => {
                    remove_at_panic(folder.clone());
                    let room = Self {
                        _held: held(&folder).map_err(failed)?,
                        folder,
                    };
                    fs::create_dir(room.folder.join("scratch")).map_err(failed)?;
                    return Ok(room);
                }
                Err(error) => last = error,
            }
        }
        Err(failed(last))
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where the certificates for a daemon are.
    pub fn tls(&self) -> PathBuf {
        Place::within(&self.folder, vec![]).tls
    }

    /// Lays out what the build names, and makes its request. The daemon's address is entered later.
    pub fn request(
        &self,
        wanted: &Wanted,
        manifest: &Manifest,
        buildctl: Vec<OsString>,
    ) -> Result<BuildRequest, Error> {
        let build = &wanted.build;
        let mut place = Place::within(&self.folder, buildctl);
        place.folder.clone_from(&wanted.folder);
        let builder = builder(wanted, manifest);
        checked(build, &builder)?;
        if let Some(source) = &build.spec.source.config_map {
            let missing = || missing("ConfigMap", &source.name, "source.configMap");
            let found = manifest.config_maps.get(&source.name).ok_or_else(missing)?;
            let files = files(found, source)?;
            write_all(&place.source, &files)?;
        }
        let git = build
            .spec
            .source
            .git
            .as_ref()
            .and_then(|git| git.secret_ref.as_ref());
        if let Some(reference) = git {
            let missing = || missing("Secret", &reference.name, "git.secretRef");
            let found = manifest.secrets.get(&reference.name).ok_or_else(missing)?;
            write_all(&place.git_auth, &data(found))?;
        }
        let oci = build
            .spec
            .source
            .oci
            .as_ref()
            .and_then(|oci| oci.secret_ref.as_ref());
        let output = build.spec.output.secret_ref.as_ref();
        for (reference, folder) in [(oci, &place.source_auth), (output, &place.registry_auth)] {
            let found = reference.and_then(|it| manifest.secrets.get(&it.name));
            if let Some(found) = found {
                write_all(folder, &data(found))?;
            }
        }
        for secret in &build.spec.secrets {
            let given = wanted.secrets.iter().find(|given| given.id == secret.id);
            let value = match given {
                Some(given) => value(given)?,
                None => {
                    let SecretKeyRef { name, key } = &secret.secret_ref;
                    let found = manifest.secrets.get(name).map(data);
                    let found = found.and_then(|mut data| data.remove(key));
                    found.ok_or_else(|| {
                        Error::new(format!(
                            "secret {id} of the build: key {key} of Secret {name} not found in the file of -f: give its value \
                             with --secret id={id},src=FILE or --secret id={id},env=NAME",
                            id = secret.id
                        ))
                    })?
                }
            };
            let path = place.secret(&secret.id);
            write_private(&path, &value)?;
        }
        for registry in &builder.registries {
            let Some(ca) = &registry.ca_ref else { continue };
            let missing = || missing("ConfigMap", &ca.name, "caRef");
            let found = manifest.config_maps.get(&ca.name).ok_or_else(missing)?;
            let found = keys(found).remove(&ca.key);
            let found = found.ok_or_else(|| {
                Error::new(format!(
                    "key {} not found in ConfigMap {} of caRef",
                    ca.key, ca.name
                ))
            })?;
            write_private(&place.registry_ca(&registry.host), &found)?;
        }
        let (namespace, name) = names(build);
        let job = format!(
            "{name}-{}",
            self.folder
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
        );
        Ok(BuildRequest {
            namespace,
            name,
            uid: String::new(),
            job,
            build: 1,
            builder_address: String::new(),
            builder_server_name: String::new(),
            natives: vec![],
            builder_memory: None,
            callback: None,
            inputs: Inputs::of(build),
            flux: None,
            tagging: Tagging::Now,
            registries: builder.registries.clone(),
            cache: None,
            proxy: Default::default(),
            previous: vec![],
            standing: vec![],
            rejected: None,
            scratch_bytes: scratch_bytes(free(&self.folder)),
            looks: true,
            no_cache: wanted.no_cache,
            traced: false,
            part: false,
            place,
        })
    }
}

impl Room {
    /// Enters what `docker login` has left, where the file has no Secret for it.
    pub async fn log_in(
        &self,
        request: &BuildRequest,
        wanted: &Wanted,
        builder: &BuilderSpec,
    ) -> Result<(), Error> {
        let place = &request.place;
        if place.registry_auth.exists() {
            return Ok(());
        }
        let context = place.folder.as_deref().unwrap_or(&place.source);
        let name = &wanted.build.spec.dockerfile;
        let inline = wanted.build.spec.source.inline.as_ref();
        let inline = inline.and_then(|inline| inline.files.get(name).cloned());
        let dockerfile = inline.or_else(|| text(&context.join(name)));
        let mirrors: Vec<String> = builder
            .registries
            .iter()
            .flat_map(|it| it.mirrors.clone())
            .collect();
        let asked = credentials::asked(&wanted.build, dockerfile.as_deref(), &mirrors);
        if let Some(found) =
            credentials::found(&asked, &in_clear(builder), |said| place.say(said)).await?
        {
            write_private(&place.registry_auth.join(CONFIG_KEY), found.as_bytes())?;
            if wanted.build.spec.source.oci.is_some() && !place.source_auth.exists() {
                write_private(&place.source_auth.join(CONFIG_KEY), found.as_bytes())?;
            }
        }
        Ok(())
    }
}

/// The file that a build holds in its room.
const HELD: &str = "held";
/// Begins the name of a room; the number of the process follows.
const PREFIX: &str = "whittle-";

fn held(folder: &Path) -> io::Result<fs::File> {
    let file = fs::File::create(folder.join(HELD))?;
    flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    Ok(file)
}

/// Removes rooms of this user whose builds were killed: what is in them are secrets.
fn sweep(all: &Path) {
    let Ok(entries) = fs::read_dir(all) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if name.to_str().is_some_and(is_left) && is_abandoned(&entry.path()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// True for the name of a room whose process is not there.
fn is_left(name: &str) -> bool {
    let pid = name.strip_prefix(PREFIX).and_then(|it| it.split_once('-'));
    let pid = pid
        .and_then(|(pid, _)| pid.parse::<i32>().ok())
        .filter(|pid| *pid > 0);
    let pid = pid.and_then(Pid::from_raw);
    pid.is_some_and(|pid| test_kill_process(pid) == Err(Errno::SRCH))
}

/// True for a directory of this user that nobody holds: a process in another container has a number that is not seen here.
fn is_abandoned(folder: &Path) -> bool {
    let own =
        fs::symlink_metadata(folder).is_ok_and(|it| it.is_dir() && it.uid() == getuid().as_raw());
    let free = |file: fs::File| flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
    own && fs::File::open(folder.join(HELD)).is_ok_and(free)
}

impl Drop for Room {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A program that ends at a panic runs no destructors, and what is here are secrets.
fn remove_at_panic(folder: PathBuf) {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let _ = fs::remove_dir_all(&folder);
        before(info);
    }));
}

/// The Builder of the build, where the file has it.
pub fn builder(wanted: &Wanted, manifest: &Manifest) -> BuilderSpec {
    let name = &wanted.build.spec.builder_ref.name;
    let found = manifest.builders.get(name);
    found
        .map(|builder| builder.spec.clone())
        .unwrap_or_default()
}

fn missing(kind: &str, name: &str, field: &str) -> Error {
    Error::new(format!(
        "{kind} {name} of {field} not found: put it into the file of -f, beside the ImageBuild"
    ))
}

/// What a source may take where this much is free.
fn scratch_bytes(free: Option<u64>) -> u64 {
    free.unwrap_or(SCRATCH_BYTES).min(SCRATCH_BYTES)
}

/// Bytes that are free for this user on the file system of a folder.
fn free(folder: &Path) -> Option<u64> {
    let found = rustix::fs::statvfs(folder).ok()?;
    found.f_bavail.checked_mul(found.f_frsize)
}

/// The beginning of a Dockerfile; none where it cannot be read.
fn text(path: &Path) -> Option<String> {
    let mut text = String::new();
    let file = fs::File::open(path).ok()?;
    file.take(SECRET).read_to_string(&mut text).ok()?;
    Some(text)
}

/// What a Secret has, as the kubelet mounts it.
fn data(secret: &Secret) -> BTreeMap<String, Vec<u8>> {
    let bytes = secret
        .data
        .iter()
        .flatten()
        .map(|(key, value)| (key.clone(), value.0.clone()));
    let texts = secret.string_data.iter().flatten();
    let texts = texts.map(|(key, value)| (key.clone(), value.clone().into_bytes()));
    bytes.chain(texts).collect()
}

/// What a ConfigMap has.
fn keys(map: &ConfigMap) -> BTreeMap<String, Vec<u8>> {
    let texts = map.data.iter().flatten();
    let texts = texts.map(|(key, value)| (key.clone(), value.clone().into_bytes()));
    let bytes = map
        .binary_data
        .iter()
        .flatten()
        .map(|(key, value)| (key.clone(), value.0.clone()));
    texts.chain(bytes).collect()
}

/// The files of a source: all keys, or the items by their paths.
fn files(map: &ConfigMap, source: &ConfigMapSource) -> Result<BTreeMap<String, Vec<u8>>, Error> {
    let keys = keys(map);
    if source.items.is_empty() {
        return Ok(keys);
    }
    let items = source.items.iter().map(|item| {
        let found = keys.get(&item.key).cloned();
        let found = found.ok_or_else(|| {
            Error::new(format!(
                "key {} not found in the ConfigMap of source.configMap",
                item.key
            ))
        })?;
        Ok((item.path.clone(), found))
    });
    items.collect()
}

/// The value of a secret of the command line.
fn value(secret: &SecretOption) -> Result<Vec<u8>, Error> {
    let id = &secret.id;
    match &secret.from {
        SecretFrom::Variable(name) => std::env::var(name).map(String::into_bytes).map_err(|_| {
            Error::new(format!(
                "--secret id={id}: variable {name} is not set in the environment"
            ))
        }),
        SecretFrom::File(path) => {
            let mut bytes = vec![];
            let read = fs::File::open(path)
                .and_then(|file| file.take(SECRET + 1).read_to_end(&mut bytes))
                .map_err(|error| {
                    Error::new(format!("--secret id={id}: {}: {error}", path.display()))
                })?;
            match read as u64 > SECRET {
                true => Err(Error::new(format!(
                    "--secret id={id}: {} is too large: more than 1 MiB",
                    path.display()
                ))),
                false => Ok(bytes),
            }
        }
    }
}

fn write_all(folder: &Path, files: &BTreeMap<String, Vec<u8>>) -> Result<(), Error> {
    fs::create_dir_all(folder)
        .map_err(|error| Error::new(format!("{}: {error}", folder.display())))?;
    for (name, bytes) in files {
        let stays = Path::new(name)
            .components()
            .all(|part| matches!(part, std::path::Component::Normal(_)));
        if name.is_empty() || !stays {
            return Err(Error::new(format!(
                "invalid name of a file: {name:?}: it leads out of its directory"
            )));
        }
        write_private(&folder.join(name), bytes)?;
    }
    Ok(())
}

/// Writes a file that nobody else can read.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let write = || {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)?;
        file.write_all(bytes)
    };
    write().map_err(|error| Error::new(format!("{}: {error}", path.display())))
}

#[cfg(test)]
#[path = "room_tests.rs"]
mod tests;
