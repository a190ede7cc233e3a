use futures::stream;

use super::*;
use crate::fixtures::{Fake, answer};

const LOCATION: &str = "location: /v2/team/hello/blobs/uploads/7?state=a\r\n";
const DIGEST: &str = "sha256:00";

fn bytes() -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    stream::iter([Ok("he".into()), Ok("llo".into())])
}

#[tokio::test]
async fn a_blob_is_put_at_the_upload_with_its_digest_and_length() {
    let fake = Fake::start(&[
        &answer("202 Accepted", LOCATION, ""),
        &answer("201 Created", "", ""),
    ])
    .await;
    let client = fake.client(None);
    client.push_blob(DIGEST, 5, bytes).await.unwrap();
    let asked = fake.asked();
    assert!(asked[0].starts_with("POST /v2/team/hello/blobs/uploads/ "));
    let put = "PUT /v2/team/hello/blobs/uploads/7?state=a&digest=sha256%3A00 ";
    assert!(asked[1].starts_with(put), "{}", asked[1]);
    assert!(asked[1].contains("content-length: 5\r\n"), "{}", asked[1]);
    assert!(!asked[1].contains("transfer-encoding"), "{}", asked[1]);
    assert!(asked[1].ends_with("\r\n\r\nhello"), "{}", asked[1]);
}

#[tokio::test]
async fn a_try_that_failed_is_followed_by_one_that_makes_all_bytes_again() {
    let fake = Fake::start(&[
        &answer("202 Accepted", LOCATION, ""),
        &answer("503 Service Unavailable", "", ""),
        &answer("202 Accepted", LOCATION, ""),
        &answer("201 Created", "", ""),
    ])
    .await;
    let mut made = 0;
    let client = fake.client(None);
    let make = || {
        made += 1;
        bytes()
    };
    client.push_blob(DIGEST, 5, make).await.unwrap();
    assert_eq!(made, 2);
    assert!(fake.asked()[3].ends_with("\r\n\r\nhello"));
}

#[tokio::test]
async fn a_blob_that_is_denied_is_denied_and_no_bytes_are_made() {
    let fake = Fake::start(&[&answer("403 Forbidden", "", "")]).await;
    let client = fake.client(None);
    let make = || -> stream::Empty<io::Result<Bytes>> { panic!("no bytes are asked for") };
    let error = client.push_blob(DIGEST, 5, make).await.unwrap_err();
    assert!(matches!(error, RegistryError::Denied(_)), "{error:?}");
}

#[tokio::test]
async fn a_blob_is_there_where_the_registry_says_so() {
    let fake = Fake::start(&[
        &answer("200 OK", "", ""),
        &answer("404 Not Found", "", ""),
        &answer("405 Method Not Allowed", "", ""),
        &answer("403 Forbidden", "", ""),
    ])
    .await;
    let client = fake.client(None);
    assert_eq!(client.has_blob(DIGEST).await, Ok(true));
    assert_eq!(client.has_blob(DIGEST).await, Ok(false));
    assert_eq!(client.has_blob(DIGEST).await, Ok(false));
    assert!(client.has_blob(DIGEST).await.is_err());
    assert!(fake.asked()[0].starts_with("HEAD /v2/team/hello/blobs/sha256:00 "));
}
