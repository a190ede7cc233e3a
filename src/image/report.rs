//! The full report of one platform's image, as it lies beside the image in the registry.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::contents::Contents;

/// Artifact type of the manifest that refers to the image, and media type of its one layer, which is the
/// JSON of an [`ImageReport`].
pub const REPORT_TYPE: &str = "application/vnd.whittle.report.v1+json";

/// What one platform's image holds. No times stand here: the same image gives the same report.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImageReport {
    /// Digest of the platform's manifest, which is the subject of the artifact.
    pub digest: String,
    /// Bytes as stored in the registry: config and layers.
    pub size: i64,
    /// What was found.
    pub contents: Contents,
}
