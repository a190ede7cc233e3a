//! The programs that a build needs: found on PATH, or beside this one.

use std::path::{Path, PathBuf};

use super::Error;

/// A program, and who has it.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// Its names, the first to be taken first.
    names: &'static [&'static str],
    /// Where it comes from.
    from: &'static str,
}

const BUILDKIT: &str =
    "it is in the archive of https://github.com/moby/buildkit/releases (Fedora: package buildkit)";
/// BuildKit's client.
pub const BUILDCTL: Program = Program {
    names: &["buildctl"],
    from: BUILDKIT,
};
/// BuildKit's daemon.
pub const BUILDKITD: Program = Program {
    names: &["buildkitd"],
    from: BUILDKIT,
};
/// What runs steps.
pub const RUNC: Program = Program {
    names: &["buildkit-runc", "runc"],
    from: "install the package runc (Debian and Fedora)",
};
/// What makes a user namespace for the daemon.
pub const ROOTLESSKIT: Program = Program {
    names: &["rootlesskit"],
    from: "install the package rootlesskit (Debian), or take it from https://github.com/rootless-containers/rootlesskit/releases",
};
/// What runs containers of docker.
pub const DOCKER: Program = Program {
    names: &["docker"],
    from: "docker-container:// needs the command line of Docker",
};
/// What runs containers of podman.
pub const PODMAN: Program = Program {
    names: &["podman"],
    from: "podman-container:// needs the command line of Podman",
};
/// What gives subordinate IDs to it.
pub const NEWUIDMAP: Program = Program {
    names: &["newuidmap"],
    from: "install the package uidmap (Debian) or shadow-utils (Fedora)",
};
/// The same for groups.
pub const NEWGIDMAP: Program = Program {
    names: &["newgidmap"],
    from: "install the package uidmap (Debian) or shadow-utils (Fedora)",
};

/// Folders in which programs are looked for.
#[derive(Clone, Debug)]
pub struct Folders(Vec<PathBuf>);

impl Folders {
    /// Those of PATH, and that of this program.
    pub fn usual() -> Self {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let beside = std::env::current_exe().ok();
        let beside = beside.as_deref().and_then(Path::parent).map(Path::to_owned);
        Self(std::env::split_paths(&path).chain(beside).collect())
    }

    /// None.
    #[cfg(test)]
    pub fn none() -> Self {
        Self(vec![])
    }

    /// The first program of these names.
    pub fn find(&self, program: Program) -> Option<PathBuf> {
        let all = program.names.iter();
        let mut all = all.flat_map(|name| self.0.iter().map(move |folder| folder.join(name)));
        all.find(|path| is_program(path))
    }

    /// The paths of all of them, or what is missing, each with where it comes from.
    pub fn all<const N: usize>(&self, programs: [Program; N]) -> Result<[PathBuf; N], Vec<String>> {
        let found = programs.map(|program| self.find(program));
        let missing: Vec<String> = (programs.iter().zip(&found))
            .filter(|(_, found)| found.is_none())
            .map(|(program, _)| {
                format!("{} not found: {}", program.names.join(" or "), program.from)
            })
            .collect();
        match missing.is_empty() {
            true => Ok(found.map(Option::unwrap_or_default)),
            false => Err(missing),
        }
    }

    /// A PATH that has all of them.
    pub fn path(&self) -> std::ffi::OsString {
        std::env::join_paths(&self.0).unwrap_or_default()
    }
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0)
}

/// BuildKit's client.
pub fn buildctl() -> Result<PathBuf, Error> {
    let found = Folders::usual().all([BUILDCTL]);
    let [buildctl] = found.map_err(|missing| Error::new(missing.join("\n")))?;
    Ok(buildctl)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_is_missing_is_told_with_the_package_that_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let folders = Folders(vec![folder.path().join("none"), folder.path().to_owned()]);
        let missing = folders.all([RUNC, NEWUIDMAP]).unwrap_err();
        assert_eq!(
            missing,
            [
                "buildkit-runc or runc not found: install the package runc (Debian and Fedora)",
                "newuidmap not found: install the package uidmap (Debian) or shadow-utils (Fedora)"
            ]
        );
        for (name, mode) in [("runc", 0o755), ("newuidmap", 0o644)] {
            let path = folder.path().join(name);
            std::fs::write(&path, "").unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        assert_eq!(folders.all([RUNC]).unwrap(), [folder.path().join("runc")]);
        // One that cannot be run is none.
        assert!(folders.find(NEWUIDMAP).is_none());
    }
}
