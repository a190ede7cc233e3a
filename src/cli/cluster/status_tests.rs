use serde_json::{Value, json};

use super::super::fixtures::{build, building, failed, now, queued_until, ready};
use super::*;

fn told(build: &ImageBuild) -> String {
    anstream::adapter::strip_str(&text(build, now())).to_string()
}

#[test]
fn a_build_that_succeeded_is_told_with_its_sizes_and_what_it_was_made_from() {
    insta::assert_snapshot!(told(&build(json!({}))));
}

#[test]
fn where_the_time_went_is_told_from_a_second_on_and_the_longest_first() {
    let phases = json!({"start": 2000, "source": 999, "solve": 61_400, "readBack": 3100});
    let told = told(&build(json!({"status": {"phaseMilliseconds": phases}})));
    let line = "of that     solve 1m 1s, read back 3s, start of the Pod 2s";
    assert!(told.contains(line), "{told}");
}

#[test]
fn a_build_that_failed_is_told_with_its_line_its_log_and_what_the_tags_still_point_to() {
    insta::assert_snapshot!(told(&failed()));
}

#[test]
fn a_build_that_runs_is_told_with_what_it_does_and_how_long_it_takes() {
    insta::assert_snapshot!(told(&building()));
}

#[test]
fn a_build_on_one_of_several_replicas_names_it() {
    let mut build = building();
    let status = build.status.as_mut().unwrap();
    status.current.as_mut().unwrap().replica = Some(2);
    let told = told(&build);
    assert!(
        told.contains(", on replica 2 of Builder default\n"),
        "{told}"
    );
}

#[test]
fn a_build_that_waits_says_for_what() {
    insta::assert_snapshot!(told(&queued_until(
        "u2",
        "2026-11-25T11:59:00Z",
        "2026-11-25T12:04:00Z"
    )));
}

#[test]
fn the_line_of_a_source_that_the_object_does_not_hold_is_the_step_itself() {
    let git =
        json!({"spec": {"source": {"inline": null, "git": {"url": "https://git.example.com/a"}}}});
    let mut failed = serde_json::to_value(failed()).unwrap();
    json_patch::merge(&mut failed, &git);
    let told = told(&serde_json::from_value(failed).unwrap());
    assert!(told.contains(">    4 | RUN go build -o /hello ."), "{told}");
}

#[test]
fn the_state_is_that_of_the_spec_as_it_is_now() {
    let state = |over: Value| State::of(&build(over));
    assert_eq!(state(json!({})), State::Ready);
    assert_eq!(
        state(json!({"metadata": {"generation": 4}})),
        State::Waiting
    );
    assert_eq!(state(json!({"status": null})), State::New);
    assert_eq!(state(json!({"spec": {"suspend": true}})), State::Ready);
    let waits = json!({"status": {"conditions": ready("False", "Suspended", "m"), "image": null, "digest": null}, "spec": {"suspend": true}});
    assert_eq!(state(waits), State::Suspended);
    assert_eq!(State::of(&building()), State::Building);
    assert_eq!(State::of(&failed()), State::Failed);
}
