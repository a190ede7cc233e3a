//! Says to ImageBuilds what their watcher cannot: that it is silent, and why; and what it has no room for.

use std::future::Future;
use std::time::Duration;

use futures::FutureExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::Timestamp;
use kube::{Resource, ResourceExt};
use tokio::time::MissedTickBehavior;

use super::voice::{Said, Say, Turn, Why};
use super::voices::Untold;
use super::{cause, ours};
use crate::imagebuild::decide::{Word, say_triggers};
use crate::queues::Name;
use crate::{Context, Error, in_time};
use whittle_api::{ImageBuild, ImageBuildStatus, Reason, TRIGGERS, clear, find, set};

/// How often it is looked who is silent, at most.
const OFTEN: Duration = Duration::from_secs(5);
/// ImageBuilds of a Builder that are told before those of the next namespace.
const MOST: usize = 50;
/// After each write: however many there are, the API server has time for others.
const PACE: Duration = Duration::from_millis(50);
/// How often what is said is decided again where the ImageBuild has changed meanwhile.
const TRIES: usize = 4;

/// What the message of a silence begins with where nothing was seen before it: so it is known still when the silence ends, whoever
/// leads then.
const UNSEEN: &str = "the source has not been looked at yet: ";

/// What a condition says of a watcher.
pub fn said(condition: &Condition) -> Said {
    let message = condition.message.as_str();
    match Reason::named(&condition.reason) {
        Some(Reason::WatcherSilent) => {
            let silence = message.strip_prefix(UNSEEN).unwrap_or(message);
            Said::Of(Say::Silent(silence.to_owned()))
        }
        Some(Reason::TooManySources) => Said::Of(Say::LeftOut(message.to_owned())),
        // Neither comes to an end by what a watcher says.
        Some(Reason::NoSuchTime | Reason::Loop) => Said::Before,
        _ => Said::Nothing,
    }
}

/// True where nothing was seen of what an ImageBuild looks at, by what its condition says.
fn is_unseen(condition: Option<&Condition>) -> bool {
    let Some(condition) = condition else {
        return true;
    };
    match Reason::named(&condition.reason) {
        // Of what had no room nothing has been seen.
        Some(Reason::NotSeenYet | Reason::TooManySources) => true,
        Some(Reason::WatcherSilent) => condition.message.starts_with(UNSEEN),
        _ => false,
    }
}

/// The status that says this; none where it stays as it is.
pub fn told(build: &ImageBuild, say: Option<&Say>, now: Timestamp) -> Option<ImageBuildStatus> {
    let before = build.status.clone().unwrap_or_default();
    if build.metadata.deletion_timestamp.is_some() || build.spec.triggers.is_none() {
        return None;
    }
    let condition = find(&before.conditions, TRIGGERS);
    let (stands, unseen) = (condition.map_or(Said::Nothing, said), is_unseen(condition));
    let mut status = before.clone();
    let (to, why, message) = match (say, stands) {
        (_, Said::Before) | (None, Said::Nothing) => return None,
        (Some(Say::Silent(silence)), _) => {
            let before = if unseen { UNSEEN } else { "" };
            (None, Reason::WatcherSilent, format!("{before}{silence}"))
        }
        (Some(Say::LeftOut(message)), _) => (Some(false), Reason::TooManySources, message.clone()),
        (None, Said::Of(_)) => {
            let word = if unseen { Word::None } else { Word::Watcher };
            clear(&mut status.conditions, TRIGGERS);
            say_triggers(&mut status, build, word, now);
            return (status != before).then_some(status);
        }
    };
    let generation = build.metadata.generation;
    let why = (why, message.as_str());
    set(&mut status.conditions, TRIGGERS, to, why, generation, now);
    (status != before).then_some(status)
}

