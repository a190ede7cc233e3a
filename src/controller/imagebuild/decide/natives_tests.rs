use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;
use whittle_api::{ImageBuild, IsolationStatus, Platform, Reason, set};
use whittle_build::request::{BuildRequest, paths};

use super::super::tests::{later, next, now, observed};
use super::super::{Action, Step};
use super::*;
use crate::{fixtures, platforms};

/// A build for two platforms, on a Builder that has a daemon for the second.
fn seen() -> Observed {
    let mut build: ImageBuild = fixtures::inline();
    let named = ["linux/amd64", "linux/arm64"].map(|it| Platform(it.into()));
    build.spec.platforms = named.into();
    let mut seen = observed(build);
    let builder = seen.builder.as_mut().unwrap();
    let limits = json!({"limits": {"memory": "3Gi"}});
    let arm = json!([{"platform": "linux/arm64", "resources": limits}]);
    builder.spec.platforms = serde_json::from_value(arm).unwrap();
    let (platform, wanted) = platforms::wanted(builder).remove(0);
    let mut stands = wanted.clone();
    stands.metadata.generation = Some(1);
    stands.metadata.creation_timestamp = Some(Time(later(-3600)));
    stands.status.clone_from(&builder.status);
    let status = stands.status.as_mut().unwrap();
    status.isolation = Some(IsolationStatus {
        proven: true,
        ..IsolationStatus::default()
    });
    seen.platforms = vec![Seen {
        platform,
        wanted,
        stands: Some(stands),
    }];
    seen
}

/// Its daemon, and what is known of that.
fn daemon(seen: &mut Observed) -> &mut Builder {
    seen.platforms[0].stands.as_mut().unwrap()
}

fn say(builder: &mut Builder, ready: bool, reason: Reason, message: &str, at: Timestamp) {
    let status = builder.status.as_mut().unwrap();
    status.state = Some(reason);
    let why = (reason, message);
    set(&mut status.conditions, READY, Some(ready), why, Some(1), at);
}

fn down(seen: &mut Observed, since: Timestamp) {
    let why = "no node: 0/1 nodes are available";
    say(daemon(seen), false, Reason::Unschedulable, why, since);
}

fn natives(step: &Step) -> Vec<Native> {
    let Action::Start(attempt) = &step.action else {
        panic!("{step:?}")
    };
    let data = attempt.config_map.data.as_ref().unwrap();
    let request: BuildRequest = serde_json::from_str(&data[paths::REQUEST_KEY]).unwrap();
    assert_eq!(
        request.builder_address,
        "tcp://whittle-builder-default-0.whittle-builder-default.team.svc:1234"
    );
    request.natives
}

/// What it waits for, and for how many seconds.
fn waits(step: &Step) -> (String, i64) {
    assert_eq!(step.action, Action::None);
    let ready = find(&step.status.conditions, READY).unwrap();
    assert_eq!(ready.reason, "Queued");
    let again = step.look_again.unwrap().as_secs();
    (ready.message.clone(), again)
}

#[test]
fn an_attempt_is_told_of_the_daemon_that_its_platform_has() {
    let daemon = Native {
        platform: "linux/arm64".into(),
        builder: "default-linux-arm64".into(),
        address: Some(
            "tcp://whittle-builder-default-linux-arm64-0.whittle-builder-default-linux-arm64.team.svc:1234".into(),
        ),
        memory: Some("3Gi".into()),
        memory_field: Some(
            "spec.platforms[linux/arm64].resources.limits.memory of Builder default".into(),
        ),
        missing: None,
    };
    assert_eq!(natives(&next(&seen(), now())), [daemon]);
}

#[test]
fn on_a_builder_without_platforms_there_is_none() {
    assert!(natives(&next(&observed(fixtures::inline()), now())).is_empty());
}

