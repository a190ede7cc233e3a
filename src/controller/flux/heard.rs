//! What follows for an ImageBuild from what its source of Flux has fetched.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::resolve::{Object, resolve};
use crate::imagebuild::decide::{self, Word, say_triggers};
use crate::watcher::is_known;
use whittle_api::{ImageBuild, ImageBuildStatus, Pending, TriggerReason, Unseen};

/// What a source of Flux is called among what cannot be seen: an ImageBuild has one.
pub const ID: &str = "flux";

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
    match resolve(source, object) {
        Ok(pinned) => {
            status.unseen.retain(|unseen| unseen.id != ID);
            let revision = pinned.fetched.revision;
            let known = is_known(&status, &revision);
            // A new spec takes what has been fetched by then.
            let due = status.input.as_deref() != Some(&decide::input(build));
            if !known && !due {
                let asked = Pending {
                    reason: TriggerReason::Commit,
                    detail: revision.clone(),
                    revision: Some(revision),
                    tree: None,
                    since: Time(now),
                    doubt: None,
                };
                decide::ask(&mut status.pending, asked);
            }
        }
        Err(wait) if wait.blocked => {
            status.unseen.retain(|unseen| unseen.id != ID);
            let unseen = Unseen {
                id: ID.to_owned(),
                reason: wait.reason.as_str().to_owned(),
                message: wait.message,
            };
            status.unseen.insert(0, unseen);
        }
        // It comes by itself.
        Err(_) => return None,
    }
    say_triggers(&mut status, build, Word::Flux, now);
    (status != before).then_some(status)
}

#[cfg(test)]
#[path = "heard_tests.rs"]
mod tests;
