//! A Dockerfile as BuildKit reads it: instructions with their flags, their text, their here-documents and
//! the line of every character.
//!
//! It follows BuildKit's own parser
//! (<https://github.com/moby/buildkit/blob/v0.33.1/frontend/dockerfile/parser/parser.go>). The crate
//! `parse-dockerfile` 0.1.9 knows here-documents only where they begin a RUN, and takes the lines of all
//! others for instructions: hints on a script's text would come of that.

use std::collections::BTreeMap;

/// Text that was put together from several lines of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Text {
    pub(super) text: String,
    /// Where in `text` a line begins, and its number.
    marks: Vec<(usize, i32)>,
}

impl Text {
    fn add(&mut self, text: &str, line: i32) {
        self.marks.push((self.text.len(), line));
        self.text.push_str(text);
    }

    pub(super) fn append(&mut self, other: &Text) {
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
    pub(super) fn line(&self, at: usize) -> i32 {
        let later = self.marks.partition_point(|(begin, _)| *begin <= at);
        match later.checked_sub(1).and_then(|n| self.marks.get(n)) {
            Some((_, line)) => *line,
            None => self.marks.first().map_or(1, |(_, line)| *line),
        }
    }
}

/// A here-document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HereDoc {
    /// The word that ends it.
    pub(super) name: String,
    pub(super) body: Text,
}

/// One instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Instruction {
    /// In capitals.
    pub(super) keyword: String,
    /// Its first and its last line.
    pub(super) lines: (i32, i32),
    /// `--name=value`, without the dashes.
    pub(super) flags: Vec<(String, String)>,
    /// What stands behind keyword and flags.
    pub(super) rest: Text,
    /// The same, where it is a list in JSON.
    pub(super) json: Option<Vec<String>>,
    pub(super) heredocs: Vec<HereDoc>,
    /// What an ONBUILD keeps for later.
    pub(super) trigger: Option<Box<Instruction>>,
    /// The file's own escape character.
    pub(super) escape: char,
}

impl Instruction {
    /// The words of COPY, ADD, FROM and their like.
    pub(super) fn words(&self) -> Vec<&str> {
        match &self.json {
            Some(words) => words.iter().map(String::as_str).collect(),
            None => self.rest.text.split_whitespace().collect(),
        }
    }

    /// The last value of a flag.
    pub(super) fn flag(&self, name: &str) -> Option<&str> {
        let mut values = self.flags.iter().rev();
        let (_, value) = values.find(|(key, _)| key == name)?;
        Some(value)
    }

    /// All values of a flag.
    pub(super) fn flags<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.flags
            .iter()
            .filter(move |(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// The mounts of a RUN: their `key=value` pairs, keys in small letters.
    pub(super) fn mounts(&self) -> Vec<BTreeMap<String, String>> {
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
    pub(super) fn takes_context(&self) -> bool {
        matches!(self.keyword.as_str(), "COPY" | "ADD") && self.flag("from").is_none()
    }

    /// Sources of COPY and ADD, without here-documents and addresses.
    pub(super) fn sources(&self) -> Vec<&str> {
        let mut words = self.words();
        words.pop();
        words.retain(|word| {
            !word.starts_with("<<") && !word.contains("://") && !word.starts_with("git@")
        });
        words
    }

    /// Keyword, flags and text, in one line.
    pub(super) fn text(&self) -> String {
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

/// What a Dockerfile holds.
#[derive(Clone, Debug, Default)]
pub(super) struct Dockerfile {
    pub(super) instructions: Vec<Instruction>,
    /// Of the parser directives: `escape` and `syntax`.
    pub(super) directives: BTreeMap<String, String>,
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
pub(super) fn parse(text: &str) -> Option<Dockerfile> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut file = Dockerfile::default();
    let mut escape = '\\';
    let mut in_directives = true;
    let mut lines = text.split_inclusive('\n').zip(1..);
    while let Some((raw, first)) = lines.next() {
        let line = raw.trim_end_matches(['\r', '\n']).trim_start();
        if in_directives {
            match directive(line) {
                Some((name, value)) => {
                    if name == "escape" {
                        escape = match value {
                            "\\" => '\\',
                            "`" => '`',
                            _ => return None,
                        };
                    }
                    if file.directives.insert(name, value.to_owned()).is_some() {
                        return None;
                    }
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
        let mut instruction = instruction(&whole, escape, (first, last))?;
        let own = instruction.trigger.as_deref().unwrap_or(&instruction);
        let may = matches!(own.keyword.as_str(), "ADD" | "COPY" | "RUN") && own.json.is_none();
        if may && whole.text.contains("<<") {
            for (name, chomp) in heredocs(&whole.text) {
                let mut body = Text::default();
                loop {
                    let (raw, number) = lines.next()?;
                    instruction.lines.1 = number;
                    let end = raw.trim_end_matches(['\r', '\n']);
                    let end = if chomp {
                        end.trim_start_matches('\t')
                    } else {
                        end
                    };
                    if end == name {
                        break;
                    }
                    body.add(raw, number);
                }
                instruction.heredocs.push(HereDoc { name, body });
            }
        }
        file.instructions.push(instruction);
    }
    Some(file)
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

fn instruction(whole: &Text, escape: char, lines: (i32, i32)) -> Option<Instruction> {
    let text = &whole.text;
    let begin = text.len() - text.trim_start().len();
    let end = text[begin..]
        .find(char::is_whitespace)
        .map_or(text.len(), |at| begin + at);
    let keyword = text[begin..end].to_ascii_uppercase();
    if !KEYWORDS.contains(&keyword.as_str()) {
        return None;
    }
    let (flags, from) = flags(text, end, escape);
    let rest = whole.rest(from);
    let json = rest
        .text
        .starts_with('[')
        .then(|| serde_json::from_str(&rest.text).ok())
        .flatten();
    let trigger = match keyword.as_str() {
        "ONBUILD" => {
            let first = rest.text.split_whitespace().next()?.to_ascii_uppercase();
            if ["FROM", "MAINTAINER", "ONBUILD"].contains(&first.as_str()) {
                return None;
            }
            Some(Box::new(instruction(&rest, escape, lines)?))
        }
        _ => None,
    };
    Some(Instruction {
        keyword,
        lines,
        flags,
        rest,
        json,
        heredocs: vec![],
        trigger,
        escape,
    })
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
pub(super) fn pairs(instruction: &Instruction) -> Vec<(String, Option<String>)> {
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
