//! Ranges of versions, as Helm and Flux write them
//! (<https://github.com/Masterminds/semver#checking-version-constraints>).

use std::cmp::Ordering;

use semver::{BuildMetadata, Prerelease, Version};

use crate::{Error, Kind};

/// The longest text of a range, in bytes.
const LONGEST: usize = 256;
const OPERATORS: [&str; 11] = [">=", "=>", "<=", "=<", "!=", "~>", ">", "<", "=", "~", "^"];

/// A range: alternatives, each of several bounds that all hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    text: String,
    alternatives: Vec<Vec<Bound>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Bound {
    operator: &'static str,
    /// What is not given, or is `x`, is 0.
    version: Version,
    /// How many of major, minor and patch are given.
    given: usize,
}

impl std::fmt::Display for Range {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl Range {
    /// Reads `>=1.2 <2`, `^1.2`, `~1.2`, `1.x`, `1.2 - 1.4`, and such with commas and `||`.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let invalid = |why: &str| {
            let said = format!(
                "invalid range of versions: {why}; write one like >=1.2 <2, ^1.2, ~1.2 or 1.x"
            );
            Error::new(Kind::Range, said)
        };
        if text.len() > LONGEST {
            return Err(invalid("it is too long"));
        }
        let alternatives = text
            .split("||")
            .map(alternative)
            .collect::<Option<_>>()
            .ok_or_else(|| invalid(&format!("\"{}\" cannot be read", text.escape_default())))?;
        Ok(Self {
            text: text.to_owned(),
            alternatives,
        })
    }

    /// Whether a version is within. A prerelease is only where an alternative names one itself.
    pub fn allows(&self, version: &Version) -> bool {
        self.alternatives.iter().any(|bounds| {
            let names_one = bounds.iter().any(|bound| !bound.version.pre.is_empty());
            (version.pre.is_empty() || names_one) && bounds.iter().all(|bound| bound.holds(version))
        })
    }
}

/// The tag with the newest version in a range.
pub fn newest<'a>(
    range: &str,
    tags: impl IntoIterator<Item = &'a str>,
) -> Result<Option<&'a str>, Error> {
    let range = Range::parse(range)?;
    let versions = tags
        .into_iter()
        .filter_map(|tag| Some((version(tag)?, tag)));
    let within = versions.filter(|(version, _)| range.allows(version));
    // Of two tags for one version, the first by name.
    let best = within.max_by(|(a, x), (b, y)| a.cmp(b).then_with(|| y.cmp(x)));
    Ok(best.map(|(_, tag)| tag))
}

/// The version that a tag names: a whole one, with or without `v` before it.
pub(crate) fn version(tag: &str) -> Option<Version> {
    Version::parse(tag.strip_prefix('v').unwrap_or(tag)).ok()
}

fn alternative(text: &str) -> Option<Vec<Bound>> {
    let text = text.replace(',', " ");
    let mut words = text.split_whitespace().peekable();
    let mut bounds = vec![];
    while let Some(word) = words.next() {
        let operator = OPERATORS.into_iter().find(|sign| word.starts_with(sign));
        let rest = &word[operator.map_or(0, str::len)..];
        // A blank may stand behind the sign.
        let rest = if rest.is_empty() { words.next()? } else { rest };
        if operator.is_none() && words.next_if_eq(&"-").is_some() {
            bounds.push(Bound::parse(">=", rest)?);
            bounds.push(Bound::parse("<=", words.next()?)?);
            continue;
        }
        let operator = match operator {
            None => "=",
            Some("=>") => ">=",
            Some("=<") => "<=",
            Some("~>") => "~",
            Some(other) => other,
        };
        bounds.push(Bound::parse(operator, rest)?);
    }
    (!bounds.is_empty()).then_some(bounds)
}

impl Bound {
    fn parse(operator: &'static str, text: &str) -> Option<Self> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let (text, build) = text
            .split_once('+')
            .map_or((text, ""), |(text, build)| (text, build));
        let (numbers, pre) = text
            .split_once('-')
            .map_or((text, ""), |(numbers, pre)| (numbers, pre));
        let mut parts = [0_u64; 3];
        let mut given = 0;
        let mut open = false;
        let all: Vec<&str> = numbers.split('.').collect();
        if all.len() > 3 {
            return None;
        }
        for (at, part) in all.into_iter().enumerate() {
            if matches!(part, "x" | "X" | "*") {
                open = true;
                continue;
            }
            if !part.bytes().all(|b| b.is_ascii_digit()) {
                return None;
            }
            let number = part.parse().ok()?;
            // Behind an x, numbers say nothing.
            if !open {
                parts[at] = number;
                given += 1;
            }
        }
        BuildMetadata::new(build).ok()?;
        let [major, minor, patch] = parts;
        Some(Self {
            operator,
            version: Version {
                pre: Prerelease::new(pre).ok()?,
                ..Version::new(major, minor, patch)
            },
            given,
        })
    }

    fn holds(&self, version: &Version) -> bool {
        let order = version.cmp_precedence(&self.version);
        let low = order != Ordering::Less;
        match self.operator {
            ">=" => low,
            "<" => !low,
            // Over all that the bound stands for: >1.2 begins at 1.3.0.
            ">" => {
                order == Ordering::Greater && (self.given == 3 || !self.same(version, self.given))
            }
            "<=" => {
                !low || order == Ordering::Equal || self.given < 3 && self.same(version, self.given)
            }
            "!=" if self.given == 3 => order != Ordering::Equal,
            "!=" => !self.same(version, self.given),
            "=" if self.given == 3 => order == Ordering::Equal,
            "=" => low && self.same(version, self.given),
            // 1.2.3 and 1.2 up to the next minor version, 1 up to the next major one.
            "~" => low && self.same(version, self.given.min(2)),
            // What is left of the first number that is not 0 stays, and that number too.
            _ => low && self.same(version, self.caret()),
        }
    }

