//! Two installations in one cluster: each has an authority of its own, and they do not fight.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;
use whittle_api::{Builder, BuilderStatus, ImageBuild};

use crate::api_server::BOUND;
use crate::stage::{Stage, apply, success};

const LEFT_BUILDER: &str = r#"whittle_left_alone_total{kind="Builder"}"#;
const LEFT_BUILD: &str = r#"whittle_left_alone_total{kind="ImageBuild"}"#;

async fn status(stage: &Stage, builder: &str) -> Option<BuilderStatus> {
    stage
        .api::<Builder>()
        .get_opt(builder)
        .await
        .unwrap()?
        .status
}

/// Whose the Builder is, once it has certificates.
async fn owner(stage: &Stage, builder: &str) -> String {
    stage
        .until("the Builder has certificates", async || {
            let status = status(stage, builder).await?;
            status.certificates?;
            status.installation
        })
        .await
}

/// The digests of certificates that the Builder's status names within some seconds.
async fn digests(stage: &Stage, builder: &str, seconds: u64) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    let end = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < end {
        let certificates = status(stage, builder).await.and_then(|s| s.certificates);
        seen.extend(certificates.map(|certificates| certificates.digest));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    seen
}

async fn hand_over(stage: &Stage, builder: &str) {
    let patch = json!({"status": {"installation": null}});
    let builders = stage.api::<Builder>();
    builders
        .patch_status(builder, &PatchParams::default(), &Patch::Merge(patch))
        .await
        .unwrap();
}

#[tokio::test]
async fn two_over_one_namespace_do_not_reissue_certificates_in_turns() {
    let mut stage = Stage::new().await;
    let here = json!({"watch": {"namespaces": [stage.namespace]}});
    stage.start_another("whittle-second", here).await;
    stage.start_controller().await;
    stage.apply("hello", json!({})).await.unwrap();
    let first = owner(&stage, "default").await;
    stage.builder_starts().await;
    let job = stage.job("hello").await;
    // Each change of the spec wakes both.
    let builders = stage.api::<Builder>();
    for minutes in ["20m", "30m"] {
        let patch = json!({"spec": {"idleTimeout": minutes}});
        builders
            .patch("default", &PatchParams::default(), &Patch::Merge(patch))
            .await
            .unwrap();
        assert_eq!(digests(&stage, "default", 3).await.len(), 1);
    }
    stage.pod_ends(&job, &success("sha256:aa")).await;
    let done = stage.ready("hello", "True", "Succeeded").await;
    assert_eq!(done.status.unwrap().build, Some(1));
    assert_eq!(stage.jobs().await.len(), 1);
    assert_eq!(owner(&stage, "default").await, first);
    let left = match first == stage.installation() {
        true => stage.metrics_of_others(LEFT_BUILDER).await[0],
        false => stage.metric(LEFT_BUILDER).await,
    };
    assert!(
        left > 0,
        "the other one says that it leaves the Builder alone"
    );
}

#[tokio::test]
async fn a_builder_is_handed_over_and_one_from_before_is_claimed_as_it_is() {
    let mut stage = Stage::with_controller().await;
    stage.apply("hello", json!({})).await.unwrap();
    assert_eq!(owner(&stage, "default").await, stage.installation());
    stage.builder_starts().await;
    stage
        .pod_ends(&stage.job("hello").await, &success("sha256:aa"))
        .await;
    stage.ready("hello", "True", "Succeeded").await;
    let before = status(&stage, "default").await.unwrap().certificates;

    // As an installation of before has left it: nothing is made anew.
    stage.kill_controller();
    hand_over(&stage, "default").await;
    stage.start_controller().await;
    let claimed = stage
        .until("it is claimed", async || {
            status(&stage, "default")
                .await
                .filter(|status| status.installation.is_some())
        })
        .await;
    assert_eq!(claimed.certificates, before);

    // Nobody plays the Job controller, and the daemon restarts only when no build runs.
    for job in stage.jobs().await {
        let now = DeleteParams::background();
        stage
            .api::<Job>()
            .delete(&job.name_any(), &now)
            .await
            .unwrap();
    }
    // To another: the running one leaves it, the new one has its own certificates.
    let here = json!({"watch": {"namespaces": [stage.namespace]}});
    stage.start_another("whittle-heir", here).await;
    stage.kill_controller();
    hand_over(&stage, "default").await;
    stage
        .until("it has another authority", async || {
            let status = status(&stage, "default").await?;
            let authority = status.certificates?.authority;
            (status.installation? == "whittle-heir/whittle"
                && authority != before.as_ref().unwrap().authority)
                .then_some(())
        })
        .await;
    // What was built stays, and the next one is built by the new one.
    stage
        .apply("hello", json!({"target": "other"}))
        .await
        .unwrap();
    stage.builder_starts().await;
    stage
        .pod_ends(&stage.job("hello").await, &success("sha256:bb"))
        .await;
    stage.ready("hello", "True", "Succeeded").await;
}

