//! What users read where a registry refuses, whoever of BuildKit and the runner was told.

use super::tests::{judge_with, request};
use super::{Again, Facts, PushFault, SecretNotes, Verdict, push_failure};
use whittle_api::{FailureReason as R, LocalRef};

/// As buildctl prints it: the step's error, and the error at the end.
fn pushed(facts: &Facts, secret: Option<&str>, said: &str) -> Verdict {
    let mut request = request();
    request.inputs.output.secret_ref = secret.map(|name| LocalRef { name: name.into() });
    let said = format!("failed to push registry.example.com/team/hello: {said}");
    judge_with(
        &request,
        facts,
        ("exporting to image", &said, ""),
        &format!("error: failed to solve: {said}"),
    )
}

#[test]
fn each_answer_to_a_push_has_its_reason_and_its_cure() {
    const NGINX: &str = "<html>\r\n<head><title>413 Request Entity Too Large</title></head>\r\n<body>\r\n<center><h1>413 Request Entity Too Large</h1></center>\r\n<hr><center>nginx/1.25.3</center>\r\n</body>\r\n</html>\r\n";
    let url = |method: &str| {
        format!(
            "unexpected status from {method} request to https://registry.example.com/v2/team/hello/blobs/uploads/1?_state=a%3D&digest=sha256%3A00: "
        )
    };
    for (said, reason, again, words) in [
        (
            format!("{}413 Request Entity Too Large: {NGINX}", url("PUT")),
            R::PushDenied,
            Again::No,
            "rejected team/hello: 413 Request Entity Too Large, with an HTML page titled '413 Request Entity Too Large' (nginx); a layer is too large",
        ),
        (
            "denied: adding 3.0 MiB of storage resource, which when updated to current usage of 1.0 GiB will exceed the configured upper limit of 1.0 GiB.".into(),
            R::PushDenied,
            Again::No,
            "its storage quota is exceeded",
        ),
        (
            "unknown: The repository with name 'team/hello' does not exist in the registry with id '123456789012'".into(),
            R::PushDenied,
            Again::No,
            "aws ecr create-repository",
        ),
        (
            "name unknown: Repository \"docker\" not found".into(),
            R::PushDenied,
            Again::No,
            "whether the registry requires the repository to be created first",
        ),
        (
            "denied: permission_denied: write_package".into(),
            R::PushDenied,
            Again::No,
            "denied the push of team/hello: denied: permission_denied: write_package; check that the credentials",
        ),
        (
            "denied: Your authorization token has expired. Reauthenticate and try again.".into(),
            R::PushDenied,
            Again::No,
            "Secret regcred have expired",
        ),
        (
            "unsupported: The operation is unsupported.".into(),
            R::PushDenied,
            Again::No,
            "this repository is read-only",
        ),
        (
            format!("{}405 Method Not Allowed", url("HEAD")),
            R::PushDenied,
            Again::No,
            "HEAD requests are blocked",
        ),
        (
            format!("{}404 Not Found: <html><head><title>404 Not Found</title></head>", url("POST")),
            R::PushDenied,
            Again::No,
            "a web server, not a registry",
        ),
        (
            format!("{}400 Bad Request: Client sent an HTTP request to an HTTPS server.\n", url("HEAD")),
            R::PushDenied,
            Again::No,
            "remove plainHTTP",
        ),
        (
            format!("{}403 Forbidden: <html><head><title>Just a moment...</title></head>", url("POST")),
            R::PushDenied,
            Again::No,
            "allow the addresses of the builder",
        ),
        (
            format!("{}502 Bad Gateway: <html>\r\n<head><title>502 Bad Gateway</title></head>\r\n", url("POST")),
            R::PushFailed,
            Again::Later,
            "is unreachable or unavailable: 502 Bad Gateway, with an HTML page titled '502 Bad Gateway'",
        ),
        (
            "toomanyrequests: Quota exceeded for quota metric 'Requests per project per region'".into(),
            R::PushFailed,
            Again::Later,
            "rate limit exceeded",
        ),
        (
            "errors:\ndenied: requested access to the resource is denied\nunauthorized: authentication required\n".into(),
            R::PushDenied,
            Again::No,
            "denied: requested access to the resource is denied unauthorized: authentication required; check",
        ),
    ] {
        let facts = Facts {
            credentials: vec!["registry.example.com".into()],
            ..Facts::default()
        };
        let verdict = pushed(&facts, Some("regcred"), &said);
        let failure = &verdict.failure;
        assert_eq!((failure.reason, verdict.again), (reason, again), "{failure:#?}");
        assert!(failure.message.contains(words), "{failure:#?}");
        assert!(!failure.message.contains('<') && !failure.message.contains("sha256"), "{failure:#?}");
    }
}

