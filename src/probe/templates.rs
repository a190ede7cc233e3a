//! Pod templates within objects of any kind.

use k8s_openapi::api::core::v1::PodSpec;
use serde_json::{Value, json};

/// Lists within lists that are followed.
const DEPTH: usize = 8;
/// Values within values in which containers are looked for that no known place has.
const DEEP: usize = 24;
/// The group of Knative's Services: its queue-proxy stands between the kubelet and the container.
const KNATIVE: &str = "serving.knative.dev/";
/// The port that Knative gives to a container that names none.
const KNATIVE_PORT: i64 = 8080;
/// Kinds of Kubernetes itself.
const OWN: [&str; 9] = [
    "Pod",
    "PodTemplate",
    "Deployment",
    "StatefulSet",
    "DaemonSet",
    "ReplicaSet",
    "ReplicationController",
    "Job",
    "CronJob",
];
/// Fields by which a value is told to be a container with probes.
const PROBES: [&str; 4] = [
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "lifecycle",
];

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
    pub spec: Result<PodSpec, Malformed>,
}

/// Why a value is no PodSpec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// The place of the wrong value in the PodSpec, a JSON pointer: `/containers/0/image`.
    pub pointer: String,
    /// What is wrong with it.
    pub why: String,
}

/// Containers with probes that are in no Pod template that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassedOver {
    /// The object's kind.
    pub kind: String,
    /// The object's namespace, where it names one.
    pub namespace: Option<String>,
    /// The object's name.
    pub name: String,
    /// The place of the first of them: `/spec/containers/0`.
    pub pointer: String,
    /// How many containers.
    pub containers: usize,
}

/// The Pod templates of an object: of the kinds of Kubernetes itself, of a List's items, and of other kinds
/// with a template in the same shape, such as a Rollout of Argo.
pub fn templates_of(object: &Value) -> Vec<Template> {
    let mut found = Vec::new();
    add(object, "", &mut found, 0);
    found
}

/// Containers with probes in places that are not known: of a kind that holds them otherwise than a Pod template
/// does, such as a SidecarSet, or of objects within an object, such as a Template of OpenShift.
pub fn passed_over(object: &Value) -> Vec<PassedOver> {
    let known: Vec<String> = templates_of(object)
        .into_iter()
        .map(|template| template.pointer)
        .collect();
    let mut found = Vec::new();
    objects(object, "", &known, &mut found, 0);
    found
}

fn text(object: &Value, pointer: &str) -> Option<String> {
    object
        .pointer(pointer)
        .and_then(Value::as_str)
        .filter(|text| !text.is_empty())
        .map(str::to_owned)
}

fn is_list(object: &Value) -> bool {
    let kind = object.get("kind").and_then(Value::as_str);
    kind.is_some_and(|kind| kind.ends_with("List"))
        && object.get("items").is_some_and(Value::is_array)
}

fn objects(object: &Value, at: &str, known: &[String], found: &mut Vec<PassedOver>, depth: usize) {
    if is_list(object) && depth < DEPTH {
        for (index, item) in object["items"].as_array().into_iter().flatten().enumerate() {
            objects(
                item,
                &format!("{at}/items/{index}"),
                known,
                found,
                depth + 1,
            );
        }
        return;
    }
    let Some(kind) = text(object, "/kind") else {
        return;
    };
    let mut places = Vec::new();
    containers(object, at, known, &mut places, 0);
    if let Some(first) = places.first() {
        found.push(PassedOver {
            kind,
            namespace: text(object, "/metadata/namespace"),
            name: text(object, "/metadata/name")
                .or_else(|| text(object, "/metadata/generateName"))
                .unwrap_or_default(),
            pointer: first.clone(),
            containers: places.len(),
        });
    }
}

/// Places of values that look like containers with probes, outside of the templates that are known.
fn containers(value: &Value, at: &str, known: &[String], found: &mut Vec<String>, depth: usize) {
    if depth > DEEP || known.iter().any(|place| place == at) {
        return;
    }
    match value {
        Value::Object(entries) => {
            let named = ["image", "name", "command", "args"];
            let probed = PROBES
                .iter()
                .any(|field| entries.get(*field).is_some_and(Value::is_object));
            if probed && named.iter().any(|field| entries.contains_key(*field)) {
                found.push(at.to_owned());
                return;
            }
            for (key, inner) in entries {
                let key = key.replace('~', "~0").replace('/', "~1");
                containers(inner, &format!("{at}/{key}"), known, found, depth + 1);
            }
        }
        Value::Array(items) => {
            for (index, inner) in items.iter().enumerate() {
                containers(inner, &format!("{at}/{index}"), known, found, depth + 1);
            }
        }
        _ => {}
    }
}

