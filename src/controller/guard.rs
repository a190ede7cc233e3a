//! The probe guard: keeps the ProbeProfiles, which its policies read, and audits the workloads that run
//! already.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use kube::ResourceExt;
use kube::runtime::watcher;

use super::workloads::{self, Found};
use super::{Context, Error, in_time};
use crate::api::{ImageBuild, PROBES_COMPATIBLE, ProbeProfileSpec, find};
use crate::image::Contents;
use crate::probe::{Audited, Handler, Profiled, Workload, audit, canonical, profiles, unpack};

/// Changes are gathered for so long before they are written: builds of a busy hour share a write, and a
/// tag that moves changes the verdict within five seconds.
const GATHER: Duration = Duration::from_secs(2);
/// Everything is compared again after this long, whatever events were missed.
const RESYNC: Duration = Duration::from_secs(3600);

/// What is kept of one ImageBuild: small, and as it stands in its status.
struct Image {
    profiled: Profiled,
    /// Name of its Builder.
    builder: String,
    packed: Vec<String>,
    handler: Option<Handler>,
    /// Status, reason and message of the condition, as last seen or written.
    condition: Option<(String, String, String)>,
}

impl Image {
    /// None where nothing is known of an image.
    fn of(build: &ImageBuild) -> Option<Self> {
        let status = build.status.as_ref()?;
        let repository = status.image.as_deref()?.split('@').next()?.to_owned();
        let packed: Option<Vec<String>> = status
            .platforms
            .iter()
            .map(|platform| platform.contents.as_ref()?.programs.clone())
            .collect();
        let digests = status.digest.iter();
        let platforms = status.platforms.iter().map(|platform| &platform.digest);
        let tags = build.spec.output.tags.iter().map(|tag| format!(":{tag}"));
        let earlier = status.history.iter().filter_map(|entry| {
            let digest = entry.digest.as_ref()?;
            (Some(digest) != status.digest.as_ref()).then(|| format!("@{digest}"))
        });
        let handler = build
            .spec
            .health_check
            .as_ref()
            .and_then(Handler::of_health_check);
        let condition = find(&status.conditions, PROBES_COMPATIBLE)
            .map(|c| (c.status.clone(), c.reason.clone(), c.message.clone()));
        Some(Self {
            builder: build.spec.builder_ref.name.clone(),
            condition,
            profiled: Profiled {
                image_build: key(build),
                repository,
                versions: tags
                    .chain(digests.chain(platforms).map(|digest| format!("@{digest}")))
                    .collect(),
                contents: vec![],
                earlier: earlier.collect(),
                fix: handler.as_ref().map(Handler::display),
            },
            handler,
            packed: packed.unwrap_or_default(),
        })
    }

    /// What each platform's image holds, unpacked.
    fn contents(&self) -> Vec<Contents> {
        let packed = self.packed.iter();
        packed.filter_map(|packed| unpack(packed)).collect()
    }
}

/// `namespace/name`.
fn key(build: &ImageBuild) -> String {
    format!(
        "{}/{}",
        build.namespace().unwrap_or_default(),
        build.name_any()
    )
}

/// Runs until `stop`.
pub async fn run(context: Arc<Context>, stop: impl Future<Output = ()>) {
    let all = watcher::Config::default();
    let mut events = context.cluster.watch_selected::<ImageBuild>(all);
    let mut found = workloads::watch(&context).boxed();
    let mut workloads = workloads::Workloads::default();
    let mut told: BTreeMap<String, String> = BTreeMap::new();
    let mut images: BTreeMap<String, Image> = BTreeMap::new();
    let mut written = None;
    let mut due: Option<tokio::time::Instant> = None;
    let mut complete = false;
    // Workloads that come and go change no profile.
    let mut images_changed = false;
    let stop = stop.fuse();
    futures::pin_mut!(stop);
    loop {
        let wake = due.unwrap_or_else(|| tokio::time::Instant::now() + RESYNC);
        let changed = tokio::select! {
            () = &mut stop => return,
            event = events.next() => match event {
                Some(Ok(event)) => {
                    let changed = take(event, &mut images, &mut complete);
                    images_changed |= changed;
                    changed
                }
                Some(Err(error)) => {
                    tracing::warn!(%error, "ImageBuilds cannot be watched for ProbeProfiles; trying again");
                    false
                }
                None => return,
            },
            change = found.next() => change.is_some_and(|change| workloads.take(change)),
            () = tokio::time::sleep_until(wake), if complete => {
                let resync = due.take().is_none();
                let audited = in_time(inspect(&context, &mut images, &workloads, &mut told)).await;
                if let Err(error) = audited {
                    tracing::warn!(%error, "workloads could not be audited; trying again");
                    due = Some(tokio::time::Instant::now() + GATHER * 3);
                }
                if images_changed || resync {
                    images_changed = false;
                    if let Err(error) = in_time(write(&context, &images, &mut written)).await {
                        tracing::warn!(%error, "ProbeProfiles could not be written; trying again");
                        written = None;
                        images_changed = true;
                        due = Some(tokio::time::Instant::now() + GATHER * 3);
                    }
                }
                false
            }
        };
        if changed && due.is_none() {
            due = Some(tokio::time::Instant::now() + GATHER);
        }
    }
}

