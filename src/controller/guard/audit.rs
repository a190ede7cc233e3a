//! Audits the workloads that run already, for each image whose word counts for them.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::workloads::{self, Found, Workloads};
use super::super::{Context, Error, builder};
use super::Images;
use super::image::{Image, packed, print};
use super::write::{Round, TELL, in_turns, namespace_of};
use whittle_api::{ImageBuild, PROBES_COMPATIBLE};
use whittle_build::record::recorded;
use whittle_probe::{Audit, Audited, Handler, Speakers, Workload, audit, unpack};

/// Images are audited for so long in one round.
const ROUND: Duration = Duration::from_secs(5);
/// And one of them: what is made to take long is looked at in part.
const ONE: Duration = Duration::from_secs(2);

/// What stays from round to round.
#[derive(Default)]
pub struct State {
    /// The last sentence on each workload.
    told: BTreeMap<String, String>,
    /// The image that was audited last: the next round goes on after it.
    last: String,
    /// The namespace that was told something last: the next round begins after it.
    last_told: String,
}

/// Audits, writes the conditions that differ, and tells each workload once per change. An image is judged again
/// only where it, or a workload that uses it, has changed; its reports are read for that, and dropped.
pub async fn inspect(
    context: &Context,
    images: &mut Images,
    speakers: &Arc<Speakers>,
    workloads: &Workloads,
    state: &mut State,
) -> Result<Round, Error> {
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
    let users = users;
    let used = |key: &str| users.get(key).map(Vec::as_slice).unwrap_or_default();
    let due = images.iter().filter_map(|(key, image)| {
        let looked_at = looked_at(image, used(key), speakers);
        let old = image
            .audited
            .as_ref()
            .is_none_or(|(before, _)| *before != looked_at);
        old.then(|| (key.clone(), looked_at))
    });
    let mut due: Vec<(String, u64)> = due.collect();
    let next = due.partition_point(|(key, _)| *key <= state.last);
    due.rotate_left(next);
    let mut round = Round::default();
    let begun = Instant::now();
    for (key, looked_at) in due {
        if begun.elapsed() > ROUND {
            round.more = true;
            break;
        }
        state.last.clone_from(&key);
        let Some(image) = images.get_mut(&key) else {
            continue;
        };
        if let Some(result) = one(context, &key, image, used(&key), speakers).await? {
            image.audited = Some((looked_at, result));
        }
    }
    let mut now_told = BTreeMap::new();
    let begun = Instant::now();
    for key in in_turns(images.keys().map(String::as_str), &state.last_told) {
        let Some(image) = images.get_mut(&key) else {
            continue;
        };
        let used = used(&key);
        let late = begun.elapsed() > TELL;
        let Some((_, result)) = &image.audited else {
            continue;
        };
        let before = image
            .compatible
            .as_ref()
            .map_or("", |(_, _, message)| message);
        for (name, line) in &result.broken {
            let known = state.told.get(name) == Some(line) || before.lines().any(|old| old == line);
            if !known && let Some(found) = used.iter().find(|found| found.title() == *name) {
                if late {
                    round.more = true;
                    continue;
                }
                namespace_of(&key).clone_into(&mut state.last_told);
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
            if late {
                round.more = true;
                continue;
            }
            namespace.clone_into(&mut state.last_told);
            let cluster = &context.cluster;
            match cluster
                .write_condition(namespace, name, PROBES_COMPATIBLE, wanted.as_ref())
                .await
            {
                Ok(()) => image.compatible = wanted,
                Err(error) if error.is_answer() => {
                    tracing::warn!(%error, "a condition could not be written; trying again");
                    round.refused = true;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
    state.told = now_told;
    Ok(round)
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
    let begun = Instant::now();
    audit(key, workloads, speakers, &image, || begun.elapsed() < ONE)
}
