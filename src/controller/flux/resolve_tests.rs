use serde_json::json;

use super::*;

const COMMIT: &str = "837dd142b9ed4a2a48537e32a6406699dbe776bd";

fn source(kind: FluxKind) -> FluxSource {
    FluxSource {
        kind,
        name: "app".into(),
        sub_path: Some("cmd".into()),
    }
}

fn digest() -> String {
    format!("sha256:{}", "a".repeat(64))
}

/// An object that is ready, with this change.
fn object(change: Value) -> Object {
    let mut object = json!({
        "metadata": {"generation": 2},
        "spec": {"url": "https://git.example.com/app", "secretRef": {"name": "git"}, "ref": {"branch": "main"}},
        "status": {
            "observedGeneration": 2,
            "artifact": {
                "revision": format!("main@sha1:{COMMIT}"),
                "url": "http://source-controller.flux-system.svc.cluster.local./a.tar.gz",
                "digest": digest(),
            },
            "conditions": [
                {"type": "Reconciling", "status": "False", "reason": "r", "message": "m"},
                {"type": "Ready", "status": "True", "reason": "Succeeded", "message": "stored artifact"},
            ],
        },
    });
    json_patch::merge(&mut object, &change);
    Object::take(object)
}

fn revision(text: &str) -> Value {
    json!({"status": {"artifact": {"revision": text}}})
}

fn pinned(kind: FluxKind, change: Value) -> Pinned {
    resolve(&source(kind), Some(&object(change))).unwrap()
}

fn waits(kind: FluxKind, change: Value) -> Pending {
    resolve(&source(kind), Some(&object(change))).unwrap_err()
}

fn git(change: Value) -> (String, GitSource) {
    let pinned = pinned(FluxKind::GitRepository, change);
    assert_eq!(pinned.fetched.tarball, None);
    (pinned.fetched.revision, pinned.source.git.unwrap())
}

#[test]
fn a_git_repository_is_its_url_its_secret_and_the_commit_that_flux_has_fetched() {
    let (revision, git) = git(json!({}));
    assert_eq!(revision, format!("main@sha1:{COMMIT}"));
    assert_eq!(git.url, "https://git.example.com/app");
    assert_eq!(git.secret_ref.unwrap().name, "git");
    assert_eq!(git.sub_path.as_deref(), Some("cmd"));
    let reference = git.reference.unwrap();
    assert_eq!(reference.commit.as_deref(), Some(COMMIT));
    assert_eq!(reference.branch.as_deref(), Some("main"));
}

#[test]
fn the_commit_may_stand_alone_and_a_tag_is_not_taken_for_a_branch() {
    let of = |text: &str, asked: Value| {
        let mut change = revision(text);
        change["spec"] = json!({"ref": asked});
        let reference = git(change).1.reference.unwrap();
        assert!(reference.commit.is_some());
        (reference.branch, reference.tag)
    };
    let alone = format!("sha1:{COMMIT}");
    assert_eq!(of(&alone, json!({"commit": COMMIT})), (None, None));
    let sha256 = format!("main@sha256:{}", "b".repeat(64));
    assert_eq!(of(&sha256, json!(null)), (Some("main".into()), None));
    let tag = format!("v1@sha1:{COMMIT}");
    for asked in [json!({"tag": "v1"}), json!({"semver": "1.x"})] {
        assert_eq!(of(&tag, asked), (None, Some("v1".into())));
    }
    let whole = format!("refs/pull/1/head@sha1:{COMMIT}");
    let asked = json!({"name": "refs/pull/1/head"});
    assert_eq!(of(&whole, asked), (None, None));
    // What is cut somewhere would never be what was built.
    let long = format!("{}@{alone}", "b".repeat(255));
    assert_eq!(git(revision(&long)).0, alone);
    // A branch may hold an @ itself.
    let odd = format!("a@b@sha1:{COMMIT}");
    assert_eq!(of(&odd, json!({"branch": "a@b"})).0.as_deref(), Some("a@b"));
}

#[test]
fn an_oci_repository_is_its_digest() {
    let mut change = revision(&format!("latest@{}", digest()));
    change["spec"] = json!({"url": "oci://ghcr.io/team/app", "ref": null});
    let pinned = pinned(FluxKind::OCIRepository, change.clone());
    assert_eq!(pinned.fetched.revision, format!("oci@{}", digest()));
    let oci = pinned.source.oci.unwrap();
    assert_eq!(oci.image, format!("ghcr.io/team/app@{}", digest()));
    assert_eq!(oci.secret_ref.unwrap().name, "git");
    change["spec"] = json!({"url": "https://ghcr.io/team/app"});
    assert!(waits(FluxKind::OCIRepository, change).blocked);
}

