use serde_json::json;

use super::super::fixtures::{build, building, failed};
use super::*;

fn phases(until: &Until, states: &[ImageBuild]) -> Vec<Phase> {
    let mut number = None;
    states
        .iter()
        .map(|it| phase(it, until, &mut number))
        .collect()
}

#[test]
fn a_request_is_followed_from_when_it_is_handled_to_the_end_of_its_build() {
    let asked = |over: serde_json::Value, mut build: ImageBuild| {
        let mut value = serde_json::to_value(&build).unwrap();
        json_patch::merge(&mut value, &json!({"status": over}));
        build = serde_json::from_value(value).unwrap();
        build
    };
    let until = Until::Request("now".into());
    let handled = json!({"lastHandledRequest": "now"});
    let states = [
        build(json!({})),
        asked(json!({"lastHandledRequest": "before"}), building()),
        asked(handled.clone(), building()),
        asked(handled.clone(), failed()),
    ];
    use Phase::{Before, Ended, UnderWay};
    assert_eq!(phases(&until, &states), [Before, Before, UnderWay, Ended]);
    // The next build has begun already.
    let next = asked(json!({"lastHandledRequest": "now", "build": 9}), building());
    let mut number = Some(8);
    assert_eq!(phase(&next, &until, &mut number), Ended);
}

#[test]
fn a_generation_that_needs_no_build_has_ended_at_once() {
    let until = Until::Generation(3);
    let old = build(json!({"metadata": {"generation": 3}, "status": {"observedGeneration": 2}}));
    assert_eq!(
        phases(&until, &[old, build(json!({}))]),
        [Phase::Before, Phase::Ended]
    );
    let older = build(
        json!({"status": {"history": [{"build": 7, "generation": 2, "result": "Succeeded"}]}}),
    );
    assert_eq!(begun(&older, &until), None);
    assert_eq!(begun(&build(json!({})), &until), Some(7));
}

#[test]
fn what_a_build_waits_for_is_said_and_a_step_is_in_the_log() {
    assert_eq!(says(&building()), None);
    let queued = super::super::fixtures::queued("u2", "2026-11-25T11:59:00Z");
    let said = says(&queued).unwrap();
    assert!(
        said.contains("waiting: Queued: waits for its turn"),
        "{said}"
    );
    assert_eq!(says(&build(json!({}))), None);
}
