//! What many ImageBuilds cost: the controller's memory, and what it asks of the API server. On a real etcd and API
//! server without a kubelet, which this plays; no time is measured.
//!
//! `N`: finished ImageBuilds at most, 10,000 unless said. `QUEUED`: so many wait on one Builder, a tenth of it unless said.
//! `WHITTLE`: the program to be measured.

// They are written for the tests.
#[allow(dead_code)]
#[path = "../integration/api_server.rs"]
mod api_server;
#[path = "../integration/many.rs"]
mod many;
#[allow(dead_code)]
#[path = "../integration/shared.rs"]
mod shared;
#[allow(dead_code)]
#[path = "../integration/stage.rs"]
mod stage;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use api_server::ApiServer;
use futures::StreamExt;
use kube::Api;
use kube::api::ListParams;
use many::{NAMESPACES, finished};
use serde_json::json;
use stage::{Stage, make_namespace, success};
use whittle_api::{ImageBuild, ProbeProfile, find};

/// Nothing is asked for so long: it is at rest.
const QUIET: Duration = Duration::from_secs(8);
/// A queue is watched for so long.
const WATCHED: Duration = Duration::from_secs(60);
/// Builds of the queue that end one after another.
const ENDED: usize = 10;
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(1800);

#[tokio::main]
async fn main() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let number = |name: &str| -> Option<usize> {
        let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
        Some(
            text.parse()
                .unwrap_or_else(|_| panic!("{name} is a number")),
        )
    };
    let most = number("N").unwrap_or(10_000);
    let queued = number("QUEUED").unwrap_or(most / 10);
    let mut stage = Stage::on(ApiServer::listening()).await;
    stage.everywhere();
    for number in 0..NAMESPACES {
        make_namespace(&stage.client, &format!("team-{number}")).await;
    }
    println!(
        "| finished ImageBuilds | memory at rest, MiB | at its peak, MiB | requests until at rest | requests of one more build |"
    );
    println!("|---:|---:|---:|---:|---:|");
    let mut made = 0;
    for count in BTreeSet::from([0, most / 10, most]) {
        fill(&stage, made..count).await;
        made = count;
        measure(&mut stage, count).await;
    }
    queue(&mut stage, queued).await;
}

async fn fill(stage: &Stage, numbers: std::ops::Range<usize>) {
    let one = |number: usize| {
        let namespace = format!("team-{}", number % NAMESPACES);
        finished(Api::namespaced(stage.client.clone(), &namespace), number)
    };
    let all = futures::stream::iter(numbers).map(one).buffer_unordered(8);
    all.for_each(async |_| {}).await;
}

async fn measure(stage: &mut Stage, count: usize) {
    let before = stage.server.asked().len();
    stage.start_controller().await;
    let profiles = Api::<ProbeProfile>::all(stage.client.clone());
    wait("the guard knows each image", async || {
        let all = profiles.list(&ListParams::default()).await.unwrap();
        let known = all.iter().flat_map(|profile| profile.spec.images.values());
        let known: BTreeSet<_> = known.map(|image| &image.image_build).collect();
        known.len() >= count
    })
    .await;
    let to_rest = at_rest(stage).await - before;
    let rest = stage.memory_now();
    // The first one makes its Builder.
    one(stage, &format!("first-{count}")).await;
    let before = at_rest(stage).await;
    one(stage, &format!("more-{count}")).await;
    let of_one = at_rest(stage).await - before;
    let peak = stage.peak_memory();
    println!(
        "| {count} | {} | {} | {to_rest} | {of_one} |",
        rest >> 20,
        peak >> 20
    );
    stage.kill_controller();
}

/// A build, from its start to its end.
async fn one(stage: &Stage, name: &str) {
    stage.apply(name, json!({})).await.unwrap();
    stage.builder_starts().await;
    end(stage, name).await;
    stage.ready(name, "True", "Succeeded").await;
}

async fn end(stage: &Stage, name: &str) {
    let job = stage.job(name).await;
    stage
        .pod_ends(&job, &success(&format!("sha256:{}", "a".repeat(64))))
        .await;
}

async fn queue(stage: &mut Stage, count: usize) {
    stage.start_controller().await;
    at_rest(stage).await;
    let before = stage.server.asked().len();
    let names: Vec<String> = (0..count).map(|at| format!("queued-{at:05}")).collect();
    let applied =
        futures::stream::iter(&names).map(async |name| stage.apply(name, json!({})).await.unwrap());
    applied.buffer_unordered(8).for_each(async |_| {}).await;
    let waiting = async || {
        let builds = stage.api::<ImageBuild>();
        let all = builds.list(&ListParams::default()).await.unwrap();
        let says = |build: &ImageBuild, reason: &str| {
            let status = build.status.as_ref();
            let ready = status.and_then(|status| find(&status.conditions, "Ready"));
            ready.is_some_and(|ready| ready.reason == reason)
        };
        all.items
            .iter()
            .filter(|build| says(build, "Queued"))
            .count()
    };
    wait("all wait but those that run", async || {
        waiting().await + 4 >= count
    })
    .await;
    // Each has been told its place.
    tokio::time::sleep(WATCHED).await;
    let queued = stage.server.asked().len();
    tokio::time::sleep(WATCHED).await;
    let watched = stage.server.asked().len();
    let rest = stage.memory_now();
    for _ in 0..ENDED {
        let builds = stage.api::<ImageBuild>();
        let all = builds.list(&ListParams::default()).await.unwrap();
        let running = all.items.iter().find_map(|build| {
            let current = build.status.as_ref()?.current.as_ref()?;
            current.started.then(|| build.metadata.name.clone())?
        });
        let running = running.expect("one runs");
        end(stage, &running).await;
        stage.ready(&running, "True", "Succeeded").await;
        wait("the next one runs", async || {
            let all = builds.list(&ListParams::default()).await.unwrap();
            all.items.iter().any(|build| {
                let current = build
                    .status
                    .as_ref()
                    .and_then(|status| status.current.as_ref());
                current.is_some_and(|current| current.started)
            })
        })
        .await;
    }
    // Those behind them are looked at again.
    tokio::time::sleep(WATCHED).await;
    let ended = stage.server.asked().len();
    println!(
        "\n| waiting on one Builder | memory, MiB | at its peak, MiB | requests until all wait | a minute while nothing ends | while {ENDED} end, and a minute |"
    );
    println!("|---:|---:|---:|---:|---:|---:|");
    println!(
        "| {count} | {} | {} | {} | {} | {} |",
        rest >> 20,
        stage.peak_memory() >> 20,
        queued - before,
        watched - queued,
        ended - watched
    );
}

/// So many requests in all, once none has come for a while.
async fn at_rest(stage: &Stage) -> usize {
    let (mut count, mut since) = (stage.server.asked().len(), Instant::now());
    wait("it is at rest", async || {
        let now = stage.server.asked().len();
        if now != count {
            (count, since) = (now, Instant::now());
        }
        since.elapsed() > QUIET
    })
    .await;
    count
}

async fn wait(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done().await {
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}
