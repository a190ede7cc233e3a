//! The texts are what buildctl and buildkitd 0.33.1 really printed, hosts changed.

use super::git_tests::branch;
use super::*;
use crate::fixtures;
use serde_json::{Value, json};
use whittle_api::{BuildSecret, InlineSource, LocalRef, Platform, SecretKeyRef};

use FailureReason as R;

/// A request with a Dockerfile of two stages.
pub(super) fn request() -> BuildRequest {
    let dockerfile = "FROM busybox AS build\nFROM scratch AS runtime\n";
    let mut request = fixtures::request();
    request.builder_address = "tcp://builder:1234".into();
    request.builder_server_name = "builder".into();
    request.inputs.source.inline = Some(InlineSource {
        files: [("Dockerfile".to_owned(), dockerfile.to_owned())].into(),
    });
    request
}

/// What comes of a failed vertex (name, error, output; none without a name) and a text.
pub(super) fn judge(request: &BuildRequest, vertex: (&str, &str, &str), text: &str) -> Verdict {
    let inline = request.inputs.source.inline.as_ref();
    let facts = Facts {
        dockerfile: inline.and_then(|inline| inline.files.get("Dockerfile").cloned()),
        ..Facts::default()
    };
    judge_with(request, &facts, vertex, text)
}

pub(super) fn judge_with(
    request: &BuildRequest,
    facts: &Facts,
    (name, error, output): (&str, &str, &str),
    text: &str,
) -> Verdict {
    use base64::Engine;
    let mut state = State::default();
    if !name.is_empty() {
        let data = base64::engine::general_purpose::STANDARD.encode(output);
        let time = "2026-11-21T01:00:00Z";
        for line in [
            serde_json::json!({"vertexes": [{"digest": "v", "name": name, "started": time}]}),
            serde_json::json!({"logs": [{"vertex": "v", "data": data}]}),
            serde_json::json!({"vertexes": [{"digest": "v", "name": name, "started": time, "completed": time, "error": error}]}),
        ] {
            state.line(&line.to_string(), &str::to_owned);
        }
    }
    for line in text.lines() {
        state.line(line, &str::to_owned);
    }
    verdict(&state, Some(1), request, facts)
}

pub(super) const NONE: (&str, &str, &str) = ("", "", "");

#[track_caller]
pub(super) fn assert_is(verdict: &Verdict, reason: R, again: Again, message: &str) {
    let failure = &verdict.failure;
    assert_eq!(
        (failure.reason, verdict.again, failure.message.as_str()),
        (reason, again, message)
    );
}

#[test]
fn a_dockerfile_that_is_not_there_is_named_with_what_is() {
    let mut request = request();
    request.inputs.dockerfile = "Dockerfile.prod".into();
    let text = "error: failed to solve: failed to read dockerfile: open Dockerfile.prod: no such file or directory";
    assert_is(
        &judge(&request, NONE, text),
        R::DockerfileNotFound,
        Again::No,
        "Dockerfile.prod not found among the inline files (Dockerfile): set spec.dockerfile to \
            its path within the source",
    );
    let message = judge(&branch("main"), NONE, text).failure.message;
    assert!(
        message.contains("in no/such of https://git.example.com/team/hello.git"),
        "{message}"
    );
}

#[test]
fn a_syntax_error_has_its_line_and_its_source() {
    let verdict = judge(
        &request(),
        NONE,
        "Dockerfile:2
--------------------
   1 |     FROM scratch
   2 | >>> CPOY a b
   3 |     
--------------------
error: failed to solve: dockerfile parse error on line 2: unknown instruction: CPOY (did you mean COPY?)",
    );
    assert_is(
        &verdict,
        R::DockerfileSyntax,
        Again::No,
        "Dockerfile:2: unknown instruction: CPOY (did you mean COPY?)",
    );
    assert_eq!(verdict.failure.dockerfile_line, Some(2));
    assert_eq!(verdict.failure.step.as_deref(), Some("CPOY a b"));
}

