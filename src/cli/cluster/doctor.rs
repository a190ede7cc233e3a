//! `whittle doctor`: whether a cluster and a namespace have what builds need, each with its cure.

mod judge;

use std::collections::BTreeSet;

use futures::future::join_all;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use k8s_openapi::api::core::v1::{Namespace, Node};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ListParams, PostParams};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use whittle_api::{Builder, ImageBuild};
use whittle_image::Reference;
use whittle_registry::Access;

use super::answer::{self, Failed};
use super::screen::{BAD, FAINT, GOOD, STRONG, WAITS, styled, tame};
use super::{Cluster, Reach};
use crate::inspect::remote::{Connection, Remote};
use judge::{Check, Mark};

/// Registries that are asked: those of the first ImageBuilds.
const REGISTRIES: usize = 8;

/// What `doctor` is asked for.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    reach: Reach,
    /// A repository to push to, besides those of the namespace's ImageBuilds: registry.example.com/team/hello. May be repeated.
    #[arg(long, value_name = "REPOSITORY")]
    image: Vec<String>,
    /// Use HTTP without TLS for registries; those on this machine always use it.
    #[arg(long)]
    plain_http: bool,
    /// File with additional CA certificates (PEM) for registries.
    #[arg(long, value_name = "FILE", conflicts_with = "plain_http")]
    ca: Option<std::path::PathBuf>,
}

/// Looks and says.
pub(super) async fn run(options: &Options) -> Result<(), Failed> {
    let cluster = options.reach.cluster().await?;
    let client = &cluster.client;
    let version = client.apiserver_version().await;
    let version = version.map_err(|error| answer::api(&error, "the API server"))?;
    let all = ListParams::default();
    let labels = ListParams::default()
        .labels("app.kubernetes.io/component=controller,app.kubernetes.io/part-of=whittle");
    let (crds, controllers, classes, nodes, builds, builders, namespace) = futures::join!(
        listed(Api::<CustomResourceDefinition>::all(client.clone()), &all),
        listed(Api::<Deployment>::all(client.clone()), &labels),
        listed(Api::<StorageClass>::all(client.clone()), &all),
        listed(Api::<Node>::all(client.clone()), &all),
        listed(cluster.builds(), &all),
        listed(
            Api::<Builder>::namespaced(client.clone(), &cluster.namespace),
            &all
        ),
        async {
            Api::<Namespace>::all(client.clone())
                .get(&cluster.namespace)
                .await
                .map_err(|error| judge::Unread::of(&error))
        },
    );
    let callbacks = match &controllers {
        Ok(found) => callbacks(&cluster, found).await,
        Err(unread) => Err(unread.clone()),
    };
    let rights = rights(&cluster).await;
    let mut checks = vec![
        judge::api_server(&version),
        judge::definitions(crds),
        judge::controller(controllers, env!("CARGO_PKG_VERSION")),
        judge::callback(callbacks),
        judge::rights(&rights, &cluster.namespace),
        judge::nodes(nodes),
        judge::storage(classes, &builders),
        judge::pod_security(namespace, &version, &builders),
    ];
    checks.extend(judge::builders(builders));
    let repositories = repositories(&builds, &options.image);
    checks.extend(join_all(repositories.iter().map(|it| registry(it, options))).await);
    for check in &checks {
        anstream::println!("{}", text(check));
    }
    let bad = checks.iter().filter(|it| it.mark == Mark::Bad).count();
    match bad {
        0 => Ok(()),
        1 => Err(Failed::Refused("1 thing is missing".into())),
        many => Err(Failed::Refused(format!("{many} things are missing"))),
    }
}

async fn listed<K>(api: Api<K>, params: &ListParams) -> Result<Vec<K>, judge::Unread>
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug,
{
    // Enough to judge by: a cluster of thousands of nodes is like its first five hundred.
    let found = api.list(&params.clone().limit(500)).await;
    found
        .map(|it| it.items)
        .map_err(|error| judge::Unread::of(&error))
}

