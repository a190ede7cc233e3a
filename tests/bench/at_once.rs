//! Several builds at once: from the first's creation until the last is Ready, against as many of bare buildctl at once on the same daemon.

use std::time::{Duration, Instant};

use futures::future::try_join_all;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokio::task::JoinSet;
use whittle_api::Builder;

use super::{Bench, LIMIT, NAMESPACE, Result};

/// What is built: how it is called, how many at once, and how often it is measured of `runs`.
const KINDS: [(&str, &[usize], usize); 3] = [
    ("one repository", &[1, 2, 4, 8], usize::MAX),
    ("each its own", &[1, 2, 4, 8], usize::MAX),
    // Each compiles all of Go's own packages, too: what the start of a Pod costs is small beside it.
    ("each its own, -a", &[1, 2, 4], 2),
];
/// How much longer than bare buildctl's all of the last kind take together, at most.
const AIM: f64 = 1.15;

/// Prints the table, and returns where the aim is not reached. Each build has a line of its own that was changed, so that each compiles.
pub async fn table(bench: &mut Bench, runs: usize) -> Result<Vec<String>> {
    // All of them may run: what is compared is their work, not the queue.
    let builders: Api<Builder> = Api::namespaced(bench.client.clone(), NAMESPACE);
    let before = builders.get("default").await?.spec.max_concurrent_builds;
    let most = |most: i32| Patch::Merge(json!({"spec": {"maxConcurrentBuilds": most}}));
    let params = PatchParams::default();
    builders.patch("default", &params, &most(8)).await?;
    let told = rows(bench, runs).await;
    builders.patch("default", &params, &most(before)).await?;
    told
}

async fn rows(bench: &mut Bench, runs: usize) -> Result<Vec<String>> {
    println!(
        "\n{:<8} {:<18} {:>14} {:>14} {:>8} {:>14} {:>14}",
        "at once", "repository", "whittle, s", "buildctl, s", "ratio", "p95, s", "buildctl, s"
    );
    let mut late = vec![];
    for (kind, numbers, most) in KINDS {
        let same = kind == "one repository";
        bench.all = kind.ends_with("-a");
        for at_once in numbers.iter().copied() {
            let (mut ours, mut bare) = (Times::default(), Times::default());
            for run in 0..runs.min(most) {
                for branch in 0..at_once {
                    bench.branch(branch, &format!("whittle {run} {at_once} {kind} {branch}"))?;
                }
                ours.note(whittle(bench, at_once, same).await?);
                for branch in 0..at_once {
                    bench.branch(branch, &format!("buildctl {run} {at_once} {kind} {branch}"))?;
                }
                bare.note(buildctl(bench, at_once, same).await?);
            }
            let (a, b) = (ours.makespan(), bare.makespan());
            if bench.all && a / b > AIM {
                late.push(format!(
                    "{at_once} at once: {:.2} of buildctl's time, and not {AIM} at most",
                    a / b
                ));
            }
            println!(
                "{at_once:<8} {kind:<18} {a:>14.2} {b:>14.2} {:>8.2} {:>14.2} {:>14.2}",
                a / b,
                ours.p95(),
                bare.p95()
            );
        }
    }
    println!(
        "\nFrom the start of the first to the end of the last, medians; p95 of all single ones. -a: each compiles all packages again."
    );
    Ok(late)
}

/// Seconds.
#[derive(Default)]
struct Times {
    makespans: Vec<f64>,
    single: Vec<f64>,
}

impl Times {
    /// Of builds that began together.
    fn note(&mut self, all: Vec<Duration>) {
        let mut seconds: Vec<f64> = all.iter().map(Duration::as_secs_f64).collect();
        self.makespans
            .push(seconds.iter().copied().fold(0.0, f64::max));
        self.single.append(&mut seconds);
    }

    fn makespan(&self) -> f64 {
        at(&self.makespans, 0.5)
    }

    fn p95(&self) -> f64 {
        at(&self.single, 0.95)
    }
}

fn at(all: &[f64], share: f64) -> f64 {
    let mut all = all.to_vec();
    all.sort_by(f64::total_cmp);
    let last = all.len() - 1;
    // An index, of a few.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss
    )]
    let index = (last as f64 * share).ceil() as usize;
    all[index.min(last)]
}

fn repository(who: &str, same: bool, branch: usize) -> String {
    match same {
        true => who.to_owned(),
        false => format!("{who}-{branch}"),
    }
}

async fn whittle(bench: &Bench, at_once: usize, same: bool) -> Result<Vec<Duration>> {
    for branch in 0..at_once {
        bench.forget(&format!("bench-at-once-{branch}")).await?;
    }
    let begun = Instant::now();
    let one = async |branch: usize| {
        let name = format!("bench-at-once-{branch}");
        let image = repository("whittle", same, branch);
        let (branch, tag) = (format!("at-once-{branch}"), format!("b{branch}"));
        let watched = bench.ask(&name, &branch, &image, &tag).await?;
        let line = tokio::time::timeout(LIMIT, watched.until_ready(begun)).await??;
        Ok::<_, Box<dyn std::error::Error>>(line.ready)
    };
    try_join_all((0..at_once).map(one)).await
}

async fn buildctl(bench: &Bench, at_once: usize, same: bool) -> Result<Vec<Duration>> {
    let begun = Instant::now();
    let mut running = JoinSet::new();
    for branch in 0..at_once {
        let image = format!("{}:b{branch}", repository("buildctl", same, branch));
        let arguments = bench.buildctl_arguments(&format!("at-once-{branch}"), &image);
        running.spawn_blocking(move || {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            let done = super::run(arguments[0], &arguments[1..]);
            done.map(|()| begun.elapsed())
                .map_err(|error| error.to_string())
        });
    }
    let all: std::result::Result<Vec<_>, String> = running.join_all().await.into_iter().collect();
    Ok(all?)
}
