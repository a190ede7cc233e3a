use k8s_openapi::api::apps::v1::StatefulSet;
use serde_json::{Value, json};

use super::*;
use crate::builder::objects::objects;
use crate::fixtures;

fn now() -> Timestamp {
    Timestamp::from_second(1_000_000).unwrap()
}

fn set() -> StatefulSet {
    objects(&fixtures::builder(), &fixtures::settings(), "c").stateful_set
}

fn pod(spec: Value, status: Value) -> Pod {
    let metadata = json!({"name": "whittle-builder-default-0", "namespace": "team"});
    serde_json::from_value(json!({"metadata": metadata, "spec": spec, "status": status})).unwrap()
}

fn told(reason: &str, words: &str, seconds: i64) -> Told {
    Told {
        kind: "StatefulSet".into(),
        reason: reason.into(),
        words: words.into(),
        at: Some(now() + SignedDuration::from_secs(seconds)),
    }
}

fn why(pod: Option<&Pod>, events: &[Told]) -> (Reason, String) {
    let set = set();
    let daemon = Daemon {
        set: &set,
        pod,
        replica: 0,
        replicas: None,
        events,
        too_small: None,
    };
    why_not(&fixtures::builder(), &daemon, now(), now())
}

const REFUSED: &str = r#"create Pod whittle-builder-default-0 in StatefulSet whittle-builder-default failed error: pods "whittle-builder-default-0" is forbidden: violates PodSecurity "baseline:latest": seccompProfile"#;

#[test]
fn a_pod_that_is_refused_says_who_refuses_and_what_to_do() {
    let (reason, message) = why(None, &[told("FailedCreate", REFUSED, -1)]);
    assert_eq!(reason, Reason::PodSecurity);
    assert!(
        message.contains("kubectl label namespace team "),
        "{message}"
    );
}

#[test]
fn a_refusal_of_an_earlier_trouble_is_not_told_again() {
    let (reason, _) = why(None, &[told("FailedCreate", REFUSED, -1800)]);
    assert_eq!(reason, Reason::Starting);
    let set = set();
    let (old, new) = (
        [told("FailedCreate", REFUSED, -1800)],
        [told("FailedCreate", REFUSED, -1)],
    );
    let refused = |events| {
        let daemon = Daemon {
            set: &set,
            pod: None,
            replica: 0,
            replicas: None,
            events,
            too_small: None,
        };
        is_refused(&daemon, now())
    };
    assert!(!refused(&old[..]) && refused(&new[..]));
}

#[test]
fn a_claim_that_is_refused_names_the_quota() {
    let words = r#"create Claim cache-whittle-builder-default-0 for Pod whittle-builder-default-0 in StatefulSet whittle-builder-default failed error: persistentvolumeclaims "cache-whittle-builder-default-0" is forbidden: exceeded quota: q, requested: requests.storage=20Gi, used: requests.storage=0, limited: requests.storage=1Gi"#;
    let (reason, message) = why(None, &[told("FailedCreate", words, 0)]);
    assert_eq!(reason, Reason::QuotaExceeded);
    assert!(
        message.starts_with("the builder's volume is denied"),
        "{message}"
    );
    assert!(message.contains("spec.cache.size"), "{message}");
}

#[test]
fn a_volume_that_does_not_come_says_so_rather_than_that_there_is_no_node() {
    let pod = pod(
        json!({"containers": []}),
        json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
            "message": "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims."}]}),
    );
    let binding = "no persistent volumes available for this claim and no storage class is set";
    let (reason, message) = why(Some(&pod), &[told("FailedBinding", binding, 0)]);
    assert_eq!(reason, Reason::VolumePending);
    for words in [
        binding,
        "is-default-class=true",
        "kubectl delete builder default -n team",
    ] {
        assert!(message.contains(words), "{message}");
    }
    let (reason, _) = why(Some(&pod), &[]);
    assert_eq!(reason, Reason::Unschedulable);
}

