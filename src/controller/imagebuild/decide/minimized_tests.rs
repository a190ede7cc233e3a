//! `spec.minimize`: the smaller image is checked, and what follows where it does not answer.

use super::checking::request_of;
use super::*;
use serde_json::{Value, json};
use whittle_api::{
    ContentsStatus, LeftOut, MINIMIZED, MinimizeOutcome, MinimizedStatus, PROBED, Rejected,
    Rejection,
};
use whittle_build::contract::Breach;
use whittle_build::minimized::{Full, FullPlatform, Minimized};
use whittle_build::request::Tagging;

const SMALL: [&str; 3] = ["sha256:aa", "sha256:bb", "sha256:cc"];
const FULL: [&str; 3] = ["sha256:f0", "sha256:f1", "sha256:f2"];
const PLATFORMS: [&str; 2] = ["linux/amd64", "linux/arm64"];

/// An ImageBuild whose spec asks for it; `more` is merged into `spec.minimize`.
fn asked(more: Value) -> ImageBuild {
    let mut build = fixtures::inline();
    let mut minimize = json!({"mode": "Apply"});
    json_patch::merge(&mut minimize, &more);
    build.spec.minimize = serde_json::from_value(minimize).unwrap();
    build.spec.health_check = serde_json::from_value(json!({"tcpSocket": {"port": 80}})).ok();
    build
}

fn full() -> Full {
    let platform = |at: usize| FullPlatform {
        platform: PLATFORMS[at].into(),
        digest: FULL[at + 1].into(),
        size: 40_000_000 + at as i64,
        report: Some(format!("sha256:e{at}")),
    };
    Full {
        digest: FULL[0].into(),
        size: 40_000_001,
        platforms: vec![platform(0), platform(1)],
        breaches: vec![],
    }
}

/// What a runner says that has made a smaller image.
fn smaller(full: Full) -> Report {
    let Report::Succeeded(mut built) = success() else {
        panic!()
    };
    for platform in &mut built.platforms {
        platform.contents = Some(ContentsStatus {
            user: Some("app".into()),
            user_id: Some(1000),
            report: Some("sha256:dd".into()),
            ..ContentsStatus::default()
        });
    }
    built.minimized = Some(Box::new(Minimized {
        outcome: MinimizeOutcome::Applied,
        message: "left out 1,204 files".into(),
        left: vec![LeftOut {
            path: "/usr/lib/python3".into(),
            size: 30_000_000,
        }],
        digest: Some(SMALL[0].into()),
        size: Some(4_812_345),
        full: Some(full),
        ..Minimized::default()
    }));
    Report::Succeeded(built)
}

/// The build once the smaller image is pushed.
fn pushed(mut build: ImageBuild, full: Full) -> ImageBuild {
    build.status = Some(next(&observed(build.clone()), now()).status);
    let told = State::Ended(smaller(full));
    build.status = Some(next(&with_attempt(build.clone(), told), later(5)).status);
    build
}

fn crashed() -> gate::State {
    gate::State::Failed {
        how: gate::How::Ended,
        message: "the container exited with code 1 before it was Ready".into(),
        log: Some("starting\n\nno such file: /app/views/a.html\n".into()),
    }
}

/// The step after the smaller image has crashed, and the build with its status.
fn rejected(build: ImageBuild) -> (ImageBuild, Step) {
    let mut build = build;
    let crashed = with_checks(&build, [crashed(), gate::State::NoNode]);
    let step = next(&crashed, later(9));
    build.status = Some(step.status.clone());
    (build, step)
}

/// The build once the full image has answered in the place of the smaller one; the runner that moves its tags is asked for
/// this.
fn answered(mut build: ImageBuild) -> (ImageBuild, Tagging) {
    let passed = with_checks(
        &build,
        [gate::State::Passed { seconds: 1 }, gate::State::NoNode],
    );
    let step = next(&passed, later(20));
    build.status = Some(step.status.clone());
    (build, request_of(&step).tagging)
}

/// What the runner says that has moved the tags to the full image.
fn tagged() -> Report {
    let platforms = (0..2).map(|at| PlatformStatus {
        platform: PLATFORMS[at].into(),
        digest: FULL[at + 1].into(),
        size: 40_000_000 + at as i64,
        solve: None,
        layers: vec![],
        contents: Some(ContentsStatus {
            shell: true,
            programs: Some("p".into()),
            report: Some(format!("sha256:e{at}")),
            ..ContentsStatus::default()
        }),
    });
    Report::Succeeded(Built {
        digest: FULL[0].into(),
        platforms: platforms.collect(),
        ..Built::default()
    })
}

