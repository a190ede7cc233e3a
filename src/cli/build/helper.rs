//! Credentials that docker keeps in a program of its own (<https://github.com/docker/docker-credential-helpers>): the file that
//! names it is the user's.

use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use whittle_registry::Credentials;

/// So long it may take: some ask the user.
const WITHIN: Duration = Duration::from_secs(60);
/// Bytes that are read of its answer.
const LIMIT: u64 = 64 << 10;
/// Docker's own registry, as it is called there.
const DOCKER: &str = "https://index.docker.io/v1/";
/// The user's name where the secret is an identity token.
const TOKEN: &str = "<token>";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: String,
}

/// What the program `docker-credential-NAME` has for a host; none where it has nothing.
///
/// # Errors
/// It cannot be run, or does not answer: said without its name.
pub(super) async fn get(name: &str, host: &str) -> Result<Option<Credentials>, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if !name.chars().all(plain) {
        return Err("invalid name".into());
    }
    let server = if host == "docker.io" { DOCKER } else { host };
    let program = format!("docker-credential-{name}");
    match tokio::time::timeout(WITHIN, ask(&program, server)).await {
        Ok(answer) => answer,
        Err(_) => Err(format!("timed out after {} s", WITHIN.as_secs())),
    }
}

async fn ask(program: &str, server: &str) -> Result<Option<Credentials>, String> {
    let mut child = Command::new(program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => "not found in $PATH".into(),
            _ => error.to_string(),
        })?;
    let mut input = child.stdin.take().expect("it was asked for");
    let mut output = child.stdout.take().expect("it was asked for").take(LIMIT);
    // It may answer without having read.
    let _ = input.write_all(server.as_bytes()).await;
    drop(input);
    let mut bytes = vec![];
    let read = output.read_to_end(&mut bytes).await;
    // Who writes more than that would wait for ever.
    drop(output);
    let ended = child.wait().await.map_err(|error| error.to_string())?;
    read.map_err(|error| error.to_string())?;
    answer(ended.success(), &bytes)
}

fn answer(success: bool, bytes: &[u8]) -> Result<Option<Credentials>, String> {
    if !success {
        let said = String::from_utf8_lossy(bytes);
        // The words of all of them, by which docker knows it, too.
        return match said.contains("credentials not found") {
            true => Ok(None),
            false => Err(match said.trim() {
                "" => "it failed".into(),
                said => format!("it says: {}", whittle_api::bounded(said.to_owned(), 300)),
            }),
        };
    }
    let answer: Answer = serde_json::from_slice(bytes).map_err(|_| "invalid answer".to_owned())?;
    Ok(match (answer.username.as_str(), answer.secret.as_str()) {
        (_, "") => None,
        (TOKEN, secret) => Some(Credentials::Refresh(secret.to_owned())),
        (name, secret) => Some(Credentials::Basic {
            username: name.to_owned(),
            password: secret.to_owned(),
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_a_password_or_a_token_or_nothing() {
        let basic = Some(Credentials::Basic {
            username: "u".into(),
            password: "p".into(),
        });
        let token = Some(Credentials::Refresh("t".into()));
        let of = |text: &str| answer(true, text.as_bytes());
        assert_eq!(
            of(r#"{"ServerURL":"x","Username":"u","Secret":"p"}"#),
            Ok(basic)
        );
        assert_eq!(of(r#"{"Username":"<token>","Secret":"t"}"#), Ok(token));
        assert_eq!(of(r#"{"Username":"","Secret":""}"#), Ok(None));
        assert_eq!(of("hunter22"), Err("invalid answer".into()));
        let none = b"credentials not found in native keychain\n";
        assert_eq!(answer(false, none), Ok(None));
        assert_eq!(answer(false, b"locked\n"), Err("it says: locked".into()));
    }

    #[tokio::test]
    async fn the_host_is_what_it_reads_and_its_answer_is_bounded() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let program = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            path.to_string_lossy().into_owned()
        };
        let says = program(
            "says",
            r#"read -r h; echo "{\"Username\":\"$1\",\"Secret\":\"$h\"}""#,
        );
        assert_eq!(
            ask(&says, "r.example.com:5000\n").await,
            Ok(Some(Credentials::Basic {
                username: "get".into(),
                password: "r.example.com:5000".into()
            }))
        );
        let much = program("much", "yes 'credentials not found'");
        assert_eq!(ask(&much, "r.example.com").await, Ok(None));
        let away = ask("docker-credential-that-is-not-there", "r").await;
        assert_eq!(away, Err("not found in $PATH".into()));
        assert_eq!(get("../x", "r").await, Err("invalid name".into()));
    }
}
