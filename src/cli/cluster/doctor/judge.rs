//! What is found, judged: pure.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Node};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::version::Info;
use kube::ResourceExt;
use whittle_api::{Builder, IsolationMode, READY, find, is_true};

use super::super::ENFORCE;
use super::super::answer::said;

/// The oldest API server that Whittle is promised to run on.
const OLDEST: (u32, u32) = (1, 33);
/// From it on `baseline` takes Pods of builders in a user namespace: docs/isolation.md.
const BASELINE: (u32, u32) = (1, 35);
const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";

/// What came of one look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    Good,
    Bad,
    Unknown,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Check {
    pub(super) name: &'static str,
    pub(super) mark: Mark,
    pub(super) text: String,
    pub(super) cure: Option<String>,
}

impl Check {
    pub(super) fn good(name: &'static str, text: impl Into<String>) -> Self {
        Self {
            name,
            mark: Mark::Good,
            text: text.into(),
            cure: None,
        }
    }

    pub(super) fn bad(
        name: &'static str,
        text: impl Into<String>,
        cure: impl Into<String>,
    ) -> Self {
        Self {
            name,
            mark: Mark::Bad,
            text: text.into(),
            cure: Some(cure.into()),
        }
    }

    pub(super) fn unknown(name: &'static str, text: impl Into<String>) -> Self {
        Self {
            name,
            mark: Mark::Unknown,
            text: text.into(),
            cure: None,
        }
    }

    fn unread(name: &'static str, what: &str, unread: &Unread) -> Self {
        Self::unknown(name, format!("{what} cannot be read: {}", unread.0))
    }
}

/// Why something could not be read: most often a right that whoever asks does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unread(pub(super) String);

impl Unread {
    pub(super) fn of(error: &kube::Error) -> Self {
        Self(said(error))
    }
}

type Found<T> = Result<Vec<T>, Unread>;

fn parsed(version: &Info) -> Option<(u32, u32)> {
    let digits = |text: &str| {
        text.chars()
            .take_while(char::is_ascii_digit)
            .collect::<String>()
            .parse()
            .ok()
    };
    Some((digits(&version.major)?, digits(&version.minor)?))
}

pub(super) fn api_server(version: &Info) -> Check {
    let text = version.git_version.clone();
    match parsed(version) {
        Some(found) if found < OLDEST => Check::bad(
            "API server",
            format!("{text} is older than {}.{}", OLDEST.0, OLDEST.1),
            "upgrade the cluster: older ones were not tried",
        ),
        Some(_) => Check::good("API server", text),
        None => Check::unknown("API server", format!("version {text} is unknown")),
    }
}

/// The kinds, as this program knows them.
pub(super) fn definitions(found: Found<CustomResourceDefinition>) -> Check {
    let found = match found {
        Ok(found) => found,
        Err(unread) => return Check::unread("CRDs", "CustomResourceDefinitions", &unread),
    };
    let mut missing = vec![];
    let mut other = vec![];
    for own in whittle_api::crds() {
        let name = own.name_any();
        match found.iter().find(|it| it.name_any() == name) {
            None => missing.push(name),
            Some(it) if fields(it) != fields(&own) => other.push(name),
            Some(_) => {}
        }
    }
    if !missing.is_empty() {
        return Check::bad(
            "CRDs",
            format!("{} not found", missing.join(", ")),
            "install the chart: docs/operations.md",
        );
    }
    match other.is_empty() {
        true => Check::good("CRDs", "those of this version"),
        false => Check {
            mark: Mark::Unknown,
            ..Check::bad(
                "CRDs",
                format!("{} have other fields than this version's", other.join(", ")),
                "chart and command line are of different versions: `whittle crds | kubectl apply --server-side -f -` if the chart is the older one",
            )
        },
    }
}

/// The paths of all fields of a kind.
fn fields(crd: &CustomResourceDefinition) -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    let schemas = crd
        .spec
        .versions
        .iter()
        .filter_map(|it| it.schema.as_ref()?.open_api_v3_schema.as_ref());
    for schema in schemas {
        let mut open = vec![(String::new(), schema)];
        while let Some((path, schema)) = open.pop() {
            for (name, inner) in schema.properties.iter().flatten() {
                let path = format!("{path}.{name}");
                paths.insert(path.clone());
                open.push((path, inner));
            }
            use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSONSchemaPropsOrArray as Items;
            if let Some(Items::Schema(items)) = &schema.items {
                open.push((format!("{path}[]"), items));
            }
        }
    }
    paths
}

