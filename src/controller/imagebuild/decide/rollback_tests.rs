use super::super::tests::{later, observed};
use super::*;
use crate::fixtures;
use crate::imagebuild::decide::{Action, decide, input, is_settled};
use crate::imagebuild::outcome::State;
use serde_json::json;
use whittle_api::{NO_CACHE, Pending, REQUESTED_AT, find};
use whittle_build::report::failed;
use whittle_build::request::{BuildRequest, paths};

const DIGEST_A: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const DIGEST_B: &str = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
const DIGEST_C: &str = "sha256:cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc";
const DIGEST_D: &str = "sha256:dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd";
const A: &str = "main@sha1:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const B: &str = "main@sha1:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

/// Four builds have ended: the second has failed, and the tags point to what the fourth has made.
fn four() -> ImageBuild {
    let mut build = fixtures::git_with_secrets();
    build.spec.output.tags = vec![
        "latest".into(),
        "$(BRANCH)-$(SHORT_COMMIT)".into(),
        "$(COMMIT_TIME)".into(),
    ];
    let image = format!("{}@{DIGEST_D}", build.spec.output.image);
    let status = json!({"observedGeneration": build.metadata.generation, "build": 4, "image": image, "digest": DIGEST_D,
        "revision": B, "lastRevision": B, "tags": ["latest"], "input": input(&build),
        "conditions": [{"type": "Ready", "status": "True", "reason": "Succeeded", "message": image, "lastTransitionTime": "2026-01-01T00:00:00Z"},
            {"type": "Contract", "status": "True", "reason": "Kept", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
        "history": [
            {"build": 4, "generation": 1, "result": "Succeeded", "digest": DIGEST_D, "revision": B},
            {"build": 3, "generation": 1, "result": "Succeeded", "digest": DIGEST_C, "revision": A},
            {"build": 2, "generation": 1, "result": "ContractBroken", "digest": DIGEST_B},
            {"build": 1, "generation": 1, "result": "Succeeded", "digest": DIGEST_A}]});
    build.status = Some(serde_json::from_value(status).unwrap());
    build
}

fn asks(mut build: ImageBuild, value: &str) -> ImageBuild {
    let annotations = build.metadata.annotations.get_or_insert_default();
    annotations.insert(ROLLBACK.into(), value.into());
    build
}

fn next(build: &ImageBuild, attempt: State, seconds: i64) -> Step {
    let observed = Observed {
        attempt,
        ..observed(build.clone())
    };
    decide(&observed, &fixtures::settings(), later(seconds))
}

fn request(step: &Step) -> BuildRequest {
    let Action::Start(attempt) = &step.action else {
        panic!("{:?}", step.action);
    };
    let data = attempt.config_map.data.as_ref().unwrap();
    serde_json::from_str(&data[paths::REQUEST_KEY]).unwrap()
}

fn moved() -> State {
    let platform = json!({"platform": "linux/amd64", "digest": DIGEST_C, "size": 1024});
    State::Ended(Report::Succeeded(Built {
        digest: DIGEST_C.into(),
        platforms: vec![serde_json::from_value(platform).unwrap()],
        ..Built::default()
    }))
}

fn ready(status: &ImageBuildStatus) -> (&str, &str, &str) {
    let ready = find(&status.conditions, READY).unwrap();
    (&ready.status, &ready.reason, &ready.message)
}

/// The build with the status of this step.
fn with(build: &ImageBuild, step: Step) -> ImageBuild {
    ImageBuild {
        status: Some(step.status),
        ..build.clone()
    }
}

#[test]
fn a_runner_moves_the_tags_that_the_build_has_made_and_builds_nothing() {
    let build = asks(four(), "3");
    assert!(!is_settled(&build));
    let step = next(&build, State::Absent, 1);
    let Tagging::Back { image, debug, tags } = request(&step).tagging else {
        panic!("{:?}", step.action);
    };
    assert_eq!((image.as_str(), debug), (DIGEST_C, None));
    assert_eq!(tags, ["latest", "main-aaaaaaa"]);
    assert_eq!((step.status.build, &step.notice), (Some(5), &None));
    let build = with(&build, step);
    // A controller that comes back before the Job was made makes the same one.
    let again = next(&build, State::Absent, 2);
    assert_eq!(
        request(&again).job,
        build.status.as_ref().unwrap().current.as_ref().unwrap().job
    );
    let step = next(&build, moved(), 9);
    let status = &step.status;
    let (to, reason, message) = ready(status);
    assert_eq!((to, reason), ("True", "RolledBack"));
    assert!(message.starts_with("rolled back to build 3: "), "{message}");
    assert!(message.ends_with("(1.0 KiB; tags latest, main-aaaaaaa); nothing was built, contract and healthCheck were not asked again"), "{message}");
    assert_eq!(step.notice.as_ref().unwrap().reason, Reason::RolledBack);
    assert_eq!(status.digest.as_deref(), Some(DIGEST_C));
    assert_eq!(status.revision.as_deref(), Some(A));
    assert_eq!(
        status.last_revision.as_deref(),
        Some(B),
        "what was built last is not built again"
    );
    assert_eq!((status.size, status.platforms.len()), (Some(1024), 1));
    let entry = &status.history[0];
    assert_eq!((entry.build, entry.rolled_back_to), (5, Some(3)));
    assert_eq!(
        (entry.trigger, entry.image()),
        (Some(TriggerReason::Rollback), Some(DIGEST_C))
    );
    assert_eq!(
        find(&status.conditions, CONTRACT).unwrap().status,
        "Unknown"
    );
    assert_eq!(status.rollback.as_ref().unwrap().state, RollbackState::Done);
    // Once: it stays there, and nothing follows.
    let build = with(&build, step);
    assert!(is_settled(&build));
    assert_eq!(next(&build, State::Absent, 10).action, Action::None);
}

#[test]
fn what_cannot_be_gone_back_to_is_refused_once_and_changes_nothing_else() {
    for (asked, why) in [
        (
            "9",
            "build 9 is not in status.history: these can be gone back to: 4, 3, 1",
        ),
        (
            "2",
            "build 2 has no image that tags have pointed to (ContractBroken): these can",
        ),
        (
            "three",
            "is not the number of a build: \"three\": these can be gone back to: 4, 3, 1",
        ),
    ] {
        let build = asks(four(), asked);
        let step = next(&build, State::Absent, 1);
        let notice = step.notice.clone().unwrap();
        assert_eq!(
            (notice.warning, notice.reason),
            (true, Reason::RollbackRefused)
        );
        assert!(notice.message.contains(why), "{}", notice.message);
        let told = step.status.rollback.clone().unwrap();
        assert_eq!((told.state, told.to), (RollbackState::Refused, None));
        let before = build.status.clone().unwrap();
        assert_eq!(
            (step.status.build, &step.status.history),
            (Some(4), &before.history)
        );
        assert_eq!(ready(&step.status), ready(&before));
        let build = with(&build, step);
        assert!(is_settled(&build));
        assert_eq!(next(&build, State::Absent, 2).notice, None);
    }
    let mut none = asks(four(), "3");
    none.spec.history_limit = 0;
    none.status.as_mut().unwrap().history.clear();
    let message = next(&none, State::Absent, 1).notice.unwrap().message;
    assert!(message.ends_with("spec.historyLimit is 0"), "{message}");
    let mut untagged = asks(four(), "1");
    untagged.spec.output.tags = vec!["$(COMMIT)".into()];
    untagged.status.as_mut().unwrap().input = Some(input(&untagged));
    let message = next(&untagged, State::Absent, 1).notice.unwrap().message;
    assert!(
        message.contains("name a tag without variables"),
        "{message}"
    );
}

#[test]
fn an_image_that_is_gone_changes_nothing_but_the_history() {
    let build = asks(four(), "3");
    let build = with(&build, next(&build, State::Absent, 1));
    let gone = failed(
        FailureReason::ImageNotFound,
        "image not found: r@sha256:c".into(),
    );
    let step = next(&build, State::Ended(gone), 9);
    let status = &step.status;
    assert_eq!(
        (status.digest.as_deref(), &status.failure),
        (Some(DIGEST_D), &None)
    );
    assert_eq!(status.revision.as_deref(), Some(B));
    assert_eq!((ready(status).0, ready(status).1), ("True", "Succeeded"));
    assert_eq!(
        (status.history[0].result.as_str(), status.history.len()),
        ("ImageNotFound", 5)
    );
    let notice = step.notice.clone().unwrap();
    assert_eq!(
        notice.message,
        "rollback to build 3 failed: image not found: r@sha256:c"
    );
    assert_eq!(
        status.rollback.as_ref().unwrap().state,
        RollbackState::Failed
    );
    assert!(is_settled(&with(&build, step)));
}

#[test]
fn tags_that_could_not_be_moved_are_a_failure_after_as_many_attempts_as_a_build_has() {
    let mut build = asks(four(), "3");
    build.spec.retries = 1;
    let mut build = with(&build, next(&build, State::Absent, 1));
    let away = || State::Ended(failed(FailureReason::PushFailed, "away".into()));
    let step = next(&build, away(), 9);
    assert_eq!(ready(&step.status).1, "Retrying");
    build = with(&build, step);
    let step = next(&build, State::Absent, 60);
    assert!(matches!(request(&step).tagging, Tagging::Back { .. }));
    build = with(&build, step);
    let status = next(&build, away(), 70).status;
    assert_eq!(
        ready(&status),
        ("False", "PushFailed", "rollback to build 3 failed: away")
    );
    assert_eq!(status.digest.as_deref(), Some(DIGEST_D));
}

#[test]
fn a_suspended_image_build_is_rolled_back_too_and_a_build_under_way_is_waited_for() {
    let mut build = asks(four(), "3");
    build.spec.suspend = true;
    assert!(matches!(
        request(&next(&build, State::Absent, 1)).tagging,
        Tagging::Back { .. }
    ));
    // Also where a change of the spec is held.
    build.spec.dockerfile = "other".into();
    let begun = with(&build, next(&build, State::Absent, 1));
    let done = next(&begun, moved(), 9);
    assert_eq!(done.notice.as_ref().unwrap().reason, Reason::RolledBack);
    let held = next(&with(&begun, done), State::Absent, 10);
    assert_eq!(ready(&held.status).1, "Suspended");
    assert!(matches!(
        request(&next(&build, State::Absent, 1)).tagging,
        Tagging::Back { .. }
    ));
    // Else that is built first.
    build.spec.suspend = false;
    let step = next(&build, State::Absent, 1);
    assert_eq!(request(&step).tagging, Tagging::Now);
    let build = with(&build, step);
    let step = next(&build, State::Running, 2);
    assert_eq!((&step.status.rollback, step.stop.len()), (&None, 0));
    let step = next(&with(&build, step), moved(), 9);
    assert_eq!(ready(&step.status).1, "Succeeded");
    let step = next(&with(&build, step), State::Absent, 10);
    assert!(matches!(request(&step).tagging, Tagging::Back { .. }));
    assert_eq!(step.status.build, Some(6));
}

#[test]
fn the_next_commit_and_the_next_spec_build_again() {
    let mut build = asks(four(), "3");
    build = with(&build, next(&build, State::Absent, 1));
    // A commit that was seen meanwhile does not stop it, and is built after it.
    let pending = |revision: &str| Pending {
        reason: TriggerReason::Commit,
        detail: revision.into(),
        revision: Some(revision.into()),
        tree: None,
        since: Time(later(2)),
        doubt: None,
    };
    build.status.as_mut().unwrap().pending = Some(pending("main@sha1:c"));
    assert!(next(&build, State::Running, 2).stop.is_empty());
    build = with(&build, next(&build, moved(), 9));
    let step = next(&build, State::Absent, 10);
    assert_eq!(request(&step).tagging, Tagging::Now);
    // The one that was built last is not.
    build.status.as_mut().unwrap().pending = Some(pending(B));
    let step = next(&build, State::Absent, 10);
    assert_eq!((step.action, step.status.pending), (Action::None, None));
    build.status.as_mut().unwrap().pending = None;
    build.spec.dockerfile = "other".into();
    assert_eq!(
        request(&next(&build, State::Absent, 10)).tagging,
        Tagging::Now
    );
}

#[test]
fn a_changed_spec_takes_the_place_of_a_rollback_and_that_is_said() {
    let mut build = asks(four(), "3");
    build = with(&build, next(&build, State::Absent, 1));
    build.spec.dockerfile = "other".into();
    let step = next(&build, State::Running, 2);
    assert_eq!(step.stop.len(), 1);
    let told = step.status.rollback.clone().unwrap();
    assert_eq!(told.state, RollbackState::Failed);
    assert_eq!(step.status.history[0].result, "Superseded");
    let step = next(&with(&build, step), State::Absent, 3);
    assert_eq!(request(&step).tagging, Tagging::Now);
}

#[test]
fn the_same_request_counts_again_once_it_was_taken_away_or_has_another_word() {
    let mut build = asks(four(), "3");
    build = with(&build, next(&build, State::Absent, 1));
    build = with(&build, next(&build, moved(), 9));
    let other = asks(build.clone(), "3 once more");
    assert!(matches!(
        next(&other, State::Absent, 10).action,
        Action::Start(_)
    ));
    build.metadata.annotations = None;
    assert!(!is_settled(&build));
    build = with(&build, next(&build, State::Absent, 10));
    assert_eq!(build.status.as_ref().unwrap().rollback, None);
    assert!(is_settled(&build));
    let again = asks(build, "3");
    assert!(matches!(
        next(&again, State::Absent, 11).action,
        Action::Start(_)
    ));
}

#[test]
fn the_image_for_debugging_goes_along_where_it_is_known() {
    let mut build = asks(four(), "3");
    let debug = json!({"image": "busybox:1.36"});
    build.spec.debug = Some(serde_json::from_value(debug).unwrap());
    let status = build.status.as_mut().unwrap();
    status.input = None;
    build.spec.suspend = true;
    let step = next(&build, State::Absent, 1);
    let done = next(&with(&build, step), moved(), 9);
    assert!(ready_message(&done).contains("tags of the image for debugging were left alone"));
    build.status.as_mut().unwrap().history[1].debug = Some(DIGEST_A.into());
    let step = next(&build, State::Absent, 1);
    let Tagging::Back { debug, .. } = request(&step).tagging else {
        unreachable!()
    };
    assert_eq!(debug.as_deref(), Some(DIGEST_A));
}

fn ready_message(step: &Step) -> &str {
    &step.notice.as_ref().unwrap().message
}

#[test]
fn a_request_without_cache_is_one_also_beside_a_change_that_nobody_has_seen() {
    let mut build = four();
    build.metadata.generation = build.metadata.generation.map(|it| it + 1);
    build.spec.dockerfile = "other".into();
    let annotations = build.metadata.annotations.get_or_insert_default();
    annotations.insert(REQUESTED_AT.into(), "now".into());
    annotations.insert(NO_CACHE.into(), "now".into());
    let step = next(&build, State::Absent, 1);
    assert!(request(&step).no_cache);
    // The next change takes from the cache what it can.
    let mut build = with(&build, step);
    build = with(&build, next(&build, moved(), 9));
    build.metadata.generation = build.metadata.generation.map(|it| it + 1);
    build.spec.dockerfile = "third".into();
    assert!(!request(&next(&build, State::Absent, 10)).no_cache);
}

#[test]
fn a_refused_one_leaves_what_is_held_back_as_it_was() {
    let mut build = asks(four(), "99");
    build.spec.suspend = true;
    build.spec.dockerfile = "other".into();
    let step = next(&build, State::Absent, 1);
    assert_eq!(step.notice.unwrap().reason, Reason::RollbackRefused);
    let (to, reason, _) = ready(&step.status);
    assert_eq!((to, reason), ("False", "Suspended"));
}

#[test]
fn a_digest_that_is_none_goes_into_no_url() {
    for digest in [
        "../../other/manifests/x",
        "sha256:c",
        "sha256:",
        "sha256:../x",
    ] {
        let mut build = asks(four(), "3");
        let status = build.status.as_mut().unwrap();
        status.history[1].digest = Some(digest.into());
        let step = next(&build, State::Absent, 1);
        assert_eq!(step.action, Action::None, "{digest}");
        let refused = step.notice.unwrap();
        assert_eq!(refused.reason, Reason::RollbackRefused);
        assert!(refused.message.contains("no valid digest"), "{refused:?}");
    }
}

#[test]
fn an_answered_one_is_settled_as_it_is_kept_in_memory_too() {
    let build = asks(four(), "99 because of the incident");
    let build = with(&build, next(&build, State::Absent, 1));
    assert!(is_settled(&build));
    let mut brief = build;
    crate::imagebuild::brief::image_build(&mut brief);
    assert!(is_settled(&brief));
}
