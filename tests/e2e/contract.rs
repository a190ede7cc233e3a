//! What an image holds, and what it is held to.

use serde_json::{Value, json};
use whittle_api::FailureReason::ContractBroken;
use whittle_api::{ImageBuildStatus, find};
use whittle_image::{ImageReport, REPORT_TYPE, Runs};

use crate::field::Field;
use crate::registry::{blob, manifest};

const HELLO: &str = "FROM busybox:1.36\nUSER 65532:65532\nCMD [\"echo\", \"hello\"]\n";

fn contract(status: &ImageBuildStatus) -> (String, String) {
    let condition = find(&status.conditions, "Contract").unwrap();
    (condition.reason.clone(), condition.message.clone())
}

#[tokio::test]
async fn an_image_that_breaks_what_is_enforced_gets_no_tag_and_the_last_good_one_keeps_it() {
    let field = Field::new("contract").await;
    let enforce = json!({"contract": {"enforce": ["NonRoot"], "warn": ["NoShell"]}});
    let built = async |dockerfile: &str| {
        let files = json!({"Dockerfile": dockerfile});
        field.build("hello", files, enforce.clone()).await;
    };
    built(HELLO).await;
    let good = field.succeeds("hello").await;
    let (reason, told) = contract(&good);
    assert_eq!(reason, "Warned", "{told}");
    assert!(told.starts_with("NoShell: /bin/"), "{told}");

    built(&HELLO.replace("USER 65532:65532", "USER 0")).await;
    let status = field.ready("hello", "False", "ContractBroken").await;
    let failure = status.failure.clone().unwrap();
    assert_eq!(
        failure.message,
        "NonRoot: USER 0 is root: write USER 65532:65532 into the Dockerfile"
    );
    let image = field.image("hello");
    assert_eq!(
        manifest(&image, "latest").await.0,
        good.digest.clone().unwrap()
    );
    assert_eq!(status.digest, good.digest);
    // The refused one is there to be looked at.
    let refused = failure.image.unwrap();
    let (_, digest) = refused.split_once('@').unwrap();
    assert_eq!(manifest(&image, digest).await.0, digest);
    assert_eq!(status.history[0].digest.as_deref(), Some(digest));
    assert_eq!(contract(&status).0, "ContractBroken");

    // Another contract is another build: nothing is made anew, the verdict is.
    let files = json!({"Dockerfile": HELLO.replace("USER 65532:65532", "USER 0")});
    field
        .build("hello", files, json!({"contract": {"warn": ["NonRoot"]}}))
        .await;
    let status = field.succeeds("hello").await;
    assert_eq!(status.digest.as_deref(), Some(digest));
    assert_eq!(contract(&status).0, "Warned");
    field.close().await;
}

#[tokio::test]
async fn an_image_that_cannot_start_is_no_success_unless_that_is_meant() {
    let field = Field::new("cannot-start").await;
    // No contract at all: Field gives one to the images of other tests.
    let none = json!({"contract": null});
    let script = "FROM busybox:1.36\nCOPY --chmod=755 run /run.sh\nCMD [\"/run.sh\"]\n";
    let files = json!({"Dockerfile": script, "run": "#!/usr/bin/python3\n"});
    field.build("script", files, none.clone()).await;
    // A program of this machine's kind in the image for another one.
    let other = "FROM --platform=linux/amd64 busybox:1.36 AS tools\nFROM scratch\n\
                 COPY --from=tools /bin/busybox /app\nENTRYPOINT [\"/app\"]\n";
    let platforms =
        json!({"contract": {"warn": ["RunnableEntrypoint"]}, "platforms": ["linux/arm64"]});
    field
        .build("machine", json!({"Dockerfile": other}), platforms)
        .await;
    let empty = json!({"Dockerfile": "FROM scratch\nCOPY a /a\n", "a": "1"});
    field.build("files", empty.clone(), none).await;
    field
        .build(
            "base",
            empty,
            json!({"contract": {"warn": ["RunnableEntrypoint"]}}),
        )
        .await;

    let failure = field.fails("script", ContractBroken).await;
    assert!(
        failure.message.contains("/run.sh") && failure.message.contains("/usr/bin/python3"),
        "{failure:#?}"
    );
    let failure = field.fails("machine", ContractBroken).await;
    assert!(
        failure.message.starts_with("PlatformMatches: /app ")
            && failure.message.contains("linux/arm64"),
        "{failure:#?}"
    );
    let failure = field.fails("files", ContractBroken).await;
    let hint = failure.hint.unwrap();
    assert!(
        hint.contains("contract: {warn: [RunnableEntrypoint]}"),
        "{hint}"
    );
    let status = field.succeeds("base").await;
    let contents = status.platforms[0].contents.clone().unwrap();
    assert_eq!(contents.starts, Runs::No);
    assert_eq!(contract(&status).0, "Warned");
    field.close().await;
}

