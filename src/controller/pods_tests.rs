use serde_json::{Value, json};

use super::*;

fn job() -> Job {
    serde_json::from_value(json!({
        "metadata": {"name": "hello-0123456789", "uid": "j"},
        "spec": {"template": {"spec": {"containers": [{"name": "runner", "image": "whittle:1"}]}}},
    }))
    .unwrap()
}

fn pod(name: &str, made: &str, change: Value) -> Pod {
    let mut pod = json!({
        "metadata": {
            "name": format!("hello-0123456789-{name}"),
            "creationTimestamp": made,
            "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": "hello-0123456789", "uid": "j", "controller": true}],
        },
        "spec": {"containers": [{"name": "runner", "image": "whittle:1"}]},
    });
    json_patch::merge(&mut pod, &change);
    serde_json::from_value(pod).unwrap()
}

const EARLY: &str = "2026-01-01T00:00:00Z";
const LATE: &str = "2026-01-01T00:00:01Z";

fn own() -> Pod {
    pod("own", LATE, json!({}))
}

fn chosen(other: Pod) -> String {
    let pods = [other, own()];
    of(&pods, Some(&job())).unwrap().name_any()
}

#[test]
fn a_pod_that_somebody_else_makes_is_not_the_jobs() {
    let owner = |change: Value| {
        let mut owner = json!({"apiVersion": "batch/v1", "kind": "Job", "name": "hello-0123456789", "uid": "j", "controller": true});
        json_patch::merge(&mut owner, &change);
        json!({"metadata": {"ownerReferences": [owner]}})
    };
    for change in [
        owner(json!({"controller": false})),
        owner(json!({"controller": null})),
        owner(json!({"kind": "ReplicaSet"})),
        owner(json!({"uid": "another"})),
        json!({"metadata": {"name": "mine"}}),
        json!({"spec": {"containers": [{"name": "other", "image": "whittle:1"}]}}),
    ] {
        let other = pod("other", EARLY, change.clone());
        assert!(!is_of(&other, &job()), "{change}");
        assert_eq!(chosen(other), own().name_any(), "{change}");
    }
    assert_eq!(of(&[own()], None), None);
}

#[test]
fn of_several_the_one_with_the_image_of_the_template_counts_and_then_the_oldest() {
    let other = |image: &str| json!({"spec": {"containers": [{"name": "runner", "image": image}]}});
    assert_eq!(
        chosen(pod("other", EARLY, other("busybox"))),
        own().name_any()
    );
    let later = pod("other", "2026-01-01T00:00:02Z", json!({}));
    assert_eq!(how_many(&[own(), later.clone()], Some(&job())), 2);
    assert_eq!(chosen(later), own().name_any());
}

#[test]
fn a_pod_whose_image_was_rewritten_is_still_the_jobs() {
    let change = json!({"spec": {"containers": [{"name": "runner", "image": "mirror/whittle:1"}, {"name": "proxy"}]}});
    let pods = [pod("own", LATE, change)];
    assert!(of(&pods, Some(&job())).is_some());
}

