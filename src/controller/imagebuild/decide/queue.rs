//! Whose turn it is on a builder.

use std::borrow::Borrow;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use super::{Ahead, is_built, refused};
use crate::imagebuild::outcome::Pending;
use crate::names;
use whittle_api::{FailureReason, ImageBuild, ImageBuildStatus, Missing, MissingKind, Reason};

/// A place in the queue: the lower, the sooner. First `spec.priority`; then whether somebody waits for it; then who became due
/// first, and of two at the same time the UID decides.
pub type Turn = (Reverse<i32>, bool, Timestamp, Option<String>);

/// The place of a build that is under way, or waits; none where none is.
pub fn turn(build: &ImageBuild) -> Option<Turn> {
    let status = build.status.as_ref()?;
    status.current.as_ref()?;
    let since = status.started_at.as_ref()?.0;
    Some((
        Reverse(build.spec.priority),
        stands_back(build),
        since,
        build.uid(),
    ))
}

/// True where the build under way stands back behind those that somebody waits for.
pub fn stands_back(build: &ImageBuild) -> bool {
    build.status.as_ref().is_some_and(stands_back_by)
}

/// True for the status of such a build.
pub fn stands_back_by(status: &ImageBuildStatus) -> bool {
    let trigger = status.trigger.as_ref();
    trigger.is_some_and(|trigger| trigger.reason.stands_back())
}

/// Runners of one builder, by the UIDs of their ImageBuilds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Runners {
    /// Those whose Job has not ended.
    pub active: BTreeSet<String>,
    /// Those whose Pod runs.
    pub started: BTreeSet<String>,
}

/// Other builds on the builder of one ImageBuild.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Queue {
    /// Those that run, or are about to.
    pub running: usize,
    /// The same by the replica that they run on.
    pub on: BTreeMap<i32, usize>,
    /// Those that wait, and whose turn comes before this one's.
    pub before: usize,
    /// All that wait, whenever they became due.
    pub waiting: usize,
    /// Builds that run and that base images or schedules have begun; this one is none of them.
    pub standing_back: StandingBack,
    /// How long those that run and those before it take.
    pub ahead: Ahead,
    /// What another build waits for in vain, and this one needs too: it would hang in the same way.
    pub missing: Option<Pending>,
}

/// Builds that run and for which nobody waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StandingBack {
    /// In the whole cluster.
    pub all: usize,
    /// In one namespace.
    pub of_namespace: usize,
}

impl StandingBack {
    /// True where no more of that namespace are to run, of `most` in the cluster: half of the places is for others.
    pub fn is_full(self, most: usize) -> bool {
        self.all >= most || self.of_namespace >= most.div_ceil(2)
    }
}

impl Queue {
    /// What stands before `build`, given all ImageBuilds of its namespace and the runners of its builder. `full`: no more builds
    /// of this namespace that stand back are to run now.
    ///
    /// What cannot start now holds up nothing that can, whatever its priority: a build that stands back while enough of those
    /// run, and one that waits before its next attempt. A build that hangs for want of what its own spec names (a Secret, a source), or as a Pod or a Job of its own is
    /// in its way, counts for nothing: it has not started, and those behind it have nothing to do with it. One that hangs for want of a node or of quota keeps
    /// its place: those behind it would hang in the same way, and all of them would start at once.
    pub fn of(
        build: &ImageBuild,
        others: &[impl Borrow<ImageBuild>],
        runners: &Runners,
        full: bool,
    ) -> Self {
        let mine = turn(build);
        let mut queue = Self::default();
        for other in others.iter().map(Borrow::borrow) {
            let uid = other.uid().unwrap_or_default();
            if build.uid().as_deref() == Some(&uid)
                || other.spec.builder_ref != build.spec.builder_ref
            {
                continue;
            }
            let current = other.status.as_ref().and_then(|s| s.current.as_ref());
            let under_way = current.is_some();
            // A runner that has called its result back may take a moment to go.
            if runners.active.contains(&uid) && under_way {
                if runners.started.contains(&uid) || !lacks_its_own(other) {
                    queue.runs_on(current.and_then(|current| current.replica));
                    queue.ahead.runs(other);
                    queue.ahead.suspended += usize::from(is_suspended(other));
                } else if queue.missing.is_none() {
                    queue.missing = shared_lack(build, other);
                }
            } else if current.is_some_and(|current| current.stage.pushed().is_some()) {
                // It is being checked, and needs the builder no more.
            } else if lacks_its_own(other) || is_refused(other) {
                // It is nobody's turn that waits for a person.
            } else if full && stands_back(other) || waits_to_retry(other) {
                // Nor that of one that cannot start however free the builder is.
            } else if !other.spec.suspend && !is_built(other) {
                queue.waiting += 1;
                if mine.is_some() && turn(other).is_some_and(|other| Some(other) < mine) {
                    queue.before += 1;
                    queue.ahead.waits(other);
                }
            }
        }
        queue
    }

