//! One attempt: the source, the image, the image for debugging, and what comes after.

use std::path::Path;

use super::callback::Callback;
use super::files::prepare;
use super::finish::{Published, finish, pushed, retag};
use super::redact::Redactor;
use super::solve::Solver;
use super::{debug, scripts, source};
use crate::api::{Failure, FailureReason};
use crate::plan::advice::{self, BuildWarning, Hint, View};
use crate::plan::buildctl::Goal;
use crate::plan::contract::Breach;
use crate::plan::failure::{Facts, plain};
use crate::plan::rawjson::State;
use crate::plan::report::{Built, Failed, Report};
use crate::plan::request::{BuildRequest, Tagging, paths};
use crate::plan::request_rules::refusal;
use crate::registry::DockerConfig;

/// What becomes known on the way, whether or not it leads to an image.
#[derive(Default)]
struct Known {
    /// The build of the image.
    state: State,
    source: source::Source,
    /// What of the contract the image breaks.
    breaches: Vec<Breach>,
}

/// Attempts the build. What it returns holds no secret.
pub(super) async fn attempt(request: &BuildRequest, callback: &Callback) -> Report {
    let redactor = Redactor::load(request);
    let mut known = Known::default();
    let solver = Solver {
        request,
        callback,
        redactor: &redactor,
    };
    let result = run(&solver, &mut known).await;
    let advice = advise(request, &known, &redactor);
    for line in advice::lines(&advice) {
        println!("advice: {line}");
    }
    let revision = known.source.revision;
    let steps = known.state.steps();
    for breach in &mut known.breaches {
        breach.message = redactor.line(&breach.message);
        let level = if breach.enforced { "broken" } else { "warning" };
        println!("contract: {level}: {}", breach.line());
    }
    match result {
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
                revision,
                steps,
                advice,
                breaches: known.breaches,
            })
        }
        Err(failure) => {
            let failure = redactor.failure(failure);
            println!("failed: {}: {}", failure.reason, failure.message);
            if let Some(hint) = &failure.hint {
                println!("hint: {hint}");
            }
            Report::Failed(Failed {
                failure,
                revision,
                steps,
                advice,
                breaches: known.breaches,
            })
        }
    }
}

async fn run(solver: &Solver<'_>, known: &mut Known) -> Result<Published, Failure> {
    let request = solver.request;
    if let Some(message) = refusal(request) {
        return Err(plain(FailureReason::BuildRejected, message));
    }
    let config = docker_config(paths::REGISTRY_AUTH, "output.secretRef")?;
    if let Tagging::Only { image, debug } = &request.tagging {
        let facts = Facts::default();
        return retag(request, &config, &facts, image, debug.as_deref()).await;
    }
    let mut facts = Facts {
        credentials: config.hosts().map(str::to_owned).collect(),
        ..Facts::default()
    };
    let mut prepared = prepare(request, Path::new(paths::SCRATCH))?;
    known.source = source::read(solver, &config, &facts, &mut prepared).await?;
    facts.dockerfile = known.source.dockerfile.clone();
    if let Some(context) = &prepared.files.context {
        facts.scripts = scripts::scripts(Path::new(context));
    }
    let metadata = prepared.path("image.json");
    let goal = Goal::Image {
        target: request.target.as_deref(),
        metadata: &metadata,
    };
    solver
        .solve(&prepared, &goal, &facts, &mut known.state)
        .await?;
    let image = pushed(request, Path::new(&metadata))?;
    let debug = debug::build(solver, &prepared, &facts, &image.digest).await?;
    finish(
        request,
        &config,
        &facts,
        (image, debug),
        &mut known.breaches,
    )
    .await
}

fn advise(request: &BuildRequest, known: &Known, redactor: &Redactor) -> Vec<Hint> {
    let Some(dockerfile) = &known.source.dockerfile else {
        return vec![];
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
    let mut hints = advice::advise(&View {
        dockerfile_path: &request.dockerfile,
        dockerfile,
        target: request.target.as_deref(),
        build_args: &request.build_args,
        files: &known.source.candidates,
        warnings: &warnings,
    });
    for hint in &mut hints {
        hint.message = redactor.line(&hint.message);
    }
    hints
}

/// The credentials in a mounted Docker config file; none where none is mounted.
pub(super) fn docker_config(folder: &str, field: &str) -> Result<DockerConfig, Failure> {
    let path = Path::new(folder).join("config.json");
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
            format!(
                "the Secret of {field} holds no Docker config file: its type must be \
                 kubernetes.io/dockerconfigjson"
            ),
        )
    })
}
