//! What the guard knows: ImageBuilds from a watch, each judged by its reports, and what stands in the cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::runtime::watcher;

use super::super::workloads::{Found, Workloads};
use super::super::{Context, Error};
use super::Images;
use super::decide::audits::{self, Users};
use super::decide::{namespace_of, profiles};
use super::image::{Image, Pool, explain, packed, print};
use super::mailbox::Letter;
use crate::cluster::names_of_profiles;
use whittle_api::ImageBuild;
use whittle_build::record::recorded;
use whittle_probe::{
    Audit, Audited, Earlier, Entry, Handler, Layout, NotKnown, Profiled, Speakers, Workload, audit,
    covers, read_back, unpack,
};

/// Images are judged for so long before what is known of them is written.
const JUDGE: Duration = Duration::from_secs(5);
/// Images are audited for so long in one round.
const ROUND: Duration = Duration::from_secs(5);
/// And one of them: what is made to take long is looked at in part.
const ONE: Duration = Duration::from_secs(2);

/// What was seen of ImageBuilds.
#[derive(Default)]
pub struct Taken {
    /// Those with an image.
    pub images: Images,
    /// What was known before everything was listed anew.
    before: Images,
    /// True once all were listed.
    pub complete: bool,
}

impl Taken {
    /// Takes a change in; true where something has to be written.
    pub fn take(&mut self, event: watcher::Event<Letter>) -> bool {
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
            watcher::Event::InitApply(Letter { key, image })
            | watcher::Event::Apply(Letter { key, image }) => {
                let old = self
                    .before
                    .remove(&key)
                    .or_else(|| self.images.remove(&key));
                let Some(mut image) = image else {
                    return old.is_some();
                };
                let changed = image.follow(old.map(|old| *old));
                self.images.insert(key, image);
                changed
            }
            watcher::Event::Delete(letter) => self.images.remove(&letter.key).is_some(),
        }
    }
}

/// What stands in the cluster, as far as is known.
#[derive(Default)]
pub struct Written {
    /// Of each object: the digest of its spec, and its version.
    pub objects: BTreeMap<String, (String, String)>,
    /// The object of each ImageBuild.
    places: BTreeMap<String, usize>,
    /// False until the objects of an earlier process were read.
    read: bool,
    /// Namespaces of each entry of the installation's trust.
    trusted: Vec<BTreeSet<String>>,
    pool: Pool,
    /// The namespace whose condition was written last: the next round begins after it.
    pub told: String,
    /// Whose word counts.
    pub speakers: Arc<Speakers>,
}

/// What was read for one round of profiles.
pub struct Seen {
    /// What is known of the images, laid out in objects.
    pub layout: Layout,
    /// The digest of each of these objects.
    pub digests: BTreeMap<usize, String>,
    /// Versions of the installation's objects, as they stand.
    pub versions: BTreeMap<String, String>,
    /// Objects that carry no installation's name.
    pub unnamed: Vec<String>,
    /// Images are left that are not judged yet, for want of time.
    pub more: bool,
}

/// Reads all that the profiles depend on: of images that changed their reports, of namespaces who is trusted.
pub async fn observe(
    context: &Context,
    images: &mut Images,
    written: &mut Written,
) -> Result<Seen, Error> {
    if !written.read {
        written.read(context, images).await?;
    }
    images.values_mut().for_each(|image| image.history = vec![]);
    let more = !judge(context, images, written).await?;
    written.trust(context).await;
    let builds = written.profiled(context, images);
    let places = written.places.clone();
    let layout = tokio::task::spawn_blocking(move || {
        let layout = whittle_probe::profiles(builds, &places);
        let digests = profiles::digests(&layout);
        (layout, digests)
    });
    let (layout, digests) = layout
        .await
        .map_err(|error| Error::Broken(error.to_string()))?;
    written.places = layout.places();
    written.speakers = Arc::new(layout.speakers());
    let installation = &context.settings.probe_guard.name;
    Ok(Seen {
        layout,
        digests,
        versions: context.cluster.profile_versions(installation).await?,
        unnamed: context.cluster.unnamed_profiles().await?,
        more,
    })
}

/// Judges images that changed, those of each namespace in turn, off the event loop and one at a time: its reports
/// are read, unpacked, taken in and dropped. False where some are left for the next round.
async fn judge(
    context: &Context,
    images: &mut Images,
    written: &mut Written,
) -> Result<bool, Error> {
    let begun = Instant::now();
    for key in profiles::unjudged(images) {
        if begun.elapsed() > JUDGE {
            return Ok(false);
        }
        let Some(image) = images.get_mut(&key) else {
            continue;
        };
        let Some(build) = same(context, &key, image).await? else {
            continue;
        };
        let Some(status) = build.status.as_ref().map(recorded) else {
            continue;
        };
        let status = status.into_owned();
        let judged = tokio::task::spawn_blocking(move || {
            Entry::of_packed(packed(&status)).map_err(|known| explain(known, &status))
        });
        let judged = judged.await;
        let judged = judged.unwrap_or_else(|error| {
            tracing::error!(image_build = key, %error, "internal error while judging an image");
            let reason = whittle_api::Reason::NotJudged;
            let message =
                "internal error while reading its report: see the controller's log".to_owned();
            Err(NotKnown { reason, message })
        });
        image.known = Some(judged.map(|entry| written.pool.share(entry)));
        image.judged = true;
    }
    Ok(true)
}

