//! A Builder's objects: what stands in the cluster for it, as a function of its spec.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{
    StatefulSet, StatefulSetPersistentVolumeClaimRetentionPolicy, StatefulSetSpec,
};
use k8s_openapi::api::core::v1::{
    AppArmorProfile, ConfigMap, ConfigMapVolumeSource, Container, ContainerPort,
    EmptyDirVolumeSource, KeyToPath, LocalObjectReference, PersistentVolumeClaim,
    PersistentVolumeClaimSpec, PodSecurityContext, PodSpec, PodTemplateSpec, Probe, SeccompProfile,
    SecretVolumeSource, SecurityContext, Service, ServicePort, ServiceSpec, TCPSocketAction,
    TopologySpreadConstraint, Volume, VolumeMount, VolumeResourceRequirements,
};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::{Resource, ResourceExt};

use super::{anew, buildkitd, isolation, network};
use crate::extra;
use crate::imagebuild::job::unprivileged;
use crate::names;
use crate::outside;
use crate::platforms;
use crate::settings::Settings;
use crate::sharing;
use whittle_api::{Builder, IsolationMode};
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
/// Below it, the state of a daemon in a user namespace: files of the two modes belong to other IDs.
const STATE_IN_USER_NAMESPACE: &str = "/home/user/.local/share/buildkit/userns";
/// Key of the ConfigMap with the subordinate IDs of a daemon in a user namespace: all of the 65,536 of the Pod but root's and the
/// daemon's own, so that images may have users up to 65534 (subuid(5)).
const SUBORDINATE: &str = "subordinate-ids";
/// The seccomp profile where the settings name none: as somebody may have put it on the nodes by hand.
const SECCOMP: &str = "whittle/builder.json";
const SUBORDINATE_IDS: &str = "user:1:999\nuser:1001:64535\n";
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
    let mode = isolation::wanted(builder, settings).mode;
    objects_in(mode, builder, settings, certificates)
}

/// The same, isolated in this way.
pub fn objects_in(
    mode: IsolationMode,
    builder: &Builder,
    settings: &Settings,
    certificates: &str,
) -> BuilderObjects {
    let config = buildkitd::config(&builder.spec);
    let pod = pod(builder, settings, mode);
    // Of all that restarts the daemon where it changes: so one comparison tells whether to drain first.
    let spec = serde_json::to_string(&pod).expect("a Pod's spec is always JSON");
    let (labels, annotations) = (
        &settings.builder.pod_labels,
        &settings.builder.pod_annotations,
    );
    let extra = format!("{}{}", labels.text(), annotations.text());
    let start_digest = digest_of(format!("{config}\n{certificates}\n{spec}{extra}").as_bytes());
    BuilderObjects {
        config_map: ConfigMap {
            metadata: metadata(builder),
            data: Some(BTreeMap::from([
                ("buildkitd.toml".to_owned(), config),
                (SUBORDINATE.to_owned(), SUBORDINATE_IDS.to_owned()),
            ])),
            ..ConfigMap::default()
        },
        service: service(builder),
        network_policy: network::policy(builder),
        stateful_set: stateful_set(builder, pod, start_digest, settings),
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

fn stateful_set(
    builder: &Builder,
    pod: PodSpec,
    start_digest: String,
    settings: &Settings,
) -> StatefulSet {
    let spec = &builder.spec;
    let name = builder.name_any();
    let labels = names::builder_labels(&name);
    let mut metadata = metadata(builder);
    if let Some((of, _)) = platforms::parent(builder) {
        // The chart's policies let it have the certificate of that one.
        let made_after = (sharing::MADE_AFTER.to_owned(), of.to_owned());
        metadata.labels.get_or_insert_default().extend([made_after]);
    }
    StatefulSet {
        metadata,
        spec: Some(StatefulSetSpec {
            // How many there really are to be is decided later: sleep, load, builds that run on those that are to go.
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
                    labels: settings.builder.pod_labels.with(Some(labels.clone())),
                    annotations: settings.builder.pod_annotations.with(Some(BTreeMap::from([
                        (names::CONFIG_DIGEST.to_owned(), start_digest),
                        (
                            "cluster-autoscaler.kubernetes.io/safe-to-evict".to_owned(),
                            "false".to_owned(),
                        ),
                    ]))),
                    ..ObjectMeta::default()
                }),
                spec: Some(pod),
            },
            volume_claim_templates: (!sharing::is_thrown_away(builder)).then(|| {
                vec![PersistentVolumeClaim {
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
                }]
            }),
            ..StatefulSetSpec::default()
        }),
        status: None,
    }
}

