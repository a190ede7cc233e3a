//! The way to the controller: mutual TLS, and a credential.

use std::path::Path;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderValue};
use serde::de::DeserializeOwned;
use whittle_registry::causes;

use crate::files::{Places, mark, read};
use crate::wire::{Asked, HELD, TELL_PATH, Told, WAIT_PATH, Wanted};

/// How long the controller may take to write what follows.
const TELL_WITHIN: Duration = Duration::from_secs(30);
/// The most that is read of an answer, in bytes: a list as a ConfigMap holds it, with each quote of it escaped.
const LIMIT: usize = 4 << 20;

/// A connection to the controller, as long as certificate and credential are what they are.
#[derive(Clone)]
pub(crate) struct Controller {
    client: reqwest::Client,
    token: HeaderValue,
}

/// Keeps the connection, and makes it again where its files change.
#[derive(Default)]
pub(crate) struct Connection {
    mark: u64,
    made: Option<Controller>,
}

impl Connection {
    pub(crate) fn get(&mut self, places: &Places) -> Result<Controller, String> {
        let mark = mark(&places.tls) ^ mark(&places.token).rotate_left(1);
        if let Some(made) = &self.made
            && self.mark == mark
        {
            return Ok(made.clone());
        }
        let made = Controller::new(&places.tls, &places.token)?;
        (self.mark, self.made) = (mark, Some(made.clone()));
        Ok(made)
    }
}

impl Controller {
    fn new(tls: &Path, token: &Path) -> Result<Self, String> {
        let file = |name: &str| {
            read(&tls.join(name)).map_err(|error| format!("{name} cannot be read: {error}"))
        };
        let said = |error: reqwest::Error| causes(&error);
        let mut identity = file("tls.crt")?;
        identity.push(b'\n');
        identity.extend(file("tls.key")?);
        let roots = reqwest::Certificate::from_pem_bundle(&file("ca.crt")?).map_err(said)?;
        let token =
            read(token).map_err(|error| format!("the credential cannot be read: {error}"))?;
        let text = String::from_utf8_lossy(&token);
        let mut token = HeaderValue::from_str(&format!("Bearer {}", text.trim()))
            .map_err(|_| "the credential is invalid".to_owned())?;
        // Never printed, whatever prints a request.
        token.set_sensitive(true);
        let client = reqwest::Client::builder()
            .tls_certs_only(roots)
            .identity(reqwest::Identity::from_pem(&identity).map_err(said)?)
            .https_only(true)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(5))
            // The controller closes what is idle for ten.
            .pool_idle_timeout(Duration::from_secs(5))
            .build()
            .map_err(said)?;
        Ok(Self { client, token })
    }

    /// Tells what has been seen; fine once the controller has written what follows from it.
    pub(crate) async fn tell(&self, callback: &str, told: &Told) -> Result<(), String> {
        let url = url(callback, TELL_PATH);
        let request = self.client.post(&url).json(told).timeout(TELL_WITHIN);
        self.send(request, &url).await.map(drop)
    }

    /// Waits for what the controller wants to be looked at, and for another list.
    pub(crate) async fn wait(&self, callback: &str, asked: &Asked) -> Result<Wanted, String> {
        let url = url(callback, WAIT_PATH);
        let request = self
            .client
            .post(&url)
            .json(asked)
            .timeout(HELD + Duration::from_secs(10));
        let response = self.send(request, &url).await?;
        json(response)
            .await
            .map_err(|error| format!("{url}: {error}"))
    }

    async fn send(
        &self,
        request: reqwest::RequestBuilder,
        url: &str,
    ) -> Result<reqwest::Response, String> {
        let request = request.header(AUTHORIZATION, self.token.clone());
        let response = request.send().await.map_err(|error| causes(&error))?;
        match response.status() {
            status if status.is_success() => Ok(response),
            status => Err(format!("{url} answered {status}")),
        }
    }
}

fn url(callback: &str, path: &str) -> String {
    format!("{}{path}", callback.trim_end_matches('/'))
}

async fn json<T: DeserializeOwned>(mut response: reqwest::Response) -> Result<T, String> {
    let mut bytes = vec![];
    while let Some(chunk) = response.chunk().await.map_err(|error| causes(&error))? {
        if bytes.len() + chunk.len() > LIMIT {
            return Err("the answer is too large".into());
        }
        bytes.extend_from_slice(&chunk);
    }
    serde_json::from_slice(&bytes).map_err(|error| format!("the answer is invalid: {error}"))
}
