//! The shell's language, as far as probes use it (POSIX, Shell Command Language, 2.10): lists, pipelines,
//! groups, `if`, loops, `case`, quotes, redirections and substitutions. What else there is (functions,
//! here-documents, arithmetic commands, arrays) is an error, so that nobody draws conclusions from it.

use super::Shell;
use super::lexer::{self, DEPTH, Read};

/// `&&` and `||` in all: each stands within the next.
const CHAIN: usize = 200;
/// Bytes of a script that are read; probes are lines, not programs.
const MOST: usize = 16 << 10;

/// A part of a word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Text, its quotes taken off.
    Text(String),
    /// `$NAME` or `${NAME}`.
    Variable(String),
    /// `$(…)`, or the like in backquotes.
    Output(Box<Node>),
    /// Anything else that the shell fills in: `$?`, `${NAME:-…}`, `$((…))`, patterns, `~`.
    Other(String),
}

/// One word.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Word {
    pub pieces: Vec<Piece>,
    /// True where some of it stood in quotes: then it is no reserved word.
    pub quoted: bool,
}

impl Word {
    /// A word that no shell has a hand in.
    pub fn plain(text: &str) -> Self {
        Self {
            pieces: vec![Piece::Text(text.to_owned())],
            quoted: true,
        }
    }

    /// Its text, where the shell fills nothing in.
    pub fn literal(&self) -> Option<&str> {
        match self.pieces.as_slice() {
            [] => Some(""),
            [Piece::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// Its text with variables filled in by `value`; none where something is not known.
    pub fn resolve(&self, value: &dyn Fn(&str) -> Option<String>) -> Option<String> {
        self.pieces
            .iter()
            .map(|piece| match piece {
                Piece::Text(text) => Some(text.clone()),
                Piece::Variable(name) => value(name),
                Piece::Output(_) | Piece::Other(_) => None,
            })
            .collect()
    }

    pub(super) fn push(&mut self, c: char) {
        match self.pieces.last_mut() {
            Some(Piece::Text(text)) => text.push(c),
            _ => self.pieces.push(Piece::Text(c.to_string())),
        }
    }

    /// Makes one of pieces of text that touch.
    pub(super) fn join(&mut self) {
        let mut joined: Vec<Piece> = Vec::new();
        for piece in std::mem::take(&mut self.pieces) {
            match (joined.last_mut(), piece) {
                (Some(Piece::Text(text)), Piece::Text(more)) => text.push_str(&more),
                (_, piece) => joined.push(piece),
            }
        }
        self.pieces = joined;
    }
}

/// A command of words, each part in the order in which it stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Simple {
    /// `NAME=value` before the words.
    pub assigns: Vec<(String, Word)>,
    /// The program, and what it is given.
    pub words: Vec<Word>,
    /// Operators, each with its target.
    pub redirects: Vec<(String, Word)>,
}

/// A command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    Simple(Simple),
    Pipe(Vec<Node>),
    Not(Box<Node>),
    And(Box<Node>, Box<Node>),
    Or(Box<Node>, Box<Node>),
    /// One after the other; true: in the background.
    Sequence(Vec<(Node, bool)>),
    /// Conditions with what follows each, and what follows none.
    If(Vec<(Node, Node)>, Option<Box<Node>>),
    /// Condition, body, whether `until`.
    Loop(Box<Node>, Box<Node>, bool),
    /// Words and body.
    For(Vec<Word>, Box<Node>),
    Case(Word, Vec<Node>),
    Subshell(Box<Node>),
}

/// Reads a script as a shell does; fails with what it holds that is not read here, or that this shell reads
/// otherwise than others.
pub fn parse(script: &str, shell: Shell) -> Result<Node, &'static str> {
    if script.len() > MOST {
        return Err("it is too long");
    }
    let mut reader = Reader {
        text: script,
        at: 0,
        depth: 0,
        mode: Strict {
            shell,
            links: 0,
            in_backquotes: false,
        },
    };
    let node = reader.list(&[])?;
    if reader.at < reader.text.len() {
        return Err("syntax error: operator where a command is expected");
    }
    Ok(node)
}

/// True where none of the redirections can fail, or leads to a file.
pub fn quiet(redirects: &[(String, Word)]) -> bool {
    redirects
        .iter()
        .all(|(operator, word)| harmless(operator, word))
}

