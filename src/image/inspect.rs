//! From an image as it was read to its report.

use super::config::ImageConfig;
use super::contents::{
    Base, CaCertificates, Contents, Executable, Fault, FolderLink, LayerSize, Listed, Os,
    Privileged, ProgramKind, Runs, SizedFile, TimeZones, Tmp, User,
};
use super::elf::Form;
use super::facts::{Fact, capability_names, had_by_default};
use super::layer::Image;
use super::limits::short;
use super::resolve::{Make, Program, Resolver, Verdict, reason};
use super::shell::is_shell;
use super::start::start;
use super::tree::{Kind, NodeId};
use super::user::{Identity, text};

/// Programs that the report lists.
const MAX_EXECUTABLES: usize = 1000;
/// Programs that are judged; a distribution has about a thousand.
const MAX_JUDGED: usize = 5000;
/// Entries of the report's other lists.
const MAX_LISTED: usize = 100;
/// Largest files that the report lists.
const LARGEST: usize = 10;
/// Words of a command, and libraries of a program, that the report lists.
const MAX_WORDS: usize = 32;
/// Bytes of one text.
const MAX_TEXT: usize = 1000;
/// Bytes of PATH and of WORKDIR; PATH_MAX of Linux.
const MAX_PATH: usize = 4096;

pub(super) const SHELLS: [&str; 13] = [
    "sh", "ash", "bash", "busybox", "csh", "dash", "fish", "ksh", "mksh", "pwsh", "tcsh", "toybox",
    "zsh",
];
const PACKAGE_MANAGERS: [&str; 14] = [
    "apk", "apt", "apt-get", "dnf", "dnf5", "dpkg", "emerge", "microdnf", "opkg", "pacman", "rpm",
    "tdnf", "yum", "zypper",
];

/// Where TLS libraries look for one file with all certificates
/// (crypto/x509/root_linux.go of Go, which knows every distribution's place).
const BUNDLES: [&str; 7] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/etc/ssl/certs/ca-bundle.crt",
];
/// Where they look for a directory of certificates.
const CERTIFICATE_FOLDERS: [&str; 2] = ["/etc/ssl/certs", "/etc/pki/tls/certs"];
/// Where C libraries and language runtimes look for time zones.
const ZONE_FOLDERS: [&str; 3] = [
    "/usr/share/zoneinfo",
    "/usr/share/lib/zoneinfo",
    "/etc/zoneinfo",
];

impl Contents {
    /// The report of an image. `now`: seconds since 1970, for certificates.
    pub fn of(image: &Image, config: &ImageConfig, now: i64) -> Self {
        let mut resolver = Resolver::new(image, config);
        let mut anyone = Resolver::for_anyone(image, config);
        let identity = resolver.identity().clone();
        let start = start(&mut resolver, config, &identity);
        let (programs, unmarked) = programs(image, config, &start.program.path);
        let mut executables = Vec::new();
        let (mut shells, mut package_managers) = (Vec::new(), Vec::new());
        for (id, path) in programs.iter().take(MAX_JUDGED) {
            let mut executable = executable(
                image,
                Program {
                    path: path.clone(),
                    ..resolver.node(*id)
                },
            );
            executable.restricted = executable.runs == Runs::Yes
                && executables.len() < MAX_EXECUTABLES
                && anyone.node(*id).verdict != Verdict::Runnable;
            let name = path.rsplit('/').next().unwrap_or_default();
            if executable.runs != Runs::No {
                if SHELLS.contains(&name) && shells.len() < MAX_LISTED {
                    shells.push(path.clone());
                }
                // busybox brings applets that unpack packages; they manage none.
                let applet = executable
                    .file
                    .as_deref()
                    .is_some_and(|file| file.ends_with("/busybox") || file.ends_with("/toybox"));
                if PACKAGE_MANAGERS.contains(&name)
                    && !applet
                    && package_managers.len() < MAX_LISTED
                {
                    package_managers.push(path.clone());
                }
            }
            if executables.len() < MAX_EXECUTABLES {
                executables.push(executable);
            }
        }
        let (files, bytes, largest, live) = sizes(image);
        Self {
            platform: config.platform(),
            base: base(image),
            os: os(image),
            start,
            user: user(config, &identity),
            env_path: config.variable("PATH").map(|path| short(path, MAX_PATH)),
            working_dir: Some(config.directory())
                .filter(|folder| *folder != "/")
                .map(|folder| short(folder, MAX_PATH)),
            health_check: words(config.health_check.as_deref().unwrap_or_default()),
            executables: Listed {
                omitted: (programs.len() - executables.len()) as i64,
                items: executables,
            },
            unmarked: Listed::first(unmarked, MAX_LISTED),
            links: Listed::first(links(image), MAX_LISTED),
            shells,
            package_managers,
            ca_certificates: ca_certificates(image, config, &identity, now),
            time_zones: time_zones(image, config),
            tmp: tmp(image, &identity),
            setuid: Listed::first(privileged(image), MAX_LISTED),
            files,
            bytes,
            largest,
            layers: Listed::first(layers(image, config, &live), MAX_LISTED),
            partial: image.partial || image.tree.is_exhausted(),
            notes: {
                let mut notes = image.notes.first.clone();
                if image.tree.is_exhausted() {
                    notes.push(super::limits::Note {
                        layer: None,
                        message: super::limits::Exceeded::Steps.to_string(),
                    });
                }
                if image.left_out > 0 {
                    notes.push(super::limits::Note {
                        layer: None,
                        message: format!(
                            "too many files: {} small files without execute permission were \
                                counted but not recorded",
                            image.left_out
                        ),
                    });
                }
                Listed {
                    items: notes,
                    omitted: i64::try_from(image.notes.omitted).unwrap_or(i64::MAX),
                }
            },
        }
    }
}

