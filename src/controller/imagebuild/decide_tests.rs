use super::*;
use crate::fixtures;
use crate::imagebuild::gate;
use crate::imagebuild::outcome::missing_object;
use whittle_api::{BUILT, BuilderStatus, Phases, PlatformStatus, RECONCILING, STALLED, Steps, set};
use whittle_build::report::Built;

#[path = "decide_due_tests.rs"]
mod due;
#[path = "decide_early_tests.rs"]
mod early;
#[path = "decide_ended_tests.rs"]
mod ended;
#[path = "decide_flux_tests.rs"]
mod flux;
#[path = "decide_own_tests.rs"]
mod own;

pub(super) fn now() -> Timestamp {
    Timestamp::from_second(1_000_000).unwrap()
}

pub(super) fn later(seconds: i64) -> Timestamp {
    now() + SignedDuration::from_secs(seconds)
}

/// Says whether a Builder of the first generation is ready, and why.
fn put_ready(status: &mut BuilderStatus, ready: bool, why: (Reason, &str)) {
    let conditions = &mut status.conditions;
    set(conditions, READY, Some(ready), why, Some(1), now());
}

fn ready_builder() -> Builder {
    let mut builder = fixtures::builder();
    let mut status = BuilderStatus {
        observed_generation: Some(1),
        certificates: Some(fixtures::certificates()),
        ..BuilderStatus::default()
    };
    put_ready(&mut status, true, (Reason::Ready, "m"));
    builder.status = Some(status);
    builder
}

pub(super) fn observed(build: ImageBuild) -> Observed {
    Observed {
        build,
        builder: Some(ready_builder()),
        own: None,
        platforms: vec![],
        attempt: State::Absent,
        record: Record::default(),
        fetched: None,
        others_alive: false,
        stuck: None,
        webhook: None,
        flux: None,
        queue: Queue::default(),
        builder_out_of_memory: None,
        checks: vec![],
        trials: vec![],
        stray_checks: vec![],
        standbys: vec![],
        handed: None,
    }
}

pub(super) fn next(observed: &Observed, at: Timestamp) -> Step {
    decide(observed, &fixtures::settings(), at)
}

/// An ImageBuild whose first attempt has been started.
fn running() -> ImageBuild {
    let mut build = fixtures::inline();
    build.status = Some(next(&observed(build.clone()), now()).status);
    build
}

fn with_attempt(build: ImageBuild, attempt: State) -> Observed {
    Observed {
        attempt,
        ..observed(build)
    }
}

fn success() -> Report {
    Report::Succeeded(Built {
        digest: "sha256:aa".into(),
        platforms: vec![
            PlatformStatus {
                platform: "linux/amd64".into(),
                digest: "sha256:bb".into(),
                size: 4_812_345,
                solve: None,
                layers: vec![],
                contents: None,
            },
            PlatformStatus {
                platform: "linux/arm64".into(),
                digest: "sha256:cc".into(),
                size: 4_500_000,
                solve: None,
                layers: vec![],
                contents: None,
            },
        ],
        revision: Some("main@sha1:0123".into()),
        steps: Steps {
            total: 9,
            cached: 4,
        },
        phases: Some(Phases {
            source: Some(350),
            solve: Some(8_000),
            push: Some(1_400),
            ..Phases::default()
        }),
        ..Built::default()
    })
}

fn condition<'a>(status: &'a ImageBuildStatus, kind: &str) -> Option<(&'a str, &'a str)> {
    find(&status.conditions, kind).map(|c| (c.status.as_str(), c.reason.as_str()))
}

fn done() -> ImageBuild {
    let mut build = running();
    let step = next(
        &with_attempt(build.clone(), State::Ended(success())),
        later(12),
    );
    build.status = Some(step.status);
    build
}

#[test]
fn a_new_build_with_a_ready_builder_starts_at_once() {
    let step = next(&observed(fixtures::inline()), now());
    let Action::Start(attempt) = &step.action else {
        panic!("{:?}", step.action)
    };
    let current = step.status.current.as_ref().unwrap();
    assert_eq!(attempt.job.metadata.name.as_ref(), Some(&current.job));
    assert_eq!(
        condition(&step.status, RECONCILING),
        Some(("True", "Building"))
    );
    assert_eq!(step.status.observed_generation, Some(1));
}

