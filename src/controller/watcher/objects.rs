//! The objects of a watcher, as a function of what is watched. They belong to the Builder whose ImageBuilds they serve, and go
//! with it.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy};
use k8s_openapi::api::core::v1::{
    ConfigMap, Container, PodSecurityContext, PodSpec, PodTemplateSpec, ResourceRequirements,
    Secret, SecurityContext, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use kube::{Resource, ResourceExt};

use super::room::{self, LeftOut, Room};
use crate::builder::objects::{config_map_volume, mount, pull_secrets};
use crate::imagebuild::job::{USER, restricted, secret_volume, unprivileged};
use crate::names;
use crate::outside;
use crate::settings::Settings;
use whittle_api::Builder;
use whittle_watch::wire::{List, Watched, paths};

/// All objects of a watcher.
#[derive(Clone, Debug, PartialEq)]
pub struct WatcherObjects {
    /// What is watched.
    pub config_map: ConfigMap,
    /// What the watcher is known by, which is not in it yet. It belongs to the ConfigMap, and goes with it.
    pub secret: Secret,
    /// The watcher.
    pub deployment: Deployment,
    /// What there is no room for, by the UID of the ImageBuild.
    pub left_out: BTreeMap<String, LeftOut>,
}

impl WatcherObjects {
    /// The text of the list.
    pub fn list(&self) -> &str {
        let data = self.config_map.data.as_ref();
        data.and_then(|data| data.get(paths::LIST_KEY))
            .map_or("", String::as_str)
    }
}

/// The objects that look at these sources for ImageBuilds of `builder`; none where the installation has no callback, by which
/// they would be told.
pub fn objects(
    builder: &Builder,
    watched: Vec<Watched>,
    settings: &Settings,
) -> Option<WatcherObjects> {
    let callback = settings.callback.as_ref()?.url.clone();
    let Room {
        mut watched,
        secrets,
        left_out,
    } = room::share(watched);
    watched.sort_by(|a, b| a.id.cmp(&b.id));
    let name = names::watcher(&builder.name_any());
    let list = List {
        callback,
        sources: watched,
        builders: BTreeMap::from([(builder.name_any(), builder.spec.registries.clone())]),
    };
    let list = serde_json::to_string(&list).expect("plain data is always JSON");
    let metadata = metadata(builder, &name);
    Some(WatcherObjects {
        config_map: ConfigMap {
            metadata: metadata.clone(),
            data: Some([(paths::LIST_KEY.to_owned(), list)].into()),
            ..ConfigMap::default()
        },
        secret: Secret {
            metadata: metadata.clone(),
            ..Secret::default()
        },
        deployment: deployment(metadata, pod(builder, &name, &secrets, settings), settings),
        left_out,
    })
}

fn metadata(builder: &Builder, name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: builder.namespace(),
        labels: Some(names::watcher_labels(&builder.name_any())),
        owner_references: builder.controller_owner_ref(&()).map(|owner| vec![owner]),
        ..ObjectMeta::default()
    }
}

fn deployment(metadata: ObjectMeta, pod: PodSpec, settings: &Settings) -> Deployment {
    let labels = metadata.labels.clone().unwrap_or_default();
    let mut selector = labels.clone();
    selector.retain(|key, _| key.starts_with("whittle.dev/"));
    Deployment {
        metadata,
        spec: Some(DeploymentSpec {
            replicas: Some(1),
            revision_history_limit: Some(1),
            // Two would ask everything twice.
            strategy: Some(DeploymentStrategy {
                type_: Some("Recreate".into()),
                rolling_update: None,
            }),
            selector: LabelSelector {
                match_labels: Some(selector),
                match_expressions: None,
            },
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: settings.runner.pod_labels.with(Some(labels)),
                    annotations: settings.runner.pod_annotations.with(None),
                    ..ObjectMeta::default()
                }),
                spec: Some(pod),
            },
            ..DeploymentSpec::default()
        }),
        status: None,
    }
}

