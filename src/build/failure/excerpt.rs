//! The parts of what buildctl prints at its end: source excerpts and the error.

/// Where buildctl says that the trouble lies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Excerpt {
    /// Line of the Dockerfile, from 1.
    pub line: Option<i32>,
    /// The marked lines, as written.
    pub source: Option<String>,
}

/// Reads the first excerpt, which looks so:
///
/// ```text
/// Dockerfile:2
/// --------------------
///    1 |     FROM scratch
///    2 | >>> CPOY a b
///    3 |
/// --------------------
/// ```
pub(super) fn excerpt(text: &str) -> Excerpt {
    let mut lines = text.lines();
    if !lines.any(is_rule) {
        return Excerpt::default();
    }
    let marked: Vec<(i32, &str)> = lines
        .take_while(|line| !is_rule(line))
        .filter_map(|line| {
            let (number, rest) = line.split_once(" | ")?;
            let source = rest.strip_prefix(">>>")?;
            Some((
                number.trim().parse().ok()?,
                source.strip_prefix(' ').unwrap_or(source),
            ))
        })
        .collect();
    let source: Vec<&str> = marked.iter().map(|(_, source)| *source).collect();
    Excerpt {
        line: marked.first().map(|(line, _)| *line),
        source: (!source.is_empty()).then(|| source.join("\n")),
    }
}

/// The error, without what buildctl puts before each: all lines from the first one that begins with
/// `error: `, or all of the text where there is none. Later ones are part of it: git's words, for example.
pub(super) fn error(text: &str) -> &str {
    let from = text
        .find("\nerror: ")
        .map(|at| at + 1)
        .filter(|_| !text.starts_with("error: "))
        .or_else(|| text.starts_with("error: ").then_some(0));
    let Some(from) = from else {
        return text.trim();
    };
    let error = text[from..]["error: ".len()..].trim();
    error.strip_prefix("failed to solve: ").unwrap_or(error)
}

/// The text between the first pair of double quotes after `before`.
pub(super) fn quoted_after<'a>(text: &'a str, before: &str) -> Option<&'a str> {
    let rest = &text[text.find(before)? + before.len()..];
    let rest = rest.trim_start().strip_prefix('"')?;
    rest.split_once('"').map(|(inside, _)| inside)
}

fn is_rule(line: &str) -> bool {
    line.len() >= 10 && line.bytes().all(|b| b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "Dockerfile:2
--------------------
   1 |     FROM busybox
   2 | >>> RUN for i in 1 2 3; do echo line $i; done; \\
   3 | >>>   echo oops >&2; exit 3
   4 |     
--------------------
error: failed to solve: process \"/bin/sh -c x\" did not complete successfully: exit code: 3
";

    #[test]
    fn the_marked_lines_are_the_step_and_the_first_is_its_line() {
        assert_eq!(
            excerpt(TEXT),
            Excerpt {
                line: Some(2),
                source: Some(
                    "RUN for i in 1 2 3; do echo line $i; done; \\\n  echo oops >&2; exit 3".into()
                ),
            }
        );
    }

    #[test]
    fn a_text_without_excerpt_has_no_line() {
        assert_eq!(excerpt("error: failed to solve: x"), Excerpt::default());
        assert_eq!(excerpt(""), Excerpt::default());
        assert_eq!(excerpt("--------------------\n"), Excerpt::default());
    }

    #[test]
    fn the_error_is_what_stands_after_its_mark_also_over_several_lines() {
        assert!(error(TEXT).starts_with("process \"/bin/sh"));
        assert_eq!(
            error("error: failed to solve: a\nb\n: exit status 128"),
            "a\nb\n: exit status 128"
        );
        assert_eq!(
            error("error: failed to solve: git stderr:\nerror: RPC failed\nfatal: x"),
            "git stderr:\nerror: RPC failed\nfatal: x"
        );
        assert_eq!(error("error: listing workers"), "listing workers");
        assert_eq!(error("panic: x"), "panic: x");
    }
}
