//! What is said about steps that fail: reason, line, words and fix. And what a step itself says, which decides nothing.

use kube::ResourceExt;
use serde_json::{Value, json};
use whittle_api::FailureReason;
use whittle_api::FailureReason::*;

use crate::field::{Field, variable};

/// Words that others use for faults of theirs.
const PRETENDED: [&str; 8] = [
    "write /x: no space left on device",
    "write /x: disk quota exceeded",
    "fatal error: Killed signal terminated program, out of memory",
    "failed to push x: unexpected status: 401 Unauthorized",
    "x509: certificate signed by unknown authority; dial tcp: connection refused",
    "Unavailable: error reading from server: EOF; transport is closing; no active session for x",
    "exec /bin/sh: exec format error",
    "whittle: the builder's cache volume was full while this step ran",
];

#[tokio::test]
async fn what_a_step_prints_decides_nothing() {
    let field = Field::new("pretends").await;
    let full = "FROM busybox:1.36\nRUN --mount=type=tmpfs,target=/t,size=1m dd if=/dev/zero of=/t/x bs=1M count=2\n";
    field
        .build("tmpfs", json!({"Dockerfile": full}), json!({}))
        .await;
    let names: Vec<String> = (0..PRETENDED.len())
        .map(|n| format!("pretends-{n}"))
        .collect();
    for (name, words) in names.iter().zip(PRETENDED) {
        // The words stand in the command as well as in what it prints.
        let text = format!("FROM busybox:1.36\nRUN echo \"{words}\"; exit 1\n");
        field
            .build(name, json!({"Dockerfile": text}), json!({}))
            .await;
    }
    for name in names.iter().map(String::as_str).chain(["tmpfs"]) {
        let failure = field.fails(name, StepFailed).await;
        assert_eq!(failure.dockerfile_line, Some(2), "{name}: {failure:#?}");
        assert_eq!(field.jobs(name).await.len(), 1, "{name} runs once");
        let runner = field.runner_any(name).await.unwrap().name_any();
        let log = field.log(&runner).await;
        let again = log.contains("pruning") || log.contains("retrying");
        assert!(!again, "{name} is tried once: {log}");
    }
    field.close().await;
}

/// A mistake: name, files, reason, line, words of the message, words of the hint.
type Mistake = (
    &'static str,
    Value,
    FailureReason,
    Option<i32>,
    Vec<&'static str>,
    &'static str,
);

