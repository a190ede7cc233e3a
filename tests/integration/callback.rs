//! The runner's word, over mutual TLS.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::api::events::v1::Event;
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use reqwest::StatusCode;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use whittle_api::{Builder, ContentsStatus, FailureReason};
use whittle_build::report::{CALLBACK_PATH, Callback, CallbackBody, Progress, Report, encode};

use crate::api_server::ApiServer;
use crate::stage::{Stage, ended, failure, success};

/// A client with the certificate of this namespace's runners.
pub async fn client(stage: &Stage) -> reqwest::Client {
    let secret = secret(stage, "whittle-builder-default-client").await;
    let file = |name: &str| secret.data.as_ref().unwrap()[name].0.clone();
    let identity = [file("tls.crt"), file("tls.key")].concat();
    reqwest::Client::builder()
        .tls_certs_only([reqwest::Certificate::from_pem(&file("ca.crt")).unwrap()])
        .identity(reqwest::Identity::from_pem(&identity).unwrap())
        .build()
        .unwrap()
}

/// Whoever has the certificate of this namespace's runners.
pub struct Runner {
    client: reqwest::Client,
    url: String,
    callback: Callback,
    token: Option<String>,
}

impl Runner {
    pub async fn new(stage: &Stage, port: u16, job: &str, token: Option<String>) -> Self {
        Self {
            client: client(stage).await,
            url: format!("https://localhost:{port}{CALLBACK_PATH}"),
            callback: Callback {
                namespace: stage.namespace.clone(),
                name: "hello".into(),
                job: job.into(),
                body: report(success("sha256:aa")),
            },
            token,
        }
    }

    /// The runner of the attempt that the status names, as its Pod would have it.
    pub async fn of_attempt(stage: &Stage, port: u16, job: &str) -> Self {
        Self::new(stage, port, job, Some(token(stage, job).await)).await
    }

    pub async fn says(&self, body: CallbackBody) -> StatusCode {
        let callback = Callback {
            body,
            ..self.callback.clone()
        };
        self.sends(&callback).await
    }

    async fn sends(&self, callback: &Callback) -> StatusCode {
        let request = self.client.post(&self.url).json(callback);
        let request = match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        request.send().await.unwrap().status()
    }
}

/// Keeps at most so many of these going, and says what came of each.
async fn at_once<T>(most: usize, all: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    futures::stream::iter(all)
        .buffer_unordered(most)
        .collect()
        .await
}

pub fn report(report: Report) -> CallbackBody {
    CallbackBody::Report(Box::new(report))
}

pub fn progress(step: &str) -> CallbackBody {
    CallbackBody::Progress(Progress {
        done: 1,
        total: 3,
        step: step.into(),
    })
}

async fn secret(stage: &Stage, name: &str) -> Secret {
    let secrets: Api<Secret> = stage.api();
    stage
        .until(&format!("Secret {name} exists"), async || {
            secrets.get_opt(name).await.unwrap()
        })
        .await
}

/// The credential of an attempt, as the kubelet would mount it.
async fn token(stage: &Stage, job: &str) -> String {
    let uid = stage.get("hello").await.uid().unwrap();
    let name = whittle_controller::names::credential(&uid, job);
    let secret = secret(stage, &name).await;
    String::from_utf8(secret.data.unwrap()["token"].0.clone()).unwrap()
}

/// A controller, and a build whose Pod runs: the port of the callback, and the Job.
pub async fn running(stage: &mut Stage, spec: serde_json::Value) -> (u16, Job) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let port = stage.start_controller().await;
    stage.apply("hello", spec).await.unwrap();
    stage.builder_starts().await;
    let job = stage.job("hello").await;
    stage.pod(&job, json!({"phase": "Running"})).await;
    (port, job)
}

/// An Event of this reason about the ImageBuild.
async fn told(stage: &Stage, reason: &str) -> String {
    let events: Api<Event> = stage.api();
    stage
        .until(&format!("an Event {reason}"), async || {
            let all = events.list(&ListParams::default()).await.unwrap();
            all.items
                .into_iter()
                .find(|event| event.reason.as_deref() == Some(reason))
                .and_then(|event| event.note)
        })
        .await
}

