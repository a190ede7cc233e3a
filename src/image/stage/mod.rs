//! A last stage for the Dockerfile that an image was made by: `FROM` the base that what is reached needs, `COPY` of that which the
//! base does not have, and what the image's config says. No stage where it would not do all that the image does.
//!
//! The arrows: `bases` <- `needs` <- `copies` <- here.

mod bases;
mod copies;
#[cfg(test)]
mod interpreted_tests;
mod needs;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::fmt::Write as _;

use bases::{Kind, Libraries, debian};
use copies::{Copy, copies};
use needs::Look;

use super::config::ImageConfig;
use super::elf::Form;
use super::facts::Fact;
use super::layer::Image;
use super::reach::{Reach, Wanted};
use super::resolve::{Resolver, Verdict};
use super::shell::base_name;
use super::user::Identity;

/// Sources of COPY, at most: more are no stage that a person would write.
const MOST: usize = 24;
/// Variables that are carried over, at most.
const VARIABLES: usize = 64;
/// The user that distroless calls nonroot.
const NONROOT: u32 = 65532;
/// Certificates that a program trusts.
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Where others have theirs.
const ELSEWHERE: [&str; 3] = [
    "/etc/ssl/cert.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/tls/cert.pem",
];
/// Time zones.
const ZONES: &str = "/usr/share/zoneinfo";

/// Variables about what the old base had.
const LEFT: [&str; 26] = [
    "PATH",
    "LANG",
    "GPG_KEY",
    "PYTHON_VERSION",
    "PYTHON_SHA256",
    "PYTHON_PIP_VERSION",
    "PYTHON_SETUPTOOLS_VERSION",
    "PYTHON_GET_PIP_URL",
    "PYTHON_GET_PIP_SHA256",
    "NODE_VERSION",
    "YARN_VERSION",
    "NPM_CONFIG_LOGLEVEL",
    "GOLANG_VERSION",
    "GOTOOLCHAIN",
    "GOPATH",
    "GOROOT",
    "GOCACHE",
    "GOPROXY",
    "GOFLAGS",
    "CGO_ENABLED",
    "CARGO_HOME",
    "RUSTUP_HOME",
    "RUST_VERSION",
    "DEBIAN_FRONTEND",
    "PIP_NO_CACHE_DIR",
    "PIP_DISABLE_PIP_VERSION_CHECK",
];

/// A last stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// The image that it starts from.
    pub base: String,
    /// Its lines. They copy from the stage `build`: that which the image was made by.
    pub text: String,
}

