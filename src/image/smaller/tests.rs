use super::*;
use crate::fixtures::Tar;
use crate::reach::{Globs, Reach, Wanted};
use crate::{Image, ImageConfig, LayerSource, Limits};

fn read(layers: &[Vec<u8>], base: u16) -> Image {
    let limits = Limits {
        reach: Some(base),
        ..Limits::default()
    };
    let mut image = Image::new(limits);
    for layer in layers {
        image
            .add_layer(&layer[..], &LayerSource::default())
            .unwrap();
    }
    image
}

/// Name, type, size, mode, owner, link of each entry.
fn listed(packed: &[u8]) -> Vec<String> {
    let tar = flate2::read::GzDecoder::new(packed);
    let mut archive = tar::Archive::new(tar);
    let entries = archive.entries().unwrap();
    entries
        .map(|entry| {
            let mut entry = entry.unwrap();
            let attributes: Vec<String> = entry
                .pax_extensions()
                .unwrap()
                .into_iter()
                .flatten()
                .map(|pair| pair.unwrap().key().unwrap().to_owned())
                .filter(|key| key.starts_with("SCHILY"))
                .collect();
            let mut text = String::new();
            std::io::Read::read_to_string(&mut entry, &mut text).unwrap();
            let header = entry.header();
            let link = entry.link_name().unwrap();
            let link = link
                .map(|link| format!(" -> {}", link.display()))
                .unwrap_or_default();
            let attributes = attributes.concat();
            format!(
                "{} {:?} {:o} {} {text}{link}{attributes}",
                entry.path().unwrap().display(),
                header.entry_type(),
                header.mode().unwrap(),
                header.uid().unwrap()
            )
        })
        .collect()
}

fn written(
    layers: &[Vec<u8>],
    base: u16,
    config: &ImageConfig,
    wanted: &Wanted,
) -> [Vec<String>; 2] {
    let image = read(layers, base);
    let reach = Reach::of(&image, config, wanted);
    let mut writer = Writer::new(&image, &reach, Vec::new(), Vec::new());
    for layer in layers {
        writer
            .add_layer(&layer[..], &LayerSource::default())
            .unwrap();
    }
    let [(_, runtime), (_, application)] = writer.finish().unwrap();
    [listed(&runtime), listed(&application)]
}

fn config(entrypoint: &str) -> ImageConfig {
    ImageConfig {
        os: "linux".into(),
        architecture: "amd64".into(),
        entrypoint: vec![entrypoint.into()],
        instructions: vec![String::new(), "COPY app /app".into()],
        ..ImageConfig::default()
    }
}

fn wanted(base_layers: usize, keep: &[&str], drop: &[&str]) -> Wanted {
    Wanted {
        keep: Globs::parse(keep).unwrap(),
        drop: Globs::parse(drop).unwrap(),
        base_layers: Some(base_layers),
        ..Wanted::default()
    }
}

