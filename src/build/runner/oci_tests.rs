use super::*;
use whittle_image::fixtures::{gzip, zstd};

fn layer(title: Option<&str>) -> Layer {
    Layer {
        media_type: "application/vnd.oci.image.layer.v1.tar".into(),
        digest: String::new(),
        size: 0,
        title: title.map(Into::into),
    }
}

fn tar(entries: &[(&str, EntryType, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(vec![]);
    for (name, kind, content) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(0o555);
        // Written as it is: set_path would refuse what we want to see refused.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        if matches!(kind, EntryType::Symlink | EntryType::Link) {
            header.set_link_name(content).unwrap();
            header.set_size(0);
            header.set_cksum();
            builder.append(&header, io::empty()).unwrap();
        } else {
            header.set_size(content.len() as u64);
            header.set_cksum();
            builder.append(&header, content.as_bytes()).unwrap();
        }
    }
    builder.into_inner().unwrap()
}

fn unpacked(root: &Path, bytes: &[u8], title: Option<&str>, most: u64) -> io::Result<()> {
    let packed = root.parent().unwrap().join("packed");
    fs::write(&packed, bytes).unwrap();
    let mut room = Room {
        bytes: most,
        entries: 100,
    };
    let mut looks = Looks::default();
    unpack(&packed, &layer(title), root, &mut room, &mut looks)?;
    looks.apply(root);
    Ok(())
}

fn root() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    fs::create_dir(&root).unwrap();
    (folder, root)
}

#[test]
fn layers_lie_one_over_the_other_and_take_away_what_they_mark() {
    let (_folder, root) = root();
    let first = tar(&[
        ("cmd/", EntryType::Directory, ""),
        ("cmd/main.go", EntryType::Regular, "one"),
        ("cmd/old.go", EntryType::Regular, "old"),
        ("all/x", EntryType::Regular, "x"),
    ]);
    unpacked(&root, &gzip(&first), None, 1 << 20).unwrap();
    let second = tar(&[
        ("cmd/main.go", EntryType::Regular, "two"),
        ("cmd/.wh.old.go", EntryType::Regular, ""),
        ("all/.wh..wh..opq", EntryType::Regular, ""),
        ("all/y", EntryType::Regular, "y"),
        ("link", EntryType::Symlink, "cmd/main.go"),
    ]);
    unpacked(&root, &second, None, 1 << 20).unwrap();
    assert_eq!(fs::read_to_string(root.join("link")).unwrap(), "two");
    for (path, there) in [("cmd/old.go", false), ("all/x", false), ("all/y", true)] {
        assert_eq!(root.join(path).exists(), there, "{path}");
    }
}

#[test]
fn nothing_is_written_outside_the_root() {
    for entries in [
        &[("../x", EntryType::Regular, "x")][..],
        &[
            ("up", EntryType::Symlink, ".."),
            ("up/x", EntryType::Regular, "x"),
        ],
        &[
            ("up", EntryType::Symlink, "/"),
            ("up/.wh.x", EntryType::Regular, ""),
        ],
    ] {
        let (folder, root) = root();
        let result = unpacked(&root, &tar(entries), None, 1 << 20);
        assert!(result.is_err(), "{entries:?}");
        assert!(!folder.path().join("x").exists(), "{entries:?}");
    }
}

#[test]
fn a_mark_takes_away_neither_its_own_folder_nor_what_that_lies_in() {
    for name in [
        ".wh...",
        "cmd/.wh...",
        ".wh..",
        "cmd/.wh..",
        ".wh.",
        "cmd/.wh.",
    ] {
        let (folder, root) = root();
        fs::create_dir(root.join("cmd")).unwrap();
        fs::write(root.join("cmd/kept"), "x").unwrap();
        fs::write(folder.path().join("policy"), "x").unwrap();
        let archive = tar(&[(name, EntryType::Regular, "")]);
        assert!(unpacked(&root, &archive, None, 1 << 20).is_err(), "{name}");
        assert!(root.join("cmd/kept").exists(), "{name}");
        assert!(folder.path().join("policy").exists(), "{name}");
    }
}

#[test]
fn a_blob_with_a_title_is_a_file_and_one_without_must_be_an_archive() {
    let (_folder, root) = root();
    unpacked(&root, b"FROM scratch\n", Some("Dockerfile"), 1 << 20).unwrap();
    assert!(root.join("Dockerfile").exists());
    assert!(unpacked(&root, b"FROM scratch\n", Some("../x"), 1 << 20).is_err());
    assert!(unpacked(&root, b"FROM scratch\n", None, 1 << 20).is_err());
}

