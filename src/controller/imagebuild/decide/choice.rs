//! The replica of its Builder that an attempt runs on, or why it has none yet.

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use super::{Observed, per_replica};
use crate::placement::{self, Patience, Place};
use whittle_api::{Builder, ImageBuildStatus};

/// What it waits for though the Builder has room.
#[derive(Debug)]
pub(super) struct Wait {
    /// For people.
    pub message: String,
    /// For so long at most.
    pub left: SignedDuration,
}

/// The replica; none where the Builder has one. What was chosen for an attempt holds: its request, which cannot be written twice, names
/// it.
pub(super) fn of(
    observed: &Observed,
    builder: &Builder,
    status: &ImageBuildStatus,
    now: Timestamp,
) -> Result<Option<i32>, Wait> {
    let current = status.current.as_ref();
    let chosen = current.and_then(|current| current.replica);
    // An attempt that was started before there were several runs on the first.
    let started = current.is_some_and(|current| current.started);
    if chosen.is_some() || started || !placement::has_several(builder) {
        return Ok(chosen);
    }
    let build = &observed.build;
    let seats = placement::seats(builder, |replica| {
        observed.queue.on.get(&replica).copied().unwrap_or(0)
    });
    let since = current.and_then(|current| current.waiting_since.as_ref());
    let patience = Patience {
        since: since.map_or(now, |since| since.0),
        cache: placement::worth(status.usual()),
    };
    let most = per_replica(builder);
    let name = builder.name_any();
    let wait = |message: String, left| Err(Wait { message, left });
    match placement::place(&placement::key(build), &seats, most, patience, now) {
        Place::On(replica) => Ok(Some(replica)),
        Place::Waits {
            replica,
            until,
            down,
        } => {
            let why = match down {
                true => "is down".to_owned(),
                false => format!("runs {most} builds (maxConcurrentBuilds)"),
            };
            let message = format!(
                "queued: replica {replica} of Builder {name}, which has the cache of this repository and target, {why}: this build goes \
                 to another one at {}",
                until.strftime("%H:%M:%S UTC")
            );
            wait(message, until.duration_since(now))
        }
        Place::Full => {
            let message = format!("queued: no replica of Builder {name} that is up has room");
            wait(message, SignedDuration::MAX)
        }
    }
}

#[cfg(test)]
#[path = "choice_tests.rs"]
mod tests;