#[test]
fn a_storage_class_that_does_not_exist_is_named() {
    let mut builder = fixtures::builder();
    builder.spec.cache.storage_class_name = Some("nosuch".into());
    let (set, pod) = (
        set(),
        pod(json!({"containers": []}), json!({"phase": "Pending"})),
    );
    let words = r#"storageclass.storage.k8s.io "nosuch" not found"#;
    let daemon = Daemon {
        set: &set,
        pod: Some(&pod),
        replica: 0,
        replicas: None,
        events: &[told("ProvisioningFailed", words, 0)],
        too_small: None,
    };
    let (reason, message) = why_not(&builder, &daemon, now(), now());
    assert_eq!(reason, Reason::VolumePending);
    assert!(
        message.contains("StorageClass nosuch") && message.contains(words),
        "{message}"
    );
}

#[test]
fn a_node_that_does_not_exist_is_told_in_the_schedulers_words() {
    let pod = pod(
        json!({"containers": []}),
        json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
            "message": "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector."}]}),
    );
    let (reason, message) = why(Some(&pod), &[]);
    assert_eq!(reason, Reason::Unschedulable);
    for words in ["node affinity/selector", "spec.nodeSelector"] {
        assert!(message.contains(words), "{message}");
    }
}

#[test]
fn an_image_that_cannot_be_pulled_is_named_at_once() {
    let pod = pod(
        json!({"containers": [], "nodeName": "a"}),
        json!({"phase": "Pending", "containerStatuses": [{"name": "buildkitd", "image": "nosuch:1", "imageID": "", "ready": false,
            "restartCount": 0, "state": {"waiting": {"reason": "ErrImagePull", "message": "nosuch:1: not found"}}}]}),
    );
    let (reason, message) = why(Some(&pod), &[]);
    assert_eq!(reason, FailureReason::ImagePullFailed.into());
    assert!(
        message.contains("image pull failed for nosuch:1: nosuch:1: not found"),
        "{message}"
    );
}

#[test]
fn a_pod_that_does_not_go_is_told_with_what_holds_it() {
    let mut going = pod(
        json!({"containers": [], "nodeName": "worker"}),
        json!({"phase": "Running"}),
    );
    let at = |seconds| {
        let time = now() + SignedDuration::from_secs(seconds);
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(time))
    };
    going.metadata.deletion_timestamp = at(10);
    assert_eq!(why(Some(&going), &[]).0, Reason::Starting);
    going.metadata.deletion_timestamp = at(-60);
    let (reason, message) = why(Some(&going), &[]);
    assert_eq!(reason, Reason::PodTerminating);
    assert!(
        message.contains(
            "kubectl delete pod whittle-builder-default-0 -n team --grace-period=0 --force"
        ),
        "{message}"
    );
    going.metadata.finalizers = Some(vec!["example.com/hold".into()]);
    let (_, message) = why(Some(&going), &[]);
    assert!(
        message.contains("example.com/hold") && !message.contains("--force"),
        "{message}"
    );
}

#[test]
fn a_volume_that_cannot_be_mounted_is_told_in_the_kubelets_words() {
    let pod = pod(
        json!({"containers": [], "nodeName": "a"}),
        json!({"phase": "Pending"}),
    );
    let words = r#"Multi-Attach error for volume "pvc-1" Volume is already exclusively attached to one node and can't be attached to another"#;
    let (reason, message) = why(Some(&pod), &[told("FailedAttachVolume", words, 0)]);
    assert_eq!((reason, message.as_str()), (Reason::MountFailed, words));
}

/// The states that a kubelet gives a Builder's Pod: of its init container, and of the daemon's.
fn statuses(init: Value, last: Value) -> Pod {
    let status = json!({"phase": "Pending",
        "conditions": [
            {"type": "PodReadyToStartContainers", "status": "True"},
            {"type": "Initialized", "status": "False", "reason": "ContainersNotInitialized",
             "message": "containers with incomplete status: [tools]"},
            {"type": "PodScheduled", "status": "True"}],
        "initContainerStatuses": [{"name": "tools", "image": "registry.example.com/whittle:0.2.0", "imageID": "",
            "ready": false, "restartCount": 0, "started": false, "state": init, "lastState": last}],
        "containerStatuses": [{"name": "buildkitd", "image": "moby/buildkit:rootless", "imageID": "", "ready": false,
            "restartCount": 0, "started": false, "lastState": {},
            "state": {"waiting": {"reason": "PodInitializing"}}}]});
    pod(json!({"containers": [], "nodeName": "a"}), status)
}

