//! How long a build takes through Whittle, against bare buildctl on the same daemon, in turns.
//!
//! Four cases: nothing has changed, and one line has; an ImageBuild that is there is asked for another build of the same, without a
//! runner that waits and with one (`spec.standby` of the Builder). Whittle's time runs from the ImageBuild's creation
//! until its Ready condition arrives by a watch; buildctl's from its start to its end. Both clone the
//! same commit, build for one platform, and push. For each case it says where Whittle's time goes.

mod again;
mod at_once;
mod timeline;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use timeline::{Timeline, Watched};
use whittle_api::{Builder, ImageBuild};
use whittle_controller::names;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const NAMESPACE: &str = "demo";
const LIMIT: Duration = Duration::from_secs(300);

fn variable(name: &str) -> Result<String> {
    std::env::var(name).map_err(|_| format!("{name} is not set: run `make bench`").into())
}

#[tokio::main]
async fn main() -> Result<()> {
    let runs: usize = std::env::var("RUNS")
        .ok()
        .and_then(|runs| runs.parse().ok())
        .unwrap_or(7);
    let mut bench = Bench::new().await?;
    // Wakes the builder, where that sleeps.
    bench.whittle("warm-up").await?;
    bench.find_builder().await?;
    bench.buildctl()?;
    println!(
        "{:<12} {:>4} {:>22} {:>22} {:>12} {:>8}",
        "case", "runs", "whittle, s", "buildctl, s", "difference", "ratio"
    );
    let mut parts = vec![];
    for (case, change) in [("unchanged", false), ("one line", true)] {
        let (mut ours, mut bare, mut lines) = (vec![], vec![], vec![]);
        for run in 0..runs {
            if change {
                bench.change(&format!("whittle {run}"))?;
            }
            let name = format!("{}-{run}", case.replace(' ', "-"));
            let line = bench.whittle(&name).await?;
            ours.push(line.ready);
            lines.push(line);
            if change {
                bench.change(&format!("buildctl {run}"))?;
            }
            bare.push(bench.buildctl()?);
        }
        row(case, runs, ours, bare);
        parts.push((case, timeline::parts(&lines)));
    }
    for (case, standby) in [("asked again", 0), ("it waits", 1)] {
        bench.standby(standby).await?;
        let again = again::Again::new(&bench).await?;
        let (mut ours, mut bare, mut waited) = (vec![], vec![], 0);
        for _ in 0..runs {
            if standby > 0 {
                again.is_waited_for().await?;
            }
            let (time, by_one_that_waited) = again.whittle().await?;
            ours.push(time);
            waited += usize::from(by_one_that_waited);
            bare.push(bench.buildctl()?);
        }
        again.end().await?;
        if standby > 0 && waited < runs {
            println!("{case}: of {runs} builds {waited} were carried out by a runner that waited");
        }
        row(case, runs, ours, bare);
    }
    bench.standby(0).await?;
    println!("\nWhere Whittle's time goes, s, medians:");
    for (case, parts) in parts {
        for (part, median) in parts {
            println!("{case:<12} {part:<42} {median:>6.2}");
        }
    }
    println!("\nEach figure: median (minimum to maximum) of the same run, in turns.");
    at_once::table(&bench, runs.div_ceil(2)).await
}

fn row(case: &str, runs: usize, ours: Vec<Duration>, bare: Vec<Duration>) {
    let (a, b) = (Figures::of(ours), Figures::of(bare));
    println!(
        "{case:<12} {runs:>4} {:>22} {:>22} {:>12.2} {:>8.2}",
        a.to_string(),
        b.to_string(),
        a.median - b.median,
        a.median / b.median
    );
}

struct Figures {
    median: f64,
    least: f64,
    most: f64,
}

