use std::io::Read;

use super::*;
use crate::fixtures::{ElfFile, Tar, gzip, header, image, zstd};
use tar::EntryType;

fn paths(image: &Image) -> Vec<String> {
    let mut paths: Vec<String> = image.tree.all().map(|id| image.tree.path(id)).collect();
    paths.sort();
    paths
}

fn add(image: &mut Image, bytes: &[u8]) -> Result<(), LayerError> {
    image.add_layer(bytes, &LayerSource::default())
}

#[test]
fn layers_are_known_by_their_first_bytes_however_they_are_packed() {
    let tar = Tar::new().file("app", 0o755, b"x").bytes();
    for packed in [tar.clone(), gzip(&tar), zstd(&tar)] {
        let image = image(&[packed]);
        assert_eq!(paths(&image), ["/app"]);
        assert!(image.layers[0].complete && !image.partial);
        assert_eq!(image.layers[0].unpacked, tar.len() as u64);
    }
}

#[test]
fn several_members_and_frames_are_one_layer() {
    let tar = Tar::new()
        .file("a", 0o644, &[7; 3000])
        .file("b", 0o644, b"y")
        .bytes();
    let (first, second) = tar.split_at(2000);
    let skippable = [&[0x5e, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
    for packed in [
        [gzip(first), gzip(second)].concat(),
        [zstd(first), zstd(second)].concat(),
        [
            &skippable[..],
            &zstd(first),
            &skippable,
            &zstd(second),
            &skippable,
        ]
        .concat(),
    ] {
        assert_eq!(paths(&image(&[packed])), ["/a", "/b"]);
    }
}

#[test]
fn a_source_may_give_one_byte_at_a_time() {
    struct Slow<'a>(&'a [u8]);
    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let most = buffer.len().min(1);
            self.0.read(&mut buffer[..most])
        }
    }
    let tar = gzip(&Tar::new().file("app", 0o755, b"x").bytes());
    let mut image = Image::new(Limits::default());
    image
        .add_layer(Slow(&tar), &LayerSource::default())
        .unwrap();
    assert_eq!(paths(&image), ["/app"]);
}

#[test]
fn a_whiteout_removes_what_lower_layers_have() {
    let image = image(&[
        Tar::new()
            .file("etc/passwd", 0o644, b"x")
            .file("usr/bin/sh", 0o755, b"x")
            .file("usr/bin/ls", 0o755, b"x")
            .bytes(),
        Tar::new()
            .file("etc/.wh.passwd", 0o644, b"")
            .file("usr/.wh.bin", 0o644, b"")
            .file(".wh.missing", 0o644, b"")
            .bytes(),
    ]);
    assert_eq!(paths(&image), ["/etc", "/usr"]);
}

#[test]
fn an_opaque_directory_hides_only_lower_layers_wherever_its_mark_stands() {
    let below = Tar::new()
        .file("d/old", 0o644, b"x")
        .file("d/sub/old", 0o644, b"x")
        .bytes();
    for marked_last in [false, true] {
        let mut tar = Tar::new();
        if !marked_last {
            tar = tar.file("d/.wh..wh..opq", 0o644, b"");
        }
        tar = tar.file("d/sub/new", 0o644, b"x");
        if marked_last {
            tar = tar.file("d/.wh..wh..opq", 0o644, b"");
        }
        let image = image(&[below.clone(), tar.bytes()]);
        assert_eq!(
            paths(&image),
            ["/d", "/d/sub", "/d/sub/new"],
            "last: {marked_last}"
        );
    }
}

#[test]
fn a_whiteout_leaves_its_own_layer_alone() {
    let image = image(&[
        Tar::new().file("d/old", 0o644, b"x").bytes(),
        Tar::new()
            .file("d/new", 0o644, b"x")
            .file(".wh.d", 0o644, b"")
            .bytes(),
    ]);
    assert_eq!(paths(&image), ["/d", "/d/new"]);
}

#[test]
fn names_that_aufs_kept_for_itself_are_no_files() {
    let image = image(&[Tar::new().file(".wh..wh.plnk/1.2", 0o644, b"x").bytes()]);
    assert!(image.tree.find("/.wh..wh.plnk").is_ok() || image.tree.is_empty());
}

