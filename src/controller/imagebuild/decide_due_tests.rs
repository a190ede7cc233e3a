use super::*;
use whittle_api::{NO_CACHE, Pending as Asked, REQUESTED_AT, TriggerReason, Triggers};
use whittle_build::request::{BuildRequest, paths};

const A: &str = "main@sha1:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const B: &str = "main@sha1:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

fn asked(reason: TriggerReason, revision: Option<&str>, seconds: i64) -> Asked {
    Asked {
        reason,
        detail: revision.unwrap_or("golang:1").into(),
        revision: revision.map(str::to_owned),
        tree: None,
        since: Time(later(seconds)),
        doubt: None,
    }
}

/// A build that is done, and this that a trigger has asked for since.
fn and_asked(pending: Asked) -> ImageBuild {
    let mut build = done();
    let status = build.status.as_mut().unwrap();
    ask(&mut status.pending, pending);
    build
}

fn started(status: &ImageBuildStatus) -> Option<(TriggerReason, &str)> {
    let trigger = status.trigger.as_ref()?;
    Some((trigger.reason, trigger.detail.as_str()))
}

/// The step once the attempt under way has ended so.
fn ended(build: &ImageBuild, report: Report, at: Timestamp) -> Step {
    next(&with_attempt(build.clone(), State::Ended(report)), at)
}

fn of(revision: &str) -> Report {
    let Report::Succeeded(built) = success() else {
        unreachable!()
    };
    Report::Succeeded(Built {
        revision: Some(revision.into()),
        ..built
    })
}

#[test]
fn a_commit_begins_a_build_at_once_and_just_one() {
    let mut build = and_asked(asked(TriggerReason::Commit, Some(A), 60));
    assert!(!is_settled(&build) && !is_built(&build));
    let step = next(&observed(build.clone()), later(60));
    assert!(matches!(step.action, Action::Start(_)), "{:?}", step.action);
    assert_eq!(step.status.pending, None);
    assert_eq!(started(&step.status), Some((TriggerReason::Commit, A)));
    assert_eq!(step.status.build, Some(2));
    build.status = Some(step.status);
    // It is told once more while that is being built, and after.
    for seconds in [61, 300] {
        ask(
            &mut build.status.as_mut().unwrap().pending,
            asked(TriggerReason::Commit, Some(A), seconds),
        );
        let step = match seconds {
            61 => ended(&build, of(A), later(seconds)),
            _ => next(&observed(build.clone()), later(seconds)),
        };
        assert_eq!((step.status.build, &step.status.pending), (Some(2), &None));
        assert_eq!(step.status.current, None);
        assert_eq!(step.status.last_revision.as_deref(), Some(A));
        build.status = Some(step.status);
    }
    let history = &build.status.as_ref().unwrap().history;
    assert_eq!(history[0].trigger, Some(TriggerReason::Commit));
    assert!(history[0].unchanged && !history[1].unchanged);
    assert!(is_settled(&build));
}

#[test]
fn a_commit_that_comes_during_a_build_is_built_after_it_unless_that_one_has_it() {
    let mut build = and_asked(asked(TriggerReason::Commit, Some(A), 60));
    build.status = Some(next(&observed(build.clone()), later(60)).status);
    ask(
        &mut build.status.as_mut().unwrap().pending,
        asked(TriggerReason::Commit, Some(B), 90),
    );
    let step = next(&with_attempt(build.clone(), State::Running), later(90));
    assert_eq!((step.status.build, step.stop.len()), (Some(2), 0));
    let had = ended(&build, of(B), later(100)).status;
    assert_eq!((had.pending, had.last_revision.as_deref()), (None, Some(B)));
    build.status = Some(ended(&build, of(A), later(100)).status);
    assert!(build.status.as_ref().unwrap().pending.is_some());
    let step = next(&observed(build), later(100));
    assert_eq!(started(&step.status), Some((TriggerReason::Commit, B)));
    assert_eq!(step.status.build, Some(3));
}

