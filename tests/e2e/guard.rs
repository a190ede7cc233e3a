//! The probe guard: workloads whose probes cannot work on an image that Whittle built.

use std::time::Instant;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams,
};
use kube::core::GroupVersionKind;
use serde_json::{Value, json};
use whittle_api::{ImageBuild, ImageBuildStatus, ProbeProfile, find};

use crate::field::{Field, controllers};

/// Asks the API server whether it would take an object; what it says where it does not.
pub async fn refusal(field: &Field, kind: &str, object: &Value) -> Option<String> {
    let (group, version) = match kind {
        "Pod" => ("", "v1"),
        "Job" | "CronJob" => ("batch", "v1"),
        _ => ("apps", "v1"),
    };
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    let api: Api<DynamicObject> =
        Api::namespaced_with(field.client.clone(), &field.namespace, &resource);
    let mut object: DynamicObject = serde_json::from_value(object.clone()).unwrap();
    object.types = None;
    let params = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    match api.create(&params, &object).await {
        Ok(_) => None,
        Err(kube::Error::Api(status)) => Some(status.message.clone()),
        Err(error) => panic!("{kind}: {error}"),
    }
}

/// A Pod spec with one container that has these fields.
fn spec(image: &str, fields: Value) -> Value {
    let mut container = json!({"name": "app", "image": image});
    json_patch::merge(&mut container, &fields);
    json!({"containers": [container]})
}

/// The same template as each of the kinds that the guard knows.
fn workloads(spec: &Value) -> Vec<(&'static str, Value)> {
    let labels = json!({"app": "app"});
    let template = json!({"metadata": {"labels": labels}, "spec": spec});
    let selector = json!({"matchLabels": labels});
    let mut once = template.clone();
    once["spec"]["restartPolicy"] = json!("Never");
    let named = |spec: Value| json!({"metadata": {"name": "app"}, "spec": spec});
    vec![
        ("Pod", named(spec.clone())),
        (
            "Deployment",
            named(json!({"selector": selector, "template": template})),
        ),
        (
            "ReplicaSet",
            named(json!({"selector": selector, "template": template})),
        ),
        (
            "DaemonSet",
            named(json!({"selector": selector, "template": template})),
        ),
        (
            "StatefulSet",
            named(json!({"selector": selector, "template": template, "serviceName": "app"})),
        ),
        ("Job", named(json!({"template": once}))),
        (
            "CronJob",
            named(json!({"schedule": "0 0 * * *", "jobTemplate": {"spec": {"template": once}}})),
        ),
    ]
}

/// The chart's policy, bound to one namespace and denying there.
pub async fn deny_in(field: &Field) {
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": field.namespace}, "spec": {
            "policyName": "whittle-probe-guard", "validationActions": ["Deny"],
            "paramRef": {"parameterNotFoundAction": "Allow",
                "selector": {"matchLabels": {"app.kubernetes.io/managed-by": "whittle"}}},
            "matchResources": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": field.namespace}}}}});
    field.create_for_all(binding).await;
}

pub async fn allow_in(field: &Field) {
    let kind = GroupVersionKind::gvk(
        "admissionregistration.k8s.io",
        "v1",
        "ValidatingAdmissionPolicyBinding",
    );
    let resource = ApiResource::from_gvk(&kind);
    let api: Api<DynamicObject> = Api::all_with(field.client.clone(), &resource);
    api.delete(&field.namespace, &DeleteParams::default())
        .await
        .unwrap();
}

/// An image with busybox under the name of each program that it is to have, and no shell.
pub fn image_with(programs: &[&str]) -> Value {
    let copies: String = programs
        .iter()
        .map(|path| format!("COPY --from=files /bin/busybox {path}\n"))
        .collect();
    let dockerfile = format!(
        "FROM busybox:1.36 AS files\nFROM scratch\nCOPY --from=files /lib /lib\nCOPY --from=files /lib64 /lib64\n{copies}\
         USER 65532:65532\nENTRYPOINT [\"{}\"]\n",
        programs[0]
    );
    json!({"Dockerfile": dockerfile})
}

