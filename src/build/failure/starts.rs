//! Hints for programs and scripts of a step that the kernel, a shell or runc could not start.

use super::Script;

/// How something did not start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// `ENOEXEC`: neither a script with `#!` nor a program for this machine.
    Format,
    /// `ENOENT`: the file, or the interpreter or loader that it names.
    Missing,
    /// The same, of a file that is there.
    Interpreter,
    /// `EACCES`.
    Denied,
    /// A program's name that is nowhere on `PATH`.
    NotOnPath,
    /// What is to be started is a folder.
    Folder,
}

/// What fixes it.
pub(super) fn hint(step: &str, log: &str, scripts: &[Script]) -> Option<String> {
    if let Some(fix) = sure(step, log) {
        return Some(fix);
    }
    not_started(step, log, scripts).or_else(|| line_ends(step, scripts))
}

/// A shell's script with Windows line ends that the step names: whatever it did, that is why.
fn line_ends(step: &str, scripts: &[Script]) -> Option<String> {
    let named = |path: &str| {
        let name = path.rsplit('/').next().unwrap_or(path);
        let mut words = step.split(|c: char| c.is_whitespace() || "\"'[],;&|()".contains(c));
        words.any(|word| word.rsplit('/').next() == Some(name))
    };
    let of_shell = |script: &&Script| {
        let line = script.first_line.trim_end();
        let ending = script.path.rsplit('.').next();
        line.starts_with("#!") && line.ends_with("sh") || matches!(ending, Some("sh" | "bash"))
    };
    let found = scripts
        .iter()
        .filter(of_shell)
        .find(|script| script.first_line.ends_with('\r') && named(&script.path))?;
    Some(format!(
        "{} has Windows line endings (CRLF): {LINE_FEEDS}",
        found.path
    ))
}

fn not_started(step: &str, log: &str, scripts: &[Script]) -> Option<String> {
    let (what, how) = log.lines().rev().find_map(|line| {
        let (what, how) = started(line.trim_end())?;
        // A shell tries things that need not be there: what the step itself names counts.
        // That a stage has no shell is known by its own words.
        if what == "/bin/sh" {
            return None;
        }
        let named = step.contains(&what) || log.lines().count() == 1;
        named.then_some((what, how))
    })?;
    let name = what.rsplit('/').next().unwrap_or(&what);
    let script = scripts
        .iter()
        .find(|script| script.path.rsplit('/').next() == Some(name));
    Some(match how {
        How::Format => format_cure(&what, script),
        How::Missing | How::Interpreter => missing_cure(&what, how, script)?,
        How::Denied => format!(
            "permission denied: {what} is not executable, or is a directory: COPY --chmod=755 \
                it, commit it as executable (git update-index --chmod=+x), or start it with its \
                interpreter (sh {what})"
        ),
        How::NotOnPath => format!(
            "program {what} not found in this stage's image: install it in this stage, or use an \
                image that has it"
        ),
        How::Folder => format!("{what} is a directory, not a program: name the program in it"),
    })
}

/// Words that leave no doubt.
fn sure(step: &str, log: &str) -> Option<String> {
    let has = |words: &str| log.contains(words);
    // bash shows the carriage return, env quotes it; of the other shells' words nothing is left behind it.
    let cut = |line: &str| {
        line.ends_with("llegal option -")
            || line.starts_with(": invalid option")
            || line.starts_with(": not found")
            || line.starts_with(": No such file or directory")
    };
    if has("\\r': ") || has("$'\\r'") || has("^M: ") || log.lines().any(|l| cut(l.trim_end())) {
        return Some(format!(
            "a script has Windows line endings (CRLF): {LINE_FEEDS}"
        ));
    }
    if has("\u{7f}ELF") {
        return Some(
            "exec format error: the program is for another platform than the builder's".into(),
        );
    }
    if let Some(library) = library(log) {
        return Some(format!(
            "library {library} not found in this stage's image: install its package in this \
                stage, link the program statically, or run it on the image that it was built on"
        ));
    }
    if has("Error relocating ") || has("GLIBC_") && has("not found") {
        return Some(
            "the program was built for another C library than this stage's image has: build it on the same \
             distribution and release, or statically"
                .into(),
        );
    }
    let json = step.split_whitespace().nth(1);
    let json = json.is_some_and(|word| word.starts_with('['));
    if json
        && log
            .lines()
            .any(|l| l.contains("sh: ") && l.contains(": [") && l.ends_with("not found"))
    {
        return Some(
            "RUN looks like a JSON array but is not valid JSON, so a shell runs it: close it with ], and put each \
             word in double quotes"
                .into(),
        );
    }
    None
}

/// The fix of Windows line ends.
const LINE_FEEDS: &str = "save it with Unix line endings (LF; `* text eol=lf` in .gitattributes), or RUN sed -i \
    's/\\r$//' on it first";

