//! What is refused is told in words: nobody is shown a regular expression.

use kube::core::cel::validate_cel;
use serde_json::{Value, json};

use super::tests::{accepted, refused};
use super::*;

/// Complains of a `pattern`, and of a rule without words of its own.
fn silent(schema: &Value, path: &str, found: &mut Vec<String>) {
    match schema {
        Value::Object(object) => {
            if object.get("pattern").is_some_and(Value::is_string) {
                found.push(format!("{path}: a pattern"));
            }
            if object.contains_key("rule")
                && !object.contains_key("message")
                && !object.contains_key("messageExpression")
            {
                found.push(format!("{path}: a rule without words"));
            }
            for (name, value) in object {
                silent(value, &format!("{path}.{name}"), found);
            }
        }
        Value::Array(all) => all.iter().for_each(|value| silent(value, path, found)),
        _ => {}
    }
}

#[test]
fn no_field_answers_with_a_regular_expression() {
    let mut found = vec![];
    for crd in [ImageBuild::crd(), Builder::crd()] {
        let crd = serde_json::to_value(crd).unwrap();
        let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        silent(
            schema,
            crd["spec"]["names"]["kind"].as_str().unwrap(),
            &mut found,
        );
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

fn git(reference: Value) -> Value {
    json!({"source": {"inline": null, "git": {"url": "https://h/x.git", "ref": reference}}})
}

#[test]
fn whatever_git_allows_is_a_branch_or_a_tag() {
    for name in [
        "main",
        "feature/#12",
        "fix(parser)",
        "grün/ä-ö-ü",
        "日本",
        "100%",
        "a@b",
        "release-1.2+rc.1",
        "user's",
        "a&b;c|d$e!f\"g",
        "{x}",
        "_",
        "v1.locked/x",
        "head",
        "origin/main",
        "a.b.c",
        "x--y",
    ] {
        accepted(git(json!({"branch": name})));
        accepted(git(json!({"tag": name})));
    }
}

#[test]
fn what_git_forbids_in_a_name_is_refused_in_words() {
    let sign = "git does not allow spaces, control characters, ~ ^ : ? * [ and backslash";
    let form = "it must not start with - or /";
    for (name, words) in [
        ("my branch", sign),
        ("a\tb", sign),
        ("a\nb", sign),
        ("a\u{7f}", sign),
        ("main~1", sign),
        ("main^", sign),
        ("a:b", sign),
        ("what?", sign),
        ("release/*", sign),
        ("a[1]", sign),
        ("a\\b", sign),
        ("a..b", form),
        ("..", form),
        ("-main", form),
        ("main@{1}", form),
        ("@", form),
        ("/main", form),
        ("main/", form),
        ("a//b", form),
        ("main.", form),
        (".main", form),
        ("a/.b", form),
        ("main.lock", form),
        ("a.lock/b", form),
    ] {
        refused(git(json!({"branch": name})), words);
        refused(git(json!({"tag": name})), words);
    }
}

#[test]
fn a_whole_ref_is_told_to_be_written_as_its_name_alone() {
    let alone = "write only the branch's name, main and not refs/heads/main";
    for name in ["refs/heads/main", "refs/tags/v1", "refs/pull/3/head"] {
        refused(git(json!({"branch": name})), alone);
    }
    let alone = "write only the tag's name, v1 and not refs/tags/v1";
    refused(git(json!({"tag": "refs/tags/v1"})), alone);
    refused(git(json!({"branch": "HEAD"})), "HEAD is not a branch");
}

#[test]
fn a_commit_that_is_cut_short_is_told_how_long_it_is_and_has_to_be() {
    for (commit, words) in [
        ("837dd14", "837dd14 is not a full commit, which has 40"),
        ("", " is not a full commit"),
        (&"a".repeat(41), "a is not a full commit"),
        ("main", "invalid commit: it has hexadecimal digits only"),
        (
            &"g".repeat(40),
            "for a branch or a tag use git.ref.branch or git.ref.tag",
        ),
        (&"A".repeat(40), "in lowercase"),
    ] {
        refused(git(json!({"commit": commit})), words);
    }
    accepted(git(json!({"commit": "a".repeat(40)})));
    accepted(git(json!({"commit": "0".repeat(64)})));
}

#[test]
fn tags_and_names_that_cannot_be_are_refused_in_words() {
    for tag in ["feature/x", "1.2.3+4", "-x", ".x", "a b", "ü", "a:b", "a@b"] {
        let output = json!({"output": {"tags": ["latest", tag]}});
        refused(output, "write for example feature-x for feature/x");
    }
    let secret = |id: &str, name: &str, key: &str| json!({"secrets": [{"id": id, "secretRef": {"name": name, "key": key}}]});
    refused(secret("a/b", "s", "k"), "secrets: invalid id: use letters");
    refused(
        secret("a", "My_Secret", "k"),
        "secretRef.name: invalid name",
    );
    refused(secret("a", "s", "a/b"), "secretRef.key: invalid key");
    refused(json!({"target": "a/b"}), "target: invalid stage name");
    refused(
        json!({"debug": {"target": "a b"}}),
        "debug.target: invalid stage name",
    );
    refused(
        json!({"debug": {"image": "a b"}}),
        "debug.image: invalid image name",
    );
    let suffix = json!({"debug": {"target": "a", "tagSuffix": "/x"}});
    refused(
        suffix,
        "debug.tagSuffix: invalid: it becomes the end of a tag",
    );
    let map = |name: &str, items: Value| json!({"source": {"inline": null, "configMap": {"name": name, "items": items}}});
    refused(map("A", json!([])), "configMap.name: invalid name");
    let items = json!([{"key": "a/b", "path": "b"}]);
    refused(map("a", items), "configMap.items: invalid key");
}

#[test]
fn a_health_check_that_cannot_be_is_refused_in_words() {
    let check = |mut patch: Value| {
        patch["httpGet"] = json!({"port": 80, "path": patch["path"].as_str().unwrap_or("/")});
        patch.as_object_mut().unwrap().remove("path");
        json!({"healthCheck": patch})
    };
    refused(check(json!({"path": "healthz"})), "it must start with /");
    refused(check(json!({"env": [{"name": "a=b"}]})), "without =");
    let nul = json!({"env": [{"name": "a", "value": "\0"}]});
    refused(
        check(nul),
        "healthCheck.env: NUL characters are not allowed",
    );
    refused(
        check(json!({"args": ["\0"]})),
        "healthCheck.args: NUL characters",
    );
    refused(
        json!({"buildArgs": {"A": "\0"}}),
        "buildArgs: a value contains a NUL character",
    );
}

#[test]
fn a_builder_that_cannot_be_is_refused_in_words() {
    let refused = |spec: Value, words: &str| {
        let builder = Builder::new("default", serde_json::from_value(spec).unwrap());
        let error = validate_cel(&builder).expect_err("accepted").to_string();
        assert!(error.contains(words), "{error}");
    };
    refused(json!({"cache": {"minFree": "95%"}}), "from 1% to 90%");
    let layers = |image: &str, secret: &str| json!({"cache": {"registry": {"image": image, "secretRef": {"name": secret}}}});
    let tagged = layers("registry.example.com/cache:latest", "a");
    refused(tagged, "each ImageBuild has a tag of its own");
    let upper = layers("registry.example.com/Cache", "a");
    refused(upper, "cache.registry.image: invalid repository");
    let ours = layers("registry.example.com/cache", "whittle-ca");
    refused(ours, "reserved for Whittle's own keys");
    let registry = |patch: Value| json!({"registries": [patch]});
    let host = registry(json!({"host": "https://registry.example.com"}));
    refused(host, "without https:// and without a path");
    let mirror = registry(json!({"host": "a", "mirrors": ["https://b"]}));
    refused(mirror, "registries.mirrors: invalid mirror");
    let authority = registry(json!({"host": "a", "caRef": {"name": "A", "key": "ca.crt"}}));
    refused(authority, "caRef.name: invalid name");
    let authority = registry(json!({"host": "a", "caRef": {"name": "a", "key": "a/b"}}));
    refused(authority, "caRef.key: invalid key");
}
