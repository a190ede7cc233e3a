use super::*;
use crate::fixtures::{AMD64, ARM64, ElfFile, GLIBC, MUSL, Tar, image};

fn config() -> ImageConfig {
    ImageConfig {
        os: "linux".into(),
        architecture: "amd64".into(),
        ..ImageConfig::default()
    }
}

fn judge_as(tar: Tar, config: &ImageConfig, command: &str) -> (Verdict, String) {
    let image = image(&[tar.bytes()]);
    let program = Resolver::new(&image, config).command(command);
    let why = reason(&program);
    (program.verdict, why)
}

fn judge(tar: Tar, command: &str) -> (Verdict, String) {
    judge_as(tar, &config(), command)
}

/// An image of Debian: its loader, its libc, and one more library.
fn debian() -> Tar {
    let loader = ElfFile {
        tail: b"\0/lib/x86_64-linux-gnu/\0/usr/lib/x86_64-linux-gnu/\0/lib/\0/usr/lib/\0".to_vec(),
        ..ElfFile::library("ld-linux-x86-64.so.2", &[])
    };
    Tar::new()
        .symlink("lib", "usr/lib")
        .symlink("lib64", "usr/lib64")
        .symlink(
            "usr/lib64/ld-linux-x86-64.so.2",
            "../lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
        )
        .file(
            "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
            0o755,
            &loader.bytes(),
        )
        .file(
            "usr/lib/x86_64-linux-gnu/libc.so.6",
            0o755,
            &ElfFile::library("libc.so.6", &["ld-linux-x86-64.so.2"]).bytes(),
        )
}

fn elf(tar: Tar, path: &str, file: &ElfFile) -> Tar {
    tar.file(path, 0o755, &file.bytes())
}

#[test]
fn a_static_program_runs_on_scratch() {
    let tar = elf(Tar::new(), "app", &ElfFile::default());
    assert_eq!(judge(tar, "/app").0, Verdict::Runnable);
}

#[test]
fn a_dynamic_program_on_scratch_lacks_its_loader_and_its_libraries() {
    let tar = elf(Tar::new(), "app", &ElfFile::program(GLIBC, &["libc.so.6"]));
    assert_eq!(
        judge(tar, "/app").1,
        "/app needs /lib64/ld-linux-x86-64.so.2 and libc.so.6, which are missing from the image"
    );
}

#[test]
fn a_dynamic_program_runs_where_its_loader_and_libraries_are_behind_links() {
    let tar = elf(debian(), "app", &ElfFile::program(GLIBC, &["libc.so.6"]));
    assert_eq!(judge(tar, "/app").0, Verdict::Runnable);
}

#[test]
fn a_library_of_a_library_may_be_missing() {
    let tar = elf(
        debian(),
        "app",
        &ElfFile::program(GLIBC, &["liba.so", "libc.so.6"]),
    );
    let tar = elf(
        tar,
        "usr/lib/liba.so",
        &ElfFile::library("liba.so", &["libb.so.2"]),
    );
    let (verdict, why) = judge(tar, "/app");
    assert_eq!(why, "/app needs libb.so.2, which is missing from the image");
    assert!(
        matches!(verdict, Verdict::Missing { libraries, .. } if libraries[0].needed_by == "/usr/lib/liba.so")
    );
}

#[test]
fn only_the_directories_that_the_loader_was_built_with_are_searched() {
    // Debian's loader does not look into /usr/lib64.
    let app = ElfFile::program(GLIBC, &["libx.so"]);
    let library = ElfFile::library("libx.so", &[]);
    let tar = elf(elf(debian(), "app", &app), "usr/lib64/libx.so", &library);
    assert!(matches!(judge(tar, "/app").0, Verdict::Missing { .. }));
    let tar = elf(elf(debian(), "app", &app), "usr/lib/libx.so", &library);
    assert_eq!(judge(tar, "/app").0, Verdict::Runnable);
}