fn format_cure(what: &str, script: Option<&Script>) -> String {
    match script.map(|script| script.first_line.as_str()) {
        Some(line) if line.starts_with("\u{feff}#!") => {
            format!("{what} has a byte order mark before its #!: save it as UTF-8 without one")
        }
        Some(line) if !line.starts_with("#!") => format!(
            "begin the script with `#!`: the first line of {what} must name its interpreter, for example #!/bin/sh; RUN in \
             its JSON form starts it without a shell"
        ),
        _ => format!(
            "if {what} is a script, begin the script with `#!` (#!/bin/sh), as its very first bytes; if it is a program, it \
             is for another platform than the builder's"
        ),
    }
}

fn missing_cure(what: &str, how: How, script: Option<&Script>) -> Option<String> {
    let line = script.map(|script| script.first_line.as_str());
    match line {
        Some(line) if line.starts_with("#!") && line.ends_with('\r') => Some(format!(
            "{what} has Windows line endings (CRLF), so its interpreter is not found: {LINE_FEEDS}"
        )),
        Some(line) if line.starts_with("#!") => {
            let mut words = line[2..].split_whitespace();
            let first = words.next().unwrap_or_default();
            let by_env = first.ends_with("/env");
            let name = match by_env {
                true => words.find(|word| !word.starts_with('-')),
                false => None,
            };
            let name = name.unwrap_or(first);
            Some(format!(
                "the first line of {what} names the interpreter {name}, which this stage's image does not have (if {what} \
                 itself is there): install it in this stage, or write one that is there (#!/bin/sh)"
            ))
        }
        _ if how == How::Interpreter => Some(format!(
            "{what} is there, but what it needs to start is missing: a script's first line names an interpreter that this \
             image does not have, or has Windows line endings (CRLF; {LINE_FEEDS}); a program needs a dynamic loader of \
             another C library (glibc, musl): build it statically"
        )),
        _ if what.contains('/') => Some(format!(
            "if {what} is there, what it needs to start is missing: its first line has Windows line endings (CRLF; \
             {LINE_FEEDS}) or names an interpreter that this image does not have, or it is a program for another C library \
             (glibc, musl). Otherwise check the path"
        )),
        _ => None,
    }
}

/// What a line says could not be started, and how.
fn started(line: &str) -> Option<(String, How)> {
    // runc itself: `exec /run.sh: exec format error`, once it had begun.
    if let Some(rest) = line.strip_prefix("exec ") {
        return ends(rest, ": exec format error", How::Format)
            .or_else(|| ends(rest, ": no such file or directory", How::Interpreter));
    }
    // Before: `… error during container init: exec: "make": executable file not found in $PATH`.
    if let Some((_, rest)) = line.split_once("container init: exec: \"") {
        let (what, said) = rest.split_once('"')?;
        let how = match said {
            said if said.ends_with("executable file not found in $PATH") => How::NotOnPath,
            said if said.ends_with("no such file or directory") => How::NotOnPath,
            said if said.ends_with("permission denied") => How::Denied,
            said if said.ends_with("is a directory") => How::Folder,
            _ => return None,
        };
        return Some((what.to_owned(), how));
    }
    // A shell: `/bin/sh: 1: /run.sh: not found`.
    if !line.contains("sh: ") {
        return None;
    }
    let said = [
        (
            ": cannot execute: required file not found",
            How::Interpreter,
        ),
        (
            ": cannot execute binary file: Exec format error",
            How::Format,
        ),
        (": cannot execute binary file", How::Format),
        (": Exec format error", How::Format),
        (
            ": bad interpreter: No such file or directory",
            How::Interpreter,
        ),
        (": No such file or directory", How::Missing),
        (": not found", How::Missing),
        (": Permission denied", How::Denied),
        (": Is a directory", How::Folder),
    ];
    let (what, how) = said
        .iter()
        .find_map(|(words, how)| Some((line.strip_suffix(words)?, *how)))?;
    let what = what.rsplit(": ").find(|part| part.contains('/'))?;
    let is_path = !what.contains(char::is_whitespace) && !what.ends_with("sh:");
    is_path.then(|| (what.to_owned(), how))
}

fn ends(rest: &str, words: &str, how: How) -> Option<(String, How)> {
    Some((rest.strip_suffix(words)?.to_owned(), how))
}

