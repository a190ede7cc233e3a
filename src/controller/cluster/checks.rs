//! The checks of pushed images: their Jobs, Pods, and what the Pods said.

use std::collections::BTreeSet;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::api::{ListParams, LogParams};
use kube::{Api, ResourceExt};

use super::{Cluster, Error, MOST_PODS, briefly, during, key};
use crate::imagebuild::decide::PendingCheck;
use crate::imagebuild::gate;
use crate::imagebuild::gate::{Check, Seen, State};
use crate::names;
use crate::pods;
use crate::pods::{Of, Question};
use whittle_api::{HealthCheck, ImageBuild, bounded};

/// Lines of a container's log that a failure tells.
const LINES: i64 = 20;
/// Bytes of these, at most.
const LOG_BYTES: usize = 4096;

impl Cluster {
    /// Where the check of each platform stands.
    pub(super) async fn checks(
        &self,
        build: &ImageBuild,
        pending: &PendingCheck,
        now: Timestamp,
    ) -> Result<Vec<Check>, Error> {
        let architectures = self.architectures().await?;
        let mut checks = Vec::new();
        for platform in &pending.built.platforms {
            let platform = platform.platform.clone();
            let state = if gate::has_node(&platform, &architectures) {
                let name = names::child(&pending.attempt, &platform);
                self.check(build, &name, &pending.check, now).await?
            } else {
                State::NoNode
            };
            checks.push(Check { platform, state });
        }
        Ok(checks)
    }

    async fn check(
        &self,
        build: &ImageBuild,
        name: &str,
        check: &HealthCheck,
        now: Timestamp,
    ) -> Result<State, Error> {
        let (namespace, _) = key(build);
        let uid = build.uid().unwrap_or_default();
        let job = self.job(&namespace, name).await?;
        let pod = match &job {
            Some(job) => self.pod_of(&namespace, job).await?,
            None => None,
        };
        let refused = match (&job, &pod) {
            (Some(job), None) => self.events(&namespace, &Question::not_made(job)).await?,
            _ => vec![],
        };
        let seen = Seen {
            owner: &uid,
            job: job.as_ref(),
            pod: pod.as_ref(),
            refused: refused.first(),
        };
        let state = gate::state(&seen, check, now);
        let (State::Failed { .. }, Some(pod)) = (&state, &pod) else {
            return Ok(state);
        };
        let question = Question {
            of: Of::Uid(pod.uid().unwrap_or_default()),
            reasons: &["Unhealthy"],
        };
        let unhealthy = self.events(&namespace, &question).await?;
        let log = self.last_lines(&namespace, &pod.name_any()).await;
        Ok(gate::explain(
            state,
            unhealthy.first().map(|event| event.words.as_str()),
            log,
        ))
    }

    async fn pod_of(&self, namespace: &str, job: &Job) -> Result<Option<Pod>, Error> {
        let uid = job.uid().unwrap_or_default();
        let selector = format!("batch.kubernetes.io/controller-uid={uid}");
        let params = ListParams::default().labels(&selector);
        let pods = briefly::<Pod>(&self.client, namespace, params, MOST_PODS, |_| false)
            .await
            .map_err(during(format!(
                "listing the Pods of Job {namespace}/{}",
                job.name_any()
            )))?;
        Ok(pods::of(&pods, Some(job)).cloned())
    }

    /// The last lines of the checked container; none where the kubelet does not give them.
    async fn last_lines(&self, namespace: &str, pod: &str) -> Option<String> {
        let parameters = LogParams {
            container: Some(gate::CONTAINER.into()),
            tail_lines: Some(LINES),
            limit_bytes: Some(LOG_BYTES as i64),
            ..LogParams::default()
        };
        let log = Api::<Pod>::namespaced(self.client.clone(), namespace)
            .logs(pod, &parameters)
            .await;
        match log {
            Ok(log) => Some(bounded(log.trim_end().to_owned(), LOG_BYTES)),
            Err(error) => {
                tracing::info!(namespace, pod, %error, "cannot read the log of a health check Pod");
                None
            }
        }
    }

    /// The architectures of the cluster's Linux nodes.
    async fn architectures(&self) -> Result<BTreeSet<String>, Error> {
        let nodes = Api::<Node>::all(self.client.clone())
            .list_metadata(&ListParams::default().labels("kubernetes.io/os=linux"))
            .await
            .map_err(during("listing the nodes"))?;
        Ok(nodes
            .iter()
            .filter_map(|node| node.labels().get("kubernetes.io/arch").cloned())
            .collect())
    }

    /// Makes the Jobs of checks. What exists already is left as it is.
    pub async fn start_checks(&self, jobs: &[Job]) -> Result<(), Error> {
        for job in jobs {
            self.create(job).await?;
        }
        Ok(())
    }
}
