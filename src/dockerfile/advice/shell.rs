//! The shell text of a RUN, wherever the instruction has it: behind its flags, in a list, in here-documents.

use crate::reader::{Instruction, Text};
use whittle_image::shell;
pub(super) use whittle_image::shell::{Command, is_script_flag};
use whittle_image::shell::{Outline, base_name, command, outline};

/// What a RUN does.
#[derive(Clone, Debug, Default)]
pub(super) struct Script {
    /// The text that the places count in.
    pub(super) text: Text,
    outline: Outline,
}

impl std::ops::Deref for Script {
    type Target = Outline;

    fn deref(&self) -> &Outline {
        &self.outline
    }
}

/// Reads a RUN; none where no POSIX shell reads its text.
pub(super) fn script(run: &Instruction) -> Option<Script> {
    if let Some(words) = &run.json {
        return match words.as_slice() {
            [shell, flag, text] if is_shell(shell) && is_script_flag(flag) => {
                let mut outline = outline(text);
                // Its places count in the list's text, not in this one's: all on the first line.
                outline.commands.iter_mut().for_each(|c| c.at = 0);
                outline.uses.iter_mut().for_each(|u| u.at = 0);
                let text = run.rest.clone();
                Some(Script { text, outline })
            }
            words => Some(Script {
                text: run.rest.clone(),
                outline: Outline {
                    commands: command(words.to_vec(), 0).into_iter().collect(),
                    ..Outline::default()
                },
            }),
        };
    }
    let mut text = run.rest.clone();
    match run.heredocs.as_slice() {
        [] => {}
        [only] if is_one_word(&run.rest.text) => {
            // The here-document is the script, whether its end is quoted or not.
            text = only.body.clone();
            let first = text.text.lines().next().unwrap_or_default();
            if let Some(interpreter) = first.trim_start().strip_prefix("#!") {
                let shell = interpreter
                    .split_whitespace()
                    .map(base_name)
                    .find(|word| *word != "env" && !word.starts_with('-'));
                if !shell.is_some_and(is_shell) {
                    return None;
                }
            }
        }
        [only] if feeds_a_shell(&run.rest.text) => text = only.body.clone(),
        several => {
            for doc in several {
                let mut end = Text::default();
                end.text = "\n".into();
                text = join(text, &end);
                text = join(text, &doc.body);
                let mut name = Text::default();
                name.text.clone_from(&doc.name);
                text = join(text, &name);
            }
        }
    }
    let outline = outline(&text.text);
    Some(Script { text, outline })
}

fn join(mut text: Text, more: &Text) -> Text {
    text.append(more);
    text
}

fn is_one_word(text: &str) -> bool {
    let end = text.trim_start_matches("<<").trim_start_matches('-');
    text.starts_with("<<") && !end.trim().contains([' ', '\t', '>', '<', '|', '&', ';'])
}

/// True for `bash -e <<EOF` and `<<EOF sh`: the here-document is what the shell runs.
fn feeds_a_shell(text: &str) -> bool {
    let outline = outline(text);
    let [command] = outline.commands.as_slice() else {
        return false;
    };
    let mut option = false;
    is_shell(command.program())
        && !text.contains(['>', '|'])
        && command.args().all(|word| {
            let good = option || (word.starts_with('-') && !is_script_flag(word));
            option = word.starts_with('-') && word.ends_with('o');
            good || word == "-"
        })
}

pub(super) fn is_shell(program: &str) -> bool {
    shell::is_shell(base_name(program))
}

#[cfg(test)]
#[path = "shell_tests.rs"]
mod tests;
