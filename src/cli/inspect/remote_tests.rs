use super::*;
use crate::inspect::fixtures::{CONFIG, config};
use crate::inspect::platform::Platforms;
use crate::inspect::source::Source;
use serde_json::json;
use whittle_image::{OCI_INDEX, OCI_MANIFEST, digest_of};
use whittle_registry::fixtures::{Fake, answer};

/// A layer that is text: the fake registry speaks nothing else.
fn layer() -> Vec<u8> {
    whittle_image::fixtures::Tar::new()
        .file("app", 0o755, b"#!/bin/sh\n")
        .bytes()
}

fn ok(bytes: &[u8]) -> String {
    answer("200 OK", "", std::str::from_utf8(bytes).unwrap())
}

fn manifest(kind: &str, urls: &[&str]) -> Vec<u8> {
    let config = config("linux/amd64", &[layer()]);
    let mut entry = json!({
        "mediaType": "application/vnd.oci.image.layer.v1.tar",
        "digest": digest_of(&layer()), "size": layer().len(),
    });
    if !urls.is_empty() {
        entry["urls"] = json!(urls);
    }
    let manifest = json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST,
        "config": {"mediaType": kind, "digest": digest_of(&config), "size": config.len()},
        "layers": [entry],
    });
    serde_json::to_vec(&manifest).unwrap()
}

async fn open(answers: &[&str], rest: &str) -> (Fake, Source) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let fake = Fake::start(answers).await;
    let reference = Reference::parse(&format!("{}/team/hello{rest}", fake.host()));
    let remote = Remote::new(reference, &Connection::default()).unwrap();
    (fake, Source::Remote(Box::new(remote)))
}

async fn said(answers: &[&str], rest: &str) -> String {
    let (_fake, mut source) = open(answers, rest).await;
    let target = match source.find(&Platforms::Default).await {
        Ok(target) => target,
        Err(error) => return error.to_string(),
    };
    match source.contents(&target.images[0], 0).await {
        Ok(_) => panic!("it was read"),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn an_image_is_streamed_from_the_registry() {
    let config = config("linux/amd64", &[layer()]);
    let manifest = manifest(CONFIG, &[]);
    let (fake, mut source) = open(&[&ok(&manifest), &ok(&config), &ok(&layer())], ":1").await;
    let target = source.find(&Platforms::Default).await.unwrap();
    assert_eq!(target.digest, Some(digest_of(&manifest)));
    let contents = source.contents(&target.images[0], 0).await.unwrap();
    assert_eq!(contents.start.program.path, "/app");
    let asked = fake.asked();
    assert!(
        asked[0].starts_with("GET /v2/team/hello/manifests/1 "),
        "{}",
        asked[0]
    );
    assert!(
        asked[2].starts_with("GET /v2/team/hello/blobs/sha256:"),
        "{}",
        asked[2]
    );
}

#[tokio::test]
async fn an_index_without_our_platform_lists_what_it_has() {
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [
        {"mediaType": OCI_MANIFEST, "digest": digest_of(b"a"), "size": 1, "platform": {"os": "windows", "architecture": "amd64"}},
        {"mediaType": OCI_MANIFEST, "digest": digest_of(b"b"), "size": 1, "platform": {"os": "plan9", "architecture": "386"}},
    ]});
    let text = said(&[&ok(index.to_string().as_bytes())], "").await;
    assert!(
        text.contains("choose one of windows/amd64, plan9/386, with --platform"),
        "{text}"
    );
}

#[tokio::test]
async fn a_manifest_with_another_digest_is_refused() {
    let rest = format!("@{}", digest_of(b"other"));
    let text = said(&[&ok(&manifest(CONFIG, &[]))], &rest).await;
    assert!(
        text.starts_with("the manifest: digest mismatch: expected sha256:"),
        "{text}"
    );
}

#[tokio::test]
async fn an_index_of_an_index_and_an_artifact_are_refused() {
    let inner = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}).to_string();
    let outer = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [
        {"mediaType": OCI_INDEX, "digest": digest_of(inner.as_bytes()), "size": inner.len()},
    ]});
    let answers = [ok(outer.to_string().as_bytes()), ok(inner.as_bytes())];
    let text = said(&[&answers[0], &answers[1]], "").await;
    assert!(
        text.contains("invalid index: it contains another index"),
        "{text}"
    );
    let chart = manifest("application/vnd.cncf.helm.config.v1+json", &[]);
    let text = said(&[&ok(&chart)], "").await;
    assert!(text.contains("a Helm chart"), "{text}");
}

#[tokio::test]
async fn a_layer_that_is_not_there_names_the_address_where_it_is() {
    let config = config("linux/amd64", &[layer()]);
    let manifest = manifest(CONFIG, &["https://example.com/far"]);
    let gone = answer("404 Not Found", "", "");
    let text = said(&[&ok(&manifest), &ok(&config), &gone], "").await;
    assert!(text.contains("stored at https://example.com/far"), "{text}");
}

#[tokio::test]
async fn a_layer_with_other_bytes_is_refused() {
    let config = config("linux/amd64", &[layer()]);
    let other = whittle_image::fixtures::Tar::new()
        .file("app", 0o755, b"#!/bin/ba\n")
        .bytes();
    let text = said(
        &[&ok(&manifest(CONFIG, &[])), &ok(&config), &ok(&other)],
        "",
    )
    .await;
    assert!(text.contains("layer 1 has the wrong digest"), "{text}");
}

#[tokio::test]
async fn what_is_not_there_is_said_without_any_guess() {
    let text = said(&[&answer("404 Not Found", "", "")], ":9").await;
    assert_eq!(text, "manifest 9 of team/hello: 404 Not Found");
}

#[test]
fn a_refusal_says_where_credentials_are_looked_for() {
    let mut login = Login::default();
    assert!(denied("a.example", &login).contains("docker login a.example"));
    login.helper = Some("desktop".into());
    login.file = Some("/h/config.json".into());
    let text = denied("a.example", &login);
    assert!(
        text.contains("/h/config.json uses the credential helper desktop for a.example"),
        "{text}"
    );
    login.credentials = Some(whittle_registry::Credentials::Refresh("hunter22".into()));
    let text = denied("a.example", &login);
    assert!(
        text.contains("are those of /h/config.json") && !text.contains("hunter22"),
        "{text}"
    );
}

#[test]
fn a_file_without_certificates_is_refused() {
    let file = tempfile::NamedTempFile::new().unwrap();
    assert!(
        certificates(file.path())
            .unwrap_err()
            .to_string()
            .contains("no PEM certificate found")
    );
    assert!(
        certificates(Path::new("/nowhere"))
            .unwrap_err()
            .to_string()
            .contains("No such file")
    );
}

#[tokio::test]
async fn a_web_server_and_a_limit_are_told_with_what_to_do() {
    let page = answer(
        "200 OK",
        "server: nginx\r\n",
        "<!doctype html><html><head><title>Welcome</title></head></html>",
    );
    let text = said(&[&page], "").await;
    assert!(
        text.contains("with an HTML page titled 'Welcome' (nginx): 127.0.0.1")
            && text.contains("is a web server, not a registry"),
        "{text}"
    );
    let body = r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your pull rate limit."}]}"#;
    let busy = answer("429 Too Many Requests", "", body);
    let text = said(&[&busy, &busy, &busy], "").await;
    assert!(
        text.contains("You have reached your pull rate limit: rate limit of 127.0.0.1")
            && text.contains("docker login"),
        "{text}"
    );
}
