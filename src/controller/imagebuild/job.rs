//! One attempt: the request and the Job that carries it out.

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMap, Container, EmptyDirVolumeSource, KeyToPath, PodSecurityContext,
    PodSpec, PodTemplateSpec, SeccompProfile, Secret, SecretVolumeSource, SecurityContext, Volume,
    VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource, ResourceExt};

use super::decide;
use super::kueue;
use super::minimized;
use crate::builder::objects::{PORT, config_map_volume, mount, pull_secrets};
use crate::extra;
use crate::flux::resolve::Pinned;
use crate::names;
use crate::outside;
use crate::settings::Settings;
use crate::sharing;
use whittle_api::quantity;
use whittle_api::{Builder, ImageBuild, ImageBuildStatus};
use whittle_build::inputs::Inputs;
use whittle_build::place::Place;
use whittle_build::request::{BuildRequest, Native, Previous, SCRATCH_BYTES, Tagging, paths};

/// uid and gid of the runner.
pub const USER: i64 = 65532;
/// Name of the volume with the ConfigMap of the source; the kubelet's words name it.
pub const SOURCE_VOLUME: &str = "source";
/// Name of the volume that sources are unpacked in; the kubelet's words name it.
pub const SCRATCH_VOLUME: &str = "scratch";
/// Name of the runner's container.
pub const CONTAINER: &str = "runner";

/// What an attempt is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    /// Carries the request.
    pub config_map: ConfigMap,
    /// Carries the runner's credential, which is not in it yet; none without a callback. Whoever makes it gives it
    /// to the ConfigMap as its owner, and so it goes with that.
    pub secret: Option<Secret>,
    /// Carries it out.
    pub job: Job,
}

/// Which attempt at which build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptId {
    /// The build's number.
    pub build: i64,
    /// Name of the Job.
    pub job: String,
    /// Seconds until the build's deadline.
    pub seconds_left: i64,
    /// When the tags move.
    pub tagging: Tagging,
    /// What `source.flux` stands for, where it is needed.
    pub flux: Option<Pinned>,
    /// True where no step is taken from the cache.
    pub no_cache: bool,
    /// The replica of the Builder that it runs on; none where that has one.
    pub replica: Option<i32>,
    /// The daemons that the Builder has for platforms, of those that are built.
    pub natives: Vec<Native>,
}

/// Why no attempt at this build is made: its spec names a Secret that Whittle has made for itself. Whoever had one
/// mounted could speak for other builds of the namespace.
pub fn refusal(build: &ImageBuild) -> Option<String> {
    let spec = &build.spec;
    let git = spec.source.git.iter().flat_map(|git| &git.secret_ref);
    let oci = spec.source.oci.iter().flat_map(|oci| &oci.secret_ref);
    let named = (spec
        .output
        .secret_ref
        .iter()
        .map(|s| ("spec.output.secretRef", &s.name)))
    .chain(git.map(|s| ("spec.source.git.secretRef", &s.name)))
    .chain(oci.map(|s| ("spec.source.oci.secretRef", &s.name)))
    .chain(
        spec.secrets
            .iter()
            .map(|s| ("spec.secrets", &s.secret_ref.name)),
    );
    let mut own = named.filter(|(_, name)| whittle_api::is_managed_secret(name));
    own.next().map(|(field, name)| {
        format!(
            "{field} names Secret {name}, which belongs to Whittle and is not allowed in builds: \
                use a Secret of your own"
        )
    })
}

