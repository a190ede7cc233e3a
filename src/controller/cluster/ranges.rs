//! Reads the cluster's own addresses.

use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use kube::Api;
use kube::api::ListParams;

use super::lean::Lean;
use super::{Cluster, Error, during, listed};
use crate::egress::{Found, NodeRanges};

/// Objects of a kind, at most: Kubernetes itself is made for 5,000 Nodes.
const MOST: usize = 10_000;
/// Where the kubelet tells every Pod the API server's Service.
const SERVICE: &str = "KUBERNETES_SERVICE_HOST";

impl Cluster {
    /// All that is to be found. What the API server does not have or denies is not.
    pub async fn ranges(&self) -> Result<Found, Error> {
        let everything = ListParams::default;
        let kinds = Api::<ServiceCIDR>::all(self.client.clone());
        let services = known(listed(&kinds, everything(), MOST, |_| false).await)
            .map_err(during("listing ServiceCIDRs"))?;
        let nodes = Api::<Lean<Node, true>>::all(self.client.clone());
        let nodes = known(listed(&nodes, everything(), MOST, |_| false).await)
            .map_err(during("listing the nodes"))?;
        let slices = Api::<EndpointSlice>::namespaced(self.client.clone(), "default");
        let slice = known(slices.get_opt("kubernetes").await)
            .map_err(during("reading EndpointSlice default/kubernetes"))?;
        let endpoints = slice.flatten().map(|slice| slice.endpoints);
        let api_server = endpoints.into_iter().flatten();
        let api_server = api_server.flat_map(|it| it.addresses);
        Ok(Found {
            services: services.map(|all| {
                let specs = all.into_iter().filter_map(|it| it.spec?.cidrs);
                specs.flatten().collect()
            }),
            service: std::env::var(SERVICE).ok().and_then(|it| it.parse().ok()),
            api_server: api_server.collect(),
            nodes: nodes
                .into_iter()
                .flatten()
                .map(|lean| NodeRanges::of(lean.0))
                .collect(),
        })
    }
}

/// None where there is no such kind (404), or the account may not read it (403).
fn known<T>(result: kube::Result<T>) -> kube::Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404) => Ok(None),
        Err(error) => Err(error),
    }
}
