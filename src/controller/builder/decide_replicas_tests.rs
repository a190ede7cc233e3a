use k8s_openapi::api::core::v1::{PodCondition, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::core::ObjectMeta;
use whittle_api::Autoscale;

use super::*;

/// The Pod of a replica of this set.
fn pod(set: &StatefulSet, replica: i32, ready: bool) -> Pod {
    let template = set.spec.clone().unwrap().template.metadata.unwrap();
    Pod {
        metadata: ObjectMeta {
            name: Some(names::builder_pod("default", replica)),
            annotations: template.annotations,
            owner_references: Some(vec![OwnerReference {
                controller: Some(true),
                uid: "s".into(),
                ..OwnerReference::default()
            }]),
            ..ObjectMeta::default()
        },
        status: Some(PodStatus {
            conditions: Some(vec![PodCondition {
                type_: "Ready".into(),
                status: if ready { "True" } else { "False" }.into(),
                ..PodCondition::default()
            }]),
            ..PodStatus::default()
        }),
        ..Pod::default()
    }
}

/// One of so many replicas, that has so many builds on each of them.
fn of(replicas: i32, running: &[(i32, usize)]) -> Observed {
    let mut observed = well();
    observed.builder.spec.replicas = replicas;
    on(&mut observed, running);
    observed
}

fn on(observed: &mut Observed, running: &[(i32, usize)]) {
    observed.running = running.iter().copied().collect();
    observed.load = Some(Load {
        running: observed.running.clone(),
        ..Load::default()
    });
}

/// The same once its StatefulSet stands as it should, with Pods of these replicas that are up, and what is said of it.
fn settled(mut observed: Observed, up: &[i32]) -> (Observed, Say) {
    let mut set = applied(&observed);
    set.metadata.uid = Some("s".into());
    let all = replicas::of_set(&set);
    observed.pods = (0..all)
        .map(|replica| pod(&set, replica, up.contains(&replica)))
        .collect();
    set.metadata.generation = Some(1);
    set.status = Some(StatefulSetStatus {
        observed_generation: Some(1),
        ready_replicas: i32::try_from(up.len()).ok(),
        updated_replicas: Some(all),
        ..StatefulSetStatus::default()
    });
    observed.set = Some(set.clone());
    observed.applied = Some(set);
    let say = said(&observed);
    observed.applied = None;
    observed.builder.status = Some(say.status.clone());
    (observed, say)
}

fn replicas_of(say: &Say) -> &ReplicasStatus {
    say.status.replicas.as_ref().unwrap()
}

#[test]
fn the_status_of_a_builder_of_one_replica_names_none_of_them() {
    let status = well().builder.status.unwrap();
    let expected = ReplicasStatus {
        desired: 1,
        ready: 1,
        ..ReplicasStatus::default()
    };
    assert_eq!(status.replicas, Some(expected));
}

#[test]
fn more_replicas_are_asked_for_at_once_and_restart_nothing() {
    let (observed, say) = settled(of(3, &[(0, 1)]), &[0]);
    assert_eq!(observed.set.as_ref().and_then(replicas), Some(3));
    assert!(!restarts(&observed, &fixtures::settings()));
    let told = replicas_of(&say);
    assert_eq!((told.desired, told.ready, told.each.len()), (3, 1, 3));
    // It takes builds on the one, and says what is with the others.
    assert_eq!(ready(&say.status).status, "True");
    let message = &ready(&say.status).message;
    assert!(
        message.contains("on 1 of 3 replicas; replica 1: "),
        "{message}"
    );
    assert_eq!(say.look_again, LULL);
    let (_, say) = settled(observed, &[0, 1, 2]);
    assert_eq!(
        ready(&say.status).message,
        "the builder accepts builds on 3 replicas"
    );
    assert_eq!(say.look_again, RESYNC);
}

#[test]
fn with_no_replica_up_it_takes_no_builds() {
    let (_, say) = settled(of(2, &[]), &[]);
    assert_eq!(ready(&say.status).status, "False");
    assert_eq!(replicas_of(&say).ready, 0);
}

#[test]
fn fewer_replicas_wait_for_the_builds_on_those_that_go() {
    let (mut observed, _) = settled(of(4, &[]), &[0, 1, 2, 3]);
    observed.builder.spec.replicas = 2;
    on(&mut observed, &[(0, 2), (2, 1), (3, 1)]);
    let (mut observed, say) = settled(observed, &[0, 1, 2, 3]);
    assert_eq!(observed.set.as_ref().and_then(replicas), Some(4));
    let told = replicas_of(&say);
    assert_eq!((told.desired, told.ready), (2, 2));
    let draining: Vec<_> = told.each.iter().map(|it| it.draining).collect();
    assert_eq!(draining, [false, false, true, true]);
    let message = &ready(&say.status).message;
    assert!(
        message.contains("replica 2, 3 goes once its builds have ended"),
        "{message}"
    );
    assert_eq!(say.look_again, DRAIN);
    // The last ordinal goes first: the one before it stays while it is busy.
    on(&mut observed, &[(2, 1)]);
    let (mut observed, _) = settled(observed, &[0, 1, 2]);
    assert_eq!(observed.set.as_ref().and_then(replicas), Some(3));
    on(&mut observed, &[(0, 2), (1, 2)]);
    let (observed, say) = settled(observed, &[0, 1]);
    assert_eq!(observed.set.as_ref().and_then(replicas), Some(2));
    assert_eq!(replicas_of(&say).each.len(), 2);
}

#[test]
fn from_several_to_one_it_is_like_any_other_in_the_end() {
    let (mut observed, _) = settled(of(2, &[(1, 1)]), &[0, 1]);
    observed.builder.spec.replicas = 1;
    let (mut observed, say) = settled(observed, &[0, 1]);
    assert_eq!(replicas_of(&say).each.len(), 2);
    on(&mut observed, &[]);
    let (observed, say) = settled(observed, &[0]);
    assert!(replicas_of(&say).each.is_empty() && !observed.has_several());
    assert_eq!(ready(&say.status).message, "the builder accepts builds");
}

#[test]
fn the_queue_decides_between_the_bounds_and_sleep_takes_all() {
    let mut observed = of(1, &[(0, 2)]);
    observed.builder.spec.autoscale = Some(Autoscale { min: 1, max: 3 });
    let (mut observed, say) = settled(observed, &[0]);
    assert_eq!(replicas_of(&say).desired, 1);
    let load = observed.load.as_mut().unwrap();
    (load.waiting, load.longest) = (6, Some(SignedDuration::from_secs(20)));
    let (mut observed, say) = settled(observed, &[0]);
    assert_eq!(observed.set.as_ref().and_then(replicas), Some(2));
    assert_eq!(replicas_of(&say).desired, 2);
    // Nothing was built for so long that it sleeps.
    on(&mut observed, &[]);
    observed.builder.spec.idle_timeout = "10m".into();
    observed.used = Some(Use {
        wanted: 0,
        last: Some(ago(11)),
    });
    let (observed, say) = settled(observed, &[]);
    assert_eq!(observed.set.as_ref().and_then(replicas), Some(0));
    assert_eq!(ready(&say.status).reason, "Idle");
    assert_eq!(replicas_of(&say).desired, 1);
}

#[test]
fn one_replica_that_is_not_isolated_does_not_take_the_others_down() {
    let mut observed = of(2, &[]);
    observed.builder.spec.isolation = Isolation::UserNamespace;
    let (mut observed, _) = settled(observed, &[0]);
    assert!(observed.trouble().is_none());
    observed.pods.clear();
    assert!(observed.trouble().is_some());
}
