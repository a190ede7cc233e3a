//! A reconcile of an ImageBuild against what the API server may answer.

use serde_json::{Value, json};

use super::*;
use crate::cluster::scripted::{Asked, Server, page};
use crate::fixtures;
use crate::scripted::context;
use whittle_api::ImageBuildStatus;
use whittle_api::{BuilderStatus, READY, find};

const ONE: &str = "/apis/whittle.dev/v1alpha1/namespaces/team/imagebuilds/hello";
const BUILDER: &str = "/apis/whittle.dev/v1alpha1/namespaces/team/builders/default";
const PODS: &str = "/api/v1/namespaces/team/pods";
const JOBS: &str = "/apis/batch/v1/namespaces/team/jobs";
const CONFIG_MAPS: &str = "/api/v1/namespaces/team/configmaps";
const SECRETS: &str = "/api/v1/namespaces/team/secrets";
const EVENTS: &str = "/apis/events.k8s.io/v1/namespaces/team/events";

fn json_of(object: &impl serde::Serialize) -> Value {
    serde_json::to_value(object).unwrap()
}

fn status() -> String {
    format!("PATCH {ONE}/status")
}

/// A Builder of this installation that takes builds.
fn ready() -> Builder {
    let mut builder = fixtures::builder();
    let condition = json!({"type": "Ready", "status": "True", "reason": "Ready", "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z"});
    builder.status = Some(BuilderStatus {
        replicas: None,
        platforms: None,
        installation: Some(fixtures::settings().installation),
        observed_generation: Some(1),
        certificates: Some(fixtures::certificates()),
        conditions: vec![serde_json::from_value(condition).unwrap()],
        state: Some(whittle_api::Reason::Ready),
        isolation: None,
        emptied: None,
        cache: None,
    });
    builder
}

/// All that is read of a new ImageBuild whose turn it is, and its status, which is written first.
fn new_one_is_due(server: &Server) -> ImageBuild {
    let build = fixtures::inline();
    server
        .on(&format!("GET {PODS}"), page(&[], None))
        .on(&format!("GET {JOBS}"), page(&[], None));
    server
        .on(&format!("GET {ONE}"), json_of(&build))
        .on(&format!("GET {BUILDER}"), json_of(&ready()))
        .on(&status(), json_of(&build));
    build
}

fn an_event_is_taken(server: &Server) {
    let event = json!({"apiVersion": "events.k8s.io/v1", "kind": "Event",
        "metadata": {"name": "a", "namespace": "team"}, "eventTime": null});
    server.on(&format!("POST {EVENTS}"), event);
}

fn config_map_is_made(server: &Server) {
    let made =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "uid": "c"}});
    server.on(&format!("POST {CONFIG_MAPS}"), made);
}

fn secret_is_made(server: &Server) {
    let made = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}});
    server.on(&format!("POST {SECRETS}"), made);
}

/// All that an attempt needs is made but its Job; that is told.
fn a_job_is_refused(server: &Server, build: &ImageBuild, (code, reason): (u16, &str), words: &str) {
    config_map_is_made(server);
    secret_is_made(server);
    an_event_is_taken(server);
    server
        .refuse(&format!("POST {JOBS}"), code, reason, words)
        .on(&status(), json_of(build));
}

fn written(asked: &[Asked]) -> Vec<&str> {
    let asked = asked.iter().map(|asked| asked.what.as_str());
    asked.filter(|what| !what.starts_with("GET ")).collect()
}

/// Status and reason of Ready, as written last.
fn said(asked: &[Asked]) -> (String, String) {
    let last = asked.iter().rfind(|asked| asked.what == status()).unwrap();
    let status: ImageBuildStatus = serde_json::from_value(last.body["status"].clone()).unwrap();
    let ready = find(&status.conditions, READY).unwrap();
    (ready.status.clone(), ready.reason.clone())
}

fn pair(status: &str, reason: &str) -> (String, String) {
    (status.to_owned(), reason.to_owned())
}

#[tokio::test(start_paused = true)]
async fn an_attempt_has_its_name_in_the_status_before_anything_of_it_is_made() {
    let (context, server) = context(&[]);
    let build = new_one_is_due(&server);
    config_map_is_made(&server);
    secret_is_made(&server);
    server.refuse(
        &format!("POST {JOBS}"),
        409,
        "AlreadyExists",
        "it was made before",
    );
    reconcile(&build, &context).await.unwrap();
    let asked = server.asked();
    let expected = [
        status(),
        format!("POST {CONFIG_MAPS}"),
        format!("POST {SECRETS}"),
        format!("POST {JOBS}"),
    ];
    assert_eq!(written(&asked), expected);
    let of = |what: &str| asked.iter().find(|asked| asked.what == what).unwrap();
    let named = &of(&status()).body["status"]["current"]["job"];
    assert_eq!(*named, of(&format!("POST {JOBS}")).body["metadata"]["name"]);
}

