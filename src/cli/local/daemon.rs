//! The daemon that builds: one that is there, or one of its own that ends with the build.

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, getuid, kill_process};
use whittle_api::BuilderSpec;
use whittle_controller::builder::buildkitd;

use super::Error;
use super::address::{is_in_clear, known};
use super::bound::bound;
use super::in_cluster;
use super::masked;
use super::programs::{BUILDCTL, BUILDKITD, Folders, NEWGIDMAP, NEWUIDMAP, ROOTLESSKIT, RUNC};
use super::relay::{self, Relay};
use super::room::{Room, write_private};
use crate::cluster::Reach;

/// How long it may take to answer after its start.
const READY: Duration = Duration::from_secs(60);
/// How long it may take to end once it was asked to.
const END: Duration = Duration::from_secs(10);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);
/// Bytes of its log that are shown where it does not start.
const TAIL: u64 = 2000;
/// Bytes of a path to a socket (unix(7)).
const SOCKET: usize = 107;

/// The daemon of a build.
pub struct Daemon {
    address: String,
    /// The name in its certificate; empty where it is spoken to without TLS.
    server_name: String,
    /// Ends with this value, where it is one of its own.
    _own: Option<Own>,
    /// What leads into a container or a cluster, where it is in one.
    _relay: Option<Relay>,
}

impl Daemon {
    /// The one at this address; without one it is started.
    pub async fn at(
        address: Option<&str>,
        reach: &Reach,
        room: &Room,
        spec: &BuilderSpec,
        say: impl Fn(&str),
    ) -> Result<Self, Error> {
        let of = |address: String| Self {
            address,
            server_name: String::new(),
            _own: None,
            _relay: None,
        };
        let Some(address) = address.filter(|it| !it.is_empty()) else {
            let own = Own::start(room, spec, say).await?;
            let mut daemon = of(format!("unix://{}", own.socket.display()));
            daemon._own = Some(own);
            return Ok(daemon);
        };
        if let Some(container) = relay::container(address) {
            let relay = container?.relay(room.folder()).await?;
            let mut daemon = of(relay.address());
            daemon._relay = Some(relay);
            return Ok(daemon);
        }
        if let Some(builder) = in_cluster::builder(address) {
            let reached = builder?.reached(reach, room).await?;
            let mut daemon = of(reached.relay.address());
            daemon.server_name = reached.server_name;
            daemon._relay = Some(reached.relay);
            return Ok(daemon);
        }
        let address = known(address)?;
        if is_in_clear(&address) {
            say(
                "--builder tcp://: no TLS: credentials and build secrets go to the daemon without encryption: over a network, use \
                 unix:// with a forwarded socket (ssh -L)",
            );
        }
        Ok(of(address))
    }

    /// The name in its certificate; empty where it is spoken to without TLS.
    pub fn server_name(&self) -> String {
        self.server_name.clone()
    }

    /// Where it listens.
    pub fn address(&self) -> String {
        self.address.clone()
    }
}

/// A daemon that ends with this value.
struct Own {
    child: Child,
    socket: PathBuf,
    /// Its folder, where that is not the room's.
    runtime: Option<PathBuf>,
    /// Two daemons cannot share one state.
    _held: fs::File,
}

