//! Where a repository is, as people write it.

use reqwest::Url;

use crate::{Error, Kind};

/// Where a repository is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remote {
    /// `https://…` or `http://…`, without credentials.
    Http(Url),
    /// `ssh://…` or `user@host:path`.
    Ssh(Server),
}

/// A repository on an ssh server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// The account.
    pub user: String,
    /// The host, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The path, as the server's git is given it.
    pub path: String,
}

impl Remote {
    /// Reads what `spec.source.git.url` holds.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let invalid = |why: &str| Error::new(Kind::Url, format!("invalid URL: {why}"));
        if text.chars().any(|c| c.is_control() || c == ' ') {
            return Err(invalid("spaces and control characters are not allowed"));
        }
        if let Some((scheme, _)) = text.split_once("://") {
            let url = Url::parse(text).map_err(|error| invalid(&error.to_string()))?;
            let host = url.host_str().filter(|host| !host.is_empty());
            let host = host
                .ok_or_else(|| invalid("the host is missing"))?
                .to_owned();
            let plain = |text: &str| {
                decoded(text).ok_or_else(|| invalid("its percent-encoding is invalid"))
            };
            return match scheme {
                "http" | "https" if !url.username().is_empty() || url.password().is_some() => {
                    Err(invalid("credentials are not allowed in it"))
                }
                "http" | "https" if url.query().is_some() || url.fragment().is_some() => {
                    Err(invalid("? and # are not allowed in it"))
                }
                "http" | "https" => Ok(Self::Http(url)),
                "ssh" => {
                    let path = plain(url.path())?;
                    // A home directory is written behind a slash, and is not under the root.
                    let path = path
                        .strip_prefix('/')
                        .filter(|rest| rest.starts_with('~'))
                        .unwrap_or(&path);
                    Self::ssh(
                        &plain(url.username())?,
                        &host,
                        url.port().unwrap_or(22),
                        path.to_owned(),
                    )
                }
                _ => Err(invalid("https, http and ssh are supported")),
            };
        }
        let (place, path) = text
            .split_once(':')
            .ok_or_else(|| invalid("write https://host/path, ssh://host/path or git@host:path"))?;
        let (user, host) = place.rsplit_once('@').unwrap_or(("", place));
        Self::ssh(user, host, 22, path.to_owned())
    }

    fn ssh(user: &str, host: &str, port: u16, path: String) -> Result<Self, Error> {
        if host.is_empty() || path.trim_matches('/').is_empty() || path.starts_with('-') {
            let said = "invalid URL: write ssh://host/path or git@host:path";
            return Err(Error::new(Kind::Url, said));
        }
        Ok(Self::Ssh(Server {
            user: if user.is_empty() { "git" } else { user }.to_owned(),
            host: host.trim_matches(['[', ']']).to_ascii_lowercase(),
            port,
            path,
        }))
    }

    /// Host and port of the server.
    pub fn host(&self) -> String {
        match self {
            Self::Http(url) => {
                let host = url.host_str().unwrap_or_default();
                format!("{host}:{}", url.port_or_known_default().unwrap_or_default())
            }
            Self::Ssh(server) => format!("{}:{}", server.host, server.port),
        }
    }
}

/// A part of a URL as ssh servers are given it; none where it is not text.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = vec![];
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                u8::try_from(digit(rest.next())? << 4 | digit(rest.next())?).ok()?
            }
            other => other,
        });
    }
    let text = String::from_utf8(bytes).ok()?;
    (!text.contains(char::is_control)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ssh(text: &str) -> (String, String, u16, String) {
        match Remote::parse(text) {
            Ok(Remote::Ssh(server)) => (server.user, server.host, server.port, server.path),
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn ssh_is_read_in_both_forms() {
        for (text, user, host, port, path) in [
            ("git@github.com:a/b.git", "git", "github.com", 22, "a/b.git"),
            ("ssh://h.example/a/b", "git", "h.example", 22, "/a/b"),
            ("ssh://bob@H.example:2222/a", "bob", "h.example", 2222, "/a"),
            ("ssh://h/~bob/x", "git", "h", 22, "~bob/x"),
            ("ssh://[::1]:22/x", "git", "::1", 22, "/x"),
            ("ssh://a%40b@h/My%20Team/ä", "a@b", "h", 22, "/My Team/ä"),
            ("git@h:v3/My%20Team/x", "git", "h", 22, "v3/My%20Team/x"),
        ] {
            let expected = (user.to_owned(), host.to_owned(), port, path.to_owned());
            assert_eq!(ssh(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_not_spoken_is_told() {
        for text in [
            "",
            "file:///etc/passwd",
            "git://h/x",
            "https://bob:hunter22@h/x",
            "https://h/x?y",
            "ssh:///x",
            "git@h:-oProxyCommand=x",
            "git@h:a b",
            "ext::sh -c x",
            "ssh://h/x%00",
            "ssh://h/x%0a",
            "ssh://h/x%",
            "ssh://h/x%zz",
        ] {
            let error = Remote::parse(text).unwrap_err();
            assert_eq!(error.kind, Kind::Url, "{text}");
            assert!(!error.said.contains("hunter22"), "{text}");
        }
    }

    #[test]
    fn a_host_has_its_port() {
        for (text, host) in [
            ("https://h/x", "h:443"),
            ("http://h:3000/x", "h:3000"),
            ("git@h:x", "h:22"),
        ] {
            assert_eq!(Remote::parse(text).unwrap().host(), host);
        }
    }
}
