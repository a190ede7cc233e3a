//! What waits for each Builder and what runs on it, from the watches: whose turn it is costs no request.
//!
//! Watches are behind. So this process also knows what it has begun itself, from before the first write until both
//! watches have shown it: a place on a Builder is taken under the lock under which it was seen to be free, and not where
//! another one was taken since ([`Queues::take_place`]).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::runtime::watcher::Event;
use kube::{Resource, ResourceExt};

use crate::builder::replicas::Load;
use crate::imagebuild::decide::{self, Queue, Runners, StandingBack};
use crate::names;
use crate::pods::is_active;
use crate::settings::TriggerSettings;
use crate::shared::Change;
use crate::standby::is_in_advance;
use crate::triggers;
use whittle_api::{Builder, Current, ImageBuild};

/// Runner Jobs of a namespace that have not ended, and Pods of its runners that run, which are kept: anybody there may
/// make them by their labels.
const MOST: usize = 5_000;
/// Builders whose last begun build is remembered.
const MOST_BUILDERS: usize = 10_000;
/// So far from its turn a build's status says its place exactly; further back it says so at least twice as the queue
/// halves. Else each build that ends would have all others read and write.
const EXACT: usize = 4;

/// Namespace and name.
pub type Name = (String, String);

/// All queues.
pub struct Queues {
    state: Mutex<State>,
    /// Builds that stand back and run in the cluster at a time.
    most_back: usize,
}

impl Default for Queues {
    fn default() -> Self {
        Self::new(TriggerSettings::default().max_concurrent)
    }
}

#[derive(Default)]
struct State {
    /// ImageBuilds that are not settled.
    builds: BTreeMap<Name, Arc<ImageBuild>>,
    /// Runner Jobs that have not ended.
    jobs: Runs,
    /// Pods of runners that run.
    pods: Runs,
    /// By the UID of the ImageBuild: what was begun here, until both watches have shown it.
    begun: HashMap<String, Begun>,
    /// So many were begun.
    turn: u64,
    /// By Builder: the turn of the last that was begun.
    last: HashMap<Name, u64>,
    /// Those that are not in `last` may be as late as this.
    floor: u64,
    /// By the UID of the ImageBuild: what its status says of its place.
    told: HashMap<String, Told>,
    /// By Builder: the first replica that is to go, and gets no more builds, where it has several.
    closed: HashMap<Name, i32>,
}

/// An attempt that this process has begun.
struct Begun {
    builder: Name,
    job: String,
    /// The watch of ImageBuilds has shown that it runs.
    in_status: bool,
    /// The watch of Jobs has shown its Job.
    in_jobs: bool,
    /// A base image or a schedule has begun it.
    stands_back: bool,
    /// The replica that it runs on.
    replica: Option<i32>,
}

/// Whose place is taken.
pub struct Place<'a> {
    /// UID of the ImageBuild.
    pub uid: &'a str,
    /// The attempt's Job.
    pub job: &'a str,
    /// Where a base image or a schedule has begun it: how many of those run in the cluster at a time.
    pub stands_back: Option<usize>,
    /// The replica that it runs on; none where the Builder has one.
    pub replica: Option<i32>,
}

/// When the queue of a Builder was looked at.
#[derive(Debug)]
pub struct Ticket {
    builder: Name,
    turn: u64,
}

/// What the watches know of a build and its Builder that wakes it: taken before they are read, for what changes
/// meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look(u64);

impl Look {
    /// Now.
    pub fn at(build: &ImageBuild, builder: Option<&Builder>) -> Self {
        let builder = builder.and_then(triggers::builder_ready);
        Self(triggers::hashed((triggers::image_build(build), builder)))
    }
}

/// What a build that waits for its turn was told when it was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Told {
    /// What was known of it and its Builder before.
    look: Look,
    /// Those that hang and take no place: it may hang for the same.
    hanging: usize,
    /// Builds before it.
    before: usize,
    /// Builds that its Builder takes.
    most: usize,
    /// Where it stands back: builds that may do so and run, in the whole cluster.
    most_back: Option<usize>,
}

impl Queues {
    /// So many builds that stand back run in the cluster at a time.
    pub fn new(most_back: usize) -> Self {
        Self {
            state: Mutex::default(),
            most_back,
        }
    }