impl Stage {
    /// The stage for an image, of what is reached of it; none where none is sure to do the same. `image` and `wanted` must be those
    /// that `reach` was made of.
    pub fn of(image: &Image, reach: &Reach, config: &ImageConfig, wanted: &Wanted) -> Option<Self> {
        let known = reach.unsure.is_none() && wanted.base_layers.is_some();
        let machine = config.os == "linux" && matches!(&config.architecture[..], "amd64" | "arm64");
        if !known || !machine || !config.volumes.is_empty() || !wanted.drop.is_empty() {
            return None;
        }
        let mut resolver = Resolver::new(image, config);
        let start = Start::of(image, reach, config, &mut resolver)?;
        let look = Look {
            image,
            reach,
            kind: start.kind,
            roots: start.roots,
            told: start.told || config.variable("LD_LIBRARY_PATH").is_some(),
        };
        let needs = look.needs()?;
        let release = debian(image);
        // What is copied out of the old base beside the new one's libraries is of the same release, or cannot be.
        let node = matches!(start.kind, Kind::Node(_));
        if needs.foreign && (release.is_none() || node)
            || needs.binaries && node && release.is_none()
        {
            return None;
        }
        let mut sources = copies(&image.tree, reach, &needs)?;
        let identity = resolver.identity();
        let uid = identity.uid?;
        // Certificates of other distributions are in other places, and distroless has them where Debian does.
        let there = |path: &&str| image.tree.find(path).is_ok();
        let trusts = look.named(&needs, "/etc/ssl/") || look.named(&needs, "/etc/pki/");
        let elsewhere = !there(&CERTIFICATES) && ELSEWHERE.iter().any(there);
        let scratch =
            start.kind == Kind::Static && !look.writes_temporary(&needs) && !(trusts && elsewhere);
        let mut extra = |path: &str, folder: bool| {
            if image.tree.find(path).is_ok() {
                let path = path.to_owned();
                let owner = None;
                sources.push(Copy {
                    path,
                    folder,
                    owner,
                });
            }
        };
        if scratch && trusts {
            extra(CERTIFICATES, false);
        }
        if scratch && look.named(&needs, ZONES) {
            extra(ZONES, true);
        }
        if look.named(&needs, "/etc/mime.types") {
            extra("/etc/mime.types", false);
        }
        // Whom the base does not know, and whose home is looked for.
        let users = match scratch {
            true => look.named(&needs, "/etc/passwd"),
            false => identity.passwd.is_some() && !matches!(uid, 0 | NONROOT | 65534),
        };
        if users {
            extra("/etc/passwd", false);
            extra("/etc/group", false);
        }
        let libraries = needs.libraries.unwrap_or(Libraries::Base);
        let base = bases::name(start.kind, release, libraries, scratch)?;
        if sources.len() > MOST || sources.is_empty() {
            return None;
        }
        let mut text = String::new();
        let nonroot = uid == NONROOT && base != "scratch";
        let tag = if nonroot { ":nonroot" } else { "" };
        let _ = writeln!(text, "FROM {base}{tag}");
        text.push_str(&copy_lines(&sources));
        if let Some(packages) = &needs.packages {
            let theirs = packages.replace("site-packages", "dist-packages");
            let _ = writeln!(text, "COPY --from=build {packages} {theirs}");
        }
        text.push_str(&settings(config, identity, base != "scratch")?);
        for (word, list) in [("ENTRYPOINT", &start.entrypoint), ("CMD", &start.cmd)] {
            if !list.is_empty() {
                let list = serde_json::to_string(list).ok()?;
                let _ = writeln!(text, "{word} {list}");
            }
        }
        Some(Self { base, text })
    }
}

/// How the new stage starts.
struct Start {
    kind: Kind,
    entrypoint: Vec<String>,
    cmd: Vec<String>,
    roots: HashSet<crate::NodeId>,
    /// The program's header says where its libraries are.
    told: bool,
}

impl Start {
    fn of(
        image: &Image,
        reach: &Reach,
        config: &ImageConfig,
        resolver: &mut Resolver<'_>,
    ) -> Option<Self> {
        let mut start = Self {
            kind: Kind::Static,
            entrypoint: config.entrypoint.clone(),
            cmd: config.cmd.clone(),
            roots: HashSet::new(),
            told: false,
        };
        // The official image's own script: it starts what it is given, where that is Node.js.
        let script = start.entrypoint == ["docker-entrypoint.sh"]
            && start.cmd.first().is_some_and(|word| word == "node");
        if script {
            start
                .roots
                .extend(resolver.command("docker-entrypoint.sh").file);
            start.entrypoint = Vec::new();
        }
        let first = match start.entrypoint.is_empty() {
            true => start.cmd.first_mut(),
            false => start.entrypoint.first_mut(),
        }?;
        let program = resolver.command(first);
        let file = program.file?;
        // What does not start where it is would start nowhere.
        if program.verdict != Verdict::Runnable {
            return None;
        }
        let path = image.tree.path(file);
        if reach.is_own(file) {
            let Some(Fact::Elf(elf)) = image.fact(file) else {
                return None;
            };
            start.told = elf.rpath.is_some() || elf.runpath.is_some();
            start.kind = match (elf.is_static(), &elf.interpreter) {
                (true, _) => Kind::Static,
                (false, Some(loader)) if loader.contains("/ld-linux-") => Kind::Dynamic,
                _ => return None,
            };
            if elf.form == Form::Other {
                return None;
            }
            // A link of the old base is not in the new one.
            let called = match program.path.starts_with('/') {
                true => program.path,
                false => format!(
                    "{}/{}",
                    config.directory().trim_end_matches('/'),
                    program.path
                ),
            };
            let root = image.tree.root();
            let entry = image.tree.resolve_link(root, called.as_bytes()).ok()?;
            *first = match reach.is_own(entry) {
                true => image.tree.path(entry),
                false => path,
            };
            return Some(start);
        }
        let version = |name: &str| config.variable(name).map(str::to_owned);
        let (kind, at) = match base_name(&path) {
            "node" if path == "/usr/local/bin/node" => {
                let version = version("NODE_VERSION")?;
                let major = version.split('.').next()?.parse().ok()?;
                (Kind::Node(major), "/nodejs/bin/node")
            }
            name if path.starts_with("/usr/local/bin/python3.") => {
                let minor = name.strip_prefix("python3.")?.parse().ok()?;
                (Kind::Python(minor), "/usr/bin/python3")
            }
            _ => return None,
        };
        // An interpreter that was found by a link of somebody's own has settings there, as those of a virtual environment.
        let called = ["node", "python", "python3", base_name(&path)];
        if !called.contains(&base_name(first)) || !is_plain(first) {
            return None;
        }
        at.clone_into(first);
        start.roots.insert(file);
        start.kind = kind;
        // Where nothing was an entrypoint, the base's own would be.
        if start.entrypoint.is_empty() {
            start.entrypoint = vec![start.cmd.remove(0)];
        }
        Some(start)
    }
}

