//! What a failed run of buildctl means: its words → a reason of the closed list, and a message that
//! names the thing, the cause and the next step.
//!
//! The words are those of BuildKit 0.33; the tests hold what it really printed. What is not known here
//! becomes `BuildFailed` with BuildKit's own words.
//!
//! Who speaks is told first. What a step printed, and the command that BuildKit quotes, are the step's own: they
//! never make another reason than `StepFailed`, and only lead to hints.

mod dockerfile;
mod excerpt;
mod fetch;
mod git;
mod hints;
mod ids;
mod images;
mod lines;
mod lost;
mod network;
mod outside;
mod pull;
mod registry;
mod rejected;
mod space;
mod starts;
mod step;
mod submodule;

use std::collections::BTreeMap;

use jiff::Timestamp;

pub use images::{PushFault, push_failure};
pub(crate) use lost::hangs;
pub use lost::{HANGS, Whose, of_part, whose};
pub use space::STEP_FULL;

use excerpt::{Excerpt, error, excerpt, quoted_after};
use hints::hint;
use lines::{Instruction, Lines};

use super::rawjson::{FailedStep, State, instruction};
use super::request::BuildRequest;
use whittle_api::{Failure, FailureReason, Source, bounded};
use whittle_image::text::turns_text;

/// Bytes of a message, and of a step, at most.
const MESSAGE_BYTES: usize = 1000;

/// Before the name of a step that a base image has left to those that come from it.
const ONBUILD: &str = "ONBUILD ";

/// What the runner knows besides BuildKit's words.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Text of the Dockerfile, where it is known.
    pub dockerfile: Option<String>,
    /// For which registries the registry Secret has credentials, as its keys say it.
    pub credentials: Vec<String>,
    /// What else that Secret holds: for those who expect more of it.
    pub secret: SecretNotes,
    /// Scripts of the context, as far as it lies with the runner.
    pub scripts: Vec<Script>,
}

/// The first lines of a Dockerfile's instructions that have really run, each with when it first began.
pub fn ran(dockerfile: &str, state: &State) -> BTreeMap<i32, Timestamp> {
    let lines = Lines::read(dockerfile);
    let mut ran = BTreeMap::new();
    for (name, began) in state.ran() {
        if let Some(instruction) = lines.of_vertex(name) {
            let first = ran.entry(instruction.line).or_insert(began);
            *first = began.min(*first);
        }
    }
    ran
}

/// What a registry Secret holds that is no password.
#[derive(Clone, Debug, Default)]
pub struct SecretNotes {
    /// Entries without a password: the key, and why.
    pub unusable: Vec<(String, String)>,
    /// Programs that would have one: the host, or nothing for all hosts, and the program.
    pub helpers: Vec<(String, String)>,
}

/// A script of the context.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Script {
    /// From the context's root, with `/`.
    pub path: String,
    /// Its first line, bounded, without the line feed.
    pub first_line: String,
}

/// Whether the runner itself should try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// No: the same would come out, or the controller decides.
    No,
    /// After a pause: a registry or git server is away or busy.
    Later,
    /// After pruning the builder's cache.
    Pruned,
}

/// A failure, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What users see.
    pub failure: Failure,
    /// Whether to try again.
    pub again: Again,
}

/// What is looked at.
struct Case<'a> {
    request: &'a BuildRequest,
    facts: &'a Facts,
    state: &'a State,
    /// All that BuildKit said at the end.
    error: &'a str,
    /// How a step's process ended, in the daemon's words, where that is the error.
    ended: Option<&'a str>,
    excerpt: Excerpt,
    failed: Option<FailedStep>,
    lines: Lines,
}

/// A reason, a message, and whether to try again.
type Finding = (FailureReason, String, Again);

