//! Stands in runc's place: a step that has ended leaves no process behind.
//!
//! Without a process sandbox a step has no PID namespace whose end would take its processes along. So this
//! program makes itself the one to which the kernel gives processes whose parents have gone
//! (`PR_SET_CHILD_SUBREAPER`, prctl(2)), waits for runc, and ends all that it has been given then. Only after
//! that does BuildKit hear that the step is done: no later step runs beside what an earlier one has left. And since a
//! step may end this program, too, what such a step has left is ended before the next one begins ([`super::left`]).
//!
//! And it tells whether the daemon's volume was full meanwhile ([`super::volume`]): of a step that fails for that, BuildKit
//! knows an exit code alone. Then it also gives the daemon room to prune it ([`super::reserve`]).

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use rustix::process::{
    Pid, Signal, WaitOptions, getpid, getppid, kill_process, set_child_subreaper,
    set_parent_process_death_signal, wait,
};

use super::reserve::Reserve;
use super::volume::Volume;
use super::{become_real, left, real};
use crate::failure::STEP_FULL;

/// The name on `PATH`: the first that BuildKit looks for.
pub(super) const NAME: &str = "buildkit-runc";
/// As what the program calls itself to become runc.
pub(super) const CHILD: &str = "whittle-step";
/// The names of the real program.
pub(super) const RUNC: [&str; 2] = [NAME, "runc"];
/// How long the processes that a step has left may take to end: they are killed, and only one that the kernel holds
/// takes longer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs runc; where it runs a container, ends what is left of it.
pub(super) fn run(args: &[OsString]) -> ExitCode {
    if !is_run(args) || real(&RUNC).is_none() {
        return become_real(&RUNC, args, |_| {});
    }
    let left = end(|kill| left::left(&left::all(), own()).into_iter().for_each(kill));
    if left > 0 {
        eprintln!(
            "whittle: cannot kill {left} processes that another step left behind: this step is \
                not started"
        );
        return ExitCode::FAILURE;
    }
    if let Err(error) = set_child_subreaper(Some(getpid())) {
        eprintln!("whittle: cannot become the subreaper of this step's processes: {error}");
        return ExitCode::FAILURE;
    }
    let bundle = bundle(args);
    let reserve = bundle.as_deref().and_then(Reserve::beside);
    if let Some(reserve) = &reserve {
        reserve.keep();
    }
    let child = Command::new("/proc/self/exe")
        .arg0(CHILD)
        .arg(own().to_string())
        .args(args)
        .spawn();
    let child = match child {
        Ok(child) => child,
        Err(error) => {
            eprintln!("whittle: runc cannot be started: {error}");
            return ExitCode::from(126);
        }
    };
    let volume = bundle.map(Volume::watch);
    let code = end_of(child.id());
    let full = volume.is_some_and(Volume::was_full);
    if let Some(reserve) = reserve.filter(|_| full) {
        reserve.give();
    }
    let left = end(descendants);
    if left > 0 {
        eprintln!("whittle: cannot kill {left} processes that this step left behind");
        return ExitCode::FAILURE;
    }
    if full && code != 0 {
        // A step can print anything and end with any code. So this program ends as no step does, by a signal: BuildKit
        // tells that, and the runner reads the line then. It stands alone: what comes before it may have no line end.
        let _ = std::io::stderr().write_all(format!("\n{STEP_FULL}\n").as_bytes());
        signal(own(), Signal::KILL);
    }
    ExitCode::from(code)
}

/// Becomes runc, which ends with the process that started it: the first argument is that one's ID.
pub(super) fn child(args: &[OsString]) -> ExitCode {
    let Some((parent, args)) = args.split_first() else {
        return ExitCode::from(125);
    };
    let ours = |pid: Pid| Some(pid.as_raw_nonzero().to_string().as_str()) == parent.to_str();
    let bound = set_parent_process_death_signal(Some(Signal::KILL));
    // It may have ended before it was to be told of.
    if bound.is_err() || !getppid().is_some_and(ours) {
        return ExitCode::from(125);
    }
    become_real(&RUNC, args, |_| {})
}

/// True where a container runs as long as runc does: `run` and `exec`.
fn is_run(args: &[OsString]) -> bool {
    // Of the global options those that BuildKit gives with a value of their own
    // (https://github.com/containerd/go-runc).
    const WITH_VALUE: [&str; 3] = ["--root", "--log", "--log-format"];
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        match arg.to_str() {
            Some(option) if WITH_VALUE.contains(&option) => {
                rest.next();
            }
            Some(option) if option.starts_with('-') => {}
            other => return matches!(other, Some("run" | "exec")),
        }
    }
    false
}

