use std::path::Path;

use super::*;
use fixtures::{LayoutFolder, program};
use whittle_image::fixtures::{Tar, gzip};

fn options(image: &str) -> Options {
    Options {
        image: image.into(),
        ..Options::default()
    }
}

async fn failed(options: &Options) -> bool {
    let (_, verdicts) = inspect(options, 0).await.unwrap();
    verdicts.iter().any(|verdict| verdict.failed)
}

#[tokio::test]
async fn a_folder_and_its_tar_give_the_same_report() {
    let layout = LayoutFolder::of("linux/amd64", &[program()]);
    let (expected, _) = inspect(&options(&layout.name()), 0).await.unwrap();
    assert_eq!(expected.images.len(), 1);
    assert_eq!(expected.digest, expected.images[0].digest);
    let folder = tempfile::tempdir().unwrap();
    for bytes in [layout.tar(), gzip(&layout.tar())] {
        let path = folder.path().join("image.tar");
        std::fs::write(&path, bytes).unwrap();
        for name in [
            path.display().to_string(),
            format!("oci:{}", path.display()),
        ] {
            let (report, _) = inspect(&options(&name), 0).await.unwrap();
            assert_eq!(
                (&report.digest, &report.images),
                (&expected.digest, &expected.images)
            );
        }
    }
}

#[tokio::test]
async fn what_is_no_image_is_an_error_that_names_what_would_be_one() {
    let folder = tempfile::tempdir().unwrap();
    let export = folder.path().join("export.tar");
    std::fs::write(&export, Tar::new().file("etc/passwd", 0o644, b"x").bytes()).unwrap();
    for (name, why) in [
        (folder.path(), "neither oci-layout and index.json"),
        (&export, "docker export"),
        (Path::new("/nowhere/at/all"), "No such file"),
        (
            Path::new("/dev/null"),
            "neither a directory nor a regular file",
        ),
    ] {
        let error = inspect(&options(&name.display().to_string()), 0)
            .await
            .unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
    }
}

#[tokio::test]
async fn growth_is_measured_against_the_other_image_and_says_what_grew() {
    let small = LayoutFolder::of("linux/amd64", &[program()]);
    // Random enough not to be compressed away.
    let noise: Vec<u8> = (0..40_000_u32)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect();
    let large = LayoutFolder::of(
        "linux/amd64",
        &[program(), Tar::new().file("noise", 0o644, &noise).bytes()],
    );
    let mut asked = options(&large.name());
    asked.against = Some(small.name());
    asked.budget.max_growth_percent = Some(10);
    let (report, verdicts) = inspect(&asked, 0).await.unwrap();
    assert!(verdicts[0].failed);
    let finding = &report.images[0].findings[0];
    assert_eq!(
        (&finding.rule[..], &finding.level[..]),
        ("maxGrowthPercent", "Enforce")
    );
    assert!(finding.message.contains("/noise +"), "{}", finding.message);
    asked.image = small.name();
    assert!(!failed(&asked).await);
}

#[tokio::test]
async fn an_image_to_compare_with_is_named_where_it_is_wrong() {
    let layout = LayoutFolder::of("linux/amd64", &[program()]);
    let mut asked = options(&layout.name());
    asked.budget.max_growth_percent = Some(10);
    asked.against = Some("/nowhere".into());
    let error = inspect(&asked, 0).await.unwrap_err().to_string();
    assert!(
        error.starts_with("/nowhere, to compare with: /nowhere: No such file"),
        "{error}"
    );
    let other = LayoutFolder::of("linux/arm64", &[program()]);
    asked.against = Some(other.name());
    let error = inspect(&asked, 0).await.unwrap_err().to_string();
    assert!(
        error.contains("no image found for linux/amd64; available: linux/arm64"),
        "{error}"
    );
}

