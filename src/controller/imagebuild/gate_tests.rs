use k8s_openapi::jiff::SignedDuration;
use serde_json::{Value, json};

use super::*;
use crate::{fixtures, names};
use whittle_api::RunAs;

fn now() -> Timestamp {
    Timestamp::from_second(1_000_000).unwrap()
}

fn check() -> HealthCheck {
    serde_json::from_value(
        json!({"httpGet": {"path": "/healthz", "port": 8080}, "timeoutSeconds": 10,
        "args": ["serve"], "env": [{"name": "MODE", "value": "check"}]}),
    )
    .unwrap()
}

fn platform() -> PlatformStatus {
    serde_json::from_value(json!({"platform": "linux/amd64/v3", "digest": "sha256:bb", "size": 1}))
        .unwrap()
}

fn name() -> String {
    names::child("hello-0123456789", &platform().platform)
}

fn job_of_check() -> Job {
    let build = fixtures::inline();
    let mut job = job(&build, &check(), name(), 3, &platform());
    job.metadata.uid = Some("j".into());
    job
}

fn pod(conditions: Value, state: Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": "hello-1", "creationTimestamp": "1970-01-12T13:46:30Z"},
        "status": {"phase": "Running", "conditions": conditions, "containerStatuses": [
            {"name": "image", "image": "hello", "imageID": "", "ready": false, "restartCount": 0, "state": state}]}}))
    .unwrap()
}

fn seen(pod: Option<&Pod>) -> State {
    seen_to_run(pod, 0)
}

fn seen_to_run(pod: Option<&Pod>, seconds: i64) -> State {
    let job = job_of_check();
    let build = fixtures::inline();
    let seen = Seen {
        owner: build.metadata.uid.as_deref().unwrap(),
        job: Some(&job),
        pod,
        ran: SignedDuration::from_secs(seconds),
        refused: None,
    };
    state(&seen, &check(), now())
}

