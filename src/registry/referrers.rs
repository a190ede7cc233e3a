//! Artifacts that refer to an image: pushed and found beside it
//! (<https://github.com/opencontainers/distribution-spec/blob/main/spec.md#listing-referrers>).

use oci_spec::OciSpecError;
use oci_spec::image::{
    Descriptor, DescriptorBuilder, Digest, ImageIndex, ImageIndexBuilder, ImageManifest,
    ImageManifestBuilder, MediaType,
};
use reqwest::Method;
use reqwest::header::{ACCEPT, CONTENT_TYPE, LOCATION};

use super::client::{Ask, body};
use super::{Client, RegistryError};
use crate::image::{OCI_INDEX, OCI_MANIFEST, digest_of, media_type, verify};

/// The config of an artifact that has none
/// (<https://github.com/opencontainers/image-spec/blob/main/manifest.md#guidance-for-an-empty-descriptor>).
const EMPTY: &[u8] = b"{}";
/// The largest list of referrers that is read.
const LIST_LIMIT: usize = 4 * 1024 * 1024;

/// Pushes `bytes` as an artifact that refers to the image of this manifest, and returns the artifact's
/// digest. Where the registry keeps no list of referrers, the list is a tag, as the specification wants it.
pub async fn attach(
    client: &Client,
    manifest: &[u8],
    artifact_type: &str,
    bytes: &[u8],
) -> Result<String, RegistryError> {
    let subject = media_type(manifest).map_err(other)?;
    let subject = descriptor(subject.as_str().into(), manifest)?;
    put_blob(client, EMPTY).await?;
    put_blob(client, bytes).await?;
    let artifact = ImageManifestBuilder::default()
        .schema_version(2_u32)
        .media_type(MediaType::ImageManifest)
        .artifact_type(MediaType::from(artifact_type))
        .config(descriptor(MediaType::EmptyJSON, EMPTY)?)
        .layers(vec![descriptor(MediaType::from(artifact_type), bytes)?])
        .subject(subject.clone())
        .build()
        .and_then(|artifact| artifact.to_string())
        .map_err(spec)?
        .into_bytes();
    let digest = digest_of(&artifact);
    let listed = client
        .put_manifest(&digest, OCI_MANIFEST, &artifact)
        .await?;
    if !listed {
        let mut entry = descriptor(MediaType::ImageManifest, &artifact)?;
        entry.set_artifact_type(Some(MediaType::from(artifact_type)));
        list(client, subject.digest(), entry).await?;
    }
    Ok(digest)
}

/// The bytes of the first artifact of this type that refers to the image with this digest.
pub async fn attached(
    client: &Client,
    digest: &str,
    artifact_type: &str,
    limit: u64,
) -> Result<Option<Vec<u8>>, RegistryError> {
    let Some(found) = referrers(client, digest)
        .await?
        .into_iter()
        .find(|entry| kind(entry).is_some_and(|kind| kind == artifact_type))
    else {
        return Ok(None);
    };
    let reference = found.digest().to_string();
    let manifest = client.manifest(&reference).await?;
    verify(&manifest, &reference).map_err(other)?;
    let artifact: ImageManifest = serde_json::from_slice(&manifest).map_err(other)?;
    let Some(layer) = artifact.layers().first() else {
        return Ok(None);
    };
    let bytes = client.blob(layer.digest().as_ref(), limit).await?;
    Ok(Some(bytes))
}

fn kind(entry: &Descriptor) -> Option<String> {
    entry.artifact_type().as_ref().map(ToString::to_string)
}

