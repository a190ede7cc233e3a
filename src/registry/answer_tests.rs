use super::*;

const NGINX: &str = "<html>\r\n<head><title>TITLE</title></head>\r\n<body>\r\n<center><h1>TITLE</h1></center>\r\n<hr><center>nginx/1.25.3</center>\r\n</body>\r\n</html>\r\n";

fn nginx(title: &str) -> String {
    NGINX.replace("TITLE", title)
}

fn json(code: &str, message: &str) -> String {
    serde_json::json!({"errors": [{"code": code, "message": message, "detail": null}]}).to_string()
}

/// As BuildKit tells of an answer whose body it can read: the code in small letters, and the message.
fn buildkit(code: &str, message: &str) -> String {
    // Codes that it does not know are `unknown`.
    const KNOWN: [&str; 10] = [
        "UNKNOWN",
        "UNSUPPORTED",
        "UNAUTHORIZED",
        "DENIED",
        "UNAVAILABLE",
        "TOOMANYREQUESTS",
        "NAME_UNKNOWN",
        "MANIFEST_INVALID",
        "MANIFEST_UNKNOWN",
        "TAG_INVALID",
    ];
    let code = match KNOWN.contains(&code) {
        true => code.to_lowercase().replace('_', " "),
        false => "unknown".into(),
    };
    format!("{code}: {message}")
}

/// Registry; status; method; code; message; what it is.
type Row = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    Kind,
);

