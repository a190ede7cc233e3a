//! Carries out what was decided for a Builder.

use k8s_openapi::api::apps::v1::StatefulSet;
use kube::runtime::controller::Action as Requeue;
use kube::{Resource, ResourceExt};

use super::super::{Context, Error};
use super::decide::{Observed, Say};
use crate::builder::objects::BuilderObjects;
use crate::builder::{anew, volume};
use crate::installation;
use crate::platforms::Seen;
use whittle_api::{Builder, Certificates, Reason};

/// Makes certificates, and writes them.
pub async fn renew(observed: &Observed, context: &Context) -> Result<Certificates, Error> {
    let builder = &observed.builder;
    let (namespace, name) = (builder.namespace().unwrap_or_default(), builder.name_any());
    let issued = context.authority.issue(&namespace, &name, observed.now)?;
    context.cluster.apply_certificates(builder, &issued).await?;
    Ok(issued.known)
}

/// Applies the objects; the StatefulSet last, which restarts the daemon where it changes. Returns that.
pub async fn apply(wanted: &BuilderObjects, context: &Context) -> Result<StatefulSet, Error> {
    context.cluster.apply_surroundings(wanted).await?;
    Ok(context.cluster.apply_daemon(wanted).await?)
}

/// Writes the Builder that is the daemon of a platform; what is said where that is refused: the Builder itself goes on without.
pub async fn write_platform(seen: &Seen, context: &Context) -> Result<Option<String>, Error> {
    let written = match &seen.stands {
        Some(stands) => context.cluster.change_builder(stands, &seen.change()).await,
        None => {
            let mut made = seen.wanted.clone();
            let labels = installation::labels(&context.settings.watch.selector);
            made.labels_mut().extend(labels);
            context.cluster.create_builder(&made).await
        }
    };
    match written {
        Ok(()) => Ok(None),
        Err(error) => match error.refusal() {
            Some(refusal) => Ok(Some(refusal.words.clone())),
            None => Err(error.into()),
        },
    }
}

/// Asks for larger volumes; what is said where that is refused.
pub async fn enlarge(
    builder: &Builder,
    replicas: i32,
    size: &str,
    context: &Context,
) -> Result<Option<String>, Error> {
    match context.cluster.enlarge(builder, replicas, size).await {
        Ok(()) => Ok(None),
        Err(error) => match error.refusal() {
            Some(refusal) => Ok(Some(volume::stays(size, &refusal))),
            None => Err(error.into()),
        },
    }
}

/// Writes the status where it differs.
pub async fn say(builder: &Builder, say: &Say, context: &Context) -> Result<Requeue, Error> {
    context
        .cluster
        .write_builder_status(builder, &say.status)
        .await?;
    if let Some((warning, note)) = anew::news(builder, say.status.emptied.as_ref()) {
        let about = builder.object_ref(&());
        context
            .tell(&about, warning, Reason::CacheEmptied, note)
            .await;
    }
    Ok(Requeue::requeue(say.look_again))
}
