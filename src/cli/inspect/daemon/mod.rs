//! An image that Docker or Podman on this machine has: its daemon is asked over its unix socket for what `docker save` writes
//! (<https://docs.docker.com/reference/api/engine/version/v1.47/#tag/Image/operation/ImageGet>), and no program of it is called.
//!
//! What comes has its table of contents at its end, and layers that are read twice: so it lies in a file without a name while it is
//! read, which is gone with this process however that ends.

mod spool;

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::error::InspectError;
use super::files::Files;
use spool::Spool;
use whittle_image::{bounded, display_size};

/// Bytes of an archive, at most.
const LARGEST: u64 = 64 << 30;
/// Bytes of an answer that is no archive.
const ANSWER: usize = 64 << 10;
/// Bytes of a daemon's own words in a message.
const WORDS: usize = 500;

/// Whose daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Engine {
    /// Docker's.
    Docker,
    /// Podman's.
    Podman,
}

/// How long a daemon may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// To say whether it has an image.
    pub(super) answer: Duration,
    /// Between two pieces of an archive; Docker gathers all of it before the first.
    pub(super) silence: Duration,
}

const PATIENCE: Patience = Patience {
    answer: Duration::from_secs(20),
    silence: Duration::from_secs(600),
};

/// One image of a daemon; nothing is asked yet.
pub(crate) struct Daemon {
    engine: Engine,
    name: String,
    sockets: Vec<PathBuf>,
    patience: Patience,
}

impl Engine {
    pub(crate) const ALL: [Self; 2] = [Self::Docker, Self::Podman];

    /// What stands before the image's name.
    pub(crate) fn prefix(self) -> &'static str {
        match self {
            Self::Docker => "docker-daemon:",
            Self::Podman => "podman:",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Docker => "Docker",
            Self::Podman => "Podman",
        }
    }

    fn variable(self) -> &'static str {
        match self {
            Self::Docker => "DOCKER_HOST",
            Self::Podman => "CONTAINER_HOST",
        }
    }

    fn program(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
        }
    }

    fn start(self) -> &'static str {
        match self {
            Self::Docker => "start Docker",
            Self::Podman => "systemctl --user start podman.socket",
        }
    }

    /// Where its socket may be. `env`: the environment.
    fn sockets(self, env: impl Fn(&str) -> Option<String>) -> Result<Vec<PathBuf>, InspectError> {
        let set = env(self.variable()).filter(|value| !value.is_empty());
        if let Some(host) = set {
            let path = host.strip_prefix("unix://").unwrap_or_default();
            return match path.starts_with('/') {
                true => Ok(vec![path.into()]),
                false => Err(InspectError::Name(format!(
                    "{} is {}: only unix:///path is supported; for an image elsewhere run {} save -o image.tar NAME there, \
                     and inspect ./image.tar",
                    self.variable(),
                    bounded(host, WORDS),
                    self.program()
                ))),
            };
        }
        let own = env("XDG_RUNTIME_DIR").filter(|folder| folder.starts_with('/'));
        let own = own.map(PathBuf::from);
        Ok(match self {
            Self::Docker => {
                let own = own.map(|folder| folder.join("docker.sock"));
                let shared = Some(PathBuf::from("/var/run/docker.sock"));
                // Who has one of his own means that: he may not use the other.
                own.into_iter().chain(shared).collect()
            }
            Self::Podman => {
                let own = own.map(|folder| folder.join("podman/podman.sock"));
                let shared = Some(PathBuf::from("/run/podman/podman.sock"));
                own.into_iter().chain(shared).collect()
            }
        })
    }
}

impl Daemon {
    /// An image of a daemon on this machine.
    pub(super) fn new(engine: Engine, name: &str) -> Result<Self, InspectError> {
        let env = |name: &str| std::env::var(name).ok();
        Ok(Self {
            engine,
            name: name.to_owned(),
            sockets: engine.sockets(env)?,
            patience: PATIENCE,
        })
    }

    /// The image, as `docker save` writes it.
    pub(super) async fn files(&self) -> Result<Files, InspectError> {
        let socket = self.socket()?;
        let client = reqwest::Client::builder()
            .unix_socket(socket)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(self.patience.answer)
            .read_timeout(self.patience.silence)
            .build();
        let (answer, silence) = (self.patience.answer, self.patience.silence);
        let client = client.map_err(|error| self.failed(socket, &error, answer))?;
        // It says at once whether there is such an image; of what it has, the archive says all.
        let asked = client
            .get(format!("http://localhost/images/{}/json", self.name))
            .timeout(answer);
        let said = asked
            .send()
            .await
            .map_err(|error| self.failed(socket, &error, answer))?;
        self.accepted(socket, said).await?;
        let asked = client.get(format!("http://localhost/images/{}/get", self.name));
        let answer = asked
            .send()
            .await
            .map_err(|error| self.failed(socket, &error, silence))?;
        let mut answer = self.accepted(socket, answer).await?;
        let mut spool =
            Spool::new(&std::env::temp_dir(), LARGEST).map_err(|error| self.unspooled(&error))?;
        while let Some(chunk) = answer
            .chunk()
            .await
            .map_err(|error| self.failed(socket, &error, silence))?
        {
            spool
                .write(&chunk)
                .map_err(|error| self.unspooled(&error))?;
        }
        let shown = PathBuf::from(format!("{}{}", self.engine.prefix(), self.name));
        Files::spooled(spool.finish(), &shown)
    }

