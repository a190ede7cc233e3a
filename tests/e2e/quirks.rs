//! Registries as they are in the wild: a Pod between the builds and the local registry, which passes everything on but
//! for what the first part of the repository's name asks for.
//!
//! The Pod runs this very test program, off the node's own file system, so that there is no image to make.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, LOCATION, WWW_AUTHENTICATE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use whittle_api::FailureReason::*;

use crate::field::{Field, variable};

/// What the Pod gets: the registry behind it.
pub const UPSTREAM: &str = "QUIRKS_UPSTREAM";
/// What the token server takes.
const USER: &str = "e2e";
const PASSWORD: &str = "right";
/// How long a manifest is not to be seen after it was pushed.
const LAG: Duration = Duration::from_secs(6);

#[derive(Clone)]
struct Quirks {
    upstream: String,
    client: reqwest::Client,
    seen: Arc<Mutex<HashMap<String, Instant>>>,
}

/// Not a test: what the Pod runs.
#[tokio::test]
#[ignore = "the program of a Pod that other tests make"]
async fn serve() {
    let Ok(upstream) = std::env::var(UPSTREAM) else {
        return;
    };
    let _ = rustls::crypto::ring::default_provider().install_default();
    let quirks = Quirks {
        upstream,
        client: reqwest::Client::builder()
            .tls_certs_only([])
            .build()
            .unwrap(),
        seen: Arc::default(),
    };
    let listen = async |port: u16| {
        tokio::net::TcpListener::bind(("0.0.0.0", port))
            .await
            .unwrap()
    };
    let registry = Router::new().fallback(answer).with_state(quirks.clone());
    let blobs = Router::new().fallback(store).with_state(quirks);
    let (registry, blobs) = tokio::join!(
        axum::serve(listen(5000).await, registry),
        axum::serve(listen(5001).await, blobs),
    );
    registry.unwrap();
    blobs.unwrap();
}

/// Where blobs are sent to: as S3 does, it refuses whoever brings credentials along beside the signature.
async fn store(State(quirks): State<Quirks>, request: Request) -> Response {
    if request.headers().contains_key(AUTHORIZATION) {
        return (
            StatusCode::BAD_REQUEST,
            "<Error><Code>InvalidArgument</Code></Error>",
        )
            .into_response();
    }
    quirks.pass(request, "").await
}

