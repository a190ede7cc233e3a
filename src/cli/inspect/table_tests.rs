use super::*;
use crate::inspect::fixtures::LayoutFolder;
use crate::inspect::{Options, inspect};
use whittle_image::Budget;
use whittle_image::Rule;
use whittle_image::fixtures::{ElfFile, GLIBC, Tar};

async fn table(layers: &[Vec<u8>], budget: Budget) -> String {
    let layout = LayoutFolder::of("linux/amd64", layers);
    let options = Options {
        image: layout.name(),
        budget,
        ..Options::default()
    };
    let (mut report, verdicts) = inspect(&options, 0).await.unwrap();
    report.image = "hello:1".into();
    // What gzip makes of the same bytes may change with its version.
    report.digest = Some("sha256:index".into());
    let image = &mut report.images[0];
    (image.digest, image.size) = (Some("sha256:manifest".into()), 4_812_345);
    for layer in &mut image.contents.layers.items {
        (layer.size, layer.digest) = (2_400_000, Some("sha256:layer".into()));
    }
    image.contents.layers.items[0].instruction = Some("COPY / /".into());
    let mut bytes = Vec::new();
    write(&mut bytes, &report, &verdicts).unwrap();
    String::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn a_whole_table_reads_well() {
    let program = ElfFile::program(GLIBC, &["libc.so.6"]).bytes();
    let first = Tar::new()
        .folder("tmp", 0o1777)
        .file(
            "etc/passwd",
            0o644,
            b"app:x:65532:65532::/home/app:/bin/sh\n",
        )
        .file("etc/os-release", 0o644, b"ID=debian\nVERSION_ID=12\n")
        .file("usr/bin/su", 0o4755, &ElfFile::default().bytes())
        .symlink("bin", "usr/bin")
        .file("usr/bin/sh", 0o755, &ElfFile::default().bytes())
        .bytes();
    let second = Tar::new().file("app", 0o755, &program).bytes();
    let budget = Budget {
        enforce: vec![Rule::NoShell],
        warn: vec![Rule::TimeZones],
        max_size: Some(1 << 20),
        ..Budget::default()
    };
    insta::assert_snapshot!(table(&[first, second], budget).await);
}

#[tokio::test]
async fn long_lists_say_how_much_more_there_is() {
    let elf = ElfFile::default().bytes();
    let mut tar = Tar::new();
    for index in 0..25 {
        tar = tar.file(&format!("tool-{index:02}"), 0o755, &elf);
    }
    let text = table(&[tar.bytes()], Budget::default()).await;
    assert!(text.contains("Executables: 25"), "{text}");
    assert!(text.contains("  /tool-19 "), "{text}");
    assert!(text.contains("  … and 5 more"), "{text}");
    assert!(!text.contains("/tool-20"), "{text}");
}

#[tokio::test]
async fn names_of_files_cannot_play_with_the_terminal() {
    let tar = Tar::new().file("a\u{1b}[31m\u{202e}b", 0o755, &ElfFile::default().bytes());
    let text = table(&[tar.bytes()], Budget::default()).await;
    assert!(text.contains(r"/a\u{1b}[31m\u{202e}b"), "{text}");
    assert!(!text.contains('\u{1b}'));
}

#[tokio::test]
async fn what_was_not_read_is_said_in_capitals() {
    let tar = Tar::new().file(&"long/".repeat(1000), 0o644, b"x");
    let text = table(&[tar.bytes()], Budget::default()).await;
    assert!(
        text.contains("INCOMPLETE: not all of the image was read"),
        "{text}"
    );
    assert!(text.contains("layer 1: long/"), "{text}");
}
