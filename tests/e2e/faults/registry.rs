//! A registry that fails in the middle of a push: a Pod between the build and the local registry, which is told when.
//!
//! The Pod runs this very test program, as that of quirks.rs.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HOST, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use futures::{StreamExt, stream};
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Patch, PatchParams};
use serde::{Deserialize, Serialize};
use serde_json::json;
use whittle_api::FailureReason::PushDenied;

use super::{heals, lasts, tell};
use crate::field::Field;
use crate::quirks::{UPSTREAM, passed_on, start_program};

/// Bytes that pass in a second, of each request and each answer, where it is slow.
const SLOW: usize = 2 << 10;
/// Bytes of each of the image's layers, which hardly compress.
const LAYER: usize = 48 << 10;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
enum Kind {
    /// All is well.
    #[default]
    None,
    /// 500 to everything.
    Broken,
    /// 429 to everything, with a time to wait.
    Limited,
    /// Bytes trickle.
    Slow,
    /// The token was withdrawn; another one is to be had.
    Expired,
    /// The token was withdrawn, and no other is to be had.
    Revoked,
    /// The token was withdrawn, and the token server answers 503.
    Tokenless,
    /// 403 to everything.
    Forbidden,
}

/// What the Pod is told, and tells.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Fault {
    kind: Kind,
    /// Blobs that were pushed since it was told: with the first of them the fault begins, but for slowness.
    blobs: usize,
    /// Uploads that were begun.
    begun: usize,
    /// Requests that met it.
    met: usize,
    /// Of the token that is good; 0 where none is needed.
    token: usize,
}

#[derive(Clone)]
struct Between {
    upstream: String,
    client: reqwest::Client,
    fault: Arc<Mutex<Fault>>,
}

/// Not a test: what the Pod runs.
#[tokio::test]
#[ignore = "the program of a Pod that other tests make"]
async fn serve() {
    let Ok(upstream) = std::env::var(UPSTREAM) else {
        return;
    };
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().tls_certs_only([]).build();
    let between = Between {
        upstream,
        client: client.unwrap(),
        fault: Arc::default(),
    };
    let listener = tokio::net::TcpListener::bind("0.0.0.0:5000").await.unwrap();
    let router = Router::new().fallback(answer).with_state(between);
    axum::serve(listener, router).await.unwrap();
}