fn ran(status: Value) -> Job {
    let mut job = job();
    job.metadata.creation_timestamp = Some(serde_json::from_value(json!(EARLY)).unwrap());
    job.status = Some(serde_json::from_value(status).unwrap());
    job
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn condition(kind: &str, status: &str) -> Value {
    json!({"conditions": [{"type": kind, "status": status, "lastTransitionTime": LATE}]})
}

#[test]
fn a_job_is_active_until_it_has_completed_or_failed() {
    for (status, active, ended) in [
        (json!({}), true, false),
        (json!({"active": 1}), true, false),
        (condition("Failed", "False"), true, false),
        (condition("FailureTarget", "True"), true, false),
        (condition("Failed", "True"), false, true),
        (json!({"completionTime": LATE}), false, false),
        (condition("Complete", "True"), true, true),
    ] {
        let job = ran(status.clone());
        assert_eq!(
            (is_active(&job), has_ended(&job)),
            (active, ended),
            "{status}"
        );
    }
    assert!(is_active(&job()) && !has_ended(&job()));
}

#[test]
fn a_job_tells_when_its_builder_was_last_used() {
    assert_eq!(last_change(&job()), None);
    assert_eq!(last_change(&ran(json!({}))), Some(at(EARLY)));
    assert_eq!(
        last_change(&ran(condition("Failed", "True"))),
        Some(at(LATE))
    );
    let completed = json!({"completionTime": "2026-01-01T00:00:09Z"});
    assert_eq!(
        last_change(&ran(completed)),
        Some(at("2026-01-01T00:00:09Z"))
    );
}

#[test]
fn whoever_owns_a_job_that_has_not_ended_holds_its_builder() {
    let owned = |uid: &str, status: Value| {
        let mut job = ran(status);
        let owner = json!([{"apiVersion": "whittle.dev/v1alpha1", "kind": "ImageBuild", "name": uid, "uid": uid}]);
        job.metadata.owner_references = Some(serde_json::from_value(owner).unwrap());
        job
    };
    let jobs = [
        owned("runs", json!({"active": 1})),
        owned("failed", condition("Failed", "True")),
        owned("done", json!({"completionTime": LATE})),
    ];
    let active = jobs.iter().filter(|job| is_active(job));
    let owners: Vec<_> = active
        .map(|job| job.owner_references()[0].uid.as_str())
        .collect();
    assert_eq!(owners, ["runs"]);
}

#[test]
fn events_are_asked_for_where_a_pod_was_not_made_or_does_not_start_and_nowhere_else() {
    let uid = |uid: &str| Of::Uid(uid.into());
    let not_made = Question {
        of: uid("j"),
        reasons: &["FailedCreate"],
    };
    assert_eq!(Question::of_attempt(Some(&job()), None), Some(not_made));
    assert_eq!(Question::of_attempt(None, None), None);
    let failed = ran(condition("Failed", "True"));
    assert_eq!(Question::of_attempt(Some(&failed), None), None);
    let change = |status: Value| json!({"metadata": {"uid": "p"}, "spec": {"nodeName": "n"}, "status": status});
    let waiting = json!([{"name": "runner", "image": "", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"waiting": {"reason": "ContainerCreating"}}}]);
    let starts = pod(
        "own",
        LATE,
        change(json!({"phase": "Pending", "containerStatuses": waiting})),
    );
    let asked = Question::of_attempt(Some(&job()), Some(&starts)).unwrap();
    assert_eq!((asked.of, asked.reasons), (uid("p"), &FAILED_ON_NODE[..]));
    for phase in ["Running", "Succeeded", "Failed"] {
        let pod = pod("own", LATE, change(json!({"phase": phase})));
        assert_eq!(
            Question::of_attempt(Some(&job()), Some(&pod)),
            None,
            "{phase}"
        );
    }
}

#[test]
fn a_pod_of_another_attempt_that_has_not_ended_is_in_the_way() {
    let phase = |phase: &str| json!({"status": {"phase": phase}});
    let named = |name: &str, change: Value| {
        let mut pod = pod("x", EARLY, change);
        pod.metadata.name = Some(name.into());
        pod
    };
    let now = at("2026-01-01T01:00:00Z");
    let before = |pods: &[Pod]| earlier(pods, Some(&job()), now);
    assert_eq!(before(&[own()]), (false, None));
    assert_eq!(
        before(&[own(), named("old-a", phase("Succeeded"))]),
        (false, None)
    );
    assert_eq!(
        before(&[own(), named("old-a", phase("Running"))]),
        (true, None)
    );
    // Without a Job, all are others.
    assert_eq!(earlier(&[own()], None, now), (true, None));
    let going = json!({"metadata": {"deletionTimestamp": LATE, "namespace": "team"}, "status": {"phase": "Running"}});
    let (alive, stuck) = before(&[named("old-b", going)]);
    assert!(
        alive
            && stuck
                .unwrap()
                .contains("old-b has been stuck in Terminating")
    );
}

