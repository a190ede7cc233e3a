//! When Builders were last used, as far as this process has seen: the Jobs that told of it go with their ImageBuild.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use crate::standby::is_in_advance;
use crate::{names, pods};
use whittle_api::ImageBuild;

/// Builders that are remembered.
const MOST: usize = 10_000;

/// Namespace and name.
type Key = (String, String);

/// The last use of each Builder.
pub struct Used {
    last: Mutex<BTreeMap<Key, Timestamp>>,
    /// What was used before, nobody remembers: no Builder is idle for longer than this.
    since: Timestamp,
}

impl Used {
    /// Nothing seen yet.
    pub fn since(now: Timestamp) -> Self {
        let last = Mutex::default();
        Self { last, since: now }
    }

    /// An ImageBuild was seen, as it is, or as it was when it was deleted: a Builder is in use while an attempt runs
    /// on it, and was when the last one ended.
    pub fn see(&self, build: &ImageBuild, now: Timestamp) {
        let Some(status) = &build.status else { return };
        let current = status.current.as_ref();
        let at = match current.is_some_and(|current| current.started) {
            true => Some(now),
            // A clock that is ahead keeps no Builder awake.
            false => status.completed_at.as_ref().map(|time| time.0.min(now)),
        };
        let Some(at) = at else { return };
        let builder = build.spec.builder_ref.name.clone();
        self.was(build.namespace().unwrap_or_default(), builder, at);
    }

    fn was(&self, namespace: String, builder: String, at: Timestamp) {
        let key = (namespace, builder);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.len() >= MOST && !last.contains_key(&key) {
            // The one that was used the longest ago.
            let oldest = last.iter().min_by_key(|(_, at)| **at);
            if let Some(key) = oldest.map(|(key, _)| key.clone()) {
                last.remove(&key);
            }
        }
        let known = last.entry(key).or_insert(at);
        *known = at.max(*known);
    }

    /// A runner's Job was seen: its Builder was used when it was made, and when it ended.
    pub fn see_job(&self, job: &Job, now: Timestamp) {
        let runs = job.labels().get(names::COMPONENT).map(String::as_str) == Some(names::RUNNER);
        // One that was made in advance uses it once an attempt is carried out by it: its ImageBuild tells of that.
        let runs = runs && !is_in_advance(job);
        let builder = job.labels().get(names::BUILDER_NAME).filter(|_| runs);
        let (Some(builder), Some(at)) = (builder, pods::last_change(job)) else {
            return;
        };
        self.was(
            job.namespace().unwrap_or_default(),
            builder.clone(),
            at.min(now),
        );
    }

    /// When a Builder was last used at the latest.
    pub fn last(&self, namespace: &str, builder: &str) -> Timestamp {
        let key = (namespace.to_owned(), builder.to_owned());
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.get(&key)
            .copied()
            .unwrap_or(self.since)
            .max(self.since)
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use serde_json::json;

    use super::*;
    use crate::fixtures;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_build_that_was_deleted_has_used_its_builder() {
        let used = Used::since(at(100));
        let mut build = fixtures::inline();
        let status =
            json!({"current": {"attempt": 1, "job": "j", "generation": 1, "started": true}});
        build.status = Some(serde_json::from_value(status).unwrap());
        used.see(&build, at(5000));
        // Deleted: nothing of it is left to be looked at.
        assert_eq!(used.last("team", "default"), at(5000));
        assert_eq!(used.last("team", "other"), at(100));
    }

    #[test]
    fn a_runner_that_is_made_in_advance_keeps_no_builder_awake() {
        let used = Used::since(at(100));
        let job = |more: &str| {
            let job = json!({"metadata": {"name": "j", "namespace": "team", "creationTimestamp": "1970-01-01T01:00:00Z",
                "labels": {"whittle.dev/component": "runner", "whittle.dev/builder": "default", (more): "true"}}});
            serde_json::from_value::<Job>(job).unwrap()
        };
        used.see_job(&job(names::STANDBY), at(5000));
        assert_eq!(used.last("team", "default"), at(100));
        used.see_job(&job("x"), at(5000));
        assert_eq!(used.last("team", "default"), at(3600));
    }

    #[test]
    fn a_build_that_waits_does_not_use_its_builder_and_one_that_has_ended_did_until_then() {
        let used = Used::since(at(100));
        let mut build = fixtures::inline();
        let status = json!({"current": {"attempt": 1, "job": "j", "generation": 1}});
        build.status = Some(serde_json::from_value(status).unwrap());
        used.see(&build, at(5000));
        assert_eq!(used.last("team", "default"), at(100));
        let status = build.status.as_mut().unwrap();
        status.current = None;
        status.completed_at = Some(Time(at(3000)));
        used.see(&build, at(5000));
        assert_eq!(used.last("team", "default"), at(3000));
        // An older one does not set it back.
        build.status.as_mut().unwrap().completed_at = Some(Time(at(2000)));
        used.see(&build, at(5000));
        assert_eq!(used.last("team", "default"), at(3000));
    }
}
