//! Health, metrics, and the callback of runners.

mod caches;
mod callback;
mod early_reports;
mod forward;
mod heard_out;
mod metrics;
mod pace;
mod seats;
mod standby;
mod watching;
mod webhook;

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use seats::Seats;
use tokio::net::TcpListener;

pub use caches::Caches;
pub use callback::{Desk, Wake, serve_callback};
pub use early_reports::EarlyReports;
pub use forward::forward;
pub use metrics::{Figures, Metrics};
pub use webhook::{Hooks, serve_webhooks};

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be had.
    #[error(
        "{what}: cannot listen on {address}: {source}; free that port, or set another with {option}"
    )]
    Listen {
        /// What was to be served.
        what: &'static str,
        /// Where.
        address: SocketAddr,
        /// How another address is given.
        option: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// The certificate cannot be made.
    #[error(transparent)]
    Certificate(#[from] crate::cluster::Error),
}

/// Listens there.
///
/// # Errors
/// Where the address cannot be had.
pub async fn listen(
    what: &'static str,
    option: &'static str,
    address: SocketAddr,
) -> Result<TcpListener, Error> {
    let bound = TcpListener::bind(address).await;
    bound.map_err(|source| Error::Listen {
        what,
        address,
        option,
        source,
    })
}

/// Serves `/healthz`, `/readyz` and `/metrics` without TLS until `stop`. `ready` says why it is ready, or why not yet.
///
/// # Errors
/// Where the address cannot be bound.
pub async fn serve_health(
    address: SocketAddr,
    metrics: Metrics,
    ready: impl Fn() -> Result<String, String> + Clone + Send + Sync + 'static,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Error> {
    let app = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route(
            "/readyz",
            get(move || {
                let answer = match ready() {
                    Ok(text) => (StatusCode::OK, format!("{text}\n")),
                    Err(text) => (StatusCode::SERVICE_UNAVAILABLE, format!("{text}\n")),
                };
                async move { answer }
            }),
        )
        .route(
            "/metrics",
            get(move || {
                let text = metrics.text();
                async move {
                    (
                        [(
                            "content-type",
                            "application/openmetrics-text; version=1.0.0; charset=utf-8",
                        )],
                        text,
                    )
                }
            }),
        );
    let listener = listen("health and metrics", "--health-address", address).await?;
    tokio::select! {
        () = stop => Ok(()),
        never = serve_plain(&listener, app, "health or metrics") => match never {},
    }
}

/// Serves anybody, without TLS, until the task is dropped. `what` is for the log.
async fn serve_plain(listener: &TcpListener, app: Router, what: &'static str) -> Infallible {
    let seats = Seats::default();
    let app = app.layer(axum::middleware::from_fn(heard_out::heard_out));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection for {what}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Some(seat) = seats.take(None) else {
            continue;
        };
        let (id, app) = (seat.id(), app.clone());
        let task = tokio::spawn(async move {
            let service = TowerToHyperService::new(app);
            let served = http().serve_connection(TokioIo::new(stream), service).await;
            if let Err(error) = served {
                tracing::debug!(%error, "a connection for {what} ended early");
            }
            drop(seat);
        });
        seats.ends_by(id, task.abort_handle());
    }
}

/// How long a request's head may take to come, and the next one after it: then the connection is closed.
const HEAD: Duration = Duration::from_secs(10);

/// HTTP/1 for connections of anybody: who says nothing is not waited for, and little is kept of what is said.
fn http() -> Builder<TokioExecutor> {
    let mut server = Builder::new(TokioExecutor::new()).http1_only();
    server
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(16 * 1024);
    server
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_that_is_taken_is_named_with_what_to_do_and_is_no_fault_of_certificates() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = taken.local_addr().unwrap();
        let error = listen("callback", "--callback-address", address)
            .await
            .unwrap_err()
            .to_string();
        let wanted = format!("callback: cannot listen on {address}: ");
        assert!(error.starts_with(&wanted), "{error}");
        assert!(error.contains("in use") && error.contains("--callback-address"));
        assert!(!error.contains("certificate"), "{error}");
    }
}
