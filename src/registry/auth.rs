//! Credentials, and the challenges that registries answer with.

use std::collections::BTreeMap;

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
