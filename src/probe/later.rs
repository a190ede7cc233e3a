//! Programs that a container has and its image has not: those of the kernel's file systems, those that
//! device plugins bring, and those that the container's own command puts there.

use std::collections::HashSet;

use k8s_openapi::api::core::v1::{Container, PodSpec};

use super::paths;

/// File systems that every runtime mounts (config-linux.md of the runtime specification): `/proc/1/exe`
/// is a program of the container.
pub(super) const KERNEL: [&str; 3] = ["/proc", "/sys", "/dev"];

/// In the names of resources that no plugin brings programs with.
pub(super) const KUBERNETES: &str = "kubernetes.io/";
/// In the words of commands that install programs.
pub(super) const INSTALLS: [&str; 2] = ["apk add", "install"];

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
        .find(|name| name.contains('/') && !name.contains(KUBERNETES))
        .map(|name| format!("the plugin of {name} may bring programs"))
}

/// What the container's own command may write into its files.
#[derive(Debug, Default)]
pub(super) struct Writes<'a> {
    /// It runs what installs programs.
    installs: bool,
    /// Its words, one of which may be a program's name.
    names: HashSet<&'a str>,
}

impl<'a> Writes<'a> {
    /// Nothing where the container cannot write.
    pub(super) fn of(container: &'a Container) -> Self {
        let fixed = container
            .security_context
            .as_ref()
            .and_then(|context| context.read_only_root_filesystem)
            .unwrap_or(false);
        let mut writes = Self::default();
        if fixed {
            return writes;
        }
        let words = container.command.iter().chain(&container.args).flatten();
        let mut last = "";
        for word in words {
            writes.installs |= INSTALLS.iter().any(|text| word.contains(text))
                || (last.ends_with("apk") && word.starts_with("add"));
            last = word;
            let parts = word.split(|c: char| !c.is_alphanumeric() && !"._-".contains(c));
            writes.names.extend(parts.filter(|part| !part.is_empty()));
        }
        writes
    }
}

/// Why a program may be at a path though the image does not have it.
pub(super) fn put_there(path: &str, added: Option<&str>, writes: &Writes<'_>) -> Option<String> {
    if KERNEL.iter().any(|folder| paths::within(path, folder)) {
        return Some(format!("{path} is provided by the kernel at run time"));
    }
    if let Some(added) = added {
        return Some(format!("{path} not found in the image, and {added}"));
    }
    // Such as `apk add curl && exec /app`, or `cp /tools/curl /usr/bin/`.
    (writes.installs || writes.names.contains(paths::name(path))).then(|| {
        format!("{path} not found in the image, and the container's own command may put it there")
    })
}