async fn early_is_over(stage: &Stage) {
    stage
        .until("the record was seen", async || {
            let status = stage.get("hello").await.status?;
            status.early.is_none().then_some(())
        })
        .await;
}

#[tokio::test]
async fn an_early_report_ends_the_build_and_one_for_another_namespace_is_refused() {
    let mut stage = Stage::new().await;
    let (port, job) = running(&mut stage, json!({})).await;
    let runner = Runner::of_attempt(&stage, port, &job.name_any()).await;

    let said = progress("[2/3] COPY a\u{1b} /a");
    assert_eq!(runner.says(said).await, 204);
    let message = stage
        .until("the progress is told", async || {
            stage.get("hello").await.status?.current?.message
        })
        .await;
    assert_eq!(message, "1/3 [2/3] COPY a  /a");

    let elsewhere = Callback {
        namespace: "elsewhere".into(),
        ..runner.callback.clone()
    };
    assert_eq!(runner.sends(&elsewhere).await, 403);
    assert_eq!(runner.says(report(success("sha256:aa"))).await, 204);
    let status = stage
        .ready("hello", "True", "Succeeded")
        .await
        .status
        .unwrap();
    assert_eq!(status.digest.as_deref(), Some("sha256:aa"));
    assert_eq!(status.early.unwrap().job, job.name_any());

    // Progress that comes late changes nothing, and nor does another report.
    assert_eq!(runner.says(progress("late")).await, 204);
    assert_eq!(runner.says(report(success("sha256:bb"))).await, 409);
    assert!(stage.get("hello").await.status.unwrap().current.is_none());

    // The record says the same.
    stage.pod_ends(&job, &success("sha256:aa")).await;
    early_is_over(&stage).await;
    let status = stage.get("hello").await.status.unwrap();
    assert_eq!(status.digest.as_deref(), Some("sha256:aa"));
    assert_eq!(status.history.len(), 1);
}

#[tokio::test]
async fn without_a_certificate_nobody_is_heard() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut stage = Stage::new().await;
    let port = stage.start_controller().await;
    let anyone = reqwest::Client::builder()
        .tls_danger_accept_invalid_certs(true)
        .build()
        .unwrap();
    let body = Callback {
        namespace: "x".into(),
        name: "x".into(),
        job: "x".into(),
        body: report(success("sha256:aa")),
    };
    assert!(
        anyone
            .post(format!("https://localhost:{port}{CALLBACK_PATH}"))
            .json(&body)
            .send()
            .await
            .is_err()
    );
}

