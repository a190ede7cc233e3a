//! Real processes. The tracer has to be a process of its own, with all signals blocked before it has threads; so is what is
//! traced, where a shell cannot do it. Both are this test program again, with one of the ignored tests.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use tempfile::TempDir;

use super::*;

struct Case {
    folder: TempDir,
    limit: usize,
    filter: bool,
}

impl Case {
    /// A directory with files by these names.
    fn new(files: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "text\n").unwrap();
        }
        Self {
            folder,
            limit: LIMIT,
            filter: true,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn start(&self, command: &[&str]) -> Tracer {
        let options = (self.path("document"), self.limit, self.filter, command);
        let child = Command::new("env")
            .arg("--block-signal")
            .arg(env::current_exe().unwrap())
            .args(["--exact", "tests::the_tracer", "--ignored", "--nocapture"])
            .current_dir(self.folder.path())
            .env("TRACED", serde_json::to_string(&options).unwrap())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        Tracer(child.unwrap())
    }

    /// Exit code, and what was written to standard error.
    fn end(&self, command: &[&str]) -> (i32, String) {
        self.start(command).end()
    }

    fn sh(&self, script: &str) -> i32 {
        self.end(&["sh", "-c", script]).0
    }

    /// One of the ignored tests as the program.
    fn play(&self, name: &str) -> i32 {
        let program = env::current_exe().unwrap();
        let name = format!("tests::{name}");
        let program = program.to_str().unwrap();
        self.end(&[program, "--exact", &name, "--ignored", "--nocapture"])
            .0
    }

    fn document(&self) -> Document {
        serde_json::from_slice(&fs::read(self.path("document")).unwrap()).unwrap()
    }

    /// What was noted below the directory: `name`, its ways by their first letters, `!` where nothing was found.
    fn noted(&self) -> Vec<String> {
        let below = format!("{}/", self.folder.path().display());
        let entries = self.document().entries.into_iter();
        entries
            .filter_map(|entry| {
                let name = entry.path.strip_prefix(&below)?;
                let how: String = entry
                    .how
                    .iter()
                    .filter_map(|how| format!("{how:?}").chars().next())
                    .collect();
                Some(format!(
                    "{name} {how}{}",
                    if entry.found { "" } else { "!" }
                ))
            })
            .collect()
    }
}

struct Tracer(Child);

impl Tracer {
    fn send(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }

    fn end(mut self) -> (i32, String) {
        let mut text = String::new();
        let mut error = self.0.stderr.take().unwrap();
        error.read_to_string(&mut text).unwrap();
        (self.0.wait().unwrap().code().unwrap(), text)
    }
}

fn until(what: &str, done: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < end, "{what} has not come");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
#[ignore = "what the other tests start as the tracer"]
fn the_tracer() {
    let (output, limit, filter, command): (PathBuf, usize, bool, Vec<String>) =
        serde_json::from_str(&env::var("TRACED").unwrap()).unwrap();
    sys::unblock_signals();
    let code = run(&Options {
        command: command.into_iter().map(OsString::from).collect(),
        output: Some(output),
        limit,
        filter,
        asks: Some("asks".into()),
    });
    std::process::exit(code.unwrap().into());
}

#[test]
fn with_and_without_the_filter_exactly_what_a_program_asks_for_is_noted() {
    let mut case = Case::new(&["a", "sub/b", "sub/deep/c", "never", "data"]);
    std::os::unix::fs::symlink("data", case.path("link")).unwrap();
    let script = "read x < a; cd sub; read x < ./b; read x < ../sub//deep/c; read x < ../sub/deep/../b; \
        [ -e missing ]; [ -e deep ]; readlink ../link ../data; cat ../link; exit 4";
    let mut documents = Vec::new();
    for filter in [true, false] {
        case.filter = filter;
        assert_eq!(case.sh(script), 4);
        let expected = [
            "a O",
            "data R",
            "link OR",
            "sub L",
            "sub/b O",
            "sub/deep L",
            "sub/deep/../b O",
            "sub/deep/c O",
            "sub/missing L!",
        ];
        assert_eq!(case.noted(), expected);
        assert!(!case.path("document.part").exists());
        documents.push(fs::read_to_string(case.path("document")).unwrap());
        let document = case.document();
        assert!(!document.cut && document.unread.is_empty());
        let found = |path: &str| {
            document
                .entries
                .iter()
                .any(|entry| entry.path.ends_with(path) && entry.found)
        };
        assert!(found("/cat") && found("/libc.so.6"));
    }
    assert_eq!(documents[0], documents[1]);
}

