//! Where the walk begins.

use super::Why;
use super::folders::is_leftover;
use super::walk::Walk;
use crate::shell::is_shell;
use crate::tree::Kind;

/// What every image keeps that has it: small, and read by C libraries, runtimes and scanners without being named by a program.
const COMMON: [&str; 29] = [
    "/etc/passwd",
    "/etc/group",
    "/etc/shadow",
    "/etc/nsswitch.conf",
    "/etc/hosts",
    "/etc/hostname",
    "/etc/resolv.conf",
    "/etc/host.conf",
    "/etc/localtime",
    "/etc/timezone",
    "/etc/os-release",
    "/etc/debian_version",
    "/etc/alpine-release",
    "/etc/redhat-release",
    "/etc/mime.types",
    "/etc/services",
    "/etc/protocols",
    "/etc/ssl/openssl.cnf",
    "/etc/ssl/cert.pem",
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/tls/cert.pem",
    "/tmp",
    "/var/tmp",
    "/run",
    "/var/run",
    "/run/lock",
    "/dev/shm",
    "/nonexistent",
];

/// Folders of the root that distributions and toolchains have (<https://refspecs.linuxfoundation.org/FHS_3.0/fhs/ch03.html>).
const STANDARD: [&[u8]; 20] = [
    b"bin", b"boot", b"dev", b"etc", b"go", b"home", b"media", b"mnt", b"nix", b"opt", b"proc",
    b"root", b"run", b"sbin", b"src", b"srv", b"sys", b"tmp", b"usr", b"var",
];

/// What scanners read.
const DATABASES: [&str; 4] = [
    "/var/lib/dpkg/status",
    "/lib/apk/db/installed",
    "/usr/lib/apk/db/installed",
    "/var/lib/rpm",
];

/// Keeps all roots, and what they need.
pub(super) fn all(walk: &mut Walk<'_>) {
    top(walk);
    command(walk);
    for path in COMMON {
        walk.keep_path(path, Why::Common, None);
    }
    for path in DATABASES {
        walk.keep_path(path, Why::Metadata, None);
    }
    // Distroless writes one file for each package.
    for folder in ["/var/lib/dpkg/status.d", "/var/lib/rpm"] {
        if let Ok(id) = walk.tree.find(folder) {
            walk.keep_tree(id, Why::Metadata, None, &|_| false);
        }
    }
    places(walk);
    environment(walk);
    asked(walk);
    traced(walk);
    own(walk);
    walk.settle();
    locale(walk);
    services(walk);
}

/// The folders and links of the root: `/lib` is a link in many an image, and a loader's path goes through it.
fn top(walk: &mut Walk<'_>) {
    for id in walk.tree.children(walk.tree.root()).collect::<Vec<_>>() {
        let name = walk.tree.name(id);
        match walk.tree.meta(id).kind {
            Kind::File => {}
            // A folder that no distribution has is somebody's, with a purpose: /docker-entrypoint.d, /scripts.
            Kind::Directory
                if !STANDARD.contains(&name) && !name.starts_with(b"lib") && !walk.is_own(id) =>
            {
                walk.keep_tree(id, Why::Place, None, &|parts| is_leftover(parts));
            }
            _ => walk.keep(id, Why::Common, None),
        }
    }
}

/// What is started, and what health checks run.
fn command(walk: &mut Walk<'_>) {
    let commands = [(walk.config.command(), Why::Start)];
    let checks = walk.wanted.commands.iter().cloned();
    let checks = checks.map(|command| (command, Why::Check));
    for (command, why) in commands.into_iter().chain(checks).collect::<Vec<_>>() {
        for (index, word) in command.iter().enumerate().take(64) {
            if index == 0 {
                let program = walk.resolver.command(word);
                if program.file.is_some() {
                    let path = absolute(walk, &program.path);
                    walk.keep_path(&path, why, None);
                }
                continue;
            }
            // What an init or an interpreter is given: a path, a program, or a shell's text.
            if word.starts_with('-') {
                continue;
            }
            if word.contains('/') && !word.contains(char::is_whitespace) {
                let path = absolute(walk, word);
                walk.keep_path(&path, why, None);
            } else if word.contains(char::is_whitespace) {
                let shell = command[0].rsplit('/').next().unwrap_or_default();
                if is_shell(shell) || shell == "busybox" {
                    walk.shell_text(word, None);
                }
            } else {
                walk.keep_program(word, why, None);
                let path = absolute(walk, word);
                walk.keep_path(&path, why, None);
            }
        }
    }
}

/// What variables of the config name: folders of data, other programs, libraries to be loaded first.
fn environment(walk: &mut Walk<'_>) {
    let command = walk.config.command();
    let first = command
        .first()
        .and_then(|name| walk.resolver.command(name).file);
    // The loader is known from then on.
    walk.settle();
    for variable in walk.config.env.clone().iter().take(256) {
        let Some((name, value)) = variable.split_once('=') else {
            continue;
        };
        let of_tools = [
            "PATH",
            "LD_LIBRARY_PATH",
            "GOPATH",
            "GOROOT",
            "CARGO_HOME",
            "RUSTUP_HOME",
        ];
        if !of_tools.contains(&name) {
            walk.variable(value, first);
        }
    }
}

fn absolute(walk: &Walk<'_>, path: &str) -> String {
    match path.starts_with('/') {
        true => path.to_owned(),
        false => format!("{}/{path}", walk.config.directory().trim_end_matches('/')),
    }
}

