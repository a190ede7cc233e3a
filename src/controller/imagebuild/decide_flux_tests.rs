use super::*;
use serde_json::{Value, json};
use whittle_build::request::{BuildRequest, paths};

const COMMIT: &str = "837dd142b9ed4a2a48537e32a6406699dbe776bd";

fn seen(flux: Option<Value>) -> Observed {
    Observed {
        flux: flux.map(Object::take),
        ..observed(fixtures::of_flux())
    }
}

fn repository(ready: &str) -> Value {
    json!({
        "spec": {"url": "https://git.example.com/app", "secretRef": {"name": "git"}},
        "status": {
            "artifact": {"revision": format!("main@sha1:{COMMIT}")},
            "conditions": [{"type": "Ready", "status": ready, "reason": "GitOperationFailed", "message": "no route to host"}],
        },
    })
}

fn waiting(step: &Step) -> (Reason, String) {
    assert_eq!(step.action, Action::None);
    let ready = find(&step.status.conditions, READY).unwrap();
    (step.status.waiting().unwrap().reason, ready.message.clone())
}

#[test]
fn an_attempt_is_held_to_the_commit_that_flux_has_fetched() {
    let observed = seen(Some(repository("True")));
    let step = next(&observed, now());
    let Action::Start(attempt) = &step.action else {
        panic!("{:?}", step.action)
    };
    let text = &attempt.config_map.data.as_ref().unwrap()[paths::REQUEST_KEY];
    let request: BuildRequest = serde_json::from_str(text).unwrap();
    let revision = format!("main@sha1:{COMMIT}");
    assert_eq!(request.flux.unwrap().revision, revision);
    let git = request.inputs.source.git.unwrap();
    assert_eq!(git.reference.unwrap().commit.as_deref(), Some(COMMIT));
    assert_eq!(request.inputs.source.flux.unwrap().name, "app");
    let pod = attempt.job.spec.as_ref().unwrap().template.spec.as_ref();
    let volumes = pod.unwrap().volumes.as_ref().unwrap();
    let mounts = |volume: &&k8s_openapi::api::core::v1::Volume| {
        let secret = volume.secret.as_ref();
        secret.and_then(|it| it.secret_name.as_deref()) == Some("git")
    };
    assert_eq!(volumes.iter().filter(mounts).count(), 1);
    // What is fetched is no input: the same spec is due no more.
    assert_eq!(step.status.input, Some(input(&observed.build)));
    assert_eq!(step.status.trigger.unwrap().revision, Some(revision));
}

#[test]
fn without_its_source_a_build_waits_and_takes_no_place() {
    let step = next(&seen(None), now());
    let (reason, message) = waiting(&step);
    assert_eq!(reason, FailureReason::SourceNotFound.into());
    assert!(
        message.starts_with("GitRepository app not found"),
        "{message}"
    );
    let step = next(&seen(Some(repository("False"))), now());
    let (reason, message) = waiting(&step);
    assert_eq!(reason, Reason::SourceNotReady);
    assert!(
        message.ends_with("Flux says GitOperationFailed: no route to host"),
        "{message}"
    );
    let mut build = fixtures::of_flux();
    build.status = Some(step.status);
    assert!(lacks_its_own(&build));
    // It heals.
    let healed = Observed {
        build,
        ..seen(Some(repository("True")))
    };
    assert!(matches!(next(&healed, later(60)).action, Action::Start(_)));
    // For ever it does not wait.
    let step = next(
        &Observed {
            flux: None,
            ..healed
        },
        later(3601),
    );
    assert_eq!(step.status.failure.unwrap().reason, FailureReason::Timeout);
}

#[test]
fn what_was_asked_for_while_it_waited_is_built_once() {
    let mut build = fixtures::of_flux();
    build.status = Some(next(&seen(None), now()).status);
    let revision = format!("main@sha1:{COMMIT}");
    let asked = whittle_api::Pending {
        reason: whittle_api::TriggerReason::Commit,
        detail: revision.clone(),
        revision: Some(revision),
        tree: None,
        since: Time(later(1)),
        doubt: None,
    };
    ask(&mut build.status.as_mut().unwrap().pending, asked);
    let healed = Observed {
        build,
        ..seen(Some(repository("True")))
    };
    let step = next(&healed, later(2));
    assert!(matches!(step.action, Action::Start(_)));
    assert_eq!((step.status.build, step.status.pending), (Some(1), None));
}