    /// An ImageBuild has changed.
    pub fn build(&self, change: &Change<ImageBuild>) {
        let mut state = self.lock();
        if let Some(old) = &change.old {
            state.builds.remove(&name(old.as_ref()));
        }
        let uid = |build: &ImageBuild| build.uid().unwrap_or_default();
        let (old, new) = (change.old.as_deref().map(uid), change.new.as_deref());
        if let Some(gone) = old.filter(|old| new.map(uid).as_ref() != Some(old)) {
            state.begun.remove(&gone);
            state.told.remove(&gone);
        }
        let Some(build) = &change.new else { return };
        if decide::is_settled(build) {
            state.told.remove(&uid(build));
        } else {
            state.builds.insert(name(build.as_ref()), build.clone());
        }
        if let Some(begun) = state.begun.get_mut(&uid(build)) {
            begun.in_status |= shows(build, &begun.job);
        }
        state.forget_what_is_shown();
    }

    /// What the watch of Jobs tells.
    pub fn job(&self, event: &Event<Job>) {
        let mut state = self.lock();
        state.jobs.take(event, |job| {
            let of = run(job, names::RUNNER)?;
            let run = Run {
                builder: of,
                of: owner(job)?,
                in_advance: is_in_advance(job).then(|| job.name_any()),
            };
            is_active(job).then_some(run)
        });
        let State { begun, jobs, .. } = &mut *state;
        let shown = |namespace: &str, name: &str| {
            jobs.known
                .contains_key(&(namespace.to_owned(), name.to_owned()))
        };
        match event {
            Event::Apply(job) => {
                let (namespace, name) = name(job);
                // One for which there is no room counts as begun here.
                let counts = !is_active(job) || shown(&namespace, &name);
                for begun in begun.values_mut() {
                    begun.in_jobs |= counts && begun.builder.0 == namespace && begun.job == name;
                }
            }
            // What a list has told counts from its end.
            Event::InitDone => {
                for begun in begun.values_mut() {
                    begun.in_jobs |= shown(&begun.builder.0, &begun.job);
                }
            }
            _ => {}
        }
        state.forget_what_is_shown();
    }

    /// What the watch of Pods tells.
    pub fn pod(&self, event: &Event<Pod>) {
        let mut state = self.lock();
        state.pods.take(event, |pod| {
            let run = Run {
                builder: run(pod, names::RUNNER)?,
                of: pod.labels().get(names::IMAGE_BUILD_UID)?.clone(),
                in_advance: is_in_advance(pod).then(|| job_of(pod)),
            };
            let status = pod.status.as_ref()?;
            (status.phase.as_deref() == Some("Running")).then_some(run)
        });
    }

    /// To be taken before the queue of this Builder is looked at.
    pub fn ticket(&self, namespace: &str, builder: &str) -> Ticket {
        let turn = self.lock().turn;
        let builder = (namespace.to_owned(), builder.to_owned());
        Ticket { builder, turn }
    }

    /// The other builds on this build's Builder.
    pub fn queue(&self, build: &ImageBuild) -> Queue {
        let state = self.lock();
        let (builds, runners, begun) = state.on(&builder(build), build.uid().as_deref());
        let standing_back = state.standing_back(&builder(build).0, build.uid().as_deref());
        drop(state);
        let full = standing_back.is_full(self.most_back);
        let mut queue = Queue::of(build, &builds, &runners, full);
        for replica in begun.values() {
            queue.runs_on(*replica);
            queue.ahead.running.push((None, None));
        }
        queue.standing_back = standing_back;
        queue
    }

    /// True where builds of this namespace that stand back and wait for their turn cannot start now, as enough of those run. It
    /// goes over all builds: to be asked once for many of a namespace.
    pub fn holds_back(&self, namespace: &str) -> bool {
        let standing_back = self.lock().standing_back(namespace, None);
        standing_back.is_full(self.most_back)
    }

