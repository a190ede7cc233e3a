//! A round of the guard against what the API server may answer.

use serde_json::{Value, json};

use super::decide::Round;
use super::*;
use crate::cluster::scripted::{Asked, Server, page};
use crate::scripted::context;
use crate::workloads::{Change, Found};
use kube::runtime::watcher::Event;
use std::time::Duration;
use whittle_api::Reason;
use whittle_probe::{Audit, NotKnown};

const PROFILES: &str = "/apis/whittle.dev/v1alpha1/probeprofiles";
const BUILDS: &str = "/apis/whittle.dev/v1alpha1/namespaces/team/imagebuilds";
const CONFLICT: &str = "Operation cannot be fulfilled on it: the object has been modified";
const DONE: Round = Round {
    more: false,
    refused: false,
};
const REFUSED: Round = Round {
    refused: true,
    ..DONE
};

/// One image that the guard knows, and one that it does not, which nobody has been told.
fn state() -> State {
    let mut state = State::default();
    state.taken.images = fixtures::images(&["team/known", "team/other"]);
    let other = state.taken.images.get_mut("team/other").unwrap();
    other.known = Some(Err(NotKnown {
        reason: Reason::NotRead,
        message: "no report".into(),
    }));
    state
}

fn name() -> String {
    let installation = crate::fixtures::settings().probe_guard.name;
    format!("{installation}-0")
}

fn profile(version: &str) -> Value {
    json!({"apiVersion": "whittle.dev/v1alpha1", "kind": "ProbeProfile",
        "metadata": {"name": name(), "resourceVersion": version}, "spec": {}})
}

/// What stands, as often as it is listed: with the installation's name, and without.
fn stand(server: &Server, times: usize, profiles: &[Value]) {
    for _ in 0..times {
        server.on(
            &format!("GET {PROFILES}?%2Cwhittle.dev%2Finstallation%3D"),
            page(profiles, None),
        );
    }
    server.on(
        &format!("GET {PROFILES}?%2C%21whittle.dev%2Finstallation"),
        page(&[], None),
    );
}

/// The ImageBuild that the guard does not know is read, to be told so.
fn other_is_read(server: &Server) {
    let build = fixtures::build("team/other", "sha256:aa", json!({}));
    server.on(
        &format!("GET {BUILDS}/other"),
        serde_json::to_value(build).unwrap(),
    );
}

fn told() -> String {
    format!("PATCH {BUILDS}/other/status")
}

fn written(server: &Server) -> Vec<Asked> {
    let mut asked = server.asked();
    asked.retain(|asked| !asked.what.starts_with("GET "));
    asked
}

fn what(asked: &[Asked]) -> Vec<&str> {
    asked.iter().map(|asked| asked.what.as_str()).collect()
}

fn a_condition_is_taken(server: &Server) {
    let other = fixtures::build("team/other", "sha256:aa", json!({}));
    server.on(&told(), json!(other));
}

async fn the_next_round_writes_only_the_condition(
    context: &Context,
    state: &mut State,
    server: &Server,
) {
    server.asked();
    stand(server, 1, &[profile("9")]);
    other_is_read(server);
    a_condition_is_taken(server);
    assert_eq!(write(context, state).await.unwrap(), DONE);
    assert_eq!(what(&written(server)), [told()]);
}

