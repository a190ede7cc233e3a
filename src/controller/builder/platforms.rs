//! What a Builder does for its platforms that have daemons of their own, and what is said of those.

use k8s_openapi::jiff::SignedDuration;
use kube::ResourceExt;

use super::decide::{Observed, SOON, Say, Step};
use super::state;
use crate::imagebuild::decide::not_up;
use crate::platforms::Seen;
use whittle_api::{Builder, ImageBuild, PlatformDaemonStatus, READY, Reason, bounded, find};

/// Bytes of what is said of one that is not up.
const MESSAGE: usize = 1024;

/// The next of them that is to be written, or to go; none where all are as they should be.
pub fn next(observed: &Observed) -> Option<Step> {
    let news = |name: &str| !observed.told.contains_key(name);
    let differs = |it: &&Seen| it.differs() && news(&it.wanted.name_any());
    let wanted = observed.platforms.iter().find(differs);
    if let Some(seen) = wanted {
        return Some(Step::Platform(Box::new(seen.clone())));
    }
    let left = observed.left.iter().find(|it| news(&it.name_any()))?;
    Some(Step::Leave(Box::new(left.clone())))
}

/// True where one of them was refused, and is to be tried again.
pub fn is_refused(observed: &Observed) -> bool {
    observed.told.values().any(Option::is_some)
}

/// What is said of each; nothing where there are none.
pub fn said(observed: &Observed) -> Option<Vec<PlatformDaemonStatus>> {
    let of = |seen: &Seen| {
        let name = seen.wanted.name_any();
        let why = match observed.told.get(&name) {
            Some(Some(refused)) => Some(refused.clone()),
            // What was said of it before it was made is over.
            Some(None) if seen.stands.is_none() => not_up(seen, None),
            _ => not_up(seen, observed.builder.status.as_ref()),
        };
        PlatformDaemonStatus {
            platform: seen.platform.clone(),
            builder: name,
            ready: why.is_none(),
            message: why.map(|why| bounded(why, MESSAGE)),
        }
    };
    let all: Vec<_> = observed.platforms.iter().map(of).collect();
    (!all.is_empty()).then_some(all)
}

/// After this long no attempt begins that has seen a daemon take builds which drains since.
const SEEN: SignedDuration = SignedDuration::from_secs(10);

/// How many of these builds may run on the daemon of a platform that drains: those of the Builder whose platform it is go on without it
/// from then on, and are not waited for. None before it is said to drain, when each build that runs, or is about to, counts.
pub fn begun_before<'a>(
    daemon: &Builder,
    builds: impl Iterator<Item = &'a ImageBuild>,
) -> Option<usize> {
    let status = daemon.status.as_ref();
    let drains = status.filter(|status| status.state() == Some(Reason::Draining))?;
    let ready = find(&drains.conditions, READY)?;
    let since = ready.last_transition_time.0 + SEEN;
    let may = |build: &&ImageBuild| {
        let current = build.status.as_ref().and_then(|it| it.current.as_ref());
        current.is_some_and(|current| {
            let begun = current.since.as_ref().map(|it| it.0);
            current.started && begun.is_none_or(|begun| begun <= since)
        })
    };
    Some(builds.filter(may).count())
}

/// The daemon of a platform waits for the certificates of the Builder whose platform it is.
pub fn waits(observed: &Observed) -> Step {
    let builder = &observed.builder;
    let mut status = builder.status.clone().unwrap_or_default();
    let of = crate::platforms::whose(builder);
    let message = format!("waiting for the certificates of Builder {of}");
    state::say_waiting(&mut status, builder, &message, observed.now);
    Step::Say(Box::new(Say {
        status,
        look_again: SOON,
    }))
}
