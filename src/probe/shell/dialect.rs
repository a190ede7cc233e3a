//! What shells do in different ways. Of a shell that is not known only what all do alike counts.
//!
//! Tried with dash 0.5.12, bash 5.2, busybox 1.35, mksh 59, yash 2.52, ksh93u+m and zsh 5.9.

use super::eval::{EXIT_FAIL, EXIT_OK, EXITS, Eval, FAIL, Flow, GOES_ON, Missing, OK, Running};
use crate::place::{Found, Starter};
use whittle_image::shell::syntax::{Piece, Word};
use whittle_image::shell::{Shell, is_builtin};

/// Letters of `set` that dash and ash of busybox take, with those of the shell itself.
const LETTERS: &str = "abcefilmnopsuvxCEIV";
/// Letters that POSIX has.
const POSIX: &str = "abcefilmnosuvxC";
/// Names of `set -o` that they take.
const NAMES: &str = "allexport debug emacs errexit ignoreeof interactive monitor noclobber noexec noglob nolog notify \
    nounset stdin verbose vi xtrace";
/// Files that are connections where bash opens them (Redirections, bash(1)), and nothing elsewhere.
const NETWORK: [&str; 2] = ["/dev/tcp/", "/dev/udp/"];

impl Eval<'_, '_> {
    pub(super) fn kind(&self) -> Shell {
        self.shell.as_ref().map_or(Shell::Other, |shell| shell.kind)
    }

    /// Something that this shell does not have and bash does: how it goes on is `flow`.
    pub(super) fn lacks(&mut self, what: &str, flow: Flow) -> Flow {
        if self.assume {
            return GOES_ON;
        }
        let (name, kind) = match &self.shell {
            Some(Running { name, kind, .. }) => (name.clone(), kind.name()),
            None => ("its shell".into(), Shell::Other.name()),
        };
        let is = match name == kind {
            true => name.clone(),
            false => format!("{name} is {kind} there, which"),
        };
        let fix = match self.place.find("bash", Starter::Runtime) {
            Found::Runs(_) => {
                format!("Run it with bash in place of {name}, or write it without {what}")
            }
            _ => format!("Write it without {what}"),
        };
        self.missing.push(Missing {
            program: name,
            why: format!("{is} has no {what}"),
            started: true,
            fix: Some(fix),
        });
        flow
    }

    /// True for what bash carries out itself, and this shell does not: no package has it.
    pub(super) fn is_of_bash(&self, name: &str) -> bool {
        matches!(self.kind(), Shell::Dash | Shell::Busybox)
            && (is_builtin(name, Shell::Bash) == Some(true) || matches!(name, "[[" | "coproc"))
    }

    /// What a redirection does that does not open a file: none where it does.
    pub(super) fn network(&mut self, redirects: &[(String, Word)]) -> Option<Flow> {
        let opens = |(_, word): &&(String, Word)| match word.pieces.first() {
            Some(Piece::Text(text)) => NETWORK.iter().any(|folder| text.starts_with(folder)),
            _ => false,
        };
        redirects.iter().find(opens)?;
        match self.kind() {
            Shell::Bash => None,
            Shell::Dash | Shell::Busybox => Some(self.lacks("/dev/tcp", FAIL)),
            Shell::Other => Some(self.opaque("it opens /dev/tcp, which not every shell has")),
        }
    }

    /// Options that `set`, or the shell itself, is given: letters, or one name. None where all is well.
    pub(super) fn unknown_option(&mut self, letters: &str, name: Option<&str>) -> Option<Flow> {
        let known = |name: &str| NAMES.split_ascii_whitespace().any(|known| known == name);
        let kind = self.kind();
        if name == Some("pipefail") {
            return match self.shell.as_ref().and_then(|shell| shell.pipefail) {
                Some(true) => None,
                Some(false) => Some(self.lacks("pipefail", EXIT_FAIL)),
                None => Some(self.opaque(format!(
                    "it sets pipefail, and it is unknown whether {} of the image supports it",
                    kind.name()
                ))),
            };
        }
        let all = if kind == Shell::Other { POSIX } else { LETTERS };
        let letter = letters.chars().find(|letter| !all.contains(*letter));
        match kind {
            Shell::Bash => return None,
            Shell::Other if letter.is_some() || name.is_some_and(|name| !known(name)) => {
                return Some(self.opaque("it sets an option that not every shell has"));
            }
            Shell::Other => return None,
            Shell::Dash | Shell::Busybox => {}
        }
        match (letter, name) {
            (Some(letter), _) => Some(self.lacks(&format!("option -{letter}"), EXIT_FAIL)),
            (None, Some(name)) if !known(name) => {
                Some(self.lacks(&format!("option {name}"), EXIT_FAIL))
            }
            _ => None,
        }
    }

