//! Credentials for git servers, from the keys of a mounted Secret.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use crate::{Error, Kind, Remote};

/// The most that is read of a key, in bytes: what a Secret may hold.
const LIMIT: u64 = 1 << 20;

/// What proves to a git server who asks.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum Auth {
    /// Nothing.
    #[default]
    None,
    /// The keys of a Secret of type kubernetes.io/basic-auth.
    Basic {
        /// The user; may be empty where the password is a token.
        username: String,
        /// The password, or a token in its place.
        password: String,
    },
    /// The keys of a Secret of type kubernetes.io/ssh-auth.
    Ssh {
        /// The private key, PEM.
        private_key: String,
        /// The host keys of servers, as `ssh-keyscan` prints them.
        known_hosts: String,
    },
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Basic { .. } => "Basic(…)",
            Self::Ssh { .. } => "Ssh(…)",
        })
    }
}

impl Auth {
    /// What the folder of a mounted Secret has for `remote`. HTTP does without credentials, ssh never does.
    pub fn read(folder: &Path, remote: &Remote) -> Result<Self, Error> {
        let key = |name: &str| read_key(folder, name);
        match remote {
            Remote::Http(_) => Ok(match key("password")? {
                Some(password) => Self::Basic {
                    username: key("username")?.unwrap_or_default().trim().to_owned(),
                    password: password.trim_end().to_owned(),
                },
                None => Self::None,
            }),
            Remote::Ssh(_) => {
                let Some(private_key) = key("ssh-privatekey")? else {
                    return Err(Error::new(Kind::Denied, "key ssh-privatekey is missing"));
                };
                Ok(Self::Ssh {
                    private_key,
                    known_hosts: key("known_hosts")?.unwrap_or_default(),
                })
            }
        }
    }
}

fn read_key(folder: &Path, name: &str) -> Result<Option<String>, Error> {
    let path = folder.join(name);
    let denied =
        |why: String| Error::new(Kind::Denied, format!("key {name} cannot be read: {why}"));
    match fs::metadata(&path) {
        Ok(found) if found.len() > LIMIT => return Err(denied("it is too large".into())),
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(denied(error.to_string())),
    }
    match fs::read(&path) {
        // Nothing of it may be told.
        Ok(bytes) => String::from_utf8(bytes)
            .map(Some)
            .map_err(|_| denied("it is not text".into())),
        Err(error) => Err(denied(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_read_without_its_line_end_and_shown_to_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let remote = Remote::parse("https://h/x.git").unwrap();
        assert_eq!(Auth::read(folder.path(), &remote), Ok(Auth::None));
        fs::write(folder.path().join("username"), " bob\n").unwrap();
        fs::write(folder.path().join("password"), "hunter22\n").unwrap();
        let auth = Auth::read(folder.path(), &remote).unwrap();
        assert_eq!(
            auth,
            Auth::Basic {
                username: "bob".into(),
                password: "hunter22".into()
            }
        );
        assert_eq!(format!("{auth:?}"), "Basic(…)");
    }

    #[test]
    fn ssh_without_a_private_key_is_denied() {
        let folder = tempfile::tempdir().unwrap();
        let remote = Remote::parse("git@h:x").unwrap();
        let error = Auth::read(folder.path(), &remote).unwrap_err();
        assert_eq!(error.kind, Kind::Denied);
        assert!(error.said.contains("ssh-privatekey is missing"), "{error}");
    }
}