/// Of each controller its namespace, and how many addresses serve the callback of runners there.
async fn callbacks(
    cluster: &Cluster,
    controllers: &[Deployment],
) -> Result<Vec<(String, usize)>, judge::Unread> {
    let mut found = vec![];
    for controller in controllers {
        let namespace = controller.namespace().unwrap_or_default();
        let slices: Api<EndpointSlice> = Api::namespaced(cluster.client.clone(), &namespace);
        let of = format!("kubernetes.io/service-name={}", controller.name_any());
        let slices = listed(slices, &ListParams::default().labels(&of)).await?;
        let callback = |slice: &&EndpointSlice| {
            slice
                .ports
                .iter()
                .flatten()
                .any(|port| port.name.as_deref() == Some("callback"))
        };
        let endpoints = slices
            .iter()
            .filter(callback)
            .flat_map(|it| it.endpoints.iter());
        let serves = |it: &&Endpoint| {
            let conditions = it.conditions.as_ref();
            conditions.is_none_or(|it| it.ready != Some(false) && it.serving != Some(false))
        };
        let addresses = endpoints.filter(serves);
        found.push((namespace, addresses.count()));
    }
    Ok(found)
}

/// What the commands need, and whether whoever asks may.
async fn rights(cluster: &Cluster) -> Vec<(String, Option<bool>)> {
    let needed = [
        ("get", "whittle.dev", "imagebuilds", ""),
        ("list", "whittle.dev", "imagebuilds", ""),
        ("watch", "whittle.dev", "imagebuilds", ""),
        ("create", "whittle.dev", "imagebuilds", ""),
        ("patch", "whittle.dev", "imagebuilds", ""),
        ("list", "", "pods", ""),
        ("get", "", "pods", "log"),
        ("get", "batch", "jobs", ""),
        ("list", "whittle.dev", "builders", ""),
    ];
    let reviews: Api<SelfSubjectAccessReview> = Api::all(cluster.client.clone());
    let asked = needed.map(|(verb, group, resource, subresource)| {
        let (reviews, namespace) = (reviews.clone(), cluster.namespace.clone());
        async move {
            let review = SelfSubjectAccessReview {
                spec: SelfSubjectAccessReviewSpec {
                    resource_attributes: Some(ResourceAttributes {
                        namespace: Some(namespace),
                        verb: Some(verb.into()),
                        group: Some(group.into()),
                        resource: Some(resource.into()),
                        subresource: Some(subresource.to_owned()).filter(|it| !it.is_empty()),
                        ..ResourceAttributes::default()
                    }),
                    ..SelfSubjectAccessReviewSpec::default()
                },
                ..SelfSubjectAccessReview::default()
            };
            let answer = reviews.create(&PostParams::default(), &review).await;
            let part = if subresource.is_empty() {
                String::new()
            } else {
                format!("/{subresource}")
            };
            let allowed = answer.ok().and_then(|it| it.status).map(|it| it.allowed);
            (format!("{verb} {resource}{part}"), allowed)
        }
    });
    join_all(asked).await
}

/// Where the images of the namespace go, and what else was named.
fn repositories(
    builds: &Result<Vec<ImageBuild>, judge::Unread>,
    named: &[String],
) -> BTreeSet<String> {
    let of_builds = builds
        .iter()
        .flatten()
        .map(|it| it.spec.output.image.clone());
    of_builds
        .take(REGISTRIES)
        .chain(named.iter().cloned())
        .collect()
}

/// Whether a push could begin from here, with the credentials that docker has.
async fn registry(repository: &str, options: &Options) -> Check {
    let name = "registry";
    let connection = Connection {
        plain_http: options.plain_http,
        ca: options.ca.clone(),
    };
    let reference = Reference::parse(repository);
    let remote = match Remote::with(reference, &connection, Access::PullPush) {
        Ok(remote) => remote,
        Err(error) => return Check::unknown(name, format!("{repository}: {error}")),
    };
    match remote.client().may_push().await {
        Ok(()) => Check::good(
            name,
            format!("{repository}: a push may begin, from here and with docker's credentials"),
        ),
        Err(error) => Check::unknown(
            name,
            format!(
                "{repository}: {error} (from here; builds use the Secret of `spec.output.secretRef`, and the cluster's network)"
            ),
        ),
    }
}

fn text(check: &Check) -> String {
    let mark = match check.mark {
        Mark::Good => styled(GOOD, "✓"),
        Mark::Bad => styled(BAD, "✗"),
        Mark::Unknown => styled(WAITS, "?"),
    };
    let mut text = format!(
        "{mark} {}  {}",
        styled(STRONG, &format!("{:<12}", check.name)),
        tame(&check.text)
    );
    if let Some(cure) = &check.cure {
        text.push_str(&format!("\n{:16}{} {}", "", styled(FAINT, "→"), tame(cure)));
    }
    text
}
