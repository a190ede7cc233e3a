use serde_json::{Value, json};

use super::*;

fn version(minor: &str) -> Info {
    Info {
        major: "1".into(),
        minor: minor.into(),
        git_version: format!("v1.{minor}.0"),
        ..Info::default()
    }
}

fn of<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn namespace(level: &str) -> Result<Namespace, Unread> {
    Ok(of(
        json!({"metadata": {"name": "demo", "labels": {ENFORCE: level}}}),
    ))
}

#[test]
fn an_old_api_server_is_found_also_with_the_plus_of_clouds() {
    assert_eq!(api_server(&version("32+")).mark, Mark::Bad);
    assert_eq!(api_server(&version("33")).mark, Mark::Good);
    assert_eq!(api_server(&version("")).mark, Mark::Unknown);
}

#[test]
fn definitions_are_missing_other_or_ours() {
    assert_eq!(definitions(Ok(whittle_api::crds())).mark, Mark::Good);
    let missing = definitions(Ok(vec![]));
    assert!(
        missing.mark == Mark::Bad && missing.text.contains("imagebuilds.whittle.dev"),
        "{missing:?}"
    );
    let mut old = whittle_api::crds();
    let schema = old[0].spec.versions[0]
        .schema
        .as_mut()
        .unwrap()
        .open_api_v3_schema
        .as_mut()
        .unwrap();
    schema.properties.as_mut().unwrap().remove("status");
    let old = definitions(Ok(old));
    assert!(
        old.mark == Mark::Unknown && old.text.contains("other fields"),
        "{old:?}"
    );
}

#[test]
fn a_controller_without_a_ready_pod_is_told_with_where_to_look() {
    let deployment = |ready: i32| -> Deployment {
        of(
            json!({"metadata": {"name": "whittle", "namespace": "w", "labels": {"app.kubernetes.io/version": "0.0.9"}}, "status": {"readyReplicas": ready}}),
        )
    };
    let bad = controller(Ok(vec![deployment(0)]), "0.1.0");
    assert_eq!(
        bad.cure.as_deref(),
        Some("kubectl describe deployment -n w whittle")
    );
    let good = controller(Ok(vec![deployment(2)]), "0.1.0");
    assert_eq!(
        good.text,
        "w/whittle: 2 ready, version 0.0.9, and this program is 0.1.0"
    );
    assert_eq!(controller(Ok(vec![]), "0.1.0").mark, Mark::Bad);
    assert_eq!(
        controller(Err(Unread("denied".into())), "0.1.0").mark,
        Mark::Unknown
    );
    assert_eq!(callback(Ok(vec![("w".into(), 0)])).mark, Mark::Bad);
    assert_eq!(callback(Ok(vec![("w".into(), 1)])).mark, Mark::Good);
}

#[test]
fn what_is_denied_is_named() {
    let asked = [
        ("get pods/log".to_owned(), Some(false)),
        ("list pods".to_owned(), Some(true)),
    ];
    assert_eq!(
        rights(&asked, "demo").text,
        "denied in namespace demo: get pods/log"
    );
    assert_eq!(rights(&asked[1..], "demo").mark, Mark::Good);
    assert_eq!(rights(&[("x".into(), None)], "demo").mark, Mark::Unknown);
}

#[test]
fn the_level_of_pod_security_is_held_against_version_and_isolation() {
    let none: Found<Builder> = Ok(vec![]);
    let rootless: Found<Builder> = Ok(vec![of(
        json!({"apiVersion": "whittle.dev/v1alpha1", "kind": "Builder", "metadata": {"name": "default"}, "spec": {},
        "status": {"isolation": {"mode": "Rootless", "proven": true, "reason": "r"}}}),
    )]);
    let mark = |level, minor, builders: &Found<Builder>| {
        pod_security(namespace(level), &version(minor), builders).mark
    };
    assert_eq!(mark("restricted", "36", &none), Mark::Bad);
    assert_eq!(mark("baseline", "36", &none), Mark::Good);
    assert_eq!(mark("baseline", "34", &none), Mark::Bad);
    assert_eq!(mark("baseline", "36", &rootless), Mark::Bad);
    assert_eq!(mark("privileged", "33", &rootless), Mark::Good);
}

#[test]
fn a_builder_that_names_a_storage_class_needs_no_default_one() {
    let class = |name: &str, default: &str| -> StorageClass {
        of(
            json!({"metadata": {"name": name, "annotations": {DEFAULT_CLASS: default}}, "provisioner": "p"}),
        )
    };
    let builder = |class: Value| -> Found<Builder> {
        Ok(vec![of(
            json!({"apiVersion": "whittle.dev/v1alpha1", "kind": "Builder", "metadata": {"name": "default"}, "spec": {"cache": {"storageClassName": class}}}),
        )])
    };
    let none = builder(Value::Null);
    assert_eq!(
        storage(Ok(vec![class("a", "true")]), &none).mark,
        Mark::Good
    );
    assert_eq!(
        storage(Ok(vec![class("a", "false")]), &none).mark,
        Mark::Bad
    );
    assert_eq!(
        storage(Ok(vec![class("a", "false")]), &builder(json!("a"))).mark,
        Mark::Good
    );
    assert_eq!(
        storage(Ok(vec![class("a", "true")]), &builder(json!("b"))).mark,
        Mark::Bad
    );
}

#[test]
fn builders_and_nodes_are_told_as_they_are() {
    let builder: Builder = of(
        json!({"apiVersion": "whittle.dev/v1alpha1", "kind": "Builder", "metadata": {"name": "default"}, "spec": {}, "status": {
        "conditions": [{"type": "Ready", "status": "False", "reason": "VolumePending", "message": "m", "lastTransitionTime": "2026-11-25T11:58:00Z"}]}}),
    );
    let checks = builders(Ok(vec![builder]));
    assert_eq!(
        (checks[0].mark, checks[0].text.as_str()),
        (Mark::Bad, "default: VolumePending: m")
    );
    let node: Node = of(
        json!({"metadata": {"name": "n"}, "status": {"conditions": [{"type": "Ready", "status": "True"}],
        "nodeInfo": {"architecture": "arm64", "kubeletVersion": "v1.36.0", "kernelVersion": "6.12", "bootID": "", "containerRuntimeVersion": "", "kubeProxyVersion": "", "machineID": "", "operatingSystem": "linux", "osImage": "", "systemUUID": ""}}}),
    );
    assert_eq!(
        nodes(Ok(vec![node])).text,
        "1 × linux/arm64 (v1.36.0, Linux 6.12)"
    );
    assert_eq!(nodes(Ok(vec![])).mark, Mark::Bad);
}
