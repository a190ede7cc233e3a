//! Who takes the controller over has its account: what that may do, and what no permission and no policy lets it do.

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use kube::api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use whittle_api::Builder;

use crate::api_server::ApiServer;
use crate::stage::{Stage, apply, root};

/// A client with the controller's account, in a namespace.
struct Thief {
    client: Client,
    namespace: String,
}

impl Thief {
    async fn new(namespace: &str) -> Self {
        Self {
            client: ApiServer::shared().controller().await,
            namespace: namespace.into(),
        }
    }

    fn api(&self, object: &Value) -> Api<DynamicObject> {
        let version = object["apiVersion"].as_str().unwrap();
        let (group, version) = version.split_once('/').unwrap_or(("", version));
        let kind = object["kind"].as_str().unwrap();
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        match kind {
            "ProbeProfile" => Api::all_with(self.client.clone(), &resource),
            _ => Api::namespaced_with(self.client.clone(), &self.namespace, &resource),
        }
    }

    async fn create(&self, object: &Value) -> kube::Result<DynamicObject> {
        let params = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        let typed = serde_json::from_value(object.clone()).unwrap();
        self.api(object).create(&params, &typed).await
    }

    async fn apply(&self, object: &Value) -> kube::Result<DynamicObject> {
        let name = object["metadata"]["name"].as_str().unwrap();
        let params = PatchParams::apply("whittle").force();
        let api = self.api(object);
        api.patch(name, &params, &Patch::Apply(object)).await
    }

    async fn delete(&self, object: &Value) -> kube::Result<()> {
        let name = object["metadata"]["name"].as_str().unwrap();
        let (api, now) = (self.api(object), DeleteParams::default());
        api.delete(name, &now).await.map(drop)
    }

    /// Neither a creation nor an apply goes through; the refusal has these words.
    async fn cannot_write(&self, object: &Value, words: &str) {
        refused(self.create(object).await, words);
        refused(self.apply(object).await, words);
    }
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: kube::Result<T>, words: &str) {
    match result {
        Err(kube::Error::Api(status)) if status.code == 403 => assert!(
            status.message.contains(words),
            "refused, but without {words:?}: {}",
            status.message
        ),
        other => panic!("not refused with {words:?}: {other:?}"),
    }
}

/// An object of the thief's, with all that makes it look like a Builder's.
fn disguised(version: &str, kind: &str, name: &str) -> Value {
    json!({"apiVersion": version, "kind": kind, "metadata": {
        "name": name,
        "labels": {
            "app.kubernetes.io/managed-by": "whittle",
            "whittle.dev/component": "builder",
            "whittle.dev/builder": "default",
        },
        "ownerReferences": [{
            "apiVersion": "whittle.dev/v1alpha1", "kind": "Builder", "name": "default", "controller": true,
            "uid": "11111111-2222-3333-4444-555555555555",
        }],
    }})
}

/// The same by another name, as those are called that whittle makes.
fn named(object: &Value, hash: &str) -> Value {
    merged(
        object,
        json!({"metadata": {"name": format!("hello-{hash:0>10}")}}),
    )
}

fn merged(object: &Value, patch: Value) -> Value {
    let mut object = object.clone();
    json_patch::merge(&mut object, &patch);
    object
}

#[tokio::test]
async fn the_token_of_a_service_account_is_never_answered() {
    let stage = Stage::new().await;
    let thief = Thief::new(&stage.namespace).await;
    let honest = disguised("v1", "Secret", "whittle-builder-default-server");
    thief
        .create(&honest)
        .await
        .expect("a certificate's Secret is made");
    let token = merged(
        &honest,
        json!({
            "type": "kubernetes.io/service-account-token",
            "metadata": {"annotations": {"kubernetes.io/service-account.name": "powerful"}},
        }),
    );
    thief.cannot_write(&token, "never a ServiceAccount's").await;
    let annotated = merged(
        &honest,
        json!({"metadata": {"annotations": {"kubernetes.io/service-account.name": "powerful"}}}),
    );
    thief
        .cannot_write(&annotated, "never a ServiceAccount's")
        .await;
    // One that is there, however it is dressed up.
    let there = merged(&token, json!({"metadata": {"namespace": stage.namespace}}));
    apply(&stage.client, json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "powerful", "namespace": stage.namespace}})).await;
    apply(&stage.client, there).await;
    refused(thief.apply(&token).await, "never a ServiceAccount's");
    refused(thief.apply(&honest).await, "never a ServiceAccount's");
}

