//! The samples of what goes wrong.

use k8s_openapi::api::core::v1::Pod;
use serde_json::json;
use whittle_api::FailureReason::{self, *};
use whittle_api::find;

use super::pods;
use crate::field::Field;

/// Name, reason, line, and words of the message and the log.
pub const MISTAKES: &[(&str, FailureReason, Option<i32>, [&str; 2])] = &[
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
];

/// Name and words of what does not start.
pub const NOT_STARTING: &[(&str, &str)] = &[
    (
        "cgo-scratch",
        "/hello needs /lib64/ld-linux-x86-64.so.2 and libc.so.6, which are missing from the \
            image: build with CGO_ENABLED=0, or use gcr.io/distroless/base-debian12",
    ),
    (
        "cgo-alpine",
        "it was built for glibc, and the image has musl: build it on Alpine, or with CGO_ENABLED=0",
    ),
];

/// The rules that the contract of another breaks; the last is only warned of.
pub const BROKEN_RULES: [&str; 4] = ["CACertificates", "NonRoot", "maxSize", "NoShell"];

pub async fn check(field: &Field) {
    for (name, reason, line, words) in MISTAKES.iter().copied() {
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
    // Row 3: refused, and rightly so: as Pods they do not start.
    for (name, words) in NOT_STARTING.iter().copied() {
        let failure = field.fails(name, ContractBroken).await;
        assert!(
            failure.message.starts_with("RunnableEntrypoint: ") && failure.message.contains(words),
            "{name}: {failure:#?}"
        );
        pods::start(field, name, failure.image.as_deref().unwrap(), json!({})).await;
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
    // All that is broken stands in the condition, what is only warned of last.
    let status = field
        .ready("broken-contract", "False", "ContractBroken")
        .await;
    let told = find(&status.conditions, "Contract").unwrap();
    let rules: Vec<&str> = told
        .message
        .lines()
        .map(|line| line.split(':').next().unwrap())
        .collect();
    assert_eq!(rules, BROKEN_RULES, "{told:#?}");
    assert!(
        told.message.contains("(RUN dd if=/dev/urandom of=/data"),
        "{told:#?}"
    );
}
