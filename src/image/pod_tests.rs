//! What Pods do that is easily thought otherwise: each was first seen in the end-to-end test `truth`.

use super::certificates::tests::pem;
use super::fixtures::{ElfFile, GLIBC, Tar, image};
use super::{Contents, Fault, ImageConfig, Outcome, ProgramKind, Rule, Runs, Start, check};

fn config(command: &[&str], user: &str) -> ImageConfig {
    ImageConfig {
        os: "linux".into(),
        architecture: "amd64".into(),
        user: user.into(),
        entrypoint: command.iter().map(|&word| word.to_owned()).collect(),
        ..ImageConfig::default()
    }
}

fn report(tar: Tar, config: &ImageConfig) -> Contents {
    Contents::of(&image(&[tar.bytes()]), config, 0)
}

fn start(tar: Tar, command: &[&str], user: &str) -> Start {
    report(tar, &config(command, user)).start
}

/// What comes of `/app` for a user: whether it runs, why not, and the words.
fn app(tar: Tar, user: &str) -> (Runs, Option<Fault>, String) {
    let program = start(tar, &["/app"], user).program;
    (
        program.runs,
        program.fault,
        program.message.unwrap_or_default(),
    )
}

fn program() -> Vec<u8> {
    ElfFile::default().bytes()
}

/// A dynamic program, its loader and, with this mode and owner, its one library.
fn with_library(mode: u32, owner: u64) -> Tar {
    let loader = ElfFile::library("ld-linux-x86-64.so.2", &[]).bytes();
    let library = ElfFile::library("liba.so", &[]).bytes();
    Tar::new()
        .file("app", 0o755, &ElfFile::program(GLIBC, &["liba.so"]).bytes())
        .file("lib64/ld-linux-x86-64.so.2", 0o755, &loader)
        .owned("usr/lib/liba.so", mode, owner, &library)
}

#[test]
fn the_group_of_the_user_counts_for_nothing() {
    let group = b"staff:x:50:\n";
    for (user, gid) in [("65532:50", 0), ("65532:web", 0), ("app:staff", 7)] {
        let tar = Tar::new()
            .file("etc/passwd", 0o644, b"app:x:8:7::/:/bin/sh\n")
            .file("etc/group", 0o644, group)
            .file("app", 0o755, &program());
        let found = report(tar, &config(&["/app"], user));
        assert_eq!(found.user.gid, gid, "{user}");
        assert_eq!(found.start.program.runs, Runs::Yes, "{user}");
    }
}

#[test]
fn whom_permissions_keep_out_runs_the_first_program_where_no_capability_is_dropped() {
    let closed = || Tar::new().owned("app", 0o700, 0, &program());
    let (runs, fault, why) = app(closed(), "65532");
    assert_eq!((runs, fault), (Runs::Unknown, None));
    assert!(
        why.starts_with(
            "permission denied: user 65532 may not execute /app (mode 700, owner 0:0): a Pod that drops no"
        ) && why.contains("COPY --chmod=755"),
        "{why}"
    );
    assert_eq!(app(closed(), "").0, Runs::Yes);
    // In a closed folder, and with a loader that is closed to the user, it is the same.
    let folder = Tar::new()
        .folder("srv", 0o700)
        .file("srv/app", 0o755, &program());
    assert_eq!(
        start(folder, &["/srv/app"], "65532").program.runs,
        Runs::Unknown
    );
    // What nobody may run, nobody runs.
    let (runs, fault, _) = app(Tar::new().file("app", 0o644, &program()), "");
    assert_eq!((runs, fault), (Runs::No, Some(Fault::NotPermitted)));
}

#[test]
fn what_a_shell_starts_has_no_capability_of_the_runtime_any_more() {
    let tar = Tar::new()
        .file("bin/sh", 0o755, &program())
        .owned("app", 0o700, 0, &program());
    let start = start(tar, &["/bin/sh", "-c", "/app"], "65532");
    assert_eq!(start.program.runs, Runs::Yes);
    assert_eq!(start.then.unwrap().fault, Some(Fault::NotPermitted));
}

