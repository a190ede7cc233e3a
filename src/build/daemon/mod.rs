//! What stands beside `buildkitd` in the builder's Pod, under the names of programs that it starts.
//!
//! Without a process sandbox the steps of a build share the Pod's processes with the daemon and with each
//! other. Two programs are therefore replaced, by their names on the daemon's `PATH`:
//!
//! - `buildkit-runc` runs a step, and ends whatever the step has left behind before it says that the step is done.
//! - `git` opens credentials that were sealed (`crate::seal`), so that they never stand in an argument; beside it
//!   stands the helper that git asks for them.
//!
//! All else is handed to the program of that name that comes next on `PATH`.

mod bolt;
mod git;
mod left;
mod lookup;
mod reserve;
pub mod start;
pub mod state;
mod steps;
mod submodules;
mod trusted;
mod volume;

use std::ffi::{OsStr, OsString};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus};

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

/// Folders of BuildKit's that lie in its state and hold those of images, for each way to keep them
/// (<https://github.com/moby/buildkit/blob/v0.33.1/cmd/buildkitd/main_oci_worker.go>).
const SNAPSHOTS: [&str; 3] = ["runc-overlayfs", "runc-fuse-overlayfs", "runc-native"];

/// Takes the set-group-ID bit off the folders in the daemon's state that folders of images are made in. The kubelet gives
/// a volume to the Pod's group (`fsGroup`) by that bit, and every folder takes it on from the one that it is made in: each
/// `COPY` and `RUN mkdir` would make folders of mode 2755. The state's own folder keeps it, or the kubelet would hand out
/// all of the volume anew at every start.
///
/// # Errors
/// Where a folder cannot be made or changed.
pub fn settle(state: &Path) -> std::io::Result<()> {
    let make = |folder: &Path| match std::fs::DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    };
    make(state)?;
    for name in SNAPSHOTS {
        let mut folder = state.join(name);
        make(&folder)?;
        // `NAME/snapshots/snapshots` holds one folder for each layer.
        for below in ["", "snapshots", "snapshots"] {
            if !below.is_empty() {
                folder.push(below);
            }
            let Ok(found) = std::fs::symlink_metadata(&folder) else {
                break;
            };
            let mode = found.permissions().mode() & 0o7777;
            if found.is_dir() && mode & 0o2000 != 0 {
                let plain = std::fs::Permissions::from_mode(mode & !0o2000);
                std::fs::set_permissions(&folder, plain)?;
            }
        }
    }
    Ok(())
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
    let mut command = match real_command(names) {
        Ok(command) => command,
        Err(code) => return code,
    };
    change(command.args(args));
    let error = command.exec();
    not_started(&command, &error)
}

/// The program of one of these names, without arguments.
fn real_command(names: &[&str]) -> Result<Command, ExitCode> {
    let Some(program) = real(names) else {
        eprintln!("whittle: {} not found in PATH", names[0]);
        return Err(ExitCode::from(127));
    };
    let mut command = Command::new(&program);
    command.arg0(names[0]);
    Ok(command)
}

fn not_started(command: &Command, error: &std::io::Error) -> ExitCode {
    let program = command.get_program().display();
    eprintln!("whittle: {program} cannot be started: {error}");
    ExitCode::from(126)
}

/// How a program ended, as a shell would say it.
fn code_of(status: ExitStatus) -> ExitCode {
    let signal = || status.signal().map(|signal| 128 + signal);
    let code = status.code().or_else(signal).unwrap_or(1);
    ExitCode::from(u8::try_from(code).unwrap_or(1))
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
    fn folders_of_images_take_on_no_group_from_the_volume() {
        let state = tempfile::tempdir().unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        let of_group = std::fs::Permissions::from_mode(0o2775);
        std::fs::set_permissions(state.path(), of_group).unwrap();
        // A volume from before, and one that is new.
        let old = state.path().join("runc-overlayfs/snapshots/snapshots");
        std::fs::create_dir_all(&old).unwrap();
        assert_eq!(mode(&old) & 0o2000, 0o2000);
        for _ in 0..2 {
            settle(state.path()).unwrap();
            for name in SNAPSHOTS {
                assert_eq!(mode(&state.path().join(name)) & 0o2000, 0, "{name}");
            }
            assert_eq!(mode(&old) & 0o2000, 0);
            assert_eq!(mode(&state.path().join("runc-native")), 0o700);
        }
        assert_eq!(mode(state.path()), 0o2775);
        let layer = old.join("1/fs/src");
        std::fs::create_dir_all(&layer).unwrap();
        assert_eq!(mode(&layer) & 0o2000, 0);
    }

    #[test]
    fn only_our_own_names_are_taken() {
        assert!(called_as(OsStr::new("/usr/bin/whittle"), &[]).is_none());
        assert!(called_as(OsStr::new(""), &[]).is_none());
    }
}
