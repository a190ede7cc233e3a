//! Faults of the Dockerfile itself: what it says, and the stages and files that it names.

use super::lines::{LINE_LIMIT, Stage, nearest};
use super::registry::{Fault, fault};
use super::{Again, Case, Finding, listed, place, quoted_after};
use whittle_api::FailureReason;

/// How many warnings stand in a message with all their words; of more, their rules and lines.
const WARNINGS: usize = 5;

impl Case<'_> {
    /// `# check=error=true`, or the build argument that does the same, makes errors of warnings.
    pub(super) fn lint(&self, line: &mut Option<i32>) -> Option<Finding> {
        let (_, rest) = self.error.split_once("lint violation found for rules: ")?;
        let broken: Vec<&str> = rest.split(',').map(str::trim).collect();
        let told: Vec<_> = self
            .state
            .warnings()
            .iter()
            .filter(|warning| {
                let rule = warning.text.split(':').next().unwrap_or_default();
                broken.contains(&rule)
            })
            .collect();
        *line = told.iter().filter_map(|warning| warning.line).min();
        let mut rules: Vec<String> = told
            .iter()
            .map(|warning| {
                let short = warning.text.split(':').next().unwrap_or_default();
                let text = match told.len() <= WARNINGS {
                    true => &warning.text,
                    false => short,
                };
                match warning.line {
                    // Some end with their line already.
                    Some(line) if !text.contains("(line ") => format!("{text} (line {line})"),
                    _ => text.to_owned(),
                }
            })
            .collect();
        if rules.is_empty() {
            rules.push(rest.to_owned());
        }
        let (by, fix) = match self.lines.check {
            Some(line) => (
                format!(
                    "`# check=` of the Dockerfile (line {line}, error=true) turns warnings into \
                        errors"
                ),
                "or remove error=true from that line",
            ),
            None => (
                "error=true of the build checks turns warnings into errors".to_owned(),
                "or remove error=true from `# check=` and from the build argument \
                    BUILDKIT_DOCKERFILE_CHECK",
            ),
        };
        Some((
            FailureReason::BuildRejected,
            format!(
                "{}: {by}: {}; fix them, {fix}",
                self.request.inputs.dockerfile,
                rules.join("; ")
            ),
            Again::No,
        ))
    }

    /// What the parser says quotes the Dockerfile, so its words are nobody else's.
    pub(super) fn parse_error(&self, line: Option<i32>) -> Option<Finding> {
        self.error
            .starts_with("dockerfile parse error")
            .then(|| self.syntax_error(line))
    }

    pub(super) fn dockerfile(&self, line: &mut Option<i32>) -> Option<Finding> {
        let request = self.request;
        let missing =
            |message: String| Some((FailureReason::DockerfileNotFound, message, Again::No));
        if let Some((_, said)) = self.error.split_once("failed to read dockerfile: ") {
            if said.contains("not a regular file") || said.contains("is a directory") {
                return missing(format!(
                    "{} is a directory, not a file: set spec.dockerfile to the path of the file \
                        within the source",
                    request.inputs.dockerfile
                ));
            }
            if said.contains("no such file") || said.contains("not a directory") {
                let place = place(&request.inputs.source);
                return missing(format!(
                    "{} not found {place}: set spec.dockerfile to its path within the source",
                    request.inputs.dockerfile
                ));
            }
        }
        let too_long = self
            .error
            .contains("dockerfile line greater than max allowed size");
        // BuildKit reads no further than to a line that is too long, and misses what stands below it.
        if too_long || self.error.contains("unterminated heredoc") && self.lines.too_long.is_some()
        {
            *line = self.lines.too_long;
            let what = match self.lines.too_long {
                Some(line) => format!("{}:{line}: this line", request.inputs.dockerfile),
                None => format!("{}: a line", request.inputs.dockerfile),
            };
            return syntax(format!(
                "{what} is too long: BuildKit reads at most {LINE_LIMIT} bytes: break it with \\ \
                    at its end, or COPY its content from a file"
            ));
        }
        const SYNTAX: [&str; 14] = [
            "dockerfile parse error",
            "no build stage in current context",
            "dockerfile contains no stages to build",
            "the Dockerfile cannot be empty",
            "file with no instructions",
            "should not be blank",
            "circular dependency detected on stage",
            "failed to parse stage name",
            "failed to parse platform",
            "failed to parse check options",
            "invalid escape token",
            "unterminated heredoc",
            "failed to process \"",
            "invalid reference format",
        ];
        SYNTAX
            .iter()
            .any(|words| self.error.contains(words))
            .then(|| self.syntax_error(*line))
    }

    fn syntax_error(&self, line: Option<i32>) -> Finding {
        let said = self.error.lines().next().unwrap_or_default();
        let (line, said) = match said.split_once("parse error on line ") {
            Some((_, rest)) => {
                let (number, words) = rest.split_once(": ").unwrap_or(("", rest));
                (line.or_else(|| number.parse().ok()), words)
            }
            None => (line, said),
        };
        let strange = said
            .strip_prefix("unknown instruction: ")
            .is_some_and(|word| word.contains(['\0', '\u{fffd}']));
        // What a terminal cannot show is of no use.
        let said: String = said.chars().filter(|c| !c.is_control()).collect();
        let said = match (strange, said.contains("\u{fffd}\u{fffd}")) {
            (false, _) => said,
            (true, true) => {
                "invalid UTF-8, most likely UTF-16: save the Dockerfile as UTF-8".into()
            }
            (true, false) => "invalid UTF-8: save the Dockerfile as plain text in UTF-8".into(),
        };
        let said = match self.cure_of_syntax(&said) {
            Some(fix) => format!("{said}: {fix}"),
            None => said,
        };
        let line = line.map_or(String::new(), |n| format!(":{n}"));
        (
            FailureReason::DockerfileSyntax,
            format!("{}{line}: {said}", self.request.inputs.dockerfile),
            Again::No,
        )
    }

    /// What to do about some that the parser's words alone do not tell.
    fn cure_of_syntax(&self, said: &str) -> Option<String> {
        let one = self.instruction()?;
        if said == "no build stage in current context" {
            return Some("it is above the first FROM, where only ARG is allowed".into());
        }
        if said == "unterminated heredoc" {
            let end = one.unterminated.as_deref()?;
            return Some(format!("the closing line {end} is missing"));
        }
        let empty =
            said.contains("should not be blank") || said.contains("failed to parse stage name");
        if one.keyword == "FROM" && empty && one.text.contains('$') {
            let names = variables(&one.text);
            return Some(format!(
                "{} is empty there: set it with ARG above the first FROM (ARG NAME=value), or in \
                    spec.buildArgs, which need that ARG, too",
                listed(&names)
            ));
        }
        // Words without what they are about.
        let bare = said.len() < 40 && !said.contains(['"', ':']);
        (bare && self.failed.is_none() && !said.starts_with("file with")).then(|| one.text.clone())
    }

    /// The frontend marks a line, and no step had begun: it does not accept what that line says.
    pub(super) fn refused_by_frontend(&self) -> Option<Finding> {
        let its_own = self.excerpt.line.is_some()
            && self.failed.is_none()
            && !self.error.starts_with("failed to load ")
            && !self.error.starts_with("failed to compute ");
        its_own.then(|| self.syntax_error(self.excerpt.line))
    }

    pub(super) fn stage(&self, line: &mut Option<i32>) -> Option<Finding> {
        let stages = self.lines.names();
        let it_has = |name: &str| match (nearest(name, &stages), stages.is_empty()) {
            (_, true) => String::new(),
            (Some(near), _) => format!("; did you mean {near}? It has {}", listed(&stages)),
            (None, _) => format!("; it has {}", listed(&stages)),
        };
        let not_found = |message: String| Some((FailureReason::StageNotFound, message, Again::No));
        if let Some(target) = quoted_after(self.error, "target stage ") {
            return not_found(format!(
                "stage \"{target}\" not found in the Dockerfile{}: change spec.target",
                it_has(target)
            ));
        }
        if let Some((_, number)) = self.error.split_once("invalid stage index ") {
            let number = number.split_whitespace().next().unwrap_or_default();
            let mut all = self.lines.instructions.iter();
            let by = all.find(|one| comes_from(&one.text, number));
            *line = line.or_else(|| by.map(|one| one.line));
            let has = match self.lines.stages.len() {
                0 => String::new(),
                n => format!(", and the Dockerfile has {n}"),
            };
            return not_found(format!(
                "{}: stage {number} not found: stages count from 0{has}. Name the stage (FROM … \
                    AS name), and use that name",
                self.place(*line)
            ));
        }
        if let Some(found) = self.stands_below() {
            return Some(found);
        }
        // `COPY --from=name`: BuildKit takes a name that is no stage for an image.
        let (name, _) = self
            .error
            .split_once(": failed to resolve source metadata for ")?;
        let bare = !name.is_empty() && !name.contains(['/', ':', '@', ' ', '.']);
        let names_it = |text: &str| {
            let word = text.split_whitespace().next().unwrap_or_default();
            !word.eq_ignore_ascii_case("FROM") && comes_from(text, name)
        };
        // A mount's `from=` comes without an excerpt.
        let by = self
            .lines
            .instructions
            .iter()
            .find(|one| names_it(&one.text));
        let marked = self.excerpt.source.as_deref();
        let is_stage = match marked {
            Some(source) => names_it(source),
            None => by.is_some(),
        };
        // That a registry is away says nothing of whether there is such an image.
        let unknown = matches!(fault(self.error), Fault::NotFound | Fault::Denied);
        if !bare || !is_stage || !unknown && nearest(name, &stages).is_none() {
            return None;
        }
        *line = line.or_else(|| by.map(|one| one.line));
        let image = match unknown {
            true => "; an image of that name is not found either",
            false => "",
        };
        not_found(format!(
            "stage \"{name}\" not found in the Dockerfile{}{image}",
            it_has(name)
        ))
    }

    /// A `FROM` of a stage that stands further down: BuildKit looks for an image of that name.
    fn stands_below(&self) -> Option<Finding> {
        let (name, _) = self
            .error
            .split_once(": failed to resolve source metadata for ")?;
        let from = self.instruction().filter(|one| one.keyword == "FROM")?;
        let below = &self.lines.stages[self.lines.stage(name)?];
        let named = below.name.is_some() && below.line > from.line;
        named.then(|| {
            (
                FailureReason::StageNotFound,
                format!(
                    "{}: stage \"{name}\" is defined further down, on line {}: FROM can only use \
                        stages above it",
                    self.place(Some(from.line)),
                    below.line
                ),
                Again::No,
            )
        })
    }

    pub(super) fn copy(&self) -> Option<Finding> {
        let missing = self.not_in_context().or_else(|| self.not_in_stage())?;
        let missing = missing.trim_start_matches('/');
        let step = self.step_text().unwrap_or_default();
        let from = step
            .split([' ', ','])
            .find_map(|word| word.trim_start_matches("--").strip_prefix("from="))
            .filter(|_| !step.starts_with("FROM "));
        let (place, hint) = match from {
            Some(stage) => (self.of_stage(stage), "check the path there"),
            None if self.is_ignored(missing) => (
                place(&self.request.inputs.source),
                ".dockerignore excludes it: add an exception there, a line with ! before the path",
            ),
            None => (
                place(&self.request.inputs.source),
                "the path is relative to the context's root, and .dockerignore may exclude it",
            ),
        };
        Some((
            FailureReason::CopySourceNotFound,
            format!("/{missing} not found {place}: {hint}"),
            Again::No,
        ))
    }

    fn not_in_context(&self) -> Option<&str> {
        let (_, rest) = self
            .error
            .split_once("failed to calculate checksum of ref ")?;
        let missing = quoted_after(rest, ": ")?;
        // Other things may go wrong there as well.
        rest.trim_end().ends_with(": not found").then_some(missing)
    }

    /// `lstat /nosuch: no such file or directory`, where BuildKit does not look for the file beforehand.
    fn not_in_stage(&self) -> Option<&str> {
        let vertex = self.vertex();
        let copies = ["COPY ", "ADD "].iter().any(|it| vertex.starts_with(it));
        let said = self.error.rsplit_once("lstat /").map(|(_, said)| said);
        let path = said?.strip_suffix(": no such file or directory")?;
        (copies && self.ended.is_none()).then_some(path)
    }

    /// True where BuildKit's own check has seen that `.dockerignore` is why.
    fn is_ignored(&self, missing: &str) -> bool {
        let missing = missing.trim_end_matches('/');
        self.state.warnings().iter().any(|warning| {
            warning.text.starts_with("CopyIgnoredFile: ")
                && quoted_after(&warning.text, "file ")
                    .is_some_and(|path| path.trim_matches('/') == missing)
        })
    }

    /// What `--from=` means, for a sentence.
    pub(super) fn of_stage(&self, from: &str) -> String {
        let from = from.trim_matches(['"', '\'']);
        let number = from.parse::<usize>().is_ok();
        match self.lines.stage(from).map(|at| &self.lines.stages[at]) {
            Some(Stage {
                name: Some(name), ..
            }) if number => format!("in {name} (stage {from})"),
            Some(Stage { base, line, .. }) if number => {
                format!("in stage {from} (FROM {base} on line {line})")
            }
            None if from.contains([':', '/', '@']) => format!("in image {from}"),
            _ => format!("in {from}"),
        }
    }
}

/// The names of the variables of a text.
fn variables(text: &str) -> Vec<&str> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.split('$')
        .skip(1)
        .map(|rest| rest.strip_prefix('{').unwrap_or(rest))
        .map(|rest| &rest[..rest.find(|c| !is_name(c)).unwrap_or(rest.len())])
        .filter(|name| !name.is_empty())
        .collect()
}

/// True for an instruction with `--from=name`, or a mount with `from=name`.
pub(super) fn comes_from(text: &str, name: &str) -> bool {
    let from = format!("from={name}");
    let rest = |word: &str| word.strip_suffix(&from).map(|rest| rest.to_owned());
    text.split(|c: char| c == ',' || c.is_whitespace())
        .filter_map(rest)
        .any(|rest| matches!(rest.as_str(), "" | "--" | "--mount="))
}

fn syntax(message: String) -> Option<Finding> {
    Some((FailureReason::DockerfileSyntax, message, Again::No))
}