/// Runs until `stop`.
pub async fn run(context: &Context, stop: impl Future<Output = ()>) {
    let stop = stop.fuse();
    futures::pin_mut!(stop);
    let after = context.sources.silent_after();
    let mut often = tokio::time::interval(OFTEN.min(after / 8));
    often.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = &mut stop => return,
            _ = often.tick() => {}
        }
        let watchers = context.sources.watchers();
        for builders in watchers.chunk_by(|one, next| one.0 == next.0) {
            let round = async {
                for builder in builders {
                    if let Err(error) = look(context, builder).await {
                        let (namespace, name) = builder;
                        tracing::warn!(namespace, builder = name, %error, "failed to read why a watcher is silent; retrying");
                    }
                }
                // What is known already is told whatever came of that.
                tell_all(context, &builders[0].0).await;
            };
            tokio::select! {
                () = &mut stop => return,
                () = round => {}
            }
        }
    }
}

/// Looks why a watcher is silent, where it is.
async fn look(context: &Context, of: &Name) -> Result<(), Error> {
    let (Turn::Look(why), trouble) = context.sources.turn(of) else {
        return Ok(());
    };
    let (namespace, name) = of;
    let (builder, stands) = in_time(ours(of, context)).await?;
    if stands && builder.is_none() {
        // It is another installation's by now.
        context.sources.unwants(of);
        return Ok(());
    }
    // Its Deployment has gone with the Builder, or is about to.
    let missing = (!stands).then(|| cause::no_builder(namespace, name));
    let cause = match missing.or_else(|| trouble.clone()) {
        Some(cause) => cause,
        None => {
            let seen = async { Ok(context.cluster.silent_watcher(namespace, name).await?) };
            cause::find(namespace, name, &in_time(seen).await?, Timestamp::now())
        }
    };
    let message = cause::message(&cause, name, context.sources.silent_after().as_secs());
    let sources = &context.sources;
    sources.found(of, &cause, trouble.as_ref(), message.clone());
    if why != Why::Trouble {
        // Somebody may have deleted what it needs: all of it is written again. Not where that was just tried: what comes of it
        // may be another trouble each time.
        sources.touch(of.clone());
    }
    if why == Why::New {
        tracing::warn!(
            namespace,
            builder = name,
            cause = cause.kind,
            message,
            "a watcher is silent"
        );
        if let Some(builder) = builder {
            let about = builder.object_ref(&());
            context
                .tell(&about, true, Reason::WatcherSilent, &message)
                .await;
        }
    }
    Ok(())
}

/// Tells some of the ImageBuilds of a namespace that do not say yet how their watchers are. One whose status cannot be written
/// keeps none of the others from being told.
async fn tell_all(context: &Context, namespace: &str) {
    for untold in context.sources.untold(namespace, MOST) {
        // The watcher may speak in between.
        if !context.sources.is_untold(&untold) {
            continue;
        }
        match in_time(tell(context, &untold)).await {
            Ok(false) => continue,
            Ok(true) => {}
            Err(error) => {
                let (namespace, name) = &untold.name;
                tracing::warn!(namespace, name, %error, "failed to write what an ImageBuild's watcher does not say; retrying");
            }
        }
        tokio::time::sleep(PACE).await;
    }
}

/// True where that was written.
async fn tell(context: &Context, untold: &Untold) -> Result<bool, Error> {
    let (namespace, name) = &untold.name;
    let mut tries = 0;
    loop {
        let build = context.cluster.image_build(namespace, name).await?;
        let build = build.filter(|build| {
            let uid = build.uid();
            uid.as_ref() == Some(&untold.uid) && build.spec.builder_ref.name == untold.builder
        });
        let Some(build) = build else {
            return Ok(false);
        };
        let Some(status) = told(&build, untold.say.as_ref(), Timestamp::now()) else {
            return Ok(false);
        };
        tries += 1;
        match context.cluster.write_status(&build, &status).await {
            Ok(_) => return Ok(true),
            Err(error) if error.is_missing() => return Ok(false),
            Err(error) if error.is_conflict() && tries < TRIES => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
#[path = "tell_tests.rs"]
mod tests;