fn pod(builder: &Builder, name: &str, secrets: &BTreeSet<String>, settings: &Settings) -> PodSpec {
    let mut volumes = vec![
        config_map_volume("list", name.to_owned(), None),
        secret_volume("tls", names::builder_client_tls(&builder.name_any()), None),
        secret_volume("attempt", name.to_owned(), None),
    ];
    let token = paths::TOKEN
        .rsplit_once('/')
        .map_or(paths::TOKEN, |(folder, _)| folder);
    let mut mounts = vec![
        mount("list", paths::LIST.into(), true),
        mount("tls", paths::TLS.into(), true),
        mount("attempt", token.into(), true),
    ];
    for (at, secret) in secrets.iter().enumerate() {
        // One that does not exist holds up no other source.
        optional(&format!("secret-{at}"), secret, &mut volumes, &mut mounts);
    }
    for (at, registry) in builder.spec.registries.iter().enumerate() {
        let Some(ca) = &registry.ca_ref else { continue };
        let volume = format!("registry-ca-{at}");
        let mut certificates = config_map_volume(
            &volume,
            ca.name.clone(),
            Some((ca.key.clone(), "ca.crt".into())),
        );
        if let Some(of) = &mut certificates.config_map {
            of.optional = Some(true);
        }
        volumes.push(certificates);
        let folder = format!(
            "{}/{}/{}",
            paths::REGISTRY_CA,
            builder.name_any(),
            registry.folder()
        );
        mounts.push(mount(&volume, folder, true));
    }
    // One that does not exist holds up what needs none.
    let (trusted, at) = outside::volumes(builder, settings, true);
    volumes.extend(trusted);
    mounts.extend(at);
    let env = outside::environment(builder, settings);
    PodSpec {
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        termination_grace_period_seconds: Some(5),
        image_pull_secrets: pull_secrets(&settings.runner.image_pull_secrets),
        priority_class_name: settings.runner.priority_class_name.clone(),
        node_selector: settings.runner.nodes(),
        tolerations: settings.runner.taints(),
        security_context: Some(PodSecurityContext {
            run_as_group: Some(USER),
            fs_group: Some(USER),
            ..restricted(Some(USER))
        }),
        containers: vec![Container {
            name: names::WATCHER.into(),
            image: Some(settings.runner.image.clone()),
            image_pull_policy: settings.runner.image_pull_policy.clone(),
            args: Some(vec!["watch".into()]),
            env: (!env.is_empty()).then_some(env),
            resources: Some(resources()),
            security_context: Some(SecurityContext {
                read_only_root_filesystem: Some(true),
                ..unprivileged()
            }),
            volume_mounts: Some(mounts),
            ..Container::default()
        }],
        volumes: Some(volumes),
        ..PodSpec::default()
    }
}

fn optional(volume: &str, secret: &str, volumes: &mut Vec<Volume>, mounts: &mut Vec<VolumeMount>) {
    let mut of_secret = secret_volume(volume, secret.to_owned(), None);
    if let Some(source) = &mut of_secret.secret {
        source.optional = Some(true);
    }
    volumes.push(of_secret);
    mounts.push(mount(volume, format!("{}/{secret}", paths::SECRETS), true));
}

/// A thousand sources take less than 16 MiB.
fn resources() -> ResourceRequirements {
    let quantities = |all: &[(&str, &str)]| {
        let all = all
            .iter()
            .map(|(key, value)| ((*key).to_owned(), Quantity((*value).to_owned())));
        Some(all.collect())
    };
    ResourceRequirements {
        requests: quantities(&[("cpu", "5m"), ("memory", "16Mi")]),
        limits: quantities(&[("memory", "64Mi")]),
        claims: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;
    use whittle_api::GitRef;
    use whittle_watch::wire::What;

    fn git(id: &str, secret: Option<&str>) -> Watched {
        Watched {
            id: id.into(),
            interval_seconds: 300,
            folder: None,
            what: What::Git {
                url: "https://git.example.com/team/hello.git".into(),
                reference: Some(GitRef {
                    branch: Some("main".into()),
                    ..GitRef::default()
                }),
                secret: secret.map(str::to_owned),
            },
        }
    }

    fn made(watched: Vec<Watched>) -> WatcherObjects {
        objects(&fixtures::builder(), watched, &fixtures::settings()).unwrap()
    }

    #[test]
    fn the_objects_of_a_watcher() {
        let made = made(vec![git("b", Some("git-credentials")), git("a", None)]);
        insta::assert_yaml_snapshot!("watcher-config-map", made.config_map);
        insta::assert_yaml_snapshot!("watcher-deployment", made.deployment);
        assert!(made.left_out.is_empty());
    }

    #[test]
    fn a_watcher_has_the_labels_and_the_nodes_that_runners_have() {
        let mut settings = fixtures::settings();
        settings.runner = serde_json::from_str(fixtures::PLACED).unwrap();
        let made = objects(&fixtures::builder(), vec![git("a", None)], &settings).unwrap();
        let spec = made.deployment.spec.unwrap();
        let metadata = spec.template.metadata.unwrap();
        assert_eq!(metadata.labels.unwrap()["example.com/team"], "build");
        assert_eq!(metadata.annotations.unwrap()["example.com/a"], "b");
        assert_eq!(spec.selector.match_labels.unwrap().len(), 2);
        let pod = spec.template.spec.unwrap();
        assert_eq!(pod.node_selector.unwrap()["pool"], "builds");
        assert_eq!(pod.tolerations.unwrap().len(), 1);
    }

    #[test]
    fn a_list_that_is_full_fits_into_a_config_map() {
        // A base image each, with a name of half a KiB.
        let name = "n".repeat(512);
        let all = (0..2 * room::BUILDS).map(|at| Watched {
            id: format!("{at:05}/0123456789abcdef"),
            what: What::Image {
                image: name.clone(),
                builder: "default".into(),
                secret: None,
            },
            ..git("", None)
        });
        let large = made(all.collect());
        assert!(!large.left_out.is_empty());
        let list = &large.config_map.data.unwrap()[paths::LIST_KEY];
        let bounds = room::LIST * 9 / 10..1024 * 1024;
        assert!(bounds.contains(&list.len()), "{}", list.len());
    }

    #[test]
    fn without_a_callback_nothing_is_watched() {
        let mut settings = fixtures::settings();
        settings.callback = None;
        assert_eq!(
            objects(&fixtures::builder(), vec![git("a", None)], &settings),
            None
        );
    }
}
