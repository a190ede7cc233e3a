//! A Builder's replicas: how many there are to be, which of them take builds, and when those above may go.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use crate::imagebuild::decide::per_replica;
use crate::names::{CONFIG_DIGEST, RESTARTED_AT};
use crate::placement::desired;
use whittle_api::quantity::duration;
use whittle_api::{Builder, MOST_REPLICAS, ReplicaStatus, ReplicasStatus};

/// What waits for so long has more replicas made: what is over sooner needs none, as one takes as long to start.
const PRESSES: SignedDuration = SignedDuration::from_secs(10);
/// So long the replicas that were added last have to come up before more are.
const STEP: SignedDuration = SignedDuration::from_secs(30);
/// Replicas that are too many go one by one, each after this long, where the Builder never sleeps.
const SPARE: SignedDuration = SignedDuration::from_mins(10);

/// What a Builder's builds ask of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Builds that run, by replica.
    pub running: BTreeMap<i32, usize>,
    /// Builds that wait for their turn.
    pub waiting: usize,
    /// How long the one waits that has waited the longest.
    pub longest: Option<SignedDuration>,
}

/// What spec.autoscale comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scaled {
    /// So many replicas.
    pub desired: i32,
    /// When that was last changed.
    pub scaled_at: Option<Time>,
    /// Since when fewer would do.
    pub spare_since: Option<Time>,
}

/// How many replicas there are to be by now: more at once, at most twice as many at a time; fewer one by one. `awake` is false where the
/// Builder sleeps or is about to: it wakes with the fewest.
pub fn scale(builder: &Builder, load: &Load, awake: bool, now: Timestamp) -> Scaled {
    let status = builder.status.as_ref();
    let known = status
        .and_then(|status| status.replicas.clone())
        .unwrap_or_default();
    let stands = Scaled {
        desired: desired(builder),
        scaled_at: known.scaled_at.clone(),
        spare_since: None,
    };
    let Some(bounds) = &builder.spec.autoscale else {
        return Scaled {
            scaled_at: None,
            ..stands
        };
    };
    let to = |desired: i32| Scaled {
        desired,
        scaled_at: Some(Time(now)),
        spare_since: None,
    };
    if !awake {
        return match stands.desired > bounds.min {
            true => to(bounds.min),
            false => stands,
        };
    }
    let running: usize = load.running.values().sum();
    let needed = (running + load.waiting).div_ceil(per_replica(builder));
    let needed = i32::try_from(needed).unwrap_or(i32::MAX);
    let needed = needed.clamp(bounds.min, bounds.max.max(bounds.min));
    if needed > stands.desired {
        // A queue as long as what runs waits for a whole build: nobody need look how long it has.
        let places = per_replica(builder) * index(stands.desired);
        let presses = load.waiting >= places || load.longest.is_some_and(|it| it >= PRESSES);
        let late = known
            .scaled_at
            .is_none_or(|at| now.duration_since(at.0).abs() >= STEP);
        return match presses && (late || known.ready >= stands.desired) {
            true => to(needed.min(stands.desired.saturating_mul(2))),
            false => stands,
        };
    }
    if needed == stands.desired {
        return stands;
    }
    // A clock may have been set back.
    let since = known.spare_since.map_or(now, |since| since.0).min(now);
    if now.duration_since(since) >= spare(builder) {
        return Scaled {
            spare_since: Some(Time(now)),
            ..to(stands.desired - 1)
        };
    }
    Scaled {
        spare_since: Some(Time(since)),
        ..stands
    }
}

/// How long a replica may be too many.
pub fn spare(builder: &Builder) -> SignedDuration {
    let idle = duration(&builder.spec.idle_timeout);
    if idle.is_zero() { SPARE } else { idle }
}

fn index(replica: i32) -> usize {
    usize::try_from(replica).unwrap_or(0)
}

/// How many replicas the StatefulSet, which has `stands`, is to have: it takes away the last ones, so those on which builds run stay, and
/// those before them.
pub fn size(desired: i32, stands: i32, running: &BTreeMap<i32, usize>) -> i32 {
    let busy = running.iter().filter(|(_, builds)| **builds > 0);
    let last = busy
        .map(|(replica, _)| replica.saturating_add(1))
        .max()
        .unwrap_or(0);
    desired.max(last.min(stands))
}