#[test]
fn a_script_must_be_readable_and_a_library_too() {
    let script =
        Tar::new()
            .file("bin/sh", 0o755, &program())
            .owned("app", 0o700, 0, b"#!/bin/sh\n");
    assert_eq!(app(script, "65532").1, Some(Fault::NotPermitted));
    assert_eq!(app(with_library(0o644, 0), "65532").0, Runs::Yes);
    assert_eq!(app(with_library(0o600, 0), "").0, Runs::Yes);
    let (runs, fault, why) = app(with_library(0o600, 0), "65532");
    assert_eq!((runs, fault), (Runs::No, Some(Fault::MissingLibraries)));
    assert!(
        why.contains("the image's user may not read /usr/lib/liba.so"),
        "{why}"
    );
    let closed = with_library(0o644, 0).folder("usr/lib", 0o700);
    assert_eq!(app(closed, "65532").1, Some(Fault::MissingLibraries));
}

#[test]
fn a_program_that_gives_rights_heeds_no_library_path() {
    let tar = |mode: u32| {
        with_library(0o644, 0)
            .file(
                "opt/libb.so",
                0o644,
                &ElfFile::library("libb.so", &[]).bytes(),
            )
            .file("app", mode, &ElfFile::program(GLIBC, &["libb.so"]).bytes())
    };
    let run = |mode: u32, user: &str| {
        let mut config = config(&["/app"], user);
        config.env = vec!["LD_LIBRARY_PATH=/opt".into()];
        report(tar(mode), &config).start.program
    };
    assert_eq!(run(0o755, "65532").runs, Runs::Yes);
    assert_eq!(run(0o4755, "").runs, Runs::Yes);
    let found = run(0o4755, "65532");
    assert_eq!(found.fault, Some(Fault::MissingLibraries));
    assert!(
        found
            .message
            .unwrap()
            .contains("/opt/libb.so is in LD_LIBRARY_PATH")
    );
}

#[test]
fn the_runtime_starts_nothing_that_a_relative_entry_of_path_leads_to() {
    let run = |path: &str, command: &[&str]| {
        let tar =
            Tar::new()
                .file("app", 0o755, &program())
                .file("run", 0o755, b"#!/usr/bin/env app\n");
        let tar = tar.file("usr/bin/env", 0o755, &program());
        let mut config = config(command, "");
        config.env = vec![format!("PATH={path}")];
        report(tar, &config).start.program
    };
    for path in ["", ":/bin", "/bin::/sbin", ".", "/bin:./"] {
        let found = run(path, &["app"]);
        assert_eq!(found.fault, Some(Fault::NotFound), "{path}: {found:?}");
    }
    assert_eq!(run("/bin:/", &["app"]).runs, Runs::Yes);
    // A program looks there.
    assert_eq!(run("/bin:.", &["/run"]).runs, Runs::Yes);
}

#[test]
fn a_loader_may_be_called_with_the_program_as_its_argument() {
    let start = start(
        with_library(0o644, 0),
        &["/lib64/ld-linux-x86-64.so.2", "/app"],
        "",
    );
    assert_eq!(start.program.runs, Runs::Yes);
    assert_eq!(start.program.kind, ProgramKind::Dynamic);
}

#[test]
fn a_program_without_its_end_does_not_run() {
    let whole = ElfFile {
        gap: 5000,
        ..ElfFile::program(GLIBC, &["libc.so.6"])
    };
    let whole = whole.bytes();
    let halved = Tar::new().file("app", 0o755, &whole[..whole.len() - 1]);
    let (runs, fault, why) = app(halved, "");
    assert_eq!((runs, fault), (Runs::No, Some(Fault::NotExecutable)));
    assert!(why.contains("truncated"), "{why}");
}

#[test]
fn certificates_that_the_user_may_not_read_are_none() {
    let bundle = "etc/ssl/certs/ca-certificates.crt";
    let run = |user: &str| {
        let tar = Tar::new().file(bundle, 0o600, pem().as_bytes());
        check(
            Rule::CACertificates,
            &report(tar, &config(&["/app"], user)),
            None,
        )
    };
    assert_eq!(run(""), Outcome::Kept);
    assert!(
        matches!(run("65532"), Outcome::Broken(why) if why.contains("not readable for the image's user"))
    );
}
