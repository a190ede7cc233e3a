//! The chart's policies for those who write ImageBuilds and Builders.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use whittle_api::{Builder, ImageBuild};

use crate::stage::Stage;

/// The end of what is said of a Secret without the label.
const NOT_FOR_BUILDS: &str = "is not for builds";

async fn make_secret(stage: &Stage, name: &str, labels: Value) {
    let secret = json!({"metadata": {"name": name, "labels": labels}});
    let secret: Secret = serde_json::from_value(secret).unwrap();
    stage
        .api()
        .create(&PostParams::default(), &secret)
        .await
        .unwrap();
}

fn git(secret: &str) -> Value {
    json!({"source": {"inline": null, "git": {"url": "https://git.example.com/a", "secretRef": {"name": secret}}}})
}

fn oci(secret: &str) -> Value {
    json!({"source": {"inline": null, "oci": {"image": "a/b:c", "secretRef": {"name": secret}}}})
}

fn output(secret: &str) -> Value {
    json!({"output": {"secretRef": {"name": secret}}})
}

fn mounted(secret: &str) -> Value {
    json!({"secrets": [{"id": "a", "secretRef": {"name": secret, "key": "b"}}]})
}

/// A Job that mounts a Secret.
fn job(name: &str, labels: Value, volume: Value) -> Job {
    serde_json::from_value(json!({
        "metadata": {"name": name, "labels": labels},
        "spec": {"template": {"spec": {
            "restartPolicy": "Never",
            "containers": [{"name": "a", "image": "a"}],
            "volumes": [volume],
        }}},
    }))
    .unwrap()
}

#[tokio::test]
async fn only_labelled_secrets_may_be_named_where_the_policy_says_so() {
    let stage = Stage::new().await;
    let here = json!({"matchLabels": {"kubernetes.io/metadata.name": stage.namespace}});
    for object in stage.rendered(
        "buildsecrets.yaml",
        &[
            "buildSecrets.requireLabel=true".into(),
            format!("buildSecrets.namespaceSelector={here}"),
        ],
    ) {
        stage.install(object).await;
    }
    make_secret(&stage, "plain", json!({})).await;
    make_secret(&stage, "other", json!({"whittle.dev/build": "false"})).await;
    make_secret(&stage, "good", json!({"whittle.dev/build": "true"})).await;
    make_secret(&stage, "whittle-builder-default-client", json!({})).await;
    // A policy holds a moment after it was written; what was made before it may stay.
    let mut tries = 0;
    let told = stage
        .until("the policy holds", async || {
            tries += 1;
            let made = stage
                .apply(&format!("early-{tries}"), mounted("plain"))
                .await;
            made.err().map(|error| error.to_string())
        })
        .await;
    assert!(
        told.contains(NOT_FOR_BUILDS)
            && told.contains("kubectl label secret -n")
            && told.contains("plain whittle.dev/build=true"),
        "{told}"
    );
    for secret in ["plain", "other"] {
        for patch in [mounted(secret), output(secret), git(secret), oci(secret)] {
            let error = stage.apply("bad", patch.clone()).await;
            let error = error.expect_err(&patch.to_string()).to_string();
            assert!(error.contains(NOT_FOR_BUILDS), "{error}");
        }
    }
    let builders: Api<Builder> = stage.api();
    let builder = async |name: &str, secret: &str| {
        let cache =
            json!({"registry": {"image": "registry.example.com/c", "secretRef": {"name": secret}}});
        let object = json!({"apiVersion": "whittle.dev/v1alpha1", "kind": "Builder", "metadata": {"name": name},
            "spec": {"cache": cache}});
        let object: Builder = serde_json::from_value(object).unwrap();
        builders.create(&PostParams::default(), &object).await
    };
    let error = builder("bad", "plain").await.expect_err("accepted");
    assert!(error.to_string().contains(NOT_FOR_BUILDS), "{error}");
    builder("good", "good").await.unwrap();
    for (number, patch) in [
        mounted("good"),
        output("good"),
        git("good"),
        oci("good"),
        json!({}),
    ]
    .into_iter()
    .enumerate()
    {
        stage.apply(&format!("good-{number}"), patch).await.unwrap();
    }
    // A change counts as a new one, but deletion and labels go on.
    let error = stage
        .apply("good-0", mounted("plain"))
        .await
        .expect_err("accepted");
    assert!(error.to_string().contains(NOT_FOR_BUILDS), "{error}");

    // One that is made after the ImageBuild was accepted stops the Job.
    stage.apply("later", mounted("later")).await.unwrap();
    make_secret(&stage, "later", json!({})).await;
    let builds: Api<ImageBuild> = stage.api();
    let label = json!({"metadata": {"labels": {"a": "b"}}});
    builds
        .patch("later", &PatchParams::default(), &Patch::Merge(label))
        .await
        .unwrap();
    let jobs: Api<Job> = stage.api();
    let create = async |job: Job| jobs.create(&PostParams::default(), &job).await.map(drop);
    let runner = json!({"whittle.dev/component": "runner"});
    let secret = |name: &str| json!({"name": "v", "secret": {"secretName": name}});
    let projected = json!({"name": "v", "projected": {"sources": [{"secret": {"name": "later"}}]}});
    stage
        .until("the new Secret is known", async || {
            tries += 1;
            let name = format!("bad-{tries}");
            let made = create(job(&name, runner.clone(), secret("later"))).await;
            made.err()
                .filter(|error| error.to_string().contains(NOT_FOR_BUILDS))
        })
        .await;
    let error = create(job("bad", runner.clone(), projected))
        .await
        .expect_err("accepted");
    assert!(error.to_string().contains(NOT_FOR_BUILDS), "{error}");
    create(job("good", runner.clone(), secret("good")))
        .await
        .unwrap();
    create(job("own", runner, secret("whittle-builder-default-client")))
        .await
        .unwrap();
    create(job("foreign", json!({}), secret("later")))
        .await
        .unwrap();
    builds
        .delete("later", &DeleteParams::default())
        .await
        .unwrap();
}

