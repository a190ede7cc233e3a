use super::super::tests::{later, next, now, observed};
use super::super::*;
use super::*;
use crate::fixtures;
use crate::imagebuild::brief;

fn minutes(starts: Option<Timestamp>) -> Option<i64> {
    Some(
        starts?
            .duration_since(round(now(), SignedDuration::ZERO))
            .as_secs()
            / 60,
    )
}

fn ahead(running: &[(i64, Option<i64>)], before: &[Option<i64>]) -> Ahead {
    let began = |(ago, usual): &(i64, Option<i64>)| (Some(later(-ago)), *usual);
    Ahead {
        running: running.iter().map(began).collect(),
        before: before.to_vec(),
        suspended: 0,
    }
}

#[test]
fn a_build_starts_when_those_before_it_have_ended_as_they_usually_do() {
    for (running, before, most, expected) in [
        // One place: what is left of the one that runs, and each that waits.
        (vec![(60, Some(300))], vec![], 1, Some(4)),
        (vec![(60, Some(300))], vec![Some(600)], 1, Some(14)),
        // Two: the one that is free first is taken.
        (
            vec![(0, Some(300)), (0, Some(900))],
            vec![Some(60)],
            2,
            Some(6),
        ),
        (vec![(0, Some(300))], vec![Some(120)], 2, Some(2)),
        (
            vec![(0, Some(300)), (0, Some(900))],
            vec![Some(600)],
            3,
            Some(5),
        ),
        // More run than are to.
        (vec![(0, Some(300)), (0, Some(900))], vec![], 1, Some(15)),
        // One that takes longer than usual: nobody knows how long, and not for ever.
        (vec![(4000, Some(400))], vec![], 1, Some(2)),
        // Without a history it takes what the others do.
        (vec![(0, Some(300))], vec![None], 1, Some(10)),
    ] {
        let found = starts(&ahead(&running, &before), most, now());
        assert_eq!(minutes(found), expected, "{running:?} {before:?} {most}");
    }
}

#[test]
fn nothing_is_said_where_most_have_no_history_or_where_it_takes_more_than_a_week() {
    assert_eq!(starts(&ahead(&[(0, None)], &[]), 1, now()), None);
    let few = ahead(&[(0, None), (0, None), (0, Some(60))], &[]);
    assert_eq!(starts(&few, 1, now()), None);
    let many = ahead(&[(0, Some(60))], &vec![Some(3600); 200]);
    assert_eq!(starts(&many, 1, now()), None);
    assert_eq!(words(None, now()), "");
}

#[test]
fn nothing_is_said_where_one_waits_for_kueue_or_a_place_is_free_whatever_a_status_says() {
    let mut known = ahead(&[(0, Some(300))], &[]);
    assert!(starts(&known, 1, now()).is_some());
    assert_eq!(starts(&known, 2, now()), None, "something else holds it up");
    known.suspended = 1;
    assert_eq!(starts(&known, 1, now()), None);
    // Whoever may write statuses: no time of theirs ends the controller.
    let absurd = ahead(&[(i64::from(i32::MIN), Some(i64::MAX))], &[Some(i64::MAX)]);
    assert_eq!(starts(&absurd, 1, now()), None);
}

#[test]
fn the_further_away_the_rougher_it_is_said() {
    let rest = |seconds: i64| {
        let at = round(now(), SignedDuration::from_secs(seconds)).as_second();
        [1800, 300, 60].into_iter().find(|to| at % to == 0)
    };
    assert_eq!(rest(6 * 3600 + 1), Some(1800));
    assert!(rest(2 * 3600 + 7).unwrap() >= 300);
    assert!(rest(61).unwrap() >= 60);
}

#[test]
fn what_was_said_stays_unless_it_is_over_or_differs_by_more_than_a_fifth() {
    let at = |seconds| Some(later(seconds));
    assert_eq!(said(at(600), at(660), now()), at(600));
    assert_eq!(said(at(600), at(721), now()), at(721));
    assert_eq!(said(at(6000), at(7200), now()), at(6000));
    assert_eq!(said(at(6000), at(7201), now()), at(7201));
    assert_eq!(said(at(0), at(60), now()), at(60));
    assert_eq!(said(at(600), None, now()), None);
    assert_eq!(said(None, at(60), now()), at(60));
}

#[test]
fn a_build_that_waits_says_its_place_and_about_when_it_starts_and_not_each_minute_anew() {
    let mut waiting = observed(fixtures::inline());
    waiting.queue.running = 2;
    waiting.queue.before = 3;
    waiting.queue.ahead = ahead(&[(0, Some(300)), (0, Some(300))], &[Some(600); 3]);
    let step = next(&waiting, now());
    let said = step.status.waiting().unwrap();
    assert_eq!(said.position, Some(4));
    assert_eq!(minutes(said.starts.as_ref().map(|it| it.0)), Some(15));
    let ready = find(&step.status.conditions, READY).unwrap();
    assert_eq!(
        ready.message,
        "queued: Builder default runs at most 2 builds at a time (maxConcurrentBuilds): 2 running, 3 queued before this one; starts \
         about 14:02 UTC, by how long the last builds took"
    );
    waiting.build.status = Some(step.status.clone());
    // A minute later the same that runs has ended a minute later.
    waiting.queue.ahead = ahead(&[(0, Some(300)), (0, Some(300))], &[Some(600); 3]);
    assert_eq!(next(&waiting, later(60)).status, step.status);
    assert!(!is_overdue(&waiting.build, later(60)));
    assert!(is_overdue(&waiting.build, later(16 * 60)));
    // It is its turn: nothing of that is left.
    waiting.queue = Queue::default();
    let step = next(&waiting, later(120));
    assert_eq!(step.status.current.unwrap().waiting, None);
}

#[test]
fn of_a_watched_build_it_is_known_what_its_builds_usually_take_and_since_when_it_runs() {
    let mut build = fixtures::inline();
    let entry = |result: &str, seconds: i64| serde_json::json!({"build": 1, "generation": 1, "result": result, "durationSeconds": seconds});
    let history = [
        entry("StepFailed", 1),
        entry("Succeeded", 50),
        entry("Succeeded", 70),
        entry("RolledBack", 2),
        entry("Succeeded", 900),
    ];
    let status = serde_json::json!({"history": history, "startedAt": "2026-01-01T00:00:00Z", "current": {"attempt": 1, "job": "j",
        "generation": 1, "started": true, "since": "2026-01-01T00:01:00Z"}});
    build.status = Some(serde_json::from_value(status).unwrap());
    brief::image_build(&mut build);
    let mut known = Ahead::default();
    known.runs(&build);
    known.waits(&build);
    let since = "2026-01-01T00:01:00Z".parse().ok();
    assert_eq!(known.running, [(since, Some(70))]);
    assert_eq!(known.before, [Some(70)]);
}