#[tokio::test(start_paused = true)]
async fn in_a_namespace_that_goes_a_build_is_not_told_that_it_failed() {
    let (context, server) = context(&[]);
    let build = new_one_is_due(&server);
    let going = "unable to create new content in namespace team because it is being terminated";
    server.refuse(&format!("POST {CONFIG_MAPS}"), 403, "Forbidden", going);
    let error = reconcile(&build, &context).await.unwrap_err();
    let action = after_error(&build, KIND, &error, &context);
    assert_eq!(action, Requeue::await_change());
    let expected = [status(), format!("POST {CONFIG_MAPS}")];
    assert_eq!(written(&server.asked()), expected);
}

#[tokio::test(start_paused = true)]
async fn a_job_that_is_invalid_ends_the_build_and_takes_its_request_along() {
    let (context, server) = context(&[]);
    let build = new_one_is_due(&server);
    let words = "Job.batch \"hello\" is invalid: spec.template.spec.volumes[0].name: Invalid value";
    a_job_is_refused(&server, &build, (422, "Invalid"), words);
    let job = names::attempt("hello", &build.uid().unwrap(), 1, 1, 1);
    for path in [JOBS, CONFIG_MAPS] {
        server.refuse(
            &format!("DELETE {path}/{job}"),
            404,
            "NotFound",
            "it is gone",
        );
    }
    reconcile(&build, &context).await.unwrap();
    assert_eq!(said(&server.asked()), pair("False", "SpecRejected"));
}

#[tokio::test(start_paused = true)]
async fn a_job_that_a_quota_forbids_waits_for_room() {
    let (context, server) = context(&[]);
    let build = new_one_is_due(&server);
    let words = "jobs.batch \"hello\" is forbidden: exceeded quota: few";
    a_job_is_refused(&server, &build, (403, "Forbidden"), words);
    let action = reconcile(&build, &context).await.unwrap();
    assert_eq!(action, Requeue::requeue(Duration::from_secs(2)));
    assert_eq!(said(&server.asked()), pair("False", "QuotaExceeded"));
}

#[tokio::test(start_paused = true)]
async fn of_a_status_that_is_too_large_less_is_written_before_the_build_starts() {
    let (context, server) = context(&[]);
    let build = fixtures::inline();
    server
        .on(&format!("GET {PODS}"), page(&[], None))
        .on(&format!("GET {JOBS}"), page(&[], None));
    server
        .on(&format!("GET {ONE}"), json_of(&build))
        .on(&format!("GET {BUILDER}"), json_of(&ready()))
        .refuse(
            &status(),
            413,
            "RequestEntityTooLarge",
            "etcdserver: request is too large",
        )
        .on(&status(), json_of(&build));
    config_map_is_made(&server);
    secret_is_made(&server);
    let made = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "a"}});
    server.on(&format!("POST {JOBS}"), made);
    reconcile(&build, &context).await.unwrap();
    let asked = server.asked();
    let statuses = asked.iter().filter(|asked| asked.what == status());
    assert_eq!(statuses.count(), 2);
    assert_eq!(
        written(&asked).last(),
        Some(&format!("POST {JOBS}").as_str())
    );
}

#[tokio::test(start_paused = true)]
async fn a_builder_that_two_claim_at_once_holds_a_build_up_for_a_moment() {
    let (context, server) = context(&[]);
    let build = fixtures::inline();
    server
        .on(&format!("GET {PODS}"), page(&[], None))
        .on(&format!("GET {JOBS}"), page(&[], None))
        .on(&format!("GET {ONE}"), json_of(&build))
        .on(&format!("GET {BUILDER}"), json_of(&fixtures::builder()))
        .refuse(
            &format!("PATCH {BUILDER}/status"),
            409,
            "Conflict",
            "the object has been modified",
        );
    let action = reconcile(&build, &context).await.unwrap();
    assert_eq!(action, Requeue::requeue(AT_ONCE));
    assert_eq!(
        written(&server.asked()),
        [format!("PATCH {BUILDER}/status")]
    );
}