#[test]
fn what_may_be_older_than_what_was_read_waits_for_a_look_at_the_source_and_not_for_ever() {
    const C: &str = "main@sha1:cccccccccccccccccccccccccccccccccccccccc";
    let mut build = and_asked(asked(TriggerReason::Commit, Some(A), 60));
    build.status = Some(next(&observed(build.clone()), later(60)).status);
    let base = |status: &mut ImageBuildStatus| status.bases[0].seen = Some("sha256:02".into());
    let pending = &mut build.status.as_mut().unwrap().pending;
    ask(pending, asked(TriggerReason::Commit, Some(B), 90));
    // It was begun for A, and read C: B may have come before that, or after it.
    let step = ended(&build, of(C), later(100));
    let pending = step.status.pending.clone().unwrap();
    assert_eq!(pending.doubt, Some(Time(later(100))));
    assert_eq!((&step.status.current, step.status.build), (&None, Some(2)));
    build.status = Some(step.status);
    assert!(!is_settled(&build));
    let step = next(&observed(build.clone()), later(130));
    assert_eq!((&step.action, step.status.build), (&Action::None, Some(2)));
    assert_eq!(step.look_again, Some(SignedDuration::from_secs(30)));
    // Whatever keeps its watcher away: nothing is lost.
    let step = next(&observed(build.clone()), later(160));
    assert_eq!(started(&step.status), Some((TriggerReason::Commit, B)));
    // A base image that has moved meanwhile is built from in any case.
    let status = build.status.as_mut().unwrap();
    status.bases =
        serde_json::from_value(serde_json::json!([{"image": "golang:1", "digest": "sha256:01"}]))
            .unwrap();
    assert!(is_doubtful(status));
    base(status);
    assert!(!is_doubtful(status));
    // And so is what a base image asks for beside the commit.
    ask(
        &mut status.pending,
        asked(TriggerReason::BaseImage, None, 131),
    );
    let step = next(&observed(build), later(131));
    assert_eq!(started(&step.status), Some((TriggerReason::Commit, B)));
}

#[test]
fn what_comes_within_ten_seconds_is_one_image_and_what_comes_later_another() {
    let mut build = and_asked(asked(TriggerReason::Webhook, Some(A), 60));
    build.status = Some(next(&observed(build.clone()), later(60)).status);
    let job = build.status.as_ref().unwrap().current.clone().unwrap().job;
    ask(
        &mut build.status.as_mut().unwrap().pending,
        asked(TriggerReason::Webhook, Some(B), 66),
    );
    let step = next(&with_attempt(build.clone(), State::Running), later(66));
    assert_eq!(step.stop, [job]);
    assert_eq!(started(&step.status), Some((TriggerReason::Webhook, B)));
    // The ten seconds count from the first: commit by commit nothing would ever end.
    build.status = Some(step.status);
    ask(
        &mut build.status.as_mut().unwrap().pending,
        asked(TriggerReason::Webhook, Some(A), 72),
    );
    let step = next(&with_attempt(build, State::Running), later(72));
    assert!(step.stop.is_empty() && step.status.pending.is_some());
}

#[test]
fn base_images_that_move_together_start_one_build_after_ten_seconds() {
    let mut build = and_asked(asked(TriggerReason::BaseImage, None, 60));
    let step = next(&observed(build.clone()), later(63));
    assert_eq!(step.action, Action::None);
    assert_eq!(step.look_again, Some(SignedDuration::from_secs(7)));
    assert_eq!(condition(&step.status, READY), Some(("True", "Succeeded")));
    ask(
        &mut build.status.as_mut().unwrap().pending,
        asked(TriggerReason::BaseImage, None, 65),
    );
    let step = next(&observed(build.clone()), later(70));
    assert!(matches!(step.action, Action::Start(_)));
    // Where a commit comes, somebody waits for it.
    let pending = &mut build.status.as_mut().unwrap().pending;
    ask(pending, asked(TriggerReason::Commit, Some(B), 66));
    ask(pending, asked(TriggerReason::BaseImage, None, 67));
    let step = next(&observed(build), later(67));
    assert_eq!(started(&step.status), Some((TriggerReason::Commit, B)));
    let trigger = step.status.trigger.unwrap();
    assert_eq!(trigger.revision.as_deref(), Some(B));
}