#[test]
fn search_paths_of_programs_are_followed_as_the_loader_follows_them() {
    let library = ElfFile::library("libx.so", &[]);
    for (path, rpath, runpath, runs) in [
        ("opt/app/lib/libx.so", Some("$ORIGIN/../lib"), None, true),
        ("opt/app/lib/libx.so", None, Some("${ORIGIN}/../lib"), true),
        ("opt/other/libx.so", None, Some("/nowhere:/opt/other"), true),
        // A RUNPATH makes the loader pass over RPATH.
        (
            "opt/other/libx.so",
            Some("/opt/other"),
            Some("/nowhere"),
            false,
        ),
    ] {
        let app = ElfFile {
            rpath,
            runpath,
            ..ElfFile::program(GLIBC, &["libx.so"])
        };
        let tar = elf(elf(debian(), "opt/app/bin/app", &app), path, &library);
        let runnable = judge(tar, "/opt/app/bin/app").0 == Verdict::Runnable;
        assert_eq!(runnable, runs, "{rpath:?} {runpath:?}");
    }
}

#[test]
fn the_rpath_of_a_program_serves_its_libraries_and_its_runpath_does_not() {
    for (rpath, runpath, runs) in [(Some("/opt"), None, true), (None, Some("/opt"), false)] {
        let app = ElfFile {
            rpath,
            runpath,
            ..ElfFile::program(GLIBC, &["liba.so"])
        };
        let tar = elf(debian(), "app", &app);
        let tar = elf(
            tar,
            "opt/liba.so",
            &ElfFile::library("liba.so", &["libb.so"]),
        );
        let tar = elf(tar, "opt/libb.so", &ElfFile::library("libb.so", &[]));
        assert_eq!(judge(tar, "/app").0 == Verdict::Runnable, runs, "{rpath:?}");
    }
}

#[test]
fn ld_library_path_of_the_config_counts() {
    let mut config = config();
    config.env = vec!["LD_LIBRARY_PATH=/opt/x:/opt/y".into()];
    let tar = elf(debian(), "app", &ElfFile::program(GLIBC, &["libx.so"]));
    let tar = elf(tar, "opt/y/libx.so", &ElfFile::library("libx.so", &[]));
    assert_eq!(judge_as(tar, &config, "/app").0, Verdict::Runnable);
}

#[test]
fn a_folder_that_only_ldconfig_knows_is_not_searched_and_the_message_says_so() {
    let tar = elf(debian(), "app", &ElfFile::program(GLIBC, &["libx.so"]))
        .file(
            "etc/ld.so.conf",
            0o644,
            b"include /etc/ld.so.conf.d/*.conf\n",
        )
        .file("etc/ld.so.conf.d/x.conf", 0o644, b"# mine\n/opt/lib\n");
    let tar = elf(tar, "opt/lib/libx.so", &ElfFile::library("libx.so", &[]));
    let (verdict, why) = judge(tar, "/app");
    assert!(matches!(verdict, Verdict::Missing { .. }));
    assert!(
        why.contains("/opt/lib/libx.so exists, but is missing from /etc/ld.so.cache")
            && why.contains("run ldconfig"),
        "{why}"
    );
}

#[test]
fn a_library_for_another_machine_is_passed_over_and_named() {
    let other = ElfFile {
        machine: ARM64,
        ..ElfFile::library("libx.so", &[])
    };
    let tar = elf(debian(), "app", &ElfFile::program(GLIBC, &["libx.so"]));
    let tar = elf(tar, "usr/lib/libx.so", &other);
    assert_eq!(
        judge(tar, "/app").1,
        "/app does not start: needs libx.so, and /lib/libx.so is for arm64"
    );
}