async fn answer(State(quirks): State<Quirks>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let parts: Vec<&str> = path.split('/').collect();
    if path == "/token" {
        return token(request.uri().query().unwrap_or_default(), request.headers());
    }
    let quirk = parts
        .get(2)
        .copied()
        .filter(|_| parts.len() > 4)
        .unwrap_or_default();
    let method = request.method().clone();
    let last = parts.last().copied().unwrap_or_default();
    let tags = method == Method::PUT && parts.contains(&"manifests") && !last.contains(':');
    let manifest = parts.contains(&"manifests");
    let uploads = parts.contains(&"uploads");
    let writes = [Method::POST, Method::PUT, Method::PATCH].contains(&method);
    let reads = [Method::GET, Method::HEAD].contains(&method);
    let host = request.headers()[HOST].to_str().unwrap().to_owned();
    if matches!(quirk, "redirect" | "empty" | "refused") {
        let header = request.headers().get(AUTHORIZATION);
        if header.is_none_or(|value| value != "Bearer abc") {
            let challenge =
                format!("Bearer realm=\"http://{host}/token?quirk={quirk}\",service=\"quirks\"");
            let mut response = said(401, "UNAUTHORIZED", "authentication required");
            response
                .headers_mut()
                .insert(WWW_AUTHENTICATE, challenge.parse().unwrap());
            return response;
        }
        if quirk == "redirect" && reads && parts.contains(&"blobs") && !uploads {
            let (name, _) = host.split_once('.').unwrap();
            let rest = host.strip_prefix(name).unwrap().replace(":5000", ":5001");
            let place = format!("http://{name}-blobs{rest}{path}?X-Signature=1");
            return (StatusCode::TEMPORARY_REDIRECT, [(LOCATION, place)]).into_response();
        }
    }
    match quirk {
        "html" => return page(200, "Welcome"),
        "large" if writes && uploads && method != Method::POST => {
            return page(413, "413 Request Entity Too Large");
        }
        "ecr" if tags => {
            let words = format!(
                "The image tag '{last}' already exists in the 'ecr/app' repository and cannot be overwritten because the tag is immutable."
            );
            return said(400, "TAG_INVALID", &words);
        }
        "harbor" if tags => {
            let words =
                format!("Failed to process request due to 'app:{last}' configured as immutable.");
            return said(412, "PRECONDITION", &words);
        }
        "artifactory" if tags => {
            return said(
                403,
                "DENIED",
                "Not enough permissions to delete/overwrite artifact 'docker-local/app/v1/manifest.json' (user 'ci' needs DELETE permission).",
            );
        }
        "full" if writes && uploads && method != Method::POST => {
            return said(
                403,
                "DENIED",
                "adding 3.0 MiB of storage resource, which when updated to current usage of 1.0 GiB will exceed the configured upper limit of 1.0 GiB.",
            );
        }
        "missing" if method == Method::POST => {
            return said(
                404,
                "NAME_UNKNOWN",
                "The repository with name 'missing/app' does not exist in the registry with id '123456789012'",
            );
        }
        "ghcr" if writes => return said(403, "DENIED", "permission_denied: write_package"),
        "lag" if reads && manifest && last.contains(':') => {
            let mut seen = quirks.seen.lock().unwrap();
            let first = *seen.entry(path.clone()).or_insert_with(Instant::now);
            if first.elapsed() < LAG {
                return said(404, "MANIFEST_UNKNOWN", "manifest unknown");
            }
        }
        "nolists" if parts.contains(&"referrers") => return page(404, "404 Not Found"),
        _ => {}
    }
    quirks.pass(request, quirk).await
}

fn token(query: &str, headers: &HeaderMap) -> Response {
    if query.contains("quirk=refused") {
        return said(403, "DENIED", "requested access to the resource is denied");
    }
    let wanted = format!("Basic {}", STANDARD.encode(format!("{USER}:{PASSWORD}")));
    if headers
        .get(AUTHORIZATION)
        .is_none_or(|value| value != wanted.as_str())
    {
        return said(401, "UNAUTHORIZED", "incorrect username or password");
    }
    let body = match query.contains("quirk=empty") {
        true => json!({"token": "", "access_token": "abc"}),
        false => json!({"token": "abc"}),
    };
    axum::Json(body).into_response()
}

fn said(status: u16, code: &str, message: &str) -> Response {
    let body = json!({"errors": [{"code": code, "message": message}]});
    (StatusCode::from_u16(status).unwrap(), axum::Json(body)).into_response()
}

fn page(status: u16, title: &str) -> Response {
    let body = format!(
        "<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{title}</h1></center>\r\n<hr><center>nginx/1.25.3</center>\r\n</body>\r\n</html>\r\n"
    );
    (
        StatusCode::from_u16(status).unwrap(),
        [(CONTENT_TYPE, "text/html")],
        body,
    )
        .into_response()
}

/// A request that a proxy passes on to the registry behind it, as it came but for the credentials.
pub fn passed_on(
    client: &reqwest::Client,
    upstream: &str,
    head: &Parts,
) -> reqwest::RequestBuilder {
    let url = format!("http://{upstream}{}", head.uri);
    let mut ask = client.request(head.method.clone(), url);
    for (name, value) in &head.headers {
        if !matches!(
            name.as_str(),
            "authorization" | "content-length" | "transfer-encoding" | "connection"
        ) {
            ask = ask.header(name, value);
        }
    }
    ask
}

