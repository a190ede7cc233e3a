//! Reads and writes of the cluster: every call to the API server is made here, under one field manager.

mod builders;
mod builds;
mod callback;
mod checks;
pub mod credentials;
mod events;
mod lean;
mod leases;
pub mod pki;
mod profiles;
mod ranges;
#[cfg(test)]
pub mod scripted;
#[cfg(test)]
mod scripted_tests;
#[cfg(test)]
mod scripted_watch_tests;
mod watch;
mod watchers;

use kube::api::{
    ApiResource, DynamicObject, ListParams, ObjectList, Patch, PatchParams, PostParams,
};
use kube::core::{Request, Selector};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;

pub use lean::Meta;
use lean::{Lean, Parts};
pub use leases::Leases;
pub use profiles::names_of_profiles;

use crate::names::FIELD_MANAGER;
use crate::refusal::{Object, Refusal, Verb};
use crate::watches::Trouble;

/// The cluster, as Whittle sees it.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    /// The same for watches, on which less is said.
    watching: Client,
    namespaces: Vec<String>,
    selector: Selector,
    trouble: Trouble,
}

/// What went wrong with a call, and which one it was.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A call to the API server failed.
    #[error("{what}: {source}")]
    Call {
        /// What was being done, with the object's name.
        what: String,
        /// The object, where one was to be written.
        object: Option<Box<Object>>,
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
    /// The API server's own answer, where it gave one.
    fn answer(&self) -> Option<&kube::core::Status> {
        match self {
            Self::Call { source, .. } => match source.as_ref() {
                kube::Error::Api(status) => Some(status),
                _ => None,
            },
            Self::Pki(_) | Self::Selector(_) => None,
        }
    }

    /// True where the API server has answered: then the call is at fault, and others may go on.
    pub fn is_answer(&self) -> bool {
        self.answer().is_some()
    }

    /// What the API server refuses, where it will refuse it again until something changes: to be told to the
    /// person who asked for it.
    pub fn refusal(&self) -> Option<Refusal> {
        let Self::Call { what, object, .. } = self else {
            return None;
        };
        let answer = self.answer()?;
        Refusal::of(
            what,
            object.as_deref().cloned(),
            answer.code,
            &answer.message,
        )
    }

    /// True where the object that the call was about does not exist.
    pub fn is_missing(&self) -> bool {
        self.answer().is_some_and(|answer| answer.code == 404)
    }

    /// True where the object has changed since it was read.
    pub fn is_conflict(&self) -> bool {
        self.answer()
            .is_some_and(|answer| answer.reason == "Conflict")
    }

    /// True where nothing can be made because the namespace is going: its objects go with it.
    pub fn is_namespace_terminating(&self) -> bool {
        self.answer()
            .is_some_and(|answer| answer.code == 403 && answer.message.contains("being terminated"))
    }
}

/// A kind that lives in namespaces, as the client needs it.
pub trait Namespaced:
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
        object: None,
        source: Box::new(source),
    }
}

/// Names the call that failed, and its object.
fn writing<K: Resource<DynamicType = ()>>(
    verb: Verb,
    object: &K,
) -> impl FnOnce(kube::Error) -> Error {
    let (namespace, name) = key(object);
    let kind = K::kind(&());
    let verb_text = match verb {
        Verb::Create => "creating",
        Verb::Apply => "applying",
        Verb::WriteStatus => "writing the status of",
    };
    let what = format!("{verb_text} {kind} {namespace}/{name}");
    let object = Object {
        verb,
        kind: kind.into_owned(),
        namespace,
        name,
    };
    move |source| Error::Call {
        what,
        object: Some(Box::new(object)),
        source: Box::new(source),
    }
}

/// Objects of a page that is listed for a reconcile: each may have 1.5 MiB of text.
const PAGE: u32 = 8;
/// The same after a page of ordinary ones; should all of the next be as large as can be, they still fit.
const ORDINARY_PAGE: u32 = 32;
/// Bytes of text of an ordinary object.
const ORDINARY: usize = 32 * 1024;
/// Pods with the labels of one Job or ImageBuild that are looked at, at most: each has one at a time.
const MOST_PODS: usize = 200;
/// One page at a time is in memory, whoever lists.
static PAGES: Semaphore = Semaphore::const_new(1);

