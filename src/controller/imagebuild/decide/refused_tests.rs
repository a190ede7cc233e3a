//! Refusals, and what they leave in the queue.

use super::*;
use crate::refusal::{Object, Refusal, Verb};

const QUOTA: &str =
    r#"jobs.batch "hello-1" is forbidden: exceeded quota: q, requested: count/jobs.batch=1"#;
const DOTS: &str = r#"Job.batch "hello-1" is invalid: spec.template.spec.volumes[1].configMap.items[1].path: Invalid value: "..x/Dockerfile": must not start with '..'"#;

fn refusal(kind: &str, code: u16, message: &str) -> Refusal {
    let object = Object {
        verb: Verb::Create,
        kind: kind.into(),
        namespace: "team".into(),
        name: "hello-1".into(),
    };
    Refusal::of(
        &format!("creating {kind} team/hello-1"),
        Some(object),
        code,
        message,
    )
    .unwrap()
}

fn message(status: &ImageBuildStatus) -> &str {
    &find(&status.conditions, READY).unwrap().message
}

#[test]
fn a_job_that_cannot_be_ends_the_build_with_the_api_servers_words() {
    let build = running();
    let job = build.status.clone().unwrap().current.unwrap().job;
    let step = super::super::refused(&build, &refusal("Job", 422, DOTS), later(1));
    assert_eq!(
        condition(&step.status, READY),
        Some(("False", "SpecRejected"))
    );
    assert_eq!(
        condition(&step.status, STALLED),
        Some(("True", "SpecRejected"))
    );
    assert!(
        step.status
            .failure
            .unwrap()
            .message
            .contains("must not start with '..'")
    );
    assert_eq!(step.stop, [job], "its request goes");
    assert!(step.status.current.is_none());
    assert_eq!(step.status.history[0].result, "SpecRejected");
}

#[test]
fn what_is_denied_waits_says_why_and_is_tried_again_without_saying_anything_else() {
    let mut build = running();
    let quota = refusal("Job", 403, QUOTA);
    let step = super::super::refused(&build, &quota, later(1));
    assert_eq!(
        condition(&step.status, READY),
        Some(("False", "QuotaExceeded"))
    );
    assert_eq!(
        condition(&step.status, RECONCILING),
        Some(("True", "QuotaExceeded"))
    );
    assert!(message(&step.status).contains("exceeded quota: q"));
    assert!(step.notice.is_some());
    let soon = step.look_again.unwrap();
    build.status = Some(step.status);

    let again = next(&observed(build.clone()), later(3));
    assert!(matches!(again.action, Action::Start(_)));
    assert_eq!(
        Some(&again.status),
        build.status.as_ref(),
        "nothing is written"
    );
    let step = super::super::refused(&build, &quota, later(600));
    assert!(step.notice.is_none(), "it is told once");
    assert!(step.look_again.unwrap() > soon);

    // The Job was taken.
    let pending = Pending::new(Reason::Building, "m".into());
    let step = next(&with_attempt(build, State::Pending(pending)), later(601));
    assert_eq!(
        condition(&step.status, READY),
        Some(("Unknown", "Building"))
    );
}

#[test]
fn what_is_denied_until_the_deadline_ends_with_the_last_words() {
    let mut build = running();
    let step = super::super::refused(&build, &refusal("Job", 403, QUOTA), later(1));
    build.status = Some(step.status);
    let step = next(&observed(build), later(1801));
    assert_eq!(condition(&step.status, READY), Some(("False", "Timeout")));
    assert!(message(&step.status).contains("exceeded quota: q"));
}

#[test]
fn a_pod_that_never_ran_until_the_deadline_ends_with_the_last_words() {
    let lacks = "Secret npm not found".to_owned();
    let pending = Pending::new(FailureReason::SecretNotFound, lacks).blocked();
    let mut build = running();
    build.status = Some(
        next(
            &with_attempt(build.clone(), State::Pending(pending)),
            later(2),
        )
        .status,
    );
    let over = failed(
        FailureReason::Timeout,
        "the build did not end: look for the slow step".into(),
    );
    let step = next(&with_attempt(build, State::Ended(over)), later(1801));
    let said = message(&step.status);
    assert!(
        said.contains("Secret npm not found") && !said.contains("slow step"),
        "{said}"
    );
}

