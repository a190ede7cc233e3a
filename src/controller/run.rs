//! The controller as a whole: settings, authority, loops and servers, from start to stop.

use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::http::Uri;
use axum::http::uri::InvalidUri;
use futures::FutureExt;
use futures::channel::mpsc;
use tokio::signal::unix::{SignalKind, signal};

use super::{Context, builder, imagebuild, run_builders, run_guard, run_image_builds};
use crate::cluster::Cluster;
use crate::names::AUTHORITY;
use crate::serve::{Desk, EarlyReports, Error, Metrics, serve_callback, serve_health};
use crate::settings::Settings;
use crate::watches::{Trouble, Watches};

/// ImageBuilds with new reports that wait to be looked at.
const WOKEN: usize = 1024;

/// Stands in the settings for Whittle's own namespace.
const POD_NAMESPACE: &str = "$(POD_NAMESPACE)";

/// A connection on which the API server says nothing for so long is dead, though nobody has closed it: a node or a
/// firewall between has forgotten it. An answer may wait for a webhook of others, for 30 seconds at most.
const SILENCE: Duration = Duration::from_secs(40);
/// The same of watches: where nothing happens, the API server sends a bookmark each minute.
const SILENCE_OF_WATCHES: Duration = Duration::from_secs(90);

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
    // What installs the chart may put it into another namespace than the one that the chart was rendered for.
    let text = text.replace(POD_NAMESPACE, &options.namespace);
    let mut settings: Settings =
        serde_json::from_str(&text).map_err(|error| format!("settings {path}: {error}"))?;
    if !options.watch_namespaces.is_empty() {
        settings.watch.namespaces = options.watch_namespaces;
    }
    let watch = &settings.watch;
    let selector = watch
        .check()
        .map_err(|error| format!("settings {path}: {error}"))?;
    let (client, watching) = futures::try_join!(client(SILENCE), client(SILENCE_OF_WATCHES))?;
    let metrics = Metrics::default();
    let trouble = Trouble::counted(metrics.clone());
    let cluster = Cluster::new(client, watch.namespaces.clone(), selector, trouble);
    let cluster = cluster.watching_by(watching);
    let authority = Arc::new(cluster.authority(&options.namespace, AUTHORITY).await?);
    let early_reports = EarlyReports::default();
    let (wake, woken) = mpsc::channel(WOKEN);
    let mut watches = Watches::default();
    let heard = (
        imagebuild::Heard::from(&mut watches),
        builder::Heard::from(&mut watches),
    );

    let stop = stop()?.shared();
    let stopping = Arc::new(AtomicBool::new(false));
    let hosts = callback_hosts(&settings).map_err(|error| format!("settings {path}: {error}"))?;
    let callback = serve_callback(
        options.callback_address,
        hosts,
        authority.clone(),
        Desk::new(
            cluster.clone(),
            early_reports.clone(),
            metrics.clone(),
            authority.credentials(),
            wake,
            stopping.clone(),
        ),
    );
    tokio::spawn(
        stop.clone()
            .map(move |()| stopping.store(true, Ordering::Relaxed)),
    );
    let known = watches.known();
    let context = Context::new(
        cluster,
        settings,
        authority,
        early_reports,
        metrics.clone(),
        known,
    );
    let context = Arc::new(context);
    let listed = context.listed.clone();
    let missing = move || listed.missing();
    let health = serve_health(options.health_address, metrics, missing, stop.clone());
    let loops = async {
        futures::join!(
            watches.run(context.clone(), stop.clone()),
            run_image_builds(context.clone(), heard.0, woken, stop.clone()),
            run_builders(context.clone(), heard.1, stop.clone()),
            run_guard(context.clone(), stop.clone()),
        );
    };
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "starting");
    tokio::select! {
        () = loops => {}
        result = callback => result?,
        result = async { health.await?; std::future::pending::<Result<(), Error>>().await } => result?,
    }
    tracing::info!("stopping; running builds continue");
    Ok(())
}

/// A client whose connections end after this silence; the time that they lay idle before a request does not count.
async fn client(silence: Duration) -> Result<kube::Client, Box<dyn std::error::Error>> {
    let mut config = kube::Config::infer().await?;
    config.read_timeout = Some(silence);
    config.reset_reader_on_write = true;
    Ok(kube::Client::try_from(config)?)
}

/// The host of the callback's URL, as it must stand in the certificate: a name, or an address without brackets.
fn callback_hosts(settings: &Settings) -> Result<Vec<String>, String> {
    let Some(callback) = &settings.callback else {
        return Ok(vec![]);
    };
    let url = &callback.url;
    let wrong = |why: &str| {
        format!(
            "callback.url {url:?} is invalid: {why}; write https://host:port, for example \
             https://whittle.whittle-system.svc:8443 or https://[fd00::1]:8443"
        )
    };
    let parsed: Uri = url
        .parse()
        .map_err(|error: InvalidUri| wrong(&error.to_string()))?;
    if parsed.scheme_str() != Some("https") {
        return Err(wrong("it does not start with https://"));
    }
    let authority = parsed
        .authority()
        .ok_or_else(|| wrong("the host is missing"))?;
    let host = authority.host();
    let rest = authority.as_str().strip_prefix(host);
    if rest.is_none_or(|rest| !rest.is_empty() && authority.port_u16().is_none()) {
        return Err(wrong("only a port may follow the host"));
    }
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    match bare {
        Some(address) if address.parse::<Ipv6Addr>().is_err() => {
            Err(wrong("invalid IPv6 address in brackets"))
        }
        Some(address) => Ok(vec![address.to_owned()]),
        None if host.is_empty() => Err(wrong("the host is missing")),
        None => Ok(vec![host.to_owned()]),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(url: &str) -> Result<Vec<String>, String> {
        let text = format!(
            r#"{{"runner": {{"image": "w"}}, "builder": {{"image": "b"}}, "callback": {{"url": "{url}"}}}}"#
        );
        callback_hosts(&serde_json::from_str(&text).unwrap())
    }

    #[test]
    fn the_callbacks_host_is_a_name_or_an_address() {
        for (url, host) in [
            (
                "https://whittle.whittle-system.svc:8443",
                "whittle.whittle-system.svc",
            ),
            ("https://localhost", "localhost"),
            ("https://10.0.0.1:8443/", "10.0.0.1"),
            ("https://[fd00::1]:8443", "fd00::1"),
            ("https://[::1]", "::1"),
        ] {
            assert_eq!(hosts(url).unwrap(), [host], "{url}");
        }
    }

    #[test]
    fn a_callback_that_is_no_url_is_an_error_that_names_the_setting() {
        for url in [
            "",
            "whittle:8443",
            "http://whittle:8443",
            "https://",
            "https://fd00::1:8443",
            "https://[whittle]:8443",
            "https://bob@whittle:8443",
            "https://whittle:port",
            "https://whittle:99999",
        ] {
            let error = hosts(url).expect_err(url);
            assert!(
                error.contains("callback.url") && error.contains("https://host:port"),
                "{error}"
            );
        }
    }
}