#[test]
fn a_bucket_is_the_archive_and_its_secret_is_not_needed() {
    for kind in [FluxKind::Bucket, FluxKind::ExternalArtifact] {
        let pinned = pinned(kind, revision("sha256:bb"));
        assert_eq!(pinned.source, Source::default());
        let tarball = pinned.fetched.tarball.unwrap();
        assert!(tarball.url.ends_with("/a.tar.gz") && tarball.digest == digest());
        for artifact in [
            json!({"url": "file:///etc/passwd"}),
            json!({"url": "http://h/a b"}),
            json!({"digest": "sha256:short"}),
        ] {
            let wait = waits(kind, json!({"status": {"artifact": artifact}}));
            assert!(wait.blocked && wait.message.contains("status.artifact"));
        }
    }
    let bare = json!({"status": {"conditions": null, "observedGeneration": null}});
    pinned(FluxKind::ExternalArtifact, bare.clone());
    assert!(resolve(&source(FluxKind::Bucket), Some(&object(bare))).is_err());
}

#[test]
fn what_flux_says_is_told_and_bounded() {
    let ready = |status: &str, message: &str| json!({"status": {"conditions": [{"type": "Ready", "status": status, "reason": "GitOperationFailed", "message": message}]}});
    let failed = waits(
        FluxKind::GitRepository,
        ready("False", "authentication required: "),
    );
    assert!(failed.blocked);
    assert_eq!(failed.reason, Reason::SourceNotReady);
    assert_eq!(
        failed.message,
        "GitRepository app is not ready: Flux says GitOperationFailed: authentication required"
    );
    let mut edited = ready("False", "no such branch");
    edited["metadata"] = json!({"generation": 3});
    assert!(
        waits(FluxKind::GitRepository, edited)
            .message
            .ends_with("no such branch")
    );
    let long = waits(FluxKind::GitRepository, ready("False", &"x".repeat(9000)));
    assert!(long.message.len() < 700);
    // What comes by itself is nobody's fault.
    for change in [
        ready("Unknown", "building artifact"),
        json!({"status": {"conditions": null}}),
        json!({"status": {"artifact": null}}),
        json!({"metadata": {"generation": 3}}),
    ] {
        let wait = waits(FluxKind::GitRepository, change);
        assert!(
            !wait.blocked && wait.message.starts_with("waiting for Flux"),
            "{wait:?}"
        );
    }
}

#[test]
fn a_source_that_does_not_exist_is_named() {
    let wait = resolve(&source(FluxKind::Bucket), None).unwrap_err();
    assert!(wait.blocked);
    assert_eq!(wait.reason, FailureReason::SourceNotFound.into());
    assert!(
        wait.message
            .starts_with("Bucket app not found in this namespace: create it")
    );
}

#[test]
fn what_cannot_be_built_says_why() {
    for (change, words) in [
        (
            json!({"spec": {"url": "git://h/x"}}),
            "spec.url is not a URL",
        ),
        (
            json!({"spec": {"url": "https://h/x#main"}}),
            "spec.url is not a URL",
        ),
        (
            json!({"spec": {"url": "https://bob:pw@h/x"}}),
            "has credentials",
        ),
        (json!({"spec": {"url": null}}), "spec.url is not a URL"),
        (
            json!({"spec": {"provider": "azure"}}),
            "spec.provider is azure",
        ),
        (
            json!({"spec": {"secretRef": {"name": "whittle-ca"}}}),
            "belongs to Whittle",
        ),
        (revision("main@sha1:short"), "does not end in sha1"),
        (revision(&format!("main/{COMMIT}")), "does not end in sha1"),
        (revision(&"x".repeat(600)), "missing or invalid"),
        (revision("a\nb"), "missing or invalid"),
    ] {
        let wait = waits(FluxKind::GitRepository, change);
        assert!(wait.blocked && wait.message.contains(words), "{wait:?}");
        assert!(!wait.message.contains("pw@"), "{wait:?}");
    }
    // Nothing of what is odd makes the program fail.
    for odd in [
        json!({"status": {"conditions": 1}}),
        json!({"status": {"artifact": {"revision": 1}}}),
    ] {
        assert!(resolve(&source(FluxKind::GitRepository), Some(&object(odd))).is_err());
    }
}