impl Quirks {
    async fn pass(&self, request: Request, quirk: &str) -> Response {
        let (head, body) = request.into_parts();
        let body = to_bytes(body, 64 << 20).await.unwrap();
        let has = |word: &str| {
            body.windows(word.len())
                .any(|window| window == word.as_bytes())
        };
        let manifest = head.method == Method::PUT && head.uri.path().contains("/manifests/");
        if quirk == "nosubject" && manifest && has("\"subject\"") {
            return said(400, "MANIFEST_INVALID", "manifest invalid");
        }
        if quirk == "notypes" && manifest && has("\"artifactType\"") {
            return (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported").into_response();
        }
        let ask = passed_on(&self.client, &self.upstream, &head);
        let found = ask.body(body).send().await.unwrap();
        let mut response = Response::builder().status(found.status());
        for (name, value) in found.headers() {
            let value = value.to_str().unwrap().to_owned();
            let value = match name == LOCATION && quirk == "relative" && value.contains("://") {
                true => format!("/{}", value.splitn(4, '/').nth(3).unwrap()),
                false => value,
            };
            if !matches!(name.as_str(), "transfer-encoding" | "connection") {
                response = response.header(name, value);
            }
        }
        let bytes = found.bytes().await.unwrap();
        response.body(Body::from(bytes)).unwrap()
    }
}

/// The registry with quirks, in this namespace; its host.
async fn start(field: &Field) -> String {
    start_program(field, "quirks::serve").await
}

/// A registry that this "test" of this program serves, in this namespace; its host.
pub async fn start_program(field: &Field, test: &str) -> String {
    let env = json!([{"name": UPSTREAM, "value": variable("REGISTRY")}]);
    start_pod(field, test, env, 5000).await;
    for (name, port) in [("quirks", 5000), ("quirks-blobs", 5001)] {
        field
            .create(json!({
                "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
                "spec": {"selector": {"app": "quirks"}, "ports": [{"port": port}]},
            }))
            .await;
    }
    let host = format!("quirks.{}.svc:5000", field.namespace);
    field
        .create(json!({
            "apiVersion": "whittle.dev/v1alpha1", "kind": "Builder", "metadata": {"name": "default"},
            "spec": {"cache": {"size": "1Gi"}, "registries": [
                {"host": host, "plainHTTP": true},
                {"host": variable("REGISTRY"), "plainHTTP": true},
            ]},
        }))
        .await;
    host
}

/// Runs this "test" of this program as a Pod with the label `app: quirks`, until it listens at this port.
pub async fn start_pod(field: &Field, test: &str, env: Value, port: u16) {
    let program = std::env::current_exe().unwrap().display().to_string();
    let (folder, program) = program.rsplit_once('/').unwrap();
    let labels = json!({"app": "quirks"});
    // It has folders of the node.
    field.hold_to("privileged").await;
    let lib = "/host/usr/lib/x86_64-linux-gnu";
    field
        .create(json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "quirks"},
            "spec": {"selector": {"matchLabels": labels}, "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "terminationGracePeriodSeconds": 1,
                    "containers": [{
                        "name": "quirks", "image": "busybox:1.36",
                        "command": [format!("{lib}/ld-linux-x86-64.so.2"), "--library-path", lib, format!("/host/program/{program}"),
                            "--ignored", "--exact", test, "--nocapture"],
                        "env": env,
                        "readinessProbe": {"tcpSocket": {"port": port}, "periodSeconds": 1},
                        "volumeMounts": [
                            {"name": "usr", "mountPath": "/host/usr", "readOnly": true},
                            {"name": "program", "mountPath": "/host/program", "readOnly": true},
                        ],
                    }],
                    "volumes": [
                        {"name": "usr", "hostPath": {"path": "/usr"}},
                        {"name": "program", "hostPath": {"path": folder}},
                    ],
                },
            }},
        }))
        .await;
    field
        .until("the program of the tests listens in its Pod", async || {
            let api = field.api::<k8s_openapi::api::apps::v1::Deployment>();
            let status = api.get("quirks").await.unwrap().status?;
            (status.ready_replicas == Some(1)).then_some(())
        })
        .await;
}

