//! Packages that somebody has asked for by name: a compiled program may start what they bring, and no text says so.
//!
//! Package managers note what they installed for another package's sake. What an own layer brought and they do not note so was asked
//! for. Asked for is also what an image is built with; that goes, by the section or the name of its package.

use std::collections::HashSet;

use super::Why;
use super::folders::is_leftover;
use super::runtimes::is_left_out;
use super::walk::Walk;

/// Sections of Debian's packages that are for building and for people
/// (<https://www.debian.org/doc/debian-policy/ch-archive.html#sections>).
const SECTIONS: [&str; 13] = [
    "debug",
    "devel",
    "doc",
    "editors",
    "golang",
    "haskell",
    "introspection",
    "kernel",
    "libdevel",
    "ocaml",
    "oldlibs",
    "rust",
    "vcs",
];

/// Ends of the names of packages that programs are built with, or that are for reading.
const ENDS: [&str; 11] = [
    "-dbg",
    "-dbgsym",
    "-debug",
    "-dev",
    "-devel",
    "-doc",
    "-docs",
    "-headers",
    "-jdk",
    "-static",
    "-jdk-headless",
];

/// Packages that build, fetch or install: Alpine's have no sections, and some of Debian's are in others. With a version behind some.
const TOOLS: [&str; 58] = [
    "alpine-sdk",
    "apk-tools",
    "apt",
    "apt-transport-https",
    "apt-utils",
    "autoconf",
    "automake",
    "bash-completion",
    "binutils",
    "bison",
    "build-base",
    "build-essential",
    "busybox",
    "ca-certificates",
    "ca-certificates-bundle",
    "cargo",
    "ccache",
    "clang",
    "cmake",
    "dirmngr",
    "dpkg",
    "eatmydata",
    "flex",
    "g++",
    "gcc",
    "gdb",
    "git",
    "git-lfs",
    "gnupg",
    "gnupg2",
    "go",
    "gpg",
    "gpg-agent",
    "gradle",
    "libtool",
    "lld",
    "llvm",
    "lsb-release",
    "make",
    "maven",
    "mercurial",
    "meson",
    "nasm",
    "ninja",
    "ninja-build",
    "npm",
    "patch",
    "pkgconf",
    "pkg-config",
    "py3-pip",
    "python3-pip",
    "rust",
    "samurai",
    "software-properties-common",
    "strace",
    "subversion",
    "yarn",
    "yasm",
];

/// True for a package that is of use while a program runs: `section` is empty where there are none.
pub(super) fn is_for_running(name: &str, section: &str) -> bool {
    // `non-free/libdevel`
    let section = section.rsplit('/').next().unwrap_or_default();
    let versioned = |known: &&str| {
        let rest = name.strip_prefix(*known);
        let version = |rest: &str| rest.chars().all(|c| c.is_ascii_digit() || ".-".contains(c));
        rest.is_some_and(version)
    };
    !name.starts_with('.')
        && !SECTIONS.contains(&section)
        && !ENDS.iter().any(|end| name.ends_with(end))
        && !TOOLS.iter().any(versioned)
}

