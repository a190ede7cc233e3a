//! What `docker login` and `podman login` have left, for the registries that a build may ask: as a Secret would have it.
//! Programs that keep credentials are asked, as Docker asks them
//! (<https://github.com/docker/docker-credential-helpers#development>).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use whittle_api::ImageBuild;
use whittle_build::used_images;
use whittle_image::{Reference, Repository};
use whittle_registry::Credentials;

use super::Error;
use super::checked::{named, refused};
use crate::inspect::credentials::{files, look};

/// How long a program may take: it may ask a person.
const WITHIN: Duration = Duration::from_secs(60);
/// The most that it may say, in bytes.
const LIMIT: u64 = 64 << 10;
/// How Docker's own registry is called where credentials are kept.
const DOCKER: &str = "https://index.docker.io/v1/";
/// The user's name where a secret is an identity token.
const TOKEN: &str = "<token>";

/// What a program answers.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: String,
}

/// The repositories that a build may ask, one of each host: that of the image first.
pub fn asked(build: &ImageBuild, dockerfile: Option<&str>, mirrors: &[String]) -> Vec<Repository> {
    let spec = &build.spec;
    let mut all = vec![Repository::parse(&spec.output.image)];
    all.extend(
        spec.source
            .oci
            .iter()
            .map(|oci| Reference::parse(&oci.image).repository),
    );
    let texts = dockerfile
        .into_iter()
        .chain(spec.build_args.values().map(String::as_str));
    all.extend(used_images::named(
        texts.chain(mirrors.iter().map(String::as_str)),
    ));
    // Base images without a host.
    all.push(Repository::parse("docker.io/library/x"));
    let mut seen = std::collections::BTreeSet::new();
    all.retain(|repository| seen.insert(repository.host.clone()));
    all
}

/// The text of a `config.json` with what was found for them; none where nothing was. `in_clear` are hosts that are asked
/// without TLS: what is there for one of them is an error. `say` hears what could not be had.
pub async fn found(
    repositories: &[Repository],
    in_clear: &BTreeSet<String>,
    say: impl Fn(&str),
) -> Result<Option<String>, Error> {
    let files = files(|name| std::env::var_os(name));
    in_files(repositories, &files, in_clear, say).await
}

async fn in_files(
    repositories: &[Repository],
    files: &[(PathBuf, bool)],
    in_clear: &BTreeSet<String>,
    say: impl Fn(&str),
) -> Result<Option<String>, Error> {
    let mut auths: BTreeMap<String, Value> = BTreeMap::new();
    for repository in repositories {
        let login = look(repository, files).map_err(|error| Error::new(error.to_string()))?;
        let host = &repository.host;
        match (login.credentials, login.helper) {
            (Some(credentials), _) => {
                auths.insert(host.clone(), written(&credentials));
            }
            (None, Some(helper)) => match of_program(&helper, host).await {
                Ok(Some(entry)) => {
                    auths.insert(host.clone(), entry);
                }
                Ok(None) => {}
                Err(why) => say(&format!(
                    "no credentials for {host}: docker-credential-{helper}: {why}"
                )),
            },
            (None, None) => {}
        }
        if auths.contains_key(host) && in_clear.contains(&named(host)) {
            return Err(refused(host));
        }
    }
    Ok((!auths.is_empty()).then(|| json!({ "auths": auths }).to_string()))
}

fn written(credentials: &Credentials) -> Value {
    match credentials {
        Credentials::Basic { username, password } => {
            json!({"username": username, "password": password})
        }
        Credentials::Refresh(token) => json!({"identitytoken": token}),
        Credentials::Bearer(token) => json!({"registrytoken": token}),
    }
}

/// Asks a program; none where it has nothing for this host.
async fn of_program(helper: &str, host: &str) -> Result<Option<Value>, String> {
    // It is looked for on PATH, and nowhere else.
    if Path::new(helper).components().count() != 1 {
        return Err("invalid name".into());
    }
    let answer = tokio::time::timeout(WITHIN, ask(helper, host)).await;
    let (text, well) = answer
        .map_err(|_| format!("timed out after {} s", WITHIN.as_secs()))?
        .map_err(|error| error.to_string())?;
    if !well {
        // Its words for that; nothing of what it prints is shown, as it may be a secret.
        return match text.contains("credentials not found") {
            true => Ok(None),
            false => Err("it failed".into()),
        };
    }
    let answer: Answer =
        serde_json::from_str(&text).map_err(|_| "its answer is invalid".to_owned())?;
    Ok(Some(match answer.username == TOKEN {
        true => json!({"identitytoken": answer.secret}),
        false => json!({"username": answer.username, "password": answer.secret}),
    }))
}