/// Takes a change in; true where something has to be written.
fn take(
    event: watcher::Event<ImageBuild>,
    images: &mut BTreeMap<String, Image>,
    complete: &mut bool,
) -> bool {
    match event {
        watcher::Event::Init => {
            images.clear();
            *complete = false;
            false
        }
        watcher::Event::InitDone => {
            *complete = true;
            true
        }
        watcher::Event::InitApply(build) | watcher::Event::Apply(build) => {
            let Some(image) = Image::of(&build) else {
                return images.remove(&key(&build)).is_some();
            };
            let old = images.insert(key(&build), image);
            let new = &images[&key(&build)];
            old.is_none_or(|old| {
                old.packed != new.packed
                    || old.condition != new.condition
                    || old.profiled.versions != new.profiled.versions
                    || old.profiled.earlier != new.profiled.earlier
                    || old.profiled.fix != new.profiled.fix
            })
        }
        watcher::Event::Delete(build) => images.remove(&key(&build)).is_some(),
    }
}

/// What stands in the cluster, as far as is known: each profile with its version.
type Written = BTreeMap<String, (ProbeProfileSpec, String)>;

async fn write(
    context: &Context,
    images: &BTreeMap<String, Image>,
    written: &mut Option<Written>,
) -> Result<(), Error> {
    let cluster = &context.cluster;
    let mut known = match written.take() {
        // Somebody else may have changed or deleted some: those are written again.
        Some(mut known) => {
            let versions = cluster.profile_versions().await?;
            for (name, (_, version)) in &mut known {
                let found = versions.get(name).cloned().unwrap_or_default();
                if *version != found {
                    *version = String::new();
                }
            }
            known
        }
        None => cluster
            .profiles()
            .await?
            .into_iter()
            .map(|profile| {
                let version = profile.resource_version().unwrap_or_default();
                (profile.name_any(), (profile.spec, version))
            })
            .collect(),
    };
    let old = known
        .iter()
        .map(|(name, (spec, _))| (name.clone(), spec.clone()))
        .collect();
    let all: Vec<Profiled> = images
        .values()
        .map(|image| Profiled {
            contents: image.contents(),
            ..image.profiled.clone()
        })
        .collect();
    let wanted = profiles(&all, &old);
    // New ones first: an image that moves to another one is known at every moment.
    for (name, spec) in &wanted {
        let same = known
            .get(name)
            .is_some_and(|(old, version)| old == spec && !version.is_empty());
        if same {
            continue;
        }
        let current = match known.get(name) {
            Some((_, version)) if !version.is_empty() => Some(version.clone()),
            _ => cluster.profile_versions().await?.remove(name),
        };
        let version = cluster
            .write_profile(name, spec.clone(), current.as_ref())
            .await?;
        known.insert(name.clone(), (spec.clone(), version));
    }
    let gone: Vec<String> = known
        .keys()
        .filter(|name| !wanted.contains_key(*name))
        .cloned()
        .collect();
    for name in gone {
        cluster.delete_profile(&name).await?;
        known.remove(&name);
    }
    *written = Some(known);
    Ok(())
}

/// Audits, writes the conditions that differ, and tells each workload once per change.
async fn inspect(
    context: &Context,
    images: &mut BTreeMap<String, Image>,
    workloads: &workloads::Workloads,
    told: &mut BTreeMap<String, String>,
) -> Result<(), Error> {
    let mut references = BTreeMap::new();
    let mut audited = BTreeMap::new();
    for (key, image) in images.iter() {
        for version in &image.profiled.versions {
            let reference = canonical(&format!("{}{version}", image.profiled.repository));
            references.insert(reference, key.clone());
        }
    }
    let used = workloads.using(|reference| references.contains_key(reference));
    let mut keys: Vec<&String> = used
        .iter()
        .flat_map(|found| {
            found
                .images
                .iter()
                .filter_map(|image| references.get(image))
        })
        .collect();
    keys.sort();
    keys.dedup();
    for (key, image) in images.iter() {
        // Only what some workload uses is unpacked.
        let contents = match keys.binary_search(&key) {
            Ok(_) => image.contents(),
            Err(_) => vec![],
        };
        let health_check = image.handler.clone();
        audited.insert(
            key.clone(),
            Audited {
                contents,
                health_check,
            },
        );
    }
    let all: Vec<Workload> = used
        .iter()
        .filter_map(|found| {
            Some(Workload {
                name: found.title(),
                pod: found.pod()?,
            })
        })
        .collect();
    let by_name: BTreeMap<String, &Found> =
        used.iter().map(|found| (found.title(), *found)).collect();
    let mut now_told = BTreeMap::new();
    for (key, result) in audit(&all, &references, &audited) {
        let Some(image) = images.get_mut(&key) else {
            continue;
        };
        let before = image
            .condition
            .as_ref()
            .map_or("", |(_, _, message)| message);
        for (name, line) in &result.broken {
            let known = told.get(name) == Some(line) || before.lines().any(|old| old == line);
            if !known && let Some(found) = by_name.get(name) {
                workloads::tell(context, found, line).await;
            }
            now_told.insert(name.clone(), line.clone());
        }
        let wanted = result.told().map(|(status, reason, message)| {
            let status = if status { "True" } else { "False" };
            (status.to_owned(), reason.to_owned(), message)
        });
        if wanted != image.condition {
            let (namespace, name) = key.split_once('/').unwrap_or_default();
            // Two that see different workloads would write it in turns.
            if context
                .others
                .has(super::builder::KIND, namespace, &image.builder)
            {
                continue;
            }
            context
                .cluster
                .write_probes_compatible(namespace, name, wanted.as_ref())
                .await?;
            image.condition = wanted;
        }
    }
    *told = now_told;
    Ok(())
}