impl Own {
    async fn start(room: &Room, spec: &BuilderSpec, say: impl Fn(&str)) -> Result<Self, Error> {
        let root = getuid().is_root();
        let folders = Folders::usual();
        let programs = programs(&folders, root)?;
        if !root {
            subordinate_ids()?;
        }
        let state = state()?;
        let failed = |error| Error::new(format!("{}: {error}", state.display()));
        private(&state).map_err(failed)?;
        let held = hold(&state, say).await?;
        let runtime = runtime(room)?;
        let socket = runtime
            .as_deref()
            .unwrap_or(room.folder())
            .join("buildkitd.sock");
        if socket.as_os_str().len() > SOCKET {
            return Err(Error::new(format!(
                "the path {} is too long for a socket: set XDG_RUNTIME_DIR or TMPDIR to a shorter one",
                socket.display()
            )));
        }
        let config = room.folder().join("buildkitd.toml");
        let registry_ca = room.folder().join("registry-ca");
        let text = buildkitd::config_here(spec, &registry_ca.to_string_lossy());
        write_private(&config, text.as_bytes())?;
        let log = room.folder().join("buildkitd.log");
        let output = fs::File::create(&log).map_err(failed)?;
        let errors = output.try_clone().map_err(failed)?;
        let mut command = command(&programs, &socket, &config, &state)?;
        command
            .env("PATH", folders.path())
            .env("TMPDIR", room.folder().join("scratch"))
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors);
        if let Some(runtime) = &runtime {
            command.env("XDG_RUNTIME_DIR", runtime);
        } else {
            command.env("XDG_RUNTIME_DIR", room.folder());
        }
        if std::env::var_os("USER").is_none() {
            // rootlesskit looks there for whose subordinate IDs it takes.
            command.env("USER", user());
        }
        let child = command.spawn();
        let child =
            child.map_err(|error| Error::new(format!("buildkitd cannot be started: {error}")))?;
        let mut own = Self {
            child,
            socket,
            runtime,
            _held: held,
        };
        own.wait(&programs.buildctl, &log, root).await?;
        Ok(own)
    }

    /// Until it answers.
    async fn wait(&mut self, buildctl: &Path, log: &Path, root: bool) -> Result<(), Error> {
        let begun = Instant::now();
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(not_started(&format!("it ended with {status}"), log, root));
            }
            let asked = tokio::process::Command::new(buildctl)
                .arg("--addr")
                .arg(format!("unix://{}", self.socket.display()))
                .args(["debug", "workers"])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .kill_on_drop(true)
                .status();
            let there = self.socket.exists();
            if there
                && tokio::time::timeout(READY, asked)
                    .await
                    .is_ok_and(|it| it.is_ok_and(|it| it.success()))
            {
                return Ok(());
            }
            if begun.elapsed() > READY {
                let why = format!("it did not answer within {} s", READY.as_secs());
                return Err(not_started(&why, log, root));
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        if let Ok(pid) = i32::try_from(self.child.id())
            && let Some(pid) = Pid::from_raw(pid)
            && matches!(self.child.try_wait(), Ok(None))
        {
            // It is ours, and has not been waited for: the number is its own still.
            let _ = kill_process(pid, Signal::TERM);
        }
        let begun = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if begun.elapsed() > END {
                let _ = self.child.kill();
                let _ = self.child.wait();
                break;
            }
            std::thread::sleep(LOOK);
        }
        if let Some(runtime) = &self.runtime {
            let _ = fs::remove_dir_all(runtime);
        }
    }
}

/// What it takes.
struct Programs {
    buildctl: PathBuf,
    buildkitd: PathBuf,
    runc: PathBuf,
    rootlesskit: Option<PathBuf>,
}

fn programs(folders: &Folders, root: bool) -> Result<Programs, Error> {
    let missing = |missing: Vec<String>| {
        Error::new(format!(
            "no daemon to build on:\n  {}\nor name a daemon that runs with --builder or BUILDKIT_HOST",
            missing.join("\n  ")
        ))
    };
    if root {
        let [buildctl, buildkitd, runc] =
            folders.all([BUILDCTL, BUILDKITD, RUNC]).map_err(missing)?;
        return Ok(Programs {
            buildctl,
            buildkitd,
            runc,
            rootlesskit: None,
        });
    }
    let all = [BUILDCTL, BUILDKITD, RUNC, ROOTLESSKIT, NEWUIDMAP, NEWGIDMAP];
    let [buildctl, buildkitd, runc, rootlesskit, ..] = folders.all(all).map_err(missing)?;
    Ok(Programs {
        buildctl,
        buildkitd,
        runc,
        rootlesskit: Some(rootlesskit),
    })
}

/// A user without subordinate IDs can have one user in the daemon's namespace alone: images have more.
fn subordinate_ids() -> Result<(), Error> {
    let uid = getuid().as_raw().to_string();
    let name = &user();
    for file in ["/etc/subuid", "/etc/subgid"] {
        let text = fs::read_to_string(file).unwrap_or_default();
        if !has_ids(&text, name, &uid) {
            return Err(Error::new(format!(
                "user {name} has no subordinate IDs in {file}: run as root: usermod --add-subuids 100000-165535 \
                 --add-subgids 100000-165535 {name}; or name a daemon that runs with --builder or BUILDKIT_HOST"
            )));
        }
    }
    Ok(())
}

/// The name of the user who builds; the number where there is none.
fn user() -> String {
    let uid = getuid().as_raw().to_string();
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    name_of(&users, &uid).map_or_else(|| uid.clone(), str::to_owned)
}

/// The name of the user with this ID (passwd(5)).
fn name_of<'a>(users: &'a str, uid: &str) -> Option<&'a str> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid).then_some(name)
    })
}

/// True where a user has enough subordinate IDs for images (subuid(5)).
fn has_ids(text: &str, name: &str, uid: &str) -> bool {
    text.lines().any(|line| {
        let fields: Vec<&str> = line.trim().split(':').collect();
        let [who, _, count] = fields[..] else {
            return false;
        };
        (who == name || who == uid) && count.parse().is_ok_and(|count: u64| count >= 65_536)
    })
}

/// The folder of the state, which stays: caches are in it.
fn state() -> Result<PathBuf, Error> {
    let set = |name: &str| {
        std::env::var_os(name)
            .filter(|it| !it.is_empty())
            .map(PathBuf::from)
    };
    let data = set("XDG_DATA_HOME").or_else(|| Some(set("HOME")?.join(".local/share")));
    let data = data.ok_or_else(|| {
        Error::new(
            "neither XDG_DATA_HOME nor HOME is set: set one of them, to keep the build cache there",
        )
    })?;
    Ok(data.join("whittle/buildkit"))
}