#[test]
fn a_controller_that_comes_back_before_the_job_was_made_makes_the_same_one() {
    let build = running();
    let first = build.status.clone().unwrap().current.unwrap().job;
    let Action::Start(attempt) = next(&observed(build), later(3)).action else {
        panic!()
    };
    assert_eq!(attempt.job.metadata.name, Some(first));
}

#[test]
fn without_the_default_builder_it_is_made_from_the_settings() {
    let step = next(
        &Observed {
            builder: None,
            ..observed(fixtures::inline())
        },
        now(),
    );
    let Action::CreateBuilder(builder) = step.action else {
        panic!()
    };
    assert_eq!(builder.metadata.namespace.as_deref(), Some("team"));
    assert_eq!(
        condition(&step.status, RECONCILING),
        Some(("True", "WaitingForBuilder"))
    );
}

#[test]
fn a_named_builder_that_does_not_exist_is_said_and_waited_for() {
    let mut build = fixtures::inline();
    build.spec.builder_ref.name = "big".into();
    let step = next(
        &Observed {
            builder: None,
            ..observed(build)
        },
        now(),
    );
    assert_eq!(step.action, Action::None);
    assert_eq!(
        condition(&step.status, READY),
        Some(("False", "BuilderNotFound"))
    );
}

#[test]
fn a_builder_that_is_not_ready_is_waited_for_and_then_used() {
    let step = next(
        &Observed {
            builder: Some(fixtures::builder()),
            ..observed(fixtures::inline())
        },
        now(),
    );
    assert_eq!(step.action, Action::None);
    let mut build = fixtures::inline();
    build.status = Some(step.status);
    assert!(matches!(
        next(&observed(build), later(5)).action,
        Action::Start(_)
    ));
}

#[test]
fn waiting_for_a_builder_ends_at_the_deadline() {
    let mut build = fixtures::inline();
    let waiting = Observed {
        builder: Some(fixtures::builder()),
        ..observed(build.clone())
    };
    build.status = Some(next(&waiting, now()).status);
    let step = next(&Observed { build, ..waiting }, later(1801));
    assert_eq!(condition(&step.status, READY), Some(("False", "Timeout")));
    assert!(
        step.status
            .failure
            .unwrap()
            .message
            .contains("Builder default is not ready")
    );
}

#[test]
fn a_success_stands_in_the_status_with_all_that_it_says() {
    let step = next(&with_attempt(running(), State::Ended(success())), later(12));
    insta::assert_yaml_snapshot!("status-succeeded", step.status);
    assert_eq!(step.action, Action::Prune(-3));
    assert!(!step.notice.unwrap().warning);
}

#[test]
fn what_no_runner_counts_of_an_attempts_time_is_its_start_and_a_new_build_begins_without() {
    let before = with_attempt(running(), State::Ended(success()));
    let status = next(&before, later(12)).status;
    let phases = status.phase_milliseconds.unwrap();
    assert_eq!((phases.start, phases.solve), (Some(2_250), Some(8_000)));
    // A clock that was set back, or a runner that lies, makes it no less than nothing.
    let status = next(&before, later(3)).status;
    assert_eq!(status.phase_milliseconds.unwrap().start, Some(0));

    let mut build = before.build;
    build.status = Some(status);
    build.spec.dockerfile = "other".into();
    build.metadata.generation = Some(2);
    let status = next(&observed(build), later(60)).status;
    assert_eq!(status.phase_milliseconds, None);
}

#[test]
fn a_spec_that_names_a_secret_of_ours_starts_nothing() {
    let mut build = fixtures::git_with_secrets();
    build.spec.secrets[0].secret_ref.name = names::builder_client_tls("default");
    let step = next(&observed(build), now());
    assert!(matches!(step.action, Action::Prune(_)), "{:?}", step.action);
    assert_eq!(
        condition(&step.status, READY),
        Some(("False", "BuildRejected"))
    );
}

