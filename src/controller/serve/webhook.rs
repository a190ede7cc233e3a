//! Webhooks: servers of sources post here that something was pushed. That means "look now" and nothing more: what is built is
//! what the watcher sees. So a forged one, or one that is sent again, costs a look.
//!
//! Plain HTTP: an Ingress or a Gateway before it has the certificate.

use std::collections::HashMap;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use futures::StreamExt;
use ring::hmac;
use serde_json::Value;
use tokio::net::TcpListener;

use super::metrics::Metrics;
use crate::cluster::credentials::Credentials;
use crate::watcher::Sources;
use crate::watches::Listed;
use whittle_api::GitRef;
use whittle_watch::wire::What;

/// Bytes of a body that are looked into for the branch: where it is larger, the source is looked at whatever was pushed.
const READ: usize = 256 * 1024;
/// Bytes of a body in all.
const MOST: usize = 5 * 1024 * 1024;
/// How long a body may take to come.
const WITHIN: Duration = Duration::from_secs(10);
/// Webhooks within a second: of one path, and in all.
const OF_A_PATH: u32 = 5;
const IN_ALL: u32 = 100;
/// Paths whose webhooks are counted.
const COUNTED: usize = 10_000;
/// Bytes of the file with the secret that are read.
const SECRET: u64 = 4096;

/// What webhooks are held to, and whom they tell.
#[derive(Clone)]
pub struct Hooks {
    sources: Sources,
    credentials: Credentials,
    metrics: Metrics,
    /// File with the secret that senders sign with; none where they need not.
    secret: Option<PathBuf>,
    /// Until ImageBuilds are listed nobody knows which path is whose.
    listed: Listed,
    counted: Arc<Mutex<Counted>>,
}

#[derive(Default)]
struct Counted {
    since: Option<Instant>,
    in_all: u32,
    by_path: HashMap<String, u32>,
}

impl Counted {
    /// True where one more of this path is heard.
    fn hears(&mut self, path: &str, now: Instant) -> bool {
        let fresh = self
            .since
            .is_some_and(|since| now.duration_since(since) < Duration::from_secs(1));
        if !fresh {
            *self = Self {
                since: Some(now),
                ..Self::default()
            };
        }
        if self.by_path.len() >= COUNTED {
            return false;
        }
        let of_path = self.by_path.entry(path.to_owned()).or_default();
        *of_path += 1;
        if *of_path > OF_A_PATH {
            // It takes nothing from other paths.
            return false;
        }
        self.in_all += 1;
        self.in_all <= IN_ALL
    }
}

impl Hooks {
    /// `secret`: path of the file with what senders sign with, where they have to.
    pub fn new(
        sources: Sources,
        credentials: Credentials,
        metrics: Metrics,
        (secret, listed): (Option<PathBuf>, Listed),
    ) -> Self {
        Self {
            sources,
            credentials,
            metrics,
            secret,
            listed,
            counted: Arc::default(),
        }
    }
}

/// Serves webhooks until the task is dropped.
pub async fn serve_webhooks(listener: &TcpListener, hooks: Hooks) -> Infallible {
    let app = Router::new()
        .route("/hooks/{namespace}/{uid}/{mac}", post(hook))
        .with_state(hooks);
    super::serve_plain(listener, app, "webhooks").await
}

async fn hook(
    State(hooks): State<Hooks>,
    Path((namespace, uid, mac)): Path<(String, String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let say =
        |status: StatusCode, words: &'static str| (status, format!("{words}\n")).into_response();
    if !hooks.credentials.is_webhook(&namespace, &uid, &mac) {
        hooks.metrics.refused("Webhook");
        return say(
            StatusCode::NOT_FOUND,
            "not found: the path stands in status.webhook.path of the ImageBuild",
        );
    }
    let hears = {
        let mut counted = hooks.counted.lock().unwrap_or_else(PoisonError::into_inner);
        counted.hears(&uid, Instant::now())
    };
    if hooks.listed.missing().contains(&"ImageBuild") {
        hooks.metrics.refused("WebhookEarly");
        let after = [(header::RETRY_AFTER, "5")];
        let words = "not ready: the controller has just started; retry";
        return (after, say(StatusCode::SERVICE_UNAVAILABLE, words)).into_response();
    }
    if !hears {
        hooks.metrics.refused("WebhookTooMany");
        // Whatever was pushed: nobody sends it again.
        if let Some((builder, id, _)) = hooks.sources.hooked(&namespace, &uid) {
            hooks.sources.want(&builder, &id);
        }
        let after = [(header::RETRY_AFTER, "1")];
        return (
            after,
            say(
                StatusCode::TOO_MANY_REQUESTS,
                "too many webhooks: the source is looked at within a second",
            ),
        )
            .into_response();
    }
    let key = match secret(&hooks).await {
        Ok(key) => key,
        Err(words) => return say(StatusCode::SERVICE_UNAVAILABLE, words),
    };
    let body = match tokio::time::timeout(WITHIN, read(body, key.as_ref())).await {
        Ok(Ok(body)) => body,
        Ok(Err(refused)) => {
            hooks.metrics.refused("WebhookBody");
            return say(
                refused,
                "payload too large or broken: at most 5 MiB are read",
            );
        }
        Err(_) => {
            return say(
                StatusCode::REQUEST_TIMEOUT,
                "timed out while reading the payload",
            );
        }
    };
    if let Some(key) = &key
        && !is_signed(&headers, key, &body)
    {
        hooks.metrics.refused("WebhookSignature");
        return say(
            StatusCode::UNAUTHORIZED,
            "denied: the signature is missing or does not match the secret of the installation",
        );
    }
    if let Some((builder, id, what)) = hooks.sources.hooked(&namespace, &uid) {
        let pushed = body.whole.as_deref().and_then(pushed);
        if concerns(&what, pushed.as_deref()) {
            hooks.sources.want(&builder, &id);
        }
    }
    say(StatusCode::ACCEPTED, "accepted")
}

/// The key that senders sign with: read each time, as it may be changed.
async fn secret(hooks: &Hooks) -> Result<Option<Key>, &'static str> {
    use tokio::io::AsyncReadExt;
    let Some(path) = &hooks.secret else {
        return Ok(None);
    };
    let mut text = vec![];
    let read = async {
        let file = tokio::fs::File::open(path).await?;
        file.take(SECRET).read_to_end(&mut text).await
    };
    let missing = "the secret of webhooks is missing: see webhooks.secret of the chart";
    if let Err(error) = read.await {
        tracing::warn!(%error, "cannot read the secret of webhooks");
        return Err(missing);
    }
    let text = text.trim_ascii();
    if text.is_empty() {
        return Err(missing);
    }
    Ok(Some(Key {
        text: text.to_vec(),
        key: hmac::Key::new(hmac::HMAC_SHA256, text),
    }))
}

