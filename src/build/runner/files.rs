//! Files that buildctl reads: sources that come with the Pod, credentials, policies. All in the scratch
//! folder.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use super::child::Buildctl;
use crate::buildctl::{Files, Pin, basic_auth, server, source_policy};
use crate::failure::plain;
use crate::place::Place;
use crate::request::BuildRequest;
use crate::seal;
use crate::variables;
use whittle_api::variables::Variable;
use whittle_api::{Failure, FailureReason, GitSource};

/// What was made ready.
#[derive(Debug)]
pub(super) struct Prepared {
    /// Named in buildctl's arguments.
    pub files: Files,
    /// Runs buildctl.
    pub buildctl: Buildctl,
    /// The Secret of `git.secretRef`.
    git_auth: PathBuf,
    /// Where everything of this attempt lies.
    folder: PathBuf,
}

impl Prepared {
    /// The path of `name` within the attempt's folder.
    pub(super) fn path(&self, name: &str) -> String {
        self.folder.join(name).to_string_lossy().into_owned()
    }

    /// Holds the git source to this commit from now on.
    pub(super) fn pin(&mut self, git: &GitSource, job: &str, pin: Pin) -> Result<(), Failure> {
        self.files.pin = Some(pin);
        write_policy(git, job, &self.git_auth, &self.folder, &mut self.files).map_err(broken)
    }
}

/// A file of our own could not be read or written.
pub(super) fn broken(error: io::Error) -> Failure {
    plain(
        FailureReason::BuildFailed,
        format!("cannot prepare the build: {error}"),
    )
}

/// Makes the files for a request, in the scratch folder of its place.
pub(super) fn prepare(request: &BuildRequest) -> Result<Prepared, Failure> {
    let place = &request.place;
    let folder = place.scratch.join("whittle");
    plain_folder(&folder).map_err(broken)?;
    let mut files = Files {
        commit_times: variables::uses(&request.inputs, Variable::CommitTime),
        ..Files::default()
    };
    let context = folder.join("context");
    if let Some(inline) = &request.inputs.source.inline {
        fs::create_dir_all(&context).map_err(broken)?;
        for (name, text) in &inline.files {
            write_within(&context, name, text.as_bytes()).map_err(broken)?;
        }
        files.context = Some(context.to_string_lossy().into_owned());
    }
    if request.inputs.source.config_map.is_some() {
        copy_mounted(&place.source, &context).map_err(broken)?;
        files.context = Some(context.to_string_lossy().into_owned());
    }
    if let Some(folder) = &place.folder {
        files.context = Some(folder.to_string_lossy().into_owned());
    }
    if let Some(git) = &request.inputs.source.git {
        let mounted = &place.git_auth;
        let sealed = !request.builder_server_name.is_empty();
        let tls = sealed.then_some(place.tls.as_path());
        git_files(git, mounted, tls, &folder, &mut files).map_err(broken)?;
        write_policy(git, &request.job, mounted, &folder, &mut files).map_err(broken)?;
    }
    let docker_config = if place.docker.exists() {
        place.docker.clone()
    } else {
        let empty = folder.join("docker");
        fs::create_dir_all(&empty).map_err(broken)?;
        empty
    };
    Ok(Prepared {
        files,
        buildctl: Buildctl {
            words: place.buildctl.clone(),
            home: place.scratch.clone(),
            docker_config,
        },
        git_auth: place.git_auth.clone(),
        folder,
    })
}

/// Makes a folder that hands on no group. The kubelet gives a volume to the Pod's group (`fsGroup`) by the
/// set-group-ID bit, which every folder in it would take on, and with a context each folder of the image.
fn plain_folder(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))
}

/// Credentials come from the mounted keys of a Secret: `username` and `password`, or `ssh-privatekey`
/// (<https://kubernetes.io/docs/concepts/configuration/secret/#secret-types>); of one for Flux `bearerToken`, or `identity`
/// (<https://fluxcd.io/flux/components/source/gitrepositories/#secret-reference>). The header goes to the builder sealed
/// with the key in `tls`: BuildKit makes an argument of it. Without `tls` nobody could open it: the builder is not one of
/// Whittle's.
fn git_files(
    git: &GitSource,
    mounted: &Path,
    tls: Option<&Path>,
    folder: &Path,
    files: &mut Files,
) -> io::Result<()> {
    if git.url.starts_with("http") {
        let value = match (read_key(mounted, BEARER)?, read_key(mounted, "password")?) {
            (Some(token), _) => Some(format!("bearer {}", token.trim())),
            (None, Some(password)) => {
                let username = read_key(mounted, "username")?.unwrap_or_default();
                Some(basic_auth(username.trim(), password.trim_end()))
            }
            (None, None) => None,
        };
        if let Some(value) = value {
            let header = folder.join("git-header");
            let value = match tls {
                Some(tls) => {
                    let key = fs::read_to_string(tls.join(seal::KEY_FILE))?;
                    seal::seal(&key, &server(&git.url), &value).map_err(io::Error::other)?
                }
                None => value,
            };
            write_private(&header, &value)?;
            files.git_header = Some(header.to_string_lossy().into_owned());
        }
    } else {
        let keys = [SSH_KEY, IDENTITY].map(|name| mounted.join(name));
        let key = keys.iter().find(|key| key.exists());
        files.ssh_key = key.map(|key| key.to_string_lossy().into_owned());
    }
    Ok(())
}

