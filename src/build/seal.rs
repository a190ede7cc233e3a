//! Credentials for git, sealed on their way to git.
//!
//! BuildKit hands git its Authorization header as an argument, and arguments can be read by every process of
//! the builder's Pod, build steps included. So what BuildKit is given is sealed with a key that only the
//! runners and the daemon of one Builder have, and opened by what stands in git's place beside the daemon
//! (`src/build/daemon`): git itself gets it through its environment, which a step may not read.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};

/// Name of the key in both Secrets of a Builder: 32 bytes in base64.
pub const KEY_FILE: &str = "seal.key";
/// Begins a sealed header, as an authentication scheme does.
const SCHEME: &str = "whittle-sealed ";
/// Bytes of a key.
const KEY_LEN: usize = 32;

/// Why something cannot be sealed or opened.
#[derive(thiserror::Error, Debug, PartialEq, Eq)]
pub enum Error {
    /// The key is not what [`new_key`] makes.
    #[error("the key for git credentials is invalid")]
    Key,
    /// Not sealed by a runner of this Builder, or for another server.
    #[error("the git credentials were not sealed for this Builder and host")]
    Sealed,
    /// The system has no randomness.
    #[error("the system's random number generator failed")]
    Random,
}

/// A new key, as text.
///
/// # Errors
/// Where the system has no randomness.
pub fn new_key() -> Result<String, Error> {
    let mut bytes = [0; KEY_LEN];
    fill(&mut bytes)?;
    Ok(STANDARD.encode(bytes))
}

/// `header` sealed with `key` for requests to `server` (scheme and host), such that it can stand where the header would.
///
/// # Errors
/// Where the key is invalid, or the system has no randomness.
pub fn seal(key: &str, server: &str, header: &str) -> Result<String, Error> {
    let mut nonce = [0; NONCE_LEN];
    fill(&mut nonce)?;
    let mut sealed = header.as_bytes().to_vec();
    aead(key)?
        .seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(server.as_bytes()),
            &mut sealed,
        )
        .map_err(|_| Error::Sealed)?;
    let mut all = nonce.to_vec();
    all.append(&mut sealed);
    Ok(format!("{SCHEME}{}", URL_SAFE_NO_PAD.encode(all)))
}

/// True where a header is sealed.
pub fn is_sealed(header: &str) -> bool {
    header.starts_with(SCHEME)
}

/// What was sealed with `key` for `server`.
///
/// # Errors
/// Where it was sealed with another key or for another server, or is not sealed at all.
pub fn open(key: &str, server: &str, sealed: &str) -> Result<String, Error> {
    let text = sealed.strip_prefix(SCHEME).ok_or(Error::Sealed)?;
    let mut all = URL_SAFE_NO_PAD
        .decode(text.trim())
        .map_err(|_| Error::Sealed)?;
    if all.len() < NONCE_LEN {
        return Err(Error::Sealed);
    }
    let mut rest = all.split_off(NONCE_LEN);
    let nonce = Nonce::try_assume_unique_for_key(&all).map_err(|_| Error::Sealed)?;
    let opened = aead(key)?
        .open_in_place(nonce, Aad::from(server.as_bytes()), &mut rest)
        .map_err(|_| Error::Sealed)?;
    String::from_utf8(opened.to_vec()).map_err(|_| Error::Sealed)
}

fn aead(key: &str) -> Result<LessSafeKey, Error> {
    let bytes = STANDARD.decode(key.trim()).map_err(|_| Error::Key)?;
    let key = UnboundKey::new(&AES_256_GCM, &bytes).map_err(|_| Error::Key)?;
    Ok(LessSafeKey::new(key))
}

fn fill(bytes: &mut [u8]) -> Result<(), Error> {
    SystemRandom::new().fill(bytes).map_err(|_| Error::Random)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "basic Ym9iOmh1bnRlcjIy";

    #[test]
    fn a_sealed_header_shows_nothing_and_opens_with_its_key_and_host_alone() {
        let (key, other) = (new_key().unwrap(), new_key().unwrap());
        let sealed = seal(&key, "git.example.com", HEADER).unwrap();
        assert!(
            is_sealed(&sealed) && !sealed.contains("Ym9iOmh1"),
            "{sealed}"
        );
        assert_eq!(open(&key, "git.example.com", &sealed).unwrap(), HEADER);
        assert_eq!(open(&key, "evil.example.com", &sealed), Err(Error::Sealed));
        assert_eq!(open(&other, "git.example.com", &sealed), Err(Error::Sealed));
        assert_eq!(open(&key, "git.example.com", HEADER), Err(Error::Sealed));
        assert_eq!(
            open(&key, "git.example.com", "whittle-sealed AAAA"),
            Err(Error::Sealed)
        );
    }

    #[test]
    fn a_header_is_sealed_anew_each_time() {
        let key = new_key().unwrap();
        assert_ne!(seal(&key, "h", HEADER), seal(&key, "h", HEADER));
    }

    #[test]
    fn a_key_of_another_length_is_invalid() {
        assert_eq!(seal("AAAA", "h", HEADER), Err(Error::Key));
        assert_eq!(seal("", "h", HEADER), Err(Error::Key));
    }
}
