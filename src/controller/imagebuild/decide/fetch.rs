//! What the guard judges by, the programs of an image, comes with the runner's callback: the record has no room for those of a
//! whole distribution. Where the callback was lost, a small runner fetches them from the report beside the image.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::clock::until;
use super::{Action, Observed, Step, backoff, end, step};
use crate::imagebuild::job::{self, AttemptId};
use crate::imagebuild::outcome::{Record, State};
use crate::names;
use crate::settings::Settings;
use whittle_api::{Fetch, ImageBuildStatus, PlatformStatus, bounded};
use whittle_build::report::{self, Report};
use whittle_build::request::{ReportRef, Tagging};

/// How often it is tried.
const TRIES: i32 = 5;
/// Bytes that are kept of why a try failed.
const REASON: usize = 512;
/// Seconds that one try may take.
const SECONDS: i64 = 300;

/// The Job that fetches, or is about to.
pub(super) fn job(status: &ImageBuildStatus) -> Option<&str> {
    status.fetch.as_ref()?.job.as_deref()
}

/// The Job of the build that was under way, or whose early report was held against its record.
fn ran(status: &ImageBuildStatus) -> Option<&str> {
    let current = status.current.as_ref().map(|current| &current.job);
    let early = status.early.as_ref().map(|early| &early.job);
    current.or(early).map(String::as_str)
}

/// What fetches was refused: that is no trouble of the build, which has ended well.
pub(super) fn refused(status: ImageBuildStatus, why: String, now: Timestamp) -> Step {
    match status.fetch.clone() {
        Some(fetch) => try_again(status, &fetch, why, now),
        None => step(status, Action::None),
    }
}

/// The reports of the platforms whose programs are not known.
fn lacking(status: &ImageBuildStatus) -> Vec<ReportRef> {
    let lacks = |platform: &PlatformStatus| {
        let contents = platform.contents.as_ref()?;
        let report = contents
            .report
            .clone()
            .filter(|_| contents.programs.is_none())?;
        Some(ReportRef {
            platform: platform.platform.clone(),
            digest: platform.digest.clone(),
            size: platform.size,
            report,
        })
    };
    status.platforms.iter().filter_map(lacks).collect()
}

/// Begins to fetch where a build has just ended with an image whose programs are not known, and ends that where another
/// build begins. Without a callback there is no way for them.
pub(super) fn follow(observed: &Observed, settings: &Settings, step: &mut Step) {
    let build = &observed.build;
    let before = build.status.as_ref().and_then(job);
    let status = &mut step.status;
    let Some(digest) = status.digest.clone() else {
        return;
    };
    let other = |fetch: &Fetch| fetch.digest != digest;
    if status.current.is_some() || status.fetch.as_ref().is_some_and(other) {
        status.fetch = None;
    }
    // Also where a build failed: then it is the image before whose programs are not known.
    let ran = build.status.as_ref().and_then(ran);
    let over = status.current.is_none() && status.early.is_none() && status.fetch.is_none();
    if let (Some(ran), true, Some(_)) = (ran, over, &settings.callback)
        && !lacking(status).is_empty()
    {
        status.fetch = Some(Fetch {
            digest,
            attempt: 1,
            job: Some(names::child(ran, "fetch-1")),
            retry_at: None,
            last_failure: None,
        });
        step.look_again = Some(SignedDuration::ZERO);
    }
    let gone = before.filter(|before| job(&step.status) != Some(before));
    step.stop.extend(gone.map(str::to_owned));
}