/// Makes a folder that nobody else looks into, with those above it that are missing.
fn private(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o700).create(folder)
}

/// A folder for the socket: the one that is made for such, where there is one.
fn runtime(room: &Room) -> Result<Option<PathBuf>, Error> {
    use std::os::unix::fs::DirBuilderExt;
    let Some(all) = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from) else {
        return Ok(None);
    };
    let Some(name) = room.folder().file_name().filter(|_| all.is_dir()) else {
        return Ok(None);
    };
    let folder = all.join(name);
    match fs::DirBuilder::new().mode(0o700).create(&folder) {
        Ok(()) => Ok(Some(folder)),
        Err(_) => Ok(None),
    }
}

/// Waits until no other build has its daemon on this state.
async fn hold(state: &Path, say: impl Fn(&str)) -> Result<fs::File, Error> {
    let path = state.join("whittle.lock");
    let failed = |error: std::io::Error| Error::new(format!("{}: {error}", path.display()));
    let file = fs::File::create(&path).map_err(failed)?;
    let mut told = false;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) => {}
            Err(error) => return Err(failed(error.into())),
        }
        if !told {
            told = true;
            say("waiting for another whittle build --local, which has the build cache");
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// The command that starts it: by this program, so that it ends with it however that ends.
fn command(
    programs: &Programs,
    socket: &Path,
    config: &Path,
    state: &Path,
) -> Result<Command, Error> {
    let words = bound(programs.rootlesskit.as_ref().unwrap_or(&programs.buildkitd))?;
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    if programs.rootlesskit.is_some() {
        // Steps have the network of the host, as `buildctl-daemonless.sh` gives it to them.
        command
            .args(["--net=host", "--state-dir"])
            .arg(config.with_file_name("rootlesskit"))
            .arg(&programs.buildkitd)
            .arg("--rootless");
        if masked::is_masked() {
            // As in a Job of a CI: each step sees the processes of the container then.
            command.arg("--oci-worker-no-process-sandbox");
        }
    }
    command.arg("--root").arg(state);
    command.arg("--config").arg(config);
    command
        .arg("--addr")
        .arg(format!("unix://{}", socket.display()));
    command.arg("--oci-worker-binary").arg(&programs.runc);
    Ok(command)
}

fn not_started(why: &str, log: &Path, root: bool) -> Error {
    let said = tail(log);
    let fix = if root {
        "as root it needs cgroups and mounts: on a machine without them, name a daemon that runs with --builder"
    } else {
        "it needs user namespaces (sysctl user.max_user_namespaces; on Ubuntu also kernel.apparmor_restrict_unprivileged_userns), \
         or name a daemon that runs with --builder"
    };
    Error::new(format!("buildkitd does not start: {why}: {said}\n{fix}"))
}

/// The end of a log.
fn tail(log: &Path) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = fs::File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
        let mut bytes = vec![];
        file.take(TAIL).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().unwrap_or_default();
    String::from_utf8_lossy(&bytes).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_is_for_nobody_else() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("a/b");
        private(&state).unwrap();
        let mode = fs::metadata(&state).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        // Caches are there already at the next build.
        private(&state).unwrap();
    }

    #[test]
    fn subordinate_ids_are_those_of_the_name_or_the_number_and_enough_for_images() {
        let users = "root:x:0:0::/root:/bin/sh\nbob:x:1000:1000::/home/bob:/bin/sh\n";
        assert_eq!(name_of(users, "1000"), Some("bob"));
        assert_eq!(name_of(users, "1001"), None);
        assert!(has_ids("bob:100000:65536\n", "bob", "1000"));
        assert!(has_ids("al:1:65536\n1000:100000:65536\n", "bob", "1000"));
        assert!(!has_ids("bobby:100000:65536\n", "bob", "1000"));
        assert!(!has_ids("bob:100000:1000\n", "bob", "1000"));
        assert!(!has_ids("", "bob", "1000"));
    }

    #[test]
    fn a_user_is_told_of_all_that_is_missing_at_once() {
        let said = programs(&Folders::none(), false).err().unwrap().to_string();
        for name in [
            "buildctl",
            "buildkitd",
            "runc",
            "rootlesskit",
            "newuidmap",
            "newgidmap",
        ] {
            assert!(
                said.contains(&format!("{name} not found: ")),
                "{name}: {said}"
            );
        }
        assert!(said.ends_with("with --builder or BUILDKIT_HOST"), "{said}");
        let root = programs(&Folders::none(), true).err().unwrap().to_string();
        assert!(!root.contains("rootlesskit"), "{root}");
    }

    #[test]
    fn of_a_log_the_end_is_shown() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        fs::write(&log, format!("{}\nthe cause\n", "x".repeat(5000))).unwrap();
        let shown = tail(&log);
        assert!(shown.ends_with("\nthe cause") && shown.len() < 2001);
        assert_eq!(tail(&folder.path().join("none")), "");
    }
}
