//! The commands for ImageBuilds in a cluster: what a person asks of them day by day.
//!
//! Each reads and writes the API as `kubectl` would; what is said of an ImageBuild is a pure function of its status.

mod act;
pub(crate) mod answer;
mod cache;
mod debug;
mod doctor;
#[cfg(test)]
mod fixtures;
mod follow;
mod followed;
mod history;
mod list;
mod logs;
mod pods;
mod raw;
mod rollback;
mod screen;
mod select;
mod status;
mod steps;
mod table;
mod terminal;
mod wait;
pub(crate) mod written;

pub(crate) use act::request;
pub(crate) use answer::Failed;
pub(crate) use follow::{Shown, follow};
pub(crate) use followed::Until;
pub(crate) use logs::Output;
pub(crate) use status::{State, text as report};
pub(crate) use wait::{duration, ended};

use std::path::PathBuf;
use std::process::ExitCode;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{ListParams, PartialObjectMeta};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use whittle_api::{Builder, ImageBuild};

/// Label of a namespace: the level of Pod Security that it enforces.
const ENFORCE: &str = "pod-security.kubernetes.io/enforce";

/// How a cluster is reached, in `kubectl`'s words.
#[derive(clap::Args, Clone, Debug, Default)]
pub(crate) struct Reach {
    /// The namespace; that of the context by default.
    #[arg(short, long, value_name = "NAME", global = true)]
    pub(crate) namespace: Option<String>,
    /// The context of the kubeconfig; the current one by default.
    #[arg(long, value_name = "NAME", global = true)]
    pub(crate) context: Option<String>,
    /// The kubeconfig; $KUBECONFIG or ~/.kube/config by default.
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) kubeconfig: Option<PathBuf>,
}

/// A cluster, and the namespace that is meant.
#[derive(Clone)]
pub(crate) struct Cluster {
    /// Its client.
    pub(crate) client: Client,
    /// The namespace.
    pub(crate) namespace: String,
}

impl Reach {
    /// The cluster; nothing was asked of it yet.
    ///
    /// # Errors
    /// The kubeconfig cannot be read or names no such context, or there is none.
    pub(crate) async fn cluster(&self) -> Result<Cluster, Failed> {
        let options = KubeConfigOptions {
            context: self.context.clone(),
            ..KubeConfigOptions::default()
        };
        let config = match &self.kubeconfig {
            Some(path) => {
                let read = Kubeconfig::read_from(path).map_err(answer::kubeconfig)?;
                let read = Config::from_custom_kubeconfig(read, &options).await;
                read.map_err(answer::kubeconfig)?
            }
            None if self.context.is_some() => Config::from_kubeconfig(&options)
                .await
                .map_err(answer::kubeconfig)?,
            None => Config::infer()
                .await
                .map_err(|error| answer::none(&error))?,
        };
        let mut namespace = config.default_namespace.clone();
        if let Some(name) = &self.namespace {
            namespace.clone_from(name);
        }
        let client =
            Client::try_from(config).map_err(|error| answer::api(&error, "the cluster"))?;
        Ok(Cluster { client, namespace })
    }
}

impl Cluster {
    /// The ImageBuilds of the namespace.
    pub(crate) fn builds(&self) -> Api<ImageBuild> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// The same cluster, and the namespace of an object.
    pub(crate) fn of(&self, build: &ImageBuild) -> Self {
        let mut cluster = self.clone();
        if let Some(namespace) = build.metadata.namespace.clone() {
            cluster.namespace = namespace;
        }
        cluster
    }

    /// The ImageBuild of this name.
    ///
    /// # Errors
    /// There is none, or the API server does not say.
    pub(crate) async fn build(&self, name: &str) -> Result<ImageBuild, Failed> {
        let found = self.builds().get(name).await;
        found.map_err(|error| answer::of_build(&error, name, &self.namespace))
    }
}

