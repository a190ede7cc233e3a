//! What a git repository may hold besides its files: submodules, tags, branches of any name, and `.git` itself.

use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::ListParams;
use serde_json::{Value, json};
use whittle_api::FailureReason::{SourceDenied, SourceNotFound};

use crate::field::{Field, Repository, variable};
use crate::registry::files_of;

const COPY: &str = "FROM scratch\nCOPY . /src/\n";

/// A Secret that may read the private repositories of the git server.
async fn password(field: &Field) {
    let password = std::fs::read_to_string(variable("GIT_PASSWORD_FILE")).unwrap();
    field
        .create(json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "git"}, "type": "kubernetes.io/basic-auth",
            "stringData": {"username": variable("GIT_USER"), "password": password.trim()}}))
        .await;
}

/// A repository with one submodule at `vendor/library`, and a Dockerfile that copies all.
fn with_submodule(name: &str, url: &str, commit: &str) -> (Repository, String) {
    let repository = Repository::new(name);
    repository.submodule("vendor/library", url, commit);
    // Two repositories with the same files, of the same second, would have one commit, and the builder's cache knows
    // commits alone.
    let files = [("Dockerfile", COPY), ("name.txt", name)];
    let commit = repository.commit(&files, "refs/heads/main");
    (repository, commit)
}

#[tokio::test]
async fn private_submodules_of_the_same_server_are_read_and_others_are_named() {
    let field = Field::new("submodules").await;
    let name = |suffix: &str| format!("{}-{suffix}", field.namespace);
    password(&field).await;
    let library = Repository::new(&format!("private/{}", name("library")));
    let commit = library.commit(&[("lib.txt", "private")], "refs/heads/main");
    let public = Repository::new(&name("public"));
    let public_commit = public.commit(&[("lib.txt", "public")], "refs/heads/main");
    let relative = format!("../private/{}.git", name("library"));
    // The same server by another name: somebody else's, for all that git knows.
    let nodes: Api<Node> = Api::all(field.client.clone());
    let node = nodes
        .list(&ListParams::default())
        .await
        .unwrap()
        .items
        .remove(0);
    let addresses = node.status.unwrap().addresses.unwrap();
    let ip = addresses
        .into_iter()
        .find(|it| it.type_ == "InternalIP")
        .unwrap();
    let elsewhere = |of: &str| {
        let (_, place) = of.split_once("://").unwrap();
        let (host, path) = place.split_once('/').unwrap();
        let port = host.rsplit(':').next().unwrap();
        format!("http://{}:{port}/{path}", ip.address)
    };
    let (_middle, nested_commit) = with_submodule(&name("middle"), &relative, &commit);
    let sources = [
        ("absolute", library.url.clone(), commit.as_str()),
        ("relative", relative.clone(), &commit),
        (
            "nested",
            format!("../{}.git", name("middle")),
            &nested_commit,
        ),
        ("elsewhere-public", elsewhere(&public.url), &public_commit),
        ("elsewhere", elsewhere(&library.url), &commit),
        (
            "ssh",
            format!("git@git.whittle.local:private/{}.git", name("library")),
            &commit,
        ),
        ("missing", "../nosuch.git".into(), &commit),
        ("old", public.url.clone(), &commit),
    ];
    let secret = json!({"name": "git"});
    let mut kept = vec![];
    for (build, url, commit) in &sources {
        let (repository, _) = with_submodule(&name(build), url, commit);
        let source = json!({"git": {"url": repository.url, "secretRef": secret}});
        field.apply(build, source, json!({})).await;
        kept.push(repository);
    }
    // One of its own: what a Secret has opened lies in the builder's cache, for all of the namespace.
    let (alone, _) = with_submodule(&name("without"), &library.url, &commit);
    let source = json!({"git": {"url": alone.url}});
    field.apply("without", source, json!({})).await;
    for (build, path, text) in [
        ("absolute", "vendor/library/lib.txt", "private"),
        ("relative", "vendor/library/lib.txt", "private"),
        ("nested", "vendor/library/vendor/library/lib.txt", "private"),
        ("elsewhere-public", "vendor/library/lib.txt", "public"),
    ] {
        let status = field.succeeds(build).await;
        let files = files_of(&field.image(build), &status.digest.unwrap()).await;
        assert_eq!(files[&format!("src/{path}")], text.as_bytes(), "{build}");
    }
    for (build, reason, words) in [
        (
            "elsewhere",
            SourceDenied,
            "are never sent to another server",
        ),
        (
            "ssh",
            SourceDenied,
            "SSH key missing, because the source is not read over SSH",
        ),
        ("missing", SourceNotFound, ": not found: check its URL"),
        (
            "old",
            SourceNotFound,
            " not found, to which the repository points",
        ),
        (
            "without",
            SourceDenied,
            "authentication required: name a Secret",
        ),
    ] {
        let failure = field.fails(build, reason).await;
        let message = &failure.message;
        assert!(message.contains(words), "{build}: {message}");
        assert!(
            message.contains("submodule vendor/library ("),
            "{build}: {message}"
        );
    }
    // What git had written down of the old URL does not stand in the way of a mended one.
    kept[5].submodule("vendor/library", &relative, &commit);
    kept[5].commit(&[("mended", "yes")], "refs/heads/main");
    field.request("ssh").await;
    field.succeeds_again("ssh", 2).await;
    field.close().await;
}

