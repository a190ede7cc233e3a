//! The controller as a whole: settings, authority, loops and servers, from start to stop.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::FutureExt;
use futures::channel::mpsc;
use tokio::signal::unix::{SignalKind, signal};

use super::{Context, run_builders, run_guard, run_image_builds};
use crate::cluster::Cluster;
use crate::plan::names::AUTHORITY;
use crate::plan::settings::Settings;
use crate::serve::{Board, Desk, Metrics, serve_callback, serve_health};

/// ImageBuilds with new reports that wait to be looked at.
const WOKEN: usize = 1024;

/// What the command line says.
pub struct Options {
    /// Path of the settings.
    pub settings: PathBuf,
    /// Whittle's own namespace.
    pub namespace: String,
    /// The one namespace to look after; all where absent.
    pub watch_namespace: Option<String>,
    /// Health and metrics.
    pub health_address: SocketAddr,
    /// Callback.
    pub callback_address: SocketAddr,
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// Where the settings cannot be read, the cluster not be reached at the start, or an address not be bound.
pub async fn run(options: Options) -> Result<(), Box<dyn std::error::Error>> {
    let path = options.settings.display();
    let text = std::fs::read_to_string(&options.settings)
        .map_err(|error| format!("settings {path}: {error}"))?;
    let settings: Settings =
        serde_json::from_str(&text).map_err(|error| format!("settings {path}: {error}"))?;
    let cluster = Cluster::new(kube::Client::try_default().await?, options.watch_namespace);
    let authority = Arc::new(cluster.authority(&options.namespace, AUTHORITY).await?);
    let (board, metrics) = (Board::default(), Metrics::default());
    let (wake, woken) = mpsc::channel(WOKEN);
    let ready = Arc::new(AtomicBool::new(false));

    let stop = stop()?.shared();
    let health = {
        let ready = ready.clone();
        serve_health(
            options.health_address,
            metrics.clone(),
            move || ready.load(Ordering::Relaxed),
            stop.clone(),
        )
    };
    let hosts = callback_hosts(&settings);
    let callback = serve_callback(
        options.callback_address,
        hosts,
        authority.clone(),
        Desk::new(
            cluster.clone(),
            board.clone(),
            metrics.clone(),
            authority.credentials(),
            wake,
        ),
    );
    let context = Arc::new(Context::new(cluster, settings, authority, board, metrics));
    let loops = async {
        ready.store(true, Ordering::Relaxed);
        futures::join!(
            run_image_builds(context.clone(), woken, stop.clone()),
            run_builders(context.clone(), stop.clone()),
            run_guard(context.clone(), stop.clone()),
        );
    };
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "the controller starts");
    tokio::select! {
        () = loops => {}
        result = callback => result?,
        result = async { health.await?; std::future::pending::<std::io::Result<()>>().await } => result?,
    }
    tracing::info!("the controller stops; builds that run go on");
    Ok(())
}

/// The host of the callback's URL, as it must stand in the certificate.
fn callback_hosts(settings: &Settings) -> Vec<String> {
    settings
        .callback
        .iter()
        .filter_map(|callback| callback.url.split("://").nth(1))
        .map(|rest| rest.split(['/', ':']).next().unwrap_or(rest).to_owned())
        .collect()
}

fn stop() -> std::io::Result<impl Future<Output = ()> + Send + 'static> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
