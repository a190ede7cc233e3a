//! The layers of an image, streamed from the registry into the reader of `image`: nothing is written, and
//! what has come stays when the connection breaks.

use std::cell::Cell;
use std::io::{self, Read};

use bytes::{Buf, Bytes};
use reqwest::header::{ACCEPT, RANGE};
use reqwest::{Method, StatusCode};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::client::{Ask, network};
use super::{Client, ReadError, RegistryError};
use whittle_image::{Image, ImageConfig, Layer, LayerSource, Limits};

/// Chunks that lie between the network and the reader: a few hundred KiB.
const CHUNKS: usize = 16;

/// Reads the layers of one platform's image, each checked against its digest and its diff ID.
pub(super) async fn read_image(
    client: &Client,
    layers: &[Layer],
    config: &ImageConfig,
    limits: Limits,
) -> Result<Image, ReadError> {
    let mut image = Image::new(limits);
    for (layer, source) in layers.iter().zip(LayerSource::all(layers, config)?) {
        let (sender, receiver) = channel(CHUNKS);
        let reader = tokio::task::spawn_blocking(move || {
            let result = image.add_layer(Chunks::new(receiver), &source);
            (image, result)
        });
        let (fed, read) = tokio::join!(feed(client, &layer.digest, sender), reader);
        let (back, result) = read.expect("the reader of layers does not panic");
        // Where the registry failed, the reader saw an early end: the cause goes before the effect.
        fed?;
        result?;
        image = back;
    }
    Ok(image)
}

/// Sends a blob's bytes. After a transient fault it goes on from where it was.
pub(super) async fn feed(
    client: &Client,
    digest: &str,
    sender: Sender<Bytes>,
) -> Result<(), RegistryError> {
    let what = format!("blob {digest} of {}", client.repository.path);
    let sent = Cell::new(0_u64);
    let patience = client.settings.patience;
    let feed = patience.retry(async || {
        let mut headers = vec![(ACCEPT, "*/*".to_owned())];
        if sent.get() > 0 {
            headers.push((RANGE, format!("bytes={}-", sent.get())));
        }
        let ask = Ask {
            method: Method::GET,
            url: client.url("blobs", digest)?,
            headers,
            body: &[],
        };
        let mut response = client.ask(&ask, &what).await?;
        // A registry that knows no ranges begins anew.
        let mut known = match response.status() {
            StatusCode::PARTIAL_CONTENT => 0,
            _ => sent.get(),
        };
        while let Some(mut chunk) = response.chunk().await.map_err(network)? {
            let skip = known.min(chunk.len() as u64);
            known -= skip;
            chunk.advance(usize::try_from(skip).unwrap_or(chunk.len()));
            if chunk.is_empty() {
                continue;
            }
            sent.set(sent.get() + chunk.len() as u64);
            if sender.send(chunk).await.is_err() {
                // The reader has had enough: a limit, or what it cannot read.
                return Ok(());
            }
        }
        Ok(())
    });
    tokio::select! {
        result = feed => result,
        // A reader that is done needs no further try.
        () = sender.closed() => Ok(()),
    }
}

/// What is sent, as a reader.
pub(super) struct Chunks {
    receiver: Receiver<Bytes>,
    chunk: Bytes,
}

impl Chunks {
    pub(super) fn new(receiver: Receiver<Bytes>) -> Self {
        Self {
            receiver,
            chunk: Bytes::new(),
        }
    }
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            match self.receiver.blocking_recv() {
                Some(chunk) => self.chunk = chunk,
                None => return Ok(0),
            }
        }
        let size = self.chunk.len().min(buffer.len());
        self.chunk.copy_to_slice(&mut buffer[..size]);
        Ok(size)
    }
}

#[cfg(test)]
#[path = "layers_tests.rs"]
mod tests;
