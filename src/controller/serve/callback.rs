//! Runners tell here what goes on, over mutual TLS, each with the credential of its attempt. All of it may be lost:
//! it costs time only.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Extension, Request, State};
use axum::http::StatusCode;
use axum::http::header::AUTHORIZATION;
use axum::routing::post;
use futures::channel::mpsc::Sender;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::runtime::reflector::ObjectRef;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::caches::{Caches, Noted};
use super::early_reports::{EarlyReports, Put};
use super::heard_out::heard_out;
use super::metrics::Metrics;
use super::pace::Pace;
use super::seats::{Business, Seat, Seats};
use super::{standby, watching};
use crate::cluster::Cluster;
use crate::cluster::credentials::{Attempt, Credentials};
use crate::cluster::pki::{Authority, runner_namespace};
use crate::names;
use crate::notify::Notifications;
use crate::standby::Waiting;
use crate::watcher::Sources;
use whittle_api::{Builder, CacheStatus, ImageBuild, bounded};
use whittle_build::report::{CALLBACK_PATH, Callback, CallbackBody};
use whittle_build::standby::STANDBY_PATH;
use whittle_build::usage;
use whittle_watch::wire::{TELL_PATH, WAIT_PATH};

/// A runner's message is small; a report with its log and the programs of its images is under 128 KiB.
const BODY_LIMIT: usize = 256 * 1024;
/// How long a request's body may take to come.
const BODY: Duration = Duration::from_secs(5);
/// How long an answer may take in all. Runners wait for two seconds.
const ANSWER: Duration = Duration::from_secs(10);
/// Reports that are judged at a time.
const JUDGED: usize = 8;
/// How long a connection may take to finish its handshake.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// How often the server's certificate is made anew.
const FRESH: Duration = Duration::from_secs(24 * 3600);

/// Who is at the other end: the namespace of its certificate.
#[derive(Clone)]
pub(super) struct Runner {
    pub(super) namespace: Arc<str>,
    pub(super) business: Business,
}

/// Who hears of what was told. Where one of them is full it does not: the end of the Pod wakes ImageBuilds, too.
#[derive(Clone)]
pub struct Wake {
    /// Hears of ImageBuilds with a new report.
    pub builds: Sender<ObjectRef<ImageBuild>>,
    /// Hears of Builders of whose cache something was told.
    pub builders: Sender<ObjectRef<Builder>>,
}

/// What callbacks are judged by, and where they go.
#[derive(Clone)]
pub struct Desk {
    pub(super) cluster: Cluster,
    early_reports: EarlyReports,
    caches: Caches,
    pub(super) sources: Sources,
    pub(super) waiting: Waiting,
    pub(super) metrics: Metrics,
    notifications: Notifications,
    credentials: Credentials,
    pub(super) pace: Arc<Pace>,
    judges: Arc<Semaphore>,
    pub(super) telling: watching::Telling,
    stopping: Arc<AtomicBool>,
    wake: Arc<Mutex<Wake>>,
}

impl Desk {
    /// Once `stopping` is true nothing is taken any more: it would be kept in memory, and go with it.
    pub fn new(
        cluster: Cluster,
        (early_reports, caches, sources): (EarlyReports, Caches, Sources),
        waiting: Waiting,
        (metrics, notifications): (Metrics, Notifications),
        credentials: Credentials,
        wake: Wake,
        stopping: Arc<AtomicBool>,
    ) -> Self {
        Self {
            cluster,
            stopping,
            early_reports,
            caches,
            sources,
            waiting,
            metrics,
            notifications,
            credentials,
            pace: Arc::default(),
            judges: Arc::new(Semaphore::new(JUDGED)),
            telling: watching::Telling::default(),
            wake: Arc::new(Mutex::new(wake)),
        }
    }

