//! What a build step reaches of the network, from inside RUN steps, under an engine that enforces NetworkPolicies; docs/security.md
//! has the table.

use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use serde_json::json;
use whittle_api::{Builder, FailureReason, IsolationMode, Sharing};

use crate::field::{Field, variable};
use crate::long;

/// Tells of each of its arguments, host and port, whether a connection comes about.
/// All at once, and for long enough that a busy machine makes none of them closed.
const TRY: &str = r#"for t; do
  { if nc -w 20 ${t%:*} ${t##*:} </dev/null >/dev/null 2>&1; then echo "$t open"; else echo "$t closed"; fi; } &
done; wait"#;

/// Address of a Pod, once it has one and is Ready.
async fn address(field: &Field, pod: &str) -> String {
    field
        .until(&format!("Pod {pod} is ready"), async || {
            let status = field.api::<Pod>().get_opt(pod).await.unwrap()?.status?;
            let ready = status
                .conditions?
                .into_iter()
                .find(|it| it.type_ == "Ready")?;
            (ready.status == "True").then_some(status.pod_ip)?
        })
        .await
}

/// A Pod that serves on 8080, and a Service before it. Returns the Pod's address.
async fn server(field: &Field) -> String {
    let labels = json!({"app": "neighbor"});
    field
        .create(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "neighbor", "labels": labels}, "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "httpd", "image": "busybox:1.36", "command": ["httpd", "-f", "-p", "8080"],
                "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1}}]}}))
        .await;
    field
        .create(
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "neighbor"},
            "spec": {"selector": labels, "ports": [{"port": 8080}]}}),
        )
        .await;
    address(field, "neighbor").await
}

/// The lines that [`TRY`] has printed.
fn told(log: &str, targets: &[String], word: &str) -> Vec<String> {
    let said = |target: &&String| log.lines().any(|line| line == format!("{target} {word}"));
    targets.iter().filter(said).cloned().collect()
}

#[tokio::test]
async fn a_step_reaches_the_outside_and_nothing_of_the_cluster() {
    reaches("egress", IsolationMode::UserNamespace, Sharing::Namespace).await;
}

#[tokio::test]
async fn nor_does_one_in_another_mode_on_a_builder_of_its_own() {
    reaches("egress-own", IsolationMode::Rootless, Sharing::ImageBuild).await;
    if long::whole() {
        for (topic, mode, sharing) in [
            (
                "egress-rootless",
                IsolationMode::Rootless,
                Sharing::Namespace,
            ),
            ("egress-rbuild", IsolationMode::Rootless, Sharing::Build),
            (
                "egress-uown",
                IsolationMode::UserNamespace,
                Sharing::ImageBuild,
            ),
            (
                "egress-ubuild",
                IsolationMode::UserNamespace,
                Sharing::Build,
            ),
        ] {
            reaches(topic, mode, sharing).await;
        }
    }
}

