//! A git repository that is read by ssh.

use serde_json::json;
use whittle_api::FailureReason::SourceDenied;

use crate::field::{Field, variable};
use crate::registry::files_of;

/// Makes keys and a repository, tells them in its log, and serves.
const SERVER: &str = r#"
set -e
mkdir -p /run/sshd /keys
for name in host other user stranger; do ssh-keygen -q -t ed25519 -N '' -C "$name" -f "/keys/$name"; done
git init -q --initial-branch main /tmp/tree
cd /tmp/tree
printf 'FROM scratch\nCOPY . /src/\n' > Dockerfile
printf 'ignored\n' > .dockerignore
echo yes > kept
echo no > ignored
git add --all
git -c user.name=e2e -c user.email=e2e@example.com commit -q -m first
git clone -q --bare /tmp/tree /srv/hello.git
git init -q --initial-branch main /tmp/super
cd /tmp/super
printf 'FROM scratch\nCOPY . /src/\n' > Dockerfile
printf '[submodule "lib"]\n\tpath = lib\n\turl = ../hello.git\n' > .gitmodules
mkdir lib
git update-index --add --cacheinfo "160000,$(git -C /tmp/tree rev-parse HEAD),lib"
git add Dockerfile .gitmodules
git -c user.name=e2e -c user.email=e2e@example.com commit -q -m first
git clone -q --bare /tmp/super /srv/super.git
cd /tmp/tree
chown -R root:root /srv/hello.git /srv/super.git
for name in user stranger; do echo "BEGIN $name"; cat "/keys/$name"; echo "END $name"; done
for name in host other; do echo "BEGIN $name"; cut -d' ' -f1,2 "/keys/$name.pub"; echo "END $name"; done
echo "BEGIN commit"; git rev-parse HEAD; echo "END commit"
exec /usr/sbin/sshd -D -e -h /keys/host -o StrictModes=no -o AuthorizedKeysFile=/keys/user.pub
"#;

/// What it has told under this name.
pub fn section<'a>(log: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = log.split_once(&format!("BEGIN {name}\n"))?;
    rest.split_once(&format!("END {name}\n"))
        .map(|(text, _)| text)
}

/// Starts the server; its host, and what it has told.
pub async fn serve(field: &Field) -> (String, String) {
    let labels = json!({"app": "sshd"});
    let image = format!("{}/e2e/git-over-ssh:latest", variable("REGISTRY"));
    field
        .create(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "sshd", "labels": labels}, "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "sshd", "image": image, "command": ["sh", "-c", SERVER],
                "readinessProbe": {"tcpSocket": {"port": 22}, "periodSeconds": 1}}]}}))
        .await;
    field
        .create(
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "sshd"},
            "spec": {"selector": labels, "ports": [{"port": 22}]}}),
        )
        .await;
    let log = field
        .until("the server has told its keys", async || {
            let log = field.log("sshd").await;
            section(&log, "commit").map(|_| log.clone())
        })
        .await;
    (format!("sshd.{}.svc", field.namespace), log)
}

#[tokio::test]
async fn a_repository_is_read_by_ssh_only_from_the_server_that_is_known() {
    let field = Field::new("ssh").await;
    let (host, log) = serve(&field).await;
    let known = |key: &str| format!("{host} {}", section(&log, key).unwrap());
    for (name, key, known_hosts) in [
        ("right", "user", Some(known("host"))),
        ("unknown", "user", None),
        ("another", "user", Some(known("other"))),
        ("stranger", "stranger", Some(known("host"))),
    ] {
        let mut data = json!({"ssh-privatekey": section(&log, key).unwrap()});
        if let Some(known_hosts) = known_hosts {
            data["known_hosts"] = json!(known_hosts);
        }
        field
            .create(
                json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name},
                "type": "kubernetes.io/ssh-auth", "stringData": data}),
            )
            .await;
        let url = format!("ssh://root@{host}/srv/hello.git");
        let source = json!({"git": {"url": url, "secretRef": {"name": name}}});
        field.apply(name, source, json!({})).await;
    }
    let url = format!("ssh://root@{host}/srv/super.git");
    let source = json!({"git": {"url": url, "secretRef": {"name": "right"}}});
    field.apply("submodule", source, json!({})).await;
    let url = format!("root@{host}:/srv/hello.git");
    field
        .apply("without", json!({"git": {"url": url}}), json!({}))
        .await;
    let status = field.succeeds("right").await;
    let commit = section(&log, "commit").unwrap().trim();
    assert_eq!(status.revision.unwrap(), format!("main@sha1:{commit}"));
    let files: Vec<String> = files_of(&field.image("right"), &status.digest.unwrap())
        .await
        .into_keys()
        .collect();
    assert_eq!(files, ["src/.dockerignore", "src/Dockerfile", "src/kept"]);
    let status = field.succeeds("submodule").await;
    let files = files_of(&field.image("submodule"), &status.digest.unwrap()).await;
    assert_eq!(files["src/lib/kept"], b"yes\n");
    for (name, words) in [
        ("unknown", "Secret unknown is missing key known_hosts"),
        ("another", "host key verification failed: the host key"),
        (
            "stranger",
            "is denied with the credentials in Secret stranger",
        ),
        ("without", "name a Secret of type kubernetes.io/ssh-auth"),
    ] {
        let failure = field.fails(name, SourceDenied).await;
        assert!(
            failure.message.contains(words),
            "{name}: {}",
            failure.message
        );
    }
    field.close().await;
}
