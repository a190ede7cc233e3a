//! What is watched for which ImageBuild, from the watch of ImageBuilds: most of these have ended, and nothing else is kept of
//! them. What their specs name is bounded by the API server.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::runtime::watcher::Event;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::heard::{last_revision, same};
use super::lists::Send;
use super::room::BUILDS;
use super::tell;
use super::voice::{Said, Voice};
use crate::due::{self, Due};
use crate::imagebuild::decide::{watches_bases, watches_source};
use crate::queues::{Name, name, names_of};
use crate::settings::TriggerSettings;
use whittle_api::quantity::duration;
use whittle_api::{ImageBuild, LocalRef, TRIGGERS, find};
use whittle_watch::wire::{Outcome, Seen, Watched, What};

/// Seconds between two looks at a source of which somebody posts: what was posted may be lost on its way.
const UNPOLLED: i64 = 1800;
/// How long it is between two looks that webhooks ask for.
const BETWEEN: Duration = Duration::from_secs(1);
/// So long after a doubt was written its source is looked at: a look that came earlier would not count
/// (`heard` takes each for two seconds older than it is told).
pub(super) const DOUBTED: Duration = Duration::from_millis(2500);
/// What changes together is written together.
const TOGETHER: Duration = Duration::from_secs(1);

/// What is watched of all ImageBuilds.
#[derive(Clone)]
pub struct Sources(Arc<Inner>);

impl Default for Sources {
    fn default() -> Self {
        Self::new(TriggerSettings::default().silent_after())
    }
}

pub(super) struct Inner {
    /// What makes a silence of a watcher.
    silent_after: Duration,
    state: Mutex<State>,
    /// Something is to be written.
    changed: Notify,
    /// Something is to be looked at at once, or a list is another one.
    wanted: Notify,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) known: BTreeMap<Name, Entry>,
    /// What a list that has not ended yet has told.
    fresh: BTreeMap<Name, Entry>,
    /// Builders whose lists are to be written, and since when.
    dirty: Due,
    /// What is to be looked at at once, by Builder, and from when on.
    wanted: BTreeMap<Name, BTreeMap<Wish, Instant>>,
    /// What was told to be looked at of late.
    looked: BTreeMap<String, Instant>,
    /// The watchers, by Builder.
    pub(super) voices: BTreeMap<Name, Voice>,
}

/// A source that is to be looked at, and whether for a doubt: the look that a webhook asks for comes too early for that, and is
/// not to wait for it either.
type Wish = (String, bool);

/// What is watched of one ImageBuild, and what is known of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its UID.
    pub uid: String,
    /// The Builder that it names.
    pub builder: String,
    /// What is looked at.
    pub watched: Vec<Watched>,
    /// When it was made.
    created: Option<Timestamp>,
    /// The id of its source, where somebody may post that it has moved.
    hooked: Option<String>,
    /// Digests of what is known, by id, to see without asking anybody whether something is new.
    known: BTreeMap<String, Vec<String>>,
    /// What is said of those that cannot be seen, by id.
    unseen: BTreeMap<String, String>,
    /// True where the watcher has told something.
    heard: bool,
    /// What its condition says of the watcher itself.
    pub said: Said,
    /// The id of its source, and since when it is to be looked at again.
    doubted: Option<(String, Timestamp)>,
}

impl Entry {
    /// Of an ImageBuild; none where nothing is watched.
    pub fn of(build: &ImageBuild) -> Option<Self> {
        if build.metadata.deletion_timestamp.is_some() {
            return None;
        }
        let (spec, uid) = (&build.spec, build.uid()?);
        let triggers = spec.triggers.as_ref()?;
        let status = build.status.as_ref();
        let created = build.metadata.creation_timestamp.as_ref();
        let unseen = status.iter().flat_map(|status| &status.unseen);
        let told = status.and_then(|status| find(&status.conditions, TRIGGERS));
        let mut entry = Self {
            uid,
            builder: spec.builder_ref.name.clone(),
            watched: vec![],
            created: created.map(|time| time.0),
            hooked: None,
            known: BTreeMap::new(),
            unseen: unseen
                .map(|it| (it.id.clone(), it.message.clone()))
                .collect(),
            heard: told.is_some_and(|told| told.status != "Unknown"),
            said: told.map_or(Said::Nothing, tell::said),
            doubted: None,
        };
        if let Some(what) = source_of(build).filter(|_| watches_source(spec)) {
            let id = source_id(&entry.uid, &what);
            let poll = triggers.poll.as_ref();
            let interval = poll.map_or(UNPOLLED, |poll| duration(&poll.interval).as_secs());
            let git = spec.source.git.as_ref();
            entry.watched.push(Watched {
                id: id.clone(),
                interval_seconds: seconds(interval),
                what,
                folder: git.and_then(|git| git.sub_path.clone()),
            });
            let pending = status.and_then(|status| status.pending.as_ref());
            let doubt = pending.and_then(|pending| pending.doubt.as_ref());
            entry.doubted = doubt.map(|doubt| (id.clone(), doubt.0));
            let pending = pending.and_then(|pending| pending.revision.clone());
            let last = status.and_then(last_revision).cloned();
            let folder = status.and_then(|status| status.folder.clone());
            let folder = folder.filter(|folder| Some(&folder.built) == last.as_ref());
            let same = folder.map(|folder| folder.seen);
            let all = last.into_iter().chain(pending).chain(same);
            entry.known.insert(id.clone(), all.collect());
            entry.hooked = triggers.webhook.as_ref().map(|_| id);
        }
        let bases = triggers.base_images.as_ref();
        if let Some(bases) = bases.filter(|_| watches_bases(spec)) {
            let secret = spec.output.secret_ref.as_ref();
            for base in status.iter().flat_map(|status| &status.bases) {
                let id = base_id(&entry.uid, &base.image);
                entry.watched.push(Watched {
                    id: id.clone(),
                    interval_seconds: seconds(duration(&bases.interval).as_secs()),
                    what: What::Image {
                        image: base.image.clone(),
                        builder: entry.builder.clone(),
                        secret: secret.map(|secret| secret.name.clone()),
                    },
                    folder: None,
                });
                let digests = std::iter::once(base.digest.clone()).chain(base.seen.clone());
                entry.known.insert(id, digests.collect());
            }
        }
        Some(entry)
    }

