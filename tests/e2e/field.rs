//! A namespace to build in, and what tests ask of it.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{DeleteParams, ListParams, LogParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::{OnceCell, Semaphore, SemaphorePermit};
use whittle_api::{
    Failure, FailureReason, ImageBuild, ImageBuildStatus, IsolationMode, Sharing, find,
};

use crate::tell::tell;

/// How long anything may take before a test gives up on it.
pub const PATIENCE: Duration = Duration::from_secs(240);
/// Between two looks: dozens of tests look at one API server.
const POLL: Duration = Duration::from_millis(200);
/// Tests at a time: each has a builder, and there may be as few as two processors.
static PLACES: Semaphore = Semaphore::const_new(4);

pub fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run `make test-e2e`"))
}

/// The controller's Pods in its own namespace, which has others.
pub fn controllers() -> ListParams {
    ListParams::default().labels("app.kubernetes.io/component=controller")
}

/// The local registry, as written in `spec.output.image`.
pub fn registry() -> String {
    variable("REGISTRY")
}

/// A namespace of its own.
pub struct Field {
    pub client: Client,
    pub namespace: String,
    /// How long [`Self::until`] looks.
    pub patience: Duration,
    _place: SemaphorePermit<'static>,
}

impl Field {
    pub async fn new(topic: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let _ = rustls::crypto::ring::default_provider().install_default();
        let place = PLACES.acquire().await.unwrap();
        let client = Client::try_default()
            .await
            .expect("KUBECONFIG leads to a cluster: run `make test-e2e`");
        prepare(&client).await;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let namespace = match std::env::var_os("NEXTEST_RUN_ID") {
            None => format!("e2e-{topic}-{}-{number}", std::process::id()),
            // Each test is a process of its own: what it leaves when it fails stays while the others run.
            Some(_) => format!(
                "e2e-{topic}-{}-{}-{number}",
                std::os::unix::process::parent_id(),
                std::process::id()
            ),
        };
        // What builders need: tests/install.sh.
        let rootless = std::env::var("ISOLATION").is_ok_and(|it| it == "Rootless");
        let level = if rootless { "privileged" } else { "baseline" };
        let object = json!({"metadata": {"name": namespace, "labels": {
            "whittle.dev/e2e": "true", "pod-security.kubernetes.io/enforce": level}}});
        let namespaces = Api::<Namespace>::all(client.clone());
        namespaces
            .create(
                &PostParams::default(),
                &serde_json::from_value(object).unwrap(),
            )
            .await
            .unwrap();
        Self {
            client,
            namespace,
            patience: PATIENCE,
            _place: place,
        }
    }

    /// The namespace goes; nobody waits for it.
    pub async fn close(self) {
        let namespaces = Api::<Namespace>::all(self.client.clone());
        namespaces
            .delete(&self.namespace, &DeleteParams::background())
            .await
            .unwrap();
    }

    /// Holds the namespace to a level of Pod Security.
    pub async fn hold_to(&self, level: &str) {
        let labels = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": level}}});
        let namespaces = Api::<Namespace>::all(self.client.clone());
        let patch = Patch::Merge(labels);
        namespaces
            .patch(&self.namespace, &PatchParams::default(), &patch)
            .await
            .unwrap();
    }

