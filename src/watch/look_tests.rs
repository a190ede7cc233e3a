use std::fs;

use whittle_registry::fixtures::{Fake, answer};

use super::*;

fn servers(folder: &Path) -> Servers {
    let _ = rustls::crypto::ring::default_provider().install_default();
    Servers::new(&folder.join("secrets"), &folder.join("ca")).unwrap()
}

async fn look(servers: &mut Servers, what: &What, registries: &[RegistryConfig]) -> Looked {
    servers
        .prepare(what, |_| registries.to_vec())
        .look(what)
        .await
}

fn image(image: &str, secret: Option<&str>) -> What {
    What::Image {
        image: image.into(),
        builder: "default".into(),
        secret: secret.map(str::to_owned),
    }
}

fn git(url: &str, secret: Option<&str>) -> What {
    What::Git {
        url: url.into(),
        reference: None,
        secret: secret.map(str::to_owned),
    }
}

fn failure(looked: &Looked) -> (Reason, &str) {
    match &looked.outcome {
        Outcome::Failed { reason, message } => (*reason, message),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_image_is_asked_for_with_the_credentials_of_its_secret() {
    let folder = tempfile::tempdir().unwrap();
    let digest = format!("sha256:{}", "a".repeat(64));
    let fake = Fake::start(&[
        &answer(
            "401 Unauthorized",
            "www-authenticate: Basic realm=\"x\"\r\n",
            "",
        ),
        &answer(
            "200 OK",
            &format!("docker-content-digest: {digest}\r\n"),
            "",
        ),
    ])
    .await;
    let secret = folder.path().join("secrets/pull");
    fs::create_dir_all(&secret).unwrap();
    let config = format!(
        r#"{{"auths":{{"{}":{{"auth":"Ym9iOmh1bnRlcjIy"}}}}}}"#,
        fake.host()
    );
    fs::write(secret.join(".dockerconfigjson"), config).unwrap();
    let what = image(&format!("{}/team/hello:main", fake.host()), Some("pull"));
    let looked = look(&mut servers(folder.path()), &what, &[]).await;
    assert_eq!(looked.outcome, Outcome::Found { revision: digest });
    assert!(
        fake.asked()[1].contains("authorization: Basic Ym9iOmh1bnRlcjIy"),
        "{:?}",
        fake.asked()
    );
}

#[tokio::test]
async fn what_a_registry_answers_has_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    let mut servers = servers(folder.path());
    for (said, expected, wait) in [
        (answer("404 Not Found", "", ""), Reason::NotFound, None),
        (answer("401 Unauthorized", "", ""), Reason::Denied, None),
        (
            answer("429 Too Many Requests", "retry-after: 7\r\n", ""),
            Reason::RateLimited,
            Some(7),
        ),
        (
            answer("503 Service Unavailable", "", ""),
            Reason::Unreachable,
            None,
        ),
    ] {
        let fake = Fake::start(&[&said]).await;
        let what = image(&format!("{}/team/hello:main", fake.host()), None);
        let looked = look(&mut servers, &what, &[]).await;
        let (reason, message) = failure(&looked);
        assert_eq!(reason, expected, "{message}");
        assert_eq!(looked.retry_after, wait.map(Duration::from_secs));
        assert_eq!(fake.asked().len(), 1, "the schedule alone tries again");
    }
}

#[tokio::test]
async fn a_secret_without_credentials_is_told_without_what_is_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut servers = servers(folder.path());
    let secret = folder.path().join("secrets/bad");
    fs::create_dir_all(&secret).unwrap();
    fs::write(secret.join(".dockerconfigjson"), "hunter22").unwrap();
    let empty = folder.path().join("secrets/empty");
    fs::create_dir_all(empty).unwrap();
    for (name, said) in [
        (
            "bad",
            "invalid Docker config file in its key .dockerconfigjson",
        ),
        ("empty", "Secret empty not found, or of another type"),
        ("../tls", "invalid name"),
    ] {
        let looked = look(&mut servers, &image("127.0.0.1:1/x:1", Some(name)), &[]).await;
        let (reason, message) = failure(&looked);
        assert_eq!(reason, Reason::Denied);
        assert!(
            message.contains(said) && !message.contains("hunter22"),
            "{message}"
        );
    }
}

