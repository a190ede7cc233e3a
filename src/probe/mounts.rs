//! Volumes over the image's files: what lies there is not what the image's report lists.

use k8s_openapi::api::core::v1::{Container, PodSpec, Volume};

use super::paths::{self, Links};

/// One volume mount of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    /// Where it lies, links of the image followed.
    pub(super) at: String,
    /// As the manifest says it.
    written: String,
    /// `volume scripts (ConfigMap)`
    volume: String,
    /// Set where files of the volume have no execute permission: their mode.
    mode: Option<i32>,
}

impl Mount {
    /// All mounts of a container.
    pub(super) fn of(pod: &PodSpec, container: &Container, links: &Links<'_>) -> Vec<Self> {
        let volumes = pod.volumes.as_deref().unwrap_or_default();
        container
            .volume_mounts
            .iter()
            .flatten()
            .map(|mount| {
                let volume = volumes.iter().find(|volume| volume.name == mount.name);
                let kind = volume.map_or("not declared", kind);
                Self {
                    // Where links cannot be followed, the path as it is written has to do.
                    at: links
                        .follow(&mount.mount_path)
                        .unwrap_or_else(|_| paths::clean(&mount.mount_path)),
                    written: mount.mount_path.clone(),
                    volume: format!("volume {} ({kind})", mount.name),
                    mode: volume.and_then(mode).filter(|mode| mode & 0o111 == 0),
                }
            })
            .collect()
    }

    /// True where the mount decides what lies at an absolute path.
    pub(super) fn covers(&self, path: &str) -> bool {
        paths::within(path, &self.at)
    }

    /// True where the mount may add, replace or hide shared libraries.
    pub(super) fn touches_libraries(&self) -> bool {
        const FOLDERS: [&str; 5] = ["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib"];
        FOLDERS.iter().any(|folder| {
            paths::within(folder, &self.at)
                // A directory for one architecture, such as /usr/lib/x86_64-linux-gnu.
                || (paths::within(&self.at, folder)
                    && (self.at.contains("-linux-") || self.at.contains(".so")))
        })
    }

    /// Why what lies there is not known: one clause.
    pub(super) fn why(&self, path: &str) -> String {
        let mut text = format!(
            "{} is mounted at {}, so the content of {path} is unknown",
            self.volume, self.written
        );
        if let Some(mode) = self.mode {
            text.push_str(&format!(
                "; its files are not executable (mode {mode:04o}): set defaultMode: 0755, or \
                    start them with a shell"
            ));
        }
        text
    }
}

fn kind(volume: &Volume) -> &'static str {
    match volume {
        Volume {
            config_map: Some(_),
            ..
        } => "ConfigMap",
        Volume {
            secret: Some(_), ..
        } => "Secret",
        Volume {
            projected: Some(_), ..
        } => "projected",
        Volume {
            downward_api: Some(_),
            ..
        } => "downward API",
        Volume {
            empty_dir: Some(_), ..
        } => "emptyDir",
        Volume {
            host_path: Some(_), ..
        } => "hostPath",
        Volume { image: Some(_), .. } => "image",
        Volume { csi: Some(_), .. } => "CSI",
        Volume {
            persistent_volume_claim: Some(_),
            ..
        } => "PersistentVolumeClaim",
        Volume {
            ephemeral: Some(_), ..
        } => "ephemeral",
        _ => "other",
    }
}

/// The mode of files in a volume that the kubelet writes, 0644 where none is set; none where single
/// files have a mode of their own, and for volumes that others write.
fn mode(volume: &Volume) -> Option<i32> {
    const DEFAULT: i32 = 0o644;
    let (items, mode) = match (&volume.config_map, &volume.secret) {
        (Some(source), _) => (&source.items, source.default_mode),
        (None, Some(source)) => (&source.items, source.default_mode),
        (None, None) => return None,
    };
    let single = items.iter().flatten().any(|item| item.mode.is_some());
    (!single).then(|| mode.unwrap_or(DEFAULT))
}
