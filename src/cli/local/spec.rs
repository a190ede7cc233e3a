//! Options and manifest → the ImageBuild that is built. Pure but for paths.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kube::ResourceExt;
use serde_json::json;
use whittle_api::{
    BuildSecret, ImageBuild, MinimizeMode, Platform, SecretKeyRef, Source, quantity,
};

use super::manifest::Manifest;
use super::rules::allowed;
use super::{Error, Options};
use crate::probes::is_manifest;

/// A secret of the build, and where its value is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretOption {
    /// Its id.
    pub id: String,
    /// Its value.
    pub from: SecretFrom,
}

/// Where the value of a secret is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretFrom {
    /// A file.
    File(PathBuf),
    /// A variable of the environment.
    Variable(String),
}

/// What is to be built.
#[derive(Debug)]
pub struct Wanted {
    /// As it would stand in a cluster.
    pub build: ImageBuild,
    /// A folder in the place of the source.
    pub folder: Option<PathBuf>,
    /// Secrets of the command line.
    pub secrets: Vec<SecretOption>,
    /// True where no step is taken from the cache.
    pub no_cache: bool,
    /// What differs from the cluster, for people.
    pub notes: Vec<String>,
}

impl Wanted {
    /// What the options ask for.
    pub fn of(options: &Options, manifest: &Manifest) -> Result<Self, Error> {
        let file = options.file.as_deref();
        let dockerfile = file.filter(|file| !is_manifest(file));
        let folder = match (&options.folder, &manifest.build) {
            (Some(folder), _) => Some(folder.clone()),
            (None, Some(_)) => None,
            (None, None) => Some(PathBuf::from(".")),
        };
        let folder = folder.map(|folder| absolute(&folder)).transpose()?;
        let mut build = match &manifest.build {
            Some(build) => build.clone(),
            None => bare(options, folder.as_deref())?,
        };
        build.status = None;
        build.metadata.generation.get_or_insert(1);
        if folder.is_some() {
            build.spec.source = Source::default();
        }
        if let (Some(file), Some(folder)) = (dockerfile, &folder) {
            build.spec.dockerfile = within(folder, file)?;
        }
        options.enter(&mut build);
        if build.spec.output.image.contains('@')
            || build
                .spec
                .output
                .image
                .rsplit('/')
                .next()
                .is_some_and(|it| it.contains(':'))
        {
            return Err(Error::new(
                "--image: write the repository without tag and digest: tags are given with --tag, and the digest is a result \
                 of the build",
            ));
        }
        if let Some(folder) = &folder {
            let path = folder.join(&build.spec.dockerfile);
            if !path.is_file() {
                return Err(Error::new(format!(
                    "{} not found in {}: name the Dockerfile with -f",
                    build.spec.dockerfile,
                    folder.display()
                )));
            }
        }
        allowed(&build, folder.is_some())?;
        let mut notes = vec![];
        if build.spec.source.flux.is_some() {
            return Err(Error::new(
                "spec.source.flux requires a cluster with Flux: name the directory to build from instead",
            ));
        }
        if !options.push
            && build
                .spec
                .debug
                .as_ref()
                .is_some_and(|it| it.image.is_some())
        {
            return Err(Error::new(
                "spec.debug.image requires --push: the image for debugging is made from the pushed one",
            ));
        }
        if build.spec.health_check.is_some() && !options.check {
            notes.push(
                "health check: not done: the image is not run without --check; a cluster holds it to spec.healthCheck".into(),
            );
        }
        if let Some(minimize) = &mut build.spec.minimize
            && minimize.mode == MinimizeMode::Apply
        {
            minimize.mode = MinimizeMode::Suggest;
            minimize.trace = false;
            minimize.exercise.clear();
            notes.push(
                "minimize: mode Apply requires a cluster, where the smaller image is run: what it would leave out is suggested"
                    .into(),
            );
        }
        Ok(Self {
            build,
            folder,
            secrets: options.secrets.clone(),
            no_cache: options.no_cache,
            notes,
        })
    }

    /// How long the build may take.
    pub fn timeout(&self) -> Result<Duration, Error> {
        let text = &self.build.spec.timeout;
        duration(text).ok_or_else(|| {
            Error::new(format!(
                "timeout: invalid duration {text}: write one between 1s and 24h, for example 30m or 1h30m"
            ))
        })
    }
}

impl Options {
    /// Enters what the options name in the spec's place.
    fn enter(&self, build: &mut ImageBuild) {
        let spec = &mut build.spec;
        if let Some(image) = &self.image {
            spec.output.image.clone_from(image);
        }
        if !self.tags.is_empty() {
            spec.output.tags.clone_from(&self.tags);
        }
        if !self.platforms.is_empty() {
            spec.platforms = self.platforms.iter().cloned().map(Platform).collect();
        }
        if self.target.is_some() {
            spec.target.clone_from(&self.target);
        }
        if let Some(timeout) = &self.timeout {
            spec.timeout.clone_from(timeout);
        }
        spec.build_args.extend(self.build_args.iter().cloned());
        for secret in &self.secrets {
            spec.secrets.retain(|known| known.id != secret.id);
            spec.secrets.push(BuildSecret {
                id: secret.id.clone(),
                secret_ref: SecretKeyRef {
                    name: "command-line".into(),
                    key: secret.id.clone(),
                },
            });
        }
    }
}

