//! Waits that take too long, and Jobs that wait in a queue of Kueue.

use super::super::tests::{later, next, now, observed};
use super::super::*;
use crate::fixtures;
use crate::imagebuild::gate;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use whittle_api::{Pending as Asked, TriggerReason};

const WHY: &str = "waits in queue builds of Kueue";

fn of_an_hour() -> ImageBuild {
    let mut build = fixtures::inline();
    build.spec.queue_timeout = Some("1h".into());
    build
}

/// A build that waits for its turn since `now()`, for an hour at most.
fn queued() -> Observed {
    let mut waiting = observed(of_an_hour());
    (waiting.queue.running, waiting.queue.before) = (2, 3);
    let step = next(&waiting, now());
    assert_eq!(reason(&step), "Queued");
    waiting.build.status = Some(step.status);
    waiting
}

/// What becomes of it where nothing changes for so long.
fn after(mut waiting: Observed, seconds: i64) -> (ImageBuild, Step) {
    let step = next(&waiting, later(seconds));
    waiting.build.status = Some(step.status.clone());
    (waiting.build, step)
}

fn reason(step: &Step) -> &str {
    &find(&step.status.conditions, READY).unwrap().reason
}

fn message(step: &Step) -> &str {
    &find(&step.status.conditions, READY).unwrap().message
}

fn with(build: ImageBuild, attempt: State) -> Observed {
    Observed {
        attempt,
        ..observed(build)
    }
}

fn suspended() -> State {
    State::Suspended(WHY.into())
}

/// A build whose Job has come up suspended, an hour at most.
fn in_a_queue_of_kueue() -> ImageBuild {
    let mut build = of_an_hour();
    build.status = Some(next(&observed(build.clone()), now()).status);
    build.status = Some(next(&with(build.clone(), suspended()), later(1)).status);
    build
}

#[test]
fn a_build_that_waited_as_long_as_it_may_ends_and_says_for_what_and_where_it_stood() {
    let (_, step) = after(queued(), 3599);
    assert_eq!(reason(&step), "Queued");
    // It is looked at when its time is over, whatever wakes it before.
    assert_eq!(step.look_again, Some(SignedDuration::from_secs(1)));
    let (build, step) = after(queued(), 3600);
    assert_eq!(reason(&step), "QueueTimeout");
    assert_eq!(
        message(&step),
        "timed out while waiting: not started within spec.queueTimeout (1h): queued: Builder default runs at most 2 builds at a time \
         (maxConcurrentBuilds): 2 running, 3 queued before this one: raise maxConcurrentBuilds of the Builder or spec.priority, name \
         another Builder in spec.builderRef, or raise spec.queueTimeout; a change of the spec, a request or a trigger builds again"
    );
    assert_eq!(step.notice.as_ref().map(|it| it.warning), Some(true));
    let status = build.status.unwrap();
    assert_eq!(
        (status.queued_seconds, status.duration_seconds),
        (Some(3600), Some(0))
    );
    assert_eq!(
        (
            status.history[0].result.as_str(),
            status.history[0].job.clone()
        ),
        ("QueueTimeout", None)
    );
}

#[test]
fn the_wait_counts_from_the_status_whatever_is_waited_for_meanwhile() {
    let mut waiting = queued();
    let known = waiting.build.status.clone().unwrap().current.unwrap();
    assert_eq!(known.waiting_since, Some(Time(now())));
    // Another controller, and the Builder is not ready.
    waiting.builder.as_mut().unwrap().metadata.generation = Some(2);
    let (build, step) = after(waiting.clone(), 1000);
    assert_eq!(reason(&step), "WaitingForBuilder");
    waiting.build = build;
    let (_, step) = after(waiting, 3600);
    assert_eq!(reason(&step), "QueueTimeout");
    assert!(
        message(&step).contains("its spec has changed"),
        "{}",
        message(&step)
    );
}

#[test]
fn without_a_bound_it_waits_for_its_turn_as_long_as_that_takes() {
    let mut waiting = queued();
    waiting.build.spec.queue_timeout = None;
    let (_, step) = after(waiting, 1_000_000);
    assert_eq!(reason(&step), "Queued");
}

