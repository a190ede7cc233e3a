//! Conditions by kstatus: `Ready`, `Reconciling`, `Stalled`, and what is our own.
//!
//! Source: <https://github.com/kubernetes-sigs/cli-utils/blob/master/pkg/kstatus/README.md>

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use whittle_image::text::bounded;

use super::Reason;

/// The image of the current spec stands in the registry, and its tags point to it.
pub const READY: &str = "Ready";
/// Work is under way for the current spec.
pub const RECONCILING: &str = "Reconciling";
/// Work has ended without success, and goes on only after a change.
pub const STALLED: &str = "Stalled";
/// What the last finished build came to.
pub const BUILT: &str = "Built";
/// Hints about the Dockerfile and the context of the last image; they never fail a build.
pub const ADVICE: &str = "Advice";

/// Whether the triggers can see what they are to look at; there only where the spec has some.
pub const TRIGGERS: &str = "Triggers";

/// Whether the last image that was built keeps its contract.
pub const CONTRACT: &str = "Contract";

/// Whether the last image answered its `healthCheck`.
pub const PROBED: &str = "Probed";

/// Whether the last image is the smaller one of `spec.minimize`; there only where the spec asks for it.
pub const MINIMIZED: &str = "Minimized";

/// Whether the probes of workloads that use the last image can work on it.
pub const PROBES_COMPATIBLE: &str = "ProbesCompatible";

/// Whether the probe guard knows the last image; there only where something is to be told.
pub const PROBE_PROFILE: &str = "ProbeProfile";

/// Puts a condition into `conditions`: true, false or unknown, why, and of which generation that is said (none: 0). The
/// transition time is kept where the status does not change.
pub fn set(
    conditions: &mut Vec<Condition>,
    kind: &str,
    to: Option<bool>,
    (reason, message): (Reason, &str),
    generation: Option<i64>,
    now: Timestamp,
) {
    let status = match to {
        Some(true) => "True",
        Some(false) => "False",
        None => "Unknown",
    };
    let existing = conditions.iter().position(|c| c.type_ == kind);
    let since = existing
        .map(|at| &conditions[at])
        .filter(|c| c.status == status)
        .map_or_else(|| Time(now), |c| c.last_transition_time.clone());
    let condition = Condition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: reason.as_str().to_owned(),
        message: bounded(message.to_owned(), 32_768),
        observed_generation: Some(generation.unwrap_or(0)),
        last_transition_time: since,
    };
    match existing {
        Some(at) => conditions[at] = condition,
        None => conditions.push(condition),
    }
}

/// Takes the condition of this type away: kstatus reads absence as "not so".
pub fn clear(conditions: &mut Vec<Condition>, kind: &str) {
    conditions.retain(|c| c.type_ != kind);
}

/// The condition of this type.
pub fn find<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|c| c.type_ == kind)
}

/// True where the condition of this type stands at "True".
pub fn is_true(conditions: &[Condition], kind: &str) -> bool {
    find(conditions, kind).is_some_and(|c| c.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_transition_time_moves_only_with_the_status() {
        let (early, late) = (
            Timestamp::from_second(100).unwrap(),
            Timestamp::from_second(200).unwrap(),
        );
        let mut conditions = vec![];
        let mut put = |to, generation, now| {
            let why = (Reason::Building, "m");
            set(&mut conditions, READY, Some(to), why, Some(generation), now);
            conditions.clone()
        };
        put(false, 1, early);
        let conditions = put(false, 2, late);
        assert_eq!(conditions[0].last_transition_time, Time(early));
        assert_eq!(conditions[0].observed_generation, Some(2));
        let conditions = put(true, 2, late);
        assert_eq!(conditions[0].last_transition_time, Time(late));
        assert_eq!(conditions.len(), 1);
    }
}
