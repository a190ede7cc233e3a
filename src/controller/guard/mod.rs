//! The probe guard: keeps the ProbeProfiles, which its policies read, and audits the workloads that run
//! already.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use kube::runtime::watcher;

use super::{Context, in_time, workloads};

mod audit;
mod image;
mod mailbox;
mod write;

use image::Image;
pub use mailbox::Mailbox;
use mailbox::Seen;

/// Changes are gathered for so long before they are written: builds of a busy hour share a write, and a
/// tag that moves changes the verdict within five seconds.
const GATHER: Duration = Duration::from_secs(2);
/// Everything is compared again after this long, whatever events were missed.
const RESYNC: Duration = Duration::from_secs(3600);
/// The same where namespaces are trusted: their labels may change.
const TRUST: Duration = Duration::from_secs(60);
/// The longest time between two attempts at what the API server refuses.
const REFUSED: Duration = Duration::from_secs(300);

/// ImageBuilds with an image, by `namespace/name`.
type Images = BTreeMap<String, Image>;

/// Runs until `stop`.
pub async fn run(context: Arc<Context>, stop: impl Future<Output = ()>) {
    let mut found = workloads::watch(&context).boxed();
    let mut workloads = workloads::Workloads::default();
    let mut audits = audit::State::default();
    let mut taken = Taken::default();
    let mut written = write::Written::default();
    let mut due: Option<tokio::time::Instant> = None;
    // Workloads that come and go change no profile.
    let mut images_changed = false;
    let mut refusals = 0;
    let resync = match context.settings.probe_guard.trust.is_empty() {
        true => RESYNC,
        false => TRUST,
    };
    let stop = stop.fuse();
    futures::pin_mut!(stop);
    loop {
        let wake = due.unwrap_or_else(|| tokio::time::Instant::now() + resync);
        let changed = tokio::select! {
            () = &mut stop => return,
            event = context.images.next() => {
                let changed = taken.take(event);
                images_changed |= changed;
                changed
            }
            change = found.next() => change.is_some_and(|change| workloads.take(change)),
            () = tokio::time::sleep_until(wake), if taken.complete => {
                let resync = due.take().is_none();
                let (mut more, mut refused) = (false, false);
                if images_changed || resync {
                    match in_time(write::write(&context, &mut taken.images, &mut written)).await {
                        Ok(round) => (more, refused) = (round.more, round.refused),
                        Err(error) => {
                            tracing::warn!(%error, "ProbeProfiles could not be written; trying again");
                            refused = true;
                        }
                    }
                    images_changed = more || refused;
                }
                let speakers = written.speakers.clone();
                let audit = audit::inspect(&context, &mut taken.images, &speakers, &workloads, &mut audits);
                match in_time(audit).await {
                    Ok(round) => (more, refused) = (more | round.more, refused | round.refused),
                    Err(error) => {
                        tracing::warn!(%error, "workloads could not be audited; trying again");
                        refused = true;
                    }
                }
                refusals = if refused { refusals + 1 } else { 0 };
                let now = tokio::time::Instant::now();
                due = match (more, refused) {
                    (true, _) => Some(now + GATHER),
                    (false, true) => Some(now + back_off(refusals)),
                    (false, false) => None,
                };
                false
            }
        };
        if changed {
            // What is refused again and again does not hold up what is new.
            let soon = tokio::time::Instant::now() + GATHER;
            due = Some(due.map_or(soon, |due| due.min(soon)));
        }
    }
}

/// How long to wait after so many rounds in which something was refused.
fn back_off(refusals: u32) -> Duration {
    (GATHER * 3 * 2u32.saturating_pow(refusals.saturating_sub(1).min(10))).min(REFUSED)
}

/// What was seen of ImageBuilds.
#[derive(Default)]
struct Taken {
    images: Images,
    /// What was known before everything was listed anew.
    before: Images,
    complete: bool,
}

impl Taken {
    /// Takes a change in; true where something has to be written.
    fn take(&mut self, event: watcher::Event<Seen>) -> bool {
        match event {
            watcher::Event::Init => {
                self.before.append(&mut self.images);
                self.complete = false;
                false
            }
            watcher::Event::InitDone => {
                self.before.clear();
                self.complete = true;
                true
            }
            watcher::Event::InitApply(Seen { key, image })
            | watcher::Event::Apply(Seen { key, image }) => {
                let old = self
                    .before
                    .remove(&key)
                    .or_else(|| self.images.remove(&key));
                let Some(mut image) = image else {
                    return old.is_some();
                };
                let changed = image.follow(old);
                self.images.insert(key, image);
                changed
            }
            watcher::Event::Delete(seen) => self.images.remove(&seen.key).is_some(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_again_and_again_is_tried_less_often() {
        assert_eq!(back_off(1), GATHER * 3);
        assert_eq!(back_off(2), GATHER * 6);
        assert_eq!(back_off(u32::MAX), REFUSED);
    }
}
