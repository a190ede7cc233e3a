//! What runners tell of the caches of Builders, between the callback and the reconcile that writes it down.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use whittle_api::CacheStatus;

/// Builders of one namespace of which something is kept.
const OF_A_NAMESPACE: usize = 64;
/// Builders of which something is kept: each takes less than 10 KiB.
const ALL: usize = 1024;
/// What nobody has come for by then is not come for: the Builder is gone, or another installation's.
const LIFE: Duration = Duration::from_secs(600);
/// After what says nothing new a Builder is looked at for more of it this much later.
const QUIET: Duration = Duration::from_secs(60);

/// The last word on each Builder's cache that was not yet written down, by namespace and name.
#[derive(Clone, Default)]
pub struct Caches {
    kept: Arc<Mutex<HashMap<(String, String), Kept>>>,
}

struct Kept {
    cache: CacheStatus,
    since: Instant,
    /// When it was found to say nothing new: it is not told any more.
    passed: Option<Instant>,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Noted {
    /// It is kept, and its Builder is to be looked at.
    New,
    /// It is kept in place of another that waits.
    Again,
    /// There is no room.
    Full,
}

impl Caches {
    /// What was last told of a Builder's cache.
    pub fn told(&self, namespace: &str, builder: &str) -> Option<CacheStatus> {
        let key = (namespace.to_owned(), builder.to_owned());
        let all = self.lock();
        let kept = all.get(&key).filter(|kept| kept.passed.is_none())?;
        Some(kept.cache.clone())
    }

    /// It is written down; what was told since stays.
    pub fn forget(&self, namespace: &str, builder: &str, cache: &CacheStatus) {
        let key = (namespace.to_owned(), builder.to_owned());
        let mut all = self.lock();
        if all.get(&key).is_some_and(|kept| kept.cache == *cache) {
            all.remove(&key);
        }
    }

    /// It says nothing new: for a while nobody is woken for more of it.
    pub fn pass(&self, namespace: &str, builder: &str, cache: &CacheStatus) {
        let key = (namespace.to_owned(), builder.to_owned());
        if let Some(kept) = self.lock().get_mut(&key)
            && kept.cache == *cache
        {
            kept.passed = Some(Instant::now());
        }
    }

    pub(super) fn put(&self, namespace: &str, builder: &str, cache: CacheStatus) -> Noted {
        let mut all = self.lock();
        all.retain(|_, kept| kept.since.elapsed() < LIFE);
        let key = (namespace.to_owned(), builder.to_owned());
        if let Some(kept) = all.get_mut(&key) {
            match kept.passed {
                Some(at) if at.elapsed() < QUIET => {}
                passed => {
                    (kept.cache, kept.passed) = (cache, None);
                    if passed.is_some() {
                        return Noted::New;
                    }
                }
            }
            return Noted::Again;
        }
        let here = all.keys().filter(|(of, _)| of == namespace).count();
        if here >= OF_A_NAMESPACE || all.len() >= ALL {
            return Noted::Full;
        }
        let since = Instant::now();
        let passed = None;
        all.insert(
            key,
            Kept {
                cache,
                since,
                passed,
            },
        );
        Noted::New
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(String, String), Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(bytes: i64) -> CacheStatus {
        let value = serde_json::json!({"bytes": bytes, "measuredAt": "2026-01-01T00:00:00Z"});
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_thousand_builds_wake_their_builder_once_and_the_last_word_is_kept() {
        let caches = Caches::default();
        let new = (0..1000).filter(|n| caches.put("team", "default", cache(*n)) == Noted::New);
        assert_eq!(new.count(), 1);
        assert_eq!(caches.told("team", "default"), Some(cache(999)));
        assert_eq!(caches.told("other", "default"), None);
        // What came while an earlier one was written stays.
        caches.forget("team", "default", &cache(998));
        assert!(caches.told("team", "default").is_some());
        caches.forget("team", "default", &cache(999));
        assert_eq!(caches.told("team", "default"), None);
    }

    #[test]
    fn what_says_nothing_new_wakes_nobody_again_for_a_while() {
        let caches = Caches::default();
        assert_eq!(caches.put("team", "default", cache(1)), Noted::New);
        caches.pass("team", "default", &cache(1));
        assert_eq!(caches.told("team", "default"), None);
        let woken = (0..1000).filter(|_| caches.put("team", "default", cache(1)) == Noted::New);
        assert_eq!(woken.count(), 0);
        assert_eq!(caches.told("team", "default"), None);
    }

    #[test]
    fn one_namespace_takes_no_room_from_another_and_all_have_a_bound() {
        let caches = Caches::default();
        let put = |namespace: &str, n: usize| caches.put(namespace, &n.to_string(), cache(1));
        let kept = (0..1000).filter(|n| put("team", *n) == Noted::New).count();
        assert_eq!(kept, OF_A_NAMESPACE);
        assert_eq!(put("other", 0), Noted::New);
        let more = (0..10_000).filter(|n| put(&n.to_string(), *n) == Noted::New);
        assert_eq!(more.count(), ALL - OF_A_NAMESPACE - 1);
    }
}
