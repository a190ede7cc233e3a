//! The controller is killed (SIGKILL) at each call that it makes to the API server during a build: before the API server
//! hears of it, and after it has carried it out. Another controller takes its place, and the build ends once, rightly.
//!
//! Calls are counted from the moment at which there is something to do; watches are none. A sample each time, all of
//! them with `LONG=1`; the table is docs/kills.md.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::time::{Duration, Instant};

use futures::StreamExt;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::events::v1::Event;
use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::{Value, json};
use whittle_api::find;
use whittle_build::report::Report;
use whittle_controller::names;

use self::pushes::Pushes;
use crate::kubelet::Kubelet;
use crate::minimize::{asked, smaller, to_try};
use crate::proxy::{Proxy, When};
use crate::stage::{Stage, root, success};

mod pushes;

/// Controllers at a time.
const AT_A_TIME: usize = 6;
/// Of so many calls one is tried, but for all of them.
const SAMPLE: usize = 15;
/// So long nothing is called once a build has ended.
const QUIET: Duration = Duration::from_millis(700);
/// So long a build may take in all.
const PATIENCE: Duration = Duration::from_secs(180);

/// A build in which the controller is killed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scene {
    /// The ImageBuild is there before the controller: its start is part of it.
    Start,
    Plain,
    Checked,
    /// The smaller image ends in its health check, and the full one takes its place.
    Minimized,
    /// The image is tried before it is made smaller. No kubelet says what came of it.
    Tried,
    Retried,
    /// The spec changes while the runner runs.
    Superseded,
    /// Commits are pushed and seen while a build runs, and after it.
    Pushed,
}

/// What a scene comes to.
struct Expected {
    /// Jobs of runners that are made, and that are there at its end.
    runners: [usize; 2],
    /// Jobs of checks that are made.
    checks: usize,
    builds: usize,
    /// Builds that end well.
    good: i32,
}

impl Scene {
    fn name(self) -> &'static str {
        match self {
            Self::Start => "controller starts",
            Self::Plain => "plain",
            Self::Checked => "health check",
            Self::Minimized => "smaller image rejected",
            Self::Tried => "tried and made smaller",
            Self::Retried => "runner lost, retried",
            Self::Superseded => "spec changed",
            Self::Pushed => "commits pushed",
        }
    }

    fn spec(self) -> Value {
        match self {
            Self::Checked => json!({"healthCheck": {"tcpSocket": {"port": 80}}}),
            Self::Pushed => pushes::spec(),
            Self::Minimized => asked("UseFull"),
            Self::Tried => {
                let mut spec = asked("UseFull");
                spec["minimize"]["trace"] = json!(true);
                spec
            }
            _ => json!({}),
        }
    }

    /// What its runners say.
    fn ends(self, job: &Job) -> Report {
        match self {
            Self::Minimized => smaller("sha256:ee", "sha256:aa"),
            Self::Tried if is_attempt(job) => to_try("sha256:f0", job),
            Self::Tried => smaller("sha256:aa", "sha256:f0"),
            _ => success("sha256:aa"),
        }
    }

    fn expected(self) -> Expected {
        let (runners, checks, builds, good) = match self {
            Self::Start | Self::Plain => ([1, 1], 0, 1, 1),
            // One that builds, one that moves the tags.
            Self::Checked => ([2, 2], 1, 1, 1),
            Self::Minimized => ([2, 2], 2, 1, 1),
            // One that builds, one that makes it smaller, one that moves the tags; a trial and a check.
            Self::Tried => ([3, 3], 2, 1, 1),
            Self::Retried => ([2, 2], 0, 1, 1),
            Self::Superseded => ([2, 1], 0, 2, 1),
            Self::Pushed => ([2, 2], 0, 2, 2),
        };
        Expected {
            runners,
            checks,
            builds,
            good,
        }
    }
}

/// True for the Job of an attempt; the others follow one.
fn is_attempt(job: &Job) -> bool {
    let uid = &job.labels()["whittle.dev/imagebuild-uid"];
    let name = |attempt| names::attempt("hello", uid, 1, 1, attempt);
    (1..=3).any(|attempt| job.name_any() == name(attempt))
}

/// What came of one kill.
struct Row {
    call: String,
    started: usize,
    finished: usize,
    duplicates: usize,
    wrong: Vec<String>,
}

