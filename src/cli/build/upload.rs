//! A directory on its way into a registry: an OCI artifact by digest, of which only what is missing there is sent.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::stream::{self, StreamExt, TryStreamExt};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use whittle_build::request::SCRATCH_BYTES;
use whittle_build::runner::LAYER_LIMIT;
use whittle_image::{
    Descriptor, ManifestDocument, OCI_MANIFEST, Reference, Repository, digest_of, display_size,
};
use whittle_registry::{Access, EMPTY, EMPTY_TYPE, RegistryError};

use super::layers::split;
use super::pack::{Packed, measure, stream as bytes_of};
use super::walk::{Entry, Tree, unreadable};
use crate::cluster::Failed;
use crate::inspect::InspectError;
use crate::inspect::credentials::{files, look};
use crate::inspect::helper;
use crate::inspect::remote::{Connection, Remote};

/// What the artifact is.
const ARTIFACT: &str = "application/vnd.whittle.source.v1";
/// What its layers are.
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// Questions to the registry at a time.
const ASKED: usize = 8;
/// Layers that are sent at a time.
const SENT: usize = 3;
/// Layers that are packed at a time, at most.
const PACKED: usize = 8;

/// A directory that is packed.
pub(super) struct Source {
    folder: PathBuf,
    layers: Vec<Packed>,
    manifest: Vec<u8>,
    /// The digest of its artifact.
    pub(super) digest: String,
}

/// What was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sent {
    /// Bytes.
    pub(super) bytes: u64,
    /// Layers.
    pub(super) layers: usize,
}

/// Why a directory was not sent.
#[derive(Debug)]
pub(super) enum Unsent {
    /// No connection to the registry comes about from here.
    Unreachable(Failed),
    /// The registry has answered, or something in its place, and does not take it.
    Refused(Failed),
    /// It is due to the directory.
    Failed(Failed),
}

impl From<Unsent> for Failed {
    fn from(unsent: Unsent) -> Self {
        match unsent {
            Unsent::Unreachable(failed) | Unsent::Refused(failed) | Unsent::Failed(failed) => {
                failed
            }
        }
    }
}

/// Packs a directory, for its digests alone.
pub(super) async fn pack(folder: &Path, tree: &Tree) -> Result<Source, Failed> {
    let at_a_time = std::thread::available_parallelism().map_or(1, usize::from);
    let bar = bar("packing", tree.bytes());
    let layers: Vec<Packed> = stream::iter(split(&tree.entries))
        .map(|entries| {
            let (folder, bar) = (folder.to_owned(), bar.clone());
            async move {
                let bytes = entries.iter().map(Entry::size).sum();
                let packed = tokio::task::spawn_blocking(move || measure(&folder, entries));
                let packed = packed.await.expect("packing does not panic");
                bar.inc(bytes);
                packed.map_err(|it| unreadable(&it.path, &it.error))
            }
        })
        .buffered(at_a_time.min(PACKED))
        .try_collect()
        .await?;
    bar.finish_and_clear();
    let descriptor = |media_type: &str, digest: &str, size: u64| Descriptor {
        media_type: media_type.into(),
        digest: digest.into(),
        size,
        ..Descriptor::default()
    };
    let manifest = ManifestDocument {
        schema_version: 2,
        media_type: OCI_MANIFEST.into(),
        artifact_type: ARTIFACT.into(),
        config: descriptor(EMPTY_TYPE, &digest_of(EMPTY), EMPTY.len() as u64),
        layers: (layers.iter())
            .map(|layer| descriptor(LAYER, &layer.digest, layer.size))
            .collect(),
        ..ManifestDocument::default()
    };
    let manifest = serde_json::to_vec(&manifest)
        .map_err(|error| Failed::Refused(format!("internal error: {error}")))?;
    Ok(Source {
        folder: folder.to_owned(),
        digest: digest_of(&manifest),
        layers,
        manifest,
    })
}

