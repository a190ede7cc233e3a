//! Pure: a Pod template and what its images hold → whether its probes can work.
//!
//! An exec probe needs no shell: it needs its program. So a verdict follows the command as the container
//! runtime would, to the program, its interpreter and its libraries in the image's report
//! ([`whittle_image::Contents`]), and says that it does not know where the report cannot tell: a wrong
//! "cannot work" would keep a good workload out.
//!
//! Sources: pkg/kubelet/prober and pkg/kubelet/lifecycle of Kubernetes 1.36, its validation
//! (pkg/apis/core/validation), containerd 2 and runc 1.5.

mod audit;
mod bounds;
mod declared;
mod derive;
mod entry;
mod expand;
mod fix;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod handler;
mod judge;
mod later;
pub mod manifest;
mod message;
mod mounts;
mod names;
mod pack;
mod paths;
mod place;
mod plain;
pub mod policy;
mod profile;
mod shell;
mod templates;
mod trust;
mod verdict;
mod words;

pub use audit::{Audit, Audited, Workload, audit, canonical, essence};
pub use entry::{Entry, NotKnown, ReadBack, Set, read_back};
pub use expand::all as filled_in;
pub use fix::Fix;
pub use handler::Handler;
pub use judge::judge;
pub use pack::{pack, unpack};
pub use profile::{Earlier, Layout, Profiled, Speakers, Told, profiles};
pub use templates::{Malformed, PassedOver, Template, passed_over, templates_of};
pub use trust::{Trust, covers};

use serde::Serialize;

use whittle_image::Contents;

/// Whether a probe can work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All that it needs in the image and in the Pod template is there. What the program answers is its
    /// own affair.
    Works,
    /// It can never succeed: why, in one clause.
    CannotWork(String),
    /// It cannot be told: why, in one clause.
    Unknown(String),
}

impl Verdict {
    /// `Works`, `CannotWork` or `Unknown`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Works => "Works",
            Self::CannotWork(_) => "CannotWork",
            Self::Unknown(_) => "Unknown",
        }
    }

    /// Why it does not work or is not known.
    pub fn why(&self) -> Option<&str> {
        match self {
            Self::Works => None,
            Self::CannotWork(why) | Self::Unknown(why) => Some(why),
        }
    }
}

/// Which probe or lifecycle hook of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Hook {
    /// livenessProbe
    LivenessProbe,
    /// readinessProbe
    ReadinessProbe,
    /// startupProbe
    StartupProbe,
    /// lifecycle.postStart
    PostStart,
    /// lifecycle.preStop
    PreStop,
}

impl Hook {
    /// As it stands in a container: `livenessProbe`, `lifecycle.preStop`.
    pub fn field(self) -> &'static str {
        match self {
            Self::LivenessProbe => "livenessProbe",
            Self::ReadinessProbe => "readinessProbe",
            Self::StartupProbe => "startupProbe",
            Self::PostStart => "lifecycle.postStart",
            Self::PreStop => "lifecycle.preStop",
        }
    }

    /// True for the hooks of a container's lifecycle.
    pub fn is_lifecycle(self) -> bool {
        matches!(self, Self::PostStart | Self::PreStop)
    }
}

/// What kind of container it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Role {
    /// One of `containers`.
    Container,
    /// One of `initContainers` that runs to its end: the API server takes no probes for it.
    InitContainer,
    /// One of `initContainers` with `restartPolicy: Always` (KEP-753).
    Sidecar,
}

/// One probe, judged.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// The container's name.
    pub container: String,
    /// What kind of container.
    pub role: Role,
    /// Which probe.
    pub hook: Hook,
    /// Its place in the Pod template: `/containers/0/livenessProbe`.
    pub pointer: String,
    /// The container's image, as the template names it.
    pub image: String,
    /// The program that decides, where one does.
    pub program: Option<String>,
    /// The verdict.
    pub verdict: Verdict,
    /// One or two sentences for people: container, probe, program, image, what follows, the fix. Empty
    /// where it works.
    pub message: String,
    /// What is odd and keeps nothing from working.
    pub warnings: Vec<String>,
    /// What mends it; always there where the verdict is not `Works`.
    pub fix: Option<Fix>,
}

/// What is odd about a container that has no probe to tell it at.
#[derive(Clone, Debug, PartialEq)]
pub struct Warning {
    /// The container's name.
    pub container: String,
    /// The container's place in the Pod template: `/containers/0`.
    pub pointer: String,
    /// One or two sentences.
    pub message: String,
    /// What mends it, where that can be made.
    pub fix: Option<Fix>,
}

/// All of a Pod template.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Judgement {
    /// Each probe and lifecycle hook, in the order of the containers.
    pub findings: Vec<Finding>,
    /// Besides.
    pub warnings: Vec<Warning>,
}

/// What is known about a container's image.
#[derive(Clone, Debug, Default)]
pub struct Known<'a> {
    /// Reports, one a platform; none where there is none.
    pub contents: Vec<&'a Contents>,
    /// Why there is no report, where that is known: one clause.
    pub why_none: Option<String>,
    /// The probe that the image's ImageBuild declares.
    pub health_check: Option<Handler>,
}

/// Where reports about images come from.
pub trait Images {
    /// What is known about an image, by its name in a Pod template.
    fn of(&self, image: &str) -> Known<'_>;
}
#[cfg(any(test, feature = "fixtures"))]
pub mod fixtures;
#[cfg(test)]
mod tests;