async fn built(field: &Field, programs: &[&str], number: i64) -> ImageBuildStatus {
    field.build("hello", image_with(programs), json!({})).await;
    field.succeeds_again("hello", number).await
}

/// Waits until this Pod is refused, or is not.
async fn becomes(field: &Field, what: &str, spec: &Value, refused: bool) -> String {
    let pod = json!({"metadata": {"name": "app"}, "spec": spec});
    field
        .until(what, async || {
            let said = refusal(field, "Pod", &pod).await;
            (said.is_some() == refused).then(|| said.unwrap_or_default())
        })
        .await
}

#[tokio::test]
async fn a_workload_whose_probe_cannot_work_is_refused_with_the_cure() {
    let field = Field::new("guard").await;
    deny_in(&field).await;
    let status = built(&field, &["/bin/httpd", "/app"], 1).await;
    let image = format!("{}:latest", field.image("hello"));
    let exec = |command: Value| json!({"exec": {"command": command}});
    let wrong = spec(
        &image,
        json!({"livenessProbe": exec(json!(["/bin/curl", "-f", "localhost:8080"]))}),
    );
    let said = becomes(&field, "the profile knows the image", &wrong, true).await;
    for word in [
        "container app: livenessProbe runs /bin/curl",
        &image,
        "use httpGet, tcpSocket or grpc",
        &format!("ImageBuild {}/hello", field.namespace),
    ] {
        assert!(said.contains(word), "{word}: {said}");
    }
    let digest = status.image.unwrap();
    let both = format!("{image}@{}", status.digest.unwrap());
    // Every kind, every place, every way to name the image.
    for image in [image.as_str(), &field.image("hello"), &digest, &both] {
        let wrong = spec(
            image,
            json!({"readinessProbe": exec(json!(["wget", "-q", "localhost"]))}),
        );
        for (kind, object) in workloads(&wrong) {
            let said = refusal(&field, kind, &object).await.unwrap_or_default();
            assert!(
                said.contains("readinessProbe runs wget"),
                "{kind} {image}: {said}"
            );
        }
    }
    for (fields, words) in [
        (
            json!({"startupProbe": exec(json!(["/bin/sh", "-c", "true"]))}),
            "startupProbe runs /bin/sh",
        ),
        (
            json!({"lifecycle": {"postStart": exec(json!(["/init"]))}}),
            "postStart runs /init",
        ),
        (
            json!({"lifecycle": {"preStop": exec(json!(["sleep", "5"]))}}),
            "preStop runs sleep, which image",
        ),
        (
            json!({"lifecycle": {"preStop": exec(json!(["sleep", "5"]))}}),
            "use preStop: {sleep: {seconds: 5}}",
        ),
        (
            json!({"lifecycle": {"preStop": exec(json!(["sh", "-c", "sleep 7"]))}}),
            "use preStop: {sleep: {seconds: 7}}",
        ),
    ] {
        let said = refusal(
            &field,
            "Pod",
            &json!({"metadata": {"name": "app"}, "spec": spec(&image, fields.clone())}),
        )
        .await;
        let said = said.unwrap_or_else(|| panic!("{fields:#} passes"));
        assert!(said.contains(words), "{words}: {said}");
    }
    // A sidecar's probe counts, too.
    let mut sidecar = spec("elsewhere.example.com/app:1", json!({}));
    let mut container = wrong["containers"][0].clone();
    container["restartPolicy"] = json!("Always");
    container["name"] = json!("proxy");
    sidecar["initContainers"] = json!([container]);
    let said = refusal(
        &field,
        "Pod",
        &json!({"metadata": {"name": "app"}, "spec": sidecar}),
    )
    .await;
    assert!(said.unwrap().contains("container proxy: livenessProbe"));

    // What works, or cannot be told, passes: programs of the image, also without a shell; the fixes;
    // volumes and variables that may bring the program; other images.
    let volume = |path: &str| {
        let mut spec = spec(
            &image,
            json!({"livenessProbe": exec(json!(["/tools/check"])),
            "volumeMounts": [{"name": "tools", "mountPath": path}]}),
        );
        spec["volumes"] = json!([{"name": "tools", "emptyDir": {}}]);
        spec
    };
    let passing = [
        spec(
            &image,
            json!({"livenessProbe": exec(json!(["/app", "health"]))}),
        ),
        spec(
            &image,
            json!({"livenessProbe": exec(json!(["httpd", "--help"]))}),
        ),
        spec(
            &image,
            json!({"livenessProbe": {"httpGet": {"path": "/", "port": 8080}}, "lifecycle": {"preStop": {"sleep": {"seconds": 5}}}}),
        ),
        spec(
            &image,
            json!({"livenessProbe": exec(json!(["curl"])), "env": [{"name": "PATH", "value": "/tools"}]}),
        ),
        volume("/tools"),
        volume("/tools/check"),
        spec(
            &image,
            json!({"livenessProbe": exec(json!(["nvidia-smi"])), "resources": {"limits": {"example.com/gpu": 1}}}),
        ),
        spec(
            "elsewhere.example.com/app:1",
            json!({"livenessProbe": exec(json!(["/bin/curl"]))}),
        ),
    ];
    for passing in &passing {
        for (kind, object) in workloads(passing) {
            let said = refusal(&field, kind, &object).await;
            assert_eq!(said, None, "{kind}: {passing:#}");
        }
    }
    // A runtime may bring programs. There is none of this name, which the API server asks of Pods alone.
    let mut sandboxed = wrong.clone();
    sandboxed["runtimeClassName"] = json!("gpu");
    for (kind, object) in workloads(&sandboxed).into_iter().skip(1) {
        assert_eq!(refusal(&field, kind, &object).await, None, "{kind}");
    }
    assert!(
        refusal(
            &field,
            "Pod",
            &json!({"metadata": {"name": "app"}, "spec": volume("/data")})
        )
        .await
        .is_some()
    );

    // The tag moves to an image that has the program, and back.
    for (programs, number, refused) in [
        (vec!["/bin/httpd", "/app", "/bin/curl"], 2, false),
        (vec!["/bin/httpd", "/app"], 3, true),
    ] {
        built(&field, &programs, number).await;
        let since = Instant::now();
        becomes(&field, "the verdict follows the tag", &wrong, refused).await;
        println!("the verdict followed the tag after {:?}", since.elapsed());
    }
    // The first digest is still what it was.
    let first = spec(
        &digest,
        json!({"livenessProbe": exec(json!(["/bin/curl"]))}),
    );
    assert!(
        refusal(
            &field,
            "Pod",
            &json!({"metadata": {"name": "app"}, "spec": first})
        )
        .await
        .is_some()
    );
    allow_in(&field).await;
    field.close().await;
}