#[test]
fn what_is_asked_for_meanwhile_is_run_and_traced_and_the_document_written() {
    let case = Case::new(&["asked", "asks/x"]);
    let tracer = case.start(&["sh", "-c", "mkfifo pipe; read x < pipe; exit 5"]);
    until("the pipe", || case.path("pipe").exists());
    let ask = |text: &str| {
        fs::write(case.path("asks/part"), text).unwrap();
        fs::rename(case.path("asks/part"), case.path("asks/ask.json")).unwrap();
        let answer = case.path("asks/answer.json");
        until("the answer", || answer.exists());
        let text = fs::read(&answer).unwrap();
        fs::remove_file(answer).unwrap();
        serde_json::from_slice::<Answer>(&text).unwrap().code
    };
    let run = |command: &[&str]| ask(&serde_json::json!({"run": {"command": command}}).to_string());
    assert_eq!(run(&["sh", "-c", "read x < asked; exit 3"]), 3);
    assert_eq!(run(&["no-such-program"]), 127);
    assert_eq!(run(&[]), FAILED);
    assert_eq!(ask("{"), 127);
    assert!(!case.path("document").exists());
    assert_eq!(ask("\"write\""), 0);
    assert!(case.noted().contains(&"asked O".to_owned()));
    fs::write(case.path("pipe"), "\n").unwrap();
    assert_eq!(tracer.end().0, 5);
}

#[test]
#[ignore = "a program that is traced"]
fn program_with_descriptors_threads_and_children() {
    let sub = rustix::fs::open("sub", OFlags::DIRECTORY, Mode::empty()).unwrap();
    let read = |folder, name| rustix::fs::openat(folder, name, OFlags::RDONLY, Mode::empty());
    read(std::os::fd::AsFd::as_fd(&sub), "by-descriptor").unwrap();
    read(CWD, "by-cwd").unwrap();
    rustix::fs::statat(&sub, "missing", rustix::fs::AtFlags::empty()).unwrap_err();
    let threads = ["thread-1", "thread-2", "thread-3"]
        .map(|name| thread::spawn(move || File::open(name).unwrap()));
    for thread in threads {
        thread.join().unwrap();
    }
    // By posix_spawn, which is a vfork; the shell forks.
    let script = "( read x < forked ); cat spawned";
    assert!(
        Command::new("sh")
            .args(["-c", script])
            .status()
            .unwrap()
            .success()
    );
    // This thread is not the process's first, and the others end by it.
    panic!(
        "{}",
        Command::new("./shell")
            .args(["-c", "cat executed; exit 8"])
            .exec()
    );
}

#[test]
fn descriptors_threads_vfork_fork_and_exec_by_another_thread_are_followed() {
    let names = [
        "by-cwd",
        "executed",
        "forked",
        "spawned",
        "sub/by-descriptor",
        "thread-1",
        "thread-2",
        "thread-3",
    ];
    for filter in [true, false] {
        let mut case = Case::new(&names);
        case.filter = filter;
        std::os::unix::fs::symlink("/bin/sh", case.path("shell")).unwrap();
        assert_eq!(
            case.play("program_with_descriptors_threads_and_children"),
            8
        );
        let mut expected: Vec<String> = names.iter().map(|name| format!("{name} O")).collect();
        expected.extend([
            "shell E".to_owned(),
            "sub O".to_owned(),
            "sub/missing L!".to_owned(),
        ]);
        expected.sort();
        assert_eq!(case.noted(), expected);
    }
}

