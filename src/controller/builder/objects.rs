//! A Builder's objects: what stands in the cluster for it, as a function of its spec.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{
    StatefulSet, StatefulSetPersistentVolumeClaimRetentionPolicy, StatefulSetSpec,
};
use k8s_openapi::api::core::v1::{
    AppArmorProfile, ConfigMap, ConfigMapVolumeSource, Container, ContainerPort,
    EmptyDirVolumeSource, EnvVar, KeyToPath, LocalObjectReference, PersistentVolumeClaim,
    PersistentVolumeClaimSpec, PodSecurityContext, PodSpec, PodTemplateSpec, Probe, SeccompProfile,
    SecretVolumeSource, SecurityContext, Service, ServicePort, ServiceSpec, TCPSocketAction,
    Volume, VolumeMount, VolumeResourceRequirements,
};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::{Resource, ResourceExt};

use super::{buildkitd, network};
use crate::imagebuild::job::unprivileged;
use crate::names;
use crate::settings::Settings;
use whittle_api::{Builder, Isolation};
use whittle_build::request::paths;
use whittle_image::digest_of;

/// The daemon's port.
pub const PORT: i32 = 1234;
/// uid and gid of the daemon in BuildKit's rootless images.
const USER: i64 = 1000;
const CONFIG: &str = "/etc/buildkit";
/// Folder with one folder for each registry that has a `caRef`.
pub const REGISTRY_CA: &str = "/etc/buildkit-registry-ca";
const STATE: &str = "/home/user/.local/share/buildkit";
/// Folder with the programs that stand before the image's own (`src/build/daemon`).
const TOOLS: &str = "/whittle/tools";
/// Bytes of that folder: one program.
const TOOLS_SIZE: &str = "128Mi";
/// Where programs are looked for in BuildKit's images.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// All objects of a Builder but its Secrets.
#[derive(Clone, Debug)]
pub struct BuilderObjects {
    /// `buildkitd.toml`.
    pub config_map: ConfigMap,
    /// Gives the daemon its DNS name.
    pub service: Service,
    /// Lets only this namespace's runners in; what steps reach is said before it is applied.
    pub network_policy: NetworkPolicy,
    /// The daemon.
    pub stateful_set: StatefulSet,
}

/// The objects of `builder`; `certificates` is a digest of those that its Secret holds.
pub fn objects(builder: &Builder, settings: &Settings, certificates: &str) -> BuilderObjects {
    let config = buildkitd::config(&builder.spec);
    let pod = pod(builder, settings);
    // Of all that restarts the daemon where it changes: so one comparison tells whether to drain first.
    let spec = serde_json::to_string(&pod).expect("a Pod's spec is always JSON");
    let start_digest = digest_of(format!("{config}\n{certificates}\n{spec}").as_bytes());
    BuilderObjects {
        config_map: ConfigMap {
            metadata: metadata(builder),
            data: Some(BTreeMap::from([("buildkitd.toml".to_owned(), config)])),
            ..ConfigMap::default()
        },
        service: service(builder),
        network_policy: network::policy(builder),
        stateful_set: stateful_set(builder, pod, start_digest),
    }
}

/// Metadata of an object that belongs to the Builder, and goes with it.
pub fn metadata(builder: &Builder) -> ObjectMeta {
    ObjectMeta {
        name: Some(names::builder(&builder.name_any())),
        namespace: builder.namespace(),
        labels: Some(names::builder_labels(&builder.name_any())),
        owner_references: builder.controller_owner_ref(&()).map(|owner| vec![owner]),
        ..ObjectMeta::default()
    }
}

