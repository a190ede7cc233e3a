//! Stands in git's place: credentials that are sealed among its arguments reach it by a credential helper.
//!
//! A header would go along where a server redirects to another one; git asks a helper again for each server.

use std::ffi::OsString;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{become_real, is_own, lookup, real_command, submodules, trusted};
use crate::buildctl::server as of_url;
use crate::request::paths::BUILDER_TLS as TLS;
use crate::seal;

/// The name on `PATH`.
pub(super) const NAME: &str = "git";
/// The name of the credential helper, beside it (<https://git-scm.com/docs/gitcredentials#_custom_helpers>).
pub(super) const HELPER: &str = "git-credential-whittle";
/// What BuildKit writes between the scope of a header and its value.
const HEADER: &str = ".extraheader=Authorization: ";
/// Variables that the helper reads: scheme and host, and `user:password`.
const SERVER: &str = "WHITTLE_GIT_SERVER";
const CREDENTIAL: &str = "WHITTLE_GIT_CREDENTIAL";

/// Why git is not started.
#[derive(thiserror::Error, Debug, PartialEq, Eq)]
enum Error {
    #[error(transparent)]
    Seal(#[from] seal::Error),
    #[error("invalid git credentials: not a user name and password")]
    Header,
    #[error("{HELPER} not found beside git")]
    Helper,
}

/// Becomes git, or runs it where more than one run of it is needed.
pub(super) fn run(args: &[OsString]) -> ExitCode {
    let key = || std::fs::read_to_string(Path::new(TLS).join(seal::KEY_FILE)).unwrap_or_default();
    let ready = opened(args, key).and_then(|(args, credential)| match credential {
        Some(credential) => {
            let helper = helper().ok_or(Error::Helper)?;
            Ok((with_helper(args, &credential, &helper), Some(credential)))
        }
        None => Ok((args, None)),
    });
    let (mut args, credential) = match ready {
        Ok(ready) => ready,
        Err(error) => {
            // In git's own form, so that it is found in the output like other words of git.
            eprintln!("fatal: {error}");
            return ExitCode::from(128);
        }
    };
    let trusted = match trusted::for_git() {
        Ok(trusted) => trusted,
        Err(error) => {
            eprintln!("fatal: cannot read what caRef of the Builder names: {error}");
            return ExitCode::from(128);
        }
    };
    let told = |command: &mut Command| {
        if let Some(file) = &trusted {
            command.env("GIT_SSL_CAINFO", file);
        }
        if let Some(Credential { server, words }) = &credential {
            command.env(SERVER, server).env(CREDENTIAL, words);
        }
    };
    let real = match real_command(&[NAME]) {
        Ok(command) => command.get_program().to_owned(),
        Err(code) => return code,
    };
    let git = || {
        let mut command = Command::new(&real);
        command.arg0(NAME);
        told(&mut command);
        command
    };
    let Some(at) = command_at(&args) else {
        return become_real(&[NAME], &args, told);
    };
    if let Some(look_up) = lookup::of(&args, at) {
        return lookup::run(&look_up, &args, git);
    }
    if let Some(repository) = submodules::of(&args, at) {
        if std::env::var_os("SSH_AUTH_SOCK").is_none() {
            // Without a key and the keys of servers nobody is asked by ssh.
            let never = ["-c", "protocol.ssh.allow=never"].map(OsString::from);
            args.splice(0..0, never);
        }
        return submodules::run(&repository, &args, git);
    }
    become_real(&[NAME], &args, told)
}

/// Where git's command stands, behind the options that BuildKit gives
/// (<https://github.com/moby/buildkit/blob/v0.33.1/util/gitutil/git_cli.go>).
fn command_at(args: &[OsString]) -> Option<usize> {
    let mut at = 0;
    while args.get(at)?.to_str()?.starts_with('-') {
        let has_value = ["-c", "--work-tree", "--git-dir"]
            .iter()
            .any(|it| args[at] == *it);
        at += if has_value { 2 } else { 1 };
    }
    Some(at)
}

/// Names the helper for its server alone. As an option, since that is what git hands on to the runs for submodules: it
/// takes `GIT_CONFIG_COUNT` away from them.
fn with_helper(args: Vec<OsString>, credential: &Credential, helper: &Path) -> Vec<OsString> {
    let mut setting = OsString::from(format!("credential.{}.helper=", credential.server));
    setting.push(helper);
    let mut all = vec![OsString::from("-c"), setting];
    all.extend(args);
    all
}

/// Answers git's question for credentials, where it is for their server.
pub(super) fn help(args: &[OsString]) -> ExitCode {
    let mut question = String::new();
    let read = std::io::stdin()
        .lock()
        .take(64 * 1024)
        .read_to_string(&mut question);
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    if read.is_ok() && args.first().is_some_and(|action| action == "get") {
        print!(
            "{}",
            answer(&question, &variable(SERVER), &variable(CREDENTIAL))
        );
    }
    ExitCode::SUCCESS
}

/// <https://git-scm.com/docs/git-credential#IOFMT>
fn answer(question: &str, server: &str, words: &str) -> String {
    let of = |key: &str| {
        let mut lines = question.lines();
        lines.find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
    };
    let (Some(protocol), Some(host)) = (of("protocol"), of("host")) else {
        return String::new();
    };
    match words.split_once(':') {
        Some((user, password)) if server == of_url(&format!("{protocol}://{host}")) => {
            format!("username={user}\npassword={password}\n")
        }
        _ => String::new(),
    }
}

/// What was sealed.
#[derive(Debug, PartialEq, Eq)]
struct Credential {
    /// Scheme and host.
    server: String,
    /// `user:password`.
    words: String,
}

/// Arguments without what was sealed, and what that was.
fn opened(
    args: &[OsString],
    key: impl Fn() -> String,
) -> Result<(Vec<OsString>, Option<Credential>), Error> {
    let (mut kept, mut credential) = (vec![], None);
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        let setting = (arg == "-c").then(|| rest.clone().next()).flatten();
        let Some((scope, sealed)) = setting.and_then(|setting| sealed_header(setting.to_str()?))
        else {
            kept.push(arg.clone());
            continue;
        };
        rest.next();
        let server = of_url(scope);
        let header = seal::open(&key(), &server, sealed)?;
        let basic = header.strip_prefix("basic ").ok_or(Error::Header)?;
        let words = STANDARD
            .decode(basic)
            .ok()
            .and_then(|words| String::from_utf8(words).ok());
        let words = words
            .filter(|words| !words.contains(['\n', '\r', '\0']))
            .ok_or(Error::Header)?;
        credential = Some(Credential { server, words });
    }
    Ok((kept, credential))
}