    /// `[ a == b ]`, of which dash says that the operator is unexpected.
    pub(super) fn test(&mut self, name: &str, words: &[Word]) -> Flow {
        let rest = match (name, words) {
            ("[", [rest @ .., last]) if last.literal() == Some("]") => rest,
            ("test", rest) => rest,
            _ => return GOES_ON,
        };
        // What is not in quotes may come to more than one word, or to none.
        let one = |word: &Word| word.quoted || word.literal().is_some();
        let operator = |word: &Word| {
            word.literal()
                .is_some_and(|text| matches!(text, "=" | "!=" | "!" | "(") || text.starts_with('-'))
        };
        let compares = rest.windows(3).any(|words| match words {
            [left, middle, _] => middle.literal() == Some("==") && !operator(left),
            _ => false,
        });
        if compares && rest.iter().all(one) && self.kind() == Shell::Dash {
            return self.lacks("== in a test (write =)", FAIL);
        }
        GOES_ON
    }

    /// `type`, with what each shell makes of options.
    pub(super) fn asks_type(&mut self, words: &[Word]) -> Flow {
        let option = |word: &&Word| {
            word.literal()
                .is_some_and(|text| text.len() > 1 && text.starts_with('-'))
        };
        let options = words.iter().take_while(option).count();
        if options > 0 {
            match self.kind() {
                Shell::Dash => return self.lacks("options of type", FAIL),
                Shell::Other => {
                    return self.opaque("it gives type options, which not every shell has");
                }
                // Functions and builtins are passed over by some of them.
                Shell::Bash | Shell::Busybox => {}
            }
        }
        self.all_found(&words[options..])
    }

    /// Fails where one of these names is no command.
    pub(super) fn all_found(&mut self, names: &[Word]) -> Flow {
        let mut flow = OK;
        for name in names {
            let found = match name.literal() {
                Some(name) => self.sought(name),
                None => GOES_ON,
            };
            if found == FAIL {
                return FAIL;
            }
            flow |= found;
        }
        flow
    }

    /// `return`, which ends a script in all shells but bash: bash says that it is in no function, and goes on,
    /// unless it is called sh.
    pub(super) fn returns(&mut self, prior: Flow, code: Option<&Word>) -> Flow {
        let ends = Self::exits(prior, code);
        let posix = self.shell.as_ref().is_some_and(|shell| shell.name == "sh");
        match self.kind() {
            Shell::Bash if posix => EXIT_FAIL,
            Shell::Bash => FAIL,
            Shell::Dash | Shell::Busybox => ends,
            Shell::Other => ends | FAIL,
        }
    }

    /// `exit` with its code.
    pub(super) fn exits(prior: Flow, code: Option<&Word>) -> Flow {
        let Some(word) = code else {
            return (prior & GOES_ON) << 2;
        };
        match (word.literal(), word.pieces.as_slice()) {
            // Of a number its last eight bits count.
            (Some(text), _) => match text.parse::<i32>() {
                // dash takes none below zero.
                Ok(code) if code % 256 == 0 && code >= 0 => EXIT_OK,
                Ok(code) if code % 256 == 0 => EXITS,
                Err(_) if text.trim_start_matches('-').parse::<u64>().is_ok() => EXITS,
                _ => EXIT_FAIL,
            },
            (None, [Piece::Other(text)]) if text == "$?" => (prior & GOES_ON) << 2,
            _ => EXITS,
        }
    }

    /// `local` outside of a function.
    pub(super) fn local(&mut self) -> Flow {
        match self.kind() {
            Shell::Dash | Shell::Busybox => EXIT_FAIL,
            Shell::Bash => FAIL,
            Shell::Other => self.opaque("it has local outside of a function"),
        }
    }

    /// `printf` and `wait` with an option that dash does not have.
    pub(super) fn lacks_option(&mut self, name: &str, words: &[Word]) -> Flow {
        let option = words.first().and_then(Word::literal);
        match option.filter(|text| text.len() > 1 && text.starts_with('-') && *text != "--") {
            Some(option) if self.kind() == Shell::Dash => {
                self.lacks(&format!("{name} {option}"), FAIL)
            }
            Some(_) if self.kind() == Shell::Other => self.opaque(format!(
                "it gives {name} options, which not every shell has"
            )),
            _ => GOES_ON,
        }
    }

    /// `read` with an option that dash does not have.
    pub(super) fn reads(&mut self, words: &[Word]) -> Flow {
        let other = words
            .iter()
            .map_while(|word| word.literal()?.strip_prefix('-'))
            .flat_map(str::chars)
            .find(|letter| !"pr-".contains(*letter));
        match other {
            Some(_) if self.kind() == Shell::Other => {
                self.opaque("it gives read options, which not every shell has")
            }
            Some(letter) if self.kind() == Shell::Dash && !words[0].pieces.is_empty() => {
                // A value of -p may begin with a dash.
                let prompts = words.iter().any(|word| {
                    word.literal()
                        .is_some_and(|text| text.contains('p') && text.starts_with('-'))
                });
                match prompts {
                    true => GOES_ON,
                    false => self.lacks(&format!("read -{letter}"), FAIL),
                }
            }
            _ => GOES_ON,
        }
    }
}