#[tokio::test]
async fn git_is_kept_with_its_ref_whether_or_not_something_is_ignored() {
    let field = Field::new("keep").await;
    let tool = format!("{}/e2e/git-over-ssh:latest", variable("REGISTRY"));
    let dockerfile = format!(
        "FROM {tool} AS tool\nCOPY . /src\nWORKDIR /src\nRUN mkdir /out && (git describe --tags; git rev-parse HEAD; git \
         status --short) > /out/said 2>&1; ls -A > /out/all\nFROM scratch\nCOPY --from=tool /out/ /\n"
    );
    let own = "Dockerfile.dockerignore";
    let keep = json!({"buildArgs": {"BUILDKIT_CONTEXT_KEEP_GIT_DIR": "1"}});
    let (mut kept, mut repositories) = (vec![], vec![]);
    for (case, ignore) in [
        ("plain", None),
        ("ignore", Some((".dockerignore", "ignored\n"))),
        ("own", Some((own, "ignored\n"))),
        ("named", Some((".dockerignore", ".git\n"))),
    ] {
        let repository = Repository::new(&format!("{}-{case}", field.namespace));
        let mut files = vec![("Dockerfile", dockerfile.as_str()), ("ignored", "x")];
        files.extend(ignore);
        let commit = repository.commit(&files, "refs/heads/main");
        repository.tag("v1.2.3");
        for (at, reference) in [
            ("head", Value::Null),
            ("branch", json!({"branch": "main"})),
            ("tag", json!({"tag": "v1.2.3"})),
            ("commit", json!({"commit": commit})),
        ] {
            let source = json!({"git": {"url": repository.url, "ref": reference}});
            let build = format!("{case}-{at}");
            field.apply(&build, source, keep.clone()).await;
            kept.push((build, case, at, commit.clone()));
        }
        repositories.push(repository);
    }
    for (build, case, at, commit) in &kept {
        let status = field.succeeds(build).await;
        assert!(status.revision.unwrap().ends_with(commit), "{build}");
        let files = files_of(&field.image(build), &status.digest.unwrap()).await;
        let text = |name: &str| String::from_utf8_lossy(&files[name]).into_owned();
        let (said, all) = (text("said"), text("all"));
        let has = |name: &str| all.lines().any(|line| line == name);
        assert_eq!(has(".git"), *case != "named", "{build}: {all}");
        assert_eq!(
            has("ignored"),
            !matches!(*case, "ignore" | "own"),
            "{build}: {all}"
        );
        if *case == "named" {
            continue;
        }
        assert!(said.contains(commit), "{build}: {said}");
        if *at == "tag" {
            assert!(said.lines().any(|line| line == "v1.2.3"), "{build}: {said}");
        }
    }
    field.close().await;
}

#[tokio::test]
async fn a_branch_of_any_name_is_built_and_one_that_is_not_there_has_its_neighbour_named() {
    let field = Field::new("branches").await;
    let repository = Repository::new(&field.namespace);
    repository.commit(
        &[("Dockerfile", COPY), ("50% off/Dockerfile", COPY)],
        "refs/heads/main",
    );
    repository.tag("v1.2.3");
    let names = ["feature/#12(ü)", "100%", "pct%41", "a&b;c|d$e!f\"g'{h}"];
    for (n, name) in names.iter().enumerate() {
        let commit = repository.commit(&[("n", &n.to_string())], &format!("refs/heads/{name}"));
        // With and without `.git` at the URL's end: a policy turns the one into the other.
        let bare = repository.url.trim_end_matches(".git");
        for (kind, url) in [("git", repository.url.as_str()), ("bare", bare)] {
            let source = json!({"git": {"url": url, "ref": {"branch": name}}});
            field
                .apply(&format!("odd-{kind}-{n}"), source, json!({}))
                .await;
        }
        let kept = json!({"buildArgs": {"BUILDKIT_CONTEXT_KEEP_GIT_DIR": "1"}});
        let source = json!({"git": {"url": repository.url, "ref": {"branch": name}}});
        field.apply(&format!("odd-kept-{n}"), source, kept).await;
        for kind in ["git", "bare", "kept"] {
            let status = field.succeeds(&format!("odd-{kind}-{n}")).await;
            assert_eq!(status.revision, Some(format!("{name}@sha1:{commit}")));
        }
    }
    let source = json!({"git": {"url": repository.url, "subPath": "50% off"}});
    field.apply("folder", source, json!({})).await;
    let empty = Repository::new(&format!("{}-empty", field.namespace));
    let of = |reference: Value| json!({"git": {"url": repository.url, "ref": reference}});
    for (build, source, words) in [
        (
            "slip",
            of(json!({"branch": "mian"})),
            "has no branch \"mian\": did you mean branch \"main\"?",
        ),
        (
            "master",
            of(json!({"branch": "master"})),
            "did you mean branch \"main\"?",
        ),
        (
            "case",
            of(json!({"branch": "Main"})),
            "did you mean branch \"main\"?",
        ),
        (
            "remote",
            of(json!({"branch": "origin/main"})),
            "did you mean branch \"main\"?",
        ),
        (
            "tag",
            of(json!({"branch": "v1.2.3"})),
            "did you mean tag \"v1.2.3\"? Use git.ref.tag",
        ),
        (
            "branch",
            of(json!({"tag": "main"})),
            "did you mean branch \"main\"? Use git.ref.branch",
        ),
        (
            "none",
            of(json!({"branch": "gh-pages"})),
            "has no branch \"gh-pages\": check git.ref",
        ),
        (
            "empty",
            json!({"git": {"url": empty.url}}),
            "is empty: push a commit to it",
        ),
        (
            "empty-branch",
            json!({"git": {"url": empty.url, "ref": {"branch": "main"}}}),
            "is empty",
        ),
    ] {
        field.apply(build, source, json!({})).await;
        let failure = field.fails(build, SourceNotFound).await;
        assert!(
            failure.message.contains(words),
            "{build}: {}",
            failure.message
        );
    }
    field.succeeds("folder").await;
    field.close().await;
}
