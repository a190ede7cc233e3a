//! What is outside of the cluster and cannot be reached, or whose certificate is not trusted: which fields of the Builder lead there.

use std::collections::BTreeMap;

use super::FailureReason;
use super::network::is_inside;

/// Where an authority is named that any server may use.
pub(super) const CA_FIELD: &str =
    "caRef of the Builder (caBundle of the chart, for all namespaces)";

/// Lowercase words of git and of Go for a certificate that is not trusted.
const UNTRUSTED: [&str; 6] = [
    "ssl certificate problem",
    "server certificate verification failed",
    "certificate verify failed",
    "x509:",
    "tls: failed to verify",
    "invalid peer certificate",
];

/// A proxy that wants to know who asks.
const WHO: [&str; 4] = [
    "proxy authentication required",
    "proxy authorization required",
    "http code 407",
    "response 407",
];

/// A proxy that does not lead there: git's words, and those of the runner's own client.
const CLOSED: [&str; 4] = [
    "from proxy after connect",
    "connect tunnel failed",
    "proxy connect aborted",
    "tunnel error: unsuccessful",
];

/// What Go makes of such an answer: its status, in words alone, behind the URL.
const GO_CLOSED: [&str; 4] = [
    "\": forbidden",
    "\": bad gateway",
    "\": service unavailable",
    "\": gateway timeout",
];

/// A connection that did not come about.
const NO_CONNECTION: [&str; 9] = [
    "connection refused",
    "no such host",
    "i/o timeout",
    "timed out",
    "network is unreachable",
    "no route to host",
    "could not resolve",
    "failed to connect to",
    "couldn't connect to server",
];

/// True where a server's certificate is not trusted, by the words of git.
pub(super) fn is_untrusted(said: &str) -> bool {
    has(&said.to_lowercase(), &UNTRUSTED)
}

/// What to do, where BuildKit's error, or what the step printed, tells of a proxy, or of the want of one. `proxy`: the
/// variables of the one that holds.
pub(super) fn hint(
    proxy: &BTreeMap<String, String>,
    reason: FailureReason,
    error: &str,
    log: Option<&str>,
) -> Option<String> {
    use FailureReason as R;
    let said = match reason {
        R::SourceUnreachable
        | R::SourceNotFound
        | R::SourceDenied
        | R::BaseImageUnreachable
        | R::BaseImageDenied
        | R::PushFailed
        | R::PushDenied
        | R::CopySourceNotFound
        | R::BuildFailed => error,
        R::StepFailed => log?,
        _ => return None,
    };
    let steps = reason == R::StepFailed;
    said.lines()
        .find_map(|line| of_line(&line.to_lowercase(), proxy, steps))
}

fn of_line(line: &str, proxy: &BTreeMap<String, String>, of_step: bool) -> Option<String> {
    const FIELDS: &str = "proxy.httpProxy and proxy.httpsProxy of the Builder (proxy of the chart, for all namespaces)";
    if has(line, &WHO) {
        return Some(format!(
            "the proxy requires credentials (407), and {FIELDS} take none: let it allow the cluster's addresses without them"
        ));
    }
    let of_proxy = || proxy.iter().filter(|(name, _)| *name != "NO_PROXY");
    let hosts = || of_proxy().filter_map(|(_, url)| host(url));
    let by_name = || hosts().any(|host| names(line, &host));
    let to_proxy = line.contains("proxyconnect") || line.contains("resolve proxy");
    if to_proxy || has(line, &NO_CONNECTION) && by_name() {
        let url = of_proxy().next_back().map_or("", |(_, url)| url.as_str());
        return Some(format!(
            "the proxy {url} is unreachable: check {FIELDS}; where it is in the cluster or on a private address, an administrator \
             allows it by builder.egress.allow of the chart"
        ));
    }
    let closed = has(line, &CLOSED)
        || GO_CLOSED
            .iter()
            .any(|words| line.trim_end().ends_with(words));
    if closed && !proxy.is_empty() {
        return Some(
            "the proxy does not lead there: let it allow this host, or name the host in proxy.noProxy of the Builder (of the chart) \
             if builds reach it directly"
                .to_owned(),
        );
    }
    // Of a step it is known which tool speaks of what: its own hints are better, and most print much.
    let direct = proxy.is_empty() && !of_step && has(line, &NO_CONNECTION);
    (direct && is_public(line)).then(|| {
        "if this cluster reaches the outside only by a proxy, set proxy.httpProxy of the Builder (of the chart, for all namespaces)"
            .to_owned()
    })
}

fn has(line: &str, words: &[&str]) -> bool {
    words.iter().any(|words| line.contains(words))
}

/// The host of a proxy's URL, without a port and brackets.
fn host(url: &str) -> Option<String> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.trim_end_matches('/').to_lowercase();
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next()?,
        None => authority.split(':').next()?,
    };
    (!host.is_empty()).then(|| host.to_owned())
}

/// True where this host stands in the line as a word of its own.
fn names(line: &str, host: &str) -> bool {
    let part =
        |c: char| c.is_ascii_alphanumeric() || "-._".contains(c) || host.contains(':') && c == ':';
    line.split(|c| !part(c))
        .any(|word| word.trim_end_matches(['.', ':']) == host)
}

