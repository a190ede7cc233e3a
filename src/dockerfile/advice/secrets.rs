//! Files of the context that look like secrets, and the line that copies them into a stage.
//!
//! By name and by what their first bytes say: a `.pem` is most often a certificate, a `.env` most often
//! holds a port. What stands in them never gets into a message.

use super::ignore::{Pattern, clean, kept};
use super::order::shown;
use super::sensitive::{has_a_password, is_for_browsers, is_value, names_a_secret};
use super::{ContextFile, Hint, HintKind, Look, listed};

/// How many files one hint names.
const NAMED: usize = 5;

/// Patterns of COPY with `--parents` that find candidates for secrets in a source. Each has a wildcard, so
/// that none of them must match.
pub const CANDIDATES: &[&str] = &[
    "**/.env",
    "**/.env.*",
    "**/*.env",
    "**/id_rsa",
    "**/id_dsa",
    "**/id_ecdsa",
    "**/id_ecdsa_sk",
    "**/id_ed25519",
    "**/id_ed25519_sk",
    "**/*.pem",
    "**/*.key",
    "**/*.p12",
    "**/*.pfx",
    "**/*.jks",
    "**/*.keystore",
    "**/.npmrc",
    "**/.netrc",
    "**/.pypirc",
    "**/.git-credentials",
    "**/.dockercfg",
    "**/.docker/config.json",
    "**/kubeconfig",
    "**/*.kubeconfig",
    "**/.kube/config",
    "**/.aws/credentials",
    "**/*credentials*.json",
    "**/*service*account*.json",
    "**/terraform.tfstate",
    "**/terraform.tfstate.backup",
];

/// True where one of [`CANDIDATES`] matches the path, for sources whose files lie locally.
pub fn is_candidate(path: &str) -> bool {
    CANDIDATES.iter().any(|text| {
        // Quick, for walks over many files: what stands behind the last wildcard.
        let end = text.rsplit('*').next().unwrap_or(text);
        path.ends_with(end.trim_start_matches('/')) && Pattern::new(text).matches(path)
    })
}

/// Folders whose keys and passwords are made for trying.
const FOR_TRYING: [&str; 35] = [
    "bench",
    "benchmark",
    "benchmarks",
    "cypress",
    "demo",
    "demos",
    "doc",
    "docs",
    "e2e",
    "example",
    "examples",
    "fixture",
    "fixtures",
    "fuzz",
    "mock",
    "mocks",
    "playground",
    "sample",
    "samples",
    "selftest",
    "snakeoil",
    "spec",
    "specs",
    "stub",
    "stubs",
    "test",
    "testcases",
    "testdata",
    "testfixtures",
    "testing",
    "testresources",
    "tests",
    "testutil",
    "tutorial",
    "tutorials",
];

/// Folders of somebody else's files.
const FOREIGN: [&str; 5] = [
    "node_modules",
    "site-packages",
    "third_party",
    "vendor",
    "vendored",
];

/// Words in the names of files that show how a secret would look.
const SHOWN: [&str; 21] = [
    "ci",
    "defaults",
    "demo",
    "dist",
    "dummy",
    "example",
    "fake",
    "insecure",
    "localhost",
    "mock",
    "sample",
    "schema",
    "selfsigned",
    "snakeoil",
    "template",
    "test",
    "testing",
    "tests",
    "tmpl",
    "tpl",
    "vagrant",
];

/// `testkey`, `mocks`, `dummycert`, `androidtest`.
fn is_made_up(word: &str) -> bool {
    let tests = (word.ends_with("test") || word.ends_with("tests"))
        && !["attest", "contest", "latest", "protest"].contains(&word);
    let begins = [
        "dummy", "example", "fake", "fixture", "mock", "sample", "test",
    ];
    tests || begins.iter().any(|begin| word.starts_with(begin))
}

pub(super) fn hints(look: &Look) -> Vec<Hint> {
    let mut open: Vec<&ContextFile> = look
        .view
        .files
        .iter()
        .filter(|file| is_secret(file))
        .collect();
    let mut hints = vec![];
    let image = look.stages.line_of(look.stages.target);
    // The image's own stages first: a file is told of once, where it does most harm.
    let (inner, outer): (Vec<_>, Vec<_>) =
        look.stages.each().partition(|(at, _)| image.contains(at));
    for (at, stage) in inner.into_iter().chain(outer) {
        for step in stage.steps.iter().filter(|step| step.takes_context()) {
            let patterns: Vec<Pattern> = step
                .sources()
                .iter()
                .map(|source| source.trim_matches('"'))
                .filter(|source| !source.contains('$'))
                .map(Pattern::new)
                .collect();
            let excluded: Vec<&str> = step.flags("exclude").collect();
            let (taken, rest): (Vec<_>, Vec<_>) = open.into_iter().partition(|file| {
                patterns.iter().any(|source| source.covers(&file.path))
                    && !is_excluded(&excluded, &file.path)
            });
            open = rest;
            if taken.is_empty() {
                continue;
            }
            let mut names: Vec<String> = taken
                .iter()
                .take(NAMED)
                .map(|file| file.path.clone())
                .collect();
            if taken.len() > NAMED {
                names.push(format!("{} more", taken.len() - NAMED));
            }
            let (looks, them) = match taken.len() {
                1 => ("looks like a secret", "it"),
                _ => ("look like secrets", "them"),
            };
            let into = match image.contains(&at) {
                true => "into the image".to_owned(),
                false => format!("into {}", stage.called()),
            };
            let text = format!(
                "`{}` copies {} {into}, which {looks}: list {them} in .dockerignore, and use \
                    spec.secrets and --mount=type=secret for a RUN that needs {them}",
                shown(step),
                listed(&names)
            );
            hints.push(look.hint(HintKind::SecretInContext, Some(step.lines.0), &text));
        }
    }
    hints
}

