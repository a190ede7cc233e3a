//! An ImageBuild that is asked for another build of the same.

use std::time::{Duration, Instant};

use futures::StreamExt;
use k8s_openapi::api::batch::v1::Job;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, ResourceExt};
use serde_json::json;
use whittle_api::{ImageBuild, is_true};
use whittle_controller::names;

use super::{Bench, LIMIT, NAMESPACE, Result};

const NAME: &str = "bench-again";

/// One that has built once.
pub struct Again {
    builds: Api<ImageBuild>,
    jobs: Api<Job>,
}

impl Again {
    pub async fn new(bench: &Bench) -> Result<Self> {
        let again = Self {
            builds: Api::namespaced(bench.client.clone(), NAMESPACE),
            jobs: Api::namespaced(bench.client.clone(), NAMESPACE),
        };
        again.end().await?;
        let build = bench.image_build(NAME, "main", "whittle", "latest")?;
        again.builds.create(&PostParams::default(), &build).await?;
        again.ready(None).await?;
        Ok(again)
    }

    /// Deletes it, where it is there.
    pub async fn end(&self) -> Result<()> {
        if self.builds.get_opt(NAME).await?.is_none() {
            return Ok(());
        }
        let all = DeleteParams::foreground();
        self.builds.delete(NAME, &all).await?;
        let gone = |build: Option<&ImageBuild>| build.is_none();
        kube::runtime::wait::await_condition(self.builds.clone(), NAME, gone).await?;
        Ok(())
    }

    /// Until a runner waits for its next build.
    pub async fn is_waited_for(&self) -> Result<()> {
        let until = Instant::now() + LIMIT;
        let params = ListParams::default().labels(names::STANDBY);
        loop {
            let number = self.builds.get(NAME).await?.status.and_then(|it| it.build);
            let next = number.map(|number| (number + 1).to_string());
            let waits = |job: &Job| {
                let ready = job.status.as_ref().and_then(|status| status.ready);
                job.annotations().get(names::BUILD) == next.as_ref() && ready == Some(1)
            };
            if self.jobs.list(&params).await?.iter().any(waits) {
                return Ok(());
            }
            if Instant::now() > until {
                return Err("no runner waits".into());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// From the request until Ready; and whether it was carried out by a runner that had waited.
    pub async fn whittle(&self) -> Result<(Duration, bool)> {
        let value = format!("{:?}", std::time::SystemTime::now());
        let patch = json!({"metadata": {"annotations": {"whittle.dev/requestedAt": value}}});
        let begun = Instant::now();
        let ready = async {
            let ready = self.ready(Some(&value)).await?;
            Ok::<_, Box<dyn std::error::Error>>((begun.elapsed(), ready))
        };
        let asks = async {
            let params = PatchParams::default();
            self.builds
                .patch(NAME, &params, &Patch::Merge(patch))
                .await?;
            Ok(())
        };
        let ((time, build), ()) = futures::try_join!(ready, asks)?;
        let status = build.status.unwrap_or_default();
        let job = status.history.first().and_then(|entry| entry.job.clone());
        let job = match job {
            Some(job) => self.jobs.get_opt(&job).await?,
            None => None,
        };
        let waited = job.is_some_and(|job| job.labels().contains_key(names::STANDBY));
        Ok((time, waited))
    }

    /// The ImageBuild, once it is Ready after this request.
    async fn ready(&self, request: Option<&str>) -> Result<ImageBuild> {
        let named = watcher::Config::default().fields(&format!("metadata.name={NAME}"));
        let watched = watcher(self.builds.clone(), named).default_backoff();
        let mut watched = watched.applied_objects().boxed();
        let ready = async {
            while let Some(build) = watched.next().await {
                let build = build?;
                let Some(status) = &build.status else {
                    continue;
                };
                let asked = status.last_handled_request.as_deref();
                if is_true(&status.conditions, "Stalled") {
                    return Err(format!("the build failed: {:?}", status.conditions).into());
                }
                if is_true(&status.conditions, "Ready") && (request.is_none() || asked == request) {
                    return Ok(build);
                }
            }
            Err("the watch has ended".into())
        };
        tokio::time::timeout(LIMIT, ready).await?
    }
}
