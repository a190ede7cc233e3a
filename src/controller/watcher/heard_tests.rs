use serde_json::json;

use super::*;
use crate::fixtures;
use whittle_api::{Base, FluxKind, FluxSource};

const A: &str = "main@sha1:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const B: &str = "main@sha1:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

fn now() -> Timestamp {
    Timestamp::from_second(1_000_000).unwrap()
}

fn build(triggers: serde_json::Value) -> ImageBuild {
    let mut build = fixtures::git_with_secrets();
    build.spec.triggers = serde_json::from_value(triggers).unwrap();
    build.status = Some(ImageBuildStatus {
        last_revision: Some(A.into()),
        bases: vec![Base {
            image: "docker.io/library/golang:1".into(),
            digest: "sha256:01".into(),
            stage: Some("build".into()),
            seen: None,
        }],
        ..ImageBuildStatus::default()
    });
    build
}

fn polled() -> ImageBuild {
    build(json!({"poll": {"interval": "1m"}}))
}

fn found(id: &str, revision: &str) -> Seen {
    Seen {
        id: id.into(),
        wanted: false,
        outcome: Outcome::Found {
            revision: revision.into(),
        },
    }
}

fn failed(id: &str, reason: wire::Reason) -> Seen {
    Seen {
        id: id.into(),
        wanted: false,
        outcome: Outcome::Failed {
            reason,
            message: "branch \"main\" not found".into(),
        },
    }
}

fn pending(status: &ImageBuildStatus) -> Option<(TriggerReason, Option<&str>)> {
    let pending = status.pending.as_ref()?;
    Some((pending.reason, pending.revision.as_deref()))
}

fn condition(status: &ImageBuildStatus) -> (String, String) {
    let condition = find(&status.conditions, TRIGGERS).unwrap();
    (condition.status.clone(), condition.reason.clone())
}

#[test]
fn a_new_commit_asks_for_a_build_once_and_the_one_that_was_built_for_none() {
    let mut build = polled();
    let uid = build.uid().unwrap();
    let status = heard(&build, &found(&uid, A), now()).unwrap();
    assert_eq!(pending(&status), None);
    assert_eq!(condition(&status), ("True".into(), "TriggersWork".into()));
    build.status = Some(status);
    assert_eq!(heard(&build, &found(&uid, A), now()), None, "nothing new");
    let status = heard(&build, &found(&uid, B), now()).unwrap();
    assert_eq!(pending(&status), Some((TriggerReason::Commit, Some(B))));
    build.status = Some(status);
    assert_eq!(heard(&build, &found(&uid, B), now()), None, "asked already");
    let wanted = Seen {
        wanted: true,
        ..found(&uid, B)
    };
    let mut hooked = polled();
    hooked.metadata.uid = Some(uid.clone());
    let status = heard(&hooked, &wanted, now()).unwrap();
    assert_eq!(pending(&status), Some((TriggerReason::Webhook, Some(B))));
}

#[test]
fn what_the_spec_does_not_ask_for_is_not_heard() {
    let uid = polled().uid().unwrap();
    let golang = base_id(&uid, "docker.io/library/golang:1");
    // No trigger of this kind, another ImageBuild, a base image that it is not built from.
    let based = build(json!({"baseImages": {}}));
    for (build, id) in [
        (&polled(), golang.as_str()),
        (&based, uid.as_str()),
        (&based, "another"),
        (&based, &base_id(&uid, "docker.io/library/node:1")),
        (&build(json!({"schedule": "@daily"})), uid.as_str()),
    ] {
        assert_eq!(heard(build, &found(id, B), now()), None, "{id}");
    }
    let mut going = polled();
    going.metadata.deletion_timestamp = Some(Time(now()));
    assert_eq!(heard(&going, &found(&uid, B), now()), None);
}

#[test]
fn a_base_image_that_moves_asks_for_one_build_until_it_moves_again() {
    let mut build = build(json!({"baseImages": {}}));
    let id = base_id(&build.uid().unwrap(), "docker.io/library/golang:1");
    let status = heard(&build, &found(&id, "sha256:02"), now()).unwrap();
    assert_eq!(pending(&status), Some((TriggerReason::BaseImage, None)));
    let detail = &status.pending.as_ref().unwrap().detail;
    assert_eq!(
        detail,
        "docker.io/library/golang:1 is sha256:02, and was sha256:01"
    );
    build.status = Some(status);
    // The build has begun, and may fail.
    build.status.as_mut().unwrap().pending = None;
    assert_eq!(heard(&build, &found(&id, "sha256:02"), now()), None);
    let status = heard(&build, &found(&id, "sha256:03"), now()).unwrap();
    assert!(status.pending.is_some());
}

#[test]
fn what_a_source_of_flux_lacks_stands_until_flux_has_it() {
    let mut build = build(json!({"baseImages": {"interval": "1m"}}));
    build.spec.source.git = None;
    build.spec.source.flux = Some(FluxSource {
        kind: FluxKind::GitRepository,
        name: "app".into(),
        sub_path: None,
    });
    let base = found(
        &base_id(&build.uid().unwrap(), "docker.io/library/golang:1"),
        "sha256:02",
    );
    for (reason, stands) in [
        (Reason::SourceNotReady, "False"),
        (FailureReason::BaseImageDenied.into(), "True"),
    ] {
        let mut status = build.status.clone().unwrap();
        say(&mut status, &build, Some(false), (reason, "m"), now());
        build.status = Some(status);
        let status = heard(&build, &base, now()).unwrap();
        assert_eq!(pending(&status), Some((TriggerReason::BaseImage, None)));
        assert_eq!(condition(&status).0, stands);
    }
}

#[test]
fn what_cannot_be_seen_is_said_and_asks_for_nothing() {
    let mut build = polled();
    let uid = build.uid().unwrap();
    for (reason, said) in [
        (wire::Reason::NotFound, "SourceNotFound"),
        (wire::Reason::Denied, "SourceDenied"),
        (wire::Reason::Unreachable, "SourceUnreachable"),
        (wire::Reason::RateLimited, "RateLimited"),
        (wire::Reason::NoMatch, "NoVersion"),
    ] {
        let status = heard(&build, &failed(&uid, reason), now()).unwrap();
        assert_eq!(condition(&status), ("False".into(), said.into()));
        assert_eq!(pending(&status), None);
        build.status = Some(status);
        assert_eq!(heard(&build, &failed(&uid, reason), now()), None);
    }
    let status = heard(&build, &found(&uid, A), now()).unwrap();
    assert_eq!(condition(&status).0, "True");
}

#[test]
fn an_artifact_is_known_by_its_digest() {
    let mut build = polled();
    build.spec.source =
        serde_json::from_value(json!({"oci": {"image": "registry.example.com/a:main"}})).unwrap();
    build.status.as_mut().unwrap().last_revision = Some("oci@sha256:01".into());
    let uid = build.uid().unwrap();
    let status = heard(&build, &found(&uid, "sha256:01"), now()).unwrap();
    assert_eq!(pending(&status), None);
    let status = heard(&build, &found(&uid, "sha256:02"), now()).unwrap();
    assert_eq!(
        pending(&status),
        Some((TriggerReason::Commit, Some("oci@sha256:02")))
    );
}

#[test]
fn a_watcher_that_says_much_has_little_of_it_kept() {
    let build = polled();
    let uid = build.uid().unwrap();
    let status = heard(&build, &found(&uid, &"x".repeat(100_000)), now()).unwrap();
    assert!(status.pending.unwrap().revision.unwrap().len() <= WORDS);
}
