//! The loop over Builders.

mod buildkitd;
pub mod objects;
pub mod state;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::runtime::controller::{Action as Requeue, Config};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::utils::WatchStreamExt;
use kube::runtime::{Controller, PredicateConfig, watcher};
use kube::{Resource, ResourceExt};

use super::{AT_ONCE, Context, Error, after_error, in_time, shared, triggers};
use crate::builder::objects::objects;
use crate::builder::state::{Daemon, Rest};
use crate::imagebuild::{brief, decide};
use crate::installation;
use crate::installation::Claim;
use crate::names;
use crate::refusal;
use crate::watches::Watches;
use whittle_api::quantity;
use whittle_api::{Builder, BuilderStatus, ImageBuild, RECONCILING, STALLED, find};

pub(super) const KIND: &str = "Builder";
/// Everything is looked at again after this long: certificates come of age.
const RESYNC: Duration = Duration::from_secs(3600);
/// What may just have changed is looked at again after this long.
const SOON: Duration = Duration::from_secs(5);

/// What wakes this loop, from watches that others listen to as well.
pub struct Heard {
    builders: shared::Heard<Builder>,
    builds: shared::Heard<ImageBuild>,
}

impl Heard {
    /// Listens from now on.
    pub fn from(watches: &mut Watches) -> Self {
        Self {
            builders: watches.builders.listen(triggers::builder_spec),
            builds: watches.builds.listen(triggers::image_build),
        }
    }
}

/// Runs until `stop`.
pub async fn run(
    context: Arc<Context>,
    heard: Heard,
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
            woken(&sleeping, &build)
        })
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
    if builder.metadata.deletion_timestamp.is_some() {
        // The garbage collector takes all that the Builder owns.
        return Ok(Requeue::await_change());
    }
    // Before anything else is written: two installations would undo each other's certificates for ever.
    let ours = &context.settings.installation;
    let builder = match installation::claim(&builder, ours) {
        Claim::Ours => builder,
        Claim::Theirs(other) => {
            context.metrics.left_alone(KIND);
            context.others.leave(KIND, &builder, other);
            return Ok(Requeue::requeue(RESYNC));
        }
        // One that the selector does not select is taken by the ImageBuild that uses it first.
        Claim::Nobodys if !context.cluster.selects(&builder) => {
            return Ok(Requeue::await_change());
        }
        Claim::Nobodys => match context.cluster.claim_builder(&builder, ours).await? {
            Some(claimed) => claimed,
            None => return Ok(Requeue::requeue(AT_ONCE)),
        },
    };
    context.others.take(KIND, &builder);
    let error = match carry_out(&builder, context).await {
        Err(Error::Cluster(error)) => error,
        other => return other,
    };
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
    tracing::warn!(kind = KIND, namespace, name, %error, "refused; told in its status");
    let now = Timestamp::now();
    let mut status = builder.status.clone().unwrap_or_default();
    let (set, _) = context.cluster.daemon(&builder).await?;
    state::say_refused(&mut status, &builder, set.as_ref(), &refusal, now);
    context
        .cluster
        .write_builder_status(&builder, &status)
        .await?;
    // What is wrong in itself waits for another spec, which wakes; or for what stands in its way to go, which does not.
    Ok(again(&builder, &status, now))
}

/// When to look again at a daemon that is not up: soon where nothing is known yet, or the spec is new.
fn again(builder: &Builder, status: &BuilderStatus, now: Timestamp) -> Requeue {
    let trouble = |status: &BuilderStatus| {
        let conditions = &status.conditions;
        find(conditions, RECONCILING)
            .or_else(|| find(conditions, STALLED))
            .cloned()
    };
    let since = trouble(status).map_or(now, |c| c.last_transition_time.0);
    let known = builder.status.as_ref().is_some_and(|known| {
        known.observed_generation == builder.metadata.generation
            && trouble(known).is_some_and(|c| c.reason != state::STARTING)
    });
    let most = if known { RESYNC } else { SOON };
    let after = refusal::look_again(since, now).unsigned_abs();
    Requeue::requeue(after.min(most))
}

