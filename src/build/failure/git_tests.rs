//! Faults of git sources, as buildctl and buildkitd 0.33.1 really printed them, hosts changed.

use super::tests::{assert_is, judge, request};
use super::*;
use whittle_api::{GitRef, GitSource, LocalRef, Source};

use FailureReason as R;

fn from_git(reference: GitRef) -> BuildRequest {
    let mut request = request();
    request.inputs.source = Source {
        git: Some(GitSource {
            url: "https://git.example.com/team/hello.git".into(),
            reference: Some(reference),
            sub_path: Some("no/such".into()),
            secret_ref: None,
        }),
        ..Source::default()
    };
    request
}

pub(super) fn branch(name: &str) -> BuildRequest {
    from_git(GitRef {
        branch: Some(name.into()),
        ..GitRef::default()
    })
}

fn git_failure(request: &BuildRequest, said: &str) -> Verdict {
    judge(
        request,
        (
            "[internal] load git source https://git.example.com/team/hello.git",
            said,
            "",
        ),
        &format!(
            "error: failed to solve: failed to read dockerfile: failed to load cache key: {said}"
        ),
    )
}

fn stderr(fatal: &str) -> String {
    format!(
        "failed to fetch remote https://git.example.com/team/hello.git: git stderr:\nfatal: {fatal}\n: exit status 128"
    )
}

#[test]
fn a_git_repository_that_does_not_exist_is_named() {
    let said = stderr("repository 'https://git.example.com/team/hello.git/' not found");
    assert_is(
        &git_failure(&branch("main"), &said),
        R::SourceNotFound,
        Again::No,
        "git repository https://git.example.com/team/hello.git not found: check git.url; a private repository needs git.secretRef",
    );
}

#[test]
fn a_branch_a_tag_and_a_commit_that_do_not_exist_are_named() {
    let said = r#"repository does not contain ref refs/heads/nope, output: """#;
    assert_is(
        &git_failure(&branch("nope"), said),
        R::SourceNotFound,
        Again::No,
        r#"git repository https://git.example.com/team/hello.git has no branch "nope": check git.ref"#,
    );
    let tag = from_git(GitRef {
        tag: Some("v9".into()),
        ..GitRef::default()
    });
    let said = r#"repository does not contain ref refs/tags/v9, output: """#;
    assert!(
        git_failure(&tag, said)
            .failure
            .message
            .contains(r#"has no tag "v9""#)
    );
    let commit = from_git(GitRef {
        commit: Some("0".repeat(40)),
        ..GitRef::default()
    });
    let said = "failed to checkout remote https://git.example.com/team/hello.git: git stderr:\nfatal: reference is not a tree: 0000000000000000000000000000000000000000\n: exit status 128";
    let verdict = git_failure(&commit, said);
    assert_eq!(verdict.failure.reason, R::SourceNotFound);
    assert!(verdict.failure.message.starts_with("commit 0000"));
    assert!(
        verdict
            .failure
            .message
            .contains(" not found in git repository https://git.example.com/team/hello.git")
    );
}

#[test]
fn a_folder_that_is_not_in_the_repository_is_named() {
    let said =
        r#"invalid subdir no/such: failed to lstat "no": statat no: no such file or directory"#;
    assert_is(
        &git_failure(&branch("main"), said),
        R::SourceNotFound,
        Again::No,
        r#"directory no/such not found in git repository https://git.example.com/team/hello.git at branch "main": check git.subPath"#,
    );
}

#[test]
fn credentials_that_were_sealed_with_the_key_of_before_are_tried_again() {
    let words = [crate::seal::Error::Sealed, crate::seal::Error::Key];
    for said in words.map(|error| stderr(&error.to_string())) {
        assert_is(
            &git_failure(&branch("main"), &said),
            R::BuilderLost,
            Again::Later,
            "the builder's keys have just been renewed, and it could not decrypt the credentials \
                of git repository https://git.example.com/team/hello.git: retrying with the new \
                ones",
        );
    }
}

#[test]
fn a_git_server_that_refuses_says_whether_credentials_were_given() {
    let said =
        stderr("could not read Username for 'https://git.example.com': terminal prompts disabled");
    let mut request = branch("main");
    assert_is(
        &git_failure(&request, &said),
        R::SourceDenied,
        Again::No,
        "authentication required for git repository https://git.example.com/team/hello.git: name \
            a Secret of type kubernetes.io/basic-auth in git.secretRef",
    );
    request.inputs.source.git.as_mut().unwrap().secret_ref = Some(LocalRef {
        name: "git-credentials".into(),
    });
    let said = stderr(
        "unable to access 'https://git.example.com/team/hello.git/': The requested URL returned error: 403",
    );
    let verdict = git_failure(&request, &said);
    assert_eq!(verdict.failure.reason, R::SourceDenied);
    assert!(
        verdict
            .failure
            .message
            .contains("the credentials in Secret git-credentials")
    );
}

#[test]
fn a_git_server_that_is_away_is_asked_again() {
    for fatal in [
        "unable to access 'https://git.example.com/team/hello.git/': The requested URL returned error: 503",
        "unable to access 'https://git.example.com/team/hello.git/': Could not resolve host: git.example.com",
        "unable to access 'https://git.example.com/team/hello.git/': Failed to connect to git.example.com port 443 after 0 ms: Couldn't connect to server",
    ] {
        let verdict = git_failure(&branch("main"), &stderr(fatal));
        let expected = format!(
            "git repository https://git.example.com/team/hello.git cannot be read: {fatal}"
        );
        assert_is(&verdict, R::SourceUnreachable, Again::Later, &expected);
    }
}

#[test]
fn an_ssh_server_without_a_key_is_a_denial() {
    let mut request = branch("main");
    request.inputs.source.git.as_mut().unwrap().url = "git@git.example.com:team/hello".into();
    let verdict = git_failure(
        &request,
        r#"no SSH key "default" forwarded from the client"#,
    );
    assert_eq!(verdict.failure.reason, R::SourceDenied);
    assert!(verdict.failure.message.contains("kubernetes.io/ssh-auth"));
}
