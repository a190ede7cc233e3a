//! Metrics for Prometheus. No label holds a name, but where namespaces are asked for: their number stays bounded. All of them are
//! there from the start, at 0, so that the first failure is an increase, too.

mod figures;
mod process;
mod tenants;

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};

use crate::notify::Receiver;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use whittle_api::{Phases, Reason, Steps};

pub use figures::Figures;
use figures::{OTHER, REPLICAS, STATES, WAITS};
use process::Process;
use tenants::Tenants;

/// Kinds that are reconciled.
const KINDS: [&str; 2] = ["ImageBuild", "Builder"];
/// Why callbacks, watchers and webhooks are not heard.
const REFUSALS: [&str; 16] = [
    "ApiServer",
    "Body",
    "Full",
    "NoCredential",
    "NoLeader",
    "NotRunning",
    "OtherAttempt",
    "Slow",
    "Stopping",
    "TooMany",
    "TooManyConnections",
    "Webhook",
    "WebhookBody",
    "WebhookEarly",
    "WebhookSignature",
    "WebhookTooMany",
];
/// Some phases take milliseconds, others the time of a build.
const PHASE_SECONDS: [f64; 13] = [
    0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 180.0, 600.0, 1800.0,
];
/// Steps of one build that are counted at most.
const STEPS: i32 = 10_000;
/// What becomes of CloudEvents, and of traces.
const TOLD: [&str; 4] = ["Delivered", "Dropped", "Rejected", "Retried"];

/// Says what there is now, each time metrics are asked for.
type Look = Box<dyn Fn() -> Figures + Send + Sync>;