/// The next step of what is fetched; nothing where nothing is.
pub(super) fn go_on(
    observed: &Observed,
    settings: &Settings,
    status: ImageBuildStatus,
    now: Timestamp,
) -> Step {
    let (Some(fetch), Some(name)) = (status.fetch.clone(), job(&status)) else {
        return step(status, Action::None);
    };
    let name = name.to_owned();
    let look = |seconds: i64, status: ImageBuildStatus| Step {
        look_again: Some(SignedDuration::from_secs(seconds)),
        ..step(status, Action::None)
    };
    // What is told early is believed once the Pod's own end says the same. Where another early report was looked at, the
    // record is that one's.
    let early = observed.build.status.as_ref().map(|status| &status.early);
    let own = early.is_none_or(Option::is_none);
    if let (true, Record::Said { report, whole }) = (own, &observed.record) {
        return match (&**report, &observed.fetched) {
            (Report::Succeeded(_), Some(told)) if report::digest(told) == *whole => {
                take(status, &fetch, told, now)
            }
            (Report::Succeeded(_), _) => {
                let why = "the runner's callback did not arrive: check that its Pod can reach the controller";
                try_again(status, &fetch, why.into(), now)
            }
            (Report::Failed(failed), _) => try_again(status, &fetch, end::why(failed), now),
        };
    }
    match &observed.attempt {
        State::Absent => start(observed, settings, status, &fetch, name, now),
        State::Leaving => look(5, status),
        State::Foreign => {
            let why = format!(
                "conflict: Job {name} already exists and does not belong to this ImageBuild: delete it"
            );
            try_again(status, &fetch, why, now)
        }
        State::Pending(_) | State::Suspended(_) => look(30, status),
        State::Running | State::Told(_) => look(15, status),
        State::Ended(Report::Failed(failed)) => try_again(status, &fetch, end::why(failed), now),
        State::Untaken => {
            let why = "its runner was ended before it began";
            try_again(status, &fetch, why.into(), now)
        }
        State::Ended(Report::Succeeded(_)) => {
            try_again(status, &fetch, "its record was lost".into(), now)
        }
    }
}

fn start(
    observed: &Observed,
    settings: &Settings,
    status: ImageBuildStatus,
    fetch: &Fetch,
    name: String,
    now: Timestamp,
) -> Step {
    let build = &observed.build;
    if let Some(wait) = until(fetch.retry_at.as_ref(), now) {
        return Step {
            look_again: Some(wait),
            ..step(status, Action::None)
        };
    }
    if let Some(why) = job::refusal(build) {
        return give_up(status, why);
    }
    let Some(builder) = &observed.builder else {
        let name = &build.spec.builder_ref.name;
        let why = format!("Builder {name} not found: it has the settings of the registry");
        return try_again(status, fetch, why, now);
    };
    if observed.others_alive {
        return Step {
            look_again: Some(SignedDuration::from_secs(5)),
            ..step(status, Action::None)
        };
    }
    let id = AttemptId {
        build: status.build.unwrap_or(1),
        job: name,
        seconds_left: SECONDS,
        tagging: Tagging::Fetch {
            image: fetch.digest.clone(),
            reports: lacking(&status),
        },
        flux: None,
        no_cache: false,
        replica: None,
        natives: vec![],
    };
    match job::attempt(build, builder, &id, settings) {
        Ok(attempt) => step(status, Action::Start(Box::new(attempt))),
        Err(error) => give_up(
            status,
            format!("internal error: cannot write the request: {error}"),
        ),
    }
}

/// Enters what was fetched.
fn take(mut status: ImageBuildStatus, fetch: &Fetch, told: &Report, now: Timestamp) -> Step {
    if let Report::Succeeded(built) = told {
        for platform in &mut status.platforms {
            let found = built.platforms.iter();
            let mut found = found.filter(|found| found.digest == platform.digest);
            if let (Some(contents), Some(found)) = (&mut platform.contents, found.next()) {
                contents.programs = found.contents.as_ref().and_then(|c| c.programs.clone());
            }
        }
    }
    if lacking(&status).is_empty() {
        status.fetch = None;
        return step(status, Action::None);
    }
    try_again(status, fetch, "the report has no programs".into(), now)
}

fn try_again(mut status: ImageBuildStatus, fetch: &Fetch, why: String, now: Timestamp) -> Step {
    if fetch.attempt >= TRIES {
        return give_up(status, why);
    }
    let next = fetch.attempt + 1;
    let wait = backoff(fetch.attempt);
    let job = fetch.job.as_deref();
    status.fetch = Some(Fetch {
        attempt: next,
        job: job.map(|job| names::child(job, &format!("fetch-{next}"))),
        retry_at: Some(Time(now + wait)),
        last_failure: Some(bounded(why, REASON)),
        ..fetch.clone()
    });
    Step {
        look_again: Some(wait),
        ..step(status, Action::None)
    }
}

fn give_up(mut status: ImageBuildStatus, why: String) -> Step {
    if let Some(fetch) = &mut status.fetch {
        fetch.job = None;
        fetch.retry_at = None;
        fetch.last_failure = Some(bounded(why, REASON));
    }
    step(status, Action::None)
}

#[cfg(test)]
#[path = "fetch_tests.rs"]
mod tests;
