//! What the text of a shell form starts, as far as that is beyond doubt.
//!
//! An image that works is never said not to: once a program runs that may go on for ever, what stands behind it
//! does not count.

use super::config::ImageConfig;
use super::contents::{Executable, Runs};
use super::inspect::executable;
use super::resolve::Resolver;
use super::shell::syntax::{Node, Piece, Word, parse, quiet};
use super::shell::{Shell, is_applet, is_builtin};

/// Programs that end by themselves at once, and that images have in front of their own.
const SHORT: &str = "basename chgrp chmod chown cp date dirname env hostname id ln ls mkdir mv printenv rm rmdir stat touch \
    uname whoami";

/// What a text comes to.
pub(super) enum Reached {
    /// The program that it starts, or that it cannot do without.
    Program(Box<Executable>),
    /// It was meant as a JSON array and is none: what comes of it.
    NoList(String),
}

/// Where one way through a text ends.
enum Step {
    /// It goes on to what stands behind.
    Goes,
    /// A program that keeps it from going on, or that does the image's work.
    At(Box<Executable>),
    /// Not known.
    Open,
}

/// What a shell starts, given a text; none where that is not known.
pub(super) fn reached(
    resolver: &mut Resolver<'_>,
    config: &ImageConfig,
    text: &str,
) -> Option<Reached> {
    if is_broken_list(text) {
        return Some(Reached::NoList(no_list(resolver, config, text)?));
    }
    // What all shells read alike.
    let node = parse(text, Shell::Other).ok()?;
    let mut walk = Walk {
        resolver,
        other_path: false,
        other_folder: false,
        errexit: false,
    };
    match walk.step(&node) {
        Step::At(program) => Some(Reached::Program(program)),
        Step::Goes | Step::Open => None,
    }
}

/// True for a text that was meant as a JSON array: it begins with a bracket, and is no test.
pub(super) fn is_broken_list(text: &str) -> bool {
    let Some(rest) = text.trim().strip_prefix('[') else {
        return false;
    };
    let quote = |c: char| "\"'\u{201c}\u{201d}\u{2018}\u{2019}".contains(c);
    if !rest.starts_with(char::is_whitespace) {
        return !rest.starts_with('[');
    }
    // `[ "app", "serve" ] # …`: a test asks with an operator, has no commas behind its words, and something follows it.
    let (inner, behind) = rest.split_once(']').unwrap_or((rest, ""));
    if !matches!(behind.trim_start().chars().next(), None | Some('#')) {
        return false;
    }
    let words: Vec<&str> = inner.split_whitespace().collect();
    match words.as_slice() {
        [one] => one.starts_with(quote) && one.trim_end_matches(',').ends_with(quote),
        [first, ..] if first.starts_with(quote) && first.ends_with(',') => true,
        // Commas are missing: of two words of a test, the first is an operator.
        [first, last] => {
            let bare = |word: &str| word.starts_with(quote) && word.ends_with(quote);
            bare(first) && bare(last) && !first[1..].starts_with(['-', '!'])
        }
        [..] => false,
    }
}

/// What a shell makes of such a text.
fn no_list(resolver: &Resolver<'_>, config: &ImageConfig, text: &str) -> Option<String> {
    let short = super::limits::short(text, 200);
    let start =
        format!("ENTRYPOINT or CMD {short} is not a valid JSON array, so a shell runs it as text");
    let first = match parse(text, Shell::Other) {
        Ok(node) => first_word(&node)?.clone(),
        Err(why) => return Some(format!("{start}, and rejects it ({why})")),
    };
    if first.literal() == Some("[") {
        return Some(format!("{start}, takes it for a test, and starts nothing"));
    }
    let name: String = first
        .pieces
        .iter()
        .map(|piece| match piece {
            Piece::Text(text) | Piece::Other(text) => Some(text.as_str()),
            Piece::Variable(_) | Piece::Output(_) => None,
        })
        .collect::<Option<_>>()?;
    // As a pattern it stands for a file of one letter, where there is one.
    let image = resolver.image();
    let folder = image.tree.find(config.directory()).ok()?;
    let mut letters = image.tree.children(folder).map(|id| image.tree.name(id));
    if name.ends_with(']') && letters.any(|name| name.len() == 1) {
        return None;
    }
    Some(format!("{start}, and looks for a program named {name}"))
}