/// The objects of one attempt.
///
/// # Errors
/// Where the request cannot be written as JSON; it always can.
pub fn attempt(
    build: &ImageBuild,
    builder: &Builder,
    id: &AttemptId,
    settings: &Settings,
) -> serde_json::Result<Attempt> {
    let build = &*at(build, id);
    let request = request(build, builder, id, settings);
    let metadata = metadata(build, id);
    let mut labels = metadata.labels.clone().unwrap_or_default();
    labels.extend(kueue::labels(build, &id.tagging));
    let secret = settings.callback.as_ref().map(|_| Secret {
        metadata: ObjectMeta {
            name: Some(names::credential(&request.uid, &id.job)),
            owner_references: None,
            ..metadata.clone()
        },
        type_: Some("Opaque".into()),
        immutable: Some(true),
        ..Secret::default()
    });
    Ok(Attempt {
        secret,
        config_map: ConfigMap {
            metadata: metadata.clone(),
            data: Some(BTreeMap::from([(
                paths::REQUEST_KEY.to_owned(),
                serde_json::to_string(&request)?,
            )])),
            immutable: Some(true),
            ..ConfigMap::default()
        },
        job: Job {
            spec: Some(JobSpec {
                backoff_limit: Some(0),
                completions: Some(1),
                parallelism: Some(1),
                pod_replacement_policy: Some("Failed".into()),
                active_deadline_seconds: Some(id.seconds_left.max(1)),
                template: PodTemplateSpec {
                    metadata: Some(ObjectMeta {
                        labels: settings.runner.pod_labels.with(metadata.labels.clone()),
                        annotations: (settings.runner.pod_annotations)
                            .with(metadata.annotations.clone()),
                        ..ObjectMeta::default()
                    }),
                    spec: Some(pod(build, builder, id, settings)),
                },
                ..JobSpec::default()
            }),
            metadata: ObjectMeta {
                labels: Some(labels),
                ..metadata
            },
            status: None,
        },
    })
}

/// The ImageBuild with what its source of Flux stands for: a git repository or an artifact is built like any other.
pub(super) fn at<'a>(build: &'a ImageBuild, id: &AttemptId) -> Cow<'a, ImageBuild> {
    let Some(Pinned { source, .. }) = &id.flux else {
        return Cow::Borrowed(build);
    };
    let mut at = build.clone();
    at.spec.source.git.clone_from(&source.git);
    at.spec.source.oci.clone_from(&source.oci);
    Cow::Owned(at)
}

pub(super) fn metadata(build: &ImageBuild, id: &AttemptId) -> ObjectMeta {
    let uid = build.uid().unwrap_or_default();
    ObjectMeta {
        name: Some(id.job.clone()),
        namespace: build.namespace(),
        labels: Some(names::runner_labels(&build.spec.builder_ref.name, &uid)),
        annotations: Some(annotations(build, id)),
        owner_references: build.controller_owner_ref(&()).map(|owner| vec![owner]),
        ..ObjectMeta::default()
    }
}

fn annotations(build: &ImageBuild, id: &AttemptId) -> BTreeMap<String, String> {
    let replica = id
        .replica
        .map(|replica| (names::REPLICA, replica.to_string()));
    [
        (names::IMAGE_BUILD, build.name_any()),
        (names::BUILD, id.build.to_string()),
    ]
    .into_iter()
    .chain(replica)
    .map(|(key, value)| (key.to_owned(), value))
    .collect()
}

pub(super) fn request(
    build: &ImageBuild,
    builder: &Builder,
    id: &AttemptId,
    settings: &Settings,
) -> BuildRequest {
    let namespace = build.namespace().unwrap_or_default();
    let host = names::builder_host(&builder.name_any(), &namespace, id.replica.unwrap_or(0));
    BuildRequest {
        name: build.name_any(),
        uid: build.uid().unwrap_or_default(),
        job: id.job.clone(),
        build: id.build,
        builder_address: format!("tcp://{host}:{PORT}"),
        builder_server_name: names::builder_server_name(&builder.name_any(), &namespace),
        natives: id.natives.clone(),
        builder_memory: decide::memory_limit(builder).map(str::to_owned),
        callback: settings
            .callback
            .as_ref()
            .map(|callback| callback.url.clone()),
        inputs: Inputs::of(build),
        flux: id.flux.as_ref().map(|pinned| pinned.fetched.clone()),
        tagging: id.tagging.clone(),
        previous: previous(build),
        standing: standing(build),
        rejected: last_good(build).and_then(|status| minimized::before(build, status)),
        registries: builder.spec.registries.clone(),
        cache: builder.spec.cache.registry.clone(),
        proxy: outside::proxy_variables(builder, settings)
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
        scratch_bytes: scratch_bytes(settings),
        looks: !sharing::is_thrown_away(builder),
        no_cache: id.no_cache,
        traced: settings.traces.otlp.is_some(),
        part: false,
        place: Place::default(),
        namespace,
    }
}

