//! Waiting: the Builder's queue, how long a build may wait, and Jobs that Kueue suspends.

use k8s_openapi::api::batch::v1::Job;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use whittle_api::{Builder, ImageBuild, READY, REQUESTED_AT, find};

use crate::stage::{Stage, success};

/// A namespace whose Builder takes one build at a time.
async fn one_at_a_time() -> Stage {
    let stage = Stage::with_controller().await;
    let mut builder = Builder::new("default", Default::default());
    builder.spec.max_concurrent_builds = 1;
    let builders = stage.api::<Builder>();
    builders
        .create(&PostParams::default(), &builder)
        .await
        .unwrap();
    stage
}

/// Its build runs.
async fn runs(stage: &Stage, name: &str) -> Job {
    stage.apply(name, json!({})).await.unwrap();
    stage.builder_starts().await;
    let job = stage.job(name).await;
    stage.pod(&job, json!({"phase": "Running"})).await;
    stage.ready(name, "Unknown", "Building").await;
    job
}

async fn ends(stage: &Stage, name: &str, job: &Job) {
    stage.pod_ends(job, &success("sha256:aa")).await;
    stage.ready(name, "True", "Succeeded").await;
}

async fn request(stage: &Stage, name: &str, value: &str) {
    let asked = json!({"metadata": {"annotations": {(REQUESTED_AT): value}}});
    let builds = stage.api::<ImageBuild>();
    builds
        .patch(name, &PatchParams::default(), &Patch::Merge(asked))
        .await
        .unwrap();
}

fn message(build: &ImageBuild) -> String {
    let status = build.status.as_ref().unwrap();
    find(&status.conditions, READY).unwrap().message.clone()
}

#[tokio::test]
async fn a_build_that_waits_longer_than_it_may_ends_also_where_the_controller_was_away() {
    let mut stage = one_at_a_time().await;
    let first = runs(&stage, "first").await;
    stage.apply("second", json!({})).await.unwrap();
    let before = stage.ready("second", "Unknown", "Queued").await;
    let since = |build: &ImageBuild| build.status.clone()?.current?.waiting_since;
    let known = since(&before).expect("since when it waits");
    stage.kill_controller();
    let bound = json!({"queueTimeout": "4s"});
    stage.apply("second", bound).await.unwrap();
    stage.start_controller().await;
    let ended = stage.ready("second", "False", "QueueTimeout").await;
    let status = ended.status.clone().unwrap();
    let took = status.completed_at.unwrap().0.duration_since(known.0);
    assert!(took.as_secs() >= 4, "{took:?}");
    assert!(
        message(&ended).contains("1 running, 0 queued before this one"),
        "{}",
        message(&ended)
    );
    assert_eq!(status.history[0].job, None);
    // The one that runs is not touched, and nothing of the other begins by itself.
    ends(&stage, "first", &first).await;
    assert_eq!(stage.jobs().await.len(), 1);
    assert_eq!(stage.get("second").await.status.unwrap().build, Some(1));
    stage.apply("second", json!({})).await.unwrap();
    request(&stage, "second", "now").await;
    let second = stage.job("second").await;
    ends(&stage, "second", &second).await;
}

#[tokio::test]
async fn how_long_a_build_may_wait_is_checked_and_may_change_without_a_build() {
    let stage = Stage::with_controller().await;
    for wrong in ["1", "0s", "169h", "7d"] {
        let error = stage.apply("hello", json!({"queueTimeout": wrong})).await;
        let error = error.unwrap_err().to_string();
        assert!(error.contains("queueTimeout: invalid duration"), "{error}");
    }
    let job = runs(&stage, "hello").await;
    ends(&stage, "hello", &job).await;
    let changed = stage.apply("hello", json!({"queueTimeout": "168h"})).await;
    let generation = changed.unwrap().metadata.generation;
    let ready = stage.ready("hello", "True", "Succeeded").await;
    assert_eq!(ready.status.unwrap().observed_generation, generation);
    assert_eq!(stage.jobs().await.len(), 1);
}

