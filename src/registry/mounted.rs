//! The Secrets with credentials for registries, as the kubelet mounts them.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use crate::{ConfigFault, DockerConfig};

/// The key of a Secret of type kubernetes.io/dockerconfigjson.
pub const CONFIG_KEY: &str = ".dockerconfigjson";
/// That of the type before it, kubernetes.io/dockercfg.
pub const LEGACY_KEY: &str = ".dockercfg";
/// The most that is read of either, in bytes: what a Secret may hold.
const LIMIT: u64 = 1 << 20;

/// Why a mounted Secret gives no credentials.
#[derive(Debug)]
pub enum MountFault {
    /// It cannot be read.
    Io(io::Error),
    /// It has other keys than those.
    Keys(Vec<String>),
    /// What it has is none: the key, and what is wrong.
    Config(&'static str, ConfigFault),
}

impl DockerConfig {
    /// The credentials in the Secret that is mounted at `folder`; none where none is.
    pub fn mounted(folder: &Path) -> Result<Self, MountFault> {
        if !folder.exists() {
            return Ok(Self::default());
        }
        type Parse = fn(&str) -> Result<DockerConfig, ConfigFault>;
        let kinds: [(&str, Parse); 2] =
            [(CONFIG_KEY, Self::parse), (LEGACY_KEY, Self::parse_legacy)];
        for (key, parse) in kinds {
            let path = folder.join(key);
            match fs::metadata(&path) {
                Ok(found) if found.len() > LIMIT => {
                    return Err(MountFault::Io(io::Error::other(
                        "it is too large: more than 1 MiB",
                    )));
                }
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(MountFault::Io(error)),
            }
            let bytes = fs::read(&path).map_err(MountFault::Io)?;
            let text = String::from_utf8_lossy(&bytes);
            return parse(&text).map_err(|fault| MountFault::Config(key, fault));
        }
        Err(MountFault::Keys(keys(folder).map_err(MountFault::Io)?))
    }
}

/// The keys of a mounted Secret, a few of them: what begins with two points is the kubelet's own.
fn keys(folder: &Path) -> io::Result<Vec<String>> {
    let mut keys = vec![];
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !name.starts_with("..") {
            keys.push(name);
        }
    }
    keys.sort();
    keys.truncate(10);
    Ok(keys)
}
