//! Keeps the ProbeProfiles: judges images one at a time, lays them out, and writes what differs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::{Context, Error, builder};
use super::Images;
use super::image::{Pool, packed, print};
use crate::cluster::names_of_profiles;
use whittle_api::{PROBE_PROFILE, ProbeProfileSpec};
use whittle_build::record::recorded;
use whittle_image::digest_of;
use whittle_probe::{Earlier, Entry, NotKnown, Profiled, Speakers, covers, profiles};

/// Images are judged for so long before what is known of them is written.
const JUDGE: Duration = Duration::from_secs(5);
/// Conditions are written for so long in one round: profiles that changed meanwhile go first in the next.
pub const TELL: Duration = Duration::from_secs(5);

/// What a round of writing came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Round {
    /// Something is left for the next round, for want of time.
    pub more: bool,
    /// The API server has refused something.
    pub refused: bool,
}

/// What stands in the cluster, as far as is known.
#[derive(Default)]
pub struct Written {
    /// Of each object: the digest of its spec, and its version.
    objects: BTreeMap<String, (String, String)>,
    /// The object of each ImageBuild.
    places: BTreeMap<String, usize>,
    /// False until the objects of an earlier process were read.
    read: bool,
    /// Namespaces of each entry of the installation's trust.
    trusted: Vec<BTreeSet<String>>,
    pool: Pool,
    /// The namespace whose condition was written last: the next round begins after it.
    told: String,
    /// Whose word counts.
    pub speakers: Arc<Speakers>,
}

/// Keys `namespace/name`, first the first of each namespace, then the second of each: who has thousands holds up nobody
/// else for long. The namespaces after `last` come before the others.
pub fn in_turns<'a>(keys: impl Iterator<Item = &'a str>, last: &str) -> Vec<String> {
    let mut turns: BTreeMap<&str, usize> = BTreeMap::new();
    let mut due: Vec<(usize, bool, &str)> = vec![];
    for key in keys {
        let namespace = namespace_of(key);
        let turn = turns.entry(namespace).or_default();
        due.push((*turn, namespace <= last, key));
        *turn += 1;
    }
    due.sort_unstable();
    due.into_iter().map(|(_, _, key)| key.to_owned()).collect()
}

pub fn namespace_of(key: &str) -> &str {
    key.split('/').next().unwrap_or_default()
}

/// Judges images that changed, those of each namespace in turn, off the event loop and one at a time: its reports
/// are read, unpacked, taken in and dropped. False where some are left for the next round.
pub async fn judge(
    context: &Context,
    images: &mut Images,
    written: &mut Written,
) -> Result<bool, Error> {
    let waiting = images.iter().filter(|(_, image)| !image.judged);
    let due = in_turns(waiting.map(|(key, _)| key.as_str()), "");
    let begun = Instant::now();
    for key in due {
        if begun.elapsed() > JUDGE {
            return Ok(false);
        }
        let (namespace, name) = key.split_once('/').unwrap_or_default();
        let Some(build) = context.cluster.image_build(namespace, name).await? else {
            continue;
        };
        let Some(status) = build.status.as_ref().map(recorded) else {
            continue;
        };
        let status = status.into_owned();
        let Some(image) = images.get_mut(&key) else {
            continue;
        };
        // Another one already: its event comes.
        if print(&status) != image.print {
            continue;
        }
        let judged = tokio::task::spawn_blocking(move || Entry::of_packed(packed(&status))).await;
        let judged = judged.unwrap_or_else(|error| {
            tracing::error!(image_build = key, %error, "an image could not be judged");
            let reason = "NotJudged";
            let message = "its report could not be judged: see the controller's log".to_owned();
            Err(NotKnown { reason, message })
        });
        image.known = Some(judged.map(|entry| written.pool.share(entry)));
        image.judged = true;
    }
    Ok(true)
}

impl Written {
    /// Reads what an earlier process wrote, one object at a time: it knows earlier images, and holds for those
    /// that are not judged yet.
    async fn read(&mut self, context: &Context, images: &mut Images) -> Result<(), Error> {
        let installation = &context.settings.probe_guard.name;
        for name in context
            .cluster
            .profile_versions(installation)
            .await?
            .into_keys()
        {
            let Some((spec, version)) = context.cluster.profile(&name).await? else {
                continue;
            };
            let number = names_of_profiles::number(installation, &name);
            self.objects.insert(name, (digest(&spec), version));
            for (reference, said) in &spec.references {
                let Some((_, digest)) = reference.split_once('@') else {
                    continue;
                };
                for id in said.values() {
                    let Some((entry, key, fix)) = Entry::read_back(&spec, id) else {
                        continue;
                    };
                    let Some(image) = images.get_mut(&key) else {
                        continue;
                    };
                    let entry = self.pool.share(entry);
                    if let Some(number) = number {
                        self.places.insert(key, number);
                    }
                    if image.known.is_none() && digest == image.digest {
                        image.known = Some(Ok(entry));
                    } else {
                        let version = format!("@{digest}");
                        image.remember(vec![Earlier {
                            version,
                            entry,
                            fix,
                        }]);
                    }
                }
            }
        }
        self.read = true;
        Ok(())
    }

    async fn trust(&mut self, context: &Context) {
        let trust = &context.settings.probe_guard.trust;
        self.trusted.resize(trust.len(), BTreeSet::new());
        for (trust, namespaces) in trust.iter().zip(&mut self.trusted) {
            match context.cluster.namespaces(&trust.namespace_selector).await {
                Ok(found) => *namespaces = found,
                Err(error) => {
                    tracing::warn!(%error, "namespaces of probeGuard.trust cannot be listed; those known before stay");
                }
            }
        }
    }

