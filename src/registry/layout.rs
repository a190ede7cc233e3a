//! A folder with an OCI layout in the place of a repository
//! (<https://github.com/opencontainers/image-spec/blob/v1.1.1/image-layout.md>): what a client asks is answered from there,
//! so that an image that is nowhere pushed is read and judged by the code that reads pushed ones.

use std::fs;
use std::io::{self, SeekFrom};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures::stream;
use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE, HeaderName, RANGE};
use reqwest::{Body, Method, Response, ResponseBuilderExt, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use super::client::Ask;
use whittle_image::{Descriptor, Hasher, IndexDocument, OCI_INDEX, digest_of, media_type};

/// The layout's list of images.
const INDEX: &str = "index.json";
/// A tag, in that list.
const TAG: &str = "org.opencontainers.image.ref.name";
/// The whole name, as containerd and Docker read it.
const NAME: &str = "io.containerd.image.name";
/// The most that the list may have, in bytes.
const LIMIT: u64 = 4 << 20;
/// How much of a blob is read at once.
const CHUNK: usize = 64 << 10;

/// The folder.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    folder: PathBuf,
    /// The repository that tags are entered with.
    image: String,
}

impl Layout {
    pub(super) fn new(folder: PathBuf, image: String) -> Self {
        Self { folder, image }
    }

    /// Answers as a registry would.
    pub(super) async fn answer(&self, ask: &Ask<'_>) -> io::Result<Response> {
        let mut parts = ask.url.path().rsplit('/');
        let reference = parts.next().unwrap_or_default();
        let kind = parts.next().unwrap_or_default();
        match (kind, &ask.method) {
            ("manifests", &Method::GET | &Method::HEAD) => self.manifest(ask, reference).await,
            ("manifests", &Method::PUT) if !reference.contains(':') => {
                self.tag(reference, ask.body)?;
                respond(ask, StatusCode::CREATED, &[], Body::default())
            }
            ("blobs", &Method::GET) => self.blob(ask, reference).await,
            ("referrers", &Method::GET) => not_found(ask),
            _ => respond(ask, StatusCode::METHOD_NOT_ALLOWED, &[], Body::default()),
        }
    }

    async fn manifest(&self, ask: &Ask<'_>, reference: &str) -> io::Result<Response> {
        let digest = match reference.contains(':') {
            true => Some(reference.to_owned()),
            false => self
                .index()?
                .manifests
                .into_iter()
                .find(|it| is_tag(it, reference))
                .map(|it| it.digest),
        };
        let path = digest.as_deref().and_then(|digest| self.path(digest));
        let Some(path) = path.filter(|path| path.is_file()) else {
            return not_found(ask);
        };
        let bytes = tokio::fs::read(path).await?;
        let digest = digest.unwrap_or_default();
        let headers = [(HeaderName::from_static("docker-content-digest"), digest)];
        let body = match ask.method {
            Method::HEAD => Body::default(),
            _ => bytes.into(),
        };
        respond(ask, StatusCode::OK, &headers, body)
    }

    async fn blob(&self, ask: &Ask<'_>, digest: &str) -> io::Result<Response> {
        let Some(path) = self.path(digest).filter(|path| path.is_file()) else {
            return not_found(ask);
        };
        let mut file = tokio::fs::File::open(path).await?;
        let from = (ask.headers.iter())
            .find(|(name, _)| *name == RANGE)
            .and_then(|(_, range)| {
                range
                    .strip_prefix("bytes=")?
                    .strip_suffix('-')?
                    .parse::<u64>()
                    .ok()
            });
        let (status, headers) = match from {
            Some(from) => {
                file.seek(SeekFrom::Start(from)).await?;
                let size = file.metadata().await?.len();
                let range = format!("bytes {from}-{}/{size}", size.saturating_sub(1));
                (StatusCode::PARTIAL_CONTENT, vec![(CONTENT_RANGE, range)])
            }
            None => (StatusCode::OK, vec![]),
        };
        let chunks = stream::try_unfold(file, async |mut file| {
            let mut chunk = vec![0; CHUNK];
            let read = file.read(&mut chunk).await?;
            chunk.truncate(read);
            Ok::<_, io::Error>((read > 0).then(|| (Bytes::from(chunk), file)))
        });
        respond(ask, status, &headers, Body::wrap_stream(chunks))
    }

