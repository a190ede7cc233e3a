//! The shell text of a RUN: its commands, the variables that it uses, and those that it sets itself.
//!
//! Not a shell: it reads what Dockerfiles hold. What it cannot follow (`eval`, a sourced file) it says, so
//! that nobody draws conclusions from it.

use std::collections::BTreeSet;

use super::dockerfile::{Instruction, Text};
use super::start::{assignment, command};

/// How deep commands may stand within commands.
const DEPTH: u32 = 24;

/// A command that is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Command {
    /// Where it begins.
    pub(super) at: usize,
    /// Its program without folders, and its arguments, quotes taken off, variables left as they are.
    pub(super) words: Vec<String>,
    /// Variables that are set for it alone, with their values as written.
    pub(super) env: Vec<(String, String)>,
}

impl Command {
    pub(super) fn program(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }

    /// Arguments that are no flags.
    pub(super) fn plain(&self) -> impl Iterator<Item = &str> {
        self.args().filter(|word| !word.starts_with('-'))
    }

    pub(super) fn args(&self) -> impl Iterator<Item = &str> {
        self.words.iter().skip(1).map(String::as_str)
    }

    pub(super) fn has(&self, flag: &str) -> bool {
        self.args().any(|word| word == flag)
    }

    /// True where an option has one of these beginnings: `--cache-dir` for `--cache-dir=x` too.
    pub(super) fn has_option(&self, begins: &[&str]) -> bool {
        self.args()
            .any(|word| begins.iter().any(|begin| word.starts_with(begin)))
    }