async fn ask(helper: &str, host: &str) -> std::io::Result<(String, bool)> {
    let mut child = Command::new(format!("docker-credential-{helper}"))
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let key = match host {
        "docker.io" => DOCKER,
        host => host,
    };
    if let Some(mut stdin) = child.stdin.take() {
        // One that reads nothing has ended, which is seen next.
        let _ = stdin.write_all(key.as_bytes()).await;
    }
    let mut text = String::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(LIMIT).read_to_string(&mut text).await?;
    }
    Ok((text, child.wait().await?.success()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(image: &str) -> ImageBuild {
        serde_json::from_value(json!({
            "apiVersion": "whittle.dev/v1alpha1",
            "kind": "ImageBuild",
            "metadata": {"name": "hello"},
            "spec": {"source": {"oci": {"image": "s.example/src:1"}}, "output": {"image": image}},
        }))
        .unwrap()
    }

    #[test]
    fn each_host_that_may_be_asked_is_asked_about_once() {
        let dockerfile = "FROM b.example/base:1\nFROM r.example/other\nFROM busybox";
        let asked = asked(
            &build("r.example/x"),
            Some(dockerfile),
            &["m.example".into()],
        );
        let hosts: Vec<&str> = asked.iter().map(|it| it.host.as_str()).collect();
        assert_eq!(
            hosts,
            [
                "r.example",
                "s.example",
                "b.example",
                "m.example",
                "docker.io"
            ]
        );
    }

    #[tokio::test]
    async fn what_the_files_have_becomes_a_config_and_nothing_becomes_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        let text = r#"{"auths":{"r.example":{"auth":"dTpw"},"t.example":{"auth":"dTpw","identitytoken":"tok"}}}"#;
        std::fs::write(&path, text).unwrap();
        let files = [(path, false)];
        let of = async |hosts: &[&str]| {
            let all: Vec<Repository> = hosts
                .iter()
                .map(|it| Repository::parse(&format!("{it}/x")))
                .collect();
            in_files(&all, &files, &BTreeSet::new(), |said| panic!("{said}"))
                .await
                .unwrap()
        };
        let found = of(&["r.example", "t.example", "other.example"])
            .await
            .unwrap();
        assert_eq!(
            serde_json::from_str::<Value>(&found).unwrap(),
            json!({"auths": {"r.example": {"username": "u", "password": "p"}, "t.example": {"identitytoken": "tok"}}})
        );
        assert_eq!(of(&["other.example"]).await, None);
    }

    #[tokio::test]
    async fn what_is_kept_for_a_host_is_not_sent_to_it_in_clear() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        let text = r#"{"auths":{"r.example":{"auth":"dTpw"},"https://index.docker.io/v1/":{"auth":"dTpw"}}}"#;
        std::fs::write(&path, text).unwrap();
        let files = [(path, false)];
        for (host, expected) in [
            ("r.example", true),
            ("docker.io", true),
            ("other.example", false),
        ] {
            let all = [Repository::parse(&format!("{host}/x"))];
            let in_clear = BTreeSet::from([host.to_owned()]);
            let found = in_files(&all, &files, &in_clear, |_| {}).await;
            match expected {
                true => assert_eq!(found, Err(refused(host))),
                false => assert_eq!(found, Ok(None)),
            }
        }
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_told_and_no_path_is_run() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        for (name, expected) in [
            ("whittle-test-none", "No such file"),
            ("../x", "invalid name"),
        ] {
            std::fs::write(
                &path,
                json!({"credHelpers": {"r.example": name}}).to_string(),
            )
            .unwrap();
            let said = std::cell::RefCell::new(String::new());
            let all = [Repository::parse("r.example/x")];
            let files = [(path.clone(), false)];
            let none = BTreeSet::new();
            let found = in_files(&all, &files, &none, |text| {
                said.borrow_mut().push_str(text);
            });
            assert_eq!(found.await.unwrap(), None);
            let said = said.into_inner();
            assert!(
                said.starts_with(&format!(
                    "no credentials for r.example: docker-credential-{name}: "
                )) && said.contains(expected),
                "{said}"
            );
        }
    }
}
