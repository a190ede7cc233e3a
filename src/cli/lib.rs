//! The command line: what can be asked, and who answers.

// The comments of options are their help, for people who read no Markdown.
#![allow(rustdoc::broken_intra_doc_links)]

mod build;
mod cluster;
mod complete;
mod crds;
pub mod inspect;
mod local;
mod minimize;
mod node_profiles;
mod page;
pub mod probes;

use std::ffi::OsString;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use whittle_api::IsolationMode;
use whittle_build::daemon::start::Start;
use whittle_probe::policy::{self, Speaks};

/// Turns an ImageBuild into the smallest image that still runs.
#[derive(Parser)]
#[command(name = "whittle", version, about)]
struct Arguments {
    /// Colors: auto on a terminal, unless NO_COLOR is set.
    #[arg(long, value_name = "WHEN", value_enum, default_value_t, global = true)]
    color: Color,
    #[command(subcommand)]
    command: Command,
}

#[derive(ValueEnum, Clone, Copy, Debug, Default)]
enum Color {
    /// Where a terminal reads.
    #[default]
    Auto,
    /// In any case.
    Always,
    /// Nowhere.
    Never,
}

impl Color {
    fn heed(self) {
        match self {
            // NO_COLOR, CLICOLOR and TERM are looked at where something is printed.
            Self::Auto => {}
            Self::Always => anstream::ColorChoice::AlwaysAnsi.write_global(),
            Self::Never => anstream::ColorChoice::Never.write_global(),
        }
    }
}

/// The command line's definition.
fn command() -> clap::Command {
    Arguments::command()
}

