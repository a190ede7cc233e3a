use kube::runtime::watcher::Event;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::cluster::pki::Authority;
use crate::fixtures;

const WAIT: Duration = Duration::from_millis(50);

fn hooked(branch: &str) -> whittle_api::ImageBuild {
    let mut build = fixtures::git_with_secrets();
    build.spec.triggers = serde_json::from_value(json!({"webhook": {}})).unwrap();
    let reference = build.spec.source.git.as_mut().unwrap().reference.as_mut();
    reference.unwrap().branch = Some(branch.into());
    build
}

/// A server with one ImageBuild that may be posted about.
struct Door {
    address: std::net::SocketAddr,
    path: String,
    sources: Sources,
}

async fn open(secret: Option<&str>) -> (Door, tempfile::TempDir) {
    let (sources, credentials) = (Sources::default(), Authority::make().unwrap().credentials());
    let build = hooked("main");
    let (namespace, uid) = (
        build.metadata.namespace.clone().unwrap(),
        build.metadata.uid.clone().unwrap(),
    );
    sources.put(&Event::Apply(build));
    let folder = tempfile::tempdir().unwrap();
    let file = secret.map(|secret| {
        let file = folder.path().join("secret");
        std::fs::write(&file, format!("{secret}\n")).unwrap();
        file
    });
    let path = credentials.webhook(&namespace, &uid);
    let listed = Listed::default();
    listed.is("ImageBuild");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let hooks = Hooks::new(
        sources.clone(),
        credentials,
        Metrics::default(),
        (file, listed),
    );
    tokio::spawn(async move { match serve_webhooks(&listener, hooks).await {} });
    (
        Door {
            address,
            path,
            sources,
        },
        folder,
    )
}

impl Door {
    /// The status of the answer, and its words.
    async fn post(&self, path: &str, headers: &str, body: &[u8]) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        // It may be refused before it has come whole.
        let _ = stream.write_all(body).await;
        let mut answer = vec![];
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let status = answer.split(' ').nth(1).and_then(|it| it.parse().ok());
        (
            status.unwrap_or(0),
            answer
                .rsplit("\r\n\r\n")
                .next()
                .unwrap_or_default()
                .to_owned(),
        )
    }

    async fn looks(&self) -> usize {
        let builder = ("team".to_owned(), "default".to_owned());
        self.sources.wanted(&builder, None, WAIT).await.0.len()
    }
}

#[tokio::test]
async fn a_push_is_accepted_at_once_and_has_its_source_looked_at() {
    let (door, _folder) = open(None).await;
    for body in ["", "{}", r#"{"ref":"refs/heads/main"}"#, "no json"] {
        assert_eq!(
            door.post(&door.path, "", body.as_bytes()).await.0,
            202,
            "{body}"
        );
    }
    // Four that come together are one look; the next is a second later.
    assert_eq!(door.looks().await, 1);
    assert_eq!(door.looks().await, 0);
    let other = r#"{"ref":"refs/heads/other"}"#;
    assert_eq!(door.post(&door.path, "", other.as_bytes()).await.0, 202);
    assert_eq!(door.looks().await, 0, "the branch filters");
}

#[tokio::test]
async fn a_path_that_is_guessed_is_not_found_and_one_that_is_flooded_is_slowed_down() {
    let (door, _folder) = open(None).await;
    let (rest, mac) = door.path.rsplit_once('/').unwrap();
    let other = rest.replace("team", "other");
    for path in [
        format!("{rest}/{}", "A".repeat(mac.len())),
        format!("{other}/{mac}"),
        format!("{rest}/x"),
        "/hooks/a".into(),
    ] {
        assert_eq!(door.post(&path, "", b"").await.0, 404, "{path}");
    }
    assert_eq!(door.looks().await, 0);
    let mut answers = vec![];
    for _ in 0..OF_A_PATH * 3 {
        answers.push(door.post(&door.path, "", b"").await.0);
    }
    assert!(
        answers.contains(&429) && answers.contains(&202),
        "{answers:?}"
    );
    assert_eq!(door.looks().await, 1, "nothing is lost");
}

