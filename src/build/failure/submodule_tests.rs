use super::*;
use FailureReason::{SourceDenied, SourceNotFound, SourceUnreachable};
use whittle_api::LocalRef;

const DENIED: [&str; 3] = [
    "could not read username",
    "authentication failed",
    "permission denied",
];

fn source(url: &str, secret: bool) -> GitSource {
    GitSource {
        url: url.into(),
        reference: None,
        sub_path: None,
        secret_ref: secret.then(|| LocalRef {
            name: "robot".into(),
        }),
    }
}

fn error(lines: &str) -> String {
    format!(
        "failed to read dockerfile: failed to update submodules for https://git.example.com/a.git: git stderr:\n{lines}: exit status 1"
    )
}

/// As git 2.39 writes it where a clone fails.
fn clone(path: &str, url: &str, why: &str) -> String {
    let once = format!(
        "Cloning into '/state/snapshots/22/fs/{path}'...\n{why}\nfatal: clone of '{url}' into submodule path \
         '/state/snapshots/22/fs/{path}' failed\n"
    );
    error(&format!(
        "Submodule '{path}' ({url}) registered for path '{path}'\n{once}Failed to clone '{path}'. Retry scheduled\n{once}\
         Failed to clone '{path}' a second time, aborting\n"
    ))
}

#[track_caller]
fn told(git: &GitSource, error: &str, reason: FailureReason, again: Again, words: &[&str]) {
    let (found, message, tried) = finding(git, error, &DENIED).unwrap();
    assert_eq!((found, tried), (reason, again), "{message}");
    for word in words {
        assert!(message.contains(word), "{message}");
    }
}

const NO_NAME: &str =
    "fatal: could not read Username for 'https://git.example.com': terminal prompts disabled";

#[test]
fn a_private_submodule_of_the_same_server_needs_credentials_that_may_read_it() {
    let url = "https://git.example.com/team/lib.git";
    let said = clone("vendor/lib", url, NO_NAME);
    let named = "submodule vendor/lib (https://git.example.com/team/lib.git) of git repository https://git.example.com/a.git";
    let without = source("https://git.example.com/a.git", false);
    told(
        &without,
        &said,
        SourceDenied,
        Again::No,
        &[named, "name a Secret of type kubernetes.io/basic-auth"],
    );
    let with = source("https://git.example.com/a.git", true);
    told(
        &with,
        &said,
        SourceDenied,
        Again::No,
        &[named, "access denied with the credentials in Secret robot"],
    );
    let said = clone("vendor/lib", "https://GIT.example.com:443/lib.git", NO_NAME);
    told(
        &with,
        &said,
        SourceDenied,
        Again::No,
        &["access denied with the credentials in Secret robot"],
    );
}

#[test]
fn a_private_submodule_of_another_server_port_or_scheme_is_told_that_credentials_never_go_there() {
    let with = source("https://git.example.com/a.git", true);
    for url in [
        "https://other.example.com/lib.git",
        "https://git.example.com:8443/lib.git",
        "http://git.example.com/lib.git",
        "https://git.example.com.evil.example/lib.git",
    ] {
        let said = clone("vendor/lib", url, NO_NAME);
        let words = [
            "vendor/lib",
            url,
            "are never sent to another server",
            "keep a copy of it on https://git.example.com ",
        ];
        told(&with, &said, SourceDenied, Again::No, &words);
    }
    let ssh = source("git@git.example.com:a.git", true);
    let said = clone("lib", "https://git.example.com/lib.git", NO_NAME);
    told(
        &ssh,
        &said,
        SourceDenied,
        Again::No,
        &["on the server of the source"],
    );
}

#[test]
fn an_ssh_submodule_of_an_http_source_is_named_and_not_tried_again() {
    let git = source("https://git.example.com/a.git", true);
    for url in [
        "git@git.example.com:team/lib.git",
        "ssh://git@git.example.com:2222/team/lib.git",
    ] {
        for why in [
            "fatal: transport 'ssh' not allowed",
            "ssh: connect to host git.example.com port 22: Connection timed out\nfatal: Could not read from remote repository.",
        ] {
            let said = clone("vendor/lib", url, why);
            let words = [
                "submodule vendor/lib",
                url,
                "SSH key missing, because the source is not read over SSH",
                "https URL on git.example.com ",
            ];
            told(&git, &said, SourceDenied, Again::No, &words);
        }
    }
}