#[tokio::test]
async fn the_guard_guards_without_the_controller_and_knows_nothing_without_profiles() {
    let field = Field::new("guard-alone").await;
    deny_in(&field).await;
    built(&field, &["/app"], 1).await;
    let image = format!("{}:latest", field.image("hello"));
    let wrong = spec(
        &image,
        json!({"livenessProbe": {"exec": {"command": ["/bin/sh"]}}}),
    );
    becomes(&field, "the profile knows the image", &wrong, true).await;

    let deployments = Api::<Deployment>::namespaced(field.client.clone(), "whittle-system");
    let scale = async |replicas: i32| {
        let patch = json!({"spec": {"replicas": replicas}});
        deployments
            .patch("whittle", &PatchParams::default(), &Patch::Merge(patch))
            .await
            .unwrap();
    };
    scale(0).await;
    let pods = Api::<Pod>::namespaced(field.client.clone(), "whittle-system");
    field
        .until("the controller is gone", async || {
            let all = pods.list(&controllers()).await.unwrap();
            all.items.is_empty().then_some(())
        })
        .await;
    let pod = json!({"metadata": {"name": "app"}, "spec": wrong});
    let without = refusal(&field, "Pod", &pod).await;
    let profiles = Api::<ProbeProfile>::all(field.client.clone());
    profiles
        .delete_collection(&DeleteParams::default(), &ListParams::default())
        .await
        .unwrap();
    let known = field.until("nothing is refused without profiles", async || {
        refusal(&field, "Pod", &pod).await.is_none().then_some(())
    });
    known.await;
    scale(1).await;
    assert!(without.unwrap().contains("livenessProbe runs /bin/sh"));
    // It comes back, and makes them anew.
    becomes(&field, "the profiles are there again", &wrong, true).await;
    allow_in(&field).await;
    field.close().await;
}

