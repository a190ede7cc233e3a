//! Faults of the platform, made for real.

use k8s_openapi::api::core::v1::Pod;
use kube::api::DeleteParams;
use kube::{Api, ResourceExt};
use serde_json::json;
use whittle_api::ImageBuild;

use crate::field::{Field, controllers};

/// SIGKILL to the controller's process, and a new Pod in place of the old one: the kubelet would let a
/// container that was killed often wait ever longer.
async fn kill_controller(field: &Field) {
    let pods: Api<Pod> = Api::namespaced(field.client.clone(), "whittle-system");
    for pod in pods.list(&controllers()).await.unwrap() {
        let uid = pod.uid().unwrap();
        for pid in processes_of(&uid) {
            let status = std::process::Command::new("kill")
                .args(["-9", &pid.to_string()])
                .status()
                .unwrap();
            assert!(status.success());
        }
        let _ = pods
            .delete(&pod.name_any(), &DeleteParams::default().grace_period(0))
            .await;
    }
}

/// Processes of `whittle controller` in the Pod of this UID: their cgroup names it.
pub fn processes_of(uid: &str) -> Vec<u32> {
    let mut found = vec![];
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        let cgroup = std::fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if cgroup.contains(uid) && command.split(|byte| *byte == 0).nth(1) == Some(b"controller") {
            found.push(pid);
        }
    }
    found
}

#[tokio::test]
async fn the_controller_killed_at_five_points_of_a_build_ends_it_once() {
    let field = Field::new("kill").await;
    let files = |n: usize| json!({"Dockerfile": format!("FROM busybox:1.36\nRUN echo {n} > /n && sleep 3\n")});
    for point in 0..5 {
        let name = format!("hello-{point}");
        field.build(&name, files(point), json!({})).await;
        let builds = field.api::<ImageBuild>();
        match point {
            0 => {}
            1 => {
                field
                    .until("the build has a name", async || {
                        builds.get(&name).await.unwrap().status?.current
                    })
                    .await;
            }
            2 => {
                field
                    .until("the Job exists", async || field.jobs(&name).await.pop())
                    .await;
            }
            3 => {
                field.runner(&name, "Running").await;
            }
            _ => {
                field.step_runs(&name, "RUN").await;
            }
        }
        kill_controller(&field).await;
        let status = field.succeeds(&name).await;
        assert_eq!((status.build, status.history.len()), (Some(1), 1), "{name}");
        assert_eq!(field.jobs(&name).await.len(), 1, "{name} is built once");
    }
    field.close().await;
}

#[tokio::test]
async fn a_builder_that_is_lost_during_a_build_is_followed_by_another_attempt() {
    let field = Field::new("builder").await;
    field
        .build(
            "hello",
            json!({"Dockerfile": "FROM busybox:1.36\nRUN sleep 8\n"}),
            json!({}),
        )
        .await;
    field.step_runs("hello", "RUN sleep").await;
    field
        .api::<Pod>()
        .delete(
            "whittle-builder-default-0",
            &DeleteParams::default().grace_period(0),
        )
        .await
        .unwrap();
    field
        .until("there is a second attempt", async || {
            let current = field
                .api::<ImageBuild>()
                .get("hello")
                .await
                .unwrap()
                .status?
                .current?;
            (current.attempt == 2 && current.last_failure?.contains("BuilderLost")).then_some(())
        })
        .await;
    let status = field.succeeds("hello").await;
    assert_eq!(status.history.len(), 1);
    field.close().await;
}

#[tokio::test]
async fn a_runner_that_is_deleted_during_a_build_is_followed_by_another_attempt() {
    let field = Field::new("runner").await;
    field
        .build(
            "hello",
            json!({"Dockerfile": "FROM busybox:1.36\nRUN sleep 8\n"}),
            json!({}),
        )
        .await;
    field.step_runs("hello", "RUN sleep").await;
    let runner = field.runner("hello", "Running").await;
    field
        .api::<Pod>()
        .delete(&runner.name_any(), &DeleteParams::default())
        .await
        .unwrap();
    let status = field.succeeds("hello").await;
    assert_eq!(status.history.len(), 1);
    assert_eq!(field.jobs("hello").await.len(), 2);
    field.close().await;
}
