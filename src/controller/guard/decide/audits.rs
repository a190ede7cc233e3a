//! Which images are audited again, and what is said of it: on workloads once a change, on ImageBuilds in a condition.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::super::Images;
use super::super::image::{Image, Said, said};
use super::{in_turns, namespace_of};
use crate::workloads::{Found, Workloads};
use whittle_probe::Speakers;

/// The workloads that use each image for which an ImageBuild speaks, by `namespace/name` of that.
pub struct Users<'a>(BTreeMap<String, Vec<&'a Found>>);

impl<'a> Users<'a> {
    /// Those of all workloads.
    pub fn of(workloads: &'a Workloads, speakers: &Speakers) -> Self {
        let mut users: BTreeMap<String, Vec<&Found>> = BTreeMap::new();
        for found in workloads.all() {
            let said = found.images.iter();
            let mut keys: Vec<&str> = said
                .filter_map(|image| speakers.of(image, found.namespace()))
                .collect();
            keys.sort_unstable();
            keys.dedup();
            for key in keys {
                match users.get_mut(key) {
                    Some(known) => known.push(found),
                    None => drop(users.insert(key.to_owned(), vec![found])),
                }
            }
        }
        Self(users)
    }

    /// Those of one.
    pub fn get(&self, key: &str) -> &[&'a Found] {
        self.0.get(key).map(Vec::as_slice).unwrap_or_default()
    }
}

/// The images that are to be audited, each with what it is looked at for: only where the image, or a workload that uses
/// it, has changed. It goes on after `last`.
pub fn due(images: &Images, users: &Users, speakers: &Speakers, last: &str) -> Vec<(String, u64)> {
    let due = images.iter().filter_map(|(key, image)| {
        let looked_at = looked_at(image, users.get(key), speakers);
        let known = image.audited.as_ref();
        let old = known.is_none_or(|(before, _)| *before != looked_at);
        old.then(|| (key.clone(), looked_at))
    });
    let mut due: Vec<(String, u64)> = due.collect();
    let next = due.partition_point(|(key, _)| key.as_str() <= last);
    due.rotate_left(next);
    due
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

/// What the audits have come to, and what was said of it before.
pub struct Observed<'a, 'w> {
    /// ImageBuilds with an image, and the audit of each.
    pub images: &'a Images,
    /// The workloads of each.
    pub users: &'a Users<'w>,
    /// The last sentence on each workload.
    pub told: &'a BTreeMap<String, String>,
    /// The namespace that was told something last.
    pub last: &'a str,
    /// True for a namespace and a Builder that are another installation's.
    pub is_others: &'a dyn Fn(&str, &str) -> bool,
}

/// What there is to say, in turns.
pub type Step<'w> = Vec<Say<'w>>;

/// What there is to say of one image.
#[derive(Debug, PartialEq, Eq)]
pub struct Say<'w> {
    /// `namespace/name` of its ImageBuild.
    pub key: String,
    /// Workloads with a probe that cannot work.
    pub lines: Vec<Line<'w>>,
    /// The condition, where it differs, and is this installation's to write: two that see different workloads would
    /// write it in turns.
    pub condition: Option<Option<Said>>,
}

/// One workload with a probe that cannot work.
#[derive(Debug, PartialEq, Eq)]
pub struct Line<'w> {
    /// `Deployment team/hello`.
    pub workload: String,
    /// The sentence on it.
    pub line: String,
    /// The workload that is to be told; none where it was.
    pub tell: Option<&'w Found>,
}

/// What to say.
pub fn decide<'w>(observed: &Observed<'_, 'w>) -> Step<'w> {
    let Observed { images, told, .. } = observed;
    let mut step = vec![];
    for key in in_turns(images.keys().map(String::as_str), observed.last) {
        let Some(image) = images.get(&key) else {
            continue;
        };
        let Some((_, result)) = &image.audited else {
            continue;
        };
        let before = image.compatible.as_ref().map_or("", |said| &said.2);
        let lines = result.broken.iter().map(|(name, line)| {
            let known = told.get(name) == Some(line) || before.lines().any(|old| old == line);
            let mut used = observed.users.get(&key).iter().filter(|_| !known);
            Line {
                workload: name.clone(),
                line: line.clone(),
                tell: used.find(|found| found.title() == *name).copied(),
            }
        });
        let lines: Vec<Line> = lines.collect();
        let wanted = result.told().map(said);
        let ours = || !(observed.is_others)(namespace_of(&key), &image.builder);
        let condition = (wanted != image.compatible && ours()).then_some(wanted);
        if !lines.is_empty() || condition.is_some() {
            step.push(Say {
                key,
                lines,
                condition,
            });
        }
    }
    step
}

#[cfg(test)]
#[path = "audits_tests.rs"]
mod tests;
