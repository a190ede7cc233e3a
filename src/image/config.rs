//! The image's config: what is started, as whom, and what each layer was made by
//! (<https://github.com/opencontainers/image-spec/blob/main/config.md>).

use serde::Deserialize;
use serde_json::Value;

use super::document::{ConfigDocument, DocumentPlatform, Object, read};
use super::limits::short;

/// The PATH that containerd and runc give to a container whose image sets none.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Volumes that are read.
const MAX_VOLUMES: usize = 64;

/// Why bytes are not an image's config.
#[derive(thiserror::Error, Debug)]
pub enum ConfigError {
    /// Not of the shape.
    #[error(
        "the image's config is invalid, so this is an artifact and not a container image, or it \
            is corrupted: {0}"
    )]
    Malformed(String),
}

/// An image's config, as far as it says how a container starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageConfig {
    /// `linux`
    pub os: String,
    /// `amd64`, `arm64`, …
    pub architecture: String,
    /// `v7`, `v8`; empty where there is none.
    pub variant: String,
    /// USER, as written; empty: root.
    pub user: String,
    /// `NAME=value` each.
    pub env: Vec<String>,
    /// ENTRYPOINT.
    pub entrypoint: Vec<String>,
    /// CMD.
    pub cmd: Vec<String>,
    /// WORKDIR; empty: `/`.
    pub working_dir: String,
    /// VOLUME: paths, in their order.
    pub volumes: Vec<String>,
    /// HEALTHCHECK, where there is one that is not NONE: `CMD` or `CMD-SHELL` and what is run.
    pub health_check: Option<Vec<String>>,
    /// True where an image that is built on this one runs instructions of it first: ONBUILD.
    pub on_build: bool,
    /// Digests of the unpacked layers.
    pub diff_ids: Vec<String>,
    /// What made each layer, in their order; empty where the history does not say.
    pub instructions: Vec<String>,
}

/// What Docker adds to the config of OCI.
#[derive(Deserialize)]
struct Docker {
    config: Option<DockerConfig>,
}

/// Of any shape: one that Docker would not read counts as none.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct DockerConfig {
    healthcheck: Value,
    on_build: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HealthCheck {
    test: Option<Vec<String>>,
}

impl ImageConfig {
    /// The largest config that is read, in bytes.
    pub const LIMIT: u64 = 4 << 20;

    /// Reads the config blob.
    pub fn parse(bytes: &[u8]) -> Result<Self, ConfigError> {
        let Object(config): Object<ConfigDocument> = read(bytes).map_err(ConfigError::Malformed)?;
        let stated = |field: Option<String>, name: &str| {
            field.ok_or_else(|| ConfigError::Malformed(format!("its {name} is missing")))
        };
        let docker = serde_json::from_slice::<Docker>(bytes).ok();
        let docker = docker.and_then(|docker| docker.config).unwrap_or_default();
        let on_build = docker.on_build.as_array();
        let on_build = on_build.is_some_and(|triggers| !triggers.is_empty());
        let health_check = serde_json::from_value::<HealthCheck>(docker.healthcheck)
            .ok()
            .and_then(|check| check.test)
            .filter(|test| test.len() > 1 && test[0] != "NONE");
        let diff_ids = config.rootfs.diff_ids;
        let mut instructions: Vec<String> = config
            .history
            .iter()
            .filter(|step| !step.empty_layer)
            .map(|step| instruction(&step.created_by))
            .collect();
        // A history of another length says nothing about which layer is whose. BuildKit makes up for a base
        // without history by entries of its own at the end, named as its steps are: then all are shifted.
        let made_up = |text: &String| text.starts_with('[') || text.starts_with("mount / from ");
        if instructions.len() != diff_ids.len() || instructions.iter().any(made_up) {
            instructions = vec![String::new(); diff_ids.len()];
        }
        let run = config.config;
        Ok(Self {
            os: stated(config.os, "os")?,
            architecture: stated(config.architecture, "architecture")?,
            variant: config.variant,
            user: run.user,
            env: run.env,
            entrypoint: run.entrypoint,
            cmd: run.cmd,
            working_dir: run.working_dir,
            volumes: run.volumes.into_keys().take(MAX_VOLUMES).collect(),
            health_check,
            on_build,
            diff_ids,
            instructions,
        })
    }

    /// The platform, as an index has it.
    pub fn document_platform(&self) -> DocumentPlatform {
        DocumentPlatform {
            os: self.os.clone(),
            architecture: self.architecture.clone(),
            variant: self.variant.clone(),
        }
    }

    /// `os/architecture` or `os/architecture/variant`.
    pub fn platform(&self) -> String {
        let mut text = format!("{}/{}", self.os, self.architecture);
        if !self.variant.is_empty() {
            text.push('/');
            text.push_str(&self.variant);
        }
        text
    }

