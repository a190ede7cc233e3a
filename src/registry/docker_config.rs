//! Docker config files, as people have them.

use std::collections::BTreeMap;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::{Deserialize, Deserializer, Serialize};

use super::Credentials;
use whittle_image::{RegistryKey, Repository, read};

/// With padding and without.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
/// The key of Docker's own registry in a file of Docker's.
const DOCKER_KEY: &str = "https://index.docker.io/v1/";

/// The part of `config.json` that holds credentials
/// (<https://kubernetes.io/docs/concepts/configuration/secret/#docker-config-secrets>).
#[derive(Clone, Debug, Default)]
pub struct DockerConfig {
    /// The entries with usable credentials.
    entries: Vec<(RegistryKey, Credentials)>,
    secrets: Vec<String>,
    /// The entries without, and why.
    unusable: Vec<(RegistryKey, &'static str)>,
    /// The program that holds what is not in the file.
    store: Option<String>,
    /// The same for single hosts.
    helpers: BTreeMap<String, String>,
}

/// Why a text is no Docker config file. Nothing of the text stands here: it may be a password.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
pub enum ConfigFault {
    /// Not JSON.
    #[error("invalid JSON at line {0}")]
    Syntax(usize),
    /// JSON of another shape.
    #[error("{0} has the wrong type")]
    Shape(String),
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct File {
    #[serde(deserialize_with = "given")]
    auths: BTreeMap<String, Option<Auth>>,
    creds_store: Option<String>,
    #[serde(deserialize_with = "given")]
    cred_helpers: BTreeMap<String, Option<String>>,
}

fn given<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Auth {
    #[serde(deserialize_with = "given")]
    auth: String,
    #[serde(deserialize_with = "given")]
    username: String,
    #[serde(deserialize_with = "given")]
    password: String,
    #[serde(deserialize_with = "given")]
    identitytoken: String,
    #[serde(deserialize_with = "given")]
    registrytoken: String,
}

/// What buildctl reads: entries by host alone, of the one kind that it takes as it is.
#[derive(Serialize)]
struct Written<'a> {
    auths: BTreeMap<String, WrittenAuth<'a>>,
}

#[derive(Serialize, Default)]
struct WrittenAuth<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    username: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    password: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    identitytoken: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    registrytoken: &'a str,
}

impl DockerConfig {
    /// Reads the text of a `config.json`.
    pub fn parse(text: &str) -> Result<Self, ConfigFault> {
        shaped(text).map(Self::of)
    }

    /// Reads the text of a `.dockercfg`, which is what `config.json` has as `auths`.
    pub fn parse_legacy(text: &str) -> Result<Self, ConfigFault> {
        shaped(text).map(|auths| {
            Self::of(File {
                auths,
                ..File::default()
            })
        })
    }

    fn of(file: File) -> Self {
        let mut config = Self {
            store: file.creds_store.filter(|name| !name.is_empty()),
            helpers: file
                .cred_helpers
                .into_iter()
                .filter_map(|(host, helper)| Some((host, helper?)))
                .filter(|(_, helper)| !helper.is_empty())
                .collect(),
            ..Self::default()
        };
        for (server, auth) in file.auths {
            let auth = auth.unwrap_or_default();
            config.secrets.extend([
                auth.auth.clone(),
                auth.password.clone(),
                auth.identitytoken.clone(),
                auth.registrytoken.clone(),
            ]);
            let key = RegistryKey::parse(&server);
            match auth.credentials() {
                Ok(credentials) => {
                    // As it is sent: without line ends, and taken out of its base64.
                    let (Credentials::Basic {
                        password: secret, ..
                    }
                    | Credentials::Refresh(secret)
                    | Credentials::Bearer(secret)) = &credentials;
                    config.secrets.push(secret.clone());
                    config.entries.push((key, credentials));
                }
                Err(why) => config.unusable.push((key, why)),
            }
        }
        config.secrets.retain(|secret| !secret.is_empty());
        config.secrets.dedup();
        config
    }

    /// The credentials for a repository: those of the key that fits best.
    pub fn find(&self, repository: &Repository) -> Option<&Credentials> {
        // Of several that fit alike, the first.
        let mut best = None;
        for (key, credentials) in &self.entries {
            let Some(fit) = key.fit(repository) else {
                continue;
            };
            if best.is_none_or(|(better, _)| fit > better) {
                best = Some((fit, credentials));
            }
        }
        best.map(|(_, credentials)| credentials)
    }

    /// The keys that have usable credentials.
    pub fn keys(&self) -> impl Iterator<Item = &RegistryKey> {
        self.entries.iter().map(|(key, _)| key)
    }