/// One of each kind that the controller may patch.
fn kinds(name: &str) -> Vec<Value> {
    let pod = json!({
        "metadata": {"labels": {"app": "foreign"}},
        "spec": {"containers": [{"name": "a", "image": "a"}]},
    });
    let of = |version: &str, kind: &str, rest: Value| {
        let object = json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}});
        merged(&object, rest)
    };
    vec![
        of("v1", "Secret", json!({"stringData": {"password": "x"}})),
        of("v1", "ConfigMap", json!({"data": {"password": "x"}})),
        of(
            "v1",
            "Service",
            json!({"spec": {"ports": [{"port": 80}], "selector": {"app": "foreign"}}}),
        ),
        of(
            "networking.k8s.io/v1",
            "NetworkPolicy",
            json!({"spec": {"podSelector": {}}}),
        ),
        of(
            "apps/v1",
            "StatefulSet",
            json!({"spec": {"serviceName": "x", "selector": {"matchLabels": {"app": "foreign"}}, "template": pod}}),
        ),
    ]
}

#[tokio::test]
async fn an_apply_that_changes_nothing_answers_nothing_of_somebody_elses() {
    let stage = Stage::new().await;
    let thief = Thief::new(&stage.namespace).await;
    // By a foreign name, and by one that Whittle gives.
    for name in ["foreign", "whittle-builder-default"] {
        for object in kinds(name) {
            let (version, kind) = (&object["apiVersion"], &object["kind"]);
            let there = merged(&object, json!({"metadata": {"namespace": stage.namespace}}));
            apply(&stage.client, there).await;
            let empty = json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}});
            refused(thief.apply(&empty).await, "not whittle's");
            // Nor may it set the label first.
            let dressed = disguised(version.as_str().unwrap(), kind.as_str().unwrap(), name);
            refused(thief.apply(&dressed).await, "not whittle's");
        }
    }
}

#[tokio::test]
async fn what_carries_our_labels_under_a_foreign_name_is_not_ours() {
    let stage = Stage::new().await;
    let thief = Thief::new(&stage.namespace).await;
    for (version, kind) in [
        ("v1", "Secret"),
        ("v1", "ConfigMap"),
        ("v1", "Service"),
        ("networking.k8s.io/v1", "NetworkPolicy"),
    ] {
        let spec = json!({"spec": {"clusterIP": "None", "type": "ClusterIP", "selector": {}, "ports": [{"port": 1}], "podSelector": {}}});
        let spec = match kind {
            "Service" => merged(&spec, json!({"spec": {"podSelector": null}})),
            "NetworkPolicy" => json!({"spec": {"podSelector": {}}}),
            _ => json!({}),
        };
        let object = merged(&disguised(version, kind, "settings"), spec);
        thief
            .cannot_write(
                &object,
                "its name or its owner is not one that whittle gives",
            )
            .await;
    }
}

#[tokio::test]
async fn nothing_of_somebody_elses_is_deleted() {
    let stage = Stage::new().await;
    let thief = Thief::new(&stage.namespace).await;
    let pod =
        json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "a", "image": "a"}]}});
    for object in [
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "foreign"}}),
        json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "foreign-0123456789"}, "spec": {"template": pod}}),
    ] {
        let there = merged(&object, json!({"metadata": {"namespace": stage.namespace}}));
        apply(&stage.client, there).await;
        refused(thief.delete(&object).await, "not whittle's");
    }
}

#[tokio::test]
async fn nothing_is_made_in_kube_system_and_only_the_authority_at_home() {
    Stage::new().await;
    let certificate = disguised("v1", "Secret", "whittle-builder-default-server");
    let map = disguised("v1", "ConfigMap", "whittle-builder-default");
    for (namespace, words) in [
        ("kube-system", "in this namespace"),
        ("whittle-system", "in whittle's own namespace"),
    ] {
        let thief = Thief::new(namespace).await;
        for object in [&certificate, &map] {
            thief.cannot_write(object, words).await;
        }
        let builder = json!({"apiVersion": "whittle.dev/v1alpha1", "kind": "Builder", "metadata": {"name": "default"}, "spec": {}});
        refused(
            thief.create(&builder).await,
            "whittle creates only Builders named default",
        );
    }
    let home = Thief::new("whittle-system").await;
    let name = "whittle-ca";
    let authority = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "type": "kubernetes.io/tls", "data": {"tls.crt": "", "tls.key": ""}});
    match home.create(&authority).await {
        // A controller of another test has made it.
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        other => panic!("{other:?}"),
    }
    // Its own namespace's other Secrets it cannot even read.
    let secrets = home.api(&authority);
    refused(secrets.get("other").await, "cannot get");
}

