//! The daemons that a Builder has for platforms (`spec.platforms`).
//!
//! Each is a Builder like any other, with one daemon and a volume, made after the one whose platforms it serves, which owns it. What
//! builds is the other one's: its runners, its queue, its sleep, and its certificates, so that a runner needs no further key.

use std::collections::BTreeMap;

use kube::{Resource, ResourceExt};

use crate::names;
use crate::sharing::{self, MADE_AFTER};
use whittle_api::{Builder, BuilderSpec, MOST_PLATFORMS, PRUNE, PlatformDaemon, Sharing};
use whittle_image::normal_platform;

/// The daemon of a platform: a Builder as it should be, and as it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// The platform, as the spec names it.
    pub platform: String,
    /// As it should be.
    pub wanted: Builder,
    /// What has its name.
    pub stands: Option<Builder>,
}

impl Seen {
    /// What stands, where that is what was made for this.
    pub fn daemon(&self) -> Option<&Builder> {
        let of = |builder: &&Builder| parent(builder) == parent(&self.wanted);
        self.stands.as_ref().filter(of)
    }

    /// True where somebody else's Builder has its name: it is left alone.
    pub fn is_taken(&self) -> bool {
        self.stands.is_some() && self.daemon().is_none()
    }

    /// True where it is not as it should be, and can be.
    pub fn differs(&self) -> bool {
        let Some(stands) = &self.stands else {
            return true;
        };
        // Handed on once: who asks later for an empty cache of this daemon alone is not undone.
        let asked = self.wanted.annotations().get(PRUNE_OF_BUILDER);
        let differs = stands.spec != self.wanted.spec
            || asked.is_some() && asked != stands.annotations().get(PRUNE_OF_BUILDER);
        differs && !self.is_taken() && stands.metadata.deletion_timestamp.is_none()
    }
}

impl Seen {
    /// What stands is given this.
    pub fn change(&self) -> Builder {
        let mut wanted = self.wanted.clone();
        let asked = wanted.annotations().get(PRUNE_OF_BUILDER).cloned();
        let known = self
            .stands
            .as_ref()
            .and_then(|it| it.annotations().get(PRUNE_OF_BUILDER));
        let asked = asked.filter(|asked| known != Some(asked));
        let asked = asked.map(|value| (PRUNE.to_owned(), value));
        wanted.annotations_mut().extend(asked);
        wanted
    }
}

/// Annotation of the daemon of a platform: that platform.
const PLATFORM: &str = "whittle.dev/platform";
/// Annotation of the daemon of a platform: the value of [`PRUNE`] of the Builder whose platform it is that it was handed last.
const PRUNE_OF_BUILDER: &str = "whittle.dev/prune-of-builder";

/// Name and UID of the Builder for one of whose platforms this one is.
pub fn parent(builder: &Builder) -> Option<(&str, &str)> {
    let of = builder.labels().get(MADE_AFTER)?;
    let mut owners = builder.owner_references().iter();
    let owner = owners.find(|it| it.kind == Builder::kind(&()) && it.controller == Some(true))?;
    (owner.name == *of).then_some((owner.name.as_str(), owner.uid.as_str()))
}

/// Name of the Builder whose runners build on this one, and whose certificates it has.
pub fn whose(builder: &Builder) -> String {
    parent(builder).map_or_else(|| builder.name_any(), |(name, _)| name.to_owned())
}

/// What says this of a Builder, for people: for the daemon of a platform, where its own spec would be written over, the other one's.
pub fn field(builder: &Builder, names: &[&str]) -> String {
    let platform = builder.annotations().get(PLATFORM);
    let (before, of) = match (parent(builder), platform) {
        (Some((of, _)), Some(platform)) => (format!("spec.platforms[{platform}]"), of.to_owned()),
        (of, _) => (
            "spec".to_owned(),
            of.map_or_else(|| builder.name_any(), |it| it.0.to_owned()),
        ),
    };
    let names: Vec<_> = names
        .iter()
        .map(|name| format!("{before}.{name}"))
        .collect();
    let names = match &names[..] {
        [before @ .., last] if !before.is_empty() => format!("{} or {last}", before.join(", ")),
        names => names.concat(),
    };
    format!("{names} of Builder {of}")
}

