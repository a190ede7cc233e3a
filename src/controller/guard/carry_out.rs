//! Carries out what was decided about profiles and audits. What the API server refuses keeps no other from being
//! written.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::super::{Context, Error, workloads};
use super::Images;
use super::decide::{Round, audits, namespace_of, profiles};
use super::image::Said;
use super::observe::Written;
use whittle_api::{PROBE_PROFILE, PROBES_COMPATIBLE};
use whittle_probe::Layout;

/// Conditions are written for so long in one round: profiles that changed meanwhile go first in the next.
const TELL: Duration = Duration::from_secs(5);

/// What was said of workloads.
#[derive(Default)]
pub struct Told {
    /// The last sentence on each.
    pub lines: BTreeMap<String, String>,
    /// The namespace that was told something last: the next round begins after it.
    pub last: String,
}

/// Writes the profiles and the conditions that differ.
pub async fn write(
    context: &Context,
    images: &mut Images,
    written: &mut Written,
    layout: &Layout,
    step: profiles::Step,
) -> Result<Round, Error> {
    let installation = &context.settings.probe_guard.name;
    let mut round = Round::default();
    for write in step.write {
        let (name, spec) = (write.name, layout.spec(write.number));
        let version = write.version.as_ref();
        let cluster = &context.cluster;
        let result = cluster.write_profile(installation, &name, spec, version);
        match result.await {
            Ok(version) => drop(written.objects.insert(name, (write.digest, version))),
            Err(error) if error.is_answer() => {
                context.metrics.profile_refused();
                tracing::warn!(%error, "cannot write a ProbeProfile; retrying");
                written.objects.remove(&name);
                round.refused = true;
            }
            Err(error) => return Err(error.into()),
        }
    }
    written.objects.retain(|name, _| step.stand.contains(name));
    for name in step.delete {
        context.cluster.delete_profile(&name).await?;
    }
    context.metrics.images_not_known(step.not_known);
    let begun = Instant::now();
    for (key, wanted) in step.tell {
        let Some(image) = images.get_mut(&key) else {
            continue;
        };
        if begun.elapsed() > TELL {
            round.more = true;
            break;
        }
        namespace_of(&key).clone_into(&mut written.told);
        match condition(context, &key, PROBE_PROFILE, wanted.as_ref()).await? {
            true => image.profile = wanted,
            false => round.refused = true,
        }
    }
    Ok(round)
}

/// Tells each workload once per change, and writes the conditions that differ.
pub async fn tell(
    context: &Context,
    images: &mut Images,
    told: &mut Told,
    step: audits::Step<'_>,
) -> Result<Round, Error> {
    let mut round = Round::default();
    let mut now_told = BTreeMap::new();
    let begun = Instant::now();
    for say in step {
        let late = begun.elapsed() > TELL;
        for line in say.lines {
            if let Some(found) = line.tell {
                if late {
                    round.more = true;
                    continue;
                }
                namespace_of(&say.key).clone_into(&mut told.last);
                workloads::tell(context, found, &line.line).await;
            }
            now_told.insert(line.workload, line.line);
        }
        let (Some(wanted), Some(image)) = (say.condition, images.get_mut(&say.key)) else {
            continue;
        };
        if late {
            round.more = true;
            continue;
        }
        namespace_of(&say.key).clone_into(&mut told.last);
        match condition(context, &say.key, PROBES_COMPATIBLE, wanted.as_ref()).await? {
            true => image.compatible = wanted,
            false => round.refused = true,
        }
    }
    told.lines = now_told;
    Ok(round)
}

/// Writes a condition; false where the API server refuses it.
async fn condition(
    context: &Context,
    key: &str,
    kind: &'static str,
    wanted: Option<&Said>,
) -> Result<bool, Error> {
    let (namespace, name) = key.split_once('/').unwrap_or_default();
    let cluster = &context.cluster;
    match cluster
        .write_condition(namespace, name, kind, wanted.map(|said| &**said))
        .await
    {
        Ok(()) => Ok(true),
        Err(error) if error.is_answer() => {
            tracing::warn!(%error, "cannot write a condition; retrying");
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}
