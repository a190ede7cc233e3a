//! Health, metrics, and the callback of runners.

mod board;
mod callback;
mod metrics;
mod pace;
mod seats;

use std::future::Future;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use seats::Seats;

pub use board::Board;
pub use callback::{Desk, serve_callback};
pub use metrics::Metrics;

/// Serves `/healthz`, `/readyz` and `/metrics` without TLS until `stop`.
///
/// # Errors
/// Where the address cannot be bound.
pub async fn serve_health(
    address: std::net::SocketAddr,
    metrics: Metrics,
    ready: impl Fn() -> bool + Clone + Send + Sync + 'static,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let app = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route(
            "/readyz",
            get(move || {
                let ready = ready();
                async move {
                    if ready {
                        (StatusCode::OK, "ok\n")
                    } else {
                        (StatusCode::SERVICE_UNAVAILABLE, "starting\n")
                    }
                }
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
    let listener = tokio::net::TcpListener::bind(address).await?;
    let seats = Seats::default();
    tokio::pin!(stop);
    loop {
        let stream = tokio::select! {
            () = &mut stop => return Ok(()),
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "a connection for health or metrics was not accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
        };
        let Some(seat) = seats.take(None) else {
            continue;
        };
        let (id, app) = (seat.id(), app.clone());
        let task = tokio::spawn(async move {
            let service = TowerToHyperService::new(app);
            let served = http().serve_connection(TokioIo::new(stream), service).await;
            if let Err(error) = served {
                tracing::debug!(%error, "a connection for health or metrics ended early");
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
