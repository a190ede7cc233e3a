//! Two controllers of one installation: one leads, the other takes over, and nothing is lost or built twice.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;
use whittle_api::ImageBuild;
use whittle_build::report::CallbackBody;

use crate::callback::{Runner, progress, report};
use crate::stage::{Controller, Stage, metric, success};

/// The controllers of a stage, by the names of their Pods.
struct Pair {
    stage: Stage,
    pods: BTreeMap<&'static str, (Controller, u16)>,
}

impl Pair {
    /// Two of them: `a` leads.
    async fn new() -> Self {
        let stage = Stage::new().await;
        let pods = BTreeMap::new();
        let mut pair = Self { stage, pods };
        pair.start("a").await;
        pair.leads("a").await;
        pair.start("b").await;
        pair
    }

    async fn start(&mut self, pod: &'static str) {
        let started = self.stage.start_replica(pod).await;
        self.pods.insert(pod, started);
    }

    fn kill(&mut self, pod: &str) {
        drop(self.pods.remove(pod).expect("it runs"));
    }

    fn signal(&self, pod: &str, signal: &str) {
        let id = self.pods[pod].0.process.id().to_string();
        let sent = Command::new("kill").args([signal, &id]).status().unwrap();
        assert!(sent.success());
    }

    /// How it ends by itself.
    async fn end(&mut self, pod: &str) -> ExitStatus {
        let (controller, _) = self.pods.get_mut(pod).expect("it runs");
        let process = &mut controller.process;
        let ended = async || process.try_wait().unwrap();
        self.stage.until(&format!("{pod} ends"), ended).await
    }

    async fn lease(&self) -> Lease {
        let leases = Api::<Lease>::namespaced(self.stage.client.clone(), "whittle-system");
        let name = format!("{}-controller", self.stage.namespace);
        leases.get(&name).await.unwrap()
    }

    async fn holder(&self) -> Option<String> {
        self.lease().await.spec?.holder_identity
    }

    /// Waits until this one leads.
    async fn leads(&self, pod: &str) {
        let leads = async || (self.metric(pod, "whittle_leader").await == 1).then_some(());
        self.stage.until(&format!("{pod} leads"), leads).await;
        assert_eq!(self.holder().await.as_deref(), Some(pod));
    }

    async fn metric(&self, pod: &str, line: &str) -> u64 {
        metric(&self.pods[pod].0, line).await
    }

    async fn readiness(&self, pod: &str) -> (u16, String) {
        let health = self.pods[pod].0.health;
        let url = format!("http://127.0.0.1:{health}/readyz");
        let answer = reqwest::get(url).await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }
}

/// One entry in the history: built once; its Jobs are counted beside it.
async fn built_once(stage: &Stage, name: &str) {
    let status = stage.ready(name, "True", "Succeeded").await.status.unwrap();
    assert_eq!((status.build, status.history.len()), (Some(1), 1), "{name}");
}

#[tokio::test]
async fn one_of_two_leads_and_the_other_is_ready_and_does_nothing() {
    let pair = Pair::new().await;
    let stage = &pair.stage;
    stage.apply("hello", json!({})).await.unwrap();
    stage.builder_starts().await;
    let job = stage.job("hello").await;
    stage.pod_ends(&job, &success("sha256:aa")).await;
    built_once(stage, "hello").await;
    assert_eq!(pair.readiness("a").await, (200, "ok\n".into()));
    let standby = "ok: standby, a leads\n".to_owned();
    assert_eq!(pair.readiness("b").await, (200, standby));
    assert_eq!(pair.metric("b", "whittle_leader").await, 0);
    let reconciles = r#"whittle_reconciles_total{kind="ImageBuild"}"#;
    assert!(pair.metric("a", reconciles).await > 0);
    assert_eq!(pair.metric("b", reconciles).await, 0);
    let said = pair.lease().await.metadata.annotations.unwrap();
    let callback = pair.pods["a"].1;
    assert_eq!(said["whittle.dev/address"], format!("127.0.0.1:{callback}"));
}

