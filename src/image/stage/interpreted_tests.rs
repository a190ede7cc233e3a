//! Applications that an interpreter runs.

use super::tests::{BOOKWORM, Case, TRIXIE, base, library, naming};
use crate::fixtures::{ElfFile, GLIBC, Tar};

/// The official image of Python.
fn python(release: &[u8], minor: u32) -> Tar {
    let lib = format!("usr/local/lib/python3.{minor}");
    let interpreter = naming(ElfFile::program(GLIBC, &["libc.so.6"]), &["/bin/sh"]);
    base(release)
        .file(
            &format!("usr/local/bin/python3.{minor}"),
            0o755,
            &interpreter,
        )
        .symlink("usr/local/bin/python3", &format!("python3.{minor}"))
        .symlink("usr/local/bin/python", "python3")
        .file(&format!("{lib}/os.py"), 0o644, b"import subprocess")
        .file(&format!("{lib}/site-packages/pip/x.py"), 0o644, b"pip")
}

fn served(minor: u32) -> Tar {
    let packages = format!("usr/local/lib/python3.{minor}/site-packages");
    Tar::new()
        .file(
            &format!("{packages}/flask/app.py"),
            0o644,
            b"import subprocess",
        )
        .file(
            &format!("{packages}/flask/fast.so"),
            0o755,
            &library("fast.so", &["libstdc++.so.6", "libc.so.6"]),
        )
        .file(
            &format!("usr/local/lib/python3.{minor}/__pycache__/os.pyc"),
            0o644,
            b"\0",
        )
        .file(
            "usr/local/bin/flask",
            0o755,
            format!("#!/usr/local/bin/python3.{minor}\n").as_bytes(),
        )
        .file("app/main.py", 0o644, b"import flask")
        .file("app/page.html", 0o644, b"page")
}

#[test]
fn an_application_in_python_goes_to_the_python_of_the_same_version_and_release() {
    let case = |release, minor| {
        let mut case = Case::new(python(release, minor), served(minor), &[]);
        case.config.cmd = vec!["python".into(), "main.py".into()];
        case.config.working_dir = "/app".into();
        case.config.env.push("PYTHONUNBUFFERED=1".into());
        case.user("65532")
    };
    assert_eq!(
        case(BOOKWORM, 11).text().as_deref(),
        Some(
            "FROM gcr.io/distroless/python3-debian12:nonroot\n\
             COPY --from=build /app /app\n\
             COPY --from=build /usr/local/lib/python3.11/site-packages /usr/local/lib/python3.11/dist-packages\n\
             ENV PYTHONUNBUFFERED=\"1\"\n\
             WORKDIR /app\n\
             USER 65532:65532\n\
             ENTRYPOINT [\"/usr/bin/python3\"]\n\
             CMD [\"main.py\"]\n"
        )
    );
    let found = case(TRIXIE, 13).text().unwrap();
    assert!(
        found.starts_with("FROM gcr.io/distroless/python3-debian13:nonroot\n"),
        "{found}"
    );
    // A package that the base brought, and the new one lacks.
    let mut brought = case(BOOKWORM, 11);
    let path = "usr/local/lib/python3.11/site-packages/uvicorn/x.py";
    brought.base = brought.base.file(path, 0o644, b"x");
    assert_eq!(brought.text(), None);
    // There is no other version of it there.
    assert_eq!(case(BOOKWORM, 12).text(), None);
    assert_eq!(case(TRIXIE, 11).text(), None);
}

/// The official image of Node.js.
fn node(release: &[u8]) -> Tar {
    let interpreter = naming(ElfFile::program(GLIBC, &["libstdc++.so.6"]), &["/bin/sh"]);
    base(release)
        .file("usr/local/bin/node", 0o755, &interpreter)
        .file(
            "usr/local/bin/docker-entrypoint.sh",
            0o755,
            b"#!/bin/sh\nexec \"$@\"\n",
        )
        .file("usr/local/lib/node_modules/npm/x.js", 0o644, b"npm")
}

fn answering(main: &[u8]) -> Tar {
    Tar::new()
        .owned("app/server.js", 0o644, 1000, main)
        .owned(
            "app/node_modules/.bin/mime",
            0o755,
            1000,
            b"#!/usr/bin/env node\n",
        )
        .owned(
            "app/node_modules/x/build.sh",
            0o755,
            1000,
            b"#!/bin/sh\nconvert x\n",
        )
        .owned(
            "app/node_modules/x/x.js",
            0o644,
            1000,
            b"require('child_process')",
        )
        .owned(
            "etc/passwd",
            0o644,
            0,
            b"root:x:0:0::/root:/bin/sh\nnode:x:1000:1000::/app:/bin/sh\n",
        )
        .owned("etc/group", 0o644, 0, b"node:x:1000:\n")
}

#[test]
fn an_application_in_node_goes_to_the_node_of_the_same_version_as_its_own_user() {
    let case = |version: &str, main: &[u8]| {
        let mut case = Case::new(node(BOOKWORM), answering(main), &["docker-entrypoint.sh"]);
        case.config.cmd = vec!["node".into(), "server.js".into()];
        case.config.working_dir = "/app".into();
        case.config.env.push(format!("NODE_VERSION={version}"));
        case.user("node")
    };
    assert_eq!(
        case("22.11.0", b"listen()").text().as_deref(),
        Some(
            "FROM gcr.io/distroless/nodejs22-debian13\n\
             COPY --from=build --chown=1000:1000 /app /app\n\
             COPY --from=build /etc/passwd /etc/group /etc/\n\
             WORKDIR /app\n\
             USER 1000:1000\n\
             ENTRYPOINT [\"/nodejs/bin/node\"]\n\
             CMD [\"server.js\"]\n"
        )
    );
    // No such version, and a program that starts others.
    assert_eq!(case("21.0.0", b"listen()").text(), None);
    assert_eq!(
        case("22.11.0", b"require('child_process').exec('ls')").text(),
        None
    );
}
