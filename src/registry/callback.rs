//! A client of the controller: runners and watchers reach it over mutual TLS, with a credential of their own.

use std::fs;
use std::path::Path;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{RequestBuilder, Response};

use crate::causes;

/// Certificate, key and the controller's authority, in their directory.
const FILES: [&str; 3] = ["tls.crt", "tls.key", "ca.crt"];
/// The most that is read of a file, in bytes.
const FILE: u64 = 1 << 20;

/// A connection to the controller, as long as certificate and credential are what they are.
#[derive(Clone, Debug)]
pub struct Callback {
    client: reqwest::Client,
    credential: HeaderValue,
}

impl Callback {
    /// Known by what is in the directory `tls`, and by the credential in the file `credential`; `connect`: how long a connection may take.
    ///
    /// # Errors
    /// A file cannot be read, or is not what it should be.
    pub fn new(tls: &Path, credential: &Path, connect: Duration) -> Result<Self, String> {
        let [certificate, key, authority] = FILES.map(|name| read(&tls.join(name), name));
        let said = |error: reqwest::Error| causes(&error);
        let mut identity = certificate?;
        identity.push(b'\n');
        identity.extend(key?);
        let roots = reqwest::Certificate::from_pem_bundle(&authority?).map_err(said)?;
        let credential = read(credential, "the credential")?;
        let text = String::from_utf8_lossy(&credential);
        let mut credential = HeaderValue::from_str(&format!("Bearer {}", text.trim()))
            .map_err(|_| "the credential is invalid".to_owned())?;
        // Never printed, whatever prints a request.
        credential.set_sensitive(true);
        let client = reqwest::Client::builder()
            .tls_certs_only(roots)
            .identity(reqwest::Identity::from_pem(&identity).map_err(said)?)
            .https_only(true)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(connect)
            // The controller closes what is idle for ten.
            .pool_idle_timeout(Duration::from_secs(5))
            .build()
            .map_err(said)?;
        Ok(Self { client, credential })
    }

    /// A POST to this URL, whose answer may take so long.
    pub fn post(&self, url: &str, answer: Duration) -> RequestBuilder {
        let credential = self.credential.clone();
        let request = self.client.post(url).timeout(answer);
        request.header(AUTHORIZATION, credential)
    }
}

/// The body of an answer.
///
/// # Errors
/// It did not come whole, or has more than `limit` bytes.
pub async fn answered(response: Response, limit: usize) -> Result<Vec<u8>, String> {
    match body(response, limit).await {
        Ok((bytes, true)) => Ok(bytes),
        Ok((_, false)) => Err(format!("the answer is too large: more than {limit} bytes")),
        Err(error) => Err(causes(&error)),
    }
}

/// Up to `limit` bytes of a body, and whether these are all.
pub(super) async fn body(
    mut response: Response,
    limit: usize,
) -> Result<(Vec<u8>, bool), reqwest::Error> {
    let mut bytes = vec![];
    while let Some(chunk) = response.chunk().await? {
        if bytes.len() + chunk.len() > limit {
            return Ok((bytes, false));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok((bytes, true))
}

fn read(path: &Path, name: &str) -> Result<Vec<u8>, String> {
    let said = |error| format!("{name} cannot be read: {error}");
    match fs::metadata(path).map_err(said)?.len() {
        0..=FILE => fs::read(path).map_err(said),
        _ => Err(format!("{name} is too large: more than {FILE} bytes")),
    }
}