#[test]
fn the_builder_named_default_that_is_refused_is_waited_for() {
    let mut refused = refusal(
        "Builder",
        422,
        r#"Builder.whittle.dev "default" is invalid: spec.cache.size"#,
    );
    refused.object.as_mut().unwrap().name = "default".into();
    let step = super::super::refused(&running(), &refused, later(1));
    assert_eq!(condition(&step.status, READY), Some(("False", "Rejected")));
    assert!(message(&step.status).contains("builder.defaults of the chart"));
    assert!(step.status.current.is_some());
}

#[test]
fn a_builder_that_can_never_be_is_said_at_once() {
    for name in ["a".repeat(64), "a".repeat(37), "Big".into(), "a/b".into()] {
        let mut build = fixtures::inline();
        build.spec.builder_ref.name = name.clone();
        let step = next(
            &Observed {
                builder: None,
                ..observed(build)
            },
            now(),
        );
        assert_eq!(
            condition(&step.status, READY),
            Some(("False", "SpecRejected")),
            "{name}"
        );
        assert!(message(&step.status).contains("spec.builderRef.name"));
    }
}

#[test]
fn a_builders_trouble_is_told_in_its_words_and_reason() {
    for (reason, ready) in [
        (Reason::PodSecurity, ("False", "PodSecurity")),
        (Reason::VolumePending, ("False", "VolumePending")),
        (Reason::Unschedulable, ("Unknown", "Unschedulable")),
        (Reason::Starting, ("Unknown", "WaitingForBuilder")),
    ] {
        let mut builder = fixtures::builder();
        let mut status = BuilderStatus {
            observed_generation: Some(1),
            ..BuilderStatus::default()
        };
        put_ready(&mut status, false, (reason, "do this"));
        builder.status = Some(status);
        let waiting = Observed {
            builder: Some(builder),
            ..observed(fixtures::inline())
        };
        let step = next(&waiting, now());
        assert_eq!(condition(&step.status, READY), Some(ready));
        assert_eq!(
            message(&step.status),
            "Builder default is not ready: do this"
        );
        assert!(step.look_again.unwrap() <= SignedDuration::from_secs(60));
    }
}

#[test]
fn a_builder_that_an_earlier_version_left_takes_no_builds_until_its_certificates_are_renewed() {
    let earlier = whittle_api::Certificates {
        digest: "d".into(),
        ..fixtures::certificates()
    };
    for certificates in [None, Some(earlier)] {
        let mut builder = ready_builder();
        builder.status.as_mut().unwrap().certificates = certificates;
        assert!(!is_ready(&builder));
        let waiting = Observed {
            builder: Some(builder),
            ..observed(fixtures::inline())
        };
        let step = next(&waiting, now());
        assert_eq!(step.action, Action::None);
        assert_eq!(
            condition(&step.status, READY),
            Some(("Unknown", "WaitingForBuilder"))
        );
        assert_eq!(
            message(&step.status),
            "Builder default is not ready: its certificates are being renewed"
        );
    }
    assert!(is_ready(&ready_builder()));
}

/// An ImageBuild of this UID that names this Secret, and became due at this second.
fn needs(uid: &str, secret: &str, seconds: i64) -> ImageBuild {
    let mut build = fixtures::inline();
    build.metadata.uid = Some(uid.into());
    build.metadata.name = Some(uid.into());
    build.spec.output.secret_ref = Some(whittle_api::LocalRef {
        name: secret.into(),
    });
    build.status = Some(next(&observed(build.clone()), later(seconds)).status);
    build
}

