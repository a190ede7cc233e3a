//! Reads and writes of the cluster: every call to the API server is made here, under one field manager.

mod builders;
mod builds;
mod checks;
pub mod pki;
mod profiles;

pub use profiles::names_of_profiles;

use kube::api::{ApiResource, DynamicObject, PartialObjectMeta, Patch, PatchParams, PostParams};
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
    /// A selector of labels is invalid.
    #[error("invalid label selector: {0}")]
    Selector(String),
}

impl Error {
    /// The HTTP status of the API server's answer, where it gave one.
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Call { source, .. } => match source.as_ref() {
                kube::Error::Api(status) => Some(status.code),
                _ => None,
            },
            Self::Pki(_) | Self::Selector(_) => None,
        }
    }

    /// True where nothing can be made because the namespace is going: its objects go with it.
    pub fn is_namespace_terminating(&self) -> bool {
        match self {
            Self::Call { source, .. } => match source.as_ref() {
                kube::Error::Api(status) => {
                    status.code == 403 && status.message.contains("being terminated")
                }
                _ => false,
            },
            Self::Pki(_) | Self::Selector(_) => false,
        }
    }
}

/// A kind that lives in namespaces, as the client needs it.
trait Namespaced:
    Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
    + Serialize
    + DeserializeOwned
    + Clone
    + std::fmt::Debug
{
}

impl<K> Namespaced for K where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
        + Serialize
        + DeserializeOwned
        + Clone
        + std::fmt::Debug
{
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

    /// What is to be watched of a kind that is known by name: its metadata.
    pub fn watched_kind(&self, resource: &ApiResource) -> Api<PartialObjectMeta<DynamicObject>> {
        match &self.watched {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, resource),
            None => Api::all_with(self.client.clone(), resource),
        }
    }

    /// An object of a kind that is known by name; none where there is none.
    pub async fn object(
        &self,
        resource: &ApiResource,
        namespace: &str,
        name: &str,
    ) -> Result<Option<DynamicObject>, Error> {
        let kind = &resource.kind;
        Api::<DynamicObject>::namespaced_with(self.client.clone(), namespace, resource)
            .get_opt(name)
            .await
            .map_err(during(format!("reading {kind} {namespace}/{name}")))
    }

    /// The client, for events.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Makes an object; one of this name that exists is left as it is.
    async fn create<K: Namespaced>(&self, object: &K) -> Result<(), Error> {
        let (namespace, name) = key(object);
        match Api::<K>::namespaced(self.client.clone(), &namespace)
            .create(
                &PostParams {
                    field_manager: Some(FIELD_MANAGER.into()),
                    ..PostParams::default()
                },
                object,
            )
            .await
        {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
            Err(error) => Err(during(format!(
                "creating {} {namespace}/{name}",
                K::kind(&())
            ))(error)),
        }
    }

    /// Writes the status where it differs. Absent values are null in `status`, so old ones go.
    async fn patch_status<K, S>(
        &self,
        object: &K,
        existing: Option<&S>,
        status: &S,
    ) -> Result<(), Error>
    where
        K: Namespaced,
        S: Serialize + PartialEq,
    {
        if existing == Some(status) {
            return Ok(());
        }
        let (namespace, name) = key(object);
        // With the UID, so that an object of the same name that was made since is left alone.
        let patch =
            serde_json::json!({ "metadata": { "uid": object.meta().uid }, "status": status });
        let params = PatchParams {
            field_manager: Some(FIELD_MANAGER.into()),
            ..PatchParams::default()
        };
        Api::<K>::namespaced(self.client.clone(), &namespace)
            .patch_status(&name, &params, &Patch::Merge(patch))
            .await
            .map(drop)
            .map_err(during(format!(
                "writing the status of {} {namespace}/{name}",
                K::kind(&())
            )))
    }

    /// Server-side apply: the object has just these of our fields from now on.
    async fn apply<K: Namespaced>(&self, object: &K) -> Result<K, Error> {
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
                K::kind(&())
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
