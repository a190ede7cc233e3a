//! The two forms of CMD and its like: a list in JSON, or a text for the shell. What only looks like a list is
//! a text (parseMaybeJSON in BuildKit's
//! <https://github.com/moby/buildkit/blob/v0.33.1/frontend/dockerfile/parser/line_parsers.go>), and a shell
//! finds no program of that name.

use super::order::shown;
use super::{Hint, HintKind, Look};
use crate::reader::Instruction;

/// Quotes of word processors, which nothing reads as quotes.
const CURLY: [char; 7] = ['“', '”', '„', '‘', '’', '«', '»'];

/// Bytes of the right spelling in a message, at most.
const SPELLING: usize = 200;

pub(super) fn hints(look: &Look) -> Vec<Hint> {
    let mut hints = vec![];
    for (at, stage) in look.stages.each() {
        let entrypoint = look
            .stages
            .flow(at)
            .any(|(_, step)| step.keyword == "ENTRYPOINT");
        for step in &stage.steps {
            let instruction = step.trigger.as_deref().unwrap_or(step.instruction);
            if !step.heredocs.is_empty() {
                continue;
            }
            let one_word = || one_word(instruction, entrypoint);
            if let Some(text) = broken(instruction).or_else(one_word) {
                hints.push(look.hint(HintKind::BrokenJsonForm, Some(step.lines.0), &text));
            }
        }
    }
    hints
}

/// What is wrong with a list that is none, and the right spelling.
pub(super) fn broken(instruction: &Instruction) -> Option<String> {
    let keyword = instruction.keyword.as_str();
    let (head, text) = match keyword {
        "CMD" | "ENTRYPOINT" | "RUN" | "SHELL" | "COPY" | "ADD" | "VOLUME" => {
            (keyword.to_owned(), instruction.rest.text.as_str())
        }
        "HEALTHCHECK" => {
            let (kind, text) = instruction.rest.text.split_once(char::is_whitespace)?;
            if !kind.eq_ignore_ascii_case("cmd") {
                return None;
            }
            ("HEALTHCHECK CMD".to_owned(), text.trim())
        }
        _ => return None,
    };
    // A list of something else than words is BuildKit's own error.
    let json = text.starts_with('[') && serde_json::from_str::<serde_json::Value>(text).is_ok();
    if json || !is_meant_as_a_list(keyword, text) {
        return None;
    }
    let list = read(text);
    let so = match keyword {
        "SHELL" => "and SHELL requires a JSON array",
        "COPY" | "ADD" => "so its parts are used literally as file names",
        "VOLUME" => "so its parts are used literally as names of volumes",
        _ => "so a shell runs it literally and exits with 127, command not found",
    };
    let fix = match &list.right {
        Some(words) => format!("write `{head} {}`", spelled(words)),
        None => format!("write `{head} [\"program\", \"argument\"]` and nothing after it"),
    };
    Some(format!(
        "`{}` is invalid JSON ({}), {so}; {fix}",
        shown(instruction),
        list.why
    ))
}

/// `ENTRYPOINT ["java -jar app.jar"]`: a list whose one word is a whole command line. That of a CMD may be
/// what an ENTRYPOINT takes.
fn one_word(instruction: &Instruction, entrypoint: bool) -> Option<String> {
    const PROGRAMS: [&str; 22] = [
        "bash", "bundle", "bun", "deno", "dotnet", "flask", "go", "gunicorn", "java", "nginx",
        "node", "npm", "npx", "php", "pnpm", "python", "python3", "rails", "ruby", "sh", "uvicorn",
        "yarn",
    ];
    let [line] = instruction.json.as_deref()? else {
        return None;
    };
    let words: Vec<&str> = line.split_whitespace().collect();
    let [first, _, ..] = words.as_slice() else {
        return None;
    };
    let meant = match instruction.keyword.as_str() {
        "ENTRYPOINT" => true,
        "CMD" => !entrypoint && PROGRAMS.contains(first),
        _ => false,
    };
    meant.then(|| {
        let fix = spelled(&words_of(line));
        format!(
            "`{}` is one word with spaces, and no program has that name, so it exits with 127, \
                command not found; write `{} {}`",
            shown(instruction),
            instruction.keyword,
            fix
        )
    })
}

