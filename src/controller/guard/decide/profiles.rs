//! Which ProbeProfiles are written and which go, and what is said of it on ImageBuilds.

use std::collections::{BTreeMap, BTreeSet};

use super::super::Images;
use super::super::image::{Said, said};
use super::{in_turns, namespace_of};
use crate::cluster::names_of_profiles;
use whittle_api::ProbeProfileSpec;
use whittle_image::digest_of;
use whittle_probe::Layout;

/// What stands in the cluster, and what should.
pub struct Observed<'a> {
    /// ImageBuilds with an image.
    pub images: &'a Images,
    /// What is known of the images, laid out in objects.
    pub layout: &'a Layout,
    /// Name of the installation.
    pub installation: &'a str,
    /// Versions of the installation's objects, as they stand.
    pub versions: &'a BTreeMap<String, String>,
    /// Objects that carry no installation's name.
    pub unnamed: &'a [String],
    /// Of each object that was written: the digest of its spec, and its version.
    pub objects: &'a BTreeMap<String, (String, String)>,
    /// Of each object that should stand: see [`digests`].
    pub digests: &'a BTreeMap<usize, String>,
    /// The namespace whose condition was written last.
    pub told: &'a str,
    /// True for a namespace and a Builder that are another installation's: it writes the conditions.
    pub is_others: &'a dyn Fn(&str, &str) -> bool,
}

/// What to do, in this order.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// New objects first: an image that moves to another one is known at every moment.
    pub write: Vec<Write>,
    /// All objects that should stand.
    pub stand: BTreeSet<String>,
    /// Names of those that should not.
    pub delete: Vec<String>,
    /// How many images the guard does not know.
    pub not_known: usize,
    /// Conditions that differ, by ImageBuild, in turns; none where it is to go.
    pub tell: Vec<(String, Option<Said>)>,
}

/// An object that differs.
#[derive(Debug, PartialEq, Eq)]
pub struct Write {
    /// Its number: its spec is made when it is written, as one may have a MiB.
    pub number: usize,
    /// Its name.
    pub name: String,
    /// Digest of its spec.
    pub digest: String,
    /// The version of the one that it replaces.
    pub version: Option<String>,
}

/// ImageBuilds that are to be judged, those of each namespace in turn.
pub fn unjudged(images: &Images) -> Vec<String> {
    let waiting = images.iter().filter(|(_, image)| !image.judged);
    in_turns(waiting.map(|(key, _)| key.as_str()), "")
}

/// Digest of what an object says.
pub fn digest(spec: &ProbeProfileSpec) -> String {
    digest_of(&serde_json::to_vec(spec).unwrap_or_default())
}

/// The digest of each object that should stand, by its number. All programs are unpacked for it: nothing for an event loop.
pub fn digests(layout: &Layout) -> BTreeMap<usize, String> {
    let shards = layout.shards().into_iter();
    shards
        .map(|number| (number, digest(&layout.spec(number))))
        .collect()
}

/// What to write, what to delete, what to say.
pub fn decide(observed: &Observed) -> Step {
    let Observed {
        images,
        layout,
        versions,
        ..
    } = *observed;
    let mut step = Step::default();
    for number in layout.shards() {
        let name = names_of_profiles::name(observed.installation, number);
        let digest = observed.digests[&number].clone();
        let version = versions.get(&name);
        let known = observed.objects.get(&name);
        step.stand.insert(name.clone());
        if known.is_none_or(|known| known.0 != digest || Some(&known.1) != version) {
            step.write.push(Write {
                number,
                digest,
                version: version.cloned(),
                name,
            });
        }
    }
    let stale = versions.keys().filter(|name| !step.stand.contains(*name));
    step.delete = stale.chain(observed.unnamed).cloned().collect();
    let mut due: BTreeMap<&str, Option<Said>> = BTreeMap::new();
    for (at, key) in layout.builds() {
        let told = layout.told(at);
        step.not_known += usize::from(told.as_ref().is_some_and(|told| !told.0));
        let told = told.map(said);
        if images.get(key).is_some_and(|image| image.profile != told) {
            due.insert(key, told);
        }
    }
    for key in in_turns(due.keys().copied(), observed.told) {
        let builder = images.get(&key).map(|image| image.builder.as_str());
        let ours = builder.is_some_and(|it| !(observed.is_others)(namespace_of(&key), it));
        if let Some(told) = due.remove(key.as_str()).filter(|_| ours) {
            step.tell.push((key, told));
        }
    }
    step
}

#[cfg(test)]
#[path = "profiles_tests.rs"]
mod tests;
