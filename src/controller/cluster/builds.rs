//! What concerns ImageBuilds: reading one and what belongs to it, starting and stopping attempts.

use k8s_openapi::ByteString;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use super::lean::Lean;
use super::{Cluster, Error, MOST_PODS, Meta, briefly, during, key, listed};
use crate::imagebuild::decide;
use crate::imagebuild::job::Attempt;
use crate::names;
use crate::pods;
use whittle_api::{Builder, ImageBuild, ImageBuildStatus};
use whittle_build::request::paths;

/// Jobs of one Builder or ImageBuild that are looked at, at most: about half a KiB each.
const MOST_JOBS: usize = 5000;

impl Cluster {
    /// Reads an ImageBuild, live.
    pub async fn image_build(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<ImageBuild>, Error> {
        let found = Api::<Lean<ImageBuild, false>>::namespaced(self.client.clone(), namespace)
            .get_opt(name)
            .await
            .map_err(during(format!("reading ImageBuild {namespace}/{name}")))?;
        Ok(found.map(|lean| lean.0))
    }

    pub async fn job(&self, namespace: &str, name: &str) -> Result<Option<Job>, Error> {
        Api::<Job>::namespaced(self.client.clone(), namespace)
            .get_opt(name)
            .await
            .map_err(during(format!("reading Job {namespace}/{name}")))
    }

    pub async fn runner_pods(&self, namespace: &str, uid: &str) -> Result<Vec<Pod>, Error> {
        let params = ListParams::default().labels(&format!(
            "{}={},{}={uid}",
            names::COMPONENT,
            names::RUNNER,
            names::IMAGE_BUILD_UID
        ));
        briefly(&self.client, namespace, params, MOST_PODS, |_| false)
            .await
            .map_err(during(format!("listing the runner Pods of {namespace}")))
    }

    /// The Builder that the build names; none where there can be none of that name, for which nobody is asked.
    pub async fn builder_of(&self, build: &ImageBuild) -> Result<Option<Builder>, Error> {
        let name = &build.spec.builder_ref.name;
        match names::check_builder(name) {
            Ok(()) => self.builder(&key(build).0, name).await,
            Err(_) => Ok(None),
        }
    }

    /// The memory limit of the container of a builder's replica, where that was killed for it since `since`.
    pub async fn builder_out_of_memory(
        &self,
        builder: &Builder,
        replica: i32,
        since: Timestamp,
    ) -> Result<Option<String>, Error> {
        let (namespace, name) = key(builder);
        let pod = names::builder_pod(&name, replica);
        let pod = Api::<Pod>::namespaced(self.client.clone(), &namespace)
            .get_opt(&pod)
            .await
            .map_err(during(format!("reading Pod {namespace}/{pod}")))?;
        let killed = pod.is_some_and(|pod| pods::was_out_of_memory(&pod, Some(since)));
        let limit = decide::memory_limit(builder).unwrap_or("of its node");
        Ok(killed.then(|| limit.to_owned()))
    }

    /// Writes the status where it differs, and returns the ImageBuild's version from then on. What the callback has written
    /// meanwhile ([`Cluster::write_progress`]) makes it another version.
    pub async fn write_status(
        &self,
        build: &ImageBuild,
        status: &ImageBuildStatus,
    ) -> Result<Option<String>, Error> {
        self.patch_status(build, build.status.as_ref(), status)
            .await
    }

    /// Makes the objects of an attempt. What exists already is left as it is: the same attempt has the
    /// same name, and whose it is is checked at the next look.
    ///
    /// `token` is the credential of the runner. Its Secret belongs to the ConfigMap, and goes with it: no right to
    /// delete Secrets is needed for that.
    pub async fn start(&self, attempt: &Attempt, token: &str) -> Result<(), Error> {
        self.give(attempt, token).await?;
        self.create(&attempt.job).await
    }

    /// Makes what the Pod of an attempt mounts of its own.
    async fn give(&self, attempt: &Attempt, token: &str) -> Result<(), Error> {
        let owner = self.made(&attempt.config_map).await?;
        if let Some(secret) = &attempt.secret {
            let mut secret = secret.clone();
            secret.metadata.owner_references = Some(vec![OwnerReference {
                api_version: "v1".into(),
                kind: "ConfigMap".into(),
                name: owner.name.unwrap_or_default(),
                uid: owner.uid.unwrap_or_default(),
                ..OwnerReference::default()
            }]);
            let token = ByteString(token.as_bytes().to_vec());
            secret.data = Some([(paths::TOKEN_KEY.to_owned(), token)].into());
            self.create(&secret).await?;
        }
        Ok(())
    }

    /// Makes the objects of an attempt in advance: the Job first, by which the others are found again. Its Pod waits for them.
    pub async fn start_in_advance(&self, attempt: &Attempt, token: &str) -> Result<(), Error> {
        self.create(&attempt.job).await?;
        self.give(attempt, token).await
    }

    /// The Jobs of runners that were made in advance, and wait beside this Builder, or have.
    pub async fn in_advance(&self, namespace: &str, builder: &str) -> Result<Vec<Job>, Error> {
        let labels = format!(
            "{},{}={builder},{}",
            names::MANAGED,
            names::BUILDER_NAME,
            names::STANDBY
        );
        let params = ListParams::default().labels(&labels);
        briefly(&self.client, namespace, params, MOST_JOBS, |_| false)
            .await
            .map_err(during(format!(
                "listing the Jobs of Builder {namespace}/{builder}"
            )))
    }

    /// Makes an attempt's ConfigMap, and tells what the API server knows it by. Of one that a start before this one
    /// made only the metadata is asked for: by a patch that changes nothing, as there is no right to read any.
    ///
    /// # Errors
    /// Also where a ConfigMap of this name stands there that is not this ImageBuild's.
    async fn made(&self, config_map: &ConfigMap) -> Result<ObjectMeta, Error> {
        let (namespace, name) = key(config_map);
        let what = || format!("creating ConfigMap {namespace}/{name}");
        let api = Api::<ConfigMap>::namespaced(self.client.clone(), &namespace);
        let params = PostParams {
            field_manager: Some(names::FIELD_MANAGER.into()),
            ..PostParams::default()
        };
        let exists = match api.create(&params, config_map).await {
            Ok(made) => return Ok(made.metadata),
            Err(error) => match &error {
                kube::Error::Api(status) if status.is_already_exists() => error,
                _ => return Err(during(what())(error)),
            },
        };
        let nothing = Patch::Merge(json!({}));
        let found = api
            .patch_metadata(&name, &PatchParams::default(), &nothing)
            .await
            .map_err(during(what()))?;
        let mine = config_map.owner_references().iter().map(|o| &o.uid);
        let mut owners = found.owner_references().iter();
        if owners.any(|owner| mine.clone().any(|uid| *uid == owner.uid)) {
            return Ok(found.metadata);
        }
        Err(during(what())(exists))
    }

    /// Deletes the Job and the ConfigMap of this name; their Pods follow.
    pub async fn stop(&self, namespace: &str, job: &str) -> Result<(), Error> {
        let params = DeleteParams::background();
        ignore_missing(
            Api::<Job>::namespaced(self.client.clone(), namespace)
                .delete(job, &params)
                .await
                .map(drop),
        )
        .map_err(during(format!("deleting Job {namespace}/{job}")))?;
        ignore_missing(
            Api::<ConfigMap>::namespaced(self.client.clone(), namespace)
                .delete(job, &params)
                .await
                .map(drop),
        )
        .map_err(during(format!("deleting ConfigMap {namespace}/{job}")))
    }

    /// Deletes Jobs and ConfigMaps of this ImageBuild's builds before number `before`.
    pub async fn prune(&self, build: &ImageBuild, before: i64) -> Result<(), Error> {
        let (namespace, _) = key(build);
        for job in self.jobs_of(build).await? {
            if pods::is_before(&job, before) {
                self.stop(&namespace, &job.name_any()).await?;
            }
        }
        Ok(())
    }

    /// Before an attempt starts: names of the Jobs that check an image of this ImageBuild which its status does not name; and the
    /// Jobs that were made in advance for that attempt.
    pub async fn left_and_ready(
        &self,
        build: &ImageBuild,
    ) -> Result<(Vec<String>, Vec<Meta<Job>>), Error> {
        let named = build.status.as_ref().map(decide::check_jobs);
        let named = named.unwrap_or_default();
        let jobs = self.jobs_of(build).await?;
        let stray = jobs.iter().filter(|job| pods::is_stray_check(*job, &named));
        let stray = stray.map(ResourceExt::name_any).collect();
        let next = decide::next_first(build);
        let ready = jobs.into_iter();
        let ready = ready.filter(|job| next.is_some_and(|it| pods::is_in_advance_for(job, it)));
        Ok((stray, ready.collect()))
    }

    /// All Jobs that belong to this ImageBuild, runners' and checks'.
    async fn jobs_of(&self, build: &ImageBuild) -> Result<Vec<Meta<Job>>, Error> {
        let (namespace, name) = key(build);
        let uid = build.uid().unwrap_or_default();
        let labels = format!("{},{}={uid}", names::MANAGED, names::IMAGE_BUILD_UID);
        let api = Api::<Meta<Job>>::namespaced(self.client.clone(), &namespace);
        let params = ListParams::default().labels(&labels);
        let jobs = listed(&api, params, MOST_JOBS, |_| false)
            .await
            .map_err(during(format!(
                "listing the Jobs of ImageBuild {namespace}/{name}"
            )))?;
        let mine = |job: &Meta<Job>| pods::is_ours(job, &uid);
        Ok(jobs.into_iter().filter(mine).collect())
    }
}

pub(super) fn ignore_missing(result: Result<(), kube::Error>) -> Result<(), kube::Error> {
    match result {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => other,
    }
}
