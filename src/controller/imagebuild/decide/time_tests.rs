//! When things start, and whose time counts.

use super::*;

fn requested(mut build: ImageBuild, text: &str) -> ImageBuild {
    build.metadata.annotations = Some([(REQUESTED_AT.to_owned(), text.to_owned())].into());
    build
}

/// A build that has waited for its turn since `now()`.
fn queued() -> Observed {
    let mut waiting = observed(fixtures::inline());
    waiting.queue.running = 1;
    waiting.queue.before = 1;
    let step = next(&waiting, now());
    assert_eq!(
        condition(&step.status, READY).unwrap().1,
        Reason::Queued.as_str()
    );
    waiting.build.status = Some(step.status);
    waiting
}

#[test]
fn another_text_in_rebuild_builds_again_and_none_is_as_before_there_was_one() {
    let mut build = done();
    let before = input(&build);
    build.spec.rebuild = Some("2026-11-26".into());
    build.metadata.generation = Some(2);
    assert_ne!(input(&build), before);
    let step = next(&observed(build.clone()), later(60));
    assert!(matches!(step.action, Action::Start(_)));
    // Ready speaks of the new one from the first word on.
    let ready = find(&step.status.conditions, READY).unwrap();
    assert_eq!(
        (ready.status.as_str(), ready.observed_generation),
        ("Unknown", Some(2))
    );
    build.status = Some(step.status);
    let ended = next(
        &with_attempt(build.clone(), State::Ended(success())),
        later(70),
    );
    build.status = Some(ended.status);
    assert_eq!(next(&observed(build), later(80)).action, Action::None);
}

#[test]
fn a_request_stands_in_the_status_once_ready_speaks_of_its_build() {
    let build = requested(done(), "a");
    assert_eq!(build.status.as_ref().unwrap().last_handled_request, None);
    let mut step = next(&observed(build.clone()), later(60));
    assert_eq!(step.status.last_handled_request.as_deref(), Some("a"));
    assert_eq!(condition(&step.status, READY).unwrap().0, "Unknown");
    // One more while that one runs: it is not handled before its own build begins.
    let mut again = requested(build, "b");
    again.status = Some(step.status);
    step = next(&with_attempt(again.clone(), State::Running), later(65));
    assert_eq!(step.status.last_handled_request.as_deref(), Some("b"));
    assert_eq!(step.status.build, Some(3));
    assert_eq!(condition(&step.status, READY).unwrap().0, "Unknown");
    let long = requested(done(), &"ü".repeat(100_000));
    let step = next(&observed(long), later(60));
    assert_eq!(
        step.status.last_handled_request.unwrap().chars().count(),
        256
    );
}

#[test]
fn a_suspended_request_is_not_handled_yet() {
    let mut build = requested(done(), "a");
    build.spec.suspend = true;
    let step = next(&observed(build), later(60));
    assert_eq!(step.status.last_handled_request, None);
}

#[test]
fn a_job_that_is_deleted_does_not_start_again_while_suspended() {
    let mut build = running();
    build.spec.suspend = true;
    build.metadata.generation = Some(2);
    // It runs: it goes on.
    let step = next(&with_attempt(build.clone(), State::Running), later(5));
    assert_eq!(condition(&step.status, READY).unwrap().1, "Building");
    build.status = Some(step.status);
    let job = build.status.as_ref().unwrap().current.clone().unwrap().job;
    let held = next(&observed(build.clone()), later(10));
    assert_eq!(held.action, Action::None);
    assert_eq!(condition(&held.status, READY), Some(("False", "Suspended")));
    // However long it is held.
    build.status = Some(held.status);
    let held = next(&observed(build.clone()), later(100_000));
    assert_eq!(condition(&held.status, READY), Some(("False", "Suspended")));
    build.status = Some(held.status);
    build.spec.suspend = false;
    build.metadata.generation = Some(3);
    let Action::Start(attempt) = next(&observed(build), later(100_001)).action else {
        panic!("held for good")
    };
    assert_eq!(attempt.job.metadata.name, Some(job));
    assert_eq!(
        attempt.job.spec.unwrap().active_deadline_seconds,
        Some(1800)
    );
}

