use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};

use futures::StreamExt;
use tempfile::TempDir;
use whittle_image::digest_of;

use super::*;
use crate::build::walk::walk;

fn sample() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir_all(at("a/deep")).unwrap();
    fs::write(at("Dockerfile"), "FROM scratch\n").unwrap();
    fs::write(at("a/run.sh"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(at("a/run.sh"), Permissions::from_mode(0o700)).unwrap();
    fs::write(at(&format!("a/{}", "n".repeat(200))), "long").unwrap();
    symlink("nowhere", at("link")).unwrap();
    folder
}

fn entries(folder: &TempDir) -> Vec<Entry> {
    walk(folder.path(), "Dockerfile").unwrap().entries
}

#[test]
fn the_same_files_give_the_same_bytes_whoever_owns_them_and_whenever_they_were_written() {
    let (one, two) = (sample(), sample());
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
    let file = File::options()
        .write(true)
        .open(two.path().join("Dockerfile"));
    file.unwrap().set_modified(time).unwrap();
    fs::set_permissions(two.path().join("a/run.sh"), Permissions::from_mode(0o555)).unwrap();
    fs::set_permissions(two.path().join("Dockerfile"), Permissions::from_mode(0o600)).unwrap();
    let first = measure(one.path(), entries(&one)).unwrap();
    let second = measure(two.path(), entries(&two)).unwrap();
    assert_eq!(first, second);
    fs::set_permissions(two.path().join("a/run.sh"), Permissions::from_mode(0o644)).unwrap();
    let other = measure(two.path(), entries(&two)).unwrap();
    assert_ne!(first.digest, other.digest);
}

#[test]
fn an_archive_holds_modes_links_and_long_names_and_nothing_of_this_machine() {
    let folder = sample();
    let packed = write(folder.path(), &entries(&folder), vec![]).unwrap();
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(packed.as_slice()));
    let mut found = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let header = entry.header();
        assert_eq!(
            (
                header.uid().unwrap(),
                header.gid().unwrap(),
                header.mtime().unwrap()
            ),
            (0, 0, 0)
        );
        let mode = header.mode().unwrap();
        let link = entry
            .link_name()
            .unwrap()
            .map(|it| it.display().to_string());
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        let path = entry.path().unwrap().display().to_string();
        found.insert(path, (mode, link.unwrap_or(text)));
    }
    let long = format!("a/{}", "n".repeat(200));
    let expected = [
        ("Dockerfile", 0o644, "FROM scratch\n"),
        ("a", 0o755, ""),
        ("a/deep", 0o755, ""),
        (&long, 0o644, "long"),
        ("a/run.sh", 0o755, "#!/bin/sh\n"),
        ("link", 0o777, "nowhere"),
    ];
    let expected = expected.map(|(path, mode, text)| (path.to_owned(), (mode, text.to_owned())));
    assert_eq!(found, BTreeMap::from(expected));
}

#[tokio::test]
async fn the_stream_has_the_bytes_that_were_measured() {
    let folder = sample();
    let mut state = 1_u32;
    // Does not compress.
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    })
    .take(3 << 20)
    .collect();
    fs::write(folder.path().join("noise"), noise).unwrap();
    let packed = measure(folder.path(), entries(&folder)).unwrap();
    let (sent, counted) = std::sync::mpsc::channel();
    let chunks = stream(folder.path().to_owned(), &packed, move |bytes| {
        let _ = sent.send(bytes);
    });
    let chunks: Vec<_> = chunks.collect().await;
    let bytes: Vec<u8> = chunks.into_iter().flat_map(Result::unwrap).collect();
    assert!(bytes.len() > 3 << 20);
    assert_eq!(digest_of(&bytes), packed.digest);
    assert_eq!(bytes.len() as u64, packed.size);
    assert_eq!(counted.iter().sum::<u64>(), packed.size);
}

#[test]
fn a_file_that_grows_shrinks_or_goes_while_it_is_packed_is_named() {
    let folder = sample();
    let entries = entries(&folder);
    let place = folder.path().join("Dockerfile");
    for text in ["FROM scratch\n# more\n", "FROM"] {
        fs::write(&place, text).unwrap();
        let failed = measure(folder.path(), entries.clone()).unwrap_err();
        assert_eq!(failed.path, place);
        assert!(failed.to_string().contains("has changed while"), "{failed}");
    }
    fs::remove_file(&place).unwrap();
    let failed = measure(folder.path(), entries).unwrap_err();
    assert_eq!(failed.path, place);
}