#[tokio::test]
async fn an_image_that_grows_beyond_its_budget_is_told_by_layers_and_files() {
    let field = Field::new("growth").await;
    let grow = async |count: u32, contract: Value| {
        let dockerfile = format!(
            "FROM busybox:1.36\nRUN dd if=/dev/urandom of=/assets bs=1024 count={count}\nCMD [\"ls\"]\n"
        );
        let files = json!({"Dockerfile": dockerfile});
        field
            .build("hello", files, json!({"contract": contract}))
            .await;
    };
    let contract = json!({"maxGrowthPercent": 10, "maxSize": "5Mi", "warn": null});
    grow(100, contract.clone()).await;
    let good = field.succeeds("hello").await;
    grow(1000, contract.clone()).await;
    let failure = field.fails_again("hello", 2, ContractBroken).await;
    assert!(
        failure
            .message
            .starts_with("maxGrowthPercent: the image grew by "),
        "{failure:#?}"
    );
    for word in ["maxGrowthPercent is 10", "count=1000", "/assets"] {
        assert!(failure.message.contains(word), "{word}: {failure:#?}");
    }
    // What was refused is no measure for the next one.
    grow(
        5000,
        json!({"maxGrowthPercent": 1000, "maxSize": "5Mi", "warn": null}),
    )
    .await;
    let failure = field.fails_again("hello", 3, ContractBroken).await;
    assert!(
        failure
            .message
            .starts_with("maxSize: the image is too large: ")
            && failure.message.contains("maxSize is 5.0 MiB"),
        "{failure:#?}"
    );
    grow(110, contract).await;
    let status = field.succeeds_again("hello", 4).await;
    assert!(status.size.unwrap() > good.size.unwrap());
    field.close().await;
}

#[tokio::test]
async fn the_report_lies_beside_each_platform_and_says_what_the_status_says() {
    let field = Field::new("report").await;
    let dockerfile = "FROM scratch\nARG TARGETARCH\nCOPY $TARGETARCH /etc/name\n";
    let files = json!({"Dockerfile": dockerfile, "amd64": "one", "arm64": "another"});
    let spec = json!({"platforms": ["linux/amd64", "linux/arm64"]});
    field.build("hello", files, spec).await;
    let status = field.succeeds("hello").await;
    let image = field.image("hello");
    for platform in &status.platforms {
        let contents = platform.contents.as_ref().unwrap();
        let digest = contents.report.as_deref().unwrap();
        let (found, artifact) = manifest(&image, digest).await;
        assert_eq!(found, digest);
        assert_eq!(artifact["artifactType"], REPORT_TYPE);
        assert_eq!(artifact["subject"]["digest"], platform.digest.as_str());
        let layer = artifact["layers"][0]["digest"].as_str().unwrap();
        let report: ImageReport = serde_json::from_slice(&blob(&image, layer).await).unwrap();
        assert_eq!(report.digest, platform.digest);
        assert_eq!(report.size, platform.size);
        assert_eq!(report.contents.platform, platform.platform);
        assert_eq!(report.contents.bytes, contents.unpacked_size);
        assert_eq!(report.contents.largest, contents.largest);
        // Any client finds it: this registry keeps no lists, so the list is a tag.
        let list = platform.digest.replace(':', "-");
        let (_, list) = manifest(&image, &list).await;
        assert_eq!(list["manifests"][0]["digest"], digest);
        assert_eq!(list["manifests"][0]["artifactType"], REPORT_TYPE);
    }
    // The same image has the same report: nothing is pushed anew.
    field.request("hello").await;
    let again = field.succeeds_again("hello", 2).await;
    assert_eq!(again.platforms, status.platforms);
    field.close().await;
}
