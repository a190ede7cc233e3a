//! One attempt: buildctl, again where that may help, and what comes after it.

use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

use super::callback::Callback;
use super::files::{Prepared, prepare};
use super::finish::{Pushed, finish, pushed};
use super::print::Printer;
use super::redact::Redactor;
use super::{child, revision};
use crate::api::{Failure, FailureReason};
use crate::plan::buildctl;
use crate::plan::failure::{Again, Facts, from_listing, plain, verdict};
use crate::plan::rawjson::{Event, State};
use crate::plan::report::{Built, Failed, Report};
use crate::plan::request::{BuildRequest, paths};
use crate::registry::{DockerConfig, Patience};

/// How long to wait for the list of stages that a message is to name.
const LISTING: Duration = Duration::from_secs(10);

/// How long to run buildctl again where a registry or git server is away; BuildKit has tried a few times
/// itself by then.
const PATIENCE: Patience = Patience {
    first: Duration::from_secs(1),
    ..Patience::USUAL
};

/// Attempts the build. What it returns holds no secret.
pub(super) async fn attempt(request: &BuildRequest, callback: &Callback) -> Report {
    let mut state = State::default();
    let redactor = Redactor::load(request);
    let result = run(request, callback, &redactor, &mut state).await;
    let revision = revision::of(request, &state);
    match result {
        Ok(built) => Report::Succeeded(Built {
            revision,
            steps: state.steps(),
            ..built
        }),
        Err(failure) => {
            let failure = redactor.failure(failure);
            println!("failed: {}: {}", failure.reason, failure.message);
            Report::Failed(Failed {
                failure,
                revision,
                steps: state.steps(),
            })
        }
    }
}

async fn run(
    request: &BuildRequest,
    callback: &Callback,
    redactor: &Redactor,
    state: &mut State,
) -> Result<Built, Failure> {
    if let Some(message) = buildctl::refusal(request) {
        return Err(plain(FailureReason::BuildRejected, message));
    }
    let config = docker_config()?;
    let mut facts = Facts {
        stages: vec![],
        credentials: config.hosts().map(str::to_owned).collect(),
    };
    let prepared = prepare(request, Path::new(paths::SCRATCH)).map_err(|error| {
        plain(
            FailureReason::BuildFailed,
            format!("the build cannot be prepared: {error}"),
        )
    })?;
    let image = build(request, callback, redactor, state, &mut facts, &prepared).await?;
    finish(request, &config, &facts, image).await
}

/// Runs buildctl until it has pushed, or until trying again makes no sense.
async fn build(
    request: &BuildRequest,
    callback: &Callback,
    redactor: &Redactor,
    state: &mut State,
    facts: &mut Facts,
    prepared: &Prepared,
) -> Result<Pushed, Failure> {
    let args = buildctl::build(request, &prepared.files);
    let mut printer = Printer::new(redactor);
    let mut first_failure: Option<Instant> = None;
    let mut tried = 0;
    let mut pruned = false;
    loop {
        tried += 1;
        let exit = child::run(&args, prepared, |line| {
            let mut moved = false;
            for event in state.line_with(line, &|text| redactor.line(text)) {
                moved |= !matches!(event, Event::Output { .. } | Event::Text(_));
                printer.event(&event);
            }
            if moved {
                callback.progress(redactor.progress(state.progress()));
            }
        })
        .await
        .map_err(|error| plain(FailureReason::BuildFailed, error))?;
        if exit == Some(0) {
            return pushed(request, Path::new(&prepared.files.metadata));
        }
        let mut found = verdict(state, exit, request, facts);
        if found.failure.reason == FailureReason::StageNotFound && request.source.git.is_some() {
            let targets = buildctl::targets(request, &prepared.files);
            let listing = child::stdout(&targets, prepared, LISTING).await;
            facts.stages = from_listing(&listing.unwrap_or_default());
            found = verdict(state, exit, request, facts);
        }
        match found.again {
            Again::No => return Err(found.failure),
            Again::Pruned if pruned => return Err(found.failure),
            Again::Pruned => {
                pruned = true;
                println!("the builder's cache volume is full: pruning, then trying once more");
                let _ = child::stdout(&buildctl::prune(request), prepared, 10 * LISTING).await;
            }
            Again::Later => {
                let begun = *first_failure.get_or_insert_with(Instant::now);
                let Some(pause) = PATIENCE.pause(tried, begun.elapsed(), None) else {
                    return Err(found.failure);
                };
                println!(
                    "{}; trying again in {:.1} s",
                    redactor.line(&found.failure.message),
                    pause.as_secs_f64()
                );
                tokio::time::sleep(pause).await;
            }
        }
        state.next_run();
    }
}

fn docker_config() -> Result<DockerConfig, Failure> {
    let path = Path::new(paths::REGISTRY_AUTH).join("config.json");
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(DockerConfig::default());
        }
        Err(error) => {
            return Err(plain(
                FailureReason::BuildFailed,
                format!("the registry credentials cannot be read: {error}"),
            ));
        }
    };
    // The parser's words could hold a part of the file: they stay here.
    DockerConfig::parse(&text).map_err(|_| {
        plain(
            FailureReason::PushDenied,
            "the Secret of output.secretRef holds no Docker config file: its type must be \
             kubernetes.io/dockerconfigjson"
                .into(),
        )
    })
}