/// The kubelet measures once a minute or so: what the runner itself holds to is a bit less.
fn scratch_bytes(settings: &Settings) -> u64 {
    let all = quantity::bytes(&settings.runner.scratch_size).unwrap_or(SCRATCH_BYTES);
    all - all / 16
}

/// What is known of the last good image, where it lies in the repository that this build pushes to.
fn last_good(build: &ImageBuild) -> Option<&ImageBuildStatus> {
    let status = build.status.as_ref()?;
    let (repository, _) = status.image.as_deref()?.split_once('@')?;
    (repository == build.spec.output.image).then_some(status)
}

/// What its tags pointed to, and those of the image for debugging.
fn standing(build: &ImageBuild) -> Vec<String> {
    let Some(status) = last_good(build) else {
        return vec![];
    };
    let debug = status.debug.as_ref().map(|debug| debug.digest.clone());
    status.digest.iter().cloned().chain(debug).collect()
}

/// Its platforms.
fn previous(build: &ImageBuild) -> Vec<Previous> {
    let Some(status) = last_good(build) else {
        return vec![];
    };
    status
        .platforms
        .iter()
        .map(|platform| Previous {
            platform: platform.platform.clone(),
            digest: platform.digest.clone(),
            size: platform.size,
        })
        .collect()
}

pub(super) fn pod(
    build: &ImageBuild,
    builder: &Builder,
    id: &AttemptId,
    settings: &Settings,
) -> PodSpec {
    let (mut volumes, mut mounts) = volumes(build, builder, id, settings);
    if settings.callback.is_some() {
        let secret = names::credential(&build.uid().unwrap_or_default(), &id.job);
        volumes.push(secret_volume("attempt", secret, None));
        mounts.push(mount("attempt", paths::ATTEMPT.into(), true));
    }
    PodSpec {
        restart_policy: Some("Never".into()),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        termination_grace_period_seconds: Some(15),
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
            name: CONTAINER.into(),
            image: Some(settings.runner.image.clone()),
            image_pull_policy: settings.runner.image_pull_policy.clone(),
            args: Some(vec!["runner".into()]),
            env: Some(extra::environment(
                &[],
                outside::environment(builder, settings),
                ("TMPDIR", paths::SCRATCH.into()),
            )),
            resources: Some(kueue::resources(
                build,
                builder,
                &id.tagging,
                &settings.runner.resources,
            )),
            security_context: Some(SecurityContext {
                read_only_root_filesystem: Some(true),
                ..unprivileged()
            }),
            termination_message_path: Some(paths::TERMINATION.into()),
            termination_message_policy: Some("File".into()),
            volume_mounts: Some(mounts),
            ..Container::default()
        }],
        volumes: Some(volumes),
        ..PodSpec::default()
    }
}

/// What Pod Security level `restricted` asks of a Pod
/// (<https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted>). `user`: as whom it
/// runs, where that is not left to its images.
pub fn restricted(user: Option<i64>) -> PodSecurityContext {
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: user,
        seccomp_profile: Some(SeccompProfile {
            type_: "RuntimeDefault".into(),
            localhost_profile: None,
        }),
        ..PodSecurityContext::default()
    }
}

/// What that level asks of a container.
pub fn unprivileged() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities {
            add: None,
            drop: Some(vec!["ALL".into()]),
        }),
        ..SecurityContext::default()
    }
}

