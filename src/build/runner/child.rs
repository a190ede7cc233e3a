//! buildctl as a child: an argument vector, a clean environment, no shell.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Command;

/// How buildctl is run.
#[derive(Clone, Debug)]
pub(super) struct Buildctl {
    /// The program, and what goes before all other arguments.
    pub words: Vec<OsString>,
    /// A writable folder.
    pub home: PathBuf,
    /// Folder for Docker's `config.json`: in memory where there is something to write.
    pub docker_config: PathBuf,
}

/// The variables of this process that say how to reach the outside.
const OUTSIDE: [&str; 8] = [
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
];

/// The most that [`Buildctl::answer`] reads, in bytes.
const ANSWER: u64 = 16 << 20;

impl Buildctl {
    /// Runs buildctl, hands each line of its standard error to `line`, and returns its exit code; none where
    /// a signal ended it. Dropping the future kills it.
    pub(super) async fn run(
        &self,
        args: &[String],
        mut line: impl FnMut(&str),
    ) -> Result<Option<i32>, String> {
        let mut child = self
            .command(args)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot start {}: {error}", self.name()))?;
        let stderr = child.stderr.take().expect("stderr is piped");
        let mut reader = BufReader::with_capacity(64 * 1024, stderr);
        let mut bytes = vec![];
        loop {
            bytes.clear();
            match reader.read_until(b'\n', &mut bytes).await {
                Ok(0) => break,
                Ok(_) => line(String::from_utf8_lossy(&bytes).trim_end_matches(['\n', '\r'])),
                Err(error) => return Err(format!("cannot read buildctl's output: {error}")),
            }
        }
        let status = child
            .wait()
            .await
            .map_err(|error| format!("cannot wait for buildctl: {error}"))?;
        Ok(status.code())
    }

    /// Runs buildctl to its end, or for as long as `within`; true where it succeeds by then.
    pub(super) async fn finish(&self, args: &[String], within: Duration) -> bool {
        let child = self
            .command(args)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        match child {
            Ok(mut child) => {
                let ended = tokio::time::timeout(within, child.wait()).await;
                matches!(ended, Ok(Ok(status)) if status.success())
            }
            Err(_) => false,
        }
    }

    /// Runs buildctl and hands each line of its standard output to `line`; true where it ended well and all was read.
    /// Dropping the future kills it.
    pub(super) async fn answer(&self, args: &[String], mut line: impl FnMut(&str)) -> bool {
        let child = self
            .command(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let Ok(mut child) = child else {
            return false;
        };
        let stdout = child.stdout.take().expect("stdout is piped");
        let mut reader = BufReader::new(stdout.take(ANSWER));
        let mut bytes = vec![];
        loop {
            bytes.clear();
            match reader.read_until(b'\n', &mut bytes).await {
                Ok(0) if reader.get_ref().limit() == 0 => return false,
                Ok(0) => break,
                Ok(_) => line(String::from_utf8_lossy(&bytes).trim_end()),
                Err(_) => return false,
            }
        }
        child.wait().await.is_ok_and(|status| status.success())
    }

    /// The program, for people: the last word, whatever starts it.
    fn name(&self) -> String {
        let last = self.words.last();
        last.map_or_else(String::new, |word| word.to_string_lossy().into_owned())
    }

    fn command(&self, args: &[String]) -> Command {
        let mut words = self.words.iter();
        let mut command = Command::new(words.next().cloned().unwrap_or_default());
        command
            .args(words)
            .args(args)
            .env_clear()
            .env("HOME", &self.home)
            .env("TMPDIR", &self.home)
            .env("DOCKER_CONFIG", &self.docker_config)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        // buildctl itself asks token servers: by which proxy, and where the certificates lie that sign theirs. The builder it
        // asks without a proxy.
        for name in OUTSIDE {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command
    }
}
