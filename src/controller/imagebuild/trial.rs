//! The trial: an image runs under `whittle trace` in a Pod that is as restricted as that of a health check, beside a container of
//! Whittle's own that has it do what `spec.minimize.exercise` says, and prints what came of it.
//!
//! Nothing is given to that Pod: no account, no Secret, no ConfigMap. What is shared with the image is an emptyDir, and what it
//! writes there says something about this image alone.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{
    Container, ContainerState, EmptyDirVolumeSource, Pod, PodSpec, ResourceRequirements,
    SecurityContext, Volume,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::gate::{self, Seen};
use super::job::{USER, unprivileged};
use crate::builder::objects::{mount, pull_secrets};
use crate::settings::RunnerSettings;
use k8s_openapi::jiff::Timestamp;
use whittle_api::{HealthCheck, ImageBuild, PlatformStatus, quantity};
use whittle_build::minimized::PlatformToTry;
use whittle_build::trial::{DOCUMENT, FOLDER, Outcome, PROGRAM, arguments};

/// Name of Whittle's own container.
pub const CONTAINER: &str = "trial";
const VOLUME: &str = "trial";
/// What the volume may hold: the program, and two documents.
const VOLUME_SIZE: &str = "256Mi";
/// Memory that the tracer takes within the image's container.
const TRACER: i64 = 64 << 20;
/// Seconds besides the health check's own: traced programs are slower, and each exercise may take a minute.
const MORE: i64 = 300;
const EXERCISE: i64 = 60;
/// Seconds until the Job goes by itself after its Pod has ended.
const GONE_AFTER: i32 = 600;

/// Where the trial of one platform stands.
pub type Trial = gate::Check<State>;

/// How a trial stands.
#[derive(Clone, Debug, PartialEq)]
pub enum State {
    /// No node is of this platform.
    NoNode,
    /// Not begun.
    Absent,
    /// Goes on; a sentence for people.
    Waiting(String),
    /// It has ended.
    Done(Box<Outcome>),
    /// It could not be made, or its Pod was lost: a sentence for people.
    Failed(String),
}

/// The Job that tries one platform's image. `starts`: what that image starts; `traced`: what it asks for is noted.
pub fn job(
    build: &ImageBuild,
    check: &HealthCheck,
    (name, number): (String, i64),
    platform: &PlatformStatus,
    starts: &PlatformToTry,
    (runner, traced): (&RunnerSettings, bool),
) -> Job {
    let exercise = build.spec.minimize.as_ref();
    let exercise = exercise.map_or(&[][..], |it| &it.exercise);
    let mut job = gate::job(build, check, name, number, platform);
    let Some(spec) = &mut job.spec else {
        return job;
    };
    let exercises = i64::try_from(exercise.len()).unwrap_or(0) * EXERCISE;
    let slower = i64::from(check.timeout_seconds) * 2 + MORE + exercises;
    spec.active_deadline_seconds = spec.active_deadline_seconds.map(|it| it + slower);
    // Where the image has ended, so that its log can be read by a controller that was not there.
    spec.ttl_seconds_after_finished = Some(GONE_AFTER);
    if let Some(pod) = &mut spec.template.spec {
        arrange(pod, check, starts, (runner, traced));
        let ours = whittle(runner, CONTAINER, arguments(check, exercise));
        pod.containers.push(ours);
    }
    job
}

