//! A namespace with a controller of its own to act in, and the test as kubelet and Job controller.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicyBinding;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Secret};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams,
};
use kube::core::GroupVersionKind;
use kube::discovery::pinned_kind;
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::{Value, json};
use whittle_api::{Failure, FailureReason, ImageBuild, Phases, PlatformStatus, Steps};
use whittle_build::report::{Built, Failed, Report, encode};

use crate::api_server::{ApiServer, CONTROLLER, free_ports};
use crate::shared::{Shared, shared};

/// How long anything may take, but where a test has more of it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Images of runners and builders, in the settings and in the policies.
pub const RUNNER: &str = "whittle:test";
pub const BUILDER: &str = "moby/buildkit:rootless";

/// The repository's root.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A namespace of its own.
pub struct Stage {
    pub client: Client,
    pub namespace: String,
    pub server: &'static ApiServer,
    everywhere: bool,
    /// Where runners find the controller, as its settings say.
    pub callback_host: String,
    /// How long anything may take before a test gives up on it.
    pub patience: Duration,
    /// What controllers that start from now on reach the API server by; its own otherwise.
    pub account: Option<PathBuf>,
    /// What is merged into their settings.
    pub settings: Value,
    /// What they have in their environment beside that.
    pub environment: Vec<(&'static str, PathBuf)>,
    controller: Option<Controller>,
    /// Where the controller that was started last is told things.
    pub callback_port: u16,
    /// Of other installations.
    others: Vec<Controller>,
    folder: tempfile::TempDir,
}

/// A controller's process, until it is dropped: SIGKILL.
pub struct Controller {
    pub process: Child,
    /// The port of its health and metrics.
    pub health: u16,
}

impl Drop for Controller {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

async fn is_up(controller: &Controller) -> bool {
    let ready = reqwest::get(format!("http://127.0.0.1:{}/readyz", controller.health)).await;
    ready.is_ok_and(|answer| answer.status().is_success())
}

impl Stage {
    /// A new namespace, without a controller.
    pub async fn new() -> Self {
        Self::on(ApiServer::shared()).await
    }

    /// A new namespace on this API server.
    pub async fn on(server: &'static ApiServer) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let client = server.admin().await;
        install_into(server, &client).await;
        // Other tests of the run may be other processes.
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let namespace = format!("stage-{}-{number}", std::process::id());
        make_namespace(&client, &namespace).await;
        make_lease(&client, "whittle-system", &namespace, CONTROLLER).await;
        Self {
            client,
            namespace,
            server,
            everywhere: false,
            callback_host: "localhost".into(),
            patience: PATIENCE,
            account: None,
            settings: json!({}),
            environment: vec![],
            controller: None,
            callback_port: 0,
            others: vec![],
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// The same, with a controller.
    pub async fn with_controller() -> Self {
        let mut stage = Self::new().await;
        stage.start_controller().await;
        stage
    }

    /// Its API server.
    pub fn server(&self) -> &'static ApiServer {
        self.server
    }

    /// From now on a controller that starts looks after all namespaces: for a test that has the API server to itself.
    pub fn everywhere(&mut self) {
        self.everywhere = true;
    }

    /// The controller's process, for tests/bench/watch.rs.
    #[allow(dead_code)]
    pub fn controllers_id(&self) -> u32 {
        self.controller.as_ref().unwrap().process.id()
    }

    /// The most memory that the controller's process has had, in bytes.
    pub fn peak_memory(&self) -> u64 {
        self.memory("VmHWM:")
    }

    /// The memory that the controller's process has now, in bytes.
    pub fn memory_now(&self) -> u64 {
        self.memory("VmRSS:")
    }

    fn memory(&self, which: &str) -> u64 {
        let id = self.controller.as_ref().unwrap().process.id();
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix(which));
        let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        kilobytes.expect("the controller lives") * 1024
    }

