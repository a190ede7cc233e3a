//! What the probe guard costs: the time of a Pod's admission with the policy against the same Pod without it,
//! in turns, at several numbers of images.
//!
//! Both Pods go to a namespace that the chart's own binding leaves alone; a binding for this bench judges the
//! one by its label, with profiles of its own. Requests are dry runs: all of admission, and nothing stored.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicyBinding;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, ObjectMeta, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use whittle_api::ProbeProfile;
use whittle_image::{Contents, Executable, Runs};
use whittle_probe::{Entry, Profiled, profiles};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const NAMESPACE: &str = "kube-system";
const LABEL: &str = "whittle.dev/bench";
const NAME: &str = "whittle-bench-admission";
/// The chart's policies, and what each does.
const POLICIES: [(&str, &str); 2] = [
    ("whittle-probe-guard", "Deny"),
    ("whittle-probe-guard-elsewhere", "Warn"),
];
/// Numbers of images.
const SIZES: [usize; 3] = [20, 2_000, 10_000];

#[tokio::main]
async fn main() -> Result<()> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runs: usize = std::env::var("REQUESTS")
        .ok()
        .and_then(|runs| runs.parse().ok())
        .unwrap_or(4000);
    let client = Client::try_default().await?;
    clear(&client).await?;
    let result = measure(&client, runs).await;
    clear(&client).await?;
    result
}

async fn measure(client: &Client, runs: usize) -> Result<()> {
    bind(client).await?;
    println!(
        "{:>8} {:>9} {:>10} {:>22} {:>22} {:>20}",
        "images", "profiles", "MB", "guarded, ms", "not guarded, ms", "added, ms"
    );
    println!(
        "{:>8} {:>9} {:>10} {:>22} {:>22} {:>20}",
        "", "", "", "median / p99", "median / p99", "median / p99"
    );
    for images in SIZES {
        let (count, bytes) = fill(client, images).await?;
        let pods = Api::<Pod>::namespaced(client.clone(), NAMESPACE);
        refused(&pods).await?;
        for _ in 0..50 {
            ask(&pods, &pod("guarded", "/app")).await?;
        }
        let (mut guarded, mut bare) = (vec![], vec![]);
        for _ in 0..runs {
            guarded.push(ask(&pods, &pod("guarded", "/app")).await?);
            bare.push(ask(&pods, &pod("bare", "/app")).await?);
        }
        let (guarded, bare) = (Figures::of(guarded), Figures::of(bare));
        println!(
            "{images:>8} {count:>9} {:>10.1} {:>22} {:>22} {:>20}",
            bytes as f64 / 1e6,
            guarded.to_string(),
            bare.to_string(),
            format!(
                "{:.2} / {:.2}",
                guarded.median - bare.median,
                guarded.p99 - bare.p99
            ),
        );
    }
    println!("\nOf {runs} dry-run creates each, in turns.");
    Ok(())
}

struct Figures {
    median: f64,
    p99: f64,
}

impl Figures {
    fn of(times: Vec<Duration>) -> Self {
        let mut all: Vec<f64> = times.iter().map(|time| time.as_secs_f64() * 1e3).collect();
        all.sort_by(f64::total_cmp);
        Self {
            median: all[all.len() / 2],
            p99: all[all.len() * 99 / 100],
        }
    }
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&format!("{:.2} / {:.2}", self.median, self.p99))
    }
}

/// A Pod with two containers, one of an image that the profiles know, and a probe of each kind.
fn pod(label: &str, program: &str) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": NAME, "labels": {LABEL: label}},
        "spec": {"containers": [
            {"name": "app", "image": "registry.example.com/team-7/app-7:latest",
                "livenessProbe": {"exec": {"command": [program, "health"]}},
                "readinessProbe": {"httpGet": {"path": "/", "port": 8080}}},
            {"name": "proxy", "image": "proxy.example.com/proxy:1", "livenessProbe": {"exec": {"command": ["/proxy"]}}}]}}))
    .expect("a literal Pod is always a Pod")
}

async fn ask(pods: &Api<Pod>, pod: &Pod) -> Result<Duration> {
    let dry = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let begun = Instant::now();
    pods.create(&dry, pod).await?;
    Ok(begun.elapsed())
}