#[test]
fn other_faults_of_the_dockerfile_are_syntax_as_well() {
    for said in [
        "no build stage in current context",
        "the Dockerfile cannot be empty",
        "base name (${X}) should not be blank",
        "circular dependency detected on stage: a",
        r#"failed to parse stage name "FOO:BAR:baz": invalid reference format: repository name (library/FOO) must be lowercase"#,
    ] {
        let verdict = judge(&request(), NONE, &format!("error: failed to solve: {said}"));
        assert_is(
            &verdict,
            R::DockerfileSyntax,
            Again::No,
            &format!("Dockerfile: {said}"),
        );
    }
}

#[test]
fn a_target_that_is_no_stage_is_told_with_the_stages_that_are() {
    let text =
        r#"error: failed to solve: target stage "biuld" could not be found (did you mean build?)"#;
    let message = r#"stage "biuld" not found in the Dockerfile; did you mean build? It has build, runtime: change spec.target"#;
    assert_is(
        &judge(&request(), NONE, text),
        R::StageNotFound,
        Again::No,
        message,
    );
    let facts = Facts {
        dockerfile: Some("FROM busybox AS build\nFROM scratch AS runtime\n".into()),
        ..Facts::default()
    };
    let verdict = judge_with(&branch("main"), &facts, NONE, text);
    assert_is(&verdict, R::StageNotFound, Again::No, message);
}

#[test]
fn a_copy_from_a_stage_that_is_not_there_is_no_missing_image() {
    let verdict = judge(
        &request(),
        ("[internal] load metadata for docker.io/library/biuld:latest", "docker.io/library/biuld:latest: not found", ""),
        "Dockerfile:3
--------------------
   1 |     FROM busybox AS build
   2 |     FROM scratch
   3 | >>> COPY --from=biuld /bin/sh /sh
   4 |     
--------------------
error: failed to solve: biuld: failed to resolve source metadata for docker.io/library/biuld:latest: docker.io/library/biuld:latest: not found (did you mean build?)",
    );
    assert_eq!(verdict.failure.reason, R::StageNotFound);
    assert_eq!(verdict.failure.dockerfile_line, Some(3));
    assert!(verdict.failure.message.starts_with(
        r#"stage "biuld" not found in the Dockerfile; did you mean build? It has build, runtime"#
    ));
}

#[test]
fn a_copy_of_a_file_that_is_not_there_names_it() {
    let said = r#"failed to calculate checksum of ref 92hx::la79: "/hello.txt": not found"#;
    let text = format!(
        "Dockerfile:2
--------------------
   1 |     FROM scratch
   2 | >>> COPY hello.txt /x
--------------------
error: failed to solve: failed to compute cache key: {said}"
    );
    let verdict = judge(&request(), ("[1/1] COPY hello.txt /x", said, ""), &text);
    assert_is(
        &verdict,
        R::CopySourceNotFound,
        Again::No,
        "/hello.txt not found among the inline files (Dockerfile): the path is relative to the \
            context's root, and .dockerignore may exclude it",
    );
    let text = text.replace("COPY hello", "COPY --from=build /hello");
    let verdict = judge(&request(), ("[1/1] COPY --from=build", said, ""), &text);
    assert!(
        verdict
            .failure
            .message
            .starts_with("/hello.txt not found in build: ")
    );
}

fn base_image(said: &str) -> Verdict {
    judge(
        &request(),
        NONE,
        &format!(
            "Dockerfile:1\n--------------------\n   1 | >>> FROM h.example.com/x/y:1\n--------------------\nerror: failed to solve: h.example.com/x/y:1: failed to resolve source metadata for h.example.com/x/y:1: {said}"
        ),
    )
}

#[test]
fn a_base_image_that_does_not_exist_is_named() {
    assert_is(
        &base_image("h.example.com/x/y:1: not found"),
        R::BaseImageNotFound,
        Again::No,
        "base image h.example.com/x/y:1 not found in its registry: check name and tag",
    );
    let verdict = base_image("no match for platform in manifest: not found");
    assert_eq!(verdict.failure.reason, R::BaseImageNotFound);
    assert!(
        verdict
            .failure
            .message
            .contains("--platform=$BUILDPLATFORM")
    );
}

