//! What is watched for which ImageBuild, from the watch of ImageBuilds: most of these have ended, and nothing else is kept of
//! them. What their specs name is bounded by the API server.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use kube::runtime::watcher::Event;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::imagebuild::decide::{watches_bases, watches_source};
use whittle_api::quantity::duration;
use whittle_api::{ImageBuild, TRIGGERS, find};
use whittle_watch::wire::{Seen, Watched, What};

/// Namespace and name.
pub type Name = (String, String);

/// ImageBuilds of a Builder whose sources are watched: what stands of them in one ConfigMap has to fit.
pub const MOST: usize = 2_000;
/// How long it is between two looks that webhooks ask for.
const BETWEEN: Duration = Duration::from_secs(1);
/// What changes together is written together.
const TOGETHER: Duration = Duration::from_secs(1);

/// What is watched of all ImageBuilds.
#[derive(Clone, Default)]
pub struct Sources(Arc<Inner>);

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    /// Something is to be written.
    changed: Notify,
    /// Something is to be looked at at once.
    wanted: Notify,
}

#[derive(Default)]
struct State {
    known: BTreeMap<Name, Entry>,
    /// What a list that has not ended yet has told.
    fresh: BTreeMap<Name, Entry>,
    /// Builders whose lists are to be written, and since when.
    dirty: BTreeMap<Name, Instant>,
    /// What is to be looked at at once, by Builder, and from when on.
    wanted: BTreeMap<Name, BTreeMap<String, Instant>>,
    /// What was told to be looked at of late.
    looked: BTreeMap<String, Instant>,
}

/// What is watched of one ImageBuild, and what is known of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its UID.
    pub uid: String,
    /// The Builder that it names.
    pub builder: String,
    /// What is looked at.
    pub watched: Vec<Watched>,
    /// True where somebody may post that its source has moved.
    hooked: bool,
    /// Digests of what is known, by id, to see without asking anybody whether something is new.
    known: BTreeMap<String, Vec<String>>,
    /// The condition that tells of the triggers: its status, reason and message.
    told: Option<(String, String, String)>,
}

impl Entry {
    /// Of an ImageBuild; none where nothing is watched.
    pub fn of(build: &ImageBuild) -> Option<Self> {
        if build.metadata.deletion_timestamp.is_some() {
            return None;
        }
        let spec = &build.spec;
        let (uid, builder) = (build.uid()?, spec.builder_ref.name.clone());
        let triggers = spec.triggers.as_ref()?;
        let status = build.status.as_ref();
        let secret =
            |of: &Option<whittle_api::LocalRef>| of.as_ref().map(|secret| secret.name.clone());
        let (mut watched, mut known) = (vec![], BTreeMap::new());
        let what = match (&spec.source.git, &spec.source.oci) {
            (Some(git), _) => Some(What::Git {
                url: git.url.clone(),
                reference: git.reference.clone(),
                secret: secret(&git.secret_ref),
            }),
            (_, Some(oci)) => Some(What::Image {
                image: oci.image.clone(),
                builder: builder.clone(),
                secret: secret(&oci.secret_ref).or_else(|| secret(&spec.output.secret_ref)),
            }),
            _ => None,
        };
        if let Some(what) = what.filter(|_| watches_source(spec)) {
            let interval = triggers
                .poll
                .as_ref()
                .map(|poll| duration(&poll.interval).as_secs());
            watched.push(Watched {
                id: uid.clone(),
                interval_seconds: seconds(interval),
                what,
                folder: spec
                    .source
                    .git
                    .as_ref()
                    .and_then(|git| git.sub_path.clone()),
            });
            let pending = status.and_then(|status| status.pending.as_ref()?.revision.clone());
            let last = status.and_then(|status| status.last_revision.clone());
            let folder = status.and_then(|status| status.folder.clone());
            let folder = folder.filter(|folder| Some(&folder.built) == last.as_ref());
            let same = folder.map(|folder| folder.seen);
            known.insert(
                uid.clone(),
                last.into_iter().chain(pending).chain(same).collect(),
            );
        }
        if let Some(bases) = triggers
            .base_images
            .as_ref()
            .filter(|_| watches_bases(spec))
        {
            for base in status.iter().flat_map(|status| &status.bases) {
                let id = base_id(&uid, &base.image);
                watched.push(Watched {
                    id: id.clone(),
                    interval_seconds: seconds(Some(duration(&bases.interval).as_secs())),
                    what: What::Image {
                        image: base.image.clone(),
                        builder: builder.clone(),
                        secret: secret(&spec.output.secret_ref),
                    },
                    folder: None,
                });
                let digests = std::iter::once(base.digest.clone()).chain(base.seen.clone());
                known.insert(id, digests.collect());
            }
        }
        let told = status.and_then(|status| find(&status.conditions, TRIGGERS));
        let told = told.map(
            |Condition {
                 status,
                 reason,
                 message,
                 ..
             }| (status.clone(), reason.clone(), message.clone()),
        );
        Some(Self {
            uid,
            builder,
            watched,
            hooked: triggers.webhook.is_some(),
            known,
            told,
        })
    }

