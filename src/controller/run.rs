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
use crate::plan::settings::Settings;
use crate::serve::{Board, Metrics, serve_callback, serve_health};

/// The Secret with the installation's root authority.
const AUTHORITY: &str = "whittle-ca";

/// What the command line says.
pub struct Options {
    /// Path of the settings.
    pub settings: PathBuf,
    /// Whittle's own namespace.
    pub namespace: String,
    /// The namespaces to look after, in place of those of the settings; none: those of the settings.
    pub watch_namespaces: Vec<String>,
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
    let mut settings: Settings =
        serde_json::from_str(&text).map_err(|error| format!("settings {path}: {error}"))?;
    if !options.watch_namespaces.is_empty() {
        settings.watch.namespaces = options.watch_namespaces;
    }
    let watch = &settings.watch;
    let selector = watch
        .check()
        .map_err(|error| format!("settings {path}: {error}"))?;
    let client = kube::Client::try_default().await?;
    let cluster = Cluster::new(client, watch.namespaces.clone(), selector);
    let authority = Arc::new(cluster.authority(&options.namespace, AUTHORITY).await?);
    let (board, metrics) = (Board::default(), Metrics::default());
    let (wake, woken) = mpsc::unbounded();
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
        cluster.clone(),
        board.clone(),
        wake,
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
