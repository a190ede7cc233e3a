//! Keeps the ProbeProfiles: what every image that Whittle built holds, for the probe guard's policies.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use kube::ResourceExt;
use kube::runtime::utils::WatchStreamExt;
use kube::runtime::watcher;

use super::{Context, Error};
use crate::api::{ImageBuild, ProbeProfileSpec};
use crate::probe::{Handler, Profiled, profiles, unpack};

/// Changes are gathered for so long before they are written: builds of a busy hour share a write, and a
/// tag that moves changes the verdict within five seconds.
const GATHER: Duration = Duration::from_secs(2);
/// Everything is compared again after this long, whatever events were missed.
const RESYNC: Duration = Duration::from_secs(3600);

/// What is kept of one ImageBuild: small, and as it stands in its status.
struct Image {
    profiled: Profiled,
    packed: Vec<String>,
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
        Some(Self {
            profiled: Profiled {
                image_build: format!(
                    "{}/{}",
                    build.namespace().unwrap_or_default(),
                    build.name_any()
                ),
                repository,
                versions: tags
                    .chain(digests.chain(platforms).map(|digest| format!("@{digest}")))
                    .collect(),
                contents: vec![],
                earlier: earlier.collect(),
                fix: build
                    .spec
                    .health_check
                    .as_ref()
                    .and_then(Handler::of_health_check)
                    .map(|handler| handler.display()),
            },
            packed: packed.unwrap_or_default(),
        })
    }
}

/// Runs until `stop`.
pub async fn run(context: Arc<Context>, stop: impl Future<Output = ()>) {
    let mut events = watcher(
        context.cluster.watched::<ImageBuild>(),
        watcher::Config::default(),
    )
    .default_backoff()
    .boxed();
    let mut images: BTreeMap<String, Image> = BTreeMap::new();
    let mut written = None;
    let mut due: Option<tokio::time::Instant> = None;
    let mut complete = false;
    let stop = stop.fuse();
    futures::pin_mut!(stop);
    loop {
        let wake = due.unwrap_or_else(|| tokio::time::Instant::now() + RESYNC);
        tokio::select! {
            () = &mut stop => return,
            event = events.next() => {
                let changed = match event {
                    Some(Ok(event)) => take(event, &mut images, &mut complete),
                    Some(Err(error)) => {
                        tracing::warn!(%error, "ImageBuilds cannot be watched for ProbeProfiles; trying again");
                        false
                    }
                    None => return,
                };
                if changed && due.is_none() {
                    due = Some(tokio::time::Instant::now() + GATHER);
                }
            }
            () = tokio::time::sleep_until(wake), if complete => {
                due = None;
                if let Err(error) = write(&context, &images, &mut written).await {
                    tracing::warn!(%error, "ProbeProfiles could not be written; trying again");
                    written = None;
                    due = Some(tokio::time::Instant::now() + GATHER * 3);
                }
            }
        }
    }
}

/// Takes a change in; true where something has to be written.
fn take(
    event: watcher::Event<ImageBuild>,
    images: &mut BTreeMap<String, Image>,
    complete: &mut bool,
) -> bool {
    let key = |build: &ImageBuild| {
        format!(
            "{}/{}",
            build.namespace().unwrap_or_default(),
            build.name_any()
        )
    };
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
            contents: image
                .packed
                .iter()
                .filter_map(|packed| unpack(packed))
                .collect(),
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
