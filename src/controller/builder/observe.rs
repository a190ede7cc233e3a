//! Reads all that the next step of a Builder depends on.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use super::super::{Context, Error};
use super::decide::{Observed, Serves, asks_for_events, asks_for_secrets, asks_for_use, restarts};
use crate::builder::anew;
use crate::builder::state::Use;
use crate::sharing;
use whittle_api::Builder;

/// What is asked for depends on what was read before: a Builder that is well is looked at with two requests.
pub async fn observe(builder: Builder, context: &Context) -> Result<Observed, Error> {
    let (namespace, name) = (builder.namespace().unwrap_or_default(), builder.name_any());
    let now = Timestamp::now();
    let (set, pods) = context.cluster.daemon(&builder).await?;
    let mut observed = Observed {
        builder,
        authority: context.authority.fingerprint(),
        set,
        pods,
        load: None,
        running: BTreeMap::new(),
        used: None,
        active: 0,
        serves: None,
        events: vec![],
        wanted: context.waits_for_certificates(&namespace, &name),
        hangs: context.finds_it_hanging(&namespace, &name),
        lost: false,
        issued: None,
        applied: None,
        enlarged: None,
        closed: None,
        trusted: context.trusted.get(),
        now,
    };
    if context.settings.builder.egress.enabled {
        observed.closed = Some(context.egress.get().await);
    }
    if let Some((owner, _)) =
        sharing::owner(&observed.builder).filter(|_| sharing::is_own(&observed.builder))
    {
        let named = observed.builder.labels().get(sharing::MADE_AFTER).cloned();
        let (build, named) = futures::try_join!(
            context.cluster.image_build(&namespace, owner),
            context
                .cluster
                .builder(&namespace, named.as_deref().unwrap_or_default()),
        )?;
        observed.hangs = build.as_ref().and_then(anew::found_hanging);
        observed.used = build.as_ref().map(Use::of_one);
        observed.active = build
            .as_ref()
            .map_or(0, |build| usize::from(Use::runs(build)));
        observed.serves = Some(Serves { build, named });
    } else {
        if asks_for_use(&observed) {
            observed.used = Some(context.builder_use(&namespace, &name).await);
        }
        if restarts(&observed, &context.settings) {
            observed.active = context.active_builds(&namespace, &name).await;
        }
    }
    if observed.has_several() {
        let queues = context.queues().await;
        observed.load = Some(queues.load(&namespace, &name, now));
        // What is to go gets no more builds before it is looked at what runs there.
        let desired = observed.scaled().desired;
        observed.running = queues.close(&namespace, &name, desired);
    } else {
        context.queues.open(&namespace, &name);
    }
    if let Some(set) = &observed.set
        && asks_for_events(&observed, &context.settings)
    {
        let pod = observed.in_question(set);
        let events = context.cluster.daemon_events(&observed.builder, set, pod);
        observed.events = events.await?;
    }
    if asks_for_secrets(&observed) && !context.cluster.has_certificates(&observed.builder).await? {
        observed.lost = true;
        observed.active = context.active_builds(&namespace, &name).await;
    }
    Ok(observed)
}
