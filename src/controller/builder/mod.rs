//! The loop over Builders.

pub mod anew;
pub mod buildkitd;
mod cache;
mod carry_out;
mod decide;
pub mod isolation;
mod network;
pub mod objects;
mod observe;
mod platforms;
pub mod replicas;
#[cfg(test)]
mod scripted_tests;
pub mod state;
pub mod volume;

pub use decide::{Admission, admit};

use std::future::Future;
use std::sync::Arc;

use futures::StreamExt;
use futures::channel::mpsc::Receiver;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::jiff::Timestamp;
use kube::runtime::controller::{Action as Requeue, Config};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::utils::WatchStreamExt;
use kube::runtime::{Controller, PredicateConfig, watcher};
use kube::{Resource, ResourceExt};

use super::{AT_ONCE, Context, Error, after_error, in_time, shared, triggers};
use crate::imagebuild::brief;
use crate::watches::Watches;
use crate::{names, sharing};
use cache::Fate;
use decide::{Observed, RESYNC, Say, Step};
use whittle_api::{Builder, ImageBuild, Sharing};

pub(super) const KIND: &str = "Builder";

/// What wakes this loop, from watches that others listen to as well.
pub struct Heard {
    builders: shared::Heard<Builder>,
    /// Those that have daemons for platforms, and these.
    platforms: shared::Heard<Builder>,
    builds: shared::Heard<ImageBuild>,
}

impl Heard {
    /// Listens from now on.
    pub fn from(watches: &mut Watches) -> Self {
        Self {
            builders: watches.builders.listen(triggers::builder_spec),
            platforms: watches.builders.listen(triggers::builder_of_platforms),
            builds: watches.builds.listen(triggers::build_of_builder),
        }
    }
}

/// Runs until `stop`. `woken`: Builders of whose cache something was told.
pub async fn run(
    context: Arc<Context>,
    heard: Heard,
    woken: Receiver<ObjectRef<Builder>>,
    stop: impl Future<Output = ()> + Send + Sync + 'static,
) {
    let mine =
        watcher::Config::default().labels(&format!("{}={}", names::COMPONENT, names::BUILDER));
    let mine = mine.page_size(brief::PAGE);
    let store = context.known.builders.clone();
    let sets = context.cluster.watch::<StatefulSet>(mine);
    let seeing = context.clone();
    let sets = sets
        .inspect(move |event| {
            if let Ok(watcher::Event::InitDone) = event {
                seeing.listed.is("StatefulSet");
            }
        })
        .touched_objects()
        .predicate_filter(triggers::stateful_set, PredicateConfig::default());
    let sleeping = store.clone();
    Controller::for_shared_stream(heard.builders, store)
        .with_config(Config::default().concurrency(context.settings.concurrency))
        .owns_stream(sets)
        .watches_shared_stream(heard.builds, move |build: Arc<ImageBuild>| {
            woken_by(&sleeping, &build)
        })
        .watches_shared_stream(heard.platforms, |builder: Arc<Builder>| related(&builder))
        .reconcile_on(woken)
        .reconcile_all_on(context.egress.changes())
        .reconcile_all_on(context.trusted.changes())
        .graceful_shutdown_on(stop)
        .run(
            |builder, context: Arc<Context>| async move {
                context.metrics.reconcile(KIND);
                in_time(reconcile(&builder, &context)).await
            },
            |builder, error: &Error, context| after_error(builder.as_ref(), KIND, error, &context),
            context,
        )
        .for_each(|_| async {})
        .await;
}

/// What the API server refuses is told, and tried again ever less often.
async fn reconcile(cached: &Builder, context: &Context) -> Result<Requeue, Error> {
    let (namespace, name) = (cached.namespace().unwrap_or_default(), cached.name_any());
    let Some(builder) = context.cluster.builder(&namespace, &name).await? else {
        return Ok(Requeue::await_change());
    };
    let ours = &context.settings.installation;
    let builder = match decide::admit(&builder, ours, context.cluster.selects(&builder)) {
        Admission::Ours => builder,
        Admission::Nobodys => return Ok(Requeue::await_change()),
        Admission::Theirs(other) => {
            context.metrics.left_alone(KIND);
            context.others.leave(KIND, &builder, other);
            return Ok(Requeue::requeue(RESYNC));
        }
        Admission::Claim => match context.cluster.claim_builder(&builder, ours).await {
            Ok(Some(claimed)) => claimed,
            Ok(None) => return Ok(Requeue::requeue(AT_ONCE)),
            Err(error) => return refused(&builder, error, context).await,
        },
    };
    context.others.take(KIND, &builder);
    match go_on(builder.clone(), context).await {
        Err(Error::Cluster(error)) if error.is_conflict() => Ok(Requeue::requeue(AT_ONCE)),
        Err(Error::Cluster(error)) => refused(&builder, error, context).await,
        other => other,
    }
}