#[test]
fn what_was_asked_for_under_a_clock_that_is_set_back_begins_now() {
    let build = and_asked(asked(TriggerReason::BaseImage, None, 3600));
    let step = next(&observed(build), later(60));
    assert!(matches!(step.action, Action::Start(_)));
}

#[test]
fn a_change_of_the_spec_takes_with_it_what_was_asked_for() {
    let mut build = and_asked(asked(TriggerReason::Commit, Some(A), 60));
    build.spec.dockerfile = "other".into();
    build.metadata.generation = Some(2);
    let step = next(&observed(build), later(61));
    assert_eq!(
        started(&step.status),
        Some((TriggerReason::Spec, "generation 2"))
    );
    assert_eq!(step.status.pending, None);
}

#[test]
fn a_request_is_told_from_a_change_of_the_spec() {
    let mut build = done();
    build
        .annotations_mut()
        .insert(REQUESTED_AT.into(), "now".into());
    let step = next(&observed(build.clone()), later(60));
    assert_eq!(started(&step.status), Some((TriggerReason::Request, "now")));
    build.metadata.generation = Some(2);
    build.spec.dockerfile = "other".into();
    let step = next(&observed(build), later(60));
    assert_eq!(
        started(&step.status),
        Some((TriggerReason::Spec, "generation 2"))
    );
}

#[test]
fn suspended_it_waits_and_is_built_once_it_may() {
    let mut build = and_asked(asked(TriggerReason::Commit, Some(A), 60));
    build.spec.suspend = true;
    build.metadata.generation = Some(2);
    let step = next(&observed(build.clone()), later(60));
    assert_eq!(step.action, Action::None);
    assert_eq!(condition(&step.status, READY), Some(("False", "Suspended")));
    build.status = Some(step.status);
    build.spec.suspend = false;
    build.metadata.generation = Some(3);
    let step = next(&observed(build), later(90));
    assert_eq!(started(&step.status), Some((TriggerReason::Commit, A)));
}

fn with_schedule(schedule: &str) -> ImageBuild {
    let mut build = done();
    build.spec.triggers = Some(Triggers {
        schedule: Some(schedule.into()),
        ..Triggers::default()
    });
    build.metadata.generation = Some(2);
    build
}

#[test]
fn a_schedule_starts_a_build_when_its_time_comes_and_one_for_all_that_were_missed() {
    // 1970-01-12 13:46:40 UTC.
    let mut build = with_schedule("0 14 * * *");
    let step = next(&observed(build.clone()), now());
    assert_eq!(step.action, Action::None);
    let until = SignedDuration::from_secs(800);
    assert_eq!(step.look_again, Some(until));
    build.status = Some(step.status);
    assert!(is_settled(&build));
    assert_eq!(rests(&build, now()), Some(until));
    // Five days and a minute later: one build, of the last of them.
    let late = now() + until + SignedDuration::from_secs(5 * 86_400 + 60);
    assert_eq!(rests(&build, late), Some(SignedDuration::ZERO));
    let step = next(&observed(build.clone()), late);
    let schedule = step.status.schedule.clone().unwrap();
    let text = |time: Option<Time>| time.map(|time| time.0.to_string());
    assert_eq!(text(schedule.last).as_deref(), Some("1970-01-17T14:00:00Z"));
    assert_eq!(text(schedule.next).as_deref(), Some("1970-01-18T14:00:00Z"));
    build.status = Some(step.status);
    let step = next(&observed(build), late + SignedDuration::from_secs(10));
    assert!(matches!(step.action, Action::Start(_)));
    assert_eq!(
        started(&step.status),
        Some((
            TriggerReason::Schedule,
            "0 14 * * * at 1970-01-17T14:00:00Z"
        ))
    );
}