#[tokio::test]
async fn the_namespaces_certificate_alone_forges_no_result() {
    let mut stage = Stage::new().await;
    let (port, job) = running(&mut stage, json!({})).await;
    let job = job.name_any();
    // The attempt of another build of the same namespace has a credential of its own.
    stage.apply("other", json!({})).await.unwrap();
    let other = stage.job("other").await.name_any();
    let uid = stage.get("other").await.uid().unwrap();
    let others = secret(&stage, &whittle_controller::names::credential(&uid, &other)).await;
    let others = String::from_utf8(others.data.unwrap()["token"].0.clone()).unwrap();
    let forged = others.replace(&uid, &stage.get("hello").await.uid().unwrap());
    let forged = forged.replace(&other, &job);
    let before = stage.get("hello").await;
    for (token, answer) in [
        (None, 401),
        (Some(others), 403),
        (Some(forged), 401),
        (Some("x.y.z".to_owned()), 401),
    ] {
        let thief = Runner::new(&stage, port, &job, token).await;
        assert_eq!(thief.says(report(success("sha256:66"))).await, answer);
        assert_eq!(thief.says(progress("forged")).await, answer);
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let after = stage.get("hello").await;
    assert_eq!(after.status, before.status);
    let refused = stage
        .metric(r#"whittle_callbacks_refused_total{reason="NoCredential"}"#)
        .await;
    assert_eq!(refused, 6);
}

#[tokio::test]
async fn the_credential_of_an_attempt_goes_with_its_request() {
    let mut stage = Stage::new().await;
    let (_, job) = running(&mut stage, json!({})).await;
    let uid = stage.get("hello").await.uid().unwrap();
    let name = whittle_controller::names::credential(&uid, &job.name_any());
    let secret = secret(&stage, &name).await;
    let request = stage.api::<ConfigMap>().get(&job.name_any()).await.unwrap();
    assert_eq!(secret.owner_references().len(), 1);
    assert_eq!(secret.owner_references()[0].uid, request.uid().unwrap());
    assert_eq!(secret.immutable, Some(true));
    assert_eq!(secret.labels()["app.kubernetes.io/managed-by"], "whittle");

    // A Job that goes is made again, and has the same credential.
    let token = token(&stage, &job.name_any()).await;
    stage.pod_is_deleted(&job).await;
    let jobs = stage.api::<Job>();
    let now = kube::api::DeleteParams::background().grace_period(0);
    jobs.delete(&job.name_any(), &now).await.unwrap();
    let again = stage
        .until("the Job is made again", async || {
            let again = jobs.get_opt(&job.name_any()).await.unwrap()?;
            (again.uid() != job.uid()).then_some(again)
        })
        .await;
    assert_eq!(self::token(&stage, &again.name_any()).await, token);
    stage.pod_ends(&again, &success("sha256:aa")).await;
    stage.ready("hello", "True", "Succeeded").await;
}

#[tokio::test]
async fn a_report_is_taken_only_while_the_attempt_runs() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut stage = Stage::new().await;
    let port = stage.start_controller().await;
    stage.apply("hello", json!({})).await.unwrap();
    stage.builder_starts().await;
    let job = stage.job("hello").await;
    let runner = Runner::of_attempt(&stage, port, &job.name_any()).await;
    // No Pod yet.
    assert_eq!(runner.says(report(success("sha256:66"))).await, 409);
    // Another ImageBuild's name.
    stage.pod(&job, json!({"phase": "Running"})).await;
    let other = Callback {
        name: "other".into(),
        ..runner.callback.clone()
    };
    assert_eq!(runner.sends(&other).await, 409);
    // What would be another path.
    let path = Callback {
        name: "hello/status".into(),
        ..runner.callback.clone()
    };
    assert_eq!(runner.sends(&path).await, 400);
    // The Pod has ended, and what it said counts.
    stage
        .pod_ends(&job, &failure(FailureReason::StepFailed))
        .await;
    assert_eq!(runner.says(report(success("sha256:66"))).await, 409);
    let status = stage
        .ready("hello", "False", "StepFailed")
        .await
        .status
        .unwrap();
    assert_eq!(status.digest, None);
    assert_eq!(status.early, None);
}

#[tokio::test]
async fn a_record_that_says_something_else_wins_and_is_told() {
    let mut stage = Stage::new().await;
    let (port, job) = running(&mut stage, json!({})).await;
    stage.pod_ends(&job, &success("sha256:aa")).await;
    let good = stage.ready("hello", "True", "Succeeded").await;

    stage
        .apply("hello", json!({"buildArgs": {"A": "b"}}))
        .await
        .unwrap();
    let job = stage.job("hello").await;
    stage.pod(&job, json!({"phase": "Running"})).await;
    let runner = Runner::of_attempt(&stage, port, &job.name_any()).await;
    assert_eq!(runner.says(report(success("sha256:66"))).await, 204);
    let forged = stage.ready("hello", "True", "Succeeded").await;
    assert_eq!(forged.status.unwrap().digest.as_deref(), Some("sha256:66"));

    // The controller that comes back holds it against the record, too.
    stage.kill_controller();
    let record = encode(&failure(FailureReason::StepFailed));
    stage.pod(&job, ended(&record)).await;
    stage.start_controller().await;
    let status = stage
        .ready("hello", "False", "StepFailed")
        .await
        .status
        .unwrap();
    let good = good.status.unwrap();
    assert_eq!(status.digest, good.digest);
    assert_eq!(status.image, good.image);
    assert_eq!(status.platforms, good.platforms);
    assert_eq!(status.early, None);
    let results: Vec<_> = status.history.iter().map(|entry| &*entry.result).collect();
    assert_eq!(results, ["StepFailed", "Succeeded"]);
    let note = told(&stage, "ReportDisagrees").await;
    assert!(note.contains("success with sha256:66"), "{note}");
    assert!(note.contains("failure StepFailed"), "{note}");
    assert_eq!(stage.metric("whittle_reports_disagreed_total").await, 1);
}

#[tokio::test]
async fn a_failure_that_was_forged_ends_no_build() {
    let mut stage = Stage::new().await;
    let (port, job) = running(&mut stage, json!({})).await;
    let runner = Runner::of_attempt(&stage, port, &job.name_any()).await;
    let forged = failure(FailureReason::StepFailed);
    assert_eq!(runner.says(report(forged)).await, 204);
    stage.ready("hello", "False", "StepFailed").await;
    stage.pod_ends(&job, &success("sha256:aa")).await;
    let status = stage
        .ready("hello", "True", "Succeeded")
        .await
        .status
        .unwrap();
    assert_eq!(status.digest.as_deref(), Some("sha256:aa"));
    assert_eq!(status.failure, None);
    assert_eq!(status.history.len(), 1);
    told(&stage, "ReportDisagrees").await;
}

#[tokio::test]
async fn no_tag_moves_before_the_record_of_the_pushed_image_was_seen() {
    // Other tests have Nodes, which would run the check.
    let mut stage = Stage::on(ApiServer::alone()).await;
    let check = json!({"healthCheck": {"tcpSocket": {"port": 80}}});
    let (port, job) = running(&mut stage, check).await;
    let runner = Runner::of_attempt(&stage, port, &job.name_any()).await;
    assert_eq!(runner.says(report(success("sha256:66"))).await, 204);
    // No node can run it, and so the check is over at once.
    stage
        .until("the tags wait", async || {
            let status = stage.get("hello").await.status?;
            let current = status.current?;
            current.stage.is_tagging().then_some(())
        })
        .await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(stage.jobs().await.len(), 1);
    stage
        .pod_ends(&job, &failure(FailureReason::StepFailed))
        .await;
    let status = stage
        .ready("hello", "False", "StepFailed")
        .await
        .status
        .unwrap();
    assert_eq!(status.digest, None);
    assert_eq!(stage.jobs().await.len(), 1);
}

#[tokio::test]
async fn a_flood_of_reports_leaves_the_controller_as_it_was() {
    let mut stage = Stage::new().await;
    let (port, job) = running(&mut stage, json!({})).await;
    let before = stage.controllers_memory();
    let body = |n: usize| {
        let mut report = failure(FailureReason::StepFailed);
        if let Report::Failed(failed) = &mut report {
            failed.failure.message = "x".repeat(255 * 1024);
        }
        Callback {
            namespace: stage.namespace.clone(),
            name: "none".into(),
            job: format!("job-{n}"),
            body: CallbackBody::Report(Box::new(report)),
        }
    };
    let token = token(&stage, &job.name_any()).await;
    for token in [None, Some(token)] {
        let runner = Runner::new(&stage, port, &job.name_any(), token).await;
        let answers = at_once(
            16,
            (0..400).map(|n| {
                let request = runner.client.post(&runner.url).json(&body(n));
                let request = match &runner.token {
                    Some(token) => request.bearer_auth(token),
                    None => request,
                };
                // The body is not read to its end: the answer may be lost with the connection.
                async move { request.send().await.map(|answer| answer.status().as_u16()) }
            }),
        )
        .await;
        let taken = answers.iter().filter(|a| matches!(a, Ok(200..300))).count();
        assert_eq!(taken, 0);
    }
    let more = stage.controllers_memory().saturating_sub(before);
    assert!(more < 64 * 1024, "{more} KiB more");
    // Who has something to say is heard.
    let runner = Runner::of_attempt(&stage, port, &job.name_any()).await;
    stage
        .until("the honest runner is heard", async || {
            let answer = runner.says(report(success("sha256:aa"))).await;
            (answer == 204).then_some(())
        })
        .await;
    stage.ready("hello", "True", "Succeeded").await;
}

#[tokio::test]
async fn connections_that_say_nothing_keep_nobody_out_and_are_closed() {
    const SILENT: usize = 300;
    let mut stage = Stage::new().await;
    let (port, job) = running(&mut stage, json!({})).await;
    let files = secret(&stage, "whittle-builder-default-client").await;
    let file = |name: &str| files.data.as_ref().unwrap()[name].0.clone();
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(&file("ca.crt")).unwrap())
        .unwrap();
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&file("tls.crt")).collect();
    let config = rustls::ClientConfig::builder()
        .with_root_certificates(roots)
        .with_client_auth_cert(
            chain.unwrap(),
            PrivateKeyDer::from_pem_slice(&file("tls.key")).unwrap(),
        )
        .unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let address = ("127.0.0.1", port);
    // Those that have shaken hands, and those that have not.
    let spoken = at_once(
        16,
        (0..SILENT).map(|_| async {
            let stream = TcpStream::connect(address).await.unwrap();
            connector
                .connect("localhost".try_into().unwrap(), stream)
                .await
        }),
    )
    .await;
    let mut spoken: Vec<_> = spoken.into_iter().flatten().collect();
    let newest = spoken.last_mut().expect("some have shaken hands");
    // A client is done with the handshake before the server has read its certificate. A ticket says that it has.
    for _ in 0..50 {
        let moment = Duration::from_millis(200);
        let read = tokio::time::timeout(moment, newest.read_u8()).await;
        if read.is_ok() || newest.get_ref().1.tls13_tickets_received() > 0 {
            break;
        }
    }
    let let_in = newest.get_ref().1.tls13_tickets_received() > 0;
    assert!(let_in, "the newest that has a certificate was let in");
    let mut silent = vec![];
    for _ in 0..SILENT {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    // Those without a certificate have taken the place of none that has one.
    let read = tokio::time::timeout(Duration::from_millis(200), newest.read_u8()).await;
    assert!(read.is_err(), "it was closed: {read:?}");
    let began = Instant::now();
    let runner = Runner::of_attempt(&stage, port, &job.name_any()).await;
    assert_eq!(runner.says(report(success("sha256:aa"))).await, 204);
    let took = began.elapsed();
    assert!(took < Duration::from_secs(3), "{took:?}");
    stage.ready("hello", "True", "Succeeded").await;

    let ends = async {
        for mut stream in spoken {
            let _ = stream.read_to_end(&mut vec![]).await;
        }
        for mut stream in silent {
            let _ = stream.read_to_end(&mut vec![]).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), ends)
        .await
        .expect("connections that say nothing are closed");
}

