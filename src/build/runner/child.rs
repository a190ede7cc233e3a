//! buildctl as a child: an argument vector, a clean environment, no shell.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Command;

use super::files::Prepared;
use crate::request::paths;

/// Runs buildctl, hands each line of its standard error to `line`, and returns its exit code; none where
/// a signal ended it. Dropping the future kills it.
pub(super) async fn run(
    args: &[String],
    prepared: &Prepared,
    mut line: impl FnMut(&str),
) -> Result<Option<i32>, String> {
    let mut child = command(args, &prepared.docker_config)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot start {}: {error}", paths::BUILDCTL))?;
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
pub(super) async fn finish(args: &[String], prepared: &Prepared, within: Duration) -> bool {
    let child = command(args, &prepared.docker_config)
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

/// The most that [`answer`] reads, in bytes.
const ANSWER: u64 = 16 << 20;

/// Runs buildctl and hands each line of its standard output to `line`; true where it ended well and all was read.
/// Dropping the future kills it.
pub(super) async fn answer(
    args: &[String],
    docker_config: &Path,
    mut line: impl FnMut(&str),
) -> bool {
    let child = command(args, docker_config)
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

fn command(args: &[String], docker_config: &Path) -> Command {
    let mut command = Command::new(paths::BUILDCTL);
    command
        .args(args)
        .env_clear()
        .env("HOME", paths::SCRATCH)
        .env("TMPDIR", paths::SCRATCH)
        .env("DOCKER_CONFIG", docker_config)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    // Where the certificates of public token servers lie, if the image has them at an unusual place.
    for name in ["SSL_CERT_FILE", "SSL_CERT_DIR"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
}