#[test]
fn time_in_which_a_person_holds_it_is_no_wait() {
    let mut waiting = queued();
    waiting.build.spec.suspend = true;
    let (build, step) = after(waiting.clone(), 3000);
    assert_eq!(reason(&step), "Suspended");
    waiting.build = build;
    waiting.build.spec.suspend = false;
    let (build, step) = after(waiting.clone(), 9000);
    assert_eq!(reason(&step), "Queued");
    waiting.build = build;
    let (_, step) = after(waiting.clone(), 9000 + 3599);
    assert_eq!(reason(&step), "Queued");
    let (_, step) = after(waiting, 9000 + 3600);
    assert_eq!(reason(&step), "QueueTimeout");
}

#[test]
fn an_attempt_that_runs_is_bounded_by_timeout_alone_and_the_next_one_has_the_whole_wait() {
    let mut build = of_an_hour();
    build.spec.timeout = "24h".into();
    let step = next(&observed(build.clone()), now());
    assert!(matches!(step.action, Action::Start(_)));
    assert_eq!(step.status.current.as_ref().unwrap().waiting_since, None);
    build.status = Some(step.status);
    let step = next(&with(build.clone(), State::Running), later(20_000));
    assert_eq!(reason(&step), "Building");
    let lost = failed(FailureReason::RunnerLost, "gone".into());
    let step = next(&with(build.clone(), State::Ended(lost)), later(20_000));
    build.status = Some(step.status);
    let mut waiting = observed(build);
    waiting.queue.running = 9;
    let (build, step) = after(waiting.clone(), 20_010);
    assert_eq!(reason(&step), "Queued");
    waiting.build = build;
    let (_, step) = after(waiting.clone(), 20_010 + 3599);
    assert_eq!(reason(&step), "Queued");
    let (_, step) = after(waiting, 20_010 + 3600);
    assert_eq!(reason(&step), "QueueTimeout");
}

#[test]
fn nothing_begins_by_itself_after_that_and_a_request_does() {
    let (mut build, _) = after(queued(), 3600);
    assert!(is_settled(&build));
    let step = next(&observed(build.clone()), later(3700));
    assert_eq!(
        (&step.action, reason(&step)),
        (&Action::None, "QueueTimeout")
    );
    build.metadata.annotations = Some([(REQUESTED_AT.to_owned(), "now".to_owned())].into());
    let step = next(&observed(build), later(3800));
    assert!(matches!(step.action, Action::Start(_)));
}

#[test]
fn a_request_during_the_wait_is_a_build_of_its_own_with_a_wait_of_its_own() {
    let mut waiting = queued();
    waiting.build.metadata.annotations = Some([(REQUESTED_AT.to_owned(), "now".to_owned())].into());
    let (build, step) = after(waiting.clone(), 3000);
    assert_eq!(step.status.history[0].result, "Superseded");
    waiting.build = build;
    waiting.build.status = Some(next(&waiting, later(3001)).status);
    let (_, step) = after(waiting.clone(), 3000 + 3599);
    assert_eq!((reason(&step), step.status.build), ("Queued", Some(2)));
    let (_, step) = after(waiting, 3000 + 3600);
    assert_eq!(reason(&step), "QueueTimeout");
}

fn seen(build: &mut ImageBuild, revision: &str, at: i64) {
    let pending = &mut build.status.as_mut().unwrap().pending;
    let asked = Asked {
        reason: TriggerReason::Commit,
        detail: revision.into(),
        revision: Some(revision.into()),
        tree: None,
        since: Time(later(at)),
        doubt: None,
    };
    ask(pending, asked);
}

#[test]
fn of_several_commits_during_the_wait_the_newest_begins_one_build_with_a_wait_of_its_own() {
    let mut waiting = queued();
    waiting.build.status.as_mut().unwrap().last_revision = Some("main@sha1:aa".into());
    for (revision, at) in [("main@sha1:bb", 1000), ("main@sha1:cc", 2000)] {
        seen(&mut waiting.build, revision, at);
    }
    let (build, step) = after(waiting.clone(), 3600);
    assert_eq!(reason(&step), "QueueTimeout");
    assert!(!is_settled(&build));
    waiting.build = build;
    let (build, step) = after(waiting.clone(), 3601);
    let begun = step.status.trigger.clone().unwrap();
    assert_eq!(begun.revision.as_deref(), Some("main@sha1:cc"));
    assert_eq!((reason(&step), &step.status.pending), ("Queued", &None));
    waiting.build = build;
    // That commit is not asked for again once it has waited as long as it may.
    let (build, step) = after(waiting, 3601 + 3600);
    assert_eq!(reason(&step), "QueueTimeout");
    assert_eq!(step.status.last_revision.as_deref(), Some("main@sha1:cc"));
    assert!(is_settled(&build));
}

