//! Every kind of source is built as it stands.

use std::io::Write;

use serde_json::json;
use whittle_api::FailureReason;

use crate::field::{Field, Repository, variable};
use crate::registry::{files_of, push_artifact};

/// A context in which `.dockerignore` says with each kind of rule what stays out.
const FILES: [(&str, &str); 8] = [
    ("Dockerfile", "FROM scratch\nCOPY . /src/\n"),
    (
        ".dockerignore",
        "# not these\n.git\nnode_modules\n**/*.log\n!keep.log\n/dist/\n",
    ),
    ("main.go", "package main"),
    ("node_modules/left-pad/index.js", "x"),
    ("build.log", "x"),
    ("keep.log", "x"),
    ("sub/deep.log", "x"),
    ("dist/app", "x"),
];
const KEPT: [&str; 4] = [
    "src/.dockerignore",
    "src/Dockerfile",
    "src/keep.log",
    "src/main.go",
];

fn archive(files: &[(&str, &str)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(vec![]);
    for (name, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, text.as_bytes()).unwrap();
    }
    let mut gzip = flate2::write::GzEncoder::new(vec![], Default::default());
    gzip.write_all(&tar.into_inner().unwrap()).unwrap();
    gzip.finish().unwrap()
}

#[tokio::test]
async fn the_same_files_make_the_same_image_from_every_kind_of_source() {
    let field = Field::new("sources").await;
    let map: serde_json::Map<String, serde_json::Value> = FILES
        .iter()
        .map(|(name, text)| ((*name).to_owned(), json!(text)))
        .collect();
    field.build("inline", json!(map), json!({})).await;

    let items: Vec<_> = (0..)
        .zip(FILES)
        .map(|(n, (path, _))| json!({"key": format!("file-{n}"), "path": path}))
        .collect();
    let data: serde_json::Map<String, serde_json::Value> = (0..)
        .zip(FILES)
        .map(|(n, (_, text))| (format!("file-{n}"), json!(text)))
        .collect();
    field.create(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "source"}, "data": data})).await;
    let source = json!({"configMap": {"name": "source", "items": items}});
    field.apply("configmap", source, json!({})).await;

    let artifact = field.image("artifact");
    let digest = push_artifact(&artifact, "v1", &archive(&FILES)).await;
    field
        .apply(
            "oci-tag",
            json!({"oci": {"image": format!("{artifact}:v1")}}),
            json!({}),
        )
        .await;
    let source = json!({"oci": {"image": format!("{artifact}@{digest}")}});
    field.apply("oci-digest", source, json!({})).await;

    let repository = Repository::new(&field.namespace);
    let commit = repository.commit(&FILES, "refs/heads/main");
    field
        .apply("git", json!({"git": {"url": repository.url}}), json!({}))
        .await;

    for (name, revision) in [
        ("inline", "inline@sha256:".to_owned()),
        ("configmap", "configmap@sha256:".to_owned()),
        ("oci-tag", format!("oci@{digest}")),
        ("oci-digest", format!("oci@{digest}")),
        ("git", format!("main@sha1:{commit}")),
    ] {
        let status = field.succeeds(name).await;
        let told = status.revision.unwrap();
        assert!(told.starts_with(&revision), "{name}: {told}");
        let mut files: Vec<String> = files_of(&field.image(name), &status.digest.unwrap())
            .await
            .into_keys()
            .collect();
        files.sort();
        assert_eq!(files, KEPT, "{name}");
    }
    field.close().await;
}

#[tokio::test]
async fn a_config_map_that_is_missing_is_named_and_its_build_goes_on_when_it_appears() {
    let field = Field::new("map").await;
    let source = json!({"configMap": {"name": "later"}});
    field.apply("hello", source, json!({})).await;
    let status = field.ready("hello", "False", "SourceNotFound").await;
    let message = &whittle_api::find(&status.conditions, "Ready")
        .unwrap()
        .message;
    assert!(message.contains("ConfigMap later not found"), "{message}");
    field
        .create(
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "later"},
        "data": {"Dockerfile": "FROM scratch\nCOPY a /a\n", "a": "b"}}),
        )
        .await;
    field.succeeds("hello").await;
    field.close().await;
}

