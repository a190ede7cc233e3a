//! Whether a program of the image can be started: its file, its interpreter, its libraries, its machine
//! and its permissions, all within the image.
//!
//! Sources: execve(2), ld.so(8), exec.LookPath of Go (which runc uses).

use std::collections::HashMap;

use super::config::ImageConfig;
use super::elf::{Elf, ElfFault, Form, Machine};
use super::facts::{Fact, capability_names, had_by_default};
use super::layer::Image;
use super::libraries::{Libc, Libraries, Loader, MissingLibrary};
use super::tree::{Kind, Lookup, NodeId};
use super::user::Identity;

/// Interpreters of interpreters that Linux follows (BINPRM_MAX_RECURSION).
const MAX_SCRIPTS: usize = 4;

/// Whether a program starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All that it needs is there.
    Runnable,
    /// There is no such file.
    NotFound(String),
    /// Its loader, its script's interpreter, or libraries are missing.
    Missing {
        /// The loader or interpreter, where that is missing.
        interpreter: Option<String>,
        /// Why the interpreter cannot be used, where it is there.
        why: Option<String>,
        /// Libraries.
        libraries: Vec<MissingLibrary>,
        /// Libraries that are missing besides.
        omitted: usize,
    },
    /// It is for another machine.
    WrongMachine {
        /// The file's.
        found: String,
        /// The image's.
        expected: String,
    },
    /// The file cannot be run, whatever else the image has.
    NotExecutable(String),
    /// Nobody may run it, or the image's user not read it.
    NotPermitted(String),
    /// Its permissions keep the image's user out, and yet it starts where the Pod drops no capabilities: until
    /// it runs, the runtime has CAP_DAC_OVERRIDE.
    Overriding(String),
    /// Its file, or its interpreter's, demands capabilities: it starts where the container may have all of them.
    Demanding {
        /// Which file.
        file: String,
        /// Which capabilities: a mask.
        mask: u64,
    },
    /// It cannot be told.
    Unknown(String),
}

/// How a program is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Make {
    /// Needs no other file.
    Static,
    /// Needs a loader.
    Dynamic,
    /// Needs an interpreter.
    Script,
    /// None of these.
    Other,
}

/// One program, judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The path as asked for, made absolute.
    pub path: String,
    /// The file that it leads to.
    pub file: Option<NodeId>,
    /// How it is made.
    pub make: Make,
    /// Its loader, or its script's interpreter, as written.
    pub interpreter: Option<String>,
    /// Libraries that it names itself.
    pub needed: Vec<String>,
    /// What it runs on, where it is ELF.
    pub machine: Option<Machine>,
    /// True where it is known to be made by Go.
    pub go: bool,
    /// Whether it starts.
    pub verdict: Verdict,
}

impl Program {
    fn new(path: &str, verdict: Verdict) -> Self {
        Self {
            path: path.to_owned(),
            file: None,
            make: Make::Other,
            interpreter: None,
            needed: Vec::new(),
            machine: None,
            go: false,
            verdict,
        }
    }
}

/// Judges the programs of one image.
pub struct Resolver<'a> {
    image: &'a Image,
    config: &'a ImageConfig,
    identity: Identity,
    loader: Loader<'a>,
    /// What was found of files already: a shell is the interpreter of many scripts.
    known: HashMap<NodeId, Program>,
}

impl<'a> Resolver<'a> {
    /// Judges as the image's own config says: its user, its PATH, its directory, its platform.
    pub fn new(image: &'a Image, config: &'a ImageConfig) -> Self {
        Self::with(image, config, Identity::of(image, config))
    }

    /// Judges as `new`, for a user of whom nothing is known: what runs here runs for every user.
    pub fn for_anyone(image: &'a Image, config: &'a ImageConfig) -> Self {
        Self::with(image, config, Identity::anyone())
    }

    fn with(image: &'a Image, config: &'a ImageConfig, identity: Identity) -> Self {
        let library_path = config.variable("LD_LIBRARY_PATH").unwrap_or_default();
        Self {
            image,
            config,
            loader: Loader::new(image, identity.clone(), library_path, config.directory()),
            identity,
            known: HashMap::new(),
        }
    }

