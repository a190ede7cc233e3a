//! What is told of a build's end.

use super::*;
use crate::imagebuild::Ended;

/// The end of a build whose attempt has ended so.
fn ended(build: ImageBuild, report: Report) -> Option<Ended> {
    let step = next(
        &with_attempt(build.clone(), State::Ended(report)),
        later(12),
    );
    Ended::by(&build, &step)
}

#[test]
fn of_a_success_all_is_told() {
    let ended = ended(running(), success()).unwrap();
    let image = "registry.example.com/team/hello@sha256:aa";
    assert!(ended.succeeded());
    assert_eq!((ended.build, ended.generation), (1, Some(1)));
    assert_eq!(ended.image.as_deref(), Some(image));
    assert_eq!(ended.tags, ["latest"]);
    let annotations: Vec<_> = ended.annotations().into_iter().collect();
    let expected = [
        ("whittle.dev/build", "1"),
        ("whittle.dev/digest", "sha256:aa"),
        ("whittle.dev/duration-seconds", "12"),
        ("whittle.dev/image", image),
        ("whittle.dev/revision", "main@sha1:0123"),
    ];
    assert_eq!(
        annotations,
        expected.map(|(key, value)| (key.to_owned(), value.to_owned()))
    );
}

#[test]
fn of_a_failure_the_image_before_is_not_told_and_one_that_was_rejected_is() {
    let mut build = done();
    build.spec.rebuild = Some("2".into());
    build.status = Some(next(&observed(build.clone()), later(60)).status);
    let broke = failed(FailureReason::StepFailed, "m".into());
    let told = ended(build.clone(), broke).unwrap();
    assert_eq!((told.reason, told.build), ("StepFailed", 2));
    assert_eq!((told.image, told.digest, told.revision), (None, None, None));
    assert!(told.tags.is_empty());

    let Report::Failed(mut broken) = failed(FailureReason::ContractBroken, "m".into()) else {
        panic!()
    };
    broken.failure.image = Some("registry.example.com/team/hello@sha256:bb".into());
    broken.revision = Some("main@sha1:4567".into());
    let told = ended(build, Report::Failed(broken)).unwrap();
    assert_eq!(told.digest.as_deref(), Some("sha256:bb"));
    assert_eq!(told.revision.as_deref(), Some("main@sha1:4567"));
    assert!(told.tags.is_empty());
}

#[test]
fn an_attempt_that_another_one_follows_is_no_end() {
    let lost = failed(FailureReason::RunnerLost, "m".into());
    assert_eq!(ended(running(), lost), None);
}

#[test]
fn what_the_record_contradicts_is_corrected() {
    let build = running();
    let told = with_attempt(build.clone(), State::Told(success()));
    let step = next(&told, later(12));
    assert!(!Ended::by(&build, &step).unwrap().corrects);
    let mut build = build;
    build.status = Some(step.status);
    let record = failed(FailureReason::StepFailed, "m".into());
    let record = Record::Said {
        whole: whittle_build::report::digest(&record),
        report: Box::new(record),
    };
    let seen = Observed {
        record,
        ..observed(build.clone())
    };
    let ended = Ended::by(&build, &next(&seen, later(14))).unwrap();
    assert!(ended.corrects && !ended.succeeded());
    assert_eq!(ended.build, 1);
}
