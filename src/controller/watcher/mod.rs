//! Watchers: who asks git servers and registries what is new, with the Secrets that ImageBuilds name, which the controller
//! never reads. One for each Builder whose ImageBuilds have such triggers, in their own namespace.

pub mod cause;
mod heard;
mod lists;
mod objects;
mod room;
mod sources;
mod tell;
mod voice;
mod voices;

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use kube::{Resource, ResourceExt};

use super::{Context, Error, in_time};
use crate::builder::{Admission, admit};
use crate::cluster::credentials::Attempt;
use crate::names;
use crate::queues::Name;
use crate::refusal::{Whose, of_call};
use voice::Cause;
use whittle_api::Builder;
use whittle_image::digest_of;

pub use heard::{heard, is_known, last_revision};
pub use objects::WatcherObjects;
pub use sources::Sources;
#[cfg(test)]
pub use sources::base_id;

/// After an error, or where the Builder does not exist.
const AGAIN: Duration = Duration::from_secs(10);
/// After the API server has refused it.
const AFTER_REFUSAL: Duration = Duration::from_secs(300);
/// What stands there is written again after this long, whatever became of it.
const RESYNC: Duration = Duration::from_secs(3600);

/// Runs until `stop`.
pub async fn run(context: Arc<Context>, stop: impl Future<Output = ()>) {
    let stop = stop.shared();
    futures::join!(write_all(&context, stop.clone()), tell::run(&context, stop));
}

async fn write_all(context: &Context, stop: impl Future<Output = ()>) {
    // What was written, by its digest.
    let mut written: HashMap<Name, String> = HashMap::new();
    let stop = stop.fuse();
    futures::pin_mut!(stop);
    left_over(context).await;
    loop {
        let builder = tokio::select! {
            () = &mut stop => return,
            builder = context.sources.next() => builder,
        };
        match in_time(write(&builder, &mut written, context)).await {
            Ok(Some(after)) => context.sources.touch_later(builder, after),
            Ok(None) => {}
            Err(error) => {
                let (namespace, name) = &builder;
                written.remove(&builder);
                tracing::warn!(namespace, builder = name, %error, "cannot write a watcher; retrying");
                let again = refused(&builder, &error, context).await;
                context.sources.touch_later(builder, again);
            }
        }
    }
}

/// The Builder of this name, where it is this installation's; whether there is one at all.
async fn ours(
    (namespace, name): &Name,
    context: &Context,
) -> Result<(Option<Builder>, bool), Error> {
    let builder = context.cluster.builder(namespace, name).await?;
    let stands = builder.is_some();
    let ours = &context.settings.installation;
    let builder = builder.filter(|builder| {
        let selected = context.cluster.selects(builder);
        matches!(admit(builder, ours, selected), Admission::Ours)
    });
    Ok((builder, stands))
}

/// Tells who looks at the Builder what the API server refuses, and says when to try again.
async fn refused(of: &Name, error: &Error, context: &Context) -> Duration {
    let (namespace, name) = of;
    let Error::Cluster(error) = error else {
        return AGAIN;
    };
    let Some(refusal) = error.refusal() else {
        return AGAIN;
    };
    let why = Cause {
        kind: refusal.why.reason().as_str(),
        words: of_call(&refusal, namespace, Whose::Watcher),
    };
    context.sources.fails(of, why);
    if let Ok(Some(builder)) = context.cluster.builder(namespace, name).await {
        let words = format!(
            "the watcher, which looks at the sources of ImageBuilds with triggers, cannot be written: {error}"
        );
        let about = builder.object_ref(&());
        context
            .tell(&about, true, refusal.why.reason(), &words)
            .await;
    }
    AFTER_REFUSAL
}

/// Watchers that stand there from before this process are looked at: their ImageBuilds may have gone.
async fn left_over(context: &Context) {
    match context.cluster.watchers().await {
        Ok(all) => all
            .into_iter()
            .for_each(|builder| context.sources.touch(builder)),
        Err(error) => tracing::warn!(%error, "cannot list the watchers"),
    }
}

/// Writes the watcher of this Builder as it should be, and says when that is to be looked at again.
async fn write(
    of: &Name,
    written: &mut HashMap<Name, String>,
    context: &Context,
) -> Result<Option<Duration>, Error> {
    // Before all were listed nothing is known of what is watched.
    context.queues().await;
    let (namespace, name) = of;
    let watched = context.sources.of(of);
    if names::check_builder(name).is_err() {
        return Ok(None);
    }
    let (builder, stands) = ours(of, context).await?;
    let Some(builder) = builder else {
        written.remove(of);
        match stands || watched.is_empty() {
            true => context.sources.unwants(of),
            false => {
                let why = cause::no_builder(namespace, name);
                context.sources.fails(of, why);
            }
        }
        return Ok((!watched.is_empty()).then_some(AGAIN));
    };
    let wanted = match watched.is_empty() {
        true => {
            context.sources.unwants(of);
            None
        }
        false => objects::objects(&builder, watched, &context.settings).or_else(|| {
            let why = "the installation has no callback by which a watcher could report: set callback in its settings";
            let words = why.to_owned();
            context.sources.fails(of, Cause { kind: "NoCallback", words });
            None
        }),
    };
    let Some(wanted) = wanted else {
        written.remove(of);
        context.cluster.remove_watcher(namespace, name).await?;
        return Ok(None);
    };
    context.sources.leaves_out(of, wanted.left_out.clone());
    let uid = builder.uid().unwrap_or_default();
    // Whatever comes of writing it: the watcher that is there may know.
    context.sources.lists(of, &uid, wanted.list());
    let text = serde_json::to_string(&(&wanted.config_map, &wanted.deployment, &uid));
    let digest = digest_of(text.unwrap_or_default().as_bytes());
    if written.get(of) != Some(&digest) {
        if !wanted.left_out.is_empty() {
            tracing::warn!(
                namespace,
                builder = name,
                left_out = wanted.left_out.len(),
                "too many sources: those of these ImageBuilds are not all watched"
            );
        }
        let token = context
            .authority
            .credentials()
            .token(&speaker(namespace, &uid, name));
        context.cluster.apply_watcher(&wanted, &token).await?;
        let deployment = serde_json::to_string(&wanted.deployment).unwrap_or_default();
        let deployment = digest_of(deployment.as_bytes());
        context.sources.wants(of, &deployment);
        written.insert(of.clone(), digest);
    } else {
        // An hour has passed.
        written.remove(of);
        return Ok(Some(Duration::ZERO));
    }
    Ok(Some(RESYNC))
}

/// Who speaks for the sources of a Builder's ImageBuilds.
fn speaker(namespace: &str, uid: &str, builder: &str) -> Attempt {
    Attempt {
        namespace: namespace.to_owned(),
        uid: uid.to_owned(),
        job: names::watcher(builder),
    }
}