/// A list in JSON, as people write it.
fn spelled(words: &[String]) -> String {
    let words: Vec<String> = words
        .iter()
        .map(|word| serde_json::json!(word).to_string())
        .collect();
    whittle_image::bounded(format!("[{}]", words.join(", ")), SPELLING)
}

/// The words of a command line, or a shell's that runs it.
fn words_of(line: &str) -> Vec<String> {
    match needs_a_shell(line) || line.contains(['"', '\'', '\\']) {
        true => vec!["/bin/sh".into(), "-c".into(), line.to_owned()],
        false => line.split_whitespace().map(str::to_owned).collect(),
    }
}

/// True where no shell text begins so.
fn is_meant_as_a_list(keyword: &str, text: &str) -> bool {
    let files = matches!(keyword, "COPY" | "ADD" | "VOLUME");
    let text = text.strip_prefix('=').map_or(text, str::trim_start);
    let is_quote = |c: char| matches!(c, '"' | '\'') || CURLY.contains(&c);
    let Some(inside) = text.strip_prefix('[') else {
        // `"program", "argument"]`, and quotes of a word processor.
        let mut rest = text.chars();
        return match rest.next() {
            Some(c) if CURLY.contains(&c) => true,
            Some(c @ ('"' | '\'')) => {
                let (within, behind) = rest.as_str().split_once(c).unwrap_or_default();
                // `"npm start"` is one word for the shell too.
                let whole = behind.trim().is_empty() && within.trim().contains(' ');
                behind.starts_with(',')
                    || (!files && behind.trim_end() == "]")
                    || (whole && matches!(keyword, "CMD" | "ENTRYPOINT" | "HEALTHCHECK"))
            }
            _ => false,
        };
    };
    let first = inside.trim_start();
    let spaced = first.len() < inside.len();
    match first.chars().next() {
        None => true,
        // No name of a volume is a pattern.
        Some(_) if keyword == "VOLUME" => true,
        // COPY takes patterns, `[Mm]akefile`: none of them ends with a comma before it is closed.
        Some(c) if files => {
            let word = first.split_whitespace().next().unwrap_or_default();
            is_quote(c) || word.ends_with(',') && !word.contains(']') && text.ends_with(']')
        }
        Some('[') => false,
        Some(']') => false,
        Some(_) if !spaced => true,
        // `[ -f x ] && y` is a test.
        Some(c) if is_quote(c) => {
            let rest = &first[c.len_utf8()..];
            let close =
                rest.find(|end: char| end == c || (CURLY.contains(&c) && CURLY.contains(&end)));
            let Some(close) = close else {
                return false;
            };
            let behind = rest[close..].chars().skip(1).collect::<String>();
            let behind = behind.trim();
            behind.starts_with(',')
                || (keyword != "RUN"
                    && behind.strip_prefix(']').is_some_and(|end| {
                        let end = end.trim();
                        end.is_empty() || end.starts_with('#')
                    }))
        }
        Some(_) => {
            let mut words = first.split_whitespace();
            let begins = words.next().unwrap_or_default();
            // `[ npm start ]`, where nothing is tested.
            let plain = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
            let rest = first.trim_end().strip_suffix(']');
            let list = rest.is_some_and(|rest| {
                rest.split_whitespace().all(|word| word.chars().all(plain))
                    && !rest.split_whitespace().any(is_test)
            });
            begins.ends_with(',') || (keyword != "RUN" && list)
        }
    }
}

/// `-f`, `-eq` and their like of `[`.
fn is_test(word: &str) -> bool {
    word.len() < 4 && word.starts_with('-') && !word.starts_with("--")
}

/// A list as it was meant.
struct List {
    why: &'static str,
    /// Its words; none where that cannot be told.
    right: Option<Vec<String>>,
}

