//! What is measured with: a Builder and bare buildctl on its daemon, and a repository that both build.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use whittle_api::{Builder, ImageBuild};
use whittle_controller::names;

use super::NAMESPACE;
use super::timeline::{self, Timeline, Watched};

pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

pub const LIMIT: Duration = Duration::from_secs(300);

pub fn variable(name: &str) -> Result<String> {
    std::env::var(name).map_err(|_| format!("{name} is not set: run it by make").into())
}

/// So often each case is measured.
pub fn runs() -> usize {
    let runs = std::env::var("RUNS").ok();
    runs.and_then(|runs| runs.parse().ok()).unwrap_or(7)
}

pub struct Figures {
    pub median: f64,
    pub least: f64,
    pub most: f64,
}

impl Figures {
    pub fn of(times: &[Duration]) -> Self {
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

pub struct Bench {
    pub client: Client,
    tree: PathBuf,
    tls: tempfile::TempDir,
    node: Vec<String>,
    /// The daemon's address.
    pub builder: String,
    pub registry: String,
    pub git_url: String,
    pub goproxy: String,
    /// Milliseconds since 1970.
    begun: u128,
    /// All packages are compiled again, also those of Go itself: a build that has more to do.
    pub all: bool,
}

impl Bench {
    pub async fn new() -> Result<Self> {
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
            begun: SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis(),
            all: false,
            tree,
        };
        bench.repository(&PathBuf::from(variable("GIT_REPOSITORIES")?).join("bench.git"))?;
        Ok(bench)
    }

    /// Takes down the daemon's address, which it has while it is awake.
    pub async fn find_builder(&mut self) -> Result<()> {
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
        let dockerfile = self.tree.join("Dockerfile");
        let text = std::fs::read_to_string(&dockerfile)?;
        let text = text.replace("ARG TARGETOS", "ARG GOFLAGS\nARG TARGETOS");
        std::fs::write(&dockerfile, text)?;
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
    pub fn change(&self, greeting: &str) -> Result<()> {
        let path = self.tree.join("main.go");
        let text = std::fs::read_to_string(&path)?;
        let changed: Vec<String> = text
            .lines()
            .map(|line| {
                if line.starts_with("const greeting = ") {
                    // Nothing that an earlier run of the bench has built.
                    format!(
                        "const greeting = {:?}",
                        format!("{greeting} {}", self.begun)
                    )
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
    pub fn branch(&self, number: usize, greeting: &str) -> Result<()> {
        self.change(greeting)?;
        let to = format!("HEAD:refs/heads/at-once-{number}");
        self.git(&["push", "--quiet", "--force", "origin", &to])
    }

    /// Deletes an ImageBuild, if there is one.
    pub async fn forget(&self, name: &str) -> Result<()> {
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

    pub fn image_build(
        &self,
        name: &str,
        branch: &str,
        image: &str,
        tag: &str,
    ) -> Result<ImageBuild> {
        let build = json!({
            "apiVersion": "whittle.dev/v1alpha1", "kind": "ImageBuild", "metadata": {"name": name},
            "spec": {
                "source": {"git": {"url": self.git_url, "ref": {"branch": branch}}},
                "buildArgs": self.build_args().into_iter().collect::<BTreeMap<_, _>>(),
                "platforms": ["linux/amd64"],
                "output": {"image": format!("{}/bench/{image}", self.registry), "tags": [tag]},
            },
        });
        Ok(serde_json::from_value(build)?)
    }

    /// Creates an ImageBuild that does not exist, and watches it.
    pub async fn ask(&self, name: &str, branch: &str, image: &str, tag: &str) -> Result<Watched> {
        let build = self.image_build(name, branch, image, tag)?;
        let watched = timeline::watched(&self.client, NAMESPACE, name);
        self.builds().create(&PostParams::default(), &build).await?;
        Ok(watched)
    }

    /// From the ImageBuild's creation to its Ready condition.
    pub async fn whittle(&self, name: &str) -> Result<Timeline> {
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
    pub async fn standby(&self, number: i32) -> Result<()> {
        let builders = Api::<Builder>::namespaced(self.client.clone(), NAMESPACE);
        let patch = Patch::Merge(json!({"spec": {"standby": number}}));
        let params = PatchParams::default();
        builders.patch("default", &params, &patch).await?;
        Ok(())
    }

    /// The same by hand.
    pub fn buildctl(&self) -> Result<Duration> {
        let arguments = self.buildctl_arguments("main", "buildctl:latest");
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let begun = Instant::now();
        run(arguments[0], &arguments[1..])?;
        Ok(begun.elapsed())
    }

    /// buildctl in the node, and how it reaches the daemon.
    pub fn buildctl_at_the_daemon(&self) -> Vec<String> {
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
        ]);
        arguments
    }

    pub fn buildctl_arguments(&self, branch: &str, image: &str) -> Vec<String> {
        let mut arguments = self.buildctl_at_the_daemon();
        arguments.extend([
            "build".into(),
            "--progress=plain".into(),
            "--frontend=dockerfile.v0".into(),
            format!("--opt=context={}#{branch}", self.git_url),
            "--opt=platform=linux/amd64".into(),
            format!(
                "--output=type=image,name={}/bench/{image},push=true",
                self.registry
            ),
        ]);
        let all = self.build_args().into_iter();
        arguments.extend(all.map(|(name, value)| format!("--opt=build-arg:{name}={value}")));
        arguments
    }

    fn build_args(&self) -> Vec<(&'static str, &str)> {
        let flags = self.all.then_some(("GOFLAGS", "-a"));
        [("GOPROXY", self.goproxy.as_str())]
            .into_iter()
            .chain(flags)
            .collect()
    }
}

/// Polls until it is done, within [`LIMIT`].
pub async fn until(what: &str, mut done: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let begun = Instant::now();
    while !done().await? {
        if begun.elapsed() > LIMIT {
            return Err(format!("not within {LIMIT:?}: {what}").into());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

pub fn run(program: &str, arguments: &[&str]) -> Result<()> {
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
