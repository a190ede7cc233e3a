use super::*;
use crate::fixtures;
use crate::imagebuild::decide::tests::{self, later, next, now};
use crate::imagebuild::decide::{decide, is_settled};
use whittle_api::{ContentsStatus, ImageBuild};
use whittle_build::report::Built;

fn observed(build: ImageBuild, attempt: State) -> Observed {
    Observed {
        builder: Some(fixtures::builder()),
        own: None,
        platforms: vec![],
        attempt,
        record: Record::Pending,
        ..tests::observed(build)
    }
}

/// A success whose report lies beside the image.
fn success(programs: Option<&str>) -> Report {
    Report::Succeeded(Built {
        digest: "sha256:aa".into(),
        platforms: vec![PlatformStatus {
            platform: "linux/amd64".into(),
            digest: "sha256:bb".into(),
            size: 7,
            solve: None,
            layers: vec![],
            contents: Some(ContentsStatus {
                programs: programs.map(str::to_owned),
                report: Some("sha256:dd".into()),
                ..ContentsStatus::default()
            }),
        }],
        ..Built::default()
    })
}

/// An ImageBuild whose build has just ended so.
fn ended(report: Report) -> Step {
    let mut build = fixtures::inline();
    build.status = Some(next(&observed(build.clone(), State::Absent), now()).status);
    next(&observed(build, State::Ended(report)), later(60))
}

/// One whose programs are to be fetched.
fn lost() -> ImageBuild {
    let mut build = fixtures::inline();
    build.status = Some(ended(success(None)).status);
    build
}

fn fetch(step: &Step) -> &Fetch {
    step.status.fetch.as_ref().unwrap()
}

fn programs(step: &Step) -> Option<&str> {
    let contents = step.status.platforms[0].contents.as_ref()?;
    contents.programs.as_deref()
}

fn said(report: &Report) -> Record {
    let (report, whole) = report::decode_whole(&report::encode(report)).unwrap();
    Record::Said {
        report: Box::new(report),
        whole,
    }
}

#[test]
fn a_build_whose_programs_are_known_needs_nothing_more() {
    let step = ended(success(Some("p")));
    assert_eq!(step.status.fetch, None);
    let mut build = fixtures::inline();
    build.status = Some(step.status);
    assert!(is_settled(&build));
}

#[test]
fn programs_that_did_not_arrive_are_fetched_from_the_report_by_its_digest() {
    let build = lost();
    assert!(!is_settled(&build));
    let step = next(&observed(build.clone(), State::Absent), later(61));
    let Action::Start(attempt) = &step.action else {
        panic!("{:?}", step.action);
    };
    assert_eq!(attempt.job.metadata.name, fetch(&step).job);
    let request = &attempt.config_map.data.as_ref().unwrap()["request.json"];
    let request: serde_json::Value = serde_json::from_str(request).unwrap();
    assert_eq!(
        request["tagging"]["fetch"],
        serde_json::json!({"image": "sha256:aa", "reports": [
            {"platform": "linux/amd64", "digest": "sha256:bb", "size": 7, "report": "sha256:dd"}]})
    );
    // What it mounts of the source would only be in its way.
    assert!(super::super::awaits_report(
        &build,
        fetch(&step).job.as_deref().unwrap()
    ));
}

#[test]
fn without_a_callback_nothing_is_tried() {
    let mut settings = fixtures::settings();
    settings.callback = None;
    let mut build = fixtures::inline();
    build.status = Some(decide(&observed(build.clone(), State::Absent), &settings, now()).status);
    let ended = observed(build, State::Ended(success(None)));
    assert_eq!(decide(&ended, &settings, later(60)).status.fetch, None);
}

#[test]
fn what_is_told_is_believed_once_the_pods_end_says_the_same() {
    let told = success(Some(&"p".repeat(100)));
    let early = Observed {
        fetched: Some(told.clone()),
        ..observed(lost(), State::Told(told.clone()))
    };
    let step = next(&early, later(70));
    assert_eq!((programs(&step), fetch(&step).attempt), (None, 1));
    let job = fetch(&step).job.clone().unwrap();
    let over = Observed {
        record: said(&told),
        ..early
    };
    let step = next(&over, later(75));
    assert_eq!(step.status.fetch, None);
    assert_eq!(programs(&step), Some("p".repeat(100).as_str()));
    assert_eq!(step.stop, [job]);
    // The build itself is as it was.
    assert_eq!(step.status.history.len(), 1);
    assert_eq!(step.notice, None);
}

