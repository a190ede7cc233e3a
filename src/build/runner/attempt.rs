//! One attempt: the source, the image, the image for debugging, and what comes after.

use std::path::Path;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::callback::Callback;
use super::files::{Prepared, prepare};
use super::finish::{Held, Published, back, fetch, finish, retag, smaller};
use super::look::Look;
use super::pushing::Pushing;
use super::redact::Redactor;
use super::registry_secret::{self, docker_config};
use super::solve::Solver;
use super::{debug, flux, minimize, parts, revision, scripts, source, versions};
use crate::annotations;
use crate::cache_hints;
use crate::course::{Course, Interval};
use crate::failure;
use crate::failure::plain;
use crate::minimized::Minimized;
use crate::rawjson::State;
use crate::report::{Built, Failed, Report};
use crate::request::{BuildRequest, Tagging};
use crate::request_rules::refusal;
use crate::usage;
use crate::variables;
use whittle_api::{Failure, FailureReason, Phases};
use whittle_dockerfile::advice;
use whittle_dockerfile::advice::{BuildWarning, ContextFile, Hint, View};
use whittle_registry::DockerConfig;

/// What becomes known on the way, whether or not it leads to an image.
#[derive(Default)]
struct Known {
    /// The build of the image.
    state: State,
    source: source::Source,
    /// The request with values in the place of variables.
    expanded: Option<BuildRequest>,
    held: Held,
    look: Option<Look>,
    /// Why the Secret of the Builder's cache registry gives no credentials.
    cache_fault: Option<String>,
    phases: Phases,
}

/// Attempts the build. What it returns holds no secret. `redactor` takes them out. Beside the report: the look at the
/// builder's cache, where one has begun.
pub(super) async fn attempt(
    request: &BuildRequest,
    callback: &Callback,
    redactor: &Redactor,
) -> (Report, Option<Look>) {
    let mut known = Known::default();
    let begun = Timestamp::now();
    let solver = Solver {
        request,
        callback,
        redactor,
        pushing: &Pushing::default(),
        share: None,
    };
    let result = run(&solver, &mut known).await;
    let written = &request.inputs.output.tags;
    let expanded = known.expanded.take();
    let request = expanded.as_ref().unwrap_or(request);
    let mut built = vec![];
    if let Ok(published) = &result {
        built = unfilled(request, &mut known).await;
        built.extend(published.smaller.hint.as_deref().map(minimize::hint));
    }
    let advice = advise(request, &known, built, redactor);
    for line in advice::lines(&advice) {
        request.place.say(&format!("advice: {line}"));
    }
    let revision = known.source.revision;
    let steps = known.state.steps();
    let bases = known.state.bases();
    for breach in &mut known.held.breaches {
        breach.message = redactor.line(&breach.message);
        let level = if breach.enforced { "broken" } else { "warning" };
        let line = breach.line();
        request.place.say(&format!("contract: {level}: {line}"));
    }
    if request.traced {
        let time = Interval {
            from: begun.as_millisecond(),
            to: Timestamp::now().as_millisecond(),
        };
        let failure = result.as_ref().err().map(|failure| failure.reason);
        let clean = |name: &str| redactor.line(name);
        let (phases, state) = (&known.phases, &known.state);
        let course = Course::of(request.build, time, failure, phases, state, &clean);
        callback.course(course).await;
    }
    let report = match result {
        Ok(mut published) => {
            for platform in &mut published.platforms {
                if let Some(contents) = &mut platform.contents {
                    redactor.contents(contents);
                }
            }
            Report::Succeeded(Built {
                digest: published.digest,
                platforms: published.platforms,
                debug: published.debug,
                minimized: published
                    .smaller
                    .minimized
                    .map(|it| Box::new(without_secrets(it, redactor))),
                revision,
                tags: made_by_variables(written, &request.inputs.output.tags),
                bases,
                steps,
                advice,
                breaches: known.held.breaches,
                phases: Some(known.phases),
            })
        }
        Err(failure) => {
            let failure = redactor.failure(flux::worded(request, failure));
            let said = format!("failed: {}: {}", failure.reason, failure.message);
            request.place.say(&said);
            if let Some(hint) = &failure.hint {
                request.place.say(&format!("hint: {hint}"));
            }
            Report::Failed(Failed {
                failure,
                revision,
                steps,
                advice,
                breaches: known.held.breaches,
                phases: Some(known.phases),
            })
        }
    };
    (report, known.look)
}