#[test]
fn an_image_of_the_init_container_that_cannot_be_pulled_is_named_with_its_value() {
    for reason in ["ErrImagePull", "ImagePullBackOff"] {
        let waiting = json!({"waiting": {"reason": reason, "message": "Back-off pulling image"}});
        let (told, message) = why(Some(&statuses(waiting, json!({}))), &[]);
        assert_eq!(told, FailureReason::ImagePullFailed.into());
        for words in [
            "image pull failed for registry.example.com/whittle:0.2.0 of init container tools",
            "runner.image of the chart",
        ] {
            assert!(message.contains(words), "{message}");
        }
    }
}

#[test]
fn a_pod_with_an_init_container_waits_for_its_volumes_until_that_has_run() {
    use crate::imagebuild::outcome::waits_for_volumes;
    let state = |init| statuses(init, json!({}));
    let fresh = state(json!({"waiting": {"reason": "PodInitializing"}}));
    assert!(waits_for_volumes(&fresh));
    for init in [
        json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}}),
        json!({"terminated": {"exitCode": 0, "reason": "Completed"}}),
        json!({"waiting": {"reason": "ImagePullBackOff"}}),
    ] {
        assert!(!waits_for_volumes(&state(init)));
    }
    let words =
        r#"MountVolume.SetUp failed for volume "registry-ca-0" : configmap "corp-ca" not found"#;
    let (reason, message) = why(Some(&fresh), &[told("FailedMount", words, 0)]);
    assert_eq!(reason, FailureReason::SecretNotFound.into());
    assert!(
        message.starts_with("ConfigMap corp-ca not found"),
        "{message}"
    );
}

#[test]
fn an_init_container_that_fails_is_told_with_its_log_and_its_image() {
    let back_off = json!({"waiting": {"reason": "CrashLoopBackOff",
        "message": "back-off 10s restarting failed container=tools pod=whittle-builder-default-0_team(u)"}});
    let ended = json!({"terminated": {"exitCode": 2, "reason": "Error", "startedAt": "2026-01-01T00:00:00Z",
        "finishedAt": "2026-01-01T00:00:00Z", "containerID": "containerd://a"}});
    for pod in [
        statuses(back_off.clone(), ended.clone()),
        statuses(ended, json!({})),
    ] {
        let (reason, message) = why(Some(&pod), &[]);
        assert_eq!(reason, Reason::CrashLoop);
        for words in [
            "init container tools keeps crashing (CrashLoopBackOff), last with exit code 2 (Error)",
            "kubectl logs whittle-builder-default-0 -c tools",
            "runner.image of the chart (registry.example.com/whittle:0.2.0)",
        ] {
            assert!(message.contains(words), "{message}");
        }
    }
    let never = json!({"terminated": {"exitCode": 128, "reason": "StartError", "startedAt": "1970-01-01T00:00:00Z",
        "finishedAt": "2026-01-01T00:00:00Z", "containerID": "containerd://a",
        "message": "exec: \"install\": executable file not found in $PATH"}});
    let (reason, message) = why(Some(&statuses(back_off, never)), &[]);
    assert_eq!(reason, Reason::CrashLoop);
    assert!(message.contains("executable file not found"), "{message}");
}

#[test]
fn a_container_that_its_node_cannot_start_is_told_in_the_kubelets_words() {
    let waiting = json!({"waiting": {"reason": "CreateContainerConfigError",
        "message": "container has runAsNonRoot and image will run as root"}});
    let (reason, message) = why(Some(&statuses(waiting, json!({}))), &[]);
    assert_eq!(reason, Reason::CreateContainerConfigError);
    assert!(
        message.starts_with("init container tools failed to start on its node"),
        "{message}"
    );
    assert!(message.contains("image will run as root"), "{message}");
}

