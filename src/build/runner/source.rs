//! The source, before it is built: where its files lie, what it is (the revision), and what stands in
//! it that the build itself does not tell.
//!
//! A git source is read by the builder, which keeps what it fetched. Only a few files of it come here: the
//! Dockerfile, `.dockerignore`, and what looks like a secret. Where there is a `.dockerignore`, all of it
//! comes, and goes back as a local context: BuildKit honors that file for local contexts alone.

use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;

use super::files::{Prepared, broken, ssh_refusal};
use super::solve::Solver;
use super::{flux, oci, revision};
use crate::buildctl::{
    EXPORT_RECIPE, Goal, Pin, keeps_git, pattern_of, survey_recipe, time_recipe,
};
use crate::failure::{Facts, plain};
use crate::rawjson::State;
use crate::report::scratch_full;
use crate::request::BuildRequest;
use whittle_api::{Failure, FailureReason, GitSource};
use whittle_dockerfile::advice;
use whittle_dockerfile::advice::ContextFile;
use whittle_registry::DockerConfig;

/// The largest Dockerfile, or `.dockerignore`, that is looked into, in bytes.
const TEXT_LIMIT: u64 = 1024 * 1024;
/// How much of a file is looked at to see whether it holds a secret, in bytes.
const HEAD: u64 = 4096;
/// How often a folder that is being filled is measured.
const MEASURED: Duration = Duration::from_secs(2);
/// How many files of a context are looked through.
const FILES: usize = 100_000;
/// Leaves files out of the context.
const DOCKERIGNORE: &str = ".dockerignore";

/// What is known of a source.
#[derive(Debug, Default)]
pub(super) struct Source {
    /// As in `status.revision`.
    pub revision: Option<String>,
    /// When its commit was made, where the request asks for it.
    pub time: Option<Timestamp>,
    /// The Dockerfile's text.
    pub dockerfile: Option<String>,
    /// Files of the context that may be secrets.
    pub candidates: Vec<ContextFile>,
}

/// Reads the source; `prepared` knows then where the context lies. What Flux has fetched is called as Flux calls it.
pub(super) async fn read(
    solver: &Solver<'_>,
    config: &DockerConfig,
    facts: &Facts,
    prepared: &mut Prepared,
) -> Result<Source, Failure> {
    let source = read_it(solver, config, facts, prepared).await?;
    Ok(match &solver.request.flux {
        Some(fetched) => Source {
            revision: Some(fetched.revision.clone()),
            ..source
        },
        None => source,
    })
}

async fn read_it(
    solver: &Solver<'_>,
    config: &DockerConfig,
    facts: &Facts,
    prepared: &mut Prepared,
) -> Result<Source, Failure> {
    let request = solver.request;
    if let Some(git) = &request.inputs.source.git {
        return from_git(solver, git, facts, prepared).await;
    }
    let fetched = request.flux.as_ref().and_then(|it| it.tarball.as_ref());
    if let (Some(flux), Some(tarball)) = (&request.inputs.source.flux, fetched) {
        flux::fetch(request, flux, tarball, prepared).await?;
    }
    let revision = match &request.inputs.source.oci {
        Some(oci) => Some(oci::fetch(request, oci, config, prepared).await?),
        None => revision::of_files(request, prepared.files.context.as_deref().map(Path::new))
            .map_err(broken)?,
    };
    let Some(context) = prepared.files.context.clone() else {
        return Ok(Source::default());
    };
    Ok(Source {
        revision,
        ..look(request, Path::new(&context))
    })
}