    /// Takes a place on the Builder for this Job of an ImageBuild; false where another build was begun on it since the
    /// ticket was taken, enough others stand back already, or its replica is to go: then all is to be looked at again.
    #[must_use]
    pub fn take_place(&self, ticket: &Ticket, place: &Place<'_>) -> bool {
        let &Place {
            uid,
            job,
            stands_back,
            replica,
        } = place;
        let mut state = self.lock();
        if let Some(most) = stands_back
            && state
                .standing_back(&ticket.builder.0, Some(uid))
                .is_full(most)
        {
            return false;
        }
        if state.is_closed(ticket, place) {
            return false;
        }
        let last = state.last.get(&ticket.builder).copied();
        if last.unwrap_or(state.floor) > ticket.turn {
            return false;
        }
        state.turn += 1;
        let turn = state.turn;
        if state.last.len() >= MOST_BUILDERS {
            state.last.clear();
            state.floor = turn;
        }
        state.last.insert(ticket.builder.clone(), turn);
        let known = state.builds.range(names_of(&ticket.builder.0));
        let known = known.map(|(_, build)| build);
        let mut mine = known.filter(|build| build.uid().as_deref() == Some(uid));
        let made = (ticket.builder.0.clone(), job.to_owned());
        let begun = Begun {
            builder: ticket.builder.clone(),
            job: job.to_owned(),
            in_status: mine.any(|build| shows(build, job)),
            // One that was made in advance may have been shown long ago.
            in_jobs: state.jobs.known.contains_key(&made),
            stands_back: stands_back.is_some(),
            replica,
        };
        state.begun.insert(uid.to_owned(), begun);
        true
    }

    /// True where this place is on a replica that is to go: it is not to be had at once.
    pub fn closes(&self, ticket: &Ticket, place: &Place<'_>) -> bool {
        self.lock().is_closed(ticket, place)
    }

    /// What was begun of this ImageBuild has ended, or was never made.
    pub fn leave_place(&self, uid: &str) {
        self.lock().begun.remove(uid);
    }

    /// How many builds keep this Builder from a restart.
    pub fn busy(&self, namespace: &str, builder: &str) -> usize {
        let builder = (namespace.to_owned(), builder.to_owned());
        let (builds, runners, begun) = self.lock().on(&builder, None);
        let more = begun.keys().filter(|uid| !runners.active.contains(*uid));
        runners.busy(&builds) + more.count()
    }

    /// How many builds run on this Builder or wait for it.
    pub fn wanted(&self, namespace: &str, builder: &str) -> usize {
        let state = self.lock();
        let builder = (namespace.to_owned(), builder.to_owned());
        let builds = state.builds_on(&builder);
        let waiting = builds.filter(|build| !build.spec.suspend && !decide::is_built(build));
        waiting.count()
            + state.runs(&builder, &state.jobs).count()
            + state.begun_on(&builder).count()
    }

    /// What runs on this Builder's replicas and waits for its turn there.
    pub fn load(&self, namespace: &str, builder: &str, now: Timestamp) -> Load {
        let state = self.lock();
        let builder = (namespace.to_owned(), builder.to_owned());
        let waiting = state.builds_on(&builder).filter(|build| {
            !build.spec.suspend && decide::is_queued(build) && !decide::stands_back(build)
        });
        let since: Vec<Option<Timestamp>> = waiting
            .map(|build| {
                let current = build.status.as_ref()?.current.as_ref()?;
                Some(current.waiting_since.as_ref()?.0)
            })
            .collect();
        let longest = since.iter().flatten().min();
        Load {
            running: state.by_replica(&builder),
            waiting: since.len(),
            longest: longest.map(|since| now.duration_since(*since)),
        }
    }

    /// From now on no build is begun on this replica of a Builder and on those after it. What runs on each is returned: nothing can be
    /// begun there in between.
    pub fn close(&self, namespace: &str, builder: &str, from: i32) -> BTreeMap<i32, usize> {
        let mut state = self.lock();
        let builder = (namespace.to_owned(), builder.to_owned());
        if state.closed.len() >= MOST_BUILDERS {
            state.closed.clear();
        }
        state.closed.insert(builder.clone(), from);
        state.by_replica(&builder)
    }

    /// The Builder has one replica, and no choice is to be made.
    pub fn open(&self, namespace: &str, builder: &str) {
        let builder = (namespace.to_owned(), builder.to_owned());
        self.lock().closed.remove(&builder);
    }

