//! The contract: what an image must be. Each broken rule names the file, the cause and the fix.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::contents::{Base, CommandForm, Contents, Executable, Fault, ProgramKind, Runs};
use super::display_size;
use super::libraries::Libc;
use super::limits::short;
use super::platform::same_platform;
use super::resolve::list;

/// Bytes of one message.
const MAX_MESSAGE: usize = 1000;
/// Layers and files that a message names.
const NAMED: usize = 3;

/// A named rule.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash, JsonSchema)]
pub enum Rule {
    /// The program that is started needs no loader, library or interpreter.
    StaticBinary,
    /// What ENTRYPOINT and CMD name can be started.
    RunnableEntrypoint,
    /// TLS clients find certificates of authorities, and these are not out of date.
    CACertificates,
    /// Time zones are there.
    TimeZones,
    /// The image's user is not root.
    NonRoot,
    /// The image's user is a number, as `runAsNonRoot` needs it.
    NumericUser,
    /// There is no shell.
    NoShell,
    /// There is no package manager of a distribution.
    NoPackageManager,
    /// No file gives its caller more rights.
    NoSetuid,
    /// The image's user can write to `/tmp`.
    TmpDirectory,
    /// Config and program are for the platform that was asked for.
    PlatformMatches,
}

impl Rule {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::StaticBinary,
        Self::RunnableEntrypoint,
        Self::CACertificates,
        Self::TimeZones,
        Self::NonRoot,
        Self::NumericUser,
        Self::NoShell,
        Self::NoPackageManager,
        Self::NoSetuid,
        Self::TmpDirectory,
        Self::PlatformMatches,
    ];
    /// Enforced where nothing else is said: an image that cannot start is no success.
    pub const DEFAULT: [Self; 2] = [Self::RunnableEntrypoint, Self::PlatformMatches];

    /// The name, as contracts write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::StaticBinary => "StaticBinary",
            Self::RunnableEntrypoint => "RunnableEntrypoint",
            Self::CACertificates => "CACertificates",
            Self::TimeZones => "TimeZones",
            Self::NonRoot => "NonRoot",
            Self::NumericUser => "NumericUser",
            Self::NoShell => "NoShell",
            Self::NoPackageManager => "NoPackageManager",
            Self::NoSetuid => "NoSetuid",
            Self::TmpDirectory => "TmpDirectory",
            Self::PlatformMatches => "PlatformMatches",
        }
    }

    /// The rule of a name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rule| rule.name() == name)
    }
}

/// What one rule came to. The messages have no point at their end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is kept.
    Kept,
    /// It is broken: file, cause and fix.
    Broken(String),
    /// It cannot be told, and why.
    Unknown(String),
}

/// What breaking a rule leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// The build fails, before any tag moves.
    Enforce,
    /// A condition says so.
    Warn,
}

/// One rule that is not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The rule: one of `Rule`, `maxSize` or `maxGrowthPercent`.
    pub rule: &'static str,
    /// What it leads to.
    pub level: Level,
    /// False where it cannot be told.
    pub certain: bool,
    /// File, cause and fix.
    pub message: String,
}

/// An image, and what it weighs.
#[derive(Clone, Copy, Debug)]
pub struct Measured<'a> {
    /// Bytes as stored in the registry: config and layers.
    pub size: i64,
    /// What it holds; none where there is no report of it.
    pub contents: Option<&'a Contents>,
}

/// What an image must be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    /// Bytes as stored in the registry, at most.
    pub max_size: Option<i64>,
    /// Growth against the image before, in percent, at most.
    pub max_growth_percent: Option<i64>,
    /// Rules whose breaking fails the build, besides `Rule::DEFAULT`.
    pub enforce: Vec<Rule>,
    /// Rules whose breaking is said, and no more.
    pub warn: Vec<Rule>,
}

