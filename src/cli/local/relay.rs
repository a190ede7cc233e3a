//! The daemon of a container, as buildx starts them: each connection to a socket of the build's own goes into the container, by
//! `docker exec -i NAME buildctl dial-stdio` (<https://github.com/moby/buildkit/blob/v0.33.1/client/connhelper/dockercontainer/dockercontainer.go>).
//!
//! The client itself has none of the environment that docker and podman want; this program has.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncWriteExt, copy};
use tokio::net::{UnixListener, UnixStream};
use tokio::process::Command;
use tokio::task::{AbortHandle, JoinSet};

use super::Error;
use super::bound::bound;
use super::programs::{DOCKER, Folders, PODMAN, Program};

/// How long the container may take to answer at first.
const ANSWER: Duration = Duration::from_secs(20);
/// Bytes of what it says instead that are shown.
const SAID: usize = 500;

/// A container with a daemon.
#[derive(Clone, Debug)]
pub struct Container {
    address: String,
    program: Program,
    name: String,
}

/// The container of this address; none where it is of something else.
pub fn container(address: &str) -> Option<Result<Container, Error>> {
    let (scheme, name) = address.split_once("://")?;
    let program = match scheme {
        "docker-container" => DOCKER,
        "podman-container" => PODMAN,
        _ => return None,
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let good = name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(plain);
    Some(match good {
        true => Ok(Container {
            address: address.to_owned(),
            program,
            name: name.to_owned(),
        }),
        false => Err(Error::new(format!(
            "--builder: invalid address {address}: write the container's name, for example {scheme}://buildx_buildkit_default0"
        ))),
    })
}

impl Container {
    /// Answers at a socket in this folder, once the container is known to.
    pub async fn relay(&self, folder: &Path) -> Result<Relay, Error> {
        let found = Folders::usual().all([self.program]);
        let [program] = found.map_err(|missing| Error::new(missing.join("\n")))?;
        let words = bound(&program)?;
        self.answers(&words).await?;
        let words = self.command(&words, &["dial-stdio"], true);
        Relay::of(&folder.join("container.sock"), move |stream| {
            connected(stream, words.clone())
        })
    }

    fn command(&self, words: &[OsString], more: &[&str], input: bool) -> Vec<OsString> {
        let mut all = words.to_vec();
        all.push("exec".into());
        all.extend(input.then(|| "-i".into()));
        all.extend([self.name.clone().into(), "buildctl".into()]);
        all.extend(more.iter().map(OsString::from));
        all
    }

    /// True words for a container that is not there, before a build waits for it.
    async fn answers(&self, words: &[OsString]) -> Result<(), Error> {
        let words = self.command(words, &["debug", "workers"], false);
        let asked = Command::new(&words[0])
            .args(&words[1..])
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let why = match tokio::time::timeout(ANSWER, asked).await {
            Ok(Ok(output)) if output.status.success() => return Ok(()),
            Ok(Ok(output)) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {} s", ANSWER.as_secs()),
        };
        Err(Error::new(format!(
            "--builder {}: no daemon answers in the container: {}: start it, or see docker buildx inspect --bootstrap",
            self.address,
            whittle_api::bounded(why, SAID)
        )))
    }
}

/// A socket that leads elsewhere, until this value goes.
pub struct Relay {
    socket: PathBuf,
    task: AbortHandle,
}

impl Relay {
    /// Each connection is carried so.
    pub fn of<C>(
        socket: &Path,
        carry: impl Fn(UnixStream) -> C + Send + 'static,
    ) -> Result<Self, Error>
    where
        C: Future<Output = std::io::Result<()>> + Send + 'static,
    {
        let listener = UnixListener::bind(socket)
            .map_err(|error| Error::new(format!("{}: {error}", socket.display())))?;
        let task = tokio::spawn(async move {
            // They end with it.
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(carry(stream));
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Self {
            socket: socket.to_owned(),
            task: task.abort_handle(),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> String {
        format!("unix://{}", self.socket.display())
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
        let _ = std::fs::remove_file(&self.socket);
    }
}

/// Carries one connection to its end.
async fn connected(stream: UnixStream, words: Vec<OsString>) -> std::io::Result<()> {
    let mut child = Command::new(&words[0])
        .args(&words[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let (mut from, mut to) = stream.into_split();
    let (Some(mut input), Some(mut output)) = (child.stdin.take(), child.stdout.take()) else {
        return Ok(());
    };
    let there = async {
        copy(&mut from, &mut input).await?;
        // The end of what is sent is told, too.
        drop(input);
        Ok(())
    };
    let back = async {
        copy(&mut output, &mut to).await?;
        to.shutdown().await
    };
    let done: std::io::Result<((), ())> = tokio::try_join!(there, back);
    done.map(drop)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use tokio::io::AsyncReadExt;

    use super::*;

    #[test]
    fn a_container_is_named_by_its_scheme_and_is_no_option() {
        let known = |address: &str| container(address).map(|it| it.map(|it| it.name));
        let name = "buildx_buildkit_default0";
        for scheme in ["docker-container", "podman-container"] {
            assert_eq!(known(&format!("{scheme}://{name}")), Some(Ok(name.into())));
            for wrong in ["", "--privileged", "a b", "a/b", "a?context=x"] {
                let said = known(&format!("{scheme}://{wrong}")).unwrap().unwrap_err();
                assert!(
                    said.to_string().contains("write the container's name"),
                    "{wrong}"
                );
            }
        }
        assert_eq!(known("unix:///run/x.sock"), None);
        assert_eq!(known("tcp://h:1"), None);
    }

    /// A program in the place of docker: it says how it was called, and repeats what it hears.
    fn program(folder: &Path, text: &str) -> Vec<OsString> {
        let path = folder.join("docker");
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        vec![path.into()]
    }

    #[tokio::test]
    async fn each_connection_is_a_program_of_its_own_and_ends_with_the_relay() {
        let folder = tempfile::tempdir().unwrap();
        let words = program(folder.path(), "echo \"$@\"\ncat");
        let container = container("docker-container://b0").unwrap().unwrap();
        let words = container.command(&words, &["dial-stdio"], true);
        let path = folder.path().join("container.sock");
        let relay = Relay::of(&path, move |stream| connected(stream, words.clone())).unwrap();
        for said in ["one", "two"] {
            let mut stream = UnixStream::connect(&path).await.unwrap();
            stream.write_all(said.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            let mut heard = String::new();
            stream.read_to_string(&mut heard).await.unwrap();
            assert_eq!(heard, format!("exec -i b0 buildctl dial-stdio\n{said}"));
        }
        let mut open = UnixStream::connect(&path).await.unwrap();
        let mut first = [0; 4];
        open.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"exec");
        drop(relay);
        let mut rest = vec![];
        open.read_to_end(&mut rest).await.unwrap();
        assert!(UnixStream::connect(&path).await.is_err());
    }

    #[tokio::test]
    async fn a_container_that_is_not_there_is_told_in_the_words_of_its_program() {
        let folder = tempfile::tempdir().unwrap();
        let container = container("docker-container://b0").unwrap().unwrap();
        let text = "[ \"$*\" = 'exec b0 buildctl debug workers' ] && echo 'No such container: b0' >&2\nexit 1";
        let words = program(folder.path(), text);
        let said = container.answers(&words).await.unwrap_err().to_string();
        assert!(said.contains("No such container: b0: start it"), "{said}");
        let words = program(folder.path(), "exit 0");
        assert_eq!(container.answers(&words).await, Ok(()));
    }
}