#[test]
fn a_script_is_noted_with_its_interpreter() {
    let case = Case::new(&["script"]);
    let shell = fs::canonicalize("/bin/sh").unwrap();
    fs::write(case.path("script"), "#!/bin/sh\nexit 6\n").unwrap();
    fs::set_permissions(case.path("script"), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(case.end(&["./script"]).0, 6);
    assert_eq!(case.noted(), ["script EO"]);
    let executed =
        |entry: &Entry| Path::new(&entry.path) == shell && entry.how.contains(&How::Executed);
    assert!(case.document().entries.iter().any(executed));
}

#[test]
fn what_cannot_be_executed_ends_as_a_shell_has_it_and_says_so() {
    let case = Case::new(&["text"]);
    let (code, error) = case.end(&["no-such-program"]);
    assert_eq!(
        (code, error.contains("no-such-program not found")),
        (127, true),
        "{error}"
    );
    let (code, error) = case.end(&["./text"]);
    assert_eq!(
        (code, error.contains("permission denied")),
        (126, true),
        "{error}"
    );
    assert_eq!(case.noted(), ["text E"]);
    // Its own codes are no words of ours.
    assert_eq!(case.end(&["sh", "-c", "exit 127"]), (127, String::new()));
}

#[test]
fn signals_reach_the_program_and_what_it_leaves_running_is_killed() {
    let case = Case::new(&[]);
    let script = "trap 'exit 7' TERM; sleep 1000 & echo $! > part; mv part ready; wait";
    let tracer = case.start(&["sh", "-c", script]);
    until("the trap", || case.path("ready").exists());
    tracer.send(Signal::TERM);
    assert_eq!(tracer.end().0, 7);
    let sleeper = fs::read_to_string(case.path("ready")).unwrap();
    let state = format!("/proc/{}/stat", sleeper.trim());
    until("the end of the sleeper", || {
        match fs::read_to_string(&state) {
            Ok(text) => text.contains(") Z "),
            Err(_) => true,
        }
    });
}

#[test]
fn signals_that_end_the_program_and_real_time_ones_are_as_without_tracing() {
    let case = Case::new(&[]);
    assert_eq!(case.sh("kill -KILL $$"), 137);
    assert_eq!(case.sh("kill -SEGV $$"), 139);
    assert_eq!(case.sh("trap 'exit 9' 40; kill -40 $$"), 9);
}

/// Of this text of `/proc/PID/status`: which signals are blocked, ignored and caught, and how many filters there are.
fn inherited(status: &str) -> Vec<u64> {
    let number = |name: &str, radix| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        let number = line.split_whitespace().nth(1).unwrap();
        // 32 and 33 are glibc's own, and set to this or that by its spawn.
        u64::from_str_radix(number, radix).unwrap() & 0x7fff_ffff
    };
    let masks = ["SigBlk", "SigIgn", "SigCgt"].map(|name| number(name, 16));
    [&masks[..], &[number("Seccomp_filters", 10)]].concat()
}

#[test]
fn a_program_inherits_the_filter_and_nothing_else_of_the_tracer() {
    let mut case = Case::new(&[]);
    let script = "cat /proc/self/status > status; ls /proc/self/fd > open";
    let left = |case: &Case| ["status", "open"].map(|name| fs::read_to_string(case.path(name)));
    let mut untraced = Command::new("sh");
    untraced.args(["-c", script]).current_dir(&case.folder);
    assert!(untraced.status().unwrap().success());
    let [status, open] = left(&case).map(Result::unwrap);
    for filter in [true, false] {
        case.filter = filter;
        assert_eq!(case.sh(script), 0);
        let [traced_status, traced_open] = left(&case).map(Result::unwrap);
        let mut expected = inherited(&status);
        expected[3] += u64::from(filter);
        assert_eq!(inherited(&traced_status), expected);
        assert_eq!(traced_open, open);
    }
}

#[test]
fn signals_of_all_numbers_are_forwarded_while_others_never_cease_to_look_for_files() {
    let case = Case::new(&[]);
    let look = "(while :; do [ -e x ]; done) & ";
    let script = format!(
        "trap 'exit 7' TERM; trap 'kill -TERM $$' WINCH; {}: > ready; wait",
        look.repeat(8)
    );
    let tracer = case.start(&["sh", "-c", &script]);
    until("the trap", || case.path("ready").exists());
    tracer.send(Signal::WINCH);
    assert_eq!(tracer.end().0, 7);
}

