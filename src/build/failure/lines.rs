//! The instructions of a Dockerfile and their lines, for failures of which BuildKit does not say where they are.
//!
//! Unlike the parser of the hints this one takes any text, also one that BuildKit refuses.

use std::collections::BTreeMap;

/// The longest line that BuildKit reads, in bytes.
pub(super) const LINE_LIMIT: usize = 65_535;

/// One instruction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Instruction {
    /// Its first line, from 1.
    pub line: i32,
    /// In capitals.
    pub keyword: String,
    /// All of it in one line, as written: without comments, line ends and the bodies of heredocs.
    pub text: String,
    /// The stage it stands in, from 0; none before the first `FROM`.
    pub stage: Option<usize>,
}

/// One stage.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Stage {
    /// What stands after `AS`.
    pub name: Option<String>,
    /// What stands after `FROM`.
    pub base: String,
    /// The line of its `FROM`.
    pub line: i32,
}

/// A Dockerfile, as far as its lines tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Lines {
    pub instructions: Vec<Instruction>,
    pub stages: Vec<Stage>,
    /// The first line that is longer than [`LINE_LIMIT`].
    pub too_long: Option<i32>,
    /// The line of `# check=` among the directives at the top.
    pub check: Option<i32>,
}

impl Lines {
    pub(super) fn read(text: &str) -> Self {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut found = Self::default();
        let mut escape = '\\';
        let mut directives = true;
        let mut open: Option<Instruction> = None;
        let mut heredocs: Vec<(String, bool)> = vec![];
        for (number, whole) in (1..).zip(text.lines()) {
            if whole.len() > LINE_LIMIT && found.too_long.is_none() {
                found.too_long = Some(number);
            }
            if let Some((end, tabs)) = heredocs.first() {
                let line = whole.trim_end_matches('\r');
                let line = if *tabs {
                    line.trim_start_matches('\t')
                } else {
                    line
                };
                if line == end {
                    heredocs.remove(0);
                }
                continue;
            }
            let line = whole.trim();
            if let Some(comment) = line.strip_prefix('#') {
                let directive = comment.split_once('=').filter(|_| directives);
                match directive.map(|(key, value)| (key.trim().to_lowercase(), value.trim())) {
                    Some((key, value)) if key == "escape" && value == "`" => escape = '`',
                    Some((key, _)) if key == "check" => found.check = Some(number),
                    Some(_) => {}
                    None => directives = false,
                }
                continue;
            }
            directives = false;
            if line.is_empty() {
                continue;
            }
            let (part, goes_on) = match line.strip_suffix(escape) {
                Some(part) => (part.trim_end(), true),
                None => (line, false),
            };
            let instruction = open.get_or_insert_with(|| Instruction {
                line: number,
                ..Instruction::default()
            });
            if !instruction.text.is_empty() {
                instruction.text.push(' ');
            }
            instruction.text.push_str(part);
            if !goes_on && let Some(instruction) = open.take() {
                heredocs = found.add(instruction);
            }
        }
        if let Some(instruction) = open {
            found.add(instruction);
        }
        found
    }

    /// Takes an instruction in; returns the heredocs that follow it, each with whether its tabs do not count.
    fn add(&mut self, mut instruction: Instruction) -> Vec<(String, bool)> {
        let words: Vec<&str> = instruction.text.split_whitespace().collect();
        let keyword = words.first().copied().unwrap_or_default().to_uppercase();
        if keyword == "FROM" {
            let mut rest = words[1..].iter().filter(|word| !word.starts_with("--"));
            self.stages.push(Stage {
                base: rest.next().copied().unwrap_or_default().to_owned(),
                name: match (rest.next(), rest.next()) {
                    (Some(word), Some(name)) if word.eq_ignore_ascii_case("as") => {
                        Some((*name).to_owned())
                    }
                    _ => None,
                },
                line: instruction.line,
            });
        }
        let heredocs = match keyword.as_str() {
            "RUN" | "COPY" | "ADD" => words.iter().filter_map(|word| heredoc(word)).collect(),
            _ => vec![],
        };
        instruction.keyword = keyword;
        instruction.stage = self.stages.len().checked_sub(1);
        self.instructions.push(instruction);
        heredocs
    }