#[derive(Subcommand)]
enum Command {
    /// Runs the controller: watches ImageBuilds and Builders and reconciles them.
    Controller(Controller),
    /// Runs one attempt of a build, inside the runner's Pod.
    Runner,
    /// Asks git servers and registries what is new, inside the watcher's Pod.
    Watch {
        /// Where it finds what is mounted: for tests.
        #[arg(long, hide = true, default_value = whittle_watch::wire::paths::ALL)]
        folder: PathBuf,
    },
    /// Shows what is in an image and whether it starts, and checks it against rules.
    ///
    /// Exit codes: 0: no requested rule is broken; 1: one is broken, or unknown, or with --exit-code two images differ;
    /// 2: the image cannot be inspected.
    #[command(after_help = inspect::EXAMPLES)]
    Inspect(Box<inspect::Arguments>),
    /// Prints the CustomResourceDefinitions as YAML.
    Crds {
        /// Write them into this directory instead, one file each: whittle.dev_PLURAL.yaml.
        #[arg(long)]
        directory: Option<PathBuf>,
    },
    /// Writes into the chart's directory what of it comes from this program: `make generate`.
    #[command(hide = true)]
    Chart {
        /// The directory: charts/whittle.
        folder: PathBuf,
    },
    /// Copies this program into a directory, for the builder's Pod: as git, and as buildkit-runc.
    #[command(hide = true)]
    Install {
        /// The directory.
        folder: PathBuf,
        /// The daemon's state, whose directories hand on no group from then on.
        #[arg(long)]
        state: Option<PathBuf>,
    },
    /// Puts the seccomp profile of builders into a directory, and keeps it there until it is stopped: the chart's DaemonSet.
    #[command(hide = true)]
    NodeProfiles {
        /// The kubelet's seccomp directory.
        folder: PathBuf,
        /// Write it once, and end.
        #[arg(long)]
        once: bool,
    },
    /// Starts the builder's daemon, after finding out whether its steps can be isolated.
    #[command(hide = true)]
    Builder {
        /// How it is isolated.
        #[arg(long)]
        isolation: IsolationMode,
        /// The daemon's state.
        #[arg(long)]
        root: PathBuf,
        /// Throw the state away first, once for each such name.
        #[arg(long, value_name = "NAME")]
        empty: Option<String>,
        /// Within rootlesskit.
        #[arg(long)]
        inner: bool,
        /// The daemon's arguments.
        #[arg(last = true)]
        args: Vec<OsString>,
    },
    /// Deletes what the builder's daemon no longer uses, beside it.
    #[command(hide = true)]
    DeleteOld {
        /// The daemon's state.
        root: PathBuf,
    },
    /// Runs a program as the container's first process, and notes which files it asks for.
    #[command(hide = true)]
    Trace {
        /// The file of what was noted, JSON; standard error where it is absent. SIGUSR1 writes it at once.
        #[arg(long)]
        output: Option<PathBuf>,
        /// Paths that are noted, at most.
        #[arg(long, default_value_t = whittle_trace::LIMIT)]
        limit: usize,
        /// A folder in which others ask for commands to be run beside it, and for the file of what was noted.
        #[arg(long)]
        asks: Option<PathBuf>,
        /// Do not follow the program: only start it, and serve what is asked.
        #[arg(long)]
        untraced: bool,
        /// The program and its arguments.
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
    /// Waits until the image beside it answers, has it do what is asked of it, and prints what came of that.
    #[command(hide = true)]
    Trial {
        /// What is asked, each as JSON.
        steps: Vec<String>,
    },
    /// Runs the image around it as its health check asks, as a step of `whittle build --local --check`.
    #[command(hide = true)]
    CheckImage,
    /// Becomes the program of the image around it, or another command in it.
    #[command(hide = true)]
    CheckStart {
        /// The command and its arguments; the image's own without it.
        #[arg(last = true)]
        command: Vec<String>,
    },
    /// Prints an error, and fails: the chart's test where a value is missing that it needs.
    #[command(hide = true)]
    Refuse {
        /// The error.
        text: String,
    },
    Probes(crate::probes::Options),
    Minimize(crate::minimize::Options),
    Build(Box<crate::build::Options>),
    /// Builds an image on this machine, without a cluster.
    #[command(hide = true, name = local::NAME, bin_name = "whittle build --local")]
    LocalBuild(Box<local::Options>),
    /// Starts a program that ends with the process that has started it.
    #[command(hide = true)]
    BoundTo(local::Bound),
    #[command(flatten)]
    Cluster(crate::cluster::Command),
    /// Prints a script that completes commands, flags and names of ImageBuilds.
    #[command(after_help = "Example:\n  source <(whittle completion bash)")]
    Completion {
        /// The shell.
        shell: complete::Shell,
    },
    /// Writes a man page for each command.
    #[command(hide = true)]
    Man {
        /// The directory.
        folder: PathBuf,
    },
}

#[derive(clap::Args)]
struct Controller {
    /// Settings file, JSON.
    #[arg(long, default_value = "/etc/whittle/settings.json")]
    settings: PathBuf,
    /// The namespace that Whittle itself runs in.
    #[arg(long, env = "POD_NAMESPACE", default_value = "whittle-system")]
    namespace: String,
    /// Watch only this namespace, instead of those in the settings. May be repeated.
    #[arg(long, value_name = "NAMESPACE")]
    watch_namespace: Vec<String>,
    /// Where to serve health and metrics.
    #[arg(long, default_value = "0.0.0.0:8080")]
    health_address: SocketAddr,
    /// Where to serve the callback of runners.
    #[arg(long, default_value = "0.0.0.0:8443")]
    callback_address: SocketAddr,
    /// Where to serve webhooks, without TLS.
    #[arg(long, default_value = "0.0.0.0:8090")]
    webhook_address: SocketAddr,
    /// The name of its Pod, by which it leads; empty: one that no other process has.
    #[arg(long, env = "POD_NAME", default_value = "")]
    pod_name: String,
    /// The address of its Pod, where standbys pass callbacks on to it while it leads; absent: that of --callback-address.
    #[arg(long, env = "POD_IP")]
    pod_address: Option<IpAddr>,
}

pub(crate) fn platform(text: &str) -> Result<String, String> {
    let parts: Vec<&str> = text.split('/').collect();
    if matches!(parts.len(), 2 | 3) && parts.iter().all(|part| !part.is_empty()) {
        return Ok(text.to_owned());
    }
    Err("invalid platform: write os/architecture or os/architecture/variant, for example linux/arm64".into())
}

/// Does what the command line asks for.
pub fn main() -> ExitCode {
    let words: Vec<_> = std::env::args_os().collect();
    if let Some((name, args)) = words.split_first()
        && let Some(code) = whittle_build::daemon::called_as(name, args)
    {
        return code;
    }
    if complete::answered(command, &words) {
        return ExitCode::SUCCESS;
    }
    let program = words.first().cloned().unwrap_or_default();
    let parsed = complete::named(command(), &program).get_matches_from(local::asked(words));
    let arguments = Arguments::from_arg_matches(&parsed).unwrap_or_else(|error| error.exit());
    arguments.color.heed();
    let command = match arguments.command {
        // Without a runtime: it has to be the only thread.
        Command::Trace {
            output,
            limit,
            asks,
            untraced,
            command,
        } => {
            return trace(whittle_trace::Options {
                command,
                output,
                limit,
                filter: true,
                follow: !untraced,
                asks,
            });
        }
        Command::CheckStart { command } => return whittle_build::trial::start::run(&command),
        command => command,
    };
    let watches = matches!(
        command,
        Command::Watch { .. } | Command::Trial { .. } | Command::CheckImage
    );
    let mut runtime = match watches {
        // It mostly waits, and is there in each namespace: one thread takes the least memory.
        true => tokio::runtime::Builder::new_current_thread(),
        false => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = runtime.enable_all().build().expect("threads and timers");
    let code = runtime.block_on(run(command));
    if watches {
        // It ends at once where it is asked to; looking up a name cannot be cut off.
        runtime.shutdown_background();
    }
    code
}

fn trace(options: whittle_trace::Options) -> ExitCode {
    ExitCode::from(whittle_trace::run(&options).unwrap_or_else(|error| {
        eprintln!("whittle: {error}");
        // Whoever waits for it is told, too.
        let document = whittle_trace::Document::of_failure(error.to_string());
        if let Some(output) = &options.output
            && let Err(error) = document.write(Some(output))
        {
            eprintln!("whittle: {} cannot be written: {error}", output.display());
        }
        whittle_trace::FAILED
    }))
}

fn install(folder: &Path, state: Option<&Path>) -> ExitCode {
    if let Some(state) = state
        && let Err(error) = whittle_build::daemon::settle(state)
    {
        // The daemon can do without: folders of images have an odd mode then.
        eprintln!("{}: {error}", state.display());
    }
    match whittle_build::daemon::install(folder) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{} cannot be written: {error}", folder.display());
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> ExitCode {
    // reqwest and kube use whichever provider stands installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match command {
        Command::Trace { .. } | Command::CheckStart { .. } => {
            unreachable!("carried out before there is a runtime")
        }
        Command::Crds { directory } => crds(directory.as_deref()),
        Command::Chart { folder } => chart(&folder),
        Command::Builder {
            isolation,
            root,
            empty,
            inner,
            args,
        } => whittle_build::daemon::start::run(&Start {
            mode: isolation,
            root,
            empty,
            inner,
            args,
        }),
        Command::Refuse { text } => {
            anstream::eprintln!("error: {text}");
            ExitCode::from(2)
        }
        Command::DeleteOld { root } => {
            whittle_build::daemon::state::delete(&root);
            ExitCode::SUCCESS
        }
        Command::NodeProfiles { folder, once } => node_profiles::run(&folder, once).await,
        Command::Install { folder, state } => install(&folder, state.as_deref()),
        Command::Probes(options) => {
            let (mut out, mut err) = (std::io::stdout(), std::io::stderr());
            ExitCode::from(crate::probes::run(&options, &mut out, &mut err).await)
        }
        Command::Minimize(options) => crate::minimize::run(&options).await,
        Command::Build(options) => crate::build::run(&options).await,
        Command::LocalBuild(options) => local::run(&options).await,
        Command::BoundTo(bound) => bound.run(),
        Command::Cluster(command) => crate::cluster::run(&command).await,
        Command::Completion { shell } => wrote(
            complete::script(shell)
                .and_then(|text| std::io::stdout().lock().write_all(text.as_bytes())),
        ),
        Command::Man { folder } => wrote(complete::man(self::command(), &folder)),
        Command::Trial { steps } => {
            let options = whittle_build::trial::Options::of_pod(steps);
            match whittle_build::trial::run(&options).await {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    eprintln!("invalid step: {error}");
                    ExitCode::FAILURE
                }
            }
        }
        Command::CheckImage => whittle_build::trial::here::run().await,
        Command::Runner => whittle_build::runner::run().await,
        Command::Inspect(arguments) => match arguments.options() {
            Ok(options) => Box::pin(inspect::run(&options)).await,
            Err(error) => {
                eprintln!("whittle: {error}");
                ExitCode::from(2)
            }
        },
        Command::Watch { folder } => {
            log();
            ended(whittle_watch::run(&folder).await, "the watcher failed")
        }
        Command::Controller(arguments) => {
            log();
            let options = whittle_controller::Options {
                settings: arguments.settings,
                namespace: arguments.namespace,
                watch_namespaces: arguments.watch_namespace,
                health_address: arguments.health_address,
                callback_address: arguments.callback_address,
                webhook_address: arguments.webhook_address,
                pod_name: arguments.pod_name,
                pod_address: arguments.pod_address,
            };
            ended(
                whittle_controller::run(options).await,
                "the controller failed",
            )
        }
    }
}

/// Logs as JSON.
fn log() {
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env()
                .unwrap_or_else(|_| "info,kube_client=warn,kube_runtime=warn".into()),
        )
        .with_writer(std::io::stderr)
        .init();
}

