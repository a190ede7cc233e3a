use super::*;
use crate::fixtures::{Fake, answer};
use serde_json::json;
use whittle_image::fixtures::Tar;
use whittle_image::{OCI_INDEX, OCI_MANIFEST};

/// A layer that is text: the fake registry speaks nothing else.
fn layer() -> Vec<u8> {
    Tar::new().file("app", 0o755, b"#!/bin/sh\n").bytes()
}

fn config() -> Vec<u8> {
    let config = json!({
        "os": "linux", "architecture": "amd64", "config": {"Entrypoint": ["/app"]},
        "rootfs": {"type": "layers", "diff_ids": [digest_of(&layer())]},
    });
    serde_json::to_vec(&config).unwrap()
}

fn manifest() -> Vec<u8> {
    let descriptor = |media_type: &str, bytes: &[u8]| json!({"mediaType": media_type, "digest": digest_of(bytes), "size": bytes.len()});
    let manifest = json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST,
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config()),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer())],
    });
    serde_json::to_vec(&manifest).unwrap()
}

fn index(digest: &str) -> Vec<u8> {
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [
        {"mediaType": OCI_MANIFEST, "digest": digest, "size": 1,
            "platform": {"os": "linux", "architecture": "amd64"}},
    ]});
    serde_json::to_vec(&index).unwrap()
}

fn ok(bytes: &[u8]) -> String {
    answer("200 OK", "", std::str::from_utf8(bytes).unwrap())
}

#[tokio::test]
async fn an_image_is_read_from_its_reference_to_its_contents() {
    let (manifest, index) = (manifest(), index(&digest_of(&manifest())));
    let answers = [ok(&index), ok(&manifest), ok(&config()), ok(&layer())];
    let fake = Fake::start(&answers.each_ref().map(String::as_str)).await;
    let client = fake.client(None);
    let pointed = client.pointed(&Reference::parse("h/team/hello:1")).await;
    let pointed = pointed.unwrap();
    assert_eq!(pointed.bytes(), index);
    let Pointed::Index {
        digest, entries, ..
    } = pointed
    else {
        panic!("an index");
    };
    assert_eq!(digest, digest_of(&index));
    let found = client.platform_manifest(&entries[0].digest).await.unwrap();
    assert_eq!(
        (&found.digest, &found.bytes),
        (&entries[0].digest, &manifest)
    );
    let config = client.image_config(&found.config).await.unwrap();
    let contents = client.contents(&found.layers, &config, 0).await.unwrap();
    assert_eq!(contents.start.program.path, "/app");
    let asked = fake.asked();
    for (asked, path) in asked.iter().zip([
        "manifests/1 ".to_owned(),
        format!("manifests/{} ", digest_of(&manifest)),
        format!("blobs/{} ", found.config),
        format!("blobs/{} ", digest_of(&layer())),
    ]) {
        assert!(asked.contains(&path), "{asked}: {path}");
    }
}

#[tokio::test]
async fn bytes_with_another_digest_are_not_what_was_asked_for() {
    let wanted = format!("h/team/hello:1@{}", digest_of(b"other"));
    let fake = Fake::start(&[&ok(&manifest())]).await;
    let read = fake.client(None).pointed(&Reference::parse(&wanted)).await;
    let error = read.unwrap_err();
    assert!(
        matches!(
            error,
            ReadError::Manifest(ManifestError::WrongDigest { .. })
        ),
        "{error}"
    );
    // By its digest, whatever tag stands before it.
    let asked = fake.asked();
    assert!(asked[0].contains(&digest_of(b"other")), "{}", asked[0]);
}

#[tokio::test]
async fn an_index_within_an_index_is_no_image() {
    let inner = index(&digest_of(b"x"));
    let fake = Fake::start(&[&ok(&inner)]).await;
    let digest = digest_of(&inner);
    let error = fake.client(None).platform_manifest(&digest).await;
    let said = error.unwrap_err().to_string();
    assert!(said.contains(&digest), "{said}");
}

#[tokio::test]
async fn manifests_and_blobs_are_checked_by_the_algorithm_of_their_digest() {
    use whittle_image::Hasher;
    let sha512 = |bytes: &[u8]| {
        let mut hash = Hasher::of("sha512:").unwrap();
        hash.update(bytes);
        hash.finish()
    };
    let digest = sha512(&manifest());
    let fake = Fake::start(&[&ok(&manifest()), &ok(&config())]).await;
    let client = fake.client(None);
    assert_eq!(client.manifest_of(&digest).await.unwrap(), manifest());
    assert!(client.image_config(&sha512(&config())).await.is_ok());
    // Nothing is asked for that could not be checked.
    let error = client.image_config("md5:00").await.unwrap_err();
    assert!(
        error.to_string().contains("neither sha256 nor sha512"),
        "{error}"
    );
    assert_eq!(fake.asked().len(), 2);
}