#[tokio::test(start_paused = true)]
async fn a_profile_that_conflicts_keeps_no_condition_from_being_written_and_comes_again() {
    let (context, server) = context(&[]);
    let mut state = state();
    let create = format!("POST {PROFILES}");
    // The first look is at what an earlier process has left.
    stand(&server, 2, &[]);
    server.refuse(&create, 409, "AlreadyExists", "it exists");
    other_is_read(&server);
    a_condition_is_taken(&server);
    assert_eq!(write(&context, &mut state).await.unwrap(), REFUSED);
    let asked = written(&server);
    assert_eq!(what(&asked), [create.as_str(), told().as_str()]);
    assert_eq!(asked[1].body[1]["value"][0]["reason"], "NotRead");
    assert!(context.metrics.text().contains("images_not_known 1"));

    // It stands after all: it is replaced, as long as it is still the one that was listed.
    stand(&server, 1, &[profile("9")]);
    let replace = format!("PUT {PROFILES}/{}", name());
    server.on(&replace, profile("10"));
    assert_eq!(write(&context, &mut state).await.unwrap(), DONE);
    let asked = written(&server);
    assert_eq!(what(&asked), [replace.as_str()]);
    assert_eq!(asked[0].body["metadata"]["resourceVersion"], "9");

    // All stands as it should.
    stand(&server, 1, &[profile("10")]);
    assert_eq!(write(&context, &mut state).await.unwrap(), DONE);
    assert!(written(&server).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_condition_that_conflicts_is_written_in_the_next_round() {
    let (context, server) = context(&[]);
    let mut state = state();
    stand(&server, 2, &[]);
    server.on(&format!("POST {PROFILES}"), profile("9"));
    other_is_read(&server);
    server.refuse(&told(), 409, "Conflict", CONFLICT);
    assert_eq!(write(&context, &mut state).await.unwrap(), REFUSED);
    the_next_round_writes_only_the_condition(&context, &mut state, &server).await;
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_fails_ends_the_round_and_what_was_written_stays_known() {
    let (context, server) = context(&[]);
    let mut state = state();
    stand(&server, 2, &[]);
    server.on(&format!("POST {PROFILES}"), profile("9"));
    other_is_read(&server);
    // No answer of an API server, but of what stands before it.
    server.on(&told(), json!("bad gateway"));
    let round = write(&context, &mut state).await;
    assert_eq!(came_to(round, "cannot write ProbeProfiles"), REFUSED);
    the_next_round_writes_only_the_condition(&context, &mut state, &server).await;
}

#[tokio::test(start_paused = true)]
async fn profiles_of_an_earlier_process_without_an_image_are_deleted_even_where_they_go_already() {
    let (context, server) = context(&[]);
    let mut state = State::default();
    let (name, one) = (name(), profile("3"));
    stand(&server, 2, std::slice::from_ref(&one));
    server.on(&format!("GET {PROFILES}/{name}"), one);
    let delete = format!("DELETE {PROFILES}/{name}");
    server.refuse(&delete, 404, "NotFound", "it is gone");
    assert_eq!(write(&context, &mut state).await.unwrap(), DONE);
    assert_eq!(what(&written(&server)), [delete]);
}

#[tokio::test(start_paused = true)]
async fn an_image_build_that_is_gone_when_it_is_to_be_judged_is_let_alone() {
    let (context, server) = context(&[]);
    let mut state = state();
    state.taken.images.remove("team/known");
    let other = state.taken.images.get_mut("team/other").unwrap();
    (other.known, other.judged) = (None, false);
    stand(&server, 2, &[]);
    server.refuse(
        &format!("GET {BUILDS}/other"),
        404,
        "NotFound",
        "it is gone",
    );
    assert_eq!(write(&context, &mut state).await.unwrap(), DONE);
    assert!(written(&server).is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_audit_of_nothing_asks_nobody() {
    let (context, server) = context(&[]);
    let mut state = state();
    assert_eq!(audit(&context, &mut state).await.unwrap(), DONE);
    assert!(server.asked().is_empty());
    let audited = |key: &str| state.taken.images[key].audited.is_some();
    assert!(audited("team/known") && audited("team/other"));
}

#[tokio::test(start_paused = true)]
async fn a_workload_is_told_once_though_the_condition_conflicts_and_comes_again() {
    let (context, server) = context(&[]);
    let mut state = state();
    state.taken.images.remove("team/other");
    let image = "r.example.com/team/known:1";
    let found = Found::deployment("team", "app", &[image]);
    state.workloads.take(Change::Is(found));
    let speakers = [(image.to_owned(), "team", "team/known")];
    state.written.speakers = Arc::new(speakers.into_iter().collect());
    // Audited as it is: nothing is left but to say so.
    let (images, speakers) = (&state.taken.images, &state.written.speakers);
    let users = audits::Users::of(&state.workloads, speakers);
    let (_, looked_at) = audits::due(images, &users, speakers, "").remove(0);
    let broken = ("Deployment team/app".into(), "its probe cannot work".into());
    let result = Audit {
        workloads: 1,
        broken: vec![broken],
    };
    state.taken.images.get_mut("team/known").unwrap().audited = Some((looked_at, result));

    let events = "POST /apis/events.k8s.io/v1/namespaces/team/events";
    let event = json!({"apiVersion": "events.k8s.io/v1", "kind": "Event",
        "metadata": {"name": "a", "namespace": "team"}, "eventTime": null});
    let build = json!(fixtures::build("team/known", "sha256:aa", json!({})));
    let (read, status) = (
        format!("GET {BUILDS}/known"),
        format!("PATCH {BUILDS}/known/status"),
    );
    server
        .on(events, event)
        .on(&read, build.clone())
        .refuse(&status, 409, "Conflict", CONFLICT);
    assert_eq!(audit(&context, &mut state).await.unwrap(), REFUSED);
    let asked = written(&server);
    assert_eq!(what(&asked), [events, &status]);
    assert_eq!(asked[0].body["note"], "its probe cannot work");
    server.on(&read, build.clone()).on(&status, build);
    assert_eq!(audit(&context, &mut state).await.unwrap(), DONE);
    assert_eq!(what(&written(&server)), [status]);
    assert_eq!(audit(&context, &mut state).await.unwrap(), DONE);
    assert!(server.asked().is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_loop_writes_once_all_is_listed_gathers_what_changes_and_goes_on_after_a_refusal() {
    let (context, server) = context(&[]);
    for kind in [
        "apps/v1/deployments",
        "apps/v1/statefulsets",
        "apps/v1/daemonsets",
        "apps/v1/replicasets",
        "batch/v1/cronjobs",
        "batch/v1/jobs",
    ] {
        server
            .on(&format!("GET /apis/{kind}?limit="), page(&[], None))
            .hang(&format!("GET /apis/{kind}?watch=true"));
    }
    server
        .on("GET /api/v1/pods?limit=", page(&[], None))
        .hang("GET /api/v1/pods?watch=true");
    let context = Arc::new(context);
    let build = |digest| fixtures::build("team/app", digest, json!({}));
    let read = format!("GET {BUILDS}/app");
    let status = format!("PATCH {BUILDS}/app/status");
    let story = async {
        let put = |event| context.images.put(&event);
        put(Event::Init);
        put(Event::InitApply(build("sha256:aa")));
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert!(written(&server).is_empty());

        // Its report is read, and it is told that there is none.
        stand(&server, 2, &[]);
        for _ in 0..2 {
            server.on(&read, json!(build("sha256:aa")));
        }
        server.refuse(&status, 409, "Conflict", CONFLICT);
        put(Event::InitDone);
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(what(&written(&server)), [status.as_str()]);

        // Two changes in one round; the condition comes along.
        stand(&server, 1, &[]);
        for _ in 0..2 {
            server.on(&read, json!(build("sha256:cc")));
        }
        server.on(&status, json!(build("sha256:cc")));
        put(Event::Apply(build("sha256:bb")));
        tokio::time::sleep(Duration::from_secs(1)).await;
        put(Event::Apply(build("sha256:cc")));
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(what(&written(&server)), [status.as_str()]);
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert!(written(&server).is_empty());
    };
    run(context.clone(), story).await;
}