/// Waits until the profiles are known to the API server: a probe that cannot work is refused.
async fn refused(pods: &Api<Pod>) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(60);
    while Instant::now() < deadline {
        match ask(pods, &pod("guarded", "/missing")).await {
            Err(error) if error.to_string().contains("/missing") => return Ok(()),
            Err(error) => return Err(error),
            Ok(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
    Err("the probe guard refuses nothing: is Whittle installed, with probeGuard.mode other than Off?".into())
}

async fn bind(client: &Client) -> Result<()> {
    for (policy, action) in POLICIES {
        let binding: ValidatingAdmissionPolicyBinding = serde_json::from_value(json!({
            "metadata": {"name": format!("{NAME}-{policy}")},
            "spec": {"policyName": policy, "validationActions": [action],
                "paramRef": {"parameterNotFoundAction": "Allow", "selector": {"matchLabels": {LABEL: "true"}}},
                "matchResources": {"objectSelector": {"matchLabels": {LABEL: "guarded"}},
                    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": NAMESPACE}}}}}))?;
        Api::<ValidatingAdmissionPolicyBinding>::all(client.clone())
            .create(&PostParams::default(), &binding)
            .await?;
    }
    Ok(())
}

/// Writes profiles of so many images, as the controller would: how many objects, and their bytes.
async fn fill(client: &Client, images: usize) -> Result<(usize, usize)> {
    let all: Vec<Profiled> = (0..images).map(image).collect();
    let wanted = profiles(all, &BTreeMap::new());
    let api = Api::<ProbeProfile>::all(client.clone());
    let ours = ListParams::default().labels(&format!("{LABEL}=true"));
    api.delete_collection(&DeleteParams::default(), &ours)
        .await?;
    let mut bytes = 0;
    let count = wanted.shards().len();
    for number in wanted.shards() {
        let spec = wanted.spec(number);
        bytes += serde_json::to_vec(&spec)?.len();
        let mut profile = ProbeProfile::new(&format!("bench-{number}"), spec);
        profile.metadata = ObjectMeta {
            labels: Some([(LABEL.to_owned(), "true".to_owned())].into()),
            ..profile.metadata
        };
        api.create(&PostParams::default(), &profile).await?;
    }
    Ok((count, bytes))
}

/// Three of four images hold one program of their own; the fourth has a distribution with 400.
fn image(number: usize) -> Profiled {
    let mut paths = vec!["/app".to_owned()];
    if number.is_multiple_of(4) {
        paths.extend((0..400).map(|program| format!("/usr/bin/program-{program}")));
    }
    if number % 10 == 3 {
        paths.push(format!("/usr/local/bin/tool-{number}"));
    }
    let mut contents = Contents {
        platform: "linux/amd64".into(),
        ..Contents::default()
    };
    contents.executables.items = paths
        .into_iter()
        .map(|path| Executable {
            path,
            runs: Runs::Yes,
            ..Executable::default()
        })
        .collect();
    Profiled {
        image_build: format!("team-{}/app-{number}", number % 50),
        repository: format!("registry.example.com/team-{}/app-{number}", number % 50),
        digest: format!("sha256:{number:064x}"),
        versions: vec![
            ":latest".into(),
            format!(":1.{number}.0"),
            format!("@sha256:{number:064x}"),
        ],
        known: Entry::of(&[contents]).map(Arc::new),
        earlier: vec![],
        fix: number
            .is_multiple_of(2)
            .then(|| r#"httpGet {"path":"/healthz","port":8080}"#.to_owned()),
        // As the ImageBuilds of a platform team are: the Pods of the bench are in another namespace.
        trusted: true,
    }
}

async fn clear(client: &Client) -> Result<()> {
    let ours = ListParams::default().labels(&format!("{LABEL}=true"));
    let profiles = Api::<ProbeProfile>::all(client.clone());
    profiles
        .delete_collection(&DeleteParams::default(), &ours)
        .await?;
    let bindings = Api::<ValidatingAdmissionPolicyBinding>::all(client.clone());
    let all = bindings.list(&ListParams::default()).await?;
    for binding in all
        .iter()
        .filter(|binding| binding.name_any().starts_with(NAME))
    {
        bindings
            .delete(&binding.name_any(), &DeleteParams::default())
            .await?;
    }
    Ok(())
}
