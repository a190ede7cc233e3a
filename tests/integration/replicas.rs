//! A Builder of several replicas: which of them builds go to, and how they go, with a test as the StatefulSet's controller.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Resource, ResourceExt};
use serde_json::{Value, json};
use whittle_api::{Builder, ImageBuild, ReplicasStatus};
use whittle_build::request::{BuildRequest, paths};
use whittle_controller::placement::{key, preference};

use crate::stage::{Stage, success};

const SET: &str = "whittle-builder-default";

async fn builder(stage: &Stage, spec: Value) {
    let builder = json!({"apiVersion": "whittle.dev/v1alpha1", "kind": "Builder",
        "metadata": {"name": "default", "namespace": stage.namespace}, "spec": spec});
    stage.install(builder).await;
}

async fn set(stage: &Stage) -> StatefulSet {
    let sets = stage.api::<StatefulSet>();
    let there = async || sets.get_opt(SET).await.unwrap();
    stage.until("the builder's StatefulSet exists", there).await
}

async fn size(stage: &Stage) -> i32 {
    set(stage).await.spec.unwrap().replicas.unwrap()
}

async fn has_size(stage: &Stage, wanted: i32) {
    let what = format!("the StatefulSet has {wanted} replicas");
    let is = async || (size(stage).await == wanted).then_some(());
    stage.until(&what, is).await;
}

/// Plays the StatefulSet's controller and the kubelets: there are these replicas, and they are up.
async fn are_up(stage: &Stage, up: std::ops::Range<i32>) {
    let set = set(stage).await;
    let pods = stage.api::<Pod>();
    for replica in 0..8 {
        let name = format!("{SET}-{replica}");
        if !up.contains(&replica) {
            let now = DeleteParams::default().grace_period(0);
            let _ = pods.delete(&name, &now).await;
            continue;
        }
        let template = set.spec.clone().unwrap().template;
        let mut pod = Pod {
            metadata: template.metadata.unwrap(),
            spec: template.spec,
            status: None,
        };
        pod.metadata.name = Some(name.clone());
        pod.metadata.owner_references = set.controller_owner_ref(&()).map(|owner| vec![owner]);
        let spec = pod.spec.as_mut().unwrap();
        // What the StatefulSet's controller makes of the claim.
        let cache = json!({"name": "cache", "emptyDir": {}});
        let volumes = spec.volumes.get_or_insert_default();
        volumes.push(serde_json::from_value(cache).unwrap());
        if pods.get_opt(&name).await.unwrap().is_none() {
            pods.create(&PostParams::default(), &pod).await.unwrap();
        }
        let ready = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
        let (params, ready) = (PatchParams::default(), Patch::Merge(ready));
        pods.patch_status(&name, &params, &ready).await.unwrap();
    }
    let all = up.len();
    let status = json!({"status": {"replicas": all, "readyReplicas": all, "updatedReplicas": all, "observedGeneration": set.metadata.generation}});
    let sets = stage.api::<StatefulSet>();
    let (params, status) = (PatchParams::default(), Patch::Merge(status));
    sets.patch_status(SET, &params, &status).await.unwrap();
}

/// What the Builder says of its replicas, once that is so.
async fn replicas(
    stage: &Stage,
    what: &str,
    is: impl Fn(&ReplicasStatus) -> bool,
) -> ReplicasStatus {
    let builders = stage.api::<Builder>();
    let said = async || {
        let status = builders.get("default").await.unwrap().status?;
        status.replicas.filter(|replicas| is(replicas))
    };
    stage.until(what, said).await
}

/// Names of ImageBuilds whose first choice among so many replicas is this one.
fn at_home_on(replica: i32, of: i32) -> impl Iterator<Item = String> {
    (0..).map(|n| format!("build-{n}")).filter(move |name| {
        let spec = json!({"source": {"inline": {"files": {"Dockerfile": "FROM scratch"}}}, "output": {"image": "r.example.com/a"}});
        let build = ImageBuild::new(name, serde_json::from_value(spec).unwrap());
        preference(&key(&build), 0..of)[0] == replica
    })
}

async fn runs(stage: &Stage, name: &str) -> (Job, Option<i32>) {
    let job = stage.job(name).await;
    stage.pod(&job, json!({"phase": "Running"})).await;
    let build = stage.ready(name, "Unknown", "Building").await;
    (job, build.status.unwrap().current.unwrap().replica)
}

