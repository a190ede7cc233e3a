//! Lists in JSON.

use super::*;

#[test]
fn what_only_looks_like_a_list_is_told_with_the_right_spelling() {
    for (line, why, right) in [
        (
            "ENTRYPOINT [\"app\"] # comment",
            "a comment",
            "ENTRYPOINT [\"app\"]",
        ),
        ("CMD ['a', 'b']", "only double quotes", "CMD [\"a\", \"b\"]"),
        ("CMD [ 'a' ]", "only double quotes", "CMD [\"a\"]"),
        (
            "CMD [ npm start ]",
            "needs double quotes",
            "CMD [\"npm\", \"start\"]",
        ),
        (
            "CMD \"npm start\"",
            "one word of it",
            "CMD [\"npm\", \"start\"]",
        ),
        (
            "ENTRYPOINT 'serve -p $PORT'",
            "one word of it",
            "ENTRYPOINT [\"/bin/sh\", \"-c\", \"serve -p $PORT\"]",
        ),
        (
            "ENTRYPOINT [\"serve -p 80\"]",
            "one word with spaces",
            "ENTRYPOINT [\"serve\", \"-p\", \"80\"]",
        ),
        (
            "CMD [\"npm start && echo\"]",
            "one word with spaces",
            "CMD [\"/bin/sh\", \"-c\", \"npm start && echo\"]",
        ),
        ("CMD [\"a\",]", "trailing or extra comma", "CMD [\"a\"]"),
        (
            "CMD [\"a\",, \"b\"]",
            "trailing or extra comma",
            "CMD [\"a\", \"b\"]",
        ),
        ("CMD [\"a\" \"b\"]", "missing comma", "CMD [\"a\", \"b\"]"),
        ("CMD [“a”, “b”]", "typographic quotes", "CMD [\"a\", \"b\"]"),
        (
            "CMD “npm”, “start”",
            "typographic quotes",
            "CMD [\"npm\", \"start\"]",
        ),
        (
            "ENTRYPOINT [app]",
            "needs double quotes",
            "ENTRYPOINT [\"app\"]",
        ),
        (
            "ENTRYPOINT [ app, --serve ]",
            "needs double quotes",
            "ENTRYPOINT [\"app\", \"--serve\"]",
        ),
        (
            "ENTRYPOINT [app, \"--serve\"]",
            "needs double quotes",
            "ENTRYPOINT [\"app\", \"--serve\"]",
        ),
        ("CMD [\"a\", \"b\"", "missing ]", "CMD [\"a\", \"b\"]"),
        ("CMD \"a\", \"b\"]", "missing [", "CMD [\"a\", \"b\"]"),
        ("CMD \"a\"]", "missing [", "CMD [\"a\"]"),
        ("CMD = [\"a\"]", "unexpected =", "CMD [\"a\"]"),
        (
            "CMD [\"grep\", \"\\d\"]",
            "a backslash",
            "CMD [\"grep\", \"\\\\d\"]",
        ),
        (
            "CMD [\"a\"] && b",
            "something follows the ]",
            "nothing after it",
        ),
        (
            "CMD [\"a\", \"b]",
            "missing closing quote",
            "nothing after it",
        ),
        ("RUN ['a', 'b']", "only double quotes", "RUN [\"a\", \"b\"]"),
        (
            "SHELL ['bash', '-c']",
            "only double quotes",
            "SHELL [\"bash\", \"-c\"]",
        ),
        (
            "HEALTHCHECK --interval=5s CMD ['a']",
            "double quotes",
            "HEALTHCHECK CMD [\"a\"]",
        ),
        (
            "COPY ['a', '/b']",
            "only double quotes",
            "COPY [\"a\", \"/b\"]",
        ),
        ("ADD [\"a\" \"/b\"]", "missing comma", "ADD [\"a\", \"/b\"]"),
        (
            "VOLUME [/data]",
            "needs double quotes",
            "VOLUME [\"/data\"]",
        ),
        (
            "COPY [a, b, /c/]",
            "needs double quotes",
            "COPY [\"a\", \"b\", \"/c/\"]",
        ),
        (
            "VOLUME ['/data']",
            "only double quotes",
            "VOLUME [\"/data\"]",
        ),
        (
            "VOLUME [\"/data\"] # note",
            "a comment",
            "VOLUME [\"/data\"]",
        ),
        ("ONBUILD CMD ['a']", "only double quotes", "CMD [\"a\"]"),
        (
            "CMD [\"a\", \\\n  'b']",
            "only double quotes",
            "CMD [\"a\", \"b\"]",
        ),
    ] {
        let hint = one(&format!("FROM a@@\n{line}\n"));
        assert_eq!(
            (hint.kind, hint.line),
            (K::BrokenJsonForm, Some(2)),
            "{line}"
        );
        assert!(hint.message.contains(why), "{line}\n{}", hint.message);
        assert!(hint.message.contains(right), "{line}\n{}", hint.message);
    }
}

#[test]
fn a_shell_text_and_a_good_list_are_left_alone() {
    for line in [
        "CMD []",
        "CMD [\"a\", \"b\"]",
        "CMD [ \"a\" , \"b\" ]",
        "CMD [\"sh\", \"-c\", \"echo 'x' # y\"]",
        "CMD [\"a\", \\\n  # a note\n  \"b\"]",
        "CMD [ -f /x ] && run",
        "CMD [ -f /x ]",
        "CMD [ 1 -eq 1 ]",
        "CMD \"program\"",
        "CMD [\"one argument for the base's entrypoint\"]",
        "ENTRYPOINT [\"sh\", \"-c\"]\nCMD [\"npm start\"]",
        "RUN [\"my program\"]",
        "CMD [ \"$X\" = y ] && run",
        "CMD [ \"$X\" ] && run || stop",
        "CMD [[ -f /x ]] && run",
        "CMD \"my program\" x",
        "CMD 'a' 'b'",
        "CMD a, b",
        "CMD echo ['a']",
        "RUN [ -f /x ] || exit 1",
        "RUN [ ! -e /x ]",
        "RUN [ \"$(id -u)\" = \"0\" ] && true",
        "RUN [ 'a' ]",
        "RUN <<EOF\n['a']\nEOF",
        "COPY [Mm]akefile /x",
        "COPY [a-z]*.py [x]/ /x",
        "COPY [a,b] [c]/",
        "ADD [^.]* /x",
        "VOLUME /data /b",
        "VOLUME [\"/data\"]",
        "HEALTHCHECK NONE",
        "HEALTHCHECK CMD [\"a\"]",
        "HEALTHCHECK CMD [ -f /x ]",
        "SHELL [\"bash\", \"-c\"]",
        "LABEL x=['a']",
        "ENV X=['a']",
        "# CMD ['a']",
    ] {
        silent(&[&format!("FROM a@@\n{line}\n")]);
    }
    silent(&["FROM a@@ AS unneeded\nCMD ['a']\nFROM b@@"]);
}
