//! The one reader of Dockerfiles, which reads them as BuildKit does: instructions with their flags, their text, their
//! here-documents and the line of every character.
//!
//! [`read`] takes any text, for failures of which BuildKit does not say where they are; [`parse`] only what BuildKit
//! would take, for hints.
//!
//! It follows BuildKit's own parser
//! (<https://github.com/moby/buildkit/blob/v0.33.1/frontend/dockerfile/parser/parser.go>). The crate
//! `parse-dockerfile` 0.1.9 knows here-documents only where they begin a RUN, and takes the lines of all
//! others for instructions: hints on a script's text would come of that.

use std::collections::BTreeMap;

/// Text that was put together from several lines of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text {
    /// All of it.
    pub text: String,
    /// Where in `text` a line begins, and its number.
    marks: Vec<(usize, i32)>,
}

impl Text {
    /// All of it in one line, as written: lines that were continued stand one space apart, where there was any.
    pub fn one_line(&self) -> String {
        let ends = self.marks.iter().skip(1).map(|(at, _)| *at);
        let begins = self.marks.iter().map(|(at, _)| *at);
        let mut joined = String::new();
        for (begin, end) in begins.zip(ends.chain([self.text.len()])) {
            let part = self.text.get(begin..end).unwrap_or_default();
            if part.trim().is_empty() {
                continue;
            }
            let apart =
                part.starts_with(char::is_whitespace) || joined.ends_with(char::is_whitespace);
            joined.truncate(joined.trim_end().len());
            if apart && !joined.is_empty() {
                joined.push(' ');
            }
            joined.push_str(part.trim_start());
        }
        joined.truncate(joined.trim_end().len());
        joined
    }

    fn add(&mut self, text: &str, line: i32) {
        self.marks.push((self.text.len(), line));
        self.text.push_str(text);
    }

    /// Adds another at the end.
    pub fn append(&mut self, other: &Text) {
        let from = self.text.len();
        self.marks
            .extend(other.marks.iter().map(|(at, line)| (from + at, *line)));
        self.text.push_str(&other.text);
    }

    /// What begins at `from`, without the space around it.
    fn rest(&self, from: usize) -> Text {
        let rest = self.text.get(from..).unwrap_or_default();
        let from = from + (rest.len() - rest.trim_start().len());
        Text {
            text: rest.trim().to_owned(),
            marks: self
                .marks
                .iter()
                .map(|(at, line)| (at.saturating_sub(from), *line))
                .collect(),
        }
    }

    /// The line of the character at `at`.
    pub fn line(&self, at: usize) -> i32 {
        let later = self.marks.partition_point(|(begin, _)| *begin <= at);
        match later.checked_sub(1).and_then(|n| self.marks.get(n)) {
            Some((_, line)) => *line,
            None => self.marks.first().map_or(1, |(_, line)| *line),
        }
    }
}

/// A here-document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HereDoc {
    /// The word that ends it.
    pub name: String,
    /// The lines before that.
    pub body: Text,
}

/// One instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// In capitals; any word, where BuildKit would not take it.
    pub keyword: String,
    /// Keyword, flags and text, as written.
    pub written: Text,
    /// Its first and its last line.
    pub lines: (i32, i32),
    /// `--name=value`, without the dashes.
    pub flags: Vec<(String, String)>,
    /// What stands behind keyword and flags.
    pub rest: Text,
    /// The same, where it is a list in JSON.
    pub json: Option<Vec<String>>,
    /// What follows it.
    pub heredocs: Vec<HereDoc>,
    /// The word that would end the last of them, where no line does.
    pub unterminated: Option<String>,
    /// What an ONBUILD keeps for later.
    pub trigger: Option<Box<Instruction>>,
    /// The file's own escape character.
    pub escape: char,
}

impl Instruction {
    /// The words of COPY, ADD, FROM and their like.
    pub fn words(&self) -> Vec<&str> {
        match &self.json {
            Some(words) => words.iter().map(String::as_str).collect(),
            None => self.rest.text.split_whitespace().collect(),
        }
    }

    /// The last value of a flag.
    pub fn flag(&self, name: &str) -> Option<&str> {
        let mut values = self.flags.iter().rev();
        let (_, value) = values.find(|(key, _)| key == name)?;
        Some(value)
    }