/// Holds an image to its contract. `platform`: the one that was asked for, where one was; `previous`: the
/// last good image. What is not known breaks what was asked for by name, and only warns of what is
/// enforced by default.
pub fn judge(
    budget: &Budget,
    image: Measured<'_>,
    platform: Option<&str>,
    previous: Option<Measured<'_>>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut add = |rule, level, unknown, outcome| match outcome {
        Outcome::Kept => {}
        Outcome::Broken(message) => findings.push(Finding {
            rule,
            level,
            certain: true,
            message: short(&message, MAX_MESSAGE),
        }),
        Outcome::Unknown(message) => findings.push(Finding {
            rule,
            level: unknown,
            certain: false,
            message: short(&message, MAX_MESSAGE),
        }),
    };
    if let Some(contents) = image.contents {
        for rule in Rule::ALL {
            let asked = budget.enforce.contains(&rule);
            let warned = budget.warn.contains(&rule);
            let (level, unknown) = if asked {
                (Level::Enforce, Level::Enforce)
            } else if warned {
                (Level::Warn, Level::Warn)
            } else if Rule::DEFAULT.contains(&rule) {
                (Level::Enforce, Level::Warn)
            } else {
                continue;
            };
            add(rule.name(), level, unknown, check(rule, contents, platform));
        }
    }
    if let Some(most) = budget.max_size {
        add(
            "maxSize",
            Level::Enforce,
            Level::Enforce,
            max_size(most, image, previous),
        );
    }
    if let (Some(percent), Some(previous)) = (budget.max_growth_percent, previous) {
        add(
            "maxGrowthPercent",
            Level::Enforce,
            Level::Enforce,
            max_growth(percent, image, previous),
        );
    }
    findings
}

/// Checks one rule.
pub fn check(rule: Rule, contents: &Contents, platform: Option<&str>) -> Outcome {
    match rule {
        Rule::StaticBinary => static_binary(contents),
        Rule::RunnableEntrypoint => runnable(contents),
        Rule::CACertificates => ca_certificates(contents),
        Rule::TimeZones => time_zones(contents),
        Rule::NonRoot => non_root(contents),
        Rule::NumericUser => numeric_user(contents),
        Rule::NoShell => absent(
            contents,
            &contents
                .shells
                .iter()
                .map(String::as_str)
                .collect::<Vec<_>>(),
            "is a shell",
            "are shells",
            "start from scratch, gcr.io/distroless/static-debian12 or another base without one, and copy just the \
             program into it",
        ),
        Rule::NoPackageManager => absent(
            contents,
            &contents
                .package_managers
                .iter()
                .map(String::as_str)
                .collect::<Vec<_>>(),
            "is a package manager",
            "are package managers",
            "install packages in a build stage, and copy what is needed into a base without one, such as \
             gcr.io/distroless/base-debian12",
        ),
        Rule::NoSetuid => absent(
            contents,
            &contents
                .setuid
                .items
                .iter()
                .map(|file| file.path.as_str())
                .collect::<Vec<_>>(),
            "gives its caller more rights (setuid, setgid or capabilities)",
            "give their caller more rights (setuid, setgid or capabilities)",
            "remove the bits with `RUN chmod a-s FILE` (capabilities: `setcap -r FILE`), or \
                leave the files out",
        ),
        Rule::TmpDirectory => tmp(contents),
        Rule::PlatformMatches => platform_matches(contents, platform),
    }
}

/// Broken, unless something was not read.
fn missing(contents: &Contents, message: String) -> Outcome {
    if contents.partial || !contents.notes.is_empty() {
        let note = contents
            .notes
            .items
            .first()
            .map_or("", |note| note.message.as_str());
        return Outcome::Unknown(format!(
            "not all of the image was read ({note}); in what was: {message}"
        ));
    }
    Outcome::Broken(message)
}

/// Broken where something is there; not known where nothing is, and not all was read.
fn absent(contents: &Contents, found: &[&str], one: &str, many: &str, fix: &str) -> Outcome {
    match found {
        [] if contents.partial => Outcome::Unknown(format!(
            "not all of the image was read ({}); what was read has none",
            contents
                .notes
                .items
                .first()
                .map_or("", |note| note.message.as_str())
        )),
        [] => Outcome::Kept,
        [file] => Outcome::Broken(format!("{file} {one}: {fix}")),
        files => Outcome::Broken(format!("{} {many}: {fix}", list(files, 0))),
    }
}

