//! `whittle build`: a directory of this machine becomes an image, built in the cluster.

mod apply;
mod documents;
mod given;
mod inline;
mod layers;
mod manifest;
mod options;
mod pack;
mod upload;
mod walk;

pub(crate) use options::Options;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use serde_json::{Map, Value, json};
use whittle_api::ImageBuild;
use whittle_image::display_size;

use crate::cluster::{
    Cluster, Failed, Shown, State, Until, answer, ended, follow, report, request, written,
};
use crate::inspect::remote::Connection;
use crate::probes::is_manifest;
use apply::{How, apply, existing, replace_source};
use options::Printed;
use upload::{Sent, Source, Unsent};
use walk::Tree;

/// The Dockerfile where nothing else is said.
const DOCKERFILE: &str = "Dockerfile";

/// Runs the command.
pub(crate) async fn run(options: &Options) -> ExitCode {
    answer::ended(match &options.file {
        Some(path) if is_manifest(path) => documents::run(options, path).await,
        _ => build(options).await,
    })
}

async fn build(options: &Options) -> Result<(), Failed> {
    let folder = directory(options.folder.as_deref().unwrap_or(Path::new(".")))?;
    let mut given = given::spec(options, |name| std::env::var(name).ok())?;
    let name = match &options.name {
        Some(name) => given::checked(name)?,
        None => given::name(&folder)?,
    };
    // What is said whole can be printed without a cluster.
    let cluster = match options.dry_run && options.image.is_some() {
        true => None,
        false => Some(options.reach.cluster().await?),
    };
    let before = match &cluster {
        Some(cluster) => existing(cluster, &name).await?,
        None => None,
    };
    let dockerfile = dockerfile(options, &folder, before.as_ref())?;
    if options.file.is_some() {
        given.insert("dockerfile".into(), dockerfile.clone().into());
    }
    let image = match (&options.image, &before) {
        (Some(image), _) => image.clone(),
        (None, Some(before)) => before.spec.output.image.clone(),
        (None, None) => {
            return Err(Failed::Use(format!(
                "ImageBuild {name} does not exist yet: say where its image goes: whittle build --image \
                 registry.example.com/team/{name}"
            )));
        }
    };
    let tree = walk::walk(&folder, &dockerfile)?;
    for warning in &tree.warnings {
        anstream::eprintln!("warning: {warning}");
    }
    tree.fits()?;
    let plan = Plan {
        options,
        folder: &folder,
        tree,
        name,
        given,
        before,
    };
    let (source, packed) = plan.source(&image).await?;
    let Some(cluster) = cluster else {
        return print(&plan.object(None, source), options.output);
    };
    if options.dry_run {
        let namespace = cluster.namespace.as_str();
        return print(&plan.object(Some(namespace), source), options.output);
    }
    plan.carry_out(&cluster, &image, source, packed).await
}

/// What is to be built.
struct Plan<'a> {
    options: &'a Options,
    folder: &'a Path,
    tree: Tree,
    name: String,
    given: Map<String, Value>,
    before: Option<ImageBuild>,
}