fn refused(code: u16, message: &str) -> crate::refusal::Refusal {
    use crate::refusal::{Object, Refusal, Verb};
    let object = Object {
        verb: Verb::Apply,
        kind: "StatefulSet".into(),
        namespace: "team".into(),
        name: "whittle-builder-default".into(),
    };
    let what = "applying StatefulSet team/whittle-builder-default";
    Refusal::of(what, Some(object), code, message).unwrap()
}

#[test]
fn a_volume_that_cannot_be_changed_says_how_to_begin_anew() {
    let mut status = whittle_api::BuilderStatus::default();
    let message = r#"StatefulSet.apps "whittle-builder-default" is invalid: spec: Forbidden: updates to statefulset spec for fields other than 'replicas' are forbidden"#;
    let builder = fixtures::builder();
    super::super::say_refused(&mut status, &builder, None, &refused(422, message), now());
    let stalled = whittle_api::find(&status.conditions, "Stalled").unwrap();
    assert_eq!(stalled.reason, "Rejected");
    assert!(
        stalled
            .message
            .contains("kubectl delete builder default -n team"),
        "{}",
        stalled.message
    );
}

#[test]
fn a_daemon_that_is_up_takes_builds_though_an_object_of_its_builder_is_refused() {
    let policy = refused(
        422,
        "statefulsets is forbidden: ValidatingAdmissionPolicy 'p' denied request: no label",
    );
    let mut up = set();
    up.status = Some(k8s_openapi::api::apps::v1::StatefulSetStatus {
        replicas: 1,
        ready_replicas: Some(1),
        updated_replicas: Some(1),
        ..Default::default()
    });
    let (mut builder, mut status) = (fixtures::builder(), whittle_api::BuilderStatus::default());
    let daemon = Daemon {
        set: &up,
        pod: None,
        replica: 0,
        replicas: None,
        events: &[],
        too_small: None,
    };
    super::super::say(&mut status, &builder, &daemon, now());
    status.certificates = Some(fixtures::certificates());
    builder.status = Some(status.clone());
    let mut still = status.clone();
    super::super::say_refused(&mut still, &builder, Some(&up), &policy, now());
    builder.status = Some(still);
    assert!(crate::imagebuild::decide::is_ready(&builder));
    let conditions = &builder.status.as_ref().unwrap().conditions;
    let told = whittle_api::find(conditions, "Reconciling").unwrap();
    assert_eq!(told.reason, "AdmissionDenied");
    // One that is not up takes none.
    let mut down = status.clone();
    super::super::say_refused(&mut down, &builder, Some(&set()), &policy, now());
    assert!(!whittle_api::is_true(&down.conditions, "Ready"));
}

#[test]
fn what_makes_no_user_namespace_is_told_with_its_words_and_a_fix() {
    let ended = |code: i32, message: &str| {
        json!({"containerStatuses": [{"name": "buildkitd", "image": "b", "imageID": "", "ready": false, "restartCount": 1,
            "state": {"waiting": {"reason": "CrashLoopBackOff"}},
            "lastState": {"terminated": {"exitCode": code, "reason": "Error", "message": message}}}]})
    };
    let spec = json!({"nodeName": "n", "containers": []});
    let log = "[rootlesskit:child ] error: failed to share mount point: /: permission denied\n\
        [rootlesskit:parent] error: child exited: exit status 1\n";
    let (reason, message) = why(Some(&pod(spec.clone(), ended(1, log))), &[]);
    assert_eq!(reason, Reason::CrashLoop);
    assert!(message.contains("failed to share mount point"), "{message}");
    assert!(message.contains("builder.appArmorProfile"), "{message}");
    // The daemon's own end is another matter.
    let log = "panic\n[rootlesskit:child ] error: command [buildkitd] exited: exit status 2\n";
    let (_, message) = why(Some(&pod(spec.clone(), ended(1, log))), &[]);
    assert!(!message.contains("rootlesskit"), "{message}");
    let log = "whittle: isolation: a step cannot be started on this node: keyctl: denied\n";
    let (reason, message) = why(Some(&pod(spec, ended(78, log))), &[]);
    assert_eq!(reason, Reason::NotIsolated);
    assert_eq!(
        message,
        "a step cannot be started on this node: keyctl: denied"
    );
}
