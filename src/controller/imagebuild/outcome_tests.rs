use super::*;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;
use whittle_build::report::{Built, encode};

const JOB: &str = "33333333-3333-3333-3333-333333333333";
const OWNER: &str = "11111111-1111-1111-1111-111111111111";

fn now() -> Timestamp {
    Timestamp::from_second(1_000_000).unwrap()
}

fn job(status: serde_json::Value) -> Job {
    serde_json::from_value(json!({
        "metadata": {"name": "j", "uid": JOB, "ownerReferences": [{"apiVersion": "whittle.dev/v1alpha1", "kind": "ImageBuild", "name": "hello", "uid": OWNER}]},
        "status": status,
    }))
    .unwrap()
}

fn pod(status: serde_json::Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": "j-x", "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": JOB, "controller": true}], "creationTimestamp": "1970-01-12T13:46:39Z"},
        "spec": {"containers": [{"name": "runner", "resources": {"limits": {"memory": "64Mi"}}}]},
        "status": status,
    }))
    .unwrap()
}

fn terminated(state: serde_json::Value) -> Pod {
    pod(json!({"phase": "Failed", "containerStatuses": [
        {"name": "runner", "image": "w", "imageID": "", "ready": false, "restartCount": 0, "state": {"terminated": state}}]}))
}

fn told(reason: &str, words: &str) -> Told {
    Told {
        kind: "Pod".into(),
        reason: reason.into(),
        words: words.into(),
        at: None,
    }
}

fn judge(job: Option<&Job>, pod: Option<&Pod>) -> State {
    state(
        &Seen {
            owner: OWNER,
            job,
            pod,
            ..Seen::default()
        },
        now(),
    )
}

fn reason(state: State) -> FailureReason {
    match state {
        State::Ended(Report::Failed(failed)) => failed.failure.reason,
        other => panic!("not failed: {other:?}"),
    }
}

fn success() -> Report {
    Report::Succeeded(Built {
        digest: "sha256:1".into(),
        ..Built::default()
    })
}

#[test]
fn a_report_in_the_termination_message_is_the_result() {
    let pod = terminated(json!({"exitCode": 0, "message": encode(&success())}));
    assert_eq!(
        judge(Some(&job(json!({}))), Some(&pod)),
        State::Ended(success())
    );
}

#[test]
fn an_early_report_counts_before_the_pod_has_ended() {
    let (job, pod, report) = (
        job(json!({"active": 1})),
        pod(json!({"phase": "Running"})),
        success(),
    );
    let seen = Seen {
        owner: OWNER,
        job: Some(&job),
        pod: Some(&pod),
        report: Some(&report),
        ..Seen::default()
    };
    assert_eq!(state(&seen, now()), State::Told(success()));
}

#[test]
fn what_the_pod_has_ended_with_counts_more_than_an_early_report() {
    let record = failed(FailureReason::StepFailed, "m".into());
    let ended = terminated(json!({"exitCode": 1, "message": encode(&record)}));
    let evicted = pod(json!({"phase": "Failed", "reason": "Evicted"}));
    let (job, report) = (job(json!({})), success());
    for (pod, state) in [
        (Some(&ended), State::Ended(record)),
        // Nobody can know.
        (Some(&evicted), State::Told(success())),
        (None, State::Told(success())),
    ] {
        let seen = Seen {
            owner: OWNER,
            job: Some(&job),
            pod,
            report: Some(&report),
            ..Seen::default()
        };
        assert_eq!(super::state(&seen, now()), state);
    }
}

#[test]
fn the_record_of_a_pod_is_its_message_or_its_death() {
    let said = |pod: &Pod| match record(Some(pod)) {
        Record::Said { report, .. } => Some(*report),
        _ => None,
    };
    assert_eq!(
        record(Some(&pod(json!({"phase": "Running"})))),
        Record::Pending
    );
    assert_eq!(record(None), Record::Gone);
    let evicted = pod(json!({"phase": "Failed", "reason": "Evicted"}));
    assert_eq!(record(Some(&evicted)), Record::Gone);
    let ended = terminated(json!({"exitCode": 0, "message": encode(&success())}));
    assert_eq!(said(&ended), Some(success()));
    // It has ended by itself: the message did not get through.
    assert_eq!(
        record(Some(&terminated(json!({"exitCode": 0})))),
        Record::Gone
    );
    // It was killed before it had a result.
    for end in [
        json!({"exitCode": 143}),
        json!({"exitCode": 137, "reason": "OOMKilled"}),
    ] {
        assert!(matches!(said(&terminated(end)), Some(Report::Failed(_))));
    }
    let garbage = terminated(json!({"exitCode": 0, "message": "garbage"}));
    assert!(matches!(said(&garbage), Some(Report::Failed(_))));
}