    /// True where what was seen is what is known, and well.
    pub fn knows(&self, seen: &Seen) -> bool {
        let Some(known) = self.known.get(&seen.id) else {
            return false;
        };
        match &seen.outcome {
            whittle_watch::wire::Outcome::Found { revision } => {
                let same = |known: &String| super::heard::same(known, revision);
                self.told
                    .as_ref()
                    .is_some_and(|(status, ..)| status == "True")
                    && known.iter().any(same)
            }
            whittle_watch::wire::Outcome::Failed { message, .. } => self
                .told
                .as_ref()
                .is_some_and(|(status, _, told)| status == "False" && told == message),
        }
    }
}

fn seconds(interval: Option<i64>) -> u64 {
    interval.map_or(0, |interval| u64::try_from(interval).unwrap_or(0).max(10))
}

/// The id of a base image: of whose ImageBuild, and which.
pub fn base_id(uid: &str, image: &str) -> String {
    let digest = whittle_image::digest_of(image.as_bytes());
    format!("{uid}/{}", &digest["sha256:".len()..][..16])
}

impl Sources {
    /// The watch has told this. The ImageBuild is whole.
    pub fn put(&self, event: &Event<ImageBuild>) {
        let mut state = self.lock();
        match event {
            Event::Init => state.fresh.clear(),
            Event::InitApply(build) => {
                if let Some(entry) = Entry::of(build) {
                    state.fresh.insert(name(build), entry);
                }
            }
            Event::InitDone => {
                let fresh = std::mem::take(&mut state.fresh);
                let before = std::mem::replace(&mut state.known, fresh);
                let all = before.iter().chain(&state.known);
                let builders: BTreeSet<Name> = all
                    .map(|(name, entry)| (name.0.clone(), entry.builder.clone()))
                    .collect();
                for builder in builders {
                    state.touch(builder);
                }
            }
            Event::Apply(build) => state.set(name(build), Entry::of(build)),
            Event::Delete(build) => state.set(name(build), None),
        }
        drop(state);
        self.0.changed.notify_one();
    }

    /// This Builder's list is to be written, or taken away.
    pub fn touch(&self, builder: Name) {
        self.lock().touch(builder);
        self.0.changed.notify_one();
    }

    /// The same, after some time.
    pub fn touch_later(&self, builder: Name, after: Duration) {
        let at = Instant::now() + after;
        self.lock().dirty.entry(builder).or_insert(at);
        self.0.changed.notify_one();
    }

    /// The next Builder whose list is to be written, for one reader. Whoever stops to wait loses nothing.
    pub async fn next(&self) -> Name {
        loop {
            let due = {
                let mut state = self.lock();
                let first = state.dirty.iter().min_by_key(|(_, at)| **at);
                let first = first.map(|(name, at)| (name.clone(), *at));
                if let Some((name, at)) = &first
                    && *at <= Instant::now()
                {
                    state.dirty.remove(name);
                    return name.clone();
                }
                first.map(|(_, at)| at)
            };
            tokio::select! {
                () = self.0.changed.notified() => {}
                () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
            }
        }
    }

    /// What is watched for the ImageBuilds of this Builder.
    pub fn of(&self, builder: &Name) -> Vec<Watched> {
        let state = self.lock();
        let entries = state.entries(builder).map(|(_, entry)| entry);
        entries
            .take(MOST)
            .flat_map(|entry| entry.watched.clone())
            .collect()
    }

