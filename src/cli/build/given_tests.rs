use clap::Parser;

use super::*;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    options: Options,
}

fn options(words: &str) -> Options {
    let words = std::iter::once("build").chain(words.split_whitespace());
    Line::try_parse_from(words)
        .unwrap_or_else(|error| panic!("{error}"))
        .options
}

fn of(words: &str) -> Value {
    let environment = |name: &str| (name == "HOME_VERSION").then(|| "7".to_owned());
    spec(&options(words), environment).unwrap().into()
}

fn fails(words: &str) -> String {
    let failed = spec(&options(words), |_| None).unwrap_err();
    assert_eq!(failed.code(), 2);
    failed.to_string()
}

#[test]
fn only_what_is_given_is_in_the_spec() {
    assert_eq!(of(""), json!({}));
    assert_eq!(
        of(
            "--image r.example.com/a -t v1,v2 --tag v3 --platform linux/amd64,linux/arm64 --target run --label a=b=c --push-secret p --builder big"
        ),
        json!({
            "output": {"image": "r.example.com/a", "tags": ["v1", "v2", "v3"], "labels": {"a": "b=c"}, "secretRef": {"name": "p"}},
            "platforms": ["linux/amd64", "linux/arm64"],
            "target": "run",
            "builderRef": {"name": "big"},
        })
    );
    assert_eq!(
        of("--build-arg A= --build-arg HOME_VERSION --secret id=npm,secret=token/key.txt"),
        json!({
            "buildArgs": {"A": "", "HOME_VERSION": "7"},
            "secrets": [{"id": "npm", "secretRef": {"name": "token", "key": "key.txt"}}],
        })
    );
}

#[test]
fn what_is_wrong_is_told_with_what_to_write() {
    for (words, said) in [
        (
            "--build-arg NOT_SET",
            "the value is missing: write --build-arg NOT_SET=VALUE",
        ),
        ("--build-arg =x", "the name is missing"),
        ("--label x", "write --label x=VALUE"),
        (
            "--secret id=a,src=./token",
            "files and variables of this machine are not sent",
        ),
        ("--secret secret=a/b", "the id is missing"),
        ("--secret id=a,secret=b", "the Secret or its key is missing"),
        (
            "--secret id=a,secret=b/",
            "the Secret or its key is missing",
        ),
        ("-t r.example.com/a:v1", "--image r.example.com/a --tag v1"),
        (
            "--image r.example.com/a:v1",
            "write --image r.example.com/a --tag v1",
        ),
        ("--image ./here", "invalid repository"),
        ("--image r.example.com/UPPER", "--image"),
        (
            "--image https://r.example.com/a",
            "without http:// or https://",
        ),
    ] {
        let failed = fails(words);
        assert!(failed.contains(said), "{words}: {failed}");
    }
    let digest = format!("--image r.example.com/a@sha256:{}", "0".repeat(64));
    assert!(fails(&digest).contains("it has a digest"));
}

#[test]
fn a_directory_gives_the_name() {
    for (path, expected) in [
        ("/src/hello", "hello"),
        ("/src/My Shop_v2.1", "my-shop-v2-1"),
        ("/src/--a--", "a"),
        ("/src/été", "t"),
    ] {
        assert_eq!(name(Path::new(path)).unwrap(), expected);
    }
    assert_eq!(
        name(Path::new(&format!("/{}", "a".repeat(99))))
            .unwrap()
            .len(),
        NAME
    );
    for path in ["/", "/src/___"] {
        let failed = name(Path::new(path)).unwrap_err();
        assert!(failed.to_string().contains("--name"), "{failed}");
    }
}

#[test]
fn a_given_name_is_one_that_objects_can_have() {
    for good in ["a", "a-b.c9"] {
        assert_eq!(checked(good).unwrap(), good);
    }
    for bad in ["", "A", "a_b", "-a", "a..b", "a/b"] {
        assert_eq!(checked(bad).unwrap_err().code(), 2, "{bad}");
    }
}

#[test]
fn a_path_within_a_directory_is_told_from_one_outside() {
    let of = |path| within(Path::new("/src/app"), Path::new(path));
    assert_eq!(of("/src/app/Dockerfile").as_deref(), Some("Dockerfile"));
    assert_eq!(of("/src/app/./a/../docker/D").as_deref(), Some("docker/D"));
    for out in [
        "/src/Dockerfile",
        "/src/app/../Dockerfile",
        "/src/app",
        "/src/app2/D",
    ] {
        assert_eq!(of(out), None, "{out}");
    }
}
