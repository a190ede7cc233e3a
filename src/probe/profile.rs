//! From what images hold to `ProbeProfile` objects: few, large, and the same for the same images.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::entry::{Entry, NotKnown, id};
use super::trust::canonical_repository;
use super::words::{ELSEWHERE, EVERYWHERE, Words, words};
use whittle_api::{ProbeProfileSpec, ProfileImage, Reason};
use whittle_image::Repository;

/// Bytes of one object, about: the API server takes up to 1.5 MB, and a further object is begun before that.
const SHARD_BYTES: usize = 1_000_000;
/// Objects at most: each costs time at every admission.
const MAX_SHARDS: usize = 32;
/// Bytes of one ImageBuild: its image, and what is known of earlier ones. Half an object at most, so that objects
/// are well filled.
const BUILD_BYTES: usize = 300 << 10;
/// Bytes of a namespace: some thousand ImageBuilds.
const NAMESPACE_BYTES: usize = 2 << 20;

/// An image of an earlier build.
#[derive(Clone, Debug)]
pub struct Earlier {
    /// `@sha256:…`
    pub version: String,
    /// What is known of it.
    pub entry: Arc<Entry>,
    /// The probe that the `healthCheck` declared then, as text.
    pub fix: Option<String>,
}

/// One ImageBuild and its images.
#[derive(Clone, Debug)]
pub struct Profiled {
    /// `namespace/name` of the ImageBuild.
    pub image_build: String,
    /// The repository, as written in `spec.output.image`.
    pub repository: String,
    /// What the tags point at.
    pub digest: String,
    /// `:tag` and `@sha256:…` each.
    pub versions: Vec<String>,
    /// What is known of the image.
    pub known: Result<Arc<Entry>, NotKnown>,
    /// What is known of those before, the newest first.
    pub earlier: Vec<Earlier>,
    /// The probe that its `healthCheck` declares, as text.
    pub fix: Option<String>,
    /// True where the installation trusts its namespace with the repository.
    pub trusted: bool,
}

impl Profiled {
    pub(super) fn namespace(&self) -> &str {
        self.image_build.split('/').next().unwrap_or_default()
    }

    pub(super) fn entry(&self, earlier: Option<usize>) -> Option<&Arc<Entry>> {
        match earlier {
            None => self.known.as_ref().ok(),
            Some(at) => self.earlier.get(at).map(|earlier| &earlier.entry),
        }
    }

    fn image(&self, earlier: Option<usize>) -> Option<ProfileImage> {
        let fix = match earlier {
            None => &self.fix,
            Some(at) => &self.earlier.get(at)?.fix,
        };
        Some(ProfileImage {
            image_build: self.image_build.clone(),
            fix: fix.clone(),
            ..self.entry(earlier)?.image()
        })
    }

    /// All that it has an entry for.
    fn entries(&self) -> impl Iterator<Item = &Arc<Entry>> {
        let earlier = self.earlier.iter().map(|earlier| &earlier.entry);
        self.known.iter().chain(earlier)
    }

    /// Bytes that it takes besides its sets.
    fn bytes(&self) -> usize {
        let names = names_of(&self.repository);
        let name: usize = names
            .iter()
            .map(|name| name.len() + 70 + self.namespace().len())
            .sum();
        let earlier = self.earlier.iter().map(|earlier| earlier.version.len());
        let versions: usize = self.versions.iter().map(String::len).chain(earlier).sum();
        let count = self.versions.len() + self.earlier.len();
        let own = |entry: &Arc<Entry>| {
            entry.json.len()
                + self.image_build.len()
                + self.fix.as_ref().map_or(0, String::len)
                + 100
        };
        name * count + versions * names.len() + self.entries().map(own).sum::<usize>()
    }

    fn sets(&self) -> impl Iterator<Item = (&str, usize)> {
        self.entries().flat_map(|entry| {
            let sets = entry.sets.iter();
            sets.map(|set| (&*set.id, set.bytes + set.id.len() + 8))
        })
    }
}

