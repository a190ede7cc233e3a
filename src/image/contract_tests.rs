use super::*;
use crate::contents::{CaCertificates, LayerSize, Listed, Privileged, SizedFile, TimeZones, Tmp};
use crate::fixtures::{ARM64, ElfFile, GLIBC, MUSL, Tar, image};
use crate::{ImageConfig, Note};

fn report(tar: Tar, command: &[&str], user: &str) -> Contents {
    let config = ImageConfig {
        os: "linux".into(),
        architecture: "amd64".into(),
        entrypoint: command.iter().map(|word| (*word).to_owned()).collect(),
        user: user.into(),
        ..ImageConfig::default()
    };
    Contents::of(&image(&[tar.bytes()]), &config, 1_750_000_000)
}

fn broken(rule: Rule, contents: &Contents) -> String {
    match check(rule, contents, None) {
        Outcome::Broken(message) => message,
        other => panic!("{rule:?}: {other:?}"),
    }
}

/// An image that keeps every rule.
fn good() -> Contents {
    Contents {
        ca_certificates: Some(CaCertificates {
            path: "/etc/ssl/certs/ca-certificates.crt".into(),
            certificates: 140,
            expired: 2,
            unreadable: 0,
        }),
        time_zones: Some(TimeZones {
            path: "/usr/share/zoneinfo".into(),
            files: 600,
        }),
        tmp: Tmp {
            exists: true,
            writable: true,
            mode: Some("1777".into()),
        },
        ..report(
            Tar::new().file("app", 0o755, &ElfFile::default().bytes()),
            &["/app"],
            "65532:65532",
        )
    }
}

#[test]
fn an_image_that_is_as_it_should_be_keeps_every_rule() {
    for rule in Rule::ALL {
        assert_eq!(
            check(rule, &good(), Some("linux/amd64")),
            Outcome::Kept,
            "{rule:?}"
        );
        assert_eq!(Rule::named(rule.name()), Some(rule));
        assert_eq!(serde_json::to_value(rule).unwrap(), rule.name());
    }
}

#[test]
fn a_dynamic_program_on_scratch_is_told_what_it_needs_and_what_to_do() {
    let app = ElfFile::program(GLIBC, &["libc.so.6"]).bytes();
    let contents = report(Tar::new().file("app", 0o755, &app), &["/app"], "");
    assert_eq!(
        broken(Rule::RunnableEntrypoint, &contents),
        "/app needs /lib64/ld-linux-x86-64.so.2 and libc.so.6, which are missing from the image: \
            link it statically (C: -static; Rust: build for a target such as \
            x86_64-unknown-linux-musl; Go: CGO_ENABLED=0), or use \
            gcr.io/distroless/base-debian12"
    );
    assert!(broken(Rule::StaticBinary, &contents).starts_with("/app is linked dynamically, with"));
    let app = ElfFile::program(GLIBC, &["libstdc++.so.6"]).bytes();
    let contents = report(Tar::new().file("app", 0o755, &app), &["/app"], "");
    assert!(broken(Rule::RunnableEntrypoint, &contents).ends_with("gcr.io/distroless/cc-debian12"));
}

#[test]
fn a_program_of_glibc_on_alpine_is_told_so() {
    let tar = Tar::new()
        .file(
            "app",
            0o755,
            &ElfFile::program(GLIBC, &["libc.so.6"]).bytes(),
        )
        .file("etc/os-release", 0o644, b"ID=alpine\n")
        .file(
            "lib/ld-musl-x86_64.so.1",
            0o755,
            &ElfFile::library("libc.so", &[]).bytes(),
        );
    let message = broken(Rule::RunnableEntrypoint, &report(tar, &["/app"], ""));
    assert!(
        message.contains("it was built for glibc, and the image has musl"),
        "{message}"
    );
    let app = ElfFile::program(MUSL, &[]).bytes();
    let message = broken(
        Rule::RunnableEntrypoint,
        &report(Tar::new().file("app", 0o755, &app), &["/app"], ""),
    );
    assert!(
        message.contains(": link it statically (C: -static;")
            && message.ends_with(", or use alpine as the base"),
        "{message}"
    );
}

#[test]
fn the_cure_is_that_of_the_language_where_the_program_shows_it() {
    let fix = |program: &Executable| statically(program);
    let needs = |libraries: &[&str]| Executable {
        needed: libraries.iter().map(|name| (*name).to_owned()).collect(),
        ..Executable::default()
    };
    let go = Executable {
        go: true,
        ..needs(&["libc.so.6"])
    };
    assert_eq!(fix(&go), "build with CGO_ENABLED=0");
    for (libraries, words) in [
        (&["libstdc++.so.6", "libgcc_s.so.1"][..], "C++: -static"),
        (&["libgcc_s.so.1", "libc.so.6"], "(Rust: "),
    ] {
        let text = fix(&needs(libraries));
        assert!(
            text.contains(words) && !text.contains("CGO_ENABLED"),
            "{text}"
        );
    }
    // It may be any: each language has its own switch.
    assert!(fix(&needs(&["libc.so.6"])).contains("C: -static; Rust: "));
    assert!(fix(&needs(&["libc.so.6"])).contains("Go: CGO_ENABLED=0"));
}

