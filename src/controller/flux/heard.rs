//! What follows for an ImageBuild from what its source of Flux has fetched.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::resolve::{Object, resolve};
use crate::imagebuild::decide;
use whittle_api::{ImageBuild, ImageBuildStatus, Pending, Reason, TRIGGERS, TriggerReason, set};

/// The status after this was seen; none where it stays as it is.
pub fn heard(
    build: &ImageBuild,
    object: Option<&Object>,
    now: Timestamp,
) -> Option<ImageBuildStatus> {
    let source = build.spec.source.flux.as_ref()?;
    if build.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let before = build.status.clone().unwrap_or_default();
    let mut status = before.clone();
    let generation = build.metadata.generation;
    let mut say = |to, why: (Reason, &str)| {
        set(&mut status.conditions, TRIGGERS, to, why, generation, now);
    };
    match resolve(source, object) {
        Ok(pinned) => {
            let words = format!("{} {} is watched", source.kind, source.name);
            say(Some(true), (Reason::TriggersWork, &words));
            let revision = pinned.fetched.revision;
            let pending = status.pending.as_ref();
            let asked = pending.and_then(|pending| pending.revision.as_ref());
            let known = [status.last_revision.as_ref(), asked].contains(&Some(&revision));
            // A new spec takes what has been fetched by then.
            let due = status.input.as_deref() != Some(&decide::input(build));
            if !known && !due {
                let asked = Pending {
                    reason: TriggerReason::Commit,
                    detail: revision.clone(),
                    revision: Some(revision),
                    since: Time(now),
                };
                decide::ask(&mut status.pending, asked);
            }
        }
        Err(wait) if wait.blocked => say(Some(false), (wait.reason, &wait.message)),
        // It comes by itself.
        Err(_) => {}
    }
    (status != before).then_some(status)
}

#[cfg(test)]
#[path = "heard_tests.rs"]
mod tests;