fn failure_of(state: Value) -> String {
    match seen(Some(&pod(json!([]), state))) {
        State::Failed { message, .. } => message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_job_of_a_check_is_restricted_and_goes_by_itself() {
    insta::assert_yaml_snapshot!("check-job", job_of_check());
}

#[test]
fn a_user_by_name_runs_by_its_number_and_root_stays_refused() {
    let user = |contents: Value| {
        let mut platform = platform();
        let mut all = json!({"base": "Scratch", "starts": "Yes", "root": false, "shell": false,
            "packageManager": false, "caCertificates": false, "timeZones": false, "writableTmp": false,
            "setuidFiles": 0, "files": 1, "unpackedSize": 1});
        json_patch::merge(&mut all, &contents);
        platform.contents = serde_json::from_value(all).unwrap();
        let job = job(&fixtures::inline(), &check(), name(), 1, &platform);
        let pod = job.spec.unwrap().template.spec.unwrap();
        pod.security_context.unwrap().run_as_user
    };
    assert_eq!(
        user(json!({"user": "nobody", "userId": 65534})),
        Some(65534)
    );
    assert_eq!(user(json!({"user": "root", "userId": 0})), None);
    assert_eq!(user(json!({"userId": 0})), None);
}

fn of_root() -> PlatformStatus {
    let contents = json!({"base": "Scratch", "starts": "Yes", "root": true, "shell": false,
        "packageManager": false, "caCertificates": false, "timeZones": false, "writableTmp": false,
        "setuidFiles": 0, "files": 1, "unpackedSize": 1});
    PlatformStatus {
        contents: serde_json::from_value(contents).unwrap(),
        ..platform()
    }
}

#[test]
fn an_image_of_root_runs_as_another_user_unless_it_is_to_run_as_it_says() {
    let pod = |check: &HealthCheck| {
        let job = job(&fixtures::inline(), check, name(), 1, &of_root());
        job.spec.unwrap().template.spec.unwrap()
    };
    let restricted = pod(&check()).security_context.unwrap();
    assert_eq!(
        (restricted.run_as_non_root, restricted.run_as_user),
        (Some(true), Some(USER))
    );
    let as_it_says = HealthCheck {
        run_as: Some(RunAs::Image),
        ..check()
    };
    let pod = pod(&as_it_says);
    let root = pod.security_context.unwrap();
    assert_eq!((root.run_as_non_root, root.run_as_user), (None, None));
    assert!(root.seccomp_profile.is_some());
    let own = pod.containers[0].security_context.clone().unwrap();
    assert_eq!(
        (own.capabilities, own.allow_privilege_escalation),
        (None, Some(false))
    );
    // Where it fails as another user, that is said.
    let failed = State::Failed {
        how: How::Ended,
        message: "the container exited with code 1 before it was Ready".into(),
        log: None,
    };
    let State::Failed { message, .. } = as_another_user(&check(), &of_root(), failed.clone())
    else {
        panic!()
    };
    assert!(
        message.contains("run as user 65532") && message.contains("runAs: Image"),
        "{message}"
    );
    for (check, platform) in [(as_it_says, of_root()), (check(), platform())] {
        assert_eq!(as_another_user(&check, &platform, failed.clone()), failed);
    }
}

#[test]
fn a_program_that_ends_is_judged_by_its_exit_code_and_what_it_printed() {
    let check = serde_json::from_value::<HealthCheck>(
        json!({"run": {"args": ["--version"], "exitCode": 2, "stdout": "1.2"}, "timeoutSeconds": 10}),
    )
    .unwrap();
    let job = job(&fixtures::inline(), &check, name(), 1, &platform());
    let container = job
        .spec
        .as_ref()
        .unwrap()
        .template
        .spec
        .as_ref()
        .unwrap()
        .containers[0]
        .clone();
    assert_eq!(container.args.unwrap(), ["--version"]);
    assert!(container.readiness_probe.is_none());
    let build = fixtures::inline();
    let seen = |state: Value, ran: i64| {
        // Without a probe it is Ready as long as it runs.
        let ready = json!([{"type": "Ready", "status": "True", "lastTransitionTime": "1970-01-12T13:46:38Z"}]);
        let pod = pod(ready, state);
        let seen = Seen {
            owner: build.metadata.uid.as_deref().unwrap(),
            job: Some(&job),
            pod: Some(&pod),
            ran: SignedDuration::from_secs(ran),
            refused: None,
        };
        super::state(&seen, &check, now())
    };
    let running = json!({"running": {"startedAt": "1970-01-12T13:46:36Z"}});
    assert!(matches!(seen(running.clone(), 1), State::Waiting { .. }));
    assert!(matches!(
        seen(running, 10),
        State::Failed {
            how: How::TimedOut,
            ..
        }
    ));
    let ended = |code: i32, reason: &str| json!({"terminated": {"exitCode": code, "reason": reason, "startedAt": "1970-01-12T13:46:36Z", "finishedAt": "1970-01-12T13:46:39Z"}});
    assert_eq!(seen(ended(2, "Error"), 3), State::Ended { seconds: 3 });
    for (state, words) in [
        (
            ended(0, "Completed"),
            "ended with exit code 0, and has to end with 2",
        ),
        (ended(2, "OOMKilled"), "raise healthCheck.memory"),
        (ended(128, "StartError"), "failed to start"),
    ] {
        let State::Failed { message, .. } = seen(state, 3) else {
            panic!()
        };
        assert!(message.contains(words), "{message}");
    }
    assert_eq!(printed(3, "1.2", "v1.2.3\n"), State::Passed { seconds: 3 });
    assert!(matches!(printed(3, "1.2", "v2\n"), State::Failed { .. }));
}

#[test]
fn a_pod_that_is_ready_passes_with_the_time_that_it_took() {
    let ready =
        json!([{"type": "Ready", "status": "True", "lastTransitionTime": "1970-01-12T13:46:38Z"}]);
    let running = json!({"running": {"startedAt": "1970-01-12T13:46:36Z"}});
    assert_eq!(
        seen(Some(&pod(ready.clone(), running))),
        State::Passed { seconds: 2 }
    );
    // What was Ready and has ended since is no pass.
    let ended = json!({"terminated": {"exitCode": 1, "reason": "Error"}});
    assert!(matches!(
        seen(Some(&pod(ready, ended))),
        State::Failed { .. }
    ));
}

#[test]
fn a_container_that_runs_has_its_time_and_no_more() {
    // What its node's clock says does not count.
    let pod = pod(
        json!([]),
        json!({"running": {"startedAt": "1970-01-12T13:46:30Z"}}),
    );
    let State::Waiting { left, .. } = seen_to_run(Some(&pod), 4) else {
        panic!()
    };
    assert_eq!(left, Some(SignedDuration::from_secs(6)));
    let State::Failed { message, .. } = seen_to_run(Some(&pod), 10) else {
        panic!()
    };
    assert_eq!(message, "timed out: not Ready within 10 s");
}

#[test]
fn a_container_that_ended_says_how() {
    let ended = |code: i32, reason: &str| json!({"terminated": {"exitCode": code, "reason": reason, "message": "exec /app: no such file"}});
    for (state, words) in [
        (ended(3, "Error"), "exited with code 3"),
        (
            ended(0, "Completed"),
            "exited with code 0 before it was Ready",
        ),
        (ended(137, "OOMKilled"), "raise healthCheck.memory"),
        (
            ended(128, "StartError"),
            "failed to start: exec /app: no such file",
        ),
    ] {
        let message = failure_of(state);
        assert!(message.contains(words), "{message}");
    }
}

#[test]
fn a_container_that_fills_its_nodes_disk_fails_its_check() {
    let mut pod = pod(
        json!([]),
        json!({"terminated": {"exitCode": 137, "reason": "Error"}}),
    );
    let status = pod.status.as_mut().unwrap();
    status.phase = Some("Failed".into());
    status.reason = Some("Evicted".into());
    status.message = Some(
        "Pod ephemeral local storage usage exceeds the total limit of containers 2Gi. ".into(),
    );
    let State::Failed { message, .. } = seen(Some(&pod)) else {
        panic!("not failed");
    };
    assert!(
        message.contains("the container used too much disk: more than 2Gi before it was Ready"),
        "{message}"
    );
    // Where the node itself has too little, the image is not to blame.
    let status = pod.status.as_mut().unwrap();
    status.message = Some("The node was low on resource: ephemeral-storage.".into());
    status.container_statuses = None;
    assert!(matches!(seen(Some(&pod)), State::Lost(_)));
}

#[test]
fn a_container_that_the_kubelet_refuses_says_why_and_what_to_do() {
    let held =
        |reason: &str, message: &str| json!({"waiting": {"reason": reason, "message": message}});
    let message = failure_of(held(
        "CreateContainerConfigError",
        "Error: container has runAsNonRoot and image will run as root",
    ));
    assert!(message.contains("USER 65532:65532"), "{message}");
    assert!(matches!(
        seen(Some(&pod(json!([]), held("ContainerCreating", "")))),
        State::Waiting { .. }
    ));
    let pull = pod(json!([]), held("ErrImagePull", "unauthorized"));
    assert!(matches!(seen(Some(&pull)), State::Waiting { .. }));
}

#[test]
fn a_check_that_was_lost_is_the_platforms_fault() {
    let mut lost = pod(json!([]), json!({"waiting": {"reason": "x"}}));
    let status = lost.status.as_mut().unwrap();
    status.phase = Some("Failed".into());
    status.reason = Some("Evicted".into());
    let checks = [Check {
        platform: "linux/amd64".into(),
        state: seen(Some(&lost)),
    }];
    let failure = failure(&checks, "r@sha256:0").unwrap();
    assert!(failure.reason.is_transient(), "{failure:?}");
}

#[test]
fn the_kubelets_words_and_the_log_stand_beside_the_failure() {
    let failed = State::Failed {
        how: How::Ended,
        message: "timed out: not Ready within 10 s".into(),
        log: None,
    };
    let state = explain(
        failed,
        Some("Readiness probe failed: HTTP probe failed with statuscode: 500"),
        Some("boom".into()),
    );
    let checks = [
        Check {
            platform: "linux/amd64".into(),
            state,
        },
        Check {
            platform: "linux/arm64".into(),
            state: State::NoNode,
        },
    ];
    let failure = failure(&checks, "r@sha256:0").unwrap();
    assert_eq!(
        failure.message,
        "linux/amd64: timed out: not Ready within 10 s: Readiness probe failed: HTTP probe \
            failed with statuscode: 500"
    );
    assert_eq!(failure.log.as_deref(), Some("boom"));
}

#[test]
fn platforms_without_a_node_are_said() {
    let architectures = ["amd64".to_owned()].into();
    assert!(has_node("linux/amd64/v2", &architectures));
    assert!(!has_node("linux/arm64", &architectures));
    let checks = ["linux/amd64", "linux/arm64"].map(|platform| Check {
        platform: platform.into(),
        state: match platform {
            "linux/amd64" => State::Passed { seconds: 2 },
            _ => State::NoNode,
        },
    });
    assert_eq!(
        told(&checks, &check()),
        (
            true,
            "linux/amd64 was Ready after 2 s; linux/arm64 was not run: the cluster has no node of this platform"
                .into()
        )
    );
}

#[test]
fn a_program_with_file_capabilities_is_told_with_the_cure() {
    let of = |message: &str, log: Option<&str>| {
        let failed = State::Failed {
            how: How::Ended,
            message: message.into(),
            log: None,
        };
        match explain(failed, None, log.map(str::to_owned)) {
            State::Failed { message, .. } => message,
            other => panic!("{other:?}"),
        }
    };
    let ended = "the container exited with code 255 before it was Ready";
    assert!(of(ended, Some("exec /app: operation not permitted\n")).contains("setcap -r"));
    let start = "the container failed to start: runc create failed: exec: \"/app\": operation not permitted";
    assert!(of(start, None).contains("setcap -r"));
    // Of the program itself, and closed permissions.
    assert_eq!(of(ended, Some("bind: operation not permitted\n")), ended);
    assert_eq!(of(ended, Some("exec /app: permission denied\n")), ended);
}
