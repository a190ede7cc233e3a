//! What stands beside `buildkitd` in the builder's Pod, under the names of programs that it starts.
//!
//! Without a process sandbox the steps of a build share the Pod's processes with the daemon and with each
//! other. Two programs are therefore replaced, by their names on the daemon's `PATH`:
//!
//! - `buildkit-runc` runs a step, and ends whatever the step has left behind before it says that the step is done.
//! - `git` opens credentials that were sealed ([`crate::seal`]), so that they never stand in an argument; beside it
//!   stands the helper that git asks for them.
//!
//! All else is handed to the program of that name that comes next on `PATH`.

mod git;
mod left;
mod steps;
mod volume;

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// The names under which [`install`] puts the program.
const NAMES: [&str; 3] = [git::NAME, git::HELPER, steps::NAME];

/// Runs the program that `name` (the first argument) stands for; none where it is not one of ours.
pub fn called_as(name: &OsStr, args: &[OsString]) -> Option<ExitCode> {
    match Path::new(name).file_name()?.to_str()? {
        git::NAME => Some(git::run(args)),
        git::HELPER => Some(git::help(args)),
        steps::NAME => Some(steps::run(args)),
        steps::CHILD => Some(steps::child(args)),
        _ => None,
    }
}

/// Copies the running program into `folder`, under the names that it stands for there.
///
/// # Errors
/// Where the folder cannot be written.
pub fn install(folder: &Path) -> std::io::Result<()> {
    let program = folder.join("whittle");
    // Under another name first: a container that starts again finds all of it, or makes it anew.
    let part = folder.join("whittle.part");
    std::fs::copy("/proc/self/exe", &part)?;
    std::fs::rename(&part, &program)?;
    for name in NAMES {
        let link = folder.join(name);
        if std::fs::symlink_metadata(&link).is_ok() {
            std::fs::remove_file(&link)?;
        }
        std::os::unix::fs::symlink("whittle", &link)?;
    }
    Ok(())
}

/// The first program of one of these names on `PATH` that is not ours.
fn real(names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    names.iter().find_map(|name| {
        std::env::split_paths(&path)
            .map(|folder| folder.join(name))
            .find(|found| found.is_file() && !is_own(found))
    })
}

/// True for a path that leads to this program.
fn is_own(path: &Path) -> bool {
    let own = std::fs::canonicalize("/proc/self/exe").ok();
    own.is_some() && std::fs::canonicalize(path).ok() == own
}

/// Becomes the program of one of these names; returns only where that fails.
fn become_real(names: &[&str], args: &[OsString], change: impl FnOnce(&mut Command)) -> ExitCode {
    let Some(program) = real(names) else {
        eprintln!("whittle: {} was not found on PATH", names[0]);
        return ExitCode::from(127);
    };
    let mut command = Command::new(&program);
    command.arg0(names[0]).args(args);
    change(&mut command);
    let error = command.exec();
    eprintln!("whittle: {} cannot be started: {error}", program.display());
    ExitCode::from(126)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_installed_under_each_name_also_a_second_time() {
        let folder = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            install(folder.path()).unwrap();
            for name in NAMES {
                let found = std::fs::canonicalize(folder.path().join(name)).unwrap();
                assert_eq!(
                    found,
                    std::fs::canonicalize(folder.path().join("whittle")).unwrap()
                );
            }
        }
        assert_eq!(
            std::fs::read_dir(folder.path()).unwrap().count(),
            1 + NAMES.len()
        );
    }

    #[test]
    fn only_our_own_names_are_taken() {
        assert!(called_as(OsStr::new("/usr/bin/whittle"), &[]).is_none());
        assert!(called_as(OsStr::new(""), &[]).is_none());
    }
}