#[tokio::test]
async fn an_artifact_that_is_missing_or_no_source_is_named() {
    let field = Field::new("artifact").await;
    let artifact = field.image("artifact");
    push_artifact(&artifact, "text", b"this is no archive").await;
    push_artifact(
        &artifact,
        "good",
        &archive(&[
            ("cmd/Dockerfile", "FROM scratch\nCOPY a /a\n"),
            ("cmd/a", "b"),
        ]),
    )
    .await;
    let oci = |tag: &str| json!({"oci": {"image": format!("{artifact}:{tag}")}});
    field.apply("missing", oci("nosuch"), json!({})).await;
    field.apply("text", oci("text"), json!({})).await;
    let mut folder = oci("good");
    folder["oci"]["subPath"] = json!("nosuch");
    field.apply("folder", folder.clone(), json!({})).await;
    for (name, words) in [
        ("missing", "artifact:nosuch not found in its registry"),
        ("text", "is not a valid source"),
        ("folder", "directory nosuch not found in"),
    ] {
        let failure = field.fails(name, FailureReason::SourceNotFound).await;
        assert!(failure.message.contains(words), "{}", failure.message);
    }
    folder["oci"]["subPath"] = json!("cmd");
    field.apply("folder", folder, json!({})).await;
    field.succeeds("folder").await;
    field.close().await;
}

#[tokio::test]
async fn submodules_come_along_and_large_files_stay_as_they_are() {
    let field = Field::new("submodule").await;
    let library = Repository::new(&format!("{}-library", field.namespace));
    let commit = library.commit(&[("lib.txt", "of the submodule")], "refs/heads/main");
    let repository = Repository::new(&field.namespace);
    repository.submodule("vendor/library", &library.url, &commit);
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n";
    repository.commit(
        &[
            ("Dockerfile", "FROM scratch\nCOPY . /src/\n"),
            (
                ".gitattributes",
                "*.bin filter=lfs diff=lfs merge=lfs -text\n",
            ),
            ("model.bin", pointer),
        ],
        "refs/heads/main",
    );
    field
        .apply("hello", json!({"git": {"url": repository.url}}), json!({}))
        .await;
    let status = field.succeeds("hello").await;
    let files = files_of(&field.image("hello"), &status.digest.unwrap()).await;
    assert_eq!(files["src/vendor/library/lib.txt"], b"of the submodule");
    assert_eq!(files["src/model.bin"], pointer.as_bytes());
    field.close().await;
}

#[tokio::test]
async fn a_private_repository_is_read_with_the_password_of_a_secret() {
    let field = Field::new("private").await;
    let repository = Repository::new(&format!("private/{}", field.namespace));
    let files = [
        ("Dockerfile", "FROM scratch\nCOPY . /src/\n"),
        (".dockerignore", "secret\n"),
        ("secret", "x"),
        ("a", "b"),
    ];
    repository.commit(&files, "refs/heads/main");
    let password = std::fs::read_to_string(variable("GIT_PASSWORD_FILE")).unwrap();
    for (name, password) in [("right", password.trim()), ("wrong", "not-the-password")] {
        field.create(json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "type": "kubernetes.io/basic-auth",
            "stringData": {"username": variable("GIT_USER"), "password": password}})).await;
        let source = json!({"git": {"url": repository.url, "secretRef": {"name": name}}});
        field.apply(name, source, json!({})).await;
    }
    field
        .apply(
            "without",
            json!({"git": {"url": repository.url}}),
            json!({}),
        )
        .await;
    let status = field.succeeds("right").await;
    let files = files_of(&field.image("right"), &status.digest.unwrap()).await;
    assert!(files.contains_key("src/a") && !files.contains_key("src/secret"));
    for (name, words) in [
        ("wrong", "is denied with the credentials in Secret wrong"),
        ("without", "authentication required"),
    ] {
        let failure = field.fails(name, FailureReason::SourceDenied).await;
        assert!(failure.message.contains(words), "{}", failure.message);
    }
    field.close().await;
}

/// 64 gibibytes in a few bytes: a file that is one hole.
fn hole() -> Vec<u8> {
    let mut tar = tar::Builder::new(vec![]);
    let mut header = tar::Header::new_gnu();
    header.set_path("hole").unwrap();
    header.set_entry_type(tar::EntryType::GNUSparse);
    header.set_mode(0o644);
    header.set_size(0);
    let gnu = header.as_gnu_mut().unwrap();
    gnu.realsize[..12].copy_from_slice(b"777777777777");
    gnu.sparse[0].offset[..12].copy_from_slice(b"777777777777");
    gnu.sparse[0].numbytes[..12].copy_from_slice(b"000000000000");
    header.set_cksum();
    tar.append(&header, &[][..]).unwrap();
    let mut gzip = flate2::write::GzEncoder::new(vec![], Default::default());
    gzip.write_all(&tar.into_inner().unwrap()).unwrap();
    gzip.finish().unwrap()
}

#[tokio::test]
async fn a_source_that_is_too_large_fills_no_disk_and_is_told() {
    let field = Field::new("large").await;
    let artifact = field.image("artifact");
    push_artifact(&artifact, "v1", &hole()).await;
    let source = json!({"oci": {"image": format!("{artifact}:v1")}});
    field.apply("large", source, json!({})).await;
    let failure = field.fails("large", FailureReason::SourceTooLarge).await;
    assert!(
        failure.message.contains("runner.scratchSize"),
        "{}",
        failure.message
    );
    field.close().await;
}