fn static_binary(contents: &Contents) -> Outcome {
    let program = contents.start.decisive();
    let path = &program.path;
    match program.kind {
        ProgramKind::Static => Outcome::Kept,
        ProgramKind::Dynamic => {
            let mut needs: Vec<&str> = program.interpreter.as_deref().into_iter().collect();
            needs.extend(program.needed.iter().map(String::as_str));
            Outcome::Broken(format!(
                "{path} is linked dynamically, with {}: {}",
                list(&needs, 0),
                statically(program)
            ))
        }
        ProgramKind::Script => Outcome::Broken(format!(
            "{path} is a script, and needs {}: start a static program instead",
            program.interpreter.as_deref().unwrap_or("an interpreter")
        )),
        ProgramKind::Other => {
            let why = program
                .message
                .as_deref()
                .unwrap_or("ENTRYPOINT is not a program");
            if program.runs == Runs::Unknown {
                Outcome::Unknown(why.to_owned())
            } else {
                Outcome::Broken(format!("no program to start: {why}"))
            }
        }
    }
}

fn runnable(contents: &Contents) -> Outcome {
    let program = contents.start.decisive();
    let why = program
        .message
        .as_deref()
        .unwrap_or("it is unknown whether the image starts");
    match (program.runs, program.fault) {
        (Runs::Yes, _) => Outcome::Kept,
        (Runs::No, Some(fault)) => {
            Outcome::Broken(format!("{why}: {}", fix(contents, program, fault)))
        }
        (Runs::No, None) => Outcome::Broken(why.to_owned()),
        (Runs::Unknown, _) => Outcome::Unknown(why.to_owned()),
    }
}

/// What to do about a program that does not start.
fn fix(contents: &Contents, program: &Executable, fault: Fault) -> String {
    let platform = &contents.platform;
    match fault {
        Fault::NoCommand => "set the program to start, for example ENTRYPOINT [\"/app\"]".into(),
        Fault::NotFound if contents.start.form == CommandForm::Shell && contents.start.then.as_ref() != Some(program) => {
            "ENTRYPOINT or CMD is in shell form, which needs that shell: write it as a JSON array, for example \
             ENTRYPOINT [\"/app\"]"
                .into()
        }
        Fault::NotFound => match alike(contents, program) {
            Some(path) => format!("the image has {path}: use that path in ENTRYPOINT or CMD"),
            None => "copy the program there, for example with COPY --from=build, or use its path in \
                ENTRYPOINT or CMD"
                .into(),
        },
        Fault::MissingLoader => missing_loader(contents, program),
        Fault::MissingLibraries => {
            let get = match contents.base {
                Base::Musl => "install the packages that contain the libraries with apk add, or copy them from the \
                    build stage",
                Base::Glibc => "install the packages that contain the libraries, or copy them from the build stage",
                _ => return format!("copy the libraries from the build stage, or {}, or use {}", statically(program), glibc_base(program)),
            };
            format!("{get}, or {}", statically(program))
        }
        Fault::OldLibraries => format!(
            "it was built on a newer distribution than the image's: build it on that of the \
                image, or use a newer base image, or {}",
            statically(program)
        ),
        Fault::MissingInterpreter => {
            "use a base that has it, or start a program that needs no interpreter".into()
        }
        Fault::WrongMachine => format!(
            "build it for {platform}: let the build stage start FROM --platform=$BUILDPLATFORM and cross-compile for \
             $TARGETARCH, or copy the file that is for this platform"
        ),
        Fault::NotExecutable => "copy the program itself there".into(),
        Fault::NotPermitted => {
            "copy it with COPY --chmod=755 (and its directories readable by the image's user)".into()
        }
        Fault::Capabilities => format!(
            "remove the capabilities with `RUN setcap -r FILE`, or set them without the \
                effective bit (`setcap {}=p FILE`), so that it starts without them; or add them \
                in the Pod (securityContext.capabilities.add)",
            program.capabilities.join(",")
        ),
        Fault::WorkingDirectory => {
            "set WORKDIR to a directory, or remove the file at that path from the image".into()
        }
        Fault::ShellText => "write ENTRYPOINT as a JSON array, for example ENTRYPOINT [\"/app\"]: double quotes, no \
            trailing comma, nothing after the bracket"
            .into(),
        Fault::UnknownUser => {
            "write USER with numbers, for example USER 65532:65532, or copy an /etc/passwd that has it".into()
        }
    }
}

/// A program of the same name elsewhere.
fn alike<'a>(contents: &'a Contents, program: &Executable) -> Option<&'a str> {
    let name = program.path.rsplit('/').next()?;
    contents
        .executables
        .items
        .iter()
        .map(|other| other.path.as_str())
        .find(|path| path.rsplit('/').next() == Some(name) && *path != program.path)
}