#[test]
fn a_library_that_is_older_than_the_program_is_told() {
    let library = ElfFile {
        versions: vec!["X_1.0", "X_1.1"],
        ..ElfFile::library("libx.so.1", &[])
    };
    let run = |version| {
        let app = ElfFile {
            versions_needed: vec![("libx.so.1", version)],
            ..ElfFile::program(GLIBC, &["libx.so.1"])
        };
        judge(
            elf(elf(debian(), "app", &app), "usr/lib/libx.so.1", &library),
            "/app",
        )
    };
    assert_eq!(run("X_1.1").0, Verdict::Runnable);
    assert_eq!(
        run("X_1.2").1,
        "/app does not start: needs X_1.2 of libx.so.1, and /usr/lib/libx.so.1 does not have that version"
    );
}

#[test]
fn musl_finds_its_own_libc_and_its_own_directories() {
    let base = || {
        elf(
            Tar::new(),
            "lib/ld-musl-x86_64.so.1",
            &ElfFile::library("libc.musl-x86_64.so.1", &[]),
        )
    };
    let app = ElfFile::program(MUSL, &["libc.musl-x86_64.so.1", "libz.so.1"]);
    let library = ElfFile::library("libz.so.1", &[]);
    let tar = elf(
        elf(base(), "app", &app),
        "usr/local/lib/libz.so.1",
        &library,
    );
    assert_eq!(judge(tar, "/app").0, Verdict::Runnable);
    let tar = elf(elf(base(), "app", &app), "opt/libz.so.1", &library);
    assert_eq!(
        judge(tar, "/app").1,
        "/app needs libz.so.1, which is missing from the image"
    );
    let tar = elf(elf(base(), "app", &app), "opt/libz.so.1", &library).file(
        "etc/ld-musl-x86_64.path",
        0o644,
        b"/opt\n/lib\n",
    );
    assert_eq!(judge(tar, "/app").0, Verdict::Runnable);
    // A program of glibc on Alpine.
    let tar = elf(base(), "app", &ElfFile::program(GLIBC, &["libc.so.6"]));
    assert!(
        judge(tar, "/app")
            .1
            .starts_with("/app needs /lib64/ld-linux-x86-64.so.2")
    );
}

#[test]
fn a_program_for_another_machine_is_told() {
    let file = |machine| ElfFile {
        machine,
        ..ElfFile::default()
    };
    let tar = elf(Tar::new(), "app", &file(ARM64));
    assert_eq!(
        judge(tar, "/app").1,
        "/app is for arm64, and the image for amd64"
    );
    assert_eq!(
        judge(elf(Tar::new(), "app", &file(AMD64)), "/app").0,
        Verdict::Runnable
    );
}

#[test]
fn a_script_needs_its_interpreter() {
    let shell = || elf(Tar::new(), "bin/sh", &ElfFile::default());
    let run = |tar: Tar, line: &str| judge(tar.file("run", 0o755, line.as_bytes()), "/run");
    assert_eq!(run(shell(), "#!/bin/sh\necho").0, Verdict::Runnable);
    assert_eq!(run(shell(), "#! /bin/sh -e\necho").0, Verdict::Runnable);
    assert_eq!(
        run(shell(), "#!/bin/bash\n").1,
        "/run needs /bin/bash, which is missing from the image"
    );
    assert!(
        run(shell(), "#!/bin/sh\r\necho\r\n")
            .1
            .contains("Windows line endings (CRLF)")
    );
    assert!(
        run(shell(), "echo")
            .1
            .contains("neither an ELF program nor a script")
    );
    assert!(run(shell(), "").1.contains("is empty"));
    assert!(run(shell(), "#!\n").1.contains("and no interpreter"));
    // A script that is its own interpreter.
    assert!(matches!(
        run(shell(), "#!/run\n").0,
        Verdict::Missing { .. }
    ));
}

#[test]
fn env_looks_its_program_up_in_the_path() {
    let base = || {
        let tar = elf(Tar::new(), "usr/bin/env", &ElfFile::default());
        elf(tar, "usr/bin/node", &ElfFile::default())
    };
    let run = |line: &str| judge(base().file("run", 0o755, line.as_bytes()), "/run");
    assert_eq!(run("#!/usr/bin/env node\n").0, Verdict::Runnable);
    assert_eq!(run("#!/usr/bin/env -S A=1 node --x\n").0, Verdict::Runnable);
    assert!(matches!(
        run("#!/usr/bin/env node --x\n").0,
        Verdict::Missing { .. }
    ));
    assert!(
        run("#!/usr/bin/env python3\n")
            .1
            .contains("python3 not found in PATH")
    );
}

