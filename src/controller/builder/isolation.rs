//! How a Builder's daemon is isolated: what the spec asks for, what the nodes allow, and what is said of it.

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use crate::settings::Settings;
use whittle_api::{Builder, Isolation, IsolationMode, IsolationStatus, Reason};

/// How long a daemon that has never run in a user namespace may fail to start in one, before it is started without.
const PATIENCE: SignedDuration = SignedDuration::from_secs(20);
/// So for one that has: its cache is of that mode, and a node may just have come up.
const PATIENCE_OF_A_PROVEN_ONE: SignedDuration = SignedDuration::from_mins(5);

/// After this long a daemon that could not be isolated as its spec asks is started once more.
const AGAIN: SignedDuration = SignedDuration::from_mins(5);

/// What the status said last.
fn known(builder: &Builder) -> Option<&IsolationStatus> {
    builder.status.as_ref()?.isolation.as_ref()
}

/// How the daemon is to be isolated: with `Auto` in a user namespace, until one is found not to work.
pub fn wanted(builder: &Builder, settings: &Settings) -> IsolationStatus {
    let mode = match builder.spec.isolation {
        Isolation::UserNamespace => IsolationMode::UserNamespace,
        Isolation::Rootless => IsolationMode::Rootless,
        Isolation::Auto => {
            // What the spec asked for before Auto is not what was found.
            let found = known(builder)
                .filter(|it| it.mode == IsolationMode::UserNamespace || it.message.is_some());
            if let Some(found) = found {
                return found.clone();
            }
            if settings.builder.seccomp_profile.is_none() {
                return IsolationStatus {
                    mode: IsolationMode::Rootless,
                    message: Some(
                        "this installation puts no seccomp profile on the nodes: set builder.nodeProfiles.install=true in \
                         the chart; then delete the Builder, and it is created again in a user namespace"
                            .into(),
                    ),
                    ..IsolationStatus::default()
                };
            }
            IsolationMode::UserNamespace
        }
    };
    match known(builder).filter(|known| known.mode == mode) {
        Some(known) => IsolationStatus {
            message: None,
            ..known.clone()
        },
        None => IsolationStatus {
            mode,
            ..IsolationStatus::default()
        },
    }
}

/// What is done where the daemon does not start in a user namespace of its own since `since`, for this reason: none
/// where it may yet come up, or where nothing else is allowed.
pub fn instead(
    builder: &Builder,
    settings: &Settings,
    (reason, why): (Reason, &str),
    since: Timestamp,
    now: Timestamp,
) -> Option<IsolationStatus> {
    let stands = wanted(builder, settings);
    let may =
        builder.spec.isolation == Isolation::Auto && stands.mode == IsolationMode::UserNamespace;
    if !may || !is_of_isolation(reason, why) {
        return None;
    }
    let patience = match stands.proven {
        true => PATIENCE_OF_A_PROVEN_ONE,
        false => PATIENCE,
    };
    (now.duration_since(since) >= patience).then(|| IsolationStatus {
        mode: IsolationMode::Rootless,
        message: Some(format!(
            "no user namespace: {why}. For another try, delete the Builder (and with it its cache), and it is created again"
        )),
        ..IsolationStatus::default()
    })
}

/// How long it is until a daemon that could not be isolated as the spec asks is started once more: none where it is to
/// be up. Meanwhile there is no Pod that would crash again and again.
pub fn rests_for(
    builder: &Builder,
    isolation: &IsolationStatus,
    now: Timestamp,
) -> Option<SignedDuration> {
    let status = builder.status.as_ref()?;
    if status.observed_generation != builder.metadata.generation {
        return None;
    }
    let left = AGAIN - now.duration_since(isolation.failed_at.as_ref()?.0);
    left.is_positive().then_some(left)
}

/// True where a daemon fails for what a user namespace, or what goes with one, needs of its node: its sandbox, its
/// profile, its volumes' ID mapping, or what it tries out itself before it starts.
pub fn is_of_isolation(reason: Reason, why: &str) -> bool {
    match reason {
        Reason::SandboxFailed
        | Reason::CreateContainerError
        | Reason::RunContainerError
        | Reason::NotIsolated => true,
        Reason::CrashLoop | Reason::MountFailed => {
            let why = why.to_lowercase();
            [
                "idmap",
                "id-map",
                "mount_attr_idmap",
                "newuidmap",
                "newgidmap",
                "rootlesskit",
            ]
            .iter()
            .any(|sign| why.contains(sign))
        }
        _ => false,
    }
}

