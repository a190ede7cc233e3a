//! Health, metrics, and the callback of runners.

mod board;
mod callback;
mod metrics;
mod pace;
mod seats;

use std::future::Future;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;

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
    axum::serve(listener, app)
        .with_graceful_shutdown(stop)
        .await
}
