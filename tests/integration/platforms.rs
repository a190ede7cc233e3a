//! A Builder that has daemons for platforms: how they come and go, and what a runner is told of them, with a test as the StatefulSets'
//! controller.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use whittle_api::{Builder, BuiltBy, PlatformDaemonStatus, PlatformSolve};
use whittle_build::report::Report;
use whittle_build::request::{BuildRequest, Native, paths};

use crate::stage::{Stage, success};

const ARM: &str = "default-linux-arm64";

async fn builder(stage: &Stage, spec: Value) {
    let builder = json!({"apiVersion": "whittle.dev/v1alpha1", "kind": "Builder",
        "metadata": {"name": "default", "namespace": stage.namespace}, "spec": spec});
    stage.install(builder).await;
}

async fn change(stage: &Stage, spec: Value) {
    let builders = stage.api::<Builder>();
    let (params, patch) = (PatchParams::default(), Patch::Merge(json!({"spec": spec})));
    builders.patch("default", &params, &patch).await.unwrap();
}

/// For both platforms, of which one has a daemon of its own.
fn both() -> Value {
    json!({"platforms": ["linux/amd64", "linux/arm64"]})
}

/// What the Builder says of its daemons for platforms, once that is so.
async fn said(
    stage: &Stage,
    what: &str,
    is: impl Fn(&[PlatformDaemonStatus]) -> bool,
) -> Vec<PlatformDaemonStatus> {
    let builders = stage.api::<Builder>();
    let said = async || {
        let status = builders.get("default").await.unwrap().status?;
        let all = status.platforms.unwrap_or_default();
        is(&all).then_some(all)
    };
    stage.until(what, said).await
}

/// What the runner of this Job is told of daemons for platforms.
async fn natives(stage: &Stage, job: &Job) -> Vec<Native> {
    let map = stage.api::<ConfigMap>().get(&job.name_any()).await.unwrap();
    let text = &map.data.unwrap()[paths::REQUEST_KEY];
    let request: BuildRequest = serde_json::from_str(text).unwrap();
    request.natives
}

#[tokio::test]
async fn a_platform_has_a_daemon_of_its_own_which_runners_are_told_of_and_which_goes_with_its_name()
{
    let stage = Stage::with_controller().await;
    let labels = json!({"example.com/pool": "arm"});
    builder(
        &stage,
        json!({"platforms": [{"platform": "linux/arm64", "nodeSelector": labels}]}),
    )
    .await;
    stage.builder_starts().await;
    stage.named_builder_starts(ARM).await;
    said(&stage, "the daemon takes builds", |all| {
        all.len() == 1 && all[0].ready && all[0].builder == ARM
    })
    .await;
    let objects = format!("whittle-builder-{ARM}");
    let set = stage.api::<StatefulSet>().get(&objects).await.unwrap();
    let pod = set.spec.unwrap().template.spec.unwrap();
    assert_eq!(pod.node_selector.unwrap()["example.com/pool"], "arm");
    let secrets = pod.volumes.unwrap().into_iter();
    let secrets: Vec<_> = secrets
        .filter_map(|it| it.secret.and_then(|it| it.secret_name))
        .collect();
    assert_eq!(secrets, ["whittle-builder-default-server"]);
    let own = format!("{objects}-server");
    let made = stage.api::<Secret>().get_opt(&own).await.unwrap();
    assert!(made.is_none(), "it needs no keys of its own");
    let policy = stage.api::<NetworkPolicy>();
    let policy = policy.get(&objects).await.unwrap();
    let from = policy
        .spec
        .unwrap()
        .ingress
        .unwrap()
        .remove(0)
        .from
        .unwrap();
    let runners = from[0].pod_selector.clone().unwrap().match_labels.unwrap();
    assert_eq!(runners["whittle.dev/builder"], "default");

    stage.apply("hello", both()).await.unwrap();
    let job = stage.job("hello").await;
    let told = natives(&stage, &job).await;
    let host = format!(
        "whittle-builder-{ARM}-0.whittle-builder-{ARM}.{}.svc",
        stage.namespace
    );
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].address, Some(format!("tcp://{host}:1234")));
    stage.pod(&job, json!({"phase": "Running"})).await;
    let Report::Succeeded(mut built) = success("sha256:aa") else {
        panic!()
    };
    let solve = PlatformSolve {
        builder: BuiltBy::Native,
        milliseconds: 1234,
    };
    built.platforms[0].solve = Some(solve);
    stage.pod_ends(&job, &Report::Succeeded(built)).await;
    let ended = stage.ready("hello", "True", "Succeeded").await;
    assert_eq!(ended.status.unwrap().platforms[0].solve, Some(solve));

    // One platform of the ordinary daemon's alone.
    stage
        .apply("alone", json!({"platforms": ["linux/amd64"]}))
        .await
        .unwrap();
    let job = stage.job("alone").await;
    assert!(natives(&stage, &job).await.is_empty());
    stage.pod(&job, json!({"phase": "Running"})).await;
    stage.pod_ends(&job, &success("sha256:aa")).await;
    stage.ready("alone", "True", "Succeeded").await;

    change(&stage, json!({"platforms": null})).await;
    let builders = stage.api::<Builder>();
    let gone = async || builders.get_opt(ARM).await.unwrap().is_none().then_some(());
    stage.until("the daemon is gone", gone).await;
    said(&stage, "the Builder has none", <[_]>::is_empty).await;
}