    /// All values of a flag.
    pub fn flags<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.flags
            .iter()
            .filter(move |(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// The mounts of a RUN: their `key=value` pairs, keys in small letters.
    pub fn mounts(&self) -> Vec<BTreeMap<String, String>> {
        self.flags("mount")
            .map(|mount| {
                mount
                    .split(',')
                    .map(|field| {
                        let (key, value) = field.split_once('=').unwrap_or((field, ""));
                        let key = key.trim().to_lowercase();
                        let key = match key.as_str() {
                            "dst" | "destination" => "target".to_owned(),
                            "src" => "source".to_owned(),
                            _ => key,
                        };
                        (key, value.trim_matches('"').to_owned())
                    })
                    .collect()
            })
            .collect()
    }

    /// True for COPY and ADD whose sources lie in the context.
    pub fn takes_context(&self) -> bool {
        matches!(self.keyword.as_str(), "COPY" | "ADD") && self.flag("from").is_none()
    }

    /// Sources of COPY and ADD, without here-documents and addresses.
    pub fn sources(&self) -> Vec<&str> {
        let mut words = self.words();
        words.pop();
        words.retain(|word| {
            !word.starts_with("<<") && !word.contains("://") && !word.starts_with("git@")
        });
        words
    }

    /// True where BuildKit knows its keyword, and that which an ONBUILD keeps.
    fn is_known(&self) -> bool {
        KEYWORDS.contains(&self.keyword.as_str())
            && (self.keyword != "ONBUILD" || self.trigger.as_deref().is_some_and(Self::is_known))
    }

    /// Keyword, flags and text, in one line.
    pub fn text(&self) -> String {
        let words: Vec<&str> = self.rest.text.split_whitespace().collect();
        let flags: String = self
            .flags
            .iter()
            .map(|(name, value)| match value.is_empty() {
                true => format!("--{name} "),
                false => format!("--{name}={value} "),
            })
            .collect();
        format!("{} {flags}{}", self.keyword, words.join(" "))
    }
}

/// `# name=value` at the top of a Dockerfile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directive {
    /// What stands behind `=`.
    pub value: String,
    /// Its line.
    pub line: i32,
}

/// What a Dockerfile holds.
#[derive(Clone, Debug, Default)]
pub struct Dockerfile {
    /// In the order of the file.
    pub instructions: Vec<Instruction>,
    /// `check`, `escape` and `syntax`, as far as they are there.
    pub directives: BTreeMap<String, Directive>,
    /// True where BuildKit would not take it. What is wrong is read as well as it can be.
    pub refused: bool,
}

const KEYWORDS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// Reads a Dockerfile; none where BuildKit would not take it.
pub fn parse(text: &str) -> Option<Dockerfile> {
    Some(read(text)).filter(|file| !file.refused)
}

/// Reads a Dockerfile, whatever it is.
pub fn read(text: &str) -> Dockerfile {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut file = Dockerfile::default();
    let mut escape = '\\';
    let mut in_directives = true;
    // BuildKit looks behind `#!` for the frontend and the checks, but not for the escape character.
    let shebang = text.starts_with("#!");
    let mut lines = text.split_inclusive('\n').zip(1..);
    while let Some((raw, first)) = lines.next() {
        let line = raw.trim_end_matches(['\r', '\n']).trim_start();
        if in_directives && !(shebang && first == 1) {
            match directive(line) {
                Some((name, value)) => {
                    if name == "escape" && !shebang {
                        match value {
                            "\\" => escape = '\\',
                            "`" => escape = '`',
                            _ => file.refused = true,
                        }
                    }
                    let value = value.to_owned();
                    let found = Directive { value, line: first };
                    let again = file.directives.insert(name, found).is_some();
                    file.refused |= again && !shebang;
                }
                None => in_directives = false,
            }
        }
        if line.starts_with('#') {
            continue;
        }
        let (line, mut goes_on) = continuation(line, escape);
        if line.is_empty() && !goes_on {
            continue;
        }
        let mut whole = Text::default();
        whole.add(&line, first);
        let mut last = first;
        while goes_on {
            let Some((raw, number)) = lines.next() else {
                break;
            };
            last = number;
            let raw = raw.trim_end_matches(['\r', '\n']);
            if raw.trim_start().starts_with('#') || raw.trim().is_empty() {
                continue;
            }
            let (line, more) = continuation(raw, escape);
            whole.add(&line, number);
            goes_on = more;
        }
        let mut instruction = instruction(whole, escape, (first, last));
        file.refused |= !instruction.is_known();
        let own = instruction.trigger.as_deref().unwrap_or(&instruction);
        let may = matches!(own.keyword.as_str(), "ADD" | "COPY" | "RUN") && own.json.is_none();
        if may && instruction.written.text.contains("<<") {
            for (name, chomp) in heredocs(&instruction.written.text) {
                let mut body = Text::default();
                let mut ended = false;
                for (raw, number) in lines.by_ref() {
                    instruction.lines.1 = number;
                    let end = raw.trim_end_matches(['\r', '\n']);
                    let end = if chomp {
                        end.trim_start_matches('\t')
                    } else {
                        end
                    };
                    ended = end == name;
                    if ended {
                        break;
                    }
                    body.add(raw, number);
                }
                if !ended {
                    file.refused = true;
                    instruction.unterminated.get_or_insert(name.clone());
                }
                instruction.heredocs.push(HereDoc { name, body });
            }
        }
        file.instructions.push(instruction);
    }
    file
}

/// `# name=value` at the top of the file.
fn directive(line: &str) -> Option<(String, &str)> {
    let (name, value) = line.strip_prefix('#')?.trim_start().split_once('=')?;
    let name = name.trim_end().to_lowercase();
    let value = value.trim();
    (["escape", "syntax", "check"].contains(&name.as_str()) && !value.is_empty())
        .then_some((name, value))
}

/// The line without its continuation mark, and whether it has one.
fn continuation(line: &str, escape: char) -> (String, bool) {
    let bare = line.trim_end_matches([' ', '\t']);
    match bare.strip_suffix(escape) {
        Some(before) if !before.ends_with(escape) => (before.to_owned(), true),
        _ => (line.to_owned(), false),
    }
}

fn instruction(written: Text, escape: char, lines: (i32, i32)) -> Instruction {
    let text = &written.text;
    let begin = text.len() - text.trim_start().len();
    let end = text[begin..]
        .find(char::is_whitespace)
        .map_or(text.len(), |at| begin + at);
    let keyword = text[begin..end].to_ascii_uppercase();
    let (flags, from) = flags(text, end, escape);
    let rest = written.rest(from);
    let json = rest
        .text
        .starts_with('[')
        .then(|| serde_json::from_str(&rest.text).ok())
        .flatten();
    let trigger = (keyword == "ONBUILD").then(|| rest.text.split_whitespace().next());
    let trigger = trigger
        .flatten()
        .map(str::to_ascii_uppercase)
        .filter(|first| !["FROM", "MAINTAINER", "ONBUILD"].contains(&first.as_str()))
        .map(|_| Box::new(instruction(rest.clone(), escape, lines)));
    Instruction {
        keyword,
        written,
        lines,
        flags,
        rest,
        json,
        heredocs: vec![],
        unterminated: None,
        trigger,
        escape,
    }
}

/// The words with `--` at the beginning, and where the rest begins.
fn flags(text: &str, mut at: usize, escape: char) -> (Vec<(String, String)>, usize) {
    let mut found = vec![];
    loop {
        let rest = &text[at..];
        at += rest.len() - rest.trim_start().len();
        if !text[at..].starts_with("--") {
            return (found, at);
        }
        let mut word = String::new();
        let mut quote = None;
        let mut end = text.len();
        let mut chars = text[at..].char_indices();
        while let Some((n, c)) = chars.next() {
            match quote {
                _ if c == escape => word.extend(chars.next().map(|(_, c)| c)),
                Some(mark) if c == mark => quote = None,
                Some(_) => word.push(c),
                None if c.is_whitespace() => {
                    end = at + n;
                    break;
                }
                None if c == '\'' || c == '"' => quote = Some(c),
                None => word.push(c),
            }
        }
        at = end;
        let Some(flag) = word.strip_prefix("--").filter(|flag| !flag.is_empty()) else {
            return (found, at);
        };
        let (name, value) = flag.split_once('=').unwrap_or((flag, ""));
        found.push((name.to_lowercase(), value.to_owned()));
    }
}

/// The here-documents that a line asks for: the word that ends each, and whether leading tabs go.
/// Words are split as BuildKit's shell lexer does, quotes and escapes left in; where it finds a mistake,
/// there are none.
fn heredocs(line: &str) -> Vec<(String, bool)> {
    let mut words = vec![];
    let mut word = String::new();
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => {
                word.push(c);
                word.extend(chars.next());
            }
            '\'' | '"' => {
                word.push(c);
                loop {
                    let Some(next) = chars.next() else {
                        return vec![];
                    };
                    word.push(next);
                    if next == c {
                        break;
                    }
                    if next == '\\' && c == '"' {
                        word.extend(chars.next());
                    }
                }
            }
            '<' if chars.peek() == Some(&'<') => {
                chars.next();
                word.push_str("<<");
                while let Some(space) = chars.next_if(|c| c.is_whitespace()) {
                    word.push(space);
                }
            }
            '$' if chars.peek() == Some(&'{') => {
                let mut depth = 0;
                let mut inside = String::from("$");
                for next in chars.by_ref() {
                    inside.push(next);
                    match next {
                        '{' => depth += 1,
                        '}' => depth -= 1,
                        _ => {}
                    }
                    if depth == 0 {
                        break;
                    }
                }
                if !substitutes(&inside) {
                    return vec![];
                }
                word.push_str(&inside);
            }
            c if c.is_whitespace() => words.push(std::mem::take(&mut word)),
            c => word.push(c),
        }
    }
    words.push(word);
    words.iter().filter_map(|word| heredoc(word)).collect()
}