#[test]
fn only_a_pod_of_the_attempt_that_has_not_ended_can_speak() {
    let owned = job(json!({}));
    let running = pod(json!({"phase": "Running"}));
    assert!(runs(&owned, OWNER, std::slice::from_ref(&running)));
    assert!(!runs(
        &owned,
        "somebody-else",
        std::slice::from_ref(&running)
    ));
    assert!(!runs(&owned, OWNER, &[]));
    let mut going = running.clone();
    going.metadata.deletion_timestamp = Some(Time(now()));
    let mut foreign = running.clone();
    foreign.metadata.owner_references = None;
    let over = pod(json!({"phase": "Succeeded"}));
    let ended = terminated(json!({"exitCode": 0}));
    for pod in [going, foreign, over, ended] {
        assert!(!runs(&owned, OWNER, &[pod]));
    }
}

#[test]
fn an_evicted_pod_is_never_a_success() {
    let pod = pod(
        json!({"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."}),
    );
    assert_eq!(
        reason(judge(Some(&job(json!({}))), Some(&pod))),
        FailureReason::RunnerLost
    );
}

#[test]
fn a_killed_runner_with_exit_code_0_and_no_report_is_out_of_memory() {
    let pod = terminated(json!({"exitCode": 0, "reason": "OOMKilled"}));
    let State::Ended(Report::Failed(failed)) = judge(Some(&job(json!({}))), Some(&pod)) else {
        panic!()
    };
    assert_eq!(failed.failure.reason, FailureReason::OutOfMemory);
    assert!(
        failed.failure.message.contains("64Mi"),
        "{}",
        failed.failure.message
    );
}

#[test]
fn an_exit_without_report_is_a_lost_runner() {
    let pod = terminated(json!({"exitCode": 0, "reason": "Completed"}));
    assert_eq!(
        reason(judge(Some(&job(json!({}))), Some(&pod))),
        FailureReason::RunnerLost
    );
}

#[test]
fn a_job_past_its_deadline_is_a_timeout() {
    let job = job(
        json!({"conditions": [{"type": "Failed", "status": "True", "reason": "DeadlineExceeded"}]}),
    );
    assert_eq!(reason(judge(Some(&job), None)), FailureReason::Timeout);
}

#[test]
fn a_source_that_fills_the_scratch_folder_is_told_and_not_tried_again() {
    let mut pod = terminated(json!({"exitCode": 143}));
    let status = pod.status.as_mut().unwrap();
    status.phase = Some("Failed".into());
    status.reason = Some("Evicted".into());
    status.message =
        Some("Usage of EmptyDir volume \"scratch\" exceeds the limit \"8Gi\". ".into());
    let state = judge(Some(&job(json!({}))), Some(&pod));
    let State::Ended(Report::Failed(failed)) = &state else {
        panic!("{state:?}");
    };
    assert!(
        failed.failure.message.contains("runner.scratchSize")
            && failed.failure.message.contains("the limit \"8Gi\""),
        "{}",
        failed.failure.message
    );
    let why = reason(state);
    assert_eq!(why, FailureReason::SourceTooLarge);
    assert!(!why.is_transient());
}

#[test]
fn a_job_whose_pod_was_deleted_is_a_lost_runner() {
    let job = job(
        json!({"conditions": [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}]}),
    );
    assert_eq!(reason(judge(Some(&job), None)), FailureReason::RunnerLost);
}

