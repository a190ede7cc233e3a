//! What triggers have seen is built, once, whoever is killed meanwhile; and in its order. The watcher is the real program,
//! the git server real git.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::time::{Duration, Instant};

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::{Value, json};
use whittle_api::{Base, ImageBuild, TRIGGERS, TriggerReason, find};
use whittle_build::report::{Built, Report};
use whittle_controller::names;
use whittle_git::fixtures::{Repository, Server};
use whittle_watch::wire::{Outcome, Seen, TELL_PATH, Told};

use crate::callback::client;
use crate::kubelet::Kubelet;
use crate::stage::{Stage, root, success};
use crate::watcher::Watcher;

/// Branches, each of which an ImageBuild is built from.
const BRANCHES: [&str; 4] = ["a", "b", "c", "d"];
/// How long all of them may take to be built after a round.
const PATIENCE: Duration = Duration::from_secs(90);
/// ImageBuilds of one base image.
const SHARED: usize = 30;

/// A number that looks random, another one for each seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % most
    }
}

/// One more commit on this branch; its revision.
pub fn push(repository: &Repository, branch: &str) -> String {
    let reference = format!("refs/heads/{branch}");
    let tree = repository.git(&["mktree"]);
    let parent = &repository.commits[0];
    let known = repository.git(&["for-each-ref", "--format=%(objectname)", &reference]);
    let parent = if known.is_empty() { parent } else { &known };
    let next = repository.git(&["commit-tree", &tree, "-p", parent, "-m", "next"]);
    repository.git(&["update-ref", &reference, &next]);
    format!("{branch}@sha1:{next}")
}

/// What a branch points to.
pub fn head(repository: &Repository, branch: &str) -> String {
    let commit = repository.git(&["rev-parse", &format!("refs/heads/{branch}")]);
    format!("{branch}@sha1:{commit}")
}

pub fn of_revision(revision: String) -> Report {
    let Report::Succeeded(built) = success("sha256:aa") else {
        unreachable!("it is one");
    };
    Report::Succeeded(Built {
        revision: Some(revision),
        ..built
    })
}

pub async fn polled(stage: &Stage, name: &str, url: &str, more: Value) {
    let mut spec = json!({"source": {"inline": null, "git": {"url": url, "ref": {"branch": name}}},
        "output": {"image": format!("registry.example.com/team/{name}")},
        "triggers": {"poll": {"interval": "10s"}}, "historyLimit": 50});
    json_patch::merge(&mut spec, &more);
    stage.apply(name, spec).await.unwrap();
}