/// The folder of a container's description, which lies on the daemon's volume.
fn bundle(args: &[OsString]) -> Option<PathBuf> {
    let at = args.iter().position(|arg| arg == "--bundle")?;
    Some(args.get(at + 1)?.into())
}

/// Waits for the process; meanwhile those that have lost their parents are taken as they end.
fn end_of(child: u32) -> u8 {
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid.as_raw_nonzero().get().unsigned_abs() == child => {
                let code = status.exit_status().map(|code| code.unsigned_abs());
                let signal = status.terminating_signal().map(|s| 128 + s.unsigned_abs());
                let code = code.or(signal).unwrap_or(1);
                return u8::try_from(code).unwrap_or(1);
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return 1,
        }
    }
}

/// Kills in rounds, until a round finds nothing; the number of those that are left.
///
/// `round` hands each process that it finds on to be killed at once: what forks goes on meanwhile, and its newest
/// process is caught only where little time lies between its being seen and its end.
fn end(round: impl Fn(&mut dyn FnMut(i32))) -> usize {
    let until = Instant::now() + PATIENCE;
    let mut pause = Duration::from_millis(1);
    let mut before = BTreeSet::new();
    loop {
        let mut found = BTreeSet::new();
        round(&mut |pid| {
            signal(pid, Signal::KILL);
            found.insert(pid);
        });
        while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
        if found.is_empty() || Instant::now() >= until {
            return found.len();
        }
        // New ones are forked: on at once. The same ones as before are about to end: give way to them.
        if found.is_subset(&before) {
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(50));
        }
        before = found;
    }
}

fn own() -> i32 {
    getpid().as_raw_nonzero().get()
}

fn signal(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        // It may have ended by itself.
        let _ = kill_process(pid, signal);
    }
}

/// Hands on each process that descends from this one, zombies included: the newest first, as soon as its line of
/// parents is known, each of which is read once.
fn descendants(kill: &mut dyn FnMut(i32)) {
    let mut ids = left::each(|id, _| Some(id));
    ids.sort_unstable_by(|a, b| b.cmp(a));
    let parent = |id: i32| {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        Some(left::stat(&stat)?.1)
    };
    let mut is_ours = BTreeMap::from([(own(), true)]);
    for id in ids {
        line(id, &mut is_ours, parent, kill);
    }
}

/// Says of the process and of each of its parents whether it descends from one that is ours, as far as that is not said
/// yet; those that do are handed on.
fn line(
    id: i32,
    is_ours: &mut BTreeMap<i32, bool>,
    parent: impl Fn(i32) -> Option<i32>,
    kill: &mut dyn FnMut(i32),
) {
    let (mut path, mut at) = (vec![], id);
    let ours = loop {
        if let Some(ours) = is_ours.get(&at) {
            break *ours;
        }
        // Also where an ID is used anew while we read, and the line leads back.
        is_ours.insert(at, false);
        path.push(at);
        match parent(at) {
            Some(parent) if parent > 0 => at = parent,
            _ => break false,
        }
    };
    if ours {
        for id in path {
            is_ours.insert(id, true);
            kill(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    #[test]
    fn a_container_that_runs_is_told_from_other_commands() {
        for (args, expected) in [
            (
                &["--log", "run", "--log-format", "json", "run", "id"][..],
                true,
            ),
            (&["--log", "/l", "--log-format", "json", "exec", "id"], true),
            (&["--rootless=true", "run", "id"], true),
            (&["--log", "/l", "delete", "run"], false),
            (&["kill", "run", "9"], false),
            (&["--version"], false),
        ] {
            assert_eq!(is_run(&words(args)), expected, "{args:?}");
        }
    }

    #[test]
    fn all_that_descends_from_this_program_is_found_and_each_is_read_once() {
        // 5 is ours; 6 to 2,005 are a chain of forks; 3 and 4 stand in a circle; 9,000 has gone.
        let parents = |id: i32| match id {
            6..=2005 => Some(id - 1),
            3 => Some(4),
            4 => Some(3),
            5 => Some(1),
            1 => Some(0),
            _ => None,
        };
        let (mut is_ours, reads) = (BTreeMap::from([(5, true)]), std::cell::Cell::new(0));
        let mut killed = vec![];
        for id in (1..=2005).rev().chain([9000]) {
            line(
                id,
                &mut is_ours,
                |id| {
                    reads.set(reads.get() + 1);
                    parents(id)
                },
                &mut |id| killed.push(id),
            );
        }
        assert_eq!(killed, (6..=2005).rev().collect::<Vec<_>>());
        assert!(reads.get() <= 2006, "{}", reads.get());
    }
}