    /// True where nothing is taken any more.
    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Counts a callback that is not taken, and says so now and then.
    pub(super) fn refuse(
        &self,
        status: StatusCode,
        reason: &'static str,
        namespace: &str,
        why: &str,
    ) -> StatusCode {
        self.metrics.refused(reason);
        if self.pace.complains() {
            // A parser's words may hold what was sent.
            let why = bounded(why.to_owned(), 300);
            tracing::warn!(
                namespace,
                reason,
                why,
                "a callback was rejected; further ones are counted and not logged"
            );
        }
        status
    }
}

/// Serves the callback until the task is dropped.
///
/// # Errors
/// Where the certificate cannot be made.
pub async fn serve_callback(
    listener: &TcpListener,
    hosts: Vec<String>,
    authority: Arc<Authority>,
    desk: Desk,
) -> Result<(), super::Error> {
    let metrics = desk.metrics.clone();
    let app = Router::new()
        .route(CALLBACK_PATH, post(receive))
        .route(TELL_PATH, post(watching::seen))
        .route(WAIT_PATH, post(watching::wait))
        .route(STANDBY_PATH, post(standby::wait))
        .layer(axum::middleware::from_fn(heard_out))
        .with_state(desk);
    let mut acceptor = acceptor(&authority, &hosts)?;
    let mut fresh = tokio::time::interval(FRESH);
    fresh.tick().await;
    let (door, seats) = (Seats::at_the_door(), Seats::default());
    loop {
        tokio::select! {
            _ = fresh.tick() => acceptor = self::acceptor(&authority, &hosts)?,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let Some(place) = door.take(None) else {
                        metrics.refused("TooManyConnections");
                        continue;
                    };
                    let id = place.id();
                    let hall = Hall {
                        app: app.clone(),
                        seats: seats.clone(),
                        metrics: metrics.clone(),
                    };
                    let task = tokio::spawn(enter(acceptor.clone(), stream, hall, place));
                    door.ends_by(id, task.abort_handle());
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a callback connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
        }
    }
}

fn acceptor(authority: &Authority, hosts: &[String]) -> Result<TlsAcceptor, crate::cluster::Error> {
    let pki = |error: &dyn std::fmt::Display| crate::cluster::Error::Pki(error.to_string());
    let (certificate, key) = authority.server(hosts, Timestamp::now())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    let root =
        CertificateDer::from_pem_slice(authority.certificate().as_bytes()).map_err(|e| pki(&e))?;
    roots.add(root).map_err(|e| pki(&e))?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .map_err(|e| pki(&e))?;
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| pki(&e))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(certificate.as_bytes()).map_err(|e| pki(&e))?],
            PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|e| pki(&e))?,
        )
        .map_err(|e| pki(&e))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Where a connection goes after its handshake.
struct Hall {
    app: Router,
    seats: Seats,
    metrics: Metrics,
}

/// Shakes hands. Only who has shown a runner's certificate gets a seat, and may have another connection ended for it.
async fn enter(acceptor: TlsAcceptor, stream: TcpStream, hall: Hall, place: Seat) {
    let stream = match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            return tracing::debug!(%error, "a callback without a valid certificate was rejected");
        }
        Err(_) => return,
    };
    let Some(namespace) = namespace_of(
        stream
            .get_ref()
            .1
            .peer_certificates()
            .and_then(<[_]>::first),
    ) else {
        return tracing::warn!("a callback whose certificate names no namespace was rejected");
    };
    let Hall {
        app,
        seats,
        metrics,
    } = hall;
    let namespace: Arc<str> = namespace.into();
    let Some(seat) = seats.take(Some(&namespace)) else {
        return metrics.refused("TooManyConnections");
    };
    let id = seat.id();
    let task = tokio::spawn(converse(stream, app, namespace, seat));
    seats.ends_by(id, task.abort_handle());
    drop(place);
}

async fn converse(stream: TlsStream<TcpStream>, app: Router, namespace: Arc<str>, seat: Seat) {
    let service = TowerToHyperService::new(app.layer(Extension(Runner {
        namespace,
        business: seat.business(),
    })));
    if let Err(error) = super::http()
        .serve_connection(TokioIo::new(stream), service)
        .await
    {
        tracing::debug!(%error, "a callback connection ended early");
    }
}

