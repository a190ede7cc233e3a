//! An ImageBuild that is asked for another build of the same.

use std::time::{Duration, Instant};

use futures::StreamExt;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use whittle_api::{ImageBuild, is_true};
use whittle_controller::names;

use super::bench::until;
use super::{Bench, LIMIT, NAMESPACE, Result};

const NAME: &str = "bench-again";

/// One that has built once.
pub struct Again {
    builds: Api<ImageBuild>,
    jobs: Api<Job>,
    pods: Api<Pod>,
    client: Client,
    /// `NAMESPACE/services/NAME` of the controller's Service.
    controller: String,
}

impl Again {
    pub async fn new(bench: &Bench) -> Result<Self> {
        let ours = ListParams::default()
            .labels("app.kubernetes.io/name=whittle,app.kubernetes.io/component=controller");
        let services = Api::<Service>::all(bench.client.clone());
        let services = services.list(&ours).await?.items;
        let service = services.first().ok_or("no Service of a controller")?;
        let namespace = service.namespace().unwrap_or_default();
        let again = Self {
            controller: format!("{namespace}/services/{}", service.name_any()),
            pods: Api::namespaced(bench.client.clone(), NAMESPACE),
            client: bench.client.clone(),
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

    /// Until the Pods of its builds have ended: a build waits for that of the one before, and a kubelet takes a second or two to tell.
    pub async fn is_idle(&self) -> Result<()> {
        let ours = format!("{}={}", names::COMPONENT, names::RUNNER);
        let params = ListParams::default().labels(&format!("{ours},!{}", names::STANDBY));
        let alive = |pod: &Pod| {
            let of = pod.annotations().get(names::IMAGE_BUILD);
            let phase = pod.status.as_ref().and_then(|it| it.phase.as_deref());
            of.is_some_and(|of| of == NAME) && !matches!(phase, Some("Succeeded" | "Failed"))
        };
        let idle = async || Ok(!self.pods.list(&params).await?.iter().any(alive));
        until("the Pods of earlier builds end", idle).await
    }

    /// Until a runner waits for its next build, and those of others wait, too.
    pub async fn is_waited_for(&self) -> Result<()> {
        let params = ListParams::default().labels(names::STANDBY);
        let waits = async || {
            let number = self.builds.get(NAME).await?.status.and_then(|it| it.build);
            let next = number.map(|number| (number + 1).to_string());
            let is_next = |job: &&Job| {
                let annotations = job.annotations();
                annotations
                    .get(names::IMAGE_BUILD)
                    .is_some_and(|of| of == NAME)
                    && annotations.get(names::BUILD) == next.as_ref()
            };
            let jobs = self.jobs.list(&params).await?.items;
            let active = |job: &&Job| job.status.as_ref().and_then(|it| it.active) == Some(1);
            let all = u64::try_from(jobs.iter().filter(active).count())?;
            // Its Pod runs before it has come to wait.
            Ok(jobs.iter().filter(active).any(|job| is_next(&job))
                && self.metric("whittle_runners_waiting").await? >= all)
        };
        until("a runner waits", waits).await
    }

    /// How many attempts were carried out by a runner that had waited.
    pub async fn by_those_that_waited(&self) -> Result<u64> {
        self.metric("whittle_attempts_in_advance_total").await
    }

    /// A number that the controller shows.
    async fn metric(&self, name: &str) -> Result<u64> {
        let service = &self.controller;
        let path = format!("/api/v1/namespaces/{service}:metrics/proxy/metrics");
        let request = http::Request::get(path).body(vec![])?;
        let text = self.client.request_text(request).await?;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(line.ok_or_else(|| format!("no metric {name}"))?.parse()?)
    }

    /// From the request until Ready.
    pub async fn whittle(&self) -> Result<Duration> {
        let value = format!("{:?}", std::time::SystemTime::now());
        let patch = json!({"metadata": {"annotations": {"whittle.dev/requestedAt": value}}});
        let begun = Instant::now();
        let ready = async {
            self.ready(Some(&value)).await?;
            Ok::<_, Box<dyn std::error::Error>>(begun.elapsed())
        };
        let asks = async {
            let params = PatchParams::default();
            self.builds
                .patch(NAME, &params, &Patch::Merge(patch))
                .await?;
            Ok(())
        };
        let (time, ()) = futures::try_join!(ready, asks)?;
        Ok(time)
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
