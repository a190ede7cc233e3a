//! For which ImageBuilds a runner may wait, from the watches: so that nothing is read of the others.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use kube::runtime::watcher::Event;
use tokio::sync::Notify;

use super::decide::{MOST_IDLE, may_wait};
use crate::due::{self, Due};
use crate::names;
use crate::pods;
use crate::queues::{Name, name, names_of};
use crate::shared::Change;
use whittle_api::{Builder, ImageBuild};

/// ImageBuilds that are remembered, at most: those that built last.
const MOST: usize = 10_000;
/// Names of Jobs that came to nothing, at most.
const MOST_HOPELESS: usize = 10_000;
/// Changes within this time are looked at together.
const TOGETHER: Duration = Duration::from_millis(100);
/// Builds in less than this time say little of how often there are some.
const LITTLE: i64 = 1800;

/// What is known.
#[derive(Clone, Default)]
pub struct Candidates(Arc<Inner>);

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    known: BTreeMap<Name, Candidate>,
    /// Those that a list that has not ended has told.
    listed: BTreeSet<Name>,
    /// Those of which a build is under way.
    building: BTreeSet<Name>,
    /// Builders beside which runners wait, as far as is known.
    with_jobs: BTreeSet<Name>,
    /// Jobs that came to nothing: no other of the same name is made.
    hopeless: BTreeSet<String>,
    /// Builders that are to be looked at, and when.
    dirty: Due,
}

#[derive(Clone, Debug, PartialEq)]
struct Candidate {
    builder: String,
    completed: Timestamp,
    /// When the builds of its history ended.
    ended: Vec<Timestamp>,
}

impl Candidate {
    fn of(build: &ImageBuild, now: Timestamp) -> Option<Self> {
        let status = build.status.as_ref().filter(|_| may_wait(build))?;
        let completed = status.completed_at.as_ref()?.0;
        let ended = status.history.iter();
        let ended = ended.filter_map(|entry| entry.completed_at.as_ref());
        (now.duration_since(completed) < MOST_IDLE).then(|| Self {
            builder: build.spec.builder_ref.name.clone(),
            completed,
            ended: ended.map(|at| at.0).take(100).collect(),
        })
    }

    /// How often it is built: builds in a hundred hours.
    fn often(&self, now: Timestamp) -> i64 {
        let first = self.ended.iter().min().copied().unwrap_or(self.completed);
        let span = now.duration_since(first).as_secs().max(LITTLE);
        let number = i64::try_from(self.ended.len().max(1)).unwrap_or(1);
        number * 360_000 / span
    }
}

impl Candidates {
    /// What the watch of ImageBuilds tells, whole.
    pub fn put(&self, event: &Event<ImageBuild>) {
        let now = Timestamp::now();
        let mut state = self.lock();
        match event {
            Event::Init => state.listed.clear(),
            Event::InitApply(build) => {
                state.listed.insert(name(build));
                state.see(build, now);
            }
            Event::InitDone => {
                let listed = std::mem::take(&mut state.listed);
                let gone = state.known.keys().filter(|name| !listed.contains(*name));
                for name in gone.cloned().collect::<Vec<_>>() {
                    state.set(name, None);
                }
            }
            Event::Apply(build) => state.see(build, now),
            Event::Delete(build) => {
                state.building.remove(&name(build));
                state.set(name(build), None);
            }
        }
        drop(state);
        self.0.changed.notify_one();
    }

    /// What the watch of Builders tells.
    pub fn builder(&self, change: &Change<Builder>) {
        let all = [&change.old, &change.new];
        let has = all.into_iter().flatten().any(|it| it.spec.standby > 0);
        if let Some(builder) = change.new.as_deref().or(change.old.as_deref()) {
            let of = name(builder);
            if has || self.lock().with_jobs.contains(&of) {
                self.touch(of);
            }
        }
    }

    /// What the watch of Jobs tells: of those that were made in advance, that they are there from before, and that they have ended.
    pub fn job(&self, event: &Event<Job>) {
        let job = match event {
            Event::InitApply(job) => job,
            Event::Apply(job) if pods::has_ended(job) => job,
            _ => return,
        };
        let builder = job.labels().get(names::BUILDER_NAME);
        if let Some(builder) = builder.filter(|_| is_in_advance(job)) {
            let of = (job.namespace().unwrap_or_default(), builder.clone());
            self.lock().with_jobs.insert(of.clone());
            self.touch(of);
        }
    }

    /// Looks at this Builder soon.
    pub fn touch(&self, builder: Name) {
        self.lock().touch(builder);
        self.0.changed.notify_one();
    }

    /// The same, after some time at the latest.
    pub fn touch_later(&self, builder: Name, after: Duration) {
        self.lock().dirty.touch_later(builder, after);
        self.0.changed.notify_one();
    }