fn mistakes() -> Vec<Mistake> {
    let of = |dockerfile: &str| json!({"Dockerfile": dockerfile, "a": "x"});
    let script = |dockerfile: &str, text: &str| json!({"Dockerfile": format!("FROM busybox:1.36\nCOPY --chmod=755 run.sh /run.sh\n{dockerfile}\n"), "run.sh": text});
    let large = "up to 65535, and this is 1000740000";
    let nowhere = format!("{}/nosuch/file.tgz", variable("GIT_URL"));
    let add = format!("FROM scratch\nADD {nowhere} /\n");
    vec![
        (
            "no-first-line",
            script("RUN [\"/run.sh\"]", "echo hi\n"),
            StepFailed,
            Some(3),
            vec!["RUN [\"/run.sh\"]"],
            "begin the script with `#!`",
        ),
        (
            "line-ends",
            script("RUN /run.sh", "#!/bin/sh\r\necho hi\r\n"),
            StepFailed,
            Some(3),
            vec!["exit code 127"],
            "Windows line endings (CRLF",
        ),
        (
            "interpreter",
            script("RUN /run.sh", "#!/bin/bash\necho hi\n"),
            StepFailed,
            Some(3),
            vec![],
            "the interpreter /bin/bash",
        ),
        (
            "chown-large",
            of("FROM busybox:1.36\nCOPY --chown=1000740000:0 a /a\n"),
            BuildRejected,
            Some(2),
            vec![large, "line 2"],
            "",
        ),
        (
            "user-large",
            of("FROM busybox:1.36\nUSER 1000740000\nRUN id -u\n"),
            BuildRejected,
            Some(3),
            vec![large, "USER on line 2"],
            "",
        ),
        (
            "workdir-large",
            of("FROM busybox:1.36\nARG ID=1000740000\nUSER $ID\nWORKDIR /w\n"),
            BuildRejected,
            Some(4),
            vec![large, "USER on line 3"],
            "",
        ),
        (
            "cache-large",
            of("FROM busybox:1.36\nRUN --mount=type=cache,target=/c,uid=1000740000 true\n"),
            BuildRejected,
            Some(2),
            vec![large],
            "",
        ),
        (
            "chown-scratch",
            of("FROM scratch\nCOPY --chown=app:app a /a\n"),
            BuildRejected,
            Some(2),
            vec!["names of users and groups are unknown there", "use numbers"],
            "",
        ),
        (
            "chown-link",
            of("FROM busybox:1.36\nCOPY --link --chown=nobody a /a\n"),
            BuildRejected,
            Some(2),
            vec!["--link", "use numbers"],
            "",
        ),
        (
            "checks",
            of("# check=error=true\nFROM busybox:1.36 as base\nRUN true\nCMD echo hi\n"),
            BuildRejected,
            Some(2),
            vec![
                "# check=",
                "FromAsCasing",
                "(line 2)",
                "JSONArgsRecommended",
                "(line 4)",
            ],
            "",
        ),
        (
            "ssh",
            of("FROM busybox:1.36\nRUN --mount=type=ssh,required=true env\n"),
            BuildRejected,
            Some(2),
            vec!["SSH key", "kubernetes.io/ssh-auth"],
            "",
        ),
        (
            "url",
            of(&add),
            CopySourceNotFound,
            Some(2),
            vec!["nosuch/file.tgz", "404"],
            "",
        ),
        (
            "long",
            of(&format!(
                "FROM busybox:1.36\nRUN echo {}\n",
                "x".repeat(65_600)
            )),
            DockerfileSyntax,
            Some(2),
            vec!["65535 bytes"],
            "",
        ),
        (
            "stage",
            of("FROM busybox:1.36 AS build\nFROM busybox:1.36\nCOPY --from=0 /nosuch /x\n"),
            CopySourceNotFound,
            Some(3),
            vec!["/nosuch not found in build"],
            "",
        ),
        (
            "network",
            of("FROM busybox:1.36\nRUN --network=host true\n"),
            BuildRejected,
            Some(2),
            vec!["network.host", "line 2"],
            "",
        ),
    ]
}

#[tokio::test]
async fn a_mistake_has_its_reason_its_line_its_words_and_its_cure() {
    let field = Field::new("words").await;
    let mistakes = mistakes();
    for (name, files, ..) in &mistakes {
        field.build(name, files.clone(), json!({})).await;
    }
    for (name, _, reason, line, words, fix) in mistakes {
        let failure = field.fails(name, reason).await;
        assert_eq!(failure.dockerfile_line, line, "{name}: {failure:#?}");
        for word in words {
            assert!(failure.message.contains(word), "{name}: {failure:#?}");
        }
        let hint = failure.hint.as_deref().unwrap_or_default();
        assert!(hint.contains(fix), "{name}: {failure:#?}");
    }
    // What a base image leaves to the step: it can be built, and no step can run in it.
    let base = "FROM busybox:1.36\nUSER 1000740000\n";
    field
        .build("base", json!({"Dockerfile": base}), json!({}))
        .await;
    field.succeeds("base").await;
    let inherits = format!("FROM {}:latest\nRUN id\n", field.image("base"));
    field
        .build("inherits", json!({"Dockerfile": inherits}), json!({}))
        .await;
    let failure = field.fails("inherits", StepFailed).await;
    assert_eq!(failure.dockerfile_line, Some(2), "{failure:#?}");
    assert!(failure.message.contains("up to 65535"), "{failure:#?}");
    field.close().await;
}
