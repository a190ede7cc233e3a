//! The way to the controller: mutual TLS, and a credential.

use std::path::Path;
use std::time::Duration;

use serde::de::DeserializeOwned;
use whittle_registry::callback::{Callback, answered};
use whittle_registry::causes;

use crate::files::{Places, mark};
use crate::wire::{Asked, HELD, TELL_PATH, Told, WAIT_PATH, Wanted};

/// How long the controller may take to write what follows.
const TELL_WITHIN: Duration = Duration::from_secs(30);
/// How much longer than the controller holds an answer one may take: then the connection is dead.
const LATE: Duration = Duration::from_secs(10);
/// The most that is read of an answer, in bytes: a list as a ConfigMap holds it, with each quote of it escaped.
const LIMIT: usize = 4 << 20;

/// The controller, as it is known now.
#[derive(Clone)]
pub(crate) struct Controller(Callback);

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
        Callback::new(tls, token, Duration::from_secs(5)).map(Self)
    }

    /// Tells what has been seen; fine once the controller has written what follows from it.
    pub(crate) async fn tell(&self, callback: &str, told: &Told) -> Result<(), String> {
        let url = url(callback, TELL_PATH);
        let request = self.0.post(&url, TELL_WITHIN).json(told);
        send(request, &url).await.map(drop)
    }

    /// Waits for what the controller wants to be looked at, and for another list.
    pub(crate) async fn wait(&self, callback: &str, asked: &Asked) -> Result<Wanted, String> {
        let url = url(callback, WAIT_PATH);
        let request = self.0.post(&url, HELD + LATE).json(asked);
        let response = send(request, &url).await?;
        json(response)
            .await
            .map_err(|error| format!("{url}: {error}"))
    }
}

async fn send(request: reqwest::RequestBuilder, url: &str) -> Result<reqwest::Response, String> {
    let response = request.send().await.map_err(|error| causes(&error))?;
    match response.status() {
        status if status.is_success() => Ok(response),
        status => Err(format!("{url} answered {status}")),
    }
}

fn url(callback: &str, path: &str) -> String {
    format!("{}{path}", callback.trim_end_matches('/'))
}

async fn json<T: DeserializeOwned>(response: reqwest::Response) -> Result<T, String> {
    let bytes = answered(response, LIMIT).await?;
    serde_json::from_slice(&bytes).map_err(|error| format!("the answer is invalid: {error}"))
}