    /// The Builder and the source that is to be looked at again, where that was not so before.
    fn asks_for_a_look(&self, name: &Name, before: Option<&Self>) -> Option<(Name, String)> {
        let known = before.and_then(|before| before.doubted.as_ref());
        let (id, _) = self.doubted.as_ref().filter(|it| Some(*it) != known)?;
        Some(((name.0.clone(), self.builder.clone()), id.clone()))
    }

    /// True where this source is to be looked at again.
    fn doubts(&self, id: &str) -> bool {
        self.doubted.as_ref().is_some_and(|(it, _)| it == id)
    }

    /// True where what was seen is what is known, and well.
    pub fn knows(&self, seen: &Seen) -> bool {
        let Some(known) = self.known.get(&seen.id) else {
            return false;
        };
        let unseen = self.unseen.get(&seen.id);
        match &seen.outcome {
            Outcome::Found { .. } if self.doubts(&seen.id) => false,
            Outcome::Found { revision } => {
                let same = |known: &String| same(known, revision);
                self.heard && unseen.is_none() && known.iter().any(same)
            }
            Outcome::Failed { message, .. } => unseen == Some(message),
        }
    }
}

fn seconds(interval: i64) -> u64 {
    u64::try_from(interval).unwrap_or(0).max(10)
}

/// What is looked at as the source of an ImageBuild; none where it has none that can move.
pub fn source_of(build: &ImageBuild) -> Option<What> {
    let spec = &build.spec;
    let secret = |of: &Option<LocalRef>| of.as_ref().map(|secret| secret.name.clone());
    match (&spec.source.git, &spec.source.oci) {
        (Some(git), _) => Some(What::Git {
            url: git.url.clone(),
            reference: git.reference.clone(),
            secret: secret(&git.secret_ref),
        }),
        (_, Some(oci)) => Some(What::Image {
            image: oci.image.clone(),
            builder: spec.builder_ref.name.clone(),
            secret: secret(&oci.secret_ref).or_else(|| secret(&spec.output.secret_ref)),
        }),
        _ => None,
    }
}

/// The id of a source: of whose ImageBuild, and which. A watcher that has an older list speaks of another one.
pub fn source_id(uid: &str, what: &What) -> String {
    let text = serde_json::to_string(what).expect("plain data is always JSON");
    base_id(uid, &text)
}

/// The id of a base image: of whose ImageBuild, and which.
pub fn base_id(uid: &str, image: &str) -> String {
    let digest = whittle_image::digest_of(image.as_bytes());
    format!("{uid}/{}", &digest["sha256:".len()..][..16])
}

impl Sources {
    /// None yet. `silent_after`: what makes a silence of a watcher.
    pub fn new(silent_after: Duration) -> Self {
        Self(Arc::new(Inner {
            silent_after,
            state: Mutex::default(),
            changed: Notify::new(),
            wanted: Notify::new(),
        }))
    }

    /// What makes a silence of a watcher.
    pub fn silent_after(&self) -> Duration {
        self.0.silent_after
    }