#[test]
fn what_stays_keeps_its_owner_mode_link_and_attributes_in_the_layer_of_its_kind() {
    let layers = [
        Tar::new()
            .folder("usr", 0o755)
            .folder("usr/bin", 0o755)
            .file("usr/bin/gcc", 0o755, b"compiler")
            .pax(&[(
                "SCHILY.xattr.security.capability",
                &[1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            )])
            .file("usr/bin/tool", 0o4755, b"tool")
            .folder("tmp", 0o1777)
            .owned("etc/passwd", 0o644, 0, b"root:x:0:0:root:/root:/bin/sh\n")
            .bytes(),
        Tar::new()
            .folder("app", 0o750)
            .owned("app/run", 0o755, 7, b"#!/usr/bin/tool\n")
            .symlink("app/link", "run")
            .hard_link("app/again", "app/run")
            .bytes(),
    ];
    let found = written(&layers, 1, &config("/app/run"), &wanted(1, &[], &[]));
    assert_eq!(
        found[0],
        [
            "usr/ Directory 755 0 ",
            "usr/bin/ Directory 755 0 ",
            "usr/bin/tool Regular 4755 0 toolSCHILY.xattr.security.capability",
            "tmp/ Directory 1777 0 ",
            "etc/passwd Regular 644 0 root:x:0:0:root:/root:/bin/sh\n",
        ]
    );
    assert_eq!(
        found[1],
        [
            "app/ Directory 750 0 ",
            "app/run Regular 755 7 #!/usr/bin/tool\n",
            "app/link Symlink 777 0  -> run",
            "app/again Link 755 7  -> app/run",
        ]
    );
}

#[test]
fn a_file_whose_first_name_is_gone_keeps_its_bytes_under_the_others() {
    let layers = [
        Tar::new()
            .file("opt/first", 0o755, b"bytes")
            .hard_link("opt/second", "opt/first")
            .hard_link("opt/third", "opt/first")
            .bytes(),
        Tar::new().file("opt/.wh.first", 0o644, b"").bytes(),
    ];
    let found = written(
        &layers,
        1,
        &config("/opt/second"),
        &wanted(1, &["/opt/third"], &[]),
    );
    assert_eq!(
        found[0],
        [
            "opt/second Regular 755 0 bytes",
            "opt/third Link 755 0  -> opt/second"
        ]
    );
}

#[test]
fn what_later_layers_replace_or_remove_is_not_written() {
    let layers = [
        Tar::new()
            .file("srv/a", 0o644, b"old")
            .file("srv/b", 0o644, b"gone")
            .file("etc/x/c", 0o644, b"hidden")
            .bytes(),
        Tar::new()
            .file("srv/a", 0o600, b"new")
            .file("srv/.wh.b", 0o644, b"")
            .file("etc/x/.wh..wh..opq", 0o644, b"")
            .file("etc/x/d", 0o644, b"d")
            .bytes(),
    ];
    let found = written(&layers, 0, &config("/srv/a"), &wanted(0, &["/**"], &[]));
    let all = found.concat();
    assert_eq!(all, ["srv/a Regular 600 0 new", "etc/x/d Regular 644 0 d"]);
}

#[test]
fn paths_through_links_of_folders_are_written_where_they_lead() {
    let layers = [Tar::new()
        .folder("usr/lib", 0o755)
        .symlink("lib", "usr/lib")
        .file("lib/tool", 0o755, b"tool")
        .bytes()];
    let found = written(&layers, 1, &config("/lib/tool"), &wanted(1, &[], &[]));
    assert_eq!(
        found[0],
        [
            "usr/lib/ Directory 755 0 ",
            "lib Symlink 777 0  -> usr/lib",
            "usr/lib/tool Regular 755 0 tool"
        ]
    );
}

#[test]
fn what_stays_is_written_from_the_entry_that_brought_it_whatever_else_has_its_path() {
    let layers = [
        Tar::new()
            .file("app/real/name", 0o644, b"right")
            .file("app/turned/name", 0o644, b"wrong")
            .folder("app/target", 0o755)
            .symlink("app/back", "target")
            .folder("app/back/closed", 0o700)
            .file("app/b", 0o644, b"first")
            .file("app/b", 0o644, b"second")
            .hard_link("app/of-second", "app/b")
            .file("app/b", 0o644, b"third")
            .file("app/c", 0o644, b"c")
            .hard_link("app/moves", "app/c")
            .file("app/d", 0o644, b"d")
            .hard_link("app/moves", "app/d")
            .bytes(),
        Tar::new()
            .symlink("app/turned", "real")
            .file("app/.wh.back", 0o644, b"")
            .bytes(),
    ];
    let found = written(&layers, 0, &config("/none"), &wanted(0, &["/**"], &[]));
    assert_eq!(
        found.concat(),
        [
            "app/real/name Regular 644 0 right",
            "app/target/ Directory 755 0 ",
            "app/target/closed/ Directory 700 0 ",
            "app/of-second Regular 644 0 second",
            "app/b Regular 644 0 third",
            "app/c Regular 644 0 c",
            "app/d Regular 644 0 d",
            "app/moves Link 644 0  -> app/d",
            "app/turned Symlink 777 0  -> real",
        ]
    );
}

#[test]
fn one_file_has_one_mode_and_capabilities_only_where_it_has_them_in_the_end() {
    const NET_BIND: &[u8] = &[1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let given: &[(&str, &[u8])] = &[("SCHILY.xattr.security.capability", NET_BIND)];
    let lost = Tar::new()
        .pax(given)
        .file("app/x", 0o755, b"x")
        .hard_link("app/y", "app/x");
    let below = Tar::new()
        .file("app/z", 0o755, b"z")
        .hard_link("app/a", "app/z");
    let above = Tar::new().hard_link_as("app/b", "app/a", 0o644, 0);
    let layers = [lost.bytes(), below.bytes(), above.bytes()];
    let keep = wanted(0, &[], &[]);
    assert_eq!(
        written(&layers, 0, &config("/none"), &keep).concat(),
        [
            "app/x Regular 755 0 x",
            "app/y Link 755 0  -> app/x",
            "app/z Regular 755 0 z",
            "app/a Link 755 0  -> app/z",
            "app/b Link 755 0  -> app/z",
        ]
    );
}

#[test]
fn a_drop_wins_and_a_keep_brings_what_it_needs() {
    let layers = [
        Tar::new()
            .file("opt/a", 0o755, b"#!/opt/b\n")
            .file("opt/b", 0o755, b"b")
            .file("opt/c", 0o644, b"c")
            .bytes(),
        Tar::new()
            .file("app/x", 0o644, b"x")
            .file("app/doc/y", 0o644, b"y")
            .bytes(),
    ];
    let found = written(
        &layers,
        1,
        &config("/none"),
        &wanted(1, &["/opt/a"], &["/app/doc/**"]),
    );
    assert_eq!(
        found.concat(),
        [
            "opt/a Regular 755 0 #!/opt/b\n",
            "opt/b Regular 755 0 b",
            "app/x Regular 644 0 x"
        ]
    );
}

#[test]
fn the_same_image_gives_the_same_digests() {
    let layers = [Tar::new().file("app", 0o755, b"app").bytes()];
    let image = read(&layers, 0);
    let reach = Reach::of(&image, &config("/app"), &wanted(0, &[], &[]));
    let once = || {
        let mut writer = Writer::new(&image, &reach, Vec::new(), Vec::new());
        let source = LayerSource::default();
        writer.add_layer(&layers[0][..], &source).unwrap();
        writer.finish().unwrap().map(|(packed, _)| packed)
    };
    let (one, two) = (once(), once());
    assert_eq!(one, two);
    assert_eq!(crate::digest_of(&[]).len(), one[0].digest.len());
}

#[test]
fn the_documents_name_the_new_layers_and_the_full_image() {
    let config = br#"{"os":"linux","architecture":"amd64","created":"2026-01-01T00:00:00Z",
        "config":{"Env":["A=1"],"Labels":{"a":"b"},"Unknown":[1]},
        "rootfs":{"type":"layers","diff_ids":["sha256:a","sha256:b"]},"history":[{"created_by":"x"}]}"#;
    let digest = format!("sha256:{}", "a".repeat(64));
    let manifest = format!(
        r#"{{"schemaVersion":2,"config":{{"digest":"{digest}","size":1}},"layers":[],"annotations":{{"k":"v"}}}}"#
    );
    let packed = |entries| Packed {
        digest: format!("sha256:{}", "b".repeat(64)),
        diff_id: format!("sha256:{}", "c".repeat(64)),
        size: 5,
        unpacked: 10,
        entries,
    };
    let left = LeftOut {
        files: (3, 7),
        bytes: 99,
    };
    let found = Smaller::of(
        config,
        manifest.as_bytes(),
        &digest,
        [packed(0), packed(2)],
        left,
    )
    .unwrap();
    let read: serde_json::Value = serde_json::from_slice(&found.config).unwrap();
    assert_eq!(read["config"]["Unknown"][0], 1);
    assert_eq!(read["config"]["Labels"][FROM_LABEL], digest);
    assert_eq!(read["config"]["Labels"]["a"], "b");
    assert_eq!(read["rootfs"]["diff_ids"].as_array().unwrap().len(), 1);
    assert_eq!(
        read["history"][0]["created_by"],
        format!(
            "whittle minimize: 3 of 10 files stay, 99 bytes of {digest} are left out (application)"
        )
    );
    let written = crate::ManifestDocument::parse(&found.manifest).unwrap();
    assert_eq!(written.layers.len(), 1);
    assert_eq!(written.annotations["k"], "v");
    assert_eq!(written.config.digest, crate::digest_of(&found.config));
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"digest":"{digest}","size":1,"platform":{{"os":"linux","architecture":"amd64"}}}},
        {{"digest":"sha256:{}","size":1,"annotations":{{"vnd.docker.reference.type":"attestation-manifest"}}}}]}}"#,
        "d".repeat(64)
    );
    let joined = super::index(index.as_bytes(), &[(digest, found.manifest.clone())]).unwrap();
    let joined = crate::IndexDocument::parse(&joined).unwrap();
    assert_eq!(joined.manifests.len(), 1);
    assert_eq!(
        joined.manifests[0].digest,
        crate::digest_of(&found.manifest)
    );
    assert_eq!(
        joined.manifests[0].platform().as_deref(),
        Some("linux/amd64")
    );
}