/// The namespace in a runner's certificate; the chain was verified before.
fn namespace_of(certificate: Option<&CertificateDer>) -> Option<String> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate?).ok()?;
    let names = parsed.subject_alternative_name().ok()??;
    names
        .value
        .general_names
        .iter()
        .find_map(|name| match name {
            x509_parser::extensions::GeneralName::URI(uri) => {
                runner_namespace(uri).map(str::to_owned)
            }
            _ => None,
        })
}

/// Nothing is looked at, kept or asked for anybody before the credential of an attempt was seen.
async fn receive(
    State(desk): State<Desk>,
    Extension(runner): Extension<Runner>,
    request: Request,
) -> StatusCode {
    let namespace = &*runner.namespace;
    let Some(attempt) = attempt_of(&desk, namespace, &request) else {
        let why = "the attempt's credential is invalid or belongs to another namespace";
        return desk.refuse(StatusCode::UNAUTHORIZED, "NoCredential", namespace, why);
    };
    let _busy = runner.business.begin();
    match tokio::time::timeout(ANSWER, hear(&desk, &attempt, request)).await {
        Ok(Ok(())) => StatusCode::NO_CONTENT,
        Ok(Err((status, reason, why))) => desk.refuse(status, reason, namespace, &why),
        Err(_) => {
            let why = "timed out: the API server did not answer";
            desk.refuse(StatusCode::SERVICE_UNAVAILABLE, "Slow", namespace, why)
        }
    }
}

/// Why a callback is not taken: what is answered, a word for the metric, a sentence for the log.
pub(super) type Refusal = (StatusCode, &'static str, String);

/// For which attempt a request of this namespace speaks by its credential.
pub(super) fn attempt_of(desk: &Desk, namespace: &str, request: &Request) -> Option<Attempt> {
    let header = request.headers().get(AUTHORIZATION)?;
    let token = header.to_str().ok()?.strip_prefix("Bearer ")?;
    desk.credentials.verify(namespace, token)
}

/// The body of a request, within its bounds of bytes and time.
pub(super) async fn body_of(request: Request) -> Result<Bytes, Refusal> {
    let body = axum::body::to_bytes(request.into_body(), BODY_LIMIT);
    match tokio::time::timeout(BODY, body).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(error)) => Err((StatusCode::PAYLOAD_TOO_LARGE, "Body", error.to_string())),
        Err(_) => {
            let why = "timed out while reading the body";
            Err((StatusCode::REQUEST_TIMEOUT, "Body", why.to_owned()))
        }
    }
}

async fn hear(desk: &Desk, attempt: &Attempt, request: Request) -> Result<(), Refusal> {
    let refusal = |status, reason, why: &str| Err((status, reason, why.to_owned()));
    if desk.stopping.load(Ordering::Relaxed) {
        let why = "this controller is stopping: retry with the next one";
        return refusal(StatusCode::SERVICE_UNAVAILABLE, "Stopping", why);
    }
    if !desk.pace.hears(&attempt.namespace) {
        let why = "too many requests from its namespace";
        return refusal(StatusCode::TOO_MANY_REQUESTS, "TooMany", why);
    }
    let body = body_of(request).await?;
    // The semaphore is never closed.
    let _judge = desk.judges.acquire().await;
    let callback: Callback = match serde_json::from_slice(&body) {
        Ok(callback) => callback,
        Err(error) => return refusal(StatusCode::BAD_REQUEST, "Body", &error.to_string()),
    };
    let bytes = body.len();
    drop(body);
    if !names::is_object(&callback.name) {
        let why = "its ImageBuild's name is invalid";
        return refusal(StatusCode::BAD_REQUEST, "Body", why);
    }
    if callback.namespace != attempt.namespace || callback.job != attempt.job {
        let why = "its credential belongs to another attempt";
        return refusal(StatusCode::FORBIDDEN, "OtherAttempt", why);
    }
    match callback.body {
        CallbackBody::Progress(progress) => {
            if !desk.pace.writes(attempt) {
                // It would be overwritten at once.
                return Ok(());
            }
            let words = (progress.message(), progress.counted());
            let written = desk
                .cluster
                .write_progress(attempt, &callback.name, (&words.0, &words.1))
                .await;
            if let Err(error) = written {
                tracing::debug!(%error, "cannot write progress");
            }
            Ok(())
        }
        CallbackBody::Report(report) => {
            running(desk, attempt, &callback.name).await?;
            let Attempt { namespace, job, .. } = attempt;
            match desk
                .early_reports
                .put(namespace, job, report.bounded(), bytes)
            {
                Put::New => {
                    let object = ObjectRef::new(&callback.name).within(namespace);
                    let mut wake = desk.wake.lock().unwrap_or_else(PoisonError::into_inner);
                    if wake.builds.try_send(object).is_err() {
                        tracing::debug!("a report waits for its Pod to end");
                    }
                    Ok(())
                }
                Put::Again => Ok(()),
                Put::Full => {
                    let why = "too many reports are queued";
                    refusal(StatusCode::SERVICE_UNAVAILABLE, "Full", why)
                }
            }
        }
        CallbackBody::Cache(cache) => note(desk, attempt, cache).await,
        CallbackBody::Course(course) => {
            // Once each: it goes to somebody outside, who keeps it.
            if desk.notifications.traces() && !desk.pace.has_told(attempt) {
                running(desk, attempt, &callback.name).await?;
                if !desk.pace.tells(attempt) {
                    return Ok(());
                }
                let course = course.bounded();
                desk.notifications.course(attempt, &callback.name, course);
            }
            Ok(())
        }
    }
}