    /// The builds of this Builder that are not settled.
    pub fn builds(&self, namespace: &str, builder: &str) -> Vec<Arc<ImageBuild>> {
        let builder = (namespace.to_owned(), builder.to_owned());
        self.lock().builds_on(&builder).cloned().collect()
    }

    /// Builds that stand back and wait for their turn, of each Builder the one whose turn is first, in the order of their turns;
    /// those of a namespace in which enough of those run come last.
    pub fn waiting_back(&self) -> Vec<Arc<ImageBuild>> {
        let state = self.lock();
        let running = state.running_back();
        let mut of: BTreeMap<&str, usize> = BTreeMap::new();
        for namespace in running.values() {
            *of.entry(namespace).or_default() += 1;
        }
        let is_full = |namespace: &str| {
            let standing_back = StandingBack {
                all: running.len(),
                of_namespace: of.get(namespace).copied().unwrap_or(0),
            };
            standing_back.is_full(self.most_back)
        };
        let waiting = state
            .builds
            .iter()
            .filter(|(_, build)| decide::stands_back(build) && decide::is_queued(build));
        let mut first: Vec<_> = waiting
            .map(|((namespace, _), build)| (is_full(namespace), build.clone()))
            .collect();
        first.sort_by_cached_key(|(full, build)| (*full, decide::turn(build)));
        let mut first: Vec<_> = first.into_iter().map(|(_, build)| build).collect();
        let mut seen = BTreeSet::new();
        first.retain(|build| seen.insert(builder(build)));
        first
    }

    /// A build was looked at and told that it waits for its turn, with this before it on a Builder that takes `most`. Where it
    /// stands back: how many of those run in the cluster at a time.
    pub fn told(
        &self,
        look: Look,
        build: &ImageBuild,
        (most, most_back): (usize, Option<usize>),
        queue: &Queue,
    ) {
        let mut state = self.lock();
        let told = Told {
            look,
            hanging: state.hanging(&builder(build)),
            before: queue.before,
            most,
            most_back,
        };
        state.told.insert(build.uid().unwrap_or_default(), told);
    }

    /// A build was told something else.
    pub fn not_told(&self, uid: &str) {
        self.lock().told.remove(uid);
    }

