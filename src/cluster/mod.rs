//! Reads and writes of the cluster: every call to the API server is made here, under one field manager.

mod builders;
mod builds;
pub mod pki;

pub use builds::RECONCILE_LIMIT;

use kube::api::{Patch, PatchParams};
use kube::{Api, Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::plan::names::FIELD_MANAGER;

/// The cluster, as Whittle sees it.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    watched: Option<String>,
}

/// What went wrong with a call, and which one it was.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A call to the API server failed.
    #[error("{what}: {source}")]
    Call {
        /// What was being done, with the object's name.
        what: String,
        /// What the API server or the connection said.
        source: Box<kube::Error>,
    },
    /// A certificate could not be made or read.
    #[error("certificates: {0}")]
    Pki(String),
}

impl Error {
    /// The HTTP status of the API server's answer, where it gave one.
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Call { source, .. } => match source.as_ref() {
                kube::Error::Api(status) => Some(status.code),
                _ => None,
            },
            Self::Pki(_) => None,
        }
    }
}

/// Names the call that failed.
fn during(what: impl Into<String>) -> impl FnOnce(kube::Error) -> Error {
    let what = what.into();
    move |source| Error::Call {
        what,
        source: Box::new(source),
    }
}

impl Cluster {
    /// Over this client; `watched` is the one namespace to look after, where it is not all.
    pub fn new(client: Client, watched: Option<String>) -> Self {
        Self { client, watched }
    }

    /// What is to be watched of a kind: one namespace, or all.
    pub fn watched<K>(&self) -> Api<K>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        match &self.watched {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        }
    }

    /// The client, for watches.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Server-side apply: the object has just these of our fields from now on.
    async fn apply<K>(&self, object: &K) -> Result<K, Error>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope>
            + Serialize
            + DeserializeOwned
            + Clone
            + std::fmt::Debug,
        K::DynamicType: Default,
    {
        let (namespace, name) = key(object);
        Api::<K>::namespaced(self.client.clone(), &namespace)
            .patch(
                &name,
                &PatchParams::apply(FIELD_MANAGER).force(),
                &Patch::Apply(object),
            )
            .await
            .map_err(during(format!(
                "applying {} {namespace}/{name}",
                K::kind(&K::DynamicType::default())
            )))
    }
}

fn key<K: Resource>(object: &K) -> (String, String) {
    let meta = object.meta();
    (
        meta.namespace.clone().unwrap_or_default(),
        meta.name.clone().unwrap_or_default(),
    )
}