#[test]
fn a_runner_that_waited_and_was_ended_before_a_build_began_has_built_nothing() {
    let ended = |code: i32, message: &str| {
        let terminated = json!({"exitCode": code, "reason": "Error", "message": message});
        let container = json!({"name": "runner", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": {"terminated": terminated}});
        pod(json!({"phase": "Failed", "containerStatuses": [container]}))
    };
    let failed_job =
        json!({"conditions": [{"type": "Failed", "status": "True", "reason": "DeadlineExceeded"}]});
    for job in [job(json!({})), job(failed_job)] {
        assert_eq!(judge(Some(&job), Some(&ended(UNTAKEN, ""))), State::Untaken);
    }
    let job = job(json!({}));
    let other = reason(judge(Some(&job), Some(&ended(1, ""))));
    assert_eq!(other, FailureReason::RunnerLost);
}

#[test]
fn a_job_of_another_owner_is_foreign() {
    let mut job = job(json!({}));
    job.metadata.owner_references = None;
    assert_eq!(judge(Some(&job), None), State::Foreign);
}

#[test]
fn a_job_that_is_being_deleted_is_leaving() {
    let mut job = job(json!({}));
    job.metadata.deletion_timestamp =
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now()));
    assert_eq!(judge(Some(&job), None), State::Leaving);
}

#[test]
fn a_missing_secret_is_named_and_blocks() {
    let (job, pod) = (job(json!({"active": 1})), pod(json!({"phase": "Pending"})));
    let failures = [told(
        "FailedMount",
        r#"MountVolume.SetUp failed for volume "git" : secret "git-credentials" not found"#,
    )];
    let seen = Seen {
        owner: OWNER,
        job: Some(&job),
        pod: Some(&pod),
        events: &failures,
        report: None,
    };
    let State::Pending(pending) = state(&seen, now()) else {
        panic!()
    };
    assert!(pending.blocked);
    assert_eq!(pending.reason, FailureReason::SecretNotFound.into());
    assert!(
        pending.message.contains("Secret git-credentials not found"),
        "{}",
        pending.message
    );
}

#[test]
fn a_missing_key_of_a_secret_is_named() {
    let message = r#"MountVolume.SetUp failed for volume "secret-0" : references non-existent secret key: .npmrc"#;
    let found = |message: &str| {
        let found = missing_object(message).unwrap();
        (found.reason, found.message)
    };
    assert_eq!(
        found(message),
        (
            FailureReason::SecretNotFound.into(),
            "key .npmrc not found in the Secret of volume secret-0".to_owned()
        )
    );
    let message =
        r#"MountVolume.SetUp failed for volume "source" : configmap "hello-source" not found"#;
    assert_eq!(
        found(message),
        (
            FailureReason::SourceNotFound.into(),
            "ConfigMap hello-source not found".to_owned()
        )
    );
    let message = r#"MountVolume.SetUp failed for volume "source" : configmap references non-existent config key: main.go"#;
    assert_eq!(found(message).0, FailureReason::SourceNotFound.into());
    assert_eq!(missing_object("timed out waiting for the condition"), None);
}

#[test]
fn an_image_that_cannot_be_pulled_waits_for_a_grace_period_and_then_fails_with_its_name() {
    let mut pod = pod(json!({"phase": "Pending", "containerStatuses": [
        {"name": "runner", "image": "whittle:9", "imageID": "", "ready": false, "restartCount": 0,
         "state": {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}}]}));
    let job = job(json!({"active": 1}));
    assert!(matches!(
        judge(Some(&job), Some(&pod)),
        State::Pending(Pending { blocked: true, .. })
    ));
    pod.metadata.creation_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
        now() - PULL_GRACE - SignedDuration::from_secs(1),
    ));
    let State::Ended(Report::Failed(failed)) = judge(Some(&job), Some(&pod)) else {
        panic!()
    };
    assert_eq!(failed.failure.reason, FailureReason::ImagePullFailed);
    assert!(failed.failure.message.contains("whittle:9"));
}

