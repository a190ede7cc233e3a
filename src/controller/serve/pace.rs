//! How often the callback asks the API server for anybody: no runner can make it busy for all.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::cluster::credentials::Attempt;

/// One progress of an attempt is written within this time, the others are dropped. Runners send one in two seconds.
const PROGRESS: Duration = Duration::from_secs(1);
/// Callbacks of a namespace that are looked at within a second.
const OF_A_NAMESPACE: u32 = 100;
/// Attempts that are remembered.
const REMEMBERED: usize = 4096;
/// One refusal is logged within this time.
const COMPLAINT: Duration = Duration::from_secs(10);

/// Remembers what was done of late.
#[derive(Default)]
pub(super) struct Pace {
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    attempts: HashMap<Attempt, Instant>,
    namespaces: HashMap<String, (Instant, u32)>,
    /// Attempts that have told their course.
    told: VecDeque<Attempt>,
    complained: Option<Instant>,
}

impl Pace {
    /// True where this namespace may be heard once more.
    pub(super) fn hears(&self, namespace: &str) -> bool {
        let now = Instant::now();
        let mut seen = self.lock();
        let second = Duration::from_secs(1);
        seen.namespaces
            .retain(|_, (since, _)| now.duration_since(*since) < second);
        let entry = seen.namespaces.entry(namespace.to_owned());
        let (_, count) = entry.or_insert((now, 0));
        *count += 1;
        *count <= OF_A_NAMESPACE
    }

    /// True where progress of this attempt may be written.
    pub(super) fn writes(&self, attempt: &Attempt) -> bool {
        let now = Instant::now();
        let mut seen = self.lock();
        seen.attempts
            .retain(|_, since| now.duration_since(*since) < PROGRESS);
        if seen.attempts.contains_key(attempt) || seen.attempts.len() >= REMEMBERED {
            return false;
        }
        seen.attempts.insert(attempt.clone(), now);
        true
    }

    /// True where this attempt has told its course.
    pub(super) fn has_told(&self, attempt: &Attempt) -> bool {
        self.lock().told.contains(attempt)
    }

    /// True where this attempt has not told its course before: a memory of so many attempts, of which the oldest goes.
    pub(super) fn tells(&self, attempt: &Attempt) -> bool {
        let told = &mut self.lock().told;
        if told.contains(attempt) {
            return false;
        }
        if told.len() >= REMEMBERED {
            told.pop_front();
        }
        told.push_back(attempt.clone());
        true
    }

    /// True where a refusal is to be logged: who is refused a thousand times a second fills no log.
    pub(super) fn complains(&self) -> bool {
        let now = Instant::now();
        let mut seen = self.lock();
        let due = seen
            .complained
            .is_none_or(|since| now.duration_since(since) >= COMPLAINT);
        if due {
            seen.complained = Some(now);
        }
        due
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(job: &str) -> Attempt {
        Attempt {
            namespace: "team".into(),
            uid: "u".into(),
            job: job.into(),
        }
    }

    #[test]
    fn progress_that_comes_too_often_is_dropped() {
        let pace = Pace::default();
        assert!(pace.writes(&attempt("a")));
        assert!(!pace.writes(&attempt("a")));
        assert!(pace.writes(&attempt("b")));
    }

    #[test]
    fn a_namespace_that_is_too_loud_is_not_heard_and_others_are() {
        let pace = Pace::default();
        let heard = (0..1000).filter(|_| pace.hears("team")).count();
        assert!(heard < 300, "{heard}");
        assert!(pace.hears("other"));
    }

    #[test]
    fn an_attempt_tells_its_course_once() {
        let pace = Pace::default();
        assert!(pace.tells(&attempt("a")));
        assert!(!pace.tells(&attempt("a")));
        assert!(pace.tells(&attempt("b")));
        assert!((0..REMEMBERED).all(|number| pace.tells(&attempt(&format!("{number}")))));
        assert_eq!(pace.lock().told.len(), REMEMBERED);
    }

    #[test]
    fn refusals_fill_no_log() {
        let pace = Pace::default();
        assert_eq!((0..1000).filter(|_| pace.complains()).count(), 1);
    }
}
