//! How many builds run and wait now, and how builders are: counted from what the watches know, when somebody asks.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;
use whittle_api::{Builder, ImageBuild, READY, Reason, find};

use crate::imagebuild::decide::is_settled;
use crate::placement;

/// What waiting builds are told apart by; what else they may wait for is [`OTHER`].
pub const WAITS: [Reason; 9] = [
    Reason::Queued,
    Reason::WaitingForBuilder,
    Reason::WaitingForEarlierPod,
    Reason::Superseding,
    Reason::Retrying,
    Reason::Suspended,
    Reason::JobSuspended,
    Reason::Unschedulable,
    Reason::QuotaExceeded,
];
/// Whatever has no label of its own.
pub const OTHER: &str = "Other";
/// How builders are told apart.
pub const STATES: [&str; 4] = ["Awake", "Waking", "Asleep", OTHER];
/// How their replicas are told apart.
pub const REPLICAS: [&str; 2] = ["Ready", "Down"];

/// What there is now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    /// Builds whose attempt is under way.
    pub running: usize,
    /// Builds that are due and wait, by the reason in their status.
    pub waiting: BTreeMap<&'static str, usize>,
    /// Seconds since which the oldest of those waits for its turn, its builder or a node.
    pub oldest: f64,
    /// Builders, by how they are.
    pub builders: BTreeMap<&'static str, usize>,
    /// Bytes of the builders' caches as they were measured last.
    pub cache: i64,
    /// Replicas of builders that are awake, by whether they take builds.
    pub replicas: BTreeMap<&'static str, usize>,
}

impl Figures {
    /// Counts. `builds`: those that are not settled, at least.
    pub fn of<'a>(
        builds: impl Iterator<Item = &'a ImageBuild>,
        builders: impl Iterator<Item = &'a Builder>,
        now: Timestamp,
    ) -> Self {
        let mut found = Self::default();
        for build in builds {
            found.build(build, now);
        }
        for builder in builders {
            let status = builder.status.as_ref();
            let state = match status.and_then(whittle_api::BuilderStatus::state) {
                Some(Reason::Ready) => "Awake",
                Some(Reason::Idle) => "Asleep",
                Some(Reason::Starting) => "Waking",
                _ => OTHER,
            };
            *found.builders.entry(state).or_default() += 1;
            let replicas = status.and_then(|it| it.replicas.as_ref());
            if let Some(replicas) = replicas.filter(|_| state != "Asleep") {
                let number = |n: i32| usize::try_from(n).unwrap_or(0);
                let (ready, all) = (number(replicas.ready), number(replicas.desired));
                *found.replicas.entry("Ready").or_default() += ready;
                *found.replicas.entry("Down").or_default() += all.saturating_sub(ready);
            }
            found.cache = found.cache.saturating_add(cache_of(builder));
        }
        found
    }

    fn build(&mut self, build: &ImageBuild, now: Timestamp) {
        if build.metadata.deletion_timestamp.is_some() || is_settled(build) {
            return;
        }
        let Some(status) = &build.status else { return };
        let waiting = status.waiting();
        let current = status.current.as_ref();
        if waiting.is_none() {
            self.running += usize::from(current.is_some_and(|current| current.started));
            return;
        }
        let reason = waiting.map(|it| it.reason);
        let known = reason.filter(|reason| WAITS.contains(reason));
        let label = known.map_or(OTHER, |reason| reason.as_str());
        *self.waiting.entry(label).or_default() += 1;
        // What its own namespace lacks, a Secret for example, says nothing of the installation.
        let of_the_installation = matches!(
            reason,
            Some(Reason::Queued | Reason::WaitingForBuilder | Reason::Unschedulable)
        );
        let since = find(&status.conditions, READY).map(|it| &it.last_transition_time);
        if let Some(since) = since.filter(|_| of_the_installation) {
            let waited = now.duration_since(since.0).as_secs_f64();
            self.oldest = self.oldest.max(waited);
        }
    }
}

