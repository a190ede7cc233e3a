//! Tags, arguments, labels and annotations by commit.

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use whittle_api::FailureReason::BuildRejected;
use whittle_api::ImageBuildStatus;

use crate::field::{Field, Repository};
use crate::registry::{blob, manifest};

const DOCKERFILE: &str = "FROM scratch AS debug\nCOPY name.txt /debug.txt\nFROM scratch\nARG FROM_COMMIT\nLABEL of=$FROM_COMMIT\nCOPY name.txt /\n";
const OCI: &str = "org.opencontainers.image";

/// When a commit was made, in this form of date(1).
fn committed(repository: &Repository, commit: &str, form: &str) -> String {
    let output = Command::new("git")
        .arg("-C")
        .arg(repository.tree())
        .args(["show", "--no-patch", "--format=%cd"])
        .arg(format!("--date=format-local:{form}"))
        .arg(commit)
        .env("TZ", "UTC")
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The tags in the status, of which each points to its digest.
async fn tags(field: &Field, name: &str, status: &ImageBuildStatus) -> Vec<String> {
    let tags = status.tags.clone().unwrap();
    for tag in &tags {
        let found = manifest(&field.image(name), tag).await.0;
        assert_eq!(Some(found), status.digest, "{name}:{tag}");
    }
    tags
}

async fn labels(field: &Field, name: &str, status: &ImageBuildStatus) -> Value {
    let image = field.image(name);
    let (_, found) = manifest(&image, &status.platforms[0].digest).await;
    let config = blob(&image, found["config"]["digest"].as_str().unwrap()).await;
    serde_json::from_slice::<Value>(&config).unwrap()["config"]["Labels"].clone()
}

#[tokio::test]
async fn a_commit_gives_an_image_its_tags_its_labels_and_its_annotations() {
    let field = Field::new("tags").await;
    let repository = Repository::new(&field.namespace);
    // A commit of its own: the builder's cache knows commits alone.
    let files = [
        ("Dockerfile", DOCKERFILE),
        ("name.txt", field.namespace.as_str()),
    ];
    let first = repository.commit(&files, "refs/heads/feature/x");
    let source = json!({"git": {"url": repository.url, "ref": {"branch": "feature/x"}}});
    let patch = json!({
        "platforms": ["linux/amd64", "linux/arm64"],
        "buildArgs": {"FROM_COMMIT": "$(COMMIT)"},
        "output": {
            "tags": ["$(BRANCH)-$(SHORT_COMMIT)-$(BUILD_NUMBER)", "t$(COMMIT_TIME)", "feature-x", "$(BRANCH)"],
            "labels": {"at": "$(COMMIT_TIME)", "escaped": "$$(COMMIT)"},
            "annotations": {"branch": "$(BRANCH)", (format!("{OCI}.revision")): "mine"},
        },
    });
    field.apply("hello", source, patch).await;
    let mut digests = vec![];
    let mut commit = first;
    for number in 1..=3 {
        match number {
            1 => {}
            // The same Dockerfile of a later commit, and then the same commit once more.
            2 => {
                tokio::time::sleep(Duration::from_millis(1100)).await;
                commit = repository.commit(&[("other.txt", "other")], "refs/heads/feature/x");
                field.request("hello").await;
            }
            _ => field.request("hello").await,
        }
        let status = field.succeeds_again("hello", number).await;
        let time = committed(&repository, &commit, "%Y-%m-%dT%H:%M:%SZ");
        let short = committed(&repository, &commit, "%Y%m%dT%H%M%SZ");
        let by_number = format!("feature-x-{}-{number}", &commit[..7]);
        assert_eq!(
            tags(&field, "hello", &status).await,
            [by_number, format!("t{short}"), "feature-x".into()]
        );
        let found = labels(&field, "hello", &status).await;
        assert_eq!(
            found,
            json!({"of": commit, "at": time, "escaped": "$(COMMIT)"})
        );
        let known =
            json!({(format!("{OCI}.source")): repository.url, (format!("{OCI}.created")): time});
        let image = field.image("hello");
        let digest = status.digest.unwrap();
        let (_, index) = manifest(&image, &digest).await;
        assert_eq!(index["annotations"], known);
        let mut own = known;
        own["branch"] = json!("feature/x");
        own[format!("{OCI}.revision")] = json!("mine");
        for platform in &status.platforms {
            let (_, found) = manifest(&image, &platform.digest).await;
            assert_eq!(found["annotations"], own, "{}", platform.platform);
        }
        digests.push(digest);
    }
    assert_ne!(digests[0], digests[1]);
    assert_eq!(digests[1], digests[2], "the same commit, built again");

    // Nothing of these asks for the time of the commit.
    repository.tag("v1.2.3-rc.1");
    let source = json!({"git": {"url": repository.url, "ref": {"tag": "v1.2.3-rc.1"}}});
    let patch = json!({"output": {"tags": ["$(SEMVER)", "$(TAG)"]},
        // No node has it: the tags are moved by a runner of their own, and by what the first one reports.
        "platforms": ["linux/s390x"], "healthCheck": {"tcpSocket": {"port": 80}}, "debug": {"target": "debug"}});
    field.apply("released", source, patch).await;
    let status = field.succeeds("released").await;
    assert_eq!(
        tags(&field, "released", &status).await,
        ["1.2.3-rc.1", "v1.2.3-rc.1"]
    );
    let image = field.image("released");
    for tag in ["1.2.3-rc.1-debug", "v1.2.3-rc.1-debug"] {
        let found = manifest(&image, tag).await.0;
        assert_eq!(found, status.debug.as_ref().unwrap().digest, "{tag}");
    }
    let (_, found) = manifest(&image, status.digest.as_deref().unwrap()).await;
    assert_eq!(
        found["annotations"],
        json!({(format!("{OCI}.source")): repository.url, (format!("{OCI}.revision")): commit, (format!("{OCI}.version")): "1.2.3-rc.1"})
    );

    // What can only be known once the source is read; nothing is built then.
    repository.commit(&[("more.txt", "more")], "refs/heads/ü");
    let source = json!({"git": {"url": repository.url, "ref": {"branch": "ü"}}});
    field
        .apply("empty", source, json!({"output": {"tags": ["$(BRANCH)"]}}))
        .await;
    let failure = field.fails("empty", BuildRejected).await;
    assert!(
        failure
            .message
            .starts_with("output.tags: $(BRANCH): the tag is empty"),
        "{failure:#?}"
    );
    field.close().await;
}
