use super::*;
use clap::Parser;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    options: Options,
}

fn options(words: &[&str]) -> Options {
    let line =
        Line::try_parse_from(["x"].iter().chain(words)).unwrap_or_else(|error| panic!("{error}"));
    line.options
}

/// A folder with a Dockerfile.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("build")).unwrap();
    for name in ["Dockerfile", "build/Other"] {
        std::fs::write(folder.path().join(name), "FROM scratch").unwrap();
    }
    folder
}

fn wanted(words: &[&str], manifest: &Manifest) -> Result<Wanted, Error> {
    Wanted::of(&options(words), manifest)
}

fn manifest(spec: &str) -> Manifest {
    let text = format!(
        "kind: ImageBuild\nmetadata: {{name: hello}}\nspec: {{output: {{image: r.example/x, tags: [a]}}, {spec}}}\n"
    );
    Manifest::read(
        "x.yaml",
        &text.replacen("kind:", "apiVersion: whittle.dev/v1alpha1\nkind:", 1),
        None,
    )
    .unwrap()
}

#[test]
fn a_folder_alone_is_an_image_build_of_that_name() {
    let folder = folder();
    let app = folder.path().join("My_App");
    std::fs::rename(folder.path().join("build"), &app).unwrap();
    std::fs::write(app.join("Dockerfile"), "FROM scratch").unwrap();
    let path = app.to_str().unwrap();
    let found = wanted(&[path, "--output", "oci:x"], &Manifest::default()).unwrap();
    assert_eq!(found.build.name_any(), "my-app");
    assert_eq!(found.build.spec.output.image, "localhost/my-app");
    assert_eq!(found.build.spec.output.tags, ["latest"]);
    let said = wanted(&[path, "--push"], &Manifest::default()).unwrap_err();
    assert!(
        said.to_string().starts_with("--push requires --image"),
        "{said}"
    );
}

#[test]
fn options_go_before_what_the_manifest_has() {
    let manifest = manifest(
        "source: {inline: {files: {Dockerfile: FROM scratch}}}, buildArgs: {A: '1', B: '2'}",
    );
    let words = [
        "--push",
        "--image",
        "r.example/y",
        "-t",
        "b",
        "-t",
        "c",
        "--platform",
        "linux/arm64,linux/amd64",
        "--target",
        "t",
        "--build-arg",
        "A=3=4",
        "--timeout",
        "1h1m1s",
    ];
    let found = wanted(&words, &manifest).unwrap();
    assert_eq!(found.timeout().unwrap(), Duration::from_secs(3661));
    let spec = found.build.spec;
    assert_eq!(
        (spec.output.image.as_str(), spec.output.tags),
        ("r.example/y", vec!["b".into(), "c".into()])
    );
    assert_eq!(spec.platforms.len(), 2);
    assert_eq!(spec.target.as_deref(), Some("t"));
    assert_eq!(
        (spec.build_args["A"].as_str(), spec.build_args["B"].as_str()),
        ("3=4", "2")
    );
    assert!(spec.source.inline.is_some() && found.folder.is_none());
}

#[test]
fn a_folder_takes_the_place_of_the_source_and_a_dockerfile_is_one_of_it() {
    let folder = folder();
    let path = folder.path().to_str().unwrap();
    let other = folder.path().join("build/Other");
    let words = [path, "-f", other.to_str().unwrap(), "--output", "oci:x"];
    let found = wanted(&words, &Manifest::default()).unwrap();
    assert_eq!(found.build.spec.dockerfile, "build/Other");
    let within = wanted(
        &[path, "-f", "build/Other", "--output", "oci:x"],
        &Manifest::default(),
    )
    .unwrap();
    assert_eq!(within.build.spec.dockerfile, "build/Other");
    let git = manifest("source: {git: {url: 'https://h/x.git'}}");
    let found = wanted(&[path, "--push"], &git).unwrap();
    assert_eq!(found.build.spec.source, Source::default());
    assert_eq!(
        found.folder,
        Some(std::fs::canonicalize(folder.path()).unwrap())
    );
    let said = |words: &[&str]| wanted(words, &Manifest::default()).unwrap_err().to_string();
    assert!(
        said(&[path, "-f", "/etc/hostname", "--output", "oci:x"])
            .contains("must be in the directory")
    );
    std::fs::remove_file(folder.path().join("Dockerfile")).unwrap();
    assert!(said(&[path, "--output", "oci:x"]).starts_with("Dockerfile not found in "));
    assert!(said(&[other.to_str().unwrap(), "--output", "oci:x"]).contains("is not a directory"));
}

