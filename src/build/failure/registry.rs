//! What BuildKit's words about a registry mean.

use whittle_registry::answer::{Kind, told};

/// How a registry failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// 401 or 403, or words to that effect.
    Denied,
    /// What was asked for is not there.
    NotFound,
    /// Another 4xx: asking again gives the same.
    Refused,
    /// 429, 5xx, or no connection: asking again may help.
    Away,
    /// The connection's other end is not whom it should be, or does not speak TLS.
    Untrusted,
    /// Nothing of these.
    Unclear,
}

/// Words of Go's network errors.
const NETWORK: [&str; 20] = [
    "connection refused",
    "no such host",
    "i/o timeout",
    "network is unreachable",
    "no route to host",
    "connection reset",
    "connection timed out",
    "tls handshake timeout",
    "context deadline exceeded",
    "client.timeout exceeded",
    "server misbehaving",
    "temporary failure in name resolution",
    "broken pipe",
    "use of closed network connection",
    "unexpected eof",
    "could not resolve host",
    "could not resolve proxy",
    "failed to connect to",
    "stream error: stream id",
    "server sent goaway",
];

/// Reads a fault out of an error text.
pub(super) fn fault(error: &str) -> Fault {
    let lower = before_answer(error).to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    if has(&[
        "x509:",
        "server gave http response to https client",
        "tls: failed to verify",
        "invalid peer certificate",
    ]) {
        return Fault::Untrusted;
    }
    if has(&NETWORK) || lower.ends_with(": eof") {
        return Fault::Away;
    }
    match kind(error) {
        Kind::Denied | Kind::Expired | Kind::Blocked => Fault::Denied,
        Kind::NotFound | Kind::Missing => Fault::NotFound,
        Kind::Away | Kind::RateLimited => Fault::Away,
        Kind::Unclear => Fault::Unclear,
        Kind::Immutable
        | Kind::Overwrite
        | Kind::TooLarge
        | Kind::Quota
        | Kind::ReadOnly
        | Kind::NoHead
        | Kind::NoRegistry
        | Kind::WantsTls
        | Kind::Format
        | Kind::Refused => Fault::Refused,
    }
}

/// What an answer that the error tells of comes down to.
pub(super) fn kind(error: &str) -> Kind {
    told(inner(error)).kind
}

/// The error without what BuildKit puts before the registry's own words: which may name a repository of any name.
fn inner(error: &str) -> &str {
    const BEFORE: [&str; 2] = ["failed to push ", "failed to resolve source metadata for "];
    for before in BEFORE {
        if let Some(at) = error.find(before)
            && let Some((_, rest)) = error[at + before.len()..].split_once(": ")
        {
            return rest;
        }
    }
    error
}

/// An error up to where a registry or a server begins to speak: what stands behind is a stranger's, and says nothing of the
/// builder.
///
/// Of answers in the form that registries have for errors BuildKit leaves the status out, and puts their code in its place
/// (<https://github.com/moby/buildkit/blob/v0.33.1/util/errutil/errutil.go>).
pub(super) fn before_answer(error: &str) -> &str {
    const ANSWERS: [&str; 3] = [
        "unexpected status",
        "server message: ",
        "invalid response status",
    ];
    const ASKED: [&str; 4] = [
        "failed to push ",
        "failed to resolve source metadata for ",
        "failed to authorize: ",
        "httpReadSeeker: ",
    ];
    const CODES: [&str; 18] = [
        "unknown",
        "unsupported",
        "unauthorized",
        "denied",
        "unavailable",
        "toomanyrequests",
        "blob unknown",
        "blob upload invalid",
        "blob upload unknown",
        "digest invalid",
        "manifest blob unknown",
        "manifest invalid",
        "manifest unknown",
        "manifest unverified",
        "name invalid",
        "name unknown",
        "size invalid",
        "tag invalid",
    ];
    let answers = ANSWERS.iter().filter_map(|words| error.find(words));
    let asked = ASKED.iter().filter_map(|words| error.find(words)).min();
    let codes = asked.into_iter().flat_map(|from| {
        CODES.iter().flat_map(move |code| {
            [format!(": {code}: "), format!("errors:\n{code}: ")]
                .into_iter()
                .filter_map(move |words| Some(from + error[from..].find(&words)?))
        })
    });
    &error[..answers.chain(codes).min().unwrap_or(error.len())]
}

