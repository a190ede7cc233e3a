//! Connections that nobody answers, to addresses that may be the cluster's own: which its Builder's NetworkPolicy closes.

use std::net::{IpAddr, SocketAddr};

use super::FailureReason;

/// Words for it, lowercase: a policy drops what it denies, or rejects it as if there were no way.
const SILENT: [&str; 6] = [
    "i/o timeout",
    "timed out",
    "timeout was reached",
    "etimedout",
    "no route to host",
    "couldn't connect to server",
];

/// What to do, where BuildKit's error, or what the step printed, tells of such a connection.
pub(super) fn hint(reason: FailureReason, error: &str, log: Option<&str>) -> Option<String> {
    use FailureReason as R;
    let said = match reason {
        R::SourceUnreachable | R::BaseImageUnreachable | R::PushFailed => error,
        R::StepFailed => log?,
        _ => return None,
    };
    let silent = |line: &&str| {
        let line = line.to_lowercase();
        SILENT.iter().any(|words| line.contains(words))
    };
    let target = said.lines().filter(silent).find_map(target)?;
    Some(format!(
        "no answer from {target}: if that is an address of this cluster, the Builder's NetworkPolicy denies it to build \
            steps: an administrator allows it by builder.egress.allow of the chart"
    ))
}

/// The first host of a line that may be of the cluster: a private address, or the name of a Service.
fn target(line: &str) -> Option<&str> {
    // Of a connection, its other end.
    let words = line.split(|c: char| c.is_whitespace() || "\"'`/()[]<>,;=@|".contains(c));
    words
        .map(|word| word.rsplit_once("->").map_or(word, |(_, to)| to))
        .map(|word| word.trim_end_matches([':', '.']))
        .find(|word| is_inside(word))
}

/// Names are asked for at port 53, which is open.
pub(super) fn is_inside(word: &str) -> bool {
    if let Ok(address) = word.parse::<IpAddr>() {
        return is_private(address);
    }
    if let Ok(address) = word.parse::<SocketAddr>() {
        return address.port() != 53 && is_private(address.ip());
    }
    let host = word.split(':').next().unwrap_or_default();
    let is_service = |rest: &str| rest.is_empty() || rest.starts_with('.');
    let service = host
        .split_once(".svc")
        .is_some_and(|(_, rest)| is_service(rest));
    service && !host.starts_with('.')
}

fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let [a, b, ..] = address.octets();
            address.is_private() || a == 100 && (64..128).contains(&b)
        }
        IpAddr::V6(address) => address.is_unique_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_to_an_address_that_may_be_the_clusters_names_the_policy() {
        for (line, target) in [
            (
                "go: a@v1: Get \"http://modules.corp:8081/a/@v/list\": dial tcp 10.245.0.1:8081: i/o timeout",
                "10.245.0.1:8081",
            ),
            (
                "npm error network connect ETIMEDOUT 172.20.3.4:4873",
                "172.20.3.4:4873",
            ),
            (
                "wget: can't connect to remote host (192.168.0.9): Connection timed out",
                "192.168.0.9",
            ),
            (
                "curl: (28) Failed to connect to proxy.tools.svc port 3128 after 130000 ms: Couldn't connect to server",
                "proxy.tools.svc",
            ),
            (
                "ssh: connect to host git.tools.svc.cluster.local port 22: Connection timed out",
                "git.tools.svc.cluster.local",
            ),
            (
                "read tcp 10.244.0.9:4242->10.96.3.4:443: i/o timeout",
                "10.96.3.4:443",
            ),
            (
                "dial tcp [fd00:96::7]:5000: connect: no route to host",
                "fd00:96::7",
            ),
        ] {
            let log = format!("first\n{line}\nlast");
            let found = hint(FailureReason::StepFailed, "", Some(&log)).unwrap_or_default();
            assert!(
                found.contains(&format!("from {target}: ")),
                "{line}: {found}"
            );
            assert!(found.contains("builder.egress.allow"));
            let found = hint(FailureReason::BaseImageUnreachable, line, None);
            assert!(found.is_some(), "{line}");
        }
    }

    #[test]
    fn what_is_outside_or_answers_or_is_a_name_server_says_nothing_of_the_policy() {
        for line in [
            "dial tcp 140.82.121.3:443: i/o timeout",
            "dial tcp 10.0.0.1:5000: connect: connection refused",
            "lookup a.example.com on 10.96.0.10:53: read udp 10.244.0.7:4242->10.96.0.10:53: i/o timeout",
            "read tcp 10.244.0.9:4242->140.82.121.3:443: i/o timeout",
            "curl: (28) Failed to connect to a.svcs.example.com port 443 after 13 ms: Couldn't connect to server",
            "test_10.0.0.1_timed out",
            "version 10.0.0 timed out",
            "--- FAIL: TestSlow timed out after 10s",
        ] {
            assert_eq!(
                hint(FailureReason::StepFailed, "", Some(line)),
                None,
                "{line}"
            );
        }
        let line = "dial tcp 10.0.0.1:1234: i/o timeout";
        assert_eq!(hint(FailureReason::BuilderLost, line, None), None);
    }
}
