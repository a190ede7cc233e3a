//! What the installation says: the chart renders it from its values.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ResourceRequirements, Toleration};
use k8s_openapi::api::networking::v1::NetworkPolicyEgressRule;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::Selector;
use serde::de::Error;
use serde::{Deserialize, Deserializer};

use crate::egress::Given;
use crate::extra::{Extra, Variable};
use whittle_api::{BuilderSpec, Proxy};
use whittle_probe::Trust;

/// `/etc/whittle/settings.json`.
#[derive(Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Settings {
    /// Runner Pods.
    pub runner: RunnerSettings,
    /// Builder Pods.
    pub builder: BuilderSettings,
    /// How runners reach the controller; without it they are silent until they end.
    #[serde(default)]
    pub callback: Option<CallbackSettings>,
    /// Which installation this is, of several in one cluster: `namespace/name` of its release. What it keeps for
    /// itself in the cluster carries this name.
    #[serde(default = "installation")]
    pub installation: String,
    /// What it looks after.
    #[serde(default)]
    pub watch: WatchSettings,
    /// Reconciles at a time.
    #[serde(default = "concurrency")]
    pub concurrency: u16,
    /// The probe guard.
    #[serde(default)]
    pub probe_guard: ProbeGuardSettings,
    /// What triggers start.
    #[serde(default)]
    pub triggers: TriggerSettings,
    /// Who is told how builds end.
    #[serde(default)]
    pub notifications: NotificationSettings,
    /// Who collects traces of builds.
    #[serde(default)]
    pub traces: TraceSettings,
    /// Who posts that a source has moved.
    #[serde(default)]
    pub webhooks: WebhookSettings,
    /// What is counted.
    #[serde(default)]
    pub metrics: MetricsSettings,
    /// The proxy by which builds reach the outside, where their Builder has none of its own.
    #[serde(default)]
    pub proxy: Option<Proxy>,
    /// File with certificates, PEM, that builds trust besides the public ones.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
}

/// What is counted.
#[derive(Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct MetricsSettings {
    /// Builds by namespace, too.
    pub namespaces: bool,
}

/// Who posts that a source has moved.
#[derive(Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct WebhookSettings {
    /// File with the secret that senders sign with; none where they need not.
    pub secret_file: Option<PathBuf>,
}

/// What triggers start.
#[derive(Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct TriggerSettings {
    /// Builds that base images and schedules start, in the whole cluster at a time: at least 1.
    #[serde(deserialize_with = "at_least_one")]
    pub max_concurrent: usize,
    /// After so long without a word a watcher is told to be silent: it asks for something twice a minute. A day at most.
    #[serde(deserialize_with = "at_least_one")]
    pub silent_after_seconds: usize,
}

/// Multiples of it are added to times.
const LONGEST_SILENCE: u64 = 86_400;

impl Default for TriggerSettings {
    fn default() -> Self {
        Self {
            max_concurrent: 10,
            silent_after_seconds: 180,
        }
    }
}

impl TriggerSettings {
    /// The same as a duration.
    pub fn silent_after(&self) -> Duration {
        let seconds = u64::try_from(self.silent_after_seconds).unwrap_or(u64::MAX);
        Duration::from_secs(seconds.min(LONGEST_SILENCE))
    }
}

fn at_least_one<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    usize::deserialize(deserializer).map(|number| number.max(1))
}

impl Settings {
    /// What CloudEvents say they come from.
    pub fn source(&self) -> String {
        let sink = self.notifications.sink.as_ref();
        let given = sink.and_then(|sink| sink.source.clone());
        given.unwrap_or_else(|| format!("/whittle/{}", self.installation))
    }
}

/// Who is told how builds end.
#[derive(Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct NotificationSettings {
    /// A receiver of CloudEvents.
    pub sink: Option<SinkSettings>,
}

/// Who collects traces of builds.
#[derive(Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct TraceSettings {
    /// A receiver of OTLP over HTTP, by the URL that all kinds of signals have in common.
    pub otlp: Option<SinkSettings>,
    /// What each trace says of this installation, for example `k8s.cluster.name`.
    pub attributes: BTreeMap<String, String>,
}

/// A receiver of CloudEvents, or of traces.
#[derive(Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SinkSettings {
    /// Where each is posted to.
    pub url: String,
    /// Certificates, PEM, that sign its own; those of the system where absent.
    #[serde(default)]
    pub ca_bundle: Option<String>,
    /// A file with a token that each request carries.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
    /// What the events say they come from; by the installation where absent.
    #[serde(default)]
    pub source: Option<String>,
}

