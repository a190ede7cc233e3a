//! What the bases of a last stage have (<https://github.com/GoogleContainerTools/distroless>): less than they do where that is not sure.

use crate::layer::Image;
use crate::user::text;

/// What the image starts, and so what its base must run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A static program.
    Static,
    /// A program that glibc loads.
    Dynamic,
    /// Python of this minor version, 3.N, from its official image.
    Python(u32),
    /// Node.js of this major version, from its official image.
    Node(u32),
}

impl Kind {
    pub(super) fn is_compiled(self) -> bool {
        matches!(self, Self::Static | Self::Dynamic)
    }
}

/// Paths that all of them have but scratch, or that no program misses there; with a slash behind: all below.
const STATIC: [&str; 18] = [
    "/etc/passwd",
    "/etc/group",
    "/etc/nsswitch.conf",
    "/etc/hosts",
    "/etc/hostname",
    "/etc/resolv.conf",
    "/etc/host.conf",
    "/etc/services",
    "/etc/protocols",
    "/etc/os-release",
    "/usr/lib/os-release",
    "/etc/debian_version",
    "/etc/ssl/certs/",
    "/usr/share/ca-certificates/",
    "/usr/share/zoneinfo/",
    "/tmp/",
    "/var/tmp/",
    "/run/",
];

/// Libraries of `base`: those of glibc, and OpenSSL.
const BASE: [&str; 20] = [
    "libc.so.6",
    "libm.so.6",
    "libmvec.so.1",
    "libpthread.so.0",
    "libdl.so.2",
    "librt.so.1",
    "libresolv.so.2",
    "libutil.so.1",
    "libanl.so.1",
    "libnsl.so.1",
    "libnss_compat.so.2",
    "libnss_dns.so.2",
    "libnss_files.so.2",
    "libBrokenLocale.so.1",
    "libthread_db.so.1",
    "libssl.so.3",
    "libcrypto.so.3",
    "ld-linux-x86-64.so.2",
    "ld-linux-aarch64.so.1",
    "libc_malloc_debug.so.0",
];

/// What `cc` has besides.
const CC: [&str; 3] = ["libgcc_s.so.1", "libstdc++.so.6", "libgomp.so.1"];

/// True for what every base but scratch has.
pub(super) fn has_path(path: &str) -> bool {
    STATIC.iter().any(|known| match known.strip_suffix('/') {
        Some(folder) => path == folder || path.starts_with(known),
        None => path == *known,
    })
}

/// Which of them has a library.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Libraries {
    Base,
    Cc,
}

/// The smallest base that has a library at this path, which must be one where a loader looks without being told.
pub(super) fn library(path: &str) -> Option<Libraries> {
    if !is_default(path) {
        return None;
    }
    let name = path.rsplit('/').next()?;
    let is = |known: &&str| {
        let rest = name.strip_prefix(known);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    if BASE.iter().any(is) {
        return Some(Libraries::Base);
    }
    CC.iter().any(is).then_some(Libraries::Cc)
}

/// True for a file in a folder where Debian's loader looks by itself.
pub(super) fn is_default(path: &str) -> bool {
    let Some((folder, _)) = path.rsplit_once('/') else {
        return false;
    };
    let inner = ["/usr/lib/", "/lib/"]
        .iter()
        .find_map(|lib| folder.strip_prefix(lib));
    matches!(folder, "/usr/lib" | "/lib" | "/lib64" | "/usr/lib64")
        || inner.is_some_and(|name| !name.contains('/') && name.contains("-linux-gnu"))
}

/// The release of Debian that the image is: what was linked on it runs on the base of the same one.
pub(super) fn debian(image: &Image) -> Option<u32> {
    let release = ["/etc/os-release", "/usr/lib/os-release"]
        .into_iter()
        .map(|path| text(image, path))
        .find(|text| !text.is_empty())?;
    let value = |key: &str| {
        release.lines().find_map(|line| {
            let (name, value) = line.trim().split_once('=')?;
            (name == key).then(|| value.trim_matches(['"', '\'']))
        })
    };
    let version: u32 = value("VERSION_ID")?.parse().ok()?;
    (value("ID") == Some("debian") && matches!(version, 12 | 13)).then_some(version)
}

/// The base's name, without a tag.
pub(super) fn name(
    kind: Kind,
    debian: Option<u32>,
    libraries: Libraries,
    scratch: bool,
) -> Option<String> {
    let of = |name: &str, debian: u32| format!("gcr.io/distroless/{name}-debian{debian}");
    Some(match kind {
        Kind::Static if scratch => "scratch".to_owned(),
        Kind::Static => of("static", 12),
        Kind::Dynamic if libraries == Libraries::Cc => of("cc", debian?),
        Kind::Dynamic => of("base", debian?),
        // The one version that each release of Debian has.
        Kind::Python(11) if debian? == 12 => of("python3", 12),
        Kind::Python(13) if debian? == 13 => of("python3", 13),
        Kind::Python(_) => return None,
        // Its glibc is no older than that of any image which official ones of Node.js start from.
        Kind::Node(major @ (20 | 22 | 24)) => of(&format!("nodejs{major}"), 13),
        Kind::Node(_) => return None,
    })
}