    /// Makes the Builder isolated and shared in this way, and holds the namespace to what it needs.
    pub async fn isolated(&self, mode: IsolationMode, sharing: Sharing) {
        let registries = json!([
            {"host": registry(), "plainHTTP": true},
            {"host": "docker.io", "mirrors": [registry()]},
        ]);
        let level = match mode {
            IsolationMode::UserNamespace => "baseline",
            IsolationMode::Rootless => "privileged",
        };
        self.hold_to(level).await;
        self.create(json!({"apiVersion": "whittle.dev/v1alpha1", "kind": "Builder", "metadata": {"name": "default"},
            "spec": {"isolation": mode.as_str(), "sharing": sharing, "cache": {"size": "1Gi"}, "registries": registries,
                "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}}}}))
        .await;
    }

    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// A repository within the local registry for an image of this test.
    pub fn image(&self, name: &str) -> String {
        format!("{}/{}/{name}", registry(), self.namespace)
    }

    /// Applies an ImageBuild of these inline files; `patch` is merged into its spec.
    pub async fn build(&self, name: &str, files: Value, patch: Value) -> ImageBuild {
        self.apply(name, json!({"inline": {"files": files}}), patch)
            .await
    }

    /// Applies an ImageBuild of this source; `patch` is merged into its spec.
    pub async fn apply(&self, name: &str, source: Value, patch: Value) -> ImageBuild {
        // Most images of the tests hold a file and nothing to start: tests of the contract say otherwise.
        let mut spec = json!({"source": source, "output": {"image": self.image(name)},
            "contract": {"warn": ["RunnableEntrypoint"]}});
        json_patch::merge(&mut spec, &patch);
        let object = json!({"apiVersion": "whittle.dev/v1alpha1", "kind": "ImageBuild", "metadata": {"name": name}, "spec": spec});
        self.api::<ImageBuild>()
            .patch(
                name,
                &PatchParams::apply("e2e").force(),
                &Patch::Apply(object),
            )
            .await
            .unwrap()
    }

    /// A Builder for the long tables, which takes several builds at a time.
    pub async fn builder_of_tables(&self, at_a_time: usize) {
        let local = registry();
        self.create(json!({
            "apiVersion": "whittle.dev/v1alpha1", "kind": "Builder", "metadata": {"name": "default"},
            "spec": {
                "cache": {"size": "8Gi"}, "maxConcurrentBuilds": at_a_time,
                "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}},
                "registries": [
                    {"host": local, "plainHTTP": true},
                    {"host": "docker.io", "mirrors": [local]},
                    {"host": "gcr.io", "mirrors": [local]},
                ],
            },
        }))
        .await;
    }

    pub async fn create(&self, object: Value) {
        self.apply_object(object, true).await;
    }

    /// As [`Field::create`], for what belongs to no namespace.
    pub async fn create_for_all(&self, object: Value) {
        self.apply_object(object, false).await;
    }

    async fn apply_object(&self, object: Value, namespaced: bool) {
        let types: kube::api::TypeMeta = serde_json::from_value(object.clone()).unwrap();
        let (group, version) = types
            .api_version
            .split_once('/')
            .unwrap_or(("", &types.api_version));
        let kind = kube::core::GroupVersionKind::gvk(group, version, &types.kind);
        let (resource, _) = kube::discovery::pinned_kind(&self.client, &kind)
            .await
            .unwrap();
        let object: kube::api::DynamicObject = serde_json::from_value(object).unwrap();
        let client = self.client.clone();
        let api: Api<kube::api::DynamicObject> = match namespaced {
            true => Api::namespaced_with(client, &self.namespace, &resource),
            false => Api::all_with(client, &resource),
        };
        api.patch(
            &object.name_any(),
            &PatchParams::apply("e2e").force(),
            &Patch::Apply(&object),
        )
        .await
        .unwrap();
    }

    /// Looks until there is an answer; at the end of patience, tells all that may help.
    pub async fn until<T>(&self, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + self.patience;
        loop {
            if let Some(answer) = look().await {
                return answer;
            }
            if Instant::now() > deadline {
                panic!(
                    "{}: not within {:?}: {what}\n{}",
                    self.namespace,
                    self.patience,
                    tell(self).await
                );
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// The ImageBuild, once Ready has this status and reason for its newest generation.
    pub async fn ready(&self, name: &str, status: &str, reason: &str) -> ImageBuildStatus {
        self.until(&format!("{name} is Ready={status}, {reason}"), async || {
            let build = self.api::<ImageBuild>().get(name).await.unwrap();
            let seen = build.status?;
            let condition = find(&seen.conditions, "Ready")?.clone();
            let as_asked = condition.status == status && condition.reason == reason;
            let ended_otherwise = find(&seen.conditions, "Stalled").is_some() && !as_asked;
            let current = seen.observed_generation == build.metadata.generation;
            assert!(
                !(current && ended_otherwise),
                "{name}: {condition:#?}\n{:#?}",
                seen.failure
            );
            (current && as_asked).then_some(seen)
        })
        .await
    }

    /// Why the build failed, once it has, for this reason and at its first attempt.
    pub async fn fails(&self, name: &str, reason: FailureReason) -> Failure {
        let status = self.ready(name, "False", reason.as_str()).await;
        let failure = status.failure.expect("a failed build says why");
        assert_eq!(failure.reason, reason);
        assert_eq!(self.jobs(name).await.len(), 1, "there is one attempt");
        failure
    }

    /// Why build `number` of this ImageBuild failed, once it has, for this reason.
    pub async fn fails_again(&self, name: &str, number: i64, reason: FailureReason) -> Failure {
        let failure = self
            .until(
                &format!("build {number} of {name} has failed"),
                async || {
                    let status = self.api::<ImageBuild>().get(name).await.unwrap().status?;
                    let ended = status.build == Some(number) && status.current.is_none();
                    ended.then_some(status.failure).flatten()
                },
            )
            .await;
        assert_eq!(failure.reason, reason, "{failure:#?}");
        failure
    }

    pub async fn succeeds(&self, name: &str) -> ImageBuildStatus {
        self.ready(name, "True", "Succeeded").await
    }

    /// The number of build `number` of this ImageBuild, once it has ended well.
    pub async fn succeeds_again(&self, name: &str, number: i64) -> ImageBuildStatus {
        self.until(&format!("build {number} of {name} has ended"), async || {
            let status = self.api::<ImageBuild>().get(name).await.unwrap().status?;
            (status.build == Some(number) && status.completed_at.is_some()).then_some(status)
        })
        .await;
        self.succeeds(name).await
    }

    pub async fn request(&self, name: &str) {
        let patch = json!({"metadata": {"annotations": {"whittle.dev/requestedAt": format!("{:?}", Instant::now())}}});
        self.api::<ImageBuild>()
            .patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .unwrap();
    }

    /// The Jobs of this ImageBuild.
    pub async fn jobs(&self, name: &str) -> Vec<Job> {
        let jobs = self
            .api::<Job>()
            .list(&ListParams::default())
            .await
            .unwrap()
            .items;
        jobs.into_iter()
            .filter(|job| {
                job.annotations()
                    .get("whittle.dev/imagebuild")
                    .is_some_and(|of| of == name)
            })
            .collect()
    }

    /// The runner's Pod of the build that runs, once it is in this phase.
    pub async fn runner(&self, name: &str, phase: &str) -> Pod {
        self.until(&format!("the runner of {name} is {phase}"), async || {
            let pods = self
                .api::<Pod>()
                .list(&ListParams::default().labels("whittle.dev/component=runner"))
                .await
                .unwrap();
            pods.items.into_iter().find(|pod| {
                pod.annotations()
                    .get("whittle.dev/imagebuild")
                    .is_some_and(|of| of == name)
                    && pod
                        .status
                        .as_ref()
                        .and_then(|status| status.phase.as_deref())
                        == Some(phase)
            })
        })
        .await
    }

    /// A runner's Pod of this ImageBuild, whatever its phase.
    pub async fn runner_any(&self, name: &str) -> Option<Pod> {
        let pods = self
            .api::<Pod>()
            .list(&ListParams::default().labels("whittle.dev/component=runner"))
            .await
            .unwrap();
        pods.items.into_iter().find(|pod| {
            pod.annotations()
                .get("whittle.dev/imagebuild")
                .is_some_and(|of| of == name)
        })
    }

    /// The build's own step has begun: its progress says so.
    pub async fn step_runs(&self, name: &str, step: &str) {
        self.until(&format!("{name} is at {step}"), async || {
            let message = self
                .api::<ImageBuild>()
                .get(name)
                .await
                .unwrap()
                .status?
                .current?
                .message?;
            message.contains(step).then_some(())
        })
        .await;
    }

    pub async fn log(&self, pod: &str) -> String {
        self.api::<Pod>()
            .logs(pod, &LogParams::default())
            .await
            .unwrap_or_else(|error| error.to_string())
    }
}

/// Whittle is there, and what an interrupted run left goes.
async fn prepare(client: &Client) {
    static DONE: OnceCell<()> = OnceCell::const_new();
    DONE.get_or_init(|| async {
        let system = Api::<k8s_openapi::api::apps::v1::Deployment>::namespaced(
            client.clone(),
            "whittle-system",
        );
        // Another test may just have killed the controller: it comes back.
        let deadline = Instant::now() + Duration::from_secs(180);
        loop {
            let whittle = system.get_opt("whittle").await.unwrap();
            let whittle =
                whittle.expect("Whittle is not installed in whittle-system: run `make test-e2e`");
            if whittle.status.and_then(|s| s.ready_replicas) > Some(0) {
                break;
            }
            assert!(
                Instant::now() < deadline,
                "Whittle in whittle-system does not become ready: see its log"
            );
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        let namespaces = Api::<Namespace>::all(client.clone());
        for old in namespaces
            .list(&ListParams::default().labels("whittle.dev/e2e=true"))
            .await
            .unwrap()
        {
            if is_running(&old.name_any()) {
                continue;
            }
            let _ = namespaces
                .delete(&old.name_any(), &DeleteParams::background())
                .await;
        }
    })
    .await;
}

/// True where the run that a namespace is named after goes on, its runner or its one process: then it is not what an
/// interrupted run left.
fn is_running(namespace: &str) -> bool {
    let process = namespace
        .split('-')
        .find(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()));
    process.is_some_and(|process| {
        std::fs::read_to_string(format!("/proc/{process}/cmdline"))
            .is_ok_and(|line| line.contains("e2e"))
    })
}

/// A bare repository of the local git server, and a work tree that pushes to it.
pub struct Repository {
    pub url: String,
    tree: tempfile::TempDir,
    bare: PathBuf,
}

impl Repository {
    pub fn new(name: &str) -> Self {
        let bare = PathBuf::from(variable("GIT_REPOSITORIES")).join(format!("{name}.git"));
        let tree = tempfile::tempdir().unwrap();
        git(&[
            "init",
            "--quiet",
            "--bare",
            "--initial-branch",
            "main",
            &bare.display().to_string(),
        ]);
        git(&[
            "-C",
            &tree.path().display().to_string(),
            "init",
            "--quiet",
            "--initial-branch",
            "main",
        ]);
        Self {
            url: format!("{}/{name}.git", variable("GIT_URL")),
            tree,
            bare,
        }
    }

    /// The work tree's folder.
    pub fn tree(&self) -> &std::path::Path {
        self.tree.path()
    }

    /// An annotated tag on the last commit.
    pub fn tag(&self, name: &str) {
        let tree = self.tree.path().display().to_string();
        let user = ["-c", "user.name=e2e", "-c", "user.email=e2e@example.com"];
        git(&[
            &["-C", &tree][..],
            &user,
            &["tag", "--annotate", "--message", name, name],
        ]
        .concat());
        git(&[
            "-C",
            &tree,
            "push",
            "--quiet",
            &self.bare.display().to_string(),
            name,
        ]);
    }

    /// Enters another repository's commit as a submodule; the next commit has it.
    pub fn submodule(&self, path: &str, url: &str, commit: &str) {
        let tree = self.tree.path().display().to_string();
        let text = format!("[submodule \"{path}\"]\n\tpath = {path}\n\turl = {url}\n");
        std::fs::write(self.tree.path().join(".gitmodules"), text).unwrap();
        let entry = format!("160000,{commit},{path}");
        // The folder itself, or `git add --all` would take the entry away again.
        std::fs::create_dir_all(self.tree.path().join(path)).unwrap();
        git(&["-C", &tree, "update-index", "--add", "--cacheinfo", &entry]);
    }

    /// Writes files, commits and pushes; the commit.
    pub fn commit(&self, files: &[(&str, &str)], reference: &str) -> String {
        for (name, text) in files {
            let path = self.tree.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let tree = self.tree.path().display().to_string();
        git(&["-C", &tree, "add", "--all"]);
        git(&[
            "-C",
            &tree,
            "-c",
            "user.name=e2e",
            "-c",
            "user.email=e2e@example.com",
            "commit",
            "--quiet",
            "--message",
            "change",
        ]);
        git(&[
            "-C",
            &tree,
            "push",
            "--quiet",
            &self.bare.display().to_string(),
            &format!("HEAD:{reference}"),
        ]);
        git(&["-C", &tree, "rev-parse", "HEAD"])
    }
}

impl Drop for Repository {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.bare);
    }
}

fn git(arguments: &[&str]) -> String {
    let output = Command::new("git")
        .args(arguments)
        .env_remove("GIT_DIR")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "git {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