    /// The value of a variable; that which stands last, as execve's readers mostly see it.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.env.iter().rev().find_map(|variable| {
            let (key, value) = variable.split_once('=')?;
            (key == name).then_some(value)
        })
    }

    /// Directories of PATH, in their order; an empty one is the working directory, and an empty PATH has none.
    pub fn search_path(&self) -> impl Iterator<Item = &str> {
        let path = self.variable("PATH").unwrap_or(DEFAULT_PATH);
        path.split(':').filter(move |_| !path.is_empty())
    }

    /// The directory that a container starts in.
    pub fn directory(&self) -> &str {
        match self.working_dir.as_str() {
            "" => "/",
            directory => directory,
        }
    }

    /// ENTRYPOINT and CMD: what a container runs that names nothing else.
    pub fn command(&self) -> Vec<String> {
        [&self.entrypoint[..], &self.cmd[..]].concat()
    }
}

/// The Dockerfile's instruction, out of what builders write into the history.
fn instruction(created_by: &str) -> String {
    let text = created_by.trim();
    let text = text.strip_suffix("# buildkit").unwrap_or(text).trim();
    // The builder before BuildKit: /bin/sh -c #(nop) COPY …, and /bin/sh -c apt-get … for RUN.
    let text = match text.strip_prefix("/bin/sh -c ") {
        Some(rest) => match rest.trim_start().strip_prefix("#(nop)") {
            Some(rest) => rest.trim().to_owned(),
            None => format!("RUN {}", rest.trim()),
        },
        // `RUN |1 VERSION=1 /bin/sh -c go build`: arguments and their number stand before the shell.
        None => match text.split_once("/bin/sh -c ") {
            Some((before, rest)) if before == "RUN " || before.starts_with("RUN |") => {
                format!("RUN {}", rest.trim())
            }
            _ => text.to_owned(),
        },
    };
    short(&text.split_whitespace().collect::<Vec<_>>().join(" "), 200)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_of_buildkit_says_what_is_started_and_what_made_each_layer() {
        let config = ImageConfig::parse(
            br#"{"architecture":"arm64","os":"linux","variant":"v8",
            "config":{"User":"65532:65532","Env":["PATH=/bin:/app","A=1","A=2"],"Entrypoint":["/app"],"Cmd":["serve"],
              "WorkingDir":"/srv","Healthcheck":{"Test":["CMD","/app","health"],"Interval":1000000000},
              "OnBuild":["RUN x"]},
            "rootfs":{"type":"layers","diff_ids":["sha256:a","sha256:b"]},
            "history":[{"created_by":"COPY / / # buildkit"},{"created_by":"ENV A=1","empty_layer":true},
              {"created_by":"RUN |1 V=1 /bin/sh -c make  install # buildkit"}]}"#,
        )
        .unwrap();
        assert_eq!(config.platform(), "linux/arm64/v8");
        assert_eq!(config.command(), ["/app", "serve"]);
        assert_eq!(config.directory(), "/srv");
        assert_eq!(config.variable("A"), Some("2"));
        assert_eq!(config.search_path().collect::<Vec<_>>(), ["/bin", "/app"]);
        assert_eq!(config.instructions, ["COPY / /", "RUN make install"]);
        assert_eq!(config.health_check.unwrap(), ["CMD", "/app", "health"]);
        assert!(config.on_build);
    }

    #[test]
    fn a_config_of_docker_may_have_nulls() {
        let config = ImageConfig::parse(
            br#"{"architecture":"amd64","os":"linux","created":"2024-01-01T00:00:00Z","docker_version":"20.10",
            "container_config":{"Hostname":"","Cmd":["x"]},
            "config":{"Hostname":"","User":"","AttachStdin":false,"Env":null,"Cmd":["sh"],"Image":"","Volumes":null,
              "ExposedPorts":null,"WorkingDir":"","Entrypoint":null,"OnBuild":null,"Labels":null,
              "Healthcheck":{"Test":["NONE"]}},
            "history":[{"created_by":"/bin/sh -c #(nop) ADD file:1 in / "}],
            "rootfs":{"type":"layers","diff_ids":["sha256:a"]}}"#,
        )
        .unwrap();
        assert_eq!(config.command(), ["sh"]);
        assert_eq!(config.directory(), "/");
        assert_eq!(config.search_path().count(), 6);
        assert_eq!(config.instructions, ["ADD file:1 in /"]);
        assert_eq!(config.health_check, None);
        assert!(!config.on_build);
    }

    #[test]
    fn a_history_that_was_made_up_says_nothing() {
        for made_up in [
            "[stage-1 4/4] COPY /a /a",
            "mount / from exec /bin/sh -c make",
        ] {
            let config = ImageConfig::parse(
                format!(
                    r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":["sha256:a","sha256:b"]}},
                    "history":[{{"created_by":"RUN /bin/sh -c make # buildkit"}},{{"created_by":"{made_up}"}}]}}"#
                )
                .as_bytes(),
            )
            .unwrap();
            assert_eq!(config.instructions, ["", ""], "{made_up}");
        }
    }

    #[test]
    fn an_artifact_has_no_config() {
        for bytes in [&b"{}"[..], b"[]", b"", b"\xff"] {
            let error = ImageConfig::parse(bytes).unwrap_err();
            assert!(
                error.to_string().contains("not a container image"),
                "{error}"
            );
        }
    }
}
