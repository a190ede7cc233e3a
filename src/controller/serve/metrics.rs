//! Counters for Prometheus. No label holds a name: their number stays bounded.

use std::sync::Arc;

use prometheus_client::encoding::{EncodeLabelSet, text::encode};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// All metrics of the controller.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    reconciles: Family<Kind, Counter>,
    errors: Family<Kind, Counter>,
    builds: Family<Outcome, Counter>,
    attempts: Counter,
    left_alone: Family<Kind, Counter>,
    refused: Family<Refusal, Counter>,
    disagreements: Counter,
    seconds: Histogram,
    queued: Histogram,
    profiles_refused: Counter,
    images_not_known: Gauge,
    watch_errors: Family<Watched, Counter>,
    leader: Gauge,
    notifications: Family<Outcome, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Watched {
    kind: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    result: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Refusal {
    reason: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("whittle");
        let reconciles = Family::<Kind, Counter>::default();
        let errors = Family::<Kind, Counter>::default();
        let builds = Family::<Outcome, Counter>::default();
        let attempts = Counter::default();
        let left_alone = Family::<Kind, Counter>::default();
        let refused = Family::<Refusal, Counter>::default();
        let disagreements = Counter::default();
        let buckets = [1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0];
        let seconds = Histogram::new(buckets);
        let queued = Histogram::new(buckets);
        registry.register("reconciles", "Reconciles, by kind", reconciles.clone());
        registry.register(
            "reconcile_errors",
            "Reconciles that ended with an error, by kind",
            errors.clone(),
        );
        registry.register("builds", "Builds that ended, by result", builds.clone());
        registry.register("attempts", "Runner Jobs started", attempts.clone());
        registry.register(
            "left_alone",
            "Objects left alone because they are another installation's, each time they are looked at",
            left_alone.clone(),
        );
        registry.register(
            "callbacks_refused",
            "Callbacks of runners that were rejected, by reason",
            refused.clone(),
        );
        registry.register(
            "reports_disagreed",
            "Early reports that differ from the termination message",
            disagreements.clone(),
        );
        registry.register(
            "build_duration_seconds",
            "Seconds from the start of a build's first attempt to its end",
            seconds.clone(),
        );
        registry.register(
            "build_queued_seconds",
            "Seconds that a build waited before its first attempt, in the queue or for its builder",
            queued.clone(),
        );
        let profiles_refused = Counter::default();
        registry.register(
            "probe_profiles_refused",
            "ProbeProfiles that the API server rejected",
            profiles_refused.clone(),
        );
        let images_not_known = Gauge::default();
        registry.register(
            "probe_guard_images_not_known",
            "ImageBuilds whose image is unknown to the probe guard; their condition ProbeProfile \
                says why",
            images_not_known.clone(),
        );
        let watch_errors = Family::<Watched, Counter>::default();
        registry.register(
            "watch_errors",
            "Errors of watches of the API server, by kind; each is retried",
            watch_errors.clone(),
        );
        let leader = Gauge::default();
        registry.register(
            "leader",
            "1 where this process leads, 0 where it stands by",
            leader.clone(),
        );
        let notifications = Family::<Outcome, Counter>::default();
        registry.register(
            "notifications",
            "CloudEvents for notifications.sink: Delivered, Retried (each try that failed), Rejected (by the sink, or \
                given up), Dropped (too many waited)",
            notifications.clone(),
        );
        Self {
            registry: Arc::new(registry),
            reconciles,
            errors,
            builds,
            attempts,
            left_alone,
            refused,
            disagreements,
            seconds,
            queued,
            profiles_refused,
            images_not_known,
            watch_errors,
            leader,
            notifications,
        }
    }
}

impl Metrics {
    /// A reconcile has begun.
    pub fn reconcile(&self, kind: &'static str) {
        self.reconciles.get_or_create(&Kind { kind }).inc();
    }

    /// A reconcile has ended with an error.
    pub fn error(&self, kind: &'static str) {
        self.errors.get_or_create(&Kind { kind }).inc();
    }

    /// A runner Job was started.
    pub fn attempt(&self) {
        self.attempts.inc();
    }

    /// An object is another installation's.
    pub fn left_alone(&self, kind: &'static str) {
        self.left_alone.get_or_create(&Kind { kind }).inc();
    }

    /// A callback was not taken; `reason` is from a closed list.
    pub fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&Refusal { reason }).inc();
    }

    /// A termination message has contradicted an early report.
    pub fn disagreed(&self) {
        self.disagreements.inc();
    }

    /// A build has ended: `result` is `Succeeded` or a failure's reason, both from closed lists.
    pub fn built(&self, result: &str, seconds: Option<i64>, queued: Option<i64>) {
        self.builds
            .get_or_create(&Outcome {
                result: result.to_owned(),
            })
            .inc();
        if let Some(seconds) = seconds {
            self.seconds.observe(seconds as f64);
        }
        if let Some(queued) = queued {
            self.queued.observe(queued as f64);
        }
    }

    /// The API server has not taken a ProbeProfile.
    pub fn profile_refused(&self) {
        self.profiles_refused.inc();
    }

    /// So many ImageBuilds have an image that the probe guard does not know.
    pub fn images_not_known(&self, count: usize) {
        self.images_not_known
            .set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// A watch of this kind has failed.
    pub fn watch_error(&self, kind: &str) {
        let kind = kind.to_owned();
        self.watch_errors.get_or_create(&Watched { kind }).inc();
    }

    /// What has become of a CloudEvent, or of a try to deliver one; `result` is from a closed list.
    pub fn notification(&self, result: &'static str) {
        let result = result.to_owned();
        self.notifications.get_or_create(&Outcome { result }).inc();
    }

    /// This process leads.
    pub fn leads(&self) {
        self.leader.set(1);
    }

    /// In the OpenMetrics text format.
    pub fn text(&self) -> String {
        let mut text = String::new();
        if encode(&mut text, &self.registry).is_err() {
            tracing::warn!("cannot write metrics");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_stands_in_the_text() {
        let metrics = Metrics::default();
        metrics.reconcile("ImageBuild");
        metrics.reconcile("ImageBuild");
        metrics.built("StepFailed", Some(3), Some(40));
        let text = metrics.text();
        assert!(
            text.contains(r#"whittle_reconciles_total{kind="ImageBuild"} 2"#),
            "{text}"
        );
        assert!(
            text.contains(r#"whittle_builds_total{result="StepFailed"} 1"#),
            "{text}"
        );
        for sum in [
            "whittle_build_duration_seconds_sum 3.0",
            "whittle_build_queued_seconds_sum 40.0",
        ] {
            assert!(text.contains(sum), "{text}");
        }
    }
}
