//! Capabilities that programs of a container may have: its bounding set.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Container;

use whittle_image::DEFAULT_CAPABILITIES;

/// A container's bounding set, as containerd makes it of the security context (internal/cri/server:
/// `ALL` first, then single ones, added and then dropped).
pub(super) struct Bounds {
    all: bool,
    added: BTreeSet<String>,
    dropped: BTreeSet<String>,
}

impl Bounds {
    pub(super) fn of(container: &Container) -> Self {
        let context = container.security_context.as_ref();
        let capabilities = context.and_then(|context| context.capabilities.as_ref());
        let set = |names: Option<&Vec<String>>| -> BTreeSet<String> {
            names
                .into_iter()
                .flatten()
                .map(|name| plain(name))
                .collect()
        };
        let (added, dropped) = (
            set(capabilities.and_then(|capabilities| capabilities.add.as_ref())),
            set(capabilities.and_then(|capabilities| capabilities.drop.as_ref())),
        );
        let privileged = context
            .and_then(|context| context.privileged)
            .unwrap_or(false);
        if privileged {
            return Self {
                all: true,
                added: BTreeSet::new(),
                dropped: BTreeSet::new(),
            };
        }
        let (mut all, mut added) = (added.contains("all"), added);
        if dropped.contains("all") {
            all = false;
        } else {
            added.extend(DEFAULT_CAPABILITIES.map(str::to_owned));
        }
        Self {
            all,
            added,
            dropped,
        }
    }

    /// True for a capability that a program may have: `cap_net_raw`.
    pub(super) fn has(&self, name: &str) -> bool {
        let name = plain(name);
        (self.all || self.added.contains(&name)) && !self.dropped.contains(&name)
    }
}

fn plain(name: &str) -> String {
    let name = name.to_ascii_lowercase();
    name.strip_prefix("cap_").unwrap_or(&name).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{Capabilities, SecurityContext};

    fn has(add: &[&str], drop: &[&str], privileged: bool) -> [bool; 3] {
        let names = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            Some(names).filter(|names| !names.is_empty())
        };
        let container = Container {
            security_context: Some(SecurityContext {
                capabilities: Some(Capabilities {
                    add: names(add),
                    drop: names(drop),
                }),
                privileged: Some(privileged),
                ..SecurityContext::default()
            }),
            ..Container::default()
        };
        let bounds = Bounds::of(&container);
        ["cap_net_raw", "cap_chown", "cap_ipc_lock"].map(|name| bounds.has(name))
    }

    #[test]
    fn a_container_may_have_what_is_added_to_the_usual_ones_and_not_dropped() {
        for (add, drop, privileged, expected) in [
            (&[][..], &[][..], false, [true, true, false]),
            (&["IPC_LOCK"], &[], false, [true, true, true]),
            (&["CAP_IPC_LOCK"], &["NET_RAW"], false, [false, true, true]),
            (&[], &["ALL"], false, [false, false, false]),
            (&[], &["all"], false, [false, false, false]),
            (&["NET_RAW"], &["ALL"], false, [true, false, false]),
            (&["ALL"], &["CHOWN"], false, [true, false, true]),
            (&["ALL"], &["ALL"], false, [false, false, false]),
            (&[], &["ALL"], true, [true, true, true]),
        ] {
            assert_eq!(
                has(add, drop, privileged),
                expected,
                "{add:?} {drop:?} {privileged}"
            );
        }
        assert!(Bounds::of(&Container::default()).has("CAP_KILL"));
    }
}