/// Labels of the daemon's Pod.
pub fn selector(builder: &Builder) -> BTreeMap<String, String> {
    [
        (names::COMPONENT, names::BUILDER.to_owned()),
        (names::BUILDER_NAME, builder.name_any()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

fn service(builder: &Builder) -> Service {
    Service {
        metadata: metadata(builder),
        spec: Some(ServiceSpec {
            // Headless: runners address the Pod that holds their cache, by its own name.
            cluster_ip: Some("None".into()),
            selector: Some(selector(builder)),
            ports: Some(vec![ServicePort {
                name: Some("buildkit".into()),
                port: PORT,
                target_port: Some(IntOrString::String("buildkit".into())),
                protocol: Some("TCP".into()),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

fn stateful_set(builder: &Builder, pod: PodSpec, start_digest: String) -> StatefulSet {
    let spec = &builder.spec;
    let name = builder.name_any();
    let labels = names::builder_labels(&name);
    StatefulSet {
        metadata: metadata(builder),
        spec: Some(StatefulSetSpec {
            replicas: Some(spec.replicas),
            service_name: Some(names::builder(&name)),
            selector: LabelSelector {
                match_labels: Some(selector(builder)),
                match_expressions: None,
            },
            pod_management_policy: Some("Parallel".into()),
            revision_history_limit: Some(1),
            persistent_volume_claim_retention_policy: Some(
                StatefulSetPersistentVolumeClaimRetentionPolicy {
                    when_deleted: Some("Delete".into()),
                    when_scaled: Some("Retain".into()),
                },
            ),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(labels.clone()),
                    annotations: Some(BTreeMap::from([
                        (names::CONFIG_DIGEST.to_owned(), start_digest),
                        (
                            "cluster-autoscaler.kubernetes.io/safe-to-evict".to_owned(),
                            "false".to_owned(),
                        ),
                    ])),
                    ..ObjectMeta::default()
                }),
                spec: Some(pod),
            },
            volume_claim_templates: Some(vec![PersistentVolumeClaim {
                metadata: ObjectMeta {
                    name: Some("cache".into()),
                    labels: Some(labels),
                    ..ObjectMeta::default()
                },
                spec: Some(PersistentVolumeClaimSpec {
                    access_modes: Some(vec!["ReadWriteOnce".into()]),
                    storage_class_name: spec.cache.storage_class_name.clone(),
                    resources: Some(VolumeResourceRequirements {
                        requests: Some(BTreeMap::from([(
                            "storage".into(),
                            Quantity(spec.cache.size.clone()),
                        )])),
                        limits: None,
                    }),
                    ..PersistentVolumeClaimSpec::default()
                }),
                status: None,
            }]),
            ..StatefulSetSpec::default()
        }),
        status: None,
    }
}

fn pod(builder: &Builder, settings: &Settings) -> PodSpec {
    let spec = &builder.spec;
    let name = builder.name_any();
    let mut volumes = vec![
        Volume {
            name: "tools".into(),
            empty_dir: Some(EmptyDirVolumeSource {
                size_limit: Some(Quantity(TOOLS_SIZE.into())),
                ..EmptyDirVolumeSource::default()
            }),
            ..Volume::default()
        },
        config_map_volume("config", names::builder(&name), None),
        Volume {
            name: "tls".into(),
            secret: Some(SecretVolumeSource {
                secret_name: Some(names::builder_server_tls(&name)),
                default_mode: Some(0o440),
                ..SecretVolumeSource::default()
            }),
            ..Volume::default()
        },
    ];
    let mut mounts = vec![
        mount("cache", STATE.to_owned(), false),
        mount("tools", TOOLS.to_owned(), true),
        mount("config", CONFIG.to_owned(), true),
        mount("tls", paths::BUILDER_TLS.to_owned(), true),
    ];
    for (at, registry) in spec.registries.iter().enumerate() {
        let Some(ca) = &registry.ca_ref else { continue };
        let volume = format!("registry-ca-{at}");
        mounts.push(mount(
            &volume,
            format!("{REGISTRY_CA}/{}", registry.folder()),
            true,
        ));
        volumes.push(config_map_volume(
            &volume,
            ca.name.clone(),
            Some((ca.key.clone(), "ca.crt".into())),
        ));
    }
    let probe = |period: i32, failures: i32| Probe {
        // With mutual TLS the kubelet cannot speak gRPC to the daemon; an exec probe of buildctl has
        // killed healthy daemons under load.
        tcp_socket: Some(TCPSocketAction {
            port: IntOrString::String("buildkit".into()),
            host: None,
        }),
        period_seconds: Some(period),
        failure_threshold: Some(failures),
        timeout_seconds: Some(5),
        ..Probe::default()
    };
    PodSpec {
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        termination_grace_period_seconds: Some(60),
        security_context: Some(pod_security(spec.isolation)),
        image_pull_secrets: pull_secrets(&all_pull_secrets(settings)),
        node_selector: (!spec.node_selector.is_empty()).then(|| spec.node_selector.clone()),
        tolerations: (!spec.tolerations.is_empty()).then(|| spec.tolerations.clone()),
        priority_class_name: spec.priority_class_name.clone(),
        runtime_class_name: spec.runtime_class_name.clone(),
        init_containers: Some(vec![tools(settings)]),
        containers: vec![Container {
            name: "buildkitd".into(),
            image: Some(settings.builder.image.clone()),
            image_pull_policy: settings.builder.image_pull_policy.clone(),
            env: Some(vec![EnvVar {
                name: "PATH".into(),
                value: Some(format!("{TOOLS}:{PATH}")),
                value_from: None,
            }]),
            args: Some(vec![
                "--config".into(),
                format!("{CONFIG}/buildkitd.toml"),
                // Without it runc cannot mount /proc in a Pod whose own /proc is masked.
                "--oci-worker-no-process-sandbox".into(),
            ]),
            ports: Some(vec![ContainerPort {
                name: Some("buildkit".into()),
                container_port: PORT,
                protocol: Some("TCP".into()),
                ..ContainerPort::default()
            }]),
            startup_probe: Some(probe(1, 120)),
            readiness_probe: Some(probe(5, 3)),
            liveness_probe: Some(probe(30, 6)),
            resources: Some(spec.resources.clone()),
            // rootlesskit's newuidmap and newgidmap gain CAP_SETUID and CAP_SETGID from their files.
            security_context: Some(SecurityContext {
                allow_privilege_escalation: Some(true),
                privileged: Some(false),
                ..SecurityContext::default()
            }),
            volume_mounts: Some(mounts),
            ..Container::default()
        }],
        volumes: Some(volumes),
        ..PodSpec::default()
    }
}

/// Puts the programs of `src/build/daemon` where the daemon finds them first, and takes off its folders what `fsGroup` put there.
fn tools(settings: &Settings) -> Container {
    Container {
        name: "tools".into(),
        image: Some(settings.runner.image.clone()),
        image_pull_policy: settings.runner.image_pull_policy.clone(),
        args: Some(vec![
            "install".into(),
            TOOLS.into(),
            "--state".into(),
            STATE.into(),
        ]),
        resources: Some(settings.runner.resources.clone()),
        security_context: Some(SecurityContext {
            read_only_root_filesystem: Some(true),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".into(),
                localhost_profile: None,
            }),
            ..unprivileged()
        }),
        volume_mounts: Some(vec![
            mount("tools", TOOLS.to_owned(), false),
            mount("cache", STATE.to_owned(), false),
        ]),
        ..Container::default()
    }
}

/// Those of both images of the Pod.
fn all_pull_secrets(settings: &Settings) -> Vec<String> {
    let mut all = settings.builder.image_pull_secrets.clone();
    for name in &settings.runner.image_pull_secrets {
        if !all.contains(name) {
            all.push(name.clone());
        }
    }
    all
}

fn pod_security(isolation: Isolation) -> PodSecurityContext {
    match isolation {
        Isolation::Rootless => PodSecurityContext {
            run_as_user: Some(USER),
            run_as_group: Some(USER),
            run_as_non_root: Some(true),
            fs_group: Some(USER),
            fs_group_change_policy: Some("OnRootMismatch".into()),
            seccomp_profile: Some(SeccompProfile {
                type_: "Unconfined".into(),
                localhost_profile: None,
            }),
            app_armor_profile: Some(AppArmorProfile {
                type_: "Unconfined".into(),
                localhost_profile: None,
            }),
            ..PodSecurityContext::default()
        },
    }
}

/// References to image pull secrets; none where there are none.
pub fn pull_secrets(names: &[String]) -> Option<Vec<LocalObjectReference>> {
    (!names.is_empty()).then(|| {
        names
            .iter()
            .map(|name| LocalObjectReference { name: name.clone() })
            .collect()
    })
}

/// A volume of a ConfigMap, or of one key of it under another name.
pub fn config_map_volume(
    volume: &str,
    config_map: String,
    item: Option<(String, String)>,
) -> Volume {
    Volume {
        name: volume.to_owned(),
        config_map: Some(ConfigMapVolumeSource {
            name: config_map,
            items: item.map(|(key, path)| {
                vec![KeyToPath {
                    key,
                    path,
                    mode: None,
                }]
            }),
            ..ConfigMapVolumeSource::default()
        }),
        ..Volume::default()
    }
}

/// A mount of a volume.
pub fn mount(volume: &str, path: String, read_only: bool) -> VolumeMount {
    VolumeMount {
        name: volume.to_owned(),
        mount_path: path,
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use whittle_api::{BuilderSpec, ConfigMapKeyRef, RegistryConfig};

    fn settings() -> Settings {
        crate::fixtures::settings()
    }

    fn builder(spec: BuilderSpec) -> Builder {
        let mut builder = Builder::new("default", spec);
        builder.metadata.namespace = Some("team".into());
        builder.metadata.uid = Some("11111111-2222-3333-4444-555555555555".into());
        builder
    }

    #[test]
    fn the_objects_of_a_builder_with_defaults() {
        let objects = objects(
            &builder(BuilderSpec::default()),
            &settings(),
            "sha256:certs",
        );
        insta::assert_yaml_snapshot!("builder-config-map", objects.config_map);
        insta::assert_yaml_snapshot!("builder-service", objects.service);
        insta::assert_yaml_snapshot!("builder-network-policy", objects.network_policy);
        insta::assert_yaml_snapshot!("builder-stateful-set", objects.stateful_set);
    }

    #[test]
    fn a_registry_with_its_own_authority_is_mounted_into_the_daemon() {
        let registries = vec![RegistryConfig {
            host: "registry.example.com:5000".into(),
            ca_ref: Some(ConfigMapKeyRef {
                name: "registry-ca".into(),
                key: "ca.crt".into(),
            }),
            ..RegistryConfig::default()
        }];
        let objects = objects(
            &builder(BuilderSpec {
                registries,
                ..BuilderSpec::default()
            }),
            &settings(),
            "c",
        );
        let pod = objects.stateful_set.spec.unwrap().template.spec.unwrap();
        let mount = pod.containers[0]
            .volume_mounts
            .as_ref()
            .unwrap()
            .last()
            .unwrap();
        assert_eq!(
            mount.mount_path,
            "/etc/buildkit-registry-ca/registry.example.com_5000"
        );
        let config = &objects.config_map.data.unwrap()["buildkitd.toml"];
        assert!(
            config.contains("/etc/buildkit-registry-ca/registry.example.com_5000/ca.crt"),
            "{config}"
        );
    }

    #[test]
    fn other_certificates_start_the_daemon_anew() {
        let template = |certificates: &str| {
            objects(&builder(BuilderSpec::default()), &settings(), certificates)
                .stateful_set
                .spec
                .unwrap()
                .template
        };
        assert_ne!(template("a").metadata, template("b").metadata);
        assert_eq!(template("a").metadata, template("a").metadata);
    }
}
