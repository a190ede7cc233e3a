//! Reads all that the next step of a Builder depends on.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use super::super::{Context, Error};
use super::decide::{Observed, Serves, asks_for_events, asks_for_secrets, asks_for_use, restarts};
use crate::builder::state::Use;
use crate::builder::{anew, platforms};
use crate::names;
use crate::platforms::Seen;
use crate::sharing;
use whittle_api::{Builder, MOST_PLATFORMS};

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
        of: None,
        platforms: vec![],
        left: vec![],
        told: BTreeMap::new(),
        events: vec![],
        wanted: context.waits_for_certificates(&namespace, &name),
        hangs: context.finds_it_hanging(&namespace, &name, &name),
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
        // What builds on the daemon of a platform is known by the name of the Builder whose platform it is.
        let whose = crate::platforms::whose(&observed.builder);
        if crate::platforms::parent(&observed.builder).is_some() {
            observed.of = Some(context.cluster.builder(&namespace, &whose).await?);
            observed.hangs = context.finds_it_hanging(&namespace, &whose, &name);
        }
        if asks_for_use(&observed) {
            observed.used = Some(context.builder_use(&namespace, &whose).await);
        }
        if restarts(&observed, &context.settings) {
            observed.active = context.active_builds(&namespace, &whose).await;
            if observed.of.is_some() {
                let builds = context.queues().await.builds(&namespace, &whose);
                let known = builds.iter().map(AsRef::as_ref);
                let before = platforms::begun_before(&observed.builder, known);
                observed.active = before.map_or(observed.active, |it| observed.active.min(it));
            }
        }
    }
    of_platforms(&mut observed, context).await?;
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

/// Reads its daemons for platforms, and those that it was said to have and is to have no more.
async fn of_platforms(observed: &mut Observed, context: &Context) -> Result<(), Error> {
    let namespace = observed.builder.namespace().unwrap_or_default();
    for (platform, wanted) in crate::platforms::wanted(&observed.builder) {
        let name = wanted.name_any();
        let stands = context.cluster.builder(&namespace, &name).await?;
        observed.platforms.push(Seen {
            platform,
            wanted,
            stands,
        });
    }
    let status = observed.builder.status.as_ref();
    let said = status.and_then(|status| status.platforms.clone());
    for said in said.into_iter().flatten().take(MOST_PLATFORMS) {
        let is_wanted = |seen: &Seen| seen.wanted.name_any() == said.builder;
        // Whoever may write statuses writes what they like.
        let is_name = names::check_builder(&said.builder).is_ok();
        if !is_name || observed.platforms.iter().any(is_wanted) {
            continue;
        }
        let stands = context.cluster.builder(&namespace, &said.builder).await?;
        let uid = observed.builder.metadata.uid.as_deref();
        let ours = |it: &Builder| crate::platforms::parent(it).map(|(_, uid)| uid) == uid;
        let leaves = |it: &Builder| ours(it) && it.metadata.deletion_timestamp.is_none();
        observed.left.extend(stands.filter(leaves));
    }
    Ok(())
}
