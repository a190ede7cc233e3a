//! The health check without a cluster: the daemon that has built an image runs it, as a step.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::callback::Callback;
use super::files::{broken, prepare, write_private};
use super::finish::config_of;
use super::pushing::Pushing;
use super::redact::Redactor;
use super::registry_secret::{self, docker_config};
use super::solve::Solver;
use crate::buildctl::{self, Goal, check_recipe};
use crate::rawjson::State;
use crate::request::BuildRequest;
use crate::trial::here::{Asked, Ran};
use whittle_api::{Failure, HealthCheck, PlatformStatus};
use whittle_registry::DockerConfig;

/// An image that can be run, and by what.
#[derive(Clone, Copy, Debug)]
pub struct Runnable<'a> {
    /// The image of one platform.
    pub platform: &'a PlatformStatus,
    /// What it has to answer; none: it only has to start.
    pub check: Option<&'a HealthCheck>,
    /// This program, for the daemon's platform, which needs nothing of the image.
    pub program: &'a Path,
}

/// The platform that the daemon itself is of; none where it does not say.
pub async fn platform_here(request: &BuildRequest) -> Option<String> {
    let prepared = prepare(request).ok()?;
    let mut answer = String::new();
    let asked = buildctl::workers(request);
    let told = prepared.buildctl.answer(&asked, |line| {
        answer.push_str(line);
        answer.push('\n');
    });
    told.await.then_some(())?;
    buildctl::native(&answer)
}

/// Runs an image that [`super::attempt_here`] has built, at the request's own place.
///
/// # Errors
/// It could not be run: that says nothing about the image.
pub async fn run_here(request: &BuildRequest, image: Runnable<'_>) -> Result<Ran, Failure> {
    let callback = Callback::start(request);
    let redactor = Redactor::load(request);
    let ran = ran(request, image, &callback, &redactor).await;
    let mut ran = ran.map_err(|failure| redactor.failure(failure))?;
    for text in ran.unhealthy.iter_mut().chain(&mut ran.not_started) {
        *text = redactor.line(text);
    }
    ran.log = redactor.line(&ran.log);
    Ok(ran)
}

async fn ran(
    request: &BuildRequest,
    image: Runnable<'_>,
    callback: &Callback,
    redactor: &Redactor,
) -> Result<Ran, Failure> {
    let solver = Solver {
        request,
        callback,
        redactor,
        share: None,
        pushing: &Pushing::default(),
    };
    let secret = request.inputs.registry_secret();
    let config = docker_config(&request.place.registry_auth, "output.secretRef", secret)?;
    let facts = registry_secret::facts(&config);
    let prepared = prepare(request)?;
    let configs = (&config, &DockerConfig::default());
    registry_secret::write(&prepared, configs, request, None)?;
    let digest = &image.platform.digest;
    let of_image = config_of(request, &config, &facts, digest).await?;
    let root = image.platform.contents.as_ref().is_some_and(|it| it.root);
    // Each attempt is made in a folder of its own name.
    let once = format!("{} {digest}", request.job);
    let asked = Asked::of(&of_image, root, image.check, once);
    let [recipe, program, into] =
        ["check/recipe", "check/program", "check/outcome"].map(|name| prepared.path(name));
    let written = || {
        // That of another platform may be there.
        let _ = fs::remove_dir_all(prepared.path("check"));
        for folder in [&recipe, &program, &into] {
            fs::create_dir_all(folder)?;
        }
        let dockerfile = Path::new(&recipe).join("Dockerfile");
        let text = check_recipe(request, digest, of_image.on_build);
        fs::write(dockerfile, text)?;
        let copy = Path::new(&program).join("whittle");
        fs::copy(image.program, &copy)?;
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o755))?;
        let text = serde_json::to_string(&asked).expect("plain data is always JSON");
        write_private(&Path::new(&program).join("asked.json"), &text)
    };
    written().map_err(broken)?;
    let goal = Goal::Check {
        recipe: &recipe,
        program: &program,
        image: (&image.platform.platform, digest),
        into: &into,
    };
    let mut state = State::default();
    let solved = solver.solve(&prepared, &goal, &facts, &mut state).await;
    solved.map_err(|failure| Failure {
        message: format!("the image could not be run: {}", failure.message),
        hint: None,
        ..failure
    })?;
    Ran::read(Path::new(&into)).map_err(broken)
}
