//! From a command to the one program that it comes to, and a program's options.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::EnvVar;

use super::expand;
use super::paths;
use whittle_image::shell::syntax::{Node, Word, parse, quiet};
use whittle_image::shell::{Shell, is_shell};

/// The one program that a command comes to, with its arguments: shells, `exit` behind it and programs that
/// only start it taken off.
pub(super) fn plain(command: &[String], env: &[EnvVar]) -> Option<Vec<String>> {
    let first = paths::name(command.first()?);
    let known: BTreeMap<String, String> = env
        .iter()
        .filter_map(|variable| Some((variable.name.clone(), value(variable)?)))
        .collect();
    let known = known
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let shell = if first == "busybox" { 1 } else { 0 };
    let mut words: Vec<String> = if is_shell(paths::name(command.get(shell)?)) {
        let mut rest = command[shell + 1..].iter();
        let mut flagged = false;
        let script = loop {
            let word = rest.next()?;
            match word.strip_prefix('-') {
                // An option that takes a value.
                Some(flags) if flags.contains('o') || flags.starts_with('-') => return None,
                Some(flags) => flagged |= flags.contains('c'),
                None => break word,
            }
        };
        // What was meant, whatever the image's shell makes of it.
        let node = parse(script, Shell::Bash).ok().filter(|_| flagged)?;
        only(&node)?
            .iter()
            .map(|word| {
                word.resolve(&|name| {
                    let host = (name == "HOSTNAME").then(|| "localhost".to_owned());
                    env.iter()
                        .rev()
                        .find(|variable| variable.name == name)
                        .map_or(host, value)
                })
            })
            .collect::<Option<_>>()?
    } else {
        if command
            .iter()
            .flat_map(|word| expand::references(word))
            .any(|name| {
                env.iter()
                    .any(|variable| variable.name == name && value(variable).is_none())
            })
        {
            return None;
        }
        expand::all(command, &known)?
    };
    loop {
        let skipped = match paths::name(words.first()?) {
            "busybox" | "exec" | "command" => 1,
            "timeout" if words.get(1)?.starts_with(|c: char| c.is_ascii_digit()) => 2,
            _ => return Some(words),
        };
        words.drain(..skipped.min(words.len()));
    }
}

/// A variable's value as a program in the container sees it; the Pod's own address is as good as
/// `localhost` here.
fn value(variable: &EnvVar) -> Option<String> {
    let Some(source) = &variable.value_from else {
        return variable.value.clone().filter(|value| !value.contains("$("));
    };
    let path = source
        .field_ref
        .as_ref()
        .map(|field| field.field_path.as_str());
    (path == Some("status.podIP")).then(|| "localhost".to_owned())
}

/// The words of the one command that decides a script.
fn only(node: &Node) -> Option<&[Word]> {
    let word = |words: &[Word], at: usize| words.get(at).and_then(Word::literal).map(str::to_owned);
    match node {
        Node::Simple(simple) => {
            let alone = simple.assigns.is_empty() && quiet(&simple.redirects);
            alone.then_some(&simple.words)
        }
        Node::Or(left, right) => {
            let end = only(right)?;
            let fails = match (word(end, 0).as_deref(), word(end, 1).as_deref()) {
                (Some("false"), None) => true,
                (Some("exit"), code) => {
                    code.is_none_or(|code| code != "0" && code.parse::<u8>().is_ok())
                }
                _ => false,
            };
            only(left).filter(|_| fails)
        }
        Node::And(left, right) => {
            let end = only(right)?;
            let succeeds = match (word(end, 0).as_deref(), word(end, 1).as_deref()) {
                (Some("true" | ":"), None) => true,
                (Some("exit"), code) => code.is_none_or(|code| code == "0"),
                _ => false,
            };
            only(left).filter(|_| succeeds)
        }
        _ => None,
    }
}

/// Options of a program: those without a value, and those with one; whatever else is not understood.
pub(super) struct Options<'o> {
    pub(super) plain: &'o [&'o str],
    pub(super) valued: &'o [&'o str],
}

/// An option with its value, or an argument with no option.
pub(super) type Argument = (Option<String>, String);

impl Options<'_> {
    /// Reads short options, also several in one word and with the value attached, and long ones with
    /// `=` or a word of their own.
    pub(super) fn read(&self, words: &[String]) -> Option<Vec<Argument>> {
        let mut found = Vec::new();
        let mut rest = words.iter();
        while let Some(word) = rest.next() {
            if let Some(long) = word.strip_prefix("--") {
                let (name, value) = match long.split_once('=') {
                    Some((name, value)) => (name, Some(value.to_owned())),
                    None => (long, None),
                };
                let name = format!("--{name}");
                if self.valued.contains(&name.as_str()) {
                    let value = value.or_else(|| rest.next().cloned())?;
                    found.push((Some(name), value));
                } else if self.plain.contains(&name.as_str()) && value.is_none() {
                    found.push((Some(name), String::new()));
                } else {
                    return None;
                }
            } else if let Some(short) = word.strip_prefix('-').filter(|short| !short.is_empty()) {
                for (at, letter) in short.char_indices() {
                    let name = format!("-{letter}");
                    if self.valued.contains(&name.as_str()) {
                        let attached = &short[at + letter.len_utf8()..];
                        let value = if attached.is_empty() {
                            rest.next()?.clone()
                        } else {
                            attached.to_owned()
                        };
                        found.push((Some(name), value));
                        break;
                    }
                    if !self.plain.contains(&name.as_str()) {
                        return None;
                    }
                    found.push((Some(name), String::new()));
                }
            } else {
                found.push((None, word.clone()));
            }
        }
        Some(found)
    }
}
