//! Early reports, between the callback and the reconcile that believes them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use whittle_build::report::Report;

/// Bytes of all reports of one namespace. A report is seldom over 64 KiB, and stands here for milliseconds.
const NAMESPACE_BYTES: usize = 1024 * 1024;
/// Bytes of all reports.
const BYTES: usize = 16 * 1024 * 1024;
/// A report that nobody has come for by then is not come for: the termination message has it too.
const LIFE: Duration = Duration::from_secs(600);

/// Early reports, by namespace and Job, until the status holds them. The first one of a Job is kept.
#[derive(Clone, Default)]
pub struct EarlyReports {
    kept: Arc<Mutex<HashMap<(String, String), Kept>>>,
}

struct Kept {
    report: Report,
    bytes: usize,
    since: Instant,
}

/// What became of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Put {
    /// It is kept.
    New,
    /// One of the same Job is kept already.
    Again,
    /// There is no room.
    Full,
}

impl EarlyReports {
    /// What the runner of this Job has reported.
    pub fn report(&self, namespace: &str, job: &str) -> Option<Report> {
        self.lock()
            .get(&(namespace.to_owned(), job.to_owned()))
            .filter(|kept| kept.since.elapsed() < LIFE)
            .map(|kept| kept.report.clone())
    }

    /// The status holds the result, or another attempt has begun: the early report has done its work.
    pub fn forget(&self, namespace: &str, job: &str) {
        self.lock().remove(&(namespace.to_owned(), job.to_owned()));
    }

    /// Keeps a report that had so many `bytes` as JSON.
    pub(super) fn put(&self, namespace: &str, job: &str, report: Report, bytes: usize) -> Put {
        let mut all = self.lock();
        all.retain(|_, kept| kept.since.elapsed() < LIFE);
        let key = (namespace.to_owned(), job.to_owned());
        if all.contains_key(&key) {
            return Put::Again;
        }
        let (mut here, mut sum) = (bytes, bytes);
        for ((of, _), kept) in all.iter() {
            sum += kept.bytes;
            here += if of == namespace { kept.bytes } else { 0 };
        }
        if here > NAMESPACE_BYTES || sum > BYTES {
            return Put::Full;
        }
        let since = Instant::now();
        let kept = Kept {
            report,
            bytes,
            since,
        };
        all.insert(key, kept);
        Put::New
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(String, String), Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use whittle_api::FailureReason;
    use whittle_build::report::failed;

    fn report(message: &str) -> Report {
        failed(FailureReason::StepFailed, message.into())
    }

    #[test]
    fn a_report_is_kept_until_it_is_forgotten() {
        let early_reports = EarlyReports::default();
        assert_eq!(early_reports.put("team", "job", report("m"), 100), Put::New);
        assert_eq!(early_reports.report("team", "job"), Some(report("m")));
        assert_eq!(early_reports.report("other", "job"), None);
        early_reports.forget("team", "job");
        assert_eq!(early_reports.report("team", "job"), None);
    }

    #[test]
    fn the_first_report_of_an_attempt_is_the_one() {
        let early_reports = EarlyReports::default();
        early_reports.put("team", "job", report("first"), 100);
        assert_eq!(
            early_reports.put("team", "job", report("second"), 100),
            Put::Again
        );
        assert_eq!(early_reports.report("team", "job"), Some(report("first")));
    }

    #[test]
    fn one_namespace_takes_no_room_from_another() {
        let early_reports = EarlyReports::default();
        let large = NAMESPACE_BYTES / 4;
        for n in 0..4 {
            assert_eq!(
                early_reports.put("team", &n.to_string(), report("m"), large),
                Put::New
            );
        }
        assert_eq!(
            early_reports.put("team", "more", report("m"), large),
            Put::Full
        );
        assert_eq!(
            early_reports.put("other", "job", report("m"), large),
            Put::New
        );
    }

    #[test]
    fn all_reports_together_have_a_bound() {
        let early_reports = EarlyReports::default();
        let put = |n: usize| early_reports.put(&n.to_string(), "job", report("m"), NAMESPACE_BYTES);
        let kept = (0..100).filter(|n| put(*n) == Put::New).count();
        assert_eq!(kept, BYTES / NAMESPACE_BYTES);
    }
}