impl Plan<'_> {
    /// The source as the spec has it, and what is to be sent for it.
    async fn source(&self, image: &str) -> Result<(Value, Option<Source>), Failed> {
        if self.options.inline {
            return Ok((inline::source(self.folder, &self.tree)?, None));
        }
        let repository = match &self.options.source_repository {
            Some(repository) => {
                given::repository("--source-repository", repository)?;
                repository
            }
            None => image,
        };
        let packed = upload::pack(self.folder, &self.tree).await?;
        packed.fits()?;
        let mut oci = json!({"image": format!("{repository}@{}", packed.digest)});
        if let Some(name) = &self.options.source_secret {
            oci["secretRef"] = json!({"name": name});
        }
        Ok((json!({"oci": oci}), Some(packed)))
    }

    fn object(&self, namespace: Option<&str>, source: Value) -> Value {
        let said = self.before.as_ref().map(manifest::said);
        manifest::object(
            namespace,
            &self.name,
            said.unwrap_or_default(),
            &self.given,
            source,
        )
    }

    /// Sends, applies, follows.
    async fn carry_out(
        &self,
        cluster: &Cluster,
        image: &str,
        source: Value,
        packed: Option<Source>,
    ) -> Result<(), Failed> {
        // Whether all of it would be taken is known before anything is sent.
        let unchanged = match self.apply(cluster, &source, true).await? {
            Some(would_be) => self
                .before
                .as_ref()
                .is_some_and(|before| before.metadata.generation == would_be.metadata.generation),
            None => false,
        };
        if let Some(before) = &self.before
            && unchanged
            && !self.options.rebuild
            && State::of(before) == State::Ready
        {
            return show(cluster, before, &After::UpToDate, self.options).await;
        }
        let source = match packed {
            Some(packed) => self.send(image, source, &packed).await?,
            None => source,
        };
        let now = self.apply(cluster, &source, false).await?;
        let now = now.expect("what is applied in earnest comes back");
        let what = after(cluster, self.before.as_ref(), &now, self.options).await?;
        show(cluster, &now, &what, self.options).await
    }

    /// Applies it; none where it was not tried, because sources of others go away only in earnest.
    async fn apply(
        &self,
        cluster: &Cluster,
        source: &Value,
        dry_run: bool,
    ) -> Result<Option<ImageBuild>, Failed> {
        let how = How {
            force: self.options.force_conflicts,
            dry_run,
        };
        if let Some(before) = &self.before {
            let said = manifest::said(before);
            let replaced = replace_source(cluster, before, &said, source, how).await?;
            if replaced && dry_run {
                return Ok(None);
            }
        }
        let object = self.object(Some(&cluster.namespace), source.clone());
        apply(cluster, &self.name, &object, how).await.map(Some)
    }

    /// Sends the directory; where the registry is unreachable and the directory is small, its files are the source.
    async fn send(&self, image: &str, source: Value, packed: &Source) -> Result<Value, Failed> {
        let options = self.options;
        let (option, repository) = match (&options.push_to, &options.source_repository) {
            (Some(own), _) => ("--push-to", own.as_str()),
            (None, Some(own)) => ("--source-repository", own.as_str()),
            (None, None) => ("--image", image),
        };
        let connection = Connection {
            plain_http: options.plain_http,
            ca: options.ca.clone(),
        };
        let to = upload::place(given::repository(option, repository)?, &connection).await?;
        match packed.push(&to, &tag(&self.name)).await {
            Ok(sent) => anstream::eprintln!("{}", said(sent, packed, repository)),
            Err(Unsent::Unreachable(failed)) if inline::unfit(&self.tree).is_none() => {
                let Ok(files) = inline::source(self.folder, &self.tree) else {
                    return Err(failed);
                };
                anstream::eprintln!(
                    "note: {failed}; the directory is small: its files are sent within the ImageBuild (source.inline)"
                );
                return Ok(files);
            }
            Err(Unsent::Refused(failed)) if inline::unfit(&self.tree).is_none() => {
                return Err(Failed::Refused(format!(
                    "{failed}; the directory is small: --inline sends its files within the ImageBuild, without a registry"
                )));
            }
            Err(unsent) => return Err(unsent.into()),
        }
        Ok(source)
    }
}

/// What was sent, in one line.
fn said(sent: Sent, packed: &Source, repository: &str) -> String {
    let size = |bytes: u64| display_size(bytes.try_into().unwrap_or(i64::MAX));
    match sent.layers {
        0 => format!(
            "nothing to send: {repository} has all {}",
            size(packed.size())
        ),
        _ => format!(
            "sent {} of {} ({} of {} layers) to {repository}",
            size(sent.bytes),
            size(packed.size()),
            sent.layers,
            packed.layers()
        ),
    }
}

/// The tag that keeps the newest source of an ImageBuild: at most 128 characters.
fn tag(name: &str) -> String {
    let mut tag = format!("whittle-source-{name}");
    tag.truncate(128);
    tag
}

/// What is the case after it was applied.
#[derive(Clone, Debug, PartialEq, Eq)]
enum After {
    /// A build begins, or has begun.
    Begun(Until),
    /// Nothing has changed, and the image is there.
    UpToDate,
    /// Nothing has changed since the build that failed.
    FailedBefore,
    /// Nothing begins until it is resumed.
    Suspended,
}

/// Looks at what applying has changed, and asks for a build where it has changed nothing and one is wanted.
async fn after(
    cluster: &Cluster,
    before: Option<&ImageBuild>,
    now: &ImageBuild,
    options: &Options,
) -> Result<After, Failed> {
    let unchanged =
        before.is_some_and(|before| before.metadata.generation == now.metadata.generation);
    let decided = decide(now, unchanged, options.rebuild);
    match decided {
        None => Ok(After::Begun(request(cluster, now).await?)),
        Some(after) => Ok(after),
    }
}