#[test]
fn a_file_takes_the_place_of_a_link_and_a_link_that_of_a_folder() {
    let image = image(&[
        Tar::new()
            .symlink("a", "b")
            .file("d/x", 0o644, b"x")
            .bytes(),
        Tar::new()
            .file("a", 0o600, b"xyz")
            .symlink("d", "a")
            .bytes(),
    ]);
    assert_eq!(paths(&image), ["/a", "/d"]);
    let a = image.tree.find("/d").unwrap();
    assert_eq!(image.tree.meta(a).size, 3);
    assert_eq!(image.tree.meta(a).layer, 1);
}

#[test]
fn entries_below_a_linked_folder_land_where_the_link_leads() {
    let image = image(&[
        Tar::new()
            .folder("usr/lib", 0o755)
            .symlink("lib", "/usr/lib")
            .bytes(),
        Tar::new().file("lib/libc.so.6", 0o755, b"x").bytes(),
        Tar::new()
            .file("lib/.wh.libc.so.6", 0o644, b"")
            .file("lib/x", 0o644, b"")
            .bytes(),
    ]);
    assert_eq!(paths(&image), ["/lib", "/usr", "/usr/lib", "/usr/lib/x"]);
}

#[test]
fn hard_links_share_contents_and_count_once() {
    let elf = ElfFile::default().bytes();
    let image = image(&[
        Tar::new().file("bin/busybox", 0o755, &elf).bytes(),
        Tar::new()
            .hard_link_as("bin/sh", "bin/busybox", 0o755, 0)
            .file(".wh.nothing", 0o644, b"")
            .bytes(),
    ]);
    let sh = image.tree.find("/bin/sh").unwrap();
    let meta = image.tree.meta(sh);
    assert_eq!(
        (meta.mode, meta.size, meta.hard_link),
        (0o755, elf.len() as u64, true)
    );
    assert!(matches!(image.fact(sh), Some(Fact::Elf(_))));
}

#[test]
fn a_hard_link_gives_all_names_of_its_file_mode_and_owner_also_where_it_goes_later() {
    let below = Tar::new()
        .file("lower", 0o644, b"text")
        .hard_link("other", "lower");
    let layer = Tar::new()
        .file("app/plain", 0o644, b"text")
        .hard_link("app/second", "app/plain")
        .hard_link_as("app/third", "app/second", 0o4755, 7)
        .file("app/alone", 0o600, b"text")
        // Those of a lower layer have a copy of their own then.
        .hard_link_as("app/up", "lower", 0o755, 0)
        .symlink("app/link", "plain")
        .hard_link_as("app/of-link", "app/link", 0o644, 7);
    let gone = Tar::new()
        .file("app/.wh.second", 0o644, b"")
        .file("app/.wh.third", 0o644, b"");
    let image = image(&[below.bytes(), layer.bytes(), gone.bytes()]);
    let of = |path: &str| {
        let meta = image.tree.meta(
            image
                .tree
                .resolve_link(image.tree.root(), path.as_bytes())
                .unwrap(),
        );
        (meta.mode, meta.uid)
    };
    assert_eq!(of("/app/plain"), (0o4755, 7));
    assert_eq!(of("/app/alone"), (0o600, 0));
    assert_eq!(
        [of("/app/up"), of("/lower"), of("/other")],
        [(0o755, 0), (0o755, 0), (0o644, 0)]
    );
    assert_eq!(of("/app/link"), (0o777, 7));
    assert_eq!(of("/app/of-link"), (0o777, 7));
}

#[test]
fn what_a_hard_link_makes_executable_is_said_not_to_have_been_read() {
    let layer = Tar::new()
        .file("run", 0o644, b"#!/bin/sh\n")
        .hard_link_as("go", "run", 0o755, 0);
    let image = image(&[layer.bytes()]);
    assert!(image.partial && image.is_unexamined(image.tree.find("/go").unwrap()));
}

#[test]
fn links_with_owners_of_their_own_count_as_memory() {
    let limits = Limits {
        tree_bytes: 2 << 20,
        ..Limits::default()
    };
    let mut tar = Tar::new();
    for at in 0..20_000 {
        let name = format!("{at}");
        tar = tar.file(&name, 0o755, b"");
        tar = tar.hard_link_as(&format!("l{at}"), &name, 0o755, at);
    }
    let mut image = Image::new(limits);
    let bytes = tar.bytes();
    image
        .add_layer(&bytes[..], &LayerSource::default())
        .unwrap();
    assert!(image.partial, "{} bytes", image.tree.bytes());
    assert!(image.tree.bytes() < 3 << 20);
}

