//! Starts the daemon, and finds out first whether its steps can be isolated where it runs.
//!
//! The container starts [`run`], which becomes rootlesskit, which starts it once more within its user namespace, where it
//! becomes `buildkitd`. Before that, one container is run as BuildKit runs a step: whatever the node does not allow
//! (namespaces, mounts, keyrings) is then the last line of the log, with which the container ends, and not the first
//! failure of somebody's build.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use serde_json::json;

use super::reserve::Reserve;
use super::{SNAPSHOTS, not_started, real_command, state, steps, trusted};
use whittle_api::IsolationMode;

/// Exit code where steps cannot be isolated here (`EX_CONFIG` of sysexits.h).
pub const NOT_ISOLATED: u8 = 78;
/// Exit code where the state was broken, and was thrown away: the daemon starts without it the next time.
pub const EMPTIED: u8 = 79;
/// Begins the line that says what was broken.
pub const EMPTIED_SAYS: &str = "whittle: cache: ";
/// Begins the line that says why.
pub const SAYS: &str = "whittle: isolation: ";
/// Bytes of what others say that stand in that line.
const WORDS: usize = 1000;

/// How the daemon is started.
#[derive(Clone, Debug)]
pub struct Start {
    /// How it is isolated.
    pub mode: IsolationMode,
    /// The folder of its state.
    pub root: PathBuf,
    /// Names a time that somebody asked for the state to be thrown away.
    pub empty: Option<String>,
    /// True within rootlesskit's user namespace.
    pub inner: bool,
    /// The daemon's own arguments.
    pub args: Vec<OsString>,
}

impl Start {
    /// The arguments with which this program starts itself within rootlesskit.
    fn again(&self) -> Vec<OsString> {
        let own = [
            "builder",
            "--inner",
            "--isolation",
            self.mode.as_str(),
            "--root",
        ];
        let mut all: Vec<OsString> = own.map(OsString::from).into();
        all.push(self.root.clone().into());
        if let Some(key) = &self.empty {
            all.extend(["--empty".into(), key.into()]);
        }
        all.push("--".into());
        all.extend(self.args.iter().cloned());
        all
    }
}

