//! Watchers tell here what they have seen, and ask what is to be looked at at once: over the same mutual TLS as runners, each
//! with the credential that its Builder's watcher was given. It speaks for the sources of that Builder's ImageBuilds alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::{Extension, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use k8s_openapi::jiff::Timestamp;

use super::callback::{Desk, Runner, attempt_of, body_of};
use crate::cluster::credentials::Attempt;
use crate::names;
use crate::queues::Name;
use crate::watcher::heard;
use whittle_watch::wire::{HELD, ID, Seen, TOLD, Told, Wanted};

/// How often what was seen is decided anew where the ImageBuild has changed meanwhile.
const TRIES: usize = 4;

/// After each write: whatever is told, the API server has time for others.
const PACE: Duration = Duration::from_millis(50);
/// Watchers that are heard at a time: in all, and of one namespace.
const HEARD: usize = 16;
const OF_A_NAMESPACE: usize = 2;
/// How long one may be heard: it waits for 30 s.
const WITHIN: Duration = Duration::from_secs(25);

/// The watchers that are being heard: each once.
#[derive(Clone, Default)]
pub(super) struct Telling(Arc<Mutex<BTreeSet<Name>>>);

/// One of them, until it is dropped.
struct One<'a>(&'a Telling, Name);

impl Telling {
    fn enter(&self, builder: &Name) -> Option<One<'_>> {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let here = heard
            .iter()
            .filter(|(namespace, _)| *namespace == builder.0);
        let room = heard.len() < HEARD && here.count() < OF_A_NAMESPACE;
        (room && heard.insert(builder.clone())).then(|| One(self, builder.clone()))
    }
}

impl Drop for One<'_> {
    fn drop(&mut self) {
        let mut heard = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        heard.remove(&self.1);
    }
}

/// The Builder whose watcher speaks; none where the credential is no watcher's.
fn builder_of(attempt: &Attempt) -> Option<Name> {
    let builder = attempt.job.strip_prefix("whittle-builder-")?;
    let builder = builder.strip_suffix("-watcher")?;
    (names::watcher(builder) == attempt.job && names::check_builder(builder).is_ok())
        .then(|| (attempt.namespace.clone(), builder.to_owned()))
}

/// Who speaks, or why nobody is heard.
fn speaker(desk: &Desk, runner: &Runner, request: &Request) -> Result<Name, StatusCode> {
    let namespace = &*runner.namespace;
    let refused = |status, reason, why| Err(desk.refuse(status, reason, namespace, why));
    let attempt = attempt_of(desk, namespace, request);
    let Some(builder) = attempt.as_ref().and_then(builder_of) else {
        let why = "the watcher's credential is invalid or belongs to another namespace";
        return refused(StatusCode::UNAUTHORIZED, "NoCredential", why);
    };
    // Whatever becomes of what it says: it is there.
    desk.sources.speaks(&builder);
    if desk.is_stopping() {
        let why = "this controller is stopping: retry with the next one";
        return refused(StatusCode::SERVICE_UNAVAILABLE, "Stopping", why);
    }
    if !desk.pace.hears(namespace) {
        let why = "too many requests from its namespace";
        return refused(StatusCode::TOO_MANY_REQUESTS, "TooMany", why);
    }
    Ok(builder)
}

/// Takes in what was seen. The answer comes once what follows from it stands in the cluster.
pub(super) async fn seen(
    State(desk): State<Desk>,
    Extension(runner): Extension<Runner>,
    request: Request,
) -> Response {
    let arrived = Instant::now();
    let builder = match speaker(&desk, &runner, &request) {
        Ok(builder) => builder,
        Err(refused) => return refused.into_response(),
    };
    let _busy = runner.business.begin();
    let refuse = |(status, reason, why): (StatusCode, &'static str, String)| {
        desk.refuse(status, reason, &builder.0, &why)
            .into_response()
    };
    let body = match body_of(request).await {
        Ok(body) => body,
        Err(refusal) => return refuse(refusal),
    };
    let Some(_one) = desk.telling.enter(&builder) else {
        let why = "its watcher is being heard already";
        return refuse((StatusCode::TOO_MANY_REQUESTS, "TooMany", why.to_owned()));
    };
    let told: Told = match serde_json::from_slice(&body) {
        Ok(told) => told,
        Err(error) => return refuse((StatusCode::BAD_REQUEST, "Body", error.to_string())),
    };
    match tokio::time::timeout(WITHIN, take_all(&desk, &builder, &told, arrived)).await {
        Ok(Ok(())) => StatusCode::NO_CONTENT.into_response(),
        Ok(Err(error)) => refuse((
            StatusCode::SERVICE_UNAVAILABLE,
            "ApiServer",
            error.to_string(),
        )),
        Err(_) => {
            let why = "timed out: what was told takes too long to write".to_owned();
            refuse((StatusCode::SERVICE_UNAVAILABLE, "Slow", why))
        }
    }
}