#[test]
fn modes_and_times_are_those_of_the_archive() {
    let (_folder, root) = root();
    let entries = [
        ("closed/", EntryType::Directory, 0o555, 1_000_000_000),
        ("closed/run.sh", EntryType::Regular, 0o755, 1_100_000_000),
        ("closed/tool", EntryType::Regular, 0o4755, 0),
        ("open/", EntryType::Directory, 0o1777, 1_200_000_000),
        ("open/none", EntryType::Regular, 0o000, 1),
        ("link", EntryType::Symlink, 0o777, 1_300_000_000),
        ("group/", EntryType::Directory, 0o2775, 1_400_000_000),
    ];
    let mut builder = tar::Builder::new(vec![]);
    for (name, kind, mode, time) in entries {
        let mut header = tar::Header::new_ustar();
        header.set_path(name).unwrap();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_mtime(time);
        header.set_uid(1000);
        header.set_size(0);
        if kind == EntryType::Symlink {
            header.set_link_name("closed/tool").unwrap();
        }
        header.set_cksum();
        builder.append(&header, io::empty()).unwrap();
    }
    unpacked(&root, &builder.into_inner().unwrap(), None, 1 << 20).unwrap();
    for (name, kind, mode, time) in entries {
        let found = fs::symlink_metadata(root.join(name.trim_end_matches('/'))).unwrap();
        assert_eq!(
            found
                .modified()
                .unwrap()
                .duration_since(UNIX_EPOCH)
                .unwrap()
                .as_secs(),
            time,
            "{name}"
        );
        // A file that nobody may read could not be sent to the builder.
        let readable = if mode == 0 { 0o400 } else { mode };
        if kind != EntryType::Symlink {
            assert_eq!(found.permissions().mode() & 0o7777, readable, "{name}");
        }
    }
}

#[test]
fn two_archives_that_state_one_time_leave_files_of_another_time() {
    let of = |content: &str| {
        let (_folder, root) = root();
        let archive = tar(&[("a", EntryType::Regular, content)]);
        unpacked(&root, &archive, None, 1 << 20).unwrap();
        fs::metadata(root.join("a")).unwrap().modified().unwrap()
    };
    let (one, other) = (of("1"), of("2"));
    assert_ne!(one, other, "BuildKit would take the one for the other");
    let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap().as_secs();
    assert_eq!((seconds(one), seconds(other)), (0, 0));
}

#[test]
fn more_than_there_is_room_for_is_refused() {
    let (_folder, root) = root();
    let big = tar(&[("big", EntryType::Regular, &"x".repeat(100_000))]);
    let error = unpacked(&root, &big, None, 50_000).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::FileTooLarge, "{error}");
    let error = unpacked(&root, &[b'x'; 100_000], Some("big"), 50_000).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::FileTooLarge, "{error}");
}

#[test]
fn a_file_with_holes_is_as_large_as_what_is_written_of_it() {
    let (_folder, root) = root();
    let mut header = tar::Header::new_gnu();
    header.set_path("holes").unwrap();
    header.set_entry_type(EntryType::GNUSparse);
    header.set_mode(0o644);
    header.set_size(0);
    let gnu = header.as_gnu_mut().unwrap();
    gnu.realsize[..12].copy_from_slice(b"000100000000");
    gnu.sparse[0].offset[..12].copy_from_slice(b"000100000000");
    gnu.sparse[0].numbytes[..12].copy_from_slice(b"000000000000");
    header.set_cksum();
    let mut builder = tar::Builder::new(vec![]);
    builder.append(&header, &[][..]).unwrap();
    let archive = builder.into_inner().unwrap();
    let error = unpacked(&root, &archive, None, 1 << 20).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::FileTooLarge, "{error}");
}

#[test]
fn a_folder_that_is_not_there_is_no_context() {
    let (_folder, root) = root();
    fs::create_dir(root.join("cmd")).unwrap();
    std::os::unix::fs::symlink("/etc", root.join("etc")).unwrap();
    assert!(within(&root, None).is_some() && within(&root, Some("cmd")).is_some());
    for missing in ["nosuch", "etc", "../root"] {
        assert_eq!(within(&root, Some(missing)), None, "{missing}");
    }
}

