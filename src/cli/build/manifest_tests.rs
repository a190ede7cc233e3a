use super::*;

fn build(spec: Value, fields: Value) -> ImageBuild {
    let object = json!({
        "apiVersion": "whittle.dev/v1alpha1",
        "kind": "ImageBuild",
        "metadata": {"name": "a", "managedFields": fields},
        "spec": spec,
    });
    serde_json::from_value(object).unwrap()
}

fn entry(manager: &str, operation: &str, spec: Value) -> Value {
    json!({"manager": manager, "operation": operation, "apiVersion": "whittle.dev/v1alpha1", "fieldsType": "FieldsV1",
        "fieldsV1": {"f:spec": spec}})
}

fn spec() -> Value {
    json!({
        "source": {"oci": {"image": "r/a@sha256:00"}},
        "output": {"image": "r/a", "tags": ["v1", "main"]},
        "buildArgs": {"A": "1", "B": "2"},
        "secrets": [
            {"id": "npm", "secretRef": {"name": "n", "key": "k"}},
            {"id": "pip", "secretRef": {"name": "p", "key": "k"}},
        ],
        "platforms": ["linux/amd64"],
    })
}

#[test]
fn what_was_said_before_goes_along_and_what_others_said_does_not() {
    let ours = json!({
        "f:source": {"f:oci": {"f:image": {}}},
        "f:output": {"f:image": {}, "f:tags": {".": {}, "v:\"v1\"": {}}},
        "f:buildArgs": {"f:A": {}},
        "f:secrets": {"k:{\"id\":\"npm\"}": {".": {}, "f:id": {}, "f:secretRef": {"f:key": {}, "f:name": {}}}},
        "f:platforms": {"v:\"linux/amd64\"": {}},
        "f:target": {},
    });
    let fields = json!([
        entry("kubectl", "Apply", json!({"f:buildArgs": {"f:B": {}}})),
        entry(MANAGER, "Update", json!({"f:priority": {}})),
        entry(MANAGER, "Apply", ours),
    ]);
    assert_eq!(
        Value::Object(said(&build(spec(), fields))),
        json!({
            "source": {"oci": {"image": "r/a@sha256:00"}},
            "output": {"image": "r/a", "tags": ["v1"]},
            "buildArgs": {"A": "1"},
            "secrets": [{"id": "npm", "secretRef": {"name": "n", "key": "k"}}],
            "platforms": ["linux/amd64"],
        })
    );
    let others = json!([entry("kubectl", "Apply", json!({"f:target": {}}))]);
    assert_eq!(said(&build(spec(), others)), Map::new());
}

#[test]
fn what_is_given_now_goes_before_what_was_said() {
    let said = json!({
        "source": {"inline": {"files": {"Dockerfile": ""}}},
        "output": {"image": "r/a", "tags": ["v1"]},
        "buildArgs": {"A": "1", "B": "2"},
    });
    let given = json!({"output": {"tags": ["v2"]}, "buildArgs": {"B": "3"}});
    let source = json!({"oci": {"image": "r/a@sha256:00"}});
    let map = |value: &Value| value.as_object().unwrap().clone();
    let object = object(Some("shop"), "a", map(&said), &map(&given), source.clone());
    assert_eq!(
        object,
        json!({
            "apiVersion": "whittle.dev/v1alpha1",
            "kind": "ImageBuild",
            "metadata": {"name": "a", "namespace": "shop"},
            "spec": {
                "source": source,
                "output": {"image": "r/a", "tags": ["v2"]},
                "buildArgs": {"A": "1", "B": "3"},
            },
        })
    );
}

#[test]
fn a_source_of_another_kind_is_somebody_elses_unless_we_have_set_it() {
    let mut spec = spec();
    spec["source"] = json!({"git": {"url": "https://git.example.com/a"}});
    let git = json!({"f:source": {"f:git": {"f:url": {}}}});
    let theirs = build(spec.clone(), json!([entry("argocd", "Apply", git.clone())]));
    assert_eq!(other_sources(&theirs, &said(&theirs), "oci"), ["git"]);
    assert_eq!(other_sources(&theirs, &said(&theirs), "git"), [""; 0]);
    assert_eq!(manager_of(&theirs, "git"), "argocd");
    assert_eq!(manager_of(&theirs, "flux"), "another manager");
    let ours = build(spec, json!([entry(MANAGER, "Apply", git)]));
    assert_eq!(other_sources(&ours, &said(&ours), "oci"), [""; 0]);
}

#[test]
fn a_conflict_says_field_and_manager() {
    let answer = json!({
        "status": "Failure", "code": 409, "reason": "Conflict", "message": "Apply failed with 1 conflict",
        "details": {"causes": [
            {"reason": "FieldManagerConflict", "message": "conflict with \"kubectl-client-side-apply\" using whittle.dev/v1alpha1",
                "field": ".spec.output.image"},
            {"reason": "Other", "message": "x", "field": ".spec"},
        ]},
    });
    let answer: kube::core::Status = serde_json::from_value(answer).unwrap();
    let found = conflicts(&answer);
    assert_eq!(
        found,
        [(
            "spec.output.image".to_owned(),
            "kubectl-client-side-apply".to_owned()
        )]
    );
}