/// A name that is looked for in PATH, or the place where the official images have their interpreter.
fn is_plain(word: &str) -> bool {
    !word.contains('/') || word.starts_with("/usr/local/bin/")
}

/// Files that go into one folder stand in one line.
fn copy_lines(sources: &[Copy]) -> String {
    let mut text = String::new();
    let folder = |copy: &Copy| {
        copy.path
            .rsplit_once('/')
            .map(|(folder, _)| folder.to_owned())
    };
    let mut rest = sources;
    while let [first, ..] = rest {
        let alike = |copy: &&Copy| {
            !first.folder
                && !copy.folder
                && copy.owner == first.owner
                && folder(copy) == folder(first)
        };
        let count = rest.iter().take_while(alike).count().max(1);
        let (now, later) = rest.split_at(count);
        rest = later;
        text.push_str("COPY --from=build ");
        if let Some((uid, gid)) = first.owner {
            let _ = write!(text, "--chown={uid}:{gid} ");
        }
        match now {
            [one] => {
                let _ = writeln!(text, "{0} {0}", one.path);
            }
            several => {
                for one in several {
                    let _ = write!(text, "{} ", one.path);
                }
                let _ = writeln!(text, "{}/", folder(first).unwrap_or_default());
            }
        }
    }
    text
}

/// ENV, WORKDIR and USER.
fn settings(config: &ImageConfig, identity: &Identity, distroless: bool) -> Option<String> {
    let mut text = String::new();
    if config.env.len() > VARIABLES {
        return None;
    }
    for variable in &config.env {
        let (name, value) = variable.split_once('=')?;
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if value.chars().any(char::is_control) || !name.chars().all(plain) || name.is_empty() {
            return None;
        }
        if LEFT.contains(&name) {
            continue;
        }
        let mut quoted = String::new();
        for c in value.chars() {
            if matches!(c, '"' | '\\' | '$') {
                quoted.push('\\');
            }
            quoted.push(c);
        }
        let _ = writeln!(text, "ENV {name}=\"{quoted}\"");
    }
    let directory = config.directory();
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-+@/~".contains(c);
    if !directory.chars().all(plain) {
        return None;
    }
    // That of the base may be another: /home/nonroot.
    if directory != "/" || distroless {
        let _ = writeln!(text, "WORKDIR {directory}");
    }
    match identity.uid? {
        0 => {}
        uid => {
            let _ = writeln!(text, "USER {uid}:{}", identity.gid);
        }
    }
    Some(text)
}
