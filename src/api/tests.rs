//! The rules of the kinds, evaluated as the API server evaluates them.

use super::*;
use kube::core::cel::validate_cel;
use serde_json::{Value, json};

pub(super) fn image_build(patch: Value) -> ImageBuild {
    let mut spec = json!({
        "source": {"inline": {"files": {"Dockerfile": "FROM scratch\n"}}},
        "output": {"image": "registry.example.com/team/hello"},
    });
    merge(&mut spec, patch);
    ImageBuild::new("hello", serde_json::from_value(spec).unwrap())
}

fn merge(into: &mut Value, patch: Value) {
    match (into, patch) {
        (Value::Object(into), Value::Object(patch)) => {
            for (key, value) in patch {
                if value.is_null() {
                    into.remove(&key);
                } else {
                    merge(into.entry(key).or_insert(Value::Null), value);
                }
            }
        }
        (into, patch) => *into = patch,
    }
}

#[track_caller]
pub(super) fn refused(patch: Value, with: &str) {
    let error = validate_cel(&image_build(patch))
        .expect_err("accepted")
        .to_string();
    assert!(error.contains(with), "{error}");
}

#[track_caller]
pub(super) fn accepted(patch: Value) {
    validate_cel(&image_build(patch)).unwrap();
}

#[test]
fn a_small_build_is_accepted_and_has_its_defaults() {
    accepted(json!({}));
    let spec = image_build(json!({})).spec;
    assert_eq!(
        (
            spec.dockerfile.as_str(),
            spec.timeout.as_str(),
            spec.retries
        ),
        ("Dockerfile", "30m", 2)
    );
    assert_eq!(
        (spec.output.tags, spec.builder_ref.name.as_str()),
        (vec!["latest".to_owned()], DEFAULT_BUILDER)
    );
}

#[test]
fn two_sources_and_none_are_refused() {
    refused(
        json!({"source": {"git": {"url": "https://git.example.com/a"}}}),
        "exactly one of git, inline, configMap, oci and flux",
    );
    refused(
        json!({"source": {"inline": null}}),
        "exactly one of git, inline, configMap, oci and flux",
    );
}

#[test]
fn a_source_of_flux_has_a_kind_and_a_name() {
    let flux = |change: Value| {
        let mut flux = json!({"kind": "GitRepository", "name": "team-app"});
        json_patch::merge(&mut flux, &change);
        json!({"source": {"inline": null, "flux": flux}})
    };
    accepted(flux(json!({"subPath": "cmd/app"})));
    accepted(flux(json!({"kind": "OCIRepository"})));
    refused(flux(json!({"name": "Team/app"})), "flux.name: invalid name");
    refused(
        flux(json!({"subPath": "../x"})),
        "flux.subPath: invalid path",
    );
    refused(flux(json!({"subPath": "a\nb"})), "control characters");
    let mut tagged = flux(json!({}));
    tagged["output"] = json!({"tags": ["$(BRANCH)-$(SHORT_COMMIT)"]});
    accepted(tagged);
    let mut tagged = flux(json!({"kind": "Bucket"}));
    tagged["output"] = json!({"tags": ["$(COMMIT)"]});
    refused(
        tagged,
        "requires source.git or a GitRepository of source.flux",
    );
    let mut polled = flux(json!({}));
    polled["triggers"] = json!({"poll": {}});
    refused(polled, "Flux looks at its sources itself");
}

#[test]
fn an_image_with_a_tag_or_a_digest_is_refused() {
    for image in [
        "registry.example.com/hello:1",
        "hello:latest",
        "registry.example.com:5000/a:b",
        "a@sha256:00",
    ] {
        refused(
            json!({"output": {"image": image}}),
            "write the repository without tag and digest",
        );
    }
    for image in [
        "Registry.example.com/Team/hello",
        "registry.example.com/a//b",
        "https://registry.example.com/a",
    ] {
        refused(json!({"output": {"image": image}}), "output.image");
    }
    for image in [
        "registry.example.com:5000/team/hello",
        "localhost:5000/a",
        "hello",
        "a/b__c/d-e.f",
    ] {
        accepted(json!({"output": {"image": image}}));
    }
}