/// Which controllers there are. `own`: the version of this program.
pub(super) fn controller(found: Found<Deployment>, own: &str) -> Check {
    let name = "controller";
    let found = match found {
        Ok(found) => found,
        Err(unread) => return Check::unread(name, "Deployments of all namespaces", &unread),
    };
    if found.is_empty() {
        return Check::bad(
            name,
            "not found in any namespace",
            "install the chart: docs/operations.md",
        );
    }
    let mut texts = vec![];
    for it in &found {
        let place = format!("{}/{}", it.namespace().unwrap_or_default(), it.name_any());
        let ready = it
            .status
            .as_ref()
            .and_then(|it| it.ready_replicas)
            .unwrap_or(0);
        let version = it
            .labels()
            .get("app.kubernetes.io/version")
            .cloned()
            .unwrap_or_default();
        if ready == 0 {
            return Check::bad(
                name,
                format!("{place} has no ready Pod"),
                format!(
                    "kubectl describe deployment -n {} {}",
                    it.namespace().unwrap_or_default(),
                    it.name_any()
                ),
            );
        }
        let differs = match version == own {
            true => String::new(),
            false => format!(", and this program is {own}"),
        };
        texts.push(format!(
            "{place}: {ready} ready, version {version}{differs}"
        ));
    }
    Check::good(name, texts.join("; "))
}

/// Whether runners can report: addresses behind the callback's Service, by the controller's namespace.
pub(super) fn callback(found: Found<(String, usize)>) -> Check {
    let name = "callback";
    match found {
        Err(unread) => Check::unread(name, "the callback's Service", &unread),
        Ok(found) if found.is_empty() => Check::unknown(name, "there is no controller"),
        Ok(found) => match found.iter().find(|(_, addresses)| *addresses == 0) {
            Some((namespace, _)) => Check::bad(
                name,
                format!(
                    "nothing serves it in namespace {namespace}: runners cannot report progress"
                ),
                "a result is read from the runner's Pod all the same; check the controller's Pod, and NetworkPolicies from build namespaces to its port 8443",
            ),
            None => Check::good(
                name,
                "served; whether NetworkPolicies let runners through shows at the first build",
            ),
        },
    }
}

/// What whoever asks may do. Each with its answer; none where the API server gave none.
pub(super) fn rights(asked: &[(String, Option<bool>)], namespace: &str) -> Check {
    let name = "rights";
    let of = |wanted| {
        asked
            .iter()
            .filter(move |(_, it)| *it == wanted)
            .map(|(what, _)| what.as_str())
    };
    let denied: Vec<&str> = of(Some(false)).collect();
    let silent = of(None).count();
    match (denied.is_empty(), silent) {
        (false, _) => Check::bad(
            name,
            format!("denied in namespace {namespace}: {}", denied.join(", ")),
            "ask for the ClusterRole whittle-edit in a RoleBinding (docs/operations.md), and for reading Pods and their logs",
        ),
        (true, 0) => Check::good(
            name,
            format!("all that the commands need in namespace {namespace}"),
        ),
        (true, _) => Check::unknown(name, "the API server does not say"),
    }
}

pub(super) fn nodes(found: Found<Node>) -> Check {
    let name = "nodes";
    let found = match found {
        Ok(found) => found,
        Err(unread) => return Check::unread(name, "Nodes", &unread),
    };
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    let mut ready = 0;
    for node in &found {
        let status = node.status.clone().unwrap_or_default();
        let well = status
            .conditions
            .iter()
            .flatten()
            .any(|it| it.type_ == "Ready" && it.status == "True");
        ready += usize::from(well);
        if let Some(info) = status.node_info.filter(|_| well) {
            *kinds
                .entry(format!(
                    "linux/{} ({}, Linux {})",
                    info.architecture, info.kubelet_version, info.kernel_version
                ))
                .or_default() += 1;
        }
    }
    let kinds: Vec<String> = kinds
        .into_iter()
        .map(|(kind, count)| format!("{count} × {kind}"))
        .collect();
    match ready {
        0 => Check::bad(name, "none is Ready", "kubectl describe nodes"),
        _ => Check::good(name, kinds.join("; ")),
    }
}

