//! Several ImageBuilds of one repository, each of a directory: a commit is built by those below whose directory it changes something.

use serde_json::json;
use whittle_api::{FolderStatus, TriggerReason};

use crate::field::{Field, Repository};
use crate::registry::files_of;

const COPY: &str = "FROM scratch\nCOPY . /src/\n";

/// Directories, each with an ImageBuild of the same name.
const DIRECTORIES: [&str; 2] = ["api", "web"];

fn revision(commit: &str) -> String {
    format!("main@sha1:{commit}")
}

/// Waits until the ImageBuild has seen this commit, in which its directory is as it was built.
async fn has_seen(field: &Field, name: &str, commit: &str) -> FolderStatus {
    let what = format!("{name} has seen {commit}");
    let seen = async || {
        let folder = field.status(name).await.folder?;
        (folder.seen == revision(commit)).then_some(folder)
    };
    field.until(&what, seen).await
}

/// It has been built this often, last from this commit, and nothing is under way or asked for.
async fn is_built(field: &Field, name: &str, number: i64, commit: &str) {
    let status = field.status(name).await;
    let expected = (Some(number), Some(revision(commit)), None, None);
    let (current, pending) = (status.current, status.pending);
    assert_eq!(
        (status.build, status.revision, current, pending),
        expected,
        "{name}"
    );
    let jobs = field.jobs(name).await.len();
    assert_eq!(i64::try_from(jobs).unwrap(), number, "Jobs of {name}");
}

#[tokio::test]
async fn a_commit_is_built_where_it_changes_the_directory_and_only_seen_elsewhere() {
    let field = Field::new("monorepo").await;
    let repository = Repository::new(&field.namespace);
    let first = repository.commit(
        &[
            ("services/api/Dockerfile", COPY),
            ("services/api/text", "api, one"),
            ("services/web/Dockerfile", COPY),
            ("services/web/text", "web, one"),
            ("README.md", "one"),
        ],
        "refs/heads/main",
    );
    for name in DIRECTORIES {
        let path = format!("services/{name}");
        let source =
            json!({"git": {"url": repository.url, "ref": {"branch": "main"}, "subPath": path}});
        let polled = json!({"triggers": {"poll": {"interval": "10s"}}});
        field.apply(name, source, polled).await;
    }
    for name in DIRECTORIES {
        field.succeeds(name).await;
        has_seen(&field, name, &first).await;
        is_built(&field, name, 1, &first).await;
    }

    // Below one of them.
    let second = repository.commit(&[("services/api/text", "api, two")], "refs/heads/main");
    let status = field.has_built("api", &revision(&second)).await;
    let trigger = status.trigger.unwrap();
    assert_eq!(
        (trigger.reason, trigger.detail),
        (TriggerReason::Commit, revision(&second))
    );
    let files = files_of(&field.image("api"), &status.digest.unwrap()).await;
    assert_eq!(files["src/text"], b"api, two");
    let folder = has_seen(&field, "web", &second).await;
    assert_eq!(folder.built, revision(&first));
    is_built(&field, "web", 1, &first).await;

    // Above both.
    let third = repository.commit(&[("README.md", "three")], "refs/heads/main");
    for (name, number, built) in [("api", 2, &second), ("web", 1, &first)] {
        let folder = has_seen(&field, name, &third).await;
        assert_eq!(folder.built, revision(built));
        is_built(&field, name, number, built).await;
    }

    // What was only seen meanwhile is part of the next build.
    let fourth = repository.commit(&[("services/web/text", "web, four")], "refs/heads/main");
    let status = field.has_built("web", &revision(&fourth)).await;
    let files = files_of(&field.image("web"), &status.digest.unwrap()).await;
    assert_eq!(files["src/text"], b"web, four");
    has_seen(&field, "api", &fourth).await;
    is_built(&field, "web", 2, &fourth).await;
    is_built(&field, "api", 2, &second).await;
    field.close().await;
}