/// What `kubectl get ib -o wide` shows of one, by the names of the columns.
async fn shown(stage: &Stage, name: &str) -> Value {
    let path = format!(
        "/apis/whittle.dev/v1alpha1/namespaces/{}/imagebuilds/{name}",
        stage.namespace
    );
    let request = http::Request::get(path)
        .header("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
        .body(vec![])
        .unwrap();
    let table: Value = stage.client.request(request).await.unwrap();
    let columns = table["columnDefinitions"].as_array().unwrap().iter();
    let cells = table["rows"][0]["cells"].as_array().unwrap().iter();
    let named = columns.map(|column| column["name"].as_str().unwrap().to_owned());
    named
        .zip(cells.cloned())
        .collect::<serde_json::Map<_, _>>()
        .into()
}

#[tokio::test]
async fn place_estimate_and_progress_are_in_the_status_and_in_the_columns() {
    let stage = one_at_a_time().await;
    let job = runs(&stage, "first").await;
    ends(&stage, "first", &job).await;
    request(&stage, "first", "again").await;
    let again = stage
        .until("the second build of it", async || {
            let current = stage.get("first").await.status?.current?;
            stage.api::<Job>().get_opt(&current.job).await.unwrap()
        })
        .await;
    stage.pod(&again, json!({"phase": "Running"})).await;
    stage.ready("first", "Unknown", "Building").await;
    let progress =
        json!({"status": {"current": {"message": "9/14 RUN go build", "progress": "9/14"}}});
    let builds = stage.api::<ImageBuild>();
    builds
        .patch_status("first", &PatchParams::default(), &Patch::Merge(progress))
        .await
        .unwrap();
    let row = shown(&stage, "first").await;
    assert_eq!(
        (&row["Progress"], &row["Position"]),
        (&json!("9/14"), &Value::Null)
    );
    for name in ["second", "third"] {
        stage.apply(name, json!({})).await.unwrap();
    }
    // Of two that became due in one second the UID decides.
    let place = async |name: &str| stage.get(name).await.status?.waiting()?.position;
    let next = stage
        .until("both know their places", async || {
            match (place("second").await?, place("third").await?) {
                (1, 2) => Some("second"),
                (2, 1) => Some("third"),
                _ => None,
            }
        })
        .await;
    // By what the first has taken; of those that wait nobody knows, and they count as much.
    let build = stage.get(next).await;
    let words = message(&build);
    assert!(words.contains("; starts about "), "{words}");
    let row = shown(&stage, next).await;
    assert_eq!(
        (&row["Reason"], &row["Position"]),
        (&json!("Queued"), &json!(1))
    );
    let starts = build.status.unwrap().waiting().unwrap().starts;
    assert!(starts.is_some());
    assert_eq!(row["Starts"], json!(starts));
    // Nothing is said of the queue once it runs.
    ends(&stage, "first", &again).await;
    let job = stage.job(next).await;
    stage.pod(&job, json!({"phase": "Running"})).await;
    stage.ready(next, "Unknown", "Building").await;
    let row = shown(&stage, next).await;
    assert_eq!(
        (&row["Position"], &row["Starts"]),
        (&Value::Null, &Value::Null)
    );
}

/// Plays Kueue: suspends the Job, or admits it with what it writes then.
async fn kueue(stage: &Stage, job: &Job, suspend: bool) -> Job {
    let mut patch = json!({"spec": {"suspend": suspend}});
    if !suspend {
        let template = json!({"metadata": {"labels": {"kueue.x-k8s.io/podset": "main"}, "annotations": {"kueue.x-k8s.io/workload": "w"}},
            "spec": {"nodeSelector": {"pool": "builds"}, "tolerations": [{"key": "builds", "operator": "Exists"}]}});
        patch["spec"]["template"] = template;
    }
    let jobs: Api<Job> = stage.api();
    jobs.patch(
        &job.name_any(),
        &PatchParams::default(),
        &Patch::Merge(patch),
    )
    .await
    .unwrap()
}

async fn labelled(stage: &Stage, name: &str, labels: Value) {
    let patch = json!({"metadata": {"labels": labels}});
    let builds = stage.api::<ImageBuild>();
    builds
        .patch(name, &PatchParams::default(), &Patch::Merge(patch))
        .await
        .unwrap();
}

/// A build whose Job waits in the queue `builds`.
async fn in_queue(stage: &Stage, spec: Value) -> Job {
    let held = json!({"suspend": true});
    stage.apply("hello", held).await.unwrap();
    labelled(
        stage,
        "hello",
        json!({"kueue.x-k8s.io/queue-name": "builds"}),
    )
    .await;
    stage.apply("hello", spec).await.unwrap();
    stage.builder_starts().await;
    let job = kueue(stage, &stage.job("hello").await, true).await;
    let waits = stage.ready("hello", "Unknown", "JobSuspended").await;
    assert!(
        message(&waits).starts_with("waits in queue builds of Kueue"),
        "{}",
        message(&waits)
    );
    job
}

#[tokio::test]
async fn a_job_that_kueue_suspends_waits_and_goes_on_and_what_kueue_writes_stays() {
    let stage = Stage::with_controller().await;
    let mut builder = Builder::new("default", Default::default());
    let asked = json!({"requests": {"cpu": "2", "memory": "4Gi"}});
    builder.spec.resources = serde_json::from_value(asked).unwrap();
    let builders = stage.api::<Builder>();
    builders
        .create(&PostParams::default(), &builder)
        .await
        .unwrap();
    let job = in_queue(&stage, json!({"timeout": "10m"})).await;
    assert_eq!(job.labels()["kueue.x-k8s.io/queue-name"], "builds");
    let spec = job.spec.clone().unwrap();
    assert_eq!(spec.active_deadline_seconds, Some(600));
    // What the build may take of the builder, which takes two.
    let container = &spec.template.spec.unwrap().containers[0];
    let requests = container.resources.clone().unwrap().requests.unwrap();
    assert_eq!(
        (requests["cpu"].0.as_str(), requests["memory"].0.as_str()),
        ("1", "2Gi")
    );

    kueue(&stage, &job, false).await;
    stage.pod(&job, json!({"phase": "Running"})).await;
    stage.ready("hello", "Unknown", "Building").await;
    let current = stage.get("hello").await.status.unwrap().current.unwrap();
    assert_eq!((current.started, current.waiting_since), (true, None));

    // It has to make room: its Pod goes, and the attempt waits again.
    kueue(&stage, &job, true).await;
    stage.pod_is_deleted(&job).await;
    stage.ready("hello", "Unknown", "JobSuspended").await;
    kueue(&stage, &job, false).await;
    stage.pod(&job, json!({"phase": "Running"})).await;
    stage.ready("hello", "Unknown", "Building").await;
    let stands = stage.api::<Job>().get(&job.name_any()).await.unwrap();
    let template = stands.spec.clone().unwrap().template;
    assert_eq!(
        template.metadata.unwrap().labels.unwrap()["kueue.x-k8s.io/podset"],
        "main"
    );
    assert_eq!(
        template.spec.unwrap().node_selector.unwrap()["pool"],
        "builds"
    );
    ends(&stage, "hello", &job).await;
    let status = stage.get("hello").await.status.unwrap();
    assert_eq!(status.history.len(), 1);
    assert_eq!(status.history[0].job, Some(job.name_any()));
    assert_eq!(stage.jobs().await.len(), 1);
}

#[tokio::test]
async fn a_wait_in_a_queue_of_kueue_is_bounded_too_and_a_person_may_hold_it() {
    let stage = Stage::with_controller().await;
    let job = in_queue(&stage, json!({})).await;
    // Held: the Job goes, and comes again once it may.
    stage
        .apply("hello", json!({"suspend": true}))
        .await
        .unwrap();
    stage.ready("hello", "False", "Suspended").await;
    let jobs = stage.api::<Job>();
    stage
        .until("its Job is gone", async || {
            jobs.get_opt(&job.name_any())
                .await
                .unwrap()
                .is_none()
                .then_some(())
        })
        .await;
    stage.apply("hello", json!({})).await.unwrap();
    let again = stage.job("hello").await;
    assert_ne!(again.uid(), job.uid());
    kueue(&stage, &again, true).await;
    stage.ready("hello", "Unknown", "JobSuspended").await;
    let bound = json!({"queueTimeout": "3s"});
    stage.apply("hello", bound).await.unwrap();
    let ended = stage.ready("hello", "False", "QueueTimeout").await;
    assert!(
        message(&ended).contains("waits in queue builds"),
        "{}",
        message(&ended)
    );
    stage
        .until("its Job is gone", async || {
            jobs.get_opt(&again.name_any())
                .await
                .unwrap()
                .is_none()
                .then_some(())
        })
        .await;
}
