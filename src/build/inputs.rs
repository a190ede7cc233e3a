//! What a build is made from: everything that makes one due when it changes, and what its runner works with.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use whittle_api::{
    BuildSecret, Contract, Debug, HealthCheck, ImageBuild, ImageBuildSpec, Minimize, Output,
    Platform, REQUESTED_AT, Source,
};
use whittle_image::digest_of;

/// All of a spec that can change the image or where it goes, and the request to build again.
///
/// The digest of its JSON stands in statuses: another name or order of fields, or a new one that is written where it is
/// not set, builds every image again.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Inputs {
    /// Where the Dockerfile and the context come from.
    pub source: Source,
    /// Path of the Dockerfile within the source.
    pub dockerfile: String,
    /// Stage to build.
    pub target: Option<String>,
    /// The image for debugging.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub debug: Option<Debug>,
    /// Values of the Dockerfile's ARGs.
    pub build_args: BTreeMap<String, String>,
    /// Secret files; their values are mounted.
    pub secrets: Vec<BuildSecret>,
    /// Platforms; empty for the builder's own.
    pub platforms: Vec<Platform>,
    /// Where the image goes.
    pub output: Output,
    /// What the image must be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contract: Option<Contract>,
    /// What it must answer before its tags move.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_check: Option<HealthCheck>,
    /// What is left out of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimize: Option<Minimize>,
    /// Name of the Builder.
    pub builder: String,
    /// The annotation `whittle.dev/requestedAt`.
    pub requested_at: Option<String>,
    /// `spec.rebuild`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rebuild: Option<String>,
}

/// What the annotation of an ImageBuild says, where it has it.
pub fn requested_at(build: &ImageBuild) -> Option<String> {
    let annotations = build.metadata.annotations.as_ref();
    annotations.and_then(|all| all.get(REQUESTED_AT)).cloned()
}

impl Inputs {
    /// Those of an ImageBuild.
    pub fn of(build: &ImageBuild) -> Self {
        Self::new(build.spec.clone(), requested_at(build))
    }

    /// Those of a spec. Each of its fields is named here: whether a new one is an input is for its author to say.
    pub fn new(spec: ImageBuildSpec, requested_at: Option<String>) -> Self {
        let ImageBuildSpec {
            source,
            dockerfile,
            target,
            build_args,
            secrets,
            platforms,
            output,
            debug,
            contract,
            health_check,
            minimize,
            builder_ref,
            rebuild,
            // How and when, and not what: they change without a build.
            triggers: _,
            priority: _,
            timeout: _,
            queue_timeout: _,
            retries: _,
            suspend: _,
            history_limit: _,
        } = spec;
        Self {
            source,
            dockerfile,
            target,
            debug,
            build_args,
            secrets,
            platforms,
            output,
            contract,
            health_check,
            minimize,
            builder: builder_ref.name,
            requested_at,
            rebuild,
        }
    }

    /// What a status keeps, to know whether a build is due.
    pub fn digest(&self) -> String {
        digest_of(&serde_json::to_vec(self).expect("plain data is always JSON"))
    }

    /// The command of `spec.healthCheck.exec`; empty where there is none.
    pub fn health_command(&self) -> &[String] {
        let exec = self.health_check.as_ref().and_then(|it| it.exec.as_ref());
        exec.map_or(&[], |exec| &exec.command)
    }

    /// Name of the Secret of `spec.output.secretRef`.
    pub fn registry_secret(&self) -> Option<&str> {
        let secret = self.output.secret_ref.as_ref();
        secret.map(|secret| secret.name.as_str())
    }
}