async fn carry_out(builder: &Builder, context: &Context) -> Result<Requeue, Error> {
    let (namespace, name) = (builder.namespace().unwrap_or_default(), builder.name_any());
    let now = Timestamp::now();
    let mut status: BuilderStatus = builder.status.clone().unwrap_or_default();
    let (set, pod) = context.cluster.daemon(builder).await?;

    let known = status
        .certificates
        .as_ref()
        .filter(|known| !state::are_due(known, &context.authority.fingerprint(), now));
    let (certificates, issued) = match known {
        Some(known) => (known.clone(), None),
        None => {
            let issued = context.authority.issue(&namespace, &name, now)?;
            (issued.known.clone(), Some(issued))
        }
    };
    let mut wanted = objects(builder, &context.settings, &certificates.digest);
    let rest = rest(builder, set.as_ref(), pod.as_ref(), context, now).await?;
    if let (Rest::Asleep, Some(spec)) = (rest, &mut wanted.stateful_set.spec) {
        spec.replicas = Some(0);
    }
    let restarts = set
        .as_ref()
        .is_some_and(|set| state::would_restart(set, &wanted.stateful_set));
    let active = if restarts {
        context.active_builds(&namespace, &name).await
    } else {
        0
    };
    if active > 0 {
        state::say_draining(&mut status, builder, active, now);
        context
            .cluster
            .write_builder_status(builder, &status)
            .await?;
        return Ok(Requeue::requeue(Duration::from_secs(10)));
    }

    // Certificates first, then the daemon that needs them, then the record of which they are: cut off
    // in between, the next reconcile makes new ones.
    if let Some(issued) = &issued {
        context.cluster.apply_certificates(builder, issued).await?;
    }
    context.cluster.apply_surroundings(&wanted).await?;
    let events = match &set {
        Some(set) if !state::is_ready(set) && !matches!(rest, Rest::Asleep) => {
            context
                .cluster
                .daemon_events(builder, set, pod.as_ref())
                .await?
        }
        _ => vec![],
    };
    if let Some(set) = &set {
        let daemon = Daemon {
            set,
            pod: pod.as_ref(),
            events: &events,
        };
        let since = state::since(&status, now);
        if state::is_refused(&daemon, since) {
            // A change of the StatefulSet has its controller try at once.
            let tried = (names::TRIED_AT.to_owned(), now.as_second().to_string());
            wanted.stateful_set.annotations_mut().extend([tried]);
        }
    }
    let applied = context.cluster.apply_daemon(&wanted).await?;
    status.certificates = Some(certificates);
    let daemon = Daemon {
        set: &applied,
        pod: pod.as_ref(),
        events: &events,
    };
    let was_asleep = decide::is_asleep(builder);
    let ready = match rest {
        Rest::Asleep => {
            state::say_idle(&mut status, builder, now);
            true
        }
        Rest::Awake(_) => state::say(&mut status, builder, &daemon, now),
    };
    context
        .cluster
        .write_builder_status(builder, &status)
        .await?;
    if !ready {
        return Ok(again(builder, &status, now));
    }
    Ok(Requeue::requeue(match rest {
        // A build that came while it fell asleep has woken nothing: look once more.
        Rest::Asleep if !was_asleep => SOON,
        Rest::Awake(Some(after)) => RESYNC.min(after.unsigned_abs()),
        Rest::Asleep | Rest::Awake(None) => RESYNC,
    }))
}

/// Whether the daemon is to be up. While it starts, it is: only one that takes builds, or sleeps, is asked
/// what it is used for.
async fn rest(
    builder: &Builder,
    set: Option<&StatefulSet>,
    pod: Option<&Pod>,
    context: &Context,
    now: Timestamp,
) -> Result<Rest, Error> {
    let idle = quantity::duration(&builder.spec.idle_timeout);
    let sleeps = set
        .and_then(|set| set.spec.as_ref())
        .is_some_and(|spec| spec.replicas == Some(0));
    if idle.is_zero() || set.is_none() || !(sleeps || decide::is_ready(builder)) {
        return Ok(Rest::Awake((!idle.is_zero()).then_some(idle)));
    }
    let (namespace, name) = (builder.namespace().unwrap_or_default(), builder.name_any());
    let used = context.builder_use(&namespace, &name).await;
    let started = pod
        .and_then(|pod| pod.status.as_ref()?.start_time.as_ref())
        .map(|time| time.0);
    Ok(state::rest(builder, sleeps, &used, started, now))
}

/// The Builder that an ImageBuild wakes.
fn woken(store: &Store<Builder>, build: &ImageBuild) -> Option<ObjectRef<Builder>> {
    let name = &build.spec.builder_ref.name;
    let reference = ObjectRef::new(name).within(&build.namespace().unwrap_or_default());
    let sleeps = store
        .get(&reference)
        .is_some_and(|builder| decide::is_asleep(&builder));
    (sleeps && !decide::is_settled(build)).then_some(reference)
}