/// All artifacts that refer to the image with this digest.
async fn referrers(client: &Client, digest: &str) -> Result<Vec<Descriptor>, RegistryError> {
    let what = format!("referrers of {digest}");
    let listed = client
        .settings
        .patience
        .retry(async || {
            let ask = Ask {
                method: Method::GET,
                url: client.url("referrers", digest)?,
                headers: vec![(ACCEPT, OCI_INDEX.to_owned())],
                body: &[],
            };
            let response = client.ask(&ask, &what).await?;
            Ok(body(response, LIST_LIMIT).await?.0)
        })
        .await;
    let bytes = match listed {
        Ok(bytes) => bytes,
        // A registry without such lists answers so; some do not know the path at all.
        Err(RegistryError::NotFound(_) | RegistryError::Other(_)) => {
            match client.manifest(&tag(digest)).await {
                Ok(bytes) => bytes,
                Err(RegistryError::NotFound(_)) => return Ok(vec![]),
                Err(error) => return Err(error),
            }
        }
        Err(error) => return Err(error),
    };
    let index: ImageIndex = serde_json::from_slice(&bytes).map_err(other)?;
    Ok(index.manifests().clone())
}

/// The tag of the list, where the registry keeps none: `sha256-…`.
fn tag(digest: &str) -> String {
    digest.replacen(':', "-", 1)
}

/// Enters an artifact into the list under the tag. An entry of the same type is replaced.
async fn list(client: &Client, subject: &Digest, entry: Descriptor) -> Result<(), RegistryError> {
    let tag = tag(subject.as_ref());
    let mut entries = match client.manifest(&tag).await {
        Ok(bytes) => serde_json::from_slice::<ImageIndex>(&bytes)
            .map_err(other)?
            .manifests()
            .clone(),
        Err(RegistryError::NotFound(_)) => vec![],
        Err(error) => return Err(error),
    };
    if entries.contains(&entry) {
        return Ok(());
    }
    entries.retain(|old| kind(old) != kind(&entry));
    entries.push(entry);
    let index = ImageIndexBuilder::default()
        .schema_version(2_u32)
        .media_type(MediaType::ImageIndex)
        .manifests(entries)
        .build()
        .and_then(|index| index.to_string())
        .map_err(spec)?;
    client
        .put_manifest(&tag, OCI_INDEX, index.as_bytes())
        .await
        .map(drop)
}

/// Pushes a blob, unless it is there
/// (<https://github.com/opencontainers/distribution-spec/blob/main/spec.md#post-then-put>).
async fn put_blob(client: &Client, bytes: &[u8]) -> Result<(), RegistryError> {
    let digest = digest_of(bytes);
    let what = format!("blob {digest} of {}", client.repository.path);
    let ask = |method, url, bytes| Ask {
        method,
        url,
        headers: vec![(CONTENT_TYPE, "application/octet-stream".to_owned())],
        body: bytes,
    };
    client
        .settings
        .patience
        .retry(async || {
            let head = ask(Method::HEAD, client.url("blobs", &digest)?, &[][..]);
            match client.ask(&head, &what).await {
                Ok(_) => return Ok(()),
                Err(RegistryError::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
            let begin = ask(Method::POST, client.url("blobs", "uploads/")?, &[][..]);
            let response = client.ask(&begin, &what).await?;
            let location = response
                .headers()
                .get(LOCATION)
                .and_then(|value| value.to_str().ok())
                .and_then(|value| response.url().join(value).ok())
                .ok_or_else(|| {
                    RegistryError::Other(format!("{what}: the registry names no place to put it"))
                })?;
            let mut location = location;
            location.query_pairs_mut().append_pair("digest", &digest);
            client
                .ask(&ask(Method::PUT, location, bytes), &what)
                .await
                .map(drop)
        })
        .await
}

fn descriptor(media_type: MediaType, bytes: &[u8]) -> Result<Descriptor, RegistryError> {
    let digest: Digest = digest_of(bytes).parse().map_err(spec)?;
    DescriptorBuilder::default()
        .media_type(media_type)
        .digest(digest)
        .size(bytes.len() as u64)
        .build()
        .map_err(spec)
}

fn spec(error: OciSpecError) -> RegistryError {
    RegistryError::Other(format!("an artifact cannot be written: {error}"))
}

fn other(error: impl std::error::Error) -> RegistryError {
    RegistryError::Other(error.to_string())
}

#[cfg(test)]
#[path = "referrers_tests.rs"]
mod tests;