/// The tags, where they are others than the spec has: what stands there need not be told.
fn made_by_variables(written: &[String], tags: &[String]) -> Vec<String> {
    match written == tags {
        true => vec![],
        false => tags.to_vec(),
    }
}

async fn run(solver: &Solver<'_>, known: &mut Known) -> Result<Published, Failure> {
    let request = solver.request;
    if let Some(message) = refusal(request) {
        return Err(plain(FailureReason::BuildRejected, message));
    }
    let secret = request.inputs.registry_secret();
    let config = docker_config(&request.place.registry_auth, "output.secretRef", secret)?;
    if let Tagging::Only {
        image,
        debug,
        tags,
        full,
    } = &request.tagging
    {
        let facts = registry_secret::facts(&config);
        let mut request = request.clone();
        let written = &mut request.inputs.output.tags;
        if !tags.is_empty() {
            written.clone_from(tags);
        } else if written.iter().any(|tag| variables::is_variable(tag)) {
            let message =
                "the report on the pushed image does not name its tags: build again (spec.rebuild)";
            return Err(plain(FailureReason::BuildFailed, message.into()));
        }
        return retag(&request, &config, &facts, image, debug.as_deref(), full).await;
    }
    if let Tagging::Back { image, debug, tags } = &request.tagging {
        let facts = registry_secret::facts(&config);
        let mut request = request.clone();
        request.inputs.output.tags.clone_from(tags);
        // It was held to the contract of its time.
        request.inputs.contract = None;
        return back(&request, &config, &facts, image, debug.as_deref()).await;
    }
    if let Tagging::Smaller(tried) = &request.tagging {
        let facts = registry_secret::facts(&config);
        return smaller(request, &config, &facts, tried, &mut known.held).await;
    }
    if let Tagging::Fetch { image, reports } = &request.tagging {
        let facts = registry_secret::facts(&config);
        return fetch(request, &config, &facts, image, reports).await;
    }
    let begun = Instant::now();
    let located = versions::located(request).await;
    known.phases.source = Some(milliseconds(begun.elapsed()));
    let located = located?;
    let request = located.as_ref().unwrap_or(request);
    let solver = Solver { request, ..*solver };
    let mut facts = registry_secret::facts(&config);
    let mut prepared = prepare(request)?;
    let cache = cache_config(request, known);
    registry_secret::write(&prepared, (&config, &cache), request, None)?;
    let read = source::read(&solver, &config, &facts, &mut prepared).await;
    known.phases.source = Some(milliseconds(begun.elapsed()));
    known.source = read?;
    facts.dockerfile = known.source.dockerfile.clone();
    let request = known
        .expanded
        .insert(expanded(request, &known.source, &mut prepared)?);
    let request: &BuildRequest = request;
    let solver = Solver { request, ..solver };
    let configs = (&config, &cache);
    registry_secret::write(&prepared, configs, request, facts.dockerfile.as_deref())?;
    if let Some(context) = &prepared.files.context {
        facts.scripts = scripts::scripts(Path::new(context));
    }
    let images = async {
        let (target, state) = (request.inputs.target.as_deref(), &mut known.state);
        let with = (&config, &facts);
        let made = parts::image(&solver, &prepared, (target, "image"), with, state).await?;
        let debug = debug::build(&solver, &prepared, with, &made.pushed).await?;
        Ok((made, debug))
    };
    let begun = Instant::now();
    let images = tokio::select! {
        built = images => built,
        failure = solver.pushing.stands_still(request, &config, &facts) => Err(failure),
    };
    let push = solver.pushing.took();
    known.phases.solve = Some(milliseconds(begun.elapsed().saturating_sub(push)));
    // What failed before has pushed nothing.
    known.phases.push = (images.is_ok() || !push.is_zero()).then(|| milliseconds(push));
    // No step of ours runs any more that could find a mount locked.
    if known.state.steps().total > 0 {
        known.look = Look::begin(request, &prepared);
    }
    let used = known.state.images();
    let (held, phases) = (&mut known.held, &mut known.phases);
    let (parts::Made { pushed, solves }, debug) = images?;
    let images = (pushed, debug);
    let mut published = finish(request, &config, &facts, images, &used, held, phases).await?;
    parts::mark(&mut published.platforms, &solves);
    Ok(published)
}