/// The probe guard.
#[derive(Deserialize, Clone, Debug, PartialEq)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct ProbeGuardSettings {
    /// The installation's name, which its ProbeProfiles carry.
    pub name: String,
    /// Whose ImageBuilds speak beyond their own namespace.
    pub trust: Vec<Trust>,
}

impl Default for ProbeGuardSettings {
    fn default() -> Self {
        Self {
            name: "whittle".into(),
            trust: vec![],
        }
    }
}

/// Runner Pods.
#[derive(Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RunnerSettings {
    /// Whittle's own image.
    pub image: String,
    /// `Always`, `IfNotPresent` or `Never`; the cluster's default where absent.
    #[serde(default)]
    pub image_pull_policy: Option<String>,
    /// Secrets of the build's namespace.
    #[serde(default)]
    pub image_pull_secrets: Vec<String>,
    /// Requests and limits.
    #[serde(default)]
    pub resources: ResourceRequirements,
    /// Priority class.
    #[serde(default)]
    pub priority_class_name: Option<String>,
    /// The most that a runner's scratch folder may hold: sources are unpacked there.
    #[serde(default = "scratch_size")]
    pub scratch_size: String,
    /// Labels besides Whittle's own; of watchers, too, as all that follows.
    #[serde(default)]
    pub pod_labels: Extra,
    /// Annotations besides Whittle's own.
    #[serde(default)]
    pub pod_annotations: Extra,
    /// On which nodes they may be.
    #[serde(default)]
    pub node_selector: BTreeMap<String, String>,
    /// Which taints they tolerate.
    #[serde(default)]
    pub tolerations: Vec<Toleration>,
}

impl RunnerSettings {
    /// [`Self::node_selector`], as a Pod has it.
    pub fn nodes(&self) -> Option<BTreeMap<String, String>> {
        (!self.node_selector.is_empty()).then(|| self.node_selector.clone())
    }

    /// [`Self::tolerations`], as a Pod has them.
    pub fn taints(&self) -> Option<Vec<Toleration>> {
        (!self.tolerations.is_empty()).then(|| self.tolerations.clone())
    }
}

/// Builder Pods.
#[derive(Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BuilderSettings {
    /// A rootless BuildKit image.
    pub image: String,
    /// `Always`, `IfNotPresent` or `Never`; the cluster's default where absent.
    #[serde(default)]
    pub image_pull_policy: Option<String>,
    /// Secrets of the Builder's namespace.
    #[serde(default)]
    pub image_pull_secrets: Vec<String>,
    /// The seccomp profile of builders in a user namespace, as the kubelet knows it: a path below its seccomp folder. None
    /// where the nodes have none: then no Builder gets a user namespace by itself.
    #[serde(default)]
    pub seccomp_profile: Option<String>,
    /// So their AppArmor profile, for nodes that have AppArmor.
    #[serde(default)]
    pub app_armor_profile: Option<String>,
    /// Spec of the Builder named `default` where it is made on demand.
    #[serde(default)]
    pub defaults: BuilderSpec,
    /// What build steps reach.
    #[serde(default)]
    pub egress: EgressSettings,
    /// Labels besides Whittle's own.
    #[serde(default)]
    pub pod_labels: Extra,
    /// Annotations besides Whittle's own.
    #[serde(default)]
    pub pod_annotations: Extra,
    /// Environment of the daemon; build steps do not see it.
    #[serde(default)]
    pub env: Vec<Variable>,
}

/// What build steps reach, by each Builder's NetworkPolicy.
#[derive(Deserialize, Clone, Debug, PartialEq)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct EgressSettings {
    /// False: whatever the namespace's own policies let them.
    pub enabled: bool,
    /// The cluster's own addresses, which they do not reach; none: they are looked up.
    #[serde(rename = "clusterCIDRs", deserialize_with = "given")]
    pub cluster_cidrs: Option<Given>,
    /// What they reach besides.
    pub allow: Vec<NetworkPolicyEgressRule>,
}

impl Default for EgressSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            cluster_cidrs: None,
            allow: vec![],
        }
    }
}

fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Given>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    let given = (!texts.is_empty()).then(|| Given::read(&texts));
    given.transpose().map_err(D::Error::custom)
}

/// How runners reach the controller.
#[derive(Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CallbackSettings {
    /// `https://host:port`.
    pub url: String,
}