    /// The image.
    pub fn image(&self) -> &'a Image {
        self.image
    }

    /// As whom programs run.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Judges the program that a command's first word names, as the runtime starts it: a path, or a name to be
    /// found in PATH.
    pub fn command(&mut self, name: &str) -> Program {
        self.named(name, true)
    }

    /// The same as a program of the image starts it: a shell, an init, env.
    pub fn called(&mut self, name: &str) -> Program {
        let mut program = self.named(name, false);
        if let Verdict::Overriding(why) = program.verdict {
            // By now the capabilities of the runtime are gone.
            program.verdict = Verdict::NotPermitted(why);
        }
        program
    }

    fn named(&mut self, name: &str, by_runtime: bool) -> Program {
        if name.is_empty() {
            return Program::new(
                "",
                Verdict::NotFound("the command is an empty string".into()),
            );
        }
        if name.contains('/') {
            return self.path(name);
        }
        let mut barred = None;
        let folders: Vec<String> = self
            .config
            .search_path()
            .take(64)
            .map(str::to_owned)
            .collect();
        for folder in &folders {
            let path = match folder.trim_end_matches('/') {
                "" if folder.is_empty() => format!("./{name}"),
                folder => format!("{folder}/{name}"),
            };
            let Ok(id) = self.image.tree.resolve(self.directory(), path.as_bytes()) else {
                continue;
            };
            let meta = self.image.tree.meta(id);
            if meta.kind != Kind::File {
                continue;
            }
            if !self.identity.may_run(&meta) {
                barred.get_or_insert(path);
                continue;
            }
            // os/exec of Go, which runc finds programs with, refuses what it finds there (ErrDot).
            if by_runtime && !folder.starts_with('/') {
                return Program::new(
                    name,
                    Verdict::NotFound(format!(
                        "PATH ({}) finds {name} in a relative directory, from which the runtime starts nothing",
                        folders.join(":")
                    )),
                );
            }
            return self.path(&path);
        }
        match barred {
            Some(path) => self.path(&path),
            None => Program::new(
                name,
                self.absent(format!("{name} not found in PATH ({})", folders.join(":"))),
            ),
        }
    }

    /// Judges the program at a path; relative ones start at the working directory.
    pub fn path(&mut self, path: &str) -> Program {
        let absolute = if path.starts_with('/') {
            path.to_owned()
        } else {
            format!("{}/{path}", self.config.directory().trim_end_matches('/'))
        };
        match self.image.tree.resolve(self.directory(), path.as_bytes()) {
            Err(lookup) => {
                let verdict = match lookup {
                    // The path itself, or a folder above it: no link led elsewhere.
                    Lookup::Missing(at)
                        if at == absolute || absolute.starts_with(&format!("{at}/")) =>
                    {
                        self.absent(format!("{absolute} not found"))
                    }
                    Lookup::Missing(at) => self.absent(format!(
                        "{absolute} not found: a symbolic link leads to {at}, which does not exist"
                    )),
                    Lookup::Exhausted => Verdict::Unknown(format!("{absolute}: {lookup}")),
                    other => Verdict::NotFound(format!("{absolute} cannot be reached: {other}")),
                };
                Program::new(&absolute, verdict)
            }
            Ok(id) => Program {
                path: absolute,
                ..self.file(id, 0)
            },
        }
    }

    /// Judges a file.
    pub fn node(&mut self, id: NodeId) -> Program {
        self.file(id, 0)
    }

    fn directory(&self) -> NodeId {
        let tree = &self.image.tree;
        // runc makes a missing working directory.
        tree.find(self.config.directory()).unwrap_or(tree.root())
    }

    /// Missing, or not known to be there where something was not read.
    fn absent(&self, what: String) -> Verdict {
        if self.image.partial || self.image.tree.is_exhausted() {
            Verdict::Unknown(format!("{what}, as far as the image could be read"))
        } else {
            Verdict::NotFound(what)
        }
    }

    fn file(&mut self, id: NodeId, depth: usize) -> Program {
        if let Some(known) = self.known.get(&id) {
            return known.clone();
        }
        let program = self.judge(id, depth);
        // What ended for its depth alone would be another elsewhere.
        if depth == 0 {
            self.known.insert(id, program.clone());
        }
        program
    }

    fn judge(&mut self, id: NodeId, depth: usize) -> Program {
        let image = self.image;
        let path = image.tree.path(id);
        let meta = image.tree.meta(id);
        let mut program = Program {
            file: Some(id),
            ..Program::new(&path, Verdict::Runnable)
        };
        let fact = image.fact(id);
        match fact {
            Some(Fact::Elf(elf)) => {
                program.make = if elf.is_static() {
                    Make::Static
                } else {
                    Make::Dynamic
                };
                program.interpreter.clone_from(&elf.interpreter);
                program.needed.clone_from(&elf.needed);
                program.machine = Some(elf.machine);
                program.go = elf.go;
                if is_loader(elf, &path) {
                    // What it then starts is dynamic.
                    program.make = Make::Dynamic;
                    program.interpreter = Some(path.clone());
                }
            }
            Some(Fact::Script(line)) => {
                program.make = Make::Script;
                program.interpreter = script(line).map(|(interpreter, _)| interpreter.to_owned());
            }
            _ => {}
        }
        if meta.kind != Kind::File {
            program.verdict = Verdict::NotExecutable(format!("{path} is not a file"));
            return program;
        }
        if let Some(why) = self.refused(id) {
            program.verdict = Verdict::NotPermitted(why);
            return program;
        }
        program.verdict = match fact {
            Some(Fact::Elf(_)) => self.elf(id),
            Some(Fact::Script(line)) => self.script(&path, id, line, depth),
            Some(Fact::Foreign(system)) => {
                Verdict::NotExecutable(format!("{path} is a program for {system}, not for Linux"))
            }
            Some(Fact::BadElf(ElfFault::TooLarge)) => {
                Verdict::Unknown(format!("{path}: {}", ElfFault::TooLarge))
            }
            Some(Fact::BadElf(fault)) => Verdict::NotExecutable(format!("{path}: {fault}")),
            _ if image.is_unexamined(id) => Verdict::Unknown(format!("{path} was not read")),
            _ if meta.size == 0 => Verdict::NotExecutable(format!("{path} is empty")),
            _ => Verdict::NotExecutable(format!(
                "{path} is neither an ELF program nor a script that starts with #! (exec format \
                    error)"
            )),
        };
        if program.verdict == Verdict::Runnable
            && let Some(why) = self.overridden(id)
        {
            program.verdict = Verdict::Overriding(why);
        }
        let mask = image.demands(id);
        let open = match &program.verdict {
            // What depends on the Pod in one way may be sure in another.
            Verdict::Overriding(_) => !had_by_default(mask),
            Verdict::Runnable => true,
            _ => false,
        };
        // Of a script the interpreter's count (begin_new_exec of fs/exec.c).
        if open && mask != 0 && program.make != Make::Script {
            program.verdict = Verdict::Demanding { file: path, mask };
        }
        program
    }

    /// Why nobody may run a file.
    fn refused(&self, id: NodeId) -> Option<String> {
        let path = self.image.tree.path(id);
        let meta = self.image.tree.meta(id);
        if meta.kind != Kind::File {
            return Some(format!("{path} is not a file"));
        }
        (meta.mode & 0o111 == 0).then(|| format!("{path} is not executable (mode {:o})", meta.mode))
    }

    /// Why the image's user may not run a file that others may.
    fn overridden(&self, id: NodeId) -> Option<String> {
        let path = self.image.tree.path(id);
        let meta = self.image.tree.meta(id);
        let user = self
            .identity
            .uid
            .map_or_else(String::new, |uid| format!("user {uid}"));
        if !self.identity.may_run(&meta) {
            return Some(format!(
                "permission denied: {user} may not execute {path} (mode {:o}, owner {}:{})",
                meta.mode, meta.uid, meta.gid
            ));
        }
        let barred = self.identity.barred(self.image, id)?;
        Some(format!(
            "permission denied: {user} may not enter {}, which contains {path}",
            self.image.tree.path(barred)
        ))
    }

    fn elf(&self, id: NodeId) -> Verdict {
        let Some(Fact::Elf(elf)) = self.image.fact(id) else {
            return Verdict::Runnable;
        };
        let path = self.image.tree.path(id);
        if !runs_on(elf.machine, &self.config.architecture) {
            return Verdict::WrongMachine {
                found: elf.machine.display(),
                expected: self.config.architecture.clone(),
            };
        }
        if elf.form == Form::Other {
            return Verdict::NotExecutable(format!("{path} is an object file and not a program"));
        }
        let Some(interpreter) = elf.interpreter.as_deref() else {
            if is_loader(elf, &path) {
                return Verdict::Runnable;
            }
            if elf.form == Form::Library || !elf.needed.is_empty() {
                return Verdict::NotExecutable(format!("{path} is a library and not a program"));
            }
            return Verdict::Runnable;
        };
        let (loader, why) = match self.image.tree.find(interpreter) {
            Err(_) => (None, None),
            Ok(loader) => match (self.refused(loader), self.image.fact(loader)) {
                (Some(why), _) => (None, Some(why)),
                (None, Some(Fact::Elf(found))) if found.machine == elf.machine => {
                    (Some(loader), None)
                }
                (None, Some(Fact::Elf(found))) => (
                    None,
                    Some(format!("{interpreter} is for {}", found.machine.display())),
                ),
                (None, _) if self.image.is_unexamined(loader) => (Some(loader), None),
                (None, _) => (None, Some(format!("{interpreter} is not a loader"))),
            },
        };
        let Libraries {
            missing,
            omitted,
            unknown,
        } = self.loader.missing(id, loader);
        if let Some(loader) = loader
            && missing.is_empty()
        {
            return match (unknown, self.overridden(loader)) {
                (Some(why), _) => Verdict::Unknown(why),
                (None, Some(why)) => Verdict::Overriding(why),
                (None, None) => Verdict::Runnable,
            };
        }
        let unsure = self.image.partial || self.image.tree.is_exhausted();
        if unsure && why.is_none() {
            return Verdict::Unknown(format!(
                "{path} needs {}, which was not found in the part of the image that was read",
                missing
                    .first()
                    .map_or(interpreter, |library| library.name.as_str())
            ));
        }
        Verdict::Missing {
            interpreter: loader.is_none().then(|| interpreter.to_owned()),
            why,
            libraries: missing,
            omitted,
        }
    }

    fn script(&mut self, path: &str, id: NodeId, line: &str, depth: usize) -> Verdict {
        let Some((interpreter, argument)) = script(line) else {
            return Verdict::NotExecutable(format!("{path} starts with #! and no interpreter"));
        };
        if depth >= MAX_SCRIPTS {
            return Verdict::NotExecutable(format!(
                "{path}: too many nested interpreters: Linux follows {MAX_SCRIPTS}"
            ));
        }
        // The interpreter reads it, and that has no capabilities any more.
        if !self.identity.reads(self.image, id) {
            return Verdict::NotPermitted(format!(
                "permission denied: {path} is a script that the image's user may not read"
            ));
        }
        let missing = |name: &str, why: Option<String>| Verdict::Missing {
            interpreter: Some(name.to_owned()),
            why,
            libraries: Vec::new(),
            omitted: 0,
        };
        if line.ends_with('\r') {
            return missing(
                interpreter,
                Some(format!(
                    "{path} has Windows line endings (CRLF) in its first line: save it with Unix \
                        line endings (LF)"
                )),
            );
        }
        let Ok(found) = self
            .image
            .tree
            .resolve(self.directory(), interpreter.as_bytes())
        else {
            return match self.absent(String::new()) {
                Verdict::Unknown(_) => Verdict::Unknown(format!(
                    "{path} needs {interpreter}, which was not found in the part of the image that was read"
                )),
                _ => missing(interpreter, None),
            };
        };
        let judged = self.file(found, depth + 1);
        match judged.verdict {
            Verdict::Runnable => {}
            found @ (Verdict::Overriding(_) | Verdict::Demanding { .. }) => return found,
            _ => return missing(interpreter, Some(reason(&judged))),
        }
        let Some(name) = (interpreter.rsplit('/').next() == Some("env"))
            .then(|| env_command(argument))
            .flatten()
        else {
            return Verdict::Runnable;
        };
        let judged = self.called(&name);
        match judged.verdict {
            found @ (Verdict::Runnable | Verdict::Unknown(_) | Verdict::Demanding { .. }) => found,
            Verdict::NotFound(why) => missing(&name, Some(why)),
            _ => missing(&name, Some(reason(&judged))),
        }
    }
}

