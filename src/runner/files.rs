//! Files that buildctl reads: inline sources, credentials, policies. All in the scratch folder.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};

use crate::api::GitSource;
use crate::plan::buildctl::{Files, basic_auth, source_policy};
use crate::plan::request::{BuildRequest, paths};

/// What was made ready.
#[derive(Debug)]
pub(super) struct Prepared {
    /// Named in buildctl's arguments.
    pub files: Files,
    /// Folder with Docker's `config.json`: the mounted one, or an empty one.
    pub docker_config: PathBuf,
}

/// Makes the files for a request, in `scratch`.
pub(super) fn prepare(request: &BuildRequest, scratch: &Path) -> io::Result<Prepared> {
    let folder = scratch.join("whittle");
    fs::create_dir_all(&folder)?;
    let path = |name: &str| folder.join(name).to_string_lossy().into_owned();
    let mut files = Files {
        metadata: path("metadata.json"),
        ..Files::default()
    };
    if let Some(inline) = &request.source.inline {
        let context = folder.join("context");
        for (name, text) in &inline.files {
            write_inline(&context, name, text)?;
        }
        fs::create_dir_all(&context)?;
        files.context = Some(context.to_string_lossy().into_owned());
    }
    if let Some(git) = &request.source.git {
        let mounted = Path::new(paths::GIT_AUTH);
        git_files(git, &request.job, mounted, &folder, &mut files)?;
    }
    let mounted = Path::new(paths::REGISTRY_AUTH);
    let docker_config = if mounted.join("config.json").exists() {
        mounted.to_owned()
    } else {
        let empty = folder.join("docker");
        fs::create_dir_all(&empty)?;
        empty
    };
    Ok(Prepared {
        files,
        docker_config,
    })
}

/// Credentials come from the mounted keys of a Secret: `username` and `password`, or `ssh-privatekey`
/// and, where given, `known_hosts`
/// (<https://kubernetes.io/docs/concepts/configuration/secret/#secret-types>).
fn git_files(
    git: &GitSource,
    job: &str,
    mounted: &Path,
    folder: &Path,
    files: &mut Files,
) -> io::Result<()> {
    if git.url.starts_with("http") {
        if let Some(password) = read_key(mounted, "password")? {
            let username = read_key(mounted, "username")?.unwrap_or_default();
            let header = folder.join("git-header");
            write_private(&header, &basic_auth(username.trim(), password.trim_end()))?;
            files.git_header = Some(header.to_string_lossy().into_owned());
        }
    } else if mounted.join("ssh-privatekey").exists() {
        let key = mounted.join("ssh-privatekey");
        files.ssh_key = Some(key.to_string_lossy().into_owned());
    }
    let known_hosts = read_key(mounted, "known_hosts")?;
    let path = folder.join("source-policy.json");
    write_private(&path, &source_policy(git, job, known_hosts.as_deref()))?;
    files.policy = Some(path.to_string_lossy().into_owned());
    Ok(())
}

fn read_key(folder: &Path, key: &str) -> io::Result<Option<String>> {
    match fs::read_to_string(folder.join(key)) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes a file within `context`; a name that would lead out of it is refused, though the API server
/// has refused it already.
fn write_inline(context: &Path, name: &str, text: &str) -> io::Result<()> {
    let relative = Path::new(name);
    let stays = relative
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    if !stays || name.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("inline file {name:?} is not a relative path within the source"),
        ));
    }
    let path = context.join(relative);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(path, text)
}

fn write_private(path: &Path, text: &str) -> io::Result<()> {
    fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?
        .write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn git(url: &str) -> GitSource {
        GitSource {
            url: url.into(),
            reference: None,
            sub_path: None,
            secret_ref: None,
        }
    }

    #[test]
    fn inline_files_lie_where_their_names_say() {
        let folder = tempfile::tempdir().unwrap();
        write_inline(folder.path(), "cmd/app/main.go", "package main").unwrap();
        let text = fs::read_to_string(folder.path().join("cmd/app/main.go")).unwrap();
        assert_eq!(text, "package main");
    }

    #[test]
    fn a_name_that_leads_out_of_the_context_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["../x", "/etc/x", "a/../../x", "", "."] {
            assert!(write_inline(folder.path(), name, "").is_err(), "{name}");
        }
    }

    #[test]
    fn a_password_becomes_a_header_that_only_we_can_read() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("username"), "bob\n").unwrap();
        fs::write(folder.path().join("password"), "hunter22\n").unwrap();
        let mut files = Files::default();
        made(&git("https://h/x.git"), folder.path(), &mut files);
        let header = files.git_header.unwrap();
        assert_eq!(
            fs::read_to_string(&header).unwrap(),
            "basic Ym9iOmh1bnRlcjIy"
        );
        assert_eq!(
            fs::metadata(&header).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(files.ssh_key, None);
    }

    #[test]
    fn an_ssh_key_stays_where_it_is_mounted_and_known_hosts_become_a_policy() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("ssh-privatekey"), "key").unwrap();
        fs::write(folder.path().join("known_hosts"), "h ssh-ed25519 AAAA").unwrap();
        let mut files = Files::default();
        made(&git("git@h:x"), folder.path(), &mut files);
        assert!(files.ssh_key.unwrap().ends_with("/ssh-privatekey"));
        let policy = fs::read_to_string(files.policy.unwrap()).unwrap();
        assert!(policy.contains("h ssh-ed25519 AAAA"), "{policy}");
    }

    #[test]
    fn without_a_secret_there_are_no_credentials() {
        let folder = tempfile::tempdir().unwrap();
        let mut files = Files::default();
        made(&git("https://h/x.git"), folder.path(), &mut files);
        assert_eq!((files.git_header, files.ssh_key), (None, None));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    /// Makes the files where Secret and scratch are the same folder.
    fn made(git: &GitSource, folder: &Path, files: &mut Files) {
        git_files(git, "hello-1", folder, folder, files).unwrap();
    }
}