#[test]
fn a_shell_form_without_a_shell_is_told_to_be_written_as_an_array() {
    let tar = Tar::new().file("app", 0o755, &ElfFile::default().bytes());
    let message = broken(
        Rule::RunnableEntrypoint,
        &report(tar, &["/bin/sh", "-c", "/app"], ""),
    );
    assert_eq!(
        message,
        "/bin/sh not found: ENTRYPOINT or CMD is in shell form, which needs that shell: \
         write it as a JSON array, for example ENTRYPOINT [\"/app\"]"
    );
}

#[test]
fn a_program_that_lies_elsewhere_is_named() {
    let tar = Tar::new().file("usr/local/bin/app", 0o755, &ElfFile::default().bytes());
    let message = broken(Rule::RunnableEntrypoint, &report(tar, &["/app"], ""));
    assert!(
        message.contains("the image has /usr/local/bin/app"),
        "{message}"
    );
    let tar = Tar::new().file("app", 0o644, &ElfFile::default().bytes());
    let message = broken(Rule::RunnableEntrypoint, &report(tar, &["/app"], ""));
    assert!(message.contains("COPY --chmod=755"), "{message}");
}

#[test]
fn another_platform_is_told_by_the_config_and_by_the_program() {
    assert!(matches!(
        check(Rule::PlatformMatches, &good(), Some("linux/arm64")),
        Outcome::Broken(message) if message.contains("config says linux/amd64, and linux/arm64 was requested")
    ));
    assert_eq!(
        check(Rule::PlatformMatches, &good(), Some("linux/amd64/v3")),
        Outcome::Kept
    );
    let arm = ElfFile {
        machine: ARM64,
        ..ElfFile::default()
    };
    let contents = report(Tar::new().file("app", 0o755, &arm.bytes()), &["/app"], "");
    for rule in Rule::DEFAULT {
        assert!(
            broken(rule, &contents).starts_with(
                "/app is for arm64, and the image for amd64: build it for linux/amd64"
            )
        );
    }
}

#[test]
fn users_are_told_what_to_write() {
    let tar = || {
        Tar::new().file(
            "etc/passwd",
            0o644,
            b"root:x:0:0::/:/bin/sh\napp:x:1000:1001::/:/bin/sh\n",
        )
    };
    let contents = report(tar(), &["/app"], "");
    assert!(broken(Rule::NonRoot, &contents).contains("sets no USER"));
    assert_eq!(check(Rule::NumericUser, &contents, None), Outcome::Kept);
    let contents = report(tar(), &["/app"], "app");
    assert_eq!(check(Rule::NonRoot, &contents, None), Outcome::Kept);
    assert!(broken(Rule::NumericUser, &contents).ends_with("write USER 1000:1001"));
    assert!(
        broken(Rule::NonRoot, &report(tar(), &["/app"], "root")).starts_with("USER root is root")
    );
    assert!(matches!(
        check(Rule::NonRoot, &report(tar(), &["/app"], "web"), None),
        Outcome::Unknown(_)
    ));
}

#[test]
fn what_should_not_be_there_is_named_with_a_bound() {
    let mut contents = good();
    contents.shells = (0..8).map(|index| format!("/bin/sh{index}")).collect();
    assert!(
        broken(Rule::NoShell, &contents).starts_with(
            "/bin/sh0, /bin/sh1, /bin/sh2, /bin/sh3, /bin/sh4 and 3 more are shells: "
        )
    );
    contents.package_managers = vec!["/sbin/apk".into()];
    assert!(
        broken(Rule::NoPackageManager, &contents).starts_with("/sbin/apk is a package manager: ")
    );
    contents.setuid.items.push(Privileged {
        path: "/bin/su".into(),
        mode: "4755".into(),
        uid: 0,
        capabilities: Vec::new(),
    });
    assert!(broken(Rule::NoSetuid, &contents).starts_with("/bin/su gives its caller more rights"));
}

#[test]
fn what_is_missing_is_told_and_is_not_known_where_not_all_was_read() {
    let mut contents = report(Tar::new(), &["/app"], "");
    for rule in [Rule::CACertificates, Rule::TimeZones, Rule::TmpDirectory] {
        broken(rule, &contents);
    }
    contents.partial = true;
    contents.notes = Listed {
        items: vec![Note {
            layer: Some(1),
            message: "the layer is a bomb".into(),
        }],
        omitted: 0,
    };
    for rule in [
        Rule::CACertificates,
        Rule::TimeZones,
        Rule::TmpDirectory,
        Rule::NoShell,
    ] {
        let outcome = check(rule, &contents, None);
        assert!(
            matches!(&outcome, Outcome::Unknown(message) if message.contains("a bomb")),
            "{outcome:?}"
        );
    }
    let mut contents = good();
    contents.ca_certificates.as_mut().unwrap().expired = 100;
    assert!(broken(Rule::CACertificates, &contents).contains("100 of the 140 certificates"));
}

