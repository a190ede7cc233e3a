//! The stages of a Dockerfile: what each stands on, what it takes from others, and which of them a
//! target reaches.

use std::collections::{BTreeMap, BTreeSet};

use super::shell::{Script, script};
use crate::reader::{Dockerfile, Instruction, pairs};

/// More instructions than any Dockerfile that is written by people.
const INSTRUCTIONS: usize = 1500;

/// An instruction of a stage.
pub(super) struct Step<'a> {
    pub(super) instruction: &'a Instruction,
    /// What the shell of a RUN does; none where it is no POSIX shell.
    pub(super) script: Option<Script>,
}

impl std::ops::Deref for Step<'_> {
    type Target = Instruction;

    fn deref(&self) -> &Instruction {
        self.instruction
    }
}

/// One stage.
pub(super) struct Stage<'a> {
    pub(super) name: Option<&'a str>,
    /// The line of its FROM.
    pub(super) line: i32,
    /// The image as its FROM writes it.
    pub(super) written: &'a str,
    /// The same with its arguments filled in; none where one has no value before the build.
    pub(super) image: Option<String>,
    /// The stage that it stands on.
    pub(super) parent: Option<usize>,
    /// All behind FROM.
    pub(super) steps: Vec<Step<'a>>,
}

/// A Dockerfile that can be looked at.
pub(super) struct Stages<'a> {
    /// ARGs before the first FROM: name and line.
    pub(super) global: BTreeMap<String, i32>,
    /// Their values, as far as they are known before the build.
    pub(super) values: BTreeMap<String, String>,
    pub(super) all: Vec<Stage<'a>>,
    /// The stage that becomes the image.
    pub(super) target: usize,
    /// That one and all that it needs.
    pub(super) reached: BTreeSet<usize>,
}

impl<'a> Stages<'a> {
    /// None where BuildKit would refuse it, or where it is larger than anybody's.
    pub(super) fn read(
        file: &'a Dockerfile,
        target: Option<&str>,
        build_args: &BTreeMap<String, String>,
    ) -> Option<Self> {
        if file.instructions.len() > INSTRUCTIONS {
            return None;
        }
        let froms: Vec<usize> = file
            .instructions
            .iter()
            .enumerate()
            .filter(|(_, instruction)| instruction.keyword == "FROM")
            .map(|(at, _)| at)
            .collect();
        let (head, _) = file.instructions.split_at(*froms.first()?);
        let mut global = BTreeMap::new();
        let mut values: BTreeMap<String, String> = BTreeMap::new();
        for arg in head {
            if arg.keyword != "ARG" {
                return None;
            }
            for (name, default) in pairs(arg) {
                let value = match build_args.get(&name) {
                    Some(given) => Some(given.clone()),
                    None => default.and_then(|text| expand(&text, &values)),
                };
                match value {
                    Some(value) => values.insert(name.clone(), value),
                    None => values.remove(&name),
                };
                global.insert(name, arg.lines.0);
            }
        }
        let mut all: Vec<Stage<'a>> = vec![];
        for (n, &at) in froms.iter().enumerate() {
            let end = froms.get(n + 1).copied().unwrap_or(file.instructions.len());
            let from = &file.instructions[at];
            let words = from.words();
            let name = match words.as_slice() {
                [_] => None,
                [_, keyword, name] if keyword.eq_ignore_ascii_case("as") => Some(*name),
                _ => return None,
            };
            let image = expand(words[0], &values);
            let parent = image
                .as_deref()
                .and_then(|image| all.iter().rposition(|stage| stage.is(image)));
            all.push(Stage {
                name,
                line: from.lines.0,
                written: words[0],
                image,
                parent,
                steps: steps(&file.instructions[at + 1..end], !is_windows(words[0])),
            });
        }
        let target = match target {
            None => all.len() - 1,
            Some(wanted) => all
                .iter()
                .rposition(|stage| stage.is(wanted))
                .or_else(|| wanted.parse().ok().filter(|n: &usize| *n < all.len()))?,
        };
        let mut stages = Self {
            global,
            values,
            all,
            target,
            reached: BTreeSet::new(),
        };
        stages.reach();
        Some(stages)
    }

    fn reach(&mut self) {
        let mut open = vec![self.target];
        while let Some(at) = open.pop() {
            if !self.reached.insert(at) {
                continue;
            }
            open.extend(self.all[at].parent);
            for step in &self.all[at].steps {
                open.extend(origins(step).filter_map(|name| self.find(&name, at)));
            }
        }
    }

    /// The stage before `at` that has this name or number.
    pub(super) fn find(&self, name: &str, at: usize) -> Option<usize> {
        self.all[..at]
            .iter()
            .rposition(|stage| stage.is(name))
            .or_else(|| name.parse().ok().filter(|n| *n < at))
    }

    /// The stages that the target reaches, in order.
    pub(super) fn each(&self) -> impl Iterator<Item = (usize, &Stage<'a>)> {
        self.reached.iter().map(|&at| (at, &self.all[at]))
    }