#[test]
fn neither_a_retry_nor_a_build_in_the_queue_starts_while_suspended() {
    let mut build = running();
    let lost = failed(FailureReason::RunnerLost, "gone".into());
    build.status = Some(next(&with_attempt(build.clone(), State::Ended(lost)), later(5)).status);
    build.spec.suspend = true;
    let step = next(&observed(build), later(60));
    assert_eq!(step.action, Action::None);
    let ready = find(&step.status.conditions, READY).unwrap();
    assert!(ready.message.contains("attempt 2"), "{}", ready.message);

    let mut waiting = queued();
    waiting.build.spec.suspend = true;
    waiting.queue = Queue::default();
    let step = next(&waiting, later(1));
    assert_eq!(step.action, Action::None);
    assert_eq!(condition(&step.status, READY), Some(("False", "Suspended")));
}

#[test]
fn tags_that_only_have_to_be_moved_are_moved_though_suspended() {
    let mut build = running();
    build.spec.health_check =
        Some(serde_json::from_value(serde_json::json!({"tcpSocket": {"port": 80}})).unwrap());
    let status = build.status.as_mut().unwrap();
    let current = status.current.as_mut().unwrap();
    current.stage = Stage::Tagging {
        pushed: whittle_build::report::keep(&success()),
    };
    build.spec.suspend = true;
    let mut status = build.status.clone().unwrap();
    status.input = Some(input(&build));
    build.status = Some(status);
    assert!(matches!(
        next(&observed(build), later(5)).action,
        Action::Start(_)
    ));
}

#[test]
fn what_is_waited_for_in_the_queue_is_neither_duration_nor_timeout() {
    let mut waiting = queued();
    // Longer than the half hour of spec.timeout.
    let still = next(&waiting, later(7200));
    assert_eq!(
        condition(&still.status, READY).unwrap().1,
        Reason::Queued.as_str()
    );
    // A look that finds the same writes nothing.
    let known = waiting.build.status.clone();
    assert_eq!(
        next(&waiting, later(7230)).status.current,
        known.unwrap().current
    );
    waiting.build.status = Some(still.status);
    waiting.queue = Queue::default();
    let started = next(&waiting, later(7260));
    let Action::Start(attempt) = started.action else {
        panic!("timed out in the queue")
    };
    assert_eq!(
        attempt.job.spec.unwrap().active_deadline_seconds,
        Some(1800)
    );
    waiting.build.status = Some(started.status);
    let ended = next(
        &with_attempt(waiting.build, State::Ended(success())),
        later(7300),
    )
    .status;
    assert_eq!(
        (ended.duration_seconds, ended.queued_seconds),
        (Some(40), Some(7260))
    );
    assert_eq!(ended.history[0].duration_seconds, Some(40));
    assert_eq!(ended.history[0].queued_seconds, Some(7260));
    let ready = &find(&ended.conditions, READY).unwrap().message;
    assert!(ready.contains("40 s, after waiting for 7260 s"), "{ready}");
}

#[test]
fn each_attempt_has_the_whole_time() {
    let mut build = running();
    let lost = failed(FailureReason::RunnerLost, "gone".into());
    let step = next(
        &with_attempt(build.clone(), State::Ended(lost)),
        later(1700),
    );
    build.status = Some(step.status);
    let Action::Start(attempt) = next(&observed(build), later(1800)).action else {
        panic!("timed out by the attempt before it")
    };
    let left = attempt.job.spec.unwrap().active_deadline_seconds;
    assert_eq!(left, Some(1800));
}

#[test]
fn what_is_waited_for_before_the_start_is_not_taken_from_the_attempts_time() {
    let mut waiting = observed(fixtures::inline());
    let mut edited = ready_builder();
    edited.metadata.generation = Some(2);
    waiting.builder = Some(edited);
    waiting.build.status = Some(next(&waiting, now()).status);
    waiting.builder = Some(ready_builder());
    let step = next(&waiting, later(1500));
    let Action::Start(attempt) = step.action else {
        panic!("not started")
    };
    let deadline = |attempt: Attempt| attempt.job.spec.unwrap().active_deadline_seconds;
    assert_eq!(deadline(*attempt), Some(1800));
    // Its Job was refused: what goes by from now on is its own.
    waiting.build.status = Some(step.status);
    let Action::Start(attempt) = next(&waiting, later(1600)).action else {
        panic!("not started")
    };
    assert_eq!(deadline(*attempt), Some(1700));
}

