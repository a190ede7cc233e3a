//! Reconcile loops: the only place where what is decided and what is done meet.

pub mod builder;
mod clocks;
pub mod cluster;
mod due;
mod egress;
mod extra;
#[cfg(test)]
mod fixtures;
mod flux;
pub mod guard;
pub mod imagebuild;
mod installation;
mod leader;
pub mod names;
mod notify;
mod others;
mod outside;
pub mod placement;
pub mod platforms;
mod pods;
mod queues;
mod recorder;
mod refusal;
mod run;
mod schedule;
#[cfg(test)]
mod scripted;
mod serve;
mod settings;
mod shared;
mod sharing;
mod standby;
mod triggers;
mod trusted;
mod used;
mod watcher;
mod watches;
mod workloads;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::jiff::Timestamp;
use kube::runtime::controller::Action as Requeue;

use crate::builder::anew::{found_hanging, is_lost};
use crate::builder::state::Use;
use crate::cluster::Cluster;
use crate::cluster::pki::Authority;
use crate::guard::Mailbox;
use crate::imagebuild::decide::lacks_certificates;
use crate::notify::Notifications;
use crate::queues::Queues;
use crate::recorder::{Recorder, Word};
use crate::serve::{Caches, EarlyReports, Metrics};
use crate::settings::Settings;
use crate::watches::{Known, Listed};
use whittle_api::Reason;

pub use builder::run as run_builders;
pub use egress::run as run_egress;
pub use flux::run as run_flux;
pub use guard::run as run_guard;
pub use imagebuild::run as run_image_builds;
pub use run::{Options, run};
pub use standby::run as run_standbys;
pub use trusted::run as run_trusted;
pub use watcher::run as run_watchers;

/// What every reconcile needs.
pub struct Context {
    /// The cluster.
    pub cluster: Cluster,
    /// What the installation says.
    pub settings: Settings,
    /// Signs certificates.
    pub authority: Arc<Authority>,
    /// Early reports.
    pub early_reports: EarlyReports,
    /// What was told of caches.
    pub caches: Caches,
    /// Counters.
    pub metrics: Metrics,
    /// What build steps must not reach.
    pub egress: egress::Known,
    /// What the installation trusts besides the public authorities.
    pub trusted: trusted::Trusted,
    recorder: Recorder,
    notifications: Notifications,
    others: others::Others,
    used: used::Used,
    clock: clocks::Clock,
    ran: clocks::Ran,
    known: Known,
    queues: Queues,
    images: Mailbox,
    waiting: standby::Waiting,
    candidates: standby::Candidates,
    sources: watcher::Sources,
    flux: flux::Sources,
    listed: Listed,
}

impl Context {
    /// All in one.
    pub fn new(
        cluster: Cluster,
        settings: Settings,
        authority: Arc<Authority>,
        early_reports: EarlyReports,
        metrics: Metrics,
        known: Known,
    ) -> Self {
        let queues = Queues::new(settings.triggers.max_concurrent);
        let sources = watcher::Sources::new(settings.triggers.silent_after());
        let recorder = Recorder::new(cluster.client(), std::env::var("POD_NAME").ok());
        Self {
            cluster,
            settings,
            authority,
            early_reports,
            caches: Caches::default(),
            metrics,
            egress: egress::Known::default(),
            trusted: trusted::Trusted::default(),
            recorder,
            notifications: Notifications::default(),
            others: others::Others::default(),
            used: used::Used::since(Timestamp::now()),
            clock: clocks::Clock::default(),
            ran: clocks::Ran::default(),
            known,
            queues,
            images: Mailbox::default(),
            waiting: standby::Waiting::default(),
            candidates: standby::Candidates::default(),
            sources,
            flux: flux::Sources::default(),
            listed: Listed::default(),
        }
    }
}

impl Context {
    /// What waits for Builders and runs on them, once the watches have listed it. What a reconcile was woken for is
    /// among it; what others wrote just now may not be.
    async fn queues(&self) -> &Queues {
        self.listed.needed().await;
        &self.queues
    }

    /// How many builds keep this Builder from a restart.
    async fn active_builds(&self, namespace: &str, builder: &str) -> usize {
        self.queues().await.busy(namespace, builder)
    }

    /// True where a build of this Builder waits for the certificates of its runners.
    fn waits_for_certificates(&self, namespace: &str, builder: &str) -> bool {
        let builds = self.queues.builds(namespace, builder);
        builds.iter().any(|build| lacks_certificates(build))
    }

    /// When a build of this Builder last found its daemon to hang, or that of one of its platforms, by its name.
    fn finds_it_hanging(&self, namespace: &str, builder: &str, daemon: &str) -> Option<Timestamp> {
        let builds = self.queues.builds(namespace, builder);
        let of_platform = (daemon != builder).then_some(daemon);
        let builds = builds.iter().filter(|build| is_lost(build, of_platform));
        builds.filter_map(|build| found_hanging(build)).max()
    }

    /// What runs on a Builder or waits for it, and when it was last used.
    async fn builder_use(&self, namespace: &str, builder: &str) -> Use {
        Use {
            wanted: self.queues().await.wanted(namespace, builder),
            last: Some(self.used.last(namespace, builder)),
        }
    }

    /// Writes an Event about an object. It is a courtesy: the status holds what counts.
    async fn tell(&self, about: &ObjectReference, warning: bool, reason: Reason, note: &str) {
        let word = Word {
            about,
            warning,
            reason,
            note,
            action: "Build",
            annotations: BTreeMap::new(),
        };
        self.say(word).await;
    }

    async fn say(&self, word: Word<'_>) {
        let about = word.about;
        if let Err(error) = self.recorder.write(word).await {
            let (namespace, name) = (&about.namespace, &about.name);
            tracing::warn!(namespace, name, %error, "cannot write an event");
        }
    }
}

/// Why a reconcile ended early.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A call failed.
    #[error(transparent)]
    Cluster(#[from] crate::cluster::Error),
    /// The API server did not answer in time.
    #[error("timed out: the API server did not answer within {0} s")]
    Slow(u64),
    /// A fault of the program.
    #[error("internal error: {0}")]
    Broken(String),
}

/// How long one round of a loop may take in all: the client's timeout is one of each answer.
const LIMIT: Duration = Duration::from_secs(60);

/// Ends a round that takes too long; the next one looks at everything anew.
async fn in_time<T>(round: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let late = Err(Error::Slow(LIMIT.as_secs()));
    tokio::time::timeout(LIMIT, round).await.unwrap_or(late)
}

/// What follows an error: another look soon, and a line in the log; neither where the namespace is going.
fn after_error<K: kube::ResourceExt>(
    object: &K,
    kind: &'static str,
    error: &Error,
    context: &Context,
) -> Requeue {
    if matches!(error, Error::Cluster(error) if error.is_namespace_terminating()) {
        return Requeue::await_change();
    }
    context.metrics.error(kind);
    tracing::warn!(kind, namespace = object.namespace(), name = object.name_any(), %error, "reconcile failed; retrying");
    match error {
        // It will be refused again, and could not even be told.
        Error::Cluster(error) if error.refusal().is_some() => Requeue::requeue(AFTER_REFUSAL),
        _ => Requeue::requeue(AFTER_ERROR),
    }
}

/// How long to wait after an error: short, so that a mended cluster is quick.
const AFTER_ERROR: Duration = Duration::from_secs(5);

/// Somebody else wrote at the same moment: what stands there now is looked at.
const AT_ONCE: Duration = Duration::from_millis(200);
/// How long to wait after a refusal that the status does not tell of.
const AFTER_REFUSAL: Duration = Duration::from_secs(30);
