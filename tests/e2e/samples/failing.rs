//! The samples of what goes wrong.

use k8s_openapi::api::core::v1::Pod;
use serde_json::json;
use whittle::api::FailureReason::*;

use super::pods;
use crate::field::Field;

pub async fn check(field: &Field) {
    // Name, reason, line, and words of the message and the log.
    for (name, reason, line, words) in [
        (
            "wrong-target",
            StageNotFound,
            None,
            ["did you mean runtime?", "spec.target"],
        ),
        (
            "wrong-stage",
            StageNotFound,
            Some(5),
            ["did you mean builder?", "bulider"],
        ),
        (
            "missing-file",
            CopySourceNotFound,
            Some(3),
            ["config.yaml", ".dockerignore"],
        ),
        (
            "unknown-base",
            BaseImageNotFound,
            Some(1),
            ["golang:1.999", "check name and tag"],
        ),
        (
            "failing-run",
            StepFailed,
            Some(4),
            ["line 4", "main.go:3:22: too many return values"],
        ),
        (
            "failing-test",
            StepFailed,
            Some(8),
            ["line 8", "it greets with \"goodbye you\""],
        ),
    ] {
        let failure = field.fails(name, reason).await;
        assert_eq!(failure.dockerfile_line, line, "{name}: {failure:#?}");
        let told = format!(
            "{}\n{}",
            failure.message,
            failure.log.as_deref().unwrap_or_default()
        );
        for word in words {
            assert!(told.contains(word), "{name}: {failure:#?}");
        }
    }
    // Row 3: they build, but their loader is not there.
    for name in ["cgo-scratch", "cgo-alpine"] {
        let status = field.succeeds(name).await;
        pods::start(field, name, status.image.as_deref().unwrap(), json!({})).await;
        field
            .until(&format!("{name} does not start"), async || {
                let pod = field.api::<Pod>().get(name).await.unwrap();
                (pod.status?.phase? == "Failed").then_some(())
            })
            .await;
        let log = field.log(name).await;
        assert!(
            log.contains("/hello: no such file or directory"),
            "{name}: {log}"
        );
        pods::stop(field, name).await;
    }
}
