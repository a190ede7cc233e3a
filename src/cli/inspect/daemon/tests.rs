use axum::Router;
use axum::extract::Path as Asked;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::get;
use serde_json::json;
use tempfile::TempDir;
use tokio::net::UnixListener;

use super::*;
use crate::inspect::fixtures::{config, program};
use crate::inspect::platform::Platforms;
use crate::inspect::source::Source;
use whittle_image::digest_of;
use whittle_image::fixtures::Tar;

/// What `docker save` writes of one image.
fn saved() -> Vec<u8> {
    let config = config("linux/amd64", &[program()]);
    let name = format!("{}.json", &digest_of(&config)[7..]);
    let manifest = json!([{"Config": name, "RepoTags": ["team/app:1"], "Layers": ["a/layer.tar"]}]);
    Tar::new()
        .file("a/layer.tar", 0o644, &program())
        .file(&name, 0o644, &config)
        .file("manifest.json", 0o644, manifest.to_string().as_bytes())
        .bytes()
}

/// A daemon that has one image.
fn engine(archive: Vec<u8>) -> Router {
    let answer = move |Asked(path): Asked<String>| {
        let archive = archive.clone();
        async move {
            match path.as_str() {
                "team/app:1/json" => json!({"Id": "sha256:1"}).to_string().into_response(),
                "team/app:1/get" => archive.into_response(),
                "broken/json" => {
                    (StatusCode::INTERNAL_SERVER_ERROR, "disk is on fire\n").into_response()
                }
                "elsewhere/json" => {
                    let to = [("location", "http://127.0.0.1:9/")];
                    (StatusCode::TEMPORARY_REDIRECT, to).into_response()
                }
                path => {
                    let name = path.trim_end_matches("/json");
                    let body = json!({"message": format!("No such image: {name}")});
                    (StatusCode::NOT_FOUND, body.to_string()).into_response()
                }
            }
        }
    };
    Router::new().route("/images/{*path}", get(answer))
}

struct Served {
    folder: TempDir,
    task: tokio::task::JoinHandle<()>,
}