/// True for `${name}` and the forms of it that BuildKit knows.
fn substitutes(text: &str) -> bool {
    let Some(inside) = text.strip_prefix("${").and_then(|t| t.strip_suffix('}')) else {
        return false;
    };
    let after = inside.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '_');
    let known = after.is_empty()
        || after.starts_with([':', '+', '-', '?', '#', '%', '/'])
        || inside.starts_with(['@', '*', '#', '?', '-', '$', '!']);
    known && !inside.is_empty()
}

/// `<<EOF`, `<<-EOF`, `3<<'EOF'`.
fn heredoc(word: &str) -> Option<(String, bool)> {
    let rest = word
        .trim_start_matches(|c: char| c.is_ascii_digit())
        .strip_prefix("<<")?;
    let (chomp, rest) = match rest.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let rest = rest.trim_start();
    if rest.is_empty() || rest.contains('<') {
        return None;
    }
    let mut name = String::new();
    let mut quote = None;
    let mut chars = rest.chars();
    while let Some(c) = chars.next() {
        match quote {
            Some(mark) if c == mark => quote = None,
            None if c == '\'' || c == '"' => quote = Some(c),
            None if c == '\\' => name.extend(chars.next()),
            _ => name.push(c),
        }
    }
    (!name.is_empty() && !name.contains(char::is_whitespace)).then_some((name, chomp))
}

