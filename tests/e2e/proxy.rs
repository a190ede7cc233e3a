//! A corporate proxy: nothing else knows the hosts of `outside.example`, and it opens TLS with an authority of its own.
//!
//! The Pod runs this very test program, as that of quirks.rs.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use whittle_api::FailureReason::{
    BaseImageUnreachable, BuildFailed, PushFailed, SourceUnreachable,
};

use crate::field::{Field, Repository, variable};
use crate::quirks::start_pod;
use crate::registry::{blob, files_of, manifest};

const REGISTRY: &str = "registry.outside.example";
const GIT: &str = "git.outside.example";
/// What the Pod gets: the chain and the key of its certificate, and what is behind the two hosts.
const CHAIN: &str = "PROXY_CHAIN";
const KEY: &str = "PROXY_KEY";
const BEHIND: [(&str, &str); 2] = [(REGISTRY, "PROXY_REGISTRY"), (GIT, "PROXY_GIT")];
const PORT: u16 = 3128;
/// Bytes of a request to a proxy.
const HEAD: usize = 8 << 10;

/// Not a test: what the Pod runs.
#[tokio::test]
#[ignore = "the program of a Pod that other tests make"]
async fn serve() {
    let Ok(chain) = std::env::var(CHAIN) else {
        return;
    };
    let _ = rustls::crypto::ring::default_provider().install_default();
    let chain = CertificateDer::pem_slice_iter(chain.as_bytes());
    let chain: Vec<_> = chain.map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_slice(variable(KEY).as_bytes()).unwrap();
    let config = rustls::ServerConfig::builder().with_no_client_auth();
    let config = config.with_single_cert(chain, key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind(("0.0.0.0", PORT)).await.unwrap();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        tokio::spawn(serve_one(stream, acceptor.clone()));
    }
}

/// One connection. Whatever breaks it is the client's to tell.
async fn serve_one(mut stream: TcpStream, acceptor: TlsAcceptor) {
    let mut head = vec![];
    while !head.ends_with(b"\r\n\r\n") && head.len() < HEAD {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let mut words = head.split_whitespace();
    let (method, target) = (
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default(),
    );
    println!("by the proxy: {method} {target}");
    let host = target.strip_suffix(":443").unwrap_or_default();
    let behind = BEHIND.iter().find(|(known, _)| *known == host);
    let Some((_, behind)) = behind.filter(|_| method == "CONNECT") else {
        let answer = "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        let _ = stream.write_all(answer.as_bytes()).await;
        return;
    };
    let answer = b"HTTP/1.1 200 Connection established\r\n\r\n";
    if stream.write_all(answer).await.is_err() {
        return;
    }
    // Who does not trust the certificate says so, and goes.
    let Ok(mut opened) = acceptor.accept(stream).await else {
        return;
    };
    let mut behind = TcpStream::connect(variable(behind)).await.unwrap();
    let _ = copy_bidirectional(&mut opened, &mut behind).await;
}

/// An authority, and a certificate by it for both hosts: the authority, the chain and the key, PEM.
fn certificates() -> (String, String, String) {
    let mut parameters = rcgen::CertificateParams::new(vec![]).unwrap();
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let name = (rcgen::DnType::CommonName, "Corporate inspection");
    parameters.distinguished_name.push(name.0, name.1);
    let key = rcgen::KeyPair::generate().unwrap();
    let authority = rcgen::CertifiedIssuer::self_signed(parameters, key).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let hosts = vec![REGISTRY.to_owned(), GIT.to_owned()];
    let leaf = rcgen::CertificateParams::new(hosts).unwrap();
    let leaf = leaf.signed_by(&key, &authority).unwrap();
    (authority.pem(), leaf.pem(), key.serialize_pem())
}

/// Starts the proxy; the authority by which it opens TLS.
async fn start(field: &Field) -> String {
    let (authority, chain, key) = certificates();
    let git = variable("GIT_URL");
    let (_, git) = git.split_once("://").unwrap();
    let env = json!([
        {"name": CHAIN, "value": chain}, {"name": KEY, "value": key},
        {"name": "PROXY_REGISTRY", "value": variable("REGISTRY")}, {"name": "PROXY_GIT", "value": git},
    ]);
    start_pod(field, "proxy::serve", env, PORT).await;
    field
        .create(
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "proxy"},
            "spec": {"selector": {"app": "quirks"}, "ports": [{"port": PORT}]}}),
        )
        .await;
    authority
}

/// A Builder that knows the local registry, too, and reaches it directly.
async fn builder(field: &Field, name: &str, proxy: &str, ca: bool) {
    let local = variable("REGISTRY");
    let (host, _) = local.rsplit_once(':').unwrap();
    let mut spec = json!({
        "cache": {"size": "1Gi"},
        "registries": [
            {"host": local, "plainHTTP": true},
            {"host": "docker.io", "mirrors": [local]},
        ],
        "proxy": {"httpProxy": proxy, "noProxy": host},
    });
    if ca {
        spec["caRef"] = json!({"name": "corporate"});
    }
    field
        .create(json!({"apiVersion": "whittle.dev/v1alpha1", "kind": "Builder", "metadata": {"name": name}, "spec": spec}))
        .await;
}

impl Field {
    fn outside(&self, name: &str) -> String {
        format!("{REGISTRY}/{}/{name}", self.namespace)
    }