#[test]
fn a_schedule_that_changes_or_goes_has_no_times_of_the_old_one() {
    let mut build = with_schedule("0 14 * * *");
    build.status = Some(next(&observed(build.clone()), now()).status);
    build.spec.triggers.as_mut().unwrap().schedule = Some("0 15 * * *".into());
    let step = next(&observed(build.clone()), later(5 * 86_400));
    assert_eq!(step.action, Action::None);
    assert_eq!(step.status.pending, None, "it is new");
    build.status = Some(step.status);
    build.spec.triggers = None;
    assert_eq!(
        next(&observed(build), later(6 * 86_400)).status.schedule,
        None
    );
}

fn cancelling(build: &ImageBuild, asked: &str) -> ImageBuild {
    let mut build = build.clone();
    build.annotations_mut().insert(CANCEL.into(), asked.into());
    build
}

#[test]
fn a_build_is_ended_by_its_number_or_as_the_current_one_and_no_other_is() {
    let running = running();
    for asked in ["1", "current"] {
        let build = cancelling(&running, asked);
        let step = next(&with_attempt(build.clone(), State::Running), later(60));
        assert_eq!(step.stop.len(), 1, "{asked}");
        assert_eq!(step.status.current, None);
        assert_eq!(condition(&step.status, READY), Some(("False", "Canceled")));
        assert_eq!(condition(&step.status, STALLED), Some(("True", "Canceled")));
        assert_eq!(step.status.history[0].result, "Canceled");
        // The annotation stays; the next build is not meant.
        let mut build = build;
        build.status = Some(step.status);
        assert!(is_settled(&build));
        ask(
            &mut build.status.as_mut().unwrap().pending,
            asked_for(TriggerReason::Commit),
        );
        let step = next(&observed(build.clone()), later(90));
        build.status = Some(step.status);
        let step = next(&with_attempt(build.clone(), State::Running), later(91));
        assert!(
            step.stop.is_empty() && step.status.current.is_some(),
            "{asked}"
        );
        // Set anew it is.
        build.annotations_mut().remove(CANCEL);
        build.status = Some(next(&with_attempt(build.clone(), State::Running), later(92)).status);
        let build = cancelling(&build, "current");
        let step = next(&with_attempt(build, State::Running), later(93));
        assert_eq!(step.stop.len(), 1);
    }
    for other in ["2", "", "01", "all"] {
        let build = cancelling(&running, other);
        let step = next(&with_attempt(build, State::Running), later(60));
        assert!(step.stop.is_empty(), "{other}");
    }
}

fn asked_for(reason: TriggerReason) -> Asked {
    asked(reason, Some(B), 80)
}

/// A build that waits for its turn since then, begun so, of this priority.
fn waiting(uid: &str, since: i64, reason: TriggerReason, priority: i32) -> ImageBuild {
    let mut build = running();
    build.metadata.uid = Some(uid.into());
    build.spec.priority = priority;
    let status = build.status.as_mut().unwrap();
    status.started_at = Some(Time(later(since)));
    status.trigger.as_mut().unwrap().reason = reason;
    build
}

#[test]
fn the_order_is_by_priority_then_by_who_waits_for_it_then_by_time() {
    let mut queue = [
        waiting("low", 0, TriggerReason::Request, -1),
        waiting("nightly", 1, TriggerReason::Schedule, 0),
        waiting("base", 2, TriggerReason::BaseImage, 0),
        waiting("commit", 9, TriggerReason::Commit, 0),
        waiting("person", 8, TriggerReason::Spec, 0),
        waiting("urgent base", 10, TriggerReason::BaseImage, 5),
    ];
    queue.sort_by_cached_key(turn);
    let order = queue
        .each_ref()
        .map(|build| build.metadata.uid.as_deref().unwrap());
    assert_eq!(
        order,
        ["urgent base", "person", "commit", "nightly", "base", "low"]
    );
}

