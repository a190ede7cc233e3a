//! A reconcile of a Builder against what the API server may answer.

use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::builder::objects::objects;
use crate::cluster::scripted::{Asked, Server};
use crate::fixtures;
use crate::scripted::context;
use whittle_api::BuilderStatus;

const ONE: &str = "/apis/whittle.dev/v1alpha1/namespaces/team/builders/default";
const SET: &str = "/apis/apps/v1/namespaces/team/statefulsets/whittle-builder-default";
const POD: &str = "/api/v1/namespaces/team/pods/whittle-builder-default-0";
const SERVER: &str = "/api/v1/namespaces/team/secrets/whittle-builder-default-server";
const CLIENT: &str = "/api/v1/namespaces/team/secrets/whittle-builder-default-client";
const CONFIG: &str = "/api/v1/namespaces/team/configmaps/whittle-builder-default";
const SERVICE: &str = "/api/v1/namespaces/team/services/whittle-builder-default";
const POLICY: &str =
    "/apis/networking.k8s.io/v1/namespaces/team/networkpolicies/whittle-builder-default";
const EVENTS: &str = "/apis/events.k8s.io/v1/namespaces/team/events";

fn get(path: &str) -> String {
    format!("GET {path}")
}

fn patch(path: &str) -> String {
    format!("PATCH {path}")
}

fn status() -> String {
    patch(&format!("{ONE}/status"))
}

fn json_of(object: &impl serde::Serialize) -> Value {
    serde_json::to_value(object).unwrap()
}

/// A Builder of this installation that nothing was done for yet.
fn ours() -> Builder {
    let mut builder = fixtures::builder();
    builder.metadata.resource_version = Some("7".into());
    builder.status = Some(BuilderStatus {
        installation: Some(fixtures::settings().installation),
        ..BuilderStatus::default()
    });
    builder
}

fn missing(server: &Server, path: &str) {
    server.refuse(&get(path), 404, "NotFound", "not found");
}

/// Its certificates, its surroundings and its StatefulSet can be written.
fn all_is_applied(server: &Server) {
    all_around_is_applied(server);
    let wanted = objects(&ours(), &fixtures::settings(), "c");
    server.on(&patch(SET), json_of(&wanted.stateful_set));
}

/// All but its StatefulSet.
fn all_around_is_applied(server: &Server) {
    let wanted = objects(&ours(), &fixtures::settings(), "c");
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {}});
    server
        .on(&patch(SERVER), secret.clone())
        .on(&patch(CLIENT), secret)
        .on(&patch(CONFIG), json_of(&wanted.config_map))
        .on(&patch(SERVICE), json_of(&wanted.service))
        .on(&patch(POLICY), json_of(&wanted.network_policy));
}

fn what(asked: &[Asked]) -> Vec<&str> {
    asked.iter().map(|asked| asked.what.as_str()).collect()
}

/// Status and reason of the condition of this kind that was written last.
fn said(asked: &[Asked], kind: &str) -> Option<(String, String)> {
    let written = asked.iter().rfind(|asked| asked.what == status())?;
    let status: BuilderStatus = serde_json::from_value(written.body["status"].clone()).unwrap();
    let found = whittle_api::find(&status.conditions, kind)?;
    Some((found.status.clone(), found.reason.clone()))
}

fn pair(status: &str, reason: &str) -> Option<(String, String)> {
    Some((status.to_owned(), reason.to_owned()))
}

#[tokio::test(start_paused = true)]
async fn a_new_builder_is_claimed_and_gets_certificates_objects_and_a_status_in_that_order() {
    let (context, server) = context(&[]);
    let new = fixtures::builder();
    server
        .on(&get(ONE), json_of(&new))
        .on(&status(), json_of(&ours()));
    missing(&server, SET);
    missing(&server, POD);
    all_is_applied(&server);
    server.on(&status(), json_of(&new));
    reconcile(&new, &context).await.unwrap();
    let asked = server.asked();
    let expected = [
        get(ONE),
        status(),
        get(SET),
        get(POD),
        patch(SERVER),
        patch(CLIENT),
        patch(CONFIG),
        patch(SERVICE),
        patch(POLICY),
        patch(SET),
        status(),
    ];
    assert_eq!(what(&asked), expected);
    assert_eq!(said(&asked, "Ready"), pair("False", "Starting"));
    let certificates = &asked.last().unwrap().body["status"]["certificates"];
    assert_eq!(certificates["authority"], context.authority.fingerprint());
}

