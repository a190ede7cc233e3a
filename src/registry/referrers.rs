//! Artifacts that refer to an image: pushed and found beside it
//! (<https://github.com/opencontainers/distribution-spec/blob/main/spec.md#listing-referrers>).

use reqwest::Method;
use reqwest::header::ACCEPT;

use super::client::{Ask, body};
use super::{Client, RegistryError};
use whittle_image::{
    Descriptor, IndexDocument, ManifestDocument, OCI_INDEX, OCI_MANIFEST, digest_of, media_type,
    verify,
};

/// The config of an artifact that has none
/// (<https://github.com/opencontainers/image-spec/blob/main/manifest.md#guidance-for-an-empty-descriptor>).
pub const EMPTY: &[u8] = b"{}";
/// What it is.
pub const EMPTY_TYPE: &str = "application/vnd.oci.empty.v1+json";
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
    let subject = descriptor(&media_type(manifest).map_err(other)?, manifest);
    client.put_blob(EMPTY).await?;
    client.put_blob(bytes).await?;
    let artifact = ManifestDocument {
        schema_version: 2,
        media_type: OCI_MANIFEST.into(),
        artifact_type: artifact_type.into(),
        config: descriptor(EMPTY_TYPE, EMPTY),
        layers: vec![descriptor(artifact_type, bytes)],
        subject: Some(subject.clone()),
        ..ManifestDocument::default()
    };
    let artifact = serde_json::to_vec(&artifact).map_err(other)?;
    let digest = digest_of(&artifact);
    let listed = client
        .put_manifest(&digest, OCI_MANIFEST, &artifact)
        .await?;
    if !listed {
        let mut entry = descriptor(OCI_MANIFEST, &artifact);
        entry.artifact_type = artifact_type.into();
        list(client, &subject.digest, entry).await?;
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
        .find(|entry| entry.artifact_type == artifact_type)
    else {
        return Ok(None);
    };
    artifact(client, &found.digest, limit).await
}

/// The bytes of the artifact with this digest; none where it has none.
pub async fn artifact(
    client: &Client,
    digest: &str,
    limit: u64,
) -> Result<Option<Vec<u8>>, RegistryError> {
    let manifest = client.manifest(digest).await?;
    verify(&manifest, digest).map_err(other)?;
    let artifact = ManifestDocument::parse(&manifest).map_err(RegistryError::Other)?;
    let Some(layer) = artifact.layers.first() else {
        return Ok(None);
    };
    let bytes = client.blob(&layer.digest, limit).await?;
    Ok(Some(bytes))
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
    let index = IndexDocument::parse(&bytes).map_err(RegistryError::Other)?;
    Ok(index.manifests)
}

/// The tag of the list, where the registry keeps none: `sha256-…`.
fn tag(digest: &str) -> String {
    digest.replacen(':', "-", 1)
}

/// Enters an artifact into the list under the tag. An entry of the same type is replaced.
async fn list(client: &Client, subject: &str, entry: Descriptor) -> Result<(), RegistryError> {
    let tag = tag(subject);
    let mut entries = match client.manifest(&tag).await {
        Ok(bytes) => {
            IndexDocument::parse(&bytes)
                .map_err(RegistryError::Other)?
                .manifests
        }
        Err(RegistryError::NotFound(_)) => vec![],
        Err(error) => return Err(error),
    };
    if entries.contains(&entry) {
        return Ok(());
    }
    entries.retain(|old| old.artifact_type != entry.artifact_type);
    entries.push(entry);
    let index = IndexDocument {
        schema_version: 2,
        media_type: OCI_INDEX.into(),
        manifests: entries,
        ..IndexDocument::default()
    };
    let index = serde_json::to_vec(&index).map_err(other)?;
    client.put_manifest(&tag, OCI_INDEX, &index).await.map(drop)
}

fn descriptor(media_type: &str, bytes: &[u8]) -> Descriptor {
    Descriptor {
        media_type: media_type.into(),
        digest: digest_of(bytes),
        size: bytes.len() as u64,
        ..Descriptor::default()
    }
}

fn other(error: impl std::error::Error) -> RegistryError {
    RegistryError::Other(error.to_string())
}

#[cfg(test)]
#[path = "referrers_tests.rs"]
mod tests;
