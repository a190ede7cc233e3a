//! Two controllers, of which one leads: ended and killed in turns while they build.

use std::process::Command;
use std::time::Instant;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::faults::{arguments_of, processes_of};
use crate::field::Field;
use crate::long;

const SYSTEM: &str = "whittle-system";
const DEPLOYMENT: &str = "whittle";
const LEASE: &str = "whittle-controller";

/// One controller again, also where the test fails.
struct Two;

impl Drop for Two {
    fn drop(&mut self) {
        let scale = [
            "scale",
            "deployment",
            DEPLOYMENT,
            "-n",
            SYSTEM,
            "--replicas=1",
        ];
        let _ = Command::new("kubectl").args(scale).status();
    }
}

async fn two(field: &Field) -> Two {
    let deployments: Api<Deployment> = Api::namespaced(field.client.clone(), SYSTEM);
    let (params, patch) = (
        PatchParams::default(),
        Patch::Merge(json!({"spec": {"replicas": 2}})),
    );
    deployments
        .patch(DEPLOYMENT, &params, &patch)
        .await
        .unwrap();
    let two = Two;
    ready(field).await;
    two
}

/// Both are there, and ready.
async fn ready(field: &Field) {
    let deployments: Api<Deployment> = Api::namespaced(field.client.clone(), SYSTEM);
    let both = async || {
        let status = deployments.get(DEPLOYMENT).await.unwrap().status?;
        (status.ready_replicas == Some(2) && status.updated_replicas == Some(2)).then_some(())
    };
    field.until("two controllers are ready", both).await;
}

/// Who leads, and when that was written last.
async fn leads(field: &Field) -> Option<(String, String)> {
    let leases: Api<Lease> = Api::namespaced(field.client.clone(), SYSTEM);
    let spec = leases.get(LEASE).await.ok()?.spec?;
    let holder = spec.holder_identity.filter(|holder| !holder.is_empty())?;
    Some((holder, spec.renew_time?.0.to_string()))
}

#[tokio::test]
async fn builds_end_once_while_two_controllers_are_ended_and_killed_in_turns() {
    let field = Field::new("two").await;
    let two = two(&field).await;
    let pods: Api<Pod> = Api::namespaced(field.client.clone(), SYSTEM);
    let count = if long::whole() { 30 } else { 6 };
    let names: Vec<String> = (0..count).map(|n| format!("hello-{n}")).collect();
    for (n, name) in names.iter().enumerate() {
        let files =
            json!({"Dockerfile": format!("FROM busybox:1.36\nRUN echo {n} > /n && sleep 2\n")});
        field.build(name, files, json!({})).await;
        // At another point of it each time.
        tokio::time::sleep(std::time::Duration::from_millis(700 * (n as u64 % 8))).await;
        let mut before = field
            .until("somebody leads", async || leads(&field).await)
            .await;
        let ended = Instant::now();
        let Some(leader) = pods.get_opt(&before.0).await.unwrap() else {
            continue;
        };
        let killed = n % 2 == 1;
        if killed {
            let mut processes = processes_of(&leader.uid().unwrap());
            processes.retain(|it| arguments_of(*it).nth(1).as_deref() == Some("controller"));
            for process in processes {
                let _ = Command::new("kill")
                    .args(["-9", &process.to_string()])
                    .status();
            }
            // It may have written once more.
            before = leads(&field).await.unwrap_or(before);
        } else {
            pods.delete(&before.0, &DeleteParams::default())
                .await
                .unwrap();
        }
        let other = async || {
            let now = leads(&field).await?;
            // Whose process was killed goes on as soon as its container has started again.
            (if killed {
                now != before
            } else {
                now.0 != before.0
            })
            .then_some(())
        };
        field.until("somebody leads again", other).await;
        let how = if killed { "killed" } else { "deleted" };
        eprintln!("hand-over: {how}: {:.1} s", ended.elapsed().as_secs_f64());
        ready(&field).await;
    }
    for name in &names {
        let status = field.succeeds(name).await;
        assert_eq!((status.build, status.history.len()), (Some(1), 1), "{name}");
        assert_eq!(field.jobs(name).await.len(), 1, "{name} is built once");
    }
    drop(two);
    field.close().await;
}
