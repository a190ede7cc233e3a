use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{Method, Response, StatusCode};
use serde_json::{Value, json};
use whittle_image::fixtures::{ElfFile, Tar, gzip, header};
use whittle_image::{OCI_INDEX, OCI_MANIFEST};

use super::*;
use crate::inspect::fixtures::{LayoutFolder, config, entry};

/// A registry that keeps what is pushed: by path.
#[derive(Clone, Default)]
struct Registry(Arc<Mutex<HashMap<String, Bytes>>>);

impl Registry {
    /// Starts it: its host.
    async fn start(&self) -> String {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let app = Router::new().fallback(answer).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        host
    }

    fn put(&self, path: &str, bytes: Vec<u8>) {
        self.0.lock().unwrap().insert(path.into(), bytes.into());
    }
}

async fn answer(State(registry): State<Registry>, request: Request) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    let bytes = axum::body::to_bytes(body, 1 << 24).await.unwrap();
    let said = |status| Response::builder().status(status);
    let mut held = registry.0.lock().unwrap();
    let answer = match parts.method {
        Method::POST => said(StatusCode::ACCEPTED).header("Location", format!("{path}one")),
        Method::PUT => {
            let query = parts.uri.query().unwrap_or_default();
            let digest = query.split("digest=").nth(1);
            let path = match digest {
                Some(digest) => path.replace("uploads/one", &digest.replace("%3A", ":")),
                None => path,
            };
            let digest = digest_of(&bytes);
            held.insert(path.clone(), bytes.clone());
            held.insert(
                format!("{}/{digest}", path.rsplit_once('/').unwrap().0),
                bytes,
            );
            said(StatusCode::CREATED)
        }
        _ => match held.get(&path) {
            None => said(StatusCode::NOT_FOUND),
            Some(found) => {
                let body = Body::from(found.clone());
                return said(StatusCode::OK).body(body).unwrap();
            }
        },
    };
    answer.body(Body::empty()).unwrap()
}

/// A base with what nobody needs, and a program.
fn layers() -> [Vec<u8>; 2] {
    let base = Tar::new()
        .folder("usr", 0o755)
        .folder("usr/bin", 0o755)
        .file("usr/bin/gcc", 0o755, &[7; 100_000])
        .symlink("usr/bin/away", "/../../../etc/passwd")
        .folder("tmp", 0o1777);
    let program = ElfFile::default().bytes();
    [
        base.bytes(),
        Tar::new().file("app", 0o755, &program).bytes(),
    ]
}

/// What `docker save` writes.
fn saved() -> Vec<u8> {
    let layers = layers();
    let config = config("linux/amd64", &layers);
    let name = format!("{}.json", &digest_of(&config)[7..]);
    let manifest =
        json!([{"Config": name, "RepoTags": ["a:1"], "Layers": ["0/layer.tar", "1/layer.tar"]}]);
    Tar::new()
        .file("0/layer.tar", 0o644, &layers[0])
        .file("1/layer.tar", 0o644, &layers[1])
        .file(&name, 0o644, &config)
        .file("manifest.json", 0o644, manifest.to_string().as_bytes())
        .bytes()
}

fn options(image: &str, to: Option<&str>) -> Options {
    Options {
        image: image.into(),
        to: to.map(str::to_owned),
        keep: vec![],
        drop: vec![],
        base: None,
        base_layers: Some(1),
        explain: vec![],
        platform: None,
        html: None,
        json: false,
        plain_http: false,
        ca: None,
    }
}

/// The files of an image, and the platform of each of its images.
async fn files(name: &str) -> Vec<(String, Vec<String>)> {
    let location = Location::parse(name, Path::exists).unwrap();
    let mut source = Source::open(location, &Connection::default()).unwrap();
    let target = source.find(&Platforms::All).await.unwrap();
    let mut all = Vec::new();
    for found in &target.images {
        let image = source.image(found, 0).await.unwrap();
        let mut paths: Vec<String> = image.tree.all().map(|id| image.tree.path(id)).collect();
        paths.sort();
        all.push((found.config.platform(), paths));
    }
    all
}

