//! Blobs whose digest and size are known before they are pushed, and whose bytes are made as they are sent
//! (<https://github.com/opencontainers/distribution-spec/blob/main/spec.md#post-then-put>).

use std::io;

use bytes::Bytes;
use futures::stream::Stream;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE};
use reqwest::{Method, Url};
use whittle_image::digest_of;

use super::client::Ask;
use super::upload::location;
use super::{Client, RegistryError};

/// The type of a blob on its way.
const OCTETS: &str = "application/octet-stream";

impl Client {
    /// True where the repository has a blob.
    ///
    /// # Errors
    /// The registry denies it or is away. One that does not answer the question does not have the blob.
    pub async fn has_blob(&self, digest: &str) -> Result<bool, RegistryError> {
        let what = format!("blob {digest} of {}", self.repository.path);
        let retry = self.settings.patience;
        retry.retry(async || self.has(digest, &what).await).await
    }

    /// Asks once.
    async fn has(&self, digest: &str, what: &str) -> Result<bool, RegistryError> {
        let head = Ask {
            method: Method::HEAD,
            url: self.url("blobs", digest)?,
            headers: vec![],
            body: &[],
        };
        match self.ask(&head, what).await {
            Ok(_) => Ok(true),
            // Some let no HEAD through: a blob that is there is taken again.
            Err(RegistryError::NotFound(_) | RegistryError::Other(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// True where the repository has a manifest of this digest.
    ///
    /// # Errors
    /// As [`Self::has_blob`].
    pub async fn has_manifest(&self, digest: &str) -> Result<bool, RegistryError> {
        match self.digest(digest).await {
            Ok(found) => Ok(found == digest),
            Err(RegistryError::NotFound(_) | RegistryError::Other(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Pushes a small blob, unless it is there.
    ///
    /// # Errors
    /// The registry does not take it.
    pub async fn put_blob(&self, bytes: &[u8]) -> Result<(), RegistryError> {
        let digest = digest_of(bytes);
        let what = format!("blob {digest} of {}", self.repository.path);
        self.settings
            .patience
            .retry(async || {
                if self.has(&digest, &what).await? {
                    return Ok(());
                }
                let put = Ask {
                    method: Method::PUT,
                    url: self.begin(&digest, &what).await?,
                    headers: vec![(CONTENT_TYPE, OCTETS.to_owned())],
                    body: bytes,
                };
                self.ask(&put, &what).await.map(drop)
            })
            .await
    }

    /// Begins an upload: where the bytes of this digest go.
    async fn begin(&self, digest: &str, what: &str) -> Result<Url, RegistryError> {
        let begin = Ask {
            method: Method::POST,
            url: self.url("blobs", "uploads/")?,
            headers: vec![],
            body: &[],
        };
        let mut url = location(&self.ask(&begin, what).await?, what)?;
        url.query_pairs_mut().append_pair("digest", digest);
        Ok(url)
    }

    /// Pushes a blob of this digest and size; `make` makes its bytes, from the first on, for each try.
    ///
    /// # Errors
    /// The registry does not take it, or the bytes could not be made.
    pub async fn push_blob<S>(
        &self,
        digest: &str,
        size: u64,
        mut make: impl FnMut() -> S,
    ) -> Result<(), RegistryError>
    where
        S: Stream<Item = io::Result<Bytes>> + Send + 'static,
    {
        let what = format!("blob {digest} of {}", self.repository.path);
        self.settings
            .patience
            .retry(async || {
                let url = self.begin(digest, &what).await?;
                // With its length: some registries take no other way of sending.
                let headers = [
                    (CONTENT_TYPE, OCTETS.to_owned()),
                    (CONTENT_LENGTH, size.to_string()),
                ];
                let body = reqwest::Body::wrap_stream(make());
                self.send_once(Method::PUT, url, &headers, body, &what)
                    .await
                    .map(drop)
            })
            .await
    }
}

#[cfg(test)]
#[path = "push_tests.rs"]
mod tests;
