//! The instructions of a Dockerfile and their lines, for failures of which BuildKit does not say where they are: of any
//! text, also one that BuildKit refuses.

use std::collections::BTreeMap;
use std::ops::Deref;

use whittle_dockerfile::pairs;

/// The longest line that BuildKit reads, in bytes.
pub(super) const LINE_LIMIT: usize = 65_535;

/// One instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Instruction {
    /// Its first line, from 1.
    pub line: i32,
    /// All of it in one line, as written: without comments, line ends and the bodies of heredocs.
    pub text: String,
    /// The stage it stands in, from 0; none before the first `FROM`.
    pub stage: Option<usize>,
    read: whittle_dockerfile::Instruction,
}

impl Deref for Instruction {
    type Target = whittle_dockerfile::Instruction;

    fn deref(&self) -> &Self::Target {
        &self.read
    }
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
    /// True for `# syntax=` there.
    pub names_frontend: bool,
}

impl Lines {
    pub(super) fn read(text: &str) -> Self {
        let file = whittle_dockerfile::read(text);
        let mut long = (1..).zip(text.lines());
        let mut found = Self {
            too_long: long
                .find(|(_, line)| line.len() > LINE_LIMIT)
                .map(|(number, _)| number),
            check: file.directives.get("check").map(|it| it.line),
            names_frontend: file.directives.contains_key("syntax"),
            ..Self::default()
        };
        for read in file.instructions {
            let line = read.lines.0;
            if read.keyword == "FROM" {
                let words = read.words();
                let name = match words[..] {
                    [_, word, name, ..] if word.eq_ignore_ascii_case("as") => Some(name),
                    _ => None,
                };
                found.stages.push(Stage {
                    base: words.first().copied().unwrap_or_default().to_owned(),
                    name: name.map(str::to_owned),
                    line,
                });
            }
            found.instructions.push(Instruction {
                line,
                text: read.written.one_line(),
                stage: found.stages.len().checked_sub(1),
                read,
            });
        }
        found
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
        let last = |left: bool, stage: usize, until: i32| {
            self.instructions.iter().rev().find_map(|one| {
                let own = match left {
                    true => one.trigger.as_deref()?,
                    false => &one.read,
                };
                let is = own.keyword == "USER" && one.stage == Some(stage) && one.line < until;
                is.then(|| (own.rest.text.split_whitespace().next(), one.line))
            })
        };
        loop {
            // What a stage leaves to those that come from it is done there, and before their own.
            let left = || (until == i32::MAX).then(|| last(true, stage, until));
            if let Some((value, line)) = left().flatten().or_else(|| last(false, stage, until)) {
                return Some((value?.trim_matches(['"', '\'']), line));
            }
            // A stage begins with the user of the one it comes from, which stands above it.
            let base = &self.stages[stage].base;
            let above = self.stage(base).filter(|at| *at < stage)?;
            (stage, until) = (above, i32::MAX);
        }
    }

    /// A text with its variables written out, as far as the Dockerfile's `ARG` and `ENV` and `given` know them.
    pub(super) fn expand(&self, text: &str, given: &BTreeMap<String, String>) -> String {
        let mut known: BTreeMap<String, String> = BTreeMap::new();
        for one in &self.instructions {
            if !matches!(one.keyword.as_str(), "ARG" | "ENV") {
                continue;
            }
            for (name, value) in pairs(one) {
                let Some(value) = value else { continue };
                let given = given.get(&name).filter(|_| one.keyword == "ARG");
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
