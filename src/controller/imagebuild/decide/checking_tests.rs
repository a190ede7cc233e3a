use super::*;

pub(super) fn request_of(step: &Step) -> whittle_build::request::BuildRequest {
    let Action::Start(attempt) = &step.action else {
        panic!("{:?}", step.action)
    };
    let data = attempt.config_map.data.as_ref().unwrap();
    serde_json::from_str(data.values().next().unwrap()).unwrap()
}

#[test]
fn with_a_health_check_the_tags_move_only_after_it() {
    use whittle_build::request::Tagging;
    let mut first = fixtures::inline();
    assert_eq!(
        request_of(&next(&observed(first.clone()), now())).tagging,
        Tagging::Now
    );
    first.spec.health_check =
        serde_json::from_value(serde_json::json!({"tcpSocket": {"port": 80}})).ok();
    assert_eq!(
        request_of(&next(&observed(first), now())).tagging,
        Tagging::Later
    );

    let (mut build, step) = to_be_checked();
    assert_eq!(step.action, Action::None);
    assert!(step.status.digest.is_none());
    assert_eq!(
        condition(&step.status, READY),
        Some(("Unknown", "HealthCheck"))
    );

    let absent = with_checks(&build, [gate::State::Absent, gate::State::NoNode]);
    let step = next(&absent, later(6));
    let Action::Check(jobs) = &step.action else {
        panic!("{:?}", step.action)
    };
    assert_eq!(jobs.len(), 1);
    let check = jobs[0].name_any();
    assert!(step.stop.is_empty());
    build.status = Some(step.status);

    let passed = with_checks(
        &build,
        [gate::State::Passed { seconds: 1 }, gate::State::NoNode],
    );
    // The builder may sleep by now.
    let step = next(
        &Observed {
            builder: Some(fixtures::builder()),
            ..passed
        },
        later(8),
    );
    let request = request_of(&step);
    assert_eq!(
        request.tagging,
        Tagging::Only {
            image: "sha256:aa".into(),
            debug: None,
            tags: vec![],
            full: vec![],
        }
    );
    assert_eq!(
        condition(&step.status, "Probed"),
        Some(("True", "Answered"))
    );
    assert!(step.stop.contains(&check), "{:?}", step.stop);
    build.status = Some(step.status);

    let tagged = Report::Succeeded(Built {
        digest: "sha256:aa".into(),
        ..Built::default()
    });
    let step = next(&with_attempt(build, State::Ended(tagged)), later(9));
    assert_eq!(condition(&step.status, READY), Some(("True", "Succeeded")));
    assert_eq!(step.status.platforms.len(), 2);
    assert_eq!(step.status.revision.as_deref(), Some("main@sha1:0123"));
    assert!(step.status.current.is_none());
}

#[test]
fn an_image_that_does_not_answer_gets_no_tag_and_is_not_tried_again() {
    let (build, _) = to_be_checked();
    let failed = gate::State::Failed {
        how: gate::How::Ended,
        message: "timed out: not Ready within 30 s".into(),
        log: Some("boom".into()),
    };
    let step = next(
        &with_checks(&build, [failed, gate::State::NoNode]),
        later(40),
    );
    assert_eq!(
        condition(&step.status, READY),
        Some(("False", "HealthCheckFailed"))
    );
    assert_eq!(
        condition(&step.status, "Probed"),
        Some(("False", "HealthCheckFailed"))
    );
    assert_eq!(step.stop.len(), 2);
    let failure = step.status.failure.unwrap();
    assert_eq!(failure.log.as_deref(), Some("boom"));
    assert_eq!(
        failure.image.as_deref(),
        Some("registry.example.com/team/hello@sha256:aa")
    );
    assert_eq!(step.status.history[0].digest.as_deref(), Some("sha256:aa"));
    assert!(step.status.digest.is_none());
}

#[test]
fn a_check_that_was_lost_begins_again_with_another_attempt() {
    let (build, _) = to_be_checked();
    let lost = gate::State::Lost("evicted".into());
    let step = next(&with_checks(&build, [lost, gate::State::NoNode]), later(10));
    let current = step.status.current.unwrap();
    assert_eq!((current.attempt, current.stage), (2, Stage::Building));
}

#[test]
fn tags_that_could_not_be_moved_are_tried_again_without_a_build() {
    let (mut build, _) = to_be_checked();
    let step = next(
        &with_checks(&build, [gate::State::NoNode, gate::State::NoNode]),
        later(6),
    );
    assert_eq!(
        condition(&step.status, "Probed"),
        Some(("Unknown", "NoNode"))
    );
    build.status = Some(step.status);
    let away = failed(FailureReason::PushFailed, "503".into());
    let step = next(&with_attempt(build.clone(), State::Ended(away)), later(7));
    build.status = Some(step.status);
    let step = next(&observed(build), later(60));
    assert!(matches!(
        request_of(&step).tagging,
        whittle_build::request::Tagging::Only { .. }
    ));
}

#[test]
fn a_check_ends_with_the_builds_own_time() {
    let (build, _) = to_be_checked();
    let waits = gate::State::Waiting {
        message: "no node".into(),
        left: None,
    };
    let step = next(
        &with_checks(&build, [waits, gate::State::NoNode]),
        later(1801),
    );
    assert_eq!(condition(&step.status, READY), Some(("False", "Timeout")));
}

#[test]
fn tags_that_variables_made_are_those_that_move_after_the_check_and_stand_in_the_status() {
    let (mut build, _) = to_be_checked();
    let made = ["main-837dd14-1", "latest"].map(str::to_owned);
    build.spec.output.tags = vec![
        "main-$(SHORT_COMMIT)-$(BUILD_NUMBER)".into(),
        "latest".into(),
    ];
    build.status.as_mut().unwrap().input = Some(input(&build));
    if let (Some(current), Report::Succeeded(mut built)) =
        (&mut build.status.as_mut().unwrap().current, success())
    {
        built.tags = made.to_vec();
        current.stage = Stage::Checking {
            pushed: whittle_build::report::keep(&Report::Succeeded(built)),
        };
    }
    let step = next(
        &with_checks(&build, [gate::State::NoNode, gate::State::NoNode]),
        later(6),
    );
    let request = request_of(&step);
    assert_eq!(request.build, 1);
    assert!(matches!(
        request.tagging,
        whittle_build::request::Tagging::Only { tags, .. } if tags == made
    ));
    build.status = Some(step.status);
    let tagged = Report::Succeeded(Built::default());
    let step = next(&with_attempt(build, State::Ended(tagged)), later(9));
    assert_eq!(step.status.tags, Some(made.to_vec()));
}