#[tokio::test]
async fn an_image_goes_from_each_kind_of_place_to_each() {
    let registry = Registry::default();
    let host = registry.start().await;
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let layout = LayoutFolder::of("linux/amd64", &layers());
    std::fs::write(at("oci.tar"), layout.tar()).unwrap();
    std::fs::write(at("oci.tar.gz"), gzip(&layout.tar())).unwrap();
    std::fs::write(at("saved.tar"), saved()).unwrap();
    std::fs::write(at("saved.tar.gz"), gzip(&saved())).unwrap();
    let index = std::fs::read(layout.path().join("index.json")).unwrap();
    let index: Value = serde_json::from_slice(&index).unwrap();
    for blob in std::fs::read_dir(layout.path().join("blobs/sha256")).unwrap() {
        let blob = blob.unwrap();
        let digest = format!("sha256:{}", blob.file_name().display());
        let bytes = std::fs::read(blob.path()).unwrap();
        if index["manifests"][0]["digest"] == digest[..] {
            registry.put(&format!("/v2/team/app/manifests/{digest}"), bytes.clone());
            registry.put("/v2/team/app/manifests/1", bytes);
        } else {
            registry.put(&format!("/v2/team/app/blobs/{digest}"), bytes);
        }
    }
    let sources = [
        layout.name(),
        at("oci.tar"),
        at("oci.tar.gz"),
        at("saved.tar"),
        at("saved.tar.gz"),
        format!("{host}/team/app:1"),
    ];
    let mut digests = Vec::new();
    for (number, image) in sources.iter().enumerate() {
        let targets = [
            format!("oci:{}:small", at(&format!("out-{number}"))),
            at(&format!("out-{number}.tar")),
            format!("{host}/team/small:{number}"),
        ];
        for target in targets {
            let said = minimize(&options(image, Some(&target))).await;
            let said = said.unwrap_or_else(|error| panic!("{image} to {target}: {error}"));
            let digest = said.split("sha256:").last().unwrap();
            digests.push((number, digest.lines().next().unwrap().to_owned()));
            assert_eq!(
                files(&target).await,
                [(
                    "linux/amd64".to_owned(),
                    ["/app", "/tmp", "/usr"].map(str::to_owned).to_vec()
                )],
                "{image} to {target}"
            );
        }
    }
    // The same image is the same wherever it lies; what Docker saved has no manifest to name.
    digests.dedup_by(|a, b| a.1 == b.1);
    let numbers: Vec<usize> = digests.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, [0, 3, 5], "{digests:?}");
    assert_eq!(digests[0].1, digests[2].1);
    // Nothing else was left, neither there nor anywhere that the image's names lead to.
    let mut left: Vec<String> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.starts_with("out-"))
        .collect();
    left.sort();
    let expected = ["oci.tar", "oci.tar.gz", "saved.tar", "saved.tar.gz"];
    assert_eq!(left, expected);
    assert!(!folder.path().parent().unwrap().join("outside").exists());
}

#[tokio::test]
async fn all_platforms_of_a_layout_are_written_into_one_index() {
    let folder = tempfile::tempdir().unwrap();
    for nested in [true, false] {
        let layout = LayoutFolder::new();
        let both = ["linux/amd64", "linux/arm64"].map(|platform| {
            let digest = layout.image(platform, &layers());
            entry(&digest, OCI_MANIFEST, Some(platform), None)
        });
        match nested {
            true => {
                let index = layout.index(&both);
                layout.top(&[entry(&index, OCI_INDEX, None, Some("1"))]);
            }
            false => layout.top(&both),
        }
        let to = folder.path().join(format!("{nested}.tar"));
        let to = to.display().to_string();
        minimize(&options(&layout.name(), Some(&to))).await.unwrap();
        let found = files(&to).await;
        let platforms: Vec<&str> = found.iter().map(|(platform, _)| &platform[..]).collect();
        assert_eq!(platforms, ["linux/amd64", "linux/arm64"]);
        assert!(found.iter().all(|(_, paths)| paths.len() == 3), "{found:?}");
    }
}