#[test]
fn an_ssh_submodule_of_an_ssh_source_needs_its_servers_key() {
    let git = source("git@git.example.com:a.git", true);
    let said = clone(
        "lib",
        "git@other.example.com:lib.git",
        "Host key verification failed.\nfatal: Could not read from remote repository.",
    );
    told(
        &git,
        &said,
        SourceDenied,
        Again::No,
        &["`ssh-keyscan other.example.com`"],
    );
    let said = clone(
        "lib",
        "git@git.example.com:lib.git",
        "git@git.example.com: Permission denied (publickey).\nfatal: Could not read from remote repository.",
    );
    told(
        &git,
        &said,
        SourceDenied,
        Again::No,
        &["access denied with the credentials in Secret robot"],
    );
}

#[test]
fn a_missing_repository_commit_or_url_is_named() {
    let git = source("https://git.example.com/a.git", false);
    let url = "https://git.example.com/nosuch.git";
    let said = clone(
        "lib",
        url,
        "fatal: repository 'https://git.example.com/nosuch.git/' not found",
    );
    told(
        &git,
        &said,
        SourceNotFound,
        Again::No,
        &[
            "submodule lib",
            url,
            "not found: check its URL in .gitmodules",
        ],
    );
    let commit = "24295a0e80417d99e1751399f0e06059229ff3b3";
    let said = error(&format!(
        "Submodule 'lib' (https://h/l.git) registered for path 'lib'\nCloning into '/state/lib'...\nfatal: remote error: \
         upload-pack: not our ref {commit}\nfatal: Fetched in submodule path 'lib', but it did not contain {commit}. Direct \
         fetching of that commit failed.\n"
    ));
    told(
        &git,
        &said,
        SourceNotFound,
        Again::No,
        &[
            "submodule lib (https://h/l.git)",
            "commit 24295a0e80417d99e1751399f0e06059229ff3b3 not found, to which the repository points",
            commit,
        ],
    );
    let said = error("fatal: No url found for submodule path 'vendor/lib' in .gitmodules\n");
    told(
        &git,
        &said,
        SourceNotFound,
        Again::No,
        &["submodule vendor/lib of git", "URL missing in .gitmodules"],
    );
    for url in ["/srv/lib.git", "file:///srv/lib.git", "ext::sh"] {
        let said = clone("lib", url, "fatal: transport 'file' not allowed");
        told(&git, &said, SourceNotFound, Again::No, &["unsupported URL"]);
    }
}

#[test]
fn a_server_that_is_away_is_tried_again() {
    let git = source("https://git.example.com/a.git", true);
    for why in [
        "fatal: unable to access 'https://other.example.com/lib.git/': Could not resolve host: other.example.com",
        "fatal: unable to access 'https://other.example.com/lib.git/': Failed to connect to other.example.com port 443 after 0 ms: Couldn't connect to server",
        "fatal: unable to access 'https://other.example.com/lib.git/': The requested URL returned error: 503",
    ] {
        let said = clone("lib", "https://other.example.com/lib.git", why);
        let (reason, message, again) = finding(&git, &said, &DENIED).unwrap();
        assert_eq!(
            (reason, again),
            (SourceUnreachable, Again::Later),
            "{message}"
        );
        assert!(
            message.contains("submodule lib (https://other.example.com/lib.git)"),
            "{message}"
        );
    }
}

#[test]
fn a_submodule_of_a_submodule_has_its_whole_path() {
    let git = source("https://git.example.com/a.git", true);
    let said = error(&format!(
        "Submodule 'vendor/nested' (https://git.example.com/n.git) registered for path 'vendor/nested'\nCloning into \
         '/state/vendor/nested'...\nSubmodule 'deep' (https://git.example.com/lib.git) registered for path \
         'vendor/nested/deep'\nCloning into '/state/vendor/nested/deep'...\n{NO_NAME}\nfatal: clone of \
         'https://git.example.com/lib.git' into submodule path '/state/vendor/nested/deep' failed\nFailed to clone 'deep'. \
         Retry scheduled\nFailed to clone 'deep' a second time, aborting\nfatal: Failed to recurse into submodule path \
         'vendor/nested'\n"
    ));
    told(
        &git,
        &said,
        SourceDenied,
        Again::No,
        &["submodule vendor/nested/deep (https://git.example.com/lib.git)"],
    );
}

#[test]
fn a_strangers_url_is_cut_and_shows_no_password_and_no_control_characters() {
    let git = source("https://git.example.com/a.git", true);
    let url = format!(
        "https://bob:hunter2@other.example.com/\u{1b}[31m\u{202e}{}",
        "x".repeat(5000)
    );
    let (_, message, _) = finding(&git, &clone("lib", &url, NO_NAME), &DENIED).unwrap();
    assert!(
        !message.contains("hunter2") && !message.contains(['\u{1b}', '\u{202e}']),
        "{message}"
    );
    assert!(
        message.len() < 1000 && message.contains("https://other.example.com/"),
        "{message}"
    );
    assert_eq!(finding(&git, "something else", &DENIED), None);
}