async fn tenant(stage: &Stage) -> Client {
    let name = format!("tenant-{}", stage.namespace);
    stage
        .install(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
            "metadata": {"name": "tenant", "namespace": stage.namespace},
            "rules": [{"apiGroups": ["whittle.dev"], "resources": ["builders", "imagebuilds"], "verbs": ["get", "create", "update", "patch"]}],
        }))
        .await;
    stage
        .install(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": {"name": "tenant", "namespace": stage.namespace},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "tenant"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name}],
        }))
        .await;
    stage.server.user(&name).await
}

async fn builder(client: &Client, stage: &Stage, name: &str, spec: Value) -> Result<(), String> {
    let builders: Api<Builder> = Api::namespaced(client.clone(), &stage.namespace);
    let object = json!({"apiVersion": "whittle.dev/v1alpha1", "kind": "Builder", "metadata": {"name": name}, "spec": spec});
    builders
        .patch(
            name,
            &PatchParams::apply("tenant").force(),
            &Patch::Apply(object),
        )
        .await
        .map(drop)
        .map_err(|error| error.to_string())
}

#[tokio::test]
async fn what_a_tenant_may_set_on_a_builder_is_what_the_administrator_allows() {
    let stage = Stage::new().await;
    let tenant = tenant(&stage).await;
    // The chart's defaults, which stand for all tests.
    let critical = json!({"priorityClassName": "system-cluster-critical"});
    let error = builder(&tenant, &stage, "a", critical.clone())
        .await
        .expect_err("accepted");
    assert!(
        error.contains("priorityClassName system-cluster-critical is not allowed"),
        "{error}"
    );
    let usual = json!({
        "priorityClassName": "high",
        "runtimeClassName": "gvisor",
        "nodeSelector": {"builds": "yes"},
        "tolerations": [{"operator": "Exists"}],
        "proxy": {"httpProxy": "http://any.example.com:3128"},
    });
    builder(&tenant, &stage, "a", usual.clone()).await.unwrap();
    builder(&stage.client, &stage, "a", critical.clone())
        .await
        .unwrap();

    for object in stage.rendered(
        "buildertenants.yaml",
        &[
            r#"builder.tenants.priorityClassNames=["low"]"#.into(),
            r#"builder.tenants.runtimeClassNames=[]"#.into(),
            r#"builder.tenants.nodeSelectors=["builds=yes", "zone=*"]"#.into(),
            r#"builder.tenants.tolerations=["builds"]"#.into(),
            r#"builder.tenants.proxies=["http://proxy.example.com:3128"]"#.into(),
        ],
    ) {
        stage.install(object).await;
    }
    let refused = [
        (
            json!({"priorityClassName": "high"}),
            "the administrator allows low",
        ),
        (
            json!({"runtimeClassName": "gvisor"}),
            "the administrator allows none",
        ),
        (
            json!({"nodeSelector": {"builds": "no"}}),
            "builds=yes, zone=*",
        ),
        (
            json!({"nodeSelector": {"builds": "yes", "a": "b"}}),
            "builds=yes, zone=*",
        ),
        (
            json!({"tolerations": [{"operator": "Exists"}]}),
            "the taints builds",
        ),
        (
            json!({"tolerations": [{"key": "builds"}, {"key": "control-plane"}]}),
            "the taints builds",
        ),
        (
            json!({"platforms": [{"platform": "linux/arm64"}, {"platform": "linux/s390x", "nodeSelector": {"builds": "no"}}]}),
            "platforms: nodeSelector: not allowed",
        ),
        (
            json!({"platforms": [{"platform": "linux/arm64", "tolerations": [{"operator": "Exists"}]}]}),
            "platforms: tolerations: not allowed",
        ),
        (
            json!({"proxy": {"httpProxy": "http://10.96.0.1:443"}}),
            "the administrator allows http://proxy.example.com:3128 (builder.tenants.proxies)",
        ),
        (
            json!({"proxy": {"httpProxy": "http://proxy.example.com:3128", "httpsProxy": "http://a:1"}}),
            "(builder.tenants.proxies)",
        ),
    ];
    let mut tries = 0;
    stage
        .until("the policy holds", async || {
            tries += 1;
            let name = format!("early-{tries}");
            builder(&tenant, &stage, &name, refused[0].0.clone())
                .await
                .err()
        })
        .await;
    for (spec, with) in refused {
        let error = builder(&tenant, &stage, "b", spec.clone()).await;
        let error = error.expect_err(&spec.to_string());
        assert!(error.contains(with), "{error}");
    }
    let allowed = json!({
        "priorityClassName": "low",
        "nodeSelector": {"builds": "yes", "zone": "a"},
        "tolerations": [{"key": "builds", "operator": "Exists"}],
        "proxy": {"httpProxy": "http://proxy.example.com:3128", "noProxy": "*"},
        "platforms": [
            {"platform": "linux/arm64"},
            {"platform": "linux/s390x", "nodeSelector": {"zone": "a"}, "tolerations": [{"key": "builds", "operator": "Exists"}]},
        ],
    });
    builder(&tenant, &stage, "b", allowed).await.unwrap();
    builder(&tenant, &stage, "c", json!({})).await.unwrap();
    // What the administrator or the controller has set may stay, while the tenant changes something else.
    builder(&stage.client, &stage, "d", usual.clone())
        .await
        .unwrap();
    let mut changed = usual.clone();
    changed["idleTimeout"] = "5m".into();
    builder(&tenant, &stage, "d", changed).await.unwrap();
    let controller = stage
        .server
        .user("system:serviceaccount:whittle-system:whittle")
        .await;
    let builders: Api<Builder> = Api::namespaced(controller, &stage.namespace);
    let made = Builder::new("default", serde_json::from_value(usual).unwrap());
    builders
        .create(&PostParams::default(), &made)
        .await
        .unwrap();
}

