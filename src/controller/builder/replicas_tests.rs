use serde_json::json;
use whittle_api::Autoscale;

use super::*;
use crate::builder::objects::objects;
use crate::fixtures;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + seconds).unwrap()
}

/// Between one replica and eight, of two builds each; as its status says.
fn scaled_to(desired: i32, ready: i32) -> Builder {
    let mut builder = fixtures::builder();
    builder.spec.autoscale = Some(Autoscale { min: 1, max: 8 });
    let status = builder.status.get_or_insert_default();
    status.replicas = Some(ReplicasStatus {
        desired,
        ready,
        ..ReplicasStatus::default()
    });
    builder
}

fn load(running: usize, waiting: usize, longest: i64) -> Load {
    Load {
        running: [(0, running)].into(),
        waiting,
        longest: (waiting > 0).then(|| SignedDuration::from_secs(longest)),
    }
}

/// The same Builder with what came of it.
fn after(mut builder: Builder, scaled: &Scaled) -> Builder {
    let replicas = builder.status.as_mut().unwrap().replicas.as_mut().unwrap();
    replicas.desired = scaled.desired;
    replicas.scaled_at.clone_from(&scaled.scaled_at);
    replicas.spare_since.clone_from(&scaled.spare_since);
    builder
}

#[test]
fn a_queue_that_is_long_or_waits_for_long_has_more_replicas_made_at_once() {
    let to = |load: &Load| scale(&scaled_to(1, 1), load, true, at(0)).desired;
    assert_eq!(to(&load(2, 0, 0)), 1);
    assert_eq!(to(&load(2, 1, 3)), 1, "it may be over in a moment");
    assert_eq!(to(&load(2, 1, 10)), 2);
    assert_eq!(to(&load(2, 2, 0)), 2, "it waits for a whole build");
}

#[test]
fn it_grows_to_twice_as_many_at_a_time_and_no_further_than_to_its_bound() {
    let many = load(2, 1000, 60);
    let mut builder = scaled_to(1, 1);
    let mut went = vec![];
    for step in 0..5 {
        let scaled = scale(&builder, &many, true, at(step));
        went.push(scaled.desired);
        builder = after(builder, &scaled);
        builder
            .status
            .as_mut()
            .unwrap()
            .replicas
            .as_mut()
            .unwrap()
            .ready = scaled.desired;
    }
    assert_eq!(went, [2, 4, 8, 8, 8]);
}

#[test]
fn those_that_were_added_last_have_half_a_minute_to_come_up() {
    let many = load(2, 1000, 60);
    let scaled = scale(&scaled_to(1, 1), &many, true, at(0));
    let builder = after(scaled_to(1, 1), &scaled);
    assert_eq!(scale(&builder, &many, true, at(29)).desired, 2);
    assert_eq!(scale(&builder, &many, true, at(30)).desired, 4);
}

#[test]
fn replicas_that_are_too_many_go_one_by_one_each_after_the_idle_time() {
    let mut builder = scaled_to(4, 4);
    let nothing = Load::default();
    let mut went = vec![];
    for minutes in [0, 9, 10, 19, 20, 30, 90] {
        let scaled = scale(&builder, &nothing, true, at(minutes * 60));
        went.push(scaled.desired);
        builder = after(builder, &scaled);
    }
    assert_eq!(went, [4, 4, 3, 3, 2, 1, 1]);
    // As soon as they are needed they are not too many.
    let scaled = scale(&scaled_to(4, 4), &nothing, true, at(0));
    let builder = after(scaled_to(4, 4), &scaled);
    assert!(scaled.spare_since.is_some());
    assert_eq!(
        scale(&builder, &load(8, 0, 0), true, at(60)).spare_since,
        None
    );
}

#[test]
fn what_falls_asleep_wakes_with_the_fewest_and_without_autoscale_the_spec_says_how_many() {
    let scaled = scale(&scaled_to(4, 4), &Load::default(), false, at(0));
    assert_eq!(scaled.desired, 1);
    let mut builder = scaled_to(4, 4);
    builder.spec.autoscale = None;
    builder.spec.replicas = 3;
    let many = load(6, 1000, 600);
    let scaled = scale(&builder, &many, true, at(0));
    assert_eq!((scaled.desired, scaled.scaled_at), (3, None));
}

