//! The controller as a whole: settings, authority, loops and servers, from start to stop.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::http::Uri;
use axum::http::uri::InvalidUri;
use futures::FutureExt;
use futures::channel::mpsc;
use k8s_openapi::jiff::Timestamp;
use tokio::signal::unix::{SignalKind, signal};

use super::{
    Context, builder, imagebuild, run_builders, run_egress, run_flux, run_guard, run_image_builds,
    run_standbys, run_trusted, run_watchers,
};
use crate::cluster::{Cluster, Leases};
use crate::leader::decide::Candidate;
use crate::leader::gate::Gate;
use crate::leader::{Election, Role};
use crate::names::{self, AUTHORITY};
use crate::notify::Notifications;
use crate::serve::{
    Caches, Desk, EarlyReports, Error, Figures, Hooks, Metrics, Wake, forward, listen,
    serve_callback, serve_health, serve_webhooks,
};
use crate::settings::Settings;
use crate::standby::Waiting;
use crate::trusted::{self, Trusted};
use crate::watcher::Sources;
use crate::watches::{Listed, Trouble, Watches};

/// ImageBuilds with new reports that wait to be looked at; and Builders.
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
    /// Webhooks.
    pub webhook_address: SocketAddr,
    /// Its Pod's name.
    pub pod_name: String,
    /// Its Pod's address.
    pub pod_address: Option<IpAddr>,
}

/// How long the loops may take to end, once they are to: the kubelet waits for 15 s in all.
const DRAIN: Duration = Duration::from_secs(8);