/// All metrics of the controller.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    look: Arc<OnceLock<Look>>,
    process: Process,
    running: Gauge,
    waiting: Family<Refusal, Gauge>,
    oldest: Gauge<f64, AtomicU64>,
    builders: Family<State, Gauge>,
    replicas: Family<State, Gauge>,
    cache: Gauge,
    steps: Family<Cached, Counter>,
    reconciles: Family<Kind, Counter>,
    errors: Family<Kind, Counter>,
    builds: Family<Outcome, Counter>,
    attempts: Counter,
    adopted: Counter,
    standbys: Gauge,
    left_alone: Family<Kind, Counter>,
    refused: Family<Refusal, Counter>,
    disagreements: Counter,
    seconds: Histogram,
    queued: Histogram,
    phases: Family<Phase, Histogram, fn() -> Histogram>,
    profiles_refused: Counter,
    images_not_known: Gauge,
    watch_errors: Family<Watched, Counter>,
    leader: Gauge,
    notifications: Family<Outcome, Counter>,
    traces: Family<Outcome, Counter>,
    pushed: Counter,
    tenants: Option<Tenants>,
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
struct Cached {
    cached: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct State {
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Phase {
    phase: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Refusal {
    reason: &'static str,
}

/// One runner that waits.
pub(super) struct Standby(Gauge);

impl Drop for Standby {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new(false)
    }
}

impl Metrics {
    /// `tenants`: each namespace that builds has series of its own.
    pub fn new(tenants: bool) -> Self {
        let mut all = Registry::default();
        let process = Process::new(&mut all);
        let registry = all.sub_registry_with_prefix("whittle");
        let version = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The version of this program", version);
        let reconciles = Family::<Kind, Counter>::default();
        let errors = Family::<Kind, Counter>::default();
        let builds = Family::<Outcome, Counter>::default();
        let attempts = Counter::default();
        let adopted = Counter::default();
        let standbys = Gauge::default();
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
            "attempts_in_advance",
            "Those of them whose Job was made in advance, and waited (spec.standby of the Builder)",
            adopted.clone(),
        );
        registry.register(
            "runners_waiting",
            "Runners that were made in advance and wait for their build now",
            standbys.clone(),
        );
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
        let phases: Family<Phase, Histogram, fn() -> Histogram> =
            Family::new_with_constructor(|| Histogram::new(PHASE_SECONDS));
        registry.register(
            "build_phase_seconds",
            "Seconds of the last attempt of builds that ended, by phase: start (whole seconds), source, solve, push, \
                readBack, check, tag",
            phases.clone(),
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
        let traces = Family::<Outcome, Counter>::default();
        registry.register(
            "traces",
            "Messages to traces.otlp, one for each attempt and one for each end of a build: as notifications",
            traces.clone(),
        );
        let running = Gauge::default();
        registry.register(
            "builds_running",
            "Builds whose attempt is under way",
            running.clone(),
        );
        let waiting = Family::<Refusal, Gauge>::default();
        registry.register(
            "builds_waiting",
            "Builds that are due and wait, by the reason in their status",
            waiting.clone(),
        );
        let oldest = Gauge::<f64, AtomicU64>::default();
        registry.register(
            "builds_waiting_oldest_seconds",
            "Seconds since which the oldest build waits for its turn, its builder or a node",
            oldest.clone(),
        );
        let builders = Family::<State, Gauge>::default();
        registry.register("builders", "Builders, by how they are", builders.clone());
        let replicas = Family::<State, Gauge>::default();
        registry.register(
            "builder_replicas",
            "Replicas of builders that are awake, by whether they take builds",
            replicas.clone(),
        );
        let cache = Gauge::default();
        registry.register(
            "builder_cache_bytes",
            "Bytes of the caches of all builders as they were measured last",
            cache.clone(),
        );
        let steps = Family::<Cached, Counter>::default();
        registry.register(
            "build_steps",
            "Steps of builds that ended, by whether the builder had them in its cache",
            steps.clone(),
        );
        let pushed = Counter::default();
        registry.register(
            "image_bytes",
            "Bytes of the images that builds pushed, compressed, all platforms, with the layers that the registry had",
            pushed.clone(),
        );
        let tenants = tenants.then(|| Tenants::new(registry));
        for kind in KINDS {
            reconciles.get_or_create(&Kind { kind }).inc_by(0);
            errors.get_or_create(&Kind { kind }).inc_by(0);
            left_alone.get_or_create(&Kind { kind }).inc_by(0);
        }
        for reason in REFUSALS {
            refused.get_or_create(&Refusal { reason }).inc_by(0);
        }
        for result in TOLD.map(str::to_owned) {
            for family in [&notifications, &traces] {
                let result = result.clone();
                family.get_or_create(&Outcome { result }).inc_by(0);
            }
        }
        let ends = |reason: &Reason| {
            matches!(
                reason,
                Reason::Succeeded | Reason::RolledBack | Reason::Superseded | Reason::Failure(_)
            )
        };
        for result in Reason::all().filter(ends) {
            let result = result.as_str().to_owned();
            builds.get_or_create(&Outcome { result }).inc_by(0);
        }
        for (phase, _) in Phases::default().named() {
            drop(phases.get_or_create(&Phase { phase }));
        }
        for cached in ["true", "false"] {
            steps.get_or_create(&Cached { cached }).inc_by(0);
        }
        let found = Self {
            registry: Arc::new(all),
            look: Arc::default(),
            process,
            running,
            waiting,
            oldest,
            builders,
            replicas,
            cache,
            steps,
            reconciles,
            errors,
            builds,
            attempts,
            adopted,
            standbys,
            left_alone,
            refused,
            disagreements,
            seconds,
            queued,
            phases,
            profiles_refused,
            images_not_known,
            watch_errors,
            leader,
            notifications,
            traces,
            pushed,
            tenants,
        };
        found.show(&Figures::default());
        found
    }

    /// A reconcile has begun.
    pub fn reconcile(&self, kind: &'static str) {
        self.reconciles.get_or_create(&Kind { kind }).inc();
    }

    /// A reconcile has ended with an error.
    pub fn error(&self, kind: &'static str) {
        self.errors.get_or_create(&Kind { kind }).inc();
    }

    /// A runner Job was started in this namespace.
    pub fn attempt(&self, namespace: &str) {
        self.attempts.inc();
        if let Some(tenants) = &self.tenants {
            tenants.begin(namespace);
        }
    }

    /// That one was made in advance.
    pub fn adopted(&self) {
        self.adopted.inc();
    }

    /// A runner that was made in advance waits, until this is dropped.
    pub(super) fn standby(&self) -> Standby {
        self.standbys.inc();
        Standby(self.standbys.clone())
    }

    /// An object is another installation's.
    pub fn left_alone(&self, kind: &'static str) {
        self.left_alone.get_or_create(&Kind { kind }).inc();
    }

    /// A callback was not taken; `reason` is from a closed list.
    pub fn refused(&self, reason: &'static str) {
        debug_assert!(REFUSALS.contains(&reason), "{reason} is not in the list");
        self.refused.get_or_create(&Refusal { reason }).inc();
    }

    /// A termination message has contradicted an early report.
    pub fn disagreed(&self) {
        self.disagreements.inc();
    }

    /// A build of this namespace has ended: `result` is `Succeeded` or a failure's reason, both from closed lists.
    pub fn built(&self, namespace: &str, result: &str, seconds: Option<i64>, queued: Option<i64>) {
        if let Some(tenants) = &self.tenants {
            tenants.end(namespace, result, seconds, queued);
        }
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

    /// A build has pushed images of these sizes, in bytes, one for each platform.
    pub fn pushed(&self, sizes: impl Iterator<Item = i64>) {
        // A runner's word: no more than a registry holds.
        let sizes = sizes.map(|size| size.clamp(0, 1 << 40).unsigned_abs());
        self.pushed.inc_by(sizes.sum());
    }

    /// The steps of a build that has ended.
    pub fn steps(&self, steps: Steps) {
        // A runner's word: bounded, whatever it says.
        let total = steps.total.clamp(0, STEPS);
        let cached = steps.cached.clamp(0, total);
        let (cached, rest) = (cached.unsigned_abs(), (total - cached).unsigned_abs());
        for (label, count) in [("true", cached), ("false", rest)] {
            let counter = self.steps.get_or_create(&Cached { cached: label });
            counter.inc_by(u64::from(count));
        }
    }

    /// Where the time of a build that has ended went.
    pub fn phases(&self, phases: &Phases) {
        for (phase, time) in phases.named() {
            if let Some(time) = time {
                let seconds = time as f64 / 1000.0;
                self.phases.get_or_create(&Phase { phase }).observe(seconds);
            }
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

    /// What has become of a message to this receiver, or of a try to deliver one; `result` is from a closed list.
    pub fn told(&self, receiver: Receiver, result: &'static str) {
        let result = result.to_owned();
        let family = match receiver {
            Receiver::Events => &self.notifications,
            Receiver::Traces => &self.traces,
        };
        family.get_or_create(&Outcome { result }).inc();
    }

    /// This process leads.
    pub fn leads(&self) {
        self.leader.set(1);
    }

    /// From now on this says what there is; only the first counts.
    pub fn look(&self, look: impl Fn() -> Figures + Send + Sync + 'static) {
        let _ = self.look.set(Box::new(look));
    }

    fn show(&self, figures: &Figures) {
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.running.set(number(figures.running));
        self.oldest.set(figures.oldest);
        self.cache.set(figures.cache);
        for reason in WAITS.iter().map(|it| it.as_str()).chain([OTHER]) {
            let count = figures.waiting.get(reason).copied().unwrap_or_default();
            self.waiting
                .get_or_create(&Refusal { reason })
                .set(number(count));
        }
        for state in STATES {
            let count = figures.builders.get(state).copied().unwrap_or_default();
            self.builders
                .get_or_create(&State { state })
                .set(number(count));
        }
        for state in REPLICAS {
            let count = figures.replicas.get(state).copied().unwrap_or_default();
            self.replicas
                .get_or_create(&State { state })
                .set(number(count));
        }
    }

    /// In the OpenMetrics text format.
    pub fn text(&self) -> String {
        if let Some(look) = self.look.get() {
            self.show(&look());
        }
        self.process.read();
        let mut text = String::new();
        if encode(&mut text, &self.registry).is_err() {
            tracing::warn!("cannot write metrics");
        }
        text
    }
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
