//! Users and groups that the builder does not know: numbers that are too large for it, and names where there are none.

use super::lines::Instruction;
use super::{Again, Case, Finding};
use whittle_api::FailureReason;

/// The largest user ID, and group ID, of a rootless builder: it has 65,536 of its node's.
pub(super) const LARGEST: u64 = 65_535;

/// A number that is too large, and what gives it.
struct Id {
    number: Option<u64>,
    /// For a sentence, for example `USER on line 2`.
    whose: String,
}

impl Case<'_> {
    pub(super) fn ids(&self, line: &mut Option<i32>) -> Option<Finding> {
        self.unknown_names().or_else(|| self.too_large(line))
    }

    /// BuildKit's words where it has no image in which it could look a name up.
    fn unknown_names(&self) -> Option<Finding> {
        if !self.daemon().contains("invalid user index") {
            return None;
        }
        let text = self.step_text().unwrap_or_default();
        let flag = text
            .split_whitespace()
            .find(|word| word.starts_with("--chown="));
        let flag = flag.unwrap_or("--chown");
        let linked = text
            .split_whitespace()
            .any(|word| word == "--link" || word == "--link=true");
        let why = match linked {
            true => {
                "with --link the stage's /etc/passwd is not read, so names of users and groups \
                    are unknown there"
            }
            false => {
                "this stage starts from scratch, so names of users and groups are unknown there"
            }
        };
        Some((
            FailureReason::BuildRejected,
            format!(
                "{}: {flag}: invalid user or group: {why}: use numbers, as in --chown=1000:1000",
                self.place(self.line())
            ),
            Again::No,
        ))
    }

    fn too_large(&self, line: &mut Option<i32>) -> Option<Finding> {
        let said = self.daemon();
        let told = said.contains("chown ") && said.contains(": invalid argument")
            || said.contains("uids and gids must be in range");
        // What runc says stands in the step's output: it counts where the Dockerfile says the same.
        let id = match (told, self.start_failed()) {
            (true, _) => self.id().unwrap_or(Id {
                number: None,
                whose: "the user of the base image, or of its /etc/passwd".into(),
            }),
            (false, true) => self.id()?,
            (false, false) => return None,
        };
        *line = line.or_else(|| self.mount_of_all().map(|(line, _)| line));
        let this = match id.number {
            Some(number) => format!("this is {number} ({})", id.whose),
            None => format!("that of {} is larger", id.whose),
        };
        Some((
            FailureReason::BuildRejected,
            format!(
                "{}: user ID too large: the builder supports IDs up to {LARGEST}, and {this}: use a \
                    smaller one; a Pod may still run as any ID (runAsUser), if group 0 may read \
                    the files",
                self.place(
                    self.line()
                        .or_else(|| self.mount_of_all().map(|(line, _)| line))
                )
            ),
            Again::No,
        ))
    }

    /// True where runc could not take on the step's user before it began.
    pub(super) fn start_failed(&self) -> bool {
        let log = self.failed.as_ref().map_or(&[][..], |step| &step.log);
        // A command that has these words itself may have printed them.
        self.ended == Some("exit code: 1")
            && !self.error.contains("unable to setup user")
            && matches!(log, [line] if line.starts_with("runc run failed: ")
                && line.contains(": unable to setup user: ") && line.ends_with(": invalid argument"))
    }

    /// The number that is too large, as far as the Dockerfile tells.
    fn id(&self) -> Option<Id> {
        let of_step = |text: &str| {
            text.split_whitespace().find_map(|word| {
                let chown = word.strip_prefix("--chown=").and_then(too_large);
                let id = |number, whose: &str| Id {
                    number: Some(number),
                    whose: whose.to_owned(),
                };
                chown
                    .map(|number| id(number, "--chown"))
                    .or_else(|| mount_id(word).map(|number| id(number, "--mount")))
            })
        };
        let text = self.step_text().unwrap_or_default();
        let expanded = self.expand(&text);
        of_step(self.vertex())
            .or_else(|| of_step(&expanded))
            .or_else(|| self.user_id())
            .or_else(|| {
                self.mount_of_all().map(|(line, number)| Id {
                    number: Some(number),
                    whose: format!("--mount on line {line}"),
                })
            })
    }

    /// The user that the step that failed has by a `USER` above it. One that is named counts where no number is known.
    fn user_id(&self) -> Option<Id> {
        let step = self.instruction()?;
        if text_of(step, "--chown=").is_some() {
            let name = self.expand(text_of(step, "--chown=")?);
            return Some(Id {
                number: None,
                whose: format!("{name} in the stage's /etc/passwd or /etc/group"),
            });
        }
        let (value, line) = self.lines.user(step)?;
        let value = self.expand(value);
        let number = too_large(&value);
        let named = || value.split(':').any(|part| part.parse::<u64>().is_err());
        (number.is_some() || named()).then(|| Id {
            number,
            whose: match number {
                Some(_) => format!("USER on line {line}"),
                None => format!("USER {value} on line {line}"),
            },
        })
    }

    /// Where nothing says which step it is: the first mount with such a number.
    fn mount_of_all(&self) -> Option<(i32, u64)> {
        let failed = self.failed.as_ref()?;
        if !failed.name.contains("cache mount") {
            return None;
        }
        self.lines.instructions.iter().find_map(|one| {
            let text = self.expand(&one.text);
            let number = text.split_whitespace().find_map(mount_id)?;
            Some((one.line, number))
        })
    }

    fn expand(&self, text: &str) -> String {
        self.lines.expand(text, &self.request.inputs.build_args)
    }
}

fn text_of<'a>(step: &'a Instruction, flag: &str) -> Option<&'a str> {
    step.text
        .split_whitespace()
        .find_map(|word| word.strip_prefix(flag))
}

/// The first number of `user:group` that is too large.
fn too_large(value: &str) -> Option<u64> {
    value
        .trim_matches(['"', '\''])
        .split(':')
        .filter_map(|part| part.parse().ok())
        .find(|number| *number > LARGEST)
}

/// The same of a `--mount=…,uid=…,gid=…`.
fn mount_id(word: &str) -> Option<u64> {
    word.strip_prefix("--mount=")?
        .split(',')
        .filter_map(|option| {
            option
                .strip_prefix("uid=")
                .or_else(|| option.strip_prefix("gid="))
        })
        .find_map(too_large)
}
