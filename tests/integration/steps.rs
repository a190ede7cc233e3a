//! What stands in runc's place beside the daemon: real processes, and a script as runc.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A folder with the program as `buildkit-runc`, and one with `script` as the real one.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new(script: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (tools, bin) = (folder.path().join("tools"), folder.path().join("bin"));
        fs::create_dir(&tools).unwrap();
        fs::create_dir(&bin).unwrap();
        symlink(env!("CARGO_BIN_EXE_whittle"), tools.join("buildkit-runc")).unwrap();
        let runc = bin.join("buildkit-runc");
        fs::write(&runc, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&runc, fs::Permissions::from_mode(0o755)).unwrap();
        Self { folder }
    }

    fn start(&self, args: &[&str]) -> Child {
        let at = self.folder.path();
        Command::new(at.join("tools/buildkit-runc"))
            .args(args)
            .env(
                "PATH",
                format!("{0}/tools:{0}/bin:/usr/bin:/bin", at.display()),
            )
            .env("MARK", self.mark())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    }

    /// In the environment of everything that it starts.
    fn mark(&self) -> String {
        self.folder.path().display().to_string()
    }

    /// Processes that carry the mark.
    fn alive(&self) -> Vec<String> {
        let mark = format!("MARK={}", self.mark());
        let processes = fs::read_dir("/proc").unwrap().flatten();
        processes
            .filter(|process| has(&process.path(), mark.as_bytes()))
            .map(|process| process.file_name().to_string_lossy().into_owned())
            .collect()
    }

    fn ends(&self) {
        let until = Instant::now() + Duration::from_secs(30);
        while !self.alive().is_empty() {
            assert!(Instant::now() < until, "still there: {:?}", self.alive());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// True where the process has this variable. A zombie's environment is empty.
fn has(process: &Path, variable: &[u8]) -> bool {
    let environment = fs::read(process.join("environ")).unwrap_or_default();
    environment.split(|byte| *byte == 0).any(|v| v == variable)
}

/// What a step may leave: a process of its own session, with a child, whose parents have all gone.
const LEAVES: &str = "setsid sh -c 'sleep 600 & sleep 600' >/dev/null 2>&1 & sleep 0.2";

#[test]
fn what_a_step_leaves_behind_is_ended_before_the_step_is() {
    let place = Place::new(&format!("{LEAVES}; exit 7"));
    let ended = place.start(&["--log", "/dev/null", "run", "id"]).wait();
    assert_eq!(place.alive(), Vec::<String>::new());
    assert_eq!(ended.unwrap().code(), Some(7));
}

#[test]
fn what_goes_on_forking_is_ended_too() {
    let forks = "f() { f & sleep 0.05; }; f; f; f";
    let place = Place::new(&format!("(setsid sh -c '{forks}' &) ; sleep 0.3; exit 0"));
    let ended = place.start(&["run", "id"]).wait();
    assert_eq!(place.alive(), Vec::<String>::new());
    assert_eq!(ended.unwrap().code(), Some(0));
}

#[test]
fn while_a_step_runs_its_own_background_processes_go_on() {
    // The background process makes the file that the step waits for.
    let script = "(setsid sh -c 'sleep 0.3; : > $MARK/made' &); for i in 1 2 3 4 5 6 7 8 9 10; do [ -e $MARK/made ] && exit 0; sleep 0.3; done; exit 9";
    let place = Place::new(script);
    assert_eq!(place.start(&["run", "id"]).wait().unwrap().code(), Some(0));
}

#[test]
fn other_commands_of_runc_are_handed_on_as_they_are() {
    let place = Place::new("[ \"$1 $2\" = 'kill id' ] && exit 5; exit 1");
    assert_eq!(place.start(&["kill", "id"]).wait().unwrap().code(), Some(5));
}

#[test]
fn runc_ends_with_the_program_that_stands_in_its_place() {
    let place = Place::new("exec sleep 600");
    let mut started = place.start(&["run", "id"]);
    let until = Instant::now() + Duration::from_secs(30);
    let sleeps = |place: &Place| {
        place.alive().iter().any(|pid| {
            let name = fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
            OsStr::from_bytes(&name) == "sleep\n"
        })
    };
    while !sleeps(&place) {
        assert!(Instant::now() < until);
        std::thread::sleep(Duration::from_millis(20));
    }
    started.kill().unwrap();
    started.wait().unwrap();
    place.ends();
}