/// Refuses where the ImageBuild's status does not name the attempt's Job, or that Job's Pod does not run.
async fn running(desk: &Desk, attempt: &Attempt, name: &str) -> Result<(), Refusal> {
    match desk.cluster.objection(attempt, name).await {
        Ok(None) => Ok(()),
        Ok(Some(why)) => Err((StatusCode::CONFLICT, "NotRunning", why.to_owned())),
        Err(error) => {
            let why = error.to_string();
            Err((StatusCode::SERVICE_UNAVAILABLE, "ApiServer", why))
        }
    }
}

/// Keeps what an attempt tells of the cache of the Builder that it runs on, until that is written down.
async fn note(desk: &Desk, attempt: &Attempt, cache: CacheStatus) -> Result<(), Refusal> {
    let builder = desk.cluster.builder_in_use(attempt).await;
    let builder = builder.map_err(|error| {
        let why = error.to_string();
        (StatusCode::SERVICE_UNAVAILABLE, "ApiServer", why)
    })?;
    let Some((builder, replica)) = builder else {
        let why = "the attempt does not run, or its Builder keeps no cache";
        return Err((StatusCode::CONFLICT, "NotRunning", why.into()));
    };
    let cache = CacheStatus {
        // Of the clock that it is held against.
        measured_at: Time(Timestamp::now()),
        replica,
        ..usage::bounded(cache)
    };
    let namespace = &attempt.namespace;
    match desk.caches.put(namespace, &builder, cache) {
        Noted::New => {
            let object = ObjectRef::new(&builder).within(namespace);
            let mut wake = desk.wake.lock().unwrap_or_else(PoisonError::into_inner);
            if wake.builders.try_send(object).is_err() {
                tracing::debug!("what a cache holds waits for its Builder to be looked at");
            }
            Ok(())
        }
        Noted::Again => Ok(()),
        Noted::Full => {
            let why = "too many Builders have news of their caches";
            Err((StatusCode::SERVICE_UNAVAILABLE, "Full", why.into()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_namespace_is_read_from_a_runners_certificate_only() {
        let authority = Authority::make().unwrap();
        let issued = authority
            .issue("team", "default", Timestamp::now())
            .unwrap();
        let first = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        assert_eq!(
            namespace_of(Some(&first(&issued.client["tls.crt"]))).as_deref(),
            Some("team")
        );
        assert_eq!(namespace_of(Some(&first(&issued.server["tls.crt"]))), None);
        assert_eq!(namespace_of(None), None);
    }
}
