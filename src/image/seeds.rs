//! The seeds of the fuzz targets: `cargo test -p whittle-image seeds -- --ignored` writes them anew.

use std::path::Path;

use super::fixtures::{ElfFile, GLIBC, MUSL, Tar, gzip, zstd};

#[test]
#[ignore = "writes tests/fuzz/corpus"]
fn seeds_of_the_fuzz_targets_are_written() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuzz/corpus");
    let write = |name: &str, bytes: &[u8]| {
        let path = corpus.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    };
    let static_program = ElfFile::default().bytes();
    let dynamic = ElfFile {
        runpath: Some("$ORIGIN:/b"),
        ..ElfFile::program(GLIBC, &["libc.so.6", "liba.so"])
    };
    let library = ElfFile {
        rpath: Some("/b"),
        ..ElfFile::library("liba.so", &["libc.so.6"])
    };
    let loader = ElfFile {
        tail: b"\0/lib/x86_64-linux-gnu/\0/usr/lib/\0".to_vec(),
        ..ElfFile::library("ld-linux-x86-64.so.2", &[])
    };
    for (name, file) in [
        ("static", &ElfFile::default()),
        ("dynamic", &dynamic),
        ("musl", &ElfFile::program(MUSL, &["libc.so"])),
        ("library", &library),
        ("loader", &loader),
    ] {
        write(&format!("elf/{name}"), &file.bytes());
    }
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let first = Tar::new()
        .folder("tmp", 0o1777)
        .file("a", 0o755, &dynamic.bytes())
        .file("lib64/ld-linux-x86-64.so.2", 0o755, &loader.bytes())
        .file("b/liba.so", 0o644, &library.bytes())
        .file("etc/passwd", 0o644, b"app:x:1:1::/:/bin/sh\n")
        .file("etc/group", 0o644, b"app:x:1:app\n")
        .file("etc/ld.so.conf", 0o644, b"/opt\n")
        .symlink("bin", "b")
        .bytes();
    let second = Tar::new()
        .file("b/.wh.liba.so", 0o644, b"")
        .file("etc/.wh..wh..opq", 0o644, b"")
        .file("bin/sh", 0o4755, &static_program)
        .hard_link("sh", "b/sh")
        .pax(&[("SCHILY.xattr.security.capability", &capability)])
        .file("c", 0o755, b"#!/usr/bin/env -S sh -e\n")
        .bytes();
    let blocks = |bytes: &[u8]| bytes.len().div_ceil(512);
    let mut both = vec![u8::try_from(blocks(&first)).unwrap()];
    both.extend_from_slice(&first);
    both.extend_from_slice(&second);
    write("layer/two", &both);
    let pad = |mut packed: Vec<u8>| {
        packed.insert(0, 255);
        packed
    };
    write("layer/gzip", &pad(gzip(&second)));
    write("layer/zstd", &pad(zstd(&second)));
    let sparse = Tar::new()
        .pax(&[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.name", b"etc/passwd"),
            ("GNU.sparse.realsize", b"20"),
        ])
        .file(
            "s",
            0o644,
            &[&b"1\n4\n6\n"[..], &[0; 506], b"root:x"].concat(),
        )
        .file(&"n/".repeat(100), 0o755, b"x")
        .bytes();
    write("layer/sparse", &pad(sparse));
    let digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let entry = |kind: &str| {
        format!(
            r#"{{"mediaType":"application/vnd.oci.image.{kind}","digest":"{digest}","size":7,"platform":{{"os":"linux","architecture":"amd64"}}}}"#
        )
    };
    let layer = entry("layer.v1.tar+gzip");
    write(
        "manifest/manifest",
        format!(
            r#"{{"schemaVersion":2,"config":{},"layers":[{layer}]}}"#,
            entry("config.v1+json")
        )
        .as_bytes(),
    );
    write(
        "manifest/index",
        format!(
            r#"{{"schemaVersion":2,"manifests":[{}]}}"#,
            entry("manifest.v1+json")
        )
        .as_bytes(),
    );
    write(
        "manifest/config",
        br#"{"architecture":"amd64","os":"linux","config":{"User":"1","Env":["A=b"],"Entrypoint":["/a"],"Cmd":null,"Healthcheck":{"Test":["CMD","/a"]}},"rootfs":{"type":"layers","diff_ids":["sha256:a"]},"history":[{"created_by":"COPY a / # buildkit"},{"empty_layer":true}]}"#,
    );
    let mut parameters = rcgen::CertificateParams::new(vec!["ca.test".into()]).unwrap();
    parameters.not_after = rcgen::date_time_ymd(2030, 1, 1);
    let key = rcgen::KeyPair::generate().unwrap();
    write(
        "manifest/bundle",
        parameters.self_signed(&key).unwrap().pem().as_bytes(),
    );
}