/// A success whose report lies beside the image; without `programs` as a record that has no room for them.
fn described(programs: Option<&str>) -> Report {
    let Report::Succeeded(mut built) = success("sha256:aa") else {
        unreachable!("it is one");
    };
    for platform in &mut built.platforms {
        platform.contents = Some(ContentsStatus {
            programs: programs.map(str::to_owned),
            report: Some("sha256:dd".into()),
            ..ContentsStatus::default()
        });
    }
    Report::Succeeded(built)
}

#[tokio::test]
async fn programs_whose_callback_was_lost_are_fetched_and_believed_with_the_record() {
    let mut stage = Stage::new().await;
    let (port, job) = running(&mut stage, json!({})).await;
    stage.pod_ends(&job, &described(None)).await;
    let fetch = stage
        .until("the programs are to be fetched", async || {
            stage.get("hello").await.status?.fetch?.job
        })
        .await;
    // It is built and ready meanwhile.
    stage.ready("hello", "True", "Succeeded").await;
    let jobs: Api<Job> = stage.api();
    let job = stage
        .until("the Job that fetches exists", async || {
            jobs.get_opt(&fetch).await.unwrap()
        })
        .await;
    stage.pod(&job, json!({"phase": "Running"})).await;
    // It takes none of the two places on the builder.
    for other in ["second", "third"] {
        stage.apply(other, json!({})).await.unwrap();
        stage.job(other).await;
    }
    let runner = Runner::of_attempt(&stage, port, &fetch).await;
    let found = described(Some("packed"));
    assert_eq!(runner.says(report(found.clone())).await, 204);
    stage.pod_ends(&job, &found).await;
    let status = stage
        .until("the programs are known", async || {
            let status = stage.get("hello").await.status?;
            status.fetch.is_none().then_some(status)
        })
        .await;
    for platform in &status.platforms {
        let contents = platform.contents.as_ref().unwrap();
        assert_eq!(contents.programs.as_deref(), Some("packed"));
    }
    assert_eq!(status.history.len(), 1);
    stage
        .until("the Job is gone", async || {
            jobs.get_opt(&fetch).await.unwrap().is_none().then_some(())
        })
        .await;
    // Nobody else's word is taken for that image any more.
    assert_eq!(runner.says(report(described(Some("forged")))).await, 409);
}

