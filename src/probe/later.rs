//! Programs that a container has and its image has not: those of the kernel's file systems, those that
//! device plugins bring, and those that the container's own command puts there.

use k8s_openapi::api::core::v1::{Container, PodSpec};

use super::paths;

/// File systems that every runtime mounts (config-linux.md of the runtime specification): `/proc/1/exe`
/// is a program of the container.
const KERNEL: [&str; 3] = ["/proc", "/sys", "/dev"];

/// What may bring programs into a container: a runtime of its own (as those of GPUs do), or devices, which
/// plugins and CDI hand in with their tools.
pub(super) fn added(pod: &PodSpec, container: &Container) -> Option<String> {
    if let Some(class) = pod
        .runtime_class_name
        .as_ref()
        .filter(|class| !class.is_empty())
    {
        return Some(format!("the Pod's runtime class {class} may add programs"));
    }
    let resources = container.resources.as_ref()?;
    if resources
        .claims
        .as_ref()
        .is_some_and(|claims| !claims.is_empty())
    {
        return Some("the devices that the container claims may bring programs".into());
    }
    let asked = resources.limits.iter().chain(&resources.requests);
    asked
        .flat_map(|quantities| quantities.keys())
        .find(|name| name.contains('/') && !name.contains("kubernetes.io/"))
        .map(|name| format!("the plugin of {name} may bring programs"))
}

/// The container's command, where it can write into its own files; empty where it cannot.
pub(super) fn writes(container: &Container) -> String {
    let fixed = container
        .security_context
        .as_ref()
        .and_then(|context| context.read_only_root_filesystem)
        .unwrap_or(false);
    if fixed {
        return String::new();
    }
    let words = container.command.iter().chain(&container.args).flatten();
    words.map(String::as_str).collect::<Vec<_>>().join(" ")
}

/// Why a program may be at a path though the image does not have it.
pub(super) fn put_there(path: &str, added: Option<&str>, writes: &str) -> Option<String> {
    if KERNEL.iter().any(|folder| paths::within(path, folder)) {
        return Some(format!(
            "{path} is made by the kernel as the container runs"
        ));
    }
    if let Some(added) = added {
        return Some(format!("the image does not have {path}, and {added}"));
    }
    // Such as `apk add curl && exec /app`, or `cp /tools/curl /usr/bin/`.
    let installs = writes.contains("apk add") || writes.contains("install");
    let named = || {
        writes
            .split(|c: char| !c.is_alphanumeric() && !"._-".contains(c))
            .any(|word| word == paths::name(path))
    };
    (installs || (!writes.is_empty() && named())).then(|| {
        format!("the image does not have {path}, and the container's own command may put it there")
    })
}