#[tokio::test]
async fn a_service_or_network_policy_reaches_no_other_pods() {
    let stage = Stage::new().await;
    let thief = Thief::new(&stage.namespace).await;
    let ours = json!({"whittle.dev/component": "builder", "whittle.dev/builder": "default"});
    let service = merged(
        &disguised("v1", "Service", "whittle-builder-default"),
        json!({"spec": {"clusterIP": "None", "selector": ours, "ports": [{"port": 1234}]}}),
    );
    thief.create(&service).await.expect("the Builder's Service");
    for patch in [
        json!({"spec": {"selector": {"whittle.dev/component": null, "whittle.dev/builder": null, "app": "victim"}}}),
        json!({"spec": {"externalIPs": ["192.0.2.1"]}}),
        json!({"spec": {"clusterIP": null}}),
        json!({"spec": {"type": "ExternalName", "externalName": "example.com", "clusterIP": null}}),
    ] {
        thief
            .cannot_write(&merged(&service, patch), "headless")
            .await;
    }
    let policy = merged(
        &disguised(
            "networking.k8s.io/v1",
            "NetworkPolicy",
            "whittle-builder-default",
        ),
        json!({"spec": {"podSelector": {"matchLabels": ours}, "policyTypes": ["Ingress", "Egress"]}}),
    );
    thief.create(&policy).await.expect("the Builder's policy");
    let all = merged(
        &policy,
        json!({"spec": {"podSelector": {"matchLabels": null}}}),
    );
    thief.cannot_write(&all, "select the Pods").await;
    // One that holds one direction alone leaves the other open.
    for types in [json!(["Ingress"]), json!(["Egress"])] {
        let half = merged(&policy, json!({"spec": {"policyTypes": types}}));
        thief.cannot_write(&half, "hold what these reach").await;
    }
}

/// As it would be written, without what the API server has added.
fn fresh<K: ResourceExt + serde::Serialize>(object: &K, version: &str, kind: &str) -> Value {
    let whole = serde_json::to_value(object).unwrap();
    let meta = &whole["metadata"];
    let mut object = json!({"apiVersion": version, "kind": kind, "spec": whole["spec"], "metadata": {
        "name": meta["name"], "labels": meta["labels"], "annotations": meta["annotations"], "ownerReferences": meta["ownerReferences"],
    }});
    let labels = [
        "controller-uid",
        "job-name",
        "batch.kubernetes.io/controller-uid",
        "batch.kubernetes.io/job-name",
    ];
    let spec = object["spec"].as_object_mut().unwrap();
    if kind == "Job" {
        spec.remove("selector");
        for label in labels {
            spec["template"]["metadata"]["labels"]
                .as_object_mut()
                .unwrap()
                .remove(label);
        }
    }
    object
}