#[test]
fn the_first_look_at_a_source_during_the_wait_begins_no_second_build() {
    let mut waiting = queued();
    seen(&mut waiting.build, "main@sha1:aa", 60);
    let (build, step) = after(waiting, 3600);
    assert_eq!(
        (reason(&step), &step.status.pending),
        ("QueueTimeout", &None)
    );
    assert_eq!(step.status.last_revision.as_deref(), Some("main@sha1:aa"));
    assert!(is_settled(&build));
}

#[test]
fn a_job_that_comes_up_suspended_waits_and_its_time_begins_when_it_goes_on() {
    let mut build = in_a_queue_of_kueue();
    build.spec.queue_timeout = None;
    build.spec.timeout = "10m".into();
    let step = next(&with(build.clone(), suspended()), later(5000));
    assert_eq!((reason(&step), message(&step)), ("JobSuspended", WHY));
    assert_eq!((&step.action, &step.stop), (&Action::None, &vec![]));
    // A look that finds the same writes nothing.
    assert_eq!(Some(&step.status), build.status.as_ref());
    let starts = State::Pending(Pending::new(Reason::Building, "starting".into()));
    let step = next(&with(build.clone(), starts), later(5000));
    let current = step.status.current.clone().unwrap();
    assert_eq!(
        (current.started, current.since, current.waiting_since),
        (true, Some(Time(later(5000))), None)
    );
    // The second in which nobody knew that the Job is suspended was none in its queue.
    assert_eq!(step.status.queued_seconds, Some(4999));
    build.status = Some(step.status);
    // It is told late that the Pod is gone: the time was its own.
    let lost = || State::Ended(failed(FailureReason::RunnerLost, "gone".into()));
    let step = next(&with(build.clone(), lost()), later(5000 + 599));
    assert_eq!(reason(&step), "Retrying");
    let step = next(&with(build, lost()), later(5000 + 600));
    assert_eq!(reason(&step), "Timeout");
}

#[test]
fn a_job_that_is_suspended_while_it_runs_goes_on_as_the_same_attempt() {
    let mut build = in_a_queue_of_kueue();
    build.status = Some(next(&with(build.clone(), State::Running), later(100)).status);
    let before = build.status.clone().unwrap();
    build
        .status
        .as_mut()
        .unwrap()
        .current
        .as_mut()
        .unwrap()
        .message = Some("3/9 RUN".into());
    let step = next(&with(build.clone(), suspended()), later(1500));
    assert_eq!(reason(&step), "JobSuspended");
    assert_eq!(step.status.queued_seconds, Some(99));
    build.status = Some(step.status);
    let step = next(&with(build.clone(), State::Running), later(4000));
    let current = step.status.current.as_ref().unwrap();
    let then = before.current.unwrap();
    assert_eq!((current.attempt, &current.job), (1, &then.job));
    assert_eq!(current.since, Some(Time(later(4000))));
    build.status = Some(step.status);
    let ended = next(
        &with(build, State::Ended(Report::Succeeded(Default::default()))),
        later(4100),
    );
    assert_eq!(reason(&ended), "Succeeded");
    // Both waits count as such, and neither as time that it took.
    let status = ended.status;
    assert_eq!(status.queued_seconds, Some(99 + 2500));
    assert_eq!(status.duration_seconds, Some(4100 - 99 - 2500));
}

#[test]
fn a_wait_in_a_queue_of_kueue_that_takes_too_long_ends_with_its_job() {
    let build = in_a_queue_of_kueue();
    let job = build.status.as_ref().unwrap().current.clone().unwrap().job;
    let step = next(&with(build.clone(), suspended()), later(3600));
    assert_eq!(reason(&step), "JobSuspended");
    assert_eq!(step.look_again, Some(SignedDuration::from_secs(1)));
    let step = next(&with(build, suspended()), later(3601));
    assert_eq!((reason(&step), &step.stop), ("QueueTimeout", &vec![job]));
    assert!(message(&step).contains(WHY), "{}", message(&step));
    assert!(
        message(&step).contains("ClusterQueue"),
        "{}",
        message(&step)
    );
}

