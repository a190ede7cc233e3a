//! Real programs, made by the compilers of this machine, against what really happens when they are
//! called: `cargo test --lib toolchains -- --ignored`.

use std::path::Path;
use std::process::Command;

use super::fixtures::{Tar, image};
use super::{Contents, Fault, ImageConfig, ProgramKind, Runs};

fn made(folder: &Path, command: &str) -> bool {
    let status = Command::new("sh")
        .arg("-c")
        .arg(command)
        .current_dir(folder)
        .env("HOME", folder)
        .status();
    status.is_ok_and(|status| status.success())
}

/// The report of an image with this program as `/app`, and other files of this machine at their places.
fn report(program: &Path, others: &[&str]) -> Contents {
    let mut tar = Tar::new().file("app", 0o755, &std::fs::read(program).unwrap());
    for path in others {
        let bytes = std::fs::read(path).unwrap();
        tar = tar.file(path.trim_start_matches('/'), 0o755, &bytes);
    }
    let config = ImageConfig {
        os: "linux".into(),
        architecture: if cfg!(target_arch = "x86_64") {
            "amd64"
        } else {
            "arm64"
        }
        .into(),
        entrypoint: vec!["/app".into()],
        ..ImageConfig::default()
    };
    Contents::of(&image(&[tar.bytes()]), &config, 0)
}

#[test]
#[ignore = "needs gcc and go"]
fn real_programs_of_the_toolchains_of_this_machine_are_judged_as_they_run() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(
        at("a.c"),
        "#include <stdio.h>\nint main(void){puts(\"hello\");return 0;}\n",
    )
    .unwrap();
    std::fs::write(
        at("a.go"),
        "package main\nimport \"net\"\nfunc main(){net.LookupHost(\"x\")}\n",
    )
    .unwrap();
    let go = "GOCACHE=$PWD/cache GOPATH=$PWD/go GOFLAGS=-mod=mod";
    for (name, command, kind) in [
        ("c-dynamic", "gcc -o c-dynamic a.c", ProgramKind::Dynamic),
        (
            "c-static",
            "gcc -static -o c-static a.c",
            ProgramKind::Static,
        ),
        (
            "c-static-pie",
            "gcc -static-pie -o c-static-pie a.c",
            ProgramKind::Static,
        ),
        (
            "c-no-pie",
            "gcc -no-pie -s -o c-no-pie a.c",
            ProgramKind::Dynamic,
        ),
        (
            "go-static",
            "CGO_ENABLED=0 go build -o go-static a.go",
            ProgramKind::Static,
        ),
        (
            "go-cgo",
            "CGO_ENABLED=1 go build -o go-cgo a.go",
            ProgramKind::Dynamic,
        ),
        (
            "musl-static",
            "musl-gcc -static -o musl-static a.c",
            ProgramKind::Static,
        ),
    ] {
        if !made(folder.path(), &format!("{go} {command} 2>err.txt")) {
            eprintln!("not made here: {name}");
            continue;
        }
        let found = report(&at(name), &[]).start.program;
        assert_eq!(found.kind, kind, "{name}: {found:?}");
        assert_eq!(found.go, name.starts_with("go-"), "{name}: {found:?}");
        let runs = if kind == ProgramKind::Static {
            Runs::Yes
        } else {
            Runs::No
        };
        assert_eq!(found.runs, runs, "{name}: {found:?}");
        // With the loader and libc, copied as people copy them.
        if kind == ProgramKind::Dynamic && cfg!(target_arch = "x86_64") {
            let loader = "/lib64/ld-linux-x86-64.so.2";
            let libc = "/lib/x86_64-linux-gnu/libc.so.6";
            let found = report(&at(name), &[loader]).start.program;
            assert_eq!(
                found.fault,
                Some(Fault::MissingLibraries),
                "{name}: {found:?}"
            );
            let others: Vec<String> = report(&at(name), &[])
                .start
                .program
                .needed
                .iter()
                .map(|library| format!("/lib/x86_64-linux-gnu/{library}"))
                .collect();
            let mut others: Vec<&str> = others.iter().map(String::as_str).collect();
            others.extend([loader, libc]);
            let found = report(&at(name), &others).start.program;
            assert_eq!(found.runs, Runs::Yes, "{name}: {found:?}");
        }
    }
}
