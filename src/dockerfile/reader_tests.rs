use super::*;

/// Keyword, lines and text of each instruction.
fn short(file: &Dockerfile) -> Vec<(&str, (i32, i32), &str)> {
    file.instructions
        .iter()
        .map(|one| (one.keyword.as_str(), one.lines, one.rest.text.as_str()))
        .collect()
}

#[test]
fn an_instruction_has_its_lines_also_over_comments_and_empty_lines() {
    let text = "\u{feff}# a comment\r\nFROM a AS b\r\n\r\nRUN x \\\r\n  # note\r\n\r\n  y\r\nCMD z";
    let file = parse(text).unwrap();
    assert_eq!(
        short(&file),
        [
            ("FROM", (2, 2), "a AS b"),
            ("RUN", (4, 7), "x   y"),
            ("CMD", (8, 8), "z"),
        ]
    );
    let run = &file.instructions[1];
    assert_eq!((run.rest.line(0), run.rest.line(4)), (4, 7));
    assert_eq!(run.written.one_line(), "RUN x y");
}

#[test]
fn a_line_goes_on_where_buildkit_says_so() {
    for (text, written) in [
        ("RUN a\\\nb", "RUN ab"),
        ("RUN a \\  \n\tb", "RUN a b"),
        // Not where the mark is escaped itself.
        ("RUN a \\\\", "RUN a \\\\"),
        ("# escape=`\nRUN a `\n b\\", "RUN a b\\"),
        ("\\\nRUN a", "RUN a"),
        ("RUN a \\", "RUN a"),
    ] {
        let file = parse(text).unwrap();
        let found: Vec<String> = file
            .instructions
            .iter()
            .map(|one| one.written.one_line())
            .collect();
        assert_eq!(found, [written], "{text}");
    }
}

#[test]
fn directives_stand_above_all_else() {
    let known = |text: &str| -> Vec<(String, String, i32)> {
        read(text)
            .directives
            .into_iter()
            .map(|(name, it)| (name, it.value, it.line))
            .collect()
    };
    let own = |name: &str, value: &str, line| (name.to_owned(), value.to_owned(), line);
    assert_eq!(
        known("# Syntax = docker/dockerfile:1 \n#check=skip=all\n# escape=`\nFROM a"),
        [
            own("check", "skip=all", 2),
            own("escape", "`", 3),
            own("syntax", "docker/dockerfile:1", 1),
        ]
    );
    for text in [
        "# a comment\n# syntax=x\n",
        "\n# syntax=x\n",
        "# other=1\n# syntax=x\n",
        "FROM a\n# syntax=x\n",
        "# syntax=\n",
    ] {
        assert_eq!(known(text), [], "{text}");
    }
    // As a program that is started by its file would write it.
    let started = "#!/usr/bin/env dockerfile\n# syntax=x\n# escape=`\nRUN a `\nCMD b\n";
    assert_eq!(known(started)[1], own("syntax", "x", 2));
    assert_eq!(read(started).instructions.len(), 2);
}

#[test]
fn here_documents_belong_to_what_asks_for_them() {
    let text = "COPY <<-A <<\"B\" 3<<C /x/\n\tFROM no\n\tA\nRUN no\r\nB\r\nC\nONBUILD RUN <<D\nx\nD\n\
                RUN [\"<<E\"]\nENV A=<<E\nRUN echo '<<E'\n";
    let file = parse(text).unwrap();
    let docs: Vec<Vec<(&str, &str)>> = file
        .instructions
        .iter()
        .map(|one| {
            let docs = one.heredocs.iter();
            docs.map(|doc| (doc.name.as_str(), doc.body.text.as_str()))
                .collect()
        })
        .collect();
    let none = vec![];
    assert_eq!(
        docs,
        [
            vec![("A", "\tFROM no\n"), ("B", "RUN no\r\n"), ("C", "")],
            vec![("D", "x\n")],
            none.clone(),
            none.clone(),
            none,
        ]
    );
    assert_eq!(file.instructions[0].lines, (1, 6));
    assert_eq!(file.instructions[0].heredocs[1].body.line(0), 4);
    assert_eq!(file.instructions[1].lines, (7, 9));
}

#[test]
fn flags_lists_and_triggers_are_read() {
    let text = "COPY --from=b --Chown=\"1 2\" --link [\"a b\", \"/x\"]\nONBUILD copy --from=c d /\n\
                RUN --mount=type=cache,dst=/r,src=\"s\" go\nENTRYPOINT ['a']\n";
    let file = parse(text).unwrap();
    let copy = &file.instructions[0];
    assert_eq!(copy.flag("chown"), Some("1 2"));
    assert_eq!(copy.flag("link"), Some(""));
    assert_eq!(copy.words(), ["a b", "/x"]);
    assert!(!copy.takes_context());
    let trigger = file.instructions[1].trigger.as_deref().unwrap();
    assert_eq!(
        (trigger.keyword.as_str(), trigger.sources()),
        ("COPY", vec!["d"])
    );
    let mounts = file.instructions[2].mounts();
    assert_eq!((&*mounts[0]["target"], &*mounts[0]["source"]), ("/r", "s"));
    assert_eq!(file.instructions[3].json, None);
}

#[test]
fn what_buildkit_would_not_take_is_refused_and_read_all_the_same() {
    for (text, keywords) in [
        ("FROM a\nBLA x\nRUN y", &["FROM", "BLA", "RUN"][..]),
        ("# escape=x\nFROM a \\\nAS b", &["FROM"]),
        ("# syntax=a\n# syntax=b\nONBUILD FROM c", &["ONBUILD"]),
        ("ONBUILD\nUSER 1", &["ONBUILD", "USER"]),
        ("ONBUILD ONBUILD RUN x\nUSER 1", &["ONBUILD", "USER"]),
        ("ONBUILD BLA x", &["ONBUILD"]),
        ("RUN <<E\nUSER 1\n E\n", &["RUN"]),
        ("{\"a\": 1}", &["{\"A\":"]),
    ] {
        assert!(parse(text).is_none(), "{text}");
        let file = read(text);
        let found: Vec<&str> = file
            .instructions
            .iter()
            .map(|one| one.keyword.as_str())
            .collect();
        assert_eq!(found, keywords, "{text}");
    }
    // Of two here-documents the one that no line ends is told.
    let file = read("FROM a\nRUN <<A <<B\nx\nA\ny\n");
    let run = &file.instructions[1];
    assert_eq!(
        (run.lines, run.unterminated.as_deref()),
        ((2, 5), Some("B"))
    );
    assert_eq!(run.heredocs[1].body.text, "y\n");
}

#[test]
fn names_and_values_of_env_and_arg_are_parted_as_the_quotes_say() {
    let file = parse("ENV A=1 B=\"2 3\" C=x\\ y\nENV D e f\nARG G H=\n").unwrap();
    let all: Vec<(String, Option<String>)> = file.instructions.iter().flat_map(pairs).collect();
    let own = |name: &str, value: Option<&str>| (name.to_owned(), value.map(str::to_owned));
    assert_eq!(
        all,
        [
            own("A", Some("1")),
            own("B", Some("\"2 3\"")),
            own("C", Some("x\\ y")),
            own("D", Some("e f")),
            own("G", None),
            own("H", Some("")),
        ]
    );
}