impl Figures {
    fn of(times: Vec<Duration>) -> Self {
        let mut seconds: Vec<f64> = times.iter().map(Duration::as_secs_f64).collect();
        seconds.sort_by(f64::total_cmp);
        Self {
            median: seconds[seconds.len() / 2],
            least: seconds[0],
            most: seconds[seconds.len() - 1],
        }
    }
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:.2} ({:.2} to {:.2})",
            self.median, self.least, self.most
        )
    }
}

struct Bench {
    client: Client,
    tree: PathBuf,
    tls: tempfile::TempDir,
    node: Vec<String>,
    builder: String,
    registry: String,
    git_url: String,
    goproxy: String,
}

impl Bench {
    async fn new() -> Result<Self> {
        let client = Client::try_default().await?;
        let tls = tempfile::tempdir()?;
        let secret = Api::<Secret>::namespaced(client.clone(), NAMESPACE)
            .get(&names::builder_client_tls("default"))
            .await?;
        for (name, value) in secret.data.unwrap_or_default() {
            std::fs::write(tls.path().join(name), value.0)?;
        }
        let tree = PathBuf::from("target/bench/hello");
        std::fs::create_dir_all("target/bench")?;
        let bench = Self {
            client,
            tls,
            node: variable("NODE_EXEC")?
                .split(' ')
                .map(str::to_owned)
                .collect(),
            builder: String::new(),
            registry: variable("REGISTRY")?,
            git_url: format!("{}/bench.git", variable("GIT_URL")?),
            goproxy: variable("GOPROXY_URL")?,
            tree,
        };
        bench.repository(&PathBuf::from(variable("GIT_REPOSITORIES")?).join("bench.git"))?;
        Ok(bench)
    }

    /// Takes down the daemon's address, which it has while it is awake.
    async fn find_builder(&mut self) -> Result<()> {
        let pods = Api::<Pod>::namespaced(self.client.clone(), NAMESPACE);
        let pod = pods.get("whittle-builder-default-0").await?;
        let address = pod.status.and_then(|status| status.pod_ip);
        let address = address.ok_or("the builder's Pod has no address")?;
        self.builder = format!("tcp://{address}:1234");
        Ok(())
    }

    /// A repository of its own, with the demo's service.
    fn repository(&self, bare: &Path) -> Result<()> {
        for old in [bare, &self.tree] {
            if old.exists() {
                std::fs::remove_dir_all(old)?;
            }
        }
        run(
            "git",
            &[
                "init",
                "--quiet",
                "--bare",
                "--initial-branch",
                "main",
                &bare.display().to_string(),
            ],
        )?;
        run(
            "cp",
            &["-R", "tests/demo/hello", &self.tree.display().to_string()],
        )?;
        self.git(&["init", "--quiet", "--initial-branch", "main"])?;
        self.git(&["remote", "add", "origin", &bare.display().to_string()])?;
        self.change("hello")
    }

    fn git(&self, arguments: &[&str]) -> Result<()> {
        let tree = self.tree.display().to_string();
        let mut all = vec![
            "-C",
            &tree,
            "-c",
            "user.name=bench",
            "-c",
            "user.email=bench@example.com",
        ];
        all.extend(arguments);
        run("git", &all)
    }

    /// Changes one line, commits and pushes it.
    fn change(&self, greeting: &str) -> Result<()> {
        let path = self.tree.join("main.go");
        let text = std::fs::read_to_string(&path)?;
        let changed: Vec<String> = text
            .lines()
            .map(|line| {
                if line.starts_with("const greeting = ") {
                    format!("const greeting = {greeting:?}")
                } else {
                    line.to_owned()
                }
            })
            .collect();
        std::fs::write(&path, changed.join("\n") + "\n")?;
        self.git(&["add", "--all"])?;
        self.git(&["commit", "--quiet", "--allow-empty", "--message", greeting])?;
        self.git(&["push", "--quiet", "origin", "main"])
    }

    fn builds(&self) -> Api<ImageBuild> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    /// Has a branch of its own with one line changed.
    fn branch(&self, number: usize, greeting: &str) -> Result<()> {
        self.change(greeting)?;
        let to = format!("HEAD:refs/heads/at-once-{number}");
        self.git(&["push", "--quiet", "--force", "origin", &to])
    }

