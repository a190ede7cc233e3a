//! Whose certificates the daemon and git trust, besides the public authorities: what the kubelet mounts.
//!
//! The daemon is told by `SSL_CERT_DIR`. BuildKit starts git with an environment of its own, and git reads one file alone.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::request::paths;
use whittle_image::{Certificates, digest_of};

/// Where the images of systems keep the public authorities, as Go looks for them.
const PUBLIC: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
const FOLDERS: [&str; 2] = [paths::CA_INSTALLATION, paths::CA_BUILDER];
const FILE: &str = "ca.crt";

/// Why what the Builder's `caRef` names cannot be trusted; none where it can, or there is no such thing.
pub(super) fn fault() -> Option<String> {
    fault_in(Path::new(paths::CA_BUILDER))
}

fn fault_in(folder: &Path) -> Option<String> {
    let bytes = fs::read(folder.join(FILE)).ok()?;
    let why = Certificates::read(&bytes).fault()?;
    Some(format!(
        "the ConfigMap of caRef of the Builder is invalid: {why}"
    ))
}

/// The file that git is to trust; none where the system's own is enough.
pub(super) fn for_git() -> io::Result<Option<PathBuf>> {
    // It may have changed since the daemon started, and git would trust nobody any more.
    if let Some(why) = fault() {
        return Err(io::Error::other(why));
    }
    let folders = FOLDERS.map(Path::new);
    bundle(&PUBLIC.map(Path::new), &folders, &std::env::temp_dir())
}

/// One file of the first of `public` that is there, and those of `folders`.
fn bundle(public: &[&Path], folders: &[&Path], into: &Path) -> io::Result<Option<PathBuf>> {
    let mut all = vec![];
    for folder in folders {
        match fs::read(folder.join(FILE)) {
            Ok(bytes) => all.push(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    if all.is_empty() {
        return Ok(None);
    }
    all.extend(public.iter().find_map(|path| fs::read(path).ok()));
    let text = all.join(&b"\n"[..]);
    // One name for one content: runs of git at the same time do not disturb each other.
    let digest = digest_of(&text);
    let name = &digest["sha256:".len()..][..16];
    let file = into.join(format!("whittle-ca-{name}.pem"));
    if fs::read(&file).ok().as_ref() != Some(&text) {
        let part = into.join(format!("whittle-ca-{name}.{}", std::process::id()));
        fs::write(&part, &text)?;
        fs::rename(&part, &file)?;
    }
    Ok(Some(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(text: &[u8]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(FILE), text).unwrap();
        folder
    }

    #[test]
    fn git_trusts_what_is_mounted_and_the_systems_own_and_a_renewed_one_from_the_next_run_on() {
        let system = folder(b"public");
        let public = system.path().join(FILE);
        let (installation, builder) = (folder(b"first"), folder(b"second"));
        let into = tempfile::tempdir().unwrap();
        let made = || {
            let folders = [installation.path(), builder.path(), Path::new("/nowhere")];
            let public = [Path::new("/nowhere"), &public];
            bundle(&public, &folders, into.path()).unwrap().unwrap()
        };
        let file = made();
        assert_eq!(fs::read(&file).unwrap(), b"first\nsecond\npublic");
        assert_eq!(made(), file);
        fs::write(builder.path().join(FILE), b"third").unwrap();
        assert_eq!(fs::read(made()).unwrap(), b"first\nthird\npublic");
        // What somebody has written into it does not stay.
        fs::write(made(), b"other").unwrap();
        assert_eq!(fs::read(made()).unwrap(), b"first\nthird\npublic");
        assert_eq!(fs::read_dir(into.path()).unwrap().count(), 2);
    }

    #[test]
    fn without_anything_mounted_git_is_left_as_it_is() {
        let into = tempfile::tempdir().unwrap();
        let made = bundle(&[], &[Path::new("/nowhere")], into.path());
        assert_eq!(made.unwrap(), None);
        assert_eq!(fs::read_dir(into.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_config_map_without_certificates_is_told_of_before_the_daemon_starts() {
        let key = rcgen::KeyPair::generate().unwrap();
        let parameters = rcgen::CertificateParams::new(vec!["ca".into()]).unwrap();
        let pem = parameters.self_signed(&key).unwrap().pem();
        assert_eq!(fault_in(folder(pem.as_bytes()).path()), None);
        assert_eq!(fault_in(Path::new("/nowhere")), None);
        for (text, words) in [
            ("hello".to_owned(), "no certificate in it"),
            (
                pem.replace("MII", "!!!"),
                "1 of its certificates cannot be read",
            ),
        ] {
            let said = fault_in(folder(text.as_bytes()).path()).unwrap();
            assert!(
                said.contains("ConfigMap of caRef") && said.contains(words),
                "{said}"
            );
        }
    }
}