/// Writes what follows from all that was seen: the last word of each source.
async fn take_all(
    desk: &Desk,
    builder: &Name,
    told: &Told,
    arrived: Instant,
) -> Result<(), crate::cluster::Error> {
    let all = told.seen.iter().take(TOLD);
    let last: BTreeMap<&str, &Seen> = all.map(|seen| (seen.id.as_str(), seen)).collect();
    for seen in last.into_values() {
        take(desk, builder, seen, arrived).await?;
    }
    Ok(())
}

/// The same some time after it was told: what is told at once is written one after the other.
fn older(seen: &Seen, by: Duration) -> Seen {
    let more = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
    let begun = seen.begun_millis;
    Seen {
        age_seconds: seen.age_seconds.saturating_add(by.as_secs()),
        begun_millis: begun.map(|begun| begun.saturating_add(more)),
        ..seen.clone()
    }
}

/// Writes what follows from one thing that was seen.
async fn take(
    desk: &Desk,
    builder: &Name,
    seen: &Seen,
    arrived: Instant,
) -> Result<(), crate::cluster::Error> {
    if seen.id.len() > ID {
        return Ok(());
    }
    // Of another namespace or Builder, or one that has gone: it is in no list any more.
    let Some(((namespace, name), entry)) = desk.sources.find(builder, &seen.id) else {
        return Ok(());
    };
    // Before anything is written, which takes a while: it does what it is there for.
    desk.sources.tells(builder);
    if entry.knows(seen) {
        return Ok(());
    }
    let mut tries = 0;
    loop {
        let build = desk.cluster.image_build(&namespace, &name).await?;
        let Some(build) = build.filter(|build| build.metadata.uid.as_ref() == Some(&entry.uid))
        else {
            return Ok(());
        };
        if build.spec.builder_ref.name != builder.1 {
            return Ok(());
        }
        let seen = older(seen, arrived.elapsed());
        let Some(status) = heard(&build, &seen, Timestamp::now()) else {
            return Ok(());
        };
        tries += 1;
        match desk.cluster.write_status(&build, &status).await {
            Ok(_) => {
                tokio::time::sleep(PACE).await;
                return Ok(());
            }
            Err(error) if error.is_missing() => return Ok(()),
            Err(error) if error.is_conflict() && tries < TRIES => {}
            Err(error) => return Err(error),
        }
    }
}

/// Says what is to be looked at at once, as soon as there is something.
pub(super) async fn wait(
    State(desk): State<Desk>,
    Extension(runner): Extension<Runner>,
    request: Request,
) -> Response {
    let builder = match speaker(&desk, &runner, &request) {
        Ok(builder) => builder,
        Err(refused) => return refused.into_response(),
    };
    // It is not busy: where seats are few, its connection ends for another, and it comes back.
    let _held = desk.sources.holds(&builder);
    let look = desk.sources.wanted(&builder, HELD).await;
    Json(Wanted { look }).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_to_be_written_grows_older() {
        let told = |age_seconds, begun_millis| Seen {
            id: "u/1".into(),
            wanted: false,
            age_seconds,
            begun_millis,
            outcome: whittle_watch::wire::Outcome::Found {
                revision: "main@sha1:00".into(),
            },
            tree: None,
        };
        let by = Duration::from_millis(8_400);
        assert_eq!(older(&told(1, Some(3_100)), by), told(9, Some(11_500)));
        assert_eq!(older(&told(1, None), by), told(9, None));
        let ages = told(u64::MAX, Some(u64::MAX));
        assert_eq!(older(&ages, by), ages);
    }

    #[test]
    fn only_the_credential_of_a_watcher_speaks_for_one() {
        let of = |job: &str| {
            builder_of(&Attempt {
                namespace: "team".into(),
                uid: "u".into(),
                job: job.into(),
            })
        };
        assert_eq!(
            of(&names::watcher("default")),
            Some(("team".into(), "default".into()))
        );
        for other in [
            "hello-0123456789",
            "whittle-builder-default",
            "whittle-builder--watcher",
            "-watcher",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
        // No runner's Job has such a name: it ends in ten hexadecimal digits.
        assert!(!names::is_attempt(&names::watcher("default")));
    }
}
