//! Where a command is looked up: the image's programs, as a container with its own variables, directory,
//! user and volumes sees them.
//!
//! The rules are those of containerd and runc: variables of the image first, those of the container over
//! them, a PATH where neither sets one (containerCreate of containerd's CRI); a name without a slash is
//! looked up in PATH by Go's exec.LookPath inside the container, anything else is a path from the working
//! directory (setns_init_linux.go of runc).

use std::collections::HashMap;

use k8s_openapi::api::core::v1::{Container, PodSpec};

use super::bounds::Bounds;
use super::expand;
use super::later;
use super::mounts::Mount;
use super::paths::{self, Links};
use whittle_image::shell::Shell;
use whittle_image::{
    Contents, DEFAULT_PATH, Executable, Fault, ProgramKind, Runs, is_library_name,
};

/// Bytes of a container's PATH that are read; reports hold no more of an image's.
const MAX_PATH: usize = 4096;
/// Directories of PATH that are looked into: a script may ask for a thousand programs.
const MAX_FOLDERS: usize = 64;

/// What starts a program: they differ in what they make of a script without `#!`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Starter {
    /// The container runtime, and every program that calls execve alone.
    Runtime,
    /// A shell, which runs such a script itself (POSIX, Shell Command Language, 2.9.1.4).
    Shell,
}

/// What a command's first word leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found<'a> {
    /// A program that starts.
    Runs(&'a Executable),
    /// Nothing that may be run; why, in one clause that names the program.
    Fails(String),
    /// A file that may be run, and fails as it is: the runtime takes that for the program's own end.
    Breaks(String),
    /// It cannot be told; why.
    Unknown(String),
}

/// What lies at one path.
enum At<'a> {
    Program(&'a Executable),
    /// A file that may be run, and that only a shell runs.
    Unmarked,
    Absent,
    Doubt(String),
}

/// The view of one container.
pub(super) struct Place<'a> {
    contents: &'a Contents,
    programs: HashMap<&'a str, &'a Executable>,
    links: Links<'a>,
    mounts: Vec<Mount>,
    /// Directories of PATH, or why they are not known.
    search: Result<Vec<String>, String>,
    /// True where the container does not have the image's PATH.
    other_path: bool,
    /// True where `envFrom` may set PATH, and nothing else does.
    path_from_afar: bool,
    /// Directories of the image's PATH, in which the report lists all that may be run.
    listed: Vec<String>,
    directory: String,
    /// As whom the container runs, where that is not known to be as the report judged.
    other_user: Option<String>,
    /// True where the container sets LD_LIBRARY_PATH, or `envFrom` may.
    library_path: bool,
    /// Capabilities that a program may have in the container.
    bounds: Bounds,
    /// What may add programs to the container that no report lists: one clause.
    added: Option<String>,
    /// What the container's own command may write.
    writes: later::Writes<'a>,
}

impl<'a> Place<'a> {
    pub(super) fn new(pod: &PodSpec, container: &'a Container, contents: &'a Contents) -> Self {
        let links = Links::new(&contents.links);
        let image_path = contents.env_path.as_deref().unwrap_or(DEFAULT_PATH);
        let own = own_path(container);
        let sets = |name: &str| {
            container
                .env
                .iter()
                .flatten()
                .any(|variable| variable.name == name)
        };
        let from_afar = |name: &str| {
            let sources = container.env_from.iter().flatten();
            sources
                .map(|source| source.prefix.as_deref().unwrap_or_default())
                .any(|prefix| name.starts_with(prefix))
        };
        let listed = if all_of_path_listed(contents, image_path, &links) {
            image_path
                .split(':')
                .take(MAX_FOLDERS)
                .filter_map(|folder| links.follow(folder).ok())
                .collect()
        } else {
            Vec::new()
        };
        Self {
            programs: contents
                .executables
                .items
                .iter()
                .map(|program| (program.path.as_str(), program))
                .collect(),
            mounts: Mount::of(pod, container, &links),
            other_path: own.is_some(),
            search: own
                .unwrap_or_else(|| Ok(image_path.to_owned()))
                .map(|path| path.split(':').map(str::to_owned).collect::<Vec<_>>())
                .and_then(|folders| match folders.len() > MAX_FOLDERS {
                    true => Err(format!(
                        "PATH has too many directories: more than {MAX_FOLDERS}"
                    )),
                    false => Ok(folders),
                }),
            path_from_afar: !sets("PATH") && from_afar("PATH"),
            listed,
            directory: container
                .working_dir
                .clone()
                .filter(|folder| !folder.is_empty())
                .or_else(|| contents.working_dir.clone())
                .unwrap_or_else(|| "/".into()),
            other_user: other_user(pod, container, contents),
            library_path: sets("LD_LIBRARY_PATH") || from_afar("LD_LIBRARY_PATH"),
            bounds: Bounds::of(container),
            added: later::added(pod, container),
            writes: later::Writes::of(container),
            links,
            contents,
        }
    }

