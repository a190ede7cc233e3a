//! Text for a terminal: styles, times for people, and others' words without what would steer the terminal.
//!
//! Styles are written as escape sequences and taken out again by `anstream` where no terminal reads them.

use anstyle::{AnsiColor, Style};
use k8s_openapi::jiff::{SignedDuration, Timestamp};

/// What is well.
pub(super) const GOOD: Style = AnsiColor::Green.on_default().bold();
/// What has failed.
pub(super) const BAD: Style = AnsiColor::Red.on_default().bold();
/// What waits, or wants a look.
pub(super) const WAITS: Style = AnsiColor::Yellow.on_default();
/// What matters most.
pub(super) const STRONG: Style = Style::new().bold();
/// What matters least.
pub(super) const FAINT: Style = Style::new().dimmed();

/// Text in a style.
pub(super) fn styled(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

/// Text as standard output takes it: without styles where no terminal wants them.
pub(super) fn adapted(text: &str) -> String {
    match anstream::AutoStream::choice(&std::io::stdout()) {
        anstream::ColorChoice::Never => anstream::adapter::strip_str(text).to_string(),
        _ => text.to_owned(),
    }
}

pub(super) use whittle_build::place::tame;

/// How long something is, in the two largest units: `2m 5s`, `3h`, `45s`.
pub(super) fn span(seconds: i64) -> String {
    let seconds = seconds.max(0);
    let units = [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];
    let Some(first) = units.iter().position(|(unit, _)| seconds >= *unit) else {
        return "0s".into();
    };
    let (unit, name) = units[first];
    let mut text = format!("{}{name}", seconds / unit);
    if let Some((smaller, name)) = units.get(first + 1)
        && seconds % unit / smaller > 0
    {
        text.push_str(&format!(" {}{name}", seconds % unit / smaller));
    }
    text
}

/// How long ago something was.
pub(super) fn ago(then: Timestamp, now: Timestamp) -> String {
    format!("{} ago", span(since(then, now)))
}

/// Seconds from one time to another, none where clocks differ.
pub(super) fn since(then: Timestamp, now: Timestamp) -> i64 {
    now.duration_since(then).max(SignedDuration::ZERO).as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_two_units_at_most() {
        for (seconds, expected) in [
            (-5, "0s"),
            (0, "0s"),
            (45, "45s"),
            (60, "1m"),
            (125, "2m 5s"),
            (3_600, "1h"),
            (7_290, "2h 1m"),
            (200_000, "2d 7h"),
        ] {
            assert_eq!(span(seconds), expected);
        }
    }

    #[test]
    fn what_others_say_does_not_steer_the_terminal() {
        assert_eq!(
            tame("a\x1b]0;title\x07b\r\n\tc\u{9b}2J"),
            "a]0;titleb\n\tc2J"
        );
    }
}
