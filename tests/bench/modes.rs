//! What isolation and sharing of builders cost, in turns: seconds from what is applied until its Ready condition, of a cold
//! build (no Builder yet), of one in which nothing has changed, and of one in which one line has; and the memory of the
//! builders that are up afterwards. Needs the local cluster with Whittle installed: `make bench-modes`, RUNS=5.

use std::path::Path;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use whittle_api::{Builder, ImageBuild, is_true};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const LIMIT: Duration = Duration::from_secs(300);
const VARIANTS: [(&str, &str); 4] = [
    ("UserNamespace", "Namespace"),
    ("Rootless", "Namespace"),
    ("UserNamespace", "ImageBuild"),
    ("UserNamespace", "Build"),
];
const CASES: [&str; 3] = ["cold", "unchanged", "one line"];

#[tokio::main]
async fn main() -> Result<()> {
    let runs = std::env::var("RUNS").ok().and_then(|it| it.parse().ok());
    let runs: usize = runs.unwrap_or(5);
    let client = Client::try_default().await?;
    let benches = VARIANTS.map(|(isolation, sharing)| Bench {
        client: client.clone(),
        namespace: format!("bench-{isolation}-{sharing}").to_lowercase(),
        isolation,
        sharing,
    });
    for bench in &benches {
        bench.begin().await?;
    }
    // Seconds by case and variant, and bytes by variant.
    let mut times = vec![vec![vec![]; benches.len()]; CASES.len()];
    let mut memory = vec![vec![]; benches.len()];
    for run in 0..runs {
        for (at, bench) in benches.iter().enumerate() {
            bench.forget().await?;
            for (case, times) in times.iter_mut().enumerate() {
                let line = match case {
                    0 | 1 => format!("cold {run}"),
                    _ => format!("changed {run}"),
                };
                times[at].push(bench.build(&line, &format!("{run} {case}")).await?);
            }
            memory[at].push(bench.memory().await?);
        }
        eprintln!("run {} of {runs}", run + 1);
    }
    println!(
        "| isolation | sharing | cold, s | unchanged, s | one line, s | memory of builders, MiB |"
    );
    println!("|---|---|---:|---:|---:|---:|");
    for (at, bench) in benches.iter().enumerate() {
        // Against the second of the variants.
        let cells: Vec<String> = times.iter().map(|case| cell(&case[at], &case[1])).collect();
        let memory = median(&memory[at]) / f64::from(1 << 20);
        println!(
            "| {} | {} | {} | {memory:.0} |",
            bench.isolation,
            bench.sharing,
            cells.join(" | ")
        );
    }
    println!(
        "\nMedian (least to most) of {runs} runs in turns; × the median of Rootless, shared by the namespace."
    );
    for bench in &benches {
        bench.end().await?;
    }
    Ok(())
}

fn median(all: &[f64]) -> f64 {
    let mut all = all.to_vec();
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

fn cell(all: &[f64], base: &[f64]) -> String {
    let least = all.iter().copied().fold(f64::INFINITY, f64::min);
    let most = all.iter().copied().fold(0.0, f64::max);
    let middle = median(all);
    format!(
        "{middle:.1} ({least:.1} to {most:.1}), ×{:.2}",
        middle / median(base)
    )
}

struct Bench {
    client: Client,
    namespace: String,
    isolation: &'static str,
    sharing: &'static str,
}

/// The demo's web service, with another line.
fn service(line: &str) -> Result<Value> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/demo/hello");
    let mut files = serde_json::Map::new();
    for name in ["Dockerfile", "go.mod", "go.sum", "main.go"] {
        let mut text = std::fs::read_to_string(folder.join(name))?;
        if name == "main.go" {
            text += &format!("\n// {line}\n");
        }
        files.insert(name.into(), text.into());
    }
    Ok(Value::Object(files))
}