async fn build(field: &Field, name: &str, image: &str, secret: Option<&str>) {
    let mut output = json!({"image": image});
    if let Some(secret) = secret {
        output["secretRef"] = json!({"name": secret});
    }
    let files = json!({"Dockerfile": "FROM scratch\nCOPY a /a\n", "a": name});
    field
        .build(name, files, json!({"output": output, "retries": 0}))
        .await;
}

async fn secret(field: &Field, name: &str, kind: &str, data: Value) {
    field
        .create(json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "type": kind, "stringData": data}))
        .await;
}

const CONFIG: &str = "kubernetes.io/dockerconfigjson";

#[tokio::test]
async fn a_registry_with_quirks_is_built_for_or_says_what_answered_and_the_cure() {
    let field = Field::new("quirks").await;
    let host = start(&field).await;
    let right = STANDARD.encode(format!("{USER}:{PASSWORD}"));
    let config = json!({"auths": {&host: {"auth": right}}}).to_string();
    secret(
        &field,
        "right",
        CONFIG,
        json!({".dockerconfigjson": config}),
    )
    .await;
    let works = [
        "relative",
        "nosubject",
        "notypes",
        "nolists",
        "lag",
        "redirect",
        "empty",
    ];
    for quirk in works {
        let with = ["redirect", "empty"].contains(&quirk).then_some("right");
        build(&field, quirk, &format!("{host}/{quirk}/app"), with).await;
    }
    for quirk in works {
        field.succeeds(quirk).await;
    }
    let page = "with an HTML page titled '413 Request Entity Too Large' (nginx)";
    for (quirk, with, words) in [
        (
            "html",
            None,
            [
                "an HTML page titled 'Welcome' (nginx)",
                "a web server, not a registry",
            ],
        ),
        ("large", None, [page, "client_max_body_size"]),
        (
            "ecr",
            None,
            [
                "cannot be overwritten because the tag is immutable",
                "use a new tag for each build in output.tags",
            ],
        ),
        (
            "harbor",
            None,
            [
                "configured as immutable",
                "use a new tag for each build in output.tags",
            ],
        ),
        (
            "artifactory",
            None,
            ["delete/overwrite artifact", "Delete/Overwrite"],
        ),
        (
            "full",
            None,
            ["exceed the configured upper limit", "quota is exceeded"],
        ),
        (
            "missing",
            None,
            ["does not exist in the registry with id", "created first"],
        ),
        (
            "ghcr",
            None,
            ["permission_denied: write_package", "credentials missing"],
        ),
        (
            "refused",
            Some("right"),
            ["denied", "in Secret right are valid and may push"],
        ),
    ] {
        build(&field, quirk, &format!("{host}/{quirk}/app"), with).await;
        let message = field.fails(quirk, PushDenied).await.message;
        for words in words {
            assert!(message.contains(words), "{quirk}: {message}");
        }
        assert!(!message.contains('<'), "{quirk}: {message}");
    }
    field.close().await;
}