/// Becomes the daemon; returns only where that fails.
pub fn run(start: &Start) -> ExitCode {
    if let Some(why) = trusted::fault() {
        eprintln!("whittle: {why}");
        return ExitCode::FAILURE;
    }
    let isolated = start.mode == IsolationMode::UserNamespace;
    if start.inner {
        if isolated && let Err(why) = runs_a_step(&start.root.join("preflight")) {
            return refuse(&why);
        }
        if let Some(code) = tidy(start) {
            return code;
        }
        let mut daemon = Command::new("buildkitd");
        daemon.arg("--root").arg(&start.root);
        if !isolated {
            // Without it runc cannot mount /proc in a Pod whose own /proc is masked.
            daemon.arg("--oci-worker-no-process-sandbox");
        }
        return exec(daemon.args(&start.args));
    }
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    if isolated && is_of_the_node(&map) {
        return refuse(
            "the Pod has no user namespace of its own: hostUsers was ignored. User namespaces are on by default since \
             Kubernetes 1.33; earlier, set the feature gate UserNamespacesSupport on API server and kubelet",
        );
    }
    // By its path: what rootlesskit finds at /proc/self/exe is rootlesskit.
    match std::env::current_exe() {
        Ok(own) => exec(Command::new("rootlesskit").arg(own).args(start.again())),
        Err(error) => {
            eprintln!("whittle: the path of this program is not known: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Throws away what is to go; none where the daemon may start then.
fn tidy(start: &Start) -> Option<ExitCode> {
    // What nobody has needed is kept again with the next step.
    for name in SNAPSHOTS {
        Reserve::of(&start.root.join(name)).give();
    }
    // Held until the daemon is to take it. One that still runs is told of by the next.
    let _held = match state::lock(&start.root) {
        Ok(Some(held)) => held,
        Ok(None) => return None,
        Err(error) => {
            eprintln!("whittle: the state cannot be locked: {error}");
            return None;
        }
    };
    if let Some(key) = &start.empty {
        match state::empty_once(&start.root, key) {
            Ok(true) => eprintln!("whittle: the cache is thrown away, as it was asked for"),
            Ok(false) => {}
            Err(error) => {
                eprintln!("whittle: the cache cannot be thrown away: {error}");
                return Some(ExitCode::FAILURE);
            }
        }
    }
    match state::mend(&start.root) {
        Ok(Some(said)) => {
            eprintln!("{EMPTIED_SAYS}{said}");
            return Some(ExitCode::from(EMPTIED));
        }
        Ok(None) => {}
        // The daemon says what it makes of it.
        Err(error) => eprintln!("whittle: the state cannot be checked: {error}"),
    }
    state::delete_old(&start.root);
    None
}

fn exec(command: &mut Command) -> ExitCode {
    let error = command.exec();
    not_started(command, &error)
}

fn refuse(why: &str) -> ExitCode {
    eprintln!("{SAYS}{why}");
    ExitCode::from(NOT_ISOLATED)
}

/// True where every user is who he is on the node: one line that maps all IDs onto themselves (user_namespaces(7)).
fn is_of_the_node(map: &str) -> bool {
    map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// Runs this program in a container as BuildKit runs a step, in `folder`, which is removed afterwards.
///
/// # Errors
/// What runc says.
fn runs_a_step(folder: &Path) -> Result<(), String> {
    let _ = std::fs::remove_dir_all(folder);
    let told = try_a_step(folder);
    let _ = std::fs::remove_dir_all(folder);
    told
}

fn try_a_step(folder: &Path) -> Result<(), String> {
    let at = |error: std::io::Error| format!("{}: {error}", folder.display());
    let program = std::env::current_exe().map_err(at)?;
    std::fs::create_dir_all(folder.join("rootfs")).map_err(at)?;
    let bundle = bundle(&program).to_string();
    std::fs::write(folder.join("config.json"), bundle).map_err(at)?;
    let Ok(mut runc) = real_command(&steps::RUNC) else {
        return Err("runc not found in PATH".into());
    };
    let run = runc
        .arg("--root")
        .arg(folder.join("runc"))
        .args(["run", "--bundle"])
        .arg(folder)
        .arg("preflight")
        .stdin(Stdio::null());
    let ended = run.output().map_err(at)?;
    if ended.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&ended.stderr);
    Err(format!(
        "a step cannot be started on this node: {}",
        last(&said)
    ))
}

/// What was said last, in one line.
fn last(said: &str) -> String {
    let line = said
        .lines()
        .rev()
        .map(str::trim)
        .find(|line| !line.is_empty());
    let line = line.unwrap_or("runc said nothing");
    let mut start = line.len().saturating_sub(WORDS);
    while !line.is_char_boundary(start) {
        start += 1;
    }
    line[start..].to_owned()
}

/// A container with all that a step has: its own PIDs and `/proc`, mounts, host name
/// (<https://github.com/opencontainers/runtime-spec/blob/v1.2.0/config.md>).
fn bundle(program: &Path) -> serde_json::Value {
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "args": ["/whittle", "--version"],
            "cwd": "/",
            "user": {"uid": 0, "gid": 0},
        },
        "root": {"path": "rootfs"},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
            {"destination": "/whittle", "type": "bind", "source": program, "options": ["bind", "ro"]},
        ],
        "linux": {
            "namespaces": [{"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}],
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_without_a_user_namespace_of_its_own_is_told_from_one_with() {
        assert!(is_of_the_node("         0          0 4294967295\n"));
        assert!(!is_of_the_node("         0  524288      65536\n"));
        assert!(!is_of_the_node("0 1000 1\n1 100000 65536\n"));
    }

    #[test]
    fn the_daemon_is_started_again_with_the_same_arguments() {
        let start = Start {
            mode: IsolationMode::UserNamespace,
            root: "/state/userns".into(),
            empty: Some("0123".into()),
            inner: false,
            args: vec!["--config".into(), "/etc/buildkit/buildkitd.toml".into()],
        };
        let expected = [
            "builder",
            "--inner",
            "--isolation",
            "UserNamespace",
            "--root",
            "/state/userns",
            "--empty",
            "0123",
            "--",
            "--config",
            "/etc/buildkit/buildkitd.toml",
        ];
        assert_eq!(start.again(), expected);
    }

    #[test]
    fn of_what_is_said_the_last_line_counts_within_bounds() {
        assert_eq!(
            last("a\nrunc run failed: denied\n\n"),
            "runc run failed: denied"
        );
        assert_eq!(last(""), "runc said nothing");
        assert_eq!(last(&"é".repeat(2000)).len(), WORDS);
    }
}