    /// A stage and those that it stands on, the undermost first.
    pub(super) fn line_of(&self, at: usize) -> Vec<usize> {
        let mut line = vec![at];
        let mut here = at;
        // A parent always stands before its child.
        while let Some(parent) = self.all[here].parent {
            line.push(parent);
            here = parent;
        }
        line.reverse();
        line
    }

    /// The instructions of a stage and of those that it stands on, in the order of the build.
    pub(super) fn flow(&self, at: usize) -> impl Iterator<Item = (usize, &Step<'a>)> {
        self.line_of(at)
            .into_iter()
            .flat_map(|n| self.all[n].steps.iter().map(move |step| (n, step)))
    }
}

/// The steps of a stage; RUNs behind a SHELL of another kind stay unread.
fn steps(instructions: &[Instruction], mut posix: bool) -> Vec<Step<'_>> {
    instructions
        .iter()
        .map(|instruction| {
            if instruction.keyword == "SHELL" {
                posix = instruction.json.as_deref().is_some_and(is_posix);
            }
            let runs = instruction.keyword == "RUN" && posix;
            Step {
                instruction,
                script: runs.then(|| script(instruction)).flatten(),
            }
        })
        .collect()
}

/// True for `["bash", "-c"]`, and where another program starts a shell: `["conda", "run", …, "sh", "-c"]`.
fn is_posix(shell: &[String]) -> bool {
    let mut words = shell.iter().map(|word| super::shell::is_shell(word));
    let flag = |word: &String| super::shell::is_script_flag(word);
    words.next() == Some(true) || (words.any(|is| is) && shell.last().is_some_and(flag))
}

/// Images whose RUNs are no POSIX shell's.
fn is_windows(image: &str) -> bool {
    let image = image.to_lowercase();
    ["windows", "nanoserver", "servercore", "framework/"]
        .iter()
        .any(|word| image.contains(word))
}

impl Stage<'_> {
    fn is(&self, name: &str) -> bool {
        self.name.is_some_and(|own| own.eq_ignore_ascii_case(name))
    }

    /// How it is called in a message.
    pub(super) fn called(&self) -> String {
        match self.name {
            Some(name) => format!("stage {name}"),
            None => format!("the stage of line {}", self.line),
        }
    }
}

/// The stages and images that COPY, ADD and the mounts of RUN take files from.
pub(super) fn origins(instruction: &Instruction) -> impl Iterator<Item = String> {
    let mut names: Vec<String> = vec![];
    match instruction.keyword.as_str() {
        "COPY" | "ADD" => names.extend(instruction.flag("from").map(str::to_owned)),
        "RUN" => names.extend(
            instruction
                .mounts()
                .into_iter()
                .filter_map(|mut mount| mount.remove("from")),
        ),
        _ => {}
    }
    names.into_iter().filter(|name| !name.is_empty())
}

/// Fills in arguments; none where one has no value or the form is not known.
pub(super) fn expand(text: &str, values: &BTreeMap<String, String>) -> Option<String> {
    expand_within(text, values, 8)
}

fn expand_within(text: &str, values: &BTreeMap<String, String>, depth: u8) -> Option<String> {
    let depth = depth.checked_sub(1)?;
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut out = String::new();
    let mut rest = text;
    let mut literal = false;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match c {
            '\'' => literal = !literal,
            _ if literal => out.push(c),
            '"' => {}
            '\\' => {
                let next = rest.chars().next()?;
                rest = &rest[next.len_utf8()..];
                out.push(next);
            }
            '$' if rest.starts_with('{') => {
                let mut open = 0;
                let close = rest.char_indices().find_map(|(at, c)| {
                    match c {
                        '{' => open += 1,
                        '}' => open -= 1,
                        _ => {}
                    }
                    (open == 0).then_some(at)
                })?;
                let inside = &rest[1..close];
                rest = &rest[close + 1..];
                let name_end = inside.find(|c| !is_name(c)).unwrap_or(inside.len());
                let (name, operation) = inside.split_at(name_end);
                let value = values.get(name);
                let some = value.filter(|value| !value.is_empty());
                let word = |word: &str| expand_within(word, values, depth);
                if let Some(default) = operation.strip_prefix(":-") {
                    out.push_str(&some.cloned().or_else(|| word(default))?);
                } else if let Some(default) = operation.strip_prefix('-') {
                    out.push_str(&value.cloned().or_else(|| word(default))?);
                } else if let Some(instead) = operation.strip_prefix(":+") {
                    if some.is_some() {
                        out.push_str(&word(instead)?);
                    }
                } else if let Some(instead) = operation.strip_prefix('+') {
                    if value.is_some() {
                        out.push_str(&word(instead)?);
                    }
                } else if operation.is_empty() {
                    out.push_str(value?);
                } else {
                    return None;
                }
            }
            '$' => {
                let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
                out.push_str(values.get(&rest[..end])?);
                rest = &rest[end..];
            }
            c => out.push(c),
        }
    }
    Some(out)
}