/// The patterns of `--exclude` count from the source's folder: whatever part of the path they could mean.
fn is_excluded(patterns: &[&str], path: &str) -> bool {
    let rules = patterns.join("\n");
    let ends = path.match_indices('/').map(|(at, _)| &path[at + 1..]);
    !patterns.is_empty()
        && std::iter::once(path)
            .chain(ends)
            .any(|part| kept(&rules, std::iter::once(part)).is_empty())
}

/// True where the name says so, and what is known of the content does not speak against it.
fn is_secret(file: &ContextFile) -> bool {
    let path = clean(&file.path).to_lowercase();
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", &path));
    // `test-certs`, `__fixtures__`, `src.test`: each word of a folder's name counts.
    let for_trying = |part: &str| {
        FOREIGN.contains(&part)
            || part
                .split(['-', '_', '.'])
                .any(|word| FOR_TRYING.contains(&word) || is_made_up(word))
    };
    if folder.split('/').any(for_trying) {
        return false;
    }
    let mut words = name.split(['.', '-', '_']);
    if words.any(|word| SHOWN.contains(&word) || is_made_up(word)) || name.ends_with(".env.default")
    {
        return false;
    }
    let head = String::from_utf8_lossy(&file.head);
    let head: &str = &head;
    let end = name.rsplit_once('.').map_or("", |(_, end)| end);
    let parent = folder.rsplit('/').next().unwrap_or_default();
    if name == ".env" || name.starts_with(".env.") || end == "env" {
        return head.lines().any(sets_a_secret);
    }
    match (name, end) {
        (".npmrc", _) => head.lines().any(|line| {
            let (key, value) = line.split_once('=').unwrap_or((line, ""));
            let key = key.trim();
            let key = key.rsplit(':').next().unwrap_or(key);
            matches!(key, "_authToken" | "_auth" | "_password") && is_value(value)
        }),
        (".netrc", _) => {
            let words: Vec<&str> = head.split_whitespace().collect();
            let given = |pair: &[&str]| pair[0] == "password" && is_value(pair[1]);
            words.windows(2).any(given)
        }
        (".pypirc", _) => head.lines().any(|line| {
            let pair = line.split_once(['=', ':']);
            pair.is_some_and(|(key, value)| key.trim() == "password" && is_value(value))
        }),
        (".git-credentials", _) => head.lines().any(has_a_password),
        (".dockercfg", _) => has_field(head, "auth"),
        ("config.json", _) if parent == ".docker" => {
            has_field(head, "auth") || has_field(head, "identitytoken")
        }
        ("credentials", _) if parent == ".aws" => head.lines().any(|line| {
            let pair = line.split_once('=');
            pair.is_some_and(|(key, value)| {
                key.trim() == "aws_secret_access_key" && is_value(value)
            })
        }),
        ("config", _) if parent == ".kube" => is_kubeconfig(head),
        ("kubeconfig", _) | (_, "kubeconfig") => is_kubeconfig(head),
        ("terraform.tfstate" | "terraform.tfstate.backup", _) => {
            head.contains("\"resources\"") || head.contains("\"lineage\"")
        }
        (_, "pem" | "key") => is_private_key(head),
        (_, "p12" | "pfx" | "jks" | "keystore") => {
            let stores_trust = ["trust", "cacerts", "debug"];
            !file.head.is_empty() && !stores_trust.iter().any(|word| name.contains(word))
        }
        (_, "json") => has_field(head, "private_key") && is_private_key(head),
        ("id_rsa" | "id_dsa" | "id_ecdsa" | "id_ecdsa_sk" | "id_ed25519" | "id_ed25519_sk", _) => {
            is_private_key(head)
        }
        _ => false,
    }
}

/// A key, and not the frame of one for somebody to fill.
fn is_private_key(head: &str) -> bool {
    const TO_FILL: [&str; 8] = ["...", "<", "$", "{", "your", "replace", "insert", "xxx"];
    let framed = head.split("PRIVATE KEY-----").nth(1).is_some_and(|body| {
        let body = body.replace("\\n", "\n").trim_start().to_lowercase();
        !TO_FILL.iter().any(|word| body.starts_with(word))
    });
    framed || head.contains("PuTTY-User-Key-File")
}

fn is_kubeconfig(head: &str) -> bool {
    head.lines().any(|line| {
        let pair = line.trim().trim_start_matches("- ").split_once(':');
        pair.is_some_and(|(key, value)| {
            matches!(key, "client-key-data" | "token" | "password") && is_value(value)
        })
    })
}

/// A field of a JSON text with a value that is not empty.
fn has_field(text: &str, name: &str) -> bool {
    let quoted = format!("\"{name}\"");
    let mut parts = text.split(&quoted);
    parts.next();
    parts.any(|after| {
        let value = after.trim_start().strip_prefix(':').map(str::trim_start);
        value
            .and_then(|value| value.strip_prefix('"'))
            .is_some_and(|value| !value.starts_with('"'))
    })
}

/// `NAME=value` where the name says that the value is a secret, or an address with a password in it.
fn sets_a_secret(line: &str) -> bool {
    let line = line.trim();
    let line = line.strip_prefix("export ").unwrap_or(line);
    let Some((name, value)) = line.split_once('=').filter(|_| !line.starts_with('#')) else {
        return false;
    };
    let name = name.trim().to_uppercase();
    if !is_value(value) {
        return false;
    }
    if is_for_browsers(&name) {
        return false;
    }
    has_a_password(value) || names_a_secret(&name, value)
}