/// The build once tags point to the full image, and its last step.
fn full_used() -> (ImageBuild, Step) {
    let (build, _) = rejected(pushed(asked(json!({})), full()));
    let (mut build, _) = answered(build);
    let told = with_attempt(build.clone(), State::Ended(tagged()));
    let step = next(&told, later(25));
    build.status = Some(step.status.clone());
    (build, step)
}

fn minimized(build: &ImageBuild) -> MinimizedStatus {
    build.status.clone().unwrap().minimized.unwrap()
}

fn said<'a>(status: &'a ImageBuildStatus, kind: &str) -> &'a str {
    &find(&status.conditions, kind).unwrap().message
}

fn jobs(step: &Step) -> Vec<(String, String)> {
    let Action::Check(jobs) = &step.action else {
        panic!("{:?}", step.action)
    };
    let image = |job: &Job| {
        let pod = job.spec.clone().unwrap().template.spec.unwrap();
        pod.containers[0].image.clone().unwrap()
    };
    jobs.iter()
        .map(|job| (job.name_any(), image(job)))
        .collect()
}

#[test]
fn tags_point_to_the_smaller_image_once_it_has_answered() {
    let build = pushed(asked(json!({})), full());
    let step = next(
        &with_checks(&build, [gate::State::Absent, gate::State::NoNode]),
        later(6),
    );
    let image = "registry.example.com/team/hello@sha256:bb";
    assert_eq!(jobs(&step)[0].1, image);
    let (mut build, tagging) = answered(build);
    let only = Tagging::Only {
        image: SMALL[0].into(),
        debug: None,
        tags: vec![],
        full: vec![],
    };
    assert_eq!(tagging, only);
    let told = with_attempt(build.clone(), State::Ended(success()));
    let step = next(&told, later(25));
    let status = &step.status;
    assert_eq!(condition(status, READY), Some(("True", "Succeeded")));
    assert_eq!(condition(status, MINIMIZED), Some(("True", "Applied")));
    assert_eq!(
        said(status, MINIMIZED),
        "4.6 MiB instead of 38.1 MiB: left out 1,204 files"
    );
    assert!(said(status, READY).contains("(4.6 MiB instead of 38.1 MiB; 4 of 9"));
    assert_eq!(status.digest.as_deref(), Some(SMALL[0]));
    build.status = Some(step.status);
    insta::assert_yaml_snapshot!("minimized-applied", minimized(&build));
}

#[test]
fn where_the_smaller_image_does_not_start_the_full_one_is_checked_and_tagged() {
    let before = pushed(asked(json!({})), full());
    let small = checking_jobs(&before);
    let current = before.status.clone().unwrap().current.unwrap();
    assert!(!is_checked(&current));
    let (build, step) = rejected(before);
    assert_eq!(step.action, Action::None);
    assert_eq!(step.stop, small);
    assert_eq!(
        condition(&step.status, READY),
        Some(("Unknown", "HealthCheck"))
    );
    assert_eq!(
        condition(&step.status, MINIMIZED),
        Some(("False", "DoesNotStart"))
    );
    assert_eq!(
        step.notice.unwrap().message,
        "the smaller image did not answer its health check: linux/amd64: the container exited with code 1 before it was Ready; its last \
         lines: starting | no such file: /app/views/a.html"
    );
    // A controller that ends here finds the full image in the status, which is written before the check goes.
    assert!(is_checked(step.status.current.as_ref().unwrap()));
    let absent = with_checks(&build, [gate::State::Absent, gate::State::NoNode]);
    let step = next(&absent, later(10));
    let image = "registry.example.com/team/hello@sha256:f1";
    let [(name, run)] = &jobs(&step)[..] else {
        panic!("one Job")
    };
    assert_eq!(run, image);
    assert!(!small.contains(name) && checking_jobs(&build).contains(name));
    let Action::Check(made) = &step.action else {
        panic!()
    };
    let pod = made[0].spec.clone().unwrap().template.spec.unwrap();
    assert_eq!(pod.security_context.unwrap().run_as_user, Some(1000));

    let (mut build, tagging) = answered(build);
    let only = Tagging::Only {
        image: FULL[0].into(),
        debug: None,
        tags: vec![],
        full: full().platforms,
    };
    assert_eq!(tagging, only);
    let step = next(
        &with_attempt(build.clone(), State::Ended(tagged())),
        later(25),
    );
    let status = &step.status;
    assert_eq!(condition(status, READY), Some(("True", "Succeeded")));
    assert_eq!(condition(status, PROBED), Some(("True", "Answered")));
    assert_eq!(
        condition(status, MINIMIZED),
        Some(("False", "DoesNotStart"))
    );
    assert!(said(status, MINIMIZED).starts_with("the full image is used: the smaller image did"));
    assert_eq!(status.digest.as_deref(), Some(FULL[0]));
    assert_eq!(status.size, Some(40_000_001));
    assert_eq!(status.revision.as_deref(), Some("main@sha1:0123"));
    let contents = status.platforms[0].contents.clone().unwrap();
    assert!(contents.shell && contents.report.as_deref() == Some("sha256:e0"));
    build.status = Some(step.status);
    let mut entered = minimized(&build);
    let rejected = entered.rejected.as_mut().unwrap();
    assert!(rejected.input.starts_with("sha256:"));
    rejected.input = "sha256:…".into();
    insta::assert_yaml_snapshot!("minimized-full-used", entered);
}