/// Says why buildctl failed. `state` has read all that it printed; `exit` is its exit code, none where
/// a signal ended it.
pub fn verdict(state: &State, exit: Option<i32>, request: &BuildRequest, facts: &Facts) -> Verdict {
    let error = error(state.text());
    let case = Case {
        request,
        facts,
        state,
        error,
        ended: step::ended(error),
        excerpt: excerpt(state.text()),
        failed: state.failed(),
        lines: Lines::read(facts.dockerfile.as_deref().unwrap_or_default()),
    };
    let mut line = case.line();
    let (reason, message, again) = case
        .parse_error(line)
        .or_else(|| case.scratch_full())
        .or_else(|| case.copy())
        .or_else(|| case.connection(exit))
        .or_else(|| case.cache_full())
        .or_else(|| case.ids(&mut line))
        .or_else(|| case.step())
        .or_else(|| case.push())
        .or_else(|| case.pull(&mut line))
        .or_else(|| case.source())
        .or_else(|| case.fetch())
        .or_else(|| case.lint(&mut line))
        .or_else(|| case.dockerfile(&mut line))
        .or_else(|| case.stage(&mut line))
        .or_else(|| case.base_image())
        .or_else(|| case.rejected(&mut line))
        .or_else(|| case.lost(exit))
        .or_else(|| case.refused_by_frontend())
        .unwrap_or_else(|| case.unknown(exit));
    let message = case.of_frontend(message);
    let line = line.or_else(|| case.line_of_image());
    let log = case
        .failed
        .as_ref()
        .filter(|_| has_output(reason))
        .map(|step| step.log.join("\n"))
        .filter(|log| !log.trim().is_empty());
    Verdict {
        failure: Failure {
            reason,
            message: bounded(shown(&message), MESSAGE_BYTES),
            step: case
                .step_text()
                .map(|text| bounded(shown(&text), MESSAGE_BYTES)),
            dockerfile_line: line,
            hint: hint(
                reason,
                case.step_text().as_deref(),
                log.as_deref(),
                &case.scripts(),
            )
            .or_else(|| outside::hint(&request.proxy, reason, error, log.as_deref()))
            .or_else(|| network::hint(reason, error, log.as_deref()))
            .map(|hint| shown(&hint)),
            log: log.map(|log| shown(&log)),
            image: None,
        },
        again,
    }
}

/// True where the output of the failed step helps.
fn has_output(reason: FailureReason) -> bool {
    use FailureReason as R;
    matches!(
        reason,
        R::StepFailed
            | R::OutOfMemory
            | R::CacheFull
            | R::BuildRejected
            | R::BuildFailed
            | R::SourceNotFound
            | R::SourceDenied
    )
}

impl Case<'_> {
    /// The Dockerfile instruction, as written, or as BuildKit names it.
    fn step_text(&self) -> Option<String> {
        let name = self.failed.as_ref().map(|failed| failed.name.as_str());
        let named = name.and_then(instruction);
        // BuildKit marks the FROM that it came by.
        if let Some(inherited) = named.filter(|text| text.starts_with(ONBUILD)) {
            return Some(inherited.to_owned());
        }
        self.excerpt.source.clone().or_else(|| {
            let failed = self.failed.as_ref()?;
            instruction(&failed.name).map(str::to_owned)
        })
    }

    /// The instruction that failed, with its variables written out where BuildKit did so.
    fn vertex(&self) -> &str {
        let failed = self.failed.as_ref();
        failed
            .and_then(|failed| instruction(&failed.name))
            .map(|text| text.strip_prefix(ONBUILD).unwrap_or(text))
            .unwrap_or_default()
    }

    /// The instruction of the Dockerfile that is to blame: where BuildKit says so, or that which failed.
    fn instruction(&self) -> Option<&Instruction> {
        match self.excerpt.line {
            Some(line) => self.lines.at(line),
            None => self.lines.of_vertex(&self.failed.as_ref()?.name),
        }
    }

    /// The line of it.
    fn line(&self) -> Option<i32> {
        let found = || self.instruction().map(|one| one.line);
        self.excerpt.line.or_else(found)
    }

    /// The scripts of the context, as the steps see them: a Dockerfile that deals with line ends may have mended them.
    fn scripts(&self) -> Vec<Script> {
        let text = self.facts.dockerfile.as_deref().unwrap_or_default();
        let mends = text.contains("\\r") || text.contains("dos2unix");
        let mut scripts = self.facts.scripts.clone();
        for script in scripts.iter_mut().filter(|_| mends) {
            let kept = script.first_line.trim_end_matches('\r').len();
            script.first_line.truncate(kept);
        }
        scripts
    }

    /// The line of an image that BuildKit looks for without saying where it is named: that of a mount.
    fn line_of_image(&self) -> Option<i32> {
        let (name, _) = self
            .error
            .split_once(": failed to resolve source metadata for ")?;
        let mut all = self.lines.instructions.iter();
        let by = all.find(|one| dockerfile::comes_from(&one.text, name))?;
        Some(by.line)
    }

    /// A line of the Dockerfile, for the start of a sentence.
    fn place(&self, line: Option<i32>) -> String {
        match line {
            Some(line) => format!("{} line {line}", self.request.inputs.dockerfile),
            None => self.request.inputs.dockerfile.clone(),
        }
    }

    /// What the daemon itself says: no command, no output.
    fn daemon(&self) -> &str {
        self.ended.unwrap_or(self.error)
    }

    /// The image of `# syntax=` is looked up as a base image is.
    fn of_frontend(&self, message: String) -> String {
        let failed = self.failed.as_ref().map(|failed| failed.name.as_str());
        match failed {
            Some(name) if name.starts_with("resolve image config for docker-image://") => {
                let message =
                    message.replacen("base image ", "the frontend of # syntax=, image ", 1);
                format!(
                    "{message}; without that line the builder's own frontend reads the Dockerfile"
                )
            }
            _ => message,
        }
    }

    fn unknown(&self, exit: Option<i32>) -> Finding {
        let message = match (self.error, exit) {
            ("", None) => "buildctl was killed by a signal, without output".into(),
            ("", Some(code)) => format!("buildctl exited with code {code}, without output"),
            (said, _) => match self.line() {
                Some(line) => format!("{}: {}", self.place(Some(line)), within(said)),
                None => within(said),
            },
        };
        (FailureReason::BuildFailed, message, Again::No)
    }
}