/// How a program comes to need no libraries: that is another switch in each language.
fn statically(program: &Executable) -> &'static str {
    let needs = |start: &str| program.needed.iter().any(|name| name.starts_with(start));
    match program {
        Executable { go: true, .. } => "build with CGO_ENABLED=0",
        _ if needs("libstdc++") || needs("libc++") => "link it statically (C++: -static)",
        // What Rust takes its unwinding from; Go and plain C need it seldom.
        _ if needs("libgcc_s") => {
            "link it statically (Rust: build for a target such as x86_64-unknown-linux-musl; C: -static)"
        }
        _ => {
            "link it statically (C: -static; Rust: build for a target such as x86_64-unknown-linux-musl; Go: \
             CGO_ENABLED=0)"
        }
    }
}

fn glibc_base(program: &Executable) -> &'static str {
    let cc = program
        .needed
        .iter()
        .any(|name| name.starts_with("libstdc++") || name.starts_with("libgcc_s"));
    if cc {
        "gcr.io/distroless/cc-debian12"
    } else {
        "gcr.io/distroless/base-debian12"
    }
}

fn missing_loader(contents: &Contents, program: &Executable) -> String {
    match (
        Libc::of(program.interpreter.as_deref().unwrap_or_default()),
        contents.base,
    ) {
        (Libc::Glibc, Base::Musl) => format!(
            "it was built for glibc, and the image has musl: build it on Alpine, or {}, or use {}",
            statically(program).trim_start_matches("build "),
            glibc_base(program)
        ),
        (Libc::Musl, Base::Glibc | Base::Distroless) => format!(
            "it was built for musl, and the image has glibc: build it on the distribution of the image, or {}",
            statically(program)
        ),
        (Libc::Musl, _) => format!("{}, or use alpine as the base", statically(program)),
        _ => format!("{}, or use {}", statically(program), glibc_base(program)),
    }
}

fn ca_certificates(contents: &Contents) -> Outcome {
    const COPY: &str = "COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/";
    match &contents.ca_certificates {
        None => missing(
            contents,
            format!(
                "CA certificates not found, or not readable for the image's user, at \
                 /etc/ssl/certs/ca-certificates.crt and in the other usual places, so TLS to other services fails: \
                 {COPY}, or use gcr.io/distroless/static-debian12"
            ),
        ),
        Some(found) if found.expired * 2 > found.certificates => Outcome::Broken(format!(
            "{} of the {} certificates in {} have expired: use a newer bundle, for example with \
                {COPY}",
            found.expired, found.certificates, found.path
        )),
        Some(_) => Outcome::Kept,
    }
}

fn time_zones(contents: &Contents) -> Outcome {
    if contents.time_zones.is_some() {
        return Outcome::Kept;
    }
    missing(
        contents,
        "time zones not found in /usr/share/zoneinfo: COPY --from=build /usr/share/zoneinfo \
            /usr/share/zoneinfo, or use gcr.io/distroless/static-debian12, or (Go) import \
            time/tzdata and remove this rule"
            .into(),
    )
}

fn non_root(contents: &Contents) -> Outcome {
    const FIX: &str = "write USER 65532:65532 into the Dockerfile";
    let user = &contents.user;
    match user.uid {
        Some(0) if user.configured.is_empty() => Outcome::Broken(format!(
            "the image sets no USER, and so runs as root: {FIX}"
        )),
        Some(0) => Outcome::Broken(format!("USER {} is root: {FIX}", user.configured)),
        Some(_) => Outcome::Kept,
        None => Outcome::Unknown(format!(
            "USER {} not found in the image's /etc/passwd, so it is unknown whether it is root: \
                {FIX}",
            user.configured
        )),
    }
}

fn numeric_user(contents: &Contents) -> Outcome {
    let user = &contents.user;
    if user.numeric {
        return Outcome::Kept;
    }
    let number = match user.uid {
        Some(uid) => format!("USER {uid}:{}", user.gid),
        None => "USER 65532:65532".into(),
    };
    Outcome::Broken(format!(
        "USER {} is a name, and Kubernetes cannot tell whether it is root, so a Pod with runAsNonRoot does not start: \
         write {number}",
        user.configured
    ))
}