    /// Deletes an ImageBuild, if there is one.
    async fn forget(&self, name: &str) -> Result<()> {
        let builds = self.builds();
        if builds.get_opt(name).await?.is_some() {
            builds.delete(name, &DeleteParams::foreground()).await?;
            kube::runtime::wait::await_condition(
                builds.clone(),
                name,
                |build: Option<&ImageBuild>| build.is_none(),
            )
            .await?;
        }
        Ok(())
    }

    fn image_build(&self, name: &str, branch: &str, image: &str, tag: &str) -> Result<ImageBuild> {
        let build = json!({
            "apiVersion": "whittle.dev/v1alpha1", "kind": "ImageBuild", "metadata": {"name": name},
            "spec": {
                "source": {"git": {"url": self.git_url, "ref": {"branch": branch}}},
                "buildArgs": {"GOPROXY": self.goproxy},
                "platforms": ["linux/amd64"],
                "output": {"image": format!("{}/bench/{image}", self.registry), "tags": [tag]},
            },
        });
        Ok(serde_json::from_value(build)?)
    }

    /// Creates an ImageBuild that does not exist, and watches it.
    async fn ask(&self, name: &str, branch: &str, image: &str, tag: &str) -> Result<Watched> {
        let build = self.image_build(name, branch, image, tag)?;
        let watched = timeline::watched(&self.client, NAMESPACE, name);
        self.builds().create(&PostParams::default(), &build).await?;
        Ok(watched)
    }

    /// From the ImageBuild's creation to its Ready condition.
    async fn whittle(&self, name: &str) -> Result<Timeline> {
        let name = format!("bench-{name}");
        self.forget(&name).await?;
        let begun = Instant::now();
        let watched = self.ask(&name, "main", "whittle", "latest").await?;
        let line = tokio::time::timeout(LIMIT, watched.until_ready(begun)).await??;
        self.builds()
            .delete(&name, &DeleteParams::background())
            .await?;
        Ok(line)
    }

    /// So many runners wait beside the Builder from now on.
    async fn standby(&self, number: i32) -> Result<()> {
        let builders = Api::<Builder>::namespaced(self.client.clone(), NAMESPACE);
        let patch = Patch::Merge(json!({"spec": {"standby": number}}));
        let params = PatchParams::default();
        builders.patch("default", &params, &patch).await?;
        Ok(())
    }

    /// The same by hand.
    fn buildctl(&self) -> Result<Duration> {
        let arguments = self.buildctl_arguments("main", "buildctl:latest");
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let begun = Instant::now();
        run(arguments[0], &arguments[1..])?;
        Ok(begun.elapsed())
    }

    fn buildctl_arguments(&self, branch: &str, image: &str) -> Vec<String> {
        let at = |name: &str| self.tls.path().join(name).display().to_string();
        let mut arguments = self.node.clone();
        arguments.extend([
            "buildctl".to_owned(),
            format!("--addr={}", self.builder),
            format!("--tlscacert={}", at("builder-ca.crt")),
            format!("--tlscert={}", at("tls.crt")),
            format!("--tlskey={}", at("tls.key")),
            format!(
                "--tlsservername={}",
                names::builder_host("default", NAMESPACE, 0)
            ),
            "build".into(),
            "--progress=plain".into(),
            "--frontend=dockerfile.v0".into(),
            format!("--opt=context={}#{branch}", self.git_url),
            format!("--opt=build-arg:GOPROXY={}", self.goproxy),
            "--opt=platform=linux/amd64".into(),
            format!(
                "--output=type=image,name={}/bench/{image},push=true",
                self.registry
            ),
        ]);
        arguments
    }
}

fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!(
        "{program} {}: {}\n{}",
        arguments.join(" "),
        output.status,
        String::from_utf8_lossy(&output.stderr)
    )
    .into())
}