#[test]
fn a_finished_build_is_settled_until_its_input_changes() {
    let mut build = done();
    assert!(is_settled(&build));
    build.spec.dockerfile = "other".into();
    build.metadata.generation = Some(2);
    assert!(!is_settled(&build));
    assert!(matches!(
        next(&observed(build), later(60)).action,
        Action::Start(_)
    ));
}

#[test]
fn what_cannot_change_the_image_builds_nothing() {
    let mut build = done();
    build.spec.suspend = true;
    build.spec.retries = 7;
    build.spec.timeout = "1h".into();
    build.spec.history_limit = 1;
    build.metadata.generation = Some(2);
    let step = next(&observed(build), later(60));
    assert_eq!(step.action, Action::None);
    assert_eq!(condition(&step.status, READY), Some(("True", "Succeeded")));
    assert_eq!(step.status.observed_generation, Some(2));
}

#[test]
fn a_request_builds_again_under_another_name() {
    let mut build = done();
    let before = names::attempt("hello", &build.uid().unwrap(), 1, 1, 1);
    build.metadata.annotations = Some([(REQUESTED_AT.to_owned(), "1".to_owned())].into());
    let Action::Start(attempt) = next(&observed(build), later(60)).action else {
        panic!()
    };
    assert_ne!(attempt.job.metadata.name, Some(before));
}

#[test]
fn going_back_to_an_earlier_spec_is_a_new_build() {
    let first = done();
    let mut build = first.clone();
    build.spec.dockerfile = "other".into();
    build.metadata.generation = Some(2);
    build.status = Some(next(&observed(build.clone()), later(60)).status);
    build.status = Some(
        next(
            &with_attempt(build.clone(), State::Ended(success())),
            later(70),
        )
        .status,
    );
    build.spec = first.spec;
    build.metadata.generation = Some(3);
    let step = next(&observed(build), later(80));
    assert_eq!(step.status.build, Some(3));
    assert!(matches!(step.action, Action::Start(_)));
}

#[test]
fn suspend_holds_a_build_and_lets_it_go() {
    let mut build = fixtures::inline();
    build.spec.suspend = true;
    let step = next(&observed(build.clone()), now());
    assert_eq!(step.action, Action::None);
    assert_eq!(condition(&step.status, READY), Some(("False", "Suspended")));
    build.status = Some(step.status);
    build.spec.suspend = false;
    build.metadata.generation = Some(2);
    assert!(matches!(
        next(&observed(build), later(9)).action,
        Action::Start(_)
    ));
}

#[test]
fn suspending_and_going_back_is_ready_again_without_a_build() {
    let mut build = done();
    let dockerfile = std::mem::replace(&mut build.spec.dockerfile, "other".into());
    build.spec.suspend = true;
    build.metadata.generation = Some(2);
    build.status = Some(next(&observed(build.clone()), later(60)).status);
    assert_eq!(
        condition(build.status.as_ref().unwrap(), READY),
        Some(("False", "Suspended"))
    );
    build.spec.dockerfile = dockerfile;
    build.metadata.generation = Some(3);
    let step = next(&observed(build), later(70));
    assert_eq!(step.action, Action::None);
    assert_eq!(condition(&step.status, READY), Some(("True", "Succeeded")));
}

#[test]
fn a_spec_that_changes_during_its_build_stops_the_old_and_waits_for_its_pod() {
    let mut build = running();
    let old = build.status.clone().unwrap().current.unwrap().job;
    build.spec.dockerfile = "other".into();
    build.metadata.generation = Some(2);
    let step = next(&with_attempt(build.clone(), State::Running), later(5));
    assert_eq!((step.stop, step.action), (vec![old.clone()], Action::None));
    assert_eq!(step.status.history[0].result, "Superseded");
    build.status = Some(step.status);
    let waiting = next(
        &Observed {
            others_alive: true,
            ..observed(build.clone())
        },
        later(6),
    );
    assert_eq!(waiting.action, Action::None);
    let Action::Start(attempt) = next(&observed(build), later(8)).action else {
        panic!()
    };
    assert_ne!(attempt.job.metadata.name, Some(old));
}

