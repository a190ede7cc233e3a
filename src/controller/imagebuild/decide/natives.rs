//! The daemons that an attempt has for its platforms, where its Builder has some of their own for them, or what it waits for.

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use super::choice::Wait;
use super::{Observed, is_asleep, is_ready, memory_limit, refused as waits};
use crate::builder::objects::PORT;
use crate::names;
use crate::placement::{BACK_BY, until};
use crate::platforms::{Seen, memory_field};
use whittle_api::{Builder, BuilderStatus, Certificates, ImageBuildStatus, READY, bounded, find};
use whittle_build::request::Native;

/// Bytes of a reason that stand in a request.
const REASON: usize = 320;

/// So long a daemon that has been up before is waited for: a pool of nodes that was scaled to none needs some minutes for the first.
const UP_BY: SignedDuration = SignedDuration::from_mins(10);
/// Why there is none yet.
const CREATED: &str = "it is being created";

/// The daemons of the platforms that are built; those that are not up are waited for, as long as there is hope.
pub(super) fn of(
    observed: &Observed,
    builder: &Builder,
    status: &ImageBuildStatus,
    now: Timestamp,
) -> Result<Vec<Native>, Wait> {
    let current = status.current.as_ref();
    let since = current.and_then(|current| current.waiting_since.as_ref());
    let since = since.map_or(now, |since| since.0);
    for seen in &observed.platforms {
        let Some(why) = missing(seen, builder) else {
            continue;
        };
        let until = until_up(seen, builder, since, now);
        if let Some(until) = until.filter(|until| now < *until) {
            let (platform, name) = (&seen.platform, seen.wanted.name_any());
            let message = format!(
                "queued: the daemon of {platform}, Builder {name}, is not up: {why}; this build goes on without it at {}",
                until.strftime("%H:%M:%S UTC")
            );
            return Err(Wait {
                message,
                left: until.duration_since(now),
            });
        }
    }
    Ok(as_they_are(observed, builder))
}

/// The same without a wait.
pub(super) fn as_they_are(observed: &Observed, builder: &Builder) -> Vec<Native> {
    let namespace = builder.namespace().unwrap_or_default();
    let native = |seen: &Seen| {
        let name = seen.wanted.name_any();
        let missing = missing(seen, builder).map(|why| bounded(why, REASON));
        let host = names::builder_host(&name, &namespace, 0);
        Native {
            platform: seen.platform.clone(),
            address: missing.is_none().then(|| format!("tcp://{host}:{PORT}")),
            memory: memory_limit(&seen.wanted).map(str::to_owned),
            memory_field: missing
                .is_none()
                .then(|| memory_field(builder, &seen.platform)),
            builder: name,
            missing,
        }
    };
    observed.platforms.iter().map(native).collect()
}

/// Why the daemon of a platform neither takes builds nor sleeps; none where it does. `of`: the status of the Builder whose platform it
/// is.
pub fn not_up(seen: &Seen, of: Option<&BuilderStatus>) -> Option<String> {
    match seen.daemon() {
        Some(daemon) if is_asleep(daemon) => None,
        _ => why(seen, of),
    }
}

/// Why the daemon of a platform takes no builds; none where it does.
fn missing(seen: &Seen, builder: &Builder) -> Option<String> {
    why(seen, builder.status.as_ref())
}

fn why(seen: &Seen, of: Option<&BuilderStatus>) -> Option<String> {
    let name = seen.wanted.name_any();
    if seen.is_taken() {
        return Some(format!(
            "there is a Builder {name} that was not made for this: delete or rename it"
        ));
    }
    let Some(daemon) = seen.daemon() else {
        return Some(refused(seen, of).unwrap_or(CREATED).into());
    };
    if daemon.metadata.deletion_timestamp.is_some() {
        return Some("it is being deleted".into());
    }
    if !is_ready(daemon) {
        return Some(waits::builder(daemon).message);
    }
    // Its runners have those of the Builder whose platform it is.
    let digest = |it: &Certificates| it.digest.clone();
    let of_both = [of, daemon.status.as_ref()]
        .map(|status| status.and_then(|it| it.certificates.as_ref().map(digest)));
    (of_both[0] != of_both[1]).then(|| "its certificates are being renewed".into())
}

/// Why it cannot be made, as far as the Builder whose platform it is says so.
fn refused<'a>(seen: &Seen, of: Option<&'a BuilderStatus>) -> Option<&'a str> {
    let name = seen.wanted.name_any();
    let mut all = of?.platforms.as_ref()?.iter();
    let said = all.find(|it| it.builder == name && !it.ready)?;
    said.message.as_deref().filter(|said| *said != CREATED)
}

/// Until when it is waited for; none where waiting helps nothing. `waiting`: since when the build waits, which counts for one that was
/// told to wake only then. One that was never up is waited for after it was made, and then no more: nobody knows whether there ever will
/// be a node.
fn until_up(seen: &Seen, of: &Builder, waiting: Timestamp, now: Timestamp) -> Option<Timestamp> {
    if seen.is_taken() {
        return None;
    }
    let Some(daemon) = seen.daemon() else {
        let refused = refused(seen, of.status.as_ref()).is_some();
        return (!refused).then(|| until(waiting, BACK_BY, now));
    };
    if daemon.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let status = daemon.status.as_ref();
    let proven = status
        .and_then(|status| status.isolation.as_ref())
        .is_some_and(|isolation| isolation.proven);
    if !proven {
        let made = daemon.metadata.creation_timestamp.as_ref();
        return Some(until(made.map_or(waiting, |made| made.0), BACK_BY, now));
    }
    let down = status
        .and_then(|status| find(&status.conditions, READY))
        .filter(|ready| ready.status != "True");
    let since = down.map_or(waiting, |down| down.last_transition_time.0);
    Some(until(since, UP_BY, now))
}

#[cfg(test)]
#[path = "natives_tests.rs"]
mod tests;