struct Key {
    text: Vec<u8>,
    key: hmac::Key,
}

/// What was read of a body.
struct Read {
    /// All of it, where that is little.
    whole: Option<Vec<u8>>,
    /// Its HMAC-SHA256, where there is a key.
    tag: Option<hmac::Tag>,
}

async fn read(body: Body, key: Option<&Key>) -> Result<Read, StatusCode> {
    let mut signs = key.map(|key| hmac::Context::with_key(&key.key));
    let (mut kept, mut bytes) = (vec![], 0);
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk: Bytes = chunk.map_err(|_| StatusCode::BAD_REQUEST)?;
        bytes += chunk.len();
        if bytes > MOST {
            return Err(StatusCode::PAYLOAD_TOO_LARGE);
        }
        if let Some(signs) = &mut signs {
            signs.update(&chunk);
        }
        if bytes <= READ {
            kept.extend_from_slice(&chunk);
        }
    }
    Ok(Read {
        whole: (bytes <= READ).then_some(kept),
        tag: signs.map(hmac::Context::sign),
    })
}

/// True where the sender has shown that it knows the secret: GitHub, Gitea, Forgejo and Bitbucket sign the body; GitLab sends
/// the secret itself.
fn is_signed(headers: &HeaderMap, key: &Key, body: &Read) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let Some(tag) = &body.tag else { return false };
    let signature = text("x-hub-signature-256")
        .or_else(|| text("x-hub-signature"))
        .or_else(|| text("x-gitea-signature"))
        .or_else(|| text("x-forgejo-signature"));
    if let Some(signature) = signature {
        let hex = signature.strip_prefix("sha256=").unwrap_or(signature);
        let wanted: String = tag
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        return same(hex.to_ascii_lowercase().as_bytes(), wanted.as_bytes());
    }
    let token = headers.get("x-gitlab-token").map(|token| token.as_bytes());
    token.is_some_and(|token| same(token, &key.text))
}

/// Compares in a time that says nothing of where they differ.
fn same(a: &[u8], b: &[u8]) -> bool {
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"webhook");
    hmac::verify(&key, a, hmac::sign(&key, b).as_ref()).is_ok()
}

/// The whole name of the ref that a payload says was pushed; none where it does not say.
fn pushed(body: &[u8]) -> Option<String> {
    let payload: Value = serde_json::from_slice(body).ok()?;
    // GitHub, GitLab, Gitea, Forgejo.
    if let Some(name) = payload["ref"].as_str() {
        let name = match (name.starts_with("refs/"), payload["ref_type"].as_str()) {
            (true, _) => name.to_owned(),
            (false, Some("tag")) => format!("refs/tags/{name}"),
            (false, _) => format!("refs/heads/{name}"),
        };
        return Some(name);
    }
    // Bitbucket: of several changes all count.
    let changes = payload["push"]["changes"].as_array()?;
    let [change] = changes.as_slice() else {
        return None;
    };
    let new = &change["new"];
    let name = new["name"].as_str()?;
    match new["type"].as_str() {
        Some("branch") => Some(format!("refs/heads/{name}")),
        Some("tag") => Some(format!("refs/tags/{name}")),
        _ => None,
    }
}

/// True where a push to this ref may be of interest: the payload filters, and nothing else follows from it.
fn concerns(what: &What, pushed: Option<&str>) -> bool {
    let Some(pushed) = pushed else { return true };
    let What::Git { reference, .. } = what else {
        return true;
    };
    match reference {
        Some(GitRef {
            branch: Some(branch),
            ..
        }) => pushed == format!("refs/heads/{branch}"),
        Some(GitRef { tag: Some(tag), .. }) => pushed == format!("refs/tags/{tag}"),
        Some(GitRef {
            semver: Some(_), ..
        }) => pushed.starts_with("refs/tags/"),
        _ => true,
    }
}

#[cfg(test)]
#[path = "webhook_tests.rs"]
mod tests;