    /// Looks up a command's first word.
    pub(super) fn find(&self, name: &str, starter: Starter) -> Found<'a> {
        if name.is_empty() {
            return Found::Fails("the command is empty".into());
        }
        if name.contains('/') {
            let path = self.absolute(name);
            return match self.at(&path, starter) {
                At::Program(program) => self.judge(program, starter),
                At::Doubt(why) => Found::Unknown(why),
                At::Unmarked => self.unmarked(&path, starter),
                // As it was written where blanks show that it was meant as several words.
                At::Absent if name.contains(char::is_whitespace) => {
                    Found::Fails(format!("program \"{name}\" not found in the image"))
                }
                At::Absent => Found::Fails(format!("program {path} not found in the image")),
            };
        }
        let folders = match &self.search {
            Ok(folders) => folders,
            Err(why) => return Found::Unknown(format!("it looks for {name} in PATH, and {why}")),
        };
        let mut doubt = None;
        let mut barred = None;
        for folder in folders {
            let path = self.absolute(&format!("{folder}/{name}"));
            match self.at(&path, starter) {
                At::Absent => {}
                At::Doubt(why) => {
                    doubt.get_or_insert(why);
                }
                At::Unmarked => return self.unmarked(&path, starter),
                At::Program(_) if !folder.starts_with('/') && starter == Starter::Runtime => {
                    // exec.LookPath of Go refuses what it finds there.
                    doubt.get_or_insert(format!(
                        "PATH has the relative entry {folder:?}, from which runc starts nothing"
                    ));
                }
                At::Program(program) => match self.judge(program, starter) {
                    Found::Fails(why) if program.fault == Some(Fault::NotPermitted) => {
                        barred.get_or_insert(why);
                    }
                    found => return found,
                },
            }
        }
        if let Some(why) = doubt {
            return Found::Unknown(why);
        }
        if let Some(why) = barred {
            return Found::Fails(why);
        }
        if self.path_from_afar && !self.nowhere(name) {
            return Found::Unknown(format!(
                "{name} not found in the image's PATH, and envFrom may set another"
            ));
        }
        Found::Fails(format!("{name} not found in PATH ({})", folders.join(":")))
    }

    /// True where a program of the image leads to the file of another, as applets of busybox do.
    pub(super) fn has_link(&self, name: &str, program: &Executable) -> bool {
        let file = program.file.as_deref().unwrap_or(&program.path);
        self.contents
            .executables
            .items
            .iter()
            .any(|other| paths::name(&other.path) == name && other.file.as_deref() == Some(file))
    }

    /// Whether a shell knows pipefail, where that is known: by what its file holds, else by the distribution.
    /// dash has it from 0.5.13 on, which Debian 13 and Ubuntu 25.10 do not have yet.
    pub(super) fn knows_pipefail(&self, program: &Executable, kind: Shell) -> Option<bool> {
        if let Some(shell) = program.shell.filter(|shell| shell.kind == kind) {
            return (kind != Shell::Other).then_some(shell.pipefail);
        }
        let os = self.contents.os.as_ref();
        let version: f32 = os
            .and_then(|os| os.version.as_deref())
            .and_then(|version| version.parse().ok())
            .unwrap_or(f32::INFINITY);
        match (kind, os.map(|os| os.id.as_str())) {
            (Shell::Bash | Shell::Busybox, _) => Some(true),
            (Shell::Dash, Some("debian")) if version < 14.0 => Some(false),
            (Shell::Dash, Some("ubuntu")) if version < 26.0 => Some(false),
            _ => None,
        }
    }

    /// True where busybox is one of the image's programs.
    pub(super) fn has_busybox(&self) -> bool {
        self.contents.executables.items.iter().any(|program| {
            paths::name(program.file.as_deref().unwrap_or(&program.path)).starts_with("busybox")
        })
    }

    /// True where no program of the image has this name, wherever it may lie.
    fn nowhere(&self, name: &str) -> bool {
        let programs = &self.contents.executables;
        !self.contents.partial
            && programs.omitted == 0
            && self.mounts.is_empty()
            && !programs
                .items
                .iter()
                .any(|program| paths::name(&program.path) == name)
    }

    fn absolute(&self, path: &str) -> String {
        if path.starts_with('/') {
            paths::clean(path)
        } else {
            paths::clean(&format!("{}/{path}", self.directory))
        }
    }

    fn at(&self, path: &str, starter: Starter) -> At<'a> {
        let place = match self.links.follow(path) {
            Ok(place) => place,
            Err(why) => return At::Doubt(format!("{path} cannot be followed: {why}")),
        };
        if let Some(why) = self.covered(&place) {
            return At::Doubt(why);
        }
        if let Some(program) = self.programs.get(place.as_str()) {
            return At::Program(program);
        }
        if self.contents.unmarked.items.contains(&place) {
            return At::Unmarked;
        }
        if let Some(why) = later::put_there(&place, self.added.as_deref(), &self.writes) {
            return At::Doubt(why);
        }
        let folder = paths::folder(&place);
        let listed = self.listed.iter().any(|known| known == folder);
        if self.contents.partial {
            At::Doubt(format!(
                "{path} not found in the part of the image that could be read"
            ))
        } else if self.links.may_lead_elsewhere(&place)
            || (self.contents.executables.omitted > 0 && !listed)
        {
            At::Doubt(format!(
                "{path} not found in the image's report, which is incomplete (too many programs or links)"
            ))
        } else if !listed && is_library_name(&place) {
            At::Doubt(format!(
                "{path} has the name of a library, and the report lists programs only"
            ))
        } else if !listed && starter == Starter::Shell && self.contents.unmarked.omitted > 0 {
            At::Doubt(format!(
                "{path} is not a program, but may be a script without #!, which a shell runs: the image's report \
                 lists only some of them (too many)"
            ))
        } else {
            At::Absent
        }
    }

    /// Why what lies at a path is not the image's, where a volume lies over it.
    fn covered(&self, path: &str) -> Option<String> {
        let mount = self.mounts.iter().find(|mount| mount.covers(path))?;
        Some(mount.why(path))
    }

    fn unmarked(&self, path: &str, starter: Starter) -> Found<'a> {
        let what = format!("{path} is neither an ELF file nor a script with #!");
        match starter {
            Starter::Runtime => Found::Breaks(what),
            Starter::Shell => Found::Unknown(format!("{what}, and a shell may run it itself")),
        }
    }

    fn judge(&self, program: &'a Executable, starter: Starter) -> Found<'a> {
        let path = &program.path;
        let needs = [program.file.as_deref(), program.interpreter.as_deref()];
        for needed in needs.into_iter().flatten() {
            let place = self.links.follow(needed);
            if let Some(why) = self.covered(place.as_deref().unwrap_or(needed)) {
                return Found::Unknown(format!("{path} needs {needed}, and {why}"));
            }
        }
        let libraries = self.mounts.iter().find(|mount| mount.touches_libraries());
        if let Some(mount) = libraries
            && program.kind != ProgramKind::Static
        {
            return Found::Unknown(format!(
                "{path} needs libraries, and {}",
                mount.why("the libraries")
            ));
        }
        let by_env = program.kind == ProgramKind::Script
            && program
                .interpreter
                .as_deref()
                .is_some_and(|interpreter| paths::name(interpreter) == "env");
        if by_env && self.other_path {
            return Found::Unknown(format!(
                "{path} finds its interpreter in PATH, which the container sets itself"
            ));
        }
        let message = program.message.as_deref().unwrap_or("it cannot start");
        if program.fault == Some(Fault::Capabilities) {
            let lacking = program
                .capabilities
                .iter()
                .find(|name| !self.bounds.has(name));
            return match lacking {
                // As execve fails with it, and not the lookup before.
                Some(name) => Found::Breaks(format!(
                    "{path} has the file capability {name}, which the container may not have, so that Linux does not \
                     start it (Operation not permitted)"
                )),
                None => Found::Runs(program),
            };
        }
        match (program.runs, program.fault) {
            (Runs::Yes, _) => match &self.other_user {
                Some(user) if program.restricted => Found::Unknown(format!(
                    "{path} is not executable for every user, and the container runs as {user}"
                )),
                _ => Found::Runs(program),
            },
            (Runs::Unknown, _) => Found::Unknown(message.to_owned()),
            // Root is kept from what nobody may run: then no other user changes that.
            (
                Runs::No,
                Some(Fault::NotPermitted | Fault::MissingLoader | Fault::MissingInterpreter),
            ) if self.other_user.is_some() && self.contents.user.uid != Some(0) => Found::Unknown(
                format!("{message}, as the image's own user, and the container runs as another"),
            ),
            (Runs::No, Some(Fault::MissingLibraries | Fault::OldLibraries))
                if self.library_path =>
            {
                Found::Unknown(format!(
                    "{message}, and the container may set LD_LIBRARY_PATH, by which libraries are found"
                ))
            }
            (Runs::No, Some(Fault::NotExecutable))
                if starter == Starter::Shell && program.machine.is_none() =>
            {
                Found::Unknown(format!("{message}, which a shell may run itself"))
            }
            (Runs::No, Some(Fault::NotPermitted | Fault::NotFound) | None) => {
                Found::Fails(message.to_owned())
            }
            (Runs::No, _) => Found::Breaks(message.to_owned()),
        }
    }
}

