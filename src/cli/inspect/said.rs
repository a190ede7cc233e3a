//! What an image holds, in words.

use super::report::PlatformReport;
use whittle_image::{Base, CommandForm, Contents, Executable, ProgramKind, Runs, display_size};

/// Executables, and entries of other lists, that are shown.
pub(super) const SHOWN: usize = 20;

pub(super) fn base(contents: &Contents) -> String {
    let base = match contents.base {
        Base::Scratch => "scratch: no distribution and no C library",
        Base::DistrolessStatic => "distroless, without a C library",
        Base::Distroless => "distroless, with glibc",
        Base::Musl => "a distribution with musl",
        Base::Glibc => "a distribution with glibc",
        Base::Other => "a distribution with neither glibc nor musl",
    };
    match &contents.os {
        Some(os) => {
            let version = os.version.as_deref().unwrap_or("");
            format!("{} {version}", os.id).trim_end().to_owned() + &format!(" ({base})")
        }
        None => base.into(),
    }
}

pub(super) fn user(contents: &Contents) -> String {
    let user = &contents.user;
    let configured = match user.configured.as_str() {
        "" => "not set, so root",
        text => text,
    };
    let mut parts = vec![match user.uid {
        Some(uid) => format!("uid {uid}, gid {}", user.gid),
        None => "number unknown".into(),
    }];
    parts.extend(user.name.as_ref().map(|name| format!("name {name}")));
    parts.extend(user.home.as_ref().map(|home| format!("home {home}")));
    let unknown = user.unknown.as_ref();
    parts.extend(unknown.map(|what| format!("{what} not found in the image")));
    if !user.numeric && !user.configured.is_empty() {
        parts.push("not a number, which runAsNonRoot requires".into());
    }
    format!("{configured} ({})", parts.join("; "))
}

pub(super) fn certificates(contents: &Contents) -> String {
    let Some(found) = &contents.ca_certificates else {
        return "none".into();
    };
    let mut text = format!("{} ({} certificates", found.path, found.certificates);
    for (number, what) in [(found.expired, "expired"), (found.unreadable, "unreadable")] {
        if number > 0 {
            text.push_str(&format!(", {number} {what}"));
        }
    }
    text + ")"
}

pub(super) fn tmp(contents: &Contents) -> String {
    let tmp = &contents.tmp;
    let mode = tmp.mode.as_deref().unwrap_or("?");
    match (tmp.exists, tmp.writable) {
        (false, _) => "none".into(),
        (true, true) => format!("writable for the image's user (mode {mode})"),
        (true, false) => format!("not writable for the image's user (mode {mode})"),
    }
}

pub(super) fn setuid(contents: &Contents) -> String {
    let files: Vec<String> = contents
        .setuid
        .items
        .iter()
        .map(|file| {
            let mut what = vec![format!("mode {}", file.mode), format!("uid {}", file.uid)];
            what.extend(file.capabilities.iter().cloned());
            format!("{} ({})", file.path, what.join(", "))
        })
        .collect();
    let more = contents.setuid.omitted;
    match (shown(&files), rest(files.len(), more)) {
        (text, _) if text.is_empty() => "none".into(),
        (text, None) => text,
        (text, Some(rest)) => format!("{text} {rest}"),
    }
}

pub(super) fn names(names: &[String]) -> String {
    if names.is_empty() {
        return "none".into();
    }
    match rest(names.len(), 0) {
        Some(rest) => format!("{} {rest}", shown(names)),
        None => shown(names),
    }
}

/// The first of some names.
pub(super) fn shown(names: &[String]) -> String {
    names[..names.len().min(SHOWN)].join(", ")
}

/// How many are not shown, of those that the report lists and those that it leaves out.
pub(super) fn rest(listed: usize, omitted: i64) -> Option<String> {
    let more = i64::try_from(listed.saturating_sub(SHOWN))
        .unwrap_or(i64::MAX)
        .saturating_add(omitted);
    (more > 0).then(|| format!("… and {more} more"))
}

/// A command, each word as JSON has it, as in a Dockerfile.
pub(super) fn words(command: &[String]) -> String {
    let words: Vec<String> = command.iter().map(|word| format!("{word:?}")).collect();
    format!("[{}]", words.join(", "))
}

/// How a program is made.
pub(super) fn make(program: &Executable) -> String {
    let kind = match program.kind {
        ProgramKind::Static => "static",
        ProgramKind::Dynamic => "dynamic",
        ProgramKind::Script => "script",
        ProgramKind::Other => "not a Linux program",
    };
    let mut parts = vec![kind.to_owned()];
    parts.extend(program.machine.clone());
    parts.extend(
        program
            .interpreter
            .as_ref()
            .map(|path| format!("by {path}")),
    );
    parts.join(", ")
}

pub(super) fn time_zones(contents: &Contents) -> String {
    match &contents.time_zones {
        Some(zones) => format!("{} ({} files)", zones.path, zones.files),
        None => "none".into(),
    }
}

/// What is started.
pub(super) fn command(contents: &Contents) -> String {
    let start = &contents.start;
    match start.form {
        CommandForm::None => "none: neither ENTRYPOINT nor CMD".into(),
        CommandForm::Exec => words(&start.command),
        CommandForm::Shell => format!("{} (shell form)", words(&start.command)),
    }
}

/// Whether a program starts.
pub(super) fn runs(program: &Executable) -> &'static str {
    match program.runs {
        Runs::Yes => "can be started",
        Runs::No => "CANNOT BE STARTED",
        Runs::Unknown => "may start: unknown",
    }
}

/// All that is said of an image in one line each.
pub(super) fn lines(contents: &Contents) -> Vec<(&'static str, String)> {
    let started = contents.start.decisive();
    let why = started.message.as_deref();
    let why = why.map_or(String::new(), |why| format!(": {why}"));
    vec![
        ("Platform", contents.platform.clone()),
        ("Base", base(contents)),
        ("Starts", command(contents)),
        (
            "Program",
            format!("{} {}{why}", started.path, runs(started)),
        ),
        ("User", user(contents)),
        ("PATH", contents.env_path.clone().unwrap_or_else(none)),
        (
            "WORKDIR",
            contents.working_dir.clone().unwrap_or_else(|| "/".into()),
        ),
        ("Shells", names(&contents.shells)),
        ("Package managers", names(&contents.package_managers)),
        ("CA certificates", certificates(contents)),
        ("Time zones", time_zones(contents)),
        ("/tmp", tmp(contents)),
        ("Setuid files", setuid(contents)),
        (
            "HEALTHCHECK",
            match contents.health_check.is_empty() {
                true => none(),
                false => contents.health_check.join(" "),
            },
        ),
    ]
}

fn none() -> String {
    "none".into()
}

/// Its bytes, files and layers.
pub(super) fn size(image: &PlatformReport) -> String {
    let stored = match image.uncompressed {
        true => "as stored, uncompressed (less in a registry)",
        false => "compressed",
    };
    let contents = &image.contents;
    format!(
        "{} {stored}; {} unpacked, in {} and {}",
        display_size(image.size),
        display_size(contents.bytes),
        count(contents.files, "regular file", "regular files"),
        count(contents.layers.len(), "layer", "layers"),
    )
}

fn count(number: i64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}