/// The same, whose Pod waits for that Secret.
fn hangs(mut build: ImageBuild) -> ImageBuild {
    let secret = build.spec.output.secret_ref.clone().unwrap().name;
    let words =
        format!(r#"MountVolume.SetUp failed for volume "push" : secret "{secret}" not found"#);
    let pending = crate::imagebuild::outcome::missing_object(&words).unwrap();
    build.status = Some(
        next(
            &with_attempt(build.clone(), State::Pending(pending)),
            later(9),
        )
        .status,
    );
    build
}

fn runners(active: &[&str], started: &[&str]) -> Runners {
    let all = |uids: &[&str]| uids.iter().map(|uid| (*uid).to_owned()).collect();
    Runners {
        active: all(active),
        started: all(started),
    }
}

#[test]
fn builds_that_hang_for_want_of_a_secret_hold_no_place() {
    let all = [
        hangs(needs("a", "nosuch", 0)),
        hangs(needs("b", "nosuch", 0)),
    ];
    let third = needs("c", "other", 5);
    assert_eq!(
        Queue::of(&third, &all, &runners(&["a", "b"], &[]), false),
        Queue::default()
    );
    // Their Secret is there, and one of them runs by now: whatever its status still says.
    let queue = Queue::of(&third, &all, &runners(&["a", "b"], &["a"]), false);
    assert_eq!(queue.running, 1);
}

#[test]
fn builds_that_hang_for_want_of_a_secret_keep_no_builder_from_a_restart() {
    let mut refused = needs("d", "s", 0);
    refused.status =
        Some(super::super::refused(&refused, &refusal("Job", 403, QUOTA), later(1)).status);
    let all = [
        hangs(needs("a", "nosuch", 0)),
        hangs(needs("b", "nosuch", 0)),
        needs("c", "other", 5),
        refused,
    ];
    assert_eq!(runners(&["a", "b", "d"], &[]).busy(&all), 0);
    assert_eq!(runners(&["a", "b"], &["b"]).busy(&all), 1, "it runs by now");
    assert_eq!(
        runners(&["a", "c"], &[]).busy(&all),
        1,
        "it may start at once"
    );
    assert_eq!(
        runners(&["gone"], &[]).busy(&all),
        1,
        "its ImageBuild was deleted"
    );
}

#[test]
fn a_build_in_whose_way_a_pod_or_a_job_is_holds_no_place() {
    let stuck = |uid: &str| Observed {
        others_alive: true,
        stuck: Some("Pod hello-1-x was to be gone by now".into()),
        ..observed(needs(uid, "s", 0))
    };
    let foreign = |uid: &str| with_attempt(needs(uid, "s", 0), State::Foreign);
    for (observed, reason) in [
        (stuck("a"), "PodTerminating"),
        (foreign("a"), "JobConflict"),
    ] {
        let mut other = observed.build.clone();
        other.status = Some(next(&observed, later(1)).status);
        let status = other.status.as_ref().unwrap();
        assert_eq!(condition(status, READY), Some(("False", reason)));
        let mine = needs("b", "s", 5);
        let queue = Queue::of(&mine, &[other], &Runners::default(), false);
        assert_eq!(queue, Queue::default(), "{reason}");
    }
}

#[test]
fn a_build_that_would_hang_for_the_same_secret_does_not_start() {
    let all = [hangs(needs("a", "nosuch", 0))];
    let mut second = needs("b", "nosuch", 5);
    let queue = Queue::of(&second, &all, &runners(&["a"], &[]), false);
    let waiting = Observed {
        queue,
        ..observed(second.clone())
    };
    let step = next(&waiting, later(6));
    assert_eq!(step.action, Action::None);
    assert_eq!(
        condition(&step.status, READY),
        Some(("False", "SecretNotFound"))
    );
    assert!(message(&step.status).starts_with("Secret nosuch not found"));
    second.status = Some(step.status);
    // It holds up nobody, and it does not take itself for the one that goes first.
    let third = needs("c", "other", 7);
    let others = [all[0].clone(), second.clone()];
    assert_eq!(
        Queue::of(&third, &others, &runners(&["a"], &[]), false),
        Queue::default()
    );
    let queue = Queue::of(&second, &others, &runners(&[], &[]), false);
    assert_eq!(queue.missing, None);
}

#[test]
fn builds_that_hang_for_want_of_a_node_keep_their_place() {
    let mut other = needs("a", "s", 0);
    let pending = Pending::new(Reason::Unschedulable, "no node".into());
    other.status = Some(
        next(
            &with_attempt(other.clone(), State::Pending(pending)),
            later(9),
        )
        .status,
    );
    let queue = Queue::of(&needs("b", "s", 5), &[other], &runners(&["a"], &[]), false);
    assert_eq!(queue.running, 1);
}

#[test]
fn a_build_that_was_refused_holds_up_nobody_and_builds_that_wait_for_the_builder_keep_their_order()
{
    let mut refused = needs("a", "s", 0);
    refused.status =
        Some(super::super::refused(&refused, &refusal("Job", 403, QUOTA), later(1)).status);
    let mine = needs("b", "s", 5);
    assert_eq!(
        Queue::of(&mine, &[refused], &Runners::default(), false).before,
        0
    );

    let mut waits = needs("a", "s", 0);
    let status = waits.status.as_mut().unwrap();
    let copy = fixtures::inline();
    let quota = Pending {
        of_builder: true,
        ..Pending::new(Reason::QuotaExceeded, "m".into()).blocked()
    };
    crate::imagebuild::status::wait(status, &copy, &quota, now());
    assert_eq!(
        Queue::of(&mine, &[waits], &Runners::default(), false).before,
        1
    );
}

#[test]
fn a_lean_status_keeps_what_was_built_and_bounds_every_text() {
    let mut status = done().status.unwrap();
    for condition in &mut status.conditions {
        condition.message = "x".repeat(30_000);
    }
    let lean = super::super::lean(&status);
    assert_eq!(lean.digest, status.digest);
    assert_eq!(lean.input, status.input);
    assert!(serde_json::to_string(&lean).unwrap().len() < 8192);
}

#[test]
fn a_pod_of_before_that_does_not_go_is_told() {
    let mut waiting = observed(running());
    waiting.others_alive = true;
    waiting.stuck = Some("Pod hello-x was to be gone".into());
    let step = next(&waiting, later(60));
    assert_eq!(step.action, Action::None);
    assert_eq!(
        condition(&step.status, READY),
        Some(("False", "PodTerminating"))
    );
}

#[test]
fn a_foreign_job_is_told_and_ends_the_build_at_its_deadline() {
    let mut build = running();
    let step = next(&with_attempt(build.clone(), State::Foreign), later(5));
    assert_eq!(
        condition(&step.status, READY),
        Some(("False", "JobConflict"))
    );
    build.status = Some(step.status);
    let step = next(&with_attempt(build, State::Foreign), later(1801));
    assert_eq!(condition(&step.status, READY), Some(("False", "Timeout")));
    assert!(message(&step.status).contains("does not belong to this ImageBuild"));
}

#[test]
fn a_check_that_is_refused_stays_said_until_it_is_taken() {
    let (mut build, _) = to_be_checked();
    let step = super::super::refused(&build, &refusal("Job", 403, QUOTA), later(6));
    assert!(message(&step.status).contains("exceeded quota: q"));
    build.status = Some(step.status);
    let absent = with_checks(&build, [gate::State::Absent, gate::State::NoNode]);
    let step = next(&absent, later(8));
    assert!(matches!(step.action, Action::Check(_)));
    assert_eq!(
        condition(&step.status, READY),
        Some(("False", "QuotaExceeded"))
    );
    let waits = gate::State::Waiting {
        message: "no node".into(),
        left: None,
    };
    let step = next(&with_checks(&build, [waits, gate::State::NoNode]), later(9));
    assert_eq!(
        condition(&step.status, READY),
        Some(("Unknown", "HealthCheck"))
    );
    let late = with_checks(&build, [gate::State::Absent, gate::State::NoNode]);
    let step = next(&late, later(1801));
    assert_eq!(condition(&step.status, READY), Some(("False", "Timeout")));
    assert!(message(&step.status).contains("exceeded quota: q"));
}