async fn go_on(builder: Builder, context: &Context) -> Result<Requeue, Error> {
    let mut observed = observe::observe(builder, context).await?;
    loop {
        match decide::decide(&observed, &context.settings) {
            Step::Remove => {
                context.cluster.delete_builder(&observed.builder).await?;
                return Ok(Requeue::await_change());
            }
            Step::Platform(seen) => {
                let refused = carry_out::write_platform(&seen, context).await?;
                observed.told.insert(seen.wanted.name_any(), refused);
            }
            Step::Leave(left) => {
                context.cluster.delete_builder(&left).await?;
                observed.told.insert(left.name_any(), None);
            }
            Step::Renew => observed.issued = Some(carry_out::renew(&observed, context).await?),
            Step::Apply(wanted) => {
                observed.applied = Some(carry_out::apply(&wanted, context).await?);
            }
            Step::Enlarge(size) => {
                let replicas = observed.applied.as_ref().map_or(0, replicas::of_set);
                let said = carry_out::enlarge(&observed.builder, replicas, &size, context).await?;
                observed.enlarged = Some(said);
            }
            Step::Say(say) => return tell(&observed, *say, context).await,
        }
    }
}

/// Says how the Builder is, and what was told of its cache.
async fn tell(observed: &Observed, mut say: Say, context: &Context) -> Result<Requeue, Error> {
    let builder = &observed.builder;
    let (namespace, name) = (builder.namespace().unwrap_or_default(), builder.name_any());
    if !sharing::has_daemon(builder) {
        say.status.cache = None;
    }
    let told = context.caches.told(&namespace, &name);
    let fate = told
        .as_ref()
        .map(|told| cache::put(&mut say.status, builder, told, observed.now));
    if let Some(Fate::Waits(left)) = fate {
        say.look_again = say.look_again.min(left);
    }
    let again = carry_out::say(builder, &say, context).await?;
    match (&told, fate) {
        (Some(told), Some(Fate::Written)) => context.caches.forget(&namespace, &name, told),
        (Some(told), Some(Fate::Passed)) => context.caches.pass(&namespace, &name, told),
        _ => {}
    }
    Ok(again)
}

async fn refused(
    builder: &Builder,
    error: crate::cluster::Error,
    context: &Context,
) -> Result<Requeue, Error> {
    let Some(refusal) = error.refusal() else {
        return Err(error.into());
    };
    if refusal.is_of_status() {
        // The status cannot tell of it.
        let (reason, what, about) = (
            refusal.why.reason(),
            error.to_string(),
            builder.object_ref(&()),
        );
        context.tell(&about, true, reason, &what).await;
        return Err(error.into());
    }
    context.metrics.error(KIND);
    let (namespace, name) = (builder.namespace(), builder.name_any());
    tracing::warn!(kind = KIND, namespace, name, %error, "denied by the API server; reported in its status");
    let now = Timestamp::now();
    let (set, _) = context.cluster.daemon(builder).await?;
    let say = decide::refused(builder, set.as_ref(), &refusal, now);
    carry_out::say(builder, &say, context).await
}

/// The daemons that a Builder has for platforms; or the Builder that one of these belongs to.
fn related(builder: &Builder) -> Vec<ObjectRef<Builder>> {
    let namespace = builder.namespace().unwrap_or_default();
    let of = |name: &str| ObjectRef::new(name).within(&namespace);
    match crate::platforms::parent(builder) {
        Some((name, _)) => vec![of(name)],
        None => crate::platforms::names(builder).map(|it| of(&it)).collect(),
    }
}

/// The Builders that an ImageBuild wakes: the one that it names, and those that it has to itself, which may be of no more use.
fn woken_by(store: &Store<Builder>, build: &ImageBuild) -> Vec<ObjectRef<Builder>> {
    let name = &build.spec.builder_ref.name;
    let reference = ObjectRef::new(name).within(&build.namespace().unwrap_or_default());
    let Some(builder) = store.get(&reference) else {
        return vec![];
    };
    if builder.spec.sharing == Sharing::Namespace {
        // Those of its platforms sleep and wake with it.
        let daemons = related(&builder).into_iter();
        let daemons = daemons.filter_map(|it| Some((store.get(&it)?, it)));
        return [(builder.clone(), reference)]
            .into_iter()
            .chain(daemons)
            .filter(|(builder, _)| decide::wakes(build, builder))
            .map(|(_, reference)| reference)
            .collect();
    }
    let own = store.state().into_iter();
    own.filter(|own| sharing::owner(own).map(|(_, uid)| uid) == build.metadata.uid.as_deref())
        .map(|own| ObjectRef::from_obj(own.as_ref()))
        .collect()
}