/// As a status has it.
pub(super) fn milliseconds(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

/// The request with values in the place of variables. What is known of the source goes into annotations, too.
fn expanded(
    request: &BuildRequest,
    source: &source::Source,
    prepared: &mut Prepared,
) -> Result<BuildRequest, Failure> {
    let rejected = |message| plain(FailureReason::BuildRejected, message);
    let revision = source.revision.as_deref();
    let known = variables::Known {
        commit: revision.and_then(revision::commit).map(str::to_owned),
        found_by: revision.and_then(|it| Some(it.rsplit_once('@')?.0.to_owned())),
        time: source.time,
        build: request.build,
    };
    let inputs = variables::expanded(&request.inputs, &known).map_err(rejected)?;
    prepared.files.annotations = annotations::of_source(&inputs, &known);
    let request = BuildRequest {
        inputs,
        ..request.clone()
    };
    // Values may be longer than what stands in their place.
    match refusal(&request) {
        Some(message) => Err(rejected(message)),
        None => Ok(request),
    }
}

/// The credentials for the Builder's cache registry. Without them the build goes on, and says so.
fn cache_config(request: &BuildRequest, known: &mut Known) -> DockerConfig {
    let secret = request.cache.as_ref().and_then(|it| it.secret_ref.as_ref());
    let secret = secret.map(|secret| secret.name.as_str());
    let config = docker_config(
        &request.place.cache_auth,
        "cache.registry.secretRef",
        secret,
    );
    config.unwrap_or_else(|failure| {
        known.cache_fault = Some(failure.message);
        DockerConfig::default()
    })
}

/// How much later a result is told where the look at the builder's cache has yet to say whether mounts were filled: it
/// began before the image was read back, which takes longer.
const LOOKING: Duration = Duration::from_millis(300);

/// Hints on cache mounts whose steps have run and left nothing in them.
async fn unfilled(request: &BuildRequest, known: &mut Known) -> Vec<Hint> {
    let (Some(dockerfile), Some(look)) = (&known.source.dockerfile, &mut known.look) else {
        return vec![];
    };
    let mounts = advice::cache_mounts(&view(request, dockerfile, &[], &[]));
    let ran = failure::ran(dockerfile, &known.state);
    if !mounts.iter().any(|mount| ran.contains_key(&mount.line)) {
        return vec![];
    }
    let usage = look.within(LOOKING).await;
    usage.map_or_else(Vec::new, |usage| usage::empty(&mounts, &ran, usage))
}

fn view<'a>(
    request: &'a BuildRequest,
    dockerfile: &'a str,
    files: &'a [ContextFile],
    warnings: &'a [BuildWarning],
) -> View<'a> {
    View {
        dockerfile_path: &request.inputs.dockerfile,
        dockerfile,
        target: request.inputs.target.as_deref(),
        build_args: &request.inputs.build_args,
        files,
        warnings,
    }
}

fn advise(
    request: &BuildRequest,
    known: &Known,
    built: Vec<Hint>,
    redactor: &Redactor,
) -> Vec<Hint> {
    let registry = request.cache.iter();
    let mut more: Vec<Hint> = registry
        .flat_map(|registry| cache_hints::hints(registry, &known.state))
        .chain(known.cache_fault.as_deref().map(cache_hints::hint))
        .chain(built)
        .collect();
    let Some(dockerfile) = &known.source.dockerfile else {
        return redacted(more, redactor);
    };
    let warnings: Vec<BuildWarning> = known
        .state
        .warnings()
        .iter()
        .map(|warning| BuildWarning {
            text: warning.text.clone(),
            line: warning.line,
            url: warning.url.clone(),
        })
        .collect();
    let view = view(request, dockerfile, &known.source.candidates, &warnings);
    let health = crate::health::health(&view, &known.held.unhealthy);
    more.extend(health);
    redacted(advice::with(advice::advise(&view), more), redactor)
}

/// Without secrets: others' file names are in it.
fn without_secrets(mut minimized: Minimized, redactor: &Redactor) -> Minimized {
    minimized.message = redactor.line(&minimized.message);
    for left in &mut minimized.left {
        left.path = redactor.line(&left.path);
    }
    for breach in minimized.full.iter_mut().flat_map(|it| &mut it.breaches) {
        breach.message = redactor.line(&breach.message);
    }
    minimized
}

fn redacted(mut hints: Vec<Hint>, redactor: &Redactor) -> Vec<Hint> {
    for hint in &mut hints {
        hint.message = redactor.line(&hint.message);
    }
    hints
}
