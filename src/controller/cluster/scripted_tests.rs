//! What becomes of the API server's answers, one scene a test.

use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::{Value, json};

use super::credentials::Attempt as Speaker;
use super::scripted::{Server, page};
use super::*;
use crate::imagebuild::job;
use crate::imagebuild::job::{Attempt, AttemptId};
use crate::refusal::Why;
use crate::{fixtures, names};
use whittle_api::BuilderStatus;
use whittle_build::request::Tagging;

pub(super) const BUILDERS: &str = "/apis/whittle.dev/v1alpha1/namespaces/team/builders";
const BUILDS: &str = "/apis/whittle.dev/v1alpha1/namespaces/team/imagebuilds";
const CONFIG_MAPS: &str = "/api/v1/namespaces/team/configmaps";
const SECRETS: &str = "/api/v1/namespaces/team/secrets";
const JOBS: &str = "/apis/batch/v1/namespaces/team/jobs";
const PODS: &str = "/api/v1/namespaces/team/pods";
const GOING: &str = "configmaps \"a\" is forbidden: unable to create new content in namespace team because it is being terminated";
const CONFLICT: &str = "Operation cannot be fulfilled on it: the object has been modified";

fn attempt() -> Attempt {
    let build = fixtures::inline();
    let id = AttemptId {
        build: 1,
        job: names::attempt("hello", &build.uid().unwrap(), 1, 1, 1),
        seconds_left: 300,
        tagging: Tagging::default(),
        flux: None,
        no_cache: false,
        replica: None,
        natives: vec![],
    };
    let (builder, settings) = (fixtures::builder(), fixtures::settings());
    job::attempt(&build, &builder, &id, &settings).unwrap()
}

fn what(asked: &[scripted::Asked]) -> Vec<&str> {
    asked.iter().map(|asked| asked.what.as_str()).collect()
}

pub(super) fn json_of(object: &impl serde::Serialize, change: Value) -> Value {
    let mut object = serde_json::to_value(object).unwrap();
    json_patch::merge(&mut object, &change);
    object
}

