use tokio::net::TcpListener;

use std::sync::Arc;

use super::*;
use crate::fixtures::{Fake, answer};

fn bob() -> Option<Credentials> {
    Some(Credentials::Basic {
        username: "bob".into(),
        password: "hunter22".into(),
    })
}

#[tokio::test]
async fn a_manifest_comes_back_byte_for_byte() {
    let fake = Fake::start(&[&answer("200 OK", "", "{ \"a\":1 }\n")]).await;
    let bytes = fake.client(None).manifest("sha256:00").await.unwrap();
    assert_eq!(bytes, b"{ \"a\":1 }\n");
    let asked = &fake.asked()[0];
    assert!(
        asked.starts_with("GET /v2/team/hello/manifests/sha256:00 HTTP/1.1"),
        "{asked}"
    );
    assert!(
        asked.contains(OCI_INDEX) && asked.contains(DOCKER_MANIFEST),
        "{asked}"
    );
}

#[tokio::test]
async fn a_tag_is_put_with_the_bytes_and_their_media_type() {
    let fake = Fake::start(&[&answer("201 Created", "", "")]).await;
    fake.client(None)
        .put_manifest("v1", OCI_MANIFEST, b"{}")
        .await
        .unwrap();
    let asked = &fake.asked()[0];
    assert!(
        asked.starts_with("PUT /v2/team/hello/manifests/v1 "),
        "{asked}"
    );
    assert!(
        asked.contains(&format!("content-type: {OCI_MANIFEST}")),
        "{asked}"
    );
    assert!(asked.ends_with("\r\n\r\n{}"), "{asked}");
}

#[tokio::test]
async fn a_password_is_sent_only_when_asked_for_and_then_remembered() {
    let fake = Fake::start(&[
        &answer(
            "401 Unauthorized",
            "www-authenticate: Basic realm=\"x\"\r\n",
            "",
        ),
        &answer("200 OK", "", "one"),
        &answer("200 OK", "", "two"),
    ])
    .await;
    let client = fake.client(bob());
    assert_eq!(client.manifest("a").await.unwrap(), b"one");
    assert_eq!(client.manifest("b").await.unwrap(), b"two");
    let asked = fake.asked();
    assert!(!asked[0].contains("authorization"));
    assert!(asked[1].contains("authorization: Basic Ym9iOmh1bnRlcjIy"));
    assert!(asked[2].contains("authorization: Basic Ym9iOmh1bnRlcjIy"));
}

const BEARER: &str =
    "www-authenticate: Bearer realm=\"http://HOST/token\",service=\"reg istry\"\r\n";

#[tokio::test]
async fn a_password_is_exchanged_for_a_token() {
    let fake = Fake::start(&[
        &answer("401 Unauthorized", BEARER, ""),
        &answer("200 OK", "", "{\"token\":\"t0\"}"),
        &answer("200 OK", "", "one"),
    ])
    .await;
    fake.client(bob()).manifest("a").await.unwrap();
    let asked = fake.asked();
    assert!(
        asked[1].starts_with(
            "GET /token?scope=repository%3Ateam%2Fhello%3Apull%2Cpush&service=reg+istry HTTP"
        ),
        "{}",
        asked[1]
    );
    assert!(asked[1].contains("authorization: Basic Ym9iOmh1bnRlcjIy"));
    assert!(asked[2].contains("authorization: Bearer t0"));
}

#[tokio::test]
async fn who_only_reads_asks_for_no_more() {
    let fake = Fake::start(&[
        &answer("401 Unauthorized", BEARER, ""),
        &answer("200 OK", "", "{\"token\":\"t0\"}"),
        &answer("200 OK", "", "one"),
    ])
    .await;
    let client = fake.client_for(Access::Pull, None);
    client.manifest("a").await.unwrap();
    let asked = &fake.asked()[1];
    assert!(
        asked.starts_with("GET /token?scope=repository%3Ateam%2Fhello%3Apull&service="),
        "{asked}"
    );
}

