//! Where an attempt finds what it works with, and who hears what it says: in a Pod what the kubelet has mounted, on
//! anybody's machine a private folder that is laid out alike.

use std::borrow::Cow;
use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use crate::request::paths;

/// The folders and programs of one attempt, each as its namesake in [`paths`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Certificates for the builder and the callback; without a `builder_server_name` the builder is asked without them.
    pub tls: PathBuf,
    /// The attempt's own credential.
    pub attempt: PathBuf,
    /// The Secret of `output.secretRef`.
    pub registry_auth: PathBuf,
    /// The Secret of `git.secretRef`.
    pub git_auth: PathBuf,
    /// The Secret of the Builder's cache registry.
    pub cache_auth: PathBuf,
    /// The Secret of `oci.secretRef`.
    pub source_auth: PathBuf,
    /// Where the `config.json` for buildctl is written, if it exists.
    pub docker: PathBuf,
    /// The files of `source.configMap`.
    pub source: PathBuf,
    /// A folder that is the context as it is, in the place of any source.
    pub folder: Option<PathBuf>,
    /// Build secrets.
    pub secrets: PathBuf,
    /// Certificates of registries.
    pub registry_ca: PathBuf,
    /// A writable folder.
    pub scratch: PathBuf,
    /// BuildKit's client: the program, and arguments that go before all others.
    pub buildctl: Vec<OsString>,
    /// Where the image goes instead of a registry: the folder of an OCI layout.
    pub layout: Option<PathBuf>,
    /// Who hears what is said.
    pub log: Log,
}

/// Who hears what an attempt says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Log {
    /// Lines on standard output: the Pod's log.
    #[default]
    Output,
    /// The same on standard error: standard output is for the result.
    Error,
    /// BuildKit's own lines of JSON on standard error, and what else is said as `{"message": …}`.
    RawJson,
}

impl Default for Place {
    /// The runner's Pod.
    fn default() -> Self {
        Self {
            tls: paths::TLS.into(),
            attempt: paths::ATTEMPT.into(),
            registry_auth: paths::REGISTRY_AUTH.into(),
            git_auth: paths::GIT_AUTH.into(),
            cache_auth: paths::CACHE_AUTH.into(),
            source_auth: paths::SOURCE_AUTH.into(),
            docker: paths::DOCKER.into(),
            source: paths::SOURCE.into(),
            folder: None,
            secrets: paths::SECRETS.into(),
            registry_ca: paths::REGISTRY_CA.into(),
            scratch: paths::SCRATCH.into(),
            buildctl: vec![paths::BUILDCTL.into()],
            layout: None,
            log: Log::Output,
        }
    }
}

impl Place {
    /// A folder of one's own that is laid out as the Pod is.
    pub fn within(folder: &Path, buildctl: Vec<OsString>) -> Self {
        let at = |name: &str| folder.join(name);
        Self {
            tls: at("tls"),
            attempt: at("attempt"),
            registry_auth: at("registry"),
            git_auth: at("git"),
            cache_auth: at("cache-registry"),
            source_auth: at("source-registry"),
            docker: at("docker"),
            source: at("source"),
            folder: None,
            secrets: at("secrets"),
            registry_ca: at("registry-ca"),
            scratch: at("scratch"),
            buildctl,
            layout: None,
            log: Log::Error,
        }
    }

    /// The file with the value of a build secret.
    pub fn secret(&self, id: &str) -> PathBuf {
        self.secrets.join(id).join("value")
    }

    /// The certificates that sign the registry `host`, where it has a `caRef`.
    pub fn registry_ca(&self, host: &str) -> PathBuf {
        self.registry_ca.join(host.replace(':', "_")).join("ca.crt")
    }

    /// What became of the image, in the log.
    pub fn did(&self) -> &'static str {
        match self.layout {
            Some(_) => "built",
            None => "pushed",
        }
    }

    /// Says a line, or several.
    pub fn say(&self, text: &str) {
        // Whoever reads may be gone: that is no reason to end a build.
        let _ = match self.log {
            Log::Output => writeln!(std::io::stdout().lock(), "{text}"),
            Log::Error => to_error(text),
            Log::RawJson => to_error(&serde_json::json!({ "message": text }).to_string()),
        };
    }

    /// Hands on a line of buildctl's, where these are what is wanted.
    pub fn raw(&self, line: &str) {
        if self.log == Log::RawJson {
            let _ = to_error(line);
        }
    }
}

fn to_error(text: &str) -> std::io::Result<()> {
    let mut error = std::io::stderr().lock();
    let text = read_by(error.is_terminal(), text);
    writeln!(error, "{text}")
}

/// Text as its reader may have it: a terminal gets none that would steer it. Dockerfiles are others', and so is what their
/// steps print.
pub fn read_by(terminal: bool, text: &str) -> Cow<'_, str> {
    match terminal {
        true => tame(text).into(),
        false => text.into(),
    }
}

/// Others' words on one terminal: control characters but for tabs and ends of lines would move the cursor, or change its title.
pub fn tame(text: &str) -> String {
    let harmless = |c: &char| !c.is_control() || matches!(c, '\n' | '\t');
    text.chars().filter(harmless).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_say_does_not_steer_the_terminal_and_a_file_has_all_of_it() {
        let text = "a\x1b]0;title\x07b\r\n\tc\u{9b}2J";
        assert_eq!(read_by(true, text), "a]0;titleb\n\tc2J");
        assert_eq!(read_by(false, text), text);
    }

    #[test]
    fn a_folder_of_ones_own_has_each_thing_at_a_place_of_its_own() {
        let place = Place::within(Path::new("/x"), vec!["/b/buildctl".into()]);
        let mut all = vec![
            &place.tls,
            &place.attempt,
            &place.registry_auth,
            &place.git_auth,
            &place.cache_auth,
            &place.source_auth,
            &place.docker,
            &place.source,
            &place.secrets,
            &place.registry_ca,
            &place.scratch,
        ];
        assert!(all.iter().all(|path| path.starts_with("/x")));
        let number = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), number);
    }

    #[test]
    fn the_pod_is_as_the_kubelet_mounts_it() {
        let pod = Place::default();
        assert_eq!(pod.secret("npm"), Path::new("/whittle/secrets/npm/value"));
        assert_eq!(
            pod.registry_ca("r.example:5000"),
            Path::new("/whittle/registry-ca/r.example_5000/ca.crt")
        );
    }
}