#[test]
#[ignore = "a program that is traced"]
fn program_that_stops_and_continues_its_child() {
    let child = Command::new("sh")
        .args(["-c", "kill -STOP $$; exit 5"])
        .spawn()
        .unwrap();
    let pid = Pid::from_child(&child);
    let wait = || {
        waitpid(Some(pid), WaitOptions::UNTRACED)
            .unwrap()
            .unwrap()
            .1
    };
    assert!(wait().stopped());
    // It stays so, while the tracer deals with all these.
    for _ in 0..500 {
        assert!(!Path::new("missing").exists());
    }
    assert!(waitpid(Some(pid), WaitOptions::NOHANG).unwrap().is_none());
    kill_process(pid, Signal::CONT).unwrap();
    std::process::exit(wait().exit_status().unwrap());
}

#[test]
fn a_process_that_job_control_stops_stays_stopped_until_it_is_continued() {
    let case = Case::new(&[]);
    assert_eq!(case.play("program_that_stops_and_continues_its_child"), 5);
}

#[test]
fn an_orphan_is_followed_and_the_document_comes_while_the_program_runs() {
    let case = Case::new(&["late", "early"]);
    // The shell between them ends before its child reads.
    let script = "read x < early; sh -c '(read x < go; read x < late; : > done) & exit 0'; : > ready; read x < end";
    for fifo in ["go", "end"] {
        assert!(
            Command::new("mkfifo")
                .arg(case.path(fifo))
                .status()
                .unwrap()
                .success()
        );
    }
    let tracer = case.start(&["sh", "-c", script]);
    until("the shell", || case.path("ready").exists());
    tracer.send(Signal::USR1);
    until("the document", || case.path("document").exists());
    let early = case.noted();
    assert!(
        early.contains(&"early O".into()) && !early.contains(&"late O".into()),
        "{early:?}"
    );
    fs::write(case.path("go"), "now\n").unwrap();
    until("the orphan", || case.path("done").exists());
    fs::write(case.path("end"), "now\n").unwrap();
    assert_eq!(tracer.end().0, 0);
    assert!(case.noted().contains(&"late O".into()));
}

#[test]
fn more_paths_than_the_limit_are_cut_and_told_and_the_program_runs_on() {
    let mut case = Case::new(&[]);
    case.limit = 3;
    assert_eq!(case.sh("for n in 1 2 3 4 5; do [ -e $n ]; done; exit 2"), 2);
    let document = case.document();
    assert!(document.cut);
    assert_eq!(document.entries.len(), 3);
}

#[test]
fn a_process_killed_from_outside_in_the_middle_is_no_fault() {
    let case = Case::new(&[]);
    let looks = "while :; do [ -e x ]; done";
    let script = format!(
        "sh -c '{looks}' & a=$!; sh -c '{looks}' & cat $0; kill -KILL $a $!; wait $a; echo $? > code"
    );
    assert_eq!(case.sh(&script), 0);
    assert_eq!(fs::read_to_string(case.path("code")).unwrap(), "137\n");
}

/// An ELF file for i386 whose program is exit(3).
#[cfg(target_arch = "x86_64")]
#[test]
fn a_32_bit_program_runs_and_is_told_as_unread() {
    let case = Case::new(&["old"]);
    let mut elf = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    elf.extend([2, 0, 3, 0, 1, 0, 0, 0]);
    for word in [0x0804_8054_u32, 52, 0, 0] {
        elf.extend(word.to_le_bytes());
    }
    elf.extend([52, 0, 32, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    for word in [1_u32, 0, 0x0804_8000, 0x0804_8000, 96, 96, 5, 0x1000] {
        elf.extend(word.to_le_bytes());
    }
    elf.extend(b"\xb8\x01\0\0\0\xbb\x03\0\0\0\xcd\x80");
    fs::write(case.path("old"), elf).unwrap();
    fs::set_permissions(case.path("old"), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(case.end(&["./old"]).0, 3);
    assert_eq!(case.document().unread, [case.path("old").to_str().unwrap()]);
}
