//! `git ls-remote` that tells, where it finds nothing, what is near by name.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, ExitCode, Stdio};

use crate::near::Search;

/// Bytes of a look-up's own output.
const FOUND: u64 = 1 << 20;
/// Bytes of a repository's whole list that are read, and refs of it.
const LISTED: u64 = 16 << 20;
const REFS: usize = 100_000;

/// What BuildKit looks up
/// (<https://github.com/moby/buildkit/blob/v0.33.1/source/git/source.go>, `resolveMetadataFromURL`, `getDefaultBranch`).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LookUp {
    /// Place of the word `ls-remote` among the arguments.
    at: usize,
    url: OsString,
    /// The whole name of a ref.
    wanted: String,
}

/// The look-up that these arguments ask for; `at`: where the command stands.
pub(super) fn of(args: &[OsString], at: usize) -> Option<LookUp> {
    let words: Vec<&str> = args[at..]
        .iter()
        .map(|arg| arg.to_str())
        .collect::<Option<_>>()?;
    let (url, wanted) = match words.as_slice() {
        ["ls-remote", "--", url, wanted, ..] if wanted.starts_with("refs/") => (url, *wanted),
        ["ls-remote", "--symref", url, "HEAD"] => (url, "refs/heads/main"),
        _ => return None,
    };
    Some(LookUp {
        at,
        url: url.into(),
        wanted: wanted.to_owned(),
    })
}

/// Runs it. `git`: the real program, with its environment, without arguments.
pub(super) fn run(look_up: &LookUp, args: &[OsString], git: impl Fn() -> Command) -> ExitCode {
    let mut command = git();
    command.args(args).stdout(Stdio::piped());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return super::not_started(&command, &error),
    };
    let mut found = vec![];
    let read = child
        .stdout
        .take()
        .map(|output| output.take(FOUND).read_to_end(&mut found));
    let status = match child.wait() {
        Ok(status) => status,
        Err(error) => return super::not_started(&command, &error),
    };
    if let Some(Err(error)) = read {
        return super::not_started(&command, &error);
    }
    if std::io::stdout().write_all(&found).is_err() {
        return ExitCode::FAILURE;
    }
    if status.success() && found.is_empty() {
        for line in near(look_up, args, git()) {
            eprintln!("{line}");
        }
    }
    super::code_of(status)
}

/// What is near, or that nothing is there; nothing where it cannot be asked for.
fn near(look_up: &LookUp, args: &[OsString], mut git: Command) -> Vec<String> {
    git.args(&args[..look_up.at])
        .args(["ls-remote", "--heads", "--tags", "--refs", "--"])
        .arg(&look_up.url)
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let Ok(mut child) = git.spawn() else {
        return vec![];
    };
    let mut search = Search::new(&look_up.wanted);
    if let Some(output) = child.stdout.take() {
        let lines = BufReader::new(output.take(LISTED)).split(b'\n').take(REFS);
        for line in lines.map_while(Result::ok) {
            if let Some((_, name)) = String::from_utf8_lossy(&line).split_once('\t') {
                search.see(name);
            }
        }
    }
    // It may have more to say than is heard; its pipe is closed by now.
    let _ = child.kill();
    match child.wait() {
        Ok(_) => search.lines(),
        Err(_) => vec![],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    #[test]
    fn buildkits_look_ups_are_known_and_no_other_command() {
        let args = words(&[
            "-c",
            "a=b",
            "ls-remote",
            "--",
            "https://h/x.git",
            "refs/heads/a",
            "refs/heads/a^{}",
        ]);
        let look_up = of(&args, 2).unwrap();
        assert_eq!((look_up.at, look_up.wanted.as_str()), (2, "refs/heads/a"));
        let args = words(&["ls-remote", "--symref", "https://h/x.git", "HEAD"]);
        assert_eq!(of(&args, 0).unwrap().wanted, "refs/heads/main");
        for other in [
            &["fetch", "origin"][..],
            &["ls-remote", "origin"],
            &["ls-remote"],
        ] {
            assert_eq!(of(&words(other), 0), None, "{other:?}");
        }
    }

    #[test]
    fn a_branch_that_is_not_there_has_its_neighbours_told() {
        let folder = tempfile::tempdir().unwrap();
        let git = || {
            let mut git = Command::new("git");
            git.current_dir(folder.path())
                .env("GIT_CONFIG_GLOBAL", "/dev/null")
                .env_remove("GIT_DIR");
            git
        };
        let run = |args: &[&str]| assert!(git().args(args).output().unwrap().status.success());
        run(&["init", "--quiet", "--initial-branch", "main", "."]);
        let look_up = |wanted: &str| {
            let args = words(&["ls-remote", "--", ".", wanted, "x"]);
            near(&of(&args, 0).unwrap(), &args, git())
        };
        assert_eq!(
            look_up("refs/heads/mian"),
            ["the repository has no branch and no tag"]
        );
        run(&[
            "-c",
            "user.name=t",
            "-c",
            "user.email=t@example.com",
            "commit",
            "--quiet",
            "--allow-empty",
            "--message",
            "one",
        ]);
        run(&["tag", "v1.0"]);
        assert_eq!(
            look_up("refs/heads/mian"),
            ["near by name: refs/heads/main"]
        );
        assert_eq!(look_up("refs/heads/v1.0"), ["near by name: refs/tags/v1.0"]);
    }
}
