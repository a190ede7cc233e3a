//! Completion: for shells, and for `kubectl imagebuild`, which asks a program named `kubectl_complete-imagebuild`.
//!
//! The shell's script asks this program, so that what it offers is of this version, and names are those of the cluster.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use clap::Command;
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate, complete};
use clap_complete::env::{CompleteEnv, Shells};

/// Set by the shell's script: the shell that asks.
const VARIABLE: &str = "WHITTLE_COMPLETE";
/// The name under which kubectl finds it as a plugin.
const PLUGIN: &str = "kubectl-imagebuild";
/// The name under which kubectl asks it for completions
/// (<https://kubernetes.io/docs/tasks/extend-kubectl/kubectl-plugins/>).
const KUBECTL: &str = "kubectl_complete-imagebuild";
/// So long names are waited for: somebody has pressed Tab.
const NAMES: Duration = Duration::from_secs(2);
/// Names that are offered, at most.
const MOST: u32 = 500;

/// A shell.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shell {
    /// Bash.
    Bash,
    /// Zsh.
    Zsh,
    /// Fish.
    Fish,
    /// PowerShell.
    #[value(name = "powershell")]
    Power,
}

/// The command line under the name that it was called by.
pub(crate) fn named(command: Command, program: &OsStr) -> Command {
    match Path::new(program).file_stem() {
        Some(stem) if stem == PLUGIN => command.name(PLUGIN).bin_name("kubectl imagebuild"),
        _ => command,
    }
}

/// Answers where a shell or kubectl asks for completions; true where that was all there is to do.
pub(crate) fn answered(command: impl Fn() -> Command, words: &[OsString]) -> bool {
    let stem = words.first().and_then(|it| Path::new(it).file_stem());
    if stem == Some(OsStr::new(KUBECTL)) {
        let mut out = std::io::stdout().lock();
        // Whoever asked may be gone.
        let _ = out.write_all(for_kubectl(command(), &words[1..]).as_bytes());
        return true;
    }
    let asked = CompleteEnv::with_factory(command).var(VARIABLE);
    let here = std::env::current_dir().ok();
    asked
        .try_complete(words.to_vec(), here.as_deref())
        .unwrap_or_else(|error| error.exit())
}

/// A line for each candidate, and a directive: no files are to be offered besides (cobra's ShellCompDirectiveNoFileComp).
fn for_kubectl(mut command: Command, words: &[OsString]) -> String {
    let mut all = vec![OsString::from(PLUGIN)];
    all.extend(words.iter().cloned());
    let last = all.len() - 1;
    let found = complete(&mut command, all, last, None).unwrap_or_default();
    let mut text = String::new();
    for candidate in found {
        text.push_str(&candidate.get_value().to_string_lossy());
        if let Some(help) = candidate.get_help() {
            text.push('\t');
            text.push_str(help.to_string().lines().next().unwrap_or_default());
        }
        text.push('\n');
    }
    text + ":4\n"
}

/// The script for a shell.
pub(crate) fn script(shell: Shell) -> std::io::Result<String> {
    let name = match shell {
        Shell::Bash => "bash",
        Shell::Zsh => "zsh",
        Shell::Fish => "fish",
        Shell::Power => "powershell",
    };
    let shells = Shells::builtins();
    let shell = shells.completer(name).expect("clap has these four");
    let mut text = vec![];
    shell.write_registration(VARIABLE, "whittle", "whittle", "whittle", &mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Offers the names of the namespace's ImageBuilds.
pub(crate) fn builds() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| names("imagebuilds", current))
}

/// Offers the names of the namespace's Builders.
pub(crate) fn builders() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| names("builders", current))
}

/// What begins with what stands there already. Without a cluster there is nothing to offer, and nothing to say.
fn names(kind: &'static str, current: &OsStr) -> Vec<CompletionCandidate> {
    let current = current.to_string_lossy().into_owned();
    let found = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .ok()?;
        let _ = rustls::crypto::ring::default_provider().install_default();
        let found = runtime.block_on(async {
            tokio::time::timeout(NAMES, crate::cluster::names(kind, MOST))
                .await
                .ok()?
                .ok()
        });
        runtime.shutdown_background();
        found
    });
    let found = found.join().ok().flatten().unwrap_or_default();
    let fits = found.into_iter().filter(|name| name.starts_with(&current));
    fits.map(CompletionCandidate::new).collect()
}

/// Writes a man page for each command into a directory.
pub(crate) fn man(command: Command, folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    clap_mangen::generate_to(command, folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubectl_is_offered_commands_and_flags_and_no_files() {
        let offered = |words: &[&str]| {
            let words: Vec<OsString> = words.iter().map(OsString::from).collect();
            for_kubectl(crate::command(), &words)
        };
        let text = offered(&["stat"]);
        assert!(
            text.starts_with("status\t") && text.ends_with("\n:4\n"),
            "{text}"
        );
        let text = offered(&["wait", "--time"]);
        assert!(text.starts_with("--timeout"), "{text}");
        assert!(
            !offered(&[""]).contains("delete-old"),
            "hidden commands are not offered"
        );
    }

    #[test]
    fn each_shell_has_a_script_that_asks_this_program() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish, Shell::Power] {
            let script = script(shell).unwrap();
            assert!(
                script.contains(VARIABLE) && script.contains("whittle"),
                "{script}"
            );
        }
    }

    #[test]
    fn the_plugin_calls_itself_as_kubectl_does() {
        let usage = named(crate::command(), OsStr::new("/bin/kubectl-imagebuild"))
            .render_usage()
            .to_string();
        assert!(usage.contains("kubectl imagebuild"), "{usage}");
        let usage = named(crate::command(), OsStr::new("whittle"))
            .render_usage()
            .to_string();
        assert!(usage.contains("whittle"), "{usage}");
    }

    #[test]
    fn each_command_that_is_not_hidden_has_a_man_page_and_an_example() {
        let folder = tempfile::tempdir().unwrap();
        man(crate::command(), folder.path()).unwrap();
        for command in crate::command()
            .get_subcommands()
            .filter(|it| !it.is_hide_set())
        {
            let page = folder
                .path()
                .join(format!("whittle-{}.1", command.get_name()));
            assert!(page.exists(), "{}", page.display());
        }
    }
}
