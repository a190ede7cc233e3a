//! What the callback asks of the cluster: whether the attempt that speaks is the one that runs.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use super::credentials::Attempt;
use super::{Cluster, Error, MOST_PODS, Meta, briefly, during, key};
use crate::imagebuild::{decide, outcome};
use crate::{names, pods};
use whittle_api::{ImageBuild, Sharing};

/// Label that the API server puts on the Pods of a Job.
const JOB_NAME: &str = "batch.kubernetes.io/job-name";

impl Cluster {
    /// Why a report of this attempt is not taken; none where it is: the ImageBuild's status names its Job, and that
    /// Job's Pod runs.
    pub async fn objection(
        &self,
        attempt: &Attempt,
        name: &str,
    ) -> Result<Option<&'static str>, Error> {
        let Attempt {
            namespace,
            uid,
            job,
        } = attempt;
        let (build, job) =
            futures::try_join!(self.image_build(namespace, name), self.job(namespace, job))?;
        let pods = match &job {
            Some(job) => self.pods_of(job, uid).await?,
            None => vec![],
        };
        Ok(objection(attempt, build.as_ref(), job.as_ref(), &pods))
    }

    /// Name of the Builder that an attempt runs on, where its Job has not ended and that Builder's cache outlives it; and the replica of
    /// several.
    pub async fn builder_in_use(
        &self,
        attempt: &Attempt,
    ) -> Result<Option<(String, Option<i32>)>, Error> {
        let Attempt {
            namespace,
            uid,
            job,
        } = attempt;
        let Some(job) = self.job(namespace, job).await? else {
            return Ok(None);
        };
        let named = job.labels().get(names::BUILDER_NAME);
        let named = named.filter(|name| names::check_builder(name).is_ok());
        let (Some(named), true) = (named, outcome::is_of(&job, uid) && !pods::has_ended(&job))
        else {
            return Ok(None);
        };
        let replica = match job.labels().contains_key(names::STANDBY) {
            // It was made before anybody knew.
            true => self.replica_of(&job).await?,
            false => {
                let replica = job.annotations().get(names::REPLICA);
                replica.and_then(|replica| replica.parse().ok())
            }
        };
        let builder = self.builder(namespace, named).await?;
        Ok(builder.and_then(|builder| match builder.spec.sharing {
            Sharing::Namespace => Some((named.clone(), replica)),
            Sharing::ImageBuild => Some((names::own_builder(named, uid), None)),
            Sharing::Build => None,
        }))
    }

    /// The replica that the attempt runs on which this Job carries out.
    async fn replica_of(&self, job: &Job) -> Result<Option<i32>, Error> {
        let (namespace, name) = key(job);
        let Some(build) = job.annotations().get(names::IMAGE_BUILD) else {
            return Ok(None);
        };
        let build = self.image_build(&namespace, build).await?;
        let current = build.and_then(|build| build.status?.current);
        let current = current.filter(|current| current.job == name);
        Ok(current.and_then(|current| current.replica))
    }

    /// The Pods of a Job, up to the first that runs.
    async fn pods_of(&self, job: &Job, owner: &str) -> Result<Vec<Pod>, Error> {
        let (namespace, name) = key(job);
        let params = ListParams::default().labels(&format!("{JOB_NAME}={name}"));
        let runs = |pod: &Pod| outcome::runs(job, owner, std::slice::from_ref(pod));
        briefly(&self.client, &namespace, params, MOST_PODS, runs)
            .await
            .map_err(during(format!(
                "listing the Pods of Job {namespace}/{name}"
            )))
    }

    /// Writes what goes on, unless another attempt has begun or the build has ended meanwhile: then
    /// the patch's own test fails, and nothing is written.
    pub async fn write_progress(
        &self,
        attempt: &Attempt,
        name: &str,
        (message, counted): (&str, &str),
    ) -> Result<(), Error> {
        let patch: json_patch::Patch = serde_json::from_value(json!([
            { "op": "test", "path": "/metadata/uid", "value": attempt.uid },
            { "op": "test", "path": "/status/current/job", "value": attempt.job },
            { "op": "add", "path": "/status/current/message", "value": message },
            { "op": "add", "path": "/status/current/progress", "value": counted },
        ]))
        .expect("a literal patch is always a patch");
        let namespace = &attempt.namespace;
        let result = Api::<Meta<ImageBuild>>::namespaced(self.client.clone(), namespace)
            .patch_status(name, &PatchParams::default(), &Patch::Json::<()>(patch))
            .await;
        match result {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409 | 422) => Ok(()),
            Err(error) => Err(during(format!(
                "writing the progress of ImageBuild {namespace}/{name}"
            ))(error)),
        }
    }
}

fn objection(
    attempt: &Attempt,
    build: Option<&ImageBuild>,
    job: Option<&Job>,
    pods: &[Pod],
) -> Option<&'static str> {
    let uid = attempt.uid.as_str();
    let Some(build) = build.filter(|build| build.uid().as_deref() == Some(uid)) else {
        return Some("ImageBuild not found");
    };
    if !decide::awaits_report(build, &attempt.job) {
        return Some("not the attempt that is running");
    }
    if !job.is_some_and(|job| outcome::runs(job, uid, pods)) {
        return Some("the attempt's Pod is not running");
    }
    None
}