#[tokio::test]
async fn a_leader_that_is_killed_is_followed_and_its_build_ends_once() {
    let mut pair = Pair::new().await;
    pair.stage.apply("hello", json!({})).await.unwrap();
    pair.stage.builder_starts().await;
    let job = pair.stage.job("hello").await;
    pair.stage.pod(&job, json!({"phase": "Running"})).await;
    pair.kill("a");
    let killed = Instant::now();
    pair.stage.pod_ends(&job, &success("sha256:aa")).await;
    pair.leads("b").await;
    // Sooner it could not know that the other one has gone.
    assert!(killed.elapsed() > Duration::from_secs(12));
    built_once(&pair.stage, "hello").await;
    assert_eq!(pair.stage.jobs().await.len(), 1);
}

#[tokio::test]
async fn a_leader_that_is_asked_to_end_hands_over_at_once() {
    let mut pair = Pair::new().await;
    pair.stage.apply("hello", json!({})).await.unwrap();
    pair.stage.builder_starts().await;
    let job = pair.stage.job("hello").await;
    pair.stage.pod(&job, json!({"phase": "Running"})).await;
    pair.signal("a", "-TERM");
    assert!(pair.end("a").await.success());
    // Released: the other one does not wait for the end of the term.
    assert_ne!(pair.holder().await.as_deref(), Some("a"));
    pair.leads("b").await;
    pair.stage.pod_ends(&job, &success("sha256:aa")).await;
    built_once(&pair.stage, "hello").await;
    assert_eq!(pair.stage.jobs().await.len(), 1);
}

#[tokio::test]
async fn a_leader_that_was_stopped_for_a_while_writes_nothing_when_it_goes_on_and_ends() {
    let mut pair = Pair::new().await;
    pair.stage.apply("hello", json!({})).await.unwrap();
    pair.stage.builder_starts().await;
    let job = pair.stage.job("hello").await;
    pair.stage.pod(&job, json!({"phase": "Running"})).await;
    pair.signal("a", "-STOP");
    // What it would do something about if it could.
    pair.stage.apply("other", json!({})).await.unwrap();
    pair.leads("b").await;
    pair.stage.pod_ends(&job, &success("sha256:aa")).await;
    built_once(&pair.stage, "hello").await;
    let before = pair.lease().await;
    pair.signal("a", "-CONT");
    assert!(!pair.end("a").await.success());
    assert!(pair.stage.controllers_log().contains("lost the Lease"));
    let after = pair.lease().await;
    let transitions = |lease: Lease| lease.spec.unwrap().lease_transitions;
    assert_eq!(transitions(before), transitions(after));
    let job = pair.stage.job("other").await;
    pair.stage.pod_ends(&job, &success("sha256:bb")).await;
    built_once(&pair.stage, "other").await;
    assert_eq!(pair.stage.jobs().await.len(), 2);
}

#[tokio::test]
async fn a_callback_through_the_standby_reaches_the_leader() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let pair = Pair::new().await;
    let stage = &pair.stage;
    stage.apply("hello", json!({})).await.unwrap();
    stage.builder_starts().await;
    let job = stage.job("hello").await;
    stage.pod(&job, json!({"phase": "Running"})).await;
    let standby = pair.pods["b"].1;
    let runner = Runner::of_attempt(stage, standby, &job.name_any()).await;
    assert_eq!(runner.says(progress("[2/3] COPY a /a")).await, 204);
    let said = async || stage.get("hello").await.status?.current?.message;
    let said = stage.until("the progress is told", said).await;
    assert_eq!(said, "1/3 [2/3] COPY a /a");
    let built: CallbackBody = report(success("sha256:aa"));
    assert_eq!(runner.says(built).await, 204);
    let status = stage.ready("hello", "True", "Succeeded").await.status;
    assert_eq!(status.unwrap().early.unwrap().job, job.name_any());
    // And what the leader rejects is rejected.
    let thief = Runner::new(stage, standby, &job.name_any(), None).await;
    assert_eq!(thief.says(progress("forged")).await, 401);
}

