//! `buildkitd.toml`: the daemon's configuration.
//!
//! Source: <https://github.com/moby/buildkit/blob/v0.33.1/docs/buildkitd.toml.md>

use std::collections::BTreeMap;

use serde::Serialize;

use crate::builder::objects::{PORT, REGISTRY_CA};
use whittle_api::quantity;
use whittle_api::{BuilderSpec, RegistryConfig};
use whittle_build::request::paths::BUILDER_TLS as TLS;

#[derive(Serialize)]
struct Config {
    #[serde(skip_serializing_if = "Option::is_none")]
    grpc: Option<Grpc>,
    worker: Workers,
    frontend: BTreeMap<&'static str, Frontend>,
    registry: BTreeMap<String, Registry>,
}

#[derive(Serialize)]
struct Grpc {
    address: Vec<String>,
    tls: Tls,
}

#[derive(Serialize)]
struct Tls {
    cert: String,
    key: String,
    ca: String,
}

#[derive(Serialize)]
struct Workers {
    oci: Oci,
    containerd: Switch,
}

#[derive(Serialize)]
struct Oci {
    enabled: bool,
    gc: bool,
    gcpolicy: Vec<GcPolicy>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct GcPolicy {
    all: bool,
    max_used_space: i64,
    min_free_space: String,
}

#[derive(Serialize)]
struct Switch {
    enabled: bool,
}

#[derive(Serialize)]
struct Frontend {
    enabled: bool,
}

#[derive(Serialize, Default)]
struct Registry {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    mirrors: Vec<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    http: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ca: Vec<String>,
}

/// The text of `buildkitd.toml` for a Builder.
pub fn config(spec: &BuilderSpec) -> String {
    let grpc = Grpc {
        address: vec![format!("tcp://0.0.0.0:{PORT}")],
        tls: Tls {
            cert: format!("{TLS}/tls.crt"),
            key: format!("{TLS}/tls.key"),
            ca: format!("{TLS}/ca.crt"),
        },
    };
    text(spec, Some(grpc), REGISTRY_CA)
}

/// The same for a daemon on this machine, whose address is an argument. `registry_ca`: the folder with one folder for each
/// registry that has a `caRef`.
pub fn config_here(spec: &BuilderSpec, registry_ca: &str) -> String {
    text(spec, None, registry_ca)
}

fn text(spec: &BuilderSpec, grpc: Option<Grpc>, registry_ca: &str) -> String {
    let size = quantity::bytes(&spec.cache.size).unwrap_or(20 << 30);
    let config = Config {
        grpc,
        worker: Workers {
            oci: Oci {
                enabled: true,
                gc: true,
                // One rule without keepDuration: the daemon's own rules drop cache mounts that were
                // unused for 48 hours once they pass 512 MB. Collection lags behind writes, so the
                // mark is well under the volume's size.
                gcpolicy: vec![GcPolicy {
                    all: true,
                    max_used_space: i64::try_from(size / 100 * 80).unwrap_or(i64::MAX),
                    min_free_space: spec.cache.min_free.clone(),
                }],
            },
            containerd: Switch { enabled: false },
        },
        // Frontends from images would run whatever a `# syntax=` line names.
        frontend: BTreeMap::from([("gateway.v0", Frontend { enabled: false })]),
        registry: (spec.registries.iter())
            .map(|it| registry(it, registry_ca))
            .collect(),
    };
    toml::to_string(&config).expect("a configuration of plain strings and numbers is always TOML")
}

fn registry(config: &RegistryConfig, registry_ca: &str) -> (String, Registry) {
    let ca = config
        .ca_ref
        .as_ref()
        .map(|_| format!("{registry_ca}/{}/ca.crt", config.folder()));
    let registry = Registry {
        mirrors: config.mirrors.clone(),
        http: config.plain_http,
        ca: ca.into_iter().collect(),
    };
    (config.host.clone(), registry)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_on_this_machine_has_no_address_in_its_configuration() {
        let spec = BuilderSpec {
            registries: vec![RegistryConfig {
                host: "r.example:5000".into(),
                ca_ref: Some(Default::default()),
                ..Default::default()
            }],
            ..Default::default()
        };
        let text = config_here(&spec, "/x/ca");
        assert!(!text.contains("grpc"), "{text}");
        assert!(text.contains("/x/ca/r.example_5000/ca.crt"), "{text}");
        assert!(text.contains("enabled = false"), "{text}");
    }

    #[test]
    fn mirrors_plain_http_and_the_volumes_size_stand_in_the_configuration() {
        let mut spec = BuilderSpec::default();
        spec.cache.size = "1Gi".into();
        spec.registries = vec![
            RegistryConfig {
                host: "docker.io".into(),
                mirrors: vec!["mirror.example.com".into()],
                ..Default::default()
            },
            RegistryConfig {
                host: "mirror.example.com".into(),
                plain_http: true,
                ..Default::default()
            },
        ];
        insta::assert_snapshot!(config(&spec));
    }
}