#[test]
fn a_base_image_that_is_refused_asks_for_credentials() {
    for said in [
        "unexpected status from HEAD request to https://h.example.com/v2/x/y/manifests/1: 401 Unauthorized",
        "unexpected status from HEAD request to https://h.example.com/v2/x/y/manifests/1: 403 Forbidden\ndenied\ndenied",
        "pull access denied, repository does not exist or may require authorization: server message: insufficient_scope: authorization failed",
    ] {
        let verdict = base_image(said);
        assert_eq!(verdict.failure.reason, R::BaseImageDenied, "{said}");
        assert!(verdict.failure.message.contains("credentials missing"));
    }
}

#[test]
fn a_registry_of_base_images_that_is_away_is_asked_again() {
    for said in [
        "unexpected status from HEAD request to https://h.example.com/v2/x/y/manifests/1: 503 Service Unavailable",
        "unexpected status from HEAD request to https://h.example.com/v2/x/y/manifests/1: 429 Too Many Requests",
        r#"failed to do request: Head "https://h.example.com/v2/x/y/manifests/1": dial tcp 10.0.0.9:443: connect: connection refused"#,
    ] {
        let verdict = base_image(said);
        assert_eq!(verdict.again, Again::Later, "{said}");
        assert!(
            verdict
                .failure
                .message
                .starts_with("base image h.example.com/x/y:1: its registry")
        );
    }
}

pub(super) fn step(error: &str, output: &str) -> Verdict {
    judge(
        &request(),
        ("[2/2] RUN go build", error, output),
        &format!(
            "Dockerfile:2\n--------------------\n   1 |     FROM busybox\n   2 | >>> RUN go build\n--------------------\nerror: failed to solve: {error}"
        ),
    )
}

#[test]
fn a_failed_run_has_its_line_its_exit_code_and_its_output() {
    let error = r#"process "/bin/sh -c go build" did not complete successfully: exit code: 3"#;
    let verdict = step(error, "one\ntwo\n");
    assert_is(
        &verdict,
        R::StepFailed,
        Again::No,
        "Dockerfile line 2: RUN go build failed with exit code 3",
    );
    assert_eq!(verdict.failure.dockerfile_line, Some(2));
    assert_eq!(verdict.failure.step.as_deref(), Some("RUN go build"));
    assert_eq!(verdict.failure.log.as_deref(), Some("one\ntwo"));
}