#[tokio::test]
async fn metadata_may_not_grow_beyond_a_bound_but_what_stands_may_stay() {
    let stage = Stage::new().await;
    let builds: Api<ImageBuild> = stage.api();
    let labels = |count: usize| {
        let label = |at: usize| (format!("a{at:05}"), Value::from(""));
        Value::Object((0..count).map(label).collect())
    };
    let change = async |name: &str, metadata: Value| {
        let patch = Patch::Merge(json!({"metadata": metadata}));
        builds.patch(name, &PatchParams::default(), &patch).await
    };
    stage.unbind_metadata().await;
    stage.apply("old", json!({})).await.unwrap();
    stage
        .until("there is no bound", async || {
            change("old", json!({"labels": labels(1000)})).await.ok()
        })
        .await;
    for object in stage.rendered("metadatabounds.yaml", &[]) {
        stage.install(object).await;
    }
    stage.apply("new", json!({})).await.unwrap();
    let mut count = 64;
    let told = stage
        .until("the policy holds", async || {
            count += 1;
            let made = change("new", json!({"labels": labels(count)})).await;
            made.err().map(|error| error.to_string())
        })
        .await;
    assert!(
        told.contains("metadata.labels: invalid") && told.contains("64 at most"),
        "{told}"
    );
    let owner =
        |name: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": "a"});
    for (metadata, with) in [
        (json!({"annotations": labels(65)}), "metadata.annotations"),
        (
            json!({"finalizers": (0..33).map(|at| format!("example.com/a{at}")).collect::<Vec<_>>()}),
            "metadata.finalizers",
        ),
        (
            json!({"ownerReferences": (0..33).map(|at| json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "a", "uid": format!("a{at}")})).collect::<Vec<_>>()}),
            "metadata.ownerReferences",
        ),
        (
            json!({"ownerReferences": [owner(&"x".repeat(2000))]}),
            "more than 1024 characters",
        ),
    ] {
        let error = change("new", metadata).await.expect_err(with).to_string();
        assert!(error.contains(with), "{with}: {error}");
    }
    change(
        "new",
        json!({"annotations": labels(64), "ownerReferences": [owner("a")]}),
    )
    .await
    .unwrap();
    // It may shrink, and the rest of it may change.
    change("old", json!({"labels": {"a00001": null}}))
        .await
        .unwrap();
    stage.apply("old", json!({"suspend": true})).await.unwrap();
    let error = change("old", json!({"labels": {"b": "", "c": ""}})).await;
    error.expect_err("it grows");
}