/// Rules for the git source; the keys of its ssh server come from `known_hosts` of the same Secret.
fn write_policy(
    git: &GitSource,
    job: &str,
    mounted: &Path,
    folder: &Path,
    files: &mut Files,
) -> io::Result<()> {
    let known_hosts = read_key(mounted, KNOWN_HOSTS)?;
    let path = folder.join("source-policy.json");
    let policy = source_policy(
        git,
        (files.pin.as_ref(), files.commit_times),
        job,
        known_hosts.as_deref(),
    );
    write_private(&path, &policy)?;
    files.policy = Some(path.to_string_lossy().into_owned());
    Ok(())
}

/// Key with a private key, of a Secret of type kubernetes.io/ssh-auth and of one for Flux.
pub(super) const SSH_KEY: &str = "ssh-privatekey";
pub(super) const IDENTITY: &str = "identity";
/// Key of a Secret for Flux with a token for HTTP.
pub(super) const BEARER: &str = "bearerToken";
/// Key of a Secret of type kubernetes.io/ssh-auth with the keys of the server, as ssh-keyscan prints
/// them.
const KNOWN_HOSTS: &str = "known_hosts";

/// Why an ssh server must not be asked: nothing says which key it has to have, so anyone could answer in
/// its place. None where it may be.
pub(super) fn ssh_refusal(git: &GitSource, place: &Place) -> Option<Failure> {
    refusal_in(git, &place.git_auth)
}

fn refusal_in(git: &GitSource, mounted: &Path) -> Option<Failure> {
    if git.url.starts_with("http") {
        return None;
    }
    let known = read_key(mounted, KNOWN_HOSTS).ok().flatten();
    if known.is_some_and(|keys| !keys.trim().is_empty()) {
        return None;
    }
    let url = &git.url;
    let place = url
        .split_once("://")
        .map_or(url.as_str(), |(_, place)| place);
    let host = place.split(['/', ':']).next().unwrap_or(place);
    let host = host.rsplit('@').next().unwrap_or(host);
    let message = match &git.secret_ref {
        None => format!(
            "git repository {url} is read over SSH: name a Secret of type kubernetes.io/ssh-auth \
                in git.secretRef, with the keys ssh-privatekey and known_hosts (the output of \
                `ssh-keyscan {host}`)"
        ),
        Some(secret) => format!(
            "Secret {} is missing key known_hosts, so the host key of the git server of {url} \
                cannot be verified: add the output of `ssh-keyscan {host}`, after checking it",
            secret.name
        ),
    };
    Some(plain(FailureReason::SourceDenied, message))
}

/// Copies the files of a mounted ConfigMap. The kubelet's own links and folders begin with `..`.
fn copy_mounted(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if name.to_string_lossy().starts_with("..") {
            continue;
        }
        let target = to.join(&name);
        if fs::metadata(entry.path())?.is_dir() {
            copy_mounted(&entry.path(), &target)?;
        } else {
            fs::write(&target, fs::read(entry.path())?)?;
        }
    }
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
fn write_within(context: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
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
    fs::write(path, bytes)
}

