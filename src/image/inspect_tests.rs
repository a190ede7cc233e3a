use super::*;
use crate::CommandForm;
use crate::fixtures::{ElfFile, GLIBC, Tar, image};
use crate::{Image, Limits};

const NOW: i64 = 1_750_000_000;

fn config(command: &[&str]) -> ImageConfig {
    ImageConfig {
        os: "linux".into(),
        architecture: "amd64".into(),
        entrypoint: command.iter().map(|word| (*word).to_owned()).collect(),
        ..ImageConfig::default()
    }
}

fn report(tar: Tar, config: &ImageConfig) -> Contents {
    Contents::of(&image(&[tar.bytes()]), config, NOW)
}

fn app() -> Vec<u8> {
    ElfFile::default().bytes()
}

#[test]
fn an_image_on_scratch_has_its_program_and_nothing_else() {
    let tar = Tar::new().file("app", 0o755, &app());
    let found = report(tar, &config(&["/app", "serve"]));
    assert_eq!(found.base, Base::Scratch);
    assert_eq!(found.start.command, ["/app", "serve"]);
    assert_eq!(found.start.form, CommandForm::Exec);
    assert_eq!(found.start.program.runs, Runs::Yes);
    assert_eq!(found.start.program.kind, ProgramKind::Static);
    assert!(found.shells.is_empty() && found.package_managers.is_empty());
    assert!(found.ca_certificates.is_none() && found.time_zones.is_none());
    assert!(!found.tmp.exists);
    assert_eq!(found.executables.items.len(), 1);
    assert_eq!((found.files, found.bytes), (1, app().len() as i64));
    assert_eq!(found.platform, "linux/amd64");
}

#[test]
fn shells_and_package_managers_are_found_behind_links_and_only_where_they_run() {
    let tar = Tar::new()
        .file("bin/busybox", 0o755, &app())
        .symlink("bin/sh", "busybox")
        .file("usr/bin/bash", 0o755, &ElfFile::program(GLIBC, &[]).bytes())
        .symlink("bin/dpkg", "busybox")
        .file("sbin/apk", 0o755, &app())
        .file("srv/sh", 0o644, &app());
    let found = report(tar, &config(&["/bin/sh"]));
    assert_eq!(found.shells, ["/bin/sh", "/bin/busybox"]);
    assert_eq!(found.package_managers, ["/sbin/apk"]);
    assert_eq!(found.base, Base::Other);
    let sh = &found.executables.items[0];
    assert_eq!(
        (sh.path.as_str(), sh.file.as_deref()),
        ("/bin/sh", Some("/bin/busybox"))
    );
}

#[test]
fn folders_that_lead_elsewhere_are_listed() {
    let tar = Tar::new()
        .file("usr/bin/app", 0o755, &app())
        .symlink("bin", "usr/bin")
        .symlink("x", "missing")
        .symlink("y", "usr/bin/app");
    let found = report(tar, &config(&["/bin/app"]));
    assert_eq!(found.start.program.runs, Runs::Yes);
    let links: Vec<(&str, &str)> = found
        .links
        .items
        .iter()
        .map(|link| (link.path.as_str(), link.folder.as_str()))
        .collect();
    assert_eq!(links, [("/bin", "/usr/bin")]);
}

#[test]
fn path_and_workdir_are_told_and_each_file_in_path_that_may_be_run() {
    let tar = Tar::new()
        .file("usr/bin/notes", 0o755, b"echo no shebang\n")
        .file("srv/notes", 0o755, b"echo no shebang\n")
        .file("srv/readme", 0o644, b"echo no shebang\n")
        .file("srv/plugin.so.1", 0o755, b"echo no shebang\n")
        .file("srv/closed", 0o700, &app())
        .file("app", 0o755, &app());
    let config = ImageConfig {
        env: vec!["PATH=/usr/bin".into()],
        working_dir: "/srv".into(),
        ..config(&["/app"])
    };
    let found = report(tar, &config);
    assert_eq!(found.env_path.as_deref(), Some("/usr/bin"));
    assert_eq!(found.working_dir.as_deref(), Some("/srv"));
    let listed: Vec<(&str, Runs, bool)> = found
        .executables
        .items
        .iter()
        .map(|program| (program.path.as_str(), program.runs, program.restricted))
        .collect();
    assert_eq!(
        listed,
        [
            ("/app", Runs::Yes, false),
            ("/usr/bin/notes", Runs::No, false),
            ("/srv/closed", Runs::Yes, true),
        ]
    );
    assert_eq!(found.unmarked.items, ["/srv/notes"]);
}

