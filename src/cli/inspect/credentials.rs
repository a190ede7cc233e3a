//! Credentials, from the files that `docker login` and `podman login` write. Credential helpers are not
//! run here: they are programs that the file names. `whittle build` runs them.

use std::ffi::OsString;
use std::path::PathBuf;

use super::error::{InspectError, file};
use whittle_image::Repository;
use whittle_registry::{Credentials, DockerConfig};

/// What was found for one registry.
#[derive(Debug, Default)]
pub(crate) struct Login {
    /// What proves who asks; none where no file says.
    pub(crate) credentials: Option<Credentials>,
    /// The file that has them, or that names a helper.
    pub(crate) file: Option<PathBuf>,
    /// The helper that would have them, where no file has them.
    pub(crate) helper: Option<String>,
}

/// The files that may have credentials, the first to be looked at first, and whether one must be there:
/// `$REGISTRY_AUTH_FILE`, `config.json` in `$DOCKER_CONFIG` or `~/.docker`, and podman's `auth.json`.
pub(crate) fn files(variable: impl Fn(&str) -> Option<OsString>) -> Vec<(PathBuf, bool)> {
    let set = |name: &str| {
        let value = variable(name).filter(|value| !value.is_empty());
        value.map(PathBuf::from)
    };
    let home = set("HOME");
    let under_home = |rest: &str| home.as_ref().map(|home| home.join(rest));
    let docker = set("DOCKER_CONFIG").or_else(|| under_home(".docker"));
    [
        set("REGISTRY_AUTH_FILE").map(|path| (path, true)),
        docker.map(|folder| (folder.join("config.json"), false)),
        set("XDG_RUNTIME_DIR").map(|folder| (folder.join("containers/auth.json"), false)),
        under_home(".config/containers/auth.json").map(|path| (path, false)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Looks for a repository's credentials. The first file that has some goes before all others.
pub(crate) fn look(
    repository: &Repository,
    files: &[(PathBuf, bool)],
) -> Result<Login, InspectError> {
    let mut login = Login::default();
    for (path, must_exist) in files {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if !must_exist && error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(file(path)(error)),
        };
        let config = DockerConfig::parse(&text).map_err(|why| InspectError::Credentials {
            path: path.to_owned(),
            why,
        })?;
        if let Some(found) = config.find(repository) {
            return Ok(Login {
                credentials: Some(found.clone()),
                file: Some(path.clone()),
                helper: None,
            });
        }
        if login.helper.is_none()
            && let Some(helper) = config.helper(&repository.host)
        {
            login.helper = Some(helper.to_owned());
            login.file = Some(path.clone());
        }
    }
    Ok(login)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn basic(username: &str, password: &str) -> Option<Credentials> {
        Some(Credentials::Basic {
            username: username.into(),
            password: password.into(),
        })
    }

    #[test]
    fn the_files_are_those_of_docker_and_of_podman() {
        let variables = [
            ("REGISTRY_AUTH_FILE", "/r"),
            ("DOCKER_CONFIG", "/d"),
            ("XDG_RUNTIME_DIR", "/x"),
            ("HOME", "/h"),
        ];
        let all = |asked: &str| {
            let found = variables.iter().find(|(name, _)| *name == asked);
            found.map(|(_, value)| OsString::from(value))
        };
        let paths = |files: Vec<(PathBuf, bool)>| {
            let paths: Vec<String> = files.iter().map(|(p, _)| p.display().to_string()).collect();
            paths.join(" ")
        };
        assert_eq!(
            paths(files(all)),
            "/r /d/config.json /x/containers/auth.json /h/.config/containers/auth.json"
        );
        let home = |name: &str| (name == "HOME").then(|| OsString::from("/h"));
        assert_eq!(
            paths(files(home)),
            "/h/.docker/config.json /h/.config/containers/auth.json"
        );
        assert_eq!(paths(files(|_| None)), "");
    }

    #[test]
    fn the_first_file_that_has_some_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            (path, false)
        };
        let files = [
            (folder.path().join("none"), false),
            write("a", r#"{"auths":{"a.example":{}},"credsStore":"desktop"}"#),
            write(
                "b",
                r#"{"auths":{"a.example":{"username":"u","password":"p"}}}"#,
            ),
            write(
                "c",
                r#"{"auths":{"a.example":{"username":"v","password":"q"}}}"#,
            ),
        ];
        let login = look(&Repository::parse("a.example/x"), &files).unwrap();
        assert_eq!(login.credentials, basic("u", "p"));
        assert_eq!((login.file, login.helper), (Some(files[2].0.clone()), None));
        let login = look(&Repository::parse("b.example/x"), &files).unwrap();
        assert_eq!(login.credentials, None);
        assert_eq!(login.helper.as_deref(), Some("desktop"));
        assert_eq!(login.file.as_deref(), Some(files[1].0.as_path()));
    }

    #[test]
    fn a_file_that_was_named_must_be_there_and_a_broken_one_tells_no_secret() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("auth.json");
        assert!(look(&Repository::parse("a.example/x"), &[(path.clone(), true)]).is_err());
        std::fs::write(&path, "{\"auths\":\n\"hunter22\"}").unwrap();
        let said = look(&Repository::parse("a.example/x"), &[(path, false)])
            .unwrap_err()
            .to_string();
        assert!(said.ends_with("auths has the wrong type"), "{said}");
        assert!(!said.contains("hunter22"), "{said}");
    }
}
