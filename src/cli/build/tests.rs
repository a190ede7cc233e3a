use clap::Parser;
use serde_json::json;

use super::*;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    options: Options,
}

fn options(words: &[&str]) -> Options {
    let words = std::iter::once("build").chain(words.iter().copied());
    Line::try_parse_from(words)
        .unwrap_or_else(|error| panic!("{error}"))
        .options
}

/// One whose Ready condition has this status; `over` is laid over its spec.
fn stands(ready: &str, failure: bool, suspend: bool) -> ImageBuild {
    let failure = failure.then(|| json!({"reason": "StepFailed", "message": "RUN false"}));
    let object = json!({
        "apiVersion": "whittle.dev/v1alpha1", "kind": "ImageBuild",
        "metadata": {"name": "a", "generation": 4},
        "spec": {"source": {"oci": {"image": "r.example.com/a"}}, "output": {"image": "r.example.com/a"}, "suspend": suspend},
        "status": {"observedGeneration": 4, "failure": failure, "image": "r.example.com/a@sha256:00",
            "conditions": [{"type": "Ready", "status": ready, "reason": "R", "message": "m", "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
    });
    serde_json::from_value(object).unwrap()
}

#[test]
fn what_has_changed_is_followed_and_what_has_not_is_not_built_again() {
    let ready = stands("True", false, false);
    let begun = |until| Some(After::Begun(until));
    assert_eq!(decide(&ready, false, false), begun(Until::Generation(4)));
    assert_eq!(decide(&ready, false, true), begun(Until::Generation(4)));
    assert_eq!(decide(&ready, true, false), Some(After::UpToDate));
    assert_eq!(decide(&ready, true, true), None);
    assert_eq!(image_of(&ready), "r.example.com/a@sha256:00");
    let failed = stands("False", true, false);
    assert_eq!(decide(&failed, true, false), Some(After::FailedBefore));
    assert_eq!(decide(&failed, true, true), None);
    let waits = stands("Unknown", false, false);
    assert_eq!(decide(&waits, true, false), begun(Until::Current));
    let suspended = stands("True", false, true);
    assert_eq!(decide(&suspended, false, true), Some(After::Suspended));
}

#[test]
fn a_directory_that_is_missing_or_a_file_is_wrong_use() {
    let folder = tempfile::tempdir().unwrap();
    let failed = directory(&folder.path().join("away")).unwrap_err();
    assert_eq!(failed.code(), 2);
    assert!(failed.to_string().ends_with("away not found"), "{failed}");
    let file = folder.path().join("Dockerfile");
    std::fs::write(&file, "").unwrap();
    let failed = directory(&file).unwrap_err();
    assert!(
        failed.to_string().contains("is not a directory"),
        "{failed}"
    );
}

#[test]
fn the_dockerfile_is_that_of_the_option_or_of_the_image_build_or_the_usual_one() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap();
    let app = root.join("app");
    std::fs::create_dir_all(app.join("docker")).unwrap();
    let of =
        |words: &[&str], before: Option<&ImageBuild>| dockerfile(&options(words), &app, before);
    let failed = of(&[], None).unwrap_err();
    assert_eq!(failed.code(), 2);
    assert!(
        failed.to_string().contains("Dockerfile not found in"),
        "{failed}"
    );
    for name in ["app/Dockerfile", "app/docker/prod", "outside"] {
        std::fs::write(root.join(name), "").unwrap();
    }
    assert_eq!(of(&[], None).unwrap(), "Dockerfile");
    assert_eq!(of(&["-f", "docker/prod"], None).unwrap(), "docker/prod");
    let whole = app.join("docker/prod");
    assert_eq!(
        of(&["-f", whole.to_str().unwrap()], None).unwrap(),
        "docker/prod"
    );
    let mut before = stands("True", false, false);
    before.spec.dockerfile = "docker/prod".into();
    assert_eq!(of(&[], Some(&before)).unwrap(), "docker/prod");
    let failed = of(&["-f", "../outside"], None).unwrap_err();
    assert!(failed.to_string().contains("is outside of"), "{failed}");
    let failed = of(&["-f", "away"], None).unwrap_err();
    assert!(failed.to_string().contains("away not found"), "{failed}");
}

#[test]
fn the_tag_of_a_source_is_a_tag_for_every_name() {
    assert_eq!(tag("hello"), "whittle-source-hello");
    assert_eq!(tag(&"a".repeat(253)).len(), 128);
}

#[test]
fn options_that_contradict_one_another_are_refused() {
    for words in [
        &["--inline", "--push-to", "r/a"][..],
        &["--wait", "--no-follow"],
        &["-o", "json"],
        &["--dry-run", "--rebuild"],
        &["--source-secret", "a"],
    ] {
        let words = std::iter::once("build").chain(words.iter().copied());
        assert!(Line::try_parse_from(words).is_err());
    }
}
