use super::*;
use whittle_image::fixtures::{Tar, gzip};

fn write(bytes: &[u8]) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    file
}

fn content(tar: &mut Tarball, name: &str) -> Option<Vec<u8>> {
    let opened = tar.stream(name).unwrap()?;
    let mut bytes = Vec::new();
    let mut reader = opened.bytes;
    reader.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes.len() as u64, opened.size);
    Some(bytes)
}

fn sample() -> Vec<u8> {
    let long = format!("{}/end", "long".repeat(60));
    Tar::new()
        .folder("a/", 0o755)
        .file("a/one", 0o644, b"one")
        .symlink("b/two", "../a/one")
        .hard_link("c", "b/two")
        .file(&long, 0o644, &[7; 1000])
        .file("./last", 0o644, b"last")
        .bytes()
}

#[test]
fn files_are_read_in_any_order_also_from_a_compressed_tar() {
    for bytes in [sample(), gzip(&sample())] {
        let file = write(&bytes);
        let mut tar = Tarball::open(file.path()).unwrap();
        let long = format!("{}/end", "long".repeat(60));
        for _ in 0..2 {
            assert_eq!(content(&mut tar, "last").unwrap(), b"last");
            assert_eq!(content(&mut tar, &long).unwrap(), [7; 1000]);
            assert_eq!(content(&mut tar, "c").unwrap(), b"one");
            assert_eq!(content(&mut tar, "a/one").unwrap(), b"one");
        }
        assert!(content(&mut tar, "a").is_none());
        assert!(content(&mut tar, "gone").is_none());
    }
}

#[test]
fn links_in_a_circle_lead_nowhere() {
    let file = write(&Tar::new().symlink("a", "b").symlink("b", "a").bytes());
    let mut tar = Tarball::open(file.path()).unwrap();
    assert!(content(&mut tar, "a").is_none());
}

#[test]
fn a_tar_that_is_cut_short_says_so() {
    let whole = Tar::new().file("a", 0o644, &[1; 5000]).bytes();
    for bytes in [
        whole[..3000].to_vec(),
        whole[..300].to_vec(),
        gzip(&whole[..3000]),
    ] {
        let file = write(&bytes);
        let Err(error) = Tarball::open(file.path()) else {
            panic!("it was read");
        };
        assert!(error.to_string().contains("truncated"), "{error}");
    }
    let packed = gzip(&whole);
    let file = write(&packed[..packed.len() / 2]);
    assert!(Tarball::open(file.path()).is_err());
    // Nothing but the blocks at the end is missing.
    let file = write(&whole[..512 + 5000]);
    let mut tar = Tarball::open(file.path()).unwrap();
    assert_eq!(content(&mut tar, "a").unwrap().len(), 5000);
}

#[test]
fn what_is_no_tar_says_what_it_is() {
    for (bytes, why) in [
        (&b"hello, this is a text\n"[..], "not a tar archive"),
        (&[b'x'; 2000], "neither the tar of an OCI layout"),
        (&[0xfd, b'7', b'z', b'X', b'Z', 0, 1, 2], "xz -d"),
        (&[0x28, 0xb5, 0x2f, 0xfd, 1, 2], "zstd -d"),
        (b"", "not a tar archive"),
    ] {
        let file = write(bytes);
        let Err(error) = Tarball::open(file.path()) else {
            panic!("it was read");
        };
        assert!(error.to_string().contains(why), "{error}");
    }
}