    /// What came by the proxy: methods and targets.
    async fn by_the_proxy(&self) -> Vec<String> {
        let pods = self.api::<Pod>();
        let all = ListParams::default().labels("app=quirks");
        let pods = pods.list(&all).await.unwrap().items;
        let log = self.log(pods[0].metadata.name.as_deref().unwrap()).await;
        let lines = log
            .lines()
            .filter_map(|line| line.strip_prefix("by the proxy: "));
        lines.map(str::to_owned).collect()
    }
}

#[tokio::test]
async fn behind_a_proxy_with_its_own_authority_images_are_built_from_git_and_what_moves_is_seen() {
    let field = Field::new("proxy").await;
    let authority = start(&field).await;
    field
        .create(
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "corporate"}, "data": {"ca.crt": authority}}),
        )
        .await;
    let proxy = format!("http://proxy.{}.svc:{PORT}", field.namespace);
    builder(&field, "default", &proxy, true).await;
    // By the local registry, which is reached directly.
    let files = json!({"Dockerfile": "FROM scratch\nCOPY base /base\n", "base": "1"});
    field.build("base", files, json!({})).await;
    field.succeeds("base").await;
    let repository = Repository::new(&field.namespace);
    let dockerfile = format!(
        "FROM busybox:1.36 AS step\nRUN echo \"$HTTPS_PROXY $no_proxy\" > /seen\n\
         FROM {}\nCOPY --from=step /seen /seen\nCOPY name.txt /name\n",
        field.outside("base")
    );
    let commit = |name: &str| {
        let files = [("Dockerfile", dockerfile.as_str()), ("name.txt", name)];
        repository.commit(&files, "refs/heads/main")
    };
    let first = commit("first");
    let url = format!("https://{GIT}/{}.git", field.namespace);
    let patch = json!({
        "output": {"image": field.outside("app")},
        "triggers": {"poll": {"interval": "10s"}, "baseImages": {"interval": "10s"}},
    });
    let source = json!({"git": {"url": url, "ref": {"branch": "main"}}});
    field.apply("app", source, patch).await;
    let status = field.succeeds("app").await;
    assert_eq!(status.revision, Some(format!("main@sha1:{first}")));
    let files = files_of(&field.image("app"), &status.digest.unwrap()).await;
    let seen = String::from_utf8(files["seen"].clone()).unwrap();
    assert!(seen.starts_with(&format!("{proxy} localhost,")), "{seen}");
    // Nothing of it is left in the image.
    let (_, found) = manifest(&field.image("app"), "latest").await;
    let config = found["config"]["digest"].as_str().unwrap();
    let config = String::from_utf8(blob(&field.image("app"), config).await).unwrap();
    assert!(!config.contains("3128"), "{config}");

    // The watcher sees by the proxy what moves there: a commit, and the base image.
    field.is_looked_at("app").await;
    let second = commit("second");
    field.has_built("app", &format!("main@sha1:{second}")).await;
    let all = field.by_the_proxy().await;
    for host in [REGISTRY, GIT] {
        let wanted = format!("CONNECT {host}:443");
        assert!(all.contains(&wanted), "{all:?}");
    }
    // Runners and watcher speak with builder and controller, and nobody leads them around by the proxy.
    let others = |line: &&String| !line.contains("outside.example");
    let others: Vec<&String> = all.iter().filter(others).collect();
    assert!(others.is_empty(), "{others:?}");
    field.close().await;
}

#[tokio::test]
async fn without_the_authority_or_with_a_proxy_that_is_none_a_build_says_which_field_to_set() {
    let field = Field::new("proxy-hints").await;
    start(&field).await;
    let proxy = format!("http://proxy.{}.svc:{PORT}", field.namespace);
    builder(&field, "default", &proxy, false).await;
    builder(&field, "lost", "http://nosuch.outside.example:3128", false).await;
    let git = json!({"git": {"url": format!("https://{GIT}/x.git")}});
    let from =
        |image: &str| json!({"inline": {"files": {"Dockerfile": format!("FROM {image}\n")}}});
    let pushed =
        json!({"inline": {"files": {"Dockerfile": "FROM scratch\nCOPY a /a\n", "a": "a"}}});
    let outside = json!({"output": {"image": field.outside("x")}});
    let on = |builder: &str, patch: &Value| {
        let mut patch = patch.clone();
        patch["builderRef"] = json!({"name": builder});
        patch["retries"] = json!(0);
        patch
    };
    let base = field.outside("base");
    let none = json!({});
    let elsewhere = from("elsewhere.example/x");
    let builds = [
        (
            "git",
            git.clone(),
            on("default", &none),
            SourceUnreachable,
            "set its CA in caRef of the Builder",
        ),
        (
            "base",
            from(&base),
            on("default", &none),
            BuildFailed,
            "or for all servers in caRef of the Builder",
        ),
        (
            "push",
            pushed,
            on("default", &outside),
            PushFailed,
            "or for all servers in caRef of the Builder",
        ),
        (
            "closed",
            elsewhere,
            on("default", &none),
            BuildFailed,
            "name the host in proxy.noProxy",
        ),
        (
            "lost-git",
            git,
            on("lost", &none),
            SourceUnreachable,
            "check proxy.httpProxy",
        ),
        (
            "lost-base",
            from(&base),
            on("lost", &none),
            BaseImageUnreachable,
            "check proxy.httpProxy",
        ),
    ];
    for (name, source, patch, ..) in &builds {
        field.apply(name, source.clone(), patch.clone()).await;
    }
    for (name, _, _, reason, words) in builds {
        let failure = field.fails(name, reason).await;
        let said = format!("{} {}", failure.message, failure.hint.unwrap_or_default());
        assert!(said.contains(words), "{name}: {said}");
    }
    field.close().await;
}
