//! `spec.contract`: what the image must be.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

// `KubeSchema` brings a `Rule` of its own.
use whittle_image::{Base, Contents, Rule as ContractRule, Runs, SizedFile};

/// What the image must be. `RunnableEntrypoint` and `PlatformMatches` are enforced in any case, unless
/// `warn` names them.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.enforce) || !has(self.warn) || !self.enforce.exists(r, r in self.warn)").message("contract: a rule is in both enforce and warn: name it once"))]
pub struct Contract {
    /// Bytes as stored in the registry that each platform's image may have, for example 20Mi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new("isQuantity(self) && quantity(self).isGreaterThan(quantity('0'))").message("contract.maxSize: invalid: write a quantity over 0, for example 20Mi"))]
    pub max_size: Option<String>,
    /// Growth of each platform's image against the last good one, in percent of its size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100_000))]
    pub max_growth_percent: Option<i64>,
    /// Rules whose breaking fails the build, before any tag moves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub enforce: Vec<ContractRule>,
    /// Rules that are reported in the condition `Contract` when broken, and no more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub warn: Vec<ContractRule>,
}

/// What one platform's image holds, in short; the whole report is beside the image in the registry.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ContentsStatus {
    /// What it is built on, as far as that shows.
    pub base: Base,
    /// The distribution, for example `debian 12`; absent on scratch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub os: Option<String>,
    /// Whether what ENTRYPOINT and CMD name can be started.
    pub starts: Runs,
    /// Why not, or why that is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// ENTRYPOINT and CMD, one after the other; the first words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// USER as written; absent if not set (root).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The user ID that it comes to; absent where the image does not have the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<i64>,
    /// True where it runs as user ID 0.
    pub root: bool,
    /// True where there is a shell.
    pub shell: bool,
    /// True where there is a package manager of a distribution.
    pub package_manager: bool,
    /// True where TLS libraries find certificates of authorities.
    pub ca_certificates: bool,
    /// True where there are time zones.
    pub time_zones: bool,
    /// True where the image's user can write to `/tmp`.
    pub writable_tmp: bool,
    /// Files that give their caller more rights: setuid, setgid, capabilities.
    pub setuid_files: i64,
    /// Regular files.
    pub files: i64,
    /// Bytes of all files.
    pub unpacked_size: i64,
    /// The first executables: that which is started, then those in PATH.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub executables: Vec<String>,
    /// The largest files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub largest: Vec<SizedFile>,
    /// True where not all of the image was read: what seems to be missing may be there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
    /// The programs, packed, for the probe guard; absent where there was no room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub programs: Option<String>,
    /// Digest of the report in the image's repository, an artifact that refers to this platform's manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<String>,
}

/// Executables and words of a command that a status holds.
const LISTED: usize = 8;
/// Largest files that a status holds.
const LARGEST: usize = 3;
/// Bytes of one text.
const TEXT: usize = 256;

impl ContentsStatus {
    /// The short form of a report.
    pub fn of(contents: &Contents) -> Self {
        let start = &contents.start;
        let program = start.decisive();
        let text = |text: &String| super::bounded(text.clone(), TEXT);
        Self {
            base: contents.base,
            os: contents.os.as_ref().map(|os| match &os.version {
                Some(version) => text(&format!("{} {version}", os.id)),
                None => text(&os.id),
            }),
            starts: program.runs,
            problem: (program.runs != Runs::Yes)
                .then(|| program.message.as_ref().map(text))
                .flatten(),
            command: start.command.iter().take(LISTED).map(text).collect(),
            user: Some(&contents.user.configured)
                .filter(|user| !user.is_empty())
                .map(text),
            user_id: contents.user.uid,
            root: contents.user.uid == Some(0),
            shell: !contents.shells.is_empty(),
            package_manager: !contents.package_managers.is_empty(),
            ca_certificates: contents.ca_certificates.is_some(),
            time_zones: contents.time_zones.is_some(),
            writable_tmp: contents.tmp.writable,
            setuid_files: contents.setuid.len(),
            files: contents.files,
            unpacked_size: contents.bytes,
            executables: contents
                .executables
                .items
                .iter()
                .take(LISTED)
                .map(|executable| text(&executable.path))
                .collect(),
            largest: contents.largest.iter().take(LARGEST).cloned().collect(),
            partial: contents.partial,
            programs: None,
            report: None,
        }
    }
}