impl Source {
    /// How many layers there are.
    pub(super) fn layers(&self) -> usize {
        self.layers.len()
    }

    /// Bytes of all layers, packed.
    pub(super) fn size(&self) -> u64 {
        self.layers.iter().map(|layer| layer.size).sum()
    }

    /// Nothing, or why a runner would not take it: a layer lies there packed while it is unpacked beside those before it.
    pub(super) fn fits(&self) -> Result<(), Failed> {
        let shown = |bytes: u64| display_size(bytes.try_into().unwrap_or(i64::MAX));
        let mut unpacked = 0_u64;
        for layer in &self.layers {
            unpacked = unpacked.saturating_add(layer.unpacked);
            let largest = layer.entries.iter().max_by_key(|entry| entry.size());
            let largest = largest.map(|entry| entry.path.display().to_string());
            let largest = largest.unwrap_or_default();
            if layer.size > LAYER_LIMIT {
                return Err(Failed::Use(format!(
                    "{largest} is too large: {} packed, and a source may have {} in one piece: leave it out with .dockerignore, and \
                     fetch it in the Dockerfile (ADD https://…), or split it",
                    shown(layer.size),
                    shown(LAYER_LIMIT)
                )));
            }
            if unpacked.saturating_add(layer.size) > SCRATCH_BYTES {
                return Err(Failed::Use(format!(
                    "the folder is too large: a build may unpack {}, and the layer of {largest} ({} packed) lies beside what is \
                     unpacked ({}): leave out with .dockerignore what the image does not need",
                    shown(SCRATCH_BYTES),
                    shown(layer.size),
                    shown(unpacked)
                )));
            }
        }
        Ok(())
    }

    /// Sends what the registry does not have, and says how much that was. `tag`: what keeps it from being collected as garbage.
    pub(super) async fn push(&self, to: &Remote, tag: &str) -> Result<Sent, Unsent> {
        let client = to.client();
        let failed = |error| refused(to, error);
        // All of it is there: most often because nothing has changed, and else because it was the source before.
        if client.has_manifest(&self.digest).await.map_err(failed)? {
            let tagged = client.digest(tag).await;
            if tagged.as_ref().ok() != Some(&self.digest) {
                self.keep(to, tag).await;
            }
            return Ok(Sent::default());
        }
        let missing: Vec<&Packed> = stream::iter(&self.layers)
            .map(async |layer| {
                let has = client.has_blob(&layer.digest).await?;
                Ok::<_, RegistryError>((!has).then_some(layer))
            })
            .buffered(ASKED)
            .try_filter_map(async |layer| Ok(layer))
            .try_collect()
            .await
            .map_err(failed)?;
        let sent = Sent {
            bytes: missing.iter().map(|layer| layer.size).sum(),
            layers: missing.len(),
        };
        let bar = bar("sending", sent.bytes);
        let pushed = stream::iter(missing)
            .map(|layer| self.push_layer(to, layer, &bar))
            .buffer_unordered(SENT)
            .try_collect::<()>()
            .await;
        bar.finish_and_clear();
        pushed?;
        client.put_blob(EMPTY).await.map_err(failed)?;
        let put = client.put_manifest(&self.digest, OCI_MANIFEST, &self.manifest);
        put.await.map_err(failed)?;
        self.keep(to, tag).await;
        Ok(sent)
    }

    /// Registries delete what no tag names; one whose tags cannot be moved keeps the digest alone.
    async fn keep(&self, to: &Remote, tag: &str) {
        let put = (to.client()).put_manifest(tag, OCI_MANIFEST, &self.manifest);
        if let Err(error) = put.await {
            anstream::eprintln!(
                "note: the tag {tag}, which keeps the source from being deleted, was not moved: {error}"
            );
        }
    }

