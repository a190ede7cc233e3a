//! Credentials from a Docker config file, and the challenges that registries answer with.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

/// What proves to a registry who asks.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// A user and a password.
    Basic {
        /// The user.
        username: String,
        /// The password, or an access token in its place.
        password: String,
    },
    /// A token that is exchanged for a short-lived one.
    Refresh(String),
    /// A token that is sent as it is.
    Bearer(String),
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Basic { .. } => "Basic(…)",
            Self::Refresh(_) => "Refresh(…)",
            Self::Bearer(_) => "Bearer(…)",
        })
    }
}

/// The part of `config.json` that holds credentials
/// (<https://kubernetes.io/docs/concepts/configuration/secret/#docker-config-secrets>).
#[derive(Clone, Debug, Default)]
pub struct DockerConfig {
    by_host: BTreeMap<String, Credentials>,
    secrets: Vec<String>,
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    auths: BTreeMap<String, Auth>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Auth {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
    registrytoken: String,
}

impl DockerConfig {
    /// Reads the text of a `config.json`. An entry without usable credentials counts as absent.
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        let file: File = serde_json::from_str(text)?;
        let mut config = Self::default();
        for (server, auth) in file.auths {
            config.secrets.extend(
                [
                    &auth.auth,
                    &auth.password,
                    &auth.identitytoken,
                    &auth.registrytoken,
                ]
                .map(Clone::clone),
            );
            if let Some(credentials) = auth.credentials() {
                if let Credentials::Basic { password, .. } = &credentials {
                    config.secrets.push(password.clone());
                }
                config
                    .by_host
                    .entry(host_of(&server))
                    .or_insert(credentials);
            }
        }
        config.secrets.retain(|secret| !secret.is_empty());
        Ok(config)
    }

    /// The credentials for a registry's host, as written in image names.
    pub fn get(&self, host: &str) -> Option<&Credentials> {
        self.by_host.get(&host_of(host))
    }

    /// The hosts that have credentials.
    pub fn hosts(&self) -> impl Iterator<Item = &str> {
        self.by_host.keys().map(String::as_str)
    }

    /// Every secret text of the file, so that it can be kept out of logs.
    pub fn secrets(&self) -> &[String] {
        &self.secrets
    }
}

impl Auth {
    fn credentials(self) -> Option<Credentials> {
        if !self.registrytoken.is_empty() {
            return Some(Credentials::Bearer(self.registrytoken));
        }
        if !self.identitytoken.is_empty() {
            return Some(Credentials::Refresh(self.identitytoken));
        }
        if !self.auth.is_empty() {
            let bytes = STANDARD.decode(self.auth.trim()).ok()?;
            let text = String::from_utf8(bytes).ok()?;
            let (username, password) = text.split_once(':')?;
            return basic(username, password.trim_end_matches('\0'));
        }
        basic(&self.username, &self.password)
    }
}

fn basic(username: &str, password: &str) -> Option<Credentials> {
    match (username, password) {
        (_, "") => None,
        // What Docker writes where the password is an identity token.
        ("<token>", token) => Some(Credentials::Refresh(token.to_owned())),
        (username, password) => Some(Credentials::Basic {
            username: username.to_owned(),
            password: password.to_owned(),
        }),
    }
}

/// The host of a key in `auths`: `https://index.docker.io/v1/`, `host`, `host:port/path`.
fn host_of(server: &str) -> String {
    let rest = server
        .strip_prefix("https://")
        .or_else(|| server.strip_prefix("http://"))
        .unwrap_or(server);
    let host = rest.split('/').next().unwrap_or(rest);
    match host {
        "index.docker.io" | "registry-1.docker.io" => "docker.io".into(),
        other => other.to_ascii_lowercase(),
    }
}

/// How a registry wants to be asked, from a `WWW-Authenticate` header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// User and password.
    Basic,
    /// A token from elsewhere
    /// (<https://distribution.github.io/distribution/spec/auth/token/>).
    Bearer {
        /// Where to get the token.
        realm: String,
        /// For whom the token is.
        service: Option<String>,
    },
}

