//! What the API server refuses, and what it fills in.

use serde_json::{Value, json};

use crate::stage::Stage;

#[track_caller]
fn assert_refused<T: std::fmt::Debug>(result: kube::Result<T>, with: &str) {
    let error = result.expect_err("accepted").to_string();
    assert!(error.contains(with), "{error}");
}

async fn refused(stage: &Stage, patch: Value, with: &str) {
    assert_refused(stage.apply("bad", patch).await, with);
}

#[tokio::test]
async fn bad_input_is_refused_with_a_message_that_says_what_to_do() {
    let stage = Stage::new().await;
    let git = json!({"url": "https://git.example.com/a.git"});
    refused(
        &stage,
        json!({"source": {"git": git}}),
        "set exactly one of git, inline, configMap, oci and flux",
    )
    .await;
    refused(
        &stage,
        json!({"source": {"inline": null}}),
        "set exactly one of git, inline, configMap, oci and flux",
    )
    .await;
    refused(
        &stage,
        json!({"output": {"image": "registry.example.com/a:1"}}),
        "tags belong in output.tags",
    )
    .await;
    refused(
        &stage,
        json!({"platforms": ["linux/amd64", "linux/vax"]}),
        "unknown platform linux/vax",
    )
    .await;
    refused(
        &stage,
        json!({"platforms": ["linux/aarch64"]}),
        "write linux/arm64",
    )
    .await;
    refused(
        &stage,
        json!({"platforms": ["linux/arm64", "linux/arm64/v8"]}),
        "are the same platform: name it once",
    )
    .await;
    for image in [
        "registry.example.com/a..b",
        "registry.example.com/a___b/c",
        "Team/a",
    ] {
        refused(
            &stage,
            json!({"output": {"image": image}}),
            "output.image: invalid repository",
        )
        .await;
        refused(
            &stage,
            json!({"source": {"inline": null, "oci": {"image": image}}}),
            "oci.image: invalid image name: write host/path",
        )
        .await;
        refused(
            &stage,
            json!({"debug": {"image": format!("{image}:1")}}),
            "debug.image: invalid image name",
        )
        .await;
    }
    refused(
        &stage,
        json!({"timeout": "soon"}),
        "timeout: invalid duration",
    )
    .await;
    refused(
        &stage,
        json!({"output": {"image": "a/b", "tags": ["latest", "feature/x"]}}),
        "spec.output.tags[1]",
    )
    .await;
    let secret = json!({"id": "npmrc", "secretRef": {"name": "npm", "key": ".npmrc"}});
    refused(
        &stage,
        json!({"secrets": [secret, secret]}),
        "duplicate entries for key [id=\"npmrc\"]",
    )
    .await;
    refused(&stage, json!({"contarct": {"maxSize": "20Mi"}}), "contarct").await;
    refused(
        &stage,
        json!({"contract": {"maxSize": "big"}}),
        "contract.maxSize: invalid: write a quantity",
    )
    .await;
    refused(
        &stage,
        json!({"contract": {"enforce": ["NoRoot"]}}),
        "Unsupported value: \"NoRoot\"",
    )
    .await;
    refused(
        &stage,
        json!({"healthCheck": {"httpGet": {"port": 80}, "tcpSocket": {"port": 80}}}),
        "exactly one of httpGet",
    )
    .await;
}

#[tokio::test]
async fn what_is_left_out_is_filled_in() {
    let stage = Stage::new().await;
    let build = stage.apply("small", json!({})).await.unwrap();
    assert_eq!(build.spec.output.tags, ["latest"]);
    assert_eq!(build.spec.builder_ref.name, "default");
    assert_eq!(
        (
            build.spec.timeout.as_str(),
            build.spec.retries,
            build.spec.history_limit
        ),
        ("30m", 2, 5)
    );
}

