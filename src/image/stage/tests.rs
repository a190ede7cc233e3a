use super::*;
use crate::fixtures::{ElfFile, GLIBC, MUSL, Tar};
use crate::{LayerSource, Limits};

const LIB: &str = "usr/lib/x86_64-linux-gnu";
pub(super) const BOOKWORM: &[u8] = b"ID=debian\nVERSION_ID=\"12\"\n";
pub(super) const TRIXIE: &[u8] = b"ID=debian\nVERSION_ID=\"13\"\n";

/// An ELF file with these texts in it.
pub(super) fn naming(file: ElfFile, names: &[&str]) -> Vec<u8> {
    let mut tail = vec![0];
    for name in names {
        tail.extend_from_slice(name.as_bytes());
        tail.push(0);
    }
    ElfFile { tail, ..file }.bytes()
}

pub(super) fn library(name: &'static str, needed: &[&'static str]) -> Vec<u8> {
    ElfFile::library(name, needed).bytes()
}

/// A distribution with glibc, a shell, a compiler, certificates and time zones.
pub(super) fn base(release: &[u8]) -> Tar {
    Tar::new()
        .symlink("lib64", "usr/lib64")
        .symlink("lib", "usr/lib")
        .symlink("bin", "usr/bin")
        .folder("tmp", 0o1777)
        .file("etc/os-release", 0o644, release)
        .file(
            "etc/passwd",
            0o644,
            b"root:x:0:0::/root:/bin/sh\nnonroot:x:65532:65532::/home:/x\n",
        )
        .file("etc/ssl/certs/ca-certificates.crt", 0o644, b"certificates")
        .file("usr/share/zoneinfo/Europe/Berlin", 0o644, b"TZif")
        .file("usr/share/misc/magic", 0o644, b"magic")
        .file(
            "usr/lib64/ld-linux-x86-64.so.2",
            0o755,
            &library("ld-linux-x86-64.so.2", &[]),
        )
        .file(
            &format!("{LIB}/libc.so.6"),
            0o644,
            &library("libc.so.6", &[]),
        )
        .symlink(&format!("{LIB}/libstdc++.so.6"), "libstdc++.so.6.0.30")
        .file(
            &format!("{LIB}/libstdc++.so.6.0.30"),
            0o644,
            &library("libstdc++.so.6", &["libc.so.6"]),
        )
        .symlink(&format!("{LIB}/libpq.so.5"), "libpq.so.5.15")
        .file(
            &format!("{LIB}/libpq.so.5.15"),
            0o644,
            &library("libpq.so.5", &["libssl.so.3", "liblber.so.2"]),
        )
        .file(
            &format!("{LIB}/libssl.so.3"),
            0o644,
            &library("libssl.so.3", &["libc.so.6"]),
        )
        .file(
            &format!("{LIB}/liblber.so.2"),
            0o644,
            &library("liblber.so.2", &["libc.so.6"]),
        )
        .file(
            "usr/bin/dash",
            0o755,
            &ElfFile::program(GLIBC, &["libc.so.6"]).bytes(),
        )
        .symlink("usr/bin/sh", "dash")
        .file(
            "usr/bin/env",
            0o755,
            &ElfFile::program(GLIBC, &["libc.so.6"]).bytes(),
        )
        .file("usr/bin/convert", 0o755, &[7; 10_000])
        .file("usr/local/go/src/x.go", 0o644, b"package x")
}

pub(super) struct Case {
    pub(super) config: ImageConfig,
    pub(super) base: Tar,
    own: Tar,
    /// How many layers are the base's; none: it is not known.
    layers: Option<usize>,
}

impl Case {
    pub(super) fn new(base: Tar, own: Tar, entrypoint: &[&str]) -> Self {
        Self {
            config: ImageConfig {
                os: "linux".into(),
                architecture: "amd64".into(),
                entrypoint: entrypoint.iter().map(|&word| word.into()).collect(),
                env: vec!["PATH=/usr/local/go/bin:/usr/local/bin:/usr/bin:/bin".into()],
                instructions: vec!["RUN base".into(), "RUN make".into()],
                ..ImageConfig::default()
            },
            base,
            own,
            layers: Some(1),
        }
    }

    pub(super) fn user(mut self, user: &str) -> Self {
        self.config.user = user.into();
        self
    }

    pub(super) fn text(self) -> Option<String> {
        let limits = Limits {
            reach: Some(1),
            ..Limits::default()
        };
        let mut image = Image::new(limits);
        for layer in [self.base.bytes(), self.own.bytes()] {
            image
                .add_layer(&layer[..], &LayerSource::default())
                .unwrap();
        }
        let wanted = Wanted {
            base_layers: self.layers,
            ..Wanted::default()
        };
        let reach = Reach::of(&image, &self.config, &wanted);
        assert_eq!(reach.unsure, None);
        Stage::of(&image, &reach, &self.config, &wanted).map(|stage| stage.text)
    }
}

