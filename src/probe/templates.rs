//! Pod templates within objects of any kind.

use k8s_openapi::api::core::v1::PodSpec;
use serde_json::Value;

/// Lists within lists that are followed.
const DEPTH: usize = 8;

/// One Pod template of an object.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    /// Its PodSpec's place in the object, a JSON pointer (RFC 6901): `/spec/template/spec`.
    pub pointer: String,
    /// The object's kind.
    pub kind: String,
    /// The object's namespace, where it names one.
    pub namespace: Option<String>,
    /// The object's name, else its generateName.
    pub name: String,
    /// The PodSpec, or why it is none.
    pub spec: Result<PodSpec, String>,
}

/// The Pod templates of an object: of the kinds of Kubernetes itself, of a List's items, and of other kinds
/// with a template in the same shape, such as a Rollout of Argo.
pub fn templates_of(object: &Value) -> Vec<Template> {
    let mut found = Vec::new();
    add(object, "", &mut found, 0);
    found
}

fn add(object: &Value, at: &str, found: &mut Vec<Template>, depth: usize) {
    let text = |pointer: &str| {
        object
            .pointer(pointer)
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
    };
    let Some(kind) = text("/kind") else {
        return;
    };
    if let Some(items) = object.get("items").and_then(Value::as_array)
        && kind.ends_with("List")
        && depth < DEPTH
    {
        for (index, item) in items.iter().enumerate() {
            add(item, &format!("{at}/items/{index}"), found, depth + 1);
        }
        return;
    }
    let places: &[&str] = match kind.as_str() {
        "Pod" => &["/spec"],
        "PodTemplate" => &["/template/spec"],
        "CronJob" => &["/spec/jobTemplate/spec/template/spec"],
        _ => &[
            "/spec/template/spec",
            "/spec/jobTemplate/spec/template/spec",
            "/template/spec",
        ],
    };
    for place in places {
        let Some(spec) = object.pointer(place) else {
            continue;
        };
        if !spec.get("containers").is_some_and(Value::is_array) {
            continue;
        }
        found.push(Template {
            pointer: format!("{at}{place}"),
            kind: kind.clone(),
            namespace: text("/metadata/namespace"),
            name: text("/metadata/name")
                .or_else(|| text("/metadata/generateName"))
                .unwrap_or_default(),
            spec: serde_json::from_value(spec.clone()).map_err(|error| error.to_string()),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::apps::v1::Deployment;
    use k8s_openapi::api::batch::v1::CronJob;
    use k8s_openapi::api::core::v1::{Container, Pod, PodTemplate, PodTemplateSpec};

    fn spec() -> PodSpec {
        PodSpec {
            containers: vec![Container {
                name: "app".into(),
                ..Container::default()
            }],
            ..PodSpec::default()
        }
    }

    fn template() -> PodTemplateSpec {
        PodTemplateSpec {
            spec: Some(spec()),
            ..PodTemplateSpec::default()
        }
    }

    fn json(object: impl serde::Serialize) -> Value {
        serde_json::to_value(object).unwrap()
    }

    fn pointers(object: &Value) -> Vec<String> {
        templates_of(object)
            .into_iter()
            .map(|template| {
                assert_eq!(template.spec.unwrap().containers[0].name, "app");
                template.pointer
            })
            .collect()
    }

    #[test]
    fn each_kind_has_its_template_at_its_place() {
        let mut deployment = Deployment::default();
        deployment.metadata.name = Some("web".into());
        deployment.metadata.namespace = Some("shop".into());
        deployment.spec.get_or_insert_default().template = template();
        let mut cron = CronJob::default();
        let job = &mut cron.spec.get_or_insert_default().job_template.spec;
        job.get_or_insert_default().template = template();
        let pod = Pod {
            spec: Some(spec()),
            ..Pod::default()
        };
        let bare = PodTemplate {
            template: Some(template()),
            ..PodTemplate::default()
        };
        assert_eq!(pointers(&json(&deployment)), ["/spec/template/spec"]);
        assert_eq!(
            pointers(&json(&cron)),
            ["/spec/jobTemplate/spec/template/spec"]
        );
        assert_eq!(pointers(&json(&pod)), ["/spec"]);
        assert_eq!(pointers(&json(&bare)), ["/template/spec"]);
        let found = templates_of(&json(&deployment)).remove(0);
        assert_eq!(
            (
                found.kind.as_str(),
                found.namespace.as_deref(),
                found.name.as_str()
            ),
            ("Deployment", Some("shop"), "web")
        );
        // The same shape under another kind, and within a list.
        for kind in [
            "StatefulSet",
            "DaemonSet",
            "ReplicaSet",
            "ReplicationController",
            "Job",
            "Rollout",
        ] {
            let mut other = json(&deployment);
            other["kind"] = kind.into();
            assert_eq!(pointers(&other), ["/spec/template/spec"], "{kind}");
        }
        let mut list = json(Pod::default());
        list["kind"] = "List".into();
        list["items"] = Value::Array(vec![json(&pod), json(&deployment)]);
        assert_eq!(
            pointers(&list),
            ["/items/0/spec", "/items/1/spec/template/spec"]
        );
    }

    #[test]
    fn what_has_no_template_has_none_and_a_broken_one_says_why() {
        for object in [
            Value::Null,
            json(Deployment::default()),
            Value::from(1),
            Value::from(vec![1]),
        ] {
            assert!(templates_of(&object).is_empty(), "{object}");
        }
        let mut broken = json(Pod {
            spec: Some(spec()),
            ..Pod::default()
        });
        broken["spec"]["containers"][0]["image"] = 1.into();
        assert!(templates_of(&broken)[0].spec.is_err());
    }
}
