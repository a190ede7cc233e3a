//! Who speaks: the daemon, the connection to it, a registry, a server, or the step. The same words of each mean another
//! thing.

use super::tests::{NONE, judge, judge_with, request, step};
use super::*;

use FailureReason as R;

fn of_daemon(said: &str) -> Verdict {
    judge(&request(), NONE, &format!("error: failed to solve: {said}"))
}

/// Words of all kinds, each of which means something where another one than a step says it.
const WORDS: [&str; 24] = [
    "no space left on device",
    "disk quota exceeded",
    "read-only file system",
    "ResourceExhausted: write /x: no space left on device",
    "out of memory",
    "cannot allocate memory",
    "Killed",
    "connection refused",
    "dial tcp 10.0.0.1:443: i/o timeout",
    "connection reset by peer",
    "unexpected status from HEAD request to https://x: 401 Unauthorized",
    "unexpected status: 429 Too Many Requests",
    "x509: certificate signed by unknown authority",
    "grpc: the client connection is closing",
    "Unavailable: error reading from server: EOF",
    "no active session for x: context deadline exceeded",
    "context canceled",
    "failed to push registry.example.com/x: denied",
    "failed to resolve source metadata for x: not found",
    "secret x: not found",
    "invalid response status 404",
    "invalid user index -1",
    "exec /bin/sh: exec format error",
    STEP_FULL,
];

#[test]
fn what_a_step_prints_never_decides() {
    for words in WORDS {
        // In the command as well, as BuildKit quotes it, and with the exit codes that runc has, too.
        for code in [1, 2, 127, 255] {
            let error = format!(
                r#"process "/bin/sh -c echo \"{words}\" did not complete successfully: x; exit {code}" did not complete successfully: exit code: {code}"#
            );
            let verdict = step(&error, &format!("begun\n{words}\n"));
            assert_eq!(
                (verdict.failure.reason, verdict.again),
                (R::StepFailed, Again::No),
                "{words}: {verdict:#?}"
            );
            assert!(verdict.failure.log.unwrap().contains(words));
        }
    }
}

#[test]
fn a_step_that_prints_the_runtimes_own_words_is_the_step() {
    let user = "runc run failed: unable to start container process: error during container init: unable to setup user: chown /dev/stdin: invalid argument";
    for (words, code) in [("exec /bin/sh: exec format error", 255), (user, 1)] {
        let run = format!("RUN echo '{words}'; exit {code}");
        let error = format!(
            r#"process "/bin/sh -c echo '{words}'; exit {code}" did not complete successfully: exit code: {code}"#
        );
        let text = format!(
            "Dockerfile:3\n--------------------\n   3 | >>> {run}\n--------------------\nerror: failed to solve: {error}"
        );
        let vertex = format!("[2/2] {run}");
        let log = format!("{words}\n");
        let dockerfile = format!("FROM a\nUSER app\n{run}\n");
        let failure = with_dockerfile(&dockerfile, (&vertex, &error, &log), &text);
        assert_eq!(failure.reason, R::StepFailed, "{failure:#?}");
        let said = format!("failed with exit code {code}");
        assert!(failure.message.contains(&said), "{}", failure.message);
    }
}

#[test]
fn strangers_words_move_no_cursor_and_turn_no_text() {
    let said = "failed to push r.example.com/t/x: denied: a\u{1b}[2Jb\u{202e}c";
    let message = of_daemon(said).failure.message;
    assert!(message.contains("denied: a [2Jbc"), "{message:?}");
    let message = plain(R::SourceNotFound, "a\u{1b}b\nc".into()).message;
    assert_eq!(message, "a b\nc");
}

#[test]
fn the_names_of_files_never_decide() {
    for words in WORDS {
        let said = format!(
            r#"failed to compute cache key: failed to calculate checksum of ref la79::x: "/{words}": not found"#
        );
        let verdict = of_daemon(&said);
        assert_eq!(verdict.failure.reason, R::CopySourceNotFound, "{words}");
        let said = format!("dockerfile parse error on line 1: unknown instruction: {words}");
        let verdict = of_daemon(&said);
        assert_eq!(verdict.failure.reason, R::DockerfileSyntax, "{words}");
    }
}