/// None where a build is to be asked for.
fn decide(now: &ImageBuild, unchanged: bool, rebuild: bool) -> Option<After> {
    if now.spec.suspend {
        return Some(After::Suspended);
    }
    if !unchanged {
        let generation = now.metadata.generation.unwrap_or(0);
        return Some(After::Begun(Until::Generation(generation)));
    }
    if rebuild {
        return None;
    }
    Some(match State::of(now) {
        State::Ready => After::UpToDate,
        State::Failed => After::FailedBefore,
        _ => After::Begun(Until::Current),
    })
}

/// Shows what comes of it, to the end.
async fn show(
    cluster: &Cluster,
    build: &ImageBuild,
    after: &After,
    options: &Options,
) -> Result<(), Failed> {
    let name = build.name_any();
    match after {
        After::UpToDate => {
            anstream::println!("{name}: up to date: {}", image_of(build));
            Ok(())
        }
        After::FailedBefore => {
            anstream::eprint!("{}", report(build, Timestamp::now()));
            Err(Failed::Build(format!(
                "{name}: nothing has changed since this build: --rebuild builds again"
            )))
        }
        After::Suspended => {
            anstream::println!(
                "{name}: applied; it is suspended, and is built when it is resumed: whittle resume {name}"
            );
            Ok(())
        }
        After::Begun(_) if options.no_follow => {
            anstream::println!("{name}: applied: whittle logs {name} -f");
            Ok(())
        }
        After::Begun(until) if options.wait => {
            let builds = std::slice::from_ref(build);
            ended(cluster, builds, until, options.timeout).await
        }
        After::Begun(until) => {
            let shown = Shown {
                output: options.progress,
                quiet: false,
            };
            follow(cluster, &name, until, shown, options.timeout).await
        }
    }
}

/// The image with its digest.
fn image_of(build: &ImageBuild) -> String {
    let status = build.status.as_ref();
    let image = status.and_then(|it| it.image.clone());
    image.unwrap_or_else(|| build.spec.output.image.clone())
}

/// The directory, as an absolute path without links.
fn directory(path: &Path) -> Result<PathBuf, Failed> {
    let found = path.canonicalize();
    let found = found.map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            Failed::Use(format!("directory {} not found", path.display()))
        }
        _ => walk::unreadable(path, &error),
    })?;
    match found.is_dir() {
        true => Ok(found),
        false => Err(Failed::Use(format!(
            "{} is not a directory: give the one that has the Dockerfile, and the Dockerfile itself with -f",
            path.display()
        ))),
    }
}

/// The Dockerfile's path within the directory: of -f, or else of the ImageBuild that exists.
fn dockerfile(
    options: &Options,
    folder: &Path,
    before: Option<&ImageBuild>,
) -> Result<String, Failed> {
    let Some(file) = &options.file else {
        let name = before.map_or(DOCKERFILE, |it| it.spec.dockerfile.as_str());
        return match folder.join(name).is_file() {
            true => Ok(name.to_owned()),
            false => Err(Failed::Use(format!(
                "{name} not found in {}: create it, or name another one with -f",
                folder.display()
            ))),
        };
    };
    let here = std::env::current_dir().unwrap_or_default();
    // As docker has it: from where one is; else within the directory.
    let places = [here.join(file), folder.join(file)];
    let Some(place) = places.iter().find(|place| place.is_file()) else {
        return Err(Failed::Use(format!(
            "Dockerfile {} not found, neither here nor in {}",
            file.display(),
            folder.display()
        )));
    };
    let named = place.parent().and_then(|parent| parent.canonicalize().ok());
    let named = named.map(|parent| parent.join(place.file_name().unwrap_or_default()));
    named
        .and_then(|place| given::within(folder, &place))
        .ok_or_else(|| {
            Failed::Use(format!(
                "Dockerfile {} is outside of {}: move it into the directory, which is all that is sent",
                file.display(),
                folder.display()
            ))
        })
}

/// Prints an object.
fn print(object: &Value, how: Printed) -> Result<(), Failed> {
    let text = match how {
        Printed::Name => {
            let kind = object["kind"].as_str().unwrap_or_default().to_lowercase();
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            format!("{kind}.whittle.dev/{name}\n")
        }
        Printed::Json => written::json(object)?,
        Printed::Yaml => format!("---\n{}", written::yaml(object)?),
    };
    use std::io::Write;
    // Whoever reads may be gone.
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
    Ok(())
}

#[cfg(test)]
mod tests;