/// Reads a challenge; of several, a bearer token goes before a password.
pub(super) fn challenge<'a>(headers: impl Iterator<Item = &'a str>) -> Option<Challenge> {
    let mut found = None;
    for header in headers {
        let (scheme, rest) = header.split_once(' ').unwrap_or((header, ""));
        if scheme.eq_ignore_ascii_case("bearer") {
            let parameters = parameters(rest);
            if let Some(realm) = parameters.get("realm") {
                return Some(Challenge::Bearer {
                    realm: realm.clone(),
                    service: parameters.get("service").cloned(),
                });
            }
        } else if scheme.eq_ignore_ascii_case("basic") {
            found = Some(Challenge::Basic);
        }
    }
    found
}

/// `name="value", name=value`, with `\"` within quotes.
fn parameters(text: &str) -> BTreeMap<String, String> {
    let mut parameters = BTreeMap::new();
    let mut chars = text.chars().peekable();
    loop {
        while chars.next_if(|c| c.is_whitespace() || *c == ',').is_some() {}
        let mut name = String::new();
        while let Some(c) = chars.next_if(|c| *c != '=' && *c != ',') {
            name.push(c.to_ascii_lowercase());
        }
        if chars.next_if_eq(&'=').is_none() {
            if name.is_empty() {
                return parameters;
            }
            continue;
        }
        let mut value = String::new();
        if chars.next_if_eq(&'"').is_some() {
            while let Some(c) = chars.next() {
                match c {
                    '"' => break,
                    '\\' => value.extend(chars.next()),
                    c => value.push(c),
                }
            }
        } else {
            while let Some(c) = chars.next_if(|c| *c != ',') {
                value.push(c);
            }
        }
        parameters.insert(name.trim().to_owned(), value.trim().to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn basic_of(user: &str, password: &str) -> Credentials {
        Credentials::Basic {
            username: user.into(),
            password: password.into(),
        }
    }

    #[test]
    fn hosts_are_found_however_the_key_is_written() {
        let config = DockerConfig::parse(
            r#"{"auths":{
                "https://index.docker.io/v1/":{"auth":"Ym9iOmh1bnRlcjIy"},
                "Registry.example.com:5000":{"username":"u","password":"p:w"},
                "https://ghcr.io/v2/":{"identitytoken":"idt"},
                "empty.example.com":{}}}"#,
        )
        .unwrap();
        assert_eq!(config.get("docker.io"), Some(&basic_of("bob", "hunter22")));
        assert_eq!(
            config.get("registry.example.com:5000"),
            Some(&basic_of("u", "p:w"))
        );
        assert_eq!(
            config.get("ghcr.io"),
            Some(&Credentials::Refresh("idt".into()))
        );
        assert_eq!(config.get("empty.example.com"), None);
        assert_eq!(config.get("registry.example.com"), None);
        assert_eq!(config.hosts().count(), 3);
    }

    #[test]
    fn every_secret_of_the_file_is_known_for_redaction() {
        let config = DockerConfig::parse(r#"{"auths":{"a":{"auth":"Ym9iOmh1bnRlcjIy"}}}"#).unwrap();
        assert_eq!(config.secrets(), ["Ym9iOmh1bnRlcjIy", "hunter22"]);
        assert_eq!(format!("{:?}", config.get("a").unwrap()), "Basic(…)");
    }

    #[test]
    fn a_file_that_is_no_config_is_an_error() {
        assert!(DockerConfig::parse("").is_err());
        assert!(DockerConfig::parse("{}").unwrap().hosts().next().is_none());
    }

    #[test]
    fn a_bearer_challenge_is_read_with_commas_within_quotes() {
        let header = r#"Bearer realm="https://auth.example.com/token?a=b,c",service="registry \"x\"",scope="repository:a:pull,push""#;
        assert_eq!(
            challenge(["Basic realm=\"x\"", header].into_iter()),
            Some(Challenge::Bearer {
                realm: "https://auth.example.com/token?a=b,c".into(),
                service: Some("registry \"x\"".into()),
            })
        );
        assert_eq!(
            challenge(["basic realm=x"].into_iter()),
            Some(Challenge::Basic)
        );
        assert_eq!(challenge(["Negotiate", "Bearer"].into_iter()), None);
        assert_eq!(challenge(["Bearer realm"].into_iter()), None);
    }
}