fn first_word(node: &Node) -> Option<&Word> {
    match node {
        Node::Simple(simple) => simple.words.first(),
        Node::And(left, _) => first_word(left),
        // It goes on without it.
        _ => None,
    }
}

fn begins(word: &Word, sign: char) -> bool {
    matches!(word.pieces.first(), Some(Piece::Text(text)) if text.starts_with(sign))
}

struct Walk<'r, 'i> {
    resolver: &'r mut Resolver<'i>,
    other_path: bool,
    other_folder: bool,
    errexit: bool,
}

impl Walk<'_, '_> {
    fn step(&mut self, node: &Node) -> Step {
        match node {
            Node::Simple(simple) => {
                let set = simple.assigns.iter().any(|(name, _)| name == "PATH");
                let quiet = quiet(&simple.redirects);
                if simple.words.is_empty() {
                    self.other_path |= set;
                    return if quiet { Step::Goes } else { Step::Open };
                }
                if set {
                    return Step::Open;
                }
                match self.command(&simple.words) {
                    // A file that cannot be opened is another fault.
                    Step::Goes if !quiet => Step::Open,
                    step => step,
                }
            }
            Node::Sequence(all) => {
                let Some(((last, background), before)) = all.split_last() else {
                    return Step::Goes;
                };
                for (node, background) in before {
                    if *background {
                        return Step::Open;
                    }
                    match self.step(node) {
                        Step::Goes => {}
                        // Without `set -e` it goes on without what is missing; with it, too, where a condition stands
                        // before, or where it is one itself.
                        Step::At(program) if program.runs == Runs::No => match node {
                            _ if !self.errexit => {}
                            Node::And(..) => return Step::Open,
                            _ => return Step::At(program),
                        },
                        step => return step,
                    }
                }
                if *background {
                    return Step::Open;
                }
                self.step(last)
            }
            // Where the left side fails, all of it does.
            Node::And(left, right) => match self.step(left) {
                Step::Goes => self.step(right),
                step => step,
            },
            Node::Subshell(inner) => self.step(inner),
            Node::Or(..)
            | Node::Pipe(_)
            | Node::Not(_)
            | Node::If(..)
            | Node::Loop(..)
            | Node::For(..)
            | Node::Case(..) => Step::Open,
        }
    }

    fn command(&mut self, words: &[Word]) -> Step {
        let Some(name) = words.first().and_then(Word::literal) else {
            return Step::Open;
        };
        match name {
            // Options of it are not a program's name.
            "exec" if words.len() > 1 && !begins(&words[1], '-') => {
                return self.command(&words[1..]);
            }
            "cd" => {
                self.other_folder = true;
                return Step::Goes;
            }
            "export" | "readonly" => {
                let path = |word: &Word| matches!(word.pieces.first(), Some(Piece::Text(text)) if text.starts_with("PATH="));
                self.other_path |= words.iter().any(path);
                return Step::Goes;
            }
            "set" => {
                let mut rest = words[1..].iter().map(Word::literal);
                while let Some(Some(word)) = rest.next() {
                    // What stands behind options are arguments.
                    let Some(flags) = word.strip_prefix(['-', '+']).filter(|f| *f != "-") else {
                        break;
                    };
                    let named = flags.contains('o') && rest.next().flatten() == Some("errexit");
                    if named || flags.contains('e') {
                        self.errexit = word.starts_with('-');
                    }
                }
                return Step::Goes;
            }
            ":" | "echo" | "printf" | "umask" | "ulimit" | "test" | "[" | "true" | "unset" => {
                return Step::Goes;
            }
            _ => {}
        }
        if !name.contains('/') && is_builtin(name, Shell::Other) != Some(false) {
            return Step::Open;
        }
        let relative = !name.starts_with('/');
        if relative && (self.other_path || self.other_folder) {
            return Step::Open;
        }
        let program = executable(self.resolver.image(), self.resolver.called(name));
        if program.runs == Runs::No {
            // What a shell of busybox carries out without a file, and what it runs as a script of its own.
            let applet = !name.contains('/') && is_applet(name);
            let unmarked = program.fault == Some(super::contents::Fault::NotExecutable);
            if applet || unmarked {
                return Step::Open;
            }
        }
        let short = SHORT
            .split_ascii_whitespace()
            .any(|known| known == name.rsplit('/').next().unwrap_or_default());
        if short && program.runs != Runs::No && words.len() > 1 && name != "env" {
            return Step::Goes;
        }
        Step::At(Box::new(program))
    }
}