impl Served {
    fn new(router: Router) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("d.sock")).unwrap();
        let task = tokio::spawn(async move {
            axum::serve(listener, router).await.unwrap();
        });
        Self { folder, task }
    }

    fn daemon(&self, name: &str) -> Daemon {
        daemon(&self.folder.path().join("d.sock"), name)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn daemon(socket: &Path, name: &str) -> Daemon {
    let _ = rustls::crypto::ring::default_provider().install_default();
    Daemon {
        engine: Engine::Docker,
        name: name.into(),
        sockets: vec!["/nowhere/docker.sock".into(), socket.into()],
        patience: Patience {
            answer: Duration::from_millis(300),
            silence: Duration::from_millis(300),
        },
    }
}

async fn said(daemon: Daemon) -> String {
    match daemon.files().await {
        Ok(_) => panic!("it has one"),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn an_image_of_a_daemon_is_read_as_its_archive_is() {
    let served = Served::new(engine(saved()));
    let mut daemon = served.daemon("team/app:1");
    daemon.patience = PATIENCE;
    let mut source = Source::Daemon(Box::new(daemon));
    let target = source.find(&Platforms::Default).await.unwrap();
    let found = &target.images[0];
    assert_eq!(found.id, digest_of(&config("linux/amd64", &[program()])));
    let contents = source.contents(found, 0).await.unwrap();
    assert_eq!(contents.start.program.path, "/app");
    // Layers are read once more for a smaller image.
    let limits = whittle_image::Limits::default();
    let image = source.read(found, limits).await.unwrap();
    assert!(image.tree.find("/app").is_ok());
}

#[tokio::test]
async fn an_image_that_a_daemon_does_not_have_is_said_in_its_words() {
    let served = Served::new(engine(saved()));
    assert_eq!(
        said(served.daemon("other:2")).await,
        "docker-daemon:other:2: image not found: Docker says: No such image: other:2: docker images lists what it has, \
         docker pull other:2 fetches it"
    );
    assert_eq!(
        said(served.daemon("broken")).await,
        "docker-daemon:broken: Docker answered 500: disk is on fire"
    );
    let elsewhere = said(served.daemon("elsewhere")).await;
    assert!(elsewhere.contains("answered 307"), "{elsewhere}");
}

#[tokio::test]
async fn probes_are_judged_by_what_a_daemon_has_and_others_stay_unknown() {
    let served = Served::new(engine(saved()));
    let source = |name: &str| {
        let mut daemon = served.daemon(name);
        daemon.patience = PATIENCE;
        Source::Daemon(Box::new(daemon))
    };
    let (digests, contents) = crate::inspect::held(source("team/app:1"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(digests, [digest_of(&config("linux/amd64", &[program()]))]);
    assert_eq!(contents.platform, "linux/amd64");
    let absent = crate::inspect::held(source("other:2")).await.unwrap();
    assert!(absent.is_none());
    assert!(crate::inspect::held(source("broken")).await.is_err());
}

#[tokio::test]
async fn an_archive_that_ends_early_is_an_error_with_the_images_name() {
    let mut bytes = saved();
    bytes.truncate(700);
    let served = Served::new(engine(bytes));
    let said = said(served.daemon("team/app:1")).await;
    assert!(
        said.starts_with("docker-daemon:team/app:1: truncated"),
        "{said}"
    );
}

#[tokio::test]
async fn a_socket_that_is_not_there_or_that_nobody_listens_at_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("d.sock");
    let said_ = said(daemon(&path, "a")).await;
    let expected = format!(
        "docker-daemon:a: socket of Docker not found at /nowhere/docker.sock or {}: start Docker, or set \
         DOCKER_HOST=unix:///path",
        path.display()
    );
    assert_eq!(said_, expected);
    drop(UnixListener::bind(&path).unwrap());
    let said_ = said(daemon(&path, "a")).await;
    assert!(
        said_.contains("connection refused at") && said_.contains("Docker is not running"),
        "{said_}"
    );
}

#[tokio::test]
async fn a_socket_that_may_not_be_used_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("d.sock");
    let _listener = UnixListener::bind(&path).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o000);
    std::fs::set_permissions(&path, mode).unwrap();
    // Root may use it all the same: then the daemon is silent.
    // Root may use it all the same: then the daemon is silent.
    let expected = match rustix::process::geteuid().is_root() {
        true => "timed out",
        false => "permission denied for",
    };
    let asked = daemon(&path, "a");
    let denied = asked
        .denied(&path, io::ErrorKind::PermissionDenied)
        .unwrap();
    assert!(
        denied.contains("permission denied for") && denied.contains("the group docker"),
        "{denied}"
    );
    let said = said(asked).await;
    assert!(said.contains(expected), "{said}");
}

#[tokio::test]
async fn a_daemon_that_says_nothing_times_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("d.sock");
    let _listener = UnixListener::bind(&path).unwrap();
    let said_ = said(daemon(&path, "a")).await;
    assert!(said_.contains("timed out: nothing came for"), "{said_}");
    // The same within an archive.
    let silent = || async {
        let first = futures::stream::once(async { Ok::<_, io::Error>(vec![0_u8; 512]) });
        let never = futures::stream::pending();
        axum::body::Body::from_stream(futures::StreamExt::chain(first, never))
    };
    let router = Router::new()
        .route("/images/a/json", get(|| async { "{}" }))
        .route("/images/a/get", get(silent));
    let served = Served::new(router);
    let said_ = said(served.daemon("a")).await;
    assert!(said_.contains("timed out: nothing came for"), "{said_}");
}

#[test]
fn sockets_are_looked_for_where_their_programs_do() {
    let sockets = |engine: Engine, set: &[(&str, &str)]| {
        let env = |name: &str| {
            let found = set.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let found = engine.sockets(env).map_err(|error| error.to_string())?;
        let found: Vec<String> = found
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        Ok::<_, String>(found.join(" "))
    };
    let own = ("XDG_RUNTIME_DIR", "/run/user/1000");
    for (engine, set, expected) in [
        (Engine::Docker, &[][..], "/var/run/docker.sock"),
        (
            Engine::Docker,
            &[own],
            "/run/user/1000/docker.sock /var/run/docker.sock",
        ),
        (
            Engine::Docker,
            &[own, ("DOCKER_HOST", "unix:///x.sock")],
            "/x.sock",
        ),
        (
            Engine::Docker,
            &[("DOCKER_HOST", "")],
            "/var/run/docker.sock",
        ),
        (
            Engine::Podman,
            &[own],
            "/run/user/1000/podman/podman.sock /run/podman/podman.sock",
        ),
        (
            Engine::Podman,
            &[("DOCKER_HOST", "unix:///x")],
            "/run/podman/podman.sock",
        ),
    ] {
        assert_eq!(sockets(engine, set).unwrap(), expected, "{set:?}");
    }
    let said = sockets(Engine::Docker, &[("DOCKER_HOST", "tcp://10.0.0.1:2375")]).unwrap_err();
    assert!(
        said.contains("only unix:///path is supported") && said.contains("docker save"),
        "{said}"
    );
}

#[test]
fn a_name_is_never_another_path_of_the_daemon() {
    for name in ["a", "host:5000/team/app:1.2", "sha256:0123", "a@sha256:01"] {
        assert_eq!(fault(name), None, "{name}");
    }
    for name in [
        "",
        "../containers",
        "a/../b",
        "a?x",
        "a#b",
        "a b",
        "a//b",
        "/a",
        "a%2e",
        "a\n",
    ] {
        assert!(fault(name).is_some(), "{name}");
    }
}
