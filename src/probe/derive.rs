//! From what a command does to the handler that does the same without a program in the image: `curl` and
//! `wget` to httpGet, `nc -z` to tcpSocket, `grpc_health_probe` to grpc, `sleep` to sleep.
//!
//! Only what is understood whole is derived: another method, a body, credentials, a look at the answer, or
//! an option that is not known here, and there is no handler.

use k8s_openapi::api::core::v1::{
    Container, GRPCAction, HTTPGetAction, HTTPHeader, PodSpec, SleepAction, TCPSocketAction,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::handler::Handler;
use super::paths;
use super::plain::{Options, plain};

/// A handler in place of a command.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Derived {
    pub(super) handler: Handler,
    /// Where it is not quite the same: one sentence.
    pub(super) caution: Option<String>,
}

impl Derived {
    fn new(handler: Handler) -> Option<Self> {
        Some(Self {
            handler,
            caution: None,
        })
    }
}

/// The handler that does what a command does; `command` as the manifest has it.
pub(super) fn derive(command: &[String], container: &Container, pod: &PodSpec) -> Option<Derived> {
    let env = container.env.as_deref().unwrap_or_default();
    let words = plain(command, env)?;
    let (name, arguments) = words.split_first()?;
    // On its node's network, a program that listens on the loopback alone is reached there, and its Pod's address
    // is the node's.
    let node = pod.host_network.unwrap_or(false);
    match paths::name(name) {
        "curl" => curl(arguments, node),
        "wget" => wget(arguments, node),
        "nc" | "ncat" | "netcat" => connect(arguments, node),
        "grpc_health_probe" | "grpc-health-probe" => grpc(arguments, node),
        "sleep" => sleep(arguments),
        _ => None,
    }
}

fn curl(words: &[String], node: bool) -> Option<Derived> {
    let options = Options {
        plain: &[
            "-f",
            "-s",
            "-S",
            "-k",
            "-L",
            "-v",
            "-i",
            "-g",
            "-4",
            "-I",
            "-N",
            "--fail",
            "--silent",
            "--show-error",
            "--insecure",
            "--location",
            "--verbose",
            "--include",
            "--head",
            "--fail-with-body",
            "--no-progress-meter",
            "--globoff",
            "--ipv4",
            "--http1.1",
            "--compressed",
        ],
        valued: &[
            "-o",
            "-m",
            "-A",
            "-H",
            "-X",
            "--output",
            "--max-time",
            "--connect-timeout",
            "--user-agent",
            "--header",
            "--request",
            "--retry",
            "--retry-delay",
            "--retry-max-time",
        ],
    };
    let (mut headers, mut url, mut strict) = (Vec::new(), None, false);
    for (option, value) in options.read(words)? {
        match option.as_deref() {
            None if url.is_none() => url = Some(value),
            None => return None,
            Some("-f" | "--fail" | "--fail-with-body") => strict = true,
            Some("-H" | "--header") => headers.push(header(&value)?),
            Some("-A" | "--user-agent") => headers.push(header(&format!("User-Agent: {value}"))?),
            Some("-X" | "--request") if !matches!(value.as_str(), "GET" | "HEAD") => return None,
            _ => {}
        }
    }
    let action = http(&url?, headers, node)?;
    Some(Derived {
        handler: Handler::HttpGet(action),
        caution: (!strict).then(|| {
            "curl without -f accepts any answer, and httpGet only the codes 200 to 399".to_owned()
        }),
    })
}

fn wget(words: &[String], node: bool) -> Option<Derived> {
    // GNU wget has options of several letters behind one dash.
    let words: Vec<String> = words
        .iter()
        .filter(|word| !matches!(word.as_str(), "-nv"))
        .cloned()
        .collect();
    let options = Options {
        plain: &[
            "-q",
            "-S",
            "-v",
            "--quiet",
            "--no-verbose",
            "--spider",
            "--no-check-certificate",
            "--server-response",
        ],
        valued: &[
            "-O",
            "-T",
            "-t",
            "-Y",
            "-U",
            "--output-document",
            "--timeout",
            "--tries",
            "--header",
            "--user-agent",
            "--connect-timeout",
            "--read-timeout",
            "--waitretry",
        ],
    };
    let (mut headers, mut url) = (Vec::new(), None);
    for (option, value) in options.read(&words)? {
        match option.as_deref() {
            None if url.is_none() => url = Some(value),
            None => return None,
            Some("--header") => headers.push(header(&value)?),
            Some("-U" | "--user-agent") => headers.push(header(&format!("User-Agent: {value}"))?),
            _ => {}
        }
    }
    Derived::new(Handler::HttpGet(http(&url?, headers, node)?))
}

