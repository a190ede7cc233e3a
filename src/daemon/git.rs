//! Stands in git's place: what is sealed among its arguments goes into its environment, opened.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use super::become_real;
use crate::plan::buildctl::host;
use crate::plan::builder::TLS;
use crate::seal;

/// The name on `PATH`.
pub(super) const NAME: &str = "git";
/// What BuildKit writes between the scope of a header and its value.
const HEADER: &str = ".extraheader=Authorization: ";

/// Becomes git.
pub(super) fn run(args: &[OsString]) -> ExitCode {
    let key = || std::fs::read_to_string(Path::new(TLS).join(seal::KEY_FILE)).unwrap_or_default();
    match opened(args, key) {
        Ok(opened) => become_real(&[NAME], &opened.args, |command| {
            if opened.settings.is_empty() {
                return;
            }
            // https://git-scm.com/docs/git-config#ENVIRONMENT
            command.env("GIT_CONFIG_COUNT", opened.settings.len().to_string());
            for (at, (key, value)) in opened.settings.iter().enumerate() {
                command.env(format!("GIT_CONFIG_KEY_{at}"), key);
                command.env(format!("GIT_CONFIG_VALUE_{at}"), value);
            }
        }),
        Err(error) => {
            // In git's own form, so that it is found in the output like other words of git.
            eprintln!("fatal: {error}");
            ExitCode::from(128)
        }
    }
}

/// Arguments without what was sealed, and the settings that it was.
#[derive(Debug, Default, PartialEq, Eq)]
struct Opened {
    args: Vec<OsString>,
    settings: Vec<(String, String)>,
}

fn opened(args: &[OsString], key: impl Fn() -> String) -> Result<Opened, seal::Error> {
    let mut opened = Opened::default();
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        let setting = (arg == "-c").then(|| rest.clone().next()).flatten();
        let Some((scope, sealed)) = setting.and_then(|setting| sealed_header(setting.to_str()?))
        else {
            opened.args.push(arg.clone());
            continue;
        };
        rest.next();
        let header = seal::open(&key(), host(scope), sealed)?;
        opened.settings.push((
            format!("http.{scope}.extraheader"),
            format!("Authorization: {header}"),
        ));
    }
    Ok(opened)
}

/// Scope and sealed header of `http.SCOPE.extraheader=Authorization: HEADER`.
fn sealed_header(setting: &str) -> Option<(&str, &str)> {
    let (scope, header) = setting.strip_prefix("http.")?.split_once(HEADER)?;
    seal::is_sealed(header).then_some((scope, header))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    #[test]
    fn a_sealed_header_leaves_the_arguments() {
        let key = seal::new_key().unwrap();
        let sealed = seal::seal(&key, "git.example.com:8443", "basic abc").unwrap();
        let scope = "https://git.example.com:8443/team/x.git";
        let setting = format!("http.{scope}.extraheader=Authorization: {sealed}");
        let args = words(&["-c", "protocol.file.allow=user", "-c", &setting, "fetch"]);
        let opened = opened(&args, || key.clone()).unwrap();
        assert_eq!(
            opened.args,
            words(&["-c", "protocol.file.allow=user", "fetch"])
        );
        let expected = (
            format!("http.{scope}.extraheader"),
            "Authorization: basic abc".to_owned(),
        );
        assert_eq!(opened.settings, [expected]);
    }

    #[test]
    fn a_header_that_was_sealed_for_another_host_is_not_sent() {
        let key = seal::new_key().unwrap();
        let sealed = seal::seal(&key, "git.example.com", "basic abc").unwrap();
        let setting =
            format!("http.https://evil.example.com/x.extraheader=Authorization: {sealed}");
        assert!(opened(&words(&["-c", &setting, "fetch"]), || key.clone()).is_err());
    }

    #[test]
    fn all_else_stays_as_it_is() {
        let args = words(&[
            "-c",
            "http.https://h/.extraheader=Authorization: basic x",
            "-c",
        ]);
        let opened = opened(&args, String::new).unwrap();
        assert_eq!(
            opened,
            Opened {
                args,
                settings: vec![]
            }
        );
    }
}
