//! Blobs that are pushed while they are made: how long they are and what digest they have is known at their end alone
//! (<https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pushing-a-blob-in-chunks>).

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use reqwest::header::{CONTENT_TYPE, LOCATION};
use reqwest::{Method, Response, Url};
use tokio::sync::mpsc::Receiver;

use super::client::Ask;
use super::{Client, RegistryError};

/// What is held in memory before an upload begins. Most layers of a smaller image are less: they are pushed like any blob, and not
/// at all where the registry has them.
const HELD: usize = 8 << 20;

/// What has been handed to the registry, and has no digest yet.
pub(super) enum Uploaded {
    /// Nothing: the whole blob.
    Held(Vec<u8>),
    /// All of it: where the upload is to be ended.
    Sent(Url),
}

/// Takes a blob's bytes as they come.
pub(super) async fn upload(
    client: &Client,
    mut chunks: Receiver<Bytes>,
) -> Result<Uploaded, RegistryError> {
    let mut held = Vec::new();
    while held.len() < HELD {
        match chunks.recv().await {
            Some(chunk) => held.extend_from_slice(&chunk),
            None => return Ok(Uploaded::Held(held)),
        }
    }
    let what = format!("an upload to {}", client.repository.path);
    let begin = Ask {
        method: Method::POST,
        url: client.url("blobs", "uploads/")?,
        headers: vec![],
        body: &[],
    };
    let url = location(&client.ask(&begin, &what).await?, &what)?;
    let rest = stream::unfold(chunks, async |mut chunks| {
        Some((chunks.recv().await?, chunks))
    });
    let all = stream::iter([Bytes::from(held)]).chain(rest);
    let body = reqwest::Body::wrap_stream(all.map(Ok::<_, std::io::Error>));
    let headers = [(CONTENT_TYPE, "application/octet-stream".to_owned())];
    let response = client
        .send_once(Method::PATCH, url, &headers, body, &what)
        .await?;
    Ok(Uploaded::Sent(location(&response, &what)?))
}

/// Gives what was uploaded its digest: from then on the registry has the blob.
pub(super) async fn commit(
    client: &Client,
    uploaded: Uploaded,
    digest: &str,
) -> Result<(), RegistryError> {
    match uploaded {
        Uploaded::Held(bytes) => client.put_blob(&bytes).await,
        Uploaded::Sent(mut url) => {
            url.query_pairs_mut().append_pair("digest", digest);
            let what = format!("blob {digest} of {}", client.repository.path);
            let end = Ask {
                method: Method::PUT,
                url,
                headers: vec![],
                body: &[],
            };
            client.ask(&end, &what).await.map(drop)
        }
    }
}

/// Where an upload goes on.
pub(super) fn location(response: &Response, what: &str) -> Result<Url, RegistryError> {
    let value = response.headers().get(LOCATION);
    let url = value
        .and_then(|value| value.to_str().ok())
        .and_then(|value| response.url().join(value).ok())
        .ok_or_else(|| {
            RegistryError::Other(format!(
                "{what}: the registry's answer has no upload location"
            ))
        })?;
    // No credential goes to another server, nor to this one without TLS.
    if url.origin() != response.url().origin() {
        let asked = response.url().origin().ascii_serialization();
        return Err(RegistryError::Other(format!(
            "{what}: the registry's answer has an upload location on another server ({}, and {asked} was asked): \
             behind a proxy, set the registry's own address",
            url.origin().ascii_serialization()
        )));
    }
    Ok(url)
}