pub(super) fn storage(found: Found<StorageClass>, builders: &Found<Builder>) -> Check {
    let name = "storage";
    let found = match found {
        Ok(found) => found,
        Err(unread) => return Check::unread(name, "StorageClasses", &unread),
    };
    let named: Vec<String> = builders
        .iter()
        .flatten()
        .filter_map(|it| it.spec.cache.storage_class_name.clone())
        .collect();
    let known = |class: &&String| found.iter().any(|it| it.name_any() == **class);
    if let Some(class) = named
        .iter()
        .find(|class| !known(class) && !class.is_empty())
    {
        return Check::bad(
            name,
            format!("StorageClass {class} of a Builder not found"),
            "create it, or change `spec.cache.storageClassName` of the Builder",
        );
    }
    let default = found.iter().find(|it| {
        it.annotations()
            .get(DEFAULT_CLASS)
            .is_some_and(|it| it == "true")
    });
    match (default, named.is_empty()) {
        (Some(class), _) => Check::good(name, format!("default StorageClass {}", class.name_any())),
        (None, false) => Check::good(name, "no default StorageClass; the Builders name theirs"),
        (None, true) => Check::bad(
            name,
            "no default StorageClass",
            "set `spec.cache.storageClassName` of the Builder, or mark a StorageClass as the default one",
        ),
    }
}

pub(super) fn pod_security(
    namespace: Result<Namespace, Unread>,
    version: &Info,
    builders: &Found<Builder>,
) -> Check {
    let name = "Pod Security";
    let namespace = match namespace {
        Ok(namespace) => namespace,
        Err(unread) => return Check::unread(name, "the namespace", &unread),
    };
    let level = namespace
        .labels()
        .get(ENFORCE)
        .map_or("privileged", String::as_str);
    let place = format!("namespace {} enforces {level}", namespace.name_any());
    let proven = builders
        .iter()
        .flatten()
        .filter_map(|it| it.status.as_ref()?.isolation.as_ref());
    let rootless = proven.clone().any(|it| it.mode == IsolationMode::Rootless);
    let old = parsed(version).is_some_and(|it| it < BASELINE);
    match level {
        "privileged" => Check::good(name, format!("{place}, which is enough")),
        "baseline" if rootless => Check::bad(
            name,
            format!("{place}, and a Builder is isolated as Rootless"),
            "label it privileged, or have nodes that allow UserNamespace (docs/isolation.md)",
        ),
        "baseline" if old => Check::bad(
            name,
            format!("{place}, and this API server denies procMount at that level"),
            format!(
                "kubectl label namespace {} {ENFORCE}=privileged --overwrite (docs/isolation.md)",
                namespace.name_any()
            ),
        ),
        "baseline" => Check::good(
            name,
            format!("{place}, which is enough for isolation UserNamespace"),
        ),
        _ => Check::bad(
            name,
            format!("{place}: builders need baseline"),
            format!(
                "kubectl label namespace {} {ENFORCE}=baseline --overwrite (docs/isolation.md)",
                namespace.name_any()
            ),
        ),
    }
}

pub(super) fn builders(found: Found<Builder>) -> Vec<Check> {
    let name = "builder";
    let found = match found {
        Ok(found) => found,
        Err(unread) => return vec![Check::unread(name, "Builders", &unread)],
    };
    if found.is_empty() {
        return vec![Check::good(name, "none yet: the first build makes one")];
    }
    let told = |builder: &Builder| {
        let status = builder.status.clone().unwrap_or_default();
        let place = builder.name_any();
        let isolation = status.isolation.as_ref().map(|it| {
            let proven = if it.proven {
                "proven on its node"
            } else {
                "not proven yet"
            };
            format!(", isolation {:?} {proven}", it.mode)
        });
        let isolation = isolation.unwrap_or_default();
        let Some(ready) = find(&status.conditions, READY) else {
            return Check::unknown(name, format!("{place}: the controller has not seen it"));
        };
        match is_true(&status.conditions, READY) {
            true => Check::good(name, format!("{place}: {}{isolation}", ready.reason)),
            false => Check {
                mark: if ready.status == "False" {
                    Mark::Bad
                } else {
                    Mark::Unknown
                },
                ..Check::unknown(
                    name,
                    format!("{place}: {}: {}", ready.reason, ready.message),
                )
            },
        }
    };
    found.iter().map(told).collect()
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
