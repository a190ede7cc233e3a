//! Early reports, and what their Pods end with.

use super::*;

/// A build whose runner has told this early, and whose Pod has not ended.
fn told(report: &Report) -> ImageBuild {
    let mut build = running();
    let seen = with_attempt(build.clone(), State::Told(report.clone()));
    let step = next(&seen, later(12));
    assert_eq!(step.action, Action::None, "its Job stays until the record");
    build.status = Some(step.status);
    build
}

fn with_record(build: ImageBuild, report: &Report) -> Observed {
    let record = Record::Said {
        report: Box::new(report.clone()),
        whole: whittle_build::report::digest(report),
    };
    Observed {
        record,
        ..observed(build)
    }
}

#[test]
fn an_early_report_counts_at_once_and_is_held_against_the_record() {
    let build = told(&success());
    assert_eq!(
        condition(build.status.as_ref().unwrap(), READY),
        Some(("True", "Succeeded"))
    );
    assert!(is_built(&build) && !is_settled(&build));
    let waits = next(&observed(build.clone()), later(13));
    assert!(waits.status.early.is_some() && waits.look_again.is_some());
    let step = next(&with_record(build.clone(), &success()), later(14));
    assert_eq!((&step.status.early, &step.alarm), (&None, &None));
    assert!(matches!(step.action, Action::Prune(_)));
    let mut settled = build;
    settled.status = Some(step.status);
    assert!(is_settled(&settled));
    assert_eq!(settled.status.unwrap().history.len(), 1);
}

#[test]
fn a_record_that_says_something_else_counts_as_if_it_had_come_alone() {
    let record = failed(FailureReason::StepFailed, "m".into());
    let seen = with_record(told(&success()), &record);
    let step = next(&seen, later(14));
    let alone = next(
        &with_attempt(running(), State::Ended(record.clone())),
        later(14),
    );
    assert_eq!(step.status, alone.status);
    assert_eq!(step.notice, alone.notice);
    let alarm = step.alarm.unwrap();
    assert!(alarm.warning && alarm.message.contains("success with sha256:aa"));
}

#[test]
fn a_record_that_differs_in_what_the_image_holds_counts() {
    let Report::Succeeded(mut built) = success() else {
        panic!()
    };
    built.platforms[0].size += 1;
    let honest = Report::Succeeded(built);
    let step = next(&with_record(told(&success()), &honest), later(14));
    assert_eq!(step.status.size, Some(4_812_346));
    assert!(step.alarm.is_some());
}

#[test]
fn an_early_report_whose_pod_is_gone_stands() {
    let seen = Observed {
        record: Record::Gone,
        ..observed(told(&success()))
    };
    let step = next(&seen, later(14));
    assert_eq!((step.status.early, step.alarm), (None, None));
    assert_eq!(step.status.digest.as_deref(), Some("sha256:aa"));
}

#[test]
fn the_record_is_waited_for_but_not_for_ever() {
    let build = told(&success());
    let seen = observed(build);
    let long = next(&seen, later(1800));
    assert!(long.status.early.is_some());
    assert!(next(&seen, later(1800 + 12 + 121)).status.early.is_none());
}

#[test]
fn the_next_build_begins_when_the_record_was_seen() {
    let mut build = told(&success());
    build.metadata.generation = Some(2);
    build.spec.build_args.insert("A".into(), "b".into());
    let step = next(&observed(build.clone()), later(13));
    assert_eq!(step.status.current, None);
    assert_eq!(
        condition(&step.status, READY),
        Some(("Unknown", "WaitingForEarlierPod"))
    );
    assert!(step.look_again.is_some());
    let step = next(&with_record(build.clone(), &success()), later(14));
    assert!(matches!(step.action, Action::Start(_)));
    assert_eq!(step.status.build, Some(2));
    // A record that says something else ends the build before first.
    let record = failed(FailureReason::StepFailed, "m".into());
    let step = next(&with_record(build, &record), later(14));
    assert_eq!(step.status.current, None);
    assert_eq!(step.look_again, Some(SignedDuration::ZERO));
    assert_eq!(
        condition(&step.status, READY),
        Some(("Unknown", "Superseding"))
    );
}

#[test]
fn a_forged_failure_starts_no_other_attempt_before_the_record() {
    let lost = failed(FailureReason::RunnerLost, "m".into());
    let build = told(&lost);
    let current = build.status.clone().unwrap().current.unwrap();
    assert_eq!(current.attempt, 2);
    // Long after the pause.
    let step = next(&observed(build.clone()), later(100));
    assert_eq!(step.action, Action::None);
    let step = next(&with_record(build, &success()), later(101));
    assert_eq!(condition(&step.status, READY), Some(("True", "Succeeded")));
    assert_eq!(step.status.history.len(), 1);
}