#[test]
fn a_run_that_was_killed_is_out_of_memory() {
    for how in [
        "exit code: 137",
        "exit code: 137: context canceled: cannot allocate memory",
        "cannot allocate memory",
    ] {
        let error =
            format!(r#"process "/bin/sh -c go build" did not complete successfully: {how}"#);
        let verdict = step(&error, "");
        assert_eq!(verdict.failure.reason, R::OutOfMemory, "{how}");
        assert!(
            verdict
                .failure
                .message
                .contains("resources.limits.memory of the Builder")
        );
    }
}

#[test]
fn a_program_of_another_platform_is_rejected_with_the_cure() {
    let error = r#"process "/bin/sh -c true" did not complete successfully: exit code: 255"#;
    let verdict = step(error, "exec /bin/sh: exec format error\n");
    assert_eq!(verdict.failure.reason, R::BuildRejected);
    assert!(
        verdict
            .failure
            .message
            .contains("--platform=$BUILDPLATFORM")
    );
}

#[test]
fn what_builders_never_grant_is_rejected() {
    let verdict = judge(
        &request(),
        NONE,
        "error: failed to solve: failed to load LLB: security.insecure is not allowed",
    );
    assert_is(
        &verdict,
        R::BuildRejected,
        Again::No,
        "the Dockerfile requires security.insecure, which is never allowed: remove it",
    );
}

#[test]
fn a_build_secret_that_is_not_given_is_named() {
    let mut request = request();
    request.inputs.secrets = vec![BuildSecret {
        id: "npmrc".into(),
        secret_ref: SecretKeyRef {
            name: "npm".into(),
            key: ".npmrc".into(),
        },
    }];
    let vertex = (
        "[2/2] RUN --mount=type=secret,id=npm,required x",
        "secret npm: not found",
        "",
    );
    assert_is(
        &judge(
            &request,
            vertex,
            "error: failed to solve: secret npm: not found",
        ),
        R::BuildRejected,
        Again::No,
        r#"secret "npm" missing: the Dockerfile requires it, but spec.secrets has npmrc"#,
    );
}

fn push(request: &BuildRequest, facts: &Facts, said: &str) -> Verdict {
    let said = format!("failed to push registry.example.com/team/hello: {said}");
    judge_with(
        request,
        facts,
        ("exporting to image", &said, ""),
        &format!("error: failed to solve: {said}"),
    )
}

const UNAUTHORIZED: &str = "unexpected status from HEAD request to https://registry.example.com/v2/team/hello/blobs/sha256:d7d2: 401 Unauthorized";

#[test]
fn a_refused_push_names_the_secret_or_its_absence() {
    let mut request = request();
    let mut facts = Facts::default();
    assert_is(
        &push(&request, &facts, UNAUTHORIZED),
        R::PushDenied,
        Again::No,
        "registry registry.example.com denied the push of team/hello: 401 Unauthorized; \
            credentials missing: name a Secret of type kubernetes.io/dockerconfigjson in \
            output.secretRef that may push",
    );
    request.inputs.output.secret_ref = Some(LocalRef {
        name: "regcred".into(),
    });
    let message = push(&request, &facts, UNAUTHORIZED).failure.message;
    assert!(
        message.ends_with("Secret regcred has no credentials for registry.example.com"),
        "{message}"
    );
    facts.credentials = vec!["registry.example.com".into()];
    let message = push(&request, &facts, UNAUTHORIZED).failure.message;
    assert!(
        message.ends_with("in Secret regcred are valid and may push"),
        "{message}"
    );
    assert_eq!(
        push(&request, &facts, "denied").failure.reason,
        R::PushDenied
    );
}

#[test]
fn a_registry_that_is_away_is_tried_again() {
    for said in [
        "unexpected status from HEAD request to https://registry.example.com/v2/team/hello/blobs/sha256:d7d2: 503 Service Unavailable",
        "unexpected status from HEAD request to https://registry.example.com/v2/team/hello/blobs/sha256:d7d2: 429 Too Many Requests",
        r#"failed to do request: Head "https://registry.example.com/v2/team/hello/blobs/sha256:d7d2": dial tcp 10.0.0.9:443: connect: connection refused"#,
        r#"failed to do request: Head "https://registry.example.com/v2/team/hello/blobs/sha256:d7d2": dial tcp: lookup registry.example.com on 10.96.0.10:53: no such host"#,
    ] {
        let verdict = push(&request(), &Facts::default(), said);
        assert_eq!(
            (verdict.failure.reason, verdict.again),
            (R::PushFailed, Again::Later),
            "{said}"
        );
    }
}

#[test]
fn a_repository_that_a_registry_does_not_take_is_not_pushed_again() {
    let said = "unexpected status from POST request to https://registry.example.com/v2/team/hello/blobs/uploads/: 404 Not Found";
    let verdict = push(&request(), &Facts::default(), said);
    assert_eq!(
        (verdict.failure.reason, verdict.again),
        (R::PushDenied, Again::No)
    );
}

#[test]
fn a_certificate_that_is_not_trusted_leads_to_the_builders_settings() {
    let said = r#"failed to do request: Head "https://registry.example.com/v2/": tls: failed to verify certificate: x509: certificate signed by unknown authority"#;
    let verdict = push(&request(), &Facts::default(), said);
    assert_eq!(
        (verdict.failure.reason, verdict.again),
        (R::PushFailed, Again::No)
    );
    assert!(
        verdict
            .failure
            .message
            .contains("registries[].caRef of the Builder")
    );
}

#[test]
fn a_builder_that_was_never_there_is_waited_for_a_little() {
    let text = r#"error: listing workers for Build: failed to list workers: Unavailable: connection error: desc = "transport: Error while dialing: dial tcp 10.0.0.3:1234: connect: connection refused""#;
    let verdict = judge(&request(), NONE, text);
    assert_eq!(
        (verdict.failure.reason, verdict.again),
        (R::BuilderLost, Again::Later)
    );
    let text = r#"error: listing workers for Build: failed to list workers: Unavailable: connection error: desc = "transport: authentication handshake failed: tls: failed to verify certificate: x509: certificate is valid for builder.test, not other.test""#;
    assert_eq!(judge(&request(), NONE, text).again, Again::No);
}

#[test]
fn what_is_not_known_keeps_buildkits_words() {
    assert_is(
        &judge(&request(), NONE, "error: failed to solve: something new"),
        R::BuildFailed,
        Again::No,
        "something new",
    );
    let silent = verdict(&State::default(), None, &request(), &Facts::default());
    assert_is(
        &silent,
        R::BuildFailed,
        Again::No,
        "buildctl was killed by a signal, without output",
    );
}

#[test]
fn messages_and_steps_are_bounded() {
    let verdict = judge(
        &request(),
        NONE,
        &format!("error: failed to solve: {}", "x".repeat(50_000)),
    );
    assert!(verdict.failure.message.len() <= MESSAGE_BYTES);
}

#[test]
fn a_missing_platform_names_what_was_asked_for() {
    let mut request = request();
    request.inputs.platforms = vec![Platform("linux/s390x".into())];
    let text = "error: failed to solve: x:1: failed to resolve source metadata for docker.io/library/x:1: no match for platform in manifest: not found";
    let message = judge(&request, NONE, text).failure.message;
    assert!(
        message.starts_with(
            "base image docker.io/library/x:1 not found for platform linux/s390x: use another"
        ),
        "{message}"
    );
}

#[test]
fn a_step_is_told_by_its_command_alone() {
    assert_eq!(
        command(
            "RUN --mount=type=cache,target=/c --network=none \\\n    # why\n    go build \\\n    -o /a ."
        ),
        "RUN go build -o /a ."
    );
    assert_eq!(command("RUN make"), "RUN make");
    assert_eq!(command("RUN"), "RUN");
}

#[test]
fn of_the_steps_that_ran_the_lines_are_known_and_of_those_from_the_cache_they_are_not() {
    let dockerfile = "FROM a AS build\nRUN --mount=type=cache,target=/c \\\n  make\nRUN <<E\nset -e\ntrue\nE\nFROM a\nRUN cached\nRUN bad\n";
    let vertex = |name: &str, second: u32, more: Value| {
        let mut vertex = json!({"digest": name, "name": name, "started": format!("2026-11-26T15:08:{second:02}Z"),
            "completed": "2026-11-26T15:09:00Z"});
        json_patch(&mut vertex, more);
        json!({"vertexes": [vertex]}).to_string()
    };
    let mut state = State::default();
    for line in [
        vertex(
            "[linux/amd64 build 2/3] RUN --mount=type=cache,target=/c   make",
            20,
            json!({}),
        ),
        vertex(
            "[linux/arm64 build 2/3] RUN --mount=type=cache,target=/c   make",
            10,
            json!({}),
        ),
        vertex("[linux/amd64 build 3/3] RUN <<E (set -e...)", 30, json!({})),
        vertex("[stage-1 2/3] RUN cached", 40, json!({"cached": true})),
        vertex(
            "[stage-1 3/3] RUN bad",
            50,
            json!({"error": "exit code: 1"}),
        ),
        vertex("[internal] load build context", 1, json!({})),
    ] {
        state.line(&line, &str::to_owned);
    }
    let ran: Vec<(i32, i64)> = ran(dockerfile, &state)
        .into_iter()
        .map(|(line, began)| (line, began.as_second() % 60))
        .collect();
    // The first of several platforms.
    assert_eq!(ran, [(2, 10), (4, 30)]);
}

fn json_patch(object: &mut Value, more: Value) {
    if let (Some(object), Value::Object(more)) = (object.as_object_mut(), more) {
        object.extend(more);
    }
}