/// As [`refused`], and nobody is shown a regular expression.
async fn told(stage: &Stage, patch: Value, words: &str) {
    let error = stage.apply("bad", patch).await.expect_err("accepted");
    let error = error.to_string();
    assert!(error.contains(words), "{error}");
    for sign in ["should match", "[A-Za-z", "a-z0-9", "failed rule"] {
        assert!(!error.contains(sign), "{error}");
    }
}

#[tokio::test]
async fn names_that_cannot_be_are_refused_in_words_and_never_by_a_regular_expression() {
    let stage = Stage::new().await;
    let git = |reference: Value| json!({"source": {"inline": null, "git": {"url": "https://git.example.com/a.git", "ref": reference}}});
    for (patch, words) in [
        (
            git(json!({"commit": "837dd14"})),
            "837dd14 is not a full commit, which has 40",
        ),
        (
            git(json!({"commit": "main"})),
            "invalid commit: it has hexadecimal digits only",
        ),
        (
            git(json!({"branch": "refs/heads/main"})),
            "main and not refs/heads/main",
        ),
        (
            git(json!({"branch": "my branch"})),
            "git does not allow spaces",
        ),
        (git(json!({"branch": "a\nb"})), "control characters"),
        (
            git(json!({"tag": "v1.lock"})),
            "invalid tag name: it must not start with - or /",
        ),
        (
            json!({"output": {"image": "a/b", "tags": ["feature/x"]}}),
            "write for example feature-x",
        ),
        (
            json!({"output": {"image": "a/b", "tags": ["1.2.3+4"]}}),
            "1.2.3-4 for 1.2.3+4",
        ),
        (
            json!({"output": {"image": "a/b", "secretRef": {"name": "My_Secret"}}}),
            "secretRef.name: invalid name",
        ),
        (json!({"target": "a/b"}), "target: invalid stage name"),
        (
            json!({"buildArgs": {"A": "\u{0}"}}),
            "a value contains a NUL character",
        ),
        (
            json!({"healthCheck": {"httpGet": {"port": 80, "path": "healthz"}}}),
            "it must start with /",
        ),
        (
            json!({"minimize": {"mode": "Apply"}}),
            "minimize: mode Apply requires healthCheck",
        ),
        (
            json!({"minimize": {"mode": "Suggest", "keep": ["app/**"]}}),
            "minimize.keep: invalid path",
        ),
    ] {
        told(&stage, patch, words).await;
    }
    for name in ["feature/#12(ü)", "100%", "a&b;c|d$e!f\"g'"] {
        for kind in ["branch", "tag"] {
            let patch = git(json!({kind: name}));
            stage.apply("good", patch).await.unwrap();
        }
    }
}

#[tokio::test]
async fn hosts_of_registries_that_can_be_none_are_refused() {
    let stage = Stage::new().await;
    let builders: kube::Api<whittle_api::Builder> =
        kube::Api::namespaced(stage.client.clone(), &stage.namespace);
    let builder = |registry: Value| {
        let object = json!({"apiVersion": "whittle.dev/v1alpha1", "kind": "Builder", "metadata": {"name": "hosts"},
            "spec": {"registries": [registry]}});
        serde_json::from_value::<whittle_api::Builder>(object).unwrap()
    };
    let dry = kube::api::PostParams {
        dry_run: true,
        ..Default::default()
    };
    for host in [
        "a..b",
        "-a.example.com",
        "a.example.com.",
        "a.example.com:",
        "a:123456",
    ] {
        let made = builders.create(&dry, &builder(json!({"host": host}))).await;
        assert_refused(made, "spec.registries[0].host");
        let mirror = json!({"host": "docker.io", "mirrors": [host]});
        assert_refused(
            builders.create(&dry, &builder(mirror)).await,
            "spec.registries[0].mirrors[0]",
        );
    }
    let good = json!({"host": "Registry.example.com:5000", "mirrors": ["m.example.com", "m:5000/v2/proxy_cache/"]});
    builders.create(&dry, &builder(good)).await.unwrap();
}