#[tokio::test]
async fn docker_config_files_are_used_as_people_have_them() {
    let field = Field::new("configs").await;
    let host = start(&field).await;
    let right = STANDARD.encode(format!("{USER}:{PASSWORD}"));
    let broken = STANDARD.encode(format!("{USER}:{PASSWORD}\n"));
    let wrong = STANDARD.encode("e2e:wrong");
    let (_, name) = host.split_once('.').unwrap();
    let good = [
        (
            "store",
            json!({"auths": {&host: {"auth": right}}, "credsStore": "desktop"}),
        ),
        (
            "helper",
            json!({"auths": {&host: {"auth": right}}, "credHelpers": {&host: "ecr-login"}}),
        ),
        (
            "url",
            json!({"auths": {format!("https://{host}/v2/"): {"auth": right}}}),
        ),
        (
            "lines",
            json!({"auths": {&host: {"auth": format!("{}\n{}\n", &broken[..8], &broken[8..])}}}),
        ),
        (
            "plain",
            json!({"auths": {&host: {"username": USER, "password": format!("{PASSWORD}\n")}}}),
        ),
        (
            "pattern",
            json!({"auths": {format!("*.{name}"): {"auth": right}}}),
        ),
        (
            "paths",
            json!({"auths": {format!("{host}/redirect"): {"auth": right}, &host: {"auth": wrong}, format!("{host}/other"): {"auth": wrong}}}),
        ),
        (
            "beside",
            json!({"auths": {&host: {"auth": right}, "bad.example.com": {"auth": "?"}}}),
        ),
    ];
    for (name, config) in &good {
        secret(
            &field,
            name,
            CONFIG,
            json!({".dockerconfigjson": config.to_string()}),
        )
        .await;
        build(&field, name, &format!("{host}/redirect/{name}"), Some(name)).await;
    }
    let legacy = json!({&host: {"auth": right, "email": "a@example.com"}}).to_string();
    secret(
        &field,
        "legacy",
        "kubernetes.io/dockercfg",
        json!({".dockercfg": legacy}),
    )
    .await;
    build(
        &field,
        "legacy",
        &format!("{host}/redirect/legacy"),
        Some("legacy"),
    )
    .await;
    for (name, _) in &good {
        field.succeeds(name).await;
    }
    field.succeeds("legacy").await;
    // A base image is had with them too, by pattern and from an argument.
    let base =
        format!("ARG REGISTRY={host}\nFROM ${{REGISTRY}}/redirect/store:latest\nCOPY a /b\n");
    let files = json!({"Dockerfile": base, "a": "x"});
    let output = json!({"output": {"secretRef": {"name": "pattern"}}, "retries": 0});
    field.build("base", files, output).await;
    field.succeeds("base").await;

    let config = json!({"auths": {&host: {}}, "credsStore": "desktop"}).to_string();
    secret(
        &field,
        "empty",
        CONFIG,
        json!({".dockerconfigjson": config}),
    )
    .await;
    build(
        &field,
        "empty",
        &format!("{host}/redirect/empty"),
        Some("empty"),
    )
    .await;
    let message = field.fails("empty", PushDenied).await.message;
    let words =
        format!("Secret empty uses the credential store desktop and has no password for {host}");
    assert!(message.contains(&words), "{message}");

    secret(
        &field,
        "opaque",
        "Opaque",
        json!({"username": USER, "password": PASSWORD}),
    )
    .await;
    build(
        &field,
        "opaque",
        &format!("{host}/redirect/opaque"),
        Some("opaque"),
    )
    .await;
    let message = field.fails("opaque", SecretNotFound).await.message;
    let words = "Secret opaque of output.secretRef has the wrong type: kubernetes.io/dockerconfigjson is required";
    assert!(message.contains(words), "{message}");
    field.close().await;
}

#[tokio::test]
async fn an_image_without_layers_is_built_read_and_judged() {
    let field = Field::new("nolayers").await;
    let files =
        json!({"Dockerfile": "FROM scratch\nLABEL a=b\nHEALTHCHECK NONE\nSTOPSIGNAL SIGINT\n"});
    field.build("hello", files.clone(), json!({})).await;
    let status = field.succeeds("hello").await;
    let platform = &status.platforms[0];
    assert_eq!(platform.layers.len(), 0);
    // Nothing is there to be run: the rule that every image has says so.
    field
        .build("strict", files, json!({"contract": null}))
        .await;
    let failure = field.fails("strict", ContractBroken).await;
    assert!(
        failure.message.contains("neither ENTRYPOINT nor CMD"),
        "{}",
        failure.message
    );
    field.close().await;
}
