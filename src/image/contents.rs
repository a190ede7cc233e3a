//! The report: what an image holds and whether it can run, as data. Lists are bounded, and say how many
//! entries they leave out.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::limits::Note;
use super::shell::ShellFile;

/// The first entries of a list.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Listed<T> {
    /// The first of them.
    pub items: Vec<T>,
    /// How many more there are.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub omitted: i64,
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

impl<T> Default for Listed<T> {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            omitted: 0,
        }
    }
}

impl<T> Listed<T> {
    /// At most `most` of them.
    pub(super) fn first(mut items: Vec<T>, most: usize) -> Self {
        let omitted = items.len().saturating_sub(most) as i64;
        items.truncate(most);
        Self { items, omitted }
    }

    /// How many there are in all.
    pub fn len(&self) -> i64 {
        self.items.len() as i64 + self.omitted
    }

    /// True where there is nothing at all.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty() && self.omitted == 0
    }
}

/// What an image of one platform holds.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Contents {
    /// `os/architecture`, or `os/architecture/variant`, as the image's config says.
    pub platform: String,
    /// What it is built on, as far as that shows.
    pub base: Base,
    /// The distribution, of os-release; none on scratch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub os: Option<Os>,
    /// What a container runs that names nothing else.
    pub start: Start,
    /// As whom it runs.
    pub user: User,
    /// PATH of the image's config; none where it sets none, and the runtime's own counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env_path: Option<String>,
    /// WORKDIR, where it is not `/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// HEALTHCHECK of the Dockerfile, which Kubernetes does not use.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub health_check: Vec<String>,
    /// Programs and scripts: that which is started first, then those in PATH, then all others. In the
    /// directories of PATH every file counts that may be run, whatever it holds.
    pub executables: Listed<Executable>,
    /// Files in other directories that may be run and do not say how: neither ELF nor `#!`, and not named as a
    /// library is. A shell runs them as its own scripts, and nothing else runs them.
    #[serde(default, skip_serializing_if = "Listed::is_empty")]
    pub unmarked: Listed<String>,
    /// Folders that lead elsewhere, such as `/bin` to `/usr/bin`: what lies there is listed by its own path.
    #[serde(default, skip_serializing_if = "Listed::is_empty")]
    pub links: Listed<FolderLink>,
    /// Shells that run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shells: Vec<String>,
    /// Package managers of distributions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub package_managers: Vec<String>,
    /// Where TLS libraries find certificates of authorities; none where they find none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_certificates: Option<CaCertificates>,
    /// Where time zones lie; none where there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zones: Option<TimeZones>,
    /// Whether `/tmp` can be written to.
    pub tmp: Tmp,
    /// Files that give their caller more rights.
    #[serde(default, skip_serializing_if = "Listed::is_empty")]
    pub setuid: Listed<Privileged>,
    /// Regular files by their names: each hard link is one; folders, symbolic links and devices are none.
    pub files: i64,
    /// Bytes of all files, hard links counted once.
    pub bytes: i64,
    /// The ten largest files.
    pub largest: Vec<SizedFile>,
    /// Each layer, the lowest first.
    pub layers: Listed<LayerSize>,
    /// True where not all of the image was read: what seems to be missing may be there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
    /// What was left out, and why.
    #[serde(default, skip_serializing_if = "Listed::is_empty")]
    pub notes: Listed<Note>,
}

/// What an image is built on.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum Base {
    /// Nothing: no distribution and no C library.
    #[default]
    Scratch,
    /// Distroless without a C library.
    DistrolessStatic,
    /// Distroless with glibc.
    Distroless,
    /// A distribution with musl, such as Alpine.
    Musl,
    /// A distribution with glibc, such as Debian.
    Glibc,
    /// A distribution with neither, such as busybox.
    Other,
}

/// A distribution (os-release(5)).
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Os {
    /// ID: `debian`, `alpine`.
    pub id: String,
    /// VERSION_ID: `12`, `3.22.1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// Whether a program starts.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum Runs {
    /// All that it needs is there.
    Yes,
    /// It cannot be started.
    No,
    /// It cannot be told.
    #[default]
    Unknown,
}

/// How a program is made.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum ProgramKind {
    /// Needs no other file.
    Static,
    /// Needs a loader, and libraries.
    Dynamic,
    /// Needs an interpreter.
    Script,
    /// No program of Linux.
    #[default]
    Other,
}