fn places(walk: &mut Walk<'_>) {
    let directory = walk.config.directory().to_owned();
    walk.keep_path(&directory, Why::Place, None);
    for volume in walk.config.volumes.clone() {
        if let Some(id) = walk.keep_path(&volume, Why::Place, None) {
            walk.keep_tree(id, Why::Place, None, &|parts| is_leftover(parts));
        }
    }
    // Where something may be written. A folder costs next to nothing, and that it is missing a service.
    let writable = |walk: &Walk<'_>, id| {
        let meta = walk.tree.meta(id);
        let parts = walk.parts(id);
        let kept_for_state = matches!(parts.as_slice(), [b"var" | b"run", _] | [b"var", _, _]);
        let others = meta.uid != 0 || meta.gid != 0 || meta.mode & 0o022 != 0;
        meta.kind == Kind::Directory && (kept_for_state || others && !is_leftover(&parts))
    };
    let found: Vec<_> = walk.tree.all().filter(|id| writable(walk, *id)).collect();
    for id in found {
        walk.keep(id, Why::Place, None);
    }
    let identity = walk.resolver.identity();
    if let Some(user) = identity.passwd.clone() {
        walk.keep_path(&user.home, Why::Place, None);
    }
}

/// Whatever the image was seen to look for: a folder that it lists stays as a folder, and what it opens of it was seen, too.
fn traced(walk: &mut Walk<'_>) {
    for path in &walk.wanted.traced {
        walk.keep_path(path, Why::Traced, None);
    }
}

fn asked(walk: &mut Walk<'_>) {
    if walk.wanted.keep.is_empty() {
        return;
    }
    let found: Vec<_> = walk
        .tree
        .all()
        .filter(|id| walk.wanted.keep.has(&walk.parts(*id)))
        .collect();
    for id in found {
        walk.keep(id, Why::Asked, None);
    }
}

/// What the application brought, and what its Dockerfile made that belongs to no package.
fn own(walk: &mut Walk<'_>) {
    let mut found: Vec<_> = walk
        .tree
        .all()
        .filter(|id| walk.is_own(*id))
        .filter_map(|id| Some((id, walk.own_reason(id)?)))
        .collect();
    found.sort_by_key(|(id, _)| *id);
    let caches = caches(walk);
    for (id, why) in found {
        let mut at = id;
        let mut cached = false;
        while at != walk.tree.root() && !caches.is_empty() {
            at = walk.tree.parent(at);
            cached |= caches.contains(&at);
        }
        if why == Why::Copied || !cached {
            walk.keep(id, why, None);
        }
    }
}

/// Folders that say of themselves that they are caches (<https://bford.info/cachedir/>): cargo's `target` does.
fn caches(walk: &Walk<'_>) -> std::collections::HashSet<crate::NodeId> {
    let all = walk.tree.all();
    let tags = all.filter(|id| walk.tree.name(*id) == b"CACHEDIR.TAG");
    tags.map(|id| walk.tree.parent(id)).collect()
}

/// The locale C.UTF-8, and that which the image is set to.
fn locale(walk: &mut Walk<'_>) {
    let set = ["LC_ALL", "LANG", "LC_CTYPE", "LANGUAGE"]
        .iter()
        .find_map(|name| walk.config.variable(name))
        .unwrap_or("C.UTF-8")
        .to_owned();
    let plain = matches!(set.as_str(), "C.UTF-8" | "C.utf8" | "C" | "POSIX" | "");
    let mut names = vec!["C.utf8".to_owned(), "C.UTF-8".to_owned()];
    if !plain {
        let language = set.split(['.', '@']).next().unwrap_or_default();
        names.push(set.clone());
        names.push(format!("{language}.utf8"));
        names.push(language.to_owned());
        let path = "/usr/lib/locale/locale-archive";
        walk.keep_path(path, Why::Common, None);
        for name in [language, language.split('_').next().unwrap_or_default()] {
            if let Ok(id) = walk.tree.find(&format!("/usr/share/locale/{name}"))
                && !name.is_empty()
            {
                walk.keep_tree(id, Why::Common, None, &|_| false);
            }
        }
    }
    for name in names.iter().filter(|name| !name.contains('/')) {
        if let Ok(id) = walk.tree.find(&format!("/usr/lib/locale/{name}")) {
            walk.keep_tree(id, Why::Common, None, &|_| false);
        }
    }
}

/// The modules that glibc opens for what nsswitch.conf names (nsswitch.conf(5)).
fn services(walk: &mut Walk<'_>) {
    let image = walk.image;
    let Ok(id) = walk.tree.find("/etc/nsswitch.conf") else {
        return;
    };
    let told = image
        .mentions
        .get(&id)
        .and_then(|told| told.text.as_deref());
    let text = String::from_utf8_lossy(told.unwrap_or_default()).into_owned();
    let mut names: Vec<&str> = text
        .lines()
        .filter_map(|line| line.split('#').next()?.split_once(':'))
        .flat_map(|(_, services)| services.split_whitespace())
        .filter(|name| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'))
        .collect();
    names.extend(["files", "dns"]);
    names.sort_unstable();
    names.dedup();
    for name in names.into_iter().take(32) {
        walk.keep_service(&format!("libnss_{name}.so.2"));
    }
    walk.settle();
}