/// Splits a list such as that of ENV and ARG into words, as the quotes say; quotes are left in.
fn quoted_words(text: &str, escape: char) -> Vec<String> {
    let mut words = vec![];
    let mut word = String::new();
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match quote {
            // Nothing is escaped in single quotes.
            _ if c == escape && quote != Some('\'') => {
                word.push(c);
                word.extend(chars.next());
            }
            Some(mark) => {
                word.push(c);
                if c == mark {
                    quote = None;
                }
            }
            None if c.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            None => {
                if c == '\'' || c == '"' {
                    quote = Some(c);
                }
                word.push(c);
            }
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// Names and values of ENV and ARG; no value where none stands.
pub fn pairs(instruction: &Instruction) -> Vec<(String, Option<String>)> {
    let text = &instruction.rest.text;
    let words = quoted_words(text, instruction.escape);
    let Some(first) = words.first() else {
        return vec![];
    };
    if instruction.keyword == "ENV" && !first.contains('=') {
        // The old form: ENV name value.
        let value = text.get(first.len()..).unwrap_or_default().trim();
        return vec![(first.clone(), Some(value.to_owned()))];
    }
    words
        .into_iter()
        .map(|word| match word.split_once('=') {
            Some((name, value)) => (
                name.trim_matches(['"', '\'']).to_owned(),
                Some(value.into()),
            ),
            None => (word, None),
        })
        .collect()
}

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;