/// Why a program does not start, in one sentence without a point; empty where it does.
pub fn reason(program: &Program) -> String {
    let path = &program.path;
    match &program.verdict {
        Verdict::Runnable => String::new(),
        Verdict::NotFound(why)
        | Verdict::NotExecutable(why)
        | Verdict::NotPermitted(why)
        | Verdict::Unknown(why) => why.clone(),
        Verdict::Overriding(why) => format!(
            "{why}: a Pod that drops no capabilities starts it all the same, as the runtime has DAC_OVERRIDE until \
             then, and one that drops them does not; COPY --chmod=755, and directories that all may enter, make it start in both"
        ),
        Verdict::Demanding { file, mask } => {
            let (names, plural) = (capability_names(*mask), mask.count_ones() > 1);
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let start = format!(
                "{file} has the file {} {}: Linux starts it only where the container may have {} (else: Operation not \
                 permitted, for root too)",
                if plural { "capabilities" } else { "capability" },
                list(&names, 0),
                if plural { "all of them" } else { "it" },
            );
            match had_by_default(*mask) {
                true => format!(
                    "{start}; a Pod that drops no capabilities starts it, and one that drops them, as Pod Security \
                     level restricted requires it, does not; setcap -r {file} makes it start in both"
                ),
                false => format!(
                    "{start}, and only a Pod that adds {} may",
                    if plural { "them" } else { "it" }
                ),
            }
        }
        Verdict::WrongMachine { found, expected } => {
            format!("{path} is for {found}, and the image for {expected}")
        }
        Verdict::Missing {
            interpreter,
            why,
            libraries,
            omitted,
        } => {
            // What the image does not have at all, and what it has and cannot be used.
            let mut absent: Vec<&str> = Vec::new();
            let mut others: Vec<String> = Vec::new();
            match (interpreter, why) {
                (Some(name), None) => absent.push(name),
                (_, Some(why)) => others.push(why.clone()),
                (None, None) => {}
            }
            for library in libraries {
                match &library.unusable {
                    None => absent.push(&library.name),
                    Some(why) => others.push(format!("needs {}, and {why}", library.name)),
                }
            }
            let mut text = format!("{path} ");
            if !absent.is_empty() {
                text.push_str("needs ");
                text.push_str(&list(&absent, *omitted));
                let are = if absent.len() + omitted > 1 {
                    "are"
                } else {
                    "is"
                };
                text.push_str(&format!(", which {are} missing from the image"));
            }
            if !others.is_empty() {
                if absent.is_empty() {
                    text.push_str("does not start: ");
                } else {
                    text.push_str("; ");
                }
                text.push_str(&others.join("; "));
            }
            text
        }
    }
}

