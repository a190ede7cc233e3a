use super::*;
use crate::inspect::fixtures::{LayoutFolder, entry, program};
use whittle_image::OCI_MANIFEST;
use whittle_image::fixtures::{ElfFile, Tar};

fn options(image: &str) -> Options {
    Options {
        image: image.into(),
        ..Options::default()
    }
}

fn base() -> Vec<u8> {
    Tar::new()
        .folder("tmp", 0o1777)
        .file("usr/share/doc/readme", 0o644, &[1; 3000])
        .file(
            "lib/apk/db/installed",
            0o644,
            b"P:musl\nV:1.2.4\n\nP:zlib\nV:1.3\n\n",
        )
        .bytes()
}

fn top() -> Vec<u8> {
    Tar::new()
        .file("usr/share/doc/.wh.readme", 0o644, b"")
        .file(
            "lib/apk/db/installed",
            0o644,
            b"P:musl\nV:1.2.5\n\nP:curl\nV:8.0\n\n",
        )
        .file("bin/sh", 0o755, &ElfFile::default().bytes())
        .file("srv/\u{1b}[31mred", 0o644, b"12")
        .bytes()
}

fn anonymous(mut report: DifferenceReport) -> DifferenceReport {
    for (head, name) in [(&mut report.from, "app:1"), (&mut report.to, "app:2")] {
        head.image = name.into();
        head.digest = Some(format!("sha256:{name}"));
        head.size = 4_812_345;
    }
    report.to.size += 1_000_000;
    report
}

async fn compared(before: &[Vec<u8>], after: &[Vec<u8>]) -> DifferenceReport {
    let (one, two) = (
        LayoutFolder::of("linux/amd64", before),
        LayoutFolder::of("linux/amd64", after),
    );
    let found = inspect(&options(&one.name()), &two.name(), 0).await;
    anonymous(found.unwrap())
}

fn shown(report: &DifferenceReport) -> String {
    let mut bytes = Vec::new();
    print(Output::Table, report, &mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn a_whole_difference_reads_well() {
    let report = compared(&[program(), base()], &[program(), base(), top()]).await;
    assert!(report.differs);
    insta::assert_snapshot!(shown(&report));
}

#[tokio::test]
async fn the_same_files_in_one_layer_are_the_same_and_say_so() {
    let both = Tar::new()
        .file("app", 0o755, &ElfFile::default().bytes())
        .file("a", 0o644, b"1")
        .bytes();
    let apart = Tar::new().file("a", 0o644, b"1").bytes();
    let report = compared(&[both], &[program(), apart]).await;
    assert!(!report.differs, "{report:?}");
    let text = shown(&report);
    assert!(
        text.contains("0 in both; 1 only in the first, 2 only"),
        "{text}"
    );
    assert!(
        text.contains("The same files, packages and contents"),
        "{text}"
    );
}

#[tokio::test]
async fn the_same_image_is_not_even_read() {
    let layout = LayoutFolder::of("linux/amd64", &[program()]);
    let (report, _) = crate::inspect::inspect(&options(&layout.name()), 0)
        .await
        .unwrap();
    let layer = report.images[0].contents.layers.items[0].digest.clone();
    std::fs::write(layout.file(&layer.unwrap()), b"damaged").unwrap();
    let report = inspect(&options(&layout.name()), &layout.name(), 0)
        .await
        .unwrap();
    assert!(!report.differs);
    assert!(shown(&report).contains("The same image."));
}

#[tokio::test]
async fn json_and_yaml_say_the_same() {
    let report = compared(&[program(), base()], &[program(), base(), top()]).await;
    let text = |output| {
        let mut bytes = Vec::new();
        print(output, &report, &mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    };
    let json: serde_json::Value = serde_json::from_str(&text(Output::Json)).unwrap();
    let yaml: serde_json::Value = serde_saphyr::from_str(&text(Output::Yaml)).unwrap();
    assert_eq!(json, yaml);
    assert_eq!(json["differs"], true);
    assert_eq!(json["from"]["image"], "app:1");
    assert_eq!(json["platform"], "linux/amd64");
    assert_eq!(json["totals"]["removed"]["bytes"], 3000);
    assert_eq!(json["packages"]["items"][0]["name"], "curl");
    let shells = json["contents"].as_array().unwrap().iter();
    let shells: Vec<_> = shells.filter(|fact| fact["what"] == "Shells").collect();
    assert_eq!(shells[0]["after"], "/bin/sh");
}

#[tokio::test]
async fn platforms_must_be_in_both() {
    let two = LayoutFolder::new();
    let digests = ["linux/amd64", "linux/arm64"]
        .map(|platform| (platform, two.image(platform, &[program()])));
    let entries: Vec<_> = digests
        .iter()
        .map(|(platform, digest)| entry(digest, OCI_MANIFEST, Some(platform), None))
        .collect();
    two.top(&entries);
    let one = LayoutFolder::of("linux/amd64", &[program(), base()]);
    let mut asked = options(&two.name());
    asked.platforms = Platforms::One("linux/arm64".into());
    let said = inspect(&asked, &one.name(), 0)
        .await
        .unwrap_err()
        .to_string();
    let expected = format!(
        "{}, to compare with: no image found for linux/arm64; available: linux/amd64",
        one.name()
    );
    assert_eq!(said, expected);
    let mut asked = options(&one.name());
    asked.platforms = Platforms::One("linux/arm64".into());
    let said = inspect(&asked, &two.name(), 0)
        .await
        .unwrap_err()
        .to_string();
    assert!(said.starts_with("no image found for linux/arm64"), "{said}");
    asked.platforms = Platforms::One("linux/amd64".into());
    let report = inspect(&asked, &two.name(), 0).await.unwrap();
    assert_eq!(report.difference.totals.removed.files, 3);
}

#[test]
fn a_tag_or_a_digest_alone_is_of_the_same_repository() {
    let digest = format!("sha256:{}", "0".repeat(64));
    for (image, other, expected) in [
        ("busybox:1", ":2", "docker.io/library/busybox:2".to_owned()),
        ("a.example.com:5000/b@sha256:x", ":2", ":2".into()),
        (
            "a.example.com:5000/b:1",
            ":2",
            "a.example.com:5000/b:2".into(),
        ),
        (
            "a.example.com/b:1",
            &digest,
            format!("a.example.com/b@{digest}"),
        ),
        ("a.example.com/b:1", "./file", "./file".into()),
        ("./file", ":2", ":2".into()),
    ] {
        assert_eq!(beside(image, other), expected, "{image} {other}");
    }
}
