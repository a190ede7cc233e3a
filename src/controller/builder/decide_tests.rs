use k8s_openapi::api::apps::v1::StatefulSetStatus;
use k8s_openapi::api::core::v1::PodStatus;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::SignedDuration;
use serde_json::json;

use super::*;
use crate::builder::state::CERTIFICATES_VERSION;
use crate::fixtures;
use crate::refusal::{Object, Verb};
use whittle_api::{READY, Reason};

const AUTHORITY: &str = "a";

fn now() -> Timestamp {
    Timestamp::from_second(1_000_000).unwrap()
}

fn ago(minutes: i64) -> Timestamp {
    now() - SignedDuration::from_mins(minutes)
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// One that nobody has looked at yet.
fn fresh() -> Observed {
    Observed {
        builder: fixtures::builder(),
        authority: AUTHORITY.into(),
        set: None,
        pods: vec![],
        load: None,
        running: BTreeMap::new(),
        used: None,
        active: 0,
        serves: None,
        of: None,
        platforms: vec![],
        left: vec![],
        told: BTreeMap::new(),
        events: vec![],
        wanted: false,
        hangs: None,
        lost: false,
        issued: None,
        applied: None,
        enlarged: None,
        closed: None,
        trusted: None,
        now: now(),
    }
}

/// How a StatefulSet is whose daemon is up.
fn up(mut set: StatefulSet) -> StatefulSet {
    let wanted = set.spec.as_ref().and_then(|spec| spec.replicas);
    set.metadata.generation = Some(1);
    set.status = Some(StatefulSetStatus {
        observed_generation: Some(1),
        ready_replicas: wanted,
        updated_replicas: wanted,
        ..StatefulSetStatus::default()
    });
    set
}

/// How a StatefulSet is whose daemon is not up.
fn down(mut set: StatefulSet) -> StatefulSet {
    set.status = None;
    set
}

fn applied(observed: &Observed) -> StatefulSet {
    match decide(observed, &fixtures::settings()) {
        Step::Apply(wanted) => wanted.stateful_set,
        other => panic!("{other:?}"),
    }
}

fn said(observed: &Observed) -> Say {
    match decide(observed, &fixtures::settings()) {
        Step::Say(say) => *say,
        other => panic!("{other:?}"),
    }
}

fn renews(observed: &Observed) -> bool {
    matches!(decide(observed, &fixtures::settings()), Step::Renew)
}

fn replicas(set: &StatefulSet) -> Option<i32> {
    set.spec.as_ref()?.replicas
}

/// What is said at the end of a round whose StatefulSet comes out as `shaped`.
fn concluded(mut observed: Observed, shaped: fn(StatefulSet) -> StatefulSet) -> Say {
    observed.applied = Some(shaped(applied(&observed)));
    said(&observed)
}

/// One whose daemon is up for good, and that says so.
fn well() -> Observed {
    let mut observed = fresh();
    observed.builder.spec.idle_timeout = "0s".into();
    let status = observed.builder.status.get_or_insert_default();
    status.certificates = Some(fixtures::certificates());
    let set = up(applied(&observed));
    observed.applied = Some(set.clone());
    observed.builder.status = Some(said(&observed).status);
    observed.applied = None;
    observed.set = Some(set);
    observed
}

/// One that has `idleTimeout` 10m, and was used that long ago.
fn used(minutes: i64) -> Observed {
    let mut observed = well();
    observed.builder.spec.idle_timeout = "10m".into();
    observed.used = Some(Use {
        wanted: 0,
        last: Some(ago(minutes)),
    });
    observed
}

/// The same once it has fallen asleep.
fn asleep() -> Observed {
    let mut observed = used(11);
    let set = up(applied(&observed));
    observed.applied = Some(set.clone());
    observed.builder.status = Some(said(&observed).status);
    observed.applied = None;
    observed.set = Some(set);
    observed
}

fn ready(status: &BuilderStatus) -> &Condition {
    find(&status.conditions, READY).unwrap()
}

fn waiting() -> ImageBuild {
    fixtures::inline()
}

#[test]
fn a_builder_is_looked_after_by_the_installation_that_its_status_names_and_by_no_other() {
    let mut builder = fixtures::builder();
    assert_eq!(admit(&builder, "a/w", true), Admission::Claim);
    assert_eq!(admit(&builder, "a/w", false), Admission::Nobodys);
    builder.status = Some(BuilderStatus {
        installation: Some("a/w".into()),
        ..BuilderStatus::default()
    });
    for selected in [true, false] {
        assert_eq!(admit(&builder, "a/w", selected), Admission::Ours);
        assert_eq!(admit(&builder, "b/w", selected), Admission::Theirs("a/w"));
    }
}

#[test]
fn nothing_is_done_for_a_builder_that_is_being_deleted() {
    let mut builder = fixtures::builder();
    builder.metadata.deletion_timestamp = Some(Time(now()));
    assert_eq!(admit(&builder, "a/w", true), Admission::Nobodys);
}

#[test]
fn a_new_builder_gets_certificates_first_then_its_objects_and_then_the_record_of_both() {
    let mut observed = fresh();
    assert!(renews(&observed));
    observed.issued = Some(fixtures::certificates());
    let set = applied(&observed);
    assert_eq!(replicas(&set), Some(1));
    observed.applied = Some(down(set));
    let say = said(&observed);
    assert_eq!(say.status.certificates, observed.issued);
    assert_eq!(say.status.observed_generation, Some(1));
    let ready = ready(&say.status);
    assert_eq!(
        (ready.status.as_str(), ready.reason.as_str()),
        ("False", Reason::Starting.as_str())
    );
    // Nothing is known of it yet.
    assert!(say.look_again <= SOON);
}

#[test]
fn a_builder_that_is_well_is_applied_as_it_stands_and_looked_at_again_in_an_hour() {
    let observed = well();
    assert!(!restarts(&observed, &fixtures::settings()));
    assert!(!asks_for_events(&observed, &fixtures::settings()));
    assert_eq!(applied(&observed).spec, observed.set.clone().unwrap().spec);
    let known = observed.builder.status.clone();
    let say = concluded(observed, up);
    assert_eq!(Some(say.status), known);
    assert_eq!(say.look_again, RESYNC);
}

#[test]
fn certificates_are_renewed_once_of_age_or_of_another_authority() {
    let mut observed = well();
    assert!(!renews(&observed));
    observed.authority = "b".into();
    assert!(renews(&observed));
    let mut observed = well();
    observed.now = Timestamp::from_second(4_000_000_000).unwrap();
    assert!(renews(&observed));
    // The daemon reads them as it starts.
    assert!(restarts(&observed, &fixtures::settings()));
    let before = observed.set.clone().unwrap();
    observed.issued = Some(Certificates {
        digest: format!("{CERTIFICATES_VERSION}e"),
        ..fixtures::certificates()
    });
    let after = applied(&observed);
    assert!(state::would_restart(&before, &after));
    let say = concluded(observed.clone(), down);
    assert_eq!(say.status.certificates, observed.issued);
}

#[test]
fn certificates_whose_secret_was_deleted_are_renewed() {
    let told = |secret: &str| Told {
        kind: "Pod".into(),
        reason: "FailedMount".into(),
        words: format!(
            r#"MountVolume.SetUp failed for volume "tls" : secret "{secret}" not found"#
        ),
        at: None,
    };
    let mut observed = well();
    assert!(!asks_for_secrets(&observed));
    observed.events = vec![told("npm")];
    assert!(!asks_for_secrets(&observed));
    observed.events = vec![told(&names::builder_server_tls("default"))];
    assert!(asks_for_secrets(&observed));
    observed.events.clear();
    observed.wanted = true;
    assert!(asks_for_secrets(&observed));
    // They exist: the kubelet has not tried again yet.
    assert!(!renews(&observed));
    observed.lost = true;
    assert!(renews(&observed));
    observed.active = 1;
    assert!(!renews(&observed));
}

#[test]
fn a_change_that_restarts_the_daemon_waits_for_running_builds_with_nothing_written_but_the_status()
{
    for change in [
        |observed: &mut Observed| {
            observed.builder.spec.node_selector = [("a".into(), "b".into())].into()
        },
        |observed: &mut Observed| observed.authority = "b".into(),
    ] {
        let mut observed = well();
        change(&mut observed);
        assert!(restarts(&observed, &fixtures::settings()));
        observed.active = 2;
        let say = said(&observed);
        let ready = ready(&say.status);
        assert_eq!(
            (ready.status.as_str(), ready.reason.as_str()),
            ("False", Reason::Draining.as_str())
        );
        assert!(ready.message.contains("2 running builds"));
        assert_eq!(say.look_again, secs(10));
        assert_eq!(say.status.certificates, Some(fixtures::certificates()));
        // Nobody is asked why it is not up: it is to go on as it is.
        observed.set = observed.set.map(down);
        assert!(!asks_for_events(&observed, &fixtures::settings()));
        observed.active = 0;
        let on = decide(&observed, &fixtures::settings());
        assert!(matches!(on, Step::Apply(_) | Step::Renew), "{on:?}");
    }
}

#[test]
fn builds_keep_nothing_from_a_daemon_that_is_not_restarted() {
    let mut observed = well();
    observed.active = 2;
    applied(&observed);
}

#[test]
fn what_a_builder_is_used_for_counts_once_it_is_up_or_sleeps() {
    assert!(!asks_for_use(&fresh()));
    assert!(asks_for_use(&used(11)));
    assert!(asks_for_use(&asleep()));
    let mut never = used(11);
    never.builder.spec.idle_timeout = "0s".into();
    assert!(!asks_for_use(&never));
    let mut starts = used(11);
    let status = starts.builder.status.as_mut().unwrap();
    status.conditions.clear();
    assert!(!asks_for_use(&starts));
    // Until somebody is asked, it is to be up.
    starts.used = None;
    assert_eq!(replicas(&applied(&starts)), Some(1));
}

#[test]
fn a_daemon_falls_asleep_once_nothing_was_built_for_its_time_and_is_looked_at_once_more() {
    let observed = used(11);
    assert_eq!(replicas(&applied(&observed)), Some(0));
    let say = concluded(observed, down);
    let ready = ready(&say.status);
    assert_eq!(
        (ready.status.as_str(), ready.reason.as_str()),
        ("True", Reason::Idle.as_str())
    );
    assert_eq!(say.look_again, SOON);
    // It slept already.
    let say = concluded(asleep(), down);
    assert_eq!(say.look_again, RESYNC);
    assert!(!asks_for_events(&asleep(), &fixtures::settings()));
}

#[test]
fn a_daemon_that_may_fall_asleep_is_looked_at_again_when_it_may() {
    let say = concluded(used(8), up);
    assert_eq!(say.look_again, secs(121));
    // Its Pod has started since.
    let mut observed = used(11);
    observed.pods = vec![Pod {
        status: Some(PodStatus {
            start_time: Some(Time(ago(1))),
            ..PodStatus::default()
        }),
        ..Pod::default()
    }];
    assert_eq!(concluded(observed, up).look_again, secs(541));
    let mut observed = used(1);
    observed.builder.spec.idle_timeout = "30h".into();
    assert_eq!(concluded(observed, up).look_again, RESYNC);
}

#[test]
fn a_build_that_waits_wakes_the_daemon() {
    let mut observed = asleep();
    assert_eq!(replicas(&applied(&observed)), Some(0));
    observed.used = Some(Use {
        wanted: 1,
        last: Some(ago(60)),
    });
    assert_eq!(replicas(&applied(&observed)), Some(1));
    let say = concluded(observed, down);
    assert_eq!(ready(&say.status).reason, Reason::Starting.as_str());
    assert!(say.look_again <= SOON);
}

#[test]
fn only_a_build_that_waits_wakes_a_builder_and_only_one_that_sleeps() {
    let (sleeping, awake) = (asleep().builder, well().builder);
    assert!(wakes(&waiting(), &sleeping));
    assert!(!wakes(&waiting(), &awake));
    let mut gone = waiting();
    gone.metadata.deletion_timestamp = Some(Time(now()));
    assert!(!wakes(&gone, &sleeping));
    let mut built = waiting();
    built.status = Some(whittle_api::ImageBuildStatus {
        observed_generation: built.metadata.generation,
        input: Some(decide::input(&built)),
        ..Default::default()
    });
    assert!(!wakes(&built, &sleeping));
}

#[test]
fn a_pod_that_was_refused_is_tried_at_once_and_its_words_are_told() {
    let mut observed = well();
    observed.set = observed.set.map(down);
    assert!(asks_for_events(&observed, &fixtures::settings()));
    let annotation = |observed: &Observed| {
        applied(observed)
            .annotations()
            .get(names::TRIED_AT)
            .cloned()
    };
    assert_eq!(annotation(&observed), None);
    observed.events = vec![Told {
        kind: "StatefulSet".into(),
        reason: "FailedCreate".into(),
        words: "create Pod in StatefulSet failed error: pods is forbidden: violates PodSecurity \"restricted\"".into(),
        at: Some(now()),
    }];
    assert_eq!(annotation(&observed), Some("1000000".into()));
    let say = concluded(observed.clone(), down);
    let ready = ready(&say.status);
    assert_eq!(ready.reason, "PodSecurity");
    assert!(ready.message.contains("kubectl label namespace team"));
    // It has a Pod now: the event is of before.
    observed.pods = vec![Pod::default()];
    assert_eq!(annotation(&observed), None);
}

fn refusal(why: refusal::Why) -> Refusal {
    Refusal {
        what: "applying StatefulSet team/whittle-builder-default".into(),
        object: Some(Object {
            verb: Verb::Apply,
            kind: "StatefulSet".into(),
            namespace: "team".into(),
            name: "whittle-builder-default".into(),
        }),
        why,
        words: "the words of others".into(),
    }
}

#[test]
fn what_is_rejected_for_good_stalls_and_what_may_be_let_through_is_tried_again_ever_less_often() {
    let mut builder = fixtures::builder();
    let say = refused(&builder, None, &refusal(refusal::Why::Invalid), now());
    assert!(find(&say.status.conditions, STALLED).is_some());
    assert_eq!(ready(&say.status).reason, "Rejected");
    let say = refused(&builder, None, &refusal(refusal::Why::Quota), now());
    assert!(find(&say.status.conditions, RECONCILING).is_some());
    assert!(ready(&say.status).message.contains("the words of others"));
    assert_eq!(say.look_again, secs(2));
    builder.status = Some(say.status);
    let later = |minutes| now() + SignedDuration::from_mins(minutes);
    for (minutes, seconds) in [(1, 12), (10, 30)] {
        let again = refused(
            &builder,
            None,
            &refusal(refusal::Why::Quota),
            later(minutes),
        );
        assert_eq!(again.look_again, secs(seconds));
    }
    // Another spec: what was wrong may be mended.
    builder.metadata.generation = Some(2);
    let again = refused(&builder, None, &refusal(refusal::Why::Quota), later(10));
    assert_eq!(again.look_again, SOON);
}

#[test]
fn a_daemon_that_is_up_goes_on_taking_builds_where_an_object_of_its_is_refused() {
    let observed = well();
    let why = refusal(refusal::Why::Quota);
    let say = refused(&observed.builder, observed.set.as_ref(), &why, now());
    assert_eq!(ready(&say.status).status, "True");
    let set = observed.set.map(down);
    let say = refused(&observed.builder, set.as_ref(), &why, now());
    assert_eq!(ready(&say.status).status, "False");
}

#[test]
fn a_daemon_that_does_not_come_up_is_looked_at_ever_less_often_once_it_is_known_why() {
    let trouble = |reason: Reason, minutes: i64| {
        let condition = |kind: &str| {
            json!({"type": kind, "status": "True", "reason": reason, "message": "",
                "lastTransitionTime": ago(minutes).to_string()})
        };
        let status = json!({"observedGeneration": 1, "state": reason, "conditions": [condition(RECONCILING)]});
        serde_json::from_value::<BuilderStatus>(status).unwrap()
    };
    let mut builder = fixtures::builder();
    for (reason, minutes, seconds) in [
        (Reason::Starting, 0, 2),
        (Reason::Starting, 10, 5),
        (Reason::Unschedulable, 1, 12),
        (Reason::Unschedulable, 60, 30),
    ] {
        let status = trouble(reason, minutes);
        builder.status = Some(status.clone());
        assert_eq!(again(&builder, &status, now()), secs(seconds), "{reason}");
    }
}

#[test]
fn other_certificates_that_are_trusted_restart_the_daemon_once_no_build_runs_on_it() {
    let trusting = |text: &str, active: usize| {
        let (trusted, active) = (Some(text.into()), active);
        let observed = Observed {
            trusted,
            active,
            ..well()
        };
        decide(&observed, &fixtures::settings())
    };
    let Step::Say(say) = trusting("a", 1) else {
        panic!("the daemon restarts below a build");
    };
    assert!(ready(&say.status).message.contains("restart"), "{say:?}");
    let Step::Apply(wanted) = trusting("a", 0) else {
        panic!("the daemon goes on with what it trusts");
    };
    assert_eq!(wanted.config_map.data.as_ref().unwrap()["ca.crt"], "a");
    let Step::Apply(other) = trusting("b", 0) else {
        panic!("the daemon goes on with what it trusts");
    };
    assert_ne!(wanted.stateful_set.spec, other.stateful_set.spec);
}

#[path = "decide_replicas_tests.rs"]
mod several;

#[path = "decide_platforms_tests.rs"]
mod of_platforms;