/// Answers in the form that the specification has for errors, as registries give them.
#[rustfmt::skip]
const SPOKEN: [Row; 54] = [
    ("ECR", "400 Bad Request", "PUT", "TAG_INVALID", "The image tag 'v1' already exists in the 'team/app' repository and cannot be overwritten because the tag is immutable.", Kind::Immutable),
    ("ECR", "400 Bad Request", "PUT", "ImageTagAlreadyExistsException", "The image tag 'v1' already exists in the 'quota/app' repository and cannot be overwritten because the repository is immutable.", Kind::Immutable),
    ("ECR", "404 Not Found", "POST", "NAME_UNKNOWN", "The repository with name 'quota/immutable' does not exist in the registry with id '123456789012'", Kind::Missing),
    ("ECR", "404 Not Found", "POST", "RepositoryNotFoundException", "The repository with name 'team/app' does not exist in the registry with id '123456789012'", Kind::Missing),
    ("ECR", "403 Forbidden", "HEAD", "DENIED", "Your authorization token has expired. Reauthenticate and try again.", Kind::Expired),
    ("ECR", "403 Forbidden", "POST", "DENIED", "User: arn:aws:iam::123456789012:user/ci is not authorized to perform: ecr:InitiateLayerUpload on resource: arn:aws:ecr:eu-central-1:123456789012:repository/team/app because no identity-based policy allows the ecr:InitiateLayerUpload action", Kind::Denied),
    ("ECR", "400 Bad Request", "PUT", "ThrottlingException", "Rate exceeded", Kind::RateLimited),
    ("ECR", "400 Bad Request", "PUT", "LimitExceededException", "The repository with name 'team/app' in registry with id '123456789012' already has the maximum allowed number of images which is '20000'", Kind::Quota),
    ("DigitalOcean", "401 Unauthorized", "POST", "UNAUTHORIZED", "registry contains 1 repositories, limit is 1", Kind::Quota),
    ("ECR", "429 Too Many Requests", "GET", "TOOMANYREQUESTS", "Rate exceeded", Kind::RateLimited),
    ("Artifact Registry", "404 Not Found", "POST", "NAME_UNKNOWN", "Repository \"docker\" not found", Kind::Missing),
    ("Artifact Registry", "403 Forbidden", "POST", "DENIED", "Permission \"artifactregistry.repositories.uploadArtifacts\" denied on resource \"projects/p/locations/europe/repositories/docker\" (or it may not exist)", Kind::Denied),
    ("Artifact Registry", "400 Bad Request", "PUT", "FAILED_PRECONDITION", "cannot update tag v1. The repository has enabled tag immutability", Kind::Immutable),
    ("Artifact Registry", "429 Too Many Requests", "PUT", "TOOMANYREQUESTS", "Quota exceeded for quota metric 'Requests per project per region' and limit 'Requests per minute'", Kind::RateLimited),
    ("Artifact Registry", "401 Unauthorized", "POST", "UNAUTHORIZED", "authentication failed", Kind::Denied),
    ("GHCR", "403 Forbidden", "POST", "DENIED", "permission_denied: write_package", Kind::Denied),
    ("GHCR", "403 Forbidden", "POST", "DENIED", "permission_denied: The token provided does not match expected scopes.", Kind::Denied),
    ("GHCR", "403 Forbidden", "POST", "DENIED", "installation not allowed to Create organization package", Kind::Denied),
    ("GHCR", "429 Too Many Requests", "GET", "TOOMANYREQUESTS", "retry-after: 544.5µs, allowed: 44000/minute", Kind::RateLimited),
    ("Harbor", "412 Precondition Failed", "PUT", "PRECONDITION", "Failed to process request due to 'app:v1' configured as immutable.", Kind::Immutable),
    ("Harbor", "403 Forbidden", "PUT", "DENIED", "adding 3.0 MiB of storage resource, which when updated to current usage of 1.0 GiB will exceed the configured upper limit of 1.0 GiB.", Kind::Quota),
    ("Harbor", "404 Not Found", "POST", "NOT_FOUND", "project immutable not found", Kind::Missing),
    ("Harbor", "401 Unauthorized", "POST", "UNAUTHORIZED", "unauthorized to access repository: quota/app, action: push: unauthorized to access repository: quota/app, action: push", Kind::Denied),
    ("Harbor", "405 Method Not Allowed", "PUT", "UNSUPPORTED", "can not push artifact to a proxy project: \"cache\"", Kind::ReadOnly),
    ("Harbor", "403 Forbidden", "POST", "DENIED", "The system is in read only mode. Any modification is prohibited.", Kind::ReadOnly),
    ("Quay", "401 Unauthorized", "POST", "UNAUTHORIZED", "Invalid Username or Password", Kind::Denied),
    ("Quay", "401 Unauthorized", "POST", "UNAUTHORIZED", "access to the requested resource is not authorized", Kind::Denied),
    ("Quay", "403 Forbidden", "PUT", "DENIED", "Quota has been exceeded on namespace", Kind::Quota),
    ("Quay", "405 Method Not Allowed", "PUT", "UNSUPPORTED", "System is currently read-only. Pulls will succeed but all write operations are currently suspended.", Kind::ReadOnly),
    ("Quay", "400 Bad Request", "PUT", "MANIFEST_INVALID", "manifest invalid", Kind::Format),
    ("Artifactory", "403 Forbidden", "PUT", "DENIED", "Not enough permissions to delete/overwrite artifact 'docker-local/app/v1/manifest.json' (user 'ci' needs DELETE permission).", Kind::Overwrite),
    ("Artifactory", "403 Forbidden", "POST", "DENIED", "The client does not have permission to push to the repository.", Kind::Denied),
    ("Artifactory", "404 Not Found", "POST", "NAME_UNKNOWN", "Repo key 'docker-local' not found", Kind::Missing),
    ("Artifactory", "413 Request Entity Too Large", "PUT", "UNKNOWN", "Datastore disk usage is too high. Contact your Artifactory administrator to add additional storage space or change the disk quota limits.", Kind::Quota),
    ("Docker Hub", "401 Unauthorized", "HEAD", "UNAUTHORIZED", "authentication required", Kind::Denied),
    ("Docker Hub", "403 Forbidden", "POST", "DENIED", "requested access to the resource is denied", Kind::Denied),
    ("Docker Hub", "429 Too Many Requests", "GET", "TOOMANYREQUESTS", "You have reached your unauthenticated pull rate limit. https://www.docker.com/increase-rate-limit", Kind::RateLimited),
    ("Docker Hub", "401 Unauthorized", "GET", "UNAUTHORIZED", "incorrect username or password", Kind::Denied),
    ("Zot", "404 Not Found", "GET", "MANIFEST_UNKNOWN", "manifest unknown", Kind::NotFound),
    ("Zot", "403 Forbidden", "POST", "DENIED", "requested access to the resource is denied", Kind::Denied),
    ("Zot", "415 Unsupported Media Type", "PUT", "MANIFEST_INVALID", "manifest invalid", Kind::Format),
    ("GitLab", "403 Forbidden", "POST", "DENIED", "access forbidden", Kind::Denied),
    ("GitLab", "403 Forbidden", "PUT", "DENIED", "cannot overwrite: the tag is protected", Kind::Immutable),
    ("GitLab", "403 Forbidden", "POST", "DENIED", "Your action has been rejected because the namespace storage limit has been reached", Kind::Quota),
    ("ACR", "401 Unauthorized", "POST", "UNAUTHORIZED", "authentication required, visit https://aka.ms/acr/authorization for more information.", Kind::Denied),
    ("ACR", "403 Forbidden", "GET", "DENIED", "client with IP '203.0.113.7' is not allowed access. Refer https://aka.ms/acr/firewall to grant access.", Kind::Blocked),
    ("ACR", "405 Method Not Allowed", "PUT", "UNSUPPORTED", "The operation is unsupported.", Kind::ReadOnly),
    ("ACR", "429 Too Many Requests", "PUT", "TOOMANYREQUESTS", "too many requests", Kind::RateLimited),
    ("Nexus", "400 Bad Request", "PUT", "DENIED", "Repository does not allow updating assets: docker-hosted", Kind::Immutable),
    ("Nexus", "401 Unauthorized", "POST", "UNAUTHORIZED", "access to the requested resource is not authorized", Kind::Denied),
    ("Nexus", "403 Forbidden", "POST", "DENIED", "deploying to groups is a PRO-licensed feature. See https://links.sonatype.com/product-nexus-repository", Kind::ReadOnly),
    ("Gitea", "401 Unauthorized", "POST", "UNAUTHORIZED", "", Kind::Denied),
    ("Gitea", "413 Request Entity Too Large", "PUT", "SIZE_INVALID", "quota exceeded", Kind::Quota),
    ("Gitea", "403 Forbidden", "POST", "DENIED", "user token does not have the scope write:package: permission denied", Kind::Denied),
];