/// Keeps them, with what own layers brought for their sake. What they need of the base is found by their files.
pub(super) fn keep(walk: &mut Walk<'_>) {
    // All layers but the first are no own ones: what a base was made with was not asked for by its user.
    if walk.wanted.base_layers.is_none() {
        return;
    }
    let own = |walk: &Walk<'_>, package: u32| {
        let mut files = walk.packages.files(package).iter();
        files.any(|id| walk.is_own(*id))
    };
    let mut known = HashSet::new();
    for package in walk.packages.asked() {
        // Of one that is made of others there may be no file at all.
        let brought = match walk.packages.files(package) {
            [] => walk.packages.needs(package).any(|one| own(walk, one)),
            _ => own(walk, package),
        };
        if !brought {
            continue;
        }
        let mut first = None;
        for one in walk.packages.closure_beside(package, &mut known) {
            let why = match one == package {
                true => Why::Installed,
                false => Why::Package,
            };
            for file in walk.packages.files(one).to_vec() {
                let parts = walk.parts(file);
                if walk.is_own(file) && !is_left_out(&parts) && !is_leftover(&parts) {
                    walk.keep(file, why, first);
                    if one == package {
                        first.get_or_insert(file);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Reach, Wanted};
    use super::*;
    use crate::fixtures::{ElfFile, Tar};
    use crate::layer::Image;
    use crate::tree::Kind;
    use crate::{ImageConfig, LayerSource, Limits};

    #[test]
    fn what_a_program_starts_is_for_running_and_what_it_was_built_with_is_not() {
        for (name, section, expected) in [
            ("ffmpeg", "video", true),
            ("tesseract-ocr", "graphics", true),
            ("imagemagick", "graphics", true),
            ("poppler-utils", "utils", true),
            ("libpq5", "libs", true),
            ("tzdata", "localization", true),
            ("curl", "web", true),
            ("python3", "python", true),
            ("openjdk-17-jre-headless", "java", true),
            ("chromium", "web", true),
            ("makepasswd", "admin", true),
            ("git-restore-mtime", "", true),
            ("nvidia-driver", "non-free/video", true),
            ("build-essential", "devel", false),
            ("cmake", "devel", false),
            ("pkg-config", "oldlibs", false),
            ("libpq-dev", "libdevel", false),
            ("python3-dev", "python", false),
            ("git", "vcs", false),
            ("golang-go", "golang", false),
            ("nvidia-cuda-dev", "non-free/libdevel", false),
            ("openjdk-17-jdk-headless", "java", false),
            ("ca-certificates", "misc", false),
            ("gnupg", "utils", false),
            // Alpine's.
            ("ffmpeg", "", true),
            ("build-base", "", false),
            ("g++", "", false),
            ("gcc-12", "", false),
            ("clang19", "", false),
            ("postgresql-dev", "", false),
            (".build-deps", "", false),
            ("musl-dev", "", false),
        ] {
            assert_eq!(is_for_running(name, section), expected, "{name} {section}");
        }
    }

    /// The files and links that stay of a Go program's image: what an own layer brought besides the program.
    fn stays(base: Tar, own: Tar, layers: Option<usize>) -> Vec<String> {
        let limits = Limits {
            reach: Some(1),
            ..Limits::default()
        };
        let mut image = Image::new(limits);
        let program = Tar::new().file("server", 0o755, &ElfFile::default().bytes());
        for layer in [base, own, program] {
            let bytes = layer.bytes();
            image
                .add_layer(&bytes[..], &LayerSource::default())
                .unwrap();
        }
        let config = ImageConfig {
            entrypoint: vec!["/server".into()],
            instructions: ["RUN base", "RUN install", "COPY server /"]
                .map(str::to_owned)
                .to_vec(),
            ..ImageConfig::default()
        };
        let wanted = Wanted {
            base_layers: layers,
            ..Wanted::default()
        };
        let reach = Reach::of(&image, &config, &wanted);
        assert_eq!(reach.unsure, None);
        let tree = &image.tree;
        let all = tree.all().filter(|id| reach.keeps(*id));
        let files = all.filter(|id| tree.meta(*id).kind != Kind::Directory);
        let mut found: Vec<String> = files.map(|id| tree.path(id)).collect();
        found.retain(|path| !path.starts_with("/var/lib/dpkg") && !path.contains("/apk"));
        found.sort();
        found
    }

    /// Packages of Debian as they stand in its database, with the files of each.
    fn debian(packages: &[(&str, &str, &str, &[&str])], automatic: &[&str]) -> Tar {
        let mut status = String::new();
        let mut tar = Tar::new();
        for (name, fields, needs, files) in packages {
            status += &format!(
                "Package: {name}\nStatus: install ok installed\n{fields}\nDepends: {needs}\n\n"
            );
            let list = files.join("\n") + "\n";
            let path = format!("var/lib/dpkg/info/{name}.list");
            tar = tar.file(&path, 0o644, list.as_bytes());
        }
        let states: Vec<String> = automatic
            .iter()
            .map(|name| format!("Package: {name}\nArchitecture: amd64\nAuto-Installed: 1\n"))
            .collect();
        tar.file("var/lib/dpkg/status", 0o644, status.as_bytes())
            .file(
                "var/lib/apt/extended_states",
                0o644,
                states.join("\n").as_bytes(),
            )
    }

    fn files(mut tar: Tar, paths: &[&str]) -> Tar {
        for path in paths {
            tar = tar.file(
                path.trim_start_matches('/'),
                0o755,
                &ElfFile::default().bytes(),
            );
        }
        tar
    }

    const PACKAGES: [(&str, &str, &str, &[&str]); 9] = [
        (
            "libc6",
            "Section: libs\nPriority: optional",
            "",
            &["/usr/lib/libc.so.6"],
        ),
        (
            "bash",
            "Section: shells\nPriority: required",
            "",
            &["/usr/bin/bash"],
        ),
        (
            "ffmpeg",
            "Section: video\nPriority: optional",
            "libavcodec59, libc6",
            &[
                "/usr/bin/ffmpeg",
                "/usr/share/doc/ffmpeg/x",
                "/usr/share/man/ffmpeg.1",
            ],
        ),
        (
            "libavcodec59",
            "Section: libs",
            "",
            &["/usr/lib/libavcodec.so.59"],
        ),
        ("make", "Section: devel", "", &["/usr/bin/make"]),
        ("git", "Section: vcs", "liberror-perl", &["/usr/bin/git"]),
        (
            "liberror-perl",
            "Section: perl",
            "",
            &["/usr/share/perl5/Error.pm"],
        ),
        (
            "libpq-dev",
            "Section: libdevel",
            "libpq5",
            &["/usr/include/libpq.h"],
        ),
        ("libpq5", "Section: libs", "", &["/usr/lib/libpq.so.5"]),
    ];

    #[test]
    fn a_package_that_was_asked_for_stays_with_what_came_for_its_sake_and_tools_that_build_go() {
        let base = files(
            debian(&PACKAGES[..2], &[]),
            &["/usr/lib/libc.so.6", "/usr/bin/bash"],
        );
        let automatic = ["libavcodec59", "liberror-perl", "libpq5"];
        let own = || {
            let all: Vec<&str> = PACKAGES.iter().flat_map(|it| it.3).copied().collect();
            // An upgrade brings the base's own packages again: all of these but libc6.
            files(debian(&PACKAGES, &automatic), &all[1..])
        };
        assert_eq!(
            stays(base, own(), Some(1)),
            ["/server", "/usr/bin/ffmpeg", "/usr/lib/libavcodec.so.59"]
        );
        // What a base was made with was asked for by others.
        let nothing = || Tar::new().folder("x", 0o755);
        assert_eq!(stays(own(), nothing(), Some(1)), ["/server"]);
        assert_eq!(stays(nothing(), own(), None), ["/server"]);
    }

    #[test]
    fn a_package_that_is_made_of_others_stands_for_them() {
        let packages: [(&str, &str, &str, &[&str]); 2] = [
            ("imagemagick", "Section: graphics", "imagemagick-6", &[]),
            (
                "imagemagick-6",
                "Section: graphics",
                "",
                &["/usr/bin/convert-im6"],
            ),
        ];
        let own = files(
            debian(&packages, &["imagemagick-6"]),
            &["/usr/bin/convert-im6"],
        );
        let base = Tar::new().folder("x", 0o755);
        assert_eq!(
            stays(base, own, Some(1)),
            ["/server", "/usr/bin/convert-im6"]
        );
    }

    #[test]
    fn of_alpine_what_its_world_names_was_asked_for() {
        let installed = b"P:ffmpeg\nD:so:libav.so ffmpeg-libs\nF:usr/bin\nR:ffmpeg\n\n\
            P:ffmpeg-libs\np:so:libav.so=59\nF:usr/lib\nR:libav.so\n\n\
            P:gcc\nF:usr/bin\nR:gcc\n\nP:curl\nF:usr/bin\nR:curl\n\n";
        let own = Tar::new()
            .file("lib/apk/db/installed", 0o644, installed)
            .file(
                "etc/apk/world",
                0o644,
                b"alpine-baselayout\nffmpeg=6.1-r0\ngcc\n.build-deps\n",
            );
        let own = files(
            own,
            &[
                "/usr/bin/ffmpeg",
                "/usr/lib/libav.so",
                "/usr/bin/gcc",
                "/usr/bin/curl",
            ],
        );
        let base = Tar::new().folder("x", 0o755);
        assert_eq!(
            stays(base, own, Some(1)),
            ["/server", "/usr/bin/ffmpeg", "/usr/lib/libav.so"]
        );
    }
}