    /// The next Builder that is to be looked at, for one reader. Whoever stops to wait loses nothing.
    pub async fn next(&self) -> Name {
        due::next(&self.0.changed, || self.lock().dirty.take()).await
    }

    /// Names of the ImageBuilds of this Builder whose last build ended no longer ago than `idle`: those that build most often first,
    /// and no more than `most`.
    pub fn first(
        &self,
        builder: &Name,
        most: usize,
        idle: SignedDuration,
        now: Timestamp,
    ) -> Vec<String> {
        let state = self.lock();
        let here = state.known.range(names_of(&builder.0));
        let mut all: Vec<_> = here
            .filter(|(_, it)| it.builder == builder.1 && now.duration_since(it.completed) < idle)
            .collect();
        all.sort_by_key(|(name, it)| {
            let often = std::cmp::Reverse((it.often(now), it.completed));
            (often, (*name).clone())
        });
        let names = all.into_iter().map(|((_, name), _)| name.clone());
        names.take(most).collect()
    }

    /// True where runners may wait beside this Builder.
    pub fn has_jobs(&self, builder: &Name) -> bool {
        self.lock().with_jobs.contains(builder)
    }

    /// Whether runners wait beside this Builder.
    pub fn found(&self, builder: &Name, some: bool) {
        let mut state = self.lock();
        if some {
            state.with_jobs.insert(builder.clone());
        } else {
            state.with_jobs.remove(builder);
        }
    }

    /// This Job came to nothing.
    pub fn gives_up(&self, job: String) {
        let mut state = self.lock();
        if state.hopeless.len() >= MOST_HOPELESS {
            state.hopeless.clear();
        }
        state.hopeless.insert(job);
    }