#[tokio::test]
async fn pods_have_no_more_than_whittles_own() {
    let stage = Stage::with_controller().await;
    stage.apply("hello", json!({})).await.unwrap();
    stage.builder_starts().await;
    let job: Job = stage.job("hello").await;
    let set: StatefulSet = stage.api().get("whittle-builder-default").await.unwrap();
    let thief = Thief::new(&stage.namespace).await;
    let job = merged(
        &fresh(&job, "batch/v1", "Job"),
        json!({"metadata": {"name": "hello-0123456789"}}),
    );
    thief.create(&job).await.expect("a runner's Job is made");
    let set = fresh(&set, "apps/v1", "StatefulSet");
    let updated = async |object: &Value| {
        let params = PatchParams {
            dry_run: true,
            ..PatchParams::default()
        };
        let patch = json!({"spec": {"template": object["spec"]["template"]}});
        let api = thief.api(object);
        api.patch("whittle-builder-default", &params, &Patch::Merge(patch))
            .await
    };
    updated(&set)
        .await
        .expect("a builder's StatefulSet is changed");

    // A change of the Pod, and what the refusal says; for both.
    let pods: [(Value, &str); 7] = [
        (json!({"hostNetwork": true}), "no host namespaces"),
        (json!({"hostPID": true}), "no host namespaces"),
        (json!({"hostIPC": true}), "no host namespaces"),
        (json!({"nodeName": "control-plane"}), "no host namespaces"),
        (
            json!({"serviceAccountName": "powerful", "serviceAccount": "powerful"}),
            "no ServiceAccount token",
        ),
        (
            json!({"automountServiceAccountToken": true}),
            "no ServiceAccount token",
        ),
        (
            json!({"securityContext": {"runAsUser": 0}}),
            "a user that is not root",
        ),
    ];
    for (patch, words) in pods {
        let patch = json!({"spec": {"template": {"spec": patch}}});
        refused(thief.create(&merged(&job, patch.clone())).await, words);
        refused(updated(&merged(&set, patch)).await, words);
    }
    let unsaid = json!({"spec": {"template": {"spec": {"automountServiceAccountToken": null}}}});
    refused(
        thief.create(&merged(&job, unsaid)).await,
        "no ServiceAccount token",
    );
    let with_volume = |object: &Value, volume: Value| {
        let mut object = object.clone();
        object["spec"]["template"]["spec"]["volumes"]
            .as_array_mut()
            .unwrap()
            .push(volume);
        object
    };
    for volume in [
        json!({"name": "x", "hostPath": {"path": "/"}}),
        json!({"name": "x", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}),
        json!({"name": "x", "persistentVolumeClaim": {"claimName": "somebody-elses"}}),
    ] {
        let words = "volumes of ConfigMaps";
        refused(
            thief.create(&with_volume(&job, volume.clone())).await,
            words,
        );
        refused(updated(&with_volume(&set, volume)).await, words);
    }
    let containers: [(Value, &str); 8] = [
        (
            json!({"securityContext": {"privileged": true, "allowPrivilegeEscalation": null}}),
            "not privileged",
        ),
        (
            json!({"securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}}}),
            "not privileged",
        ),
        (
            json!({"securityContext": {"runAsUser": 0}}),
            "not privileged",
        ),
        (
            json!({"securityContext": {"runAsNonRoot": false}}),
            "not privileged",
        ),
        (
            json!({"ports": [{"containerPort": 1, "hostPort": 1}]}),
            "not privileged",
        ),
        (
            json!({"image": "attacker.example.com/x"}),
            "images of its settings",
        ),
        (
            json!({"envFrom": [{"secretRef": {"name": "x"}}]}),
            "envFrom and valueFrom are not allowed",
        ),
        (
            json!({"env": [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "x", "key": "y"}}}]}),
            "envFrom and valueFrom are not allowed",
        ),
    ];
    for (patch, words) in containers {
        for (object, is_job) in [(&job, true), (&set, false)] {
            let mut changed = object.clone();
            json_patch::merge(
                &mut changed["spec"]["template"]["spec"]["containers"][0],
                &patch,
            );
            let result = if is_job {
                thief.create(&changed).await
            } else {
                updated(&changed).await
            };
            refused(result, words);
        }
    }
    let first = |container: Value| {
        json!({"spec": {"template": {"spec": {"initContainers": [merged(
            &json!({"name": "first", "image": "whittle:test", "securityContext": {
                "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}), container)]}}}})
    };
    let good = merged(
        &job,
        first(json!({"volumeMounts": [{"name": "scratch", "mountPath": "/x"}]})),
    );
    thief
        .create(&good)
        .await
        .expect("a first container that prepares the scratch volume");
    for (container, words) in [
        (
            json!({"image": "attacker.example.com/x"}),
            "init containers have the images",
        ),
        (
            json!({"volumeMounts": [{"name": "tls", "mountPath": "/x"}]}),
            "init containers have the images",
        ),
        (
            json!({"securityContext": {"privileged": true, "allowPrivilegeEscalation": null}}),
            "not privileged",
        ),
    ] {
        refused(thief.create(&merged(&job, first(container))).await, words);
    }
    // A runner starts what its image starts.
    let mut shell = job.clone();
    shell["spec"]["template"]["spec"]["containers"][0]["command"] = json!(["sh"]);
    refused(thief.create(&shell).await, "images of its settings");
    // In the builder's image there is a shell: no other Secret goes there.
    let secret = json!({"name": "x", "secret": {"secretName": "somebody-elses"}});
    refused(
        updated(&with_volume(&set, secret)).await,
        "no Secret but its own",
    );
    // Labels that a Service of somebody else selects.
    let label = json!({"spec": {"template": {"metadata": {"labels": {"app": "victim"}}}}});
    refused(thief.create(&merged(&job, label)).await, "whittle's labels");

    // The Pod that checks an image may be of any image, and has nothing.
    let gate = json!({"whittle.dev/component": "gate", "whittle.dev/builder": null, "app.kubernetes.io/component": "gate"});
    let mut gate = merged(
        &job,
        json!({"metadata": {"labels": gate}, "spec": {"template": {"metadata": {"labels": gate}}}}),
    );
    let container = &mut gate["spec"]["template"]["spec"]["containers"][0];
    container["image"] = json!("registry.example.com/x@sha256:00");
    container["name"] = json!("image");
    refused(
        thief.create(&gate).await,
        "health check Pods have no volumes",
    );
    let pod = gate["spec"]["template"]["spec"].as_object_mut().unwrap();
    pod.remove("volumes");
    pod["containers"][0]
        .as_object_mut()
        .unwrap()
        .remove("volumeMounts");
    thief
        .create(&gate)
        .await
        .expect("a Pod that checks an image");
    // One in which an image is tried shares a folder with a container of whittle's own; nothing else is given to it.
    let of_pod = |patch: Value| {
        merged(
            &named(&gate, "1"),
            json!({"spec": {"template": {"spec": patch}}}),
        )
    };
    let runner = &job["spec"]["template"]["spec"]["containers"][0];
    let own = json!({"name": "trial", "image": runner["image"], "args": ["trial"], "securityContext": runner["securityContext"]});
    let image = gate["spec"]["template"]["spec"]["containers"][0].clone();
    let folder = json!([{"name": "trial", "emptyDir": {}}]);
    let tried = of_pod(json!({"containers": [image, own], "volumes": folder}));
    thief
        .create(&tried)
        .await
        .expect("a Pod that tries an image");
    let other = merged(&own, json!({"image": "evil"}));
    let shell = merged(&own, json!({"command": ["sh"]}));
    for container in [other, shell] {
        let refusal = thief
            .create(&of_pod(json!({"containers": [image, container]})))
            .await;
        refused(refusal, "health check Pods have no volumes");
    }
    let secret = json!([{"name": "x", "secret": {"secretName": "somebody-elses"}}]);
    let refusal = thief.create(&of_pod(json!({"volumes": secret}))).await;
    refused(refusal, "health check Pods have no volumes");
    // An image may be checked as root, where the namespace allows that; with no capability more than containers have.
    let root = json!({"securityContext": {"runAsNonRoot": null}});
    let mut as_root = image.clone();
    as_root["securityContext"] = json!({"allowPrivilegeEscalation": false});
    let as_root = merged(
        &of_pod(root.clone()),
        json!({"spec": {"template": {"spec": {"containers": [as_root]}}}}),
    );
    let as_root = named(&as_root, "2");
    thief
        .create(&as_root)
        .await
        .expect("a Pod that checks an image as root");
    let mut more = image.clone();
    more["securityContext"] =
        json!({"allowPrivilegeEscalation": false, "capabilities": {"add": ["SYS_ADMIN"]}});
    let more = merged(
        &of_pod(root),
        json!({"spec": {"template": {"spec": {"containers": [more]}}}}),
    );
    refused(thief.create(&more).await, "not privileged");
}

#[tokio::test]
async fn a_deployment_is_a_watcher_of_its_builder_in_whittles_own_image_and_no_other() {
    let stage = Stage::with_controller().await;
    let poll = json!({"source": {"inline": null, "git": {"url": "https://git.example.com/a.git", "secretRef": {"name": "git"}}},
        "triggers": {"poll": {}}});
    stage.apply("hello", poll).await.unwrap();
    let name = "whittle-builder-default-watcher";
    let deployment: Deployment = stage
        .until("the watcher is there", async || {
            stage.api().get_opt(name).await.unwrap()
        })
        .await;
    let thief = Thief::new(&stage.namespace).await;
    let honest = fresh(&deployment, "apps/v1", "Deployment");
    thief.apply(&honest).await.expect("the watcher");
    // As Kueue's webhook has it where the namespace has a LocalQueue named default.
    let queue = ("kueue.x-k8s.io/queue-name", "default");
    let queued = json!({"metadata": {"labels": {(queue.0): queue.1}},
        "spec": {"template": {"metadata": {"labels": {(queue.0): queue.1, "kueue.x-k8s.io/managed": "true"}}}}});
    let queued = merged(&honest, queued);
    thief.apply(&queued).await.expect("the watcher in a queue");
    let of_pod = |patch: Value| merged(&honest, json!({"spec": {"template": {"spec": patch}}}));
    let container = &honest["spec"]["template"]["spec"]["containers"][0];
    let other_image = merged(container, json!({"image": "evil"}));
    let command = merged(container, json!({"command": ["/bin/sh"]}));
    let mut volumes = honest["spec"]["template"]["spec"]["volumes"].clone();
    volumes[0] = json!({"name": volumes[0]["name"], "hostPath": {"path": "/"}});
    for (object, words) in [
        (
            merged(&honest, json!({"metadata": {"name": "other"}})),
            "its name or its owner",
        ),
        (
            merged(&honest, json!({"metadata": {"ownerReferences": null}})),
            "its name or its owner",
        ),
        (
            merged(
                &honest,
                json!({"metadata": {"labels": {"whittle.dev/component": null}}}),
            ),
            "not whittle's",
        ),
        (
            of_pod(json!({"containers": [other_image]})),
            "the images of its settings",
        ),
        (
            of_pod(json!({"containers": [command]})),
            "the images of its settings",
        ),
        (of_pod(json!({"hostNetwork": true})), "no host namespaces"),
        (
            of_pod(json!({"automountServiceAccountToken": true})),
            "no ServiceAccount token",
        ),
        (of_pod(json!({"volumes": volumes})), "volumes of ConfigMaps"),
    ] {
        refused(thief.apply(&object).await, words);
    }
    let victim = merged(
        &disguised("apps/v1", "Deployment", "whittle-builder-default"),
        json!({"spec": honest["spec"]}),
    );
    // Both policies refuse it, and which of them answers is the API server's choice.
    refused(
        thief.create(&victim).await,
        "ValidatingAdmissionPolicy 'whittle-self",
    );
}

#[tokio::test]
async fn what_is_not_in_namespaces_or_not_whittles_word_is_left_to_others() {
    let stage = Stage::new().await;
    let thief = Thief::new(&stage.namespace).await;
    let builder = json!({"apiVersion": "whittle.dev/v1alpha1", "kind": "Builder", "metadata": {"name": "mine"}, "spec": {}});
    refused(
        thief.create(&builder).await,
        "whittle creates only Builders named default",
    );
    // The daemon of a platform belongs to the Builder that it is made after.
    let daemon = |of: &str| {
        merged(
            &builder,
            json!({"metadata": {"name": "default-linux-arm64", "labels": {"whittle.dev/made-after": "default"},
        "ownerReferences": [{"apiVersion": "whittle.dev/v1alpha1", "kind": "Builder", "name": of, "controller": true, "uid": "11111111-2222-3333-4444-555555555555"}]}}),
        )
    };
    refused(
        thief.create(&daemon("other")).await,
        "and the daemons of a Builder's platforms",
    );
    thief
        .create(&daemon("default"))
        .await
        .expect("the daemon of a platform is made");
    let event = json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "forged"},
        "eventTime": "2026-01-01T00:00:00.000000Z", "action": "x", "reason": "x", "type": "Normal",
        "reportingController": "kubelet", "reportingInstance": "x",
        "regarding": {"kind": "Pod", "name": "x", "namespace": stage.namespace},
    });
    refused(thief.create(&event).await, "whittle's Events");
    let profile = json!({"apiVersion": "whittle.dev/v1alpha1", "kind": "ProbeProfile", "metadata": {"name": "by-hand"},
        "spec": {"references": {}, "images": {}, "programs": {}}});
    refused(thief.create(&profile).await, "not whittle's");
}

#[tokio::test]
async fn of_leases_it_writes_the_one_by_which_its_processes_agree() {
    let stage = Stage::new().await;
    let lease = |namespace: &str, name: &str| {
        json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": name, "namespace": namespace}, "spec": {"holderIdentity": "thief"}})
    };
    let (home, team) = (
        Thief::new("whittle-system").await,
        Thief::new(&stage.namespace).await,
    );
    let own = lease("whittle-system", "whittle-controller");
    home.create(&own).await.expect("its own is made");
    let other = lease("whittle-system", "somebody-elses");
    refused(home.create(&other).await, "whittle creates one Lease");
    let elsewhere = lease(&stage.namespace, "whittle-controller");
    refused(team.create(&elsewhere).await, "cannot create resource");
    // One that is there: neither by another name nor in another namespace, nor can it be read.
    for (thief, there) in [(&home, &other), (&team, &elsewhere)] {
        apply(&stage.client, there.clone()).await;
        let (api, name) = (
            thief.api(there),
            there["metadata"]["name"].as_str().unwrap(),
        );
        let typed: DynamicObject = serde_json::from_value(there.clone()).unwrap();
        let replaced = api.replace(name, &PostParams::default(), &typed).await;
        refused(replaced, "cannot update resource");
        refused(api.get(name).await, "cannot get resource");
        refused(thief.apply(there).await, "cannot patch resource");
        refused(thief.delete(there).await, "cannot delete resource");
    }
}

#[tokio::test]
async fn a_builders_object_of_somebody_else_is_told_and_left_alone() {
    let mut stage = Stage::new().await;
    let foreign = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "whittle-builder-default", "namespace": stage.namespace}, "data": {"a": "b"}});
    apply(&stage.client, foreign).await;
    stage.start_controller().await;
    stage.apply("hello", json!({})).await.unwrap();
    stage
        .until("the Builder has been tried", async || {
            (stage
                .metric(r#"whittle_reconcile_errors_total{kind="Builder"}"#)
                .await
                > 0)
            .then_some(())
        })
        .await;
    let maps: Api<k8s_openapi::api::core::v1::ConfigMap> = stage.api();
    let left = maps.get("whittle-builder-default").await.unwrap();
    assert_eq!(left.data.unwrap()["a"], "b");
    // Once it is gone, all goes on.
    maps.delete("whittle-builder-default", &DeleteParams::default())
        .await
        .unwrap();
    stage.builder_starts().await;
    let builders: Api<Builder> = stage.api();
    let builder = builders.get("default").await.unwrap();
    assert!(builder.status.unwrap().certificates.is_some());
}

/// Where a right is given, as the table in the documentation says it, and the object that gives it.
const PLACES: [(&str, &str, &str); 3] = [
    ("namespaces", "ClusterRole", "whittle-controller"),
    ("cluster", "ClusterRole", "whittle-cluster"),
    ("own", "Role", "whittle-controller"),
];

#[test]
fn each_right_stands_in_the_documentation_and_no_other() {
    let read = |path: &str| std::fs::read_to_string(root().join(path)).unwrap();
    let mut given = BTreeSet::new();
    let rendered = read("config/default/whittle.yaml");
    for object in serde_saphyr::from_multiple::<Value>(&rendered).unwrap() {
        let is = |(_, kind, name): &&(&str, &str, &str)| {
            object["kind"] == **kind && object["metadata"]["name"] == **name
        };
        let Some((place, ..)) = PLACES.iter().find(is) else {
            continue;
        };
        let texts =
            |value: &Value| -> Vec<String> { serde_json::from_value(value.clone()).unwrap() };
        for rule in object["rules"].as_array().unwrap() {
            for group in texts(&rule["apiGroups"]) {
                for resource in texts(&rule["resources"]) {
                    // As kubectl writes it.
                    let (base, sub) = match resource.split_once('/') {
                        Some((base, sub)) => (base, format!("/{sub}")),
                        None => (resource.as_str(), String::new()),
                    };
                    let dot = if group.is_empty() { "" } else { "." };
                    for verb in texts(&rule["verbs"]) {
                        given.insert(format!("{place}: {verb} {base}{dot}{group}{sub}"));
                    }
                }
            }
        }
    }
    assert!(given.len() > 40, "{given:#?}");
    let mut told = BTreeSet::new();
    for line in read("docs/security.md").lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, right, place, ..] = cells[..] else {
            continue;
        };
        let Some((resource, verbs)) = right.strip_prefix('`').and_then(|r| r.split_once("`: "))
        else {
            continue;
        };
        if PLACES.iter().any(|(known, ..)| *known == place) {
            for verb in verbs.split(", ") {
                told.insert(format!("{place}: {verb} {resource}"));
            }
        }
    }
    let untold: Vec<_> = given.difference(&told).collect();
    let not_given: Vec<_> = told.difference(&given).collect();
    assert!(
        untold.is_empty() && not_given.is_empty(),
        "docs/security.md, \"Each right of the controller\": not in the table: {untold:#?}\nnot given by the chart: {not_given:#?}"
    );
}