#[test]
fn another_word_than_the_pods_own_is_not_believed() {
    let over = Observed {
        fetched: Some(success(Some("forged"))),
        record: said(&success(Some("p"))),
        ..observed(lost(), State::Ended(success(Some("p"))))
    };
    let step = next(&over, later(75));
    assert_eq!(programs(&step), None);
    assert_eq!(fetch(&step).attempt, 2);
    assert!(
        fetch(&step)
            .last_failure
            .as_ref()
            .unwrap()
            .contains("callback did not arrive")
    );
}

#[test]
fn a_try_that_fails_is_followed_by_a_few_more_ever_later() {
    let mut build = lost();
    let failure = report::failed(
        whittle_api::FailureReason::PushFailed,
        "the registry is away".into(),
    );
    let mut waits = vec![];
    let mut jobs = vec![];
    for at in 0..TRIES {
        let step = next(
            &observed(build.clone(), State::Ended(failure.clone())),
            later(100 + i64::from(at)),
        );
        jobs.extend(build.status.as_ref().and_then(job).map(str::to_owned));
        assert!(step.stop.contains(jobs.last().unwrap()));
        waits.extend(step.look_again.map(|wait| wait.as_secs()));
        build.status = Some(step.status);
    }
    assert_eq!(waits, [10, 20, 40, 80]);
    jobs.dedup();
    assert_eq!(jobs.len(), 5);
    let given_up = build.status.as_ref().unwrap().fetch.as_ref().unwrap();
    assert_eq!(given_up.job, None);
    assert_eq!(
        given_up.last_failure.as_deref(),
        Some("PushFailed: the registry is away")
    );
    assert!(is_settled(&build));
}

#[test]
fn another_build_ends_it() {
    let mut build = lost();
    let job = build.status.as_ref().and_then(job).unwrap().to_owned();
    build.spec.rebuild = Some("again".into());
    let step = next(&observed(build, State::Running), later(100));
    assert!(step.status.current.is_some());
    assert_eq!(step.status.fetch, None);
    assert_eq!(step.stop, [job]);
}

#[test]
fn what_fetches_is_refused_and_the_build_stays_ready() {
    let build = lost();
    let job = build.status.as_ref().and_then(job).unwrap().to_owned();
    let refusal = crate::refusal::Refusal::of(
        "creating Job team/hello",
        None,
        403,
        "jobs.batch \"hello\" is forbidden: exceeded quota: few",
    );
    let step = crate::imagebuild::decide::refused(&build, &refusal.unwrap(), later(70));
    assert_eq!(
        step.status.conditions,
        build.status.as_ref().unwrap().conditions
    );
    assert_eq!((fetch(&step).attempt, step.notice.is_none()), (2, true));
    assert!(
        fetch(&step)
            .last_failure
            .as_ref()
            .unwrap()
            .contains("exceeded quota")
    );
    assert_eq!(step.stop, [job]);
}

#[test]
fn the_record_of_another_attempt_is_none_of_its_own() {
    let mut build = lost();
    let job = build.status.as_ref().and_then(job).unwrap().to_owned();
    build.status.as_mut().unwrap().early = Some(whittle_api::Early {
        job: "another".into(),
        digest: "sha256:00".into(),
        before: String::new(),
        until: Time(later(1)),
    });
    let over = Observed {
        record: Record::Said {
            report: Box::new(success(None)),
            whole: "sha256:00".into(),
        },
        ..observed(build, State::Absent)
    };
    let step = next(&over, later(70));
    assert_eq!(step.status.early, None);
    assert_eq!(fetch(&step).job.as_deref(), Some(job.as_str()));
    assert_eq!(
        (fetch(&step).attempt, &fetch(&step).last_failure),
        (1, &None)
    );
}

#[test]
fn after_a_build_that_failed_the_programs_of_the_image_before_are_fetched_again() {
    let mut build = lost();
    build.spec.rebuild = Some("again".into());
    build.status = Some(next(&observed(build.clone(), State::Running), later(100)).status);
    let failure = report::failed(whittle_api::FailureReason::StepFailed, "no".into());
    let step = next(&observed(build, State::Ended(failure)), later(120));
    assert!(step.status.failure.is_some());
    assert_eq!(
        (fetch(&step).digest.as_str(), fetch(&step).attempt),
        ("sha256:aa", 1)
    );
}
