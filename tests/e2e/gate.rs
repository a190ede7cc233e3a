//! An image shows that it works, before any tag points to it.

use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use whittle_api::FailureReason::HealthCheckFailed;
use whittle_api::{ImageBuild, ProbeProfile, find};

use crate::field::Field;
use crate::registry::{find_manifest, manifest};

/// A server that takes a moment to come up: `/healthz` is there, everything else is not.
fn server(command: &str) -> Value {
    // The same files for every platform: nothing runs while the image is made.
    let dockerfile = format!(
        "FROM --platform=$BUILDPLATFORM busybox:1.36 AS files\nFROM scratch\nCOPY --from=files / /\nWORKDIR /www\nCOPY healthz .\nUSER nobody\nENTRYPOINT [\"sh\", \"-c\", \"{command}\", \"sh\"]\n"
    );
    json!({"Dockerfile": dockerfile, "healthz": "well"})
}

const SERVES: &str = "echo starting; sleep 3; exec httpd -f -p 8080";

fn check(healthz: &str) -> Value {
    json!({"healthCheck": {"httpGet": {"path": healthz, "port": 8080}, "timeoutSeconds": 12}})
}

async fn tag_exists(image: &str) -> bool {
    find_manifest(image, "latest").await.is_some()
}

/// No Pod of a check is left.
async fn gone(field: &Field) {
    let checks = ListParams::default().labels("whittle.dev/component=gate");
    field
        .until("the Pods of the check are gone", async || {
            let pods = field.api::<Pod>().list(&checks).await.unwrap();
            pods.items.is_empty().then_some(())
        })
        .await;
}

#[tokio::test]
async fn tags_move_once_the_image_answers_and_platforms_without_a_node_are_said() {
    let field = Field::new("gate").await;
    let mut spec = check("/healthz");
    spec["platforms"] = json!(["linux/amd64", "linux/arm64"]);
    spec["contract"] = json!({"warn": ["RunnableEntrypoint", "PlatformMatches"]});
    field.build("hello", server(SERVES), spec).await;
    let image = field.image("hello");
    let early = field
        .until("the image is pushed, and its check runs", async || {
            let status = field
                .api::<ImageBuild>()
                .get("hello")
                .await
                .unwrap()
                .status?;
            let ready = find(&status.conditions, "Ready")?;
            let runs = ready.message.contains("running, not Ready yet");
            runs.then_some(status)
        })
        .await;
    assert_eq!(early.digest, None);
    assert!(!tag_exists(&image).await, "a tag moved before the check");
    let status = field.succeeds("hello").await;
    assert_eq!(
        manifest(&image, "latest").await.0,
        status.digest.clone().unwrap()
    );
    let probed = find(&status.conditions, "Probed").unwrap();
    assert_eq!(
        (probed.status.as_str(), probed.reason.as_str()),
        ("True", "Answered")
    );
    assert!(
        probed.message.contains("linux/amd64 was Ready after")
            && probed
                .message
                .contains("linux/arm64 was not run: the cluster has no node"),
        "{probed:#?}"
    );
    assert_eq!(status.platforms.len(), 2);
    gone(&field).await;

    // The next one does not answer: its tag stays where it was.
    field
        .build("hello", server(SERVES), check("/missing"))
        .await;
    let failure = field.fails_again("hello", 2, HealthCheckFailed).await;
    assert!(
        failure.message.contains("timed out: not Ready within 12 s")
            && failure
                .message
                .contains("HTTP probe failed with statuscode: 404"),
        "{failure:#?}"
    );
    assert!(failure.log.unwrap().contains("starting"));
    assert_eq!(manifest(&image, "latest").await.0, status.digest.unwrap());
    gone(&field).await;
    field.close().await;
}