#[test]
fn a_shell_form_is_told_and_what_it_starts_is_judged_where_that_is_plain() {
    let shell = || Tar::new().file("bin/sh", 0o755, &app());
    let found = report(shell(), &config(&["/bin/sh", "-c", "exec /app --port 1"]));
    assert_eq!(found.start.form, CommandForm::Shell);
    assert_eq!(found.start.decisive().path, "/app");
    assert_eq!(found.start.decisive().fault, Some(Fault::NotFound));
    for script in ["cd /x && ./app", "PATH=/x app", "$APP", "/opt/*/app"] {
        let found = report(shell(), &config(&["/bin/sh", "-c", script]));
        assert_eq!(found.start.then, None, "{script}");
    }
    let found = report(Tar::new(), &config(&["/bin/sh", "-c", "/app"]));
    assert_eq!(found.start.decisive().path, "/bin/sh");
}

#[test]
fn an_init_passes_on_to_the_program_that_it_is_given() {
    let tar = || Tar::new().file("tini", 0o755, &app());
    for command in [
        &["/tini", "--", "/app"][..],
        &["/tini", "-g", "--", "/app"],
        &["/tini", "/app"],
    ] {
        let found = report(tar(), &config(command));
        assert_eq!(found.start.decisive().path, "/app", "{command:?}");
    }
    assert_eq!(
        report(tar(), &config(&["/tini", "-p", "X", "/app"]))
            .start
            .then,
        None
    );
}

#[test]
fn without_a_command_and_with_an_unknown_user_nothing_starts() {
    let tar = || Tar::new().file("app", 0o755, &app());
    let found = report(tar(), &config(&[]));
    assert_eq!(found.start.program.fault, Some(Fault::NoCommand));
    let config = ImageConfig {
        user: "app".into(),
        ..config(&["/app"])
    };
    let found = report(tar(), &config);
    assert_eq!(found.start.program.fault, Some(Fault::UnknownUser));
    assert_eq!(found.user.unknown.as_deref(), Some("app"));
}

#[test]
fn certificates_are_found_in_files_by_links_in_folders_and_by_variables() {
    let pem = || {
        let mut parameters = rcgen::CertificateParams::new(vec!["ca.test".into()]).unwrap();
        parameters.not_after = rcgen::date_time_ymd(2020, 1, 1);
        let key = rcgen::KeyPair::generate().unwrap();
        parameters.self_signed(&key).unwrap().pem()
    };
    let bundle = [pem(), pem()].concat();
    let tar = Tar::new()
        .symlink("etc/ssl/cert.pem", "certs/bundle.pem")
        .file("etc/ssl/certs/bundle.pem", 0o644, bundle.as_bytes());
    let found = report(tar, &config(&["/app"])).ca_certificates.unwrap();
    assert_eq!(
        (found.path.as_str(), found.certificates, found.expired),
        ("/etc/ssl/cert.pem", 2, 2)
    );
    let tar = || {
        Tar::new()
            .file("usr/share/ca-certificates/a.crt", 0o644, pem().as_bytes())
            .symlink("etc/ssl/certs/a.pem", "/usr/share/ca-certificates/a.crt")
            .symlink("etc/ssl/certs/12345678.0", "a.pem")
    };
    let found = report(tar(), &config(&["/app"])).ca_certificates.unwrap();
    assert_eq!(
        (found.path.as_str(), found.certificates),
        ("/etc/ssl/certs", 1)
    );
    let mut chosen = config(&["/app"]);
    chosen.env = vec!["SSL_CERT_FILE=/usr/share/ca-certificates/a.crt".into()];
    let found = report(tar(), &chosen).ca_certificates.unwrap();
    assert_eq!(found.path, "/usr/share/ca-certificates/a.crt");
}

