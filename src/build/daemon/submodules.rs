//! `git submodule update` without what earlier runs have left.
//!
//! BuildKit keeps one repository for each URL, and git writes into it where each submodule comes from and never asks
//! `.gitmodules` again: a URL that was mended there would not count. What is checked out is held to the commit that the
//! repository names, so an old URL can make a run fail, and no more than that.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

/// Bytes of what a run says that are kept.
const SAID: u64 = 256 * 1024;

/// The repository whose submodules these arguments update; `at`: where the command stands.
pub(super) fn of(args: &[OsString], at: usize) -> Option<PathBuf> {
    let updates = args.get(at)? == "submodule" && args.get(at + 1)? == "update";
    let place = args[..at].iter().position(|arg| arg == "--git-dir")?;
    updates
        .then(|| args.get(place + 1).map(PathBuf::from))
        .flatten()
}

/// Runs it. `git`: the real program, with its environment, without arguments.
pub(super) fn run(repository: &Path, args: &[OsString], git: impl Fn() -> Command) -> ExitCode {
    if left(repository) {
        let mut command = git();
        match heard(command.args(args)) {
            Ok((true, said)) => {
                let _ = io::stderr().write_all(&said);
                return ExitCode::SUCCESS;
            }
            Ok((false, _)) => forget(repository),
            Err(error) => return super::not_started(&command, &error),
        }
    }
    let mut command = git();
    match command.args(args).status() {
        Ok(status) => {
            if !status.success() {
                forget(repository);
            }
            super::code_of(status)
        }
        Err(error) => super::not_started(&command, &error),
    }
}

/// Whether it succeeded, and what it said.
fn heard(command: &mut Command) -> io::Result<(bool, Vec<u8>)> {
    let mut child = command.stderr(Stdio::piped()).spawn()?;
    let mut said = vec![];
    if let Some(mut stderr) = child.stderr.take() {
        stderr.by_ref().take(SAID).read_to_end(&mut said)?;
        io::copy(&mut stderr, &mut io::sink())?;
    }
    Ok((child.wait()?.success(), said))
}

/// True where an earlier run has left something.
fn left(repository: &Path) -> bool {
    let config = fs::read_to_string(repository.join("config")).unwrap_or_default();
    repository.join("modules").exists() || without_submodules(&config) != config
}

/// What cannot be taken away stays: the next run says what is wrong with it.
fn forget(repository: &Path) {
    let _ = fs::remove_dir_all(repository.join("modules"));
    let path = repository.join("config");
    if let Ok(config) = fs::read_to_string(&path) {
        let part = repository.join("config.part");
        let _ =
            fs::write(&part, without_submodules(&config)).and_then(|()| fs::rename(&part, &path));
    }
}

/// A repository's config without its sections of submodules.
fn without_submodules(config: &str) -> String {
    let mut kept = String::new();
    let mut inside = false;
    for line in config.split_inclusive('\n') {
        let head = line.trim_start();
        if head.starts_with('[') {
            inside = head.starts_with("[submodule \"");
        }
        if !inside {
            kept.push_str(line);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    #[test]
    fn sections_of_submodules_are_taken_out_of_the_config() {
        let config = "[core]\n\tbare = true\n[submodule \"a]b\"]\n\tactive = true\n\turl = x\n[remote \"origin\"]\n\turl = y\n[submodule]\n\tfetchJobs = 2\n";
        let kept =
            "[core]\n\tbare = true\n[remote \"origin\"]\n\turl = y\n[submodule]\n\tfetchJobs = 2\n";
        assert_eq!(without_submodules(config), kept);
        assert_eq!(without_submodules(kept), kept);
    }

    #[test]
    fn the_repository_is_that_of_the_arguments() {
        let args = words(&[
            "--work-tree",
            "/w",
            "--git-dir",
            "/g",
            "submodule",
            "update",
            "--init",
        ]);
        assert_eq!(of(&args, 4), Some("/g".into()));
        assert_eq!(
            of(&words(&["--git-dir", "/g", "submodule", "status"]), 2),
            None
        );
        assert_eq!(of(&words(&["submodule", "update"]), 0), None);
    }

    #[test]
    fn a_url_that_was_mended_counts_in_the_next_run() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        let git = || {
            let mut git = Command::new("git");
            git.env("GIT_CONFIG_GLOBAL", "/dev/null")
                .env("GIT_TERMINAL_PROMPT", "0")
                .env_remove("GIT_DIR")
                .args(["-c", "user.name=t", "-c", "user.email=t@example.com"])
                .args(["-c", "protocol.file.allow=always"]);
            git
        };
        let run = |args: &[&str]| {
            let output = git().args(args).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{args:?}: {said}");
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        };
        let (lib, tree, bare) = (at("lib"), at("tree"), at("bare"));
        for name in [&lib, &tree] {
            run(&["init", "--quiet", "--initial-branch", "main", name]);
        }
        run(&[
            "-C",
            &lib,
            "commit",
            "--quiet",
            "--allow-empty",
            "--message",
            "one",
        ]);
        let commit = run(&["-C", &lib, "rev-parse", "HEAD"]);
        let entry = format!("160000,{commit},lib");
        run(&["-C", &tree, "update-index", "--add", "--cacheinfo", &entry]);
        run(&["init", "--quiet", "--bare", &bare]);
        let mut codes = vec![];
        for (n, url) in [at("nosuch"), lib.clone()].iter().enumerate() {
            let modules = format!("[submodule \"lib\"]\n\tpath = lib\n\turl = {url}\n");
            fs::write(folder.path().join("tree/.gitmodules"), modules).unwrap();
            run(&["-C", &tree, "add", ".gitmodules"]);
            run(&["-C", &tree, "commit", "--quiet", "--message", "change"]);
            run(&["-C", &bare, "fetch", "--quiet", &tree, "main"]);
            let out = at(&format!("out-{n}"));
            fs::create_dir(&out).unwrap();
            let place = ["--work-tree", &out, "--git-dir", &bare];
            run(&[
                &place[..],
                &["checkout", "--no-overlay", "FETCH_HEAD", "--", "."],
            ]
            .concat());
            if n == 1 {
                // As one that was killed would leave it.
                run(&[
                    "--git-dir",
                    &bare,
                    "config",
                    "submodule.lib.url",
                    &at("nosuch"),
                ]);
            }
            let args = words(&[&place[..], &["submodule", "--quiet"]].concat());
            let mut args = args[..4].to_vec();
            args.extend(words(&["submodule", "update", "--init", "--recursive"]));
            let repository = of(&args, 4).unwrap();
            codes.push(super::run(&repository, &args, || {
                let mut git = git();
                git.current_dir(&out)
                    .stderr(Stdio::null())
                    .stdout(Stdio::null());
                git
            }));
            assert!(n == 1 || !left(&repository));
        }
        assert_eq!(codes, [ExitCode::FAILURE, ExitCode::SUCCESS]);
        assert!(folder.path().join("out-1/lib/.git").exists());
    }
}
