//! The tolerant reader: the commands of a shell's text, the variables that it uses, and those that it sets itself.
//!
//! Not a shell: it takes any text, and reads what Dockerfiles hold. What it cannot follow (`eval`, a sourced file) it
//! says, so that nobody draws conclusions from it.

use std::collections::BTreeSet;
use std::convert::Infallible;

use super::is_shell;
use super::lexer::{self, DEPTH};
use super::start::{assignment, command};
use super::syntax::{Piece, Word};

/// A command that is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Where it begins.
    pub at: usize,
    /// Its program without folders, and its arguments, quotes taken off, variables left as they are.
    pub words: Vec<String>,
    /// Variables that are set for it alone, with their values as written.
    pub env: Vec<(String, String)>,
}

impl Command {
    pub fn program(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }

    /// Arguments that are no flags.
    pub fn plain(&self) -> impl Iterator<Item = &str> {
        self.args().filter(|word| !word.starts_with('-'))
    }

    pub fn args(&self) -> impl Iterator<Item = &str> {
        self.words.iter().skip(1).map(String::as_str)
    }

    pub fn has(&self, flag: &str) -> bool {
        self.args().any(|word| word == flag)
    }

    /// True where an option has one of these beginnings: `--cache-dir` for `--cache-dir=x` too.
    pub fn has_option(&self, begins: &[&str]) -> bool {
        self.args()
            .any(|word| begins.iter().any(|begin| word.starts_with(begin)))
    }

    /// Arguments that are neither flags nor the values of these, which stand as words of their own.
    pub fn words_but(&self, valued: &[&str]) -> Vec<&str> {
        let mut found = vec![];
        let mut value = false;
        for word in self.args() {
            if !value && !word.starts_with('-') {
                found.push(word);
            }
            value = !value && valued.contains(&word);
        }
        found
    }
}

/// A use of a variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Use {
    /// Its name.
    pub name: String,
    /// Where its `$` stands.
    pub at: usize,
    /// `${NAME:-…}` and its like: the author has thought of its absence.
    pub guarded: bool,
}

/// What a text does.
#[derive(Clone, Debug, Default)]
pub struct Outline {
    /// Its commands, also those within others.
    pub commands: Vec<Command>,
    /// The variables that the shell fills in.
    pub uses: Vec<Use>,
    /// Variables that it sets itself.
    pub assigned: BTreeSet<String>,
    /// The same, with the values as written, where they stand.
    pub values: Vec<(String, String)>,
    /// It may set variables that nobody sees here.
    pub opaque: bool,
}

/// Reads any text as a shell's.
pub fn outline(text: &str) -> Outline {
    read(text, 0)
}

fn read(text: &str, depth: usize) -> Outline {
    let mut reader = Reader {
        text,
        at: 0,
        depth,
        mode: Tolerant::default(),
    };
    reader.list(None);
    reader.mode.found
}

/// Takes any text.
#[derive(Default)]
struct Tolerant {
    found: Outline,
    /// Here-documents that begin on the next line: the end, whether quoted, whether tabs go.
    documents: Vec<(String, bool, bool)>,
}

type Reader<'a> = lexer::Reader<'a, Tolerant>;

/// A word as it stands, quotes taken off, variables left as they are.
#[derive(Clone, Debug, Default)]
struct Plain {
    at: usize,
    text: String,
    quoted: bool,
    /// It sets this variable, and nothing in its value is the same one unset.
    sets: Option<String>,
}

/// The text of a word: `$()` where commands stand.
fn shown(word: &Word) -> String {
    let pieces = word.pieces.iter().map(|piece| match piece {
        Piece::Text(text) | Piece::Other(text) => text.clone(),
        Piece::Variable(name) => format!("${name}"),
        Piece::Output(_) => "$()".to_owned(),
    });
    pieces.collect()
}

