//! What the admission policy says of a pair.

use std::time::Duration;

use serde_json::{Value, json};

use crate::field::Field;
use crate::guard::refusal;

const PATIENCE: Duration = Duration::from_secs(300);

/// Why the guard refuses a Pod spec; none where it takes it. Asked while the guard knows the image: other
/// tests take away what it knows.
pub async fn answer(field: &Field, image: &str, spec: &Value) -> Option<String> {
    let pod = |spec: &Value| json!({"metadata": {"name": "pair"}, "spec": spec});
    let sentinel = pod(&json!({"containers": [{"name": "main", "image": image,
        "startupProbe": {"exec": {"command": ["/not/there/at/all"]}}}]}));
    let object = pod(spec);
    super::until(&format!("the guard knows {image}"), PATIENCE, async || {
        let knows = async || {
            let said = refusal(field, "Pod", &sentinel).await?;
            is_the_guards(&said).then_some(())
        };
        knows().await?;
        let said = refusal(field, "Pod", &object).await;
        if said.is_none() {
            knows().await?;
        }
        Some(said)
    })
    .await
    .unwrap_or_else(|what| panic!("{what}"))
}

/// Waits until the guard refuses nothing here any more.
pub async fn takes(field: &Field, spec: &Value) {
    let object = json!({"metadata": {"name": "pair"}, "spec": spec});
    super::until("the guard refuses nothing", PATIENCE, async || {
        refusal(field, "Pod", &object).await.is_none().then_some(())
    })
    .await
    .unwrap_or_else(|what| panic!("{what}"));
}

/// True where it is the guard that refuses, and nobody else.
pub fn is_the_guards(said: &str) -> bool {
    said.contains("ValidatingAdmissionPolicy 'whittle-probe-guard'")
}
