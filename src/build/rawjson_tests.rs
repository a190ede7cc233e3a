use super::*;

/// What buildctl 0.33 printed: a two-stage build from git, cold.
const COLD: &str = include_str!("testdata/git-build.jsonl");
/// The same again.
const CACHED: &str = include_str!("testdata/git-build-cached.jsonl");
/// A `RUN` that prints thirty lines and one without end, then exits with 3.
const FAILED: &str = include_str!("testdata/failed-step.jsonl");

fn read(text: &str) -> (State, Vec<Event>) {
    let mut state = State::default();
    let events = text
        .lines()
        .flat_map(|line| state.line(line, &str::to_owned))
        .collect();
    (state, events)
}

fn vertex(digest: &str, name: &str, more: &str) -> String {
    format!(r#"{{"vertexes":[{{"digest":"{digest}","name":"{name}"{more}}}]}}"#)
}

const STARTED: &str = r#","started":"2026-11-21T01:00:00Z""#;
const DONE: &str = r#","started":"2026-11-21T01:00:00Z","completed":"2026-11-21T01:00:02Z""#;
const FROM_CACHE: &str =
    r#","started":"2026-11-21T01:00:00Z","completed":"2026-11-21T01:00:00Z","cached":true"#;

#[test]
fn a_cold_build_has_four_steps_of_which_none_is_cached() {
    let (state, events) = read(COLD);
    let steps = Steps {
        total: 4,
        cached: 0,
    };
    assert_eq!(state.steps(), steps);
    assert_eq!((state.progress().done, state.progress().total), (4, 4));
    assert_eq!(state.failed(), None);
    let names: Vec<&str> = events
        .iter()
        .filter_map(|event| match event {
            Event::Started { name, .. } => Some(name.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(names.len(), 7, "{names:?}");
    assert!(names[0].starts_with("[internal] load git source http://"));
    assert_eq!(names[6], "exporting to image");
}

#[test]
fn an_unchanged_build_is_all_cached_also_its_base_image() {
    let steps = Steps {
        total: 4,
        cached: 4,
    };
    assert_eq!(read(CACHED).0.steps(), steps);
}

#[test]
fn the_look_up_of_the_commit_is_heard_in_a_cached_build_too() {
    for text in [COLD, CACHED] {
        let output = read(text).0.git_output();
        assert!(
            output.contains("75d6a1afb3513055c334b4fea275f1f5b472bdc7\trefs/heads/main\n"),
            "{output}"
        );
    }
}

#[test]
fn a_failed_step_has_its_name_its_error_and_its_last_lines() {
    let (state, _) = read(FAILED);
    let failed = state.failed().unwrap();
    assert!(failed.name.starts_with("[2/2] RUN for i in $(seq 1 30)"));
    assert!(failed.error.ends_with("exit code: 3"));
    assert_eq!(failed.log.len(), LOG_LINES);
    assert_eq!(failed.log[0], "line 12");
    assert_eq!(failed.log[19], "no end");
    assert_eq!(state.steps().total, 2);
}

#[test]
fn the_error_text_of_buildctl_is_kept_as_text() {
    let (state, events) = read(FAILED);
    assert!(
        state.text().starts_with("Dockerfile:2\n"),
        "{}",
        state.text()
    );
    assert!(state.text().contains("\nerror: failed to solve: process "));
    assert!(events.contains(&Event::Text("Dockerfile:2".into())));
}

#[test]
fn only_instructions_are_steps() {
    for (name, expected) in [
        ("[2/2] RUN go build", Some("RUN go build")),
        ("[build 3/3] COPY a b", Some("COPY a b")),
        ("[linux/arm64 stage-1 1/1] COPY a b", Some("COPY a b")),
        ("[linux/amd64->arm64 build 2/5] RUN x", Some("RUN x")),
        ("[internal] load build context", None),
        ("[internal] load git source https://h/1/2", None),
        ("[auth] team/hello:pull,push token for h", None),
        ("exporting to image", None),
        ("[a/b] x", None),
        ("[", None),
        ("", None),
    ] {
        assert_eq!(instruction(name), expected, "{name}");
    }
}

#[test]
fn progress_names_the_step_that_runs() {
    let mut state = State::default();
    state.line(
        &vertex("a", "[internal] load build context", DONE),
        &str::to_owned,
    );
    state.line(&vertex("b", "[1/3] FROM x", DONE), &str::to_owned);
    state.line(&vertex("c", "[2/3] RUN one", STARTED), &str::to_owned);
    state.line(&vertex("d", "[3/3] RUN two", ""), &str::to_owned);
    assert_eq!(state.progress().message(), "1/3 [2/3] RUN one");
    state.line(&vertex("c", "[2/3] RUN one", DONE), &str::to_owned);
    state.line(&vertex("d", "[3/3] RUN two", FROM_CACHE), &str::to_owned);
    state.line(&vertex("e", "exporting to image", STARTED), &str::to_owned);
    assert_eq!(state.progress().message(), "3/3 exporting to image");
}

#[test]
fn a_base_image_that_was_pulled_is_not_cached() {
    let mut state = State::default();
    state.line(&vertex("b", "[1/2] FROM x", STARTED), &str::to_owned);
    state.line(
        r#"{"statuses":[{"id":"extracting sha256:00","vertex":"b"}]}"#,
        &str::to_owned,
    );
    state.line(&vertex("b", "[1/2] FROM x", DONE), &str::to_owned);
    assert_eq!(
        state.steps(),
        Steps {
            total: 1,
            cached: 0
        }
    );
}

#[test]
fn the_same_step_of_another_build_at_the_same_time_counts_once() {
    let mut state = State::default();
    state.line(&vertex("mine", "[2/2] RUN x", ""), &str::to_owned);
    state.line(&vertex("theirs", "[2/2] RUN x", DONE), &str::to_owned);
    assert_eq!(
        state.steps(),
        Steps {
            total: 1,
            cached: 0
        }
    );
    assert_eq!(state.progress().done, 1);
}

#[test]
fn a_second_run_of_buildctl_does_not_make_steps_cached_that_have_run() {
    let mut state = State::default();
    state.line(&vertex("a", "[1/3] FROM x", FROM_CACHE), &str::to_owned);
    state.line(&vertex("b", "[2/3] RUN one", DONE), &str::to_owned);
    state.line("error: the push failed", &str::to_owned);
    state.next_run();
    assert_eq!((state.text(), state.steps().total), ("", 0));
    for (digest, name) in [
        ("a", "[1/3] FROM x"),
        ("b2", "[2/3] RUN one"),
        ("c", "[3/3] RUN two"),
    ] {
        state.line(&vertex(digest, name, FROM_CACHE), &str::to_owned);
    }
    assert_eq!(
        state.steps(),
        Steps {
            total: 3,
            cached: 2
        }
    );
}

#[test]
fn a_step_that_was_canceled_because_of_another_is_not_the_one_that_failed() {
    let mut state = State::default();
    let error = |text: &str| format!(r#"{DONE},"error":"{text}""#);
    state.line(
        &vertex(
            "a",
            "[a 1/1] RUN x",
            &error("process \\\"x\\\": context canceled"),
        ),
        &str::to_owned,
    );
    state.line(
        &vertex("b", "[b 1/1] RUN y", &error("exit code: 1")),
        &str::to_owned,
    );
    assert_eq!(state.failed().unwrap().name, "[b 1/1] RUN y");
}

#[test]
fn output_is_cut_into_lines_also_across_chunks_and_carriage_returns() {
    let mut state = State::default();
    state.line(&vertex("a", "[1/1] RUN x", STARTED), &str::to_owned);
    let mut lines = vec![];
    for chunk in ["one\ntw", "o\n 10%\r 50%\r100%\r\nrest"] {
        let data = STANDARD.encode(chunk);
        let log = format!(r#"{{"logs":[{{"vertex":"a","data":"{data}"}}]}}"#);
        lines.extend(state.line(&log, &str::to_owned));
    }
    lines.extend(state.line(&vertex("a", "[1/1] RUN x", DONE), &str::to_owned));
    let texts: Vec<&str> = lines
        .iter()
        .filter_map(|event| match event {
            Event::Output { line, .. } => Some(line.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(texts, ["one", "two", "100%", "rest"]);
}

#[test]
fn memory_is_bounded_whatever_is_printed() {
    let mut state = State::default();
    state.line(&vertex("a", "[1/1] RUN x", STARTED), &str::to_owned);
    let data = STANDARD.encode("x".repeat(100_000));
    for _ in 0..50 {
        state.line(
            &format!(r#"{{"logs":[{{"vertex":"a","data":"{data}"}}]}}"#),
            &str::to_owned,
        );
        state.line(&"plain ".repeat(10_000), &str::to_owned);
    }
    assert!(state.text().len() <= TEXT_BYTES);
    let vertex = &state.vertices["a"];
    assert!(vertex.open.len() <= OPEN_BYTES && vertex.log.len() <= LOG_LINES);
    assert!(vertex.log.iter().all(|line| line.len() <= LINE_BYTES));
}

#[test]
fn a_secret_at_the_cut_of_a_long_line_leaves_no_half() {
    let mut state = State::default();
    state.line(&vertex("a", "[1/1] RUN x", STARTED), &str::to_owned);
    let text = format!("{}hunter22-secret and more\n", "x".repeat(LINE_BYTES - 10));
    let (first, rest) = text.split_at(LINE_BYTES - 3);
    for chunk in [first, rest] {
        let data = STANDARD.encode(chunk);
        let log = format!(r#"{{"logs":[{{"vertex":"a","data":"{data}"}}]}}"#);
        state.line(&log, &|line| line.replace("hunter22-secret", "[secret]"));
    }
    let line = &state.vertices["a"].log[0];
    assert!(!line.contains("hunter") && line.contains("[secr"), "{line}");
}

#[test]
fn an_image_is_being_pushed_until_its_manifest_is() {
    let status = |id: &str, completed: &str| {
        format!(
            r#"{{"statuses":[{{"id":"{id}","vertex":"a","current":0,"started":"2026-11-26T15:46:35.5Z"{completed}}}]}}"#
        )
    };
    let over = r#","completed":"2026-11-26T15:46:35.6Z""#;
    let (mut state, _) = read(&status("exporting layers", ""));
    assert!(!state.is_pushing());
    let mut after = |line: String| {
        state.line(&line, &str::to_owned);
        state.is_pushing()
    };
    assert!(after(status("pushing layers", "")));
    assert!(!after(status("pushing layers", over)));
    assert!(after(status("pushing manifest for a/b", "")));
    assert!(!after(status("pushing manifest for a/b", over)));
}

#[test]
fn a_warning_is_told_once() {
    let line = format!(
        r#"{{"warnings":[{{"vertex":"a","short":"{}"}}]}}"#,
        STANDARD.encode("JSONArgsRecommended: x (line 2)")
    );
    let mut state = State::default();
    let warning = Event::Warning("JSONArgsRecommended: x (line 2)".into());
    assert_eq!(state.line(&line, &str::to_owned), [warning]);
    assert_eq!(state.line(&line, &str::to_owned), []);
    assert_eq!(state.warnings().len(), 1);
}

#[test]
fn malformed_lines_are_text_and_never_a_panic() {
    let mut state = State::default();
    for line in [
        "{",
        "{}",
        "{\"vertexes\":7}",
        "{\"unknown\":1}",
        "null",
        "\u{0}",
        "{\"vertexes\":[{\"digest\":\"a\",\"started\":\"yesterday\"}]}",
    ] {
        assert_eq!(
            state.line(line, &str::to_owned),
            [Event::Text(line.into())],
            "{line}"
        );
    }
    let bad = r#"{"logs":[{"vertex":"a","data":"%%%"},{"vertex":"nowhere","data":"eA=="}]}"#;
    assert_eq!(state.line(bad, &str::to_owned), []);
}

#[test]
fn any_piece_of_real_output_can_be_read() {
    for text in [COLD, FAILED] {
        for end in (0..text.len())
            .step_by(37)
            .filter(|end| text.is_char_boundary(*end))
        {
            read(&text[..end]);
        }
    }
}

#[test]
fn base_images_are_known_with_what_their_tags_pointed_to_and_the_stage_that_starts_from_them() {
    let digest = |digit: &str| format!("sha256:{}", digit.repeat(64));
    let from =
        |place: &str, image: &str, digit: &str| format!("{place}FROM {image}@{}", digest(digit));
    let mut state = State::default();
    for (at, name) in [
        from("[build 1/5] ", "docker.io/library/golang:1", "a"),
        from(
            "[linux/arm64 runtime 1/2] ",
            "registry.example.com:5000/a:x",
            "b",
        ),
        // The same once more, for another platform.
        from(
            "[linux/amd64 runtime 1/2] ",
            "registry.example.com:5000/a:x",
            "b",
        ),
        from("", "docker.io/library/busybox:1.36", "c"),
        // By its digest alone, and what is none.
        from("[x 1/2] ", "registry.example.com:5000/a", "d"),
        "[y 1/2] FROM docker.io/library/golang:1@sha256:short".into(),
        "[build 2/5] RUN echo FROM a:1@sha256:0".into(),
        "[internal] load metadata for docker.io/library/golang:1".into(),
        "[internal] load metadata for registry.example.com:5000/a:x".into(),
        "[internal] load metadata for docker.io/library/busybox:1.36".into(),
        // A tag with a digest beside it, as tools that update digests write: it is that digest, wherever the tag points to.
        format!(
            "[internal] load metadata for docker.io/library/node:22@{}",
            digest("e")
        ),
        from("[z 1/2] ", "docker.io/library/node:22", "e"),
    ]
    .iter()
    .enumerate()
    {
        state.line(&vertex(&format!("v{at}"), name, DONE), &str::to_owned);
    }
    let bases = state.bases();
    let told: Vec<_> = bases
        .iter()
        .map(|base| {
            (
                base.image.as_str(),
                base.stage.as_deref(),
                &base.digest[7..8],
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("docker.io/library/golang:1", Some("build"), "a"),
            ("registry.example.com:5000/a:x", Some("runtime"), "b"),
            ("docker.io/library/busybox:1.36", None, "c"),
        ]
    );
}

/// The names that BuildKit 0.33.1 gave the vertexes of a build for two platforms, of this Dockerfile:
///
/// ```Dockerfile
/// ARG BASE=registry.example.com/team/base:latest
/// FROM ${BASE} AS first
/// FROM registry.example.com/team/idle:latest AS unused
/// FROM --platform=$BUILDPLATFORM registry.example.com/team/base:latest AS again
/// FROM registry.example.com/team/idle@sha256:… AS fixed
/// FROM scratch
/// COPY --from=first …
/// COPY --from=registry.example.com/team/tool:latest …
/// ```
///
/// What both platforms share has one vertex, and the name that came last.
const BASES_OF_TWO: [&str; 6] = [
    "[linux/arm64 first 1/1] FROM registry.example.com/team/base:latest@",
    "FROM registry.example.com/team/tool:latest@",
    "FROM registry.example.com/team/tool:latest@",
    "[linux/amd64 fixed 1/1] FROM registry.example.com/team/idle@",
    "[linux/arm64 fixed 1/1] FROM registry.example.com/team/idle@",
    "[linux/amd64 again 1/1] FROM registry.example.com/team/base:latest@",
];

#[test]
fn base_images_are_those_that_a_tag_leads_to_each_once_whatever_names_them() {
    let digest = format!("sha256:{}", "0d".repeat(32));
    let mut state = State::default();
    for (at, name) in BASES_OF_TWO.iter().enumerate() {
        let line = vertex(&format!("sha256:{at}"), &format!("{name}{digest}"), DONE);
        state.line(&line, &str::to_owned);
    }
    for (at, image) in ["base", "tool", "idle"].iter().enumerate() {
        // As it stands where there are several platforms.
        let name = format!(
            "[linux/amd64 internal] load metadata for registry.example.com/team/{image}:latest"
        );
        state.line(
            &vertex(&format!("sha256:m{at}"), &name, DONE),
            &str::to_owned,
        );
    }
    let bases: Vec<_> = state
        .bases()
        .into_iter()
        .map(|base| (base.image, base.digest, base.stage))
        .collect();
    let of = |image: &str, stage: Option<&str>| {
        let image = format!("registry.example.com/team/{image}:latest");
        (image, digest.clone(), stage.map(str::to_owned))
    };
    assert_eq!(bases, [of("base", Some("first")), of("tool", None)]);
}

#[test]
fn what_several_daemons_did_is_one_build() {
    let of = |lines: &[String]| read(&lines.join("\n")).0;
    let amd64 = of(&[
        vertex("sha256:a", "[linux/amd64 1/2] FROM golang", FROM_CACHE),
        vertex("sha256:b", "[linux/amd64 2/2] RUN make", DONE),
    ]);
    let error = r#","started":"2026-11-21T01:00:00Z","completed":"2026-11-21T01:00:02Z","error":"exit code: 1""#;
    // The same file, read by both.
    let arm64 = of(&[
        vertex("sha256:a", "[linux/arm64 1/2] FROM golang", DONE),
        vertex("sha256:c", "[linux/arm64 2/2] RUN make", error),
        "error: failed to solve".to_owned(),
    ]);
    let all = State::joined(vec![amd64, arm64]);
    let steps = Steps {
        total: 4,
        cached: 2,
    };
    assert_eq!(all.steps(), steps);
    assert_eq!(all.progress().done, 3);
    assert_eq!(all.failed().unwrap().name, "[linux/arm64 2/2] RUN make");
    assert_eq!(all.text(), "error: failed to solve\n");
}