fn volumes(
    build: &ImageBuild,
    builder: &Builder,
    id: &AttemptId,
    settings: &Settings,
) -> (Vec<Volume>, Vec<VolumeMount>) {
    let spec = &build.spec;
    let mut volumes = vec![
        config_map_volume("request", id.job.clone(), None),
        secret_volume("tls", names::builder_client_tls(&builder.name_any()), None),
        Volume {
            name: SCRATCH_VOLUME.into(),
            empty_dir: Some(EmptyDirVolumeSource {
                size_limit: Some(Quantity(settings.runner.scratch_size.clone())),
                medium: None,
            }),
            ..Volume::default()
        },
    ];
    let mut mounts = vec![
        mount("request", paths::REQUEST.into(), true),
        mount("tls", paths::TLS.into(), true),
        mount(SCRATCH_VOLUME, paths::SCRATCH.into(), false),
    ];
    let builds = matches!(id.tagging, Tagging::Now | Tagging::Later);
    let cache = builder.spec.cache.registry.as_ref().filter(|_| builds);
    let cache = cache.and_then(|registry| registry.secret_ref.as_ref());
    // The API server refuses such a Builder, and the runner such a request.
    let cache = cache.filter(|secret| !whittle_api::is_managed_secret(&secret.name));
    let auths = [
        (
            "registry",
            paths::REGISTRY_AUTH,
            spec.output.secret_ref.as_ref(),
            None,
        ),
        // A build goes on without it.
        ("cache-registry", paths::CACHE_AUTH, cache, Some(true)),
    ];
    for (volume, path, secret, optional) in auths {
        if let Some(secret) = secret {
            // All keys: which of them there are says what is wrong with a Secret of another type.
            let mut of_secret = secret_volume(volume, secret.name.clone(), None);
            if let Some(source) = &mut of_secret.secret {
                source.optional = optional;
            }
            volumes.push(of_secret);
            mounts.push(mount(volume, path.into(), true));
        }
    }
    if spec.output.secret_ref.is_some() || cache.is_some() {
        volumes.push(Volume {
            name: "docker".into(),
            empty_dir: Some(EmptyDirVolumeSource {
                medium: Some("Memory".into()),
                size_limit: Some(Quantity("4Mi".into())),
            }),
            ..Volume::default()
        });
        mounts.push(mount("docker", paths::DOCKER.into(), false));
    }
    if builds {
        source_volumes(build, &mut volumes, &mut mounts);
    }
    for (at, registry) in builder.spec.registries.iter().enumerate() {
        let Some(ca) = &registry.ca_ref else { continue };
        let volume = format!("registry-ca-{at}");
        volumes.push(config_map_volume(
            &volume,
            ca.name.clone(),
            Some((ca.key.clone(), "ca.crt".into())),
        ));
        mounts.push(mount(
            &volume,
            format!("{}/{}", paths::REGISTRY_CA, registry.folder()),
            true,
        ));
    }
    let (trusted, at) = outside::volumes(builder, settings, false);
    volumes.extend(trusted);
    mounts.extend(at);
    (volumes, mounts)
}

/// What the source and the Dockerfile's steps need.
fn source_volumes(build: &ImageBuild, volumes: &mut Vec<Volume>, mounts: &mut Vec<VolumeMount>) {
    let spec = &build.spec;
    if let Some(secret) = spec
        .source
        .git
        .as_ref()
        .and_then(|git| git.secret_ref.as_ref())
    {
        volumes.push(secret_volume("git", secret.name.clone(), None));
        mounts.push(mount("git", paths::GIT_AUTH.into(), true));
    }
    if let Some(oci) = &spec.source.oci
        && let Some(secret) = &oci.secret_ref
    {
        volumes.push(secret_volume("source-registry", secret.name.clone(), None));
        mounts.push(mount("source-registry", paths::SOURCE_AUTH.into(), true));
    }
    if let Some(source) = &spec.source.config_map {
        let mut volume = config_map_volume(SOURCE_VOLUME, source.name.clone(), None);
        if let Some(config_map) = &mut volume.config_map {
            let items = source.items.iter().map(|item| KeyToPath {
                key: item.key.clone(),
                path: item.path.clone(),
                mode: None,
            });
            config_map.items = Some(items.collect()).filter(|items: &Vec<_>| !items.is_empty());
        }
        volumes.push(volume);
        mounts.push(mount(SOURCE_VOLUME, paths::SOURCE.into(), true));
    }
    for (at, secret) in spec.secrets.iter().enumerate() {
        let volume = format!("secret-{at}");
        volumes.push(secret_volume(
            &volume,
            secret.secret_ref.name.clone(),
            Some((&secret.secret_ref.key, "value")),
        ));
        mounts.push(mount(
            &volume,
            format!("{}/{}", paths::SECRETS, secret.id),
            true,
        ));
    }
}

