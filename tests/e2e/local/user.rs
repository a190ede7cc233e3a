//! As a plain user: with a daemon in a user namespace, and without what that takes.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

use serde_json::json;

use super::SAME;
use super::bench::{Bench, ended, manifest, script};
use crate::field::variable;

/// A user that nobody else is.
const USER: u32 = 64_321;

/// The programs that any user may run, in a folder of the bench.
fn programs(bench: &Bench, names: &[&str]) -> String {
    let folder = bench.path("bin");
    fs::create_dir_all(&folder).unwrap();
    for name in names {
        let from = Path::new(&variable("CLUSTER_BIN")).join(name);
        fs::copy(from, folder.join(name)).unwrap();
        open(&folder.join(name), 0o755);
    }
    fs::copy(variable("WHITTLE_STATIC"), folder.join("whittle")).unwrap();
    folder.display().to_string()
}

fn open(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// The command as that user. `before`: what a shell does as root, in mounts of its own.
fn command(bench: &Bench, bin: &str, before: &str, file: &str) -> Command {
    let home = bench.path("home");
    fs::create_dir_all(&home).unwrap();
    chown(&home, Some(USER), Some(USER)).unwrap();
    open(&bench.path(""), 0o755);
    open(Path::new(file), 0o644);
    let script_path = bench.path("as-user.sh");
    let user = format!("setpriv --reuid {USER} --regid {USER} --clear-groups");
    script(
        &script_path,
        &format!(
            "#!/bin/sh\nset -e\n{before}\nexec {user} {bin}/whittle build --local -o json --push --check -f {file}\n"
        ),
    );
    let mut command = Command::new("unshare");
    let inherited = bench.command();
    command
        .args(["--mount", "--propagation", "private"])
        .arg(script_path);
    command.env_clear();
    for (name, value) in inherited.get_envs() {
        command.env(name, value.unwrap());
    }
    command
        .env("PATH", format!("{bin}:/usr/bin:/bin"))
        .env("HOME", &home)
        .env("TMPDIR", &home)
        .env("XDG_DATA_HOME", home.join("data"));
    command
}

fn build(bench: &Bench) -> String {
    let spec = json!({"source": {"inline": {"files": {"Dockerfile": format!("{SAME}RUN id > /tmp/id\n").replace("USER 65532\n", "")}}},
        "healthCheck": {"run": {"args": ["id", "-u"], "stdout": "65532"}}, "output": {"image": bench.image("user")}});
    bench.write(&manifest("user", &spec))
}

#[tokio::test]
async fn a_user_is_told_what_is_missing_with_the_packages_that_have_it() {
    let bench = Bench::new();
    let file = build(&bench);
    let bin = programs(&bench, &["buildctl", "buildkitd", "runc", "rootlesskit"]);
    // Whatever this machine has of it stays out of sight.
    let hidden = "for it in /usr/bin/newuidmap /usr/bin/newgidmap; do [ ! -e $it ] || mount --bind /dev/null $it; done";
    let said = ended(&mut command(&bench, &bin, hidden, &file)).said(2);
    for words in [
        "newuidmap not found: install the package uidmap (Debian) or shadow-utils (Fedora)",
        "newgidmap not found: ",
        "or name a daemon that runs with --builder or BUILDKIT_HOST",
    ] {
        assert!(said.contains(words), "{said}");
    }
    assert!(!said.contains("rootlesskit not found"), "{said}");
    for name in ["newuidmap", "newgidmap"] {
        script(&Path::new(&bin).join(name), "#!/bin/sh\nexit 1\n");
    }
    let none = "mount --bind /dev/null /etc/subuid";
    let none = format!("[ ! -e /etc/subuid ] || {none}");
    let said = ended(&mut command(&bench, &bin, &none, &file)).said(2);
    assert!(
        said.contains(&format!(
            "user {USER} has no subordinate IDs in /etc/subuid: "
        )),
        "{said}"
    );
    assert!(said.contains("usermod --add-subuids"), "{said}");
}

#[tokio::test]
async fn a_user_with_subordinate_ids_builds_in_a_user_namespace() {
    let bench = Bench::new();
    let file = build(&bench);
    let bin = programs(&bench, &["buildctl", "buildkitd", "runc", "rootlesskit"]);
    // They are in the image of the builder.
    let image = format!(
        "{}/moby/buildkit:v0.33.1-rootless",
        variable("REGISTRY_HOST")
    );
    let all = bench.path("all.tar");
    let exported = ended(
        Command::new(Path::new(&variable("CLUSTER_BIN")).join("crane"))
            .args(["export", &image])
            .arg(&all),
    );
    assert_eq!(exported.code, Some(0), "{}", exported.said);
    // With their capabilities, which stand in extended attributes.
    let unpacked = ended(
        Command::new("tar")
            .args([
                "--xattrs",
                "--xattrs-include=security.*",
                "--strip-components=2",
                "-C",
                &bin,
                "-xpf",
            ])
            .arg(&all)
            .args(["usr/bin/newuidmap", "usr/bin/newgidmap"]),
    );
    assert_eq!(unpacked.code, Some(0), "{}", unpacked.said);
    let mut mounts = String::new();
    for (name, text) in [
        ("subuid", format!("{USER}:200000:65536\n")),
        ("subgid", format!("{USER}:200000:65536\n")),
        (
            "passwd",
            format!("root:x:0:0::/root:/bin/sh\nbuilder:x:{USER}:{USER}::/:/bin/sh\n"),
        ),
        ("group", format!("root:x:0:\nbuilder:x:{USER}:\n")),
    ] {
        let path = bench.path(name);
        fs::write(&path, text).unwrap();
        open(&path, 0o644);
        mounts += &format!(
            "touch /etc/{name}; mount --bind {} /etc/{name}\n",
            path.display()
        );
    }
    let ended = ended(&mut command(&bench, &bin, &mounts, &file));
    // Where a machine allows no user namespaces, it says so.
    if ended.code == Some(2) {
        assert!(
            ended.said.contains("it needs user namespaces"),
            "{}",
            ended.said
        );
        return;
    }
    let status = ended.status(0);
    assert!(
        status["digest"].as_str().unwrap().starts_with("sha256:"),
        "{}",
        ended.said
    );
    // Its step runs the image, there too.
    let conditions = status["conditions"].as_array().unwrap();
    let probed = conditions.iter().find(|it| it["type"] == "Probed");
    assert_eq!(probed.unwrap()["reason"], "Answered", "{}", ended.said);
    bench.nothing_is_left("a build as a plain user");
}
