//! What is built is what was asked for, and the status says what really stands in the registry.

use serde_json::json;

use crate::field::{Field, Repository};
use crate::registry::{blob, manifest, size};

#[tokio::test]
async fn two_platforms_make_one_index_and_status_tells_its_digests_and_sizes() {
    let field = Field::new("platforms").await;
    let files = json!({"Dockerfile": "FROM scratch\nARG TARGETARCH\nCOPY $TARGETARCH /a\n", "amd64": "one", "arm64": "two"});
    let spec = json!({
        "platforms": ["linux/amd64", "linux/arm64"],
        "output": {"tags": ["1.2.3", "latest"], "labels": {"team": "a, \"b\"=c"}, "annotations": {"note": "x=y,z"}},
    });
    field.build("hello", files, spec).await;
    let status = field.succeeds("hello").await;
    let image = field.image("hello");
    for tag in ["1.2.3", "latest"] {
        assert_eq!(
            manifest(&image, tag).await.0,
            status.digest.clone().unwrap(),
            "{tag}"
        );
    }
    let (_, index) = manifest(&image, "latest").await;
    assert_eq!(index["manifests"].as_array().unwrap().len(), 2, "{index:#}");
    assert_eq!(status.platforms.len(), 2);
    for platform in &status.platforms {
        let (digest, found) = manifest(&image, &platform.digest).await;
        assert_eq!(digest, platform.digest);
        assert_eq!(size(&found), platform.size);
        assert_eq!(found["annotations"]["note"], "x=y,z");
        let config: serde_json::Value = serde_json::from_slice(
            &blob(&image, found["config"]["digest"].as_str().unwrap()).await,
        )
        .unwrap();
        assert_eq!(config["config"]["Labels"]["team"], "a, \"b\"=c");
        assert_eq!(
            format!(
                "{}/{}",
                config["os"].as_str().unwrap(),
                config["architecture"].as_str().unwrap()
            ),
            platform.platform
        );
    }
    assert_eq!(
        status.size,
        status.platforms.iter().map(|platform| platform.size).max()
    );
    assert_eq!(
        status.image.unwrap(),
        format!("{image}@{}", status.digest.unwrap())
    );
    field.close().await;
}

#[tokio::test]
async fn a_branch_a_tag_a_commit_and_a_folder_are_built_as_they_stand() {
    let field = Field::new("refs").await;
    let repository = Repository::new(&field.namespace);
    let dockerfile = "FROM scratch\nCOPY a /a\n";
    let first = repository.commit(
        &[
            ("Dockerfile", dockerfile),
            ("a", "1"),
            ("sub/Dockerfile", "FROM scratch\nCOPY b /b\n"),
            ("sub/b", "2"),
        ],
        "refs/tags/v1",
    );
    let second = repository.commit(&[("a", "3")], "refs/heads/main");
    let git =
        |reference: serde_json::Value| json!({"git": {"url": repository.url, "ref": reference}});
    field
        .apply("branch", git(json!({"branch": "main"})), json!({}))
        .await;
    field
        .apply("tag", git(json!({"tag": "v1"})), json!({}))
        .await;
    field
        .apply("commit", git(json!({"commit": first})), json!({}))
        .await;
    field
        .apply(
            "head",
            json!({"git": {"url": repository.url, "subPath": "sub"}}),
            json!({}),
        )
        .await;
    for (name, revision) in [
        ("branch", format!("main@sha1:{second}")),
        ("tag", format!("v1@sha1:{first}")),
        ("commit", format!("sha1:{first}")),
        ("head", format!("main@sha1:{second}")),
    ] {
        assert_eq!(
            field.succeeds(name).await.revision.unwrap(),
            revision,
            "{name}"
        );
    }
    // A new commit on the branch, and a request: the commit that is really built is told.
    let third = repository.commit(&[("a", "4")], "refs/heads/main");
    field.request("branch").await;
    let status = field.succeeds_again("branch", 2).await;
    assert_eq!(status.revision.unwrap(), format!("main@sha1:{third}"));
    assert_eq!(status.history.len(), 2);
    field.close().await;
}

#[tokio::test]
async fn target_arguments_and_compression_reach_the_image() {
    let field = Field::new("options").await;
    let dockerfile = "FROM busybox:1.36 AS one\nARG VERSION\nRUN echo -n \"v=$VERSION\" > /version\nFROM scratch AS wanted\nCOPY --from=one /version /version\nFROM scratch\n";
    let spec = json!({"dockerfile": "build/Dockerfile", "target": "wanted", "buildArgs": {"VERSION": "1.2 \"x\", y"}, "output": {"compression": "zstd"}});
    field
        .build("hello", json!({"build/Dockerfile": dockerfile}), spec)
        .await;
    let status = field.succeeds("hello").await;
    let image = field.image("hello");
    let (_, found) = manifest(&image, &status.digest.unwrap()).await;
    let layers = found["layers"].as_array().unwrap();
    assert_eq!(layers.len(), 1, "{found:#}");
    assert_eq!(
        layers[0]["mediaType"],
        "application/vnd.oci.image.layer.v1.tar+zstd"
    );
    field.close().await;
}
