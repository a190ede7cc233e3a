//! A layer's bytes: hashed as they come, unpacked, hashed again, and counted against the limits.

use std::cell::{Cell, RefCell};
use std::io::{self, BufReader, Chain, Cursor, Read};
use std::rc::Rc;

use sha2::{Digest, Sha256, Sha512};

use super::decompress::{Compression, Decompressed};
use crate::limits::{Exceeded, Limits};

/// Bytes read at once.
const CHUNK: usize = 64 << 10;

/// A digest as it grows.
pub enum Hasher {
    /// `sha256:…`
    Sha256(Sha256),
    /// `sha512:…`
    Sha512(Sha512),
}

impl Hasher {
    /// The hasher of a digest such as `sha256:…`; `None` for an unknown algorithm.
    pub fn of(digest: &str) -> Option<Self> {
        match digest.split_once(':')?.0 {
            "sha256" => Some(Self::Sha256(Sha256::new())),
            "sha512" => Some(Self::Sha512(Sha512::new())),
            _ => None,
        }
    }

    /// Takes the next bytes in.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hash) => hash.update(bytes),
            Self::Sha512(hash) => hash.update(bytes),
        }
    }

    /// The digest, as OCI writes it.
    pub fn finish(self) -> String {
        let (name, bytes) = match self {
            Self::Sha256(hash) => ("sha256:", hash.finalize().to_vec()),
            Self::Sha512(hash) => ("sha512:", hash.finalize().to_vec()),
        };
        let mut text = name.to_owned();
        for byte in bytes {
            text.push_str(&format!("{byte:02x}"));
        }
        text
    }
}

/// What the two ends of a layer's stream say of themselves, for whoever reads in between.
#[derive(Default)]
pub(crate) struct State {
    /// Packed bytes read.
    pub(crate) packed: Cell<u64>,
    /// Unpacked bytes read.
    pub(crate) unpacked: Cell<u64>,
    /// True once the packed bytes came to their end.
    pub(crate) ended: Cell<bool>,
    /// The error of the source itself.
    pub(crate) failed: RefCell<Option<io::Error>>,
    /// The limit that was passed.
    pub(crate) exceeded: Cell<Option<Exceeded>>,
    /// The window that a zstd frame asks for, where it is too large.
    pub(crate) window: Cell<Option<u64>>,
}

/// The packed bytes.
pub(crate) struct Packed<R> {
    source: R,
    hash: Option<Hasher>,
    state: Rc<State>,
}

impl<R: Read> Read for Packed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = loop {
            match self.source.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let again = io::Error::new(error.kind(), "read error");
                    *self.state.failed.borrow_mut() = Some(error);
                    return Err(again);
                }
                Ok(read) => break read.min(buffer.len()),
            }
        };
        if read == 0 && !buffer.is_empty() {
            self.state.ended.set(true);
        }
        if let Some(hash) = &mut self.hash {
            hash.update(&buffer[..read]);
        }
        self.state.packed.set(self.state.packed.get() + read as u64);
        Ok(read)
    }
}

/// The unpacked bytes.
pub(crate) struct Unpacked<R> {
    decoder: Decompressed<Source<R>>,
    hash: Option<Hasher>,
    state: Rc<State>,
    /// Unpacked bytes that are left for the image.
    left: u64,
    limits: Limits,
}

/// The first bytes, by which the compression is known, and all others.
type Source<R> = BufReader<Chain<Cursor<Vec<u8>>, Packed<R>>>;

/// Both ends of a layer's stream. `left`: unpacked bytes that the image may still have.
pub(crate) fn open<R: Read>(
    source: R,
    digest: Option<Hasher>,
    diff_id: Option<Hasher>,
    left: u64,
    limits: &Limits,
) -> (io::Result<Unpacked<R>>, Rc<State>) {
    let state = Rc::new(State::default());
    let mut packed = Packed {
        source,
        hash: digest,
        state: Rc::clone(&state),
    };
    let mut start = Vec::with_capacity(4);
    if let Err(error) = (&mut packed).take(4).read_to_end(&mut start) {
        return (Err(error), state);
    }
    let compression = Compression::sniff(&start);
    let packed = BufReader::with_capacity(CHUNK, Cursor::new(start).chain(packed));
    let decoder = Decompressed::new(packed, compression, limits.zstd_window);
    let unpacked = Unpacked {
        decoder,
        hash: diff_id,
        state: Rc::clone(&state),
        left,
        limits: limits.clone(),
    };
    (Ok(unpacked), state)
}

impl<R: Read> Unpacked<R> {
    /// Reads what is left of both, and gives the digests of the packed and of the unpacked bytes.
    pub(crate) fn finish(mut self) -> io::Result<(Option<String>, Option<String>)> {
        io::copy(&mut self, &mut io::sink())?;
        let mut packed = self.decoder.into_inner();
        io::copy(&mut packed, &mut io::sink())?;
        let (_, packed) = packed.into_inner().into_inner();
        Ok((
            packed.hash.map(Hasher::finish),
            self.hash.map(Hasher::finish),
        ))
    }

    fn check(&self, unpacked: u64) -> Result<(), Exceeded> {
        if unpacked > self.left {
            return Err(Exceeded::Bytes(self.limits.unpacked_bytes));
        }
        let packed = self.state.packed.get();
        if unpacked > self.limits.ratio_floor && unpacked / self.limits.ratio.max(1) > packed.max(1)
        {
            return Err(Exceeded::Ratio {
                ratio: self.limits.ratio,
                unpacked,
                packed,
            });
        }
        Ok(())
    }
}

impl<R: Read> Read for Unpacked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.decoder.read(buffer).inspect_err(|_| {
            self.state.window.set(self.decoder.refused_window());
        })?;
        if let Some(hash) = &mut self.hash {
            hash.update(&buffer[..read]);
        }
        let unpacked = self.state.unpacked.get() + read as u64;
        self.state.unpacked.set(unpacked);
        self.check(unpacked).map_err(|exceeded| {
            self.state.exceeded.set(Some(exceeded));
            io::Error::other(exceeded)
        })?;
        Ok(read)
    }
}