fn number(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

pub(super) fn words(words: &[String]) -> Vec<String> {
    words
        .iter()
        .take(MAX_WORDS)
        .map(|word| short(word, MAX_TEXT))
        .collect()
}

pub(super) fn executable(image: &Image, program: Program) -> Executable {
    let (runs, fault) = match &program.verdict {
        Verdict::Runnable => (Runs::Yes, None),
        Verdict::Unknown(_) | Verdict::Overriding(_) => (Runs::Unknown, None),
        Verdict::Demanding { mask, .. } if had_by_default(*mask) => {
            (Runs::Unknown, Some(Fault::Capabilities))
        }
        Verdict::Demanding { .. } => (Runs::No, Some(Fault::Capabilities)),
        Verdict::NotFound(_) => (Runs::No, Some(Fault::NotFound)),
        Verdict::WrongMachine { .. } => (Runs::No, Some(Fault::WrongMachine)),
        Verdict::NotExecutable(_) => (Runs::No, Some(Fault::NotExecutable)),
        Verdict::NotPermitted(_) => (Runs::No, Some(Fault::NotPermitted)),
        Verdict::Missing { .. } if program.make == Make::Script => {
            (Runs::No, Some(Fault::MissingInterpreter))
        }
        Verdict::Missing {
            interpreter: Some(_),
            ..
        } => (Runs::No, Some(Fault::MissingLoader)),
        Verdict::Missing { libraries, .. } if libraries.iter().all(|library| library.old) => {
            (Runs::No, Some(Fault::OldLibraries))
        }
        Verdict::Missing { .. } => (Runs::No, Some(Fault::MissingLibraries)),
    };
    let message = reason(&program);
    let file = program.file.map(|id| image.tree.path(id));
    let capabilities = match program.verdict {
        Verdict::Demanding { mask, .. } => capability_names(mask),
        _ => Vec::new(),
    };
    // Its own name says that it is one; so does the name that it is called by.
    let shell = program.file.and_then(|id| match image.fact(id) {
        Some(Fact::Elf(elf)) => elf.shell,
        _ => None,
    });
    Executable {
        capabilities,
        shell: shell.filter(|_| is_shell(program.path.rsplit('/').next().unwrap_or_default())),
        file: file.filter(|file| *file != program.path),
        path: program.path,
        kind: match program.make {
            Make::Static => ProgramKind::Static,
            Make::Dynamic => ProgramKind::Dynamic,
            Make::Script => ProgramKind::Script,
            Make::Other => ProgramKind::Other,
        },
        machine: program.machine.map(super::elf::Machine::display),
        interpreter: program.interpreter.map(|name| short(&name, MAX_TEXT)),
        needed: words(&program.needed),
        go: program.go,
        runs,
        restricted: false,
        fault,
        message: Some(short(&message, MAX_TEXT)).filter(|text| !text.is_empty()),
    }
}

/// Programs and scripts with their paths, also by symbolic links: what is started, then what lies in
/// PATH, then all others. And what may be run elsewhere, and is neither.
fn programs(
    image: &Image,
    config: &ImageConfig,
    first: &str,
) -> (Vec<(NodeId, String)>, Vec<String>) {
    let tree = &image.tree;
    let folders: Vec<NodeId> = config
        .search_path()
        .filter_map(|path| tree.find(path).ok())
        .collect();
    let mut found: Vec<(usize, NodeId, String)> = Vec::new();
    let mut unmarked = Vec::new();
    for id in tree.all() {
        let target = match tree.meta(id).kind {
            Kind::File => id,
            Kind::Symlink => match tree.resolve(tree.parent(id), tree.name(id)) {
                Ok(target) => target,
                Err(_) => continue,
            },
            Kind::Directory | Kind::Special => continue,
        };
        let in_path = folders.contains(&tree.parent(id));
        // A lookup in PATH ends at the first file that may be run, and a shell runs a script without #! itself.
        let meta = tree.meta(target);
        if meta.kind != Kind::File || meta.mode & 0o111 == 0 {
            continue;
        }
        let path = tree.path(id);
        if !in_path && !is_program(image, target) {
            if !is_library_name(&path) {
                unmarked.push(path);
            }
            continue;
        }
        let rank = match (path == first, in_path) {
            (true, _) => 0,
            (false, true) => 1,
            (false, false) => 2,
        };
        found.push((rank, target, path));
    }
    found.sort_by(|a, b| (a.0, &a.2).cmp(&(b.0, &b.2)));
    unmarked.sort();
    let found = found.into_iter().map(|(_, id, path)| (id, path)).collect();
    (found, unmarked)
}

/// Of a file that may be run.
fn is_program(image: &Image, id: NodeId) -> bool {
    match image.fact(id) {
        // Libraries that can be called, such as libc.so.6, have a name of their own.
        Some(Fact::Elf(elf)) => {
            matches!(elf.form, Form::Executable | Form::PositionIndependent) && elf.soname.is_none()
        }
        Some(Fact::Script(_) | Fact::Foreign(_) | Fact::BadElf(_)) => true,
        _ => false,
    }
}

/// `libc.so.6`, `mod_ssl.so`.
pub fn is_library_name(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    name.ends_with(".so") || name.contains(".so.")
}

/// Links to directories, those nearest to the root first.
fn links(image: &Image) -> Vec<FolderLink> {
    let tree = &image.tree;
    let mut found: Vec<FolderLink> = tree
        .all()
        .filter(|id| tree.meta(*id).kind == Kind::Symlink)
        .filter_map(|id| {
            let folder = tree.resolve(tree.parent(id), tree.name(id)).ok()?;
            (tree.meta(folder).kind == Kind::Directory).then(|| FolderLink {
                path: tree.path(id),
                folder: tree.path(folder),
            })
        })
        .collect();
    found.sort_by_cached_key(|link| (link.path.matches('/').count(), link.path.clone()));
    found
}

fn user(config: &ImageConfig, identity: &Identity) -> User {
    User {
        configured: short(&config.user, MAX_TEXT),
        numeric: identity.numeric,
        uid: identity.uid.map(i64::from),
        gid: i64::from(identity.gid),
        name: identity
            .passwd
            .as_ref()
            .map(|user| short(&user.name, MAX_TEXT)),
        home: identity
            .passwd
            .as_ref()
            .map(|user| short(&user.home, MAX_TEXT)),
        unknown: identity
            .unknown
            .as_deref()
            .map(|name| short(name, MAX_TEXT)),
    }
}

/// Certificates where Go, OpenSSL and their like find them: SSL_CERT_FILE or the known files, then
/// SSL_CERT_DIR or the known directories; those that the image's user may read.
fn ca_certificates(
    image: &Image,
    config: &ImageConfig,
    identity: &Identity,
    now: i64,
) -> Option<CaCertificates> {
    let tree = &image.tree;
    let fact = |id: NodeId| match image.fact(id) {
        _ if !identity.reads(image, id) => None,
        Some(Fact::Certificates(found)) if !found.not_after.is_empty() => Some(found),
        _ => None,
    };
    let chosen = config
        .variable("SSL_CERT_FILE")
        .filter(|path| !path.is_empty());
    let files = chosen.map_or_else(|| BUNDLES.to_vec(), |path| vec![path]);
    for path in files {
        if let Some(found) = tree.find(path).ok().and_then(fact) {
            return Some(CaCertificates {
                path: path.into(),
                certificates: found.not_after.len() as i64,
                expired: found.expired(now) as i64,
                unreadable: i64::from(found.unreadable),
            });
        }
    }
    let chosen = config
        .variable("SSL_CERT_DIR")
        .filter(|path| !path.is_empty());
    let folders = chosen.map_or_else(
        || CERTIFICATE_FOLDERS.to_vec(),
        |paths| paths.split(':').collect(),
    );
    for path in folders.into_iter().take(MAX_WORDS) {
        let Ok(folder) = tree.find(path) else {
            continue;
        };
        // The same file stands there by its name and by its hash.
        let mut files: Vec<NodeId> = tree
            .children(folder)
            .filter_map(|id| tree.resolve(folder, tree.name(id)).ok())
            .collect();
        files.sort_unstable();
        files.dedup();
        let mut sum = CaCertificates {
            path: path.into(),
            ..CaCertificates::default()
        };
        for found in files.into_iter().filter_map(fact) {
            sum.certificates += found.not_after.len() as i64;
            sum.expired += found.expired(now) as i64;
            sum.unreadable += i64::from(found.unreadable);
        }
        if sum.certificates > 0 {
            return Some(sum);
        }
    }
    None
}

/// Time zones: a directory with at least one region in it, or Go's archive.
fn time_zones(image: &Image, config: &ImageConfig) -> Option<TimeZones> {
    let tree = &image.tree;
    let chosen = ["TZDIR", "ZONEINFO"]
        .into_iter()
        .filter_map(|name| config.variable(name));
    for path in chosen.chain(ZONE_FOLDERS) {
        let Ok(id) = tree.find(path) else {
            continue;
        };
        if tree.meta(id).kind == Kind::File && path.ends_with(".zip") {
            return Some(TimeZones {
                path: path.into(),
                files: 1,
            });
        }
        let region = tree.children(id).any(|child| {
            tree.meta(child).kind == Kind::Directory
                && tree.name(child) != b"Etc"
                && tree.children(child).next().is_some()
        });
        if region {
            let files = tree
                .below(id)
                .filter(|id| tree.meta(*id).kind != Kind::Directory)
                .count();
            return Some(TimeZones {
                path: path.into(),
                files: files as i64,
            });
        }
    }
    None
}

fn tmp(image: &Image, identity: &Identity) -> Tmp {
    let Ok(id) = image.tree.find("/tmp") else {
        return Tmp::default();
    };
    let meta = image.tree.meta(id);
    Tmp {
        exists: meta.kind == Kind::Directory,
        writable: identity.may_write_into(&meta) && identity.barred(image, id).is_none(),
        mode: Some(format!("{:o}", meta.mode)),
    }
}

fn privileged(image: &Image) -> Vec<Privileged> {
    let mut found: Vec<Privileged> = image
        .tree
        .all()
        .filter_map(|id| {
            let meta = image.tree.meta(id);
            let capabilities = image.capability(id);
            // Setgid without execute permission is an old mark for locks.
            let setuid =
                meta.mode & 0o4000 != 0 && meta.mode & 0o111 != 0 || meta.mode & 0o2010 == 0o2010;
            (meta.kind == Kind::File && (setuid || capabilities.is_some())).then(|| Privileged {
                path: image.tree.path(id),
                mode: format!("{:o}", meta.mode),
                uid: i64::from(meta.uid),
                capabilities: capabilities.map(capability_names).unwrap_or_default(),
            })
        })
        .collect();
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// Files, their bytes, the largest of them, and the bytes that each layer still has.
fn sizes(image: &Image) -> (i64, i64, Vec<SizedFile>, Vec<u64>) {
    let mut files = number(image.left_out);
    let mut live = vec![0_u64; image.layers.len()];
    let mut largest: Vec<(u64, NodeId)> = Vec::new();
    for id in image.tree.all() {
        let meta = image.tree.meta(id);
        if meta.kind != Kind::File || meta.hard_link {
            continue;
        }
        files += 1;
        if let Some(bytes) = live.get_mut(usize::from(meta.layer)) {
            *bytes = bytes.saturating_add(meta.size);
        }
        if meta.size > 0
            && (largest.len() < LARGEST || largest.last().is_some_and(|last| meta.size > last.0))
        {
            let at = largest.partition_point(|known| known.0 >= meta.size);
            largest.insert(at, (meta.size, id));
            largest.truncate(LARGEST);
        }
    }
    let bytes = live.iter().fold(image.left_out_bytes, |sum, bytes| {
        sum.saturating_add(*bytes)
    });
    let largest = largest
        .into_iter()
        .map(|(size, id)| SizedFile {
            path: image.tree.path(id),
            size: number(size),
            layer: i32::from(image.tree.meta(id).layer) + 1,
        })
        .collect();
    (files, number(bytes), largest, live)
}

fn layers(image: &Image, config: &ImageConfig, live: &[u64]) -> Vec<LayerSize> {
    image
        .layers
        .iter()
        .enumerate()
        .map(|(index, layer)| LayerSize {
            digest: layer.digest.clone(),
            instruction: config
                .instructions
                .get(index)
                .filter(|text| !text.is_empty())
                .cloned(),
            size: number(layer.packed),
            content: number(layer.content),
            // What was not kept cannot be told from what was hidden.
            hidden: if image.left_out > 0 {
                0
            } else {
                number(
                    layer
                        .content
                        .saturating_sub(live.get(index).copied().unwrap_or(0)),
                )
            },
        })
        .collect()
}

fn release(image: &Image) -> Option<String> {
    ["/etc/os-release", "/usr/lib/os-release"]
        .into_iter()
        .map(|path| text(image, path))
        .find(|text| !text.is_empty())
}

fn value<'a>(release: &'a str, key: &str) -> Option<&'a str> {
    release.lines().find_map(|line| {
        let (name, value) = line.trim().split_once('=')?;
        (name == key).then(|| value.trim_matches(['"', '\'']))
    })
}