    /// The names of the stages that have one.
    pub(super) fn names(&self) -> Vec<String> {
        self.stages.iter().filter_map(|s| s.name.clone()).collect()
    }

    /// The stage that `COPY --from` means: by its name, or its number.
    pub(super) fn stage(&self, name: &str) -> Option<usize> {
        let named = |stage: &Stage| {
            let own = stage.name.as_deref();
            own.is_some_and(|own| own.eq_ignore_ascii_case(name))
        };
        let number = || name.parse().ok().filter(|at| *at < self.stages.len());
        self.stages.iter().rposition(named).or_else(number)
    }

    /// The instruction that begins at a line, or holds it.
    pub(super) fn at(&self, line: i32) -> Option<&Instruction> {
        self.instructions.iter().rfind(|one| one.line <= line)
    }

    /// The instruction that a vertex of BuildKit's stands for, by its name: `[build 2/5] RUN go build`.
    ///
    /// BuildKit writes out the variables of all but `RUN`, so a variable stands for anything.
    pub(super) fn of_vertex(&self, name: &str) -> Option<&Instruction> {
        let (head, got) = name.strip_prefix('[')?.split_once(']')?;
        let got = one_space(got.trim().trim_end_matches(" …"));
        // `RUN <<E (set -e...)`: the heredoc's first line.
        let got = match got.rsplit_once(" (") {
            Some((before, rest)) if rest.ends_with("...)") && before.contains("<<") => before,
            _ => &got,
        };
        let stage = head
            .split_whitespace()
            .find(|word| !word.contains('/'))
            .map(|word| word.strip_prefix("stage-").unwrap_or(word));
        let mut fitting = self.instructions.iter().filter(|one| fits(&one.text, got));
        let in_stage = |one: &&Instruction| match stage.map(|stage| self.stage(stage)) {
            Some(Some(at)) => one.stage == Some(at),
            _ => true,
        };
        let of_stage = fitting.clone().find(in_stage);
        of_stage.or_else(|| fitting.next())
    }

    /// The value of the last `USER` before an instruction, and its line; none where the base image decides.
    pub(super) fn user(&self, before: &Instruction) -> Option<(&str, i32)> {
        let mut stage = before.stage?;
        let mut until = before.line;
        let last = |start: &str, stage: usize, until: i32| {
            let found = self.instructions.iter().rfind(|one| {
                let text = one_space(&one.text).to_uppercase();
                text.starts_with(start) && one.stage == Some(stage) && one.line < until
            })?;
            let value = found
                .text
                .split_whitespace()
                .nth(start.matches(' ').count())?;
            Some((value.trim_matches(['"', '\'']), found.line))
        };
        loop {
            // What a stage leaves to those that come from it is done there, and before their own.
            let left = || (until == i32::MAX).then(|| last("ONBUILD USER ", stage, until));
            if let Some(found) = left().flatten().or_else(|| last("USER ", stage, until)) {
                return Some(found);
            }
            // A stage begins with the user of the one it comes from, which stands above it.
            let base = &self.stages[stage].base;
            let above = self.stage(base).filter(|at| *at < stage)?;
            (stage, until) = (above, i32::MAX);
        }
    }

