use k8s_openapi::api::batch::v1::JobStatus;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Resource;
use serde_json::json;

use super::*;
use crate::fixtures;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + second).unwrap()
}

fn builder(standby: i32) -> Builder {
    let mut builder = fixtures::builder();
    builder.spec.standby = standby;
    let ready = json!({"observedGeneration": 1, "conditions": [{"type": "Ready", "status": "True", "reason": "Ready",
        "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}], "state": "Ready"});
    builder.status = serde_json::from_value(ready).unwrap();
    let status = builder.status.as_mut().unwrap();
    status.certificates = Some(fixtures::certificates());
    builder
}

/// One whose third build has succeeded.
fn built(name: &str) -> ImageBuild {
    let mut build = fixtures::inline();
    build.metadata.name = Some(name.into());
    build.metadata.uid = Some(format!("uid-{name}"));
    let status = json!({"build": 3, "conditions": [{"type": "Ready", "status": "True", "reason": "Succeeded",
        "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
    let mut status: ImageBuildStatus = serde_json::from_value(status).unwrap();
    status.completed_at = Some(Time(at(0)));
    build.status = Some(status);
    build
}

fn seen(builder: Builder, builds: &[ImageBuild]) -> Seen {
    Seen {
        builder: Some(builder),
        builds: builds
            .iter()
            .map(|it| (it.name_any(), it.clone()))
            .collect(),
        first: builds.iter().map(ResourceExt::name_any).collect(),
        jobs: vec![],
    }
}

fn decided(seen: &Seen, second: i64) -> Plan {
    plan(seen, &fixtures::settings(), at(second))
}

/// The Jobs that are made for it, as they stand a second later with a Pod that is ready.
fn made(seen: &Seen) -> Vec<Job> {
    let made = decided(seen, 1).make.into_iter().map(|attempt| attempt.job);
    made.map(|mut job| {
        job.metadata.creation_timestamp = Some(Time(at(1)));
        job.status = Some(JobStatus {
            active: Some(1),
            ready: Some(1),
            ..JobStatus::default()
        });
        job
    })
    .collect()
}

fn with(jobs: Vec<Job>, seen: &Seen) -> Seen {
    Seen {
        jobs,
        ..seen.clone()
    }
}

fn ended(mut job: Job) -> Job {
    let status = json!({"conditions": [{"type": "Failed", "status": "True"}]});
    job.status = serde_json::from_value(status).unwrap();
    job
}

#[test]
fn after_a_build_one_is_made_for_the_next_and_stays() {
    let seen = seen(builder(1), &[built("a")]);
    let jobs = made(&seen);
    assert_eq!(jobs.len(), 1);
    assert_eq!(jobs[0].annotations()[names::BUILD], "4");
    let plan = decided(&with(jobs, &seen), 2);
    assert_eq!((plan.make, plan.remove), (vec![], vec![]));
    // Until its Builder's idle time is over.
    assert_eq!(plan.look_again, Some(SignedDuration::from_secs(598)));
}

#[test]
fn there_are_no_more_than_the_builder_says_and_the_first_come_first() {
    let builds = ["a", "b", "c"].map(built);
    let mut seen = seen(builder(2), &builds);
    seen.first = ["c", "a", "b"].map(str::to_owned).into();
    let jobs = made(&seen);
    let mut of: Vec<_> = jobs
        .iter()
        .map(|job| job.annotations()[names::IMAGE_BUILD].clone())
        .collect();
    of.sort();
    assert_eq!(of, ["a", "c"]);
    // Another one builds more often now.
    seen.first = ["b", "c", "a"].map(str::to_owned).into();
    let plan = decided(&with(jobs.clone(), &seen), 3);
    let a = jobs
        .iter()
        .find(|job| job.annotations()[names::IMAGE_BUILD] == "a");
    assert_eq!(plan.remove, [a.unwrap().name_any()]);
    assert_eq!(plan.make.len(), 1);
    assert_eq!(plan.make[0].job.annotations()[names::IMAGE_BUILD], "b");
}

#[test]
fn one_that_builds_keeps_its_place_and_none_waits_for_it_meanwhile() {
    let mut builds = ["a", "b"].map(built);
    let mut running = seen(builder(1), &builds);
    let jobs = made(&running);
    let current =
        json!({"attempt": 1, "job": jobs[0].name_any(), "generation": 1, "started": true});
    let status = builds[0].status.as_mut().unwrap();
    (status.build, status.completed_at) = (Some(4), None);
    status.current = Some(serde_json::from_value(current).unwrap());
    running.builds.insert("a".into(), builds[0].clone());
    let plan = decided(&with(jobs, &running), 9);
    assert_eq!(plan, Plan::default());
}

#[test]
fn one_that_waits_for_its_turn_keeps_its_own() {
    let mut build = built("a");
    let seen_before = seen(builder(1), std::slice::from_ref(&build));
    let jobs = made(&seen_before);
    let current = json!({"attempt": 1, "job": "a-0000000000", "generation": 1});
    let status = build.status.as_mut().unwrap();
    (status.build, status.completed_at) = (Some(4), None);
    status.current = Some(serde_json::from_value(current).unwrap());
    let queued = with(
        jobs.clone(),
        &seen(builder(1), std::slice::from_ref(&build)),
    );
    assert_eq!(decided(&queued, 9), Plan::default());
    // An ordinary Job carries the attempt out.
    build
        .status
        .as_mut()
        .unwrap()
        .current
        .as_mut()
        .unwrap()
        .started = true;
    let begun = with(jobs.clone(), &seen(builder(1), &[build]));
    assert_eq!(decided(&begun, 9).remove, [jobs[0].name_any()]);
}

#[test]
fn one_that_an_attempt_was_carried_out_by_is_part_of_the_history() {
    let mut build = built("a");
    let jobs = made(&seen(builder(1), std::slice::from_ref(&build)));
    build.status.as_mut().unwrap().build = Some(4);
    let after = seen(builder(1), &[build]);
    let next = made(&after);
    assert_ne!(next[0].name_any(), jobs[0].name_any());
    let history = ended(jobs[0].clone());
    let plan = decided(&with(vec![history, next[0].clone()], &after), 9);
    assert_eq!((plan.make, plan.remove), (vec![], vec![]));
    // Its Pod has ended, and the Job has yet to say so.
    let both = vec![jobs[0].clone(), next[0].clone()];
    let mut told = after.clone();
    let entry = json!({"build": 4, "generation": 1, "result": "Succeeded", "job": jobs[0].name_any(),
        "digest": null, "size": null, "revision": null, "completedAt": null, "durationSeconds": null});
    let status = told.builds.get_mut("a").unwrap().status.as_mut().unwrap();
    status.history = vec![serde_json::from_value(entry).unwrap()];
    assert!(decided(&with(both.clone(), &told), 9).remove.is_empty());
    // No attempt was carried out by it.
    assert_eq!(decided(&with(both, &after), 9).remove, [jobs[0].name_any()]);
}

#[test]
fn it_goes_with_the_idle_time_the_builder_and_what_it_was_made_from() {
    let build = built("a");
    let all = seen(builder(1), std::slice::from_ref(&build));
    let jobs = made(&all);
    let name = jobs[0].name_any();
    let goes = |seen: &Seen, second| {
        let plan = decided(&with(jobs.clone(), seen), second);
        plan.remove == [name.as_str()]
    };
    assert!(!goes(&all, 599));
    assert!(goes(&all, 600), "its time is over");
    let without = Seen {
        builder: None,
        ..all.clone()
    };
    assert!(goes(&without, 2), "the Builder has gone");
    assert!(
        goes(&seen(builder(0), std::slice::from_ref(&build)), 2),
        "nobody asks for it"
    );
    let mut asleep = builder(1);
    let status = asleep.status.as_mut().unwrap();
    status.state = Some(whittle_api::Reason::Idle);
    status.conditions[0].reason = "Idle".into();
    assert!(
        goes(&seen(asleep, std::slice::from_ref(&build)), 2),
        "the Builder sleeps"
    );
    let changes: [fn(&mut ImageBuild); 5] = [
        |build| build.spec.suspend = true,
        |build| {
            let secret = whittle_api::LocalRef { name: "x".into() };
            build.spec.output.secret_ref = Some(secret);
        },
        |build| {
            let failure = json!({"reason": "StepFailed", "message": ""});
            let status = build.status.as_mut().unwrap();
            status.failure = Some(serde_json::from_value(failure).unwrap());
        },
        |build| {
            let queue = (names::KUEUE_QUEUE.to_owned(), "q".to_owned());
            build.labels_mut().extend([queue]);
        },
        |build| build.spec.builder_ref.name = "other".into(),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let mut build = build.clone();
        change(&mut build);
        assert!(goes(&seen(builder(1), &[build]), 2), "{number}");
    }
}

#[test]
fn a_builder_that_never_sleeps_has_one_for_a_day() {
    let mut awake = builder(1);
    awake.spec.idle_timeout = "0s".into();
    let all = seen(awake, &[built("a")]);
    let jobs = made(&all);
    let day = 24 * 3600;
    assert!(
        decided(&with(jobs.clone(), &all), day - 1)
            .remove
            .is_empty()
    );
    assert_eq!(decided(&with(jobs, &all), day).remove.len(), 1);
}

#[test]
fn one_that_does_not_start_or_has_ended_is_not_tried_again_before_the_next_build() {
    let all = seen(builder(1), &[built("a")]);
    let mut jobs = made(&all);
    let name = jobs[0].name_any();
    let has_ended = vec![ended(jobs[0].clone())];
    jobs[0].status = None;
    assert!(decided(&with(jobs.clone(), &all), 60).remove.is_empty());
    for (jobs, second) in [(jobs, 95), (has_ended, 5)] {
        let plan = decided(&with(jobs, &all), second);
        assert_eq!(plan.remove, [name.as_str()]);
        assert_eq!(plan.hopeless, [name.as_str()]);
        assert!(plan.make.is_empty());
    }
}

#[test]
fn one_that_is_being_deleted_and_one_of_somebody_else_are_left_alone() {
    let all = seen(builder(1), &[built("a")]);
    let mut leaving = made(&all);
    leaving[0].metadata.deletion_timestamp = Some(Time(at(2)));
    let plan = decided(&with(leaving, &all), 3);
    assert_eq!((plan.make, plan.remove), (vec![], vec![]));
    let mut foreign = made(&all);
    foreign[0].meta_mut().owner_references = None;
    assert!(decided(&with(foreign, &all), 3).remove.is_empty());
}
