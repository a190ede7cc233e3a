//! The loop over Builders.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::runtime::controller::{Action as Requeue, Config};
use kube::runtime::utils::WatchStreamExt;
use kube::runtime::{Controller, PredicateConfig, reflector, watcher};

use super::{Context, Error, after_error, triggers};
use crate::api::{Builder, BuilderStatus};
use crate::cluster::RECONCILE_LIMIT;
use crate::plan::builder::objects;
use crate::plan::builder_state::{self, Daemon};
use crate::plan::names;

const KIND: &str = "Builder";
/// Everything is looked at again after this long: certificates come of age.
const RESYNC: Duration = Duration::from_secs(3600);

/// Runs until `stop`.
pub async fn run(context: Arc<Context>, stop: impl Future<Output = ()> + Send + Sync + 'static) {
    let mine =
        watcher::Config::default().labels(&format!("{}={}", names::COMPONENT, names::BUILDER));
    let (store, writer) = reflector::store();
    let builders = watcher(
        context.cluster.watched::<Builder>(),
        watcher::Config::default(),
    )
    .default_backoff()
    .reflect(writer)
    .touched_objects()
    .predicate_filter(triggers::builder_spec, PredicateConfig::default());
    let sets = watcher(context.cluster.watched::<StatefulSet>(), mine)
        .default_backoff()
        .touched_objects()
        .predicate_filter(triggers::stateful_set, PredicateConfig::default());
    Controller::for_stream(builders, store)
        .with_config(Config::default().concurrency(context.settings.concurrency))
        .owns_stream(sets)
        .graceful_shutdown_on(stop)
        .run(
            |builder, context: Arc<Context>| async move {
                context.metrics.reconcile(KIND);
                tokio::time::timeout(RECONCILE_LIMIT, reconcile(&builder, &context))
                    .await
                    .unwrap_or(Err(Error::Slow(RECONCILE_LIMIT.as_secs())))
            },
            |builder, error: &Error, context| after_error(builder.as_ref(), KIND, error, &context),
            context,
        )
        .for_each(|_| async {})
        .await;
}

async fn reconcile(cached: &Builder, context: &Context) -> Result<Requeue, Error> {
    let (namespace, name) = (cached.namespace().unwrap_or_default(), cached.name_any());
    let Some(builder) = context.cluster.builder(&namespace, &name).await? else {
        return Ok(Requeue::await_change());
    };
    if builder.metadata.deletion_timestamp.is_some() {
        // The garbage collector takes all that the Builder owns.
        return Ok(Requeue::await_change());
    }
    let now = Timestamp::now();
    let mut status: BuilderStatus = builder.status.clone().unwrap_or_default();
    let (set, pod) = context.cluster.daemon(&builder).await?;

    let known = status
        .certificates
        .as_ref()
        .filter(|known| !builder_state::are_due(known, &context.authority.fingerprint(), now));
    let (certificates, issued) = match known {
        Some(known) => (known.clone(), None),
        None => {
            let issued = context.authority.issue(&namespace, &name, now)?;
            (issued.known.clone(), Some(issued))
        }
    };
    let wanted = objects(&builder, &context.settings.builder, &certificates.digest);
    let restarts = set
        .as_ref()
        .is_some_and(|set| builder_state::would_restart(set, &wanted.stateful_set));
    let active = if restarts {
        context.cluster.active_builds(&namespace, &name).await?
    } else {
        0
    };
    if active > 0 {
        builder_state::say_draining(&mut status, &builder, active, now);
        context
            .cluster
            .write_builder_status(&builder, &status)
            .await?;
        return Ok(Requeue::requeue(Duration::from_secs(10)));
    }

    // Certificates first, then the daemon that needs them, then the record of which they are: cut off
    // in between, the next reconcile makes new ones.
    if let Some(issued) = &issued {
        context.cluster.apply_certificates(&builder, issued).await?;
    }
    context.cluster.apply_surroundings(&wanted).await?;
    let applied = match context.cluster.apply_daemon(&wanted).await {
        Ok(applied) => applied,
        Err(error) if error.code() == Some(422) => {
            builder_state::say_rejected(&mut status, &builder, &error.to_string(), now);
            context
                .cluster
                .write_builder_status(&builder, &status)
                .await?;
            return Ok(Requeue::requeue(RESYNC));
        }
        Err(error) => return Err(error.into()),
    };
    status.certificates = Some(certificates);
    let daemon = Daemon {
        set: &applied,
        pod: pod.as_ref() as Option<&Pod>,
    };
    let ready = builder_state::say(&mut status, &builder, &daemon, now);
    context
        .cluster
        .write_builder_status(&builder, &status)
        .await?;
    Ok(Requeue::requeue(if ready {
        RESYNC
    } else {
        Duration::from_secs(5)
    }))
}
