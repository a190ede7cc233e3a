//! Steps that ran and failed.

use super::ids::LARGEST;
use super::{Again, Case, Finding, command, place, within};
use whittle_api::{FailureReason, bounded};

/// What stands between the command and how it ended.
const ENDED: &str = "\" did not complete successfully: ";
/// The exit code of a process whose end has none: BuildKit takes the -1 of one that a signal ended as a number
/// without sign. No process can choose it; one that has all rights of its builder may end what watches it, and has
/// its own builder's cache pruned by that.
pub(super) const NO_EXIT_CODE: &str = "exit code: 4294967295";

/// How the process of a step ended, where that is the error: `exit code: 3`, or why it could not be started.
///
/// The command before it is quoted, so it cannot hold a closing quote of its own.
pub(super) fn ended(error: &str) -> Option<&str> {
    let (before, how) = error.rsplit_once(ENDED)?;
    before
        .contains("process \"")
        .then(|| how.lines().next().unwrap_or(how))
}

impl Case<'_> {
    pub(super) fn step(&self) -> Option<Finding> {
        let how = self.ended?;
        self.memory(how)
            .or_else(|| self.foreign(how))
            .or_else(|| self.mounted(how))
            .or_else(|| Some(self.failed_step(how)))
    }

    /// The step, for the start of a sentence.
    fn what(&self) -> String {
        let place = match self.line() {
            Some(line) => self.place(Some(line)),
            None => "a RUN step".into(),
        };
        let what = bounded(command(&self.step_text().unwrap_or_default()), 200);
        match what.as_str() {
            "" => place,
            _ => format!("{place}: {what}"),
        }
    }

    fn failed_step(&self, how: &str) -> Finding {
        let what = self.what();
        let message = if self.start_failed() {
            format!(
                "{what} cannot start: user ID too large: the builder supports IDs up to \
                    {LARGEST}, and the base image's user or group is larger: set a USER with a \
                    smaller ID above it"
            )
        } else if let Some(code) = how.strip_prefix("exit code: ") {
            match how == NO_EXIT_CODE {
                true => format!("{what} was killed, together with its runtime"),
                false => format!("{what} failed with exit code {code}{}", signal(code)),
            }
        } else if how.starts_with("unable to find ") {
            format!(
                "{what} cannot start: {how}: USER not found in this stage's image. Create it in \
                    a RUN above (adduser, addgroup), or use numbers"
            )
        } else {
            format!("{what} cannot run: {}", within(how))
        };
        (FailureReason::StepFailed, message, Again::No)
    }

    /// A process that the kernel has killed, as no step does by itself.
    fn memory(&self, how: &str) -> Option<Finding> {
        if how != "exit code: 137" && !how.ends_with("cannot allocate memory") {
            return None;
        }
        // The daemon of a platform has an address of its own.
        let address = &self.request.builder_address;
        let mut natives = self.request.natives.iter();
        let native = natives.find(|it| it.address.as_ref() == Some(address));
        let name = native.map_or(&self.request.inputs.builder, |it| &it.builder);
        let field = native.and_then(|it| it.memory_field.as_deref());
        let field = field.unwrap_or("spec.resources.limits.memory of the Builder");
        let builder = format!("Builder {name}");
        let whose = match &self.request.builder_memory {
            Some(limit) => format!("the memory limit {limit} of {builder}"),
            None => format!("the memory limit of {builder}, or of its node,"),
        };
        Some((
            FailureReason::OutOfMemory,
            format!(
                "{} was killed ({how}), most likely out of memory, because {whose} was exceeded: raise {field}, or let the step do less at once",
                self.what()
            ),
            Again::No,
        ))
    }

    /// A shell that the kernel cannot start is for another machine: no shell is a script without `#!`.
    ///
    /// That it was runc who said so, and not the step, is told by its being all that was said, with runc's own exit code
    /// for it, about the very program that BuildKit started.
    fn foreign(&self, how: &str) -> Option<Finding> {
        let log = &self.failed.as_ref()?.log;
        let [line] = log.as_slice() else {
            return None;
        };
        let shell = line
            .strip_prefix("exec ")?
            .strip_suffix(": exec format error")?;
        let started = format!("process \"{shell} ");
        let is_shell = shell.starts_with('/') && shell.ends_with("sh") && !shell.contains('.');
        // A command that has these words itself may have printed them.
        let own = self.error.contains("exec format error");
        (how == "exit code: 255" && is_shell && !own && self.error.contains(&started)).then(|| {
            (
                FailureReason::BuildRejected,
                format!(
                    "exec format error: {} starts a program for another platform than the builder's: begin stages \
                     that have RUN with FROM --platform=$BUILDPLATFORM, and cross-compile",
                    self.what()
                ),
                Again::No,
            )
        })
    }

    /// A mount of something that is not there.
    fn mounted(&self, how: &str) -> Option<Finding> {
        let (before, _) = how.split_once(": no such file or directory")?;
        let path = before
            .strip_prefix("open /")
            .or_else(|| before.strip_prefix("lstat /"))?;
        let text = self.step_text()?;
        let mount = text
            .split_whitespace()
            .filter_map(|word| word.strip_prefix("--mount="))
            .find(|mount| {
                mount.split(',').any(|option| {
                    let source = option
                        .strip_prefix("source=")
                        .or_else(|| option.strip_prefix("src="));
                    source.is_some_and(|it| it.trim_matches('/') == path.trim_matches('/'))
                })
            })?;
        let from = mount
            .split(',')
            .find_map(|option| option.strip_prefix("from="));
        let where_ = match from {
            Some(from) => self.of_stage(from),
            None => place(&self.request.inputs.source),
        };
        Some((
            FailureReason::CopySourceNotFound,
            format!(
                "{}: /{path} not found {where_}: check the path of --mount",
                self.place(self.line())
            ),
            Again::No,
        ))
    }
}

/// What an exit code above 128 means, where a signal of that number tells something.
fn signal(code: &str) -> &'static str {
    match code {
        "132" => " (SIGILL: a program uses instructions that this processor does not have)",
        "134" => " (SIGABRT: a program aborted)",
        "135" => " (SIGBUS: most likely a full /dev/shm)",
        "139" => " (SIGSEGV: a program crashed)",
        "141" => " (SIGPIPE: broken pipe)",
        "143" => " (SIGTERM: a program was terminated)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_a_step_ended_is_told_from_what_its_command_says() {
        for (error, how) in [
            (
                r#"process "/bin/sh -c x" did not complete successfully: exit code: 3"#,
                Some("exit code: 3"),
            ),
            (
                r#"process "/bin/sh -c echo '\" did not complete successfully: y'" did not complete successfully: exit code: 1"#,
                Some("exit code: 1"),
            ),
            ("failed to compute cache key: no such thing", None),
            (r#"x" did not complete successfully: y"#, None),
        ] {
            assert_eq!(ended(error), how, "{error}");
        }
    }
}
