//! `helm test`, as whoever has installed Whittle runs it: tests/install.sh says where it may push.

use std::process::Command;

use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::Api;
use kube::api::ListParams;

use crate::field::Field;
use crate::registry::find_manifest;

const SYSTEM: &str = "whittle-system";
const OF_THE_TEST: &str = "app.kubernetes.io/part-of=whittle,app.kubernetes.io/component=test";

#[tokio::test]
async fn helm_test_builds_and_pushes_an_image_and_leaves_nothing_behind() {
    let field = Field::new("helm-test").await;
    let output = Command::new("helm")
        .args(["test", "whittle", "--namespace", SYSTEM, "--timeout", "8m"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("Succeeded"), "{said}");
    let registry = std::env::var("REGISTRY").unwrap();
    let image = format!("{registry}/whittle/helm-test");
    assert!(find_manifest(&image, "helm-test").await.is_some(), "{said}");
    let namespaces: Api<Namespace> = Api::all(field.client.clone());
    let of_the_test = ListParams::default().labels(OF_THE_TEST);
    field
        .until("the test's namespace is gone", async || {
            let there = namespaces.list(&of_the_test).await.unwrap();
            there.items.is_empty().then_some(())
        })
        .await;
    let pods: Api<Pod> = Api::namespaced(field.client.clone(), SYSTEM);
    assert_eq!(pods.list(&of_the_test).await.unwrap().items.len(), 0);
}

/// What the chart's test runs where it does not know where to push.
#[test]
fn a_test_that_misses_a_value_fails_and_says_which() {
    let output = Command::new(env!("CARGO_BIN_EXE_whittle"))
        .args(["refuse", "the value test.repository is missing"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("the value test.repository is missing"),
        "{said}"
    );
}