#[tokio::test(start_paused = true)]
async fn a_builder_that_is_gone_is_let_alone() {
    let (context, server) = context(&[]);
    missing(&server, ONE);
    let action = reconcile(&ours(), &context).await.unwrap();
    assert_eq!(action, Requeue::await_change());
    let mut leaving = ours();
    leaving.metadata.deletion_timestamp =
        Some(serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap());
    server.on(&get(ONE), json_of(&leaving));
    let action = reconcile(&ours(), &context).await.unwrap();
    assert_eq!(action, Requeue::await_change());
    server.asked();
}

#[tokio::test(start_paused = true)]
async fn a_builder_of_another_installation_is_left_to_it() {
    let (context, server) = context(&[]);
    let mut theirs = ours();
    theirs.status.as_mut().unwrap().installation = Some("b/w".into());
    server.on(&get(ONE), json_of(&theirs));
    let action = reconcile(&theirs, &context).await.unwrap();
    assert_eq!(action, Requeue::requeue(RESYNC));
    assert!(context.others.has(KIND, "team", "default"));
    server.asked();
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_the_api_server_rejects_is_told_in_an_event() {
    let (context, server) = context(&[]);
    let new = fixtures::builder();
    let events = "POST /apis/events.k8s.io/v1/namespaces/team/events";
    let event = json!({"apiVersion": "events.k8s.io/v1", "kind": "Event",
        "metadata": {"name": "a", "namespace": "team"}, "eventTime": null});
    server
        .on(&get(ONE), json_of(&new))
        .invalid(&status(), "status.state", "unsupported value")
        .on(events, event);
    assert!(reconcile(&new, &context).await.is_err());
    let note = &server.asked()[2].body["note"];
    assert!(note.as_str().unwrap().contains("status.state"), "{note}");
}

#[tokio::test(start_paused = true)]
async fn whoever_is_slower_to_claim_a_builder_looks_at_it_again_at_once() {
    let (context, server) = context(&[]);
    let new = fixtures::builder();
    server.on(&get(ONE), json_of(&new)).refuse(
        &status(),
        409,
        "Conflict",
        "the object has been modified",
    );
    let action = reconcile(&new, &context).await.unwrap();
    assert_eq!(action, Requeue::requeue(AT_ONCE));
    server.asked();
}

#[tokio::test(start_paused = true)]
async fn in_a_namespace_that_goes_no_error_is_counted_and_nothing_is_written() {
    let (context, server) = context(&[]);
    server.on(&get(ONE), json_of(&ours()));
    missing(&server, SET);
    missing(&server, POD);
    let going = "secrets is forbidden: unable to create new content in namespace team because it is being terminated";
    server.refuse(&patch(SERVER), 403, "Forbidden", going);
    let error = reconcile(&ours(), &context).await.unwrap_err();
    let action = after_error(&ours(), KIND, &error, &context);
    assert_eq!(action, Requeue::await_change());
    let none = "reconcile_errors_total{kind=\"Builder\"} 0\n";
    assert!(context.metrics.text().contains(none));
    server.asked();
}

#[tokio::test(start_paused = true)]
async fn a_stateful_set_that_is_invalid_stalls_its_builder_with_the_servers_words() {
    let (context, server) = context(&[]);
    server.on(&get(ONE), json_of(&ours()));
    missing(&server, SET);
    missing(&server, POD);
    all_around_is_applied(&server);
    let words = "StatefulSet.apps \"whittle-builder-default\" is invalid: spec.template.spec.nodeSelector: Invalid value";
    server.refuse(&patch(SET), 422, "Invalid", words);
    missing(&server, SET);
    missing(&server, POD);
    server.on(&status(), json_of(&ours()));
    let action = reconcile(&ours(), &context).await.unwrap();
    assert_eq!(action, Requeue::requeue(Duration::from_secs(2)));
    let asked = server.asked();
    assert_eq!(said(&asked, "Stalled"), pair("True", "Rejected"));
    let text = asked.last().unwrap().body.to_string();
    assert!(text.contains("nodeSelector: Invalid value"), "{text}");
    assert!(
        context
            .metrics
            .text()
            .contains("reconcile_errors_total{kind=\"Builder\"} 1")
    );
}

#[tokio::test(start_paused = true)]
async fn what_a_quota_forbids_is_told_and_tried_again() {
    let (context, server) = context(&[]);
    server.on(&get(ONE), json_of(&ours()));
    missing(&server, SET);
    missing(&server, POD);
    let quota = "secrets \"a\" is forbidden: exceeded quota: few, requested: secrets=1";
    server.refuse(&patch(SERVER), 403, "Forbidden", quota);
    missing(&server, SET);
    missing(&server, POD);
    server.on(&status(), json_of(&ours()));
    reconcile(&ours(), &context).await.unwrap();
    let asked = server.asked();
    assert_eq!(said(&asked, "Reconciling"), pair("True", "QuotaExceeded"));
    assert_eq!(said(&asked, "Stalled"), None);
}

#[tokio::test(start_paused = true)]
async fn of_a_status_that_is_refused_an_event_tells() {
    let (context, server) = context(&[]);
    server.on(&get(ONE), json_of(&ours()));
    missing(&server, SET);
    missing(&server, POD);
    all_is_applied(&server);
    server
        .refuse(&status(), 422, "Invalid", "status.conditions: Too many")
        .on(
            &format!("POST {EVENTS}"),
            json!({"apiVersion": "events.k8s.io/v1", "kind": "Event",
            "metadata": {"name": "a", "namespace": "team"}, "eventTime": null}),
        );
    let error = reconcile(&ours(), &context).await.unwrap_err();
    let action = after_error(&ours(), KIND, &error, &context);
    assert_eq!(action, Requeue::requeue(Duration::from_secs(30)));
    let asked = server.asked();
    assert_eq!(asked.last().unwrap().body["reason"], "Rejected");
}

#[tokio::test(start_paused = true)]
async fn certificates_that_are_due_wait_for_builds_that_run() {
    let (context, server) = context(&[]);
    let mut old = ours();
    // Of another authority than the one that signs now.
    old.status.as_mut().unwrap().certificates = Some(fixtures::certificates());
    let set = objects(
        &old,
        &fixtures::settings(),
        &fixtures::certificates().digest,
    );
    let job = json!({"apiVersion": "batch/v1", "kind": "Job", "spec": {}, "status": {"active": 1},
        "metadata": {"name": "a", "namespace": "team", "labels": crate::names::runner_labels("default", "u"),
            "ownerReferences": [
                {"apiVersion": "whittle.dev/v1alpha1", "kind": "ImageBuild", "name": "a", "uid": "u"}]}});
    let job = serde_json::from_value(job).unwrap();
    context
        .queues
        .job(&kube::runtime::watcher::Event::Apply(job));
    server
        .on(&get(ONE), json_of(&old))
        .on(&get(SET), json_of(&set.stateful_set))
        .on(&status(), json_of(&old));
    missing(&server, POD);
    let action = reconcile(&old, &context).await.unwrap();
    assert_eq!(action, Requeue::requeue(Duration::from_secs(10)));
    let asked = server.asked();
    let writes = asked.iter().filter(|asked| !asked.what.starts_with("GET "));
    assert_eq!(writes.count(), 1);
    assert_eq!(said(&asked, "Ready"), pair("False", "Draining"));
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_does_not_answer_ends_the_round() {
    let (context, server) = context(&[]);
    server.hang(&get(ONE));
    let error = in_time(reconcile(&ours(), &context)).await.unwrap_err();
    assert!(matches!(error, Error::Slow(60)), "{error}");
    let action = after_error(&ours(), KIND, &error, &context);
    assert_eq!(action, Requeue::requeue(Duration::from_secs(5)));
    server.asked();
}