#[test]
fn each_registrys_words_have_one_meaning_for_both_who_meet_them() {
    for (registry, status, method, code, message, expected) in SPOKEN {
        let found = answer(status, method, None, json(code, message).as_bytes());
        assert_eq!(found.kind, expected, "{registry}: {message}");
        assert!(found.said.starts_with(status), "{}", found.said);
        // As our own client tells it, and it is read again.
        let again = told(&format!("tag v1 of quota/immutable: {}", found.said));
        assert_eq!(again.kind, expected, "{registry}: {}", found.said);
        // As BuildKit tells it: without the status, so what is known by that alone is known otherwise.
        if message.is_empty() {
            continue;
        }
        let text = buildkit(code, message);
        let found = told(&text);
        let again = matches!(found.kind, Kind::RateLimited | Kind::Away | Kind::Unclear);
        let by_status = [Kind::Format, Kind::ReadOnly, Kind::Denied];
        assert!(
            found.kind == expected || by_status.contains(&expected) && !again,
            "{registry}: {text}: {:?}",
            found.kind
        );
        assert_eq!(
            found.said,
            bounded(text.trim_end_matches('.').to_owned(), 300)
        );
    }
}

#[test]
fn pages_are_named_by_their_title_and_server_and_never_shown() {
    let cloudflare = "<!DOCTYPE html>\n<html lang=\"en-US\"><head><title>Just a moment...</title><meta></head><body></body></html>";
    for (status, method, server, body, expected, said) in [
        (
            "413 Request Entity Too Large",
            "PUT",
            None,
            nginx("413 Request Entity Too Large"),
            Kind::TooLarge,
            "413 Request Entity Too Large, with an HTML page titled '413 Request Entity Too Large' (nginx)",
        ),
        (
            "413 Payload Too Large",
            "PATCH",
            Some("cloudflare"),
            "<html><head><title>413 Payload Too Large</title></head></html>".into(),
            Kind::TooLarge,
            "413 Payload Too Large, with an HTML page titled '413 Payload Too Large' (Cloudflare)",
        ),
        (
            "502 Bad Gateway",
            "POST",
            None,
            nginx("502 Bad Gateway"),
            Kind::Away,
            "502 Bad Gateway, with an HTML page titled '502 Bad Gateway' (nginx)",
        ),
        (
            "522 <none>",
            "GET",
            Some("cloudflare"),
            "<html><title>example.com | 522: Connection timed out</title></html>".into(),
            Kind::Away,
            "522 <none>, with an HTML page titled 'example.com | 522: Connection timed out' (Cloudflare)",
        ),
        (
            "403 Forbidden",
            "GET",
            Some("cloudflare"),
            cloudflare.into(),
            Kind::Blocked,
            "403 Forbidden, with an HTML page titled 'Just a moment...' (Cloudflare)",
        ),
        (
            "200 OK",
            "GET",
            None,
            "<!doctype html><html><body>Welcome</body></html>".into(),
            Kind::NoRegistry,
            "200 OK, with an HTML page",
        ),
        (
            "404 Not Found",
            "POST",
            None,
            nginx("404 Not Found"),
            Kind::NoRegistry,
            "404 Not Found, with an HTML page titled '404 Not Found' (nginx)",
        ),
        (
            "405 Not Allowed",
            "POST",
            None,
            nginx("405 Not Allowed"),
            Kind::NoRegistry,
            "405 Not Allowed, with an HTML page titled '405 Not Allowed' (nginx)",
        ),
        (
            "401 Authorization Required",
            "HEAD",
            None,
            nginx("401 Authorization Required"),
            Kind::Denied,
            "401 Authorization Required, with an HTML page titled '401 Authorization Required' (nginx)",
        ),
        (
            "400 Bad Request",
            "GET",
            None,
            nginx("400 The plain HTTP request was sent to HTTPS port"),
            Kind::WantsTls,
            "400 Bad Request, with an HTML page titled '400 The plain HTTP request was sent to HTTPS port' (nginx)",
        ),
        (
            "429 Too Many Requests",
            "GET",
            None,
            nginx("429 Too Many Requests"),
            Kind::RateLimited,
            "429 Too Many Requests, with an HTML page titled '429 Too Many Requests' (nginx)",
        ),
        (
            "503 Service Unavailable",
            "GET",
            Some("awselb/2.0"),
            "<html><h1>503 Service Temporarily Unavailable</h1></html>".into(),
            Kind::Away,
            "503 Service Unavailable, with an HTML page titled '503 Service Temporarily Unavailable'",
        ),
    ] {
        let found = answer(status, method, server, body.as_bytes());
        assert_eq!((found.kind, found.said.as_str()), (expected, said));
        // Our own words, read again, and BuildKit's, which cuts the page after 256 bytes.
        let again = told(&format!("blob sha256:00 of team/app: {said}"));
        assert_eq!(again.kind, expected, "{said}");
        assert_eq!(again.said, said);
        let cut: String = body.chars().take(256).collect();
        let text = format!(
            "unexpected status from {method} request to http://r.example.com:5000/v2/quota/app/blobs/uploads/1?digest=sha256%3A00: {status}: {cut}... (10 bytes truncated)"
        );
        let found = told(&text);
        assert_eq!(found.kind, expected, "{text}");
        assert!(
            !found.said.contains('<') || status.contains('<'),
            "{}",
            found.said
        );
    }
}

