//! How long containers have run, by this process's own clock that nobody sets: those of nodes differ from it and from
//! each other.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::jiff::SignedDuration;
use kube::ResourceExt;

/// Longer than any container is asked for: an hour of `healthCheck.timeoutSeconds`, and its preparation.
const FORGOTTEN: Duration = Duration::from_secs(2 * 3600);

/// When containers were first seen to run, by the UID of their Pod. A controller that has just started knows of none: to
/// them it gives their time once more.
#[derive(Default)]
pub struct Ran(Mutex<HashMap<String, Instant>>);

impl Ran {
    /// How long it is since this one was first seen to run, which it is now.
    pub fn of<K: ResourceExt>(&self, pod: &K) -> SignedDuration {
        self.at(pod.uid().unwrap_or_default(), Instant::now())
    }

    fn at(&self, uid: String, now: Instant) -> SignedDuration {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.retain(|_, first| now.duration_since(*first) < FORGOTTEN);
        let first = *seen.entry(uid).or_insert(now);
        SignedDuration::try_from(now.duration_since(first)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_each_begins_when_it_is_first_seen_and_is_forgotten_after_hours() {
        let (ran, start) = (Ran::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(ran.at("a".into(), start), SignedDuration::ZERO);
        assert_eq!(ran.at("a".into(), after(5)), SignedDuration::from_secs(5));
        assert_eq!(ran.at("b".into(), after(6)), SignedDuration::ZERO);
        assert_eq!(ran.at("b".into(), after(9000)), SignedDuration::ZERO);
        assert_eq!(ran.0.lock().unwrap().len(), 1);
    }
}
