//! Runners tell here what goes on, over mutual TLS. All of it may be lost: it costs time only.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use futures::channel::mpsc::UnboundedSender;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use k8s_openapi::jiff::Timestamp;
use kube::runtime::reflector::ObjectRef;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::api::ImageBuild;
use crate::cluster::Cluster;
use crate::cluster::pki::{Authority, runner_namespace};
use crate::plan::report::{CALLBACK_PATH, Callback, CallbackBody, Report};

/// Early reports, by namespace and Job, until the status holds them.
#[derive(Clone, Default)]
pub struct Board {
    reports: Arc<Mutex<HashMap<(String, String), Report>>>,
}

/// More early reports than this at a time are not kept: the termination message has them too.
const BOARD_LIMIT: usize = 10_000;
/// A runner's message is small; a report with its log is under 64 KiB.
const BODY_LIMIT: usize = 256 * 1024;
/// How long a connection may take to finish its handshake.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// How often the server's certificate is made anew.
const FRESH: Duration = Duration::from_secs(24 * 3600);

impl Board {
    /// What the runner of this Job has reported.
    pub fn report(&self, namespace: &str, job: &str) -> Option<Report> {
        self.lock()
            .get(&(namespace.to_owned(), job.to_owned()))
            .cloned()
    }

    /// The status holds the result: the early report has done its work.
    pub fn forget(&self, namespace: &str, job: &str) {
        self.lock().remove(&(namespace.to_owned(), job.to_owned()));
    }

    fn put(&self, namespace: &str, job: &str, report: Report) {
        let mut reports = self.lock();
        if reports.len() < BOARD_LIMIT {
            reports.insert((namespace.to_owned(), job.to_owned()), report);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<(String, String), Report>> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who is at the other end: the namespace of its certificate.
#[derive(Clone)]
struct Runner {
    namespace: Arc<str>,
}

#[derive(Clone)]
struct Desk {
    cluster: Cluster,
    board: Board,
    wake: UnboundedSender<ObjectRef<ImageBuild>>,
}

/// Serves the callback until the task is dropped.
///
/// # Errors
/// Where the address cannot be bound, or the certificate not be made.
pub async fn serve_callback(
    address: SocketAddr,
    hosts: Vec<String>,
    authority: Arc<Authority>,
    cluster: Cluster,
    board: Board,
    wake: UnboundedSender<ObjectRef<ImageBuild>>,
) -> Result<(), crate::cluster::Error> {
    let io = |error: std::io::Error| {
        crate::cluster::Error::Pki(format!("callback on {address}: {error}"))
    };
    let listener = TcpListener::bind(address).await.map_err(io)?;
    let app = Router::new()
        .route(CALLBACK_PATH, post(receive))
        .layer(axum::extract::DefaultBodyLimit::max(BODY_LIMIT))
        .with_state(Desk {
            cluster,
            board,
            wake,
        });
    let mut acceptor = acceptor(&authority, &hosts)?;
    let mut fresh = tokio::time::interval(FRESH);
    fresh.tick().await;
    loop {
        tokio::select! {
            _ = fresh.tick() => acceptor = self::acceptor(&authority, &hosts)?,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    tokio::spawn(converse(acceptor.clone(), stream, app.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "a callback connection was not accepted");
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

async fn converse(acceptor: TlsAcceptor, stream: TcpStream, app: Router) {
    let stream = match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            return tracing::debug!(%error, "a callback without a valid certificate was refused");
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
        return tracing::warn!("a callback whose certificate names no namespace was refused");
    };
    let service = TowerToHyperService::new(app.layer(Extension(Runner {
        namespace: namespace.into(),
    })));
    if let Err(error) = Builder::new(TokioExecutor::new())
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

async fn receive(
    State(desk): State<Desk>,
    Extension(runner): Extension<Runner>,
    Json(callback): Json<Callback>,
) -> StatusCode {
    if callback.namespace != *runner.namespace {
        tracing::warn!(
            said = callback.namespace,
            certificate = &*runner.namespace,
            "a callback for another namespace was refused"
        );
        return StatusCode::FORBIDDEN;
    }
    match callback.body {
        CallbackBody::Progress(progress) => {
            let written = desk
                .cluster
                .write_progress(
                    &callback.namespace,
                    &callback.name,
                    &callback.job,
                    &progress.message(),
                )
                .await;
            if let Err(error) = written {
                tracing::debug!(%error, "progress was not written");
            }
        }
        CallbackBody::Report(report) => {
            desk.board.put(&callback.namespace, &callback.job, report);
            let object = ObjectRef::new(&callback.name).within(&callback.namespace);
            if desk.wake.unbounded_send(object).is_err() {
                return StatusCode::SERVICE_UNAVAILABLE;
            }
        }
    }
    StatusCode::NO_CONTENT
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

    #[test]
    fn a_report_is_kept_until_it_is_forgotten() {
        let board = Board::default();
        let report =
            crate::plan::outcome::failed(crate::api::FailureReason::StepFailed, "m".into());
        board.put("team", "job", report.clone());
        assert_eq!(board.report("team", "job"), Some(report));
        assert_eq!(board.report("other", "job"), None);
        board.forget("team", "job");
        assert_eq!(board.report("team", "job"), None);
    }
}