/// Where the runner of this Job builds.
async fn address(stage: &Stage, job: &Job) -> String {
    let map = stage.api::<ConfigMap>().get(&job.name_any()).await.unwrap();
    let text = &map.data.unwrap()[paths::REQUEST_KEY];
    let request: BuildRequest = serde_json::from_str(text).unwrap();
    request.builder_address
}

async fn ends(stage: &Stage, name: &str, job: &Job) -> ImageBuild {
    stage.pod_ends(job, &success("sha256:aa")).await;
    stage.ready(name, "True", "Succeeded").await
}

async fn change(stage: &Stage, spec: Value) {
    let builders = stage.api::<Builder>();
    let (params, patch) = (PatchParams::default(), Patch::Merge(json!({"spec": spec})));
    builders.patch("default", &params, &patch).await.unwrap();
}

#[tokio::test]
async fn each_build_goes_to_its_replica_and_a_controller_that_takes_over_decides_the_same() {
    let mut stage = Stage::with_controller().await;
    builder(&stage, json!({"replicas": 2, "maxConcurrentBuilds": 1})).await;
    has_size(&stage, 2).await;
    are_up(&stage, 0..2).await;
    replicas(&stage, "both replicas are ready", |it| it.ready == 2).await;
    let on = |replica| at_home_on(replica, 2).next().unwrap();
    let mut jobs = vec![];
    for replica in [0, 1] {
        let name = on(replica);
        stage.apply(&name, json!({})).await.unwrap();
        let (job, chosen) = runs(&stage, &name).await;
        assert_eq!(chosen, Some(replica));
        let pod = format!("tcp://{SET}-{replica}.{SET}.{}.svc:1234", stage.namespace);
        assert_eq!(address(&stage, &job).await, pod);
        assert_eq!(
            job.annotations()["whittle.dev/replica"],
            replica.to_string()
        );
        jobs.push((name, job));
    }
    // Both are full; the next one of the first waits for its turn.
    let third = at_home_on(0, 2).nth(1).unwrap();
    stage.apply(&third, json!({})).await.unwrap();
    stage.ready(&third, "Unknown", "Queued").await;
    stage.kill_controller();
    stage.start_controller().await;
    let (first, job) = jobs.remove(0);
    let ended = ends(&stage, &first, &job).await;
    assert_eq!(ended.status.unwrap().history[0].replica, Some(0));
    let (job, chosen) = runs(&stage, &third).await;
    assert_eq!(chosen, Some(0));
    ends(&stage, &third, &job).await;
    let (second, job) = jobs.remove(0);
    ends(&stage, &second, &job).await;
    assert_eq!(stage.jobs().await.len(), 3, "no attempt was made twice");
}

#[tokio::test]
async fn fewer_replicas_wait_for_what_runs_there_and_nothing_else_goes_there_meanwhile() {
    let stage = Stage::with_controller().await;
    builder(&stage, json!({"replicas": 3, "maxConcurrentBuilds": 2})).await;
    has_size(&stage, 3).await;
    are_up(&stage, 0..3).await;
    replicas(&stage, "all replicas are ready", |it| it.ready == 3).await;
    let mut at_home = at_home_on(1, 3);
    let stays = at_home.next().unwrap();
    stage.apply(&stays, json!({})).await.unwrap();
    let (job, chosen) = runs(&stage, &stays).await;
    assert_eq!(chosen, Some(1));
    change(&stage, json!({"replicas": 1})).await;
    // The last one goes at once, and the one before it once its build has ended.
    has_size(&stage, 2).await;
    are_up(&stage, 0..2).await;
    let told = replicas(&stage, "replica 1 drains", |it| {
        it.desired == 1 && it.each.iter().any(|it| it.draining && it.running == 1)
    })
    .await;
    assert_eq!((told.ready, told.each.len()), (1, 2));
    let next = at_home.next().unwrap();
    stage.apply(&next, json!({})).await.unwrap();
    let (second, chosen) = runs(&stage, &next).await;
    assert_eq!(chosen, Some(0));
    assert_eq!(size(&stage).await, 2);
    ends(&stage, &stays, &job).await;
    has_size(&stage, 1).await;
    are_up(&stage, 0..1).await;
    replicas(&stage, "it is as one of one replica", |it| {
        it.each.is_empty()
    })
    .await;
    ends(&stage, &next, &second).await;
}

