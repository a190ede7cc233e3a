//! A real repository, and real git behind servers, for tests.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use tokio::io::AsyncWriteExt;

/// A bare repository with the branches `main` and `main-2`, the light tag `v1.1.0`, and the annotated tags `v1.0.0` and
/// `v2.0.0-rc.1`.
pub struct Repository {
    pub folder: tempfile::TempDir,
    /// The commits of main, the newest first.
    pub commits: Vec<String>,
}

impl Repository {
    pub fn new(format: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("team/hello.git");
        let git = |args: &[&str]| git(&path, args);
        std::fs::create_dir_all(&path).unwrap();
        let format = format!("--object-format={format}");
        git(&["init", "-q", "--bare", "-b", "main", &format]);
        git(&["config", "uploadpack.allowFilter", "true"]);
        let tree = git(&["mktree"]);
        let first = git(&["commit-tree", &tree, "-m", "first"]);
        let second = git(&["commit-tree", &tree, "-p", &first, "-m", "second"]);
        git(&["update-ref", "refs/heads/main", &second]);
        git(&["update-ref", "refs/heads/main-2", &first]);
        git(&["tag", "-a", "-m", "x", "v1.0.0", &first]);
        git(&["tag", "v1.1.0", &second]);
        git(&["tag", "-a", "-m", "x", "v2.0.0-rc.1", &second]);
        Self {
            folder,
            commits: vec![second, first],
        }
    }

    /// The revision of main.
    pub fn main(&self) -> String {
        format!("main@sha1:{}", self.commits[0])
    }

    /// Runs git in it.
    pub fn git(&self, args: &[&str]) -> String {
        git(&self.folder.path().join("team/hello.git"), args)
    }

    /// A commit of these files, which no branch has.
    pub fn commit(&self, files: &[(&str, &str)]) -> String {
        let work = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = work.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let place = format!("--work-tree={}", work.path().display());
        self.git(&[&place, "add", "-A", "."]);
        let tree = self.git(&["write-tree"]);
        let commit = self.git(&["commit-tree", &tree, "-m", "files"]);
        self.git(&["update-ref", &format!("refs/heads/{commit}"), &commit]);
        commit
    }

    /// Commits once more to main.
    pub fn push(&mut self) {
        let path = self.folder.path().join("team/hello.git");
        let tree = git(&path, &["mktree"]);
        let next = git(
            &path,
            &["commit-tree", &tree, "-p", &self.commits[0], "-m", "next"],
        );
        git(&path, &["update-ref", "refs/heads/main", &next]);
        self.commits.insert(0, next);
    }
}

fn git(path: &Path, args: &[&str]) -> String {
    let run = Command::new("git")
        .arg("-C")
        .arg(path)
        .args(args)
        .env_clear()
        .envs(std::env::var_os("PATH").map(|value| ("PATH", value)))
        .envs([
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("GIT_CONFIG_SYSTEM", "/dev/null"),
            ("GIT_AUTHOR_NAME", "a"),
            ("GIT_AUTHOR_EMAIL", "a@b"),
            ("GIT_COMMITTER_NAME", "a"),
            ("GIT_COMMITTER_EMAIL", "a@b"),
        ])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(
        run.status.success(),
        "{args:?}: {}",
        String::from_utf8_lossy(&run.stderr)
    );
    String::from_utf8(run.stdout).unwrap().trim().to_owned()
}

/// `git upload-pack` with these arguments, as servers run it.
pub fn upload_pack(args: &[&str], path: &Path, protocol: Option<&str>) -> tokio::process::Command {
    let mut command = tokio::process::Command::new("git");
    command
        .arg("upload-pack")
        .args(args)
        .arg(path)
        .envs([
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("GIT_CONFIG_SYSTEM", "/dev/null"),
        ])
        .env_remove("GIT_PROTOCOL")
        .envs(protocol.map(|value| ("GIT_PROTOCOL", value)))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// A server of git over HTTP. The first part of a path says how it behaves.
pub struct Server {
    pub port: u16,
    asked: Arc<Mutex<Vec<String>>>,
}

#[derive(Clone)]
struct Shared {
    root: PathBuf,
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    pub async fn start(repository: &Repository) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(vec![]));
        let shared = Shared {
            root: repository.folder.path().to_owned(),
            port,
            asked: asked.clone(),
        };
        let app = axum::Router::new().fallback(answer).with_state(shared);
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { port, asked }
    }

    /// What was asked: path, and whether credentials came along.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

async fn answer(State(shared): State<Shared>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let (parts, body) = request.into_parts();
    let header = |name: &str| {
        let value = parts.headers.get(name)?;
        Some(value.to_str().unwrap().to_owned())
    };
    let authorization = header("authorization");
    let protocol = header("git-protocol");
    let signed = if authorization.is_some() {
        " with credentials"
    } else {
        ""
    };
    shared.asked.lock().unwrap().push(format!("{path}{signed}"));
    let (_, rest) = path.split_once('/').unwrap();
    let (kind, rest) = rest.split_once('/').unwrap();
    let to = |place: String| (StatusCode::MOVED_PERMANENTLY, [("location", place)]).into_response();
    let query = "service=git-upload-pack";
    match kind {
        // bob:hunter22
        "private" if authorization.as_deref() != Some("Basic Ym9iOmh1bnRlcjIy") => {
            return (StatusCode::UNAUTHORIZED, "hunter22 is not enough").into_response();
        }
        "moved" => return to(format!("/private/{rest}?{query}")),
        "away" => {
            return to(format!(
                "http://localhost:{}/open/{rest}?{query}",
                shared.port
            ));
        }
        "round" => return to(format!("/round/{rest}?{query}")),
        "page" => return to("/users/sign_in".into()),
        "limited" => {
            return (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "7")]).into_response();
        }
        "broken" => return StatusCode::SERVICE_UNAVAILABLE.into_response(),
        "login" => return axum::response::Html("<html>Sign in</html>").into_response(),
        _ => {}
    }
    let protocol = protocol.filter(|_| kind != "old");
    let place = rest
        .trim_end_matches("/info/refs")
        .trim_end_matches("/git-upload-pack");
    let place = shared.root.join(place);
    if !place.exists() {
        return StatusCode::NOT_FOUND.into_response();
    }
    let advertise = path.ends_with("/info/refs");
    let args = if advertise {
        vec!["--stateless-rpc", "--advertise-refs"]
    } else {
        vec!["--stateless-rpc"]
    };
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let mut child = upload_pack(&args, &place, protocol.as_deref())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&body).await.unwrap();
    let mut said = child.wait_with_output().await.unwrap().stdout;
    if advertise && protocol.is_none() {
        said.splice(0..0, b"001e# service=git-upload-pack\n0000".iter().copied());
    }
    let kind = if advertise { "advertisement" } else { "result" };
    let mut headers = HeaderMap::new();
    headers.insert(
        "content-type",
        format!("application/x-git-upload-pack-{kind}")
            .parse()
            .unwrap(),
    );
    (headers, Bytes::from(said)).into_response()
}
