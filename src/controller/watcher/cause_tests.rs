use serde_json::{Value, json};

use super::*;

const NAME: &str = "whittle-builder-default-watcher";

fn now() -> Timestamp {
    "2026-01-01T01:00:00Z".parse().unwrap()
}

fn deployment(status: Value) -> Deployment {
    serde_json::from_value(json!({"metadata": {"name": NAME}, "status": status})).unwrap()
}

fn pod(status: Value) -> Pod {
    named("whittle-builder-default-watcher-5d-x", status)
}

fn named(name: &str, status: Value) -> Pod {
    let owner = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": format!("{NAME}-5d"), "uid": "s", "controller": true});
    serde_json::from_value(json!({"metadata": {"name": name, "namespace": "team", "uid": "p",
        "creationTimestamp": "2026-01-01T00:00:00Z", "ownerReferences": [owner]}, "status": status}))
    .unwrap()
}

fn container(state: Value, last: Value, restarts: i32) -> Value {
    json!({"phase": "Pending", "containerStatuses": [{"name": "watcher", "image": "whittle:1", "imageID": "", "ready": false,
        "restartCount": restarts, "state": state, "lastState": last}]})
}

fn why(seen: &Seen) -> Cause {
    find("team", "default", seen, now())
}

fn of(status: Value, events: Vec<Told>) -> Cause {
    why(&Seen {
        deployment: Some(deployment(json!({}))),
        pod: Some(pod(status)),
        events,
    })
}

#[track_caller]
fn says(cause: &Cause, kind: &str, all: &[&str]) {
    assert_eq!(cause.kind, kind, "{cause:?}");
    for words in all {
        assert!(cause.words.contains(words), "{words}: {cause:?}");
    }
}

#[test]
fn a_builder_that_is_missing_is_named_with_what_to_type() {
    let cause = no_builder("team", "fast");
    let whole = r#"Builder fast not found in namespace team: create it: echo '{"apiVersion": "whittle.dev/v1alpha1", "kind": "Builder", "metadata": {"name": "fast", "namespace": "team"}, "spec": {}}' | kubectl apply -f -"#;
    assert_eq!((cause.kind, cause.words.as_str()), ("NoBuilder", whole));
    // What is typed is a Builder.
    let json = whole.split('\'').nth(1).unwrap();
    let typed: whittle_api::Builder = serde_json::from_str(json).unwrap();
    assert_eq!(typed.name_any(), "fast");
    let cause = no_builder("team", "default");
    says(
        &cause,
        "NoBuilder",
        &[
            "Builder default not found",
            "kubectl annotate imagebuild NAME -n team",
        ],
    );
}

#[test]
fn a_deployment_that_is_gone_or_has_no_pod_is_named() {
    says(
        &why(&Seen::default()),
        "NoDeployment",
        &[NAME, "not found", "-n team"],
    );
    let seen = Seen {
        deployment: Some(deployment(json!({}))),
        ..Seen::default()
    };
    says(&why(&seen), "NoPod", &[NAME, "kubectl describe deployment"]);
}

#[test]
fn a_quota_that_denies_its_pod_is_told_in_its_words() {
    let said = "pods \"x\" is forbidden: exceeded quota: few, requested: pods=1, used: pods=2, limited: pods=2";
    let condition = json!({"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": said});
    let seen = Seen {
        deployment: Some(deployment(json!({"conditions": [condition]}))),
        ..Seen::default()
    };
    let words = ["exceeded quota: few", "kubectl describe quota -n team"];
    says(&why(&seen), "Denied", &words);
}

#[test]
fn a_pod_without_a_node_is_told_in_the_schedulers_words() {
    let condition = json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
        "message": "0/1 nodes are available: 1 Insufficient memory."});
    let cause = of(
        json!({"phase": "Pending", "conditions": [condition]}),
        vec![],
    );
    says(
        &cause,
        "Unschedulable",
        &["Insufficient memory", "kubectl describe pod"],
    );
}

#[test]
fn an_image_that_cannot_be_pulled_is_named_with_its_value() {
    let state =
        json!({"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}});
    let cause = of(container(state, json!({}), 0), vec![]);
    says(&cause, "Pull", &["whittle:1", "Back-off", "runner.image"]);
}

#[test]
fn one_that_crashes_is_told_with_its_exit_code_and_how_often() {
    let last = json!({"terminated": {"exitCode": 137, "reason": "OOMKilled"}});
    let state = json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 5m0s"}});
    let cause = of(container(state, last, 7), vec![]);
    says(
        &cause,
        "Crash",
        &["137", "OOMKilled", "7 restarts", "--previous"],
    );
    let ended = json!({"terminated": {"exitCode": 1, "reason": "Error"}});
    says(
        &of(container(ended, json!({}), 0), vec![]),
        "Crash",
        &["code 1"],
    );
}

#[test]
fn a_secret_of_a_volume_that_does_not_exist_is_named() {
    let event = Told {
        kind: "Pod".into(),
        reason: "FailedMount".into(),
        words: "MountVolume.SetUp failed for volume \"tls\" : secret \"whittle-builder-default-client\" not found".into(),
        at: None,
    };
    let state = json!({"waiting": {"reason": "ContainerCreating"}});
    let cause = of(container(state, json!({}), 0), vec![event]);
    says(
        &cause,
        "Mount",
        &["Secret whittle-builder-default-client not found"],
    );
}

#[test]
fn one_that_runs_does_not_reach_the_controller_and_one_that_starts_is_waited_for() {
    let runs = json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}});
    let cause = of(
        container(runs, json!({"terminated": {"exitCode": 1}}), 1),
        vec![],
    );
    says(&cause, "NotReached", &["kubectl logs", "NetworkPolicies"]);
    let state = json!({"waiting": {"reason": "ContainerCreating"}});
    says(
        &of(container(state, json!({}), 0), vec![]),
        "Starting",
        &["is starting"],
    );
}

#[test]
fn of_several_pods_the_newest_of_its_own_that_stays_counts() {
    let foreign: Pod = serde_json::from_value(
        json!({"metadata": {"name": "whittle-builder-default-watcher-evil"}}),
    )
    .unwrap();
    let mut leaves = named("whittle-builder-default-watcher-5d-old", json!({}));
    leaves.metadata.deletion_timestamp = leaves.metadata.creation_timestamp.clone();
    let found = pod_of(vec![leaves.clone(), foreign.clone(), pod(json!({}))], NAME).unwrap();
    assert_eq!(found.name_any(), "whittle-builder-default-watcher-5d-x");
    assert_eq!(pod_of(vec![foreign], NAME), None);
    assert!(pod_of(vec![leaves.clone()], NAME).is_some());
    // One that does not go holds up the next.
    says(
        &of_pod(&leaves, "team", &[], now()),
        "Terminating",
        &["Terminating"],
    );
}

#[test]
fn the_condition_says_for_how_long_and_what_follows() {
    let cause = find("team", "default", &Seen::default(), now());
    let said = message(&cause, "default", 180);
    for words in [
        "watcher of Builder default",
        "more than 3m",
        "new commits",
        "kubectl",
    ] {
        assert!(said.contains(words), "{said}");
    }
}
