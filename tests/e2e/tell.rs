//! What a test that fails tells of its namespace.

use std::fmt::Debug;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::{ListParams, LogParams};
use kube::{Api, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use whittle_api::ImageBuild;

use crate::field::Field;

/// Lines of each log.
const LINES: i64 = 30;
/// Bytes of a text in a status: reports are longer.
const MOST: usize = 300;

/// All that may help.
pub async fn tell(field: &Field) -> String {
    let mut lines = vec![];
    for build in all(field.api::<ImageBuild>()).await {
        let status = short(&build.status);
        lines.push(format!("ImageBuild {}: {status}", build.name_any()));
    }
    for job in all(field.api::<Job>()).await {
        lines.push(format!("Job {}: {}", named(&job), short(&job.status)));
    }
    for event in all(field.api::<Event>()).await {
        let of = event.involved_object.name.unwrap_or_default();
        let reason = event.reason.unwrap_or_default();
        let message = event.message.unwrap_or_default();
        lines.push(format!("Event {of} {reason}: {message}"));
    }
    let system = Api::namespaced(field.client.clone(), "whittle-system");
    for pods in [field.api::<Pod>(), system] {
        for pod in all(pods.clone()).await {
            let phase = pod.status.as_ref().and_then(|it| it.phase.as_deref());
            let name = named(&pod);
            lines.push(format!("Pod {name}: {}, its log:", phase.unwrap_or("new")));
            let last = LogParams {
                tail_lines: Some(LINES),
                ..LogParams::default()
            };
            let log = pods.logs(&pod.name_any(), &last).await;
            lines.push(log.unwrap_or_else(|error| error.to_string()));
        }
    }
    lines.join("\n")
}

async fn all<K: Clone + DeserializeOwned + Debug>(api: Api<K>) -> Vec<K> {
    let list = api.list(&ListParams::default()).await;
    list.map(|list| list.items).unwrap_or_default()
}

fn named(object: &impl ResourceExt) -> String {
    let going = object.meta().deletion_timestamp.is_some();
    let name = object.name_any();
    if going { name + ", going" } else { name }
}

/// On one line, without what is absent.
fn short(value: &impl Serialize) -> String {
    fn cut(value: &mut Value) {
        match value {
            Value::String(text) if text.len() > MOST => {
                *text = whittle_api::bounded(std::mem::take(text), MOST);
            }
            Value::Array(all) => all.iter_mut().for_each(cut),
            Value::Object(all) => {
                all.retain(|_, value| !value.is_null());
                all.values_mut().for_each(cut);
            }
            _ => {}
        }
    }
    let mut value = serde_json::to_value(value).unwrap_or_default();
    cut(&mut value);
    value.to_string()
}
