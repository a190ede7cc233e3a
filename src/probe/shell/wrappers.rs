//! Programs that start the one that they are given.

use whittle_image::shell::syntax::Word;

/// What a program starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Inner<'w> {
    /// Nothing.
    None,
    /// Nothing, and it always succeeds, or always fails.
    Always(bool),
    /// These words.
    Words(&'w [Word]),
    /// Something that its arguments name in a way that is not read here.
    Unread,
}

/// What a program starts, by its name and its arguments.
pub(super) fn inner<'w>(name: &str, words: &'w [Word]) -> Inner<'w> {
    match name {
        "true" => Inner::Always(true),
        "false" => Inner::Always(false),
        // timeout of coreutils and busybox; a duration stands before the program.
        "timeout" => after(
            words,
            &["--foreground", "--preserve-status", "-v", "--verbose"],
            &["-k", "-s", "--kill-after", "--signal"],
            1,
        ),
        "nice" => after(words, &[], &["-n", "--adjustment"], 0),
        "nohup" => after(words, &[], &[], 0),
        "setsid" => after(
            words,
            &["-c", "-f", "-w", "--ctty", "--fork", "--wait"],
            &[],
            0,
        ),
        "stdbuf" => after(words, &[], &["-i", "-o", "-e"], 0),
        "su-exec" | "gosu" => after(words, &[], &[], 1),
        "env" => env(words),
        "tini" | "tini-static" | "dumb-init" | "catatonit" => init(words),
        "xargs" | "sudo" | "su" | "doas" | "runuser" | "flock" | "chroot" | "setpriv"
        | "unshare" | "nsenter" | "watch" | "chpst" | "softlimit" | "envdir" | "setuidgid"
        | "envuidgid" | "ionice" | "taskset" | "chrt" | "script" | "time" | "parallel" | "csh"
        | "tcsh" | "fish" | "pwsh" | "hush" | "msh" | "toybox" | "runcon" | "start-stop-daemon"
        | "strace" | "cttyhack" | "linux32" | "linux64" | "setarch" => Inner::Unread,
        _ if name.contains(".so") => Inner::Unread,
        _ => Inner::None,
    }
}

/// The words behind options, of which `plain` take no value and `valued` take one, and behind `skipped`
/// words. With another option it is not known where the program stands.
fn after<'w>(words: &'w [Word], plain: &[&str], valued: &[&str], skipped: usize) -> Inner<'w> {
    let mut at = 0;
    let mut left = skipped;
    while let Some(word) = words.get(at) {
        let Some(text) = word.literal() else {
            return Inner::Unread;
        };
        if text == "--" {
            at += 1 + left;
            break;
        }
        if left == skipped && text.len() > 1 && text.starts_with('-') {
            let attached = valued.iter().any(|option| {
                text.strip_prefix(option)
                    .is_some_and(|rest| !rest.is_empty())
            });
            if valued.contains(&text) {
                at += 2;
            } else if attached || plain.contains(&text) {
                at += 1;
            } else {
                return Inner::Unread;
            }
        } else if left > 0 {
            left -= 1;
            at += 1;
        } else {
            break;
        }
    }
    match words.get(at..) {
        Some(rest) if !rest.is_empty() => Inner::Words(rest),
        _ => Inner::None,
    }
}

/// `env NAME=value … program`; options, and another PATH, are not followed.
fn env(words: &[Word]) -> Inner<'_> {
    for (at, word) in words.iter().enumerate() {
        let Some(text) = word.literal() else {
            return Inner::Unread;
        };
        match text.split_once('=') {
            _ if text.starts_with('-') => return Inner::Unread,
            Some(("PATH", _)) => return Inner::Unread,
            Some(_) => {}
            None => return Inner::Words(&words[at..]),
        }
    }
    Inner::None
}

/// An init: the words behind `--`, else the first where it is no option.
fn init(words: &[Word]) -> Inner<'_> {
    match words.iter().position(|word| word.literal() == Some("--")) {
        Some(at) => match &words[at + 1..] {
            [] => Inner::None,
            rest => Inner::Words(rest),
        },
        None => match words.first().map(Word::literal) {
            None => Inner::None,
            Some(Some(text)) if !text.starts_with('-') => Inner::Words(words),
            _ => Inner::Unread,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_that_start_others_are_seen_through() {
        for (command, program) in [
            ("timeout 5 a b", Some("a")),
            ("timeout -s KILL -k 2 5s a", Some("a")),
            ("timeout -- 5 a", Some("a")),
            ("timeout -t 5 a", None),
            ("timeout --signal=KILL 5 a", Some("a")),
            ("stdbuf -oL a", Some("a")),
            ("timeout 5", None),
            ("env A=1 B= a", Some("a")),
            ("env -i a", None),
            ("env PATH=/x a", None),
            ("nice -n 5 a", Some("a")),
            ("nohup a", Some("a")),
            ("gosu app a", Some("a")),
            ("tini -g -- a b", Some("a")),
            ("tini a", Some("a")),
            ("tini -p a b", None),
            ("xargs a", None),
            ("cat a", None),
        ] {
            let words: Vec<Word> = command.split(' ').map(Word::plain).collect();
            let found = inner(words[0].literal().unwrap(), &words[1..]);
            let first = match found {
                Inner::Words(words) => words[0].literal(),
                _ => None,
            };
            assert_eq!(first, program, "{command}");
        }
    }
}
