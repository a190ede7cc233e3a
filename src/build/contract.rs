//! The contract of a build: from the spec to rules, and from what is broken to words.

use serde::{Deserialize, Serialize};

use whittle_api::quantity;
use whittle_api::{Contract, Failure, FailureReason, bounded};
use whittle_image::{Budget, Finding, Level, Rule, display_size};

/// Breaches that are told, at most: there are 13 rules, and platforms mostly break the same.
const BREACHES: usize = 20;
/// The rule on growth, as a breach names it.
pub const GROWTH: &str = "maxGrowthPercent";
/// Bytes of a failure's message, at most.
const MESSAGE: usize = 900;

/// One broken rule, of all platforms that break it in the same way.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Breach {
    /// One of [`Rule`], `maxSize` or `maxGrowthPercent`.
    pub rule: String,
    /// The platforms; none where all of the image's do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub platforms: Vec<String>,
    /// True fails the build.
    pub enforced: bool,
    /// File, cause and fix.
    pub message: String,
}

impl Breach {
    /// As conditions and logs tell it: `NonRoot (linux/amd64): the image sets no USER, …`.
    pub fn line(&self) -> String {
        let Self {
            rule,
            platforms,
            message,
            ..
        } = self;
        if platforms.is_empty() {
            format!("{rule}: {message}")
        } else {
            format!("{rule} ({}): {message}", platforms.join(", "))
        }
    }
}

/// What the image is held to.
pub fn budget(contract: &Contract) -> Budget {
    let most = contract.max_size.as_deref().and_then(quantity::bytes);
    Budget {
        max_size: most.map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX)),
        max_growth_percent: contract.max_growth_percent,
        enforce: contract.enforce.clone(),
        warn: contract.warn.clone(),
    }
}

/// What is broken, the enforced first. `found`: each platform with its findings.
pub fn breaches(found: Vec<(String, Vec<Finding>)>) -> Vec<Breach> {
    let all = found.len();
    let mut breaches: Vec<Breach> = Vec::new();
    for (platform, findings) in found {
        for finding in findings {
            let message = if finding.certain {
                finding.message
            } else {
                format!("unknown: {}", finding.message)
            };
            let enforced = finding.level == Level::Enforce;
            let same = breaches.iter_mut().find(|breach| {
                breach.rule == finding.rule
                    && breach.message == message
                    && breach.enforced == enforced
            });
            match same {
                Some(breach) => breach.platforms.push(platform.clone()),
                None => breaches.push(Breach {
                    rule: finding.rule.to_owned(),
                    platforms: vec![platform.clone()],
                    enforced,
                    message,
                }),
            }
        }
    }
    for breach in &mut breaches {
        if breach.platforms.len() == all {
            breach.platforms.clear();
        }
    }
    breaches.sort_by_key(|breach| !breach.enforced);
    breaches.truncate(BREACHES);
    breaches
}

/// The failure of an image that breaks what is enforced; none where it breaks nothing of that. `image`:
/// the repository with the digest.
pub fn failure(breaches: &[Breach], contract: &Contract, image: &str) -> Option<Failure> {
    let enforced: Vec<&Breach> = breaches.iter().filter(|breach| breach.enforced).collect();
    let (first, others) = enforced.split_first()?;
    let mut message = bounded(first.line(), MESSAGE);
    if !others.is_empty() {
        let mut rules: Vec<&str> = others.iter().map(|breach| breach.rule.as_str()).collect();
        rules.dedup();
        message.push_str(&format!(
            " (and {} more: {})",
            others.len(),
            rules.join(", ")
        ));
    }
    let default = Rule::DEFAULT
        .into_iter()
        .find(|rule| rule.name() == first.rule && !contract.enforce.contains(rule));
    Some(Failure {
        reason: FailureReason::ContractBroken,
        message,
        step: None,
        dockerfile_line: None,
        log: None,
        hint: default.map(|rule| {
            format!(
                "for an image that is not meant to be started as it is, such as a base for others, set \
                 `contract: {{warn: [{}]}}`",
                rule.name()
            )
        }),
        image: Some(image.to_owned()),
    })
}