#[tokio::test]
async fn an_image_that_does_not_work_says_how() {
    let field = Field::new("gate-fails").await;
    let ends = server("echo boom; exit $CODE");
    let mut spec = check("/healthz");
    spec["healthCheck"]["env"] = json!([{"name": "CODE", "value": "3"}]);
    field.build("ends", ends, spec).await;
    let root = json!({"Dockerfile": "FROM busybox:1.36\nCMD [\"httpd\", \"-f\"]\n"});
    field.build("root", root, check("/")).await;
    let exec = json!({"healthCheck": {"exec": {"command": ["/bin/curl", "localhost"]}, "timeoutSeconds": 4}});
    field.build("exec", server(SERVES), exec).await;
    let args = json!({"healthCheck": {"tcpSocket": {"port": 9999}, "args": ["-p", "9999"], "timeoutSeconds": 20}});
    field
        .build("args", server("exec httpd -f $@"), {
            let mut spec = args;
            spec["output"] = json!({"tags": ["one", "two"]});
            spec
        })
        .await;
    for (name, words, log) in [
        (
            "ends",
            "exited with code 3 before it was Ready",
            Some("boom"),
        ),
        ("root", "write USER 65532:65532 into the Dockerfile", None),
        ("exec", "/bin/curl", Some("starting")),
    ] {
        let failure = field.fails_again(name, 1, HealthCheckFailed).await;
        assert!(failure.message.contains(words), "{name}: {failure:#?}");
        if let Some(log) = log {
            assert!(
                failure.log.as_deref().unwrap_or_default().contains(log),
                "{name}: {failure:#?}"
            );
        }
        assert!(!tag_exists(&field.image(name)).await, "{name}");
    }
    let status = field.succeeds("args").await;
    for tag in ["one", "two"] {
        assert_eq!(
            Some(manifest(&field.image("args"), tag).await.0),
            status.digest
        );
    }
    gone(&field).await;
    field.close().await;
}

#[tokio::test]
async fn a_program_that_ends_is_held_to_its_exit_code_and_output_and_root_is_root_where_that_is_asked()
 {
    let field = Field::new("gate-run").await;
    let tool = || server("echo version 1.2; exit 3");
    let run = |run: Value| json!({"healthCheck": {"run": run, "timeoutSeconds": 20}});
    field
        .build(
            "tool",
            tool(),
            run(json!({"exitCode": 3, "stdout": "version 1.2"})),
        )
        .await;
    field.build("code", tool(), run(json!({}))).await;
    field
        .build(
            "text",
            tool(),
            run(json!({"exitCode": 3, "stdout": "version 2"})),
        )
        .await;
    field.build("stays", server(SERVES), run(json!({}))).await;
    let root = || json!({"Dockerfile": "FROM busybox:1.36\nCMD [\"sh\", \"-c\", \"test $(id -u) = 0 && chown 1 /bin && exec httpd -f -p 8080\"]\n"});
    let mut spec = json!({"healthCheck": {"tcpSocket": {"port": 8080}, "timeoutSeconds": 20}});
    field.build("other", root(), spec.clone()).await;
    spec["healthCheck"]["runAs"] = json!("Image");
    field.build("root", root(), spec).await;
    let status = field.succeeds("tool").await;
    let probed = find(&status.conditions, "Probed").unwrap();
    let words = "linux/amd64 ended as it had to after";
    assert!(probed.message.contains(words), "{probed:#?}");
    for (name, words) in [
        ("code", "ended with exit code 3, and has to end with 0"),
        ("text", "what it printed has no \"version 2\""),
        ("stays", "timed out: not ended within 20 s"),
        ("other", "it was run as user 65532"),
    ] {
        let failure = field.fails_again(name, 1, HealthCheckFailed).await;
        assert!(failure.message.contains(words), "{name}: {failure:#?}");
        assert!(!tag_exists(&field.image(name)).await, "{name}");
    }
    field.succeeds("root").await;
    gone(&field).await;
    field.close().await;
}

/// The program of the pairs, which is a server of `grpc.health.v1.Health` on port 9090.
fn grpc_server() -> Value {
    json!({
        "Dockerfile": "FROM golang:1.26 AS build\nWORKDIR /src\nCOPY app.go .\nRUN CGO_ENABLED=0 go build -o /app app.go\n\
            FROM scratch\nCOPY --from=build /app /app\nUSER 65532:65532\nENTRYPOINT [\"/app\"]\n",
        "app.go": include_str!("pairs/sources/app.go"),
    })
}

#[tokio::test]
async fn a_grpc_check_asks_for_its_service() {
    let field = Field::new("gate-grpc").await;
    let services = ["open", "closed", "unheard"];
    for service in services {
        let check = json!({"grpc": {"port": 9090, "service": service}, "timeoutSeconds": 10});
        let spec = json!({"healthCheck": check});
        field.build(service, grpc_server(), spec).await;
    }
    let status = field.succeeds("open").await;
    let tagged = manifest(&field.image("open"), "latest").await.0;
    assert_eq!(Some(tagged), status.digest);
    for (service, words) in [("closed", "NOT_SERVING"), ("unheard", "NotFound")] {
        let failure = field.fails_again(service, 1, HealthCheckFailed).await;
        assert!(failure.message.contains(words), "{service}: {failure:#?}");
        assert!(!tag_exists(&field.image(service)).await, "{service}");
    }
    gone(&field).await;
    field.close().await;
}

