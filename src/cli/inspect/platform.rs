//! Which images of an index are meant.

use std::collections::BTreeSet;

use super::error::InspectError;
use whittle_image::{Entry, same_platform};

/// Which platforms are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Platforms {
    /// Linux on this machine's architecture, or the only one that there is.
    #[default]
    Default,
    /// `os/architecture` or `os/architecture/variant`.
    One(String),
    /// Each of them.
    All,
}

/// Linux on this machine, by the names that images use (GOARCH).
pub(crate) fn of_this_machine() -> String {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "x86" => "386",
        "aarch64" => "arm64",
        "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
        "loongarch64" => "loong64",
        other => other,
    };
    format!("linux/{architecture}")
}

/// The entries that are meant, at least one. `own`: the platform that is taken where none is asked for.
pub(crate) fn choose<'a>(
    entries: &'a [Entry],
    asked: &Platforms,
    own: &str,
) -> Result<Vec<&'a Entry>, InspectError> {
    let missing = |asked: &str| InspectError::NoPlatform {
        asked: asked.to_owned(),
        there: names(entries),
    };
    match (asked, entries) {
        (_, []) => Err(InspectError::EmptyIndex),
        (Platforms::All, _) => Ok(entries.iter().collect()),
        (Platforms::One(platform), _) => match (matching(entries, platform)?, entries) {
            (Some(entry), _) => Ok(vec![entry]),
            // It may be the right one: its config says, and a rule compares that.
            (None, [only]) if only.platform.is_none() => Ok(vec![only]),
            (None, _) => Err(missing(platform)),
        },
        (Platforms::Default, [only]) => Ok(vec![only]),
        (Platforms::Default, _) => match matching(entries, own)? {
            Some(entry) => Ok(vec![entry]),
            None => Err(InspectError::Ambiguous {
                there: names(entries),
                how: "--platform, or take --all-platforms",
            }),
        },
    }
}

/// The entry of a platform: the same words, else the same platform, of which a variant may be unsaid.
fn matching<'a>(entries: &'a [Entry], asked: &str) -> Result<Option<&'a Entry>, InspectError> {
    let stated = |entry: &&Entry| entry.platform.as_deref() == Some(asked);
    if let Some(entry) = entries.iter().find(stated) {
        return Ok(Some(entry));
    }
    let mut seen = BTreeSet::new();
    let same: Vec<&Entry> = entries
        .iter()
        .filter(|entry| {
            let platform = entry.platform.as_deref();
            platform.is_some_and(|platform| same_platform(platform, asked))
        })
        .filter(|entry| seen.insert(&entry.digest))
        .collect();
    match same[..] {
        [] => Ok(None),
        [entry] => Ok(Some(entry)),
        _ => Err(InspectError::Ambiguous {
            there: same.iter().map(|entry| name(entry)).collect(),
            how: "--platform",
        }),
    }
}

fn name(entry: &Entry) -> String {
    let unstated = || format!("{} (no platform stated)", entry.digest);
    entry.platform.clone().unwrap_or_else(unstated)
}

fn names(entries: &[Entry]) -> Vec<String> {
    entries.iter().map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(platforms: &[&str]) -> Vec<Entry> {
        platforms
            .iter()
            .map(|platform| Entry {
                platform: Some((*platform).to_owned()).filter(|text| !text.is_empty()),
                digest: format!("sha256:{platform}"),
            })
            .collect()
    }

    fn chosen(platforms: &[&str], asked: Platforms) -> Result<Vec<String>, String> {
        match choose(&entries(platforms), &asked, "linux/amd64") {
            Ok(found) => Ok(found.into_iter().map(name).collect()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn one(platform: &str) -> Platforms {
        Platforms::One(platform.into())
    }

    #[test]
    fn the_platform_that_was_asked_for_is_taken() {
        let all = ["linux/amd64", "linux/arm64/v8", "linux/arm/v7"];
        for (asked, expected) in [
            (one("linux/arm64"), "linux/arm64/v8"),
            (one("linux/arm64/v8"), "linux/arm64/v8"),
            (one("linux/arm"), "linux/arm/v7"),
            (one("linux/amd64"), "linux/amd64"),
            (Platforms::Default, "linux/amd64"),
        ] {
            assert_eq!(chosen(&all, asked).unwrap(), [expected]);
        }
        assert_eq!(chosen(&all, Platforms::All).unwrap(), all);
    }

    #[test]
    fn one_image_alone_is_meant_where_nothing_is_asked() {
        assert_eq!(
            chosen(&["windows/amd64"], Platforms::Default).unwrap(),
            ["windows/amd64"]
        );
        assert!(chosen(&[""], Platforms::Default).is_ok());
        assert!(chosen(&[""], one("linux/arm64")).is_ok());
    }

    #[test]
    fn a_platform_that_is_not_there_lists_those_that_are() {
        let said = chosen(&["linux/arm64", ""], one("linux/s390x")).unwrap_err();
        assert!(
            said.contains("no image found for linux/s390x; available: linux/arm64, sha256: (no"),
            "{said}"
        );
        let said = chosen(&["linux/arm64", "linux/s390x"], Platforms::Default).unwrap_err();
        assert!(
            said.contains("choose one of linux/arm64, linux/s390x, with --platform"),
            "{said}"
        );
        let said = chosen(&["linux/arm/v6", "linux/arm/v7"], one("linux/arm")).unwrap_err();
        assert!(said.contains("linux/arm/v6, linux/arm/v7"), "{said}");
        assert!(
            chosen(&[], Platforms::All)
                .unwrap_err()
                .contains("no image")
        );
    }

    #[test]
    fn this_machine_has_a_platform() {
        assert!(of_this_machine().starts_with("linux/"));
    }
}