    /// The first that is there.
    fn socket(&self) -> Result<&Path, InspectError> {
        let found = self.sockets.iter().find(|path| path.exists());
        found.map(PathBuf::as_path).ok_or_else(|| {
            let places: Vec<String> = self
                .sockets
                .iter()
                .map(|path| path.display().to_string())
                .collect();
            self.error(format!(
                "socket of {} not found at {}: {}, or set {}=unix:///path",
                self.engine.name(),
                places.join(" or "),
                self.engine.start(),
                self.engine.variable()
            ))
        })
    }

    /// The answer, where it is a success.
    async fn accepted(
        &self,
        socket: &Path,
        mut answer: reqwest::Response,
    ) -> Result<reqwest::Response, InspectError> {
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer
            .chunk()
            .await
            .map_err(|error| self.failed(socket, &error, self.patience.answer))?
        {
            body.extend_from_slice(&chunk[..chunk.len().min(ANSWER - body.len())]);
            if body.len() >= ANSWER {
                break;
            }
        }
        let said = words(&body);
        let engine = self.engine.name();
        if status.as_u16() == 404 {
            return Err(InspectError::Absent(format!(
                "{}{}: image not found: {engine} says: {said}: {} images lists what it has, {} pull {} fetches it",
                self.engine.prefix(),
                self.name,
                self.engine.program(),
                self.engine.program(),
                self.name
            )));
        }
        Err(self.error(format!("{engine} answered {}: {said}", status.as_u16())))
    }

    /// `waited`: how long the request that failed may have been silent.
    fn failed(&self, socket: &Path, error: &reqwest::Error, waited: Duration) -> InspectError {
        let (engine, path) = (self.engine.name(), socket.display());
        if error.is_timeout() {
            return self.error(format!(
                "{engine} at {path} timed out: nothing came for {} s; is the daemon hanging? Try: {} version",
                waited.as_secs(),
                self.engine.program()
            ));
        }
        let cause = cause(error);
        let said = match cause.and_then(|cause| self.denied(socket, cause.kind())) {
            Some(said) => said,
            None => {
                let cause = cause.map_or(String::new(), |cause| format!(": {cause}"));
                let said = bounded(format!("{error}{cause}"), WORDS);
                format!("{engine} at {path} failed: {said}")
            }
        };
        self.error(said)
    }

    /// What to do where the system lets nobody through.
    fn denied(&self, socket: &Path, kind: io::ErrorKind) -> Option<String> {
        let (engine, path) = (self.engine.name(), socket.display());
        match kind {
            io::ErrorKind::PermissionDenied => Some(format!(
                "permission denied for {path}: run as root, or as a user who may use {engine} (of Docker: the group docker)"
            )),
            io::ErrorKind::ConnectionRefused => Some(format!(
                "connection refused at {path}: {engine} is not running: {}",
                self.engine.start()
            )),
            _ => None,
        }
    }

    fn unspooled(&self, error: &io::Error) -> InspectError {
        let folder = std::env::temp_dir();
        self.error(match error.kind() {
            io::ErrorKind::FileTooLarge => format!(
                "too large: the archive has more than {}",
                display_size(LARGEST as i64)
            ),
            _ => format!(
                "the archive cannot be kept in {} while it is read: {error}: set TMPDIR to a directory with enough space",
                folder.display()
            ),
        })
    }

    fn error(&self, why: String) -> InspectError {
        InspectError::Name(format!("{}{}: {why}", self.engine.prefix(), self.name))
    }
}

/// The system's error behind an error.
fn cause(error: &reqwest::Error) -> Option<&io::Error> {
    let mut next: Option<&(dyn Error + 'static)> = error.source();
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<io::Error>() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// What a daemon says in an error: its message, or the text itself.
fn words(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Said {
        message: String,
    }
    let text = match serde_json::from_slice::<Said>(body) {
        Ok(said) => said.message,
        Err(_) => String::from_utf8_lossy(body).into_owned(),
    };
    let text = text.trim().trim_end_matches('.');
    match text.is_empty() {
        true => "nothing".into(),
        false => bounded(text.to_owned(), WORDS),
    }
}

/// What keeps a name from being one that a daemon is asked for: it becomes a part of a path.
pub(super) fn fault(name: &str) -> Option<String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-/:@".contains(c);
    if name.is_empty() {
        return Some("a name is missing: write NAME[:TAG] or an image's ID".into());
    }
    if let Some(wrong) = name.chars().find(|c| !fits(*c)) {
        return Some(format!("invalid character {wrong:?} in an image's name"));
    }
    let bad = |part: &str| part.is_empty() || part == "." || part == "..";
    if name.split('/').any(bad) || name.len() > 512 {
        return Some("invalid name of an image".into());
    }
    None
}

#[cfg(test)]
mod tests;