#[tokio::test]
async fn an_identity_token_is_exchanged_by_post() {
    let fake = Fake::start(&[
        &answer("401 Unauthorized", BEARER, ""),
        &answer("200 OK", "", "{\"access_token\":\"t1\"}"),
        &answer("200 OK", "", "one"),
    ])
    .await;
    let client = fake.client(Some(Credentials::Refresh("id&t".into())));
    client.manifest("a").await.unwrap();
    let asked = fake.asked();
    assert!(asked[1].starts_with("POST /token HTTP"), "{}", asked[1]);
    assert!(
        asked[1].ends_with("grant_type=refresh_token&client_id=whittle&refresh_token=id%26t"),
        "{}",
        asked[1]
    );
    assert!(asked[2].contains("authorization: Bearer t1"));
}

#[tokio::test]
async fn a_refusal_is_denied_and_says_the_registrys_words() {
    let body = r#"{"errors":[{"code":"DENIED","message":"requested access is denied"}]}"#;
    let fake = Fake::start(&[&answer("403 Forbidden", "", body)]).await;
    assert_eq!(
        fake.client(None).manifest("a").await,
        Err(RegistryError::Denied(
            "manifest a of team/hello: 403 Forbidden: requested access is denied".into()
        ))
    );
    let fake = Fake::start(&[&answer("401 Unauthorized", "", "")]).await;
    assert!(matches!(
        fake.client(bob()).manifest("a").await,
        Err(RegistryError::Denied(_))
    ));
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let fake = Fake::start(&[&answer("404 Not Found", "", "")]).await;
    assert!(matches!(
        fake.client(None).manifest("a").await,
        Err(RegistryError::NotFound(_))
    ));
}

#[tokio::test]
async fn a_busy_registry_is_asked_again() {
    let fake = Fake::start(&[
        &answer("503 Service Unavailable", "", "away"),
        &answer("429 Too Many Requests", "retry-after: 0\r\n", ""),
        &answer("200 OK", "", "one"),
    ])
    .await;
    assert_eq!(fake.client(None).manifest("a").await.unwrap(), b"one");
}

#[tokio::test]
async fn a_token_server_that_is_away_is_transient_and_no_denial() {
    let fake = Fake::start(&[
        &answer("401 Unauthorized", BEARER, ""),
        &answer("502 Bad Gateway", "", ""),
        &answer("401 Unauthorized", BEARER, ""),
        &answer("200 OK", "", "{\"token\":\"t0\"}"),
        &answer("200 OK", "", "one"),
    ])
    .await;
    assert_eq!(fake.client(None).manifest("a").await.unwrap(), b"one");
}

#[tokio::test]
async fn nobody_at_the_other_end_is_transient() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    drop(listener);
    let fake = Fake {
        host,
        asked: Arc::default(),
    };
    let Err(RegistryError::Transient { message, .. }) = fake.client(None).manifest("a").await
    else {
        panic!("expected a transient fault");
    };
    assert!(
        message.to_lowercase().contains("connection refused"),
        "{message}"
    );
}

