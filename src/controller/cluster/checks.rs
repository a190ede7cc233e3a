//! The checks of pushed images: their Jobs, Pods, and what the Pods said.

use std::collections::BTreeSet;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{ListParams, LogParams};
use kube::{Api, ResourceExt};

use super::{Cluster, Error, MOST_PODS, briefly, during};
use crate::imagebuild::{gate, trial};
use crate::pods;
use whittle_api::bounded;
use whittle_build::trial::{LOG, Outcome};

/// Lines of a container's log that a failure tells.
const LINES: i64 = 20;
/// Bytes of these, at most.
const LOG_BYTES: usize = 4096;

impl Cluster {
    pub async fn pod_of(&self, namespace: &str, job: &Job) -> Result<Option<Pod>, Error> {
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

    /// What a trial has printed; none where that is not whole, or the kubelet does not give it.
    pub async fn outcome(&self, namespace: &str, pod: &str) -> Option<Outcome> {
        let parameters = LogParams {
            container: Some(trial::CONTAINER.into()),
            limit_bytes: i64::try_from(LOG).ok(),
            ..LogParams::default()
        };
        whittle_build::trial::read(&self.log(namespace, pod, &parameters).await?)
    }

    /// The first that the checked program has printed; none where the kubelet does not give it.
    pub async fn output(&self, namespace: &str, pod: &str) -> Option<String> {
        let parameters = LogParams {
            container: Some(gate::CONTAINER.into()),
            limit_bytes: Some(gate::OUTPUT),
            ..LogParams::default()
        };
        self.log(namespace, pod, &parameters).await
    }

    /// The last lines of the checked container; none where the kubelet does not give them.
    pub async fn last_lines(&self, namespace: &str, pod: &str) -> Option<String> {
        let parameters = LogParams {
            container: Some(gate::CONTAINER.into()),
            tail_lines: Some(LINES),
            limit_bytes: Some(LOG_BYTES as i64),
            ..LogParams::default()
        };
        let log = self.log(namespace, pod, &parameters).await?;
        Some(bounded(log.trim_end().to_owned(), LOG_BYTES))
    }

    async fn log(&self, namespace: &str, pod: &str, parameters: &LogParams) -> Option<String> {
        let pods = Api::<Pod>::namespaced(self.client.clone(), namespace);
        match pods.logs(pod, parameters).await {
            Ok(log) => Some(log),
            Err(error) => {
                tracing::info!(namespace, pod, %error, "cannot read the log of a health check Pod");
                None
            }
        }
    }

    /// The architectures of the cluster's Linux nodes.
    pub async fn architectures(&self) -> Result<BTreeSet<String>, Error> {
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