#[test]
fn a_hard_link_in_the_place_of_its_own_directory_is_left_out_and_said() {
    for reach in [None, Some(0)] {
        let limits = Limits {
            reach,
            ..Limits::default()
        };
        let mut image = Image::new(limits);
        let tar = Tar::new()
            .file("a/b/x", 0o755, b"text")
            .hard_link("a", "a/b/x");
        let bytes = tar.bytes();
        let source = LayerSource::default();
        image.add_layer(&bytes[..], &source).unwrap();
        assert!(image.tree.find("/a/b/x").is_ok());
    }
}

#[test]
fn a_hard_link_to_nothing_is_left_out_and_said() {
    let image = image(&[Tar::new().hard_link("a", "missing").bytes()]);
    assert!(image.tree.is_empty() && image.partial);
    assert_eq!(
        image.notes.first[0].message,
        "a is a broken hard link (/missing not found): skipped"
    );
}

#[test]
fn long_names_come_by_gnu_and_by_pax() {
    let long = format!("{}/{}", "d".repeat(120), "f".repeat(200));
    let by_pax = Tar::new()
        .pax(&[("path", long.as_bytes()), ("size", b"1")])
        .file("short", 0o644, b"x")
        .bytes();
    let by_gnu = Tar::new().file(&long, 0o644, b"x").bytes();
    let target = format!("/{}", "t".repeat(300));
    for layer in [by_pax, by_gnu] {
        let image = image(&[layer]);
        assert!(image.tree.find(&long).is_ok());
    }
    let image = image(&[Tar::new().symlink("l", &target).bytes()]);
    let link = image.tree.resolve_link(image.tree.root(), b"l").unwrap();
    assert_eq!(image.tree.target(link), Some(target.as_bytes()));
}

#[test]
fn capabilities_come_by_pax() {
    let value = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let image = image(&[Tar::new()
        .pax(&[("SCHILY.xattr.security.capability", &value)])
        .file("ping", 0o755, b"x")
        .bytes()]);
    let ping = image.tree.find("/ping").unwrap();
    assert_eq!(image.capability(ping), Some(1 << 10));
}

#[test]
fn holes_of_sparse_files_count_and_read_as_zeros() {
    // GNU tar 1.0 in PAX: the map stands before the contents.
    let map = {
        let mut map = b"1\n4\n6\n".to_vec();
        map.resize(512, 0);
        map
    };
    let tar = Tar::new()
        .pax(&[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.name", b"etc/passwd"),
            ("GNU.sparse.realsize", b"20"),
        ])
        .file(
            "GNUSparseFile.0/passwd",
            0o644,
            &[&map[..], b"root:x"].concat(),
        )
        .bytes();
    let image = image(&[tar]);
    let id = image.tree.find("/etc/passwd").unwrap();
    assert_eq!(image.tree.meta(id).size, 20);
    assert_eq!(
        image.fact(id),
        Some(&Fact::Text([&[0; 4][..], b"root:x", &[0; 10]].concat()))
    );
}

#[test]
fn names_that_lead_out_of_the_image_are_left_out_and_said() {
    let image = image(&[Tar::new()
        .raw(
            header(EntryType::Regular, 0o644, 1),
            b"../../etc/passwd",
            b"x",
        )
        .raw(header(EntryType::Regular, 0o644, 1), b"/abs", b"x")
        .raw(header(EntryType::Regular, 0o644, 1), b"a/../b", b"x")
        .bytes()]);
    assert_eq!(paths(&image), ["/abs", "/b"]);
    assert_eq!(
        image.notes.first,
        [crate::Note {
            layer: Some(1),
            message: "../../etc/passwd escapes the image (path traversal): skipped".into()
        }]
    );
}

#[test]
fn a_loop_of_links_is_no_folder() {
    let image = image(&[Tar::new()
        .symlink("a", "b")
        .symlink("b", "a")
        .file("a/x", 0o644, b"x")
        .file("ok", 0o644, b"x")
        .bytes()]);
    assert_eq!(paths(&image), ["/a", "/b", "/ok"]);
    assert!(image.notes.first[0].message.contains("symbolic link loop"));
}