#[tokio::test]
async fn what_is_pushed_while_controller_and_watcher_are_killed_is_built_and_no_commit_is_built_twice()
 {
    let rounds = match std::env::var_os("LONG") {
        Some(_) => 20,
        None => 3,
    };
    let mut stage = Stage::new().await;
    let repository = Repository::new("sha1");
    let server = Server::start(&repository).await;
    let url = format!("http://127.0.0.1:{}/open/team/hello.git", server.port);
    let mut kubelet = Kubelet::default();
    let mut watcher = Watcher::new();
    stage.launch_controller().await;
    watcher.start();
    for branch in BRANCHES {
        push(&repository, branch);
        polled(&stage, branch, &url, json!({})).await;
    }
    let seed = std::process::id().into();
    let mut dice = Dice(seed);
    let mut asked = BTreeMap::new();
    let (mut killed, mut pushed, mut jobs) = ([0, 0], BRANCHES.len(), BTreeSet::new());
    for round in 0..=rounds {
        // When what happens in this round: milliseconds.
        let mut plan = vec![];
        for branch in BRANCHES.iter().filter(|_| round > 0) {
            for _ in 0..=dice.below(2) {
                plan.push((dice.below(12_000), Some(*branch), 0));
            }
        }
        let first = usize::try_from(dice.below(2)).unwrap();
        for which in [first, 1 - first] {
            if round > 0 && (which == first || dice.below(2) > 0) {
                plan.push((dice.below(14_000), None, which));
            }
        }
        plan.sort();
        plan.reverse();
        let begun = Instant::now();
        // Who is killed comes back, as its Pod does, after a while.
        let mut back = [None, None];
        loop {
            while let Some((_, branch, which)) =
                plan.pop_if(|(at, ..)| begun.elapsed() >= Duration::from_millis(*at))
            {
                match branch {
                    Some(branch) => {
                        push(&repository, branch);
                        pushed += 1;
                    }
                    None => {
                        match which {
                            0 => stage.kill_controller(),
                            _ => watcher.kill(),
                        }
                        killed[which] += 1;
                        let away = Duration::from_millis(dice.below(6_000));
                        back[which] = Some(Instant::now() + away);
                    }
                }
            }
            if back[0].is_some_and(|at| at <= Instant::now()) {
                stage.launch_controller().await;
                back[0] = None;
            }
            if back[1].is_some_and(|at| at <= Instant::now()) {
                watcher.start();
                back[1] = None;
            }
            if back[0].is_none() {
                stage.revive().await;
            }
            watcher.mount(&stage).await;
            kubelet
                .turn_with(&stage, |job| {
                    of_revision(head(&repository, &job.annotations()[names::IMAGE_BUILD]))
                })
                .await;
            jobs.extend(stage.jobs().await.iter().map(ResourceExt::name_any));
            begun_for(&stage, &mut asked).await;
            if plan.is_empty() && back == [None, None] && are_built(&stage, &repository).await {
                break;
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "round {round} of seed {seed}: not built in time: {:#?}\n{}\n{}",
                stage.api::<ImageBuild>().list(&ListParams::default()).await,
                stage.controllers_log(),
                watcher.log(),
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    // Nobody looks again at what is known: two more looks, and nothing is built.
    let until = Instant::now() + Duration::from_secs(23);
    let builds = all_builds(&stage).await;
    while Instant::now() < until {
        watcher.mount(&stage).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(all_builds(&stage).await, builds);
    let (mut begun, mut ended, mut moved) = (0, 0, 0);
    for branch in BRANCHES {
        let status = stage.get(branch).await.status.unwrap();
        let of_branch = asked.iter().filter(|((name, _), _)| name == branch);
        let commits: Vec<&String> = of_branch.map(|(_, revision)| revision).collect();
        let distinct: BTreeSet<_> = commits.iter().collect();
        assert_eq!(distinct.len(), commits.len(), "{branch}: {commits:#?}");
        let mut known = BTreeSet::new();
        let good = status.history.iter().filter(|it| it.result == "Succeeded");
        for build in good.rev() {
            let revision = build.revision.clone().unwrap();
            assert!(known.insert(revision), "twice: {branch}: {build:#?}");
            // The runner takes what the branch points to by then, which may be newer than what it was begun for.
            let begun = asked.get(&(branch.to_owned(), build.build));
            moved += usize::from(begun.is_some_and(|begun| build.revision.as_ref() != Some(begun)));
            ended += 1;
        }
        begun += usize::try_from(status.build.unwrap()).unwrap();
    }
    // A Job for each build, and no other: some builds were superseded before they had one.
    assert!(
        (ended..=begun).contains(&jobs.len()),
        "{} Jobs of {begun} builds, of which {ended} ended well",
        jobs.len()
    );
    assert!(killed[0] + killed[1] >= rounds, "{killed:?}");
    println!(
        "{rounds} rounds: {pushed} commits pushed, {begun} builds begun, {ended} ended well, {moved} of them with \
         a commit newer than the one that was seen; controller killed {} times, watcher {}",
        killed[0], killed[1]
    );
}

/// Notes for which commit each build was begun.
async fn begun_for(stage: &Stage, asked: &mut BTreeMap<(String, i64), String>) {
    for branch in BRANCHES {
        let status = stage.get(branch).await.status.unwrap_or_default();
        if let (Some(number), Some(trigger)) = (status.build, status.trigger)
            && trigger.reason == TriggerReason::Commit
        {
            asked.insert((branch.to_owned(), number), trigger.detail);
        }
    }
}

async fn all_builds(stage: &Stage) -> BTreeMap<String, Option<i64>> {
    let all = stage.api::<ImageBuild>().list(&ListParams::default()).await;
    let number = |build: &ImageBuild| build.status.as_ref()?.build;
    let all = all.unwrap();
    all.iter()
        .map(|build| (build.name_any(), number(build)))
        .collect()
}

/// True where each branch's last commit is in its image, and nothing is under way.
async fn are_built(stage: &Stage, repository: &Repository) -> bool {
    for branch in BRANCHES {
        let Some(status) = stage.get(branch).await.status else {
            return false;
        };
        let newest = Some(head(repository, branch));
        if status.current.is_some() || status.pending.is_some() || status.revision != newest {
            return false;
        }
    }
    true
}

#[tokio::test]
async fn what_cannot_be_polled_is_said_with_its_cause_and_what_helps() {
    let mut stage = Stage::new().await;
    let repository = Repository::new("sha1");
    let server = Server::start(&repository).await;
    let mut watcher = Watcher::new();
    stage.start_controller().await;
    watcher.start();
    let url = |kind: &str| format!("http://127.0.0.1:{}/{kind}/team/hello.git", server.port);
    for kind in ["private", "open", "broken"] {
        polled(&stage, kind, &url(kind), json!({"suspend": true})).await;
    }
    let range =
        json!({"suspend": true, "source": {"git": {"ref": {"branch": null, "semver": ">=7"}}}});
    polled(&stage, "range", &url("versions"), range).await;
    let never = json!({"suspend": true, "triggers": {"poll": null, "schedule": "0 0 31 2 *"}});
    polled(&stage, "never", &url("open"), never).await;
    // It makes its Builder, without which there is no watcher.
    stage.apply("hello", json!({})).await.unwrap();
    stage.builder_starts().await;
    for (name, reason, words) in [
        ("private", "SourceDenied", "authentication required"),
        ("open", "SourceNotFound", "branch \"open\" not found"),
        ("broken", "SourceUnreachable", "503"),
        ("range", "NoVersion", ">=7"),
        ("never", "NoSuchTime", "0 0 31 2 *"),
    ] {
        says(&stage, &watcher, name, reason, words).await;
    }
    // All sources of a host wait for one that is asked too often: it comes last.
    let limited = json!({"suspend": true});
    polled(&stage, "limited", &url("limited"), limited).await;
    says(&stage, &watcher, "limited", "RateLimited", "rate limit").await;
}

async fn says(stage: &Stage, watcher: &Watcher, name: &str, reason: &str, words: &str) {
    let what = format!("the triggers of {name} are {reason}");
    let message = stage
        .until(&what, async || {
            watcher.mount(stage).await;
            let status = stage.get(name).await.status?;
            let told = find(&status.conditions, TRIGGERS)?;
            (told.status == "False" && told.reason == reason).then(|| told.message.clone())
        })
        .await;
    assert!(message.contains(words), "{name}: {message}");
}

/// What was built from this base image.
fn from_base(image: &str, digest: &str) -> Report {
    let Report::Succeeded(built) = success("sha256:aa") else {
        unreachable!("it is one");
    };
    let base = Base {
        image: image.into(),
        digest: digest.into(),
        stage: None,
        seen: None,
    };
    Report::Succeeded(Built {
        bases: vec![base],
        ..built
    })
}

#[tokio::test]
async fn a_schedule_starts_a_build_when_its_minute_comes_and_makes_up_for_one_that_passed_without_a_controller()
 {
    let mut stage = Stage::new().await;
    stage.patience = Duration::from_secs(240);
    stage.start_controller().await;
    let spec = json!({"triggers": {"schedule": "* * * * *"}});
    stage.apply("minutely", spec).await.unwrap();
    let mut kubelet = Kubelet::default();
    // The first is of the spec; the second is that of the minute; the third of one in which no controller was there.
    for (number, reason) in [
        (1, TriggerReason::Spec),
        (2, TriggerReason::Schedule),
        (3, TriggerReason::Schedule),
    ] {
        let begun = Instant::now();
        while all_built(&stage, number).await < 1 {
            assert!(
                begun.elapsed() < stage.patience,
                "{}",
                stage.controllers_log()
            );
            kubelet.turn_with(&stage, |_| success("sha256:aa")).await;
        }
        let status = stage.get("minutely").await.status.unwrap();
        assert_eq!(status.trigger.unwrap().reason, reason);
        let next = status.schedule.unwrap().next.unwrap().0;
        if number == 2 {
            stage.kill_controller();
            while Timestamp::now() < next {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            stage.start_controller().await;
        }
    }
}

#[tokio::test]
async fn thirty_that_share_a_base_image_that_moved_let_a_person_go_first() {
    const IMAGE: &str = "registry.example.com/base/go:1";
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut stage = Stage::new().await;
    // Three of them in one namespace: half of what is allowed in the cluster.
    stage.settings = json!({"triggers": {"maxConcurrent": 5}});
    stage.patience = Duration::from_secs(180);
    let port = stage.start_controller().await;
    // As many at a time as base images may start: who comes has to wait for a place.
    stage
        .install(json!({"apiVersion": "whittle.dev/v1alpha1", "kind": "Builder",
            "metadata": {"name": "default", "namespace": stage.namespace}, "spec": {"maxConcurrentBuilds": 3}}))
        .await;
    let all: Vec<String> = (0..SHARED)
        .map(|number| format!("app-{number:02}"))
        .collect();
    for name in &all {
        let spec = json!({"triggers": {"baseImages": {"interval": "10s"}}, "output": {"image": format!("registry.example.com/team/{name}")}});
        stage.apply(name, spec).await.unwrap();
    }
    let person = json!({"output": {"image": "registry.example.com/team/person"}});
    stage.apply("person", person.clone()).await.unwrap();
    let mut kubelet = Kubelet::default();
    let begun = Instant::now();
    while all_built(&stage, 1).await < SHARED + 1 {
        assert!(
            begun.elapsed() < stage.patience,
            "{}",
            stage.controllers_log()
        );
        kubelet
            .turn_with(&stage, |_| from_base(IMAGE, "sha256:01"))
            .await;
    }
    // A Job of the last of them that has not ended would count as one that runs.
    let goes_on = |job: &Job| {
        job.status
            .as_ref()
            .is_none_or(|it| it.completion_time.is_none())
    };
    while stage
        .api::<Job>()
        .list(&ListParams::default())
        .await
        .unwrap()
        .iter()
        .any(goes_on)
    {
        assert!(begun.elapsed() < stage.patience, "a Job does not end");
        kubelet
            .turn_with(&stage, |_| from_base(IMAGE, "sha256:01"))
            .await;
    }
    // The watcher's word, in its own way.
    let name = names::watcher("default");
    let secrets = stage.api::<Secret>();
    let token = stage
        .until("the watcher has its credential", async || {
            let secret = secrets.get_opt(&name).await.unwrap()?;
            Some(String::from_utf8(secret.data?["token"].0.clone()).unwrap())
        })
        .await;
    let mut seen = vec![];
    for name in &all {
        let build = stage.get(name).await;
        let bases = &build.status.as_ref().unwrap().bases;
        assert_eq!((bases.len(), bases[0].digest.as_str()), (1, "sha256:01"));
        let digest = whittle_image::digest_of(IMAGE.as_bytes());
        seen.push(Seen {
            tree: None,
            age_seconds: 0,
            begun_millis: None,
            id: format!(
                "{}/{}",
                build.uid().unwrap(),
                &digest["sha256:".len()..][..16]
            ),
            wanted: false,
            outcome: Outcome::Found {
                revision: "sha256:02".into(),
            },
        });
    }
    let answer = client(&stage)
        .await
        .post(format!("https://localhost:{port}{TELL_PATH}"))
        .bearer_auth(&token)
        .json(&Told { seen })
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 204);
    timeline(&stage, person, IMAGE).await;
}

async fn all_built(stage: &Stage, number: i64) -> usize {
    let all = stage.api::<ImageBuild>().list(&ListParams::default()).await;
    let done = |build: &&ImageBuild| {
        let status = build.status.as_ref();
        status.is_some_and(|it| it.build >= Some(number) && it.current.is_none())
    };
    all.unwrap().iter().filter(done).count()
}

/// One build ends after another; once ten have, a person asks for one.
async fn timeline(stage: &Stage, person: Value, image: &str) {
    let long = std::env::var_os("LONG").is_some();
    let begun = Instant::now();
    let (mut runs, mut ended, mut order) = (BTreeSet::new(), 0, vec![]);
    let (mut asked, mut most, mut rows) = (None, 0, String::new());
    while ended < SHARED + 1 {
        assert!(
            begun.elapsed() < stage.patience,
            "{ended} have ended: {order:?}\n{rows}\n{}",
            stage.controllers_log()
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
        let mut row = |what: &str, name: &str, runs: &BTreeSet<String>| {
            let at = begun.elapsed().as_secs_f64();
            writeln!(rows, "| {at:.1} | {name} {what} | {} |", runs.len()).unwrap();
        };
        let builds = stage.api::<ImageBuild>().list(&ListParams::default()).await;
        let mut now = BTreeMap::new();
        for build in builds.unwrap() {
            let status = build.status.clone().unwrap();
            let Some(current) = status.current else {
                continue;
            };
            let job = stage.api::<Job>().get_opt(&current.job).await.unwrap();
            if let Some(job) = job {
                let name = build.name_any();
                let reason = status.trigger.unwrap().reason;
                let right = match name.as_str() {
                    "person" => TriggerReason::Spec,
                    _ => TriggerReason::BaseImage,
                };
                assert_eq!(reason, right, "{name}");
                now.insert(name, job);
            }
        }
        most = most.max(now.keys().filter(|name| *name != "person").count());
        for (name, job) in &now {
            if runs.insert(name.clone()) {
                stage.pod(job, json!({"phase": "Running"})).await;
                order.push(name.clone());
                row("begins", name, &runs);
            }
        }
        // All places are taken: nobody else begins meanwhile.
        if ended >= 10 && runs.len() == 3 && asked.is_none() {
            let mut spec = person.clone();
            spec["buildArgs"] = json!({"A": "b"});
            stage.apply("person", spec).await.unwrap();
            stage
                .until("it waits for its turn", async || {
                    let status = stage.get("person").await.status?;
                    (status.build == Some(2)).then_some(())
                })
                .await;
            asked = Some(order.len());
            row("is asked for", "person", &runs);
        }
        // As many as may run do, before one of them ends.
        let full = 3.min(SHARED + 1 - ended);
        let first = order
            .iter()
            .find(|name| runs.contains(*name) && now.contains_key(*name));
        if let Some(first) = first.filter(|_| now.len() >= full).cloned() {
            stage
                .pod_ends(&now[&first], &from_base(image, "sha256:02"))
                .await;
            stage
                .until("it has ended", async || {
                    let status = stage.get(&first).await.status?;
                    (status.build == Some(2) && status.current.is_none()).then_some(())
                })
                .await;
            runs.remove(&first);
            ended += 1;
            row("ends", &first, &runs);
        }
    }
    assert_eq!(most, 3);
    assert_eq!(order[asked.unwrap()], "person", "{order:?}");
    let distinct: BTreeSet<&String> = order.iter().collect();
    assert_eq!((order.len(), distinct.len()), (SHARED + 1, SHARED + 1));
    for name in distinct {
        let status = stage.get(name).await.status.unwrap();
        let digest = status.bases[0].digest.as_str();
        assert_eq!((status.build, digest), (Some(2), "sha256:02"), "{name}");
    }
    if long {
        let head = "| second | what | run |\n|---:|---|---:|\n";
        std::fs::write(root().join("target/triggers.md"), format!("{head}{rows}")).unwrap();
    }
}