#[test]
fn a_volume_that_the_daemon_finds_full_is_pruned() {
    for said in [
        "ResourceExhausted: failed to read dockerfile: write /snapshots/15/fs/Dockerfile: no space left on device",
        "failed to copy file info: failed to copy xattrs: write /a: no space left on device",
        "failed to compute cache key: failed to calculate checksum of ref la79::x: write /b: no space left on device",
        "failed to prepare la79 as x: mkdir /home/user/.local/share/buildkit/snapshots/9: no space left on device",
        "mkdir /w: disk quota exceeded",
        "failed to push registry.example.com/x: write /home/user/.local/share/buildkit/ingest/data: no space left on device",
        "failed to extract layer sha256:00: write /usr/lib/x: No space left on device",
        r#"process "/bin/sh -c true" did not complete successfully: write /home/user/.local/share/buildkit/executor/x/config.json: no space left on device"#,
        "failed to fetch remote https://git.example.com/x.git: git stderr:\nfatal: write error: No space left on device\n: exit status 128",
    ] {
        let verdict = of_daemon(said);
        assert_eq!(
            (verdict.failure.reason, verdict.again),
            (R::CacheFull, Again::Pruned),
            "{said}"
        );
    }
}

#[test]
fn another_machine_that_is_full_is_no_full_cache() {
    for said in [
        "failed to push registry.example.com/team/hello: unexpected status from PATCH request to https://registry.example.com/v2/x: 500 Internal Server Error: write /var/lib/registry: no space left on device",
        "failed to push registry.example.com/team/hello: server message: unknown: no space left on device",
    ] {
        let verdict = of_daemon(said);
        assert_eq!(verdict.failure.reason, R::PushFailed, "{said}");
    }
    // In the form that registries have for errors, of which BuildKit leaves the status out.
    for said in [
        "unknown: no space left on device",
        "unknown: unknown error - write /var/lib/registry: no space left on device",
        "unavailable: write /var/lib/registry: no space left on device",
        "errors:\nunknown: unknown error\nunknown: no space left on device\n",
    ] {
        let push = of_daemon(&format!(
            "failed to push registry.example.com/team/hello: {said}"
        ));
        assert_eq!(
            (push.failure.reason, push.again),
            (R::PushFailed, Again::Later),
            "{said}"
        );
        let base = of_daemon(&format!(
            "x:1: failed to resolve source metadata for docker.io/library/x:1: {said}"
        ));
        assert_ne!(base.again, Again::Pruned, "{said}");
    }
    let said = "failed to fetch remote https://git.example.com/x.git: git stderr:\nremote: fatal: No space left on device\nfatal: early EOF\n: exit status 128";
    assert_ne!(of_daemon(said).again, Again::Pruned);
}

#[test]
fn a_scratch_folder_that_is_full_is_the_runners() {
    let said = "error writing /tmp/context/a: write /tmp/context/a: no space left on device";
    let verdict = of_daemon(said);
    assert_eq!(verdict.failure.reason, R::SourceTooLarge);
    assert!(verdict.failure.message.contains("runner.scratchSize"));
}