#[test]
fn a_spec_that_changes_during_its_build_while_suspended_stops_it_and_is_held() {
    let mut build = running();
    let old = build.clone();
    build.spec.dockerfile = "other".into();
    build.spec.suspend = true;
    build.metadata.generation = Some(2);
    let step = next(&with_attempt(build.clone(), State::Running), later(5));
    assert_eq!(step.stop, [old.status.unwrap().current.unwrap().job]);
    assert_eq!(step.action, Action::None);
    assert_eq!(condition(&step.status, READY), Some(("False", "Suspended")));
    build.status = Some(step.status);
    // The spec that was stopped is due again.
    build.spec = old.spec;
    build.metadata.generation = Some(3);
    let step = next(&observed(build), later(9));
    assert!(matches!(step.action, Action::Start(_)));
    assert_eq!(step.status.build, Some(2));
}

#[test]
fn the_jobs_of_a_check_stop_with_it_even_where_the_next_spec_has_none() {
    let (mut build, _) = to_be_checked();
    build.spec.health_check = None;
    build.metadata.generation = Some(2);
    let runner = build.status.clone().unwrap().current.unwrap().job;
    let step = next(&observed(build), later(6));
    let children = ["linux/amd64", "linux/arm64"].map(|it| names::child(&runner, it));
    assert_eq!(step.stop[0], runner);
    assert_eq!(step.stop[1..], children);
}

#[test]
fn a_failing_step_is_final_and_keeps_the_last_good_digest() {
    let mut build = done();
    build.spec.dockerfile = "other".into();
    build.metadata.generation = Some(2);
    build.status = Some(next(&observed(build.clone()), later(60)).status);
    let mut report = failed(
        FailureReason::StepFailed,
        "RUN go build ended with exit code 1".into(),
    );
    if let Report::Failed(failed) = &mut report {
        failed.failure.dockerfile_line = Some(12);
    }
    let step = next(&with_attempt(build, State::Ended(report)), later(70));
    assert_eq!(step.status.digest.as_deref(), Some("sha256:aa"));
    assert_eq!(
        condition(&step.status, STALLED),
        Some(("True", "StepFailed"))
    );
    assert_eq!(
        condition(&step.status, BUILT),
        Some(("False", "StepFailed"))
    );
    assert_eq!(condition(&step.status, RECONCILING), None);
    assert!(
        find(&step.status.conditions, READY)
            .unwrap()
            .message
            .starts_with("other:12: RUN go build")
    );
    assert!(step.notice.unwrap().warning);
}

#[test]
fn a_lost_runner_is_tried_again_under_another_name_but_only_as_often_as_retries_allow() {
    let lost = || State::Ended(failed(FailureReason::RunnerLost, "evicted".into()));
    let mut build = running();
    let mut at = 10;
    let mut jobs = vec![build.status.clone().unwrap().current.unwrap().job];
    for _ in 0..2 {
        let step = next(&with_attempt(build.clone(), lost()), later(at));
        let current = step.status.current.clone().unwrap();
        assert!(!jobs.contains(&current.job));
        assert_eq!(
            condition(&step.status, RECONCILING),
            Some(("True", "Retrying"))
        );
        jobs.push(current.job);
        build.status = Some(step.status);
        let early = next(&observed(build.clone()), later(at + 1));
        assert_eq!(early.action, Action::None);
        assert!(early.look_again.unwrap().is_positive());
        at += 400;
        let alive = next(
            &Observed {
                others_alive: true,
                ..observed(build.clone())
            },
            later(at),
        );
        assert_eq!(alive.action, Action::None);
        assert!(matches!(
            next(&observed(build.clone()), later(at)).action,
            Action::Start(_)
        ));
    }
    let step = next(&with_attempt(build, lost()), later(at));
    assert_eq!(
        condition(&step.status, READY),
        Some(("False", "RunnerLost"))
    );
    assert!(step.status.current.is_none());
}

