use super::super::tests::{later, next, now, observed};
use super::super::{State, Step};
use super::*;
use crate::fixtures;
use crate::imagebuild::outcome::Record;
use crate::names;
use whittle_api::{READY, RECONCILING, find};
use whittle_build::report::Built;
use whittle_build::request::BuildRequest;

/// One whose last build has succeeded, and whose next one is due.
fn due() -> ImageBuild {
    let mut build = fixtures::git_with_secrets();
    build.status = Some(next(&observed(build.clone()), now()).status);
    let ended = Observed {
        attempt: State::Ended(Report::Succeeded(Built {
            digest: "sha256:aa".into(),
            ..Built::default()
        })),
        ..observed(build.clone())
    };
    build.status = Some(next(&ended, later(9)).status);
    build.spec.dockerfile = "other".into();
    build.metadata.generation = Some(2);
    build
}

/// What stands in the annotation of a Job that is made in advance for it now.
fn template(build: &ImageBuild) -> String {
    let builder = observed(build.clone()).builder.unwrap();
    in_advance::template(build, &builder, &fixtures::settings()).unwrap()
}

fn waits(job: &str, template: String) -> Standby {
    Standby {
        job: job.into(),
        template,
        waits: true,
    }
}

fn with(build: ImageBuild, standbys: Vec<Standby>) -> Observed {
    Observed {
        standbys,
        ..observed(build)
    }
}

/// Its attempt is carried out by the Job `made-0123456789`.
fn adopted() -> (ImageBuild, Step) {
    let mut build = due();
    let standby = waits("made-0123456789", template(&build));
    let step = next(&with(build.clone(), vec![standby]), later(60));
    build.status = Some(step.status.clone());
    (build, step)
}

fn job(status: &ImageBuildStatus) -> &str {
    &status.current.as_ref().unwrap().job
}

#[test]
fn an_attempt_is_carried_out_by_the_job_that_was_made_in_advance_for_it() {
    let (build, step) = adopted();
    let Action::Adopt(handover) = &step.action else {
        panic!("{:?}", step.action)
    };
    assert_eq!(job(&step.status), "made-0123456789");
    assert_eq!(handover.job, "made-0123456789");
    let request: BuildRequest = serde_json::from_str(&handover.request).unwrap();
    assert_eq!(request.job, "made-0123456789");
    assert_eq!(
        (request.build, request.inputs.dockerfile.as_str()),
        (2, "other")
    );
    let current = step.status.current.as_ref().unwrap();
    assert!(current.started && current.attempt == 1);
    assert_eq!(current.since.as_ref().unwrap().0, later(60));
    assert!(is_adopted(&build, &step.status));
    assert!(step.stop.is_empty());
    let said = find(&step.status.conditions, RECONCILING).unwrap();
    assert_eq!(said.reason, "Building");
}

#[test]
fn one_that_does_not_wait_or_was_made_from_something_else_is_thrown_away_and_an_ordinary_one_made()
{
    let build = due();
    let fits = template(&build);
    let mut secret = build.clone();
    secret.spec.secrets[0].secret_ref.name = "another".into();
    for (build, standby) in [
        (
            build.clone(),
            Standby {
                waits: false,
                ..waits("made-0123456789", fits.clone())
            },
        ),
        (build.clone(), waits("made-0123456789", "x".into())),
        // Its Secret has another name since.
        (secret, waits("made-0123456789", fits)),
    ] {
        let step = next(&with(build, vec![standby]), later(60));
        assert!(matches!(step.action, Action::Start(_)), "{:?}", step.action);
        assert_eq!(step.stop, ["made-0123456789"]);
        assert_ne!(job(&step.status), "made-0123456789");
    }
}

#[test]
fn of_several_one_is_used_and_the_others_go() {
    let build = due();
    let all = ["a-0123456789", "b-0123456789", "c-0123456789"];
    let mut standbys: Vec<_> = all.map(|job| waits(job, template(&build))).into();
    standbys[0].template.push('x');
    let step = next(&with(build, standbys), later(60));
    assert_eq!(job(&step.status), "b-0123456789");
    assert_eq!(step.stop, ["a-0123456789", "c-0123456789"]);
}

#[test]
fn a_build_that_waits_for_its_turn_keeps_it_until_then() {
    let mut build = due();
    let standby = waits("made-0123456789", template(&build));
    let mut full = with(build.clone(), vec![standby.clone()]);
    full.queue.running = 2;
    let step = next(&full, later(60));
    assert_eq!((step.action, step.stop), (Action::None, vec![]));
    build.status = Some(step.status);
    assert_eq!(next_first(&build), Some(2));
    let step = next(&with(build, vec![standby]), later(90));
    assert!(matches!(step.action, Action::Adopt(_)));
}