    /// Enters a tag of what is there already.
    fn tag(&self, tag: &str, manifest: &[u8]) -> io::Result<()> {
        let mut index = self.index()?;
        index.manifests.retain(|it| !is_tag(it, tag));
        index.manifests.push(Descriptor {
            media_type: media_type(manifest).map_err(io::Error::other)?,
            digest: digest_of(manifest),
            size: manifest.len() as u64,
            annotations: [
                (TAG.to_owned(), tag.to_owned()),
                (NAME.to_owned(), format!("{}:{tag}", self.image)),
            ]
            .into(),
            ..Descriptor::default()
        });
        write(&self.folder, &index)
    }

    fn index(&self) -> io::Result<IndexDocument> {
        read(&self.folder)
    }

    /// Where a blob is; none for what is not a digest, which could lead anywhere.
    fn path(&self, digest: &str) -> Option<PathBuf> {
        let (algorithm, hex) = digest.split_once(':')?;
        Hasher::of(digest)?;
        let plain =
            |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric());
        (plain(algorithm) && plain(hex))
            .then(|| self.folder.join("blobs").join(algorithm).join(hex))
    }
}

/// The list of a layout's images; an empty one where it has none yet.
fn read(folder: &Path) -> io::Result<IndexDocument> {
    let path = folder.join(INDEX);
    match fs::metadata(&path) {
        Ok(found) if found.len() > LIMIT => {
            return Err(io::Error::other(format!("{} is too large", path.display())));
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(IndexDocument::default());
        }
        Err(error) => return Err(error),
    }
    IndexDocument::parse(&fs::read(&path)?).map_err(io::Error::other)
}

fn write(folder: &Path, index: &IndexDocument) -> io::Result<()> {
    let index = IndexDocument {
        schema_version: 2,
        media_type: OCI_INDEX.into(),
        ..index.clone()
    };
    let part = folder.join("index.json.part");
    fs::write(&part, serde_json::to_vec(&index)?)?;
    fs::rename(part, folder.join(INDEX))
}

/// The images of a layout that have a tag, as [`Client::in_layout`](super::Client::in_layout) has entered them: tag and digest.
///
/// # Errors
/// Where the list cannot be read.
pub fn tagged(folder: &Path) -> io::Result<Vec<(String, String)>> {
    let tagged = read(folder)?.manifests.into_iter();
    Ok(tagged
        .filter(is_ours)
        .filter_map(|mut it| Some((it.annotations.remove(TAG)?, it.digest)))
        .collect())
}

/// Takes the tagged images of the list in `from` into that in `to`, where they take the place of others of the same tag;
/// what has no tag stays out.
///
/// # Errors
/// Where one cannot be read, or the other not be written.
pub fn merge(from: &Path, to: &Path) -> io::Result<()> {
    let new: Vec<Descriptor> = (read(from)?.manifests.into_iter())
        .filter(is_ours)
        .collect();
    let mut index = read(to)?;
    index.manifests.retain(|old| {
        let same = |it: &&Descriptor| it.annotations.get(TAG) == old.annotations.get(TAG);
        !new.iter().any(|it| same(&it))
    });
    index.manifests.extend(new);
    write(to, &index)?;
    fs::write(
        to.join("oci-layout"),
        json!({"imageLayoutVersion": "1.0.0"}).to_string(),
    )
}

/// True for what a client has entered: buildctl enters what it has written as `latest`, whatever its tags are.
fn is_ours(descriptor: &Descriptor) -> bool {
    descriptor.annotations.contains_key(NAME)
}

fn is_tag(descriptor: &Descriptor, tag: &str) -> bool {
    descriptor.annotations.get(TAG).map(String::as_str) == Some(tag)
}

fn not_found(ask: &Ask<'_>) -> io::Result<Response> {
    let body: Value = json!({"errors": [{"code": "NOT_FOUND", "message": "not in the layout"}]});
    let headers = [(CONTENT_TYPE, "application/json".to_owned())];
    respond(
        ask,
        StatusCode::NOT_FOUND,
        &headers,
        body.to_string().into(),
    )
}

