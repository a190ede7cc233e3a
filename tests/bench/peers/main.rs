//! How long a build takes through bare buildctl, buildx's Kubernetes driver, Whittle, and Shipwright on Tekton, in turns; and
//! what the controllers of the last two take for it.
//!
//! All build the same commit for one platform, and push. bare buildctl, Whittle and Shipwright do so on one daemon, that of a
//! Builder of the bench's own; buildx makes one of the same image for itself. From the command's start to its end, and from the
//! object's creation until a watch says that the build has succeeded. Everything is installed by this, in namespaces that it
//! removes again; `RUNS=0` does nothing but remove what one that was killed has left.

// They are written for `make bench`.
#[allow(dead_code)]
#[path = "../bench.rs"]
mod bench;
#[allow(dead_code)]
#[path = "../timeline.rs"]
mod timeline;

mod installed;
mod processes;

use std::time::{Duration, Instant};

use bench::{Bench, Figures, LIMIT, Result, run, until};
use futures::StreamExt;
use installed::{Buildx, Images, apply};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams, PostParams};
use kube::core::GroupVersionKind;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use processes::{Used, used};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use whittle_controller::names;

/// Of all that is built, and of its builders.
const NAMESPACE: &str = "bench-peers";
/// So long nothing is built, to see what controllers use then.
const IDLE: Duration = Duration::from_secs(20);
/// So long after a build its controllers still have to do with it.
const SETTLED: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, PartialEq)]
enum Peer {
    Buildctl,
    Buildx,
    Whittle,
    Shipwright,
}

const PEERS: [Peer; 4] = [
    Peer::Buildctl,
    Peer::Buildx,
    Peer::Whittle,
    Peer::Shipwright,
];