/// Drops what is more than one ImageBuild may have: earlier images first, the oldest before others.
fn bounded(build: &mut Profiled) {
    let all = |build: &Profiled| {
        let sets: HashMap<&str, usize> = build.sets().collect();
        build.bytes() + sets.values().sum::<usize>()
    };
    while all(build) > BUILD_BYTES {
        if build.earlier.pop().is_none() {
            build.known = Err(too_large(
                "its references and programs",
                BUILD_BYTES,
                "ImageBuild",
            ));
            build.versions.truncate(100);
            return;
        }
    }
}

fn too_large(what: &str, bytes: usize, of: &str) -> NotKnown {
    NotKnown::new(
        Reason::TooLarge,
        format!(
            "too large: {what} take more than the {} KiB that the probe guard keeps of one {of}",
            bytes >> 10
        ),
    )
}

/// All images, laid out in objects.
pub struct Layout {
    builds: Vec<Profiled>,
    /// The object of each ImageBuild, where it has one.
    shard: Vec<Option<usize>>,
    words: Words,
}

/// What the guard says of one ImageBuild: whether it knows the image, a reason and a message.
pub type Told = (bool, Reason, String);

/// Lays images out. `places`: the object in which each ImageBuild is now; it stays there while there is room.
pub fn profiles(mut builds: Vec<Profiled>, places: &BTreeMap<String, usize>) -> Layout {
    for build in &mut builds {
        bounded(build);
    }
    let shard = lay_out(&mut builds, places);
    let words = words(&builds);
    Layout {
        builds,
        shard,
        words,
    }
}

/// One object, as it fills.
#[derive(Clone, Default)]
struct Filled {
    bytes: usize,
    sets: HashSet<String>,
}

impl Filled {
    /// Bytes that an ImageBuild adds.
    fn more(&self, build: &Profiled) -> usize {
        let mut new: HashMap<&str, usize> = build.sets().collect();
        new.retain(|id, _| !self.sets.contains(*id));
        build.bytes() + new.values().sum::<usize>()
    }

    fn put(&mut self, build: &Profiled) {
        self.bytes += self.more(build);
        self.sets.extend(build.sets().map(|(id, _)| id.to_owned()));
    }
}

fn lay_out(builds: &mut [Profiled], places: &BTreeMap<String, usize>) -> Vec<Option<usize>> {
    let mut order: Vec<usize> = (0..builds.len())
        .filter(|at| builds[*at].entries().next().is_some())
        .collect();
    let weight: Vec<usize> = builds
        .iter()
        .map(|build| Filled::default().more(build))
        .collect();
    // Within a namespace the small ones first: one that is too much keeps no other out.
    order.sort_by_key(|at| (weight[*at], *at));
    let mut spaces: HashMap<String, Filled> = HashMap::new();
    order.retain(|at| {
        let build = &mut builds[*at];
        let space = spaces.entry(build.namespace().to_owned()).or_default();
        if space.bytes + space.more(build) <= NAMESPACE_BYTES {
            space.put(build);
            return true;
        }
        build.known = Err(too_large(
            "the images of its namespace",
            NAMESPACE_BYTES,
            "namespace",
        ));
        build.earlier.clear();
        false
    });
    // And small namespaces before large ones.
    order.sort_by_key(|at| (spaces[builds[*at].namespace()].bytes, weight[*at], *at));
    let kept = placed(builds, &order, Some(places));
    // Fewer objects only once they would be half full: their number does not go up and down with single images.
    let (count, total) = (
        kept.1.len(),
        kept.1.iter().map(|filled| filled.bytes).sum::<usize>(),
    );
    let (shard, _) = match count > 1 && total * 2 <= SHARD_BYTES * (count - 1) {
        true => placed(builds, &order, None),
        false => kept,
    };
    for at in order {
        if shard[at].is_none() {
            let build = &mut builds[at];
            build.known = Err(too_large("all images", MAX_SHARDS * SHARD_BYTES, "cluster"));
            build.earlier.clear();
        }
    }
    shard
}