#[test]
fn replicas_stay_until_those_after_them_and_they_themselves_are_free() {
    let on = |all: &[(i32, usize)]| all.iter().copied().collect();
    assert_eq!(size(2, 5, &on(&[])), 2);
    assert_eq!(size(2, 5, &on(&[(0, 2), (1, 2)])), 2);
    assert_eq!(size(2, 5, &on(&[(3, 1), (4, 0)])), 4);
    assert_eq!(size(2, 5, &on(&[(4, 1)])), 5);
    assert_eq!(size(5, 2, &on(&[(0, 1)])), 5);
    // One that sleeps, and one of which somebody has written nonsense.
    assert_eq!(size(2, 0, &on(&[(9, 1)])), 2);
    assert_eq!(size(2, 3, &on(&[(30, 1)])), 3);
}

fn set(replicas: i32) -> StatefulSet {
    let mut builder = fixtures::builder();
    builder.spec.replicas = replicas;
    let mut set = objects(&builder, &fixtures::settings(), "c").stateful_set;
    set.metadata.uid = Some("s".into());
    set
}

fn pod(replica: &str, ready: bool) -> Pod {
    let template = set(3).spec.unwrap().template.metadata.unwrap();
    let pod = json!({"metadata": {
        "name": format!("whittle-builder-default-{replica}"),
        "annotations": template.annotations,
        "ownerReferences": [{"apiVersion": "apps/v1", "kind": "StatefulSet", "controller": true, "name": "x", "uid": "s"}]},
        "status": {"conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]}});
    serde_json::from_value(pod).unwrap()
}

fn stand(pods: &[Pod], known: &[ReplicaStatus], wakes: bool, now: Timestamp) -> Vec<ReplicaStatus> {
    each(&set(3), pods, known, (2, &[(1, 4)].into()), wakes, now)
}

#[test]
fn a_replica_is_up_where_its_pod_is_and_has_what_the_template_says() {
    let mut old = pod("1", true);
    old.annotations_mut()
        .insert(CONFIG_DIGEST.into(), "old".into());
    let all = stand(&[pod("0", true), old, pod("2", false)], &[], false, at(0));
    let told = |all: &[ReplicaStatus]| -> Vec<_> {
        all.iter()
            .map(|it| (it.ready, it.since.as_ref().map(|at| at.0), it.draining))
            .collect()
    };
    assert_eq!(
        told(&all),
        [
            (true, Some(at(0)), false),
            (false, None, false),
            (false, None, true)
        ]
    );
    assert_eq!(all[1].running, 4);
    assert_eq!(ready(&all), 1);
    // One goes down, one comes up, and of one nothing new is known.
    let later = stand(
        &[pod("0", false), pod("1", true), pod("2", false)],
        &all,
        false,
        at(9),
    );
    assert_eq!(
        told(&later),
        [
            (false, Some(at(9)), false),
            (true, Some(at(9)), false),
            (false, None, true)
        ]
    );
    let again = stand(&[pod("1", true)], &later, false, at(20));
    assert_eq!(told(&again), told(&later));
    // Who has slept is not down for as long as it slept.
    let woken = stand(&[], &later, true, at(900));
    assert_eq!(woken[0].since, Some(Time(at(900))));
    assert_eq!(woken[2].since, None);
}

#[test]
fn a_pod_that_somebody_has_made_with_the_labels_is_no_replica() {
    let set = set(3);
    assert_eq!(number(&pod("2", true), &set), Some(2));
    for name in ["-1", "02", "+1", "32", "1-x", "", "99999999999"] {
        assert_eq!(number(&pod(name, true), &set), None, "{name}");
    }
    let mut foreign = pod("0", true);
    foreign.owner_references_mut()[0].uid = "another".into();
    assert_eq!(number(&foreign, &set), None);
    let mut uncontrolled = pod("0", true);
    uncontrolled.owner_references_mut()[0].controller = None;
    assert_eq!(number(&uncontrolled, &set), None);
}

#[test]
fn what_a_person_wants_to_know_of_is_the_first_that_is_not_up() {
    let set = set(3);
    assert_eq!(in_question(&set, &[pod("0", true), pod("2", true)]), 1);
    assert_eq!(
        in_question(&set, &[pod("0", true), pod("1", true), pod("2", false)]),
        2
    );
    assert_eq!(
        in_question(&set, &[pod("0", true), pod("1", true), pod("2", true)]),
        0
    );
}
