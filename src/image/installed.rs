//! The packages that an image has, by the databases of Debian's and Alpine's package managers
//! (deb822(5), <https://wiki.alpinelinux.org/wiki/Apk_spec>). Distroless has one file for each package.

use std::collections::BTreeMap;

use super::layer::Image;
use super::limits::short;
use super::tree::Kind;

/// Packages that are read; a distribution installs a few thousand.
const MOST: usize = 20_000;
/// Bytes of a name and of a version.
const TEXT: usize = 120;
/// Bytes of a database that are read.
pub(super) const DATABASE: u64 = 8 << 20;
/// Where the databases of RPM are, which is not read.
const RPM: [&str; 2] = ["/var/lib/rpm", "/usr/lib/sysimage/rpm"];

/// A package's name and version.
pub(super) type Package = (String, String);

/// True for a file that names packages. `path`: its parts.
pub(super) fn is_database(path: &[&[u8]]) -> bool {
    match path {
        [b"var", b"lib", b"dpkg", b"status"] => true,
        [b"var", b"lib", b"dpkg", b"status.d", name] => !name.ends_with(b".md5sums"),
        [b"lib", b"apk", b"db", b"installed"] | [b"usr", b"lib", b"apk", b"db", b"installed"] => {
            true
        }
        _ => false,
    }
}

/// The packages that a database names.
pub(super) fn parse(bytes: &[u8]) -> Vec<Package> {
    let text = String::from_utf8_lossy(bytes);
    let mut found = Vec::new();
    let (mut name, mut version, mut installed) = ("", "", true);
    for line in text.lines().chain([""]) {
        if line.trim().is_empty() {
            if !name.is_empty() && installed && found.len() < MOST {
                found.push((short(name, TEXT), short(version, TEXT)));
            }
            (name, version, installed) = ("", "", true);
        } else if let Some(value) = after(line, ["Package:", "P:"]) {
            name = value;
        } else if let Some(value) = after(line, ["Version:", "V:"]) {
            version = value;
        } else if let Some(value) = line.strip_prefix("Status:") {
            installed = value.trim_end().ends_with(" installed");
        }
    }
    found
}

fn after<'a>(line: &'a str, keys: [&str; 2]) -> Option<&'a str> {
    let found = keys.iter().find_map(|key| line.strip_prefix(key));
    found.map(str::trim)
}

impl Image {
    /// The packages that it has, each with its versions; empty unless its limits have asked for prints.
    pub(super) fn installed(&self) -> BTreeMap<&str, Vec<&str>> {
        let mut found: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (name, version) in self.packages.values().flat_map(|found| found.iter()) {
            found.entry(name).or_default().push(version);
        }
        for versions in found.values_mut() {
            versions.sort_unstable();
            versions.dedup();
        }
        found
    }

    /// The database of packages that is there and is not read.
    pub(super) fn unread_database(&self) -> Option<&'static str> {
        let full = |path: &&&str| {
            let folder = self.tree.find(path).ok();
            folder.is_some_and(|id| {
                self.tree.meta(id).kind == Kind::Directory
                    && self.tree.children(id).next().is_some()
            })
        };
        RPM.iter().find(full).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_of_debian_alpine_and_distroless_are_read_and_removed_ones_are_not() {
        let dpkg = "Package: libc6\nStatus: install ok installed\nVersion: 2.36-9\nDescription: x\n Package: no\n\n\
            Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n";
        assert_eq!(parse(dpkg.as_bytes()), [("libc6".into(), "2.36-9".into())]);
        let apk = "C:Q1\nP:musl\nV:1.2.5-r9\nF:lib\n\nP:busybox\nV:1.37.0-r12\n";
        assert_eq!(
            parse(apk.as_bytes()),
            [
                ("musl".into(), "1.2.5-r9".into()),
                ("busybox".into(), "1.37.0-r12".into())
            ]
        );
        assert_eq!(
            parse(b"Package: tzdata\nVersion: 2025b"),
            [("tzdata".into(), "2025b".into())]
        );
        assert!(parse(b"\xff\xfe\n\nnothing").is_empty());
    }

    #[test]
    fn what_a_database_says_is_bounded() {
        let long = format!("P:{}\nV:1\n\n", "n".repeat(5000));
        let found = parse(long.repeat(MOST + 10).as_bytes());
        assert_eq!((found.len(), found[0].0.len()), (MOST, TEXT));
    }

    #[test]
    fn databases_are_known_by_their_whole_path() {
        for (path, is) in [
            ("var/lib/dpkg/status", true),
            ("var/lib/dpkg/status.d/base", true),
            ("var/lib/dpkg/status.d/base.md5sums", false),
            ("lib/apk/db/installed", true),
            ("srv/lib/apk/db/installed", false),
        ] {
            let parts: Vec<&[u8]> = path.split('/').map(str::as_bytes).collect();
            assert_eq!(is_database(&parts), is, "{path}");
        }
    }
}