impl Peer {
    fn name(self) -> &'static str {
        match self {
            Self::Buildctl => "bare buildctl",
            Self::Buildx => "buildx, Kubernetes driver",
            Self::Whittle => "Whittle",
            Self::Shipwright => "Shipwright on Tekton",
        }
    }

    /// As a part of names and of greetings.
    fn word(self) -> &'static str {
        match self {
            Self::Buildctl => "buildctl",
            Self::Buildx => "buildx",
            Self::Whittle => "whittle",
            Self::Shipwright => "shipwright",
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Case {
    Unchanged,
    OneLine,
    Cold,
}

const CASES: [Case; 3] = [Case::Unchanged, Case::OneLine, Case::Cold];

impl Case {
    fn name(self) -> &'static str {
        match self {
            Self::Unchanged => "unchanged",
            Self::OneLine => "one line",
            Self::Cold => "cold",
        }
    }

    /// A cold build takes as long as many others.
    fn runs(self, runs: usize) -> usize {
        match self {
            Self::Cold => runs.div_ceil(2),
            Self::Unchanged | Self::OneLine => runs,
        }
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let runs = bench::runs();
    installed::clear()?;
    if runs == 0 {
        return Ok(());
    }
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let measured = tokio::select! {
        measured = measure(runs) => measured,
        _ = interrupt.recv() => Err("interrupted".into()),
        _ = terminate.recv() => Err("interrupted".into()),
    };
    eprintln!("removing what was installed");
    let cleared = installed::clear();
    measured.and(cleared)
}

async fn measure(runs: usize) -> Result<()> {
    let mut field = Field::new().await?;
    eprintln!("installed; each once, so that all are warm");
    for peer in PEERS {
        field.build(peer, "warm-up").await?;
    }
    // Seconds by case and peer.
    let mut times = vec![vec![vec![]; PEERS.len()]; CASES.len()];
    for (case, times) in CASES.into_iter().zip(&mut times) {
        for run in 0..case.runs(runs) {
            for (peer, times) in PEERS.into_iter().zip(times.iter_mut()) {
                times.push(field.turn(case, peer, run).await?);
            }
            let of = case.runs(runs);
            eprintln!("{}: run {} of {of}", case.name(), run + 1);
        }
    }
    println!("{}", table(&times));
    println!(
        "Seconds: median (least to most) of {runs} runs in turns, cold {}; × the median of bare buildctl.\n",
        Case::Cold.runs(runs)
    );
    // The cold builds have left other caches than the ones before them.
    for peer in PEERS {
        field.build(peer, "again").await?;
    }
    println!("| controller | memory, MiB | processor, ms a build |\n|---|---:|---:|");
    for peer in [Peer::Whittle, Peer::Shipwright] {
        let lines = field.costs(peer, runs).await?;
        let sum = Cost {
            name: format!("**{}**", peer.name()),
            mebibytes: lines.iter().map(|line| line.mebibytes).sum(),
            milliseconds: lines.iter().map(|line| line.milliseconds).sum(),
        };
        for line in [sum].iter().chain(&lines) {
            println!(
                "| {} | {:.0} | {:.0} |",
                line.name, line.mebibytes, line.milliseconds
            );
        }
    }
    println!(
        "\nResident memory after {runs} unchanged builds one after the other; processor time of these, less what is used in as long without any."
    );
    Ok(())
}

fn table(times: &[Vec<Vec<Duration>>]) -> String {
    let heads: Vec<String> = CASES.iter().map(|it| format!("{}, s", it.name())).collect();
    let mut text = format!("| | {} |\n|---|", heads.join(" | "));
    text += &"---:|".repeat(CASES.len());
    for (at, peer) in PEERS.into_iter().enumerate() {
        let cells: Vec<String> = times
            .iter()
            .map(|case| {
                let (own, bare) = (Figures::of(&case[at]), Figures::of(&case[0]));
                format!("{own}, ×{:.1}", own.median / bare.median)
            })
            .collect();
        text += &format!("\n| {} | {} |", peer.name(), cells.join(" | "));
    }
    text + "\n"
}

struct Cost {
    name: String,
    mebibytes: f64,
    milliseconds: f64,
}

/// Everything that is installed.
struct Field {
    bench: Bench,
    buildx: Buildx,
    build_runs: Api<DynamicObject>,
}

impl Field {
    async fn new() -> Result<Self> {
        // First, as it takes minutes: a Builder may fall asleep meanwhile.
        let programs = installed::programs()?;
        installed::is_not_there()?;
        let client = Client::try_default().await?;
        let registry = bench::variable("REGISTRY")?;
        apply(vec![namespace(), builder(&registry)])?;
        let secrets = Api::<Secret>::namespaced(client.clone(), NAMESPACE);
        let tls = names::builder_client_tls("default");
        until("the Builder has certificates", async || {
            Ok(secrets.get_opt(&tls).await?.is_some())
        })
        .await?;
        let mut bench = Bench::new().await?;
        bench.whittle("warm-up").await?;
        bench.find_builder().await?;
        let pods = Api::<Pod>::namespaced(client.clone(), NAMESPACE);
        let daemon = pods.get(&names::builder_pod("default", 0)).await?;
        let containers = daemon.spec.unwrap_or_default().containers;
        let buildkit = containers
            .into_iter()
            .find(|it| it.name == "buildkitd")
            .and_then(|it| it.image)
            .ok_or("the builder's Pod names no image")?;

        eprintln!("BuildKit: {buildkit}");
        let images = Images::push(&programs, &buildkit)?;
        installed::tekton(&images)?;
        installed::shipwright(&images)?;
        apply(strategy(&bench, &buildkit))?;
        let tools = programs.join("buildx");
        let buildx = Buildx::new(tools, NAMESPACE, &buildkit, &registry)?;
        let kind = GroupVersionKind::gvk("shipwright.io", "v1beta1", "BuildRun");
        let kind = ApiResource::from_gvk_with_plural(&kind, "buildruns");
        let field = Self {
            build_runs: Api::namespaced_with(client, NAMESPACE, &kind),
            bench,
            buildx,
        };
        until("Shipwright knows its Build", async || {
            installed::is_registered(NAMESPACE)
        })
        .await?;
        Ok(field)
    }

    /// One build of this case, with what has to come before it.
    async fn turn(&mut self, case: Case, peer: Peer, run: usize) -> Result<Duration> {
        match case {
            Case::Unchanged => {}
            Case::OneLine => self.bench.change(&format!("{} {run}", peer.word()))?,
            Case::Cold if peer == Peer::Buildx => {
                self.buildx.run(&["prune", "--all", "--force"])?
            }
            Case::Cold => {
                let mut prune = self.bench.buildctl_at_the_daemon();
                prune.extend(["prune".into(), "--all".into()]);
                let prune: Vec<&str> = prune.iter().map(String::as_str).collect();
                run_one(&prune)?;
            }
        }
        let name = format!("{}-{run}", case.name().replace(' ', "-"));
        self.build(peer, &name).await
    }

    /// One build of what is in the repository; nothing of it but the image is left.
    async fn build(&self, peer: Peer, name: &str) -> Result<Duration> {
        let time = match peer {
            Peer::Buildctl => self.bench.buildctl()?,
            Peer::Buildx => self.buildx()?,
            Peer::Whittle => {
                let line = self.bench.whittle(name).await?;
                let runners = format!("{}={}", names::COMPONENT, names::RUNNER);
                self.pods_are_gone(&runners).await?;
                line.ready
            }
            Peer::Shipwright => self.shipwright(name).await?,
        };
        // What is deleted is so by controllers, who have nothing to do with the next one then.
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok(time)
    }

    fn buildx(&self) -> Result<Duration> {
        let output = format!(
            "type=image,name={}/bench/buildx:latest,push=true",
            self.bench.registry
        );
        let begun = Instant::now();
        // As buildctl does, it adds no provenance.
        self.buildx.run(&[
            "build",
            "--progress=plain",
            "--platform=linux/amd64",
            "--provenance=false",
            &format!("--build-arg=GOPROXY={}", self.bench.goproxy),
            &format!("--output={output}"),
            &format!("{}#main", self.bench.git_url),
        ])?;
        Ok(begun.elapsed())
    }

    /// From the BuildRun's creation to its Succeeded condition.
    async fn shipwright(&self, name: &str) -> Result<Duration> {
        let run = json!({"apiVersion": "shipwright.io/v1beta1", "kind": "BuildRun", "metadata": {"name": name},
            "spec": {"build": {"name": "hello"}}});
        let run: DynamicObject = serde_json::from_value(run)?;
        let named = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let watched = watcher(self.build_runs.clone(), named).default_backoff();
        let mut watched = watched.applied_objects().boxed();
        let begun = Instant::now();
        self.build_runs.create(&PostParams::default(), &run).await?;
        let succeeded = async {
            while let Some(run) = watched.next().await {
                let run = run?;
                let conditions = run.data["status"]["conditions"].as_array();
                let of = |it: &&Value| it["type"] == "Succeeded";
                let Some(told) = conditions.and_then(|all| all.iter().find(of)) else {
                    continue;
                };
                match told["status"].as_str() {
                    Some("True") => return Ok(begun.elapsed()),
                    Some("False") => return Err(format!("the BuildRun failed: {told}").into()),
                    _ => {}
                }
            }
            Err("the watch has ended".into())
        };
        let time: Result<Duration> = tokio::time::timeout(LIMIT, succeeded).await?;
        let time = time?;
        let all = DeleteParams::foreground();
        self.build_runs.delete(name, &all).await?;
        let its = format!("buildrun.shipwright.io/name={name}");
        self.pods_are_gone(&its).await?;
        Ok(time)
    }

    async fn pods_are_gone(&self, labels: &str) -> Result<()> {
        let pods = Api::<Pod>::namespaced(self.bench.client.clone(), NAMESPACE);
        let these = ListParams::default().labels(labels);
        until("the build's Pod is gone", async || {
            Ok(pods.list(&these).await?.items.is_empty())
        })
        .await
    }

    /// What the controllers take for unchanged builds.
    async fn costs(&self, peer: Peer, runs: usize) -> Result<Vec<Cost>> {
        let client = &self.bench.client;
        let controllers = match peer {
            Peer::Whittle => processes::controllers(
                client,
                "app.kubernetes.io/part-of=whittle,app.kubernetes.io/component=controller",
            ),
            _ => processes::controllers(client, installed::CONTROLLERS),
        };
        let controllers = controllers.await?;
        tokio::time::sleep(SETTLED).await;
        let measured = || -> Result<Vec<Used>> { controllers.iter().map(used).collect() };
        let (before, begun) = (measured()?, Instant::now());
        tokio::time::sleep(IDLE).await;
        let (idle, idle_ended) = (measured()?, Instant::now());
        for run in 0..runs {
            self.build(peer, &format!("cost-{run}")).await?;
        }
        tokio::time::sleep(SETTLED).await;
        let (after, ended) = (measured()?, Instant::now());
        let share = (ended - idle_ended).as_secs_f64() / (idle_ended - begun).as_secs_f64();
        let cost = |at: usize| Cost {
            name: controllers[at].name.clone(),
            mebibytes: after[at].mebibytes,
            milliseconds: (after[at].milliseconds
                - idle[at].milliseconds
                - (idle[at].milliseconds - before[at].milliseconds) * share)
                / f64::from(u32::try_from(runs).unwrap_or(u32::MAX)),
        };
        Ok((0..controllers.len()).map(cost).collect())
    }
}

fn run_one(command: &[&str]) -> Result<()> {
    run(command[0], &command[1..])
}

fn namespace() -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE,
        "labels": {"pod-security.kubernetes.io/enforce": "privileged"}}})
}

