//! The image for debugging, and where the bytes of an image are.

use serde_json::{Value, json};

use crate::field::Field;
use crate::registry::{blob, files_of, manifest, size};

const DOCKERFILE: &str = "FROM busybox:1.36 AS build\nRUN head -c 300000 /dev/urandom > /big && echo own > /passwd\n\
    FROM scratch AS runtime\nENV GREETING=hello\nCOPY --from=build /passwd /etc/passwd\nCOPY --from=build /big /big\nUSER 65532:65532\nENTRYPOINT [\"/big\"]\n\
    FROM busybox:1.36 AS debug\nCOPY --from=runtime /big /big\nFROM runtime\n";

async fn config(image: &str, digest: &str) -> Value {
    let (_, found) = manifest(image, digest).await;
    serde_json::from_slice(&blob(image, found["config"]["digest"].as_str().unwrap()).await).unwrap()
}

#[tokio::test]
async fn an_image_for_debugging_stands_beside_the_first_by_stage_or_by_base() {
    let field = Field::new("debug").await;
    let files = json!({"Dockerfile": DOCKERFILE});
    let tags = json!(["1.2", "latest"]);
    field
        .build(
            "stage",
            files.clone(),
            json!({"debug": {"target": "debug"}, "output": {"tags": tags}}),
        )
        .await;
    field
        .build("base", files.clone(), json!({"debug": {"image": "busybox:1.36", "tagSuffix": "-shell"}, "output": {"tags": tags}}))
        .await;
    for (name, suffix) in [("stage", "-debug"), ("base", "-shell")] {
        let status = field.succeeds(name).await;
        let debug = status.debug.expect("the image for debugging is told");
        let image = field.image(name);
        for tag in ["1.2", "latest"] {
            assert_eq!(
                manifest(&image, tag).await.0,
                status.digest.clone().unwrap(),
                "{name}:{tag}"
            );
            assert_eq!(
                manifest(&image, &format!("{tag}{suffix}")).await.0,
                debug.digest,
                "{name}:{tag}{suffix}"
            );
        }
        assert_eq!(debug.size, size(&manifest(&image, &debug.digest).await.1));
        assert_eq!(debug.image, format!("{image}@{}", debug.digest));
        let (first, second) = (
            files_of(&image, &status.digest.unwrap()).await,
            files_of(&image, &debug.digest).await,
        );
        assert!(
            !first.contains_key("bin/busybox") && second.contains_key("bin/busybox"),
            "{name}"
        );
        assert_eq!(first["big"], second["big"], "{name}");
        if name == "base" {
            assert_eq!(
                second["etc/passwd"], b"own\n",
                "the result's files go before those of the base"
            );
            let config = config(&image, &debug.digest).await;
            assert_eq!(config["config"]["User"], "65532:65532");
            assert_eq!(config["config"]["Entrypoint"], json!(["/big"]));
        }
    }
    // Without it, it is told no more.
    field
        .build("stage", files.clone(), json!({"output": {"tags": tags}}))
        .await;
    assert_eq!(field.succeeds_again("stage", 2).await.debug, None);
    // A slip in its stage fails the build, and moves no tag.
    let before = manifest(&field.image("stage"), "latest").await.0;
    let mut changed = files;
    changed["Dockerfile"] = json!(DOCKERFILE.replace("hello", "changed"));
    field
        .build(
            "stage",
            changed,
            json!({"debug": {"target": "debgu"}, "output": {"tags": tags}}),
        )
        .await;
    let failure = field
        .ready("stage", "False", "StageNotFound")
        .await
        .failure
        .unwrap();
    assert!(
        failure.message.contains("spec.debug") && failure.message.contains("did you mean debug?"),
        "{}",
        failure.message
    );
    assert_eq!(manifest(&field.image("stage"), "latest").await.0, before);
    field.close().await;
}

#[tokio::test]
async fn the_status_tells_each_layers_size_and_the_instruction_that_made_it() {
    let field = Field::new("layers").await;
    let platforms = json!({"platforms": ["linux/amd64", "linux/arm64"]});
    let dockerfile = DOCKERFILE.replace(
        "FROM busybox:1.36 AS build",
        "FROM --platform=$BUILDPLATFORM busybox:1.36 AS build",
    );
    field
        .build("hello", json!({"Dockerfile": dockerfile}), platforms)
        .await;
    let status = field.succeeds("hello").await;
    let image = field.image("hello");
    for platform in &status.platforms {
        let (_, found) = manifest(&image, &platform.digest).await;
        let sizes: Vec<i64> = found["layers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|layer| layer["size"].as_i64().unwrap())
            .collect();
        let told: Vec<i64> = platform.layers.iter().map(|layer| layer.size).collect();
        assert_eq!(told, sizes);
        let instructions: Vec<&str> = platform
            .layers
            .iter()
            .map(|layer| layer.instruction.as_str())
            .collect();
        assert_eq!(instructions, ["COPY /passwd /etc/passwd", "COPY /big /big"]);
    }
    field.close().await;
}