/// A command for ImageBuilds in a cluster.
#[derive(clap::Subcommand, Clone, Debug)]
pub(crate) enum Command {
    /// Says how an ImageBuild is, or all of a namespace: what was built and where it is, or what failed and what to do.
    ///
    /// Exit codes: 0: the last build has succeeded, or one is under way; 1: it failed; 2: wrong use; 3: the cluster refused.
    #[command(
        visible_alias = "why",
        after_help = "Examples:\n  whittle status hello\n  whittle status -A\n  whittle status -l app=shop -o name"
    )]
    Status(list::Options),
    /// Prints the log of a build: of the one that runs, or else of the last one.
    #[command(after_help = "Examples:\n  whittle logs hello -f\n  whittle logs hello --build 7")]
    Logs(logs::Options),
    /// Builds again, though nothing has changed.
    #[command(
        after_help = "Examples:\n  whittle rebuild hello --follow\n  whittle rebuild -l app=shop --wait --timeout 20m"
    )]
    Rebuild(act::Rebuild),
    /// Waits until an ImageBuild is Ready; ends early where its build fails.
    ///
    /// Exit codes: 0: it is so; 1: the build failed; 2: wrong use; 3: the cluster refused; 124: the time is over.
    #[command(
        after_help = "Examples:\n  whittle wait hello --timeout 10m\n  whittle wait hello api --for Probed"
    )]
    Wait(wait::Options),
    /// Cancels the build that runs, or one of a number; the next change or request builds again.
    #[command(after_help = "Examples:\n  whittle cancel hello\n  whittle cancel hello --build 7")]
    Cancel(act::Cancel),
    /// Suspends an ImageBuild: no build starts until it is resumed. One that runs goes on.
    #[command(after_help = "Example:\n  whittle suspend hello")]
    Suspend(act::Turn),
    /// Resumes an ImageBuild that is suspended.
    #[command(after_help = "Example:\n  whittle resume hello")]
    Resume(act::Turn),
    /// Moves the tags of an ImageBuild back to the image of an earlier build; nothing is built.
    ///
    /// Contract and health check are not asked again. The next commit, trigger or change of the spec builds, and moves the tags forward.
    #[command(
        after_help = "Examples:\n  whittle rollback hello --wait\n  whittle rollback hello --to 7\n  whittle suspend hello && whittle rollback hello"
    )]
    Rollback(rollback::Options),
    /// Lists the builds of the past.
    #[command(after_help = "Example:\n  whittle history hello")]
    History(history::Options),
    /// Shows what the caches of builders hold, and empties one.
    #[command(after_help = "Examples:\n  whittle cache\n  whittle cache prune default")]
    Cache(cache::Options),
    /// Opens a shell beside a container that has none, with the image for debugging that was built with its own.
    #[command(
        after_help = "Examples:\n  whittle debug hello-5d9c\n  whittle debug hello-5d9c --image busybox:1.36 -- ps"
    )]
    Debug(debug::Options),
    /// Looks whether a cluster and a namespace have what builds need, and says the cure where not.
    #[command(
        after_help = "Examples:\n  whittle doctor -n shop\n  whittle doctor --image registry.example.com/team/hello"
    )]
    Doctor(doctor::Options),
}

/// Runs the command.
pub(crate) async fn run(command: &Command) -> ExitCode {
    let result = match command {
        Command::Status(options) => list::run(options).await,
        Command::Logs(options) => logs::run(options).await,
        Command::Rebuild(options) => act::rebuild(options).await,
        Command::Wait(options) => wait::run(options).await,
        Command::Cancel(options) => act::cancel(options).await,
        Command::Suspend(options) => act::turn(options, true).await,
        Command::Resume(options) => act::turn(options, false).await,
        Command::Rollback(options) => rollback::run(options).await,
        Command::History(options) => history::run(options).await,
        Command::Cache(options) => cache::run(options).await,
        Command::Debug(options) => debug::run(options).await,
        Command::Doctor(options) => doctor::run(options).await,
    };
    answer::ended(result)
}

/// Names of the objects of a kind in the namespace of the current context, at most so many.
pub(crate) async fn names(kind: &str, most: u32) -> Result<Vec<String>, Failed> {
    let cluster = Reach::default().cluster().await?;
    let params = ListParams::default().limit(most);
    let (client, namespace) = (cluster.client, &cluster.namespace);
    let listed = match kind {
        "builders" => Api::<Builder>::namespaced(client, namespace)
            .list_metadata(&params)
            .await
            .map(|it| metas(it.items)),
        _ => Api::<ImageBuild>::namespaced(client, namespace)
            .list_metadata(&params)
            .await
            .map(|it| metas(it.items)),
    };
    listed.map_err(|error| answer::api(&error, kind))
}

fn metas<K>(items: Vec<PartialObjectMeta<K>>) -> Vec<String> {
    items
        .into_iter()
        .filter_map(|it| it.metadata.name)
        .collect()
}

/// `namespace/name`, or the name alone where the namespace is `own`.
fn named(meta: &ObjectMeta, own: &str) -> String {
    let name = meta.name.clone().unwrap_or_default();
    match meta.namespace.as_deref() {
        Some(namespace) if namespace != own => format!("{namespace}/{name}"),
        _ => name,
    }
}
