//! Audits the workloads that run already, for each image whose word counts for them.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use super::super::workloads::{self, Found, Workloads};
use super::super::{Context, Error, builder};
use super::Images;
use super::image::{Image, packed, print};
use crate::api::{ImageBuild, PROBES_COMPATIBLE};
use crate::plan::record::recorded;
use crate::probe::{Audit, Audited, Handler, Speakers, Workload, audit, unpack};

/// Audits, writes the conditions that differ, and tells each workload once per change. An image is judged again
/// only where it, or a workload that uses it, has changed; its reports are read for that, and dropped.
pub async fn inspect(
    context: &Context,
    images: &mut Images,
    speakers: &Arc<Speakers>,
    workloads: &Workloads,
    told: &mut BTreeMap<String, String>,
) -> Result<bool, Error> {
    let mut users: BTreeMap<&str, Vec<&Found>> = BTreeMap::new();
    for found in workloads.all() {
        let said = found.images.iter();
        let mut keys: Vec<&str> = said
            .filter_map(|image| speakers.of(image, found.namespace()))
            .collect();
        keys.sort_unstable();
        keys.dedup();
        for key in keys {
            users.entry(key).or_default().push(found);
        }
    }
    let mut now_told = BTreeMap::new();
    let mut whole = true;
    for (key, image) in images.iter_mut() {
        let used = users.remove(key.as_str()).unwrap_or_default();
        let looked_at = looked_at(image, &used, speakers);
        if image
            .audited
            .as_ref()
            .is_none_or(|(before, _)| *before != looked_at)
        {
            let Some(result) = one(context, key, image, &used, speakers).await? else {
                continue;
            };
            image.audited = Some((looked_at, result));
        }
        let Some((_, result)) = &image.audited else {
            continue;
        };
        let before = image
            .compatible
            .as_ref()
            .map_or("", |(_, _, message)| message);
        for (name, line) in &result.broken {
            let known = told.get(name) == Some(line) || before.lines().any(|old| old == line);
            if !known && let Some(found) = used.iter().find(|found| found.title() == *name) {
                workloads::tell(context, found, line).await;
            }
            now_told.insert(name.clone(), line.clone());
        }
        let wanted = result.told().map(|(status, reason, message)| {
            let status = if status { "True" } else { "False" };
            (status.to_owned(), reason.to_owned(), message)
        });
        if wanted != image.compatible {
            let (namespace, name) = key.split_once('/').unwrap_or_default();
            // Two that see different workloads would write it in turns.
            if context.others.has(builder::KIND, namespace, &image.builder) {
                continue;
            }
            let cluster = &context.cluster;
            match cluster
                .write_condition(namespace, name, PROBES_COMPATIBLE, wanted.as_ref())
                .await
            {
                Ok(()) => image.compatible = wanted,
                Err(error) if error.is_answer() => {
                    tracing::warn!(%error, "a condition could not be written; trying again");
                    whole = false;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
    *told = now_told;
    Ok(whole)
}

/// The same while the image and the workloads that use it are.
fn looked_at(image: &Image, used: &[&Found], speakers: &Speakers) -> u64 {
    let mut hasher = DefaultHasher::new();
    (image.print, &image.fix).hash(&mut hasher);
    for found in used {
        found.hash(&mut hasher);
        for reference in &found.images {
            speakers.of(reference, found.namespace()).hash(&mut hasher);
        }
    }
    hasher.finish()
}

/// None where the ImageBuild is another one already: its event comes.
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
    let (namespace, name) = key.split_once('/').unwrap_or_default();
    let Some(build) = context.cluster.image_build(namespace, name).await? else {
        return Ok(None);
    };
    let told = build.status.as_ref().map(|status| print(&recorded(status)));
    if told != Some(image.print) {
        return Ok(None);
    }
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
    audit(key, workloads, speakers, &image)
}