    /// What the chart's template makes of these values.
    pub fn rendered(&self, template: &str, values: &[String]) -> Vec<Value> {
        let helm = PathBuf::from(std::env::var("CLUSTER_BIN").unwrap()).join("helm");
        let mut command = Command::new(&helm);
        command
            .args(["template", "whittle"])
            .arg(root().join("charts/whittle"))
            .args(["--namespace", "whittle-system", "--show-only"])
            .arg(format!("templates/{template}"))
            .args(["--set", &format!("fullnameOverride={}", self.namespace)])
            .args(["--set", "serviceAccount.name=whittle"]);
        for value in values {
            command.args(["--set-json", value]);
        }
        let output = command.output().unwrap_or_else(|error| {
            panic!(
                "{}: {error}: make test-integration builds it",
                helm.display()
            )
        });
        assert!(output.status.success(), "{output:?}");
        serde_saphyr::from_multiple::<Value>(&String::from_utf8(output.stdout).unwrap()).unwrap()
    }

    /// Metadata has no bound any more, as before there was the policy; it stops to hold a moment later.
    pub async fn unbind_metadata(&self) {
        let bindings = Api::<ValidatingAdmissionPolicyBinding>::all(self.client.clone());
        bindings
            .delete("whittle-metadata", &DeleteParams::default())
            .await
            .unwrap();
    }

    /// Applies an object of any kind.
    pub async fn install(&self, object: Value) {
        apply(&self.client, object).await;
    }

    /// Starts the controller, with the permissions of the chart, and waits until it is ready.
    ///
    /// It looks after this stage's namespace alone: other tests run beside it.
    pub async fn start_controller(&mut self) -> u16 {
        let (controller, callback) = self.start_replica("whittle-0").await;
        self.controller = Some(controller);
        self.callback_port = callback;
        callback
    }

    /// The same without waiting.
    pub async fn launch_controller(&mut self) -> u16 {
        let (controller, callback) = self.launch_replica("whittle-0").await;
        self.controller = Some(controller);
        self.callback_port = callback;
        callback
    }

    /// Starts a controller in a Pod of this name, and returns it and the port of its callback: one of several, which are
    /// the caller's. In the Pod of one that was killed it is the same container started again.
    pub async fn start_replica(&self, pod: &str) -> (Controller, u16) {
        let (controller, callback) = self.launch_replica(pod).await;
        self.is_ready(&controller).await;
        (controller, callback)
    }

    async fn launch_replica(&self, pod: &str) -> (Controller, u16) {
        let namespaces = match self.everywhere {
            true => vec![],
            false => vec![&self.namespace],
        };
        // With the API server to itself it is the one that the policies know.
        let name = match self.everywhere {
            true => "whittle",
            false => &self.namespace,
        };
        let here = json!({"watch": {"namespaces": namespaces}, "probeGuard": {"name": name},
            "installation": format!("whittle-system/{name}")});
        let account = self.account.clone();
        let account = account.unwrap_or_else(|| self.server.controllers_kubeconfig());
        self.launch(pod, "whittle-system", here, account)
    }

    /// What a controller of [`Self::start_controller`] calls its installation.
    pub fn installation(&self) -> String {
        format!("whittle-system/{}", self.namespace)
    }

    /// Starts the controller of another installation, whose own namespace is `home`; `settings` are merged into the
    /// usual ones.
    pub async fn start_another(&mut self, home: &str, settings: Value) {
        let account = ApiServer::shared().controllers_kubeconfig();
        self.start_as(account, home, settings).await;
    }

    /// The same with the account [`crate::api_server::BOUND`].
    pub async fn start_bound(&mut self, settings: Value) {
        let account = ApiServer::shared().bound_kubeconfig();
        self.start_as(account, "whittle-bound", settings).await;
    }

    async fn start_as(&mut self, account: PathBuf, home: &str, settings: Value) {
        let installation = format!("{home}/whittle");
        if home != "whittle-bound" {
            // The policies hold the one account of most controllers here to whittle-system.
            let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "own", "namespace": home},
                "rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]});
            self.make_home(home, role, CONTROLLER).await;
            make_lease(&self.client, home, "whittle", CONTROLLER).await;
        }
        let mut all = json!({"installation": installation});
        json_patch::merge(&mut all, &settings);
        let (controller, _) = self.launch("whittle-0", home, all, account);
        self.is_ready(&controller).await;
        self.others.push(controller);
    }