/// The ImageBuild with its reports, live. None where it is another one already: its event comes.
async fn same(context: &Context, key: &str, image: &Image) -> Result<Option<ImageBuild>, Error> {
    let (namespace, name) = key.split_once('/').unwrap_or_default();
    let found = context.cluster.image_build(namespace, name).await?;
    Ok(found.filter(|build| {
        let told = build.status.as_ref().map(|status| print(&recorded(status)));
        told == Some(image.print)
    }))
}

impl Written {
    /// Reads what an earlier process wrote, one object at a time: it knows earlier images, and holds for those
    /// that are not judged yet.
    async fn read(&mut self, context: &Context, images: &mut Images) -> Result<(), Error> {
        let installation = &context.settings.probe_guard.name;
        let wanted = images
            .iter()
            .map(|(key, image)| (key.clone(), image.digests().map(str::to_owned).collect()));
        let wanted: Arc<BTreeMap<String, BTreeSet<String>>> = Arc::new(wanted.collect());
        let standing = context.cluster.profile_versions(installation).await?;
        for (name, version) in standing {
            // A round that ended early goes on where it was.
            if self
                .objects
                .get(&name)
                .is_some_and(|known| known.1 == version)
            {
                continue;
            }
            let Some((spec, version)) = context.cluster.profile(&name).await? else {
                continue;
            };
            let of = wanted.clone();
            let read = tokio::task::spawn_blocking(move || {
                let wanted = |key: &str, digest: &str| {
                    of.get(key).is_some_and(|digests| digests.contains(digest))
                };
                (profiles::digest(&spec), read_back(&spec, wanted))
            });
            let (digest, back) = read
                .await
                .map_err(|error| Error::Broken(error.to_string()))?;
            let number = names_of_profiles::number(installation, &name);
            for back in back {
                let Some(image) = images.get_mut(&back.image_build) else {
                    continue;
                };
                let entry = self.pool.share(back.entry);
                if let Some(number) = number {
                    self.places.insert(back.image_build, number);
                }
                if image.known.is_none() && back.digest == image.digest {
                    image.known = Some(Ok(entry));
                } else {
                    image.remember(vec![Earlier {
                        version: format!("@{}", back.digest),
                        entry,
                        fix: back.fix,
                    }]);
                }
            }
            self.objects.insert(name, (digest, version));
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
                    tracing::warn!(%error, "cannot list the namespaces of probeGuard.trust; keeping those known before");
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

/// Audits the images that are due; `last` is the one that was audited last. An image is judged again only where it, or
/// a workload that uses it, has changed; its reports are read for that, and dropped. False where some are left for the
/// next round. Returns the workloads of all images.
pub async fn audit_due<'w>(
    context: &Context,
    images: &mut Images,
    speakers: &Arc<Speakers>,
    workloads: &'w Workloads,
    last: &mut String,
) -> Result<(Users<'w>, bool), Error> {
    let users = Users::of(workloads, speakers);
    let begun = Instant::now();
    for (key, looked_at) in audits::due(images, &users, speakers, last) {
        if begun.elapsed() > ROUND {
            return Ok((users, false));
        }
        last.clone_from(&key);
        let Some(image) = images.get_mut(&key) else {
            continue;
        };
        if let Some(result) = one(context, &key, image, users.get(&key), speakers).await? {
            image.audited = Some((looked_at, result));
        }
    }
    Ok((users, true))
}

/// None where the ImageBuild is another one already.
async fn one(
    context: &Context,
    key: &str,
    image: &Image,
    used: &[&Found],
    speakers: &Arc<Speakers>,
) -> Result<Option<Audit>, Error> {
    if used.is_empty() {
        return Ok(Some(Audit::default()));
    }
    let Some(build) = same(context, key, image).await? else {
        return Ok(None);
    };
    let used: Vec<Found> = used.iter().map(|found| (*found).clone()).collect();
    let (key, speakers) = (key.to_owned(), speakers.clone());
    let work = move || judged(&key, &build, &used, &speakers);
    let result = tokio::task::spawn_blocking(work).await;
    result
        .map(Some)
        .map_err(|error| Error::Broken(error.to_string()))
}

fn judged(key: &str, build: &ImageBuild, used: &[Found], speakers: &Speakers) -> Audit {
    let status = build.status.as_ref().map(recorded);
    let contents: Option<Vec<_>> = status
        .iter()
        .flat_map(|status| packed(status))
        .map(|packed| packed.and_then(unpack))
        .collect();
    let image = Audited {
        contents: contents.unwrap_or_default(),
        health_check: build
            .spec
            .health_check
            .as_ref()
            .and_then(Handler::of_health_check),
    };
    let workloads = used.iter().filter_map(|found| {
        Some(Workload {
            name: found.title(),
            namespace: found.namespace().to_owned(),
            pod: found.pod()?,
        })
    });
    let begun = Instant::now();
    audit(key, workloads, speakers, &image, || begun.elapsed() < ONE)
}

#[cfg(test)]
#[path = "observe_tests.rs"]
mod tests;