fn pod(builder: &Builder, settings: &Settings, mode: IsolationMode) -> PodSpec {
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
                secret_name: Some(names::builder_server_tls(&platforms::whose(builder))),
                default_mode: Some(0o440),
                ..SecretVolumeSource::default()
            }),
            ..Volume::default()
        },
    ];
    if sharing::is_thrown_away(builder) {
        volumes.push(Volume {
            name: "cache".into(),
            empty_dir: Some(EmptyDirVolumeSource {
                size_limit: Some(Quantity(spec.cache.size.clone())),
                ..EmptyDirVolumeSource::default()
            }),
            ..Volume::default()
        });
    }
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
    let (trusted, at) = outside::volumes(builder, settings, false);
    volumes.extend(trusted);
    mounts.extend(at);
    if mode == IsolationMode::UserNamespace {
        mounts.extend(["/etc/subuid", "/etc/subgid"].map(|path| VolumeMount {
            sub_path: Some(SUBORDINATE.into()),
            ..mount("config", path.into(), true)
        }));
    }
    let root = state_of(mode);
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
        host_users: (mode == IsolationMode::UserNamespace).then_some(false),
        security_context: Some(pod_security(mode)),
        image_pull_secrets: pull_secrets(&all_pull_secrets(settings)),
        node_selector: (!spec.node_selector.is_empty()).then(|| spec.node_selector.clone()),
        tolerations: (!spec.tolerations.is_empty()).then(|| spec.tolerations.clone()),
        priority_class_name: spec.priority_class_name.clone(),
        // Where there is room: a node that is lost takes few of them. One alone has it, too: as part of the template it would have the daemon
        // restarted when a second one comes, or the last but one goes.
        topology_spread_constraints: Some(vec![TopologySpreadConstraint {
            max_skew: 1,
            topology_key: "kubernetes.io/hostname".into(),
            when_unsatisfiable: "ScheduleAnyway".into(),
            label_selector: Some(LabelSelector {
                match_labels: Some(selector(builder)),
                match_expressions: None,
            }),
            ..TopologySpreadConstraint::default()
        }]),
        runtime_class_name: spec.runtime_class_name.clone(),
        init_containers: Some(vec![tools(settings, root)]),
        containers: vec![Container {
            name: "buildkitd".into(),
            image: Some(settings.builder.image.clone()),
            image_pull_policy: settings.builder.image_pull_policy.clone(),
            env: Some(extra::environment(
                &settings.builder.env,
                outside::environment(builder, settings),
                ("PATH", format!("{TOOLS}:{PATH}")),
            )),
            command: Some(vec![format!("{TOOLS}/whittle")]),
            args: Some(arguments(builder, mode)),
            // What it ends with says why it does not start.
            termination_message_policy: Some("FallbackToLogsOnError".into()),
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
            security_context: Some(security(settings, mode)),
            volume_mounts: Some(mounts),
            ..Container::default()
        }],
        volumes: Some(volumes),
        ..PodSpec::default()
    }
}

/// Those of `whittle`, and after `--` those of the daemon.
fn arguments(builder: &Builder, mode: IsolationMode) -> Vec<String> {
    let own = [
        "builder",
        "--isolation",
        mode.as_str(),
        "--root",
        state_of(mode),
    ];
    let mut all: Vec<String> = own.map(String::from).into();
    if let Some(key) = anew::key(builder) {
        all.extend(["--empty".into(), key]);
    }
    all.extend([
        "--".into(),
        "--config".into(),
        format!("{CONFIG}/buildkitd.toml"),
    ]);
    all
}