fn checking_jobs(build: &ImageBuild) -> Vec<String> {
    check_jobs(build.status.as_ref().unwrap())
}

#[test]
fn one_that_runs_and_is_never_ready_has_a_reason_of_its_own() {
    let build = pushed(asked(json!({})), full());
    let late = gate::State::Failed {
        how: gate::How::TimedOut,
        message: "timed out: not Ready within 30 s".into(),
        log: None,
    };
    let step = next(&with_checks(&build, [late, gate::State::NoNode]), later(40));
    assert_eq!(
        condition(&step.status, MINIMIZED),
        Some(("False", "NotReady"))
    );
}

#[test]
fn with_on_failure_fail_the_build_ends_and_names_both_images() {
    let build = pushed(asked(json!({"onFailure": "Fail"})), full());
    let small = checking_jobs(&build);
    let (build, step) = rejected(build);
    let status = &step.status;
    assert_eq!(
        condition(status, READY),
        Some(("False", "HealthCheckFailed"))
    );
    assert_eq!(
        condition(status, PROBED),
        Some(("False", "HealthCheckFailed"))
    );
    assert_eq!(
        condition(status, MINIMIZED),
        Some(("False", "DoesNotStart"))
    );
    assert!(status.digest.is_none() && status.minimized.is_none() && status.current.is_none());
    assert_eq!(step.stop, small);
    let failure = build.status.unwrap().failure.unwrap();
    assert!(failure.message.starts_with("the smaller image did not"));
    assert!(
        failure
            .message
            .contains("the full image is registry.example.com/team/hello@sha256:f0")
    );
    assert_eq!(
        failure.image.as_deref(),
        Some("registry.example.com/team/hello@sha256:aa")
    );
    assert!(failure.log.is_some());
}

#[test]
fn where_the_full_image_does_not_answer_either_the_build_fails_as_without_minimize() {
    let (build, _) = rejected(pushed(asked(json!({})), full()));
    let of_full = checking_jobs(&build);
    let step = next(
        &with_checks(&build, [crashed(), gate::State::NoNode]),
        later(15),
    );
    let status = step.status;
    assert_eq!(
        condition(&status, READY),
        Some(("False", "HealthCheckFailed"))
    );
    assert_eq!(
        condition(&status, MINIMIZED),
        Some(("False", "DoesNotStart"))
    );
    assert_eq!(step.stop, of_full);
    let failure = status.failure.unwrap();
    assert_eq!(
        failure.message,
        "linux/amd64: the container exited with code 1 before it was Ready"
    );
    assert_eq!(
        failure.image.as_deref(),
        Some("registry.example.com/team/hello@sha256:f0")
    );
}

#[test]
fn a_full_image_that_breaks_the_contract_is_not_used() {
    let broken = Full {
        breaches: vec![Breach {
            rule: "NoShell".into(),
            platforms: vec![],
            enforced: true,
            message: "has /bin/sh".into(),
        }],
        ..full()
    };
    for crashes in [true, false] {
        let build = pushed(asked(json!({})), broken.clone());
        let first = match crashes {
            true => crashed(),
            false => gate::State::NoNode,
        };
        let step = next(&with_checks(&build, [first, gate::State::NoNode]), later(9));
        let status = step.status;
        assert_eq!(condition(&status, READY), Some(("False", "ContractBroken")));
        assert_eq!(
            condition(&status, "Contract"),
            Some(("False", "ContractBroken"))
        );
        let failure = status.failure.unwrap();
        assert!(
            failure
                .message
                .ends_with("but it breaks the contract: NoShell: has /bin/sh"),
            "{}",
            failure.message
        );
        assert_eq!(
            failure.image.as_deref(),
            Some("registry.example.com/team/hello@sha256:f0")
        );
    }
}

