//! What BuildKit's words about a registry mean.

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
const NETWORK: [&str; 17] = [
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
    "failed to connect to",
];

const DENIED: [&str; 7] = [
    "denied",
    "insufficient_scope",
    "unauthorized",
    "authentication required",
    "no basic auth credentials",
    "authorization failed",
    "failed to authorize",
];

/// Reads a fault out of an error text.
pub(super) fn fault(error: &str) -> Fault {
    let lower = error.to_lowercase();
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
    match status(error) {
        Some(401 | 403) => return Fault::Denied,
        Some(404) => return Fault::NotFound,
        Some(408 | 429 | 500..) => return Fault::Away,
        Some(400..=499) => return Fault::Refused,
        _ => {}
    }
    if has(&DENIED) {
        Fault::Denied
    } else if has(&["not found", "name unknown", "manifest unknown"]) {
        Fault::NotFound
    } else if has(&["toomanyrequests"]) {
        Fault::Away
    } else {
        Fault::Unclear
    }
}

/// The HTTP status in texts such as
/// `unexpected status from HEAD request to http://host/v2/…: 401 Unauthorized`.
fn status(error: &str) -> Option<u16> {
    let rest = &error[error.find("unexpected status")?..];
    rest.match_indices(": ").find_map(|(at, _)| {
        let code = rest.get(at + 2..at + 5)?;
        let after = rest.as_bytes().get(at + 5);
        (code.bytes().all(|b| b.is_ascii_digit()) && after.is_none_or(|b| *b == b' '))
            .then(|| code.parse().ok())
            .flatten()
    })
}

/// The part of an error that says what happened, for people: the digest and URL of a request left out.
pub(super) fn cause(error: &str) -> String {
    let last = error.lines().next().unwrap_or(error);
    const MARKS: [&str; 5] = [
        "dial tcp ",
        "unexpected status from ",
        "tls: ",
        "x509: ",
        "invalid peer certificate",
    ];
    for mark in MARKS {
        let Some(at) = last.find(mark) else { continue };
        let rest = &last[at..];
        return match mark {
            "unexpected status from " => rest
                .rsplit_once(": ")
                .map_or(rest, |(_, status)| status)
                .to_owned(),
            _ => rest.to_owned(),
        };
    }
    last.to_owned()
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
            "failed to push 127.0.0.1:5010/s403/x: denied",
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
    fn a_token_server_that_is_away_is_no_denial() {
        let text = "failed to authorize: failed to fetch oauth token: Post \"https://auth.example.com/token\": dial tcp 10.0.0.1:443: i/o timeout";
        assert_eq!(fault(text), Fault::Away);
    }
}