    fn profiled(&self, context: &Context, images: &Images) -> Vec<Profiled> {
        let trust = &context.settings.probe_guard.trust;
        let all = images.iter().filter_map(|(key, image)| {
            let namespace = namespace_of(key);
            let mut trust = trust.iter().zip(&self.trusted);
            Some(Profiled {
                image_build: key.clone(),
                repository: image.repository.clone(),
                digest: image.digest.clone(),
                versions: image.versions.clone(),
                known: image.known.clone()?,
                earlier: image.earlier.clone(),
                fix: image.fix.clone(),
                trusted: trust.any(|(trust, namespaces)| {
                    namespaces.contains(namespace) && covers(&trust.repositories, &image.repository)
                }),
            })
        });
        all.collect()
    }
}

/// Judges, and writes the profiles and the conditions that differ. What the API server refuses keeps no other
/// from being written.
pub async fn write(
    context: &Context,
    images: &mut Images,
    written: &mut Written,
) -> Result<Round, Error> {
    let cluster = &context.cluster;
    let installation = &context.settings.probe_guard.name;
    if !written.read {
        written.read(context, images).await?;
    }
    let mut round = Round {
        more: !judge(context, images, written).await?,
        refused: false,
    };
    written.trust(context).await;
    let builds = written.profiled(context, images);
    let places = written.places.clone();
    let layout = tokio::task::spawn_blocking(move || profiles(builds, &places)).await;
    let layout = layout.map_err(|error| Error::Broken(error.to_string()))?;
    written.places = layout.places();
    written.speakers = Arc::new(layout.speakers());
    let versions = cluster.profile_versions(installation).await?;
    let mut wanted = BTreeSet::new();
    // New ones first: an image that moves to another object is known at every moment.
    for number in layout.shards() {
        let name = names_of_profiles::name(installation, number);
        let spec = layout.spec(number);
        let digest = digest(&spec);
        let version = versions.get(&name);
        wanted.insert(name.clone());
        let known = written.objects.get(&name);
        if known.is_some_and(|known| known.0 == digest && Some(&known.1) == version) {
            continue;
        }
        match cluster
            .write_profile(installation, &name, spec, version)
            .await
        {
            Ok(version) => drop(written.objects.insert(name, (digest, version))),
            Err(error) if error.is_answer() => {
                context.metrics.profile_refused();
                tracing::warn!(%error, "a ProbeProfile could not be written; trying again");
                written.objects.remove(&name);
                round.refused = true;
            }
            Err(error) => return Err(error.into()),
        }
    }
    written.objects.retain(|name, _| wanted.contains(name));
    let stale = versions.into_keys().filter(|name| !wanted.contains(name));
    for name in stale.chain(cluster.unnamed_profiles().await?) {
        cluster.delete_profile(&name).await?;
    }
    let unknown = layout
        .builds()
        .filter(|(at, _)| layout.told(*at).is_some_and(|told| !told.0));
    context.metrics.images_not_known(unknown.count());
    let mut due: BTreeMap<String, Told> = BTreeMap::new();
    for (at, key) in layout.builds() {
        let told = layout.told(at).map(|(known, reason, message)| {
            let status = if known { "True" } else { "False" };
            (status.to_owned(), reason.to_owned(), message)
        });
        if images.get(key).is_some_and(|image| image.profile != told) {
            due.insert(key.to_owned(), told);
        }
    }
    let rest = tell(context, images, due, &mut written.told).await?;
    round.more |= rest.more;
    round.refused |= rest.refused;
    Ok(round)
}

/// A condition's status, reason and message; none where it is to go.
type Told = Option<(String, String, String)>;

/// Writes those conditions, in turns and until the time is up.
async fn tell(
    context: &Context,
    images: &mut Images,
    mut due: BTreeMap<String, Told>,
    last: &mut String,
) -> Result<Round, Error> {
    let mut round = Round::default();
    let begun = Instant::now();
    for key in in_turns(due.keys().map(String::as_str), last) {
        let (namespace, name) = key.split_once('/').unwrap_or_default();
        let (Some(told), Some(image)) = (due.remove(&key), images.get_mut(&key)) else {
            continue;
        };
        if context.others.has(builder::KIND, namespace, &image.builder) {
            continue;
        }
        if begun.elapsed() > TELL {
            round.more = true;
            break;
        }
        namespace.clone_into(last);
        match context
            .cluster
            .write_condition(namespace, name, PROBE_PROFILE, told.as_ref())
            .await
        {
            Ok(()) => image.profile = told,
            Err(error) if error.is_answer() => {
                tracing::warn!(%error, "a condition could not be written; trying again");
                round.refused = true;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(round)
}

fn digest(spec: &ProbeProfileSpec) -> String {
    digest_of(&serde_json::to_vec(spec).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_with_many_holds_up_no_other() {
        let keys = ["a/1", "a/2", "a/3", "b/1", "c/1", "c/2"];
        let all = |last| in_turns(keys.into_iter(), last);
        assert_eq!(all(""), ["a/1", "b/1", "c/1", "a/2", "c/2", "a/3"]);
        assert_eq!(all("b"), ["c/1", "a/1", "b/1", "c/2", "a/2", "a/3"]);
    }
}
