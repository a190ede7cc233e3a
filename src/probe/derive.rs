//! From what a command does to the handler that does the same without a program in the image: `curl` and
//! `wget` to httpGet, `nc -z` to tcpSocket, `grpc_health_probe` to grpc, `sleep` to sleep.
//!
//! Only what is understood whole is derived: another method, a body, credentials, a look at the answer, or
//! an option that is not known here, and there is no handler.

use k8s_openapi::api::core::v1::{
    Container, EnvVar, GRPCAction, HTTPGetAction, HTTPHeader, SleepAction, TCPSocketAction,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::expand;
use super::handler::Handler;
use super::paths;
use super::shell::is_shell;
use super::shell::syntax::{Node, Word, parse};

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
pub(super) fn derive(command: &[String], container: &Container) -> Option<Derived> {
    let env = container.env.as_deref().unwrap_or_default();
    let words = plain(command, env)?;
    let (name, arguments) = words.split_first()?;
    match paths::name(name) {
        "curl" => curl(arguments),
        "wget" => wget(arguments),
        "nc" | "ncat" | "netcat" => connect(arguments),
        "grpc_health_probe" | "grpc-health-probe" => grpc(arguments),
        "sleep" => sleep(arguments),
        _ => None,
    }
}

/// The one program that a command comes to, with its arguments: shells, `exit` behind it and programs that
/// only start it taken off.
fn plain(command: &[String], env: &[EnvVar]) -> Option<Vec<String>> {
    let first = paths::name(command.first()?);
    let known: std::collections::BTreeMap<String, String> = env
        .iter()
        .filter_map(|variable| Some((variable.name.clone(), value(variable)?)))
        .collect();
    let known = known
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let shell = if first == "busybox" { 1 } else { 0 };
    let mut words: Vec<String> = if is_shell(paths::name(command.get(shell)?)) {
        let mut rest = command[shell + 1..].iter();
        let mut flagged = false;
        let script = loop {
            let word = rest.next()?;
            match word.strip_prefix('-') {
                // An option that takes a value.
                Some(flags) if flags.contains('o') || flags.starts_with('-') => return None,
                Some(flags) => flagged |= flags.contains('c'),
                None => break word,
            }
        };
        let node = parse(script).ok().filter(|_| flagged)?;
        only(&node)?
            .iter()
            .map(|word| {
                word.resolve(&|name| {
                    let host = (name == "HOSTNAME").then(|| "localhost".to_owned());
                    env.iter()
                        .rev()
                        .find(|variable| variable.name == name)
                        .map_or(host, value)
                })
            })
            .collect::<Option<_>>()?
    } else {
        if command
            .iter()
            .flat_map(|word| expand::references(word))
            .any(|name| {
                env.iter()
                    .any(|variable| variable.name == name && value(variable).is_none())
            })
        {
            return None;
        }
        command
            .iter()
            .map(|word| expand::expand(word, &known))
            .collect()
    };
    loop {
        let skipped = match paths::name(words.first()?) {
            "busybox" | "exec" | "command" => 1,
            "timeout" if words.get(1)?.starts_with(|c: char| c.is_ascii_digit()) => 2,
            _ => return Some(words),
        };
        words.drain(..skipped.min(words.len()));
    }
}

/// A variable's value as a program in the container sees it; the Pod's own address is as good as
/// `localhost` here.
fn value(variable: &EnvVar) -> Option<String> {
    let Some(source) = &variable.value_from else {
        return variable.value.clone().filter(|value| !value.contains("$("));
    };
    let path = source
        .field_ref
        .as_ref()
        .map(|field| field.field_path.as_str());
    (path == Some("status.podIP")).then(|| "localhost".to_owned())
}

/// The words of the one command that decides a script.
fn only(node: &Node) -> Option<&[Word]> {
    let word = |words: &[Word], at: usize| words.get(at).and_then(Word::literal).map(str::to_owned);
    match node {
        Node::Simple {
            assigns,
            words,
            redirects,
        } => {
            let quiet = redirects.iter().all(|(operator, word)| {
                operator.ends_with('&') || word.literal() == Some("/dev/null")
            });
            (assigns.is_empty() && quiet).then_some(words)
        }
        Node::Or(left, right) => {
            let end = only(right)?;
            let fails = match (word(end, 0).as_deref(), word(end, 1).as_deref()) {
                (Some("false"), None) => true,
                (Some("exit"), code) => {
                    code.is_none_or(|code| code != "0" && code.parse::<u8>().is_ok())
                }
                _ => false,
            };
            only(left).filter(|_| fails)
        }
        Node::And(left, right) => {
            let end = only(right)?;
            let succeeds = match (word(end, 0).as_deref(), word(end, 1).as_deref()) {
                (Some("true" | ":"), None) => true,
                (Some("exit"), code) => code.is_none_or(|code| code == "0"),
                _ => false,
            };
            only(left).filter(|_| succeeds)
        }
        _ => None,
    }
}

/// Options of a program: those without a value, and those with one; whatever else is not understood.
struct Options<'o> {
    plain: &'o [&'o str],
    valued: &'o [&'o str],
}

