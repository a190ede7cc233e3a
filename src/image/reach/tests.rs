use super::*;
use crate::fixtures::{ElfFile, GLIBC, Tar};
use crate::{LayerSource, Limits};

fn read(layers: Vec<Tar>, base: u16) -> Image {
    let limits = Limits {
        reach: Some(base),
        ..Limits::default()
    };
    let mut image = Image::new(limits);
    for layer in layers {
        let bytes = layer.bytes();
        image
            .add_layer(&bytes[..], &LayerSource::default())
            .unwrap();
    }
    image
}

fn config(command: &[&str], instructions: &[&str]) -> ImageConfig {
    let own = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
    ImageConfig {
        os: "linux".into(),
        architecture: "amd64".into(),
        entrypoint: own(command),
        instructions: own(instructions),
        working_dir: "/app".into(),
        ..ImageConfig::default()
    }
}

/// The files and links that stay, in the order of their paths.
fn stays(image: &Image, config: &ImageConfig, base: Option<usize>) -> Vec<String> {
    let wanted = Wanted {
        base_layers: base,
        ..Wanted::default()
    };
    let reach = Reach::of(image, config, &wanted);
    let tree = &image.tree;
    let mut found: Vec<String> = tree
        .all()
        .filter(|id| reach.keeps(*id) && tree.meta(*id).kind != Kind::Directory)
        .map(|id| tree.path(id))
        .collect();
    found.sort();
    found
}

/// An ELF file with these texts in it.
fn naming(file: ElfFile, names: &[&str]) -> Vec<u8> {
    let mut tail = vec![0];
    for name in names {
        tail.extend_from_slice(name.as_bytes());
        tail.push(0);
    }
    ElfFile { tail, ..file }.bytes()
}