#[test]
fn what_has_no_body_is_known_by_its_status() {
    for (status, method, expected) in [
        ("401 Unauthorized", "HEAD", Kind::Denied),
        ("403 Forbidden", "HEAD", Kind::Denied),
        ("404 Not Found", "HEAD", Kind::NotFound),
        ("405 Method Not Allowed", "HEAD", Kind::NoHead),
        ("405 Method Not Allowed", "PUT", Kind::ReadOnly),
        ("408 Request Timeout", "PUT", Kind::Away),
        ("413 Request Entity Too Large", "PUT", Kind::TooLarge),
        ("415 Unsupported Media Type", "PUT", Kind::Format),
        ("418 I'm a teapot", "PUT", Kind::Refused),
        ("429 Too Many Requests", "HEAD", Kind::RateLimited),
        ("500 Internal Server Error", "PUT", Kind::Away),
        ("502 Bad Gateway", "PUT", Kind::Away),
        ("503 Service Unavailable", "PUT", Kind::Away),
        ("507 Insufficient Storage", "PUT", Kind::Quota),
        ("520 <none>", "PUT", Kind::Away),
    ] {
        let found = answer(status, method, None, b"");
        assert_eq!((found.kind, found.said.as_str()), (expected, status));
        let text = format!("unexpected status from {method} request to http://r/v2/a/b: {status}");
        assert_eq!(told(&text).kind, expected, "{text}");
        assert_eq!(told(&text).said, status);
    }
}

