//! Keeps on a node what builders in a user namespace need there.

use std::io::{Error, ErrorKind};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

/// The profile: the default one of containerd, and the system calls that BuildKit needs beside it. Another text needs
/// another number in [`NAME`]: several versions of Whittle may share a node.
const SECCOMP: &str = include_str!("../../config/seccomp/builder-v1.json");
/// Its place below the kubelet's seccomp folder; the chart names it, too.
const NAME: &str = "whittle/builder-v1.json";
/// Between two looks whether it is still there: a node's folder may be emptied.
const LOOK: Duration = Duration::from_secs(60);

/// Writes the profile into `folder`, and again where it has gone; ends with SIGTERM, or after the first time.
pub async fn run(folder: &Path, once: bool) -> ExitCode {
    let Ok(mut stop) = signal(SignalKind::terminate()) else {
        return ExitCode::FAILURE;
    };
    loop {
        match put(folder) {
            Ok(true) => println!("wrote {NAME}"),
            Ok(false) => {}
            Err(error) => {
                eprintln!("{}/{NAME}: {error}", folder.display());
                return ExitCode::FAILURE;
            }
        }
        if once {
            return ExitCode::SUCCESS;
        }
        tokio::select! {
            _ = stop.recv() => return ExitCode::SUCCESS,
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// True where it was not there as it should be.
fn put(folder: &Path) -> Result<bool, Error> {
    let path = folder.join(NAME);
    match std::fs::read_to_string(&path) {
        Ok(found) if found == SECCOMP => return Ok(false),
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    // Whole, or not at all: a container may start at any moment.
    let part = path.with_extension("part");
    std::fs::write(&part, SECCOMP)?;
    std::fs::rename(&part, &path)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_profile_is_put_there_and_again_where_it_was_changed() {
        let folder = tempfile::tempdir().unwrap();
        assert!(put(folder.path()).unwrap());
        assert!(!put(folder.path()).unwrap());
        std::fs::write(folder.path().join(NAME), "{}").unwrap();
        assert!(put(folder.path()).unwrap());
        assert_eq!(
            std::fs::read_to_string(folder.path().join(NAME)).unwrap(),
            SECCOMP
        );
    }

    #[test]
    fn the_chart_names_the_profile_that_is_put_there() {
        let helpers = include_str!("../../charts/whittle/templates/_helpers.tpl");
        assert!(helpers.contains(NAME));
    }

    #[test]
    fn another_profile_has_another_name() {
        let digest = whittle_image::digest_of(SECCOMP.as_bytes());
        insta::assert_snapshot!(format!("{NAME} {digest}"), @"whittle/builder-v1.json sha256:7f06e3f18fbb512c57d3e875afef07d32c24c2bcff3fcd3cd32e6634c8eaa132");
    }
}
