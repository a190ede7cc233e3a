//! `whittle build` against a cluster: a directory of this machine becomes an image.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;
use whittle_api::ImageBuild;

use crate::cli::{Ran, of_nobody, with};
use crate::field::{Field, variable};
use crate::registry::{files_of, find_manifest};

/// A directory of these files.
fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    folder
}

/// A configuration of docker's with a credential store, and the store's program, which notes what it is asked for.
fn folder_of_docker() -> TempDir {
    let program = "#!/bin/sh\n{ printf '%s ' \"$1\"; cat; } > \"$DOCKER_CONFIG/asked\"\necho '{\"Username\":\"u\",\"Secret\":\"p\"}'\n";
    let folder = folder(&[
        ("config.json", r#"{"credsStore": "e2e"}"#),
        ("docker-credential-e2e", program),
    ]);
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(folder.path().join("docker-credential-e2e"), mode).unwrap();
    folder
}

impl Field {
    /// Builds a directory into an image of this name, pushed to the local registry as this machine reaches it.
    async fn build_folder(&self, folder: &TempDir, name: &str, more: &[&str]) -> Ran {
        self.build_folder_with(folder, name, more, &[]).await
    }

    /// The same, with variables.
    async fn build_folder_with(
        &self,
        folder: &TempDir,
        name: &str,
        more: &[&str],
        variables: &[(&str, &str)],
    ) -> Ran {
        let path = folder.path().to_str().unwrap();
        let host = variable("REGISTRY_HOST");
        let to = format!("{host}/{}/{name}", self.namespace);
        let common = [
            "build",
            path,
            "--name",
            name,
            "--push-to",
            &to,
            "-n",
            &self.namespace,
        ];
        with(&[&common, more].concat(), variables).await
    }

    async fn image_build(&self, name: &str) -> ImageBuild {
        self.api::<ImageBuild>().get(name).await.unwrap()
    }
}

/// The digest of an image as `status.image` has it.
fn digest(build: &ImageBuild) -> String {
    build.status.as_ref().unwrap().digest.clone().unwrap()
}

fn append(path: &Path, text: &str) {
    let before = fs::read_to_string(path).unwrap();
    fs::write(path, before + text).unwrap();
}

#[tokio::test]
async fn a_directory_is_built_and_only_what_has_changed_is_sent_and_built_again() {
    let field = Field::new("cli-build").await;
    let folder = folder(&[
        (".dockerignore", "*.log\nnode_modules\n"),
        (
            "Dockerfile",
            "FROM busybox:1.36\nCOPY . /src/\nRUN test -x /src/bin/run && test ! -e /src/debug.log\n",
        ),
        ("bin/run", "#!/bin/sh\n"),
        ("debug.log", "secret"),
        ("node_modules/left/pad.js", ""),
        ("src/main.txt", "one\n"),
    ]);
    let run = folder.path().join("bin/run");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(run, mode).unwrap();
    std::os::unix::fs::symlink("nowhere", folder.path().join("link")).unwrap();
    let image = field.image("hello");

    let first = field
        .build_folder(
            &folder,
            "hello",
            &["--image", &image, "--tag", "v1", "--build-arg", "A=1"],
        )
        .await;
    let out = first.ends(0);
    assert!(first.err.contains("sent "), "{first:?}");
    assert!(out.contains("hello  Ready, built "), "{out}");
    let built = field.image_build("hello").await;
    let files = files_of(&image, &digest(&built)).await;
    assert_eq!(files["src/src/main.txt"], b"one\n");
    assert!(files.contains_key("src/bin/run"), "{:?}", files.keys());
    assert!(!files.keys().any(|it| it.contains("node_modules")));
    let source = built.spec.source.oci.as_ref().unwrap().image.clone();
    let (_, source_digest) = source.split_once('@').unwrap();
    assert!(find_manifest(&image, source_digest).await.is_some());

    // Nothing has changed: without --image, and with another time on the files.
    fs::write(folder.path().join("src/main.txt"), "one\n").unwrap();
    let again = field.build_folder(&folder, "hello", &[]).await;
    let line = format!("hello: up to date: {image}@{}\n", digest(&built));
    assert_eq!(again.ends(0), line);
    assert!(!again.err.contains("sent "), "{again:?}");
    let unchanged = field.image_build("hello").await;
    assert_eq!(unchanged.metadata.generation, built.metadata.generation);
    assert_eq!(unchanged.status.unwrap().build, Some(1));

    // One line: what was said before stays said.
    append(&folder.path().join("src/main.txt"), "two\n");
    let changed = field.build_folder(&folder, "hello", &["--wait"]).await;
    assert!(changed.ends(0).starts_with("hello: "), "{changed:?}");
    assert!(changed.err.contains("(1 of 2 layers)"), "{changed:?}");
    let built = field.image_build("hello").await;
    assert_eq!(built.spec.output.tags, ["v1"]);
    assert_eq!(built.spec.build_args["A"], "1");
    let files = files_of(&image, &digest(&built)).await;
    assert_eq!(files["src/src/main.txt"], b"one\ntwo\n");

    // Again, though nothing has changed; docker keeps its credentials in a program, which is asked for this registry.
    let docker = folder_of_docker();
    let path = docker.path().to_str().unwrap();
    let search = format!("{path}:{}", variable("PATH"));
    let variables = [("DOCKER_CONFIG", path), ("PATH", &search)];
    let rebuilt = field
        .build_folder_with(&folder, "hello", &["--rebuild"], &variables)
        .await;
    let asked = fs::read_to_string(docker.path().join("asked")).unwrap();
    assert_eq!(asked, format!("get {}", variable("REGISTRY_HOST")));
    rebuilt.ends(0);
    assert!(rebuilt.err.contains("nothing to send"), "{rebuilt:?}");
    let status = field.image_build("hello").await.status.unwrap();
    assert_eq!(status.build, Some(3));
    field.close().await;
}

#[tokio::test]
async fn what_goes_wrong_is_told_with_its_exit_code() {
    let field = Field::new("cli-build-wrong").await;
    let image = field.image("bad");
    let bad = folder(&[("Dockerfile", "FROM busybox:1.36\nRUN exit 7\n")]);
    let to = ["--image", image.as_str()];
    // The build itself.
    let failed = field.build_folder(&bad, "bad", &to).await;
    failed.fails(1);
    assert!(failed.out.contains("exit 7"), "{failed:?}");
    let again = field.build_folder(&bad, "bad", &to).await;
    assert!(
        again.fails(1).contains("--rebuild builds again"),
        "{again:?}"
    );

    // Wrong use: nothing is created.
    let none = field.build_folder(&bad, "none", &[]).await;
    assert!(none.fails(2).contains("whittle build --image"), "{none:?}");
    let empty = folder(&[]);
    let empty = field.build_folder(&empty, "none", &to).await;
    assert!(empty.fails(2).contains("Dockerfile not found"), "{empty:?}");

    // The API server, before anything is sent.
    let rejected = field
        .build_folder(
            &bad,
            "rejected",
            &[
                "--image",
                &field.image("rejected"),
                "--platform",
                "linux/aarch64",
            ],
        )
        .await;
    assert!(
        rejected.fails(3).contains("write linux/arm64"),
        "{rejected:?}"
    );
    assert!(!rejected.err.contains("sent "), "{rejected:?}");

    // Nobody's rights, and no cluster.
    let config = folder(&[("denied", &of_nobody(&field).await)]);
    let config = config.path().join("denied");
    let denied = field
        .build_folder(&bad, "bad", &["--kubeconfig", config.to_str().unwrap()])
        .await;
    assert!(
        denied.fails(3).contains("denied: imagebuilds.whittle.dev"),
        "{denied:?}"
    );
    let path = bad.path().to_str().unwrap();
    let nowhere = [("KUBECONFIG", "/dev/null"), ("HOME", "/nonexistent")];
    let away = with(&["build", path, "--image", &image], &nowhere).await;
    assert!(matches!(away.code, Some(2 | 3)), "{away:?}");
    // What is printed alone needs none.
    let dry = with(
        &[
            "build",
            path,
            "--name=dry",
            "--image",
            &image,
            "--dry-run",
            "-o=json",
        ],
        &nowhere,
    )
    .await;
    let object: Value = serde_json::from_str(dry.ends(0)).unwrap();
    assert_eq!(object["spec"]["output"], json!({"image": image}));
    field.close().await;
}

#[tokio::test]
async fn what_others_manage_is_told_and_taken_over_when_asked() {
    let field = Field::new("cli-build-others").await;
    let text = "FROM busybox:1.36\nRUN echo from the manifest\n";
    field
        .build(
            "hello",
            json!({"Dockerfile": text}),
            json!({"suspend": true}),
        )
        .await;
    let folder = folder(&[(
        "Dockerfile",
        "FROM busybox:1.36\nRUN echo from the directory\n",
    )]);
    let refused = field.build_folder(&folder, "hello", &[]).await;
    assert!(
        refused
            .fails(3)
            .contains("its source is inline, set by e2e: --force-conflicts"),
        "{refused:?}"
    );
    let taken = field
        .build_folder(&folder, "hello", &["--force-conflicts"])
        .await;
    assert!(taken.ends(0).contains("whittle resume hello"), "{taken:?}");
    let now = field.image_build("hello").await;
    assert!(now.spec.source.inline.is_none() && now.spec.source.oci.is_some());
    let other = field.image("other");
    let refused = field
        .build_folder(&folder, "hello", &["--image", &other])
        .await;
    assert!(
        refused.fails(3).contains("spec.output.image is set by e2e"),
        "{refused:?}"
    );
    field.close().await;
}

#[tokio::test]
async fn a_manifest_is_applied_and_a_small_directory_needs_no_registry() {
    let field = Field::new("cli-build-manifest").await;
    let manifest = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: c}}\n---\napiVersion: whittle.dev/v1alpha1\nkind: ImageBuild\nmetadata: {{name: \
         hello}}\nspec:\n  source: {{inline: {{files: {{Dockerfile: \"FROM busybox:1.36\\n\"}}}}}}\n  output: {{image: {}}}\n",
        field.image("hello")
    );
    let files = folder(&[("ib.yaml", &manifest)]);
    let path = files.path().join("ib.yaml");
    let ran = field
        .whittle(&["build", "-f", path.to_str().unwrap()])
        .await;
    assert!(ran.ends(0).contains("hello  Ready, built "), "{ran:?}");
    assert!(ran.err.contains("ConfigMap c is not applied"), "{ran:?}");
    let again = field
        .whittle(&["build", "-f", path.to_str().unwrap()])
        .await;
    assert!(
        again.ends(0).starts_with("hello: up to date: "),
        "{again:?}"
    );

    // Nothing listens there.
    let small = folder(&[("Dockerfile", "FROM busybox:1.36\nCOPY a /a\n"), ("a", "1")]);
    let image = field.image("small");
    let to = [
        "--name=small",
        "--image",
        &image,
        "--push-to=127.0.0.1:1/small",
    ];
    let path = small.path().to_str().unwrap();
    let ran = field.whittle(&[&["build", path], &to[..]].concat()).await;
    assert!(ran.ends(0).contains("small  Ready, built "), "{ran:?}");
    assert!(ran.err.contains("(source.inline)"), "{ran:?}");
    fs::write(small.path().join("large"), vec![b'a'; 300 << 10]).unwrap();
    let ran = field.whittle(&[&["build", path], &to[..]].concat()).await;
    assert!(ran.fails(3).contains("is unreachable from here"), "{ran:?}");
    field.close().await;
}
