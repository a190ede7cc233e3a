//! Stands in git's place: credentials that are sealed among its arguments reach it by a credential helper.
//!
//! A header would go along where a server redirects to another one; git asks a helper again for each server.

use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{become_real, is_own};
use crate::plan::buildctl::server;
use crate::plan::builder::TLS;
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
    #[error("the git credentials are no user name and password")]
    Header,
    #[error("{HELPER} was not found beside git")]
    Helper,
}

/// Becomes git.
pub(super) fn run(args: &[OsString]) -> ExitCode {
    let key = || std::fs::read_to_string(Path::new(TLS).join(seal::KEY_FILE)).unwrap_or_default();
    let ready = opened(args, key).and_then(|(args, credential)| {
        let helper = match credential {
            Some(_) => Some(helper().ok_or(Error::Helper)?),
            None => None,
        };
        Ok((args, credential.zip(helper)))
    });
    match ready {
        Ok((args, credential)) => become_real(&[NAME], &args, |command| {
            let Some((Credential { server, words }, helper)) = credential else {
                return;
            };
            // https://git-scm.com/docs/git-config#ENVIRONMENT
            command
                .env("GIT_CONFIG_COUNT", "1")
                .env("GIT_CONFIG_KEY_0", format!("credential.{server}.helper"))
                .env("GIT_CONFIG_VALUE_0", helper)
                .env(SERVER, server)
                .env(CREDENTIAL, words);
        }),
        Err(error) => {
            // In git's own form, so that it is found in the output like other words of git.
            eprintln!("fatal: {error}");
            ExitCode::from(128)
        }
    }
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
        Some((user, password)) if server == format!("{protocol}://{host}") => {
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
        let server = server(scope);
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
        for other in [
            "protocol=http\nhost=h:1\n",
            "protocol=https\nhost=evil\n",
            "",
        ] {
            assert_eq!(ask(other), "", "{other}");
        }
    }
}