/// True for redirections that do not fail: to other descriptors, and from and to /dev/null.
fn harmless(operator: &str, word: &Word) -> bool {
    let descriptor = |word: &str| word == "-" || word.bytes().all(|b| b.is_ascii_digit());
    match word.literal() {
        Some("/dev/null") => true,
        Some(word) => operator.ends_with('&') && descriptor(word),
        None => false,
    }
}

/// Reads what this shell reads, and refuses all else.
struct Strict {
    shell: Shell,
    links: usize,
    in_backquotes: bool,
}

type Reader<'a> = lexer::Reader<'a, Strict>;

impl Reader<'_> {
    fn eats(&mut self, what: &str) -> bool {
        let sees = self.sees(what);
        if sees {
            self.at += what.len();
        }
        sees
    }

    /// Blanks, continued lines and comments; newlines too where they mean nothing.
    fn blanks(&mut self, newlines: bool) {
        loop {
            match self.peek() {
                Some(' ' | '\t') => self.at += 1,
                Some('\n') if newlines => self.at += 1,
                Some('\\') if self.sees("\\\n") => self.at += 2,
                Some('#') => self.comment(),
                _ => return,
            }
        }
    }

    /// The reserved word that comes next, unread.
    fn reserved(&mut self, newlines: bool) -> Option<&'static str> {
        const RESERVED: [&str; 15] = [
            "if", "then", "elif", "else", "fi", "while", "until", "do", "done", "for", "case",
            "esac", "{", "}", "!",
        ];
        self.blanks(newlines);
        RESERVED.into_iter().find(|word| {
            let end = self.at + word.len();
            self.sees(word)
                && self
                    .char_at(end)
                    .is_none_or(|c| matches!(c, ' ' | '\t' | '\n' | ';' | '&' | '|' | ')' | '('))
        })
    }

    fn keyword(&mut self, word: &'static str) -> Read<()> {
        if self.reserved(true) == Some(word) {
            self.at += word.len();
            Ok(())
        } else {
            Err("syntax error: incomplete compound command")
        }
    }

    /// Commands up to one of the reserved words or operators `ends`, which stay unread.
    fn list(&mut self, ends: &[&str]) -> Read<Node> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err("it is nested too deeply");
        }
        let mut all = Vec::new();
        loop {
            self.blanks(true);
            let ended = match self.reserved(true) {
                Some(word) => ends.contains(&word),
                None => ends
                    .iter()
                    .any(|end| matches!(*end, ")" | ";;" | "`") && self.sees(end)),
            };
            if ended || self.peek().is_none() {
                break;
            }
            let node = self.and_or()?;
            self.blanks(false);
            let background = self.sees("&") && !self.sees("&&");
            if background || (self.sees(";") && !self.sees(";;")) || self.sees("\n") {
                self.at += 1;
                all.push((node, background));
            } else {
                all.push((node, false));
                break;
            }
        }
        self.depth -= 1;
        Ok(match all.len() {
            1 if !all[0].1 => all.remove(0).0,
            _ => Node::Sequence(all),
        })
    }

    fn and_or(&mut self) -> Read<Node> {
        let mut left = self.pipeline()?;
        loop {
            self.blanks(false);
            let and = self.sees("&&");
            if !and && !self.sees("||") {
                return Ok(left);
            }
            self.mode.links += 1;
            if self.mode.links > CHAIN {
                return Err("too many && and ||");
            }
            self.at += 2;
            self.blanks(true);
            let right = Box::new(self.pipeline()?);
            left = if and {
                Node::And(Box::new(left), right)
            } else {
                Node::Or(Box::new(left), right)
            };
        }
    }

    fn pipeline(&mut self) -> Read<Node> {
        let mut not = false;
        while self.reserved(false) == Some("!") {
            self.at += 1;
            not = !not;
        }
        let mut all = vec![self.command()?];
        loop {
            self.blanks(false);
            if !self.sees("|") || self.sees("||") {
                break;
            }
            self.at += 1;
            if self.eats("&") && self.mode.shell != Shell::Bash {
                return Err("it uses |&, which not every shell supports");
            }
            self.blanks(true);
            all.push(self.command()?);
        }
        let node = match all.len() {
            1 => all.remove(0),
            _ => Node::Pipe(all),
        };
        Ok(if not { Node::Not(Box::new(node)) } else { node })
    }

    fn simple(&mut self) -> Read<Node> {
        let (mut assigns, mut words, mut redirects) = (Vec::new(), Vec::new(), Vec::new());
        loop {
            self.blanks(false);
            if let Some(redirect) = self.redirection()? {
                redirects.push(redirect);
                continue;
            }
            match self.peek() {
                None | Some('\n' | ';' | '&' | '|' | ')') => break,
                Some('`') if self.mode.in_backquotes => break,
                Some('(') if words.len() == 1 => return Err("it defines a function"),
                Some('(') => return Err("syntax error: parenthesis where a word is expected"),
                _ => {}
            }
            if words.is_empty()
                && let Some(name) = self.assigned()
            {
                if self.peek() == Some('(') {
                    return Err("it has an array");
                }
                assigns.push((name, self.word_or_nothing()?));
            } else {
                words.push(self.word()?);
                if let [only] = words.as_slice()
                    && !only.quoted
                    && only
                        .literal()
                        .is_some_and(|word| self.begins_compound(word))
                {
                    return Err("it has a compound command of bash");
                }
            }
        }
        if assigns.is_empty() && words.is_empty() && redirects.is_empty() {
            return Err("syntax error: operator where a command is expected");
        }
        Ok(Node::Simple(Simple {
            assigns,
            words,
            redirects,
        }))
    }

    /// `NAME=`, where that comes next.
    fn assigned(&mut self) -> Option<String> {
        let mut end = self.at;
        while self
            .char_at(end)
            .is_some_and(|c| c.is_ascii_alphanumeric() || c == '_')
        {
            end += 1;
        }
        let first = self.peek()?;
        if end == self.at || first.is_ascii_digit() || self.char_at(end) != Some('=') {
            return None;
        }
        let name = self.text[self.at..end].to_owned();
        self.at = end + 1;
        Some(name)
    }

    /// `>file`, `2>&1`, `</dev/null` and the like: operator and word.
    fn redirection(&mut self) -> Read<Option<(String, Word)>> {
        let begin = self.at;
        while self.peek().is_some_and(|c| c.is_ascii_digit()) {
            self.at += 1;
        }
        let ampersand = self.at == begin && self.sees("&>");
        match self.mode.shell {
            // In the background, and then a redirection of nothing.
            Shell::Dash if ampersand => return Ok(None),
            Shell::Other if ampersand => {
                return Err("it uses &>, which is a redirection only in some shells");
            }
            _ if ampersand => self.at += 1,
            _ => {}
        }
        let Some(c @ ('<' | '>')) = self.peek() else {
            self.at = begin;
            return Ok(None);
        };
        self.at += 1;
        if self.sees("(") {
            return Err("it has a process substitution");
        }
        if c == '<' && self.sees("<") {
            return Err("it has a here-document");
        }
        if !(self.eats("&") || self.eats(">") || self.eats("|")) {
            self.eats("<");
        }
        let operator = self.text[begin..self.at].to_owned();
        self.blanks(false);
        let word = self.word()?;
        let to_file = operator.ends_with('&')
            && word
                .literal()
                .is_some_and(|word| word != "-" && !word.bytes().all(|b| b.is_ascii_digit()));
        if to_file && !matches!(self.mode.shell, Shell::Bash | Shell::Busybox) {
            return Err("it uses >& with a file, which not every shell supports");
        }
        Ok(Some((operator, word)))
    }

    /// True for a word that begins a compound command which POSIX does not have.
    fn begins_compound(&self, word: &str) -> bool {
        match self.mode.shell {
            // Names like all others.
            Shell::Dash => false,
            Shell::Busybox => matches!(word, "[[" | "function"),
            Shell::Bash | Shell::Other => {
                matches!(word, "[[" | "function" | "time" | "select" | "coproc")
            }
        }
    }

    fn word(&mut self) -> Read<Word> {
        let begin = self.at;
        let word = self.word_or_nothing()?;
        if self.at == begin {
            return Err("syntax error: operator where a word is expected");
        }
        Ok(word)
    }
}

#[path = "compound.rs"]
mod compound;
#[path = "words.rs"]
mod words;

#[cfg(test)]
#[path = "syntax_tests.rs"]
mod tests;
