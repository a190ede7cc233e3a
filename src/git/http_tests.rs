use super::*;
use crate::fixtures::{Repository, Server};
use crate::{Range, Remote, Wanted, look};

async fn asked(url: &str, auth: &Auth, wanted: &Wanted) -> Result<String, Error> {
    look(&Http::new()?, &Remote::parse(url)?, auth, wanted).await
}

fn bob() -> Auth {
    Auth::Basic {
        username: "bob".into(),
        password: "hunter22".into(),
    }
}

#[tokio::test]
async fn real_git_answers_in_both_protocols() {
    let repository = Repository::new("sha1");
    let server = Server::start(&repository).await;
    let [second, first] = repository.commits.as_slice() else {
        panic!("two commits");
    };
    let range = |text: &str| Wanted::Versions(Range::parse(text).unwrap());
    for kind in ["open", "old"] {
        let url = format!("http://127.0.0.1:{}/{kind}/team/hello.git", server.port);
        for (wanted, expected) in [
            (Wanted::Head, repository.main()),
            (Wanted::Branch("main".into()), repository.main()),
            (
                Wanted::Branch("main-2".into()),
                format!("main-2@sha1:{first}"),
            ),
            (Wanted::Tag("v1.0.0".into()), format!("v1.0.0@sha1:{first}")),
            (
                Wanted::Tag("v1.1.0".into()),
                format!("v1.1.0@sha1:{second}"),
            ),
            (range("1.x"), format!("v1.1.0@sha1:{second}")),
            (range(">=1.0.0-0"), format!("v2.0.0-rc.1@sha1:{second}")),
        ] {
            let found = asked(&url, &Auth::None, &wanted).await;
            assert_eq!(found, Ok(expected), "{kind}: {wanted}");
        }
        for (wanted, expected) in [
            (Wanted::Branch("nope".into()), Kind::NoRef),
            (Wanted::Tag("main".into()), Kind::NoRef),
            (range(">=3"), Kind::NoMatch),
        ] {
            let error = asked(&url, &Auth::None, &wanted).await.unwrap_err();
            assert_eq!(error.kind, expected, "{kind}: {wanted}");
        }
    }
}

#[tokio::test]
async fn a_repository_with_sha256_is_read() {
    let repository = Repository::new("sha256");
    let server = Server::start(&repository).await;
    let url = format!("http://127.0.0.1:{}/open/team/hello.git/", server.port);
    let found = asked(&url, &Auth::None, &Wanted::Tag("v1.0.0".into())).await;
    assert_eq!(
        found,
        Ok(format!("v1.0.0@sha256:{}", repository.commits[1]))
    );
}

#[tokio::test]
async fn each_answer_has_its_kind_and_none_is_quoted() {
    let repository = Repository::new("sha1");
    let server = Server::start(&repository).await;
    for (kind, auth, expected) in [
        ("private", Auth::None, Kind::Denied),
        ("limited", Auth::None, Kind::RateLimited),
        ("broken", Auth::None, Kind::Unreachable),
        ("login", Auth::None, Kind::Protocol),
        ("page", Auth::None, Kind::Redirect),
        ("round", Auth::None, Kind::Redirect),
    ] {
        let url = format!("http://127.0.0.1:{}/{kind}/team/hello.git", server.port);
        let error = asked(&url, &auth, &Wanted::Head).await.unwrap_err();
        assert_eq!(error.kind, expected, "{kind}: {error}");
        assert!(!error.said.contains("hunter22"), "{error}");
        let wait = (kind == "limited").then(|| Duration::from_secs(7));
        assert_eq!(error.retry_after, wait, "{kind}");
    }
    let missing = format!("http://127.0.0.1:{}/open/team/other.git", server.port);
    let error = asked(&missing, &Auth::None, &Wanted::Head)
        .await
        .unwrap_err();
    assert_eq!(error.kind, Kind::NotFound);
    let closed = asked("http://127.0.0.1:1/x", &Auth::None, &Wanted::Head).await;
    let closed = closed.unwrap_err();
    assert_eq!(closed.kind, Kind::Unreachable);
    assert!(
        closed.said.to_lowercase().contains("connection refused"),
        "{closed}"
    );
}

#[tokio::test]
async fn credentials_follow_a_redirect_to_their_own_server_and_to_no_other() {
    let repository = Repository::new("sha1");
    let server = Server::start(&repository).await;
    let of = |kind: &str| format!("http://127.0.0.1:{}/{kind}/team/hello.git", server.port);
    assert_eq!(
        asked(&of("private"), &bob(), &Wanted::Head).await,
        Ok(repository.main())
    );
    assert_eq!(
        asked(&of("moved"), &bob(), &Wanted::Head).await,
        Ok(repository.main())
    );
    // The second question goes where the first was sent on to.
    let last = server.asked().pop().unwrap();
    assert_eq!(
        last,
        "/private/team/hello.git/git-upload-pack with credentials"
    );
    assert_eq!(
        asked(&of("away"), &Auth::None, &Wanted::Head).await,
        Ok(repository.main())
    );
    let error = asked(&of("away"), &bob(), &Wanted::Head).await.unwrap_err();
    assert_eq!(error.kind, Kind::Redirect);
    assert!(
        error
            .said
            .contains("localhost, which must not get the credentials"),
        "{error}"
    );
    assert!(
        !server
            .asked()
            .iter()
            .any(|asked| asked == "/open/team/hello.git/info/refs with credentials")
    );
}

/// An answer that sends one on to `location`.
fn sent_on(location: &str) -> Response {
    let answer = axum::http::Response::builder()
        .status(301)
        .header("location", location);
    Response::from(answer.body("").unwrap())
}

#[test]
fn nobody_is_sent_from_https_to_http() {
    let url = Url::parse("https://h/x.git").unwrap();
    for (location, credentials, expected) in [
        ("http://h/x.git/info/refs", false, false),
        ("ftp://h/x.git/info/refs", false, false),
        ("https://h:8443/x.git/info/refs", true, false),
        ("https://other/x.git/info/refs", true, false),
        ("https://other/x.git/info/refs", false, true),
        (
            "https://h/y.git/info/refs?service=git-upload-pack",
            true,
            true,
        ),
    ] {
        let found = next(&sent_on(location), &url, credentials);
        assert_eq!(found.is_ok(), expected, "{location}: {found:?}");
    }
    let plain = Url::parse("http://h/x.git").unwrap();
    let found = next(&sent_on("https://h/x.git/info/refs"), &plain, true).unwrap();
    assert_eq!(found.as_str(), "https://h/x.git");
}

#[tokio::test]
async fn a_commit_is_known_without_asking() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let commit = "a".repeat(40);
    let found = asked(
        "http://127.0.0.1:1/x",
        &Auth::None,
        &Wanted::Commit(commit.clone()),
    )
    .await;
    assert_eq!(found, Ok(format!("sha1:{commit}")));
}