fn respond(
    ask: &Ask<'_>,
    status: StatusCode,
    headers: &[(HeaderName, String)],
    body: Body,
) -> io::Result<Response> {
    let mut response = http::Response::builder()
        .status(status)
        .url(ask.url.clone());
    for (name, value) in headers {
        response = response.header(name, value);
    }
    Ok(response.body(body).map_err(io::Error::other)?.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Access, Client, Patience, RegistryError, Settings};
    use whittle_image::Repository;

    const MANIFEST: &[u8] = br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:aa","size":2},"layers":[]}"#;

    fn client(folder: &Path) -> Client {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let settings = Settings {
            plain_http: true,
            ca: None,
            credentials: None,
            patience: Patience::USUAL,
            access: Access::PullPush,
        };
        let repository = Repository::parse("r.example/team/x");
        Client::new(repository, settings)
            .unwrap()
            .in_layout(folder.to_owned(), "r.example/team/x".into())
    }

    fn keep(folder: &Path, bytes: &[u8]) -> String {
        let digest = digest_of(bytes);
        let blobs = folder.join("blobs/sha256");
        fs::create_dir_all(&blobs).unwrap();
        fs::write(blobs.join(digest.strip_prefix("sha256:").unwrap()), bytes).unwrap();
        digest
    }

    #[tokio::test]
    async fn a_client_reads_what_the_folder_has_and_enters_tags() {
        let folder = tempfile::tempdir().unwrap();
        let client = client(folder.path());
        let digest = keep(folder.path(), MANIFEST);
        assert_eq!(client.manifest(&digest).await.unwrap(), MANIFEST);
        assert!(matches!(
            client.digest("one").await,
            Err(RegistryError::NotFound(_))
        ));
        for _ in 0..2 {
            client.put_manifest("one", "", MANIFEST).await.unwrap();
        }
        assert_eq!(client.digest("one").await.unwrap(), digest);
        assert_eq!(tagged(folder.path()).unwrap(), [("one".to_owned(), digest)]);
        let large = vec![7; 3 * CHUNK + 1];
        let digest = keep(folder.path(), &large);
        assert!(client.blob(&digest, 1 << 20).await.unwrap() == large);
        assert!(client.blob(&digest, 1000).await.is_err(), "over the limit");
    }

    #[tokio::test]
    async fn what_is_not_there_or_no_digest_is_not_found() {
        let folder = tempfile::tempdir().unwrap();
        let client = client(folder.path());
        fs::write(folder.path().join("secret"), "x").unwrap();
        let none = format!("sha256:{}", "0".repeat(64));
        for digest in [none.as_str(), "sha256:..", "sha256:a%2f..%2f..%2fsecret"] {
            let found = client.manifest(digest).await;
            assert!(
                matches!(found, Err(RegistryError::NotFound(_))),
                "{digest}: {found:?}"
            );
        }
    }

    #[test]
    fn tags_of_one_layout_take_the_place_of_the_same_in_another() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let layout = |folder: &Path| Layout::new(folder.to_owned(), "r.example/x".into());
        let mut untagged = IndexDocument::default();
        untagged.manifests.push(Descriptor {
            digest: digest_of(MANIFEST),
            annotations: [(TAG.to_owned(), "latest".to_owned())].into(),
            ..Descriptor::default()
        });
        write(from.path(), &untagged).unwrap();
        layout(to.path())
            .tag("one", b"{\"schemaVersion\":2,\"manifests\":[]}")
            .unwrap();
        layout(to.path()).tag("two", MANIFEST).unwrap();
        layout(from.path()).tag("one", MANIFEST).unwrap();
        merge(from.path(), to.path()).unwrap();
        let digest = digest_of(MANIFEST);
        let found = tagged(to.path()).unwrap();
        assert_eq!(
            found,
            [
                ("two".to_owned(), digest.clone()),
                ("one".to_owned(), digest)
            ]
        );
        assert_eq!(read(to.path()).unwrap().manifests.len(), 2);
        assert!(to.path().join("oci-layout").is_file());
    }
}