#[tokio::test]
async fn variables_are_known_closed_and_of_a_source_that_has_them() {
    let stage = Stage::new().await;
    let git = |reference: Value| json!({"inline": null, "git": {"url": "https://git.example.com/a.git", "ref": reference}});
    let main = || git(json!({"branch": "main"}));
    let tags =
        |source: Value, tag: &str| json!({"source": source, "output": {"tags": [tag, "latest"]}});
    let known =
        "$(COMMIT), $(SHORT_COMMIT), $(COMMIT_TIME), $(BRANCH), $(TAG), $(SEMVER), $(BUILD_NUMBER)";
    for (patch, words) in [
        (tags(main(), "$(NOPE)"), known),
        (tags(main(), "main-$(COMMIT"), known),
        (tags(main(), "$$(COMMIT)"), "invalid variable or tag"),
        (tags(main(), "main/$(COMMIT)"), "invalid variable or tag"),
        (tags(main(), "-$(COMMIT)"), "invalid variable or tag"),
        (tags(main(), "$"), "invalid variable or tag"),
        (tags(main(), ""), "spec.output.tags[0]"),
        (
            json!({"source": main(), "buildArgs": {"A": "$(NOPE)"}}),
            "buildArgs: unknown or unclosed variable",
        ),
        (
            json!({"source": main(), "buildArgs": {"A": "$(COMMIT"}}),
            "or $$( for $( itself",
        ),
        (
            json!({"source": main(), "output": {"labels": {"a": "x $(commit)"}}}),
            "output.labels: unknown or unclosed",
        ),
        (
            json!({"source": main(), "output": {"annotations": {"a": "$()"}}}),
            "output.annotations: unknown or unclosed",
        ),
        (tags(json!({}), "$(SHORT_COMMIT)"), "requires source.git"),
        (
            json!({"buildArgs": {"A": "$(COMMIT)"}}),
            "requires source.git",
        ),
        (tags(main(), "$(TAG)"), "require source.git.ref.tag"),
        (
            tags(git(json!(null)), "$(SEMVER)"),
            "require source.git.ref.tag",
        ),
        (
            tags(git(json!({"tag": "v1"})), "$(BRANCH)"),
            "requires source.git.ref.branch",
        ),
        (
            tags(git(json!({"tag": "v1"})), "$(SEMVER)"),
            "a version such as v1.2.3",
        ),
    ] {
        refused(&stage, patch, words).await;
    }
    for patch in [
        tags(json!({}), "b$(BUILD_NUMBER)"),
        tags(main(), "$(BRANCH)-$(SHORT_COMMIT)-$(BUILD_NUMBER)"),
        tags(git(json!({"tag": "v1.2.3-rc.1"})), "$(SEMVER)"),
        json!({"source": git(json!(null)), "buildArgs": {"A": "$$(date) $(COMMIT_TIME) $x $$ $"},
            "output": {"labels": {"a": "$(BRANCH)\n$(COMMIT)"}, "annotations": {"a": "$$$$(NOPE)"}}}),
    ] {
        stage.apply("good", patch).await.unwrap();
    }
}

#[tokio::test]
async fn as_many_variables_as_a_spec_has_room_for_are_looked_through() {
    let stage = Stage::new().await;
    let values = |sum: usize, value: usize| -> Value {
        let text = format!("$(BRANCH)$${}", "$(COMMIT)".repeat(value / 9 - 2));
        let all = (0..sum / (value + 8)).map(|at| (format!("a{at:03}"), Value::from(text.clone())));
        all.collect::<serde_json::Map<_, _>>().into()
    };
    let tags: Vec<String> = (10..42)
        .map(|at| format!("$(BUILD_NUMBER)-{}{at}", "$(BRANCH)".repeat(12)))
        .collect();
    let most = json!({
        "source": {"inline": null, "git": {"url": "https://git.example.com/a.git", "ref": {"branch": "b".repeat(255)}}},
        "buildArgs": values(65_536, 8192),
        "output": {"tags": tags, "labels": values(32_768, 4096), "annotations": values(16_384, 4096)},
    });
    stage.apply("most", most).await.unwrap();
}
