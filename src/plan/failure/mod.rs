//! What a failed run of buildctl means: its words → a reason of the closed list, and a message that
//! names the thing, the cause and the next step.
//!
//! The words are those of BuildKit 0.33; the tests hold what it really printed. What is not known here
//! becomes `BuildFailed` with BuildKit's own words.

mod excerpt;
mod git;
mod hints;
mod images;
mod registry;
mod stages;
mod submodule;

pub use images::{PushFault, push_failure};
use stages::{from_dockerfile, nearest};

use excerpt::{Excerpt, error, excerpt, quoted_after};
use hints::hint;
use registry::{Fault, fault};

use super::rawjson::{FailedStep, State, instruction};
use super::request::BuildRequest;
use crate::api::{Failure, FailureReason, Source, bounded};

/// Bytes of a message, and of a step, at most.
const MESSAGE_BYTES: usize = 1000;

/// What the runner knows besides BuildKit's words.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Text of the Dockerfile, where it is known.
    pub dockerfile: Option<String>,
    /// For which registries the registry Secret has credentials, as its keys say it.
    pub credentials: Vec<String>,
    /// What else that Secret holds: for those who expect more of it.
    pub secret: SecretNotes,
}

/// What a registry Secret holds that is no password.
#[derive(Clone, Debug, Default)]
pub struct SecretNotes {
    /// Entries without a password: the key, and why.
    pub unusable: Vec<(String, String)>,
    /// Programs that would have one: the host, or nothing for all hosts, and the program.
    pub helpers: Vec<(String, String)>,
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
    error: &'a str,
    excerpt: Excerpt,
    failed: Option<FailedStep>,
}

/// A reason, a message, and whether to try again.
type Finding = (FailureReason, String, Again);