pub(super) fn write_private(path: &Path, text: &str) -> io::Result<()> {
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
        write_within(folder.path(), "cmd/app/main.go", b"package main").unwrap();
        let text = fs::read_to_string(folder.path().join("cmd/app/main.go")).unwrap();
        assert_eq!(text, "package main");
    }

    #[test]
    fn folders_of_a_source_do_not_take_on_the_group_of_the_volume() {
        let scratch = tempfile::tempdir().unwrap();
        // As the kubelet leaves a volume where the Pod has an fsGroup.
        let of_group = fs::Permissions::from_mode(0o2777);
        fs::set_permissions(scratch.path(), of_group).unwrap();
        let inherits = scratch.path().join("other");
        fs::create_dir(&inherits).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(
            mode(&inherits) & 0o2000,
            0o2000,
            "as long as nobody asks otherwise"
        );
        let folder = scratch.path().join("whittle");
        plain_folder(&folder).unwrap();
        write_within(&folder, "cmd/app/main.go", b"package main").unwrap();
        for (name, expected) in [
            ("", 0o755),
            ("cmd", 0o755),
            ("cmd/app", 0o755),
            ("cmd/app/main.go", 0o644),
        ] {
            assert_eq!(mode(&folder.join(name)), expected, "{name}");
        }
    }

    #[test]
    fn a_name_that_leads_out_of_the_context_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["../x", "/etc/x", "a/../../x", "", "."] {
            assert!(write_within(folder.path(), name, b"").is_err(), "{name}");
        }
    }

    #[test]
    fn a_password_becomes_a_sealed_header_that_only_we_can_read() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("username"), "bob\n").unwrap();
        fs::write(folder.path().join("password"), "hunter22\n").unwrap();
        let key = seal::new_key().unwrap();
        fs::write(folder.path().join(seal::KEY_FILE), &key).unwrap();
        let mut files = Files::default();
        made(&git("https://h/x.git"), folder.path(), &mut files);
        let header = files.git_header.unwrap();
        assert_eq!(
            seal::open(&key, "https://h", &fs::read_to_string(&header).unwrap()).unwrap(),
            "basic Ym9iOmh1bnRlcjIy"
        );
        assert_eq!(
            fs::metadata(&header).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(files.ssh_key, None);
    }

    #[test]
    fn a_builder_that_has_no_key_gets_the_header_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("password"), "hunter22").unwrap();
        let mut files = Files::default();
        let source = git("https://h/x.git");
        git_files(&source, folder.path(), None, folder.path(), &mut files).unwrap();
        let header = fs::read_to_string(files.git_header.unwrap()).unwrap();
        assert_eq!(header, "basic Omh1bnRlcjIy");
    }

    #[test]
    fn a_secret_of_flux_has_other_keys() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(BEARER), "hunter22\n").unwrap();
        let key = seal::new_key().unwrap();
        fs::write(folder.path().join(seal::KEY_FILE), &key).unwrap();
        let mut files = Files::default();
        made(&git("https://h/x.git"), folder.path(), &mut files);
        let header = fs::read_to_string(files.git_header.unwrap()).unwrap();
        let opened = seal::open(&key, "https://h", &header).unwrap();
        assert_eq!(opened, "bearer hunter22");
        fs::write(folder.path().join(IDENTITY), "key").unwrap();
        let mut files = Files::default();
        made(&git("ssh://git@h/x"), folder.path(), &mut files);
        assert!(files.ssh_key.unwrap().ends_with("/identity"));
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

    #[test]
    fn an_ssh_server_without_known_hosts_is_not_asked() {
        let folder = tempfile::tempdir().unwrap();
        let mut source = git("ssh://git@git.example.com:2222/x");
        source.secret_ref = Some(whittle_api::LocalRef { name: "key".into() });
        let refusal = refusal_in(&source, folder.path()).unwrap();
        assert_eq!(refusal.reason, FailureReason::SourceDenied);
        assert!(
            refusal
                .message
                .contains("Secret key is missing key known_hosts")
                && refusal.message.contains("`ssh-keyscan git.example.com`"),
            "{}",
            refusal.message
        );
        fs::write(folder.path().join("known_hosts"), "h ssh-ed25519 AAAA").unwrap();
        assert_eq!(refusal_in(&source, folder.path()), None);
        assert_eq!(
            refusal_in(&git("https://h/x.git"), Path::new("/nowhere")),
            None
        );
    }

    #[test]
    fn a_mounted_config_map_is_copied_without_the_kubelets_own_links() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let data = from.path().join("..2026_01_01");
        fs::create_dir_all(data.join("cmd")).unwrap();
        fs::write(data.join("Dockerfile"), "FROM scratch").unwrap();
        fs::write(data.join("cmd/main.go"), "package main").unwrap();
        for (link, target) in [
            ("..data", "..2026_01_01"),
            ("Dockerfile", "..data/Dockerfile"),
            ("cmd", "..data/cmd"),
        ] {
            std::os::unix::fs::symlink(target, from.path().join(link)).unwrap();
        }
        let context = to.path().join("context");
        copy_mounted(from.path(), &context).unwrap();
        assert!(
            fs::symlink_metadata(context.join("Dockerfile"))
                .unwrap()
                .is_file()
        );
        assert_eq!(
            fs::read_to_string(context.join("cmd/main.go")).unwrap(),
            "package main"
        );
        assert_eq!(fs::read_dir(&context).unwrap().count(), 2);
    }

    /// Makes the files where Secret and scratch are the same folder.
    fn made(git: &GitSource, folder: &Path, files: &mut Files) {
        git_files(git, folder, Some(folder), folder, files).unwrap();
        write_policy(git, "hello-1", folder, folder, files).unwrap();
    }
}