/// Replicas that a StatefulSet is to have.
pub fn of_set(set: &StatefulSet) -> i32 {
    let spec = set.spec.as_ref();
    spec.and_then(|spec| spec.replicas).unwrap_or(1)
}

/// The number of the replica that this Pod of the set is; none for another one: who may make Pods may give them any label.
pub fn number(pod: &Pod, set: &StatefulSet) -> Option<i32> {
    let uid = set.metadata.uid.as_ref();
    let mut owners = pod.owner_references().iter();
    let owned = owners.any(|it| it.controller == Some(true) && Some(&it.uid) == uid);
    let (name, of) = (pod.name_any(), set.name_any());
    let mut all = (0..MOST_REPLICAS).filter(|_| owned);
    all.find(|number| name == format!("{of}-{number}"))
}

/// True where the Pod is up, and is as the set's template says.
fn takes_builds(pod: &Pod, set: &StatefulSet) -> bool {
    let conditions = pod
        .status
        .iter()
        .flat_map(|it| it.conditions.iter().flatten());
    let mut ready = conditions.filter(|it| it.type_ == "Ready" && it.status == "True");
    let template = set.spec.as_ref().map(|spec| &spec.template);
    let template = template.and_then(|template| template.metadata.as_ref()?.annotations.as_ref());
    let same = |key: &str| {
        let wanted = template.and_then(|all| all.get(key));
        wanted == pod.annotations().get(key)
    };
    pod.metadata.deletion_timestamp.is_none()
        && ready.next().is_some()
        && same(CONFIG_DIGEST)
        && same(RESTARTED_AT)
}

/// How each replica is, given the set's Pods and what was said before. `wakes`: the Builder has just been woken.
pub fn each(
    set: &StatefulSet,
    pods: &[Pod],
    known: &[ReplicaStatus],
    (desired, running): (i32, &BTreeMap<i32, usize>),
    wakes: bool,
    now: Timestamp,
) -> Vec<ReplicaStatus> {
    let all = of_set(set).max(desired).clamp(0, MOST_REPLICAS);
    (0..all)
        .map(|replica| {
            let pod = pods.iter().find(|pod| number(pod, set) == Some(replica));
            let ready = pod.is_some_and(|pod| takes_builds(pod, set));
            let known = known.iter().find(|it| it.replica == replica);
            let since = known.and_then(|it| it.since.clone());
            let since = match known {
                Some(known) if known.ready == ready && !(wakes && since.is_some()) => since,
                None if !ready => None,
                _ => Some(Time(now)),
            };
            let running = running.get(&replica).copied().unwrap_or(0);
            ReplicaStatus {
                replica,
                ready,
                since,
                running: i32::try_from(running).unwrap_or(i32::MAX),
                cache_bytes: known.and_then(|it| it.cache_bytes),
                draining: replica >= desired,
            }
        })
        .collect()
}

/// How many that builds may go to are up.
pub fn ready(all: &[ReplicaStatus]) -> i32 {
    let ready = all.iter().filter(|it| it.ready && !it.draining).count();
    i32::try_from(ready).unwrap_or(i32::MAX)
}

/// The replica that a person wants to know of: the first that is to be up and is not, else the first.
pub fn in_question(set: &StatefulSet, pods: &[Pod]) -> i32 {
    let up = |replica: &i32| {
        let mut pods = pods.iter().filter(|pod| number(pod, set) == Some(*replica));
        pods.any(|pod| takes_builds(pod, set))
    };
    (0..of_set(set).min(MOST_REPLICAS))
        .find(|it| !up(it))
        .unwrap_or(0)
}

/// In the sentence that says that the Builder takes builds: how many of its replicas do, and which are about to go.
pub fn words(status: &ReplicasStatus) -> String {
    let ReplicasStatus { desired, ready, .. } = status;
    let leaving = status.each.iter().filter(|it| it.draining);
    let leaving: Vec<String> = leaving.map(|it| it.replica.to_string()).collect();
    let mut said = match ready < desired {
        true => format!(" on {ready} of {desired} replicas"),
        false => format!(" on {desired} replicas"),
    };
    if *desired == 1 {
        said.clear();
    }
    if !leaving.is_empty() {
        said += &format!(
            "; replica {} goes once its builds have ended",
            leaving.join(", ")
        );
    }
    said
}

#[cfg(test)]
#[path = "replicas_tests.rs"]
mod tests;
