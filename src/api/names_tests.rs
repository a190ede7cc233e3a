//! Names of images, wherever one stands: taken and refused as Docker's own grammar does it.

use super::tests::{accepted, refused};
use serde_json::{Value, json};

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

type Field = (&'static str, fn(&str) -> Value);

/// Every field that holds the name of an image.
const FIELDS: [Field; 3] = [
    ("output.image", |image| json!({"output": {"image": image}})),
    (
        "oci.image",
        |image| json!({"source": {"inline": null, "oci": {"image": image}}}),
    ),
    ("debug.image", |image| json!({"debug": {"image": image}})),
];

#[test]
fn names_that_no_registry_takes_are_refused_in_every_field() {
    let long = format!("registry.example.com/{}", "a/".repeat(130) + "a");
    let id = "a1".repeat(32);
    for name in [
        "registry.example.com/team/a..b",
        "registry.example.com/team/a___b",
        "registry.example.com/team/a_.b",
        "registry.example.com/team/a._b",
        "registry.example.com/team/a.-b",
        "registry.example.com/team/a-_b",
        "registry.example.com/a..b/c",
        "registry.example.com/team/.a",
        "registry.example.com/team/a.",
        "registry.example.com/team/-a",
        "registry.example.com/team/a-",
        "registry.example.com/team/_a",
        "registry.example.com/team/a_",
        "registry.example.com/team//a",
        "registry.example.com/team/",
        "registry.example.com/",
        "registry.example.com//a",
        "/a",
        "a/",
        "registry.example.com/Team/a",
        "registry.example.com/team/A",
        "registry.example.com/team/ä",
        "registry.example.com/team/a b",
        "registry.example.com:5000/..",
        "registry.example.com:5000/../a",
        "registry.example.com:5000/a/../b",
        "registry.example.com:/a",
        "registry.example.com:x/a",
        "registry.example.com:123456/a",
        "registry..example.com/a",
        ".example.com/a",
        "example.com./a",
        "-example.com/a",
        "example-.com/a",
        "regis_try.example.com/a",
        "Team/a",
        "Hello",
        "a..b",
        "a___b",
        &long,
        &id,
    ] {
        for (field, patch) in FIELDS {
            let found = kube::core::cel::validate_cel(&super::tests::image_build(patch(name)));
            // The length of output.image is held by the schema itself.
            if field == "output.image" && name.len() > 255 {
                continue;
            }
            // What begins otherwise is refused by the schema of debug.image.
            if field == "debug.image" && !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
                continue;
            }
            let said = found.expect_err(&format!("{field}: {name}")).to_string();
            assert!(said.contains(field), "{name}: {said}");
        }
    }
}

#[test]
fn names_that_registries_take_are_taken_in_every_field() {
    let longest = format!("registry.example.com:5000/{}", "a/".repeat(110) + "a");
    for name in [
        "hello",
        "team/hello",
        "a/b__c/d-e.f",
        "a/b---c",
        "registry.example.com/team/hello",
        "registry.example.com:5000/team/hello",
        "Registry.Example.com/team/hello",
        "registry:5000/hello",
        "localhost/hello",
        "localhost:5000/a",
        "10.0.0.1/a",
        "10.0.0.1:5000/a/b/c/d/e",
        "123456789012.dkr.ecr.eu-central-1.amazonaws.com/team/hello",
        "europe-docker.pkg.dev/project/repository/hello",
        "x--y.example.com/a",
        "1/2",
        &longest,
    ] {
        for (_, patch) in FIELDS {
            accepted(patch(name));
        }
        for (_, patch) in &FIELDS[1..] {
            for rest in [
                ":1.2.3",
                ":_x",
                &format!("@{DIGEST}"),
                &format!(":v1@{DIGEST}"),
            ] {
                accepted(patch(&format!("{name}{rest}")));
            }
        }
    }
    for (field, patch) in &FIELDS[1..] {
        for rest in [
            ":",
            ":-1",
            &format!(":{}", "a".repeat(129)),
            "@",
            "@sha256:12",
            ":a:b",
        ] {
            refused(patch(&format!("registry.example.com/a{rest}")), field);
        }
    }
    refused(
        json!({"output": {"image": "registry.example.com/a:1"}}),
        "tags belong in output.tags",
    );
}

#[test]
fn one_platform_by_two_names_is_refused_and_other_names_have_their_cure() {
    for platforms in [
        json!(["linux/arm64", "linux/arm64/v8"]),
        json!(["linux/arm64/v8", "linux/amd64", "linux/arm64"]),
    ] {
        refused(
            json!({"platforms": platforms}),
            "linux/arm64 and linux/arm64/v8 are the same platform: name it once",
        );
    }
    for (name, fix) in [
        ("linux/aarch64", "write linux/arm64"),
        ("linux/x86_64", "write linux/amd64"),
        ("linux/amd64/v1", "write linux/amd64"),
        ("linux/arm", "write linux/arm/v7"),
        ("linux/armhf", "write linux/arm/v7"),
        ("linux/armel", "write linux/arm/v6"),
        ("linux/i386", "write linux/386"),
        ("amd64", "write linux/amd64"),
        ("linux/vax", "use for example linux/amd64 or linux/arm64"),
    ] {
        refused(
            json!({"platforms": [name]}),
            &format!("unknown platform {name}: {fix}"),
        );
    }
    accepted(json!({"platforms": ["linux/arm64/v8"]}));
    accepted(
        json!({"platforms": ["linux/amd64", "linux/amd64/v2", "linux/arm64", "linux/arm/v7", "linux/arm/v6"]}),
    );
}