/// What says how much memory the daemon of a platform has, for people.
pub fn memory_field(builder: &Builder, platform: &str) -> String {
    let mut all = builder.spec.platforms.iter();
    let own = all.any(|it| it.platform.0 == platform && it.resources.is_some());
    let before = match own {
        true => format!("spec.platforms[{platform}]"),
        false => "spec".to_owned(),
    };
    format!(
        "{before}.resources.limits.memory of Builder {}",
        builder.name_any()
    )
}

/// The platforms of a Builder that have a daemon of their own, each with the Builder that it is.
pub fn wanted(builder: &Builder) -> Vec<(String, Builder)> {
    let serves = builder.spec.sharing == Sharing::Namespace
        && !sharing::is_own(builder)
        && parent(builder).is_none();
    let all = builder.spec.platforms.iter().filter(|_| serves);
    let all = all.take(MOST_PLATFORMS);
    all.map(|of| (of.platform.0.clone(), made(builder, of)))
        .collect()
}

/// Names of the Builders that these are.
pub fn names(builder: &Builder) -> impl Iterator<Item = String> {
    let name = builder.name_any();
    let all = builder.spec.platforms.iter().take(MOST_PLATFORMS);
    all.map(move |of| names::platform_builder(&name, &of.platform.0))
}

fn made(builder: &Builder, of: &PlatformDaemon) -> Builder {
    let name = builder.name_any();
    let mut spec = BuilderSpec {
        platforms: vec![],
        replicas: 1,
        autoscale: None,
        standby: 0,
        node_selector: nodes(builder, of),
        ..builder.spec.clone()
    };
    if !of.tolerations.is_empty() {
        spec.tolerations.clone_from(&of.tolerations);
    }
    if let Some(resources) = &of.resources {
        spec.resources = resources.clone();
    }
    let mut made = Builder::new(&names::platform_builder(&name, &of.platform.0), spec);
    made.metadata.namespace = builder.namespace();
    made.metadata.owner_references = builder.controller_owner_ref(&()).map(|owner| vec![owner]);
    let labels = [
        ("app.kubernetes.io/managed-by", "whittle"),
        (MADE_AFTER, name.as_str()),
    ];
    made.metadata.labels = Some(labels.map(|(key, value)| (key.into(), value.into())).into());
    // Who has it emptied has all of them emptied.
    let asked = builder.annotations().get(PRUNE);
    let asked = asked.map(|value| (PRUNE_OF_BUILDER.to_owned(), value.clone()));
    let platform = (PLATFORM.to_owned(), of.platform.0.clone());
    made.annotations_mut()
        .extend(asked.into_iter().chain([platform]));
    made
}

/// The nodes of a platform's daemon: those of the Builder that are of its os and architecture, where nothing else is said.
fn nodes(builder: &Builder, of: &PlatformDaemon) -> BTreeMap<String, String> {
    if !of.node_selector.is_empty() {
        return of.node_selector.clone();
    }
    let platform = normal_platform(&of.platform.0);
    let mut parts = platform.split('/');
    let mut nodes = builder.spec.node_selector.clone();
    for label in ["kubernetes.io/os", "kubernetes.io/arch"] {
        nodes.extend(
            parts
                .next()
                .map(|value| (label.to_owned(), value.to_owned())),
        );
    }
    nodes
}

/// True where this Builder is still that of a platform of `of`, which it is made after, as that stands.
pub fn is_of_use(builder: &Builder, of: Option<&Builder>) -> bool {
    let Some(of) = of.filter(|of| of.metadata.deletion_timestamp.is_none()) else {
        return false;
    };
    let same = parent(builder).map(|(_, uid)| uid) == of.metadata.uid.as_deref();
    let name = builder.name_any();
    same && wanted(of).iter().any(|(_, it)| it.name_any() == name)
}

/// True where a build of these platforms would have one on this daemon.
pub fn is_asked_for<'a>(platform: &str, mut asked: impl Iterator<Item = &'a str>) -> bool {
    let platform = normal_platform(platform);
    asked.any(|it| normal_platform(it) == platform)
}

#[cfg(test)]
#[path = "platforms_tests.rs"]
mod tests;
