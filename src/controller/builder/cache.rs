//! When what a runner has told of a Builder's cache is written down: 1,000 builds are not 1,000 writes.

use std::time::Duration;

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use crate::sharing;
use whittle_api::{Builder, BuilderStatus, CacheKinds, CacheStatus};

/// It is written at most this often.
const OFTEN: SignedDuration = SignedDuration::from_secs(60);
/// What is nearly the same is, so that it is seen to hold.
const SELDOM: SignedDuration = SignedDuration::from_secs(3600);

/// What comes of what was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is in the status.
    Written,
    /// It says nothing new.
    Passed,
    /// It is looked at again after this long.
    Waits(Duration),
}

/// Puts what was told of the cache into the status, where it is due.
pub fn put(
    status: &mut BuilderStatus,
    builder: &Builder,
    told: &CacheStatus,
    now: Timestamp,
) -> Fate {
    let emptied = status.emptied.as_ref();
    if !sharing::has_daemon(builder) || emptied.is_some_and(|it| it.at.0 > told.measured_at.0) {
        return Fate::Passed;
    }
    if let Some(known) = &status.cache {
        let age = now.duration_since(known.measured_at.0);
        // Another clock may have been ahead.
        let left = (OFTEN - age).min(OFTEN);
        if left.is_positive() {
            return Fate::Waits(left.unsigned_abs());
        }
        if age < SELDOM && !differs(known, told) {
            return Fate::Passed;
        }
    }
    let replicas = status.replicas.iter_mut();
    let mut each = replicas.flat_map(|replicas| &mut replicas.each);
    if let Some(one) = each.find(|it| Some(it.replica) == told.replica) {
        one.cache_bytes = Some(told.bytes);
    }
    status.cache = Some(told.clone());
    Fate::Written
}

/// True where a size has changed by a hundredth, or other mounts are the largest.
fn differs(known: &CacheStatus, told: &CacheStatus) -> bool {
    let kinds = |all: &CacheKinds| [all.layers, all.cache_mounts, all.sources, all.other];
    let sizes = kinds(&known.by_kind).into_iter().zip(kinds(&told.by_kind));
    // What is little of all of it is not looked at more closely than that.
    let least = known.bytes / 100;
    let much = |from: i64, to: i64| from.abs_diff(to) > (from / 100).max(least).unsigned_abs();
    known.replica != told.replica
        || known.bytes.abs_diff(told.bytes) > least.unsigned_abs()
        || sizes.into_iter().any(|(from, to)| much(from, to))
        || known.mounts.len() != told.mounts.len()
        || known.mounts.iter().any(|mount| {
            let mut same = told.mounts.iter().filter(|it| it.id == mount.id);
            !same.any(|it| it.empty == mount.empty && !much(mount.bytes, it.bytes))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;
    use whittle_api::{CacheMountStatus, Sharing};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn cache(bytes: i64, seconds: i64) -> CacheStatus {
        let value = serde_json::json!({"bytes": bytes, "byKind": {"layers": bytes},
            "measuredAt": at(seconds).to_string()});
        serde_json::from_value(value).unwrap()
    }

    /// What comes of one cache after another, told so many seconds after the first.
    fn fate(known: CacheStatus, told: &CacheStatus, seconds: i64) -> Fate {
        let mut status = BuilderStatus {
            cache: Some(known),
            ..BuilderStatus::default()
        };
        put(&mut status, &fixtures::builder(), told, at(seconds))
    }

    #[test]
    fn the_first_word_is_written_at_once_and_the_next_after_a_minute() {
        let mut status = BuilderStatus::default();
        let first = cache(1000, 0);
        assert_eq!(
            put(&mut status, &fixtures::builder(), &first, at(0)),
            Fate::Written
        );
        assert_eq!(status.cache, Some(first.clone()));
        let next = cache(2000, 10);
        let wait = Fate::Waits(Duration::from_secs(50));
        assert_eq!(fate(first.clone(), &next, 10), wait);
        assert_eq!(fate(first.clone(), &next, 60), Fate::Written);
        // The clock was set back.
        let wait = Fate::Waits(Duration::from_secs(60));
        assert_eq!(fate(first, &next, -9000), wait);
    }

    #[test]
    fn a_thousand_builds_in_ten_minutes_are_ten_writes_at_most() {
        let mut status = BuilderStatus::default();
        let builder = fixtures::builder();
        let writes = (0..1000_i64).filter(|n| {
            let seconds = n * 600 / 1000;
            let told = cache(1 << (n % 40), seconds);
            put(&mut status, &builder, &told, at(seconds)) == Fate::Written
        });
        assert!(writes.count() <= 10);
    }

    #[test]
    fn what_differs_by_less_than_a_hundredth_is_written_once_an_hour() {
        let (known, told) = (cache(100_000, 0), cache(100_900, 100));
        assert_eq!(fate(known.clone(), &told, 100), Fate::Passed);
        assert_eq!(fate(known.clone(), &told, 3600), Fate::Written);
        assert_eq!(fate(known, &cache(102_000, 100), 100), Fate::Written);
    }

    #[test]
    fn a_mount_that_fills_is_news_and_one_that_is_little_of_all_is_not() {
        let with = |bytes: i64, empty: bool| {
            let mut cache = cache(10_000_000, 0);
            cache.mounts = vec![CacheMountStatus {
                id: "/c".into(),
                bytes,
                empty,
                ..CacheMountStatus::default()
            }];
            cache
        };
        assert_eq!(
            fate(with(4096, true), &with(9000, false), 100),
            Fate::Written
        );
        assert_eq!(
            fate(with(5000, false), &with(9000, false), 100),
            Fate::Passed
        );
        assert_eq!(
            fate(with(5000, false), &with(500_000, false), 100),
            Fate::Written
        );
    }

    #[test]
    fn a_builder_that_others_are_made_after_has_no_cache() {
        let mut builder = fixtures::builder();
        builder.spec.sharing = Sharing::ImageBuild;
        let mut status = BuilderStatus::default();
        assert_eq!(
            put(&mut status, &builder, &cache(1, 0), at(0)),
            Fate::Passed
        );
        assert_eq!(status.cache, None);
    }
}
