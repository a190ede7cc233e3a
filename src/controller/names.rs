//! Every name that we give, and every label that we set.
//!
//! Names are deterministic, and short enough for what the cluster derives from them: a Pod's name is
//! its Job's plus six characters, a StatefulSet's revision label its name plus eleven, each within 63.

use std::collections::BTreeMap;

use whittle_image::digest_of;

/// Our field manager in server-side apply.
pub const FIELD_MANAGER: &str = "whittle";
/// Selects what Whittle made: each of its objects carries this label, and the chart's policies let the controller write
/// no other.
pub const MANAGED: &str = "app.kubernetes.io/managed-by=whittle";
/// Which part of Whittle an object is: [`RUNNER`], [`GATE`] or [`BUILDER`].
pub const COMPONENT: &str = "whittle.dev/component";
/// Value of [`COMPONENT`] on runner Jobs and Pods.
pub const RUNNER: &str = "runner";
/// Value of [`COMPONENT`] on the Jobs and Pods that check an image.
pub const GATE: &str = "gate";
/// Value of [`COMPONENT`] on a Builder's objects.
pub const BUILDER: &str = "builder";
/// Value of [`COMPONENT`] on the objects of a watcher.
pub const WATCHER: &str = "watcher";
/// Label: name of the Builder that an object serves.
pub const BUILDER_NAME: &str = "whittle.dev/builder";
/// Label: UID of the ImageBuild that an object serves.
pub const IMAGE_BUILD_UID: &str = "whittle.dev/imagebuild-uid";
/// Annotation: name of the ImageBuild; too long for a label.
pub const IMAGE_BUILD: &str = "whittle.dev/imagebuild";
/// Annotation: number of the build that a Job serves.
pub const BUILD: &str = "whittle.dev/build";
/// Label of the Job and the Pod of a runner that was made in advance, for an attempt that has not begun.
pub const STANDBY: &str = "whittle.dev/standby";
/// Annotation of such a Job: digest of all that its Pod was made from.
pub const TEMPLATE: &str = "whittle.dev/template";
/// Annotation: the replica of the Builder that a Job runs on, where that has several.
pub const REPLICA: &str = "whittle.dev/replica";
/// Label of Kueue on what is to wait in a LocalQueue: its name.
pub const KUEUE_QUEUE: &str = "kueue.x-k8s.io/queue-name";
/// Labels of an ImageBuild that its runners' Jobs get too: Kueue reads them there. Their values were checked by the API server, as
/// those of any label.
pub const HANDED_ON: [&str; 2] = [KUEUE_QUEUE, "kueue.x-k8s.io/priority-class"];
/// Annotation on a StatefulSet whose Pod was refused: when its controller was last asked to try again.
pub const TRIED_AT: &str = "whittle.dev/tried-at";
/// Annotation on a Builder's NetworkPolicy: where the addresses come from that it closes to build steps.
pub const EGRESS: &str = "whittle.dev/egress";
/// Annotation on the daemon's Pod template: digest of all that the daemon is started with.
pub const CONFIG_DIGEST: &str = "whittle.dev/config-digest";

/// Annotation on the same: the daemon is started anew where its Pod is older than that.
pub const RESTARTED_AT: &str = "whittle.dev/restarted-at";

/// Annotation on the Lease: where the leader serves the callback, address and port.
pub const LEADER_ADDRESS: &str = "whittle.dev/address";

/// Name of the Lease by which the controllers of an installation (`namespace/name`) agree who leads; it is in their own
/// namespace.
pub fn lease(installation: &str) -> String {
    let name = installation.rsplit('/').next().unwrap_or_default();
    format!("{name}-controller")
}

/// Name of the Secret with the installation's root authority, in Whittle's own namespace.
pub const AUTHORITY: &str = "whittle-ca";

/// Characters of a Builder's name, at most: names and label values are made from it.
const BUILDER_MOST: usize = 36;

/// Whether a Builder of this name can be at all. The rules of the CRD say the same; objects that are older than
/// them are still there.
///
/// # Errors
/// What is wrong with it, for people.
pub fn check_builder(name: &str) -> Result<(), String> {
    let length = name.chars().count();
    if length > BUILDER_MOST {
        return Err(format!(
            "too long: {length} characters, and at most {BUILDER_MOST} are allowed"
        ));
    }
    let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let within = |c: char| edge(c) || matches!(c, '-' | '.');
    let fine = name.chars().all(within) && name.starts_with(edge) && name.ends_with(edge);
    match fine {
        true => Ok(()),
        false => Err(
            "use lowercase letters, digits, - and ., starting and ending with a letter or digit"
                .into(),
        ),
    }
}