fn program(needed: &[&'static str]) -> ElfFile {
    ElfFile::program(GLIBC, needed)
}

fn loader() -> Vec<u8> {
    ElfFile::library("ld-linux-x86-64.so.2", &[]).bytes()
}

#[test]
fn a_program_has_its_loader_its_libraries_and_what_these_open_by_name() {
    let lib = "usr/lib/x86_64-linux-gnu";
    let library = |soname, needed: &[&'static str]| ElfFile::library(soname, needed);
    let image = read(
        vec![
            Tar::new()
                .symlink("lib64", "usr/lib64")
                .symlink("lib", "usr/lib")
                .file("usr/lib64/ld-linux-x86-64.so.2", 0o755, &loader())
                .file(
                    &format!("{lib}/libc.so.6"),
                    0o644,
                    &naming(
                        library("libc.so.6", &[]),
                        &["/bin/sh", &format!("/{lib}/gconv")],
                    ),
                )
                .symlink(&format!("{lib}/liba.so.1"), "liba.so.1.2.3")
                .file(
                    &format!("{lib}/liba.so.1.2.3"),
                    0o644,
                    &naming(library("liba.so.1", &["libc.so.6"]), &["libplugin.so"]),
                )
                .file(
                    &format!("{lib}/libplugin.so"),
                    0o644,
                    &library("libplugin.so", &[]).bytes(),
                )
                .file(
                    &format!("{lib}/libother.so.1"),
                    0o644,
                    &library("libother.so.1", &[]).bytes(),
                )
                .file(
                    &format!("{lib}/libnss_dns.so.2"),
                    0o644,
                    &library("libnss_dns.so.2", &[]).bytes(),
                )
                .file(
                    &format!("{lib}/libnss_sss.so.2"),
                    0o644,
                    &library("libnss_sss.so.2", &[]).bytes(),
                )
                .file(
                    &format!("{lib}/gconv/UTF-16.so"),
                    0o644,
                    &library("UTF-16.so", &[]).bytes(),
                )
                .file("bin/sh", 0o755, &program(&[]).bytes())
                .file("etc/nsswitch.conf", 0o644, b"hosts: files dns\n# sss\n")
                .file("usr/share/misc/magic.mgc", 0o644, b"magic")
                .file("usr/share/doc/magic", 0o644, b"prose"),
            Tar::new().file(
                "app/run",
                0o755,
                &naming(
                    program(&["liba.so.1"]),
                    &["/usr/share/misc/magic:/etc/magic"],
                ),
            ),
        ],
        1,
    );
    assert_eq!(
        stays(
            &image,
            &config(&["/app/run"], &["", "COPY run /app/"]),
            Some(1)
        ),
        [
            "/app/run",
            "/etc/nsswitch.conf",
            "/lib",
            "/lib64",
            "/usr/lib/x86_64-linux-gnu/liba.so.1",
            "/usr/lib/x86_64-linux-gnu/liba.so.1.2.3",
            "/usr/lib/x86_64-linux-gnu/libc.so.6",
            "/usr/lib/x86_64-linux-gnu/libnss_dns.so.2",
            "/usr/lib/x86_64-linux-gnu/libplugin.so",
            "/usr/lib64/ld-linux-x86-64.so.2",
            "/usr/share/misc/magic.mgc",
        ]
    );
}

#[test]
fn who_calls_system_or_converts_keeps_a_shell_and_the_converters() {
    let lib = "usr/lib/x86_64-linux-gnu";
    let libc = naming(
        ElfFile::library("libc.so.6", &[]),
        &["/bin/sh", &format!("/{lib}/gconv")],
    );
    let layer = |names: &[&str]| {
        read(
            vec![
                Tar::new()
                    .file("lib64/ld-linux-x86-64.so.2", 0o755, &loader())
                    .file(&format!("{lib}/libc.so.6"), 0o644, &libc)
                    .file(&format!("{lib}/gconv/UTF-16.so"), 0o644, b"converter")
                    .file("bin/sh", 0o755, &ElfFile::default().bytes()),
                Tar::new().file("app/run", 0o755, &naming(program(&["libc.so.6"]), names)),
            ],
            1,
        )
    };
    let config = config(&["/app/run"], &["", "COPY run /app/"]);
    let has = |names: &[&str]| {
        let found = stays(&layer(names), &config, Some(1));
        let is_there = |end: &str| found.iter().any(|path| path.ends_with(end));
        (is_there("/bin/sh"), is_there("UTF-16.so"))
    };
    assert_eq!(has(&["puts"]), (false, false));
    assert_eq!(has(&["system"]), (true, false));
    assert_eq!(has(&["iconv_open"]), (false, true));
}

#[test]
fn a_script_has_its_interpreter_and_the_programs_that_it_calls() {
    let text = b"#!/bin/sh\n# make nothing\nset -e\nif id app >/dev/null; then chown app /data; fi\nexec gosu app /app/server \"$@\"\n";
    let image = read(
        vec![
            Tar::new()
                .file("bin/sh", 0o755, &ElfFile::default().bytes())
                .file("usr/bin/id", 0o755, &ElfFile::default().bytes())
                .file("usr/bin/chown", 0o755, &ElfFile::default().bytes())
                .file("usr/bin/make-up", 0o755, &ElfFile::default().bytes())
                .file("usr/bin/gosu", 0o755, &ElfFile::default().bytes()),
            Tar::new().file("entrypoint.sh", 0o755, text).file(
                "app/server",
                0o755,
                &ElfFile::default().bytes(),
            ),
        ],
        1,
    );
    assert_eq!(
        stays(
            &image,
            &config(&["/entrypoint.sh"], &["", "COPY . /"]),
            Some(1)
        ),
        [
            "/app/server",
            "/bin/sh",
            "/entrypoint.sh",
            "/usr/bin/chown",
            "/usr/bin/gosu",
            "/usr/bin/id"
        ]
    );
}

const STATUS: &str = "Package: tool\nStatus: install ok installed\nArchitecture: amd64\nDepends: libtool (>= 1), debconf | debconf-2.0\n\n\
    Package: libtool\nStatus: install ok installed\nArchitecture: amd64\n\n\
    Package: debconf\nStatus: install ok installed\nArchitecture: all\n\n\
    Package: gone\nStatus: deinstall ok config-files\nArchitecture: all\n\n";

fn dpkg() -> Tar {
    Tar::new()
        .file("var/lib/dpkg/status", 0o644, STATUS.as_bytes())
        .file(
            "var/lib/apt/extended_states",
            0o644,
            b"Package: tool\nAuto-Installed: 1\n\nPackage: libtool\nAuto-Installed: 1\n",
        )
        .file(
            "var/lib/dpkg/info/tool.list",
            0o644,
            b"/.\n/usr\n/usr/bin/tool\n/usr/bin/ffmpeg\n",
        )
        .file(
            "var/lib/dpkg/info/libtool:amd64.list",
            0o644,
            b"/usr/lib/libtool.txt\n",
        )
        .file(
            "var/lib/dpkg/info/debconf.list",
            0o644,
            b"/usr/bin/debconf\n",
        )
        .file("usr/bin/tool", 0o755, &ElfFile::default().bytes())
        .file("usr/bin/ffmpeg", 0o755, &ElfFile::default().bytes())
        .file("usr/lib/libtool.txt", 0o644, b"x")
        .file("usr/bin/debconf", 0o755, &ElfFile::default().bytes())
}

#[test]
fn what_the_own_run_made_stays_but_for_packages_caches_and_what_compilers_leave() {
    let image = read(
        vec![
            Tar::new().file("usr/bin/base", 0o755, &ElfFile::default().bytes()),
            dpkg(),
            Tar::new().file("app/main.py", 0o644, b"x = 'tool'").file(
                "usr/local/go/VERSION",
                0o644,
                b"own",
            ),
            Tar::new()
                .file("opt/model.bin", 0o644, b"\0model")
                .file("root/.cache/pip/x", 0o644, b"x")
                .file("go/pkg/mod/x", 0o644, b"x")
                .file("usr/local/share/mine/y", 0o644, b"y")
                .file(
                    "app/target/CACHEDIR.TAG",
                    0o644,
                    b"Signature: 8a477f597d28d172789f06886806bc55",
                )
                .file("app/target/debug/deps/z", 0o644, b"z"),
        ],
        1,
    );
    let instructions = ["", "RUN apt-get install tool", "COPY . /app", "RUN make"];
    let config = config(&["/app/target/debug/deps/z"], &instructions);
    assert_eq!(
        stays(&image, &config, Some(1)),
        [
            "/app/main.py",
            "/app/target/debug/deps/z",
            "/opt/model.bin",
            "/usr/bin/tool",
            "/usr/local/go/VERSION",
            "/usr/local/share/mine/y",
            "/var/lib/dpkg/status"
        ]
    );
    // Where nobody knows what is the base's, a toolchain is one.
    let found = stays(&image, &config, None);
    assert!(!found.contains(&"/usr/local/go/VERSION".to_owned()));
    assert!(found.contains(&"/app/main.py".to_owned()));
}

#[test]
fn the_database_of_packages_has_those_of_which_something_stays() {
    let image = read(vec![dpkg()], 1);
    let wanted = Wanted {
        base_layers: Some(1),
        ..Wanted::default()
    };
    let reach = Reach::of(&image, &config(&["/usr/bin/tool"], &[""]), &wanted);
    let id = image.tree.find("/var/lib/dpkg/status").unwrap();
    let text = String::from_utf8(reach.replaced[&id].clone()).unwrap();
    let names: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("Package"))
        .collect();
    assert_eq!(names, ["Package: tool"]);
    assert!(text.ends_with("\n\n") && !text.ends_with("\n\n\n"));
}

#[test]
fn a_quoted_word_brings_what_the_own_dockerfile_installed_and_nothing_of_the_base() {
    let layers = |base: Tar, own: Tar| {
        let app = Tar::new().file("app/main.py", 0o644, b"run(['ffmpeg', '-i'])");
        read(vec![base, own, app], 1)
    };
    let config = config(
        &["/app/main.py"],
        &["", "RUN apt-get install", "COPY . /app"],
    );
    let has =
        |image: &Image| stays(image, &config, Some(1)).contains(&"/usr/bin/ffmpeg".to_owned());
    assert!(has(&layers(Tar::new().folder("x", 0o755), dpkg())));
    assert!(!has(&layers(dpkg(), Tar::new().folder("x", 0o755))));
}

#[test]
fn a_runtime_is_whole_with_the_packages_that_it_needs_and_without_its_tests() {
    let status = "Package: python3.11\nStatus: install ok installed\nDepends: libpython3.11-stdlib, media-types, dpkg\n\n\
        Package: libpython3.11-stdlib\nStatus: install ok installed\n\nPackage: media-types\nStatus: install ok installed\n\n\
        Package: dpkg\nStatus: install ok installed\n";
    let image = read(
        vec![
            Tar::new()
                .file("var/lib/dpkg/status", 0o644, status.as_bytes())
                .file(
                    "var/lib/dpkg/info/python3.11.list",
                    0o644,
                    b"/usr/bin/python3.11\n/usr/share/doc/python3.11/README\n",
                )
                .file(
                    "var/lib/dpkg/info/media-types.list",
                    0o644,
                    b"/usr/share/media/types\n",
                )
                .file("var/lib/dpkg/info/dpkg.list", 0o644, b"/usr/bin/dpkg\n")
                .file("usr/bin/python3.11", 0o755, &ElfFile::default().bytes())
                .symlink("usr/bin/python3", "python3.11")
                .file("usr/bin/dpkg", 0o755, &ElfFile::default().bytes())
                .file("usr/share/doc/python3.11/README", 0o644, b"x")
                .file("usr/share/media/types", 0o644, b"x")
                .file("usr/lib/python3.11/os.py", 0o644, b"x")
                .file("usr/lib/python3.11/test/test_os.py", 0o644, b"x")
                .file(
                    "usr/lib/python3/dist-packages/yaml/__init__.py",
                    0o644,
                    b"x",
                )
                .file("usr/lib/python3/dist-packages/pip/__init__.py", 0o644, b"x")
                .file("usr/lib/ruby/x.rb", 0o644, b"x"),
            Tar::new().file("app/main.py", 0o644, b"import os"),
        ],
        1,
    );
    assert_eq!(
        stays(
            &image,
            &config(&["python3", "main.py"], &["", "COPY . /app"]),
            Some(1)
        ),
        [
            "/app/main.py",
            "/usr/bin/python3",
            "/usr/bin/python3.11",
            "/usr/lib/python3.11/os.py",
            "/usr/lib/python3/dist-packages/yaml/__init__.py",
            "/usr/share/media/types",
            "/var/lib/dpkg/status"
        ]
    );
}

#[test]
fn what_names_the_folder_of_openssl_brings_its_settings_and_no_perl() {
    let crypto = naming(
        ElfFile::library("libcrypto.so.3", &[]),
        &["/usr/lib/ssl", "/usr/lib/ssl/private"],
    );
    let image = read(
        vec![
            Tar::new()
                .file("lib64/ld-linux-x86-64.so.2", 0o755, &loader())
                .file("usr/lib/x86_64-linux-gnu/libcrypto.so.3", 0o644, &crypto)
                .file("etc/ssl/openssl.cnf", 0o644, b"settings")
                .symlink("usr/lib/ssl/openssl.cnf", "/etc/ssl/openssl.cnf")
                .file("usr/lib/ssl/misc/CA.pl", 0o755, b"#!/usr/bin/env perl\n")
                .file("usr/bin/env", 0o755, &ElfFile::default().bytes())
                .file("usr/bin/perl", 0o755, &ElfFile::default().bytes())
                .file("usr/share/perl/5.36/strict.pm", 0o644, b"1;"),
            Tar::new().file("app/run", 0o755, &program(&["libcrypto.so.3"]).bytes()),
        ],
        1,
    );
    let config = config(&["/app/run"], &["", "COPY run /app/"]);
    assert_eq!(
        stays(&image, &config, Some(1)),
        [
            "/app/run",
            "/etc/ssl/openssl.cnf",
            "/lib64/ld-linux-x86-64.so.2",
            "/usr/lib/ssl/openssl.cnf",
            "/usr/lib/x86_64-linux-gnu/libcrypto.so.3",
        ]
    );
}

#[test]
fn a_runtime_has_converters_where_something_calls_iconv_open_and_not_for_their_package() {
    let converter = "usr/lib/x86_64-linux-gnu/gconv/UTF-16.so";
    let status = "Package: nodejs\nStatus: install ok installed\nDepends: libc6\n\nPackage: libc6\nStatus: install ok installed\n";
    let libc = naming(
        ElfFile::library("libc.so.6", &[]),
        &["/usr/lib/x86_64-linux-gnu/gconv"],
    );
    let has = |names: &[&str]| {
        let image = read(
            vec![
                Tar::new()
                    .file("lib64/ld-linux-x86-64.so.2", 0o755, &loader())
                    .file("usr/lib/x86_64-linux-gnu/libc.so.6", 0o644, &libc)
                    .file("usr/lib/x86_64-linux-gnu/libdl.so.2", 0o644, b"library")
                    .file(converter, 0o644, b"converter")
                    .file(
                        "usr/bin/node",
                        0o755,
                        &naming(program(&["libc.so.6"]), names),
                    )
                    .file("var/lib/dpkg/status", 0o644, status.as_bytes())
                    .file("var/lib/dpkg/info/nodejs.list", 0o644, b"/usr/bin/node\n")
                    .file(
                        "var/lib/dpkg/info/libc6.list",
                        0o644,
                        format!("/usr/lib/x86_64-linux-gnu/libdl.so.2\n/{converter}\n").as_bytes(),
                    ),
                Tar::new().file("app/server.js", 0o644, b"1"),
            ],
            1,
        );
        let config = config(
            &["/usr/bin/node", "/app/server.js"],
            &["", "COPY server.js /app/"],
        );
        let found = stays(&image, &config, Some(1));
        let is_there = |end: &str| found.iter().any(|path| path.ends_with(end));
        (is_there("libdl.so.2"), is_there("UTF-16.so"))
    };
    assert_eq!(has(&["puts"]), (true, false));
    assert_eq!(has(&["iconv_open"]), (true, true));
}

#[test]
fn a_module_of_the_base_is_whole_and_others_go() {
    let image = read(
        vec![
            Tar::new()
                .file("usr/local/bin/node", 0o755, &ElfFile::default().bytes())
                .symlink(
                    "usr/local/bin/npm",
                    "../lib/node_modules/npm/bin/npm-cli.js",
                )
                .file(
                    "usr/local/lib/node_modules/npm/bin/npm-cli.js",
                    0o755,
                    b"#!/usr/bin/env node\n",
                )
                .file(
                    "usr/local/lib/node_modules/npm/node_modules/x/index.js",
                    0o644,
                    b"x",
                )
                .file("usr/local/lib/node_modules/corepack/index.js", 0o644, b"x"),
        ],
        1,
    );
    assert_eq!(
        stays(&image, &config(&["npm", "start"], &[""]), Some(1)),
        [
            "/usr/local/bin/node",
            "/usr/local/bin/npm",
            "/usr/local/lib/node_modules/npm/bin/npm-cli.js",
            "/usr/local/lib/node_modules/npm/node_modules/x/index.js"
        ]
    );
}

#[test]
fn each_file_can_be_asked_why() {
    let image = read(
        vec![
            Tar::new()
                .file(
                    "bin/sh",
                    0o755,
                    &naming(ElfFile::default(), &["/etc/profile.txt"]),
                )
                .file("etc/profile.txt", 0o644, b"x")
                .file("bin/other", 0o755, b"x"),
            Tar::new().file("app/run", 0o755, b"#!/bin/sh\n"),
        ],
        1,
    );
    let wanted = Wanted {
        base_layers: Some(1),
        ..Wanted::default()
    };
    let reach = Reach::of(
        &image,
        &config(&["/app/run"], &["", "COPY run /app/"]),
        &wanted,
    );
    let chain: Vec<(String, Why)> = reach
        .explain(&image, "/etc/profile.txt")
        .into_iter()
        .map(|step| (step.path, step.why))
        .collect();
    assert_eq!(
        chain,
        [
            ("/etc/profile.txt".into(), Why::Named),
            ("/bin/sh".into(), Why::Interpreter),
            ("/app/run".into(), Why::Start)
        ]
    );
    assert!(reach.explain(&image, "/bin/other").is_empty());
    let (kept, gone) = reach.tally(&image);
    assert_eq!((kept.files, gone.files), (3, 1));
    let largest = reach.largest(&image, 3, false);
    assert_eq!(largest.len(), 1);
    assert_eq!(largest[0].path, "/bin/other");
}

#[test]
fn an_image_that_starts_a_compiler_is_left_as_it_is() {
    let image = read(
        vec![Tar::new().file("usr/local/go/bin/go", 0o755, &ElfFile::default().bytes())],
        1,
    );
    let reach = Reach::of(
        &image,
        &config(&["/usr/local/go/bin/go", "run", "."], &[""]),
        &Wanted::default(),
    );
    assert_eq!(
        reach.unsure.as_deref(),
        Some(
            "it calls go, which builds other programs: what that needs is not known. Start what was built instead"
        )
    );
}

#[test]
fn folders_that_a_service_writes_to_stay_and_so_do_models_and_browsers_in_caches() {
    let image = read(
        vec![
            Tar::new()
                .folder("var/lib/service", 0o755)
                .folder("usr/share/empty", 0o755)
                .folder("srv/upload", 0o777)
                .file("var/lib/service/default.db", 0o644, b"x"),
            Tar::new()
                .folder("var/log/app", 0o755)
                .symlink("var/log/app/access.log", "/dev/stdout")
                .file("root/.cache/huggingface/model", 0o644, b"x")
                .file("root/.cache/pip/x", 0o644, b"x"),
        ],
        1,
    );
    let config = config(&["/app/run"], &["", "RUN prepare"]);
    let wanted = Wanted {
        base_layers: Some(1),
        ..Wanted::default()
    };
    let reach = Reach::of(&image, &config, &wanted);
    let has = |path: &str| {
        let id = image.tree.resolve_link(image.tree.root(), path.as_bytes());
        reach.keeps(id.unwrap())
    };
    for path in [
        "/var/lib/service",
        "/srv/upload",
        "/var/log/app",
        "/var/log/app/access.log",
        "/root/.cache/huggingface/model",
    ] {
        assert!(has(path), "{path}");
    }
    for path in [
        "/usr/share/empty",
        "/var/lib/service/default.db",
        "/root/.cache/pip/x",
    ] {
        assert!(!has(path), "{path}");
    }
}

#[test]
fn lists_of_users_and_where_sources_were_bring_nothing() {
    let image = read(
        vec![
            Tar::new()
                .file(
                    "etc/passwd",
                    0o644,
                    b"root:x:0:0:root:/root:/usr/bin/bash\n",
                )
                .file("usr/bin/bash", 0o755, &ElfFile::default().bytes())
                .file("usr/local/go/src/runtime/proc.go", 0o644, b"x"),
            Tar::new().file(
                "server",
                0o755,
                &naming(ElfFile::default(), &["/usr/local/go/src/runtime/proc.go"]),
            ),
        ],
        1,
    );
    assert_eq!(
        stays(
            &image,
            &config(&["/server"], &["", "COPY server /"]),
            Some(1)
        ),
        ["/etc/passwd", "/server"]
    );
}

#[test]
fn a_locale_stays_with_a_c_library_that_reads_it() {
    let image = |program: Vec<u8>| {
        let base = Tar::new()
            .file("lib64/ld-linux-x86-64.so.2", 0o755, &loader())
            .file("usr/lib/locale/C.utf8/LC_CTYPE", 0o644, b"locale");
        read(vec![base, Tar::new().file("app", 0o755, &program)], 1)
    };
    let config = config(&["/app"], &["", "COPY app /"]);
    let has = |program: Vec<u8>| {
        let all = stays(&image(program), &config, Some(1));
        all.contains(&"/usr/lib/locale/C.utf8/LC_CTYPE".to_owned())
    };
    let alone = || ElfFile::library("app", &[]);
    assert!(has(program(&[]).bytes()));
    assert!(!has(alone().bytes()));
    // Linked statically with glibc.
    assert!(has(naming(alone(), &["/usr/lib/locale"])));
}

#[test]
fn what_go_counts_at_home_is_left_behind() {
    let base = Tar::new().file("bin/x", 0o755, b"x");
    let own = Tar::new()
        .file("app", 0o755, &program(&[]).bytes())
        .file("root/.config/go/telemetry/local/x.count", 0o644, b"x")
        .file("root/.config/app.json", 0o644, b"{}");
    let image = read(vec![base, own], 1);
    let all = stays(&image, &config(&["/app"], &["", "RUN go build"]), Some(1));
    assert!(
        all.contains(&"/root/.config/app.json".to_owned()),
        "{all:?}"
    );
    assert!(
        !all.iter().any(|path| path.contains("telemetry/")),
        "{all:?}"
    );
}