#[tokio::test(start_paused = true)]
async fn in_a_namespace_that_goes_nothing_is_made_and_nothing_is_told() {
    let (cluster, server) = Server::cluster();
    server.refuse(&format!("POST {CONFIG_MAPS}"), 403, "Forbidden", GOING);
    let error = cluster.start(&attempt(), "token").await.unwrap_err();
    assert!(error.is_namespace_terminating());
    assert_eq!(error.refusal(), None);
    // Neither the Secret nor the Job was tried.
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_forbidden_otherwise_is_a_refusal_with_its_object() {
    let (cluster, server) = Server::cluster();
    let quota = "builders.whittle.dev \"default\" is forbidden: exceeded quota: few";
    server.refuse(&format!("POST {BUILDERS}"), 403, "Forbidden", quota);
    let error = cluster
        .create_builder(&fixtures::builder())
        .await
        .unwrap_err();
    assert!(!error.is_namespace_terminating());
    let refusal = error.refusal().unwrap();
    assert_eq!(refusal.why, Why::Quota);
    let object = refusal.object.unwrap();
    assert_eq!(
        (object.kind.as_str(), object.name.as_str()),
        ("Builder", "default")
    );
    server.asked();
}

#[tokio::test(start_paused = true)]
async fn a_builder_that_exists_is_left_as_it_is() {
    let (cluster, server) = Server::cluster();
    server.refuse(
        &format!("POST {BUILDERS}"),
        409,
        "AlreadyExists",
        "builders \"default\" already exists",
    );
    cluster.create_builder(&fixtures::builder()).await.unwrap();
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_was_begun_before_is_made_whole() {
    let (cluster, server) = Server::cluster();
    let attempt = attempt();
    let name = attempt.config_map.name_any();
    let mine = json_of(&attempt.config_map, json!({"metadata": {"uid": "c"}}));
    server
        .refuse(
            &format!("POST {CONFIG_MAPS}"),
            409,
            "AlreadyExists",
            "it already exists",
        )
        .on(&format!("PATCH {CONFIG_MAPS}/{name}"), mine)
        .on(
            &format!("POST {SECRETS}"),
            json_of(attempt.secret.as_ref().unwrap(), json!({})),
        )
        .refuse(
            &format!("POST {JOBS}"),
            409,
            "AlreadyExists",
            "it already exists",
        );
    cluster.start(&attempt, "token").await.unwrap();
    let asked = server.asked();
    assert_eq!(asked.len(), 4);
    // A patch that changes nothing: there is no right to read any.
    assert_eq!(asked[1].body, json!({}));
    let owner = &asked[2].body["metadata"]["ownerReferences"][0];
    assert_eq!(
        (&owner["kind"], &owner["uid"]),
        (&json!("ConfigMap"), &json!("c"))
    );
}

#[tokio::test(start_paused = true)]
async fn a_config_map_of_somebody_else_ends_the_start_of_an_attempt() {
    let (cluster, server) = Server::cluster();
    let attempt = attempt();
    let name = attempt.config_map.name_any();
    let other = json_of(
        &attempt.config_map,
        json!({"metadata": {"uid": "c", "ownerReferences": null}}),
    );
    server
        .refuse(
            &format!("POST {CONFIG_MAPS}"),
            409,
            "AlreadyExists",
            "it already exists",
        )
        .on(&format!("PATCH {CONFIG_MAPS}/{name}"), other);
    let error = cluster.start(&attempt, "token").await.unwrap_err();
    assert!(
        error.to_string().contains(&name) && error.is_answer(),
        "{error}"
    );
    assert_eq!(server.asked().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_authority_of_the_replica_that_was_quicker_is_the_one() {
    let (cluster, server) = Server::cluster();
    let quicker = pki::Authority::make().unwrap();
    let data = quicker.files().into_iter().map(|(name, text)| {
        let text = k8s_openapi::ByteString(text.into_bytes());
        (name.to_owned(), serde_json::to_value(text).unwrap())
    });
    let data: serde_json::Map<String, Value> = data.collect();
    let secret =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "ca"}, "data": data});
    let one = format!("GET {SECRETS}/ca");
    server
        .refuse(&one, 404, "NotFound", "secrets \"ca\" not found")
        .refuse(
            &format!("POST {SECRETS}"),
            409,
            "AlreadyExists",
            "secrets \"ca\" already exists",
        )
        .on(&one, secret);
    let authority = cluster.authority("team", "ca").await.unwrap();
    assert_eq!(authority.fingerprint(), quicker.fingerprint());
    server.asked();
}

#[tokio::test(start_paused = true)]
async fn a_builder_that_has_changed_meanwhile_is_not_claimed() {
    let (cluster, server) = Server::cluster();
    let status = format!("PATCH {BUILDERS}/default/status");
    let mut builder = fixtures::builder();
    builder.metadata.resource_version = Some("7".into());
    for (code, reason, message) in [
        (409, "Conflict", CONFLICT),
        (
            422,
            "Invalid",
            "testing value /metadata/resourceVersion failed: test failed",
        ),
        (404, "NotFound", "builders \"default\" not found"),
    ] {
        server.refuse(&status, code, reason, message);
        assert_eq!(
            cluster.claim_builder(&builder, "a/w").await.unwrap(),
            None,
            "{code}"
        );
        let asked = server.asked();
        let test = json!({"op": "test", "path": "/metadata/resourceVersion", "value": "7"});
        assert_eq!(asked[0].body[0], test);
    }
    server.refuse(&status, 403, "Forbidden", "builders/status is forbidden");
    assert!(cluster.claim_builder(&builder, "a/w").await.is_err());
    // Nobody was quicker: it would be refused again, at once and without a word.
    server.invalid(&status, "status.state", "unsupported value: null");
    assert!(cluster.claim_builder(&builder, "a/w").await.is_err());
    server.on(
        &status,
        json_of(&builder, json!({"status": {"installation": "a/w"}})),
    );
    let claimed = cluster
        .claim_builder(&builder, "a/w")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(claimed.status.unwrap().installation.as_deref(), Some("a/w"));
    server.asked();
}

#[tokio::test(start_paused = true)]
async fn a_condition_is_not_written_over_a_change_of_somebody_else() {
    let (cluster, server) = Server::cluster();
    let mut build = fixtures::inline();
    build.metadata.resource_version = Some("7".into());
    build.status = Some(Default::default());
    server
        .on(&format!("GET {BUILDS}/hello"), json_of(&build, json!({})))
        .refuse(
            &format!("PATCH {BUILDS}/hello/status"),
            409,
            "Conflict",
            CONFLICT,
        );
    let wanted = (
        "True".into(),
        whittle_api::Reason::Compatible,
        "it is".into(),
    );
    let error = cluster
        .write_condition("team", "hello", "ProbesCompatible", Some(&wanted))
        .await;
    let error = error.unwrap_err();
    // Others go on, and this one comes again; nobody is told.
    assert!(error.is_answer());
    assert_eq!(error.refusal(), None);
    let asked = server.asked();
    assert_eq!(asked[1].body[0]["value"], "7");
    assert_eq!(asked[1].body[1]["path"], "/status/conditions");
}

#[tokio::test(start_paused = true)]
async fn progress_of_an_attempt_that_is_over_is_dropped() {
    let (cluster, server) = Server::cluster();
    let speaker = Speaker {
        namespace: "team".into(),
        uid: "u".into(),
        job: "j".into(),
    };
    let status = format!("PATCH {BUILDS}/hello/status");
    server.refuse(
        &status,
        422,
        "Invalid",
        "testing value /status/current/job failed: test failed",
    );
    cluster
        .write_progress(&speaker, "hello", ("step 1", "1/2"))
        .await
        .unwrap();
    server.refuse(&status, 500, "InternalError", "etcd is away");
    assert!(
        cluster
            .write_progress(&speaker, "hello", ("step 1", "1/2"))
            .await
            .is_err()
    );
    server.asked();
}

#[tokio::test(start_paused = true)]
async fn a_status_that_is_refused_is_known_for_one() {
    let (cluster, server) = Server::cluster();
    let status = format!("PATCH {BUILDERS}/default/status");
    server.refuse(
        &status,
        422,
        "Invalid",
        "Builder \"default\" is invalid: status.conditions: too long",
    );
    let wanted = BuilderStatus {
        installation: Some("a/w".into()),
        ..BuilderStatus::default()
    };
    let builder = fixtures::builder();
    let error = cluster
        .write_builder_status(&builder, &wanted)
        .await
        .unwrap_err();
    let refusal = error.refusal().unwrap();
    assert!(refusal.is_of_status() && !refusal.is_final());
    assert_eq!(refusal.why, Why::Invalid);
    // With the UID, so that one of the same name that was made since is left alone.
    let asked = server.asked();
    assert_eq!(asked[0].body["metadata"]["uid"], builder.uid().unwrap());
    // What stands already is not written.
    let standing = whittle_api::Builder {
        status: Some(wanted.clone()),
        ..builder
    };
    cluster
        .write_builder_status(&standing, &wanted)
        .await
        .unwrap();
    assert!(server.asked().is_empty());
}

fn job(name: &str, owner: &str) -> Value {
    json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name, "namespace": "team",
        "ownerReferences": [{"apiVersion": "whittle.dev/v1alpha1", "kind": "ImageBuild", "name": owner, "uid": owner}]},
        "spec": {}, "status": {"active": 1}})
}