#[test]
fn a_builder_that_was_killed_for_memory_is_not_tried_again() {
    let lost = State::Ended(failed(FailureReason::BuilderLost, "EOF".into()));
    let step = next(
        &Observed {
            builder_out_of_memory: Some(OutOfMemory {
                limit: "2Gi".into(),
                native: None,
            }),
            ..with_attempt(running(), lost)
        },
        later(9),
    );
    assert_eq!(
        condition(&step.status, READY),
        Some(("False", "OutOfMemory"))
    );
    assert!(step.status.failure.unwrap().message.contains("2Gi"));
    // The daemon of a platform has another name, and another field.
    let lost = State::Ended(failed(FailureReason::BuilderLost, "EOF".into()));
    let field = "spec.platforms[linux/arm64].resources.limits.memory of Builder default";
    let killed = OutOfMemory {
        limit: "1Gi".into(),
        native: Some(("default-linux-arm64".into(), field.into())),
    };
    let step = next(
        &Observed {
            builder_out_of_memory: Some(killed),
            ..with_attempt(running(), lost)
        },
        later(9),
    );
    let message = step.status.failure.unwrap().message;
    let said = format!(
        "Builder default-linux-arm64 exceeded its memory limit 1Gi (OOMKilled): raise {field}, or"
    );
    assert!(message.contains(&said), "{message}");
}

#[test]
fn a_missing_secret_is_said_at_once_and_the_build_goes_on_when_it_is_there() {
    let message = "Secret npm not found".to_owned();
    let pending = Pending::new(FailureReason::SecretNotFound, message).blocked();
    let mut build = running();
    let step = next(
        &with_attempt(build.clone(), State::Pending(pending)),
        later(2),
    );
    assert_eq!(
        condition(&step.status, READY),
        Some(("False", "SecretNotFound"))
    );
    assert_eq!(
        condition(&step.status, RECONCILING),
        Some(("True", "SecretNotFound"))
    );
    assert!(step.look_again.is_some());
    build.status = Some(step.status);
    let step = next(&with_attempt(build, State::Running), later(40));
    assert_eq!(
        condition(&step.status, READY),
        Some(("Unknown", "Building"))
    );
}