fn wrote(result: std::io::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("whittle: cannot be written: {error}");
            ExitCode::FAILURE
        }
    }
}

fn ended(result: Result<(), impl std::fmt::Display>, failed: &str) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "{failed}");
            ExitCode::FAILURE
        }
    }
}

fn crds(directory: Option<&Path>) -> ExitCode {
    let write = || -> Result<(), Box<dyn std::error::Error>> {
        let Some(directory) = directory else {
            let mut out = std::io::stdout().lock();
            for (_, text) in crds::files()? {
                write!(out, "---\n{text}")?;
            }
            return Ok(());
        };
        Ok(crds::write(directory)?)
    };
    match write() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cannot write the CustomResourceDefinitions: {error}");
            ExitCode::FAILURE
        }
    }
}

fn chart(folder: &Path) -> ExitCode {
    let schema = folder.join("values.schema.json");
    let policies = folder.join("files/probeguard");
    let write = |path: &Path, text: &dyn Fn() -> std::io::Result<String>| {
        let written = text().and_then(|text| std::fs::write(path, text));
        written.map_err(|error| format!("{}: {error}", path.display()))
    };
    let written = write(&schema, &|| {
        let text = std::fs::read_to_string(&schema)?;
        whittle_api::values::values_schema(&text).ok_or_else(|| {
            std::io::Error::other("it has no definition named builderDefaults to write")
        })
    })
    .and_then(|()| {
        std::fs::create_dir_all(&policies)
            .map_err(|error| format!("{}: {error}", policies.display()))
    })
    .and_then(|()| {
        (Speaks::ALL.iter()).try_for_each(|speaks| {
            write(&policies.join(speaks.file()), &|| Ok(policy::yaml(*speaks)))
        })
    });
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests;