    /// The ImageBuild of this Builder that an id is of, and what is known of it.
    pub fn find(&self, builder: &Name, id: &str) -> Option<(Name, Entry)> {
        let uid = id.split('/').next()?;
        let state = self.lock();
        let mut entries = state.entries(builder);
        let (name, entry) = entries.find(|(_, entry)| entry.uid == uid)?;
        Some((name.clone(), entry.clone()))
    }

    /// The Builder and the source of an ImageBuild that somebody may post about.
    pub fn hooked(&self, namespace: &str, uid: &str) -> Option<(Name, What)> {
        let state = self.lock();
        let mut here = state.known.range(names_of(namespace));
        let (_, entry) = here.find(|(_, entry)| entry.uid == uid && entry.hooked)?;
        let source = entry.watched.iter().find(|watched| watched.id == uid)?;
        Some((
            (namespace.to_owned(), entry.builder.clone()),
            source.what.clone(),
        ))
    }

    /// This source is to be looked at at once; one that just was, a second after that.
    pub fn want(&self, builder: &Name, id: &str) {
        let mut state = self.lock();
        let now = Instant::now();
        state
            .looked
            .retain(|_, at| now.duration_since(*at) < BETWEEN);
        let at = state.looked.get(id).map_or(now, |at| *at + BETWEEN);
        let wanted = state.wanted.entry(builder.clone()).or_default();
        if wanted.len() < MOST {
            wanted.entry(id.to_owned()).or_insert(at);
        }
        drop(state);
        self.0.wanted.notify_waiters();
    }

    /// What is to be looked at at once; waits for it so long.
    pub async fn wanted(&self, builder: &Name, wait: Duration) -> Vec<String> {
        let end = Instant::now() + wait;
        loop {
            // Before it is looked at: what is wanted meanwhile is heard.
            let more = self.0.wanted.notified();
            let (due, next) = self.lock().due(builder);
            if !due.is_empty() {
                return due;
            }
            let until = next.map_or(end, |next| next.min(end));
            if tokio::time::timeout_at(until, more).await.is_err() && until == end {
                return vec![];
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// What of this Builder is to be looked at by now, which is told with this; and when the next is.
    fn due(&mut self, builder: &Name) -> (Vec<String>, Option<Instant>) {
        let now = Instant::now();
        let Some(wanted) = self.wanted.get_mut(builder) else {
            return (vec![], None);
        };
        let mut due = vec![];
        wanted.retain(|id, at| {
            let waits = *at > now;
            if !waits {
                due.push(id.clone());
            }
            waits
        });
        let next = wanted.values().min().copied();
        if next.is_none() {
            self.wanted.remove(builder);
        }
        self.looked.extend(due.iter().map(|id| (id.clone(), now)));
        (due, next)
    }

    fn touch(&mut self, builder: Name) {
        let at = Instant::now() + TOGETHER;
        let known = self.dirty.entry(builder).or_insert(at);
        *known = at.min(*known);
    }

    fn set(&mut self, name: Name, entry: Option<Entry>) {
        let before = match &entry {
            Some(entry) => self.known.insert(name.clone(), entry.clone()),
            None => self.known.remove(&name),
        };
        let listed = |entry: &Option<Entry>| {
            entry
                .as_ref()
                .map(|it| (it.builder.clone(), it.watched.clone()))
        };
        if listed(&before) == listed(&entry) {
            return;
        }
        for entry in before.iter().chain(&entry) {
            self.touch((name.0.clone(), entry.builder.clone()));
        }
    }

    fn entries<'a>(&'a self, builder: &'a Name) -> impl Iterator<Item = (&'a Name, &'a Entry)> {
        let here = self.known.range(names_of(&builder.0));
        here.filter(|(_, entry)| entry.builder == builder.1)
    }
}

/// All names of a namespace.
fn names_of(namespace: &str) -> std::ops::Range<Name> {
    // No name of a namespace holds a zero: this is the first string after it.
    (namespace.to_owned(), String::new())..(format!("{namespace}\0"), String::new())
}

fn name(build: &ImageBuild) -> Name {
    (build.namespace().unwrap_or_default(), build.name_any())
}

#[cfg(test)]
#[path = "sources_tests.rs"]
mod tests;
