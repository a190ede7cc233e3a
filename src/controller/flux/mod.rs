//! Sources of Flux: what they have fetched, and the builds that follow from it. Where no ImageBuild names one, nothing of
//! Flux is asked for; and it may be installed later.

mod heard;
pub mod resolve;
mod sources;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::channel::mpsc::Sender;
use futures::future::join_all;
use futures::{FutureExt, StreamExt};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::api::ApiResource;
use kube::core::GroupVersionKind;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher::{self, Event};

use super::{AFTER_ERROR, Context, Error, in_time};
use crate::cluster::Cluster;
use crate::cluster::Error as ClusterError;
use crate::installation::{self, Claim};
use crate::queues::Name;
use heard::heard;
use resolve::Object;
pub use sources::Sources;
use whittle_api::{FluxKind, FluxSource, ImageBuild};

/// How often it is looked whether a kind that an ImageBuild names exists by now.
const LATER: Duration = Duration::from_secs(10);
/// How often what was seen is decided anew where the ImageBuild has changed meanwhile.
const TRIES: usize = 4;
/// After each write: however many sources move at once, the API server has time for others.
const PACE: Duration = Duration::from_millis(20);
/// Objects of a page, of whose metadata little is taken.
const PAGE: u32 = 100;

/// A kind of Flux, as the API server has it.
fn resource(kind: FluxKind) -> ApiResource {
    let gvk = GroupVersionKind::gvk("source.toolkit.fluxcd.io", "v1", &kind.to_string());
    ApiResource::from_gvk_with_plural(&gvk, kind.plural())
}

/// Reads what a source of Flux stands for, live; none where it, or its kind, does not exist.
pub async fn read(
    cluster: &Cluster,
    namespace: &str,
    source: &FluxSource,
) -> Result<Option<Object>, ClusterError> {
    let resource = resource(source.kind);
    match cluster.object(&resource, namespace, &source.name).await {
        Ok(found) => {
            let found = found.and_then(|object| serde_json::to_value(object).ok());
            Ok(found.map(Object::take))
        }
        Err(error) if error.is_missing() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Runs until `stop`. `wake`: where ImageBuilds are named that are to be looked at.
pub async fn run(
    context: Arc<Context>,
    wake: Sender<ObjectRef<ImageBuild>>,
    stop: impl Future<Output = ()>,
) {
    let kinds = FluxKind::ALL.map(|kind| watch(&context, kind));
    let all = futures::future::join(join_all(kinds), look_all(&context, wake));
    tokio::select! {
        _ = all => {}
        () = stop => {}
    }
}

/// Watches the metadata of a kind, once an ImageBuild names one and the kind exists.
async fn watch(context: &Context, kind: FluxKind) {
    let resource = resource(kind);
    loop {
        context.flux.names(kind).await;
        match in_time(context.cluster.knows(&resource).map(|it| Ok(it?))).await {
            Ok(true) => {}
            Ok(false) => {
                tokio::time::sleep(LATER).await;
                continue;
            }
            Err(error) => {
                tracing::warn!(%kind, %error, "cannot watch sources of Flux; retrying");
                tokio::time::sleep(LATER).await;
                continue;
            }
        }
        let config = watcher::Config::default().page_size(PAGE);
        let mut events = context.cluster.watch_kind(&resource, config);
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Apply(meta) | Event::Delete(meta)) => {
                    let namespace = meta.namespace().unwrap_or_default();
                    context.flux.moved(kind, &namespace, &meta.name_any());
                }
                Ok(Event::InitDone) => context.flux.all_moved(kind),
                Ok(Event::Init | Event::InitApply(_)) => {}
                // Flux may have been taken away.
                Err(_) => {
                    let knows = context.cluster.knows(&resource).await;
                    if matches!(knows, Ok(false)) {
                        context.flux.all_moved(kind);
                        break;
                    }
                }
            }
        }
    }
}

/// Looks at one ImageBuild after the other.
async fn look_all(context: &Context, mut wake: Sender<ObjectRef<ImageBuild>>) {
    // Before all were listed, nothing is decided.
    context.queues().await;
    loop {
        let name = context.flux.next().await;
        match in_time(look(context, &name)).await {
            Ok(true) => {
                // Where there is no room many are looked at, and each again after a while.
                let _ = wake.try_send(ObjectRef::new(&name.1).within(&name.0));
            }
            Ok(false) => {}
            Err(error) => {
                let (namespace, build) = &name;
                tracing::warn!(namespace, name = build, %error, "cannot look at a source of Flux; retrying");
                tokio::time::sleep(AFTER_ERROR).await;
                context.flux.again(&name);
            }
        }
    }
}

/// Writes what follows from what the ImageBuild's source has fetched; true where a build of it waits.
async fn look(context: &Context, (namespace, name): &Name) -> Result<bool, Error> {
    let cluster = &context.cluster;
    let mut tries = 0;
    loop {
        let Some(build) = cluster.image_build(namespace, name).await? else {
            return Ok(false);
        };
        let Some(source) = &build.spec.source.flux else {
            return Ok(false);
        };
        let builder = ObjectRef::new(&build.spec.builder_ref.name).within(namespace);
        let builder = context.known.builders.get(&builder);
        let ours = &context.settings.installation;
        if builder.is_some_and(|it| matches!(installation::claim(&it, ours), Claim::Theirs(_))) {
            return Ok(false);
        }
        let object = read(cluster, namespace, source).await?;
        let waits = build.status.as_ref().and_then(|it| it.waiting()).is_some();
        let Some(status) = heard(&build, object.as_ref(), Timestamp::now()) else {
            return Ok(waits);
        };
        tries += 1;
        match cluster.write_status(&build, &status).await {
            Ok(_) => {
                tokio::time::sleep(PACE).await;
                return Ok(waits);
            }
            Err(error) if error.is_missing() => return Ok(false),
            Err(error) if error.is_conflict() && tries < TRIES => {}
            Err(error) => return Err(error.into()),
        }
    }
}
