//! What is made to check an image: a Job, and in it the Pod that runs the image.

use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{
    Container, EnvVar, PodSecurityContext, PodSpec, PodTemplateSpec, Probe, ResourceRequirements,
    SecurityContext,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource, ResourceExt};

use super::{CONTAINER, DISK, architecture};
use crate::builder::objects::pull_secrets;
use crate::imagebuild::job::{USER, restricted, unprivileged};
use crate::names;
use whittle_api::{HealthCheck, ImageBuild, LocalRef, PlatformStatus, RunAs};
use whittle_probe::Handler;

/// Seconds until the Job goes after its Pod has ended, where the controller does not take it away before.
const GONE_AFTER: i32 = 60;
/// Seconds for scheduling and pulling, before the check's own time begins.
const PREPARATION: i64 = 600;
/// The user of images whose own is a name that the kubelet cannot judge is known from their contents; this one is never taken.
const ROOT: i64 = 0;

/// The Job that checks one platform, with this name.
pub fn job(
    build: &ImageBuild,
    check: &HealthCheck,
    name: String,
    number: i64,
    platform: &PlatformStatus,
) -> Job {
    let mut labels = names::gate_labels(&build.uid().unwrap_or_default());
    labels.insert("app.kubernetes.io/instance".into(), name.clone());
    let metadata = ObjectMeta {
        labels: Some(labels),
        annotations: Some(
            [
                (names::IMAGE_BUILD.to_owned(), build.name_any()),
                (names::BUILD.to_owned(), number.to_string()),
            ]
            .into(),
        ),
        ..ObjectMeta::default()
    };
    Job {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: build.namespace(),
            owner_references: build.controller_owner_ref(&()).map(|owner| vec![owner]),
            ..metadata.clone()
        },
        spec: Some(JobSpec {
            backoff_limit: Some(0),
            active_deadline_seconds: Some(PREPARATION + i64::from(check.timeout_seconds)),
            // What has ended is to be found as long as others go on.
            ttl_seconds_after_finished: Some(match check.run {
                Some(_) => 10 * GONE_AFTER,
                None => GONE_AFTER,
            }),
            pod_replacement_policy: Some("Failed".into()),
            template: PodTemplateSpec {
                metadata: Some(metadata),
                spec: Some(pod(build, check, platform)),
            },
            ..JobSpec::default()
        }),
        status: None,
    }
}

fn pod(build: &ImageBuild, check: &HealthCheck, platform: &PlatformStatus) -> PodSpec {
    let contents = platform.contents.as_ref();
    let as_root = runs_as_root(check, platform);
    // The kubelet refuses a user by name under runAsNonRoot; the image says which number it is.
    let user = contents
        .filter(|contents| contents.user.is_some())
        .and_then(|contents| contents.user_id)
        .filter(|id| *id != ROOT);
    let user = match is_root(platform) && !as_root {
        true => Some(USER),
        false => user,
    };
    let restricted = restricted(user);
    let args = check.run.as_ref().map_or(&check.args, |run| &run.args);
    PodSpec {
        restart_policy: Some("Never".into()),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        termination_grace_period_seconds: Some(1),
        node_selector: Some(
            [
                ("kubernetes.io/os".to_owned(), "linux".to_owned()),
                (
                    "kubernetes.io/arch".to_owned(),
                    architecture(&platform.platform).to_owned(),
                ),
            ]
            .into(),
        ),
        image_pull_secrets: build
            .spec
            .output
            .secret_ref
            .as_ref()
            .and_then(|LocalRef { name }| pull_secrets(std::slice::from_ref(name))),
        security_context: Some(PodSecurityContext {
            run_as_non_root: restricted.run_as_non_root.filter(|_| !as_root),
            ..restricted
        }),
        containers: vec![Container {
            name: CONTAINER.into(),
            image: Some(format!("{}@{}", build.spec.output.image, platform.digest)),
            args: Some(args.clone()).filter(|args| !args.is_empty()),
            env: Some(
                check
                    .env
                    .iter()
                    .map(|variable| EnvVar {
                        name: variable.name.clone(),
                        value: Some(variable.value.clone()),
                        value_from: None,
                    })
                    .collect(),
            )
            .filter(|env: &Vec<_>| !env.is_empty()),
            readiness_probe: check.run.is_none().then(|| probe(check)),
            resources: Some(resources(check)),
            security_context: Some(match as_root {
                // Level baseline allows what containers have by default.
                true => SecurityContext {
                    capabilities: None,
                    ..unprivileged()
                },
                false => unprivileged(),
            }),
            ..Container::default()
        }],
        ..PodSpec::default()
    }
}

/// True for an image whose USER is root.
pub(super) fn is_root(platform: &PlatformStatus) -> bool {
    platform.contents.as_ref().is_some_and(|it| it.root)
}

/// True where an image is checked as root.
pub(super) fn runs_as_root(check: &HealthCheck, platform: &PlatformStatus) -> bool {
    is_root(platform) && check.run_as == Some(RunAs::Image)
}

fn resources(check: &HealthCheck) -> ResourceRequirements {
    let quantity = |text: &str| Quantity(text.to_owned());
    let memory = check.memory.as_deref();
    ResourceRequirements {
        requests: Some(
            [
                ("cpu".to_owned(), quantity("10m")),
                ("memory".to_owned(), quantity(memory.unwrap_or("32Mi"))),
                // Else the limit would be set aside.
                ("ephemeral-storage".to_owned(), quantity("16Mi")),
            ]
            .into(),
        ),
        limits: Some(
            [("ephemeral-storage".to_owned(), quantity(DISK))]
                .into_iter()
                .chain(memory.map(|memory| ("memory".to_owned(), quantity(memory))))
                .collect(),
        ),
        ..ResourceRequirements::default()
    }
}

fn probe(check: &HealthCheck) -> Probe {
    let mut probe = Probe {
        period_seconds: Some(1),
        timeout_seconds: Some(5.min(check.timeout_seconds)),
        failure_threshold: Some(1),
        ..Probe::default()
    };
    match Handler::of_health_check(check) {
        Some(Handler::HttpGet(action)) => probe.http_get = Some(action),
        Some(Handler::TcpSocket(action)) => probe.tcp_socket = Some(action),
        Some(Handler::Grpc(action)) => probe.grpc = Some(action),
        Some(Handler::Exec(action)) => probe.exec = Some(action),
        Some(Handler::Sleep(_)) | None => {}
    }
    probe
}