#[test]
fn the_deleted_request_of_an_attempt_is_made_again() {
    let build = running();
    let job = build
        .status
        .as_ref()
        .unwrap()
        .current
        .as_ref()
        .unwrap()
        .job
        .clone();
    let words = |kind: &str, name: &str| {
        format!(r#"MountVolume.SetUp failed for volume "request" : {kind} "{name}" not found"#)
    };
    let credential = names::credential(&build.uid().unwrap(), &job);
    for (words, again) in [
        (words("configmap", &job), true),
        (words("secret", &credential), true),
        (words("secret", "npm"), false),
    ] {
        let pending = missing_object(&words).unwrap();
        let step = next(
            &with_attempt(build.clone(), State::Pending(pending)),
            later(2),
        );
        assert_eq!(matches!(step.action, Action::Start(_)), again, "{words}");
        assert!(step.look_again.is_some());
    }
}

#[test]
fn history_keeps_the_newest_builds_only() {
    let mut build = done();
    build.spec.history_limit = 2;
    for round in 2..6 {
        build.metadata.annotations = Some([(REQUESTED_AT.to_owned(), round.to_string())].into());
        build.status = Some(next(&observed(build.clone()), later(round * 100)).status);
        build.status = Some(
            next(
                &with_attempt(build.clone(), State::Ended(success())),
                later(round * 100 + 9),
            )
            .status,
        );
    }
    let history: Vec<i64> = build
        .status
        .unwrap()
        .history
        .into_iter()
        .map(|entry| entry.build)
        .collect();
    assert_eq!(history, [5, 4]);
}

#[test]
fn a_deleted_image_build_is_left_to_the_garbage_collector() {
    let mut build = running();
    build.metadata.deletion_timestamp = Some(Time(now()));
    assert!(is_settled(&build));
    assert_eq!(next(&observed(build), later(1)).action, Action::None);
}

#[test]
fn attempts_wait_ever_longer_but_at_most_five_minutes() {
    let waits: Vec<i64> = (1..8).map(|attempt| backoff(attempt).as_secs()).collect();
    assert_eq!(waits, [10, 20, 40, 80, 160, 300, 300]);
}

#[test]
fn a_build_waits_while_as_many_run_as_the_builder_takes() {
    let mut waiting = observed(fixtures::inline());
    waiting.queue = Queue {
        running: 1,
        before: 1,
        waiting: 3,
        ..Queue::default()
    };
    // Several became due: first it says so.
    let step = next(&waiting, now());
    assert_eq!(step.action, Action::None);
    assert!(step.status.current.is_some());
    waiting.build.status = Some(step.status);
    let step = next(&waiting, later(1));
    assert_eq!(step.action, Action::None);
    let ready = find(&step.status.conditions, READY).unwrap();
    assert_eq!(ready.reason, Reason::Queued.as_str());
    assert!(
        ready
            .message
            .contains("1 running, 1 queued before this one"),
        "{}",
        ready.message
    );
    waiting.queue.running = 0;
    assert!(matches!(next(&waiting, later(2)).action, Action::Start(_)));
}

#[test]
fn the_order_is_that_in_which_builds_became_due() {
    let at = |uid: &str, seconds: i64| {
        let mut build = fixtures::inline();
        build.metadata.uid = Some(uid.into());
        let step = next(&observed(build.clone()), later(seconds));
        build.status = Some(step.status);
        build
    };
    let (first, second, third) = (at("c", 0), at("a", 1), at("b", 1));
    let mut elsewhere = at("d", 0);
    elsewhere.spec.builder_ref.name = "other".into();
    let mut suspended = at("e", 0);
    suspended.spec.suspend = true;
    let all = [
        first.clone(),
        second.clone(),
        third.clone(),
        elsewhere,
        suspended,
    ];
    let queue = |build: &ImageBuild, running: &[&str]| {
        let active: std::collections::BTreeSet<String> =
            running.iter().map(|uid| (*uid).to_owned()).collect();
        let started = active.clone();
        Queue {
            // How long these take: forecast_tests.rs.
            ahead: Ahead::default(),
            ..Queue::of(build, &all, &Runners { active, started }, false)
        }
    };
    let waits = |before| Queue {
        running: 0,
        before,
        waiting: 2,
        ..Queue::default()
    };
    assert_eq!(queue(&first, &[]), waits(0));
    assert_eq!(queue(&second, &[]), waits(1));
    assert_eq!(queue(&third, &[]), waits(2));
    assert_eq!(
        queue(&third, &["c"]),
        Queue {
            running: 1,
            on: [(0, 1)].into(),
            before: 1,
            waiting: 1,
            ..Queue::default()
        }
    );
}

/// An ImageBuild with a healthCheck whose image has been pushed.
fn to_be_checked() -> (ImageBuild, Step) {
    let mut build = fixtures::inline();
    build.spec.health_check =
        serde_json::from_value(serde_json::json!({"tcpSocket": {"port": 80}})).ok();
    build.status = Some(next(&observed(build.clone()), now()).status);
    let pushed = with_attempt(build.clone(), State::Ended(success()));
    let step = next(&pushed, later(5));
    build.status = Some(step.status.clone());
    (build, step)
}

fn with_checks(build: &ImageBuild, states: [gate::State; 2]) -> Observed {
    let names = ["linux/amd64", "linux/arm64"];
    Observed {
        checks: names
            .into_iter()
            .zip(states)
            .map(|(platform, state)| Check {
                platform: platform.into(),
                state,
            })
            .collect(),
        ..observed(build.clone())
    }
}

#[path = "decide/checking_tests.rs"]
mod checking;

#[path = "decide/inputs_tests.rs"]
mod inputs;

#[path = "decide/minimized_tests.rs"]
mod minimized;

#[path = "decide/refused_tests.rs"]
mod refused;

#[path = "decide/time_tests.rs"]
mod time;

#[path = "decide/trying_tests.rs"]
mod trying;