async fn reaches(topic: &str, mode: IsolationMode, sharing: Sharing) {
    let (field, other) = (Field::new(topic).await, Field::new("neighbor").await);
    field.isolated(mode, sharing).await;
    // Another namespace's builder, which is up as its build has ended.
    let files = json!({"Dockerfile": "FROM scratch\nCOPY a /a\n", "a": "b"});
    other.build("first", files, json!({})).await;
    let (here, there) = futures::join!(server(&field), server(&other));
    other.succeeds("first").await;
    let builder = address(&other, "whittle-builder-default-0").await;
    let nodes = Api::<Node>::all(field.client.clone());
    let node = nodes.list(&ListParams::default()).await.unwrap().items;
    let addresses = node[0].status.clone().unwrap().addresses.unwrap();
    let internal = addresses.into_iter().find(|it| it.type_ == "InternalIP");
    let node = internal.unwrap().address;
    let slices = Api::<EndpointSlice>::namespaced(field.client.clone(), "default");
    let api_server = slices.get("kubernetes").await.unwrap();
    let port = api_server.ports.unwrap()[0].port.unwrap();
    let api_server = &api_server.endpoints[0].addresses[0];
    let services = Api::<Service>::namespaced(field.client.clone(), "whittle-system");
    let callback = services.get("whittle").await.unwrap();
    let callback = callback.spec.unwrap().cluster_ip.unwrap();

    let closed = [
        "kubernetes.default.svc.cluster.local:443".to_owned(),
        format!("{api_server}:{port}"),
        format!("{node}:10250"),
        "169.254.169.254:80".to_owned(),
        "whittle.whittle-system.svc.cluster.local:8443".to_owned(),
        format!("{callback}:8443"),
        format!("{here}:8080"),
        format!("neighbor.{}.svc.cluster.local:8080", field.namespace),
        format!("{there}:8080"),
        format!("neighbor.{}.svc.cluster.local:8080", other.namespace),
    ];
    let bare = |url: &str| url.trim_start_matches("http://").to_owned();
    let open = [
        variable("REGISTRY"),
        bare(&variable("GIT_URL")),
        bare(&variable("GOPROXY_URL")),
        // Of the outside: nobody has allowed it by name.
        "198.51.100.1:80".to_owned(),
    ];
    // Closed to all but its own runners, with and without the egress of anybody.
    let builders = [
        format!("{builder}:1234"),
        format!(
            "whittle-builder-default.{}.svc.cluster.local:1234",
            other.namespace
        ),
    ];
    let all = [&closed[..], &open, &builders].concat();

    // Any other Pod of the namespace: these do answer.
    let shell = ["sh", "-c", TRY, "try"].map(str::to_owned);
    let command = [&shell[..], &all].concat();
    field
        .create(
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "free"}, "spec": {
            "restartPolicy": "Never",
            "containers": [{"name": "free", "image": "busybox:1.36",
                "command": command}]}}),
        )
        .await;
    let files = json!({
        "Dockerfile": format!("FROM busybox:1.36\nCOPY try.sh /try.sh\nRUN sh /try.sh {}; false\n", all.join(" ")),
        "try.sh": TRY,
    });
    field.build("tries", files, json!({})).await;
    let free = field
        .until("the Pod has tried all", async || {
            let log = field.log("free").await;
            (log.lines().count() >= all.len()).then_some(log)
        })
        .await;
    let answer = [&closed[..], &open].concat();
    assert_eq!(told(&free, &all, "open"), answer, "{free}");

    let failure = field.fails("tries", FailureReason::StepFailed).await;
    let log = failure.log.unwrap_or_default();
    assert_eq!(told(&log, &all, "open"), open, "{log}");
    let shut = [&closed[..], &builders].concat();
    assert_eq!(told(&log, &all, "closed"), shut, "{log}");

    if sharing != Sharing::Namespace {
        futures::join!(field.close(), other.close());
        return;
    }
    let policies = field.api::<NetworkPolicy>();
    let policy = policies.get("whittle-builder-default").await.unwrap();
    let note = &policy.annotations()["whittle.dev/egress"];
    assert!(
        note.starts_with(
            "found: Service CIDRs, Pod CIDRs, addresses of Nodes, addresses of the API server"
        ) && !note.contains("not found"),
        "{note}"
    );
    futures::join!(field.close(), other.close());
}

#[tokio::test]
async fn a_registry_in_the_cluster_that_nobody_allowed_is_hinted_at() {
    let mut field = Field::new("unallowed").await;
    // Each of BuildKit's tries waits half a minute for an answer, and it tries several times, and so does the runner.
    field.patience *= 2;
    server(&field).await;
    let host = format!("neighbor.{}.svc:8080", field.namespace);
    field
        .create(json!({
            "apiVersion": "whittle.dev/v1alpha1", "kind": "Builder", "metadata": {"name": "default"},
            "spec": {"cache": {"size": "1Gi"}, "registries": [{"host": host, "plainHTTP": true}]},
        }))
        .await;
    let files = json!({"Dockerfile": format!("FROM {host}/team/base:1\nCOPY a /a\n"), "a": "b"});
    field.build("away", files, json!({"retries": 0})).await;
    let failure = field
        .fails("away", FailureReason::BaseImageUnreachable)
        .await;
    let hint = failure.hint.unwrap_or_default();
    assert!(
        hint.contains("builder.egress.allow"),
        "{hint:?} of {}",
        failure.message
    );
    field
        .until("the Builder is well", async || {
            let builder = field.api::<Builder>().get("default").await.unwrap();
            let conditions = builder.status?.conditions;
            let ready = whittle_api::find(&conditions, "Ready")?;
            (ready.status == "True").then_some(())
        })
        .await;
    field.close().await;
}