/// What a runner tells of a cache.
fn cache(bytes: i64) -> CallbackBody {
    let mount = json!({"id": "/root/.npm\u{1b}[2J", "target": "/root/.npm", "bytes": bytes, "hits": 3,
        "step": "x".repeat(5_000)});
    let value = json!({"bytes": bytes, "byKind": {"cacheMounts": bytes}, "mounts": vec![mount; 20],
        "measuredAt": "1970-01-01T00:00:00Z"});
    CallbackBody::Cache(serde_json::from_value(value).unwrap())
}

#[tokio::test]
async fn what_a_builders_cache_holds_is_in_its_status_within_bounds_and_once_a_minute() {
    let mut stage = Stage::new().await;
    let (port, job) = running(&mut stage, json!({})).await;
    let runner = Runner::of_attempt(&stage, port, &job.name_any()).await;
    assert_eq!(runner.says(report(success("sha256:aa"))).await, 204);
    stage.ready("hello", "True", "Succeeded").await;
    // The result was told before; the Job has not ended yet.
    assert_eq!(runner.says(cache(4_812_345)).await, 204);
    let builders: Api<Builder> = stage.api();
    let status = |what: &'static str| {
        let (stage, builders) = (&stage, &builders);
        async move {
            stage
                .until(what, async || {
                    let builder = builders.get("default").await.unwrap();
                    builder.status?.cache
                })
                .await
        }
    };
    let first = status("the cache is told").await;
    assert_eq!(
        (first.bytes, first.display.as_str()),
        (4_812_345, "4.6 MiB")
    );
    assert_eq!(first.mounts.len(), 10);
    assert_eq!(first.mounts[0].id, "/root/.npm [2J");
    assert!(first.mounts[0].step.len() <= 256);
    // By the controller's clock.
    assert!(first.measured_at.0.as_second() > 1_700_000_000);

    // A flood is not written.
    let version = |builder: Builder| builder.resource_version();
    let before = version(builders.get("default").await.unwrap());
    for n in 0..20 {
        assert_eq!(runner.says(cache(9_000_000 * (n + 1))).await, 204);
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(version(builders.get("default").await.unwrap()), before);

    // Nobody's attempt is heard without its credential, nor after its end.
    let thief = Runner::new(&stage, port, &job.name_any(), None).await;
    assert_eq!(thief.says(cache(1)).await, 401);
    stage.pod_ends(&job, &success("sha256:aa")).await;
    let now = kube::api::DeleteParams::background().grace_period(0);
    let _ = stage.api::<Job>().delete(&job.name_any(), &now).await;
    stage
        .until("the Job is gone", async || {
            (runner.says(cache(1)).await == 409).then_some(())
        })
        .await;
    assert_eq!(status("it stands").await, first);
}