    /// True where no Job of this name is made any more.
    pub fn is_hopeless(&self, job: &str) -> bool {
        self.lock().hopeless.contains(job)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// True while a build is under way, or its record is not there yet.
fn builds(build: &ImageBuild) -> bool {
    let status = build.status.as_ref();
    let under_way = status.is_some_and(|it| it.current.is_some() || it.early.is_some());
    under_way && build.metadata.deletion_timestamp.is_none()
}

/// True for a Job or a Pod of a runner that was made in advance.
pub fn is_in_advance(object: &impl ResourceExt) -> bool {
    object.labels().contains_key(names::STANDBY)
}

impl State {
    fn see(&mut self, build: &ImageBuild, now: Timestamp) {
        let of = name(build);
        if !builds(build) {
            self.building.remove(&of);
            return self.set(of, Candidate::of(build, now));
        }
        // One that builds keeps its rank: no other takes its place for that time. What was made for this build meanwhile goes.
        let builder = (of.0.clone(), build.spec.builder_ref.name.clone());
        if self.building.insert(of) && self.with_jobs.contains(&builder) {
            self.touch(builder);
        }
    }

    fn touch(&mut self, builder: Name) {
        self.dirty.touch(builder, TOGETHER);
    }

    fn set(&mut self, name: Name, candidate: Option<Candidate>) {
        if self.known.get(&name) == candidate.as_ref() {
            return;
        }
        let namespace = name.0.clone();
        let builder = candidate.as_ref().map(|it| it.builder.clone());
        let before = match candidate {
            Some(candidate) => self.known.insert(name, candidate),
            None => self.known.remove(&name),
        };
        let before = before.map(|it| it.builder);
        for builder in before.into_iter().chain(builder) {
            self.touch((namespace.clone(), builder));
        }
        if self.known.len() > MOST {
            let oldest = self.known.iter().min_by_key(|(_, it)| it.completed);
            if let Some(name) = oldest.map(|(name, _)| name.clone()) {
                self.known.remove(&name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;
    use serde_json::{Value, json};

    const HOUR: SignedDuration = SignedDuration::from_hours(1);

    fn ago(seconds: i64) -> Timestamp {
        Timestamp::now() - SignedDuration::from_secs(seconds)
    }

    /// One whose builds have ended so many seconds ago, the last one first.
    fn built(name: &str, ended: &[i64]) -> ImageBuild {
        let mut build = fixtures::inline();
        build.metadata.name = Some(name.into());
        let history: Vec<Value> = ended
            .iter()
            .map(|it| {
                json!({"build": 1, "generation": 1, "result": "Succeeded", "completedAt": ago(*it).to_string(),
                    "digest": null, "size": null, "revision": null, "durationSeconds": null})
            })
            .collect();
        let status = json!({"build": ended.len(), "completedAt": ago(ended[0]).to_string(), "history": history,
            "conditions": [{"type": "Ready", "status": "True", "reason": "Succeeded", "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
        build.status = Some(serde_json::from_value(status).unwrap());
        build
    }

    fn under_way(mut build: ImageBuild) -> ImageBuild {
        let status = build.status.as_mut().unwrap();
        let current = json!({"attempt": 1, "job": "j", "generation": 1});
        status.current = Some(serde_json::from_value(current).unwrap());
        status.completed_at = None;
        build
    }

    fn default() -> Name {
        ("team".into(), "default".into())
    }

    fn first(candidates: &Candidates, most: usize) -> Vec<String> {
        candidates.first(&default(), most, HOUR, Timestamp::now())
    }

    #[test]
    fn those_that_build_most_often_come_first_and_those_that_have_not_built_for_long_not_at_all() {
        let candidates = Candidates::default();
        for build in [
            built("once", &[5]),
            built("often", &[900, 1000, 1100, 1200]),
            built("seldom", &[60, 40_000, 80_000]),
            built("before", &[4000]),
            built("long-ago", &[90_000]),
        ] {
            candidates.put(&Event::Apply(build));
        }
        assert_eq!(first(&candidates, 9), ["often", "once", "seldom"]);
        assert_eq!(first(&candidates, 1), ["often"]);
        let other = ("team".to_owned(), "other".to_owned());
        let now = Timestamp::now();
        assert!(candidates.first(&other, 9, HOUR, now).is_empty());
    }

    #[test]
    fn one_that_builds_keeps_its_place_and_one_that_fails_or_goes_does_not() {
        let candidates = Candidates::default();
        let build = built("a", &[60]);
        candidates.put(&Event::Apply(build.clone()));
        candidates.put(&Event::Apply(under_way(build.clone())));
        assert_eq!(first(&candidates, 9), ["a"]);
        let mut failed = build.clone();
        failed.status.as_mut().unwrap().conditions[0].status = "False".into();
        candidates.put(&Event::Apply(failed));
        assert!(first(&candidates, 9).is_empty());
        candidates.put(&Event::Apply(build.clone()));
        candidates.put(&Event::Delete(build.clone()));
        assert!(first(&candidates, 9).is_empty());
        // A list replaces all.
        candidates.put(&Event::Apply(build));
        for event in [
            Event::Init,
            Event::InitApply(built("b", &[60])),
            Event::InitDone,
        ] {
            candidates.put(&event);
        }
        assert_eq!(first(&candidates, 9), ["b"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_builder_is_looked_at_where_a_build_of_it_has_ended_and_when_its_time_comes() {
        let candidates = Candidates::default();
        candidates.put(&Event::Apply(built("a", &[60])));
        candidates.put(&Event::Apply(built("b", &[60])));
        assert_eq!(candidates.next().await, default());
        assert!(candidates.lock().dirty.is_empty(), "both at once");
        // It is as it was.
        candidates.put(&Event::Apply(under_way(built("a", &[60]))));
        assert!(candidates.lock().dirty.is_empty());
        candidates.touch_later(default(), Duration::from_secs(600));
        let began = tokio::time::Instant::now();
        assert_eq!(candidates.next().await, default());
        assert_eq!(began.elapsed().as_secs(), 600);
    }

    #[tokio::test(start_paused = true)]
    async fn builders_beside_which_nobody_waits_are_left_alone() {
        let candidates = Candidates::default();
        let change = |standby: i32| {
            let mut builder = fixtures::builder();
            builder.spec.standby = standby;
            Change {
                old: None,
                new: Some(Arc::new(builder)),
            }
        };
        candidates.builder(&change(0));
        assert!(candidates.lock().dirty.is_empty());
        candidates.builder(&change(1));
        assert_eq!(candidates.next().await, default());
        candidates.found(&default(), true);
        candidates.builder(&change(0));
        assert_eq!(candidates.next().await, default());
        let job = |labels: Value, status: Value| -> Job {
            let job = json!({"metadata": {"name": "j", "namespace": "team", "labels": labels}, "status": status});
            serde_json::from_value(job).unwrap()
        };
        let made = json!({"whittle.dev/builder": "default", "whittle.dev/standby": "true"});
        let ordinary = json!({"whittle.dev/builder": "default"});
        let ended = json!({"conditions": [{"type": "Failed", "status": "True"}]});
        candidates.job(&Event::InitApply(job(ordinary, ended.clone())));
        candidates.job(&Event::Apply(job(made.clone(), json!({}))));
        assert!(candidates.lock().dirty.is_empty());
        candidates.job(&Event::Apply(job(made.clone(), ended)));
        assert_eq!(candidates.next().await, default());
        candidates.job(&Event::InitApply(job(made, json!({}))));
        assert_eq!(candidates.next().await, default());
    }
}
