//! Kueue itself in the place of the test that plays it (tests/integration/queue.rs): builds wait for its quota, make room, and go on. It takes minutes to
//! compile, so `make test-long` runs this and `make test` does not.

use std::path::{Path, PathBuf};
use std::process::Command;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use whittle_api::{ImageBuild, ImageBuildStatus, READY, find};

use crate::field::{Field, PATIENCE, variable};
use crate::flux_real::{image, said};

const KUEUE: &str = "kueue.x-k8s.io";
/// Kueue's manifests have this namespace; here it is one of the test's.
const HOME: &str = "kueue-system";
/// What of them is not needed: what others may do, metrics, and an API of its own.
const LEFT_OUT: [&str; 3] = ["APIService", "Namespace", "ConfigMap"];
/// Webhooks of Kueue's own kinds, and of Jobs: those of other kinds would hold up the cluster's other tests.
const WEBHOOKS: [&str; 9] = [
    "mclusterqueue.kb.io",
    "vclusterqueue.kb.io",
    "vcohort.kb.io",
    "mresourceflavor.kb.io",
    "vresourceflavor.kb.io",
    "mworkload.kb.io",
    "vworkload.kb.io",
    "mjob.kb.io",
    "vjob.kb.io",
];

/// The manifests of the version that is built, as its own kustomization has them, in this namespace, and for the Jobs of another one.
fn manifests(cluster: &Path, namespace: &str, builds: &str) -> Vec<Value> {
    let module = ["list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/kueue"];
    let kueue = cluster.join("components/kueue");
    let module = said(Command::new("go").args(module).current_dir(kueue));
    let kubectl = Path::new(&variable("CLUSTER_BIN")).join("kubectl");
    let config = PathBuf::from(module).join("config/default");
    let text = said(Command::new(kubectl).arg("kustomize").arg(config));
    let all: Vec<Value> = serde_saphyr::from_multiple(&text.replace(HOME, namespace)).unwrap();
    let needed = |object: &Value| {
        let kind = object["kind"].as_str().unwrap_or_default();
        let elsewhere = object["metadata"]["namespace"].as_str();
        !LEFT_OUT.contains(&kind) && elsewhere.is_none_or(|it| it == namespace)
    };
    let mut all: Vec<Value> = all.into_iter().filter(needed).collect();
    for object in &mut all {
        if let Some(webhooks) = object.get_mut("webhooks").and_then(Value::as_array_mut) {
            webhooks.retain(|it| WEBHOOKS.iter().any(|name| it["name"] == *name));
            for webhook in webhooks {
                if webhook["name"]
                    .as_str()
                    .unwrap_or_default()
                    .ends_with("job.kb.io")
                {
                    let here = json!({"matchLabels": {"kubernetes.io/metadata.name": builds}});
                    webhook["namespaceSelector"] = here;
                }
            }
        }
    }
    all
}

/// Installs it, for the Jobs of the namespace `builds` alone. It needs one of its own: it leaves that out.
async fn install(field: &Field, builds: &str) {
    let cluster = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cluster");
    let image = image(&cluster, &field.namespace, "kueue");
    let config = json!({"apiVersion": "config.kueue.x-k8s.io/v1beta2", "kind": "Configuration", "namespace": field.namespace,
        "health": {"healthProbeBindAddress": ":8081"}, "metrics": {"bindAddress": ":8443"}, "webhook": {"port": 9443},
        "leaderElection": {"leaderElect": false}, "integrations": {"frameworks": ["batch/job"]}});
    let data = json!({"controller_manager_config.yaml": config.to_string()});
    field
        .create(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kueue-manager-config"}, "data": data}))
        .await;
    let mut deployment = None;
    for mut object in manifests(&cluster, &field.namespace, builds) {
        if object["kind"] == "Deployment" {
            let container = &mut object["spec"]["template"]["spec"]["containers"][0];
            container["image"] = image.clone().into();
            container["command"] = json!(["/kueue"]);
            container["args"] = json!([
                "--config=/controller_manager_config.yaml",
                "--zap-log-level=2",
                "--feature-gates=VisibilityOnDemand=false"
            ]);
            container["resources"] = json!({"requests": {"cpu": "50m", "memory": "64Mi"}});
            object["spec"]["template"]["spec"]["securityContext"]["runAsUser"] = 65532.into();
            // Once all that it reads exists.
            deployment = Some(object);
        } else if object["metadata"]["namespace"].is_null() {
            field.create_for_all(object).await;
        } else {
            field.create(object).await;
        }
    }
    field.create(deployment.expect("a Deployment")).await;
    field
        .until("Kueue runs", async || {
            let deployment = field
                .api::<Deployment>()
                .get("kueue-controller-manager")
                .await;
            (deployment.unwrap().status?.ready_replicas == Some(1)).then_some(())
        })
        .await;
}

fn of_kueue(kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": "kueue.x-k8s.io/v1beta2", "kind": kind, "metadata": {"name": name}, "spec": spec})
}

fn all(field: &Field, group: &str, kind: &str, plural: &str) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk(group, if group == KUEUE { "v1beta2" } else { "v1" }, kind);
    Api::all_with(
        field.client.clone(),
        &ApiResource::from_gvk_with_plural(&kind, plural),
    )
}