async fn answer(State(between): State<Between>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    match path.as_str() {
        "/fault" => return between.told(request).await,
        "/token" => return between.token(),
        _ => {}
    }
    let host = request.headers()[HOST].to_str().unwrap().to_owned();
    let bearer = request.headers().get(AUTHORIZATION).cloned();
    let fault = between.meets(request.method());
    match fault.kind {
        Kind::Broken => return StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        Kind::Limited => {
            let wait = [(RETRY_AFTER, "5")];
            return (StatusCode::TOO_MANY_REQUESTS, wait).into_response();
        }
        Kind::Forbidden => {
            return said(403, "DENIED", "requested access to the resource is denied");
        }
        _ => {}
    }
    let token = format!("Bearer token-{}", fault.token);
    if fault.token > 0 && bearer.as_ref().is_none_or(|value| value != token.as_str()) {
        let error = match bearer {
            Some(_) => ",error=\"invalid_token\"",
            None => "",
        };
        let challenge = format!("Bearer realm=\"http://{host}/token\",service=\"between\"{error}");
        let mut response = said(401, "UNAUTHORIZED", "authentication required");
        let headers = response.headers_mut();
        headers.insert(WWW_AUTHENTICATE, challenge.parse().unwrap());
        return response;
    }
    if fault.token > 0 && request.method() == Method::POST && !between.is_first() {
        // All but the first are in the middle of an upload when the token goes: there BuildKit may wait forever.
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    between.pass(request, fault.kind == Kind::Slow).await
}

fn said(status: u16, code: &str, message: &str) -> Response {
    let body = json!({"errors": [{"code": code, "message": message}]});
    (StatusCode::from_u16(status).unwrap(), Json(body)).into_response()
}

impl Between {
    /// What the test says comes by POST; either way it is told how it stands.
    async fn told(&self, request: Request) -> Response {
        if request.method() == Method::POST {
            let body = to_bytes(request.into_body(), 1 << 10).await.unwrap();
            let kind: Kind = serde_json::from_slice(&body).unwrap();
            let mut fault = self.fault.lock().unwrap();
            let token = match kind {
                Kind::Expired | Kind::Revoked | Kind::Tokenless => 1,
                _ => fault.token,
            };
            *fault = Fault {
                kind,
                token,
                ..Fault::default()
            };
        }
        Json(*self.fault.lock().unwrap()).into_response()
    }

    /// A token for whoever asks, but for those whose right was withdrawn.
    fn token(&self) -> Response {
        let fault = *self.fault.lock().unwrap();
        if fault.kind == Kind::Revoked && fault.blobs > 0 {
            return said(401, "UNAUTHORIZED", "incorrect username or password");
        }
        if fault.kind == Kind::Tokenless && fault.blobs > 0 {
            return StatusCode::SERVICE_UNAVAILABLE.into_response();
        }
        Json(json!({"token": format!("token-{}", fault.token), "expires_in": 3600})).into_response()
    }

    /// The fault that this request meets.
    fn meets(&self, method: &Method) -> Fault {
        let mut fault = self.fault.lock().unwrap();
        if fault.kind == Kind::Slow {
            fault.met += usize::from(method == Method::PUT);
            return *fault;
        }
        if fault.blobs == 0 {
            return Fault {
                kind: Kind::None,
                ..*fault
            };
        }
        fault.met += 1;
        *fault
    }

    /// True for the first upload since the test has said something.
    fn is_first(&self) -> bool {
        let mut fault = self.fault.lock().unwrap();
        fault.begun += 1;
        fault.begun == 1
    }

    /// The fault begins with the first blob.
    fn pushed(&self) {
        let mut fault = self.fault.lock().unwrap();
        fault.blobs += 1;
        if fault.blobs == 1 && fault.token > 0 && fault.kind != Kind::None {
            fault.token += 1;
        }
    }

    async fn pass(&self, request: Request, slow: bool) -> Response {
        let (head, body) = request.into_parts();
        let mut sent = vec![];
        let mut body = body.into_data_stream();
        while let Some(Ok(chunk)) = body.next().await {
            if slow {
                tokio::time::sleep(at_that_speed(chunk.len())).await;
            }
            sent.extend(chunk);
        }
        let blob = head.method == Method::PUT && head.uri.path().contains("/blobs/");
        let ask = passed_on(&self.client, &self.upstream, &head);
        let found = ask.body(sent).send().await.unwrap();
        if blob && found.status().is_success() {
            self.pushed();
        }
        let mut response = Response::builder().status(found.status());
        for (name, value) in found.headers() {
            if !matches!(name.as_str(), "transfer-encoding" | "connection") {
                response = response.header(name, value);
            }
        }
        let bytes = found.bytes().await.unwrap();
        let body = match slow {
            true => trickle(bytes),
            false => Body::from(bytes),
        };
        response.body(body).unwrap()
    }
}

fn at_that_speed(bytes: usize) -> Duration {
    Duration::from_secs_f64(bytes as f64 / SLOW as f64)
}

fn trickle(bytes: Bytes) -> Body {
    let pieces = stream::unfold(bytes, async |mut rest| {
        let piece = rest.split_to(rest.len().min(SLOW / 10));
        if piece.is_empty() {
            return None;
        }
        tokio::time::sleep(at_that_speed(piece.len())).await;
        Some((Ok::<_, std::convert::Infallible>(piece), rest))
    });
    Body::from_stream(pieces)
}

/// Tells the Pod of the next fault, through the API server, or asks how it stands.
async fn control(field: &Field, kind: Option<Kind>) -> Option<Fault> {
    let place = format!(
        "/api/v1/namespaces/{}/services/quirks:5000/proxy/fault",
        field.namespace
    );
    let request = match kind {
        Some(kind) => http::Request::post(place).body(serde_json::to_vec(&kind).unwrap()),
        None => http::Request::get(place).body(vec![]),
    };
    let answer = field.client.request::<Fault>(request.unwrap()).await;
    answer.ok()
}

/// Begins a build whose push meets this fault, and waits until it does.
async fn met(field: &Field, kind: Kind) {
    let host = start_program(field, "faults::registry::serve").await;
    field
        .until("the registry heeds", async || {
            control(field, Some(kind)).await
        })
        .await;
    build(field, &host).await;
    if kind == Kind::None {
        return;
    }
    field
        .until("the push meets the fault", async || {
            let fault = control(field, None).await?;
            (fault.met > 0).then_some(())
        })
        .await;
}

/// Layers that no registry has yet, and that are not pushed in a moment.
async fn build(field: &Field, host: &str) {
    let mut files =
        json!({"Dockerfile": "FROM scratch\nCOPY a /a\nCOPY b /b\nCOPY c /c\nCOPY d /d\n"});
    for name in ["a", "b", "c", "d"] {
        let mut state = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), name);
        let letters = std::iter::repeat_with(|| {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            char::from(b'!' + ((state >> 33) % 90) as u8)
        });
        files[name] = letters.take(LAYER).collect::<String>().into();
    }
    let output = json!({"image": format!("{host}/{}/hello", field.namespace)});
    field.build("hello", files, json!({"output": output})).await;
}

