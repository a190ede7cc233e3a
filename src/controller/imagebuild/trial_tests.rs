use super::*;
use crate::fixtures;
use serde_json::{Value, json};
use whittle_build::trial::{Paths, print};

fn check() -> HealthCheck {
    serde_json::from_value(json!({"tcpSocket": {"port": 80}, "memory": "64Mi", "args": ["serve"]}))
        .unwrap()
}

fn made(check: &HealthCheck) -> Job {
    let platform = json!({"platform": "linux/amd64", "digest": "sha256:bb", "size": 1});
    let platform = serde_json::from_value(platform).unwrap();
    let starts = PlatformToTry {
        platform: "linux/amd64".into(),
        entrypoint: vec!["/bin/sh".into(), "-c".into(), "echo $(date) $$(x)".into()],
        cmd: vec!["cmd".into()],
        base_layers: None,
    };
    let build = fixtures::inline();
    let name = ("hello-0123456789".to_owned(), 3);
    job(
        &build,
        check,
        name,
        &platform,
        &starts,
        &fixtures::settings().runner,
    )
}

fn pod(statuses: Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": "hello-1"},
        "status": {"phase": "Running", "containerStatuses": statuses}}))
    .unwrap()
}

fn status(name: &str, state: Value) -> Value {
    json!({"name": name, "image": "x", "imageID": "", "ready": true, "restartCount": 0, "state": state})
}

fn seen(pod: &Pod) -> State {
    let mut job = made(&check());
    job.metadata.uid = Some("j".into());
    let build = fixtures::inline();
    let seen = Seen {
        owner: build.metadata.uid.as_deref().unwrap(),
        job: Some(&job),
        pod: Some(pod),
        ..Seen::default()
    };
    state(&seen, &check(), Timestamp::UNIX_EPOCH)
}

#[test]
fn what_an_image_starts_with_is_run_as_it_is_under_the_tracer() {
    let job = made(&check());
    let pod = job.spec.unwrap().template.spec.unwrap();
    let image = &pod.containers[0];
    let words = image.args.as_ref().unwrap();
    let end: Vec<_> = words
        .iter()
        .skip_while(|word| *word != "--")
        .skip(1)
        .collect();
    // Kubernetes reads $$( as $(, and arguments of the check stand in the place of CMD.
    assert_eq!(end, ["/bin/sh", "-c", "echo $$(date) $$$(x)", "serve"]);
    let limits = image.resources.as_ref().unwrap().limits.as_ref().unwrap();
    assert_eq!(limits["memory"].0, (128 << 20).to_string());
    let without = HealthCheck {
        args: vec![],
        ..check()
    };
    let pod = made(&without).spec.unwrap().template.spec.unwrap();
    assert_eq!(
        pod.containers[0].args.as_ref().unwrap().last().unwrap(),
        "cmd"
    );
}

#[test]
fn a_trial_goes_on_until_its_own_container_has_ended() {
    let runs = json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}});
    let ended = |code: i32| json!({"terminated": {"exitCode": code}});
    let both = pod(json!([
        status("image", runs.clone()),
        status("trial", runs.clone())
    ]));
    assert!(matches!(seen(&both), State::Waiting(_)));
    // The image has ended; what came of it is yet to be printed.
    let first = pod(json!([
        status("image", ended(1)),
        status("trial", runs.clone())
    ]));
    assert!(matches!(seen(&first), State::Waiting(_)) && !has_ended(&first));
    let second = pod(json!([
        status("image", runs.clone()),
        status("trial", ended(0))
    ]));
    assert!(has_ended(&second));
    let bad = pod(json!([status("image", runs), status("trial", ended(137))]));
    assert_eq!(
        seen(&bad),
        State::Failed("its container trial ended with code 137".into())
    );
}

#[test]
fn the_end_of_the_container_beside_changes_what_a_watch_tells() {
    let of = |state: Value| {
        pod(json!([
            status("image", json!({"running": {}})),
            status("trial", state)
        ]))
    };
    let (before, after) = (
        of(json!({"running": {}})),
        of(json!({"terminated": {"exitCode": 0}})),
    );
    assert_ne!(gate::turns(&before), gate::turns(&after));
}

#[test]
fn what_is_read_of_a_log_has_room_for_the_largest_outcome() {
    let mut seed = 1_u64;
    let mut random = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        format!("/{seed:020}{:020}", seed.rotate_left(17))
    };
    let paths = Paths::pack((0..40_000).map(|_| random()).collect()).0;
    let outcome = Outcome {
        found: paths.clone(),
        missing: paths,
        ..Outcome::default()
    };
    assert!(print(&outcome).len() < whittle_build::trial::LOG);
}
