//! What builds ask of a Builder.

use crate::builder::state;
use crate::placement;
use whittle_api::{Builder, BuilderStatus, READY, Reason, is_true};

/// What builds that wait for a Builder look at, and all that they are woken for. Whoever asks for more of it adds it
/// here: what is looked at and does not wake is waited for without end.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Readiness {
    /// Its spec, as the API server counts them: how many builds it takes, its limits.
    generation: Option<i64>,
    /// The one that its status speaks of.
    observed: Option<i64>,
    /// It takes builds, or sleeps until the next one.
    well: bool,
    /// How it is.
    state: Option<Reason>,
    /// Which replicas take builds, and how many there are to be, where there may be several.
    replicas: Vec<(i32, bool)>,
    desired: i32,
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
        Self {
            generation: builder.metadata.generation,
            observed: status.and_then(|status| status.observed_generation),
            well: status.is_some_and(|status| is_true(&status.conditions, READY)),
            state: status.and_then(BuilderStatus::state),
            replicas: placement::each(builder)
                .iter()
                .map(|it| (it.replica, it.ready))
                .collect(),
            desired: placement::desired(builder),
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
        self.state == Some(Reason::Idle)
    }

    /// True where its daemon is up, or sleeps.
    pub(crate) fn is_well(&self) -> bool {
        self.well
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