async fn transient(fault: &str, kind: Kind, attempts: std::ops::RangeInclusive<usize>) {
    let mut field = Field::new("mid-push").await;
    field.patience *= 2;
    met(&field, kind).await;
    let lasts = match kind {
        // The runner asks every half a minute.
        Kind::Tokenless => lasts().max(75),
        _ => lasts(),
    };
    tokio::time::sleep(Duration::from_secs(lasts)).await;
    control(&field, Some(Kind::None)).await.unwrap();
    heals(&field, fault, "hello", Instant::now(), attempts).await;
    field.close().await;
}

#[tokio::test]
async fn the_registry_answers_500_in_the_middle_of_a_push() {
    transient("registry answered 500", Kind::Broken, 1..=3).await;
}

#[tokio::test]
async fn the_registry_answers_429_in_the_middle_of_a_push() {
    transient("registry answered 429", Kind::Limited, 1..=3).await;
}

#[tokio::test]
async fn the_registry_is_slow_in_the_middle_of_a_push() {
    transient("registry slow", Kind::Slow, 1..=1).await;
}

#[tokio::test]
async fn the_registry_is_stopped_in_the_middle_of_a_push_and_started_again() {
    let field = Field::new("mid-push").await;
    let deployments = field.api::<Deployment>();
    let scale = async |replicas: i32| {
        let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
        let params = PatchParams::default();
        deployments.patch("quirks", &params, &patch).await.unwrap();
    };
    // So slow that it is stopped before the last layer is there.
    met(&field, Kind::Slow).await;
    scale(0).await;
    tokio::time::sleep(Duration::from_secs(lasts())).await;
    scale(1).await;
    let status = deployments.get("quirks").await.unwrap().status.unwrap();
    assert_eq!(status.ready_replicas.unwrap_or(0), 0);
    heals(&field, "registry stopped", "hello", Instant::now(), 1..=3).await;
    field.close().await;
}

#[tokio::test]
async fn the_token_expires_in_the_middle_of_a_push() {
    let field = Field::new("mid-push").await;
    met(&field, Kind::Expired).await;
    // It is over with the next token that is asked for.
    heals(&field, "token expired", "hello", Instant::now(), 1..=1).await;
    field.close().await;
}

/// BuildKit's push may wait forever then, and others to that registry with it until the daemon is restarted.
#[tokio::test]
async fn the_token_server_answers_503_in_the_middle_of_a_push() {
    transient("token server answered 503", Kind::Tokenless, 1..=3).await;
}

/// Denied at once and not retried; and once it is allowed, all is well with the next request.
async fn permanent(fault: &str, kind: Kind) {
    let field = Field::new("mid-push").await;
    met(&field, kind).await;
    let failure = field.fails("hello", PushDenied).await;
    eprintln!("{}", failure.message);
    control(&field, Some(Kind::None)).await.unwrap();
    let ended = Instant::now();
    field.request("hello").await;
    let status = field.succeeds_again("hello", 2).await;
    tell(fault, ended);
    assert_eq!(status.history.len(), 2);
    field.close().await;
}

#[tokio::test]
async fn the_credentials_are_revoked_in_the_middle_of_a_push() {
    permanent("credentials revoked, then a new request", Kind::Revoked).await;
}

#[tokio::test]
async fn the_push_is_forbidden_in_its_middle() {
    permanent("push forbidden, then a new request", Kind::Forbidden).await;
}
