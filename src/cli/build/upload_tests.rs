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
    /// How many were put.
    tagged: Arc<AtomicU64>,
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
            if !path.contains("sha256:") {
                registry.tagged.fetch_add(1, Ordering::Relaxed);
            }
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
async fn a_source_that_comes_back_has_its_tag_again() {
    let registry = Registry::default();
    let to = registry.start().await;
    let tag = "/v2/team/hello/manifests/source-a";
    let folders = (sample(1), sample(2));
    let (one, two) = (packed(&folders.0).await, packed(&folders.1).await);
    for source in [&one, &two] {
        assert_ne!(source.push(&to, "source-a").await.unwrap().layers, 0);
    }
    assert_eq!(digest_of(&registry.has(tag).unwrap()), two.digest);
    assert_eq!(one.push(&to, "source-a").await.unwrap(), Sent::default());
    assert_eq!(digest_of(&registry.has(tag).unwrap()), one.digest);
    // Somebody has deleted it.
    registry.held.lock().unwrap().remove(tag);
    assert_eq!(one.push(&to, "source-a").await.unwrap(), Sent::default());
    assert_eq!(digest_of(&registry.has(tag).unwrap()), one.digest);
    let puts = registry.tagged.load(Ordering::Relaxed);
    one.push(&to, "source-a").await.unwrap();
    assert_eq!(registry.tagged.load(Ordering::Relaxed), puts);
}

#[tokio::test]
async fn a_registry_that_is_busy_or_broken_is_not_one_that_is_away() {
    for status in [
        StatusCode::TOO_MANY_REQUESTS,
        StatusCode::SERVICE_UNAVAILABLE,
    ] {
        let registry = Registry {
            refuses: Some(status),
            ..Registry::default()
        };
        let to = registry.start().await;
        let pushed = packed(&sample(1)).await.push(&to, "source-a").await;
        let Err(Unsent::Refused(failed)) = pushed else {
            panic!("{pushed:?}");
        };
        assert!(failed.to_string().contains(status.as_str()), "{failed}");
    }
}

#[tokio::test]
async fn no_connection_is_no_name_or_nobody_who_listens_and_not_what_fails_later() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder()
        .tls_certs_only([])
        .build()
        .unwrap();
    let said = async |url: String| {
        let error = client.get(url).send().await.unwrap_err();
        whittle_registry::causes(&error)
    };
    // Longer than a name may be: no name server is asked.
    let unknown = format!("{}.example:5000", "a".repeat(64));
    let text = said(format!("http://{unknown}/v2/")).await;
    assert!(is_unconnected(&text, &unknown), "{text}");

    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = listener.local_addr().unwrap().to_string();
    drop(listener);
    for scheme in ["http", "https"] {
        let text = said(format!("{scheme}://{nobody}/v2/a/manifests/b")).await;
        assert!(is_unconnected(&text, &nobody), "{text}");
        // The token server is away, and the registry is not.
        assert!(!is_unconnected(&text, "r.example.com"), "{text}");
    }

    let to = Registry::default().start().await;
    let plain = &to.reference().repository.host;
    let text = said(format!("https://{plain}/v2/")).await;
    assert!(text.contains("InvalidContentType"), "{text}");
    assert!(!is_unconnected(&text, plain), "{text}");

    // What a server says in the same words.
    let text = "manifest a of team/hello: 503 Service Unavailable: client error (Connect): tcp connect error";
    assert!(!is_unconnected(text, plain));
    let late = |step: &str| {
        format!(
            "error sending request for url (https://r.example.com/v2/){step}: operation timed out"
        )
    };
    assert!(is_unconnected(
        &late(": client error (Connect)"),
        "r.example.com:443"
    ));
    assert!(!is_unconnected(&late(""), "r.example.com"));
}

#[tokio::test]
async fn what_a_runner_would_not_take_is_refused_before_it_is_sent() {
    let mut source = packed(&sample(1)).await;
    let unpacked: u64 = source.layers.iter().map(|layer| layer.unpacked).sum();
    assert!(source.fits().is_ok());
    let last = source.layers.last_mut().unwrap();
    let size = last.size;
    last.size = LAYER_LIMIT;
    assert!(source.fits().is_ok());

    let last = source.layers.last_mut().unwrap();
    last.size = LAYER_LIMIT + 1;
    let name = last.entries.iter().max_by_key(|entry| entry.size());
    let name = name.unwrap().path.display().to_string();
    let failed = source.fits().unwrap_err();
    assert_eq!(failed.code(), 2);
    let said = failed.to_string();
    assert!(
        said.starts_with(&format!("{name} is too large: 4.0 GiB packed")),
        "{said}"
    );

    // Packed and unpacked, to the byte.
    let last = source.layers.last_mut().unwrap();
    last.size = size;
    last.unpacked += SCRATCH_BYTES - size - unpacked;
    assert!(source.fits().is_ok());
    source.layers.last_mut().unwrap().unpacked += 1;
    let failed = source.fits().unwrap_err();
    assert_eq!(failed.code(), 2);
    assert!(
        failed
            .to_string()
            .contains("a build may unpack 8.0 GiB, and the layer of"),
        "{failed}"
    );
}

#[tokio::test]
async fn a_registry_that_denies_is_told_with_the_way_to_log_in() {
    let registry = Registry {
        refuses: Some(StatusCode::FORBIDDEN),
        ..Registry::default()
    };
    let to = registry.start().await;
    let Err(Unsent::Refused(failed)) = packed(&sample(1)).await.push(&to, "source-a").await else {
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