/// BuildKit's words with the paths within a step's files in the place of those on the builder's volume:
/// `/home/user/.local/share/buildkit/runc-overlayfs/cachemounts/buildkit2468/f` is `/f`.
fn within(said: &str) -> String {
    const MOUNTS: &str = "/cachemounts/buildkit";
    let mut out = String::new();
    let mut rest = said;
    while let Some((before, after)) = rest.split_once(MOUNTS) {
        let start = before.rfind([' ', '"', '\'']).map_or(0, |at| at + 1);
        out.push_str(&before[..start]);
        rest = after.trim_start_matches(|c: char| c.is_ascii_digit());
    }
    out.push_str(rest);
    out
}

/// An instruction in one line: without the line ends that continue it, and without its flags, which say
/// little about why it failed.
fn command(instruction: &str) -> String {
    let text: Vec<&str> = instruction
        .lines()
        .map(|line| line.trim().trim_end_matches('\\').trim_end())
        .filter(|line| !line.starts_with('#'))
        .collect();
    let text = text.join(" ");
    let mut words = text.split_whitespace();
    let keyword = words.next().unwrap_or_default();
    let rest: Vec<&str> = words.skip_while(|word| word.starts_with("--")).collect();
    format!("{keyword} {}", rest.join(" "))
        .trim_end()
        .to_owned()
}

/// Where the files of a source lie, for a sentence.
fn place(source: &Source) -> String {
    let within = |folder: Option<&str>, whole: &str| match folder {
        Some(folder) => format!("in {folder} of {whole}"),
        None => format!("in {whole}"),
    };
    if let Some(git) = &source.git {
        within(git.sub_path.as_deref(), &git.url)
    } else if let Some(oci) = &source.oci {
        within(oci.sub_path.as_deref(), &oci.image)
    } else if let Some(config_map) = &source.config_map {
        format!("in ConfigMap {}", config_map.name)
    } else if let Some(inline) = &source.inline {
        let names: Vec<&str> = inline.files.keys().map(String::as_str).collect();
        format!("among the inline files ({})", listed(&names))
    } else {
        "in the source".into()
    }
}

/// Without colors, and without what moves a terminal's cursor or turns text round: servers, registries, steps and
/// scripts are strangers.
fn shown(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            // A control sequence: ECMA-48, 5.4.
            '\u{1b}' if rest.next_if_eq(&'[').is_some() => {
                while rest.next_if(|c| (' '..='?').contains(c)).is_some() {}
                rest.next_if(|c| ('@'..='~').contains(c));
            }
            '\n' | '\t' => clean.push(c),
            c if turns_text(c) => {}
            c if c.is_control() => clean.push(' '),
            c => clean.push(c),
        }
    }
    clean
}

/// A failure that has nothing to do with a step.
pub fn plain(reason: FailureReason, message: String) -> Failure {
    Failure {
        reason,
        message: bounded(shown(&message), MESSAGE_BYTES),
        step: None,
        dockerfile_line: None,
        log: None,
        hint: None,
        image: None,
    }
}

/// Names for a sentence, at most ten.
fn listed<T: AsRef<str>>(names: &[T]) -> String {
    let mut text = names
        .iter()
        .take(10)
        .map(AsRef::as_ref)
        .collect::<Vec<_>>()
        .join(", ");
    if names.len() > 10 {
        text.push_str(", …");
    }
    if text.is_empty() { "none".into() } else { text }
}

#[cfg(test)]
mod git_tests;
#[cfg(test)]
mod mistakes_tests;
#[cfg(test)]
mod registry_cures_tests;
#[cfg(test)]
mod speakers_tests;
#[cfg(test)]
mod tests;