#[test]
fn names_of_annotations_are_in_lower_case() {
    refused(
        json!({"output": {"annotations": {"org.example.Team": "x"}}}),
        "output.annotations",
    );
    accepted(json!({"output": {"annotations": {"org.opencontainers.image.title": "A, b=c"}}}));
}

#[test]
fn an_unknown_platform_is_refused() {
    refused(
        json!({"platforms": ["linux/amd64", "linux/vax"]}),
        "platforms",
    );
    accepted(json!({"platforms": ["linux/amd64", "linux/arm64", "linux/arm/v7"]}));
}

#[test]
fn timeouts_are_durations_of_at_most_a_day() {
    for timeout in ["30", "5x", "0s", "25h", "-1m", "1.5h"] {
        refused(json!({"timeout": timeout}), "timeout");
    }
    for timeout in ["30m", "1h30m", "45s", "24h"] {
        accepted(json!({"timeout": timeout}));
    }
}

#[test]
fn how_long_a_build_may_wait_is_a_duration_of_at_most_a_week() {
    for wrong in ["30", "5x", "0s", "169h", "7d", "-1m", "1.5h", ""] {
        refused(json!({"queueTimeout": wrong}), "queueTimeout");
    }
    for right in ["1s", "90m", "1h30m", "168h"] {
        accepted(json!({"queueTimeout": right}));
    }
    assert_eq!(image_build(json!({})).spec.queue_timeout, None);
}

#[test]
fn a_git_url_is_of_a_known_form_and_holds_no_credentials() {
    let git = |url: &str| json!({"source": {"inline": null, "git": {"url": url}}});
    for url in [
        "https://user:pass@git.example.com/a",
        "https://token@git.example.com/a",
    ] {
        refused(git(url), "credentials are not allowed in the URL");
    }
    for url in [
        "git.example.com/a",
        "file:///etc",
        "https://git.example.com/a#main",
        "https://git.example.com/a b",
    ] {
        refused(git(url), "git.url");
    }
    for url in [
        "https://git.example.com/a.git",
        "http://git:3000/a/b",
        "ssh://git@git.example.com/a",
        "git@git.example.com:a/b.git",
    ] {
        accepted(git(url));
    }
}

#[test]
fn a_ref_is_one_of_branch_tag_semver_and_commit() {
    let git = |reference: Value| json!({"source": {"inline": null, "git": {"url": "https://git.example.com/a", "ref": reference}}});
    refused(
        git(json!({"branch": "main", "tag": "v1"})),
        "exactly one of branch, tag, semver and commit",
    );
    refused(
        git(json!({})),
        "exactly one of branch, tag, semver and commit",
    );
    accepted(git(json!({"branch": "feature/x"})));
}

#[test]
fn triggers_look_only_at_what_can_move() {
    let git = |reference: Value, triggers: Value| {
        json!({"triggers": triggers,
        "source": {"inline": null, "git": {"url": "https://git.example.com/a", "ref": reference}}})
    };
    let oci = |image: &str| json!({"triggers": {"webhook": {}}, "source": {"inline": null, "oci": {"image": image}}});
    for triggers in [json!({"poll": {}}), json!({"webhook": {}})] {
        refused(json!({"triggers": triggers}), "a source of git or oci");
        refused(
            git(json!({"commit": "a".repeat(40)}), triggers.clone()),
            "never moves",
        );
        for moves in [json!({"branch": "main"}), json!({"semver": ">=1.2 <2"})] {
            accepted(git(moves, triggers.clone()));
        }
    }
    let digest = format!("registry.example.com/a@sha256:{}", "a".repeat(64));
    refused(oci(&digest), "a digest in source.oci.image never moves");
    accepted(oci("registry.example.com/a:main"));
    accepted(json!({"triggers": {"baseImages": {}}}));
    for interval in ["9s", "25h", "5", "1d", ""] {
        let poll = json!({"poll": {"interval": interval}});
        refused(git(json!({"branch": "main"}), poll), "poll.interval");
    }
}