fn read(text: &str) -> List {
    let equals = text.starts_with('=');
    let text = text.trim_start_matches('=').trim_start();
    let opened = text.starts_with('[');
    let mut chars = text.strip_prefix('[').unwrap_or(text).chars().peekable();
    let mut words: Vec<String> = vec![];
    let (mut closed, mut curly, mut single, mut bare, mut escape) =
        (false, false, false, false, false);
    let (mut comma, mut doubled, mut missing, mut open) = (true, false, false, false);
    while let Some(c) = chars.next() {
        match c {
            ']' => {
                closed = true;
                break;
            }
            ',' => {
                doubled |= comma;
                comma = true;
            }
            c if c.is_whitespace() => {}
            c => {
                missing |= !comma && !words.is_empty();
                comma = false;
                let mut word = String::new();
                let is_curly = CURLY.contains(&c);
                if is_curly || matches!(c, '"' | '\'') {
                    curly |= is_curly;
                    single |= c == '\'';
                    open = true;
                    while let Some(next) = chars.next() {
                        if next == c || (is_curly && CURLY.contains(&next)) {
                            open = false;
                            break;
                        }
                        if next == '\\' && c == '"' {
                            match chars.next() {
                                Some(quoted @ ('"' | '\\' | '/')) => word.push(quoted),
                                Some('n') => word.push('\n'),
                                Some('t') => word.push('\t'),
                                Some(other) => {
                                    escape = true;
                                    word.push('\\');
                                    word.push(other);
                                }
                                None => {}
                            }
                        } else {
                            word.push(next);
                        }
                    }
                } else {
                    bare = true;
                    word.push(c);
                    while let Some(next) =
                        chars.next_if(|c| !c.is_whitespace() && !matches!(c, ',' | ']'))
                    {
                        word.push(next);
                    }
                }
                words.push(word);
            }
        }
    }
    let behind: String = chars.collect();
    let behind = behind.trim();
    let whole = !opened && !closed && words.len() == 1;
    if whole {
        let line = words.remove(0);
        words = words_of(&line);
    }
    let comment = behind.starts_with('#');
    let why = match () {
        () if equals => "unexpected =",
        () if curly => "typographic quotes",
        () if comment => "a comment follows it: a comment needs a line of its own",
        () if !behind.is_empty() => "something follows the ]",
        () if open => "missing closing quote",
        () if whole => "its quotes make one word of it",
        () if !opened => "missing [",
        () if !closed => "missing ]",
        () if single => "only double quotes are allowed",
        () if bare => "each word needs double quotes",
        () if missing => "missing comma",
        () if comma || doubled => "trailing or extra comma",
        () if escape => "a backslash must be written twice",
        () => "it cannot be parsed",
    };
    let sure = !words.is_empty() && !open && (behind.is_empty() || comment);
    List {
        why,
        right: sure.then_some(words),
    }
}

/// True where a text needs the shell that runs it: variables, several commands, files, patterns.
pub(super) fn needs_a_shell(text: &str) -> bool {
    const BUILT_IN: [&str; 23] = [
        ".", "!", "[", "[[", ":", "cd", "eval", "exec", "export", "for", "if", "set", "source",
        "test", "trap", "ulimit", "umask", "unset", "until", "while", "case", "command", "time",
    ];
    let first = text.split_whitespace().next().unwrap_or_default();
    let sets = first.split_once('=').is_some_and(|(name, _)| {
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    });
    if sets || BUILT_IN.contains(&first) {
        return true;
    }
    let mut quote = None;
    let mut before = ' ';
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match quote {
            Some('\'') => {
                if c == '\'' {
                    quote = None;
                }
            }
            _ if c == '\\' => {
                chars.next();
            }
            _ if matches!(c, '$' | '`') => return true,
            Some(mark) => {
                if c == mark {
                    quote = None;
                }
            }
            None => match c {
                '"' | '\'' => quote = Some(c),
                '|' | '&' | ';' | '<' | '>' | '(' | ')' | '*' | '?' | '\n' => return true,
                '~' | '#' if before.is_whitespace() => return true,
                _ => {}
            },
        }
        before = c;
    }
    false
}