/// A volume of a Secret: all its keys, or one at a path.
pub fn secret_volume(volume: &str, secret: String, item: Option<(&str, &str)>) -> Volume {
    Volume {
        name: volume.to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(secret),
            default_mode: Some(0o440),
            items: item.map(|(key, path)| {
                vec![KeyToPath {
                    key: key.into(),
                    path: path.into(),
                    mode: None,
                }]
            }),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;
    use whittle_api::{CacheRegistry, LocalRef};

    fn id() -> AttemptId {
        AttemptId {
            build: 3,
            job: "hello-0123456789".into(),
            seconds_left: 1800,
            tagging: Tagging::Now,
            flux: None,
            no_cache: false,
            replica: None,
            natives: vec![],
        }
    }

    #[test]
    fn the_objects_of_an_attempt_at_a_small_build() {
        let attempt = attempt(
            &fixtures::inline(),
            &fixtures::builder(),
            &id(),
            &fixtures::settings(),
        )
        .unwrap();
        insta::assert_yaml_snapshot!("attempt-config-map", attempt.config_map);
        insta::assert_yaml_snapshot!("attempt-job", attempt.job);
    }

    #[test]
    fn a_runners_pod_has_the_labels_and_the_nodes_of_the_installation_and_its_job_does_not() {
        let mut settings = fixtures::settings();
        settings.runner = serde_json::from_str(fixtures::PLACED).unwrap();
        let (build, builder) = (fixtures::inline(), fixtures::builder());
        let made = attempt(&build, &builder, &id(), &settings).unwrap().job;
        let template = made.spec.unwrap().template;
        let metadata = template.metadata.unwrap();
        let labels = metadata.labels.unwrap();
        assert_eq!(labels["example.com/team"], "build");
        assert_eq!(labels["whittle.dev/component"], "runner");
        assert_eq!(metadata.annotations.unwrap()["example.com/a"], "b");
        assert!(
            !made
                .metadata
                .labels
                .unwrap()
                .contains_key("example.com/team")
        );
        let pod = template.spec.unwrap();
        assert_eq!(pod.node_selector.unwrap()["pool"], "builds");
        assert_eq!(pod.tolerations.unwrap().len(), 1);
    }

    #[test]
    fn a_request_knows_the_builder_and_its_memory_limit() {
        let mut builder = fixtures::builder();
        let limit = Quantity("2Gi".into());
        builder.spec.resources.limits = Some([("memory".to_owned(), limit)].into());
        let request = request(&fixtures::inline(), &builder, &id(), &fixtures::settings());
        assert_eq!(request.inputs.builder, builder.name_any());
        assert_eq!(request.builder_memory.as_deref(), Some("2Gi"));
    }

    #[test]
    fn an_attempt_on_another_replica_asks_its_pod_by_name_and_knows_it_by_the_same_certificate() {
        let id = AttemptId {
            replica: Some(3),
            ..id()
        };
        let request = request(
            &fixtures::inline(),
            &fixtures::builder(),
            &id,
            &fixtures::settings(),
        );
        assert_eq!(
            request.builder_address,
            "tcp://whittle-builder-default-3.whittle-builder-default.team.svc:1234"
        );
        assert_eq!(
            request.builder_server_name,
            "whittle-builder-default-0.whittle-builder-default.team.svc"
        );
    }

    #[test]
    fn an_attempt_mounts_just_the_secrets_that_the_build_names() {
        let attempt = attempt(
            &fixtures::git_with_secrets(),
            &fixtures::builder(),
            &id(),
            &fixtures::settings(),
        )
        .unwrap();
        let pod = attempt.job.spec.unwrap().template.spec.unwrap();
        let secrets: Vec<_> = pod
            .volumes
            .unwrap()
            .into_iter()
            .filter_map(|volume| volume.secret.and_then(|secret| secret.secret_name))
            .collect();
        assert_eq!(
            secrets,
            [
                "whittle-builder-default-client",
                "registry-credentials",
                "git-credentials",
                "npm",
                &names::credential("11111111-1111-1111-1111-111111111111", "hello-0123456789")
            ]
        );
        assert_eq!(pod.automount_service_account_token, Some(false));
    }

    /// The Secrets that a runner has mounted on a Builder whose registry for layers needs this one.
    fn mounted(secret: &str, tagging: Tagging) -> Vec<String> {
        let mut builder = fixtures::builder();
        builder.spec.cache.registry = Some(CacheRegistry {
            image: "registry.example.com/team/cache".into(),
            secret_ref: Some(LocalRef {
                name: secret.into(),
            }),
        });
        let id = AttemptId { tagging, ..id() };
        let spec = pod(&fixtures::inline(), &builder, &id, &fixtures::settings());
        let volumes = spec.volumes.unwrap();
        let docker = volumes.iter().any(|volume| volume.name == "docker");
        let named = volumes.into_iter().filter_map(|it| it.secret?.secret_name);
        let named: Vec<String> = named
            .filter(|name| !name.starts_with("whittle-attempt-"))
            .collect();
        assert_eq!(docker, named.len() > 1, "somewhere to write it in memory");
        named
    }

    #[test]
    fn a_runner_that_builds_has_the_secret_of_the_builders_registry_and_never_one_of_ours() {
        let own = names::builder_client_tls("default");
        let both = [own, "cache".to_owned()];
        assert_eq!(mounted("cache", Tagging::Now), both);
        assert_eq!(mounted("cache", Tagging::Later), both);
        let only = Tagging::Only {
            image: "sha256:aa".into(),
            debug: None,
            tags: vec![],
            full: vec![],
        };
        assert_eq!(mounted("cache", only), both[..1]);
        for name in ["whittle-ca", "whittle-builder-other-client"] {
            assert_eq!(mounted(name, Tagging::Now), both[..1]);
        }
    }

    #[test]
    fn no_build_has_a_secret_of_ours_mounted() {
        let own = names::builder_client_tls("default");
        assert_eq!(refusal(&fixtures::git_with_secrets()), None);
        let fields: [fn(&mut ImageBuild) -> &mut String; 3] = [
            |build| &mut build.spec.output.secret_ref.as_mut().unwrap().name,
            |build| &mut build.spec.secrets[0].secret_ref.name,
            |build| {
                let git = build.spec.source.git.as_mut().unwrap();
                &mut git.secret_ref.as_mut().unwrap().name
            },
        ];
        for field in fields {
            let mut build = fixtures::git_with_secrets();
            field(&mut build).clone_from(&own);
            assert!(refusal(&build).unwrap().contains(&own));
        }
    }

    #[test]
    fn the_request_reads_back_as_it_was_written() {
        let build = fixtures::git_with_secrets();
        let attempt = attempt(&build, &fixtures::builder(), &id(), &fixtures::settings()).unwrap();
        let text = &attempt.config_map.data.unwrap()[paths::REQUEST_KEY];
        let read: BuildRequest = serde_json::from_str(text).unwrap();
        assert_eq!(
            read,
            request(&build, &fixtures::builder(), &id(), &fixtures::settings())
        );
        assert_eq!(
            read.builder_address,
            "tcp://whittle-builder-default-0.whittle-builder-default.team.svc:1234"
        );
    }
}
