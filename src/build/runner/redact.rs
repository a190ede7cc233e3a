//! Keeps the values of secrets out of everything that leaves the runner: its log, its report, its
//! progress.

use std::fs;
use std::path::Path;

use super::files::{BEARER, IDENTITY, SSH_KEY};
use super::registry_secret;
use crate::buildctl::basic_auth;
use crate::report::Progress;
use crate::request::{BuildRequest, paths::TOKEN_KEY};
use whittle_api::{ContentsStatus, Failure};

/// Shorter values are not looked for: they would turn every log into blots, and hide nothing.
const SHORTEST: usize = 6;
/// What stands in a secret's place.
const BLOT: &str = "[secret]";

/// Knows the secrets of one build.
#[derive(Default)]
pub(super) struct Redactor {
    /// The longest first, so that one within another leaves no rest.
    values: Vec<String>,
}

impl Redactor {
    /// Reads what the kubelet has mounted for this build. What cannot be read cannot leak either.
    pub(super) fn load(request: &BuildRequest) -> Self {
        let place = &request.place;
        let mut found = Self::default();
        for secret in &request.inputs.secrets {
            found.add_file(&place.secret(&secret.id));
        }
        let token = place.attempt.join(TOKEN_KEY);
        if let Ok(token) = fs::read_to_string(token) {
            // Its last part is what is secret in it.
            found.add(token.trim().rsplit('.').next().unwrap_or_default());
        }
        let git = &place.git_auth;
        for key in ["password", SSH_KEY, IDENTITY, BEARER] {
            found.add_file(&git.join(key));
        }
        let read = |key: &str| fs::read_to_string(git.join(key)).unwrap_or_default();
        let password = read("password");
        if !password.is_empty() {
            found.add_git(read("username").trim(), password.trim_end());
        }
        for config in registry_secret::mounted(place) {
            for secret in config.secrets() {
                found.add(secret);
            }
        }
        found
    }

    /// Knows these values.
    #[cfg(test)]
    pub(super) fn of(values: &[&str]) -> Self {
        let mut redactor = Self::default();
        for value in values {
            redactor.add(value);
        }
        redactor
    }

    /// The forms in which git shows a password: in a header, and within a URL.
    fn add_git(&mut self, username: &str, password: &str) {
        let header = basic_auth(username, password);
        self.add(header.trim_start_matches("basic "));
        // git writes small digits, others large ones.
        self.add(&percent_encoded(password, |byte| format!("%{byte:02x}")));
        self.add(&percent_encoded(password, |byte| format!("%{byte:02X}")));
    }

    fn add_file(&mut self, path: &Path) {
        if let Ok(bytes) = fs::read(path) {
            self.add(&String::from_utf8_lossy(&bytes));
        }
    }

    /// Looks for each line of a value from now on, and for what stands after the last `=` of a line,
    /// as in `_authToken=…`.
    fn add(&mut self, value: &str) {
        for line in value.lines().map(str::trim) {
            let token = line
                .rsplit_once('=')
                .map(|(_, token)| token.trim_matches(['"', '\'', ' ']))
                .filter(|token| !token.contains("://"));
            for part in std::iter::once(line).chain(token) {
                if part.len() >= SHORTEST && !self.values.iter().any(|known| known == part) {
                    self.values.push(part.to_owned());
                }
            }
        }
        self.values
            .sort_by_key(|value| std::cmp::Reverse(value.len()));
    }

    /// The line without secrets.
    pub(super) fn line(&self, line: &str) -> String {
        let mut text = line.to_owned();
        for value in &self.values {
            if text.contains(value.as_str()) {
                text = text.replace(value.as_str(), BLOT);
            }
        }
        text
    }

    /// The failure without secrets.
    pub(super) fn failure(&self, failure: Failure) -> Failure {
        Failure {
            reason: failure.reason,
            message: self.line(&failure.message),
            step: failure.step.map(|text| self.line(&text)),
            dockerfile_line: failure.dockerfile_line,
            log: failure.log.map(|text| self.line(&text)),
            hint: failure.hint.map(|text| self.line(&text)),
            image: failure.image,
        }
    }

    /// What an image holds without secrets: somebody may have written one into its command.
    pub(super) fn contents(&self, contents: &mut ContentsStatus) {
        let texts = contents
            .problem
            .iter_mut()
            .chain(&mut contents.user)
            .chain(&mut contents.command)
            .chain(&mut contents.executables);
        for text in texts {
            *text = self.line(text);
        }
    }

    /// The progress without secrets.
    pub(super) fn progress(&self, progress: Progress) -> Progress {
        Progress {
            step: self.line(&progress.step),
            ..progress
        }
    }
}

/// As a password is written into a URL: all but unreserved characters escaped (RFC 3986, section 2.3).
fn percent_encoded(text: &str, escape: fn(u8) -> String) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            _ => escape(byte),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use whittle_api::FailureReason;

    fn redactor(values: &[&str]) -> Redactor {
        Redactor::of(values)
    }

    #[test]
    fn each_line_of_a_secret_is_blotted_out() {
        let redactor = redactor(&["first-line\n  second-line  \n"]);
        assert_eq!(
            redactor.line("a first-line b second-line second-line"),
            "a [secret] b [secret] [secret]"
        );
    }

    #[test]
    fn a_token_within_a_line_is_blotted_out_alone_as_well() {
        let redactor = redactor(&[
            "//registry.example.com/:_authToken=npm_123456\nregistry=https://r.example.com",
        ]);
        assert_eq!(redactor.line("token npm_123456"), "token [secret]");
        assert_eq!(
            redactor.line("GET https://r.example.com"),
            "GET https://r.example.com"
        );
    }

    #[test]
    fn a_password_for_git_is_blotted_out_in_each_form_that_git_shows() {
        let mut redactor = Redactor::default();
        redactor.add_git("bob", "p@ss/word");
        for (line, clean) in [
            (
                "-c http.https://h/.extraheader=Authorization: basic Ym9iOnBAc3Mvd29yZA==",
                "-c http.https://h/.extraheader=Authorization: basic [secret]",
            ),
            (
                "unable to access 'https://bob:p%40ss%2Fword@h/x.git/'",
                "unable to access 'https://bob:[secret]@h/x.git/'",
            ),
            (
                "unable to access 'https://bob:p%40ss%2fword@h/x.git/'",
                "unable to access 'https://bob:[secret]@h/x.git/'",
            ),
        ] {
            assert_eq!(redactor.line(line), clean);
        }
    }

    #[test]
    fn a_secret_within_another_leaves_no_rest() {
        assert_eq!(
            redactor(&["hunter22", "hunter22-and-more"]).line("hunter22-and-more"),
            "[secret]"
        );
    }

    #[test]
    fn short_values_are_left_alone() {
        assert_eq!(
            redactor(&["true", "12345"]).line("true 12345"),
            "true 12345"
        );
    }

    #[test]
    fn every_text_of_a_failure_is_cleaned() {
        let text = || "x hunter22 y".to_owned();
        let failure = redactor(&["hunter22"]).failure(Failure {
            reason: FailureReason::StepFailed,
            message: text(),
            step: Some(text()),
            dockerfile_line: Some(1),
            log: Some(text()),
            hint: Some(text()),
            image: None,
        });
        assert!(
            !serde_json::to_string(&failure)
                .unwrap()
                .contains("hunter22")
        );
    }
}