/// Puts the programs of `src/build/daemon` where the daemon finds them first, and takes off its folders what `fsGroup` put there.
fn tools(settings: &Settings, root: &str) -> Container {
    Container {
        name: "tools".into(),
        image: Some(settings.runner.image.clone()),
        image_pull_policy: settings.runner.image_pull_policy.clone(),
        args: Some(vec![
            "install".into(),
            TOOLS.into(),
            "--state".into(),
            root.into(),
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

/// The folder of the daemon's state.
fn state_of(mode: IsolationMode) -> &'static str {
    match mode {
        IsolationMode::UserNamespace => STATE_IN_USER_NAMESPACE,
        IsolationMode::Rootless => STATE,
    }
}

fn pod_security(mode: IsolationMode) -> PodSecurityContext {
    let (seccomp, app_armor) = match mode {
        IsolationMode::UserNamespace => ("RuntimeDefault", None),
        IsolationMode::Rootless => ("Unconfined", Some("Unconfined")),
    };
    PodSecurityContext {
        run_as_user: Some(USER),
        run_as_group: Some(USER),
        run_as_non_root: Some(true),
        fs_group: Some(USER),
        fs_group_change_policy: Some("OnRootMismatch".into()),
        seccomp_profile: Some(SeccompProfile {
            type_: seccomp.into(),
            localhost_profile: None,
        }),
        app_armor_profile: app_armor.map(|it| AppArmorProfile {
            type_: it.into(),
            localhost_profile: None,
        }),
        ..PodSecurityContext::default()
    }
}

/// That of the daemon's container.
fn security(settings: &Settings, mode: IsolationMode) -> SecurityContext {
    // rootlesskit's newuidmap and newgidmap gain CAP_SETUID and CAP_SETGID from their files.
    let gains = SecurityContext {
        allow_privilege_escalation: Some(true),
        privileged: Some(false),
        ..SecurityContext::default()
    };
    if mode == IsolationMode::Rootless {
        return gains;
    }
    let profile = &settings.builder.seccomp_profile;
    SecurityContext {
        // Steps have a /proc of their own, which the kernel lets nobody mount whose own one is masked.
        proc_mount: Some("Unmasked".into()),
        seccomp_profile: Some(SeccompProfile {
            type_: "Localhost".into(),
            localhost_profile: Some(profile.clone().unwrap_or_else(|| SECCOMP.into())),
        }),
        app_armor_profile: settings.builder.app_armor_profile.clone().map(|profile| {
            AppArmorProfile {
                type_: "Localhost".into(),
                localhost_profile: Some(profile),
            }
        }),
        ..gains
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
        let mounts = pod.containers[0].volume_mounts.as_ref().unwrap();
        let path = "/etc/buildkit-registry-ca/registry.example.com_5000";
        assert!(mounts.iter().any(|mount| mount.mount_path == path));
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

    #[test]
    fn a_builder_behind_a_proxy_and_with_its_own_authorities_is_told_of_both() {
        let mut settings = settings();
        settings.ca_file = Some("/etc/whittle-ca/ca.crt".into());
        let spec = serde_json::from_value(serde_json::json!({
            "proxy": {"httpProxy": "http://proxy.example.com:3128", "noProxy": "10.0.0.0/8"},
            "caRef": {"name": "corporate"}}));
        let builder = builder(spec.unwrap());
        let digest = |settings: &Settings| {
            let template = objects(&builder, settings, "c").stateful_set.spec.unwrap();
            let annotations = template.template.metadata.unwrap().annotations.unwrap();
            annotations[names::CONFIG_DIGEST].clone()
        };
        let set = objects(&builder, &settings, "c").stateful_set.spec.unwrap();
        let pod = set.template.spec.unwrap();
        let daemon = &pod.containers[0];
        let of_ca = |name: &str| name.starts_with("ca-");
        let mounts = daemon.volume_mounts.iter().flatten();
        let mounts: Vec<_> = mounts.filter(|it| of_ca(&it.name)).collect();
        let volumes = pod.volumes.iter().flatten();
        let volumes: Vec<_> = volumes.filter(|it| of_ca(&it.name)).collect();
        insta::assert_yaml_snapshot!("builder-outside", (&daemon.env, mounts, volumes));
        // The daemon reads its environment and its authorities when it starts.
        let mut direct = settings.clone();
        direct.ca_file = None;
        assert_ne!(digest(&settings), digest(&direct));
    }
}
