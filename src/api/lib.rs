//! The kinds of group `whittle.dev`: types, CEL rules, printer columns, conditions and reasons.
//!
//! Nothing here knows a cluster: `crds` prints what these types say.

pub mod bounds;
mod builder;
mod cache;
mod conditions;
mod contract;
mod current;
mod health;
mod imagebuild;
mod minimize;
mod names;
mod platforms;
mod probe_profile;
mod proxy;
pub mod quantity;
mod reason;
mod refs;
mod replicas;
mod rollback;
mod source;
mod status;
mod triggers;
pub mod values;
pub mod variables;
mod waiting;

pub use builder::*;
pub use cache::*;
pub use conditions::*;
pub use contract::*;
pub use current::{Current, Stage};
pub use health::*;
pub use imagebuild::*;
pub use minimize::*;
pub use platforms::*;
pub use probe_profile::*;
pub use proxy::*;
pub use reason::*;
pub use refs::*;
pub use replicas::*;
pub use rollback::*;
pub use source::*;
pub use status::*;
pub use triggers::*;
pub use waiting::{Missing, MissingKind, Waiting};
pub use whittle_image::is_digest;
pub use whittle_image::text::bounded;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON,
};
use kube::CustomResourceExt;

/// Any new value of this annotation builds again, whether or not the spec changed.
pub const REQUESTED_AT: &str = "whittle.dev/requestedAt";

/// The value of [`REQUESTED_AT`] whose build takes no step from the cache.
pub const NO_CACHE: &str = "whittle.dev/noCache";

/// This annotation of an ImageBuild ends a build: its number, or `current` for the one that runs when it is set.
pub const CANCEL: &str = "whittle.dev/cancel";

/// This annotation of an ImageBuild moves its tags back to the image of an earlier build: that one's number; what follows it after
/// a space makes the value a new one.
pub const ROLLBACK: &str = "whittle.dev/rollback";

/// Any new value of this annotation of a Builder throws its cache away.
pub const PRUNE: &str = "whittle.dev/prune";

/// The definitions of every kind, as they stand in `crds/` and in the chart.
pub fn crds() -> Vec<CustomResourceDefinition> {
    let mut crds = vec![ImageBuild::crd(), Builder::crd(), ProbeProfile::crd()];
    for crd in &mut crds {
        default_observed_generation(crd);
    }
    crds
}

/// Sets the default of `status.observedGeneration` to -1 and of `status` to `{}`-with-that, so that
/// a tool which waits for `observedGeneration == generation` never reads "no status yet" as done.
fn default_observed_generation(crd: &mut CustomResourceDefinition) {
    for version in &mut crd.spec.versions {
        let Some(status) = version
            .schema
            .as_mut()
            .and_then(|schema| schema.open_api_v3_schema.as_mut())
            .and_then(|root| root.properties.as_mut())
            .and_then(|properties| properties.get_mut("status"))
        else {
            continue;
        };
        status.default = Some(JSON(serde_json::json!({ "observedGeneration": -1 })));
    }
}

#[cfg(test)]
mod names_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod words_tests;