#[tokio::test]
async fn workloads_that_run_already_are_audited_and_told_once() {
    let field = Field::new("audit").await;
    let image = format!("{}:latest", field.image("hello"));
    // There before the image is known: the guard could not judge it.
    let wrong = spec(
        &image,
        json!({"livenessProbe": {"exec": {"command": ["/bin/curl", "localhost"]}},
            "env": [{"name": "PASSWORD", "value": "hunter22"}]}),
    );
    let labels = json!({"app": "app"});
    let deployment = |name: &str, spec: &Value| {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": {"replicas": 0,
            "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": spec}}})
    };
    field.create(deployment("before", &wrong)).await;
    built(&field, &["/app"], 1).await;
    let condition = async |what: &str, status: &str, words: &str| {
        field
            .until(what, async || {
                let build = field.api::<ImageBuild>().get("hello").await.unwrap();
                let condition = find(&build.status?.conditions, "ProbesCompatible")?.clone();
                let as_asked = condition.status == status && condition.message.contains(words);
                as_asked.then_some(condition)
            })
            .await
    };
    let title = format!("Deployment {}/before: ", field.namespace);
    let found = condition("the audit finds it", "False", &title).await;
    assert_eq!(found.reason, "CannotWork");
    assert!(found.message.contains("/bin/curl"), "{found:#?}");
    let told = async || {
        let events = field.api::<Event>().list(&ListParams::default()).await;
        let events = events.unwrap().items.into_iter();
        events
            .filter(|event| event.reason.as_deref() == Some("ProbeCannotWork"))
            .collect::<Vec<_>>()
    };
    let events = field
        .until("an Event tells it", async || {
            Some(told().await).filter(|events| !events.is_empty())
        })
        .await;
    assert_eq!(events[0].involved_object.name.as_deref(), Some("before"));

    // A second one that works changes nothing; the image with the program does.
    let right = spec(
        &image,
        json!({"livenessProbe": {"exec": {"command": ["/app"]}}}),
    );
    field.create(deployment("right", &right)).await;
    built(&field, &["/app", "/bin/curl"], 2).await;
    condition("the rebuilt image has the program", "True", "2 workloads").await;
    // And an image that was rebuilt without it.
    built(&field, &["/app"], 3).await;
    condition("the rebuilt image lacks the program", "False", &title).await;
    let events = field
        .until("it is told again", async || {
            let events = told().await;
            let count: i32 = events
                .iter()
                .map(|event| match &event.series {
                    Some(series) => series.count.unwrap_or(1),
                    None => 1,
                })
                .sum();
            (count == 2).then_some(events)
        })
        .await;
    assert!(
        events
            .iter()
            .all(|event| event.involved_object.name.as_deref() == Some("before"))
    );
    // Mended: nobody is left.
    let mended = spec(
        &image,
        json!({"livenessProbe": {"tcpSocket": {"port": 80}}}),
    );
    field.create(deployment("before", &mended)).await;
    condition("the workload is mended", "True", "2 workloads").await;
    field.close().await;
}