/// Lists in pages, until there are `most` of them, or one that is `enough`: who may make objects may give them any
/// label.
async fn listed<K>(
    api: &Api<K>,
    params: ListParams,
    most: usize,
    enough: impl Fn(&K) -> bool,
) -> kube::Result<Vec<K>>
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug,
{
    let (client, request) = (api.clone().into_client(), Request::new(api.resource_url()));
    let mut params = params.limit(PAGE);
    let mut all = vec![];
    loop {
        let _turn = PAGES.acquire().await.expect("it is never closed");
        let asked = match K::metadata_api() {
            true => request.list_metadata(&params),
            false => request.list(&params),
        };
        let text = client
            .request_text(asked.map_err(kube::Error::BuildRequest)?)
            .await?;
        let page: ObjectList<K> = serde_json::from_str(&text).map_err(kube::Error::SerdeError)?;
        let ordinary = text.len() <= ORDINARY * page.items.len();
        params = params.limit(if ordinary { ORDINARY_PAGE } else { PAGE });
        drop(text);
        let ends = page.items.iter().any(&enough);
        all.extend(page.items);
        if ends || all.len() >= most {
            return Ok(all);
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(all),
        }
    }
}

/// The same, shortened as for a watch.
async fn briefly<K: Parts + Namespaced>(
    client: &Client,
    namespace: &str,
    params: ListParams,
    most: usize,
    enough: impl Fn(&K) -> bool,
) -> kube::Result<Vec<K>> {
    let api = Api::<Lean<K, true>>::namespaced(client.clone(), namespace);
    let all = listed(&api, params, most, |lean| enough(&lean.0)).await?;
    Ok(all.into_iter().map(|lean| lean.0).collect())
}

impl Cluster {
    /// Over this client; looked after are these namespaces, or all where there are none, and of ImageBuilds and
    /// Builders those that `selector` selects. What goes wrong with watches is told to `trouble`.
    pub fn new(
        client: Client,
        namespaces: Vec<String>,
        selector: Selector,
        trouble: Trouble,
    ) -> Self {
        Self {
            watching: client.clone(),
            client,
            namespaces,
            selector,
            trouble,
        }
    }

    /// The same, with another client for watches.
    pub fn watching_by(self, watching: Client) -> Self {
        Self { watching, ..self }
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

    /// The namespaces that are looked after one by one; none in it stands for all.
    fn looked_after(&self) -> Vec<Option<&str>> {
        match self.namespaces.as_slice() {
            [] => vec![None],
            some => some.iter().map(|name| Some(name.as_str())).collect(),
        }
    }

    /// The client, for events.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Makes an object; one of this name that exists is left as it is.
    async fn create<K: Namespaced>(&self, object: &K) -> Result<(), Error> {
        let (namespace, _) = key(object);
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
            Err(error) => Err(writing(Verb::Create, object)(error)),
        }
    }

    /// Writes the status where it differs, over the version that was read and no other: what was decided from that may be
    /// wrong by now, as by a process that led before. Absent values are null in `status`, so old ones go. Returns the
    /// version from then on.
    async fn patch_status<K, S>(
        &self,
        object: &K,
        existing: Option<&S>,
        status: &S,
    ) -> Result<Option<String>, Error>
    where
        K: Namespaced,
        S: Serialize + PartialEq,
    {
        if existing == Some(status) {
            return Ok(object.meta().resource_version.clone());
        }
        let (namespace, name) = key(object);
        // With the UID, so that an object of the same name that was made since is left alone.
        let (uid, version) = (&object.meta().uid, &object.meta().resource_version);
        let patch = serde_json::json!({ "metadata": { "uid": uid, "resourceVersion": version }, "status": status });
        let params = PatchParams {
            field_manager: Some(FIELD_MANAGER.into()),
            ..PatchParams::default()
        };
        Api::<Meta<K>>::namespaced(self.client.clone(), &namespace)
            .patch_status(&name, &params, &Patch::Merge(patch))
            .await
            .map(|written| written.resource_version())
            .map_err(writing(Verb::WriteStatus, object))
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
            .map_err(writing(Verb::Apply, object))
    }
}

fn key<K: Resource>(object: &K) -> (String, String) {
    let meta = object.meta();
    (
        meta.namespace.clone().unwrap_or_default(),
        meta.name.clone().unwrap_or_default(),
    )
}