#[test]
fn a_schedule_has_five_fields_or_is_a_known_word() {
    let schedule = |schedule: &str| json!({"triggers": {"schedule": schedule}});
    for good in [
        "0 3 * * 1",
        "*/5 1-3,7 ? JAN-mar sun",
        "@daily",
        "0 0 1 * *",
    ] {
        accepted(schedule(good));
    }
    for bad in [
        "0 3 * *",
        "0 0 3 * * 1",
        "@reboot",
        "@every 5m",
        "TZ=UTC 0 3 * * 1",
        "0 3 L * *",
        "0 3 * * 1#2",
        "x",
    ] {
        refused(schedule(bad), "schedule");
    }
    refused(
        json!({"triggers": {"timeZone": "Europe/Berlin"}}),
        "belongs to a schedule",
    );
    let zoned = |zone: &str| json!({"triggers": {"schedule": "@daily", "timeZone": zone}});
    for good in ["UTC", "America/Argentina/Buenos_Aires", "Etc/GMT+1"] {
        accepted(zoned(good));
    }
    refused(zoned("../etc/passwd"), "timeZone");
}

#[test]
fn paths_stay_within_the_source() {
    refused(json!({"dockerfile": "../Dockerfile"}), "dockerfile");
    refused(json!({"dockerfile": "/etc/Dockerfile"}), "dockerfile");
    refused(
        json!({"source": {"inline": {"files": {"../x": "y"}}}}),
        "inline.files",
    );
    refused(
        json!({"source": {"inline": null, "git": {"url": "https://git.example.com/a", "subPath": "a/../.."}}}),
        "git.subPath",
    );
    accepted(
        json!({"dockerfile": "build/Dockerfile.prod", "source": {"inline": {"files": {"cmd/main.go": "x", "..a/b..": "y"}}}}),
    );
}

#[test]
fn sources_of_other_kinds_have_names_that_can_be() {
    let source = |kind: &str, value: Value| {
        let mut source = json!({"inline": null});
        source[kind] = value;
        json!({"source": source})
    };
    let digest = "a".repeat(64);
    for image in [
        "registry.example.com/team/source",
        "registry:5000/source:main",
        &format!("registry.example.com/team/source@sha256:{digest}"),
        &format!("registry.example.com/team/source:v1@sha256:{digest}"),
    ] {
        accepted(source("oci", json!({"image": image})));
    }
    for image in [
        "https://registry.example.com/x",
        "Registry/X",
        "x@sha256:12",
        "a b",
    ] {
        refused(source("oci", json!({"image": image})), "oci.image");
    }
    refused(
        source("oci", json!({"image": "x", "subPath": "../y"})),
        "oci.subPath",
    );
    accepted(source(
        "configMap",
        json!({"name": "source", "items": [{"key": "main", "path": "cmd/main.go"}]}),
    ));
    refused(
        source(
            "configMap",
            json!({"name": "source", "items": [{"key": "main", "path": "../main.go"}]}),
        ),
        "configMap.items",
    );
}

#[test]
fn the_image_for_debugging_is_a_stage_or_has_a_base() {
    accepted(json!({"debug": {"target": "debug"}}));
    accepted(json!({"debug": {"image": "busybox:1.36", "tagSuffix": "-shell"}}));
    refused(json!({"debug": {}}), "exactly one of target");
    refused(
        json!({"debug": {"target": "debug", "image": "busybox"}}),
        "exactly one of target",
    );
}

#[test]
fn a_contract_names_each_rule_once_and_has_a_size_over_none() {
    accepted(json!({"contract": {"enforce": ["NonRoot"], "warn": ["NoShell"], "maxSize": "20Mi"}}));
    accepted(json!({"contract": {"maxGrowthPercent": 0}}));
    refused(
        json!({"contract": {"enforce": ["NonRoot"], "warn": ["NonRoot"]}}),
        "name it once",
    );
    for size in ["0", "-1Mi", "big"] {
        refused(json!({"contract": {"maxSize": size}}), "contract.maxSize");
    }
}

#[test]
fn a_health_check_is_of_one_kind() {
    accepted(json!({"healthCheck": {"httpGet": {"port": 8080}}}));
    accepted(json!({"healthCheck": {"exec": {"command": ["/app", "health"]}, "memory": "64Mi"}}));
    refused(json!({"healthCheck": {}}), "exactly one of httpGet");
    refused(
        json!({"healthCheck": {"tcpSocket": {"port": 1}, "grpc": {"port": 1}}}),
        "exactly one of httpGet",
    );
    refused(
        json!({"healthCheck": {"tcpSocket": {"port": 1}, "memory": "much"}}),
        "healthCheck.memory",
    );
}

