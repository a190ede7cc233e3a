//! A build without a controller: what its status would be.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::{decide, status};
use whittle_api::{Current, ImageBuild, ImageBuildStatus, PROBED, Stage, clear};
use whittle_build::report::Report;

/// The status where this report ends the first build of an ImageBuild, and the sentence of its Event. What no report can
/// know is not in it: whether the image answers `spec.healthCheck`.
pub fn ended(
    build: &ImageBuild,
    job: &str,
    report: Report,
    started: Timestamp,
    now: Timestamp,
) -> (ImageBuildStatus, String) {
    let generation = build.metadata.generation;
    let mut status = ImageBuildStatus {
        observed_generation: generation,
        build: Some(1),
        input: Some(decide::input(build)),
        started_at: Some(Time(started)),
        queued_seconds: Some(0),
        current: Some(Current {
            replica: None,
            last_replica: None,
            attempt: 1,
            job: job.to_owned(),
            generation: generation.unwrap_or(1),
            stage: Stage::Building,
            message: None,
            retry_at: None,
            last_failure: None,
            since: Some(Time(started)),
            started: true,
            waiting: None,
            progress: None,
            waiting_since: None,
            standby: None,
        }),
        ..ImageBuildStatus::default()
    };
    let notice = match report {
        Report::Succeeded(built) => status::succeed(&mut status, build, built, now),
        Report::Failed(failed) => status::fail(&mut status, build, failed, now),
    };
    clear(&mut status.conditions, PROBED);
    (status, notice.message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;
    use whittle_api::{BUILT, CONTRACT, FailureReason, READY, STALLED, find, is_true};
    use whittle_build::report::{Built, failed};

    fn of(report: Report) -> (ImageBuildStatus, String) {
        let started = Timestamp::from_second(1_700_000_000).unwrap();
        let now = Timestamp::from_second(1_700_000_007).unwrap();
        ended(&fixtures::inline(), "hello-1", report, started, now)
    }

    #[test]
    fn a_build_that_succeeds_is_ready_with_its_image_and_time() {
        let built = Built {
            digest: format!("sha256:{}", "a".repeat(64)),
            ..Built::default()
        };
        let (status, message) = of(Report::Succeeded(built));
        assert!(is_true(&status.conditions, READY) && is_true(&status.conditions, BUILT));
        assert!(is_true(&status.conditions, CONTRACT));
        assert_eq!(find(&status.conditions, PROBED), None);
        assert_eq!(status.duration_seconds, Some(7));
        assert_eq!(status.current, None);
        let image = status.image.unwrap();
        assert!(
            image.ends_with(&"a".repeat(64)) && message.starts_with(&image),
            "{message}"
        );
        assert_eq!(status.history.len(), 1);
    }

    #[test]
    fn a_build_that_fails_is_stalled_with_its_reason() {
        let (status, message) = of(failed(FailureReason::StepFailed, "step 2 failed".into()));
        assert!(is_true(&status.conditions, STALLED));
        let ready = find(&status.conditions, READY).unwrap();
        assert_eq!(
            (ready.reason.as_str(), ready.message.as_str()),
            ("StepFailed", &*message)
        );
        assert_eq!(message, "step 2 failed");
        assert_eq!(status.image, None);
    }
}