/// Name of the Builder's StatefulSet, Service, ConfigMap and NetworkPolicy.
pub fn builder(name: &str) -> String {
    format!("whittle-builder-{name}")
}

/// Name of the Builder that an ImageBuild has to itself, made after the Builder `of` that it names; `whose` says for what:
/// the UID of the ImageBuild, or an attempt at it.
pub fn own_builder(of: &str, whose: &str) -> String {
    let hash = short_digest(format!("{of}/{whose}").as_bytes());
    let head: String = of.chars().take(BUILDER_MOST - 1 - hash.len()).collect();
    format!("{}-{hash}", head.trim_end_matches('-'))
}

/// Name of the Builder that is the daemon for one platform of the Builder `of`.
pub fn platform_builder(of: &str, platform: &str) -> String {
    let name = format!("{of}-{}", platform.replace('/', "-"));
    match check_builder(&name) {
        Ok(()) => name,
        Err(_) => own_builder(of, platform),
    }
}

/// Name of the Secret with the daemon's certificate.
pub fn builder_server_tls(name: &str) -> String {
    format!("{}-server", builder(name))
}

/// Name of the Secret with the certificate of this Builder's runners.
pub fn builder_client_tls(name: &str) -> String {
    format!("{}-client", builder(name))
}

/// The Pod of a Builder's replica, by the StatefulSet's rules.
pub fn builder_pod(name: &str, replica: i32) -> String {
    format!("{}-{replica}", builder(name))
}

/// DNS name of the daemon of a Builder's replica.
pub fn builder_host(name: &str, namespace: &str, replica: i32) -> String {
    format!(
        "{}.{}.{namespace}.svc",
        builder_pod(name, replica),
        builder(name)
    )
}

/// The name in the certificate of a Builder's daemons: all replicas have the same one, and with it this name.
pub fn builder_server_name(name: &str, namespace: &str) -> String {
    builder_host(name, namespace, 0)
}

/// Name of the Job, and of the ConfigMap, of one attempt: the same for the same attempt, whoever asks.
pub fn attempt(image_build: &str, uid: &str, generation: i64, build: i64, attempt: i32) -> String {
    let hash = short_digest(format!("{uid}/{generation}/{build}/{attempt}").as_bytes());
    let head: String = image_build
        .chars()
        .take(44)
        .map(|c| if c == '.' { '-' } else { c })
        .collect();
    format!("{}-{hash}", head.trim_end_matches('-'))
}

/// Name of the Job that is made in advance for the first attempt at this build, from what has this digest.
pub fn standby(image_build: &str, uid: &str, build: i64, template: &str) -> String {
    // As long as that of any attempt; and no attempt has this number.
    child(
        &attempt(image_build, uid, 0, build, 0),
        &format!("standby/{template}"),
    )
}

