//! What each namespace builds, where the installation asks for that: one series of each for every namespace that builds.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// Namespaces that have series of their own; those that come later are counted together, without a name.
const NAMESPACES: usize = 1000;
/// How builds end, for whoever counts: why they fail stands in the metric without namespaces.
const ENDS: [&str; 4] = ["Succeeded", "RolledBack", "Superseded", "Failed"];

/// Counters by namespace.
#[derive(Clone, Default)]
pub(super) struct Tenants {
    known: Arc<Mutex<BTreeSet<String>>>,
    builds: Family<End, Counter>,
    seconds: Family<Tenant, Counter>,
    queued: Family<Tenant, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Tenant {
    namespace: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct End {
    namespace: String,
    result: &'static str,
}

impl Tenants {
    /// Registers them.
    pub(super) fn new(registry: &mut Registry) -> Self {
        let found = Self::default();
        registry.register(
            "namespace_builds",
            "Builds that ended, by namespace: Succeeded, RolledBack, Superseded or Failed",
            found.builds.clone(),
        );
        registry.register(
            "namespace_build_seconds",
            "Seconds that the builds of a namespace took",
            found.seconds.clone(),
        );
        registry.register(
            "namespace_build_queued_seconds",
            "Seconds that the builds of a namespace waited before",
            found.queued.clone(),
        );
        found
    }

    /// A build has begun: from now on there is something to count up from.
    pub(super) fn begin(&self, namespace: &str) {
        let namespace = self.named(namespace);
        for result in ENDS {
            let namespace = namespace.clone();
            let end = End { namespace, result };
            self.builds.get_or_create(&end).inc_by(0);
        }
        let tenant = Tenant { namespace };
        self.seconds.get_or_create(&tenant).inc_by(0);
        self.queued.get_or_create(&tenant).inc_by(0);
    }

    /// A build has ended.
    pub(super) fn end(
        &self,
        namespace: &str,
        result: &str,
        seconds: Option<i64>,
        queued: Option<i64>,
    ) {
        let namespace = self.named(namespace);
        let result = ENDS.into_iter().find(|end| *end == result);
        let end = End {
            namespace: namespace.clone(),
            result: result.unwrap_or("Failed"),
        };
        self.builds.get_or_create(&end).inc();
        let tenant = Tenant { namespace };
        for (counter, time) in [(&self.seconds, seconds), (&self.queued, queued)] {
            let time = time.unwrap_or(0).max(0).unsigned_abs();
            counter.get_or_create(&tenant).inc_by(time);
        }
    }

    fn named(&self, namespace: &str) -> String {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.contains(namespace) {
            if known.len() >= NAMESPACES {
                return String::new();
            }
            known.insert(namespace.to_owned());
        }
        namespace.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    fn text(of: impl FnOnce(&Tenants)) -> String {
        let mut registry = Registry::default();
        of(&Tenants::new(&mut registry));
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        text
    }

    #[test]
    fn a_namespace_that_builds_has_all_its_series_and_each_failure_counts_as_one() {
        let text = text(|tenants| {
            tenants.begin("team");
            tenants.end("team", "StepFailed", Some(40), Some(-3));
            tenants.end("team", "Timeout", Some(2), None);
        });
        for line in [
            "namespace_builds_total{namespace=\"team\",result=\"Succeeded\"} 0",
            "namespace_builds_total{namespace=\"team\",result=\"Failed\"} 2",
            "namespace_build_seconds_total{namespace=\"team\"} 42",
            "namespace_build_queued_seconds_total{namespace=\"team\"} 0",
        ] {
            assert!(text.lines().any(|it| it == line), "{line}: {text}");
        }
    }

    #[test]
    fn namespaces_that_come_and_go_have_a_bounded_number_of_series() {
        let text = text(|tenants| {
            for number in 0..NAMESPACES + 500 {
                tenants.end(&format!("n{number}"), "Succeeded", Some(1), None);
            }
        });
        let series = text.lines().filter(|it| it.starts_with("namespace_builds"));
        assert_eq!(series.count(), NAMESPACES + 1);
        let rest = "namespace_builds_total{namespace=\"\",result=\"Succeeded\"} 500";
        assert!(text.contains(rest), "{text}");
    }
}