#[tokio::test]
async fn a_rule_cannot_be_enforced_and_warned_of() {
    let mut asked = options("busybox");
    asked.budget.enforce = vec![Rule::NoShell];
    asked.budget.warn = vec![Rule::NoShell];
    let error = inspect(&asked, 0).await.unwrap_err().to_string();
    assert!(
        error.contains("NoShell is in both --enforce and --warn"),
        "{error}"
    );
}

#[tokio::test]
async fn a_rule_that_is_broken_fails_the_command() {
    let layout = LayoutFolder::of("linux/amd64", &[program()]);
    let mut asked = options(&layout.name());
    assert!(!failed(&asked).await);
    asked.budget.enforce = vec![Rule::StaticBinary, Rule::NoShell];
    assert!(!failed(&asked).await);
    asked.budget.enforce = vec![Rule::CACertificates];
    assert!(failed(&asked).await);
}

#[tokio::test]
async fn the_json_has_the_shape_that_is_documented() {
    let layout = LayoutFolder::of("linux/amd64", &[program()]);
    let mut asked = options(&layout.name());
    asked.budget.warn = vec![Rule::TimeZones];
    let (report, verdicts) = inspect(&asked, 0).await.unwrap();
    let mut bytes = Vec::new();
    print(Output::Json, &report, &verdicts, &mut bytes).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    let image = &json["images"][0];
    assert_eq!(json["image"], layout.name());
    assert_eq!(image["platform"], "linux/amd64");
    assert_eq!(image["contents"]["start"]["program"]["runs"], "Yes");
    assert!(image["size"].as_i64().unwrap() > 0);
    let finding = &image["findings"][0];
    assert_eq!(
        (&finding["rule"], &finding["level"]),
        (&"TimeZones".into(), &"Warn".into())
    );
    assert_eq!(finding["certain"], true);
}

#[test]
fn a_name_that_is_a_file_too_says_how_to_mean_the_file() {
    let error = InspectError::Name("no".into());
    // The folder in which tests run has one of these.
    assert!(explain("Cargo.toml", &error).contains("for the file write ./Cargo.toml"));
    assert_eq!(explain("busybox", &error), "busybox: no");
    let error = InspectError::NoImage {
        path: "./a.tar".into(),
        why: "it is none".into(),
    };
    assert_eq!(explain("./a.tar", &error), "./a.tar: it is none");
}

#[tokio::test]
async fn a_page_shows_maps_contents_rules_and_what_is_reached() {
    let second = Tar::new()
        .file("usr/share/doc/large", 0o644, &[1; 70_000])
        .file("usr/share/doc/<b>", 0o644, &[1; 5000])
        .bytes();
    let layout = LayoutFolder::of("linux/amd64", &[program(), second]);
    let page = html(&layout.name()).await;
    for part in [
        "<h2>by folder</h2>",
        "<h2>by layer</h2>",
        "linux/amd64 · sha256:",
        "<th scope=\"row\">User</th><td>65532:65532 (uid 65532, gid 0)</td>",
        "<th scope=\"row\">NoShell</th><td><span class=\"kept\">kept</span> if a contract asked for it</td>",
        "<td>68.4 KiB</td><td>no</td><td><code>/usr/share/doc/large</code></td>",
        "<td>yes</td><td><code>/app</code></td>",
        "/usr/share/doc/&lt;b&gt;",
    ] {
        assert!(page.contains(part), "{part} in {page}");
    }
    assert!(!page.contains("<b>"), "{page}");
}

#[tokio::test]
async fn yaml_says_what_json_says() {
    let layout = LayoutFolder::of("linux/amd64", &[program()]);
    let (report, verdicts) = inspect(&options(&layout.name()), 0).await.unwrap();
    let text = |output| {
        let mut bytes = Vec::new();
        print(output, &report, &verdicts, &mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    };
    let json: serde_json::Value = serde_json::from_str(&text(Output::Json)).unwrap();
    let yaml: serde_json::Value = serde_saphyr::from_str(&text(Output::Yaml)).unwrap();
    assert_eq!(json, yaml);
}