#[tokio::test]
async fn a_payload_that_is_too_large_is_refused_and_a_large_one_is_not_looked_into() {
    let (door, _folder) = open(None).await;
    let (status, words) = door
        .post(&door.path, "", &vec![b'x'; 10 * 1024 * 1024])
        .await;
    assert!(
        status == 413 && words.contains("at most 5 MiB"),
        "{status} {words}"
    );
    assert_eq!(door.looks().await, 0);
    let large = format!(
        r#"{{"ref":"refs/heads/other","text":"{}"}}"#,
        "x".repeat(READ)
    );
    assert_eq!(door.post(&door.path, "", large.as_bytes()).await.0, 202);
    assert_eq!(door.looks().await, 1);
}

#[tokio::test]
async fn where_a_secret_is_given_only_who_knows_it_is_heard() {
    let (door, folder) = open(Some("hunter22")).await;
    let body = br#"{"ref":"refs/heads/main"}"#;
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"hunter22");
    let hex: String = hmac::sign(&key, body)
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    for wrong in [
        String::new(),
        "x-gitlab-token: hunter2\r\n".into(),
        format!("x-hub-signature-256: sha256={}\r\n", "0".repeat(64)),
        // The right token beside a wrong signature.
        "x-hub-signature-256: sha256=00\r\nx-gitlab-token: hunter22\r\n".into(),
    ] {
        assert_eq!(door.post(&door.path, &wrong, body).await.0, 401, "{wrong}");
    }
    assert_eq!(door.looks().await, 0);
    tokio::time::sleep(Duration::from_secs(1)).await;
    for right in [
        format!("x-hub-signature-256: sha256={hex}\r\n"),
        format!("x-hub-signature: sha256={hex}\r\n"),
        format!("x-gitea-signature: {}\r\n", hex.to_uppercase()),
        "x-gitlab-token: hunter22\r\n".into(),
    ] {
        assert_eq!(door.post(&door.path, &right, body).await.0, 202, "{right}");
    }
    assert_eq!(door.looks().await, 1);
    tokio::time::sleep(Duration::from_secs(1)).await;
    std::fs::write(folder.path().join("secret"), " \n").unwrap();
    let gitlab = "x-gitlab-token: \r\n";
    assert_eq!(
        door.post(&door.path, gitlab, body).await.0,
        503,
        "an empty secret"
    );
}

#[test]
fn the_ref_is_read_from_the_payload_of_each_kind_of_server() {
    for (body, name) in [
        (
            json!({"ref": "refs/heads/main", "repository": {}}),
            Some("refs/heads/main"),
        ),
        (
            json!({"object_kind": "tag_push", "ref": "refs/tags/v1"}),
            Some("refs/tags/v1"),
        ),
        (
            json!({"ref": "v1", "ref_type": "tag"}),
            Some("refs/tags/v1"),
        ),
        (
            json!({"ref": "next", "ref_type": "branch"}),
            Some("refs/heads/next"),
        ),
        (
            json!({"push": {"changes": [{"new": {"type": "branch", "name": "main"}}]}}),
            Some("refs/heads/main"),
        ),
        (
            json!({"push": {"changes": [{"new": {"type": "branch", "name": "a"}}, {"new": {"type": "tag", "name": "b"}}]}}),
            None,
        ),
        (json!({"push": {"changes": [{"new": null}]}}), None),
        (json!({"zen": "ping"}), None),
        (json!([]), None),
    ] {
        assert_eq!(
            pushed(body.to_string().as_bytes()).as_deref(),
            name,
            "{body}"
        );
    }
}

#[test]
fn a_push_concerns_what_it_may_have_moved() {
    let what = |reference: serde_json::Value| What::Git {
        url: "https://h/x".into(),
        reference: serde_json::from_value(reference).unwrap(),
        secret: None,
    };
    let main = what(json!({"branch": "main"}));
    assert!(concerns(&main, Some("refs/heads/main")) && concerns(&main, None));
    assert!(
        !concerns(&main, Some("refs/heads/mainline")) && !concerns(&main, Some("refs/tags/main"))
    );
    let range = what(json!({"semver": "1.x"}));
    assert!(concerns(&range, Some("refs/tags/v1.2")) && !concerns(&range, Some("refs/heads/main")));
    assert!(concerns(&what(json!(null)), Some("refs/heads/any")));
}

#[test]
fn more_paths_than_are_counted_are_not_heard() {
    let (mut counted, now) = (Counted::default(), Instant::now());
    for at in 0..COUNTED {
        counted.by_path.insert(at.to_string(), 1);
    }
    counted.since = Some(now);
    assert!(!counted.hears("new", now));
    assert!(counted.hears("new", now + Duration::from_secs(1)));
}