#[test]
fn an_unschedulable_pod_waits_with_the_schedulers_words() {
    let pod = pod(json!({"phase": "Pending", "conditions": [
        {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes are available"}]}));
    let State::Pending(pending) = judge(Some(&job(json!({"active": 1}))), Some(&pod)) else {
        panic!()
    };
    assert_eq!(pending.reason, Reason::Unschedulable);
    assert!(pending.message.contains("0/1 nodes"));
}

#[test]
fn a_runners_pod_that_is_refused_says_so_with_the_cure() {
    let job = job(json!({}));
    let events = [told(
        "FailedCreate",
        r#"Error creating: pods "j-x" is forbidden: exceeded quota: q, requested: pods=1, used: pods=10, limited: pods=10"#,
    )];
    let seen = Seen {
        owner: OWNER,
        job: Some(&job),
        events: &events,
        ..Seen::default()
    };
    let State::Pending(pending) = state(&seen, now()) else {
        panic!()
    };
    assert!(pending.blocked);
    assert_eq!(pending.reason, Reason::QuotaExceeded);
    for words in [
        "exceeded quota: q",
        "kubectl describe quota",
        "runner.resources",
    ] {
        assert!(pending.message.contains(words), "{}", pending.message);
    }
}

#[test]
fn a_missing_object_is_kept_by_its_kind_and_name() {
    let missing = |words: &str| missing_object(words).unwrap().missing;
    assert_eq!(
        missing(r#"MountVolume.SetUp failed for volume "a" : secret "npm" not found"#),
        Some(Missing {
            kind: MissingKind::Secret,
            name: "npm".into()
        })
    );
    // The object is there, and its key is not.
    let key = r#"MountVolume.SetUp failed for volume "a" : references non-existent secret key: b"#;
    assert_eq!(missing(key), None);
    let pending = Pending {
        missing: missing(r#"configmap "c" not found"#),
        ..Pending::new(FailureReason::SourceNotFound, "m".into()).blocked()
    };
    let kept = pending.waiting().unwrap().missing.unwrap();
    assert_eq!(
        (kept.kind, kept.name.as_str()),
        (MissingKind::ConfigMap, "c")
    );
}

#[test]
fn what_the_scheduler_fails_at_is_told_as_well() {
    let pod = pod(json!({"phase": "Pending", "conditions": [
        {"type": "PodScheduled", "status": "False", "reason": "SchedulerError", "message": "storageclass.storage.k8s.io \"nosuch\" not found"}]}));
    let State::Pending(pending) = judge(Some(&job(json!({}))), Some(&pod)) else {
        panic!()
    };
    assert!(pending.message.contains("nosuch"), "{}", pending.message);
}

#[test]
fn a_conflict_of_the_scheduler_is_nobodys_to_mend() {
    let pod = pod(json!({"phase": "Pending", "conditions": [
        {"type": "PodScheduled", "status": "False", "reason": "SchedulerError", "message": "running PreBind plugin \"VolumeBinding\": \
            Operation cannot be fulfilled on persistentvolumeclaims \"c\": the object has been modified; please apply your changes"}]}));
    assert_eq!(unschedulable(&pod), None);
}

fn suspended_job(labels: serde_json::Value) -> Job {
    let mut job = job(json!({}));
    job.metadata.namespace = Some("team".into());
    job.metadata.labels = serde_json::from_value(labels).unwrap();
    job.spec = serde_json::from_value(json!({"suspend": true, "template": {}})).unwrap();
    job
}

#[test]
fn a_suspended_job_waits_in_its_queue_whatever_becomes_of_its_pod() {
    let job = suspended_job(json!({"kueue.x-k8s.io/queue-name": "builds"}));
    let killed = terminated(json!({"exitCode": 143, "reason": "Error"}));
    for pod in [None, Some(&pod(json!({"phase": "Running"}))), Some(&killed)] {
        let State::Suspended(why) = judge(Some(&job), pod) else {
            panic!("not suspended: {:?}", judge(Some(&job), pod));
        };
        assert!(why.starts_with("waits in queue builds of Kueue"), "{why}");
    }
    let State::Suspended(why) = judge(Some(&suspended_job(json!({}))), None) else {
        panic!("not suspended");
    };
    assert!(why.contains("kubectl patch job j -n team"), "{why}");
    // What its runner had written by then counts.
    let written = terminated(json!({"exitCode": 0, "message": encode(&success())}));
    assert!(matches!(
        judge(Some(&job), Some(&written)),
        State::Ended(Report::Succeeded(_))
    ));
    let mut ended = job;
    ended.status = serde_json::from_value(
        json!({"conditions": [{"type": "Failed", "status": "True", "reason": "DeadlineExceeded"}]}),
    )
    .unwrap();
    assert_eq!(reason(judge(Some(&ended), None)), FailureReason::Timeout);
}