    /// Arguments that are neither flags nor the values of these, which stand as words of their own.
    pub(super) fn words_but(&self, valued: &[&str]) -> Vec<&str> {
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
pub(super) struct Use {
    pub(super) name: String,
    pub(super) at: usize,
    /// `${NAME:-…}` and its like: the author has thought of its absence.
    pub(super) guarded: bool,
}

/// What a shell text does.
#[derive(Clone, Debug, Default)]
pub(super) struct Script {
    /// The text that the places count in.
    pub(super) text: Text,
    pub(super) commands: Vec<Command>,
    pub(super) uses: Vec<Use>,
    /// Variables that it sets itself.
    pub(super) assigned: BTreeSet<String>,
    /// The same, with the values as written, where they stand.
    pub(super) values: Vec<(String, String)>,
    /// It may set variables that nobody sees here.
    pub(super) opaque: bool,
}

/// Reads a RUN; none where no POSIX shell reads its text.
pub(super) fn script(run: &Instruction) -> Option<Script> {
    if let Some(words) = &run.json {
        return match words.as_slice() {
            [shell, flag, text] if is_shell(shell) && is_script_flag(flag) => {
                let mut script = read(text, 0);
                script.text = run.rest.clone();
                // Its places count in the list's text, not in this one's: all on the first line.
                script.commands.iter_mut().for_each(|c| c.at = 0);
                script.uses.iter_mut().for_each(|u| u.at = 0);
                Some(script)
            }
            words => Some(Script {
                text: run.rest.clone(),
                commands: command(words.to_vec(), 0).into_iter().collect(),
                ..Script::default()
            }),
        };
    }
    let mut text = run.rest.clone();
    match run.heredocs.as_slice() {
        [] => {}
        [only] if is_one_word(&run.rest.text) => {
            // The here-document is the script, whether its end is quoted or not.
            text = only.body.clone();
            let first = text.text.lines().next().unwrap_or_default();
            if let Some(interpreter) = first.trim_start().strip_prefix("#!") {
                let shell = interpreter
                    .split_whitespace()
                    .map(base_name)
                    .find(|word| *word != "env" && !word.starts_with('-'));
                if !shell.is_some_and(is_shell) {
                    return None;
                }
            }
        }
        [only] if feeds_a_shell(&run.rest.text) => text = only.body.clone(),
        several => {
            for doc in several {
                let mut end = Text::default();
                end.text = "\n".into();
                text = join(text, &end);
                text = join(text, &doc.body);
                let mut name = Text::default();
                name.text.clone_from(&doc.name);
                text = join(text, &name);
            }
        }
    }
    let mut script = read(&text.text, 0);
    script.text = text;
    Some(script)
}

fn join(mut text: Text, more: &Text) -> Text {
    text.append(more);
    text
}

fn is_one_word(text: &str) -> bool {
    let end = text.trim_start_matches("<<").trim_start_matches('-');
    text.starts_with("<<") && !end.trim().contains([' ', '\t', '>', '<', '|', '&', ';'])
}

/// True for `bash -e <<EOF` and `<<EOF sh`: the here-document is what the shell runs.
fn feeds_a_shell(text: &str) -> bool {
    let script = read(text, 0);
    let [command] = script.commands.as_slice() else {
        return false;
    };
    let mut option = false;
    is_shell(command.program())
        && !text.contains(['>', '|'])
        && command.args().all(|word| {
            let good = option || (word.starts_with('-') && !is_script_flag(word));
            option = word.starts_with('-') && word.ends_with('o');
            good || word == "-"
        })
}

pub(super) fn is_shell(program: &str) -> bool {
    matches!(
        base_name(program),
        "sh" | "bash" | "dash" | "ash" | "ksh" | "zsh"
    )
}

/// `-c`, `-lc`, `-exc`.
pub(super) fn is_script_flag(word: &str) -> bool {
    word.starts_with('-') && !word.starts_with("--") && word.ends_with('c')
}

pub(super) fn base_name(program: &str) -> &str {
    program.rsplit('/').next().unwrap_or(program)
}

fn read(text: &str, depth: u32) -> Script {
    let mut reader = Reader {
        text,
        at: 0,
        depth,
        script: Script::default(),
        documents: vec![],
    };
    reader.list(None);
    reader.script
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    depth: u32,
    script: Script,
    /// Here-documents that begin on the next line: the end, whether quoted, whether tabs go.
    documents: Vec<(String, bool, bool)>,
}

#[derive(Clone, Debug, Default)]
struct Word {
    at: usize,
    text: String,
    quoted: bool,
    /// It sets this variable, and nothing in its value is the same one unset.
    sets: Option<String>,
}

impl Reader<'_> {
    fn peek(&self) -> Option<char> {
        self.text.get(self.at..)?.chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn sees(&self, what: &str) -> bool {
        self.text
            .get(self.at..)
            .is_some_and(|rest| rest.starts_with(what))
    }

    /// Commands up to the character `end`, or to the end of the text.
    fn list(&mut self, end: Option<char>) {
        if self.depth > DEPTH {
            self.script.opaque = true;
            self.at = self.text.len();
            return;
        }
        self.depth += 1;
        let mut words: Vec<Word> = vec![];
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
                '#' => {
                    while self.peek().is_some_and(|c| c != '\n') {
                        self.next();
                    }
                }
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
                    let word = self.word(end);
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
        let word = self.word(None);
        if document {
            self.documents.push((word.text, word.quoted, tabs));
        }
    }

    /// The here-documents whose lines begin here: the shell fills in variables where the end is bare.
    fn skip_documents(&mut self) {
        for (end, quoted, tabs) in std::mem::take(&mut self.documents) {
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
                self.quoted(None);
                self.text = text;
                self.at = after;
            }
        }
    }

    /// One simple command is complete.
    fn flush(&mut self, words: &mut Vec<Word>) {
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
                self.script.assigned.insert(name.clone());
            }
            rest = more;
        }
        let Some(first) = rest.first() else {
            self.script.values.extend(env);
            return;
        };
        match first.text.as_str() {
            "for" | "select" if !first.quoted => {
                self.script
                    .assigned
                    .extend(rest.get(1).map(|word| word.text.clone()));
                return;
            }
            "case" | "function" if !first.quoted => return,
            "export" | "readonly" | "local" | "declare" | "typeset" => {
                // `export $(cat .env)` may set anything.
                self.script.opaque |= rest[1..].iter().any(|word| word.text.starts_with('$'));
                let values = rest[1..].iter().filter_map(|word| assignment(&word.text));
                self.script.values.extend(values);
                let names = rest.iter().filter_map(|word| word.sets.clone());
                self.script
                    .assigned
                    .extend(names.filter(|name| !name.is_empty()));
            }
            "read" | "getopts" | "mapfile" | "readarray" | "printf" | "unset" | "let" => {
                self.script.assigned.extend(
                    rest[1..]
                        .iter()
                        .map(|word| word.text.split('=').next().unwrap_or_default().to_owned())
                        .filter(|name| is_name(name)),
                );
            }
            "." | "source" | "eval" => self.script.opaque = true,
            _ => {}
        }
        let at = first.at;
        let plain = rest.iter().map(|word| word.text.clone()).collect();
        let Some(mut command) = command(plain, at) else {
            return;
        };
        command.env.extend(env);
        let runs = is_shell(command.program()) || matches!(command.program(), "su" | "runuser");
        if runs
            && let Some(flag) = command
                .words
                .iter()
                .position(|word| is_script_flag(word) || word == "--command")
            && let Some(text) = command.words.get(flag + 1)
            && self.depth < DEPTH
        {
            let inner = read(text, self.depth + 1);
            self.script.commands.extend(
                inner
                    .commands
                    .into_iter()
                    .map(|inner| Command { at, ..inner }),
            );
        }
        self.script.commands.push(command);
    }
}

pub(super) fn is_name(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with(|c: char| c.is_ascii_digit())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[path = "shell_words.rs"]
mod words;

#[cfg(test)]
#[path = "shell_tests.rs"]
mod tests;