#[test]
fn the_runner_is_told_the_same_when_it_moves_tags() {
    let request = request();
    for (how, said, words) in [
        (
            PushFault::Refused,
            "tag v1 of team/hello: 412 Precondition Failed: Failed to process request due to 'hello:v1' configured as immutable.",
            "the tag already exists and is immutable",
        ),
        (
            PushFault::Refused,
            "tag v1 of team/hello: 400 Bad Request: The image tag 'v1' already exists in the 'team/hello' repository and cannot be overwritten because the tag is immutable.",
            "use a new tag for each build in output.tags",
        ),
        (
            PushFault::Refused,
            "tag v1 of team/hello: 403 Forbidden: Not enough permissions to delete/overwrite artifact 'docker-local/app/v1/manifest.json' (user 'ci' needs DELETE permission).",
            "the account may not overwrite it",
        ),
        (
            PushFault::Refused,
            "manifest sha256:00 of team/hello: 200 OK, with an HTML page titled 'Welcome'",
            "a web server, not a registry",
        ),
        (
            PushFault::Refused,
            "tag v1 of team/hello: 415 Unsupported Media Type",
            "unsupported manifest type (OCI)",
        ),
    ] {
        let failure = push_failure(&request, &Facts::default(), how, said);
        assert_eq!(failure.reason, R::PushDenied, "{failure:#?}");
        assert!(failure.message.contains(words), "{failure:#?}");
        assert!(!failure.message.contains("created first"), "{failure:#?}");
    }
}

#[test]
fn a_secret_that_does_not_serve_is_told_what_is_wrong_with_it() {
    let said = "unexpected status from HEAD request to https://registry.example.com/v2/team/hello/blobs/sha256:d7d2: 401 Unauthorized";
    let notes = |unusable: &[(&str, &str)], helpers: &[(&str, &str)]| {
        let owned = |list: &[(&str, &str)]| {
            list.iter()
                .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
                .collect()
        };
        SecretNotes {
            unusable: owned(unusable),
            helpers: owned(helpers),
        }
    };
    let empty = [("registry.example.com", "the password is missing")];
    for (keys, secret, words) in [
        (
            &[][..],
            notes(&empty, &[("", "desktop")]),
            "Secret push uses the credential store desktop and has no password for registry.example.com",
        ),
        (
            &[],
            notes(
                &[],
                &[("registry.example.com", "ecr-login"), ("", "desktop")],
            ),
            "uses the credential store ecr-login",
        ),
        (
            &[],
            notes(&empty, &[]),
            "an invalid entry for registry.example.com: the password is missing",
        ),
        (
            &[],
            notes(
                &[(
                    "registry.example.com",
                    "its auth is invalid: not user:password in base64",
                )],
                &[("", "desktop")],
            ),
            "an invalid entry for registry.example.com: its auth is invalid: not user:password in base64",
        ),
        (
            &["registry.example.com/other"],
            notes(&[], &[]),
            "has credentials for registry.example.com/other, but not for registry.example.com/team/hello",
        ),
        (
            &["*.example.com"],
            notes(&[], &[]),
            "check that the credentials for registry.example.com in Secret push",
        ),
        (
            &["quay.io"],
            notes(&[], &[]),
            "Secret push has no credentials for registry.example.com",
        ),
    ] {
        let facts = Facts {
            credentials: keys.iter().map(|key| (*key).to_owned()).collect(),
            secret,
            ..Facts::default()
        };
        let message = pushed(&facts, Some("push"), said).failure.message;
        assert!(message.contains(words), "{message}");
    }
}

fn pulled(step_error: &str, text: &str) -> Verdict {
    judge_with(
        &request(),
        &Facts::default(),
        (
            "[internal] load metadata for r.example.com/team/base:1",
            step_error,
            "",
        ),
        &format!("error: failed to solve: {text}"),
    )
}

#[test]
fn each_answer_to_a_pull_has_its_reason_and_its_cure() {
    let source = |said: &str| {
        format!(
            "r.example.com/team/base:1: failed to resolve source metadata for r.example.com/team/base:1: {said}"
        )
    };
    for (said, reason, again, words) in [
        (
            source(
                "unexpected status from HEAD request to https://r.example.com/v2/team/base/manifests/1: 429 Too Many Requests",
            ),
            R::BaseImageUnreachable,
            Again::Later,
            "put credentials for r.example.com into a Secret",
        ),
        (
            source("encountered unknown type text/html; children may not be fetched"),
            R::BuildFailed,
            Again::No,
            "a web server, not a registry",
        ),
        (
            source("r.example.com/team/base:1: not found"),
            R::BaseImageNotFound,
            Again::No,
            "check name and tag",
        ),
        (
            source("denied: client with IP '203.0.113.7' is not allowed access."),
            R::BaseImageDenied,
            Again::No,
            "allow the addresses of the builder",
        ),
    ] {
        let verdict = pulled(&said, &said);
        let failure = &verdict.failure;
        assert_eq!(
            (failure.reason, verdict.again),
            (reason, again),
            "{failure:#?}"
        );
        assert!(
            failure
                .message
                .contains("base image r.example.com/team/base:1"),
            "{failure:#?}"
        );
        assert!(failure.message.contains(words), "{failure:#?}");
    }
    // A token server's refusal stands at the end without the image that it was for.
    let said = "failed to authorize: failed to fetch oauth token: denied";
    let verdict = pulled(&source(said), "failed to fetch oauth token: denied");
    assert_eq!(verdict.failure.reason, R::BaseImageDenied);
    assert!(
        verdict
            .failure
            .message
            .contains("access to base image r.example.com/team/base:1 is denied"),
        "{:?}",
        verdict.failure
    );
}