#[tokio::test]
async fn a_platform_whose_daemon_does_not_come_up_is_built_without_it() {
    let stage = Stage::with_controller().await;
    builder(&stage, json!({"platforms": [{"platform": "linux/arm64"}]})).await;
    stage.builder_starts().await;
    stage.apply("hello", both()).await.unwrap();
    let waits = stage.ready("hello", "Unknown", "Queued").await;
    let conditions = waits.status.unwrap().conditions;
    let message = &whittle_api::find(&conditions, whittle_api::READY)
        .unwrap()
        .message;
    assert!(
        message.contains(ARM) && message.contains("goes on without it"),
        "{message}"
    );
    let builders = stage.api::<Builder>();
    let set = stage.api::<StatefulSet>();
    let set = set.get(&format!("whittle-builder-{ARM}")).await.unwrap();
    let pod = set.spec.unwrap().template.spec.unwrap();
    assert_eq!(pod.node_selector.unwrap()["kubernetes.io/arch"], "arm64");
    // The time that it has is up two minutes after it was made: nobody can set that clock ahead, so the platform's name goes instead.
    change(&stage, json!({"platforms": [{"platform": "linux/s390x"}]})).await;
    let job = stage.job("hello").await;
    assert!(natives(&stage, &job).await.is_empty());
    let gone = async || builders.get_opt(ARM).await.unwrap().is_none().then_some(());
    stage.until("the daemon is gone", gone).await;
}

#[tokio::test]
async fn somebody_elses_builder_that_has_its_name_is_left_alone() {
    let stage = Stage::with_controller().await;
    let theirs = json!({"apiVersion": "whittle.dev/v1alpha1", "kind": "Builder",
        "metadata": {"name": ARM, "namespace": stage.namespace}, "spec": {"maxConcurrentBuilds": 7}});
    stage.install(theirs).await;
    builder(&stage, json!({"platforms": [{"platform": "linux/arm64"}]})).await;
    stage.builder_starts().await;
    let told = said(&stage, "it is said", |all| {
        all.first().is_some_and(|it| it.message.is_some())
    })
    .await;
    let why = told[0].message.clone().unwrap();
    assert!(why.contains("was not made for this"), "{why}");
    stage.apply("hello", both()).await.unwrap();
    let job = stage.job("hello").await;
    assert_eq!(natives(&stage, &job).await[0].address, None);
    let theirs = stage.api::<Builder>().get(ARM).await.unwrap();
    assert_eq!(theirs.spec.max_concurrent_builds, 7);
    assert!(theirs.owner_references().is_empty());
}

#[tokio::test]
async fn what_platforms_cannot_be_is_refused_with_what_to_do() {
    let stage = Stage::new().await;
    let builders = stage.api::<Builder>();
    let arm = json!([{"platform": "linux/arm64"}]);
    let many = [
        "amd64", "arm64", "386", "ppc64le", "s390x", "riscv64", "loong64", "mips64", "mips64le",
    ];
    let many: Vec<_> = many
        .map(|it| json!({"platform": format!("linux/{it}")}))
        .into();
    for (spec, words) in [
        (
            json!({"platforms": arm, "replicas": 2}),
            "each platform has one daemon",
        ),
        (
            json!({"platforms": arm, "autoscale": {"max": 2}}),
            "each platform has one daemon",
        ),
        (
            json!({"platforms": arm, "sharing": "ImageBuild"}),
            "sharing must be Namespace",
        ),
        (
            json!({"platforms": [{"platform": "linux/arm64"}, {"platform": "linux/arm64/v8"}]}),
            "the same platform",
        ),
        (
            json!({"platforms": [{"platform": "linux/arm64"}, {"platform": "linux/arm64"}]}),
            "duplicate entries",
        ),
        (
            json!({"platforms": [{"platform": "linux/aarch64"}]}),
            "write linux/arm64",
        ),
        (json!({"platforms": many}), "must have at most 8 items"),
    ] {
        let object = json!({"apiVersion": "whittle.dev/v1alpha1", "kind": "Builder", "metadata": {"name": "default"}, "spec": spec});
        let params = PatchParams::apply("test").force();
        let refused = builders
            .patch("default", &params, &Patch::Apply(object))
            .await;
        let said = refused.err().map(|error| error.to_string());
        let said = said.unwrap_or_else(|| panic!("{spec} is taken"));
        assert!(said.contains(words), "{spec}: {said}");
    }
}