    /// The watch has told this. The ImageBuild is whole.
    pub fn put(&self, event: &Event<ImageBuild>) {
        let mut doubted = vec![];
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
                let looks = state.known.iter();
                doubted.extend(
                    looks.filter_map(|(name, entry)| entry.asks_for_a_look(name, before.get(name))),
                );
            }
            Event::Apply(build) => {
                let (name, entry) = (name(build), Entry::of(build));
                let before = state.known.get(&name);
                let look = entry
                    .as_ref()
                    .and_then(|it| it.asks_for_a_look(&name, before));
                doubted.extend(look);
                state.set(name, entry);
            }
            Event::Delete(build) => state.set(name(build), None),
        }
        drop(state);
        self.0.changed.notify_one();
        for (builder, id) in doubted {
            self.want_at(&builder, (id, true), Instant::now() + DOUBTED);
        }
    }

    /// This Builder's list is to be written, or taken away.
    pub fn touch(&self, builder: Name) {
        self.lock().touch(builder);
        self.0.changed.notify_one();
    }

    /// The same, after some time.
    pub fn touch_later(&self, builder: Name, after: Duration) {
        self.lock().dirty.touch_later(builder, after);
        self.0.changed.notify_one();
    }

    /// The next Builder whose list is to be written, for one reader. Whoever stops to wait loses nothing.
    pub async fn next(&self) -> Name {
        due::next(&self.0.changed, || self.lock().dirty.take()).await
    }

    /// What is watched for the ImageBuilds of this Builder, those that were created first before the others.
    pub fn of(&self, builder: &Name) -> Vec<Watched> {
        let state = self.lock();
        let mut entries: Vec<&Entry> = state.entries(builder).map(|(_, entry)| entry).collect();
        entries.sort_by_key(|entry| (entry.created, &entry.uid));
        let all = entries.into_iter();
        all.flat_map(|entry| entry.watched.clone()).collect()
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
    pub fn hooked(&self, namespace: &str, uid: &str) -> Option<(Name, String, What)> {
        let state = self.lock();
        let mut here = state.known.range(names_of(namespace));
        let (_, entry) = here.find(|(_, entry)| entry.uid == uid && entry.hooked.is_some())?;
        let id = entry.hooked.clone()?;
        let source = entry.watched.iter().find(|watched| watched.id == id)?;
        let builder = (namespace.to_owned(), entry.builder.clone());
        Some((builder, id, source.what.clone()))
    }

    /// This source is to be looked at at once; one that just was, a second after that.
    pub fn want(&self, builder: &Name, id: &str) {
        let mut state = self.lock();
        let now = Instant::now();
        state
            .looked
            .retain(|_, at| now.duration_since(*at) < BETWEEN);
        let at = state.looked.get(id).map_or(now, |at| *at + BETWEEN);
        drop(state);
        self.want_at(builder, (id.to_owned(), false), at);
    }

    fn want_at(&self, builder: &Name, wish: Wish, at: Instant) {
        let mut state = self.lock();
        let wanted = state.wanted.entry(builder.clone()).or_default();
        if wanted.len() < BUILDS {
            // A doubt of later asks for a later look.
            let doubt = wish.1;
            let known = wanted.entry(wish).or_insert(at);
            if doubt {
                *known = at;
            }
        }
        drop(state);
        self.wakes();
    }

    /// What is to be looked at at once, and the list where the watcher has another one; waits for either so long. `has`: the UID
    /// of the Builder that its credential is for, and the digest of the list that it has, where it takes them.
    pub async fn wanted(
        &self,
        builder: &Name,
        has: Option<(&str, &str)>,
        wait: Duration,
    ) -> (Vec<String>, Option<Weak<[u8]>>) {
        let end = Instant::now() + wait;
        loop {
            // Before it is looked at: what is wanted meanwhile is heard.
            let more = self.0.wanted.notified();
            let (due, mut next) = self.lock().due(builder);
            let send = has.map_or(Send::No, |(uid, has)| self.send(builder, uid, has));
            let list = match send {
                Send::Now(list) => Some(list),
                Send::At(at) => {
                    next = Some(next.map_or(at, |next| next.min(at)));
                    None
                }
                Send::No => None,
            };
            if !due.is_empty() || list.is_some() {
                return (due, list);
            }
            let until = next.map_or(end, |next| next.min(end));
            if tokio::time::timeout_at(until, more).await.is_err() && until == end {
                return (vec![], None);
            }
        }
    }

    /// Whoever waits looks again.
    pub(super) fn wakes(&self) {
        self.0.wanted.notify_waiters();
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
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
        wanted.retain(|(id, _), at| {
            let waits = *at > now;
            if !waits && due.last() != Some(id) {
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
        self.dirty.touch(builder, TOGETHER);
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

    pub(super) fn entries<'a>(
        &'a self,
        builder: &'a Name,
    ) -> impl Iterator<Item = (&'a Name, &'a Entry)> {
        let here = self.known.range(names_of(&builder.0));
        here.filter(|(_, entry)| entry.builder == builder.1)
    }
}

#[cfg(test)]
#[path = "sources_tests.rs"]
mod tests;