#[tokio::test]
async fn a_replica_that_is_down_keeps_its_builds_and_one_that_was_never_up_has_none() {
    let stage = Stage::with_controller().await;
    builder(&stage, json!({"replicas": 2, "maxConcurrentBuilds": 2})).await;
    has_size(&stage, 2).await;
    are_up(&stage, 0..1).await;
    replicas(&stage, "one replica is ready", |it| it.ready == 1).await;
    let mut at_home = at_home_on(1, 2);
    let first = at_home.next().unwrap();
    stage.apply(&first, json!({})).await.unwrap();
    let (job, chosen) = runs(&stage, &first).await;
    assert_eq!(chosen, Some(0), "the other has no cache yet");
    ends(&stage, &first, &job).await;
    are_up(&stage, 0..2).await;
    replicas(&stage, "both replicas are ready", |it| it.ready == 2).await;
    are_up(&stage, 0..1).await;
    replicas(&stage, "one replica is down", |it| it.ready == 1).await;
    let second = at_home.next().unwrap();
    stage.apply(&second, json!({})).await.unwrap();
    let waits = stage.ready(&second, "Unknown", "Queued").await;
    let ready = whittle_api::find(&waits.status.as_ref().unwrap().conditions, "Ready").unwrap();
    assert!(
        ready.message.contains("replica 1 of Builder default"),
        "{}",
        ready.message
    );
    assert!(ready.message.contains("is down"), "{}", ready.message);
    are_up(&stage, 0..2).await;
    let (job, chosen) = runs(&stage, &second).await;
    assert_eq!(chosen, Some(1));
    ends(&stage, &second, &job).await;
}

#[tokio::test]
async fn a_queue_has_replicas_added_and_no_more_than_allowed() {
    let stage = Stage::with_controller().await;
    let scale = json!({"min": 1, "max": 2});
    builder(
        &stage,
        json!({"autoscale": scale, "maxConcurrentBuilds": 1}),
    )
    .await;
    has_size(&stage, 1).await;
    are_up(&stage, 0..1).await;
    replicas(&stage, "its replica is ready", |it| it.ready == 1).await;
    let names: Vec<String> = (0..4).map(|n| format!("wave-{n}")).collect();
    for name in &names {
        stage.apply(name, json!({})).await.unwrap();
    }
    has_size(&stage, 2).await;
    are_up(&stage, 0..2).await;
    let told = replicas(&stage, "two replicas are ready", |it| it.ready == 2).await;
    assert_eq!(told.desired, 2);
    let running = async || {
        let mut on = vec![];
        for name in &names {
            let current = stage.get(name).await.status.and_then(|it| it.current);
            on.extend(current.filter(|it| it.started).and_then(|it| it.replica));
        }
        on.sort_unstable();
        (on == [0, 1]).then_some(())
    };
    stage.until("one build runs on each", running).await;
    assert_eq!(size(&stage).await, 2);
}

#[tokio::test]
async fn what_replicas_cannot_be_is_refused_with_what_to_do() {
    let stage = Stage::new().await;
    let builders = stage.api::<Builder>();
    for (spec, with) in [
        (json!({"replicas": 0}), "spec.replicas"),
        (json!({"replicas": 33}), "spec.replicas"),
        (
            json!({"replicas": 2, "sharing": "ImageBuild"}),
            "are for sharing: Namespace",
        ),
        (
            json!({"autoscale": {"max": 2}, "sharing": "Build"}),
            "are for sharing: Namespace",
        ),
        (
            json!({"replicas": 2, "autoscale": {"max": 2}}),
            "replicas and autoscale exclude each other",
        ),
        (
            json!({"autoscale": {"min": 3, "max": 2}}),
            "min is larger than max",
        ),
    ] {
        let builder = json!({"apiVersion": "whittle.dev/v1alpha1", "kind": "Builder", "metadata": {"name": "other"}, "spec": spec});
        let apply = Patch::Apply(builder);
        let params = PatchParams::apply("test").force();
        let error = builders.patch("other", &params, &apply).await;
        let error = error.expect_err(with).to_string();
        assert!(error.contains(with), "{error}");
    }
}