    /// True where another look at this build, which waits for its turn, would come to what it was told before. `build`
    /// is as the watch knows it.
    pub fn waits_still(&self, look: Look, build: &ImageBuild) -> bool {
        if !decide::is_queued(build) {
            return false;
        }
        let uid = build.uid().unwrap_or_default();
        let Some(told) = self.lock().told.get(&uid).copied() else {
            return false;
        };
        let now = self.queue(build);
        let near = now.before <= EXACT || now.before <= told.before / 2;
        let same = told.before == now.before || now.before < told.before && !near;
        let bounded = told
            .most_back
            .is_some_and(|most| now.standing_back.is_full(most));
        same && (bounded || now.running + now.before >= told.most)
            && told.look == look
            && told.hanging == self.lock().hanging(&builder(build))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn builds_on(&self, builder: &Name) -> impl Iterator<Item = &Arc<ImageBuild>> {
        let here = self.builds.range(names_of(&builder.0));
        let of = builder.1.clone();
        here.map(|(_, build)| build)
            .filter(move |build| build.spec.builder_ref.name == of)
    }

    fn begun_on(&self, builder: &Name) -> impl Iterator<Item = &String> {
        let begun = self.begun.iter();
        begun
            .filter(move |(_, begun)| begun.builder == *builder && !begun.in_jobs)
            .map(|(uid, _)| uid)
    }

    /// What is on a Builder besides the ImageBuild `mine`: those that the watches know, their runners, and those that
    /// were begun here and are not known well enough to be judged by the watches.
    fn on(
        &self,
        builder: &Name,
        mine: Option<&str>,
    ) -> (Vec<Arc<ImageBuild>>, Runners, BTreeMap<String, Option<i32>>) {
        let begun = self.begun.iter();
        let begun: BTreeMap<String, Option<i32>> = begun
            .filter(|(uid, begun)| begun.builder == *builder && Some(uid.as_str()) != mine)
            .map(|(uid, begun)| (uid.clone(), begun.replica))
            .collect();
        let known = |build: &&Arc<ImageBuild>| {
            let uid = build.metadata.uid.as_ref();
            uid.is_none_or(|uid| !begun.contains_key(uid))
        };
        let builds = self.builds_on(builder).filter(known).cloned().collect();
        let runners = Runners {
            active: self.runs(builder, &self.jobs).cloned().collect(),
            started: self.runs(builder, &self.pods).cloned().collect(),
        };
        (builds, runners, begun)
    }

    /// True where this place is on a replica that is to go, but for a build that was promised it before: it stays for that.
    fn is_closed(&self, ticket: &Ticket, place: &Place<'_>) -> bool {
        let Some(from) = self.closed.get(&ticket.builder) else {
            return false;
        };
        let known = self.builds.range(names_of(&ticket.builder.0));
        let mut mine = known.filter(|(_, build)| build.uid().as_deref() == Some(place.uid));
        let promised = mine.any(|(_, build)| {
            let current = build.status.as_ref().and_then(|it| it.current.as_ref());
            // An attempt that was carried out by a Job made in advance may have to begin with its own.
            let this = |it: &Current| it.job == place.job || it.standby.is_some();
            current.is_some_and(|it| this(it) && it.replica == place.replica)
        });
        place.replica >= Some(*from) && !promised
    }

    /// How many builds run on each replica of a Builder, or are about to.
    fn by_replica(&self, builder: &Name) -> BTreeMap<i32, usize> {
        let (builds, _, begun) = self.on(builder, None);
        let runs = |build: &Arc<ImageBuild>| {
            let current = build.status.as_ref()?.current.as_ref()?;
            // What was chosen holds, though it may have to begin once more.
            let bound = current.started || current.replica.is_some();
            (bound && current.stage.pushed().is_none()).then_some(current.replica)
        };
        let mut all = BTreeMap::new();
        for replica in builds.iter().filter_map(runs).chain(begun.into_values()) {
            *all.entry(replica.unwrap_or(0)).or_default() += 1;
        }
        all
    }

    /// The ImageBuilds whose runners are among these, but for those that are built: what such a runner fetches needs nothing
    /// of the builder.
    fn runs<'a>(&'a self, builder: &'a Name, of: &'a Runs) -> impl Iterator<Item = &'a String> {
        let built = self.builds_on(builder).filter(|build| {
            let current = build.status.as_ref().map(|status| &status.current);
            current.is_none_or(Option::is_none) && decide::is_built(build)
        });
        let built: BTreeSet<&str> = built
            .filter_map(|build| build.metadata.uid.as_deref())
            .collect();
        let begun = self.builds_on(builder).filter_map(|build| {
            let current = build.status.as_ref()?.current.as_ref()?;
            Some(current.job.as_str()).filter(|_| current.started)
        });
        let begun: BTreeSet<&str> = begun.collect();
        // What was made in advance runs no build before an attempt is carried out by it.
        let runs = of.on(builder).filter(move |run| {
            let job = run.in_advance.as_deref();
            job.is_none_or(|job| begun.contains(job))
        });
        runs.map(|run| &run.of)
            .filter(move |uid| !built.contains(uid.as_str()))
    }

    /// How many builds that base images or schedules have begun run, in this namespace and in the whole cluster, but for the
    /// ImageBuild `mine`. One that hangs for want of what its own spec names does not run.
    fn standing_back(&self, namespace: &str, mine: Option<&str>) -> StandingBack {
        let mut running = self.running_back();
        if let Some(mine) = mine {
            running.remove(mine);
        }
        StandingBack {
            all: running.len(),
            of_namespace: running.values().filter(|of| **of == namespace).count(),
        }
    }

    /// The namespaces of those that run, by their UIDs.
    fn running_back(&self) -> BTreeMap<&str, &str> {
        let begun = self.begun.iter().filter(|(_, begun)| begun.stands_back);
        let mut running: BTreeMap<&str, &str> = begun
            .map(|(uid, begun)| (uid.as_str(), begun.builder.0.as_str()))
            .collect();
        for ((of, _), build) in &self.builds {
            let current = build.status.as_ref().and_then(|s| s.current.as_ref());
            let runs = current.is_some_and(|current| current.started)
                && decide::stands_back(build)
                && !decide::lacks_its_own(build);
            if let (true, Some(uid)) = (runs, &build.metadata.uid) {
                running.insert(uid, of);
            }
        }
        running
    }

    fn hanging(&self, builder: &Name) -> usize {
        let builds = self.builds_on(builder);
        builds.filter(|build| decide::lacks_its_own(build)).count()
    }

    fn forget_what_is_shown(&mut self) {
        self.begun
            .retain(|_, begun| !(begun.in_status && begun.in_jobs));
    }
}

