//! The report as JSON. docs/inspect.md describes it: fields may be added, and none changes its meaning.

use schemars::JsonSchema;
use serde::Serialize;

use super::rules::Verdict;
use super::source::Found;
use whittle_image::{Contents, Finding, Level};

/// What `whittle inspect -o json` prints.
#[derive(Serialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The image, as it was asked for.
    pub image: String,
    /// Digest of the manifest or index that the name points at; absent where the source has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// One entry for each platform that was looked at, also where that is one only.
    pub images: Vec<PlatformReport>,
}

/// One platform's image.
#[derive(Serialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlatformReport {
    /// Digest of the platform's manifest; absent where the source has none (`docker save`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// The image's ID: digest of its config.
    pub id: String,
    /// `os/architecture` or `os/architecture/variant`, as the image's config says.
    pub platform: String,
    /// Bytes as stored: config and layers.
    pub size: i64,
    /// True where the layers lie uncompressed in a file, so that `size` is more than a registry would hold.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub uncompressed: bool,
    /// What is in it.
    pub contents: Contents,
    /// Rules that are not kept: those asked for, and the two that every build enforces.
    pub findings: Vec<RuleFinding>,
}

/// One rule that is not kept.
#[derive(Serialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RuleFinding {
    /// The rule: its name in a contract, `maxSize` or `maxGrowthPercent`.
    pub rule: String,
    /// `Enforce`: a build with this contract fails; `Warn`: it does not.
    pub level: String,
    /// False where it cannot be told whether the rule is kept.
    pub certain: bool,
    /// The file, the cause and the fix.
    pub message: String,
}

impl PlatformReport {
    /// The report of an image that was read and judged.
    pub(super) fn new(found: Found, contents: Contents, verdict: &Verdict) -> Self {
        Self {
            digest: found.digest,
            id: found.id,
            platform: contents.platform.clone(),
            size: found.size,
            uncompressed: found.uncompressed,
            contents,
            findings: verdict.findings.iter().map(RuleFinding::from).collect(),
        }
    }
}

impl From<&Finding> for RuleFinding {
    fn from(finding: &Finding) -> Self {
        let level = match finding.level {
            Level::Enforce => "Enforce",
            Level::Warn => "Warn",
        };
        Self {
            rule: finding.rule.to_owned(),
            level: level.to_owned(),
            certain: finding.certain,
            message: finding.message.clone(),
        }
    }
}
