//! A namespace with a controller of its own to act in, and the test as kubelet and Job controller.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicyBinding;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use kube::discovery::pinned_kind;
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use whittle::api::{Failure, FailureReason, ImageBuild, PlatformStatus, Steps};
use whittle::plan::report::{Built, Failed, Report, encode};

use crate::api_server::{ApiServer, free_ports};

/// How long anything may take before a test gives up on it.
const PATIENCE: Duration = Duration::from_secs(60);

/// The repository's root.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A namespace of its own.
pub struct Stage {
    pub client: Client,
    pub namespace: String,
    controller: Option<Controller>,
    folder: tempfile::TempDir,
}

struct Controller {
    process: Child,
    health: u16,
}

impl Drop for Controller {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Stage {
    /// A new namespace, without a controller.
    pub async fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let client = ApiServer::shared().admin().await;
        install(&client).await;
        let namespace = format!("stage-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        make_namespace(&client, &namespace).await;
        Self {
            client,
            namespace,
            controller: None,
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// The same, with a controller.
    pub async fn with_controller() -> Self {
        let mut stage = Self::new().await;
        stage.start_controller().await;
        stage
    }

    /// Starts the controller, with the permissions of the chart.
    ///
    /// It looks after this stage's namespace alone: other tests run beside it.
    pub async fn start_controller(&mut self) -> u16 {
        let [health, callback] = free_ports();
        let settings = self.folder.path().join("settings.json");
        let text = json!({
            "runner": {"image": "whittle:test"},
            "builder": {"image": "moby/buildkit:rootless"},
            "callback": {"url": format!("https://localhost:{callback}")},
            // Other tests' controllers keep profiles of their own.
            "probeGuard": {"name": self.namespace},
        });
        std::fs::write(&settings, text.to_string()).unwrap();
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log())
            .unwrap();
        let process = Command::new(env!("CARGO_BIN_EXE_whittle"))
            .args([
                "controller",
                "--namespace",
                "whittle-system",
                "--watch-namespace",
                &self.namespace,
                "--settings",
            ])
            .arg(&settings)
            .args(["--health-address", &format!("127.0.0.1:{health}")])
            .args(["--callback-address", &format!("127.0.0.1:{callback}")])
            .env("KUBECONFIG", ApiServer::shared().controllers_kubeconfig())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.controller = Some(Controller { process, health });
        self.until("the controller is ready", async || {
            reqwest::get(format!("http://127.0.0.1:{health}/readyz"))
                .await
                .ok()
                .filter(|answer| answer.status().is_success())
        })
        .await;
        callback
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("controller.log")
    }

    /// SIGKILL.
    pub fn kill_controller(&mut self) {
        drop(self.controller.take().expect("a controller runs"));
    }

    /// A counter of the controller.
    pub async fn metric(&self, line: &str) -> u64 {
        let health = self.controller.as_ref().unwrap().health;
        let text = reqwest::get(format!("http://127.0.0.1:{health}/metrics"))
            .await
            .unwrap()
            .text()
            .await
            .unwrap();
        text.lines()
            .find_map(|text| text.strip_prefix(line))
            .and_then(|value| value.trim().parse().ok())
            .unwrap_or(0)
    }

    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Looks until there is an answer; fails with the state of the ImageBuilds and the controller's log.
    pub async fn until<T>(&self, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(answer) = look().await {
                return answer;
            }
            if Instant::now() > deadline {
                let builds = self
                    .api::<ImageBuild>()
                    .list(&ListParams::default())
                    .await
                    .map(|list| list.items);
                let log = std::fs::read_to_string(self.log()).unwrap_or_default();
                panic!(
                    "not within {PATIENCE:?}: {what}\nImageBuilds: {builds:#?}\ncontroller:\n{log}"
                );
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Applies an ImageBuild with a small inline source; `patch` is merged into its spec.
    pub async fn apply(&self, name: &str, patch: Value) -> kube::Result<ImageBuild> {
        let mut spec = json!({
            "source": {"inline": {"files": {"Dockerfile": "FROM scratch\nCOPY a /a\n", "a": "b"}}},
            "output": {"image": "registry.example.com/team/hello"},
        });
        json_patch::merge(&mut spec, &patch);
        let object = json!({"apiVersion": "whittle.dev/v1alpha1", "kind": "ImageBuild", "metadata": {"name": name}, "spec": spec});
        self.api::<ImageBuild>()
            .patch(
                name,
                &PatchParams::apply("test").force(),
                &Patch::Apply(object),
            )
            .await
    }

    pub async fn get(&self, name: &str) -> ImageBuild {
        self.api::<ImageBuild>().get(name).await.unwrap()
    }

    /// The ImageBuild, once its Ready condition has this status and reason.
    pub async fn ready(&self, name: &str, status: &str, reason: &str) -> ImageBuild {
        self.until(&format!("{name} is Ready={status}, {reason}"), async || {
            let build = self.get(name).await;
            let generation = build.metadata.generation;
            let conditions = build.status.as_ref()?;
            let found = whittle::api::find(&conditions.conditions, "Ready")?;
            (found.status == status
                && found.reason == reason
                && conditions.observed_generation == generation)
                .then_some(build)
        })
        .await
    }

    /// Plays the StatefulSet controller: the builder's daemon is ready.
    pub async fn builder_starts(&self) {
        let sets = self.api::<StatefulSet>();
        let set = self
            .until("the builder's StatefulSet exists", async || {
                sets.get_opt("whittle-builder-default").await.unwrap()
            })
            .await;
        let status = json!({"status": {"replicas": 1, "readyReplicas": 1, "updatedReplicas": 1, "observedGeneration": set.metadata.generation}});
        sets.patch_status(
            &set.name_any(),
            &PatchParams::default(),
            &Patch::Merge(status),
        )
        .await
        .unwrap();
    }

    /// All runner Jobs, oldest first.
    pub async fn jobs(&self) -> Vec<Job> {
        let mut jobs = self
            .api::<Job>()
            .list(&ListParams::default())
            .await
            .unwrap()
            .items;
        jobs.sort_by_key(|job| job.metadata.creation_timestamp.clone());
        jobs
    }

    /// Names of the Jobs of builds that are under way.
    pub async fn active_jobs(&self) -> Vec<String> {
        let builds = self.api::<ImageBuild>();
        let builds = builds.list(&ListParams::default()).await.unwrap();
        let current: Vec<String> = builds
            .into_iter()
            .filter_map(|build| Some(build.status?.current?.job))
            .collect();
        let mut jobs = vec![];
        for job in self.jobs().await {
            if current.contains(&job.name_any()) {
                jobs.push(job.name_any());
            }
        }
        jobs
    }

    /// The Job of the attempt that the status names.
    pub async fn job(&self, name: &str) -> Job {
        self.until(&format!("{name} has a Job"), async || {
            let current = self.get(name).await.status?.current?;
            self.api::<Job>().get_opt(&current.job).await.unwrap()
        })
        .await
    }

    /// Plays the Job controller and the scheduler: the Job has a Pod, in this state.
    pub async fn pod(&self, job: &Job, status: Value) -> Pod {
        let pods = self.api::<Pod>();
        let name = format!("{}-x", job.name_any());
        if pods.get_opt(&name).await.unwrap().is_none() {
            let template = job.spec.clone().unwrap().template;
            let mut pod = Pod {
                metadata: template.metadata.unwrap(),
                spec: template.spec,
                status: None,
            };
            pod.metadata.name = Some(name.clone());
            pod.metadata.owner_references = job.controller_owner_ref(&()).map(|owner| vec![owner]);
            pods.create(&PostParams::default(), &pod).await.unwrap();
        }
        pods.patch_status(
            &name,
            &PatchParams::default(),
            &Patch::Merge(json!({"status": status})),
        )
        .await
        .unwrap()
    }

    /// Plays the kubelet: the runner has ended with this termination message.
    pub async fn pod_ends(&self, job: &Job, report: &Report) {
        self.pod(job, ended(&encode(report))).await;
    }

    /// The Pod goes without the kubelet's word.
    pub async fn pod_is_deleted(&self, job: &Job) {
        let name = format!("{}-x", job.name_any());
        self.api::<Pod>()
            .delete(&name, &DeleteParams::default().grace_period(0))
            .await
            .unwrap();
    }

    /// A node, on which nothing runs.
    pub async fn node(&self) {
        let labels = json!({"kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"});
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node", "labels": labels}});
        apply(&self.client, node).await;
    }

    /// From now on nobody can delete objects of this resource here; it may take a second to be so.
    pub async fn refuse_to_delete(&self, resource: &str) -> Refusal {
        let name = format!("{}-{resource}", self.namespace);
        let kind = |kind: &str, spec: Value| json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": name}, "spec": spec});
        let here = json!({"matchLabels": {"kubernetes.io/metadata.name": self.namespace}});
        let rules = json!([{"apiGroups": ["*"], "apiVersions": ["*"], "operations": ["DELETE"], "resources": [resource]}]);
        for object in [
            kind(
                "ValidatingAdmissionPolicy",
                json!({"matchConstraints": {"resourceRules": rules}, "validations": [{"expression": "false"}]}),
            ),
            kind(
                "ValidatingAdmissionPolicyBinding",
                json!({"policyName": name, "validationActions": ["Deny"], "matchResources": {"namespaceSelector": here}}),
            ),
        ] {
            apply(&self.client, object).await;
        }
        Refusal(Api::all(self.client.clone()), name)
    }

    /// The names of the ConfigMaps that carry requests.
    pub async fn requests(&self) -> Vec<String> {
        let maps = self
            .api::<ConfigMap>()
            .list(&ListParams::default().labels("whittle.dev/component=runner"))
            .await
            .unwrap();
        maps.items.iter().map(ResourceExt::name_any).collect()
    }
}

/// A policy that refuses; it stands until its end.
pub struct Refusal(Api<ValidatingAdmissionPolicyBinding>, String);

impl Refusal {
    pub async fn end(self) {
        let now = DeleteParams::default();
        self.0.delete(&self.1, &now).await.unwrap();
    }
}

/// A Pod's status whose runner has ended with this message.
pub fn ended(message: &str) -> Value {
    json!({"phase": "Succeeded", "containerStatuses": [{
        "name": "runner", "image": "whittle:test", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"terminated": {"exitCode": 0, "message": message}}}]})
}

/// A small success.
pub fn success(digest: &str) -> Report {
    Report::Succeeded(Built {
        digest: digest.into(),
        platforms: vec![PlatformStatus {
            platform: "linux/amd64".into(),
            digest: digest.into(),
            size: 1234,
            layers: vec![],
            contents: None,
        }],
        revision: Some("inline@sha256:00".into()),
        steps: Steps {
            total: 3,
            cached: 1,
        },
        ..Built::default()
    })
}

/// A small failure.
pub fn failure(reason: FailureReason) -> Report {
    Report::Failed(Failed {
        failure: Failure {
            reason,
            message: "it broke".into(),
            step: Some("RUN false".into()),
            dockerfile_line: Some(2),
            log: Some("oh".into()),
            hint: None,
            image: None,
        },
        revision: None,
        steps: Steps {
            total: 3,
            cached: 0,
        },
        advice: vec![],
        breaches: vec![],
    })
}

pub async fn make_namespace(client: &Client, name: &str) {
    let namespace = Namespace {
        metadata: kube::api::ObjectMeta {
            name: Some(name.into()),
            ..Default::default()
        },
        ..Default::default()
    };
    let _ = Api::<Namespace>::all(client.clone())
        .create(&PostParams::default(), &namespace)
        .await;
}

/// The CRDs, and the permissions that the chart gives: once for all tests.
async fn install(client: &Client) {
    static DONE: OnceCell<()> = OnceCell::const_new();
    DONE.get_or_init(|| install_into(client)).await;
}

/// The same, into any API server.
pub async fn install_into(client: &Client) {
    make_namespace(client, "whittle-system").await;
    let crds = Api::<CustomResourceDefinition>::all(client.clone());
    for crd in whittle::api::crds() {
        let name = crd.name_any();
        crds.patch(&name, &PatchParams::apply("test"), &Patch::Apply(&crd))
            .await
            .unwrap();
        let established = kube::runtime::wait::await_condition(
            crds.clone(),
            &name,
            kube::runtime::conditions::is_crd_established(),
        );
        tokio::time::timeout(PATIENCE, established)
            .await
            .expect("the CRD is established in time")
            .unwrap();
    }
    let text = std::fs::read_to_string(root().join("config/default/whittle.yaml")).unwrap();
    for object in serde_saphyr::from_multiple::<Value>(&text).unwrap() {
        let kind = object["kind"].as_str().unwrap_or_default();
        if matches!(
            kind,
            "ClusterRole"
                | "ClusterRoleBinding"
                | "Role"
                | "RoleBinding"
                | "ValidatingAdmissionPolicy"
                | "ValidatingAdmissionPolicyBinding"
        ) {
            apply(client, object).await;
        }
    }
}

/// Server-side apply.
pub async fn apply(client: &Client, object: Value) {
    let object: DynamicObject = serde_json::from_value(object).unwrap();
    let types = object.types.clone().unwrap();
    let (group, version) = types
        .api_version
        .split_once('/')
        .unwrap_or(("", &types.api_version));
    let (resource, _) = pinned_kind(client, &GroupVersionKind::gvk(group, version, &types.kind))
        .await
        .unwrap();
    let api: Api<DynamicObject> = match object.namespace() {
        Some(namespace) => Api::namespaced_with(client.clone(), &namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    api.patch(
        &object.name_any(),
        &PatchParams::apply("test").force(),
        &Patch::Apply(&object),
    )
    .await
    .unwrap();
}
