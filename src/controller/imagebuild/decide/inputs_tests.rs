//! The digest of a build's inputs is kept in the status: another one for the same spec builds everything again.

use super::*;

/// Each field of a spec, and what the annotation may ask for.
fn whole() -> ImageBuild {
    let spec = serde_json::from_value(serde_json::json!({
        "source": {"git": {"url": "https://git.example.com/team/hello.git", "ref": {"branch": "main"},
            "subPath": "cmd/hello", "secretRef": {"name": "git-credentials"}}},
        "dockerfile": "build/Dockerfile",
        "target": "runtime",
        "buildArgs": {"VERSION": "1.2.3"},
        "secrets": [{"id": "npmrc", "secretRef": {"name": "npm", "key": ".npmrc"}}],
        "platforms": ["linux/amd64", "linux/arm64"],
        "output": {"image": "registry.example.com/team/hello", "tags": ["1.2.3", "latest"],
            "secretRef": {"name": "registry-credentials"}, "compression": "zstd",
            "labels": {"org.example.title": "Hello"}, "annotations": {"org.example.team": "a"}},
        "debug": {"target": "debug", "tagSuffix": "-debug"},
        "contract": {"maxSize": "20Mi", "maxGrowthPercent": 10, "enforce": ["StaticBinary"], "warn": ["NoShell"]},
        "healthCheck": {"exec": {"command": ["/hello", "--check"]}, "timeoutSeconds": 60,
            "args": ["serve"], "env": [{"name": "A", "value": "b"}]},
        "builderRef": {"name": "large"},
        "rebuild": "2026-11-26",
        "timeout": "1h", "retries": 1, "suspend": true, "historyLimit": 3,
    }))
    .unwrap();
    let mut build = fixtures::inline();
    build.spec = spec;
    build.metadata.annotations = Some([(REQUESTED_AT.to_owned(), "now".to_owned())].into());
    build
}

#[test]
fn statuses_of_before_an_upgrade_still_name_the_inputs_of_their_builds() {
    assert_eq!(
        input(&fixtures::inline()),
        "sha256:0338d926c51b21af6118d21f480cd37f47e06186fb2495794d54b236aef6520f"
    );
    assert_eq!(
        input(&fixtures::git_with_secrets()),
        "sha256:a28fa95c449dc97d4f64154d75d4d92d4699f3b26e244f25207bdf38603a5fff"
    );
    assert_eq!(
        input(&whole()),
        "sha256:b6053895596c8af4d8cb2b3d93c1112a4a7584a27a6de9397291c841f132cf76"
    );
}

#[test]
fn what_changes_no_image_is_no_input() {
    let before = input(&whole());
    let mut build = whole();
    build.spec.timeout = "2h".into();
    build.spec.retries = 9;
    build.spec.suspend = false;
    build.spec.history_limit = 50;
    assert_eq!(input(&build), before);
    build.spec.target = None;
    assert_ne!(input(&build), before);
}