/// Bytes of the caches of a Builder's replicas, as far as each was measured.
fn cache_of(builder: &Builder) -> i64 {
    let status = builder.status.as_ref();
    let each = placement::each(builder).iter();
    let each: Vec<i64> = each.filter_map(|it| it.cache_bytes).collect();
    if each.is_empty() {
        let cache = status.and_then(|it| it.cache.as_ref());
        return cache.map_or(0, |it| it.bytes.max(0));
    }
    each.into_iter()
        .fold(0, |all, one| all.saturating_add(one.max(0)))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn build(status: Value) -> ImageBuild {
        serde_json::from_value(json!({"apiVersion": "whittle.dev/v1alpha1", "kind": "ImageBuild",
            "metadata": {"name": "hello", "namespace": "team", "generation": 1},
            "spec": {"source": {"inline": {"files": {}}}, "output": {"image": "registry.example.com/hello"}}, "status": status}))
        .unwrap()
    }

    fn waits(reason: &str, since: &str) -> ImageBuild {
        let ready = json!({"type": "Ready", "status": "Unknown", "reason": reason, "message": "", "lastTransitionTime": since});
        let current = json!({"attempt": 1, "job": "hello-1", "generation": 1, "started": false, "waiting": {"reason": reason}});
        build(json!({"conditions": [ready], "current": current}))
    }

    #[test]
    fn builds_are_counted_by_what_they_wait_for_and_the_oldest_is_known() {
        let runs = build(json!({"startedAt": "2026-01-01T00:00:00Z",
            "current": {"attempt": 1, "job": "hello-1", "generation": 1, "started": true}}));
        let builds = [
            runs,
            waits("Queued", "2026-01-01T00:00:10Z"),
            waits("Queued", "2026-01-01T00:00:40Z"),
            waits("SecretNotFound", "2026-01-01T00:00:50Z"),
            waits("Suspended", "2025-01-01T00:00:00Z"),
            build(Value::Null),
        ];
        let now: Timestamp = "2026-01-01T00:01:00Z".parse().unwrap();
        let found = Figures::of(builds.iter(), [].iter(), now);
        assert_eq!(found.running, 1);
        let waiting: Vec<_> = found.waiting.iter().map(|(at, n)| (*at, *n)).collect();
        assert_eq!(waiting, [("Other", 1), ("Queued", 2), ("Suspended", 1)]);
        assert!((found.oldest - 50.0).abs() < 0.001, "{}", found.oldest);
    }

    #[test]
    fn builders_are_counted_by_how_they_are_and_their_caches_added() {
        let builder = |reason: &str, bytes: i64| -> Builder {
            serde_json::from_value(json!({"apiVersion": "whittle.dev/v1alpha1", "kind": "Builder", "metadata": {"name": "default"}, "spec": {},
                "status": {"state": reason, "cache": {"bytes": bytes, "measuredAt": "2026-01-01T00:00:00Z"}, "replicas": {"desired": 3, "ready": 2}}}))
            .unwrap()
        };
        let builders = [
            builder("Ready", 100),
            builder("Idle", 20),
            builder("PodSecurity", -5),
        ];
        let found = Figures::of([].iter(), builders.iter(), Timestamp::UNIX_EPOCH);
        let states: Vec<_> = found.builders.iter().map(|(at, n)| (*at, *n)).collect();
        assert_eq!(states, [("Asleep", 1), ("Awake", 1), ("Other", 1)]);
        assert_eq!(found.cache, 120);
        let replicas: Vec<_> = found.replicas.iter().map(|(at, n)| (*at, *n)).collect();
        assert_eq!(replicas, [("Down", 2), ("Ready", 4)], "one sleeps");
    }

    #[test]
    fn the_caches_of_all_replicas_are_added() {
        let builder = json!({"apiVersion": "whittle.dev/v1alpha1", "kind": "Builder", "metadata": {"name": "default"}, "spec": {"replicas": 2},
            "status": {"cache": {"bytes": 100, "replica": 1, "measuredAt": "2026-01-01T00:00:00Z"}, "replicas": {"desired": 2, "ready": 2, "each": [
                {"replica": 0, "cacheBytes": 20}, {"replica": 1, "cacheBytes": 100}]}}});
        let builders: [Builder; 1] = [serde_json::from_value(builder).unwrap()];
        let found = Figures::of([].iter(), builders.iter(), Timestamp::UNIX_EPOCH);
        assert_eq!(found.cache, 120);
    }
}