#[tokio::test]
async fn an_image_is_held_to_its_digests_and_nothing_is_left_where_it_breaks_them() {
    let layout = LayoutFolder::of("linux/amd64", &layers());
    let found = files(&layout.name()).await;
    assert!(found[0].1.contains(&"/usr/bin/gcc".to_owned()));
    // A layer that is another than the manifest names.
    for blob in std::fs::read_dir(layout.path().join("blobs/sha256")).unwrap() {
        let path = blob.unwrap().path();
        if std::fs::read(&path).unwrap().starts_with(&[0x1f, 0x8b]) {
            let other = Tar::new().file("app", 0o755, b"other").bytes();
            std::fs::write(&path, gzip(&other)).unwrap();
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("out").display().to_string();
    let said = minimize(&options(&layout.name(), Some(&to))).await;
    let said = said.unwrap_err().to_string();
    assert!(
        said.contains("corrupted or was replaced") || said.contains("truncated"),
        "{said}"
    );
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn an_image_whose_names_lead_out_of_it_is_not_written() {
    let hostile = Tar::new().raw(
        header(tar::EntryType::Regular, 0o644, 7),
        b"../../outside",
        b"hostile",
    );
    let layout = LayoutFolder::of("linux/amd64", &[hostile.bytes(), layers()[1].clone()]);
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("inner");
    std::fs::create_dir(&inner).unwrap();
    let to = inner.join("out").display().to_string();
    let said = minimize(&options(&layout.name(), Some(&to))).await;
    let said = said.unwrap_err().to_string();
    assert!(said.contains("could not be read as a whole"), "{said}");
    assert_eq!(std::fs::read_dir(&inner).unwrap().count(), 0);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn a_platform_that_an_archive_does_not_have_is_an_error_that_names_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("saved.tar");
    std::fs::write(&path, saved()).unwrap();
    let mut asked = options(&path.display().to_string(), None);
    asked.platform = Some("linux/s390x".into());
    let said = minimize(&asked).await.unwrap_err().to_string();
    assert_eq!(
        said,
        "no image found for linux/s390x; available: linux/amd64"
    );
    asked.platform = Some("linux/amd64".into());
    let said = minimize(&asked).await.unwrap();
    assert!(said.contains("Nothing was written"), "{said}");
}

#[tokio::test]
async fn a_base_may_lie_in_files_too() {
    let base = LayoutFolder::of("linux/amd64", &layers()[..1]);
    let image = LayoutFolder::of("linux/amd64", &layers());
    let mut asked = options(&image.name(), None);
    asked.base_layers = None;
    asked.base = Some(base.name());
    let said = minimize(&asked).await.unwrap();
    assert!(!said.contains("The base is not known"), "{said}");
    asked.base = Some(image.name());
    asked.image = base.name();
    let said = minimize(&asked).await.unwrap_err().to_string();
    assert!(said.contains("the image is not built on it"), "{said}");
}

#[tokio::test]
async fn the_map_of_an_image_is_a_page() {
    let image = LayoutFolder::of("linux/amd64", &layers());
    let folder = tempfile::tempdir().unwrap();
    let mut asked = options(&image.name(), None);
    asked.html = Some(folder.path().join("map.html"));
    minimize(&asked).await.unwrap();
    let page = std::fs::read_to_string(folder.path().join("map.html")).unwrap();
    for part in [
        "<title>/usr/bin/gcc\ngoes: ",
        "/app is what the image starts",
        "<h3>Why it stays</h3>",
    ] {
        assert!(page.contains(part), "{part} in {page}");
    }
    asked.html = Some(folder.path().into());
    let said = minimize(&asked).await.unwrap_err().to_string();
    assert!(said.contains("Is a directory"), "{said}");
}