    async fn push_layer(
        &self,
        to: &Remote,
        layer: &Packed,
        bar: &ProgressBar,
    ) -> Result<(), Unsent> {
        let tried = Arc::new(AtomicU64::new(0));
        let make = || {
            // What an earlier try has sent does not count.
            bar.dec(tried.swap(0, Ordering::Relaxed));
            let (bar, tried) = (bar.clone(), tried.clone());
            bytes_of(self.folder.clone(), layer, move |bytes| {
                tried.fetch_add(bytes, Ordering::Relaxed);
                bar.inc(bytes);
            })
        };
        let pushed = to.client().push_blob(&layer.digest, layer.size, make).await;
        let Err(error) = pushed else { return Ok(()) };
        // A file that has changed meanwhile gives other bytes, which the registry does not take.
        let (folder, entries) = (self.folder.clone(), layer.entries.to_vec());
        let again = tokio::task::spawn_blocking(move || measure(&folder, entries)).await;
        match again.expect("packing does not panic") {
            Ok(again) if again.digest == layer.digest => Err(refused(to, error)),
            Ok(_) => Err(Unsent::Failed(Failed::Use(format!(
                "{}: files have changed while they were sent: run the command again",
                self.folder.display()
            )))),
            Err(it) => Err(Unsent::Failed(unreadable(&it.path, &it.error))),
        }
    }
}

/// A repository as this machine reaches it, with the credentials that docker has for it.
pub(super) async fn place(
    repository: Repository,
    connection: &Connection,
) -> Result<Remote, Failed> {
    let wrong = |error: InspectError| Failed::Use(error.to_string());
    let mut login = look(&repository, &files(|name| std::env::var_os(name))).map_err(wrong)?;
    if login.credentials.is_none()
        && let Some(name) = login.helper.take()
    {
        match helper::get(&name, &repository.host).await {
            Ok(found) => login.credentials = found,
            Err(why) => anstream::eprintln!(
                "note: the credential helper docker-credential-{name}: {why}: going on without credentials for {}",
                repository.host
            ),
        }
    }
    let reference = Reference {
        repository,
        tag: None,
        digest: None,
    };
    Remote::as_user(reference, connection, Access::PullPush, login).map_err(wrong)
}

fn refused(to: &Remote, error: RegistryError) -> Unsent {
    let repository = &to.reference().repository;
    let away = matches!(&error, RegistryError::Transient { message, .. } if is_unconnected(message, repository.api_host()));
    let name = format!("{}/{}", repository.host, repository.path);
    let said = to.refused(error);
    match away {
        true => Unsent::Unreachable(Failed::Refused(format!(
            "{name} is unreachable from here: {said}: check the network; where this machine knows the registry by another name, give it \
             with --push-to"
        ))),
        false => Unsent::Refused(Failed::Refused(format!("{name}: {said}"))),
    }
}

/// True where the connection to this host itself did not come about: its name is unknown, nobody listens, or nobody answers
/// in time. What a registry answers, also that it is busy, and TLS that fails are something else.
fn is_unconnected(message: &str, host: &str) -> bool {
    // reqwest's words for what was not answered.
    let Some((url, why)) = message
        .strip_prefix("error sending request for url (")
        .and_then(|rest| rest.split_once(')'))
    else {
        return false;
    };
    let Ok(url) = reqwest::Url::parse(url) else {
        return false;
    };
    // Another one is the token server, or the storage behind the registry: the registry has named it.
    let own = reqwest::Url::parse(&format!("{}://{host}/", url.scheme()));
    let is_own = own.is_ok_and(|own| own.origin() == url.origin());
    // hyper's words for the steps before TLS, and reqwest's for the time that all steps have.
    let steps = ["dns error", "tcp connect error", "operation timed out"];
    is_own && why.contains("client error (Connect)") && steps.iter().any(|step| why.contains(step))
}

/// On a terminal alone.
fn bar(what: &'static str, bytes: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(bytes), ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template(
        "{prefix} {wide_bar} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}",
    );
    bar.set_style(style.expect("the template is valid"));
    bar.set_prefix(what);
    bar
}

#[cfg(test)]
#[path = "upload_tests.rs"]
mod tests;
