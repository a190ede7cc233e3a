//! The image for debugging: built after the first, from what the builder has then.

use std::fs;
use std::path::Path;

use super::files::{Prepared, broken};
use super::finish::{Pushed, pushed};
use super::parts;
use super::solve::Solver;
use crate::buildctl::{Goal, debug_recipe};
use crate::failure::Facts;
use crate::rawjson::State;
use whittle_api::Failure;
use whittle_registry::DockerConfig;

/// Builds and pushes what `spec.debug` asks for; none where it asks for nothing. `first` is the first image, which may be it.
pub(super) async fn build(
    solver: &Solver<'_>,
    prepared: &Prepared,
    (config, facts): (&DockerConfig, &Facts),
    first: &Pushed,
) -> Result<Option<Pushed>, Failure> {
    let request = solver.request;
    let Some(debug) = &request.inputs.debug else {
        return Ok(None);
    };
    if debug.full {
        return Ok(Some(first.clone()));
    }
    let digest = &first.digest;
    let state = &mut State::default();
    request.place.say("for debugging:");
    let Some(base) = &debug.image else {
        let of = (debug.target.as_deref(), "debug");
        let made = parts::image(solver, prepared, of, (config, facts), state).await;
        return made.map(|made| Some(made.pushed)).map_err(of_debug);
    };
    // Nothing runs in it: no platform needs a daemon of its own for that.
    let metadata = prepared.path("debug.json");
    let recipe = prepared.path("debug");
    let text = debug_recipe(&format!("{}@{digest}", request.inputs.output.image), base);
    fs::create_dir_all(&recipe)
        .and_then(|()| fs::write(Path::new(&recipe).join("Dockerfile"), text))
        .map_err(broken)?;
    let goal = Goal::Derived {
        recipe: &recipe,
        metadata: &metadata,
    };
    let solved = solver.solve(prepared, &goal, facts, state).await;
    solved.map_err(of_debug)?;
    pushed(request, Path::new(&metadata)).map(Some)
}

/// The failure, as one of the second image.
fn of_debug(failure: Failure) -> Failure {
    let said = failure.message.replace("spec.target", "spec.debug.target");
    Failure {
        message: format!("the image for debugging (spec.debug): {said}"),
        ..failure
    }
}
