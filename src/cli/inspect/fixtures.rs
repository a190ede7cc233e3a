//! Images in folders and tars, made for tests.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use whittle_image::fixtures::{ElfFile, Tar, gzip};
use whittle_image::{OCI_INDEX, OCI_MANIFEST, digest_of};

pub(crate) const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub(crate) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// The tar of a layer with one static program.
pub(crate) fn program() -> Vec<u8> {
    let bytes = ElfFile::default().bytes();
    Tar::new().file("app", 0o755, &bytes).bytes()
}

/// A config that starts `/app`.
pub(crate) fn config(platform: &str, layers: &[Vec<u8>]) -> Vec<u8> {
    let (os, architecture) = platform.split_once('/').unwrap();
    let diff_ids: Vec<String> = layers.iter().map(|layer| digest_of(layer)).collect();
    let config = json!({
        "os": os, "architecture": architecture,
        "config": {"Entrypoint": ["/app"], "User": "65532:65532", "WorkingDir": "/srv"},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    serde_json::to_vec(&config).unwrap()
}

/// An OCI layout in a folder that goes away with it.
pub(crate) struct LayoutFolder {
    pub(crate) folder: TempDir,
}

/// What a descriptor says besides the digest.
pub(crate) fn entry(digest: &str, kind: &str, platform: Option<&str>, tag: Option<&str>) -> Value {
    let mut entry = json!({"mediaType": kind, "digest": digest, "size": 1});
    if let Some((os, architecture)) = platform.and_then(|platform| platform.split_once('/')) {
        entry["platform"] = json!({"os": os, "architecture": architecture});
    }
    if let Some(tag) = tag {
        entry["annotations"] = json!({"org.opencontainers.image.ref.name": tag});
    }
    entry
}

impl LayoutFolder {
    pub(crate) fn new() -> Self {
        let folder = TempDir::new().unwrap();
        std::fs::create_dir_all(folder.path().join("blobs/sha256")).unwrap();
        let mark = r#"{"imageLayoutVersion":"1.0.0"}"#;
        std::fs::write(folder.path().join("oci-layout"), mark).unwrap();
        Self { folder }
    }

    /// A layout with one image.
    pub(crate) fn of(platform: &str, layers: &[Vec<u8>]) -> Self {
        let layout = Self::new();
        let digest = layout.image(platform, layers);
        layout.top(&[entry(&digest, OCI_MANIFEST, Some(platform), None)]);
        layout
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn name(&self) -> String {
        self.path().display().to_string()
    }

    pub(crate) fn file(&self, digest: &str) -> PathBuf {
        self.path().join("blobs").join(digest.replace(':', "/"))
    }

    pub(crate) fn blob(&self, bytes: &[u8]) -> String {
        let digest = digest_of(bytes);
        std::fs::write(self.file(&digest), bytes).unwrap();
        digest
    }

    fn json(&self, value: &Value) -> String {
        self.blob(&serde_json::to_vec(value).unwrap())
    }

    /// An image of these tars; the digest of its manifest.
    pub(crate) fn image(&self, platform: &str, layers: &[Vec<u8>]) -> String {
        let config = config(platform, layers);
        let layers: Vec<Value> = layers
            .iter()
            .map(|layer| {
                let packed = gzip(layer);
                json!({"mediaType": GZIP, "digest": self.blob(&packed), "size": packed.len()})
            })
            .collect();
        self.manifest(CONFIG, &config, &layers)
    }

    /// Any manifest.
    pub(crate) fn manifest(&self, kind: &str, config: &[u8], layers: &[Value]) -> String {
        self.json(&json!({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST,
            "config": {"mediaType": kind, "digest": self.blob(config), "size": config.len()},
            "layers": layers,
        }))
    }

    /// An index of these entries.
    pub(crate) fn index(&self, entries: &[Value]) -> String {
        self.json(&json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}))
    }

    /// What the layout has.
    pub(crate) fn top(&self, entries: &[Value]) {
        let index = json!({"schemaVersion": 2, "manifests": entries});
        std::fs::write(self.path().join("index.json"), index.to_string()).unwrap();
    }

    /// All of it as a tar.
    pub(crate) fn tar(&self) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        tar.append_dir_all(".", self.path()).unwrap();
        tar.into_inner().unwrap()
    }
}