/// Jobs that have not succeeded, as they are kept: a few at a time, for each may be large.
async fn jobs(cluster: &Cluster) -> Result<Vec<Job>, Error> {
    let params = ListParams::default().fields("status.successful=0");
    let listed = briefly(&cluster.client, "team", params, 100, |_| false);
    listed.await.map_err(during("listing the Jobs of team"))
}

#[tokio::test(start_paused = true)]
async fn a_list_goes_on_page_by_page_to_its_end() {
    let (cluster, server) = Server::cluster();
    server
        .on(
            &format!("GET {JOBS}?limit=8"),
            page(&[job("a", "one")], Some("two")),
        )
        .on(
            &format!("GET {JOBS}?continue=two"),
            page(&[job("b", "two")], Some("three")),
        )
        .on(
            &format!("GET {JOBS}?continue=three"),
            page(&[job("c", "three")], None),
        );
    assert_eq!(jobs(&cluster).await.unwrap().len(), 3);
    let asked = server.asked();
    let limits: Vec<bool> = asked
        .iter()
        .filter(|asked| asked.what.ends_with("jobs"))
        .map(|asked| asked.query.contains("limit=32"))
        .collect();
    // Ordinary ones may be more of a page; the first may be anything.
    assert_eq!(limits, [false, true, true]);
    assert!(
        asked[0]
            .query
            .contains("fieldSelector=status.successful%3D0")
    );
}

#[tokio::test(start_paused = true)]
async fn after_a_page_of_large_objects_comes_a_small_one() {
    let (cluster, server) = Server::cluster();
    let mut large = job("a", "one");
    large["metadata"]["annotations"] = json!({"a": "x".repeat(100_000)});
    server
        .on(&format!("GET {JOBS}?limit=8"), page(&[large], Some("two")))
        .on(&format!("GET {JOBS}?limit=8&continue=two"), page(&[], None));
    assert_eq!(jobs(&cluster).await.unwrap().len(), 1);
    server.asked();
}