/// How many others are before a person's build of priority 0, where enough builds that stand back run, or not.
fn before_a_person(other: &ImageBuild, full: bool) -> usize {
    let person = waiting("person", 9, TriggerReason::Spec, 0);
    Queue::of(&person, &[other], &Runners::default(), full).before
}

/// The same, with another reason that it waits for.
fn that_waits_for(build: &ImageBuild, reason: Reason) -> ImageBuild {
    let wait = crate::imagebuild::outcome::Pending::new(reason, "x".into());
    let mut waits = build.clone();
    let status = waits.status.as_mut().unwrap();
    crate::imagebuild::status::wait(status, build, &wait, later(9));
    waits
}

#[test]
fn what_cannot_start_now_is_before_nobody_whatever_its_priority() {
    for reason in [TriggerReason::BaseImage, TriggerReason::Schedule] {
        let urgent = waiting("back", 0, reason, 50);
        assert_eq!(before_a_person(&urgent, false), 1);
        assert_eq!(before_a_person(&urgent, true), 0);
    }
    // A person's is none of those.
    let urgent = waiting("urgent", 0, TriggerReason::Commit, 50);
    assert_eq!(before_a_person(&urgent, true), 1);
    let waits = |reason: Reason| before_a_person(&that_waits_for(&urgent, reason), false);
    for reason in [
        Reason::Retrying,
        Reason::SourceNotReady,
        FailureReason::SecretNotFound.into(),
        FailureReason::SourceNotFound.into(),
    ] {
        assert_eq!(waits(reason), 0, "{reason}");
    }
    // These go on as soon as they have a place, or hold one.
    for reason in [
        Reason::Queued,
        Reason::WaitingForBuilder,
        Reason::WaitingForEarlierPod,
    ] {
        assert_eq!(waits(reason), 1, "{reason}");
    }
    let mut suspended = urgent;
    suspended.spec.suspend = true;
    assert_eq!(before_a_person(&suspended, false), 0);
}

#[test]
fn builds_that_stand_back_wait_where_enough_of_them_run_in_the_cluster() {
    let most = fixtures::settings().triggers.max_concurrent;
    let mut observed = observed(waiting("b", 0, TriggerReason::BaseImage, 0));
    observed.queue.standing_back.all = most;
    let step = next(&observed, later(1));
    let said = find(&step.status.conditions, READY).unwrap();
    assert_eq!(said.reason, "Queued");
    assert!(said.message.contains("triggers.maxConcurrent"), "{said:?}");
    observed.queue.standing_back.all = most - 1;
    assert!(matches!(next(&observed, later(1)).action, Action::Start(_)));
    let mut person = super::observed(waiting("p", 0, TriggerReason::Spec, 0));
    person.queue.standing_back.all = most;
    assert!(matches!(next(&person, later(1)).action, Action::Start(_)));
}

#[test]
fn the_tree_of_what_was_asked_for_stands_with_the_revision_that_is_built() {
    let with_tree = |revision| Asked {
        tree: Some("t".into()),
        ..asked(TriggerReason::Commit, Some(revision), 60)
    };
    let mut build = and_asked(with_tree(A));
    let step = next(&observed(build.clone()), later(60));
    assert_eq!(step.status.folder, None, "it is not built yet");
    build.status = Some(step.status);
    build.status = Some(ended(&build, of(A), later(70)).status);
    let folder = build.status.as_ref().unwrap().folder.clone().unwrap();
    assert_eq!((folder.tree.as_str(), folder.built.as_str()), ("t", A));
    // Seen while a build that has it runs already.
    let mut running = running();
    ask(&mut running.status.as_mut().unwrap().pending, with_tree(A));
    build.status = Some(ended(&running, of(A), later(90)).status);
    let status = build.status.unwrap();
    assert_eq!((status.pending, status.folder), (None, Some(folder)));
}