fn placed(
    builds: &[Profiled],
    order: &[usize],
    places: Option<&BTreeMap<String, usize>>,
) -> (Vec<Option<usize>>, Vec<Filled>) {
    let mut shard = vec![None; builds.len()];
    let mut all: Vec<Filled> = vec![];
    let place = |at: &usize| {
        let found = places.and_then(|places| places.get(&builds[*at].image_build));
        found.copied().filter(|place| *place < MAX_SHARDS)
    };
    let (here, new): (Vec<usize>, Vec<usize>) = order.iter().partition(|at| place(at).is_some());
    for at in here.into_iter().chain(new) {
        let fits = |filled: &Filled| filled.bytes + filled.more(&builds[at]) <= SHARD_BYTES;
        let before = place(&at).filter(|place| all.get(*place).is_none_or(fits));
        let found = before.or_else(|| all.iter().position(fits));
        let number = found.unwrap_or(all.len());
        if number >= MAX_SHARDS {
            continue;
        }
        if number >= all.len() {
            all.resize(number + 1, Filled::default());
        }
        all[number].put(&builds[at]);
        shard[at] = Some(number);
    }
    (shard, all)
}

impl Layout {
    /// Numbers of the objects.
    pub fn shards(&self) -> Vec<usize> {
        let mut all: Vec<usize> = self.shard.iter().flatten().copied().collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// The object of each ImageBuild.
    pub fn places(&self) -> BTreeMap<String, usize> {
        let all = self.builds.iter().zip(&self.shard);
        all.filter_map(|(build, shard)| Some((build.image_build.clone(), (*shard)?)))
            .collect()
    }

    /// One object. A word that another object has stands as an empty one, so that nobody else's is taken for it.
    pub fn spec(&self, number: usize) -> ProbeProfileSpec {
        let mut spec = ProbeProfileSpec::default();
        for (at, build) in self.builds.iter().enumerate() {
            if self.shard[at] != Some(number) {
                continue;
            }
            let repository = canonical_repository(&build.repository);
            let names = names_of(&build.repository);
            let earlier = build.earlier.iter().map(|earlier| &earlier.version);
            let mut put: HashMap<Option<usize>, String> = HashMap::new();
            for version in build.versions.iter().chain(earlier) {
                let said = &self.words.all[&format!("{repository}{version}")];
                let mut audiences = BTreeMap::new();
                for (audience, word) in said {
                    let id = match word {
                        Some((of, which)) if *of == at => match put.get(which) {
                            Some(id) => Some(id.clone()),
                            None => {
                                let id = add(&mut spec, build, *which);
                                put.extend(id.clone().map(|id| (*which, id)));
                                id
                            }
                        },
                        _ => None,
                    };
                    audiences.insert(audience.clone(), id.unwrap_or_default());
                }
                // An empty word matters only where it keeps one for all others from being heard.
                let general = [EVERYWHERE, ELSEWHERE];
                let mut said = general
                    .iter()
                    .filter_map(|audience| audiences.get(*audience));
                if said.all(String::is_empty) {
                    audiences.retain(|_, id| !id.is_empty());
                }
                if audiences.is_empty() {
                    continue;
                }
                for name in &names {
                    let known = spec
                        .references
                        .entry(format!("{name}{version}"))
                        .or_default();
                    for (audience, id) in &audiences {
                        // Another ImageBuild of this object may have said it already.
                        let word = known.entry(audience.clone()).or_default();
                        if word.is_empty() {
                            word.clone_from(id);
                        }
                    }
                }
            }
        }
        spec
    }

    /// What there is to tell each ImageBuild; nothing where all is well.
    pub fn told(&self, at: usize) -> Option<Told> {
        let build = &self.builds[at];
        if let Err(not) = &build.known {
            let message = format!(
                "the image is unknown to the probe guard, which denies nothing for it: {}",
                not.message
            );
            return Some((false, not.reason, message));
        }
        let (reference, other) = self.words.disputes.get(&at)?;
        Some(match other {
            Some(other) => (
                false,
                Reason::ClaimedTwice,
                format!(
                    "conflict: ImageBuild {} claims {reference} too, with different contents, so \
                        it is unknown to the probe guard: use a tag of its own for each",
                    self.builds[*other].image_build
                ),
            ),
            None => (
                true,
                Reason::ClaimedElsewhere,
                format!(
                    "an ImageBuild of another namespace claims {reference} too, with different \
                        contents: the probe guard uses this one in this namespace only"
                ),
            ),
        })
    }

    /// All ImageBuilds, by their number: `namespace/name`.
    pub fn builds(&self) -> impl Iterator<Item = (usize, &str)> {
        let all = self.builds.iter().enumerate();
        all.map(|(at, build)| (at, build.image_build.as_str()))
    }

    /// Whose word counts in earnest, by reference and namespace: for the audit.
    pub fn speakers(&self) -> Speakers {
        let mut texts: HashSet<Arc<str>> = HashSet::new();
        let mut once = |text: &str| {
            let known = texts.get(text).cloned();
            known.unwrap_or_else(|| {
                let new: Arc<str> = text.into();
                texts.insert(new.clone());
                new
            })
        };
        let all = self.words.all.iter().map(|(reference, said)| {
            let said = said.iter().filter(|(audience, _)| *audience != ELSEWHERE);
            let said = said.map(|(audience, word)| {
                let now = word.filter(|(_, earlier)| earlier.is_none());
                let key = now.map(|(of, _)| once(&self.builds[of].image_build));
                (once(audience), key)
            });
            (reference.as_str().into(), said.collect())
        });
        Speakers(all.collect())
    }
}

/// Who speaks of a reference in a namespace, in order; texts are once in memory.
#[derive(Default)]
pub struct Speakers(HashMap<Box<str>, Box<[Speaker]>>);

/// A namespace, or all, and the ImageBuild that speaks there.
type Speaker = (Arc<str>, Option<Arc<str>>);

impl Speakers {
    /// The ImageBuild (`namespace/name`) whose word counts for workloads of a namespace; `reference` in its
    /// canonical form.
    pub fn of(&self, reference: &str, namespace: &str) -> Option<&str> {
        let said = self.0.get(reference)?;
        let to = |who: &str| said.binary_search_by(|(audience, _)| (**audience).cmp(who));
        let at = to(namespace).or_else(|_| to(EVERYWHERE)).ok()?;
        said[at].1.as_deref()
    }
}

/// From references, each with a namespace and the ImageBuild whose word counts there.
impl<'a> FromIterator<(String, &'a str, &'a str)> for Speakers {
    fn from_iter<I: IntoIterator<Item = (String, &'a str, &'a str)>>(all: I) -> Self {
        let mut speakers = Self::default();
        for (reference, namespace, image_build) in all {
            let said = [(namespace.into(), Some(image_build.into()))];
            speakers.0.insert(reference.into(), said.into());
        }
        speakers
    }
}

/// Adds an image and its sets; its id.
fn add(spec: &mut ProbeProfileSpec, build: &Profiled, which: Option<usize>) -> Option<String> {
    let entry = build.entry(which)?;
    let image = build.image(which)?;
    for set in &entry.sets {
        if !spec.programs.contains_key(&*set.id) {
            spec.programs.insert(set.id.to_string(), set.programs());
        }
    }
    let id = id(&serde_json::to_string(&image).unwrap_or_default());
    spec.images.insert(id.clone(), image);
    Some(id)
}

/// The ways in which Pods may name a repository: those of Docker's registry have several.
fn names_of(repository: &str) -> Vec<String> {
    let Repository { host, path } = Repository::parse(repository);
    if host != "docker.io" {
        return vec![repository.to_owned()];
    }
    let mut names = vec![
        format!("docker.io/{path}"),
        format!("index.docker.io/{path}"),
        path.clone(),
    ];
    if let Some(short) = path.strip_prefix("library/") {
        names.push(short.to_owned());
        names.push(format!("docker.io/{short}"));
    }
    names
}

#[cfg(test)]
#[path = "profile_tests.rs"]
mod tests;