#[tokio::test(start_paused = true)]
async fn a_list_whose_token_has_expired_is_an_error_and_no_short_list() {
    let (cluster, server) = Server::cluster();
    let expired = "The provided continue parameter is too old to display a consistent list result";
    server
        .on(
            &format!("GET {JOBS}?limit=8"),
            page(&[job("a", "one")], Some("two")),
        )
        .refuse(&format!("GET {JOBS}?continue=two"), 410, "Expired", expired);
    let error = jobs(&cluster).await.unwrap_err();
    // It is tried again; there is nobody to tell.
    assert_eq!(error.refusal(), None);
    assert!(
        error.to_string().starts_with("listing the Jobs of team"),
        "{error}"
    );
    server.asked();
}

#[tokio::test(start_paused = true)]
async fn nothing_is_listed_beyond_what_is_enough() {
    let (cluster, server) = Server::cluster();
    let attempt = attempt();
    let uid = fixtures::inline().uid().unwrap();
    let name = attempt.job.name_any();
    let mut build = fixtures::inline();
    build.status =
        serde_json::from_value(json!({"current": {"attempt": 1, "job": name, "generation": 1}}))
            .unwrap();
    let job = json_of(&attempt.job, json!({"metadata": {"uid": "j"}}));
    let pod = json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": format!("{name}-x"), "namespace": "team", "ownerReferences": [
            {"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": "j", "controller": true}]},
        "spec": attempt.job.spec.as_ref().unwrap().template.spec, "status": {"phase": "Running"}});
    server
        .on(&format!("GET {BUILDS}/hello"), json_of(&build, json!({})))
        .on(&format!("GET {JOBS}/{name}"), job)
        .on(&format!("GET {PODS}"), page(&[pod], Some("two")));
    let speaker = Speaker {
        namespace: "team".into(),
        uid,
        job: name,
    };
    let objection = cluster.objection(&speaker, "hello").await.unwrap();
    assert_eq!(objection, None);
    assert_eq!(server.asked().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn deleting_what_is_gone_already_is_no_error() {
    let (cluster, server) = Server::cluster();
    server
        .refuse(
            &format!("DELETE {JOBS}/a"),
            404,
            "NotFound",
            "jobs \"a\" not found",
        )
        .refuse(
            &format!("DELETE {CONFIG_MAPS}/a"),
            404,
            "NotFound",
            "configmaps \"a\" not found",
        );
    cluster.stop("team", "a").await.unwrap();
    assert_eq!(
        what(&server.asked()),
        [
            format!("DELETE {JOBS}/a"),
            format!("DELETE {CONFIG_MAPS}/a")
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_report_is_taken_from_the_attempt_that_runs_alone() {
    let attempt = attempt();
    let (uid, name) = (fixtures::inline().uid().unwrap(), attempt.job.name_any());
    let build = |job: &str| {
        let current = json!({"attempt": 1, "job": job, "generation": 1});
        json_of(&fixtures::inline(), json!({"status": {"current": current}}))
    };
    let job = json_of(&attempt.job, json!({"metadata": {"uid": "j"}}));
    let leaving = json!({"metadata": {"uid": "j", "deletionTimestamp": "2026-01-01T00:00:00Z"}});
    let leaving = json_of(&attempt.job, leaving);
    let speaker = Speaker {
        namespace: "team".into(),
        uid,
        job: name.clone(),
    };
    for (build, job, expected) in [
        (None, Some(&job), "ImageBuild not found"),
        (
            Some(build("another")),
            Some(&job),
            "not the attempt that is running",
        ),
        (Some(build(&name)), None, "the attempt's Pod is not running"),
        (
            Some(build(&name)),
            Some(&job),
            "the attempt's Pod is not running",
        ),
        (
            Some(build(&name)),
            Some(&leaving),
            "the attempt's Pod is not running",
        ),
    ] {
        let (cluster, server) = Server::cluster();
        let (of_build, of_job) = (format!("GET {BUILDS}/hello"), format!("GET {JOBS}/{name}"));
        match build {
            Some(build) => server.on(&of_build, build),
            None => server.refuse(&of_build, 404, "NotFound", "it is gone"),
        };
        match job {
            Some(job) => {
                server.on(&of_job, job.clone());
                server.on(&format!("GET {PODS}"), page(&[], None))
            }
            None => server.refuse(&of_job, 404, "NotFound", "it is gone"),
        };
        let objection = cluster.objection(&speaker, "hello").await.unwrap();
        assert_eq!(objection, Some(expected));
        server.asked();
    }
}