/// What to do about what the node, or runc on it, says; none where that is not known.
pub fn fix(said: &str) -> Option<&'static str> {
    const FIXES: [(&[&str], &str); 7] = [
        (
            &["seccomp"],
            "the node lacks Whittle's seccomp profile: see that builder.nodeProfiles.install of the chart is true, that its DaemonSet \
             has a Pod on that node, and that builder.nodeProfiles.kubeletPath is the kubelet's folder there; or put the file there \
             yourself (docs/isolation.md)",
        ),
        (
            &["apparmor"],
            "the node lacks the AppArmor profile that builder.appArmorProfile of the chart names: load it there \
             (docs/isolation.md)",
        ),
        (
            &["newuidmap", "newgidmap"],
            "the IDs of a user namespace cannot be mapped on that node: see that user.max_user_namespaces is not 0, and that \
             kernel.apparmor_restrict_unprivileged_userns is 0 or an AppArmor profile is set",
        ),
        (
            &["idmap", "id-map"],
            "the file system of a volume of the Pod takes no ID-mapped mounts: use a StorageClass with ext4, xfs or btrfs (not \
             NFS), and Linux 6.3 or newer",
        ),
        (
            &["rootlesskit"],
            "the node does not let a Pod mount within its user namespace: where it has AppArmor, load a profile there and name it \
             in builder.appArmorProfile of the chart (docs/isolation.md)",
        ),
        (
            &["no space left on device", "max_user_namespaces"],
            "the node has no room for another user namespace: raise user.max_user_namespaces there (sysctl)",
        ),
        (
            &["user namespace", "hostusers", "userns"],
            "the node's container runtime or kernel has no user namespaces for Pods: containerd 2.0, CRI-O 1.25, runc 1.2 or crun \
             1.9, Linux 6.3, or newer",
        ),
    ];
    let said = said.to_lowercase();
    let fits = |signs: &[&str]| signs.iter().any(|sign| said.contains(sign));
    FIXES
        .iter()
        .find(|(signs, _)| fits(signs))
        .map(|(_, fix)| *fix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use whittle_api::BuilderStatus;

    fn now() -> Timestamp {
        Timestamp::from_second(1_000_000).unwrap()
    }

    fn builder(isolation: Isolation, known: Option<IsolationStatus>) -> Builder {
        let mut builder = fixtures::builder();
        builder.spec.isolation = isolation;
        builder.status = Some(BuilderStatus {
            isolation: known,
            ..BuilderStatus::default()
        });
        builder
    }

    fn proven(mode: IsolationMode) -> IsolationStatus {
        IsolationStatus {
            mode,
            proven: true,
            ..IsolationStatus::default()
        }
    }

    /// What stands in for a user namespace after so many seconds of a reason.
    fn after(
        builder: &Builder,
        reason: Reason,
        why: &str,
        seconds: i64,
    ) -> Option<IsolationStatus> {
        let since = now() - SignedDuration::from_secs(seconds);
        instead(builder, &fixtures::settings(), (reason, why), since, now())
    }

    #[test]
    fn auto_begins_in_a_user_namespace_and_stays_with_what_was_found() {
        let settings = fixtures::settings();
        let mode = |known| wanted(&builder(Isolation::Auto, known), &settings).mode;
        assert_eq!(mode(None), IsolationMode::UserNamespace);
        let found = proven(IsolationMode::UserNamespace);
        assert_eq!(mode(Some(found)), IsolationMode::UserNamespace);
        let found = IsolationStatus {
            message: Some("no user namespace: x".into()),
            ..proven(IsolationMode::Rootless)
        };
        assert_eq!(mode(Some(found)), IsolationMode::Rootless);
    }

    #[test]
    fn auto_after_rootless_tries_a_user_namespace() {
        let asked = builder(Isolation::Auto, Some(proven(IsolationMode::Rootless)));
        let found = wanted(&asked, &fixtures::settings());
        assert_eq!(found, IsolationStatus::default());
    }

    #[test]
    fn without_a_profile_on_the_nodes_auto_is_rootless_and_says_what_to_do() {
        let mut settings = fixtures::settings();
        settings.builder.seccomp_profile = None;
        let found = wanted(&builder(Isolation::Auto, None), &settings);
        assert_eq!(found.mode, IsolationMode::Rootless);
        assert!(
            found
                .message
                .unwrap()
                .contains("builder.nodeProfiles.install=true")
        );
        let asked = wanted(&builder(Isolation::UserNamespace, None), &settings);
        assert_eq!(asked.mode, IsolationMode::UserNamespace);
    }

    #[test]
    fn what_the_spec_asks_for_wins_over_what_was_found() {
        let settings = fixtures::settings();
        let known = IsolationStatus {
            message: Some("no user namespace".into()),
            ..proven(IsolationMode::Rootless)
        };
        let found = wanted(
            &builder(Isolation::UserNamespace, Some(known.clone())),
            &settings,
        );
        assert_eq!(found, IsolationStatus::default());
        let found = wanted(&builder(Isolation::Rootless, Some(known)), &settings);
        assert_eq!(found, proven(IsolationMode::Rootless));
    }

    #[test]
    fn auto_goes_on_without_a_user_namespace_where_one_does_not_come_up() {
        let new = builder(Isolation::Auto, None);
        let said = "cannot load seccomp profile";
        assert_eq!(after(&new, Reason::CreateContainerError, said, 10), None);
        let found = after(&new, Reason::CreateContainerError, said, 20).unwrap();
        assert_eq!((found.mode, found.proven), (IsolationMode::Rootless, false));
        assert!(found.message.unwrap().contains(said));
    }

    #[test]
    fn a_cache_of_that_mode_is_not_given_up_for_a_node_that_has_just_come_up() {
        let proven = builder(Isolation::Auto, Some(proven(IsolationMode::UserNamespace)));
        assert_eq!(
            after(&proven, Reason::SandboxFailed, "user namespaces", 60),
            None
        );
        assert!(after(&proven, Reason::SandboxFailed, "user namespaces", 300).is_some());
    }

    #[test]
    fn other_troubles_and_other_specs_change_nothing() {
        let auto = builder(Isolation::Auto, None);
        for (reason, why) in [
            (Reason::Unschedulable, "no node"),
            (Reason::CrashLoop, "exit code 1"),
            (Reason::MountFailed, "timed out"),
            (Reason::PodSecurity, "seccomp"),
        ] {
            assert_eq!(after(&auto, reason, why, 3600), None, "{reason}");
        }
        assert!(
            after(
                &auto,
                Reason::CrashLoop,
                "set MOUNT_ATTR_IDMAP: invalid argument",
                3600
            )
            .is_some()
        );
        for isolation in [Isolation::UserNamespace, Isolation::Rootless] {
            let asked = builder(isolation, None);
            assert_eq!(after(&asked, Reason::NotIsolated, "x", 3600), None);
        }
    }

    #[test]
    fn one_that_could_not_be_isolated_as_asked_rests_until_it_is_tried_again() {
        let mut asked = builder(Isolation::UserNamespace, None);
        asked.status.as_mut().unwrap().observed_generation = asked.metadata.generation;
        let failed = |seconds: i64| IsolationStatus {
            failed_at: Some(Time(now() - SignedDuration::from_secs(seconds))),
            ..IsolationStatus::default()
        };
        let rests = |builder: &Builder, seconds| rests_for(builder, &failed(seconds), now());
        assert_eq!(rests(&asked, 60), Some(SignedDuration::from_mins(4)));
        assert_eq!(rests(&asked, 300), None);
        // Another spec may ask for less.
        asked.metadata.generation = Some(2);
        assert_eq!(rests(&asked, 60), None);
    }

    #[test]
    fn what_nodes_say_has_a_fix() {
        for (said, fix) in [
            (
                r#"failed to generate seccomp spec opts: cannot load seccomp profile "/var/lib/kubelet/seccomp/whittle/builder-v1.json": no such file"#,
                "DaemonSet",
            ),
            (
                "failed to set MOUNT_ATTR_IDMAP on /var/lib/kubelet/x: invalid argument",
                "StorageClass",
            ),
            (
                "newuidmap: write to uid_map failed: Operation not permitted",
                "max_user_namespaces",
            ),
            (
                "can't set `spec.hostUsers: false`, runtime does not support user namespaces",
                "containerd 2.0",
            ),
            (
                "[rootlesskit:child ] error: failed to share mount point: /: permission denied",
                "builder.appArmorProfile",
            ),
            ("apparmor profile not found whittle", "AppArmor"),
        ] {
            assert!(super::fix(said).unwrap().contains(fix), "{said}");
        }
        assert_eq!(super::fix("exit code 1"), None);
    }
}
