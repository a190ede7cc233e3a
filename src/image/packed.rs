//! Small JSON made smaller, for places that are small: deflated, and expanded within a bound.

use std::io::{self, Read, Write};

use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;

/// The bytes, deflated (RFC 1951) as small as can be: for what is written once. Bytes of somebody's choice may take two seconds
/// a MiB.
pub fn deflate(bytes: &[u8]) -> Vec<u8> {
    deflated(bytes, Compression::best())
}

/// The same for what is kept in memory: a hundred times quicker at the worst, and a third larger.
pub fn deflate_quickly(bytes: &[u8]) -> Vec<u8> {
    deflated(bytes, Compression::fast())
}

fn deflated(bytes: &[u8], level: Compression) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), level);
    encoder
        .write_all(bytes)
        .and_then(|()| encoder.finish())
        .expect("writing to memory does not fail")
}

/// What [`deflate`] was given, at most `limit` bytes of it.
///
/// # Errors
/// Where the bytes are no deflated data.
pub fn inflate(bytes: &[u8], limit: u64) -> io::Result<Vec<u8>> {
    let mut expanded = Vec::new();
    DeflateDecoder::new(bytes)
        .take(limit)
        .read_to_end(&mut expanded)?;
    Ok(expanded)
}