    /// A namespace for another installation's controller: with its authority, and a role for its account.
    pub async fn make_home(&self, home: &str, role: Value, account: &str) {
        make_namespace(&self.client, home).await;
        let secrets = Api::<Secret>::namespaced(self.client.clone(), home);
        if secrets.get_opt("whittle-ca").await.unwrap().is_some() {
            return;
        }
        let authority = whittle_controller::cluster::pki::Authority::make().unwrap();
        let name = role["metadata"]["name"].clone();
        for object in [
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "whittle-ca", "namespace": home}, "type": "kubernetes.io/tls", "stringData": authority.files()}),
            role,
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": name, "namespace": home},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
                "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": account}]}),
        ] {
            apply(&self.client, object).await;
        }
    }

    fn launch(&self, pod: &str, home: &str, patch: Value, account: PathBuf) -> (Controller, u16) {
        let [health, callback] = free_ports();
        let settings = self.folder.path().join(format!("settings-{health}.json"));
        let mut all = json!({
            "runner": {"image": RUNNER},
            "builder": {"image": BUILDER},
            "callback": {"url": format!("https://{}:{callback}", self.callback_host)},
            // Other tests' controllers keep profiles of their own.
            "probeGuard": {"name": self.namespace},
        });
        json_patch::merge(&mut all, &patch);
        json_patch::merge(&mut all, &self.settings);
        std::fs::write(&settings, all.to_string()).unwrap();
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log())
            .unwrap();
        // WHITTLE: another build of it, to be compared with.
        let program = std::env::var_os("WHITTLE");
        let program = program.unwrap_or_else(|| env!("CARGO_BIN_EXE_whittle").into());
        let process = Command::new(program)
            .args(["controller", "--namespace", home, "--settings"])
            .arg(&settings)
            .args(["--health-address", &format!("127.0.0.1:{health}")])
            .args(["--callback-address", &format!("127.0.0.1:{callback}")])
            .args(["--webhook-address", "127.0.0.1:0"])
            .env("KUBECONFIG", account)
            .env("POD_NAME", pod)
            .envs(self.environment.iter().cloned())
            // As in the chart.
            .envs([("MIMALLOC_ALLOW_THP", "0"), ("MIMALLOC_PURGE_DELAY", "0")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        (Controller { process, health }, callback)
    }

    async fn is_ready(&self, controller: &Controller) {
        let up = async || is_up(controller).await.then_some(());
        self.until("the controller is ready", up).await;
    }

    /// Whether the controller is ready.
    pub async fn is_up(&self) -> bool {
        is_up(self.controller.as_ref().expect("there is a controller")).await
    }

    /// What its controllers have logged.
    pub fn controllers_log(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap_or_default()
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("controller.log")
    }

    /// SIGKILL.
    pub fn kill_controller(&mut self) {
        drop(self.controller.take().expect("a controller runs"));
    }

    /// Starts a controller that has ended again in its Pod, as the kubelet does: one that cannot renew its Lease ends.
    pub async fn revive(&mut self) {
        let controller = self.controller.as_mut().expect("there was a controller");
        if controller.process.try_wait().unwrap().is_some() {
            self.launch_controller().await;
        }
    }

    /// The most memory that the controller has had, in KiB.
    pub fn controllers_memory(&self) -> u64 {
        let id = self.controller.as_ref().unwrap().process.id();
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
        let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
        let number = line.unwrap().trim().trim_end_matches(" kB");
        number.parse().unwrap()
    }

    /// The port of the controller's health and metrics, on this machine.
    pub fn health(&self) -> u16 {
        self.controller.as_ref().unwrap().health
    }

    /// A counter of the controller.
    pub async fn metric(&self, line: &str) -> u64 {
        metric(self.controller.as_ref().unwrap(), line).await
    }

    /// A counter of each other installation's controller.
    pub async fn metrics_of_others(&self, line: &str) -> Vec<u64> {
        let mut all = vec![];
        for controller in &self.others {
            all.push(metric(controller, line).await);
        }
        all
    }

    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Looks until there is an answer; fails with the state of the ImageBuilds and the controller's log.
    pub async fn until<T>(&self, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
        let patience = self.patience;
        let deadline = Instant::now() + patience;
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
                let log = self.controllers_log();
                panic!(
                    "not within {patience:?}: {what}\nImageBuilds: {builds:#?}\ncontroller:\n{log}"
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
            let found = whittle_api::find(&conditions.conditions, "Ready")?;
            (found.status == status
                && found.reason == reason
                && conditions.observed_generation == generation)
                .then_some(build)
        })
        .await
    }

    /// Plays the StatefulSet controller: the builder's daemon is ready.
    pub async fn builder_starts(&self) {
        self.named_builder_starts("default").await;
    }

    /// The same for the Builder of this name.
    pub async fn named_builder_starts(&self, name: &str) {
        let name = format!("whittle-builder-{name}");
        let sets = self.api::<StatefulSet>();
        let set = self
            .until("the builder's StatefulSet exists", async || {
                sets.get_opt(&name).await.unwrap()
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
            let pod = pod_of(job);
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
        self.refuse("DELETE", resource, "not here").await
    }

    /// From now on nobody can do this to this resource here, and is told so in these words; it may take a second to
    /// be so.
    pub async fn refuse(&self, operation: &str, resource: &str, words: &str) -> Refusal {
        let name = format!("{}-{}", self.namespace, resource.replace('/', "-"));
        let kind = |kind: &str, spec: Value| json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": name}, "spec": spec});
        let here = json!({"matchLabels": {"kubernetes.io/metadata.name": self.namespace}});
        let rules = json!([{"apiGroups": ["*"], "apiVersions": ["*"], "operations": [operation], "resources": [resource]}]);
        for object in [
            kind(
                "ValidatingAdmissionPolicy",
                json!({"matchConstraints": {"resourceRules": rules}, "validations": [{"expression": "false", "message": words}]}),
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

/// A counter of this controller.
pub async fn metric(controller: &Controller, line: &str) -> u64 {
    let health = controller.health;
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

/// A policy that refuses; it stands until its end.
pub struct Refusal(Api<ValidatingAdmissionPolicyBinding>, String);

impl Refusal {
    pub async fn end(self) {
        let now = DeleteParams::default();
        self.0.delete(&self.1, &now).await.unwrap();
    }
}

/// The Pod that the Job controller makes of this Job.
pub fn pod_of(job: &Job) -> Pod {
    let template = job.spec.clone().unwrap().template;
    let mut pod = Pod {
        metadata: template.metadata.unwrap(),
        spec: template.spec,
        status: None,
    };
    pod.metadata.name = Some(format!("{}-x", job.name_any()));
    pod.metadata.owner_references = job.controller_owner_ref(&()).map(|owner| vec![owner]);
    pod
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
            solve: None,
            layers: vec![],
            contents: None,
        }],
        revision: Some("inline@sha256:00".into()),
        steps: Steps {
            total: 3,
            cached: 1,
        },
        phases: Some(Phases {
            solve: Some(42_500),
            ..Phases::default()
        }),
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
        phases: None,
    })
}

/// The Lease of an installation of this name, held by nobody, and the right to hold it: the chart gives both for its own
/// name alone.
async fn make_lease(client: &Client, home: &str, installation: &str, account: &str) {
    let name = whittle_controller::names::lease(installation);
    let metadata = json!({"name": name, "namespace": home});
    let group = "rbac.authorization.k8s.io";
    for object in [
        json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": {}}),
        json!({"apiVersion": format!("{group}/v1"), "kind": "Role", "metadata": metadata,
            "rules": [{"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "resourceNames": [name], "verbs": ["get", "update"]}]}),
        json!({"apiVersion": format!("{group}/v1"), "kind": "RoleBinding", "metadata": metadata,
            "roleRef": {"apiGroup": group, "kind": "Role", "name": name},
            "subjects": [{"apiGroup": group, "kind": "User", "name": account}]}),
    ] {
        apply(client, object).await;
    }
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

/// Applies a CRD, and waits until objects of it can be made.
pub async fn apply_crd(client: &Client, crd: &CustomResourceDefinition) {
    let crds = Api::<CustomResourceDefinition>::all(client.clone());
    let name = crd.name_any();
    let params = PatchParams::apply("test").force();
    crds.patch(&name, &params, &Patch::Apply(crd))
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

/// The CRDs, and the permissions that the chart gives: once for all tests.
pub async fn install_into(server: &ApiServer, client: &Client) {
    let once = async || match shared(&format!("{}/installed", server.name)) {
        Shared::Made(()) => (),
        Shared::Mine(turn) => {
            install(server, client).await;
            turn.made(());
        }
    };
    server.installed.get_or_init(once).await;
}

async fn install(server: &ApiServer, client: &Client) {
    make_namespace(client, "whittle-system").await;
    for crd in whittle_api::crds() {
        apply_crd(client, &crd).await;
    }
    for object in chart() {
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
    policies_are_asked(server, client).await;
}

/// The chart's policies and permissions, with the images of the controllers' settings here, as docs/operations.md puts
/// in others.
fn chart() -> Vec<Value> {
    let text = std::fs::read_to_string(root().join("config/default/whittle.yaml")).unwrap();
    let text = [
        ("ghcr.io/whittle-dev/whittle:", RUNNER),
        ("moby/buildkit:", BUILDER),
    ]
    .into_iter()
    .fold(text, |text, (from, to)| with_image(&text, from, to));
    serde_saphyr::from_multiple::<Value>(&text).unwrap()
}

/// The API server takes a moment until it asks new policies: until each of the controller's own has refused something.
async fn policies_are_asked(server: &ApiServer, client: &Client) {
    let namespace = "policies";
    make_namespace(client, namespace).await;
    let labels = json!({"app.kubernetes.io/name": "whittle", "app.kubernetes.io/managed-by": "whittle", "whittle.dev/component": "gate"});
    let owner = json!({"apiVersion": "whittle.dev/v1alpha1", "kind": "ImageBuild", "name": "a", "uid": "b"});
    let pod = json!({"metadata": {"labels": labels}, "spec": {"hostNetwork": true, "restartPolicy": "Never", "containers": [{"name": "a", "image": "a"}]}});
    let job = json!({"metadata": {"name": "a-0123456789", "labels": labels, "ownerReferences": [owner]}, "spec": {"template": pod}});
    let map = json!({"metadata": {"name": "a"}});
    let builder = json!({"metadata": {"name": "a"}, "spec": {}});
    let controller = server.controller().await;
    let params = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    for (policy, version, kind, object) in [
        ("whittle-self-objects", "v1", "ConfigMap", map),
        ("whittle-self-pods", "batch/v1", "Job", job),
        (
            "whittle-self-others",
            "whittle.dev/v1alpha1",
            "Builder",
            builder,
        ),
    ] {
        let mut object = object;
        object["apiVersion"] = version.into();
        object["kind"] = kind.into();
        let (group, version) = version.split_once('/').unwrap_or(("", version));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        let api = Api::<DynamicObject>::namespaced_with(controller.clone(), namespace, &resource);
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let refused = api.create(&params, &object).await;
            if matches!(&refused, Err(kube::Error::Api(status)) if status.message.contains(policy))
            {
                break;
            }
            assert!(
                Instant::now() < deadline,
                "{policy} is not asked: {refused:?}"
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Each image that begins with `from` is `to`.
fn with_image(text: &str, from: &str, to: &str) -> String {
    let mut parts = text.split(from);
    let mut all = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(['"', ' ', '\n']).unwrap_or(part.len());
        all.push_str(to);
        all.push_str(&part[end..]);
    }
    all
}

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