impl Reader<'_> {
    /// Commands up to the character `end`, or to the end of the text.
    fn list(&mut self, end: Option<char>) {
        if self.depth > DEPTH {
            self.mode.found.opaque = true;
            self.at = self.text.len();
            return;
        }
        self.depth += 1;
        let mut words: Vec<Plain> = vec![];
        while let Some(c) = self.peek() {
            if Some(c) == end {
                self.next();
                break;
            }
            match c {
                '\n' => {
                    self.next();
                    self.flush(&mut words);
                    self.skip_documents();
                }
                '\\' if self.sees("\\\n") => self.at += 2,
                c if c.is_whitespace() => {
                    self.next();
                }
                '#' => self.comment(),
                '&' if self.sees("&>") => {
                    self.next();
                    self.redirect();
                }
                ';' | '&' | '|' => {
                    self.next();
                    self.flush(&mut words);
                }
                '(' => {
                    self.next();
                    self.flush(&mut words);
                    self.list(Some(')'));
                }
                ')' => {
                    // A pattern of `case`.
                    self.next();
                    words.clear();
                }
                '<' | '>' => self.redirect(),
                _ => {
                    let word = self.plain_word();
                    let number = !word.quoted && word.text.bytes().all(|b| b.is_ascii_digit());
                    let none = word.text.is_empty() && !word.quoted;
                    let descriptor = number && matches!(self.peek(), Some('<' | '>'));
                    if !none && !descriptor {
                        words.push(word);
                    }
                }
            }
        }
        self.flush(&mut words);
        self.depth -= 1;
    }

    fn redirect(&mut self) {
        if self.sees("<(") || self.sees(">(") {
            self.at += 2;
            self.list(Some(')'));
            return;
        }
        let document = self.sees("<<") && !self.sees("<<<");
        while matches!(self.peek(), Some('<' | '>' | '&' | '|')) {
            self.next();
        }
        let tabs = document && self.sees("-");
        if tabs {
            self.next();
        }
        while matches!(self.peek(), Some(' ' | '\t')) {
            self.next();
        }
        if matches!(self.peek(), None | Some('\n' | ';' | '&' | '|' | '(' | ')')) {
            return;
        }
        let word = self.plain_word();
        if document {
            self.mode.documents.push((word.text, word.quoted, tabs));
        }
    }

    /// The here-documents whose lines begin here: the shell fills in variables where the end is bare.
    fn skip_documents(&mut self) {
        for (end, quoted, tabs) in std::mem::take(&mut self.mode.documents) {
            let begin = self.at;
            let mut stop = self.text.len();
            let mut from = begin;
            let rest = self.text.get(begin..).unwrap_or_default();
            self.at = self.text.len();
            for line in rest.split_inclusive('\n') {
                let bare = line.trim_end_matches(['\r', '\n']);
                let bare = if tabs {
                    bare.trim_start_matches('\t')
                } else {
                    bare
                };
                if bare == end {
                    stop = from;
                    self.at = from + line.len();
                    break;
                }
                from += line.len();
            }
            if !quoted {
                let after = self.at;
                let text = self.text;
                self.text = &text[..stop];
                self.at = begin;
                let Ok(()) = self.quoted(&mut Word::default(), None);
                self.text = text;
                self.at = after;
            }
        }
    }

    /// One simple command is complete.
    fn flush(&mut self, words: &mut Vec<Plain>) {
        let words = std::mem::take(words);
        let mut rest = words.as_slice();
        while let Some((first, more)) = rest.split_first() {
            let reserved = !first.quoted
                && matches!(
                    first.text.as_str(),
                    "if" | "then"
                        | "elif"
                        | "else"
                        | "fi"
                        | "do"
                        | "done"
                        | "while"
                        | "until"
                        | "esac"
                        | "!"
                        | "{"
                        | "}"
                        | "time"
                );
            if !reserved {
                break;
            }
            rest = more;
        }
        let mut env = vec![];
        while let Some((first, more)) = rest.split_first()
            && let Some(name) = &first.sets
        {
            env.extend(assignment(&first.text));
            if !name.is_empty() {
                self.mode.found.assigned.insert(name.clone());
            }
            rest = more;
        }
        let Some(first) = rest.first() else {
            self.mode.found.values.extend(env);
            return;
        };
        match first.text.as_str() {
            "for" | "select" if !first.quoted => {
                self.mode
                    .found
                    .assigned
                    .extend(rest.get(1).map(|word| word.text.clone()));
                return;
            }
            "case" | "function" if !first.quoted => return,
            "export" | "readonly" | "local" | "declare" | "typeset" => {
                // `export $(cat .env)` may set anything.
                self.mode.found.opaque |= rest[1..].iter().any(|word| word.text.starts_with('$'));
                let values = rest[1..].iter().filter_map(|word| assignment(&word.text));
                self.mode.found.values.extend(values);
                let names = rest.iter().filter_map(|word| word.sets.clone());
                self.mode
                    .found
                    .assigned
                    .extend(names.filter(|name| !name.is_empty()));
            }
            "read" | "getopts" | "mapfile" | "readarray" | "printf" | "unset" | "let" => {
                self.mode.found.assigned.extend(
                    rest[1..]
                        .iter()
                        .map(|word| word.text.split('=').next().unwrap_or_default().to_owned())
                        .filter(|name| is_name(name)),
                );
            }
            "." | "source" | "eval" => self.mode.found.opaque = true,
            _ => {}
        }
        let at = first.at;
        let plain = rest.iter().map(|word| word.text.clone()).collect();
        let Some(mut command) = command(plain, at) else {
            return;
        };
        command.env.extend(env);
        let runs =
            is_shell(base_name(command.program())) || matches!(command.program(), "su" | "runuser");
        if runs
            && let Some(flag) = command
                .words
                .iter()
                .position(|word| is_script_flag(word) || word == "--command")
            && let Some(text) = command.words.get(flag + 1)
            && self.depth < DEPTH
        {
            let inner = read(text, self.depth + 1);
            self.mode.found.commands.extend(
                inner
                    .commands
                    .into_iter()
                    .map(|inner| Command { at, ..inner }),
            );
        }
        self.mode.found.commands.push(command);
    }
}

/// `-c`, `-lc`, `-exc`.
pub fn is_script_flag(word: &str) -> bool {
    word.starts_with('-') && !word.starts_with("--") && word.ends_with('c')
}

pub fn base_name(program: &str) -> &str {
    program.rsplit('/').next().unwrap_or(program)
}

pub fn is_name(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with(|c: char| c.is_ascii_digit())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[path = "tolerant_words.rs"]
mod words;

#[cfg(test)]
#[path = "tolerant_tests.rs"]
mod tests;
