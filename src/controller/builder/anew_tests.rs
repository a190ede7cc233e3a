use serde_json::json;

use super::*;
use crate::builder::objects::objects;
use crate::fixtures;
use whittle_api::{BuilderStatus, Current};

fn now() -> Timestamp {
    Timestamp::from_second(1_000_000).unwrap()
}

fn hours_ago(hours: i64) -> Timestamp {
    now() - SignedDuration::from_hours(hours)
}

fn set() -> StatefulSet {
    objects(&fixtures::builder(), &fixtures::settings(), "c").stateful_set
}

/// That of a daemon which has run for so long.
fn pod(hours: i64) -> Pod {
    serde_json::from_value(json!({"status": {"startTime": hours_ago(hours).to_string()}})).unwrap()
}

/// That of a daemon which has found its state broken at some time.
fn mended(at: Timestamp, code: i32) -> Pod {
    let message = "level=info\nwhittle: cache: runc-overlayfs/metadata_v2.db is broken: it is cut off\n[rootlesskit] exit status 79\n";
    let terminated = json!({"exitCode": code, "finishedAt": at.to_string(), "message": message});
    let container = json!({"name": "buildkitd", "image": "b", "imageID": "", "ready": true, "restartCount": 1,
        "state": {"running": {}}, "lastState": {"terminated": terminated}});
    serde_json::from_value(json!({"status": {"containerStatuses": [container]}})).unwrap()
}

fn asked(value: &str) -> Builder {
    let mut builder = fixtures::builder();
    builder.annotations_mut().insert(PRUNE.into(), value.into());
    builder
}

fn knows(builder: &mut Builder, emptied: Option<Emptied>) {
    builder.status = Some(BuilderStatus {
        emptied,
        ..BuilderStatus::default()
    });
}

fn arguments(builder: &Builder) -> Vec<String> {
    let set = objects(builder, &fixtures::settings(), "c").stateful_set;
    let pod = set.spec.unwrap().template.spec.unwrap();
    pod.containers[0].args.clone().unwrap()
}

#[test]
fn an_empty_cache_is_asked_for_once_with_each_value() {
    assert!(!arguments(&fixtures::builder()).contains(&"--empty".to_owned()));
    let mut builder = asked("a");
    let first = arguments(&builder);
    assert!(first.contains(&"--empty".to_owned()) && is_to_be_emptied(&builder));
    assert_eq!(say(&builder, &[], false, now()), None);
    let emptied = say(&builder, &[], true, now()).unwrap();
    assert_eq!(emptied.at.0, now());
    assert_eq!(
        news(&builder, Some(&emptied)).map(|(warning, _)| warning),
        Some(false)
    );
    knows(&mut builder, Some(emptied.clone()));
    assert!(!is_to_be_emptied(&builder));
    assert_eq!(news(&builder, Some(&emptied)), None);
    let later = now() + SignedDuration::from_secs(1);
    assert_eq!(say(&builder, &[], true, later), Some(emptied));
    // Without the annotation the daemon is not even restarted.
    builder.annotations_mut().clear();
    assert!(!is_to_be_emptied(&builder));
    assert_eq!(arguments(&builder), first);
    builder.annotations_mut().insert(PRUNE.into(), "b".into());
    assert!(is_to_be_emptied(&builder));
    assert_ne!(arguments(&builder), first);
}

#[test]
fn what_was_found_broken_is_told_once_with_its_name() {
    let mut builder = asked("a");
    let emptied = say(&builder, &[], true, now());
    knows(&mut builder, emptied);
    let later = now() + SignedDuration::from_hours(1);
    let found = say(&builder, &[&mended(later, 79)], true, later).unwrap();
    assert!(
        found
            .message
            .contains("runc-overlayfs/metadata_v2.db is broken: it is cut off"),
        "{}",
        found.message
    );
    assert_eq!(found.at.0, later);
    assert_eq!(
        news(&builder, Some(&found)).map(|(warning, _)| warning),
        Some(true)
    );
    knows(&mut builder, Some(found.clone()));
    // It is not emptied again for that.
    assert!(!is_to_be_emptied(&builder));
    assert_eq!(
        say(&builder, &[&mended(later, 79)], true, later),
        Some(found.clone())
    );
    let crashed = mended(later + SignedDuration::from_hours(1), 1);
    assert_eq!(say(&builder, &[&crashed], true, later), Some(found));
}

#[test]
fn a_daemon_that_hangs_is_started_anew_once() {
    let found = now() - SignedDuration::from_secs(10);
    let restarts =
        |set: &StatefulSet, pod: &Pod| restarted_at(set, Some(pod), Some(found), false, now());
    let mut set = set();
    assert_eq!(restarts(&set, &pod(1)), Some(found));
    // A Pod that is newer than that is another daemon.
    assert_eq!(restarts(&set, &pod(0)), None);
    restart(&mut set, Some(found));
    assert_eq!(restarts(&set, &pod(1)), Some(found));
    let again = restarted_at(&set, Some(&pod(1)), Some(now()), false, now());
    assert_eq!(again, Some(now()));
}

#[test]
fn a_daemon_of_a_day_is_started_anew_when_nothing_runs() {
    let mut set = set();
    let restarts =
        |set: &StatefulSet, hours, idle| restarted_at(set, Some(&pod(hours)), None, idle, now());
    assert_eq!(restarts(&set, 25, true), Some(now()));
    assert_eq!(restarts(&set, 25, false), None);
    assert_eq!(restarts(&set, 23, true), None);
    restart(&mut set, Some(hours_ago(30)));
    assert_eq!(restarts(&set, 23, true), Some(hours_ago(30)));
    assert_eq!(
        restarted_at(&set, None, None, true, now()),
        Some(hours_ago(30))
    );
}

#[test]
fn a_build_tells_of_a_daemon_that_hangs_when_it_is_tried_again() {
    let mut build = fixtures::inline();
    assert_eq!(found_hanging(&build), None);
    let mut current: Current =
        serde_json::from_value(json!({"attempt": 2, "job": "j", "generation": 1})).unwrap();
    current.retry_at = Some(Time(now()));
    for (said, found) in [
        (
            "BuilderLost: the builder hangs: it has given no answer for 160 s",
            Some(now() - SignedDuration::from_secs(10)),
        ),
        ("BuilderLost: the connection to the builder was lost", None),
    ] {
        current.last_failure = Some(said.into());
        build.status.get_or_insert_default().current = Some(current.clone());
        assert_eq!(found_hanging(&build), found, "{said}");
    }
}

#[test]
fn of_several_daemons_the_one_that_hangs_alone_is_started_anew() {
    let mut build = fixtures::inline();
    let mut current: Current =
        serde_json::from_value(json!({"attempt": 2, "job": "j", "generation": 1})).unwrap();
    let hangs = "BuilderLost: the builder hangs: no answer";
    for (of, ordinary, arm) in [
        ("", true, true),
        (" (platform linux/amd64)", true, false),
        (
            " (platform linux/arm64, on Builder default-linux-arm64)",
            false,
            true,
        ),
        (
            " (platform linux/s390x, on Builder default-linux-s390x)",
            false,
            false,
        ),
        (
            " (platform linux/s390x); it was built on the ordinary daemon",
            true,
            false,
        ),
    ] {
        current.last_failure = Some(format!("{hangs}{of}"));
        build.status.get_or_insert_default().current = Some(current.clone());
        assert_eq!(is_lost(&build, None), ordinary, "{of}");
        assert_eq!(is_lost(&build, Some("default-linux-arm64")), arm, "{of}");
    }
}