#[test]
fn a_daemon_that_was_up_before_is_waited_for_until_it_has_been_down_for_ten_minutes() {
    let mut seen = seen();
    down(&mut seen, later(-580));
    let (message, again) = waits(&next(&seen, now()));
    assert!(message.starts_with(
        "queued: the daemon of linux/arm64, Builder default-linux-arm64, is not up: no node"
    ));
    assert_eq!(again, 20);
    let natives = natives(&next(&seen, later(20)));
    assert_eq!(natives[0].address, None);
    let why = natives[0].missing.as_ref().unwrap();
    assert!(why.contains("0/1 nodes are available"), "{why}");
}

#[test]
fn one_that_was_never_up_is_waited_for_after_it_was_made_and_then_no_more() {
    let mut seen = seen();
    daemon(&mut seen).status.as_mut().unwrap().isolation = None;
    down(&mut seen, now());
    assert_eq!(natives(&next(&seen, now()))[0].address, None);
    daemon(&mut seen).metadata.creation_timestamp = Some(Time(later(-30)));
    // Looked at sooner than that, as each wait.
    assert_eq!(waits(&next(&seen, now())).1, 30);
    assert_eq!(waits(&next(&seen, later(80))).1, 10);
    assert_eq!(natives(&next(&seen, later(90)))[0].address, None);
    // Nor is one that is never made.
    seen.platforms[0].stands = None;
    let step = next(&seen, now());
    assert!(waits(&step).0.contains("it is being created"));
    seen.build.status = Some(step.status);
    assert_eq!(natives(&next(&seen, later(120)))[0].address, None);
}

#[test]
fn one_that_cannot_be_made_or_goes_is_not_waited_for() {
    let mut seen = seen();
    daemon(&mut seen).metadata.deletion_timestamp = Some(Time(now()));
    let why = |seen: &Observed| natives(&next(seen, now()))[0].missing.clone().unwrap();
    assert_eq!(why(&seen), "it is being deleted");
    seen.platforms[0].stands = None;
    let said = json!([{"platform": "linux/arm64", "builder": "default-linux-arm64", "message": "exceeded quota"}]);
    let status = seen.builder.as_mut().unwrap().status.as_mut().unwrap();
    status.platforms = serde_json::from_value(said).unwrap();
    assert_eq!(why(&seen), "exceeded quota");
}

#[test]
fn one_that_sleeps_is_about_to_wake() {
    let mut seen = seen();
    say(daemon(&mut seen), true, Reason::Idle, "idle", later(-3600));
    let step = next(&seen, now());
    assert!(waits(&step).0.contains("it is waking up"));
    assert_eq!(not_up(&seen.platforms[0], None), None);
}

#[test]
fn one_with_other_certificates_than_its_runners_is_not_up() {
    let mut seen = seen();
    let status = daemon(&mut seen).status.as_mut().unwrap();
    let certificates = status.certificates.as_mut().unwrap();
    certificates.digest += "older";
    assert!(
        waits(&next(&seen, now()))
            .0
            .contains("certificates are being renewed")
    );
}

#[test]
fn somebody_elses_builder_of_that_name_is_not_asked_and_not_waited_for() {
    let mut seen = seen();
    daemon(&mut seen).metadata.owner_references = None;
    let natives = natives(&next(&seen, now()));
    assert_eq!(natives[0].address, None);
    assert!(
        natives[0]
            .missing
            .as_ref()
            .unwrap()
            .contains("was not made for this")
    );
}

#[test]
fn nobody_builds_on_the_daemon_of_a_platform_by_its_name() {
    let mut seen = seen();
    seen.build.spec.builder_ref.name = "default-linux-arm64".into();
    seen.builder.clone_from(&seen.platforms[0].stands);
    seen.platforms.clear();
    let step = next(&seen, now());
    assert_eq!(step.action, Action::None);
    let ready = find(&step.status.conditions, READY).unwrap();
    assert!(
        ready.message.contains("name that one in spec.builderRef"),
        "{}",
        ready.message
    );
}
