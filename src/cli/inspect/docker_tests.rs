use serde_json::{Value, json};

use super::*;
use crate::inspect::fixtures::{config, program};
use whittle_image::fixtures::{Tar, gzip};

/// What `docker save` wrote until Docker 24: a folder for each layer, and links where two are the same.
fn saved(images: &[Value]) -> Vec<u8> {
    let config = config("linux/amd64", &[program(), program()]);
    let name = format!("{}.json", &digest_of(&config)[7..]);
    let manifest = Value::from(images.to_vec())
        .to_string()
        .replace("CONFIG", &name);
    Tar::new()
        .file("a/layer.tar", 0o644, &program())
        .symlink("b/layer.tar", "../a/layer.tar")
        .file(&name, 0o644, &config)
        .file("manifest.json", 0o644, manifest.as_bytes())
        .bytes()
}

fn image(tags: &[&str], layers: &[&str]) -> Value {
    json!({"Config": "CONFIG", "RepoTags": tags, "Layers": layers})
}

const BOTH: [&str; 2] = ["a/layer.tar", "b/layer.tar"];

fn open(bytes: &[u8], name: Option<&str>) -> Result<(Archive, Opened), InspectError> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    let mut archive = Archive::new(Files::open(file.path())?, name.map(str::to_owned));
    let opened = archive.open()?;
    // A compressed tar is opened again for a file that lies before.
    let _ = file.keep();
    Ok((archive, opened))
}