/// `Name: value`, where Kubernetes takes the name (IsHTTPHeaderName, apimachinery).
fn header(line: &str) -> Option<HTTPHeader> {
    let (name, value) = line.split_once(':')?;
    let good = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    good.then(|| HTTPHeader {
        name: name.to_owned(),
        value: value.trim().to_owned(),
    })
}

/// An address of this very Pod to an httpGet.
fn http(url: &str, headers: Vec<HTTPHeader>, node: bool) -> Option<HTTPGetAction> {
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
    let (scheme, default) = match scheme.to_ascii_lowercase().as_str() {
        "http" => (None, 80),
        "https" => (Some("HTTPS".to_owned()), 443),
        _ => return None,
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let path = path.split('#').next().unwrap_or_default();
    let (port, loopback) = local(authority, Some(default))?;
    // The path is a part of a URL there too.
    let plain = path.bytes().all(|b| b.is_ascii_graphic());
    plain.then(|| HTTPGetAction {
        path: Some(if path.starts_with('/') {
            path.to_owned()
        } else {
            format!("/{path}")
        }),
        port: IntOrString::Int(port),
        scheme,
        http_headers: Some(headers).filter(|headers| !headers.is_empty()),
        host: loopback.filter(|_| node),
    })
}

/// The port of `host:port`, where the host is this very Pod, and its address where that is the loopback alone.
fn local(authority: &str, default: Option<i32>) -> Option<(i32, Option<String>)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']')?;
            (host, after.strip_prefix(':'))
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let here =
        matches!(host, "localhost" | "::1" | "0.0.0.0" | "::" | "") || host.starts_with("127.");
    let port = match port {
        Some(port) => port.parse().ok().filter(|port| (1..=65535).contains(port)),
        None => default,
    };
    let port = port.filter(|_| here && !(host.is_empty() && authority.is_empty()))?;
    let loopback = match host {
        "localhost" => Some("127.0.0.1".to_owned()),
        "::1" => Some(host.to_owned()),
        _ if host.starts_with("127.") => Some(host.to_owned()),
        _ => None,
    };
    Some((port, loopback))
}

fn connect(words: &[String], node: bool) -> Option<Derived> {
    let options = Options {
        plain: &["-z", "-v", "-n", "-4"],
        valued: &["-w"],
    };
    let (mut plain, mut tests) = (Vec::new(), false);
    for (option, value) in options.read(words)? {
        match option.as_deref() {
            None => plain.push(value),
            Some("-z") => tests = true,
            _ => {}
        }
    }
    let [host, port] = plain.as_slice() else {
        return None;
    };
    let (port, loopback) = local(&format!("{host}:{port}"), None).filter(|_| tests)?;
    Derived::new(Handler::TcpSocket(TCPSocketAction {
        host: loopback.filter(|_| node),
        port: IntOrString::Int(port),
    }))
}

/// grpc_health_probe, whose options begin with one dash or two (flag of Go).
fn grpc(words: &[String], node: bool) -> Option<Derived> {
    let (mut port, mut service) = (None, None);
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        let option = word.strip_prefix("--").or_else(|| word.strip_prefix('-'))?;
        let (name, value) = match option.split_once('=') {
            Some((name, value)) => (name, value.to_owned()),
            None if option == "v" => continue,
            None => (option, rest.next()?.clone()),
        };
        match name {
            "addr" => {
                let (found, loopback) = local(&value, None)?;
                // grpc names no host: it asks the node's own address.
                if node && loopback.is_some() {
                    return None;
                }
                port = Some(found);
            }
            "service" => service = Some(value).filter(|value| !value.is_empty()),
            "connect-timeout" | "rpc-timeout" | "user-agent" => {}
            _ => return None,
        }
    }
    Derived::new(Handler::Grpc(GRPCAction {
        port: port?,
        service,
    }))
}

/// `sleep 5`, `sleep 5s`, `sleep 1m`: whole seconds.
fn sleep(words: &[String]) -> Option<Derived> {
    let [time] = words else {
        return None;
    };
    let (number, factor) = match time.strip_suffix('m') {
        Some(number) => (number, 60),
        None => (time.strip_suffix('s').unwrap_or(time), 1),
    };
    let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    let seconds: i64 = number.parse().ok().filter(|_| digits)?;
    Derived::new(Handler::Sleep(SleepAction {
        seconds: seconds.checked_mul(factor)?,
    }))
}

#[cfg(test)]
#[path = "derive_tests.rs"]
mod tests;
