//! What concerns watchers: writing one, taking one away, and what it has seen.

use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, ResourceExt};

use super::builds::ignore_missing;
use super::lean::Lean;
use super::{Cluster, Error, MOST_PODS, Meta, briefly, during, listed};
use crate::imagebuild::outcome::waits_for_volumes;
use crate::names;
use crate::pods::Question;
use crate::watcher::WatcherObjects;
use crate::watcher::cause::{self, Seen};
use whittle_build::request::paths;

/// Watchers that are looked for at the start, at most.
const MOST: usize = 10_000;

impl Cluster {
    /// Namespace and Builder of each watcher that stands there.
    pub async fn watchers(&self) -> Result<Vec<(String, String)>, Error> {
        let labels = format!("{},{}={}", names::MANAGED, names::COMPONENT, names::WATCHER);
        let mut all = vec![];
        for namespace in self.looked_after() {
            let api: Api<Meta<Deployment>> = match namespace {
                Some(namespace) => Api::namespaced(self.client.clone(), namespace),
                None => Api::all(self.client.clone()),
            };
            let params = ListParams::default().labels(&labels);
            let found = listed(&api, params, MOST, |_| false).await;
            all.extend(found.map_err(during("listing Deployments"))?);
        }
        let of = |found: &Meta<Deployment>| {
            let builder = found.labels().get(names::BUILDER_NAME)?.clone();
            (names::watcher(&builder) == found.name_any()).then_some((found.namespace()?, builder))
        };
        Ok(all.iter().filter_map(of).collect())
    }

    /// Writes a watcher. `token` is what it is known by.
    pub async fn apply_watcher(&self, objects: &WatcherObjects, token: &str) -> Result<(), Error> {
        let owner = self.apply(&objects.config_map).await?;
        let mut secret = objects.secret.clone();
        secret.metadata.owner_references = Some(vec![OwnerReference {
            api_version: "v1".into(),
            kind: "ConfigMap".into(),
            name: owner.name_any(),
            uid: owner.uid().unwrap_or_default(),
            ..OwnerReference::default()
        }]);
        let token = ByteString(token.as_bytes().to_vec());
        secret.data = Some([(paths::TOKEN_KEY.to_owned(), token)].into());
        self.apply(&secret).await?;
        self.apply(&objects.deployment).await.map(drop)
    }

    /// What stands of a watcher that says nothing.
    pub async fn silent_watcher(&self, namespace: &str, builder: &str) -> Result<Seen, Error> {
        let name = names::watcher(builder);
        let labels = format!(
            "{}={},{}={builder}",
            names::COMPONENT,
            names::WATCHER,
            names::BUILDER_NAME
        );
        let deployments =
            Api::<Lean<Deployment, false>>::namespaced(self.client.clone(), namespace);
        let params = ListParams::default().labels(&labels);
        let (deployment, pods) = futures::try_join!(
            async {
                let found = deployments.get_opt(&name).await;
                found.map_err(during(format!("reading Deployment {namespace}/{name}")))
            },
            async {
                let pods = briefly::<Pod>(&self.client, namespace, params, MOST_PODS, |_| false);
                pods.await
                    .map_err(during(format!("listing the Pods of {namespace}/{name}")))
            },
        )?;
        let pod = cause::pod_of(pods, &name);
        let events = match pod.as_ref().filter(|pod| waits_for_volumes(pod)) {
            Some(pod) => self.events(namespace, &Question::not_started(pod)).await?,
            None => vec![],
        };
        Ok(Seen {
            deployment: deployment.map(|lean| lean.0),
            pod,
            events,
        })
    }

    /// Takes a watcher away; its Secret goes with the ConfigMap.
    pub async fn remove_watcher(&self, namespace: &str, builder: &str) -> Result<(), Error> {
        let (name, params) = (names::watcher(builder), DeleteParams::background());
        ignore_missing(
            Api::<Deployment>::namespaced(self.client.clone(), namespace)
                .delete(&name, &params)
                .await
                .map(drop),
        )
        .map_err(during(format!("deleting Deployment {namespace}/{name}")))?;
        ignore_missing(
            Api::<ConfigMap>::namespaced(self.client.clone(), namespace)
                .delete(&name, &params)
                .await
                .map(drop),
        )
        .map_err(during(format!("deleting ConfigMap {namespace}/{name}")))
    }
}