    /// True where the first numbers are the same.
    fn same(&self, version: &Version, numbers: usize) -> bool {
        let of = |v: &Version| [v.major, v.minor, v.patch];
        of(version)[..numbers] == of(&self.version)[..numbers]
    }

    fn caret(&self) -> usize {
        let numbers = [self.version.major, self.version.minor, self.version.patch];
        let first = numbers[..self.given].iter().position(|number| *number != 0);
        first.map_or(self.given, |at| at + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A range, what is within it, and what is not: as Masterminds/semver has it, but for `^*`, where it has nothing.
    const TABLE: &[(&str, &[&str], &[&str])] = &[
        (
            ">=1.2 <2",
            &["1.2.0", "1.99.0"],
            &["1.1.9", "2.0.0", "2.0.0-rc.1"],
        ),
        (">=1.2, <2", &["1.2.0"], &["2.0.0"]),
        (">= 1.2, < 2 || >= 3", &["1.2.0", "3.1.0"], &["2.5.0"]),
        (
            "^1.2",
            &["1.2.0", "v1.3.9"],
            &["1.1.0", "2.0.0", "1.3.0-beta"],
        ),
        ("^v1.2.3", &["1.2.3", "1.9.0"], &["1.2.2", "2.0.0"]),
        ("^0.2.3", &["0.2.3", "0.2.9"], &["0.3.0", "0.2.2"]),
        ("^0.2", &["0.2.0", "0.2.9"], &["0.3.0"]),
        ("^0.0.3", &["0.0.3"], &["0.0.4", "0.0.2"]),
        ("^0.0", &["0.0.0", "0.0.9"], &["0.1.0"]),
        ("^0", &["0.0.0", "0.9.9"], &["1.0.0"]),
        ("^*", &["0.1.0", "9.0.0"], &["9.0.0-rc.1"]),
        ("~1.2.3", &["1.2.3", "1.2.9"], &["1.3.0", "1.2.2"]),
        ("~1.2", &["1.2.0", "1.2.9"], &["1.3.0"]),
        ("~1", &["1.0.0", "1.9.0"], &["2.0.0"]),
        ("~> 2.3", &["2.3.1"], &["2.4.0"]),
        ("1.x", &["1.0.0", "1.9.9"], &["2.0.0", "0.9.0"]),
        ("1.2.*", &["1.2.0"], &["1.3.0"]),
        ("1.2", &["1.2.0", "1.2.9"], &["1.3.0"]),
        ("*", &["0.0.1", "7.0.0"], &["1.0.0-rc.1"]),
        (
            "1.2.3",
            &["1.2.3", "1.2.3+build.5"],
            &["1.2.4", "1.2.3-rc.1"],
        ),
        ("=1.2.3-rc.1", &["1.2.3-rc.1"], &["1.2.3"]),
        (
            ">=1.2.0-0",
            &["1.2.0-rc.1", "1.3.0-beta.2", "1.2.0"],
            &["1.1.0"],
        ),
        (">=1.2.0-0 <2", &["1.9.0-rc.1"], &["2.0.0"]),
        ("^1.2.0-0", &["1.5.0-rc.1"], &["2.0.0-rc.1"]),
        (
            "1.x || >=2.0.0-0",
            &["2.0.0-rc.1", "1.0.0"],
            &["1.1.0-rc.1"],
        ),
        (">1.2", &["1.3.0"], &["1.2.0", "1.2.9"]),
        (">1", &["2.0.0"], &["1.9.0"]),
        ("<=1.2", &["1.2.9", "1.0.0"], &["1.3.0"]),
        ("!=1.2.3", &["1.2.4"], &["1.2.3"]),
        ("!=1.x", &["2.0.0"], &["1.2.3"]),
        ("1.2 - 1.4.5", &["1.2.0", "1.4.5"], &["1.4.6", "1.1.0"]),
    ];

    #[test]
    fn ranges_have_the_versions_that_helm_and_flux_say() {
        for (range, within, outside) in TABLE {
            let read = Range::parse(range).unwrap();
            for (tags, expected) in [(within, true), (outside, false)] {
                for tag in *tags {
                    assert_eq!(
                        read.allows(&version(tag).unwrap()),
                        expected,
                        "{range}: {tag}"
                    );
                }
            }
        }
    }

    #[test]
    fn what_is_no_range_is_told() {
        let long = "1".repeat(300);
        for text in [
            "", "||", "1.2 ||", ">", "a", "1.2.3.4", "1.-2", ">=1.2 <", "^^1", "- 1", "1 -",
            "1.2_3", &long,
        ] {
            let error = Range::parse(text).unwrap_err();
            assert_eq!(error.kind, Kind::Range, "{text}");
        }
    }

    #[test]
    fn the_newest_tag_is_by_version_and_not_by_name() {
        let tags = [
            "v1.9.0",
            "v1.10.0",
            "1.10.0",
            "v2.0.0-rc.1",
            "nightly",
            "1.11",
        ];
        assert_eq!(newest("1.x", tags), Ok(Some("1.10.0")));
        assert_eq!(newest(">=1.0.0-0", tags), Ok(Some("v2.0.0-rc.1")));
        assert_eq!(newest("3.x", tags), Ok(None));
    }
}