#[test]
fn what_no_node_can_run_is_tagged_in_full() {
    let mut build = pushed(asked(json!({})), full());
    let nowhere = with_checks(&build, [gate::State::NoNode, gate::State::NoNode]);
    let step = next(&nowhere, later(6));
    let Tagging::Only { image, full, .. } = request_of(&step).tagging else {
        panic!()
    };
    assert_eq!((image.as_str(), full.len()), (FULL[0], 2));
    build.status = Some(step.status);
    let step = next(
        &with_attempt(build.clone(), State::Ended(tagged())),
        later(25),
    );
    assert_eq!(condition(&step.status, READY), Some(("True", "Succeeded")));
    assert_eq!(condition(&step.status, PROBED), Some(("Unknown", "NoNode")));
    assert_eq!(
        condition(&step.status, MINIMIZED),
        Some(("False", "NotPossible"))
    );
    assert_eq!(step.status.digest.as_deref(), Some(FULL[0]));
    // Nobody has rejected it: with a node it is tried.
    build.status = Some(step.status);
    assert_eq!(request_of(&again(&build)).rejected, None);
}

#[test]
fn a_check_that_was_lost_says_nothing_about_the_smaller_image() {
    let build = pushed(asked(json!({})), full());
    let lost = gate::State::Lost("evicted".into());
    let step = next(&with_checks(&build, [lost, gate::State::NoNode]), later(9));
    assert_eq!(condition(&step.status, MINIMIZED), None);
    let current = step.status.current.unwrap();
    assert_eq!((current.attempt, current.stage), (2, Stage::Building));
}

/// The start of the next build, as a trigger asks for it.
fn again(build: &ImageBuild) -> Step {
    let mut build = build.clone();
    build.status.as_mut().unwrap().input = None;
    next(&observed(build), later(100))
}

#[test]
fn a_smaller_image_that_was_rejected_is_not_tried_again_until_something_changes() {
    let (build, _) = full_used();
    let before = request_of(&again(&build)).rejected.unwrap();
    assert_eq!(
        (before.full.as_str(), before.reason),
        (FULL[0], Rejection::DoesNotStart)
    );
    assert!(before.message.contains("/app/views/a.html"));
    let changes: [fn(&mut ImageBuild); 5] = [
        |build| build.spec.minimize.as_mut().unwrap().keep = vec!["/app/views/**".into()],
        |build| build.spec.health_check.as_mut().unwrap().timeout_seconds = 90,
        |build| build.spec.rebuild = Some("now".into()),
        |build| build.spec.output.image = "registry.example.com/team/other".into(),
        |build| {
            build.metadata.annotations = Some([(REQUESTED_AT.to_owned(), "now".to_owned())].into());
        },
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let mut changed = build.clone();
        change(&mut changed);
        assert_eq!(request_of(&again(&changed)).rejected, None, "{number}");
    }
    // Another source may come to the same full image.
    let mut changed = build.clone();
    changed.spec.dockerfile = "other".into();
    assert_eq!(request_of(&again(&changed)).rejected, Some(before));
}

#[test]
fn an_image_that_no_node_could_pull_is_tried_again() {
    let mut build = pushed(asked(json!({})), full());
    let away = gate::State::Failed {
        how: gate::How::NotTried,
        message: "ImagePullBackOff".into(),
        log: None,
    };
    let step = next(&with_checks(&build, [away, gate::State::NoNode]), later(70));
    build.status = Some(step.status);
    let (mut build, _) = answered(build);
    let told = with_attempt(build.clone(), State::Ended(tagged()));
    build.status = Some(next(&told, later(90)).status);
    assert_eq!(minimized(&build).outcome, MinimizeOutcome::FullUsed);
    assert_eq!(request_of(&again(&build)).rejected, None);
}