fn tmp(contents: &Contents) -> Outcome {
    const FIX: &str = "create it in the build stage with mode 1777 and COPY it, or use \
        gcr.io/distroless/static-debian12, or mount an emptyDir";
    let tmp = &contents.tmp;
    let user = contents.user.uid.unwrap_or_default();
    match (tmp.exists, tmp.writable) {
        (true, true) => Outcome::Kept,
        (true, false) => Outcome::Broken(format!(
            "/tmp is not writable for user {user} (mode {}): {FIX}",
            tmp.mode.as_deref().unwrap_or("?")
        )),
        (false, _) => missing(contents, format!("/tmp not found in the image: {FIX}")),
    }
}

fn platform_matches(contents: &Contents, platform: Option<&str>) -> Outcome {
    if let Some(asked) = platform
        && !same_platform(asked, &contents.platform)
    {
        return Outcome::Broken(format!(
            "platform mismatch: the image's config says {}, and {asked} was requested: do not \
                set a fixed platform with FROM --platform in the last stage",
            contents.platform
        ));
    }
    let start = &contents.start;
    let wrong = [Some(&start.program), start.then.as_ref()]
        .into_iter()
        .flatten()
        .find(|program| program.fault == Some(Fault::WrongMachine));
    match wrong {
        Some(program) => Outcome::Broken(format!(
            "{}: {}",
            program.message.as_deref().unwrap_or(&program.path),
            fix(contents, program, Fault::WrongMachine)
        )),
        None => Outcome::Kept,
    }
}

fn max_size(most: i64, image: Measured<'_>, previous: Option<Measured<'_>>) -> Outcome {
    if image.size <= most {
        return Outcome::Kept;
    }
    Outcome::Broken(format!(
        "the image is too large: {}, and maxSize is {}: {}",
        display_size(image.size),
        display_size(most),
        weight(image, previous)
    ))
}

fn max_growth(percent: i64, image: Measured<'_>, previous: Measured<'_>) -> Outcome {
    let grown = i128::from(image.size) * 100;
    let allowed = i128::from(previous.size) * i128::from(percent.saturating_add(100));
    if grown <= allowed {
        return Outcome::Kept;
    }
    let by = (grown - i128::from(previous.size) * 100) / i128::from(previous.size.max(1));
    Outcome::Broken(format!(
        "the image grew by {by} % (from {} to {}), and maxGrowthPercent is {percent}: {}",
        display_size(previous.size),
        display_size(image.size),
        weight(image, Some(previous))
    ))
}

/// Which layers and files make an image heavy, or heavier than the one before.
fn weight(image: Measured<'_>, previous: Option<Measured<'_>>) -> String {
    let Some(contents) = image.contents else {
        return "find what was added with `whittle inspect`".into();
    };
    let before = previous.and_then(|previous| previous.contents);
    // (what, bytes more)
    let mut layers: Vec<(String, i64)> = Vec::new();
    for (index, layer) in contents.layers.items.iter().enumerate() {
        let name = match &layer.instruction {
            Some(instruction) => format!("layer {} ({})", index + 1, short(instruction, 80)),
            None => format!("layer {}", index + 1),
        };
        // The same bytes, or else what the same instruction or place had.
        let old = before.map_or(0, |before| {
            let old = &before.layers.items;
            let same = |other: &&super::contents::LayerSize| {
                layer.digest.is_some() && other.digest == layer.digest
                    || layer.instruction.is_some() && other.instruction == layer.instruction
            };
            old.iter()
                .find(same)
                .or(old.get(index))
                .map_or(0, |old| old.size)
        });
        layers.push((name, layer.size - old));
    }
    let mut files: Vec<(String, i64)> = contents
        .largest
        .iter()
        .map(|file| {
            let old = before.map_or(0, |before| {
                let known = before.largest.iter().find(|old| old.path == file.path);
                known.map_or(0, |old| old.size)
            });
            (file.path.clone(), file.size - old)
        })
        .collect();
    let mut parts = Vec::new();
    for what in [&mut layers, &mut files] {
        what.retain(|(_, bytes)| *bytes > 0);
        what.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
        let sign = if before.is_some() { "+" } else { "" };
        parts.extend(
            what.iter()
                .take(NAMED)
                .map(|(name, bytes)| format!("{name} {sign}{}", display_size(*bytes))),
        );
    }
    match (parts.is_empty(), before.is_some()) {
        (true, _) => "no single layer or large file grew".into(),
        (false, true) => format!("what grew: {}", parts.join(", ")),
        (false, false) => format!("the largest: {}", parts.join(", ")),
    }
}

#[cfg(test)]
#[path = "contract_tests.rs"]
mod tests;