/// The container's own PATH, or why it is not known; none where it has the image's.
fn own_path(container: &Container) -> Option<Result<String, String>> {
    let env = container.env.as_deref().unwrap_or_default();
    let at = env.iter().rposition(|variable| variable.name == "PATH")?;
    let value = env[at].value.as_deref().unwrap_or_default();
    let long = || Err("the container's PATH is too long".to_owned());
    if value.len() > MAX_PATH {
        return Some(long());
    }
    if value.is_empty() && env[at].value_from.is_some() {
        return Some(Err(
            "the container takes PATH from elsewhere (valueFrom)".into()
        ));
    }
    // The kubelet fills in what stands before it, and not the image's variables.
    let known = expand::values(&env[..at]);
    let afar = |name: &str| {
        env[..at]
            .iter()
            .any(|variable| variable.name == name && variable.value_from.is_some())
            || (!known.contains_key(name) && container.env_from.is_some())
            || known.get(name).is_some_and(|value| value.contains("$("))
    };
    if expand::references(value).into_iter().any(afar) {
        return Some(Err(format!(
            "the container's PATH ({value}) refers to variables that are set elsewhere"
        )));
    }
    let path = expand::expand(value, &known).filter(|path| path.len() <= MAX_PATH);
    Some(path.map_or_else(long, Ok))
}

