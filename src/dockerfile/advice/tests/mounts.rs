//! Cache mounts that stay empty.

use super::*;

fn found(dockerfile: &str) -> Vec<CacheMount> {
    cache_mounts(&View {
        dockerfile_path: "Dockerfile",
        dockerfile,
        target: None,
        build_args: &BTreeMap::new(),
        files: &[],
        warnings: &[],
    })
}

fn why(dockerfile: &str) -> String {
    let found = found(dockerfile);
    assert_eq!(found.len(), 1, "{dockerfile}\n{found:#?}");
    found[0].hint.message.clone()
}

#[test]
fn mounts_are_found_with_their_ids_and_each_with_its_own_line() {
    let text = "FROM a AS one\nRUN --mount=type=cache,id=x,target=/a \\\n  --mount=type=cache,dst=b/ \\\n  true\n\
        FROM a AS unused\nRUN --mount=type=cache,target=/c true\nFROM one\nRUN --mount=target=/d,type=cache true\n";
    let told: Vec<_> = found(text)
        .into_iter()
        .map(|it| (it.line, it.id, it.hint.line))
        .collect();
    assert_eq!(
        told,
        [
            (2, "x".to_owned(), Some(2)),
            (2, "b".to_owned(), Some(3)),
            (8, "/d".to_owned(), Some(8)),
        ]
    );
}

#[test]
fn what_cannot_be_known_or_is_right_as_it_is_is_left_out() {
    for mount in [
        "type=cache,target=$HOME/.npm",
        "type=cache,id=$TARGETARCH,target=/c",
        "type=cache,target=/c,from=base",
        "type=cache,target=/c,ro",
        "type=bind,target=/c",
        "type=tmpfs,target=/c",
        "type=cache,target=/go/pkg/mod",
    ] {
        let text = format!("FROM a\nRUN --mount={mount} go build ./...\n");
        assert!(found(&text).is_empty(), "{mount}");
    }
    let text =
        "FROM a\nENV GOMODCACHE=/m\nRUN --mount=type=cache,target=/go/pkg/mod go build ./...\n";
    assert!(why(text).contains("GOMODCACHE"));
}

#[test]
fn the_usual_cause_is_named() {
    for (text, words) in [
        (
            "RUN --mount=type=cache,target=/root/.cache/pip pip install --no-cache-dir x",
            "take --no-cache-dir out",
        ),
        (
            "ENV PIP_NO_CACHE_DIR=1\nRUN --mount=type=cache,target=/root/.cache/pip pip install x",
            "PIP_NO_CACHE_DIR=1 is set",
        ),
        (
            "USER node\nRUN --mount=type=cache,target=/root/.npm npm ci",
            "USER node (line 2), whose home directory is not /root",
        ),
        (
            "USER 1000:1000\nRUN --mount=type=cache,target=/home/app/.npm npm ci",
            "add uid= of 1000",
        ),
        (
            "RUN --mount=type=cache,target=/var/cache/apt apt-get update && apt-get install -y curl",
            "docker-clean",
        ),
        (
            "RUN --mount=type=cache,target=/root/go/pkg/mod go build ./...",
            "/go/pkg/mod in golang's images",
        ),
        (
            "RUN --mount=type=cache,target=/root/go-build go build ./...",
            "$HOME/.cache/go-build",
        ),
        (
            "RUN --mount=type=cache,target=/root/.cargo/registry cargo build --release",
            "/usr/local/cargo/registry",
        ),
        (
            "RUN --mount=type=cache,target=/root/.npm make",
            "most often because",
        ),
    ] {
        let message = why(&format!("FROM a\n{text}\n"));
        assert!(message.contains(words), "{text}: {message}");
        assert!(message.contains("is still empty after its step has run"));
    }
    // With the right owner the user is not the cause.
    let text = "FROM a\nUSER node\nRUN --mount=type=cache,target=/home/node/.npm,uid=1000 npm ci\n";
    assert!(why(text).contains("npm_config_cache"), "{}", why(text));
}
