use std::fs;
use std::sync::{Arc, Mutex};

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::RootCertStore;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use whittle_api::GitRef;
use whittle_git::fixtures::{Repository, Server};

use super::*;
use crate::wire::{Reason, Seen, TELL_PATH, WAIT_PATH, Watched, What};

/// A controller: what it is told comes out of `told`, and what goes into `want` it wants.
struct Controller {
    folder: tempfile::TempDir,
    callback: String,
    told: mpsc::UnboundedReceiver<Vec<Seen>>,
    want: mpsc::UnboundedSender<Vec<String>>,
    /// The answers to what it is told; 204 where there are no more.
    answers: Arc<Mutex<Vec<StatusCode>>>,
    /// The list that it sends; none: it is one of an earlier version.
    list: Arc<Mutex<Option<String>>>,
}

#[derive(Clone)]
struct Desk {
    told: mpsc::UnboundedSender<Vec<Seen>>,
    wanted: Arc<tokio::sync::Mutex<mpsc::UnboundedReceiver<Vec<String>>>>,
    answers: Arc<Mutex<Vec<StatusCode>>>,
    list: Arc<Mutex<Option<String>>>,
}

/// Accepts only who shows a certificate of the authority.
struct Tls(TcpListener, TlsAcceptor);

impl axum::serve::Listener for Tls {
    type Io = TlsStream<TcpStream>;
    type Addr = std::net::SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, from) = self.0.accept().await.unwrap();
            if let Ok(stream) = self.1.accept(stream).await {
                return (stream, from);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.0.local_addr()
    }
}