/// Takes away what is Kueue's while it runs: nobody else takes its finalizers away, and what it does not answer for goes with it.
async fn leave(field: Field) {
    let selection = DeleteParams::background();
    let builds = field.api::<ImageBuild>();
    builds
        .delete_collection(&selection, &ListParams::default())
        .await
        .unwrap();
    let workloads = all(&field, KUEUE, "Workload", "workloads");
    field
        .until("all Workloads are gone", async || {
            let left = workloads.list(&ListParams::default()).await.ok()?;
            left.items.is_empty().then_some(())
        })
        .await;
    for (kind, plural) in [
        ("ClusterQueue", "clusterqueues"),
        ("ResourceFlavor", "resourceflavors"),
    ] {
        let api = all(&field, KUEUE, kind, plural);
        api.delete(&field.namespace, &selection).await.unwrap();
        field
            .until(&format!("the {kind} is gone"), async || {
                let left = api.get_opt(&field.namespace).await.unwrap();
                left.is_none().then_some(())
            })
            .await;
    }
    let admission = "admissionregistration.k8s.io";
    for kind in [
        "MutatingWebhookConfiguration",
        "ValidatingWebhookConfiguration",
    ] {
        let api = all(
            &field,
            admission,
            kind,
            &format!("{}s", kind.to_lowercase()),
        );
        let name = format!(
            "kueue-{}-webhook-configuration",
            kind.split('W').next().unwrap().to_lowercase()
        );
        api.delete(&name, &selection).await.unwrap();
    }
    let crds = all(
        &field,
        "apiextensions.k8s.io",
        "CustomResourceDefinition",
        "customresourcedefinitions",
    );
    for crd in crds.list(&ListParams::default()).await.unwrap() {
        if crd.name_any().ends_with(".kueue.x-k8s.io") {
            crds.delete(&crd.name_any(), &selection).await.unwrap();
        }
    }
    let own = ListParams::default().labels("app.kubernetes.io/name=kueue");
    for (kind, plural) in [
        ("ClusterRole", "clusterroles"),
        ("ClusterRoleBinding", "clusterrolebindings"),
    ] {
        let api = all(&field, "rbac.authorization.k8s.io", kind, plural);
        api.delete_collection(&selection, &own).await.unwrap();
    }
    field.close().await;
}

/// Lets the ClusterQueue admit, or not: `None`, `Hold` (nothing new) or `HoldAndDrain` (what runs makes room, too).
async fn policy(field: &Field, stop: &str) {
    let queues = all(field, KUEUE, "ClusterQueue", "clusterqueues");
    let patch = json!({"spec": {"stopPolicy": stop}});
    queues
        .patch(
            &field.namespace,
            &PatchParams::default(),
            &Patch::Merge(patch),
        )
        .await
        .unwrap();
}