/// The part of an error that says what happened, for people: the digest and URL of a request left out, and markup.
pub(super) fn cause(error: &str) -> String {
    let first = error.lines().next().unwrap_or(error);
    const MARKS: [&str; 4] = ["dial tcp ", "tls: ", "x509: ", "invalid peer certificate"];
    for mark in MARKS {
        if let Some(at) = first.find(mark) {
            return first[at..].to_owned();
        }
    }
    let rest = inner(error);
    let answer = told(rest);
    let pushed = error.contains("failed to push ");
    match answer.status {
        Some(_) => answer.said,
        None if pushed => without_queries(&answer.said),
        None => without_queries(first),
    }
}

/// A text with its URLs up to their query: of a registry's storage that is what opens it, of an upload its state.
fn without_queries(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("://") {
        let ends = |c: char| c.is_whitespace() || c == '"';
        let (url, behind) = after.split_at(after.find(ends).unwrap_or(after.len()));
        out.push_str(before);
        out.push_str("://");
        out.push_str(url.split('?').next().unwrap_or(url));
        rest = behind;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each as BuildKit 0.33.1 said it.
    const REAL: [(&str, Fault, &str); 9] = [
        (
            "failed to push 127.0.0.1:5001/t/x: unexpected status from HEAD request to http://127.0.0.1:5001/v2/t/x/blobs/sha256:d7d2: 401 Unauthorized",
            Fault::Denied,
            "401 Unauthorized",
        ),
        (
            "failed to push 127.0.0.1:5010/s403/x: denied",
            Fault::Denied,
            "denied",
        ),
        (
            "failed to push 127.0.0.1:5010/x: unexpected status from HEAD request to http://127.0.0.1:5010/v2/x/blobs/sha256:d7d2: 503 Service Unavailable",
            Fault::Away,
            "503 Service Unavailable",
        ),
        (
            "failed to push 127.0.0.1:5010/x: unexpected status from HEAD request to http://127.0.0.1:5010/v2/x/blobs/sha256:d7d2: 429 Too Many Requests",
            Fault::Away,
            "429 Too Many Requests",
        ),
        (
            "failed to push 127.0.0.1:5009/t/x: failed to do request: Head \"http://127.0.0.1:5009/v2/t/x/blobs/sha256:d7d2\": dial tcp 127.0.0.1:5009: connect: connection refused",
            Fault::Away,
            "dial tcp 127.0.0.1:5009: connect: connection refused",
        ),
        (
            "nosuch:1: failed to resolve source metadata for docker.io/library/nosuch:1: docker.io/library/nosuch:1: not found",
            Fault::NotFound,
            "nosuch:1: failed to resolve source metadata for docker.io/library/nosuch:1: docker.io/library/nosuch:1: not found",
        ),
        (
            "x/y:1: failed to resolve source metadata for 127.0.0.1:5001/x/y:1: unexpected status from HEAD request to http://127.0.0.1:5001/v2/x/y/manifests/1: 400 Bad Request",
            Fault::Refused,
            "400 Bad Request",
        ),
        (
            "pull access denied, repository does not exist or may require authorization: server message: insufficient_scope: authorization failed",
            Fault::Denied,
            "pull access denied, repository does not exist or may require authorization: server message: insufficient_scope: authorization failed",
        ),
        (
            "failed to push 127.0.0.1:5003/t/x: failed to do request: Head \"https://127.0.0.1:5003/v2/t/x\": tls: failed to verify certificate: x509: certificate signed by unknown authority",
            Fault::Untrusted,
            "tls: failed to verify certificate: x509: certificate signed by unknown authority",
        ),
    ];

    #[test]
    fn every_fault_is_told_from_the_others_and_its_cause_is_short() {
        for (text, expected, words) in REAL {
            assert_eq!(fault(text), expected, "{text}");
            assert_eq!(cause(text), words);
        }
    }

    #[test]
    fn what_opens_a_registrys_storage_is_not_told() {
        let said = |words: &str| {
            cause(&format!(
                "{words}failed to do request: Get \"https://b.s3.example.com/x?X-Amz-Signature=0123abcd\": EOF"
            ))
        };
        for words in ["", "failed to push r.example.com/x: "] {
            let expected = "failed to do request: Get \"https://b.s3.example.com/x\": EOF";
            assert_eq!(said(words), expected);
        }
    }

    #[test]
    fn a_token_server_that_is_away_is_no_denial() {
        let text = "failed to authorize: failed to fetch oauth token: Post \"https://auth.example.com/token\": dial tcp 10.0.0.1:443: i/o timeout";
        assert_eq!(fault(text), Fault::Away);
    }
}