#[test]
fn what_needs_a_cluster_is_told() {
    let flux = manifest("source: {flux: {kind: Bucket, name: b}}");
    let said = wanted(&["--push"], &flux).unwrap_err().to_string();
    assert!(
        said.starts_with("spec.source.flux requires a cluster"),
        "{said}"
    );
    let inline = "source: {inline: {files: {Dockerfile: FROM scratch}}}";
    let checked = manifest(&format!(
        "{inline}, healthCheck: {{exec: {{command: [/x]}}}}, minimize: {{mode: Apply, trace: true}}"
    ));
    let found = wanted(&["--push"], &checked).unwrap();
    let minimize = found.build.spec.minimize.unwrap();
    assert_eq!(
        (minimize.mode, minimize.trace),
        (MinimizeMode::Suggest, false)
    );
    assert!(
        found.notes[0].starts_with("health check: not done")
            && found.notes[1].starts_with("minimize:")
    );
    let debug = manifest(&format!("{inline}, debug: {{image: 'busybox:1'}}"));
    let said = wanted(&["--output", "oci:x"], &debug)
        .unwrap_err()
        .to_string();
    assert!(
        said.starts_with("spec.debug.image requires --push"),
        "{said}"
    );
    assert!(wanted(&["--push"], &debug).is_ok());
}

#[test]
fn what_an_api_server_would_deny_is_denied_in_its_words() {
    let inline = "source: {inline: {files: {Dockerfile: FROM scratch}}}";
    for (spec, words, said) in [
        (
            "source: {}",
            vec!["--push"],
            "source: set exactly one of git, inline, configMap, oci and flux",
        ),
        (
            &*format!("{inline}, minimize: {{mode: Apply}}"),
            vec!["--push"],
            "minimize: mode Apply requires healthCheck",
        ),
        (
            &*format!("{inline}, dockerfile: /Dockerfile"),
            vec!["--push"],
            "dockerfile: invalid path",
        ),
        (
            inline,
            vec!["--push", "--platform", "linux/arm64,linux/arm64/v8"],
            "platforms: linux/arm64 and linux/arm64/v8 are the same platform",
        ),
    ] {
        let error = wanted(&words, &manifest(spec)).unwrap_err().to_string();
        let begin = "ImageBuild hello is invalid, and an API server would deny it:\n  ";
        assert!(error.starts_with(begin) && error.contains(said), "{error}");
    }
    // A directory is a source, though none of the rules' own.
    let folder = folder();
    let path = folder.path().to_str().unwrap();
    assert!(wanted(&[path, "--push"], &manifest("source: {}")).is_ok());
}

#[test]
fn a_secret_has_an_id_and_one_place() {
    let file = |path: &str| SecretFrom::File(path.into());
    assert_eq!(secret("id=npm,src=a/b").unwrap().from, file("a/b"));
    assert_eq!(secret("type=file,id=npm,source=a").unwrap().from, file("a"));
    assert_eq!(
        secret("id=npm,env=NPM").unwrap().from,
        SecretFrom::Variable("NPM".into())
    );
    for wrong in [
        "npm",
        "id=npm",
        "src=a",
        "id=npm,src=a,env=B",
        "id=npm,src=a,mode=1",
        "id=../x,src=a",
        "id=.x,src=a",
        "id=GIT_AUTH_TOKEN,src=a",
    ] {
        assert!(secret(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn durations_are_those_of_specs() {
    for (text, seconds) in [("1s", 1), ("30m", 1800), ("1h30m", 5400), ("24h", 86_400)] {
        assert_eq!(duration(text), Some(Duration::from_secs(seconds)), "{text}");
    }
    for wrong in [
        "",
        "0s",
        "30",
        "m",
        "1d",
        "25h",
        "1h30",
        "99999999999999999999s",
    ] {
        assert_eq!(duration(wrong), None, "{wrong}");
    }
}

#[test]
fn an_argument_without_a_value_has_that_of_the_environment() {
    assert_eq!(build_arg("A=b=c"), Ok(("A".into(), "b=c".into())));
    assert!(
        build_arg("WHITTLE_TEST_NO_SUCH_VARIABLE")
            .unwrap_err()
            .contains("is not set")
    );
    assert!(build_arg("=x").is_err());
    assert!(
        build_arg("BUILDKIT_SYNTAX=x")
            .unwrap_err()
            .contains("external frontends are off")
    );
}