#[test]
fn a_layer_with_another_digest_is_an_error_that_names_both() {
    let tar = Tar::new().file("a", 0o644, b"x").bytes();
    let packed = gzip(&tar);
    let right = LayerSource {
        digest: Some(crate::digest_of(&packed)),
        diff_id: Some(crate::digest_of(&tar)),
        size: Some(packed.len() as u64),
        media_type: "application/vnd.oci.image.layer.v1.tar+gzip".into(),
    };
    Image::new(Limits::default())
        .add_layer(&packed[..], &right)
        .unwrap();
    let other = Some(crate::digest_of(b"other"));
    for wrong in [
        LayerSource {
            digest: other.clone(),
            ..right.clone()
        },
        LayerSource {
            diff_id: other,
            ..right.clone()
        },
    ] {
        let mut image = Image::new(Limits::default());
        let error = image.add_layer(&packed[..], &wrong).unwrap_err();
        assert!(matches!(error, LayerError::WrongDigest { .. }), "{error}");
        assert!(image.partial);
    }
    // Bytes behind the end are read, and change the digest.
    let longer = [&packed[..], &gzip(b"")].concat();
    assert!(
        Image::new(Limits::default())
            .add_layer(&longer[..], &right)
            .is_err()
    );
}

#[test]
fn a_layer_that_is_cut_short_anywhere_is_an_error() {
    let tar = Tar::new()
        .file("a", 0o755, &ElfFile::default().bytes())
        .file("b", 0o644, &[1; 5000])
        .bytes();
    for packed in [gzip(&tar), zstd(&tar)] {
        for length in 1..packed.len() {
            let mut image = Image::new(Limits::default());
            let error = add(&mut image, &packed[..length]).unwrap_err();
            assert!(
                matches!(
                    error,
                    LayerError::CutShort { .. } | LayerError::Corrupt { .. }
                ),
                "{length}: {error}"
            );
        }
    }
    // A plain tar may lack its end, but not the half of an entry.
    let error = add(&mut Image::new(Limits::default()), &tar[..3000]).unwrap_err();
    assert!(matches!(error, LayerError::CutShort { .. }), "{error}");
}

#[test]
fn a_layer_without_entries_is_whole() {
    for bytes in [&[][..], &[0; 1024], &gzip(&[0; 1024]), &gzip(&[])] {
        let image = image(&[bytes.to_vec()]);
        assert!(
            image.tree.is_empty() && image.layers[0].complete,
            "{}",
            bytes.len()
        );
    }
}

#[test]
fn a_layer_that_is_no_tar_is_said_to_be_none() {
    let xz = b"\xfd7zXZ\0\0\x04\xe6\xd6\xb4\x46".repeat(100);
    let long = b"no tar at all. ".repeat(20_000);
    for bytes in [
        &b"<html>not found</html>"[..],
        b"{}",
        &[0xff; 4096],
        &xz,
        &long,
        &gzip(b"a plain file"),
        &gzip(&long),
    ] {
        // As a manifest states it: all of it came, so nothing is cut short.
        let layer = LayerSource {
            digest: Some(crate::digest_of(bytes)),
            size: Some(bytes.len() as u64),
            ..LayerSource::default()
        };
        let error = Image::new(Limits::default())
            .add_layer(bytes, &layer)
            .unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("layer 1 is not a tar archive")
                && !error.to_string().contains('['),
            "{error}"
        );
        // The same bytes in the place of others, and less of them than there should be.
        let other = LayerSource {
            digest: Some(crate::digest_of(b"other")),
            ..layer.clone()
        };
        let error = Image::new(Limits::default())
            .add_layer(bytes, &other)
            .unwrap_err();
        assert!(
            matches!(
                error,
                LayerError::WrongDigest { .. } | LayerError::CutShort { .. }
            ),
            "{error}"
        );
        let more = LayerSource {
            size: Some(bytes.len() as u64 + 1),
            ..layer
        };
        let error = Image::new(Limits::default())
            .add_layer(bytes, &more)
            .unwrap_err();
        assert!(matches!(error, LayerError::CutShort { .. }), "{error}");
    }
    // Without a digest a short one may have been cut.
    let error = add(&mut Image::new(Limits::default()), &[0xff; 4096]).unwrap_err();
    assert!(matches!(error, LayerError::NoTar { .. }), "{error}");
    let tar = [Tar::new().file("a", 0o644, b"1").bytes(), vec![0xff; 600]].concat();
    let tar = [&tar[..1024], &tar[tar.len() - 600..]].concat();
    let error = add(&mut Image::new(Limits::default()), &tar).unwrap_err();
    assert!(
        error.to_string().contains("is corrupted: after 1 entries"),
        "{error}"
    );
    let layer = LayerSource {
        media_type: "application/vnd.in-toto+json".into(),
        ..LayerSource::default()
    };
    let error = Image::new(Limits::default())
        .add_layer(&b"{}"[..], &layer)
        .unwrap_err();
    assert!(
        error.to_string().contains("not a container image"),
        "{error}"
    );
}

