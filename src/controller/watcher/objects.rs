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

use crate::builder::objects::{config_map_volume, mount, pull_secrets};
use crate::imagebuild::job::{USER, restricted, secret_volume, unprivileged};
use crate::names;
use crate::settings::Settings;
use whittle_api::{Builder, is_managed_secret};
use whittle_watch::wire::{List, Watched, What, paths};

/// Bytes of the list: a ConfigMap holds 1 MiB.
const LIST: usize = 900 * 1024;
/// Secrets that a watcher mounts: each is a volume.
const SECRETS: usize = 100;

/// All objects of a watcher.
#[derive(Clone, Debug, PartialEq)]
pub struct WatcherObjects {
    /// What is watched.
    pub config_map: ConfigMap,
    /// What the watcher is known by, which is not in it yet. It belongs to the ConfigMap, and goes with it.
    pub secret: Secret,
    /// The watcher.
    pub deployment: Deployment,
    /// How many sources there is no room for.
    pub left_out: usize,
}

/// The objects that look at these sources for ImageBuilds of `builder`; none where the installation has no callback, by which
/// they would be told.
pub fn objects(
    builder: &Builder,
    mut watched: Vec<Watched>,
    settings: &Settings,
) -> Option<WatcherObjects> {
    let callback = settings.callback.as_ref()?.url.clone();
    let all = watched.len();
    let mut secrets = BTreeSet::new();
    let mut bytes = 0;
    watched.retain(|one| {
        let secret = secret_of(one);
        // The API server refuses such a spec.
        if secret.is_some_and(is_managed_secret) {
            return false;
        }
        if let Some(secret) = secret
            && !secrets.contains(secret)
        {
            if secrets.len() >= SECRETS {
                return false;
            }
            secrets.insert(secret.to_owned());
        }
        bytes += serde_json::to_string(one).map_or(LIST, |text| text.len()) + 1;
        bytes <= LIST
    });
    let left_out = all - watched.len();
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
        deployment: deployment(metadata, pod(builder, &name, &secrets, settings)),
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

/// The Secret that a source names.
fn secret_of(watched: &Watched) -> Option<&str> {
    match &watched.what {
        What::Git { secret, .. } | What::Image { secret, .. } => secret.as_deref(),
    }
}

fn deployment(metadata: ObjectMeta, pod: PodSpec) -> Deployment {
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
                    labels: Some(labels),
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
    PodSpec {
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        termination_grace_period_seconds: Some(5),
        image_pull_secrets: pull_secrets(&settings.runner.image_pull_secrets),
        priority_class_name: settings.runner.priority_class_name.clone(),
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
        assert_eq!(made.left_out, 0);
    }

    #[test]
    fn what_there_is_no_room_for_is_left_out_and_counted() {
        let many = |number: usize, secret: fn(usize) -> Option<String>| {
            let all = (0..number).map(|at| git(&format!("{at:05}"), secret(at).as_deref()));
            made(all.collect())
        };
        assert_eq!(many(2_000, |_| None).left_out, 0);
        let large = many(10_000, |_| None);
        assert!(large.left_out > 0);
        let list = &large.config_map.data.unwrap()[paths::LIST_KEY];
        assert!(list.len() < 1024 * 1024, "{}", list.len());
        let secrets = many(SECRETS + 5, |at| Some(format!("secret-{at}")));
        assert_eq!(secrets.left_out, 5);
        // And one of ours is mounted for nobody.
        assert_eq!(made(vec![git("a", Some("whittle-ca"))]).left_out, 1);
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