/// Stands by until it leads, then leads, until SIGTERM or SIGINT.
///
/// # Errors
/// Where the settings cannot be read, the cluster not be reached at the start, or an address not be bound; and where
/// another process leads: whatever this one was about to do is not done.
pub async fn run(options: Options) -> Result<(), Box<dyn std::error::Error>> {
    let path = options.settings.display();
    let text = std::fs::read_to_string(&options.settings)
        .map_err(|error| format!("settings {path}: {error}"))?;
    // What installs the chart may put it into another namespace than the one that the chart was rendered for.
    let text = text.replace(POD_NAMESPACE, &options.namespace);
    let mut settings: Settings =
        serde_json::from_str(&text).map_err(|error| format!("settings {path}: {error}"))?;
    if !options.watch_namespaces.is_empty() {
        settings
            .watch
            .namespaces
            .clone_from(&options.watch_namespaces);
    }
    let watch = &settings.watch;
    let selector = watch
        .check()
        .map_err(|error| format!("settings {path}: {error}"))?;
    let hosts = callback_hosts(&settings).map_err(|error| format!("settings {path}: {error}"))?;
    let trusted = Trusted::default();
    if let Some(path) = &settings.ca_file {
        trusted.is(&trusted::read(path)?);
    }
    let config = kube::Config::infer().await?;
    let metrics = Metrics::new(settings.metrics.namespaces);
    let notifications = Notifications::new(&settings, &metrics)
        .map_err(|error| format!("settings {path}: {error}"))?;
    let stop = stop()?.shared();
    let runners = listen("callback", "--callback-address", options.callback_address).await?;
    let senders = listen("webhooks", "--webhook-address", options.webhook_address).await?;
    let webhook_port = senders.local_addr()?.port();

    let gate = Gate::default();
    let lease = names::lease(&settings.installation);
    let leases = Leases::new(
        kube::Client::try_from(silent_for(SILENCE, config.clone()))?,
        &options.namespace,
        &lease,
    );
    let mut election = Election::new(leases, candidate(&options), gate.clone());
    let listed = Listed::default();
    let (role, lists) = (election.role(), listed.clone());
    let ready = move || readiness(&role.borrow(), &lists.missing());
    let health = serve_health(options.health_address, metrics.clone(), ready, stop.clone());
    let health = async {
        health.await?;
        std::future::pending::<Result<(), Error>>().await
    };
    tokio::pin!(health);
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "starting");
    let (role, again) = (election.role(), election.role());
    tokio::select! {
        () = election.win() => {}
        () = forward(&runners, None, role, &metrics) => {}
        () = forward(&senders, Some(webhook_port), again, &metrics) => {}
        () = stop.clone() => {
            election.release().await;
            return Ok(());
        }
        result = &mut health => result?,
    }

    let work = async {
        let trouble = Trouble::counted(metrics.clone());
        let watching = kube::Client::try_from(silent_for(SILENCE_OF_WATCHES, config.clone()))?;
        let client = gate.client(silent_for(SILENCE, config))?;
        let cluster = Cluster::new(client, watch.namespaces.clone(), selector, trouble);
        let cluster = cluster.watching_by(watching);
        let authority = Arc::new(cluster.authority(&options.namespace, AUTHORITY).await?);
        metrics.leads();
        let (early_reports, caches) = (EarlyReports::default(), Caches::default());
        let waiting = Waiting::default();
        let sources = Sources::new(settings.triggers.silent_after());
        let (builds, woken) = mpsc::channel(WOKEN);
        let (builders, woken_builders) = mpsc::channel(WOKEN);
        let mut watches = Watches::default();
        let heard = (
            imagebuild::Heard::from(&mut watches),
            builder::Heard::from(&mut watches),
        );
        let stopping = Arc::new(AtomicBool::new(false));
        let desk = Desk::new(
            cluster.clone(),
            (early_reports.clone(), caches.clone(), sources.clone()),
            waiting.clone(),
            (metrics.clone(), notifications.clone()),
            authority.credentials(),
            Wake {
                builds: builds.clone(),
                builders,
            },
            stopping.clone(),
        );
        let callback = serve_callback(&runners, hosts, authority.clone(), desk);
        let secret = settings.webhooks.secret_file.clone();
        let hooks = Hooks::new(
            sources.clone(),
            authority.credentials(),
            metrics.clone(),
            (secret, listed.clone()),
        );
        let webhooks = serve_webhooks(&senders, hooks);
        let late = stop.clone().then(async |()| {
            stopping.store(true, Ordering::Relaxed);
            tokio::time::sleep(DRAIN).await;
        });
        let known = watches.known();
        let metrics = metrics.clone();
        let now = known.clone();
        metrics.look(move || {
            let (builds, builders) = (now.builds.state(), now.builders.state());
            let all = builders.iter().map(AsRef::as_ref);
            Figures::of(builds.iter().map(AsRef::as_ref), all, Timestamp::now())
        });
        let settings = settings.clone();
        let context = Context::new(cluster, settings, authority, early_reports, metrics, known);
        let context = Arc::new(Context {
            listed,
            caches,
            sources,
            waiting,
            trusted,
            notifications: notifications.clone(),
            ..context
        });
        let deliver = notifications.deliver();
        let loops = async {
            futures::join!(
                watches.run(context.clone(), stop.clone()),
                run_image_builds(context.clone(), heard.0, woken, stop.clone()),
                run_builders(context.clone(), heard.1, woken_builders, stop.clone()),
                run_guard(context.clone(), stop.clone()),
                run_egress(context.clone(), stop.clone()),
                run_trusted(context.clone(), stop.clone()),
                run_watchers(context.clone(), stop.clone()),
                run_standbys(context.clone(), stop.clone()),
                run_flux(context.clone(), builds, stop.clone()),
            );
            notifications.last().await;
        };
        tokio::select! {
            () = loops => Ok(true),
            () = late => Ok(false),
            () = deliver => Ok(false),
            never = webhooks => match never {},
            result = callback => result.map(|()| false).map_err(Box::<dyn std::error::Error>::from),
        }
    };
    let drained = tokio::select! {
        result = work => result?,
        lost = election.keep() => return Err(lost.into()),
        result = health => result.map(|()| false)?,
    };
    tracing::info!("stopping; running builds continue");
    // Where a loop is in the middle of something still, the others wait for the end of the term.
    if drained {
        election.release().await;
    }
    Ok(())
}

/// This process, as it stands for election.
fn candidate(options: &Options) -> Candidate {
    let callback = options.callback_address;
    let ip = options.pod_address.unwrap_or(callback.ip());
    let name = match options.pod_name.as_str() {
        "" => format!(
            "whittle-{}-{}",
            std::process::id(),
            Timestamp::now().as_nanosecond()
        ),
        name => name.to_owned(),
    };
    Candidate {
        name,
        address: (!ip.is_unspecified()).then_some(SocketAddr::new(ip, callback.port())),
    }
}

/// Whether a process can do its work, and what that is: a standby has none, and lists nothing.
fn readiness(role: &Role, missing: &[&str]) -> Result<String, String> {
    match role {
        Role::Starting => Err("starting: waiting for the Lease".into()),
        Role::Standby { leader, .. } => Ok(format!("ok: standby, {leader} leads")),
        Role::Leader if missing.is_empty() => Ok("ok".into()),
        Role::Leader => Err(format!(
            "starting: waiting for the list of {}",
            missing.join(", ")
        )),
    }
}

/// Connections that end after this silence; the time that they lay idle before a request does not count.
fn silent_for(silence: Duration, mut config: kube::Config) -> kube::Config {
    config.read_timeout = Some(silence);
    config.reset_reader_on_write = true;
    config
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