#[test]
fn builds_in_a_row_are_counted_until_something_else_starts_one_or_an_hour_has_passed() {
    let minutes = |minutes: i64| 60 * minutes;
    let mut build = done();
    let mut counted = vec![];
    for (reason, at) in [
        (TriggerReason::BaseImage, 10),
        (TriggerReason::BaseImage, 20),
        (TriggerReason::BaseImage, 30),
        (TriggerReason::Commit, 40),
        (TriggerReason::BaseImage, 50),
        (TriggerReason::BaseImage, 60),
        (TriggerReason::BaseImage, 111),
        (TriggerReason::Schedule, 112),
    ] {
        let revision = format!("main@sha1:{at:040}");
        let revision = (reason == TriggerReason::Commit).then_some(revision.as_str());
        let asked = asked(reason, revision, minutes(at) - 10);
        ask(&mut build.status.as_mut().unwrap().pending, asked);
        let step = next(&observed(build.clone()), later(minutes(at)));
        counted.push(step.status.trigger.as_ref().unwrap().row.clone());
        build.status = Some(step.status);
        build.status = Some(ended(&build, success(), later(minutes(at) + 5)).status);
    }
    let counted: Vec<_> = counted
        .iter()
        .map(|row| row.as_ref().map(|row| row.builds))
        .collect();
    assert_eq!(
        counted,
        [
            Some(1),
            Some(2),
            Some(3),
            None,
            Some(1),
            Some(2),
            Some(1),
            None
        ]
    );
}