/// Frames or members, one behind the other, into files; their names.
fn names_of(bytes: &[u8]) -> io::Result<Vec<String>> {
    let (_folder, root) = root();
    unpacked(&root, bytes, None, 1 << 20)?;
    let mut names: Vec<String> = fs::read_dir(&root)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    Ok(names)
}

/// A frame that a reader passes over.
const SKIPPABLE: &[u8] = &[0x5e, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, b'a', b'b', b'c'];

#[test]
fn a_source_of_several_frames_or_members_has_all_its_files() {
    let whole = tar(&[
        ("a", EntryType::Regular, "first"),
        ("b", EntryType::Regular, "second"),
        ("c", EntryType::Regular, "third"),
    ]);
    // Two blocks an entry: the first ends between two entries, the second in the middle of one.
    for at in [1024, 1600] {
        let (first, second) = whole.split_at(at);
        let (one, two) = (zstd(first), zstd(second));
        for packed in [
            whole.clone(),
            [one.clone(), two.clone()].concat(),
            [&one, SKIPPABLE, &two].concat(),
            [SKIPPABLE, &one, &two, SKIPPABLE].concat(),
            [one.clone(), zstd(b""), two.clone()].concat(),
            [gzip(first), gzip(second)].concat(),
            [gzip(first), gzip(b""), gzip(second)].concat(),
        ] {
            assert_eq!(names_of(&packed).unwrap(), ["a", "b", "c"], "{at}");
        }
    }
}

#[test]
fn a_source_without_entries_is_an_empty_folder() {
    for packed in [
        vec![],
        gzip(b""),
        zstd(b""),
        SKIPPABLE.to_vec(),
        gzip(&[0; 1024]),
        zstd(&[0; 1024]),
        vec![0; 1024],
    ] {
        assert_eq!(names_of(&packed).unwrap(), [""; 0], "{packed:?}");
    }
}

#[test]
fn a_source_that_is_cut_short_says_so() {
    let whole = tar(&[
        ("a", EntryType::Regular, "first"),
        ("b", EntryType::Regular, &"second ".repeat(300)),
    ]);
    let (first, second) = whole.split_at(1024);
    for (packed, least) in [
        ([zstd(first), zstd(second)].concat(), zstd(first).len()),
        ([gzip(first), gzip(second)].concat(), gzip(first).len()),
        // The archive is whole; what should follow it is not.
        ([zstd(&whole), zstd(&[0; 512])].concat(), zstd(&whole).len()),
        ([gzip(&whole), gzip(&[0; 512])].concat(), gzip(&whole).len()),
    ] {
        for length in least + 1..packed.len() {
            let error = names_of(&packed[..length]).unwrap_err();
            assert!(causes(&error).contains("truncated"), "{length}: {error}");
        }
    }
}

#[test]
fn what_follows_the_end_of_a_packed_source_and_is_not_packed_is_an_error() {
    let whole = tar(&[("a", EntryType::Regular, "first")]);
    for (packed, format) in [(gzip(&whole), "gzip"), (zstd(&whole), "zstd")] {
        let error = names_of(&[&packed[..], b"<html>no</html>"].concat()).unwrap_err();
        let said = causes(&error);
        assert!(said.contains("invalid") && said.contains(format), "{said}");
    }
    // Who reads a plain archive stops at its end.
    let longer = [&whole[..], b"<html>no</html>"].concat();
    assert_eq!(names_of(&longer).unwrap(), ["a"]);
}

#[test]
fn a_second_frame_that_unpacks_to_more_than_there_is_room_for_is_refused() {
    let whole = tar(&[
        ("a", EntryType::Regular, "first"),
        ("b", EntryType::Regular, &"x".repeat(2 << 20)),
    ]);
    let (first, second) = whole.split_at(1024);
    for packed in [
        [zstd(first), zstd(second)].concat(),
        [gzip(first), gzip(second)].concat(),
        // Behind the archive's end.
        [gzip(&whole[..1024]), gzip(&vec![0; 2 << 20])].concat(),
        [zstd(&whole[..1024]), zstd(&vec![0; 2 << 20])].concat(),
    ] {
        let error = names_of(&packed).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge, "{error}");
    }
}

#[test]
fn a_window_beyond_what_is_kept_in_memory_is_refused() {
    // A frame's header alone: its window has 256 MiB (RFC 8878, section 3.1.1.1.2).
    let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 18 << 3, 1, 0, 0];
    let error = names_of(&frame).unwrap_err();
    assert!(causes(&error).contains("window"), "{}", causes(&error));
}