#[test]
fn only_a_first_attempt_is_carried_out_by_one() {
    let mut build = due();
    assert_eq!(next_first(&build), Some(2));
    build.status = Some(next(&observed(build.clone()), later(60)).status);
    assert_eq!(next_first(&build), None);
    let lost = failed(FailureReason::RunnerLost, "evicted".into());
    let ended = Observed {
        attempt: State::Ended(lost),
        ..observed(build.clone())
    };
    build.status = Some(next(&ended, later(70)).status);
    assert_eq!(next_first(&build), None);
    let standby = waits("made-0123456789", template(&build));
    let step = next(&with(build, vec![standby]), later(170));
    assert!(matches!(step.action, Action::Start(_)));
}

#[test]
fn a_controller_that_comes_back_hands_the_request_over_once_more_and_the_one_that_has_does_not() {
    let (build, step) = adopted();
    let Action::Adopt(first) = step.action else {
        panic!("{:?}", step.action)
    };
    let runs = Observed {
        attempt: State::Running,
        ..observed(build)
    };
    let step = next(&runs, later(61));
    assert_eq!(step.action, Action::Hand(first));
    assert_eq!(job(&step.status), "made-0123456789");
    for handed in [Handed::Waits, Handed::Taken] {
        let known = Observed {
            handed: Some(handed),
            ..runs.clone()
        };
        let step = next(&known, later(61));
        assert_eq!((step.action, step.stop), (Action::None, vec![]));
    }
    // It needs the Builder for that, which may be away for a moment.
    let without = Observed {
        builder: None,
        ..runs
    };
    let step = next(&without, later(61));
    assert_eq!(step.action, Action::None);
    assert_eq!(step.look_again, Some(SOON));
}

#[test]
fn a_runner_that_was_ended_before_it_had_its_request_costs_no_attempt() {
    let (build, _) = adopted();
    for attempt in [State::Untaken, State::Absent] {
        let seen = Observed {
            attempt: attempt.clone(),
            ..observed(build.clone())
        };
        let step = next(&seen, later(62));
        let Action::Start(started) = &step.action else {
            panic!("{attempt:?}: {:?}", step.action)
        };
        assert_eq!(started.job.name_any(), job(&step.status));
        assert_ne!(job(&step.status), "made-0123456789");
        assert_eq!(step.stop, ["made-0123456789"]);
        assert_eq!(step.status.current.as_ref().unwrap().attempt, 1);
        assert!(!is_adopted(&build, &step.status));
    }
}

#[test]
fn one_that_does_not_come_for_its_request_or_is_being_deleted_is_to_end_before_another_begins() {
    let (mut build, _) = adopted();
    for (attempt, handed) in [
        (State::Running, Some(Handed::Late)),
        (State::Leaving, Some(Handed::Taken)),
    ] {
        let seen = Observed {
            attempt,
            handed,
            ..observed(build.clone())
        };
        let step = next(&seen, later(70));
        assert_eq!(step.action, Action::None);
        assert_eq!(step.stop, ["made-0123456789"]);
        assert_ne!(job(&step.status), "made-0123456789");
        build.status = Some(step.status);
        let alive = Observed {
            others_alive: true,
            ..observed(build.clone())
        };
        assert_eq!(next(&alive, later(71)).action, Action::None);
        let step = next(&observed(build.clone()), later(72));
        assert!(matches!(step.action, Action::Start(_)));
        build = adopted().0;
    }
}

#[test]
fn one_whose_credentials_are_refused_may_have_had_old_ones_and_an_ordinary_one_tells() {
    let (build, _) = adopted();
    for reason in [
        FailureReason::SourceDenied,
        FailureReason::BaseImageDenied,
        FailureReason::PushDenied,
    ] {
        let denied = || failed(reason, "401".into());
        let ended = Observed {
            attempt: State::Ended(denied()),
            ..observed(build.clone())
        };
        let step = next(&ended, later(70));
        assert!(matches!(step.action, Action::Start(_)), "{reason}");
        assert_eq!(step.stop, ["made-0123456789"]);
        let told = Observed {
            attempt: State::Told(denied()),
            ..observed(build.clone())
        };
        let step = next(&told, later(70));
        assert_eq!(
            (step.action, step.status.early.is_none()),
            (Action::None, true)
        );
        // The ordinary one's word counts.
        let mut again = build.clone();
        again.status = Some(next(&ended, later(70)).status);
        let ended = Observed {
            attempt: State::Ended(denied()),
            ..observed(again)
        };
        assert_eq!(
            next(&ended, later(75)).status.failure.unwrap().reason,
            reason
        );
    }
    let step_failed = failed(FailureReason::StepFailed, "1".into());
    let ended = Observed {
        attempt: State::Ended(step_failed),
        ..observed(build)
    };
    assert!(next(&ended, later(70)).status.failure.is_some());
}

