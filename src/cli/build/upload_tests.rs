use std::collections::HashMap;
use std::fs;
use std::sync::Mutex;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{Method, Response, StatusCode};
use tempfile::TempDir;

use super::*;
use crate::build::walk::walk;

/// A registry that keeps what is pushed, by path.
#[derive(Clone, Default)]
struct Registry {
    held: Arc<Mutex<HashMap<String, Bytes>>>,
    /// Bytes of blobs that were sent.
    received: Arc<AtomicU64>,
    /// What is answered instead.
    refuses: Option<StatusCode>,
    /// Tags cannot be put.
    fixed: bool,
}

impl Registry {
    /// Starts it: a repository in it.
    async fn start(&self) -> Remote {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let app = Router::new()
            .fallback(answer)
            .layer(axum::extract::DefaultBodyLimit::disable())
            .with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        remote(&host)
    }

    fn received(&self) -> u64 {
        self.received.swap(0, Ordering::Relaxed)
    }

    fn has(&self, path: &str) -> Option<Bytes> {
        self.held.lock().unwrap().get(path).cloned()
    }
}

fn remote(host: &str) -> Remote {
    let reference = Reference::parse(&format!("{host}/team/hello"));
    let login = Default::default();
    Remote::as_user(reference, &Connection::default(), Access::PullPush, login).unwrap()
}

async fn answer(State(registry): State<Registry>, request: Request) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    let bytes = axum::body::to_bytes(body, 1 << 28)
        .await
        .unwrap_or_default();
    let said = |status| Response::builder().status(status);
    let plain = |status| said(status).body(Body::empty()).unwrap();
    if let Some(status) = registry.refuses {
        return plain(status);
    }
    let mut held = registry.held.lock().unwrap();
    match parts.method {
        Method::POST => {
            let place = said(StatusCode::ACCEPTED).header("Location", format!("{path}one"));
            place.body(Body::empty()).unwrap()
        }
        Method::PUT if path.contains("/uploads/") => {
            let digest = parts.uri.query().unwrap_or_default();
            let digest = digest.split("digest=").nth(1).unwrap().replace("%3A", ":");
            if digest_of(&bytes) != digest {
                return plain(StatusCode::BAD_REQUEST);
            }
            registry
                .received
                .fetch_add(bytes.len() as u64, Ordering::Relaxed);
            held.insert(path.replace("uploads/one", &digest), bytes);
            plain(StatusCode::CREATED)
        }
        Method::PUT if registry.fixed && !path.contains("sha256:") => {
            plain(StatusCode::METHOD_NOT_ALLOWED)
        }
        Method::PUT => {
            held.insert(path, bytes);
            plain(StatusCode::CREATED)
        }
        _ => match held.get(&path) {
            None => plain(StatusCode::NOT_FOUND),
            Some(found) => {
                let found = said(StatusCode::OK)
                    .header("Docker-Content-Digest", digest_of(found))
                    .body(Body::from(found.clone()));
                found.unwrap()
            }
        },
    }
}

/// Text that compresses as source code does, some hundred files of it.
fn sample(files: usize) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("Dockerfile"), "FROM scratch\n").unwrap();
    let mut state = 1_u64;
    for n in 0..files {
        let directory = folder.path().join(format!("src/m{:02}", n / 20));
        fs::create_dir_all(&directory).unwrap();
        let mut text = String::new();
        while text.len() < 20_000 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            text.push_str(&format!(
                "let value_{} = compute({});\n",
                state >> 52,
                state >> 40
            ));
        }
        fs::write(directory.join(format!("f{n}.rs")), text).unwrap();
    }
    folder
}

async fn packed(folder: &TempDir) -> Source {
    let folder = folder.path().canonicalize().unwrap();
    let tree = walk(&folder, "Dockerfile").unwrap();
    pack(&folder, &tree).await.unwrap()
}

#[tokio::test]
async fn nothing_is_sent_twice_and_a_line_more_sends_little() {
    let registry = Registry::default();
    let to = registry.start().await;
    let folder = sample(500);
    let first = packed(&folder).await;
    let sent = first.push(&to, "source-a").await.unwrap();
    assert_eq!(sent.layers, first.layers());
    assert_eq!(sent.bytes, first.size());
    // The config of two bytes is sent as well.
    assert_eq!(registry.received(), first.size() + 2);
    let manifest = registry.has(&format!("/v2/team/hello/manifests/{}", first.digest));
    let manifest = manifest.unwrap();
    assert_eq!(
        registry.has("/v2/team/hello/manifests/source-a").unwrap(),
        manifest
    );
    let read = ManifestDocument::parse(&manifest).unwrap();
    assert_eq!(read.artifact_type, ARTIFACT);
    assert_eq!(read.layers.len(), first.layers());
    assert!(read.layers.iter().all(|it| it.media_type == LAYER));

    let again = packed(&folder).await;
    assert_eq!(again.digest, first.digest);
    assert_eq!(again.push(&to, "source-a").await.unwrap(), Sent::default());
    assert_eq!(registry.received(), 0);

    let place = folder.path().join("src/m11/f222.rs");
    let text = fs::read_to_string(&place).unwrap();
    fs::write(&place, text + "// a line more\n").unwrap();
    let changed = packed(&folder).await;
    assert_ne!(changed.digest, first.digest);
    let sent = changed.push(&to, "source-a").await.unwrap();
    assert!(sent.layers <= 2, "{sent:?}");
    assert!(
        sent.bytes < changed.size() / 8,
        "{sent:?} of {}",
        changed.size()
    );
    assert_eq!(registry.received(), sent.bytes);
}

#[tokio::test]
async fn a_registry_whose_tags_stay_has_the_digest_all_the_same() {
    let registry = Registry {
        fixed: true,
        ..Registry::default()
    };
    let to = registry.start().await;
    let folder = sample(1);
    let source = packed(&folder).await;
    source.push(&to, "source-a").await.unwrap();
    assert!(
        registry
            .has(&format!("/v2/team/hello/manifests/{}", source.digest))
            .is_some()
    );
}

#[tokio::test]
async fn a_registry_that_denies_is_told_with_the_way_to_log_in() {
    let registry = Registry {
        refuses: Some(StatusCode::FORBIDDEN),
        ..Registry::default()
    };
    let to = registry.start().await;
    let Err(Unsent::Failed(failed)) = packed(&sample(1)).await.push(&to, "source-a").await else {
        panic!("it was sent");
    };
    assert_eq!(failed.code(), 3);
    let said = failed.to_string();
    assert!(
        said.contains("403") && said.contains("docker login"),
        "{said}"
    );
}

#[tokio::test]
async fn a_registry_that_is_away_is_unreachable() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    drop(listener);
    let pushed = packed(&sample(1))
        .await
        .push(&remote(&host), "source-a")
        .await;
    let Err(Unsent::Unreachable(failed)) = pushed else {
        panic!("it was sent");
    };
    assert_eq!(failed.code(), 3);
    let said = failed.to_string();
    assert!(
        said.contains("is unreachable from here") && said.contains("--push-to"),
        "{said}"
    );
}

#[tokio::test]
async fn a_file_that_changes_after_it_was_measured_is_told() {
    let registry = Registry::default();
    let to = registry.start().await;
    let folder = sample(1);
    let source = packed(&folder).await;
    fs::write(folder.path().join("Dockerfile"), "FROM scratcH\n").unwrap();
    let Err(Unsent::Failed(failed)) = source.push(&to, "source-a").await else {
        panic!("it was sent");
    };
    assert_eq!(failed.code(), 2);
    assert!(
        failed.to_string().contains("have changed while"),
        "{failed}"
    );
}
