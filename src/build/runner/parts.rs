//! One image on several daemons: each builds its platforms, at the same time as the others, and their indexes are joined here.

use std::path::Path;
use std::sync::Mutex;
use std::time::Instant;

use futures::future::try_join_all;

use super::attempt::milliseconds;
use super::files::Prepared;
use super::finish::{self, Pushed, pushed};
use super::redact::Redactor;
use super::solve::{Share, Solver};
use crate::buildctl::{self, Goal};
use crate::failure::{self, Facts, plain};
use crate::rawjson::State;
use crate::report::Progress;
use crate::request::{BuildRequest, Native};
use whittle_api::{BuiltBy, Failure, FailureReason, PlatformSolve, PlatformStatus, bounded};
use whittle_image::{OCI_INDEX, digest_of, joined, normal_platform, same_platform};
use whittle_registry::DockerConfig;

/// What one daemon builds.
#[derive(Clone, Debug)]
struct Part {
    /// The request, for that daemon and its platforms.
    request: BuildRequest,
    /// Its platforms for people.
    label: String,
    /// Each of them, and how it is built there.
    platforms: Vec<(String, BuiltBy)>,
}

/// An image, and where its platforms were built.
pub(super) struct Made {
    pub pushed: Pushed,
    /// Nothing where the Builder has no daemons for platforms.
    pub solves: Vec<(String, PlatformSolve)>,
}

/// How far each part is.
pub(super) struct Shares(Mutex<Vec<Option<Progress>>>);

impl Shares {
    fn of(parts: usize) -> Self {
        Self(Mutex::new(vec![None; parts]))
    }

    /// That of all, where this part is so far.
    pub(super) fn progress(&self, part: usize, progress: Progress) -> Progress {
        let mut all = self.0.lock().expect("nobody panics with it");
        let step = progress.step.clone();
        all[part] = Some(progress);
        let sum = |of: fn(&Progress) -> i32| all.iter().flatten().map(of).sum();
        Progress {
            done: sum(|it| it.done),
            total: sum(|it| it.total),
            step,
        }
    }
}

/// The parts of a request: one for each daemon that is to build. None where the Builder has no daemons for platforms.
fn parts(request: &BuildRequest) -> Vec<Part> {
    let asked = buildctl::platforms(request);
    if request.natives.is_empty() || asked.is_empty() {
        return vec![];
    }
    let native = |platform: &str| {
        let mut natives = request.natives.iter();
        natives.find(|it| normal_platform(&it.platform) == platform)
    };
    let own = |platform: &str| native(platform).and_then(|it| it.address.as_ref());
    let mut parts: Vec<Part> = vec![];
    let (natives, ordinary): (Vec<String>, Vec<String>) =
        asked.into_iter().partition(|it| own(it).is_some());
    let groups = [ordinary]
        .into_iter()
        .filter(|group| !group.is_empty())
        .chain(natives.into_iter().map(|platform| vec![platform]));
    for group in groups {
        let mut of = request.clone();
        of.inputs
            .platforms
            .retain(|asked| group.contains(&normal_platform(&asked.0)));
        if let Some(of_platform) = native(&group[0])
            && let Some(address) = &of_platform.address
        {
            of.builder_address.clone_from(address);
            of.builder_memory.clone_from(&of_platform.memory);
        }
        let by = |platform: &str| match native(platform) {
            Some(Native {
                address: Some(_), ..
            }) => BuiltBy::Native,
            Some(_) => BuiltBy::Cross,
            None => BuiltBy::Ordinary,
        };
        parts.push(Part {
            label: group.join(","),
            platforms: group.iter().map(|it| (it.clone(), by(it))).collect(),
            request: of,
        });
    }
    let several = parts.len() > 1;
    for part in &mut parts {
        part.request.part = several;
    }
    parts
}

/// What is said of the daemons for platforms, before any of them builds.
fn announced(request: &BuildRequest) -> Vec<String> {
    let said = |native: &Native| {
        let Native {
            platform, builder, ..
        } = native;
        match (&native.address, &native.missing) {
            (Some(_), _) => format!("{platform}: on its own daemon, Builder {builder}"),
            (None, why) => format!(
                "{platform}: cross-built or emulated on the ordinary daemon, as Builder {builder} is not up: {}",
                why.as_deref().unwrap_or("reason unknown")
            ),
        }
    };
    request.natives.iter().map(said).collect()
}