async fn from_git(
    solver: &Solver<'_>,
    git: &GitSource,
    facts: &Facts,
    prepared: &mut Prepared,
) -> Result<Source, Failure> {
    if let Some(refusal) = ssh_refusal(git, &solver.request.place) {
        return Err(refusal);
    }
    let request = solver.request;
    let mut state = State::default();
    let own = own_ignore(&request.inputs.dockerfile);
    let patterns: Vec<String> = [request.inputs.dockerfile.as_str(), DOCKERIGNORE, &own]
        .into_iter()
        .filter_map(pattern_of)
        .chain(advice::CANDIDATES.iter().map(|p| (*p).to_owned()))
        .collect();
    let recipe = survey_recipe(&patterns);
    let survey = files_of(solver, "survey", &recipe, facts, prepared, &mut state).await?;
    let output = state.git_output();
    let revision = revision::of_git(git, &output);
    if let Some(commit) = revision.as_deref().and_then(revision::commit) {
        let kept = keeps_git(request).then(|| revision::named(git, &output));
        let pin = Pin {
            commit: commit.to_owned(),
            kept: kept.flatten(),
        };
        prepared.pin(git, &request.job, pin)?;
    }
    let pinned = prepared.files.pin.as_ref();
    let time = match pinned.filter(|_| prepared.files.commit_times) {
        Some(pin) => {
            let recipe = time_recipe(&request.inputs.dockerfile, &pin.commit);
            let mut state = State::default();
            let files = files_of(solver, "time", &recipe, facts, prepared, &mut state).await?;
            Some(time_of(&files).ok_or_else(|| no_dockerfile(request))?)
        }
        None => None,
    };
    let exists = |name: &str| fs::symlink_metadata(survey.join(name)).is_ok();
    if exists(DOCKERIGNORE) || exists(&own) {
        let mut state = State::default();
        let context = files_of(
            solver,
            "context",
            EXPORT_RECIPE,
            facts,
            prepared,
            &mut state,
        )
        .await?;
        prepared.files.context = Some(context.to_string_lossy().into_owned());
    }
    Ok(Source {
        revision,
        time,
        ..look(request, &survey)
    })
}

/// What the builder would say, where there was no file to have the time of.
fn no_dockerfile(request: &BuildRequest) -> Failure {
    plain(
        FailureReason::DockerfileNotFound,
        format!(
            "{} not found in the git repository: set spec.dockerfile to its path within the source",
            request.inputs.dockerfile
        ),
    )
}

/// The time of the first file in this folder, at any depth.
fn time_of(folder: &Path) -> Option<Timestamp> {
    for entry in fs::read_dir(folder).ok()?.flatten() {
        let metadata = entry.metadata().ok()?;
        let found = match metadata.is_dir() {
            true => time_of(&entry.path()),
            false => metadata.modified().ok().and_then(whole_seconds),
        };
        if found.is_some() {
            return found;
        }
    }
    None
}

fn whole_seconds(time: SystemTime) -> Option<Timestamp> {
    let second = Timestamp::try_from(time).ok()?.as_second();
    Timestamp::from_second(second).ok()
}

/// Takes files out of the git source: the folder where they lie then.
async fn files_of(
    solver: &Solver<'_>,
    name: &str,
    recipe: &str,
    facts: &Facts,
    prepared: &Prepared,
    state: &mut State,
) -> Result<PathBuf, Failure> {
    let (into, folder) = (
        prepared.path(name),
        prepared.path(&format!("{name}-recipe")),
    );
    fs::create_dir_all(&into)
        .and_then(|()| fs::create_dir_all(&folder))
        .and_then(|()| fs::write(Path::new(&folder).join("Dockerfile"), recipe))
        .map_err(broken)?;
    let goal = Goal::Files {
        recipe: &folder,
        into: &into,
    };
    let bound = solver.request.scratch_bytes;
    tokio::select! {
        solved = solver.solve(prepared, &goal, facts, state) => solved?,
        // Dropping the solve ends buildctl.
        () = over(PathBuf::from(&into), bound) => {
            let said = format!("its files have more than {bound} bytes");
            return Err(plain(FailureReason::SourceTooLarge, scratch_full(&said)));
        }
    }
    Ok(into.into())
}

/// Ends once the folder holds more than `bound` bytes.
async fn over(folder: PathBuf, bound: u64) {
    loop {
        tokio::time::sleep(MEASURED).await;
        let folder = folder.clone();
        let size = tokio::task::spawn_blocking(move || size_of(&folder));
        if size.await.unwrap_or(0) > bound {
            return;
        }
    }
}

/// Bytes that the files of a folder take of the disk.
fn size_of(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else {
        return 0;
    };
    let sizes = entries.flatten().map(|entry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => size_of(&entry.path()),
        _ => entry.metadata().map_or(0, |found| found.blocks() * 512),
    });
    sizes.sum()
}