fn builder(registry: &str) -> Value {
    let mirror = |host: &str| json!({"host": host, "mirrors": [registry]});
    json!({"apiVersion": "whittle.dev/v1alpha1", "kind": "Builder", "metadata": {"name": "default", "namespace": NAMESPACE}, "spec": {
        "cache": {"size": "5Gi"},
        "registries": [{"host": registry, "plainHTTP": true}, mirror("docker.io"), mirror("gcr.io")]}})
}

/// Shipwright's Build, by a strategy that gives what its git step has cloned to the Builder's daemon, which lets it in.
fn strategy(bench: &Bench, buildkit: &str) -> Vec<Value> {
    let args = json!([
        format!("--addr={}", bench.builder),
        "--tlscacert=/tls/builder-ca.crt",
        "--tlscert=/tls/tls.crt",
        "--tlskey=/tls/tls.key",
        format!(
            "--tlsservername={}",
            names::builder_host("default", NAMESPACE, 0)
        ),
        "build",
        "--progress=plain",
        "--frontend=dockerfile.v0",
        "--local=context=$(params.shp-source-context)",
        "--local=dockerfile=$(params.shp-source-context)",
        format!("--opt=build-arg:GOPROXY={}", bench.goproxy),
        "--opt=platform=linux/amd64",
        "--output=type=image,name=$(params.shp-output-image),push=true"
    ]);
    let steps = json!([{"name": "build-and-push", "image": buildkit, "imagePullPolicy": "IfNotPresent", "command": ["buildctl"], "args": args,
        "volumeMounts": [{"name": "tls", "mountPath": "/tls", "readOnly": true}]}]);
    vec![
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "bench-peers", "namespace": NAMESPACE}, "spec": {
            "podSelector": {"matchLabels": {names::COMPONENT: names::BUILDER}}, "policyTypes": ["Ingress"],
            "ingress": [{"from": [{"podSelector": {}}], "ports": [{"protocol": "TCP", "port": 1234}]}]}}),
        json!({"apiVersion": "shipwright.io/v1beta1", "kind": "ClusterBuildStrategy", "metadata": {"name": "bench-peers"}, "spec": {
            "steps": steps, "securityContext": {"runAsUser": 1000, "runAsGroup": 1000},
            "volumes": [{"name": "tls", "secret": {"secretName": names::builder_client_tls("default")}}]}}),
        json!({"apiVersion": "shipwright.io/v1beta1", "kind": "Build", "metadata": {"name": "hello", "namespace": NAMESPACE}, "spec": {
            "source": {"type": "Git", "git": {"url": bench.git_url, "revision": "main"}},
            "strategy": {"name": "bench-peers", "kind": "ClusterBuildStrategy"},
            "output": {"image": format!("{}/bench/shipwright:latest", bench.registry)}}}),
    ]
}
