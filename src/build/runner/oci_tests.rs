use std::io::Write;

use super::*;

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
    let mut gzip = flate2::write::GzEncoder::new(vec![], Default::default());
    gzip.write_all(&first).unwrap();
    unpacked(&root, &gzip.finish().unwrap(), None, 1 << 20).unwrap();
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