/// The rules of a contract, as the condition tells them where all are kept.
pub fn kept(contract: &Contract, size: Option<i64>) -> String {
    let mut parts: Vec<String> = Rule::ALL
        .into_iter()
        .filter(|rule| {
            contract.enforce.contains(rule)
                || contract.warn.contains(rule)
                || Rule::DEFAULT.contains(rule)
        })
        .map(|rule| rule.name().to_owned())
        .collect();
    if let Some(most) = &contract.max_size {
        let has = size.map_or_else(String::new, |size| format!(" ({})", display_size(size)));
        parts.push(format!("maxSize {most}{has}"));
    }
    if let Some(percent) = contract.max_growth_percent {
        parts.push(format!("maxGrowthPercent {percent}"));
    }
    format!("kept: {}", parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(rule: &'static str, level: Level, message: &str) -> Finding {
        Finding {
            rule,
            level,
            certain: true,
            message: message.into(),
        }
    }

    #[test]
    fn what_all_platforms_break_in_the_same_way_is_told_once() {
        let found = vec![
            (
                "linux/amd64".into(),
                vec![
                    finding("TimeZones", Level::Warn, "no time zones"),
                    finding("NonRoot", Level::Enforce, "no USER"),
                ],
            ),
            (
                "linux/arm64".into(),
                vec![
                    finding("RunnableEntrypoint", Level::Enforce, "no loader"),
                    finding("NonRoot", Level::Enforce, "no USER"),
                ],
            ),
        ];
        let lines: Vec<String> = breaches(found).iter().map(Breach::line).collect();
        assert_eq!(
            lines,
            [
                "NonRoot: no USER",
                "RunnableEntrypoint (linux/arm64): no loader",
                "TimeZones (linux/amd64): no time zones",
            ]
        );
    }

    #[test]
    fn only_what_is_enforced_fails_and_the_image_is_named() {
        let warned = breaches(vec![(
            "linux/amd64".into(),
            vec![finding("NoShell", Level::Warn, "has /bin/sh")],
        )]);
        assert_eq!(failure(&warned, &Contract::default(), "r@sha256:0"), None);
        let broken = breaches(vec![(
            "linux/amd64".into(),
            vec![
                finding("RunnableEntrypoint", Level::Enforce, "no loader"),
                finding("NonRoot", Level::Enforce, "no USER"),
            ],
        )]);
        let failure = failure(&broken, &Contract::default(), "r@sha256:0").unwrap();
        assert_eq!(
            failure.message,
            "RunnableEntrypoint: no loader (and 1 more: NonRoot)"
        );
        assert_eq!(failure.image.as_deref(), Some("r@sha256:0"));
        assert!(failure.hint.unwrap().contains("warn: [RunnableEntrypoint]"));
    }

    #[test]
    fn a_rule_that_was_asked_for_comes_without_the_way_around_it() {
        let contract = Contract {
            enforce: vec![Rule::RunnableEntrypoint],
            ..Contract::default()
        };
        let broken = breaches(vec![(
            "linux/amd64".into(),
            vec![finding("RunnableEntrypoint", Level::Enforce, "no loader")],
        )]);
        assert_eq!(failure(&broken, &contract, "r").unwrap().hint, None);
    }

    #[test]
    fn the_words_on_a_kept_contract_name_every_rule_of_it() {
        let contract = Contract {
            max_size: Some("20Mi".into()),
            warn: vec![Rule::NoShell],
            ..Contract::default()
        };
        assert_eq!(budget(&contract).max_size, Some(20 << 20));
        assert_eq!(
            kept(&contract, Some(2 << 20)),
            "kept: RunnableEntrypoint, NoShell, PlatformMatches, maxSize 20Mi (2.0 MiB)"
        );
    }
}