#[test]
fn two_rules_are_enforced_by_default_and_may_be_softened() {
    let contents = report(Tar::new(), &["/app"], "");
    let measured = Measured {
        size: 1,
        contents: Some(&contents),
    };
    let findings = judge(&Budget::default(), measured, None, None);
    assert_eq!(findings.len(), 1);
    assert_eq!(
        (findings[0].rule, findings[0].level),
        ("RunnableEntrypoint", Level::Enforce)
    );
    let budget = Budget {
        warn: vec![Rule::RunnableEntrypoint, Rule::TimeZones],
        enforce: vec![Rule::NonRoot],
        ..Budget::default()
    };
    let findings: Vec<_> = judge(&budget, measured, None, None)
        .into_iter()
        .map(|found| (found.rule, found.level))
        .collect();
    assert_eq!(
        findings,
        [
            ("RunnableEntrypoint", Level::Warn),
            ("TimeZones", Level::Warn),
            ("NonRoot", Level::Enforce)
        ]
    );
}

#[test]
fn what_is_not_known_fails_only_what_was_asked_for_by_name() {
    let mut contents = good();
    contents.start.program.runs = Runs::Unknown;
    let measured = Measured {
        size: 1,
        contents: Some(&contents),
    };
    let findings = judge(&Budget::default(), measured, None, None);
    assert_eq!(
        (findings[0].level, findings[0].certain),
        (Level::Warn, false)
    );
    let budget = Budget {
        enforce: vec![Rule::RunnableEntrypoint],
        ..Budget::default()
    };
    assert_eq!(
        judge(&budget, measured, None, None)[0].level,
        Level::Enforce
    );
}

fn heavy(layers: &[(&str, i64)], files: &[(&str, i64)]) -> Contents {
    Contents {
        layers: Listed {
            items: layers
                .iter()
                .map(|(instruction, size)| LayerSize {
                    instruction: Some((*instruction).into()),
                    size: *size,
                    ..LayerSize::default()
                })
                .collect(),
            omitted: 0,
        },
        largest: files
            .iter()
            .map(|(path, size)| SizedFile {
                path: (*path).into(),
                size: *size,
                layer: 1,
            })
            .collect(),
        ..good()
    }
}

#[test]
fn a_size_budget_that_breaks_names_the_layers_and_files_that_grew() {
    const MIB: i64 = 1 << 20;
    let old = heavy(
        &[("ADD rootfs /", MIB), ("COPY app /", 9 * MIB)],
        &[("/app", 20 * MIB)],
    );
    let new = heavy(
        &[
            ("ADD rootfs /", MIB),
            ("COPY app /", 10 * MIB),
            ("COPY models /", 14 * MIB),
        ],
        &[("/app", 22 * MIB), ("/models/a", 14 * MIB)],
    );
    let (old, new) = (
        Measured {
            size: 10 * MIB,
            contents: Some(&old),
        },
        Measured {
            size: 25 * MIB,
            contents: Some(&new),
        },
    );
    let budget = Budget {
        max_size: Some(20 * MIB),
        max_growth_percent: Some(10),
        ..Budget::default()
    };
    let messages: Vec<String> = judge(&budget, new, None, Some(old))
        .into_iter()
        .map(|found| found.message)
        .collect();
    assert_eq!(
        messages,
        [
            "the image is too large: 25.0 MiB, and maxSize is 20.0 MiB: what grew: layer 3 (COPY \
                models /) +14.0 MiB, layer 2 (COPY app /) +1.0 MiB, /models/a +14.0 MiB, /app \
                +2.0 MiB",
            "the image grew by 150 % (from 10.0 MiB to 25.0 MiB), and maxGrowthPercent is 10: what grew: layer 3 \
             (COPY models /) +14.0 MiB, layer 2 (COPY app /) +1.0 MiB, /models/a +14.0 MiB, /app +2.0 MiB"
        ]
    );
    assert!(
        judge(&budget, new, None, None)[0]
            .message
            .contains("the largest: layer 3 (COPY models /) 14.0 MiB")
    );
    let small = Measured {
        size: 11 * MIB,
        contents: None,
    };
    assert!(judge(&budget, small, None, Some(old)).is_empty());
    let unknown = Measured {
        size: 25 * MIB,
        contents: None,
    };
    assert_eq!(judge(&budget, unknown, None, None).len(), 1);
}

#[test]
fn what_capabilities_the_working_directory_and_a_broken_list_break_is_told_with_the_cure() {
    let with = |fault: Fault, message: &str| {
        let mut contents = good();
        contents.start.program = Executable {
            runs: Runs::No,
            fault: Some(fault),
            message: Some(message.into()),
            capabilities: vec!["cap_ipc_lock".into()],
            ..contents.start.program
        };
        broken(Rule::RunnableEntrypoint, &contents)
    };
    assert!(with(Fault::Capabilities, "x").contains("setcap -r"));
    assert!(with(Fault::Capabilities, "x").contains("cap_ipc_lock=p"));
    assert!(with(Fault::WorkingDirectory, "x").contains("WORKDIR"));
    assert!(with(Fault::ShellText, "x").contains("double quotes"));
}