/// `a`, `a and b`, `a, b and c`, `a, b and 3 more`.
pub(super) fn list(names: &[&str], omitted: usize) -> String {
    const SHOWN: usize = 5;
    let mut shown: Vec<String> = names
        .iter()
        .take(SHOWN)
        .map(|&name| name.to_owned())
        .collect();
    let more = names.len().saturating_sub(SHOWN) + omitted;
    if more > 0 {
        shown.push(format!("{more} more"));
    }
    match shown.split_last() {
        None => String::new(),
        Some((last, [])) => last.clone(),
        Some((last, first)) => format!("{} and {last}", first.join(", ")),
    }
}

/// True for a loader, which can also be called with a program as its argument (ld.so(8)).
fn is_loader(elf: &Elf, path: &str) -> bool {
    let known = |name: &str| Libc::of(name) != Libc::Other;
    elf.form == Form::Library && (known(path) || elf.soname.as_deref().is_some_and(known))
}

/// Interpreter and argument of a script's first line (fs/binfmt_script.c).
fn script(line: &str) -> Option<(&str, &str)> {
    let line = line.trim_matches([' ', '\t']);
    let (interpreter, argument) = line.split_once([' ', '\t']).unwrap_or((line, ""));
    let interpreter = interpreter.trim_end_matches('\r');
    (!interpreter.is_empty()).then(|| (interpreter, argument.trim()))
}

/// The program that env starts, of the one argument that Linux gives it (env(1)).
fn env_command(argument: &str) -> Option<String> {
    if argument.is_empty() {
        return None;
    }
    let Some(rest) = argument
        .strip_prefix("-S")
        .or_else(|| argument.strip_prefix("--split-string="))
    else {
        // One word, blanks and all; options alone start nothing.
        return (!argument.starts_with('-')).then(|| argument.to_owned());
    };
    let mut words = rest.split_whitespace();
    while let Some(word) = words.next() {
        match word {
            "-u" | "--unset" | "-C" | "--chdir" => {
                words.next();
            }
            _ if word.starts_with('-') || word.contains('=') => {}
            _ => return Some(word.to_owned()),
        }
    }
    None
}

/// True where Linux of an architecture runs programs of a machine: amd64 runs those of 386 as well.
fn runs_on(machine: Machine, architecture: &str) -> bool {
    let found = machine.architecture();
    architecture.is_empty()
        || found == Some(architecture)
        || (architecture == "amd64" && found == Some("386"))
}

#[cfg(test)]
#[path = "resolve_tests.rs"]
mod tests;