#[tokio::test]
async fn a_standby_whose_lease_names_no_leader_closes_callbacks_at_once() {
    let mut pair = Pair::new().await;
    pair.kill("a");
    // Nobody can tell from where it led.
    let leases = Api::<Lease>::namespaced(pair.stage.client.clone(), "whittle-system");
    let name = format!("{}-controller", pair.stage.namespace);
    let none = json!({"metadata": {"annotations": {"whittle.dev/address": null}}});
    leases
        .patch(&name, &PatchParams::default(), &Patch::Merge(none))
        .await
        .unwrap();
    let (refused, callback) = (
        r#"whittle_callbacks_refused_total{reason="NoLeader"}"#,
        pair.pods["b"].1,
    );
    pair.stage
        .until("it is closed", async || {
            let runner = tokio::net::TcpStream::connect(("127.0.0.1", callback)).await;
            let mut runner = runner.unwrap();
            let _ = tokio::io::AsyncReadExt::read(&mut runner, &mut [0; 1]).await;
            (pair.metric("b", refused).await > 0).then_some(())
        })
        .await;
}

#[tokio::test]
async fn of_thirty_builds_none_is_lost_or_built_twice_where_both_are_killed_in_turns() {
    const BUILDS: usize = 30;
    let mut pair = Pair::new().await;
    for number in 0..BUILDS {
        let name = format!("app-{number}");
        pair.stage.apply(&name, json!({})).await.unwrap();
    }
    pair.stage.builder_starts().await;
    // The leader is killed after so many builds, and how it goes on: its container starts again, or the other one leads.
    let mut turns = vec![(4, false), (9, true), (14, false), (19, true), (24, false)];
    let mut uids = BTreeMap::<String, BTreeSet<String>>::new();
    let mut leader = "a";
    let deadline = Instant::now() + Duration::from_secs(300);
    let done = loop {
        for job in pair.stage.jobs().await {
            let seen = uids.entry(job.name_any()).or_default();
            if seen.insert(job.uid().unwrap()) {
                // Its build, so that a result that is entered for another one is seen.
                let digest = format!("sha256:{}", job.name_any());
                pair.stage.pod(&job, json!({"phase": "Running"})).await;
                pair.stage.pod_ends(&job, &success(&digest)).await;
            }
        }
        let builds = pair.stage.api::<ImageBuild>();
        let builds = builds.list(&ListParams::default()).await.unwrap().items;
        let ready = |build: &&ImageBuild| {
            let status = build.status.as_ref();
            status.is_some_and(|status| status.current.is_none() && status.digest.is_some())
        };
        let done = builds.iter().filter(ready).count();
        if turns.first().is_some_and(|(after, _)| done >= *after) {
            let (_, followed) = turns.remove(0);
            pair.kill(leader);
            let other = if leader == "a" { "b" } else { "a" };
            if followed {
                pair.leads(other).await;
            }
            pair.start(leader).await;
            if followed {
                leader = other;
            } else {
                pair.leads(leader).await;
            }
        }
        if done == BUILDS && turns.is_empty() {
            break builds;
        }
        assert!(
            Instant::now() < deadline,
            "{done} are built\n{}",
            pair.stage.controllers_log()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    for build in done {
        built_once(&pair.stage, &build.name_any()).await;
        let status = build.status.unwrap();
        let job = status.digest.unwrap().replacen("sha256:", "", 1);
        let job = pair.stage.api::<Job>().get(&job).await.unwrap();
        assert_eq!(
            job.annotations()["whittle.dev/imagebuild"],
            build.metadata.name.unwrap()
        );
    }
    assert_eq!(uids.len(), BUILDS, "{uids:#?}");
    assert!(uids.values().all(|uids| uids.len() == 1), "{uids:#?}");
}
