use serde_json::json;

use k8s_openapi::jiff::SignedDuration;

use super::*;
use crate::fixtures;
use whittle_api::{Base, FluxKind, FluxSource, Row, Started, find};

const A: &str = "main@sha1:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const B: &str = "main@sha1:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
const C: &str = "main@sha1:cccccccccccccccccccccccccccccccccccccccc";
const D: &str = "main@sha1:dddddddddddddddddddddddddddddddddddddddd";

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

/// The id of its source.
fn id_of(build: &ImageBuild) -> String {
    source_id(&build.uid().unwrap(), &source_of(build).unwrap())
}

fn found(id: &str, revision: &str) -> Seen {
    Seen {
        id: id.into(),
        wanted: false,
        tree: None,
        age_seconds: 0,
        begun_millis: None,
        outcome: Outcome::Found {
            revision: revision.into(),
        },
    }
}

fn failed(id: &str, reason: wire::Reason) -> Seen {
    Seen {
        id: id.into(),
        wanted: false,
        tree: None,
        age_seconds: 0,
        begun_millis: None,
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
    let uid = id_of(&build);
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
    let hooked = polled();
    let status = heard(&hooked, &wanted, now()).unwrap();
    assert_eq!(pending(&status), Some((TriggerReason::Webhook, Some(B))));
}

#[test]
fn what_the_spec_does_not_ask_for_is_not_heard() {
    let (uid, own) = (id_of(&polled()), polled().uid().unwrap());
    let golang = base_id(&own, "docker.io/library/golang:1");
    // No trigger of this kind, another ImageBuild, a base image that it is not built from.
    let based = build(json!({"baseImages": {}}));
    for (build, id) in [
        (&polled(), golang.as_str()),
        (&based, uid.as_str()),
        (&based, "another"),
        (&based, &base_id(&own, "docker.io/library/node:1")),
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
    let unseen = Unseen {
        id: "flux".into(),
        reason: "SourceNotReady".into(),
        message: "m".into(),
    };
    build.status.as_mut().unwrap().unseen = vec![unseen];
    let status = heard(&build, &base, now()).unwrap();
    assert_eq!(pending(&status), Some((TriggerReason::BaseImage, None)));
    assert_eq!(
        condition(&status),
        ("False".into(), "SourceNotReady".into())
    );
}

#[test]
fn what_cannot_be_seen_is_said_and_asks_for_nothing() {
    let mut build = polled();
    let uid = id_of(&build);
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
    let uid = id_of(&build);
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
    let uid = id_of(&build);
    let status = heard(&build, &found(&uid, &"x".repeat(100_000)), now()).unwrap();
    assert!(status.pending.unwrap().revision.unwrap().len() <= WORDS);
}

#[test]
fn a_commit_that_changes_nothing_below_the_folder_is_seen_and_starts_nothing() {
    let mut build = polled();
    let uid = id_of(&build);
    let with = |revision: &str, tree: &str| Seen {
        tree: Some(tree.into()),
        ..found(&uid, revision)
    };
    let c = B.replace('b', "c");
    build.status = heard(&build, &with(A, "t1"), now());
    // Elsewhere in the repository: twice.
    for revision in [B, c.as_str()] {
        let status = heard(&build, &with(revision, "t1"), now()).unwrap();
        assert_eq!(pending(&status), None);
        let folder = status.folder.clone().unwrap();
        assert_eq!((folder.built.as_str(), folder.seen.as_str()), (A, revision));
        build.status = Some(status);
        assert_eq!(heard(&build, &with(revision, "t1"), now()), None);
    }
    let status = heard(&build, &with(B, "t2"), now()).unwrap();
    assert_eq!(pending(&status), Some((TriggerReason::Commit, Some(B))));
    // Where another one was built meanwhile, the tree that is known is not that one's: a commit that goes back is built.
    build.status.as_mut().unwrap().last_revision = Some(B.into());
    let status = heard(&build, &with(&c, "t1"), now()).unwrap();
    assert!(pending(&status).is_some());
    // And where no tree can be seen.
    let mut build = polled();
    build.status = heard(&build, &with(A, "t1"), now());
    let status = heard(&build, &found(&uid, B), now()).unwrap();
    assert!(pending(&status).is_some());
}

/// The ImageBuild once a base image has started so many builds of it, the first of them so many minutes ago.
fn in_a_row(builds: i64, minutes: i64) -> ImageBuild {
    let mut build = build(json!({"baseImages": {}, "poll": {"interval": "1m"}}));
    build.status.as_mut().unwrap().trigger = Some(Started {
        revision: None,
        tree: None,
        read: true,
        reason: TriggerReason::BaseImage,
        detail: String::new(),
        since: Time(now()),
        row: Some(Row {
            builds,
            since: Time(now() - SignedDuration::from_mins(minutes)),
        }),
    });
    build
}

#[test]
fn base_images_that_start_one_build_after_another_start_no_more_and_a_commit_still_does() {
    let mut build = in_a_row(LOOP, 59);
    let uid = id_of(&build);
    let id = base_id(&build.uid().unwrap(), "docker.io/library/golang:1");
    let status = heard(&build, &found(&id, "sha256:02"), now()).unwrap();
    assert_eq!(pending(&status), None);
    assert_eq!(condition(&status), ("False".into(), "Loop".into()));
    let message = &find(&status.conditions, TRIGGERS).unwrap().message;
    assert!(
        message.starts_with("loop: base images have started 5 builds of this ImageBuild within an hour, and docker.io/library/golang:1 has moved again"),
        "{message}"
    );
    build.status = Some(status);
    // It is no less a loop a day later, whatever else is seen.
    let day = now() + SignedDuration::from_hours(24);
    assert_eq!(heard(&build, &found(&id, "sha256:03"), day), None);
    assert_eq!(heard(&build, &found(&uid, A), day), None);
    let denied = heard(&build, &failed(&uid, wire::Reason::Denied), day).unwrap();
    assert_eq!(condition(&denied).1, "Loop");
    let status = heard(&build, &found(&uid, B), day).unwrap();
    assert_eq!(pending(&status), Some((TriggerReason::Commit, Some(B))));
    // What that commit has started ends it.
    let status = build.status.as_mut().unwrap();
    status.trigger.as_mut().unwrap().row = None;
    let status = heard(&build, &found(&id, "sha256:03"), day).unwrap();
    assert_eq!(pending(&status), Some((TriggerReason::BaseImage, None)));
    assert_eq!(condition(&status), ("True".into(), "TriggersWork".into()));
}

#[test]
fn a_base_image_that_moves_often_but_not_that_often_is_no_loop() {
    for build in [in_a_row(LOOP - 1, 1), in_a_row(LOOP, 60)] {
        let id = base_id(&build.uid().unwrap(), "docker.io/library/golang:1");
        let status = heard(&build, &found(&id, "sha256:02"), now()).unwrap();
        assert_eq!(pending(&status), Some((TriggerReason::BaseImage, None)));
    }
}

#[test]
fn what_cannot_be_seen_stays_said_until_that_very_thing_is_seen() {
    let mut build = build(json!({"baseImages": {}, "poll": {"interval": "1m"}}));
    let source = id_of(&build);
    let base = base_id(&build.uid().unwrap(), "docker.io/library/golang:1");
    for (seen, said) in [
        (found(&base, "sha256:01"), "TriggersWork"),
        (failed(&base, wire::Reason::Denied), "BaseImageDenied"),
        (failed(&source, wire::Reason::NotFound), "SourceNotFound"),
        (found(&base, "sha256:01"), "SourceNotFound"),
        (failed(&base, wire::Reason::Denied), "SourceNotFound"),
        (found(&source, A), "BaseImageDenied"),
        (found(&base, "sha256:01"), "TriggersWork"),
    ] {
        build.status = Some(heard(&build, &seen, now()).unwrap());
        assert_eq!(condition(build.status.as_ref().unwrap()).1, said);
    }
}

#[test]
fn what_was_seen_before_a_build_began_is_no_news_once_that_has_read_its_source() {
    let mut build = polled();
    let id = id_of(&build);
    build.status = heard(&build, &found(&id, A), now());
    let status = build.status.as_mut().unwrap();
    status.last_revision = Some(B.into());
    status.started_at = Some(Time(now()));
    let begun = |read| Started {
        reason: TriggerReason::Request,
        detail: String::new(),
        since: Time(now()),
        revision: None,
        tree: None,
        read,
        row: None,
    };
    status.trigger = Some(begun(true));
    let old = |seconds| Seen {
        age_seconds: seconds,
        ..found(&id, A)
    };
    let later = now() + SignedDuration::from_secs(100);
    assert_eq!(heard(&build, &old(101), later), None);
    assert!(heard(&build, &old(99), later).unwrap().pending.is_some());
    // One that ended before it had read anything has not built it.
    build.status.as_mut().unwrap().trigger = Some(begun(false));
    assert!(heard(&build, &old(101), later).unwrap().pending.is_some());
}

#[test]
fn a_watcher_with_an_older_list_speaks_of_another_source() {
    let build = polled();
    let id = id_of(&build);
    let mut moved = build.clone();
    moved.spec.source.git.as_mut().unwrap().reference = None;
    assert_eq!(heard(&moved, &found(&id, B), now()), None);
    assert!(heard(&build, &found(&id, B), now()).is_some());
}

#[test]
fn what_an_earlier_version_has_built_is_not_built_again() {
    let mut build = polled();
    let status = build.status.as_mut().unwrap();
    (status.last_revision, status.revision) = (None, Some(A.into()));
    let status = heard(&build, &found(&id_of(&build), A), now()).unwrap();
    assert_eq!(pending(&status), None);
}

#[path = "heard_doubt_tests.rs"]
mod doubts;