/// Kills at this call of this scene; none where there are fewer calls.
async fn killed(scene: Scene, number: usize, when: When) -> Option<Row> {
    let mut stage = Stage::new().await;
    stage.node().await;
    let proxy = Proxy::start(stage.server).await;
    stage.account = Some(proxy.kubeconfig(stage.server));
    let begun = Instant::now();
    let mut kubelet = Kubelet::default();
    kubelet.loses_the_first = scene == Scene::Retried;
    kubelet.holds_the_first = matches!(scene, Scene::Superseded | Scene::Pushed);
    kubelet.crashes = (scene == Scene::Minimized).then_some("@sha256:ee");
    let mut pushes = Pushes::default();
    if scene == Scene::Start {
        stage.apply("hello", scene.spec()).await.unwrap();
        proxy.hold_at(number, when);
        stage.launch_controller().await;
    } else {
        stage.launch_controller().await;
        while !stage.is_up().await {
            assert!(begun.elapsed() < PATIENCE, "the controller is not up");
            stage.revive().await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        proxy.hold_at(number, when);
        stage.apply("hello", scene.spec()).await.unwrap();
    }
    let mut killed = None;
    let mut changed = false;
    let (mut calls, mut quiet) = (0, Instant::now());
    let what = format!("{}: the build ends, {when:?} call {number}", scene.name());
    loop {
        if let (None, Some(call)) = (&killed, proxy.reached()) {
            stage.kill_controller();
            proxy.release();
            stage.launch_controller().await;
            killed = Some(call);
        }
        // On a machine that is too busy for it to renew its Lease it ends by itself.
        stage.revive().await;
        if scene == Scene::Pushed {
            pushes.turn(&stage, &mut kubelet).await;
        } else {
            kubelet.turn_with(&stage, |job| scene.ends(job)).await;
        }
        if scene == Scene::Superseded && kubelet.first_runs && !changed {
            changed = true;
            let other = json!({"source": {"inline": {"files": {"a": "other"}}}});
            stage.apply("hello", other).await.unwrap();
        }
        if calls != proxy.calls() {
            (calls, quiet) = (proxy.calls(), Instant::now());
        }
        let status = stage.get("hello").await.status.unwrap_or_default();
        let ready = find(&status.conditions, "Ready").cloned();
        let builds = i64::try_from(scene.expected().builds).unwrap();
        let ended = ready.is_some_and(|it| it.status == "True") && status.build == Some(builds);
        if ended && quiet.elapsed() > QUIET {
            break;
        }
        assert!(
            begun.elapsed() < PATIENCE,
            "not in time: {what}: {status:#?}\n{}",
            stage.controllers_log()
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Some(row(scene, &stage, &proxy, killed?).await)
}

/// What there is once the build has ended.
async fn row(scene: Scene, stage: &Stage, proxy: &Proxy, call: String) -> Row {
    let made = proxy.jobs();
    let distinct: BTreeSet<&String> = made.iter().collect();
    let Expected {
        runners: [runners, there],
        checks,
        builds,
        good,
    } = scene.expected();
    let status = stage.get("hello").await.status.unwrap();
    let jobs: Vec<String> = stage
        .jobs()
        .await
        .iter()
        .map(ResourceExt::name_any)
        .collect();
    let requests = stage.requests().await;
    let labels = ListParams::default().labels("whittle.dev/component=runner");
    let secrets = stage.api::<Secret>().list(&labels).await.unwrap().items;
    let owners = secrets
        .iter()
        .map(|secret| secret.owner_references()[0].name.clone())
        // Nobody takes away those whose request has gone.
        .filter(|owner| requests.contains(owner));
    let events = stage
        .api::<Event>()
        .list(&ListParams::default())
        .await
        .unwrap()
        .items;
    let told = events
        .iter()
        .filter(|event| event.reason.as_deref() == Some("Succeeded"));
    let sorted = |names: &[String]| names.iter().cloned().collect::<BTreeSet<_>>();
    let mut wrong = vec![];
    let mut holds = |what: &str, holds: bool| {
        if !holds {
            wrong.push(what.to_owned());
        }
    };
    holds("the digest", status.digest.as_deref() == Some("sha256:aa"));
    holds(
        "builds",
        status.build == i64::try_from(builds).ok() && status.history.len() == builds,
    );
    holds("nothing under way", status.current.is_none());
    holds("Jobs that were made", distinct.len() == runners + checks);
    holds("Jobs that are there", jobs.len() == there);
    holds(
        "requests",
        requests.len() == there && sorted(&requests) == sorted(&jobs),
    );
    holds(
        "credentials",
        owners.collect::<BTreeSet<_>>() == sorted(&requests),
    );
    // It may be lost, and is not written twice.
    holds(
        "events",
        told.map(|event| event.series.as_ref().map_or(1, |s| s.count))
            .sum::<i32>()
            <= good,
    );
    if scene == Scene::Pushed {
        holds("each commit once", pushes::are_built_once(&status));
    }
    Row {
        call,
        started: distinct.len() - checks,
        finished: status.history.len(),
        duplicates: made.len() - distinct.len(),
        wrong,
    }
}

/// Each call of a scene.
async fn each(scene: Scene) {
    let long = std::env::var_os("LONG").is_some();
    let step = match scene {
        _ if long => 1,
        // Two builds, one after the other: more calls, and each row takes longer.
        Scene::Pushed => 2 * SAMPLE,
        _ => SAMPLE,
    };
    let numbers = (1..)
        .step_by(step)
        .flat_map(|n| [(n, When::Before), (n, When::After)]);
    let mut rows = futures::stream::iter(numbers)
        .map(async |(number, when)| {
            // A thread of its own: that one fails ends no other.
            let alone = move || {
                let mut runtime = tokio::runtime::Builder::new_current_thread();
                let runtime = runtime.enable_all().build().unwrap();
                runtime.block_on(killed(scene, number, when))
            };
            let row = tokio::task::spawn_blocking(alone).await;
            (number, when, row)
        })
        .buffered(AT_A_TIME)
        .take_while(|(.., row)| std::future::ready(!matches!(row, Ok(None))));
    let (mut text, mut failed) = (String::new(), vec![]);
    while let Some((number, when, row)) = rows.next().await {
        let when = format!("{when:?}").to_lowercase();
        let row = match row {
            Ok(row) => row.unwrap(),
            Err(error) => {
                failed.push(format!("{when} call {number}: {error}"));
                continue;
            }
        };
        let Row {
            call,
            started,
            finished,
            duplicates,
            wrong,
        } = row;
        let name = scene.name();
        writeln!(
            text,
            "| {name} | {number} | `{call}` | {when} | {started} | {finished} | {duplicates} |"
        )
        .unwrap();
        if duplicates > 0 || !wrong.is_empty() {
            failed.push(format!(
                "{when} call {number}, {call}: {duplicates} duplicates; wrong: {wrong:?}"
            ));
        }
    }
    if long {
        let folder = root().join("target/kills");
        std::fs::create_dir_all(&folder).unwrap();
        let file = format!("{}.md", scene.name().replace([' ', ','], "-"));
        std::fs::write(folder.join(file), &text).unwrap();
    }
    assert!(failed.is_empty(), "{failed:#?}");
    // So that it counts: a build takes more than a few calls.
    assert!(text.lines().count() * step > 40, "{text}");
}

#[tokio::test]
async fn at_each_call_from_its_start() {
    each(Scene::Start).await;
}

#[tokio::test]
async fn at_each_call_of_a_build() {
    each(Scene::Plain).await;
}

#[tokio::test]
async fn at_each_call_of_a_build_with_a_health_check() {
    each(Scene::Checked).await;
}

#[tokio::test]
async fn at_each_call_of_a_build_whose_smaller_image_is_rejected() {
    each(Scene::Minimized).await;
}

#[tokio::test]
async fn at_each_call_of_a_build_whose_image_is_tried_before_it_is_made_smaller() {
    each(Scene::Tried).await;
}

#[tokio::test]
async fn at_each_call_of_a_build_whose_spec_changes() {
    each(Scene::Superseded).await;
}

#[tokio::test]
async fn at_each_call_from_a_commit_that_is_seen_to_its_image() {
    each(Scene::Pushed).await;
}

#[tokio::test]
async fn at_each_call_of_a_build_whose_runner_is_lost() {
    each(Scene::Retried).await;
}