fn add(object: &Value, at: &str, found: &mut Vec<Template>, depth: usize) {
    let Some(kind) = text(object, "/kind") else {
        return;
    };
    if is_list(object) && depth < DEPTH {
        for (index, item) in object["items"].as_array().into_iter().flatten().enumerate() {
            add(item, &format!("{at}/items/{index}"), found, depth + 1);
        }
        return;
    }
    let knative = text(object, "/apiVersion").is_some_and(|version| version.starts_with(KNATIVE));
    let places: &[&str] = match kind.as_str() {
        "Pod" => &["/spec"],
        "Revision" if knative => &["/spec"],
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
        match spec.get("containers") {
            Some(Value::Array(_)) => {}
            // What is of the wrong type is told; of other kinds it may be something else.
            Some(wrong) if OWN.contains(&kind.as_str()) && !wrong.is_null() => {}
            _ => continue,
        }
        let mut spec = spec.clone();
        if knative {
            give_ports(&mut spec);
        }
        found.push(Template {
            pointer: format!("{at}{place}"),
            kind: kind.clone(),
            namespace: text(object, "/metadata/namespace"),
            name: text(object, "/metadata/name")
                .or_else(|| text(object, "/metadata/generateName"))
                .unwrap_or_default(),
            spec: read(spec),
        });
    }
}

fn read(spec: Value) -> Result<PodSpec, Malformed> {
    use serde_path_to_error::Segment;
    serde_path_to_error::deserialize(spec).map_err(|error| {
        let pointer = error
            .path()
            .iter()
            .filter_map(|segment| match segment {
                Segment::Seq { index } => Some(format!("/{index}")),
                Segment::Map { key } => {
                    Some(format!("/{}", key.replace('~', "~0").replace('/', "~1")))
                }
                Segment::Enum { .. } | Segment::Unknown => None,
            })
            .collect();
        Malformed {
            pointer,
            why: error.inner().to_string(),
        }
    })
}