#[tokio::test]
async fn a_digest_is_its_own_revision_and_certificates_that_are_missing_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let mut servers = servers(folder.path());
    let digest = format!("sha256:{}", "b".repeat(64));
    let looked = look(
        &mut servers,
        &image(&format!("127.0.0.1:1/x@{digest}"), None),
        &[],
    )
    .await;
    assert_eq!(looked.outcome, Outcome::Found { revision: digest });
    let registry = RegistryConfig {
        host: "registry.example.com:5000".into(),
        ca_ref: Some(whittle_api::ConfigMapKeyRef::default()),
        ..RegistryConfig::default()
    };
    let what = image("registry.example.com:5000/x:1", None);
    let looked = look(&mut servers, &what, &[registry]).await;
    let (reason, message) = failure(&looked);
    assert_eq!(reason, Reason::Invalid);
    assert!(
        message
            .starts_with("the certificates of registry registry.example.com:5000 cannot be read"),
        "{message}"
    );
}

#[tokio::test]
async fn what_git_cannot_be_asked_is_told_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let mut servers = servers(folder.path());
    fs::create_dir_all(folder.path().join("secrets/key")).unwrap();
    let with_key = folder.path().join("secrets/ssh");
    fs::create_dir_all(&with_key).unwrap();
    fs::write(with_key.join("ssh-privatekey"), "hunter22").unwrap();
    for (url, secret, expected, said) in [
        (
            "git@h.example:x",
            None,
            Reason::Denied,
            "`ssh-keyscan h.example`",
        ),
        (
            "git@h.example:x",
            Some("key"),
            Reason::Denied,
            "Secret key: key ssh-privatekey is missing",
        ),
        (
            "git@h.example:x",
            Some("ssh"),
            Reason::Denied,
            "to key known_hosts of Secret ssh",
        ),
        (
            "https://bob:hunter22@h/x",
            None,
            Reason::Invalid,
            "credentials are not allowed",
        ),
        (
            "http://127.0.0.1:1/x",
            None,
            Reason::Unreachable,
            "git repository http://127.0.0.1:1/x cannot be read",
        ),
    ] {
        let looked = look(&mut servers, &git(url, secret), &[]).await;
        let (reason, message) = failure(&looked);
        assert_eq!(reason, expected, "{message}");
        assert!(
            message.contains(said) && !message.contains("hunter22"),
            "{message}"
        );
        assert!(!looked.answered);
    }
}

#[tokio::test]
async fn a_message_is_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("http://127.0.0.1:1/{}", "x".repeat(2000));
    let looked = look(&mut servers(folder.path()), &git(&url, None), &[]).await;
    assert!(failure(&looked).1.len() <= MESSAGE);
}

#[test]
fn what_the_kubelet_mounts_for_a_source_is_missing_or_there_whatever_is_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let servers = servers(folder.path());
    let registry = |host: &str, mirrors: &[&str]| RegistryConfig {
        host: host.into(),
        mirrors: mirrors.iter().map(|mirror| (*mirror).to_owned()).collect(),
        ca_ref: Some(whittle_api::ConfigMapKeyRef::default()),
        ..RegistryConfig::default()
    };
    let registries = [
        registry("registry.example.com", &["mirror.example.com:5000/all"]),
        registry("mirror.example.com:5000", &[]),
    ];
    let lacks = |what: &What| servers.lacks(what, |_| registries.to_vec());
    let mounted = |path: &str| fs::create_dir_all(folder.path().join(path)).unwrap();
    for what in [
        git("https://h/x", None),
        image("h/x:1", None),
        git("https://h/x", Some("../tls")),
    ] {
        assert!(!lacks(&what), "{what:?}");
    }
    for what in [
        git("https://h/x", Some("pull")),
        image("h/x:1", Some("pull")),
    ] {
        assert!(lacks(&what), "{what:?}");
    }
    mounted("secrets/pull");
    assert!(!lacks(&git("https://h/x", Some("pull"))));
    // The certificates of the registry, and of its mirror.
    let what = image("registry.example.com/x:1", Some("pull"));
    assert!(lacks(&what));
    mounted("ca/default/registry.example.com");
    assert!(lacks(&what));
    mounted("ca/default/mirror.example.com_5000");
    assert!(!lacks(&what));
}

#[tokio::test]
async fn what_is_trusted_now_makes_new_connections() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("builder");
    std::fs::create_dir(&ca).unwrap();
    let mut servers = Servers::trusting(vec![ca.clone()], folder.path(), folder.path()).unwrap();
    let image = What::Image {
        image: "registry.example.com/team/base:1".into(),
        builder: "default".into(),
        secret: None,
    };
    servers.prepare(&image, |_| vec![]);
    let before = servers.mark;
    assert_eq!(servers.registries.len(), 1);
    servers.renew();
    assert_eq!((servers.mark, servers.registries.len()), (before, 1));
    std::fs::write(ca.join("ca.crt"), "x").unwrap();
    servers.renew();
    assert_ne!(servers.mark, before);
    assert!(servers.registries.is_empty());
}