/// The ignore file that belongs to one Dockerfile and goes before the common one.
fn own_ignore(dockerfile: &str) -> String {
    format!("{dockerfile}{DOCKERIGNORE}")
}

/// Looks into a folder of files, of which all may be strange: what cannot be read is left out.
fn look(request: &BuildRequest, folder: &Path) -> Source {
    let text = |path: &str| {
        let bytes = head_of(folder, path, TEXT_LIMIT)?;
        String::from_utf8(bytes).ok()
    };
    let ignore = text(&own_ignore(&request.inputs.dockerfile)).or_else(|| text(DOCKERIGNORE));
    let mut found = vec![];
    let mut seen = 0;
    walk(folder, folder, &mut seen, &mut found);
    found.sort();
    let kept = advice::kept(
        ignore.as_deref().unwrap_or_default(),
        found.iter().map(String::as_str),
    );
    let candidates = kept
        .into_iter()
        .filter_map(|path| {
            Some(ContextFile {
                path: path.to_owned(),
                head: head_of(folder, path, HEAD)?,
            })
        })
        .collect();
    Source {
        revision: None,
        time: None,
        dockerfile: text(&request.inputs.dockerfile),
        candidates,
    }
}

/// Collects the paths that may be secrets, relative to `root`.
fn walk(root: &Path, folder: &Path, seen: &mut usize, found: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        *seen += 1;
        if *seen > FILES {
            return;
        }
        let path = entry.path();
        // Of the entry itself: a link is not followed.
        let Ok(kind) = entry.file_type() else {
            continue;
        };
        if kind.is_dir() {
            walk(root, &path, seen, found);
        } else if kind.is_file()
            && let Some(path) = path.strip_prefix(root).ok().and_then(Path::to_str)
            && advice::is_candidate(path)
        {
            found.push(path.to_owned());
        }
    }
}

/// The first bytes of a file within `root`; none where any part of its path is a link, which might lead
/// to this Pod's own files.
pub(super) fn head_of(root: &Path, path: &str, most: u64) -> Option<Vec<u8>> {
    let mut place = root.to_owned();
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) => place.push(name),
            Component::CurDir => continue,
            _ => return None,
        }
        if fs::symlink_metadata(&place).ok()?.file_type().is_symlink() {
            return None;
        }
    }
    let mut bytes = vec![];
    fs::File::open(place)
        .ok()?
        .take(most)
        .read_to_end(&mut bytes)
        .ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_folder_that_grows_over_its_bound_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("a")).unwrap();
        fs::write(folder.path().join("a/b"), vec![1; 100_000]).unwrap();
        assert!(size_of(folder.path()) >= 100_000);
        let over = over(folder.path().to_owned(), 10_000);
        tokio::time::timeout(MEASURED * 5, over).await.unwrap();
    }

    #[test]
    fn the_time_of_a_commit_is_that_of_the_file_that_came_with_it() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(time_of(folder.path()), None);
        let deep = folder.path().join("837dd14/build");
        fs::create_dir_all(&deep).unwrap();
        assert_eq!(time_of(folder.path()), None);
        let file = fs::File::create(deep.join("Dockerfile")).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_900))
            .unwrap();
        let time = time_of(folder.path()).unwrap();
        assert_eq!(time.to_string(), "2023-11-14T22:13:20Z");
    }

    #[test]
    fn a_link_out_of_the_source_is_never_followed() {
        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("secret");
        fs::write(&secret, "hunter22").unwrap();
        let root = folder.path().join("source");
        fs::create_dir(&root).unwrap();
        std::os::unix::fs::symlink(&secret, root.join("Dockerfile")).unwrap();
        std::os::unix::fs::symlink(folder.path(), root.join("up")).unwrap();
        fs::write(root.join("plain"), "text").unwrap();
        assert_eq!(head_of(&root, "Dockerfile", 100), None);
        assert_eq!(head_of(&root, "up/secret", 100), None);
        assert_eq!(head_of(&root, "../secret", 100), None);
        assert_eq!(head_of(&root, "./plain", 2).unwrap(), b"te");
    }
}