/// Says why buildctl failed. `state` has read all that it printed; `exit` is its exit code, none where
/// a signal ended it.
pub fn verdict(state: &State, exit: Option<i32>, request: &BuildRequest, facts: &Facts) -> Verdict {
    let case = Case {
        request,
        facts,
        error: error(state.text()),
        excerpt: excerpt(state.text()),
        failed: state.failed(),
    };
    let (reason, message, again) = case
        .cache_full()
        .or_else(|| case.push())
        .or_else(|| case.source())
        .or_else(|| case.dockerfile())
        .or_else(|| case.stage())
        .or_else(|| case.copy())
        .or_else(|| case.base_image())
        .or_else(|| case.rejected())
        .or_else(|| case.step())
        .or_else(|| case.lost(exit))
        .unwrap_or_else(|| case.unknown(exit));
    let log = case
        .failed
        .as_ref()
        .filter(|_| has_output(reason))
        .map(|step| step.log.join("\n"))
        .filter(|log| !log.trim().is_empty());
    Verdict {
        failure: Failure {
            reason,
            message: bounded(message, MESSAGE_BYTES),
            step: case.step_text().map(|text| bounded(text, MESSAGE_BYTES)),
            dockerfile_line: case.excerpt.line,
            hint: hint(reason, case.step_text().as_deref(), log.as_deref()),
            log,
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
        self.excerpt.source.clone().or_else(|| {
            let failed = self.failed.as_ref()?;
            instruction(&failed.name).map(str::to_owned)
        })
    }

    fn cache_full(&self) -> Option<Finding> {
        // A step's shared memory is not on the volume.
        let full = |text: &str| {
            text.to_lowercase().contains("no space left on device") && !text.contains("/dev/shm")
        };
        let step = self.failed.as_ref();
        let found = full(self.error)
            || step.is_some_and(|step| full(&step.error) || step.log.iter().any(|l| full(l)));
        found.then(|| {
            (
                FailureReason::CacheFull,
                "the builder's cache volume is full, also after pruning: give the Builder a larger \
                 cache.size, or build less at once"
                    .into(),
                Again::Pruned,
            )
        })
    }

    fn dockerfile(&self) -> Option<Finding> {
        let request = self.request;
        if self.error.starts_with("failed to read dockerfile: open ")
            || self.error.contains("failed to read dockerfile: ")
                && self.error.contains("no such file")
        {
            let place = place(&request.source);
            return Some((
                FailureReason::DockerfileNotFound,
                format!(
                    "there is no {} {place}: set spec.dockerfile to its path within the source",
                    request.dockerfile
                ),
                Again::No,
            ));
        }
        const SYNTAX: [&str; 9] = [
            "dockerfile parse error",
            "no build stage in current context",
            "the Dockerfile cannot be empty",
            "file with no instructions",
            "should not be blank",
            "circular dependency detected on stage",
            "failed to parse stage name",
            "failed to process",
            "invalid reference format",
        ];
        SYNTAX
            .iter()
            .any(|words| self.error.contains(words))
            .then(|| {
                let line = self.excerpt.line.map_or(String::new(), |n| format!(":{n}"));
                let said = self.error.lines().next().unwrap_or_default();
                let said = match said.split_once("parse error on line ") {
                    Some((_, rest)) => rest.split_once(": ").map_or(rest, |(_, words)| words),
                    None => said,
                };
                (
                    FailureReason::DockerfileSyntax,
                    format!("{}{line}: {said}", request.dockerfile),
                    Again::No,
                )
            })
    }

    fn stage(&self) -> Option<Finding> {
        let stages = self
            .facts
            .dockerfile
            .as_deref()
            .map(from_dockerfile)
            .unwrap_or_default();
        let it_has = |name: &str| match (nearest(name, &stages), stages.is_empty()) {
            (_, true) => String::new(),
            (Some(near), _) => format!("; did you mean {near}? It has {}", listed(&stages)),
            (None, _) => format!("; it has {}", listed(&stages)),
        };
        if let Some(target) = quoted_after(self.error, "target stage ") {
            return Some((
                FailureReason::StageNotFound,
                format!(
                    "stage \"{target}\" is not in the Dockerfile{}: change spec.target",
                    it_has(target)
                ),
                Again::No,
            ));
        }
        // `COPY --from=name`: BuildKit takes a name that is no stage for an image.
        let name = self
            .error
            .split(": failed to resolve source metadata for ")
            .next()?;
        let bare = !name.is_empty() && !name.contains(['/', ':', '@', ' ', '.']);
        let from = self.excerpt.source.as_deref().is_some_and(|source| {
            let word = source.split_whitespace().next().unwrap_or_default();
            !word.eq_ignore_ascii_case("FROM") && source.contains(&format!("from={name}"))
        });
        // A mount's `from=` comes without an excerpt, but then with no FROM of that name.
        let mount = self.excerpt.source.is_none() && !stages.is_empty();
        (bare
            && (from || mount)
            && self
                .error
                .contains(": failed to resolve source metadata for "))
        .then(|| {
            (
                FailureReason::StageNotFound,
                format!(
                    "stage \"{name}\" is not in the Dockerfile{}; nor is there an image of that name",
                    it_has(name)
                ),
                Again::No,
            )
        })
    }

    fn copy(&self) -> Option<Finding> {
        let missing = quoted_after(
            &self.error[self.error.find("failed to calculate checksum of ref ")?..],
            ": ",
        )?;
        let missing = missing.trim_start_matches('/');
        let step = self.step_text().unwrap_or_default();
        let from = step
            .split_whitespace()
            .find_map(|word| word.strip_prefix("--from="));
        let (place, hint) = match from {
            Some(stage) => (format!("in {stage}"), "check the path there"),
            None => (
                place(&self.request.source),
                "the path counts from the context's root, and .dockerignore may leave it out",
            ),
        };
        Some((
            FailureReason::CopySourceNotFound,
            format!("/{missing} is not {place}: {hint}"),
            Again::No,
        ))
    }

    fn rejected(&self) -> Option<Finding> {
        let said = self.error.lines().next().unwrap_or_default();
        if let Some(id) = said
            .strip_prefix("secret ")
            .and_then(|r| r.strip_suffix(": not found"))
        {
            let ids: Vec<&str> = self.request.secrets.iter().map(|s| s.id.as_str()).collect();
            let given = if ids.is_empty() {
                "gives none".into()
            } else {
                format!("gives {}", listed(&ids))
            };
            return Some((
                FailureReason::BuildRejected,
                format!("the Dockerfile asks for the secret \"{id}\", but spec.secrets {given}"),
                Again::No,
            ));
        }
        if let Some(what) = said
            .strip_prefix("failed to load LLB: ")
            .and_then(|rest| rest.strip_suffix(" is not allowed"))
        {
            return Some((
                FailureReason::BuildRejected,
                format!("the Dockerfile asks for {what}, which builders never grant: take it out"),
                Again::No,
            ));
        }
        let log = self.failed.as_ref().map_or(&[][..], |step| &step.log);
        let foreign = log.iter().any(|line| line.contains("exec format error"))
            || said.contains("exec format error");
        foreign.then(|| {
            (
                FailureReason::BuildRejected,
                "a RUN step starts a program of another platform than the builder's: let stages with \
                 RUN begin with FROM --platform=$BUILDPLATFORM and cross-compile"
                    .into(),
                Again::No,
            )
        })
    }

    fn step(&self) -> Option<Finding> {
        let ended = self.error.find("did not complete successfully: ")?;
        let how = &self.error[ended + "did not complete successfully: ".len()..];
        let how = how.lines().next().unwrap_or(how);
        if how.contains("cannot allocate memory") || how == "exit code: 137" {
            return Some((
                FailureReason::OutOfMemory,
                format!(
                    "a RUN step was killed ({how}), most often because the builder's memory limit was \
                     hit: raise resources.limits.memory of the Builder, or let the step do less at once"
                ),
                Again::No,
            ));
        }
        let place = match self.excerpt.line {
            Some(line) => format!("{} line {line}", self.request.dockerfile),
            None => "a RUN step".into(),
        };
        let what = bounded(command(&self.step_text().unwrap_or_default()), 200);
        let how = how.replace("exit code: ", "exit code ");
        Some((
            FailureReason::StepFailed,
            format!("{place}: {what} ended with {how}"),
            Again::No,
        ))
    }

    fn lost(&self, exit: Option<i32>) -> Option<Finding> {
        let error = self.error;
        let lost = error.starts_with("listing workers for Build: ")
            || error.starts_with("Unavailable: ")
            || error.starts_with("Canceled: ")
            || error.contains("error reading from server: EOF")
            || error.contains("transport is closing")
            || error.contains("no active session for ")
            || error.contains("no active sessions")
            || error.contains("graceful_stop");
        // Before anything has begun, the builder may just be coming up.
        let never_there = error.starts_with("listing workers for Build: ");
        (exit.is_some() && lost).then(|| {
            let said = error.lines().next().unwrap_or_default();
            let said = said.rsplit_once("desc = ").map_or(said, |(_, said)| said);
            let said = said.strip_prefix("Unavailable: ").unwrap_or(said);
            let (what, again) = match (never_there, fault(error)) {
                (true, Fault::Untrusted) => ("the builder cannot be reached", Again::No),
                (true, _) => ("the builder cannot be reached", Again::Later),
                (false, _) => ("the connection to the builder broke", Again::No),
            };
            (
                FailureReason::BuilderLost,
                format!("{what}: {}", said.trim_matches('"')),
                again,
            )
        })
    }

    fn unknown(&self, exit: Option<i32>) -> Finding {
        let message = match (self.error, exit) {
            ("", None) => "buildctl was ended by a signal and said nothing".into(),
            ("", Some(code)) => format!("buildctl ended with exit code {code} and said nothing"),
            (said, _) => said.to_owned(),
        };
        (FailureReason::BuildFailed, message, Again::No)
    }
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

/// A failure that has nothing to do with a step.
pub fn plain(reason: FailureReason, message: String) -> Failure {
    Failure {
        reason,
        message: bounded(message, MESSAGE_BYTES),
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
mod registry_cures_tests;
#[cfg(test)]
mod tests;