/// Objects of one kind that run on Builders: whose ImageBuilds' they are.
#[derive(Default)]
struct Runs {
    known: BTreeMap<Name, Run>,
    /// What a list that has not ended yet has told.
    fresh: BTreeMap<Name, Run>,
}

/// One that runs.
struct Run {
    /// The Builder that it runs on.
    builder: String,
    /// UID of the ImageBuild.
    of: String,
    /// Name of its Job, where that was made in advance.
    in_advance: Option<String>,
}

impl Runs {
    /// Takes an event in; `runs` says of one that runs on which Builder, and whose it is.
    fn take<K: Resource>(&mut self, event: &Event<K>, runs: impl FnOnce(&K) -> Option<Run>) {
        match event {
            Event::Init => self.fresh.clear(),
            Event::InitApply(object) => {
                if let Some(run) = runs(object)
                    && has_room(&self.fresh, object)
                {
                    self.fresh.insert(name(object), run);
                }
            }
            Event::InitDone => self.known = std::mem::take(&mut self.fresh),
            Event::Apply(object) => {
                let key = name(object);
                self.known.remove(&key);
                if let Some(run) = runs(object)
                    && has_room(&self.known, object)
                {
                    self.known.insert(key, run);
                }
            }
            Event::Delete(object) => drop(self.known.remove(&name(object))),
        }
    }

    fn on<'a>(&'a self, builder: &'a Name) -> impl Iterator<Item = &'a Run> {
        let here = self.known.range(names_of(&builder.0)).map(|(_, run)| run);
        here.filter(move |run| run.builder == builder.1)
    }
}

/// True where there is room for one more of its namespace.
fn has_room<K: Resource>(known: &BTreeMap<Name, Run>, object: &K) -> bool {
    let namespace = name(object).0;
    known.range(names_of(&namespace)).count() < MOST
}

/// The UID of the ImageBuild that a runner belongs to: labels are short, and what they say is held against the owners.
fn owner<K: Resource>(object: &K) -> Option<String> {
    let uid = object.labels().get(names::IMAGE_BUILD_UID)?;
    let mut owners = object.owner_references().iter();
    owners.any(|owner| owner.uid == *uid).then(|| uid.clone())
}

/// Name of the Job whose Pod this is; empty where it has none.
fn job_of(pod: &Pod) -> String {
    let mut owners = pod.owner_references().iter();
    let job = owners.find(|owner| owner.kind == "Job" && owner.controller == Some(true));
    job.map(|job| job.name.clone()).unwrap_or_default()
}

/// The Builder that an object of this component runs on.
fn run<K: Resource>(object: &K, component: &str) -> Option<String> {
    let labels = object.labels();
    let is = labels.get(names::COMPONENT).map(String::as_str) == Some(component);
    labels.get(names::BUILDER_NAME).filter(|_| is).cloned()
}

/// True where a status that the watch has shown says that this Job runs, and the build is judged by it.
fn shows(build: &ImageBuild, job: &str) -> bool {
    let current = build.status.as_ref().and_then(|s| s.current.as_ref());
    let runs = current.is_some_and(|current| current.job == job && current.started);
    runs && !decide::lacks_its_own(build)
}

fn builder(build: &ImageBuild) -> Name {
    let namespace = build.namespace().unwrap_or_default();
    (namespace, build.spec.builder_ref.name.clone())
}

/// Its namespace and name.
pub fn name<K: Resource>(object: &K) -> Name {
    let meta = object.meta();
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    (text(&meta.namespace), text(&meta.name))
}

/// All names of a namespace.
pub fn names_of(namespace: &str) -> std::ops::Range<Name> {
    // No name of a namespace holds a zero: this is the first string after it.
    (namespace.to_owned(), String::new())..(format!("{namespace}\0"), String::new())
}

#[cfg(test)]
#[path = "queues_tests.rs"]
mod tests;
