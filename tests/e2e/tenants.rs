//! What one tenant could do to another: each test is an attack, carried out with no more than the right to create
//! ImageBuilds.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{ListParams, PostParams};
use serde_json::json;
use whittle_api::{FailureReason, ImageBuild, IsolationMode, ProbeProfile, Sharing};

use crate::field::{Field, Repository, controllers, variable};
use crate::registry::files_of;

/// Stays behind in the background, and collects the secrets of other steps through `/proc`.
const SPY: &str = r#"#!/bin/sh
while true; do
  for f in /proc/[0-9]*/root/run/secrets/*; do
    [ -f "$f" ] && cat "$f" >> /found
  done
  usleep 50000
done
"#;

/// A RUN step leaves a process; it reads the secret of a later build, and serves it to a third one.
#[tokio::test]
async fn a_process_of_a_step_does_not_outlive_it() {
    let field = Field::new("leftover").await;
    field
        .isolated(IsolationMode::Rootless, Sharing::Namespace)
        .await;
    let run =
        "RUN (setsid sh /spy.sh >/dev/null 2>&1 </dev/null &) ; sleep 1; ps | grep -c '[s]py.sh'";
    let files = json!({"Dockerfile": format!("FROM busybox:1.36\nCOPY spy.sh /spy.sh\n{run}\n"), "spy.sh": SPY});
    field.build("leftover", files, json!({})).await;
    field.succeeds("leftover").await;
    let files = json!({"Dockerfile": "FROM busybox:1.36\nRUN ps -o pid,args; ps | grep '[s]py.sh' && exit 9; false\n"});
    field.build("collect", files, json!({})).await;
    let failure = field.fails("collect", FailureReason::StepFailed).await;
    let log = failure.log.unwrap_or_default();
    assert!(log.contains("buildkitd"), "it sees the daemon: {log}");
    assert!(!log.contains("spy.sh"), "{log}");
    assert!(
        failure.message.contains("exit code 1") || failure.message.contains("exit code: 1"),
        "{}",
        failure.message
    );
    field.close().await;
}

/// A RUN step ends, or stops, the program that looks after it: it runs as the same user.
#[tokio::test]
async fn what_a_hostile_step_leaves_is_ended_before_another_step_begins() {
    let field = Field::new("hostile").await;
    field
        .isolated(IsolationMode::Rootless, Sharing::Namespace)
        .await;
    // The parent of the step's shell is runc, and runc's is that program.
    for (name, signal, spec, reason) in [
        ("kills", "KILL", json!({}), FailureReason::StepFailed),
        (
            "stops",
            "STOP",
            json!({"timeout": "25s"}),
            FailureReason::Timeout,
        ),
    ] {
        let run = format!(
            "RUN (setsid sh /spy.sh {name} >/dev/null 2>&1 </dev/null &) ; sleep 1; kill -{signal} $(cut -d' ' -f4 /proc/$PPID/stat); sleep 2"
        );
        let files = json!({"Dockerfile": format!("FROM busybox:1.36\nCOPY spy.sh /spy.sh\n{run}\n"), "spy.sh": SPY});
        field.build(name, files, spec).await;
        field.ready(name, "False", reason.as_str()).await;
        let look =
            format!("RUN ps -o pid,args; ps | grep '[s]py.sh' && exit 9; echo {name}; false");
        let files = json!({"Dockerfile": format!("FROM busybox:1.36\n{look}\n")});
        let after = format!("after-{name}");
        field.build(&after, files, json!({})).await;
        let failure = field.fails(&after, FailureReason::StepFailed).await;
        let log = failure.log.unwrap_or_default();
        assert!(
            log.contains("buildkitd") && !log.contains("spy.sh"),
            "{log}"
        );
    }
    field.close().await;
}

/// A RUN step reads the arguments and variables of every process of its Pod, as far as it may, while another build fetches a private repository; the
/// other build's Dockerfile fetches from there as well.
#[tokio::test]
async fn credentials_for_git_are_in_no_argument_and_no_variable_that_a_step_can_read() {
    let field = Field::new("gitcred").await;
    field
        .isolated(IsolationMode::Rootless, Sharing::Namespace)
        .await;
    let repository = Repository::new(&format!("private/{}", field.namespace));
    // Large enough that fetching it takes a while.
    let mut state = 1_u64;
    let large: String = (0..12_000_000)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            char::from(b'!' + u8::try_from((state >> 33) % 90).unwrap_or(0))
        })
        .collect();
    let dockerfile = format!("FROM scratch\nADD {} /again\nCOPY a /a\n", repository.url);
    repository.commit(
        &[
            ("Dockerfile", dockerfile.as_str()),
            ("a", "b"),
            ("large", &large),
        ],
        "refs/heads/main",
    );
    let password = std::fs::read_to_string(variable("GIT_PASSWORD_FILE")).unwrap();
    let password = password.trim();
    field.create(json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "gitcred"}, "type": "kubernetes.io/basic-auth",
        "stringData": {"username": variable("GIT_USER"), "password": password}})).await;

    // The patterns do not match the listener's own arguments.
    let listen = "RUN for i in $(seq 400); do cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr '\\0' ' ' \
                  | grep -a -o 'git-remot[e].\\{0,80\\}\\|extraheade[r].\\{0,200\\}\\|Authorizatio[n].\\{0,80\\}' >> /seen; usleep 20000; done; \
                  sort -u /seen | tail -n 15; false";
    let files = json!({"Dockerfile": format!("FROM busybox:1.36\n{listen}\n")});
    field.build("listener", files, json!({})).await;
    field.step_runs("listener", "RUN").await;
    let source = json!({"git": {"url": repository.url, "secretRef": {"name": "gitcred"}}});
    field.apply("private", source, json!({})).await;
    let status = field.succeeds("private").await;
    let files = files_of(&field.image("private"), &status.digest.unwrap()).await;
    assert_eq!(
        (&files["a"][..], &files["again/a"][..]),
        (&b"b"[..], &b"b"[..])
    );

    let failure = field.fails("listener", FailureReason::StepFailed).await;
    let log = failure.log.unwrap_or_default();
    assert!(
        log.contains("git-remote"),
        "the listener saw git at work: {log}"
    );
    let header = STANDARD.encode(format!("{}:{password}", variable("GIT_USER")));
    for secret in [password, &header, "basic "] {
        assert!(!log.contains(secret), "{log}");
    }
    field.close().await;
}

/// The keys of runners and builders are Secrets of the namespace, too: a step that mounts one could speak for another
/// build.
#[tokio::test]
async fn a_spec_names_no_secret_of_whittles_own() {
    let field = Field::new("thief").await;
    let builds = field.api::<ImageBuild>();
    for name in [
        "whittle-builder-default-client",
        "whittle-attempt-0123",
        "whittle-ca",
    ] {
        let reference = json!({"name": name});
        for spec in [
            json!({"secrets": [{"id": "key", "secretRef": {"name": name, "key": "tls.key"}}]}),
            json!({"output": {"secretRef": reference}}),
            json!({"source": {"inline": null, "git": {"url": "https://git.example.com/x.git", "secretRef": reference}}}),
            json!({"source": {"inline": null, "oci": {"image": "r.example.com/x:1", "secretRef": reference}}}),
        ] {
            let mut object = json!({"apiVersion": "whittle.dev/v1alpha1", "kind": "ImageBuild", "metadata": {"name": "thief"},
                "spec": {"source": {"inline": {"files": {"Dockerfile": "FROM scratch\n"}}}, "output": {"image": field.image("thief")}}});
            json_patch::merge(&mut object["spec"], &spec);
            let object = serde_json::from_value(object).unwrap();
            let refused = builds.create(&PostParams::default(), &object).await;
            let refused = refused.unwrap_err().to_string();
            assert!(
                refused.contains("is not allowed") || refused.contains("Whittle"),
                "{spec}: {refused}"
            );
        }
    }
    field.close().await;
}

/// Links to the root double the names of every program with each of them.
#[tokio::test]
async fn an_image_full_of_links_is_nobody_elses_trouble() {
    let field = Field::new("links").await;
    let before = restarts(&field).await;
    let run = "RUN for i in $(seq 101); do ln -s / /l$i; done; for i in $(seq 60); do mkdir -p /d$i; ln -s /d$i /d$i/up; done";
    let files = json!({"Dockerfile": format!("FROM busybox:1.36\n{run}\n")});
    field.build("links", files, json!({})).await;
    field.succeeds("links").await;
    let files = json!({"Dockerfile": "FROM scratch\nCOPY a /a\n", "a": "b"});
    field.build("other", files, json!({})).await;
    field.succeeds("other").await;
    // The guard has judged the one, and goes on to the other.
    let profiles = Api::<ProbeProfile>::all(field.client.clone());
    let image = field.image("other");
    field
        .until("the guard knows the other image", async || {
            let all = profiles.list(&ListParams::default()).await.unwrap();
            let mut references = all
                .iter()
                .flat_map(|profile| profile.spec.references.keys());
            references
                .any(|name| name.starts_with(&image))
                .then_some(())
        })
        .await;
    assert_eq!(restarts(&field).await, before);
    field.close().await;
}

/// How often the controller's container was started anew.
async fn restarts(field: &Field) -> i32 {
    let pods = Api::<Pod>::namespaced(field.client.clone(), "whittle-system");
    let pods = pods.list(&controllers()).await.unwrap();
    let statuses = pods
        .into_iter()
        .filter_map(|pod| pod.status?.container_statuses);
    statuses.flatten().map(|status| status.restart_count).sum()
}
