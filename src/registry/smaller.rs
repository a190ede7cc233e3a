//! A smaller image beside the full one: its layers are read once more, what stays of them goes back at once.

use std::io::{self, Write};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc::{Receiver, Sender, channel, unbounded_channel};

use super::layers::{Chunks, feed, read_image};
use super::referrers::put_blob;
use super::upload::{commit, upload};
use super::{Client, PlatformManifest, ReadError, RegistryError};
use whittle_image::reach::Reach;
use whittle_image::smaller::{LeftOut, Packed, Smaller, Writer, WriterError};
use whittle_image::{Image, ImageConfig, Layer, LayerSource, Limits, digest_of};

/// Bytes of one chunk on its way to the registry.
const CHUNK: usize = 64 << 10;
/// Chunks that lie between the writer and the network.
const CHUNKS: usize = 16;
/// How often all is begun anew after a transient fault.
const TRIES: usize = 3;

/// The longest pause between two of these.
const LONGEST: Duration = Duration::from_secs(60);

/// Why there is no smaller image.
#[derive(thiserror::Error, Debug)]
pub enum SmallerError {
    /// The full image could not be read again, or the registry did not take the smaller one.
    #[error("{0}")]
    Read(#[from] ReadError),
    /// It could not be written.
    #[error("{0}")]
    Writer(#[from] WriterError),
    /// Its documents are none.
    #[error("invalid manifest or config of the full image: {0}")]
    Document(String),
}

impl From<RegistryError> for SmallerError {
    fn from(error: RegistryError) -> Self {
        Self::Read(error.into())
    }
}

impl Client {
    /// Reads the layers of an image for what its program reaches. `base`: how many of them are its base's. Takes up to 64 MiB
    /// of memory.
    pub async fn image(
        &self,
        layers: &[Layer],
        config: &ImageConfig,
        base: u16,
    ) -> Result<Image, ReadError> {
        let limits = Limits {
            reach: Some(base),
            ..Limits::default()
        };
        read_image(self, layers, config, limits).await
    }

    /// Pushes what stays of an image into the repository of `to`, manifest and all, by digest. `image` must have been read by
    /// `Client::image`.
    pub async fn push_smaller(
        &self,
        to: &Client,
        full: &PlatformManifest,
        config: &ImageConfig,
        image: Image,
        reach: Reach,
    ) -> Result<Smaller, SmallerError> {
        let sources = LayerSource::all(&full.layers, config).map_err(ReadError::from)?;
        let (kept, gone) = reach.tally(&image);
        let left = LeftOut {
            files: (kept.files, gone.files),
            bytes: gone.bytes,
        };
        let mut parts = (image, reach);
        let mut tried = 0;
        let layers = loop {
            tried += 1;
            let (back, result) = self.rewrite(to, full, &sources, parts).await;
            parts = back;
            let retry_after = match &result {
                Err(SmallerError::Read(ReadError::Registry(RegistryError::Transient {
                    retry_after,
                    ..
                }))) if tried < TRIES => *retry_after,
                _ => break result?,
            };
            let pause = Duration::from_secs(2 << tried);
            tokio::time::sleep(retry_after.unwrap_or(pause).clamp(pause, LONGEST)).await;
        };
        let text = self.blob(&full.config, ImageConfig::LIMIT).await?;
        let smaller = Smaller::of(&text, &full.bytes, &full.digest, layers, left)
            .map_err(SmallerError::Document)?;
        put_blob(to, &smaller.config).await?;
        to.put_manifest(
            &digest_of(&smaller.manifest),
            whittle_image::OCI_MANIFEST,
            &smaller.manifest,
        )
        .await?;
        Ok(smaller)
    }

    /// Reads all layers, and pushes two.
    async fn rewrite(
        &self,
        to: &Client,
        full: &PlatformManifest,
        sources: &[LayerSource],
        (image, reach): (Image, Reach),
    ) -> ((Image, Reach), Result<[Packed; 2], SmallerError>) {
        let (next, mut layers) = unbounded_channel::<(Receiver<Bytes>, LayerSource)>();
        let (runtime, runtime_chunks) = channel(CHUNKS);
        let (application, application_chunks) = channel(CHUNKS);
        let writing = tokio::task::spawn_blocking(move || {
            let sinks = (Sink::new(runtime), Sink::new(application));
            let mut writer = Writer::new(&image, &reach, sinks.0, sinks.1);
            let mut result = Ok(());
            while let Some((chunks, source)) = layers.blocking_recv() {
                result = writer.add_layer(Chunks::new(chunks), &source);
                if result.is_err() {
                    break;
                }
            }
            drop(layers);
            let ended = result.and_then(|()| writer.finish());
            let packed = ended.map(|both| both.map(|(packed, _)| packed));
            ((image, reach), packed)
        });
        let feeding = async {
            for (layer, source) in full.layers.iter().zip(sources) {
                let (sender, receiver) = channel(CHUNKS);
                if next.send((receiver, source.clone())).is_err() {
                    break;
                }
                feed(self, &layer.digest, sender).await?;
            }
            drop(next);
            Ok::<(), RegistryError>(())
        };
        let (fed, written, first, second) = tokio::join!(
            feeding,
            writing,
            upload(to, runtime_chunks),
            upload(to, application_chunks)
        );
        let (parts, packed) = written.expect("the writer of layers does not panic");
        let result = async {
            // What the network did goes before what came of it.
            fed?;
            let uploads = [first?, second?];
            let packed = packed?;
            for (uploaded, layer) in uploads.into_iter().zip(&packed) {
                if layer.entries > 0 {
                    commit(to, uploaded, &layer.digest).await?;
                }
            }
            Ok(packed)
        };
        let result = result.await;
        (parts, result)
    }
}

/// Hands on what is written.
struct Sink {
    sender: Sender<Bytes>,
    buffer: Vec<u8>,
}

impl Sink {
    fn new(sender: Sender<Bytes>) -> Self {
        Self {
            sender,
            buffer: Vec::with_capacity(CHUNK),
        }
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = CHUNK - self.buffer.len();
        let count = bytes.len().min(room);
        self.buffer.extend_from_slice(&bytes[..count]);
        if self.buffer.len() == CHUNK {
            self.flush()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        let full = std::mem::replace(&mut self.buffer, Vec::with_capacity(CHUNK));
        if full.is_empty() {
            return Ok(());
        }
        self.sender
            .blocking_send(full.into())
            .map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "the upload has ended"))
    }
}