#[test]
fn a_step_that_fills_the_volume_is_known_by_what_was_measured_beside_it() {
    let error = |code: &str| {
        format!(r#"process "/bin/sh -c dd" did not complete successfully: exit code: {code}"#)
    };
    let output = format!("dd: error writing '/big'\n{STEP_FULL}\n");
    let verdict = step(&error("4294967295"), &output);
    assert_eq!(
        (verdict.failure.reason, verdict.again),
        (R::CacheFull, Again::Pruned)
    );
    // What a step prints is not enough, nor is it that its runtime was killed.
    assert_eq!(step(&error("1"), &output).failure.reason, R::StepFailed);
    let killed = step(&error("4294967295"), "dd\n").failure;
    assert_eq!(killed.reason, R::StepFailed);
    assert!(killed.message.contains("was killed"), "{}", killed.message);
}

#[test]
fn a_connection_that_breaks_is_the_builder_that_was_lost() {
    for text in [
        "error: failed to solve: Unavailable: error reading from server: EOF",
        "error: failed to receive status: rpc error: code = Unavailable desc = error reading from server: EOF",
        "error: failed to solve: Unavailable: closing transport due to: connection error: desc = \"error reading from server: EOF\", received prior goaway: code: NO_ERROR, debug data: \"graceful_stop\"",
        r#"error: failed to run Build function: Unavailable: connection error: desc = "transport: Error while dialing: dial tcp 10.0.0.3:1234: connect: connection refused""#,
        "error: failed to receive status: rpc error: code = Unavailable desc = error reading from server: connection reset by peer",
        "error: failed to solve: failed to run Build function: Canceled: closed",
        "error: failed to solve: Canceled: grpc: the client connection is closing",
        "error: failed to solve: failed to read dockerfile: failed to load cache key: rpc error: code = Canceled desc = grpc: the client connection is closing",
        "error: failed to solve: failed to compute cache key: failed to copy: rpc error: code = Canceled desc = grpc: the client connection is closing: unknown",
        "error: failed to solve: failed to push registry.example.com/team/hello: failed to authorize: rpc error: code = Unavailable desc = transport is closing",
        "error: failed to solve: failed to push registry.example.com/team/hello: no active session for 0a: context deadline exceeded",
        "error: failed to solve: x:1: failed to resolve source metadata for docker.io/library/x:1: failed to authorize: no active session for 0a: context canceled",
        "error: failed to solve: no active sessions",
        "error: failed to solve: secret x: no active session for 0a: context deadline exceeded",
        "error: failed to solve: failed to read dockerfile: failed to load cache key: context canceled",
        "error: failed to solve: context canceled",
        "error: failed to solve: read tcp 10.0.0.2:4000->10.0.0.3:1234: read: connection reset by peer",
        "error: failed to receive status: read tcp 10.0.0.2:4000->10.0.0.3:1234: use of closed network connection",
        "error: failed to solve: http2: server sent GOAWAY and closed the connection; LastStreamID=1",
        "error: failed to solve: write: broken pipe",
        "error: failed to solve: EOF",
        "error: failed to solve: NotFound: no such job x9",
        "error: failed to solve: failed to create lease: database not open",
        r#"error: failed to solve: process "/bin/sh -c make" did not complete successfully: exit code: 137: context canceled"#,
        r#"error: failed to solve: process "/bin/sh -c make" did not complete successfully: context canceled: context canceled"#,
        r#"error: failed to solve: process "/bin/sh -c make" did not complete successfully: exit code: 137: graceful_stop"#,
    ] {
        let verdict = judge(&request(), NONE, text);
        assert_eq!(
            (verdict.failure.reason, verdict.again),
            (R::BuilderLost, Again::No),
            "{text}: {verdict:#?}"
        );
    }
    let text = "error: failed to solve: Unavailable: error reading from server: EOF";
    assert_eq!(
        judge(&request(), NONE, text).failure.message,
        "the connection to the builder was lost: error reading from server: EOF"
    );
}

#[test]
fn a_registry_whose_connection_breaks_is_no_lost_builder() {
    let push = "failed to push registry.example.com/team/hello: failed to do request: ";
    let base =
        "x:1: failed to resolve source metadata for docker.io/library/x:1: failed to do request: ";
    for (words, reason) in [(push, R::PushFailed), (base, R::BaseImageUnreachable)] {
        for said in [
            r#"Head "https://r.example.com/v2/": read tcp 10.0.0.2:1->10.0.0.3:443: read: connection reset by peer"#,
            r#"Head "https://r.example.com/v2/": EOF"#,
            r#"Put "https://r.example.com/v2/": http2: server sent GOAWAY and closed the connection: connection reset by peer"#,
            r#"Get "https://r.example.com/v2/": use of closed network connection"#,
            r#"Get "https://r.example.com/v2/": stream error: stream ID 1; INTERNAL_ERROR; received from peer"#,
            r#"Get "https://r.example.com/v2/": http2: server sent GOAWAY and closed the connection; LastStreamID=1"#,
        ] {
            let verdict = of_daemon(&format!("{words}{said}"));
            assert_eq!(
                (verdict.failure.reason, verdict.again),
                (reason, Again::Later),
                "{said}: {verdict:#?}"
            );
        }
    }
}

#[test]
fn a_servers_backend_that_goes_away_is_no_lost_builder() {
    for said in [
        "rpc error: code = Unavailable desc = transport is closing",
        "rpc error: code = Canceled desc = grpc: the client connection is closing",
        "upload session not found",
        "Unavailable: keepalive ping failed",
        "error reading from server: EOF",
    ] {
        for answer in [
            format!(
                "unexpected status from PUT request to https://r.example.com/v2/t/x/blobs/uploads/1: 500 Internal Server Error: {said}"
            ),
            format!("unknown: {said}"),
            format!("errors:\nunknown: x\nunknown: {said}\n"),
        ] {
            let push = of_daemon(&format!("failed to push r.example.com/t/x: {answer}"));
            let reason = push.failure.reason;
            assert!(
                matches!(reason, R::PushFailed | R::PushDenied),
                "{answer}: {reason:?}"
            );
            let base = of_daemon(&format!(
                "x:1: failed to resolve source metadata for docker.io/library/x:1: {answer}"
            ));
            let reason = base.failure.reason;
            assert!(
                matches!(
                    reason,
                    R::BaseImageUnreachable | R::BuildFailed | R::BaseImageNotFound
                ),
                "{answer}: {reason:?}"
            );
        }
        let text = format!(
            "failed to load cache key: git stderr:\nremote: {said}\nfatal: the remote end hung up\n: exit status 128"
        );
        assert_ne!(of_daemon(&text).failure.reason, R::BuilderLost, "{said}");
    }
}

#[test]
fn words_of_a_connection_in_a_registrys_answer_are_no_connection() {
    for (said, reason) in [
        (
            "denied: connection refused by the policy of x509: y",
            R::PushDenied,
        ),
        (
            "unexpected status from PUT request to https://r.example.com/v2/t/x: 403 Forbidden: no route to host",
            R::PushDenied,
        ),
    ] {
        let verdict = of_daemon(&format!("failed to push r.example.com/t/x: {said}"));
        assert_eq!(
            (verdict.failure.reason, verdict.again),
            (reason, Again::No),
            "{said}"
        );
    }
}

#[test]
fn a_git_repository_of_add_that_has_another_commit_than_its_checksum_is_told() {
    let add = "ADD --checksum=0123 https://git.example.com/x.git#main /x";
    let said = "failed to load cache key: expected checksum to match 0123, got 4567";
    let text = format!(
        "Dockerfile:2\n--------------------\n   2 | >>> {add}\n--------------------\nerror: failed to solve: {said}"
    );
    let name = format!("[2/2] {add}");
    let failure = with_dockerfile(&format!("FROM a\n{add}\n"), (&name, said, ""), &text);
    assert_eq!(failure.reason, R::BuildRejected);
    assert_eq!(failure.dockerfile_line, Some(2));
    for words in ["https://git.example.com/x.git#main", "4567", "--checksum"] {
        assert!(failure.message.contains(words), "{}", failure.message);
    }
}

#[test]
fn a_step_of_which_nothing_is_known_is_named_without_gaps() {
    let said = r#"process "/bin/sh -c x" did not complete successfully: exit code: 3"#;
    assert_eq!(
        of_daemon(said).failure.message,
        "a RUN step failed with exit code 3"
    );
}

#[test]
fn memory_names_the_builder_and_its_limit() {
    let mut request = request();
    let text = r#"error: failed to solve: process "/bin/sh -c make" did not complete successfully: exit code: 137: context canceled: cannot allocate memory"#;
    for (limit, words) in [
        (
            Some("2Gi"),
            "because the memory limit 2Gi of Builder default was exceeded",
        ),
        (
            None,
            "because the memory limit of Builder default, or of its node, was exceeded",
        ),
    ] {
        request.builder_memory = limit.map(str::to_owned);
        let failure = judge(&request, NONE, text).failure;
        assert_eq!(failure.reason, R::OutOfMemory);
        assert!(failure.message.contains(words), "{}", failure.message);
    }
    request.builder_address = "tcp://arm:1234".into();
    let field = "spec.resources.limits.memory of Builder default";
    request.natives = vec![crate::request::Native {
        platform: "linux/arm64".into(),
        builder: "default-linux-arm64".into(),
        address: Some("tcp://arm:1234".into()),
        memory: None,
        memory_field: Some(field.into()),
        missing: None,
    }];
    let message = judge(&request, NONE, text).failure.message;
    let words = "of Builder default-linux-arm64, or of its node, was exceeded: raise spec.resources.limits.memory of Builder default, or";
    assert!(message.contains(words), "{message}");
}

fn with_dockerfile(dockerfile: &str, vertex: (&str, &str, &str), text: &str) -> Failure {
    let facts = Facts {
        dockerfile: Some(dockerfile.to_owned()),
        ..Facts::default()
    };
    judge_with(&request(), &facts, vertex, text).failure
}

#[test]
fn a_line_that_is_too_long_is_named_though_buildkit_names_another() {
    let long = "x".repeat(66_000);
    for (dockerfile, said, line) in [
        (
            format!("FROM a\nRUN true\nENV A={long}\n"),
            "dockerfile line greater than max allowed size of 65535",
            3,
        ),
        // It stops reading there, so it never sees the end of the heredoc.
        (
            format!("FROM a\nRUN <<E\necho {long}\nE\n"),
            "unterminated heredoc",
            3,
        ),
    ] {
        let text = format!(
            "Dockerfile:2\n--------------------\n   1 |     FROM a\n   2 | >>> RUN\n--------------------\nerror: failed to solve: {said}"
        );
        let failure = with_dockerfile(&dockerfile, NONE, &text);
        assert_eq!(failure.reason, R::DockerfileSyntax);
        assert_eq!(failure.dockerfile_line, Some(line));
        let words =
            format!("Dockerfile:{line}: this line is too long: BuildKit reads at most 65535 bytes");
        assert!(failure.message.starts_with(&words), "{}", failure.message);
    }
}

#[test]
fn a_dockerfile_that_is_no_text_says_so() {
    for (word, words) in [
        ("\u{fffd}\u{fffd}F\0R\0O\0M\0", "UTF-16"),
        ("F\0R\0O\0M\0 ", "invalid UTF-8: save"),
        ("\u{fffd}\u{8}\0\0\0", "invalid UTF-8: save"),
    ] {
        let said = format!("dockerfile parse error on line 1: unknown instruction: {word}");
        let failure = of_daemon(&said).failure;
        assert_eq!(failure.reason, R::DockerfileSyntax);
        assert!(
            failure.message.starts_with("Dockerfile:1: "),
            "{failure:#?}"
        );
        assert!(failure.message.contains(words), "{failure:#?}");
    }
}

#[test]
fn a_base_image_whose_user_is_too_large_is_told_as_such() {
    let text = "Dockerfile:2\n--------------------\n   1 |     FROM base\n   2 | >>> RUN id\n--------------------\nerror: failed to solve: process \"/bin/sh -c id\" did not complete successfully: exit code: 1";
    let log = "runc run failed: unable to start container process: error during container init: unable to setup user: chown /dev/stdin: invalid argument\n";
    let vertex = ("[2/2] RUN id", "process", log);
    let failure = with_dockerfile("FROM base\nRUN id\n", vertex, text);
    assert_eq!(failure.reason, R::StepFailed);
    for words in ["up to 65535", "base image", "Dockerfile line 2"] {
        assert!(failure.message.contains(words), "{}", failure.message);
    }
    // BuildKit's own words need no line of the Dockerfile to be believed.
    let failure = of_daemon("lchown /w: invalid argument").failure;
    assert_eq!(failure.reason, R::BuildRejected);
    assert!(failure.message.contains("65535"), "{}", failure.message);
}

#[test]
fn a_secret_for_a_user_that_is_too_large_is_told_as_well() {
    let run = "RUN --mount=type=secret,id=s,uid=1000740000 cat /run/secrets/s";
    let text = format!(
        "Dockerfile:2\n--------------------\n   1 |     FROM a\n   2 | >>> {run}\n--------------------\nerror: failed to solve: process \"/bin/sh -c cat /run/secrets/s\" did not complete successfully: chown /tmp/buildkit-secrets2304/wlzj: invalid argument"
    );
    let failure = with_dockerfile(&format!("FROM a\n{run}\n"), NONE, &text);
    assert_eq!(failure.reason, R::BuildRejected);
    assert!(
        failure.message.contains("this is 1000740000 (--mount)"),
        "{failure:#?}"
    );
}

#[test]
fn a_very_long_command_does_not_hide_how_it_ended() {
    let command = "echo abcdefgh > /dev/null\\n".repeat(4000);
    let lines: String = (3..4003)
        .map(|n| format!("{n:>4} | >>> echo abcdefgh > /dev/null\n"))
        .collect();
    let text = format!(
        "Dockerfile:2\n--------------------\n   1 |     FROM a\n   2 | >>> RUN <<E\n{lines}--------------------\nerror: failed to solve: process \"/bin/sh -c {command}\" did not complete successfully: exit code: 7"
    );
    let failure = judge(&request(), NONE, &text).failure;
    assert_eq!(failure.reason, R::StepFailed);
    assert_eq!(failure.dockerfile_line, Some(2));
    assert!(
        failure.message.ends_with("failed with exit code 7"),
        "{}",
        failure.message
    );
}

#[test]
fn line_ends_that_the_dockerfile_mends_are_not_to_blame() {
    let text = "Dockerfile:3\n--------------------\n   3 | >>> RUN ./ci.sh\n--------------------\nerror: failed to solve: process \"/bin/sh -c ./ci.sh\" did not complete successfully: exit code: 1";
    let vertex = ("[2/2] RUN ./ci.sh", "process", "--- FAIL: TestAdd\n");
    for (mends, hint) in [
        ("", true),
        ("RUN dos2unix ci.sh", false),
        (r"RUN sed -i 's/\r$//' ci.sh", false),
    ] {
        let facts = Facts {
            dockerfile: Some(format!("FROM a\n{mends}\nRUN ./ci.sh\n")),
            scripts: vec![Script {
                path: "ci.sh".into(),
                first_line: "#!/bin/sh\r".into(),
            }],
            ..Facts::default()
        };
        let found = judge_with(&request(), &facts, vertex, text).failure.hint;
        assert_eq!(
            found.is_some_and(|it| it.contains("Windows line endings (CRLF)")),
            hint,
            "{mends}"
        );
    }
}

#[test]
fn a_registry_that_is_away_makes_no_missing_stage_of_an_image() {
    let away = "dial tcp 10.0.0.9:443: connect: connection refused";
    for (name, said, reason) in [
        ("busybox", away, R::BaseImageUnreachable),
        (
            "busybox",
            "docker.io/library/busybox:latest: not found",
            R::StageNotFound,
        ),
        ("biuld", away, R::StageNotFound),
    ] {
        let text = format!(
            "Dockerfile:3\n--------------------\n   3 | >>> COPY --from={name} /bin/sh /sh\n--------------------\nerror: failed to solve: {name}: failed to resolve source metadata for docker.io/library/{name}:latest: failed to do request: {said}"
        );
        let dockerfile = format!("FROM a AS build\nFROM b\nCOPY --from={name} /bin/sh /sh\n");
        let failure = with_dockerfile(&dockerfile, NONE, &text);
        assert_eq!(failure.reason, reason, "{failure:#?}");
    }
}

#[test]
fn colours_and_what_moves_a_cursor_are_taken_out_of_texts_and_lines_stay() {
    assert_eq!(
        shown("a \u{1b}[1;31mred\u{1b}[0m\n\tb\u{1b}]0;title\u{7}c\u{202e}d\u{1b}[2J"),
        "a red\n\tb ]0;title cd"
    );
    // One that is cut off.
    assert_eq!(shown("x\u{1b}[12"), "x");
    assert_eq!(shown("x\u{1b}["), "x");
    assert_eq!(shown("ü\u{1b}[38;5;1mñ"), "üñ");
}
