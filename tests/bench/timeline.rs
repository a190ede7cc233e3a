//! Where the time of one build goes, as one client sees it by watches, and as its runner counts it.

use std::time::{Duration, Instant};

use futures::stream::{BoxStream, StreamExt, select_all};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use whittle_api::{ImageBuild, Phases, is_true};
use whittle_controller::names;

use super::Result;

/// Since the ImageBuild was asked for.
pub struct Timeline {
    job: Duration,
    pod: Duration,
    running: Duration,
    /// Its Ready condition is True.
    pub ready: Duration,
    phases: Phases,
}

enum Seen {
    Job,
    Pod { running: bool },
    Build(Box<ImageBuild>),
}

/// Watches of one build and of what is made for it.
pub struct Watched(BoxStream<'static, watcher::Result<Seen>>);

/// Begins to watch an ImageBuild that does not exist yet.
pub fn watched(client: &Client, namespace: &str, name: &str) -> Watched {
    let of = watcher::Config::default().labels(&format!("{}={}", names::COMPONENT, names::RUNNER));
    // Its name stands in an annotation, which nobody selects by.
    let (of_pod, of_job) = (name.to_owned(), name.to_owned());
    let jobs: Api<Job> = Api::namespaced(client.clone(), namespace);
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let builds: Api<ImageBuild> = Api::namespaced(client.clone(), namespace);
    let named = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let living = move |found: watcher::Result<Pod>| {
        let pod = found.ok().filter(|pod| is_of(pod, &of_pod));
        std::future::ready(pod.map(|pod| {
            let status = pod.status.unwrap_or_default();
            let running = status.phase.is_some_and(|phase| phase == "Running");
            Ok(Seen::Pod { running })
        }))
    };
    let made = move |found: watcher::Result<Job>| {
        let job = found.ok().filter(|job| is_of(job, &of_job));
        std::future::ready(job.map(|_| Ok(Seen::Job)))
    };
    Watched(
        select_all([
            watcher(jobs, of.clone())
                .default_backoff()
                .applied_objects()
                .filter_map(made)
                .boxed(),
            watcher(pods, of)
                .default_backoff()
                .applied_objects()
                .filter_map(living)
                .boxed(),
            watcher(builds, named)
                .default_backoff()
                .applied_objects()
                .map(|found| found.map(|build| Seen::Build(Box::new(build))))
                .boxed(),
        ])
        .boxed(),
    )
}

/// True for what was made for an ImageBuild of this name, and is not about to go with the one before.
fn is_of(object: &impl ResourceExt, name: &str) -> bool {
    let of = object.annotations().get(names::IMAGE_BUILD);
    object.meta().deletion_timestamp.is_none() && of.is_some_and(|of| of == name)
}

impl Watched {
    /// Until it is Ready; an error where it fails.
    pub async fn until_ready(mut self, begun: Instant) -> Result<Timeline> {
        let (mut job, mut pod, mut running) = (None, None, None);
        while let Some(seen) = self.0.next().await {
            let now = begun.elapsed();
            match seen? {
                Seen::Job => drop(job.get_or_insert(now)),
                Seen::Pod { running: runs } => {
                    pod.get_or_insert(now);
                    if runs {
                        running.get_or_insert(now);
                    }
                }
                Seen::Build(build) => {
                    let status = build.status.unwrap_or_default();
                    if is_true(&status.conditions, "Stalled") {
                        return Err(format!("the build failed: {:?}", status.conditions).into());
                    }
                    if is_true(&status.conditions, "Ready") {
                        return Ok(Timeline {
                            // What was not seen in between came with what was.
                            job: job.unwrap_or(now),
                            pod: pod.unwrap_or(now),
                            running: running.unwrap_or(now),
                            ready: now,
                            phases: status.phase_milliseconds.unwrap_or_default(),
                        });
                    }
                }
            }
        }
        Err("the watch has ended".into())
    }
}

/// The medians of their parts, in seconds, in the order of time.
pub fn parts(lines: &[Timeline]) -> Vec<(&'static str, f64)> {
    let counted = |line: &Timeline, name: &str| {
        let all = line.phases.named();
        let time = all
            .iter()
            .find(|(known, _)| *known == name)
            .and_then(|(_, time)| *time);
        time.unwrap_or(0) as f64 / 1000.0
    };
    let runner = ["source", "solve", "push", "readBack", "check", "tag"];
    let seconds = |time: Duration| time.as_secs_f64();
    let median = |of: &dyn Fn(&Timeline) -> f64| {
        let mut all: Vec<f64> = lines.iter().map(of).collect();
        all.sort_by(f64::total_cmp);
        all.get(all.len() / 2).copied().unwrap_or_default()
    };
    let mut parts = vec![
        (
            "created until its Job is seen",
            median(&|it| seconds(it.job)),
        ),
        (
            "until its Pod is seen",
            median(&|it| seconds(it.pod.saturating_sub(it.job))),
        ),
        (
            "until that runs, as the kubelet tells",
            median(&|it| seconds(it.running.saturating_sub(it.pod))),
        ),
    ];
    for name in runner {
        let label = match name {
            "readBack" => "runner: manifests read back",
            "source" => "runner: source and Dockerfile read",
            "solve" => "runner: solve",
            "push" => "runner: push",
            "check" => "runner: contents and contract",
            _ => "runner: tags moved",
        };
        parts.push((label, median(&|it| counted(it, name))));
    }
    let told: &dyn Fn(&Timeline) -> f64 = &|it| {
        let all: f64 = runner.iter().map(|name| counted(it, name)).sum();
        seconds(it.ready) - seconds(it.running) - all
    };
    parts.push(("the rest: reports, statuses", median(told)));
    parts
}