#[tokio::test]
async fn an_answer_has_its_words_and_is_tried_again_where_it_may_pass() {
    let json = "content-type: application/json\r\n";
    let immutable = r#"{"errors":[{"code":"TAG_INVALID","message":"The image tag 'v1' already exists in the 'a' repository and cannot be overwritten because the tag is immutable."}]}"#;
    let quota = r#"{"errors":[{"code":"DENIED","message":"this will exceed the configured upper limit of 1.0 GiB."}]}"#;
    let page = "<html>\r\n<head><title>413 Request Entity Too Large</title></head>\r\n<hr><center>nginx/1.25.3</center>";
    for (status, headers, body, message) in [
        (
            "400 Bad Request",
            json,
            immutable,
            "400 Bad Request: The image tag 'v1' already exists",
        ),
        // A refusal that no credentials mend is no denial.
        (
            "403 Forbidden",
            json,
            quota,
            "403 Forbidden: this will exceed",
        ),
        (
            "413 Payload Too Large",
            "content-type: text/html\r\n",
            page,
            "413 Payload Too Large, with an HTML page titled '413 Request Entity Too Large' (nginx)",
        ),
    ] {
        let fake = Fake::start(&[&answer(status, headers, body)]).await;
        let result = fake
            .client(None)
            .put_manifest("v1", OCI_MANIFEST, b"{}")
            .await;
        let Err(RegistryError::Other(said)) = result else {
            panic!("{result:?}");
        };
        assert!(
            said.starts_with(&format!("tag v1 of team/hello: {message}")),
            "{said}"
        );
        assert!(!said.contains('<'), "{said}");
    }
    // Once too often, then a page of something before it, then it is there.
    let busy = r#"{"errors":[{"code":"ThrottlingException","message":"Rate exceeded"}]}"#;
    let fake = Fake::start(&[
        &answer("400 Bad Request", json, busy),
        &answer("502 Bad Gateway", "server: cloudflare\r\n", "<html></html>"),
        &answer("201 Created", "", ""),
    ])
    .await;
    fake.client(None)
        .put_manifest("v1", OCI_MANIFEST, b"{}")
        .await
        .unwrap();
    assert_eq!(fake.asked().len(), 3);
}

#[tokio::test]
async fn a_page_in_place_of_a_manifest_is_that_of_a_web_server() {
    let page = "<!doctype html><html><head><title>Welcome</title></head></html>";
    let fake = Fake::start(&[&answer("200 OK", "server: nginx\r\n", page)]).await;
    assert_eq!(
        fake.client(None).manifest("v1").await,
        Err(RegistryError::Other(
            "manifest v1 of team/hello: 200 OK, with an HTML page titled 'Welcome' (nginx)".into()
        ))
    );
}

#[tokio::test]
async fn what_was_just_pushed_is_waited_for_by_its_digest_alone() {
    let gone = answer("404 Not Found", "", "");
    let fake = Fake::start(&[&gone, &gone, &answer("200 OK", "", "{}")]).await;
    let client = fake.client(None).fresh();
    assert_eq!(client.manifest("sha256:00").await.unwrap(), b"{}");
    let fake = Fake::start(&[&gone]).await;
    let client = fake.client(None).fresh();
    assert!(matches!(
        client.manifest("sha256-00").await,
        Err(RegistryError::NotFound(_))
    ));
}

#[tokio::test]
async fn a_token_server_may_fill_either_field_and_is_named_where_it_refuses() {
    for body in [
        r#"{"token":"","access_token":"t0"}"#,
        r#"{"token":"t0","access_token":""}"#,
        r#"{"token":null,"access_token":"t0"}"#,
    ] {
        let fake = Fake::start(&[
            &answer("401 Unauthorized", BEARER, ""),
            &answer("200 OK", "", body),
            &answer("200 OK", "", "one"),
        ])
        .await;
        assert_eq!(fake.client(bob()).manifest("a").await.unwrap(), b"one");
        assert!(
            fake.asked()[2].contains("authorization: Bearer t0"),
            "{body}"
        );
    }
    let fake = Fake::start(&[
        &answer("401 Unauthorized", BEARER, ""),
        &answer("403 Forbidden", "", ""),
    ])
    .await;
    assert_eq!(
        fake.client(bob()).manifest("a").await,
        Err(RegistryError::Denied(
            "token server 127.0.0.1: 403 Forbidden".into()
        ))
    );
}

#[test]
fn retry_after_is_read_in_seconds() {
    assert_eq!(retry_after(" 7 "), Some(Duration::from_secs(7)));
    assert_eq!(retry_after("Fri, 31 Dec 1999 23:59:59 GMT"), None);
}

