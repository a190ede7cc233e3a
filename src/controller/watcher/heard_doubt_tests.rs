//! Whether a look came after something.

use super::*;

/// A build that was begun for A, read C, and ended now; B was seen meanwhile.
fn doubted() -> ImageBuild {
    let mut build = polled();
    let status = build.status.as_mut().unwrap();
    let started = json!({"reason": "Commit", "detail": A, "revision": A, "since": "1970-01-01T00:00:00Z", "read": true});
    let asked =
        json!({"reason": "Commit", "detail": B, "revision": B, "since": "1970-01-01T00:00:00Z"});
    status.trigger = serde_json::from_value(started).unwrap();
    status.pending = serde_json::from_value(asked).unwrap();
    status.pending.as_mut().unwrap().doubt = Some(Time(now()));
    status.completed_at = Some(Time(now()));
    status.last_revision = Some(C.into());
    build
}

#[test]
fn a_look_after_a_build_says_whether_what_was_seen_during_it_is_news() {
    let after = |seconds| now() + SignedDuration::from_secs(seconds);
    let build = doubted();
    let id = id_of(&build);
    let doubt = |status: &ImageBuildStatus| status.pending.as_ref().unwrap().doubt.clone();
    // The source is where the build found it: what was seen before is older, and part of it.
    let status = heard(&build, &found(&id, C), after(3)).unwrap();
    assert_eq!(pending(&status), None);
    // It is where it was seen: that is news. A look from before says nothing.
    let status = heard(&build, &found(&id, B), after(3)).unwrap();
    assert_eq!(
        (pending(&status), doubt(&status)),
        (Some((TriggerReason::Commit, Some(B))), None)
    );
    let old = Seen {
        age_seconds: 1,
        ..found(&id, B)
    };
    let status = heard(&build, &old, after(3)).unwrap();
    assert_eq!(doubt(&status), Some(Time(now())));
    // Nor does one that still found what was built.
    let status = heard(&build, &found(&id, C), after(1)).unwrap();
    assert_eq!(doubt(&status), Some(Time(now())));
    // It has moved once more. Nobody has posted that: the look was asked for by the doubt.
    let wanted = Seen {
        wanted: true,
        ..found(&id, D)
    };
    let status = heard(&build, &wanted, after(3)).unwrap();
    assert_eq!(
        (pending(&status), doubt(&status)),
        (Some((TriggerReason::Commit, Some(D))), None)
    );
}

#[test]
fn a_look_that_began_before_a_doubt_and_ended_after_it_says_nothing() {
    let build = doubted();
    let id = id_of(&build);
    let later = now() + SignedDuration::from_secs(12);
    // The server was asked, the commit was pushed, the build ended, and then the answer came.
    let slow = |revision: &str, begun_millis| Seen {
        age_seconds: 0,
        begun_millis: Some(begun_millis),
        ..found(&id, revision)
    };
    // As it was before the push: it does not say that the commit was built.
    let status = heard(&build, &slow(C, 13_000), later).unwrap();
    assert_eq!(pending(&status), Some((TriggerReason::Commit, Some(B))));
    assert!(status.pending.unwrap().doubt.is_some());
    // As it was before the build read a newer one: it does not say that it is news.
    let status = heard(&build, &slow(B, 13_000), later).unwrap();
    assert!(status.pending.unwrap().doubt.is_some());
    // One that began after it does, however long it took.
    let status = heard(&build, &slow(C, 9_000), later).unwrap();
    assert_eq!(pending(&status), None);
    let status = heard(&build, &slow(B, 9_000), later).unwrap();
    assert_eq!(status.pending.unwrap().doubt, None);
    // What ended before a build began is older than what that reads; what had only begun may be newer, and is not lost.
    let mut build = polled();
    let status = build.status.as_mut().unwrap();
    let started =
        json!({"reason": "Spec", "detail": "", "since": "1970-01-01T00:00:00Z", "read": true});
    status.trigger = serde_json::from_value(started).unwrap();
    status.started_at = Some(Time(now()));
    status.completed_at = Some(Time(now() + SignedDuration::from_secs(1)));
    let status = heard(&build, &slow(B, 13_000), later).unwrap();
    assert_eq!(pending(&status), Some((TriggerReason::Commit, Some(B))));
    // It may be older than what the build read as well: it is looked at again.
    assert!(status.pending.unwrap().doubt.is_some());
}

#[test]
fn what_was_looked_at_ages_ago_can_be_reckoned_with() {
    let build = doubted();
    let ages = Seen {
        age_seconds: u64::MAX,
        begun_millis: Some(u64::MAX),
        ..found(&id_of(&build), B)
    };
    let status = heard(&build, &ages, now()).unwrap();
    assert!(status.pending.unwrap().doubt.is_some());
}

#[test]
fn the_look_that_a_doubt_asks_for_counts_wherever_in_a_second_the_build_has_ended() {
    let build = doubted();
    let id = id_of(&build);
    let pause = i64::try_from(crate::watcher::sources::DOUBTED.as_millis()).unwrap();
    // The doubt is written without its milliseconds; the look takes 300 of them, and may be told later still.
    for ended in [0, 300, 700, 999] {
        for took in [300, 1_100, 2_900] {
            // Of an earlier watcher, and of one of this version.
            for begun in [None, Some(u64::try_from(took).unwrap())] {
                let seen = Seen {
                    age_seconds: u64::try_from(took / 1_000).unwrap(),
                    begun_millis: begun,
                    ..found(&id, B)
                };
                let at = now() + SignedDuration::from_millis(ended + pause + took);
                let status = heard(&build, &seen, at).unwrap();
                let pending = status.pending.unwrap();
                assert_eq!(
                    (pending.revision.as_deref(), pending.doubt),
                    (Some(B), None)
                );
            }
        }
    }
}

#[test]
fn what_was_seen_during_a_build_and_is_told_after_it_is_looked_at_again() {
    let mut build = doubted();
    build.status.as_mut().unwrap().pending = None;
    let id = id_of(&build);
    let told = |age_seconds| Seen {
        age_seconds,
        ..found(&id, B)
    };
    let later = now() + SignedDuration::from_secs(10);
    let doubt = |build: &ImageBuild, age| {
        heard(build, &told(age), later)
            .unwrap()
            .pending
            .unwrap()
            .doubt
    };
    assert_eq!(doubt(&build, 11), Some(Time(later)));
    assert_eq!(doubt(&build, 5), None);
    // A build that has read what it was begun for has nothing that came after that.
    build.status.as_mut().unwrap().last_revision = Some(A.into());
    assert_eq!(doubt(&build, 11), None);
}