fn arrange(
    pod: &mut PodSpec,
    check: &HealthCheck,
    starts: &PlatformToTry,
    (runner, traced): (&RunnerSettings, bool),
) {
    let install = vec!["install".to_owned(), FOLDER.to_owned()];
    pod.init_containers = Some(vec![whittle(runner, "program", install)]);
    pod.volumes = Some(vec![Volume {
        name: VOLUME.into(),
        empty_dir: Some(EmptyDirVolumeSource {
            size_limit: Some(Quantity(VOLUME_SIZE.into())),
            medium: None,
        }),
        ..Volume::default()
    }]);
    let more = pull_secrets(&runner.image_pull_secrets);
    let all = pod.image_pull_secrets.take().into_iter().chain(more);
    pod.image_pull_secrets = Some(all.flatten().collect()).filter(|all: &Vec<_>| !all.is_empty());
    let Some(image) = pod.containers.first_mut() else {
        return;
    };
    // The kubelet's probe would end nothing, and what it asks is asked by the container beside.
    image.readiness_probe = None;
    image.volume_mounts = Some(vec![mount(VOLUME, FOLDER.into(), false)]);
    let how = match traced {
        true => None,
        false => Some("--untraced"),
    };
    let tracer = ["trace", "--output", DOCUMENT, "--asks", FOLDER];
    let tracer = tracer
        .into_iter()
        .chain(how)
        .chain(["--"])
        .map(str::to_owned);
    // As a container is started: arguments take the place of CMD alone.
    let args = check.run.as_ref().map_or(&check.args, |run| &run.args);
    let cmd = match args.is_empty() {
        true => starts.cmd.iter().map(|word| literal(word)).collect(),
        false => args.clone(),
    };
    let entrypoint = starts.entrypoint.iter().map(|word| literal(word));
    image.command = Some(vec![PROGRAM.to_owned()]);
    image.args = Some(tracer.chain(entrypoint).chain(cmd).collect());
    if let Some(limits) = image.resources.as_mut().and_then(|it| it.limits.as_mut())
        && let Some(memory) = limits.get_mut("memory")
        && let Some(bytes) = quantity::bytes(&memory.0)
    {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        *memory = Quantity(bytes.saturating_add(TRACER).to_string());
    }
}

/// A word is taken as it is; Kubernetes would put variables in it.
fn literal(word: &str) -> String {
    word.replace('$', "$$")
}

/// A container of Whittle's own.
fn whittle(runner: &RunnerSettings, name: &str, args: Vec<String>) -> Container {
    let quantities = |memory: &str, disk: &str| {
        let all = [
            ("cpu", "10m"),
            ("memory", memory),
            ("ephemeral-storage", disk),
        ];
        all.map(|(name, text)| (name.to_owned(), Quantity(text.to_owned())))
    };
    Container {
        name: name.into(),
        image: Some(runner.image.clone()),
        image_pull_policy: runner.image_pull_policy.clone(),
        args: Some(args.iter().map(|word| literal(word)).collect()),
        resources: Some(ResourceRequirements {
            requests: Some(quantities("64Mi", "64Mi").into()),
            limits: Some(
                quantities("256Mi", VOLUME_SIZE)
                    .into_iter()
                    .skip(1)
                    .collect(),
            ),
            ..ResourceRequirements::default()
        }),
        security_context: Some(SecurityContext {
            read_only_root_filesystem: Some(true),
            run_as_user: Some(USER),
            ..unprivileged()
        }),
        volume_mounts: Some(vec![mount(VOLUME, FOLDER.into(), false)]),
        ..Container::default()
    }
}

/// What of a trial's Pod says that its outcome can be read: its container has ended well.
pub fn has_ended(pod: &Pod) -> bool {
    ended(pod).is_some_and(|it| it == 0)
}

/// The exit code of Whittle's own container.
fn ended(pod: &Pod) -> Option<i32> {
    let container = gate::container(pod, CONTAINER)?;
    Some(container.state.as_ref()?.terminated.as_ref()?.exit_code)
}

/// Where a trial stands, but for its outcome, which is in a log.
pub fn state(seen: &Seen, check: &HealthCheck, now: Timestamp) -> State {
    let code = seen.pod.and_then(ended);
    if let Some(code) = code.filter(|code| *code != 0) {
        return State::Failed(format!("its container {CONTAINER} ended with code {code}"));
    }
    let runs = seen
        .pod
        .and_then(|pod| gate::container(pod, CONTAINER)?.state.as_ref());
    if matches!(
        runs,
        Some(ContainerState {
            running: Some(_),
            ..
        })
    ) {
        return State::Waiting("the image is being tried".into());
    }
    match gate::state(seen, check, now) {
        gate::State::NoNode => State::NoNode,
        gate::State::Absent => State::Absent,
        gate::State::Waiting { message, .. } | gate::State::Suspended(message) => {
            State::Waiting(message)
        }
        gate::State::Passed { .. }
        | gate::State::Ended { .. }
        | gate::State::Exercising
        | gate::State::Exercised => State::Waiting("the image is being tried".into()),
        gate::State::Failed { message, .. } | gate::State::Lost(message) => State::Failed(message),
    }
}

#[cfg(test)]
#[path = "trial_tests.rs"]
mod tests;