#[test]
fn what_is_known_of_a_rejected_image_outlives_builds_that_do_not_try_it() {
    let (mut build, _) = full_used();
    let known = minimized(&build);
    build.status = Some(again(&build).status);
    let Report::Succeeded(mut built) = tagged() else {
        panic!()
    };
    built.minimized = Some(Box::new(Minimized {
        outcome: MinimizeOutcome::FullUsed,
        message: "not tried again".into(),
        rejected: known.rejected.clone().map(|rejected| Rejected {
            input: String::new(),
            ..rejected
        }),
        ..Minimized::default()
    }));
    let told = State::Ended(Report::Succeeded(built));
    build.status = Some(next(&with_attempt(build.clone(), told), later(110)).status);
    // The full image is held to the health check, as any.
    let (mut build, tagging) = answered(build);
    assert!(
        matches!(tagging, Tagging::Only { image, full, .. } if image == FULL[0] && full.is_empty())
    );
    let told = State::Ended(Report::Succeeded(Built::default()));
    let step = next(&with_attempt(build.clone(), told), later(130));
    assert_eq!(
        condition(&step.status, MINIMIZED),
        Some(("False", "DoesNotStart"))
    );
    assert!(step.status.history[0].unchanged);
    build.status = Some(step.status);
    let entered = minimized(&build);
    assert_eq!(entered.message, "not tried again");
    let message = known.message.clone();
    assert_eq!(MinimizedStatus { message, ..entered }, known);
    assert!(request_of(&again(&build)).rejected.is_some());
}

#[test]
fn where_the_report_had_no_room_for_the_platforms_a_node_takes_its_own_out_of_the_index() {
    let cut = Full {
        platforms: vec![],
        ..full()
    };
    let (build, _) = rejected(pushed(asked(json!({})), cut));
    let absent = with_checks(&build, [gate::State::Absent, gate::State::NoNode]);
    let image = "registry.example.com/team/hello@sha256:f0";
    assert_eq!(jobs(&next(&absent, later(10)))[0].1, image);
    let (mut build, tagging) = answered(build);
    let Tagging::Only { full, .. } = tagging else {
        panic!()
    };
    assert!(full.len() == 2 && full.iter().all(|it| it.report.is_none()));
    // What the runner said was lost: nothing is said that may be wrong.
    let told = State::Ended(Report::Succeeded(Built::default()));
    build.status = Some(next(&with_attempt(build.clone(), told), later(25)).status);
    let platforms = build.status.unwrap().platforms;
    assert!(platforms.len() == 2 && platforms.iter().all(|it| it.contents.is_none()));
}

#[test]
fn an_image_that_stays_as_it_was_says_why_and_is_ready_all_the_same() {
    use MinimizeOutcome::{NotPossible, Suggested, TooLittle};
    for outcome in [NotPossible, Suggested, TooLittle] {
        let mut build = asked(json!({}));
        build.spec.health_check = None;
        build.status = Some(next(&observed(build.clone()), now()).status);
        let Report::Succeeded(mut built) = success() else {
            panic!()
        };
        built.minimized = Some(Box::new(Minimized {
            outcome,
            message: "so it is".into(),
            size: Some(1000),
            ..Minimized::default()
        }));
        let told = State::Ended(Report::Succeeded(built));
        build.status = Some(next(&with_attempt(build.clone(), told), later(9)).status);
        let status = build.status.as_ref().unwrap();
        assert_eq!(condition(status, READY), Some(("True", "Succeeded")));
        let name = serde_json::to_value(outcome).unwrap();
        assert_eq!(
            condition(status, MINIMIZED),
            Some(("False", name.as_str().unwrap()))
        );
        assert_eq!(said(status, MINIMIZED), "so it is");
        let entered = minimized(&build);
        assert_eq!(entered.full_digest, SMALL[0]);
        assert_eq!((entered.size, entered.full_size), (Some(1000), status.size));

        // It goes with the field.
        build.spec.minimize = None;
        build.metadata.generation = Some(2);
        build.status = Some(next(&observed(build.clone()), later(60)).status);
        let step = next(
            &with_attempt(build.clone(), State::Ended(success())),
            later(70),
        );
        assert!(step.status.minimized.is_none());
        assert_eq!(condition(&step.status, MINIMIZED), None);
        let broken = failed(FailureReason::StepFailed, "m".into());
        let step = next(&with_attempt(build, State::Ended(broken)), later(70));
        assert_eq!(condition(&step.status, MINIMIZED), None);
    }
}

#[test]
fn an_unchanged_build_comes_to_the_same_smaller_image_and_moves_no_tag() {
    let (mut build, _) = answered(pushed(asked(json!({})), full()));
    let told = with_attempt(build.clone(), State::Ended(success()));
    build.status = Some(next(&told, later(25)).status);
    let step = again(&build);
    let request = request_of(&step);
    assert_eq!(request.standing, [SMALL[0]]);
    assert_eq!(request.rejected, None);
    build.status = Some(step.status);
    let told = State::Ended(smaller(full()));
    build.status = Some(next(&with_attempt(build.clone(), told), later(105)).status);
    let (build, _) = answered(build);
    let told = with_attempt(build, State::Ended(success()));
    assert!(next(&told, later(130)).status.history[0].unchanged);
}