/// What the installation looks after.
#[derive(Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WatchSettings {
    /// These namespaces; all where there are none.
    #[serde(default)]
    pub namespaces: Vec<String>,
    /// Of these, ImageBuilds and Builders with such labels; all where it is empty.
    #[serde(default)]
    pub selector: LabelSelector,
}

/// Namespaces that are looked after one by one at most: each has watches of its own.
pub const MOST_NAMESPACES: usize = 50;

impl WatchSettings {
    /// The selector.
    ///
    /// # Errors
    /// Where something cannot be watched so: a sentence that says what to change.
    pub fn check(&self) -> Result<Selector, String> {
        if self.namespaces.len() > MOST_NAMESPACES {
            return Err(format!(
                "watchNamespaces: too many namespaces: {}, at most {MOST_NAMESPACES}: leave it \
                    empty for all, and set watchSelector",
                self.namespaces.len()
            ));
        }
        Selector::try_from(self.selector.clone())
            .map_err(|error| format!("watchSelector is invalid: {error}"))
    }
}

fn installation() -> String {
    "whittle-system/whittle".into()
}

/// Of [`RunnerSettings::scratch_size`].
pub fn scratch_size() -> String {
    "8Gi".into()
}

fn concurrency() -> u16 {
    8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_setting_is_an_error_that_names_it() {
        let text =
            r#"{"runner": {"image": "w", "imagePullPolcy": "Always"}, "builder": {"image": "b"}}"#;
        let error = serde_json::from_str::<Settings>(text)
            .unwrap_err()
            .to_string();
        assert!(error.contains("imagePullPolcy"), "{error}");
    }

    #[test]
    fn a_silence_that_is_set_to_ages_is_a_day_and_can_be_reckoned_with() {
        for (set, seconds) in [(0, 1), (180, 180), (u64::MAX, 86_400)] {
            let text = format!(r#"{{"silentAfterSeconds": {set}}}"#);
            let triggers: TriggerSettings = serde_json::from_str(&text).unwrap();
            assert_eq!(triggers.silent_after(), Duration::from_secs(seconds));
        }
    }

    #[test]
    fn what_steps_reach_is_read_as_the_chart_has_it() {
        let with = |egress: &str| {
            let text = format!(
                r#"{{"runner": {{"image": "w"}}, "builder": {{"image": "b", "egress": {egress}}}}}"#
            );
            serde_json::from_str::<Settings>(&text).map(|settings| settings.builder.egress)
        };
        let allow = r#"[{"to": [{"ipBlock": {"cidr": "10.0.0.5/32"}}], "ports": [{"protocol": "TCP", "port": 5000}]}]"#;
        let read = with(&format!(
            r#"{{"enabled": true, "clusterCIDRs": ["10.0.0.0/8"], "allow": {allow}}}"#
        ));
        let read = read.unwrap();
        assert!(read.cluster_cidrs.is_some() && read.allow[0].ports.is_some());
        let usual = r#"{"enabled": true, "clusterCIDRs": [], "allow": []}"#;
        assert_eq!(with(usual).unwrap(), EgressSettings::default());
        let error = with(r#"{"clusterCIDRs": ["10.0.0.0"]}"#).unwrap_err();
        assert!(error.to_string().contains("clusterCIDRs"), "{error}");
    }

    #[test]
    fn an_installation_says_what_it_looks_after() {
        let text = r#"{"runner": {"image": "w"}, "builder": {"image": "b"}, "watch": {
            "namespaces": ["a"], "selector": {"matchLabels": {"x": "y"}}}}"#;
        let settings: Settings = serde_json::from_str(text).unwrap();
        assert_eq!(settings.watch.check().unwrap().to_string(), "x=y");
        let many = WatchSettings {
            namespaces: vec!["a".into(); MOST_NAMESPACES + 1],
            ..WatchSettings::default()
        };
        assert!(
            many.check()
                .unwrap_err()
                .contains("too many namespaces: 51")
        );
    }

    #[test]
    fn what_is_not_set_has_the_defaults_of_the_api() {
        let text = r#"{"runner": {"image": "w"}, "builder": {"image": "b", "defaults": {"cache": {"size": "5Gi"}}}}"#;
        let settings: Settings = serde_json::from_str(text).unwrap();
        assert_eq!(settings.builder.defaults.replicas, 1);
        assert_eq!(settings.builder.defaults.cache.min_free, "10%");
    }
}
