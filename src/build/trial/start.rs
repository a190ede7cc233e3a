//! Becomes the program of an image, as the restricted Pod of a health check starts it: as its own user, without capabilities, and
//! without a way to more rights.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs;
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use rustix::fs::getxattr;
use rustix::io::Errno;
use rustix::process::{Gid, Uid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, configure_capability_in_ambient_set,
    remove_capability_from_bounding_set, set_capabilities, set_keep_capabilities, set_no_new_privs,
    set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};
use whittle_image::{DEFAULT_PATH, Identity};

use super::here::{Asked, FAULT, OUTCOME};

/// Bytes of `/etc/passwd` and `/etc/group` that are read.
const READ: u64 = 1 << 20;
/// The code of a program that could not be started.
const NOT_STARTED: u8 = 128;

/// Becomes this command, or without one the image's own program; returns only where that fails. It has to be the only thread.
pub fn run(command: &[String]) -> ExitCode {
    let own = command.is_empty();
    let Err(why) = become_program(command);
    eprintln!("{why}");
    if own {
        // Where its rights are dropped already, this was done before.
        let _ = fs::write(Path::new(OUTCOME).join(FAULT), &why);
    }
    ExitCode::from(NOT_STARTED)
}

fn become_program(command: &[String]) -> Result<Infallible, String> {
    let said = |error: io::Error| error.to_string();
    let asked = Asked::read().map_err(said)?;
    let words = match command {
        [] => &asked.command,
        command => command,
    };
    let (name, args) = words.split_first().ok_or("no command specified")?;
    let [passwd, group] = ["/etc/passwd", "/etc/group"].map(text);
    let identity = Identity::by(&asked.user, &passwd, &group);
    let uid = identity.uid.ok_or_else(|| {
        format!(
            "unable to find user {}: no matching entries in passwd file",
            asked.user
        )
    })?;
    let env = environment(&asked, &identity);
    let directory = match asked.directory.as_str() {
        "" => "/",
        directory => directory,
    };
    // As a runtime makes it.
    let _ = fs::create_dir_all(directory);
    std::env::set_current_dir(directory)
        .map_err(|error| format!("chdir to cwd ({directory:?}): {}", worded(&error)))?;
    let path = env.get("PATH").map(String::as_str).unwrap_or_default();
    let program = found(name, path)
        .ok_or_else(|| format!("exec: {name:?}: executable file not found in $PATH"))?;
    if is_unmarked(&program) {
        // execvp(3) would hand it to a shell; runtimes do not.
        return Err(format!("exec {}: exec format error", program.display()));
    }
    // The program is started without its capabilities, or refused where they hold at once: as where all are dropped.
    let marked = getxattr(&program, "security.capability", &mut [0_u8; 64]).is_ok();
    // Only root can open it.
    let fault = command
        .is_empty()
        .then(|| fs::File::create(Path::new(OUTCOME).join(FAULT)).ok());
    let rights = lowered(uid, &identity, asked.as_root, !marked);
    rights.map_err(|error| format!("the rights of the program cannot be dropped: {error}"))?;
    let error = Command::new(&program)
        .arg0(name)
        .args(args)
        .env_clear()
        .envs(&env)
        .exec();
    let why = format!("exec: {name:?}: {}", worded(&error));
    if let Some(mut fault) = fault.flatten() {
        let _ = io::Write::write_all(&mut fault, why.as_bytes());
    }
    Err(why)
}

/// What the image and the check set, and what a runtime adds.
fn environment(asked: &Asked, identity: &Identity) -> BTreeMap<String, String> {
    let mut env = asked.variables();
    env.entry("PATH".into())
        .or_insert_with(|| DEFAULT_PATH.into());
    let home = identity.passwd.as_ref().map(|user| user.home.clone());
    let home = home.filter(|home| !home.is_empty());
    env.entry("HOME".into())
        .or_insert_with(|| home.unwrap_or_else(|| "/".into()));
    env
}

