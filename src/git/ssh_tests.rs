use std::path::PathBuf;

use russh::keys::ssh_key::LineEnding;
use russh::keys::{EcdsaCurve, PrivateKey, PublicKey};
use russh::server::{self, Msg, Server as _, Session};
use russh::{Channel, ChannelId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::fixtures::{Repository, upload_pack};
use crate::refs::Reading;
use crate::{Http, Remote, Wanted};

/// Runs real git for whoever has the key.
#[derive(Clone)]
struct Git {
    root: PathBuf,
    allowed: PublicKey,
    protocols: bool,
    protocol: Option<String>,
    channel: Option<Arc<tokio::sync::Mutex<Option<Channel<Msg>>>>>,
}

impl server::Server for Git {
    type Handler = Self;
    fn new_client(&mut self, _: Option<std::net::SocketAddr>) -> Self {
        self.clone()
    }
}

impl server::Handler for Git {
    type Error = russh::Error;

    async fn auth_publickey(
        &mut self,
        user: &str,
        key: server::VerifiedPublicKey<'_>,
    ) -> Result<server::Auth, Self::Error> {
        let known = user == "git" && key.public_key.key_data() == self.allowed.key_data();
        Ok(if known {
            server::Auth::Accept
        } else {
            server::Auth::reject()
        })
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: server::ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        self.channel = Some(Arc::new(tokio::sync::Mutex::new(Some(channel))));
        reply.accept().await;
        Ok(())
    }

    async fn env_request(
        &mut self,
        _: ChannelId,
        name: &str,
        value: &str,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        if self.protocols && name == "GIT_PROTOCOL" {
            self.protocol = Some(value.to_owned());
        }
        Ok(())
    }

    async fn exec_request(
        &mut self,
        id: ChannelId,
        data: &[u8],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.channel_success(id)?;
        let command = String::from_utf8(data.to_vec()).unwrap();
        let path = command
            .strip_prefix("git-upload-pack '")
            .and_then(|rest| rest.strip_suffix('\''));
        let path = self.root.join(path.unwrap().trim_start_matches('/'));
        let channel = self.channel.take().unwrap().lock().await.take().unwrap();
        let child = upload_pack(&[], &path, self.protocol.as_deref()).spawn();
        tokio::spawn(async move {
            let mut child = child.unwrap();
            let (mut out, mut err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
            let mut into = child.stdin.take().unwrap();
            let mut said = vec![];
            let (mut read, write) = channel.split();
            let answer = async {
                let mut buffer = [0; 8192];
                while let Ok(length @ 1..) = out.read(&mut buffer).await {
                    write.data(&buffer[..length]).await.unwrap();
                }
                err.read_to_end(&mut said).await.unwrap();
                let _ = write.extended_data(1, &said[..]).await;
                let _ = write.close().await;
            };
            let questions = async {
                while let Some(message) = read.wait().await {
                    if let ChannelMsg::Data { data } = message {
                        let _ = into.write_all(&data).await;
                    }
                }
            };
            tokio::select! { () = answer => {}, () = questions => {} }
        });
        Ok(())
    }
}

struct Running {
    port: u16,
    repository: Repository,
    /// `known_hosts` with the server's keys.
    known: String,
    /// A key that it accepts.
    key: String,
}

impl Running {
    async fn start(host_keys: Vec<PrivateKey>, key: &PrivateKey, protocols: bool) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let repository = Repository::new("sha1");
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let line = |key: &PrivateKey| {
            format!(
                "[127.0.0.1]:{port} {}\n",
                key.public_key().to_openssh().unwrap()
            )
        };
        let known = host_keys.iter().map(line).collect();
        let mut git = Git {
            root: repository.folder.path().to_owned(),
            allowed: key.public_key().clone(),
            protocols,
            protocol: None,
            channel: None,
        };
        let config = Arc::new(server::Config {
            keys: host_keys,
            auth_rejection_time: Duration::ZERO,
            auth_rejection_time_initial: Some(Duration::ZERO),
            ..server::Config::default()
        });
        tokio::spawn(async move { git.run_on_socket(config, &listener).await });
        Self {
            port,
            repository,
            known,
            key: key.to_openssh(LineEnding::LF).unwrap().to_string(),
        }
    }

    async fn look(&self, path: &str, known: &str, key: &str) -> Result<String, Error> {
        let remote = Remote::parse(&format!("ssh://git@127.0.0.1:{}/{path}", self.port))?;
        let auth = Auth::Ssh {
            private_key: key.to_owned(),
            known_hosts: known.to_owned(),
        };
        crate::look(&Http::new()?, &remote, &auth, &Wanted::Head).await
    }
}

fn new_key(algorithm: Algorithm) -> PrivateKey {
    PrivateKey::random(&mut russh::keys::key::safe_rng(), algorithm).unwrap()
}

#[tokio::test]
async fn real_git_answers_over_ssh_in_both_protocols() {
    for protocols in [true, false] {
        let key = new_key(Algorithm::Ed25519);
        let server = Running::start(vec![new_key(Algorithm::Ed25519)], &key, protocols).await;
        let found = server
            .look("team/hello.git", &server.known, &server.key)
            .await;
        assert_eq!(found, Ok(server.repository.main()), "{protocols}");
        let error = server
            .look("team/other.git", &server.known, &server.key)
            .await
            .unwrap_err();
        assert_eq!(error.kind, Kind::NotFound, "{error}");
    }
}

#[tokio::test]
async fn a_host_key_that_is_not_known_ends_it_before_anything_is_asked() {
    let key = new_key(Algorithm::Ed25519);
    let server = Running::start(vec![new_key(Algorithm::Ed25519)], &key, true).await;
    let other = new_key(Algorithm::Ed25519)
        .public_key()
        .to_openssh()
        .unwrap();
    for (known, said) in [
        (String::new(), "known_hosts is missing"),
        (format!("other {other}"), "missing from known_hosts"),
        (format!("127.0.0.1 {other}"), "has changed"),
        (
            "127.0.0.1 ecdsa-sha2-nistp256 AAAA".into(),
            "keys of other kinds",
        ),
    ] {
        let error = server
            .look("team/hello.git", &known, &server.key)
            .await
            .unwrap_err();
        assert_eq!(error.kind, Kind::HostKey, "{known}");
        assert!(error.said.contains(said), "{error}");
    }
}

#[tokio::test]
async fn of_several_host_keys_the_one_is_asked_for_that_is_known() {
    let key = new_key(Algorithm::Ed25519);
    let ecdsa = Algorithm::Ecdsa {
        curve: EcdsaCurve::NistP256,
    };
    let server = Running::start(
        vec![new_key(Algorithm::Ed25519), new_key(ecdsa)],
        &key,
        true,
    )
    .await;
    for line in server.known.lines() {
        let found = server.look("team/hello.git", line, &server.key).await;
        assert_eq!(found, Ok(server.repository.main()), "{line}");
    }
}

#[tokio::test]
async fn a_private_key_that_does_not_do_is_told_without_it() {
    let key = new_key(Algorithm::Ed25519);
    let server = Running::start(vec![new_key(Algorithm::Ed25519)], &key, true).await;
    let other = new_key(Algorithm::Ed25519);
    let encrypted = other
        .encrypt(&mut russh::keys::key::safe_rng(), "hunter22")
        .unwrap();
    let text = |key: &PrivateKey| key.to_openssh(LineEnding::LF).unwrap().to_string();
    for (key, said) in [
        (text(&other), "does not accept the private key for user git"),
        (text(&encrypted), "encrypted with a passphrase"),
        ("hunter22".into(), "is not a private key"),
    ] {
        let error = server
            .look("team/hello.git", &server.known, &key)
            .await
            .unwrap_err();
        assert_eq!(error.kind, Kind::Denied, "{error}");
        assert!(
            error.said.contains(said) && !error.said.contains("hunter22"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn rsa_keys_do_on_both_sides() {
    // 2,048 bits: made by ssh-keygen, since making one here takes long without optimization.
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    for (name, format) in [("host", "RFC4716"), ("user", "PEM")] {
        let made = std::process::Command::new("ssh-keygen")
            .args([
                "-q", "-t", "rsa", "-b", "2048", "-N", "", "-m", format, "-f",
            ])
            .arg(file(name))
            .status();
        assert!(made.unwrap().success());
    }
    let read = |name: &str| std::fs::read_to_string(file(name)).unwrap();
    let decoded = |name: &str| decode_secret_key(&read(name), None).unwrap();
    let server = Running::start(vec![decoded("host")], &decoded("user"), true).await;
    let found = server
        .look("team/hello.git", &server.known, &read("user"))
        .await;
    assert_eq!(found, Ok(server.repository.main()));
}

#[tokio::test]
async fn a_look_that_nobody_waits_for_any_more_closes_its_connection() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = Server {
        user: "git".into(),
        host: "127.0.0.1".into(),
        port: listener.local_addr().unwrap().port(),
        path: "/x".into(),
    };
    let auth = Auth::Ssh {
        private_key: new_key(Algorithm::Ed25519)
            .to_openssh(LineEnding::LF)
            .unwrap()
            .to_string(),
        known_hosts: format!(
            "127.0.0.1 {}",
            new_key(Algorithm::Ed25519)
                .public_key()
                .to_openssh()
                .unwrap()
        ),
    };
    let wanted = Wanted::Head;
    let mut reading = Reading::new(&wanted);
    let looking = tokio::time::timeout(
        Duration::from_millis(500),
        look(&server, &auth, &mut reading),
    );
    // A server that greets, and then says something that is nothing, again and again.
    let (looked, accepted) = tokio::join!(looking, async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"SSH-2.0-slow\r\n").await.unwrap();
        stream
    });
    assert!(looked.is_err());
    let mut stream = accepted;
    let ignore = [0, 0, 0, 12, 6, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let _ = stream.write_all(&ignore).await;
    let mut rest = vec![];
    let ended = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut rest));
    assert!(ended.await.is_ok());
}