/// Builds the image of a stage, and pushes it by its digest: on the Builder's daemon, or on each that is there for one of its
/// platforms. `file` is where buildctl is to write what it knows of it.
pub(super) async fn image(
    solver: &Solver<'_>,
    prepared: &Prepared,
    (target, file): (Option<&str>, &str),
    (config, facts): (&DockerConfig, &Facts),
    state: &mut State,
) -> Result<Made, Failure> {
    let request = solver.request;
    let parts = parts(request);
    for line in announced(request).iter().filter(|_| !parts.is_empty()) {
        request.place.say(&solver.redactor.line(line));
    }
    let whole = request;
    if let [] | [_] = &parts[..] {
        let request = parts.first().map_or(request, |part| &part.request);
        let solver = Solver { request, ..*solver };
        let begun = Instant::now();
        let metadata = prepared.path(&format!("{file}.json"));
        let goal = Goal::Image {
            target,
            metadata: &metadata,
        };
        let solved = solver.solve(prepared, &goal, facts, state).await;
        solved.map_err(|failure| match parts.first() {
            Some(part) => part.failure(failure, whole, solver.redactor),
            None => failure,
        })?;
        let time = milliseconds(begun.elapsed());
        return Ok(Made {
            pushed: pushed(request, Path::new(&metadata))?,
            solves: parts.iter().flat_map(|part| solves(part, time)).collect(),
        });
    }
    let shares = Shares::of(parts.len());
    let mut states = vec![State::default(); parts.len()];
    let made = try_join_all(parts.iter().zip(&mut states).enumerate().map(
        async |(at, (part, state))| {
            let solver = Solver {
                request: &part.request,
                share: Some(Share {
                    at,
                    label: &part.label,
                    all: &shares,
                }),
                ..*solver
            };
            let begun = Instant::now();
            let metadata = prepared.path(&format!("{file}-{at}.json"));
            let goal = Goal::Image {
                target,
                metadata: &metadata,
            };
            let solved = solver.solve(prepared, &goal, facts, state).await;
            solved.map_err(|failure| part.failure(failure, whole, solver.redactor))?;
            let time = milliseconds(begun.elapsed());
            let pushed = pushed(&part.request, Path::new(&metadata))?;
            Ok::<_, Failure>((pushed, solves(part, time)))
        },
    ))
    .await;
    *state = State::joined(states);
    let made = made?;
    let digests = made.iter().map(|(pushed, _)| pushed.digest.as_str());
    Ok(Made {
        pushed: join(request, config, facts, digests.collect()).await?,
        solves: made.into_iter().flat_map(|(_, solves)| solves).collect(),
    })
}

/// Pushes the index of all parts.
async fn join(
    request: &BuildRequest,
    config: &DockerConfig,
    facts: &Facts,
    parts: Vec<&str>,
) -> Result<Pushed, Failure> {
    let failed = |error: finish::Trouble| error.failure(request, facts);
    let client = finish::of_output(request, config, true).map_err(failed)?;
    let read = parts.into_iter().map(|digest| client.manifest_of(digest));
    let indexes = try_join_all(read).await;
    let indexes = indexes.map_err(|error| failed(error.into()))?;
    let bytes = joined(&indexes, &buildctl::platforms(request)).map_err(|why| {
        let message = format!("the images of the platforms cannot be joined into one index: {why}");
        plain(FailureReason::BuildFailed, message)
    })?;
    let digest = digest_of(&bytes);
    let put = client.put_manifest(&digest, OCI_INDEX, &bytes).await;
    put.map_err(|error| failed(error.into()))?;
    let said = format!("joined {}@{digest}", request.inputs.output.image);
    request.place.say(&said);
    Ok(Pushed {
        digest,
        platform: None,
    })
}

fn solves(part: &Part, milliseconds: i64) -> impl Iterator<Item = (String, PlatformSolve)> {
    let of = move |(platform, builder): &(String, BuiltBy)| {
        let solve = PlatformSolve {
            builder: *builder,
            milliseconds,
        };
        (platform.clone(), solve)
    };
    part.platforms.iter().map(of)
}

/// Bytes of why a daemon is not up, in a failure.
const WHY: usize = 200;

impl Part {
    /// Its failure: of which daemon, where there are others, and whether that is the one that its platforms have. What a message begins
    /// with is known to others.
    fn failure(&self, failure: Failure, request: &BuildRequest, redactor: &Redactor) -> Failure {
        let mut message = failure.message;
        let of = |platform: &str| {
            let mut natives = request.natives.iter();
            natives.find(|it| normal_platform(&it.platform) == platform)
        };
        let native = of(&self.platforms[0].0).filter(|it| it.address.is_some());
        let several = self.request.part;
        if native.is_some() || several && !message.contains(&self.label) {
            let builder = native.map(|it| it.builder.as_str());
            message += &failure::of_part(&self.label, builder);
        }
        let mut cross = self.platforms.iter();
        let missing = cross.find(|(_, by)| *by == BuiltBy::Cross);
        if let Some(missing) = missing.and_then(|(platform, _)| of(platform)) {
            let why = missing.missing.as_deref().unwrap_or("reason unknown");
            let why = bounded(redactor.line(why), WHY);
            let which = match self.platforms.len() {
                1 => "it",
                _ => missing.platform.as_str(),
            };
            message += &format!(
                "; {which} was built on the ordinary daemon, as Builder {} is not up: {why}",
                missing.builder
            );
        }
        Failure { message, ..failure }
    }
}

/// Enters where each platform was built.
pub(super) fn mark(platforms: &mut [PlatformStatus], solves: &[(String, PlatformSolve)]) {
    for platform in platforms {
        let of = |(name, _): &&(String, PlatformSolve)| same_platform(name, &platform.platform);
        platform.solve = solves.iter().find(of).map(|(_, solve)| *solve);
    }
}

#[cfg(test)]
#[path = "parts_tests.rs"]
mod tests;