/// Scope and sealed header of `http.SCOPE.extraheader=Authorization: HEADER`.
fn sealed_header(setting: &str) -> Option<(&str, &str)> {
    let (scope, header) = setting.strip_prefix("http.")?.split_once(HEADER)?;
    seal::is_sealed(header).then_some((scope, header))
}

/// The helper, beside the program that stands in git's place.
fn helper() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(HELPER))
        .find(|found| is_own(found))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "basic Ym9iOmh1bnRlcjI6Mg==";

    fn words(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    fn setting(scope: &str, sealed: &str) -> String {
        format!("http.{scope}.extraheader=Authorization: {sealed}")
    }

    #[test]
    fn a_sealed_header_leaves_the_arguments() {
        let key = seal::new_key().unwrap();
        let sealed = seal::seal(&key, "https://git.example.com:8443", HEADER).unwrap();
        let setting = setting("https://git.example.com:8443/team/x.git", &sealed);
        let args = words(&["-c", "protocol.file.allow=user", "-c", &setting, "fetch"]);
        let (kept, credential) = opened(&args, || key.clone()).unwrap();
        assert_eq!(kept, words(&["-c", "protocol.file.allow=user", "fetch"]));
        let expected = Credential {
            server: "https://git.example.com:8443".into(),
            words: "bob:hunter2:2".into(),
        };
        assert_eq!(credential, Some(expected));
    }

    #[test]
    fn a_header_that_was_sealed_for_another_server_is_not_used() {
        let key = seal::new_key().unwrap();
        let sealed = seal::seal(&key, "https://git.example.com", HEADER).unwrap();
        // Another host, and the same one without TLS.
        for scope in ["https://evil.example.com/x", "http://git.example.com/x"] {
            let args = words(&["-c", &setting(scope, &sealed), "fetch"]);
            assert!(opened(&args, || key.clone()).is_err(), "{scope}");
        }
    }

    #[test]
    fn the_helper_is_named_for_its_server_among_the_options() {
        let credential = Credential {
            server: "https://h:8443".into(),
            words: "bob:hunter2:2".into(),
        };
        let args = words(&["--git-dir", "/g", "submodule", "update"]);
        let args = with_helper(
            args,
            &credential,
            Path::new("/whittle/tools/git-credential-whittle"),
        );
        let named = "credential.https://h:8443.helper=/whittle/tools/git-credential-whittle";
        assert_eq!(args[..2], words(&["-c", named]));
        assert!(
            !args
                .iter()
                .any(|arg| arg.to_string_lossy().contains("hunter2"))
        );
        assert_eq!(command_at(&args), Some(4));
        assert_eq!(command_at(&words(&["-c"])), None);
        assert_eq!(command_at(&words(&["fetch", "-u"])), Some(0));
    }

    #[test]
    fn all_else_stays_as_it_is() {
        let plain = setting("https://h/", "basic x");
        let args = words(&["-c", &plain, "-c"]);
        assert_eq!(opened(&args, String::new).unwrap(), (args, None));
    }

    #[test]
    fn the_helper_answers_for_its_server_alone() {
        let ask = |question: &str| answer(question, "https://h:1", "bob:hunter2:2");
        assert_eq!(
            ask("protocol=https\nhost=h:1\npath=x\n\n"),
            "username=bob\npassword=hunter2:2\n"
        );
        let answered = answer(
            "protocol=https\nhost=GIT.example.com:443\n",
            "https://git.example.com",
            "a:b",
        );
        assert_eq!(answered, "username=a\npassword=b\n");
        for other in [
            "protocol=https\nhost=h:2\n",
            "protocol=https\nhost=h\n",
            "protocol=https\nhost=h:1.evil\n",
            "protocol=http\nhost=h:1\n",
            "protocol=https\nhost=evil\n",
            "",
        ] {
            assert_eq!(ask(other), "", "{other}");
        }
    }
}