async fn answer(State(desk): State<Desk>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    if parts
        .headers
        .get("authorization")
        .is_none_or(|value| value != "Bearer the-token")
    {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    match parts.uri.path() {
        WAIT_PATH => {
            let body = axum::body::to_bytes(body, 1 << 10).await.unwrap();
            let asked: Asked = serde_json::from_slice(&body).unwrap();
            let list = || {
                let list = desk.list.lock().unwrap().clone();
                let digest = list.as_ref().map(|text| digest_of(text.as_bytes()));
                let sent = list.clone().filter(|_| digest != asked.list);
                (list.is_some(), sent)
            };
            let mut look = vec![];
            if list().1.is_none() {
                let mut wanted = desk.wanted.lock().await;
                let held = tokio::time::timeout(Duration::from_secs(25), wanted.recv()).await;
                look = held.ok().flatten().unwrap_or_default();
            }
            let (lists, list) = list();
            match lists {
                true => axum::Json(Wanted { look, lists, list }).into_response(),
                // As those of earlier versions do it.
                false => axum::Json(serde_json::json!({"look": look})).into_response(),
            }
        }
        TELL_PATH => {
            let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
            let told: Told = serde_json::from_slice(&body).unwrap();
            let answer = desk.answers.lock().unwrap().pop();
            let _ = desk.told.send(told.seen);
            answer.unwrap_or(StatusCode::NO_CONTENT).into_response()
        }
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

impl Controller {
    async fn start() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let mut authority = CertificateParams::new(vec![]).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
        let leaf = || {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(vec!["127.0.0.1".into()]).unwrap();
            (params.signed_by(&key, &root).unwrap(), key)
        };
        let mut roots = RootCertStore::empty();
        roots.add(root.der().clone()).unwrap();
        let verifier = WebPkiClientVerifier::builder(Arc::new(roots))
            .build()
            .unwrap();
        let (certificate, key) = leaf();
        let config = rustls::ServerConfig::builder()
            .with_client_cert_verifier(verifier)
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
        let tls = folder.path().join("tls");
        fs::create_dir(&tls).unwrap();
        let (certificate, key) = leaf();
        fs::write(tls.join("tls.crt"), certificate.pem()).unwrap();
        fs::write(tls.join("tls.key"), key.serialize_pem()).unwrap();
        fs::write(tls.join("ca.crt"), root.pem()).unwrap();
        fs::write(folder.path().join("token"), "the-token\n").unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let callback = format!("https://{}", listener.local_addr().unwrap());
        let (telling, told) = mpsc::unbounded_channel();
        let (want, wanted) = mpsc::unbounded_channel();
        let desk = Desk {
            told: telling,
            wanted: Arc::new(tokio::sync::Mutex::new(wanted)),
            answers: Arc::default(),
            list: Arc::default(),
        };
        let (answers, list) = (desk.answers.clone(), desk.list.clone());
        let app = axum::Router::new().fallback(answer).with_state(desk);
        let listener = Tls(listener, TlsAcceptor::from(Arc::new(config)));
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self {
            folder,
            callback,
            told,
            want,
            answers,
            list,
        }
    }

    fn places(&self) -> Places {
        let at = |name: &str| self.folder.path().join(name);
        Places {
            list: at("list.json"),
            secrets: at("secrets"),
            tls: at("tls"),
            token: at("token"),
            registry_ca: at("ca"),
        }
    }

    fn text(&self, sources: Vec<Watched>) -> String {
        let list = List {
            callback: self.callback.clone(),
            sources,
            builders: BTreeMap::new(),
        };
        serde_json::to_string(&list).unwrap()
    }

    /// As the kubelet writes it.
    fn watch(&self, sources: Vec<Watched>) {
        fs::write(self.places().list, self.text(sources)).unwrap();
    }

    /// Sends this list from now on.
    fn sends(&self, sources: Vec<Watched>) {
        *self.list.lock().unwrap() = Some(self.text(sources));
        // What is held has an end.
        self.want.send(vec![]).unwrap();
    }

    /// Runs a watcher beside, for as long as `scene` goes on.
    async fn with_watcher(&mut self, scene: impl AsyncFnOnce(&mut Self)) {
        let mut watcher = Watcher::new(self.places()).unwrap();
        let local = tokio::task::LocalSet::new();
        let scene = tokio::time::timeout(Duration::from_secs(60), scene(self));
        tokio::select! {
            () = local.run_until(watcher.run()) => {}
            ended = scene => ended.expect("the scene ends in time"),
        }
    }

    /// What is told until each of these is.
    async fn told(&mut self, ids: &[&str]) -> BTreeMap<String, Seen> {
        let mut all = BTreeMap::new();
        while !ids.iter().all(|id| all.contains_key(*id)) {
            let seen = self.told.recv().await.expect("a running controller");
            all.extend(seen.into_iter().map(|seen| (seen.id.clone(), seen)));
        }
        all
    }
}

fn branch(id: &str, url: &str, name: &str) -> Watched {
    Watched {
        folder: None,
        id: id.into(),
        interval_seconds: 1,
        what: What::Git {
            url: url.into(),
            reference: Some(GitRef {
                branch: Some(name.into()),
                ..GitRef::default()
            }),
            secret: None,
        },
    }
}

fn revision(seen: &Seen) -> &str {
    match &seen.outcome {
        Outcome::Found { revision } => revision,
        Outcome::Failed { message, .. } => panic!("{message}"),
    }
}

#[tokio::test]
async fn a_push_is_told_once_to_each_and_once_more_where_it_was_not_taken() {
    let mut repository = Repository::new("sha1");
    let server = Server::start(&repository).await;
    let url = format!("http://127.0.0.1:{}/open/team/hello.git", server.port);
    let mut controller = Controller::start().await;
    controller.watch(vec![branch("a", &url, "main"), branch("b", &url, "main")]);
    // An answer that is not 204 is none.
    controller
        .answers
        .lock()
        .unwrap()
        .push(StatusCode::SERVICE_UNAVAILABLE);
    let first = repository.main();
    controller
        .with_watcher(async |controller| {
            for _ in 0..2 {
                let told = controller.told(&["a", "b"]).await;
                assert_eq!(
                    (revision(&told["a"]), revision(&told["b"])),
                    (first.as_str(), first.as_str())
                );
            }
            repository.push();
            let told = controller.told(&["a", "b"]).await;
            assert_eq!(revision(&told["a"]), repository.main());
            assert!(!told["a"].wanted);
            // Nothing has changed: nothing is told, though it is looked at each second.
            while controller.told.try_recv().is_ok() {}
            let asked = server.asked().len();
            let again =
                tokio::time::timeout(Duration::from_millis(2500), controller.told.recv()).await;
            assert!(again.is_err(), "{again:?}");
            assert!(server.asked().len() > asked);
        })
        .await;
}

#[tokio::test]
async fn what_the_controller_wants_is_looked_at_at_once_and_answered() {
    let mut repository = Repository::new("sha1");
    let server = Server::start(&repository).await;
    let url = format!("http://127.0.0.1:{}/open/team/hello.git", server.port);
    let mut controller = Controller::start().await;
    let mut source = branch("a", &url, "main");
    source.interval_seconds = 0;
    let mut missing = branch("b", &url, "nope");
    missing.interval_seconds = 0;
    controller.watch(vec![source, missing]);
    controller
        .with_watcher(async |controller| {
            repository.push();
            controller
                .want
                .send(vec!["a".into(), "b".into(), "unknown".into()])
                .unwrap();
            let told = controller.told(&["a", "b"]).await;
            assert_eq!(
                (revision(&told["a"]), told["a"].wanted),
                (repository.main().as_str(), true)
            );
            let Outcome::Failed { reason, message } = &told["b"].outcome else {
                panic!("{told:?}");
            };
            assert_eq!(*reason, Reason::NotFound);
            assert_eq!(
                *message,
                format!("git repository {url}: branch \"nope\" not found: check git.ref")
            );
            // Also where nothing has changed.
            controller.want.send(vec!["a".into()]).unwrap();
            assert!(controller.told(&["a"]).await["a"].wanted);
        })
        .await;
}

#[tokio::test]
async fn another_list_and_another_secret_are_seen_while_it_runs() {
    let repository = Repository::new("sha1");
    let server = Server::start(&repository).await;
    let url = format!("http://127.0.0.1:{}/private/team/hello.git", server.port);
    let mut controller = Controller::start().await;
    controller.watch(vec![]);
    controller
        .with_watcher(async |controller| {
            let mut source = branch("a", &url, "main");
            source.interval_seconds = 3000;
            let What::Git { secret, .. } = &mut source.what else {
                panic!("git");
            };
            *secret = Some("git".into());
            // The kubelet makes it for a Secret that does not exist, too.
            let folder = controller.folder.path().join("secrets/git");
            fs::create_dir_all(&folder).unwrap();
            controller.watch(vec![source]);
            let denied = controller.told(&["a"]).await;
            let Outcome::Failed { reason, message } = &denied["a"].outcome else {
                panic!("{denied:?}");
            };
            assert_eq!(*reason, Reason::Denied);
            assert!(
                message.contains("Secret git not found, or key password is missing"),
                "{message}"
            );
            fs::write(folder.join("username"), "bob").unwrap();
            fs::write(folder.join("password"), "hunter22").unwrap();
            assert_eq!(
                revision(&controller.told(&["a"]).await["a"]),
                repository.main()
            );
        })
        .await;
}

#[tokio::test]
async fn a_controller_that_shows_another_certificate_is_told_nothing() {
    let repository = Repository::new("sha1");
    let server = Server::start(&repository).await;
    let url = format!("http://127.0.0.1:{}/open/team/hello.git", server.port);
    let mut controller = Controller::start().await;
    let other = Controller::start().await;
    fs::copy(
        other.places().tls.join("ca.crt"),
        controller.places().tls.join("ca.crt"),
    )
    .unwrap();
    controller.watch(vec![branch("a", &url, "main")]);
    controller
        .with_watcher(async |controller| {
            while server.asked().len() < 4 {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            assert!(controller.told.try_recv().is_err());
        })
        .await;
}

#[tokio::test]
async fn the_list_that_the_controller_sends_counts_and_the_mounted_one_at_the_start_alone() {
    let repository = Repository::new("sha1");
    let server = Server::start(&repository).await;
    let url = format!("http://127.0.0.1:{}/open/team/hello.git", server.port);
    let source = |id: &str| branch(id, &url, "main");
    let mut controller = Controller::start().await;
    controller.watch(vec![source("a")]);
    controller
        .with_watcher(async |controller| {
            controller.told(&["a"]).await;
            controller.sends(vec![source("a"), source("b")]);
            // Nothing has written the file.
            controller.told(&["b"]).await;
            // What is invalid is sent once, and the one before holds.
            *controller.list.lock().unwrap() = Some("{".into());
            controller.want.send(vec!["b".into()]).unwrap();
            assert!(controller.told(&["b"]).await["b"].wanted);
            // The kubelet comes late, with what was there before: it changes nothing, though it is looked at.
            controller.watch(vec![source("late")]);
            controller.sends(vec![source("b"), source("c")]);
            controller.told(&["c"]).await;
            let late = tokio::time::timeout(MOUNTED + MOUNTED / 2, controller.told(&["late"]));
            assert!(late.await.is_err());
            // A controller of an earlier version takes over: nothing but the file is there.
            *controller.list.lock().unwrap() = None;
            controller.want.send(vec![]).unwrap();
            controller.told(&["late"]).await;
        })
        .await;
}

#[tokio::test]
async fn a_controller_that_is_somewhere_else_by_now_is_found_by_the_mounted_list() {
    let repository = Repository::new("sha1");
    let server = Server::start(&repository).await;
    let url = format!("http://127.0.0.1:{}/open/team/hello.git", server.port);
    let mut controller = Controller::start().await;
    let elsewhere = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gone = format!("https://{}", elsewhere.local_addr().unwrap());
    controller.watch(vec![branch("a", &url, "main")]);
    controller
        .with_watcher(async |controller| {
            controller.sends(vec![branch("b", &url, "main")]);
            controller.told(&["b"]).await;
            let text = controller.text(vec![branch("b", &url, "main")]);
            let text = text.replace(&controller.callback, &gone);
            *controller.list.lock().unwrap() = Some(text);
            controller.want.send(vec![]).unwrap();
            // It asks there from now on, and that one goes.
            drop(elsewhere.accept().await.unwrap());
            drop(elsewhere);
            controller.sends(vec![branch("c", &url, "main")]);
            controller.watch(vec![branch("c", &url, "main")]);
            controller.told(&["c"]).await;
        })
        .await;
}

#[tokio::test]
async fn a_source_whose_secret_is_not_mounted_yet_is_looked_at_once_it_is_and_told_no_sooner() {
    let repository = Repository::new("sha1");
    let server = Server::start(&repository).await;
    let url = |kind: &str| format!("http://127.0.0.1:{}/{kind}/team/hello.git", server.port);
    let mut controller = Controller::start().await;
    controller.watch(vec![]);
    let mut private = branch("private", &url("private"), "main");
    let What::Git { secret, .. } = &mut private.what else {
        panic!("git");
    };
    *secret = Some("git".into());
    let open = branch("open", &url("open"), "main");
    controller
        .with_watcher(async |controller| {
            controller.sends(vec![private, open]);
            controller.told(&["open"]).await;
            // It is due by now, and asked for.
            controller.want.send(vec!["private".into()]).unwrap();
            controller.want.send(vec!["open".into()]).unwrap();
            let told = controller.told(&["open"]).await;
            assert!(!told.contains_key("private"), "{told:?}");
            let folder = controller.folder.path().join("secrets/git");
            fs::create_dir_all(folder.with_file_name("new")).unwrap();
            fs::write(folder.with_file_name("new/username"), "bob").unwrap();
            fs::write(folder.with_file_name("new/password"), "hunter22").unwrap();
            fs::rename(folder.with_file_name("new"), folder).unwrap();
            let told = controller.told.recv().await.unwrap();
            assert_eq!(told[0].id, "private");
            assert_eq!(
                (revision(&told[0]), told[0].wanted),
                (repository.main().as_str(), true)
            );
        })
        .await;
}