#[test]
fn two_that_are_built_from_each_others_image_end_and_say_so() {
    use crate::watcher::heard;
    use whittle_watch::wire::{Outcome, Seen};
    let base = |digest: String| whittle_api::Base {
        image: "registry.example.com/team/other:1".into(),
        digest,
        stage: None,
        seen: None,
    };
    // Each image that one of them makes is new, and so is the base of the other one.
    let mut both = [done(), done()];
    for build in &mut both {
        build.spec.triggers =
            serde_json::from_str(r#"{"baseImages": {"interval": "10s"}}"#).unwrap();
        let input = input(build);
        let status = build.status.as_mut().unwrap();
        (status.input, status.bases) = (Some(input), vec![base("sha256:0".into())]);
    }
    // How many images each has made; somebody has pushed one of the second by hand.
    let (mut made, mut idle) = ([0, 1], 0);
    for at in 1_i64.. {
        assert!(at < 100, "it does not end");
        let which = usize::try_from(at % 2).unwrap();
        let (build, at) = (&mut both[which], at * 60);
        let digest = format!("sha256:{}", made[1 - which]);
        let image = &build.status.as_ref().unwrap().bases[0].image;
        let seen = Seen {
            id: crate::watcher::base_id(&build.uid().unwrap(), image),
            wanted: false,
            tree: None,
            age_seconds: 0,
            begun_millis: None,
            outcome: Outcome::Found {
                revision: digest.clone(),
            },
        };
        if let Some(status) = heard(build, &seen, later(at)) {
            build.status = Some(status);
        }
        let step = next(&observed(build.clone()), later(at + 20));
        build.status = Some(step.status);
        if build.status.as_ref().unwrap().current.is_some() {
            let Report::Succeeded(built) = success() else {
                unreachable!()
            };
            let report = Report::Succeeded(Built {
                bases: vec![base(digest)],
                ..built
            });
            build.status = Some(ended(build, report, later(at + 30)).status);
            made[which] += 1;
            idle = 0;
        } else {
            idle += 1;
        }
        if idle == 10 {
            break;
        }
    }
    assert_eq!(made, [5, 6]);
    let said = |build: &ImageBuild| {
        let status = build.status.as_ref().unwrap();
        find(&status.conditions, whittle_api::TRIGGERS)
            .unwrap()
            .reason
            .clone()
    };
    assert!(both.iter().any(|build| said(build) == "Loop"));
}

/// A failure before the source was read.
fn unread(reason: FailureReason) -> Report {
    failed(reason, "m".into())
}

#[test]
fn a_commit_whose_build_failed_before_it_was_read_counts_as_tried_unless_the_platform_was_at_fault()
{
    let mut build = and_asked(asked(TriggerReason::Commit, Some(A), 60));
    build.spec.retries = 0;
    build.status = Some(next(&observed(build.clone()), later(60)).status);
    let before = build.status.as_ref().unwrap().last_revision.clone();
    for (reason, tried) in [
        (FailureReason::Timeout, false),
        (FailureReason::BuilderLost, false),
        (FailureReason::BuildRejected, true),
    ] {
        let status = ended(&build, unread(reason), later(90)).status;
        assert_eq!(
            status.last_revision.as_deref() == Some(A),
            tried,
            "{reason}"
        );
        assert_eq!(status.trigger.unwrap().read, tried);
        assert!(tried || status.last_revision == before);
    }
}

#[test]
fn what_was_seen_while_a_canceled_build_ran_begins_no_other_one() {
    let mut build = cancelling(&running(), "1");
    ask(
        &mut build.status.as_mut().unwrap().pending,
        asked(TriggerReason::Commit, Some(A), 30),
    );
    let step = next(&with_attempt(build.clone(), State::Running), later(60));
    assert_eq!((step.status.current, step.status.pending), (None, None));
    assert_eq!(step.status.last_revision.as_deref(), Some(A));
    // What has ended already counts.
    let step = ended(&build, of(A), later(60));
    assert_eq!(condition(&step.status, READY), Some(("True", "Succeeded")));
}

#[test]
fn a_base_image_that_moved_while_a_build_took_it_starts_no_other_one() {
    let base = |digest: &str| whittle_api::Base {
        image: "registry.example.com/base:1".into(),
        digest: digest.into(),
        stage: None,
        seen: None,
    };
    let with = |digest: &str| {
        let Report::Succeeded(built) = success() else {
            unreachable!()
        };
        Report::Succeeded(Built {
            bases: vec![base(digest)],
            ..built
        })
    };
    let mut build = running();
    let status = build.status.as_mut().unwrap();
    status.bases = vec![whittle_api::Base {
        seen: Some("sha256:2".into()),
        ..base("sha256:1")
    }];
    ask(
        &mut status.pending,
        asked(TriggerReason::BaseImage, None, 5),
    );
    assert_eq!(
        ended(&build, with("sha256:2"), later(30)).status.pending,
        None
    );
    let older = ended(&build, with("sha256:1"), later(30)).status;
    assert!(older.pending.is_some());
    assert_eq!(older.bases[0].seen.as_deref(), Some("sha256:2"));
}

#[test]
fn a_request_without_the_cache_is_one_build_and_no_later_one() {
    let request = |build: &mut ImageBuild, without: bool, value: &str| {
        let annotations = build.annotations_mut();
        annotations.insert(REQUESTED_AT.into(), value.into());
        if without {
            annotations.insert(NO_CACHE.into(), value.into());
        }
    };
    let without_cache = |build: &ImageBuild| {
        let Action::Start(attempt) = next(&observed(build.clone()), later(60)).action else {
            panic!("a build begins");
        };
        let text = &attempt.config_map.data.unwrap()[paths::REQUEST_KEY];
        serde_json::from_str::<BuildRequest>(text).unwrap().no_cache
    };
    let mut build = done();
    request(&mut build, true, "now");
    assert!(without_cache(&build));
    // The next request, and one that the spec begins, though both annotations are still there.
    let mut later = build.clone();
    request(&mut later, false, "later");
    assert!(!without_cache(&later));
    let mut changed = build.clone();
    let status = changed.status.as_mut().unwrap();
    status.last_handled_request = Some("now".into());
    status.input = Some(input(&build));
    changed.spec.target = Some("other".into());
    assert!(!without_cache(&changed));
}
