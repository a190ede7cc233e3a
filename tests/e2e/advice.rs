//! Hints about the Dockerfile and the context, with their lines, on real builds.

use serde_json::{Value, json};
use whittle_api::{ImageBuildStatus, find};

use crate::field::{Field, Repository};

const HAS: [(&str, &str); 4] = [
    (
        "Dockerfile",
        "FROM busybox AS build\n\
         WORKDIR /src\n\
         COPY . .\n\
         RUN echo \"version $VERSION for $TARGETARCH\" > /version\n\
         FROM debian:12-slim\n\
         ENV API_TOKEN=not-a-good-place\n\
         COPY --from=build /version /version\n\
         CMD cat /version\n",
    ),
    (".env", "DATABASE_PASSWORD=hunter22hunter22\n"),
    (
        "id_ed25519",
        "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAA\n-----END OPENSSH PRIVATE KEY-----\n",
    ),
    ("main.go", "package main\n"),
];
const NEARLY: [(&str, &str); 5] = [
    (
        "Dockerfile",
        "FROM scratch\nARG VERSION\nLABEL version=$VERSION\nCOPY . /src\nCMD [\"/src/main\"]\n",
    ),
    (".dockerignore", ".env\nid_*\n"),
    (".env", "DATABASE_PASSWORD=hunter22hunter22\n"),
    (".env.example", "DATABASE_PASSWORD=\n"),
    (
        "id_ed25519",
        "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAA\n-----END OPENSSH PRIVATE KEY-----\n",
    ),
];

fn files(all: &[(&str, &str)]) -> Value {
    all.iter()
        .map(|(name, text)| ((*name).to_owned(), json!(text)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn advice(status: &ImageBuildStatus) -> (String, String) {
    let condition = find(&status.conditions, "Advice").expect("the condition is there");
    (condition.status.clone(), condition.message.clone())
}

#[tokio::test]
async fn hints_have_their_lines_for_every_source_and_what_is_right_has_none() {
    let field = Field::new("advice").await;
    let spec = json!({"buildArgs": {"VERSION": "1.2.3"}});
    field.build("inline", files(&HAS), spec.clone()).await;
    let (has, nearly) = (
        Repository::new(&format!("{}-has", field.namespace)),
        Repository::new(&format!("{}-nearly", field.namespace)),
    );
    has.commit(&HAS, "refs/heads/main");
    nearly.commit(&NEARLY, "refs/heads/main");
    let git = |repository: &Repository| json!({"git": {"url": repository.url}});
    field.apply("git", git(&has), spec.clone()).await;
    field.build("right", files(&NEARLY), spec.clone()).await;
    field.apply("right-git", git(&nearly), spec).await;
    for name in ["inline", "git"] {
        let (status, message) = advice(&field.succeeds(name).await);
        assert_eq!(status, "True");
        for (line, words) in [
            ("Dockerfile:1: ", "busybox"),
            ("Dockerfile:3: ", ".env"),
            ("Dockerfile:3: ", "id_ed25519"),
            ("Dockerfile:4: ", "VERSION"),
            ("Dockerfile:4: ", "TARGETARCH"),
            ("Dockerfile:6: ", "API_TOKEN"),
            ("Dockerfile:8: ", "JSON"),
        ] {
            assert!(
                message
                    .lines()
                    .any(|hint| hint.starts_with(line) && hint.contains(words)),
                "{name}: no hint {line}{words} in:\n{message}"
            );
        }
        assert!(!message.contains("hunter22"), "{message}");
    }
    for name in ["right", "right-git"] {
        let (status, message) = advice(&field.succeeds(name).await);
        assert_eq!(
            (status.as_str(), message.as_str()),
            ("False", "no hints"),
            "{name}"
        );
    }
    field.close().await;
}

#[tokio::test]
async fn a_health_check_without_its_program_and_a_list_that_is_none_are_told_after_the_build() {
    let field = Field::new("advice-built").await;
    let dockerfile = |check: &str| {
        format!(
            "FROM debian:12-slim\nVOLUME ['/data']\nHEALTHCHECK --interval=5s \\\n  CMD {check}\nCMD [\"cat\", \
             \"/etc/hostname\"]\n"
        )
    };
    for (name, check) in [
        ("lacks", "curl -f http://localhost/ || exit 1"),
        ("has", "test -e /etc/hostname || exit 1"),
    ] {
        let text = dockerfile(check);
        let source = files(&[("Dockerfile", text.as_str())]);
        field.build(name, source, json!({})).await;
    }
    for (name, told) in [("lacks", true), ("has", false)] {
        let (status, message) = advice(&field.succeeds(name).await);
        assert_eq!(status, "True");
        let lines: Vec<&str> = message.lines().collect();
        assert!(
            lines[0].starts_with("Dockerfile:2: `VOLUME ['/data']` is invalid JSON"),
            "{message}"
        );
        let health = "Dockerfile:3: HEALTHCHECK cannot work in the image for linux/";
        let found = lines.iter().find(|line| line.starts_with(health));
        assert_eq!(found.is_some(), told, "{message}");
        if let Some(line) = found {
            assert!(line.contains("curl"), "{message}");
        }
        // One for all bases, and the last.
        let last = lines.last().unwrap();
        assert!(
            last.starts_with("Dockerfile: debian:12-slim (line 1) is named by a tag alone"),
            "{message}"
        );
    }
    field.close().await;
}