impl Bench {
    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    async fn begin(&self) -> Result<()> {
        let labels = json!({"pod-security.kubernetes.io/enforce": "privileged"});
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace, "labels": labels}});
        let params = PatchParams::apply("bench").force();
        Api::<Namespace>::all(self.client.clone())
            .patch(&self.namespace, &params, &Patch::Apply(&namespace))
            .await?;
        Ok(())
    }

    async fn end(&self) -> Result<()> {
        let namespaces = Api::<Namespace>::all(self.client.clone());
        namespaces
            .delete(&self.namespace, &DeleteParams::default())
            .await?;
        Ok(())
    }

    /// Without an ImageBuild, a Builder, a Pod; then a Builder that nothing was built on.
    async fn forget(&self) -> Result<()> {
        let (now, all) = (DeleteParams::default(), ListParams::default());
        self.api::<ImageBuild>()
            .delete_collection(&now, &all)
            .await?;
        self.api::<Builder>().delete_collection(&now, &all).await?;
        self.until("the Builder's Pods are gone", async || {
            let pods = self.api::<Pod>().list(&all).await?.items;
            let builders = self.api::<Builder>().list(&all).await?.items;
            Ok(pods.is_empty() && builders.is_empty())
        })
        .await?;
        let registry = std::env::var("REGISTRY")?;
        let mirror = |host: &str| json!({"host": host, "mirrors": [registry]});
        let builder = json!({"apiVersion": "whittle.dev/v1alpha1", "kind": "Builder", "metadata": {"name": "default"}, "spec": {
            "isolation": self.isolation, "sharing": self.sharing, "cache": {"size": "2Gi"},
            "registries": [{"host": registry, "plainHTTP": true}, mirror("docker.io"), mirror("gcr.io")],
        }});
        let builder: Builder = serde_json::from_value(builder)?;
        self.api().create(&PostParams::default(), &builder).await?;
        Ok(())
    }

    /// Seconds from what is applied until it is Ready.
    async fn build(&self, line: &str, rebuild: &str) -> Result<f64> {
        let image = format!("{}/bench/{}", std::env::var("REGISTRY")?, self.namespace);
        let goproxy = std::env::var("GOPROXY_URL")?;
        let build = json!({"apiVersion": "whittle.dev/v1alpha1", "kind": "ImageBuild", "metadata": {"name": "hello"}, "spec": {
            "source": {"inline": {"files": service(line)?}}, "rebuild": rebuild,
            "buildArgs": {"GOPROXY": goproxy}, "output": {"image": image},
        }});
        let builds = self.api::<ImageBuild>();
        let begun = Instant::now();
        let params = PatchParams::apply("bench").force();
        let applied = builds
            .patch("hello", &params, &Patch::Apply(&build))
            .await?;
        let generation = applied.metadata.generation;
        self.until("the image is built", async || {
            let build = builds.get("hello").await?;
            let status = build.status.unwrap_or_default();
            let this = status.observed_generation == generation;
            Ok(this && is_true(&status.conditions, "Ready"))
        })
        .await?;
        Ok(begun.elapsed().as_secs_f64())
    }

    /// Bytes of the working sets of all builders that are up, as the kubelet says.
    async fn memory(&self) -> Result<f64> {
        let nodes = Api::<Node>::all(self.client.clone())
            .list(&ListParams::default())
            .await?;
        let mut sum = 0.0;
        for node in nodes {
            let path = format!("/api/v1/nodes/{}/proxy/metrics/resource", node.name_any());
            let request = http::Request::get(path).body(vec![])?;
            let text = self.client.request_text(request).await?;
            let is_ours = |line: &&str| {
                line.starts_with("container_memory_working_set_bytes{")
                    && line.contains("container=\"buildkitd\"")
                    && line.contains(&format!("namespace=\"{}\"", self.namespace))
            };
            for line in text.lines().filter(is_ours) {
                let value = line.split_whitespace().nth(1).unwrap_or_default();
                sum += value.parse::<f64>()?;
            }
        }
        Ok(sum)
    }

    async fn until(&self, what: &str, mut done: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
        let begun = Instant::now();
        while !done().await? {
            if begun.elapsed() > LIMIT {
                return Err(format!("{}: not within {LIMIT:?}: {what}", self.namespace).into());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }
}