/// True for a name as [`attempt`] and [`child`] give it: the chart's policies let the controller write no other.
pub fn is_attempt(name: &str) -> bool {
    name.rsplit_once('-').is_some_and(|(head, hash)| {
        !head.is_empty()
            && hash.len() == 10
            && hash
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// Name of a Job that follows an attempt: the same for the same attempt and purpose.
pub fn child(attempt: &str, purpose: &str) -> String {
    let hash = short_digest(format!("{attempt}/{purpose}").as_bytes());
    // An attempt's name ends in its own hash, which this one stands for.
    let head = attempt.rsplit_once('-').map_or(attempt, |(head, _)| head);
    format!("{head}-{hash}")
}

/// Name of the Secret with the credential of one attempt: a user's Secret has it only on purpose.
pub fn credential(uid: &str, job: &str) -> String {
    let hash = &digest_of(format!("{uid}/{job}").as_bytes())["sha256:".len()..][..40];
    format!("{CREDENTIAL}{hash}")
}

/// Begins the name of every Secret with the credential of an attempt.
const CREDENTIAL: &str = "whittle-attempt-";

/// True for what can be the name of an object of ours, and so is one segment of a path: small letters, digits, `-`
/// and `.` (<https://kubernetes.io/docs/concepts/overview/working-with-objects/names/#dns-subdomain-names>).
pub fn is_object(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    name.len() <= 253
        && name
            .split('.')
            .all(|part| !part.is_empty() && part.chars().all(plain))
}

/// Labels of the Job and Pod that check an image.
pub fn gate_labels(uid: &str) -> BTreeMap<String, String> {
    [
        ("app.kubernetes.io/name", "whittle"),
        ("app.kubernetes.io/component", GATE),
        ("app.kubernetes.io/managed-by", "whittle"),
        (COMPONENT, GATE),
        (IMAGE_BUILD_UID, uid),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .collect()
}

/// Labels of everything that belongs to a Builder.
pub fn builder_labels(name: &str) -> BTreeMap<String, String> {
    labels(BUILDER, name)
}

/// Name of all objects of the watcher that serves a Builder's ImageBuilds.
pub fn watcher(builder: &str) -> String {
    format!("{}-watcher", self::builder(builder))
}

/// Labels of those.
pub fn watcher_labels(builder: &str) -> BTreeMap<String, String> {
    labels(WATCHER, builder)
}

/// Labels of a runner's Job and Pod.
pub fn runner_labels(builder: &str, uid: &str) -> BTreeMap<String, String> {
    let mut all = labels(RUNNER, builder);
    all.insert(IMAGE_BUILD_UID.into(), uid.into());
    all
}

fn labels(component: &str, builder: &str) -> BTreeMap<String, String> {
    [
        ("app.kubernetes.io/name", "whittle"),
        ("app.kubernetes.io/component", component),
        ("app.kubernetes.io/managed-by", "whittle"),
        (COMPONENT, component),
        (BUILDER_NAME, builder),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .collect()
}

/// Ten hexadecimal digits, for names.
fn short_digest(bytes: &[u8]) -> String {
    digest_of(bytes)["sha256:".len()..][..10].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_attempt_has_the_same_name_and_another_one_another() {
        let name = attempt("hello", "u", 1, 1, 1);
        assert_eq!(name, attempt("hello", "u", 1, 1, 1));
        for other in [
            attempt("hello", "v", 1, 1, 1),
            attempt("hello", "u", 2, 1, 1),
            attempt("hello", "u", 1, 2, 1),
            attempt("hello", "u", 1, 1, 2),
        ] {
            assert_ne!(name, other);
        }
    }

    #[test]
    fn a_name_leaves_room_for_the_pod_and_is_a_dns_label() {
        let name = attempt(&format!("{}.example", "a".repeat(60)), "u", 1, 1, 1);
        assert!(name.len() <= 57, "{name}");
        let dotted = attempt(&format!("{}.x", "a".repeat(43)), "u", 1, 1, 1);
        assert!(!dotted.contains('.') && !dotted.contains("--"), "{dotted}");
    }

    #[test]
    fn what_follows_an_attempt_has_a_name_of_its_own_and_as_short() {
        let name = attempt(&"a".repeat(60), "u", 1, 1, 1);
        let tags = child(&name, "tags");
        assert_eq!(tags.len(), name.len());
        assert_ne!(tags, name);
        assert_ne!(tags, child(&name, "linux/amd64"));
        for name in [&name, &tags] {
            assert!(is_attempt(name), "{name}");
        }
        for name in ["by-hand", "by-0123456789abc", "-0123456789", "a-012345678G"] {
            assert!(!is_attempt(name), "{name}");
        }
    }

    #[test]
    fn what_could_be_another_path_is_no_name() {
        assert!(is_object("hello") && is_object("a.b-c.0"));
        for name in [
            "",
            ".",
            "..",
            "a/status",
            "../builders/b",
            "a?b",
            "a%2fb",
            "a..b",
            "A",
        ] {
            assert!(!is_object(name), "{name}");
        }
        assert!(!is_object(&"a".repeat(254)));
    }

    #[test]
    fn the_credential_of_an_attempt_has_a_name_of_our_own_that_fits() {
        let job = attempt(&"a".repeat(60), "u", 1, 1, 1);
        let name = credential("11111111-1111-1111-1111-111111111111", &job);
        assert!(name.len() <= 63, "{name}");
        assert!(whittle_api::is_managed_secret(&name));
        assert_ne!(
            name,
            credential("11111111-1111-1111-1111-111111111112", &job)
        );
        assert!(whittle_api::is_managed_secret(&builder_client_tls(
            "default"
        )));
        assert!(!whittle_api::is_managed_secret("whittle-registry"));
    }

    #[test]
    fn the_longest_builder_leaves_room_for_the_revision_label() {
        assert!(builder(&"b".repeat(36)).len() + "-0123456789".len() <= 63);
    }
}