    /// The keys that have none, each with why.
    pub fn unusable(&self) -> &[(RegistryKey, &'static str)] {
        &self.unusable
    }

    /// The program that would have a host's credentials, where the file has none: a credential helper or store.
    pub fn helper(&self, host: &str) -> Option<&str> {
        let own = self
            .helpers
            .iter()
            .find(|(key, _)| RegistryKey::parse(key).is_of_host(host));
        own.map(|(_, helper)| helper)
            .or(self.store.as_ref())
            .map(String::as_str)
    }

    /// All that the file says of such programs: (host, or nothing for all; name).
    pub fn helpers(&self) -> impl Iterator<Item = (&str, &str)> {
        let own = self
            .helpers
            .iter()
            .map(|(host, name)| (host.as_str(), name.as_str()));
        own.chain(self.store.iter().map(|name| ("", name.as_str())))
    }

    /// Every secret text of the file, so that it can be kept out of logs.
    pub fn secrets(&self) -> &[String] {
        &self.secrets
    }

    /// The file for buildctl, which knows hosts and nothing else: no paths, no patterns, and no credential stores,
    /// which are programs that are not there. `used`: repositories that the build reads or writes, the most important
    /// first; of a host with several, the first says which credentials its host gets.
    pub fn for_buildctl(&self, used: &[Repository]) -> String {
        self.for_buildctl_with(used, None)
    }

    /// The same with the credentials of another file for one repository, where this one has none for its host, and nothing
    /// that is used lies there: one host gets one credential.
    pub fn for_buildctl_with(
        &self,
        used: &[Repository],
        other: Option<(&DockerConfig, &Repository)>,
    ) -> String {
        let mut auths = self.by_host(used);
        if let Some((config, repository)) = other
            && let Some(credentials) = config.find(repository)
        {
            let host = key_of(&repository.host).to_owned();
            if !used.iter().any(|it| key_of(&it.host) == host) {
                auths.entry(host).or_insert_with(|| written(credentials));
            }
        }
        serde_json::to_string(&Written { auths }).expect("text and nothing else")
    }

    fn by_host(&self, used: &[Repository]) -> BTreeMap<String, WrittenAuth<'_>> {
        let mut auths = BTreeMap::new();
        // All of a host goes before a part of it.
        let mut whole: Vec<Repository> = self
            .entries
            .iter()
            .map(|(key, _)| Repository {
                host: key.host.clone(),
                path: key.path.clone(),
            })
            .collect();
        whole.sort_by_key(|repository| repository.path.len());
        for repository in used.iter().chain(&whole) {
            let host = key_of(&repository.host);
            if host.contains(['*', '?', '[']) || auths.contains_key(host) {
                continue;
            }
            if let Some(credentials) = self.find(repository) {
                auths.insert(host.to_owned(), written(credentials));
            }
        }
        auths
    }
}

/// A host as Docker's files name it.
fn key_of(host: &str) -> &str {
    match host {
        "docker.io" => DOCKER_KEY,
        host => host,
    }
}

fn written(credentials: &Credentials) -> WrittenAuth<'_> {
    let mut entry = WrittenAuth::default();
    match credentials {
        Credentials::Basic { username, password } => {
            (entry.username, entry.password) = (username, password);
        }
        Credentials::Refresh(token) => entry.identitytoken = token,
        Credentials::Bearer(token) => entry.registrytoken = token,
    }
    entry
}

fn shaped<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, ConfigFault> {
    // A byte order mark, as some editors write it.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(text) {
        return Err(ConfigFault::Syntax(error.line()));
    }
    if !text.trim_start().starts_with('{') {
        return Err(ConfigFault::Shape("the whole".into()));
    }
    read(text.as_bytes()).map_err(|said| {
        // What stands before is the path, and what comes then may quote a value.
        let path = said.split(": ").next().unwrap_or_default();
        ConfigFault::Shape(path.to_owned())
    })
}

impl Auth {
    fn credentials(self) -> Result<Credentials, &'static str> {
        if !self.registrytoken.is_empty() {
            return Ok(Credentials::Bearer(self.registrytoken.trim().to_owned()));
        }
        if !self.identitytoken.is_empty() {
            return Ok(Credentials::Refresh(self.identitytoken.trim().to_owned()));
        }
        if !self.auth.is_empty() {
            // base64 breaks lines after 76 characters, and ends with one.
            let text: String = self.auth.split_whitespace().collect();
            let decoded = BASE64.decode(text).ok();
            let decoded = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
            let pair = decoded.as_deref().and_then(|text| text.split_once(':'));
            let Some((username, password)) = pair else {
                return Err("its auth is invalid: not user:password in base64");
            };
            return basic(username, password.trim_end_matches('\0'));
        }
        basic(&self.username, &self.password)
    }
}

/// A line end is no part of a password: it comes from `echo`, or from a file.
fn basic(username: &str, password: &str) -> Result<Credentials, &'static str> {
    let ends = ['\n', '\r'];
    match (username.trim_matches(ends), password.trim_matches(ends)) {
        (_, "") => Err("the password is missing"),
        // What Docker writes where the password is an identity token.
        ("<token>", token) => Ok(Credentials::Refresh(token.to_owned())),
        (username, password) => Ok(Credentials::Basic {
            username: username.to_owned(),
            password: password.to_owned(),
        }),
    }
}

#[cfg(test)]
#[path = "docker_config_tests.rs"]
mod tests;