#[test]
fn inline_files_have_a_bound_in_all() {
    let half = "x".repeat(200 * 1024);
    refused(
        json!({"source": {"inline": {"files": {"a": half, "b": half}}}}),
        "more than 256 KiB",
    );
}

#[test]
fn external_frontends_cannot_come_in_by_a_build_argument() {
    refused(
        json!({"buildArgs": {"BUILDKIT_SYNTAX": "x"}}),
        "external frontends are off",
    );
    refused(json!({"buildArgs": {"a-b": "x"}}), "buildArgs");
    accepted(json!({"buildArgs": {"VERSION": "1.2.3", "_x1": ""}}));
}

#[test]
fn the_ids_of_the_sources_own_credentials_are_reserved() {
    let secret =
        |id: &str| json!({"secrets": [{"id": id, "secretRef": {"name": "a", "key": "b"}}]});
    refused(secret("GIT_AUTH_TOKEN"), "GIT_AUTH_");
    accepted(secret("npmrc"));
}

#[test]
fn a_builders_cache_is_a_quantity() {
    let builder = |size: &str| {
        let mut spec = BuilderSpec::default();
        spec.cache.size = size.into();
        Builder::new("default", spec)
    };
    for size in ["big", "10", "5Mi"] {
        assert!(validate_cel(&builder(size)).is_err(), "{size}");
    }
    validate_cel(&builder("20Gi")).unwrap();
}

/// Complains of what an author of a spec could make as large as he likes.
fn unbounded(schema: &Value, path: &str, found: &mut Vec<String>) {
    let object = schema.as_object().unwrap();
    let has = |key: &str| object.contains_key(key);
    let kind = object.get("type").and_then(Value::as_str);
    let either = has("x-kubernetes-int-or-string");
    if (kind == Some("string") || either) && !has("maxLength") && !has("enum") {
        found.push(format!("{path}: no maxLength"));
    }
    if kind.is_none() && !either {
        found.push(format!("{path}: no type"));
    }
    if let Some(properties) = object.get("properties") {
        for (name, schema) in properties.as_object().unwrap() {
            unbounded(schema, &format!("{path}.{name}"), found);
        }
    }
    if kind == Some("array") {
        if !has("maxItems") {
            found.push(format!("{path}: no maxItems"));
        }
        unbounded(&object["items"], &format!("{path}[]"), found);
    }
    if let Some(values) = object.get("additionalProperties") {
        if !has("maxProperties") {
            found.push(format!("{path}: no maxProperties"));
        }
        let rules = object.get("x-kubernetes-validations");
        let rules = rules.map(Value::to_string).unwrap_or_default();
        if !rules.contains("size(k)") && !rules.contains("size(p)") {
            found.push(format!("{path}: no rule bounds the keys"));
        }
        unbounded(values, &format!("{path}{{}}"), found);
    }
    if has("x-kubernetes-preserve-unknown-fields") {
        found.push(format!("{path}: unknown fields are kept"));
    }
}