/// One ClusterQueue that admits nothing yet, and a LocalQueue of this name.
async fn queue(field: &Field, name: &str) {
    let flavor = field.namespace.clone();
    let labels = json!({"nodeLabels": {"kubernetes.io/os": "linux"}});
    field
        .until("Kueue's webhooks answer", async || {
            let flavors = all(field, KUEUE, "ResourceFlavor", "resourceflavors");
            let object = of_kueue("ResourceFlavor", &flavor, labels.clone());
            let params = PatchParams::apply("e2e").force();
            flavors
                .patch(&flavor, &params, &Patch::Apply(object))
                .await
                .ok()
        })
        .await;
    let quota = json!([{"name": "cpu", "nominalQuota": "8"}, {"name": "memory", "nominalQuota": "16Gi"},
        {"name": "ephemeral-storage", "nominalQuota": "1Ti"}]);
    let spec = json!({"stopPolicy": "Hold", "namespaceSelector": {},
        "resourceGroups": [{"coveredResources": ["cpu", "memory", "ephemeral-storage"], "flavors": [{"name": flavor, "resources": quota}]}]});
    field
        .create_for_all(of_kueue("ClusterQueue", &field.namespace, spec))
        .await;
    local(field, name).await;
}

async fn local(field: &Field, name: &str) {
    let spec = json!({"clusterQueue": field.namespace});
    field.create(of_kueue("LocalQueue", name, spec)).await;
}

/// A build of two steps, of which the second takes a while; in this queue from its first attempt on.
async fn build(field: &Field, name: &str, queue: Option<&str>, seconds: u32) {
    let text =
        format!("FROM busybox:1.36\nRUN echo first\nRUN echo working on it; sleep {seconds}\n");
    let files = json!({"Dockerfile": text});
    field
        .build(name, files.clone(), json!({"suspend": true}))
        .await;
    if let Some(queue) = queue {
        let labels = json!({"metadata": {"labels": {"kueue.x-k8s.io/queue-name": queue}}});
        let builds = field.api::<ImageBuild>();
        builds
            .patch(name, &PatchParams::default(), &Patch::Merge(labels))
            .await
            .unwrap();
    }
    field.build(name, files, json!({})).await;
}

fn message(status: &ImageBuildStatus) -> String {
    find(&status.conditions, READY).unwrap().message.clone()
}

async fn job(field: &Field, status: &ImageBuildStatus) -> Job {
    let name = &status.current.as_ref().unwrap().job;
    field.api::<Job>().get(name).await.unwrap()
}

#[tokio::test]
#[ignore = "compiles Kueue, which takes minutes: make test-long"]
async fn builds_wait_for_its_quota_make_room_and_go_on_and_a_queue_named_default_takes_all() {
    let mut field = Field::new("kueue-real").await;
    field.patience = 4 * PATIENCE;
    let mut home = Field::new("kueue-home").await;
    home.patience = field.patience;
    install(&home, &field.namespace).await;
    queue(&field, "builds").await;

    // It waits from its first moment on, and what Kueue decides stays.
    build(&field, "hello", Some("builds"), 20).await;
    let status = field.ready("hello", "Unknown", "JobSuspended").await;
    let words = message(&status);
    assert!(
        words.starts_with("waits in queue builds of Kueue"),
        "{words}"
    );
    let first = job(&field, &status).await;
    policy(&field, "None").await;
    field.step_runs("hello", "working on it").await;
    let runs = field.api::<Job>().get(&first.name_any()).await.unwrap();
    let pod = runs.spec.clone().unwrap().template.spec.unwrap();
    assert_eq!(pod.node_selector.unwrap()["kubernetes.io/os"], "linux");

    // It makes room, waits again, and is the same attempt.
    policy(&field, "HoldAndDrain").await;
    let status = field.ready("hello", "Unknown", "JobSuspended").await;
    let current = status.current.as_ref().unwrap();
    assert_eq!((current.attempt, &current.job), (1, &first.name_any()));
    policy(&field, "None").await;
    let status = field.succeeds("hello").await;
    assert_eq!(status.history.len(), 1);
    assert_eq!(status.history[0].job, Some(first.name_any()));
    assert_eq!(field.jobs("hello").await.len(), 1);

    // A queue named default takes what names none.
    local(&field, "default").await;
    policy(&field, "Hold").await;
    build(&field, "other", None, 1).await;
    let status = field.ready("other", "Unknown", "JobSuspended").await;
    let words = message(&status);
    assert!(
        words.starts_with("waits in queue default of Kueue"),
        "{words}"
    );
    policy(&field, "None").await;
    field.succeeds("other").await;
    leave(field).await;
    home.close().await;
}
