//! Asking over ssh, in process: no program is started, and nobody's settings are read.

use std::borrow::Cow;
use std::net::Shutdown;
use std::sync::Arc;
use std::time::Duration;

use russh::client::{self, AuthResult, Handle};
use russh::keys::{
    Algorithm, HashAlg, PrivateKeyWithHashAlg, PublicKeyOrCertificate, decode_secret_key,
};
use russh::{AlgorithmKind, ChannelMsg, Preferred};
use tokio::net::TcpStream;

use crate::known_hosts::Known;
use crate::pkt::Talk;
use crate::refs::refused;
use crate::remote::Server;
use crate::{Auth, Error, Kind};

/// How long a server may take to accept a connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// What of a server's complaints is looked at, in bytes.
const COMPLAINT: usize = 4096;

struct Host(Known);

/// Ends the connection with the look: a session of russh goes on by itself as long as its server says anything.
struct Closing(std::net::TcpStream);

impl Drop for Closing {
    fn drop(&mut self) {
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

impl client::Handler for Host {
    type Error = russh::Error;

    async fn check_server_key(
        &mut self,
        shown: &PublicKeyOrCertificate,
    ) -> Result<bool, Self::Error> {
        // Certificates are not asked for.
        let PublicKeyOrCertificate::PublicKey { key, .. } = shown else {
            return Ok(false);
        };
        let text = key.to_openssh()?;
        let base64 = text.split(' ').nth(1).unwrap_or_default();
        Ok(self.0.has(base64))
    }
}

pub(crate) async fn look(server: &Server, auth: &Auth, talk: &mut impl Talk) -> Result<(), Error> {
    let Auth::Ssh {
        private_key,
        known_hosts,
    } = auth
    else {
        return Err(Error::new(Kind::Denied, "ssh requires a private key"));
    };
    let known = Known::read(known_hosts, &server.host, server.port);
    let algorithms = algorithms(&known);
    if algorithms.is_empty() {
        let said = match known_hosts.trim().is_empty() {
            true => "the host key of the server cannot be verified: key known_hosts is missing",
            false => {
                "the host key of the server cannot be verified: it is missing from known_hosts"
            }
        };
        return Err(Error::new(Kind::HostKey, said));
    }
    let key = decode_secret_key(private_key, None).map_err(|error| {
        // Nothing of the key may be told.
        let why = match error {
            russh::keys::Error::KeyIsEncrypted => {
                "is encrypted with a passphrase, which is unsupported"
            }
            _ => "is not a private key that ssh-keygen writes",
        };
        Error::new(Kind::Denied, format!("key ssh-privatekey {why}"))
    })?;
    let (mut session, _closing) = connect(server, known, algorithms).await?;
    let hash = match key.algorithm().is_rsa() {
        true => session
            .best_supported_rsa_hash()
            .await
            .map_err(failed)?
            .flatten(),
        false => None,
    };
    // A server that does not say: SHA-1 is no answer.
    let hash = hash.or(Some(HashAlg::Sha256));
    let key = PrivateKeyWithHashAlg::new(Arc::new(key), hash);
    let answer = session
        .authenticate_publickey(server.user.clone(), key)
        .await;
    if !matches!(answer.map_err(failed)?, AuthResult::Success) {
        if session.is_closed() {
            return Err(Error::unreachable("the server closed the connection"));
        }
        let said = format!(
            "the server does not accept the private key for user {}",
            server.user
        );
        return Err(Error::new(Kind::Denied, said));
    }
    read(&session, &server.path, talk).await
}

async fn connect(
    server: &Server,
    known: Known,
    algorithms: Vec<Algorithm>,
) -> Result<(Handle<Host>, Closing), Error> {
    let config = client::Config {
        // Refs come slowly enough: each connection holds little.
        window_size: 256 << 10,
        channel_buffer_size: 8,
        nodelay: true,
        preferred: Preferred {
            // So that the server shows a key that is known, where it has several.
            key: Cow::Owned(algorithms),
            ..Preferred::DEFAULT
        },
        ..client::Config::default()
    };
    let connecting = TcpStream::connect((server.host.as_str(), server.port));
    let stream = match tokio::time::timeout(CONNECT_WITHIN, connecting).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(Error::unreachable(error.to_string())),
        Err(_) => return Err(Error::unreachable("timed out: no connection")),
    };
    let local = |error: std::io::Error| Error::unreachable(error.to_string());
    let stream = stream.into_std().map_err(local)?;
    let closing = Closing(stream.try_clone().map_err(local)?);
    let stream = TcpStream::from_std(stream).map_err(local)?;
    let session = client::connect_stream(Arc::new(config), stream, Host(known)).await;
    Ok((session.map_err(failed)?, closing))
}

async fn read(session: &Handle<Host>, path: &str, talk: &mut impl Talk) -> Result<(), Error> {
    let mut channel = session.channel_open_session().await.map_err(failed)?;
    // A server that does not take it advertises its refs.
    channel
        .set_env(false, "GIT_PROTOCOL", "version=2")
        .await
        .map_err(failed)?;
    let command = format!("git-upload-pack '{}'", path.replace('\'', "'\\''"));
    channel.exec(true, command).await.map_err(failed)?;
    let mut complaint = vec![];
    while let Some(message) = channel.wait().await {
        match message {
            ChannelMsg::Data { data } => {
                if !talk.take(&data)? {
                    continue;
                }
                let Some(question) = talk.question() else {
                    return Ok(());
                };
                channel
                    .data_bytes(question.into_bytes())
                    .await
                    .map_err(failed)?;
            }
            ChannelMsg::ExtendedData { data, .. } => {
                let room = COMPLAINT.saturating_sub(complaint.len()).min(data.len());
                complaint.extend_from_slice(&data[..room]);
            }
            ChannelMsg::Failure => {
                return Err(Error::protocol("the server does not run git-upload-pack"));
            }
            ChannelMsg::Close => break,
            _ => {}
        }
    }
    match complaint.is_empty() {
        true => Err(Error::unreachable(
            "the server closed the connection before it answered",
        )),
        false => Err(refused(&String::from_utf8_lossy(&complaint))),
    }
}

/// What the server may show: keys of the kinds that are known.
fn algorithms(known: &Known) -> Vec<Algorithm> {
    let mut found = vec![];
    for kind in known.kinds() {
        let rsa = |hash| Algorithm::Rsa { hash: Some(hash) };
        let of_kind = match kind {
            "ssh-rsa" => vec![rsa(HashAlg::Sha512), rsa(HashAlg::Sha256)],
            other => Algorithm::new(other).into_iter().collect(),
        };
        for algorithm in of_kind {
            if Preferred::DEFAULT.key.contains(&algorithm) && !found.contains(&algorithm) {
                found.push(algorithm);
            }
        }
    }
    found
}

fn failed(error: russh::Error) -> Error {
    let unverified = "the host key of the server cannot be verified";
    match error {
        russh::Error::UnknownKey => Error::new(
            Kind::HostKey,
            format!("{unverified}: it has changed, or is missing from known_hosts"),
        ),
        russh::Error::NoCommonAlgo {
            kind: AlgorithmKind::Key,
            ..
        } => Error::new(
            Kind::HostKey,
            format!("{unverified}: known_hosts has only keys of other kinds than the server's"),
        ),
        russh::Error::NoCommonAlgo { kind, .. } => Error::protocol(&format!(
            "the server and Whittle have no common {kind:?} algorithm"
        )),
        russh::Error::WrongServerSig => Error::new(Kind::HostKey, unverified),
        russh::Error::Version => Error::protocol("the server does not speak ssh"),
        // The rest is the connection's: closed, timed out, garbled.
        other => Error::unreachable(other.to_string()),
    }
}

#[cfg(test)]
#[path = "ssh_tests.rs"]
mod tests;
