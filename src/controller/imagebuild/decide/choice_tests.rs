use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use whittle_api::{ImageBuild, READY, ReplicaStatus, ReplicasStatus, find};
use whittle_build::request::{BuildRequest, paths};

use super::super::tests::{later, next, now, observed};
use super::super::{Action, Step};
use super::*;
use crate::fixtures;
use crate::placement::{key, preference};

/// A git source, that took so many seconds when it was built last.
fn built_in(seconds: i64) -> ImageBuild {
    let mut build = fixtures::git_with_secrets();
    let entry = serde_json::json!({"build": 1, "generation": 1, "result": "Succeeded", "durationSeconds": seconds});
    let status = build.status.get_or_insert_default();
    status.build = Some(1);
    status.history = vec![serde_json::from_value(entry).unwrap()];
    build
}

/// A build on three replicas that are up, with so many builds on each.
fn on_three(build: ImageBuild, running: [usize; 3]) -> Observed {
    let mut seen = observed(build);
    let builder = seen.builder.as_mut().unwrap();
    builder.spec.replicas = 3;
    let one = |replica| ReplicaStatus {
        replica,
        ready: true,
        since: Some(Time(now())),
        running: 0,
        cache_bytes: None,
        draining: false,
    };
    builder.status.as_mut().unwrap().replicas = Some(ReplicasStatus {
        desired: 3,
        ready: 3,
        each: (0..3).map(one).collect(),
        ..ReplicasStatus::default()
    });
    for (replica, builds) in (0..).zip(running) {
        for _ in 0..builds {
            seen.queue.runs_on(Some(replica));
        }
    }
    seen
}

fn home(build: &ImageBuild) -> i32 {
    preference(&key(build), 0..3)[0]
}

/// With its first choice as busy as can be.
fn home_is_busy(build: ImageBuild) -> Observed {
    let mut running = [0; 3];
    running[usize::try_from(home(&build)).unwrap()] = 2;
    on_three(build, running)
}

fn replica(step: &Step) -> Option<i32> {
    step.status.current.as_ref()?.replica
}

fn request(step: &Step) -> BuildRequest {
    let Action::Start(attempt) = &step.action else {
        panic!("{:?}", step.action)
    };
    let data = attempt.config_map.data.as_ref().unwrap();
    serde_json::from_str(&data[paths::REQUEST_KEY]).unwrap()
}

fn message(step: &Step) -> &str {
    &find(&step.status.conditions, READY).unwrap().message
}

#[test]
fn an_attempt_goes_to_its_replica_and_its_status_and_its_job_name_it() {
    let build = built_in(60);
    let to = home(&build);
    let step = next(&on_three(build, [0, 0, 0]), now());
    assert_eq!(replica(&step), Some(to));
    let pod = format!("tcp://whittle-builder-default-{to}.");
    assert!(request(&step).builder_address.starts_with(&pod));
    let Action::Start(attempt) = &step.action else {
        unreachable!()
    };
    let annotations = attempt.job.metadata.annotations.as_ref().unwrap();
    assert_eq!(annotations["whittle.dev/replica"], to.to_string());
}

#[test]
fn on_a_builder_of_one_replica_nothing_is_chosen() {
    let step = next(&observed(built_in(60)), now());
    assert_eq!(replica(&step), None);
    assert!(
        request(&step)
            .builder_address
            .starts_with("tcp://whittle-builder-default-0.")
    );
}

#[test]
fn it_waits_for_a_busy_replica_as_long_as_its_builds_take_and_then_goes_to_another_one() {
    let build = built_in(60);
    let to = home(&build);
    let mut seen = home_is_busy(build);
    let step = next(&seen, now());
    assert_eq!((&step.action, replica(&step)), (&Action::None, None));
    assert!(message(&step).starts_with(&format!("queued: replica {to} of Builder default, ")));
    assert_eq!(step.look_again.map(|it| it.as_secs()), Some(30));
    seen.build.status = Some(step.status);
    // The same words until then: no look writes anything.
    let again = next(&seen, later(45));
    assert_eq!(Some(&again.status), seen.build.status.as_ref());
    assert_eq!(again.look_again.map(|it| it.as_secs()), Some(15));
    let step = next(&seen, later(60));
    let went = replica(&step).unwrap();
    assert_ne!(went, to);
    assert!(
        request(&step)
            .builder_address
            .contains(&format!("default-{went}."))
    );
}

#[test]
fn one_that_was_never_built_has_no_cache_to_wait_for() {
    let build = fixtures::git_with_secrets();
    let to = home(&build);
    let step = next(&home_is_busy(build), now());
    assert_ne!(replica(&step).unwrap(), to);
}

#[test]
fn a_controller_that_takes_over_after_the_status_was_written_starts_the_same() {
    let build = built_in(60);
    let before = next(&on_three(build.clone(), [0, 0, 0]), now());
    let mut seen = home_is_busy(build);
    seen.build.status = Some(before.status.clone());
    // Its replica has filled up meanwhile, and goes down.
    let builder = seen.builder.as_mut().unwrap();
    let replicas = builder.status.as_mut().unwrap().replicas.as_mut().unwrap();
    let home = replica(&before).unwrap();
    replicas.each[usize::try_from(home).unwrap()].ready = false;
    let after = next(&seen, later(5));
    assert_eq!(replica(&after), Some(home));
    assert_eq!(
        request(&after).builder_address,
        request(&before).builder_address
    );
}

#[test]
fn what_runs_when_a_builder_gets_more_replicas_stays_on_the_first() {
    let build = built_in(60);
    let before = next(&observed(build.clone()), now());
    let mut seen = on_three(build, [0, 0, 0]);
    seen.build.status = Some(before.status);
    let after = next(&seen, later(5));
    assert_eq!(replica(&after), None);
    assert!(request(&after).builder_address.contains("default-0."));
}

#[test]
fn as_many_builds_run_as_all_replicas_that_are_up_take() {
    let mut seen = on_three(built_in(60), [2, 2, 2]);
    assert!(
        message(&next(&seen, now()))
            .contains("at most 6 builds at a time (maxConcurrentBuilds of each of 3 replicas: 2)")
    );
    let builder = seen.builder.as_mut().unwrap();
    let replicas = builder.status.as_mut().unwrap().replicas.as_mut().unwrap();
    replicas.each[1].ready = false;
    assert!(message(&next(&seen, now())).contains("at most 4 builds"));
}

#[test]
fn the_next_attempt_chooses_anew_and_history_names_the_replica() {
    use crate::imagebuild::outcome::State;
    use whittle_api::FailureReason;
    use whittle_build::report::failed;
    let build = built_in(60);
    let to = home(&build);
    let mut seen = on_three(build, [0, 0, 0]);
    seen.build.status = Some(next(&seen, now()).status);
    seen.build.spec.retries = 1;
    seen.attempt = State::Ended(failed(FailureReason::BuilderLost, "gone".into()));
    let step = next(&seen, later(60));
    let current = step.status.current.clone().unwrap();
    assert_eq!((current.replica, current.last_replica), (None, Some(to)));
    seen.build.status = Some(step.status);
    seen.attempt = State::Absent;
    let step = next(&seen, later(90));
    assert_eq!(replica(&step), Some(to));
    seen.build.status = Some(step.status);
    seen.attempt = State::Ended(failed(FailureReason::BuildFailed, "exit 1".into()));
    let step = next(&seen, later(120));
    assert_eq!(step.status.history[0].replica, Some(to));
}