#[test]
fn spec_suspend_takes_a_job_away_that_waits_in_a_queue_of_kueue() {
    let mut build = in_a_queue_of_kueue();
    let job = build.status.as_ref().unwrap().current.clone().unwrap().job;
    build.spec.suspend = true;
    let step = next(&with(build.clone(), suspended()), later(10));
    assert_eq!(
        (reason(&step), &step.stop),
        ("Suspended", &vec![job.clone()])
    );
    build.status = Some(step.status);
    let step = next(&observed(build.clone()), later(20));
    assert_eq!((reason(&step), &step.action), ("Suspended", &Action::None));
    build.spec.suspend = false;
    let Action::Start(attempt) = next(&observed(build), later(30)).action else {
        panic!("held for good")
    };
    assert_eq!(attempt.job.metadata.name, Some(job));
}

#[test]
fn a_new_spec_takes_the_place_of_one_in_a_queue_of_kueue() {
    let mut build = in_a_queue_of_kueue();
    let job = build.status.as_ref().unwrap().current.clone().unwrap().job;
    build.spec.rebuild = Some("again".into());
    build.metadata.generation = Some(2);
    let step = next(&with(build, suspended()), later(10));
    assert_eq!(step.stop, [job]);
    assert_eq!(step.status.history[0].result, "Superseded");
}

#[test]
fn the_clock_of_an_attempt_that_has_pushed_stands_still_while_its_job_is_suspended() {
    let mut build = in_a_queue_of_kueue();
    build.status = Some(next(&with(build.clone(), State::Running), later(100)).status);
    let current = build.status.as_mut().unwrap().current.as_mut().unwrap();
    let pushed = whittle_build::report::keep(&Report::Succeeded(Default::default()));
    current.stage = Stage::Tagging { pushed };
    let step = next(&with(build.clone(), suspended()), later(200));
    assert_eq!(reason(&step), "JobSuspended");
    build.status = Some(step.status);
    let deadline = |build: &ImageBuild, at| deadline(build, build.status.as_ref().unwrap(), at);
    assert_eq!(deadline(&build, later(200)), later(1900));
    assert_eq!(deadline(&build, later(1200)), later(2900));
    build.status = Some(next(&with(build.clone(), State::Running), later(1200)).status);
    assert_eq!(deadline(&build, later(1300)), later(2900));
}

/// The image is pushed, and the Job that checks it is suspended since `later(200)`.
fn checked_in_a_queue() -> Observed {
    let mut build = in_a_queue_of_kueue();
    let check = serde_json::json!({"tcpSocket": {"port": 80}});
    build.spec.health_check = serde_json::from_value(check).unwrap();
    let wanted = input(&build);
    build.status.as_mut().unwrap().input = Some(wanted);
    build.status = Some(next(&with(build.clone(), State::Running), later(100)).status);
    let status = build.status.as_mut().unwrap();
    let platform = serde_json::json!({"platform": "linux/amd64", "digest": "sha256:2", "size": 1});
    let built = Report::Succeeded(whittle_build::report::Built {
        digest: "sha256:1".into(),
        platforms: vec![serde_json::from_value(platform).unwrap()],
        ..Default::default()
    });
    let pushed = whittle_build::report::keep(&built);
    status.current.as_mut().unwrap().stage = Stage::Checking { pushed };
    let mut checked = with(build, State::Ended(built));
    checked.checks = vec![Check {
        platform: "linux/amd64".into(),
        state: gate::State::Suspended(WHY.into()),
    }];
    checked.build.status = Some(next(&checked, later(200)).status);
    checked
}

#[test]
fn a_health_check_in_a_queue_of_kueue_takes_none_of_the_time_and_is_bounded_as_other_waits() {
    let mut checked = checked_in_a_queue();
    let step = next(&checked, later(200 + 3599));
    assert_eq!(reason(&step), "HealthCheck");
    assert!(message(&step).contains(WHY), "{}", message(&step));
    assert_eq!(step.look_again, Some(SignedDuration::from_secs(1)));
    let out = next(&checked, later(200 + 3600));
    assert_eq!(reason(&out), "QueueTimeout");
    // It goes on: 100 s of the half hour are gone.
    let waiting = gate::State::Waiting {
        message: "starting".into(),
        left: None,
    };
    checked.checks[0].state = waiting;
    checked.build.status = Some(step.status);
    for seconds in [0, 1699] {
        let step = next(&checked, later(200 + 3599 + seconds));
        assert_eq!(reason(&step), "HealthCheck");
        checked.build.status = Some(step.status);
    }
    let step = next(&checked, later(200 + 3599 + 1700));
    assert_eq!(reason(&step), "Timeout");
}
