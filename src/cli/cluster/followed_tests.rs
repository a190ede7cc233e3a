use serde_json::{Value, json};

use super::super::fixtures::{build, building, failed, queued, ready};
use super::*;

fn over(build: ImageBuild, over: Value) -> ImageBuild {
    let mut value = serde_json::to_value(build).unwrap();
    json_patch::merge(&mut value, &over);
    serde_json::from_value(value).unwrap()
}

fn ended(number: i64, result: &str) -> Value {
    json!({"status": {"build": number, "current": null, "history": [{"build": number, "generation": 3, "result": result}]}})
}

fn phases(until: &Until, states: &[ImageBuild]) -> Vec<Phase> {
    let mut followed = Followed::new(until);
    states.iter().map(|it| followed.see(it)).collect()
}

use Outcome::{Failed, Succeeded};
use Phase::{Before, Ended, Superseded, UnderWay};

#[test]
fn a_request_is_followed_from_when_it_is_handled_to_the_end_of_its_build() {
    let handled = |it| over(it, json!({"status": {"lastHandledRequest": "now"}}));
    let states = [
        build(json!({})),
        over(
            building(),
            json!({"status": {"lastHandledRequest": "before"}}),
        ),
        handled(building()),
        handled(over(failed(), ended(8, "StepFailed"))),
    ];
    let until = Until::Request("now".into());
    let expected = [Before, Before, UnderWay, Ended(Failed("StepFailed".into()))];
    assert_eq!(phases(&until, &states), expected);
}

#[test]
fn a_request_that_was_overwritten_before_it_was_seen_is_the_one_in_its_place() {
    let instead = json!({"metadata": {"annotations": {"whittle.dev/requestedAt": "later"}}, "status": {"lastHandledRequest": "later"}});
    let until = Until::Request("now".into());
    assert_eq!(phases(&until, &[over(building(), instead)]), [UnderWay]);
}

#[test]
fn the_build_in_the_place_of_a_superseded_one_is_followed_to_its_end() {
    let superseded = json!({"status": {"build": 9, "history": [{"build": 8, "generation": 3, "result": "Superseded"}]}});
    let states = [
        building(),
        over(building(), superseded),
        over(building(), ended(9, "StepFailed")),
    ];
    let expected = [
        UnderWay,
        Superseded(8, 9),
        Ended(Failed("StepFailed".into())),
    ];
    assert_eq!(phases(&Until::Current, &states), expected);
}

#[test]
fn a_build_has_its_own_result_also_where_the_next_one_has_begun() {
    let next = |result: &str| json!({"status": {"build": 9, "history": [{"build": 8, "generation": 3, "result": result}]}});
    for (result, outcome) in [
        ("Succeeded", Succeeded),
        ("Canceled", Failed("Canceled".into())),
    ] {
        let states = [building(), over(building(), next(result))];
        assert_eq!(phases(&Until::Current, &states), [UnderWay, Ended(outcome)]);
    }
}

#[test]
fn a_generation_begins_only_once_the_pod_of_the_build_before_has_ended() {
    let until = Until::Generation(4);
    let mut waits = ready("Unknown", "WaitingForEarlierPod", "m")
        .as_array()
        .unwrap()
        .clone();
    waits.push(json!({"type": "Reconciling", "status": "True", "reason": "WaitingForEarlierPod", "message": "m", "lastTransitionTime": "2026-11-25T11:59:00Z"}));
    let seen = json!({"metadata": {"generation": 4}, "status": {"observedGeneration": 4, "conditions": waits}});
    let begun = json!({"metadata": {"generation": 4}, "status": {"observedGeneration": 4, "current": {"generation": 4}}});
    let states = [
        build(json!({"metadata": {"generation": 4}})),
        build(seen),
        over(building(), begun),
        over(
            build(json!({"metadata": {"generation": 4}, "status": {"observedGeneration": 4}})),
            ended(8, "Succeeded"),
        ),
    ];
    assert_eq!(
        phases(&until, &states),
        [Before, Before, UnderWay, Ended(Succeeded)]
    );
}

#[test]
fn a_generation_that_needs_no_build_has_ended_at_once() {
    let older =
        json!({"status": {"history": [{"build": 7, "generation": 2, "result": "Succeeded"}]}});
    let mut followed = Followed::new(&Until::Generation(3));
    assert_eq!(followed.see(&build(older)), Ended(Succeeded));
    assert!(followed.nothing);
    let mut followed = Followed::new(&Until::Generation(3));
    assert_eq!(followed.see(&build(json!({}))), Ended(Succeeded));
    assert_eq!((followed.nothing, followed.number), (false, Some(7)));
}

#[test]
fn the_last_build_counts_where_none_runs_and_what_waits_is_under_way() {
    assert_eq!(
        phases(&Until::Current, &[over(failed(), ended(8, "StepFailed"))]),
        [Ended(Failed("StepFailed".into()))]
    );
    assert_eq!(
        phases(&Until::Current, &[queued("u2", "2026-11-25T11:59:00Z")]),
        [UnderWay]
    );
    assert_eq!(
        phases(
            &Until::Current,
            &[build(json!({"metadata": {"generation": 9}}))]
        ),
        [Before]
    );
    // Without a history it is told by the object.
    assert_eq!(
        phases(
            &Until::Current,
            &[over(failed(), json!({"status": {"history": []}}))]
        ),
        [Ended(Failed("StepFailed".into()))]
    );
}