/// The ports of Knative's probes that name none: that of their own container, else 8080 (SetDefaults of
/// pkg/apis/serving/v1/revision_defaults.go, and pkg/reconciler/revision/resources/deploy.go).
fn give_ports(spec: &mut Value) {
    let Some(containers) = spec.get_mut("containers").and_then(Value::as_array_mut) else {
        return;
    };
    for container in containers {
        let own = container
            .pointer("/ports/0/containerPort")
            .and_then(Value::as_i64)
            .unwrap_or(KNATIVE_PORT);
        // One that says not how it asks connects.
        if let Some(Value::Object(probe)) = container.get_mut("readinessProbe")
            && ["exec", "httpGet", "tcpSocket", "grpc"]
                .iter()
                .all(|handler| probe.get(*handler).is_none_or(Value::is_null))
        {
            probe.insert("tcpSocket".into(), json!({}));
        }
        for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
            for handler in ["httpGet", "tcpSocket", "grpc"] {
                let found = container.pointer_mut(&format!("/{probe}/{handler}"));
                let Some(Value::Object(action)) = found else {
                    continue;
                };
                let none = match action.get("port") {
                    None | Some(Value::Null) => true,
                    Some(port) => port.as_i64() == Some(0),
                };
                if none {
                    action.insert("port".into(), json!(own));
                }
            }
        }
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

    #[test]
    fn a_wrong_type_is_told_with_its_place() {
        for (spec, pointer, word) in [
            (
                json!({"containers": [{"name": "a", "image": 1}]}),
                "/containers/0/image",
                "string",
            ),
            (
                json!({"containers": [{"name": "a"}, {"name": "b", "ports": [{"containerPort": "http"}]}]}),
                "/containers/1/ports/0/containerPort",
                "i32",
            ),
            (
                json!({"containers": [{"livenessProbe": {"exec": {"command": "curl"}}}]}),
                "/containers/0/livenessProbe/exec/command",
                "sequence",
            ),
            (json!({"containers": [1]}), "/containers/0", "Container"),
            (
                json!({"containers": {"name": "a"}}),
                "/containers",
                "sequence",
            ),
            (json!({"containers": "a"}), "/containers", "sequence"),
            (
                json!({"containers": [], "nodeSelector": {"a/b": 1}}),
                "/nodeSelector/a~1b",
                "string",
            ),
        ] {
            let object = json!({"kind": "Pod", "spec": spec});
            let error = templates_of(&object).remove(0).spec.unwrap_err();
            assert_eq!(error.pointer, pointer);
            assert!(error.why.contains(word), "{}", error.why);
        }
    }

    #[test]
    fn a_probe_of_knative_without_a_port_asks_that_of_its_container() {
        let port = |api: &str, kind: &str, container: Value, at: &str| {
            let spec = json!({"containers": [container]});
            let object = match at {
                "/spec" => json!({"apiVersion": api, "kind": kind, "spec": spec}),
                _ => json!({"apiVersion": api, "kind": kind, "spec": {"template": {"spec": spec}}}),
            };
            let spec = templates_of(&object).remove(0).spec.unwrap();
            let probe = spec.containers[0].liveness_probe.clone().unwrap();
            serde_json::to_value(probe).unwrap()["httpGet"]["port"].clone()
        };
        let bare = json!({"livenessProbe": {"httpGet": {"path": "/"}}});
        let zero =
            json!({"livenessProbe": {"httpGet": {"port": 0}}, "ports": [{"containerPort": 3000}]});
        let own = json!({"livenessProbe": {"httpGet": {"port": 9}}});
        let v1 = "serving.knative.dev/v1";
        for kind in ["Service", "Configuration"] {
            let at = "/spec/template/spec";
            assert_eq!(port(v1, kind, bare.clone(), at), json!(8080));
            assert_eq!(port(v1, kind, zero.clone(), at), json!(3000));
            assert_eq!(port(v1, kind, own.clone(), at), json!(9));
        }
        assert_eq!(port(v1, "Revision", bare.clone(), "/spec"), json!(8080));
        // A readinessProbe without a handler connects.
        let asks = |kind: &str, probe: Value| {
            let container = json!({"ports": [{"containerPort": 3000}], kind: probe});
            let spec = json!({"template": {"spec": {"containers": [container]}}});
            let object = json!({"apiVersion": v1, "kind": "Service", "spec": spec});
            let spec = templates_of(&object).remove(0).spec.unwrap();
            serde_json::to_value(&spec.containers[0]).unwrap()[kind]["tcpSocket"].clone()
        };
        for probe in [json!({}), json!({"successThreshold": 1, "httpGet": null})] {
            assert_eq!(asks("readinessProbe", probe.clone()), json!({"port": 3000}));
            assert_eq!(asks("livenessProbe", probe), json!(null));
        }
        let exec = json!({"exec": {"command": ["a"]}});
        assert_eq!(asks("readinessProbe", exec), json!(null));
        // Of another group it is missing.
        assert_eq!(
            port("apps/v1", "Deployment", bare, "/spec/template/spec"),
            json!(0)
        );
    }

    #[test]
    fn containers_with_probes_in_other_places_are_counted() {
        let container =
            json!({"name": "a", "image": "x", "livenessProbe": {"exec": {"command": ["a"]}}});
        let pod = json!({"spec": {"containers": [container]}});
        let deployment =
            json!({"kind": "Deployment", "metadata": {"name": "web"}, "spec": {"template": pod}});
        for (object, expected) in [
            (deployment.clone(), None),
            (json!({"kind": "List", "items": [deployment]}), None),
            (
                json!({"kind": "Template", "metadata": {"name": "t"}, "objects": [deployment, deployment]}),
                Some(("Template", 2, "/objects/0/spec/template/spec/containers/0")),
            ),
            (
                json!({"kind": "SidecarSet", "spec": {"containers": [container], "initContainers": [container]}}),
                Some(("SidecarSet", 2, "/spec/containers/0")),
            ),
            (
                json!({"kind": "JobSet", "spec": {"replicatedJobs": [{"template": {"spec": {"template": pod}}}]}}),
                Some((
                    "JobSet",
                    1,
                    "/spec/replicatedJobs/0/template/spec/template/spec/containers/0",
                )),
            ),
            (
                json!({"kind": "Workflow", "spec": {"templates": [{"container": container, "sidecars": [container]}]}}),
                Some(("Workflow", 2, "/spec/templates/0/container")),
            ),
            (
                json!({"kind": "CronWorkflow", "spec": {"workflowSpec": {"templates": [{"container": container}]}}}),
                Some((
                    "CronWorkflow",
                    1,
                    "/spec/workflowSpec/templates/0/container",
                )),
            ),
            (
                json!({"kind": "List", "items": [{"kind": "Task", "spec": {"sidecars": [container]}}]}),
                Some(("Task", 1, "/items/0/spec/sidecars/0")),
            ),
            (
                json!({"kind": "SidecarSet", "spec": {"containers": [{"name": "a"}]}}),
                None,
            ),
            (
                json!({"kind": "ConfigMap", "data": {"livenessProbe": "x", "name": "y"}}),
                None,
            ),
        ] {
            let found = passed_over(&object);
            let told = found
                .first()
                .map(|one| (one.kind.as_str(), one.containers, one.pointer.as_str()));
            assert_eq!(told, expected, "{object}");
        }
    }
}