/// An option with its value, or an argument with no option.
type Argument = (Option<String>, String);

impl Options<'_> {
    /// Reads short options, also several in one word and with the value attached, and long ones with
    /// `=` or a word of their own.
    fn read(&self, words: &[String]) -> Option<Vec<Argument>> {
        let mut found = Vec::new();
        let mut rest = words.iter();
        while let Some(word) = rest.next() {
            if let Some(long) = word.strip_prefix("--") {
                let (name, value) = match long.split_once('=') {
                    Some((name, value)) => (name, Some(value.to_owned())),
                    None => (long, None),
                };
                let name = format!("--{name}");
                if self.valued.contains(&name.as_str()) {
                    let value = value.or_else(|| rest.next().cloned())?;
                    found.push((Some(name), value));
                } else if self.plain.contains(&name.as_str()) && value.is_none() {
                    found.push((Some(name), String::new()));
                } else {
                    return None;
                }
            } else if let Some(short) = word.strip_prefix('-').filter(|short| !short.is_empty()) {
                let mut letters = short.char_indices();
                while let Some((at, letter)) = letters.next() {
                    let name = format!("-{letter}");
                    if self.valued.contains(&name.as_str()) {
                        let attached = &short[at + letter.len_utf8()..];
                        let value = if attached.is_empty() {
                            rest.next()?.clone()
                        } else {
                            attached.to_owned()
                        };
                        found.push((Some(name), value));
                        break;
                    }
                    if !self.plain.contains(&name.as_str()) {
                        return None;
                    }
                    found.push((Some(name), String::new()));
                }
            } else {
                found.push((None, word.clone()));
            }
        }
        Some(found)
    }
}

fn curl(words: &[String]) -> Option<Derived> {
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
    let action = http(&url?, headers)?;
    Some(Derived {
        handler: Handler::HttpGet(action),
        caution: (!strict).then(|| {
            "curl without -f takes any answer, and httpGet takes the codes 200 to 399 alone"
                .to_owned()
        }),
    })
}

fn wget(words: &[String]) -> Option<Derived> {
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
    Derived::new(Handler::HttpGet(http(&url?, headers)?))
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
fn http(url: &str, headers: Vec<HTTPHeader>) -> Option<HTTPGetAction> {
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
    let (scheme, default) = match scheme.to_ascii_lowercase().as_str() {
        "http" => (None, 80),
        "https" => (Some("HTTPS".to_owned()), 443),
        _ => return None,
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let path = path.split('#').next().unwrap_or_default();
    let port = local(authority, Some(default))?;
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
        host: None,
    })
}

/// The port of `host:port`, where the host is this very Pod.
fn local(authority: &str, default: Option<i32>) -> Option<i32> {
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
    port.filter(|_| here && !(host.is_empty() && authority.is_empty()))
}

fn connect(words: &[String]) -> Option<Derived> {
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
    let port = local(&format!("{host}:{port}"), None).filter(|_| tests)?;
    Derived::new(Handler::TcpSocket(TCPSocketAction {
        host: None,
        port: IntOrString::Int(port),
    }))
}

/// grpc_health_probe, whose options begin with one dash or two (flag of Go).
fn grpc(words: &[String]) -> Option<Derived> {
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
            "addr" => port = Some(local(&value, None)?),
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