#[test]
fn messages_are_found_in_the_forms_that_services_have() {
    for (body, said) in [
        (
            r#"{"errors":[{"code":"A","message":"one","detail":"two"},{"code":"THREE"}]}"#,
            "400 Bad Request: one (two); THREE",
        ),
        (
            r#"{"errors":[{"status":400,"message":"of Artifactory"}]}"#,
            "400 Bad Request: of Artifactory",
        ),
        (
            r#"{"error":{"code":400,"message":"of Google","status":"X"}}"#,
            "400 Bad Request: of Google",
        ),
        (
            r#"{"message":"of a gateway"}"#,
            "400 Bad Request: of a gateway",
        ),
        (r#"{"details":"of Docker"}"#, "400 Bad Request: of Docker"),
        (
            r#"{"error":"invalid_grant","error_description":"of OAuth"}"#,
            "400 Bad Request: of OAuth",
        ),
        (r#"{"errors":null}"#, r#"400 Bad Request: {"errors":null}"#),
        ("plain\r\nwords\u{7}", "400 Bad Request: plain words"),
        ("", "400 Bad Request"),
    ] {
        assert_eq!(
            answer("400 Bad Request", "PUT", None, body.as_bytes()).said,
            said
        );
    }
    let long = answer("400 Bad Request", "PUT", None, "x".repeat(5000).as_bytes());
    assert!(long.said.len() < 350, "{}", long.said.len());
}

#[test]
fn networks_and_other_words_are_unclear_here() {
    for text in [
        "dial tcp 10.0.0.1:443: connect: connection refused",
        "something else",
        "",
    ] {
        assert_eq!(told(text).kind, Kind::Unclear, "{text}");
    }
    assert_eq!(
        told("encountered unknown type text/html; children may not be fetched").kind,
        Kind::NoRegistry
    );
    assert_eq!(
        told("pull access denied, repository does not exist or may require authorization: server message: insufficient_scope: authorization failed").kind,
        Kind::Denied
    );
    assert_eq!(
        told("docker.io/library/nosuch:1: not found").kind,
        Kind::NotFound
    );
}