/// Why a program does not start.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
pub enum Fault {
    /// The image names no command.
    NoCommand,
    /// No such file.
    NotFound,
    /// The loader of a dynamic program is missing, or cannot be used.
    MissingLoader,
    /// Libraries are missing.
    MissingLibraries,
    /// Libraries are there, and older than those that the program was built with.
    OldLibraries,
    /// The interpreter of a script is missing, or cannot be used.
    MissingInterpreter,
    /// For another machine.
    WrongMachine,
    /// Not a program of Linux.
    NotExecutable,
    /// Its permissions do not let the image's user run it.
    NotPermitted,
    /// The image's user is not in its /etc/passwd.
    UnknownUser,
    /// Its file capabilities: only a container that may have them all may run it.
    Capabilities,
    /// WORKDIR is no directory, and none can be made there.
    WorkingDirectory,
    /// The text that a shell is given starts no program that is there.
    ShellText,
}

/// One program or script.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Executable {
    /// Where it is called.
    pub path: String,
    /// The file that a symbolic link leads to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// How it is made.
    pub kind: ProgramKind,
    /// The architecture that it is for, where it is ELF.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    /// Its loader, or the script's interpreter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interpreter: Option<String>,
    /// Libraries that it names; the first of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needed: Vec<String>,
    /// True where Go's linker made it; false also where that is not known.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub go: bool,
    /// Capabilities of Linux that a container must be able to have, for its file demands them: `cap_net_raw`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<String>,
    /// Which shell it is, where its file shows that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shell: Option<ShellFile>,
    /// Whether it starts.
    pub runs: Runs,
    /// True where it starts for the image's user and permissions may keep another from it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub restricted: bool,
    /// Why it does not start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
    /// The same for people, or why it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// How ENTRYPOINT and CMD are written.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum CommandForm {
    /// There is neither.
    #[default]
    None,
    /// `["/app", "serve"]`
    Exec,
    /// `/app serve`: a shell starts it.
    Shell,
}

/// What a container starts.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Start {
    /// ENTRYPOINT and CMD, one after the other; the first words, bounded.
    pub command: Vec<String>,
    /// How it is written.
    pub form: CommandForm,
    /// The program that is started.
    pub program: Executable,
    /// What that program starts in turn, where it is a shell or an init such as tini and its command is plain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub then: Option<Executable>,
}

impl Start {
    /// The program that keeps a container from starting, else the one that does its work.
    pub fn decisive(&self) -> &Executable {
        match &self.then {
            Some(then) if self.program.runs == Runs::Yes => then,
            _ => &self.program,
        }
    }
}

/// As whom a container runs.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct User {
    /// USER as written; empty: root.
    pub configured: String,
    /// True where it is a number, as `runAsNonRoot` wants it.
    pub numeric: bool,
    /// The user ID that it comes to; none where the image does not have the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<i64>,
    /// The group ID in /etc/passwd, else 0: Kubernetes passes over the group that USER names.
    pub gid: i64,
    /// The name in /etc/passwd.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The home directory in /etc/passwd.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub home: Option<String>,
    /// The name of a user that the image does not have: `app`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown: Option<String>,
}

/// Certificates of authorities.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CaCertificates {
    /// The file, or the directory, where they lie.
    pub path: String,
    /// How many could be read.
    pub certificates: i64,
    /// How many of them are out of date.
    pub expired: i64,
    /// How many could not be read.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unreadable: i64,
}

/// Time zones.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TimeZones {
    /// The directory or the archive.
    pub path: String,
    /// Files in it.
    pub files: i64,
}

/// `/tmp`.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tmp {
    /// True where it is a directory.
    pub exists: bool,
    /// True where the image's user can make files in it.
    pub writable: bool,
    /// Its mode, in octal: `1777`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
}

/// A file that gives its caller more rights.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Privileged {
    /// Where it is.
    pub path: String,
    /// Its mode, in octal: `4755`.
    pub mode: String,
    /// Its owner, whose rights a setuid file gives.
    pub uid: i64,
    /// Capabilities that it gives: `cap_net_raw`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<String>,
}

/// A symbolic link to a directory.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FolderLink {
    /// Where it is.
    pub path: String,
    /// The directory, all links followed.
    pub folder: String,
}

/// A file and its size.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SizedFile {
    /// Where it is.
    pub path: String,
    /// Bytes.
    pub size: i64,
    /// The layer that it comes from, from 1.
    pub layer: i32,
}

/// A layer and its size.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LayerSize {
    /// Its digest in the registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// The Dockerfile's instruction that made it, where the history says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instruction: Option<String>,
    /// Bytes as stored in the registry.
    pub size: i64,
    /// Bytes of its files.
    pub content: i64,
    /// Bytes of its files that later layers remove or replace.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub hidden: i64,
}