/// The library that a program's loader misses: glibc's words, and musl's.
fn library(log: &str) -> Option<&str> {
    let between = |from: &str, to: &str| {
        let (_, rest) = log.split_once(from)?;
        Some(rest.split_once(to)?.0)
    };
    between(
        "error while loading shared libraries: ",
        ": cannot open shared object",
    )
    .or_else(|| between("Error loading shared library ", ": No such file"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(first_line: &str) -> Vec<Script> {
        vec![Script {
            path: "bin/run.sh".into(),
            first_line: first_line.into(),
        }]
    }

    /// Step, what it printed, the script's first line (none where it is not known), and words of the fix.
    const CASES: &[(&str, &str, Option<&str>, &str)] = &[
        (
            "RUN sh /run.sh",
            "/run.sh: line 4: syntax error: unexpected end of file",
            Some("#!/bin/sh\r"),
            "bin/run.sh has Windows line endings (CRLF)",
        ),
        (
            "RUN [\"/run.sh\"]",
            "exec /run.sh: exec format error",
            Some("echo hi"),
            "begin the script with `#!`",
        ),
        (
            "RUN [\"/run.sh\"]",
            "exec /run.sh: exec format error",
            None,
            "begin the script with `#!`",
        ),
        (
            "RUN [\"/run.sh\"]",
            "exec /run.sh: exec format error",
            Some("\u{feff}#!/bin/sh"),
            "byte order mark",
        ),
        (
            "RUN [\"/app\"]",
            "exec /app: exec format error",
            None,
            "for another platform",
        ),
        (
            "RUN /app",
            "/bin/sh: 1: /app: Exec format error",
            None,
            "for another platform",
        ),
        (
            "RUN /app",
            "/bin/bash: line 1: /app: cannot execute binary file: Exec format error",
            None,
            "for another platform",
        ),
        (
            "RUN /run.sh",
            "/bin/sh: /run.sh: not found",
            Some("#!/bin/sh\r"),
            "Windows line endings (CRLF",
        ),
        (
            "RUN /run.sh",
            "/bin/sh: 1: /run.sh: not found",
            Some("#!/bin/sh\r"),
            "Windows line endings (CRLF",
        ),
        (
            "RUN /run.sh",
            "/bin/sh: /run.sh: not found",
            None,
            "Windows line endings (CRLF",
        ),
        (
            "RUN [\"/run.sh\"]",
            "exec /run.sh: no such file or directory",
            Some("#!/bin/sh\r"),
            "Windows line endings (CRLF",
        ),
        (
            "RUN [\"/run.sh\"]",
            "exec /run.sh: no such file or directory",
            None,
            "Windows line endings (CRLF",
        ),
        (
            "RUN /run.sh",
            "/bin/bash: line 1: /run.sh: cannot execute: required file not found",
            None,
            "Windows line endings (CRLF",
        ),
        (
            "RUN /run.sh",
            "/usr/bin/env: 'bash\\r': No such file or directory\n/usr/bin/env: use -[v]S",
            None,
            "Windows line endings (CRLF",
        ),
        (
            "RUN bash /run.sh",
            "/run.sh: line 2: $'\\r': command not found",
            None,
            "Windows line endings (CRLF",
        ),
        (
            "RUN bash /run.sh",
            ": invalid option name",
            None,
            "Windows line endings (CRLF",
        ),
        (
            "RUN sh /run.sh",
            "/run.sh: set: line 1: illegal option -",
            None,
            "Windows line endings (CRLF",
        ),
        (
            "RUN /run.sh",
            "/bin/sh: /run.sh: not found",
            Some("#!/bin/bash"),
            "the interpreter /bin/bash",
        ),
        (
            "RUN /run.sh",
            "/bin/sh: /run.sh: not found",
            Some("#!/usr/bin/env -S python3 -u"),
            "the interpreter python3",
        ),
        (
            "RUN ./run.sh",
            "/bin/sh: ./run.sh: Permission denied",
            None,
            "--chmod=755",
        ),
        (
            "RUN [\"/run.sh\"]",
            "runc run failed: unable to start container process: error during container init: exec: \"/run.sh\": permission denied",
            None,
            "--chmod=755",
        ),
        (
            "RUN [\"make\", \"x\"]",
            "runc run failed: unable to start container process: error during container init: exec: \"make\": executable file not found in $PATH",
            None,
            "program make not found",
        ),
        (
            "RUN echo hi",
            "runc run failed: unable to start container process: error during container init: exec: \"/bin/bash\": stat /bin/bash: no such file or directory",
            None,
            "program /bin/bash not found",
        ),
        (
            "RUN [\"/etc\"]",
            "runc run failed: unable to start container process: error during container init: exec: \"/etc\": is a directory",
            None,
            "is a directory, not a program",
        ),
        (
            "RUN /g x",
            "/g: error while loading shared libraries: libpcre2-8.so.0: cannot open shared object file: No such file or directory",
            None,
            "library libpcre2-8.so.0",
        ),
        (
            "RUN /g x",
            "Error loading shared library libz.so.1: No such file or directory (needed by /g)",
            None,
            "library libz.so.1",
        ),
        (
            "RUN /g",
            "/g: /lib/libc.so.6: version `GLIBC_2.38' not found (required by /g)",
            None,
            "another C library",
        ),
        (
            "RUN [\"echo\", \"a\"",
            "/bin/sh: [echo,: not found",
            None,
            "JSON array",
        ),
    ];

    #[test]
    fn what_does_not_start_has_its_cure() {
        for (step, log, line, fix) in CASES {
            let scripts = line.map(script).unwrap_or_default();
            let found = hint(step, log, &scripts).unwrap_or_default();
            assert!(found.contains(fix), "{log} ({line:?}): {found}");
        }
    }

    #[test]
    fn what_a_shell_only_looks_for_has_none() {
        for (step, log) in [
            ("RUN make", "sh: /opt/x: not found\nmain.c:3: error"),
            ("RUN make", "cat: /x: Permission denied"),
            ("RUN curl x", "curl: (6) Could not resolve host: x"),
            ("RUN x", ""),
        ] {
            assert_eq!(hint(step, log, &[]), None, "{log}");
        }
    }
}