#[test]
fn a_source_that_fails_is_told_apart_from_a_damaged_layer() {
    struct Fails;
    impl Read for Fails {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("connection reset"))
        }
    }
    let half = gzip(&Tar::new().file("a", 0o644, &[1; 5000]).bytes());
    let source = (&half[..half.len() / 2]).chain(Fails);
    let error = Image::new(Limits::default())
        .add_layer(source, &LayerSource::default())
        .unwrap_err();
    assert_eq!(error.to_string(), "cannot read layer 1: connection reset");
}

#[test]
fn a_bomb_ends_by_its_ratio_and_by_its_bytes_and_the_report_says_so() {
    let bomb = gzip(&Tar::new().file("zeros", 0o644, &vec![0; 8 << 20]).bytes());
    let limits = Limits {
        ratio: 50,
        ratio_floor: 1 << 20,
        ..Limits::default()
    };
    let mut image = Image::new(limits.clone());
    add(&mut image, &bomb).unwrap();
    assert!(image.partial && !image.layers[0].complete);
    assert!(image.notes.first[0].message.contains("decompression bomb"));
    // Other layers are still read.
    add(&mut image, &Tar::new().file("app", 0o755, b"x").bytes()).unwrap();
    assert!(image.tree.find("/app").is_ok());

    let mut image = Image::new(Limits {
        unpacked_bytes: 1 << 20,
        ..limits
    });
    add(&mut image, &bomb).unwrap();
    add(&mut image, &Tar::new().file("app", 0o755, b"x").bytes()).unwrap();
    assert!(image.tree.find("/app").is_err());
    assert!(image.notes.first[0].message.contains("1.0 MiB"));
}

#[test]
fn a_window_that_is_too_large_is_said() {
    let tar = Tar::new().file("a", 0o644, b"x").bytes();
    let mut image = Image::new(Limits {
        zstd_window: 1024,
        ..Limits::default()
    });
    add(&mut image, &zstd(&tar)).unwrap();
    assert!(image.partial);
    assert!(
        image.notes.first[0].message.contains("window"),
        "{:?}",
        image.notes
    );
}

#[test]
fn a_million_tiny_files_stay_within_the_bound() {
    let mut layer = Vec::new();
    for index in 0..100_000 {
        let name = format!("data/{:02}/tiny-file-{index:08}", index % 100);
        let mut header = header(EntryType::Regular, 0o644, 0);
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        layer.extend_from_slice(header.as_bytes());
    }
    let app = Tar::new()
        .file("app", 0o755, &ElfFile::default().bytes())
        .bytes();
    let limits = Limits {
        tree_bytes: 2 << 20,
        ..Limits::default()
    };
    let mut image = Image::new(limits.clone());
    add(&mut image, &[layer, app].concat()).unwrap();
    assert!(image.left_out > 50_000);
    assert!(image.tree.bytes() <= 2 << 20, "{}", image.tree.bytes());
    // What matters is there.
    assert!(image.tree.find("/app").is_ok());
    assert_eq!(image.layers[0].entries, 100_001);

    // Folders cannot be left out.
    let mut layer = Vec::new();
    for index in 0..100_000 {
        let name = format!("dir-{index:08}");
        let mut header = header(EntryType::Directory, 0o755, 0);
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        layer.extend_from_slice(header.as_bytes());
    }
    let mut image = Image::new(limits);
    add(&mut image, &layer).unwrap();
    assert!(image.partial);
    assert!(
        image.notes.first[0].message.contains("file tree"),
        "{:?}",
        image.notes
    );
}

#[test]
fn headers_that_never_end_are_an_error() {
    let endless = Tar::new()
        .raw(
            header(EntryType::GNULongName, 0, 1 << 40),
            b"././@LongLink",
            b"",
        )
        .bytes();
    assert!(add(&mut Image::new(Limits::default()), &endless).is_err());
}

#[test]
fn paths_and_names_beyond_those_of_linux_are_left_out_and_said() {
    let long = "x/".repeat(3000);
    let image = image(&[Tar::new()
        .pax(&[("path", long.as_bytes())])
        .file("a", 0o644, b"")
        .pax(&[("path", "y".repeat(300).as_bytes())])
        .file("a", 0o644, b"")
        .file("b", 0o644, b"")
        .bytes()]);
    assert_eq!(paths(&image), ["/b"]);
    assert_eq!(image.notes.first.len(), 2);
}