#[tokio::test]
async fn a_check_ends_with_the_build_that_it_belongs_to() {
    let field = Field::new("gate-ends").await;
    let never =
        json!({"healthCheck": {"httpGet": {"path": "/", "port": 1}, "timeoutSeconds": 600}});
    field.build("hello", server(SERVES), never.clone()).await;
    let checks = ListParams::default().labels("whittle.dev/component=gate");
    let running = async |unlike: Option<String>| {
        field
            .until("a Pod of a check runs", async || {
                let pods = field.api::<Pod>().list(&checks).await.unwrap().items;
                let pod = pods.into_iter().find(|pod| {
                    let phase = pod
                        .status
                        .as_ref()
                        .and_then(|status| status.phase.as_deref());
                    phase == Some("Running") && pod.metadata.uid != unlike
                })?;
                pod.metadata.uid
            })
            .await
    };
    let first = running(None).await;
    // Another spec: the check of the one before is of no use any more.
    field
        .build(
            "hello",
            server(&SERVES.replace("sleep 3", "sleep 1")),
            never,
        )
        .await;
    running(Some(first.clone())).await;
    field
        .until("the first Pod is gone", async || {
            let pods = field.api::<Pod>().list(&checks).await.unwrap().items;
            pods.iter()
                .all(|pod| pod.metadata.uid.as_ref() != Some(&first))
                .then_some(())
        })
        .await;
    field
        .api::<ImageBuild>()
        .delete("hello", &Default::default())
        .await
        .unwrap();
    gone(&field).await;
    field.close().await;
}

#[tokio::test]
async fn the_guard_knows_the_programs_of_a_whole_distribution_that_was_checked() {
    let field = Field::new("gate-knows").await;
    // Hundreds of programs: the termination message has no room for them, and the check comes between it and the result.
    let dockerfile = "FROM debian:12-slim\nUSER 65534\nCMD [\"sleep\", \"600\"]\n";
    let check = json!({"healthCheck": {"exec": {"command": ["/bin/true"]}, "timeoutSeconds": 60}});
    field
        .build("hello", json!({"Dockerfile": dockerfile}), check)
        .await;
    let status = field.succeeds("hello").await;
    assert!(
        status.platforms[0]
            .contents
            .as_ref()
            .unwrap()
            .programs
            .is_some()
    );
    let profiles = kube::Api::<ProbeProfile>::all(field.client.clone());
    let build = format!("{}/hello", field.namespace);
    let known = field
        .until("the guard knows the image", async || {
            let all = profiles.list(&ListParams::default()).await.unwrap();
            all.items.into_iter().find_map(|profile| {
                let spec = profile.spec;
                let image = spec
                    .images
                    .values()
                    .find(|image| image.image_build == build)?;
                let folders = image.folders.values();
                Some(folders.map(|id| spec.programs[id].len()).sum::<usize>())
            })
        })
        .await;
    assert!(known > 200, "{known} programs");
    let build = field.api::<ImageBuild>().get("hello").await.unwrap();
    let conditions = build.status.unwrap().conditions;
    assert!(
        find(&conditions, "ProbeProfile").is_none(),
        "{conditions:#?}"
    );

    // As if the runner's callback had been lost.
    let builds = field.api::<ImageBuild>();
    let mut lost = status.platforms.clone();
    lost[0].contents.as_mut().unwrap().programs = None;
    let uid = build.metadata.uid.unwrap();
    let job = whittle_controller::names::attempt("hello", &uid, 1, 1, 9);
    let fetch = json!({"digest": status.digest, "attempt": 1, "job": job});
    let status_of_then = Patch::Merge(json!({"status": {"platforms": lost, "fetch": fetch}}));
    let params = PatchParams::default();
    builds
        .patch_status("hello", &params, &status_of_then)
        .await
        .unwrap();
    // Nothing that builds again, and has the controller look.
    let look = Patch::Merge(json!({"spec": {"historyLimit": 4}}));
    builds.patch("hello", &params, &look).await.unwrap();
    let fetched = field
        .until("the programs are fetched", async || {
            let now = builds.get("hello").await.unwrap().status?;
            now.fetch.is_none().then_some(now)
        })
        .await;
    assert_eq!(fetched.platforms, status.platforms);
    assert_eq!(fetched.build, status.build);
    field.close().await;
}