#[tokio::test]
async fn a_query_that_opens_a_registrys_storage_is_not_told() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let url = "http://127.0.0.1:1/bucket/sha256?X-Amz-Signature=0123abcd";
    let error = reqwest::get(url).await.unwrap_err();
    assert!(error.to_string().contains("0123abcd"));
    let said = network(error).to_string();
    assert!(said.contains("/bucket/sha256"), "{said}");
    assert!(!said.contains("0123abcd"), "{said}");
}

#[tokio::test]
async fn whether_a_push_may_begin_is_asked_without_what_was_allowed_before() {
    let fake = Fake::start(&[
        &answer("200 OK", "", "one"),
        &answer(
            "202 Accepted",
            "location: /v2/team/hello/blobs/uploads/7?state=a\r\n",
            "",
        ),
        &answer("204 No Content", "", ""),
        &answer("403 Forbidden", "", ""),
    ])
    .await;
    let client = fake.client(None);
    client.manifest("sha256:00").await.unwrap();
    client.may_push().await.unwrap();
    let denied = client.may_push().await;
    assert!(
        matches!(denied, Err(RegistryError::Denied(_))),
        "{denied:?}"
    );
    let asked: Vec<String> = fake
        .asked()
        .iter()
        .map(|text| text.lines().next().unwrap().to_owned())
        .collect();
    assert_eq!(
        asked[1..],
        [
            "POST /v2/team/hello/blobs/uploads/ HTTP/1.1",
            "DELETE /v2/team/hello/blobs/uploads/7?state=a HTTP/1.1",
            "POST /v2/team/hello/blobs/uploads/ HTTP/1.1",
        ]
    );
}

#[tokio::test]
async fn the_digest_of_a_tag_is_asked_for_by_head() {
    let digest = format!("sha256:{}", "a".repeat(64));
    let header = format!("docker-content-digest: {digest}\r\n");
    let fake = Fake::start(&[
        &answer(
            "401 Unauthorized",
            "www-authenticate: Basic realm=\"x\"\r\n",
            "",
        ),
        &answer("200 OK", &header, ""),
    ])
    .await;
    assert_eq!(fake.client(bob()).digest("main").await, Ok(digest));
    let asked = &fake.asked()[1];
    assert!(
        asked.starts_with("HEAD /v2/team/hello/manifests/main ") && asked.contains(OCI_INDEX),
        "{asked}"
    );
}

#[tokio::test]
async fn where_head_does_not_say_it_the_digest_is_that_of_the_manifest() {
    for head in [
        answer("405 Method Not Allowed", "", ""),
        answer("200 OK", "", ""),
        answer("200 OK", "docker-content-digest: sha256:short\r\n", ""),
    ] {
        let fake = Fake::start(&[&head, &answer("200 OK", "", "{}")]).await;
        let found = fake.client(None).digest("main").await;
        assert_eq!(found, Ok(digest_of(b"{}")), "{head}");
    }
    let fake = Fake::start(&[&answer("404 Not Found", "", "")]).await;
    let missing = fake.client(None).digest("main").await;
    assert!(matches!(missing, Err(RegistryError::NotFound(_))));
}

#[tokio::test]
async fn a_client_beside_another_has_nothing_of_its_authorization() {
    let fake = Fake::start(&[
        &answer(
            "401 Unauthorized",
            "www-authenticate: Basic realm=\"x\"\r\n",
            "",
        ),
        &answer("200 OK", "", "one"),
        &answer("200 OK", "", "two"),
    ])
    .await;
    let client = fake.client(bob());
    client.manifest("v1").await.unwrap();
    let other = Repository::parse(&format!("{}/team/other", fake.host()));
    client.beside(other, None).manifest("v1").await.unwrap();
    let asked = &fake.asked()[2];
    assert!(
        asked.starts_with("GET /v2/team/other/") && !asked.contains("authorization"),
        "{asked}"
    );
}