/// True where the report leaves out no program of PATH: it lists those first.
fn all_of_path_listed(contents: &Contents, path: &str, links: &Links<'_>) -> bool {
    let programs = &contents.executables;
    if contents.partial {
        return false;
    }
    if programs.omitted == 0 {
        return true;
    }
    let Some(last) = programs.items.last().filter(|_| programs.items.len() > 1) else {
        return false;
    };
    !path
        .split(':')
        .filter_map(|folder| links.follow(folder).ok())
        .any(|folder| folder == paths::folder(&last.path))
}

/// As whom the container runs, where that differs from what the report was judged for.
fn other_user(pod: &PodSpec, container: &Container, contents: &Contents) -> Option<String> {
    let own = container.security_context.as_ref();
    let all = pod.security_context.as_ref();
    let user = own
        .and_then(|context| context.run_as_user)
        .or_else(|| all.and_then(|context| context.run_as_user));
    let group = own
        .and_then(|context| context.run_as_group)
        .or_else(|| all.and_then(|context| context.run_as_group));
    if let Some(user) = user
        && Some(user) != contents.user.uid
    {
        return Some(format!("user {user}"));
    }
    if let Some(group) = group
        && group != contents.user.gid
    {
        return Some(format!("group {group}"));
    }
    // Without this capability root has the rights of its files' owner alone (capabilities(7)).
    let root = user.or(contents.user.uid) == Some(0);
    let drops = own
        .and_then(|context| context.capabilities.as_ref())
        .and_then(|capabilities| capabilities.drop.as_ref());
    let dropped = drops.into_iter().flatten().any(|name| {
        matches!(
            name.trim_start_matches("CAP_"),
            "ALL" | "DAC_OVERRIDE" | "DAC_READ_SEARCH"
        )
    });
    (root && dropped).then(|| "root without the capability DAC_OVERRIDE".to_owned())
}

#[cfg(test)]
#[path = "place_tests.rs"]
mod tests;