    /// A text with its variables written out, as far as the Dockerfile's `ARG` and `ENV` and `given` know them.
    pub(super) fn expand(&self, text: &str, given: &BTreeMap<String, String>) -> String {
        let mut known: BTreeMap<&str, String> = BTreeMap::new();
        for one in &self.instructions {
            if !matches!(one.keyword.as_str(), "ARG" | "ENV") {
                continue;
            }
            for word in one.text.split_whitespace().skip(1) {
                let Some((name, value)) = word.split_once('=') else {
                    continue;
                };
                let given = given.get(name).filter(|_| one.keyword == "ARG");
                let value = given.map_or(value.trim_matches(['"', '\'']), String::as_str);
                known.insert(name, value.to_owned());
            }
        }
        let value = |name: &str| known.get(name).or_else(|| given.get(name)).cloned();
        let mut out = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            out.push_str(before);
            let braced = after.strip_prefix('{').and_then(|it| it.split_once('}'));
            let (name, after) = braced.unwrap_or_else(|| {
                let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
                after.split_at(after.find(|c| !is_name(c)).unwrap_or(after.len()))
            });
            let (name, default) = name.split_once(":-").unwrap_or((name, ""));
            out.push_str(&value(name).unwrap_or_else(|| default.to_owned()));
            rest = after;
        }
        out.push_str(rest);
        out
    }
}

/// The end of a heredoc that a word opens, `<<EOF` or `<<-"EOF"`, and whether tabs before it do not count.
pub(super) fn heredoc(word: &str) -> Option<(String, bool)> {
    let rest = word
        .trim_start_matches(|c: char| c.is_ascii_digit())
        .strip_prefix("<<")?;
    let (rest, tabs) = match rest.strip_prefix('-') {
        Some(rest) => (rest, true),
        None => (rest, false),
    };
    let name = rest.trim_matches(['"', '\'']);
    let plain = |c: char| c.is_ascii_alphanumeric() || "_.".contains(c);
    (!name.is_empty() && name.chars().all(plain)).then(|| (name.to_owned(), tabs))
}

fn one_space(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// True where `got` is `written` with its variables written out.
fn fits(written: &str, got: &str) -> bool {
    let written = one_space(written);
    let (Some((keyword, written)), Some((other, got))) =
        (written.split_once(' '), got.split_once(' '))
    else {
        return false;
    };
    if !keyword.eq_ignore_ascii_case(other) {
        return false;
    }
    if keyword.eq_ignore_ascii_case("RUN") || !written.contains('$') {
        return written == got;
    }
    // The parts between variables must follow each other.
    let mut parts = vec![];
    let mut rest = written;
    while let Some((before, after)) = rest.split_once('$') {
        parts.push(before);
        rest = match after.strip_prefix('{') {
            Some(braced) => braced.split_once('}').map_or("", |(_, after)| after),
            None => after.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '_'),
        };
    }
    let Some(mut got) = got.strip_prefix(parts[0]) else {
        return false;
    };
    for part in &parts[1..] {
        let Some(at) = got.find(part) else {
            return false;
        };
        got = &got[at + part.len()..];
    }
    got.ends_with(rest)
}