#[test]
fn its_time_begins_with_the_attempt_and_the_controller_ends_it() {
    let (build, _) = adopted();
    let runs = Observed {
        attempt: State::Running,
        handed: Some(Handed::Taken),
        ..observed(build)
    };
    let step = next(&runs, later(60 + 1799));
    assert_eq!(step.look_again, Some(SignedDuration::from_secs(1)));
    let step = next(&runs, later(60 + 1800));
    assert_eq!(step.stop, ["made-0123456789"]);
    let failure = step.status.failure.unwrap();
    assert_eq!(failure.reason, FailureReason::Timeout);
    assert!(step.status.current.is_none());
}

#[test]
fn it_ends_as_any_attempt_does() {
    let (build, _) = adopted();
    let ended = Observed {
        attempt: State::Ended(Report::Succeeded(Built {
            digest: "sha256:bb".into(),
            ..Built::default()
        })),
        record: Record::default(),
        ..observed(build)
    };
    let status = next(&ended, later(63)).status;
    assert_eq!(status.digest.as_deref(), Some("sha256:bb"));
    assert!(find(&status.conditions, READY).is_some_and(|it| it.status == "True"));
    assert_eq!(status.history[0].job.as_deref(), Some("made-0123456789"));
    assert_eq!(status.duration_seconds, Some(3));
}

#[test]
fn its_log_is_the_builds_where_another_one_moves_the_tags() {
    let (mut build, _) = adopted();
    let check = serde_json::json!({"tcpSocket": {"port": 80}});
    build.spec.health_check = serde_json::from_value(check).unwrap();
    // As if it had been there from the start.
    build.status.as_mut().unwrap().input = Some(super::super::input(&build));
    let ended = Observed {
        attempt: State::Ended(Report::Succeeded(Built {
            digest: "sha256:bb".into(),
            ..Built::default()
        })),
        ..observed(build.clone())
    };
    build.status = Some(next(&ended, later(63)).status);
    let status = build.status.as_ref().unwrap();
    assert!(status.current.as_ref().unwrap().stage.pushed().is_some());
    assert!(!is_adopted(&build, status));
    build.spec.dockerfile = "third".into();
    let status = next(&observed(build), later(64)).status;
    assert_eq!(status.history[0].job.as_deref(), Some("made-0123456789"));
}

#[test]
fn an_ordinary_runner_that_is_ended_before_it_begins_is_lost() {
    let mut build = due();
    build.status = Some(next(&observed(build.clone()), later(60)).status);
    let ended = Observed {
        attempt: State::Untaken,
        ..observed(build)
    };
    let step = next(&ended, later(61));
    let current = step.status.current.unwrap();
    assert_eq!(current.attempt, 2);
    assert!(current.last_failure.unwrap().starts_with("RunnerLost"));
}

#[test]
fn what_a_job_says_of_itself_is_read_from_its_metadata() {
    let (build, settings) = (fixtures::inline(), fixtures::settings());
    let made = in_advance::in_advance(&build, &fixtures::builder(), (1, 60), &settings);
    let made = made.unwrap().unwrap().job;
    let standby = Standby::of(&made);
    assert_eq!(standby.job, made.name_any());
    assert_eq!(standby.template, made.annotations()[names::TEMPLATE]);
    assert!(!standby.waits);
}

#[test]
fn where_the_builder_has_replicas_the_request_names_the_one_that_was_chosen_also_when_it_is_handed_again()
 {
    use whittle_api::{ReplicaStatus, ReplicasStatus};

    let on_several = |seen: Observed| {
        let mut seen = seen;
        let builder = seen.builder.as_mut().unwrap();
        builder.spec.replicas = 9;
        let one = |replica| ReplicaStatus {
            replica,
            ready: true,
            since: None,
            running: 0,
            cache_bytes: None,
            draining: false,
        };
        builder.status.as_mut().unwrap().replicas = Some(ReplicasStatus {
            desired: 9,
            ready: 9,
            each: (0..9).map(one).collect(),
            ..ReplicasStatus::default()
        });
        seen
    };
    let mut build = due();
    let seen = on_several(with(build.clone(), vec![]));
    let builder = seen.builder.as_ref().unwrap();
    let fits = in_advance::template(&build, builder, &fixtures::settings()).unwrap();
    let standbys = vec![waits("made-0123456789", fits)];
    let step = next(&Observed { standbys, ..seen }, later(60));
    let Action::Adopt(handover) = &step.action else {
        panic!("{:?}", step.action)
    };
    let chosen = step.status.current.as_ref().unwrap().replica.unwrap();
    let request: BuildRequest = serde_json::from_str(&handover.request).unwrap();
    let host = names::builder_host("default", "team", chosen);
    assert!(chosen > 0, "another test value: the first is the default");
    assert!(request.builder_address.contains(&host), "{request:?}");
    // A controller that comes later hands over the same.
    build.status = Some(step.status);
    let mut seen = on_several(observed(build));
    seen.attempt = State::Running;
    let step = next(&seen, later(61));
    let Action::Hand(again) = &step.action else {
        panic!("{:?}", step.action)
    };
    assert_eq!(again.request, handover.request);
}