fn go(names: &[&str]) -> Tar {
    Tar::new()
        .file("src/main.go", 0o644, b"package main")
        .file("src/go.mod", 0o644, b"module x")
        .file("server", 0o755, &naming(ElfFile::default(), names))
}

#[test]
fn a_static_program_alone_goes_to_scratch() {
    let found = Case::new(base(TRIXIE), go(&[]), &["/server"]).text();
    assert_eq!(
        found.as_deref(),
        Some("FROM scratch\nCOPY --from=build /server /server\nENTRYPOINT [\"/server\"]\n")
    );
}

#[test]
fn certificates_and_time_zones_go_with_a_static_program_that_names_them() {
    let names = ["/etc/ssl/certs/ca-certificates.crt", "/usr/share/zoneinfo/"];
    let case = Case::new(base(TRIXIE), go(&names), &["/server"]).user("nonroot");
    assert_eq!(
        case.text().as_deref(),
        Some(
            "FROM scratch\n\
             COPY --from=build /server /server\n\
             COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt\n\
             COPY --from=build /usr/share/zoneinfo /usr/share/zoneinfo\n\
             USER 65532:65532\n\
             ENTRYPOINT [\"/server\"]\n"
        )
    );
    let zones = Case::new(base(TRIXIE), go(&names[1..]), &["/server"]).text();
    assert!(!zones.unwrap().contains("certificates"));
}

#[test]
fn a_static_program_that_may_write_to_tmp_goes_to_distroless_which_has_all_that() {
    let names = [
        "/etc/ssl/certs/ca-certificates.crt",
        "/usr/share/zoneinfo/",
        "/tmp",
    ];
    let mut case = Case::new(base(TRIXIE), go(&names), &["server", "-v"]).user("nonroot");
    case.config.working_dir = "/".into();
    case.config.env[0] = "PATH=/".into();
    case.config.env.push("MODE=a \"b\" $c".into());
    case.config.env.push("GOLANG_VERSION=1.26".into());
    case.config.cmd = vec!["--port".into(), "80".into()];
    assert_eq!(
        case.text().as_deref(),
        Some(
            "FROM gcr.io/distroless/static-debian12:nonroot\n\
             COPY --from=build /server /server\n\
             ENV MODE=\"a \\\"b\\\" \\$c\"\n\
             WORKDIR /\n\
             USER 65532:65532\n\
             ENTRYPOINT [\"/server\",\"-v\"]\n\
             CMD [\"--port\",\"80\"]\n"
        )
    );
}

#[test]
fn what_the_application_brought_besides_goes_with_it_and_its_sources_do_not() {
    let own = go(&["/usr/share/misc/magic"])
        .file("src/templates/a.html", 0o644, b"a")
        .file("src/templates/b.html", 0o644, b"b")
        .file("src/one.json", 0o644, b"1")
        .file("src/two.json", 0o644, b"2")
        .owned("data/x", 0o644, 7, b"x")
        .owned("data/y", 0o644, 7, b"y");
    let found = Case::new(base(BOOKWORM), own, &["/server"]).text();
    assert_eq!(
        found.as_deref(),
        Some(
            "FROM scratch\n\
             COPY --from=build /server /server\n\
             COPY --from=build --chown=7:7 /data /data\n\
             COPY --from=build /src/one.json /src/two.json /src/\n\
             COPY --from=build /src/templates /src/templates\n\
             COPY --from=build /usr/share/misc/magic /usr/share/misc/magic\n\
             ENTRYPOINT [\"/server\"]\n"
        )
    );
}

#[test]
fn a_folder_of_the_base_that_is_somebodys_goes_with_it() {
    let base = base(BOOKWORM)
        .file("entry.d/a", 0o644, b"a")
        .file("entry.d/b", 0o644, b"b");
    let found = Case::new(base, go(&[]), &["/server"]).text().unwrap();
    assert!(
        found.contains("COPY --from=build /entry.d /entry.d\n"),
        "{found}"
    );
}

