//! What all tests of one run share: API servers, what is installed in them, a controller. Under cargo-nextest each test is
//! a process of its own, under `cargo test` all are one: whoever comes first makes the thing, the others find it.

use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Set by cargo-nextest in each test's process: one value a run.
const RUN: &str = "NEXTEST_RUN_ID";

/// The process that the run ends with: the runner of the tests, where each test is a process.
pub fn run() -> u32 {
    match std::env::var_os(RUN) {
        Some(_) => std::os::unix::process::parent_id(),
        None => std::process::id(),
    }
}

/// A folder of this name that the tests of this run share, and nobody else can enter.
pub fn folder(name: &str) -> PathBuf {
    let run = std::env::var(RUN).unwrap_or_else(|_| std::process::id().to_string());
    let all = std::env::temp_dir().join(format!("whittle-tests-{run}"));
    std::fs::create_dir_all(all.join(name)).unwrap();
    std::fs::set_permissions(&all, Permissions::from_mode(0o700)).unwrap();
    all.join(name)
}

/// A shared thing: made by an earlier test, or to be made by this one while the others wait.
pub enum Shared<T> {
    Made(T),
    Mine(Turn),
}

/// Held while the thing is made. Dropped before that, no other test tries again.
pub struct Turn {
    file: PathBuf,
    _lock: File,
}

/// Waits until nobody is making it.
pub fn shared<T: DeserializeOwned>(name: &str) -> Shared<T> {
    let folder = folder(name);
    let lock = File::create(folder.join("lock")).unwrap();
    lock.lock().unwrap();
    let file = folder.join("made.json");
    let begun = folder.join("begun");
    match std::fs::read(&file) {
        Ok(made) => Shared::Made(serde_json::from_slice(&made).unwrap()),
        // Once only: where it cannot be made, every test fails at once.
        Err(_) if begun.exists() => {
            panic!("{name} was not made by an earlier test: see the first failure")
        }
        Err(_) => {
            std::fs::write(begun, []).unwrap();
            Shared::Mine(Turn { file, _lock: lock })
        }
    }
}

impl Turn {
    pub fn made<T: Serialize>(self, thing: T) -> T {
        std::fs::write(&self.file, serde_json::to_vec(&thing).unwrap()).unwrap();
        thing
    }
}

/// Statics are not dropped at the end of a process: a watcher ends these when that one has gone, however it went, and
/// removes their folder.
pub fn stop_with<'a>(process: u32, processes: impl IntoIterator<Item = &'a Child>, folder: &Path) {
    let ids = processes.into_iter().map(|child| child.id().to_string());
    let mut pids: Vec<String> = ids.collect();
    pids.reverse();
    // In order, each to its end: an API server without its etcd does not end by itself.
    let script = r#"(
        while kill -0 "$1" 2>/dev/null; do sleep 0.2; done
        folder=$2
        shift 2
        for pid in "$@"; do
            kill "$pid"
            for _ in 1 2 3 4 5 6 7 8 9 10; do kill -0 "$pid" && sleep 0.2; done
            kill -9 "$pid"
        done
        rm -rf "$folder"
        rmdir "${folder%/*}"
    ) &"#;
    alone(Command::new("sh").args(["-c", script, "sh", &process.to_string()]))
        .arg(folder)
        .args(&pids)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
}

/// In a process group of its own: no test's timeout ends what others use.
pub fn alone(command: &mut Command) -> &mut Command {
    std::os::unix::process::CommandExt::process_group(command, 0)
}
