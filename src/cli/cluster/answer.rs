//! How a command ends: what it says of a failure, and its exit code.

use std::process::ExitCode;

use whittle_registry::causes;

/// Why a command did not do what it was asked for, in whole words, and so with which exit code it ends.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failed {
    /// The build failed: 1. What there is to say is said.
    #[error("{0}")]
    Build(String),
    /// What was asked makes no sense: 2.
    #[error("{0}")]
    Use(String),
    /// The cluster, or something that it needs, refused: 3.
    #[error("{0}")]
    Refused(String),
    /// The time is over: 124, as `timeout` has it.
    #[error("{0}")]
    Time(String),
    /// Somebody pressed Ctrl-C: 130, as a shell has it.
    #[error("{0}")]
    Interrupted(String),
}

impl Failed {
    /// The exit code.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Build(_) => 1,
            Self::Use(_) => 2,
            Self::Refused(_) => 3,
            Self::Time(_) => 124,
            Self::Interrupted(_) => 130,
        }
    }
}

/// Says what failed, and the exit code of a command.
pub(crate) fn ended(result: Result<(), Failed>) -> ExitCode {
    let Err(failed) = result else {
        return ExitCode::SUCCESS;
    };
    let text = failed.to_string();
    if !text.is_empty() {
        anstream::eprintln!("whittle: {text}");
    }
    ExitCode::from(failed.code())
}

/// What is the matter with the kubeconfig.
pub(super) fn kubeconfig(error: kube::config::KubeconfigError) -> Failed {
    Failed::Use(format!(
        "the kubeconfig cannot be used: {}: see `kubectl config get-contexts`",
        causes(&error)
    ))
}

/// Neither a kubeconfig nor a Pod's own credentials.
pub(super) fn none(error: &(dyn std::error::Error + 'static)) -> Failed {
    Failed::Refused(format!(
        "no cluster: {}: set KUBECONFIG or --kubeconfig, or build without a cluster: whittle build --local",
        causes(error)
    ))
}

/// What the API server says, of `what`.
pub(crate) fn api(error: &kube::Error, what: &str) -> Failed {
    Failed::Refused(match error {
        kube::Error::Api(answer)
            if answer.code == 404
                && (answer.reason.is_empty()
                    || answer.message.contains("the server could not find")) =>
        {
            format!(
                "{what}: this cluster does not know ImageBuilds: install Whittle's chart, or choose another --context"
            )
        }
        kube::Error::Api(answer) if answer.code == 403 => format!(
            "{what}: denied: {}: ask for a Role that allows it (kubectl auth can-i)",
            said(error)
        ),
        kube::Error::Api(_) => format!("{what}: the API server says: {}", said(error)),
        _ => format!(
            "{what}: the cluster is unreachable: {}: check the kubeconfig and the network",
            said(error)
        ),
    })
}

/// What the API server says, or why it does not.
pub(crate) fn said(error: &kube::Error) -> String {
    match error {
        // Its own text goes on with all fields of the answer.
        kube::Error::Api(answer) => answer.message.clone(),
        other => causes(other),
    }
}

/// What the API server says of an ImageBuild.
pub(super) fn of_build(error: &kube::Error, name: &str, namespace: &str) -> Failed {
    match error {
        kube::Error::Api(answer)
            if answer.code == 404
                && answer.reason == "NotFound"
                && answer.message.contains(name) =>
        {
            Failed::Refused(format!(
                "ImageBuild {name} not found in namespace {namespace}: see `whittle status -A`"
            ))
        }
        other => api(other, &format!("ImageBuild {name}")),
    }
}

/// What ended a watch.
pub(super) fn watch(error: &kube::runtime::watcher::Error, name: &str) -> Failed {
    use kube::runtime::watcher::Error;
    let what = format!("ImageBuild {name}");
    match error {
        Error::InitialListFailed(error)
        | Error::WatchStartFailed(error)
        | Error::WatchFailed(error) => api(error, &what),
        Error::WatchError(status) => {
            Failed::Refused(format!("{what}: the API server says: {}", status.message))
        }
        other => Failed::Refused(format!("{what}: {}", causes(other))),
    }
}

/// True for an answer that asking again does not change.
pub(super) fn is_final(error: &kube::runtime::watcher::Error) -> bool {
    use kube::runtime::watcher::Error;
    match error {
        Error::InitialListFailed(kube::Error::Api(answer))
        | Error::WatchStartFailed(kube::Error::Api(answer))
        | Error::WatchFailed(kube::Error::Api(answer)) => matches!(answer.code, 401 | 403 | 404),
        _ => false,
    }
}