#[test]
fn what_is_missing_is_waited_for_as_long_as_a_build_may_take_and_no_longer() {
    let mut waiting = observed(fixtures::inline());
    waiting.builder = None;
    waiting.build.spec.builder_ref.name = "other".into();
    waiting.build.status = Some(next(&waiting, now()).status);
    let step = next(&waiting, later(1799));
    assert_eq!(condition(&step.status, READY).unwrap().1, "BuilderNotFound");
    waiting.build.status = Some(step.status);
    let step = next(&waiting, later(1801));
    assert_eq!(condition(&step.status, READY).unwrap().1, "Timeout");
    assert_eq!(step.status.duration_seconds, Some(0));
    assert_eq!(step.status.queued_seconds, Some(1801));
}

#[test]
fn a_start_that_is_refused_again_and_again_ends_in_time() {
    let mut build = running();
    for second in (100..1900).step_by(100) {
        let step = next(&observed(build.clone()), later(second));
        if second > 1800 {
            assert_eq!(condition(&step.status, READY).unwrap().1, "Timeout");
        }
        build.status = Some(step.status);
    }
}

#[test]
fn a_builder_whose_spec_has_changed_wakes_what_waits_once_it_is_carried_out() {
    let before = ready_builder();
    let mut edited = before.clone();
    edited.metadata.generation = Some(2);
    let mut carried_out = edited.clone();
    carried_out.status.as_mut().unwrap().observed_generation = Some(2);
    assert!(is_ready(&before) && !is_ready(&edited) && is_ready(&carried_out));
    let all = [&before, &edited, &carried_out].map(Readiness::of);
    assert!(all[0] != all[1] && all[1] != all[2] && all[0] != all[2]);
    let mut waiting = observed(fixtures::inline());
    waiting.builder = Some(edited);
    let step = next(&waiting, now());
    let ready = &find(&step.status.conditions, READY).unwrap().message;
    assert!(ready.contains("its spec has changed"), "{ready}");
}

#[test]
fn what_a_builder_waited_for_is_not_said_once_it_is_ready() {
    let mut waiting = observed(fixtures::inline());
    let mut builder = ready_builder();
    let status = builder.status.as_mut().unwrap();
    put_ready(status, false, (Reason::Unschedulable, "no node for Pod x"));
    waiting.builder = Some(builder);
    let step = next(&waiting, now());
    assert!(
        find(&step.status.conditions, READY)
            .unwrap()
            .message
            .contains("no node")
    );
    waiting.build.status = Some(step.status);
    waiting.builder = Some(ready_builder());
    waiting.queue.running = 1;
    let step = next(&waiting, later(9));
    for condition in &step.status.conditions {
        assert!(
            !condition.message.contains("no node"),
            "{}",
            condition.message
        );
    }
}

#[test]
fn a_runner_that_is_gone_at_the_end_of_its_time_was_ended_for_it() {
    let build = running();
    let lost = || failed(FailureReason::RunnerLost, "exit code 143".into());
    let ended = |second| {
        next(
            &with_attempt(build.clone(), State::Ended(lost())),
            later(second),
        )
    };
    let before = ended(1799).status;
    assert_eq!(condition(&before, READY).unwrap().1, "Retrying");
    let after = ended(1801).status;
    assert_eq!(condition(&after, READY).unwrap().1, "Timeout");
    assert_eq!(after.duration_seconds, Some(1801));
}

#[test]
fn a_builder_whose_death_for_memory_is_told_late_is_not_built_on_again() {
    let lost = State::Ended(failed(FailureReason::BuilderLost, "EOF".into()));
    let mut build = running();
    let step = next(&with_attempt(build.clone(), lost), later(9));
    let current = step.status.current.as_ref().unwrap();
    // Not long before it was told: others are killed on the same builder.
    let since = builder_lost_at(current).unwrap();
    assert!(since < later(9) && since >= later(9 - 60), "{since}");
    build.status = Some(step.status);
    let told = Observed {
        builder_out_of_memory: Some(OutOfMemory {
            limit: "2Gi".into(),
            native: None,
        }),
        ..observed(build)
    };
    let step = next(&told, later(19));
    assert!(!matches!(step.action, Action::Start(_)));
    assert_eq!(
        condition(&step.status, READY),
        Some(("False", "OutOfMemory"))
    );
    assert!(step.status.failure.unwrap().message.contains("2Gi"));
}

#[test]
fn a_lost_runner_says_nothing_of_the_builders_memory() {
    let lost = State::Ended(failed(FailureReason::RunnerLost, "evicted".into()));
    let step = next(&with_attempt(running(), lost), later(9));
    assert_eq!(builder_lost_at(&step.status.current.unwrap()), None);
}
