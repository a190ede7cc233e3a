//! `ProbeProfile`: what the images that Whittle built hold, for the admission policies of the probe guard.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

// The maps are atomic: else the API server would note the owner of each entry, and double the object.

/// What images hold, for the admission policies of the probe guard. The controller writes these: few and
/// large, because each object costs time at every admission, whatever it holds.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, Default, PartialEq, KubeSchema)]
#[kube(
    group = "whittle.dev",
    version = "v1alpha1",
    kind = "ProbeProfile",
    plural = "probeprofiles",
    derive = "PartialEq",
    doc = "What the images that Whittle built hold, for the admission policies of the probe guard. Written by the controller.",
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct ProbeProfileSpec {
    /// Image references, by tag and by digest, and which of `images` each is: for workloads of a namespace by its
    /// name, for those of all others by `*` (which may be denied) or `?` (which are warned of). An empty one says
    /// that the image is unknown there.
    #[serde(default)]
    #[x_kube(merge_strategy = MapMerge::Atomic)]
    pub references: BTreeMap<String, BTreeMap<String, String>>,
    /// What each image holds.
    #[serde(default)]
    #[x_kube(merge_strategy = MapMerge::Atomic)]
    pub images: BTreeMap<String, ProfileImage>,
    /// Sets of programs, by name: images with the same base share theirs. True if a program is known to start on each
    /// platform, false if that is unknown.
    #[serde(default)]
    #[x_kube(merge_strategy = MapMerge::Atomic)]
    pub programs: BTreeMap<String, BTreeMap<String, bool>>,
}

// What an earlier version wrote has to be read: it lacks fields.
/// What one image holds.
#[derive(
    Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, JsonSchema,
)]
#[serde(default, rename_all = "camelCase")]
pub struct ProfileImage {
    /// The ImageBuild that built it: `namespace/name`.
    pub image_build: String,
    /// Directories of the image's PATH.
    pub path: Vec<String>,
    /// Directories with programs, all links to them included, and the set of programs that each has.
    pub folders: BTreeMap<String, String>,
    /// Links below which not every name of a directory is listed, such as those to `/`: what is called through
    /// one is left alone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub open: Vec<String>,
    /// True where a shell may run programs that no file shows: applets of busybox.
    pub applets: bool,
    /// True if some program does not start because of missing libraries, which LD_LIBRARY_PATH may provide.
    pub lacks_libraries: bool,
    /// The probe to use in place of one that cannot work, as the ImageBuild's `healthCheck` declares it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}