fn os(image: &Image) -> Option<Os> {
    let release = release(image)?;
    Some(Os {
        id: short(value(&release, "ID")?, 100),
        version: value(&release, "VERSION_ID").map(|version| short(version, 100)),
    })
}

fn base(image: &Image) -> Base {
    let release = release(image);
    // A loader in one of its usual places.
    let has = |prefix: &[u8]| {
        ["/lib", "/lib64", "/usr/lib", "/usr/lib64"]
            .into_iter()
            .any(|path| {
                image.tree.find(path).is_ok_and(|folder| {
                    image.tree.children(folder).any(|id| {
                        image.tree.name(id).starts_with(prefix)
                            && image.tree.resolve(folder, image.tree.name(id)).is_ok()
                    })
                })
            })
    };
    let (musl, glibc) = (has(b"ld-musl-"), has(b"ld-linux") || has(b"ld64.so"));
    let distroless = release
        .as_deref()
        .is_some_and(|release| value(release, "PRETTY_NAME") == Some("Distroless"));
    match (release.is_some(), musl, glibc) {
        (_, _, true) if distroless => Base::Distroless,
        (_, false, false) if distroless => Base::DistrolessStatic,
        (true, true, _) => Base::Musl,
        (true, _, true) => Base::Glibc,
        (true, false, false) => Base::Other,
        // Without a distribution: what was copied onto scratch.
        (false, ..) => {
            if image.tree.find("/bin/busybox").is_ok() {
                Base::Other
            } else {
                Base::Scratch
            }
        }
    }
}

#[cfg(test)]
#[path = "inspect_tests.rs"]
mod tests;
