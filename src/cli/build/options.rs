//! What `whittle build` is asked for.

use std::path::PathBuf;
use std::time::Duration;

use crate::cluster::{Output, Reach, duration};

/// Builds a directory of this machine in the cluster: sends it, starts the build, and shows it until it has ended.
///
/// The directory is packed under its .dockerignore and pushed into the output's repository, with the credentials that docker has;
/// nothing that the registry has already is sent again. The ImageBuild of the directory's name is created, or changed where it exists: only what
/// is given here.
///
/// Exit codes: 0: built, or up to date; 1: the build failed; 2: wrong use; 3: the cluster or the registry refused; 124: the time is
/// over; 130: Ctrl-C.
#[derive(clap::Args, Clone, Debug)]
#[command(
    after_help = "Examples:\n  whittle build --image registry.example.com/team/hello\n  whittle build . --tag v2 --build-arg VERSION=2\n  \
                  whittle build --secret id=npm,secret=npm-token/token --platform linux/amd64,linux/arm64\n  whittle build -f imagebuild.yaml\n  \
                  whittle build --image registry.example.com/team/hello --dry-run > imagebuild.yaml"
)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(super) reach: Reach,
    /// The directory to build; this one by default.
    #[arg(value_name = "DIRECTORY")]
    pub(super) folder: Option<PathBuf>,
    /// The ImageBuild's name; the directory's by default.
    #[arg(long, value_name = "NAME")]
    pub(super) name: Option<String>,
    /// Where the image goes: host/path, without a tag. Without it: where the existing ImageBuild says.
    #[arg(long, value_name = "REPOSITORY")]
    pub(super) image: Option<String>,
    /// A tag of the image; latest by default. May be repeated, or separated by commas.
    #[arg(short, long, value_name = "TAG", value_delimiter = ',')]
    pub(super) tag: Vec<String>,
    /// A platform: linux/arm64. May be repeated, or separated by commas; the builder's own by default.
    #[arg(long, value_name = "PLATFORM", value_delimiter = ',')]
    pub(super) platform: Vec<String>,
    /// The stage to build; the last one by default.
    #[arg(long, value_name = "STAGE")]
    pub(super) target: Option<String>,
    /// A value of an ARG: NAME=VALUE, or NAME alone for the environment's. May be repeated.
    #[arg(long, value_name = "NAME=VALUE")]
    pub(super) build_arg: Vec<String>,
    /// A label of the image: NAME=VALUE. May be repeated.
    #[arg(long, value_name = "NAME=VALUE")]
    pub(super) label: Vec<String>,
    /// A secret file for RUN --mount=type=secret,id=ID: the key of a Secret of the namespace. May be repeated.
    #[arg(long, value_name = "id=ID,secret=NAME/KEY")]
    pub(super) secret: Vec<String>,
    /// The Dockerfile, within the directory; Dockerfile by default. Or a manifest (.yaml, .yml, .json, or - for standard input): its ImageBuilds and
    /// Builders are applied as they are.
    #[arg(short, long, value_name = "FILE")]
    pub(super) file: Option<PathBuf>,
    /// The Secret with which the image is pushed, of type kubernetes.io/dockerconfigjson.
    #[arg(long, value_name = "NAME")]
    pub(super) push_secret: Option<String>,
    /// The Builder.
    #[arg(long, value_name = "NAME")]
    pub(super) builder: Option<String>,
    /// Where the directory is sent: host/path, as the cluster names it; --image by default.
    #[arg(long, value_name = "REPOSITORY")]
    pub(super) source_repository: Option<String>,
    /// The Secret with which the cluster reads it; that of the push by default.
    #[arg(long, value_name = "NAME", requires = "source_repository")]
    pub(super) source_secret: Option<String>,
    /// The same repository as this machine names it, where that is another name.
    #[arg(long, value_name = "REPOSITORY")]
    pub(super) push_to: Option<String>,
    /// Send the files within the ImageBuild, without a registry: 256 KiB of text at most. Done by itself where the registry is unreachable.
    #[arg(long, conflicts_with_all = ["source_repository", "push_to"])]
    pub(super) inline: bool,
    /// Use HTTP without TLS for the push; registries on this machine always use it.
    #[arg(long)]
    pub(super) plain_http: bool,
    /// File with additional CA certificates (PEM) for the registry.
    #[arg(long, value_name = "FILE", conflicts_with = "plain_http")]
    pub(super) ca: Option<PathBuf>,
    /// Build though nothing has changed.
    #[arg(long)]
    pub(super) rebuild: bool,
    /// Take over fields that others manage: kubectl, Argo CD, Flux.
    #[arg(long)]
    pub(super) force_conflicts: bool,
    /// Print the ImageBuild, and send nothing.
    #[arg(long, conflicts_with = "rebuild")]
    pub(super) dry_run: bool,
    /// How --dry-run prints it.
    #[arg(short, long, value_enum, default_value_t, requires = "dry_run")]
    pub(super) output: Printed,
    /// Start the build, and do not wait for it.
    #[arg(long, conflicts_with = "wait")]
    pub(super) no_follow: bool,
    /// Wait for its end, without its log.
    #[arg(long)]
    pub(super) wait: bool,
    /// How its steps are shown.
    #[arg(long, value_enum, default_value_t)]
    pub(super) progress: Output,
    /// So long at most is waited for the build, for example 20m.
    #[arg(long, value_parser = duration, default_value = "1h")]
    pub(super) timeout: Duration,
}

/// How --dry-run prints the ImageBuild.
#[derive(clap::ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Printed {
    /// Its kind and name.
    Name,
    /// YAML.
    #[default]
    Yaml,
    /// JSON.
    Json,
}