#[test]
fn what_the_c_library_opens_for_some_programs_is_no_need_of_all() {
    // With C++'s base comes the library that unwinds a stack, which glibc opens by name.
    let base = || {
        let libc = naming(ElfFile::library("libc.so.6", &[]), &["libgcc_s.so.1"]);
        let unwinder = library("libgcc_s.so.1", &["libc.so.6"]);
        base(BOOKWORM)
            .file(&format!("{LIB}/libc.so.6"), 0o644, &libc)
            .file(&format!("{LIB}/libgcc_s.so.1"), 0o644, &unwinder)
    };
    for (names, expected) in [
        (&["printf"][..], "gcr.io/distroless/base-debian12"),
        (&["pthread_exit"], "gcr.io/distroless/cc-debian12"),
    ] {
        let program = naming(ElfFile::program(GLIBC, &["libc.so.6"]), names);
        let own = Tar::new().file("app/run", 0o755, &program);
        let mut case = Case::new(base(), own, &["./run"]);
        case.config.working_dir = "/app".into();
        let found = case.text().unwrap();
        assert!(found.starts_with(&format!("FROM {expected}\n")), "{found}");
        assert!(found.ends_with("ENTRYPOINT [\"/app/run\"]\n"), "{found}");
    }
}

fn compiled(needed: &[&'static str]) -> Tar {
    Tar::new().file("app/run", 0o755, &ElfFile::program(GLIBC, needed).bytes())
}

#[test]
fn a_dynamic_program_goes_to_the_base_of_its_own_release_with_the_libraries_that_it_lacks() {
    for (release, needed, expected) in [
        (
            BOOKWORM,
            &["libc.so.6"][..],
            "base-debian12\nCOPY --from=build /app/run /app/run\n",
        ),
        (
            TRIXIE,
            &["libc.so.6", "libssl.so.3"],
            "base-debian13\nCOPY --from=build /app/run /app/run\n",
        ),
        (
            TRIXIE,
            &["libstdc++.so.6"],
            "cc-debian13\nCOPY --from=build /app/run /app/run\n",
        ),
        (
            BOOKWORM,
            &["libpq.so.5"],
            "base-debian12\nCOPY --from=build /app/run /app/run\n\
             COPY --from=build /usr/lib/x86_64-linux-gnu/liblber.so.2 /usr/lib/x86_64-linux-gnu/libpq.so.5 \
             /usr/lib/x86_64-linux-gnu/\n",
        ),
    ] {
        let found = Case::new(base(release), compiled(needed), &["/app/run"]).text();
        let whole =
            format!("FROM gcr.io/distroless/{expected}WORKDIR /\nENTRYPOINT [\"/app/run\"]\n");
        assert_eq!(found, Some(whole), "{needed:?}");
    }
}

#[test]
fn where_no_stage_is_sure_to_do_the_same_there_is_none() {
    let shell = Tar::new().file("run.sh", 0o755, b"#!/bin/sh\nexec convert\n");
    let calls = go(&["/usr/bin/convert"]);
    let musl = Tar::new()
        .file("app/run", 0o755, &ElfFile::program(MUSL, &[]).bytes())
        .file("lib/ld-musl-x86_64.so.1", 0o755, &library("x", &[]));
    let rights = Tar::new().file("server", 0o4755, &ElfFile::default().bytes());
    let owners = go(&[])
        .owned("data/x", 0o644, 7, b"x")
        .owned("data/y", 0o644, 8, b"y");
    let odd = go(&[]).file("data x", 0o644, b"x");
    let ubuntu = base(b"ID=ubuntu\nVERSION_ID=\"24.04\"\n");
    let elsewhere = Tar::new()
        .file(
            "usr/local/lib64/libx.so.1",
            0o755,
            &library("libx.so.1", &[]),
        )
        .file(
            "app/run",
            0o755,
            &ElfFile::program(GLIBC, &["libc.so.6"]).bytes(),
        );
    for (name, base, own, command) in [
        ("a script", base(BOOKWORM), shell, "/run.sh"),
        (
            "a program of the base is named",
            base(BOOKWORM).file("usr/bin/convert", 0o755, &ElfFile::default().bytes()),
            calls,
            "/server",
        ),
        ("another C library", base(BOOKWORM), musl, "/app/run"),
        ("setuid", base(BOOKWORM), rights, "/server"),
        ("several owners", base(BOOKWORM), owners, "/server"),
        (
            "a name that would have to be quoted",
            base(BOOKWORM),
            odd,
            "/server",
        ),
        (
            "another distribution",
            ubuntu,
            compiled(&["libc.so.6"]),
            "/app/run",
        ),
        (
            "the base's own program",
            base(BOOKWORM),
            elsewhere,
            "/usr/bin/env",
        ),
    ] {
        assert_eq!(Case::new(base, own, &[command]).text(), None, "{name}");
    }
    let mut unknown = Case::new(base(BOOKWORM), go(&[]), &["/server"]);
    unknown.layers = None;
    assert_eq!(unknown.text(), None);
    let mut volume = Case::new(base(BOOKWORM), go(&[]), &["/server"]);
    volume.config.volumes = vec!["/data".into()];
    assert_eq!(volume.text(), None);
    let nobody = Case::new(base(BOOKWORM), go(&[]), &["/server"]).user("somebody");
    assert_eq!(nobody.text(), None);
}