/// The file of a program: by its path, or in a folder of PATH.
fn found(name: &str, path: &str) -> Option<PathBuf> {
    if name.contains('/') {
        return Some(name.into());
    }
    let all = path.split(':').filter(|folder| !folder.is_empty());
    let mut all = all.map(|folder| Path::new(folder).join(name));
    all.find(|path| {
        use std::os::unix::fs::PermissionsExt;
        let found = fs::metadata(path);
        found.is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0)
    })
}

/// True for a file that says neither by ELF nor by `#!` how it is run.
fn is_unmarked(program: &Path) -> bool {
    let mut head = [0; 4];
    let file = fs::File::open(program);
    let read = file.and_then(|mut file| file.read_exact(&mut head));
    match read {
        Ok(()) => &head != b"\x7fELF" && !head.starts_with(b"#!"),
        Err(error) => error.kind() == io::ErrorKind::UnexpectedEof,
    }
}

/// Takes the rights away. Low ports stay open to everybody, as runtimes of clusters open them: here that is a capability, which
/// `ports` allows.
fn lowered(uid: u32, identity: &Identity, as_root: bool, ports: bool) -> rustix::io::Result<()> {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(identity.gid));
    let groups = identity.groups.iter().copied().chain([identity.gid]);
    let groups: Vec<Gid> = groups.map(Gid::from_raw).collect();
    let port = CapabilitySet::NET_BIND_SERVICE;
    let has = capabilities(None)?.permitted.contains(port);
    let kept = match ports && has {
        true => port,
        false => CapabilitySet::empty(),
    };
    if !as_root {
        for (_, one) in CapabilitySet::all().iter_names() {
            if kept.contains(one) {
                continue;
            }
            match remove_capability_from_bounding_set(one) {
                // This kernel does not know it.
                Ok(()) | Err(Errno::INVAL) => {}
                Err(error) => return Err(error),
            }
        }
        set_keep_capabilities(true)?;
    }
    set_thread_groups(&groups)?;
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)?;
    if !as_root {
        set_capabilities(
            None,
            CapabilitySets {
                effective: kept,
                permitted: kept,
                inheritable: kept,
            },
        )?;
        if !kept.is_empty() {
            configure_capability_in_ambient_set(port, true)?;
        }
    }
    set_no_new_privs(true)
}

/// A runtime's words for an error of the system.
fn worded(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    text.to_ascii_lowercase()
}

fn text(path: &str) -> String {
    let mut text = vec![];
    let file = fs::File::open(path);
    let _ = file.and_then(|file| file.take(READ).read_to_end(&mut text));
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_by_its_path_and_in_path() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tool");
        fs::write(&path, "#!/bin/sh\n").unwrap();
        let all = format!("/nowhere::{}", folder.path().display());
        assert_eq!(found("tool", &all), None);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(found("tool", &all), Some(path.clone()));
        assert_eq!(found("/app", &all), Some("/app".into()));
        assert!(!is_unmarked(&path));
        fs::write(&path, "echo hello\n").unwrap();
        assert!(is_unmarked(&path));
        assert!(!is_unmarked(Path::new("/nowhere")));
    }

    #[test]
    fn a_runtime_adds_path_and_home_where_the_image_sets_none() {
        let mut asked = Asked {
            env: vec!["A=1".into(), "A=2".into()],
            ..Asked::default()
        };
        let passwd = "app:x:1000:1000::/home/app:/bin/sh\n";
        let identity = Identity::by("app", passwd, "");
        let of = |asked: &Asked, name: &str| environment(asked, &identity)[name].clone();
        assert_eq!(of(&asked, "A"), "2");
        assert_eq!(of(&asked, "PATH"), DEFAULT_PATH);
        assert_eq!(of(&asked, "HOME"), "/home/app");
        asked.env.push("HOME=/data".into());
        assert_eq!(of(&asked, "HOME"), "/data");
    }

    #[test]
    fn errors_of_the_system_are_told_in_the_words_of_a_runtime() {
        let denied = io::Error::from_raw_os_error(Errno::PERM.raw_os_error());
        assert_eq!(worded(&denied), "operation not permitted");
    }
}
