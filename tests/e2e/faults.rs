//! Faults of the platform, made for real: here kills and losses, in the files beside it what is around them.
//!
//! Each prints how long it took from the fault's end until the build was settled: docs/operations.md has the figures.

mod network;
mod node;
mod pods;
mod registry;
mod volumes;

use std::ops::RangeInclusive;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::{DeleteParams, ListParams};
use kube::{Api, ResourceExt};
use serde_json::json;
use whittle_api::{ImageBuild, ImageBuildStatus};

use crate::field::{Field, controllers};
use crate::long::whole;

/// The Pod of the Builder `default`.
const BUILDER: &str = "whittle-builder-default-0";

/// How many seconds a fault lasts that has no end of its own: a minute with `LONG=1`.
fn lasts() -> u64 {
    if whole() { 60 } else { 20 }
}

/// A Dockerfile whose step takes long, but the first time alone: what a second attempt takes is the fault's doing.
const STEP: &str = "FROM busybox:1.36\n\
    RUN --mount=type=cache,target=/c [ -e /c/once ] || { touch /c/once; sleep 100; }\n";

/// The build `hello` of it, once that step runs.
async fn step_of_hello(field: &Field) {
    let files = json!({"Dockerfile": STEP});
    field.build("hello", files, json!({})).await;
    field.step_runs("hello", "RUN --mount").await;
}

/// Prints how long after the fault's end all was well.
fn tell(fault: &str, ended: Instant) {
    eprintln!("heals: {fault}: {:.1} s", ended.elapsed().as_secs_f64());
}

/// The first build of this name succeeds, in as many attempts: none is lost, and none more is made than is told.
async fn heals(
    field: &Field,
    fault: &str,
    name: &str,
    ended: Instant,
    attempts: RangeInclusive<usize>,
) -> ImageBuildStatus {
    let status = field.succeeds(name).await;
    tell(fault, ended);
    assert_eq!((status.build, status.history.len()), (Some(1), 1), "{name}");
    assert_eq!(status.history[0].result, "Succeeded", "{name}");
    assert_eq!(status.history[0].digest, status.digest, "{name}");
    let jobs = field.jobs(name).await.len();
    assert!(attempts.contains(&jobs), "{name}: {jobs} Jobs");
    field
        .until("each attempt but the last is told", async || {
            (retries(field, name).await == jobs - 1).then_some(())
        })
        .await;
    status
}

/// How many attempts are told to be followed by another: Events that say the same are one, with a count.
async fn retries(field: &Field, name: &str) -> usize {
    let events = field.api::<Event>().list(&ListParams::default()).await;
    let told = events.unwrap().items.into_iter().filter(|event| {
        event.reason.as_deref() == Some("Retrying")
            && event.involved_object.name.as_deref() == Some(name)
    });
    let times = |event: Event| event.series.and_then(|series| series.count).unwrap_or(1);
    usize::try_from(told.map(times).sum::<i32>()).unwrap()
}

/// A shell script that makes a fault and ends it by itself, whatever becomes of the test: with `sh -c`, in a session of its
/// own, for the runner of tests ends all of a test's group.
fn shell(script: &str, arguments: &[&str]) -> Child {
    Command::new("setsid")
        .args(["sh", "-euc", script, "fault"])
        .args(arguments)
        .stdin(Stdio::null())
        .spawn()
        .unwrap()
}

/// Waits for the end of such a script, which is the fault's.
async fn ended(mut fault: Child) -> Instant {
    let status = tokio::task::spawn_blocking(move || fault.wait().unwrap());
    let status = status.await.unwrap();
    assert!(status.success(), "the fault was not made: {status}");
    Instant::now()
}

/// The UID of a Pod, by which its processes and folders are known.
async fn uid_of(field: &Field, pod: &str) -> String {
    field.api::<Pod>().get(pod).await.unwrap().uid().unwrap()
}

/// SIGKILL to the controller's process, and a new Pod in place of the old one: the kubelet would let a
/// container that was killed often wait ever longer.
async fn kill_controller(field: &Field) {
    let pods: Api<Pod> = Api::namespaced(field.client.clone(), "whittle-system");
    for pod in pods.list(&controllers()).await.unwrap() {
        let uid = pod.uid().unwrap();
        for pid in processes_of(&uid)
            .into_iter()
            .filter(|pid| arguments_of(*pid).nth(1).as_deref() == Some("controller"))
        {
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

/// Processes in the Pod of this UID: their cgroup names it.
pub fn processes_of(uid: &str) -> Vec<u32> {
    let mut found = vec![];
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let cgroup = std::fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
        if cgroup.contains(uid) {
            found.push(pid);
        }
    }
    found
}

/// The words that a process was started with.
pub fn arguments_of(pid: u32) -> impl Iterator<Item = String> {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let line = String::from_utf8_lossy(&line).into_owned();
    line.split('\0')
        .map(str::to_owned)
        .collect::<Vec<_>>()
        .into_iter()
}

/// When it is killed.
const POINTS: [&str; 5] = [
    "build applied",
    "attempt named",
    "Job created",
    "runner running",
    "step running",
];

#[tokio::test]
async fn the_controller_killed_at_five_points_of_a_build_ends_it_once() {
    let field = Field::new("kill").await;
    let files = |n: usize| json!({"Dockerfile": format!("FROM busybox:1.36\nRUN echo {n} > /n && sleep 3\n")});
    for (point, when) in POINTS.iter().enumerate() {
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
        let fault = format!("controller killed, {when}");
        heals(&field, &fault, &name, Instant::now(), 1..=1).await;
    }
    field.close().await;
}

#[tokio::test]
async fn a_builder_that_is_lost_during_a_build_is_followed_by_another_attempt() {
    let field = Field::new("builder").await;
    step_of_hello(&field).await;
    field
        .api::<Pod>()
        .delete(BUILDER, &DeleteParams::default().grace_period(0))
        .await
        .unwrap();
    let lost = Instant::now();
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
    heals(&field, "builder deleted", "hello", lost, 2..=2).await;
    field.close().await;
}

#[tokio::test]
async fn a_runner_that_is_deleted_during_a_build_is_followed_by_another_attempt() {
    let field = Field::new("runner").await;
    step_of_hello(&field).await;
    let runner = field.runner("hello", "Running").await;
    field
        .api::<Pod>()
        .delete(&runner.name_any(), &DeleteParams::default())
        .await
        .unwrap();
    heals(&field, "runner deleted", "hello", Instant::now(), 2..=2).await;
    field.close().await;
}
