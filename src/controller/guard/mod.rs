//! The probe guard: keeps the ProbeProfiles, which its policies read, and audits the workloads that run
//! already.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use futures::{FutureExt, StreamExt};
use tokio::time::Instant;

use super::{Context, Error, builder, in_time, workloads};

mod carry_out;
mod decide;
#[cfg(test)]
mod fixtures;
mod image;
mod mailbox;
mod observe;
#[cfg(test)]
mod scripted_tests;

use carry_out::Told;
use decide::{Observed, Round, Step, audits, profiles};
use image::Image;
pub use mailbox::Mailbox;
use observe::{Taken, Written};

/// ImageBuilds with an image, by `namespace/name`.
type Images = BTreeMap<String, Box<Image>>;

/// What stays from round to round.
#[derive(Default)]
struct State {
    taken: Taken,
    written: Written,
    workloads: workloads::Workloads,
    /// The image that was audited last: the next round goes on after it.
    audited: String,
    told: Told,
}

/// Runs until `stop`.
pub async fn run(context: Arc<Context>, stop: impl Future<Output = ()>) {
    let mut found = workloads::watch(&context).boxed();
    let mut state = State::default();
    let trusts = !context.settings.probe_guard.trust.is_empty();
    let mut observed = Observed::new(trusts, Instant::now());
    let stop = stop.fuse();
    futures::pin_mut!(stop);
    loop {
        observed.now = Instant::now();
        observed.complete = state.taken.complete;
        match decide::decide(&observed) {
            Step::Wait(until) => {
                let (of_image, changed) = tokio::select! {
                    () = &mut stop => return,
                    event = context.images.next() => (true, state.taken.take(event)),
                    change = found.next() => (false, change.is_some_and(|change| state.workloads.take(change))),
                    () = tokio::time::sleep_until(until.unwrap_or(observed.now)), if until.is_some() => continue,
                };
                observed.see(of_image, changed, Instant::now());
            }
            Step::Round { profiles } => {
                let written = match profiles {
                    true => {
                        let round = in_time(write(&context, &mut state)).await;
                        Some(came_to(round, "cannot write ProbeProfiles"))
                    }
                    false => None,
                };
                let round = in_time(audit(&context, &mut state)).await;
                let audit = came_to(round, "cannot audit workloads");
                observed.end(written, audit, Instant::now());
            }
        }
    }
}

/// A round that ends early is tried again as one in which something was refused.
fn came_to(round: Result<Round, Error>, what: &str) -> Round {
    round.unwrap_or_else(|error| {
        tracing::warn!(%error, "{what}; retrying");
        Round {
            more: false,
            refused: true,
        }
    })
}

/// Judges images, and writes the profiles and the conditions that differ.
async fn write(context: &Context, state: &mut State) -> Result<Round, Error> {
    let (images, written) = (&mut state.taken.images, &mut state.written);
    let seen = observe::observe(context, images, written).await?;
    let step = profiles::decide(&profiles::Observed {
        images,
        layout: &seen.layout,
        digests: &seen.digests,
        installation: &context.settings.probe_guard.name,
        versions: &seen.versions,
        unnamed: &seen.unnamed,
        objects: &written.objects,
        told: &written.told,
        is_others: &|namespace, name| context.others.has(builder::KIND, namespace, name),
    });
    let mut round = carry_out::write(context, images, written, &seen.layout, step).await?;
    round.more |= seen.more;
    Ok(round)
}

/// Audits the workloads that run already, for each image whose word counts for them; writes the conditions that
/// differ, and tells each workload once per change.
async fn audit(context: &Context, state: &mut State) -> Result<Round, Error> {
    let (images, told) = (&mut state.taken.images, &mut state.told);
    let (speakers, workloads) = (&state.written.speakers, &state.workloads);
    let audited = observe::audit_due(context, images, speakers, workloads, &mut state.audited);
    let (users, all) = audited.await?;
    let step = audits::decide(&audits::Observed {
        images,
        users: &users,
        told: &told.lines,
        last: &told.last,
        is_others: &|namespace, name| context.others.has(builder::KIND, namespace, name),
    });
    let mut round = carry_out::tell(context, images, told, step).await?;
    round.more |= !all;
    Ok(round)
}
