//! An image without what its program never reaches, which has to answer before any tag points to it.

use serde_json::{Value, json};
use whittle_api::FailureReason::HealthCheckFailed;
use whittle_api::{ImageBuildStatus, MinimizeOutcome, find};

use crate::field::Field;
use crate::registry::manifest;

/// A server on a whole distribution that reads a file whose name nothing in the image has: it is written backwards.
const ODD: &str = r#"package main

import (
	"fmt"
	"net"
	"os"
)

func main() {
	name := []byte("txt.slennahc/ddo/")
	for a, b := 0, len(name)-1; a < b; a, b = a+1, b-1 {
		name[a], name[b] = name[b], name[a]
	}
	if _, err := os.ReadFile(string(name)); err != nil {
		fmt.Println(err)
		os.Exit(7)
	}
	listener, err := net.Listen("tcp", ":8080")
	if err != nil {
		panic(err)
	}
	for {
		if connection, err := listener.Accept(); err == nil {
			connection.Close()
		}
	}
}
"#;

fn odd(comment: &str) -> Value {
    let dockerfile = format!(
        "# {comment}\nFROM golang:1.26 AS build\nWORKDIR /src\nCOPY app.go .\nRUN CGO_ENABLED=0 go build -trimpath -o /app app.go\n\
            FROM debian:12-slim\nCOPY --from=build /app /app\nCOPY channels.txt /odd/channels.txt\nUSER 65532:65532\nENTRYPOINT [\"/app\"]\n"
    );
    json!({"Dockerfile": dockerfile, "app.go": ODD, "channels.txt": "one\n"})
}

fn asked(change: Value) -> Value {
    let mut minimize = json!({"mode": "Apply"});
    json_patch::merge(&mut minimize, &change);
    json!({"minimize": minimize, "healthCheck": {"tcpSocket": {"port": 8080}, "timeoutSeconds": 20}})
}

fn condition(status: &ImageBuildStatus) -> (&str, &str) {
    let found = find(&status.conditions, "Minimized").unwrap();
    (&found.status, &found.reason)
}

#[tokio::test]
async fn a_smaller_image_that_misses_a_file_is_not_used_until_that_is_kept() {
    let field = Field::new("minimize").await;
    let image = field.image("odd");
    field.build("odd", odd("first"), asked(json!({}))).await;
    let first = field.succeeds("odd").await;
    assert_eq!(condition(&first), ("False", "DoesNotStart"), "{first:#?}");
    let used = first.minimized.clone().unwrap();
    assert_eq!(used.outcome, MinimizeOutcome::FullUsed);
    assert!(
        used.message.contains("exited with code 7") && used.message.contains("/odd/channels.txt"),
        "{}",
        used.message
    );
    assert_eq!(first.digest.as_ref(), Some(&used.full_digest));
    assert_ne!(used.digest.as_ref(), Some(&used.full_digest));
    assert!(used.size < used.full_size);
    assert_eq!(manifest(&image, "latest").await.0, used.full_digest);
    // What the full image holds was read back: a whole distribution.
    let contents = first.platforms[0].contents.as_ref().unwrap();
    assert!(
        contents.shell && contents.programs.is_some(),
        "{contents:#?}"
    );
    assert!(!first.platforms[0].layers.is_empty());

    // The same full image again: nobody tries it.
    field.build("odd", odd("second"), asked(json!({}))).await;
    let second = field.succeeds_again("odd", 2).await;
    assert_eq!(second.digest, first.digest);
    assert_eq!(condition(&second), ("False", "DoesNotStart"));
    let known = second.minimized.clone().unwrap();
    assert!(
        known.message.starts_with("not tried again"),
        "{}",
        known.message
    );
    assert_eq!(known.digest, used.digest);

    field
        .build("odd", odd("second"), asked(json!({"keep": ["/odd/**"]})))
        .await;
    let third = field.succeeds_again("odd", 3).await;
    assert_eq!(condition(&third), ("True", "Applied"), "{third:#?}");
    let applied = third.minimized.clone().unwrap();
    assert_eq!(third.digest, applied.digest);
    assert_eq!(applied.full_digest, used.full_digest);
    assert!(third.size.unwrap() < applied.full_size.unwrap() / 2);
    assert_eq!(
        Some(manifest(&image, "latest").await.0),
        applied.digest.clone()
    );
    let contents = third.platforms[0].contents.as_ref().unwrap();
    assert!(!contents.shell, "{contents:#?}");

    // Where the build is to fail, the tag stays.
    let fails = asked(json!({"onFailure": "Fail"}));
    field.build("odd", odd("second"), fails).await;
    let failure = field.fails_again("odd", 4, HealthCheckFailed).await;
    assert!(
        failure.message.starts_with("the smaller image did not")
            && failure.message.contains(&applied.full_digest),
        "{failure:#?}"
    );
    assert!(failure.log.unwrap().contains("/odd/channels.txt"));
    assert_eq!(Some(manifest(&image, "latest").await.0), applied.digest);
    field.close().await;
}