/// An ImageBuild of a folder alone.
fn bare(options: &Options, folder: Option<&Path>) -> Result<ImageBuild, Error> {
    let name = name_of(folder);
    let image = match (&options.image, options.push) {
        (Some(image), _) => image.clone(),
        (None, true) => {
            return Err(Error::new(
                "--push requires --image: the repository to push to, for example registry.example.com/team/hello",
            ));
        }
        (None, false) => format!("localhost/{name}"),
    };
    let value = json!({
        "apiVersion": "whittle.dev/v1alpha1",
        "kind": "ImageBuild",
        "metadata": {"name": name},
        "spec": {"source": {}, "output": {"image": image}},
    });
    serde_json::from_value(value).map_err(|error| Error::new(format!("internal error: {error}")))
}

/// A name for what a folder holds, as objects are called.
fn name_of(folder: Option<&Path>) -> String {
    let name = folder.and_then(Path::file_name).unwrap_or_default();
    let name = name.to_string_lossy().to_ascii_lowercase();
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let name: String = name.chars().take(50).map(plain).collect();
    match name.trim_matches('-') {
        "" => "image".into(),
        name => name.into(),
    }
}

fn absolute(folder: &Path) -> Result<PathBuf, Error> {
    let found = std::fs::canonicalize(folder);
    let found =
        found.map_err(|error| Error::new(format!("directory {}: {error}", folder.display())))?;
    if !found.is_dir() {
        return Err(Error::new(format!(
            "{} is not a directory: name the directory to build from, and a Dockerfile with -f",
            folder.display()
        )));
    }
    Ok(found)
}

/// The path of a Dockerfile within the folder.
fn within(folder: &Path, file: &Path) -> Result<String, Error> {
    let found = std::fs::canonicalize(file).or_else(|_| std::fs::canonicalize(folder.join(file)));
    let found = found.map_err(|error| Error::new(format!("{}: {error}", file.display())))?;
    let path = found.strip_prefix(folder).map_err(|_| {
        Error::new(format!(
            "{} is not in {}: the Dockerfile must be in the directory that is built from",
            found.display(),
            folder.display()
        ))
    })?;
    Ok(path.to_string_lossy().into_owned())
}

/// `NAME=VALUE`; of a name alone the value in the environment.
pub fn build_arg(text: &str) -> Result<(String, String), String> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, value.to_owned()),
        None => {
            let value = std::env::var(text)
                .map_err(|_| format!("{text} is not set in the environment: write {text}=VALUE"))?;
            (text, value)
        }
    };
    match name {
        "" => Err("invalid: write NAME=VALUE".into()),
        "BUILDKIT_SYNTAX" => {
            Err("BUILDKIT_SYNTAX is not allowed: external frontends are off".into())
        }
        name => Ok((name.to_owned(), value)),
    }
}

/// `id=ID,src=FILE` or `id=ID,env=NAME`, as docker build reads it.
pub fn secret(text: &str) -> Result<SecretOption, String> {
    let mut fields = BTreeMap::new();
    for field in text.split(',') {
        let (name, value) = field
            .split_once('=')
            .ok_or("invalid: write id=ID,src=FILE or id=ID,env=NAME")?;
        fields.insert(name, value);
    }
    let id = fields.remove("id").filter(|id| is_id(id)).ok_or(
        "invalid or missing id: use letters, digits, _, . and - only, not starting or ending with . or -",
    )?;
    fields.remove("type");
    let file = fields.remove("src").or_else(|| fields.remove("source"));
    let from = match (file, fields.remove("env")) {
        (Some(file), None) => SecretFrom::File(file.into()),
        (None, Some(name)) => SecretFrom::Variable(name.to_owned()),
        _ => return Err("exactly one of src=FILE and env=NAME is required".into()),
    };
    match fields.keys().next() {
        Some(other) => Err(format!(
            "unknown field {other}: write id=ID,src=FILE or id=ID,env=NAME"
        )),
        None => Ok(SecretOption {
            id: id.to_owned(),
            from,
        }),
    }
}

/// True for the id of a secret, as the rules of the CRD take it.
pub fn is_id(id: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let ends = |b: Option<u8>| b.is_some_and(plain);
    id.len() <= 63
        && id.bytes().all(|b| plain(b) || b == b'.' || b == b'-')
        && ends(id.bytes().next())
        && ends(id.bytes().next_back())
        && !id.starts_with("GIT_AUTH_")
}

/// A duration as the rule of `spec.timeout` takes it.
fn duration(text: &str) -> Option<Duration> {
    let read = Duration::try_from(quantity::checked_duration(text)?).ok()?;
    let longest = Duration::from_secs(24 * 3600);
    (Duration::from_secs(1)..=longest)
        .contains(&read)
        .then_some(read)
}

/// The name that a request has of an ImageBuild.
pub fn names(build: &ImageBuild) -> (String, String) {
    let namespace = build.namespace().unwrap_or_else(|| "default".into());
    (namespace, build.name_any())
}

#[cfg(test)]
#[path = "spec_tests.rs"]
mod tests;