    /// One more runs, on this replica of the Builder: the first where that has one.
    pub fn runs_on(&mut self, replica: Option<i32>) {
        self.running += 1;
        *self.on.entry(replica.unwrap_or(0)).or_default() += 1;
    }
}

impl Runners {
    /// How many of them keep their builder from a restart: those that run, or may at any moment. One that hangs until
    /// a person has made what it lacks may do so for as long as `spec.timeout`. `builds`: all of the namespace.
    pub fn busy(&self, builds: &[impl Borrow<ImageBuild>]) -> usize {
        let hangs = |uid: &String| {
            let mut found = builds.iter().map(Borrow::borrow);
            found.any(|build| {
                let hangs = lacks_its_own(build) || is_refused(build) || is_suspended(build);
                build.uid().as_ref() == Some(uid) && hangs
            })
        };
        let busy = |uid: &&String| self.started.contains(*uid) || !hangs(uid);
        self.active.iter().filter(busy).count()
    }
}

/// True where the build waits for a person to mend what is its own trouble alone, such as something that its spec
/// names: it takes no place on its builder.
pub fn lacks_its_own(build: &ImageBuild) -> bool {
    let lacks = [
        Reason::Failure(FailureReason::SecretNotFound),
        Reason::Failure(FailureReason::SourceNotFound),
        Reason::SourceNotReady,
        Reason::MountFailed,
        Reason::PodTerminating,
        Reason::JobConflict,
    ];
    refused::own_trouble(build).is_some_and(|reason| lacks.contains(&reason))
}

/// True where the build waits for the time of its next attempt; no Pod of the one before is alive then.
pub fn waits_to_retry(build: &ImageBuild) -> bool {
    refused::own_trouble(build) == Some(Reason::Retrying)
}

/// True where the build waits for the certificates of its Builder's runners: somebody has deleted their Secret.
pub fn lacks_certificates(build: &ImageBuild) -> bool {
    let waiting = build.status.as_ref().and_then(|status| status.waiting());
    let missing = waiting.and_then(|waiting| waiting.missing);
    missing.is_some_and(|Missing { kind, name }| {
        kind == MissingKind::Secret
            && name == names::builder_client_tls(&build.spec.builder_ref.name)
    })
}

/// True where what the build needs of its Builder may be gone, though that one's daemon is well: its runner cannot mount
/// the certificates, or an attempt was lost, as it is where the Service does not exist.
pub fn doubts_its_builder(build: &ImageBuild) -> bool {
    let current = build.status.as_ref().and_then(|s| s.current.as_ref());
    lacks_certificates(build) || current.is_some_and(|current| current.attempt > 1)
}

/// True where the build's Job is suspended: it waits in a queue of Kueue, maybe for hours. It keeps its place, as it may start at any
/// moment, and no Builder from a restart.
fn is_suspended(build: &ImageBuild) -> bool {
    refused::own_trouble(build) == Some(Reason::JobSuspended)
}

/// True where an object of the build itself was refused.
fn is_refused(build: &ImageBuild) -> bool {
    refused::own_trouble(build).is_some_and(Reason::is_denial)
}

/// What `other` waits for, where `build` names it too.
fn shared_lack(build: &ImageBuild, other: &ImageBuild) -> Option<Pending> {
    let waiting = other.status.as_ref()?.waiting()?;
    let missing = waiting.missing?;
    let Missing { kind, name } = &missing;
    let named = match kind {
        MissingKind::Secret => secrets(build).any(|secret| secret == name),
        MissingKind::ConfigMap => {
            let source = build.spec.source.config_map.as_ref();
            source.is_some_and(|source| source.name == *name)
        }
    };
    let message = format!(
        "{kind} {name} not found: create it in this namespace; the build then continues by itself \
            (ImageBuild {} waits for it too, and is first)",
        other.name_any()
    );
    named.then(|| Pending {
        missing: Some(missing),
        ..Pending::new(waiting.reason, message).blocked()
    })
}

/// Names of all Secrets that the spec names.
fn secrets(build: &ImageBuild) -> impl Iterator<Item = &str> {
    let spec = &build.spec;
    let git = spec
        .source
        .git
        .as_ref()
        .and_then(|it| it.secret_ref.as_ref());
    let oci = spec
        .source
        .oci
        .as_ref()
        .and_then(|it| it.secret_ref.as_ref());
    let push = spec.output.secret_ref.as_ref();
    let refs = [git, oci, push].into_iter().flatten();
    let steps = spec.secrets.iter().map(|it| it.secret_ref.name.as_str());
    refs.map(|it| it.name.as_str()).chain(steps)
}
