//! The rows as ImageBuilds, all of one source: the toolchains are made once.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use whittle_api::{ImageBuild, ImageBuildStatus, find};

use super::rows::{Row, dockerfile};
use crate::field::Field;

/// How long all rows may take together, on two slow processors that other tests use as well.
const PATIENCE: Duration = Duration::from_secs(1500);
/// Builds at a time: most of their time goes to Pods that come and go.
const AT_ONCE: usize = 6;

/// Applies all rows, and a builder that takes several of them at a time.
pub async fn apply(field: &Field, rows: &[Row]) {
    field.builder_of_tables(AT_ONCE).await;
    source(field, rows).await;
    let source = json!({"configMap": {"name": "truth"}});
    for row in rows {
        let mut spec = json!({"target": row.name, "contract": null, "platforms": row.platforms()});
        if let Some(rule) = row.claim.rule() {
            spec["contract"] = json!({"warn": null, "enforce": [rule.name()]});
        }
        field.apply(row.name, source.clone(), spec).await;
    }
}

/// The ConfigMap with Dockerfile and sources of all rows.
pub async fn source(field: &Field, rows: &[Row]) {
    field
        .create(json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "truth"},
            "data": sources(rows),
        }))
        .await;
}

fn sources(rows: &[Row]) -> Value {
    json!({
        "Dockerfile": dockerfile(rows),
        "hello.go": include_str!("sources/hello.go"),
        "cgo.go": include_str!("sources/cgo.go"),
        "doctor.go": include_str!("sources/doctor.go"),
        "hello.rs": include_str!("sources/hello.rs"),
        "hello.c": include_str!("sources/hello.c"),
        "hello.cc": include_str!("sources/hello.cc"),
        "greet.c": include_str!("sources/greet.c"),
        "greeted.c": include_str!("sources/greeted.c"),
        "deep.c": include_str!("sources/deep.c"),
        "future.c": include_str!("sources/future.c"),
        "modern.c": include_str!("sources/modern.c"),
    })
}

/// The status of a row's build, once that has ended: well, or with an image that breaks its contract.
pub async fn ended(field: &Field, row: &Row) -> ImageBuildStatus {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let build = field.api::<ImageBuild>().get(row.name).await.unwrap();
        let status = build.status.unwrap_or_default();
        if let Some(ready) = find(&status.conditions, "Ready") {
            match ready.reason.as_str() {
                "Succeeded" | "ContractBroken" => return status,
                reason => assert!(
                    find(&status.conditions, "Stalled").is_none(),
                    "{}: {reason}: {:#?}",
                    row.name,
                    status.failure
                ),
            }
        }
        assert!(
            Instant::now() < deadline,
            "{} has not ended within {PATIENCE:?}: {:?}",
            row.name,
            status.current
        );
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}
