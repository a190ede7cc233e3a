//! Reads the log of a runner: `#4 [build 2/3] RUN go build`, `#4 1.235 ok`, `#4 DONE 12.3s`, as
//! `whittle_build`'s printer writes it.

/// What a line of the log says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Line<'a> {
    /// A step runs.
    Started { step: usize, name: &'a str },
    /// It printed a line, so many seconds after it began.
    Output {
        step: usize,
        seconds: f64,
        text: &'a str,
    },
    /// It ended well.
    Done { step: usize, seconds: f64 },
    /// The cache answered.
    Cached { step: usize },
    /// It failed.
    Failed { step: usize, error: &'a str },
    /// Anything else.
    Text(&'a str),
}

/// Reads a line. What is not of a step is text.
pub(super) fn parse(line: &str) -> Line<'_> {
    let parsed = line.strip_prefix('#').and_then(|rest| {
        let (step, rest) = rest.split_once(' ')?;
        let step = step.parse().ok()?;
        Some(match rest.split_once(' ') {
            None if rest == "CACHED" => Line::Cached { step },
            Some(("DONE", seconds)) if seconds_of(seconds.trim_end_matches('s')).is_some() => {
                Line::Done {
                    step,
                    seconds: seconds_of(seconds.trim_end_matches('s'))?,
                }
            }
            Some(("ERROR:", error)) => Line::Failed { step, error },
            Some((seconds, text)) if is_time(seconds) => Line::Output {
                step,
                seconds: seconds_of(seconds)?,
                text,
            },
            None if is_time(rest) => Line::Output {
                step,
                seconds: seconds_of(rest)?,
                text: "",
            },
            _ => Line::Started { step, name: rest },
        })
    });
    parsed.unwrap_or(Line::Text(line))
}

/// True for seconds with three digits behind the point, as the printer writes them: a step's name may begin with a number.
fn is_time(text: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit());
    text.split_once('.')
        .is_some_and(|(whole, part)| digits(whole) && part.len() == 3 && digits(part))
}

fn seconds_of(text: &str) -> Option<f64> {
    text.parse()
        .ok()
        .filter(|it: &f64| it.is_finite() && *it >= 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_runner_are_read_back() {
        for (line, expected) in [
            (
                "#4 [build 2/3] RUN go build",
                Line::Started {
                    step: 4,
                    name: "[build 2/3] RUN go build",
                },
            ),
            (
                "#4 1.235 ok",
                Line::Output {
                    step: 4,
                    seconds: 1.235,
                    text: "ok",
                },
            ),
            (
                "#4 1.235 ",
                Line::Output {
                    step: 4,
                    seconds: 1.235,
                    text: "",
                },
            ),
            (
                "#4 DONE 12.3s",
                Line::Done {
                    step: 4,
                    seconds: 12.3,
                },
            ),
            ("#14 CACHED", Line::Cached { step: 14 }),
            (
                "#4 ERROR: exit code: 1",
                Line::Failed {
                    step: 4,
                    error: "exit code: 1",
                },
            ),
            (
                "#4 DONE soon",
                Line::Started {
                    step: 4,
                    name: "DONE soon",
                },
            ),
            ("#x y", Line::Text("#x y")),
            ("advice: no", Line::Text("advice: no")),
            ("", Line::Text("")),
        ] {
            assert_eq!(parse(line), expected, "{line}");
        }
    }
}
