//! Finds what steps have left behind in spite of the program that looks after them.
//!
//! A step runs as the user that the daemon is, and so may end or stop that program; what it left would then see the steps
//! of later builds. So before each step all is ended that only a step can be, and that no such program looks after any
//! more. Where that does not work out the step does not begin: a process that is in the way of it keeps others out,
//! and sees nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The first PID namespace of a machine (`PROC_PID_INIT_INO`): there is no daemon's Pod around us.
const FIRST: &str = "pid:[4026531836]";

/// One process, as `/proc` tells of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Process {
    pub id: i32,
    pub parent: i32,
    /// `R`, `S`, `T`, `Z` and so on (proc_pid_stat(5)).
    pub state: char,
    /// Its capability bounding set: smaller than the daemon's for every process of a step, for good (capabilities(7)).
    pub bounds: String,
    /// Its user and PID namespaces; none where we may not know them, as of all that is outside of the daemon's.
    pub namespaces: Option<(String, String)>,
    /// Its program.
    pub program: String,
}

/// Those that a step has left, given all processes and which of them we are.
pub(super) fn left(all: &[Process], own: i32) -> BTreeSet<i32> {
    let by_id: BTreeMap<i32, &Process> = all.iter().map(|process| (process.id, process)).collect();
    let Some(me) = by_id.get(&own) else {
        return BTreeSet::new();
    };
    let Some((user, pid)) = me.namespaces.as_ref().filter(|(_, pid)| pid != FIRST) else {
        return BTreeSet::new();
    };
    let is_ours = |process: &Process| {
        process.program == me.program
            && process.bounds == me.bounds
            && process.namespaces == me.namespaces
    };
    let looks_after =
        |process: &Process| is_ours(process) && !matches!(process.state, 'T' | 't' | 'Z' | 'X');
    let ancestors = |process: &Process| {
        let mut found = vec![];
        let mut at = process.parent;
        // A process may have gone, and its ID be another's, while we read: no longer than there are processes.
        while let Some(parent) = by_id.get(&at).filter(|_| found.len() <= all.len()) {
            found.push(*parent);
            at = parent.parent;
        }
        found
    };
    let mine: BTreeSet<i32> = ancestors(me).iter().map(|process| process.id).collect();
    all.iter()
        .filter(|process| process.id != own && !mine.contains(&process.id) && process.state != 'Z')
        .filter(|process| {
            let Some((its_user, its_pid)) = &process.namespaces else {
                return false;
            };
            let is_of_a_step = its_user != user || (its_pid == pid && process.bounds != me.bounds);
            let stopped = is_ours(process) && matches!(process.state, 'T' | 't');
            stopped || is_of_a_step && !ancestors(process).into_iter().any(looks_after)
        })
        .map(|process| process.id)
        .collect()
}

/// All processes that can be seen.
pub(super) fn all() -> Vec<Process> {
    each(read)
}

/// What `read` makes of each process, given its ID and its folder in `/proc`.
pub(super) fn each<T>(read: impl Fn(i32, &Path) -> Option<T>) -> Vec<T> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let id = entry.file_name().to_str()?.parse().ok()?;
            read(id, &entry.path())
        })
        .collect()
}

fn read(id: i32, at: &Path) -> Option<Process> {
    let (state, parent) = stat(&std::fs::read_to_string(at.join("stat")).ok()?)?;
    let status = std::fs::read_to_string(at.join("status")).ok()?;
    let bounds = status.lines().find_map(|line| line.strip_prefix("CapBnd:"));
    let link = |name: &str| {
        Some(
            std::fs::read_link(at.join(name))
                .ok()?
                .to_string_lossy()
                .into_owned(),
        )
    };
    Some(Process {
        id,
        parent,
        state,
        bounds: bounds.unwrap_or_default().trim().to_owned(),
        namespaces: link("ns/user").zip(link("ns/pid")),
        program: link("exe").unwrap_or_default(),
    })
}

/// State and parent in `/proc/PID/stat`; a program's name may hold spaces and parentheses.
pub(super) fn stat(stat: &str) -> Option<(char, i32)> {
    let (_, after) = stat.rsplit_once(')')?;
    let mut words = after.split_whitespace();
    let state = words.next()?.chars().next()?;
    Some((state, words.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: &str = "000001ffffffffff";
    const STEP: &str = "00000000a80425fb";

    fn process(id: i32, parent: i32, program: &str, bounds: &str) -> Process {
        Process {
            id,
            parent,
            state: 'S',
            bounds: bounds.into(),
            namespaces: Some(("user:[2]".into(), "pid:[2]".into())),
            program: program.into(),
        }
    }

    /// rootlesskit, which is outside, the daemon, git, a step that runs, and we, who are to begin another.
    fn pod() -> Vec<Process> {
        let mut outside = process(1, 0, "", STEP);
        outside.namespaces = None;
        vec![
            outside,
            process(2, 1, "/usr/bin/buildkitd", FULL),
            process(3, 2, "/usr/bin/git", FULL),
            process(10, 2, "/whittle/tools/whittle", FULL),
            process(11, 10, "/usr/bin/buildkit-runc", FULL),
            process(12, 11, "/bin/sh", STEP),
            process(13, 11, "/bin/sleep", STEP),
            process(20, 2, "/whittle/tools/whittle", FULL),
        ]
    }

    fn ids(all: &[Process]) -> Vec<i32> {
        left(all, 20).into_iter().collect()
    }

    #[test]
    fn what_runs_as_it_should_is_let_alone() {
        assert!(ids(&pod()).is_empty());
    }

    #[test]
    fn what_has_lost_the_program_that_looked_after_it_is_ended() {
        let mut all = pod();
        all.push(process(30, 1, "/bin/spy", STEP));
        all.push(process(31, 30, "/bin/spy", STEP));
        assert_eq!(ids(&all), [30, 31]);
    }

    #[test]
    fn a_program_that_was_stopped_looks_after_nothing() {
        let mut all = pod();
        all[3].state = 'T';
        assert_eq!(ids(&all), [10, 12, 13]);
    }

    #[test]
    fn a_user_namespace_of_its_own_hides_nothing() {
        let mut all = pod();
        let mut spy = process(30, 1, "/bin/spy", FULL);
        spy.namespaces = Some(("user:[3]".into(), "pid:[3]".into()));
        all.push(spy);
        assert_eq!(ids(&all), [30]);
    }

    #[test]
    fn a_program_of_the_same_name_within_a_step_looks_after_nothing() {
        let mut all = pod();
        all.push(process(30, 1, "/whittle/tools/whittle", STEP));
        all.push(process(31, 30, "/bin/spy", STEP));
        assert_eq!(ids(&all), [30, 31]);
    }

    #[test]
    fn outside_of_a_pod_nothing_is_ended() {
        let mut all = pod();
        for process in &mut all {
            process.namespaces = Some(("user:[2]".into(), FIRST.into()));
        }
        all.push(process(30, 1, "/bin/spy", STEP));
        assert!(ids(&all).is_empty());
    }

    #[test]
    fn a_programs_name_may_look_like_anything() {
        assert_eq!(stat("12 (a) R 1 (b) S 7 12 12 0"), Some(('S', 7)));
        assert_eq!(stat("12 (sh) T 5 12"), Some(('T', 5)));
        assert_eq!(stat("12"), None);
    }
}
