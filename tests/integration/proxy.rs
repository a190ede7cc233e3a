//! Between a controller and its API server: counts what is called, and holds a call until its caller was killed.
//!
//! A call is a request that is not a watch. The controller speaks HTTP to it and keeps its token; TLS begins here.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::response::Response;
use serde_json::Value;

use crate::api_server::ApiServer;

/// On which side of a call the controller is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// The API server never hears of it.
    Before,
    /// The API server has carried it out, and nobody hears its answer.
    After,
}

/// A running proxy.
#[derive(Clone)]
pub struct Proxy(Arc<Inner>);

struct Inner {
    server: String,
    client: reqwest::Client,
    port: u16,
    counted: Mutex<Counted>,
}

/// What was seen since the last mark.
#[derive(Default)]
struct Counted {
    calls: Vec<String>,
    at: Option<(usize, When)>,
    /// The call at which it is to be killed was reached.
    reached: Option<String>,
    /// Nothing is passed on any more.
    held: bool,
    /// Names of Jobs that were made since the start, in order.
    jobs: Vec<String>,
}

impl Proxy {
    /// In front of this API server.
    pub async fn start(server: &ApiServer) -> Self {
        let (url, certificate) = server.address();
        let certificate = reqwest::Certificate::from_pem(&std::fs::read(certificate).unwrap());
        let client = reqwest::Client::builder()
            .tls_certs_only([certificate.unwrap()])
            .build()
            .unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Self(Arc::new(Inner {
            server: url,
            client,
            port: listener.local_addr().unwrap().port(),
            counted: Mutex::default(),
        }));
        let router = axum::Router::new().fallback(pass).with_state(proxy.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        proxy
    }

    /// Path of a kubeconfig that leads here, with the controller's own permissions.
    pub fn kubeconfig(&self, server: &ApiServer) -> PathBuf {
        server.controllers_kubeconfig_at(&format!("http://127.0.0.1:{}", self.0.port))
    }

    fn counted(&self) -> MutexGuard<'_, Counted> {
        self.0.counted.lock().unwrap()
    }

    /// From now on calls are counted anew; at this one nothing more is passed on.
    pub fn hold_at(&self, number: usize, when: When) {
        let mut counted = self.counted();
        counted.calls.clear();
        counted.at = Some((number, when));
    }

    /// The call at which it holds, once that was reached.
    pub fn reached(&self) -> Option<String> {
        self.counted().reached.clone()
    }

    /// All that comes from now on is passed on.
    pub fn release(&self) {
        let mut counted = self.counted();
        (counted.at, counted.held) = (None, false);
    }

    /// How many calls there were since the mark.
    pub fn calls(&self) -> usize {
        self.counted().calls.len()
    }

    /// Names of the Jobs that were made, however often.
    pub fn jobs(&self) -> Vec<String> {
        self.counted().jobs.clone()
    }

    /// Counts a call; true where it is the one, to be held after it was carried out.
    async fn count(&self, call: &str) -> bool {
        let last = {
            let mut counted = self.counted();
            counted.calls.push(call.to_owned());
            match counted.at {
                _ if counted.held => None,
                Some((number, when)) if number == counted.calls.len() => match when {
                    When::Before => {
                        counted.held = true;
                        counted.reached = Some(call.to_owned());
                        None
                    }
                    When::After => Some(true),
                },
                _ => Some(false),
            }
        };
        match last {
            Some(last) => last,
            // Until its connection ends with the process that made it.
            None => std::future::pending().await,
        }
    }
}

async fn pass(State(proxy): State<Proxy>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let is_watch = parts.uri.query().is_some_and(|q| q.contains("watch=true"));
    let call = format!("{} {}", parts.method, shape(parts.uri.path()));
    // The Lease is asked for by the clock, and not for what is done.
    let is_lease = parts.uri.path().contains("/leases/");
    let last = !is_watch && !is_lease && proxy.count(&call).await;
    let body = to_bytes(body, usize::MAX).await.unwrap();
    // What has been sent is carried out and noted, also where its caller is killed before it hears the answer.
    let carried_out = tokio::spawn(carry_out(
        proxy.clone(),
        call.clone(),
        parts,
        body,
        is_watch,
    ));
    let answer = carried_out.await.unwrap();
    if last {
        {
            let mut counted = proxy.counted();
            counted.held = true;
            counted.reached = Some(call);
        }
        return std::future::pending().await;
    }
    answer
}

/// Asks the API server, and notes the Jobs that it makes.
async fn carry_out(
    proxy: Proxy,
    call: String,
    parts: Parts,
    body: Bytes,
    is_watch: bool,
) -> Response {
    let url = format!("{}{}", proxy.0.server, parts.uri);
    let mut headers = parts.headers;
    headers.remove(http::header::HOST);
    let asked = proxy.0.client.request(parts.method, url);
    let answer = match asked.headers(headers).body(body).send().await {
        Ok(answer) => answer,
        Err(error) => {
            let body = Body::from(error.to_string());
            return Response::builder().status(502).body(body).unwrap();
        }
    };
    let answer = http::Response::from(answer);
    if is_watch {
        return answer.map(Body::new);
    }
    let (mut parts, body) = answer.into_parts();
    // It is whole from here on, and its length is told.
    parts.headers.remove(http::header::TRANSFER_ENCODING);
    let body = to_bytes(Body::new(body), usize::MAX).await.unwrap();
    if call.starts_with("POST ") && call.ends_with("/jobs") && parts.status == 201 {
        let job: Value = serde_json::from_slice(&body).unwrap();
        let name = job["metadata"]["name"].as_str().unwrap().to_owned();
        proxy.counted().jobs.push(name);
    }
    Response::from_parts(parts, Body::from(body))
}

/// A path without names: `/apis/batch/v1/…/jobs/*`.
fn shape(path: &str) -> String {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let (group, rest) = parts.split_at(if parts[0] == "api" { 2 } else { 3 }.min(parts.len()));
    let rest = match rest {
        ["namespaces", _, kind, rest @ ..] => [&[*kind], rest].concat(),
        other => other.to_vec(),
    };
    let rest = rest.iter().enumerate();
    let rest = rest.map(|(at, part)| if at == 1 { "*" } else { part });
    let group = group.iter().skip(1).filter(|part| !part.is_empty());
    group.copied().chain(rest).collect::<Vec<_>>().join("/")
}
