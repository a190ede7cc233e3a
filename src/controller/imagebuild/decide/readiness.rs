//! What builds ask of a Builder.

use crate::builder::state;
use whittle_api::{Builder, IDLE, READY, find};

/// What builds that wait for a Builder look at, and all that they are woken for. Whoever asks for more of it adds it
/// here: what is looked at and does not wake is waited for without end.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Readiness {
    /// Its spec, as the API server counts them: how many builds it takes, its limits.
    generation: Option<i64>,
    /// The one that its status speaks of.
    observed: Option<i64>,
    /// Status and reason of its condition Ready.
    ready: Option<(String, String)>,
    /// It has all keys that runners of this version mount.
    certificates: bool,
    /// It is being deleted.
    leaving: bool,
    /// The installation that it belongs to.
    installation: Option<String>,
}

impl Readiness {
    /// That of a Builder.
    pub fn of(builder: &Builder) -> Self {
        let status = builder.status.as_ref();
        let ready = status.and_then(|status| find(&status.conditions, READY));
        Self {
            generation: builder.metadata.generation,
            observed: status.and_then(|status| status.observed_generation),
            ready: ready.map(|c| (c.status.clone(), c.reason.clone())),
            certificates: state::has_certificates(builder),
            leaving: builder.metadata.deletion_timestamp.is_some(),
            installation: status.and_then(|status| status.installation.clone()),
        }
    }

    /// True where its status speaks of the spec that stands.
    pub(crate) fn is_current(&self) -> bool {
        self.observed.is_some() && self.observed == self.generation
    }

    /// True where its daemon sleeps until the next build.
    fn is_asleep(&self) -> bool {
        self.ready
            .as_ref()
            .is_some_and(|(_, reason)| reason == IDLE)
    }

    /// True where its daemon is up, or sleeps.
    pub(crate) fn is_well(&self) -> bool {
        self.ready
            .as_ref()
            .is_some_and(|(status, _)| status == "True")
    }

    /// True where it takes builds: one that sleeps is well, but takes none; and one that an earlier version left lacks
    /// keys until its certificates are renewed.
    fn takes_builds(&self) -> bool {
        self.is_current() && self.is_well() && !self.is_asleep() && self.certificates
    }
}

/// True where the Builder takes builds.
pub fn is_ready(builder: &Builder) -> bool {
    Readiness::of(builder).takes_builds()
}

/// True where the Builder's daemon sleeps until the next build.
pub fn is_asleep(builder: &Builder) -> bool {
    Readiness::of(builder).is_asleep()
}
