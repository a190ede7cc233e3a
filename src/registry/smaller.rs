//! A smaller image beside the full one: its layers are read once more, what stays of them goes back at once.

use std::future::Future;
use std::io::{self, Read, Write};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc::{Receiver, Sender, UnboundedReceiver, channel, unbounded_channel};

use super::layers::{Chunks, feed, read_image};
use super::upload::{commit, upload};
use super::{Client, PlatformManifest, ReadError, RegistryError};
use whittle_image::reach::Reach;
use whittle_image::smaller::{Layers, LeftOut, Packed, Smaller, WriterError, write};
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
        self.read(layers, config, limits).await
    }

    /// Reads the layers of an image within these bounds.
    pub async fn read(
        &self,
        layers: &[Layer],
        config: &ImageConfig,
        limits: Limits,
    ) -> Result<Image, ReadError> {
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
        let left = LeftOut::of(&image, &reach);
        let mut parts = (image, reach);
        let mut tried = 0;
        let layers = loop {
            tried += 1;
            let (fed, feeding) = self.feeding(full);
            let writing = Writing {
                parts,
                sources: sources.clone(),
                layers: fed,
            };
            let (back, result) = writing.push(to, feeding).await;
            parts = back.parts;
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
        to.put_smaller(&smaller).await?;
        Ok(smaller)
    }

    /// Writes what stays of an image into `sinks`: the layers of the smaller image.
    pub async fn write_smaller<W: Write + Send + 'static>(
        &self,
        full: &PlatformManifest,
        config: &ImageConfig,
        parts: (Image, Reach),
        sinks: [W; 2],
    ) -> Result<[(Packed, W); 2], SmallerError> {
        let sources = LayerSource::all(&full.layers, config).map_err(ReadError::from)?;
        let (layers, feeding) = self.feeding(full);
        let writing = Writing {
            parts,
            sources,
            layers,
        };
        let writing = tokio::task::spawn_blocking(move || writing.write(sinks).1);
        let (fed, written) = tokio::join!(feeding, writing);
        let written = written.expect("the writer of layers does not panic");
        // What the network did goes before what came of it.
        fed?;
        Ok(written?)
    }

    /// Pushes what stays of an image that lies elsewhere than in a registry: the layers of the smaller image. `layers` comes back.
    pub async fn push_layers<L: Layers + Send + 'static>(
        &self,
        parts: (Image, Reach),
        sources: Vec<LayerSource>,
        layers: L,
    ) -> (L, Result<[Packed; 2], SmallerError>) {
        let writing = Writing {
            parts,
            sources,
            layers,
        };
        let (back, result) = writing.push(self, async { Ok(()) }).await;
        (back.layers, result)
    }

    /// Pushes the config and the manifest of a smaller image whose layers are there.
    pub async fn put_smaller(&self, smaller: &Smaller) -> Result<(), RegistryError> {
        self.put_blob(&smaller.config).await?;
        let digest = digest_of(&smaller.manifest);
        self.put_manifest(&digest, whittle_image::OCI_MANIFEST, &smaller.manifest)
            .await
            .map(drop)
    }

    /// All layers of an image, one after the other, and what brings them.
    fn feeding(
        &self,
        full: &PlatformManifest,
    ) -> (Fed, impl Future<Output = Result<(), RegistryError>>) {
        let (next, layers) = unbounded_channel();
        let feeding = async move {
            for layer in &full.layers {
                let (sender, receiver) = channel(CHUNKS);
                if next.send(receiver).is_err() {
                    break;
                }
                feed(self, &layer.digest, sender).await?;
            }
            Ok(())
        };
        (Fed(layers), feeding)
    }
}

/// Layers that come from a registry.
struct Fed(UnboundedReceiver<Receiver<Bytes>>);

impl Layers for Fed {
    fn open(&mut self, _index: usize) -> io::Result<Box<dyn Read + '_>> {
        let chunks = self.0.blocking_recv();
        let chunks = chunks.ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(Box::new(Chunks::new(chunks)))
    }

    fn end(&mut self) {
        self.0.close();
        // Whose receiver is gone sends no more.
        while self.0.try_recv().is_ok() {}
    }
}

/// What is read once more, and what of it stays.
struct Writing<L> {
    parts: (Image, Reach),
    sources: Vec<LayerSource>,
    layers: L,
}

/// Both layers, and where they were written.
type Written<W> = Result<[(Packed, W); 2], WriterError>;

impl<L: Layers + Send + 'static> Writing<L> {
    fn write<W: Write>(mut self, sinks: [W; 2]) -> (Self, Written<W>) {
        let (image, reach) = &self.parts;
        let result = write(image, reach, &self.sources, &mut self.layers, sinks);
        (self, result)
    }

    /// Reads all layers, and pushes two. `feeding`: brings the layers.
    async fn push(
        self,
        to: &Client,
        feeding: impl Future<Output = Result<(), RegistryError>>,
    ) -> (Self, Result<[Packed; 2], SmallerError>) {
        let (runtime, runtime_chunks) = channel(CHUNKS);
        let (application, application_chunks) = channel(CHUNKS);
        let writing = tokio::task::spawn_blocking(move || {
            let (back, written) = self.write([Sink::new(runtime), Sink::new(application)]);
            let packed = written.map(|both| both.map(|(packed, _)| packed));
            (back, packed)
        });
        let (fed, written, first, second) = tokio::join!(
            feeding,
            writing,
            upload(to, runtime_chunks),
            upload(to, application_chunks)
        );
        let (back, packed) = written.expect("the writer of layers does not panic");
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
        (back, result)
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
