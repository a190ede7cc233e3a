//! What polling many sources costs: requests at the git server, memory and processor time of the watcher and of the
//! controller. Real etcd, API server, controller and watcher; the git server gives real git's answers again and again, as a
//! process for each would cost more than all that is measured.
//!
//! `N`: sources, 1,000 unless said. `WHITTLE`: the program to be measured.

// They are written for the tests.
#[allow(dead_code)]
#[path = "../integration/api_server.rs"]
mod api_server;
#[allow(dead_code)]
#[path = "../integration/shared.rs"]
mod shared;
#[allow(dead_code)]
#[path = "../integration/stage.rs"]
mod stage;
#[allow(dead_code)]
#[path = "../integration/watcher.rs"]
mod watcher;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use api_server::ApiServer;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use kube::api::ListParams;
use serde_json::json;
use stage::Stage;
use tokio::io::AsyncWriteExt;
use tokio::sync::Mutex;
use watcher::Watcher;
use whittle_api::{ImageBuild, TRIGGERS, find};
use whittle_git::fixtures::{Repository, upload_pack};

/// So often each source is looked at.
const INTERVAL: &str = "20s";
/// Nothing is asked of the API server for so long: all is at rest.
const QUIET: Duration = Duration::from_secs(8);
/// So long it is measured.
const MEASURED: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(600);

/// By whether refs are advertised, and the body of the request.
type Answers = HashMap<(bool, Vec<u8>), Bytes>;

/// Answers of real git, by what was asked.
#[derive(Clone)]
struct Git {
    repository: Arc<Repository>,
    answers: Arc<Mutex<Answers>>,
    asked: Arc<AtomicUsize>,
}

async fn answer(State(git): State<Git>, request: Request) -> Response {
    git.asked.fetch_add(1, Ordering::Relaxed);
    let (parts, body) = request.into_parts();
    let advertise = parts.uri.path().ends_with("/info/refs");
    let protocol = parts.headers.get("git-protocol").cloned();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap().to_vec();
    let mut answers = git.answers.lock().await;
    let key = (advertise, body);
    if !answers.contains_key(&key) {
        let args: &[&str] = match advertise {
            true => &["--stateless-rpc", "--advertise-refs"],
            false => &["--stateless-rpc"],
        };
        let protocol = protocol.map(|it| it.to_str().unwrap().to_owned());
        let place = git.repository.folder.path().join("team/hello.git");
        let mut child = upload_pack(args, &place, protocol.as_deref())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(&key.1).await.unwrap();
        let said = child.wait_with_output().await.unwrap().stdout;
        answers.insert(key.clone(), said.into());
    }
    let kind = if advertise { "advertisement" } else { "result" };
    let kind = format!("application/x-git-upload-pack-{kind}");
    ([("content-type", kind)], answers[&key].clone()).into_response()
}

/// A field of a process's status, in KiB.
fn memory(id: u32, which: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(which));
    let text = line.unwrap().trim().trim_end_matches(" kB");
    text.parse().unwrap()
}

/// Processor time of a process, in seconds: the kernel counts hundredths.
fn processor(id: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
    // After the name, which may hold anything.
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let ticks: u32 = [11, 12]
        .map(|at: usize| fields[at].parse::<u32>().unwrap())
        .iter()
        .sum();
    f64::from(ticks) / 100.0
}

#[tokio::main]
async fn main() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let sources = std::env::var("N")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(1_000);
    let git = Git {
        repository: Arc::new(Repository::new("sha1")),
        answers: Arc::default(),
        asked: Arc::default(),
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let app = axum::Router::new().fallback(answer).with_state(git.clone());
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    let mut stage = Stage::on(ApiServer::listening()).await;
    stage.everywhere();
    stage.start_controller().await;
    stage
        .install(
            json!({"apiVersion": "whittle.dev/v1alpha1", "kind": "Builder",
            "metadata": {"name": "default", "namespace": stage.namespace}, "spec": {}}),
        )
        .await;
    stage.builder_starts().await;
    for number in 0..sources {
        // Nothing is built: what is measured is the looking.
        let spec = json!({"suspend": true, "source": {"inline": null,
            "git": {"url": format!("http://127.0.0.1:{port}/team/hello-{number}.git"), "ref": {"branch": "main"}}},
            "triggers": {"poll": {"interval": INTERVAL}}});
        stage.apply(&format!("app-{number}"), spec).await.unwrap();
    }
    let mut watcher = Watcher::new();
    watcher.start();
    let begun = Instant::now();
    while seen(&stage).await < sources {
        assert!(
            begun.elapsed() < PATIENCE,
            "{}\n{}",
            stage.controllers_log(),
            watcher.log()
        );
        watcher.mount(&stage).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let all_seen = begun.elapsed();
    // What was seen first is written, and each ImageBuild looked at once more for it.
    let (mut asked, mut since) = (0, Instant::now());
    while since.elapsed() < QUIET && begun.elapsed() < PATIENCE {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let now = stage.server.asked().len();
        if now != asked {
            (asked, since) = (now, Instant::now());
        }
    }
    let at_rest = begun.elapsed();
    let both = [watcher.id().unwrap(), stage.controllers_id()];
    let counted = || {
        (
            git.asked.load(Ordering::Relaxed),
            stage.server.asked().len(),
        )
    };
    let (before, used) = (counted(), both.map(processor));
    tokio::time::sleep(MEASURED).await;
    let (after, ended) = (counted(), both.map(processor));
    let seconds = MEASURED.as_secs_f64();
    println!(
        "| {sources} sources, each {INTERVAL} | RSS, MiB | anonymous, MiB | processor, % of one |"
    );
    println!("|---|---:|---:|---:|");
    for (at, name) in ["watcher", "controller"].into_iter().enumerate() {
        let mib = |which: &str| {
            format!(
                "{:.1}",
                f64::from(u32::try_from(memory(both[at], which)).unwrap()) / 1024.0
            )
        };
        println!(
            "| {name} | {} | {} | {:.1} |",
            mib("VmRSS:"),
            mib("RssAnon:"),
            (ended[at] - used[at]) * 100.0 / seconds
        );
    }
    println!(
        "\nall seen after {} s, at rest after {} s; requests at the git server: {:.1} a second; at the API server: {} in {seconds} s",
        all_seen.as_secs(),
        at_rest.as_secs(),
        f64::from(u32::try_from(after.0 - before.0).unwrap()) / seconds,
        after.1 - before.1
    );
    let mut kinds = BTreeMap::<String, usize>::new();
    for request in &stage.server.asked()[before.1..after.1] {
        let path = request.split('?').next().unwrap_or_default();
        *kinds
            .entry(path.replace(|c: char| c.is_ascii_digit(), ""))
            .or_default() += 1;
    }
    for (request, count) in kinds {
        println!("{count} {request}");
    }
}

async fn seen(stage: &Stage) -> usize {
    let all = stage.api::<ImageBuild>().list(&ListParams::default()).await;
    let well = |build: &&ImageBuild| {
        let status = build.status.as_ref();
        status
            .and_then(|status| find(&status.conditions, TRIGGERS))
            .is_some_and(|told| told.status == "True")
    };
    all.unwrap().iter().filter(well).count()
}