/// The stage whose name is so near to `name` that a slip of the hand is likely.
pub(super) fn nearest<'a>(name: &str, stages: &'a [String]) -> Option<&'a str> {
    // Comparing takes room and time by the product of both lengths.
    const LONGEST: usize = 200;
    if name.len() > LONGEST {
        return None;
    }
    let name = name.to_lowercase();
    stages
        .iter()
        .filter(|stage| stage.len() <= LONGEST)
        .map(|stage| {
            (
                strsim::normalized_damerau_levenshtein(&name, &stage.to_lowercase()),
                stage,
            )
        })
        .filter(|(likeness, stage)| *likeness >= 0.5 || stage.to_lowercase().starts_with(&name))
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, stage)| stage.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# syntax=docker/dockerfile:1\n# check=error=true\nARG V=1\nFROM golang:$V AS build\n\
        USER 1000\nRUN echo a \\\n  # why\n\n  b\nCOPY <<-A <<\"B\" /x/\n\tFROM no AS stage\n\tA\nRUN no\nB\n\
        from build as runtime\nRUN echo a b\nADD https://h/$V/x ${V} /\nFROM runtime\nRUN true\nEXPOSE 1\n";

    #[test]
    fn instructions_have_their_first_line_their_text_and_their_stage() {
        let lines = Lines::read(TEXT);
        let short: Vec<(i32, &str, Option<usize>)> = lines
            .instructions
            .iter()
            .map(|one| (one.line, one.text.as_str(), one.stage))
            .collect();
        assert_eq!(
            short,
            [
                (3, "ARG V=1", None),
                (4, "FROM golang:$V AS build", Some(0)),
                (5, "USER 1000", Some(0)),
                (6, "RUN echo a b", Some(0)),
                (10, "COPY <<-A <<\"B\" /x/", Some(0)),
                (15, "from build as runtime", Some(1)),
                (16, "RUN echo a b", Some(1)),
                (17, "ADD https://h/$V/x ${V} /", Some(1)),
                (18, "FROM runtime", Some(2)),
                (19, "RUN true", Some(2)),
                (20, "EXPOSE 1", Some(2)),
            ]
        );
        assert_eq!(lines.names(), ["build", "runtime"]);
        assert_eq!((lines.check, lines.too_long), (Some(2), None));
        assert_eq!(lines.at(8).unwrap().line, 6);
    }

    #[test]
    fn a_vertex_leads_to_the_line_of_its_stage() {
        let lines = Lines::read(TEXT);
        for (name, line) in [
            ("[build 3/4] RUN echo a   b", Some(6)),
            ("[runtime 2/3] RUN echo a b", Some(16)),
            ("[linux/arm64 runtime 3/3] ADD https://h/1/x 1 /", Some(17)),
            ("[stage-2 2/2] RUN true", Some(19)),
            ("[build 4/4] COPY <<-A <<\"B\" /x/", Some(10)),
            ("[1/1] RUN nothing of this", None),
            ("exporting to image", None),
        ] {
            assert_eq!(lines.of_vertex(name).map(|one| one.line), line, "{name}");
        }
        let heredoc = Lines::read("FROM a\nRUN <<E\nset -e\nE\n");
        let found = heredoc.of_vertex("[2/2] RUN <<E (set -e...)");
        assert_eq!(found.unwrap().line, 2);
    }

    #[test]
    fn a_user_holds_for_the_stages_that_come_from_its_own() {
        let lines = Lines::read(TEXT);
        assert_eq!(lines.user(lines.at(19).unwrap()), Some(("1000", 5)));
        let left = Lines::read("FROM a AS b\nONBUILD USER 7\nUSER 8\nFROM b\nRUN id\n");
        assert_eq!(left.user(left.at(5).unwrap()), Some(("7", 2)));
        let other = Lines::read("FROM a AS b\nUSER app\nFROM a\nRUN id\n");
        assert_eq!(other.user(other.at(4).unwrap()), None);
    }

    #[test]
    fn variables_have_the_values_of_arg_env_and_the_build() {
        let lines = Lines::read("ARG U=1\nFROM a\nARG U=2 G\nENV E=\"3\"\n");
        let given = BTreeMap::from([("G".to_owned(), "4".to_owned())]);
        assert_eq!(lines.expand("$U:${G}:$E:${X:-5}$", &given), "2:4:3:5");
    }

    #[test]
    fn strange_texts_are_read_as_well() {
        for text in [
            "",
            "\u{feff}",
            "FROM",
            "RUN <<",
            "FROM a\nRUN \\",
            "$",
            "USER\nFROM",
        ] {
            let lines = Lines::read(text);
            let last = lines.instructions.last();
            last.map(|one| (lines.user(one), lines.of_vertex("[1/1] $ ${")));
        }
        assert_eq!(Lines::read("\u{feff}FROM a").stages.len(), 1);
        let long = format!("FROM a\nRUN {}\n", "x".repeat(LINE_LIMIT));
        assert_eq!(Lines::read(&long).too_long, Some(2));
    }

    #[test]
    fn a_slip_of_the_hand_leads_to_the_nearest_stage() {
        let stages = ["build", "runtime", "debug"].map(str::to_owned);
        for (name, near) in [
            ("runtme", Some("runtime")),
            ("Runtime", Some("runtime")),
            ("run", Some("runtime")),
            ("biuld", Some("build")),
            ("builder", Some("build")),
            ("production", None),
        ] {
            assert_eq!(nearest(name, &stages), near, "{name}");
        }
    }
}