#[test]
fn time_zones_need_a_region() {
    let tar = Tar::new().file("usr/share/zoneinfo/UTC", 0o644, b"TZif");
    assert_eq!(report(tar, &config(&["/app"])).time_zones, None);
    let tar = Tar::new()
        .file("usr/share/zoneinfo/UTC", 0o644, b"TZif")
        .file("usr/share/zoneinfo/Europe/Berlin", 0o644, b"TZif");
    let found = report(tar, &config(&["/app"])).time_zones.unwrap();
    assert_eq!(
        (found.path.as_str(), found.files),
        ("/usr/share/zoneinfo", 2)
    );
}

#[test]
fn tmp_is_judged_for_the_user_of_the_image() {
    let user = |user: &str| ImageConfig {
        user: user.into(),
        ..config(&["/app"])
    };
    for (mode, name, writable) in [
        (0o1777, "65532", true),
        (0o755, "65532", false),
        (0o755, "", true),
        (0o755, "65532:65532", false),
    ] {
        let found = report(Tar::new().folder("tmp", mode), &user(name));
        assert_eq!(
            (found.tmp.exists, found.tmp.writable),
            (true, writable),
            "{mode:o} {name}"
        );
    }
}

#[test]
fn files_that_give_more_rights_are_listed() {
    let value = [1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let tar = Tar::new()
        .file("bin/su", 0o4755, &app())
        .file("bin/wall", 0o2755, &app())
        .file("lock", 0o2644, b"x")
        .pax(&[("SCHILY.xattr.security.capability", &value)])
        .file("bin/ping", 0o755, &app());
    let found = report(tar, &config(&["/app"])).setuid.items;
    let found: Vec<(&str, &str)> = found
        .iter()
        .map(|file| (file.path.as_str(), file.mode.as_str()))
        .collect();
    assert_eq!(
        found,
        [
            ("/bin/ping", "755"),
            ("/bin/su", "4755"),
            ("/bin/wall", "2755")
        ]
    );
}

#[test]
fn bytes_count_by_layer_and_hidden_ones_are_told() {
    let image = image(&[
        Tar::new()
            .file("a", 0o644, &[1; 1000])
            .file("b", 0o644, &[1; 500])
            .bytes(),
        Tar::new()
            .file("a", 0o644, &[1; 10])
            .hard_link("c", "b")
            .bytes(),
    ]);
    let config = ImageConfig {
        instructions: vec!["ADD rootfs /".into(), "RUN make".into()],
        ..config(&["/a"])
    };
    let found = Contents::of(&image, &config, NOW);
    assert_eq!((found.files, found.bytes), (2, 510));
    let layers: Vec<(i64, i64, Option<&str>)> = found
        .layers
        .items
        .iter()
        .map(|layer| (layer.content, layer.hidden, layer.instruction.as_deref()))
        .collect();
    assert_eq!(
        layers,
        [
            (1500, 1000, Some("ADD rootfs /")),
            (10, 0, Some("RUN make"))
        ]
    );
    assert_eq!(found.largest[0].path, "/b");
}

#[test]
fn the_base_shows_by_its_distribution_and_its_loader() {
    let release = |text: &str| {
        Tar::new()
            .file("usr/lib/os-release", 0o644, text.as_bytes())
            .symlink("etc/os-release", "../usr/lib/os-release")
    };
    let loader = ElfFile::library("ld-linux-x86-64.so.2", &[]).bytes();
    for (tar, base, id) in [
        (
            release("ID=alpine\nVERSION_ID=3.22.1\n").file(
                "lib/ld-musl-x86_64.so.1",
                0o755,
                &app(),
            ),
            Base::Musl,
            "alpine",
        ),
        (
            release("ID=debian\n").file("lib64/ld-linux-x86-64.so.2", 0o755, &loader),
            Base::Glibc,
            "debian",
        ),
        (
            release("PRETTY_NAME=\"Distroless\"\nID=\"debian\"\n"),
            Base::DistrolessStatic,
            "debian",
        ),
        (
            release("PRETTY_NAME=\"Distroless\"\nID=\"debian\"\n").file(
                "lib64/ld-linux-x86-64.so.2",
                0o755,
                &loader,
            ),
            Base::Distroless,
            "debian",
        ),
    ] {
        let found = report(tar, &config(&["/app"]));
        assert_eq!((found.base, found.os.unwrap().id.as_str()), (base, id));
    }
}

#[test]
fn the_report_is_the_same_after_json() {
    let mut tar = Tar::new();
    for index in 0..30 {
        tar = tar.file(&format!("bin/program-{index:02}"), 0o755, &app());
    }
    let found = report(tar, &config(&["/bin/program-29"]));
    let json = serde_json::to_string(&found).unwrap();
    assert_eq!(serde_json::from_str::<Contents>(&json).unwrap(), found);
}

#[test]
fn an_image_that_was_not_read_whole_says_so() {
    let mut image = Image::new(Limits {
        entries: 1,
        ..Limits::default()
    });
    let tar = Tar::new()
        .file("a", 0o755, &app())
        .file("app", 0o755, &app())
        .bytes();
    image.add_layer(&tar[..], &Default::default()).unwrap();
    let found = Contents::of(&image, &config(&["/app"]), NOW);
    assert!(found.partial);
    assert_eq!(found.start.program.runs, Runs::Unknown);
    assert!(
        found.notes.items[0]
            .message
            .contains("too many entries: more than 1 in")
    );
}

/// What RunnableEntrypoint says of a shell's text.
fn text(script: &str) -> (Runs, Option<Fault>, String) {
    let tar = Tar::new()
        .file("bin/sh", 0o755, &app())
        .file("usr/bin/mkdir", 0o755, &app())
        .file("usr/bin/app", 0o755, &app())
        .file("srv/app", 0o755, &app());
    let found = report(tar, &config(&["/bin/sh", "-c", script]));
    let program = found.start.decisive();
    let message = program.message.clone().unwrap_or_default();
    (program.runs, program.fault, message)
}

#[test]
fn a_list_that_is_no_json_is_told_with_what_the_shell_makes_of_it() {
    for (script, word) in [
        ("[\"app\"] # the service", "a program named [app]"),
        ("[\"app\", \"serve\"] # x", "a program named [app,"),
        ("[\"app\", \"serve\",]", "a program named [app,"),
        ("['app', 'serve']", "a program named [app,"),
        ("['app']", "a program named [app]"),
        ("[app]", "a program named [app]"),
        ("[app, serve]", "a program named [app,"),
        (
            "[\u{201c}app\u{201d}]",
            "a program named [\u{201c}app\u{201d}]",
        ),
        ("[\"app\"", "a program named [app"),
        ("[\"app\" \"serve\"]", "a program named [app"),
        ("[\"app]", "syntax error: missing closing quote"),
        ("[ \"app\", \"serve\" ] # x", "takes it for a test"),
        ("[ \"app\" ] # x", "takes it for a test"),
        ("[ \"app\", ]", "takes it for a test"),
        ("[ \"app\" \"serve\" ]", "takes it for a test"),
    ] {
        let (runs, fault, message) = text(script);
        assert_eq!(
            (runs, fault),
            (Runs::No, Some(Fault::ShellText)),
            "{script}"
        );
        assert!(message.contains(word), "{script}: {message}");
    }
    // Tests, and what goes on all the same.
    for script in [
        "[ -f /x ] && exec app",
        "[ \"$DEBUG\" ] && exec app",
        "[ \"-f\" \"/x\" ]",
        "[ \"!\" \"$A\" ]",
        "[ \"$A\" = b ] || exec app",
        "[[ -f /x ]] && app",
        "[\"x\"] || exec app",
        "[x]; exec app",
    ] {
        assert_eq!(text(script).0, Runs::Yes, "{script}");
    }
}

#[test]
fn what_a_shells_text_cannot_do_without_is_looked_up() {
    for (script, missing) in [
        ("server", "server not found in PATH"),
        ("exec server --port 1", "server not found in PATH"),
        ("A=1 server", "server not found in PATH"),
        ("server || exit 1", ""),
        ("mkdir -p /data && server", "server not found in PATH"),
        (
            "set -e; export A=1; mkdir -p /d; exec server",
            "server not found in PATH",
        ),
        ("set -e; mkdirs; exec app", "mkdirs not found in PATH"),
        ("echo starting && /srv/server", "/srv/server not found"),
        ("(server)", "server not found in PATH"),
        ("\"app\", \"serve\"", "app, not found in PATH"),
        // It goes on, or something else runs first that may never end.
        ("server; exec app", ""),
        ("app; server", ""),
        ("app && server", ""),
        ("server & app", ""),
        ("server | app", ""),
        ("if server; then app; fi", ""),
        ("PATH=/opt/bin:$PATH; server", ""),
        ("export PATH=/opt/bin:$PATH; server", ""),
        ("cd /srv && ./server", ""),
        (". /etc/profile; server", ""),
        ("f() { app; }; f", ""),
        ("nc -l 80", ""),
        ("set -e; (server); exec app", "server not found in PATH"),
        ("[ -x /opt/server ] && /opt/server; exec app", ""),
        ("set -e; [ -x /opt/server ] && /opt/server; exec app", ""),
        ("set -e; server && echo started; exec app", ""),
        ("set -ex; set +e; server; exec app", ""),
        ("set -o errexit; set +o errexit; server; exec app", ""),
        ("exec -a server app", ""),
        ("exec -c app", ""),
        ("exec -- app", ""),
        ("~/bin/server", ""),
        ("exec /opt/{server,app}", ""),
        ("exec /opt/serv*", ""),
        ("set -- -e; server; exec app", ""),
        ("app", ""),
        ("\"$@\"", ""),
        ("", ""),
    ] {
        let (runs, _, message) = text(script);
        assert_eq!(runs == Runs::No, !missing.is_empty(), "{script}: {message}");
        assert!(message.contains(missing), "{script}: {message}");
    }
}

#[test]
fn a_shell_is_seen_through_with_its_options_behind_an_init_and_as_cmd() {
    let tar = || {
        Tar::new()
            .file("bin/sh", 0o755, &app())
            .file("bin/bash", 0o755, &app())
            .file("bin/fish", 0o755, &app())
            .file("tini", 0o755, &app())
            .file("entry", 0o755, &app())
    };
    let of = |entrypoint: &[&str], cmd: &[&str]| {
        let config = ImageConfig {
            cmd: cmd.iter().map(|word| (*word).to_owned()).collect(),
            ..config(entrypoint)
        };
        let start = report(tar(), &config).start;
        let program = start.decisive();
        (program.runs, program.fault)
    };
    let (broken, missing) = (
        (Runs::No, Some(Fault::ShellText)),
        (Runs::No, Some(Fault::NotFound)),
    );
    let list = "[\"app\"] # x";
    for (entrypoint, cmd, expected) in [
        (
            &["/bin/bash", "-o", "pipefail", "-c", list][..],
            &[][..],
            broken,
        ),
        (
            &["/bin/bash", "-euxo", "pipefail", "-c", "app"],
            &[],
            missing,
        ),
        (&["/bin/bash", "-ec", "app"], &[], missing),
        (&["/tini", "--", "/bin/sh", "-c", list], &[], broken),
        (&["/tini", "--"], &["/bin/sh", "-c", "app"], missing),
        (&["/bin/sh", "-c", list], &["serve"], broken),
        (&[], &["/bin/sh", "-c", list], broken),
        // What the program makes of a shell and a text is its own affair.
        (&["/entry"], &["/bin/sh", "-c", list], (Runs::Unknown, None)),
        (&["/entry"], &["/bin/sh", "-c", "app"], (Runs::Yes, None)),
        // PATH may be another, and the language.
        (&["/bin/bash", "-lc", "app"], &[], (Runs::Yes, None)),
        (&["/bin/fish", "-c", "app"], &[], (Runs::Yes, None)),
        (&["/bin/sh", "/run.sh"], &[], (Runs::Yes, None)),
    ] {
        assert_eq!(of(entrypoint, cmd), expected, "{entrypoint:?} {cmd:?}");
    }
}

#[test]
fn a_working_directory_that_is_a_file_or_leads_nowhere_keeps_the_image_from_starting() {
    let of = |folder: &str| {
        let tar = Tar::new()
            .file("app", 0o755, &app())
            .symlink("lost", "/none");
        let config = ImageConfig {
            working_dir: folder.into(),
            ..config(&["/app"])
        };
        report(tar, &config).start.program
    };
    for folder in ["/app", "/lost", "/lost/below"] {
        let program = of(folder);
        assert_eq!(program.fault, Some(Fault::WorkingDirectory), "{folder}");
        assert_eq!(program.runs, Runs::No);
    }
    assert_eq!(of("/new").runs, Runs::Yes);
}

/// The attribute of a file: revision 2, as setcap writes it.
fn attribute(mask: u64, effective: bool) -> Vec<u8> {
    let mut value = vec![u8::from(effective), 0, 0, 2];
    value.extend((mask as u32).to_le_bytes());
    value.extend([0; 4]);
    value.extend(((mask >> 32) as u32).to_le_bytes());
    value.extend([0; 4]);
    value
}

const NET_BIND: u64 = 1 << 10;
const IPC_LOCK: u64 = 1 << 14;

#[test]
fn file_capabilities_decide_whether_a_container_starts_a_program() {
    let record = "SCHILY.xattr.security.capability";
    let with = |mask: u64, effective: bool, mode: u32| {
        Tar::new()
            .pax(&[(record, &attribute(mask, effective))])
            .file("app", mode, &app())
    };
    let start = |tar: Tar, user: &str, command: &str| {
        let config = ImageConfig {
            user: user.into(),
            ..config(&[command])
        };
        report(tar, &config).start.program
    };
    for user in ["", "1000"] {
        let program = start(with(IPC_LOCK, true, 0o755), user, "/app");
        assert_eq!(
            (program.runs, program.fault),
            (Runs::No, Some(Fault::Capabilities))
        );
        assert_eq!(program.capabilities, ["cap_ipc_lock"]);
        assert!(program.message.unwrap().contains("Operation not permitted"));
        let program = start(with(NET_BIND, true, 0o755), user, "/app");
        assert_eq!(
            (program.runs, program.fault),
            (Runs::Unknown, Some(Fault::Capabilities))
        );
        assert!(
            program
                .message
                .unwrap()
                .contains("drops no capabilities starts it")
        );
        let program = start(with(NET_BIND | IPC_LOCK, true, 0o755), user, "/app");
        assert_eq!(program.runs, Runs::No);
        // Without the effective bit, it starts without them; with setuid the same.
        for mask in [NET_BIND, IPC_LOCK] {
            assert_eq!(
                start(with(mask, false, 0o755), user, "/app").runs,
                Runs::Yes
            );
        }
        assert_eq!(
            start(with(IPC_LOCK, true, 0o4755), user, "/app").runs,
            Runs::No
        );
    }
    // By links; a copy without the attribute, and a file in its place, are free.
    let linked = with(IPC_LOCK, true, 0o755).symlink("run", "app");
    assert_eq!(start(linked, "", "/run").runs, Runs::No);
    let shared = with(IPC_LOCK, true, 0o755)
        .pax(&[(record, &attribute(IPC_LOCK, true))])
        .hard_link("run", "app");
    assert_eq!(start(shared, "", "/run").runs, Runs::No);
    let replaced = with(IPC_LOCK, true, 0o755).file("app", 0o755, &app());
    assert_eq!(start(replaced, "", "/app").runs, Runs::Yes);
    // Of a script the interpreter's count, and its own do not.
    let script = |mask: u64, tar: Tar| {
        tar.pax(&[(record, &attribute(mask, true))])
            .file("run", 0o755, b"#!/app\n")
    };
    let program = start(script(0, with(IPC_LOCK, true, 0o755)), "", "/run");
    assert_eq!(
        (program.runs, program.fault),
        (Runs::No, Some(Fault::Capabilities))
    );
    let free = Tar::new().file("app", 0o755, &app());
    assert_eq!(start(script(IPC_LOCK, free), "", "/run").runs, Runs::Yes);
    // What a shell starts has the same bounds.
    let shell = with(IPC_LOCK, true, 0o755).file("bin/sh", 0o755, &app());
    let found = report(shell, &config(&["/bin/sh", "-c", "exec /app"]));
    assert_eq!(found.start.decisive().fault, Some(Fault::Capabilities));
    assert!(
        found
            .executables
            .items
            .iter()
            .any(|program| program.capabilities == ["cap_ipc_lock"])
    );
}
