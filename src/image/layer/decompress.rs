//! The one reader of compressed bytes: gzip of several members, zstd of several frames, or neither.

use std::error::Error;
use std::io::{self, BufRead, Read};

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// How a layer is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// A plain tar.
    None,
    /// RFC 1952, also of several members.
    Gzip,
    /// RFC 8878, also of several frames, skippable ones among them.
    Zstd,
}

impl Compression {
    /// By the first bytes, as containerd does it: media types lie.
    pub fn sniff(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, 0x08, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            // A skippable frame, with which zstd:chunked may begin.
            [first, 0x2a, 0x4d, 0x18, ..] if first & 0xf0 == 0x50 => Self::Zstd,
            _ => Self::None,
        }
    }
}

/// What `source` holds, unpacked. How many bytes that are is for whoever reads it to bound.
pub struct Decompressed<R> {
    decoder: Decoder<R>,
}

enum Decoder<R> {
    None(R),
    Gzip(Box<MultiGzDecoder<R>>),
    Zstd(Box<Frames<R>>),
}

impl<R: BufRead> Decompressed<R> {
    /// A reader from the first byte on. `window`: the most memory that a zstd frame may ask for.
    pub fn new(source: R, compression: Compression, window: u64) -> Self {
        Self {
            decoder: match compression {
                Compression::None => Decoder::None(source),
                Compression::Gzip => Decoder::Gzip(Box::new(MultiGzDecoder::new(source))),
                Compression::Zstd => Decoder::Zstd(Box::new(Frames::new(source, window))),
            },
        }
    }

    /// The window that a zstd frame asks for, where it is too large.
    pub fn refused_window(&self) -> Option<u64> {
        match &self.decoder {
            Decoder::Zstd(frames) => frames.refused_window,
            _ => None,
        }
    }

    /// What it was read from.
    pub fn into_inner(self) -> R {
        match self.decoder {
            Decoder::None(source) => source,
            Decoder::Gzip(decoder) => decoder.into_inner(),
            Decoder::Zstd(frames) => frames.source,
        }
    }
}

impl<R: BufRead> Read for Decompressed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.decoder {
            Decoder::None(source) => source.read(buffer),
            Decoder::Gzip(decoder) => decoder.read(buffer).map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => cut_short("gzip"),
                io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => invalid("gzip", &error),
                _ => error,
            }),
            Decoder::Zstd(frames) => frames.read(buffer),
        }
    }
}

fn cut_short(format: &str) -> io::Error {
    let said = format!("the {format} data is truncated: it ends before its last block");
    io::Error::new(io::ErrorKind::UnexpectedEof, said)
}

fn invalid(format: &str, error: &dyn Error) -> io::Error {
    let said = format!("the {format} data is invalid: {error}");
    io::Error::new(io::ErrorKind::InvalidData, said)
}

/// The frames of a zstd stream, one after the other (RFC 8878, section 3).
struct Frames<R> {
    source: R,
    decoder: FrameDecoder,
    open: bool,
    refused_window: Option<u64>,
}

impl<R: BufRead> Frames<R> {
    fn new(source: R, window: u64) -> Self {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(window);
        Self {
            source,
            decoder,
            open: false,
            refused_window: None,
        }
    }

    /// Goes to the next frame with contents; false at the end.
    fn next(&mut self) -> io::Result<bool> {
        loop {
            if self.source.fill_buf()?.is_empty() {
                return Ok(false);
            }
            match self.decoder.reset(&mut self.source) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let length = u64::from(length);
                    let skipped = io::copy(&mut (&mut self.source).take(length), &mut io::sink())?;
                    if skipped < length {
                        return Err(cut_short("zstd"));
                    }
                }
                Err(error) => {
                    if let FrameDecoderError::WindowSizeTooBig { requested, .. } = &error {
                        self.refused_window = Some(*requested);
                    }
                    return Err(fault(&error));
                }
            }
        }
    }
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if !self.open {
                if !self.next()? {
                    return Ok(0);
                }
                self.open = true;
            }
            while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                self.decoder
                    .decode_blocks(&mut self.source, BlockDecodingStrategy::UptoBlocks(1))
                    .map_err(|error| fault(&error))?;
            }
            let read = self.decoder.read(buffer)?;
            if read > 0 {
                return Ok(read);
            }
            let stated = self.decoder.get_checksum_from_data();
            if stated.is_some() && stated != self.decoder.get_calculated_checksum() {
                return Err(io::Error::other("zstd checksum mismatch"));
            }
            self.open = false;
        }
    }
}

/// What the decoder's error says: it tells an early end from damage only in what it stands on.
fn fault(error: &FrameDecoderError) -> io::Error {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(at) = cause {
        let ended = |it: &io::Error| it.kind() == io::ErrorKind::UnexpectedEof;
        if at.downcast_ref().is_some_and(ended) {
            return cut_short("zstd");
        }
        cause = at.source();
    }
    invalid("zstd", error)
}