/// True where nothing in the line is an address or a name of the cluster.
fn is_public(line: &str) -> bool {
    let words = line.split(|c: char| c.is_whitespace() || "\"'`/()<>,;=@|".contains(c));
    let mut words = words
        .map(|word| word.rsplit_once("->").map_or(word, |(_, to)| to))
        .map(|word| word.trim_end_matches([':', '.']));
    !words.any(|word| {
        let bare = word.trim_start_matches('[');
        is_inside(word)
            || is_inside(bare)
            || bare.starts_with("localhost")
            || bare.starts_with("127.")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by(url: &str) -> BTreeMap<String, String> {
        let all = [
            ("HTTP_PROXY", url),
            ("HTTPS_PROXY", url),
            ("NO_PROXY", "localhost,registry.example.com"),
        ];
        all.map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into()
    }

    fn told(proxy: &BTreeMap<String, String>, said: &str) -> String {
        hint(proxy, FailureReason::BaseImageUnreachable, said, None).unwrap_or_default()
    }

    /// As Go, git 2.52 and the runner's own client say it.
    #[test]
    fn a_proxy_that_cannot_be_reached_is_named_with_its_fields() {
        let proxy = by("http://proxy.corp.example.com:3128");
        for line in [
            "failed to do request: Head \"https://r.example.com/v2/x/manifests/1\": proxyconnect tcp: dial tcp 10.0.0.1:3128: connect: connection refused",
            "proxyconnect tcp: dial tcp: lookup proxy.corp.example.com on 10.96.0.10:53: no such host",
            "fatal: unable to access 'https://git.example.com/x.git/': Could not resolve proxy: proxy.corp.example.com",
            "fatal: unable to access 'https://git.example.com/x.git/': Failed to connect to proxy.corp.example.com port 3128 after 1 ms: Couldn't connect to server",
        ] {
            let said = told(&proxy, line);
            assert!(
                said.contains("the proxy http://proxy.corp.example.com:3128 is unreachable"),
                "{line}: {said}"
            );
            assert!(
                said.contains("proxy.httpProxy") && said.contains("builder.egress.allow"),
                "{said}"
            );
            let step = hint(&proxy, FailureReason::StepFailed, "", Some(line));
            assert!(step.is_some(), "{line}");
        }
        // Another host of which its name is a part.
        let short = by("http://proxy:3128");
        let line = "dial tcp: lookup proxy.golang.org on 10.96.0.10:53: no such host";
        assert_eq!(
            hint(&short, FailureReason::StepFailed, "", Some(line)),
            None
        );
        let line = "connect to proxy:3128: connection refused";
        assert!(hint(&short, FailureReason::StepFailed, "", Some(line)).is_some());
        let line = "connect to [fd00::1]:3128: connection refused";
        let by_address = hint(
            &by("http://[fd00::1]:3128"),
            FailureReason::StepFailed,
            "",
            Some(line),
        );
        assert!(by_address.is_some());
    }

    #[test]
    fn a_proxy_that_wants_credentials_or_leads_elsewhere_says_what_to_do() {
        let proxy = by("http://proxy:3128");
        for line in [
            "Head \"https://r.example.com/v2/\": Proxy Authentication Required",
            "fatal: unable to access 'https://git.example.com/x/': CONNECT tunnel failed, response 407",
            "fatal: unable to access 'https://git.example.com/x/': Received HTTP code 407 from proxy after CONNECT",
            "error sending request: client error (Connect): tunnel error: proxy authorization required",
        ] {
            assert!(
                told(&proxy, line).contains("requires credentials (407)"),
                "{line}"
            );
        }
        for line in [
            "failed to do request: Head \"https://r.example.com/v2/x/manifests/1\": Forbidden",
            "failed to do request: Head \"https://r.example.com/v2/x/manifests/1\": Bad Gateway",
            "fatal: unable to access 'https://git.example.com/x/': CONNECT tunnel failed, response 403",
            "error sending request: client error (Connect): tunnel error: unsuccessful",
        ] {
            assert!(told(&proxy, line).contains("proxy.noProxy"), "{line}");
            assert_eq!(told(&BTreeMap::new(), line), "", "{line}");
        }
    }

    #[test]
    fn where_nothing_outside_answers_and_there_is_no_proxy_its_field_is_named() {
        let none = BTreeMap::new();
        for line in [
            "failed to do request: Head \"https://registry-1.docker.io/v2/library/alpine/manifests/3\": dial tcp 44.208.1.1:443: i/o timeout",
            "Head \"https://registry-1.docker.io/v2/\": dial tcp: lookup registry-1.docker.io on 10.96.0.10:53: no such host",
            "fatal: unable to access 'https://github.com/x/y.git/': Failed to connect to github.com port 443 after 3 ms: Couldn't connect to server",
            "dial tcp 140.82.121.3:443: connect: connection refused",
        ] {
            let said = told(&none, line);
            assert!(
                said.contains("only by a proxy, set proxy.httpProxy of the Builder"),
                "{line}: {said}"
            );
            assert_eq!(told(&by("http://proxy:3128"), line), "", "{line}");
        }
        for line in [
            "dial tcp 10.0.0.1:5000: connect: connection refused",
            "dial tcp [fd00::1]:5000: i/o timeout",
            "Get \"http://registry.ci.svc:5000/v2/\": dial tcp: lookup registry.ci.svc: no such host",
            "dial tcp 127.0.0.1:5000: connect: connection refused",
            "503 Service Unavailable",
        ] {
            assert_eq!(told(&none, line), "", "{line}");
        }
    }

    #[test]
    fn words_of_git_for_a_certificate_that_is_not_trusted() {
        for said in [
            "unable to access 'https://g/': SSL certificate problem: unable to get local issuer certificate",
            "unable to access 'https://g/': server certificate verification failed. CAfile: none CRLfile: none",
            "unable to access 'https://g/': SSL certificate problem: self-signed certificate in certificate chain",
        ] {
            assert!(is_untrusted(said), "{said}");
        }
        assert!(!is_untrusted("the remote end hung up"));
    }
}
