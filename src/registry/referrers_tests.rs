use super::*;
use crate::fixtures::{Fake, answer};

const IMAGE: &[u8] = br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":0},"layers":[]}"#;
const TYPE: &str = "application/vnd.example.report.v1+json";

fn ok(headers: &str) -> String {
    answer("201 Created", headers, "")
}

/// HEAD, POST, PUT of a blob that is not there.
fn upload() -> Vec<String> {
    vec![
        answer("404 Not Found", "", ""),
        answer(
            "202 Accepted",
            "location: /v2/team/hello/blobs/uploads/1?state=a\r\n",
            "",
        ),
        ok(""),
    ]
}

fn lines(fake: &Fake) -> Vec<String> {
    fake.asked()
        .iter()
        .map(|asked| asked.lines().next().unwrap().to_owned())
        .collect()
}

async fn start(answers: Vec<String>) -> Fake {
    Fake::start(&answers.iter().map(String::as_str).collect::<Vec<_>>()).await
}

#[tokio::test]
async fn an_artifact_refers_to_its_image_and_a_registry_with_lists_needs_no_tag() {
    // The empty config is there already.
    let mut answers = vec![answer("200 OK", "", "")];
    answers.extend(upload());
    answers.push(ok("oci-subject: sha256:0\r\n"));
    let fake = start(answers).await;
    let digest = attach(&fake.client(None), IMAGE, TYPE, b"{\"a\":1}")
        .await
        .unwrap();
    let asked = fake.asked();
    assert_eq!(asked.len(), 5, "{asked:#?}");
    let blob = digest_of(b"{\"a\":1}").replace(':', "%3A");
    assert!(
        lines(&fake)[3].starts_with(&format!(
            "PUT /v2/team/hello/blobs/uploads/1?state=a&digest={blob}"
        )),
        "{}",
        lines(&fake)[3]
    );
    let (_, body) = asked[4].split_once("\r\n\r\n").unwrap();
    assert_eq!(digest_of(body.as_bytes()), digest);
    let manifest: ManifestDocument = serde_json::from_str(body).unwrap();
    assert_eq!(manifest.subject.as_ref().unwrap().digest, digest_of(IMAGE));
    assert_eq!(manifest.artifact_type, TYPE);
}

#[tokio::test]
async fn a_registry_without_lists_gets_the_tag_and_what_others_entered_stays() {
    let other = r#"{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","artifactType":"application/spdx+json","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":1}]}"#;
    let mut answers = vec![answer("200 OK", "", ""), answer("200 OK", "", "")];
    answers.extend([ok(""), answer("200 OK", "", other), ok("")]);
    let fake = start(answers).await;
    let digest = attach(&fake.client(None), IMAGE, TYPE, b"{}")
        .await
        .unwrap();
    let tag = digest_of(IMAGE).replace(':', "-");
    let lines = lines(&fake);
    assert!(
        lines[3].contains(&tag) && lines[4].contains(&tag),
        "{lines:?}"
    );
    let asked = fake.asked();
    let (_, body) = asked[4].split_once("\r\n\r\n").unwrap();
    let index: IndexDocument = serde_json::from_str(body).unwrap();
    let digests: Vec<String> = index
        .manifests
        .into_iter()
        .map(|entry| entry.digest)
        .collect();
    assert_eq!(digests.len(), 2);
    assert_eq!(digests[1], digest);
}

#[tokio::test]
async fn an_artifact_is_found_by_its_type_also_under_the_tag() {
    let report = "{\"a\":1}";
    let artifact = format!(
        r#"{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}","config":{{"mediaType":"application/vnd.oci.empty.v1+json","digest":"{}","size":2}},"layers":[{{"mediaType":"{TYPE}","digest":"{}","size":7}}]}}"#,
        digest_of(EMPTY),
        digest_of(report.as_bytes()),
    );
    let list = format!(
        r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[{{"mediaType":"{OCI_MANIFEST}","artifactType":"{TYPE}","digest":"{}","size":{}}}]}}"#,
        digest_of(artifact.as_bytes()),
        artifact.len()
    );
    for by_tag in [false, true] {
        let mut answers = vec![];
        if by_tag {
            answers.push(answer("404 Not Found", "", ""));
        }
        for body in [&list, &artifact, &report.to_owned()] {
            answers.push(answer("200 OK", "", body));
        }
        let fake = start(answers).await;
        let client = fake.client(None);
        let found = attached(&client, &digest_of(IMAGE), TYPE, 100).await;
        assert_eq!(found.unwrap().unwrap(), report.as_bytes());
    }
}

#[tokio::test]
async fn an_image_without_artifacts_has_none() {
    let missing = answer("404 Not Found", "", "");
    let fake = start(vec![missing.clone(), missing]).await;
    let found = attached(&fake.client(None), &digest_of(IMAGE), TYPE, 100).await;
    assert_eq!(found.unwrap(), None);
}