#[test]
fn whatever_a_spec_may_hold_has_a_bound() {
    let mut found = vec![];
    for crd in [ImageBuild::crd(), Builder::crd()] {
        let crd = serde_json::to_value(crd).unwrap();
        let spec = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
        let kind = crd["spec"]["names"]["kind"].as_str().unwrap();
        unbounded(spec, kind, &mut found);
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn arguments_labels_annotations_and_lists_have_a_bound_in_all() {
    let many = |value: usize| -> Value {
        (0..100)
            .map(|at| (format!("n{at}"), Value::from("x".repeat(value))))
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    refused(
        json!({"buildArgs": many(700)}),
        "buildArgs: too large: more than 65,536",
    );
    accepted(json!({"buildArgs": many(600)}));
    refused(
        json!({"output": {"labels": many(400)}}),
        "output.labels: too large: more than 32,768",
    );
    accepted(json!({"output": {"labels": many(300)}}));
    refused(
        json!({"output": {"annotations": many(200)}}),
        "output.annotations: too large: more than 16,384",
    );
    accepted(json!({"output": {"annotations": many(150)}}));
    let words = |length: usize| vec!["x".repeat(length); 60];
    let check = |patch: Value| {
        let mut check = json!({"httpGet": {"port": 80}});
        merge(&mut check, patch);
        json!({"healthCheck": check})
    };
    refused(
        check(json!({"args": words(300)})),
        "healthCheck.args: too large: more than 16,384",
    );
    accepted(check(json!({"args": words(200)})));
    refused(
        check(json!({"httpGet": null, "exec": {"command": words(300)}})),
        "healthCheck.exec: too large: more than 16,384",
    );
    let env = |length: usize| -> Vec<Value> {
        let variable = |at| json!({"name": format!("N{at}"), "value": "x".repeat(length)});
        (0..60).map(variable).collect()
    };
    refused(
        check(json!({"env": env(600)})),
        "healthCheck.env: too large: more than 32,768",
    );
    accepted(check(json!({"env": env(500)})));
}

#[test]
fn a_label_or_an_annotation_that_would_become_another_is_refused() {
    for name in ["a=b", "a b", "a\"b", "a\nb", "ä", ""] {
        let map = json!({name: "c"});
        refused(json!({"output": {"labels": map}}), "output.labels");
        refused(
            json!({"output": {"annotations": map}}),
            "output.annotations",
        );
    }
    refused(
        json!({"output": {"annotations": {"a,b": "c"}}}),
        "output.annotations",
    );
    accepted(json!({"output": {"labels": {"Vendor/a.b-c_d,e": "x=y, \"z\"\nw"}}}));
    accepted(json!({"output": {"annotations": {"vendor/a.b-c_d~[1]": "x=y, \"z\"\nw"}}}));
}

#[test]
fn secrets_that_whittle_manages_cannot_be_named() {
    for name in [
        "whittle-ca",
        "whittle-builder-default-client",
        "whittle-attempt-0123456789",
    ] {
        let reference = json!({"name": name});
        for patch in [
            json!({"secrets": [{"id": "a", "secretRef": {"name": name, "key": "tls.key"}}]}),
            json!({"output": {"secretRef": reference}}),
            json!({"source": {"inline": null, "git": {"url": "https://git.example.com/a", "secretRef": reference}}}),
            json!({"source": {"inline": null, "oci": {"image": "a/b", "secretRef": reference}}}),
        ] {
            refused(patch, "are reserved for Whittle's own keys");
        }
        assert!(is_managed_secret(name));
    }
    for name in [
        "whittle-cas",
        "whittle",
        "my-whittle-ca",
        "whittle-registry",
    ] {
        accepted(json!({"output": {"secretRef": {"name": name}}}));
        assert!(!is_managed_secret(name));
    }
}

#[test]
fn a_builders_name_leaves_room_for_the_names_that_are_made_from_it() {
    let named = |name: &str| json!({"builderRef": {"name": name}});
    let longest = "b".repeat(BUILDER_NAME_LENGTH);
    accepted(named(&longest));
    for name in [&format!("{longest}b"), "a.b", "A", "-a"] {
        refused(
            named(name),
            "builderRef.name: invalid name: use at most 36 lowercase letters, digits and -",
        );
        if !["A", "-a"].contains(&name) {
            let builder = Builder::new(name, BuilderSpec::default());
            let error = validate_cel(&builder).expect_err("accepted").to_string();
            assert!(error.contains("metadata.name"), "{error}");
        }
    }
    validate_cel(&Builder::new(&longest, BuilderSpec::default())).unwrap();
}

#[test]
fn no_status_never_reads_as_done() {
    for crd in crds() {
        let text = serde_json::to_value(&crd).unwrap();
        let status =
            &text["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"];
        if text["spec"]["versions"][0]["subresources"].is_null() {
            continue;
        }
        assert_eq!(
            status["default"]["observedGeneration"], -1,
            "{:?}",
            crd.metadata.name
        );
    }
}

#[test]
fn a_profile_of_an_earlier_version_is_read() {
    let spec = json!({"images": {"a": {"imageBuild": "team/app"}}});
    let spec: ProbeProfileSpec = serde_json::from_value(spec).unwrap();
    assert_eq!(spec.images["a"].image_build, "team/app");
    assert!(!spec.images["a"].lacks_libraries);
}