fn said(bytes: &[u8], name: Option<&str>) -> String {
    match open(bytes, name) {
        Ok(_) => panic!("it was opened"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn an_image_is_read_from_a_tar_also_a_compressed_one() {
    let bytes = saved(&[image(&["hello:1"], &BOTH)]);
    for bytes in [bytes.clone(), gzip(&bytes)] {
        let (mut archive, opened) = open(&bytes, None).unwrap();
        let contents = archive.contents(&opened, 0).unwrap();
        assert_eq!(contents.layers.items.len(), 2);
        assert_eq!(contents.start.program.path, "/app");
        let config = config("linux/amd64", &[program(), program()]);
        assert_eq!(opened.id, digest_of(&config));
        assert!(opened.uncompressed);
        assert_eq!(opened.size as usize, config.len() + 2 * program().len());
        std::fs::remove_file(archive.files.path()).unwrap();
    }
}

#[test]
fn layers_may_be_compressed_as_crane_writes_them() {
    let bytes = Tar::new()
        .file("c.json", 0o644, &config("linux/amd64", &[program()]))
        .file("l.tar.gz", 0o644, &gzip(&program()))
        .file(
            "manifest.json",
            0o644,
            br#"[{"Config":"c.json","Layers":["l.tar.gz"]}]"#,
        )
        .bytes();
    let (mut archive, opened) = open(&bytes, None).unwrap();
    assert!(!opened.uncompressed);
    archive.contents(&opened, 0).unwrap();
}

#[test]
fn an_image_is_found_by_its_name_or_its_id() {
    let other = config("linux/arm64", &[program(), program()]);
    let mut bytes =
        Tar::new()
            .file("other.json", 0o644, &other)
            .file("a/layer.tar", 0o644, &program());
    let first = config("linux/amd64", &[program(), program()]);
    let name = format!("{}.json", &digest_of(&first)[7..]);
    let manifest = Value::from(vec![
        image(&["hello:1"], &["a/layer.tar", "a/layer.tar"]),
        json!({"Config": "other.json", "RepoTags": ["example.com/a:2"], "Layers": ["a/layer.tar", "a/layer.tar"]}),
    ]);
    bytes = bytes.file(&name, 0o644, &first).file(
        "manifest.json",
        0o644,
        manifest.to_string().replace("CONFIG", &name).as_bytes(),
    );
    let bytes = bytes.bytes();
    let id = digest_of(&config("linux/amd64", &[program(), program()]));
    for name in ["hello:1", "docker.io/library/hello:1", "example.com/a:2"] {
        open(&bytes, Some(name)).unwrap();
    }
    assert!(said(&bytes, None).contains("choose one of example.com/a:2, hello:1, with"));
    assert!(said(&bytes, Some("hello")).contains("image hello not found; it has example.com/a:2"));
    open(&saved(&[image(&[], &BOTH)]), Some(&id)).unwrap();
}

#[test]
fn several_names_of_one_image_are_no_question() {
    for images in [
        &[image(&["hello:1", "hello:latest"], &BOTH)][..],
        &[
            image(&["hello:1"], &BOTH),
            image(&["example.com/a:2"], &BOTH),
        ],
        &[image(&[], &BOTH), image(&["example.com/a:2"], &BOTH)],
    ] {
        open(&saved(images), None).unwrap();
        let text = said(&saved(images), Some("gone:1"));
        assert!(text.contains("image gone:1 not found; it has "), "{text}");
    }
}

#[test]
fn null_is_empty_in_what_docker_saved() {
    let bytes = |manifest: &str, layers: &[Vec<u8>]| {
        Tar::new()
            .file("c.json", 0o644, &config("linux/amd64", layers))
            .file("manifest.json", 0o644, manifest.as_bytes())
            .bytes()
    };
    for rest in [
        "",
        r#","Layers":null,"RepoTags":null"#,
        r#","Layers":[],"RepoTags":[]"#,
    ] {
        let manifest = format!(r#"[{{"Config":"c.json"{rest}}}]"#);
        let (mut archive, opened) = open(&bytes(&manifest, &[]), None).unwrap();
        let contents = archive.contents(&opened, 0).unwrap();
        assert_eq!((contents.files, contents.layers.items.len()), (0, 0));
    }
    for empty in ["null", "[]"] {
        assert_eq!(
            said(&bytes(empty, &[]), None),
            "no image found in the index"
        );
    }
    let text = said(&bytes(r#"[{"Config":"c.json","Layers":"a"}]"#, &[]), None);
    assert!(text.contains("[0].Layers: invalid type"), "{text}");
}

#[test]
fn what_does_not_fit_together_is_an_error() {
    for (images, why) in [
        (
            image(&[], &BOTH[..1]),
            "has 1 layers, and the image's config has 2",
        ),
        (
            image(&[], &["a/layer.tar", "../../etc/passwd"]),
            "layer 2 not found: ../../etc/passwd",
        ),
        (json!({"Config": "gone.json"}), "config gone.json not found"),
        (json!({"Config": "a/layer.tar"}), "not a container image"),
        (json!("text"), "invalid manifest: [0]: invalid type"),
    ] {
        let text = said(&saved(&[images]), None);
        assert!(text.contains(why), "{text}");
    }
    assert_eq!(said(&saved(&[]), None), "no image found in the index");
}

#[test]
fn a_config_or_a_layer_that_was_replaced_is_told() {
    let digits = "0".repeat(64);
    let bytes = Tar::new()
        .file(&format!("{digits}.json"), 0o644, b"{}")
        .file(
            "manifest.json",
            0o644,
            format!("[{{\"Config\":\"{digits}.json\"}}]").as_bytes(),
        )
        .bytes();
    let text = said(&bytes, None);
    assert!(
        text.starts_with("the config: digest mismatch: expected sha256:000000000000")
            && text.contains("got sha256:44136fa355b3"),
        "{text}"
    );
    let config = config("linux/amd64", &[program()]);
    let bytes = Tar::new()
        .file("c.json", 0o644, &config)
        .file(
            "l.tar",
            0o644,
            &Tar::new().file("app", 0o755, b"other").bytes(),
        )
        .file(
            "manifest.json",
            0o644,
            br#"[{"Config":"c.json","Layers":["l.tar"]}]"#,
        )
        .bytes();
    let (mut archive, opened) = open(&bytes, None).unwrap();
    let error = archive.contents(&opened, 0).unwrap_err().to_string();
    assert!(error.contains("layer 1 has the wrong diff ID"), "{error}");
}
