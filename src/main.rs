//! The command line.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Turns an ImageBuild into the smallest image that still runs.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Watches ImageBuilds and Builders, and carries them out.
    Controller(Controller),
    /// Carries out one attempt at one build: runs inside the runner's Pod.
    Runner,
    /// Prints the CustomResourceDefinitions as YAML.
    Crds,
    Probes(whittle::probes_cli::Options),
}

#[derive(clap::Args)]
struct Controller {
    /// The settings, JSON.
    #[arg(long, default_value = "/etc/whittle/settings.json")]
    settings: PathBuf,
    /// The namespace that Whittle itself runs in.
    #[arg(long, env = "POD_NAMESPACE", default_value = "whittle-system")]
    namespace: String,
    /// Look after this namespace alone; after all of them where absent.
    #[arg(long)]
    watch_namespace: Option<String>,
    /// Where to serve health and metrics.
    #[arg(long, default_value = "0.0.0.0:8080")]
    health_address: SocketAddr,
    /// Where to serve the callback of runners.
    #[arg(long, default_value = "0.0.0.0:8443")]
    callback_address: SocketAddr,
}

#[tokio::main]
async fn main() -> ExitCode {
    // reqwest and kube use whichever provider stands installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match Arguments::parse().command {
        Command::Crds => crds(),
        Command::Probes(options) => {
            let (mut out, mut err) = (std::io::stdout().lock(), std::io::stderr().lock());
            ExitCode::from(whittle::probes_cli::run(&options, &mut out, &mut err))
        }
        Command::Runner => whittle::runner::run().await,
        Command::Controller(arguments) => {
            tracing_subscriber::fmt()
                .json()
                .flatten_event(true)
                .with_env_filter(
                    tracing_subscriber::EnvFilter::try_from_default_env()
                        .unwrap_or_else(|_| "info,kube_client=warn,kube_runtime=warn".into()),
                )
                .with_writer(std::io::stderr)
                .init();
            let options = whittle::controller::Options {
                settings: arguments.settings,
                namespace: arguments.namespace,
                watch_namespace: arguments.watch_namespace,
                health_address: arguments.health_address,
                callback_address: arguments.callback_address,
            };
            match whittle::controller::run(options).await {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    tracing::error!(%error, "the controller ended");
                    ExitCode::FAILURE
                }
            }
        }
    }
}

fn crds() -> ExitCode {
    let write = || -> Result<(), Box<dyn std::error::Error>> {
        let mut out = std::io::stdout().lock();
        for crd in whittle::api::crds() {
            writeln!(out, "---\n{}", serde_saphyr::to_string(&crd)?)?;
        }
        Ok(())
    };
    match write() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the CustomResourceDefinitions cannot be written: {error}");
            ExitCode::FAILURE
        }
    }
}