#[test]
fn a_name_without_a_slash_is_looked_up_in_the_path_of_the_config() {
    let tar = || elf(Tar::new(), "opt/bin/app", &ElfFile::default());
    let (verdict, why) = judge(tar(), "app");
    assert!(matches!(verdict, Verdict::NotFound(_)));
    assert!(
        why.starts_with("app not found in PATH (/usr/local/sbin:"),
        "{why}"
    );
    let mut config = config();
    config.env = vec!["PATH=/bin:/opt/bin".into()];
    assert_eq!(judge_as(tar(), &config, "app").0, Verdict::Runnable);
    config.working_dir = "/opt".into();
    assert_eq!(judge_as(tar(), &config, "bin/app").0, Verdict::Runnable);
    assert_eq!(judge_as(tar(), &config, "./bin/app").0, Verdict::Runnable);
}

#[test]
fn permissions_count_also_those_of_the_folders_above_and_of_the_loader() {
    let app = ElfFile::default().bytes();
    let user = |user: &str| ImageConfig {
        user: user.into(),
        ..config()
    };
    let plain = Tar::new().file("app", 0o644, &app);
    assert!(judge(plain, "/app").1.contains("not executable (mode 644)"));
    let owned = || Tar::new().owned("app", 0o700, 10, &app);
    assert_eq!(judge_as(owned(), &user("10"), "/app").0, Verdict::Runnable);
    assert_eq!(judge_as(owned(), &user("0"), "/app").0, Verdict::Runnable);
    assert!(
        judge_as(owned(), &user("11"), "/app")
            .1
            .contains("user 11 may not execute /app")
    );
    let inside = || Tar::new().folder("srv", 0o700).file("srv/app", 0o755, &app);
    assert!(
        judge_as(inside(), &user("11:11"), "/srv/app")
            .1
            .contains("may not enter /srv")
    );
    assert_eq!(
        judge_as(inside(), &user(""), "/srv/app").0,
        Verdict::Runnable
    );
    let loader = ElfFile::library("ld-linux-x86-64.so.2", &[]).bytes();
    let tar = elf(Tar::new(), "app", &ElfFile::program(GLIBC, &[])).file(
        "lib64/ld-linux-x86-64.so.2",
        0o644,
        &loader,
    );
    assert!(
        judge(tar, "/app")
            .1
            .contains("/lib64/ld-linux-x86-64.so.2 is not executable")
    );
}

#[test]
fn a_dangling_link_and_a_folder_are_told() {
    let tar = || Tar::new().symlink("app", "bin/app").folder("d", 0o755);
    assert_eq!(
        judge(tar(), "/app").1,
        "/app not found: a symbolic link leads to /bin, which does not exist"
    );
    assert_eq!(judge(tar(), "/d").1, "/d is not a file");
    assert_eq!(judge(tar(), "").1, "the command is an empty string");
}

#[test]
fn a_library_is_no_program() {
    let tar = elf(Tar::new(), "lib.so", &ElfFile::library("lib.so", &[]));
    assert!(judge(tar, "/lib.so").1.contains("is a library"));
}

#[test]
fn what_is_missing_in_an_image_that_was_not_read_whole_is_not_known() {
    let tar =
        elf(Tar::new(), "app", &ElfFile::program(GLIBC, &["libc.so.6"])).hard_link("x", "missing");
    let image = image(&[tar.bytes()]);
    let config = config();
    let mut resolver = Resolver::new(&image, &config);
    assert!(matches!(
        resolver.command("/app").verdict,
        Verdict::Unknown(_)
    ));
    assert!(matches!(
        resolver.command("/other").verdict,
        Verdict::Unknown(_)
    ));
}