#[tokio::test]
async fn each_looks_after_its_own_namespaces() {
    let mut first = Stage::new().await;
    let (second, third) = (Stage::new().await, Stage::new().await);
    let two = json!({"watch": {"namespaces": [first.namespace, second.namespace]}});
    let one = json!({"watch": {"namespaces": [third.namespace]}});
    first.start_another("whittle-of-two", two).await;
    first.start_another("whittle-of-one", one).await;
    for (stage, wanted) in [
        (&first, "whittle-of-two/whittle"),
        (&second, "whittle-of-two/whittle"),
        (&third, "whittle-of-one/whittle"),
    ] {
        stage.apply("hello", json!({})).await.unwrap();
        assert_eq!(owner(stage, "default").await, wanted);
        stage.builder_starts().await;
        stage
            .pod_ends(&stage.job("hello").await, &success("sha256:aa"))
            .await;
        stage.ready("hello", "True", "Succeeded").await;
        assert_eq!(digests(stage, "default", 1).await.len(), 1);
    }
    assert_eq!(first.metrics_of_others(LEFT_BUILD).await, [0, 0]);
}

#[tokio::test]
async fn within_a_namespace_each_looks_after_what_its_selector_selects() {
    let mut stage = Stage::new().await;
    for name in ["canary", "rest"] {
        let selector = match name {
            "canary" => json!({"matchLabels": {"ring": "canary"}}),
            _ => {
                json!({"matchExpressions": [{"key": "ring", "operator": "NotIn", "values": ["canary"]}]})
            }
        };
        let watch = json!({"watch": {"namespaces": [stage.namespace], "selector": selector}});
        stage.start_another(&format!("whittle-{name}"), watch).await;
    }
    let builder = json!({"apiVersion": "whittle.dev/v1alpha1", "kind": "Builder", "metadata": {"name": "canary", "labels": {"ring": "canary"}}, "spec": {}});
    let builder: Builder = serde_json::from_value(builder).unwrap();
    let builders = stage.api::<Builder>();
    builders
        .create(&PostParams::default(), &builder)
        .await
        .unwrap();
    let image_build = |name: &str, builder: &str, ring: Option<&str>| {
        let labels = ring.map(|ring| json!({"ring": ring}));
        json!({"apiVersion": "whittle.dev/v1alpha1", "kind": "ImageBuild",
            "metadata": {"name": name, "namespace": stage.namespace, "labels": labels},
            "spec": {"builderRef": {"name": builder}, "output": {"image": "registry.example.com/team/hello"},
                "source": {"inline": {"files": {"Dockerfile": "FROM scratch\nCOPY a /a\n", "a": "b"}}}}})
    };
    for (name, builder, ring, wanted) in [
        ("new", "canary", Some("canary"), "whittle-canary/whittle"),
        ("old", "default", None, "whittle-rest/whittle"),
    ] {
        apply(&stage.client, image_build(name, builder, ring)).await;
        assert_eq!(owner(&stage, builder).await, wanted);
        stage.named_builder_starts(builder).await;
        stage
            .pod_ends(&stage.job(name).await, &success("sha256:aa"))
            .await;
        stage.ready(name, "True", "Succeeded").await;
    }
    // On the other's Builder: left alone, and counted.
    apply(
        &stage.client,
        image_build("mixed", "default", Some("canary")),
    )
    .await;
    stage
        .until("it is left alone", async || {
            (stage.metrics_of_others(LEFT_BUILD).await[0] > 0).then_some(())
        })
        .await;
    let mixed = stage.api::<ImageBuild>().get("mixed").await.unwrap();
    let silent = mixed
        .status
        .is_none_or(|status| status.conditions.is_empty());
    assert!(silent && stage.jobs().await.len() == 2);
}

#[tokio::test]
async fn with_namespaces_rights_in_these_suffice_and_one_without_holds_up_no_other() {
    let mut first = Stage::new().await;
    let (second, without) = (Stage::new().await, Stage::new().await);
    // As templates/rbac.yaml gives them with watchNamespaces.
    let bind = |kind: &str, namespace: Option<&str>, role: &str| {
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": {"name": "bound", "namespace": namespace},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": BOUND}]})
    };
    apply(
        &first.client,
        bind("ClusterRoleBinding", None, "whittle-cluster"),
    )
    .await;
    for stage in [&first, &second] {
        let binding = bind("RoleBinding", Some(&stage.namespace), "whittle-controller");
        apply(&stage.client, binding).await;
    }
    let home = "whittle-bound";
    let own = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "own", "namespace": home},
    "rules": [
        {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["whittle-ca"], "verbs": ["get"]},
        {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "resourceNames": ["whittle-controller"], "verbs": ["get", "update"]},
        {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create"]},
    ]});
    first.make_home(home, own, BOUND).await;
    let all = [&first, &second, &without].map(|stage| stage.namespace.clone());
    first
        .start_bound(json!({"watch": {"namespaces": all}}))
        .await;
    for stage in [&first, &second] {
        stage.apply("hello", json!({})).await.unwrap();
        assert_eq!(owner(stage, "default").await, "whittle-bound/whittle");
        stage.builder_starts().await;
        stage
            .pod_ends(&stage.job("hello").await, &success("sha256:aa"))
            .await;
        stage.ready("hello", "True", "Succeeded").await;
    }
    // What has a new right is looked after, without a restart.
    let binding = bind(
        "RoleBinding",
        Some(&without.namespace),
        "whittle-controller",
    );
    apply(&without.client, binding).await;
    without.apply("hello", json!({})).await.unwrap();
    assert_eq!(owner(&without, "default").await, "whittle-bound/whittle");
}
