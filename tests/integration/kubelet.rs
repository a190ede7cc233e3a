//! Plays whatever runs beside the controller in a cluster, from what stands in the API server alone: so it goes on
//! rightly wherever a controller was killed.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, Resource, ResourceExt};
use serde_json::{Value, json};
use whittle_build::report::{Report, encode};

use crate::minimize::{crashed, image};
use crate::stage::{Stage, ended, success};

/// Plays for the namespace of a stage.
#[derive(Default)]
pub struct Kubelet {
    /// The node of the first attempt is lost.
    pub loses_the_first: bool,
    /// The first runner does not end.
    pub holds_the_first: bool,
    /// The image of this digest ends in its health check.
    pub crashes: Option<&'static str>,
    /// It runs.
    pub first_runs: bool,
    first: Option<String>,
}

impl Kubelet {
    /// Each thing goes one step further.
    pub async fn turn(&mut self, stage: &Stage) {
        self.turn_with(stage, |_| success("sha256:aa")).await;
    }

    /// The same, where runners end with this.
    pub async fn turn_with(&mut self, stage: &Stage, ends: impl Fn(&Job) -> Report) {
        let all = ListParams::default();
        let sets = stage.api::<StatefulSet>();
        for set in sets.list(&all).await.unwrap() {
            let wanted = set.spec.as_ref().and_then(|spec| spec.replicas);
            let wanted = wanted.unwrap_or(1);
            let known = set.status.clone().unwrap_or_default();
            // Said once: many that turn at a time keep the API server busy.
            if known.observed_generation != set.metadata.generation
                || known.ready_replicas.unwrap_or_default() != wanted
            {
                let status = json!({"replicas": wanted, "readyReplicas": wanted, "updatedReplicas": wanted, "observedGeneration": set.metadata.generation});
                is(&sets, &set.name_any(), status).await;
            }
        }
        let jobs = stage.api::<Job>().list(&all).await.unwrap().items;
        let pods = stage.api::<Pod>();
        let there = pods.list(&all).await.unwrap().items;
        for pod in &there {
            let owners = pod.owner_references();
            let stands = |job: &Job| {
                owners
                    .iter()
                    .any(|owner| Some(&owner.uid) == job.meta().uid.as_ref())
            };
            if !jobs.iter().any(stands) {
                let now = DeleteParams::default().grace_period(0);
                let _ = pods.delete(&pod.name_any(), &now).await;
            }
        }
        for job in &jobs {
            let name = format!("{}-x", job.name_any());
            let pod = there.iter().find(|pod| pod.name_any() == name);
            self.job(stage, job, pod, &ends).await;
        }
    }

    async fn job(
        &mut self,
        stage: &Stage,
        job: &Job,
        pod: Option<&Pod>,
        ends: &impl Fn(&Job) -> Report,
    ) {
        let Some(pod) = pod else {
            stage.pod(job, json!({"phase": "Running"})).await;
            return;
        };
        if job
            .labels()
            .get("whittle.dev/component")
            .is_some_and(|it| it == "gate")
        {
            let now = jiff::Timestamp::now().to_string();
            let running = json!({"name": "image", "image": "a", "imageID": "", "ready": true, "restartCount": 0, "state": {"running": {"startedAt": now}}});
            let ready = json!({"type": "Ready", "status": "True", "lastTransitionTime": now});
            let passed =
                json!({"phase": "Running", "conditions": [ready], "containerStatuses": [running]});
            if pod.status.as_ref().is_none_or(|status| {
                let ended = status.phase.as_deref() == Some("Failed");
                status.conditions.is_none() && !ended
            }) {
                if tries(job) {
                    stage.pod(job, tried()).await;
                    return;
                }
                let crashes = self.crashes.is_some_and(|it| image(job).ends_with(it));
                let status = if crashes { crashed() } else { passed };
                stage.pod(job, status).await;
            }
            return;
        }
        let first = self.first.get_or_insert_with(|| job.name_any());
        let first = *first == job.name_any();
        let (lost, held) = (self.loses_the_first && first, self.holds_the_first && first);
        let phase = pod
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref());
        let done = job
            .status
            .as_ref()
            .is_some_and(|status| status.conditions.is_some());
        match phase {
            Some("Running") if held => self.first_runs = true,
            Some("Running") if lost => {
                stage.pod(job, json!({"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."})).await;
            }
            Some("Running") => {
                stage.pod(job, ended(&encode(&ends(job)))).await;
            }
            _ if done => {}
            _ => {
                let at = "2026-01-01T00:00:00Z";
                let kinds = match lost {
                    true => ["FailureTarget", "Failed"],
                    false => ["SuccessCriteriaMet", "Complete"],
                };
                let conditions = kinds.map(|kind| json!({"type": kind, "status": "True", "reason": "Played", "lastTransitionTime": at}));
                let status = match lost {
                    true => json!({"startTime": at, "failed": 1, "conditions": conditions}),
                    false => {
                        json!({"startTime": at, "completionTime": at, "succeeded": 1, "conditions": conditions})
                    }
                };
                is(&stage.api::<Job>(), &job.name_any(), status).await;
            }
        }
    }
}

/// True for the Job of a trial: a container of Whittle's own stands beside the image.
fn tries(job: &Job) -> bool {
    let pod = job
        .spec
        .as_ref()
        .and_then(|spec| spec.template.spec.as_ref());
    pod.is_some_and(|pod| pod.containers.len() > 1)
}

/// That one has ended, and the image runs on. What it printed nobody can read here.
fn tried() -> Value {
    let at = "2026-01-01T00:00:00Z";
    let container = |name: &str, state: Value| json!({"name": name, "image": "a", "imageID": "", "ready": true, "restartCount": 0, "state": state});
    let ended = container(
        "trial",
        json!({"terminated": {"exitCode": 0, "reason": "Completed"}}),
    );
    json!({"phase": "Running", "conditions": [{"type": "PodScheduled", "status": "True", "lastTransitionTime": at}],
        "containerStatuses": [container("image", json!({"running": {"startedAt": at}})), ended]})
}

/// Its status is this; nothing where it has gone meanwhile.
async fn is<K>(api: &Api<K>, name: &str, status: Value)
where
    K: Resource<DynamicType = ()> + Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    let patch = Patch::Merge(json!({"status": status}));
    match api
        .patch_status(name, &PatchParams::default(), &patch)
        .await
    {
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        other => drop(other.unwrap()),
    }
}
