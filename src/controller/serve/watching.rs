//! Watchers tell here what they have seen, and ask what is to be looked at at once: over the same mutual TLS as runners, each
//! with the credential that its Builder's watcher was given. It speaks for the sources of that Builder's ImageBuilds alone.

use std::collections::{BTreeMap, BTreeSet};
use std::future::ready;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Extension, Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures::{StreamExt, stream};
use k8s_openapi::jiff::Timestamp;

use super::callback::{Desk, Runner, attempt_of, body_of};
use crate::cluster::credentials::Attempt;
use crate::names;
use crate::queues::Name;
use crate::watcher::heard;
use whittle_watch::wire::{Asked, HELD, ID, Seen, TOLD, Told, Wanted};

/// How often what was seen is decided anew where the ImageBuild has changed meanwhile.
const TRIES: usize = 4;

/// After each write: whatever is told, the API server has time for others.
const PACE: Duration = Duration::from_millis(50);
/// Watchers that are heard at a time: in all, and of one namespace.
const HEARD: usize = 16;
const OF_A_NAMESPACE: usize = 2;
/// Bytes of a list that are on their way at a time.
const PART: usize = 8 * 1024;
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
fn speaker(desk: &Desk, runner: &Runner, request: &Request) -> Result<(Name, Attempt), StatusCode> {
    let namespace = &*runner.namespace;
    let refused = |status, reason, why| Err(desk.refuse(status, reason, namespace, why));
    let attempt = attempt_of(desk, namespace, request);
    let Some((builder, attempt)) = attempt.and_then(|it| Some((builder_of(&it)?, it))) else {
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
    Ok((builder, attempt))
}

/// Takes in what was seen. The answer comes once what follows from it stands in the cluster.
pub(super) async fn seen(
    State(desk): State<Desk>,
    Extension(runner): Extension<Runner>,
    request: Request,
) -> Response {
    let arrived = Instant::now();
    let builder = match speaker(&desk, &runner, &request) {
        Ok((builder, _)) => builder,
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

/// Says what is to be looked at at once, and sends the list where the watcher has another one, as soon as there is something.
pub(super) async fn wait(
    State(desk): State<Desk>,
    Extension(runner): Extension<Runner>,
    request: Request,
) -> Response {
    let (builder, attempt) = match speaker(&desk, &runner, &request) {
        Ok(speaker) => speaker,
        Err(refused) => return refused.into_response(),
    };
    let asked = match body_of(request).await {
        // One of an earlier version asks with nothing.
        Ok(body) if body.is_empty() => Ok(Asked::default()),
        Ok(body) => serde_json::from_slice(&body)
            .map_err(|error| (StatusCode::BAD_REQUEST, "Body", error.to_string())),
        Err(refusal) => Err(refusal),
    };
    let asked: Asked = match asked {
        Ok(asked) => asked,
        Err((status, reason, why)) => {
            let status = desk.refuse(status, reason, &builder.0, &why);
            return status.into_response();
        }
    };
    // It is not busy: where seats are few, its connection ends for another, and it comes back.
    let _held = desk.sources.holds(&builder);
    let has = asked.list.as_deref().map(|has| (&*attempt.uid, has));
    let (look, list) = desk.sources.wanted(&builder, has, HELD).await;
    answer(look, list)
}

/// What a watcher is answered. A list is large, and whoever reads it may do so slowly: no answer has it for itself.
fn answer(look: Vec<String>, list: Option<Weak<[u8]>>) -> Response {
    let wanted = Wanted {
        look,
        lists: true,
        list: None,
    };
    let Some(list) = list else {
        return Json(wanted).into_response();
    };
    let mut head = serde_json::to_string(&wanted).expect("plain data is always JSON");
    head.truncate(head.len() - 1);
    head.push_str(r#","list":"#);
    let head = stream::iter([Ok(Bytes::from(head))]);
    let list = stream::unfold(Some(0), move |at| ready(at.map(|at| part(&list, at))));
    let json = [(CONTENT_TYPE, "application/json")];
    (json, Body::from_stream(head.chain(list))).into_response()
}

/// The part of an answer that begins at this byte of the list, and where the next one does.
fn part(list: &Weak<[u8]>, at: usize) -> (std::io::Result<Bytes>, Option<usize>) {
    let Some(list) = list.upgrade() else {
        // The connection ends, and the watcher asks again.
        let why = "another list has been sent meanwhile";
        return (Err(std::io::Error::other(why)), None);
    };
    match list.len() - at {
        0 => (Ok(Bytes::from_static(b"}")), None),
        left => {
            let next = at + left.min(PART);
            (Ok(Bytes::copy_from_slice(&list[at..next])), Some(next))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(answer: Response) -> Option<Wanted> {
        let body = axum::body::to_bytes(answer.into_body(), 4 << 20)
            .await
            .ok()?;
        Some(serde_json::from_slice(&body).unwrap())
    }

    #[tokio::test]
    async fn a_list_is_read_as_it_was_written_however_long() {
        let mut wanted = Wanted {
            look: vec!["u/1".into()],
            lists: true,
            list: None,
        };
        let look = wanted.look.clone();
        assert_eq!(read(answer(look.clone(), None)).await.unwrap(), wanted);
        for length in [0, 1, PART - 2, PART, 100 * PART + 7] {
            let text = "\"ü".repeat(length);
            let json: Arc<[u8]> = serde_json::to_vec(&text).unwrap().into();
            let answer = answer(look.clone(), Some(Arc::downgrade(&json)));
            wanted.list = Some(text);
            assert_eq!(read(answer).await.unwrap(), wanted);
        }
    }

    #[tokio::test]
    async fn an_answer_whose_list_is_another_one_by_now_ends_early() {
        let json: Arc<[u8]> = serde_json::to_vec(&"x".repeat(PART * 3)).unwrap().into();
        let answer = answer(vec![], Some(Arc::downgrade(&json)));
        drop(json);
        assert_eq!(read(answer).await, None);
    }

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
