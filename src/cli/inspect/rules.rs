//! The rules of the command line: what they come to, and whether the command fails.

use super::source::Found;
use whittle_image::{Budget, Contents, Finding, Level, Measured, Outcome, Rule, check, judge};

/// What the image is held to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Terms {
    /// The contract.
    pub(super) budget: Budget,
    /// The platform that was asked for by name.
    pub(super) platform: Option<String>,
}

/// The image that this one is compared with.
#[derive(Clone, Copy)]
pub(super) struct Previous<'a> {
    pub(super) found: &'a Found,
    /// What it holds; none where that was not read.
    pub(super) contents: Option<&'a Contents>,
}

/// What all rules came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Rules that are not kept, as a build would say it.
    pub(super) findings: Vec<Finding>,
    /// The rules that were asked for, and those that hold in any case.
    pub(super) lines: Vec<Line>,
    /// Rules that nobody asked for, and which would be kept, broken, or not known.
    pub(super) others: Others,
    /// True where something was asked of the image, and it is not just looked at.
    pub(super) asked: bool,
    /// True where the command fails.
    pub(super) failed: bool,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) rule: &'static str,
    pub(super) level: Level,
    pub(super) outcome: Outcome,
}

/// Names of rules, by what they would come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Others {
    pub(super) kept: Vec<&'static str>,
    pub(super) broken: Vec<&'static str>,
    pub(super) unknown: Vec<&'static str>,
}

impl Terms {
    /// True where the image is held to a contract, and not just looked at: then the command fails where a
    /// build with this contract would.
    fn is_contract(&self) -> bool {
        let budget = &self.budget;
        !budget.enforce.is_empty()
            || budget.max_size.is_some()
            || budget.max_growth_percent.is_some()
    }

    /// Judges an image.
    pub(super) fn judge(
        &self,
        found: &Found,
        contents: &Contents,
        previous: Option<Previous<'_>>,
    ) -> Verdict {
        let platform = found.stated.as_deref().or(self.platform.as_deref());
        let image = Measured {
            size: found.size,
            contents: Some(contents),
        };
        let before = previous.map(|previous| Measured {
            size: previous.found.size,
            contents: previous.contents,
        });
        let mut findings = judge(&self.budget, image, platform, before);
        doubt_sizes(&mut findings, found, previous);
        let mut verdict = Verdict {
            asked: self.is_contract() || self.platform.is_some(),
            failed: findings.iter().any(|finding| self.fails(finding)),
            ..Verdict::default()
        };
        let budget = &self.budget;
        for rule in Rule::ALL {
            let warned = budget.warn.contains(&rule);
            if budget.enforce.contains(&rule) || warned || Rule::DEFAULT.contains(&rule) {
                let level = if warned { Level::Warn } else { Level::Enforce };
                verdict.lines.push(line(rule.name(), level, &findings));
                continue;
            }
            let list = match check(rule, contents, platform) {
                Outcome::Kept => &mut verdict.others.kept,
                Outcome::Broken(_) => &mut verdict.others.broken,
                Outcome::Unknown(_) => &mut verdict.others.unknown,
            };
            list.push(rule.name());
        }
        if budget.max_size.is_some() {
            verdict
                .lines
                .push(line("maxSize", Level::Enforce, &findings));
        }
        if budget.max_growth_percent.is_some() {
            let rule = line("maxGrowthPercent", Level::Enforce, &findings);
            verdict.lines.push(rule);
        }
        verdict.findings = findings;
        verdict
    }

    /// True where a finding makes the command fail: any enforced rule of a contract; without one, a platform
    /// that was asked for and is not what came.
    fn fails(&self, finding: &Finding) -> bool {
        finding.level == Level::Enforce
            && (self.is_contract() || self.platform.is_some() && finding.rule == "PlatformMatches")
    }
}

fn line(rule: &'static str, level: Level, findings: &[Finding]) -> Line {
    let finding = findings.iter().find(|finding| finding.rule == rule);
    let (level, outcome) = match finding {
        None => (level, Outcome::Kept),
        Some(finding) if finding.certain => {
            (finding.level, Outcome::Broken(finding.message.clone()))
        }
        Some(finding) => (finding.level, Outcome::Unknown(finding.message.clone())),
    };
    Line {
        rule,
        level,
        outcome,
    }
}

/// Sizes are what a registry stores. Of layers that lie uncompressed in a file that is not known: they may
/// keep to a limit that they seem to break, and cannot be compared with compressed ones.
fn doubt_sizes(findings: &mut Vec<Finding>, found: &Found, previous: Option<Previous<'_>>) {
    if found.uncompressed {
        for finding in findings
            .iter_mut()
            .filter(|finding| finding.rule == "maxSize")
        {
            finding.certain = false;
            finding.message = format!(
                "{}; its layers are uncompressed in this file, and take fewer bytes in a registry: push the image, and \
                 inspect it there",
                finding.message
            );
        }
    }
    let Some(previous) = previous else {
        return;
    };
    if found.uncompressed != previous.found.uncompressed {
        findings.retain(|finding| finding.rule != "maxGrowthPercent");
        findings.push(Finding {
            rule: "maxGrowthPercent",
            level: Level::Enforce,
            certain: false,
            message: "one of the two images has compressed layers, and the other has not, so their sizes cannot be \
                      compared: push both, and inspect them in the registry"
                .into(),
        });
    }
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