#[test]
fn a_kill_for_memory_counts_since_the_build_began() {
    let killed = |reason: &str, state: &str| {
        let ended = json!({"terminated": {"reason": reason, "exitCode": 137, "finishedAt": LATE}});
        let container = json!({"name": "buildkitd", "image": "", "imageID": "", "ready": true, "restartCount": 1, state: ended});
        pod(
            "own",
            EARLY,
            json!({"status": {"containerStatuses": [container]}}),
        )
    };
    for state in ["state", "lastState"] {
        let killed = |reason| killed(reason, state);
        assert!(was_out_of_memory(&killed("OOMKilled"), Some(at(LATE))));
        assert!(was_out_of_memory(&killed("OOMKilled"), None));
        assert!(!was_out_of_memory(
            &killed("OOMKilled"),
            Some(at("2026-01-01T00:00:02Z"))
        ));
        assert!(!was_out_of_memory(&killed("Error"), Some(at(EARLY))));
    }
    assert!(!was_out_of_memory(&own(), None));
}

#[test]
fn a_job_is_ours_by_its_owner_and_its_name_and_not_by_its_labels() {
    let name = names::attempt("hello", "u", 1, 1, 1);
    let job = |name: &str, owner: &str| -> Job {
        let owner = json!({"apiVersion": "whittle.dev/v1alpha1", "kind": "ImageBuild", "name": "hello", "uid": owner});
        serde_json::from_value(json!({"metadata": {
            "name": name, "ownerReferences": [owner],
            "labels": {"whittle.dev/component": "gate"}, "annotations": {"whittle.dev/build": "3"},
        }}))
        .unwrap()
    };
    assert!(is_ours(&job(&name, "u"), "u"));
    assert!(!is_ours(&job(&name, "v"), "u"));
    assert!(!is_ours(&job("mine", "u"), "u"));
    let mine = job(&name, "u");
    assert!(is_before(&mine, 4) && !is_before(&mine, 3));
    let mut unnumbered = mine.clone();
    unnumbered.metadata.annotations = None;
    assert!(!is_before(&unnumbered, 4));
}

#[test]
fn a_check_that_no_status_names_is_stray_unless_it_goes_already() {
    let mut check: Job = serde_json::from_value(json!({"metadata": {
        "name": "a", "labels": {(names::COMPONENT): names::GATE}}}))
    .unwrap();
    assert!(is_stray_check(&check, &[]));
    assert!(!is_stray_check(&check, &["a".into()]));
    check.metadata.deletion_timestamp = Some(serde_json::from_value(json!(LATE)).unwrap());
    assert!(!is_stray_check(&check, &[]));
    assert!(!is_stray_check(&job(), &[]));
}

#[test]
fn a_pod_that_went_when_its_job_was_suspended_is_not_the_jobs_once_that_goes_on() {
    let resumed = |at: &str, status: &str| {
        let mut job = job();
        let condition = json!({"type": "Suspended", "status": status, "lastTransitionTime": at});
        job.status = serde_json::from_value(json!({"conditions": [condition]})).unwrap();
        job
    };
    let going = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:01:00Z"}});
    let pods = [pod("old", EARLY, going), own()];
    let chosen = |job: &Job| of(&pods, Some(job)).unwrap().name_any();
    assert_eq!(chosen(&resumed(LATE, "False")), own().name_any());
    assert_eq!(how_many(&pods, Some(&resumed(LATE, "False"))), 1);
    // While it is suspended, and where it was resumed before that Pod was made.
    for job in [resumed(LATE, "True"), resumed(EARLY, "False"), job()] {
        assert_eq!(chosen(&job), pods[0].name_any());
    }
}
